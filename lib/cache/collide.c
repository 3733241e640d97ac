/* collide.c - whether a stored prompt is near only because of what was added to it
 * (evidence/collision.h), asked with the cache's own encoder.
 *
 * Only what would be served is asked about, and most of that is answered by words alone: the
 * encoder is asked about prompts that have more content words than the question. Answers
 * are remembered, because a popular question comes again. */
#include "cache/cache_internal.h"

#include "base/bytes.h"
#include "base/hash.h"
#include "evidence/collision.h"

#include <stdlib.h>

enum { ARENA_MAX = 4 << 20 };

static rp_status
embed_one(const rp_embedder *embedder, rp_str text, float *storage, float *out)
{
    rp_embedding embedding;
    const rp_status status = embedder->embed(embedder->context, text, storage, &embedding, NULL);
    if (status == RP_OK)
        memcpy(out, embedding.mean, embedder->dim * sizeof *out);
    return status;
}

static rp_status
embed_variants(const rp_embedder *embedder, const rp_collision_plan *plan, rp_arena *arena,
               float **out)
{
    float *vectors = rp_arena_alloc(arena, plan->count * embedder->dim * sizeof *vectors);
    float *storage = embedder->embed_many
                         ? vectors
                         : rp_arena_alloc(arena, (RP_WINDOWS_MAX + 1) * embedder->dim *
                                                     sizeof *storage);
    if (!vectors || !storage)
        return RP_ERR_NOMEM;
    rp_status status = RP_OK;
    if (embedder->embed_many)
        status = embedder->embed_many(embedder->context, plan->variants, plan->count, vectors);
    for (size_t i = 0; !embedder->embed_many && status == RP_OK && i < plan->count; i++)
        status = embed_one(embedder, plan->variants[i], storage, vectors + i * embedder->dim);
    *out = vectors;
    return status;
}

static rp_status
judge(const rp_embedder *embedder, rp_arena *arena, rp_str stored, rp_str question,
      const float *vector, float similarity, bool *out)
{
    const rp_features *features[2];
    rp_collision_plan plan;
    float *variants;
    rp_status status = rp_features_new(stored, arena, &features[0]);
    if (status == RP_OK)
        status = rp_features_new(question, arena, &features[1]);
    if (status == RP_OK)
        status = rp_collision_plan_make(features[0], features[1], arena, &plan);
    if (status != RP_OK)
        return status;
    *out = false;
    if (plan.count == 0)
        return RP_OK;
    status = embed_variants(embedder, &plan, arena, &variants);
    if (status == RP_OK)
        *out = rp_collision_score(&plan, similarity, variants, embedder->dim, vector) >
               RP_COLLISION_SCORE_MAX;
    return status;
}

rp_status
rp_cache_collides(rp_cache *cache, rp_str stored, rp_str question, const float *vector,
                  float similarity, bool *out)
{
    const uint64_t hash = rp_hash64_seeded(stored, rp_hash64(question)) | 2; /* 0 is free */
    _Atomic uint64_t *slot = &cache->collisions[hash / 4 % RP_COLLISION_SLOTS];
    const uint64_t known = atomic_load_explicit(slot, memory_order_relaxed);
    if ((known | 1) == (hash | 1)) {
        *out = known & 1;
        return RP_OK;
    }
    if (!cache->embedder.embed)
        return RP_ERR_UNSUPPORTED;
    rp_arena arena;
    rp_arena_init(&arena, ARENA_MAX);
    const rp_status status =
        judge(&cache->embedder, &arena, stored, question, vector, similarity, out);
    rp_arena_fini(&arena);
    if (status == RP_OK)
        atomic_store_explicit(slot, (hash & ~UINT64_C(1)) | *out, memory_order_relaxed);
    return status;
}
