/* test_verified.c - vCache as published, against numbers of the official code.
 *
 * What could go wrong: a fit that misses the unique maximum (cases C, D, F, H of the
 * reference vectors: 1e-3), an exploration probability that differs where data separate
 * (only the decision can agree there, for the slope diverges), a first hit before four
 * labels, a similarity that is not rounded, an insertion rule that keeps every prompt,
 * an entry's state that outgrows its bytes or survives its entry. */
#include "base/random.h"
#include "policy/observations.h"
#include "policy/verified.h"
#include "test_support.h"

#include <math.h>
#include <reprise/policy.h>

typedef struct vector {
    const char *observations; /* "+.90 -.85", without the two pseudo ones */
    double threshold, slope, variance;
    double threshold_within, slope_within; /* relative, slope */
} vector;

static size_t
read_points(const char *text, rp_point *out, size_t *total)
{
    size_t count = 0;
    out[count++] = (rp_point){ 0, 1, false };
    out[count++] = (rp_point){ 1, 1, true };
    for (rp_str rest = rp_str_of(text); rest.len;) {
        const rp_str word = rp_str_split(&rest, ' ');
        double x;
        assert_true(rp_str_to_double((rp_str){ word.ptr + 1, word.len - 1 }, &x));
        out[count++] = (rp_point){ x, 1, word.ptr[0] == '+' };
    }
    *total = count;
    return count;
}

static const char case_c[] = "+0.90 -0.85 +0.80 -0.75";
static const char case_d[] = "+0.95 +0.93 -0.91 +0.90 +0.88 -0.86 +0.84 -0.82 -0.80 -0.78";
static const char case_f[]
    = "+0.850 +0.855 +0.860 +0.865 +0.870 +0.875 +0.880 +0.885 +0.890 +0.895 +0.900 +0.905 +0.910 "
      "+0.915 +0.920 +0.925 +0.930 +0.935 +0.940 +0.945 +0.950 +0.955 +0.960 +0.965 -0.84 -0.86 "
      "-0.82 -0.80";
static const char case_h[] = "-0.95 -0.93 -0.94 +0.80 +0.82 +0.85";

static void
test_fits_equal_the_reference(void **state)
{
    (void)state;
    static const vector rows[] = {
        { case_c, .823, 20.438, .003084, 1e-3, 1e-3 },
        { case_d, .868, 31.635, .000652, 1e-3, 1e-3 },
        { case_f, .849, 152.406, .000054, 1e-3, 1e-3 },
        { case_h, .804, 2.084, .125873, 1e-3, 1e-3 },
    };
    for (size_t i = 0; i < RP_COUNT(rows); i++) {
        rp_point points[64];
        size_t total;
        const size_t count = read_points(rows[i].observations, points, &total);
        const rp_verified_fit fit = rp_verified_fit_points(points, count, total);
        if (fabs(fit.threshold - rows[i].threshold) > 1e-3
            || fabs(fit.slope - rows[i].slope) > 1e-3 * rows[i].slope
            || fabs(fit.variance - rows[i].variance) > 1e-3)
            print_error("case %zu: t %.4f g %.4f var %.6f\n", i, fit.threshold, fit.slope,
                        fit.variance);
        assert_true(fit.is_fitted);
        assert_true(fabs(fit.threshold - rows[i].threshold) <= 1e-3);
        assert_true(fabs(fit.slope - rows[i].slope) <= 1e-3 * rows[i].slope);
        assert_true(fabs(fit.variance - rows[i].variance) <= 1e-6 + 1e-3 * rows[i].variance);
    }
}

static double
explore(const char *text, double similarity, double error_max)
{
    rp_point points[256];
    size_t total;
    const size_t count = read_points(text, points, &total);
    const rp_verified_fit fit = rp_verified_fit_points(points, count, total);
    return rp_verified_explore(&fit, similarity, error_max);
}

