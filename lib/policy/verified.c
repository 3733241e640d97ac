/* verified.c - vCache as published (arXiv:2502.03771), and the variants of its code.
 *
 * Each entry learns a logistic curve P(right | similarity) from what misses showed;
 * a request goes upstream with the probability that keeps P(wrong) below error_max if
 * the curve's threshold is bounded from above with confidence 1 - eps, the best eps of
 * a grid (section 4 there). New entries start with the pseudo-observations (0, wrong)
 * and (1, right) and are not served before four labels of their own.
 *
 *     L(s; t, g) = 1 / (1 + exp(-g (s - t)))      P(right | s)
 *     t'(eps)    = t + PHI^-1(1 - eps) sqrt(var)  upper bound of the threshold
 *     tau(s)     = min over eps of 1 - error_max / (1 - (1 - eps) L(s; t'(eps), g))
 *
 * Their slope is a point estimate and their variance for separable data is a table,
 * not monotone in the number of observations. Both are kept: this family is the
 * baseline "as published"; verified-plus is where they are mended. Only the nearest
 * candidate is looked at and gates are not (but for texts nobody compared): neither is
 * in the paper. Where data separate, the slope is wherever an optimiser stops; ours
 * stops at the same gradient as theirs, which gives the same decisions, not the same
 * digits (docs/policies.md).
 *
 * The variants: `verified-global` one list of observations for all entries of a
 * stratum; `verified-iid` no curve, Wilson limits on the share of wrong observations
 * below a similarity; `verified-sigmoid` the curve's threshold without any bound;
 * `verified-sigmoid-probability` the curve's probability without any bound. */
#include "policy/verified.h"

#include "base/bytes.h"
#include "observations.h"
#include "policy_internal.h"
#include "strata.h"
#include <stdlib.h>

enum {
    LABELS_MIN = 6, /* observations, pseudo ones included, before the first hit */
    GRID = 50,
    GLOBAL_BINS = 2001, /* thousandths from -1 to 1 */
    POINTS_MAX = RP_OBSERVATIONS_MAX + 2,
};

/* Variance of the threshold for separable data, by number of observations from 6 on
 * (table of the official code; algorithms: section 1.3). */
static const double separable_variance[] = {
    .035445, .028285, .026436, .021349, .019371, .012615, .011433, .010228, .009963, .009253,
    .011674, .013015, .010897, .011841, .013081, .010585, .014255, .012058, .013002, .011715,
    .00839,  .008839, .010628, .009899, .008033, .00457,  .007335, .008932, .00729,  .007445,
    .00761,  .011423, .011233, .006783, .005233, .00872,  .010005, .01199,  .00977,  .01891,
    .01513,  .02109,  .01531,
};

static double
rounded(double value, double scale)
{
    return round(value * scale) / scale;
}

static double
grid_epsilon(int at)
{
    return 1e-6 + (1 - 2e-6) * at / (GRID - 1);
}

/* PHI^-1(1 - eps) of the grid, the same for all. */
static double
grid_quantile(int at)
{
    static double quantiles[GRID];
    static bool is_ready[GRID];
    if (!is_ready[at]) { /* racing threads write the same value */
        quantiles[at] = rp_normal_quantile(1 - grid_epsilon(at));
        is_ready[at] = true;
    }
    return quantiles[at];
}

static bool
is_separable(const rp_point *points, size_t count)
{
    double right_min = INFINITY, wrong_max = -INFINITY;
    for (size_t i = 0; i < count; i++) {
        if (points[i].right)
            right_min = fmin(right_min, points[i].x);
        else
            wrong_max = fmax(wrong_max, points[i].x);
    }
    return right_min > wrong_max;
}

