/* kernels_avxvnni.c - AVX-VNNI: 32 products of bytes in one instruction of 256 bits. */
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
#define DOT_INT8(sum, a, b)                                                                        \
    __asm__("%{vex%} vpdpbusd %2, %1, %0" : "+x"(sum) : "x"(a), "x"(b))
#define DOT_INT16(sum, a, b)                                                                       \
    __asm__("%{vex%} vpdpwssd %2, %1, %0" : "+x"(sum) : "x"(a), "x"(b))
#define FALLBACK_ATTENTION16 rp_kernels_plain.attention16
#define FALLBACK_ATTENTION rp_kernels_plain.attention
#define FALLBACK_LAYER_NORM rp_kernels_plain.layer_norm
#include "math/tile.h"
#include "math/attention16.h"

const rp_kernels rp_kernels_avxvnni = {
    .name = "avxvnni",
    .product = { [RP_CLASS_BF16] = { PANEL, matmul_whole, prepare_whole, true, peak_whole },
                 [RP_CLASS_INT8] = { PANEL, matmul_int8, prepare_int8, false, peak_int8 } },
    .attention16 = attention16,
};
