/* collide.c - whether a stored prompt is near only because of what was added to it
 * (evidence/collision.h), asked with the cache's own encoder.
 *
 * Only what would be served is asked about, and most of that is answered by words alone: the
 * encoder is asked about prompts that have more content words than the question. Answers
 * are remembered, because a popular question comes again. */
#include "cache/cache_internal.h"

#include "base/bytes.h"
#include "base/hash.h"
#include "cache/ask.h"

#include <stdlib.h>

static rp_status
embed_one_by_one(const rp_embedder *embedder, const rp_str *texts, size_t count, float *out)
{
    rp_embedding embedding;
    rp_status status = RP_OK;
    float *storage = malloc((RP_WINDOWS_MAX + 1) * embedder->dim * sizeof *storage);
    if (!storage)
        return RP_ERR_NOMEM;
    for (size_t i = 0; i < count && status == RP_OK; i++) {
        status = embedder->embed(embedder->context, texts[i], storage, &embedding, NULL);
        if (status == RP_OK)
            memcpy(out + i * embedder->dim, embedding.mean, embedder->dim * sizeof *out);
    }
    free(storage);
    return status;
}

static rp_status
embed_variants(void *context, const rp_str *texts, size_t count, float *out)
{
    const rp_embedder *embedder = context;
    return embedder->embed_many ? embedder->embed_many(embedder->context, texts, count, out)
                                : embed_one_by_one(embedder, texts, count, out);
}

rp_status
rp_cache_collides(rp_space *space, rp_str stored, rp_str question, const float *vector,
                  float similarity, bool *out)
{
    /* 0 is free; another encoder may say otherwise. */
    const uint64_t hash = rp_hash64_seeded(stored, rp_hash64_seeded(question, space->tag)) | 2;
    _Atomic uint64_t *slot = &space->cache->collisions[hash / 4 % RP_COLLISION_SLOTS];
    const uint64_t known = atomic_load_explicit(slot, memory_order_relaxed);
    if ((known | 1) == (hash | 1)) {
        *out = known & 1;
        return RP_OK;
    }
    if (!space->embedder.embed)
        return RP_ERR_UNSUPPORTED;
    const rp_status status = rp_ask_collision(stored, question, vector, space->embedder.dim,
                                              similarity, embed_variants, &space->embedder, out);
    if (status == RP_OK)
        atomic_store_explicit(slot, (hash & ~UINT64_C(1)) | *out, memory_order_relaxed);
    return status;
}
