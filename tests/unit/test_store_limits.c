/* test_store_limits.c - budgets are kept by eviction, and damage is a miss.
 *
 * What could go wrong: a file that grows past disk_max or a map that is full for good; a
 * tenant that floods the others out; a curated entry that is evicted; memory beyond its
 * budget; a damaged value that is served, or found again and again. */
#include "store/entry_record.h"
#include "store/store_internal.h"
#include "store_support.h"

#include <sys/stat.h>

static void
get_stats(rp_store *store, rp_store_stats *out)
{
    rp_store_stats_get(store, out);
}

static uint64_t
data_file_size(const char *folder)
{
    char path[4096];
    struct stat info;
    snprintf(path, sizeof path, "%s/data.mdb", folder);
    assert_int_equal(stat(path, &info), 0);
    return (uint64_t)info.st_size;
}

static rp_status
put_as(rp_store *store, uint64_t key, size_t reply_size, rp_str tenant, uint32_t flags)
{
    test_entry draft;
    rp_entry_id id;
    test_entry_make(&draft, key, 1, reply_size);
    draft.entry.tenant = tenant;
    draft.entry.flags = flags;
    rp_status status;
    while ((status = rp_store_put(store, &draft.entry, &id, NULL, NULL)) == RP_ERR_BUSY)
        assert_int_equal(rp_store_sync(store), RP_OK);
    test_entry_fini(&draft);
    return status;
}

/* Sizes from a few bytes to a twentieth of what an entry may have here, in random order:
 * they fragment the free pages as badly as they can. */
static void
test_a_small_disk_takes_any_number_of_entries(void **state)
{
    (void)state;
    char *folder = test_folder_make();
    const rp_store_options options = { .folder = folder, .disk_max = RP_DISK_MIN, .share_max = 1 };
    rp_store *store = test_store_open_with(options);
    rp_random random;
    rp_random_init(&random, 11);
    rp_store_stats stats;
    uint64_t disk_bytes_peak = 0;
    for (uint64_t i = 0; i < 3000; i++) {
        const size_t size = rp_random_below(&random, 8) ? rp_random_below(&random, 4000)
                                                        : rp_random_below(&random, 100000);
        assert_int_equal(put_as(store, i, size, RP_STR("a"), 0), RP_OK);
        if (i % 100 == 0) {
            assert_int_equal(rp_store_sync(store), RP_OK);
            get_stats(store, &stats);
            assert_true(stats.disk_bytes <= RP_DISK_MIN);
            assert_false(stats.admission_paused);
            disk_bytes_peak = RP_MAX(disk_bytes_peak, stats.disk_bytes);
        }
    }
    assert_int_equal(rp_store_sync(store), RP_OK);
    get_stats(store, &stats);
    assert_int_equal(stats.commit_failures, 0);
    assert_int_equal(stats.committed, 3000);
    assert_int_equal(stats.evicted_disk + stats.entries, 3000);
    assert_true(stats.evicted_disk > 1000);
    /* It is used, not merely kept small: most of the budget held entries before the pages
     * were first scattered. How often they then fill the map, which lowers the budget,
     * depends on how the writer's batches fell: a quarter of disk_max always stays, less
     * seven entries (half of 100 kB each, compressed) that go between two looks. */
    assert_true(disk_bytes_peak > RP_DISK_MIN / 2);
    assert_true(stats.disk_bytes > RP_DISK_MIN / 8);
    rp_store_close(store);
    assert_true(data_file_size(folder) <= RP_DISK_MIN + 65536);

    /* A larger store opened with a smaller budget shrinks to it. */
    store = test_store_open_with((rp_store_options){
        .folder = folder, .disk_max = 3 * RP_DISK_MIN, .share_max = 1 });
    for (uint64_t i = 10000; i < 13000; i++)
        assert_int_equal(put_as(store, i, 4000, RP_STR("a"), 0), RP_OK);
    assert_int_equal(rp_store_sync(store), RP_OK);
    get_stats(store, &stats);
    assert_true(stats.disk_bytes > RP_DISK_MIN);
    rp_store_close(store);
    store = test_store_open_with(options);
    assert_int_equal(rp_store_sync(store), RP_OK);
    get_stats(store, &stats);
    assert_true(stats.disk_bytes <= RP_DISK_MIN);
    assert_true(stats.entries > 0);
    rp_store_close(store);
    test_folder_free(folder);
}

