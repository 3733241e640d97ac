/* test_bounds.c - the learned policies keep their bound on synthetic streams.
 *
 * A stream of known truth: similarity is drawn from [0.6, 1], a candidate is right with
 * probability (1 - floor) logistic(g (s - t)). What could go wrong: more wrong answers than
 * error_max, with a stationary stream, with noise at every similarity (floor), with one that
 * turns bad half way (t jumps), or
 * with one whose every candidate is wrong (medquad); a policy that keeps the bound by
 * never serving; a bound that more confidence does not loosen.
 *
 * The draw is seeded, so a run repeats exactly. The limit of each check is what an error
 * rate of error_max would pass once in 10^6 runs: error_max n + 4.8 sqrt(error_max n). */
#include "base/hash.h"
#include "base/random.h"
#include "test_support.h"

#include <math.h>
#include <reprise/policy.h>

enum { SEEDS = RP_TEST_SIZE(5, 1), NOISY_STREAMS = RP_TEST_SIZE(3, 1), NOISY_SEEDS = 5 };

typedef struct stream {
    double threshold, later_threshold; /* before and after the middle */
    double slope;
    int requests;
    double floor; /* share of wrong answers that no similarity shows */
} stream;

typedef struct tally {
    int hits, wrong, late_wrong;
} tally;

static double
logistic(double x)
{
    return 1 / (1 + exp(-x));
}

static tally
run(const char *spec, const stream *s, uint64_t seed)
{
    rp_policy *policy = NULL;
    rp_random random;
    tally out = { 0 };
    assert_int_equal(rp_policy_new(rp_str_of(spec), (double)NAN, &policy, NULL), RP_OK);
    rp_random_init(&random, seed);
    for (int i = 0; i < s->requests; i++) {
        const double similarity = 0.6 + 0.4 * rp_random_uniform(&random);
        const double threshold = i < s->requests / 2 ? s->threshold : s->later_threshold;
        const bool right
            = rp_random_uniform(&random)
              < (1 - s->floor) * logistic(s->slope * (similarity - threshold));
        const rp_candidate candidate
            = { .id = 1 + rp_random_below(&random, 300), .similarity = (float)similarity,
                .alignment = (float)NAN, .verifier = (float)NAN, .judge = RP_JUDGE_UNASKED };
        const rp_question question = { .stratum = 7, .candidates = &candidate, .count = 1,
                                       .min_similarity = -1, .error_max = 1 };
        rp_decision decision;
        rp_policy_decide(policy, &question, rp_random_uniform(&random), &decision);
        if (decision.verdict == RP_HIT) {
            out.hits++;
            out.wrong += !right;
            out.late_wrong += !right && i >= s->requests / 2;
            continue;
        }
        const rp_outcome outcome
            = { .stratum = 7, .candidate = candidate, .similarity_second = (float)NAN,
                .right = right, .source = RP_OUTCOME_MISS,
                .probability = decision.explore_probability > 0 ? decision.explore_probability : 1 };
        rp_policy_observe(policy, &outcome);
    }
    rp_policy_free(policy);
    return out;
}

static double
limit(double error_max, int requests)
{
    return error_max * requests + 4.8 * sqrt(error_max * requests);
}

/* The first two get a share of hits that is tested; `adaptive` keeps its bound with few. */
static const char *const learned[] = { "calibrated", "verified-plus", "adaptive" };
static const double bounds[] = { 0.005, 0.01, 0.02, 0.05 };

static void
test_a_stationary_stream_keeps_the_bound_and_is_served(void **state)
{
    (void)state;
    const stream s = { 0.8, 0.8, 40, 8000 };
    for (size_t p = 0; p < 2; p++) {
        int hits_before = 0;
        for (size_t b = 0; b < RP_COUNT(bounds); b++) {
            char spec[96];
            snprintf(spec, sizeof spec, "%s:error_max=%g,hit_error_max=1", learned[p], bounds[b]);
            tally sum = { 0 };
            for (uint64_t seed = 1; seed <= SEEDS; seed++) {
                const tally got = run(spec, &s, seed);
                if (got.wrong > limit(bounds[b], s.requests))
                    print_error("%s seed %d: %d wrong\n", spec, (int)seed, got.wrong);
                assert_true(got.wrong <= limit(bounds[b], s.requests));
                sum.hits += got.hits;
                sum.wrong += got.wrong;
            }
            const int requests = SEEDS * s.requests;
            print_message("%-44s hits %.1f %% wrong %.2f %%\n", spec, 100.0 * sum.hits / requests,
                          100.0 * sum.wrong / requests);
            /* The mean of all orders, and some use: a tenth of the requests. */
            assert_true(sum.wrong <= limit(bounds[b], requests));
            assert_true(sum.hits > requests / 10);
            assert_true(sum.hits > hits_before); /* a looser bound serves more */
            hits_before = sum.hits;
        }
    }
}

/* Noisy labels, broad classes: a share is wrong at every similarity, and a curve that goes on
 * falling takes the surest hits for free. Learned from explored hits; without it these
 * streams are wrong in up to 1.4 % where .5 % is allowed. The mean of several orders: how
 * soon a wrong hit is explored is luck (of 20 orders of the last stream, .47 % on average at
 * .5 %, the worst errs .97 %). */
