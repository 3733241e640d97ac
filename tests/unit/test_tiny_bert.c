/* test_tiny_bert.c - two small encoders give the numbers of an independent program.
 *
 * tests/golden/make_tiny_bert.py made them from a seed and computed their vectors in
 * double precision; sizes hang over the tiles of every tier, tensors are f32, f16 and
 * bf16, names have a prefix in one of them, pooling is mean and cls. Needs nothing but
 * the repository, so that a machine without the real encoder tests the model too.
 * Then the same files are damaged: what contradicts config.json is refused. */
#include "math/kernels.h"
#include "model_support.h"

static void
test_each_tier_computes_what_the_script_computed(void **state)
{
    (void)state;
    /* Rounding over two layers; observed 2e-7 for f32, .0022 for bf16 and .0057 for int8,
     * which has few numbers a row here to average over. */
    static const double most[] = { [RP_PRECISION_F32] = 2e-6, [RP_PRECISION_BF16] = 0.006,
                                   [RP_PRECISION_INT8] = 0.015 };
    for (size_t at = 0; rp_kernels_at(at); at++)
        for (rp_precision precision = RP_PRECISION_F32; precision <= RP_PRECISION_INT8; precision++) {
            const rp_encoder_options options = { .precision = precision,
                                                 .tier = rp_kernels_at(at)->name };
            compare_with_expected("tiny_bert/mean", &options, "expected.json", most);
            compare_with_expected("tiny_bert/cls", &options, "expected.json", most);
        }
}

static void
test_files_that_contradict_each_other_are_refused(void **state)
{
    (void)state;
    static const struct {
        const char *file, *old, *new;
        rp_status wanted;
    } rows[] = {
        { "config.json", "\"bert\"", "\"t5\"", RP_ERR_UNSUPPORTED },
        { "config.json", "\"hidden_size\": 24", "\"hidden_size\": 32", RP_ERR_CORRUPT },
        { "config.json", "\"hidden_size\": 24", "\"hidden_size\": 25", RP_ERR_CORRUPT },
        { "config.json", "\"hidden_size\": 24", "\"hidden_size\": -24", RP_ERR_LIMIT },
        { "config.json", "\"hidden_size\": 24", "\"hidden_size\": 99999999999", RP_ERR_LIMIT },
        { "config.json", "\"num_hidden_layers\": 2", "\"num_hidden_layers\": 3", RP_ERR_CORRUPT },
        { "config.json", "\"vocab_size\": 27", "\"vocab_size\": 26", RP_ERR_CORRUPT },
        { "config.json", "\"gelu\"", "\"relu\"", RP_ERR_UNSUPPORTED },
        { "config.json", "1e-12", "-1", RP_ERR_CORRUPT },
        { "config.json", "{", "{{", RP_ERR_CORRUPT },
        { "modules.json", "models.Pooling", "models.Dense", RP_ERR_UNSUPPORTED },
        { "modules.json", "1_Pooling", "../mean", RP_ERR_CORRUPT },
        { "1_Pooling/config.json", "cls_token\": false", "cls_token\": true", RP_ERR_UNSUPPORTED },
        { "sentence_bert_config.json", "14", "2", RP_ERR_CORRUPT },
        { "model.safetensors", "encoder.layer.1.output.dense.bias",
          "encoder.layer.1.output.dense.bios", RP_ERR_CORRUPT },
        { "model.safetensors", "\"dtype\": \"F32\"", "\"dtype\": \"I32\"", RP_ERR_UNSUPPORTED },
        { "tokenizer.json", "\"vocab\": {", "\"vocab\": {\"more\": 27, ", RP_ERR_CORRUPT },
    };
    for (size_t i = 0; i < RP_COUNT(rows); i++) {
        damaged_copy copy;
        rp_encoder *encoder = NULL;
        rp_error error = { { 0 } };
        make_copy(&copy, "tiny_bert/mean");
        edit(&copy, rows[i].file, rows[i].old, rows[i].new);
        const rp_status status = rp_encoder_open(copy.folder, NULL, &encoder, &error);
        remove_copy(&copy);
        if (status != rows[i].wanted)
            fail_msg("row %zu: %s (%s)", i, rp_status_name(status), error.text);
        assert_null(encoder);
        assert_non_null(strstr(error.text, copy.folder)); /* the sentence names the file */
    }
}

