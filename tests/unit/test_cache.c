/* test_cache.c - one request from start to end, over a real store, index and policy.
 *
 * The encoder is a fake whose similarities are known (fake_embedder.h), the clock stands
 * still until moved. What could go wrong, and is tried: an answer that crosses tenants,
 * namespaces, models or histories; one that a gate, a window, an age, a user or the clock
 * forbids; an index that holds what the store lacks, or loses it over a restart; another
 * encoder's vectors; a failure inside that reaches the caller as anything but a miss; an
 * entry that the rules of admission forbid. */
#include "cache/cache_internal.h"
#include "fake_embedder.h"
#include "test_support.h"

#include <math.h>
#include <sys/stat.h>
#include <unistd.h>

#define DAY_S ((int64_t)86400)
#define T0 ((int64_t)1700000000 * 1000000)

typedef struct fixture {
    char folder[64];
    rp_clock_manual clock;
    rp_cache *cache;
    rp_embedder embedder;
    rp_cache_options options;
    char warning[RP_ERROR_SIZE];
    size_t warnings;
    int judge_verdict;
    size_t judge_calls;
} fixture;

static void
note_warning(void *context, const char *sentence)
{
    fixture *f = context;
    snprintf(f->warning, sizeof f->warning, "%s", sentence);
    f->warnings++;
}

static void
open_cache(fixture *f)
{
    rp_error error = { { 0 } };
    const rp_status status =
        rp_cache_open_with(&f->options, &f->embedder, &f->clock.clock, &f->cache, &error);
    if (status != RP_OK)
        print_error("%s\n", error.text);
    assert_int_equal(status, RP_OK);
}

static void
reopen_cache(fixture *f)
{
    rp_cache_close(f->cache);
    f->cache = NULL;
    open_cache(f);
}

