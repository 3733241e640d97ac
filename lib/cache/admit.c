/* admit.c - may this reply be kept, and as what?
 *
 * The rules are asked from cheap to dear and each has a name, which is a metric. What
 * remains is drafted as an entry and handed to the store's queue. An entry that must not
 * answer a merely similar question is kept without a vector: it then serves its own
 * repeat and nothing else. */
#include "cache/cache_internal.h"

#include "base/bytes.h"

#include <math.h>
#include <stdlib.h>

/* ---- rules -------------------------------------------------------------------------- */

int64_t
rp_admit_lifetime_us(const rp_query *query)
{
    const rp_rules *rules = &query->rules;
    int64_t ttl_us = query->controls.ttl_us >= 0 ? query->controls.ttl_us : rules->ttl_us;
    if (query->controls.ttl_us == 0)
        return -1; /* "keep it for no time" */
    if (rules->ttl_max_us && (ttl_us == 0 || ttl_us > rules->ttl_max_us))
        ttl_us = rules->ttl_max_us;
    /* Nothing temporal answers after volatile_ttl: why keep it? */
    if (rp_query_volatility(query).temporal && (ttl_us == 0 || ttl_us > rules->volatile_ttl_us))
        ttl_us = rules->volatile_ttl_us;
    return ttl_us;
}

static bool
may_keep_verdict(const rp_rules *rules, rp_reply_verdict verdict)
{
    return verdict == RP_REPLY_GOOD || (verdict == RP_REPLY_LENGTH && rules->keep_length) ||
           (verdict == RP_REPLY_FILTERED && rules->keep_filtered);
}

const char *
rp_admit_refusal(rp_cache *cache, const rp_query *query, const rp_admission *admission)
{
    if (query->result.outcome == RP_LOOKUP_BYPASS)
        return "bypass";
    if (!query->may_write)
        return cache->read_only ? "read-only" : "no-store";
    if (query->result.outcome == RP_LOOKUP_HIT)
        return "hit";
    /* In shadow mode the cache shall look as it would when serving: a hit stores nothing. */
    if (query->result.outcome == RP_LOOKUP_SHADOW_HIT)
        return "shadow-hit";
    if (!may_keep_verdict(&query->rules, admission->verdict))
        return rp_reply_verdict_name(admission->verdict);
    if (admission->encoded.len == 0)
        return rp_reply_verdict_name(RP_REPLY_EMPTY);
    if (admission->encoded.len > RP_CACHEABLE_SIZE_MAX)
        return "size";
    if (query->request->temperature > query->rules.temperature_max) /* NaN: absent, allowed */
        return "temperature";
    if (rp_admit_lifetime_us(query) < 0)
        return "ttl";
    if (query->result.decision.reason && query->result.decision.keep == RP_KEEP_NEVER)
        return "policy";
    if (rp_query_is_flushed(cache, query))
        return "flushed";
    return NULL;
}

/* Whether the entry may answer similar questions too, as soon as it has a vector. */
static bool
may_answer_similar(const rp_query *query)
{
    if (query->tier != RP_TIER_SEMANTIC || query->collides)
        return false;
    /* The policy wants no second entry where the neighbor was right (vCache, Algorithm 1):
     * the neighbor answers similar questions, this one its own repeat. */
    const rp_decision *decision = &query->result.decision;
    return !(decision->reason && decision->keep == RP_KEEP_IF_NEIGHBOR_WRONG &&
             query->neighbor_label == 1);
}

/* ---- key collisions -------------------------------------------------------------------- */

enum { CHECKED_MAX = 2 /* neighbors; a guess: each may cost five short embeddings */ };
/* Below it no policy would serve the neighbor's question with the new entry. */
#define CHECK_SIMILARITY_MIN 0.70f

bool
rp_admit_wants_check(const rp_query *query)
{
    return query->rules.collision_check == RP_COLLISION_CHECK_ADMISSION &&
           query->tier == RP_TIER_SEMANTIC && query->vectors && query->window_count == 1 &&
           query->drive && query->drive->count &&
           query->drive->candidates[0].similarity >= CHECK_SIMILARITY_MIN;
}

/* Does the new key collide with this stored prompt, which then is the victim's? */
static bool
collides_with(rp_cache *cache, const rp_query *query, const rp_candidate *candidate)
{
    const rp_entry *entry =
        rp_store_get(cache->store, query->scope, candidate->id, RP_PART_VECTORS);
    bool collides = false;
    if (entry && entry->mean && entry->encoder == query->space->tag && entry->window_count == 1 && entry->dim == query->dim &&
        rp_cache_collides(query->space, query->fuzzy,
                          rp_templates_cut_stored(cache, &query->scope, entry->prompt,
                                                  entry->template_),
                          entry->mean, candidate->similarity, &collides) != RP_OK) {
        rp_cache_failed(cache, "collision");
        collides = true;
    }
    rp_entry_unref(entry);
    return collides;
}

