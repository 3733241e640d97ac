/* test_cache_exchange.c - the encoder is exchanged while the cache is in use.
 *
 * What could go wrong: vectors of two encoders are compared; a request that has begun is cut off
 * or gets the other encoder's weights; what was stored before is lost, is never found again by
 * likeness, or only until the next start; what must not answer similar questions does after it;
 * memory of the old encoder is used after it went (seen by the sanitizers).
 *
 * The second encoder is the first with other directions for the same words: its vectors are
 * about orthogonal to the first one's, so a comparison across them shows in the similarity.
 * It can be held up in the middle of a text (`gate`). Nothing waits for a time; states are
 * waited for. */
#include "cache/cache_internal.h"
#include "embed/adapters.h"
#include "fake_embedder.h"
#include "test_support.h"

#include <semaphore.h>
#include <unistd.h>

typedef struct second_encoder {
    _Atomic bool holds, fails;
    sem_t held, gate;
} second_encoder;

typedef struct fixture {
    char folder[64];
    rp_cache *cache;
    rp_embedder first, second;
    second_encoder encoder;
    rp_cache_options options;
    _Atomic size_t warnings;
} fixture;

/* Every word gets a tail, and so another direction. */
static rp_status
embed_otherwise(rp_str text, float *storage, rp_embedding *out, rp_error *error)
{
    rp_buffer other;
    rp_buffer_init(&other, 0);
    while (text.len) {
        const rp_str word = rp_str_trimmed(rp_str_split(&text, ' '));
        if (word.len)
            rp_buffer_printf(&other, "%.*s-other ", RP_FMT(word));
    }
    const rp_status status = fake_embed(NULL, rp_buffer_str(&other), storage, out, error);
    rp_buffer_fini(&other);
    return status;
}

static rp_status
embed_second(void *context, rp_str text, float *storage, rp_embedding *out, rp_error *error)
{
    second_encoder *encoder = context;
    if (atomic_load(&encoder->holds)) {
        sem_post(&encoder->held);
        while (sem_wait(&encoder->gate) != 0)
            ;
    }
    if (atomic_load(&encoder->fails))
        return rp_fail(error, RP_ERR_NOMEM, "as the test wishes");
    return embed_otherwise(text, storage, out, error);
}

static void
note_warning(void *context, const char *sentence)
{
    (void)sentence;
    atomic_fetch_add(&((fixture *)context)->warnings, 1);
}

static void
open_cache(fixture *f, const rp_embedder *embedder)
{
    rp_error error = { { 0 } };
    if (rp_cache_open_with(&f->options, embedder, NULL, &f->cache, &error) != RP_OK)
        fail_msg("%s", error.text);
}

/* Until the background has looked at everything, or `ready` alone. */
static void
wait_until_renewed(fixture *f)
{
    rp_cache_stats stats = { .reembed_waiting = 1 };
    for (int i = 0; i < 30000 && (stats.reembed_waiting || !stats.ready); i++) {
        rp_cache_stats_get(f->cache, &stats);
        usleep(4000);
    }
    assert_int_equal(stats.reembed_waiting, 0);
    assert_true(stats.ready);
}

static int
set_up(void **state)
{
    fixture *f = calloc(1, sizeof *f);
    strcpy(f->folder, "/tmp/reprise-exchange-XXXXXX");
    if (!mkdtemp(f->folder))
        return -1;
    sem_init(&f->encoder.held, 0, 0);
    sem_init(&f->encoder.gate, 0, 0);
    f->first = fake_embedder(FAKE_FINGERPRINT);
    f->second = fake_embedder(FAKE_FINGERPRINT_OTHER);
    f->second.embed = embed_second;
    f->second.context = &f->encoder;
    f->options = (rp_cache_options){ .folder = f->folder,
                                     .policy = "static:min_similarity=0.8",
                                     .disk_max = 64 << 20,
                                     .memory_max = 16 << 20,
                                     .share_max = 1,
                                     .seed = 1,
                                     .load_in_background = true,
                                     .warn = note_warning,
                                     .warn_context = f };
    open_cache(f, &f->first);
    wait_until_renewed(f);
    *state = f;
    return 0;
}

