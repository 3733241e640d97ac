/* test_policy.c - SPECs are read strictly, and the baselines decide as they say.
 *
 * What could go wrong: a mistyped key that is silently ignored (a bound that does not
 * act), a threshold that a caller can loosen, a gate that a hit passes, a candidate
 * that is asked about again after an answer (the driver would loop), saved state that
 * is taken from another policy or from damaged bytes. */
#include "test_support.h"

#include <math.h>
#include <reprise/policy.h>

static rp_policy *
make(const char *spec)
{
    rp_policy *policy = NULL;
    rp_error error = { { 0 } };
    const rp_status status = rp_policy_new(rp_str_of(spec), (double)NAN, &policy, &error);
    if (status != RP_OK)
        print_error("%s: %s\n", spec, error.text);
    assert_int_equal(status, RP_OK);
    return policy;
}

static rp_candidate
candidate(rp_entry_id id, float similarity)
{
    return (rp_candidate){ .id = id, .similarity = similarity, .alignment = 1,
                           .verifier = (float)NAN, .judge = RP_JUDGE_UNASKED };
}

static rp_question
question(const rp_candidate *candidates, size_t count)
{
    return (rp_question){ .candidates = candidates, .count = count, .min_similarity = -1,
                          .error_max = 1 };
}

static rp_decision
decide(rp_policy *policy, const rp_question *asked)
{
    rp_decision decision;
    memset(&decision, 0x5a, sizeof decision);
    rp_policy_decide(policy, asked, 0.5, &decision);
    return decision;
}

static void
test_bad_specs_are_refused_by_name(void **state)
{
    (void)state;
    static const struct {
        const char *spec, *must_say;
    } rows[] = {
        { "", "unknown policy" },
        { "magic", "magic" },
        { "static:treshold=0.9", "treshold" },
        { "static:min_similarity", "key=value" },
        { "static:min_similarity=", "min_similarity" },
        { "static:min_similarity=abc", "abc" },
        { "static:min_similarity=1.5", "[-1, 1]" },
        { "static:min_similarity=nan", "[-1, 1]" },
        { "static:min_similarity=0.9,min_similarity=0.8", "twice" },
        { "static:min_similarity.=0.9", "category" },
        { "static:min_similarity.a=0.9,min_similarity.a=0.8", "twice" },
        { "static:error_max=0", "above 0" },
        { "static:error_max=1", "below 1" },
        { "static:hint_similarity=0.5", "hint_similarity" },
        { "exact:min_similarity=0.5", "min_similarity" },
        { "dual:min_similarity=0.8,hint_similarity=0.9", "above" },
    };
    for (size_t i = 0; i < RP_COUNT(rows); i++) {
        rp_policy *policy = (rp_policy *)0x1;
        rp_error error = { { 0 } };
        const rp_status status
            = rp_policy_new(rp_str_of(rows[i].spec), (double)NAN, &policy, &error);
        if (status == RP_OK || !strstr(error.text, rows[i].must_say))
            print_error("\"%s\": %s\n", rows[i].spec, error.text);
        assert_int_equal(status, RP_ERR_INVALID);
        assert_non_null(strstr(error.text, rows[i].must_say));
        assert_ptr_equal(policy, (rp_policy *)0x1);
    }
    rp_policy *policy = NULL;
    assert_int_equal(rp_policy_new(RP_STR("static"), 2.0, &policy, NULL), RP_ERR_INVALID);
}

static void
test_static_hits_at_its_threshold_and_not_below(void **state)
{
    (void)state;
    rp_policy *policy = make("static");
    rp_candidate near = candidate(7, 0.95f), far = candidate(8, 0.9499f);
    rp_question asked = question(&near, 1);
    rp_decision got = decide(policy, &asked);
    assert_int_equal(got.verdict, RP_HIT);
    assert_int_equal(got.chosen, 0);
    assert_string_equal(got.reason, "similarity");
    assert_true(isnan(got.risk));
    asked = question(&far, 1);
    assert_int_equal(decide(policy, &asked).verdict, RP_MISS);
    asked = question(NULL, 0);
    got = decide(policy, &asked);
    assert_int_equal(got.verdict, RP_MISS);
    assert_string_equal(got.reason, "no-candidate");
    rp_policy_free(policy);
}

static void
test_a_threshold_of_zero_is_a_threshold(void **state)
{
    (void)state;
    rp_policy *policy = make("static:min_similarity=0");
    rp_candidate at = candidate(1, 0.0f), below = candidate(2, -0.01f);
    rp_question asked = question(&at, 1);
    assert_int_equal(decide(policy, &asked).verdict, RP_HIT);
    asked = question(&below, 1);
    assert_int_equal(decide(policy, &asked).verdict, RP_MISS);
    rp_policy_free(policy);
}

static void
test_a_caller_can_only_be_stricter(void **state)
{
    (void)state;
    rp_policy *policy = make("static:min_similarity=0.9");
    rp_candidate one = candidate(1, 0.92f);
    rp_question asked = question(&one, 1);
    asked.min_similarity = 0.95f;
    assert_int_equal(decide(policy, &asked).verdict, RP_MISS);
    asked.min_similarity = 0.5f;
    one.similarity = 0.89f;
    assert_int_equal(decide(policy, &asked).verdict, RP_MISS);
    rp_policy_free(policy);
}

