/* kernels_avx2.c - AVX2 with FMA: tiles of 6 rows and 16 columns, 12 sums in registers. */
#include <immintrin.h>

#define LANES 8
#define ROWS_MAX 6
#define VECTORS_MAX 2
#define CASES CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6)
#define FMA(sum, a, b) __asm__("vfmadd231ps %2, %1, %0" : "+x"(sum) : "x"(a), "x"(b))
#define VECTOR_MAX(a, b) ((vec)_mm256_max_ps((__m256)(a), (__m256)(b)))
#define PREFETCHES 1
#define PREFETCH(p) _mm_prefetch((p), _MM_HINT_T1)
#define FALLBACK rp_kernels_plain
#include "math/tile_f32.h"

const rp_kernels rp_kernels_avx2 = {
    .name = "avx2",
    .panel = PANEL,
    .matmul = matmul,
    .attention = attention,
    .layer_norm = layer_norm,
    .dot = dot,
};
