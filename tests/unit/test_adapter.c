/* test_adapter.c - a merged adapter computes what PEFT's formula says, or is refused.
 *
 * What could go wrong: the scale (alpha / r, or / sqrt(r)), a rank or alpha that differs by
 * module, A and B exchanged, a module whose name has a root of its own, a tensor that is
 * silently passed over, weights that are changed for the base too. The golden adapters of
 * tests/golden/tiny_adapters change q and v, all kinds of matrices, biases and norms; their
 * vectors come from an independent program (make_tiny_adapters.py). Hostile files get a
 * sentence that names the folder. */
#include "embed/adapters.h"
#include "math/kernels.h"
#include "model_support.h"

#include <pthread.h>

static const struct {
    const char *name, *base;
} adapters[] = { { "plain", "tiny_bert/mean" },
                 { "stabilised", "tiny_bert/cls" },
                 { "replacing", "tiny_bert/mean" },
                 { "modern", "tiny_modernbert/mean" } };

static void
test_merged_adapters_compute_what_the_script_computed(void **state)
{
    (void)state;
    /* As the bases alone, and a little more for larger weights; observed 5e-7, .010, .012. */
    static const double most[] = { [RP_PRECISION_F32] = 3e-6, [RP_PRECISION_BF16] = 0.02,
                                   [RP_PRECISION_INT8] = 0.05 };
    for (size_t at = 0; rp_kernels_at(at); at++)
        for (rp_precision precision = RP_PRECISION_F32; precision <= RP_PRECISION_INT8; precision++)
            for (size_t i = 0; i < RP_COUNT(adapters); i++) {
                char folder[1024], expected[128];
                snprintf(folder, sizeof folder, "%s/tiny_adapters/%s", RP_TEST_GOLDEN,
                         adapters[i].name);
                snprintf(expected, sizeof expected, "../../tiny_adapters/%s/expected.json",
                         adapters[i].name);
                const rp_encoder_options options = { .precision = precision,
                                                     .tier = rp_kernels_at(at)->name,
                                                     .adapter = folder };
                compare_with_expected(adapters[i].base, &options, expected, most);
            }
}

static rp_encoder *
open_base(const char *model, rp_precision precision)
{
    char folder[1024];
    rp_encoder *encoder = NULL;
    const rp_encoder_options options = { .precision = precision };
    snprintf(folder, sizeof folder, "%s/%s", RP_TEST_GOLDEN, model);
    assert_int_equal(rp_encoder_open(folder, &options, &encoder, NULL), RP_OK);
    return encoder;
}

static void
embed_one(const rp_encoder *encoder, float *out)
{
    const rp_str text = RP_STR("the cache answers a question");
    assert_int_equal(rp_encoder_embed(encoder, &text, 1, out, NULL, NULL), RP_OK);
}

/* Each adapter is a model of its own: other vectors, another fingerprint; the base keeps its
 * numbers, and may go first. Merged at the start or later is the same to the bit. */
static void
test_an_adapter_leaves_its_base_alone(void **state)
{
    (void)state;
    enum { DIM = 24 };
    for (rp_precision precision = RP_PRECISION_F32; precision <= RP_PRECISION_INT8; precision++)
        for (size_t i = 0; i < RP_COUNT(adapters); i += 2) { /* plain shares, replacing does not */
            char folder[1024], model[1024];
            float before[DIM], after[DIM], adapted[DIM], opened[DIM];
            rp_encoder *base = open_base(adapters[i].base, precision), *with = NULL, *again = NULL;
            embed_one(base, before);
            snprintf(folder, sizeof folder, "%s/tiny_adapters/%s", RP_TEST_GOLDEN, adapters[i].name);
            assert_int_equal(rp_encoder_adapt(base, folder, &with, NULL), RP_OK);
            embed_one(base, after);
            embed_one(with, adapted);
            assert_memory_equal(before, after, sizeof before);
            assert_memory_not_equal(before, adapted, sizeof before);
            assert_false(rp_str_equal(rp_encoder_fingerprint(base), rp_encoder_fingerprint(with)));
            rp_error error = { { 0 } };
            assert_int_equal(rp_encoder_adapt(with, folder, &again, &error), RP_ERR_INVALID);
            rp_encoder_close(base);
            embed_one(with, opened);
            assert_memory_equal(adapted, opened, sizeof adapted);

            snprintf(model, sizeof model, "%s/%s", RP_TEST_GOLDEN, adapters[i].base);
            const rp_encoder_options options = { .precision = precision, .adapter = folder };
            assert_int_equal(rp_encoder_open(model, &options, &again, NULL), RP_OK);
            embed_one(again, opened);
            assert_memory_equal(adapted, opened, sizeof adapted);
            assert_str_equal(rp_encoder_fingerprint(again), rp_encoder_fingerprint(with));
            rp_encoder_close(with);
            rp_encoder_close(again);
        }
}

