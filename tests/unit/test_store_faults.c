/* test_store_faults.c - the n-th allocation, write, sync or open fails, for every n.
 *
 * What could go wrong: a crash or a leak on a path that is never taken otherwise; an entry
 * that was acknowledged although its commit failed, or is lost although it was; a store
 * that stays paused when the disk is well again.
 *
 * Allocations of our own code are failed through the linker (--wrap, see meson.build);
 * LMDB's writes and syncs because this program defines the functions it calls. The same
 * short workload is run until a run meets no fault; after each, the fault is taken away
 * and the store must hold what it acknowledged, take new entries, and survive a restart. */
#undef _FILE_OFFSET_BITS /* the plain names, which LMDB calls */
#include "store_support.h"

#include <errno.h>
#include <fcntl.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <sys/uio.h>

/* ---- faults ----------------------------------------------------------------- */

static atomic_long calls_left = -1; /* fails when it reaches 0; negative: never */
static atomic_bool from_then_on;    /* and every call after it */
static atomic_bool in_allocations;  /* else in writes and syncs */
static atomic_bool opens_work;
static atomic_bool first_is_done;   /* the first write that fails arrives all the same */
static atomic_long faults;

static bool
is_time_to_fail(bool is_allocation)
{
    if (atomic_load(&calls_left) < 0 || atomic_load(&in_allocations) != is_allocation)
        return false;
    const long left = atomic_load(&from_then_on) && atomic_load(&calls_left) == 0
        ? 0
        : atomic_fetch_sub(&calls_left, 1) - 1;
    if (left > 0)
        return false;
    if (left < 0) {
        atomic_store(&calls_left, -1);
        return false;
    }
    if (!atomic_load(&from_then_on))
        atomic_store(&calls_left, -1);
    atomic_fetch_add(&faults, 1);
    return true;
}

static void
arm(long n, bool allocations, bool sticky)
{
    atomic_store(&faults, 0);
    atomic_store(&in_allocations, allocations);
    atomic_store(&from_then_on, sticky);
    atomic_store(&calls_left, n);
}

static void
disarm(void)
{
    atomic_store(&calls_left, -1);
}

/* Without O_DSYNC: nothing here cuts the power, so nothing waits for a disk. */
int
open(const char *path, int flags, ...)
{
    const size_t len = strlen(path);
    mode_t mode = 0;
    if (len >= 9 && strcmp(path + len - 9, "/data.mdb") == 0 && !atomic_load(&opens_work) &&
        is_time_to_fail(false)) {
        errno = EMFILE;
        return -1;
    }
    if (flags & O_CREAT) {
        va_list values;
        va_start(values, flags);
        mode = (mode_t)va_arg(values, int);
        va_end(values);
    }
    return (int)syscall(SYS_openat, AT_FDCWD, path, flags & ~O_DSYNC, mode);
}

ssize_t
pwrite(int fd, const void *bytes, size_t size, off_t offset)
{
    if (is_time_to_fail(false)) {
        if (atomic_exchange(&first_is_done, false) &&
            syscall(SYS_pwrite64, fd, bytes, size, offset) < 0)
            return -1;
        errno = ENOSPC;
        return -1;
    }
    return syscall(SYS_pwrite64, fd, bytes, size, offset);
}

ssize_t
writev(int fd, const struct iovec *parts, int count)
{
    if (is_time_to_fail(false)) {
        errno = ENOSPC;
        return -1;
    }
    return syscall(SYS_writev, fd, parts, count);
}

int
fdatasync(int fd)
{
    if (is_time_to_fail(false)) {
        errno = EIO;
        return -1;
    }
    return fd < 0 ? -1 : 0;
}

int
fsync(int fd)
{
    if (is_time_to_fail(false)) {
        errno = EIO;
        return -1;
    }
    return fd < 0 ? -1 : 0;
}

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *at, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *at, size_t size);

void *
__wrap_malloc(size_t size)
{
    return is_time_to_fail(true) ? NULL : __real_malloc(size);
}

void *
__wrap_calloc(size_t count, size_t size)
{
    return is_time_to_fail(true) ? NULL : __real_calloc(count, size);
}

void *
__wrap_realloc(void *at, size_t size)
{
    return is_time_to_fail(true) ? NULL : __real_realloc(at, size);
}

/* ---- the workload ----------------------------------------------------------- */

enum { KEYS = 6, VERSIONS = 2, REPLY_SIZE = 5000 };

/* Made before a fault is armed: the test's own allocations are not meant. */
static test_entry drafts[KEYS][VERSIONS + 1];

typedef struct truth {
    rp_store *store;
    atomic_uint acknowledged[KEYS]; /* version, or 0 */
    atomic_uint started[KEYS];
    uint64_t epoch, state; /* acknowledged */
    atomic_int index_balance; /* added minus removed */
} truth;

typedef struct ticket {
    truth *it;
    unsigned key, version;
} ticket;

static void
acknowledge(void *context, rp_status status, rp_entry_id id)
{
    const ticket *mine = context;
    (void)id;
    if (status == RP_OK)
        mine->it->acknowledged[mine->key] = mine->version;
}

