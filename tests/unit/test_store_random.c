/* test_store_random.c - the store against a plain array that replays the operations.
 *
 * What could go wrong: an order of puts, replacements, removals, time and restarts that
 * loses an entry, keeps a dead one, or lets index and store drift apart. Random
 * sequences are run on the store and on an oracle (what each key must hold); the
 * index is played by a set that the events maintain. A second test has
 * several threads do the same at once, each on keys of its own, while others read
 * everything: then no answer may ever be of another key or torn. Seeds are printed. */
#include "store_support.h"

#include <pthread.h>
#include <stdatomic.h>

enum { KEYS = 40, IDS_MAX = 1 << 21 }; /* each start leaves up to 65,536 ids unused */

typedef struct oracle_row {
    bool there;
    uint64_t version;
    size_t reply_size;
    rp_time expires; /* 0: never */
    rp_entry_id id;
} oracle_row;

typedef struct replayed {
    rp_store *store;
    char *folder;
    rp_clock_manual clock;
    rp_random random;
    oracle_row rows[KEYS];
    uint64_t version;
    atomic_bool indexed[IDS_MAX]; /* what an index would hold */
} replayed;

static void
index_added(void *context, const rp_entry *entry)
{
    replayed *it = context;
    assert_true(entry->id < IDS_MAX);
    assert_false(it->indexed[entry->id]);
    it->indexed[entry->id] = true;
}

static void
index_removed(void *context, rp_entry_id id, rp_scope scope)
{
    replayed *it = context;
    (void)scope;
    assert_true(id < IDS_MAX);
    it->indexed[id] = false;
}

static void
open_replayed(replayed *it)
{
    it->store = test_store_open_with((rp_store_options){
        .folder = it->folder,
        .disk_max = 64 << 20,
        .clock = &it->clock.clock,
        .events = { index_added, index_removed, it },
    });
}

static bool
is_there(const replayed *it, const oracle_row *row)
{
    return row->there && (!row->expires || row->expires > it->clock.now_us);
}

static void
put_one(replayed *it)
{
    const uint64_t key = rp_random_below(&it->random, KEYS);
    oracle_row *row = &it->rows[key];
    test_entry draft;
    const size_t size = rp_random_below(&it->random, 10) ? rp_random_below(&it->random, 3000)
                                                          : rp_random_below(&it->random, 60000);
    test_entry_make(&draft, key, ++it->version, size);
    draft.entry.expires = rp_random_below(&it->random, 3)
        ? 0
        : it->clock.now_us + (rp_time)rp_random_below(&it->random, 2000);
    *row = (oracle_row){ true, it->version, size, draft.entry.expires, 0 };
    assert_int_equal(rp_store_put(it->store, &draft.entry, &row->id, NULL, NULL), RP_OK);
    test_entry_fini(&draft);
}

static void
remove_some(replayed *it)
{
    rp_entry_id ids[4];
    size_t count = 1 + rp_random_below(&it->random, 4), there = 0;
    for (size_t i = 0; i < count; i++) {
        oracle_row *row = &it->rows[rp_random_below(&it->random, KEYS)];
        ids[i] = row->id; /* 0 is no entry */
        there += is_there(it, row);
        row->there = false;
    }
    const size_t removed = rp_store_remove(it->store, ids, count);
    assert_true(removed >= there); /* an expired one may still have been there to remove */
    assert_true(removed <= count);
}

static void
check_key(replayed *it, uint64_t key)
{
    const oracle_row *row = &it->rows[key];
    const unsigned parts = (unsigned)rp_random_below(&it->random, 8);
    test_entry want;
    test_entry_make(&want, key, row->version, row->reply_size);
    want.entry.expires = row->expires;
    const rp_entry_id id = rp_store_exact(it->store, want.entry.scope, want.entry.key);
    assert_int_equal(id, is_there(it, row) ? row->id : 0);
    const rp_entry *got = row->id ? rp_store_get(it->store, want.entry.scope, row->id, parts) : NULL;
    assert_int_equal(got != NULL, is_there(it, row));
    if (got)
        assert_same_entry(got, &want.entry, parts);
    rp_entry_unref(got);
    if (id)
        rp_store_touch(it->store, id);
    test_entry_fini(&want);
}

