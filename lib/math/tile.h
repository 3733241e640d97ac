/* tile.h - the kernels of all vector tiers, written once.
 *
 * A tier's file defines the macros below for its instruction set, includes this
 * file, and fills its table with the functions. Everything is built on one tile:
 * up to ROWS_MAX rows of a times up to VECTORS_MAX vectors of columns, whose sums
 * stay in registers for the whole depth. A step of depth is four bytes of a for each
 * row and four bytes for each column: one f32, two bf16 or four int8.
 *
 *   LANES         floats in a vector
 *   ROWS_MAX, VECTORS_MAX   the tile; ROWS_MAX * VECTORS_MAX sums, VECTORS_MAX
 *                 columns and one broadcast must fit the registers
 *   ROWS_MAX_INT8 the same where int8 needs more registers
 *   CASES         CASE(1) ... CASE(ROWS_MAX)
 *   FMA(sum, a, b)  sum += a * b. Written as one line of assembly because gcc 12
 *                 spills the sums of the intrinsic to the stack (a third of the rate).
 *   DOT_INT8(sum, a, b)  int32 sums += four u8 of a times four s8 of b, exactly
 *   SIGNED_STEPS  1 where DOT_INT8 takes s8 of a: steps are then kept less 128
 *   DOT_BF16(sum, a, b)  sums += two bf16 times two; if it is not defined, bf16 is
 *                 widened and multiplied as f32, which on Intel is faster
 *   VECTOR_MAX(a, b)  the larger, lane by lane; b where either is NaN
 *   VECTOR_MIN(a, b)  the smaller
 *   IVECTOR_MAX(a, b), UVECTOR_MAX(a, b)   the larger of int32 and of uint32, if there are
 *                 instructions
 *   DOT_INT16(sum, a, b)  int32 sums += two s16 times two; for attention16.h
 *   NARROW_TO_16(x), NARROW_TO_8(x)   the low bits of each int32, if the compiler's own way
 *                 is slow (gcc 12 takes seven instructions instead of one)
 *   PREFETCHES    0 or 1
 *   PREFETCH(p)   fetch towards the second-level cache: it gained on Intel and cost 10
 *                 to 27 % on AMD Zen 4 (measured with prototypes)
 *   FALLBACK_ATTENTION, FALLBACK_LAYER_NORM   for shapes that are no whole vectors
 *
 * Arrays of vectors below are indexed by constants only once the loops over rows
 * and vectors are unrolled, so that the compiler keeps them in registers. */
#include "math/kernels_internal.h"

#include <math.h>
#include <string.h>

typedef float vec __attribute__((vector_size(4 * LANES)));
typedef int32_t ivec __attribute__((vector_size(4 * LANES)));
typedef float vec_loose __attribute__((vector_size(4 * LANES), aligned(4), may_alias));

#define PANEL (LANES * VECTORS_MAX)
#define INLINE static inline __attribute__((always_inline))
/* A tier need not use every function. */
#define KERNEL static __attribute__((unused))
#ifndef ROWS_MAX_INT8
#define ROWS_MAX_INT8 ROWS_MAX
#endif
#ifndef SIGNED_STEPS
#define SIGNED_STEPS 0
#endif
#ifndef DOT_INT16
#define DOT_INT16(sum, a, b) ((void)(a), (void)(b))
#define HAS_INT16 0
#else
#define HAS_INT16 1
#endif
/* In functions that are written once for all: bf16 in whole numbers. */
enum { WHOLE = RP_CLASSES };
#ifndef DOT_INT8
#define DOT_INT8(sum, a, b) ((void)(a), (void)(b))
#define HAS_INT8 0
#else
#define HAS_INT8 1
#endif
#ifdef DOT_BF16
#define BF16_AS_F32 0
#else
#define BF16_AS_F32 1
#define DOT_BF16(sum, a, b) ((void)(a), (void)(b))
#endif
#ifndef IVECTOR_MAX
INLINE ivec
select_larger_number(ivec a, ivec b)
{
    const ivec larger = a > b;
    return (a & larger) | (b & ~larger);
}
#define IVECTOR_MAX(a, b) select_larger_number((a), (b))
#define UVECTOR_MAX(a, b)                                                                          \
    (select_larger_number((a) ^ INT32_MIN, (b) ^ INT32_MIN) ^ INT32_MIN)
#endif
typedef int16_t half_vec __attribute__((vector_size(2 * LANES)));
typedef uint8_t byte_vec __attribute__((vector_size(LANES)));
#ifndef NARROW_TO_16
#define NARROW_TO_16(x) __builtin_convertvector((x), half_vec)
#define NARROW_TO_8(x) __builtin_convertvector((x), byte_vec)
#endif
#define UNROLL _Pragma("GCC unroll 16")

INLINE vec
load(const float *from)
{
    return *(const vec_loose *)from;
}
INLINE void
store(float *to, vec value)
{
    *(vec_loose *)to = value;
}
INLINE vec
all(float value)
{
    return value - (vec){ 0 };
}
INLINE vec
absolute(vec x)
{
    return (vec)((ivec)x & 0x7fffffff);
}

/* a * b + c with one rounding. All sums of products here are written with it and the
 * compiler may not fuse others (-ffp-contract=off): every tier then gives the same bits,
 * which int8 needs. A number that differs in its last bit may fall on another step, and
 * such differences grow from layer to layer (to 2.4e-4 of cosine, measured). */
INLINE vec
fused(vec a, vec b, vec c)
{
    FMA(c, a, b);
    return c;
}

/* Sums of long rows are kept in 16 lanes, whatever the width of a vector: number i of a
 * row belongs to lane i mod 16. */
#define PARTS (16 / LANES)
typedef struct lanes16 {
    vec part[PARTS];
} lanes16;

/* Lane i of SWAP_n(x) is lane i ^ n of x. LOW_n(x, y) has those lanes i of x and y that have no
 * bit n in i, each y beside its x; HIGH_n(x, y) the others. */
