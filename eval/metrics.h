/* metrics.h - how well a score separates pairs that share an answer from pairs that do not.
 *
 * A pair is accepted if its score is at least a threshold; equal scores are accepted
 * together. Ties are therefore handled as scikit-learn does (roc_auc_score,
 * average_precision_score, precision_recall_curve), and tests/integration compare with it.
 *
 *   CHR        accepted / all: the cache hit rate of a threshold
 *   P-CHR AUC  precision integrated over CHR (arXiv:2606.19719): every threshold counts
 *              with the share of pairs that it adds. A perfect score reaches
 *              p (1 - ln p) for a share p of positives: 1 minus that is the structural gap.
 *   ORR        P-CHR AUC / average precision
 *   VCHR       precision * CHR: right accepted / all
 *
 * Rows carry a weight, so that a bootstrap replicate is a change of weights and not a
 * new sort.
 *
 * Threads: pure functions. */
#ifndef RP_EVAL_METRICS_H
#define RP_EVAL_METRICS_H

#include <reprise/status.h>
#include <reprise/types.h>

typedef struct rp_scored {
    double score;    /* finite; larger: rather the same */
    double weight;   /* 1, or how often a replicate drew the row */
    uint32_t group;  /* rows of a group are drawn together */
    bool positive;   /* one answer serves both */
} rp_scored;

/* What cannot be said (one class is missing) is NaN. */
typedef struct rp_pair_metrics {
    double n, positives; /* sums of weights */
    double auc, ap;
    double f1, threshold, precision, recall; /* of the threshold with the best F1; the
                                                lowest of equal ones */
    double recall_far_1, recall_far_5; /* at most 1 % and 5 % of the negatives accepted */
    double p_chr_auc, orr;
    double vchr;           /* at `threshold` */
    double gap_structural; /* 1 - p (1 - ln p) */
    double gap_useful;     /* what a better score could gain: max(0, 1 - p_chr_auc - gap) */
    double mean_positive, mean_negative;
} rp_pair_metrics;

/* Sort rows by falling score, for the functions below. */
void rp_scored_sort(rp_scored *rows, size_t count);
/* `rows` must be sorted. */
void rp_pair_metrics_of(const rp_scored *rows, size_t count, rp_pair_metrics *out);

/* A 95 % interval. */
typedef struct rp_interval {
    double low, high;
} rp_interval;

/* For k successes of n trials; [0, 1] for n = 0. Wilson 1927, and Clopper and Pearson 1934
 * (never below its nominal coverage). */
rp_interval rp_wilson(uint64_t k, uint64_t n, double confidence);
rp_interval rp_clopper_pearson(uint64_t k, uint64_t n, double confidence);
/* I_x(a, b), the regularised incomplete beta function; x in [0, 1], a, b > 0. */
double rp_beta_share(double a, double b, double x);

typedef struct rp_bootstrap {
    rp_interval auc, ap, f1, p_chr_auc;
} rp_bootstrap;

/* Percentile bootstrap over groups: each replicate draws as many groups as there are
 * (0..group_count-1), with replacement. Pairs that share a text are no independent
 * draws; a group is a set of them. `rows` must be sorted; their weights are used as
 * scratch and are 1 afterwards. Fails: RP_ERR_NOMEM. */
RP_NODISCARD rp_status rp_bootstrap_pairs(rp_scored *rows, size_t count, size_t group_count,
                                          unsigned replicates, uint64_t seed,
                                          double confidence, rp_bootstrap *out);

/* The most hits at a bounded error: rows are requests, `positive` a right nearest
 * neighbour; choose the threshold in hindsight. */
typedef struct rp_frontier_point {
    double hits, errors; /* shares of all requests */
    double threshold;    /* infinite: none is good enough */
} rp_frontier_point;
/* `rows` sorted; requests >= count: those without a candidate have no row. */
rp_frontier_point rp_frontier(const rp_scored *rows, size_t count, size_t requests,
                              double error_max);
/* Hits and wrong hits of one threshold. `rows` sorted. */
void rp_accepted_at(const rp_scored *rows, size_t count, double threshold, size_t *accepted,
                    size_t *wrong);

#endif
