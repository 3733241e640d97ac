/* attack_score.c - see attack_score.h. */
#include "eval/attack_score.h"

#include "base/bytes.h"
#include "base/hash.h"
#include "evidence/collision.h"
#include "evidence/deletion_gain.h"

#include <math.h>
#include <stdlib.h>

enum { CHUNK = 4096 };

void
rp_scorer_init(rp_scorer *scorer, rp_attack_set *set, const rp_encoder *encoder)
{
    *scorer = (rp_scorer){ .set = set, .encoder = encoder, .dim = rp_encoder_dim(encoder) };
}

void
rp_scorer_fini(rp_scorer *scorer)
{
    free(scorer->vectors);
    free(scorer->pairs);
}

/* ---- vectors -------------------------------------------------------------------------------- */

static bool
make_room(rp_scorer *scorer, size_t count)
{
    if (count <= scorer->capacity)
        return true;
    const size_t capacity = RP_MAX(count, scorer->capacity + scorer->capacity / 2 + 1024);
    float *grown = realloc(scorer->vectors, capacity * scorer->dim * sizeof *grown);
    if (!grown)
        return false;
    scorer->vectors = grown;
    scorer->capacity = capacity;
    return true;
}

rp_status
rp_scorer_embed(rp_scorer *scorer, const char *cache_folder, rp_attack_progress *progress,
                void *context, rp_error *error)
{
    const rp_text_set *texts = &scorer->set->texts;
    const rp_vectors_options options = { .cache_folder = cache_folder };
    rp_status status = make_room(scorer, texts->count)
                           ? RP_OK
                           : rp_fail(error, RP_ERR_NOMEM, "no memory for %zu vectors", texts->count);
    const size_t first = scorer->count;
    while (!status && scorer->count < texts->count) {
        rp_vectors vectors;
        const size_t n = RP_MIN((size_t)CHUNK, texts->count - scorer->count);
        if (progress)
            progress(context, "embedding", scorer->count - first, texts->count - first);
        status = rp_vectors_make(scorer->encoder, texts->texts + scorer->count, n, &options,
                                 &vectors, error);
        if (status)
            break;
        memcpy(scorer->vectors + scorer->count * scorer->dim, vectors.values,
               n * scorer->dim * sizeof *scorer->vectors);
        scorer->count += n;
        rp_vectors_fini(&vectors);
    }
    if (!status && progress)
        progress(context, "embedding", texts->count - first, texts->count - first);
    return status;
}

const float *
rp_scorer_vector(rp_scorer *scorer, uint32_t text)
{
    while (scorer->count <= text) { /* came after the others: one by one */
        if (!make_room(scorer, scorer->count + 1) ||
            rp_encoder_embed(scorer->encoder, &scorer->set->texts.texts[scorer->count], 1,
                             scorer->vectors + scorer->count * scorer->dim, NULL, NULL) != RP_OK)
            return NULL;
        scorer->count++;
        scorer->embedded_late++;
    }
    return scorer->vectors + text * scorer->dim;
}

static double
dot(const float *a, const float *b, size_t dim)
{
    double sum = 0;
    for (size_t i = 0; i < dim; i++)
        sum += (double)a[i] * (double)b[i];
    return sum;
}

double
rp_scorer_similarity(rp_scorer *scorer, uint32_t a, uint32_t b)
{
    /* The larger first: growing moves the vectors. */
    const uint32_t last = RP_MAX(a, b);
    if (!rp_scorer_vector(scorer, last))
        return NAN;
    return dot(scorer->vectors + a * scorer->dim, scorer->vectors + b * scorer->dim, scorer->dim);
}

/* ---- scores --------------------------------------------------------------------------------- */

/* The texts whose vectors a score needs. */
typedef struct needed {
    uint32_t texts[RP_VARIANTS_MAX];
    size_t count;
    rp_collision_plan plan;
} needed;

static rp_status
need_collision(rp_scorer *scorer, rp_arena *arena, uint32_t stored, uint32_t question, needed *out)
{
    const rp_features *features[2];
    const rp_text_set *texts = &scorer->set->texts;
    rp_status status = rp_features_new(texts->texts[stored], arena, &features[0]);
    if (!status)
        status = rp_features_new(texts->texts[question], arena, &features[1]);
    if (!status)
        status = rp_collision_plan_make(features[0], features[1], arena, &out->plan);
    for (size_t i = 0; !status && i < out->plan.count; i++)
        status = rp_text_set_add(&scorer->set->texts, out->plan.variants[i], &out->texts[i]);
    out->count = out->plan.count;
    return status;
}