static int
tear_down(void **state)
{
    fixture *f = *state;
    rp_cache_close(f->cache);
    sem_destroy(&f->encoder.held);
    sem_destroy(&f->encoder.gate);
    char command[128];
    snprintf(command, sizeof command, "rm -rf '%s'", f->folder);
    const int failed = system(command);
    free(f);
    return failed;
}

static void
exchange(fixture *f, const rp_embedder *embedder)
{
    rp_error error = { { 0 } };
    if (rp_cache_exchange(f->cache, embedder, NULL, &error) != RP_OK)
        fail_msg("%s", error.text);
}

static void
put(fixture *f, const char *prompt, const char *reply)
{
    const rp_cache_request request = { .tenant = RP_STR("t"), .prompt = rp_str_of(prompt) };
    rp_error error = { { 0 } };
    if (rp_cache_store(f->cache, &request, rp_str_of(reply), NULL, NULL, &error) != RP_OK)
        fail_msg("%s", error.text);
}

static float
expect(fixture *f, const char *prompt, const char *outcome, const char *tier)
{
    const rp_cache_request request = { .tenant = RP_STR("t"), .prompt = rp_str_of(prompt) };
    rp_cache_answer *answer;
    assert_int_equal(rp_cache_lookup(f->cache, &request, &answer, NULL), RP_OK);
    if (strcmp(answer->outcome, outcome) != 0 || strcmp(answer->tier, tier) != 0)
        print_error("%s: %s %s %s %.4f\n", prompt, answer->outcome, answer->tier, answer->reason,
                    (double)answer->similarity);
    assert_string_equal(answer->outcome, outcome);
    assert_string_equal(answer->tier, tier);
    const float similarity = answer->similarity;
    rp_cache_answer_free(answer);
    return similarity;
}

static double
similarity_by(bool second, const char *a, const char *b)
{
    static float storage[2][(RP_WINDOWS_MAX + 1) * FAKE_DIM];
    const char *const texts[] = { a, b };
    double product = 0;
    for (int i = 0; i < 2; i++) {
        rp_embedding embedding;
        assert_int_equal(second ? embed_otherwise(rp_str_of(texts[i]), storage[i], &embedding, NULL)
                                : fake_embed(NULL, rp_str_of(texts[i]), storage[i], &embedding, NULL),
                         RP_OK);
    }
    for (size_t i = 0; i < FAKE_DIM; i++)
        product += (double)storage[0][i] * storage[1][i];
    return product;
}

static const char question[] = "how do I reset the password of my2 account please";
static const char paraphrase[] = "how do I reset the password of my2 account please tell";
static const char capital[] = "what is the capital city of france";
static const char capital_again[] = "what is the capital city of france please";

static void
test_what_was_stored_answers_again_with_vectors_of_the_new_encoder(void **state)
{
    fixture *f = *state;
    put(f, question, "click reset");
    put(f, capital, "Paris");
    assert_float_equal(expect(f, paraphrase, "hit", "semantic"),
                       similarity_by(false, paraphrase, question), 1e-5);
    exchange(f, &f->second);
    expect(f, question, "hit", "exact"); /* at once */
    wait_until_renewed(f);
    assert_float_equal(expect(f, paraphrase, "hit", "semantic"),
                       similarity_by(true, paraphrase, question), 1e-5);
    expect(f, capital_again, "hit", "semantic");
    expect(f, "nothing of the kind was ever asked here", "miss", "");
    assert_int_equal(rp_index_count(f->cache->space->index), 2);
    rp_cache_stats stats;
    rp_cache_stats_get(f->cache, &stats);
    assert_string_equal(stats.fingerprint, FAKE_FINGERPRINT_OTHER);
    assert_int_equal(stats.failures, 0);

    /* The next start finds them, with the new encoder only. */
    rp_cache_close(f->cache);
    open_cache(f, &f->second);
    wait_until_renewed(f);
    expect(f, paraphrase, "hit", "semantic");
    assert_int_equal(f->warnings, 0);
    rp_cache_close(f->cache);
    open_cache(f, &f->first);
    assert_int_equal(f->warnings, 1);
    expect(f, question, "hit", "exact");
    expect(f, paraphrase, "miss", "");
    exchange(f, &f->second); /* out of that state, too */
    wait_until_renewed(f);
    expect(f, paraphrase, "hit", "semantic");
}