static void
test_exploration_equals_the_reference(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        double similarity, error_max, tau;
    } rows[] = {
        { case_c, .90, .01, .97914 }, { case_c, 1, .01, .94658 },  { case_c, .90, .05, .89569 },
        { case_c, 1, .05, .73288 },   { case_d, .95, .01, .96058 }, { case_d, .95, .05, .80288 },
        { case_f, .90, .01, .59089 }, { case_f, .90, .05, -1.04557 },
    };
    for (size_t i = 0; i < RP_COUNT(rows); i++) {
        const double tau = explore(rows[i].text, rows[i].similarity, rows[i].error_max);
        if (fabs(tau - rows[i].tau) > 1e-3)
            print_error("row %zu: tau %.5f, reference %.5f\n", i, tau, rows[i].tau);
        assert_true(fabs(tau - rows[i].tau) <= 1e-3);
    }
}

/* Where a threshold separates the labels only the decision can agree: always explore,
 * explore at times (within .02 of the share), or always hit. */
static void
test_separable_decisions_equal_the_reference(void **state)
{
    (void)state;
    char many[47 * 6 + 1] = "", several[29 * 6 + 1] = "";
    for (int i = 0; i < 47; i++)
        strcat(many, i ? " +0.90" : "+0.90");
    for (int i = 0; i < 29; i++)
        strcat(several, i ? " +0.90" : "+0.90");
    static const char a[] = "+0.90 +0.92 +0.95 +0.91", b[] = "+0.90 +0.95 -0.80 -0.70";
    static const char e[] = "+0.90 +0.90 +0.90 +0.90 +0.90 +0.90 +0.90 +0.90";
    const struct {
        const char *text;
        double similarity, error_max, tau;
    } rows[] = {
        { a, .90, .01, .77968 }, { a, 1, .01, .52728 }, { a, .90, .05, -.10160 },
        { a, 1, .05, -1.36358 }, { b, .95, .01, .96982 }, { b, .95, .05, .84909 },
        { e, .90, .01, .51476 }, { e, .90, .05, -1.42618 }, { several, .90, .01, -20.747 },
        { several, .90, .05, -107.7 }, { many, .90, .01, .51039 }, { many, .90, .05, -1.44807 },
    };
    for (size_t i = 0; i < RP_COUNT(rows); i++) {
        const double tau = explore(rows[i].text, rows[i].similarity, rows[i].error_max);
        const double got = fmax(0, tau), want = fmax(0, rows[i].tau);
        if (fabs(got - want) > 0.02)
            print_error("row %zu: tau %.5f, reference %.5f\n", i, tau, rows[i].tau);
        assert_true(fabs(got - want) <= 0.02);
    }
}

static rp_policy *
make(const char *spec)
{
    rp_policy *policy = NULL;
    rp_error error = { { 0 } };
    if (rp_policy_new(rp_str_of(spec), (double)NAN, &policy, &error) != RP_OK)
        print_error("%s\n", error.text);
    assert_non_null(policy);
    return policy;
}

static rp_decision
ask(rp_policy *policy, rp_entry_id id, float similarity, double random01)
{
    const rp_candidate candidate = { .id = id, .similarity = similarity, .alignment = 1,
                                     .verifier = (float)NAN, .judge = RP_JUDGE_UNASKED };
    const rp_question question = { .candidates = &candidate, .count = 1, .min_similarity = -1,
                                   .error_max = 1 };
    rp_decision decision;
    rp_policy_decide(policy, &question, random01, &decision);
    return decision;
}

static void
tell(rp_policy *policy, rp_entry_id id, float similarity, bool right)
{
    const rp_outcome outcome = { .candidate = { .id = id, .similarity = similarity },
                                 .right = right, .source = RP_OUTCOME_MISS, .probability = 1 };
    rp_policy_observe(policy, &outcome);
}

