/* test_wire_request.c - what can change an answer separates requests, and nothing else does.
 *
 * What could go wrong: a field is forgotten, so that two different requests share an
 * answer; or one that does not matter is taken in, so that nothing ever hits. For every
 * protocol there is a request with all members that the documentation names; each is
 * changed, and removed, alone. Then the same request in other spellings, the tiers, and
 * what goes upstream. */
#include "base/random.h"
#include "test_support.h"
#include "wire/wire.h"
#include <math.h>

typedef struct fixture {
    rp_json_reader *json_reader;
    rp_arena arena;
} fixture;

static int
set_up(void **state)
{
    fixture *f = calloc(1, sizeof *f);
    assert_non_null(f);
    assert_int_equal(rp_json_reader_new(&f->json_reader), RP_OK);
    rp_arena_init(&f->arena, 0);
    *state = f;
    return 0;
}

static int
tear_down(void **state)
{
    fixture *f = *state;
    rp_json_reader_free(f->json_reader);
    rp_arena_fini(&f->arena);
    free(f);
    return 0;
}

static rp_request
understand(fixture *f, rp_wire wire, rp_str body)
{
    const rp_json *json;
    rp_request request;
    rp_error error = { { 0 } };
    const rp_str copy = rp_arena_copy(&f->arena, body);
    const rp_status parsed = rp_json_parse(f->json_reader, &f->arena, copy, &json, &error);
    if (parsed != RP_OK)
        print_error("%s: %.*s\n", error.text, RP_FMT(body));
    assert_int_equal(parsed, RP_OK);
    assert_int_equal(rp_request_parse(wire, copy, json, &f->arena, &request, &error), RP_OK);
    for (size_t i = 1; i < request.field_count; i++)
        assert_true(rp_str_compare(request.fields[i - 1].name, request.fields[i].name) < 0);
    return request;
}

/* All that separates, as one text. */
static rp_str
identity(fixture *f, const rp_request *request)
{
    rp_buffer out;
    rp_buffer_init(&out, 0);
    for (size_t i = 0; i < request->field_count; i++)
        rp_buffer_printf(&out, "%.*s=%.*s\n", RP_FMT(request->fields[i].name),
                         RP_FMT(request->fields[i].value));
    rp_buffer_printf(&out, "turn=%.*s", RP_FMT(request->last_turn));
    const rp_str copy = rp_arena_copy(&f->arena, rp_buffer_str(&out));
    rp_buffer_fini(&out);
    return copy;
}

static rp_str
identity_of(fixture *f, rp_wire wire, rp_str body)
{
    const rp_request request = understand(f, wire, body);
    return identity(f, &request);
}

typedef struct member {
    const char *name, *value, *other; /* JSON */
    bool silent;                      /* does not separate */
} member;

