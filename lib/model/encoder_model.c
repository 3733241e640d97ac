/* encoder_model.c - opening, adapting and running a model, whatever its architecture.
 *
 *   x = embed(ids);  per layer: x = run_layer(x);  out = pool(finish(x)) / |pool(...)|
 *
 * A model with an adapter has a small arena of its own for the matrices that the adapter
 * changes and points to those of its base for all others. */
#include "model/encoder_model.h"

#include "base/bytes.h"
#include "model/model_internal.h"

#include <assert.h>
#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#ifdef RP_HAVE_XXH_DISPATCH
#include <xxh_x86dispatch.h>
#else
#define XXH_INLINE_ALL
#include <xxhash.h>
#endif

enum { PACKERS_MAX = 4 }; /* threads that fill an arena; a guess */

/* ---- the file, shared by a model and those adapted from it ---- */

struct rp_weight_file {
    _Atomic size_t references;
    rp_safetensors *tensors; /* owned */
    char *path;              /* owned */
    uint8_t hash[16];
};

const rp_safetensors *
rp_weight_file_get(const rp_weight_file *file)
{
    return file->tensors;
}

static void
unref_file(rp_weight_file *file)
{
    if (!file || atomic_fetch_sub(&file->references, 1) != 1)
        return;
    rp_safetensors_close(file->tensors);
    free(file->path);
    free(file);
}

static rp_weight_file *
ref_file(rp_weight_file *file)
{
    atomic_fetch_add(&file->references, 1);
    return file;
}

static rp_status
open_file(const char *path, rp_weight_file **out, rp_error *error)
{
    rp_weight_file *file = calloc(1, sizeof *file);
    if (file)
        file->path = strdup(path);
    if (!file || !file->path) {
        free(file);
        return rp_fail(error, RP_ERR_NOMEM, "no memory for a model");
    }
    atomic_init(&file->references, 1);
    const rp_status status = rp_safetensors_open(path, &file->tensors, error);
    if (status)
        unref_file(file);
    else
        *out = file;
    return status;
}

/* The hash reads the file once more than packing does. It runs on a thread of its own, so
 * that a start with two cores waits for the longer of both only. */
static void *
hash_file(void *context)
{
    rp_weight_file *file = context;
    const rp_str bytes = rp_safetensors_bytes(file->tensors);
    XXH128_canonical_t canonical;
    XXH128_canonicalFromHash(&canonical, XXH3_128bits(bytes.ptr, bytes.len));
    memcpy(file->hash, canonical.digest, sizeof file->hash);
    return NULL;
}

/* ---- loading ---- */

static const rp_architecture_ops *const architectures[] = {
    [RP_ARCHITECTURE_BERT] = &rp_architecture_bert,
    [RP_ARCHITECTURE_MODERNBERT] = &rp_architecture_modernbert,
};

static void
lay_out_all(rp_model *model, rp_layout *plan, void *context)
{
    (void)context;
    model->ops->lay_out(model, plan);
    for (size_t i = 0; i < model->config.layers; i++) {
        rp_layer_plan layer = { 0 };
        model->ops->describe(model, i, &model->layers[i], &layer);
        rp_layout_layer(model, &layer, NULL, NULL, plan);
    }
}

/* Every `step`th layer from `first` on: all of it, or those matrices that are wanted. */
static rp_status
load_layers(rp_loader *from, size_t first, size_t step, rp_layer_wanted *only)
{
    rp_model *model = from->model;
    rp_status status = RP_OK;
    for (size_t i = first; !status && i < model->config.layers; i += step) {
        rp_layer_plan layer = { 0 };
        model->ops->describe(model, i, &model->layers[i], &layer);
        status = rp_load_layer(from, &layer, only);
    }
    return status;
}

