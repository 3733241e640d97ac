/* encoder.c - tokenizer, model, pooling and windows as one thing.
 *
 * Texts become pieces of at most a window; pieces are gathered until a batch is full
 * and then run through the model back to back. The scratch memory for that is taken
 * from a pool that keeps as many as have ever been in use at a time, so that a
 * request allocates nothing once the server is warm. */
#include "embed/encoder_internal.h"

#include "base/bytes.h"
#include "base/file.h"
#include "base/hash.h"
#include "model/encoder_model.h"
#include "text/tokenizer.h"

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

enum { PATH_SIZE = 4096 };

/* One batch under construction, and what the model needs to run it. */
typedef struct scratch {
    struct scratch *next;
    size_t tokens_max;
    int32_t *body;    /* ids of one text without special tokens */
    size_t body_max;
    int32_t *ids;     /* (tokens_max) */
    uint32_t *starts; /* (tokens_max + 1) */
    float **out;      /* (tokens_max) */
    size_t count;     /* pieces gathered */
    float *work;
} scratch;

struct rp_encoder {
    _Atomic size_t references;
    rp_encoder *base;        /* referenced, or NULL: of an adapted one; its pool is used */
    rp_model *model;         /* owned */
    rp_tokenizer *tokenizer; /* owned, or the base's */
    uint8_t tokenizer_hash[32];
    rp_tokenizer_extra extra;
    int32_t unknown; /* id of [UNK], or -1 */
    size_t body_max; /* tokens of a window without the special ones */
    rp_precision precision;
    char name[256];
    char fingerprint[33];
    pthread_mutex_t lock; /* guards `idle`; a leaf */
    scratch *idle;        /* owned */
};

/* ---- scratch ---- */

static void
free_scratch(scratch *s)
{
    if (!s)
        return;
    free(s->body);
    free(s->ids);
    free(s->starts);
    free(s->out);
    free(s->work);
    free(s);
}

static scratch *
make_scratch(const rp_encoder *encoder)
{
    scratch *s = calloc(1, sizeof *s);
    if (!s)
        return NULL;
    s->tokens_max = RP_MAX((size_t)RP_BATCH_TOKENS, rp_encoder_window_tokens(encoder));
    s->body_max = encoder->body_max * RP_WINDOWS_MAX + 1;
    const size_t count = rp_model_scratch_count(encoder->model, s->tokens_max);
    s->body = calloc(s->body_max, sizeof *s->body);
    s->ids = calloc(s->tokens_max, sizeof *s->ids);
    s->starts = calloc(s->tokens_max + 1, sizeof *s->starts);
    s->out = calloc(s->tokens_max, sizeof *s->out);
    s->work = aligned_alloc(64, (count * sizeof(float) + 63) / 64 * 64);
    if (s->body && s->ids && s->starts && s->out && s->work)
        return s;
    free_scratch(s);
    return NULL;
}

/* An rp_encoder is immutable to its users; only its pool changes, under the lock. Adapted
 * ones have the shapes of their base and use its pool. */
static rp_encoder *
pool_of(const rp_encoder *shared)
{
    return (rp_encoder *)(uintptr_t)(shared->base ? shared->base : shared);
}

static scratch *
borrow_scratch(const rp_encoder *shared)
{
    rp_encoder *encoder = pool_of(shared);
    pthread_mutex_lock(&encoder->lock);
    scratch *s = encoder->idle;
    if (s)
        encoder->idle = s->next;
    pthread_mutex_unlock(&encoder->lock);
    if (!s)
        s = make_scratch(encoder);
    if (s)
        s->count = 0;
    return s;
}

static void
return_scratch(const rp_encoder *shared, scratch *s)
{
    rp_encoder *encoder = pool_of(shared);
    pthread_mutex_lock(&encoder->lock);
    s->next = encoder->idle;
    encoder->idle = s;
    pthread_mutex_unlock(&encoder->lock);
}

/* ---- batches ---- */

static void
run_batch(const rp_encoder *encoder, scratch *s)
{
    const rp_token_batch batch = { .ids = s->ids, .starts = s->starts, .count = s->count };
    if (s->count)
        rp_model_encode(encoder->model, &batch, s->work, s->out);
    s->count = 0;
}

