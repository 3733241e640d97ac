/* lookup.c - one request from start to end: the picture of docs/architecture.md as code.
 *
 *     prepare -> exact -> (embed) -> search -> load -> gates, policy (driver.c) -> replay
 *
 * Every stage leaves query->result in a state that the caller can act on, and none of
 * them returns an error that a client would see: what goes wrong is counted under its
 * name and the request is a miss. An entry leaves here as a hit only through may_replay,
 * which checks again what search and store have promised: its scope, its lifetime, and
 * whose personal question it answers. */
#include "cache/cache_internal.h"

#include "base/bytes.h"
#include "base/hash.h"

#include <math.h>
#include <stdlib.h>

enum {
    NEIGHBORS = 8,       /* a guess: the first few decide; more only help past vetoed ones */
    VOLATILE_TTL_S = 600 /* design.md 4 */
};
#define SECOND_US ((int64_t)1000000)
#define DAY_US (86400 * SECOND_US)

/* ---- rules and controls ------------------------------------------------------------ */

void
rp_rules_init(rp_rules *rules)
{
    *rules = (rp_rules){ .mode = RP_CACHE_SERVE,
                         .exact = true,
                         .semantic = true,
                         .min_similarity = -1,
                         .ttl_us = DAY_US,
                         .volatile_ttl_us = VOLATILE_TTL_S * SECOND_US,
                         .temperature_max = 1.0,
                         .gates = RP_GATES_DEFAULT,
                         .collision_check = RP_COLLISION_CHECK_HITS };
}

void
rp_controls_init(rp_controls *controls)
{
    *controls = (rp_controls){ .max_age_us = -1, .min_fresh_us = -1, .min_similarity = -1,
                               .error_max = 1, .ttl_us = -1 };
}

/* Seconds to microseconds; what does not fit is as good as for ever. */
static int64_t
us_of_seconds(int64_t seconds)
{
    return seconds > INT64_MAX / SECOND_US ? INT64_MAX : seconds * SECOND_US;
}

void
rp_controls_add_body(rp_controls *controls, const rp_body_controls *body)
{
    if (!body->present)
        return;
    controls->no_read |= body->no_cache;
    controls->no_write |= body->no_store;
    if (controls->ttl_us < 0 && body->ttl_seconds >= 0)
        controls->ttl_us = us_of_seconds(body->ttl_seconds);
    if (controls->max_age_us < 0 && body->max_age_seconds >= 0)
        controls->max_age_us = us_of_seconds(body->max_age_seconds);
}

static int
compare_strings(const void *a, const void *b)
{
    return rp_str_compare(*(const rp_str *)a, *(const rp_str *)b);
}

rp_status
rp_tags_parse(rp_str header, rp_arena *arena, rp_str *out)
{
    rp_str tags[RP_TAGS_MAX];
    size_t count = 0, size = 0;
    while (header.len) {
        const rp_str tag = rp_str_trimmed(rp_str_split(&header, ','));
        if (tag.len == 0)
            continue;
        if (tag.len > RP_TAG_SIZE_MAX || count == RP_TAGS_MAX)
            return RP_ERR_LIMIT;
        for (size_t i = 0; i < tag.len; i++)
            if ((unsigned char)tag.ptr[i] < 0x20 || tag.ptr[i] == 0x7f)
                return RP_ERR_INVALID;
        if (!rp_utf8_is_valid(tag))
            return RP_ERR_INVALID;
        tags[count++] = tag;
        size += tag.len + 1;
    }
    if (count == 0) {
        *out = (rp_str){ 0 };
        return RP_OK;
    }
    qsort(tags, count, sizeof *tags, compare_strings);
    char *joined = rp_arena_alloc(arena, size);
    if (!joined)
        return RP_ERR_NOMEM;
    size_t len = 0;
    for (size_t i = 0; i < count; i++) {
        if (i && rp_str_equal(tags[i], tags[i - 1]))
            continue;
        if (len)
            joined[len++] = '\n';
        memcpy(joined + len, tags[i].ptr, tags[i].len);
        len += tags[i].len;
    }
    *out = (rp_str){ joined, len };
    return RP_OK;
}

const char *
rp_lookup_outcome_name(rp_lookup_outcome outcome)
{
    switch (outcome) {
    case RP_LOOKUP_HIT:
        return "hit";
    case RP_LOOKUP_BYPASS:
        return "bypass";
    case RP_LOOKUP_REFRESH:
        return "refresh";
    case RP_LOOKUP_SHADOW_HIT:
        return "shadow-hit";
    default: /* whatever is not finished is not a hit */
        return "miss";
    }
}

/* ---- the query -------------------------------------------------------------------- */

void
rp_query_init(rp_query *query)
{
    memset(query, 0, sizeof *query);
    rp_rules_init(&query->rules);
    rp_controls_init(&query->controls);
    query->neighbor_label = -1;
    query->result.reason = "unasked";
    query->result.similarity = NAN;
}

static void
release_entry(rp_query *query)
{
    rp_entry_unref(query->result.entry);
    query->result.entry = NULL;
    query->result.reply = NULL;
}

