/* test_tiny_modernbert.c - two small ModernBERTs give the numbers of an independent program.
 *
 * What could go wrong: queries and keys turned by the wrong angle (of the other kind of layer,
 * with pairs of neighbors instead of halves), a reach off by one, the halves of the gated
 * unit swapped, a norm where the first layer has none, a bias read where there is none. Each
 * changes every number. tests/golden/make_tiny_modernbert.py computed them in double
 * precision; its last text is cut by the window, its reach is much shorter than that. */
#include "math/kernels.h"
#include "model_support.h"

static void
test_each_tier_computes_what_the_script_computed(void **state)
{
    (void)state;
    /* Rounding over four layers without a norm behind them; observed 6e-7 for f32, .008 for
     * bf16 and .019 for int8, which has few numbers a row here to average over. */
    static const double most[] = { [RP_PRECISION_F32] = 3e-6, [RP_PRECISION_BF16] = 0.015,
                                   [RP_PRECISION_INT8] = 0.05 };
    for (size_t at = 0; rp_kernels_at(at); at++)
        for (rp_precision precision = RP_PRECISION_F32; precision <= RP_PRECISION_INT8; precision++) {
            const rp_encoder_options options = { .precision = precision,
                                                 .tier = rp_kernels_at(at)->name };
            compare_with_expected("tiny_modernbert/mean", &options, "expected.json", most);
            compare_with_expected("tiny_modernbert/cls", &options, "expected.json", most);
        }
}

static void
test_what_cannot_be_computed_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *file, *old, *new;
        rp_status wanted;
    } rows[] = {
        { "config.json", "\"attention_bias\": false", "\"attention_bias\": true",
          RP_ERR_UNSUPPORTED },
        { "config.json", "\"norm_bias\": false", "\"norm_bias\": true", RP_ERR_UNSUPPORTED },
        { "config.json", "\"gelu\"", "\"silu\"", RP_ERR_UNSUPPORTED },
        { "config.json", "\"num_attention_heads\": 2", "\"num_attention_heads\": 8",
          RP_ERR_CORRUPT }, /* heads of 3 numbers have no halves */
        { "config.json", "\"intermediate_size\": 20", "\"intermediate_size\": 40",
          RP_ERR_CORRUPT },
        { "config.json", "\"local_attention\": 6", "\"local_attention\": 0", RP_ERR_LIMIT },
        { "config.json", "160000.0", "0", RP_ERR_CORRUPT },
        { "config.json", "160000.0", "1e300", RP_ERR_CORRUPT },
        { "config.json", "\"global_attn_every_n_layers\": 3", "\"global_attn_every_n_layers\": 0",
          RP_ERR_LIMIT },
        { "config.json", "\"global_attn_every_n_layers\": 3",
          "\"layer_types\": [\"full_attention\"]", RP_ERR_CORRUPT },
        { "config.json", "\"global_attn_every_n_layers\": 3",
          "\"layer_types\": [\"full_attention\", \"x\", \"x\", \"x\"]", RP_ERR_UNSUPPORTED },
        { "config.json", "\"global_attn_every_n_layers\": 3",
          "\"rope_parameters\": {\"full_attention\": {\"rope_type\": \"yarn\"}}",
          RP_ERR_UNSUPPORTED },
        { "model.safetensors", "layers.1.attn_norm.weight", "layers.1.attn_norm.weighT",
          RP_ERR_CORRUPT },
    };
    for (size_t i = 0; i < RP_COUNT(rows); i++) {
        damaged_copy copy;
        rp_encoder *encoder = NULL;
        rp_error error = { { 0 } };
        make_copy(&copy, "tiny_modernbert/mean");
        edit(&copy, rows[i].file, rows[i].old, rows[i].new);
        const rp_status status = rp_encoder_open(copy.folder, NULL, &encoder, &error);
        remove_copy(&copy);
        if (status != rows[i].wanted)
            fail_msg("row %zu: %s (%s)", i, rp_status_name(status), error.text);
        assert_null(encoder);
        assert_non_null(strstr(error.text, copy.folder));
    }
}

/* Texts of every length up to beyond the window, one at a time and together: local attention
 * must not depend on who is in the batch. */
static void
test_company_changes_nothing(void **state)
{
    (void)state;
    enum { COUNT = 45, DIM = 24 };
    char folder[1024], text[2 * COUNT + 1];
    rp_encoder *encoder = NULL;
    rp_str texts[COUNT];
    float together[COUNT * DIM], alone[DIM];
    snprintf(folder, sizeof folder, "%s/tiny_modernbert/mean", RP_TEST_GOLDEN);
    assert_int_equal(rp_encoder_open(folder, NULL, &encoder, NULL), RP_OK);
    assert_int_equal(rp_encoder_dim(encoder), DIM);
    for (size_t i = 0; i < sizeof text - 1; i++)
        text[i] = i % 2 ? (char)('!' + i % 50) : '1';
    for (size_t i = 0; i < COUNT; i++)
        texts[i] = (rp_str){ text, i };
    assert_int_equal(rp_encoder_embed(encoder, texts, COUNT, together, NULL, NULL), RP_OK);
    for (size_t i = 0; i < COUNT; i++) {
        assert_int_equal(rp_encoder_embed(encoder, &texts[i], 1, alone, NULL, NULL), RP_OK);
        for (size_t j = 0; j < DIM; j++)
            assert_true(fabsf(alone[j] - together[i * DIM + j]) <= 1e-6F);
    }
    rp_encoder_close(encoder);
}