static void
test_noise_at_every_similarity_is_paid_for(void **state)
{
    (void)state;
    const stream streams[3] = {
        { 0.62, 0.62, 40, 8000, 0.008 },
        { 0.62, 0.62, 40, 8000, 0.015 },
        { 0.70, 0.70, 40, 8000, 0.025 },
    };
    for (size_t i = 0; i < NOISY_STREAMS; i++)
        for (size_t k = 0; k < 4; k++) {
            const double bound = bounds[k / 2];
            char spec[96];
            snprintf(spec, sizeof spec, "%s:error_max=%g,hit_error_max=1", learned[k % 2], bound);
            tally sum = { 0 };
            for (uint64_t seed = 1; seed <= NOISY_SEEDS; seed++) {
                const tally got = run(spec, &streams[i], seed);
                sum.hits += got.hits;
                sum.wrong += got.wrong;
            }
            const int requests = NOISY_SEEDS * streams[i].requests;
            print_message("floor %.3f %-45s hits %.1f %% wrong %.2f %%\n", streams[i].floor, spec,
                          100.0 * sum.hits / requests, 100.0 * sum.wrong / requests);
            assert_true(sum.wrong <= limit(bound, requests));
            assert_true(sum.hits > requests / 20);
        }
}

static void
test_a_stream_that_turns_bad_is_noticed(void **state)
{
    (void)state;
    const stream s = { 0.75, 0.97, 40, 8000 };
    for (size_t p = 0; p < 2; p++) {
        char spec[96];
        snprintf(spec, sizeof spec, "%s:error_max=0.02", learned[p]);
        for (uint64_t seed = 1; seed <= SEEDS; seed++) {
            const tally got = run(spec, &s, seed);
            /* Serving on as before would be wrong in about a third of the late requests,
             * 1300; the bound over the whole stream must still hold. */
            if (got.wrong > limit(0.02, s.requests))
                print_error("%s seed %d: %d wrong, %d late\n", spec, (int)seed, got.wrong,
                            got.late_wrong);
            assert_true(got.wrong <= limit(0.02, s.requests));
        }
    }
}

static void
test_a_stream_of_wrong_candidates_is_refused(void **state)
{
    (void)state;
    const stream s = { 1.5, 1.5, 40, 4000 };
    for (size_t p = 0; p < RP_COUNT(learned); p++) {
        char spec[96];
        snprintf(spec, sizeof spec, "%s:error_max=0.01", learned[p]);
        const tally got = run(spec, &s, 1);
        assert_true(got.wrong <= 40);
    }
}

static void
test_published_vcache_keeps_its_bound_on_a_stationary_stream(void **state)
{
    (void)state;
    const stream s = { 0.8, 0.8, 40, 8000 };
    for (size_t b = 0; b < RP_COUNT(bounds); b++) {
        char spec[96];
        snprintf(spec, sizeof spec, "verified:error_max=%g", bounds[b]);
        const tally got = run(spec, &s, 1);
        assert_true(got.wrong <= limit(bounds[b], s.requests));
    }
}

/* Two candidates, of which the first is right from .85 on. */
static void
draw_pair(rp_random *random, rp_candidate out[2])
{
    const float similarity = (float)(0.6 + 0.4 * rp_random_uniform(random));
    for (int i = 0; i < 2; i++)
        out[i] = (rp_candidate){ .id = 1 + rp_random_below(random, 1000),
                                 .similarity = similarity - 0.02f * (float)i, .alignment = 1,
                                 .verifier = (float)NAN, .judge = RP_JUDGE_UNASKED };
}

static rp_decision
decide_pair(rp_policy *policy, const rp_candidate *candidates, double random01)
{
    const rp_question question = { .stratum = 7, .candidates = candidates, .count = 2,
                                   .min_similarity = -1, .error_max = 1 };
    rp_decision decision;
    rp_policy_decide(policy, &question, random01, &decision);
    return decision;
}

/* Decide and learn 3,000 times; `again` is told the same outcomes and asked nothing. */
static void
run_pair(rp_policy *policy, rp_policy *again, rp_random *random)
{
    for (int i = 0; i < 3000; i++) {
        rp_candidate candidates[2];
        draw_pair(random, candidates);
        const rp_decision decision = decide_pair(policy, candidates, rp_random_uniform(random));
        if (decision.verdict == RP_HIT)
            continue;
        const rp_outcome outcome
            = { .stratum = 7, .candidate = candidates[0], .agreement = decision.agreement,
                .similarity_second = candidates[1].similarity,
                .entry = 1 + rp_random_below(random, 1000), .source = RP_OUTCOME_MISS,
                .right = candidates[0].similarity > 0.85f,
                .probability = decision.explore_probability > 0 ? decision.explore_probability : 1 };
        rp_policy_observe(policy, &outcome);
        rp_policy_observe(again, &outcome);
    }
}

