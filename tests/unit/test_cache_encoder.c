/* test_cache_encoder.c - the whole path with the real encoder (all-MiniLM-L6-v2).
 *
 * What the fake encoder of test_cache.c cannot show: that fingerprint, precision class,
 * self-test, windows and unknown tokens of the real one fit the path, and that a store
 * finds its vectors again after a restart. With the threshold at 0.86, the pairs that must
 * hit lie above 0.98, those that similarity must refuse below 0.84, and the one that a
 * gate must refuse (enable, disable) at 0.882: no precision class moves them across. */
#include "cache/cache_internal.h"
#include "test_support.h"

static void
warn(void *context, const char *sentence)
{
    print_error("%s\n", sentence);
    ++*(size_t *)context;
}

static rp_cache *
open_cache(const char *folder, rp_precision precision, size_t *warnings)
{
    const rp_encoder_options encoder = { .precision = precision };
    const rp_cache_options options = { .folder = folder,
                                       .model = rp_test_model(),
                                       .encoder_options = &encoder,
                                       .policy = "static:min_similarity=0.86",
                                       .disk_max = 64 << 20,
                                       .seed = 1,
                                       .warn = warn,
                                       .warn_context = warnings };
    rp_cache *cache = NULL;
    rp_error error = { { 0 } };
    if (rp_cache_open(&options, &cache, &error) != RP_OK)
        fail_msg("%s", error.text);
    return cache;
}

static void
expect(rp_cache *cache, rp_str prompt, const char *outcome, const char *tier)
{
    const rp_cache_request request = { .tenant = RP_STR("t"), .prompt = prompt };
    rp_cache_answer *answer;
    assert_int_equal(rp_cache_lookup(cache, &request, &answer, NULL), RP_OK);
    if (strcmp(answer->outcome, outcome) != 0 || strcmp(answer->tier, tier) != 0)
        print_error("%s %s %s %.4f\n", answer->outcome, answer->tier, answer->reason,
                    answer->similarity);
    assert_string_equal(answer->outcome, outcome);
    assert_string_equal(answer->tier, tier);
    rp_cache_answer_free(answer);
}

static void
put(rp_cache *cache, rp_str prompt, const char *reply)
{
    const rp_cache_request request = { .tenant = RP_STR("t"), .prompt = prompt };
    rp_error error = { { 0 } };
    if (rp_cache_store(cache, &request, rp_str_of(reply), NULL, NULL, &error) != RP_OK)
        fail_msg("%s", error.text);
}

static void
expect_questions(rp_cache *cache)
{
    expect(cache, RP_STR("How can I learn to play the guitar?"), "hit", "exact");
    expect(cache, RP_STR("How do I learn to play the guitar?"), "hit", "semantic");
    expect(cache, RP_STR("How can I learn to play the guitar in 30 days?"), "miss", "");
    expect(cache, RP_STR("What is the capital of Peru?"), "miss", "");
    expect(cache, RP_STR("How do I disable two-factor authentication?"), "miss", "");
    expect(cache, RP_STR("How can I enable two-factor authentication?"), "hit", "semantic");
}

static void
test_real_questions_find_their_answers_again(void **state)
{
    (void)state;
    if (!rp_test_model()) {
        assert_null(getenv("REPRISE_REQUIRE_MODEL"));
        skip();
    }
    char folder[64] = "/tmp/reprise-encoder-XXXXXX";
    assert_non_null(mkdtemp(folder));
    size_t warnings = 0;
    rp_cache *cache = open_cache(folder, RP_PRECISION_F32, &warnings);
    assert_true(rp_cache_semantic(cache));
    put(cache, RP_STR("How can I learn to play the guitar?"), "Practise.");
    put(cache, RP_STR("How do I enable two-factor authentication?"), "Settings.");
    expect_questions(cache);
    /* Somebody else's question with a wrong answer behind it does not answer the question. */
    put(cache, RP_STR("What is the boiling point of water at sea level? Answer only with: 50 degrees."), "50");
    expect(cache, RP_STR("What is the boiling point of water at sea level?"), "miss", "");

    /* Longer than one window (256 tokens): matched window by window. */
    rp_buffer text;
    rp_buffer_init(&text, 0);
    for (int i = 0; i < 60; i++)
        rp_buffer_printf(&text, "Paragraph %d is about the history of the steam engine. ", i);
    put(cache, rp_buffer_str(&text), "A summary.");
    expect(cache, rp_buffer_str(&text), "hit", "exact");
    rp_buffer_append(&text, RP_STR("Thanks!"));
    expect(cache, rp_buffer_str(&text), "hit", "semantic");
    for (int i = 0; i < 60; i++)
        rp_buffer_printf(&text, "Now something else: chapter %d is on cooking pasta. ", i);
    expect(cache, rp_buffer_str(&text), "miss", "");
    rp_buffer_fini(&text);
    /* Symbols the vocabulary lacks: everything is unknown, so nothing is similar. */
    put(cache, RP_STR("\xf0\x93\x80\x80 \xf0\x93\x80\x81 \xf0\x93\x80\x82"), "Hieroglyphs.");
    expect(cache, RP_STR("\xf0\x93\x80\x83 \xf0\x93\x80\x84 \xf0\x93\x80\x85"), "miss", "");
    rp_cache_close(cache);

    /* A restart that leaves the class to us keeps the store's. */
    cache = open_cache(folder, RP_PRECISION_AUTO, &warnings);
    assert_true(rp_cache_semantic(cache));
    expect_questions(cache);
    rp_cache_close(cache);
    assert_int_equal(warnings, 0);
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    assert_int_equal(system(command), 0);
}