static void
release_work(rp_query *query)
{
    if (query->work)
        for (size_t i = 0; i < RP_CANDIDATES_MAX; i++)
            rp_entry_unref(query->work->entries[i]);
    query->work = NULL;
}

void
rp_query_fini(rp_query *query)
{
    release_entry(query);
    release_work(query);
    free(query->vectors);
    query->vectors = NULL;
    rp_space_unref(query->space);
    query->space = NULL;
}

static void
end_bypass(rp_cache *cache, rp_query *query, const char *reason)
{
    query->may_read = query->may_write = false;
    query->tier = RP_TIER_NONE;
    query->result.outcome = RP_LOOKUP_BYPASS;
    query->result.reason = reason;
    if (query->explain)
        return;
    atomic_fetch_add_explicit(&cache->bypasses, 1, memory_order_relaxed);
    rp_cache_count(cache, "bypass", reason);
}

static void
end_miss(rp_cache *cache, rp_query *query, const char *reason)
{
    release_entry(query);
    query->result.outcome = RP_LOOKUP_MISS;
    query->result.tier = RP_TIER_NONE;
    query->result.reason = reason;
    if (query->explain)
        return;
    atomic_fetch_add_explicit(&cache->misses, 1, memory_order_relaxed);
    rp_cache_count(cache, "miss", reason);
}

/* ---- prepare ---------------------------------------------------------------------- */

static void
fill_epochs(rp_cache *cache, const rp_caller *caller, uint64_t epoch[3])
{
    /* Both parts are bounded by RP_TENANT_SIZE_MAX and RP_TAG_SIZE_MAX, checked before. */
    char name[RP_TENANT_SIZE_MAX + RP_TAG_SIZE_MAX + 8];
    size_t len = 0;
    epoch[0] = rp_store_epoch(cache->store, RP_STR(""));
    memcpy(name, "t/", 2);
    len = 2;
    memcpy(name + len, caller->tenant.ptr, caller->tenant.len);
    len += caller->tenant.len;
    epoch[1] = rp_store_epoch(cache->store, (rp_str){ name, len });
    epoch[2] = 0;
    if (caller->namespace_name.len == 0)
        return;
    name[0] = 'n';
    name[len++] = '/';
    memcpy(name + len, caller->namespace_name.ptr, caller->namespace_name.len);
    len += caller->namespace_name.len;
    epoch[2] = rp_store_epoch(cache->store, (rp_str){ name, len });
}

bool
rp_query_is_flushed(rp_cache *cache, const rp_query *query)
{
    uint64_t epoch[3];
    fill_epochs(cache, &query->caller, epoch);
    return memcmp(epoch, query->caller.epoch, sizeof epoch) != 0;
}

/* Words that make an answer personal or temporal count in both tiers. The exact tier may
 * have no fuzzy part; then the last turn's JSON is read as text, which finds the same
 * words. Embeddings are a function of their text alone. */
rp_volatility
rp_query_volatility(const rp_query *query)
{
    const rp_request *request = query->request;
    if (query->words_known)
        return query->words;
    if (request->wire == RP_WIRE_EMBEDDINGS)
        return (rp_volatility){ 0 };
    return rp_prompt_volatility(request->prompt.len ? request->prompt : request->last_turn);
}

/* For a route whose protocols share entries: names that all of them have, and without the
 * header that says only how one of them is written. */
static bool
share_wires(rp_query *query)
{
    rp_caller *caller = &query->caller;
    rp_attribute *kept =
        rp_arena_calloc(query->arena, caller->attribute_count + 1, sizeof *kept);
    const rp_request *shared = rp_request_share(query->request, query->arena);
    if (!kept || !shared)
        return false;
    size_t count = 0;
    for (size_t i = 0; i < caller->attribute_count; i++)
        if (!rp_str_equal(caller->attributes[i].name, RP_STR("anthropic-version")))
            kept[count++] = caller->attributes[i];
    caller->attributes = kept;
    caller->attribute_count = count;
    query->request = shared;
    return true;
}

static void
set_stratum(rp_query *query)
{
    query->stratum = rp_stratum_of(&query->caller, query->request->model,
                                   rp_str_of(query->space->embedder.fingerprint));
}

static rp_status
prepare_scope(rp_cache *cache, rp_query *query)
{
    rp_caller *caller = &query->caller;
    if (caller->share_wires && !share_wires(query))
        return RP_ERR_NOMEM;
    const rp_request *request = query->request;
    const uint8_t *secret = rp_store_secret(cache->store);
    rp_private_hash(secret, "user", request->user, query->user_hash);
    rp_private_hash(secret, "metadata", request->metadata, query->metadata_hash);
    if (caller->isolate_user && caller->user_digits.len == 0) {
        char digits[33];
        rp_hex_encode(query->user_hash, 16, digits);
        caller->user_digits = rp_arena_copy(query->arena, (rp_str){ digits, 32 });
        if (!caller->user_digits.ptr)
            return RP_ERR_NOMEM;
    }
    fill_epochs(cache, caller, caller->epoch);
    const rp_status status = rp_scope_of(request, caller, &query->scope);
    if (status != RP_OK)
        return status;
    query->key = rp_key_of(query->scope, request);
    set_stratum(query);
    return RP_OK;
}

