/* adapters.c - a short list under a lock; what takes time happens outside of it. */
#include "embed/adapters.h"

#include "base/bytes.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

typedef struct named_adapter {
    char *name;          /* owned */
    rp_encoder *encoder; /* referenced */
} named_adapter;

struct rp_adapters {
    pthread_mutex_t lock; /* a leaf */
    rp_encoder *base;     /* referenced */
    named_adapter items[RP_ADAPTERS_MAX];
    size_t count;
};

rp_status
rp_adapters_new(rp_encoder *base, rp_adapters **out, rp_error *error)
{
    rp_adapters *set = calloc(1, sizeof *set);
    if (!set)
        return rp_fail(error, RP_ERR_NOMEM, "no memory for a set of adapters");
    pthread_mutex_init(&set->lock, NULL);
    set->base = rp_encoder_ref(base);
    *out = set;
    return RP_OK;
}

void
rp_adapters_free(rp_adapters *set)
{
    if (!set)
        return;
    for (size_t i = 0; i < set->count; i++) {
        free(set->items[i].name);
        rp_encoder_close(set->items[i].encoder);
    }
    rp_encoder_close(set->base);
    pthread_mutex_destroy(&set->lock);
    free(set);
}

/* Under the lock. */
static named_adapter *
find(rp_adapters *set, const char *name)
{
    for (size_t i = 0; i < set->count; i++)
        if (strcmp(set->items[i].name, name) == 0)
            return &set->items[i];
    return NULL;
}

rp_status
rp_adapters_load(rp_adapters *set, const char *name, const char *folder, rp_error *error)
{
    rp_encoder *encoder;
    const rp_status status = rp_encoder_adapt(set->base, folder, &encoder, error);
    if (status)
        return status;
    rp_encoder *old = encoder; /* what is to be closed in the end */
    char *copy = strdup(name);
    bool full = false;
    pthread_mutex_lock(&set->lock);
    named_adapter *item = find(set, name);
    if (item) {
        old = item->encoder;
        item->encoder = encoder;
    } else if (copy && set->count < RP_ADAPTERS_MAX) {
        set->items[set->count++] = (named_adapter){ copy, encoder };
        copy = NULL;
        old = NULL;
    } else {
        full = copy != NULL;
    }
    pthread_mutex_unlock(&set->lock);
    const bool kept = old != encoder;
    rp_encoder_close(old);
    free(copy);
    if (kept)
        return RP_OK;
    if (full)
        return rp_fail(error, RP_ERR_LIMIT, "%d adapters are as many as there may be",
                       RP_ADAPTERS_MAX);
    return rp_fail(error, RP_ERR_NOMEM, "no memory for an adapter's name");
}

bool
rp_adapters_remove(rp_adapters *set, const char *name)
{
    named_adapter gone = { 0 };
    pthread_mutex_lock(&set->lock);
    named_adapter *item = find(set, name);
    if (item) {
        gone = *item;
        *item = set->items[--set->count];
    }
    pthread_mutex_unlock(&set->lock);
    free(gone.name);
    rp_encoder_close(gone.encoder);
    return item != NULL;
}

rp_encoder *
rp_adapters_get(rp_adapters *set, const char *name)
{
    pthread_mutex_lock(&set->lock);
    named_adapter *item = name ? find(set, name) : NULL;
    rp_encoder *found = item ? item->encoder : name ? NULL : set->base;
    if (found)
        (void)rp_encoder_ref(found);
    pthread_mutex_unlock(&set->lock);
    return found;
}

size_t
rp_adapters_count(rp_adapters *set)
{
    pthread_mutex_lock(&set->lock);
    const size_t count = set->count;
    pthread_mutex_unlock(&set->lock);
    return count;
}
