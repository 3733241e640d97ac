/* crash_power.c - a power cut at any moment loses nothing that was acknowledged.
 *
 * This program defines open, pwrite, writev and fdatasync itself, so that LMDB
 * calls these instead of the C library's. They do their work and write down what was
 * written to the data file, where, and what was synced. From that, states of the disk are
 * made up in which the power went at some moment: all that was synced before is there; of
 * what was not, each 512-byte sector independently either arrived or did not, which
 * contains every order in which a disk may write them. The store is opened from each such
 * state and compared with the histories (histories.h).
 *
 * The same is done once with fdatasync taken for nothing: then the comparison must fail,
 * or it could not notice.
 *
 * REPRISE_CRASH_ROUNDS (default 25 cuts), REPRISE_CRASH_SEED. */
/* The functions below must have the plain names, which LMDB calls, not open64 and pwrite64
 * as the headers would otherwise rename them. */
#undef _FILE_OFFSET_BITS
#include "histories.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>

enum { SECTOR = 512, FD_MAX = 1024 };

typedef enum event_kind { EVENT_WRITE, EVENT_SYNC, EVENT_START, EVENT_ACKNOWLEDGE } event_kind;

typedef struct event {
    event_kind kind;
    bool is_synced; /* the write went through an O_DSYNC descriptor */
    off_t offset;
    size_t size;
    char *bytes;    /* owned */
    unsigned key, op;
} event;

/* Written by the writer thread and the test; under `log_lock`. */
static pthread_mutex_t log_lock = PTHREAD_MUTEX_INITIALIZER;
static event *events;
static size_t event_count, event_capacity;
static bool recording;
/* Which descriptors are the data file: 1, or 2 with O_DSYNC. */
static atomic_uchar data_fds[FD_MAX];

static void
record(event it)
{
    pthread_mutex_lock(&log_lock);
    if (recording) {
        if (event_count == event_capacity) {
            event_capacity = event_capacity ? event_capacity * 2 : 1024;
            events = realloc(events, event_capacity * sizeof events[0]);
        }
        events[event_count++] = it;
        it.bytes = NULL;
    }
    pthread_mutex_unlock(&log_lock);
    free(it.bytes);
}

static void
record_write(int fd, off_t offset, const void *bytes, size_t size)
{
    if (fd < 0 || fd >= FD_MAX || !data_fds[fd])
        return;
    event it = { EVENT_WRITE, data_fds[fd] == 2, offset, size, malloc(size), 0, 0 };
    memcpy(it.bytes, bytes, size);
    record(it);
}

/* ---- what LMDB calls -------------------------------------------------------- */

int
open(const char *path, int flags, ...)
{
    mode_t mode = 0;
    if (flags & O_CREAT) {
        va_list values;
        va_start(values, flags);
        mode = (mode_t)va_arg(values, int);
        va_end(values);
    }
    const int fd = (int)syscall(SYS_openat, AT_FDCWD, path, flags, mode);
    if (fd >= 0 && fd < FD_MAX) {
        const size_t len = strlen(path);
        const bool is_data = len >= 9 && strcmp(path + len - 9, "/data.mdb") == 0;
        data_fds[fd] = !is_data ? 0 : (flags & O_DSYNC) == O_DSYNC ? 2 : 1;
    }
    return fd;
}

ssize_t
pwrite(int fd, const void *bytes, size_t size, off_t offset)
{
    const ssize_t put = syscall(SYS_pwrite64, fd, bytes, size, offset);
    if (put > 0)
        record_write(fd, offset, bytes, (size_t)put);
    return put;
}

ssize_t
writev(int fd, const struct iovec *parts, int count)
{
    const off_t offset = lseek(fd, 0, SEEK_CUR);
    const ssize_t put = syscall(SYS_writev, fd, parts, count);
    size_t done = 0;
    for (int i = 0; i < count && put > 0 && done < (size_t)put; i++) {
        const size_t size = RP_MIN(parts[i].iov_len, (size_t)put - done);
        record_write(fd, offset + (off_t)done, parts[i].iov_base, size);
        done += size;
    }
    return put;
}

int
fdatasync(int fd)
{
    const int code = (int)syscall(SYS_fdatasync, fd);
    if (code == 0 && fd >= 0 && fd < FD_MAX && data_fds[fd])
        record((event){ .kind = EVENT_SYNC });
    return code;
}

/* ---- the workload ----------------------------------------------------------- */

typedef struct waiting {
    unsigned key, op;
} waiting;

static void
acknowledge(void *context, rp_status status, rp_entry_id id)
{
    waiting *it = context;
    (void)id;
    if (status == RP_OK)
        record((event){ .kind = EVENT_ACKNOWLEDGE, .key = it->key, .op = it->op });
    free(it);
}

