/* random.h - repeatable random numbers, and secret ones.
 *
 * xoshiro256++ (Blackman and Vigna, arXiv:1805.01407) seeded through
 * splitmix64: the same seed gives the same numbers everywhere. Never used for
 * secrets; those come from rp_random_secret.
 *
 * Threads: an rp_random is used by one thread at a time. */
#ifndef RP_BASE_RANDOM_H
#define RP_BASE_RANDOM_H

#include <reprise/status.h>
#include <reprise/types.h>

typedef struct rp_random {
    uint64_t state[4];
} rp_random;

void rp_random_init(rp_random *random, uint64_t seed);
uint64_t rp_random_next(rp_random *random);
/* Uniform in [0, 1), 53 bits. */
double rp_random_uniform(rp_random *random);
/* Uniform in 0..bound-1 without bias; bound > 0. */
uint64_t rp_random_below(rp_random *random, uint64_t bound);
/* Standard normal. */
double rp_random_normal(rp_random *random);

/* Bytes from the system for keys and ids. Fails: RP_ERR_IO. */
RP_NODISCARD rp_status rp_random_secret(void *out, size_t size);

#endif
