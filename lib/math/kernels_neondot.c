/* kernels_neondot.c - AArch64 with FEAT_DotProd: 16 products of signed bytes in one
 * instruction. It knows no unsigned ones, so steps of rows are kept less 128. */
#include <arm_neon.h>

#define LANES 4
#define ROWS_MAX 6
#define VECTORS_MAX 4
#define CASES CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6)
#define FMA(sum, a, b) __asm__("fmla %0.4s, %1.4s, %2.4s" : "+w"(sum) : "w"(a), "w"(b))
#define VECTOR_MAX(a, b) ((vec)vmaxq_f32((float32x4_t)(a), (float32x4_t)(b)))
#define VECTOR_MIN(a, b) ((vec)vminq_f32((float32x4_t)(a), (float32x4_t)(b)))
#define IVECTOR_MAX(a, b) ((ivec)vmaxq_s32((int32x4_t)(a), (int32x4_t)(b)))
#define UVECTOR_MAX(a, b) ((ivec)vmaxq_u32((uint32x4_t)(a), (uint32x4_t)(b)))
#define PREFETCHES 0
#define PREFETCH(p) ((void)(p))
#define SIGNED_STEPS 1
#define DOT_INT8(sum, a, b) __asm__("sdot %0.4s, %1.16b, %2.16b" : "+w"(sum) : "w"(a), "w"(b))
#define FALLBACK_ATTENTION rp_kernels_plain.attention
#define FALLBACK_LAYER_NORM rp_kernels_plain.layer_norm
#include "math/tile.h"

const rp_kernels rp_kernels_neondot = {
    .name = "neondot",
    .product = { [RP_CLASS_INT8] = { PANEL, matmul_int8, prepare_int8, false, peak_int8 } },
};
