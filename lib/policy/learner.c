/* learner.c - the learner of learner.h. */
#include "learner.h"

#include "base/bytes.h"
#include "logistic.h"
#include <math.h>

enum {
    FIT_EVERY_MIN = 16,  /* outcomes between two fits; grows with the number held */
    CUT_EVERY = 16,      /* questions between two choices of the cut */
    BINS = 128,          /* of risk, on a logarithmic scale */
    OUTCOMES_MIN = 100,  /* before these a learner is cold */
    NEWTON_MAX = 8,
    FLOOR_STEPS = 8,
    LEDGER_HORIZON = 4000,
    PAUSE = 200,
};

static const double RISK_LEAST = 1e-4;   /* the left end of the bins */
static const double PRIOR_WEIGHT = 8;    /* outcomes that the pooled model is worth; a guess */
static const double INFLATION_CONFIDENCE = 0.75; /* measured: docs/policies.md */
static const double INFLATION_PRIOR = 5;         /* explored wrongs that prior belief is worth */
static const double INFLATION_LEAST = 0.5;
static const double HINKLEY_SLACK = 0.05, HINKLEY_MAX = 12; /* guesses: a shift of 5 % is none */
static const double EXPLORED_FADE = 0.998;
/* Before any was explored: one in four hundred of the surest hits is wrong after all, and
 * that is worth sixty explored hits. One of five pairs tried on synthetic streams with
 * floors of 0 to 2.5 % (tests/unit/test_bounds.c). */
static const double FLOOR_WRONG = 0.25, FLOOR_EXPLORED = 60;
static const double EXPLORE_FIRST = 0.4; /* measured: docs/policies.md */
/* A burst: of the last ten or so explored hits more were wrong than one would expect, by so
 * many. One wrong hit alone is none. */
static const double RECENT_FADE = 0.9, BURST = 1.2;
static const double GREY_FADE = 0.98;
/* Agreement above this has a second slope: that nobody dissents says more than that few do. */
static const float UNANIMITY = 0.8f;

/* ---- evidence and model -------------------------------------------------------------- */

rp_evidence
rp_evidence_of_similarity(float similarity, float agreement)
{
    rp_evidence e = { { 1 } };
    e.x[1] = (similarity - 0.85f) / 0.1f;
    /* A second slope above .93: calibration curves bend there. */
    e.x[2] = fmaxf(0, similarity - 0.93f) / 0.05f;
    e.x[3] = agreement / 0.3f;
    e.x[8] = fmaxf(0, agreement - UNANIMITY) / (1 - UNANIMITY);
    return e;
}

rp_evidence
rp_evidence_of(const rp_candidate *candidate, float agreement)
{
    rp_evidence e = rp_evidence_of_similarity(candidate->similarity, agreement);
    if (!isnan(candidate->alignment))
        e.x[4] = (candidate->alignment - 0.6f) / 0.2f;
    e.x[5] = -(float)__builtin_popcount(candidate->gates_noted);
    if (!isnan(candidate->verifier)) {
        const float p = fminf(fmaxf(candidate->verifier, 0.001f), 0.999f);
        e.x[6] = logf(p / (1 - p)) / 2;
    }
    e.x[7] = candidate->judge == RP_JUDGE_YES ? 2 : candidate->judge == RP_JUDGE_NO ? -2 : 0;
    return e;
}

/* Weights that evidence can only raise: the more similar, the likelier right. */
static bool
is_monotone(size_t feature)
{
    return feature != 0;
}

void
rp_model_init(rp_model *model)
{
    *model = (rp_model){ .weight = { -1.0, 1.6, 0.8, 0.2, 0.2, 0.3, 1, 2, 0.5 } };
    for (size_t i = 0; i < RP_FEATURES; i++)
        model->covariance[i][i] = i < 3 ? 0.5 : 0.1;
}

double
rp_model_logit(const rp_model *model, const rp_evidence *evidence)
{
    double logit = 0;
    for (size_t i = 0; i < RP_FEATURES; i++)
        logit += model->weight[i] * (double)evidence->x[i];
    return logit;
}

