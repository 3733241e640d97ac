/* evict.h - which entry goes when a cache of bounded size is full, ten ways.
 *
 *   fifo       the oldest
 *   lru        the one unused for longest
 *   lfu        the one used least, the older use first
 *   w-tinylfu  Einziger, Friedman, Manes, "TinyLFU", ACM ToS 2017: a window of 1 %, a
 *              segmented main part, and a sketch of frequencies that decides who stays
 *   s3fifo     Yang et al., SOSP 2023: the code of the store (store/s3fifo.h)
 *   spherelfu  arXiv:2603.03301: a request spreads one unit of credit over the entries
 *              near it; the least credit goes
 *   cost       arXiv:2502.03771, its code: stale and cheap goes first, in batches
 *   scu        the same code: far from certain goes first (threshold high, labels few)
 *
 * A place is a number from 1 on that the caller chose. The caller inserts, tells what is
 * used, and asks who has to go until nobody has to. `cost` and `scu` begin at 95 % and
 * drop a tenth of the capacity at once, as published; the others drop one at a time.
 *
 * Threads: used by one thread at a time. */
#ifndef RP_EVAL_EVICT_H
#define RP_EVAL_EVICT_H

#include <reprise/status.h>
#include <reprise/types.h>

typedef enum rp_evict_kind {
    RP_EVICT_FIFO,
    RP_EVICT_LRU,
    RP_EVICT_LFU,
    RP_EVICT_W_TINYLFU,
    RP_EVICT_S3FIFO,
    RP_EVICT_SPHERELFU,
    RP_EVICT_COST,
    RP_EVICT_SCU,
    RP_EVICT_KINDS,
} rp_evict_kind;

const char *rp_evict_name(rp_evict_kind kind);
bool rp_evict_kind_of(rp_str name, rp_evict_kind *out);

typedef struct rp_evict rp_evict;

/* For places 1..places_max, of which at most `capacity` (>= 1) stay. Fails: RP_ERR_NOMEM,
 * RP_ERR_INVALID. */
RP_NODISCARD rp_status rp_evict_new(rp_evict_kind kind, size_t capacity, size_t places_max,
                                    rp_evict **out);
void rp_evict_free(rp_evict *evict); /* NULL is fine */

/* `hash` says what it holds (w-tinylfu, s3fifo remember who was there before), `cost` what
 * it would cost to get again. A place that is in must not be put in again. */
void rp_evict_insert(rp_evict *evict, uint32_t place, uint64_t hash, double cost);
/* A hit. Also of a place that is not in: then nothing happens. */
void rp_evict_touch(rp_evict *evict, uint32_t place);
/* What a request found near it, nearest first, whatever was decided: spherelfu. Before the
 * insertion of the request's own entry. An exact hit is a neighbour of similarity 1. */
typedef struct rp_evict_near {
    uint32_t place;
    float similarity;
} rp_evict_near;
void rp_evict_spread(rp_evict *evict, const rp_evict_near *near, size_t count);
/* A label about this entry came in; `threshold` is the policy's for it, NaN: none. */
void rp_evict_judged(rp_evict *evict, uint32_t place, double threshold);
/* It is gone for another reason. */
void rp_evict_remove(rp_evict *evict, uint32_t place);
/* Who has to go now? It is taken out; 0: nobody. */
uint32_t rp_evict_choose(rp_evict *evict);
size_t rp_evict_count(const rp_evict *evict);

#endif
