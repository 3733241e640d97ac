/* calibrated.c - serve what this stratum's own outcomes show to be right.
 *
 * P(right | all evidence) by a small monotone model per stratum, shrunk to the model of
 * all strata together; a cut on it by conformal risk control (learner.h); a share of the
 * hits goes upstream instead, so that the region above the cut keeps being seen. Before
 * a stratum has outcomes, only near-identical prompts are served, as `static` would: the
 * same cosine means 20 to 99 %, depending on traffic (docs/policies.md).
 *
 * A global model on hand-made features is not this: such a model does not carry to
 * traffic it has not seen. Here every stratum learns for itself, and what is shared is
 * worth a few outcomes.
 *
 * verified-plus is vCache with its openings closed (docs/policies.md): the same entries'
 * own observations, but on top of a curve pooled over the stratum, so that a new entry
 * needs no labels of its own; both parameters of the curve and the entry's offset bounded
 * from below by their posterior, whose variance never grows with evidence; the best of a
 * logarithmic grid of confidences; and a ledger that spends what other requests left of
 * the error budget. It looks at similarity and outcomes only. */
#include "base/hash.h"
#include "learner.h"
#include "links.h"
#include "logistic.h"
#include "observations.h"
#include "policy_internal.h"
#include "strata.h"

#include <stdlib.h>

/* What serves before a stratum has outcomes: no model is better than a guess then. Chosen
 * on the hard streams (docs/policies.md, "Before there are outcomes"). */
static const float COLD_SIMILARITY = 0.97f;

typedef struct calibrated_state {
    rp_learner pooled; /* of all strata */
    rp_strata strata;  /* of rp_learner */
    rp_observation_table entries; /* verified-plus */
    rp_links links;
} calibrated_state;

/* Deviation of entries' offsets around the pooled curve; a guess. */
static const double ENTRY_DEVIATION = 1.0;
/* A neighbor that is this much farther counts 1/e in the agreement; measured. */
static const double AGREEMENT_WIDTH = 0.05;

static bool
is_plus(const rp_policy *policy)
{
    return policy->kind == &rp_policy_verified_plus;
}

static rp_learner_bounds
bounds_of(const rp_policy *policy, double error_max)
{
    return (rp_learner_bounds){ .error_max = error_max,
                                .hit_error_max = policy->options.hit_error_max,
                                .spread = is_plus(policy) ? ENTRY_DEVIATION : 0 };
}

static rp_learner *
learner_of(rp_policy *policy, rp_stratum stratum)
{
    calibrated_state *state = policy->state;
    rp_learner *learner = rp_strata_get(&state->strata, stratum);
    /* A new stratum starts with the initial model whatever others have learned: the same
     * cosine may mean something else here. They come in as the prior of its first fit. */
    if (learner && learner->inflation == 0) /* a cleared block */
        rp_learner_init(learner);
    return learner;
}

/* ---- what an entry has shown itself -------------------------------------------------- */

/* Of the other candidates, weighted by how near they are, the share that is known to
 * share this one's answer. */
static float
find_agreement(const calibrated_state *state, const rp_question *question, size_t chosen)
{
    const rp_candidate *candidates = question->candidates;
    const rp_entry_id group = rp_links_group(&state->links, candidates[chosen].id);
    double all = 0, agreeing = 0;
    for (size_t i = 0; i < question->count; i++) {
        if (i == chosen)
            continue;
        const double nearness = (double)(candidates[i].similarity - candidates[0].similarity);
        const double weight = exp(nearness / AGREEMENT_WIDTH);
        all += weight;
        if (rp_links_group(&state->links, candidates[i].id) == group)
            agreeing += weight;
    }
    return all > 0 ? (float)(agreeing / all) : 0;
}

/* Posterior mode and deviation of an entry's offset u: prior N(0, ENTRY_DEVIATION^2),
 * each observation Bernoulli with logit steepness * model(s) + u. */
static void
find_offset(const calibrated_state *state, const rp_learner *learner, rp_entry_id id,
            double *offset, double *deviation)
{
    rp_observation own[RP_OBSERVATIONS_MAX];
    const size_t count = rp_observations_get(&state->entries, id, own);
    const double precision = 1 / (ENTRY_DEVIATION * ENTRY_DEVIATION);
    const double steepness = rp_learner_steepness(ENTRY_DEVIATION);
    double u = 0, information = precision;
    for (int step = 0; step < 6 && count; step++) {
        double gradient = precision * u;
        information = precision;
        for (size_t i = 0; i < count; i++) {
            const rp_evidence e
                = rp_evidence_of_similarity((float)own[i].thousandths / 1000.0f, 0);
            const double p = rp_logistic(steepness * rp_model_logit(&learner->model, &e) + u);
            gradient += own[i].count * (p - (own[i].right ? 1 : 0));
            information += own[i].count * p * (1 - p);
        }
        u -= fmax(-2, fmin(2, gradient / information));
    }
    *offset = u;
    *deviation = 1 / sqrt(information);
}

