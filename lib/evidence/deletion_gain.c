/* deletion_gain.c - the key-collision check of deletion_gain.h (arXiv:2609.35908). */
#include "evidence/deletion_gain.h"

#include "base/bytes.h"
#include "base/hash.h"
#include <math.h>

enum { WORDS_MAX = 4096, STEPS = 60 };

/* Starts of the words of `key`, and its end; returns the number of words. */
static size_t
find_words(rp_str key, uint32_t *starts)
{
    size_t count = 0;
    bool in_word = false;
    for (size_t i = 0; i < key.len && count < WORDS_MAX; i++) {
        const bool space = key.ptr[i] == ' ' || (key.ptr[i] >= '\t' && key.ptr[i] <= '\r');
        if (!space && !in_word)
            starts[count++] = (uint32_t)i;
        in_word = !space;
    }
    starts[count] = (uint32_t)key.len;
    return count;
}

typedef struct variant_list {
    rp_str *out;
    uint64_t hashes[RP_VARIANTS_MAX];
    size_t count;
} variant_list;

/* key without [from, to), unless that is there already or empty. */
static bool
add_variant(variant_list *list, rp_arena *arena, rp_str key, size_t from, size_t to)
{
    char *text = rp_arena_alloc(arena, key.len + 1);
    if (!text)
        return false;
    memcpy(text, key.ptr, from);
    memcpy(text + from, key.ptr + to, key.len - to);
    const rp_str variant = rp_str_trimmed((rp_str){ text, key.len - (to - from) });
    const uint64_t hash = rp_hash64(variant);
    for (size_t i = 0; i < list->count; i++)
        if (list->hashes[i] == hash)
            return true;
    if (variant.len && list->count < RP_VARIANTS_MAX) {
        list->hashes[list->count] = hash;
        list->out[list->count++] = variant;
    }
    return true;
}

/* All contiguous runs of `segments` equal parts but the whole. */
static bool
add_runs(variant_list *list, rp_arena *arena, rp_str key, const uint32_t *starts, size_t words,
         size_t segments)
{
    for (size_t first = 0; first < segments; first++)
        for (size_t last = first; last < segments; last++) {
            if (first == 0 && last == segments - 1)
                continue;
            const size_t from = starts[first * words / segments];
            const size_t to = starts[(last + 1) * words / segments];
            if (from < to && !add_variant(list, arena, key, from, to))
                return false;
        }
    return true;
}

rp_status
rp_key_variants(rp_str key, rp_arena *arena, rp_str out[RP_VARIANTS_MAX], size_t *count)
{
    uint32_t *starts = rp_arena_alloc(arena, (WORDS_MAX + 1) * sizeof *starts);
    if (!starts || key.len > RP_TEXT_SIZE_MAX)
        return starts ? RP_ERR_INVALID : RP_ERR_NOMEM;
    const size_t words = find_words(key, starts);
    variant_list list = { .out = out };
    *count = 0;
    if (words < RP_VARIANT_SEGMENTS_MIN)
        return RP_OK;
    const size_t pairs = RP_MIN((words + 1) / 2, (size_t)RP_VARIANT_SEGMENTS_MAX);
    if (!add_runs(&list, arena, key, starts, words, RP_MIN(words, (size_t)4))
        || !add_runs(&list, arena, key, starts, words, pairs))
        return RP_ERR_NOMEM;
    *count = list.count;
    return RP_OK;
}

rp_status
rp_key_variant_vectors(rp_str key, size_t dim, rp_embed_callback *embed, void *context,
                       rp_arena *arena, float **out, size_t *count)
{
    rp_str texts[RP_VARIANTS_MAX];
    size_t found;
    rp_status status = rp_key_variants(key, arena, texts, &found);
    if (status != RP_OK)
        return status;
    float *vectors = rp_arena_alloc(arena, RP_MAX(found, (size_t)1) * dim * sizeof *vectors);
    if (!vectors)
        return RP_ERR_NOMEM;
    if (found && (status = embed(context, texts, found, vectors)) != RP_OK)
        return status;
    *out = vectors;
    *count = found;
    return RP_OK;
}