static void
on_added(void *context, const rp_entry *entry)
{
    (void)entry;
    ((truth *)context)->index_balance++;
}

static void
on_removed(void *context, rp_entry_id id, rp_scope scope)
{
    (void)id;
    (void)scope;
    ((truth *)context)->index_balance--;
}

static void
run_workload(truth *it, ticket tickets[KEYS][VERSIONS + 1])
{
    rp_buffer value;
    rp_buffer_init(&value, 0);
    for (unsigned version = 1; version <= VERSIONS; version++) {
        for (unsigned key = 0; key < KEYS; key++) {
            ticket *mine = &tickets[key][version];
            rp_entry_id id;
            *mine = (ticket){ it, key, version };
            if (rp_store_put(it->store, &drafts[key][version].entry, &id, acknowledge, mine) == RP_OK)
                it->started[key] = version;
            if (key % 2 && rp_store_sync(it->store) == RP_OK)
                rp_entry_unref(rp_store_get(it->store, drafts[key][version].entry.scope, id,
                                            RP_PART_REPLY | RP_PART_VECTORS | RP_PART_SCOPE));
        }
        if (rp_store_epoch_bump(it->store, RP_STR("t/x")) == RP_OK)
            it->epoch++;
        if (rp_store_state_put(it->store, RP_STR("s"), version == 1 ? RP_STR("1") : RP_STR("2")) ==
            RP_OK)
            it->state = version;
        (void)!rp_store_outcome_append(it->store, RP_STR("outcome"));
        const uint8_t hash[32] = { (uint8_t)version };
        rp_store_credential_accept(it->store, hash, 77);
        (void)rp_store_state_get(it->store, RP_STR("s"), &value);
    }
    (void)!rp_store_sync(it->store);
    rp_buffer_fini(&value);
}

/* The version that a key holds, whole; 0: none. */
static unsigned
version_of(rp_store *store, unsigned key)
{
    const rp_entry *want = &drafts[key][1].entry;
    const rp_entry_id id = rp_store_exact(store, want->scope, want->key);
    const rp_entry *got =
        id ? rp_store_get(store, want->scope, id, RP_PART_REPLY | RP_PART_VECTORS) : NULL;
    if (!got)
        return 0;
    const unsigned version = (unsigned)got->upstream_us;
    assert_true(version >= 1 && version <= VERSIONS);
    assert_same_entry(got, &drafts[key][version].entry, RP_PART_REPLY | RP_PART_VECTORS);
    rp_entry_unref(got);
    return version;
}

/* What was acknowledged is there, or what was started after it. A put that replaced it and
 * whose commit failed may have taken it away: it was out of date. */
static void
check_truth(truth *it)
{
    unsigned live = 0;
    for (unsigned key = 0; key < KEYS; key++) {
        const unsigned version = version_of(it->store, key);
        const bool superseded = it->started[key] > it->acknowledged[key];
        if (!superseded)
            assert_int_equal(version, it->acknowledged[key]);
        else
            assert_true(version == 0 || version >= it->acknowledged[key]);
        live += version != 0;
    }
    rp_store_stats stats;
    rp_store_stats_get(it->store, &stats);
    assert_int_equal(stats.damaged, 0);
    assert_int_equal(stats.entries, live);
    assert_true(rp_store_epoch(it->store, RP_STR("t/x")) >= it->epoch);
    rp_buffer value;
    rp_buffer_init(&value, 0);
    if (it->state)
        assert_true(rp_store_state_get(it->store, RP_STR("s"), &value) &&
                    value.ptr[0] >= (char)('0' + it->state));
    rp_buffer_fini(&value);
}

static long
run_with_fault(long n, bool allocations, bool sticky, bool lying)
{
    truth it = { 0 };
    static ticket tickets[KEYS][VERSIONS + 1];
    char *folder = test_folder_make();
    const rp_store_options options = { .folder = folder, .disk_max = 64 << 20,
                                       .events = { on_added, on_removed, &it } };
    it.store = test_store_open_with(options);
    atomic_store(&first_is_done, lying);
    atomic_store(&opens_work, lying);
    arm(n, allocations, sticky);
    run_workload(&it, tickets);
    const long met = atomic_load(&faults);
    disarm();
    atomic_store(&first_is_done, false);
    atomic_store(&opens_work, false);
    assert_int_equal(rp_store_sync(it.store), RP_OK); /* the disk is well again */
    rp_store_stats stats;
    rp_store_stats_get(it.store, &stats);
    assert_false(stats.admission_paused);
    check_truth(&it);
    assert_int_equal(it.index_balance, stats.entries);
    unsigned versions[KEYS];
    for (unsigned key = 0; key < KEYS; key++)
        versions[key] = version_of(it.store, key);
    rp_store_close(it.store);

    it.store = test_store_open_with(options);
    check_truth(&it);
    for (unsigned key = 0; key < KEYS; key++) /* memory knew what is on the disk */
        assert_int_equal(version_of(it.store, key), versions[key]);
    for (unsigned key = 0; key < KEYS; key++) {
        rp_entry_id id;
        assert_int_equal(rp_store_put(it.store, &drafts[key][1].entry, &id, NULL, NULL), RP_OK);
    }
    assert_int_equal(rp_store_sync(it.store), RP_OK);
    for (unsigned key = 0; key < KEYS; key++)
        assert_int_equal(version_of(it.store, key), 1);
    rp_store_close(it.store);
    test_folder_free(folder);
    return met;
}