#define SHUFFLE(x, y, ...) __builtin_shufflevector(x, y, __VA_ARGS__)
#if LANES == 16
#define SWAP_8(x) SHUFFLE(x, x, 8, 9, 10, 11, 12, 13, 14, 15, 0, 1, 2, 3, 4, 5, 6, 7)
#define SWAP_4(x) SHUFFLE(x, x, 4, 5, 6, 7, 0, 1, 2, 3, 12, 13, 14, 15, 8, 9, 10, 11)
#define SWAP_2(x) SHUFFLE(x, x, 2, 3, 0, 1, 6, 7, 4, 5, 10, 11, 8, 9, 14, 15, 12, 13)
#define SWAP_1(x) SHUFFLE(x, x, 1, 0, 3, 2, 5, 4, 7, 6, 9, 8, 11, 10, 13, 12, 15, 14)
#define LOW_8(x, y) SHUFFLE(x, y, 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23)
#define HIGH_8(x, y) SHUFFLE(x, y, 8, 9, 10, 11, 12, 13, 14, 15, 24, 25, 26, 27, 28, 29, 30, 31)
#define LOW_4(x, y) SHUFFLE(x, y, 0, 1, 2, 3, 16, 17, 18, 19, 8, 9, 10, 11, 24, 25, 26, 27)
#define HIGH_4(x, y) SHUFFLE(x, y, 4, 5, 6, 7, 20, 21, 22, 23, 12, 13, 14, 15, 28, 29, 30, 31)
#define LOW_2(x, y) SHUFFLE(x, y, 0, 1, 16, 17, 4, 5, 20, 21, 8, 9, 24, 25, 12, 13, 28, 29)
#define HIGH_2(x, y) SHUFFLE(x, y, 2, 3, 18, 19, 6, 7, 22, 23, 10, 11, 26, 27, 14, 15, 30, 31)
#define LOW_1(x, y) SHUFFLE(x, y, 0, 16, 2, 18, 4, 20, 6, 22, 8, 24, 10, 26, 12, 28, 14, 30)
#define HIGH_1(x, y) SHUFFLE(x, y, 1, 17, 3, 19, 5, 21, 7, 23, 9, 25, 11, 27, 13, 29, 15, 31)
#elif LANES == 8
#define SWAP_4(x) SHUFFLE(x, x, 4, 5, 6, 7, 0, 1, 2, 3)
#define SWAP_2(x) SHUFFLE(x, x, 2, 3, 0, 1, 6, 7, 4, 5)
#define SWAP_1(x) SHUFFLE(x, x, 1, 0, 3, 2, 5, 4, 7, 6)
#define LOW_4(x, y) SHUFFLE(x, y, 0, 1, 2, 3, 8, 9, 10, 11)
#define HIGH_4(x, y) SHUFFLE(x, y, 4, 5, 6, 7, 12, 13, 14, 15)
#define LOW_2(x, y) SHUFFLE(x, y, 0, 1, 8, 9, 4, 5, 12, 13)
#define HIGH_2(x, y) SHUFFLE(x, y, 2, 3, 10, 11, 6, 7, 14, 15)
#define LOW_1(x, y) SHUFFLE(x, y, 0, 8, 2, 10, 4, 12, 6, 14)
#define HIGH_1(x, y) SHUFFLE(x, y, 1, 9, 3, 11, 5, 13, 7, 15)
#else
#define SWAP_2(x) SHUFFLE(x, x, 2, 3, 0, 1)
#define SWAP_1(x) SHUFFLE(x, x, 1, 0, 3, 2)
#define LOW_2(x, y) SHUFFLE(x, y, 0, 1, 4, 5)
#define HIGH_2(x, y) SHUFFLE(x, y, 2, 3, 6, 7)
#define LOW_1(x, y) SHUFFLE(x, y, 0, 4, 2, 6)
#define HIGH_1(x, y) SHUFFLE(x, y, 1, 5, 3, 7)
#endif

/* Number i joins number i + 8, then i + 4, i + 2, i + 1: in this order in every tier. */
INLINE float
sum_lanes(lanes16 x)
{
#if LANES == 16
    vec sum = x.part[0] + SWAP_8(x.part[0]);
    sum += SWAP_4(sum);
#elif LANES == 8
    vec sum = x.part[0] + x.part[1];
    sum += SWAP_4(sum);
#else
    vec sum = (x.part[0] + x.part[2]) + (x.part[1] + x.part[3]);
#endif
    sum += SWAP_2(sum);
    sum += SWAP_1(sum);
    return sum[0];
}

/* The largest in every lane. */
INLINE vec
max_lanes(vec x)
{
#if LANES >= 16
    x = VECTOR_MAX(x, SWAP_8(x));
#endif
#if LANES >= 8
    x = VECTOR_MAX(x, SWAP_4(x));
#endif
    x = VECTOR_MAX(x, SWAP_2(x));
    return VECTOR_MAX(x, SWAP_1(x));
}

/* All lanes joined, in every lane. */
#if LANES == 16
#define FOLD(x, join)                                                                              \
    do {                                                                                           \
        (x) = join((x), SWAP_8(x));                                                                \
        (x) = join((x), SWAP_4(x));                                                                \
        (x) = join((x), SWAP_2(x));                                                                \
        (x) = join((x), SWAP_1(x));                                                                \
    } while (0)
#elif LANES == 8
#define FOLD(x, join)                                                                              \
    do {                                                                                           \
        (x) = join((x), SWAP_4(x));                                                                \
        (x) = join((x), SWAP_2(x));                                                                \
        (x) = join((x), SWAP_1(x));                                                                \
    } while (0)
#else
#define FOLD(x, join)                                                                              \
    do {                                                                                           \
        (x) = join((x), SWAP_2(x));                                                                \
        (x) = join((x), SWAP_1(x));                                                                \
    } while (0)
#endif
#define IVECTOR_ADD(a, b) ((a) + (b)) /* of numbers of either kind */

/* Row i of a square becomes its column i: halves change places, then halves of halves. */
#define EXCHANGE(n)                                                                                \
    UNROLL for (size_t i = 0; i < LANES; i++)                                                      \
        if (!(i & n)) {                                                                            \
            const vec low = LOW_##n(rows[i], rows[i + n]);                                         \
            rows[i + n] = HIGH_##n(rows[i], rows[i + n]);                                          \
            rows[i] = low;                                                                         \
        }