static rp_asked
describe(const rp_policy *policy, const rp_learner *learner, const rp_question *question,
         size_t chosen, float agreement)
{
    const rp_candidate *candidate = &question->candidates[chosen];
    rp_asked asked = { .eligible = true };
    if (is_plus(policy)) {
        double offset, deviation;
        asked.evidence = rp_evidence_of_similarity(candidate->similarity, agreement);
        find_offset(policy->state, learner, candidate->id, &offset, &deviation);
        asked.offset = (float)offset;
        asked.deviation = (float)deviation;
    } else {
        asked.evidence = rp_evidence_of(candidate, agreement);
    }
    return asked;
}

/* ---- deciding ------------------------------------------------------------------------ */

/* The first candidate that nothing bars; *out says NEED_* or the reason if there is none. */
static bool
choose_candidate(const rp_policy *policy, const rp_question *question, rp_decision *out)
{
    const double floor = rp_policy_floor(policy, question);
    for (size_t i = 0; i < question->count; i++) {
        if (!(question->candidates[i].similarity >= (float)floor))
            return false;
        const char *reason;
        const rp_clearance clearance
            = rp_policy_clearance(policy, question, &question->candidates[i], &reason);
        out->chosen = i;
        if (clearance == RP_CLEAR)
            return true;
        if (clearance == RP_CLEAR_BARRED) {
            if (i == 0)
                out->reason = reason;
            continue;
        }
        out->reason = reason;
        out->verdict = clearance == RP_CLEAR_VERIFIER ? RP_NEED_VERIFIER : RP_NEED_JUDGE;
        return false;
    }
    return false;
}

/* How often a would-be hit is sent upstream: all alike, so that what is wrong among
 * them says what is wrong among hits. */
static double
explore_share(const rp_policy *policy, const rp_learner *learner)
{
    if (policy->options.audit <= 0)
        return 0; /* the operator audits otherwise */
    return rp_learner_explore_share(learner, policy->options.audit);
}

static void
decide(rp_policy *policy, const rp_question *question, double random01, rp_decision *out)
{
    rp_decision_miss(out, question->count ? "similarity" : "no-candidate");
    rp_learner *learner = learner_of(policy, question->stratum);
    if (!learner) {
        out->reason = "no-memory";
        return;
    }
    const rp_learner_bounds bounds
        = bounds_of(policy, rp_policy_error_max(policy, question));
    /* A caller's stricter bound tightens this question, not what the stratum learns. */
    const rp_learner_bounds own = bounds_of(policy, policy->options.error_max);
    const bool has_one = choose_candidate(policy, question, out);
    if (out->verdict != RP_MISS)
        return; /* asks for more evidence; counted when it comes back */
    if (!has_one) {
        out->chosen = 0;
        rp_learner_ask(learner, &(rp_asked){ .eligible = false }, &own);
        return;
    }
    out->agreement = find_agreement(policy->state, question, out->chosen);
    const rp_asked asked = describe(policy, learner, question, out->chosen, out->agreement);
    rp_learner_ask(learner, &asked, &own);
    out->risk = rp_learner_risk(learner, &asked.evidence, (double)asked.offset,
                                (double)asked.deviation, bounds.spread);
    if (rp_learner_is_cold(learner)) {
        out->threshold = (double)COLD_SIMILARITY;
        const bool hits = question->candidates[out->chosen].similarity >= COLD_SIMILARITY;
        out->verdict = hits ? RP_HIT : RP_MISS;
        out->reason = "cold";
        return;
    }
    const double cut = learner->cut * fmin(1, bounds.error_max / own.error_max);
    if (learner->pause) {
        out->reason = "drift";
        return;
    }
    if (!(out->risk <= cut)) {
        out->reason = "risk";
        return;
    }
    out->explore_probability = explore_share(policy, learner);
    if (random01 < out->explore_probability) {
        out->reason = "explore";
        return;
    }
    out->verdict = RP_HIT;
    out->reason = is_plus(policy) ? "verified" : "calibrated";
    rp_learner_serve(learner, out->risk);
}

/* ---- learning ------------------------------------------------------------------------ */

static void
observe(rp_policy *policy, const rp_outcome *outcome)
{
    calibrated_state *state = policy->state;
    const rp_candidate *candidate = &outcome->candidate;
    if (outcome->right)
        rp_links_join(&state->links, outcome->entry, candidate->id);
    /* Barred candidates are not what the model is asked about. */
    if (candidate->gates_fired && candidate->judge != RP_JUDGE_YES
        && !(candidate->verifier >= (float)policy->options.verifier_min))
        return;
    rp_learner *learner = learner_of(policy, outcome->stratum);
    if (!learner)
        return;
    const rp_learner_bounds bounds = bounds_of(policy, policy->options.error_max);
    rp_labelled labelled = { .right = outcome->right };
    double offset = 0, deviation = 0;
    if (is_plus(policy)) {
        labelled.evidence = rp_evidence_of_similarity(candidate->similarity, outcome->agreement);
        find_offset(state, learner, candidate->id, &offset, &deviation);
    } else {
        labelled.evidence = rp_evidence_of(candidate, outcome->agreement);
    }
    const double risk = rp_learner_risk(learner, &labelled.evidence, offset, deviation,
                                        bounds.spread);
    const bool explored = outcome->probability < 1 || outcome->source == RP_OUTCOME_AUDIT;
    rp_learner_learn(&state->pooled, &labelled, risk, false, NULL, &bounds);
    rp_learner_learn(learner, &labelled, risk, explored, &state->pooled.model, &bounds);
    if (is_plus(policy))
        (void)rp_observations_add(&state->entries, candidate->id, (double)candidate->similarity,
                                  outcome->right);
}

