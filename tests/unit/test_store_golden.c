/* test_store_golden.c - a store written by an earlier version is read, for ever.
 *
 * tests/golden/store_v1 was written once (REPRISE_GOLDEN_WRITE=1 writes it anew, for a new
 * format only, under a new name). If a change of the format is not noticed by its author,
 * it is noticed here. */
#include "store_support.h"

#define GOLDEN_ID_7 "e3b2ca04bdafa7d4cdd022ad2e51fb1d" /* under the secret beside it */

static void
copy_file(const char *from_folder, const char *to_folder, const char *name)
{
    char path[4096];
    static char bytes[1 << 20];
    snprintf(path, sizeof path, "%s/%s", from_folder, name);
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    const size_t size = fread(bytes, 1, sizeof bytes, file);
    fclose(file);
    snprintf(path, sizeof path, "%s/%s", to_folder, name);
    file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, size, file), size);
    fclose(file);
}

static bool
check_outcome(void *context, uint64_t sequence, rp_str bytes)
{
    assert_int_equal(sequence, ++*(uint64_t *)context);
    assert_str_equal(bytes, RP_STR("an outcome"));
    return true;
}

static void
write_golden(void)
{
    char *folder = test_folder_make();
    rp_store *store = test_store_open(folder);
    for (uint64_t i = 0; i < 10; i++)
        test_put(store, i, i + 1, i * 150);
    for (int i = 0; i < 3; i++)
        assert_int_equal(rp_store_outcome_append(store, RP_STR("an outcome")), RP_OK);
    assert_int_equal(rp_store_state_put(store, RP_STR("policy"), RP_STR("a state")), RP_OK);
    assert_int_equal(rp_store_epoch_bump(store, RP_STR("t/a")), RP_OK);
    const uint8_t hash[32] = { 1, 2, 3 };
    rp_store_credential_accept(store, hash, 123456789);
    rp_store_close(store);
    copy_file(folder, GOLDEN_FOLDER "/store_v1", "data.mdb");
    copy_file(folder, GOLDEN_FOLDER "/store_v1", "secret");
    test_folder_free(folder);
}

static void
test_version_1_is_read(void **state)
{
    (void)state;
    if (getenv("REPRISE_GOLDEN_WRITE"))
        write_golden();
    char *folder = test_folder_make(), text[33];
    copy_file(GOLDEN_FOLDER "/store_v1", folder, "data.mdb");
    copy_file(GOLDEN_FOLDER "/store_v1", folder, "secret");
    rp_store *store = test_store_open(folder);
    assert_true(rp_store_vectors_usable(store));
    for (uint64_t i = 0; i < 10; i++)
        assert_holds(store, i, i + 1, i * 150);
    uint64_t last = 0;
    rp_store_walk_outcomes(store, 0, check_outcome, &last);
    assert_int_equal(last, 3);
    rp_buffer value;
    rp_buffer_init(&value, 0);
    assert_true(rp_store_state_get(store, RP_STR("policy"), &value));
    assert_str_equal(rp_buffer_str(&value), RP_STR("a state"));
    rp_buffer_fini(&value);
    const uint8_t hash[32] = { 1, 2, 3 };
    assert_int_equal(rp_store_credential_accepted(store, hash), 123456789);
    assert_int_equal(rp_store_epoch(store, RP_STR("t/a")), 1);
    rp_store_id_encode(store, 7, text);
    assert_string_equal(text, GOLDEN_ID_7);
    assert_true(test_put(store, 100, 1, 10) > 10);
    rp_store_stats stats;
    rp_store_stats_get(store, &stats);
    assert_int_equal(stats.damaged, 0);
    rp_store_close(store);
    test_folder_free(folder);
}

int
main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_version_1_is_read) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