static void
test_vectors_that_are_of_the_encoder_already_are_not_made_again(void **state)
{
    fixture *f = *state;
    put(f, question, "click reset");
    atomic_store(&f->encoder.fails, true); /* nothing is made anew ... */
    exchange(f, &f->second);
    wait_until_renewed(f);
    expect(f, paraphrase, "miss", "");
    atomic_store(&f->encoder.fails, false);
    put(f, capital, "Paris");
    expect(f, capital_again, "hit", "semantic");
    exchange(f, &f->first); /* ... and what the first had made is good again */
    wait_until_renewed(f);
    expect(f, paraphrase, "hit", "semantic");
    expect(f, capital_again, "hit", "semantic");
}

/* ---- in flight ------------------------------------------------------------------------- */

typedef struct stages {
    rp_arena arena;
    rp_query query;
    rp_request request;
} stages;

static void
begin(fixture *f, stages *s, const char *prompt)
{
    const rp_cache_request asked = { .tenant = RP_STR("t"), .prompt = rp_str_of(prompt) };
    rp_arena_init(&s->arena, 0);
    assert_int_equal(rp_query_from_request(f->cache, &asked, &s->arena, &s->query, NULL), RP_OK);
    assert_int_equal(rp_query_prepare(f->cache, &s->query), RP_OK);
    rp_lookup_exact(f->cache, &s->query);
}

static void
end(stages *s)
{
    rp_query_fini(&s->query);
    rp_arena_fini(&s->arena);
}

static void
test_what_has_begun_ends_with_the_encoder_it_began_with(void **state)
{
    fixture *f = *state;
    put(f, question, "click reset");
    stages embedded, prepared, late;
    begin(f, &embedded, paraphrase);
    assert_int_equal(rp_query_embed(f->cache, &embedded.query), RP_OK);
    begin(f, &prepared, paraphrase);
    atomic_store(&f->encoder.holds, true);
    exchange(f, &f->second);
    sem_wait(&f->encoder.held); /* the background stands before its first text */

    rp_lookup_semantic(f->cache, &embedded.query);
    assert_int_equal(embedded.query.result.outcome, RP_LOOKUP_HIT);
    assert_float_equal(embedded.query.result.similarity,
                       similarity_by(false, paraphrase, question), 1e-5);
    assert_int_equal(rp_query_embed(f->cache, &prepared.query), RP_OK);
    rp_lookup_semantic(f->cache, &prepared.query);
    assert_int_equal(prepared.query.result.outcome, RP_LOOKUP_HIT);
    assert_float_equal(prepared.query.result.similarity,
                       similarity_by(false, paraphrase, question), 1e-5);

    /* Who comes now finds nothing of the old encoder. */
    atomic_store(&f->encoder.holds, false);
    begin(f, &late, paraphrase);
    assert_true(late.query.stratum != embedded.query.stratum);
    if (late.query.result.outcome == RP_LOOKUP_WANTS_SEMANTIC) {
        assert_int_equal(rp_query_embed(f->cache, &late.query), RP_OK);
        rp_lookup_semantic(f->cache, &late.query);
    }
    assert_int_equal(late.query.result.outcome, RP_LOOKUP_MISS);
    assert_true(isnan(late.query.result.similarity)); /* no candidate at all */
    sem_post(&f->encoder.gate);
    wait_until_renewed(f);
    expect(f, paraphrase, "hit", "semantic");
    end(&embedded);
    end(&prepared);
    end(&late);
    rp_space_sweep(f->cache);
    assert_null(f->cache->retired); /* the last of them let the old one go */
}

