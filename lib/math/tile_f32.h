/* tile_f32.h - the f32 kernels of all vector tiers, written once.
 *
 * A tier's file defines the macros below for its instruction set, includes this
 * file, and fills its table with the functions. Everything is built on one tile:
 * up to ROWS_MAX rows of a times up to VECTORS_MAX vectors of columns, whose sums
 * stay in registers for the whole depth.
 *
 *   LANES         floats in a vector
 *   ROWS_MAX, VECTORS_MAX   the tile; ROWS_MAX * VECTORS_MAX sums, VECTORS_MAX
 *                 columns and one broadcast must fit the registers
 *   FMA(sum, a, b)  sum += a * b. Written as one line of assembly because gcc 12
 *                 spills the sums of the intrinsic to the stack (a third of the rate).
 *   VECTOR_MAX(a, b)  the larger, lane by lane; b where either is NaN
 *   PREFETCH(p)   fetch towards the second-level cache, or nothing: it gained on
 *                 Intel and cost 10 to 27 % on AMD Zen 4 (measured with prototypes)
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

/* Fixed order of summation: results repeat. */
INLINE float
sum_lanes(vec x)
{
    float lanes[LANES];
    memcpy(lanes, &x, sizeof lanes);
    for (size_t width = LANES / 2; width; width /= 2)
        for (size_t i = 0; i < width; i++)
            lanes[i] += lanes[i + width];
    return lanes[0];
}

INLINE float
max_lanes(vec x)
{
    float lanes[LANES];
    memcpy(lanes, &x, sizeof lanes);
    for (size_t width = LANES / 2; width; width /= 2)
        for (size_t i = 0; i < width; i++)
            lanes[i] = lanes[i] > lanes[i + width] ? lanes[i] : lanes[i + width];
    return lanes[0];
}

/* e^x for x <= 88. x = n ln 2 + r with |r| <= ln(2)/2; the Taylor series of e^r to
 * degree 7 leaves 5e-9. Adding and subtracting 1.5 * 2^23 rounds to an integer.
 * Below -87 the result is e^-87, which is nothing beside the 1 that every softmax
 * row contains. */
INLINE vec
exponential(vec x)
{
    const vec rounding = all(12582912.0F);
    x = VECTOR_MAX(all(-87.0F), x); /* in this order a NaN comes through */
    const vec n = (x * 1.44269504F + rounding) - rounding;
    vec r = x - n * 0.693359375F; /* exact: 9 bits */
    r = r - n * -2.12194440e-4F;  /* the rest of ln 2 */
    vec y = all(1.0F / 5040);
    y = y * r + 1.0F / 720;
    y = y * r + 1.0F / 120;
    y = y * r + 1.0F / 24;
    y = y * r + 1.0F / 6;
    y = y * r + 0.5F;
    y = y * r + 1.0F;
    y = y * r + 1.0F;
    return (vec)((ivec)y + (__builtin_convertvector(n, ivec) << 23));
}

/* GELU with erf by Abramowitz and Stegun, 7.1.26 (absolute error 1.5e-7):
 *     1 - erf(z) = (a1 t + ... + a5 t^5) e^(-z^2),  t = 1 / (1 + p z),  z >= 0
 *     gelu(x)    = max(x, 0) - |x| / 2 * (1 - erf(|x| / sqrt(2)))
 * which has no cancellation for either sign of x. */
INLINE vec
gelu(vec x)
{
    const vec size = absolute(x), z = size * 0.70710678F;
    const vec t = 1.0F / (1.0F + 0.3275911F * z);
    vec q = t * 1.061405429F - 1.453152027F;
    q = q * t + 1.421413741F;
    q = q * t - 0.284496736F;
    q = q * t + 0.254829592F;
    q = q * t * exponential(-(z * z));
    return VECTOR_MAX(x, (vec){ 0 }) - 0.5F * size * q;
}

/* sums (rows, vectors) += a (rows, depth) * b (depth, vectors * LANES). `lines` cache
 * lines at `ahead` are fetched at every step of depth. */
