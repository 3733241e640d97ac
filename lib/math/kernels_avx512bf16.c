/* kernels_avx512bf16.c - AVX-512 BF16: twice the rate of f32 on AMD, half of it on Intel;
 * which one it is here is found out by timing. */
#include <immintrin.h>

#define LANES 16
#define ROWS_MAX 6
#define VECTORS_MAX 4
#define CASES CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6)
#define FMA(sum, a, b) __asm__("vfmadd231ps %2, %1, %0" : "+v"(sum) : "v"(a), "v"(b))
#define VECTOR_MAX(a, b) ((vec)_mm512_max_ps((__m512)(a), (__m512)(b)))
#define VECTOR_MIN(a, b) ((vec)_mm512_min_ps((__m512)(a), (__m512)(b)))
#define NARROW_TO_16(x) _mm512_cvtepi32_epi16((__m512i)(x))
#define NARROW_TO_8(x) _mm512_cvtepi32_epi8((__m512i)(x))
#define IVECTOR_MAX(a, b) ((ivec)_mm512_max_epi32((__m512i)(a), (__m512i)(b)))
#define UVECTOR_MAX(a, b) ((ivec)_mm512_max_epu32((__m512i)(a), (__m512i)(b)))
#define PREFETCHES 1
#define PREFETCH(p) _mm_prefetch((p), _MM_HINT_T1)
#define DOT_BF16(sum, a, b) __asm__("vdpbf16ps %2, %1, %0" : "+v"(sum) : "v"(a), "v"(b))
#define FALLBACK_ATTENTION rp_kernels_plain.attention
#define FALLBACK_LAYER_NORM rp_kernels_plain.layer_norm
#include "math/tile.h"

const rp_kernels rp_kernels_avx512bf16 = {
    .name = "avx512bf16",
    .product = { [RP_CLASS_BF16] = { PANEL, matmul_bf16, prepare_bf16, false, peak_bf16 } },
};