/* Searched together, each query finds what it finds alone: of its own scope and its own encoder's
 * vectors, whatever the others are. */
static void
test_queries_that_are_searched_together_find_what_each_finds_alone(void **state)
{
    fixture *f = *state;
    put(f, question, "click reset");
    put(f, capital, "Paris");
    static const char *const prompts[] = { paraphrase, capital_again, "what is of no kind known here",
                                           paraphrase, capital_again };
    enum { COUNT = RP_COUNT(prompts), OLD = 3 };
    stages s[COUNT], none;
    rp_query *queries[COUNT + 1];
    for (size_t i = 0; i < COUNT; i++) {
        if (i == OLD) {
            exchange(f, &f->second);
            wait_until_renewed(f);
        }
        begin(f, &s[i], prompts[i]);
        assert_int_equal(rp_query_embed(f->cache, &s[i].query), RP_OK);
        queries[i] = &s[i].query;
    }
    begin(f, &none, paraphrase); /* without a vector: left alone */
    queries[COUNT] = &none.query;
    rp_lookup_search_many(f->cache, queries, COUNT + 1);
    assert_false(none.query.is_searched);
    for (size_t i = 0; i < COUNT; i++) {
        const char *stored = prompts[i] == paraphrase ? question : capital;
        assert_true(s[i].query.is_searched);
        rp_lookup_semantic(f->cache, &s[i].query);
        assert_int_equal(s[i].query.result.outcome, i == 2 ? RP_LOOKUP_MISS : RP_LOOKUP_HIT);
        if (i != 2)
            assert_float_equal(s[i].query.result.similarity,
                               similarity_by(i >= OLD, prompts[i], stored), 1e-5);
        end(&s[i]);
    }
    rp_lookup_semantic(f->cache, &none.query);
    assert_int_equal(none.query.result.outcome, RP_LOOKUP_MISS);
    end(&none);
}

/* A reply that comes after the exchange: kept with a vector of the new encoder if the query is
 * asked to follow, without one if it is not; never with the old one. */
static void
test_a_late_reply_is_never_kept_with_the_old_vector(void **state)
{
    fixture *f = *state;
    stages follows, stays;
    rp_buffer encoded;
    rp_json_reader *json;
    rp_buffer_init(&encoded, 0);
    rp_usage usage;
    assert_int_equal(rp_json_reader_new(&json), RP_OK);
    assert_int_equal(rp_reply_from_body(RP_WIRE_PROMPT, RP_STR("\"Paris\""), json, &encoded, &usage),
                     RP_REPLY_GOOD);
    rp_json_reader_free(json);
    const rp_admission admission = { .verdict = RP_REPLY_GOOD, .encoded = rp_buffer_str(&encoded),
                                     .usage = { -1, -1 } };
    begin(f, &follows, capital);
    begin(f, &stays, question);
    assert_int_equal(rp_query_embed(f->cache, &follows.query), RP_OK);
    assert_int_equal(rp_query_embed(f->cache, &stays.query), RP_OK);
    rp_lookup_semantic(f->cache, &follows.query);
    rp_lookup_semantic(f->cache, &stays.query);
    exchange(f, &f->second);
    wait_until_renewed(f);

    rp_query_follow(f->cache, &follows.query);
    assert_null(follows.query.vectors);
    assert_int_equal(rp_query_embed(f->cache, &follows.query), RP_OK);
    rp_entry_id followed = 0, stayed = 0;
    assert_null(rp_admit(f->cache, &follows.query, &admission, &followed));
    assert_null(rp_admit(f->cache, &stays.query, &admission, &stayed));
    assert_int_equal(rp_store_sync(f->cache->store), RP_OK);
    expect(f, capital_again, "hit", "semantic");
    expect(f, question, "hit", "exact");
    expect(f, paraphrase, "miss", "");
    assert_int_equal(rp_index_count(f->cache->space->index), 1);
    const rp_entry *entry =
        rp_store_get(f->cache->store, stays.query.scope, stayed, RP_PART_VECTORS);
    assert_non_null(entry);
    assert_null(entry->mean);
    rp_entry_unref(entry);
    assert_false(rp_learn(f->cache, &follows.query, RP_OUTCOME_MISS, true, 1));
    end(&follows);
    end(&stays);
    rp_buffer_fini(&encoded);
    exchange(f, &f->first); /* and back: both get theirs */
    wait_until_renewed(f);
    expect(f, paraphrase, "hit", "semantic");
    expect(f, capital_again, "hit", "semantic");
}

