/* test_store.c - what was put is what is found, in memory, after the commit and after a
 * restart; and nothing else is.
 *
 * What could go wrong: an entry that is lost, torn, of another scope, or answers after
 * it was replaced, removed or expired; an event in the wrong order; a second process in
 * the folder. Every entry follows from a number, so each is compared byte for byte. */
#include "store_support.h"

#include <stdatomic.h>
#include <sys/stat.h>
#include <sys/wait.h>

static void
test_an_entry_answers_at_once_and_after_a_restart(void **state)
{
    (void)state;
    char *folder = test_folder_make();
    rp_store *store = test_store_open(folder);
    rp_entry_id ids[50];
    for (uint64_t i = 0; i < 50; i++) {
        ids[i] = test_put(store, i, 1, 100 * i);
        assert_holds(store, i, 1, 100 * i); /* pending or just committed */
    }
    assert_int_equal(rp_store_sync(store), RP_OK);
    for (uint64_t i = 0; i < 50; i++)
        assert_holds(store, i, 1, 100 * i);
    rp_store_close(store);

    store = test_store_open(folder);
    for (uint64_t i = 0; i < 50; i++) {
        assert_holds(store, i, 1, 100 * i);
        assert_holds(store, i, 1, 100 * i); /* now hot */
    }
    assert_true(test_put(store, 50, 1, 10) > ids[49]); /* ids are never used again */
    rp_store_stats stats;
    rp_store_stats_get(store, &stats);
    assert_true(stats.entries >= 50 && stats.hot_entries > 0 && stats.damaged == 0);
    rp_store_close(store);
    test_folder_free(folder);
}

static void
test_another_scope_sees_nothing(void **state)
{
    (void)state;
    char *folder = test_folder_make();
    rp_store *store = test_store_open(folder);
    const rp_entry_id id = test_put(store, 1, 1, 100);
    test_entry made;
    test_entry_make(&made, 1, 1, 100);
    const rp_scope other = test_scope(99);
    for (int round = 0; round < 3; round++) {
        assert_int_equal(rp_store_exact(store, other, made.entry.key), 0);
        assert_null(rp_store_hot(store, other, id));
        assert_null(rp_store_get(store, other, id, RP_PART_REPLY));
        if (round == 0)
            assert_int_equal(rp_store_sync(store), RP_OK);
        if (round == 1) {
            /* Cold: the 64 bits of the table cannot know the scope, the entry does. */
            rp_store_close(store);
            store = test_store_open(folder);
            assert_null(rp_store_get(store, other, id, RP_PART_REPLY));
            rp_entry_unref(rp_store_get(store, made.entry.scope, id, RP_PART_REPLY));
        }
    }
    test_entry_fini(&made);
    rp_store_close(store);
    test_folder_free(folder);
}

static void
test_replacing_and_removing(void **state)
{
    (void)state;
    char *folder = test_folder_make();
    rp_store *store = test_store_open(folder);
    for (int slow = 0; slow < 2; slow++) {
        const rp_entry_id first = test_put(store, 3, 1, 500);
        if (slow)
            assert_int_equal(rp_store_sync(store), RP_OK);
        const rp_entry_id second = test_put(store, 3, 2, 700);
        assert_true(second > first);
        assert_holds(store, 3, 2, 700);
        assert_int_equal(rp_store_sync(store), RP_OK);
        assert_holds(store, 3, 2, 700);
        assert_null(rp_store_get(store, test_scope(3), first, 0));
        if (slow)
            assert_int_equal(rp_store_sync(store), RP_OK);
        assert_int_equal(rp_store_remove(store, &second, 1), 1);
        assert_lacks(store, 3);
        assert_null(rp_store_get(store, test_scope(3), second, 0));
        assert_int_equal(rp_store_remove(store, &second, 1), 0);
    }
    /* Removed while pending: it must not come up after its commit. */
    for (int i = 0; i < 50; i++) {
        const rp_entry_id id = test_put(store, 10, (uint64_t)i, 3000);
        assert_int_equal(rp_store_remove(store, &id, 1), 1);
        assert_lacks(store, 10);
    }
    assert_int_equal(rp_store_sync(store), RP_OK);
    assert_lacks(store, 10);
    rp_store_stats stats;
    rp_store_stats_get(store, &stats);
    assert_int_equal(stats.entries, 0);
    rp_store_close(store);
    store = test_store_open(folder);
    assert_lacks(store, 3);
    assert_lacks(store, 10);
    rp_store_stats_get(store, &stats);
    assert_int_equal(stats.entries, 0);
    rp_store_close(store);
    test_folder_free(folder);
}

