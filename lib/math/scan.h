/* scan.h - number kernels of the vector index, one table per instruction set.
 *
 * A vector is kept in two short forms: its sign bits (after centring), eight
 * vectors interleaved, and its 8-bit codes. The sieve reads the bits of all and
 * lets few pass; the codes rank those; the originals settle the last few.
 *
 * Threads: tables are immutable; kernels are pure functions. */
#ifndef RP_MATH_SCAN_H
#define RP_MATH_SCAN_H

#include <reprise/types.h>

enum { RP_SCAN_GROUP = 8 }; /* vectors interleaved in one block of sign bits */

typedef struct rp_sieve_hit {
    uint32_t slot;     /* first_slot + position of the vector */
    uint32_t distance; /* differing sign bits */
} rp_sieve_hit;

typedef struct rp_sieve_query {
    const uint64_t *signs; /* (words_first + words_rest) */
    size_t words_first, words_rest;
    uint32_t limit_first, limit;
} rp_sieve_query;

typedef struct rp_scan_kernels {
    const char *name;

    /* Report the vectors whose sign bits differ from the query's in fewer than `limit`
     * places, and in fewer than `limit_first` of the first words: only where one of eight
     * does are the rest read.
     *   first   (block_count, words_first, 8)  in   word w of vector v at [w * 8 + v]
     *   rest    (block_count, words_rest, 8)   in   the same
     *   out     (room)                         out  room >= 8
     * Stops early when fewer than 8 places of `out` are free. Returns how many hits
     * were written; *blocks_done says how many blocks were read. */
    size_t (*sieve)(const uint64_t *first, const uint64_t *rest, size_t block_count,
                    const rp_sieve_query *query, uint32_t first_slot, rp_sieve_hit *out,
                    size_t room, size_t *blocks_done);

    /* Sign bits of vector - mean into out (words of 64, the last filled up with 0). */
    void (*signs)(const float *vector, const float *mean, size_t n, uint64_t *out);
    /* 8-bit codes, the nearest integers to vector / scale; returns the scale, largest
     * size / 127. A zero vector gives zeros and scale 0. */
    float (*codes)(const float *vector, size_t n, int8_t *out);
    /* Sum of squares. */
    double (*square)(const float *vector, size_t n);
    /* Sum of query[i] * codes[i]; n is a multiple of 16 (rows are padded with 0). */
    float (*dot_codes)(const float *query, const int8_t *codes, size_t n);
    /* The same of two vectors of codes, for each row of (count, n); exact. */
    void (*dots_of_codes)(const int8_t *query, const int8_t *rows, size_t count, size_t n,
                          int32_t *out);
    /* Sum of a[i] * b[i]. */
    float (*dot)(const float *a, const float *b, size_t n);
} rp_scan_kernels;

const rp_scan_kernels *rp_scan_best(void);               /* never NULL */
const rp_scan_kernels *rp_scan_at(size_t at);            /* runnable here, plain first; NULL ends */

#endif
