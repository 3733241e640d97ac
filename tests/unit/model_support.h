/* model_support.h - the small models of tests/golden: comparing with what their scripts
 * computed, and copies of them to damage. */
#ifndef RP_TESTS_MODEL_SUPPORT_H
#define RP_TESTS_MODEL_SUPPORT_H

#include "base/file.h"
#include "json/json.h"
#include "test_support.h"

#include <math.h>
#include <reprise/embed.h>

/* `most`: how far a number may be off, by precision. */
static inline void
compare_with_expected(const char *model, const rp_encoder_options *options, const char *expected,
                      const double most[RP_PRECISION_INT8 + 1])
{
    const char *tier = options->tier;
    const rp_precision precision = options->precision;
    char folder[1024], path[1400];
    rp_error error = { { 0 } };
    rp_buffer file;
    rp_arena arena;
    rp_json_reader *reader;
    const rp_json *cases;
    rp_encoder *encoder = NULL;
    snprintf(folder, sizeof folder, "%s/%s", RP_TEST_GOLDEN, model);
    snprintf(path, sizeof path, "%s/%s", folder, expected);
    rp_buffer_init(&file, 0);
    rp_arena_init(&arena, 0);
    assert_int_equal(rp_file_read(path, 1 << 20, &file, &error), RP_OK);
    assert_int_equal(rp_json_reader_new(&reader), RP_OK);
    assert_int_equal(rp_json_parse(reader, &arena, rp_buffer_str(&file), &cases, &error), RP_OK);
    if (rp_encoder_open(folder, options, &encoder, &error) != RP_OK)
        fail_msg("%s", error.text);
    const size_t dim = rp_encoder_dim(encoder);
    float *vectors = calloc(cases->count * dim, sizeof *vectors);
    rp_str *texts = calloc(cases->count, sizeof *texts);
    bool *truncated = calloc(cases->count, sizeof *truncated);
    for (size_t i = 0; i < cases->count; i++)
        texts[i] = rp_json_string(rp_json_get(&cases->children[i], "text"));
    assert_int_equal(rp_encoder_embed(encoder, texts, cases->count, vectors, truncated, NULL),
                     RP_OK);
    double largest = 0;
    for (size_t i = 0; i < cases->count; i++) {
        const rp_json *wanted = rp_json_get(&cases->children[i], "vector");
        assert_int_equal(wanted->count, dim);
        for (size_t j = 0; j < dim; j++) {
            double number;
            assert_true(rp_json_to_double(&wanted->children[j], &number));
            assert_true(isfinite(vectors[i * dim + j]));
            largest = fmax(largest, fabs(number - (double)vectors[i * dim + j]));
        }
    }
    if (largest > most[precision])
        fail_msg("%s, %s, class %d: off by %g", model, tier, precision, largest);
    for (size_t i = 0; i < cases->count; i++) {
        const size_t tokens = rp_encoder_tokenize(encoder, texts[i], NULL, 0);
        assert_int_equal(truncated[i], tokens > rp_encoder_window_tokens(encoder));
        assert_int_equal(rp_json_get(&cases->children[i], "ids")->count,
                         RP_MIN(tokens, rp_encoder_window_tokens(encoder)));
    }
    free(vectors);
    free(texts);
    free(truncated);
    rp_encoder_close(encoder);
    rp_json_reader_free(reader);
    rp_arena_fini(&arena);
    rp_buffer_fini(&file);
}

/* A copy of a model in a temporary folder, to change files of. */
typedef struct damaged_copy {
    char folder[64];
} damaged_copy;

static const char *const model_files[] = { "config.json",    "model.safetensors",
                                     "tokenizer.json", "modules.json",
                                     "1_Pooling/config.json", "sentence_bert_config.json" };

static inline void
make_copy(damaged_copy *copy, const char *model)
{
    char path[1100];
    rp_buffer bytes;
    rp_buffer_init(&bytes, 0);
    strcpy(copy->folder, "/tmp/reprise-tiny.XXXXXX");
    assert_non_null(mkdtemp(copy->folder));
    snprintf(path, sizeof path, "%s/1_Pooling", copy->folder);
    assert_int_equal(rp_folder_make(path, 0700, NULL), RP_OK);
    for (size_t i = 0; i < RP_COUNT(model_files); i++) {
        snprintf(path, sizeof path, "%s/%s/%s", RP_TEST_GOLDEN, model, model_files[i]);
        rp_buffer_clear(&bytes);
        assert_int_equal(rp_file_read(path, 1 << 20, &bytes, NULL), RP_OK);
        snprintf(path, sizeof path, "%s/%s", copy->folder, model_files[i]);
        assert_int_equal(rp_file_replace(path, rp_buffer_str(&bytes), 0600, NULL), RP_OK);
    }
    rp_buffer_fini(&bytes);
}

static inline void
remove_copy(damaged_copy *copy)
{
    char path[1100];
    for (size_t i = 0; i < RP_COUNT(model_files); i++) {
        snprintf(path, sizeof path, "%s/%s", copy->folder, model_files[i]);
        unlink(path);
    }
    snprintf(path, sizeof path, "%s/1_Pooling", copy->folder);
    rmdir(path);
    rmdir(copy->folder);
}

/* Replace the first `old` in a file by `new`, of the same length in binary files. */
static inline void
edit(damaged_copy *copy, const char *name, const char *old, const char *new)
{
    char path[1100];
    rp_buffer bytes, edited;
    rp_buffer_init(&bytes, 0);
    rp_buffer_init(&edited, 0);
    snprintf(path, sizeof path, "%s/%s", copy->folder, name);
    assert_int_equal(rp_file_read(path, 1 << 20, &bytes, NULL), RP_OK);
    const char *at = memmem(bytes.ptr, bytes.len, old, strlen(old));
    assert_non_null(at);
    rp_buffer_append(&edited, (rp_str){ bytes.ptr, (size_t)(at - bytes.ptr) });
    rp_buffer_append(&edited, rp_str_of(new));
    at += strlen(old);
    rp_buffer_append(&edited, (rp_str){ at, (size_t)(bytes.ptr + bytes.len - at) });
    assert_int_equal(rp_file_replace(path, rp_buffer_str(&edited), 0600, NULL), RP_OK);
    rp_buffer_fini(&bytes);
    rp_buffer_fini(&edited);
}

#endif
