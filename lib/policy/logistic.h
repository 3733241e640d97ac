/* logistic.h - small fits: a logistic curve of one variable, normal quantiles.
 *
 * Threads: pure functions. */
#ifndef RP_POLICY_LOGISTIC_H
#define RP_POLICY_LOGISTIC_H

#include <stdbool.h>
#include <stddef.h>

/* `count` equal observations of x with label 1 (right) or 0. */
typedef struct rp_point {
    double x;
    double weight;
    bool right;
} rp_point;

/* P(right | x) = 1 / (1 + exp(-(intercept + slope * x))). */
typedef struct rp_curve {
    double intercept, slope;
    /* Inverse of the information matrix at the fit: the covariance of both. */
    double var_intercept, var_slope, cov;
    bool is_fitted; /* false: the information was singular, or nothing converged */
} rp_curve;

/* Maximum likelihood by Newton steps with halving, until no gradient exceeds 1e-8 (as
 * vCache's L-BFGS does) or 100 steps. Data that a threshold separates have no maximum:
 * then the slope is where the gradient vanished, and only its sign means something.
 * `prior` adds a Gaussian penalty (mean and precision of slope and intercept); NULL: none. */
typedef struct rp_curve_prior {
    double intercept, slope;
    double precision_intercept, precision_slope;
} rp_curve_prior;
rp_curve rp_logistic_fit(const rp_point *points, size_t count, const rp_curve_prior *prior);

double rp_logistic(double x);
/* The standard normal quantile, |error| < 1e-9 for p in [1e-12, 1 - 1e-12]. */
double rp_normal_quantile(double p);
/* Upper limit of the mean of a Poisson variable of which `count` were seen, at
 * `confidence`, by the Wilson-Hilferty approximation (within 1 % for count >= 0). */
double rp_poisson_upper(double count, double confidence);

#endif