/* ---- hostile and foreign files ---- */

static void
copy_adapter(damaged_copy *copy, const char *name)
{
    static const char *const files[] = { "adapter_config.json", "adapter_model.safetensors" };
    char path[1100];
    rp_buffer bytes;
    rp_buffer_init(&bytes, 0);
    strcpy(copy->folder, "/tmp/reprise-adapter.XXXXXX");
    assert_non_null(mkdtemp(copy->folder));
    for (size_t i = 0; i < RP_COUNT(files); i++) {
        snprintf(path, sizeof path, "%s/tiny_adapters/%s/%s", RP_TEST_GOLDEN, name, files[i]);
        rp_buffer_clear(&bytes);
        assert_int_equal(rp_file_read(path, 1 << 20, &bytes, NULL), RP_OK);
        snprintf(path, sizeof path, "%s/%s", copy->folder, files[i]);
        assert_int_equal(rp_file_replace(path, rp_buffer_str(&bytes), 0600, NULL), RP_OK);
    }
    rp_buffer_fini(&bytes);
}

static void
remove_adapter(damaged_copy *copy)
{
    char path[1100];
    snprintf(path, sizeof path, "%s/adapter_config.json", copy->folder);
    unlink(path);
    snprintf(path, sizeof path, "%s/adapter_model.safetensors", copy->folder);
    unlink(path);
    rmdir(copy->folder);
}

#define CONFIG "adapter_config.json"
#define WEIGHTS "adapter_model.safetensors"

static void
test_what_does_not_fit_is_refused(void **state)
{
    (void)state;
    static const struct {
        const char *file, *old, *new;
        rp_status wanted;
    } rows[] = {
        { CONFIG, "\"LORA\"", "\"IA3\"", RP_ERR_UNSUPPORTED },
        { CONFIG, "\"use_dora\": false", "\"use_dora\": true", RP_ERR_UNSUPPORTED },
        { CONFIG, "\"layer_replication\": null", "\"layer_replication\": [[0, 1]]",
          RP_ERR_UNSUPPORTED },
        { CONFIG, "\"init_lora_weights\": true", "\"init_lora_weights\": \"pissa\"",
          RP_ERR_UNSUPPORTED },
        { CONFIG, "\"r\": 4", "\"r\": 5", RP_ERR_CORRUPT },
        { CONFIG, "\"r\": 4", "\"r\": 0", RP_ERR_CORRUPT },
        { CONFIG, "\"r\": 4", "\"r\": 1e300", RP_ERR_CORRUPT },
        { CONFIG, "\"lora_alpha\": 8", "\"lora_alpha\": \"8\"", RP_ERR_CORRUPT },
        { CONFIG, "\"lora_alpha\": 8", "\"lora_alpha\": 1e200", RP_ERR_CORRUPT },
        { CONFIG, "\"query\"", "\"quarry\"", RP_ERR_CORRUPT },
        { CONFIG, "{", "[", RP_ERR_CORRUPT },
        { CONFIG, "\"rank_pattern\": {}", "\"rank_pattern\": {\"query\": 3}", RP_ERR_CORRUPT },
        /* A layer that the model lacks, a module that is no Linear, another root. */
        { WEIGHTS, "encoder.layer.1.attention.self.query.lora_A",
          "encoder.layer.9.attention.self.query.lora_A", RP_ERR_CORRUPT },
        { WEIGHTS, "self.query.lora_A", "self.quern.lora_A", RP_ERR_CORRUPT },
        { WEIGHTS, "base_model.model", "base_model.modem", RP_ERR_CORRUPT },
        { WEIGHTS, "lora_B.weight", "lora_B.weighT", RP_ERR_CORRUPT },
        { WEIGHTS, "\"shape\": [4, 24]", "\"shape\": [24, 4]", RP_ERR_CORRUPT },
        { WEIGHTS, "\"shape\": [4, 24]", "\"shape\": [3, 32]", RP_ERR_CORRUPT },
        { WEIGHTS, "\"dtype\": \"F32\"", "\"dtype\": \"I32\"", RP_ERR_UNSUPPORTED },
    };
    rp_encoder *base = open_base("tiny_bert/mean", RP_PRECISION_F32);
    for (size_t i = 0; i < RP_COUNT(rows); i++) {
        damaged_copy copy;
        rp_encoder *encoder = NULL;
        rp_error error = { { 0 } };
        copy_adapter(&copy, "plain");
        edit(&copy, rows[i].file, rows[i].old, rows[i].new);
        const rp_status status = rp_encoder_adapt(base, copy.folder, &encoder, &error);
        remove_adapter(&copy);
        if (status != rows[i].wanted)
            fail_msg("row %zu: %s (%s)", i, rp_status_name(status), error.text);
        assert_null(encoder);
        assert_non_null(strstr(error.text, copy.folder)); /* the sentence names the folder */
    }
    rp_encoder_close(base);
}