/* The tier that remains after the route's rules; RP_TIER_NONE: neither is left. */
static rp_tier
tier_by_rules(const rp_query *query)
{
    const rp_rules *rules = &query->rules;
    rp_tier tier = query->request->tier;
    if (tier == RP_TIER_SEMANTIC && !rules->semantic)
        tier = RP_TIER_EXACT;
    if (tier == RP_TIER_EXACT && !rules->exact)
        tier = RP_TIER_NONE;
    return tier;
}

rp_status
rp_query_prepare(rp_cache *cache, rp_query *query)
{
    const rp_request *request = query->request;
    const rp_controls *controls = &query->controls;
    const rp_caller *caller = &query->caller;
    rp_space_unref(query->space);
    query->space = rp_space_get(cache);
    query->now = rp_clock_wall_us(cache->clock);
    query->fuzzy = request->prompt;
    query->template_ = 0;
    query->result = (rp_lookup_result){ .outcome = RP_LOOKUP_MISS, .reason = "unasked",
                                        .similarity = NAN, .decision = { .risk = NAN,
                                                                         .threshold = NAN } };
    if (cache->mode == RP_CACHE_OFF || query->rules.mode == RP_CACHE_OFF) {
        end_bypass(cache, query, "off");
        return RP_OK;
    }
    if (caller->tenant.len == 0) {
        end_bypass(cache, query, "no-tenant");
        return RP_ERR_INVALID;
    }
    if (caller->tenant.len > RP_TENANT_SIZE_MAX || caller->namespace_name.len > RP_TAG_SIZE_MAX) {
        end_bypass(cache, query, "limit");
        return RP_ERR_LIMIT;
    }
    if (request->tier == RP_TIER_NONE) {
        end_bypass(cache, query, request->reason ? request->reason : "ineligible");
        return RP_OK;
    }
    query->tier = tier_by_rules(query);
    const bool no_user = caller->isolate_user && request->user.len == 0 &&
                         caller->user_digits.len == 0;
    const char *refusal = NULL;
    if (query->tier == RP_TIER_NONE)
        refusal = "tiers-off";
    else if (controls->no_read && controls->no_write)
        refusal = "no-cache";
    else if (no_user) /* the route isolates users and this is nobody: share with nobody */
        refusal = "no-user";
    if (refusal) {
        end_bypass(cache, query, refusal);
        return RP_OK;
    }
    const rp_status status = prepare_scope(cache, query);
    if (status != RP_OK) {
        rp_cache_failed(cache, "scope");
        end_bypass(cache, query, "scope");
        return status;
    }
    query->words_known = false;
    query->may_read = !controls->no_read;
    query->may_write = !controls->no_write && !cache->read_only;
    if (query->rules.templates && query->tier == RP_TIER_SEMANTIC &&
        query->space->embedder.embed)
        rp_templates_cut(cache, &query->scope, request->prompt, &query->fuzzy, &query->template_);
    if (!query->may_read) {
        query->result.outcome = RP_LOOKUP_REFRESH;
        query->result.reason = "no-cache";
    }
    return RP_OK;
}

/* ---- replay ----------------------------------------------------------------------- */

static bool
is_of_key(const rp_query *query, const rp_entry *entry)
{
    return memcmp(entry->key.bytes, query->key.bytes, sizeof query->key.bytes) == 0;
}

const char *
rp_replay_refusal(const rp_query *query, const rp_entry *entry)
{
    const rp_controls *controls = &query->controls;
    if (memcmp(entry->scope.bytes, query->scope.bytes, sizeof query->scope.bytes) != 0)
        return "scope";
    if (entry->expires && entry->expires <= query->now)
        return "expired";
    /* What was stored in what is the future now was stored before the clock was set back. How
     * long ago, nobody knows: it counts as that old. */
    const int64_t age_us = entry->created <= query->now ? query->now - entry->created
                                                        : entry->created - query->now;
    if (controls->max_age_us >= 0 && age_us > controls->max_age_us)
        return "max-age";
    if (controls->min_fresh_us >= 0 && entry->expires &&
        entry->expires - query->now < controls->min_fresh_us)
        return "min-fresh";
    /* The new prompt and the stored one must both be harmless, or come from the same user.
     * Equal keys mean equal words: then the flags of the entry speak for both. */
    const rp_volatility words = is_of_key(query, entry) ? (rp_volatility){ 0 }
                                                        : rp_query_volatility(query);
    const bool temporal = words.temporal || (entry->flags & RP_ENTRY_TEMPORAL);
    const bool personal = words.personal || (entry->flags & RP_ENTRY_PERSONAL);
    if ((temporal || personal) &&
        (!rp_equal_constant_time(entry->user_hash, query->user_hash, sizeof query->user_hash) ||
         !rp_equal_constant_time(entry->metadata_hash, query->metadata_hash,
                                 sizeof query->metadata_hash)))
        return "personal";
    if (temporal && age_us > query->rules.volatile_ttl_us)
        return "volatile";
    return NULL;
}

/* Turn a referenced entry with its reply into the result, or say why not. The reference
 * is taken over in every case. */
