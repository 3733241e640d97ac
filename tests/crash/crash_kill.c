/* crash_kill.c - kill -9 at random moments loses nothing that was acknowledged.
 *
 * A child process opens the store and puts, replaces and removes as fast as it can; its
 * parent kills it after a random time (0 to 60 ms: while it opens, repairs, commits or
 * closes), opens the store and compares it with the histories that both share. The same
 * folder goes through all rounds, so that what one kill leaves is what the next one hits.
 * Every third folder is so small that entries are evicted all the time: then entries may
 * lack, but none may be torn and all views must agree.
 *
 * REPRISE_CRASH_ROUNDS (default 8: the quick suite), REPRISE_CRASH_SEED. */
#include "histories.h"

#include <signal.h>
#include <sys/wait.h>

typedef struct shared_state {
    history keys[HISTORY_KEYS];
    atomic_ulong acknowledged_count;
} shared_state;

static unsigned long
number_from(const char *name, unsigned long otherwise)
{
    const char *text = getenv(name);
    return text && *text ? strtoul(text, NULL, 10) : otherwise;
}

static rp_store *
open_store(const char *folder, bool small)
{
    return test_store_open_with((rp_store_options){
        .folder = folder, .disk_max = small ? RP_DISK_MIN : 256 << 20, .share_max = 1 });
}

/* ---- the child -------------------------------------------------------------- */

typedef struct waiting {
    shared_state *state;
    unsigned key, op;
} waiting;

/* An operation is acknowledged in order: the writer runs them in the queue's order. */
static void
acknowledge(void *context, rp_status status, rp_entry_id id)
{
    waiting *it = context;
    (void)id;
    if (status == RP_OK) {
        atomic_store(&it->state->keys[it->key].acknowledged, it->op);
        atomic_fetch_add(&it->state->acknowledged_count, 1);
    }
    free(it);
}

static void
put_next(rp_store *store, shared_state *state, unsigned key, rp_entry_id *last_id)
{
    history *it = &state->keys[key];
    const unsigned op = atomic_load(&it->started) + 1;
    if (op >= HISTORY_OPS_MAX)
        return;
    waiting *context = malloc(sizeof *context);
    *context = (waiting){ state, key, op };
    test_entry draft;
    test_entry_make(&draft, key, it->base + op, history_reply_size(it->base + op));
    it->removes[op] = 0;
    atomic_store(&it->started, op);
    if (rp_store_put(store, &draft.entry, last_id, acknowledge, context) != RP_OK) {
        /* Refused for a full queue: it never happened. */
        atomic_store(&it->started, op - 1);
        free(context);
    }
    test_entry_fini(&draft);
}

static void
remove_last(rp_store *store, shared_state *state, unsigned key, rp_entry_id id)
{
    history *it = &state->keys[key];
    const unsigned op = atomic_load(&it->started) + 1;
    if (op >= HISTORY_OPS_MAX || !id)
        return;
    it->removes[op] = 1;
    atomic_store(&it->started, op);
    rp_store_remove(store, &id, 1);
    atomic_store(&it->acknowledged, op);
}

static void __attribute__((noreturn))
run_child(const char *folder, shared_state *state, uint64_t seed, bool small)
{
    rp_random random;
    rp_random_init(&random, seed);
    rp_store *store = open_store(folder, small);
    rp_entry_id last_ids[HISTORY_KEYS] = { 0 };
    for (;;) { /* until it is killed, however long that takes */
        const unsigned key = (unsigned)rp_random_below(&random, HISTORY_KEYS);
        if (rp_random_below(&random, 20))
            put_next(store, state, key, &last_ids[key]);
        else
            remove_last(store, state, key, last_ids[key]);
        if (rp_random_below(&random, 50) == 0)
            usleep(500); /* let the writer run dry now and then: small commits too */
        if (rp_random_below(&random, 2000) == 0) {
            rp_store_close(store);
            store = open_store(folder, small);
        }
    }
}

/* ---- the parent ------------------------------------------------------------- */

static void
check_after_kill(const char *folder, shared_state *state, unsigned versions[HISTORY_KEYS],
                 bool small)
{
    history_census census;
    rp_store *store = open_store(folder, small);
    take_census(store, &census);
    for (unsigned key = 0; key < HISTORY_KEYS; key++) {
        history *it = &state->keys[key];
        const unsigned acknowledged = atomic_load(&it->acknowledged);
        const unsigned started = atomic_load(&it->started);
        if (!history_allows(it, acknowledged, started, census.versions[key], versions[key], small)) {
            print_error("key %u holds version %u; acknowledged %u, started %u of base %u, "
                        "before %u\n", key, census.versions[key], it->base + acknowledged,
                        it->base + started, it->base, versions[key]);
            fail();
        }
        versions[key] = census.versions[key];
        it->base += started;
        atomic_store(&it->started, 0);
        atomic_store(&it->acknowledged, 0);
    }
    rp_store_close(store);
}

static void
test_kill_at_random_moments(void **unused)
{
    (void)unused;
    const unsigned long rounds = number_from("REPRISE_CRASH_ROUNDS", 8);
    const unsigned long seed = number_from("REPRISE_CRASH_SEED", 20260101);
    print_message("%lu rounds, seed %lu\n", rounds, seed);
    shared_state *state = mmap(NULL, sizeof *state, PROT_READ | PROT_WRITE,
                               MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(state != MAP_FAILED);
    rp_random random;
    rp_random_init(&random, seed);
    char *folders[2] = { test_folder_make(), test_folder_make() };
    unsigned versions[2][HISTORY_KEYS] = { { 0 } };
    unsigned bases[2][HISTORY_KEYS] = { { 0 } };
    for (unsigned long round = 0; round < rounds; round++) {
        const bool small = round % 3 == 2;
        for (unsigned key = 0; key < HISTORY_KEYS; key++)
            state->keys[key].base = bases[small][key];
        const uint64_t child_seed = rp_random_next(&random);
        const pid_t child = fork();
        assert_true(child >= 0);
        if (child == 0)
            run_child(folders[small], state, child_seed, small);
        usleep((useconds_t)rp_random_below(&random, 60000));
        kill(child, SIGKILL);
        int status;
        assert_int_equal(waitpid(child, &status, 0), child);
        assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
        check_after_kill(folders[small], state, versions[small], small);
        for (unsigned key = 0; key < HISTORY_KEYS; key++)
            bases[small][key] = state->keys[key].base;
    }
    print_message("%lu killed, %lu puts were acknowledged, none lost, none torn\n", rounds,
                  atomic_load(&state->acknowledged_count));
    test_folder_free(folders[0]);
    test_folder_free(folders[1]);
    munmap(state, sizeof *state);
}

int
main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_kill_at_random_moments) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