/* The behaviour of the official integration test: five misses, then hits. */
static void
test_four_labels_come_before_the_first_hit(void **state)
{
    (void)state;
    rp_policy *policy = make("verified:error_max=0.05");
    for (int i = 0; i < 4; i++) {
        const rp_decision got = ask(policy, 9, 0.9f, 0.999);
        assert_int_equal(got.verdict, RP_MISS);
        assert_int_equal(got.keep, RP_KEEP_IF_NEIGHBOR_WRONG);
        assert_true(got.explore_probability == 1);
        tell(policy, 9, 0.9f, true);
    }
    assert_int_equal(ask(policy, 9, 0.9f, 0.999).verdict, RP_HIT);
    /* Another entry knows nothing of it; a forgotten one neither. */
    assert_int_equal(ask(policy, 10, 0.9f, 0.999).verdict, RP_MISS);
    rp_policy_forget(policy, 9);
    assert_int_equal(ask(policy, 9, 0.9f, 0.999).verdict, RP_MISS);
    rp_policy_free(policy);
}

static void
test_the_draw_decides_and_is_stated(void **state)
{
    (void)state;
    rp_policy *policy = make("verified:error_max=0.01");
    const float s[] = { .90f, .92f, .95f, .91f };
    for (int i = 0; i < 4; i++)
        tell(policy, 1, s[i], true);
    const double tau = ask(policy, 1, 0.9f, 0.5).explore_probability;
    assert_true(tau > 0.75 && tau < 0.81);
    assert_int_equal(ask(policy, 1, 0.9f, tau - 0.001).verdict, RP_MISS);
    assert_int_equal(ask(policy, 1, 0.9f, tau + 0.001).verdict, RP_HIT);
    /* Similarities are rounded to three decimals. */
    assert_true(ask(policy, 1, 0.90049f, 0.5).explore_probability == tau);
    rp_policy_free(policy);
}

static void
test_the_variants_follow_their_rules(void **state)
{
    (void)state;
    rp_policy *global = make("verified-global:error_max=0.05");
    rp_policy *sigmoid = make("verified-sigmoid");
    rp_policy *probability = make("verified-sigmoid-probability:error_max=0.02");
    rp_policy *iid = make("verified-iid:error_max=0.05");
    rp_policy *all[] = { global, sigmoid, probability, iid };
    for (size_t p = 0; p < RP_COUNT(all); p++) {
        assert_int_equal(ask(all[p], 1, 0.99f, 0.999).verdict, RP_MISS);
        for (int i = 0; i < 120; i++) {
            tell(all[p], 1, 0.90f + 0.002f * (float)(i % 40), true);
            tell(all[p], 1, 0.80f - 0.002f * (float)(i % 40), false);
        }
    }
    assert_int_equal(ask(global, 77, 0.99f, 0.999).verdict, RP_HIT); /* learned from entry 1 */
    assert_int_equal(ask(sigmoid, 1, 0.90f, 0).verdict, RP_HIT);
    assert_int_equal(ask(sigmoid, 1, 0.70f, 0).verdict, RP_MISS);
    assert_int_equal(ask(probability, 1, 0.97f, 0).verdict, RP_HIT);
    assert_int_equal(ask(probability, 1, 0.845f, 0).verdict, RP_MISS);
    assert_int_equal(ask(iid, 1, 0.95f, 0).verdict, RP_HIT);
    assert_int_equal(ask(iid, 1, 0.75f, 0).verdict, RP_MISS);
    for (size_t p = 0; p < RP_COUNT(all); p++)
        rp_policy_free(all[p]);
}