static size_t
count_of_tenant(rp_store *store, uint64_t from, uint64_t to)
{
    size_t count = 0;
    for (uint64_t key = from; key < to; key++) {
        test_entry want;
        test_entry_make(&want, key, 1, 0);
        count += rp_store_exact(store, want.entry.scope, want.entry.key) != 0;
        test_entry_fini(&want);
    }
    return count;
}

static void
note_status(void *context, rp_status status, rp_entry_id id)
{
    (void)id;
    *(rp_status *)context = status;
}

static void
test_a_flood_pushes_out_its_own_tenant_only(void **state)
{
    (void)state;
    char *folder = test_folder_make();
    rp_store *store = test_store_open_with((rp_store_options){
        .folder = folder, .disk_max = RP_DISK_MIN, .share_max = 0.4 });
    for (uint64_t i = 0; i < 200; i++)
        assert_int_equal(put_as(store, i, 3000, RP_STR("quiet"), 0), RP_OK);
    for (uint64_t i = 1000; i < 5000; i++)
        assert_int_equal(put_as(store, i, 3000, RP_STR("flood"), 0), RP_OK);
    assert_int_equal(rp_store_sync(store), RP_OK);
    assert_int_equal(count_of_tenant(store, 0, 200), 200);
    const size_t flood = count_of_tenant(store, 1000, 5000);
    print_message("200 of the quiet tenant, %zu of the flood\n", flood);
    /* Its share is .4 of the budget (3 MiB here), in entries that take 1500 bytes at least
     * (four bits a byte of reply cannot be compressed away) and two pages at most. */
    assert_true(flood > 1258291 / 8192 && flood < 1258291 / 1500);
    /* One entry that is larger than the whole share is refused, by the door or the writer. */
    rp_store_close(store);
    store = test_store_open_with((rp_store_options){
        .folder = folder, .disk_max = RP_DISK_MIN, .share_max = 0.02 });
    test_entry large;
    rp_entry_id id;
    rp_status status = RP_OK;
    test_entry_make(&large, 9000, 1, 200000); /* 100,000 bytes at least, compressed */
    assert_int_equal(rp_store_put(store, &large.entry, &id, note_status, &status), RP_OK);
    assert_int_equal(rp_store_sync(store), RP_OK);
    assert_int_equal(status, RP_ERR_LIMIT);
    assert_int_equal(rp_store_exact(store, large.entry.scope, large.entry.key), 0);
    test_entry_fini(&large);
    assert_int_equal(put_as(store, 9001, RP_DISK_MIN, RP_STR("large"), 0), RP_ERR_LIMIT);
    rp_store_close(store);
    test_folder_free(folder);
}

/* A tenant with a share of its own holds as much of it as others of theirs, and no other tenant's
 * changes; a share that is set later holds from then on. */
static void
test_a_tenant_may_have_a_share_of_its_own(void **state)
{
    (void)state;
    char *folder = test_folder_make();
    rp_store *store = test_store_open_with((rp_store_options){
        .folder = folder, .disk_max = RP_DISK_MIN, .share_max = 0.4 });
    const rp_store_share small = { RP_STR("small"), 0.1 }, wrong = { RP_STR("small"), 1.5 };
    assert_int_equal(rp_store_shares_set(store, &small, 1), RP_OK);
    assert_int_equal(rp_store_shares_set(store, &wrong, 1), RP_ERR_INVALID);
    for (uint64_t i = 0; i < 1500; i++) {
        assert_int_equal(put_as(store, i, 3000, RP_STR("small"), 0), RP_OK);
        assert_int_equal(put_as(store, 10000 + i, 3000, RP_STR("usual"), 0), RP_OK);
    }
    assert_int_equal(rp_store_sync(store), RP_OK);
    const size_t held = count_of_tenant(store, 0, 1500);
    const size_t usual = count_of_tenant(store, 10000, 11500);
    print_message("%zu of the small tenant, %zu of the usual one\n", held, usual);
    /* A quarter, but for whole pages. */
    assert_true(held > 0 && held * 3 < usual && usual < held * 5);
    assert_int_equal(rp_store_shares_set(store, NULL, 0), RP_OK);
    for (uint64_t i = 2000; i < 3500; i++)
        assert_int_equal(put_as(store, i, 3000, RP_STR("small"), 0), RP_OK);
    assert_int_equal(rp_store_sync(store), RP_OK);
    assert_true(count_of_tenant(store, 2000, 3500) > held * 3);
    rp_store_close(store);
    test_folder_free(folder);
}

