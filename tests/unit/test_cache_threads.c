/* test_cache_threads.c - many look-ups while entries come and go; tenants never meet.
 *
 * Two writers store, replace, invalidate, judge and flush the same prompts for two tenants
 * while four readers look up exact and similar ones, explain and read statistics. Every
 * reply starts with its tenant's name, so an answer that crosses over shows itself; a hit
 * on freed memory shows under the sanitizers, a race under the thread sanitizer. What is
 * served is checked, not how often: the schedule decides that. At the end, with everything
 * quiet, index and store must hold the same entries. */
#include "cache/cache_internal.h"
#include "fake_embedder.h"
#include "test_support.h"

enum { WRITERS = 2, READERS = 4, WRITES = 120, READS = 1500, PROMPTS = 12 };

static const char *const tenants[WRITERS] = { "alice", "bob" };

typedef struct shared {
    rp_cache *cache;
    _Atomic size_t hits, wrong;
} shared;

typedef struct worker {
    shared *shared;
    uint64_t seed;
    size_t number;
    pthread_t thread;
} worker;

static void
make_prompt(char *out, size_t size, uint64_t which, bool similar)
{
    snprintf(out, size, "how does part%c of the large machine work when it is%c on%s",
             (char)('a' + (int)which), (char)('a' + (int)which), similar ? " again" : "");
}

static rp_cache_request
make_request(const char *tenant, const char *prompt)
{
    return (rp_cache_request){ .tenant = rp_str_of(tenant), .prompt = rp_str_of(prompt) };
}

static void
write_once(worker *me, rp_random *random, size_t turn)
{
    rp_cache *cache = me->shared->cache;
    const char *tenant = tenants[me->number];
    char prompt[128], reply[160], entry[33];
    make_prompt(prompt, sizeof prompt, rp_random_below(random, PROMPTS), false);
    snprintf(reply, sizeof reply, "%s: %s", tenant, prompt);
    const rp_cache_request request = make_request(tenant, prompt);
    const bool stored =
        rp_cache_store(cache, &request, rp_str_of(reply), NULL, entry, NULL) == RP_OK;
    size_t matched, removed;
    if (stored && turn % 4 == 0) {
        const rp_cache_selector one = { .tenant = rp_str_of(tenant), .entry = rp_str_of(entry) };
        if (rp_cache_invalidate(cache, &one, true, &matched, &removed, NULL) != RP_OK)
            atomic_fetch_add(&me->shared->wrong, 1);
    } else if (stored && turn % 4 == 1) {
        /* The other thread's readers may have removed nothing of ours: it must be there. */
        if (rp_cache_feedback(cache, rp_str_of(tenant), rp_str_of(entry), turn % 8 == 1, NULL) != RP_OK)
            atomic_fetch_add(&me->shared->wrong, 1);
    } else if (turn % 40 == 39) {
        if (rp_cache_flush(cache, rp_str_of(tenant), &removed, NULL) != RP_OK)
            atomic_fetch_add(&me->shared->wrong, 1);
    }
}

static void *
write_many(void *context)
{
    worker *me = context;
    rp_random random;
    rp_random_init(&random, me->seed);
    for (size_t turn = 0; turn < WRITES; turn++)
        write_once(me, &random, turn);
    return NULL;
}

static void
read_once(worker *me, rp_random *random)
{
    const char *tenant = tenants[rp_random_below(random, WRITERS)];
    char prompt[128];
    make_prompt(prompt, sizeof prompt, rp_random_below(random, PROMPTS),
                rp_random_below(random, 2));
    const rp_cache_request request = make_request(tenant, prompt);
    rp_cache_answer *answer;
    if (rp_cache_lookup(me->shared->cache, &request, &answer, NULL) != RP_OK) {
        atomic_fetch_add(&me->shared->wrong, 1);
        return;
    }
    if (answer->hit) {
        atomic_fetch_add(&me->shared->hits, 1);
        if (!rp_str_starts_with(answer->reply, rp_str_of(tenant)) ||
            answer->reply.ptr[strlen(tenant)] != ':')
            atomic_fetch_add(&me->shared->wrong, 1);
    }
    rp_cache_answer_free(answer);
}

static void *
read_many(void *context)
{
    worker *me = context;
    rp_random random;
    rp_random_init(&random, me->seed);
    for (size_t turn = 0; turn < READS; turn++) {
        read_once(me, &random);
        if (turn % 100 == 0) {
            rp_cache_stats stats;
            rp_cache_stats_get(me->shared->cache, &stats);
            const rp_cache_request request = make_request("alice", "how does it work");
            char *json;
            size_t len;
            if (rp_cache_explain(me->shared->cache, &request, &json, &len, NULL) == RP_OK)
                free(json);
        }
    }
    return NULL;
}

static void
test_tenants_never_meet_while_entries_come_and_go(void **state)
{
    (void)state;
    char folder[64] = "/tmp/reprise-threads-XXXXXX";
    assert_non_null(mkdtemp(folder));
    const rp_embedder embedder = fake_embedder(FAKE_FINGERPRINT);
    const rp_cache_options options = { .folder = folder,
                                       .policy = "static:min_similarity=0.8",
                                       .disk_max = 64 << 20,
                                       .memory_max = 8 << 20,
                                       .share_max = 1,
                                       .seed = 1 };
    shared both = { 0 };
    rp_error error = { { 0 } };
    if (rp_cache_open_with(&options, &embedder, NULL, &both.cache, &error) != RP_OK)
        fail_msg("%s", error.text);
    worker workers[WRITERS + READERS];
    for (size_t i = 0; i < RP_COUNT(workers); i++) {
        workers[i] = (worker){ .shared = &both, .seed = 100 + i, .number = i };
        assert_int_equal(pthread_create(&workers[i].thread, NULL, i < WRITERS ? write_many : read_many,
                                        &workers[i]), 0);
    }
    for (size_t i = 0; i < RP_COUNT(workers); i++)
        pthread_join(workers[i].thread, NULL);
    printf("%zu hits\n", (size_t)both.hits);
    assert_int_equal(both.wrong, 0);

    assert_int_equal(rp_store_sync(rp_cache_store_of(both.cache)), RP_OK);
    rp_cache_stats stats;
    rp_cache_stats_get(both.cache, &stats);
    assert_int_equal(stats.vectors, stats.entries);
    assert_int_equal(stats.failures, 0);
    /* And one hit at least, so that the readers did not race past an empty cache. */
    const rp_cache_request last = make_request("bob", "how does it end");
    assert_int_equal(rp_cache_store(both.cache, &last, RP_STR("bob: well"), NULL, NULL, NULL), RP_OK);
    rp_cache_answer *answer;
    assert_int_equal(rp_cache_lookup(both.cache, &last, &answer, NULL), RP_OK);
    assert_true(answer->hit);
    rp_cache_answer_free(answer);
    rp_cache_close(both.cache);
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", folder);
    assert_int_equal(system(command), 0);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_tenants_never_meet_while_entries_come_and_go),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
