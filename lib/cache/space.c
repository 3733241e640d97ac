/* space.c - an encoder, the vectors it made and the index that finds them, exchanged as one.
 *
 * Vectors of two encoders must never be compared. So a query takes a reference to the space in use
 * when it is prepared, is embedded by that space's encoder and searches that space's index, however
 * long it takes; every stored vector carries its encoder's tag, and neither the store nor the
 * index takes one of another. An exchange makes a new space with an empty index, lets the store
 * know (durably: from then on older vectors are not shown), and puts it in the place of the old
 * one, which goes when nobody refers to it any more.
 *
 * What was stored before answers its own repeat meanwhile, and gets vectors of the new encoder in
 * the background, one after the other, on a thread of low priority. That goes on after a
 * restart: while it is under way the state "renewal" names the encoder. */
#include "cache/cache_internal.h"

#include "base/bytes.h"
#include "base/hash.h"

#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

enum {
    ENTRY_OVERHEAD = 40, /* bytes of an indexed vector besides codes, signs and original: its id, its
                            places in tables, room to grow; measured: bench search */
};

/* ---- life ------------------------------------------------------------------------------ */

static void
free_space(rp_space *space)
{
    rp_recall_fini(&space->recall);
    rp_index_free(space->index);
    rp_encoder_close(space->encoder);
    pthread_mutex_destroy(&space->loading_lock);
    free(space->removed);
    free(space);
}

void
rp_space_unref(rp_space *space)
{
    if (space && atomic_fetch_sub_explicit(&space->refs, 1, memory_order_acq_rel) == 1)
        free_space(space);
}

rp_space *
rp_space_ref(rp_space *space)
{
    atomic_fetch_add_explicit(&space->refs, 1, memory_order_relaxed);
    return space;
}

rp_space *
rp_space_get(rp_cache *cache)
{
    pthread_mutex_lock(&cache->space_lock);
    rp_space *space = cache->space ? rp_space_ref(cache->space) : NULL;
    pthread_mutex_unlock(&cache->space_lock);
    return space;
}

bool
rp_space_is_current(rp_cache *cache, const rp_space *space)
{
    pthread_mutex_lock(&cache->space_lock);
    const bool is_current = cache->space == space;
    pthread_mutex_unlock(&cache->space_lock);
    return is_current;
}

/* As many as the index's half of the memory takes, unless it was said how many. */
static rp_index_options
plan_index(const rp_cache *cache, size_t dim)
{
    rp_index_options options = cache->index_options;
    const uint64_t original = options.without_originals ? 0 : dim * sizeof(float);
    const uint64_t per_vector = original + dim + dim / 8 + ENTRY_OVERHEAD;
    options.dim = dim;
    if (!options.count_max)
        options.count_max = (size_t)RP_MAX(cache->memory_max / 2 / per_vector, (uint64_t)1024);
    return options;
}

rp_status
rp_space_new(rp_cache *cache, const rp_embedder *embedder, rp_encoder *encoder, rp_space **out,
             rp_error *error)
{
    rp_space *space = calloc(1, sizeof *space);
    if (!space)
        return rp_fail(error, RP_ERR_NOMEM, "no memory for an encoder's vectors");
    atomic_init(&space->refs, 1);
    pthread_mutex_init(&space->loading_lock, NULL);
    space->cache = cache;
    if (encoder)
        space->encoder = rp_encoder_ref(encoder);
    if (embedder && embedder->embed) {
        space->embedder = *embedder;
        if (encoder)
            space->embedder.context = space;
        space->tag = rp_hash64(rp_str_of(space->embedder.fingerprint));
        const rp_index_options options = plan_index(cache, embedder->dim);
        const rp_status status = rp_index_new(&options, &space->index);
        if (status != RP_OK || !rp_recall_init(&space->recall, options.dim)) {
            rp_space_unref(space);
            return rp_fail(error, status ? status : RP_ERR_NOMEM,
                           "cannot make an index of %zu vectors of %zu numbers", options.count_max,
                           options.dim);
        }
    }
    *out = space;
    return RP_OK;
}

