/* adaptive.c - one threshold per stratum, moved by outcomes.
 *
 * The plainest policy that learns, and the only evidence it weighs is similarity (gates
 * bar as everywhere). Requests, outcomes and wrong outcomes are counted by similarity and
 * fade. Above a threshold t the share of wrong ones is at most the upper limit
 * U(wrong, outcomes) = (90 % limit of a Poisson mean) / outcomes; the threshold is the
 * lowest with
 *
 *     requests above t * U <= error_max * requests   and   U <= hit_error_max
 *
 * for itself and for every higher one that could be judged. Outcomes above it come from the share
 * `audit` of hits that goes upstream, so the limit is wide and the threshold stays high: that is the
 * price of counting where `calibrated` has a model. If no threshold qualifies, nothing
 * but an equal text hits. No published algorithm is behind it: the paper that is
 * sometimes cited for it, arXiv:2508.07675, chooses what to keep. */
#include "logistic.h"
#include "policy_internal.h"
#include "strata.h"

#include <stdlib.h>

enum { BINS = 201, OUTCOMES_MIN = 100 };
static const double FADE = 1 - 1.0 / 3000; /* per request; a guess */
static const double COLD_SIMILARITY = 0.98;
static const double CONFIDENCE = 0.9;

typedef struct adaptive_block {
    /* Similarity 0 .. 1 in steps of .005, faded. */
    double wrong[BINS], known[BINS], asked[BINS];
    double requests;
    uint64_t outcomes;
} adaptive_block;

static size_t
bin_of(float similarity)
{
    const double place = fmax(0, fmin(1, (double)similarity)) * (BINS - 1);
    return (size_t)place; /* rounded down: the bin's lower edge is its similarity */
}

static double
find_threshold(const adaptive_block *block, double error_max, double hit_error_max)
{
    if (block->outcomes < OUTCOMES_MIN)
        return COLD_SIMILARITY;
    double wrong = 0, known = 0, asked = 0, threshold = 2;
    for (size_t bin = BINS; bin-- > 0;) {
        wrong += block->wrong[bin];
        known += block->known[bin];
        asked += block->asked[bin];
        if (known <= 0)
            continue;
        const double share = fmin(1, rp_poisson_upper(wrong, CONFIDENCE) / known);
        const bool within = share * asked <= error_max * block->requests && share <= hit_error_max;
        if (within)
            threshold = (double)bin / (BINS - 1);
        else if (threshold <= 1)
            break; /* as low as it goes without a gap */
    }
    return threshold;
}

static void
fade(adaptive_block *block)
{
    for (size_t bin = 0; bin < BINS; bin++) {
        block->wrong[bin] *= FADE;
        block->known[bin] *= FADE;
        block->asked[bin] *= FADE;
    }
    block->requests = block->requests * FADE + 1;
}

static const rp_candidate *
first_clear(const rp_policy *policy, const rp_question *question, rp_decision *out)
{
    const double floor = rp_policy_floor(policy, question);
    for (size_t i = 0; i < question->count; i++) {
        const rp_candidate *candidate = &question->candidates[i];
        const char *reason;
        if (!(candidate->similarity >= (float)floor))
            return NULL;
        const rp_clearance clearance = rp_policy_clearance(policy, question, candidate, &reason);
        out->chosen = i;
        if (clearance == RP_CLEAR)
            return candidate;
        if (i == 0 || clearance != RP_CLEAR_BARRED)
            out->reason = reason;
        if (clearance != RP_CLEAR_BARRED) {
            out->verdict = clearance == RP_CLEAR_VERIFIER ? RP_NEED_VERIFIER : RP_NEED_JUDGE;
            return NULL;
        }
    }
    return NULL;
}

static void
decide(rp_policy *policy, const rp_question *question, double random01, rp_decision *out)
{
    rp_decision_miss(out, question->count ? "similarity" : "no-candidate");
    adaptive_block *block = rp_strata_get(policy->state, question->stratum);
    if (!block) {
        out->reason = "no-memory";
        return;
    }
    const rp_candidate *candidate = first_clear(policy, question, out);
    if (out->verdict != RP_MISS)
        return;
    fade(block);
    if (!candidate) {
        out->chosen = 0;
        return;
    }
    block->asked[bin_of(candidate->similarity)]++;
    out->threshold = find_threshold(block, rp_policy_error_max(policy, question),
                                    policy->options.hit_error_max);
    if (!((double)candidate->similarity >= out->threshold))
        return;
    out->explore_probability = policy->options.audit;
    if (random01 < out->explore_probability) {
        out->reason = "explore";
        return;
    }
    out->verdict = RP_HIT;
    out->reason = "adaptive";
}