/* protocol.md 3.2, one list for each protocol that knows the member. */
static const member chat_members[] = {
    { "model", "\"gpt-4o\"", "\"gpt-4o-mini\"", false },
    { "messages", "[{\"role\":\"system\",\"content\":\"s\"},{\"role\":\"user\",\"content\":\"q\"}]",
      "[{\"role\":\"system\",\"content\":\"t\"},{\"role\":\"user\",\"content\":\"q\"}]", false },
    { "tools", "[{\"type\":\"function\",\"function\":{\"name\":\"f\"}}]",
      "[{\"type\":\"function\",\"function\":{\"name\":\"g\"}}]", false },
    { "functions", "[{\"name\":\"f\"}]", "[{\"name\":\"g\"}]", false },
    { "tool_choice", "\"auto\"", "\"none\"", false },
    { "function_call", "\"auto\"", "\"none\"", false },
    { "parallel_tool_calls", "true", "false", false },
    { "response_format", "{\"type\":\"text\"}", "{\"type\":\"json_object\"}", false },
    { "temperature", "0.5", "0.6", false },
    { "top_p", "0.5", "0.6", false },
    { "top_k", "5", "6", false },
    { "max_tokens", "5", "6", false },
    { "max_completion_tokens", "5", "6", false },
    { "stop", "[\"a\"]", "[\"b\"]", false },
    { "seed", "9007199254740993", "9007199254740992", false },
    { "n", "1", "2", false },
    { "logit_bias", "{\"1\":1}", "{\"1\":2}", false },
    { "logprobs", "true", "false", false },
    { "top_logprobs", "1", "2", false },
    { "presence_penalty", "0.1", "0.2", false },
    { "frequency_penalty", "0.1", "0.2", false },
    { "reasoning_effort", "\"low\"", "\"high\"", false },
    { "verbosity", "\"low\"", "\"high\"", false },
    { "modalities", "[\"text\"]", "[\"text\",\"audio\"]", false },
    { "audio", "{\"voice\":\"a\"}", "{\"voice\":\"b\"}", false },
    { "prediction", "{\"type\":\"content\",\"content\":\"a\"}",
      "{\"type\":\"content\",\"content\":\"b\"}", false },
    { "web_search_options", "{}", "{\"search_context_size\":\"low\"}", false },
    { "moderation", "{\"a\":1}", "{\"a\":2}", false },
    { "service_tier", "\"auto\"", "\"flex\"", false },
    { "some_new_field", "1", "2", false },
    { "user", "\"a\"", "\"b\"", true },
    { "metadata", "{\"a\":\"b\"}", "{\"a\":\"c\"}", true },
    { "store", "false", "true", true },
    { "stream", "false", "true", true },
    { "stream_options", "{\"include_usage\":true}", "{\"include_usage\":false}", true },
    { "prompt_cache_key", "\"a\"", "\"b\"", true },
    { "prompt_cache_options", "{\"a\":1}", "{\"a\":2}", true },
    { "prompt_cache_retention", "\"24h\"", "\"in-memory\"", true },
    { "safety_identifier", "\"a\"", "\"b\"", true },
};
static const member completions_members[] = {
    { "model", "\"a\"", "\"b\"", false },       { "prompt", "\"q\"", "\"r\"", false },
    { "suffix", "\"a\"", "\"b\"", false },      { "best_of", "1", "2", false },
    { "echo", "true", "false", false },         { "logprobs", "1", "2", false },
    { "temperature", "0.5", "0.6", false },     { "user", "\"a\"", "\"b\"", true },
    { "stream", "false", "true", true },
};
static const member embeddings_members[] = {
    { "model", "\"a\"", "\"b\"", false },
    { "input", "\"q\"", "[\"q\"]", false },
    { "dimensions", "256", "512", false },
    { "encoding_format", "\"float\"", "\"base64\"", false },
    { "user", "\"a\"", "\"b\"", true },
};
static const member responses_members[] = {
    { "model", "\"a\"", "\"b\"", false },
    { "input", "[{\"role\":\"user\",\"content\":\"q\"}]", "[{\"role\":\"user\",\"content\":\"r\"}]",
      false },
    { "instructions", "\"a\"", "\"b\"", false },
    { "text", "{\"format\":{\"type\":\"text\"}}", "{\"format\":{\"type\":\"json_object\"}}", false },
    { "reasoning", "{\"effort\":\"low\"}", "{\"effort\":\"high\"}", false },
    { "max_output_tokens", "5", "6", false },
    { "previous_response_id", "\"a\"", "\"b\"", false },
    { "truncation", "\"auto\"", "\"disabled\"", false },
    { "include", "[\"a\"]", "[\"b\"]", false },
    { "conversation", "\"a\"", "\"b\"", false },
    { "background", "false", "true", false },
    { "prompt", "{\"id\":\"a\"}", "{\"id\":\"b\"}", false },
    { "store", "false", "true", true },
    { "metadata", "{\"a\":\"b\"}", "{\"a\":\"c\"}", true },
    { "safety_identifier", "\"a\"", "\"b\"", true },
};
static const member messages_members[] = {
    { "model", "\"a\"", "\"b\"", false },
    { "messages", "[{\"role\":\"user\",\"content\":\"q\"}]", "[{\"role\":\"user\",\"content\":\"r\"}]",
      false },
    { "system", "\"a\"", "\"b\"", false },
    { "max_tokens", "5", "6", false },
    { "stop_sequences", "[\"a\"]", "[\"b\"]", false },
    { "thinking", "{\"type\":\"enabled\",\"budget_tokens\":1024}", "{\"type\":\"disabled\"}", false },
    { "output_config", "{\"a\":1}", "{\"a\":2}", false },
    { "top_k", "5", "6", false },
    { "container", "\"a\"", "\"b\"", false },
    { "tools", "[{\"name\":\"f\"}]", "[{\"name\":\"g\"}]", false },
    { "metadata", "{\"user_id\":\"b\"}", "{\"user_id\":\"c\"}", true },
    { "stream", "false", "true", true },
};

static const struct {
    rp_wire wire;
    const member *members;
    size_t count;
} all_members[] = {
    { RP_WIRE_CHAT, chat_members, RP_COUNT(chat_members) },
    { RP_WIRE_COMPLETIONS, completions_members, RP_COUNT(completions_members) },
    { RP_WIRE_EMBEDDINGS, embeddings_members, RP_COUNT(embeddings_members) },
    { RP_WIRE_RESPONSES, responses_members, RP_COUNT(responses_members) },
    { RP_WIRE_MESSAGES, messages_members, RP_COUNT(messages_members) },
};

/* The body with one member changed, or left out. SIZE_MAX: none. */
static rp_str
make_body(fixture *f, const member *members, size_t count, size_t changed, size_t left_out)
{
    rp_buffer out;
    rp_buffer_init(&out, 0);
    rp_buffer_append_char(&out, '{');
    for (size_t i = 0; i < count; i++)
        if (i != left_out)
            rp_buffer_printf(&out, "%s\"%s\":%s", out.len > 1 ? "," : "", members[i].name,
                             i == changed ? members[i].other : members[i].value);
    rp_buffer_append_char(&out, '}');
    const rp_str copy = rp_arena_copy(&f->arena, rp_buffer_str(&out));
    rp_buffer_fini(&out);
    return copy;
}