static const char *
take_hit(rp_cache *cache, rp_query *query, const rp_entry *entry, rp_tier tier)
{
    const rp_reply *reply;
    const char *refusal = rp_replay_refusal(query, entry);
    if (refusal && strcmp(refusal, "scope") == 0)
        rp_cache_failed(cache, "scope-mismatch"); /* search or store broke their promise */
    if (!refusal && rp_reply_open(entry->reply, query->arena, &reply) != RP_OK) {
        rp_cache_failed(cache, "reply-damaged");
        refusal = "damaged";
    }
    /* Replaying a tool call for a merely similar question would act on somebody's behalf. */
    if (!refusal && tier == RP_TIER_SEMANTIC && rp_reply_has_tool_calls(reply))
        refusal = "tool-calls";
    if (refusal) {
        rp_entry_unref(entry);
        return refusal;
    }
    const bool shadow = cache->mode == RP_CACHE_SHADOW || query->rules.mode == RP_CACHE_SHADOW;
    release_entry(query);
    query->result.outcome = shadow ? RP_LOOKUP_SHADOW_HIT : RP_LOOKUP_HIT;
    query->result.tier = tier;
    query->result.entry = entry;
    query->result.reply = reply;
    if (query->explain)
        return NULL;
    if (shadow)
        atomic_fetch_add_explicit(&cache->shadow_hits, 1, memory_order_relaxed);
    else
        atomic_fetch_add_explicit(
            tier == RP_TIER_EXACT ? &cache->hits_exact : &cache->hits_semantic, 1,
            memory_order_relaxed);
    rp_store_touch(cache->store, entry->id);
    if (tier == RP_TIER_SEMANTIC) /* of an exact hit there is nothing to learn */
        rp_remember_hit(cache, query);
    return NULL;
}

/* ---- exact ------------------------------------------------------------------------- */

/* No exact hit: is there a semantic stage to go to? */
static void
go_on_after_exact(rp_cache *cache, rp_query *query)
{
    if (query->tier != RP_TIER_SEMANTIC) {
        end_miss(cache, query, query->request->reason && query->request->tier != RP_TIER_SEMANTIC
                                   ? query->request->reason
                                   : "no-key");
        return;
    }
    if (!query->rules.decider)
        query->rules.decider = cache->decider;
    if (query->request->prompt.len == 0 || query->request->prompt.len > RP_TEXT_SIZE_MAX) {
        end_miss(cache, query, "text-size");
        return;
    }
    const int index_state = atomic_load(&query->space->index_state);
    if (index_state != RP_INDEX_READY) {
        end_miss(cache, query, index_state == RP_INDEX_LOADING ? "loading" : "exact-only");
        return;
    }
    if (rp_str_equal(rp_decider_name(query->rules.decider), RP_STR("exact"))) {
        end_miss(cache, query, "no-key"); /* it never hits: why embed? */
        return;
    }
    query->result.outcome = RP_LOOKUP_WANTS_SEMANTIC;
    query->result.reason = "no-key";
}

/* Answer with this entry of the exact tier, or go on. The reference is taken over. */
static void
finish_exact(rp_cache *cache, rp_query *query, const rp_entry *entry)
{
    if (!is_of_key(query, entry)) {
        rp_cache_failed(cache, "key-mismatch");
        rp_entry_unref(entry);
    } else if (!take_hit(cache, query, entry, RP_TIER_EXACT)) {
        query->result.reason = "key";
        query->result.similarity = 1;
        return;
    }
    go_on_after_exact(cache, query);
}

void
rp_lookup_exact(rp_cache *cache, rp_query *query)
{
    if (!query->may_read)
        return; /* the outcome of prepare stands: BYPASS or REFRESH */
    if (!query->rules.exact) {
        go_on_after_exact(cache, query);
        return;
    }
    const int64_t started = rp_clock_monotonic_us(cache->clock);
    const rp_entry_id id = rp_store_exact(cache->store, query->scope, query->key);
    const rp_entry *entry = id ? rp_store_hot(cache->store, query->scope, id) : NULL;
    query->result.exact_us = rp_clock_monotonic_us(cache->clock) - started;
    if (entry)
        finish_exact(cache, query, entry);
    else if (id) {
        query->result.outcome = RP_LOOKUP_COLD;
        query->result.reason = "key";
    } else
        go_on_after_exact(cache, query);
}

void
rp_lookup_cold(rp_cache *cache, rp_query *query)
{
    const int64_t started = rp_clock_monotonic_us(cache->clock);
    const rp_entry_id id = rp_store_exact(cache->store, query->scope, query->key);
    const rp_entry *entry =
        id ? rp_store_get(cache->store, query->scope, id, RP_PART_REPLY) : NULL;
    query->result.load_us += rp_clock_monotonic_us(cache->clock) - started;
    if (entry)
        finish_exact(cache, query, entry);
    else
        go_on_after_exact(cache, query);
}

/* ---- embed ------------------------------------------------------------------------- */

const rp_encoder *
rp_query_encoder(const rp_query *query)
{
    return query->space ? query->space->encoder : NULL;
}

static void
drop_vectors(rp_query *query)
{
    free(query->vectors);
    query->vectors = NULL;
    query->mean = query->windows = NULL;
    query->dim = query->window_count = 0;
    query->is_searched = false;
}

