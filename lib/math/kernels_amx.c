/* kernels_amx.c - Intel AMX (Sapphire Rapids and later): 16,384 products of bytes in one
 * instruction of 16 cycles. Such processors have AVX-512 VNNI and BF16 too, which do the
 * depths that are no whole tiles. */
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
#define DOT_BF16(sum, a, b) __asm__("vdpbf16ps %2, %1, %0" : "+v"(sum) : "v"(a), "v"(b))
#define FALLBACK_ATTENTION rp_kernels_plain.attention
#define FALLBACK_LAYER_NORM rp_kernels_plain.layer_norm
#include "math/tile.h"

#define TILE_CONFIGURE(config) _tile_loadconfig(config)
#define TILE_RELEASE() _tile_release()
#define TILE_ZERO(t) _tile_zero(t)
#define TILE_LOAD(t, from, stride) _tile_loadd(t, from, stride)
#define TILE_STORE(t, to, stride) _tile_stored(t, to, stride)
#define TILE_DOT_INT8(c, a, b) _tile_dpbusd(c, a, b)
#define TILE_DOT_BF16(c, a, b) _tile_dpbf16ps(c, a, b)
#include "math/amx.h"

const rp_kernels rp_kernels_amx = {
    .name = "amx",
    .product = { [RP_CLASS_BF16] = { PANEL, amx_bf16, prepare_bf16, false, amx_peak_bf16 },
                 [RP_CLASS_INT8] = { PANEL, amx_int8, prepare_int8, false, amx_peak_int8 } },
};
