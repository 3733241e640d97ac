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

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_tier_computes_what_the_script_computed),
        cmocka_unit_test(test_files_that_contradict_each_other_are_refused),
        cmocka_unit_test(test_a_degenerate_encoder_is_found),
        cmocka_unit_test(test_the_fingerprint_changes_with_what_makes_vectors_comparable),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
