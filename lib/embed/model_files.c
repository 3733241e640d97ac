/* model_files.c - from a model's folder to something that can be run. */
#include "embed/model_files.h"

#include "base/bytes.h"
#include "base/file.h"
#include "base/hash.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PATH_SIZE = 4096 };

/* ---- fingerprint ---- */

static void
hash_number(rp_sha256 *hash, uint64_t value)
{
    char bytes[8];
    rp_store_le64(bytes, value);
    rp_sha256_update_field(hash, (rp_str){ bytes, sizeof bytes });
}

/* What only some models have; nothing for a whole vector of a BERT, so that stores made
 * before there were others stay valid. */
static void
hash_particulars(const rp_model_config *config, rp_sha256 *hash)
{
    if (config->architecture == RP_ARCHITECTURE_MODERNBERT) {
        uint64_t thetas[2];
        memcpy(&thetas[0], &config->theta_global, sizeof thetas[0]);
        memcpy(&thetas[1], &config->theta_local, sizeof thetas[1]);
        hash_number(hash, thetas[0]);
        hash_number(hash, thetas[1]);
        hash_number(hash, config->reach);
        rp_sha256_update_field(hash, (rp_str){ (const char *)config->local, config->layers });
    }
    if (config->dim != config->hidden) {
        rp_sha256_update_field(hash, RP_STR("dim"));
        hash_number(hash, config->dim);
    }
}

/* All that makes vectors comparable. A new kind of model or class adds a field and so
 * a new value; a change of what is hashed changes the first field. */
void
rp_model_files_fingerprint(const rp_model_files *files, char out[33])
{
    const rp_model_config *config = rp_model_get_config(files->model);
    rp_sha256 hash;
    uint8_t weights[16], adapter[16], digest[32];
    uint32_t epsilon;
    memcpy(&epsilon, &config->epsilon, sizeof epsilon);
    rp_model_weights_hash(files->model, weights);
    rp_sha256_init(&hash);
    rp_sha256_update_field(&hash, RP_STR("reprise encoder 1"));
    rp_sha256_update_field(&hash, (rp_str){ (const char *)weights, sizeof weights });
    rp_sha256_update_field(&hash, (rp_str){ (const char *)files->tokenizer_hash,
                                            sizeof files->tokenizer_hash });
    rp_sha256_update_field(&hash, rp_str_of(config->prefix));
    /* How int8 is computed has changed twice since stores could be made. */
    const uint64_t class = files->precision == RP_PRECISION_INT8 ? 0x200 | RP_PRECISION_INT8
                                                                   : files->precision;
    const uint64_t numbers[] = { config->architecture, config->pooling, config->layers,
                                 config->heads, epsilon, config->window, class };
    for (size_t i = 0; i < RP_COUNT(numbers); i++)
        hash_number(&hash, numbers[i]);
    const bool adapted = rp_model_adapter_hash(files->model, adapter);
    rp_sha256_update_field(&hash, (rp_str){ (const char *)adapter, adapted ? sizeof adapter : 0 });
    hash_particulars(config, &hash);
    rp_sha256_final(&hash, digest);
    rp_hex_encode(digest, 16, out);
}

/* ---- opening ---- */

/* Where a model lies: a folder, or a .safetensors file in one. */
typedef struct model_place {
    char folder[PATH_SIZE], weights[PATH_SIZE + 32], tokenizer[PATH_SIZE + 32];
} model_place;

static rp_status
find_place(const char *path, model_place *out, rp_error *error)
{
    size_t len = strlen(path);
    if (len >= PATH_SIZE)
        return rp_fail(error, RP_ERR_LIMIT, "a model's path of %zu bytes", len);
    memcpy(out->folder, path, len + 1);
    if (rp_str_ends_with(rp_str_of(path), RP_STR(".safetensors"))) {
        memcpy(out->weights, path, len + 1);
        char *slash = strrchr(out->folder, '/');
        if (slash)
            slash[slash == out->folder] = 0;
        else
            memcpy(out->folder, ".", 2);
    } else {
        while (len > 1 && out->folder[len - 1] == '/')
            out->folder[--len] = 0;
        snprintf(out->weights, sizeof out->weights, "%s/model.safetensors", out->folder);
    }
    snprintf(out->tokenizer, sizeof out->tokenizer, "%s/tokenizer.json", out->folder);
    return RP_OK;
}

