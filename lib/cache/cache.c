/* cache.c - the object: store, encoder, index and policies, opened and closed together.
 *
 * Order of opening: encoder, store (which takes the encoder's fingerprint if it is new),
 * policies with their saved state, index. The index is built from the store's vectors by
 * the keeper thread, or before open returns; the exact tier serves meanwhile. The keeper
 * then saves what the policies have learned once a minute.
 *
 * The semantic tier is off, loudly, whenever its vectors would be wrong: no encoder, one
 * that fails its self-test, or a store whose vectors another encoder made. */
#include "cache/cache_internal.h"

#include "base/bytes.h"
#include "base/random.h"
#include "cache/ask.h"
#include "embed/registry.h"

#include <inttypes.h>
#include <limits.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

enum {
    SAVE_PERIOD_S = 60,  /* a guess: what a crash may cost in learned state */
    SEARCHERS = 16,
    ENTRY_OVERHEAD = 64, /* bytes of an indexed vector besides its numbers; a guess */
    TTL_DEFAULT_S = 86400
};
#define MEMORY_DEFAULT ((uint64_t)2 << 30)
static const char default_policy[] = "calibrated";

void
rp_cache_warn(rp_cache *cache, const char *format, ...)
{
    if (!cache->warn)
        return;
    char sentence[RP_ERROR_SIZE];
    va_list values;
    va_start(values, format);
    vsnprintf(sentence, sizeof sentence, format, values);
    va_end(values);
    cache->warn(cache->warn_context, sentence);
}

/* ---- encoder ------------------------------------------------------------------------ */

static rp_status
embed_with_encoder(void *context, rp_str text, float *storage, rp_embedding *out, rp_error *error)
{
    const rp_cache *cache = context;
    return rp_encoder_embed_windows(cache->encoder_lent, text, storage, out, error);
}

static rp_status
embed_many_with_encoder(void *context, const rp_str *texts, size_t count, float *out)
{
    const rp_cache *cache = context;
    return rp_encoder_embed(cache->encoder_lent, texts, count, out, NULL, NULL);
}

static rp_status
self_test_encoder(void *context, rp_error *error)
{
    const rp_cache *cache = context;
    return rp_encoder_self_test(cache->encoder_lent, error);
}

static rp_status
verify_with_model(void *context, rp_str prompt, rp_str stored, int64_t deadline_us, float *out)
{
    const rp_cache *cache = context;
    return rp_ask_verifier(cache->verifier, prompt, stored, cache->clock, deadline_us, out);
}

static void
use_encoder(rp_cache *cache, const rp_encoder *encoder)
{
    const rp_str fingerprint = rp_encoder_fingerprint(encoder);
    cache->encoder_lent = encoder;
    cache->embedder = (rp_embedder){ .dim = rp_encoder_dim(encoder),
                                     .embed = embed_with_encoder,
                                     .embed_many = embed_many_with_encoder,
                                     .self_test = self_test_encoder,
                                     .verify = cache->verifier ? verify_with_model : NULL,
                                     .context = cache };
    memcpy(cache->embedder.fingerprint, fingerprint.ptr,
           RP_MIN(fingerprint.len, (size_t)RP_FINGERPRINT_SIZE));
}

/* Before the encoder. What is configured and cannot be had is an error, as with it. */
static rp_status
open_verifier(rp_cache *cache, const rp_cache_options *options, rp_error *error)
{
    char folder[PATH_MAX];
    if (!options->verifier)
        return RP_OK;
    const rp_status status = rp_model_resolve(options->verifier, folder, sizeof folder, error);
    if (status != RP_OK)
        return status;
    return rp_verifier_open(folder, options->verifier_options, &cache->verifier, error);
}

static rp_status
open_encoder(rp_cache *cache, const rp_cache_options *options, rp_precision precision,
             rp_error *error)
{
    char folder[PATH_MAX];
    rp_status status = rp_model_resolve(options->model, folder, sizeof folder, error);
    if (status != RP_OK)
        return status;
    rp_encoder_options with = { 0 };
    if (options->encoder_options)
        with = *options->encoder_options;
    with.precision = precision;
    rp_encoder *encoder;
    status = rp_encoder_open(folder, &with, &encoder, error);
    if (status != RP_OK)
        return status;
    rp_encoder_close(cache->encoder);
    cache->encoder = encoder;
    use_encoder(cache, encoder);
    return RP_OK;
}

static rp_precision
wanted_precision(const rp_cache_options *options)
{
    return options->encoder_options ? options->encoder_options->precision : RP_PRECISION_AUTO;
}

