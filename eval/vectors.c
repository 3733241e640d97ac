/* vectors.c - see vectors.h. Texts are embedded in order of length, because a batch is as
 * slow as its longest text. */
#include "eval/vectors.h"

#include "base/bytes.h"
#include "base/clock.h"
#include "base/hash.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

enum { BATCH = 64, PATH_SIZE = 4096 };

rp_status
rp_vectors_folder(char *out, size_t size, rp_error *error)
{
    const char *cache = getenv("XDG_CACHE_HOME"), *home = getenv("HOME");
    const bool is_xdg = cache && *cache;
    if (!is_xdg && (!home || !*home))
        return rp_fail(error, RP_ERR_NOT_FOUND,
                       "neither XDG_CACHE_HOME nor HOME is set: give --cache DIR or --no-cache");
    const int len = snprintf(out, size, "%s%s/reprise/vectors", is_xdg ? cache : home,
                             is_xdg ? "" : "/.cache");
    return len < 0 || (size_t)len >= size ? rp_fail(error, RP_ERR_LIMIT, "the cache path is too long")
                                          : RP_OK;
}

static bool
cache_path(const rp_encoder *encoder, const rp_str *texts, size_t count, const char *folder,
           const char *suffix, char *out, size_t size)
{
    rp_sha256 hash;
    uint8_t digest[32];
    char digits[65];
    rp_sha256_init(&hash);
    for (size_t i = 0; i < count; i++)
        rp_sha256_update_field(&hash, texts[i]);
    rp_sha256_final(&hash, digest);
    rp_hex_encode(digest, sizeof digest, digits);
    const rp_str fingerprint = rp_encoder_fingerprint(encoder);
    const int len = snprintf(out, size, "%s/%.*s-%.32s%s.npy", folder, RP_FMT(fingerprint),
                             digits, suffix);
    return len > 0 && (size_t)len < size;
}

static rp_status
check_rows(const char *path, const rp_npy *npy, size_t count, rp_error *error)
{
    if (npy->rows != count)
        return rp_fail(error, RP_ERR_INVALID, "%s has %zu rows, and there are %zu texts", path,
                       npy->rows, count);
    if (npy->columns == 0 || npy->columns > RP_DIM_MAX)
        return rp_fail(error, RP_ERR_INVALID, "%s has %zu columns; 1 to %d are possible", path,
                       npy->columns, RP_DIM_MAX);
    for (size_t i = 0; i < count; i++) {
        double square = 0;
        for (size_t k = 0; k < npy->columns; k++)
            square += (double)npy->values[i * npy->columns + k] * (double)npy->values[i * npy->columns + k];
        if (!(fabs(sqrt(square) - 1) <= 1e-3))
            return rp_fail(error, RP_ERR_INVALID, "%s: row %zu (from 0) has length %g, not 1", path,
                           i, sqrt(square));
    }
    return RP_OK;
}

rp_status
rp_vectors_open(const char *path, size_t count, rp_vectors *out, rp_error *error)
{
    rp_npy npy;
    rp_status status = rp_npy_open(path, &npy, error);
    if (status != RP_OK)
        return status;
    if ((status = check_rows(path, &npy, count, error)) != RP_OK) {
        rp_npy_close(&npy);
        return status;
    }
    *out = (rp_vectors){ .count = count, .dim = npy.columns, .values = npy.values, .npy = npy };
    return RP_OK;
}

/* Failing to keep them costs the next run its time, and nothing else. */
static bool
keep_rows(const char *folder, const char *path, const float *values, size_t rows, size_t columns)
{
    rp_buffer bytes;
    rp_buffer_init(&bytes, 0);
    rp_npy_write_header(rows, columns, &bytes);
    rp_buffer_append(&bytes, (rp_str){ (const char *)values, rows * columns * sizeof *values });
    const bool kept = !rp_buffer_failed(&bytes) && rp_folder_make(folder, 0700, NULL) == RP_OK &&
                      rp_file_replace(path, rp_buffer_str(&bytes), 0600, NULL) == RP_OK;
    rp_buffer_fini(&bytes);
    if (!kept)
        fprintf(stderr, "reprise eval: vectors could not be kept in %s\n", folder);
    return kept;
}

typedef struct by_length {
    size_t len, at;
} by_length;

static int
compare_lengths(const void *a, const void *b)
{
    const by_length *x = a, *y = b;
    if (x->len != y->len)
        return x->len < y->len ? -1 : 1;
    return x->at < y->at ? -1 : x->at > y->at;
}