typedef struct counted {
    rp_entry_id ids[64];
    size_t count;
} counted;

static bool
count_entry(void *context, const rp_entry *entry)
{
    counted *seen = context;
    seen->ids[seen->count++] = entry->id;
    return seen->count < 64;
}

static bool
count_vector(void *context, rp_entry_id id, rp_scope scope, const float *mean, size_t dim)
{
    counted *seen = context;
    assert_int_equal(dim, TEST_DIM);
    test_entry want;
    test_entry_make(&want, id - 1, 1, 0); /* ids of this test are key numbers plus one */
    assert_memory_equal(mean, want.mean, sizeof want.mean);
    assert_memory_equal(scope.bytes, want.entry.scope.bytes, 32);
    test_entry_fini(&want);
    seen->ids[seen->count++] = id;
    return true;
}

static size_t
walk_count(rp_store *store, rp_store_selector selector)
{
    counted seen = { 0 };
    rp_store_walk(store, &selector, 0, count_entry, &seen);
    return seen.count;
}

static void
test_walks_select(void **state)
{
    (void)state;
    char *folder = test_folder_make();
    rp_store *store = test_store_open(folder);
    for (uint64_t i = 0; i < 30; i++)
        assert_int_equal(test_put(store, i, 1, 20), i + 1);
    assert_int_equal(walk_count(store, (rp_store_selector){ 0 }), 30);
    assert_int_equal(walk_count(store, (rp_store_selector){ .tenant = RP_STR("tenant-1") }), 10);
    assert_int_equal(walk_count(store, (rp_store_selector){ .tag = RP_STR("even-0") }), 15);
    assert_int_equal(walk_count(store, (rp_store_selector){ .tag = RP_STR("version-1") }), 30);
    assert_int_equal(walk_count(store, (rp_store_selector){ .tag = RP_STR("even") }), 0);
    assert_int_equal(walk_count(store, (rp_store_selector){ .model = RP_STR("gpt-*") }), 15);
    assert_int_equal(walk_count(store, (rp_store_selector){ .model = RP_STR("gpt-*"),
                                                            .tenant = RP_STR("tenant-0") }),
                     5);
    assert_int_equal(walk_count(store, (rp_store_selector){ .id = 7 }), 1);
    assert_int_equal(walk_count(store, (rp_store_selector){ .id = 700 }), 0);
    assert_int_equal(walk_count(store, (rp_store_selector){ .older_than_us = 1 }), 30);
    assert_int_equal(
        walk_count(store, (rp_store_selector){ .older_than_us = INT64_MAX / 2 }), 0);
    counted vectors = { 0 };
    assert_int_equal(rp_store_walk_vectors(store, count_vector, &vectors, NULL), RP_OK);
    assert_int_equal(vectors.count, 24); /* one in five has none */
    rp_store_close(store);
    test_folder_free(folder);
}

static void
test_what_expired_is_gone(void **state)
{
    (void)state;
    char *folder = test_folder_make();
    rp_clock_manual clock;
    rp_clock_manual_init(&clock, 5000000);
    const rp_store_options options = { .folder = folder, .clock = &clock.clock };
    rp_store *store = test_store_open_with(options);
    test_entry made;
    rp_entry_id id, early;
    test_entry_make(&made, 1, 1, 100);
    made.entry.expires = 6000000;
    assert_int_equal(rp_store_put(store, &made.entry, &id, NULL, NULL), RP_OK);
    test_put(store, 2, 1, 100);
    assert_int_equal(rp_store_sync(store), RP_OK);
    clock.now_us = 5999999;
    assert_int_equal(rp_store_exact(store, made.entry.scope, made.entry.key), id);
    clock.now_us = 6000000;
    assert_int_equal(rp_store_exact(store, made.entry.scope, made.entry.key), 0);
    assert_null(rp_store_hot(store, made.entry.scope, id));
    assert_null(rp_store_get(store, made.entry.scope, id, RP_PART_REPLY));
    assert_int_equal(walk_count(store, (rp_store_selector){ 0 }), 1);
    /* Put when over already: never seen, and taken away as well. */
    made.entry.expires = 1;
    assert_int_equal(rp_store_put(store, &made.entry, &early, NULL, NULL), RP_OK);
    assert_int_equal(rp_store_exact(store, made.entry.scope, made.entry.key), 0);
    assert_null(rp_store_get(store, made.entry.scope, early, RP_PART_REPLY));
    assert_int_equal(rp_store_sync(store), RP_OK);
    assert_int_equal(rp_store_sync(store), RP_OK);
    rp_store_stats stats;
    rp_store_stats_get(store, &stats);
    assert_int_equal(stats.expired + stats.replaced, 2);
    assert_int_equal(stats.entries, 1);
    assert_holds(store, 2, 1, 100);
    test_entry_fini(&made);
    rp_store_close(store);
    test_folder_free(folder);
}

