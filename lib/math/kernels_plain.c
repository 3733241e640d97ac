/* kernels_plain.c - what runs where no faster tier does, in plain C.
 *
 * Products are written as their formulas read. Attention, layer norm and GELU are those
 * of tile.h over short vectors of the compiler, with a fused multiply-add that is computed
 * in double precision: int8 wants the same bits from every tier. */
#define LANES 4
#define ROWS_MAX 4
#define VECTORS_MAX 4
#define CASES CASE(1) CASE(2) CASE(3) CASE(4)
/* The product is exact in double precision; rounding its sum twice instead of once
 * matters about once in 2^29 times. */
typedef double plain_wide __attribute__((vector_size(32)));
#define WIDEN(x) __builtin_convertvector((x), plain_wide)
#define FMA(sum, a, b) \
    ((sum) = __builtin_convertvector(WIDEN(a) * WIDEN(b) + WIDEN(sum), __typeof__(sum)))
#define VECTOR_MAX(a, b) select_larger((a), (b))
#define VECTOR_MIN(a, b) select_smaller((a), (b))
/* Two numbers of 16 bits in each lane. */
#define DOT_INT16(sum, a, b)                                                                       \
    ((sum) = (vec)((ivec)(sum) + ((ivec)(a) << 16 >> 16) * ((ivec)(b) << 16 >> 16) +               \
                   ((ivec)(a) >> 16) * ((ivec)(b) >> 16)))
#define PREFETCHES 0
#define PREFETCH(p) ((void)(p))
#define FALLBACK_ATTENTION16 attention16_any
#define FALLBACK_ATTENTION attention_any
#define FALLBACK_LAYER_NORM layer_norm_any

#include "math/kernels.h"

static void attention_any(const rp_attention *task);
static void attention16_any(const rp_attention *task);
static void layer_norm_any(const float *in, size_t rows, size_t n, const float *gain,
                           const float *bias, float epsilon, float *out);

typedef float plain_vec __attribute__((vector_size(16)));
typedef int32_t plain_mask __attribute__((vector_size(16)));
static inline plain_vec
select_larger(plain_vec a, plain_vec b)
{
    const plain_mask larger = a > b;
    return (plain_vec)(((plain_mask)a & larger) | ((plain_mask)b & ~larger));
}
static inline plain_vec
select_smaller(plain_vec a, plain_vec b)
{
    const plain_mask smaller = a < b;
    return (plain_vec)(((plain_mask)a & smaller) | ((plain_mask)b & ~smaller));
}

#include "math/tile.h"
#include "math/attention16.h"

static float
gelu_one(float x, rp_class class)
{
    return gelu(all(x), class)[0];
}

static float
fused_one(float a, float b, float c)
{
    return (float)((double)a * (double)b + (double)c);
}

/* The sums of one row and one panel, with their bias: what classes do differently. */
typedef void sum_panel(const rp_matmul *task, size_t row, size_t column, float sums[PANEL]);

static void
multiply_all(rp_class class, const rp_matmul *task, sum_panel *sum)
{
    const size_t N = task->by->columns;
    for (size_t column = 0; column < N; column += PANEL)
        for (size_t row = 0; row < task->rows; row++) {
            float sums[PANEL];
            sum(task, row, column, sums);
            float *out = task->out + row * task->out_stride + column;
            for (size_t j = 0; j < PANEL && column + j < N; j++) {
                float value = task->gelu ? gelu_one(sums[j], class) : sums[j];
                if (task->residual)
                    value += task->residual[row * task->residual_stride + column + j];
                out[j] = value;
            }
        }
}

static const void *
find_row(const rp_matmul *task, size_t row)
{
    return (const char *)task->a.values + row * task->a.stride;
}

static void
sum_f32(const rp_matmul *task, size_t row, size_t column, float sums[PANEL])
{
    const size_t K = task->by->depth;
    const float *a = find_row(task, row), *panel = (const float *)task->by->values + column * K;
    for (size_t j = 0; j < PANEL; j++)
        sums[j] = task->by->bias[column + j];
    for (size_t k = 0; k < K; k++)
        for (size_t j = 0; j < PANEL; j++)
            sums[j] += a[k] * panel[k * PANEL + j];
}

static void
multiply_f32(const rp_matmul *task)
{
    multiply_all(RP_CLASS_F32, task, sum_f32);
}