static rp_status
need_published(rp_scorer *scorer, rp_arena *arena, uint32_t stored, needed *out)
{
    rp_str variants[RP_VARIANTS_MAX];
    rp_status status =
        rp_key_variants(scorer->set->texts.texts[stored], arena, variants, &out->count);
    for (size_t i = 0; !status && i < out->count; i++)
        status = rp_text_set_add(&scorer->set->texts, variants[i], &out->texts[i]);
    return status;
}

static rp_status
need(rp_scorer *scorer, rp_attack_score kind, rp_arena *arena, uint32_t stored, uint32_t question,
     needed *out)
{
    return kind == RP_SCORE_COLLISION ? need_collision(scorer, arena, stored, question, out)
                                      : need_published(scorer, arena, stored, out);
}

rp_status
rp_scorer_plan(rp_scorer *scorer, rp_attack_score kind, uint32_t stored, uint32_t question)
{
    rp_arena arena;
    needed wanted = { .count = 0 };
    rp_arena_init(&arena, 0);
    const rp_status status = need(scorer, kind, &arena, stored, question, &wanted);
    rp_arena_fini(&arena);
    return status;
}

static rp_status
compute(rp_scorer *scorer, rp_attack_score kind, uint32_t stored, uint32_t question, float *out)
{
    rp_arena arena;
    needed wanted = { .count = 0 };
    rp_arena_init(&arena, 0);
    rp_status status = need(scorer, kind, &arena, stored, question, &wanted);
    float *variants = rp_arena_alloc(&arena, (wanted.count + 1) * scorer->dim * sizeof *variants);
    if (!status && !variants)
        status = RP_ERR_NOMEM;
    for (size_t i = 0; !status && i < wanted.count; i++) {
        const float *vector = rp_scorer_vector(scorer, wanted.texts[i]);
        if (vector)
            memcpy(variants + i * scorer->dim, vector, scorer->dim * sizeof *vector);
        else
            status = RP_ERR_NOMEM;
    }
    if (!status) {
        const float similarity = (float)rp_scorer_similarity(scorer, stored, question);
        const float *asked = rp_scorer_vector(scorer, question);
        const float *key = rp_scorer_vector(scorer, stored);
        const double score =
            kind == RP_SCORE_COLLISION
                ? rp_collision_score(&wanted.plan, similarity, variants, scorer->dim, asked)
                : (double)rp_deletion_gain(key, variants, wanted.count, scorer->dim, asked);
        *out = isfinite(score) ? (float)score : RP_SCORE_NONE;
    }
    rp_arena_fini(&arena);
    return status;
}

static rp_scored_pair *
slot_of(const rp_scorer *scorer, uint64_t texts)
{
    char bytes[8];
    rp_store_le64(bytes, texts);
    size_t at = rp_hash64((rp_str){ bytes, sizeof bytes }) & (scorer->pair_slots - 1);
    while (scorer->pairs[at].texts && scorer->pairs[at].texts != texts)
        at = (at + 1) & (scorer->pair_slots - 1);
    return &scorer->pairs[at];
}

static bool
grow_pairs(rp_scorer *scorer)
{
    rp_scored_pair *before = scorer->pairs;
    const size_t slots = scorer->pair_slots;
    if (2 * scorer->pair_count < slots)
        return true;
    rp_scored_pair *grown = calloc(slots ? 2 * slots : 1024, sizeof *grown);
    if (!grown)
        return false;
    scorer->pairs = grown;
    scorer->pair_slots = slots ? 2 * slots : 1024;
    for (size_t i = 0; i < slots; i++)
        if (before[i].texts)
            *slot_of(scorer, before[i].texts) = before[i];
    free(before);
    return true;
}

rp_status
rp_scorer_score(rp_scorer *scorer, rp_attack_score kind, uint32_t stored, uint32_t question,
                float *out)
{
    const uint64_t texts = ((uint64_t)stored << 32 | question) + 1;
    if (!grow_pairs(scorer))
        return RP_ERR_NOMEM;
    rp_scored_pair *slot = slot_of(scorer, texts);
    if (!slot->texts) {
        slot->texts = texts;
        scorer->pair_count++;
    }
    if (!slot->has[kind]) {
        const rp_status status = compute(scorer, kind, stored, question, &slot->score[kind]);
        if (status)
            return status;
        slot->has[kind] = true;
    }
    *out = slot->score[kind];
    return RP_OK;
}
