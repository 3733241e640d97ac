/* test_links.c - groups of entries that share an answer, and what policies make of them.
 *
 * What could go wrong: two entries called of one answer that nobody linked (wrong hits),
 * groups that fall apart when the table grows or an entry goes, a table that grows
 * without bound, damaged bytes that make a lookup run for ever, and an agreement that is
 * computed but moves no decision. The groups are compared with those of a plain array. */
#include "base/random.h"
#include "policy/links.h"
#include "test_support.h"

#include <math.h>
#include <reprise/policy.h>

static void
test_groups_are_those_of_a_plain_union(void **state)
{
    (void)state;
    enum { ENTRIES = 3000, JOINS = 2500 };
    static uint32_t plain[ENTRIES + 1];
    rp_links links;
    rp_random random;
    rp_links_init(&links);
    rp_random_init(&random, 5);
    for (uint32_t i = 1; i <= ENTRIES; i++)
        plain[i] = i;
    assert_int_equal(rp_links_group(&links, 7), 7);
    for (int n = 0; n < JOINS; n++) {
        const uint32_t a = 1 + (uint32_t)rp_random_below(&random, ENTRIES);
        const uint32_t b = 1 + (uint32_t)rp_random_below(&random, ENTRIES);
        rp_links_join(&links, a, b);
        const uint32_t from = plain[a], to = plain[b];
        for (uint32_t i = 1; i <= ENTRIES; i++)
            if (plain[i] == from)
                plain[i] = to;
    }
    for (uint32_t i = 1; i < ENTRIES; i++) {
        const bool same = rp_links_group(&links, i) == rp_links_group(&links, i + 1);
        assert_int_equal(same, plain[i] == plain[i + 1]);
        assert_int_equal(rp_links_group(&links, i) == rp_links_group(&links, 1), plain[i] == plain[1]);
    }
    for (rp_entry_id i = 10001; i < 12000; i++) /* a chain, each under the next */
        rp_links_join(&links, i, i + 1);
    assert_int_equal(rp_links_group(&links, 10001), rp_links_group(&links, 12000));
    print_message("%.1f bytes a linked entry\n", (double)rp_links_size_bytes(&links) / (double)links.table.count);
    assert_true(rp_links_size_bytes(&links) <= 25 * links.table.count);
    rp_links_fini(&links);
}

static void
test_no_entry_is_never_linked(void **state)
{
    (void)state;
    rp_links links;
    rp_links_init(&links);
    rp_links_join(&links, 0, 5);
    rp_links_join(&links, 6, 0);
    rp_links_join(&links, 8, 8);
    assert_int_equal(links.table.count, 0);
    assert_int_equal(rp_links_group(&links, 0), 0);
    rp_links_forget(&links, 5);
    rp_links_fini(&links);
}

/* Forgetting may split a group; it must never join two, and must give the rows back. */
static void
test_forgetting_loses_links_and_invents_none(void **state)
{
    (void)state;
    enum { GROUPS = 40, SIZE = 50 };
    rp_links links;
    rp_random random;
    rp_links_init(&links);
    rp_random_init(&random, 6);
    for (rp_entry_id g = 0; g < GROUPS; g++)
        for (rp_entry_id i = 1; i < SIZE; i++)
            rp_links_join(&links, 1 + g * SIZE + i, 1 + g * SIZE + rp_random_below(&random, i));
    assert_int_equal(rp_links_group(&links, 2), rp_links_group(&links, SIZE));
    for (rp_entry_id id = 1; id <= GROUPS * SIZE; id += 2)
        rp_links_forget(&links, id);
    for (int n = 0; n < 20000; n++) {
        const rp_entry_id a = 2 + 2 * rp_random_below(&random, GROUPS * SIZE / 2);
        const rp_entry_id b = 2 + 2 * rp_random_below(&random, GROUPS * SIZE / 2);
        if (rp_links_group(&links, a) == rp_links_group(&links, b))
            assert_int_equal((a - 1) / SIZE, (b - 1) / SIZE);
    }
    for (rp_entry_id id = 1; id <= GROUPS * SIZE; id++)
        rp_links_forget(&links, id);
    assert_int_equal(links.table.count, 0);
    rp_links_fini(&links);
}

static void
test_links_survive_their_bytes_and_damage_is_harmless(void **state)
{
    (void)state;
    rp_links links, restored;
    rp_buffer bytes;
    rp_links_init(&links);
    rp_links_init(&restored);
    rp_buffer_init(&bytes, 0);
    for (rp_entry_id i = 2; i < 40; i++)
        rp_links_join(&links, i, i / 3 + 1);
    rp_links_save(&links, &bytes);
    rp_str rest = rp_buffer_str(&bytes);
    assert_true(rp_links_restore(&restored, &rest));
    assert_int_equal(rest.len, 0);
    for (rp_entry_id i = 1; i < 40; i++)
        assert_int_equal(rp_links_group(&restored, i), rp_links_group(&links, i));
    for (size_t cut = 0; cut < bytes.len; cut++) {
        rest = (rp_str){ rp_test_guarded(bytes.ptr, cut), cut };
        assert_false(rp_links_restore(&restored, &rest));
    }
    /* A ring of entries, in which a look-up would run for ever. */
    rp_buffer ring;
    rp_buffer_init(&ring, 0);
    rp_buffer_append_le64(&ring, 3);
    for (rp_entry_id i = 1; i <= 3; i++) {
        rp_buffer_append_le64(&ring, i);
        rp_buffer_append_le64(&ring, i % 3 + 1);
    }
    rest = rp_buffer_str(&ring);
    assert_false(rp_links_restore(&restored, &rest));
    rp_buffer_fini(&ring);
    rp_buffer_fini(&bytes);
    rp_links_fini(&links);
    rp_links_fini(&restored);
}

