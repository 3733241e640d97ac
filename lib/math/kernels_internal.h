/* kernels_internal.h - the tables that need their own instruction set flags. */
#ifndef RP_MATH_KERNELS_INTERNAL_H
#define RP_MATH_KERNELS_INTERNAL_H

#include "math/kernels.h"

/* A tier's own table; what it leaves NULL is taken from the tier below. */
extern const rp_kernels rp_kernels_plain;
#if defined(__x86_64__)
extern const rp_kernels rp_kernels_avx2;
extern const rp_kernels rp_kernels_avxvnni;
extern const rp_kernels rp_kernels_avx512;
extern const rp_kernels rp_kernels_avx512vnni;
extern const rp_kernels rp_kernels_avx512bf16;
extern const rp_kernels rp_kernels_amx;
#endif
#if defined(__aarch64__)
extern const rp_kernels rp_kernels_neon;
extern const rp_kernels rp_kernels_neondot;
extern const rp_kernels rp_kernels_neoni8mm;
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

/* How prepare divides its room: rows of `row_size` bytes, rounded up to whole cache
 * lines, then scales, zeros and outliers. */
static inline void
rp_split_room(void *room, size_t rows, size_t row_size, size_t outlier_count, rp_rows *out,
              float **scales, int32_t **zeros, float **outliers)
{
    out->values = room;
    out->stride = (row_size + 63) / 64 * 64;
    *scales = (float *)(void *)((char *)room + rows * out->stride);
    *zeros = (int32_t *)(void *)(*scales + rows);
    *outliers = (float *)(void *)(*zeros + rows);
    out->scales = *scales;
    out->zeros = *zeros;
    out->outliers = outlier_count ? *outliers : NULL;
}

/* Move the outliers of a row away, and back. */
static inline void
rp_take_outliers(float *row, const rp_weights *by, float *kept)
{
    for (size_t i = 0; i < by->outlier_count; i++) {
        kept[i] = row[by->outlier_at[i]];
        row[by->outlier_at[i]] = 0;
    }
}
static inline void
rp_put_outliers(float *row, const rp_weights *by, const float *kept)
{
    for (size_t i = 0; i < by->outlier_count; i++)
        row[by->outlier_at[i]] = kept[i];
}

/* Adding and subtracting this rounds |x| < 2^22 to an integer, ties to even. */
#define RP_ROUNDING 12582912.0F

/* A range so small has no steps: their inverse might not be finite. */
#define RP_NOTHING 1e-35F

/* Steps of the largest weight of a column where bf16 is kept in whole numbers, and what the sizes
 * of a row's steps may add up to, so that a sum of products stays below 2^31; see prepare_whole. */
#define RP_WHOLE_STEPS 2047
#define RP_WHOLE_SUM 1040000.0F

/* Keeps a product from being fused with the sum that follows: steps of int8 would then
 * be rounded differently by machines with and without fused multiply-add. */
#if defined(RP_NO_FUSE) /* a tier whose vectors are in no register brings its own */
#elif defined(__x86_64__)
#define RP_NO_FUSE(x) __asm__("" : "+x"(x))
#elif defined(__aarch64__)
#define RP_NO_FUSE(x) __asm__("" : "+w"(x))
#else
#define RP_NO_FUSE(x) __asm__("" : "+m"(x))
#endif

static inline float
rp_round_product(float x, float y)
{
    float product = x * y;
    RP_NO_FUSE(product);
    return (product + RP_ROUNDING) - RP_ROUNDING;
}

#endif