/* What was decided with the old similarities is not told to a policy that now sees others. */
static void
test_feedback_after_an_exchange_teaches_nothing_of_before(void **state)
{
    fixture *f = *state;
    const rp_cache_request request = { .tenant = RP_STR("t"), .prompt = rp_str_of(question) };
    char entry[33];
    rp_cache_stats stats;
    assert_int_equal(rp_cache_store(f->cache, &request, RP_STR("click reset"), NULL, entry, NULL),
                     RP_OK);
    expect(f, paraphrase, "hit", "semantic");
    exchange(f, &f->second);
    wait_until_renewed(f);
    assert_int_equal(rp_cache_feedback(f->cache, RP_STR("t"), rp_str_of(entry), true, NULL), RP_OK);
    rp_cache_stats_get(f->cache, &stats);
    assert_int_equal(stats.outcomes_right, 0);
    expect(f, paraphrase, "hit", "semantic");
    assert_int_equal(rp_cache_feedback(f->cache, RP_STR("t"), rp_str_of(entry), true, NULL), RP_OK);
    rp_cache_stats_get(f->cache, &stats);
    assert_int_equal(stats.outcomes_right, 1);
}

/* An entry of several windows that is in memory has its old vectors there. */
static void
test_windows_in_memory_are_not_compared_with_those_of_another_encoder(void **state)
{
    fixture *f = *state;
    char text[4096] = "", longer[4200];
    for (int i = 0; i < FAKE_WINDOW_WORDS + 20; i++)
        snprintf(text + strlen(text), sizeof text - strlen(text), "word%c%c ", 'a' + i / 26,
                 'a' + i % 26);
    snprintf(longer, sizeof longer, "%s please", text);
    put(f, text, "a summary");
    assert_true(expect(f, longer, "hit", "semantic") > 0.9f); /* now it is hot */
    exchange(f, &f->second);
    wait_until_renewed(f);
    assert_true(expect(f, longer, "hit", "semantic") > 0.9f);
}

/* ---- what goes wrong --------------------------------------------------------------------- */

static void
test_an_encoder_that_cannot_be_used_changes_nothing(void **state)
{
    fixture *f = *state;
    put(f, question, "click reset");
    rp_embedder broken = f->second, wider = f->second;
    rp_error error = { { 0 } };
    bool changed = true;
    broken.self_test = fake_fail_self_test;
    wider.dim = FAKE_DIM * 2;
    assert_int_equal(rp_cache_exchange(f->cache, &broken, NULL, &error), RP_ERR_CORRUPT);
    assert_string_equal(error.text, "all vectors are equal");
    assert_int_equal(rp_cache_exchange(f->cache, &wider, NULL, &error), RP_ERR_INVALID);
    assert_int_equal(rp_cache_adapt(f->cache, "/nowhere", &changed, &error), RP_ERR_UNSUPPORTED);
    assert_false(changed);
    wait_until_renewed(f);
    assert_float_equal(expect(f, paraphrase, "hit", "semantic"),
                       similarity_by(false, paraphrase, question), 1e-5);
    rp_cache_stats stats;
    rp_cache_stats_get(f->cache, &stats);
    assert_string_equal(stats.fingerprint, FAKE_FINGERPRINT);
    rp_cache_close(f->cache); /* nor for the next start */
    open_cache(f, &f->first);
    wait_until_renewed(f);
    expect(f, paraphrase, "hit", "semantic");
    assert_int_equal(f->warnings, 0);
}