/* ---- store -------------------------------------------------------------------------- */

void
rp_cache_index_add(rp_cache *cache, rp_scope scope, rp_entry_id id, const float *vector)
{
    const rp_status status = rp_index_add(cache->index, scope, id, vector);
    if (status != RP_OK && status != RP_ERR_EXISTS)
        rp_cache_failed(cache, status == RP_ERR_LIMIT ? "index-full" : "index-add");
}

/* Committed: the index may have it, and never holds what the store lacks. */
static void
entry_added(void *context, const rp_entry *entry)
{
    rp_cache *cache = context;
    if (atomic_load(&cache->index_state) != RP_INDEX_NONE && entry->mean &&
        entry->dim == cache->embedder.dim)
        rp_cache_index_add(cache, rp_vector_scope(entry->scope, entry->template_), entry->id,
                           entry->mean);
}

/* While the index is being built, the builder may be about to add what goes here: note
 * it, so that it is taken out again at the end. */
static void
note_removed_while_loading(rp_cache *cache, rp_entry_id id)
{
    pthread_mutex_lock(&cache->loading_lock);
    if (atomic_load(&cache->index_state) == RP_INDEX_LOADING) {
        if (cache->removed_count == cache->removed_capacity) {
            const size_t capacity = cache->removed_capacity ? cache->removed_capacity * 2 : 256;
            rp_entry_id *grown = realloc(cache->removed_loading, capacity * sizeof *grown);
            if (grown) {
                cache->removed_loading = grown;
                cache->removed_capacity = capacity;
            }
        }
        if (cache->removed_count < cache->removed_capacity)
            cache->removed_loading[cache->removed_count++] = id;
        else
            cache->removed_lost = true;
    }
    pthread_mutex_unlock(&cache->loading_lock);
}

static void
entry_removed(void *context, rp_entry_id id, rp_scope scope)
{
    rp_cache *cache = context;
    (void)scope;
    if (cache->index) {
        note_removed_while_loading(cache, id);
        rp_index_remove(cache->index, id);
    }
    pthread_mutex_lock(&cache->deciders_lock);
    for (rp_named_decider *each = cache->deciders; each; each = each->next)
        rp_decider_forget(each->decider, id);
    pthread_mutex_unlock(&cache->deciders_lock);
}

static rp_status
open_store(rp_cache *cache, const rp_cache_options *options, uint64_t memory_max, rp_error *error)
{
    const bool embeds = cache->embedder.embed != NULL;
    const rp_store_options with = {
        .folder = options->folder,
        .disk_max = options->disk_max,
        .memory_max = memory_max / 2, /* the other half is the index's */
        .share_max = options->share_max,
        .fingerprint = embeds ? cache->embedder.fingerprint : NULL,
        .dim = embeds ? cache->embedder.dim : 0,
        .read_only = options->read_only,
        .clock = cache->clock,
        .events = { entry_added, entry_removed, cache },
    };
    return rp_store_open(&with, &cache->store, error);
}

/* A store keeps the precision class it was made with. If the class was left to us, try
 * the others until the fingerprint is the store's. */
static rp_status
match_precision(rp_cache *cache, const rp_cache_options *options, uint64_t memory_max,
                rp_error *error)
{
    const rp_precision classes[] = { RP_PRECISION_F32, RP_PRECISION_BF16, RP_PRECISION_INT8 };
    const rp_precision first = rp_encoder_precision(cache->encoder);
    char wanted[RP_FINGERPRINT_SIZE + 1];
    snprintf(wanted, sizeof wanted, "%s", rp_store_fingerprint(cache->store));
    for (size_t i = 0; i < RP_COUNT(classes); i++) {
        if (classes[i] == first || open_encoder(cache, options, classes[i], NULL) != RP_OK)
            continue;
        if (strcmp(cache->embedder.fingerprint, wanted) == 0) {
            rp_store_close(cache->store);
            cache->store = NULL;
            return open_store(cache, options, memory_max, error);
        }
    }
    return open_encoder(cache, options, first, error);
}

/* ---- index -------------------------------------------------------------------------- */

static bool
load_vector(void *context, rp_entry_id id, rp_scope scope, const float *mean, size_t dim)
{
    rp_cache *cache = context;
    if (dim == cache->embedder.dim)
        rp_cache_index_add(cache, scope, id, mean);
    atomic_fetch_add_explicit(&cache->vectors_loaded, 1, memory_order_relaxed);
    pthread_mutex_lock(&cache->keeper_lock);
    const bool stops = cache->keeper_stops;
    pthread_mutex_unlock(&cache->keeper_lock);
    return !stops;
}