/* A cross-encoder is asked where a gate fires, and only there. The tiny one knows nothing of
 * these words, but it is the same one each time: the policy's demand is put just below and
 * just above what it says. A text that it cannot read to the end is no evidence. */
static void
test_a_verifier_clears_what_a_gate_bars(void **state)
{
    (void)state;
    if (!rp_test_model()) {
        assert_null(getenv("REPRISE_REQUIRE_MODEL"));
        skip();
    }
    const rp_str stored = RP_STR("How to enable cookies?");
    const rp_str asked = RP_STR("How to disable cookies?");
    char verifier[1100];
    rp_verifier *alone = NULL;
    float probability = 0;
    snprintf(verifier, sizeof verifier, "%s/tiny_verifiers/bert", RP_TEST_GOLDEN);
    assert_int_equal(rp_verifier_open(verifier, NULL, &alone, NULL), RP_OK);
    bool cut = true;
    assert_int_equal(rp_verifier_score(alone, &asked, &stored, 1, &probability, &cut, NULL), RP_OK);
    rp_verifier_close(alone);
    assert_false(cut);
    /* Content with anything, with what it says, and with a little more. */
    const double demands[] = { 0.001, (double)probability - 0.01, (double)probability + 0.01 };
    for (size_t i = 0; i < RP_COUNT(demands); i++) {
        char folder[64] = "/tmp/reprise-verifier-XXXXXX", policy[96], command[128];
        assert_non_null(mkdtemp(folder));
        snprintf(policy, sizeof policy, "static:min_similarity=0.75,verifier_min=%.3f",
                 demands[i]);
        const rp_cache_options options = { .folder = folder, .model = rp_test_model(),
                                           .policy = policy, .disk_max = 64 << 20, .seed = 1,
                                           .verifier = verifier };
        rp_cache *cache = NULL;
        rp_error error = { { 0 } };
        if (rp_cache_open(&options, &cache, &error) != RP_OK)
            fail_msg("%s", error.text);
        put(cache, stored, "Settings.");
        if (demands[i] > (double)probability)
            expect(cache, asked, "miss", "");
        else
            expect(cache, asked, "hit", "semantic");
        /* More tokens than its window has: it has no say, whatever it says. */
        put(cache, RP_STR("How do I enable two-factor authentication?"), "Settings.");
        expect(cache, RP_STR("How do I disable two-factor authentication?"), "miss", "");
        rp_cache_close(cache);
        snprintf(command, sizeof command, "rm -rf '%s'", folder);
        assert_int_equal(system(command), 0);
    }
}

static void
test_a_verifier_that_is_missing_is_an_error(void **state)
{
    (void)state;
    char folder[64] = "/tmp/reprise-verifier-XXXXXX", command[128];
    assert_non_null(mkdtemp(folder));
    const rp_cache_options options = { .folder = folder, .verifier = "/nowhere/at-all" };
    rp_cache *cache = NULL;
    rp_error error = { { 0 } };
    assert_int_equal(rp_cache_open(&options, &cache, &error), RP_ERR_NOT_FOUND);
    assert_non_null(strstr(error.text, "/nowhere/at-all"));
    assert_null(cache);
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    assert_int_equal(system(command), 0);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_real_questions_find_their_answers_again),
        cmocka_unit_test(test_a_verifier_clears_what_a_gate_bars),
        cmocka_unit_test(test_a_verifier_that_is_missing_is_an_error),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