/* Zero weights give every text the same vector, or none. */
static void
test_a_degenerate_encoder_is_found(void **state)
{
    (void)state;
    for (int nan = 0; nan < 2; nan++) {
        damaged_copy copy;
        char path[1100];
        rp_buffer bytes;
        rp_encoder *encoder = NULL;
        rp_error error = { { 0 } };
        make_copy(&copy, "tiny_bert/mean");
        snprintf(path, sizeof path, "%s/model.safetensors", copy.folder);
        rp_buffer_init(&bytes, 0);
        assert_int_equal(rp_file_read(path, 1 << 20, &bytes, NULL), RP_OK);
        const size_t data = 8 + (size_t)rp_load_le64(bytes.ptr);
        if (nan) {
            rp_store_le32(bytes.ptr + bytes.len - 8, 0x7fc00000);
        } else {
            /* Constant weights: all that a text says is lost in the first layer norm. */
            for (size_t at = data; at < bytes.len; at += 4)
                rp_store_le32(bytes.ptr + at, 0x3f000000);
        }
        assert_int_equal(rp_file_replace(path, rp_buffer_str(&bytes), 0600, NULL), RP_OK);
        assert_int_equal(rp_encoder_open(copy.folder, NULL, &encoder, &error), RP_OK);
        remove_copy(&copy);
        assert_int_equal(rp_encoder_self_test(encoder, &error), RP_ERR_CORRUPT);
        rp_encoder_close(encoder);
        rp_buffer_fini(&bytes);
    }
}

static void
test_the_fingerprint_changes_with_what_makes_vectors_comparable(void **state)
{
    (void)state;
    static const struct {
        const char *file, *old, *new;
    } rows[] = {
        { "config.json", "\"num_attention_heads\": 2", "\"num_attention_heads\": 3" },
        { "config.json", "1e-12", "1e-11" },
        { "sentence_bert_config.json", "14", "13" },
        { "tokenizer.json", "\"lowercase\": true", "\"lowercase\": false" },
        { "1_Pooling/config.json", "\"pooling_mode_cls_token\": false, \"pooling_mode_mean_tokens\": true",
          "\"pooling_mode_cls_token\": true" },
        { "model.safetensors", "\"pt\"", "\"tp\"" }, /* any byte of the weight file */
        { "modules.json", "\"name\": \"0\"", "\"name\": \"x\"" }, /* means nothing: the same */
    };
    char prints[RP_COUNT(rows) + 1][33];
    for (size_t i = 0; i <= RP_COUNT(rows); i++) {
        damaged_copy copy;
        rp_encoder *encoder = NULL;
        make_copy(&copy, "tiny_bert/mean");
        if (i < RP_COUNT(rows))
            edit(&copy, rows[i].file, rows[i].old, rows[i].new);
        assert_int_equal(rp_encoder_open(copy.folder, NULL, &encoder, NULL), RP_OK);
        strcpy(prints[i], rp_encoder_fingerprint(encoder).ptr);
        rp_encoder_close(encoder);
        remove_copy(&copy);
    }
    for (size_t i = 0; i + 1 < RP_COUNT(rows); i++)
        for (size_t j = i + 1; j <= RP_COUNT(rows); j++)
            if (j != RP_COUNT(rows) - 1)
                assert_string_not_equal(prints[i], prints[j]);
    assert_string_equal(prints[RP_COUNT(rows) - 1], prints[RP_COUNT(rows)]);
}

static void
put_copy_file(const damaged_copy *copy, const char *name, const char *text)
{
    char path[1100];
    snprintf(path, sizeof path, "%s/%s", copy->folder, name);
    assert_int_equal(rp_file_replace(path, rp_str_of(text), 0600, NULL), RP_OK);
}

/* The prompt that a model's makers name as the default stands before every text, also before
 * an empty one; others are left alone. It is part of the fingerprint. */
static void
test_the_default_prompt_stands_before_every_text(void **state)
{
    (void)state;
    static const char name[] = "config_sentence_transformers.json";
    enum { DIM = 24 };
    float with[DIM], without[DIM];
    char prints[2][33];
    for (int named = 0; named < 2; named++) {
        damaged_copy copy;
        rp_encoder *encoder = NULL;
        char path[1100];
        const rp_str text = named ? RP_STR("a question") : RP_STR("the cache a question");
        make_copy(&copy, "tiny_bert/mean");
        put_copy_file(&copy, name, named ? "{\"prompts\": {\"query\": \"the cache \", \"other\": \"why\"}, "
                                           "\"default_prompt_name\": \"query\"}"
                                         : "{\"prompts\": {\"query\": \"the cache \"}, "
                                           "\"default_prompt_name\": null}");
        assert_int_equal(rp_encoder_open(copy.folder, NULL, &encoder, NULL), RP_OK);
        assert_int_equal(rp_encoder_embed(encoder, &text, 1, named ? with : without, NULL, NULL),
                         RP_OK);
        strcpy(prints[named], rp_encoder_fingerprint(encoder).ptr);
        rp_encoder_close(encoder);
        snprintf(path, sizeof path, "%s/%s", copy.folder, name);
        unlink(path);
        remove_copy(&copy);
    }
    assert_memory_equal(with, without, sizeof with);
    assert_string_not_equal(prints[0], prints[1]);
}