INLINE void
transpose(vec rows[LANES])
{
#if LANES >= 16
    EXCHANGE(8)
#endif
#if LANES >= 8
    EXCHANGE(4)
#endif
    EXCHANGE(2)
    EXCHANGE(1)
}

/* e^x for x <= 88. x = n ln 2 + r with |r| <= ln(2)/2; a polynomial of degree 6, fitted
 * so that the largest relative error of e^r is least, leaves 2e-8. Adding and subtracting
 * 1.5 * 2^23 rounds to an integer, which then stands in the lowest bits of the sum. Below -87
 * the result is e^-87, which is nothing beside the 1 that every softmax row contains. */
INLINE vec
exponential(vec x)
{
    const vec rounding = all(RP_ROUNDING);
    x = VECTOR_MAX(all(-87.0F), x); /* in this order a NaN comes through */
    const vec shifted = fused(x, all(1.44269504F), rounding), n = shifted - rounding;
    vec r = fused(n, all(-0.693359375F), x); /* exact: 9 bits */
    r = fused(n, all(2.12194440e-4F), r);    /* the rest of ln 2 */
    vec y = all(1.383683524e-3F);
    y = fused(y, r, all(8.374824202e-3F));
    y = fused(y, r, all(4.166822621e-2F));
    y = fused(y, r, all(1.666642007e-1F));
    y = fused(y, r, all(4.999999207e-1F));
    y = fused(y, r, all(1.0F));
    y = fused(y, r, all(1.0F));
    return (vec)((ivec)y + ((ivec)shifted << 23));
}

/* gelu(x) = x * (1 + erf(x / sqrt(2))) / 2 = max(x, 0) - g(|x|), g(s) = s / 2 * erfc(s / sqrt(2)),
 * which has no cancellation for either sign of x. g is a polynomial of u = 1 - 2 s / END on
 * [0, END], fitted there so that its largest error is least, and nearly 0 beyond. A
 * division, which 1 - erf by a rational function or e^x would need, costs as much as sixteen
 * of these steps.
 *   f32     END 5.5, degree 18: 1.3e-7, rounding included
 *   bf16    END 4.5, degree 10: 1.5e-5
 *   int8    END 3.8, degree 7: 1.1e-4, and 4e-4 beyond END; a step of int8 is 1e-2 and more
 * The others are far below what their class keeps of the result, too. */
INLINE vec
gelu(vec x, const int class)
{
    static const float exact[] = {
        3.079180791e-03F, -7.573309464e-03F, -2.955790088e-02F, 3.270825660e-02F,
        1.249235793e-01F, -1.886474771e-02F, -2.832056516e-01F, -1.801009053e-01F,
        2.877180768e-01F, 5.176175927e-01F, 1.460134879e-01F, -4.513998656e-01F,
        -6.272779819e-01F, -2.617382870e-01F, 1.788457213e-01F, 3.087751813e-01F,
        1.912671940e-01F, 6.057601658e-02F, 8.194346518e-03F,
    };
    static const float rough[] = {
        -4.258673798e-02F, -2.178265364e-02F, 1.763802972e-01F, 1.763153568e-01F,
        -2.049071294e-01F, -4.347816068e-01F, -2.029683195e-01F, 1.472158635e-01F,
        2.465924006e-01F, 1.330395030e-01F, 2.749713394e-02F,
    };
    static const float roughest[] = {
        6.518989801e-02F, 6.281246245e-02F, -1.814709604e-01F, -3.103935719e-01F,
        -6.699515879e-02F, 1.931218952e-01F, 1.831546426e-01F, 5.450312048e-02F,
    };
    const bool fine = class == RP_CLASS_F32, bytes = class == RP_CLASS_INT8;
    const float *terms = fine ? exact : bytes ? roughest : rough;
    const size_t count = fine    ? sizeof exact / sizeof *exact
                         : bytes ? sizeof roughest / sizeof *roughest
                                 : sizeof rough / sizeof *rough;
    const float end = fine ? 5.5F : bytes ? 3.8F : 4.5F;
    vec u = fused(absolute(x), all(-2.0F / end), all(1.0F));
    u = VECTOR_MAX(all(-1.0F), u); /* in this order a NaN comes through */
    vec g = all(terms[0]);
    _Pragma("GCC unroll 20") for (size_t i = 1; i < count; i++)
        g = fused(g, u, all(terms[i]));
    return VECTOR_MAX(x, (vec){ 0 }) - g;
}

/* Four bytes in every lane. */
INLINE vec
all_bits(const char *from)
{
    int32_t bits;
    memcpy(&bits, from, sizeof bits);
    return (vec)(bits - (ivec){ 0 });
}

/* sums (rows, vectors) += a (rows, steps) * b (steps, vectors * LANES), strides in bytes.
 * `lines` cache lines at `ahead` are fetched at every step. For bf16 as f32 the rows of a
 * are f32, so a step has eight bytes; the even numbers of a step are in the low halves. */