static rp_status
choose_kernels(const char *tier, rp_class class, const rp_kernels **out, rp_error *error)
{
    *out = tier && *tier ? rp_kernels_find(tier) : rp_kernels_best(class);
    if (*out)
        return RP_OK;
    return rp_fail(error, RP_ERR_UNSUPPORTED, "there are no kernels '%s' on this machine", tier);
}

/* What `auto` takes: the fastest class that has passed its acceptance (docs/performance.md),
 * which int8 has not. Cross-encoders have not been measured and stay as they are. */
static rp_precision
choose_precision(const rp_encoder_options *options, bool head)
{
    const rp_kernels *f32, *bf16;
    if (options->precision != RP_PRECISION_AUTO)
        return options->precision;
    if (head || choose_kernels(options->tier, RP_CLASS_F32, &f32, NULL) != RP_OK ||
        choose_kernels(options->tier, RP_CLASS_BF16, &bf16, NULL) != RP_OK)
        return RP_PRECISION_F32;
    return rp_kernels_bf16_pays(f32, bf16) ? RP_PRECISION_BF16 : RP_PRECISION_F32;
}

/* Reading a tokenizer takes as long as a fifth of the weights: it has a thread of its own. */
typedef struct tokenizer_task {
    const char *path;
    rp_tokenizer *tokenizer; /* given to the files */
    uint8_t hash[32];
    rp_error error;
    rp_status status;
    pthread_t thread;
    bool beside;
} tokenizer_task;

static void *
read_tokenizer(void *context)
{
    tokenizer_task *task = context;
    rp_file_map map;
    rp_error why = { { 0 } };
    task->status = rp_file_map_open(task->path, &map, &task->error);
    if (task->status)
        return NULL;
    const rp_str json = { map.ptr, map.len };
    task->status = rp_tokenizer_parse(json, &task->tokenizer, &why);
    if (task->status)
        (void)rp_fail(&task->error, task->status, "%s: %s", task->path, why.text);
    else
        rp_sha256_of(json, task->hash);
    rp_file_map_close(&map);
    return NULL;
}

static rp_status
finish_tokenizer(tokenizer_task *task, rp_model_files *files, rp_error *error)
{
    if (task->beside)
        pthread_join(task->thread, NULL);
    else
        read_tokenizer(task);
    files->tokenizer = task->tokenizer;
    memcpy(files->tokenizer_hash, task->hash, sizeof files->tokenizer_hash);
    return task->status ? rp_fail(error, task->status, "%s", task->error.text) : RP_OK;
}

static rp_status
check_vocabulary(const rp_model_files *files, const model_place *place, rp_error *error)
{
    const size_t tokens = rp_tokenizer_vocabulary_size(files->tokenizer);
    const size_t rows = rp_model_get_config(files->model)->vocabulary;
    if (tokens > rows)
        return rp_fail(error, RP_ERR_CORRUPT, "%s has %zu tokens, the model %zu",
                       place->tokenizer, tokens, rows);
    return RP_OK;
}

static rp_class
class_of(rp_precision precision)
{
    switch (precision) {
    case RP_PRECISION_INT8:
        return RP_CLASS_INT8;
    case RP_PRECISION_BF16:
        return RP_CLASS_BF16;
    default:
        return RP_CLASS_F32;
    }
}

/* What the caller may narrow of what the model's files say. */
static rp_status
apply_options(const rp_encoder_options *options, bool head, const model_place *place,
              rp_model_config *config, rp_error *error)
{
    if (options->dim > config->hidden)
        return rp_fail(error, RP_ERR_INVALID, "%s has vectors of %zu numbers, not of %zu",
                       place->folder, config->hidden, options->dim);
    if (options->window && (options->window < 4 || options->window > config->window))
        return rp_fail(error, RP_ERR_INVALID, "%s has windows of 4 to %zu tokens, not %zu",
                       place->folder, config->window, options->window);
    if (options->dim)
        config->dim = options->dim;
    if (options->window)
        config->window = options->window;
    if (!head)
        config->labels = 0; /* whatever head the file has is not asked */
    else if (config->labels != 1 && config->labels != 2)
        return rp_fail(error, RP_ERR_UNSUPPORTED,
                       "%s is no cross-encoder: its head has %zu labels, not 1 or 2",
                       place->folder, config->labels);
    return RP_OK;
}

