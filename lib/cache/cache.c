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
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

enum {
    SAVE_PERIOD_S = 60,  /* a guess: what a crash may cost in learned state */
    SEARCHERS = 16,
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
    const rp_space *space = context;
    return rp_encoder_embed_windows(space->encoder, text, storage, out, error);
}

static rp_status
embed_many_with_encoder(void *context, const rp_str *texts, size_t count, float *out)
{
    const rp_space *space = context;
    return rp_encoder_embed(space->encoder, texts, count, out, NULL, NULL);
}

static rp_status
self_test_encoder(void *context, rp_error *error)
{
    const rp_space *space = context;
    return rp_encoder_self_test(space->encoder, error);
}

static rp_status
verify_with_model(void *context, rp_str prompt, rp_str stored, int64_t deadline_us, float *out)
{
    const rp_cache *cache = ((const rp_space *)context)->cache;
    return rp_ask_verifier(cache->verifier, prompt, stored, cache->clock, deadline_us, out);
}

void
rp_embedder_of_encoder(rp_cache *cache, const rp_encoder *encoder, rp_embedder *out)
{
    const rp_str fingerprint = rp_encoder_fingerprint(encoder);
    *out = (rp_embedder){ .dim = rp_encoder_dim(encoder),
                          .embed = embed_with_encoder,
                          .embed_many = embed_many_with_encoder,
                          .self_test = self_test_encoder,
                          .verify = cache->verifier ? verify_with_model : NULL };
    memcpy(out->fingerprint, fingerprint.ptr,
           RP_MIN(fingerprint.len, (size_t)RP_FINGERPRINT_SIZE));
}

/* At the opening: nobody embeds or searches yet. */
static rp_status
use_encoder(rp_cache *cache, rp_encoder *encoder, rp_error *error)
{
    rp_embedder embedder;
    rp_space *space;
    rp_embedder_of_encoder(cache, encoder, &embedder);
    const rp_status status = rp_space_new(cache, &embedder, encoder, &space, error);
    if (status != RP_OK)
        return status;
    rp_space_use(cache, space);
    rp_space_sweep(cache);
    return RP_OK;
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
    with.adapter = NULL; /* merged into a copy: the base stays, for other adapters */
    rp_encoder *base, *encoder;
    status = rp_encoder_open(folder, &with, &base, error);
    if (status != RP_OK)
        return status;
    if (options->encoder_options && options->encoder_options->adapter)
        status = rp_encoder_adapt(base, options->encoder_options->adapter, &encoder, error);
    else
        encoder = rp_encoder_ref(base);
    if (status != RP_OK) {
        rp_encoder_close(base);
        return status;
    }
    rp_encoder_close(cache->base);
    cache->base = base;
    status = use_encoder(cache, encoder, error);
    rp_encoder_close(encoder);
    return status;
}

static rp_precision
wanted_precision(const rp_cache_options *options)
{
    return options->encoder_options ? options->encoder_options->precision : RP_PRECISION_AUTO;
}

/* ---- store -------------------------------------------------------------------------- */

/* Committed: the index may have it, and never holds what the store lacks. */
static void
entry_added(void *context, const rp_entry *entry)
{
    rp_cache *cache = context;
    rp_space *space = rp_space_get(cache);
    if (atomic_load(&space->index_state) != RP_INDEX_NONE && entry->mean &&
        entry->encoder == space->tag && entry->dim == space->embedder.dim)
        rp_space_index_add(space, rp_vector_scope(entry->scope, entry->template_), entry->id,
                           entry->mean);
    rp_space_unref(space);
}

void
rp_cache_forget_all_similarities(rp_cache *cache)
{
    pthread_mutex_lock(&cache->deciders_lock);
    for (rp_named_decider *each = cache->deciders; each; each = each->next)
        rp_decider_forget_similarities(each->decider);
    pthread_mutex_unlock(&cache->deciders_lock);
    atomic_store(&cache->learned, true);
}

void
rp_cache_forget_similarities(rp_cache *cache, rp_entry_id id)
{
    pthread_mutex_lock(&cache->deciders_lock);
    for (rp_named_decider *each = cache->deciders; each; each = each->next)
        rp_decider_forget(each->decider, id);
    pthread_mutex_unlock(&cache->deciders_lock);
}

static void
entry_removed(void *context, rp_entry_id id, rp_scope scope)
{
    rp_cache *cache = context;
    (void)scope;
    rp_space *space = rp_space_get(cache);
    rp_space_removed(space, id);
    rp_space_unref(space);
    rp_cache_forget_similarities(cache, id);
}

