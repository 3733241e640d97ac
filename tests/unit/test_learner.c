/* test_learner.c - what a stratum learns about its hits.
 *
 * What could go wrong: most outcomes are hopeless misses and bend the curve where hits are
 * decided; a candidate all neighbors stand behind is taken for one that most stand behind;
 * misses just below the cut keep the correction of hits up that are right more often than
 * expected, or hits that are wrong more often than expected leave it down; a burst of wrong
 * hits goes unseen because few hits are explored. Learners are fed
 * drawn outcomes of known truth (fixed seeds), and what they say is compared with it. */
#include "base/random.h"
#include "policy/learner.h"
#include "test_support.h"

#include <math.h>
#include <stdlib.h>

static const rp_learner_bounds bounds = { .error_max = 0.01, .hit_error_max = 1 };

static rp_learner *
new_learner(void)
{
    rp_learner *learner = malloc(sizeof *learner);
    assert_non_null(learner);
    rp_learner_init(learner);
    return learner;
}

static double
risk_of(const rp_learner *learner, float similarity, float agreement)
{
    const rp_evidence evidence = rp_evidence_of_similarity(similarity, agreement);
    return rp_learner_risk(learner, &evidence, 0, 0, 0);
}

static void
learn(rp_learner *learner, float similarity, float agreement, bool right, bool explored)
{
    const rp_labelled labelled
        = { .evidence = rp_evidence_of_similarity(similarity, agreement), .right = right };
    rp_learner_learn(learner, &labelled, risk_of(learner, similarity, agreement), explored, NULL,
                     &bounds);
}

/* Nine outcomes of ten lie at .5 to .8, right once in ten whatever their similarity: no
 * logistic curve. Above .8 they are right by one: a steep one around .85. */
static void
test_hopeless_misses_do_not_bend_the_curve_of_hits(void **state)
{
    rp_learner *learner = new_learner();
    rp_random random;
    (void)state;
    rp_random_init(&random, 11);
    for (int i = 0; i < 4000; i++) {
        const bool hopeless = rp_random_uniform(&random) < 0.9;
        const double similarity = hopeless ? 0.5 + 0.3 * rp_random_uniform(&random)
                                           : 0.8 + 0.2 * rp_random_uniform(&random);
        const double chance = hopeless ? 0.1 : 1 / (1 + exp(-40 * (similarity - 0.85)));
        learn(learner, (float)similarity, 0, rp_random_uniform(&random) < chance, false);
    }
    double said = 0, true_risk = 0;
    for (double similarity = 0.9; similarity < 0.96; similarity += 0.005) {
        said += risk_of(learner, (float)similarity, 0);
        true_risk += 1 / (1 + exp(40 * (similarity - 0.85)));
    }
    print_message("risk said %.3f, true %.3f\n", said / 12, true_risk / 12);
    /* If all outcomes counted alike, nine times the truth; no logistic curve gets it all. */
    assert_true(said < 4 * true_risk);
    assert_true(said > 0.6 * true_risk);
    free(learner);
}

/* Right in 60 to 90 of 100 cases as agreement rises to .9; in 99 where nobody dissents. */
static void
test_unanimity_is_worth_more_than_a_large_majority(void **state)
{
    rp_learner *learner = new_learner();
    rp_random random;
    (void)state;
    rp_random_init(&random, 12);
    for (int i = 0; i < 3000; i++) {
        const bool unanimous = rp_random_uniform(&random) < 0.4;
        const double agreement = unanimous ? 1 : 0.9 * rp_random_uniform(&random);
        const double chance = unanimous ? 0.99 : 0.6 + agreement / 3;
        learn(learner, 0.9f, (float)agreement, rp_random_uniform(&random) < chance, false);
    }
    const double most = risk_of(learner, 0.9f, 0.85f), all = risk_of(learner, 0.9f, 1);
    print_message("risk at agreement .85 %.3f, at 1 %.3f\n", most, all);
    assert_true(all < 0.04); /* a straight line in agreement says .055 */
    assert_true(most > 0.08);
    free(learner);
}

/* Explored hits of which one in ten is expected to be wrong and one in `every` is; misses
 * below the cut are wrong as often as expected. */
static double
inflation_after(int explored, int every)
{
    rp_learner *learner = new_learner();
    const rp_labelled right = { .evidence = rp_evidence_of_similarity(0.95f, 1), .right = true };
    const rp_labelled wrong = { .evidence = right.evidence };
    const rp_asked asked = { .evidence = right.evidence, .eligible = true };
    for (int i = 0; i < 100; i++)
        rp_learner_learn(learner, i % 10 ? &right : &wrong, 0.1, false, NULL, &bounds);
    for (int i = 1; i <= explored; i++)
        rp_learner_learn(learner, every && i % every == 0 ? &wrong : &right, 0.1, true, NULL, &bounds);
    for (int i = 0; i < 32; i++)
        rp_learner_ask(learner, &asked, &bounds);
    const double inflation = learner->inflation;
    free(learner);
    return inflation;
}

static void
test_explored_hits_correct_the_estimate_both_ways(void **state)
{
    (void)state;
    const double unknown = inflation_after(0, 0), right = inflation_after(300, 0),
                 as_expected = inflation_after(300, 10), wrong = inflation_after(300, 6);
    print_message("unknown %.2f, right %.2f, as expected %.2f, wrong %.2f\n", unknown, right,
                  as_expected, wrong);
    assert_true(unknown > 1.05); /* cautious before anything was seen */
    assert_true(right < 0.75);   /* whatever misses below the cut are like */
    assert_true(as_expected > 0.95 && as_expected < 1.4);
    assert_true(wrong > 1.3);
}

/* After 300 explored hits, all right, wrong ones follow each other. */
static void
test_a_burst_of_wrong_hits_is_looked_at_and_stopped(void **state)
{
    rp_learner *learner = new_learner();
    const rp_labelled right = { .evidence = rp_evidence_of_similarity(0.95f, 1), .right = true };
    const rp_labelled wrong = { .evidence = right.evidence };
    (void)state;
    for (int i = 0; i < 300; i++)
        rp_learner_learn(learner, &right, 0.04, true, NULL, &bounds);
    const double calm = rp_learner_explore_share(learner, 0.05);
    rp_learner_learn(learner, &wrong, 0.04, true, NULL, &bounds);
    assert_true(rp_learner_explore_share(learner, 0.05) == calm); /* one is no burst */
    rp_learner_learn(learner, &wrong, 0.04, true, NULL, &bounds);
    assert_true(calm < 0.06);
    assert_true(rp_learner_explore_share(learner, 0.05) > 0.35);
    int more = 0;
    for (; !learner->pause && more < 20; more++)
        rp_learner_learn(learner, &wrong, 0.04, true, NULL, &bounds);
    print_message("share %.2f, stopped after %d more\n", calm, more);
    assert_in_range(more, 1, 4); /* by the sums of all explored hits it would be a dozen */
    for (int i = 0; i < 20; i++)
        rp_learner_learn(learner, &right, 0.04, true, NULL, &bounds);
    assert_true(rp_learner_explore_share(learner, 0.05) < 0.2);
    free(learner);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_hopeless_misses_do_not_bend_the_curve_of_hits),
        cmocka_unit_test(test_unanimity_is_worth_more_than_a_large_majority),
        cmocka_unit_test(test_explored_hits_correct_the_estimate_both_ways),
        cmocka_unit_test(test_a_burst_of_wrong_hits_is_looked_at_and_stopped),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