static void
test_decisions_survive_save_and_restore(void **state)
{
    (void)state;
    static const char *const specs[]
        = { "verified", "verified-global", "verified-iid", "verified-sigmoid" };
    for (size_t s = 0; s < RP_COUNT(specs); s++) {
        rp_policy *policy = make(specs[s]), *other = make(specs[s]);
        rp_random random;
        rp_random_init(&random, 5);
        for (int i = 0; i < 2000; i++)
            tell(policy, 1 + rp_random_below(&random, 100),
                 (float)(0.6 + 0.4 * rp_random_uniform(&random)), rp_random_uniform(&random) < 0.8);
        char *bytes = NULL;
        size_t len = 0;
        assert_int_equal(rp_policy_save(policy, &bytes, &len), RP_OK);
        assert_int_equal(rp_policy_restore(other, (rp_str){ bytes, len }, NULL), RP_OK);
        for (int i = 0; i < 500; i++) {
            const rp_entry_id id = 1 + rp_random_below(&random, 110);
            const float similarity = (float)(0.6 + 0.4 * rp_random_uniform(&random));
            const rp_decision a = ask(policy, id, similarity, 0.5);
            const rp_decision b = ask(other, id, similarity, 0.5);
            assert_int_equal(a.verdict, b.verdict);
            assert_true(a.explore_probability == b.explore_probability);
        }
        free(bytes);
        rp_policy_free(policy);
        rp_policy_free(other);
    }
}

/* A model of the table that keeps everything, against the table. */
static void
test_observations_are_counted_bounded_and_forgotten(void **state)
{
    (void)state;
    rp_observation_table table;
    rp_random random;
    enum { ENTRIES = 3000 };
    static unsigned expected[ENTRIES + 1][2];
    memset(expected, 0, sizeof expected);
    rp_observations_init(&table);
    rp_random_init(&random, 11);
    for (int i = 0; i < 60000; i++) {
        const rp_entry_id id = 1 + rp_random_below(&random, ENTRIES);
        if (rp_random_below(&random, 40) == 0) {
            rp_observations_forget(&table, id);
            expected[id][0] = expected[id][1] = 0;
            continue;
        }
        const bool right = rp_random_below(&random, 2);
        assert_true(rp_observations_add(&table, id, rp_random_uniform(&random), right));
        expected[id][right]++;
    }
    size_t held = 0;
    for (rp_entry_id id = 1; id <= ENTRIES; id++) {
        rp_observation got[RP_OBSERVATIONS_MAX];
        unsigned counted[2] = { 0 };
        const size_t count = rp_observations_get(&table, id, got);
        for (size_t i = 0; i < count; i++)
            counted[got[i].right] += got[i].count;
        assert_int_equal(counted[0], expected[id][0]);
        assert_int_equal(counted[1], expected[id][1]);
        held += count > 0;
    }
    assert_int_equal(held, table.slots.count);
    print_message("%.1f bytes an entry\n",
                  (double)rp_observations_size_bytes(&table) / (double)held);
    assert_true(rp_observations_size_bytes(&table) <= 100 * held);
    rp_observations_fini(&table);
}

static void
test_quantiles_are_right(void **state)
{
    (void)state;
    /* Oracle: erfc. */
    for (double p = 1e-9; p < 1; p += 0.0137)
        assert_true(fabs(0.5 * erfc(-rp_normal_quantile(p) * M_SQRT1_2) - p) < 1e-12);
    assert_true(fabs(rp_normal_quantile(0.975) - 1.959963984540054) < 1e-9);
    /* Chi-square tables: 0 seen -> 2.996 at 95 %; 10 seen -> 16.96. */
    assert_true(fabs(rp_poisson_upper(0, 0.95) - 2.996) < 0.05);
    assert_true(fabs(rp_poisson_upper(10, 0.95) - 16.96) < 0.05);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_fits_equal_the_reference),
        cmocka_unit_test(test_exploration_equals_the_reference),
        cmocka_unit_test(test_separable_decisions_equal_the_reference),
        cmocka_unit_test(test_four_labels_come_before_the_first_hit),
        cmocka_unit_test(test_the_draw_decides_and_is_stated),
        cmocka_unit_test(test_the_variants_follow_their_rules),
        cmocka_unit_test(test_decisions_survive_save_and_restore),
        cmocka_unit_test(test_observations_are_counted_bounded_and_forgotten),
        cmocka_unit_test(test_quantiles_are_right),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