static void
test_curated_entries_stay(void **state)
{
    (void)state;
    char *folder = test_folder_make();
    const rp_store_options options = { .folder = folder, .disk_max = RP_DISK_MIN, .share_max = 0.5 };
    rp_store *store = test_store_open_with(options);
    for (uint64_t i = 0; i < 50; i++)
        assert_int_equal(put_as(store, i, 3000, RP_STR("a"), RP_ENTRY_STATIC), RP_OK);
    for (int restarts = 0; restarts < 2; restarts++) {
        for (uint64_t i = 1000; i < 3000; i++)
            assert_int_equal(put_as(store, i, 3000, i % 2 ? RP_STR("a") : RP_STR("b"), 0), RP_OK);
        assert_int_equal(rp_store_sync(store), RP_OK);
        assert_int_equal(count_of_tenant(store, 0, 50), 50);
        rp_store_close(store);
        store = test_store_open_with(options);
    }
    rp_store_close(store);
    test_folder_free(folder);
}

/* What is asked for again and again stays, while what came once goes: on disk too. */
static void
test_used_entries_outlive_a_scan(void **state)
{
    (void)state;
    char *folder = test_folder_make();
    rp_store *store = test_store_open_with((rp_store_options){
        .folder = folder, .disk_max = RP_DISK_MIN, .share_max = 1 });
    for (uint64_t i = 0; i < 20; i++)
        assert_int_equal(put_as(store, i, 3000, RP_STR("a"), 0), RP_OK);
    assert_int_equal(rp_store_sync(store), RP_OK);
    for (uint64_t i = 1000; i < 6000; i++) {
        assert_int_equal(put_as(store, i, 3000, RP_STR("a"), 0), RP_OK);
        test_entry used;
        test_entry_make(&used, i % 20, 1, 0);
        rp_store_touch(store, rp_store_exact(store, used.entry.scope, used.entry.key));
        test_entry_fini(&used);
    }
    assert_int_equal(rp_store_sync(store), RP_OK);
    assert_int_equal(count_of_tenant(store, 0, 20), 20);
    rp_store_close(store);
    test_folder_free(folder);
}

static void
test_hot_replies_keep_to_their_bytes(void **state)
{
    (void)state;
    char *folder = test_folder_make();
    rp_store *store = test_store_open_with((rp_store_options){
        .folder = folder, .disk_max = 256 << 20, .memory_max = 4 << 20, .share_max = 1 });
    rp_store_stats stats;
    for (uint64_t i = 0; i < 1500; i++) {
        assert_int_equal(put_as(store, i, 10000, RP_STR("a"), 0), RP_OK);
        get_stats(store, &stats);
        assert_true(stats.memory_bytes <= stats.memory_max);
    }
    assert_int_equal(rp_store_sync(store), RP_OK);
    get_stats(store, &stats);
    assert_int_equal(stats.entries, 1500);
    assert_true(stats.evicted_memory > 500 && stats.hot_entries > 50);
    for (uint64_t i = 0; i < 1500; i++) {
        test_entry want;
        test_entry_make(&want, i, 1, 10000);
        const rp_entry *got = rp_store_get(store, want.entry.scope, i + 1, RP_PART_REPLY);
        assert_non_null(got);
        assert_str_equal(got->reply, want.entry.reply);
        rp_entry_unref(got);
        test_entry_fini(&want);
    }
    get_stats(store, &stats);
    assert_true(stats.memory_bytes <= stats.memory_max);
    rp_store_close(store);
    test_folder_free(folder);
}

/* ---- damage ----------------------------------------------------------------- */

/* Flip one bit of every value of a table, behind the store's back. */
static void
damage_table(const char *folder, rp_table table, size_t at_from_end)
{
    rp_database database;
    assert_int_equal(rp_database_open(&database, folder, 64 << 20, false, NULL, NULL, NULL), RP_OK);
    MDB_txn *txn;
    MDB_cursor *cursor;
    MDB_val key, value;
    assert_int_equal(mdb_txn_begin(database.env, NULL, 0, &txn), 0);
    assert_int_equal(mdb_cursor_open(txn, database.tables[table], &cursor), 0);
    for (int code = mdb_cursor_get(cursor, &key, &value, MDB_FIRST); code == 0;
         code = mdb_cursor_get(cursor, &key, &value, MDB_NEXT)) {
        char *copy = malloc(value.mv_size);
        memcpy(copy, value.mv_data, value.mv_size);
        copy[value.mv_size - at_from_end] ^= 4;
        MDB_val changed = { value.mv_size, copy };
        assert_int_equal(mdb_cursor_put(cursor, &key, &changed, MDB_CURRENT), 0);
        free(copy);
    }
    mdb_cursor_close(cursor);
    assert_int_equal(mdb_txn_commit(txn), 0);
    rp_database_close(&database);
}