/* ---- state --------------------------------------------------------------------------- */

static rp_status
create(rp_policy *policy, rp_error *error)
{
    calibrated_state *state = calloc(1, sizeof *state);
    if (!state)
        return rp_fail(error, RP_ERR_NOMEM, "policy %s: no memory", policy->kind->name);
    rp_learner_init(&state->pooled);
    rp_strata_init(&state->strata, sizeof(rp_learner));
    rp_observations_init(&state->entries);
    rp_links_init(&state->links);
    policy->state = state;
    return RP_OK;
}

static void
destroy(rp_policy *policy)
{
    calibrated_state *state = policy->state;
    rp_strata_fini(&state->strata);
    rp_observations_fini(&state->entries);
    rp_links_fini(&state->links);
    free(state);
}

static size_t
size_bytes(const rp_policy *policy)
{
    const calibrated_state *state = policy->state;
    return sizeof *state + rp_strata_size_bytes(&state->strata)
           + rp_observations_size_bytes(&state->entries) + rp_links_size_bytes(&state->links);
}

static void
forget(rp_policy *policy, rp_entry_id id)
{
    calibrated_state *state = policy->state;
    rp_observations_forget(&state->entries, id);
    rp_links_forget(&state->links, id);
}

/* The pooled learner does not know whose similarities it has seen. */
static void
forget_similarities(rp_policy *policy)
{
    calibrated_state *state = policy->state;
    rp_observations_fini(&state->entries);
    rp_observations_init(&state->entries);
    rp_links_fini(&state->links);
    rp_links_init(&state->links);
    rp_learner_init(&state->pooled);
}

/* The pooled learner, u64 strata, each u64 stratum and its learner, the observations,
 * the links. */
static void
save(const rp_policy *policy, rp_buffer *out)
{
    const calibrated_state *state = policy->state;
    rp_learner_save(&state->pooled, out);
    rp_buffer_append_le64(out, state->strata.count);
    for (size_t i = 0; i < state->strata.count; i++) {
        rp_buffer_append_le64(out, rp_strata_key(&state->strata, i));
        rp_learner_save(rp_strata_at(&state->strata, i), out);
    }
    rp_observations_save(&state->entries, out);
    rp_links_save(&state->links, out);
}

static bool
read_state(calibrated_state *state, rp_str bytes)
{
    if (!rp_learner_restore(&state->pooled, &bytes) || bytes.len < 8)
        return false;
    const uint64_t count = rp_load_le64(bytes.ptr);
    bytes = (rp_str){ bytes.ptr + 8, bytes.len - 8 };
    if (count > RP_POLICY_STRATA_MAX)
        return false;
    for (uint64_t i = 0; i < count; i++) {
        if (bytes.len < 8)
            return false;
        rp_learner *learner = rp_strata_get(&state->strata, rp_load_le64(bytes.ptr));
        bytes = (rp_str){ bytes.ptr + 8, bytes.len - 8 };
        if (!learner || !rp_learner_restore(learner, &bytes))
            return false;
    }
    return rp_observations_restore(&state->entries, &bytes)
           && rp_links_restore(&state->links, &bytes) && bytes.len == 0;
}

static rp_status
restore(rp_policy *policy, rp_str payload, rp_error *error)
{
    rp_policy fresh = { .kind = policy->kind, .options = policy->options };
    const rp_status status = create(&fresh, error);
    if (status != RP_OK)
        return status;
    if (!read_state(fresh.state, payload)) {
        destroy(&fresh);
        return rp_fail(error, RP_ERR_CORRUPT, "policy %s: damaged state", policy->kind->name);
    }
    destroy(policy);
    policy->state = fresh.state;
    return RP_OK;
}

#define LEARNED_KIND(name_, summary_)                                                              \
    {                                                                                              \
        .name = name_, .summary = summary_,                                                        \
        .keys = RP_KEY_ERROR_MAX | RP_KEY_HIT_ERROR_MAX | RP_KEY_MIN_SIMILARITY                    \
                | RP_KEY_VERIFIER_MIN | RP_KEY_AUDIT,                                              \
        .min_similarity = -1, .version = 4, .create = create, .destroy = destroy,                  \
        .decide = decide, .observe = observe, .forget = forget, .size_bytes = size_bytes,          \
        .forget_similarities = forget_similarities,                                                \
        .save = save, .restore = restore,                                                          \
    }

const rp_policy_kind rp_policy_calibrated
    = LEARNED_KIND("calibrated", "all evidence, calibrated on outcomes, cut by risk control");
const rp_policy_kind rp_policy_verified_plus
    = LEARNED_KIND("verified-plus", "vCache with a pooled prior, bounds that shrink, a budget");