void
rp_query_follow(rp_cache *cache, rp_query *query)
{
    if (!query->space || rp_space_is_current(cache, query->space))
        return;
    rp_space_unref(query->space);
    query->space = rp_space_get(cache);
    drop_vectors(query);
    query->drive = NULL; /* nothing to be learned from the old similarities */
    query->collides = false;
    set_stratum(query);
}

rp_status
rp_query_embedding(rp_cache *cache, rp_query *query, const rp_embedding *embedding,
                   int64_t embed_us)
{
    const rp_embedder *embedder = &query->space->embedder;
    const size_t dim = embedder->dim, count = embedding->window_count;
    (void)cache;
    if (!embedder->embed || count == 0 || count > RP_WINDOWS_MAX)
        return RP_ERR_INVALID;
    const size_t rows = count == 1 ? 1 : count + 1;
    float *storage = malloc(rows * dim * sizeof *storage);
    if (!storage)
        return RP_ERR_NOMEM;
    memcpy(storage, embedding->mean, dim * sizeof *storage);
    if (count > 1)
        memcpy(storage + dim, embedding->windows, count * dim * sizeof *storage);
    free(query->vectors);
    query->vectors = storage;
    query->dim = dim;
    query->window_count = count;
    query->mean = storage;
    query->windows = count == 1 ? storage : storage + dim;
    query->unknown_share = embedding->unknown_share;
    query->is_searched = false;
    query->result.embed_us = embed_us;
    return RP_OK;
}

rp_status
rp_query_embed(rp_cache *cache, rp_query *query)
{
    const rp_embedder *embedder = &query->space->embedder;
    if (!embedder->embed)
        return RP_ERR_UNSUPPORTED;
    float *storage = malloc((RP_WINDOWS_MAX + 1) * embedder->dim * sizeof *storage);
    if (!storage)
        return RP_ERR_NOMEM;
    const int64_t started = rp_clock_monotonic_us(cache->clock);
    rp_embedding embedding;
    rp_status status =
        embedder->embed(embedder->context, query->fuzzy, storage, &embedding, NULL);
    const int64_t embed_us = rp_clock_monotonic_us(cache->clock) - started;
    if (status == RP_OK)
        status = rp_query_embedding(cache, query, &embedding, embed_us);
    free(storage);
    return status;
}

void
rp_lookup_skip(rp_cache *cache, rp_query *query, const char *reason)
{
    /* A hit that could not be replayed in the form that was asked for was none. */
    if (query->result.outcome == RP_LOOKUP_HIT && !query->explain)
        atomic_fetch_sub_explicit(query->result.tier == RP_TIER_EXACT ? &cache->hits_exact
                                                                      : &cache->hits_semantic,
                                  1, memory_order_relaxed);
    end_miss(cache, query, reason);
}

/* ---- semantic ---------------------------------------------------------------------- */

static float
dot(const float *a, const float *b, size_t dim)
{
    double sum = 0;
    for (size_t i = 0; i < dim; i++)
        sum += (double)a[i] * b[i];
    return (float)sum;
}

void
rp_windows_compare(const rp_windows *query, const rp_windows *stored, rp_candidate *candidate)
{
    if (stored->count != query->count || !stored->vectors || stored->dim != query->dim) {
        candidate->gates_fired |= 1u << RP_GATE_WINDOW; /* not to be checked: not to be served */
        return;
    }
    for (size_t i = 0; i < query->count; i++) {
        const float similarity = dot(query->vectors + i * query->dim,
                                     stored->vectors + i * stored->dim, query->dim);
        candidate->similarity = fminf(candidate->similarity, similarity);
    }
}

bool
rp_candidate_before(const rp_candidate *a, const rp_candidate *b)
{
    return a->similarity > b->similarity || (a->similarity == b->similarity && a->id < b->id);
}

/* The entry behind a neighbor if it may answer at all, else NULL. */
static const rp_entry *
load_candidate(rp_cache *cache, rp_query *query, const rp_neighbor *neighbor,
               rp_candidate *candidate)
{
    const rp_entry *entry = rp_store_hot(cache->store, query->scope, neighbor->id);
    const bool is_rough = cache->index_options.without_originals; /* the neighbor's similarity */
    const bool needs_vectors = entry && (entry->window_count != 1 || is_rough) &&
                               (!entry->windows || entry->encoder != query->space->tag);
    if (!entry || needs_vectors) {
        rp_entry_unref(entry);
        const unsigned parts = query->window_count > 1 || is_rough ? RP_PART_VECTORS : 0;
        entry = rp_store_get(cache->store, query->scope, neighbor->id, parts);
    }
    if (!entry)
        return NULL; /* removed or expired since the search; or damaged, which the store counts */
    *candidate = (rp_candidate){ .id = neighbor->id, .similarity = neighbor->similarity };
    if (rp_replay_refusal(query, entry)) {
        rp_entry_unref(entry);
        return NULL;
    }
    const rp_windows asked = { query->windows, query->window_count, query->dim };
    const bool is_ours = entry->encoder == query->space->tag; /* not exchanged meanwhile */
    const rp_windows stored = { is_ours ? entry->windows : NULL, entry->window_count, entry->dim };
    if (is_rough && stored.vectors && asked.count == 1 && stored.count == 1)
        candidate->similarity = 1; /* the least of all windows will be the exact one */
    if (asked.count > 1 || stored.count > 1 || is_rough)
        rp_windows_compare(&asked, &stored, candidate);
    return entry;
}