rp_verified_fit
rp_verified_fit_points(const rp_point *points, size_t count, size_t total)
{
    const rp_curve curve = rp_logistic_fit(points, count, NULL);
    rp_verified_fit fit = { .intercept = curve.intercept, .raw_slope = curve.slope };
    const double slope = fmax(curve.slope, 1e-6);
    const double threshold = fmax(0, fmin(1, -curve.intercept / slope));
    fit.is_fitted = isfinite(curve.intercept) && isfinite(curve.slope);
    if (is_separable(points, count)) {
        const size_t last = RP_COUNT(separable_variance) - 1;
        const size_t at = total < LABELS_MIN ? 0 : total - LABELS_MIN;
        fit.variance = separable_variance[at > last ? last : at];
    } else {
        /* Delta method on threshold = -intercept / slope. */
        const double d0 = -1 / slope, d1 = curve.intercept / (slope * slope);
        fit.variance = fmax(0, d0 * d0 * curve.var_intercept + 2 * d0 * d1 * curve.cov
                                   + d1 * d1 * curve.var_slope);
        fit.is_fitted = fit.is_fitted && curve.is_fitted;
    }
    fit.threshold = rounded(threshold, 1000);
    fit.slope = rounded(slope, 1000);
    return fit;
}

double
rp_verified_explore_probability(double right_min, double error_max)
{
    return fmax(0, 1 - error_max / (1 - right_min));
}

double
rp_verified_explore(const rp_verified_fit *fit, double similarity, double error_max)
{
    double best = INFINITY;
    const double deviation = sqrt(fit->variance);
    for (int i = 0; i < GRID; i++) {
        const double threshold
            = fmax(0, fmin(1, fit->threshold + grid_quantile(i) * deviation));
        const double right
            = (1 - grid_epsilon(i)) * rp_logistic(fit->slope * (similarity - threshold));
        best = fmin(best, 1 - error_max / (1 - right));
    }
    return isfinite(best) ? rounded(best, 1e5) : best;
}

/* ---- state --------------------------------------------------------------------------- */

typedef struct verified_state {
    rp_observation_table entries;
    rp_strata strata; /* of global_list, for verified-global */
} verified_state;

/* Counts of every (similarity, label) of a stratum; exact, because similarities are
 * kept in thousandths. */
typedef struct global_list {
    uint32_t counts[2][GLOBAL_BINS];
    size_t total;
    rp_verified_fit fit; /* of all counts, when not stale */
    bool is_stale;
} global_list;

static rp_status
create(rp_policy *policy, rp_error *error)
{
    verified_state *state = calloc(1, sizeof *state);
    if (!state)
        return rp_fail(error, RP_ERR_NOMEM, "policy %s: no memory", policy->kind->name);
    rp_observations_init(&state->entries);
    rp_strata_init(&state->strata, sizeof(global_list));
    policy->state = state;
    return RP_OK;
}

static void
destroy(rp_policy *policy)
{
    verified_state *state = policy->state;
    rp_observations_fini(&state->entries);
    rp_strata_fini(&state->strata);
    free(state);
}

static size_t
size_bytes(const rp_policy *policy)
{
    const verified_state *state = policy->state;
    return sizeof *state + rp_observations_size_bytes(&state->entries)
           + rp_strata_size_bytes(&state->strata);
}

static void
observe_entry(rp_policy *policy, const rp_outcome *outcome)
{
    verified_state *state = policy->state;
    /* Without memory an observation is lost: the policy explores longer, nothing else. */
    (void)rp_observations_add(&state->entries, outcome->candidate.id,
                              (double)outcome->candidate.similarity, outcome->right);
}

static void
forget_entry(rp_policy *policy, rp_entry_id id)
{
    rp_observations_forget(&((verified_state *)policy->state)->entries, id);
}

static void
forget_entries(rp_policy *policy)
{
    verified_state *state = policy->state;
    rp_observations_fini(&state->entries);
    rp_observations_init(&state->entries);
}

static void
save_entries(const rp_policy *policy, rp_buffer *out)
{
    rp_observations_save(&((const verified_state *)policy->state)->entries, out);
}

static rp_status
restore_entries(rp_policy *policy, rp_str payload, rp_error *error)
{
    verified_state *state = policy->state;
    rp_observation_table restored;
    rp_observations_init(&restored);
    if (!rp_observations_restore(&restored, &payload) || payload.len) {
        rp_observations_fini(&restored);
        return rp_fail(error, RP_ERR_CORRUPT, "policy %s: damaged observations",
                       policy->kind->name);
    }
    rp_observations_fini(&state->entries);
    state->entries = restored;
    return RP_OK;
}

/* ---- deciding ------------------------------------------------------------------------ */