/* Add one piece, of at most a window; its vector will be in `out` after run_batch. */
static void
add_piece(const rp_encoder *encoder, scratch *s, const int32_t *body, size_t count, float *out)
{
    const rp_tokenizer_extra *extra = &encoder->extra;
    const size_t whole = extra->prefix_count + count + extra->suffix_count;
    if (s->count && s->starts[s->count] + whole > RP_BATCH_TOKENS)
        run_batch(encoder, s);
    const uint32_t start = s->count ? s->starts[s->count] : 0;
    int32_t *to = s->ids + start;
    if (extra->prefix_count)
        memcpy(to, extra->prefix, extra->prefix_count * sizeof *to);
    if (count)
        memcpy(to + extra->prefix_count, body, count * sizeof *to);
    if (extra->suffix_count)
        memcpy(to + extra->prefix_count + count, extra->suffix, extra->suffix_count * sizeof *to);
    s->starts[s->count] = start;
    s->starts[s->count + 1] = start + (uint32_t)whole;
    s->out[s->count++] = out;
}

/* Ids of a text without special tokens: writes at most max, returns how many there
 * are, RP_TOKENS_NOMEM if memory was missing. */
static size_t
tokenize_body(const rp_encoder *encoder, rp_str text, int32_t *out, size_t max)
{
    const char *prefix = rp_model_get_config(encoder->model)->prefix;
    if (!*prefix)
        return rp_tokenizer_encode(encoder->tokenizer, text, false, out, max);
    const size_t prefix_len = strlen(prefix);
    char *joined = malloc(prefix_len + text.len);
    if (!joined)
        return RP_TOKENS_NOMEM;
    memcpy(joined, prefix, prefix_len);
    if (text.len)
        memcpy(joined + prefix_len, text.ptr, text.len);
    const size_t count = rp_tokenizer_encode(
        encoder->tokenizer, (rp_str){ joined, prefix_len + text.len }, false, out, max);
    free(joined);
    return count;
}

static rp_status
check_size(rp_str text, rp_error *error)
{
    if (text.len <= RP_TEXT_SIZE_MAX)
        return RP_OK;
    return rp_fail(error, RP_ERR_LIMIT, "a text of %zu bytes; the limit is %d", text.len,
                   RP_TEXT_SIZE_MAX);
}

rp_status
rp_encoder_embed(const rp_encoder *encoder, const rp_str *texts, size_t n, float *out,
                 bool *truncated, rp_error *error)
{
    const size_t dim = rp_encoder_dim(encoder);
    for (size_t i = 0; i < n; i++) {
        const rp_status status = check_size(texts[i], error);
        if (status)
            return status;
    }
    scratch *s = borrow_scratch(encoder);
    if (!s)
        return rp_fail(error, RP_ERR_NOMEM, "no memory to encode");
    rp_status status = RP_OK;
    for (size_t i = 0; i < n; i++) {
        const size_t count = tokenize_body(encoder, texts[i], s->body, encoder->body_max);
        if (count == RP_TOKENS_NOMEM) {
            status = rp_fail(error, RP_ERR_NOMEM, "no memory to read a text's tokens");
            break;
        }
        if (truncated)
            truncated[i] = count > encoder->body_max;
        add_piece(encoder, s, s->body, RP_MIN(count, encoder->body_max), out + i * dim);
    }
    run_batch(encoder, s);
    return_scratch(encoder, s);
    for (size_t i = 0; !status && i < n; i++)
        if (isnan(out[i * dim]))
            status = rp_fail(error, RP_ERR_CORRUPT, "the encoder gave a text no direction");
    return status;
}

/* ---- windows ---- */

/* Gather the windows of a text. Its mean has slot 0 of storage, unless it has only one
 * window, which then is the mean. */
static rp_status
add_windows(const rp_encoder *encoder, scratch *s, rp_str text, float *storage, rp_embedding *out)
{
    const size_t dim = rp_encoder_dim(encoder), step = encoder->body_max;
    rp_status status = check_size(text, NULL);
    if (status)
        return status;
    const size_t count = tokenize_body(encoder, text, s->body, s->body_max);
    if (count == RP_TOKENS_NOMEM)
        return RP_ERR_NOMEM;
    if (count > step * RP_WINDOWS_MAX)
        return RP_ERR_LIMIT;
    size_t unknown = 0;
    for (size_t i = 0; i < count; i++)
        unknown += s->body[i] == encoder->unknown;
    out->unknown_share = count ? (double)unknown / (double)count : 0;
    out->window_count = count ? (count + step - 1) / step : 1;
    out->mean = storage;
    out->windows = out->window_count == 1 ? storage : storage + dim;
    for (size_t w = 0; w < out->window_count; w++)
        add_piece(encoder, s, s->body + w * step, RP_MIN(step, count - w * step),
                  out->windows + w * dim);
    return RP_OK;
}