/* ---- bf16: rows are f32 that have been rounded ---- */

static void
sum_bf16(const rp_matmul *task, size_t row, size_t column, float sums[PANEL])
{
    const size_t K = task->by->depth;
    const float *a = find_row(task, row);
    const uint16_t *panel = (const uint16_t *)task->by->values + column * ((K + 1) / 2 * 2);
    for (size_t j = 0; j < PANEL; j++)
        sums[j] = task->by->bias[column + j];
    for (size_t k = 0; k < K; k++)
        for (size_t j = 0; j < PANEL; j++)
            sums[j] += a[k] * rp_from_bf16(panel[(k / 2 * PANEL + j) * 2 + k % 2]);
}

static void
multiply_bf16(const rp_matmul *task)
{
    multiply_all(RP_CLASS_BF16, task, sum_bf16);
}

/* ---- int8 ---- */

static void
sum_int8(const rp_matmul *task, size_t row, size_t column, float sums[PANEL])
{
    const rp_weights *by = task->by;
    const size_t K = by->depth, padded = rp_padded_columns(by->columns, PANEL);
    const uint8_t *a = find_row(task, row);
    const int8_t *panel = (const int8_t *)by->values + column * ((K + 3) / 4 * 4);
    int32_t steps[PANEL] = { 0 };
    for (size_t k = 0; k < K; k++)
        for (size_t j = 0; j < PANEL; j++)
            steps[j] += a[k] * panel[(k / 4 * PANEL + j) * 4 + k % 4];
    for (size_t j = 0; j < PANEL; j++) {
        const float zero = -(task->a.scales[row] * (float)task->a.zeros[row]);
        sums[j] = fused_one((float)steps[j], by->scales[column + j] * task->a.scales[row],
                            by->bias[column + j]);
        sums[j] = fused_one(zero, by->sums[column + j], sums[j]);
        for (size_t i = 0; i < by->outlier_count; i++)
            sums[j] = fused_one(task->a.outliers[row * by->outlier_count + i],
                                by->outliers[i * padded + column + j], sums[j]);
    }
}

static void
multiply_int8(const rp_matmul *task)
{
    multiply_all(RP_CLASS_INT8, task, sum_int8);
}
/* The keys first..last-1 that token t sees. */
static void
find_keys(const rp_attention *task, size_t t, size_t *first, size_t *last)
{
    *first = t > task->reach ? t - task->reach : 0;
    *last = task->tokens - t - 1 > task->reach ? t + task->reach + 1 : task->tokens;
}

static void
attend_row(const rp_attention *task, size_t head, size_t t)
{
    const size_t D = task->head_dim, width = task->heads * D;
    const float *query = task->qkv + t * task->qkv_stride + head * D;
    float *score = task->scratch, largest = -INFINITY, sum = 0;
    size_t first, last;
    find_keys(task, t, &first, &last);
    for (size_t j = first; j < last; j++) {
        const float *key = task->qkv + j * task->qkv_stride + width + head * D;
        float product = 0;
        for (size_t d = 0; d < D; d++)
            product += query[d] * key[d];
        score[j] = product * task->scale;
        largest = fmaxf(largest, score[j]);
    }
    for (size_t j = first; j < last; j++) {
        score[j] = expf(score[j] - largest);
        sum += score[j];
    }
    float *out = task->out + t * task->out_stride + head * D;
    for (size_t d = 0; d < D; d++)
        out[d] = 0;
    for (size_t j = first; j < last; j++) {
        const float *value = task->qkv + j * task->qkv_stride + 2 * width + head * D;
        const float share = score[j] / sum;
        for (size_t d = 0; d < D; d++)
            out[d] += share * value[d];
    }
}

/* Any width of heads. */
static void
attention_any(const rp_attention *task)
{
    for (size_t head = 0; head < task->heads; head++)
        for (size_t t = 0; t < task->tokens; t++)
            attend_row(task, head, t);
}

static int32_t
step_one(float x, float steps)
{
    const float shifted = fused_one(x, steps, RP_ROUNDING);
    int32_t bits;
    memcpy(&bits, &shifted, sizeof bits);
    return (int16_t)bits;
}