void
rp_space_use(rp_cache *cache, rp_space *space)
{
    pthread_mutex_lock(&cache->space_lock);
    rp_space *before = cache->space;
    cache->space = space;
    if (before) {
        before->retired = cache->retired;
        cache->retired = before;
    }
    pthread_mutex_unlock(&cache->space_lock);
}

/* The last reference is dropped here rather than where the last request ends: giving an index
 * back takes milliseconds, which no loop has. */
void
rp_space_sweep(rp_cache *cache)
{
    rp_space *gone = NULL;
    pthread_mutex_lock(&cache->space_lock);
    for (rp_space **at = &cache->retired; *at;) {
        rp_space *space = *at;
        if (atomic_load_explicit(&space->refs, memory_order_acquire) == 1) {
            *at = space->retired;
            space->retired = gone;
            gone = space;
        } else {
            at = &space->retired;
        }
    }
    pthread_mutex_unlock(&cache->space_lock);
    while (gone) {
        rp_space *next = gone->retired;
        rp_space_unref(gone);
        gone = next;
    }
}

void
rp_spaces_fini(rp_cache *cache)
{
    while (cache->retired) {
        rp_space *next = cache->retired->retired;
        rp_space_unref(cache->retired);
        cache->retired = next;
    }
    rp_space_unref(cache->space);
    cache->space = NULL;
}

/* ---- the index ------------------------------------------------------------------------- */

void
rp_space_index_add(rp_space *space, rp_scope scope, rp_entry_id id, const float *vector)
{
    const rp_status status = rp_index_add(space->index, scope, id, vector);
    if (status != RP_OK && status != RP_ERR_EXISTS)
        rp_cache_failed(space->cache, status == RP_ERR_LIMIT ? "index-full" : "index-add");
}

/* While somebody adds what he has read from the store, he may be about to add what goes here:
 * note it, so that it is taken out again at the end. */
static void
note_removed(rp_space *space, rp_entry_id id)
{
    pthread_mutex_lock(&space->loading_lock);
    if (space->fillers) {
        if (space->removed_count == space->removed_capacity) {
            const size_t capacity = space->removed_capacity ? space->removed_capacity * 2 : 256;
            rp_entry_id *grown = realloc(space->removed, capacity * sizeof *grown);
            if (grown) {
                space->removed = grown;
                space->removed_capacity = capacity;
            }
        }
        if (space->removed_count < space->removed_capacity)
            space->removed[space->removed_count++] = id;
        /* else no memory to note it: the search filters it anyway */
    }
    pthread_mutex_unlock(&space->loading_lock);
}

void
rp_space_removed(rp_space *space, rp_entry_id id)
{
    if (!space->index)
        return;
    note_removed(space, id);
    rp_index_remove(space->index, id);
}

static void
begin_filling(rp_space *space)
{
    pthread_mutex_lock(&space->loading_lock);
    space->fillers++;
    pthread_mutex_unlock(&space->loading_lock);
}

/* Then the index is in use, if it was not. */
static void
end_filling(rp_space *space)
{
    pthread_mutex_lock(&space->loading_lock);
    for (size_t i = 0; i < space->removed_count; i++)
        rp_index_remove(space->index, space->removed[i]);
    if (--space->fillers == 0) {
        free(space->removed);
        space->removed = NULL;
        space->removed_count = space->removed_capacity = 0;
    }
    atomic_store(&space->index_state, RP_INDEX_READY);
    pthread_mutex_unlock(&space->loading_lock);
}

static bool
load_vector(void *context, rp_entry_id id, rp_scope scope, const float *mean, size_t dim)
{
    rp_space *space = context;
    if (dim == space->embedder.dim)
        rp_space_index_add(space, scope, id, mean);
    atomic_fetch_add_explicit(&space->vectors_loaded, 1, memory_order_relaxed);
    return !rp_cache_is_stopping(space->cache) && !atomic_load(&space->cache->renewer_stops);
}

void
rp_space_load(rp_space *space)
{
    rp_cache *cache = space->cache;
    rp_error error = { { 0 } };
    /* Lists take ten times as long as all the rest, and searches find everything without. */
    const bool lists_later = rp_cache_has_keeper(cache);
    if (lists_later) {
        atomic_store(&space->lists_wait, true);
        rp_index_hold_lists(space->index, true);
    }
    begin_filling(space);
    const rp_status status = rp_store_walk_vectors(cache->store, load_vector, space, &error);
    if (status != RP_OK) {
        rp_cache_failed(cache, "index-load");
        rp_cache_warn(cache, "the index could not be loaded whole: %s", error.text);
    }
    end_filling(space);
    if (lists_later) {
        rp_index_hold_lists(space->index, false);
        rp_cache_lists_due(cache);
    }
}