/* ---- in a policy ---------------------------------------------------------------------- */

static rp_candidate
candidate(rp_entry_id id, float similarity)
{
    return (rp_candidate){ .id = id, .similarity = similarity, .alignment = (float)NAN,
                           .verifier = (float)NAN, .judge = RP_JUDGE_UNASKED };
}

static rp_decision
decide(rp_policy *policy, const rp_candidate *candidates, size_t count)
{
    const rp_question question = { .candidates = candidates, .count = count,
                                   .min_similarity = -1, .error_max = 1 };
    rp_decision decision;
    rp_policy_decide(policy, &question, 0.999, &decision);
    return decision;
}

/* Candidate 1 is right if its neighbors stand behind it and wrong if not, at the same
 * similarity: only agreement can tell. */
static void
test_agreement_of_neighbors_is_learned(const char *spec)
{
    rp_policy *policy = NULL;
    rp_random random;
    assert_int_equal(rp_policy_new(rp_str_of(spec), (double)NAN, &policy, NULL), RP_OK);
    rp_random_init(&random, 7);
    /* Entries 10..13 share an answer, 20..23 have one each. */
    for (rp_entry_id i = 11; i <= 13; i++) {
        const rp_outcome link = { .candidate = candidate(10, 0.9f), .right = true, .entry = i,
                                  .probability = 1 };
        rp_policy_observe(policy, &link);
    }
    rp_decision of[2] = { { 0 } };
    for (int n = 0; n < 600; n++) {
        const bool agrees = n % 2;
        const float similarity = (float)(0.9 + 0.05 * rp_random_uniform(&random));
        rp_candidate candidates[4];
        for (rp_entry_id i = 0; i < 4; i++)
            candidates[i] = candidate((agrees ? 10 : 20) + i, similarity - 0.01f * (float)i);
        of[agrees] = decide(policy, candidates, 4);
        const rp_outcome outcome = { .candidate = candidates[0], .agreement = of[agrees].agreement,
                                     .right = agrees, .probability = 1 };
        rp_policy_observe(policy, &outcome);
    }
    assert_true(of[1].agreement > 0.99f);
    assert_true(of[0].agreement < 0.01f);
    print_message("%s: risk %.4f with agreement, %.4f without\n", spec, of[1].risk, of[0].risk);
    assert_true(of[1].risk < 0.1);
    assert_true(of[0].risk > 0.5);
    /* A forgotten entry stands behind nobody. */
    for (rp_entry_id i = 10; i <= 13; i++)
        rp_policy_forget(policy, i);
    const rp_candidate gone[2] = { candidate(11, 0.95f), candidate(12, 0.94f) };
    assert_true(decide(policy, gone, 2).agreement == 0);
    rp_policy_free(policy);
}

static void
test_calibrated_learns_what_agreement_is_worth(void **state)
{
    (void)state;
    test_agreement_of_neighbors_is_learned("calibrated");
}

static void
test_verified_plus_learns_what_agreement_is_worth(void **state)
{
    (void)state;
    test_agreement_of_neighbors_is_learned("verified-plus");
}

/* Wrong outcomes link nothing. */
static void
test_a_wrong_outcome_links_nothing(void **state)
{
    (void)state;
    rp_policy *policy = NULL;
    assert_int_equal(rp_policy_new(RP_STR("calibrated"), (double)NAN, &policy, NULL), RP_OK);
    const rp_outcome wrong = { .candidate = candidate(1, 0.9f), .entry = 2, .probability = 1 };
    rp_policy_observe(policy, &wrong);
    const rp_candidate candidates[2] = { candidate(1, 0.9f), candidate(2, 0.9f) };
    assert_true(decide(policy, candidates, 2).agreement == 0);
    rp_policy_free(policy);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_groups_are_those_of_a_plain_union),
        cmocka_unit_test(test_no_entry_is_never_linked),
        cmocka_unit_test(test_forgetting_loses_links_and_invents_none),
        cmocka_unit_test(test_links_survive_their_bytes_and_damage_is_harmless),
        cmocka_unit_test(test_calibrated_learns_what_agreement_is_worth),
        cmocka_unit_test(test_verified_plus_learns_what_agreement_is_worth),
        cmocka_unit_test(test_a_wrong_outcome_links_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
