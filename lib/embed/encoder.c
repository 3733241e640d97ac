/* encoder.c - tokenizer, model, pooling and windows as one thing.
 *
 * Texts become pieces of at most a window; pieces are gathered until a batch is full
 * and then run through the model back to back. The scratch memory for that is taken
 * from a pool that keeps as many as have ever been in use at a time, so that a
 * request allocates nothing once the server is warm. */
#include "embed/encoder_internal.h"

#include "base/bytes.h"
#include "embed/model_files.h"

#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>

struct rp_encoder {
    _Atomic size_t references;
    rp_encoder *base;     /* referenced, or NULL: of an adapted one */
    rp_model_files files; /* the tokenizer is the base's, if there is one */
    rp_tokenizer_extra extra;
    int32_t unknown; /* id of [UNK], or -1 */
    size_t body_max; /* tokens of a window without the special ones */
    char fingerprint[33];
    rp_room_pool rooms; /* not used by an adapted one: it has the shapes of its base */
};

/* An rp_encoder is immutable to its users; only its pool changes, under a lock. */
static rp_room_pool *
rooms_of(const rp_encoder *shared)
{
    rp_encoder *encoder = (rp_encoder *)(uintptr_t)(shared->base ? shared->base : shared);
    return &encoder->rooms;
}

/* ---- batches ---- */

static void
run_batch(const rp_encoder *encoder, rp_room *s)
{
    const rp_token_batch batch = { .ids = s->ids, .starts = s->starts, .count = s->count };
    if (s->count)
        rp_model_encode(encoder->files.model, &batch, s->work, s->out);
    s->count = 0;
}

/* Add one piece, of at most a window; its vector will be in `out` after run_batch. */
static void
add_piece(const rp_encoder *encoder, rp_room *s, const int32_t *body, size_t count, float *out)
{
    const rp_tokenizer_extra *extra = &encoder->extra;
    const size_t whole = extra->prefix_count + count + extra->suffix_count;
    if (s->count && s->starts[s->count] + whole > RP_PASS_TOKENS)
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
    const char *prefix = rp_model_get_config(encoder->files.model)->prefix;
    if (!*prefix)
        return rp_tokenizer_encode(encoder->files.tokenizer, text, false, out, max);
    const size_t prefix_len = strlen(prefix);
    char *joined = malloc(prefix_len + text.len);
    if (!joined)
        return RP_TOKENS_NOMEM;
    memcpy(joined, prefix, prefix_len);
    if (text.len)
        memcpy(joined + prefix_len, text.ptr, text.len);
    const size_t count = rp_tokenizer_encode(
        encoder->files.tokenizer, (rp_str){ joined, prefix_len + text.len }, false, out, max);
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
    rp_room *s = rp_room_borrow(rooms_of(encoder));
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
    rp_room_return(rooms_of(encoder), s);
    for (size_t i = 0; !status && i < n; i++)
        if (isnan(out[i * dim]))
            status = rp_fail(error, RP_ERR_CORRUPT, "the encoder gave a text no direction");
    return status;
}

/* ---- windows ---- */

/* Gather the windows of a text. Its mean has slot 0 of storage, unless it has only one
 * window, which then is the mean. */
static rp_status
add_windows(const rp_encoder *encoder, rp_room *s, rp_str text, float *storage, rp_embedding *out)
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
    rp_room *s = rp_room_borrow(rooms_of(encoder));
    for (size_t i = 0; i < n; i++)
        status[i] = s ? add_windows(encoder, s, texts[i], storage + i * room, &out[i])
                      : RP_ERR_NOMEM;
    if (!s)
        return;
    run_batch(encoder, s);
    rp_room_return(rooms_of(encoder), s);
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
    const size_t count = rp_tokenizer_encode(encoder->files.tokenizer, text, true, out, max);
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

static rp_encoder *
make_encoder(void)
{
    rp_encoder *encoder = calloc(1, sizeof *encoder);
    if (!encoder)
        return NULL;
    atomic_init(&encoder->references, 1);
    rp_room_pool_init(&encoder->rooms);
    return encoder;
}

