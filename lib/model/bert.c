/* bert.c - BERT (Devlin et al., arXiv:1810.04805): MiniLM, bge, e5, gte.
 *
 *   x = norm(word[id] + type + position)
 *   per layer:  x = norm(x + Wo attention(Wqkv x));  x = norm(x + W2 gelu(W1 x))
 *
 * Head (BertForSequenceClassification):  logits = Wc tanh(Wp x[first] + bp) + bc */
#include "base/bytes.h"
#include "model/model_internal.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>

static const char *const prefixes[] = { "", "bert.", NULL };

static size_t
widest(const rp_model_config *config)
{
    return RP_MAX(3 * config->hidden, config->intermediate);
}

static void
lay_out(rp_model *model, rp_layout *plan)
{
    const rp_model_config *config = &model->config;
    const size_t C = config->hidden;
    model->types = rp_layout_floats(plan, config->types * C);
    model->positions = rp_layout_floats(plan, config->positions * C);
    rp_layout_norm(plan, C, true, &model->embedding_norm);
    if (config->labels) {
        rp_layout_linear(plan, model->kernels, RP_CLASS_F32, C, C, 0, &model->head.dense);
        rp_layout_linear(plan, model->kernels, RP_CLASS_F32, config->labels, C, 0,
                         &model->head.classifier);
    }
}

static rp_status
load(rp_loader *from)
{
    rp_model *model = from->model;
    const rp_model_config *config = &model->config;
    const size_t C = config->hidden;
    rp_status status = rp_load_plain(from, "embeddings.token_type_embeddings.weight",
                                     config->types, C, model->types);
    if (!status)
        status = rp_load_plain(from, "embeddings.position_embeddings.weight", config->positions, C,
                               model->positions);
    if (!status)
        status = rp_load_norm(from, "embeddings.LayerNorm", &model->embedding_norm);
    if (!status && config->labels)
        status = rp_load_linear(from, "pooler.dense", RP_CLASS_F32, C, 0, true, &model->head.dense);
    if (!status && config->labels)
        status = rp_load_linear(from, "^classifier", RP_CLASS_F32, config->labels, 0, true,
                                &model->head.classifier);
    return status;
}

static void
describe(rp_model *model, size_t index, rp_layer *layer, rp_layer_plan *out)
{
    const size_t C = model->config.hidden, I = model->config.intermediate;
    const struct {
        const char *name;
        size_t rows, depth, outliers;
        rp_weights *into;
    } parts[] = {
        { "attention.self.query", C, C, RP_MODEL_OUTLIERS, &layer->qkv },
        { "attention.self.key", C, C, RP_MODEL_OUTLIERS, &layer->qkv },
        { "attention.self.value", C, C, RP_MODEL_OUTLIERS, &layer->qkv },
        { "attention.output.dense", C, C, 0, &layer->output },
        { "intermediate.dense", I, C, RP_MODEL_OUTLIERS, &layer->up },
        { "output.dense", C, I, RP_MODEL_OUTLIERS, &layer->down },
    };
    char name[RP_TENSOR_NAME_SIZE];
    for (size_t i = 0; i < RP_COUNT(parts); i++) {
        snprintf(name, sizeof name, "encoder.layer.%zu.%s", index, parts[i].name);
        rp_plan_part(out, name, parts[i].rows, parts[i].depth, true, parts[i].outliers,
                     parts[i].into);
    }
    snprintf(name, sizeof name, "encoder.layer.%zu.attention.output.LayerNorm", index);
    rp_plan_norm(out, name, true, &layer->attention_norm);
    snprintf(name, sizeof name, "encoder.layer.%zu.output.LayerNorm", index);
    rp_plan_norm(out, name, true, &layer->feed_forward_norm);
    layer->reach = SIZE_MAX;
}

static void
embed(const rp_forward *work)
{
    const rp_model *model = work->model;
    const rp_token_batch *batch = work->batch;
    const size_t C = model->config.hidden;
    rp_forward_words(work);
    for (size_t i = 0; i < batch->count; i++)
        for (size_t at = batch->starts[i]; at < batch->starts[i + 1]; at++) {
            const size_t type = batch->types ? batch->types[at] : 0;
            const size_t position = at - batch->starts[i];
            assert(type < model->config.types && position < model->config.positions);
            const float *place = model->positions + position * C, *kind = model->types + type * C;
            float *x = work->x + at * C;
            for (size_t c = 0; c < C; c++)
                x[c] = x[c] + kind[c] + place[c];
        }
    rp_forward_norm(work, &model->embedding_norm, work->x, work->x);
}

static void
run_layer(const rp_forward *work, const rp_layer *layer)
{
    const size_t C = work->model->config.hidden, I = work->model->config.intermediate;
    rp_forward_multiply(work, &layer->qkv, work->x, C, RP_ACTIVATION_NONE, false, work->wide);
    rp_forward_attend(work, layer);
    rp_forward_multiply(work, &layer->output, work->mixed, C, RP_ACTIVATION_NONE, true, work->x);
    rp_forward_norm(work, &layer->attention_norm, work->x, work->x);
    rp_forward_multiply(work, &layer->up, work->x, C, RP_ACTIVATION_GELU, false, work->wide);
    rp_forward_multiply(work, &layer->down, work->wide, I, RP_ACTIVATION_NONE, true, work->x);
    rp_forward_norm(work, &layer->feed_forward_norm, work->x, work->x);
}

static void
classify(const rp_forward *work, size_t sequence, float *rows, float *logits)
{
    const rp_model *model = work->model;
    const size_t C = model->config.hidden;
    rp_forward_head(model, &model->head.dense, work->x + work->batch->starts[sequence] * C, rows);
    for (size_t c = 0; c < C; c++)
        rows[c] = tanhf(rows[c]);
    rp_forward_head(model, &model->head.classifier, rows, logits);
}

const rp_architecture_ops rp_architecture_bert = {
    .words = "embeddings.word_embeddings.weight",
    .prefixes = prefixes,
    .widest = widest,
    .lay_out = lay_out,
    .load = load,
    .describe = describe,
    .embed = embed,
    .run_layer = run_layer,
    .classify = classify,
};
