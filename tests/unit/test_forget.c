/* test_forget.c - a flush takes all that came before it and nothing that came after.
 *
 * What could go wrong: entries are told apart by their times, and the clock was set back, or an
 * import brought old times; what is stored while a flush clears up goes with what it clears; a
 * reply that was on its way when everything was flushed takes space where nobody can find it.
 *
 * Between a flush's epoch and its clearing up nothing can be held still from outside, so that
 * one is tried many times: a fault there may be missed in one of them, never imagined. */
#include "cache/cache_internal.h"
#include "fake_embedder.h"
#include "test_support.h"

#include <pthread.h>

#define HOUR_US (3600 * (int64_t)1000000)
#define T0 ((int64_t)1700000000 * 1000000)

typedef struct fixture {
    char folder[64];
    rp_clock_manual clock;
    rp_embedder embedder;
    rp_cache *cache;
    _Atomic bool flushed;
    size_t removed;
} fixture;

static int
set_up(void **state)
{
    fixture *f = calloc(1, sizeof *f);
    strcpy(f->folder, "/tmp/reprise-forget-XXXXXX");
    if (!mkdtemp(f->folder))
        return -1;
    rp_clock_manual_init(&f->clock, T0);
    f->embedder = fake_embedder(FAKE_FINGERPRINT);
    const rp_cache_options options = { .folder = f->folder,
                                       .disk_max = 64 << 20,
                                       .memory_max = 64 << 20,
                                       .share_max = 1,
                                       .ttl_seconds = RP_TTL_FOREVER,
                                       .seed = 1 };
    *state = f;
    return rp_cache_open_with(&options, &f->embedder, &f->clock.clock, &f->cache, NULL) != RP_OK;
}

static int
tear_down(void **state)
{
    fixture *f = *state;
    rp_cache_close(f->cache);
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", f->folder);
    const int failed = system(command);
    free(f);
    return failed;
}

static rp_cache_request
ask(const char *tenant, const char *prompt)
{
    return (rp_cache_request){ .tenant = rp_str_of(tenant), .prompt = rp_str_of(prompt) };
}

static void
put(fixture *f, const char *tenant, const char *prompt)
{
    const rp_cache_request request = ask(tenant, prompt);
    assert_int_equal(rp_cache_store(f->cache, &request, RP_STR("yes"), NULL, NULL, NULL), RP_OK);
}

static bool
hits(fixture *f, const char *tenant, const char *prompt)
{
    const rp_cache_request request = ask(tenant, prompt);
    rp_cache_answer *answer;
    assert_int_equal(rp_cache_lookup(f->cache, &request, &answer, NULL), RP_OK);
    const bool hit = answer->hit;
    assert_true(answer->age_seconds >= 0);
    rp_cache_answer_free(answer);
    return hit;
}

static uint64_t
entries(fixture *f)
{
    rp_cache_stats stats;
    rp_cache_stats_get(f->cache, &stats);
    return stats.entries;
}

static void
test_a_clock_that_was_set_back_saves_nothing_from_a_flush(void **state)
{
    fixture *f = *state;
    size_t removed;
    put(f, "alice", "stored in the afternoon");
    f->clock.now_us = T0 - 5 * HOUR_US;
    put(f, "alice", "stored later, in the morning");
    assert_true(hits(f, "alice", "stored in the afternoon"));
    assert_int_equal(rp_cache_flush(f->cache, RP_STR("alice"), &removed, NULL), RP_OK);
    assert_int_equal(removed, 2);
    assert_int_equal(entries(f), 0);
    assert_false(hits(f, "alice", "stored in the afternoon"));
}

static void *
flush(void *context)
{
    fixture *f = context;
    if (rp_cache_flush(f->cache, RP_STR(""), &f->removed, NULL) != RP_OK)
        f->removed = SIZE_MAX;
    f->flushed = true;
    return NULL;
}

static void
test_what_is_stored_while_a_flush_clears_up_stays(void **state)
{
    enum { ROUNDS = 8, OLD = 30 };
    static const char line[] = /* of an entry that is older than everything here */
        "{\"tenant\":\"alice\",\"prompt\":\"imported\",\"reply\":\"yes\",\"created\":1000000}";
    fixture *f = *state;
    for (uint64_t round = 0; round < ROUNDS; round++) {
        char prompt[64];
        for (int i = 0; i < OLD; i++) {
            snprintf(prompt, sizeof prompt, "old %d of round %d", i, (int)round);
            put(f, "alice", prompt);
        }
        f->clock.now_us += HOUR_US;
        f->flushed = false;
        const uint64_t before = entries(f);
        pthread_t thread;
        assert_int_equal(pthread_create(&thread, NULL, flush, f), 0);
        while (rp_store_epoch(f->cache->store, RP_STR("")) <= round && !f->flushed)
            ; /* a commit's time */
        f->clock.now_us -= HOUR_US;
        assert_int_equal(rp_cache_import_line(f->cache, RP_STR(line), NULL, NULL), RP_OK);
        put(f, "alice", "new");
        assert_int_equal(pthread_join(thread, NULL), 0);
        assert_int_equal(f->removed, before);
        assert_false(hits(f, "alice", prompt));
        assert_true(hits(f, "alice", "new"));
        assert_true(hits(f, "alice", "imported"));
        assert_int_equal(entries(f), 2);
    }
}

static void
test_a_reply_to_a_request_older_than_a_flush_is_not_kept(void **state)
{
    fixture *f = *state;
    const char *const flushed[] = { "alice", "", "bob" };
    for (size_t i = 0; i < RP_COUNT(flushed); i++) {
        const rp_cache_request request = ask("alice", "on its way");
        rp_arena arena;
        rp_query query;
        size_t removed;
        rp_arena_init(&arena, 0);
        assert_int_equal(rp_query_from_request(f->cache, &request, &arena, &query, NULL), RP_OK);
        assert_int_equal(rp_query_prepare(f->cache, &query), RP_OK);
        assert_int_equal(rp_cache_flush(f->cache, rp_str_of(flushed[i]), &removed, NULL), RP_OK);
        const rp_admission admission = { .verdict = RP_REPLY_GOOD, .encoded = RP_STR("reply") };
        const char *refusal = rp_admit_refusal(f->cache, &query, &admission);
        if (i < 2)
            assert_string_equal(refusal, "flushed");
        else
            assert_null(refusal); /* another tenant's flush */
        rp_query_fini(&query);
        rp_arena_fini(&arena);
    }
}

int
main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        T(test_a_clock_that_was_set_back_saves_nothing_from_a_flush),
        T(test_what_is_stored_while_a_flush_clears_up_stays),
        T(test_a_reply_to_a_request_older_than_a_flush_is_not_kept),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
