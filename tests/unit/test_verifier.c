/* test_verifier.c - two small cross-encoders give the probabilities of an independent program.
 *
 * What could go wrong: token types forgotten or exchanged, the pooled token the wrong one, a
 * head without its activation or norm, softmax over the wrong label, long pairs cut
 * elsewhere than the reference cuts them. tests/golden/make_tiny_verifiers.py computed the
 * answers in double precision; both orders of a pair and pairs beyond the window are among
 * them. Also: what is no cross-encoder is refused. */
#include <reprise/verify.h>

#include "math/kernels.h"
#include "model_support.h"

static rp_json_reader *reader;

static const rp_json *
read_cases(const char *model, rp_arena *arena)
{
    char path[1200];
    rp_buffer file;
    const rp_json *cases;
    rp_buffer_init(&file, 0);
    snprintf(path, sizeof path, "%s/tiny_verifiers/%s/expected.json", RP_TEST_GOLDEN, model);
    assert_int_equal(rp_file_read(path, 1 << 20, &file, NULL), RP_OK);
    assert_int_equal(rp_json_parse(reader, arena, rp_buffer_str(&file), &cases, NULL), RP_OK);
    rp_buffer_fini(&file);
    return cases;
}

static double
find_largest_error(const char *model, const rp_encoder_options *options)
{
    enum { MANY = 32 };
    char folder[1100];
    rp_str a[MANY], b[MANY];
    float scores[MANY], again;
    bool cut[MANY];
    rp_arena arena;
    rp_error error = { { 0 } };
    rp_verifier *verifier = NULL;
    double largest = 0;
    rp_arena_init(&arena, 0);
    const rp_json *cases = read_cases(model, &arena);
    snprintf(folder, sizeof folder, "%s/tiny_verifiers/%s", RP_TEST_GOLDEN, model);
    if (rp_verifier_open(folder, options, &verifier, &error) != RP_OK)
        fail_msg("%s", error.text);
    assert_true(cases->count <= MANY);
    for (size_t i = 0; i < cases->count; i++) {
        a[i] = rp_json_string(rp_json_get(&cases->children[i], "a"));
        b[i] = rp_json_string(rp_json_get(&cases->children[i], "b"));
    }
    assert_int_equal(rp_verifier_score(verifier, a, b, cases->count, scores, cut, &error), RP_OK);
    bool some_cut = false, some_whole = false;
    for (size_t i = 0; i < cases->count; i++) {
        double wanted;
        assert_true(rp_json_to_double(rp_json_get(&cases->children[i], "probability"), &wanted));
        largest = fmax(largest, fabs(wanted - (double)scores[i]));
        assert_int_equal(rp_verifier_score(verifier, &a[i], &b[i], 1, &again, NULL, NULL), RP_OK);
        assert_true(again == scores[i]);
        if (cut[i])
            assert_int_equal(rp_json_get(&cases->children[i], "ids")->count,
                             rp_verifier_window_tokens(verifier));
        some_cut = some_cut || cut[i];
        some_whole = some_whole || !cut[i];
    }
    assert_true(some_cut && some_whole);
    rp_verifier_close(verifier);
    rp_arena_fini(&arena);
    return largest;
}

static void
test_each_tier_answers_what_the_script_computed(void **state)
{
    (void)state;
    static const char *const models[] = { "bert", "modernbert" };
    /* As the bodies; a head adds little. Observed 3e-7, .0036 and .011. */
    static const double most[] = { [RP_PRECISION_F32] = 2e-6, [RP_PRECISION_BF16] = 0.01,
                                   [RP_PRECISION_INT8] = 0.03 };
    for (size_t at = 0; rp_kernels_at(at); at++)
        for (rp_precision class = RP_PRECISION_F32; class <= RP_PRECISION_INT8; class++)
            for (size_t i = 0; i < RP_COUNT(models); i++) {
                const rp_encoder_options options = { .precision = class,
                                                     .tier = rp_kernels_at(at)->name };
                const double off = find_largest_error(models[i], &options);
                if (!(off <= most[class]))
                    fail_msg("%s, %s, class %d: off by %g", models[i], options.tier, class, off);
            }
}

