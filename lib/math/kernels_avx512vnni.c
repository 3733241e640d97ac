/* kernels_avx512vnni.c - AVX-512 VNNI: 64 products of bytes in one instruction, exact. */
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
#define DOT_INT8(sum, a, b) __asm__("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(a), "v"(b))
#define DOT_INT16(sum, a, b) __asm__("vpdpwssd %2, %1, %0" : "+v"(sum) : "v"(a), "v"(b))
#define FALLBACK_ATTENTION16 rp_kernels_avx2.attention16
#define FALLBACK_ATTENTION rp_kernels_plain.attention
#define FALLBACK_LAYER_NORM rp_kernels_plain.layer_norm
#include "math/tile.h"
#include "math/attention16.h"

const rp_kernels rp_kernels_avx512vnni = {
    .name = "avx512vnni",
    .product = { [RP_CLASS_BF16] = { PANEL, matmul_whole, prepare_whole, true, peak_whole },
                 [RP_CLASS_INT8] = { PANEL, matmul_int8, prepare_int8, false, peak_int8 } },
    .attention16 = attention16,
};