static float
dot(const float *a, const float *b, size_t dim)
{
    float sum = 0;
    for (size_t i = 0; i < dim; i++)
        sum += a[i] * b[i];
    return sum;
}

float
rp_deletion_gain(const float *key, const float *variants, size_t count, size_t dim,
                 const float *query)
{
    float best = -INFINITY;
    for (size_t i = 0; i < count; i++)
        best = fmaxf(best, dot(variants + i * dim, query, dim));
    return count ? best - dot(key, query, dim) : NAN;
}

double
rp_gain_fence_at(const rp_gain_fence *fence, double similarity, double words)
{
    return fence->base + fence->by_similarity * (similarity - fence->mean_similarity)
           + fence->by_words * (log(fmax(words, 1)) - fence->mean_log_words);
}

/* Solve the symmetric 3x3 system a x = b by Cramer's rule; false if singular. */
static bool
solve3(double a[3][3], const double *b, double *x)
{
    const double det = a[0][0] * (a[1][1] * a[2][2] - a[1][2] * a[2][1])
                       - a[0][1] * (a[1][0] * a[2][2] - a[1][2] * a[2][0])
                       + a[0][2] * (a[1][0] * a[2][1] - a[1][1] * a[2][0]);
    if (!(fabs(det) > 1e-18))
        return false;
    for (size_t k = 0; k < 3; k++) {
        double m[3][3];
        memcpy(m, a, sizeof m);
        for (size_t i = 0; i < 3; i++)
            m[i][k] = b[i];
        x[k] = (m[0][0] * (m[1][1] * m[2][2] - m[1][2] * m[2][1])
                - m[0][1] * (m[1][0] * m[2][2] - m[1][2] * m[2][0])
                + m[0][2] * (m[1][0] * m[2][1] - m[1][1] * m[2][0]))
               / det;
    }
    return true;
}

static void
find_means(const rp_gain_sample *samples, size_t count, rp_gain_fence *out)
{
    for (size_t i = 0; i < count; i++) {
        out->mean_similarity += samples[i].similarity / (double)count;
        out->mean_log_words += log(fmax(samples[i].words, 1)) / (double)count;
    }
}

rp_status
rp_gain_fence_fit(const rp_gain_sample *samples, size_t count, double false_positives,
                  rp_gain_fence *out)
{
    if (count < 20 || !(false_positives > 0 && false_positives < 1))
        return RP_ERR_INVALID;
    rp_gain_fence fence = { 0 };
    find_means(samples, count, &fence);
    double beta[3] = { 0 };
    for (int step = 0; step < STEPS; step++) {
        /* Pinball loss as least squares with weights quantile / |residual| above the
         * fence and (1 - quantile) / |residual| below it. A little ridge keeps slopes
         * of constant columns at 0. */
        double a[3][3] = { { 0 } }, b[3] = { 0 };
        for (size_t i = 0; i < count; i++) {
            const double x[3] = { 1, samples[i].similarity - fence.mean_similarity,
                                  log(fmax(samples[i].words, 1)) - fence.mean_log_words };
            const double residual
                = samples[i].gain - (beta[0] * x[0] + beta[1] * x[1] + beta[2] * x[2]);
            const double weight = (residual > 0 ? 1 - false_positives : false_positives)
                                  / fmax(fabs(residual), 1e-6);
            for (size_t r = 0; r < 3; r++) {
                b[r] += weight * x[r] * samples[i].gain;
                for (size_t c = 0; c < 3; c++)
                    a[r][c] += weight * x[r] * x[c];
            }
        }
        a[1][1] += 1e-6 * a[0][0];
        a[2][2] += 1e-6 * a[0][0];
        if (!solve3(a, b, beta))
            return RP_ERR_INVALID;
    }
    fence.base = beta[0];
    fence.by_similarity = beta[1];
    fence.by_words = beta[2];
    *out = fence;
    return RP_OK;
}
