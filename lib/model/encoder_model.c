/* encoder_model.c - BERT (Devlin et al., arXiv:1810.04805) for embeddings.
 *
 *   x = norm(word[id] + type + position)
 *   per layer:  x = norm(x + Wo attention(Wqkv x));  x = norm(x + W2 gelu(W1 x))
 *   out = pool(x) / |pool(x)|
 *
 * Each matrix product carries its bias, GELU and residual in its epilogue, so that a
 * layer is seven passes over activations that stay in the second-level cache for a
 * batch of 256 tokens. Query, key and value are one matrix. */
#include "model/encoder_model.h"

#include "base/bytes.h"
#include "model/safetensors.h"

#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

enum {
    ALIGNMENT = 64,
    HUGE_PAGE = 2 << 20,
    OUTLIERS = 4, /* of what leaves a layer norm or GELU; measured, see choose_outliers */
};

typedef struct norm_weights {
    float *gain, *bias;
} norm_weights;

typedef struct layer_weights {
    rp_weights qkv, output, up, down; /* in the arena */
    norm_weights after_attention, after_feed_forward;
} layer_weights;

struct rp_model {
    rp_model_config config;
    const rp_kernels *kernels;
    rp_class class;
    rp_safetensors *file; /* owned; word embeddings are read from its mapping */
    const rp_tensor *words;
    uint8_t hash[16];
    layer_weights *layers;             /* owned */
    float *positions, *types;  /* (positions, hidden), (types, hidden); in the arena */
    norm_weights embedding_norm;
    char *arena, *mapping;     /* owned mapping; arena is its aligned part */
    size_t arena_size, mapping_size;
};

/* ---- the arena: laid out twice, first to measure, then to point ---- */

typedef struct layout {
    char *base; /* NULL while measuring */
    size_t used;
    bool overflow;
} layout;

static void *
take(layout *plan, size_t count, size_t unit)
{
    size_t size;
    if (__builtin_mul_overflow(count, unit, &size) ||
        __builtin_add_overflow(plan->used, size + ALIGNMENT, &size)) {
        plan->overflow = true;
        return NULL;
    }
    void *at = plan->base ? plan->base + plan->used : NULL;
    plan->used = size / ALIGNMENT * ALIGNMENT;
    return at;
}

static float *
take_floats(layout *plan, size_t count)
{
    return take(plan, count, sizeof(float));
}

/* `outliers`: how many of the depth may be kept in f32, if the class has that. */
static void
take_linear(const rp_model *model, layout *plan, rp_weights *out, size_t columns, size_t depth,
            size_t outliers)
{
    const size_t panel = model->kernels->product[model->class].panel;
    const size_t padded = rp_padded_columns(columns, panel);
    out->columns = columns;
    out->depth = depth;
    out->values = take(plan, rp_packed_size(model->class, columns, depth, panel), 1);
    out->bias = take_floats(plan, padded);
    if (model->class != RP_CLASS_INT8)
        return;
    out->scales = take_floats(plan, padded);
    out->sums = take(plan, padded, sizeof(int32_t));
    out->outlier_count = RP_MIN(outliers, depth);
    out->outlier_at = take(plan, outliers, sizeof(uint16_t));
    out->outliers = take_floats(plan, outliers * padded);
}

static void
take_norm(const rp_model *model, layout *plan, norm_weights *out)
{
    out->gain = take_floats(plan, model->config.hidden);
    out->bias = take_floats(plan, model->config.hidden);
}

static void
lay_out(rp_model *model, layout *plan)
{
    const rp_model_config *config = &model->config;
    const size_t C = config->hidden;
    model->types = take_floats(plan, config->types * C);
    model->positions = take_floats(plan, config->positions * C);
    take_norm(model, plan, &model->embedding_norm);
    for (size_t i = 0; i < config->layers; i++) {
        layer_weights *at = &model->layers[i];
        take_linear(model, plan, &at->qkv, 3 * C, C, OUTLIERS);
        take_linear(model, plan, &at->output, C, C, 0);
        take_norm(model, plan, &at->after_attention);
        take_linear(model, plan, &at->up, config->intermediate, C, OUTLIERS);
        take_linear(model, plan, &at->down, C, config->intermediate, OUTLIERS);
        take_norm(model, plan, &at->after_feed_forward);
    }
}

