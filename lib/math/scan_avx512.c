/* scan_avx512.c - the kernels of scan.h for AVX-512 with VPOPCNTDQ and VNNI: one register
 * holds the same word of eight vectors, so distances come out side by side. */
#include "math/scan_internal.h"

#include <immintrin.h>

/* Rare: write the lanes of `mask` as hits. */
static size_t
write_hits(__mmask8 mask, __m512i distances, uint32_t slot, rp_sieve_hit *out)
{
    uint64_t distance[RP_SCAN_GROUP];
    size_t found = 0;
    _mm512_storeu_si512(distance, distances);
    for (unsigned bits = mask; bits; bits &= bits - 1) {
        const unsigned lane = (unsigned)__builtin_ctz(bits);
        out[found++] = (rp_sieve_hit){ slot + lane, (uint32_t)distance[lane] };
    }
    return found;
}

static inline __attribute__((always_inline)) RP_SCAN_RACY __m512i
count_words(const uint64_t *bits, size_t words, const uint64_t *signs)
{
    __m512i even = _mm512_setzero_si512(), odd = _mm512_setzero_si512();
#pragma GCC unroll 6
    for (size_t w = 0; w < words; w++) {
        const __m512i differing = _mm512_xor_si512(_mm512_loadu_si512(bits + w * RP_SCAN_GROUP),
                                                   _mm512_set1_epi64((long long)signs[w]));
        if (w & 1)
            odd = _mm512_add_epi64(odd, _mm512_popcnt_epi64(differing));
        else
            even = _mm512_add_epi64(even, _mm512_popcnt_epi64(differing));
    }
    return _mm512_add_epi64(even, odd);
}

/* The numbers of words are constants in each caller below, so the loops over them unroll. */
static inline __attribute__((always_inline)) RP_SCAN_RACY size_t
sieve_words(const uint64_t *first, const uint64_t *rest, size_t block_count,
            const rp_sieve_query *query, const size_t words_first, const size_t words_rest,
            uint32_t first_slot, rp_sieve_hit *out, size_t room, size_t *blocks_done)
{
    const __m512i bound_first = _mm512_set1_epi64(query->limit_first);
    const __m512i bound = _mm512_set1_epi64(query->limit);
    const uint64_t *signs = query->signs;
    size_t found = 0, block = 0;
    for (; block < block_count && room - found >= RP_SCAN_GROUP; block++) {
        __m512i distances = count_words(first + block * words_first * RP_SCAN_GROUP, words_first, signs);
        const __mmask8 near_first = _mm512_cmplt_epu64_mask(distances, bound_first);
        if (__builtin_expect(near_first == 0, 1))
            continue;
        distances = _mm512_add_epi64(distances, count_words(rest + block * words_rest * RP_SCAN_GROUP,
                                                            words_rest, signs + words_first));
        const __mmask8 near = near_first & _mm512_cmplt_epu64_mask(distances, bound);
        if (__builtin_expect(near != 0, 0))
            found += write_hits(near, distances, first_slot + (uint32_t)(block * RP_SCAN_GROUP),
                                out + found);
    }
    *blocks_done = block;
    return found;
}

static RP_SCAN_RACY size_t
sieve_avx512(const uint64_t *first, const uint64_t *rest, size_t block_count,
             const rp_sieve_query *query, uint32_t first_slot, rp_sieve_hit *out, size_t room,
             size_t *blocks_done)
{
    if (query->words_first == 3 && query->words_rest == 3) /* 384 numbers: MiniLM */
        return sieve_words(first, rest, block_count, query, 3, 3, first_slot, out, room, blocks_done);
    if (query->words_first == 6 && query->words_rest == 6) /* 768: BERT base, ModernBERT */
        return sieve_words(first, rest, block_count, query, 6, 6, first_slot, out, room, blocks_done);
    return sieve_words(first, rest, block_count, query, query->words_first, query->words_rest,
                       first_slot, out, room, blocks_done);
}

static __mmask16
mask_of(size_t left)
{
    return left >= 16 ? 0xffff : (__mmask16)((1u << left) - 1);
}

static void
signs_avx512(const float *vector, const float *mean, size_t n, uint64_t *out)
{
    uint64_t word = 0;
    for (size_t i = 0; i < n; i += 16) {
        const __mmask16 mask = mask_of(n - i);
        const __mmask16 above = _mm512_mask_cmp_ps_mask(mask, _mm512_maskz_loadu_ps(mask, vector + i),
                                                        _mm512_maskz_loadu_ps(mask, mean + i), _CMP_GT_OQ);
        word |= (uint64_t)above << i % 64;
        if (i % 64 == 48 || i + 16 >= n) {
            out[i / 64] = word;
            word = 0;
        }
    }
}

static float
codes_avx512(const float *vector, size_t n, int8_t *out)
{
    __m512 largest = _mm512_setzero_ps();
    for (size_t i = 0; i < n; i += 16)
        largest = _mm512_max_ps(largest, _mm512_abs_ps(_mm512_maskz_loadu_ps(mask_of(n - i), vector + i)));
    const float most = _mm512_reduce_max_ps(largest);
    const __m512 inverse = _mm512_set1_ps(most > 0 ? 127 / most : 0);
    for (size_t i = 0; i < n; i += 16) {
        const __mmask16 mask = mask_of(n - i);
        const __m512i whole = _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_maskz_loadu_ps(mask, vector + i), inverse));
        _mm512_mask_cvtepi32_storeu_epi8(out + i, mask, whole);
    }
    return most / 127;
}