INLINE void
multiply_tile(const int class, const char *a, size_t a_stride, const char *b, size_t b_stride,
              size_t steps, vec sums[ROWS_MAX][VECTORS_MAX], const size_t rows,
              const size_t vectors, const char *ahead, const size_t lines)
{
    const size_t a_step = class == RP_CLASS_BF16 && BF16_AS_F32 ? 8 : 4;
    const char *const end = a + steps * a_step;
    for (; a < end; a += a_step, b += b_stride) {
        vec columns[VECTORS_MAX];
        UNROLL for (size_t v = 0; v < vectors; v++) {
            columns[v] = load((const float *)(const void *)b + v * LANES);
            if (class == RP_CLASS_BF16 && BF16_AS_F32)
                columns[v] = (vec)((ivec)columns[v] << 16);
        }
        UNROLL for (size_t r = 0; r < rows; r++) {
            const vec x = all_bits(a + r * a_stride);
            UNROLL for (size_t v = 0; v < vectors; v++) {
                if (class == RP_CLASS_INT8)
                    DOT_INT8(sums[r][v], x, columns[v]);
                else if (class == WHOLE)
                    DOT_INT16(sums[r][v], x, columns[v]);
                else if (class == RP_CLASS_BF16 && !BF16_AS_F32)
                    DOT_BF16(sums[r][v], x, columns[v]);
                else
                    FMA(sums[r][v], x, columns[v]);
            }
        }
        if (class == RP_CLASS_BF16 && BF16_AS_F32) {
            /* The odd numbers, read again: registers are for sums. */
            UNROLL for (size_t v = 0; v < vectors; v++)
                columns[v] = (vec)((ivec)load((const float *)(const void *)b + v * LANES) &
                                   (int32_t)0xffff0000);
            UNROLL for (size_t r = 0; r < rows; r++) {
                const vec x = all_bits(a + r * a_stride + 4);
                UNROLL for (size_t v = 0; v < vectors; v++)
                    FMA(sums[r][v], x, columns[v]);
            }
        }
        UNROLL for (size_t line = 0; line < lines; line++)
            PREFETCH(ahead + line * 64);
        ahead += lines * 64;
    }
}

/* One tile of a matmul: GELU and residual. A tile that hangs over the last column goes
 * through a buffer. */
INLINE void
finish_tile(const int class, const rp_matmul *task, size_t row, size_t column,
            vec sums[ROWS_MAX][VECTORS_MAX], const size_t rows)
{
    const size_t left = task->by->columns - column;
    const bool whole = left >= PANEL;
    float overhang[PANEL];
    UNROLL for (size_t r = 0; r < rows; r++) {
        float *out = task->out + (row + r) * task->out_stride + column;
        const float *residual =
            task->residual ? task->residual + (row + r) * task->residual_stride + column : NULL;
        UNROLL for (size_t v = 0; v < VECTORS_MAX; v++) {
            vec value = sums[r][v];
            if (task->gelu)
                value = gelu(value, class);
            if (whole && residual)
                value += load(residual + v * LANES);
            store((whole ? out : overhang) + v * LANES, value);
        }
        if (!whole)
            for (size_t j = 0; j < left; j++)
                out[j] = overhang[j] + (residual ? residual[j] : 0.0F);
    }
}

/* int8: sums of steps become numbers, bias and outliers join. */
INLINE void
convert_tile(const rp_matmul *task, size_t row, size_t column, vec sums[ROWS_MAX][VECTORS_MAX],
             const size_t rows)
{
    const rp_weights *by = task->by;
    const size_t padded = rp_padded_columns(by->columns, PANEL);
    UNROLL for (size_t r = 0; r < rows; r++) {
        const vec scale = all(task->a.scales[row + r]);
        const vec zero = -(scale * (float)task->a.zeros[row + r]);
        UNROLL for (size_t v = 0; v < VECTORS_MAX; v++) {
            const size_t at = column + v * LANES;
            const vec sum = fused(__builtin_convertvector((ivec)sums[r][v], vec),
                                  load(by->scales + at) * scale, load(by->bias + at));
            sums[r][v] = fused(zero, load(by->sums + at), sum);
        }
        for (size_t i = 0; i < by->outlier_count; i++) {
            const vec x = all(task->a.outliers[(row + r) * by->outlier_count + i]);
            UNROLL for (size_t v = 0; v < VECTORS_MAX; v++)
                FMA(sums[r][v], x, load(by->outliers + i * padded + column + v * LANES));
        }
    }
}

/* The same where they are all that there is. */
INLINE void
convert_whole(const rp_matmul *task, size_t row, size_t column, vec sums[ROWS_MAX][VECTORS_MAX],
              const size_t rows)
{
    UNROLL for (size_t r = 0; r < rows; r++)
        UNROLL for (size_t v = 0; v < VECTORS_MAX; v++) {
            const size_t at = column + v * LANES;
            sums[r][v] = fused(__builtin_convertvector((ivec)sums[r][v], vec),
                               load(task->by->scales + at) * task->a.scales[row + r],
                               load(task->by->bias + at));
        }
}

INLINE void
run_tile(const int class, const rp_matmul *task, size_t row, size_t column, size_t steps,
         const size_t rows, const char *ahead, size_t lines)
{
    vec sums[ROWS_MAX][VECTORS_MAX];
    UNROLL for (size_t r = 0; r < rows; r++)
        UNROLL for (size_t v = 0; v < VECTORS_MAX; v++)
            sums[r][v] = class == RP_CLASS_INT8 || class == WHOLE
                             ? (vec){ 0 }
                             : load(task->by->bias + column + v * LANES);
    const size_t stride = task->a.stride;
    const char *a = (const char *)task->a.values + row * stride;
    const char *b = (const char *)task->by->values + column * steps * 4;
#define RUN(n)                                                                                     \
    multiply_tile(class, a, stride, b, PANEL * 4, steps, sums, rows, VECTORS_MAX, ahead, n)
    switch (lines) {
    case 4:
        RUN(4);
        break;
    case 2:
        RUN(2);
        break;
    case 1:
        RUN(1);
        break;
    default:
        RUN(0);
        break;
    }
#undef RUN
    if (class == RP_CLASS_INT8)
        convert_tile(task, row, column, sums, rows);
    if (class == WHOLE)
        convert_whole(task, row, column, sums, rows);
    finish_tile(class, task, row, column, sums, rows);
}

/* The next panel is fetched while this one is used, spread evenly over its blocks of rows,
 * in whole cache lines of a step. Weights
 * lie in the order of execution, so what follows is always what comes next, past the
 * end of a matrix too; a fetch past the arena does no harm. */