static void
assert_same_decisions(rp_policy *a, rp_policy *b, rp_random *random)
{
    for (int i = 0; i < 200; i++) {
        rp_candidate candidates[2];
        draw_pair(random, candidates);
        const rp_decision of_a = decide_pair(a, candidates, 0.5);
        const rp_decision of_b = decide_pair(b, candidates, 0.5);
        assert_true(of_a.risk == of_b.risk || (isnan(of_a.risk) && isnan(of_b.risk)));
        assert_true(of_a.agreement == of_b.agreement);
    }
}

/* Saved and restored, and made again from nothing but the outcomes: what is known about a
 * candidate is the same to the bit. And it is small: 100 bytes an entry beyond what a
 * stratum costs. */
static void
test_learned_state_survives_is_rebuilt_and_stays_small(void **state)
{
    (void)state;
    for (size_t p = 0; p < RP_COUNT(learned); p++) {
        rp_policy *policy = NULL, *restored = NULL, *rebuilt = NULL;
        rp_random random;
        assert_int_equal(rp_policy_new(rp_str_of(learned[p]), (double)NAN, &policy, NULL), RP_OK);
        assert_int_equal(rp_policy_new(rp_str_of(learned[p]), (double)NAN, &restored, NULL), RP_OK);
        assert_int_equal(rp_policy_new(rp_str_of(learned[p]), (double)NAN, &rebuilt, NULL), RP_OK);
        rp_random_init(&random, 3);
        rp_candidate candidates[2];
        draw_pair(&random, candidates);
        (void)decide_pair(policy, candidates, 0.5); /* makes the stratum */
        const size_t empty = rp_policy_size_bytes(policy);
        run_pair(policy, rebuilt, &random);
        print_message("%s: %zu bytes and %.1f an entry\n", learned[p], empty,
                      (double)(rp_policy_size_bytes(policy) - empty) / 1000);
        assert_true(rp_policy_size_bytes(policy) - empty <= 100 * 1000);
        char *bytes = NULL;
        size_t len = 0;
        assert_int_equal(rp_policy_save(policy, &bytes, &len), RP_OK);
        assert_int_equal(rp_policy_restore(restored, (rp_str){ bytes, len }, NULL), RP_OK);
        assert_same_decisions(policy, restored, &random);
        assert_same_decisions(policy, rebuilt, &random);
        free(bytes);
        rp_policy_free(policy);
        rp_policy_free(restored);
        rp_policy_free(rebuilt);
    }
}

static void
test_damaged_state_with_a_sound_checksum_is_harmless(void **state)
{
    (void)state;
    const char *name;
    for (size_t p = 0; (name = rp_policy_list(p, NULL)); p++) {
        rp_policy *policy = NULL;
        rp_random random;
        assert_int_equal(rp_policy_new(rp_str_of(name), (double)NAN, &policy, NULL), RP_OK);
        rp_random_init(&random, 9);
        for (int i = 0; i < 300; i++) {
            const rp_outcome outcome
                = { .stratum = 1 + rp_random_below(&random, 3),
                    .candidate = { .id = 1 + rp_random_below(&random, 20),
                                   .similarity = (float)rp_random_uniform(&random),
                                   .verifier = (float)NAN },
                    .similarity_second = (float)NAN, .right = rp_random_below(&random, 2),
                    .source = RP_OUTCOME_MISS, .probability = 1 };
            rp_policy_observe(policy, &outcome);
        }
        char *bytes = NULL;
        size_t len = 0;
        assert_int_equal(rp_policy_save(policy, &bytes, &len), RP_OK);
        const size_t header = 8 + strlen(name) + 16;
        for (int i = 0; i < 3000 && len > header; i++) {
            const size_t at = header + (size_t)rp_random_below(&random, len - header);
            const char before = bytes[at];
            bytes[at] = (char)rp_random_next(&random);
            rp_store_le64(bytes + header - 8,
                          rp_hash64((rp_str){ bytes + header, len - header }));
            if (rp_policy_restore(policy, (rp_str){ bytes, len }, NULL) == RP_OK) {
                const rp_candidate candidate = { .id = 3, .similarity = 0.9f, .alignment = 1,
                                                 .verifier = (float)NAN,
                                                 .judge = RP_JUDGE_UNASKED };
                const rp_question question = { .stratum = 1, .candidates = &candidate,
                                               .count = 1, .min_similarity = -1, .error_max = 1 };
                rp_decision decision;
                rp_policy_decide(policy, &question, 0.5, &decision);
                assert_true(decision.explore_probability >= 0
                            && decision.explore_probability <= 1);
            }
            bytes[at] = before;
        }
        free(bytes);
        rp_policy_free(policy);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_stationary_stream_keeps_the_bound_and_is_served),
        
        cmocka_unit_test(test_noise_at_every_similarity_is_paid_for),
        cmocka_unit_test(test_a_stream_that_turns_bad_is_noticed),
        cmocka_unit_test(test_a_stream_of_wrong_candidates_is_refused),
        cmocka_unit_test(test_published_vcache_keeps_its_bound_on_a_stationary_stream),
        cmocka_unit_test(test_learned_state_survives_is_rebuilt_and_stays_small),
        cmocka_unit_test(test_damaged_state_with_a_sound_checksum_is_harmless),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
