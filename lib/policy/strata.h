/* strata.h - one block of learned state per stratum, at most RP_POLICY_STRATA_MAX.
 *
 * When full, the stratum that was used longest ago makes room. Blocks start cleared.
 *
 * Threads: used by one thread at a time. */
#ifndef RP_POLICY_STRATA_H
#define RP_POLICY_STRATA_H

#include <reprise/types.h>

typedef struct rp_strata {
    struct rp_stratum_row {
        rp_stratum key;
        uint64_t used; /* tick of the last use */
        void *block;   /* owned */
    } *rows;           /* owned */
    size_t count, capacity, block_size;
    size_t last;       /* row found last: requests come in runs */
    uint64_t tick;
} rp_strata;

void rp_strata_init(rp_strata *strata, size_t block_size);
void rp_strata_fini(rp_strata *strata);
/* The block of a stratum; lent until the next rp_strata_get. find: NULL if unknown;
 * get: made if unknown, NULL without memory. */
void *rp_strata_find(rp_strata *strata, rp_stratum key);
void *rp_strata_get(rp_strata *strata, rp_stratum key);
void *rp_strata_at(const rp_strata *strata, size_t at); /* at < count */
rp_stratum rp_strata_key(const rp_strata *strata, size_t at);
size_t rp_strata_size_bytes(const rp_strata *strata);

#endif