double
rp_model_deviation(const rp_model *model, const rp_evidence *evidence)
{
    double variance = 0;
    for (size_t i = 0; i < RP_FEATURES; i++) {
        const double x = (double)evidence->x[i];
        if (x == 0) /* the verifier and the judge, mostly */
            continue;
        double row = model->covariance[i][i] * x / 2;
        for (size_t j = 0; j < i; j++)
            row += model->covariance[i][j] * (double)evidence->x[j];
        variance += 2 * x * row;
    }
    return sqrt(fmax(0, variance));
}

/* In place: the lower Cholesky factor; false if not positive definite. */
static bool
factor(double a[RP_FEATURES][RP_FEATURES])
{
    for (size_t j = 0; j < RP_FEATURES; j++) {
        for (size_t k = 0; k < j; k++)
            a[j][j] -= a[j][k] * a[j][k];
        if (!(a[j][j] > 1e-12))
            return false;
        a[j][j] = sqrt(a[j][j]);
        for (size_t i = j + 1; i < RP_FEATURES; i++) {
            for (size_t k = 0; k < j; k++)
                a[i][j] -= a[i][k] * a[j][k];
            a[i][j] /= a[j][j];
        }
    }
    return true;
}

static void
solve(double l[RP_FEATURES][RP_FEATURES], double *b)
{
    for (size_t i = 0; i < RP_FEATURES; i++) {
        for (size_t k = 0; k < i; k++)
            b[i] -= l[i][k] * b[k];
        b[i] /= l[i][i];
    }
    for (size_t i = RP_FEATURES; i-- > 0;) {
        for (size_t k = i + 1; k < RP_FEATURES; k++)
            b[i] -= l[k][i] * b[k];
        b[i] /= l[i][i];
    }
}

/* Each outcome counts by how likely right the last model called it: most misses are hopeless,
 * and how hopeless they are bends the curve where hits are decided. The weight depends on the
 * evidence alone, so that what is fitted stays unbiased where it counts (local likelihood,
 * Loader 1999). Those of the outcomes, then those of the explored ones. */
static void
weigh_outcomes(const rp_learner *learner, double *counts)
{
    for (size_t i = 0; i < learner->outcomes_count; i++)
        *counts++ = rp_logistic(rp_model_logit(&learner->model, &learner->outcomes[i].evidence));
    for (size_t i = 0; i < learner->explored_count; i++)
        *counts++ = rp_logistic(
            rp_model_logit(&learner->model, &learner->explored_outcomes[i].evidence));
}

static void
derive_outcomes(const rp_labelled *outcomes, size_t count, const double *counts,
                const double *weight, double gradient[RP_FEATURES],
                double hessian[RP_FEATURES][RP_FEATURES])
{
    for (size_t n = 0; n < count; n++) {
        const rp_labelled *o = &outcomes[n];
        double z = 0, x[RP_FEATURES];
        for (size_t i = 0; i < RP_FEATURES; i++) {
            x[i] = (double)o->evidence.x[i];
            z += weight[i] * x[i];
        }
        const double p = rp_logistic(z);
        const double residual = counts[n] * (p - (o->right ? 1 : 0));
        const double curvature = counts[n] * p * (1 - p);
        for (size_t i = 0; i < RP_FEATURES; i++) {
            gradient[i] += residual * x[i];
            for (size_t j = 0; j <= i; j++)
                hessian[i][j] += curvature * x[i] * x[j];
        }
    }
}

/* Gradient and Hessian of the penalised loss at `weight`. The prior counts as much as
 * PRIOR_WEIGHT outcomes of full information (a quarter each). The floor is no part of it:
 * it is too small to be seen among misses, and what the curve is too steep for there it
 * makes up. */
static void
derive(const rp_learner *learner, const rp_model *prior, const double *counts,
       const double *weight, double gradient[RP_FEATURES], double hessian[RP_FEATURES][RP_FEATURES])
{
    memset(gradient, 0, RP_FEATURES * sizeof *gradient);
    memset(hessian, 0, RP_FEATURES * sizeof *hessian);
    derive_outcomes(learner->outcomes, learner->outcomes_count, counts, weight, gradient, hessian);
    derive_outcomes(learner->explored_outcomes, learner->explored_count,
                    counts + learner->outcomes_count, weight, gradient, hessian);
    for (size_t i = 0; i < RP_FEATURES; i++) {
        const double precision = PRIOR_WEIGHT * 0.25;
        gradient[i] += precision * (weight[i] - prior->weight[i]);
        hessian[i][i] += precision;
        for (size_t j = 0; j < i; j++)
            hessian[j][i] = hessian[i][j];
    }
}

