/* forget.c - invalidate, flush, and making all vectors anew.
 *
 * Entries are collected first and removed afterwards: the walk reads in short
 * transactions, and nothing is written while it is open. */
#include "cache/cache_internal.h"

#include "base/bytes.h"

#include <stdlib.h>

enum { REMOVE_BATCH = 1024 };

/* ---- collecting ------------------------------------------------------------------------ */

typedef struct collector {
    rp_places *places;
    rp_entry_id id_end;
    bool failed;
} collector;

static bool
collect(void *context, const rp_entry *entry)
{
    collector *collecting = context;
    rp_places *places = collecting->places;
    if (entry->id >= collecting->id_end)
        return true;
    if (places->count == places->capacity) {
        const size_t capacity = places->capacity ? places->capacity * 2 : 256;
        rp_place *grown = realloc(places->items, capacity * sizeof *grown);
        if (!grown) {
            collecting->failed = true;
            return false;
        }
        places->items = grown;
        places->capacity = capacity;
    }
    places->items[places->count++] = (rp_place){ entry->id, entry->scope };
    return true;
}

rp_status
rp_places_collect(rp_cache *cache, const rp_store_selector *selector, rp_entry_id id_end,
                  rp_places *out, rp_error *error)
{
    *out = (rp_places){ 0 };
    collector collecting = { out, id_end, false };
    rp_store_walk(cache->store, selector, 0, collect, &collecting);
    if (!collecting.failed)
        return RP_OK;
    rp_places_fini(out);
    return rp_fail(error, RP_ERR_NOMEM, "no memory for the list of entries");
}

void
rp_places_fini(rp_places *places)
{
    free(places->items);
    *places = (rp_places){ 0 };
}

static size_t
remove_places(rp_cache *cache, const rp_places *places)
{
    rp_entry_id batch[REMOVE_BATCH];
    size_t removed = 0;
    for (size_t at = 0; at < places->count;) {
        size_t count = 0;
        while (count < REMOVE_BATCH && at < places->count)
            batch[count++] = places->items[at++].id;
        removed += rp_store_remove(cache->store, batch, count);
    }
    return removed;
}

rp_status
rp_selector_translate(rp_cache *cache, const rp_cache_selector *selector, rp_store_selector *out,
                      rp_error *error)
{
    *out = (rp_store_selector){ .tenant = selector->tenant,
                                .namespace_name = selector->namespace_name,
                                .model = selector->model,
                                .tag = selector->tag };
    out->older_than_us = selector->older_than_seconds > INT64_MAX / 1000000
                             ? INT64_MAX
                             : (int64_t)selector->older_than_seconds * 1000000;
    if (selector->entry.len && !rp_store_id_decode(cache->store, selector->entry, &out->id))
        return rp_fail(error, RP_ERR_INVALID, "an entry is named by 32 hexadecimal digits");
    return RP_OK;
}

/* ---- invalidate and flush --------------------------------------------------------------- */

rp_status
rp_cache_invalidate(rp_cache *cache, const rp_cache_selector *selector, bool confirm,
                    size_t *matched, size_t *removed, rp_error *error)
{
    const bool selects = selector->namespace_name.len || selector->model.len || selector->tag.len ||
                         selector->entry.len || selector->older_than_seconds;
    if (!selects)
        return rp_fail(error, RP_ERR_INVALID,
                       "say which entries: entry, tag, namespace, model or older_than_seconds "
                       "(flush removes all)");
    rp_store_selector which;
    rp_status status = rp_selector_translate(cache, selector, &which, error);
    rp_places places;
    if (status == RP_OK)
        status = rp_places_collect(cache, &which, UINT64_MAX, &places, error);
    if (status != RP_OK)
        return status;
    *matched = places.count;
    *removed = confirm ? remove_places(cache, &places) : 0;
    rp_places_fini(&places);
    return RP_OK;
}