static by_length *
order_by_length(const rp_str *texts, size_t count)
{
    by_length *order = calloc(count + 1, sizeof *order);
    for (size_t i = 0; order && i < count; i++)
        order[i] = (by_length){ texts[i].len, i };
    if (order)
        qsort(order, count, sizeof *order, compare_lengths);
    return order;
}

static rp_status
embed_in_order(const rp_encoder *encoder, const rp_str *texts, const by_length *order,
               const rp_vectors_options *options, rp_vectors *out, float *batch, rp_error *error)
{
    for (size_t start = 0; start < out->count; start += BATCH) {
        const size_t n = RP_MIN((size_t)BATCH, out->count - start);
        rp_str chosen[BATCH];
        bool cut[BATCH];
        for (size_t i = 0; i < n; i++)
            chosen[i] = texts[order[start + i].at];
        const rp_status status = rp_encoder_embed(encoder, chosen, n, batch, cut, error);
        if (status != RP_OK)
            return status;
        for (size_t i = 0; i < n; i++) {
            memcpy(out->made + order[start + i].at * out->dim, batch + i * out->dim,
                   out->dim * sizeof *batch);
            out->cut_count += cut[i];
        }
        if (options->progress)
            options->progress(options->context, start + n, out->count);
    }
    return RP_OK;
}

static rp_status
embed_all(const rp_encoder *encoder, const rp_str *texts, const rp_vectors_options *options,
          rp_vectors *out, rp_error *error)
{
    by_length *order = order_by_length(texts, out->count);
    float *batch = calloc(BATCH * out->dim, sizeof *batch);
    out->made = calloc(out->count * out->dim + 1, sizeof *out->made);
    rp_status status = order && batch && out->made
                           ? RP_OK
                           : rp_fail(error, RP_ERR_NOMEM, "no memory for %zu vectors", out->count);
    if (status == RP_OK) {
        status = embed_in_order(encoder, texts, order, options, out, batch, error);
    }
    out->values = out->made;
    free(order);
    free(batch);
    return status;
}

/* ---- in windows ----------------------------------------------------------------------------- */

/* Rows of windows are gathered as texts come, longest text last. */
typedef struct windowed {
    rp_vectors *out;
    size_t rows, capacity;
    float *storage;       /* (BATCH, RP_WINDOWS_MAX + 1, dim) */
} windowed;

static rp_status
take_embedding(windowed *w, size_t at, rp_status status, const rp_embedding *embedding)
{
    rp_vectors *out = w->out;
    if (status == RP_ERR_LIMIT) { /* too long: an exact repeat is all it can have */
        out->cut_count++;
        out->made[at * out->dim] = 1; /* a unit vector that nobody looks at */
        return RP_OK;
    }
    if (status)
        return status;
    const size_t count = embedding->window_count;
    memcpy(out->made + at * out->dim, embedding->mean, out->dim * sizeof(float));
    out->facts[2 * at] = (float)count;
    out->facts[2 * at + 1] = (float)embedding->unknown_share;
    if (count <= 1)
        return RP_OK;
    if (w->rows + count > w->capacity) {
        const size_t capacity = RP_MAX(2 * w->capacity, w->rows + count + 64);
        float *windows = realloc(out->windows, capacity * out->dim * sizeof *windows);
        if (!windows)
            return RP_ERR_NOMEM;
        out->windows = windows;
        w->capacity = capacity;
    }
    out->starts[at] = (uint32_t)w->rows;
    memcpy(out->windows + w->rows * out->dim, embedding->windows, count * out->dim * sizeof(float));
    w->rows += count;
    return RP_OK;
}

static rp_status
embed_windows_in_order(const rp_encoder *encoder, const rp_str *texts, const by_length *order,
                       const rp_vectors_options *options, windowed *w)
{
    const size_t count = w->out->count;
    for (size_t start = 0; start < count; start += BATCH) {
        const size_t n = RP_MIN((size_t)BATCH, count - start);
        rp_str chosen[BATCH];
        rp_embedding embeddings[BATCH];
        rp_status statuses[BATCH], status = RP_OK;
        for (size_t i = 0; i < n; i++)
            chosen[i] = texts[order[start + i].at];
        rp_encoder_embed_windows_many(encoder, chosen, n, w->storage, embeddings, statuses);
        for (size_t i = 0; !status && i < n; i++)
            status = take_embedding(w, order[start + i].at, statuses[i], &embeddings[i]);
        if (status)
            return status;
        if (options->progress)
            options->progress(options->context, start + n, count);
    }
    return RP_OK;
}

