/* recall.h - does the index find what is there?
 *
 * The index looks near a query only; what it misses is a hit lost, never a wrong one. Now
 * and then the vector of a request is kept, and the keeper looks it up again twice: as the
 * request did, and among all vectors of its scope. The counts are in the metrics.
 *
 * Threads: rp_recall_sample from any and it never waits; rp_recall_check from one. */
#ifndef RP_CACHE_RECALL_H
#define RP_CACHE_RECALL_H

#include <reprise/index.h>
#include <reprise/types.h>

#include <pthread.h>
#include <stdatomic.h>

enum {
    RP_RECALL_KEPT = 8,    /* vectors looked up again in a period of the keeper: at 60 seconds
                              and 100,000 vectors about 1/500 of a core */
    RP_RECALL_EVERY = 16,  /* searches from one that is kept to the next */
};

typedef struct rp_recall {
    pthread_mutex_t lock; /* leaf; guards the vectors */
    float *vectors;       /* (RP_RECALL_KEPT, dim) owned */
    rp_scope scopes[RP_RECALL_KEPT];
    size_t dim, kept;
    _Atomic uint64_t searches;
    _Atomic uint64_t found, missed, missed_far; /* looked up again; far: the nearest is below .8,
                                                   too far to be an answer */
} rp_recall;

bool rp_recall_init(rp_recall *recall, size_t dim); /* false: no memory */
void rp_recall_fini(rp_recall *recall);
/* A search of `scope` for `vector` (dim) is made. */
void rp_recall_sample(rp_recall *recall, rp_scope scope, const float *vector);
/* Look up again what was kept since the last time. */
void rp_recall_check(rp_recall *recall, rp_index *index);

#endif