/* The observations of an entry with the two pseudo ones. */
static size_t
collect_points(const rp_observation_table *table, rp_entry_id id, rp_point *out, size_t *total)
{
    rp_observation own[RP_OBSERVATIONS_MAX];
    const size_t count = rp_observations_get(table, id, own);
    out[0] = (rp_point){ 0, 1, false };
    out[1] = (rp_point){ 1, 1, true };
    *total = 2;
    for (size_t i = 0; i < count; i++) {
        out[2 + i] = (rp_point){ own[i].thousandths / 1000.0, own[i].count, own[i].right };
        *total += own[i].count;
    }
    return count + 2;
}

/* What all variants share: no candidate, the caller's floor, too few labels. Returns
 * true if `out` is final. */
static bool
decide_early(const rp_policy *policy, const rp_question *question, size_t total, rp_decision *out)
{
    rp_decision_miss(out, "no-candidate");
    if (question->count == 0)
        return true;
    out->keep = RP_KEEP_IF_NEIGHBOR_WRONG;
    out->reason = "similarity";
    if (!(question->candidates[0].similarity >= (float)rp_policy_floor(policy, question)))
        return true;
    if (question->candidates[0].gates_fired & 1u << RP_GATE_WINDOW) {
        out->reason = "gate-window";
        return true;
    }
    out->reason = "explore-new";
    out->explore_probability = 1;
    return total < LABELS_MIN;
}

/* Hit unless the draw says explore. */
static void
decide_by_draw(double tau, double right, double random01, rp_decision *out)
{
    out->explore_probability = fmax(0, fmin(1, tau));
    out->risk = 1 - right;
    if (random01 <= tau) {
        out->reason = "explore";
        return;
    }
    out->verdict = RP_HIT;
    out->reason = "verified";
}

static void
decide_by_fit(const rp_policy *policy, const rp_question *question, const rp_verified_fit *fit,
              double random01, rp_decision *out)
{
    if (!fit->is_fitted)
        return; /* as published: explore */
    const double similarity = rounded((double)question->candidates[0].similarity, 1000);
    out->threshold = fit->threshold;
    decide_by_draw(rp_verified_explore(fit, similarity, rp_policy_error_max(policy, question)),
                   rp_logistic(fit->slope * (similarity - fit->threshold)), random01, out);
}

static void
decide_verified(rp_policy *policy, const rp_question *question, double random01, rp_decision *out)
{
    const verified_state *state = policy->state;
    rp_point points[POINTS_MAX];
    size_t total = 0, count = 0;
    if (question->count)
        count = collect_points(&state->entries, question->candidates[0].id, points, &total);
    if (decide_early(policy, question, total, out))
        return;
    const rp_verified_fit fit = rp_verified_fit_points(points, count, total);
    decide_by_fit(policy, question, &fit, random01, out);
}

/* Neither variant bounds anything: a hit is deterministic. */
static void
decide_deterministic(bool hit, double right, rp_decision *out)
{
    out->explore_probability = 0;
    out->risk = 1 - right;
    out->verdict = hit ? RP_HIT : RP_MISS;
    out->reason = hit ? "verified" : "similarity";
}

static void
decide_sigmoid(rp_policy *policy, const rp_question *question, double random01, rp_decision *out)
{
    const verified_state *state = policy->state;
    rp_point points[POINTS_MAX];
    size_t total = 0, count = 0;
    if (question->count)
        count = collect_points(&state->entries, question->candidates[0].id, points, &total);
    if (decide_early(policy, question, total, out))
        return;
    const rp_verified_fit fit = rp_verified_fit_points(points, count, total);
    if (!fit.is_fitted)
        return;
    const double similarity = rounded((double)question->candidates[0].similarity, 1000);
    const double right = rp_logistic(fit.intercept + fit.raw_slope * similarity);
    out->threshold = fit.threshold;
    const bool by_probability = policy->kind == &rp_policy_verified_sigmoid_probability;
    decide_deterministic(by_probability ? right >= 1 - rp_policy_error_max(policy, question)
                                        : similarity >= fit.threshold,
                         right, out);
}

/* ---- verified-iid -------------------------------------------------------------------- */