static void
test_what_is_no_cross_encoder_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *model, *file, *old, *new;
        rp_status wanted;
    } rows[] = {
        { "tiny_bert/mean", "config.json", "{", "{", RP_ERR_UNSUPPORTED }, /* no head */
        { "tiny_verifiers/bert", "config.json", "ForSequenceClassification", "Model",
          RP_ERR_UNSUPPORTED },
        { "tiny_verifiers/bert", "config.json", "\"0\": \"LABEL_0\"",
          "\"0\": \"a\", \"1\": \"b\", \"2\": \"c\"", RP_ERR_UNSUPPORTED }, /* as inference has */
        { "tiny_verifiers/bert", "config.json", "\"0\": \"LABEL_0\"", "\"0\": \"a\", \"1\": \"b\"",
          RP_ERR_CORRUPT }, /* the file's head has one */
        { "tiny_verifiers/bert", "model.safetensors", "classifier.bias", "classifier.bios",
          RP_ERR_CORRUPT },
        { "tiny_verifiers/bert", "model.safetensors", "bert.pooler.dense.bias",
          "bert.pooler.dense.bios", RP_ERR_CORRUPT },
        { "tiny_verifiers/modernbert", "model.safetensors", "head.norm.weight",
          "head.norm.weighT", RP_ERR_CORRUPT },
        { "tiny_verifiers/bert", "sentence_bert_config.json", "14", "4", RP_ERR_UNSUPPORTED },
    };
    for (size_t i = 0; i < RP_COUNT(rows); i++) {
        damaged_copy copy;
        rp_verifier *verifier = NULL;
        rp_error error = { { 0 } };
        make_copy(&copy, rows[i].model);
        edit(&copy, rows[i].file, rows[i].old, rows[i].new);
        const rp_status status = rp_verifier_open(copy.folder, NULL, &verifier, &error);
        remove_copy(&copy);
        if (status != rows[i].wanted)
            fail_msg("row %zu: %s (%s)", i, rp_status_name(status), error.text);
        assert_null(verifier);
        assert_non_null(strstr(error.text, copy.folder));
    }
}

static void
test_texts_without_an_answer(void **state)
{
    (void)state;
    char folder[1100];
    rp_verifier *verifier = NULL;
    damaged_copy copy;
    rp_buffer bytes;
    float score = -1;
    bool cut = false;
    snprintf(folder, sizeof folder, "%s/tiny_verifiers/bert", RP_TEST_GOLDEN);
    assert_int_equal(rp_verifier_open(folder, NULL, &verifier, NULL), RP_OK);
    char *huge = malloc(RP_TEXT_SIZE_MAX + 1);
    for (size_t i = 0; i <= RP_TEXT_SIZE_MAX; i++)
        huge[i] = i % 4 == 3 ? ' ' : 'x';
    const rp_str large = { huge, RP_TEXT_SIZE_MAX }, larger = { huge, RP_TEXT_SIZE_MAX + 1 };
    const rp_str broken = RP_STR("\xff\xfe\0x"), why = RP_STR("why");
    assert_int_equal(rp_verifier_score(verifier, &larger, &why, 1, &score, NULL, NULL), RP_ERR_LIMIT);
    assert_int_equal(rp_verifier_score(verifier, &why, &larger, 1, &score, NULL, NULL), RP_ERR_LIMIT);
    assert_int_equal(rp_verifier_score(verifier, &why, &large, 1, &score, &cut, NULL), RP_OK);
    assert_true(cut); /* 250,000 words */
    assert_true(score >= 0 && score <= 1);
    assert_int_equal(rp_verifier_score(verifier, &broken, &why, 1, &score, &cut, NULL), RP_OK);
    assert_false(cut);
    rp_verifier_close(verifier);
    free(huge);

    /* A head of NaN has no answer. */
    char path[1100];
    make_copy(&copy, "tiny_verifiers/bert");
    rp_buffer_init(&bytes, 0);
    snprintf(path, sizeof path, "%s/model.safetensors", copy.folder);
    assert_int_equal(rp_file_read(path, 1 << 20, &bytes, NULL), RP_OK);
    rp_store_le32(bytes.ptr + bytes.len - 4, 0x7fc00000); /* classifier.bias is the last */
    assert_int_equal(rp_file_replace(path, rp_buffer_str(&bytes), 0600, NULL), RP_OK);
    assert_int_equal(rp_verifier_open(copy.folder, NULL, &verifier, NULL), RP_OK);
    assert_int_equal(rp_verifier_score(verifier, &why, &why, 1, &score, NULL, NULL), RP_ERR_CORRUPT);
    rp_verifier_close(verifier);
    remove_copy(&copy);
    rp_buffer_fini(&bytes);
}

static int
set_up(void **state)
{
    (void)state;
    return rp_json_reader_new(&reader) == RP_OK ? 0 : 1;
}

static int
tear_down(void **state)
{
    (void)state;
    rp_json_reader_free(reader);
    return 0;
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_tier_answers_what_the_script_computed),
        cmocka_unit_test(test_what_is_no_cross_encoder_is_refused),
        cmocka_unit_test(test_texts_without_an_answer),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