/* Windows came in the order of lengths; in the file, which does not say where each text's
 * are, they lie in the order of texts. */
static rp_status
sort_windows(const windowed *w)
{
    rp_vectors *out = w->out;
    const size_t row_size = out->dim * sizeof(float);
    float *sorted = malloc(w->rows * row_size + 1);
    size_t rows = 0;
    if (!sorted)
        return RP_ERR_NOMEM;
    for (size_t i = 0; i < out->count; i++) {
        const size_t count = rp_vectors_window_count(out, i);
        if (count <= 1)
            continue;
        memcpy(sorted + rows * out->dim, out->windows + out->starts[i] * out->dim, count * row_size);
        out->starts[i] = (uint32_t)rows;
        rows += count;
    }
    free(out->windows);
    out->windows = sorted;
    return RP_OK;
}

static rp_status
embed_all_windows(const rp_encoder *encoder, const rp_str *texts,
                  const rp_vectors_options *options, rp_vectors *out, size_t *rows,
                  rp_error *error)
{
    windowed w = { .out = out };
    by_length *order = order_by_length(texts, out->count);
    w.storage = calloc(BATCH * (RP_WINDOWS_MAX + 1), out->dim * sizeof *w.storage);
    out->made = calloc(out->count * out->dim + 1, sizeof *out->made);
    out->facts = calloc(2 * out->count + 1, sizeof *out->facts);
    out->starts = calloc(out->count + 1, sizeof *out->starts);
    rp_status status = order && w.storage && out->made && out->facts && out->starts ? RP_OK
                                                                                    : RP_ERR_NOMEM;
    if (!status)
        status = embed_windows_in_order(encoder, texts, order, options, &w);
    if (!status)
        status = sort_windows(&w);
    out->values = out->made;
    *rows = w.rows;
    free(order);
    free(w.storage);
    return status ? rp_fail(error, status, "%zu texts could not be embedded: %s", out->count,
                            rp_status_name(status))
                  : RP_OK;
}

typedef struct window_paths {
    char means[PATH_SIZE], facts[PATH_SIZE], windows[PATH_SIZE];
} window_paths;

/* What the facts say must be what the rows of windows hold. */
static bool
read_facts(rp_vectors *out, const rp_npy *facts, const rp_npy *windows)
{
    size_t rows = 0;
    if (facts->rows != out->count || facts->columns != 2 || windows->columns != out->dim)
        return false;
    out->facts = calloc(2 * out->count + 1, sizeof *out->facts);
    out->starts = calloc(out->count + 1, sizeof *out->starts);
    out->windows = calloc(windows->rows * out->dim + 1, sizeof *out->windows);
    if (!out->facts || !out->starts || !out->windows)
        return false;
    memcpy(out->facts, facts->values, 2 * out->count * sizeof *out->facts);
    memcpy(out->windows, windows->values, windows->rows * out->dim * sizeof *out->windows);
    for (size_t i = 0; i < out->count; i++) {
        const float count = out->facts[2 * i], unknown = out->facts[2 * i + 1];
        if (!(count >= 0 && count <= RP_WINDOWS_MAX && count == floorf(count)) ||
            !(unknown >= 0 && unknown <= 1))
            return false;
        out->cut_count += count == 0;
        if (count <= 1)
            continue;
        out->starts[i] = (uint32_t)rows;
        rows += (size_t)count;
    }
    return rows == windows->rows || (rows == 0 && windows->rows == 1); /* no empty array is kept */
}

static bool
open_windows(const window_paths *paths, size_t count, size_t dim, rp_vectors *out)
{
    rp_npy facts = { 0 }, windows = { 0 };
    rp_vectors vectors = { 0 };
    if (rp_vectors_open(paths->means, count, &vectors, NULL) != RP_OK)
        return false;
    const bool has_facts = rp_npy_open(paths->facts, &facts, NULL) == RP_OK;
    const bool has_windows = rp_npy_open(paths->windows, &windows, NULL) == RP_OK;
    const bool good = has_facts && has_windows && vectors.dim == dim &&
                      read_facts(&vectors, &facts, &windows);
    if (has_facts)
        rp_npy_close(&facts);
    if (has_windows)
        rp_npy_close(&windows);
    if (good)
        *out = vectors;
    else
        rp_vectors_fini(&vectors);
    return good;
}

