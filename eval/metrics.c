/* metrics.c - see metrics.h. Everything is one walk over rows of falling score that stops
 * at each change of the score: only there is a threshold possible. */
#include "eval/metrics.h"

#include "base/bytes.h"
#include "base/random.h"

#include <math.h>
#include <stdlib.h>

static int
by_falling_score(const void *a, const void *b)
{
    const rp_scored *x = a, *y = b;
    return x->score < y->score ? 1 : x->score > y->score ? -1 : 0;
}

void
rp_scored_sort(rp_scored *rows, size_t count)
{
    if (count)
        qsort(rows, count, sizeof *rows, by_falling_score);
}

/* What is accepted at the score of rows[at - 1]. */
typedef struct walk {
    const rp_scored *rows;
    size_t count, at;
    double right, wrong;           /* accepted so far */
    double right_new, wrong_new;   /* by the last step */
    double score;
} walk;

static bool
step(walk *w)
{
    w->right_new = w->wrong_new = 0;
    /* A replicate may not have drawn any row of a score: then it is no threshold. */
    while (w->at < w->count && w->right_new + w->wrong_new == 0) {
        w->score = w->rows[w->at].score;
        for (; w->at < w->count && w->rows[w->at].score == w->score; w->at++) {
            const rp_scored *row = &w->rows[w->at];
            *(row->positive ? &w->right_new : &w->wrong_new) += row->weight;
        }
    }
    w->right += w->right_new;
    w->wrong += w->wrong_new;
    return w->right_new + w->wrong_new > 0;
}

static void
fill_sums(const rp_scored *rows, size_t count, rp_pair_metrics *out)
{
    double sums[2] = { 0, 0 }, weights[2] = { 0, 0 };
    for (size_t i = 0; i < count; i++) {
        sums[rows[i].positive] += rows[i].weight * rows[i].score;
        weights[rows[i].positive] += rows[i].weight;
    }
    out->n = weights[0] + weights[1];
    out->positives = weights[1];
    out->mean_negative = weights[0] > 0 ? sums[0] / weights[0] : NAN;
    out->mean_positive = weights[1] > 0 ? sums[1] / weights[1] : NAN;
}

static void
keep_best_f1(const walk *w, rp_pair_metrics *out)
{
    const double f1 = 2 * w->right / (w->right + w->wrong + out->positives);
    if (f1 < out->f1)
        return;
    out->f1 = f1;
    out->threshold = w->score;
    out->precision = w->right / (w->right + w->wrong);
    out->recall = w->right / out->positives;
    out->vchr = w->right / out->n;
}

void
rp_pair_metrics_of(const rp_scored *rows, size_t count, rp_pair_metrics *out)
{
    *out = (rp_pair_metrics){ .auc = NAN, .ap = NAN, .f1 = NAN, .threshold = NAN, .precision = NAN,
                              .recall = NAN, .recall_far_1 = NAN, .recall_far_5 = NAN,
                              .p_chr_auc = NAN, .orr = NAN, .vchr = NAN, .gap_structural = NAN,
                              .gap_useful = NAN };
    fill_sums(rows, count, out);
    const double positives = out->positives, negatives = out->n - positives;
    if (positives == 0)
        return;
    out->f1 = out->ap = out->p_chr_auc = 0;
    if (negatives > 0)
        out->auc = out->recall_far_1 = out->recall_far_5 = 0;
    walk w = { .rows = rows, .count = count };
    while (step(&w)) {
        const double precision = w.right / (w.right + w.wrong);
        out->ap += w.right_new / positives * precision;
        out->p_chr_auc += (w.right_new + w.wrong_new) / out->n * precision;
        keep_best_f1(&w, out);
        if (negatives == 0)
            continue;
        /* New negatives lie below all rights before them and level with the new ones. */
        out->auc += w.wrong_new * (w.right - w.right_new / 2) / (positives * negatives);
        if (w.wrong <= 0.01 * negatives)
            out->recall_far_1 = w.right / positives;
        if (w.wrong <= 0.05 * negatives)
            out->recall_far_5 = w.right / positives;
    }
    const double share = positives / out->n;
    out->orr = out->p_chr_auc / out->ap;
    out->gap_structural = 1 - share * (1 - log(share));
    out->gap_useful = fmax(0, 1 - out->p_chr_auc - out->gap_structural);
}

/* ---- intervals ------------------------------------------------------------------------- */

/* The quantile of the standard normal, by bisection on erfc: exact to rounding, and speed
 * does not matter. */
static double
normal_quantile(double probability)
{
    double low = -40, high = 40;
    for (int i = 0; i < 200; i++) {
        const double middle = (low + high) / 2;
        if (0.5 * erfc(-middle / sqrt(2)) < probability)
            low = middle;
        else
            high = middle;
    }
    return (low + high) / 2;
}

rp_interval
rp_wilson(uint64_t k, uint64_t n, double confidence)
{
    if (n == 0)
        return (rp_interval){ 0, 1 };
    const double z = normal_quantile(0.5 + confidence / 2), count = (double)n;
    const double share = (double)k / count, scale = 1 + z * z / count;
    const double middle = (share + z * z / (2 * count)) / scale;
    const double half = z / scale * sqrt(share * (1 - share) / count + z * z / (4 * count * count));
    return (rp_interval){ k == 0 ? 0 : fmax(0, middle - half), k == n ? 1 : fmin(1, middle + half) };
}