static rp_status
begin_loading(rp_model *model, rp_adapter *adapter, rp_loader *out, rp_error *error)
{
    const rp_safetensors *tensors = model->file->tensors;
    const rp_model_config *config = &model->config;
    *out = (rp_loader){ .model = model, .path = model->file->path, .prefix = "",
                        .adapter = adapter, .error = error };
    char full[RP_TENSOR_NAME_SIZE];
    for (const char *const *prefix = model->ops->prefixes; *prefix; prefix++) {
        snprintf(full, sizeof full, "%s%s", *prefix, model->ops->words);
        if (rp_safetensors_find(tensors, rp_str_of(full)))
            out->prefix = *prefix;
    }
    out->rows = malloc(RP_PANEL_MAX * RP_MAX(config->hidden, config->intermediate) * sizeof(float));
    if (!out->rows)
        return rp_fail(error, RP_ERR_NOMEM, "no memory to read %s", out->path);
    return RP_OK;
}

/* A share of the layers, on a thread. */
typedef struct layer_share {
    rp_loader from; /* its rows are owned */
    rp_error error;
    size_t first, step;
    rp_status status;
    pthread_t thread;
    bool beside; /* it has a thread */
} layer_share;

static void *
load_share(void *context)
{
    layer_share *share = context;
    share->status = load_layers(&share->from, share->first, share->step, NULL);
    return NULL;
}

static size_t
count_shares(const rp_model *model)
{
    const long cores = sysconf(_SC_NPROCESSORS_ONLN);
    const size_t most = RP_MIN((size_t)PACKERS_MAX, model->config.layers);
    return cores < 1 ? 1 : RP_MIN((size_t)cores, most);
}

/* Half of a start is the kernel handing out zeroed pages, and most of the rest packing: both
 * are shared by several cores, each with every n-th layer. An adapter is used by one
 * thread at a time. */
static rp_status
load_all_layers(rp_model *model, rp_adapter *adapter, rp_error *error)
{
    layer_share shares[PACKERS_MAX] = { 0 };
    const size_t count = adapter ? 1 : count_shares(model);
    rp_status status = RP_OK;
    for (size_t i = 0; i < count; i++) {
        layer_share *share = &shares[i];
        share->first = i;
        share->step = count;
        share->status = begin_loading(model, adapter, &share->from, &share->error);
        if (!share->status && i > 0)
            share->beside = pthread_create(&share->thread, NULL, load_share, share) == 0;
    }
    for (size_t i = 0; i < count; i++) {
        if (shares[i].beside)
            pthread_join(shares[i].thread, NULL);
        else if (!shares[i].status)
            load_share(&shares[i]);
        free(shares[i].from.rows);
        if (shares[i].status && !status)
            status = rp_fail(error, shares[i].status, "%s", shares[i].error.text);
    }
    return status;
}

static rp_status
load_weights(rp_model *model, rp_adapter *adapter, rp_error *error)
{
    const rp_model_config *config = &model->config;
    rp_loader from;
    rp_status status = begin_loading(model, adapter, &from, error);
    if (!status)
        status = rp_load_find(&from, model->ops->words, config->vocabulary, config->hidden,
                              &model->words);
    if (!status)
        status = model->ops->load(&from);
    if (!status && model->class == RP_CLASS_INT8)
        status = rp_find_outliers(&from, error);
    free(from.rows);
    return status ? status : load_all_layers(model, adapter, error);
}

static rp_status
make_model(const rp_model_config *config, const rp_kernels *kernels, rp_class class,
           rp_model **out, rp_error *error)
{
    rp_model *model = calloc(1, sizeof *model);
    if (model)
        model->layers = calloc(config->layers, sizeof *model->layers);
    if (!model || !model->layers) {
        free(model);
        return rp_fail(error, RP_ERR_NOMEM, "no memory for a model");
    }
    atomic_init(&model->references, 1);
    model->config = *config;
    model->ops = architectures[config->architecture];
    model->kernels = kernels;
    model->class = class;
    *out = model;
    return RP_OK;
}