/* The normalised mean of the windows. Fails: RP_ERR_CORRUPT (no direction). */
static rp_status
average_windows(const rp_encoder *encoder, rp_embedding *out)
{
    const size_t dim = rp_encoder_dim(encoder);
    double squares = 0;
    for (size_t i = 0; out->window_count > 1 && i < dim; i++) {
        float sum = 0;
        for (size_t w = 0; w < out->window_count; w++)
            sum += out->windows[w * dim + i];
        out->mean[i] = sum;
        squares += (double)sum * sum;
    }
    if (out->window_count == 1)
        return isnan(out->mean[0]) ? RP_ERR_CORRUPT : RP_OK;
    if (!(isfinite(squares) && squares > 0))
        return RP_ERR_CORRUPT;
    const float scale = (float)(1.0 / sqrt(squares));
    for (size_t i = 0; i < dim; i++)
        out->mean[i] *= scale;
    return RP_OK;
}

void
rp_encoder_embed_windows_many(const rp_encoder *encoder, const rp_str *texts, size_t n,
                              float *storage, rp_embedding *out, rp_status *status)
{
    const size_t room = rp_embedding_storage_count(encoder);
    scratch *s = borrow_scratch(encoder);
    for (size_t i = 0; i < n; i++)
        status[i] = s ? add_windows(encoder, s, texts[i], storage + i * room, &out[i])
                      : RP_ERR_NOMEM;
    if (!s)
        return;
    run_batch(encoder, s);
    return_scratch(encoder, s);
    for (size_t i = 0; i < n; i++)
        if (status[i] == RP_OK)
            status[i] = average_windows(encoder, &out[i]);
}

rp_status
rp_encoder_embed_windows(const rp_encoder *encoder, rp_str text, float *storage, rp_embedding *out,
                         rp_error *error)
{
    rp_status status = check_size(text, error);
    if (status)
        return status;
    rp_embedding result;
    rp_encoder_embed_windows_many(encoder, &text, 1, storage, &result, &status);
    switch (status) {
    case RP_OK:
        *out = result;
        return RP_OK;
    case RP_ERR_LIMIT:
        return rp_fail(error, status, "a text of more than %d windows of %zu tokens",
                       RP_WINDOWS_MAX, rp_encoder_window_tokens(encoder));
    case RP_ERR_CORRUPT:
        return rp_fail(error, status, "the encoder gave a text no direction");
    default:
        return rp_fail(error, status, "no memory to encode");
    }
}

size_t
rp_encoder_tokenize(const rp_encoder *encoder, rp_str text, int32_t *out, size_t max)
{
    const size_t count = rp_tokenizer_encode(encoder->tokenizer, text, true, out, max);
    return count == RP_TOKENS_NOMEM ? 0 : count;
}

/* ---- self-test ---- */

rp_status
rp_encoder_self_test(const rp_encoder *encoder, rp_error *error)
{
    const rp_str probes[] = {
        RP_STR("How do I reset my password?"),
        RP_STR("The cat sat on the mat."),
        RP_STR("What is the capital of France?"),
        RP_STR("Compute the integral of x squared from 0 to 3."),
        RP_STR("7"),
    };
    enum { COUNT = RP_COUNT(probes) };
    const size_t dim = rp_encoder_dim(encoder);
    float *vectors = calloc(COUNT * dim, sizeof *vectors);
    if (!vectors)
        return rp_fail(error, RP_ERR_NOMEM, "no memory for the encoder's self-test");
    rp_status status = rp_encoder_embed(encoder, probes, COUNT, vectors, NULL, error);
    for (size_t i = 0; !status && i < COUNT; i++)
        for (size_t j = 0; !status && j <= i; j++) {
            double product = 0;
            for (size_t k = 0; k < dim; k++)
                product += (double)vectors[i * dim + k] * vectors[j * dim + k];
            /* Unit length up to rounding; and unrelated sentences that are nearly the
             * same direction mean that the encoder does not look at its input. The
             * bound is a guess: all-MiniLM-L6-v2 stays below .3 on these. */
            if (i == j && !(fabs(product - 1.0) < 1e-3))
                status = rp_fail(error, RP_ERR_CORRUPT,
                                 "the encoder's self-test: a vector has length %g, not 1",
                                 sqrt(product));
            else if (i != j && !(product < 0.999))
                status = rp_fail(error, RP_ERR_CORRUPT,
                                 "the encoder's self-test: unrelated texts have the cosine %g",
                                 product);
        }
    free(vectors);
    return status;
}