/* ---- events ----------------------------------------------------------------- */

typedef struct event_log {
    atomic_int added, removed, done;
    _Atomic(rp_entry_id) last_added, last_removed;
    rp_store *store;
} event_log;

static void
on_added(void *context, const rp_entry *entry)
{
    event_log *log = context;
    log->added++;
    log->last_added = entry->id;
}

static void
on_removed(void *context, rp_entry_id id, rp_scope scope)
{
    event_log *log = context;
    assert_memory_equal(scope.bytes, test_scope(1).bytes, 32);
    log->removed++;
    log->last_removed = id;
}

static void
on_done(void *context, rp_status status, rp_entry_id id)
{
    event_log *log = context;
    assert_int_equal(status, RP_OK);
    assert_int_equal(log->last_added, id); /* added first: an acknowledged entry is indexed */
    log->done++;
}

static void
test_events_follow_the_commits(void **state)
{
    (void)state;
    char *folder = test_folder_make();
    event_log log = { 0 };
    rp_store *store = test_store_open_with(
        (rp_store_options){ .folder = folder, .events = { on_added, on_removed, &log } });
    test_entry made;
    test_entry_make(&made, 1, 1, 100);
    rp_entry_id first, second;
    assert_int_equal(rp_store_put(store, &made.entry, &first, on_done, &log), RP_OK);
    assert_int_equal(rp_store_sync(store), RP_OK);
    assert_int_equal(log.done, 1);
    assert_int_equal(rp_store_put(store, &made.entry, &second, on_done, &log), RP_OK);
    assert_int_equal(rp_store_sync(store), RP_OK);
    assert_int_equal(log.last_removed, first);
    assert_int_equal(log.last_added, second);
    assert_int_equal(rp_store_remove(store, &second, 1), 1);
    assert_int_equal(log.added, 2);
    assert_int_equal(log.removed, 2);
    assert_int_equal(log.done, 2);
    test_entry_fini(&made);
    rp_store_close(store);
    test_folder_free(folder);
}

/* ---- the folder ------------------------------------------------------------- */

static void
test_one_process_a_folder(void **state)
{
    (void)state;
    char *folder = test_folder_make();
    rp_store *store = test_store_open(folder), *second = NULL;
    rp_error error = { { 0 } };
    rp_store_options options = { .folder = folder };
    assert_int_equal(rp_store_open(&options, &second, &error), RP_ERR_BUSY);
    options.read_only = true;
    assert_int_equal(rp_store_open(&options, &second, &error), RP_ERR_BUSY);
    test_put(store, 1, 1, 100);
    rp_store_close(store);

    store = test_store_open_with(options);
    second = test_store_open_with(options);
    assert_holds(store, 1, 1, 100);
    assert_holds(second, 1, 1, 100);
    test_entry made;
    test_entry_make(&made, 2, 1, 10);
    rp_entry_id id;
    assert_int_equal(rp_store_put(store, &made.entry, &id, NULL, NULL), RP_ERR_UNSUPPORTED);
    test_entry_fini(&made);
    rp_store_close(second);
    rp_store_close(store);
    test_folder_free(folder);

    folder = test_folder_make();
    options.folder = folder;
    assert_int_not_equal(rp_store_open(&options, &second, &error), RP_OK); /* nothing to read */
    test_folder_free(folder);
}