/* A weight at 0 that wants to become negative stays there: its row leaves the system. */
static void
hold_at_zero(const double *weight, double gradient[RP_FEATURES],
             double hessian[RP_FEATURES][RP_FEATURES])
{
    for (size_t i = 0; i < RP_FEATURES; i++) {
        if (!is_monotone(i) || weight[i] > 0 || gradient[i] < 0)
            continue;
        gradient[i] = 0;
        for (size_t j = 0; j < RP_FEATURES; j++)
            hessian[i][j] = hessian[j][i] = 0;
        hessian[i][i] = 1;
    }
}

static void
invert(double l[RP_FEATURES][RP_FEATURES], double out[RP_FEATURES][RP_FEATURES])
{
    for (size_t j = 0; j < RP_FEATURES; j++) {
        double unit[RP_FEATURES] = { 0 };
        unit[j] = 1;
        solve(l, unit);
        for (size_t i = 0; i < RP_FEATURES; i++)
            out[i][j] = unit[i];
    }
}

/* Newton steps from the last weights; a projected step keeps the signs. */
static void
fit(rp_learner *learner, const rp_model *prior)
{
    double weight[RP_FEATURES], counts[RP_OUTCOMES_MAX + RP_EXPLORED_MAX];
    memcpy(weight, learner->model.weight, sizeof weight);
    weigh_outcomes(learner, counts);
    for (int step = 0; step < NEWTON_MAX; step++) {
        double gradient[RP_FEATURES], hessian[RP_FEATURES][RP_FEATURES];
        derive(learner, prior, counts, weight, gradient, hessian);
        hold_at_zero(weight, gradient, hessian);
        if (!factor(hessian))
            return; /* the last model stays */
        solve(hessian, gradient);
        double largest = 0;
        for (size_t i = 0; i < RP_FEATURES; i++) {
            const double move = fmax(-2, fmin(2, gradient[i]));
            weight[i] -= move;
            if (is_monotone(i))
                weight[i] = fmax(0, weight[i]);
            largest = fmax(largest, fabs(move));
        }
        if (largest < 1e-3)
            break;
    }
    double gradient[RP_FEATURES], hessian[RP_FEATURES][RP_FEATURES];
    derive(learner, prior, counts, weight, gradient, hessian);
    if (!factor(hessian))
        return;
    for (size_t i = 0; i < RP_FEATURES; i++)
        if (!isfinite(weight[i]))
            return;
    memcpy(learner->model.weight, weight, sizeof weight);
    invert(hessian, learner->model.covariance);
    learner->model.outcomes = learner->outcomes_count + learner->explored_count;
}

/* ---- the cut ------------------------------------------------------------------------- */

void
rp_learner_init(rp_learner *learner)
{
    memset(learner, 0, sizeof *learner);
    rp_model_init(&learner->model);
    learner->cut = -1;
    learner->inflation = 1;
}

bool
rp_learner_is_cold(const rp_learner *learner)
{
    return learner->outcomes_seen < OUTCOMES_MIN;
}

double
rp_learner_steepness(double spread)
{
    return sqrt(1 + M_PI / 8 * spread * spread);
}

/* The expectation of a logistic curve under a normal logit, by the probit approximation
 * (MacKay 1992, eq. 30; within .01 of the integral). */
static double
risk_above_floor(const rp_learner *learner, const rp_evidence *evidence, double offset,
                 double deviation, double spread)
{
    const double steepness = rp_learner_steepness(spread);
    const double logit = steepness * rp_model_logit(&learner->model, evidence) + offset;
    const double own = steepness * rp_model_deviation(&learner->model, evidence);
    const double variance = own * own + deviation * deviation;
    return rp_logistic(-logit / sqrt(1 + M_PI / 8 * variance));
}