/* Nearest first; equal ones by id, so that runs repeat. Insertion: at most 16, and almost
 * sorted. */
static void
sort_candidates(struct rp_query_work *work)
{
    for (size_t i = 1; i < work->count; i++)
        for (size_t j = i; j > 0; j--) {
            rp_candidate *left = &work->found[j - 1], *right = &work->found[j];
            if (rp_candidate_before(left, right))
                break;
            const rp_candidate candidate = *left;
            *left = *right;
            *right = candidate;
            const rp_entry *entry = work->entries[j - 1];
            work->entries[j - 1] = work->entries[j];
            work->entries[j] = entry;
        }
}

static void
load_candidates(rp_cache *cache, rp_query *query, const rp_neighbor *neighbors, size_t count)
{
    struct rp_query_work *work = query->work;
    for (size_t i = 0; i < count; i++) {
        const rp_entry *entry =
            load_candidate(cache, query, &neighbors[i], &work->found[work->count]);
        if (entry)
            work->entries[work->count++] = entry;
    }
    sort_candidates(work);
}

static bool
lend_text(void *context, size_t at, rp_entry_id id, rp_str *out)
{
    const struct rp_query_work *work = context;
    const rp_entry *entry = work->entries[at];
    if (!entry || entry->id != id)
        return false;
    *out = entry->prompt;
    return true;
}

/* Candidates of a query that was cut were cut by the same template: others have another
 * vector scope. It may have been forgotten meanwhile; then nothing is cut off. */
static bool
lend_varying(void *context, size_t at, rp_entry_id id, rp_str stored, rp_str *out)
{
    const struct rp_query_work *work = context;
    const rp_entry *entry = work->entries[at];
    if (!entry || entry->id != id || entry->template_ != work->query->template_)
        return false;
    *out = rp_templates_cut_stored(work->cache, &work->query->scope, stored, entry->template_);
    return out->len < stored.len;
}

static bool
lend_answer(void *context, size_t at, rp_entry_id id, rp_str *out)
{
    struct rp_query_work *work = context;
    const rp_entry *entry = work->entries[at];
    if (!entry || entry->id != id)
        return false;
    if (!entry->reply.len) {
        entry = rp_store_get(work->cache->store, work->query->scope, id, RP_PART_REPLY);
        if (!entry)
            return false;
        rp_entry_unref(work->entries[at]);
        /* The text was lent from the entry that goes: both copies hold the same bytes, and
         * the driver keeps the pointer, so it must be set anew. */
        for (size_t i = 0; i < work->query->drive->count; i++)
            if (work->query->drive->origins[i] == at && work->query->drive->texts[i].ptr) {
                work->query->drive->texts[i] = entry->prompt;
                work->query->drive->judge_question.stored_prompt = entry->prompt;
            }
        work->entries[at] = entry;
    }
    const rp_reply *reply;
    if (rp_reply_open(entry->reply, work->query->arena, &reply) != RP_OK)
        return false;
    *out = rp_reply_text(reply);
    return true;
}

static rp_status
ask_verify(void *context, size_t at, rp_str prompt, rp_str stored, int64_t deadline_us, float *out)
{
    (void)at;
    const rp_embedder *embedder = &((struct rp_query_work *)context)->query->space->embedder;
    return embedder->verify(embedder->context, prompt, stored, deadline_us, out);
}

static rp_status
ask_collides(void *context, size_t at, rp_entry_id id, rp_str prompt, rp_str stored,
             float similarity, bool *out)
{
    const struct rp_query_work *work = context;
    (void)id;
    (void)prompt;
    /* As they were embedded. */
    const rp_entry *entry = work->entries[at];
    if (entry && work->query->template_)
        stored = rp_templates_cut_stored(work->cache, &work->query->scope, stored, entry->template_);
    return rp_cache_collides(work->query->space, stored, work->query->fuzzy, work->query->mean, similarity,
                             out);
}

/* Long texts are compared window by window, which a deletion moves: they are not looked at. */
static bool
checks_collisions(const rp_query *query)
{
    return query->rules.collision_check != RP_COLLISION_CHECK_OFF && query->window_count == 1;
}

static void
begin_decision(rp_cache *cache, rp_query *query)
{
    const rp_controls *controls = &query->controls;
    const rp_drive_input input = {
        .prompt = query->request->prompt,
        .varying = query->template_ ? query->fuzzy : (rp_str){ 0 },
        .stratum = query->stratum,
        .category = query->caller.category,
        .now = query->now,
        .min_similarity = fmaxf(controls->min_similarity, query->rules.min_similarity),
        .error_max = controls->error_max,
        .unknown_share = query->unknown_share,
        .gates = { .enabled = query->rules.gates, .strict = query->rules.strict_gates },
        .with_detail = query->explain,
        .has_judge = query->has_judge,
        .random01 = query->random01,
        .clock = cache->clock,
        .deadline_us = query->deadline_us,
        .sources = { .text = lend_text,
                     .varying = lend_varying,
                     .answer = lend_answer,
                     .verify = query->space->embedder.verify ? ask_verify : NULL,
                     .collides = checks_collisions(query) ? ask_collides : NULL,
                     .context = query->work },
        .arena = query->arena,
    };
    rp_drive_begin(query->drive, &input, query->work->found, query->work->count);
}