static bool
count_vector(void *context, rp_entry_id id, rp_scope scope, const float *mean, size_t dim)
{
    (void)id;
    (void)scope;
    (void)mean;
    (void)dim;
    ++*(size_t *)context;
    return true;
}

static size_t
table_rows(const char *folder, rp_table table)
{
    rp_database database;
    assert_int_equal(rp_database_open(&database, folder, 64 << 20, true, NULL, NULL, NULL), RP_OK);
    rp_reader *reader = rp_database_read(&database);
    assert_non_null(reader);
    const size_t rows = rp_database_rows(&database, reader->txn, table);
    rp_database_read_end(&database, reader);
    rp_database_close(&database);
    return rows;
}

static void
test_a_damaged_value_is_a_miss_counted_and_removed(void **state)
{
    (void)state;
    /* The reply, the head of the record, the vectors. */
    static const struct {
        rp_table table;
        size_t at_from_end;
    } cases[] = { { RP_TABLE_ENTRY, 1 }, { RP_TABLE_ENTRY, 420 }, { RP_TABLE_VEC, 9 } };
    for (size_t c = 0; c < RP_COUNT(cases); c++) {
        char *folder = test_folder_make();
        rp_store *store = test_store_open(folder);
        for (uint64_t i = 0; i < 4; i++)
            test_put(store, i, 1, 300);
        rp_store_close(store);
        damage_table(folder, cases[c].table, cases[c].at_from_end);

        store = test_store_open(folder);
        rp_store_stats stats;
        for (uint64_t i = 0; i < 4; i++) {
            const rp_entry *got = rp_store_get(store, test_scope(i), i + 1,
                                               RP_PART_REPLY | RP_PART_VECTORS);
            assert_null(got);
            assert_null(rp_store_get(store, test_scope(i), i + 1, RP_PART_REPLY | RP_PART_VECTORS));
        }
        assert_int_equal(rp_store_sync(store), RP_OK);
        size_t vectors = 0;
        assert_int_equal(rp_store_walk_vectors(store, count_vector, &vectors, NULL), RP_OK);
        assert_int_equal(vectors, 0);
        get_stats(store, &stats);
        assert_true(stats.damaged >= 4 && stats.damaged <= 8); /* asked again before it left */
        assert_int_equal(stats.entries, 0);
        /* The keys are free again, and nothing of the old rows is in the way. */
        for (uint64_t i = 0; i < 4; i++) {
            assert_lacks(store, i);
            test_put(store, i, 2, 300);
        }
        assert_int_equal(rp_store_sync(store), RP_OK);
        rp_store_close(store);
        assert_int_equal(table_rows(folder, RP_TABLE_ENTRY), 4);
        assert_int_equal(table_rows(folder, RP_TABLE_VEC), 4);
        assert_int_equal(table_rows(folder, RP_TABLE_EXACT), 4);
        store = test_store_open(folder);
        for (uint64_t i = 0; i < 4; i++)
            assert_holds(store, i, 2, 300);
        rp_store_close(store);
        test_folder_free(folder);
    }
}

static void
test_lost_exact_rows_are_made_again(void **state)
{
    (void)state;
    char *folder = test_folder_make();
    rp_store *store = test_store_open(folder);
    for (uint64_t i = 0; i < 10; i++)
        test_put(store, i, 1, 300);
    rp_store_close(store);
    damage_table(folder, RP_TABLE_EXACT, 1);
    store = test_store_open(folder);
    rp_store_stats stats;
    get_stats(store, &stats);
    assert_int_equal(stats.damaged, 10);
    assert_int_equal(stats.entries, 10);
    for (uint64_t i = 0; i < 10; i++)
        assert_holds(store, i, 1, 300);
    rp_store_close(store);
    store = test_store_open(folder);
    get_stats(store, &stats);
    assert_int_equal(stats.damaged, 0);
    rp_store_close(store);
    test_folder_free(folder);
}