/* ---- opening ---- */

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
static void
make_fingerprint(rp_encoder *encoder)
{
    const rp_model_config *config = rp_model_get_config(encoder->model);
    rp_sha256 hash;
    uint8_t weights[16], adapter[16], digest[32];
    uint32_t epsilon;
    memcpy(&epsilon, &config->epsilon, sizeof epsilon);
    rp_model_weights_hash(encoder->model, weights);
    rp_sha256_init(&hash);
    rp_sha256_update_field(&hash, RP_STR("reprise encoder 1"));
    rp_sha256_update_field(&hash, (rp_str){ (const char *)weights, sizeof weights });
    rp_sha256_update_field(&hash, (rp_str){ (const char *)encoder->tokenizer_hash,
                                            sizeof encoder->tokenizer_hash });
    rp_sha256_update_field(&hash, rp_str_of(config->prefix));
    /* How int8 is computed has changed once since stores could be made. */
    const uint64_t class = encoder->precision == RP_PRECISION_INT8 ? 0x100 | RP_PRECISION_INT8
                                                                   : encoder->precision;
    const uint64_t numbers[] = { config->architecture, config->pooling, config->layers,
                                 config->heads, epsilon, config->window, class };
    for (size_t i = 0; i < RP_COUNT(numbers); i++)
        hash_number(&hash, numbers[i]);
    const bool adapted = rp_model_adapter_hash(encoder->model, adapter);
    rp_sha256_update_field(&hash, (rp_str){ (const char *)adapter, adapted ? sizeof adapter : 0 });
    hash_particulars(config, &hash);
    rp_sha256_final(&hash, digest);
    rp_hex_encode(digest, 16, encoder->fingerprint);
}

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

static rp_status
open_tokenizer(rp_encoder *encoder, const model_place *place, rp_error *error)
{
    const rp_model_config *config = rp_model_get_config(encoder->model);
    rp_file_map map;
    rp_status status = rp_file_map_open(place->tokenizer, &map, error);
    if (status)
        return status;
    rp_error why = { { 0 } };
    const rp_str json = { map.ptr, map.len };
    status = rp_tokenizer_parse(json, &encoder->tokenizer, &why);
    if (status)
        (void)rp_fail(error, status, "%s: %s", place->tokenizer, why.text);
    else
        rp_sha256_of(json, encoder->tokenizer_hash);
    rp_file_map_close(&map);
    if (status)
        return status;
    if (rp_tokenizer_vocabulary_size(encoder->tokenizer) > config->vocabulary)
        return rp_fail(error, RP_ERR_CORRUPT, "%s has %zu tokens, the model %zu",
                       place->tokenizer, rp_tokenizer_vocabulary_size(encoder->tokenizer),
                       config->vocabulary);
    encoder->extra = rp_tokenizer_single_extra(encoder->tokenizer);
    encoder->unknown = rp_tokenizer_special_ids(encoder->tokenizer).unk;
    const size_t extra = encoder->extra.prefix_count + encoder->extra.suffix_count;
    if (extra >= config->window || encoder->extra.type != 0)
        return rp_fail(error, RP_ERR_UNSUPPORTED,
                       "%s puts %zu special tokens around a text; the window has %zu",
                       place->tokenizer, extra, config->window);
    encoder->body_max = config->window - extra;
    return RP_OK;
}

static void
name_after(rp_encoder *encoder, const char *folder)
{
    const char *slash = strrchr(folder, '/');
    snprintf(encoder->name, sizeof encoder->name, "%s", slash && slash[1] ? slash + 1 : folder);
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
apply_options(const rp_encoder_options *options, const model_place *place, rp_model_config *config,
              rp_error *error)
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
    config->labels = 0; /* whatever head the file has is not asked */
    return RP_OK;
}