static void
test_a_category_has_its_own_threshold(void **state)
{
    (void)state;
    rp_policy *policy = make("static:min_similarity=0.95,min_similarity.chat=0.8,"
                             "min_similarity.code=0.99");
    rp_candidate one = candidate(1, 0.9f);
    rp_question asked = question(&one, 1);
    assert_int_equal(decide(policy, &asked).verdict, RP_MISS);
    asked.category = RP_STR("chat");
    assert_int_equal(decide(policy, &asked).verdict, RP_HIT);
    asked.category = RP_STR("code");
    one.similarity = 0.98f;
    assert_int_equal(decide(policy, &asked).verdict, RP_MISS);
    rp_policy_free(policy);
}

static void
test_a_gate_bars_a_hit_or_asks(void **state)
{
    (void)state;
    rp_policy *policy = make("static");
    rp_candidate two[2] = { candidate(1, 0.99f), candidate(2, 0.96f) };
    two[0].gates_fired = 1u << RP_GATE_NUMBER;
    rp_question asked = question(two, 1);
    rp_decision got = decide(policy, &asked);
    assert_int_equal(got.verdict, RP_MISS);
    assert_string_equal(got.reason, "gate-number");

    /* The next candidate may still answer. */
    asked.count = 2;
    got = decide(policy, &asked);
    assert_int_equal(got.verdict, RP_HIT);
    assert_int_equal(got.chosen, 1);

    /* A verifier, then a judge, is asked once each, and its word counts. */
    asked.count = 1;
    asked.has_verifier = asked.has_judge = true;
    assert_int_equal(decide(policy, &asked).verdict, RP_NEED_VERIFIER);
    two[0].verifier = 0.95f;
    assert_int_equal(decide(policy, &asked).verdict, RP_HIT);
    two[0].verifier = 0.4f;
    assert_int_equal(decide(policy, &asked).verdict, RP_NEED_JUDGE);
    two[0].judge = RP_JUDGE_YES;
    assert_int_equal(decide(policy, &asked).verdict, RP_HIT);
    two[0].judge = RP_JUDGE_UNSURE;
    assert_int_equal(decide(policy, &asked).verdict, RP_MISS);
    two[0].judge = RP_JUDGE_NO;
    assert_int_equal(decide(policy, &asked).verdict, RP_MISS);

    /* Text that nobody could read or compare is never cleared. */
    two[0] = candidate(1, 0.99f);
    two[0].gates_fired = 1u << RP_GATE_WINDOW;
    two[0].verifier = 1;
    two[0].judge = RP_JUDGE_YES;
    assert_int_equal(decide(policy, &asked).verdict, RP_MISS);
    rp_policy_free(policy);
}

static void
test_exact_never_hits_and_dual_hints(void **state)
{
    (void)state;
    rp_policy *policy = make("exact");
    rp_candidate one = candidate(1, 1.0f);
    rp_question asked = question(&one, 1);
    assert_int_equal(decide(policy, &asked).verdict, RP_MISS);
    rp_policy_free(policy);

    policy = make("dual:min_similarity=0.9,hint_similarity=0.7");
    one.similarity = 0.9f;
    assert_int_equal(decide(policy, &asked).verdict, RP_HIT);
    one.similarity = 0.75f;
    rp_decision got = decide(policy, &asked);
    assert_int_equal(got.verdict, RP_MISS);
    assert_string_equal(got.reason, "hint");
    one.gates_fired = 1u << RP_GATE_NEGATION;
    assert_string_not_equal(decide(policy, &asked).reason, "hint");
    one.gates_fired = 0;
    one.similarity = 0.6f;
    assert_string_not_equal(decide(policy, &asked).reason, "hint");
    rp_policy_free(policy);
}

static void
test_judges_are_asked_in_turn_and_heard(void **state)
{
    (void)state;
    rp_policy *policy = make("judge:judge_min=0.85");
    rp_candidate two[2] = { candidate(1, 0.93f), candidate(2, 0.90f) };
    rp_question asked = question(two, 2);
    assert_int_equal(decide(policy, &asked).verdict, RP_MISS); /* no judge: no hit */
    asked.has_judge = true;
    rp_decision got = decide(policy, &asked);
    assert_int_equal(got.verdict, RP_NEED_JUDGE);
    assert_int_equal(got.chosen, 0);
    two[0].judge = RP_JUDGE_NO;
    got = decide(policy, &asked);
    assert_int_equal(got.verdict, RP_NEED_JUDGE);
    assert_int_equal(got.chosen, 1);
    two[1].judge = RP_JUDGE_YES;
    got = decide(policy, &asked);
    assert_int_equal(got.verdict, RP_HIT);
    assert_int_equal(got.chosen, 1);
    two[1].judge = RP_JUDGE_UNSURE;
    assert_int_equal(decide(policy, &asked).verdict, RP_MISS);
    two[1] = candidate(2, 0.84f);
    assert_int_equal(decide(policy, &asked).verdict, RP_MISS);
    /* A caller's minimum holds for judged candidates too. */
    two[0].judge = RP_JUDGE_YES;
    assert_int_equal(decide(policy, &asked).verdict, RP_HIT);
    asked.min_similarity = 0.95f;
    assert_int_equal(decide(policy, &asked).verdict, RP_MISS);
    rp_policy_free(policy);
}

