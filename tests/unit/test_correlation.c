/* test_correlation.c - Pearson and Spearman are what their definitions say.
 *
 * What could go wrong: ties ranked by their place, weights that are not repeated rows, a
 * sum that loses digits, a bootstrap that leaves weights behind. The oracle of ranks counts
 * for each value how many are smaller and equal; the oracle of weights repeats rows. */
#include "base/random.h"
#include "eval/correlation.h"
#include "test_support.h"

#include <math.h>

enum { ROWS = 200 };

static void
fill(rp_graded *rows, size_t count, uint64_t seed)
{
    rp_random random;
    rp_random_init(&random, seed);
    for (size_t i = 0; i < count; i++) {
        const double grade = (double)rp_random_below(&random, 11) / 2; /* many ties */
        rows[i] = (rp_graded){ floor((grade + 2 * rp_random_normal(&random)) * 4) / 4, grade, 1,
                               (uint32_t)(i / 3) };
    }
}

static double
plain_pearson(const double *x, const double *y, size_t n)
{
    double mx = 0, my = 0, xx = 0, yy = 0, xy = 0;
    for (size_t i = 0; i < n; i++) {
        mx += x[i] / (double)n;
        my += y[i] / (double)n;
    }
    for (size_t i = 0; i < n; i++) {
        xx += (x[i] - mx) * (x[i] - mx);
        yy += (y[i] - my) * (y[i] - my);
        xy += (x[i] - mx) * (y[i] - my);
    }
    return xy / sqrt(xx * yy);
}

static double
plain_rank(const double *x, size_t n, size_t at)
{
    double smaller = 0, equal = 0;
    for (size_t i = 0; i < n; i++) {
        smaller += x[i] < x[at];
        equal += x[i] == x[at];
    }
    return smaller + (equal + 1) / 2;
}

static rp_correlation
plain(const double *x, const double *y, size_t n)
{
    double p[3 * ROWS], q[3 * ROWS];
    for (size_t i = 0; i < n; i++) {
        p[i] = plain_rank(x, n, i);
        q[i] = plain_rank(y, n, i);
    }
    return (rp_correlation){ .pearson = plain_pearson(x, y, n), .spearman = plain_pearson(p, q, n) };
}

static void
test_the_definitions_with_ties_and_weights(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 20; seed++) {
        rp_graded rows[ROWS];
        double x[3 * ROWS], y[3 * ROWS];
        size_t n = 0;
        fill(rows, ROWS, seed);
        for (size_t i = 0; i < ROWS; i++) {
            rows[i].weight = seed == 1 ? 1 : (double)((i * 7 + seed) % 4 % 3);
            for (int k = 0; k < (int)rows[i].weight; k++) {
                x[n] = rows[i].score;
                y[n++] = rows[i].grade;
            }
        }
        rp_correlation got;
        assert_int_equal(rp_correlate_weighted(rows, ROWS, &got), RP_OK);
        const rp_correlation want = plain(x, y, n);
        assert_true(fabs(got.pearson - want.pearson) < 1e-12);
        assert_true(fabs(got.spearman - want.spearman) < 1e-12);
    }
}

/* Values of the textbook example with ties: ranks 1, 2.5, 2.5, 4 against 1, 2, 3.5, 3.5. */
static void
test_known_values(void **state)
{
    (void)state;
    rp_graded rows[] = { { 10, 0, 1, 0 }, { 20, 1, 1, 1 }, { 20, 5, 1, 2 }, { 1000, 5, 1, 3 } };
    rp_correlation got;
    assert_int_equal(rp_correlate(rows, 4, 4, 0, 1, &got), RP_OK);
    assert_true(fabs(got.spearman - 3.75 / 4.5) < 1e-12);
    assert_true(isnan(got.spearman_95.low));
    for (size_t i = 0; i < 4; i++)
        rows[i].grade = -rows[i].score;
    assert_int_equal(rp_correlate(rows, 4, 4, 0, 1, &got), RP_OK);
    assert_true(fabs(got.pearson + 1) < 1e-12 && fabs(got.spearman + 1) < 1e-12);
    for (size_t i = 0; i < 4; i++)
        rows[i].grade = 3;
    assert_int_equal(rp_correlate(rows, 4, 4, 10, 1, &got), RP_OK);
    assert_true(isnan(got.pearson) && isnan(got.spearman) && isnan(got.pearson_95.low));
    assert_int_equal(rp_correlate(rows, 0, 0, 10, 1, &got), RP_OK);
    assert_true(isnan(got.pearson));
}

/* The seed is fixed: the figure lies in its interval, the interval is not empty, groups that
 * are drawn together make it wider than single rows, and weights are 1 again. */
static void
test_the_bootstrap_draws_groups(void **state)
{
    (void)state;
    rp_graded rows[ROWS];
    rp_correlation alone, grouped;
    fill(rows, ROWS, 4);
    for (size_t i = 0; i < ROWS; i++) {
        rows[i] = rows[i / 10 * 10]; /* ten equal rows */
        rows[i].group = (uint32_t)i;
    }
    assert_int_equal(rp_correlate(rows, ROWS, ROWS, 400, 5, &alone), RP_OK);
    for (size_t i = 0; i < ROWS; i++) {
        assert_true(rows[i].weight == 1);
        rows[i].group = (uint32_t)(i / 10);
    }
    assert_int_equal(rp_correlate(rows, ROWS, ROWS / 10, 400, 5, &grouped), RP_OK);
    assert_true(alone.spearman == grouped.spearman);
    assert_true(grouped.spearman_95.low < grouped.spearman && grouped.spearman < grouped.spearman_95.high);
    const double narrow = alone.pearson_95.high - alone.pearson_95.low;
    const double wide = grouped.pearson_95.high - grouped.pearson_95.low;
    assert_true(narrow > 0 && wide > 2 * narrow); /* sqrt(10) on average */
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_definitions_with_ties_and_weights),
        cmocka_unit_test(test_known_values),
        cmocka_unit_test(test_the_bootstrap_draws_groups),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