static void
test_a_start_goes_on_where_the_background_was_cut_off(void **state)
{
    fixture *f = *state;
    put(f, question, "click reset");
    put(f, capital, "Paris");
    atomic_store(&f->encoder.holds, true);
    exchange(f, &f->second);
    sem_wait(&f->encoder.held);
    atomic_store(&f->cache->renewer_stops, true); /* as the close will, which waits for it */
    atomic_store(&f->encoder.holds, false);
    sem_post(&f->encoder.gate);
    rp_cache_close(f->cache);
    open_cache(f, &f->second);
    wait_until_renewed(f);
    expect(f, paraphrase, "hit", "semantic");
    expect(f, capital_again, "hit", "semantic");
    assert_int_equal(rp_index_count(f->cache->space->index), 2);
    assert_false(rp_renewer_is_due(f->cache));
    assert_int_equal(f->warnings, 0);
}

static void
test_what_could_not_be_made_is_tried_at_the_next_start(void **state)
{
    fixture *f = *state;
    put(f, question, "click reset");
    atomic_store(&f->encoder.fails, true);
    exchange(f, &f->second);
    wait_until_renewed(f);
    expect(f, question, "hit", "exact");
    atomic_store(&f->encoder.fails, false);
    rp_cache_close(f->cache);
    open_cache(f, &f->second);
    wait_until_renewed(f);
    expect(f, paraphrase, "hit", "semantic");
}

/* Kept for its own repeat only: a colliding prompt, or what its policy wanted no second of. */
static void
test_what_must_stand_apart_gets_no_vector(void **state)
{
    fixture *f = *state;
    stages s;
    rp_buffer encoded;
    rp_json_reader *json;
    rp_usage usage;
    rp_buffer_init(&encoded, 0);
    assert_int_equal(rp_json_reader_new(&json), RP_OK);
    assert_int_equal(rp_reply_from_body(RP_WIRE_PROMPT, RP_STR("\"no\""), json, &encoded, &usage),
                     RP_REPLY_GOOD);
    rp_json_reader_free(json);
    const rp_admission admission = { .verdict = RP_REPLY_GOOD, .encoded = rp_buffer_str(&encoded),
                                     .usage = { -1, -1 } };
    rp_entry_id id;
    begin(f, &s, question);
    assert_int_equal(rp_query_embed(f->cache, &s.query), RP_OK);
    s.query.collides = true;
    assert_null(rp_admit(f->cache, &s.query, &admission, &id));
    end(&s);
    rp_buffer_fini(&encoded);
    assert_int_equal(rp_store_sync(f->cache->store), RP_OK);
    exchange(f, &f->second);
    wait_until_renewed(f);
    expect(f, question, "hit", "exact");
    expect(f, paraphrase, "miss", "");
    assert_int_equal(rp_cache_reembed(f->cache, NULL, NULL, NULL), RP_OK);
    expect(f, paraphrase, "miss", "");
    assert_int_equal(rp_index_count(f->cache->space->index), 0);
}

/* ---- under load ---------------------------------------------------------------------------- */

enum { CROWD = 4, TURNS = 400, PROMPTS = 8 };

typedef struct member {
    fixture *f;
    size_t number;
    _Atomic size_t *wrong, *hits, *running;
    pthread_t thread;
} member;

static void
make_prompt(char *out, size_t size, uint64_t which, bool similar)
{
    snprintf(out, size, "how does part%c of the large machine work when it is%c on%s",
             (char)('a' + (int)which), (char)('a' + (int)which), similar ? " again" : "");
}

