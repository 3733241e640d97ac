/* bench_vectors.h - vectors for benchmarks: those of a file, or more than it has.
 *
 * What is missing is made of the file's own: a vector turned towards another one of them,
 * picked by a seed, to a cosine between .80 and .98, and of length 1 again. So it is as near
 * to one of the file as an edited text is, and differs from it as texts differ.
 *
 * Threads: used by one thread at a time. */
#ifndef RP_TOOLS_BENCH_VECTORS_H
#define RP_TOOLS_BENCH_VECTORS_H

#include "base/npy.h"

#include <stddef.h>

/* Vector `at` of the first `real_count` rows of the file and what was made of them, into
 * `out` (columns). The same `at` gives the same vector. */
void rp_bench_vector(const rp_npy *file, size_t real_count, size_t at, float *out);

/* `count` vectors made without a file: topics with phrasings around an offset that all share.
 * The shape of an encoder's vectors, not their difficulty: quote figures from real vectors
 * only. NULL: no memory. Free with free(). */
float *rp_bench_vectors_make(size_t count, size_t dim);

#endif