static double
square_avx512(const float *vector, size_t n)
{
    __m512d a = _mm512_setzero_pd(), b = _mm512_setzero_pd();
    for (size_t i = 0; i < n; i += 16) {
        const __m512 x = _mm512_maskz_loadu_ps(mask_of(n - i), vector + i);
        const __m512d low = _mm512_cvtps_pd(_mm512_castps512_ps256(x));
        const __m512d high = _mm512_cvtps_pd(_mm256_castpd_ps(_mm512_extractf64x4_pd(_mm512_castps_pd(x), 1)));
        a = _mm512_fmadd_pd(low, low, a);
        b = _mm512_fmadd_pd(high, high, b);
    }
    return _mm512_reduce_add_pd(_mm512_add_pd(a, b));
}

static float
dot_codes_avx512(const float *query, const int8_t *codes, size_t n)
{
    __m512 a = _mm512_setzero_ps(), b = _mm512_setzero_ps();
    size_t i = 0;
    for (; i + 32 <= n; i += 32) {
        const __m512 x = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)(codes + i))));
        const __m512 y = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)(codes + i + 16))));
        a = _mm512_fmadd_ps(x, _mm512_loadu_ps(query + i), a);
        b = _mm512_fmadd_ps(y, _mm512_loadu_ps(query + i + 16), b);
    }
    if (i < n) {
        const __m512 x = _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128((const __m128i *)(codes + i))));
        a = _mm512_fmadd_ps(x, _mm512_loadu_ps(query + i), a);
    }
    return _mm512_reduce_add_ps(_mm512_add_ps(a, b));
}

/* VNNI multiplies unsigned by signed bytes: rows are taken as code + 128, and what that
 * adds is the same for every row. */
/* The 64 codes from `at` on, or as many as there are, as bytes above -128. */
static inline __m512i
load_flipped(const int8_t *codes, size_t at, size_t n)
{
    const __mmask64 mask = n - at >= 64 ? ~(__mmask64)0 : ((__mmask64)1 << (n - at)) - 1;
    return _mm512_xor_si512(_mm512_set1_epi8(-128), _mm512_maskz_loadu_epi8(mask, codes + at));
}

/* The sums of four registers, side by side. */
static inline __m128i
add_up_four(__m512i a, __m512i b, __m512i c, __m512i d)
{
    const __m512i ab = _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
    const __m512i cd = _mm512_add_epi32(_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
    const __m512i all = _mm512_add_epi32(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd));
    const __m256i half = _mm256_add_epi32(_mm512_castsi512_si256(all), _mm512_extracti64x4_epi64(all, 1));
    return _mm_add_epi32(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
}

/* Four rows at a time: adding up the lanes of one register takes as long as a row's products. */
static void
dots_of_codes_avx512(const int8_t *query, const int8_t *rows, size_t count, size_t n, int32_t *out)
{
    __m512i added = _mm512_setzero_si512();
    for (size_t i = 0; i < n; i += 64) {
        const __mmask64 mask = n - i >= 64 ? ~(__mmask64)0 : ((__mmask64)1 << (n - i)) - 1;
        added = _mm512_dpbusd_epi32(added, _mm512_set1_epi8(-128), _mm512_maskz_loadu_epi8(mask, query + i));
    }
    const int32_t too_much = _mm512_reduce_add_epi32(added);
    size_t row = 0;
    for (; row + 4 <= count; row += 4, rows += 4 * n) {
        __m512i a = _mm512_setzero_si512(), b = a, c = a, d = a;
        for (size_t i = 0; i < n; i += 64) {
            const __mmask64 mask = n - i >= 64 ? ~(__mmask64)0 : ((__mmask64)1 << (n - i)) - 1;
            const __m512i part = _mm512_maskz_loadu_epi8(mask, query + i);
            a = _mm512_dpbusd_epi32(a, load_flipped(rows, i, n), part);
            b = _mm512_dpbusd_epi32(b, load_flipped(rows + n, i, n), part);
            c = _mm512_dpbusd_epi32(c, load_flipped(rows + 2 * n, i, n), part);
            d = _mm512_dpbusd_epi32(d, load_flipped(rows + 3 * n, i, n), part);
        }
        _mm_storeu_si128((__m128i *)(out + row),
                         _mm_sub_epi32(add_up_four(a, b, c, d), _mm_set1_epi32(too_much)));
    }
    for (; row < count; row++, rows += n) {
        __m512i sum = _mm512_setzero_si512();
        for (size_t i = 0; i < n; i += 64) {
            const __mmask64 mask = n - i >= 64 ? ~(__mmask64)0 : ((__mmask64)1 << (n - i)) - 1;
            sum = _mm512_dpbusd_epi32(sum, load_flipped(rows, i, n), _mm512_maskz_loadu_epi8(mask, query + i));
        }
        out[row] = _mm512_reduce_add_epi32(sum) - too_much;
    }
}

static float
dot_avx512(const float *a, const float *b, size_t n)
{
    __m512 x = _mm512_setzero_ps(), y = _mm512_setzero_ps();
    size_t i = 0;
    for (; i + 32 <= n; i += 32) {
        x = _mm512_fmadd_ps(_mm512_loadu_ps(a + i), _mm512_loadu_ps(b + i), x);
        y = _mm512_fmadd_ps(_mm512_loadu_ps(a + i + 16), _mm512_loadu_ps(b + i + 16), y);
    }
    for (; i < n; i += 16) {
        const __mmask16 rest = mask_of(n - i);
        x = _mm512_fmadd_ps(_mm512_maskz_loadu_ps(rest, a + i), _mm512_maskz_loadu_ps(rest, b + i), x);
    }
    return _mm512_reduce_add_ps(_mm512_add_ps(x, y));
}

const rp_scan_kernels rp_scan_avx512 = { "avx512",      sieve_avx512,     signs_avx512, codes_avx512,
                                          square_avx512, dot_codes_avx512, dots_of_codes_avx512, dot_avx512 };