static int
set_up(void **state)
{
    fixture *f = calloc(1, sizeof *f);
    snprintf(f->folder, sizeof f->folder, "%s/reprise-cache-XXXXXX",
             getenv("TMPDIR") ? getenv("TMPDIR") : "/tmp");
    if (!mkdtemp(f->folder))
        return -1;
    rp_clock_manual_init(&f->clock, T0);
    f->embedder = fake_embedder(FAKE_FINGERPRINT);
    f->options = (rp_cache_options){ .folder = f->folder,
                                     .policy = "static:min_similarity=0.8",
                                     .disk_max = 64 << 20,
                                     .memory_max = 64 << 20,
                                     .share_max = 1,
                                     .seed = 1,
                                     .warn = note_warning,
                                     .warn_context = f };
    open_cache(f);
    *state = f;
    return 0;
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

/* ---- shorthand ------------------------------------------------------------------------- */

static rp_cache_request
ask(const char *tenant, const char *prompt)
{
    return (rp_cache_request){ .tenant = rp_str_of(tenant), .prompt = rp_str_of(prompt) };
}

static rp_cache_request
ask_chat(const char *tenant, const char *body)
{
    return (rp_cache_request){ .tenant = rp_str_of(tenant),
                               .path = RP_STR("/v1/chat/completions"),
                               .body = rp_str_of(body) };
}

static void
put_request(fixture *f, rp_cache_request request, const char *reply, char *entry)
{
    rp_error error = { { 0 } };
    const rp_status status =
        rp_cache_store(f->cache, &request, rp_str_of(reply), NULL, entry, &error);
    if (status != RP_OK)
        print_error("%s\n", error.text);
    assert_int_equal(status, RP_OK);
}

static void
put(fixture *f, const char *prompt, const char *reply)
{
    put_request(f, ask("alice", prompt), reply, NULL);
}

static rp_cache_answer *
look_up(fixture *f, rp_cache_request request)
{
    rp_cache_answer *answer = NULL;
    rp_error error = { { 0 } };
    const rp_status status = rp_cache_lookup(f->cache, &request, &answer, &error);
    if (status != RP_OK)
        print_error("%s\n", error.text);
    assert_int_equal(status, RP_OK);
    return answer;
}

static void
expect(fixture *f, rp_cache_request request, const char *tier, const char *reply)
{
    rp_cache_answer *answer = look_up(f, request);
    if (!answer->hit || strcmp(answer->tier, tier) != 0)
        print_error("outcome %s, tier %s, reason %s, similarity %g\n", answer->outcome,
                    answer->tier, answer->reason, answer->similarity);
    assert_true(answer->hit);
    assert_string_equal(answer->outcome, "hit");
    assert_string_equal(answer->tier, tier);
    assert_str_equal(answer->reply, rp_str_of(reply));
    assert_int_equal(strlen(answer->entry), 32);
    rp_cache_answer_free(answer);
}

static void
expect_miss(fixture *f, rp_cache_request request, const char *reason)
{
    rp_cache_answer *answer = look_up(f, request);
    if (answer->hit || (reason && strcmp(answer->reason, reason) != 0))
        print_error("outcome %s, tier %s, reason %s, similarity %g\n", answer->outcome,
                    answer->tier, answer->reason, answer->similarity);
    assert_false(answer->hit);
    assert_int_equal(answer->reply.len, 0);
    if (reason)
        assert_string_equal(answer->reason, reason);
    rp_cache_answer_free(answer);
}

/* The question has nothing that the paraphrase lacks: it would look like an addition to it. */
static const char question[] = "how do I reset the password of my2 account please";
static const char paraphrase[] = "how do I reset the password of my2 account please tell";

/* ---- hits --------------------------------------------------------------------------------- */

static void
test_the_same_prompt_hits_exactly_and_a_similar_one_semantically(void **state)
{
    fixture *f = *state;
    expect_miss(f, ask("alice", question), NULL);
    put(f, question, "click reset");
    expect(f, ask("alice", question), "exact", "click reset");
    expect(f, ask("alice", paraphrase), "semantic", "click reset");
    expect_miss(f, ask("alice", "what is the capital of Peru"), NULL);
    rp_cache_stats stats;
    rp_cache_stats_get(f->cache, &stats);
    assert_int_equal(stats.hits_exact, 1);
    assert_int_equal(stats.hits_semantic, 1);
    assert_int_equal(stats.misses, 2);
    assert_int_equal(stats.vectors, 1);
    assert_true(stats.ready && stats.semantic);
}

static void
test_tenants_and_namespaces_never_meet(void **state)
{
    fixture *f = *state;
    put(f, question, "click reset");
    expect_miss(f, ask("bob", question), NULL);
    expect_miss(f, ask("bob", paraphrase), NULL);
    expect_miss(f, ask("alic", question), NULL);
    rp_cache_request other = ask("alice", question);
    other.namespace_name = RP_STR("eu");
    expect_miss(f, other, NULL);
    other.prompt = rp_str_of(paraphrase);
    expect_miss(f, other, NULL);
    put_request(f, other, "in the eu", NULL);
    expect(f, other, "exact", "in the eu");
    expect(f, ask("alice", question), "exact", "click reset");
}

static const char chat_reply[] =
    "{\"id\":\"chatcmpl-1\",\"object\":\"chat.completion\",\"created\":1,\"model\":\"m\",\"choices\":[{"
    "\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"Paris\"},\"finish_reason\":\"stop\"}],"
    "\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":1,\"total_tokens\":6}}";

static void
expect_chat_hit(fixture *f, const char *body, const char *tier)
{
    rp_cache_answer *answer = look_up(f, ask_chat("alice", body));
    if (!answer->hit)
        print_error("outcome %s, reason %s\n", answer->outcome, answer->reason);
    assert_true(answer->hit);
    assert_string_equal(answer->tier, tier);
    assert_non_null(strstr(answer->reply.ptr, "\"Paris\""));
    rp_cache_answer_free(answer);
}

static void
test_chat_requests_meet_only_in_the_same_world(void **state)
{
    fixture *f = *state;
    put_request(f, ask_chat("alice", "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":"
                                     "\"what is the capital city of france\"}]}"),
                chat_reply, NULL);
    expect_chat_hit(f, "{\"messages\":[{\"content\":\"what is the capital city of france\",\"role\":"
                       "\"user\"}],\"model\":\"m\",\"stream\":false,\"user\":\"u\"}", "exact");
    expect_chat_hit(f, "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":"
                       "\"what is the capital city of france please\"}]}", "semantic");
    const char *const others[] = {
        /* another model, a system prompt, a history, a temperature, an unknown member */
        "{\"model\":\"n\",\"messages\":[{\"role\":\"user\",\"content\":\"what is the capital city of france\"}]}",
        "{\"model\":\"m\",\"messages\":[{\"role\":\"system\",\"content\":\"lie\"},{\"role\":\"user\",\"content\":\"what is the capital city of france\"}]}",
        "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"hi\"},{\"role\":\"assistant\",\"content\":\"hello\"},{\"role\":\"user\",\"content\":\"what is the capital city of france\"}]}",
        "{\"model\":\"m\",\"temperature\":0.1,\"messages\":[{\"role\":\"user\",\"content\":\"what is the capital city of france\"}]}",
        "{\"model\":\"m\",\"brand_new\":1,\"messages\":[{\"role\":\"user\",\"content\":\"what is the capital city of france\"}]}",
    };
    for (size_t i = 0; i < RP_COUNT(others); i++)
        expect_miss(f, ask_chat("alice", others[i]), NULL);
    /* A bare prompt is a family of its own. */
    expect_miss(f, ask("alice", "what is the capital city of france"), NULL);
}

static void
test_tool_calls_are_replayed_to_equal_requests_only(void **state)
{
    fixture *f = *state;
    const char *const body =
        "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"turn on the light in the kitchen of the house\"}]}";
    put_request(f, ask_chat("alice", body),
                "{\"id\":\"c\",\"object\":\"chat.completion\",\"created\":1,\"model\":\"m\",\"choices\":[{\"index\":0,"
                "\"message\":{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[{\"id\":\"t\",\"type\":\"function\","
                "\"function\":{\"name\":\"light\",\"arguments\":\"{}\"}}]},\"finish_reason\":\"tool_calls\"}]}",
                NULL);
    rp_cache_answer *answer = look_up(f, ask_chat("alice", body));
    assert_true(answer->hit);
    assert_non_null(strstr(answer->reply.ptr, "\"light\""));
    rp_cache_answer_free(answer);
    expect_miss(f, ask_chat("alice", "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"turn on the light in the kitchen of the house please\"}]}"),
                "tool-calls");
}

/* ---- what forbids a hit ------------------------------------------------------------------------ */

/* A store of millions takes seconds to load, and on a busy machine the thread that loads an
 * empty one may not have run yet. What is stored meanwhile is an entry like any other. */
static void
test_what_is_stored_while_the_index_is_loaded_has_its_vector(void **state)
{
    fixture *f = *state;
    atomic_store(&f->cache->space->index_state, RP_INDEX_LOADING);
    put(f, question, "click reset");
    expect(f, ask("alice", question), "exact", "click reset");
    expect_miss(f, ask("alice", paraphrase), NULL);
    atomic_store(&f->cache->space->index_state, RP_INDEX_READY);
    expect(f, ask("alice", paraphrase), "semantic", "click reset");
}

static void
test_a_gate_vetoes_what_similarity_allows(void **state)
{
    fixture *f = *state;
    put(f, "how do I enable the alarm in the living room of the house", "press on");
    rp_cache_answer *answer =
        look_up(f, ask("alice", "how do I disable the alarm in the living room of the house"));
    assert_false(answer->hit);
    assert_true(answer->similarity > 0.8);
    assert_memory_equal(answer->reason, "gate", 4);
    rp_cache_answer_free(answer);
    expect_miss(f, ask("alice", "how do I never enable the alarm in the living room of the house"), NULL);
    expect(f, ask("alice", "how do I enable the alarm in the living room of the home"), "semantic",
           "press on");
}

static void
test_the_caller_can_only_be_stricter(void **state)
{
    fixture *f = *state;
    put(f, question, "click reset");
    rp_cache_request strict = ask("alice", paraphrase);
    strict.min_similarity = 0.999f;
    expect_miss(f, strict, NULL);
    rp_cache_request loose = ask("alice", "how do I reset a lamp that is on the wall");
    loose.min_similarity = 0.01f;
    expect_miss(f, loose, NULL);
}

static void
test_entries_expire_and_callers_may_want_younger_ones(void **state)
{
    fixture *f = *state;
    put(f, question, "click reset");
    f->clock.now_us += 100 * 1000000;
    rp_cache_request young = ask("alice", question);
    young.max_age_seconds = 99;
    expect_miss(f, young, NULL);
    young.prompt = rp_str_of(paraphrase);
    expect_miss(f, young, NULL);
    young.max_age_seconds = 100;
    expect(f, young, "semantic", "click reset");
    rp_cache_answer *answer = look_up(f, ask("alice", question));
    assert_int_equal(answer->age_seconds, 100);
    rp_cache_answer_free(answer);
    f->clock.now_us = T0 + (DAY_S - 1) * 1000000;
    expect(f, ask("alice", question), "exact", "click reset");
    f->clock.now_us = T0 + DAY_S * 1000000;
    expect_miss(f, ask("alice", question), NULL);
    expect_miss(f, ask("alice", paraphrase), NULL);
}

static void
test_personal_prompts_stay_with_their_user(void **state)
{
    fixture *f = *state;
    rp_cache_request mine = ask("alice", "what is the balance of my account at the bank");
    mine.user = RP_STR("u1");
    put_request(f, mine, "12 euro", NULL);
    expect(f, mine, "exact", "12 euro");
    mine.prompt = RP_STR("what is the balance of my account at the bank please");
    expect(f, mine, "semantic", "12 euro");
    mine.user = RP_STR("u2");
    expect_miss(f, mine, NULL);
    mine.prompt = RP_STR("what is the balance of my account at the bank");
    expect_miss(f, mine, NULL);
    mine.user = RP_STR("");
    expect_miss(f, mine, NULL);
    /* An impersonal prompt does not get a personal answer either. */
    expect_miss(f, ask("alice", "what is the balance of account at the bank"), NULL);
}

static void
test_temporal_prompts_hit_for_ten_minutes(void **state)
{
    fixture *f = *state;
    put(f, "what is the weather in the city of paris today", "rain");
    f->clock.now_us += 599 * (int64_t)1000000;
    expect(f, ask("alice", "what is the weather in the city of paris today"), "exact", "rain");
    f->clock.now_us += 2 * (int64_t)1000000;
    expect_miss(f, ask("alice", "what is the weather in the city of paris today"), NULL);
    /* Nor because the clock was set back and the entry is of the future. */
    put(f, "what is the weather in the city of paris today", "snow");
    f->clock.now_us -= 599 * (int64_t)1000000;
    expect(f, ask("alice", "what is the weather in the city of paris today"), "exact", "snow");
    f->clock.now_us -= 2 * (int64_t)1000000;
    expect_miss(f, ask("alice", "what is the weather in the city of paris today"), NULL);
}

/* A long text of `windows` windows; the word at `changed` is another. */
static void
long_text(char *out, size_t size, size_t words, size_t changed)
{
    size_t len = 0;
    for (size_t i = 0; i < words; i++)
        len += (size_t)snprintf(out + len, size - len, "%s%c%c%c%c", i ? " " : "",
                                i == changed ? 'q' : 'w', (char)('a' + i % 26),
                                (char)('a' + i / 26 % 26), i == changed ? 'x' : 'b');
}

static void
test_long_texts_match_only_window_by_window(void **state)
{
    fixture *f = *state;
    static char text[8192], other[8192];
    long_text(text, sizeof text, 3 * FAKE_WINDOW_WORDS, SIZE_MAX);
    put(f, text, "summary");
    expect(f, ask("alice", text), "exact", "summary");
    /* One word more in the last window: all three windows still pass. */
    long_text(other, sizeof other, 3 * FAKE_WINDOW_WORDS - 1, SIZE_MAX);
    expect(f, ask("alice", other), "semantic", "summary");
    /* One more window: the mean is near, the count is not equal. */
    long_text(other, sizeof other, 3 * FAKE_WINDOW_WORDS + 1, SIZE_MAX);
    expect_miss(f, ask("alice", other), NULL);
    /* Longer than the most windows: exact tier only. */
    static char huge[65536];
    long_text(huge, sizeof huge, (RP_WINDOWS_MAX + 1) * FAKE_WINDOW_WORDS, SIZE_MAX);
    put(f, huge, "long");
    expect(f, ask("alice", huge), "exact", "long");
    huge[0] = 'z';
    expect_miss(f, ask("alice", huge), "long");
    rp_cache_stats stats;
    rp_cache_stats_get(f->cache, &stats);
    assert_int_equal(stats.failures, 0); /* a long text is no broken encoder */
}

/* Words `from`.. of the text are changed, `count` of each window. */
static void
change_words(char *text, size_t from_window, size_t count)
{
    size_t word = 0;
    for (char *at = text; *at; at++) {
        if (*at == ' ')
            word++;
        else if (word / FAKE_WINDOW_WORDS >= from_window && word % FAKE_WINDOW_WORDS < count)
            *at = *at == 'w' ? 'z' : *at;
    }
}

static void
test_the_worst_pair_of_windows_decides(void **state)
{
    fixture *f = *state;
    static char asked[8192], tail[8192], sprinkled[8192];
    f->options.policy = "static:min_similarity=0.7";
    reopen_cache(f);
    long_text(asked, sizeof asked, 7 * FAKE_WINDOW_WORDS, SIZE_MAX);
    memcpy(tail, asked, sizeof tail);
    change_words(tail, 6, FAKE_WINDOW_WORDS); /* mean about 6/7, worst pair about 0 */
    put(f, tail, "of another end");
    rp_cache_answer *answer = look_up(f, ask("alice", asked));
    assert_false(answer->hit);
    assert_true(answer->similarity < 0.5);
    rp_cache_answer_free(answer);
    /* A second text, farther by its mean, whose every pair passes: it comes first now. */
    memcpy(sprinkled, asked, sizeof sprinkled);
    change_words(sprinkled, 0, 12); /* 52 of 64 words: about 0.81 everywhere */
    put(f, sprinkled, "nearly the same");
    expect(f, ask("alice", asked), "semantic", "nearly the same");
}

static void
test_each_rule_of_replay_is_kept_by_itself(void **state)
{
    (void)state;
    rp_query query;
    rp_query_init(&query);
    query.now = 1000000000;
    query.rules.volatile_ttl_us = 500;
    query.words_known = true;
    rp_entry entry = { .created = query.now - 600, .expires = query.now + 100 };
    entry.key.bytes[5] = 1; /* another prompt */
    assert_null(rp_replay_refusal(&query, &entry));

    rp_entry other = entry;
    other.scope.bytes[31] = 1;
    assert_string_equal(rp_replay_refusal(&query, &other), "scope");
    other = entry;
    other.expires = query.now;
    assert_string_equal(rp_replay_refusal(&query, &other), "expired");
    other.expires = 0; /* never */
    assert_null(rp_replay_refusal(&query, &other));
    query.controls.min_fresh_us = 100;
    assert_null(rp_replay_refusal(&query, &entry));
    query.controls.min_fresh_us = 101;
    assert_string_equal(rp_replay_refusal(&query, &entry), "min-fresh");
    query.controls.min_fresh_us = -1;
    query.controls.max_age_us = 600;
    assert_null(rp_replay_refusal(&query, &entry));
    query.controls.max_age_us = 599;
    assert_string_equal(rp_replay_refusal(&query, &entry), "max-age");
    query.controls.max_age_us = -1;

    /* Personal or temporal, whether it is the stored prompt or the new one. */
    for (int side = 0; side < 2; side++) {
        other = entry;
        query.words = (rp_volatility){ .personal = side == 0 };
        other.flags = side == 1 ? RP_ENTRY_PERSONAL : 0;
        assert_null(rp_replay_refusal(&query, &other));
        other.user_hash[0] = 1;
        assert_string_equal(rp_replay_refusal(&query, &other), "personal");
        other.user_hash[0] = 0;
        other.metadata_hash[15] = 1;
        assert_string_equal(rp_replay_refusal(&query, &other), "personal");
        other.metadata_hash[15] = 0;
        query.words = (rp_volatility){ .temporal = side == 0 };
        other.flags = side == 1 ? RP_ENTRY_TEMPORAL : 0;
        assert_string_equal(rp_replay_refusal(&query, &other), "volatile");
        other.created = query.now - 500;
        assert_null(rp_replay_refusal(&query, &other));
        other.user_hash[3] = 1;
        assert_string_equal(rp_replay_refusal(&query, &other), "personal");
    }
    rp_query_fini(&query);
}

static void
test_text_the_encoder_cannot_read_does_not_match(void **state)
{
    fixture *f = *state;
    put(f, "zzunknown zzunknown how zzunknown are you", "fine");
    expect(f, ask("alice", "zzunknown zzunknown how zzunknown are you"), "exact", "fine");
    expect_miss(f, ask("alice", "zzunknown zzunknown how zzunknown are you you"), NULL);
}

/* ---- modes and failures ------------------------------------------------------------------------- */

static void
test_shadow_reports_and_never_answers(void **state)
{
    fixture *f = *state;
    put(f, question, "click reset");
    f->options.mode = RP_CACHE_SHADOW;
    reopen_cache(f);
    rp_cache_answer *answer = look_up(f, ask("alice", paraphrase));
    assert_false(answer->hit);
    assert_string_equal(answer->outcome, "shadow-hit");
    assert_string_equal(answer->tier, "semantic");
    assert_int_equal(answer->reply.len, 0);
    rp_cache_answer_free(answer);
    f->options.mode = RP_CACHE_OFF;
    reopen_cache(f);
    answer = look_up(f, ask("alice", question));
    assert_string_equal(answer->outcome, "bypass");
    rp_cache_answer_free(answer);
    rp_cache_request request = ask("alice", "x y z");
    assert_int_equal(rp_cache_store(f->cache, &request, RP_STR("r"), NULL, NULL, NULL),
                     RP_ERR_UNSUPPORTED);
}

static bool
sum_failures(void *context, const char *kind, const char *reason, uint64_t count)
{
    (void)reason;
    if (strcmp(kind, "failure") == 0)
        *(uint64_t *)context += count;
    return true;
}

static void
test_a_broken_encoder_is_a_counted_miss(void **state)
{
    fixture *f = *state;
    expect_miss(f, ask("alice", "this text is zzbroken"), "embed");
    uint64_t failures = 0;
    rp_cache_reasons(f->cache, sum_failures, &failures);
    assert_int_equal(failures, 1);
    put(f, "this text is zzbroken", "stored for the exact tier all the same");
    expect(f, ask("alice", "this text is zzbroken"), "exact",
           "stored for the exact tier all the same");
}

static void
test_wrong_requests_are_refused_with_a_sentence(void **state)
{
    fixture *f = *state;
    const rp_cache_request wrong[] = {
        { .prompt = RP_STR("x") },
        { .tenant = RP_STR("t") },
        { .tenant = RP_STR("t"), .prompt = RP_STR("x"), .path = RP_STR("/v1/chat/completions"),
          .body = RP_STR("{}") },
        { .tenant = RP_STR("t"), .path = RP_STR("/v1/files"), .body = RP_STR("{}") },
        { .tenant = RP_STR("t"), .path = RP_STR("/v1/chat/completions"), .body = RP_STR("{") },
        { .tenant = RP_STR("t"), .path = RP_STR("/v1/chat/completions"), .body = RP_STR("[]") },
        { .tenant = RP_STR("t"), .prompt = RP_STR("\xff") },
    };
    for (size_t i = 0; i < RP_COUNT(wrong); i++) {
        rp_cache_answer *answer;
        rp_error error = { { 0 } };
        assert_int_not_equal(rp_cache_lookup(f->cache, &wrong[i], &answer, &error), RP_OK);
        assert_true(error.text[0] != 0);
        assert_int_not_equal(rp_cache_store(f->cache, &wrong[i], RP_STR("r"), NULL, NULL, NULL),
                             RP_OK);
    }
}

static void
test_a_read_only_cache_answers_and_takes_nothing(void **state)
{
    fixture *f = *state;
    put(f, question, "click reset");
    f->options.read_only = true;
    reopen_cache(f);
    expect(f, ask("alice", question), "exact", "click reset");
    expect(f, ask("alice", paraphrase), "semantic", "click reset");
    const rp_cache_request request = ask("alice", "one more");
    assert_int_equal(rp_cache_store(f->cache, &request, RP_STR("r"), NULL, NULL, NULL),
                     RP_ERR_UNSUPPORTED);
    size_t removed;
    assert_int_equal(rp_cache_flush(f->cache, RP_STR("alice"), &removed, NULL), RP_ERR_UNSUPPORTED);
    expect(f, ask("alice", question), "exact", "click reset");
}

static void
test_what_cannot_be_opened_says_why(void **state)
{
    fixture *f = *state;
    rp_cache *cache = NULL;
    rp_error error = { { 0 } };
    assert_int_equal(rp_cache_open_with(&f->options, &f->embedder, NULL, &cache, &error),
                     RP_ERR_BUSY); /* this very process holds the folder */
    assert_true(error.text[0] != 0);
    rp_cache_options options = f->options;
    options.folder = "";
    assert_int_equal(rp_cache_open_with(&options, &f->embedder, NULL, &cache, &error), RP_ERR_INVALID);
    rp_cache_close(f->cache);
    f->cache = NULL;
    options = f->options;
    options.policy = "clairvoyant";
    memset(&error, 0, sizeof error);
    assert_int_equal(rp_cache_open_with(&options, &f->embedder, NULL, &cache, &error), RP_ERR_INVALID);
    assert_non_null(strstr(error.text, "clairvoyant"));
    assert_null(cache);
}

static int
judge_says(void *context, const rp_judge_question *asked)
{
    fixture *f = context;
    f->judge_calls++;
    assert_str_equal(asked->prompt, rp_str_of(paraphrase));
    assert_str_equal(asked->stored_prompt, rp_str_of(question));
    assert_str_equal(asked->stored_answer, RP_STR("click reset"));
    return f->judge_verdict;
}

/* Wants a judge about the nearest, and then does what it said. */
static void
want_judge(void *context, const rp_question *asked, double random01, rp_decision *out)
{
    (void)context;
    (void)random01;
    const int judge = asked->count ? asked->candidates[0].judge : RP_JUDGE_NO;
    *out = (rp_decision){ .verdict = judge == RP_JUDGE_YES       ? RP_HIT
                                     : judge == RP_JUDGE_UNASKED ? RP_NEED_JUDGE
                                                                 : RP_MISS,
                          .reason = "judge" };
}

static void
test_a_judge_in_the_path_reads_both_prompts_and_the_answer(void **state)
{
    fixture *f = *state;
    put(f, question, "click reset");
    f->options.judge = (rp_judge){ .ask = judge_says, .context = f };
    rp_decider *decider;
    assert_int_equal(rp_decider_scripted(want_judge, NULL, &decider), RP_OK);
    for (int verdict = RP_JUDGE_UNSURE; verdict <= RP_JUDGE_YES; verdict++) {
        reopen_cache(f); /* replies are cold again: the judge's answer comes from the disk */
        f->judge_verdict = verdict;
        f->judge_calls = 0;
        rp_arena arena;
        rp_query query;
        rp_arena_init(&arena, 0);
        const rp_cache_request request = ask("alice", paraphrase);
        assert_int_equal(rp_query_from_request(f->cache, &request, &arena, &query, NULL), RP_OK);
        query.rules.decider = decider;
        rp_lookup_all(f->cache, &query);
        assert_int_equal(query.result.outcome,
                         verdict == RP_JUDGE_YES ? RP_LOOKUP_HIT : RP_LOOKUP_MISS);
        assert_int_equal(f->judge_calls, 1);
        rp_query_fini(&query);
        rp_arena_fini(&arena);
    }
    rp_decider_free(decider);
}

/* ---- admission ------------------------------------------------------------------------------------- */

static void
test_replies_that_are_not_whole_are_not_kept(void **state)
{
    fixture *f = *state;
    const rp_cache_request request =
        ask_chat("alice", "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]}");
    const char *const replies[] = {
        "{\"error\":{\"message\":\"no\"}}",
        "{\"id\":\"c\",\"object\":\"chat.completion\",\"created\":1,\"model\":\"m\",\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"Pa\"},\"finish_reason\":\"length\"}]}",
        "{\"id\":\"c\",\"object\":\"chat.completion\",\"created\":1,\"model\":\"m\",\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"\"},\"finish_reason\":\"stop\"}]}",
        "not json",
    };
    for (size_t i = 0; i < RP_COUNT(replies); i++) {
        rp_error error = { { 0 } };
        assert_int_equal(rp_cache_store(f->cache, &request, rp_str_of(replies[i]), NULL, NULL,
                                        &error), RP_ERR_INVALID);
        assert_true(error.text[0] != 0);
    }
    expect_miss(f, request, NULL);
    rp_cache_stats stats;
    rp_cache_stats_get(f->cache, &stats);
    assert_int_equal(stats.not_stored, RP_COUNT(replies));
    assert_int_equal(stats.entries, 0);
}

/* Parse a request as the server would and prepare a query on it. */
typedef struct prepared {
    rp_arena arena;
    rp_query query;
    rp_buffer encoded;
    rp_admission admission;
} prepared;

static void
prepare(fixture *f, rp_cache_request request, prepared *made)
{
    rp_error error = { { 0 } };
    rp_arena_init(&made->arena, 0);
    rp_buffer_init(&made->encoded, 0);
    assert_int_equal(rp_query_from_request(f->cache, &request, &made->arena, &made->query, &error),
                     RP_OK);
    rp_json_reader *reader;
    assert_int_equal(rp_json_reader_new(&reader), RP_OK);
    made->admission = (rp_admission){ 0 };
    made->admission.verdict = rp_reply_from_body(RP_WIRE_CHAT, rp_str_of(chat_reply), reader,
                                                 &made->encoded, &made->admission.usage);
    assert_int_equal(made->admission.verdict, RP_REPLY_GOOD);
    made->admission.encoded = rp_buffer_str(&made->encoded);
    rp_json_reader_free(reader);
}

static void
release(prepared *made)
{
    rp_query_fini(&made->query);
    rp_buffer_fini(&made->encoded);
    rp_arena_fini(&made->arena);
}

static void
test_each_rule_of_admission_has_a_name(void **state)
{
    fixture *f = *state;
    const rp_cache_request hot =
        ask_chat("alice", "{\"model\":\"m\",\"temperature\":1.5,\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]}");
    const rp_cache_request plain =
        ask_chat("alice", "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]}");
    prepared p;
    prepare(f, hot, &p);
    assert_int_equal(rp_query_prepare(f->cache, &p.query), RP_OK);
    assert_string_equal(rp_admit_refusal(f->cache, &p.query, &p.admission), "temperature");
    p.query.rules.temperature_max = 2;
    assert_null(rp_admit_refusal(f->cache, &p.query, &p.admission));
    release(&p);

    prepare(f, plain, &p);
    p.query.controls.no_write = true;
    rp_query_prepare(f->cache, &p.query);
    assert_string_equal(rp_admit_refusal(f->cache, &p.query, &p.admission), "no-store");
    p.query.controls.no_read = true;
    rp_query_prepare(f->cache, &p.query);
    assert_string_equal(rp_lookup_outcome_name(p.query.result.outcome), "bypass");
    assert_string_equal(rp_admit_refusal(f->cache, &p.query, &p.admission), "bypass");
    p.query.controls.no_write = false;
    rp_query_prepare(f->cache, &p.query);
    assert_string_equal(rp_lookup_outcome_name(p.query.result.outcome), "refresh");
    rp_lookup_exact(f->cache, &p.query);
    assert_int_equal(p.query.result.outcome, RP_LOOKUP_REFRESH);
    assert_null(rp_admit_refusal(f->cache, &p.query, &p.admission));
    p.query.controls.ttl_us = 0;
    assert_string_equal(rp_admit_refusal(f->cache, &p.query, &p.admission), "ttl");
    p.query.controls.ttl_us = -1;
    p.query.result.decision = (rp_decision){ .reason = "r", .keep = RP_KEEP_NEVER };
    assert_string_equal(rp_admit_refusal(f->cache, &p.query, &p.admission), "policy");
    p.query.result.decision = (rp_decision){ 0 };
    p.admission.verdict = RP_REPLY_INCOMPLETE;
    assert_string_equal(rp_admit_refusal(f->cache, &p.query, &p.admission),
                        rp_reply_verdict_name(RP_REPLY_INCOMPLETE));
    release(&p);
}

static void
admit(fixture *f, prepared *p, rp_entry_id *id)
{
    rp_error error = { { 0 } };
    const rp_status status =
        rp_admit_and_wait(f->cache, &p->query, &p->admission, id, &error);
    if (status != RP_OK)
        print_error("%s\n", error.text);
    assert_int_equal(status, RP_OK);
}

static void
test_size_shadow_and_user_have_rules_too(void **state)
{
    fixture *f = *state;
    const rp_cache_request plain =
        ask_chat("alice", "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]}");
    prepared p;
    prepare(f, plain, &p);
    rp_query_prepare(f->cache, &p.query);
    const rp_str encoded = p.admission.encoded;
    p.admission.encoded.len = RP_CACHEABLE_SIZE_MAX + 1; /* never read: refused by its size */
    assert_string_equal(rp_admit_refusal(f->cache, &p.query, &p.admission), "size");
    p.admission.encoded = encoded;
    p.query.result.outcome = RP_LOOKUP_SHADOW_HIT;
    assert_string_equal(rp_admit_refusal(f->cache, &p.query, &p.admission), "shadow-hit");
    p.query.result.outcome = RP_LOOKUP_HIT;
    assert_string_equal(rp_admit_refusal(f->cache, &p.query, &p.admission), "hit");

    p.query.caller.isolate_user = true; /* and nobody said who it is: share with nobody */
    rp_query_prepare(f->cache, &p.query);
    assert_int_equal(p.query.result.outcome, RP_LOOKUP_BYPASS);
    assert_string_equal(p.query.result.reason, "no-user");
    release(&p);

    prepare(f, ask("alice", "the latest news from today"), &p);
    p.query.rules.ttl_us = 0;
    rp_query_prepare(f->cache, &p.query);
    rp_entry_id id;
    rp_error error = { { 0 } };
    assert_int_equal(rp_admit_and_wait(f->cache, &p.query, &p.admission, &id, &error), RP_OK);
    const rp_entry *entry = rp_store_get(f->cache->store, p.query.scope, id, 0);
    assert_int_equal(entry->expires - entry->created, p.query.rules.volatile_ttl_us);
    assert_true(entry->flags & RP_ENTRY_TEMPORAL);
    rp_entry_unref(entry);
    release(&p);
}

static void
test_isolated_users_of_one_tenant_do_not_meet(void **state)
{
    fixture *f = *state;
    rp_scope scopes[2];
    for (int i = 0; i < 2; i++) {
        rp_cache_request request = ask("alice", question);
        request.user = i ? RP_STR("u1") : RP_STR("u2");
        rp_arena arena;
        rp_query query;
        rp_arena_init(&arena, 0);
        assert_int_equal(rp_query_from_request(f->cache, &request, &arena, &query, NULL), RP_OK);
        query.caller.isolate_user = true;
        assert_int_equal(rp_query_prepare(f->cache, &query), RP_OK);
        scopes[i] = query.scope;
        rp_query_fini(&query);
        rp_arena_fini(&arena);
    }
    assert_memory_not_equal(&scopes[0], &scopes[1], sizeof scopes[0]);
}

static void
test_an_epoch_separates_without_removing(void **state)
{
    fixture *f = *state;
    const rp_str names[] = { RP_STR(""), RP_STR("t/alice"), RP_STR("n/alice/eu") };
    for (size_t i = 0; i < RP_COUNT(names); i++) {
        rp_cache_request request = ask("alice", question);
        request.namespace_name = RP_STR("eu");
        put_request(f, request, "click reset", NULL);
        expect(f, request, "exact", "click reset");
        assert_int_equal(rp_store_epoch_bump(f->cache->store, names[i]), RP_OK);
        expect_miss(f, request, NULL);
    }
}

static void
test_lifetimes_are_clamped(void **state)
{
    fixture *f = *state;
    const struct { int64_t rule, max, wish, wanted; } cases[] = {
        { 100, 0, -1, 100 }, { 100, 0, 50, 50 },  { 100, 0, 500, 500 }, { 100, 200, 500, 200 },
        { 0, 0, -1, 0 },     { 0, 200, -1, 200 }, { 0, 0, 7, 7 },
        { 100, 0, INT64_MAX / 1000000, 0 }, /* ends beyond the calendar: never */
    };
    for (size_t i = 0; i < RP_COUNT(cases); i++) {
        prepared p;
        rp_entry_id id;
        prepare(f, ask_chat("alice", "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"hi\"}]}"), &p);
        p.query.rules.ttl_us = cases[i].rule * 1000000;
        p.query.rules.ttl_max_us = cases[i].max * 1000000;
        p.query.controls.ttl_us = cases[i].wish < 0 ? -1 : cases[i].wish * 1000000;
        rp_query_prepare(f->cache, &p.query);
        admit(f, &p, &id);
        const rp_entry *entry = rp_store_get(f->cache->store, p.query.scope, id, 0);
        assert_non_null(entry);
        const int64_t lives_us = entry->expires ? entry->expires - entry->created : 0;
        assert_int_equal(lives_us, cases[i].wanted * 1000000);
        rp_entry_unref(entry);
        release(&p);
    }
}

static void
test_a_right_neighbor_leaves_the_new_entry_to_its_own_repeat(void **state)
{
    fixture *f = *state;
    prepared p;
    rp_entry_id id;
    prepare(f, ask_chat("alice", "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"hi there\"}]}"), &p);
    rp_query_prepare(f->cache, &p.query);
    p.query.result.decision = (rp_decision){ .reason = "explore", .keep = RP_KEEP_IF_NEIGHBOR_WRONG };
    p.query.neighbor_label = 1;
    admit(f, &p, &id);
    const rp_entry *entry = rp_store_get(f->cache->store, p.query.scope, id, RP_PART_VECTORS);
    assert_true(entry->flags & RP_ENTRY_EXACT_ONLY);
    assert_int_equal(entry->window_count, 0);
    rp_entry_unref(entry);
    assert_int_equal(rp_index_count(f->cache->space->index), 0);
    p.query.neighbor_label = 0; /* it was wrong: the new one is wanted */
    admit(f, &p, &id);
    assert_int_equal(rp_index_count(f->cache->space->index), 1);
    release(&p);
}

/* ---- restart and encoders ------------------------------------------------------------------------------ */

static void
test_a_restart_finds_everything_again(void **state)
{
    fixture *f = *state;
    put(f, question, "click reset");
    put(f, "what is the capital city of france", "Paris");
    reopen_cache(f);
    rp_cache_stats stats;
    rp_cache_stats_get(f->cache, &stats);
    assert_int_equal(stats.vectors, 2);
    assert_true(stats.ready);
    expect(f, ask("alice", question), "exact", "click reset");
    expect(f, ask("alice", paraphrase), "semantic", "click reset");
    f->options.load_in_background = true;
    reopen_cache(f);
    for (int i = 0; i < 6000 && !rp_cache_ready(f->cache); i++)
        usleep(10000);
    assert_true(rp_cache_ready(f->cache));
    expect(f, ask("alice", paraphrase), "semantic", "click reset");
}

/* More entries than a scope has without inverted lists, put past the stages. */
static void
put_many(fixture *f, size_t count)
{
    float storage[(RP_WINDOWS_MAX + 1) * FAKE_DIM];
    rp_store *store = rp_cache_store_of(f->cache);
    for (size_t i = 0; i < count; i++) {
        char prompt[64];
        snprintf(prompt, sizeof prompt, "part%zu of machine%zu", i, i % 50);
        rp_embedding made;
        assert_int_equal(fake_embed(NULL, rp_str_of(prompt), storage, &made, NULL), RP_OK);
        const uint64_t number = i + 1;
        rp_entry draft = {
            .scope = { { 7 } }, .created = 1, .expires = INT64_MAX, .tenant = RP_STR("alice"),
            .route = RP_STR("*"), .prompt = rp_str_of(prompt), .scope_fields = RP_STR("{}"),
            .reply = RP_STR("yes"), .dim = FAKE_DIM, .window_count = 1,
            .mean = made.mean, .windows = made.windows,
        };
        memcpy(draft.key.bytes, &number, sizeof number);
        rp_entry_id id;
        rp_status status;
        while ((status = rp_store_put(store, &draft, &id, NULL, NULL)) == RP_ERR_BUSY)
            assert_int_equal(rp_store_sync(store), RP_OK);
        assert_int_equal(status, RP_OK);
    }
    assert_int_equal(rp_store_sync(store), RP_OK);
}

static void
test_lists_of_what_was_loaded_are_made_in_the_background(void **state)
{
    enum { MANY = 2300 };
    fixture *f = *state;
    rp_cache_stats stats;
    put_many(f, MANY);
    f->options.lists_from = 2048;
    for (int background = 0; background < 2; background++) {
        f->options.load_in_background = background;
        reopen_cache(f);
        for (int i = 0; i < 12000; i++) { /* two minutes at most */
            rp_cache_stats_get(f->cache, &stats);
            if (stats.ready && stats.lists_ready && stats.index_lists)
                break;
            usleep(10000);
        }
        assert_true(stats.ready && stats.lists_ready);
        assert_true(stats.index_lists > 1);
        assert_int_equal(stats.vectors, MANY);
        rp_space *space = rp_space_get(f->cache);
        float storage[(RP_WINDOWS_MAX + 1) * FAKE_DIM];
        rp_embedding made;
        rp_neighbor near;
        assert_int_equal(fake_embed(NULL, RP_STR("part77 of machine27"), storage, &made, NULL), RP_OK);
        assert_int_equal(rp_index_search(space->index, (rp_scope){ { 7 } }, made.mean, 1, &near), 1);
        assert_true(near.similarity > 0.9999f);
        rp_space_unref(space);
    }
    /* Nobody would make them later: they are there when open returns. */
    f->options.load_in_background = false;
    f->options.read_only = true;
    reopen_cache(f);
    rp_cache_stats_get(f->cache, &stats);
    assert_true(stats.ready && stats.lists_ready && stats.index_lists > 1);
}

static double
exact_cosine(const char *a, const char *b)
{
    float storage[2][(RP_WINDOWS_MAX + 1) * FAKE_DIM];
    rp_embedding made[2];
    double sum = 0;
    assert_int_equal(fake_embed(NULL, rp_str_of(a), storage[0], &made[0], NULL), RP_OK);
    assert_int_equal(fake_embed(NULL, rp_str_of(b), storage[1], &made[1], NULL), RP_OK);
    for (size_t i = 0; i < FAKE_DIM; i++)
        sum += (double)made[0].mean[i] * made[1].mean[i];
    return sum;
}

/* The index knows similarities within 1e-3 then; what is decided by, and shown, is exact. */
static void
test_vectors_on_disk_decide_as_those_in_memory(void **state)
{
    fixture *f = *state;
    rp_cache_stats stats[2];
    f->options.entries_max = 1000; /* else there is room for more where each takes less */
    for (int on_disk = 0; on_disk < 2; on_disk++) {
        f->options.vectors_on_disk = on_disk;
        reopen_cache(f);
        put(f, question, "click reset");
        put(f, "what is the capital city of france", "Paris");
        for (int again = 0; again < 2; again++) { /* hot, and from the disk */
            rp_cache_answer *answer = look_up(f, ask("alice", paraphrase));
            assert_true(answer->hit);
            assert_string_equal(answer->tier, "semantic");
            assert_true(fabs(answer->similarity - exact_cosine(question, paraphrase)) < 1e-6);
            rp_cache_answer_free(answer);
            rp_cache_stats_get(f->cache, &stats[on_disk]);
            reopen_cache(f);
        }
    }
    assert_true(stats[1].index_bytes < stats[0].index_bytes);
}

static void
test_another_encoder_means_exact_only_until_reembedded(void **state)
{
    fixture *f = *state;
    put(f, question, "click reset");
    f->embedder = fake_embedder(FAKE_FINGERPRINT_OTHER);
    f->warnings = 0;
    reopen_cache(f);
    assert_int_equal(f->warnings, 1);
    assert_non_null(strstr(f->warning, "exact tier only"));
    assert_false(rp_cache_semantic(f->cache));
    assert_true(rp_cache_ready(f->cache));
    expect(f, ask("alice", question), "exact", "click reset");
    expect_miss(f, ask("alice", paraphrase), "exact-only");
    put(f, "what is the capital city of france", "Paris"); /* kept, without a vector yet */
    rp_error error = { { 0 } };
    assert_int_equal(rp_cache_reembed(f->cache, NULL, NULL, &error), RP_OK);
    expect(f, ask("alice", paraphrase), "semantic", "click reset");
    expect(f, ask("alice", "what is the capital city of france please"), "semantic", "Paris");
    f->warnings = 0;
    reopen_cache(f);
    assert_int_equal(f->warnings, 0);
    expect(f, ask("alice", paraphrase), "semantic", "click reset");
}

static void
test_a_degenerate_encoder_means_exact_only(void **state)
{
    fixture *f = *state;
    put(f, question, "click reset");
    f->embedder.self_test = fake_fail_self_test;
    reopen_cache(f);
    assert_int_equal(f->warnings, 1);
    assert_non_null(strstr(f->warning, "all vectors are equal"));
    expect(f, ask("alice", question), "exact", "click reset");
    expect_miss(f, ask("alice", paraphrase), "exact-only");
}

/* ---- forgetting -------------------------------------------------------------------------------------------- */

static void
test_what_is_invalidated_is_gone_from_both_tiers(void **state)
{
    fixture *f = *state;
    const rp_str tags[] = { RP_STR("doc:42"), RP_STR("doc:7") };
    const rp_cache_store_options tagged = { .tags = tags, .tag_count = 2 };
    const rp_cache_request request = ask("alice", question);
    assert_int_equal(rp_cache_store(f->cache, &request, RP_STR("click reset"), &tagged, NULL, NULL),
                     RP_OK);
    put(f, "what is the capital city of france", "Paris");
    size_t matched, removed;
    const rp_cache_selector selector = { .tenant = RP_STR("alice"), .tag = RP_STR("doc:42") };
    assert_int_equal(rp_cache_invalidate(f->cache, &selector, false, &matched, &removed, NULL), RP_OK);
    assert_int_equal(matched, 1);
    assert_int_equal(removed, 0);
    expect(f, ask("alice", question), "exact", "click reset");
    assert_int_equal(rp_cache_invalidate(f->cache, &selector, true, &matched, &removed, NULL), RP_OK);
    assert_int_equal(removed, 1);
    expect_miss(f, ask("alice", question), NULL);
    expect_miss(f, ask("alice", paraphrase), NULL);
    expect(f, ask("alice", "what is the capital city of france"), "exact", "Paris");
    assert_int_equal(rp_index_count(f->cache->space->index), 1);
    const rp_cache_selector nothing = { .tenant = RP_STR("alice") };
    assert_int_equal(rp_cache_invalidate(f->cache, &nothing, true, &matched, &removed, NULL),
                     RP_ERR_INVALID);
}

static void
test_a_flush_of_one_tenant_leaves_the_others(void **state)
{
    fixture *f = *state;
    put(f, question, "click reset");
    put_request(f, ask("bob", question), "bob's", NULL);
    size_t removed;
    assert_int_equal(rp_cache_flush(f->cache, RP_STR("alice"), &removed, NULL), RP_OK);
    assert_int_equal(removed, 1);
    expect_miss(f, ask("alice", question), NULL);
    expect(f, ask("bob", question), "exact", "bob's");
    put(f, question, "again");
    expect(f, ask("alice", question), "exact", "again");
    assert_int_equal(rp_cache_flush(f->cache, RP_STR(""), &removed, NULL), RP_OK);
    assert_int_equal(removed, 2);
    expect_miss(f, ask("alice", question), NULL);
    expect_miss(f, ask("bob", question), NULL);
    reopen_cache(f); /* epochs last */
    expect_miss(f, ask("alice", question), NULL);
}

/* ---- learning ---------------------------------------------------------------------------------------------- */

static bool
count_outcomes(void *context, uint64_t sequence, rp_str bytes)
{
    (void)sequence;
    rp_outcome outcome;
    rp_str policy;
    assert_int_equal(rp_outcome_decode(bytes, &outcome, &policy), RP_OK);
    assert_str_equal(policy, RP_STR("static"));
    assert_true(outcome.candidate.similarity > 0.5f);
    ++*(size_t *)context;
    return true;
}

static void
test_feedback_is_written_down_and_a_wrong_answer_goes(void **state)
{
    fixture *f = *state;
    char entry[33];
    put_request(f, ask("alice", question), "click reset", entry);
    expect(f, ask("alice", paraphrase), "semantic", "click reset");
    assert_int_equal(rp_cache_feedback(f->cache, RP_STR("bob"), rp_str_of(entry), false, NULL),
                     RP_ERR_NOT_FOUND);
    expect(f, ask("alice", question), "exact", "click reset");
    expect(f, ask("alice", paraphrase), "semantic", "click reset");
    assert_int_equal(rp_cache_feedback(f->cache, RP_STR("alice"), rp_str_of(entry), false, NULL),
                     RP_OK);
    expect_miss(f, ask("alice", question), NULL);
    expect_miss(f, ask("alice", paraphrase), NULL);
    size_t outcomes = 0;
    rp_store_walk_outcomes(f->cache->store, 0, count_outcomes, &outcomes);
    assert_int_equal(outcomes, 1);
    rp_cache_stats stats;
    rp_cache_stats_get(f->cache, &stats);
    assert_int_equal(stats.outcomes_wrong, 1);
    assert_int_equal(rp_cache_feedback(f->cache, RP_STR("alice"), RP_STR("nonsense"), true, NULL),
                     RP_ERR_NOT_FOUND);
}

/* Who says it twice has said it once; the next look-up can be judged again. */
static void
test_a_look_up_is_judged_once(void **state)
{
    fixture *f = *state;
    char entry[33];
    rp_cache_stats stats;
    put_request(f, ask("alice", question), "click reset", entry);
    for (uint64_t look_ups = 1; look_ups <= 2; look_ups++) {
        expect(f, ask("alice", paraphrase), "semantic", "click reset");
        for (int i = 0; i < 3; i++)
            assert_int_equal(rp_cache_feedback(f->cache, RP_STR("alice"), rp_str_of(entry), true, NULL),
                             RP_OK);
        rp_cache_stats_get(f->cache, &stats);
        assert_int_equal(stats.outcomes_right, look_ups);
    }
}

static void
test_a_miss_teaches_what_its_reply_shows(void **state)
{
    fixture *f = *state;
    put(f, "red green blue one two three", "Yes.");
    put(f, "long one two five six seven eight",
        "It depends on the weather, and on the people who come along with you.");
    const struct { const char *prompt, *reply; bool learns; int label; } cases[] = {
        { "red green blue one two four nine", " yes. ", true, 1 },
        { "red green blue one two four ten", "No.", true, 0 },
        { "long one two five six seven nine ten", "Whatever the sky brings; and it is a matter of taste too.", false, -1 },
        /* Agreement alone would be a biased teacher. */
        { "long one two five six seven nine two", "It depends on the weather, and on the people who come along with you.", false, 1 },
    };
    for (size_t i = 0; i < RP_COUNT(cases); i++) {
        rp_arena arena;
        rp_query query;
        rp_arena_init(&arena, 0);
        rp_cache_request request = ask("alice", cases[i].prompt);
        request.min_similarity = 0.99f;
        assert_int_equal(rp_query_from_request(f->cache, &request, &arena, &query, NULL), RP_OK);
        rp_lookup_all(f->cache, &query);
        assert_int_equal(query.result.outcome, RP_LOOKUP_MISS);
        assert_int_equal(rp_learn_from_miss(f->cache, &query, rp_str_of(cases[i].reply)),
                         cases[i].learns);
        assert_int_equal(query.neighbor_label, cases[i].label);
        rp_query_fini(&query);
        rp_arena_fini(&arena);
    }
}

static void
test_an_outcome_survives_its_bytes_and_damage_is_seen(void **state)
{
    (void)state;
    const rp_outcome outcome = { .stratum = 0x1122334455667788u, .category = RP_STR("faq"),
                                 .time = -5, .similarity_second = 0.5f, .right = true,
                                 .source = RP_OUTCOME_AUDIT, .probability = 0.125,
                                 .agreement = 0.75f, .entry = 78,
                                 .candidate = { .id = 77, .similarity = 0.9f, .alignment = NAN,
                                                .gates_fired = 5, .gates_noted = 2,
                                                .verifier = 0.25f, .judge = RP_JUDGE_UNSURE } };
    rp_buffer bytes;
    rp_buffer_init(&bytes, 0);
    rp_outcome_encode(&outcome, RP_STR("verified"), &bytes);
    rp_outcome read;
    rp_str policy;
    assert_int_equal(rp_outcome_decode(rp_buffer_str(&bytes), &read, &policy), RP_OK);
    assert_str_equal(policy, RP_STR("verified"));
    assert_str_equal(read.category, RP_STR("faq"));
    assert_true(read.stratum == outcome.stratum && read.time == -5 && read.right && !read.served);
    assert_true(read.candidate.similarity == 0.9f && isnan(read.candidate.alignment));
    assert_int_equal(read.candidate.judge, RP_JUDGE_UNSURE);
    assert_true(read.probability == 0.125 && read.candidate.id == 77);
    assert_int_equal(read.candidate.gates_fired, 5);
    assert_true(read.agreement == 0.75f && read.entry == 78);
    for (size_t cut = 0; cut < bytes.len; cut++) {
        const rp_str guarded = { rp_test_guarded(bytes.ptr, cut), cut };
        assert_int_equal(rp_outcome_decode(guarded, &read, &policy), RP_ERR_TRUNCATED);
    }
    bytes.ptr[1] = 9;
    assert_int_equal(rp_outcome_decode(rp_buffer_str(&bytes), &read, &policy), RP_ERR_CORRUPT);
    bytes.ptr[1] = RP_OUTCOME_AUDIT;
    /* Version 1, as earlier programs wrote it: without agreement and entry. */
    memmove(bytes.ptr + 60, bytes.ptr + 72, bytes.len - 72);
    bytes.ptr[0] = 1;
    const rp_str first = { bytes.ptr, bytes.len - 12 };
    assert_int_equal(rp_outcome_decode(first, &read, &policy), RP_OK);
    assert_str_equal(read.category, RP_STR("faq"));
    assert_true(read.agreement == 0 && read.entry == 0 && read.candidate.id == 77);
    bytes.ptr[0] = 9;
    assert_int_equal(rp_outcome_decode(rp_buffer_str(&bytes), &read, &policy), RP_ERR_STALE);
    rp_buffer_fini(&bytes);
}

static void
test_what_a_policy_learned_outlives_the_process(void **state)
{
    fixture *f = *state;
    char entry[33];
    put_request(f, ask("alice", question), "click reset", entry);
    expect(f, ask("alice", paraphrase), "semantic", "click reset");
    assert_int_equal(rp_cache_feedback(f->cache, RP_STR("alice"), rp_str_of(entry), true, NULL),
                     RP_OK);
    expect(f, ask("alice", question), "exact", "click reset"); /* it was right: it stays */
    rp_buffer saved;
    rp_buffer_init(&saved, 0);
    assert_false(rp_store_state_get(f->cache->store, RP_STR("policy/default"), &saved));
    reopen_cache(f);
    assert_true(rp_store_state_get(f->cache->store, RP_STR("policy/default"), &saved));
    assert_true(saved.len > 0);
    assert_int_equal(f->warnings, 0);
    f->options.policy = "dual"; /* another policy cannot use it, and says so */
    reopen_cache(f);
    assert_int_equal(f->warnings, 1);
    assert_non_null(strstr(f->warning, "default"));
    rp_buffer_fini(&saved);
}

/* Bytes of the default policy's state: they grow with what it knows of single entries. */
static size_t
state_size(fixture *f)
{
    char *bytes;
    size_t len;
    assert_int_equal(rp_decider_save(f->cache->decider, &bytes, &len), RP_OK);
    free(bytes);
    return len;
}

static void
test_similarities_of_another_encoder_are_forgotten(void **state)
{
    static const char *const policies[] = { "verified", "verified-plus" };
    fixture *f = *state;
    for (size_t i = 0; i < RP_COUNT(policies); i++) {
        f->embedder = fake_embedder(FAKE_FINGERPRINT);
        f->options.policy = policies[i];
        reopen_cache(f);
        assert_int_equal(rp_cache_reembed(f->cache, NULL, NULL, NULL), RP_OK);
        const size_t nothing_size = state_size(f);
        char entry[33];
        put_request(f, ask("alice", question), "click reset", entry);
        const rp_outcome outcome = { .source = RP_OUTCOME_FEEDBACK, .right = true, .probability = 1,
                                     .candidate = { .id = 7, .similarity = 0.9f } };
        rp_decider_observe(f->cache->decider, &outcome);
        atomic_store(&f->cache->learned, true);
        const size_t known_size = state_size(f);
        assert_true(known_size > nothing_size);
        /* The same encoder, after a restart and after vectors were made again: it is all there. */
        reopen_cache(f);
        assert_int_equal(state_size(f), known_size);
        assert_int_equal(rp_cache_reembed(f->cache, NULL, NULL, NULL), RP_OK);
        assert_int_equal(state_size(f), known_size);
        /* A start with another encoder, whose cache is not even semantic: whoever reembeds with
         * another policy than the server's does not load the server's state. */
        f->embedder = fake_embedder(FAKE_FINGERPRINT_OTHER);
        reopen_cache(f);
        assert_true(state_size(f) < known_size);
        f->embedder = fake_embedder(FAKE_FINGERPRINT);
        reopen_cache(f);
        assert_int_equal(state_size(f), known_size); /* nothing was learned or saved meanwhile */
        /* The encoder changes in this process. */
        rp_embedder other = fake_embedder(FAKE_FINGERPRINT_OTHER);
        assert_int_equal(rp_cache_exchange(f->cache, &other, NULL, NULL), RP_OK);
        assert_true(state_size(f) < known_size);
        f->embedder = other;
        reopen_cache(f);
        assert_true(state_size(f) < known_size);
    }
}

/* A miss that goes upstream, as the server does it: look up, learn, admit. */
static const char *
fetch_checked(fixture *f, const char *prompt, const char *reply, rp_collision_check check)
{
    rp_arena arena;
    rp_query query;
    rp_buffer encoded;
    rp_json_reader *reader;
    rp_admission admission = { 0 };
    rp_arena_init(&arena, 0);
    rp_buffer_init(&encoded, 0);
    const rp_cache_request request = ask("alice", prompt);
    assert_int_equal(rp_query_from_request(f->cache, &request, &arena, &query, NULL), RP_OK);
    query.rules.collision_check = check;
    rp_lookup_all(f->cache, &query);
    const char *outcome = rp_lookup_outcome_name(query.result.outcome);
    if (query.result.outcome == RP_LOOKUP_MISS) {
        rp_buffer body;
        rp_buffer_init(&body, 0);
        rp_json_write_string(rp_str_of(reply), &body);
        assert_int_equal(rp_json_reader_new(&reader), RP_OK);
        admission.verdict = rp_reply_from_body(RP_WIRE_PROMPT, rp_buffer_str(&body), reader,
                                               &encoded, &admission.usage);
        admission.encoded = rp_buffer_str(&encoded);
        rp_json_reader_free(reader);
        rp_buffer_fini(&body);
        rp_learn_from_miss(f->cache, &query, rp_str_of(reply));
        rp_entry_id id;
        assert_int_equal(rp_admit_and_wait(f->cache, &query, &admission, &id, NULL), RP_OK);
    }
    rp_query_fini(&query);
    rp_buffer_fini(&encoded);
    rp_arena_fini(&arena);
    return outcome;
}

static const char *
fetch(fixture *f, const char *prompt, const char *reply)
{
    return fetch_checked(f, prompt, reply, RP_COLLISION_CHECK_HITS);
}

/* ---- key collisions ----------------------------------------------------------------------- */

static const char victim[] = "which animals live in the deep water of arctic lakes";
static const char attack[] = "sell shares which animals live in the deep water of arctic lakes";

typedef struct counted {
    const char *kind, *reason;
    uint64_t count;
} counted;

static bool
pick_reason(void *context, const char *kind, const char *reason, uint64_t count)
{
    counted *wanted = context;
    if (strcmp(kind, wanted->kind) == 0 && strcmp(reason, wanted->reason) == 0)
        wanted->count = count;
    return true;
}

static uint64_t
count_of(fixture *f, const char *kind, const char *reason)
{
    counted wanted = { kind, reason, 0 };
    rp_cache_reasons(f->cache, pick_reason, &wanted);
    return wanted.count;
}

static size_t
count_vectors(fixture *f)
{
    rp_cache_stats stats;
    rp_cache_stats_get(f->cache, &stats);
    return stats.vectors;
}

static void
test_an_entry_with_an_addition_does_not_answer_what_it_copied(void **state)
{
    fixture *f = *state;
    put(f, attack, "sold");
    expect_miss(f, ask("alice", victim), "gate-collision");
    expect_miss(f, ask("alice", victim), "gate-collision"); /* remembered */
    assert_int_equal(count_of(f, "gate", "collision"), 2);
    expect(f, ask("alice", attack), "exact", "sold"); /* its own repeat is nobody else's */
    /* The other way round it is a question with less in it. */
    put(f, victim, "char");
    expect(f, ask("alice", "which animals live in the deep water of arctic lakes please"),
           "semantic", "char");
    rp_cache_answer *answer = look_up(f, ask("alice", attack));
    assert_string_equal(answer->tier, "exact");
    rp_cache_answer_free(answer);
}

static void
test_without_the_check_the_attack_works(void **state)
{
    fixture *f = *state;
    put(f, attack, "sold");
    assert_string_equal(fetch_checked(f, victim, "char", RP_COLLISION_CHECK_OFF), "hit");
    assert_int_equal(count_of(f, "gate", "collision"), 0);
}

static void
test_explain_shows_a_collision_and_only_where_it_was_asked_about(void **state)
{
    fixture *f = *state;
    char *json;
    size_t len;
    rp_cache_request request = ask("alice", victim);
    put(f, attack, "sold");
    assert_int_equal(rp_cache_explain(f->cache, &request, &json, &len, NULL), RP_OK);
    assert_non_null(strstr(json, "\"reason\":\"gate-collision\""));
    assert_non_null(strstr(json, "{\"gate\":\"collision\",\"verdict\":\"fired\""));
    free(json);
    request.prompt = RP_STR("which animals live in dry deserts");
    assert_int_equal(rp_cache_explain(f->cache, &request, &json, &len, NULL), RP_OK);
    assert_non_null(strstr(json, "\"candidates\":[{"));
    assert_null(strstr(json, "collision\",\"verdict"));
    free(json);
}

static void
test_admission_keeps_a_colliding_entry_for_the_exact_tier_only(void **state)
{
    fixture *f = *state;
    put(f, victim, "char");
    /* Without the check a second entry may answer similar questions. */
    f->options.policy = "static:min_similarity=0.97";
    reopen_cache(f);
    assert_int_equal(count_vectors(f), 1);
    assert_string_equal(fetch_checked(f, "buy bonds which animals live in the deep water of arctic "
                                         "lakes", "bought", RP_COLLISION_CHECK_HITS), "miss");
    assert_int_equal(count_vectors(f), 2);
    assert_string_equal(fetch_checked(f, attack, "sold", RP_COLLISION_CHECK_ADMISSION), "miss");
    assert_int_equal(count_vectors(f), 2);
    assert_int_equal(count_of(f, "gate", "collision-admission"), 1);
    expect(f, ask("alice", attack), "exact", "sold");
    /* A benign neighbor is kept for both. */
    assert_string_equal(fetch_checked(f, "which plants live in the deep water of arctic lakes", "kelp",
                                      RP_COLLISION_CHECK_ADMISSION), "miss");
    assert_int_equal(count_vectors(f), 3);
    assert_int_equal(count_of(f, "gate", "collision-admission"), 1);
}

static void
test_a_policy_that_learns_comes_to_serve_and_remembers(void **state)
{
    fixture *f = *state;
    f->options.policy = "verified:error_max=0.2";
    reopen_cache(f);
    fetch(f, "alpha beta gamma delta epsilon zeta eta theta", "yes");
    /* vCache explores a new entry until it has seen enough right answers; every such miss
     * is kept for its own repeat only, because the neighbor was right. */
    size_t misses = 0, hits = 0;
    for (int turn = 0; turn < 200; turn++) {
        char prompt[128];
        snprintf(prompt, sizeof prompt, "alpha beta gamma delta epsilon zeta eta theta x%c%c",
                 (char)('a' + turn / 26), (char)('a' + turn % 26));
        *(strcmp(fetch(f, prompt, "Yes") , "hit") == 0 ? &hits : &misses) += 1;
    }
    assert_int_equal(rp_index_count(f->cache->space->index), 1);
    assert_true(hits > 0);
    assert_true(misses >= 4); /* six observations, two of them made up, before it may serve */
    /* After a restart it goes on where it was: one more prompt may hit at once, which a
     * policy without memory never does in its first four tries. */
    reopen_cache(f);
    assert_int_equal(f->warnings, 0);
    size_t remembered = 0;
    for (int turn = 0; turn < 4; turn++) {
        char prompt[128];
        snprintf(prompt, sizeof prompt, "alpha beta gamma delta epsilon zeta eta theta y%c",
                 (char)('a' + turn));
        remembered += strcmp(fetch(f, prompt, "Yes"), "hit") == 0;
    }
    print_message("%zu hits, %zu misses, then %zu of 4\n", hits, misses, remembered);
    assert_true(remembered > 0);
    /* A wrong neighbor is worth an entry. */
    fetch(f, "alpha beta gamma delta epsilon zeta eta iota", "no");
}

/* ---- templates ------------------------------------------------------------------------------ */

static const char front[] = "you are a careful assistant of the city library who reads the question of a "
                            "visitor below and answers it in plain words here it is";

/* Ask, and keep the reply of a miss. Returns the outcome; a hit must have the reply. */
static const char *
fetch_wrapped(fixture *f, const char *varying, const char *reply, bool templates)
{
    char prompt[512];
    rp_arena arena;
    rp_query query;
    rp_buffer encoded, body;
    rp_json_reader *reader;
    rp_admission admission = { 0 };
    snprintf(prompt, sizeof prompt, "%s %s", front, varying);
    rp_arena_init(&arena, 0);
    rp_buffer_init(&encoded, 0);
    rp_buffer_init(&body, 0);
    const rp_cache_request request = ask("alice", prompt);
    assert_int_equal(rp_query_from_request(f->cache, &request, &arena, &query, NULL), RP_OK);
    query.rules.templates = templates;
    rp_lookup_all(f->cache, &query);
    const char *outcome = rp_lookup_outcome_name(query.result.outcome);
    if (query.result.outcome == RP_LOOKUP_MISS) {
        rp_json_write_string(rp_str_of(reply), &body);
        assert_int_equal(rp_json_reader_new(&reader), RP_OK);
        admission.verdict = rp_reply_from_body(RP_WIRE_PROMPT, rp_buffer_str(&body), reader,
                                               &encoded, &admission.usage);
        admission.encoded = rp_buffer_str(&encoded);
        rp_json_reader_free(reader);
        rp_entry_id id;
        assert_int_equal(rp_admit_and_wait(f->cache, &query, &admission, &id, NULL), RP_OK);
    } else {
        assert_str_equal(rp_reply_text(query.result.reply), rp_str_of(reply));
    }
    rp_query_fini(&query);
    rp_buffer_fini(&encoded);
    rp_buffer_fini(&body);
    rp_arena_fini(&arena);
    return outcome;
}

static const char *const subjects[] = {
    "opening hours on sunday", "lending of films", "lost library card", "fees for late books",
    "rooms for groups", "printing in colour", "parking behind the house", "books in braille",
    "newspapers from abroad", "courses for children", "wheelchair access",
};

/* More prompts than it takes to settle. What is answered meanwhile does not matter: it is what
 * templates are there to end, so all get the same. */
static void
teach_template(fixture *f, const char *suffix)
{
    for (size_t i = 0; i < RP_COUNT(subjects); i++) {
        char varying[128];
        snprintf(varying, sizeof varying, "%s%s", subjects[i], suffix);
        fetch_wrapped(f, varying, "taught", true);
    }
}

static void
test_without_templates_an_instruction_drowns_what_varies(void **state)
{
    fixture *f = *state;
    assert_string_equal(fetch_wrapped(f, "opening hours on sunday", "ten to four", false), "miss");
    assert_string_equal(fetch_wrapped(f, "lending of films", "ten to four", false), "hit"); /* wrong */
}

static void
test_with_templates_only_what_varies_is_compared(void **state)
{
    fixture *f = *state;
    f->options.policy = "static:min_similarity=0.7";
    reopen_cache(f);
    teach_template(f, "");
    assert_string_equal(fetch_wrapped(f, "museum of modern glass", "left of it", true), "miss");
    assert_string_equal(fetch_wrapped(f, "modern museum of glass please", "left of it", true), "hit");
    assert_string_equal(fetch_wrapped(f, "trains to the airport", "platform 4", true), "miss");
    /* Whole prompts and cut ones do not meet: this one resembles the first that were taught. */
    assert_string_equal(fetch_wrapped(f, "museum of modern glass please", "taught", false), "hit");
}

/* Among whole prompts all words seem to align, and gates fire on loose paraphrases. */
static void
test_gates_see_only_what_varies(void **state)
{
    fixture *f = *state;
    f->options.policy = "static:min_similarity=0.6";
    reopen_cache(f);
    teach_template(f, "");
    assert_string_equal(fetch_wrapped(f, "the museum of modern glass in Turin", "left of it", true),
                        "miss");
    assert_string_equal(fetch_wrapped(f, "Torino the modern glass museum", "left of it", true),
                        "hit");
    assert_string_equal(fetch_wrapped(f, "renewal of book 4711 from the shop", "done", true), "miss");
    assert_string_equal(fetch_wrapped(f, "renewal of book 4712 from the shop", "done too", true),
                        "miss");
    assert_string_equal(fetch_wrapped(f, "the lift is working these days", "yes", true), "miss");
    assert_string_equal(fetch_wrapped(f, "the lift is not working these days", "no", true), "miss");
}

static void
test_a_template_is_learned_again_after_a_restart_and_finds_its_entries(void **state)
{
    fixture *f = *state;
    f->options.policy = "static:min_similarity=0.7";
    reopen_cache(f);
    teach_template(f, "");
    assert_string_equal(fetch_wrapped(f, "museum of modern glass", "left of it", true), "miss");
    reopen_cache(f);
    /* Not yet: what is near among whole prompts is none of the cut ones. */
    teach_template(f, " then");
    assert_string_equal(fetch_wrapped(f, "modern museum of glass please", "left of it", true), "hit");
    /* Exact repeats never needed it. */
    assert_string_equal(fetch_wrapped(f, "museum of modern glass", "left of it", true), "hit");
}

static void
test_a_cut_scope_is_one_of_its_own(void **state)
{
    (void)state;
    const rp_scope scope = { { 7, 8, 9 } };
    const rp_scope other = rp_vector_scope(scope, 0x01020304);
    assert_memory_equal(scope.bytes, rp_vector_scope(scope, 0).bytes, 32);
    assert_memory_not_equal(scope.bytes, other.bytes, 32);
    assert_memory_not_equal(other.bytes, rp_vector_scope(scope, 0x01020305).bytes, 32);
}

/* ---- explain ------------------------------------------------------------------------------------------------ */

static void
test_explain_shows_what_was_decided(void **state)
{
    fixture *f = *state;
    put(f, "how do I enable the alarm in the living room of the house", "press on");
    rp_cache_request request =
        ask("alice", "how do I disable the alarm in the living room of the house");
    char *json;
    size_t len;
    assert_int_equal(rp_cache_explain(f->cache, &request, &json, &len, NULL), RP_OK);
    rp_json_reader *reader;
    rp_arena arena;
    const rp_json *tree;
    rp_arena_init(&arena, 0);
    assert_int_equal(rp_json_reader_new(&reader), RP_OK);
    assert_int_equal(rp_json_parse(reader, &arena, (rp_str){ json, len }, &tree, NULL), RP_OK);
    assert_str_equal(rp_json_string(rp_json_get(tree, "outcome")), RP_STR("miss"));
    const rp_json *candidates = rp_json_get(tree, "candidates");
    assert_int_equal(candidates->count, 1);
    const rp_json *gates = rp_json_get(&candidates->children[0], "gates");
    /* Every gate has its verdict; the one that spoke says what it saw. */
    size_t fired = 0, passed = 0;
    for (uint32_t i = 0; i < gates->count; i++) {
        const rp_str verdict = rp_json_string(rp_json_get(&gates->children[i], "verdict"));
        passed += rp_str_equal(verdict, RP_STR("passed"));
        if (rp_str_equal(verdict, RP_STR("fired"))) {
            fired++;
            assert_true(rp_json_string(rp_json_get(&gates->children[i], "detail")).len > 0);
        }
    }
    assert_true(fired >= 1 && passed >= 5);
    double threshold;
    assert_true(rp_json_to_double(rp_json_get(rp_json_get(tree, "decision"), "threshold"), &threshold));
    assert_true(fabs(threshold - 0.8) < 1e-6);
    const rp_json *caller = rp_json_get(rp_json_get(tree, "fields"), "caller");
    assert_str_equal(rp_json_string(rp_json_get(caller, "tenant")), RP_STR("alice"));
    assert_int_equal(rp_json_string(rp_json_get(tree, "key")).len, 64);
    free(json);

    /* An exact hit is explained together with what the semantic tier would have seen. */
    request.prompt = RP_STR("how do I enable the alarm in the living room of the house");
    assert_int_equal(rp_cache_explain(f->cache, &request, &json, &len, NULL), RP_OK);
    assert_int_equal(rp_json_parse(reader, &arena, (rp_str){ json, len }, &tree, NULL), RP_OK);
    assert_str_equal(rp_json_string(rp_json_get(tree, "tier")), RP_STR("exact"));
    assert_int_equal(rp_json_get(tree, "candidates")->count, 1);
    free(json);
    rp_json_reader_free(reader);
    rp_arena_fini(&arena);
    rp_cache_stats stats; /* explaining is not asking */
    rp_cache_stats_get(f->cache, &stats);
    assert_int_equal(stats.hits_exact + stats.hits_semantic + stats.misses, 0);
}

/* ---- export and import ---------------------------------------------------------------------------------------- */

static bool
keep_bytes(void *context, rp_str bytes)
{
    rp_buffer_append(context, bytes);
    return true;
}

static void
test_an_export_can_be_imported_elsewhere(void **state)
{
    fixture *f = *state;
    put(f, question, "click reset");
    put_request(f, ask_chat("alice", "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":"
                                     "\"what is the capital city of france\"}]}"),
                chat_reply, NULL);
    rp_buffer lines;
    rp_buffer_init(&lines, 0);
    size_t exported;
    const rp_cache_export_options options = { .vectors = true };
    assert_int_equal(rp_cache_export(f->cache, &options, keep_bytes, &lines, &exported, NULL), RP_OK);
    assert_int_equal(exported, 2);

    /* Into an emptied cache, whose epochs are others; first with new vectors, then trusted. */
    for (int trust = 0; trust < 2; trust++) {
        size_t removed;
        assert_int_equal(rp_cache_flush(f->cache, RP_STR(""), &removed, NULL), RP_OK);
        expect_miss(f, ask("alice", question), NULL);
        const rp_cache_import_options how = { .trust_vectors = trust };
        rp_str rest = rp_buffer_str(&lines);
        while (rest.len) {
            rp_error error = { { 0 } };
            const rp_status status =
                rp_cache_import_line(f->cache, rp_str_split(&rest, '\n'), &how, &error);
            if (status != RP_OK)
                print_error("%s\n", error.text);
            assert_int_equal(status, RP_OK);
        }
        expect(f, ask("alice", question), "exact", "click reset");
        expect(f, ask("alice", paraphrase), "semantic", "click reset");
        expect_miss(f, ask("bob", question), NULL);
        expect_chat_hit(f, "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":"
                           "\"what is the capital city of france\"}]}", "exact");
        expect_chat_hit(f, "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":"
                           "\"what is the capital city of france please\"}]}", "semantic");
    }
    rp_buffer_fini(&lines);
}

/* A line whose vector is `length` times the first axis. */
static void
import_with_vector(fixture *f, const char *prompt, const char *fingerprint, double length, bool trust)
{
    rp_buffer line;
    rp_buffer_init(&line, 0);
    rp_buffer_printf(&line, "{\"tenant\":\"alice\",\"prompt\":\"%s\",\"reply\":\"r\",\"fingerprint\":"
                            "\"%s\",\"vector\":[%g", prompt, fingerprint, length);
    for (size_t i = 1; i < FAKE_DIM; i++)
        rp_buffer_append(&line, RP_STR(",0"));
    rp_buffer_append(&line, RP_STR("]}"));
    const rp_cache_import_options options = { .trust_vectors = trust };
    rp_error error = { { 0 } };
    const rp_status status = rp_cache_import_line(f->cache, rp_buffer_str(&line), &options, &error);
    if (status != RP_OK)
        print_error("%s\n", error.text);
    assert_int_equal(status, RP_OK);
    rp_buffer_fini(&line);
}

static void
test_only_sound_vectors_of_our_encoder_are_trusted(void **state)
{
    fixture *f = *state;
    const struct { const char *fingerprint; double length; bool trust, taken; } cases[] = {
        { FAKE_FINGERPRINT, 1, true, true },        { FAKE_FINGERPRINT, 1, false, false },
        { FAKE_FINGERPRINT_OTHER, 1, true, false }, { FAKE_FINGERPRINT, 0.5, true, false },
        { FAKE_FINGERPRINT, 2, true, false },
    };
    for (size_t i = 0; i < RP_COUNT(cases); i++) {
        char prompt[96];
        snprintf(prompt, sizeof prompt, "%c%c%c one two three four five six", (char)('a' + (int)i),
                 (char)('a' + (int)i), (char)('a' + (int)i));
        import_with_vector(f, prompt, cases[i].fingerprint, cases[i].length, cases[i].trust);
        char similar[112];
        snprintf(similar, sizeof similar, "%s please", prompt);
        rp_cache_request request = ask("alice", similar);
        request.min_similarity = 0.9f; /* of its own entry only */
        /* A vector that was taken is a lie about the prompt, so nothing similar is found. */
        if (cases[i].taken)
            expect_miss(f, request, NULL);
        else
            expect(f, request, "semantic", "r");
    }
}

static void
test_an_imported_entry_keeps_its_times(void **state)
{
    fixture *f = *state;
    const rp_cache_request request = ask("alice", question);
    const rp_cache_store_options two_hours = { .ttl_seconds = 7200 };
    assert_int_equal(rp_cache_store(f->cache, &request, RP_STR("click reset"), &two_hours, NULL, NULL),
                     RP_OK);
    rp_buffer lines;
    rp_buffer_init(&lines, 0);
    size_t exported, removed;
    const rp_cache_export_options options = { .selector = { .tenant = RP_STR("alice") } };
    assert_int_equal(rp_cache_export(f->cache, &options, keep_bytes, &lines, &exported, NULL), RP_OK);
    assert_int_equal(rp_cache_flush(f->cache, RP_STR("alice"), &removed, NULL), RP_OK);
    f->clock.now_us += 3600 * (int64_t)1000000;
    assert_int_equal(rp_cache_import_line(f->cache, rp_buffer_str(&lines), NULL, NULL), RP_OK);
    rp_cache_answer *answer = look_up(f, ask("alice", question));
    assert_true(answer->hit);
    assert_int_equal(answer->age_seconds, 3600);
    rp_cache_answer_free(answer);
    f->clock.now_us = T0 + 7200 * (int64_t)1000000;
    expect_miss(f, ask("alice", question), NULL);
    rp_buffer_fini(&lines);
}

static void
test_broken_lines_are_refused_whole(void **state)
{
    fixture *f = *state;
    const char *const lines[] = {
        "", "nonsense", "[]", "{}", "{\"tenant\":\"alice\",\"prompt\":\"x\"}",
        "{\"tenant\":\"alice\",\"prompt\":\"x\",\"reply\":5}",
        "{\"tenant\":7,\"prompt\":\"x\",\"reply\":\"r\"}",
        "{\"tenant\":\"alice\",\"prompt\":\"x\",\"reply\":\"r\",\"tags\":[1]}",
        "{\"tenant\":\"alice\",\"prompt\":\"x\",\"reply\":\"r\",\"expires\":-1}",
        "{\"tenant\":\"alice\",\"prompt\":\"x\",\"reply\":\"r\",\"user_hash\":\"xx\"}",
        "{\"version\":2,\"tenant\":\"alice\",\"prompt\":\"x\",\"reply\":\"r\"}",
        "{\"tenant\":\"alice\",\"prompt\":\"x\",\"reply\":\"r\",\"scope\":{}}",
        "{\"tenant\":\"alice\",\"prompt\":\"x\",\"reply_bytes\":\"00ff\"}",
        "{\"tenant\":\"alice\",\"prompt\":\"x\",\"reply\":\"r\",\"created\":1,\"expires\":2}",
    };
    for (size_t i = 0; i < RP_COUNT(lines); i++) {
        rp_error error = { { 0 } };
        const rp_status status = rp_cache_import_line(f->cache, rp_str_of(lines[i]), NULL, &error);
        if (status == RP_OK)
            print_error("accepted: %s\n", lines[i]);
        assert_int_not_equal(status, RP_OK);
        assert_true(error.text[0] != 0);
    }
    rp_cache_stats stats;
    rp_cache_stats_get(f->cache, &stats);
    assert_int_equal(stats.entries, 0);
    assert_int_equal(rp_cache_import_line(
                         f->cache, RP_STR("{\"tenant\":\"alice\",\"prompt\":\"x\",\"reply\":\"r\"}"),
                         NULL, NULL), RP_OK);
    expect(f, ask("alice", "x"), "exact", "r");
}

/* ---- controls ---------------------------------------------------------------------------------------------------- */

static void
test_tags_are_checked_sorted_and_joined(void **state)
{
    (void)state;
    rp_arena arena;
    rp_str tags;
    rp_arena_init(&arena, 0);
    assert_int_equal(rp_tags_parse(RP_STR(" b, a ,,b"), &arena, &tags), RP_OK);
    assert_str_equal(tags, RP_STR("a\nb"));
    assert_int_equal(rp_tags_parse(RP_STR(" , "), &arena, &tags), RP_OK);
    assert_int_equal(tags.len, 0);
    assert_int_equal(rp_tags_parse(RP_STR("a\nb"), &arena, &tags), RP_ERR_INVALID);
    assert_int_equal(rp_tags_parse(RP_STR("\xff"), &arena, &tags), RP_ERR_INVALID);
    assert_int_equal(rp_tags_parse(RP_STR("1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17"), &arena,
                                   &tags), RP_ERR_LIMIT);
    rp_arena_fini(&arena);
}

int
main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        T(test_the_same_prompt_hits_exactly_and_a_similar_one_semantically),
        T(test_tenants_and_namespaces_never_meet),
        T(test_chat_requests_meet_only_in_the_same_world),
        T(test_tool_calls_are_replayed_to_equal_requests_only),
        T(test_what_is_stored_while_the_index_is_loaded_has_its_vector),
        T(test_a_gate_vetoes_what_similarity_allows),
        T(test_the_caller_can_only_be_stricter),
        T(test_entries_expire_and_callers_may_want_younger_ones),
        T(test_personal_prompts_stay_with_their_user),
        T(test_temporal_prompts_hit_for_ten_minutes),
        T(test_long_texts_match_only_window_by_window),
        T(test_the_worst_pair_of_windows_decides),
        cmocka_unit_test(test_each_rule_of_replay_is_kept_by_itself),
        T(test_text_the_encoder_cannot_read_does_not_match),
        T(test_shadow_reports_and_never_answers),
        T(test_a_broken_encoder_is_a_counted_miss),
        T(test_wrong_requests_are_refused_with_a_sentence),
        T(test_a_read_only_cache_answers_and_takes_nothing),
        T(test_what_cannot_be_opened_says_why),
        T(test_a_judge_in_the_path_reads_both_prompts_and_the_answer),
        T(test_replies_that_are_not_whole_are_not_kept),
        T(test_each_rule_of_admission_has_a_name),
        T(test_size_shadow_and_user_have_rules_too),
        T(test_isolated_users_of_one_tenant_do_not_meet),
        T(test_an_epoch_separates_without_removing),
        T(test_lifetimes_are_clamped),
        T(test_a_right_neighbor_leaves_the_new_entry_to_its_own_repeat),
        T(test_a_restart_finds_everything_again),
        T(test_lists_of_what_was_loaded_are_made_in_the_background),
        T(test_vectors_on_disk_decide_as_those_in_memory),
        T(test_another_encoder_means_exact_only_until_reembedded),
        T(test_a_degenerate_encoder_means_exact_only),
        T(test_what_is_invalidated_is_gone_from_both_tiers),
        T(test_a_flush_of_one_tenant_leaves_the_others),
        T(test_feedback_is_written_down_and_a_wrong_answer_goes),
        T(test_a_look_up_is_judged_once),
        T(test_a_miss_teaches_what_its_reply_shows),
        cmocka_unit_test(test_an_outcome_survives_its_bytes_and_damage_is_seen),
        T(test_what_a_policy_learned_outlives_the_process),
        T(test_similarities_of_another_encoder_are_forgotten),
        T(test_a_policy_that_learns_comes_to_serve_and_remembers),
        T(test_an_entry_with_an_addition_does_not_answer_what_it_copied),
        T(test_without_the_check_the_attack_works),
        T(test_explain_shows_a_collision_and_only_where_it_was_asked_about),
        T(test_admission_keeps_a_colliding_entry_for_the_exact_tier_only),
        T(test_without_templates_an_instruction_drowns_what_varies),
        T(test_with_templates_only_what_varies_is_compared),
        T(test_gates_see_only_what_varies),
        T(test_a_template_is_learned_again_after_a_restart_and_finds_its_entries),
        T(test_a_cut_scope_is_one_of_its_own),
        T(test_explain_shows_what_was_decided),
        T(test_an_export_can_be_imported_elsewhere),
        T(test_only_sound_vectors_of_our_encoder_are_trusted),
        T(test_an_imported_entry_keeps_its_times),
        T(test_broken_lines_are_refused_whole),
        cmocka_unit_test(test_tags_are_checked_sorted_and_joined),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