double
rp_learner_risk(const rp_learner *learner, const rp_evidence *evidence, double offset,
                double deviation, double spread)
{
    const double risk = risk_above_floor(learner, evidence, offset, deviation, spread);
    return fmax(RISK_LEAST, learner->floor + (1 - learner->floor) * risk);
}

static size_t
bin_of(double risk)
{
    const double place = log(risk / RISK_LEAST) / -log(RISK_LEAST) * BINS;
    return place <= 0 ? 0 : place >= BINS - 1 ? BINS - 1 : (size_t)place;
}

static double
upper_edge(size_t bin)
{
    return RISK_LEAST * exp(-log(RISK_LEAST) * (double)(bin + 1) / BINS);
}

/* The posterior mean of the floor: which share of explored hits is wrong for no reason
 * that the evidence shows. Each wrong one is blamed on the floor by its odds against the
 * curve (expectation maximisation of the mixture); entries' offsets are left aside. */
static double
find_floor(const rp_learner *learner, double spread)
{
    double risk[RP_EXPLORED_MAX];
    size_t wrong = 0;
    for (size_t i = 0; i < learner->explored_count; i++)
        if (!learner->explored_outcomes[i].right)
            risk[wrong++] = risk_above_floor(learner, &learner->explored_outcomes[i].evidence, 0,
                                             0, spread);
    double floor = FLOOR_WRONG / FLOOR_EXPLORED;
    for (int step = 0; step < FLOOR_STEPS; step++) {
        double blamed = FLOOR_WRONG;
        for (size_t i = 0; i < wrong; i++)
            blamed += floor / (floor + (1 - floor) * risk[i]);
        floor = blamed / (FLOOR_EXPLORED + learner->explored_count);
    }
    return floor;
}

/* Wrong explored hits as the correction counts them: before much was explored, misses just
 * below the cut say what to expect of hits. */
static double
corrected_wrong(const rp_learner *learner)
{
    const double grey = (learner->grey_wrong + 4) / (learner->grey_risk + 4);
    return learner->explored_wrong + INFLATION_PRIOR * fmax(INFLATION_LEAST, fmin(grey, 2));
}

/* Upper limit of wrong explored hits over those expected. Misses below the cut enter as its
 * prior only: measured, hits are wrong less often than expected where such misses are wrong
 * as often. */
static double
find_inflation(const rp_learner *learner)
{
    const double ratio = rp_poisson_upper(corrected_wrong(learner) - 1, INFLATION_CONFIDENCE)
                         / (learner->explored_risk + INFLATION_PRIOR);
    return fmax(INFLATION_LEAST, ratio);
}

/* What the ledger lets the next requests spend, per request: the bound, or less if more
 * than allowed was spent so far. Thrift is not paid back: measured, the few hits it buys
 * cost the bound on streams that turn. */
static double
find_allowance(const rp_learner *learner, double error_max)
{
    const double spent = learner->floor * learner->hits + (1 - learner->floor) * learner->spent;
    const double balance = error_max * learner->requests - spent * learner->inflation;
    const double correction = balance / (error_max * 1000);
    return error_max * fmax(0.1, fmin(1, 1 + correction));
}

/* The largest risk such that all recent questions up to it would have stayed within both
 * bounds. */
static double
find_cut(const rp_learner *learner, const rp_learner_bounds *bounds)
{
    double risk_in[BINS] = { 0 }, count_in[BINS] = { 0 };
    for (size_t i = 0; i < learner->asked_count; i++) {
        const rp_asked *asked = &learner->asked[i];
        if (!asked->eligible)
            continue;
        const double risk = rp_learner_risk(learner, &asked->evidence, (double)asked->offset,
                                            (double)asked->deviation, bounds->spread);
        risk_in[bin_of(risk)] += risk;
        count_in[bin_of(risk)]++;
    }
    const double limit = find_allowance(learner, bounds->error_max) * (learner->asked_count + 1.0);
    double risk = 0, hits = 0, cut = -1;
    for (size_t bin = 0; bin < BINS; bin++) {
        risk += risk_in[bin];
        hits += count_in[bin];
        /* What the next question may add: no more than it may risk. */
        if ((risk + upper_edge(bin)) * learner->inflation > limit)
            break;
        if (hits > 0 && risk * learner->inflation > bounds->hit_error_max * hits)
            continue; /* too many wrong among hits; a looser cut may dilute, but hardly */
        cut = upper_edge(bin);
        if (upper_edge(bin) > bounds->hit_error_max * 3)
            break;
    }
    return cut;
}