INLINE void
multiply_tile(const float *a, size_t a_stride, const float *b, size_t b_stride, size_t depth,
              vec sums[ROWS_MAX][VECTORS_MAX], const size_t rows, const size_t vectors,
              const char *ahead, const size_t lines)
{
    const float *const end = a + depth;
    for (; a < end; a++, b += b_stride) {
        vec columns[VECTORS_MAX];
        UNROLL for (size_t v = 0; v < vectors; v++)
            columns[v] = load(b + v * LANES);
        UNROLL for (size_t r = 0; r < rows; r++) {
            const vec x = all(a[r * a_stride]);
            UNROLL for (size_t v = 0; v < vectors; v++)
                FMA(sums[r][v], x, columns[v]);
        }
        UNROLL for (size_t line = 0; line < lines; line++)
            PREFETCH(ahead + line * 64);
        ahead += lines * 64;
    }
}

/* One tile of a matmul: product, bias, GELU, residual. A tile that hangs over the last
 * column goes through a buffer. */
INLINE void
finish_tile(const rp_matmul *task, size_t row, size_t column, vec sums[ROWS_MAX][VECTORS_MAX],
            const size_t rows)
{
    const bool whole = task->columns - column >= PANEL;
    float overhang[PANEL];
    UNROLL for (size_t r = 0; r < rows; r++) {
        float *out = task->out + (row + r) * task->out_stride + column;
        const float *residual =
            task->residual ? task->residual + (row + r) * task->residual_stride + column : NULL;
        UNROLL for (size_t v = 0; v < VECTORS_MAX; v++) {
            vec value = sums[r][v];
            if (task->gelu)
                value = gelu(value);
            if (whole && residual)
                value += load(residual + v * LANES);
            store((whole ? out : overhang) + v * LANES, value);
        }
        if (!whole)
            for (size_t j = 0; j < task->columns - column; j++)
                out[j] = overhang[j] + (residual ? residual[j] : 0.0F);
    }
}

INLINE void
run_tile(const rp_matmul *task, size_t row, size_t column, const size_t rows, const char *ahead,
         size_t lines)
{
    vec sums[ROWS_MAX][VECTORS_MAX];
    UNROLL for (size_t r = 0; r < rows; r++)
        UNROLL for (size_t v = 0; v < VECTORS_MAX; v++)
            sums[r][v] = load(task->bias + column + v * LANES);
    const float *a = task->a + row * task->a_stride;
    const float *b = task->weights + column * task->depth;
    switch (lines) {
    case 4:
        multiply_tile(a, task->a_stride, b, PANEL, task->depth, sums, rows, VECTORS_MAX, ahead, 4);
        break;
    case 2:
        multiply_tile(a, task->a_stride, b, PANEL, task->depth, sums, rows, VECTORS_MAX, ahead, 2);
        break;
    case 1:
        multiply_tile(a, task->a_stride, b, PANEL, task->depth, sums, rows, VECTORS_MAX, ahead, 1);
        break;
    default:
        multiply_tile(a, task->a_stride, b, PANEL, task->depth, sums, rows, VECTORS_MAX, ahead, 0);
        break;
    }
    finish_tile(task, row, column, sums, rows);
}

/* The next panel is fetched while this one is used, spread over its blocks of rows:
 * all of it by one block, half by each of two, a quarter by the first four. Weights
 * lie in the order of execution, so what follows is always what comes next, past the
 * end of a matrix too; a fetch past the arena does no harm. */
