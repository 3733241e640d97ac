/* scan_avx2.c - the kernels of scan.h for AVX2: bits are counted by table look-up
 * in nibbles (Mula, Kurz, Lemire, arXiv:1611.07612, section 3). */
#include "math/scan_internal.h"

#include <immintrin.h>
#include <math.h>

static inline __m256i
count_bits(__m256i x, __m256i table, __m256i low)
{
    const __m256i below = _mm256_shuffle_epi8(table, _mm256_and_si256(x, low));
    const __m256i above = _mm256_shuffle_epi8(table, _mm256_and_si256(_mm256_srli_epi32(x, 4), low));
    return _mm256_add_epi8(below, above);
}

/* Differing bits of four vectors of a block. */
static inline RP_SCAN_RACY __m256i
count_words(const uint64_t *bits, size_t words, const uint64_t *signs, __m256i table, __m256i low)
{
    const __m256i zero = _mm256_setzero_si256();
    __m256i sum = zero, bytes = zero;
    for (size_t w = 0; w < words; w++) {
        const __m256i differing =
            _mm256_xor_si256(_mm256_loadu_si256((const __m256i *)(bits + w * RP_SCAN_GROUP)),
                             _mm256_set1_epi64x((long long)signs[w]));
        bytes = _mm256_add_epi8(bytes, count_bits(differing, table, low));
        /* A byte holds at most 8 a word: sum before 255 could be passed. */
        if (w % 31 == 30) {
            sum = _mm256_add_epi64(sum, _mm256_sad_epu8(bytes, zero));
            bytes = zero;
        }
    }
    return _mm256_add_epi64(sum, _mm256_sad_epu8(bytes, zero));
}

static RP_SCAN_RACY size_t
sieve_avx2(const uint64_t *first, const uint64_t *rest, size_t block_count,
           const rp_sieve_query *query, uint32_t first_slot, rp_sieve_hit *out, size_t room,
           size_t *blocks_done)
{
    const __m256i table = _mm256_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4, 0, 1, 1, 2,
                                           1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4);
    const __m256i low = _mm256_set1_epi8(15);
    const __m256i bound = _mm256_set1_epi64x((long long)query->limit_first);
    size_t found = 0, block = 0;
    for (; block < block_count && room - found >= RP_SCAN_GROUP; block++) {
        const uint64_t *bits = first + block * query->words_first * RP_SCAN_GROUP;
        const __m256i a = count_words(bits, query->words_first, query->signs, table, low);
        const __m256i b = count_words(bits + 4, query->words_first, query->signs, table, low);
        const __m256i near = _mm256_or_si256(_mm256_cmpgt_epi64(bound, a), _mm256_cmpgt_epi64(bound, b));
        if (__builtin_expect(_mm256_testz_si256(near, near), 1))
            continue;
        uint64_t close[RP_SCAN_GROUP], further[RP_SCAN_GROUP];
        const uint64_t *signs = query->signs + query->words_first;
        bits = rest + block * query->words_rest * RP_SCAN_GROUP;
        _mm256_storeu_si256((__m256i *)close, a);
        _mm256_storeu_si256((__m256i *)(close + 4), b);
        _mm256_storeu_si256((__m256i *)further, count_words(bits, query->words_rest, signs, table, low));
        _mm256_storeu_si256((__m256i *)(further + 4),
                            count_words(bits + 4, query->words_rest, signs, table, low));
        for (uint32_t v = 0; v < RP_SCAN_GROUP; v++)
            if (close[v] < query->limit_first && close[v] + further[v] < query->limit)
                out[found++] = (rp_sieve_hit){ first_slot + (uint32_t)(block * RP_SCAN_GROUP) + v,
                                               (uint32_t)(close[v] + further[v]) };
    }
    *blocks_done = block;
    return found;
}

static void
signs_avx2(const float *vector, const float *mean, size_t n, uint64_t *out)
{
    size_t i = 0;
    for (size_t w = 0; w < (n + 63) / 64; w++)
        out[w] = 0;
    for (; i + 8 <= n; i += 8)
        out[i / 64] |= (uint64_t)_mm256_movemask_ps(_mm256_cmp_ps(
                           _mm256_loadu_ps(vector + i), _mm256_loadu_ps(mean + i), _CMP_GT_OQ))
                       << i % 64;
    for (; i < n; i++)
        out[i / 64] |= (uint64_t)(vector[i] > mean[i]) << i % 64;
}