/* ---- making vectors anew ----------------------------------------------------------------- */

static const char renewal[] = "renewal";

/* One entry's vectors. False: it has them, can have none, or (*failed) they could not be made. */
static bool
renew_entry(rp_space *space, const rp_place *place, float *storage, bool *failed)
{
    rp_cache *cache = space->cache;
    const rp_embedder *embedder = &space->embedder;
    const rp_entry *entry = rp_store_get(cache->store, place->scope, place->id, RP_PART_VECTORS);
    if (!entry)
        return false;
    const bool has_them = entry->mean && entry->encoder == space->tag;
    bool done = false;
    if (!has_them && entry->prompt.len && !(entry->flags & RP_ENTRY_APART)) {
        const rp_str fuzzy =
            rp_templates_cut_stored(cache, &place->scope, entry->prompt, entry->template_);
        rp_embedding embedding;
        const rp_status status =
            embedder->embed(embedder->context, fuzzy, storage, &embedding, NULL);
        done = status == RP_OK &&
               rp_store_vectors_replace(cache->store, place->id, space->tag, embedder->dim,
                                        embedding.window_count, embedding.windows,
                                        embedding.mean) == RP_OK;
        if (done) {
            rp_cache_forget_similarities(cache, place->id);
            rp_index_remove(space->index, place->id);
            rp_space_index_add(space, rp_vector_scope(place->scope, entry->template_), place->id,
                               embedding.mean);
        } else if (status != RP_ERR_LIMIT) { /* too long: exact tier only, as before */
            rp_cache_failed(cache, "reembed");
            *failed = true;
        }
    }
    rp_entry_unref(entry);
    return done;
}

/* Returns how many were made. */
static size_t
renew_all(rp_space *space, float *storage, bool *failed)
{
    rp_cache *cache = space->cache;
    const rp_store_selector all = { 0 };
    rp_places places;
    size_t renewed = 0;
    if (rp_places_collect(cache, &all, UINT64_MAX, &places, NULL) != RP_OK) {
        rp_cache_failed(cache, "reembed");
        *failed = true;
        return 0;
    }
    begin_filling(space);
    for (size_t i = 0; i < places.count && !atomic_load(&cache->renewer_stops); i++) {
        atomic_store_explicit(&cache->renewal_waiting, places.count - i, memory_order_relaxed);
        renewed += renew_entry(space, &places.items[i], storage, failed);
    }
    end_filling(space);
    rp_places_fini(&places);
    return renewed;
}

static void *
renew(void *context)
{
    rp_cache *cache = context;
    rp_space *space = rp_space_get(cache);
    float *storage = malloc((RP_WINDOWS_MAX + 1) * space->embedder.dim * sizeof *storage);
    pthread_setname_np(pthread_self(), "renewer");
    (void)!setpriority(PRIO_PROCESS, (id_t)gettid(), RP_BACKGROUND_NICENESS); /* of this thread alone */
    if (atomic_load(&space->index_state) == RP_INDEX_LOADING)
        rp_space_load(space);
    /* Once more for what was stored meanwhile with vectors of the encoder before. */
    bool failed = !storage;
    while (!failed && renew_all(space, storage, &failed) && !atomic_load(&cache->renewer_stops))
        ;
    /* What failed is looked at again after the next start. */
    if (!failed && !atomic_load(&cache->renewer_stops) &&
        (rp_store_sync(cache->store) != RP_OK ||
         rp_store_state_put(cache->store, rp_str_of(renewal), RP_STR("")) != RP_OK))
        rp_cache_failed(cache, "reembed");
    atomic_store(&cache->renewal_waiting, 0);
    free(storage);
    rp_space_unref(space);
    return NULL;
}