static void
run_all(bool allocations, bool sticky, bool lying)
{
    long n = 1;
    while (run_with_fault(n, allocations, sticky, lying))
        n++;
    print_message("%ld %s, each failed %s\n", n - 1, allocations ? "allocations" : "writes and syncs",
                  sticky ? "with all after it" : "by itself");
    assert_true(n > 20);
}

static void
test_every_write_and_sync_may_fail(void **state)
{
    (void)state;
    run_all(false, false, false);
}

static void
test_the_disk_may_fail_for_good_from_any_call_on(void **state)
{
    (void)state;
    run_all(false, true, false);
}

/* Then only what is on the disk can say whether the commit happened. */
static void
test_a_write_may_arrive_although_it_failed(void **state)
{
    (void)state;
    run_all(false, true, true);
}

static sem_t told;
static rp_status told_status;

static void
tell(void *context, rp_status status, rp_entry_id id)
{
    (void)context;
    (void)id;
    told_status = status;
    sem_post(&told);
}

/* The disk fails just when a credential is taken back. Whoever starts next must not believe
 * it again. */
static void
test_a_revoked_credential_stays_revoked_when_its_commit_fails(void **state)
{
    (void)state;
    char *folder = test_folder_make();
    const rp_store_options options = { .folder = folder, .disk_max = 64 << 20 };
    const uint8_t bad[32] = { 1 }, good[32] = { 2 };
    for (int synced = 0; synced < 2; synced++) {
        rp_store *store = test_store_open_with(options);
        rp_store_credential_accept(store, bad, 77);
        rp_store_credential_accept(store, good, 77);
        assert_int_equal(rp_store_sync(store), RP_OK);
        sem_init(&told, 0, 0);
        arm(1, false, true);
        assert_true(rp_store_credential_revoke(store, bad, tell, NULL));
        sem_wait(&told);
        assert_int_equal(told_status, RP_ERR_IO);
        disarm();
        if (synced) /* else the end itself is the last attempt */
            assert_int_equal(rp_store_sync(store), RP_OK);
        rp_store_close(store);
        store = test_store_open_with(options);
        assert_int_equal(rp_store_credential_accepted(store, bad), 0);
        assert_int_equal(rp_store_credential_accepted(store, good), 77);
        rp_store_close(store);
    }
    test_folder_free(folder);
}

static void
test_every_allocation_may_fail(void **state)
{
    (void)state;
    run_all(true, false, false);
}

static void
test_opening_may_fail_at_every_call(void **state)
{
    (void)state;
    for (int allocations = 0; allocations < 2; allocations++) {
        long met = 1;
        for (long n = 1; met; n++) {
            char *folder = test_folder_make();
            rp_store *store = NULL;
            rp_error error = { { 0 } };
            const rp_store_options options = { .folder = folder, .disk_max = 64 << 20,
                                               .fingerprint = TEST_FINGERPRINT, .dim = TEST_DIM };
            for (int again = 0; again < 2; again++) { /* a new folder, then one with a store */
                arm(n, allocations, false);
                const rp_status status = rp_store_open(&options, &store, &error);
                met = again ? RP_MAX(met, atomic_load(&faults)) : atomic_load(&faults);
                disarm();
                if (status == RP_OK)
                    rp_store_close(store);
                else
                    assert_true(error.text[0]);
                store = test_store_open(folder);
                test_put(store, 1, 1, 100);
                assert_int_equal(rp_store_sync(store), RP_OK);
                assert_holds(store, 1, 1, 100);
                rp_store_close(store);
            }
            test_folder_free(folder);
        }
    }
}

static int
make_drafts(void **state)
{
    (void)state;
    for (unsigned key = 0; key < KEYS; key++)
        for (unsigned version = 1; version <= VERSIONS; version++)
            test_entry_make(&drafts[key][version], key, version, REPLY_SIZE);
    return 0;
}

static int
free_drafts(void **state)
{
    (void)state;
    for (unsigned key = 0; key < KEYS; key++)
        for (unsigned version = 1; version <= VERSIONS; version++)
            test_entry_fini(&drafts[key][version]);
    return 0;
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_write_and_sync_may_fail),
        cmocka_unit_test(test_the_disk_may_fail_for_good_from_any_call_on),
        cmocka_unit_test(test_a_revoked_credential_stays_revoked_when_its_commit_fails),
        cmocka_unit_test(test_a_write_may_arrive_although_it_failed),
        cmocka_unit_test(test_every_allocation_may_fail),
        cmocka_unit_test(test_opening_may_fail_at_every_call),
    };
    return cmocka_run_group_tests(tests, make_drafts, free_drafts);
}