static rp_status
open_store(rp_cache *cache, const rp_cache_options *options, uint64_t memory_max, rp_error *error)
{
    const rp_embedder *embedder = &cache->space->embedder;
    const bool embeds = embedder->embed != NULL;
    const rp_store_options with = {
        .folder = options->folder,
        .disk_max = options->disk_max,
        .memory_max = memory_max / 2, /* the other half is the index's */
        .share_max = options->share_max,
        .fingerprint = embeds ? embedder->fingerprint : NULL,
        .dim = embeds ? embedder->dim : 0,
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
    const rp_precision first = rp_encoder_precision(cache->base);
    char wanted[RP_FINGERPRINT_SIZE + 1];
    snprintf(wanted, sizeof wanted, "%s", rp_store_fingerprint(cache->store));
    for (size_t i = 0; i < RP_COUNT(classes); i++) {
        if (classes[i] == first || open_encoder(cache, options, classes[i], NULL) != RP_OK)
            continue;
        if (strcmp(cache->space->embedder.fingerprint, wanted) == 0) {
            rp_store_close(cache->store);
            cache->store = NULL;
            return open_store(cache, options, memory_max, error);
        }
    }
    return open_encoder(cache, options, first, error);
}

/* ---- index -------------------------------------------------------------------------- */

rp_status
rp_cache_index_reload(rp_cache *cache, rp_error *error)
{
    if (rp_cache_semantic(cache))
        return RP_OK;
    if (!rp_store_vectors_usable(cache->store))
        return rp_fail(error, RP_ERR_STALE, "the store's vectors are still of another encoder");
    rp_space *space = rp_space_get(cache);
    atomic_store(&space->index_state, RP_INDEX_LOADING);
    rp_space_load(space);
    rp_space_unref(space);
    return RP_OK;
}

/* Whether vectors made now can be compared with those in the store; says so if not. */
static bool
vectors_are_sound(rp_cache *cache)
{
    const rp_embedder *embedder = &cache->space->embedder;
    if (!embedder->embed)
        return false;
    rp_error error = { { 0 } };
    if (embedder->self_test && embedder->self_test(embedder->context, &error) != RP_OK) {
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
                      rp_store_fingerprint(cache->store), embedder->fingerprint);
        return false;
    }
    return true;
}

/* ---- policies ------------------------------------------------------------------------- */

static const char no_fingerprint[] = "00000000000000000000000000000000";

static void
state_name(const char *name, rp_buffer *out)
{
    rp_buffer_init(out, 0);
    rp_buffer_printf(out, "policy/%s", name);
}

/* A state begins with the fingerprint of the encoder whose similarities it has seen, zeros if
 * there was none; older ones begin with themselves (RPPS, no digits). Take it off. False: it is
 * another encoder's. */
static bool
is_state_of(rp_str *state, rp_str fingerprint)
{
    if (state->len < RP_FINGERPRINT_SIZE || rp_str_starts_with(*state, RP_STR("RPPS")))
        return true;
    const rp_str seen = { state->ptr, RP_FINGERPRINT_SIZE };
    *state = (rp_str){ state->ptr + RP_FINGERPRINT_SIZE, state->len - RP_FINGERPRINT_SIZE };
    return rp_str_equal(seen, fingerprint);
}