static void
test_a_prompt_that_cannot_be_left_out_is_refused(void **state)
{
    (void)state;
    damaged_copy copy;
    rp_encoder *encoder = NULL;
    rp_error error = { { 0 } };
    char path[1100];
    make_copy(&copy, "tiny_bert/mean");
    edit(&copy, "1_Pooling/config.json", "{", "{\"include_prompt\": false, ");
    assert_int_equal(rp_encoder_open(copy.folder, NULL, &encoder, &error), RP_OK); /* no prompt */
    rp_encoder_close(encoder);
    encoder = NULL;
    put_copy_file(&copy, "config_sentence_transformers.json",
                  "{\"prompts\": {\"q\": \"why \"}, \"default_prompt_name\": \"q\"}");
    assert_int_equal(rp_encoder_open(copy.folder, NULL, &encoder, &error), RP_ERR_UNSUPPORTED);
    assert_non_null(strstr(error.text, copy.folder));
    assert_null(encoder);
    snprintf(path, sizeof path, "%s/config_sentence_transformers.json", copy.folder);
    unlink(path);
    remove_copy(&copy);
}

/* The first numbers, of length 1 again; or a shorter window. Both make another store. */
static void
test_vectors_and_windows_may_be_cut(void **state)
{
    (void)state;
    enum { DIM = 24, FEW = 7 };
    char folder[1024];
    float whole[DIM], part[FEW], cut[DIM];
    const rp_str text = RP_STR("why does it not forget me"), start = RP_STR("why does it");
    snprintf(folder, sizeof folder, "%s/tiny_bert/mean", RP_TEST_GOLDEN);
    const rp_encoder_options rows[] = { { .dim = 0 }, { .dim = DIM, .window = 14 }, { .dim = FEW },
                                        { .window = 5 } };
    rp_encoder *encoders[RP_COUNT(rows)];
    for (size_t i = 0; i < RP_COUNT(rows); i++)
        assert_int_equal(rp_encoder_open(folder, &rows[i], &encoders[i], NULL), RP_OK);
    assert_int_equal(rp_encoder_embed(encoders[0], &text, 1, whole, NULL, NULL), RP_OK);
    assert_int_equal(rp_encoder_embed(encoders[2], &text, 1, part, NULL, NULL), RP_OK);
    assert_int_equal(rp_encoder_dim(encoders[2]), FEW);
    double squares = 0;
    for (size_t i = 0; i < FEW; i++)
        squares += (double)whole[i] * whole[i];
    for (size_t i = 0; i < FEW; i++)
        assert_true(fabs(whole[i] / sqrt(squares) - (double)part[i]) < 1e-6);
    bool truncated = false;
    assert_int_equal(rp_encoder_embed(encoders[3], &text, 1, cut, &truncated, NULL), RP_OK);
    assert_true(truncated);
    assert_int_equal(rp_encoder_embed(encoders[0], &start, 1, whole, NULL, NULL), RP_OK);
    for (size_t i = 0; i < DIM; i++)
        assert_true(fabsf(whole[i] - cut[i]) < 1e-6F);
    assert_str_equal(rp_encoder_fingerprint(encoders[0]), rp_encoder_fingerprint(encoders[1]));
    for (size_t i = 0; i < RP_COUNT(rows); i++)
        for (size_t j = 0; j < i; j++)
            if (i != 1)
                assert_false(rp_str_equal(rp_encoder_fingerprint(encoders[i]),
                                          rp_encoder_fingerprint(encoders[j])));
    for (size_t i = 0; i < RP_COUNT(rows); i++)
        rp_encoder_close(encoders[i]);
    const rp_encoder_options wrong[] = { { .dim = DIM + 1 }, { .window = 15 }, { .window = 3 } };
    for (size_t i = 0; i < RP_COUNT(wrong); i++) {
        rp_encoder *encoder = NULL;
        assert_int_equal(rp_encoder_open(folder, &wrong[i], &encoder, NULL), RP_ERR_INVALID);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_tier_computes_what_the_script_computed),
        cmocka_unit_test(test_files_that_contradict_each_other_are_refused),
        cmocka_unit_test(test_a_degenerate_encoder_is_found),
        cmocka_unit_test(test_the_fingerprint_changes_with_what_makes_vectors_comparable),
        cmocka_unit_test(test_the_default_prompt_stands_before_every_text),
        cmocka_unit_test(test_a_prompt_that_cannot_be_left_out_is_refused),
        cmocka_unit_test(test_vectors_and_windows_may_be_cut),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