static void
run_workload(rp_store *store, history *keys, uint64_t seed, int steps)
{
    rp_random random;
    rp_random_init(&random, seed);
    rp_entry_id last_ids[HISTORY_KEYS] = { 0 };
    for (int step = 0; step < steps; step++) {
        const unsigned key = (unsigned)rp_random_below(&random, HISTORY_KEYS);
        const unsigned op = ++keys[key].started;
        record((event){ .kind = EVENT_START, .key = key, .op = op });
        if (rp_random_below(&random, 12) || !last_ids[key]) {
            waiting *context = malloc(sizeof *context);
            *context = (waiting){ key, op };
            test_entry draft;
            test_entry_make(&draft, key, op, history_reply_size(op));
            keys[key].removes[op] = 0;
            assert_int_equal(rp_store_put(store, &draft.entry, &last_ids[key], acknowledge,
                                          context),
                             RP_OK);
            test_entry_fini(&draft);
        } else {
            keys[key].removes[op] = 1;
            rp_store_remove(store, &last_ids[key], 1);
            record((event){ .kind = EVENT_ACKNOWLEDGE, .key = key, .op = op });
        }
        if (rp_random_below(&random, 6) == 0)
            assert_int_equal(rp_store_sync(store), RP_OK);
    }
}

/* ---- made-up disks ---------------------------------------------------------- */

typedef struct disk {
    char *bytes; /* owned */
    size_t size, capacity;
} disk;

static void
disk_write(disk *it, off_t offset, const char *bytes, size_t size)
{
    const size_t end = (size_t)offset + size;
    if (end > it->capacity) {
        const size_t capacity = end * 2;
        it->bytes = realloc(it->bytes, capacity);
        memset(it->bytes + it->capacity, 0, capacity - it->capacity);
        it->capacity = capacity;
    }
    memcpy(it->bytes + offset, bytes, size);
    it->size = RP_MAX(it->size, end);
}

/* A write that was not synced: any of its sectors may have arrived. LMDB's meta page is
 * 136 bytes inside one sector, which a disk writes whole. */
static void
disk_write_some(disk *it, const event *write, rp_random *random)
{
    const uint64_t mood = rp_random_below(random, 3); /* all, none, or each by itself */
    for (size_t at = 0; at < write->size;) {
        const size_t to_boundary = SECTOR - ((size_t)write->offset + at) % SECTOR;
        const size_t size = RP_MIN(to_boundary, write->size - at);
        if (mood == 0 || (mood == 2 && rp_random_below(random, 2)))
            disk_write(it, write->offset + (off_t)at, write->bytes + at, size);
        at += size;
    }
}

/* The disk after a cut just before event `cut`. */
static disk
make_disk(const disk *start, size_t cut, bool syncs_count, rp_random *random)
{
    size_t synced = 0; /* events before this one are all on the disk */
    for (size_t i = 0; i < cut; i++)
        if (events[i].kind == EVENT_SYNC && syncs_count)
            synced = i;
    disk it = { NULL, 0, 0 };
    disk_write(&it, 0, start->bytes, start->size);
    for (size_t i = 0; i < cut; i++) {
        if (events[i].kind != EVENT_WRITE)
            continue;
        if (i < synced || events[i].is_synced)
            disk_write(&it, events[i].offset, events[i].bytes, events[i].size);
        else
            disk_write_some(&it, &events[i], random);
    }
    return it;
}