static void
move_cut(rp_learner *learner, const rp_learner_bounds *bounds)
{
    learner->since_cut = 0;
    if (rp_learner_is_cold(learner))
        return;
    learner->inflation = find_inflation(learner);
    learner->cut = find_cut(learner, bounds);
}

void
rp_learner_ask(rp_learner *learner, const rp_asked *asked, const rp_learner_bounds *bounds)
{
    learner->asked[learner->asked_at] = *asked;
    learner->asked_at = (learner->asked_at + 1) % RP_QUESTIONS_MAX;
    if (learner->asked_count < RP_QUESTIONS_MAX)
        learner->asked_count++;
    const double fade = 1 - 1.0 / LEDGER_HORIZON;
    learner->requests = learner->requests * fade + 1;
    learner->hits *= fade;
    learner->spent *= fade;
    if (learner->pause)
        learner->pause--;
    if (++learner->since_cut >= CUT_EVERY)
        move_cut(learner, bounds);
}

void
rp_learner_serve(rp_learner *learner, double risk)
{
    learner->hits++;
    learner->spent += fmax(0, risk - learner->floor) / (1 - learner->floor);
}

double
rp_learner_explore_share(const rp_learner *learner, double least)
{
    /* Requests of one kind may follow each other, all wrong, and one hit in twenty explored
     * would see three of fifty: look again as in the beginning. */
    const bool suspects = learner->recent_wrong > learner->recent_risk + BURST;
    return fmax(least, EXPLORE_FIRST / (suspects ? 1 : 1 + learner->explored_risk));
}

/* ---- learning and drift -------------------------------------------------------------- */

/* Page-Hinkley on (wrong - expected) of grey outcomes, and a two-proportion comparison
 * of explored hits, the last ten and all, with what was expected of them: they say that the model no longer
 * describes the stream. Then the tier pauses, and old outcomes count for less. */
/* Three deviations of a Poisson count and one and a half for its skew: about one false alarm
 * in a thousand looks. */
static bool
is_too_many(double wrong, double expected)
{
    return wrong > expected + 3 * sqrt(expected) + 1.5;
}

static bool
has_drifted(const rp_learner *learner)
{
    return learner->hinkley - learner->hinkley_min > HINKLEY_MAX
           || is_too_many(learner->recent_wrong, learner->recent_risk)
           || is_too_many(learner->explored_wrong, learner->explored_risk);
}

/* One outcome into a ring of `size`. */
static void
remember(rp_labelled *ring, uint32_t size, uint32_t *count, uint32_t *at,
         const rp_labelled *labelled)
{
    ring[*at] = *labelled;
    *at = (*at + 1) % size;
    *count = RP_MIN(*count + 1, size);
}

/* Where the i-th oldest outcome of a ring stands. */
static uint32_t
place_in(uint32_t size, uint32_t count, uint32_t at, uint32_t i)
{
    return (at + size - count + i) % size;
}

static void
forget_older_half(rp_labelled *ring, uint32_t size, uint32_t *count, uint32_t *at)
{
    rp_labelled kept[RP_OUTCOMES_MAX];
    const uint32_t keep = *count / 2;
    for (uint32_t i = 0; i < keep; i++)
        kept[i] = ring[place_in(size, *count, *at, *count - keep + i)];
    memcpy(ring, kept, keep * sizeof *kept);
    *count = keep;
    *at = keep % size;
}

static void
pause_for_drift(rp_learner *learner)
{
    learner->alarms++;
    learner->pause = PAUSE;
    learner->hinkley = learner->hinkley_min = 0;
    learner->recent_wrong = learner->recent_risk = 0;
    learner->explored *= 0.5;
    learner->explored_wrong *= 0.5;
    learner->explored_risk *= 0.5;
    forget_older_half(learner->outcomes, RP_OUTCOMES_MAX, &learner->outcomes_count,
                      &learner->outcomes_at);
    forget_older_half(learner->explored_outcomes, RP_EXPLORED_MAX, &learner->explored_count,
                      &learner->explored_at);
}