static void
test_each_field_separates_or_not_as_documented(void **state)
{
    fixture *f = *state;
    for (size_t k = 0; k < RP_COUNT(all_members); k++) {
        const member *members = all_members[k].members;
        const size_t count = all_members[k].count;
        const rp_str base =
            identity_of(f, all_members[k].wire, make_body(f, members, count, SIZE_MAX, SIZE_MAX));
        for (size_t i = 0; i < count; i++) {
            const rp_str changed =
                identity_of(f, all_members[k].wire, make_body(f, members, count, i, SIZE_MAX));
            const rp_str absent =
                identity_of(f, all_members[k].wire, make_body(f, members, count, SIZE_MAX, i));
            if (rp_str_equal(base, changed) != members[i].silent ||
                rp_str_equal(base, absent) != members[i].silent)
                print_error("%s: %s\n", rp_wire_name(all_members[k].wire), members[i].name);
            assert_int_equal(rp_str_equal(base, changed), members[i].silent);
            assert_int_equal(rp_str_equal(base, absent), members[i].silent);
        }
    }
}

/* Every name that may separate, in every protocol: also where the protocol's own documentation
 * does not have it, for services take each other's, and the next version may. */
static const char *const separating[] = {
    "model", "tools", "functions", "tool_choice", "function_call", "parallel_tool_calls", "response_format",
    "text", "temperature", "top_p", "top_k", "max_tokens", "max_completion_tokens", "max_output_tokens", "stop",
    "seed", "n", "logit_bias", "logprobs", "top_logprobs", "presence_penalty", "frequency_penalty", "reasoning",
    "reasoning_effort", "verbosity", "modalities", "audio", "prediction", "web_search_options", "thinking",
    "output_config", "moderation", "service_tier", "system", "instructions", "previous_response_id",
    "conversation", "container", "background", "suffix", "a_field_of_next_year", "Temperature", "user ", "",
};
static const member silent_members[] = {
    { "user", "\"a\"", "\"b\"", true },
    { "metadata", "{\"user_id\":\"a\"}", "{\"user_id\":\"b\"}", true },
    { "store", "false", "true", true },
    { "stream", "false", "true", true },
    { "stream_options", "{\"include_usage\":true}", "{}", true },
    { "prompt_cache_key", "\"a\"", "\"b\"", true },
    { "prompt_cache_options", "{\"a\":1}", "[]", true },
    { "prompt_cache_retention", "\"24h\"", "null", true },
    { "safety_identifier", "\"a\"", "\"b\"", true },
};
static const struct {
    rp_wire wire;
    const char *prompt; /* the member with the last user turn */
} wires[] = {
    { RP_WIRE_CHAT, "\"messages\":[{\"role\":\"user\",\"content\":\"q\"}]" },
    { RP_WIRE_COMPLETIONS, "\"prompt\":\"q\"" },
    { RP_WIRE_EMBEDDINGS, "\"input\":\"q\"" },
    { RP_WIRE_RESPONSES, "\"input\":\"q\"" },
    { RP_WIRE_MESSAGES, "\"messages\":[{\"role\":\"user\",\"content\":\"q\"}]" },
};

/* What a request is with this member beside its prompt; `value` NULL: without. */
static rp_str
identity_with(fixture *f, size_t wire, const char *name, const char *value)
{
    rp_buffer out;
    rp_buffer_init(&out, 0);
    rp_buffer_printf(&out, "{%s", wires[wire].prompt);
    if (value)
        rp_buffer_printf(&out, ",\"%s\":%s", name, value);
    rp_buffer_append_char(&out, '}');
    const rp_str made = identity_of(f, wires[wire].wire, rp_buffer_str(&out));
    rp_buffer_fini(&out);
    return made;
}

static void
test_every_name_separates_in_every_protocol(void **state)
{
    static const char *const values[] = { NULL, "null", "1", "2", "\"a\"", "\"b\"", "[]", "[1]",
                                          "{}", "{\"a\":1}", "{\"a\":2}", "true", "false" };
    fixture *f = *state;
    for (size_t wire = 0; wire < RP_COUNT(wires); wire++)
        for (size_t i = 0; i < RP_COUNT(separating); i++) {
            rp_str made[RP_COUNT(values)];
            for (size_t v = 0; v < RP_COUNT(values); v++) {
                made[v] = identity_with(f, wire, separating[i], values[v]);
                for (size_t other = 0; other < v; other++)
                    if (rp_str_equal(made[v], made[other]))
                        fail_msg("%s: \"%s\" does not tell %s from %s", rp_wire_name(wires[wire].wire),
                                 separating[i], values[v], values[other] ? values[other] : "nothing");
            }
            rp_arena_reset(&f->arena);
        }
}