/* One-sided Wilson lower limit of a share of `n`, `k` of which were seen, at quantile z. */
static double
wilson_lower(double k, double n, double z)
{
    const double share = k / n, z2 = z * z;
    const double centre = share + z2 / (2 * n);
    const double spread = z * sqrt(share * (1 - share) / n + z2 / (4 * n * n));
    return fmax(0, (centre - spread) / (1 + z2 / n));
}

/* First similarity of a 100-point grid whose share of wrong observations below it is,
 * with confidence 1 - eps, above 1 - (error - eps) / (1 - eps); 1 if none. Best eps. */
static double
iid_threshold(const rp_point *points, size_t count, double error_max)
{
    double wrong = 0, total = 0;
    for (size_t i = 0; i < count; i++) {
        total += points[i].weight;
        wrong += points[i].right ? 0 : points[i].weight;
    }
    const double error = error_max * total / wrong; /* the pseudo one makes wrong >= 1 */
    double best = 1;
    for (int e = 0; e < GRID && grid_epsilon(e) < error; e++) {
        const double eps = grid_epsilon(e), wanted = 1 - (error - eps) / (1 - eps);
        for (int h = 0; h < 100; h++) {
            const double similarity = h / 99.0;
            double below = 0;
            for (size_t i = 0; i < count; i++)
                below += !points[i].right && points[i].x < similarity ? points[i].weight : 0;
            if (wilson_lower(below, wrong, grid_quantile(e)) > wanted) {
                best = fmin(best, similarity);
                break;
            }
        }
    }
    return best;
}

static void
decide_iid(rp_policy *policy, const rp_question *question, double random01, rp_decision *out)
{
    const verified_state *state = policy->state;
    rp_point points[POINTS_MAX];
    size_t total = 0, count = 0;
    if (question->count)
        count = collect_points(&state->entries, question->candidates[0].id, points, &total);
    if (decide_early(policy, question, total, out))
        return;
    const double threshold = iid_threshold(points, count, rp_policy_error_max(policy, question));
    const double similarity = rounded((double)question->candidates[0].similarity, 1000);
    out->threshold = threshold;
    decide_deterministic(similarity > threshold, (double)NAN, out);
}

/* ---- verified-global ----------------------------------------------------------------- */

static void
refit_global(global_list *list)
{
    rp_point points[2 * GLOBAL_BINS];
    size_t count = 0;
    for (int label = 0; label < 2; label++)
        for (int bin = 0; bin < GLOBAL_BINS; bin++) {
            /* The pseudo-observations at 0 and 1. */
            const unsigned pseudo = (label == 0 && bin == 1000) || (label == 1 && bin == 2000);
            const unsigned weight = list->counts[label][bin] + pseudo;
            if (weight)
                points[count++] = (rp_point){ (bin - 1000) / 1000.0, weight, label };
        }
    list->fit = rp_verified_fit_points(points, count, list->total + 2);
    list->is_stale = false;
}

static void
decide_global(rp_policy *policy, const rp_question *question, double random01, rp_decision *out)
{
    verified_state *state = policy->state;
    global_list *list = rp_strata_find(&state->strata, question->stratum);
    if (decide_early(policy, question, list ? list->total + 2 : 0, out))
        return;
    if (list->is_stale)
        refit_global(list);
    decide_by_fit(policy, question, &list->fit, random01, out);
}

static void
observe_global(rp_policy *policy, const rp_outcome *outcome)
{
    verified_state *state = policy->state;
    global_list *list = rp_strata_get(&state->strata, outcome->stratum);
    if (!list)
        return;
    const double bounded = fmax(-1, fmin(1, (double)outcome->candidate.similarity));
    list->counts[outcome->right][lround(bounded * 1000) + 1000]++;
    list->total++;
    list->is_stale = true;
}

/* u64 strata; each u64 stratum, u32 bins in use, each u32 label << 16 | bin, u32 count. */
static void
save_global(const rp_policy *policy, rp_buffer *out)
{
    const verified_state *state = policy->state;
    rp_buffer_append_le64(out, state->strata.count);
    for (size_t i = 0; i < state->strata.count; i++) {
        const global_list *list = rp_strata_at(&state->strata, i);
        uint32_t used = 0;
        for (int b = 0; b < 2 * GLOBAL_BINS; b++)
            used += (&list->counts[0][0])[b] != 0;
        rp_buffer_append_le64(out, rp_strata_key(&state->strata, i));
        rp_buffer_append_le32(out, used);
        for (uint32_t label = 0; label < 2; label++)
            for (uint32_t bin = 0; bin < GLOBAL_BINS; bin++)
                if (list->counts[label][bin]) {
                    rp_buffer_append_le32(out, label << 16 | bin);
                    rp_buffer_append_le32(out, list->counts[label][bin]);
                }
    }
}

