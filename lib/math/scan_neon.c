/* scan_neon.c - the kernels of scan.h for AArch64, whose base architecture counts the bits
 * of bytes in one instruction. */
#include "math/scan_internal.h"

#include <arm_neon.h>
#include <math.h>

/* Differing bits of the eight vectors of a block. */
static inline RP_SCAN_RACY void
count_block(const uint64_t *bits, size_t words, const uint64_t *query, uint64_t distance[RP_SCAN_GROUP])
{
    uint64x2_t sums[4];
    uint8x16_t bytes[4];
    for (int pair = 0; pair < 4; pair++) {
        sums[pair] = vdupq_n_u64(0);
        bytes[pair] = vdupq_n_u8(0);
    }
    for (size_t w = 0; w < words; w++) {
        const uint64x2_t asked = vdupq_n_u64(query[w]);
        for (int pair = 0; pair < 4; pair++) {
            const uint64x2_t differing = veorq_u64(vld1q_u64(bits + w * RP_SCAN_GROUP + pair * 2), asked);
            bytes[pair] = vaddq_u8(bytes[pair], vcntq_u8(vreinterpretq_u8_u64(differing)));
        }
        /* A byte holds at most 8 a word: sum before 255 could be passed. */
        if (w % 31 == 30 || w + 1 == words)
            for (int pair = 0; pair < 4; pair++) {
                sums[pair] = vaddq_u64(sums[pair], vpaddlq_u32(vpaddlq_u16(vpaddlq_u8(bytes[pair]))));
                bytes[pair] = vdupq_n_u8(0);
            }
    }
    for (int pair = 0; pair < 4; pair++)
        vst1q_u64(distance + pair * 2, sums[pair]);
}

static RP_SCAN_RACY size_t
sieve_neon(const uint64_t *first, const uint64_t *rest, size_t block_count,
           const rp_sieve_query *query, uint32_t first_slot, rp_sieve_hit *out, size_t room,
           size_t *blocks_done)
{
    size_t found = 0, block = 0;
    for (; block < block_count && room - found >= RP_SCAN_GROUP; block++) {
        uint64_t close[RP_SCAN_GROUP], further[RP_SCAN_GROUP];
        count_block(first + block * query->words_first * RP_SCAN_GROUP, query->words_first,
                    query->signs, close);
        bool near = false;
        for (uint32_t v = 0; v < RP_SCAN_GROUP; v++)
            near |= close[v] < query->limit_first;
        if (__builtin_expect(!near, 1))
            continue;
        count_block(rest + block * query->words_rest * RP_SCAN_GROUP, query->words_rest,
                    query->signs + query->words_first, further);
        for (uint32_t v = 0; v < RP_SCAN_GROUP; v++)
            if (close[v] < query->limit_first && close[v] + further[v] < query->limit)
                out[found++] = (rp_sieve_hit){ first_slot + (uint32_t)(block * RP_SCAN_GROUP) + v,
                                               (uint32_t)(close[v] + further[v]) };
    }
    *blocks_done = block;
    return found;
}

static void
signs_neon(const float *vector, const float *mean, size_t n, uint64_t *out)
{
    const uint32x4_t weights = { 1, 2, 4, 8 };
    size_t i = 0;
    for (size_t w = 0; w < (n + 63) / 64; w++)
        out[w] = 0;
    for (; i + 4 <= n; i += 4) {
        const uint32x4_t above = vcgtq_f32(vld1q_f32(vector + i), vld1q_f32(mean + i));
        out[i / 64] |= (uint64_t)vaddvq_u32(vandq_u32(above, weights)) << i % 64;
    }
    for (; i < n; i++)
        out[i / 64] |= (uint64_t)(vector[i] > mean[i]) << i % 64;
}

