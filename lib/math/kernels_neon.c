/* kernels_neon.c - AArch64: tiles of 6 rows and 16 columns, 24 of 32 registers. */
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
#define DOT_INT16(sum, a, b)                                                                       \
    ((sum) = (vec)vaddq_s32(                                                                       \
         (int32x4_t)(sum),                                                                         \
         vpaddq_s32(vmull_s16(vget_low_s16((int16x8_t)(a)), vget_low_s16((int16x8_t)(b))),         \
                    vmull_high_s16((int16x8_t)(a), (int16x8_t)(b)))))
#define FALLBACK_ATTENTION16 rp_kernels_plain.attention16
#define FALLBACK_ATTENTION rp_kernels_plain.attention
#define FALLBACK_LAYER_NORM rp_kernels_plain.layer_norm
#include "math/tile.h"
#include "math/attention16.h"

const rp_kernels rp_kernels_neon = {
    .name = "neon",
    .product = { [RP_CLASS_F32] = { PANEL, matmul_f32, NULL, false, peak_f32 },
                 [RP_CLASS_BF16] = { PANEL, matmul_bf16, prepare_bf16_as_f32, false, peak_bf16 } },
    .attention = attention,
    .attention16 = attention16,
    .layer_norm = layer_norm,
    .gate = gate,
    .dot = dot,
    .read = read_all,
};