static void
restore_decider(rp_cache *cache, const char *name, rp_decider *decider)
{
    rp_buffer key, bytes;
    state_name(name, &key);
    rp_buffer_init(&bytes, 0);
    rp_error error = { { 0 } };
    if (rp_store_state_get(cache->store, rp_buffer_str(&key), &bytes)) {
        const rp_str own = rp_str_of(cache->space->embedder.fingerprint);
        rp_str state = rp_buffer_str(&bytes);
        const bool is_ours = is_state_of(&state, own);
        const rp_status status = rp_decider_restore(decider, state, &error);
        if (status == RP_OK && !is_ours && own.len) { /* without an encoder nothing is similar */
            rp_decider_forget_similarities(decider);
        } else if (status != RP_OK) {
            /* Another policy was configured, or the bytes are damaged: begin anew. */
            rp_cache_count(cache, "failure", "policy-state");
            rp_cache_warn(cache, "the saved state of policy \"%s\" is not used: %s", name,
                          error.text);
        }
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
    rp_space *space = rp_space_get(cache);
    const char *fingerprint = space->embedder.fingerprint;
    for (; each; each = each->next) {
        if (atomic_load(&each->superseded))
            continue;
        char *bytes;
        size_t len;
        rp_status status = rp_decider_save(each->decider, &bytes, &len);
        if (status == RP_OK) {
            rp_buffer key, value;
            state_name(each->name, &key);
            rp_buffer_init(&value, 0);
            rp_buffer_printf(&value, "%.32s", *fingerprint ? fingerprint : no_fingerprint);
            rp_buffer_append(&value, (rp_str){ bytes, len });
            status = rp_buffer_failed(&value)
                         ? RP_ERR_NOMEM
                         : rp_store_state_put(cache->store, rp_buffer_str(&key), rp_buffer_str(&value));
            rp_buffer_fini(&value);
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
    rp_space_unref(space);
    return worst;
}

/* ---- lists ----------------------------------------------------------------------------- */

bool
rp_cache_has_keeper(const rp_cache *cache)
{
    return !cache->read_only || cache->keeper_loads;
}

void
rp_cache_lists_due(rp_cache *cache)
{
    pthread_mutex_lock(&cache->keeper_lock);
    cache->keeper_lists = true;
    pthread_cond_signal(&cache->keeper_wakes);
    pthread_mutex_unlock(&cache->keeper_lock);
}

bool
rp_cache_is_stopping(rp_cache *cache)
{
    pthread_mutex_lock(&cache->keeper_lock);
    const bool stops = cache->keeper_stops;
    pthread_mutex_unlock(&cache->keeper_lock);
    return stops;
}

/* A thread of its own, because it may take a minute and its priority cannot be raised again. */
static void *
make_lists(void *context)
{
    rp_cache *cache = context;
    rp_space *space = rp_space_get(cache);
    pthread_setname_np(pthread_self(), "lister");
    (void)!setpriority(PRIO_PROCESS, (id_t)gettid(), RP_BACKGROUND_NICENESS); /* of this thread alone */
    while (space->index && !rp_cache_is_stopping(cache) && rp_space_is_current(cache, space) &&
           rp_index_tend(space->index))
        ;
    atomic_store(&space->lists_wait, false);
    rp_space_unref(space);
    return NULL;
}

static void
join_lister(rp_cache *cache)
{
    if (cache->lister_runs)
        pthread_join(cache->lister, NULL);
    cache->lister_runs = false;
}

/* Without a thread for it lists come with the next entries. */
static void
start_lister_when_due(rp_cache *cache)
{
    pthread_mutex_lock(&cache->keeper_lock);
    const bool is_due = cache->keeper_lists && !cache->keeper_stops;
    cache->keeper_lists = false;
    pthread_mutex_unlock(&cache->keeper_lock);
    if (!is_due)
        return;
    join_lister(cache); /* which ends soon, or is at work on what is due */
    cache->lister_runs = pthread_create(&cache->lister, NULL, make_lists, cache) == 0;
    if (!cache->lister_runs)
        rp_cache_failed(cache, "lists");
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
    while (!cache->keeper_stops && !cache->keeper_lists && waited == 0)
        waited = pthread_cond_timedwait(&cache->keeper_wakes, &cache->keeper_lock, &until);
    const bool goes_on = !cache->keeper_stops;
    pthread_mutex_unlock(&cache->keeper_lock);
    return goes_on;
}

static void *
keep(void *context)
{
    rp_cache *cache = context;
    rp_space *first = rp_space_get(cache);
    if (cache->keeper_loads)
        rp_space_load(first);
    rp_space_unref(first);
    while (wait_for_next_save(cache)) {
        start_lister_when_due(cache);
        rp_space_sweep(cache);
        if (rp_cache_save(cache, NULL) != RP_OK)
            continue; /* counted; tried again after the next period */
        rp_space *space = rp_space_get(cache);
        if (space->index)
            rp_recall_check(&space->recall, space->index);
        rp_space_unref(space);
    }
    join_lister(cache);
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
    cache->index_options = (rp_index_options){
        .count_max = options->entries_max,
        .lists_from = options->lists_from,
        .without_originals = options->vectors_on_disk,
        .searchers_max = options->searchers_max ? options->searchers_max : SEARCHERS,
    };
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
    if (!embedder && options->encoder) {
        cache->base = rp_encoder_ref((rp_encoder *)(uintptr_t)options->encoder);
        return use_encoder(cache, cache->base, error);
    }
    if (!embedder && options->model)
        return open_encoder(cache, options, wanted_precision(options), error);
    /* Else exact tier only, as asked. */
    return rp_space_new(cache, embedder, NULL, &cache->space, error);
}

/* An exchange of the encoder that was cut off goes on. */
static rp_status
start_renewer(rp_cache *cache, const rp_cache_options *options, rp_error *error)
{
    if (options->read_only || !options->load_in_background || !rp_renewer_is_due(cache))
        return RP_OK;
    return rp_renewer_start(cache, error);
}

static rp_status
start(rp_cache *cache, const rp_cache_options *options, rp_error *error)
{
    if (vectors_are_sound(cache)) {
        rp_space *space = cache->space;
        rp_store_stats stats;
        rp_store_stats_get(cache->store, &stats);
        atomic_store(&space->vectors_expected, stats.entries);
        atomic_store(&space->index_state, RP_INDEX_LOADING);
        if (!options->load_in_background)
            rp_space_load(space);
        const rp_status status = start_renewer(cache, options, error);
        if (status != RP_OK)
            return status;
        cache->keeper_loads = options->load_in_background && !cache->renewer_runs;
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
    pthread_mutex_init(&cache->space_lock, NULL);
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
    /* Before the store, whose writer may report a removal as soon as it runs. The index stays
     * empty and unused if the vectors turn out not to be comparable. */
    if (status == RP_OK)
        status = choose_embedder(cache, options, embedder, error);
    if (status == RP_OK)
        status = open_store(cache, options, memory_max, error);
    if (status == RP_OK && cache->base && !options->encoder && wanted_precision(options) == RP_PRECISION_AUTO &&
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
    rp_renewer_stop(cache);
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
    rp_spaces_fini(cache);
    rp_encoder_close(cache->base);
    rp_verifier_close(cache->verifier);
    free(cache->recent_entries);
    free(cache->recent_requests);
    pthread_cond_destroy(&cache->keeper_wakes);
    rp_templates_fini(cache);
    pthread_mutex_destroy(&cache->recent_lock);
    pthread_mutex_destroy(&cache->keeper_lock);
    pthread_mutex_destroy(&cache->deciders_lock);
    pthread_mutex_destroy(&cache->space_lock);
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
    return cache->base;
}

rp_encoder *
rp_cache_encoder_ref(rp_cache *cache)
{
    rp_space *space = rp_space_get(cache);
    rp_encoder *encoder = space->encoder ? rp_encoder_ref(space->encoder) : NULL;
    rp_space_unref(space);
    return encoder;
}

static int
index_state(rp_cache *cache)
{
    rp_space *space = rp_space_get(cache);
    const int state = atomic_load(&space->index_state);
    rp_space_unref(space);
    return state;
}

bool
rp_cache_semantic(rp_cache *cache)
{
    return index_state(cache) == RP_INDEX_READY;
}

bool
rp_cache_makes_vectors(rp_cache *cache)
{
    return index_state(cache) != RP_INDEX_NONE;
}

bool
rp_cache_ready(rp_cache *cache)
{
    return index_state(cache) != RP_INDEX_LOADING;
}

static double
loaded_share(const rp_space *space)
{
    if (atomic_load(&space->index_state) != RP_INDEX_LOADING)
        return 1;
    const double expected = (double)atomic_load(&space->vectors_expected);
    const double loaded = (double)atomic_load(&space->vectors_loaded);
    return expected > 0 ? fmin(loaded / expected, 1) : 0;
}

void
rp_cache_stats_get(rp_cache *cache, rp_cache_stats *out)
{
    rp_store_stats store;
    rp_space *space = rp_space_get(cache);
    rp_store_stats_get(cache->store, &store);
    *out = (rp_cache_stats){
        .ready = rp_cache_ready(cache),
        .semantic = rp_cache_semantic(cache),
        .loaded_share = loaded_share(space),
        .entries = store.entries,
        .vectors = space->index ? rp_index_count(space->index) : 0,
        .lists_ready = !atomic_load(&space->lists_wait),
        .index_lists = space->index ? rp_index_lists(space->index) : 0,
        .index_bytes = space->index ? rp_index_size_bytes(space->index) : 0,
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
        .recall_found = atomic_load(&space->recall.found),
        .recall_missed = atomic_load(&space->recall.missed),
        .recall_missed_far = atomic_load(&space->recall.missed_far),
        .admission_paused = store.admission_paused,
        .reembed_waiting = atomic_load(&cache->renewal_waiting),
    };
    pthread_mutex_lock(&cache->deciders_lock);
    for (rp_named_decider *each = cache->deciders; each; each = each->next)
        out->policy_bytes += rp_decider_size_bytes(each->decider);
    pthread_mutex_unlock(&cache->deciders_lock);
    if (space->embedder.embed)
        memcpy(out->fingerprint, space->embedder.fingerprint, RP_FINGERPRINT_SIZE);
    rp_space_unref(space);
}