rp_status
rp_model_open(const char *weights, const rp_model_config *config, const rp_kernels *kernels,
              rp_class class, rp_model **out, rp_error *error)
{
    rp_model *model;
    pthread_t hasher;
    rp_status status = make_model(config, kernels, class, &model, error);
    if (status)
        return status;
    status = open_file(weights, &model->file, error);
    if (status) {
        rp_model_close(model);
        return status;
    }
    const bool beside = pthread_create(&hasher, NULL, hash_file, model->file) == 0;
    status = rp_model_map_arena(model, lay_out_all, NULL, error);
    if (!status)
        status = load_weights(model, NULL, error);
    if (beside)
        pthread_join(hasher, NULL);
    else
        hash_file(model->file);
    if (status) {
        rp_model_close(model);
        return status;
    }
    rp_safetensors_release_pages(model->file->tensors);
    *out = model;
    return RP_OK;
}

void
rp_model_close(rp_model *model)
{
    if (!model || atomic_fetch_sub(&model->references, 1) != 1)
        return;
    if (model->mapping)
        munmap(model->mapping, model->mapping_size);
    unref_file(model->file);
    rp_model_close(model->base);
    free(model->layers);
    free(model);
}

/* ---- adapters ---- */

static bool
is_changed(const void *adapter, const rp_layer_plan *layer, const rp_weights *into)
{
    for (size_t i = 0; i < layer->part_count; i++)
        if (layer->parts[i].into == into && rp_adapter_changes(adapter, layer->parts[i].name))
            return true;
    return false;
}

static void
lay_out_changed(rp_model *model, rp_layout *plan, void *adapter)
{
    for (size_t i = 0; i < model->config.layers; i++) {
        rp_layer_plan layer = { 0 };
        model->ops->describe(model, i, &model->layers[i], &layer);
        rp_layout_layer(model, &layer, is_changed, adapter, plan);
    }
}

/* Outliers stay those of the base: which columns they are hardly depends on an adapter, and
 * a change that is merged at the start or later must give the same numbers. */
static void
copy_outliers(rp_model *model, const rp_model *base)
{
    for (size_t i = 0; model->class == RP_CLASS_INT8 && i < model->config.layers; i++) {
        rp_layer *to = &model->layers[i];
        const rp_layer *of = &base->layers[i];
        const struct {
            const rp_weights *to, *of;
        } pairs[] = { { &to->qkv, &of->qkv }, { &to->output, &of->output },
                      { &to->up, &of->up }, { &to->down, &of->down } };
        for (size_t k = 0; k < RP_COUNT(pairs); k++)
            if (pairs[k].to->values != pairs[k].of->values)
                memcpy((void *)(uintptr_t)pairs[k].to->outlier_at, pairs[k].of->outlier_at,
                       pairs[k].of->outlier_count * sizeof *pairs[k].of->outlier_at);
    }
}

/* Only matrices of layers are changed: the rest is the base's. */
static rp_status
adapt_sharing(rp_model *model, rp_model *base, rp_adapter *adapter, rp_error *error)
{
    rp_loader from;
    rp_layer *const layers = model->layers;
    memcpy(layers, base->layers, base->config.layers * sizeof *layers);
    model->words = base->words;
    model->positions = base->positions;
    model->types = base->types;
    model->embedding_norm = base->embedding_norm;
    model->final_norm = base->final_norm;
    memcpy(model->rotary, base->rotary, sizeof model->rotary);
    model->head = base->head;
    atomic_fetch_add(&base->references, 1);
    model->base = base;
    rp_status status = rp_model_map_arena(model, lay_out_changed, adapter, error);
    if (status)
        return status;
    copy_outliers(model, base);
    status = begin_loading(model, adapter, &from, error);
    if (!status)
        status = load_layers(&from, 0, 1, is_changed);
    free(from.rows);
    return status;
}