static void
count_gates(rp_cache *cache, const rp_query *query)
{
    const rp_drive_state *drive = query->drive;
    if (query->explain || drive->count == 0 || query->result.outcome == RP_LOOKUP_HIT)
        return;
    const size_t at = drive->decision.chosen < drive->count ? drive->decision.chosen : 0;
    /* Only where the threshold alone would have said yes: what a gate did not decide is not
     * its rejection. */
    const rp_candidate *candidate = &drive->candidates[at];
    if (!(candidate->similarity >= drive->decision.threshold))
        return;
    for (int gate = 0; gate < RP_GATE_COUNT; gate++)
        if (candidate->gates_fired & 1u << gate)
            rp_cache_count(cache, "gate", rp_gate_name((rp_gate)gate));
}

/* The driver has come to an end: serve what it chose, or miss. */
static void
finish_semantic(rp_cache *cache, rp_query *query)
{
    const rp_drive_state *drive = query->drive;
    query->result.decision = drive->decision;
    query->result.gate_us = drive->gate_us;
    query->result.policy_us = drive->policy_us;
    query->result.verify_us = drive->verify_us;
    query->result.collision_us = drive->collision_us;
    const char *reason = drive->decision.reason ? drive->decision.reason : "policy";
    if (drive->decision.verdict != RP_HIT) {
        end_miss(cache, query, reason);
        count_gates(cache, query);
        return;
    }
    const size_t at = drive->decision.chosen;
    const rp_entry_id id = drive->candidates[at].id;
    const int64_t started = rp_clock_monotonic_us(cache->clock);
    const rp_entry *entry = rp_store_hot(cache->store, query->scope, id);
    if (!entry)
        entry = rp_store_get(cache->store, query->scope, id, RP_PART_REPLY);
    query->result.load_us += rp_clock_monotonic_us(cache->clock) - started;
    const char *refusal = entry ? take_hit(cache, query, entry, RP_TIER_SEMANTIC) : "gone";
    if (refusal) {
        end_miss(cache, query, refusal);
        return;
    }
    query->result.reason = reason;
    query->result.similarity = drive->candidates[at].similarity;
}

static void
step_semantic(rp_cache *cache, rp_query *query)
{
    if (rp_drive_step(query->drive, query->rules.decider) == RP_DRIVE_WANTS_JUDGE) {
        query->result.outcome = RP_LOOKUP_WANTS_JUDGE;
        query->result.reason = "judge";
        return;
    }
    finish_semantic(cache, query);
}

/* The working memory of the semantic stage; false: there is none. */
static bool
make_work(rp_cache *cache, rp_query *query)
{
    release_work(query);
    query->drive = rp_arena_alloc(query->arena, sizeof *query->drive);
    query->work = rp_arena_calloc(query->arena, 1, sizeof *query->work);
    if (!query->drive || !query->work) {
        query->drive = NULL;
        query->work = NULL;
        return false;
    }
    query->work->cache = cache;
    query->work->query = query;
    return true;
}

static size_t
neighbors_wanted(const rp_query *query)
{
    const size_t wanted = query->rules.neighbors ? query->rules.neighbors : NEIGHBORS;
    return RP_MIN(wanted, (size_t)RP_CANDIDATES_MAX);
}

/* Searches the first of `queries` in one call: as many in a row as fit and use one index.
 * Returns how many those are. */
static size_t
search_some(rp_cache *cache, rp_query *const *queries, size_t count)
{
    enum { TOGETHER_MAX = 64 };
    rp_index_query searches[TOGETHER_MAX];
    rp_query *asked[TOGETHER_MAX];
    rp_space *space = queries[0]->space;
    size_t taken = 0, n = 0;
    for (; taken < count && n < TOGETHER_MAX && queries[taken]->space == space; taken++) {
        rp_query *query = queries[taken];
        const size_t k = neighbors_wanted(query);
        if (query->result.outcome != RP_LOOKUP_WANTS_SEMANTIC || !query->vectors)
            continue;
        query->neighbors = rp_arena_alloc(query->arena, k * sizeof *query->neighbors);
        if (!query->neighbors)
            continue; /* it searches alone, in memory that it has */
        asked[n] = query;
        searches[n++] = (rp_index_query){ .scope = rp_vector_scope(query->scope, query->template_),
                                          .vector = query->mean,
                                          .k = k,
                                          .out = query->neighbors };
    }
    const int64_t started = rp_clock_monotonic_us(cache->clock);
    if (n)
        rp_index_search_many(space->index, searches, n);
    const int64_t took = rp_clock_monotonic_us(cache->clock) - started;
    for (size_t i = 0; i < n; i++) {
        asked[i]->neighbor_count = searches[i].found;
        asked[i]->searched_us = took; /* each has waited for all */
        asked[i]->is_searched = true;
    }
    return taken;
}

