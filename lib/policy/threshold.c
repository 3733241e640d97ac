/* threshold.c - the baselines: exact, static, dual.
 *
 * exact   no semantic hit at all; equal prompts hit before any policy is asked.
 * static  hit if the cosine is at least min_similarity and nothing bars it. The
 *         default of .95 is conservative on purpose: the same cosine means 20 to
 *         99 % depending on traffic (docs/policies.md).
 * dual    three lanes (arXiv:2601.11687): hit, or below that a miss whose nearest
 *         candidate may be shown to the upstream as a hint, or a plain miss.
 *
 * None of them learns. Gates bar a candidate unless a verifier or a judge clears
 * it; then the next candidate is looked at. */
#include "policy_internal.h"

static void
decide_exact(rp_policy *policy, const rp_question *question, double random01, rp_decision *out)
{
    rp_decision_miss(out, question->count ? "exact-only" : "no-candidate");
}

/* The first candidate that may be served. If there is none, the miss names what
 * barred the nearest, because that is what a person will ask. */
static void
decide_static(rp_policy *policy, const rp_question *question, double random01, rp_decision *out)
{
    const double floor = rp_policy_floor(policy, question);
    rp_decision_miss(out, question->count ? "similarity" : "no-candidate");
    out->threshold = floor;
    for (size_t i = 0; i < question->count; i++) {
        const rp_candidate *candidate = &question->candidates[i];
        if (!(candidate->similarity >= (float)floor))
            break; /* nearest first: the rest is farther */
        const char *reason;
        const rp_clearance clearance
            = rp_policy_clearance(policy, question, candidate, &reason);
        if (clearance == RP_CLEAR_BARRED) {
            if (i == 0)
                out->reason = reason;
            continue;
        }
        out->verdict = clearance == RP_CLEAR            ? RP_HIT
                       : clearance == RP_CLEAR_VERIFIER ? RP_NEED_VERIFIER
                                                        : RP_NEED_JUDGE;
        out->chosen = i;
        out->reason = reason;
        return;
    }
}

static void
decide_dual(rp_policy *policy, const rp_question *question, double random01, rp_decision *out)
{
    decide_static(policy, question, random01, out);
    /* The hint lane: a miss, but its nearest candidate is worth showing. A barred
     * candidate is no hint: what differs is what the upstream would copy. */
    if (out->verdict == RP_MISS && question->count
        && question->candidates[0].similarity >= (float)policy->options.hint_similarity
        && question->candidates[0].gates_fired == 0
        && question->candidates[0].judge != RP_JUDGE_NO) {
        out->reason = "hint";
        out->chosen = 0;
    }
}

enum { STATIC_KEYS = RP_KEY_ERROR_MAX | RP_KEY_HIT_ERROR_MAX | RP_KEY_MIN_SIMILARITY
                     | RP_KEY_VERIFIER_MIN };

const rp_policy_kind rp_policy_exact = {
    .name = "exact",
    .summary = "equal prompts only",
    .keys = RP_KEY_ERROR_MAX | RP_KEY_HIT_ERROR_MAX,
    .min_similarity = 1,
    .version = 1,
    .decide = decide_exact,
};

const rp_policy_kind rp_policy_static = {
    .name = "static",
    .summary = "one cosine for all (min_similarity, default 0.95)",
    .keys = STATIC_KEYS,
    .min_similarity = 0.95,
    .version = 1,
    .decide = decide_static,
};

const rp_policy_kind rp_policy_dual = {
    .name = "dual",
    .summary = "hit above min_similarity, hint above hint_similarity",
    .keys = STATIC_KEYS | RP_KEY_HINT_SIMILARITY,
    .min_similarity = 0.95,
    .version = 1,
    .decide = decide_dual,
};
