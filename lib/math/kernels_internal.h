/* kernels_internal.h - the tables that need their own instruction set flags. */
#ifndef RP_MATH_KERNELS_INTERNAL_H
#define RP_MATH_KERNELS_INTERNAL_H

#include "math/kernels.h"

extern const rp_kernels rp_kernels_plain;
#if defined(__x86_64__)
extern const rp_kernels rp_kernels_avx2;
extern const rp_kernels rp_kernels_avx512;
#endif
#if defined(__aarch64__)
extern const rp_kernels rp_kernels_neon;
#endif

/* Keys are padded to a multiple of this many columns in attention's scratch, so
 * that every tier reads whole vectors. */
#define RP_ATTENTION_PAD 16
/* Rows of scores that attention keeps at a time, at most. */
#define RP_ATTENTION_ROWS 8

static inline size_t
rp_attention_padded(size_t tokens)
{
    return (tokens + RP_ATTENTION_PAD - 1) / RP_ATTENTION_PAD * RP_ATTENTION_PAD;
}

#endif