static void
watch(rp_learner *learner, const rp_labelled *labelled, double risk, bool explored)
{
    const double wrong = labelled->right ? 0 : 1;
    if (explored) {
        learner->explored = learner->explored * EXPLORED_FADE + 1;
        learner->explored_wrong = learner->explored_wrong * EXPLORED_FADE + wrong;
        learner->explored_risk = learner->explored_risk * EXPLORED_FADE + risk;
        learner->recent_wrong = learner->recent_wrong * RECENT_FADE + wrong;
        learner->recent_risk = learner->recent_risk * RECENT_FADE + risk;
    } else if (risk < fmax(4 * learner->cut, 0.2)) {
        learner->grey = learner->grey * GREY_FADE + 1;
        learner->grey_wrong = learner->grey_wrong * GREY_FADE + wrong;
        learner->grey_risk = learner->grey_risk * GREY_FADE + risk;
    } else {
        return;
    }
    learner->hinkley += wrong - risk - HINKLEY_SLACK;
    learner->hinkley_min = fmin(learner->hinkley_min, learner->hinkley);
    if (!rp_learner_is_cold(learner) && has_drifted(learner))
        pause_for_drift(learner);
}

void
rp_learner_learn(rp_learner *learner, const rp_labelled *labelled, double risk, bool explored,
                 const rp_model *pooled, const rp_learner_bounds *bounds)
{
    rp_model initial;
    learner->outcomes_seen++;
    watch(learner, labelled, risk, explored);
    if (explored)
        remember(learner->explored_outcomes, RP_EXPLORED_MAX, &learner->explored_count,
                 &learner->explored_at, labelled);
    else
        remember(learner->outcomes, RP_OUTCOMES_MAX, &learner->outcomes_count,
                 &learner->outcomes_at, labelled);
    /* Refit when the outcomes have grown by an eighth: constant work per outcome. */
    const uint32_t every
        = RP_MAX(FIT_EVERY_MIN, (learner->outcomes_count + learner->explored_count) / 8);
    const bool fits = ++learner->since_fit >= every && !rp_learner_is_cold(learner);
    if (learner->since_fit >= every)
        learner->since_fit = 0;
    /* Fitted to the first outcomes of a sorted stream, all right, a model would call
     * everything right and, serving it, never see another outcome. */
    if (fits) {
        if (!pooled)
            rp_model_init(&initial);
        fit(learner, pooled ? pooled : &initial);
    }
    if (fits || explored)
        learner->floor = find_floor(learner, bounds->spread);
    if (fits)
        move_cut(learner, bounds);
}

/* ---- saved state --------------------------------------------------------------------- */

/* A learner is numbers only and is saved as its struct holds them, field by field where
 * widths could differ: the sums, the model, then both rings of outcomes (36 bytes of
 * evidence, label).
 * Recent questions are not saved: they come back within the hour. */
static void
put_double(rp_buffer *out, double value)
{
    uint64_t bits;
    memcpy(&bits, &value, sizeof bits);
    rp_buffer_append_le64(out, bits);
}

static void
put_float(rp_buffer *out, float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    rp_buffer_append_le32(out, bits);
}

static bool
take_double(rp_str *bytes, double *out)
{
    if (bytes->len < 8)
        return false;
    const uint64_t bits = rp_load_le64(bytes->ptr);
    memcpy(out, &bits, sizeof *out);
    *bytes = (rp_str){ bytes->ptr + 8, bytes->len - 8 };
    return isfinite(*out);
}

static bool
take_float(rp_str *bytes, float *out)
{
    if (bytes->len < 4)
        return false;
    const uint32_t bits = rp_load_le32(bytes->ptr);
    memcpy(out, &bits, sizeof *out);
    *bytes = (rp_str){ bytes->ptr + 4, bytes->len - 4 };
    return isfinite(*out);
}

enum { SUMS = 17 };