static void
write_file(const char *path, const void *bytes, size_t size)
{
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite(bytes, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
}

static disk
read_data_file(const char *folder)
{
    char path[4096];
    disk it = { NULL, 0, 0 };
    snprintf(path, sizeof path, "%s/data.mdb", folder);
    FILE *file = fopen(path, "rb");
    assert_non_null(file);
    static char block[65536];
    for (size_t got; (got = fread(block, 1, sizeof block, file)) > 0;)
        disk_write(&it, (off_t)it.size, block, got);
    fclose(file);
    return it;
}

/* Whether the store in `folder` holds what the histories allow at this cut. Everything
 * that is found to be wrong by take_census fails the test at once. */
static bool
is_allowed(const char *folder, const history *keys, size_t cut, bool must_open)
{
    unsigned acknowledged[HISTORY_KEYS] = { 0 }, started[HISTORY_KEYS] = { 0 };
    for (size_t i = 0; i < cut; i++) {
        if (events[i].kind == EVENT_START)
            started[events[i].key] = events[i].op;
        else if (events[i].kind == EVENT_ACKNOWLEDGE)
            acknowledged[events[i].key] = events[i].op;
    }
    rp_store *store = NULL;
    rp_error error = { { 0 } };
    const rp_store_options options = { .folder = folder, .disk_max = 64 << 20,
                                       .fingerprint = TEST_FINGERPRINT, .dim = TEST_DIM };
    const rp_status status = rp_store_open(&options, &store, &error);
    if (status != RP_OK && must_open)
        print_error("%s\n", error.text);
    if (status != RP_OK)
        return false;
    bool allowed = true;
    if (must_open) {
        history_census census;
        take_census(store, &census);
        for (unsigned key = 0; key < HISTORY_KEYS; key++) {
            const bool fits = history_allows(&keys[key], acknowledged[key], started[key],
                                             census.versions[key], 0, false);
            if (!fits)
                print_error("key %u holds %u; acknowledged %u, started %u\n", key,
                            census.versions[key], acknowledged[key], started[key]);
            allowed = allowed && fits;
        }
    } else {
        /* A disk without syncs: only ask whether every acknowledged put is there. */
        for (unsigned key = 0; key < HISTORY_KEYS && allowed; key++) {
            test_entry want;
            test_entry_make(&want, key, 0, 0);
            if (acknowledged[key] && acknowledged[key] == started[key] &&
                !keys[key].removes[acknowledged[key]])
                allowed = rp_store_exact(store, want.entry.scope, want.entry.key) != 0;
            test_entry_fini(&want);
        }
    }
    rp_store_close(store);
    return allowed;
}

static unsigned long
number_from(const char *name, unsigned long otherwise)
{
    const char *text = getenv(name);
    return text && *text ? strtoul(text, NULL, 10) : otherwise;
}

typedef struct recorded {
    disk start;
    uint8_t secret[32];
    history *keys; /* owned */
} recorded;

static void
record_workload(recorded *out, uint64_t seed, int steps)
{
    char *folder = test_folder_make();
    rp_store *store = test_store_open(folder);
    memcpy(out->secret, rp_store_secret(store), sizeof out->secret);
    out->start = read_data_file(folder);
    out->keys = calloc(HISTORY_KEYS, sizeof *out->keys);
    recording = true;
    run_workload(store, out->keys, seed, steps);
    rp_store_close(store);
    recording = false;
    test_folder_free(folder);
}

static void
forget_recorded(recorded *it)
{
    for (size_t i = 0; i < event_count; i++)
        free(events[i].bytes);
    event_count = 0;
    free(it->start.bytes);
    free(it->keys);
}

static bool
cut_and_open(const recorded *it, size_t cut, bool syncs_count, rp_random *random)
{
    char *folder = test_folder_make(), path[4096];
    disk after = make_disk(&it->start, cut, syncs_count, random);
    snprintf(path, sizeof path, "%s/data.mdb", folder);
    write_file(path, after.bytes, after.size);
    snprintf(path, sizeof path, "%s/secret", folder);
    write_file(path, it->secret, sizeof it->secret);
    const bool allowed = is_allowed(folder, it->keys, cut, syncs_count);
    free(after.bytes);
    test_folder_free(folder);
    return allowed;
}

static void
test_power_cuts_lose_nothing_acknowledged(void **state)
{
    (void)state;
    const unsigned long rounds = number_from("REPRISE_CRASH_ROUNDS", 25);
    const unsigned long seed = number_from("REPRISE_CRASH_SEED", 20260101);
    print_message("%lu cuts, seed %lu\n", rounds, seed);
    rp_random random;
    rp_random_init(&random, seed);
    size_t writes = 0, syncs = 0, done = 0;
    while (done < rounds) {
        recorded it;
        record_workload(&it, rp_random_next(&random), 400);
        for (size_t i = 0; i < event_count; i++) {
            writes += events[i].kind == EVENT_WRITE;
            syncs += events[i].kind == EVENT_SYNC;
        }
        for (int cuts = 0; cuts < 25 && done < rounds; cuts++, done++) {
            const size_t cut = rp_random_below(&random, event_count + 1);
            assert_true(cut_and_open(&it, cut, true, &random));
        }
        forget_recorded(&it);
    }
    assert_true(writes > 100 && syncs > 10); /* LMDB's calls do arrive here */
    print_message("%zu writes, %zu syncs recorded; %zu cuts, nothing lost, nothing torn\n", writes,
                  syncs, done);
}

static void
test_a_disk_that_ignores_syncs_is_noticed(void **state)
{
    (void)state;
    rp_random random;
    rp_random_init(&random, 4);
    recorded it;
    record_workload(&it, 4, 400);
    size_t noticed = 0;
    /* How the writer groups its commits depends on the schedule, so one cut may be harmless;
     * a hundred are not. */
    for (size_t cuts = 0; cuts < 100 && !noticed; cuts++) {
        /* In a process of its own: LMDB believes its pages, and pages that never arrived
         * may lead it anywhere, for ever too. That is noticed as well. */
        const pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0) {
            signal(SIGSEGV, SIG_DFL);
            signal(SIGBUS, SIG_DFL);
            signal(SIGABRT, SIG_DFL);
            alarm(5);
            _exit(cut_and_open(&it, (event_count / 2 + cuts * 7) % event_count, false, &random) ? 0 : 1);
        }
        int status;
        assert_int_equal(waitpid(child, &status, 0), child);
        noticed += status != 0;
        (void)rp_random_next(&random);
    }
    forget_recorded(&it);
    assert_true(noticed > 0);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_power_cuts_lose_nothing_acknowledged),
        cmocka_unit_test(test_a_disk_that_ignores_syncs_is_noticed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
