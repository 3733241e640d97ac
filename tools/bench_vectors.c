/* bench_vectors.c - vectors for benchmarks: see bench_vectors.h. */
#include "tools/bench_vectors.h"

#include "base/random.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

/* Turn `from` towards `to`, both of length 1, until their cosine is `cosine` (or further, where
 * they are nearer already); of length 1. */
static void
turn(const float *from, const float *to, size_t dim, double cosine, float *out)
{
    double along = 0, square = 0;
    for (size_t i = 0; i < dim; i++)
        along += (double)from[i] * to[i];
    for (size_t i = 0; i < dim; i++) {
        out[i] = (float)(to[i] - along * from[i]);
        square += (double)out[i] * out[i];
    }
    const double aside = square > 1e-9 ? sqrt((1 - cosine * cosine) / square) : 0;
    const double ahead = aside > 0 ? cosine : 1;
    for (size_t i = 0; i < dim; i++)
        out[i] = (float)(ahead * from[i] + aside * out[i]);
}

void
rp_bench_vector(const rp_npy *file, size_t real_count, size_t at, float *out)
{
    const size_t dim = file->columns;
    const float *row = file->values + at % real_count * dim;
    if (at < real_count) {
        memcpy(out, row, dim * sizeof *out);
        return;
    }
    rp_random random;
    rp_random_init(&random, at);
    const float *other = file->values + rp_random_below(&random, real_count) * dim;
    turn(row, other, dim, 0.80 + 0.18 * rp_random_uniform(&random), out);
}

float *
rp_bench_vectors_make(size_t count, size_t dim)
{
    float *out = malloc(count * dim * sizeof *out);
    rp_random random, topic;
    rp_random_init(&random, 1);
    for (size_t i = 0; out && i < count; i++) {
        double sum = 0;
        rp_random_init(&topic, 1000 + rp_random_below(&random, count / 8 + 1));
        for (size_t j = 0; j < dim; j++) {
            const double x = (j % 7 == 0) + rp_random_normal(&topic) + 0.5 * rp_random_normal(&random);
            out[i * dim + j] = (float)x;
            sum += x * x;
        }
        for (size_t j = 0; j < dim; j++)
            out[i * dim + j] = (float)(out[i * dim + j] / sqrt(sum));
    }
    return out;
}