static void
test_ids_outside_can_be_read_but_not_made_up(void **state)
{
    (void)state;
    char *folder = test_folder_make();
    rp_store *store = test_store_open(folder);
    char text[33], again[33], path[4096];
    rp_entry_id id = 0;
    rp_store_id_encode(store, 12345, text);
    assert_int_equal(strlen(text), 32);
    assert_true(rp_store_id_decode(store, rp_str_of(text), &id));
    assert_int_equal(id, 12345);
    for (int i = 0; i < 32; i++) {
        char wrong[33];
        memcpy(wrong, text, 33);
        wrong[i] = wrong[i] == '0' ? '1' : '0';
        assert_false(rp_store_id_decode(store, rp_str_of(wrong), &id));
    }
    assert_false(rp_store_id_decode(store, RP_STR(""), &id));
    assert_false(rp_store_id_decode(store, rp_str_of("not hexadecimal, but 32 digits.."), &id));

    struct stat info;
    snprintf(path, sizeof path, "%s/secret", folder);
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(info.st_mode & 0777, 0600);
    assert_int_equal(info.st_size, 32);
    uint8_t secret[32];
    memcpy(secret, rp_store_secret(store), 32);
    chmod(path, 0644);
    rp_store_close(store);
    store = test_store_open(folder);
    assert_memory_equal(rp_store_secret(store), secret, 32);
    rp_store_id_encode(store, 12345, again);
    assert_string_equal(text, again);
    assert_int_equal(stat(path, &info), 0);
    assert_int_equal(info.st_mode & 0777, 0600);
    rp_store_close(store);
    /* Without its secret a store's entries are out of reach: said, not hidden. */
    unlink(path);
    rp_store_options options = { .folder = folder };
    rp_error error = { { 0 } };
    assert_int_equal(rp_store_open(&options, &store, &error), RP_ERR_CORRUPT);
    test_folder_free(folder);
}

/* ---- side tables ------------------------------------------------------------ */

static bool
count_outcome(void *context, uint64_t sequence, rp_str bytes)
{
    counted *seen = context;
    char want[32];
    snprintf(want, sizeof want, "outcome %d", (int)sequence);
    assert_str_equal(bytes, rp_str_of(want));
    seen->count++;
    return true;
}

static void
test_credentials_epochs_states_and_outcomes_survive(void **state)
{
    (void)state;
    char *folder = test_folder_make();
    rp_store *store = test_store_open(folder);
    uint8_t hash[32] = { 7 }, gone[32] = { 8 };
    assert_int_equal(rp_store_credential_accepted(store, hash), 0);
    rp_store_credential_accept(store, hash, 1000);
    rp_store_credential_accept(store, gone, 1000);
    assert_true(rp_store_credential_revoke(store, gone, NULL, NULL));
    assert_false(rp_store_credential_revoke(store, gone, NULL, NULL)); /* nothing left */
    assert_int_equal(rp_store_credential_accepted(store, hash), 1000);
    rp_store_credential_accept(store, hash, 2000); /* in memory now, on disk later */
    assert_int_equal(rp_store_credential_accepted(store, hash), 2000);
    assert_int_equal(rp_store_epoch(store, RP_STR("t/a")), 0);
    assert_int_equal(rp_store_epoch_bump(store, RP_STR("t/a")), RP_OK);
    assert_int_equal(rp_store_epoch_bump(store, RP_STR("t/a")), RP_OK);
    assert_int_equal(rp_store_epoch_bump(store, RP_STR("")), RP_OK);
    assert_int_equal(rp_store_state_put(store, RP_STR("policy"), RP_STR("state one")), RP_OK);
    assert_int_equal(rp_store_state_put(store, RP_STR("policy"), RP_STR("state two")), RP_OK);
    for (int i = 1; i <= 200; i++) {
        char text[32];
        snprintf(text, sizeof text, "outcome %d", i);
        assert_int_equal(rp_store_outcome_append(store, rp_str_of(text)), RP_OK);
    }
    assert_int_equal(rp_store_sync(store), RP_OK);
    for (int restarts = 0; restarts < 2; restarts++) {
        counted seen = { 0 };
        rp_store_walk_outcomes(store, 0, count_outcome, &seen);
        assert_int_equal(seen.count, 200);
        seen.count = 0;
        rp_store_walk_outcomes(store, 190, count_outcome, &seen);
        assert_int_equal(seen.count, 10);
        rp_buffer value;
        rp_buffer_init(&value, 0);
        assert_true(rp_store_state_get(store, RP_STR("policy"), &value));
        assert_str_equal(rp_buffer_str(&value), RP_STR("state two"));
        assert_false(rp_store_state_get(store, RP_STR("other"), &value));
        rp_buffer_fini(&value);
        assert_int_equal(rp_store_epoch(store, RP_STR("t/a")), 2);
        assert_int_equal(rp_store_epoch(store, RP_STR("")), 1);
        assert_int_equal(rp_store_epoch(store, RP_STR("t/b")), 0);
        assert_true(rp_store_credential_accepted(store, hash) >= 1000);
        assert_int_equal(rp_store_credential_accepted(store, gone), 0);
        rp_store_close(store);
        store = test_store_open(folder);
    }
    rp_store_close(store);
    test_folder_free(folder);
}

