/* kernels_avx2.c - AVX2 with FMA: tiles of 6 rows and 16 columns, 12 sums in registers. */
#include <immintrin.h>

#define LANES 8
#define ROWS_MAX 6
#define VECTORS_MAX 2
#define CASES CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6)
#define FMA(sum, a, b) __asm__("vfmadd231ps %2, %1, %0" : "+x"(sum) : "x"(a), "x"(b))
#define VECTOR_MAX(a, b) ((vec)_mm256_max_ps((__m256)(a), (__m256)(b)))
#define VECTOR_MIN(a, b) ((vec)_mm256_min_ps((__m256)(a), (__m256)(b)))
#define IVECTOR_MAX(a, b) ((ivec)_mm256_max_epi32((__m256i)(a), (__m256i)(b)))
#define UVECTOR_MAX(a, b) ((ivec)_mm256_max_epu32((__m256i)(a), (__m256i)(b)))
#define PREFETCHES 1
#define PREFETCH(p) _mm_prefetch((p), _MM_HINT_T1)
/* vpmaddubsw would saturate (2 * 255 * 127 > 32767), so bytes are widened to 16 bits, the
 * even and the odd ones, and multiplied exactly. That needs four registers more. */
#define ROWS_MAX_INT8 4
#define EVEN_SIGNED(x) _mm256_srai_epi16(_mm256_slli_epi16((__m256i)(x), 8), 8)
#define ODD_SIGNED(x) _mm256_srai_epi16((__m256i)(x), 8)
#define EVEN_UNSIGNED(x) _mm256_and_si256((__m256i)(x), _mm256_set1_epi16(255))
#define ODD_UNSIGNED(x) _mm256_srli_epi16((__m256i)(x), 8)
#define DOT_INT8(sum, a, b)                                                                        \
    ((sum) = (vec)_mm256_add_epi32(                                                                \
         (__m256i)(sum), _mm256_add_epi32(_mm256_madd_epi16(EVEN_UNSIGNED(a), EVEN_SIGNED(b)),     \
                                          _mm256_madd_epi16(ODD_UNSIGNED(a), ODD_SIGNED(b)))))
#define DOT_INT16(sum, a, b)                                                                       \
    ((sum) = (vec)_mm256_add_epi32((__m256i)(sum), _mm256_madd_epi16((__m256i)(a), (__m256i)(b))))
#define FALLBACK_ATTENTION16 rp_kernels_plain.attention16
#define FALLBACK_ATTENTION rp_kernels_plain.attention
#define FALLBACK_LAYER_NORM rp_kernels_plain.layer_norm
#include "math/tile.h"
#include "math/attention16.h"

const rp_kernels rp_kernels_avx2 = {
    .name = "avx2",
    .product = { [RP_CLASS_F32] = { PANEL, matmul_f32, NULL, false, peak_f32 },
                 [RP_CLASS_BF16] = { PANEL, matmul_bf16, prepare_bf16_as_f32, false, peak_bf16 },
                 [RP_CLASS_INT8] = { PANEL, matmul_int8, prepare_int8, false, peak_int8 } },
    .attention = attention,
    .attention16 = attention16,
    .layer_norm = layer_norm,
    .gate = gate,
    .dot = dot,
    .read = read_all,
};
