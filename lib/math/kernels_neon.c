/* kernels_neon.c - AArch64: tiles of 6 rows and 16 columns, 24 of 32 registers. */
#include <arm_neon.h>

#define LANES 4
#define ROWS_MAX 6
#define VECTORS_MAX 4
#define CASES CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6)
#define FMA(sum, a, b) __asm__("fmla %0.4s, %1.4s, %2.4s" : "+w"(sum) : "w"(a), "w"(b))
#define VECTOR_MAX(a, b) ((vec)vmaxq_f32((float32x4_t)(a), (float32x4_t)(b)))
#define PREFETCHES 0
#define PREFETCH(p) ((void)(p))
#define FALLBACK rp_kernels_plain
#include "math/tile_f32.h"

const rp_kernels rp_kernels_neon = {
    .name = "neon",
    .panel = PANEL,
    .matmul = matmul,
    .attention = attention,
    .layer_norm = layer_norm,
    .dot = dot,
};
