/* scan.c - the plain kernels of scan.h, the oracle of the others, and the choice. */
#include "math/scan_internal.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

static RP_SCAN_RACY void
add_differing(const uint64_t *bits, size_t words, const uint64_t *signs,
              uint32_t distance[RP_SCAN_GROUP])
{
    for (size_t w = 0; w < words; w++)
        for (size_t v = 0; v < RP_SCAN_GROUP; v++)
            distance[v] += (uint32_t)__builtin_popcountll(bits[w * RP_SCAN_GROUP + v] ^ signs[w]);
}

static RP_SCAN_RACY size_t
sieve_plain(const uint64_t *first, const uint64_t *rest, size_t block_count,
            const rp_sieve_query *query, uint32_t first_slot, rp_sieve_hit *out, size_t room,
            size_t *blocks_done)
{
    size_t found = 0, block = 0;
    for (; block < block_count && room - found >= RP_SCAN_GROUP; block++) {
        uint32_t near[RP_SCAN_GROUP] = { 0 }, distance[RP_SCAN_GROUP];
        add_differing(first + block * query->words_first * RP_SCAN_GROUP, query->words_first,
                      query->signs, near);
        memcpy(distance, near, sizeof near);
        add_differing(rest + block * query->words_rest * RP_SCAN_GROUP, query->words_rest,
                      query->signs + query->words_first, distance);
        for (size_t v = 0; v < RP_SCAN_GROUP; v++)
            if (near[v] < query->limit_first && distance[v] < query->limit)
                out[found++] = (rp_sieve_hit){
                    first_slot + (uint32_t)(block * RP_SCAN_GROUP + v), distance[v] };
    }
    *blocks_done = block;
    return found;
}

static void
signs_plain(const float *vector, const float *mean, size_t n, uint64_t *out)
{
    memset(out, 0, (n + 63) / 64 * sizeof *out);
    for (size_t i = 0; i < n; i++)
        out[i / 64] |= (uint64_t)(vector[i] > mean[i]) << i % 64;
}

static float
codes_plain(const float *vector, size_t n, int8_t *out)
{
    float largest = 0;
    for (size_t i = 0; i < n; i++)
        largest = fmaxf(largest, fabsf(vector[i]));
    const float inverse = largest > 0 ? 127 / largest : 0;
    for (size_t i = 0; i < n; i++)
        out[i] = (int8_t)lrintf(vector[i] * inverse);
    return largest / 127;
}

static double
square_plain(const float *vector, size_t n)
{
    double sum = 0;
    for (size_t i = 0; i < n; i++)
        sum += (double)vector[i] * vector[i];
    return sum;
}

/* Eight partial sums, so that the compiler may use vectors although it may not
 * reorder sums by itself. */
static float
dot_codes_plain(const float *query, const int8_t *codes, size_t n)
{
    float sums[8] = { 0 };
    for (size_t i = 0; i < n; i += 8)
        for (size_t j = 0; j < 8; j++)
            sums[j] += query[i + j] * (float)codes[i + j];
    return ((sums[0] + sums[4]) + (sums[1] + sums[5])) + ((sums[2] + sums[6]) + (sums[3] + sums[7]));
}

static void
dots_of_codes_plain(const int8_t *query, const int8_t *rows, size_t count, size_t n, int32_t *out)
{
    for (size_t row = 0; row < count; row++) {
        int32_t sum = 0;
        for (size_t i = 0; i < n; i++)
            sum += query[i] * rows[row * n + i];
        out[row] = sum;
    }
}

static float
dot_plain(const float *a, const float *b, size_t n)
{
    float sums[8] = { 0 };
    size_t i = 0;
    for (; i + 8 <= n; i += 8)
        for (size_t j = 0; j < 8; j++)
            sums[j] += a[i + j] * b[i + j];
    for (; i < n; i++)
        sums[0] += a[i] * b[i];
    return ((sums[0] + sums[4]) + (sums[1] + sums[5])) + ((sums[2] + sums[6]) + (sums[3] + sums[7]));
}

static const rp_scan_kernels plain = { "plain",      sieve_plain,     signs_plain, codes_plain,
                                       square_plain, dot_codes_plain, dots_of_codes_plain, dot_plain };

/* What this machine can run, slowest first. */
static size_t
list_kernels(const rp_scan_kernels *out[4])
{
    size_t count = 0;
    out[count++] = &plain;
#if defined(__x86_64__)
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma") &&
        __builtin_cpu_supports("popcnt"))
        out[count++] = &rp_scan_avx2;
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512vpopcntdq") &&
        __builtin_cpu_supports("avx512vnni"))
        out[count++] = &rp_scan_avx512;
#elif defined(__aarch64__)
    out[count++] = &rp_scan_neon; /* part of the base architecture */
#endif
    return count;
}

const rp_scan_kernels *
rp_scan_at(size_t at)
{
    const rp_scan_kernels *list[4];
    return at < list_kernels(list) ? list[at] : NULL;
}

const rp_scan_kernels *
rp_scan_best(void)
{
    const rp_scan_kernels *list[4];
    const size_t count = list_kernels(list);
    const char *wanted = getenv("REPRISE_TIER");
    for (size_t i = 0; wanted && i < count; i++)
        if (strcmp(list[i]->name, wanted) == 0)
            return list[i];
    return list[count - 1];
}