/* Every bit of a small record, and every shorter length: never taken for a good one. */
static void
test_no_damaged_record_decodes(void **state)
{
    (void)state;
    test_entry made;
    test_entry_make(&made, 3, 1, 40);
    rp_buffer bytes;
    rp_buffer_init(&bytes, 0);
    assert_int_equal(rp_entry_record_encode(&made.entry, 9, NULL, &bytes), RP_OK);
    rp_entry view;
    rp_stored_reply reply;
    char unpacked[40];
    assert_int_equal(rp_entry_record_decode(rp_buffer_str(&bytes), 9, &view, &reply), RP_OK);
    assert_int_equal(rp_stored_reply_unpack(&reply, 9, NULL, unpacked), RP_OK);
    assert_int_not_equal(rp_entry_record_decode(rp_buffer_str(&bytes), 8, &view, &reply), RP_OK);
    for (size_t cut = 0; cut < bytes.len; cut++) {
        const rp_str shorter = { rp_test_guarded(bytes.ptr, cut), cut };
        assert_int_not_equal(rp_entry_record_decode(shorter, 9, &view, &reply), RP_OK);
    }
    char *copy = rp_test_guarded(bytes.ptr, bytes.len);
    for (size_t bit = 0; bit < bytes.len * 8; bit++) {
        copy[bit / 8] ^= (char)(1u << bit % 8);
        rp_status status = rp_entry_record_decode((rp_str){ copy, bytes.len }, 9, &view, &reply);
        if (status == RP_OK && reply.size <= sizeof unpacked)
            status = rp_stored_reply_unpack(&reply, 9, NULL, unpacked);
        assert_int_not_equal(status, RP_OK);
        copy[bit / 8] ^= (char)(1u << bit % 8);
    }
    const size_t size = rp_vector_record_size(TEST_DIM, 3);
    char vector[1024];
    rp_vector_record_encode(9, 77, made.entry.scope, TEST_DIM, 3, made.mean, made.windows, vector);
    copy = rp_test_guarded(vector, size);
    rp_vector_view vectors;
    assert_int_equal(rp_vector_record_decode((rp_str){ copy, size }, 9, &vectors), RP_OK);
    for (size_t bit = 0; bit < size * 8; bit++) {
        copy[bit / 8] ^= (char)(1u << bit % 8);
        assert_int_not_equal(rp_vector_record_decode((rp_str){ copy, size }, 9, &vectors), RP_OK);
        copy[bit / 8] ^= (char)(1u << bit % 8);
    }
    rp_buffer_fini(&bytes);
    test_entry_fini(&made);
}

static void
test_a_newer_format_is_refused(void **state)
{
    (void)state;
    char *folder = test_folder_make();
    rp_store_close(test_store_open(folder));
    rp_database database;
    assert_int_equal(rp_database_open(&database, folder, 64 << 20, false, NULL, NULL, NULL), RP_OK);
    MDB_txn *txn;
    char number[8];
    rp_store_le64(number, RP_FORMAT_VERSION + 1);
    rp_buffer value;
    rp_buffer_init(&value, 0);
    rp_value_encode(rp_hash64(RP_STR("format")), (rp_str){ number, 8 }, NULL, &value);
    assert_int_equal(mdb_txn_begin(database.env, NULL, 0, &txn), 0);
    assert_int_equal(rp_database_put(&database, txn, RP_TABLE_META, RP_STR("format"),
                                     rp_buffer_str(&value)),
                     0);
    assert_int_equal(mdb_txn_commit(txn), 0);
    rp_buffer_fini(&value);
    rp_database_close(&database);
    rp_store *store;
    rp_error error = { { 0 } };
    const rp_store_options options = { .folder = folder };
    assert_int_equal(rp_store_open(&options, &store, &error), RP_ERR_STALE);
    assert_non_null(strstr(error.text, "newer"));
    test_folder_free(folder);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_small_disk_takes_any_number_of_entries),
        cmocka_unit_test(test_a_flood_pushes_out_its_own_tenant_only),
        cmocka_unit_test(test_a_tenant_may_have_a_share_of_its_own),
        cmocka_unit_test(test_curated_entries_stay),
        cmocka_unit_test(test_used_entries_outlive_a_scan),
        cmocka_unit_test(test_hot_replies_keep_to_their_bytes),
        cmocka_unit_test(test_a_damaged_value_is_a_miss_counted_and_removed),
        cmocka_unit_test(test_lost_exact_rows_are_made_again),
        cmocka_unit_test(test_no_damaged_record_decodes),
        cmocka_unit_test(test_a_newer_format_is_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