static void
test_a_cascade_asks_the_large_judge_only_where_the_small_is_unsure(void **state)
{
    (void)state;
    rp_policy *policy = make("cascade:verifier_min=0.9");
    rp_candidate one = candidate(1, 0.9f);
    rp_question asked = question(&one, 1);
    asked.has_judge = asked.has_verifier = true;
    assert_int_equal(decide(policy, &asked).verdict, RP_NEED_VERIFIER);
    one.verifier = 0.95f;
    assert_int_equal(decide(policy, &asked).verdict, RP_HIT);
    one.verifier = 0.05f;
    assert_int_equal(decide(policy, &asked).verdict, RP_MISS);
    one.verifier = 0.5f;
    assert_int_equal(decide(policy, &asked).verdict, RP_NEED_JUDGE);
    one.judge = RP_JUDGE_YES;
    assert_int_equal(decide(policy, &asked).verdict, RP_HIT);
    rp_policy_free(policy);
}

static void
test_krites_never_waits_and_serves_what_was_judged(void **state)
{
    (void)state;
    rp_policy *policy = make("krites:min_similarity=0.95,judge_min=0.8");
    rp_candidate one = candidate(1, 0.9f);
    rp_question asked = question(&one, 1);
    asked.has_judge = true;
    rp_decision got = decide(policy, &asked);
    assert_int_equal(got.verdict, RP_MISS);
    assert_string_equal(got.reason, "grey-zone");
    one.judge = RP_JUDGE_YES;
    assert_int_equal(decide(policy, &asked).verdict, RP_HIT);
    one.judge = RP_JUDGE_NO;
    assert_int_equal(decide(policy, &asked).verdict, RP_MISS);
    one = candidate(1, 0.96f);
    assert_int_equal(decide(policy, &asked).verdict, RP_HIT);
    rp_policy_free(policy);
}

static void
test_every_listed_policy_can_be_made_saved_and_restored(void **state)
{
    (void)state;
    const char *name, *summary;
    for (size_t i = 0; (name = rp_policy_list(i, &summary)); i++) {
        assert_true(strlen(summary) > 4);
        rp_policy *policy = make(name), *other = make(name);
        assert_str_equal(rp_policy_name(policy), rp_str_of(name));
        char *bytes = NULL;
        size_t len = 0;
        rp_error error = { { 0 } };
        assert_int_equal(rp_policy_save(policy, &bytes, &len), RP_OK);
        const rp_str saved = { rp_test_guarded(bytes, len), len };
        assert_int_equal(rp_policy_restore(other, saved, &error), RP_OK);
        for (size_t cut = 0; cut < len; cut++)
            assert_int_equal(rp_policy_restore(other, (rp_str){ rp_test_guarded(bytes, cut), cut },
                                               &error),
                             RP_ERR_CORRUPT);
        char *damaged = malloc(len);
        for (size_t bit = 0; bit < len * 8 && bit < 4096; bit++) {
            memcpy(damaged, bytes, len);
            damaged[bit / 8] ^= (char)(1u << bit % 8);
            assert_int_not_equal(rp_policy_restore(other, (rp_str){ damaged, len }, &error), RP_OK);
        }
        free(damaged);
        free(bytes);
        rp_policy_free(policy);
        rp_policy_free(other);
    }
}

static void
test_state_of_another_policy_is_refused(void **state)
{
    (void)state;
    rp_policy *policy = make("static"), *other = make("dual");
    char *bytes = NULL;
    size_t len = 0;
    assert_int_equal(rp_policy_save(policy, &bytes, &len), RP_OK);
    assert_int_equal(rp_policy_restore(other, (rp_str){ bytes, len }, NULL), RP_ERR_INVALID);
    free(bytes);
    rp_policy_free(policy);
    rp_policy_free(other);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bad_specs_are_refused_by_name),
        cmocka_unit_test(test_static_hits_at_its_threshold_and_not_below),
        cmocka_unit_test(test_a_threshold_of_zero_is_a_threshold),
        cmocka_unit_test(test_a_caller_can_only_be_stricter),
        cmocka_unit_test(test_a_category_has_its_own_threshold),
        cmocka_unit_test(test_a_gate_bars_a_hit_or_asks),
        cmocka_unit_test(test_exact_never_hits_and_dual_hints),
        cmocka_unit_test(test_judges_are_asked_in_turn_and_heard),
        cmocka_unit_test(test_a_cascade_asks_the_large_judge_only_where_the_small_is_unsure),
        cmocka_unit_test(test_krites_never_waits_and_serves_what_was_judged),
        cmocka_unit_test(test_every_listed_policy_can_be_made_saved_and_restored),
        cmocka_unit_test(test_state_of_another_policy_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