static void
matmul(const rp_matmul *task)
{
    const size_t blocks = (task->rows + ROWS_MAX - 1) / ROWS_MAX;
    const size_t panel_lines = PANEL * 4 / 64; /* cache lines of a step of depth */
    const size_t lines = !PREFETCHES || !blocks ? 0 : blocks == 1 ? panel_lines
                         : blocks < 4 ? (panel_lines + 1) / 2 : (panel_lines + 3) / 4;
    for (size_t column = 0; column < task->columns; column += PANEL) {
        const char *ahead = (const char *)(task->weights + (column + PANEL) * task->depth);
        const char *const ahead_end = ahead + task->depth * PANEL * 4;
        size_t row = 0;
        /* Blocks of nearly equal height: 8 rows are 4 and 4, not 6 and 2, which would
         * leave the second pass waiting for the panel's bytes. */
        for (size_t block = 0; block < blocks; block++) {
            const size_t rows = (task->rows - row + blocks - block - 1) / (blocks - block);
            const size_t now = ahead < ahead_end ? lines : 0;
            switch (rows) {
#define CASE(n) case n: run_tile(task, row, column, n, ahead, now); break;
            CASES
#undef CASE
            default:
                break;
            }
            row += rows;
            ahead += now * 64 * task->depth;
        }
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
    multiply_tile(a, a_stride, b, b_stride, depth, sums, rows, vectors, NULL, 0);
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

/* Softmax of `tokens` scores in place, not yet divided by their sum, which is returned.
 * The padding behind them gets e^-87. Keys out of reach are left out. */
INLINE float
exponentiate_scores(const rp_attention *task, size_t t, float *score, size_t padded)
{
    const size_t first = t > task->reach ? t - task->reach : 0;
    const size_t last = task->tokens - t - 1 > task->reach ? t + task->reach + 1 : task->tokens;
    for (size_t j = 0; j < first; j++)
        score[j] = -INFINITY;
    for (size_t j = last; j < padded; j++)
        score[j] = -INFINITY;
    vec largest = load(score);
    for (size_t j = LANES; j < padded; j += LANES)
        largest = VECTOR_MAX(largest, load(score + j));
    const vec top = all(max_lanes(largest) * task->scale);
    vec sum = { 0 };
    for (size_t j = 0; j < padded; j += LANES) {
        const vec share = exponential(load(score + j) * task->scale - top);
        sum += share;
        store(score + j, share);
    }
    return sum_lanes(sum);
}

INLINE void
attend_rows(const rp_attention *task, const float *keys, float *score, size_t padded, size_t head,
            size_t t, const size_t rows)
{
    const size_t D = task->head_dim, width = task->heads * D;
    const float *query = task->qkv + t * task->qkv_stride + head * D;
    const float *values = task->qkv + 2 * width + head * D;
    float *out = task->out + t * task->out_stride + head * D;
    float sums[ROWS_MAX];
    multiply_rows(query, task->qkv_stride, keys, padded, D, score, padded, rows, padded);
    for (size_t r = 0; r < rows; r++)
        sums[r] = exponentiate_scores(task, t + r, score + r * padded, padded);
    multiply_rows(score, padded, values, task->qkv_stride, task->tokens, out, task->out_stride,
                  rows, D);
    for (size_t r = 0; r < rows; r++) {
        const float share = 1.0F / sums[r];
        for (size_t d = 0; d < D; d += LANES)
            store(out + r * task->out_stride + d,
                  load(out + r * task->out_stride + d) * share);
    }
}

static void
attention(const rp_attention *task)
{
    if (task->head_dim % LANES) {
        FALLBACK.attention(task);
        return;
    }
    const size_t D = task->head_dim, padded = rp_attention_padded(task->tokens);
    float *keys = task->scratch, *score = keys + D * padded;
    for (size_t head = 0; head < task->heads; head++) {
        const float *from = task->qkv + task->heads * D + head * D;
        for (size_t j = 0; j < task->tokens; j++)
            for (size_t d = 0; d < D; d++)
                keys[d * padded + j] = from[j * task->qkv_stride + d];
        for (size_t d = 0; d < D; d++)
            for (size_t j = task->tokens; j < padded; j++)
                keys[d * padded + j] = 0;
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

static void
layer_norm(const float *in, size_t rows, size_t n, const float *gain, const float *bias,
           float epsilon, float *out)
{
    if (n % LANES) {
        FALLBACK.layer_norm(in, rows, n, gain, bias, epsilon, out);
        return;
    }
    for (size_t row = 0; row < rows; row++, in += n, out += n) {
        vec sum = { 0 }, squares = { 0 };
        for (size_t i = 0; i < n; i += LANES)
            sum += load(in + i);
        const vec mean = all(sum_lanes(sum) / (float)n);
        for (size_t i = 0; i < n; i += LANES) {
            const vec x = load(in + i) - mean;
            squares += x * x;
        }
        const vec scale = all(1.0F / sqrtf(sum_lanes(squares) / (float)n + epsilon));
        for (size_t i = 0; i < n; i += LANES) {
            vec x = (load(in + i) - mean) * scale * load(gain + i);
            if (bias)
                x += load(bias + i);
            store(out + i, x);
        }
    }
}

static float
dot(const float *a, const float *b, size_t n)
{
    vec sums[4] = { { 0 }, { 0 }, { 0 }, { 0 } };
    size_t i = 0;
    for (; i + 4 * LANES <= n; i += 4 * LANES)
        for (size_t v = 0; v < 4; v++)
            sums[v] += load(a + i + v * LANES) * load(b + i + v * LANES);
    for (; i + LANES <= n; i += LANES)
        sums[0] += load(a + i) * load(b + i);
    float sum = sum_lanes((sums[0] + sums[1]) + (sums[2] + sums[3]));
    for (; i < n; i++)
        sum += a[i] * b[i];
    return sum;
}