static void
observe(rp_policy *policy, const rp_outcome *outcome)
{
    if (outcome->candidate.gates_fired && outcome->candidate.judge != RP_JUDGE_YES)
        return; /* barred: not what the threshold is about */
    adaptive_block *block = rp_strata_get(policy->state, outcome->stratum);
    if (!block)
        return;
    const size_t bin = bin_of(outcome->candidate.similarity);
    block->outcomes++;
    block->known[bin]++;
    if (!outcome->right)
        block->wrong[bin]++;
}

static rp_status
create(rp_policy *policy, rp_error *error)
{
    rp_strata *strata = calloc(1, sizeof *strata);
    if (!strata)
        return rp_fail(error, RP_ERR_NOMEM, "policy adaptive: no memory");
    rp_strata_init(strata, sizeof(adaptive_block));
    policy->state = strata;
    return RP_OK;
}

static void
destroy(rp_policy *policy)
{
    rp_strata_fini(policy->state);
    free(policy->state);
}

static size_t
size_bytes(const rp_policy *policy)
{
    return sizeof(rp_strata) + rp_strata_size_bytes(policy->state);
}

/* One number of a block, in the order in which blocks are saved. */
static double *
number_of(adaptive_block *block, size_t at)
{
    double *const parts[] = { block->wrong, block->known, block->asked };
    return at < 3 * BINS ? &parts[at / BINS][at % BINS] : &block->requests;
}

enum { NUMBERS = 3 * BINS + 1, ROW = 16 + 8 * NUMBERS };

/* u64 strata; each u64 stratum, u64 outcomes, then wrong, known, asked, requests as f64. */
static void
save(const rp_policy *policy, rp_buffer *out)
{
    const rp_strata *strata = policy->state;
    rp_buffer_append_le64(out, strata->count);
    for (size_t i = 0; i < strata->count; i++) {
        adaptive_block *block = rp_strata_at(strata, i);
        rp_buffer_append_le64(out, rp_strata_key(strata, i));
        rp_buffer_append_le64(out, block->outcomes);
        for (size_t k = 0; k < NUMBERS; k++) {
            uint64_t bits;
            memcpy(&bits, number_of(block, k), sizeof bits);
            rp_buffer_append_le64(out, bits);
        }
    }
}

static bool
read_blocks(rp_strata *strata, rp_str bytes)
{
    if (bytes.len < 8)
        return false;
    const uint64_t count = rp_load_le64(bytes.ptr);
    if (count > RP_POLICY_STRATA_MAX || bytes.len - 8 != count * ROW)
        return false;
    for (uint64_t i = 0; i < count; i++) {
        const char *row = bytes.ptr + 8 + i * ROW;
        adaptive_block *block = rp_strata_get(strata, rp_load_le64(row));
        if (!block)
            return false;
        block->outcomes = rp_load_le64(row + 8);
        for (size_t k = 0; k < NUMBERS; k++) {
            const uint64_t bits = rp_load_le64(row + 16 + 8 * k);
            memcpy(number_of(block, k), &bits, sizeof bits);
            if (!(*number_of(block, k) >= 0 && isfinite(*number_of(block, k))))
                return false;
        }
    }
    return true;
}

static rp_status
restore(rp_policy *policy, rp_str payload, rp_error *error)
{
    rp_strata restored;
    rp_strata_init(&restored, sizeof(adaptive_block));
    if (!read_blocks(&restored, payload)) {
        rp_strata_fini(&restored);
        return rp_fail(error, RP_ERR_CORRUPT, "policy adaptive: damaged state");
    }
    rp_strata_fini(policy->state);
    *(rp_strata *)policy->state = restored;
    return RP_OK;
}

const rp_policy_kind rp_policy_adaptive = {
    .name = "adaptive",
    .summary = "one threshold per stratum, learned from outcomes",
    .keys = RP_KEY_ERROR_MAX | RP_KEY_HIT_ERROR_MAX | RP_KEY_MIN_SIMILARITY | RP_KEY_VERIFIER_MIN
            | RP_KEY_AUDIT,
    .min_similarity = -1,
    .version = 2,
    .create = create,
    .destroy = destroy,
    .decide = decide,
    .observe = observe,
    .size_bytes = size_bytes,
    .save = save,
    .restore = restore,
};