static void
load_index(rp_cache *cache)
{
    rp_error error = { { 0 } };
    const rp_status status = rp_store_walk_vectors(cache->store, load_vector, cache, &error);
    if (status != RP_OK) {
        rp_cache_failed(cache, "index-load");
        rp_cache_warn(cache, "the index could not be loaded whole: %s", error.text);
    }
    pthread_mutex_lock(&cache->loading_lock);
    for (size_t i = 0; i < cache->removed_count; i++)
        rp_index_remove(cache->index, cache->removed_loading[i]);
    free(cache->removed_loading);
    cache->removed_loading = NULL;
    cache->removed_count = cache->removed_capacity = 0;
    atomic_store(&cache->index_state, RP_INDEX_READY);
    pthread_mutex_unlock(&cache->loading_lock);
}

rp_status
rp_cache_index_reload(rp_cache *cache, rp_error *error)
{
    if (rp_cache_semantic(cache))
        return RP_OK;
    if (!rp_store_vectors_usable(cache->store))
        return rp_fail(error, RP_ERR_STALE, "the store's vectors are still of another encoder");
    atomic_store(&cache->index_state, RP_INDEX_LOADING);
    load_index(cache);
    return RP_OK;
}

static rp_status
make_index(rp_cache *cache, const rp_cache_options *options, uint64_t memory_max, rp_error *error)
{
    const uint64_t per_vector = cache->embedder.dim * sizeof(float) + ENTRY_OVERHEAD;
    const uint64_t by_memory = RP_MAX(memory_max / 2 / per_vector, (uint64_t)1024);
    const rp_index_options with = {
        .dim = cache->embedder.dim,
        .count_max = options->entries_max ? options->entries_max : (size_t)by_memory,
        .searchers_max = options->searchers_max ? options->searchers_max : SEARCHERS,
    };
    const rp_status status = rp_index_new(&with, &cache->index);
    if (status != RP_OK || !rp_recall_init(&cache->recall, with.dim))
        return rp_fail(error, status ? status : RP_ERR_NOMEM,
                       "cannot make an index of %zu vectors of %zu numbers", with.count_max, with.dim);
    return RP_OK;
}

/* Whether vectors made now can be compared with those in the store; says so if not. */
static bool
vectors_are_sound(rp_cache *cache)
{
    if (!cache->embedder.embed)
        return false;
    rp_error error = { { 0 } };
    if (cache->embedder.self_test &&
        cache->embedder.self_test(cache->embedder.context, &error) != RP_OK) {
        rp_cache_failed(cache, "self-test");
        rp_cache_warn(cache, "the encoder fails its self-test (%s): serving the exact tier only",
                      error.text);
        return false;
    }
    if (!rp_store_vectors_usable(cache->store)) {
        rp_cache_failed(cache, "fingerprint");
        rp_cache_warn(cache,
                      "the stored vectors were made by another encoder (%.32s, in use %.32s): "
                      "serving the exact tier only; `reprise reembed` makes them anew",
                      rp_store_fingerprint(cache->store), cache->embedder.fingerprint);
        return false;
    }
    return true;
}

/* ---- policies ------------------------------------------------------------------------- */

static void
state_name(const char *name, rp_buffer *out)
{
    rp_buffer_init(out, 0);
    rp_buffer_printf(out, "policy/%s", name);
}

static void
restore_decider(rp_cache *cache, const char *name, rp_decider *decider)
{
    rp_buffer key, bytes;
    state_name(name, &key);
    rp_buffer_init(&bytes, 0);
    rp_error error = { { 0 } };
    if (rp_store_state_get(cache->store, rp_buffer_str(&key), &bytes) &&
        rp_decider_restore(decider, rp_buffer_str(&bytes), &error) != RP_OK) {
        /* Another policy was configured, or the bytes are damaged: begin anew. */
        rp_cache_count(cache, "failure", "policy-state");
        rp_cache_warn(cache, "the saved state of policy \"%s\" is not used: %s", name, error.text);
    }
    rp_buffer_fini(&bytes);
    rp_buffer_fini(&key);
}

static bool
is_configured_so(const rp_named_decider *each, rp_str name, rp_str spec, double error_max)
{
    const bool same_bound = each->error_max == error_max ||
                            (isnan(each->error_max) && isnan(error_max));
    return !each->superseded && same_bound && rp_str_equal(rp_str_of(each->name), name) &&
           rp_str_equal(rp_decider_spec(each->decider), spec);
}