static rp_status
make_windows(const rp_encoder *encoder, const rp_str *texts, size_t count,
             const rp_vectors_options *options, rp_vectors *out, rp_error *error)
{
    window_paths paths;
    const char *folder = options->cache_folder;
    const bool may_keep =
        folder && count &&
        cache_path(encoder, texts, count, folder, "-w", paths.means, PATH_SIZE) &&
        cache_path(encoder, texts, count, folder, "-w-facts", paths.facts, PATH_SIZE) &&
        cache_path(encoder, texts, count, folder, "-w-windows", paths.windows, PATH_SIZE);
    rp_vectors vectors = { .count = count, .dim = rp_encoder_dim(encoder) };
    size_t rows = 0;
    if (may_keep && open_windows(&paths, count, vectors.dim, out))
        return RP_OK;
    const rp_status status = embed_all_windows(encoder, texts, options, &vectors, &rows, error);
    if (status) {
        rp_vectors_fini(&vectors);
        return status;
    }
    const float *kept_rows = rows ? vectors.windows : vectors.values;
    if (may_keep && keep_rows(folder, paths.windows, kept_rows, rows ? rows : 1, vectors.dim) &&
        keep_rows(folder, paths.facts, vectors.facts, count, 2))
        keep_rows(folder, paths.means, vectors.values, count, vectors.dim);
    *out = vectors;
    return RP_OK;
}

rp_status
rp_vectors_make(const rp_encoder *encoder, const rp_str *texts, size_t count,
                const rp_vectors_options *options, rp_vectors *out, rp_error *error)
{
    char path[PATH_SIZE];
    if (options->windows)
        return make_windows(encoder, texts, count, options, out, error);
    const bool may_keep = options->cache_folder && count &&
                          cache_path(encoder, texts, count, options->cache_folder, "", path, sizeof path);
    rp_vectors vectors = { .count = count, .dim = rp_encoder_dim(encoder) };
    if (may_keep && rp_vectors_open(path, count, &vectors, NULL) == RP_OK) {
        if (vectors.dim == rp_encoder_dim(encoder)) {
            *out = vectors;
            return RP_OK;
        }
        rp_vectors_fini(&vectors);
        vectors = (rp_vectors){ .count = count, .dim = rp_encoder_dim(encoder) };
    }
    const rp_status status = embed_all(encoder, texts, options, &vectors, error);
    if (status != RP_OK) {
        rp_vectors_fini(&vectors);
        return status;
    }
    if (may_keep)
        keep_rows(options->cache_folder, path, vectors.values, vectors.count, vectors.dim);
    *out = vectors;
    return RP_OK;
}

rp_status
rp_vectors_time(const rp_encoder *encoder, const rp_str *texts, size_t count, float *out_us,
                rp_error *error)
{
    enum { SAMPLES = 200 };
    by_length *order = order_by_length(texts, count);
    float *storage = calloc((RP_WINDOWS_MAX + 1) * rp_encoder_dim(encoder), sizeof *storage);
    rp_status status = order && storage ? RP_OK : RP_ERR_NOMEM;
    size_t timed = 0;
    /* The first one pays for cold memory and is made twice. */
    for (size_t k = 0; !status && timed < count; k++) {
        const size_t at = (k ? k : 1) * count / SAMPLES, last = RP_MIN(at, count - 1);
        rp_embedding embedding;
        const int64_t started = rp_monotonic_ns();
        status = rp_encoder_embed_windows(encoder, texts[order[last].at], storage, &embedding, NULL);
        const float us = (float)(rp_monotonic_ns() - started) / 1000;
        if (status == RP_ERR_LIMIT) /* never embedded */
            status = RP_OK;
        for (; k && timed <= last; timed++)
            out_us[order[timed].at] = us;
    }
    free(order);
    free(storage);
    return status ? rp_fail(error, status, "embedding could not be timed: %s",
                            rp_status_name(status))
                  : RP_OK;
}

void
rp_vectors_fini(rp_vectors *vectors)
{
    if (!vectors->made && vectors->values)
        rp_npy_close(&vectors->npy);
    free(vectors->made);
    free(vectors->facts);
    free(vectors->windows);
    free(vectors->starts);
    *vectors = (rp_vectors){ 0 };
}

double
rp_vectors_similarity(const rp_vectors *vectors, size_t a, size_t b)
{
    const float *x = rp_vector(vectors, a), *y = rp_vector(vectors, b);
    double sum = 0;
    for (size_t k = 0; k < vectors->dim; k++)
        sum += (double)x[k] * (double)y[k];
    return sum;
}
