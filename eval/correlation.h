/* correlation.h - how well a score follows a grade (graded pairs: STS-B, SICK).
 *
 *   Pearson   of score and grade
 *   Spearman  Pearson of their ranks; equal values share the mean of their ranks, as in
 *             scipy.stats.spearmanr, with which tests/integration compare
 *
 * Rows carry a weight, so that a bootstrap replicate is a change of weights: a row of weight
 * 2 is two equal rows.
 *
 * Threads: pure functions. */
#ifndef RP_EVAL_CORRELATION_H
#define RP_EVAL_CORRELATION_H

#include "eval/metrics.h"

typedef struct rp_graded {
    double score, grade, weight;
    uint32_t group; /* rows of a group are drawn together */
} rp_graded;

/* What cannot be said (fewer than two rows, all values equal) is NaN. */
typedef struct rp_correlation {
    double pearson, spearman;
    rp_interval pearson_95, spearman_95; /* NaN without replicates */
} rp_correlation;

/* `replicates` 0: no bootstrap. Fails: RP_ERR_NOMEM. Weights are 1 afterwards. */
RP_NODISCARD rp_status rp_correlate(rp_graded *rows, size_t count, size_t group_count,
                                    unsigned replicates, uint64_t seed, rp_correlation *out);
/* The two figures for the weights that the rows have. */
RP_NODISCARD rp_status rp_correlate_weighted(const rp_graded *rows, size_t count,
                                             rp_correlation *out);

#endif
