/* logistic.c - the fits of logistic.h. */
#include "logistic.h"

#include <math.h>

enum { STEPS_MAX = 100, HALVINGS_MAX = 30 };
static const double GRADIENT_MAX = 1e-8; /* vCache's tolerance */

double
rp_logistic(double x)
{
    return x >= 0 ? 1 / (1 + exp(-x)) : exp(x) / (1 + exp(x));
}

/* log(1 + exp(x)) without overflow. */
static double
softplus(double x)
{
    return x > 0 ? x + log1p(exp(-x)) : log1p(exp(x));
}

typedef struct derivatives {
    double loss, g0, g1;      /* gradient */
    double h00, h01, h11;     /* Hessian */
} derivatives;

static derivatives
derive(const rp_point *points, size_t count, const rp_curve_prior *prior, double b0, double b1)
{
    derivatives d = { 0 };
    for (size_t i = 0; i < count; i++) {
        const double x = points[i].x, w = points[i].weight, z = b0 + b1 * x;
        const double p = rp_logistic(z), q = rp_logistic(-z);
        const double residual = points[i].right ? -q : p; /* p - label, without cancellation */
        d.loss += w * softplus(points[i].right ? -z : z);
        d.g0 += w * residual;
        d.g1 += w * residual * x;
        d.h00 += w * p * q;
        d.h01 += w * p * q * x;
        d.h11 += w * p * q * x * x;
    }
    if (prior) {
        const double e0 = b0 - prior->intercept, e1 = b1 - prior->slope;
        d.loss += 0.5 * (prior->precision_intercept * e0 * e0 + prior->precision_slope * e1 * e1);
        d.g0 += prior->precision_intercept * e0;
        d.g1 += prior->precision_slope * e1;
        d.h00 += prior->precision_intercept;
        d.h11 += prior->precision_slope;
    }
    return d;
}

rp_curve
rp_logistic_fit(const rp_point *points, size_t count, const rp_curve_prior *prior)
{
    double b0 = prior ? prior->intercept : 0, b1 = prior ? prior->slope : 0;
    derivatives d = derive(points, count, prior, b0, b1);
    for (int step = 0; step < STEPS_MAX && fmax(fabs(d.g0), fabs(d.g1)) > GRADIENT_MAX; step++) {
        const double det = d.h00 * d.h11 - d.h01 * d.h01;
        if (!(det > 0))
            break;
        const double s0 = (d.h11 * d.g0 - d.h01 * d.g1) / det;
        const double s1 = (d.h00 * d.g1 - d.h01 * d.g0) / det;
        double scale = 1;
        derivatives next = d;
        int halving = 0;
        for (; halving < HALVINGS_MAX; halving++, scale /= 2) {
            next = derive(points, count, prior, b0 - scale * s0, b1 - scale * s1);
            if (next.loss <= d.loss)
                break;
        }
        if (halving == HALVINGS_MAX)
            break;
        b0 -= scale * s0;
        b1 -= scale * s1;
        d = next;
    }
    const double det = d.h00 * d.h11 - d.h01 * d.h01;
    rp_curve curve = { .intercept = b0, .slope = b1 };
    curve.is_fitted = isfinite(b0) && isfinite(b1) && det > 0;
    if (curve.is_fitted) {
        curve.var_intercept = d.h11 / det;
        curve.var_slope = d.h00 / det;
        curve.cov = -d.h01 / det;
    }
    return curve;
}

double
rp_normal_quantile(double p)
{
    /* Start from a rational guess (Abramowitz and Stegun 26.2.23, error 4.5e-4), then
     * two Halley steps on erfc, each of which triples the digits. */
    if (!(p > 0))
        return -INFINITY;
    if (!(p < 1))
        return INFINITY;
    const double tail = p < 0.5 ? p : 1 - p;
    const double t = sqrt(-2 * log(tail));
    double x = t - (2.515517 + 0.802853 * t + 0.010328 * t * t)
                       / (1 + 1.432788 * t + 0.189269 * t * t + 0.001308 * t * t * t);
    x = -x; /* the quantile of `tail`, below 0 */
    for (int i = 0; i < 2; i++) {
        const double error = 0.5 * erfc(-x * M_SQRT1_2) - tail;
        const double u = error * sqrt(2 * M_PI) * exp(x * x / 2);
        x -= u / (1 + x * u / 2);
    }
    return p < 0.5 ? x : -x;
}

double
rp_poisson_upper(double count, double confidence)
{
    /* Half a chi-square quantile of 2 (count + 1) degrees of freedom. */
    const double k = count + 1, z = rp_normal_quantile(confidence);
    const double c = 1 - 1 / (9 * k) + z / (3 * sqrt(k));
    return k * c * c * c;
}