static void
test_no_other_name_separates_in_any_protocol(void **state)
{
    fixture *f = *state;
    for (size_t wire = 0; wire < RP_COUNT(wires); wire++)
        for (size_t i = 0; i < RP_COUNT(silent_members); i++) {
            const member *m = &silent_members[i];
            const rp_str without = identity_with(f, wire, m->name, NULL);
            assert_str_equal(identity_with(f, wire, m->name, m->value), without);
            assert_str_equal(identity_with(f, wire, m->name, m->other), without);
        }
}

/* ---- one request in other spellings --------------------------------------------------- */

static void
test_spelling_does_not_separate(void **state)
{
    fixture *f = *state;
    static const struct {
        rp_wire wire;
        const char *one, *other;
    } pairs[] = {
        { RP_WIRE_CHAT, "{\"model\":\"m\",\"temperature\":1,\"messages\":[{\"role\":\"user\","
                        "\"content\":\"a\\u00e9/\"}]}",
          " {\n\"messages\" : [ { \"content\":\"a\xC3\xA9\\/\" , \"role\":\"user\" } ],"
          "\"temp\\u0065rature\":1.0e0,\t\"model\":\"\\u006d\"}" },
        /* One text part is the string; hints to the provider's cache are nothing. */
        { RP_WIRE_CHAT, "{\"model\":\"m\",\"messages\":[{\"role\":\"system\",\"content\":\"s\"},"
                        "{\"role\":\"user\",\"content\":\"q\"}]}",
          "{\"model\":\"m\",\"messages\":[{\"role\":\"system\",\"content\":[{\"type\":\"text\","
          "\"text\":\"s\",\"cache_control\":{\"type\":\"ephemeral\"}}]},{\"role\":\"user\","
          "\"cache_control\":{},\"content\":[{\"type\":\"text\",\"text\":\"q\"}]}]}" },
        { RP_WIRE_MESSAGES,
          "{\"model\":\"m\",\"system\":\"s\",\"tools\":[{\"name\":\"f\"}],\"messages\":"
          "[{\"role\":\"user\",\"content\":[{\"type\":\"tool_result\",\"tool_use_id\":\"t\","
          "\"content\":\"r\"},{\"type\":\"text\",\"text\":\"a\"},{\"type\":\"text\",\"text\":"
          "\"b\"}]}]}",
          "{\"model\":\"m\",\"cache_control\":{\"type\":\"ephemeral\"},\"system\":[{\"type\":"
          "\"text\",\"text\":\"s\",\"cache_control\":{}}],\"tools\":[{\"cache_control\":{},"
          "\"name\":\"f\"}],\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":"
          "\"tool_result\",\"cache_control\":{},\"tool_use_id\":\"t\",\"content\":[{\"type\":"
          "\"text\",\"text\":\"r\",\"cache_control\":{}}]},{\"type\":\"text\",\"text\":\"a\"},"
          "{\"type\":\"text\",\"text\":\"b\",\"cache_control\":{}}]}]}" },
        { RP_WIRE_RESPONSES, "{\"model\":\"m\",\"input\":\"q\"}",
          "{\"model\":\"m\",\"input\":[{\"type\":\"message\",\"role\":\"user\",\"content\":"
          "[{\"type\":\"input_text\",\"text\":\"q\"}]}]}" },
        { RP_WIRE_CHAT, "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"q\"}]}",
          "{\"model\":\"m\",\"cache\":{\"no-cache\":true},\"messages\":[{\"role\":\"user\","
          "\"content\":\"q\"}]}" },
    };
    for (size_t i = 0; i < RP_COUNT(pairs); i++)
        assert_str_equal(identity_of(f, pairs[i].wire, rp_str_of(pairs[i].one)),
                         identity_of(f, pairs[i].wire, rp_str_of(pairs[i].other)));
}

