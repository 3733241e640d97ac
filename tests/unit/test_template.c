/* test_template.c - the fixed words of a scope go, the varying part stays, whole.
 *
 * What could go wrong: the varying part loses a word (two questions become one), a mixed
 * scope is cut, a template changes after vectors were made with it. */
#include "evidence/template.h"
#include "test_support.h"

static rp_str
fill(char *out, size_t size, const char *format, const char *question)
{
    snprintf(out, size, format, question);
    return rp_str_of(out);
}

static const char wrapped[] = "You are a helpful assistant for a bank. Be brief. Answer the "
                              "question: %s\nEnd your answer with a full stop and no more.";

static void
test_only_the_question_is_left(void **state)
{
    (void)state;
    static const char *const questions[] = {
        "How do I reset my pin?", "What is the daily limit?", "Where is the next branch?",
        "Can I open an account online?", "How do I block a card?", "Who do I call?",
        "What is the daily limit of a savings account?", "How long does a transfer take?",
        "Is there a fee?", "How do I close the account?",
    };
    rp_template *t;
    char text[512];
    bool fits;
    assert_int_equal(rp_template_new(&t), RP_OK);
    for (size_t i = 0; i < RP_COUNT(questions); i++) {
        const bool settled = rp_template_fingerprint(t) != 0;
        assert_int_equal(settled, i >= RP_TEMPLATE_PROMPTS_MIN);
        rp_template_learn(t, fill(text, sizeof text, wrapped, questions[i]));
    }
    for (size_t i = 0; i < RP_COUNT(questions); i++) {
        const rp_str cut = rp_template_cut(t, fill(text, sizeof text, wrapped, questions[i]), &fits);
        assert_true(fits);
        assert_str_equal(cut, rp_str_of(questions[i]));
    }
    /* What does not fit is left alone, and so is a text with nothing between. */
    const rp_str other = RP_STR("How do I reset my pin?");
    assert_str_equal(rp_template_cut(t, other, &fits), other);
    assert_false(fits);
    const rp_str empty = fill(text, sizeof text, wrapped, "");
    assert_str_equal(rp_template_cut(t, empty, &fits), empty);
    assert_false(fits);
    /* Settled: nothing that comes later changes it. */
    const uint64_t fingerprint = rp_template_fingerprint(t);
    for (int i = 0; i < 50; i++)
        rp_template_learn(t, other);
    assert_true(rp_template_fingerprint(t) == fingerprint);
    rp_template_free(t);
}

static void
test_plain_questions_have_no_template(void **state)
{
    (void)state;
    static const char *const questions[] = {
        "How do I reset my pin?", "How do I reset my password?", "What is the daily limit?",
        "Can I open an account online?", "How do I block a card?", "Who do I call?",
        "What is the limit of a savings account?", "How long does a transfer take?",
        "Is there a fee?", "How do I close the account?", "", " ",
    };
    rp_template *t;
    bool fits;
    assert_int_equal(rp_template_new(&t), RP_OK);
    for (size_t round = 0; round < 5; round++)
        for (size_t i = 0; i < RP_COUNT(questions); i++)
            rp_template_learn(t, rp_str_of(questions[i]));
    assert_true(rp_template_fingerprint(t) == 0);
    assert_str_equal(rp_template_cut(t, rp_str_of(questions[0]), &fits), rp_str_of(questions[0]));
    rp_template_free(t);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_only_the_question_is_left),
        cmocka_unit_test(test_plain_questions_have_no_template),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
