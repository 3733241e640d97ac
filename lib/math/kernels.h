/* kernels.h - one table of number kernels per instruction set, chosen at start.
 *
 * The plain C table is the oracle of all others. A tier implements what it is good
 * at and takes the rest from the tier below. Tiers are chosen by CPU feature bits,
 * never by model number, and can be overridden by name (setting, REPRISE_TIER).
 *
 * Shapes are row-major unless said otherwise. Nothing allocates.
 *
 * Threads: tables are immutable; kernels are pure functions. */
#ifndef RP_MATH_KERNELS_H
#define RP_MATH_KERNELS_H

#include <reprise/status.h>
#include <reprise/types.h>

typedef struct rp_kernels {
    const char *name; /* "plain", "avx2", "avx512", "neon" ... */

    /* Sum of a[i] * b[i]. */
    float (*dot)(const float *a, const float *b, size_t n);
    /* Length of a 0/1-packed xor: set bits of a ^ b over n 64-bit words. */
    uint32_t (*hamming)(const uint64_t *a, const uint64_t *b, size_t n);
    /* Sum of a[i] * b[i], exact. */
    int32_t (*dot_i8)(const int8_t *a, const int8_t *b, size_t n);

    /* The rest (packed matrix products with fused epilogues, softmax, layer norm,
     * GELU) is added by lib/model's needs; each with shapes, units and source. */
} rp_kernels;

/* The best tier that this CPU (and operating system) can run, or the one that
 * REPRISE_TIER names. Never NULL. Cheap after the first call. */
const rp_kernels *rp_kernels_best(void);
/* By name; NULL if unknown or not runnable here. */
const rp_kernels *rp_kernels_find(const char *name);
/* All tiers runnable here, plain first; NULL after the last. */
const rp_kernels *rp_kernels_at(size_t at);

#endif