/* The number d of token t among the head's queries (part 0), keys (1) or values (2). */
static const float *
find_number(const rp_attention *task, size_t head, size_t part, size_t t, size_t d)
{
    return task->qkv + t * task->qkv_stride + (part * task->heads + head) * task->head_dim + d;
}

static int32_t
find_largest_one(const rp_attention *task, size_t head, size_t part)
{
    int32_t largest = 0, bits;
    for (size_t t = 0; t < task->tokens; t++)
        for (size_t d = 0; d < task->head_dim; d++) {
            memcpy(&bits, find_number(task, head, part, t, d), sizeof bits);
            bits &= 0x7fffffff;
            largest = bits > largest ? bits : largest;
        }
    return largest;
}

/* Whatever is not finite has steps without meaning, and may let sums run over: they are unsigned. */
static int32_t
score_one(const rp_attention *task, size_t head, const head16_steps *steps, size_t t, size_t j)
{
    uint32_t score = 0;
    for (size_t d = 0; d < task->head_dim; d++)
        score += (uint32_t)step_one(*find_number(task, head, 0, t, d), steps->query) *
                 (uint32_t)step_one(*find_number(task, head, 1, j, d), steps->key);
    return (int32_t)score;
}

static void
attend_row16(const rp_attention *task, size_t head, const head16 *found,
             const head16_steps *steps, size_t t)
{
    int32_t *share = found->scores, top = INT32_MIN, sum = 0;
    size_t first, last;
    find_keys(task, t, &first, &last);
    for (size_t j = first; j < last; j++) {
        share[j] = score_one(task, head, steps, t, j);
        top = share[j] > top ? share[j] : top;
    }
    for (size_t j = first; j < last; j++) {
        const vec below = all((float)share[j] - (float)top);
        share[j] = share_of(below, all(found->exponent), all(found->lowest))[0] & 0xffff;
        sum += share[j];
    }
    for (size_t d = 0; d < task->head_dim; d++) {
        float out = 0;
        for (size_t j = first; j < last;) {
            const size_t border = (j / CHUNK + 1) * CHUNK, next = border < last ? border : last;
            uint32_t chunk = 0;
            for (; j < next; j++)
                chunk += (uint32_t)share[j] *
                         (uint32_t)step_one(*find_number(task, head, 2, j, d), steps->value);
            out += (float)(int32_t)chunk;
        }
        task->out[t * task->out_stride + head * task->head_dim + d] =
            out * (found->value / (float)sum);
    }
}

/* Any width of heads, as the head of attention16.h says it. */
static void
attention16_any(const rp_attention *task)
{
    for (size_t head = 0; head < task->heads; head++) {
        head16 found = { .scores = (int32_t *)(void *)task->scratch };
        int32_t largest[3];
        for (size_t part = 0; part < 3; part++)
            largest[part] = find_largest_one(task, head, part);
        const head16_steps steps = measure_head(task, largest, &found);
        for (size_t t = 0; t < task->tokens; t++)
            attend_row16(task, head, &found, &steps, t);
    }
}

/* Any length. */
static void
layer_norm_any(const float *in, size_t rows, size_t n, const float *gain, const float *bias,
                 float epsilon, float *out)
{
    for (size_t row = 0; row < rows; row++, in += n, out += n) {
        double sum = 0, squares = 0;
        for (size_t i = 0; i < n; i++)
            sum += in[i];
        const double mean = sum / (double)n;
        for (size_t i = 0; i < n; i++)
            squares += (in[i] - mean) * (in[i] - mean);
        const float scale = (float)(1.0 / sqrt(squares / (double)n + (double)epsilon));
        for (size_t i = 0; i < n; i++)
            out[i] = (in[i] - (float)mean) * scale * gain[i] + (bias ? bias[i] : 0.0F);
    }
}

const rp_kernels rp_kernels_plain = {
    .name = "plain",
    .product = { [RP_CLASS_F32] = { PANEL, multiply_f32, NULL, false, NULL },
                 [RP_CLASS_BF16] = { PANEL, multiply_bf16, prepare_bf16_as_f32, false, NULL },
                 [RP_CLASS_INT8] = { PANEL, multiply_int8, prepare_int8, false, NULL } },
    .attention = attention,
    .attention16 = attention16,
    .layer_norm = layer_norm,
    .gate = gate,
    .dot = dot,
    .read = read_all,
};
