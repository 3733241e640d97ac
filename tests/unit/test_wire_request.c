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

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_field_separates_or_not_as_documented),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