static void
list_sums(rp_learner *learner, double *out[SUMS])
{
    double *const sums[SUMS] = {
        &learner->explored, &learner->explored_wrong, &learner->explored_risk, &learner->grey,
        &learner->grey_wrong, &learner->grey_risk, &learner->requests, &learner->hits,
        &learner->spent, &learner->cut, &learner->inflation, &learner->hinkley,
        &learner->hinkley_min, &learner->model.outcomes, &learner->floor,
        &learner->recent_wrong, &learner->recent_risk,
    };
    memcpy(out, sums, sizeof sums);
}

/* u32 count, then from the oldest on. */
static void
save_ring(const rp_labelled *ring, uint32_t size, uint32_t count, uint32_t at, rp_buffer *out)
{
    rp_buffer_append_le32(out, count);
    for (uint32_t i = 0; i < count; i++) {
        const rp_labelled *o = &ring[place_in(size, count, at, i)];
        for (size_t f = 0; f < RP_FEATURES; f++)
            put_float(out, o->evidence.x[f]);
        put_float(out, o->right ? 1 : -1);
    }
}

static bool
restore_ring(rp_labelled *ring, uint32_t size, uint32_t *count, uint32_t *at, rp_str *bytes)
{
    if (bytes->len < 4)
        return false;
    const uint32_t saved = rp_load_le32(bytes->ptr);
    *bytes = (rp_str){ bytes->ptr + 4, bytes->len - 4 };
    if (saved > size)
        return false;
    for (uint32_t i = 0; i < saved; i++) {
        float label;
        for (size_t f = 0; f < RP_FEATURES; f++)
            if (!take_float(bytes, &ring[i].evidence.x[f]))
                return false;
        if (!take_float(bytes, &label))
            return false;
        ring[i].right = label > 0;
    }
    *count = saved;
    *at = saved % size;
    return true;
}

void
rp_learner_save(const rp_learner *learner, rp_buffer *out)
{
    double *sums[SUMS];
    list_sums((rp_learner *)learner, sums);
    for (size_t i = 0; i < SUMS; i++)
        put_double(out, *sums[i]);
    for (size_t i = 0; i < RP_FEATURES; i++)
        put_double(out, learner->model.weight[i]);
    for (size_t i = 0; i < RP_FEATURES; i++)
        for (size_t j = 0; j < RP_FEATURES; j++)
            put_double(out, learner->model.covariance[i][j]);
    rp_buffer_append_le64(out, learner->outcomes_seen);
    rp_buffer_append_le32(out, learner->pause);
    rp_buffer_append_le32(out, learner->alarms);
    save_ring(learner->outcomes, RP_OUTCOMES_MAX, learner->outcomes_count, learner->outcomes_at,
              out);
    save_ring(learner->explored_outcomes, RP_EXPLORED_MAX, learner->explored_count,
              learner->explored_at, out);
}

bool
rp_learner_restore(rp_learner *learner, rp_str *bytes)
{
    double *sums[SUMS];
    rp_learner_init(learner);
    list_sums(learner, sums);
    for (size_t i = 0; i < SUMS; i++)
        if (!take_double(bytes, sums[i]))
            return false;
    for (size_t i = 0; i < RP_FEATURES; i++)
        if (!take_double(bytes, &learner->model.weight[i]))
            return false;
    for (size_t i = 0; i < RP_FEATURES; i++)
        for (size_t j = 0; j < RP_FEATURES; j++)
            if (!take_double(bytes, &learner->model.covariance[i][j]))
                return false;
    if (!(learner->floor >= 0 && learner->floor < 1 && learner->explored_risk >= 0)
        || bytes->len < 16)
        return false;
    learner->outcomes_seen = rp_load_le64(bytes->ptr);
    learner->pause = RP_MIN(rp_load_le32(bytes->ptr + 8), (uint32_t)PAUSE);
    learner->alarms = rp_load_le32(bytes->ptr + 12);
    *bytes = (rp_str){ bytes->ptr + 16, bytes->len - 16 };
    return restore_ring(learner->outcomes, RP_OUTCOMES_MAX, &learner->outcomes_count,
                        &learner->outcomes_at, bytes)
           && restore_ring(learner->explored_outcomes, RP_EXPLORED_MAX, &learner->explored_count,
                           &learner->explored_at, bytes);
}