rp_status
rp_model_adapt(rp_model *base, const char *folder, rp_model **out, rp_error *error)
{
    rp_adapter *adapter = NULL;
    rp_model *model = NULL;
    if (base->adapted)
        return rp_fail(error, RP_ERR_INVALID, "an adapter on top of another");
    rp_status status = rp_adapter_open(folder, &adapter, error);
    if (!status)
        status = make_model(&base->config, base->kernels, base->class, &model, error);
    if (status) {
        rp_adapter_close(adapter);
        return status;
    }
    model->file = ref_file(base->file);
    model->adapted = true;
    rp_adapter_hash(adapter, model->adapter_hash);
    if (rp_adapter_replaces_any(adapter)) {
        status = rp_model_map_arena(model, lay_out_all, NULL, error);
        if (!status)
            status = load_weights(model, adapter, error);
    } else {
        status = adapt_sharing(model, base, adapter, error);
    }
    if (!status)
        status = rp_adapter_check_used(adapter, error);
    rp_adapter_close(adapter);
    rp_safetensors_release_pages(model->file->tensors);
    if (status)
        rp_model_close(model);
    else
        *out = model;
    return status;
}

/* ---- questions ---- */

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
    const size_t own = sizeof *model + model->config.layers * sizeof *model->layers +
                       model->arena_size;
    return own + (model->base ? rp_model_size_bytes(model->base)
                              : rp_safetensors_bytes(model->file->tensors).len);
}

rp_model_work
rp_model_count_work(const rp_model *model, size_t tokens)
{
    rp_model_work work = { 0 };
    const size_t panel = model->kernels->product[model->class].panel;
    for (size_t i = 0; i < model->config.layers; i++) {
        const rp_layer *layer = &model->layers[i];
        const rp_weights *const parts[] = { &layer->qkv, &layer->output, &layer->up, &layer->down };
        for (size_t k = 0; k < RP_COUNT(parts); k++) {
            work.operations += 2 * (uint64_t)tokens * parts[k]->columns * parts[k]->depth;
            work.weight_bytes += rp_packed_size(model->class, parts[k]->columns, parts[k]->depth, panel);
        }
        const size_t seen = layer->reach < tokens ? RP_MIN(tokens, 2 * layer->reach + 1) : tokens;
        work.operations += 4 * (uint64_t)tokens * seen * model->config.hidden;
    }
    return work;
}

void
rp_model_weights_hash(const rp_model *model, uint8_t out[16])
{
    memcpy(out, model->file->hash, sizeof model->file->hash);
}

bool
rp_model_adapter_hash(const rp_model *model, uint8_t out[16])
{
    if (model->adapted)
        memcpy(out, model->adapter_hash, sizeof model->adapter_hash);
    return model->adapted;
}

/* ---- running ---- */

static bool
run(rp_forward *work, float *scratch)
{
    const rp_model *model = work->model;
    work->tokens = work->batch->starts[work->batch->count];
    if (!work->tokens)
        return false;
    rp_forward_split(work, scratch);
    model->ops->embed(work);
    for (size_t i = 0; i < model->config.layers; i++)
        model->ops->run_layer(work, &model->layers[i]);
    if (model->ops->finish)
        model->ops->finish(work);
    return true;
}

/* The first numbers of the pooled vector, of length 1. */
static void
give_direction(const rp_model *model, const float *pooled, float *out)
{
    const size_t dim = model->config.dim;
    const float length = sqrtf(model->kernels->dot(pooled, pooled, dim));
    const float scale = isfinite(length) && length > 0 ? 1.0F / length : NAN;
    for (size_t i = 0; i < dim; i++)
        out[i] = pooled[i] * scale;
}

void
rp_model_encode(const rp_model *model, const rp_token_batch *batch, float *scratch,
                float *const *out)
{
    rp_forward work = { .model = model, .batch = batch };
    if (!run(&work, scratch))
        return;
    for (size_t i = 0; i < batch->count; i++) {
        rp_forward_pool(&work, model->config.pooling, i, work.wide);
        give_direction(model, work.wide, out[i]);
    }
}

void
rp_model_classify(const rp_model *model, const rp_token_batch *batch, float *scratch, float *logits)
{
    rp_forward work = { .model = model, .batch = batch };
    assert(model->config.labels);
    if (!run(&work, scratch))
        return;
    for (size_t i = 0; i < batch->count; i++)
        model->ops->classify(&work, i, work.wide, logits + i * model->config.labels);
}