rp_status
rp_cache_decider(rp_cache *cache, rp_str name, rp_str spec, double error_max, rp_decider **out,
                 rp_error *error)
{
    if (spec.len == 0)
        spec = rp_str_of(default_policy);
    pthread_mutex_lock(&cache->deciders_lock);
    rp_named_decider *each = cache->deciders;
    while (each && !is_configured_so(each, name, spec, error_max))
        each = each->next;
    if (each)
        *out = each->decider;
    pthread_mutex_unlock(&cache->deciders_lock);
    if (each)
        return RP_OK;

    rp_named_decider *made = calloc(1, sizeof *made);
    char *copy = malloc(name.len + 1);
    rp_status status = made && copy ? RP_OK : rp_fail(error, RP_ERR_NOMEM, "no memory for a policy");
    if (status == RP_OK)
        status = rp_decider_new(spec, error_max, cache->seed, &made->decider, error);
    if (status != RP_OK) {
        free(copy);
        free(made);
        return status;
    }
    memcpy(copy, name.ptr, name.len);
    copy[name.len] = 0;
    made->name = copy;
    made->error_max = error_max;
    restore_decider(cache, copy, made->decider);
    pthread_mutex_lock(&cache->deciders_lock);
    for (each = cache->deciders; each; each = each->next)
        if (strcmp(each->name, copy) == 0)
            atomic_store(&each->superseded, true); /* the file changed: requests under way may
                                                      still use it, but it is not saved */
    made->next = cache->deciders;
    cache->deciders = made;
    pthread_mutex_unlock(&cache->deciders_lock);
    *out = made->decider;
    return RP_OK;
}

rp_status
rp_cache_save(rp_cache *cache, rp_error *error)
{
    if (cache->read_only || !atomic_exchange(&cache->learned, false))
        return RP_OK;
    /* Deciders are only ever added, in front: the list from here on stays. */
    pthread_mutex_lock(&cache->deciders_lock);
    rp_named_decider *each = cache->deciders;
    pthread_mutex_unlock(&cache->deciders_lock);
    rp_status worst = RP_OK;
    for (; each; each = each->next) {
        if (atomic_load(&each->superseded))
            continue;
        char *bytes;
        size_t len;
        rp_status status = rp_decider_save(each->decider, &bytes, &len);
        if (status == RP_OK) {
            rp_buffer key;
            state_name(each->name, &key);
            status = rp_store_state_put(cache->store, rp_buffer_str(&key), (rp_str){ bytes, len });
            rp_buffer_fini(&key);
            free(bytes);
        }
        if (status != RP_OK && status != RP_ERR_UNSUPPORTED) {
            worst = rp_fail(error, status, "the state of policy \"%s\" could not be saved: %s",
                            each->name, rp_status_name(status));
            rp_cache_failed(cache, "policy-save");
            atomic_store(&cache->learned, true);
        }
    }
    return worst;
}

/* ---- the keeper ------------------------------------------------------------------------ */

static bool
wait_for_next_save(rp_cache *cache)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_sec += SAVE_PERIOD_S;
    pthread_mutex_lock(&cache->keeper_lock);
    int waited = 0;
    while (!cache->keeper_stops && waited == 0)
        waited = pthread_cond_timedwait(&cache->keeper_wakes, &cache->keeper_lock, &until);
    const bool goes_on = !cache->keeper_stops;
    pthread_mutex_unlock(&cache->keeper_lock);
    return goes_on;
}

static void *
keep(void *context)
{
    rp_cache *cache = context;
    if (atomic_load(&cache->index_state) == RP_INDEX_LOADING)
        load_index(cache);
    while (wait_for_next_save(cache)) {
        if (rp_cache_save(cache, NULL) != RP_OK)
            continue; /* counted; tried again after the next period */
        if (cache->index)
            rp_recall_check(&cache->recall, cache->index);
    }
    return NULL;
}

static void
stop_keeper(rp_cache *cache)
{
    pthread_mutex_lock(&cache->keeper_lock);
    cache->keeper_stops = true;
    pthread_cond_signal(&cache->keeper_wakes);
    pthread_mutex_unlock(&cache->keeper_lock);
    if (cache->keeper_runs)
        pthread_join(cache->keeper, NULL);
    cache->keeper_runs = false;
}

/* ---- open and close -------------------------------------------------------------------- */