/* Every shorter file, and none at all. */
static void
test_a_cut_file_is_refused(void **state)
{
    (void)state;
    rp_encoder *base = open_base("tiny_bert/mean", RP_PRECISION_F32), *encoder = NULL;
    damaged_copy copy;
    char path[1100];
    rp_buffer bytes;
    rp_error error = { { 0 } };
    copy_adapter(&copy, "plain");
    rp_buffer_init(&bytes, 0);
    snprintf(path, sizeof path, "%s/%s", copy.folder, WEIGHTS);
    assert_int_equal(rp_file_read(path, 1 << 20, &bytes, NULL), RP_OK);
    for (size_t size = 0; size < bytes.len; size += 1 + bytes.len / 100) {
        assert_int_equal(rp_file_replace(path, (rp_str){ bytes.ptr, size }, 0600, NULL), RP_OK);
        assert_int_not_equal(rp_encoder_adapt(base, copy.folder, &encoder, &error), RP_OK);
        assert_null(encoder);
    }
    remove_adapter(&copy);
    assert_int_equal(rp_encoder_adapt(base, copy.folder, &encoder, &error), RP_ERR_NOT_FOUND);
    rp_encoder_close(base);
    rp_buffer_fini(&bytes);
}

/* Not finite numbers come out as "no direction", never as a vector. */
static void
test_an_adapter_of_nan_gives_no_direction(void **state)
{
    (void)state;
    for (rp_precision precision = RP_PRECISION_F32; precision <= RP_PRECISION_INT8; precision++) {
        rp_encoder *base = open_base("tiny_bert/mean", precision), *encoder = NULL;
        damaged_copy copy;
        char path[1100];
        float vector[24];
        rp_buffer bytes;
        const rp_str text = RP_STR("why");
        copy_adapter(&copy, "plain");
        rp_buffer_init(&bytes, 0);
        snprintf(path, sizeof path, "%s/%s", copy.folder, WEIGHTS);
        assert_int_equal(rp_file_read(path, 1 << 20, &bytes, NULL), RP_OK);
        for (size_t at = 8 + (size_t)rp_load_le64(bytes.ptr); at < bytes.len; at += 4)
            rp_store_le32(bytes.ptr + at, 0x7fc00000);
        assert_int_equal(rp_file_replace(path, rp_buffer_str(&bytes), 0600, NULL), RP_OK);
        assert_int_equal(rp_encoder_adapt(base, copy.folder, &encoder, NULL), RP_OK);
        assert_int_equal(rp_encoder_embed(encoder, &text, 1, vector, NULL, NULL), RP_ERR_CORRUPT);
        assert_int_equal(rp_encoder_self_test(encoder, NULL), RP_ERR_CORRUPT);
        assert_int_equal(rp_encoder_embed(base, &text, 1, vector, NULL, NULL), RP_OK);
        remove_adapter(&copy);
        rp_encoder_close(encoder);
        rp_encoder_close(base);
        rp_buffer_fini(&bytes);
    }
}