/* Huge pages where they can be had: 3 to 20 % on streamed weights, and fewer faults
 * while the arena is filled. */
static rp_status
map_arena(rp_model *model, rp_error *error)
{
    layout plan = { 0 };
    lay_out(model, &plan);
    model->mapping_size = plan.used + HUGE_PAGE;
    char *mapping = plan.overflow ? MAP_FAILED
                                  : mmap(NULL, model->mapping_size, PROT_READ | PROT_WRITE,
                                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (mapping == MAP_FAILED)
        return rp_fail(error, RP_ERR_NOMEM, "no memory for weights of %zu bytes", plan.used);
    model->mapping = mapping;
    model->arena = mapping + (HUGE_PAGE - (uintptr_t)mapping % HUGE_PAGE) % HUGE_PAGE;
    model->arena_size = plan.used;
    (void)madvise(model->arena, model->arena_size, MADV_HUGEPAGE);
    plan = (layout){ .base = model->arena };
    lay_out(model, &plan);
    return RP_OK;
}

/* ---- reading tensors ---- */

typedef struct loader {
    rp_model *model;
    const char *path, *prefix; /* of tensor names: "" or "bert." */
    rp_error *error;
    float *rows; /* owned; a panel of rows on their way to be packed */
} loader;

/* A tensor that must be there with this shape; columns 0: one dimension only. */
static rp_status
find(loader *from, const char *name, size_t rows, size_t columns, const rp_tensor **out)
{
    char full[160];
    snprintf(full, sizeof full, "%s%s", from->prefix, name);
    const rp_tensor *tensor = rp_safetensors_find(from->model->file, rp_str_of(full));
    if (!tensor)
        return rp_fail(from->error, RP_ERR_CORRUPT, "%s has no tensor %s", from->path, full);
    const bool fits = columns ? tensor->rank == 2 && tensor->shape[0] == rows &&
                                    tensor->shape[1] == columns
                              : tensor->rank == 1 && tensor->shape[0] == rows;
    if (!fits)
        return rp_fail(from->error, RP_ERR_CORRUPT,
                       "%s: the shape of tensor %s is not what config.json says", from->path, full);
    if (tensor->dtype == RP_DTYPE_OTHER)
        return rp_fail(from->error, RP_ERR_UNSUPPORTED,
                       "%s: tensor %s is not of f32, f16 or bf16", from->path, full);
    *out = tensor;
    return RP_OK;
}

static rp_status
load_plain(loader *from, const char *name, size_t rows, size_t columns, float *out)
{
    const rp_tensor *tensor;
    const rp_status status = find(from, name, rows, columns, &tensor);
    if (status == RP_OK)
        rp_tensor_read(tensor, 0, tensor->count, out);
    return status;
}

static rp_status
load_norm(loader *from, const char *name, norm_weights *out)
{
    char full[128];
    snprintf(full, sizeof full, "%s.weight", name);
    const rp_status status = load_plain(from, full, from->model->config.hidden, 0, out->gain);
    if (status)
        return status;
    snprintf(full, sizeof full, "%s.bias", name);
    return load_plain(from, full, from->model->config.hidden, 0, out->bias);
}

/* A Linear of `rows` outputs becomes columns first.. of `out`. */
static rp_status
load_linear(loader *from, const char *name, size_t rows, size_t first, const rp_weights *out)
{
    const rp_tensor *tensor;
    const rp_class class = from->model->class;
    const size_t panel = from->model->kernels->product[class].panel, depth = out->depth;
    void *values = (void *)(uintptr_t)out->values; /* in our own arena */
    char full[128];
    snprintf(full, sizeof full, "%s.weight", name);
    const rp_status status = find(from, full, rows, depth, &tensor);
    if (status)
        return status;
    for (size_t row = 0; row < rows; row += panel) {
        const size_t count = RP_MIN(panel, rows - row);
        rp_tensor_read(tensor, row * depth, count * depth, from->rows);
        if (class == RP_CLASS_F32)
            rp_pack_f32(from->rows, count, depth, first + row, panel, values);
        else if (class == RP_CLASS_BF16)
            rp_pack_bf16(from->rows, count, depth, first + row, panel, values);
        else
            rp_pack_int8(from->rows, count, first + row, panel, out);
    }
    snprintf(full, sizeof full, "%s.bias", name);
    return load_plain(from, full, rows, 0, (float *)(uintptr_t)out->bias + first);
}

/* Layer `index` of the file into `to`. */
static rp_status
load_layer(loader *from, size_t index, layer_weights *to)
{
    const size_t C = from->model->config.hidden;
    const struct {
        const char *name;
        size_t rows, first;
        const rp_weights *out;
    } products[] = {
        { "attention.self.query", C, 0, &to->qkv },
        { "attention.self.key", C, C, &to->qkv },
        { "attention.self.value", C, 2 * C, &to->qkv },
        { "attention.output.dense", C, 0, &to->output },
        { "intermediate.dense", from->model->config.intermediate, 0, &to->up },
        { "output.dense", C, 0, &to->down },
    };
    char name[96];
    for (size_t i = 0; i < RP_COUNT(products); i++) {
        snprintf(name, sizeof name, "encoder.layer.%zu.%s", index, products[i].name);
        const rp_status status =
            load_linear(from, name, products[i].rows, products[i].first, products[i].out);
        if (status)
            return status;
    }
    snprintf(name, sizeof name, "encoder.layer.%zu.attention.output.LayerNorm", index);
    const rp_status status = load_norm(from, name, &to->after_attention);
    if (status)
        return status;
    snprintf(name, sizeof name, "encoder.layer.%zu.output.LayerNorm", index);
    return load_norm(from, name, &to->after_feed_forward);
}

static rp_status
load_embeddings(loader *from)
{
    rp_model *model = from->model;
    const rp_model_config *config = &model->config;
    rp_status status = find(from, "embeddings.word_embeddings.weight", config->vocabulary,
                            config->hidden, &model->words);
    if (!status)
        status = load_plain(from, "embeddings.token_type_embeddings.weight", config->types,
                            config->hidden, model->types);
    if (!status)
        status = load_plain(from, "embeddings.position_embeddings.weight", config->positions,
                            config->hidden, model->positions);
    return status ? status : load_norm(from, "embeddings.LayerNorm", &model->embedding_norm);
}

void
rp_model_close(rp_model *model)
{
    if (!model)
        return;
    if (model->mapping)
        munmap(model->mapping, model->mapping_size);
    rp_safetensors_close(model->file);
    free(model->layers);
    free(model);
}

const rp_model_config *
rp_model_get_config(const rp_model *model)
{
    return &model->config;
}

rp_class
rp_model_get_class(const rp_model *model)
{
    return model->class;
}

const rp_kernels *
rp_model_get_kernels(const rp_model *model)
{
    return model->kernels;
}

size_t
rp_model_size_bytes(const rp_model *model)
{
    return sizeof *model + model->config.layers * sizeof *model->layers + model->arena_size +
           rp_safetensors_bytes(model->file).len;
}

void
rp_model_weights_hash(const rp_model *model, uint8_t out[16])
{
    memcpy(out, model->hash, sizeof model->hash);
}

/* ---- forward ---- */

/* What one call works in; all in the caller's scratch. */
typedef struct workspace {
    const rp_model *model;
    const rp_token_batch *batch;
    size_t tokens;
    float *x;     /* (tokens, hidden) */
    float *mixed; /* (tokens, hidden): what attention gathered */
    float *wide;  /* (tokens, max(3 * hidden, intermediate)) */
    float *attention;
    void *prepared; /* rows in the form of the class */
} workspace;

static size_t
round_up(size_t count)
{
    return (count + ALIGNMENT / 4 - 1) / (ALIGNMENT / 4) * (ALIGNMENT / 4);
}

static size_t
wide_columns(const rp_model_config *config)
{
    return RP_MAX(3 * config->hidden, config->intermediate);
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
           round_up(tokens_max * wide_columns(config)) +
           round_up(rp_attention_scratch_count(longest, config->hidden / config->heads)) +
           round_up(prepared_count(model, tokens_max));
}

static void
split_scratch(workspace *work, float *scratch)
{
    const rp_model_config *config = &work->model->config;
    work->x = scratch;
    work->mixed = work->x + round_up(work->tokens * config->hidden);
    work->wide = work->mixed + round_up(work->tokens * config->hidden);
    work->prepared = work->wide + round_up(work->tokens * wide_columns(config));
    work->attention = (float *)work->prepared + round_up(prepared_count(work->model, work->tokens));
}

static void
embed_token(const workspace *work, size_t at, size_t position)
{
    const rp_model *model = work->model;
    const size_t C = model->config.hidden, id = (size_t)work->batch->ids[at];
    const size_t type = work->batch->types ? work->batch->types[at] : 0;
    assert(id < model->config.vocabulary && type < model->config.types &&
           position < model->config.positions);
    float *x = work->x + at * C;
    const float *place = model->positions + position * C, *kind = model->types + type * C;
    rp_tensor_read(model->words, id * C, C, x);
    for (size_t i = 0; i < C; i++)
        x[i] = x[i] + kind[i] + place[i];
}

static void
normalize(const workspace *work, const norm_weights *norm)
{
    const rp_model *model = work->model;
    model->kernels->layer_norm(work->x, work->tokens, model->config.hidden, norm->gain, norm->bias,
                               model->config.epsilon, work->x);
}

static void
embed_tokens(const workspace *work)
{
    const uint32_t *starts = work->batch->starts;
    for (size_t i = 0; i < work->batch->count; i++)
        for (size_t at = starts[i]; at < starts[i + 1]; at++)
            embed_token(work, at, at - starts[i]);
    normalize(work, &work->model->embedding_norm);
}

static void
multiply(const workspace *work, const rp_weights *by, float *a, float *out, bool gelu,
         bool residual)
{
    const rp_product *product = &work->model->kernels->product[work->model->class];
    rp_matmul task = {
        .rows = work->tokens,
        .a = { .values = a, .stride = by->depth * sizeof *a },
        .by = by,
        .residual = residual ? out : NULL,
        .residual_stride = by->columns,
        .gelu = gelu,
        .out = out,
        .out_stride = by->columns,
    };
    if (product->prepare)
        product->prepare(a, by->depth, work->tokens, by, work->prepared, &task.a);
    product->matmul(&task);
}

static void
attend(const workspace *work)
{
    const rp_model_config *config = &work->model->config;
    const uint32_t *starts = work->batch->starts;
    const size_t D = config->hidden / config->heads;
    for (size_t i = 0; i < work->batch->count; i++) {
        const rp_attention task = {
            .tokens = starts[i + 1] - starts[i],
            .heads = config->heads,
            .head_dim = D,
            .qkv = work->wide + starts[i] * 3 * config->hidden,
            .qkv_stride = 3 * config->hidden,
            .scale = 1.0F / sqrtf((float)D),
            .reach = SIZE_MAX,
            .out = work->mixed + starts[i] * config->hidden,
            .out_stride = config->hidden,
            .scratch = work->attention,
        };
        work->model->kernels->attention(&task);
    }
}

static void
run_attention(const workspace *work, const layer_weights *layer)
{
    multiply(work, &layer->qkv, work->x, work->wide, false, false);
    attend(work);
    multiply(work, &layer->output, work->mixed, work->x, false, true);
    normalize(work, &layer->after_attention);
}

static void
run_feed_forward(const workspace *work, const layer_weights *layer)
{
    multiply(work, &layer->up, work->x, work->wide, true, false);
    multiply(work, &layer->down, work->wide, work->x, false, true);
    normalize(work, &layer->after_feed_forward);
}

static void
pool(const workspace *work, size_t sequence, float *out)
{
    const rp_model_config *config = &work->model->config;
    const size_t C = config->hidden, first = work->batch->starts[sequence];
    const size_t count = config->pooling == RP_POOLING_CLS
                             ? 1 : work->batch->starts[sequence + 1] - first;
    memcpy(out, work->x + first * C, C * sizeof *out);
    for (size_t t = 1; t < count; t++)
        for (size_t i = 0; i < C; i++)
            out[i] += work->x[(first + t) * C + i];
    const float length = sqrtf(work->model->kernels->dot(out, out, C));
    const float scale = isfinite(length) && length > 0 ? 1.0F / length : NAN;
    for (size_t i = 0; i < C; i++)
        out[i] *= scale;
}

void
rp_model_encode(const rp_model *model, const rp_token_batch *batch, float *scratch,
                float *const *out)
{
    workspace work = { .model = model, .batch = batch, .tokens = batch->starts[batch->count] };
    if (!work.tokens)
        return;
    split_scratch(&work, scratch);
    embed_tokens(&work);
    for (size_t i = 0; i < model->config.layers; i++) {
        run_attention(&work, &model->layers[i]);
        run_feed_forward(&work, &model->layers[i]);
    }
    for (size_t i = 0; i < batch->count; i++)
        pool(&work, i, out[i]);
}

/* ---- outliers ---- */

/* A few columns of what a layer norm of a BERT gives out are five to ten times larger
 * than all others, for every text (in all-MiniLM-L6-v2 one holds a quarter of the energy).
 * In steps of 1/255 of a row's range they would leave the others four bits. They are
 * found by running a few tokens through the layers in f32: random ones will do, for the
 * outliers are the same with real questions (measured on 400). Largest first. What leaves
 * GELU is treated the same way. Cosine to f32 on 1,400 questions, mean and worst: layer
 * norms only .99961 / .99755 (eight columns instead of four: no better), with GELU
 * .99973 / .99874. */
static void
choose_outliers(const float *x, size_t tokens, rp_weights *into)
{
    const size_t C = into->depth;
    uint16_t *at = (uint16_t *)(uintptr_t)into->outlier_at; /* in our own arena */
    for (size_t found = 0; found < into->outlier_count; found++) {
        float largest = -1;
        for (size_t c = 0; c < C; c++) {
            bool taken = false;
            for (size_t i = 0; i < found; i++)
                taken = taken || at[i] == c;
            for (size_t t = 0; t < tokens && !taken; t++)
                if (fabsf(x[t * C + c]) > largest) {
                    largest = fabsf(x[t * C + c]);
                    at[found] = (uint16_t)c;
                }
        }
    }
}

enum { PROBE_SEQUENCES = 4, PROBE_TOKENS = 8 };

/* Run the probe's only layer, with the file's layer `index` in it, over work->x. */
static rp_status
probe_layer(loader *from, const workspace *work, size_t index, layer_weights *into)
{
    const rp_status status = load_layer(from, index, &from->model->layers[0]);
    if (status)
        return status;
    choose_outliers(work->x, work->tokens, &into->qkv);
    run_attention(work, &from->model->layers[0]);
    choose_outliers(work->x, work->tokens, &into->up);
    multiply(work, &from->model->layers[0].up, work->x, work->wide, true, false);
    choose_outliers(work->wide, work->tokens, &into->down);
    multiply(work, &from->model->layers[0].down, work->wide, work->x, false, true);
    normalize(work, &from->model->layers[0].after_feed_forward);
    return RP_OK;
}

/* Fill outlier_at of all layers of `model`, with a one-layer f32 model as the probe. */
static rp_status
find_outliers(const loader *main, rp_error *error)
{
    layer_weights layer = { 0 };
    rp_model probe = *main->model;
    loader from = *main;
    int32_t ids[PROBE_SEQUENCES * PROBE_TOKENS];
    uint32_t starts[PROBE_SEQUENCES + 1], state = 1;
    float *scratch = NULL;
    const size_t each = RP_MIN((size_t)PROBE_TOKENS, probe.config.positions);
    from.model = &probe;
    probe.class = RP_CLASS_F32;
    probe.layers = &layer;
    probe.config.layers = 1;
    probe.mapping = NULL;
    rp_status status = map_arena(&probe, error);
    if (!status)
        status = load_embeddings(&from);
    for (size_t i = 0; i < RP_COUNT(ids); i++) {
        state = state * 1664525 + 1013904223; /* Numerical Recipes' generator */
        ids[i] = (int32_t)(state % probe.config.vocabulary);
    }
    for (size_t i = 0; i <= PROBE_SEQUENCES; i++)
        starts[i] = (uint32_t)(i * each);
    const rp_token_batch batch = { .ids = ids, .starts = starts, .count = PROBE_SEQUENCES };
    workspace work = { .model = &probe, .batch = &batch, .tokens = PROBE_SEQUENCES * each };
    if (!status) {
        scratch = aligned_alloc(ALIGNMENT, rp_model_scratch_count(&probe, work.tokens) * 4);
        if (!scratch)
            status = rp_fail(error, RP_ERR_NOMEM, "no memory to try %s", from.path);
    }
    if (!status) {
        split_scratch(&work, scratch);
        embed_tokens(&work);
    }
    for (size_t i = 0; !status && i < main->model->config.layers; i++)
        status = probe_layer(&from, &work, i, &main->model->layers[i]);
    free(scratch);
    if (probe.mapping)
        munmap(probe.mapping, probe.mapping_size);
    return status;
}

/* ---- opening ---- */

static rp_status
load_weights(rp_model *model, const char *path, rp_error *error)
{
    const size_t deepest = RP_MAX(model->config.hidden, model->config.intermediate);
    loader from = { .model = model, .path = path, .prefix = "", .error = error };
    /* A BertModel, or the same inside a model with a head. */
    if (!rp_safetensors_find(model->file, RP_STR("embeddings.word_embeddings.weight")))
        from.prefix = "bert.";
    from.rows = malloc(RP_PANEL_MAX * deepest * sizeof(float));
    if (!from.rows)
        return rp_fail(error, RP_ERR_NOMEM, "no memory to read %s", path);
    rp_status status = load_embeddings(&from);
    if (!status && model->class == RP_CLASS_INT8)
        status = find_outliers(&from, error);
    for (size_t i = 0; !status && i < model->config.layers; i++)
        status = load_layer(&from, i, &model->layers[i]);
    free(from.rows);
    return status;
}

static void
hash_weights(rp_model *model)
{
    const rp_str bytes = rp_safetensors_bytes(model->file);
    XXH128_canonical_t canonical;
    XXH128_canonicalFromHash(&canonical, XXH3_128bits(bytes.ptr, bytes.len));
    memcpy(model->hash, canonical.digest, sizeof model->hash);
}

rp_status
rp_model_open(const char *weights, const rp_model_config *config, const rp_kernels *kernels,
              rp_class class, rp_model **out, rp_error *error)
{
    rp_model *model = calloc(1, sizeof *model);
    if (!model)
        return rp_fail(error, RP_ERR_NOMEM, "no memory for a model");
    model->config = *config;
    model->kernels = kernels;
    model->class = class;
    rp_status status = RP_ERR_NOMEM;
    model->layers = calloc(config->layers, sizeof *model->layers);
    if (!model->layers)
        (void)rp_fail(error, status, "no memory for a model");
    else
        status = rp_safetensors_open(weights, &model->file, error);
    if (!status)
        status = map_arena(model, error);
    if (!status)
        status = load_weights(model, weights, error);
    if (status) {
        rp_model_close(model);
        return status;
    }
    hash_weights(model);
    rp_safetensors_release_pages(model->file);
    *out = model;
    return RP_OK;
}