static bool
read_global(rp_strata *strata, rp_str bytes)
{
    if (bytes.len < 8)
        return false;
    const uint64_t count = rp_load_le64(bytes.ptr);
    bytes = (rp_str){ bytes.ptr + 8, bytes.len - 8 };
    for (uint64_t i = 0; i < count; i++) {
        if (bytes.len < 12)
            return false;
        const uint32_t used = rp_load_le32(bytes.ptr + 8);
        global_list *list = rp_strata_get(strata, rp_load_le64(bytes.ptr));
        if (!list || used > 2 * GLOBAL_BINS || bytes.len - 12 < 8 * (size_t)used)
            return false;
        for (uint32_t k = 0; k < used; k++) {
            const uint32_t place = rp_load_le32(bytes.ptr + 12 + 8 * k);
            const uint32_t number = rp_load_le32(bytes.ptr + 16 + 8 * k);
            if (place >> 16 > 1 || (place & 0xffff) >= GLOBAL_BINS)
                return false;
            list->counts[place >> 16][place & 0xffff] = number;
            list->total += number;
        }
        list->is_stale = true;
        bytes = (rp_str){ bytes.ptr + 12 + 8 * used, bytes.len - 12 - 8 * used };
    }
    return bytes.len == 0;
}

static rp_status
restore_global(rp_policy *policy, rp_str payload, rp_error *error)
{
    verified_state *state = policy->state;
    rp_strata restored;
    rp_strata_init(&restored, sizeof(global_list));
    if (!read_global(&restored, payload)) {
        rp_strata_fini(&restored);
        return rp_fail(error, RP_ERR_CORRUPT, "policy %s: damaged observations",
                       policy->kind->name);
    }
    rp_strata_fini(&state->strata);
    state->strata = restored;
    return RP_OK;
}

/* ---- kinds --------------------------------------------------------------------------- */

#define VERIFIED_KIND(name_, summary_, decide_)                                                    \
    {                                                                                              \
        .name = name_, .summary = summary_,                                                        \
        .keys = RP_KEY_ERROR_MAX | RP_KEY_HIT_ERROR_MAX | RP_KEY_MIN_SIMILARITY,                   \
        .min_similarity = -1, .version = 1, .create = create, .destroy = destroy,                  \
        .decide = decide_, .observe = observe_entry, .forget = forget_entry,                       \
        .forget_similarities = forget_entries,                                                     \
        .size_bytes = size_bytes, .save = save_entries, .restore = restore_entries,                \
    }

const rp_policy_kind rp_policy_verified
    = VERIFIED_KIND("verified", "vCache as published: a curve per entry, random exploration",
                    decide_verified);
const rp_policy_kind rp_policy_verified_iid
    = VERIFIED_KIND("verified-iid", "vCache without a curve: Wilson limits per entry", decide_iid);
const rp_policy_kind rp_policy_verified_sigmoid
    = VERIFIED_KIND("verified-sigmoid", "vCache's curve without its bound", decide_sigmoid);
const rp_policy_kind rp_policy_verified_sigmoid_probability
    = VERIFIED_KIND("verified-sigmoid-probability", "vCache's probability without its bound",
                    decide_sigmoid);

const rp_policy_kind rp_policy_verified_global = {
    .name = "verified-global",
    .summary = "vCache with one curve for a whole stratum",
    .keys = RP_KEY_ERROR_MAX | RP_KEY_HIT_ERROR_MAX | RP_KEY_MIN_SIMILARITY,
    .min_similarity = -1,
    .version = 1,
    .create = create,
    .destroy = destroy,
    .decide = decide_global,
    .observe = observe_global,
    .size_bytes = size_bytes,
    .save = save_global,
    .restore = restore_global,
};
