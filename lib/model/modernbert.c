/* modernbert.c - ModernBERT (Warner et al., arXiv:2412.13663): gte-modernbert, LangCache-Embed.
 *
 *   x = norm(word[id])
 *   per layer:  x = x + Wo attention(turned(Wqkv norm(x)));  x = x + W2 (gelu(u) * v),
 *               (u, v) = W1 norm(x);  the first layer has no norm before its attention
 *   x = norm(x)
 *
 * Norms are before what they feed, nothing has a bias, positions are angles by which queries
 * and keys are turned (base theta_global or theta_local), and most layers look only
 * `reach` tokens to either side.
 *
 * Head (ModernBertForSequenceClassification):
 *   logits = Wc norm(gelu(Wd pooled)) + bc, pooled being the first token or the mean. */
#include "base/bytes.h"
#include "model/model_internal.h"

#include <math.h>
#include <stdio.h>

static const char *const prefixes[] = { "", "model.", NULL };

static size_t
widest(const rp_model_config *config)
{
    return RP_MAX(3 * config->hidden, 2 * config->intermediate);
}

static void
lay_out(rp_model *model, rp_layout *plan)
{
    const rp_model_config *config = &model->config;
    const size_t C = config->hidden, half = C / config->heads / 2;
    rp_layout_norm(plan, C, false, &model->embedding_norm);
    rp_layout_norm(plan, C, false, &model->final_norm);
    for (size_t i = 0; i < RP_COUNT(model->rotary); i++) {
        model->rotary[i].cosines = rp_layout_floats(plan, config->window * half);
        model->rotary[i].sines = rp_layout_floats(plan, config->window * half);
    }
    if (config->labels) {
        rp_layout_linear(plan, model->kernels, RP_CLASS_F32, C, C, 0, &model->head.dense);
        rp_layout_norm(plan, C, false, &model->head.norm);
        rp_layout_linear(plan, model->kernels, RP_CLASS_F32, config->labels, C, 0,
                         &model->head.classifier);
    }
}

/* Angle d of position t is t / theta^(2d/D). The reference rounds the frequency and the
 * angle to f32 before it takes the cosine: at position 8,000 that is 2e-4 of an angle, so
 * it is done here too. */
static void
fill_angles(const rp_model_config *config, double theta, rp_rotary *out)
{
    const size_t D = config->hidden / config->heads, half = D / 2;
    for (size_t d = 0; d < half; d++) {
        const float exponent = (float)(2 * d) / (float)D;
        const float frequency = 1.0F / (float)pow(theta, (double)exponent);
        for (size_t t = 0; t < config->window; t++) {
            const float angle = (float)t * frequency;
            out->cosines[t * half + d] = (float)cos((double)angle);
            out->sines[t * half + d] = (float)sin((double)angle);
        }
    }
}

static rp_status
load(rp_loader *from)
{
    rp_model *model = from->model;
    const rp_model_config *config = &model->config;
    rp_status status = rp_load_norm(from, "embeddings.norm", &model->embedding_norm);
    if (!status)
        status = rp_load_norm(from, "final_norm", &model->final_norm);
    if (!status && config->labels)
        status = rp_load_linear(from, "^head.dense", RP_CLASS_F32, config->hidden, 0, false,
                                &model->head.dense);
    if (!status && config->labels)
        status = rp_load_norm(from, "^head.norm", &model->head.norm);
    if (!status && config->labels)
        status = rp_load_linear(from, "^classifier", RP_CLASS_F32, config->labels, 0, true,
                                &model->head.classifier);
    fill_angles(config, config->theta_global, &model->rotary[0]);
    fill_angles(config, config->theta_local, &model->rotary[1]);
    return status;
}