static void
name_after(rp_model_files *files, const char *folder)
{
    const char *slash = strrchr(folder, '/');
    snprintf(files->name, sizeof files->name, "%s", slash && slash[1] ? slash + 1 : folder);
}

static rp_status
open_model(const model_place *place, const rp_model_config *config,
           const rp_encoder_options *options, rp_class class, rp_model **out, rp_error *error)
{
    const rp_kernels *kernels;
    rp_model *model = NULL, *adapted = NULL;
    rp_status status = choose_kernels(options->tier, class, &kernels, error);
    if (!status)
        status = rp_model_open(place->weights, config, kernels, class, &model, error);
    if (!status && options->adapter) {
        status = rp_model_adapt(model, options->adapter, &adapted, error);
        rp_model_close(model); /* the adapted one holds what it needs of it */
        model = adapted;
    }
    if (!status)
        *out = model;
    return status;
}

rp_status
rp_model_files_open(const char *path, const rp_encoder_options *options, bool head,
                    rp_model_files *out, rp_error *error)
{
    model_place place;
    rp_model_config config = { 0 };
    rp_model_files files = { 0 };
    files.precision = choose_precision(options, head);
    rp_status status = find_place(path, &place, error);
    if (!status)
        status = rp_model_config_read(place.folder, &config, error);
    if (!status)
        status = apply_options(options, head, &place, &config, error);
    if (status)
        return status;
    tokenizer_task task = { .path = place.tokenizer };
    task.beside = pthread_create(&task.thread, NULL, read_tokenizer, &task) == 0;
    status = open_model(&place, &config, options, class_of(files.precision), &files.model, error);
    const rp_status read = finish_tokenizer(&task, &files, status ? NULL : error);
    if (!status)
        status = read;
    if (!status)
        status = check_vocabulary(&files, &place, error);
    if (status) {
        rp_model_files_close(&files);
        return status;
    }
    name_after(&files, place.folder);
    *out = files;
    return RP_OK;
}

void
rp_model_files_close(rp_model_files *files)
{
    rp_tokenizer_close(files->tokenizer);
    rp_model_close(files->model);
    *files = (rp_model_files){ 0 };
}

/* ---- rooms ---- */

static void
free_room(rp_room *room)
{
    if (!room)
        return;
    free(room->body);
    free(room->ids);
    free(room->types);
    free(room->starts);
    free(room->out);
    free(room->work);
    free(room);
}

static rp_room *
make_room(const rp_room_pool *pool)
{
    rp_room *room = calloc(1, sizeof *room);
    if (!room)
        return NULL;
    const size_t count = rp_model_scratch_count(pool->model, pool->tokens_max);
    room->body_max = pool->body_max;
    room->body = calloc(pool->body_max, sizeof *room->body);
    room->ids = calloc(pool->tokens_max, sizeof *room->ids);
    room->types = calloc(pool->tokens_max, sizeof *room->types);
    room->starts = calloc(pool->tokens_max + 1, sizeof *room->starts);
    room->out = calloc(pool->tokens_max, sizeof *room->out);
    room->work = aligned_alloc(64, (count * sizeof(float) + 63) / 64 * 64);
    if (room->body && room->ids && room->types && room->starts && room->out && room->work)
        return room;
    free_room(room);
    return NULL;
}

void
rp_room_pool_init(rp_room_pool *pool)
{
    *pool = (rp_room_pool){ 0 };
    pthread_mutex_init(&pool->lock, NULL);
}

void
rp_room_pool_fini(rp_room_pool *pool)
{
    while (pool->idle) {
        rp_room *next = pool->idle->next;
        free_room(pool->idle);
        pool->idle = next;
    }
    pthread_mutex_destroy(&pool->lock);
}

rp_room *
rp_room_borrow(rp_room_pool *pool)
{
    pthread_mutex_lock(&pool->lock);
    rp_room *room = pool->idle;
    if (room)
        pool->idle = room->next;
    pthread_mutex_unlock(&pool->lock);
    if (!room)
        room = make_room(pool);
    if (room)
        room->count = 0;
    return room;
}

void
rp_room_return(rp_room_pool *pool, rp_room *room)
{
    pthread_mutex_lock(&pool->lock);
    room->next = pool->idle;
    pool->idle = room;
    pthread_mutex_unlock(&pool->lock);
}
