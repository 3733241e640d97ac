/* judged.c - policies whose word is a judge's: judge, cascade, krites.
 *
 * judge    the nearest candidates above judge_min are shown to a judge one by one, and
 *          the first yes is served (read path of section 13; at most three rounds).
 * cascade  a small judge first - the verifier in process - and a larger one only where
 *          the small one is unsure.
 * krites   nothing waits for a judge: a plain threshold decides, and what falls into the
 *          grey zone below it is judged beside the path (arXiv:2602.13165). A verdict
 *          that is already known comes in the candidate; a yes then serves it.
 *
 * Late, broken or unsure is a miss. Without any judge all three are `static`. */
#include "policy_internal.h"

static bool
is_readable(const rp_candidate *candidate)
{
    return !(candidate->gates_fired & RP_GATES_FINAL);
}

static void
serve(rp_decision *out, size_t at, const char *reason)
{
    out->verdict = RP_HIT;
    out->chosen = at;
    out->reason = reason;
}

static void
ask(rp_decision *out, size_t at, rp_verdict verdict, const char *reason)
{
    out->verdict = verdict;
    out->chosen = at;
    out->reason = reason;
}

/* A candidate so near that no judge is needed, with no gate against it. */
static bool
is_plain_hit(const rp_policy *policy, const rp_question *question, const rp_candidate *candidate)
{
    return candidate->similarity >= (float)rp_policy_floor(policy, question)
           && candidate->gates_fired == 0 && candidate->judge != RP_JUDGE_NO;
}

/* The least similarity at which this question may be judged: a caller's own minimum
 * holds here too. */
static float
judge_floor(const rp_policy *policy, const rp_question *question)
{
    return (float)fmax(policy->options.judge_min, (double)question->min_similarity);
}

static void
decide_judge(rp_policy *policy, const rp_question *question, double random01, rp_decision *out)
{
    rp_decision_miss(out, question->count ? "similarity" : "no-candidate");
    for (size_t i = 0; i < question->count; i++) {
        const rp_candidate *candidate = &question->candidates[i];
        if (is_plain_hit(policy, question, candidate)) {
            serve(out, i, "similarity");
            return;
        }
        if (!(candidate->similarity >= judge_floor(policy, question)))
            return;
        if (candidate->judge == RP_JUDGE_YES && is_readable(candidate)) {
            serve(out, i, "judge-yes");
            return;
        }
        if (candidate->judge == RP_JUDGE_UNASKED && question->has_judge && is_readable(candidate)) {
            ask(out, i, RP_NEED_JUDGE, "judge");
            return;
        }
        out->reason = candidate->judge == RP_JUDGE_NO       ? "judge-no"
                      : candidate->judge == RP_JUDGE_UNSURE ? "judge-unsure"
                                                            : "no-judge";
    }
}

static void
decide_cascade(rp_policy *policy, const rp_question *question, double random01, rp_decision *out)
{
    const float sure = (float)policy->options.verifier_min;
    rp_decision_miss(out, question->count ? "similarity" : "no-candidate");
    for (size_t i = 0; i < question->count; i++) {
        const rp_candidate *candidate = &question->candidates[i];
        if (is_plain_hit(policy, question, candidate)) {
            serve(out, i, "similarity");
            return;
        }
        if (!(candidate->similarity >= judge_floor(policy, question)))
            return;
        if (!is_readable(candidate) || candidate->judge == RP_JUDGE_NO)
            continue;
        if (candidate->judge == RP_JUDGE_YES) {
            serve(out, i, "judge-yes");
            return;
        }
        if (isnan(candidate->verifier) && question->has_verifier) {
            ask(out, i, RP_NEED_VERIFIER, "verifier");
            return;
        }
        if (candidate->verifier >= sure) {
            serve(out, i, "verifier");
            return;
        }
        out->reason = "verifier-no";
        const bool unsure = isnan(candidate->verifier) || candidate->verifier > 1 - sure;
        if (unsure && question->has_judge && candidate->judge == RP_JUDGE_UNASKED) {
            ask(out, i, RP_NEED_JUDGE, "judge");
            return;
        }
    }
}

static void
decide_krites(rp_policy *policy, const rp_question *question, double random01, rp_decision *out)
{
    rp_decision_miss(out, question->count ? "similarity" : "no-candidate");
    out->threshold = rp_policy_floor(policy, question);
    for (size_t i = 0; i < question->count; i++) {
        const rp_candidate *candidate = &question->candidates[i];
        if (is_plain_hit(policy, question, candidate)) {
            serve(out, i, "similarity");
            return;
        }
        if (!(candidate->similarity >= judge_floor(policy, question)))
            return;
        if (candidate->judge == RP_JUDGE_YES && is_readable(candidate)) {
            serve(out, i, "judge-yes"); /* judged before, beside the path */
            return;
        }
        /* Only the nearest goes to the background judge, as published. */
        if (i == 0 && candidate->judge == RP_JUDGE_UNASKED && is_readable(candidate))
            out->reason = "grey-zone";
    }
}

#define JUDGED_KEYS                                                                                \
    (RP_KEY_ERROR_MAX | RP_KEY_HIT_ERROR_MAX | RP_KEY_MIN_SIMILARITY | RP_KEY_JUDGE_MIN            \
     | RP_KEY_VERIFIER_MIN)

const rp_policy_kind rp_policy_judge = {
    .name = "judge",
    .summary = "a judge in the path for candidates above judge_min",
    .keys = JUDGED_KEYS,
    .min_similarity = 1,
    .version = 1,
    .decide = decide_judge,
};

const rp_policy_kind rp_policy_cascade = {
    .name = "cascade",
    .summary = "a small judge, a larger one when it is unsure",
    .keys = JUDGED_KEYS,
    .min_similarity = 1,
    .version = 1,
    .decide = decide_cascade,
};

const rp_policy_kind rp_policy_krites = {
    .name = "krites",
    .summary = "a threshold, and a judge beside the path for the grey zone below",
    .keys = JUDGED_KEYS,
    .min_similarity = 0.95,
    .version = 1,
    .decide = decide_krites,
};