static void
check_look_up(member *me, const char *asked)
{
    stages s;
    begin(me->f, &s, asked);
    if (s.query.result.outcome == RP_LOOKUP_WANTS_SEMANTIC &&
        rp_query_embed(me->f->cache, &s.query) == RP_OK) {
        rp_lookup_semantic(me->f->cache, &s.query);
        const bool second = strcmp(s.query.space->embedder.fingerprint, FAKE_FINGERPRINT) != 0;
        if (s.query.result.outcome == RP_LOOKUP_HIT) {
            const rp_str stored = s.query.result.entry->prompt; /* whichever is there by now */
            rp_embedding a, b;
            static _Thread_local float storage[2][(RP_WINDOWS_MAX + 1) * FAKE_DIM];
            double product = 0;
            const bool made =
                (second ? embed_otherwise(rp_str_of(asked), storage[0], &a, NULL)
                        : fake_embed(NULL, rp_str_of(asked), storage[0], &a, NULL)) == RP_OK &&
                (second ? embed_otherwise(stored, storage[1], &b, NULL)
                        : fake_embed(NULL, stored, storage[1], &b, NULL)) == RP_OK;
            for (size_t i = 0; made && i < FAKE_DIM; i++)
                product += (double)a.mean[i] * b.mean[i];
            if (!made || fabs(product - (double)s.query.result.similarity) > 1e-4)
                atomic_fetch_add(me->wrong, 1);
            atomic_fetch_add(me->hits, 1);
        }
    }
    end(&s);
}

static void *
use_cache(void *context)
{
    member *me = context;
    rp_random random;
    rp_random_init(&random, 7 + me->number);
    for (size_t turn = 0; turn < TURNS; turn++) {
        char prompt[128], again[128];
        const uint64_t which = rp_random_below(&random, PROMPTS);
        make_prompt(prompt, sizeof prompt, which, false);
        make_prompt(again, sizeof again, which, true);
        const rp_cache_request request = { .tenant = RP_STR("t"), .prompt = rp_str_of(prompt) };
        if (turn % 4 == 0 &&
            rp_cache_store(me->f->cache, &request, RP_STR("it turns"), NULL, NULL, NULL) != RP_OK)
            atomic_fetch_add(me->wrong, 1);
        check_look_up(me, again);
    }
    atomic_fetch_sub(me->running, 1);
    return NULL;
}

/* While others store and ask, the encoder goes back and forth; every hit's similarity is that of
 * its query's own encoder. At the end, with everything quiet, all of it is found. */
static void
test_exchanges_under_load_never_mix_encoders(void **state)
{
    fixture *f = *state;
    _Atomic size_t wrong = 0, hits = 0, running = CROWD;
    member crowd[CROWD];
    for (size_t i = 0; i < CROWD; i++) {
        crowd[i] = (member){ f, i, &wrong, &hits, &running, 0 };
        assert_int_equal(pthread_create(&crowd[i].thread, NULL, use_cache, &crowd[i]), 0);
    }
    size_t exchanges = 0;
    do {
        exchange(f, exchanges % 2 ? &f->first : &f->second);
        rp_space_sweep(f->cache);
        exchanges++;
    } while (atomic_load(&running) || exchanges < 4);
    for (size_t i = 0; i < CROWD; i++)
        pthread_join(crowd[i].thread, NULL);
    printf("%zu exchanges, %zu hits\n", exchanges, (size_t)hits);
    assert_int_equal(wrong, 0);
    exchange(f, exchanges % 2 ? &f->first : &f->second);
    wait_until_renewed(f);
    for (uint64_t i = 0; i < PROMPTS; i++) {
        char prompt[128];
        make_prompt(prompt, sizeof prompt, i, false);
        put(f, prompt, "it turns");
        make_prompt(prompt, sizeof prompt, i, true);
        expect(f, prompt, "hit", "semantic");
    }
    rp_cache_stats stats;
    rp_cache_stats_get(f->cache, &stats);
    assert_int_equal(stats.vectors, stats.entries);
    assert_int_equal(stats.failures, 0);
}