static void
test_meaning_does_separate(void **state)
{
    fixture *f = *state;
    static const struct {
        rp_wire wire;
        const char *one, *other;
    } pairs[] = {
#define CHAT(content) "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":" content "}]}"
        /* White space within strings, case, a part's end. */
        { RP_WIRE_CHAT, CHAT("\"a b\""), CHAT("\"a  b\"") },
        { RP_WIRE_CHAT, CHAT("\"a\""), CHAT("\"A\"") },
        { RP_WIRE_CHAT, CHAT("\"a\""), CHAT("\"a\\u0000\"") },
        { RP_WIRE_CHAT, CHAT("\"a\\nb\""),
          CHAT("[{\"type\":\"text\",\"text\":\"a\"},{\"type\":\"text\",\"text\":\"b\"}]") },
        { RP_WIRE_CHAT, CHAT("[{\"type\":\"text\",\"text\":\"a\"}]"),
          CHAT("[{\"type\":\"text\",\"text\":\"a\",\"weight\":2}]") },
        /* Who said it, and how often. */
        { RP_WIRE_CHAT, CHAT("\"a\""),
          "{\"model\":\"m\",\"messages\":[{\"role\":\"system\",\"content\":\"a\"}]}" },
        { RP_WIRE_CHAT, CHAT("\"a\""),
          "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"name\":\"x\",\"content\":\"a\"}]}" },
        { RP_WIRE_CHAT, CHAT("\"a\""),
          "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"a\"},{\"role\":"
          "\"user\",\"content\":\"a\"}]}" },
        { RP_WIRE_CHAT, CHAT("\"a\""),
          "{\"model\":\"m\",\"temperature\":null,\"messages\":[{\"role\":\"user\",\"content\":"
          "\"a\"}]}" },
        /* A hint's name deep in the caller's own data is data. */
        { RP_WIRE_MESSAGES,
          "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"a\"},{\"role\":"
          "\"assistant\",\"content\":[{\"type\":\"tool_use\",\"input\":{\"cache_control\":1}}]}]}",
          "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"a\"},{\"role\":"
          "\"assistant\",\"content\":[{\"type\":\"tool_use\",\"input\":{}}]}]}" },
        /* Where a message ends and the turn begins cannot be moved. */
        { RP_WIRE_CHAT,
          "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"a\"},{\"role\":"
          "\"tool\",\"content\":\"b\"}]}",
          "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":[{\"role\":\"user\","
          "\"content\":\"a\"},{\"role\":\"tool\",\"content\":\"b\"}]}]}" },
    };
    for (size_t i = 0; i < RP_COUNT(pairs); i++) {
        const rp_str one = identity_of(f, pairs[i].wire, rp_str_of(pairs[i].one));
        const rp_str other = identity_of(f, pairs[i].wire, rp_str_of(pairs[i].other));
        if (rp_str_equal(one, other))
            print_error("%s\n%s\n", pairs[i].one, pairs[i].other);
        assert_false(rp_str_equal(one, other));
    }
}

/* ---- tiers -------------------------------------------------------------------------------- */

static void
test_tiers_and_their_reasons(void **state)
{
    fixture *f = *state;
#define Q "\"messages\":[{\"role\":\"user\",\"content\":\"q\"}]"
#define M "{\"model\":\"m\","
    static const struct {
        rp_wire wire;
        const char *body;
        rp_tier tier;
        const char *reason;
    } cases[] = {
        { RP_WIRE_CHAT, M Q "}", RP_TIER_SEMANTIC, NULL },
        { RP_WIRE_CHAT, M "\"n\":1,\"logprobs\":false,\"tools\":[],\"modalities\":[\"text\"]," Q "}",
          RP_TIER_SEMANTIC, NULL },
        { RP_WIRE_CHAT, "{" Q "}", RP_TIER_NONE, "model" },
        { RP_WIRE_CHAT, "{\"model\":7," Q "}", RP_TIER_NONE, "model" },
        { RP_WIRE_CHAT, "{\"model\":\"m\"}", RP_TIER_NONE, "messages" },
        { RP_WIRE_CHAT, M "\"messages\":[]}", RP_TIER_NONE, "messages" },
        { RP_WIRE_CHAT, M "\"messages\":[1]}", RP_TIER_NONE, "messages" },
        { RP_WIRE_CHAT, M "\"messages\":[{\"content\":\"q\"}]}", RP_TIER_NONE, "messages" },
        { RP_WIRE_CHAT, M "\"stream\":\"yes\"," Q "}", RP_TIER_NONE, "stream" },
        { RP_WIRE_CHAT, M "\"tools\":[{\"type\":\"function\"}]," Q "}", RP_TIER_EXACT, "tools" },
        { RP_WIRE_CHAT, M "\"tools\":[{\"type\":\"web_search\"}]," Q "}", RP_TIER_NONE, "hosted-tool" },
        { RP_WIRE_CHAT, M "\"functions\":[{\"name\":\"f\"}]," Q "}", RP_TIER_EXACT, "tools" },
        { RP_WIRE_CHAT, M "\"tool_choice\":\"none\"," Q "}", RP_TIER_EXACT, "tools" },
        { RP_WIRE_CHAT, M "\"n\":2," Q "}", RP_TIER_EXACT, "n" },
        { RP_WIRE_CHAT, M "\"logprobs\":true," Q "}", RP_TIER_EXACT, "logprobs" },
        { RP_WIRE_CHAT, M "\"top_logprobs\":2," Q "}", RP_TIER_EXACT, "logprobs" },
        { RP_WIRE_CHAT, M "\"store\":true," Q "}", RP_TIER_EXACT, "store" },
        { RP_WIRE_CHAT, M "\"modalities\":[\"text\",\"audio\"]," Q "}", RP_TIER_EXACT, "modalities" },
        { RP_WIRE_CHAT, M "\"audio\":{\"voice\":\"a\"}," Q "}", RP_TIER_EXACT, "audio" },
        { RP_WIRE_CHAT, M "\"web_search_options\":{}," Q "}", RP_TIER_NONE, "web-search" },
        { RP_WIRE_CHAT, "{\"model\":\"gpt-4o-search-preview\"," Q "}", RP_TIER_NONE, "web-search" },
        { RP_WIRE_CHAT, CHAT("[{\"type\":\"image_url\",\"image_url\":{\"url\":\"u\"}}]"),
          RP_TIER_EXACT, "image" },
        { RP_WIRE_CHAT, CHAT("[{\"type\":\"text\",\"text\":\"q\"},{\"type\":\"input_audio\"}]"),
          RP_TIER_EXACT, "audio" },
        { RP_WIRE_CHAT, CHAT("[{\"type\":\"file\"}]"), RP_TIER_EXACT, "file" },
        { RP_WIRE_CHAT, CHAT("[{\"type\":\"text\",\"text\":\"a\"},{\"type\":\"text\",\"text\":\"b\"}]"),
          RP_TIER_SEMANTIC, NULL },
        { RP_WIRE_CHAT, CHAT("\" \\n\""), RP_TIER_EXACT, "empty-prompt" },
        { RP_WIRE_CHAT, CHAT("null"), RP_TIER_EXACT, "last-turn" },
        { RP_WIRE_CHAT, M "\"messages\":[{\"role\":\"user\",\"content\":\"q\"},{\"role\":"
                          "\"assistant\",\"content\":\"Sure\"}]}",
          RP_TIER_EXACT, "last-turn" },
        { RP_WIRE_CHAT, M "\"messages\":[{\"role\":\"user\",\"content\":[{\"type\":\"image_url\"}]},"
                          "{\"role\":\"assistant\",\"content\":\"A cat\"},{\"role\":\"user\","
                          "\"content\":\"what colour?\"}]}",
          RP_TIER_EXACT, "image" },
        { RP_WIRE_COMPLETIONS, M "\"prompt\":\"q\"}", RP_TIER_SEMANTIC, NULL },
        { RP_WIRE_COMPLETIONS, M "\"prompt\":[\"q\"]}", RP_TIER_EXACT, "prompt-list" },
        { RP_WIRE_COMPLETIONS, M "\"prompt\":[1,2]}", RP_TIER_EXACT, "prompt-list" },
        { RP_WIRE_COMPLETIONS, M "\"prompt\":\"q\",\"best_of\":3}", RP_TIER_EXACT, "n" },
        { RP_WIRE_COMPLETIONS, M "\"prompt\":\"q\",\"logprobs\":0}", RP_TIER_EXACT, "logprobs" },
        { RP_WIRE_EMBEDDINGS, M "\"input\":\"q\"}", RP_TIER_EXACT, "embeddings" },
        { RP_WIRE_EMBEDDINGS, M "\"x\":1}", RP_TIER_NONE, "input" },
        { RP_WIRE_RESPONSES, M "\"input\":\"q\",\"store\":false}", RP_TIER_SEMANTIC, NULL },
        { RP_WIRE_RESPONSES, M "\"input\":\"q\"}", RP_TIER_EXACT, "store" },
        { RP_WIRE_RESPONSES, M "\"input\":\"q\",\"store\":false,\"previous_response_id\":\"r\"}",
          RP_TIER_EXACT, "previous-response" },
        { RP_WIRE_RESPONSES, M "\"input\":\"q\",\"conversation\":\"c\"}", RP_TIER_NONE, "conversation" },
        { RP_WIRE_RESPONSES, M "\"input\":\"q\",\"background\":true}", RP_TIER_NONE, "background" },
        { RP_WIRE_RESPONSES, M "\"input\":\"q\",\"tools\":[{\"type\":\"code_interpreter\"}]}",
          RP_TIER_NONE, "hosted-tool" },
        { RP_WIRE_RESPONSES, M "\"input\":[{\"type\":\"item_reference\",\"id\":\"x\"}]}",
          RP_TIER_NONE, "item-reference" },
        { RP_WIRE_RESPONSES, M "\"input\":\"q\",\"prompt\":{\"id\":\"x\"}}", RP_TIER_NONE,
          "prompt-template" },
        { RP_WIRE_MESSAGES, M Q "}", RP_TIER_SEMANTIC, NULL },
        { RP_WIRE_MESSAGES, M "\"container\":\"c\"," Q "}", RP_TIER_NONE, "container" },
        { RP_WIRE_MESSAGES, M "\"mcp_servers\":[{}]," Q "}", RP_TIER_NONE, "hosted-tool" },
        { RP_WIRE_MESSAGES, M "\"tools\":[{\"name\":\"f\"}]," Q "}", RP_TIER_EXACT, "tools" },
        { RP_WIRE_MESSAGES, M "\"tools\":[{\"type\":\"web_search_20250305\"}]," Q "}", RP_TIER_NONE,
          "hosted-tool" },
        { RP_WIRE_MESSAGES, M "\"thinking\":{\"type\":\"enabled\"}," Q "}", RP_TIER_EXACT, "thinking" },
        { RP_WIRE_MESSAGES, M "\"thinking\":{\"type\":\"disabled\"}," Q "}", RP_TIER_SEMANTIC, NULL },
        { RP_WIRE_PROMPT, "{\"prompt\":\"q\"}", RP_TIER_SEMANTIC, NULL },
        { RP_WIRE_PROMPT, "{\"prompt\":1}", RP_TIER_NONE, "prompt" },
    };
    for (size_t i = 0; i < RP_COUNT(cases); i++) {
        const rp_request request = understand(f, cases[i].wire, rp_str_of(cases[i].body));
        if (request.tier != cases[i].tier)
            print_error("%s: %d %s\n", cases[i].body, request.tier,
                        request.reason ? request.reason : "-");
        assert_int_equal(request.tier, cases[i].tier);
        if (cases[i].reason)
            assert_string_equal(request.reason, cases[i].reason);
        else
            assert_null(request.reason);
        assert_true((request.prompt.len > 0) == (request.tier == RP_TIER_SEMANTIC));
    }
    const rp_json *json;
    rp_request request;
    assert_int_equal(rp_json_parse(f->json_reader, &f->arena, RP_STR("[]"), &json, NULL), RP_OK);
    assert_int_equal(
        rp_request_parse(RP_WIRE_CHAT, RP_STR("[]"), json, &f->arena, &request, NULL),
        RP_ERR_INVALID);
}

static void
test_the_fuzzy_part_is_the_last_user_text_in_one_form(void **state)
{
    fixture *f = *state;
    static const struct {
        const char *content, *prompt;
    } cases[] = {
        { "\" a\\r\\nb\\rc \\n\"", "a\nb\nc" },
        /* e + combining acute becomes one character; Hangul too. */
        { "\"caf\xC3\xA9\"", "caf\xC3\xA9" },
        { "\"cafe\xCC\x81\"", "caf\xC3\xA9" },
        { "\"\xE1\x84\x92\xE1\x85\xA1\xE1\x86\xAB\"", "\xED\x95\x9C" },
        { "\"\xE2\x84\xAB\"", "\xC3\x85" },
        /* Compatibility characters stay what they are. */
        { "\"\xEF\xAC\x81\"", "\xEF\xAC\x81" },
        { "[{\"type\":\"text\",\"text\":\"a\"},{\"type\":\"text\",\"text\":\"b\"}]", "a\nb" },
    };
    for (size_t i = 0; i < RP_COUNT(cases); i++) {
        char body[400];
        snprintf(body, sizeof body,
                 "{\"model\":\"m\",\"messages\":[{\"role\":\"user\",\"content\":\"old\"},"
                 "{\"role\":\"user\",\"content\":%s}]}",
                 cases[i].content);
        const rp_request request = understand(f, RP_WIRE_CHAT, rp_str_of(body));
        assert_str_equal(request.prompt, ((rp_str){ cases[i].prompt, strlen(cases[i].prompt) }));
    }
    /* What is left out is the turn; the scope keeps the message's shell. */
    const rp_request request = understand(
        f, RP_WIRE_CHAT,
        RP_STR("{\"model\":\"m\",\"messages\":[{\"role\":\"system\",\"content\":\"s\"},"
               "{\"role\":\"user\",\"name\":\"n\",\"content\":\"q\"}]}"));
    assert_int_equal(request.field_count, 2);
    assert_str_equal(request.fields[0].name, RP_STR("messages"));
    assert_str_equal(request.fields[0].value, RP_STR("[{\"content\":\"s\",\"role\":\"system\"},"
                                                     "{\"name\":\"n\",\"role\":\"user\"}]"));
    assert_str_equal(request.last_turn, RP_STR("\"q\""));
    /* Exact only: the turn starts at the last words of the user. */
    const rp_request agent = understand(
        f, RP_WIRE_CHAT,
        RP_STR("{\"model\":\"m\",\"messages\":[{\"role\":\"system\",\"content\":\"s\"},"
               "{\"role\":\"user\",\"content\":\"q\"},{\"role\":\"tool\",\"content\":\"r\"}]}"));
    assert_str_equal(agent.fields[0].value, RP_STR("[{\"content\":\"s\",\"role\":\"system\"}]"));
    assert_str_equal(agent.last_turn,
                     RP_STR("{\"turn\":[{\"content\":\"q\",\"role\":\"user\"},"
                            "{\"content\":\"r\",\"role\":\"tool\"}]}"));
}

static void
test_what_is_read_beside_the_key(void **state)
{
    fixture *f = *state;
    rp_request r = understand(f, RP_WIRE_CHAT, RP_STR(M Q "}"));
    assert_true(isnan(r.temperature) && !r.stream && !r.include_usage && !r.controls.present);
    assert_int_equal(r.user.len + r.metadata.len, 0);
    assert_int_equal(r.controls.ttl_seconds, -1);
    r = understand(f, RP_WIRE_CHAT,
                   RP_STR(M Q ",\"temperature\":1.5,\"stream\":true,\"stream_options\":"
                              "{\"include_usage\":true},\"user\":\"u\",\"metadata\":{\"b\":1,\"a\":2}}"));
    assert_true(r.temperature == 1.5 && r.stream && r.include_usage);
    assert_str_equal(r.user, RP_STR("\"u\""));
    assert_str_equal(r.metadata, RP_STR("{\"a\":2,\"b\":1}"));
    assert_str_equal(r.model, RP_STR("m"));
    assert_true(r.text_tokens_hint > 0);
}

static void
test_cache_controls_are_cut_out_and_nothing_else(void **state)
{
    fixture *f = *state;
    static const struct {
        const char *body, *forward;
    } cases[] = {
        { "{\"cache\":{\"no-cache\":true}}", "{}" },
        { " { \"cache\" : {\"a\":\"}\\\"]\"} , \"model\" : 1.0 } ", " { \"model\" : 1.0 } " },
        { "{\"model\":\"\\u006d\" , \"cache\":{ \"ttl\" : [[]] } }", "{\"model\":\"\\u006d\" }" },
        { "{\"a\":[1,{\"cache\":{}}],\"ca\\u0063he\":{},\"b\" :2}", "{\"a\":[1,{\"cache\":{}}],\"b\" :2}" },
        /* Not the control: it stays, and separates. */
        { "{\"cache\":true}", "{\"cache\":true}" },
        { "{\"model\":\"m\",\t\"messages\":[] }\n", "{\"model\":\"m\",\t\"messages\":[] }\n" },
    };
    for (size_t i = 0; i < RP_COUNT(cases); i++) {
        const rp_request r = understand(f, RP_WIRE_CHAT, rp_str_of(cases[i].body));
        assert_str_equal(r.forward_body, ((rp_str){ cases[i].forward, strlen(cases[i].forward) }));
    }
    const rp_request r = understand(f, RP_WIRE_CHAT,
                                    RP_STR(M "\"cache\":{\"no-cache\":true,\"no-store\":true,\"ttl\":60,"
                                             "\"s-maxage\":5.0,\"namespace\":\"ns\"}," Q "}"));
    assert_true(r.controls.present && r.controls.no_cache && r.controls.no_store);
    assert_int_equal(r.controls.ttl_seconds, 60);
    assert_int_equal(r.controls.max_age_seconds, 5);
    assert_str_equal(r.controls.namespace_name, RP_STR("ns"));
    assert_str_equal(r.forward_body, RP_STR(M Q "}"));
    const rp_request odd = understand(
        f, RP_WIRE_CHAT, RP_STR(M "\"cache\":{\"no-cache\":1,\"ttl\":-5,\"namespace\":7}," Q "}"));
    assert_true(odd.controls.present && !odd.controls.no_cache && odd.controls.ttl_seconds == -1 &&
                odd.controls.namespace_name.len == 0);
}

static void
test_paths_belong_to_protocols(void **state)
{
    (void)state;
    rp_wire wire;
    assert_true(rp_wire_of_path(RP_STR("/v1/chat/completions"), &wire) && wire == RP_WIRE_CHAT);
    assert_true(rp_wire_of_path(RP_STR("/v1/messages"), &wire) && wire == RP_WIRE_MESSAGES);
    assert_false(rp_wire_of_path(RP_STR("/v1/chat/completions/x"), &wire));
    assert_false(rp_wire_of_path(RP_STR(""), &wire));
    assert_false(rp_wire_of_path(RP_STR("/v1/models"), &wire));
    rp_buffer out;
    rp_buffer_init(&out, 0);
    rp_wire_error_body(RP_WIRE_CHAT, 504, "timeout", "x", RP_STR("say \"hi\""), &out);
    assert_str_equal(rp_buffer_str(&out),
                     RP_STR("{\"error\":{\"message\":\"say \\\"hi\\\"\",\"type\":\"timeout\","
                            "\"param\":null,\"code\":\"x\"}}"));
    rp_buffer_clear(&out);
    rp_wire_error_body(RP_WIRE_MESSAGES, 429, "x", NULL, RP_STR("slow"), &out);
    assert_str_equal(rp_buffer_str(&out),
                     RP_STR("{\"type\":\"error\",\"error\":{\"type\":\"rate_limit_error\","
                            "\"message\":\"slow\"}}"));
    rp_buffer_fini(&out);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_field_separates_or_not_as_documented),
        cmocka_unit_test(test_every_name_separates_in_every_protocol),
        cmocka_unit_test(test_no_other_name_separates_in_any_protocol),
        cmocka_unit_test(test_spelling_does_not_separate),
        cmocka_unit_test(test_meaning_does_separate),
        cmocka_unit_test(test_tiers_and_their_reasons),
        cmocka_unit_test(test_the_fuzzy_part_is_the_last_user_text_in_one_form),
        cmocka_unit_test(test_what_is_read_beside_the_key),
        cmocka_unit_test(test_cache_controls_are_cut_out_and_nothing_else),
        cmocka_unit_test(test_paths_belong_to_protocols),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