static float
codes_avx2(const float *vector, size_t n, int8_t *out)
{
    const __m256 sign = _mm256_set1_ps(-0.0f);
    __m256 most = _mm256_setzero_ps();
    float largest = 0, lanes[8];
    size_t i = 0;
    for (; i + 8 <= n; i += 8)
        most = _mm256_max_ps(most, _mm256_andnot_ps(sign, _mm256_loadu_ps(vector + i)));
    _mm256_storeu_ps(lanes, most);
    for (int lane = 0; lane < 8; lane++)
        largest = lanes[lane] > largest ? lanes[lane] : largest;
    for (; i < n; i++)
        largest = fabsf(vector[i]) > largest ? fabsf(vector[i]) : largest;
    const float inverse = largest > 0 ? 127 / largest : 0;
    for (i = 0; i + 8 <= n; i += 8) {
        const __m256i whole = _mm256_cvtps_epi32(_mm256_mul_ps(_mm256_loadu_ps(vector + i), _mm256_set1_ps(inverse)));
        const __m128i words = _mm_packs_epi32(_mm256_castsi256_si128(whole), _mm256_extracti128_si256(whole, 1));
        _mm_storel_epi64((__m128i *)(out + i), _mm_packs_epi16(words, words));
    }
    for (; i < n; i++)
        out[i] = (int8_t)lrintf(vector[i] * inverse);
    return largest / 127;
}

static double
square_avx2(const float *vector, size_t n)
{
    __m256d a = _mm256_setzero_pd(), b = _mm256_setzero_pd();
    double sums[4], rest = 0;
    size_t i = 0;
    for (; i + 8 <= n; i += 8) {
        const __m256d low = _mm256_cvtps_pd(_mm_loadu_ps(vector + i));
        const __m256d high = _mm256_cvtps_pd(_mm_loadu_ps(vector + i + 4));
        a = _mm256_fmadd_pd(low, low, a);
        b = _mm256_fmadd_pd(high, high, b);
    }
    for (; i < n; i++)
        rest += (double)vector[i] * vector[i];
    _mm256_storeu_pd(sums, _mm256_add_pd(a, b));
    return sums[0] + sums[1] + sums[2] + sums[3] + rest;
}

static float
add_lanes(__m256 x)
{
    const __m128 four = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));
    const __m128 two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    return _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps(two, two, 1)));
}

static __m256
load_codes(const int8_t *codes)
{
    return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)codes)));
}

static float
dot_codes_avx2(const float *query, const int8_t *codes, size_t n)
{
    __m256 a = _mm256_setzero_ps(), b = _mm256_setzero_ps();
    for (size_t i = 0; i < n; i += 16) {
        a = _mm256_fmadd_ps(load_codes(codes + i), _mm256_loadu_ps(query + i), a);
        b = _mm256_fmadd_ps(load_codes(codes + i + 8), _mm256_loadu_ps(query + i + 8), b);
    }
    return add_lanes(_mm256_add_ps(a, b));
}

static void
dots_of_codes_avx2(const int8_t *query, const int8_t *rows, size_t count, size_t n, int32_t *out)
{
    for (size_t row = 0; row < count; row++, rows += n) {
        __m256i sum = _mm256_setzero_si256();
        for (size_t i = 0; i < n; i += 16)
            sum = _mm256_add_epi32(sum, _mm256_madd_epi16(
                _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(rows + i))),
                _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(query + i)))));
        __m128i half = _mm_add_epi32(_mm256_castsi256_si128(sum), _mm256_extracti128_si256(sum, 1));
        half = _mm_add_epi32(half, _mm_shuffle_epi32(half, 0x4e));
        half = _mm_add_epi32(half, _mm_shuffle_epi32(half, 0xb1));
        out[row] = _mm_cvtsi128_si32(half);
    }
}

static float
dot_avx2(const float *a, const float *b, size_t n)
{
    __m256 x = _mm256_setzero_ps(), y = _mm256_setzero_ps();
    size_t i = 0;
    for (; i + 16 <= n; i += 16) {
        x = _mm256_fmadd_ps(_mm256_loadu_ps(a + i), _mm256_loadu_ps(b + i), x);
        y = _mm256_fmadd_ps(_mm256_loadu_ps(a + i + 8), _mm256_loadu_ps(b + i + 8), y);
    }
    float rest = 0;
    for (; i < n; i++)
        rest += a[i] * b[i];
    return add_lanes(_mm256_add_ps(x, y)) + rest;
}

const rp_scan_kernels rp_scan_avx2 = { "avx2",      sieve_avx2,     signs_avx2, codes_avx2,
                                        square_avx2, dot_codes_avx2, dots_of_codes_avx2, dot_avx2 };