typedef struct vector_check {
    replayed *it;
    size_t count;
} vector_check;

static bool
check_vector(void *context, rp_entry_id id, rp_scope scope, const float *mean, size_t dim)
{
    vector_check *check = context;
    (void)scope;
    (void)mean;
    assert_int_equal(dim, TEST_DIM);
    assert_true(check->it->indexed[id]);
    check->count++;
    return true;
}

/* Committed, the index and the store hold the same. */
static void
check_index(replayed *it)
{
    vector_check check = { it, 0 };
    size_t live = 0, with_vector = 0, indexed = 0;
    assert_int_equal(rp_store_sync(it->store), RP_OK);
    for (uint64_t key = 0; key < KEYS; key++) {
        live += is_there(it, &it->rows[key]);
        with_vector += is_there(it, &it->rows[key]) && key % 5 != 4;
        if (is_there(it, &it->rows[key]))
            assert_true(it->indexed[it->rows[key].id]);
    }
    for (size_t id = 0; id < IDS_MAX; id++)
        indexed += it->indexed[id];
    assert_int_equal(indexed, live);
    assert_int_equal(rp_store_walk_vectors(it->store, check_vector, &check, NULL), RP_OK);
    assert_int_equal(check.count, with_vector);
    rp_store_stats stats;
    rp_store_stats_get(it->store, &stats);
    assert_int_equal(stats.entries, live);
    assert_int_equal(stats.damaged, 0);
}

static void
run_sequence(uint64_t seed, int steps)
{
    replayed *it = calloc(1, sizeof *it);
    assert_non_null(it);
    rp_random_init(&it->random, seed);
    rp_clock_manual_init(&it->clock, 1000000000);
    it->folder = test_folder_make();
    open_replayed(it);
    for (int step = 0; step < steps; step++) {
        const uint64_t draw = rp_random_below(&it->random, 100);
        if (draw < 45)
            put_one(it);
        else if (draw < 50)
            remove_some(it);
        else if (draw < 55)
            it->clock.now_us += (int64_t)rp_random_below(&it->random, 300);
        else if (draw < 57)
            check_index(it);
        else if (draw < 58) {
            rp_store_close(it->store);
            open_replayed(it);
        } else {
            check_key(it, rp_random_below(&it->random, KEYS));
        }
    }
    for (uint64_t key = 0; key < KEYS; key++)
        check_key(it, key);
    check_index(it);
    rp_store_close(it->store);
    test_folder_free(it->folder);
    free(it);
}

static void
test_every_sequence_equals_its_replay(void **state)
{
    (void)state;
    for (uint64_t seed = 1; seed <= 6; seed++) {
        print_message("seed %d\n", (int)seed);
        run_sequence(seed, 800);
    }
}

/* ---- at once ---------------------------------------------------------------- */

enum { THREADS = 4, KEYS_EACH = 10, ROUNDS = 150 };

typedef struct shared_world {
    rp_store *store;
    atomic_uint versions[THREADS * KEYS_EACH]; /* newest put of each key; release/acquire */
    atomic_uint writers;
    atomic_ulong acknowledged;
} shared_world;

typedef struct worker {
    shared_world *world;
    unsigned number;
} worker;

static void
count_done(void *context, rp_status status, rp_entry_id id)
{
    shared_world *world = context;
    assert_int_equal(status, RP_OK);
    assert_true(id != 0);
    atomic_fetch_add(&world->acknowledged, 1);
}

