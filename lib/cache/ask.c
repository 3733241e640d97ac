/* ask.c - see ask.h. */
#include "cache/ask.h"

#include "base/arena.h"
#include "evidence/collision.h"

enum { ARENA_MAX = 4 << 20 };

rp_status
rp_ask_verifier(const rp_verifier *verifier, rp_str prompt, rp_str stored, const rp_clock *clock,
                int64_t deadline_us, float *out)
{
    bool cut = true;
    float probability;
    if (deadline_us && rp_clock_monotonic_us(clock) >= deadline_us)
        return RP_ERR_TIMEOUT;
    const rp_status status = rp_verifier_score(verifier, &prompt, &stored, 1, &probability, &cut,
                                               NULL);
    if (status == RP_OK && cut)
        return RP_ERR_LIMIT;
    if (status == RP_OK)
        *out = probability;
    return status;
}

static rp_status
judge(rp_arena *arena, rp_str stored, rp_str question, const float *vector, size_t dim,
      float similarity, rp_ask_embed *embed, void *context, bool *out)
{
    const rp_features *features[2];
    rp_collision_plan plan;
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
    float *variants = rp_arena_alloc(arena, plan.count * dim * sizeof *variants);
    if (!variants)
        return RP_ERR_NOMEM;
    status = embed(context, plan.variants, plan.count, variants);
    if (status == RP_OK)
        *out = rp_collision_score(&plan, similarity, variants, dim, vector) >
               RP_COLLISION_SCORE_MAX;
    return status;
}

rp_status
rp_ask_collision(rp_str stored, rp_str question, const float *vector, size_t dim, float similarity,
                 rp_ask_embed *embed, void *context, bool *out)
{
    rp_arena arena;
    rp_arena_init(&arena, ARENA_MAX);
    const rp_status status
        = judge(&arena, stored, question, vector, dim, similarity, embed, context, out);
    rp_arena_fini(&arena);
    return status;
}