/* The continued fraction of DLMF 8.17.22, by Lentz's method. */
static double
beta_fraction(double a, double b, double x)
{
    const double tiny = 1e-300;
    double c = 1, d = 1 - (a + b) * x / (a + 1);
    d = 1 / (fabs(d) < tiny ? tiny : d);
    double fraction = d;
    for (int m = 1; m <= 10000; m++) {
        for (int odd = 0; odd <= 1; odd++) {
            const double term = odd ? -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
                                    : m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m));
            d = 1 + term * d;
            c = 1 + term / c;
            d = 1 / (fabs(d) < tiny ? tiny : d);
            c = fabs(c) < tiny ? tiny : c;
            fraction *= c * d;
        }
        if (fabs(c * d - 1) < 1e-15)
            break;
    }
    return fraction;
}

double
rp_beta_share(double a, double b, double x)
{
    if (x <= 0 || x >= 1)
        return x <= 0 ? 0 : 1;
    const double scale = exp(lgamma(a + b) - lgamma(a) - lgamma(b) + a * log(x) + b * log1p(-x));
    /* The fraction converges fast on this side only. */
    return x < (a + 1) / (a + b + 2) ? scale * beta_fraction(a, b, x) / a
                                     : 1 - scale * beta_fraction(b, a, 1 - x) / b;
}

static double
beta_quantile(double a, double b, double probability)
{
    double low = 0, high = 1;
    for (int i = 0; i < 100; i++) {
        const double middle = (low + high) / 2;
        if (rp_beta_share(a, b, middle) < probability)
            low = middle;
        else
            high = middle;
    }
    return (low + high) / 2;
}

rp_interval
rp_clopper_pearson(uint64_t k, uint64_t n, double confidence)
{
    if (n == 0)
        return (rp_interval){ 0, 1 };
    const double tail = (1 - confidence) / 2, hits = (double)k, rest = (double)(n - k);
    return (rp_interval){ k == 0 ? 0 : beta_quantile(hits, rest + 1, tail),
                          k == n ? 1 : beta_quantile(hits + 1, rest, 1 - tail) };
}

/* ---- bootstrap ------------------------------------------------------------------------- */

enum { BOOTSTRAPPED = 4 };

static int
by_rising_value(const void *a, const void *b)
{
    const double x = *(const double *)a, y = *(const double *)b;
    return x < y ? -1 : x > y;
}

/* Percentiles of what is a number; a replicate without a class has none. */
static rp_interval
percentiles(double *values, size_t count, double confidence)
{
    size_t known = 0;
    for (size_t i = 0; i < count; i++)
        if (!isnan(values[i]))
            values[known++] = values[i];
    if (known == 0)
        return (rp_interval){ NAN, NAN };
    qsort(values, known, sizeof *values, by_rising_value);
    const double last = (double)(known - 1), tail = (1 - confidence) / 2;
    return (rp_interval){ values[(size_t)floor(tail * last)],
                          values[(size_t)ceil((1 - tail) * last)] };
}

static void
draw_weights(rp_scored *rows, size_t count, double *drawn, size_t group_count, rp_random *random)
{
    for (size_t i = 0; i < group_count; i++)
        drawn[i] = 0;
    for (size_t i = 0; i < group_count; i++)
        drawn[rp_random_below(random, group_count)]++;
    for (size_t i = 0; i < count; i++)
        rows[i].weight = drawn[rows[i].group];
}

rp_status
rp_bootstrap_pairs(rp_scored *rows, size_t count, size_t group_count, unsigned replicates,
                   uint64_t seed, double confidence, rp_bootstrap *out)
{
    rp_random random;
    rp_random_init(&random, seed);
    double *drawn = calloc(group_count + 1, sizeof *drawn);
    double *values = calloc((size_t)BOOTSTRAPPED * (replicates + 1), sizeof *values);
    if (!drawn || !values) {
        free(drawn);
        free(values);
        return RP_ERR_NOMEM;
    }
    for (unsigned r = 0; group_count && r < replicates; r++) {
        rp_pair_metrics metrics;
        draw_weights(rows, count, drawn, group_count, &random);
        rp_pair_metrics_of(rows, count, &metrics);
        const double row[BOOTSTRAPPED] = { metrics.auc, metrics.ap, metrics.f1, metrics.p_chr_auc };
        for (size_t k = 0; k < BOOTSTRAPPED; k++)
            values[k * replicates + r] = row[k];
    }
    for (size_t i = 0; i < count; i++)
        rows[i].weight = 1;
    rp_interval *intervals[BOOTSTRAPPED] = { &out->auc, &out->ap, &out->f1, &out->p_chr_auc };
    for (size_t k = 0; k < BOOTSTRAPPED; k++)
        *intervals[k] = percentiles(values + k * replicates, group_count ? replicates : 0, confidence);
    free(drawn);
    free(values);
    return RP_OK;
}

/* ---- thresholds of a stream ---------------------------------------------------------------- */

rp_frontier_point
rp_frontier(const rp_scored *rows, size_t count, size_t requests, double error_max)
{
    rp_frontier_point best = { 0, 0, INFINITY };
    walk w = { .rows = rows, .count = count };
    while (requests && step(&w))
        if (w.wrong <= error_max * (double)requests + 1e-9) /* .01 * 700 may be 6.99999 */
            best = (rp_frontier_point){ (w.right + w.wrong) / (double)requests,
                                        w.wrong / (double)requests, w.score };
    return best;
}

void
rp_accepted_at(const rp_scored *rows, size_t count, double threshold, size_t *accepted,
               size_t *wrong)
{
    *accepted = *wrong = 0;
    for (size_t i = 0; i < count && rows[i].score >= threshold; i++) {
        ++*accepted;
        *wrong += !rows[i].positive;
    }
}