bool
rp_renewer_is_due(rp_cache *cache)
{
    rp_buffer named;
    rp_buffer_init(&named, 0);
    const bool is_due =
        rp_store_state_get(cache->store, rp_str_of(renewal), &named) &&
        rp_str_equal(rp_buffer_str(&named), rp_str_of(cache->space->embedder.fingerprint));
    rp_buffer_fini(&named);
    return is_due;
}

rp_status
rp_renewer_start(rp_cache *cache, rp_error *error)
{
    atomic_store(&cache->renewer_stops, false);
    atomic_store(&cache->renewal_waiting, 1); /* until it has counted */
    if (pthread_create(&cache->renewer, NULL, renew, cache) != 0) {
        atomic_store(&cache->renewal_waiting, 0);
        return rp_fail(error, RP_ERR_NOMEM, "the system gives no further thread");
    }
    cache->renewer_runs = true;
    return RP_OK;
}

void
rp_renewer_stop(rp_cache *cache)
{
    if (!cache->renewer_runs)
        return;
    atomic_store(&cache->renewer_stops, true);
    pthread_join(cache->renewer, NULL);
    cache->renewer_runs = false;
}

/* ---- the exchange ------------------------------------------------------------------------ */

/* Tell the store. In this order: cut off between the two, a start looks through the entries and
 * finds nothing to do. */
static rp_status
change_store(rp_cache *cache, const rp_embedder *embedder, rp_error *error)
{
    rp_status status = rp_store_state_put(cache->store, rp_str_of(renewal),
                                          rp_str_of(embedder->fingerprint));
    if (status == RP_OK)
        status = rp_store_encoder_change(cache->store, embedder->fingerprint, embedder->dim);
    if (status == RP_OK)
        return RP_OK;
    return rp_fail(error, status, "the store does not take another encoder's vectors: %s",
                   rp_status_name(status));
}

rp_status
rp_cache_exchange(rp_cache *cache, const rp_embedder *embedder, rp_encoder *encoder,
                  rp_error *error)
{
    rp_space *space;
    if (cache->read_only)
        return rp_fail(error, RP_ERR_UNSUPPORTED, "the cache was opened for reading only");
    rp_status status = rp_space_new(cache, embedder, encoder, &space, error);
    if (status != RP_OK)
        return status;
    if (space->embedder.self_test &&
        space->embedder.self_test(space->embedder.context, error) != RP_OK) {
        rp_space_unref(space);
        return RP_ERR_CORRUPT;
    }
    const bool was_renewing = cache->renewer_runs;
    rp_renewer_stop(cache);
    status = change_store(cache, &space->embedder, error);
    if (status != RP_OK) {
        rp_space_unref(space);
        if (was_renewing)
            (void)!rp_renewer_start(cache, NULL);
        return status;
    }
    const rp_recall *before = &cache->space->recall;
    atomic_init(&space->recall.found, atomic_load(&before->found));
    atomic_init(&space->recall.missed, atomic_load(&before->missed));
    atomic_init(&space->recall.missed_far, atomic_load(&before->missed_far));
    atomic_store(&space->index_state, RP_INDEX_LOADING);
    rp_space_use(cache, space);
    rp_cache_forget_recent(cache); /* outcomes of the old similarities */
    rp_cache_forget_all_similarities(cache);
    if (rp_renewer_start(cache, NULL) != RP_OK) {
        rp_cache_failed(cache, "reembed");
        rp_space_load(space);
    }
    return RP_OK;
}

rp_status
rp_cache_adapt(rp_cache *cache, const char *adapter, bool *changed, rp_error *error)
{
    rp_encoder *encoder;
    rp_embedder embedder;
    *changed = false;
    if (!cache->base)
        return rp_fail(error, RP_ERR_UNSUPPORTED, "there is no encoder to adapt");
    rp_status status = RP_OK;
    if (adapter)
        status = rp_encoder_adapt(cache->base, adapter, &encoder, error);
    else
        encoder = rp_encoder_ref(cache->base);
    if (status != RP_OK)
        return status;
    rp_embedder_of_encoder(cache, encoder, &embedder);
    /* Only the thread that calls this changes cache->space. */
    if (strcmp(embedder.fingerprint, cache->space->embedder.fingerprint) != 0) {
        status = rp_cache_exchange(cache, &embedder, encoder, error);
        *changed = status == RP_OK;
    }
    rp_encoder_close(encoder);
    return status;
}