rp_status
rp_cache_flush(rp_cache *cache, rp_str tenant, size_t *removed, rp_error *error)
{
    char name[RP_TENANT_SIZE_MAX + 2] = "t/";
    if (cache->read_only)
        return rp_fail(error, RP_ERR_UNSUPPORTED, "the cache was opened for reading only");
    if (tenant.len > RP_TENANT_SIZE_MAX)
        return rp_fail(error, RP_ERR_INVALID, "a tenant has at most %d bytes",
                       (int)RP_TENANT_SIZE_MAX);
    if (tenant.len)
        memcpy(name + 2, tenant.ptr, tenant.len);
    /* The epoch makes everything unreachable at once; what follows only reclaims space, and
     * must not take what was stored meanwhile. Ids tell the two apart; times do not: an import
     * brings old ones, and clocks are set back. What is stored between this line and the epoch
     * is out of reach and keeps its space until it expires or is evicted. */
    const rp_entry_id id_end = rp_store_id_next(cache->store);
    rp_status status = rp_store_epoch_bump(
        cache->store, tenant.len ? (rp_str){ name, tenant.len + 2 } : RP_STR(""));
    if (status != RP_OK)
        return rp_fail(error, status, "the flush could not be committed: %s",
                       rp_status_name(status));
    const rp_store_selector which = { .tenant = tenant };
    rp_places places;
    status = rp_places_collect(cache, &which, id_end, &places, error);
    if (status != RP_OK)
        return status;
    *removed = remove_places(cache, &places);
    rp_places_fini(&places);
    return RP_OK;
}

/* ---- reembed --------------------------------------------------------------------------------- */

/* Vectors of one entry anew. False: it has none to make, or they could not be made. */
static bool
reembed_entry(rp_space *space, const rp_place *place, float *storage)
{
    rp_cache *cache = space->cache;
    const rp_embedder *embedder = &space->embedder;
    const rp_entry *entry = rp_store_get(cache->store, place->scope, place->id, 0);
    if (!entry)
        return false;
    /* An entry without a vector may have been stored while there was no encoder: give it
     * one. Only those that have no fuzzy part can never have one, or must not. */
    const bool wanted = entry->prompt.len > 0 && !(entry->flags & RP_ENTRY_APART);
    /* As it was embedded, if its template is known by now. If not it goes whole into a scope of
     * cut prompts, where it resembles nothing. */
    const rp_str fuzzy =
        rp_templates_cut_stored(cache, &place->scope, entry->prompt, entry->template_);
    rp_embedding embedding;
    const rp_status status =
        wanted ? embedder->embed(embedder->context, fuzzy, storage, &embedding, NULL)
               : RP_ERR_UNSUPPORTED;
    const bool done = status == RP_OK &&
                      rp_store_vectors_replace(cache->store, place->id, space->tag, embedder->dim,
                                               embedding.window_count, embedding.windows,
                                               embedding.mean) == RP_OK;
    if (done && rp_cache_semantic(cache)) {
        rp_index_remove(space->index, place->id);
        rp_space_index_add(space, rp_vector_scope(place->scope, entry->template_), place->id,
                           embedding.mean);
    }
    if (wanted && !done && status != RP_ERR_LIMIT) /* too long: exact tier only, as before */
        rp_cache_failed(cache, "reembed");
    rp_entry_unref(entry);
    return done;
}

/* The space is the caller's. */
static rp_status
reembed_all(rp_space *space, rp_cache_progress *progress, void *context, rp_error *error)
{
    rp_cache *cache = space->cache;
    const rp_embedder *embedder = &space->embedder;
    if (!embedder->embed)
        return rp_fail(error, RP_ERR_UNSUPPORTED, "there is no encoder to embed with");
    if (cache->read_only)
        return rp_fail(error, RP_ERR_UNSUPPORTED, "the cache was opened for reading only");
    if (!rp_cache_ready(cache))
        return rp_fail(error, RP_ERR_BUSY, "the index is still being loaded");
    if (embedder->self_test && embedder->self_test(embedder->context, error) != RP_OK)
        return RP_ERR_CORRUPT;
    rp_places places;
    const rp_store_selector all = { 0 };
    rp_status status = rp_places_collect(cache, &all, UINT64_MAX, &places, error);
    if (status != RP_OK)
        return status;
    float *storage = malloc((RP_WINDOWS_MAX + 1) * embedder->dim * sizeof *storage);
    status = storage ? RP_OK : RP_ERR_NOMEM;
    /* The store shows new vectors only after the fingerprint was set: cut off half-way,
     * it is as it was. */
    for (size_t i = 0; status == RP_OK && i < places.count; i++) {
        reembed_entry(space, &places.items[i], storage);
        if (progress)
            progress(context, i + 1, places.count);
    }
    if (status == RP_OK)
        status = rp_store_fingerprint_set(cache->store, embedder->fingerprint, embedder->dim);
    free(storage);
    rp_places_fini(&places);
    if (status != RP_OK)
        return rp_fail(error, status, "the vectors could not be made anew: %s",
                       rp_status_name(status));
    return rp_cache_index_reload(cache, error);
}

rp_status
rp_cache_reembed(rp_cache *cache, rp_cache_progress *progress, void *context, rp_error *error)
{
    rp_space *space = rp_space_get(cache);
    const rp_status status = reembed_all(space, progress, context, error);
    rp_space_unref(space);
    return status;
}
