/* kernels_plain.c - the oracle: every kernel as its formula reads.
 *
 * Also what runs where no faster tier does, so the inner loops are written so
 * that a compiler can use what vectors the base architecture has. */
#include "math/kernels_internal.h"

#include <math.h>

enum { PANEL = 16 };

static float
gelu_exact(float x)
{
    return 0.5F * x * (1.0F + erff(x * 0.70710678118654752F));
}

static void
multiply_panel_row(const rp_matmul *task, const float *panel, size_t row, size_t column)
{
    const size_t columns = task->columns - column < PANEL ? task->columns - column : PANEL;
    const float *a = task->a + row * task->a_stride;
    float sums[PANEL];
    for (size_t j = 0; j < PANEL; j++)
        sums[j] = task->bias[column + j];
    for (size_t k = 0; k < task->depth; k++)
        for (size_t j = 0; j < PANEL; j++)
            sums[j] += a[k] * panel[k * PANEL + j];

    float *out = task->out + row * task->out_stride + column;
    for (size_t j = 0; j < columns; j++) {
        float value = task->gelu ? gelu_exact(sums[j]) : sums[j];
        if (task->residual)
            value += task->residual[row * task->residual_stride + column + j];
        out[j] = value;
    }
}

static void
matmul_plain(const rp_matmul *task)
{
    for (size_t column = 0; column < task->columns; column += PANEL)
        for (size_t row = 0; row < task->rows; row++)
            multiply_panel_row(task, task->weights + column * task->depth, row, column);
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

static void
attention_plain(const rp_attention *task)
{
    for (size_t head = 0; head < task->heads; head++)
        for (size_t t = 0; t < task->tokens; t++)
            attend_row(task, head, t);
}

static void
layer_norm_plain(const float *in, size_t rows, size_t n, const float *gain, const float *bias,
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

static float
dot_plain(const float *a, const float *b, size_t n)
{
    float sums[8] = { 0 };
    size_t i = 0;
    for (; i + 8 <= n; i += 8)
        for (size_t j = 0; j < 8; j++)
            sums[j] += a[i + j] * b[i + j];
    for (; i < n; i++)
        sums[0] += a[i] * b[i];
    return ((sums[0] + sums[4]) + (sums[1] + sums[5])) + ((sums[2] + sums[6]) + (sums[3] + sums[7]));
}

const rp_kernels rp_kernels_plain = {
    .name = "plain",
    .panel = PANEL,
    .matmul = matmul_plain,
    .attention = attention_plain,
    .layer_norm = layer_norm_plain,
    .dot = dot_plain,
};