static rp_status
take_options(rp_cache *cache, const rp_cache_options *options, const rp_clock *clock,
             rp_error *error)
{
    if (!options->folder || !*options->folder)
        return rp_fail(error, RP_ERR_INVALID, "a cache needs a folder");
    cache->clock = clock ? clock : &rp_clock_system;
    cache->mode = options->mode;
    cache->judge = options->judge;
    cache->read_only = options->read_only;
    cache->warn = options->warn;
    cache->warn_context = options->warn_context;
    const uint64_t ttl = options->ttl_seconds ? options->ttl_seconds : TTL_DEFAULT_S;
    cache->ttl_us = ttl >= INT64_MAX / 1000000 ? 0 : (int64_t)ttl * 1000000;
    cache->seed = options->seed;
    if (cache->seed == 0)
        return rp_random_secret(&cache->seed, sizeof cache->seed) == RP_OK
                   ? RP_OK
                   : rp_fail(error, RP_ERR_IO, "the system gives no random numbers");
    return RP_OK;
}

static rp_status
choose_embedder(rp_cache *cache, const rp_cache_options *options, const rp_embedder *embedder,
                rp_error *error)
{
    if (embedder) {
        cache->embedder = *embedder;
        return RP_OK;
    }
    if (options->encoder) {
        use_encoder(cache, options->encoder);
        return RP_OK;
    }
    if (options->model)
        return open_encoder(cache, options, wanted_precision(options), error);
    return RP_OK; /* exact tier only, as asked */
}

static rp_status
start(rp_cache *cache, const rp_cache_options *options, rp_error *error)
{
    if (vectors_are_sound(cache)) {
        rp_store_stats stats;
        rp_store_stats_get(cache->store, &stats);
        atomic_store(&cache->vectors_expected, stats.entries);
        atomic_store(&cache->index_state, RP_INDEX_LOADING);
        if (!options->load_in_background)
            load_index(cache);
    }
    if (!options->read_only || options->load_in_background) {
        if (pthread_create(&cache->keeper, NULL, keep, cache) != 0)
            return rp_fail(error, RP_ERR_NOMEM, "the system gives no further thread");
        cache->keeper_runs = true;
    }
    return RP_OK;
}

rp_status
rp_cache_open_with(const rp_cache_options *options, const rp_embedder *embedder,
                   const rp_clock *clock, rp_cache **out, rp_error *error)
{
    rp_cache *cache = calloc(1, sizeof *cache);
    if (!cache)
        return rp_fail(error, RP_ERR_NOMEM, "no memory for a cache");
    pthread_mutex_init(&cache->loading_lock, NULL);
    pthread_mutex_init(&cache->deciders_lock, NULL);
    pthread_mutex_init(&cache->keeper_lock, NULL);
    pthread_mutex_init(&cache->recent_lock, NULL);
    rp_templates_init(cache);
    pthread_cond_init(&cache->keeper_wakes, NULL);
    cache->recent_entries = calloc(RP_RECENT_SLOTS, sizeof *cache->recent_entries);
    cache->recent_requests = calloc(RP_RECENT_SLOTS, sizeof *cache->recent_requests);

    const uint64_t memory_max = options->memory_max ? options->memory_max : MEMORY_DEFAULT;
    cache->memory_max = memory_max;
    rp_status status = cache->recent_entries && cache->recent_requests
                           ? RP_OK
                           : rp_fail(error, RP_ERR_NOMEM, "no memory for a cache");
    if (status == RP_OK)
        status = take_options(cache, options, clock, error);
    if (status == RP_OK)
        status = open_verifier(cache, options, error);
    if (status == RP_OK)
        status = choose_embedder(cache, options, embedder, error);
    /* Before the store, whose writer may report a removal as soon as it runs. It stays
     * empty and unused if the vectors turn out not to be comparable. */
    if (status == RP_OK && cache->embedder.embed)
        status = make_index(cache, options, memory_max, error);
    if (status == RP_OK)
        status = open_store(cache, options, memory_max, error);
    if (status == RP_OK && cache->encoder && wanted_precision(options) == RP_PRECISION_AUTO &&
        !rp_store_vectors_usable(cache->store))
        status = match_precision(cache, options, memory_max, error);
    if (status == RP_OK)
        status = rp_cache_decider(cache, RP_STR("default"),
                                  rp_str_of(options->policy ? options->policy : default_policy),
                                  options->error_max > 0 ? options->error_max : NAN,
                                  &cache->decider, error);
    if (status == RP_OK)
        status = start(cache, options, error);
    if (status != RP_OK) {
        rp_cache_close(cache);
        return status;
    }
    *out = cache;
    return RP_OK;
}