void
rp_admit_check(rp_cache *cache, rp_query *query)
{
    if (!rp_admit_wants_check(query))
        return;
    const rp_drive_state *drive = query->drive;
    for (size_t i = 0; i < drive->count && i < CHECKED_MAX && !query->collides; i++)
        if (drive->candidates[i].similarity >= CHECK_SIMILARITY_MIN)
            query->collides = collides_with(cache, query, &drive->candidates[i]);
    if (query->collides)
        rp_cache_count(cache, "gate", "collision-admission");
}

/* ---- the draft ------------------------------------------------------------------------ */

static void
draft_entry(const rp_query *query, const rp_admission *admission, rp_str scope_fields,
            rp_entry *draft)
{
    const int64_t ttl_us = rp_admit_lifetime_us(query);
    const rp_volatility words = rp_query_volatility(query);
    const bool overflows = ttl_us > INT64_MAX - query->now;
    *draft = (rp_entry){
        .scope = query->scope,
        .key = query->key,
        .stratum = query->stratum,
        .created = query->now,
        .expires = ttl_us && !overflows ? query->now + ttl_us : 0,
        .flags = (words.personal ? RP_ENTRY_PERSONAL : 0u) |
                 (words.temporal ? RP_ENTRY_TEMPORAL : 0u) |
                 (admission->is_static ? RP_ENTRY_STATIC : 0u),
        .input_tokens = admission->usage.input_tokens,
        .output_tokens = admission->usage.output_tokens,
        .upstream_us = admission->upstream_us,
        .tenant = query->caller.tenant,
        .namespace_name = query->caller.namespace_name,
        .route = query->caller.route,
        .model = query->request->model,
        .category = query->caller.category,
        .prompt = query->request->prompt,
        .turn = query->request->last_turn,
        .scope_fields = scope_fields,
        .tags = query->controls.tags,
        .reply = admission->encoded,
    };
    memcpy(draft->user_hash, query->user_hash, sizeof draft->user_hash);
    memcpy(draft->metadata_hash, query->metadata_hash, sizeof draft->metadata_hash);
    if (!may_answer_similar(query)) {
        draft->flags |= RP_ENTRY_EXACT_ONLY | RP_ENTRY_APART;
    } else if (query->vectors) { /* without one the store flags it; reembed gives it one */
        draft->encoder = query->space->tag;
        draft->dim = query->dim;
        draft->window_count = query->window_count;
        draft->template_ = query->template_;
        draft->mean = query->mean;
        draft->windows = query->windows;
    }
}

static const char *
refusal_of_store(rp_status status)
{
    switch (status) {
    case RP_ERR_LIMIT:
        return "share";
    case RP_ERR_IO:
        return "paused";
    case RP_ERR_BUSY:
        return "busy";
    default:
        return "store";
    }
}

static const char *
count_refusal(rp_cache *cache, const char *reason)
{
    atomic_fetch_add_explicit(&cache->not_stored, 1, memory_order_relaxed);
    rp_cache_count(cache, "skip", reason);
    return reason;
}

const char *
rp_admit(rp_cache *cache, rp_query *query, const rp_admission *admission, rp_entry_id *id)
{
    const char *refusal = rp_admit_refusal(cache, query, admission);
    if (refusal)
        return count_refusal(cache, refusal);
    rp_buffer fields;
    rp_buffer_init(&fields, 0);
    rp_scope_fields_write(query->request, &query->caller, &fields);
    if (rp_buffer_failed(&fields)) {
        rp_buffer_fini(&fields);
        return count_refusal(cache, "memory");
    }
    rp_entry draft;
    draft_entry(query, admission, rp_buffer_str(&fields), &draft);
    rp_entry_id made = 0;
    const rp_status status =
        rp_store_put(cache->store, &draft, &made, admission->done, admission->done_context);
    rp_buffer_fini(&fields);
    if (status != RP_OK) {
        rp_cache_failed(cache, "store-put");
        return count_refusal(cache, refusal_of_store(status));
    }
    atomic_fetch_add_explicit(&cache->stored, 1, memory_order_relaxed);
    query->kept = made;
    if (id)
        *id = made;
    return NULL;
}
