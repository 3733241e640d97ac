/* verified.h - the pieces of the published vCache rule that tests look at alone.
 *
 * Threads: pure functions. */
#ifndef RP_POLICY_VERIFIED_H
#define RP_POLICY_VERIFIED_H

#include "policy/logistic.h"

/* One entry's fitted curve, as vCache keeps it (t, gamma, var there). */
typedef struct rp_verified_fit {
    double threshold, slope, variance; /* rounded to 3 decimals: threshold and slope */
    double intercept, raw_slope;       /* unrounded, for the sigmoid-probability variant */
    bool is_fitted;
} rp_verified_fit;

/* points include the two pseudo-observations (0, wrong) and (1, right); `total` is the
 * number of observations, pseudo ones included. */
rp_verified_fit rp_verified_fit_points(const rp_point *points, size_t count, size_t total);
/* The probability with which to go upstream at `similarity` (3 decimals); may be
 * negative: then never. Rounded to 5 decimals. */
double rp_verified_explore(const rp_verified_fit *fit, double similarity, double error_max);
/* How often to go upstream although a candidate exists:
 *     max(0, 1 - error_max / (1 - right_min))           (arXiv:2502.03771; tau there) */
double rp_verified_explore_probability(double right_min, double error_max);

#endif
