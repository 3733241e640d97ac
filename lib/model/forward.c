/* forward.c - the pieces that every architecture's forward pass is made of.
 *
 * Each matrix product carries its bias, activation and residual in its epilogue, so that a
 * layer is a few passes over activations that stay in the second-level cache for a batch
 * of 256 tokens. Query, key and value are one matrix. */
#include "base/bytes.h"
#include "model/model_internal.h"

#include <assert.h>
#include <math.h>
#include <string.h>

static size_t
round_up(size_t count)
{
    enum { UNIT = RP_MODEL_ALIGNMENT / sizeof(float) };
    return (count + UNIT - 1) / UNIT * UNIT;
}

static size_t
prepared_count(const rp_model *model, size_t tokens)
{
    const size_t deepest = RP_MAX(model->config.hidden, model->config.intermediate);
    return model->class == RP_CLASS_F32 ? 0 : rp_prepared_size(tokens, deepest) / sizeof(float) + 1;
}

size_t
rp_model_scratch_count(const rp_model *model, size_t tokens_max)
{
    const rp_model_config *config = &model->config;
    const size_t longest = RP_MIN(tokens_max, config->positions);
    return 2 * round_up(tokens_max * config->hidden) +
           round_up(tokens_max * model->ops->widest(config)) +
           round_up(rp_attention_scratch_count(longest, config->hidden / config->heads)) +
           round_up(prepared_count(model, tokens_max));
}

void
rp_forward_split(rp_forward *work, float *scratch)
{
    const rp_model_config *config = &work->model->config;
    work->x = scratch;
    work->mixed = work->x + round_up(work->tokens * config->hidden);
    work->wide = work->mixed + round_up(work->tokens * config->hidden);
    work->prepared = work->wide + round_up(work->tokens * work->model->ops->widest(config));
    work->attention = (float *)work->prepared + round_up(prepared_count(work->model, work->tokens));
}

void
rp_forward_words(const rp_forward *work)
{
    const rp_model *model = work->model;
    const size_t C = model->config.hidden;
    for (size_t at = 0; at < work->tokens; at++) {
        const size_t id = (size_t)work->batch->ids[at];
        assert(id < model->config.vocabulary);
        rp_tensor_read(model->words, id * C, C, work->x + at * C);
    }
}

void
rp_forward_norm(const rp_forward *work, const rp_norm *norm, const float *in, float *out)
{
    const rp_model *model = work->model;
    model->kernels->layer_norm(in, work->tokens, model->config.hidden, norm->gain, norm->bias,
                               model->config.epsilon, out);
}

/* The same matrix of another layer. */
static const rp_weights *
counterpart(const rp_weights *by, const rp_layer *of, const rp_layer *in)
{
    const ptrdiff_t place = (const char *)by - (const char *)of;
    return (const rp_weights *)(const void *)((const char *)in + place);
}

void
rp_forward_multiply(const rp_forward *work, const rp_weights *by, float *a, size_t a_stride,
                    rp_activation activation, bool residual, float *out)
{
    const rp_product *product = &work->model->kernels->product[work->model->class];
    rp_matmul task = {
        .rows = work->tokens,
        .a = { .values = a, .stride = a_stride * sizeof *a },
        .by = by,
        .residual = residual ? out : NULL,
        .residual_stride = by->columns,
        .gelu = activation == RP_ACTIVATION_GELU,
        .out = out,
        .out_stride = by->columns,
    };
    if (work->found)
        rp_choose_outliers(a, a_stride, work->tokens, counterpart(by, work->probed, work->found));
    if (product->prepare)
        product->prepare(a, a_stride, work->tokens, by, work->prepared, &task.a);
    product->matmul(&task);
}

/* Turn query or key of one head by the angles of its position: number d and number d + D/2
 * are a point of a plane. */
static void
turn(float *x, size_t half, const float *cosines, const float *sines)
{
    for (size_t d = 0; d < half; d++) {
        const float low = x[d], high = x[d + half];
        x[d] = low * cosines[d] - high * sines[d];
        x[d + half] = high * cosines[d] + low * sines[d];
    }
}

static void
turn_sequence(const rp_forward *work, const rp_rotary *rotary, size_t first, size_t tokens)
{
    const rp_model_config *config = &work->model->config;
    const size_t D = config->hidden / config->heads;
    for (size_t t = 0; t < tokens; t++) {
        float *row = work->wide + (first + t) * 3 * config->hidden;
        for (size_t head = 0; head < 2 * config->heads; head++) /* of queries, then of keys */
            turn(row + head * D, D / 2, rotary->cosines + t * (D / 2), rotary->sines + t * (D / 2));
    }
}

void
rp_forward_attend(const rp_forward *work, const rp_layer *layer)
{
    const rp_model_config *config = &work->model->config;
    const uint32_t *starts = work->batch->starts;
    const size_t D = config->hidden / config->heads;
    const rp_kernels *kernels = work->model->kernels;
    for (size_t i = 0; i < work->batch->count; i++) {
        const rp_attention task = {
            .tokens = starts[i + 1] - starts[i],
            .heads = config->heads,
            .head_dim = D,
            .qkv = work->wide + starts[i] * 3 * config->hidden,
            .qkv_stride = 3 * config->hidden,
            .scale = 1.0F / sqrtf((float)D),
            .reach = layer->reach,
            .out = work->mixed + starts[i] * config->hidden,
            .out_stride = config->hidden,
            .scratch = work->attention,
        };
        if (layer->rotary)
            turn_sequence(work, layer->rotary, starts[i], task.tokens);
        if (work->model->class == RP_CLASS_F32)
            kernels->attention(&task);
        else
            kernels->attention16(&task);
    }
}

void
rp_forward_pool(const rp_forward *work, rp_pooling pooling, size_t sequence, float *out)
{
    const size_t C = work->model->config.hidden, first = work->batch->starts[sequence];
    const size_t all = work->batch->starts[sequence + 1] - first;
    const size_t count = pooling == RP_POOLING_CLS ? 1 : all;
    memcpy(out, work->x + first * C, C * sizeof *out);
    for (size_t t = 1; t < count; t++)
        for (size_t i = 0; i < C; i++)
            out[i] += work->x[(first + t) * C + i];
}

void
rp_forward_head(const rp_model *model, const rp_weights *by, const float *in, float *out)
{
    const rp_matmul task = {
        .rows = 1,
        .a = { .values = in, .stride = by->depth * sizeof *in },
        .by = by,
        .out = out,
        .out_stride = by->columns,
    };
    model->kernels->product[RP_CLASS_F32].matmul(&task);
}