static void
describe(rp_model *model, size_t index, rp_layer *layer, rp_layer_plan *out)
{
    const rp_model_config *config = &model->config;
    const size_t C = config->hidden, I = config->intermediate;
    const struct {
        const char *name;
        size_t rows, depth, outliers;
        rp_weights *into;
    } parts[] = {
        { "attn.Wqkv", 3 * C, C, RP_MODEL_OUTLIERS, &layer->qkv },
        { "attn.Wo", C, C, 0, &layer->output },
        { "mlp.Wi", 2 * I, C, RP_MODEL_OUTLIERS, &layer->up },
        { "mlp.Wo", C, I, RP_MODEL_OUTLIERS, &layer->down },
    };
    char name[RP_TENSOR_NAME_SIZE];
    for (size_t i = 0; i < RP_COUNT(parts); i++) {
        snprintf(name, sizeof name, "layers.%zu.%s", index, parts[i].name);
        rp_plan_part(out, name, parts[i].rows, parts[i].depth, false, parts[i].outliers,
                     parts[i].into);
    }
    if (index > 0) {
        snprintf(name, sizeof name, "layers.%zu.attn_norm", index);
        rp_plan_norm(out, name, false, &layer->attention_norm);
    } else {
        layer->attention_norm = (rp_norm){ 0 };
    }
    snprintf(name, sizeof name, "layers.%zu.mlp_norm", index);
    rp_plan_norm(out, name, false, &layer->feed_forward_norm);
    const bool local = config->local[index];
    layer->reach = local ? config->reach : SIZE_MAX;
    layer->rotary = &model->rotary[local];
}

static void
embed(const rp_forward *work)
{
    rp_forward_words(work);
    rp_forward_norm(work, &work->model->embedding_norm, work->x, work->x);
}

static void
run_layer(const rp_forward *work, const rp_layer *layer)
{
    const rp_model *model = work->model;
    const size_t C = model->config.hidden, I = model->config.intermediate;
    float *in = work->x;
    if (layer->attention_norm.gain) {
        rp_forward_norm(work, &layer->attention_norm, work->x, work->mixed);
        in = work->mixed;
    }
    rp_forward_multiply(work, &layer->qkv, in, C, RP_ACTIVATION_NONE, false, work->wide);
    rp_forward_attend(work, layer);
    rp_forward_multiply(work, &layer->output, work->mixed, C, RP_ACTIVATION_NONE, true, work->x);
    rp_forward_norm(work, &layer->feed_forward_norm, work->x, work->mixed);
    rp_forward_multiply(work, &layer->up, work->mixed, C, RP_ACTIVATION_NONE, false, work->wide);
    model->kernels->gate(work->wide, 2 * I, work->tokens, I);
    rp_forward_multiply(work, &layer->down, work->wide, 2 * I, RP_ACTIVATION_NONE, true, work->x);
}

static void
finish(const rp_forward *work)
{
    rp_forward_norm(work, &work->model->final_norm, work->x, work->x);
}

static void
classify(const rp_forward *work, size_t sequence, float *rows, float *logits)
{
    const rp_model *model = work->model;
    const rp_model_config *config = &model->config;
    const size_t C = config->hidden;
    const size_t count = work->batch->starts[sequence + 1] - work->batch->starts[sequence];
    rp_forward_pool(work, config->head_pooling, sequence, rows);
    if (config->head_pooling == RP_POOLING_MEAN)
        for (size_t c = 0; c < C; c++)
            rows[c] /= (float)count;
    rp_forward_head(model, &model->head.dense, rows, rows + C);
    for (size_t c = 0; c < C; c++)
        rows[c] = 0.5F * rows[C + c] * (1.0F + erff(rows[C + c] * 0.70710678F));
    model->kernels->layer_norm(rows, 1, C, model->head.norm.gain, model->head.norm.bias,
                               config->epsilon, rows);
    rp_forward_head(model, &model->head.classifier, rows, logits);
}

const rp_architecture_ops rp_architecture_modernbert = {
    .words = "embeddings.tok_embeddings.weight",
    .prefixes = prefixes,
    .widest = widest,
    .lay_out = lay_out,
    .load = load,
    .describe = describe,
    .embed = embed,
    .run_layer = run_layer,
    .finish = finish,
    .classify = classify,
};