void
rp_lookup_search_many(rp_cache *cache, rp_query *const *queries, size_t count)
{
    for (size_t at = 0; at < count;)
        at += search_some(cache, queries + at, count - at);
}

/* What was found together with others, or is to be found now. */
static size_t
search(rp_query *query, rp_neighbor alone[RP_CANDIDATES_MAX], const rp_neighbor **out)
{
    const rp_scope scope = rp_vector_scope(query->scope, query->template_);
    rp_recall_sample(&query->space->recall, scope, query->mean);
    *out = query->is_searched ? query->neighbors : alone;
    return query->is_searched ? query->neighbor_count
                              : rp_index_search(query->space->index, scope, query->mean,
                                                neighbors_wanted(query), alone);
}

void
rp_lookup_semantic(rp_cache *cache, rp_query *query)
{
    if (query->result.outcome != RP_LOOKUP_WANTS_SEMANTIC)
        return;
    if (!query->vectors) {
        rp_cache_failed(cache, "embed");
        end_miss(cache, query, "embed");
        return;
    }
    query->words = rp_query_volatility(query); /* asked about every candidate */
    query->words_known = true;
    const int64_t started = rp_clock_monotonic_us(cache->clock);
    if (query->deadline_us && started >= query->deadline_us) {
        end_miss(cache, query, "deadline");
        return;
    }
    if (!make_work(cache, query)) {
        rp_cache_failed(cache, "memory");
        end_miss(cache, query, "memory");
        return;
    }
    rp_neighbor alone[RP_CANDIDATES_MAX];
    const rp_neighbor *neighbors;
    const size_t count = search(query, alone, &neighbors);
    const int64_t searched = rp_clock_monotonic_us(cache->clock);
    query->result.search_us = searched - started + (query->is_searched ? query->searched_us : 0);
    load_candidates(cache, query, neighbors, count);
    query->result.load_us += rp_clock_monotonic_us(cache->clock) - searched;
    query->result.similarity = query->work->count ? query->work->found[0].similarity : NAN;
    query->random01 = rp_decider_draw(query->rules.decider);
    begin_decision(cache, query);
    step_semantic(cache, query);
}

void
rp_lookup_judged(rp_cache *cache, rp_query *query, int verdict, int64_t judge_us)
{
    if (query->result.outcome != RP_LOOKUP_WANTS_JUDGE)
        return;
    query->result.judge_us += judge_us;
    rp_drive_judged(query->drive, verdict);
    step_semantic(cache, query);
}

/* ---- all of it ---------------------------------------------------------------------- */

static int
ask_judge(rp_cache *cache, rp_query *query)
{
    enum { DEADLINE_MS = 350 }; /* judge_deadline of the server's configuration */
    const rp_judge *judge = &cache->judge;
    rp_judge_question *question = &query->drive->judge_question;
    const int64_t limit_ms = judge->deadline_ms ? judge->deadline_ms : DEADLINE_MS;
    question->deadline_us = rp_clock_monotonic_us(cache->clock) + limit_ms * 1000;
    const int verdict = judge->ask(judge->context, question);
    if (rp_clock_monotonic_us(cache->clock) > question->deadline_us)
        return RP_JUDGE_UNSURE; /* late is unsure */
    return verdict;
}

static void
run_semantic(rp_cache *cache, rp_query *query)
{
    const rp_status status = query->vectors ? RP_OK : rp_query_embed(cache, query);
    if (status == RP_ERR_LIMIT) { /* more windows than are compared: no failure */
        rp_lookup_skip(cache, query, "long");
        return;
    }
    if (status != RP_OK) {
        rp_cache_failed(cache, "embed");
        rp_lookup_skip(cache, query, "embed");
        return;
    }
    rp_lookup_semantic(cache, query);
    while (query->result.outcome == RP_LOOKUP_WANTS_JUDGE) {
        const int64_t started = rp_clock_monotonic_us(cache->clock);
        const int verdict = ask_judge(cache, query);
        rp_lookup_judged(cache, query, verdict, rp_clock_monotonic_us(cache->clock) - started);
    }
}

/* Explain shows both tiers: after an exact hit the semantic stage runs too, and the exact
 * outcome is put back. */
static void
explain_beside(rp_cache *cache, rp_query *query)
{
    const rp_lookup_result exact = query->result;
    query->result.entry = NULL;
    go_on_after_exact(cache, query);
    if (query->result.outcome == RP_LOOKUP_WANTS_SEMANTIC)
        run_semantic(cache, query);
    release_entry(query);
    const rp_decision decision = query->result.decision;
    query->result = exact;
    query->result.decision = decision;
}

void
rp_lookup_all(rp_cache *cache, rp_query *query)
{
    query->has_judge = query->has_judge || cache->judge.ask;
    if (rp_query_prepare(cache, query) != RP_OK)
        return;
    rp_lookup_exact(cache, query);
    if (query->result.outcome == RP_LOOKUP_COLD)
        rp_lookup_cold(cache, query);
    if (query->result.outcome == RP_LOOKUP_WANTS_SEMANTIC)
        run_semantic(cache, query);
    else if (query->explain && query->result.tier == RP_TIER_EXACT)
        explain_beside(cache, query);
}