rp_status
rp_cache_open(const rp_cache_options *options, rp_cache **out, rp_error *error)
{
    return rp_cache_open_with(options, NULL, NULL, out, error);
}

void
rp_cache_close(rp_cache *cache)
{
    if (!cache)
        return;
    stop_keeper(cache);
    if (cache->store && rp_cache_save(cache, NULL) != RP_OK)
        rp_cache_warn(cache, "what the policies learned since the last save is lost");
    rp_store_close(cache->store);
    while (cache->deciders) {
        rp_named_decider *next = cache->deciders->next;
        rp_decider_free(cache->deciders->decider);
        free(cache->deciders->name);
        free(cache->deciders);
        cache->deciders = next;
    }
    rp_recall_fini(&cache->recall);
    rp_index_free(cache->index);
    rp_encoder_close(cache->encoder);
    rp_verifier_close(cache->verifier);
    free(cache->removed_loading);
    free(cache->recent_entries);
    free(cache->recent_requests);
    pthread_cond_destroy(&cache->keeper_wakes);
    rp_templates_fini(cache);
    pthread_mutex_destroy(&cache->recent_lock);
    pthread_mutex_destroy(&cache->keeper_lock);
    pthread_mutex_destroy(&cache->deciders_lock);
    pthread_mutex_destroy(&cache->loading_lock);
    free(cache);
}

/* ---- what the stages and the server ask -------------------------------------------------- */

rp_store *
rp_cache_store_of(rp_cache *cache)
{
    return cache->store;
}

const rp_encoder *
rp_cache_encoder(rp_cache *cache)
{
    return cache->encoder_lent;
}

bool
rp_cache_semantic(rp_cache *cache)
{
    return atomic_load(&cache->index_state) == RP_INDEX_READY;
}

bool
rp_cache_ready(rp_cache *cache)
{
    return atomic_load(&cache->index_state) != RP_INDEX_LOADING;
}

static double
loaded_share(rp_cache *cache)
{
    if (rp_cache_ready(cache))
        return 1;
    const double expected = (double)atomic_load(&cache->vectors_expected);
    const double loaded = (double)atomic_load(&cache->vectors_loaded);
    return expected > 0 ? fmin(loaded / expected, 1) : 0;
}

void
rp_cache_stats_get(rp_cache *cache, rp_cache_stats *out)
{
    rp_store_stats store;
    rp_store_stats_get(cache->store, &store);
    *out = (rp_cache_stats){
        .ready = rp_cache_ready(cache),
        .semantic = rp_cache_semantic(cache),
        .loaded_share = loaded_share(cache),
        .entries = store.entries,
        .vectors = cache->index ? rp_index_count(cache->index) : 0,
        .index_bytes = cache->index ? rp_index_size_bytes(cache->index) : 0,
        .disk_bytes = store.disk_bytes,
        .disk_max = store.disk_max,
        .memory_bytes = store.memory_bytes,
        .memory_max = cache->memory_max,
        .hits_exact = atomic_load(&cache->hits_exact),
        .hits_semantic = atomic_load(&cache->hits_semantic),
        .misses = atomic_load(&cache->misses),
        .bypasses = atomic_load(&cache->bypasses),
        .shadow_hits = atomic_load(&cache->shadow_hits),
        .stored = atomic_load(&cache->stored),
        .not_stored = atomic_load(&cache->not_stored),
        .committed = store.committed,
        .evicted = store.evicted_disk,
        .expired = store.expired,
        .damaged = store.damaged,
        .failures = atomic_load(&cache->failures),
        .outcomes_right = atomic_load(&cache->outcomes_right),
        .outcomes_wrong = atomic_load(&cache->outcomes_wrong),
        .recall_found = atomic_load(&cache->recall.found),
        .recall_missed = atomic_load(&cache->recall.missed),
        .recall_missed_far = atomic_load(&cache->recall.missed_far),
        .admission_paused = store.admission_paused,
    };
    pthread_mutex_lock(&cache->deciders_lock);
    for (rp_named_decider *each = cache->deciders; each; each = each->next)
        out->policy_bytes += rp_decider_size_bytes(each->decider);
    pthread_mutex_unlock(&cache->deciders_lock);
    if (cache->embedder.embed)
        memcpy(out->fingerprint, cache->embedder.fingerprint, RP_FINGERPRINT_SIZE);
}
