/* vectors.c - see vectors.h. Texts are embedded in order of length, because a batch is as
 * slow as its longest text. */
#include "eval/vectors.h"

#include "base/bytes.h"
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
           char *out, size_t size)
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
    const int len = snprintf(out, size, "%s/%.*s-%.32s.npy", folder, RP_FMT(fingerprint), digits);
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
static void
keep(const char *folder, const char *path, const rp_vectors *vectors)
{
    rp_buffer bytes;
    rp_buffer_init(&bytes, 0);
    rp_npy_write_header(vectors->count, vectors->dim, &bytes);
    rp_buffer_append(&bytes, (rp_str){ (const char *)vectors->values,
                                       vectors->count * vectors->dim * sizeof(float) });
    if (rp_buffer_failed(&bytes) || rp_folder_make(folder, 0700, NULL) != RP_OK ||
        rp_file_replace(path, rp_buffer_str(&bytes), 0600, NULL) != RP_OK)
        fprintf(stderr, "reprise eval: vectors could not be kept in %s\n", folder);
    rp_buffer_fini(&bytes);
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
    by_length *order = calloc(out->count + 1, sizeof *order);
    float *batch = calloc(BATCH * out->dim, sizeof *batch);
    out->made = calloc(out->count * out->dim + 1, sizeof *out->made);
    rp_status status = order && batch && out->made
                           ? RP_OK
                           : rp_fail(error, RP_ERR_NOMEM, "no memory for %zu vectors", out->count);
    if (status == RP_OK) {
        for (size_t i = 0; i < out->count; i++)
            order[i] = (by_length){ texts[i].len, i };
        qsort(order, out->count, sizeof *order, compare_lengths);
        status = embed_in_order(encoder, texts, order, options, out, batch, error);
    }
    out->values = out->made;
    free(order);
    free(batch);
    return status;
}

rp_status
rp_vectors_make(const rp_encoder *encoder, const rp_str *texts, size_t count,
                const rp_vectors_options *options, rp_vectors *out, rp_error *error)
{
    char path[PATH_SIZE];
    const bool may_keep = options->cache_folder && count &&
                          cache_path(encoder, texts, count, options->cache_folder, path, sizeof path);
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
        keep(options->cache_folder, path, &vectors);
    *out = vectors;
    return RP_OK;
}

void
rp_vectors_fini(rp_vectors *vectors)
{
    if (!vectors->made && vectors->values)
        rp_npy_close(&vectors->npy);
    free(vectors->made);
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