static rp_status
fill_encoder(rp_encoder *encoder, const char *path, const rp_encoder_options *options,
             rp_error *error)
{
    model_place place;
    rp_model_config config = { 0 };
    const rp_kernels *kernels;
    /* What `auto` takes has passed the acceptance of its class (docs/performance.md). */
    encoder->precision =
        options->precision == RP_PRECISION_AUTO ? RP_PRECISION_F32 : options->precision;
    const rp_class class = class_of(encoder->precision);
    rp_status status = find_place(path, &place, error);
    if (!status)
        status = choose_kernels(options->tier, class, &kernels, error);
    if (!status)
        status = rp_model_config_read(place.folder, &config, error);
    if (!status)
        status = apply_options(options, &place, &config, error);
    if (!status)
        status = rp_model_open(place.weights, &config, kernels, class, &encoder->model, error);
    if (!status)
        status = open_tokenizer(encoder, &place, error);
    if (status)
        return status;
    make_fingerprint(encoder);
    name_after(encoder, place.folder);
    return RP_OK;
}

static rp_encoder *
make_encoder(void)
{
    rp_encoder *encoder = calloc(1, sizeof *encoder);
    if (!encoder)
        return NULL;
    atomic_init(&encoder->references, 1);
    pthread_mutex_init(&encoder->lock, NULL);
    return encoder;
}

rp_status
rp_encoder_open(const char *path, const rp_encoder_options *options, rp_encoder **out,
                rp_error *error)
{
    static const rp_encoder_options defaults;
    if (!options)
        options = &defaults;
    rp_encoder *encoder = make_encoder();
    if (!encoder)
        return rp_fail(error, RP_ERR_NOMEM, "no memory for an encoder");
    rp_status status = fill_encoder(encoder, path, options, error);
    if (!status && options->adapter) {
        rp_encoder *base = encoder;
        encoder = NULL;
        status = rp_encoder_adapt(base, options->adapter, &encoder, error);
        rp_encoder_close(base); /* the adapted one holds what it needs of it */
    }
    if (status) {
        rp_encoder_close(encoder);
        return status;
    }
    *out = encoder;
    return RP_OK;
}

rp_status
rp_encoder_adapt(rp_encoder *base, const char *adapter, rp_encoder **out, rp_error *error)
{
    rp_encoder *encoder = make_encoder();
    if (!encoder)
        return rp_fail(error, RP_ERR_NOMEM, "no memory for an encoder");
    encoder->base = rp_encoder_ref(base);
    encoder->tokenizer = base->tokenizer;
    memcpy(encoder->tokenizer_hash, base->tokenizer_hash, sizeof encoder->tokenizer_hash);
    encoder->extra = base->extra;
    encoder->unknown = base->unknown;
    encoder->body_max = base->body_max;
    encoder->precision = base->precision;
    memcpy(encoder->name, base->name, sizeof encoder->name);
    const rp_status status = rp_model_adapt(base->model, adapter, &encoder->model, error);
    if (status) {
        rp_encoder_close(encoder);
        return status;
    }
    make_fingerprint(encoder);
    *out = encoder;
    return RP_OK;
}

rp_encoder *
rp_encoder_ref(rp_encoder *encoder)
{
    atomic_fetch_add(&encoder->references, 1);
    return encoder;
}

void
rp_encoder_close(rp_encoder *encoder)
{
    if (!encoder || atomic_fetch_sub(&encoder->references, 1) != 1)
        return;
    while (encoder->idle) {
        scratch *next = encoder->idle->next;
        free_scratch(encoder->idle);
        encoder->idle = next;
    }
    if (!encoder->base)
        rp_tokenizer_close(encoder->tokenizer);
    rp_model_close(encoder->model);
    rp_encoder_close(encoder->base);
    pthread_mutex_destroy(&encoder->lock);
    free(encoder);
}

/* ---- questions ---- */

size_t
rp_encoder_dim(const rp_encoder *encoder)
{
    return rp_model_get_config(encoder->model)->dim;
}

size_t
rp_encoder_window_tokens(const rp_encoder *encoder)
{
    return rp_model_get_config(encoder->model)->window;
}

rp_str
rp_encoder_name(const rp_encoder *encoder)
{
    return rp_str_of(encoder->name);
}

rp_str
rp_encoder_tier(const rp_encoder *encoder)
{
    return rp_str_of(rp_model_get_kernels(encoder->model)->name);
}

rp_precision
rp_encoder_precision(const rp_encoder *encoder)
{
    return encoder->precision;
}

rp_str
rp_encoder_fingerprint(const rp_encoder *encoder)
{
    return rp_str_of(encoder->fingerprint);
}

size_t
rp_encoder_size_bytes(const rp_encoder *encoder)
{
    return sizeof *encoder + rp_model_size_bytes(encoder->model) +
           rp_tokenizer_size_bytes(encoder->tokenizer);
}