/* What the tokenizer puts around a text, and what that leaves of a window. */
static rp_status
measure_window(rp_encoder *encoder, const char *path, rp_error *error)
{
    const size_t window = rp_encoder_window_tokens(encoder);
    encoder->extra = rp_tokenizer_single_extra(encoder->files.tokenizer);
    encoder->unknown = rp_tokenizer_special_ids(encoder->files.tokenizer).unk;
    const size_t extra = encoder->extra.prefix_count + encoder->extra.suffix_count;
    if (extra >= window || encoder->extra.type != 0)
        return rp_fail(error, RP_ERR_UNSUPPORTED,
                       "the tokenizer of %s puts %zu special tokens around a text; the window has %zu",
                       path, extra, window);
    encoder->body_max = window - extra;
    encoder->rooms.model = encoder->files.model;
    encoder->rooms.tokens_max = RP_MAX((size_t)RP_PASS_TOKENS, window);
    encoder->rooms.body_max = encoder->body_max * RP_WINDOWS_MAX + 1;
    return RP_OK;
}

rp_status
rp_encoder_open(const char *path, const rp_encoder_options *options, rp_encoder **out,
                rp_error *error)
{
    static const rp_encoder_options defaults;
    rp_encoder *encoder = make_encoder();
    if (!encoder)
        return rp_fail(error, RP_ERR_NOMEM, "no memory for an encoder");
    rp_status status = rp_model_files_open(path, options ? options : &defaults, false,
                                           &encoder->files, error);
    if (!status)
        status = measure_window(encoder, path, error);
    if (status) {
        rp_encoder_close(encoder);
        return status;
    }
    rp_model_files_fingerprint(&encoder->files, encoder->fingerprint);
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
    encoder->files = base->files;
    encoder->files.model = NULL;
    encoder->extra = base->extra;
    encoder->unknown = base->unknown;
    encoder->body_max = base->body_max;
    const rp_status status =
        rp_model_adapt(base->files.model, adapter, &encoder->files.model, error);
    if (status) {
        rp_encoder_close(encoder);
        return status;
    }
    rp_model_files_fingerprint(&encoder->files, encoder->fingerprint);
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
    rp_room_pool_fini(&encoder->rooms);
    if (encoder->base)
        encoder->files.tokenizer = NULL;
    rp_model_files_close(&encoder->files);
    rp_encoder_close(encoder->base);
    free(encoder);
}

/* ---- questions ---- */

size_t
rp_encoder_dim(const rp_encoder *encoder)
{
    return rp_model_get_config(encoder->files.model)->dim;
}

size_t
rp_encoder_window_tokens(const rp_encoder *encoder)
{
    return rp_model_get_config(encoder->files.model)->window;
}

rp_str
rp_encoder_name(const rp_encoder *encoder)
{
    return rp_str_of(encoder->files.name);
}

rp_str
rp_encoder_tier(const rp_encoder *encoder)
{
    return rp_str_of(rp_model_get_kernels(encoder->files.model)->name);
}

rp_precision
rp_encoder_precision(const rp_encoder *encoder)
{
    return encoder->files.precision;
}

rp_str
rp_encoder_fingerprint(const rp_encoder *encoder)
{
    return rp_str_of(encoder->fingerprint);
}

rp_encoder_work
rp_encoder_count_work(const rp_encoder *encoder, size_t texts, size_t tokens)
{
    const rp_model_work one = rp_model_count_work(encoder->files.model, tokens);
    const size_t together = RP_MAX(RP_PASS_TOKENS / tokens, (size_t)1);
    return (rp_encoder_work){ .operations = one.operations * texts,
                              .weight_bytes = one.weight_bytes * ((texts + together - 1) / together) };
}

size_t
rp_encoder_size_bytes(const rp_encoder *encoder)
{
    return sizeof *encoder + rp_model_size_bytes(encoder->files.model) +
           rp_tokenizer_size_bytes(encoder->files.tokenizer);
}
