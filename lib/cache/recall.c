/* recall.c - the recall self-test: see recall.h. */
#include "cache/recall.h"

#include <stdlib.h>
#include <string.h>

bool
rp_recall_init(rp_recall *recall, size_t dim)
{
    memset(recall, 0, sizeof *recall);
    pthread_mutex_init(&recall->lock, NULL);
    recall->dim = dim;
    recall->vectors = calloc(RP_RECALL_KEPT * dim, sizeof *recall->vectors);
    return recall->vectors != NULL;
}

void
rp_recall_fini(rp_recall *recall)
{
    if (!recall->dim)
        return; /* never begun */
    pthread_mutex_destroy(&recall->lock);
    free(recall->vectors);
    memset(recall, 0, sizeof *recall);
}

void
rp_recall_sample(rp_recall *recall, rp_scope scope, const float *vector)
{
    const uint64_t number =
        atomic_fetch_add_explicit(&recall->searches, 1, memory_order_relaxed);
    if (number % RP_RECALL_EVERY != 0 || pthread_mutex_trylock(&recall->lock) != 0)
        return; /* the keeper takes some out just now: the next one is as good */
    if (recall->kept < RP_RECALL_KEPT) {
        recall->scopes[recall->kept] = scope;
        memcpy(recall->vectors + recall->kept * recall->dim, vector, recall->dim * sizeof *vector);
        recall->kept++;
    }
    pthread_mutex_unlock(&recall->lock);
}

static bool
take_one(rp_recall *recall, rp_scope *scope, float *vector)
{
    pthread_mutex_lock(&recall->lock);
    const bool has_one = recall->kept > 0;
    if (has_one) {
        recall->kept--;
        *scope = recall->scopes[recall->kept];
        memcpy(vector, recall->vectors + recall->kept * recall->dim, recall->dim * sizeof *vector);
    }
    pthread_mutex_unlock(&recall->lock);
    return has_one;
}

/* Returns 1 if the search finds the nearest, 0 if not, -1 if there is nothing to find. */
static int
finds_nearest(rp_index *index, rp_scope scope, const float *vector, float *nearest)
{
    rp_neighbor exact, near;
    if (rp_index_search_exact(index, scope, vector, 1, &exact) == 0)
        return -1;
    *nearest = exact.similarity;
    return rp_index_search(index, scope, vector, 1, &near) == 1 &&
           near.similarity >= exact.similarity - 1e-5f; /* equals and newer ones are as good */
}

void
rp_recall_check(rp_recall *recall, rp_index *index)
{
    const float answer_min = 0.8f;
    rp_scope scope;
    float vector[RP_DIM_MAX], nearest;
    while (take_one(recall, &scope, vector)) {
        int finds = finds_nearest(index, scope, vector, &nearest);
        if (finds == 0) /* or it was removed between the two searches: once more */
            finds = finds_nearest(index, scope, vector, &nearest);
        if (finds == 1)
            atomic_fetch_add_explicit(&recall->found, 1, memory_order_relaxed);
        else if (finds == 0)
            atomic_fetch_add_explicit(nearest >= answer_min ? &recall->missed : &recall->missed_far,
                                      1, memory_order_relaxed);
    }
}
