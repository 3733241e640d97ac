/* reduce.c - short forms of a vector: see index_internal.h. */
#include "index/index_internal.h"

#include <math.h>
#include <string.h>

void
rp_reduce_signs(const float *vector, const center *from, size_t dim, uint64_t *out)
{
    const size_t words = (dim + 63) / 64;
    memset(out, 0, words * sizeof *out);
    for (size_t i = 0; i < dim; i++)
        out[i / 64] |= (uint64_t)(vector[i] > from->mean[i]) << i % 64;
}

float
rp_reduce_codes(const float *vector, size_t dim, size_t dim_padded, int8_t *out)
{
    float largest = 0;
    for (size_t i = 0; i < dim; i++)
        largest = fmaxf(largest, fabsf(vector[i]));
    const float scale = largest / 127, inverse = largest > 0 ? 127 / largest : 0;
    for (size_t i = 0; i < dim; i++)
        out[i] = (int8_t)lrintf(vector[i] * inverse);
    memset(out + dim, 0, dim_padded - dim);
    return scale;
}
