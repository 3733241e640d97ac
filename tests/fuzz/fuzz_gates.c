/* fuzz_gates.c - any two texts can be analysed and compared, in both directions alike;
 * any bytes can be offered as a policy SPEC or as saved state.
 *
 * The first byte chooses; the rest is split at its first newline for gates. */
#include "base/bytes.h"
#include "evidence/collision.h"
#include "evidence/deletion_gain.h"
#include "evidence/gates.h"
#include "evidence/template.h"

#include <math.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
compare(rp_str text)
{
    const rp_str a = rp_str_split(&text, '\n'), b = text;
    rp_arena arena;
    const rp_features *features_a, *features_b;
    rp_gate_report one, other;
    const rp_gate_options options = { .enabled = ~0u, .strict = true };
    rp_arena_init(&arena, 64 << 20);
    if (rp_features_new(a, &arena, &features_a) == RP_OK
        && rp_features_new(b, &arena, &features_b) == RP_OK) {
        rp_gates_compare(features_a, features_b, &options, true, &one);
        rp_gates_compare(features_b, features_a, &options, true, &other);
        if (one.fired != other.fired || one.noted != other.noted
            || !(one.alignment >= 0 && one.alignment <= 1))
            abort();
        rp_gates_compare(features_a, features_a, &options, true, &one);
        if (one.fired & ~(1u << RP_GATE_STRICT)) /* strict refuses what it cannot see whole */
            abort();
        rp_collision_plan plan;
        if (rp_collision_plan_make(features_a, features_b, &arena, &plan) == RP_OK)
            for (size_t i = 0; i < plan.count; i++)
                if (plan.variants[i].len == 0 || plan.variants[i].len > a.len + a.len)
                    abort();
    }
    (void)rp_prompt_volatility(a);
    rp_arena_fini(&arena);
}

static void
offer_policy(rp_str text)
{
    const rp_str spec = rp_str_split(&text, '\n');
    rp_policy *policy;
    rp_error error;
    if (rp_policy_new(spec, (double)NAN, &policy, &error) != RP_OK)
        return;
    (void)rp_policy_restore(policy, text, &error);
    const rp_candidate candidate = { .id = 1, .similarity = 0.9f, .alignment = 1,
                                     .verifier = (float)NAN, .judge = RP_JUDGE_UNASKED };
    const rp_question question = { .candidates = &candidate, .count = 1, .min_similarity = -1,
                                   .error_max = 1 };
    rp_decision decision;
    rp_policy_decide(policy, &question, 0.5, &decision);
    rp_policy_free(policy);
}

static void
cut(rp_str text)
{
    rp_template *t;
    if (rp_template_new(&t) != RP_OK)
        return;
    while (text.len)
        rp_template_learn(t, rp_str_split(&text, '\n'));
    bool fits;
    (void)rp_template_cut(t, RP_STR("some words that are not the same as any"), &fits);
    rp_template_free(t);
}

static void
make_variants(rp_str text)
{
    rp_arena arena;
    rp_str out[RP_VARIANTS_MAX];
    size_t count;
    rp_arena_init(&arena, 64 << 20);
    (void)rp_key_variants(text, &arena, out, &count);
    rp_arena_fini(&arena);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0)
        return 0;
    const rp_str text = { (const char *)data + 1, size - 1 };
    switch (data[0] % 4) {
    case 0: compare(text); break;
    case 1: offer_policy(text); break;
    case 2: cut(text); break;
    default: make_variants(text); break;
    }
    return 0;
}