/* ---- adapters ------------------------------------------------------------------------------ */

static void
adapt(rp_cache *cache, const char *name, bool changes)
{
    char folder[1024];
    rp_error error = { { 0 } };
    bool changed;
    snprintf(folder, sizeof folder, "%s/tiny_adapters/%s", RP_TEST_GOLDEN, name ? name : "");
    if (rp_cache_adapt(cache, name ? folder : NULL, &changed, &error) != RP_OK)
        fail_msg("%s", error.text);
    assert_int_equal(changed, changes);
}

static void
test_adapters_of_one_encoder_come_and_go(void **state)
{
    fixture *f = *state;
    rp_cache_close(f->cache);
    char command[128], model[1024], start[33];
    snprintf(command, sizeof command, "rm -rf '%s'", f->folder);
    assert_int_equal(system(command), 0);
    snprintf(model, sizeof model, "%s/tiny_bert/mean", RP_TEST_GOLDEN);
    const rp_encoder_options f32 = { .precision = RP_PRECISION_F32 };
    f->options.model = model;
    f->options.encoder_options = &f32;
    rp_error error = { { 0 } };
    if (rp_cache_open(&f->options, &f->cache, &error) != RP_OK)
        fail_msg("%s", error.text);
    wait_until_renewed(f);
    rp_cache_stats stats;
    rp_cache_stats_get(f->cache, &stats);
    memcpy(start, stats.fingerprint, 33);
    assert_true(stats.semantic);
    put(f, "the cache answers a question", "yes");

    bool changed = true;
    assert_int_not_equal(rp_cache_adapt(f->cache, "/nowhere", &changed, &error), RP_OK);
    assert_false(changed);
    adapt(f->cache, NULL, false);
    adapt(f->cache, "plain", true);
    adapt(f->cache, "plain", false); /* the same files: nothing to do */
    wait_until_renewed(f);
    rp_cache_stats_get(f->cache, &stats);
    assert_string_not_equal(stats.fingerprint, start);
    assert_int_equal(stats.vectors, 1);
    rp_encoder *encoder = rp_cache_encoder_ref(f->cache);
    assert_str_equal(rp_encoder_fingerprint(encoder), rp_str_of(stats.fingerprint));
    adapt(f->cache, "replacing", true);
    adapt(f->cache, NULL, true);
    wait_until_renewed(f);
    rp_space_sweep(f->cache);
    float vector[24];
    const rp_str text = RP_STR("it lives as long as it is held");
    assert_int_equal(rp_encoder_embed(encoder, &text, 1, vector, NULL, NULL), RP_OK);
    rp_encoder_close(encoder);
    rp_cache_stats_get(f->cache, &stats);
    assert_string_equal(stats.fingerprint, start);
    assert_int_equal(stats.failures, 0);
    expect(f, "the cache answers a question", "hit", "exact");
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
#define ROW(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
        ROW(test_what_was_stored_answers_again_with_vectors_of_the_new_encoder),
        ROW(test_vectors_that_are_of_the_encoder_already_are_not_made_again),
        ROW(test_what_has_begun_ends_with_the_encoder_it_began_with),
        ROW(test_queries_that_are_searched_together_find_what_each_finds_alone),
        ROW(test_a_late_reply_is_never_kept_with_the_old_vector),
        ROW(test_feedback_after_an_exchange_teaches_nothing_of_before),
        ROW(test_windows_in_memory_are_not_compared_with_those_of_another_encoder),
        ROW(test_an_encoder_that_cannot_be_used_changes_nothing),
        ROW(test_a_start_goes_on_where_the_background_was_cut_off),
        ROW(test_what_could_not_be_made_is_tried_at_the_next_start),
        ROW(test_what_must_stand_apart_gets_no_vector),
        ROW(test_exchanges_under_load_never_mix_encoders),
        ROW(test_adapters_of_one_encoder_come_and_go),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