static void
test_vectors_of_another_encoder_are_not_shown(void **state)
{
    (void)state;
    static const char other[] = "ffffffffffffffffffffffffffffffff";
    char *folder = test_folder_make();
    rp_store *store = test_store_open(folder);
    for (uint64_t i = 0; i < 5; i++)
        test_put(store, i, 1, 10);
    assert_true(rp_store_vectors_usable(store));
    rp_store_close(store);

    const rp_store_options options = { .folder = folder, .fingerprint = other, .dim = TEST_DIM };
    store = test_store_open_with(options);
    assert_false(rp_store_vectors_usable(store));
    assert_string_equal(rp_store_fingerprint(store), TEST_FINGERPRINT);
    test_entry made;
    test_entry_make(&made, 10, 1, 10);
    rp_entry_id id;
    assert_int_equal(rp_store_put(store, &made.entry, &id, NULL, NULL), RP_ERR_INVALID);

    /* A reembed that stops half-way: what was made anew is not mixed with the old. */
    float vector[TEST_DIM] = { 1 };
    assert_int_equal(rp_store_vectors_replace(store, 1, 0, TEST_DIM, 1, vector, vector), RP_OK);
    assert_int_equal(rp_store_vectors_replace(store, 99, 0, TEST_DIM, 1, vector, vector),
                     RP_ERR_NOT_FOUND);
    assert_int_equal(rp_store_sync(store), RP_OK);
    rp_store_close(store);
    store = test_store_open(folder);
    assert_true(rp_store_vectors_usable(store));
    counted seen = { 0 };
    assert_int_equal(rp_store_walk_vectors(store, count_vector, &seen, NULL), RP_OK);
    assert_int_equal(seen.count, 3);
    rp_store_close(store);

    store = test_store_open_with(options);
    for (rp_entry_id at = 1; at <= 4; at++)
        assert_int_equal(rp_store_vectors_replace(store, at, 0, TEST_DIM, 1, vector, vector), RP_OK);
    assert_int_equal(rp_store_fingerprint_set(store, other, TEST_DIM), RP_OK);
    assert_true(rp_store_vectors_usable(store));
    const rp_entry *entry = rp_store_get(store, test_scope(3), 4, RP_PART_VECTORS);
    assert_non_null(entry);
    assert_int_equal(entry->window_count, 1);
    assert_memory_equal(entry->mean, vector, sizeof vector);
    rp_entry_unref(entry);
    test_entry_fini(&made);
    rp_store_close(store);
    test_folder_free(folder);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_an_entry_answers_at_once_and_after_a_restart),
        cmocka_unit_test(test_another_scope_sees_nothing),
        cmocka_unit_test(test_replacing_and_removing),
        cmocka_unit_test(test_walks_select),
        cmocka_unit_test(test_what_expired_is_gone),
        cmocka_unit_test(test_events_follow_the_commits),
        cmocka_unit_test(test_one_process_a_folder),
        cmocka_unit_test(test_ids_outside_can_be_read_but_not_made_up),
        cmocka_unit_test(test_credentials_epochs_states_and_outcomes_survive),
        cmocka_unit_test(test_vectors_of_another_encoder_are_not_shown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