static float
codes_neon(const float *vector, size_t n, int8_t *out)
{
    float32x4_t most = vdupq_n_f32(0);
    size_t i = 0;
    for (; i + 4 <= n; i += 4)
        most = vmaxq_f32(most, vabsq_f32(vld1q_f32(vector + i)));
    float largest = vmaxvq_f32(most);
    for (; i < n; i++)
        largest = fabsf(vector[i]) > largest ? fabsf(vector[i]) : largest;
    const float inverse = largest > 0 ? 127 / largest : 0;
    for (i = 0; i + 8 <= n; i += 8) {
        const int32x4_t low = vcvtnq_s32_f32(vmulq_n_f32(vld1q_f32(vector + i), inverse));
        const int32x4_t high = vcvtnq_s32_f32(vmulq_n_f32(vld1q_f32(vector + i + 4), inverse));
        vst1_s8(out + i, vqmovn_s16(vcombine_s16(vqmovn_s32(low), vqmovn_s32(high))));
    }
    for (; i < n; i++)
        out[i] = (int8_t)lrintf(vector[i] * inverse);
    return largest / 127;
}

static double
square_neon(const float *vector, size_t n)
{
    float64x2_t a = vdupq_n_f64(0), b = vdupq_n_f64(0);
    double rest = 0;
    size_t i = 0;
    for (; i + 4 <= n; i += 4) {
        const float32x4_t x = vld1q_f32(vector + i);
        const float64x2_t low = vcvt_f64_f32(vget_low_f32(x)), high = vcvt_high_f64_f32(x);
        a = vfmaq_f64(a, low, low);
        b = vfmaq_f64(b, high, high);
    }
    for (; i < n; i++)
        rest += (double)vector[i] * vector[i];
    return vaddvq_f64(vaddq_f64(a, b)) + rest;
}

static float
dot_codes_neon(const float *query, const int8_t *codes, size_t n)
{
    float32x4_t sums[4] = { vdupq_n_f32(0), vdupq_n_f32(0), vdupq_n_f32(0), vdupq_n_f32(0) };
    for (size_t i = 0; i < n; i += 16) {
        const int8x16_t bytes = vld1q_s8(codes + i);
        const int16x8_t low = vmovl_s8(vget_low_s8(bytes)), high = vmovl_high_s8(bytes);
        const int32x4_t wide[4] = { vmovl_s16(vget_low_s16(low)), vmovl_high_s16(low),
                                    vmovl_s16(vget_low_s16(high)), vmovl_high_s16(high) };
        for (int part = 0; part < 4; part++)
            sums[part] = vfmaq_f32(sums[part], vcvtq_f32_s32(wide[part]), vld1q_f32(query + i + part * 4));
    }
    return vaddvq_f32(vaddq_f32(vaddq_f32(sums[0], sums[1]), vaddq_f32(sums[2], sums[3])));
}

static void
dots_of_codes_neon(const int8_t *query, const int8_t *rows, size_t count, size_t n, int32_t *out)
{
    for (size_t row = 0; row < count; row++, rows += n) {
        int32x4_t sum = vdupq_n_s32(0);
        for (size_t i = 0; i < n; i += 16) {
            const int8x16_t a = vld1q_s8(rows + i), b = vld1q_s8(query + i);
            sum = vpadalq_s16(sum, vmull_s8(vget_low_s8(a), vget_low_s8(b)));
            sum = vpadalq_s16(sum, vmull_high_s8(a, b));
        }
        out[row] = vaddvq_s32(sum);
    }
}

static float
dot_neon(const float *a, const float *b, size_t n)
{
    float32x4_t sums[4] = { vdupq_n_f32(0), vdupq_n_f32(0), vdupq_n_f32(0), vdupq_n_f32(0) };
    size_t i = 0;
    for (; i + 16 <= n; i += 16)
        for (int part = 0; part < 4; part++)
            sums[part] = vfmaq_f32(sums[part], vld1q_f32(a + i + part * 4), vld1q_f32(b + i + part * 4));
    float rest = 0;
    for (; i < n; i++)
        rest += a[i] * b[i];
    return vaddvq_f32(vaddq_f32(vaddq_f32(sums[0], sums[1]), vaddq_f32(sums[2], sums[3]))) + rest;
}

const rp_scan_kernels rp_scan_neon = { "neon",      sieve_neon,     signs_neon, codes_neon,
                                       square_neon, dot_codes_neon, dots_of_codes_neon, dot_neon };