/* ---- several at a time ---- */

enum { ROUNDS = 200, READERS = 2 };

typedef struct crowd {
    rp_adapters *set;
    float vectors[2][24]; /* what "now" may give: plain's or replacing's */
    bool wrong[READERS];
    size_t at;
    pthread_mutex_t lock;
} crowd;

static void *
embed_while_swapped(void *context)
{
    crowd *all = context;
    pthread_mutex_lock(&all->lock);
    const size_t me = all->at++;
    pthread_mutex_unlock(&all->lock);
    for (size_t i = 0; i < ROUNDS; i++) {
        float vector[24];
        const rp_str text = RP_STR("the cache answers a question");
        rp_encoder *encoder = rp_adapters_get(all->set, "now");
        if (!encoder || rp_encoder_embed(encoder, &text, 1, vector, NULL, NULL) != RP_OK ||
            (memcmp(vector, all->vectors[0], sizeof vector) != 0 &&
             memcmp(vector, all->vectors[1], sizeof vector) != 0))
            all->wrong[me] = true;
        rp_encoder_close(encoder);
    }
    return NULL;
}

static void
test_adapters_are_exchanged_under_readers(void **state)
{
    (void)state;
    rp_encoder *base = open_base("tiny_bert/mean", RP_PRECISION_F32);
    crowd all = { .lock = PTHREAD_MUTEX_INITIALIZER };
    char folders[2][1024];
    pthread_t threads[READERS];
    rp_error error = { { 0 } };
    assert_int_equal(rp_adapters_new(base, &all.set, NULL), RP_OK);
    for (size_t i = 0; i < 2; i++) {
        snprintf(folders[i], sizeof folders[i], "%s/tiny_adapters/%s", RP_TEST_GOLDEN,
                 i ? "replacing" : "plain");
        assert_int_equal(rp_adapters_load(all.set, i ? "other" : "now", folders[i], NULL), RP_OK);
        rp_encoder *encoder = rp_adapters_get(all.set, i ? "other" : "now");
        embed_one(encoder, all.vectors[i]);
        rp_encoder_close(encoder);
    }
    assert_int_equal(rp_adapters_count(all.set), 2);
    for (size_t i = 0; i < READERS; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, embed_while_swapped, &all), 0);
    for (size_t i = 0; i < 50; i++)
        assert_int_equal(rp_adapters_load(all.set, "now", folders[i % 2], NULL), RP_OK);
    for (size_t i = 0; i < READERS; i++) {
        pthread_join(threads[i], NULL);
        assert_false(all.wrong[i]);
    }
    /* What cannot be read leaves what was there. */
    assert_int_equal(rp_adapters_load(all.set, "now", "/nowhere", &error), RP_ERR_NOT_FOUND);
    rp_encoder *now = rp_adapters_get(all.set, "now"), *bare = rp_adapters_get(all.set, NULL);
    assert_non_null(now);
    assert_ptr_equal(bare, base);
    assert_null(rp_adapters_get(all.set, "never"));
    assert_true(rp_adapters_remove(all.set, "now"));
    assert_false(rp_adapters_remove(all.set, "now"));
    assert_null(rp_adapters_get(all.set, "now"));
    /* Whoever holds one keeps it, after the set and the base are gone. */
    rp_adapters_free(all.set);
    rp_encoder_close(bare);
    rp_encoder_close(base);
    float vector[24];
    embed_one(now, vector);
    assert_memory_equal(vector, all.vectors[1], sizeof vector);
    rp_encoder_close(now);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_merged_adapters_compute_what_the_script_computed),
        cmocka_unit_test(test_an_adapter_leaves_its_base_alone),
        cmocka_unit_test(test_what_does_not_fit_is_refused),
        cmocka_unit_test(test_a_cut_file_is_refused),
        cmocka_unit_test(test_an_adapter_of_nan_gives_no_direction),
        cmocka_unit_test(test_adapters_are_exchanged_under_readers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
