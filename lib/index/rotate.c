/* rotate.c - a fixed orthogonal map, for models whose sign bits are unbalanced.
 *
 * Signs flipped by a fixed pattern, then a Hadamard transform of the first 2^n numbers, flipped
 * again, then one of the last 2^n; twice. Every number becomes a sum of many, so that its sign is
 * as often set as not, and angles stay (Ailon, Chazelle, SIAM J. Comput. 39, 2009, section 2). */
#include "index/index_internal.h"

#include <math.h>
#include <string.h>

enum { TIMES = 2 };

/* In place; n is a power of two. */
static void
transform(float *x, size_t n)
{
    for (size_t half = 1; half < n; half *= 2)
        for (size_t from = 0; from < n; from += 2 * half)
            for (size_t i = from; i < from + half; i++) {
                const float a = x[i], b = x[i + half];
                x[i] = a + b;
                x[i + half] = a - b;
            }
    const float scale = 1 / sqrtf((float)n);
    for (size_t i = 0; i < n; i++)
        x[i] *= scale;
}

/* The same on every machine and in every run: signs of one run are compared with those of
 * another nowhere, but results should repeat. */
static void
flip(float *x, size_t n, uint64_t seed)
{
    for (size_t i = 0; i < n; i++) {
        uint64_t z = (seed << 32 | i) * 0x9e3779b97f4a7c15u; /* splitmix64 */
        z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
        z = (z ^ z >> 27) * 0x94d049bb133111ebu;
        if ((z ^ z >> 31) & 1)
            x[i] = -x[i];
    }
}

void
rp_rotate(const float *vector, size_t dim, float *out)
{
    size_t n = 1;
    while (2 * n <= dim)
        n *= 2;
    memcpy(out, vector, dim * sizeof *out);
    for (uint64_t time = 0; time < TIMES; time++) {
        flip(out, dim, 2 * time + 1);
        transform(out, n);
        flip(out, dim, 2 * time + 2);
        transform(out + (dim - n), n);
    }
}