static void *
write_keys(void *context)
{
    const worker *me = context;
    rp_random random;
    rp_random_init(&random, 77 + me->number);
    for (unsigned round = 1; round <= ROUNDS; round++) {
        const uint64_t key = me->number * KEYS_EACH + rp_random_below(&random, KEYS_EACH);
        test_entry draft;
        rp_entry_id id;
        test_entry_make(&draft, key, round, 500 + 10 * round);
        assert_int_equal(rp_store_put(me->world->store, &draft.entry, &id, count_done, me->world),
                         RP_OK);
        atomic_store(&me->world->versions[key], round);
        test_entry_fini(&draft);
        assert_holds(me->world->store, key, round, 500 + 10 * round);
        if (rp_random_below(&random, 4) == 0) {
            assert_int_equal(rp_store_remove(me->world->store, &id, 1), 1);
            assert_lacks(me->world->store, key);
            atomic_store(&me->world->versions[key], 0);
        }
    }
    atomic_fetch_sub(&me->world->writers, 1);
    return NULL;
}

/* Whatever is found is whole and of its key, whichever version it is. */
static void
read_key(shared_world *world, uint64_t key)
{
    test_entry want;
    test_entry_make(&want, key, 0, 0);
    const rp_entry_id id = rp_store_exact(world->store, want.entry.scope, want.entry.key);
    const rp_entry *got = id ? rp_store_hot(world->store, want.entry.scope, id) : NULL;
    if (id && !got)
        got = rp_store_get(world->store, want.entry.scope, id, RP_PART_REPLY);
    if (got) {
        const uint64_t version = (uint64_t)got->upstream_us;
        test_entry_fini(&want);
        test_entry_make(&want, key, version, 500 + 10 * version);
        assert_same_entry(got, &want.entry, RP_PART_REPLY);
        rp_store_touch(world->store, id);
    }
    rp_entry_unref(got);
    test_entry_fini(&want);
}

static void *
read_keys(void *context)
{
    const worker *me = context;
    rp_random random;
    uint8_t hash[32] = { 0 };
    rp_random_init(&random, 99 + me->number);
    while (atomic_load(&me->world->writers)) {
        read_key(me->world, rp_random_below(&random, THREADS * KEYS_EACH));
        hash[0] = (uint8_t)rp_random_below(&random, 200);
        rp_store_credential_accept(me->world->store, hash, 5);
        (void)rp_store_credential_accepted(me->world->store, hash);
        (void)rp_store_epoch(me->world->store, RP_STR("t/x"));
        rp_store_stats stats;
        rp_store_stats_get(me->world->store, &stats);
    }
    return NULL;
}

static void
test_threads_never_see_a_torn_or_foreign_entry(void **state)
{
    (void)state;
    char *folder = test_folder_make();
    shared_world world = { .writers = THREADS };
    const rp_store_options options = { .folder = folder, .memory_max = 4 << 20 };
    world.store = test_store_open_with(options);
    pthread_t threads[THREADS + 2];
    worker workers[THREADS + 2];
    for (unsigned i = 0; i < THREADS + 2; i++) {
        workers[i] = (worker){ &world, i };
        assert_int_equal(pthread_create(&threads[i], NULL, i < THREADS ? write_keys : read_keys,
                                        &workers[i]),
                         0);
    }
    for (unsigned i = 0; i < THREADS + 2; i++)
        pthread_join(threads[i], NULL);
    rp_store_close(world.store);
    assert_int_equal(world.acknowledged, THREADS * ROUNDS);

    world.store = test_store_open_with(options);
    for (uint64_t key = 0; key < THREADS * KEYS_EACH; key++) {
        const unsigned version = world.versions[key];
        if (version)
            assert_holds(world.store, key, version, 500 + 10 * version);
        else
            assert_lacks(world.store, key);
    }
    rp_store_close(world.store);
    test_folder_free(folder);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_sequence_equals_its_replay),
        cmocka_unit_test(test_threads_never_see_a_torn_or_foreign_entry),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