/* Empty, one token, the whole window, 100,000 tokens, bytes that are no text. */
static void
test_odd_texts_are_embedded_or_refused(void **state)
{
    (void)state;
    enum { DIM = 24, TOKENS = 100000 };
    char folder[1024];
    rp_encoder *encoder = NULL;
    float *storage = calloc((RP_WINDOWS_MAX + 1) * DIM, sizeof *storage);
    char *text = malloc(TOKENS);
    rp_embedding embedding;
    rp_error error = { { 0 } };
    bool truncated;
    snprintf(folder, sizeof folder, "%s/tiny_modernbert/mean", RP_TEST_GOLDEN);
    assert_int_equal(rp_encoder_open(folder, NULL, &encoder, NULL), RP_OK);
    for (size_t i = 0; i < TOKENS; i++)
        text[i] = i % 2 ? 'x' : '1'; /* digits and letters never join: a token each */
    const size_t body = rp_encoder_window_tokens(encoder) - 2;
    const struct {
        size_t tokens, windows;
    } rows[] = { { 0, 1 }, { 1, 1 }, { body, 1 }, { body + 1, 2 }, { body * RP_WINDOWS_MAX, 8 } };
    for (size_t i = 0; i < RP_COUNT(rows); i++) {
        const rp_str part = { text, rows[i].tokens };
        assert_int_equal(rp_encoder_tokenize(encoder, part, NULL, 0), rows[i].tokens + 2);
        assert_int_equal(rp_encoder_embed_windows(encoder, part, storage, &embedding, &error), RP_OK);
        assert_int_equal(embedding.window_count, rows[i].windows);
        for (size_t j = 0; j < DIM; j++)
            assert_true(isfinite(embedding.mean[j]));
        assert_int_equal(rp_encoder_embed(encoder, &part, 1, storage, &truncated, NULL), RP_OK);
        assert_int_equal(truncated, rows[i].tokens > body);
    }
    const rp_str all = { text, TOKENS }, broken = RP_STR("\xff\xfe\x80\0x");
    assert_int_equal(rp_encoder_embed_windows(encoder, all, storage, &embedding, &error),
                     RP_ERR_LIMIT);
    assert_int_equal(rp_encoder_embed(encoder, &all, 1, storage, &truncated, NULL), RP_OK);
    assert_true(truncated);
    assert_int_equal(rp_encoder_embed(encoder, &broken, 1, storage, &truncated, NULL), RP_OK);
    rp_encoder_close(encoder);
    free(text);
    free(storage);
}

/* A number that is not finite, anywhere, is no direction in the end, in every class: it is
 * never a vector that looks like any other. */
static void
test_weights_that_are_not_finite_give_no_direction(void **state)
{
    (void)state;
    for (rp_precision class = RP_PRECISION_F32; class <= RP_PRECISION_INT8; class++)
        for (size_t bad = 0; bad < 3; bad++) {
            static const uint32_t bits[] = { 0x7fc00000, 0x7f800000, 0xff800000 };
            damaged_copy copy;
            char path[1100];
            rp_buffer bytes;
            rp_encoder *encoder = NULL;
            float vector[24];
            const rp_str why = RP_STR("why");
            const rp_encoder_options options = { .precision = class };
            make_copy(&copy, "tiny_modernbert/mean");
            rp_buffer_init(&bytes, 0);
            snprintf(path, sizeof path, "%s/model.safetensors", copy.folder);
            assert_int_equal(rp_file_read(path, 1 << 20, &bytes, NULL), RP_OK);
            rp_store_le32(bytes.ptr + bytes.len - 24 * 4 - 8, bits[bad]); /* of the last mlp.Wo */
            assert_int_equal(rp_file_replace(path, rp_buffer_str(&bytes), 0600, NULL), RP_OK);
            assert_int_equal(rp_encoder_open(copy.folder, &options, &encoder, NULL), RP_OK);
            remove_copy(&copy);
            assert_int_equal(rp_encoder_embed(encoder, &why, 1, vector, NULL, NULL),
                             RP_ERR_CORRUPT);
            assert_int_equal(rp_encoder_self_test(encoder, NULL), RP_ERR_CORRUPT);
            rp_encoder_close(encoder);
            rp_buffer_fini(&bytes);
        }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_tier_computes_what_the_script_computed),
        cmocka_unit_test(test_what_cannot_be_computed_is_refused),
        cmocka_unit_test(test_company_changes_nothing),
        cmocka_unit_test(test_odd_texts_are_embedded_or_refused),
        cmocka_unit_test(test_weights_that_are_not_finite_give_no_direction),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