INLINE void
run_panels(const int class, const rp_matmul *task)
{
    const size_t together = class == RP_CLASS_F32 ? 1 : class == RP_CLASS_INT8 ? 4 : 2;
    const size_t steps = (task->by->depth + together - 1) / together;
    const size_t tallest = class == RP_CLASS_INT8 ? ROWS_MAX_INT8 : ROWS_MAX;
    const size_t blocks = (task->rows + tallest - 1) / tallest;
    const size_t panel_lines = PREFETCHES ? PANEL * 4 / 64 : 0; /* cache lines of a step of depth */
    for (size_t column = 0; column < task->by->columns; column += PANEL) {
        const char *ahead = (const char *)task->by->values + (column + PANEL) * steps * 4;
        size_t row = 0;
        /* Blocks of nearly equal height: 8 rows are 4 and 4, not 6 and 2, which would
         * leave the second pass waiting for the panel's bytes. */
        for (size_t block = 0; block < blocks; block++) {
            const size_t rows = (task->rows - row + blocks - block - 1) / (blocks - block);
            const size_t now =
                (block + 1) * panel_lines / blocks - block * panel_lines / blocks;
            switch (rows) {
#define CASE(n) case n: run_tile(class, task, row, column, steps, n, ahead, now); break;
            CASES
#undef CASE
            default:
                break;
            }
            row += rows;
            ahead += now * 64 * steps;
        }
    }
}

KERNEL void
matmul_f32(const rp_matmul *task)
{
    run_panels(RP_CLASS_F32, task);
}

KERNEL void
matmul_bf16(const rp_matmul *task)
{
    run_panels(RP_CLASS_BF16, task);
}

#if HAS_INT16
KERNEL void
matmul_whole(const rp_matmul *task)
{
    run_panels(WHOLE, task);
}
#endif

#if HAS_INT8
KERNEL void
matmul_int8(const rp_matmul *task)
{
    run_panels(RP_CLASS_INT8, task);
}
#endif

/* Rounded to bf16 and kept as f32, a pair of zeros at the end of an odd row. */
KERNEL void
prepare_bf16_as_f32(float *in, size_t stride, size_t rows, const rp_weights *by, void *room,
                    rp_rows *out)
{
    const size_t K = by->depth;
    *out = (rp_rows){ .values = room, .stride = (K * sizeof(float) + 63) / 64 * 64 };
    for (size_t row = 0; row < rows; row++) {
        const float *x = in + row * stride;
        float *to = (float *)(void *)((char *)room + row * out->stride);
        size_t k = 0;
        for (; k + LANES <= K; k += LANES) {
            const ivec bits = (ivec)load(x + k);
            const ivec rounded = (bits + 0x7fff + (bits >> 16 & 1)) & (int32_t)0xffff0000;
            /* Infinity and NaN would be carried over into the sign. */
            const ivec odd = (bits & 0x7f800000) == 0x7f800000;
            store(to + k, (vec)((rounded & ~odd) | (bits & odd)));
        }
        for (; k < K; k++)
            to[k] = rp_from_bf16(rp_to_bf16(x[k]));
        if (K % 2)
            to[K] = 0;
    }
}

/* The same as pairs of 16 bits. */
KERNEL void
prepare_bf16(float *in, size_t stride, size_t rows, const rp_weights *by, void *room, rp_rows *out)
{
    typedef uint32_t uvec __attribute__((vector_size(4 * LANES)));
    typedef uint16_t narrow __attribute__((vector_size(2 * LANES)));
    const size_t K = by->depth;
    *out = (rp_rows){ .values = room, .stride = (K * sizeof(uint16_t) + 63) / 64 * 64 };
    for (size_t row = 0; row < rows; row++) {
        const float *x = in + row * stride;
        uint16_t *to = (uint16_t *)(void *)((char *)room + row * out->stride);
        size_t k = 0;
        for (; k + LANES <= K; k += LANES) {
            const uvec bits = (uvec)load(x + k);
            const uvec rounded = (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
            const uvec odd = (uvec)((bits & 0x7f800000) == 0x7f800000);
            const uvec nan = (uvec)((bits & 0x7fffffff) > 0x7f800000);
            const narrow half = __builtin_convertvector(
                (rounded & ~odd) | ((bits >> 16) & odd) | (nan & 0x40), narrow);
            memcpy(to + k, &half, sizeof half);
        }
        for (; k < K; k++)
            to[k] = rp_to_bf16(x[k]);
        if (K % 2)
            to[K] = 0;
    }
}

/* The smallest and the largest number of a row and 0, as the bits of floats: those of positive
 * ones order like integers, and infinity and NaN above them; negative ones do with their sign
 * turned. Four vectors at a time, so that none waits for the one before. */
INLINE void
find_range(const float *x, size_t n, float *low, float *high, bool *bad)
{
    enum { AT_ONCE = 4 };
    ivec highest[AT_ONCE] = { { 0 } }, lowest[AT_ONCE] = { { 0 } };
    size_t i = 0;
    for (; i + AT_ONCE * LANES <= n; i += AT_ONCE * LANES)
        UNROLL for (size_t v = 0; v < AT_ONCE; v++) {
            const ivec bits = (ivec)load(x + i + v * LANES);
            highest[v] = IVECTOR_MAX(bits, highest[v]);
            lowest[v] = UVECTOR_MAX(bits, lowest[v]);
        }
    for (; i + LANES <= n; i += LANES) {
        const ivec bits = (ivec)load(x + i);
        highest[0] = IVECTOR_MAX(bits, highest[0]);
        lowest[0] = UVECTOR_MAX(bits, lowest[0]);
    }
    UNROLL for (size_t v = 1; v < AT_ONCE; v++) {
        highest[0] = IVECTOR_MAX(highest[v], highest[0]);
        lowest[0] = UVECTOR_MAX(lowest[v], lowest[0]);
    }
    FOLD(highest[0], IVECTOR_MAX);
    FOLD(lowest[0], UVECTOR_MAX);
    int32_t most = highest[0][0], bits;
    uint32_t least = (uint32_t)lowest[0][0];
    for (; i < n; i++) {
        memcpy(&bits, x + i, sizeof bits);
        most = bits > most ? bits : most;
        least = (uint32_t)bits > least ? (uint32_t)bits : least;
    }
    least = least > 0x80000000 ? least : 0; /* nothing is below 0 */
    *bad = most >= 0x7f800000 || least >= 0xff800000;
    memcpy(high, &most, sizeof most);
    memcpy(low, &least, sizeof least);
}

/* x = scale * (step - zero), steps in 0..255, the row's smallest and largest number at the
 * ends and 0 exactly on a step. A row that is not finite gets a scale of NaN. A number plus
 * RP_ROUNDING has its nearest integer in its lowest bits; none is below 0, since `zero` was
 * rounded in the same way, but zero and the largest may both have been rounded up, to 256. */
INLINE void
quantize_row(const float *x, size_t n, uint8_t *out, float *scale, int32_t *zero)
{
    float low, high;
    bool bad;
    find_range(x, n, &low, &high, &bad);
    const float range = high - low, inverse = range > RP_NOTHING && !bad ? 255 / range : 0;
    const float origin = RP_ROUNDING - fused(all(low), all(inverse), all(RP_ROUNDING))[0];
    *scale = bad ? NAN : range / 255;
    *zero = bad ? 0 : (int32_t)origin;
    const vec shift = all(RP_ROUNDING) + (float)*zero, most = all(RP_ROUNDING + 255);
    size_t i = 0;
    for (; i + LANES <= n; i += LANES) {
        const vec step = VECTOR_MIN(fused(load(x + i), all(inverse), shift), most);
        const byte_vec bytes = (byte_vec)NARROW_TO_8((ivec)step);
        memcpy(out + i, &bytes, sizeof bytes);
    }
    for (; i < n; i++) {
        const vec step = VECTOR_MIN(fused(all(x[i]), all(inverse), shift), most);
        out[i] = (uint8_t)((ivec)step)[0];
    }
}

/* Outliers leave all rows first and come back last: a number that was just stored holds up the
 * load of a vector that contains it. */
KERNEL void
prepare_int8(float *in, size_t stride, size_t rows, const rp_weights *by, void *room, rp_rows *out)
{
    float *scales, *outliers;
    int32_t *zeros;
    rp_split_room(room, rows, by->depth, by->outlier_count, out, &scales, &zeros, &outliers);
    for (size_t row = 0; row < rows; row++)
        rp_take_outliers(in + row * stride, by, outliers + row * by->outlier_count);
    for (size_t row = 0; row < rows; row++) {
        const float *x = in + row * stride;
        uint8_t *to = (uint8_t *)room + row * out->stride;
        quantize_row(x, by->depth, to, &scales[row], &zeros[row]);
        for (size_t k = by->depth; k % 4; k++)
            to[k] = 0;
        if (SIGNED_STEPS) {
            for (size_t k = 0; k < by->depth; k++)
                to[k] ^= 0x80;
            zeros[row] -= 128;
        }
    }
    for (size_t row = 0; row < rows; row++)
        rp_put_outliers(in + row * stride, by, outliers + row * by->outlier_count);
}

/* The largest |x| of a row and the sum of all; `bad`: one is not finite. */
INLINE void
find_sizes(const float *x, size_t n, float *largest, float *sum, bool *bad)
{
    enum { AT_ONCE = 4 };
    ivec most[AT_ONCE] = { { 0 } };
    vec sums[AT_ONCE] = { { 0 } };
    size_t i = 0;
    for (; i + AT_ONCE * LANES <= n; i += AT_ONCE * LANES)
        UNROLL for (size_t v = 0; v < AT_ONCE; v++) {
            const vec size = absolute(load(x + i + v * LANES));
            most[v] = IVECTOR_MAX((ivec)size, most[v]);
            sums[v] += size;
        }
    for (; i + LANES <= n; i += LANES) {
        const vec size = absolute(load(x + i));
        most[0] = IVECTOR_MAX((ivec)size, most[0]);
        sums[0] += size;
    }
    for (; i < n; i++) {
        const vec size = absolute(all(x[i]));
        most[0] = IVECTOR_MAX((ivec)size, most[0]);
        sums[0][0] += size[0];
    }
    UNROLL for (size_t v = 1; v < AT_ONCE; v++) {
        most[0] = IVECTOR_MAX(most[v], most[0]);
        sums[0] += sums[v];
    }
    FOLD(most[0], IVECTOR_MAX);
    FOLD(sums[0], IVECTOR_ADD);
    const int32_t bits = most[0][0];
    *bad = bits >= 0x7f800000;
    memcpy(largest, &bits, sizeof bits);
    *sum = sums[0][0];
}

/* bf16 in whole numbers: x = scale * step. A row has as many steps as its sizes allow: a sum of
 * products is at most 2047 * sum |step|, and rounding adds at most a half to each. So a row with
 * few large numbers, as activations have them, has finer steps for all others than if its
 * largest number alone counted. */
KERNEL void
prepare_whole(float *in, size_t stride, size_t rows, const rp_weights *by, void *room, rp_rows *out)
{
    const size_t K = by->depth;
    float *scales, *none;
    int32_t *zeros;
    rp_split_room(room, rows, K * sizeof(int16_t), 0, out, &scales, &zeros, &none);
    for (size_t row = 0; row < rows; row++) {
        const float *x = in + row * stride;
        int16_t *to = (int16_t *)(void *)((char *)room + row * out->stride);
        float largest, sum;
        bool bad;
        find_sizes(x, K, &largest, &sum, &bad);
        const float most = RP_WHOLE_SUM - (float)K, bound = sum * (INT16_MAX - 1);
        const bool any = !bad && largest > RP_NOTHING && isfinite(bound) && K < 500000;
        const float scale = !any                    ? largest
                            : bound > most * largest ? sum / most
                                                     : largest / (INT16_MAX - 1);
        const float inverse = any ? 1 / scale : 0;
        scales[row] = any || largest <= RP_NOTHING ? scale : NAN;
        size_t k = 0;
        for (; k + LANES <= K; k += LANES) {
            const half_vec steps =
                (half_vec)NARROW_TO_16((ivec)fused(load(x + k), all(inverse), all(RP_ROUNDING)));
            memcpy(to + k, &steps, sizeof steps);
        }
        for (; k < K; k++)
            to[k] = (int16_t)((ivec)fused(all(x[k]), all(inverse), all(RP_ROUNDING)))[0];
        if (K % 2)
            to[K] = 0;
    }
}

/* sums of the tile to out; used by attention, which has no bias. */
INLINE void
multiply_and_store(const float *a, size_t a_stride, const float *b, size_t b_stride, size_t depth,
                   float *out, size_t out_stride, const size_t rows, const size_t vectors)
{
    vec sums[ROWS_MAX][VECTORS_MAX];
    UNROLL for (size_t r = 0; r < rows; r++)
        UNROLL for (size_t v = 0; v < vectors; v++)
            sums[r][v] = (vec){ 0 };
    multiply_tile(RP_CLASS_F32, (const char *)a, a_stride * 4, (const char *)b, b_stride * 4, depth,
                  sums, rows, vectors, NULL, 0);
    UNROLL for (size_t r = 0; r < rows; r++)
        UNROLL for (size_t v = 0; v < vectors; v++)
            store(out + r * out_stride + v * LANES, sums[r][v]);
}

/* out (rows, columns) = a (rows, depth) * b (depth, columns); columns is a multiple of
 * LANES. */
INLINE void
multiply_rows(const float *a, size_t a_stride, const float *b, size_t b_stride, size_t depth,
              float *out, size_t out_stride, const size_t rows, size_t columns)
{
    size_t column = 0;
    for (; column + PANEL <= columns; column += PANEL)
        multiply_and_store(a, a_stride, b + column, b_stride, depth, out + column, out_stride,
                           rows, VECTORS_MAX);
    for (; VECTORS_MAX > 2 && column + 2 * LANES <= columns; column += 2 * LANES)
        multiply_and_store(a, a_stride, b + column, b_stride, depth, out + column, out_stride,
                           rows, VECTORS_MAX > 1 ? 2 : 1);
    for (; column < columns; column += LANES)
        multiply_and_store(a, a_stride, b + column, b_stride, depth, out + column, out_stride,
                           rows, 1);
}

/* Softmax of the scores of keys from..to-1 in place (score[0] is that of `from`), not yet
 * divided by their sum, which is returned. The padding behind the last key gets e^-87. Keys
 * out of reach are left out. */
INLINE float
exponentiate_scores(const rp_attention *task, size_t t, float *score, size_t from, size_t to)
{
    const size_t first = t > task->reach ? t - task->reach : 0;
    const size_t last = task->tokens - t - 1 > task->reach ? t + task->reach + 1 : task->tokens;
    const size_t count = to - from;
    for (size_t j = from; j < first; j++)
        score[j - from] = -INFINITY;
    for (size_t j = last; j < to; j++)
        score[j - from] = -INFINITY;
    vec largest = load(score);
    for (size_t j = LANES; j < count; j += LANES)
        largest = VECTOR_MAX(largest, load(score + j));
    const vec top = max_lanes(largest) * task->scale;
    lanes16 sum = { 0 };
    for (size_t j = 0; j < count; j += 16)
        UNROLL for (size_t v = 0; v < PARTS; v++) {
            float *at = score + j + v * LANES;
            const vec share = exponential(fused(load(at), all(task->scale), -top));
            sum.part[v] += share;
            store(at, share);
        }
    return sum_lanes(sum);
}

/* Rows t..t+rows-1. Only the keys that one of them can reach are multiplied, in whole
 * steps of the padding: local attention over T tokens costs T * reach, not T * T. */
INLINE void
attend_rows(const rp_attention *task, const float *keys, float *score, size_t padded, size_t head,
            size_t t, const size_t rows)
{
    const size_t D = task->head_dim, width = task->heads * D;
    const size_t nearest = t > task->reach ? t - task->reach : 0, end = t + rows;
    const size_t from = nearest / RP_ATTENTION_PAD * RP_ATTENTION_PAD;
    const size_t seen = task->tokens - end > task->reach ? end + task->reach : task->tokens;
    const size_t to = rp_attention_padded(seen), count = to - from;
    const float *query = task->qkv + t * task->qkv_stride + head * D;
    const float *values = task->qkv + from * task->qkv_stride + 2 * width + head * D;
    float *out = task->out + t * task->out_stride + head * D;
    float sums[ROWS_MAX];
    multiply_rows(query, task->qkv_stride, keys + from, padded, D, score, count, rows, count);
    for (size_t r = 0; r < rows; r++)
        sums[r] = exponentiate_scores(task, t + r, score + r * count, from, to);
    multiply_rows(score, count, values, task->qkv_stride,
                  (to < task->tokens ? to : task->tokens) - from, out, task->out_stride, rows, D);
    for (size_t r = 0; r < rows; r++) {
        const float share = 1.0F / sums[r];
        for (size_t d = 0; d < D; d += LANES)
            store(out + r * task->out_stride + d,
                  load(out + r * task->out_stride + d) * share);
    }
}

/* Keys j..j+LANES-1 of a head as columns; those behind the last are 0. */
INLINE void
transpose_keys(const rp_attention *task, size_t head, size_t j, size_t padded, float *out)
{
    const size_t D = task->head_dim, there = task->tokens > j ? task->tokens - j : 0;
    const float *from = task->qkv + (task->heads + head) * D + j * task->qkv_stride;
    for (size_t d = 0; d < D; d += LANES) {
        vec rows[LANES];
        UNROLL for (size_t i = 0; i < LANES; i++)
            rows[i] = i < there ? load(from + i * task->qkv_stride + d) : (vec){ 0 };
        transpose(rows);
        UNROLL for (size_t i = 0; i < LANES; i++)
            store(out + (d + i) * padded, rows[i]);
    }
}

KERNEL void
attention(const rp_attention *task)
{
    if (task->head_dim % LANES) {
        FALLBACK_ATTENTION(task);
        return;
    }
    const size_t D = task->head_dim, padded = rp_attention_padded(task->tokens);
    float *keys = task->scratch, *score = keys + D * padded;
    for (size_t head = 0; head < task->heads; head++) {
        for (size_t j = 0; j < padded; j += LANES)
            transpose_keys(task, head, j, padded, keys + j);
        const size_t blocks = (task->tokens + ROWS_MAX - 1) / ROWS_MAX;
        size_t t = 0;
        for (size_t block = 0; block < blocks; block++) {
            const size_t rows = (task->tokens - t + blocks - block - 1) / (blocks - block);
            switch (rows) {
#define CASE(n) case n: attend_rows(task, keys, score, padded, head, t, n); break;
            CASES
#undef CASE
            default:
                break;
            }
            t += rows;
        }
    }
}

KERNEL void
layer_norm(const float *in, size_t rows, size_t n, const float *gain, const float *bias,
           float epsilon, float *out)
{
    if (n % LANES) {
        FALLBACK_LAYER_NORM(in, rows, n, gain, bias, epsilon, out);
        return;
    }
    for (size_t row = 0; row < rows; row++, in += n, out += n) {
        lanes16 sum = { 0 }, squares = { 0 };
        for (size_t i = 0; i < n; i += 16)
            UNROLL for (size_t v = 0; v < PARTS; v++)
                if (i + v * LANES < n)
                    sum.part[v] += load(in + i + v * LANES);
        const vec mean = all(sum_lanes(sum) / (float)n);
        for (size_t i = 0; i < n; i += 16)
            UNROLL for (size_t v = 0; v < PARTS; v++)
                if (i + v * LANES < n) {
                    const vec x = load(in + i + v * LANES) - mean;
                    squares.part[v] = fused(x, x, squares.part[v]);
                }
        const vec scale = all(1.0F / sqrtf(sum_lanes(squares) / (float)n + epsilon));
        for (size_t i = 0; i < n; i += LANES) {
            const vec x = (load(in + i) - mean) * scale;
            store(out + i, bias ? fused(x, load(gain + i), load(bias + i)) : x * load(gain + i));
        }
    }
}

KERNEL void
gate(float *rows, size_t stride, size_t count, size_t n)
{
    for (size_t row = 0; row < count; row++, rows += stride) {
        size_t i = 0;
        for (; i + LANES <= n; i += LANES)
            store(rows + i, gelu(load(rows + i), RP_CLASS_F32) * load(rows + n + i));
        for (; i < n; i++)
            rows[i] = gelu(all(rows[i]), RP_CLASS_F32)[0] * rows[n + i];
    }
}

KERNEL float
dot(const float *a, const float *b, size_t n)
{
    lanes16 sum = { 0 };
    size_t i = 0;
    for (; i + 16 <= n; i += 16)
        UNROLL for (size_t v = 0; v < PARTS; v++)
            sum.part[v] = fused(load(a + i + v * LANES), load(b + i + v * LANES), sum.part[v]);
    float rest = 0;
    for (; i < n; i++)
        rest += a[i] * b[i];
    return sum_lanes(sum) + rest;
}

/* ---- for benchmarks ---- */

/* What multiply_tile repeats, without a byte from memory: the most this tier could do. The
 * compiler is told that an operand changes, or it would prepare it once for all, and sums
 * begin differently, or it would keep one of them. */
INLINE uint64_t
repeat_tile(const int class, uint64_t times, const size_t rows)
{
    const bool widened = class == RP_CLASS_F32 || (class == RP_CLASS_BF16 && BF16_AS_F32);
    vec sums[ROWS_MAX][VECTORS_MAX], a = { 0 }, b = { 0 };
    UNROLL for (size_t r = 0; r < rows; r++)
        UNROLL for (size_t v = 0; v < VECTORS_MAX; v++)
            sums[r][v] = all((float)(r * VECTORS_MAX + v));
    for (uint64_t i = 0; i < times; i++) {
        RP_NO_FUSE(a);
        RP_NO_FUSE(b);
        UNROLL for (size_t r = 0; r < rows; r++)
            UNROLL for (size_t v = 0; v < VECTORS_MAX; v++) {
                if (class == RP_CLASS_INT8)
                    DOT_INT8(sums[r][v], a, b);
                else if (class == WHOLE)
                    DOT_INT16(sums[r][v], a, b);
                else if (class == RP_CLASS_BF16 && !BF16_AS_F32)
                    DOT_BF16(sums[r][v], a, b);
                else
                    FMA(sums[r][v], a, b);
            }
    }
    vec total = { 0 };
    UNROLL for (size_t r = 0; r < rows; r++)
        UNROLL for (size_t v = 0; v < VECTORS_MAX; v++)
            total += sums[r][v];
    volatile float wanted = total[0]; /* or all of it would be left out */
    (void)wanted;
    const size_t products = widened ? 1 : class == RP_CLASS_INT8 ? 4 : 2;
    return times * rows * VECTORS_MAX * LANES * products * 2;
}

KERNEL uint64_t
peak_f32(uint64_t times)
{
    return repeat_tile(RP_CLASS_F32, times, ROWS_MAX);
}

KERNEL uint64_t
peak_bf16(uint64_t times)
{
    return repeat_tile(RP_CLASS_BF16, times, ROWS_MAX);
}

#if HAS_INT16
KERNEL uint64_t
peak_whole(uint64_t times)
{
    return repeat_tile(WHOLE, times, ROWS_MAX);
}
#endif

#if HAS_INT8
KERNEL uint64_t
peak_int8(uint64_t times)
{
    return repeat_tile(RP_CLASS_INT8, times, ROWS_MAX_INT8);
}
#endif

/* Eight lines at a time, the next page asked for. */
KERNEL float
read_all(const float *from, size_t n)
{
    enum { LINE = 16, LINES = 8, AHEAD = 1024 };
    vec sum[LINES] = { { 0 } };
    size_t i = 0;
    for (; i + LINES * LINE <= n; i += LINES * LINE)
        UNROLL for (size_t line = 0; line < LINES; line++) {
            if (PREFETCHES)
                PREFETCH((const char *)(from + i + line * LINE + AHEAD));
            UNROLL for (size_t v = 0; v < LINE / LANES; v++)
                sum[line] = (vec)((ivec)sum[line] | (ivec)load(from + i + line * LINE + v * LANES));
        }
    for (; i + LANES <= n; i += LANES)
        sum[0] = (vec)((ivec)sum[0] | (ivec)load(from + i));
    UNROLL for (size_t line = 1; line < LINES; line++)
        sum[0] = (vec)((ivec)sum[0] | (ivec)sum[line]);
    return sum[0][0];
}
