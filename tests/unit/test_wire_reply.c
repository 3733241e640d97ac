/* test_wire_reply.c - a reply that is stored answers as the service would have.
 *
 * What could go wrong: something incomplete, refused or broken is kept; a replay loses or
 * changes a field; a stream breaks the order that clients rely on; damaged bytes of the
 * store lead out of themselves. Tables of replies with their verdict, round trips between
 * body and stream compared member by member, and damage of every byte. */
#include "base/random.h"
#include "net/sse.h"
#include "test_support.h"
#include "wire/wire.h"

typedef struct fixture {
    rp_json_reader *json_reader;
    rp_arena arena;
    rp_buffer encoded, out;
} fixture;

static int
set_up(void **state)
{
    fixture *f = calloc(1, sizeof *f);
    assert_non_null(f);
    assert_int_equal(rp_json_reader_new(&f->json_reader), RP_OK);
    rp_arena_init(&f->arena, 0);
    rp_buffer_init(&f->encoded, 0);
    rp_buffer_init(&f->out, 0);
    *state = f;
    return 0;
}

static int
tear_down(void **state)
{
    fixture *f = *state;
    rp_json_reader_free(f->json_reader);
    rp_arena_fini(&f->arena);
    rp_buffer_fini(&f->encoded);
    rp_buffer_fini(&f->out);
    free(f);
    return 0;
}

/* Feed `bytes` in pieces of `step`. The encoded reply is then in f->encoded. */
static rp_reply_verdict
read_pieces(fixture *f, rp_wire wire, int status, bool is_stream, rp_str bytes, size_t step,
            rp_usage *usage)
{
    rp_reply_reader *reader;
    rp_buffer_clear(&f->encoded);
    assert_int_equal(rp_reply_reader_new(wire, status, is_stream, 1 << 20, &reader), RP_OK);
    for (size_t at = 0; at < bytes.len; at += step)
        rp_reply_reader_feed(reader,
                             (rp_str){ bytes.ptr + at, RP_MIN(step, bytes.len - at) });
    const rp_reply_verdict verdict =
        rp_reply_reader_finish(reader, true, f->json_reader, &f->encoded, usage);
    assert_true(verdict == RP_REPLY_GOOD || f->encoded.len == 0);
    rp_reply_reader_free(reader);
    return verdict;
}

static const rp_reply *
open_reply(fixture *f)
{
    const rp_reply *reply;
    const char *guarded = rp_test_guarded(f->encoded.ptr, f->encoded.len);
    assert_int_equal(rp_reply_open((rp_str){ guarded, f->encoded.len }, &f->arena, &reply), RP_OK);
    return reply;
}

static const rp_json *
parse(fixture *f, rp_str text)
{
    const rp_json *json;
    rp_error error = { { 0 } };
    const rp_status status = rp_json_parse(f->json_reader, &f->arena, text, &json, &error);
    if (status != RP_OK)
        print_error("%s: %.*s\n", error.text, RP_FMT(text));
    assert_int_equal(status, RP_OK);
    return json;
}

static rp_str
replay(fixture *f, const rp_reply *reply, bool stream, bool include_usage)
{
    const rp_replay_options options = {
        .wire = rp_reply_wire(reply),
        .stream = stream,
        .include_usage = include_usage,
        .created = 1700000000,
        .id_random = { 0x1111111111111111, 0x2222222222222222 },
    };
    rp_buffer_clear(&f->out);
    assert_int_equal(rp_reply_replay(reply, &options, &f->out), RP_OK);
    return rp_buffer_str(&f->out);
}

#define CHAT_HEAD "{\"id\":\"chatcmpl-A\",\"object\":\"chat.completion\",\"created\":1,\"model\":\"m\","
#define CHAT_USAGE                                                                                 \
    "\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":7,\"total_tokens\":12,"                  \
    "\"completion_tokens_details\":{\"reasoning_tokens\":0}}"

static const char chat_body[] =
    CHAT_HEAD "\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":"
              "\"He said \\\"hi\\\"\\nto \\u00e9\\ud83d\\ude00 \xE4\xB8\x96\xE7\x95\x8C.\","
              "\"refusal\":null,\"annotations\":[]},\"logprobs\":null,\"finish_reason\":\"stop\"}],"
    CHAT_USAGE ",\"service_tier\":\"default\",\"system_fingerprint\":\"fp_1\"}";

static void
test_only_whole_and_successful_replies_are_kept(void **state)
{
    fixture *f = *state;
#define CHOICE(message, finish)                                                                    \
    "{\"id\":\"x\",\"choices\":[{\"index\":0,\"message\":" message ",\"finish_reason\":" finish "}]}"
    static const struct {
        rp_wire wire;
        int status;
        const char *body;
        rp_reply_verdict verdict;
    } cases[] = {
        { RP_WIRE_CHAT, 200, chat_body, RP_REPLY_GOOD },
        { RP_WIRE_CHAT, 500, chat_body, RP_REPLY_STATUS },
        { RP_WIRE_CHAT, 301, chat_body, RP_REPLY_STATUS },
        { RP_WIRE_CHAT, 200, "", RP_REPLY_INCOMPLETE },
        { RP_WIRE_CHAT, 200, "{\"id\":\"x\",\"choices\":[{\"ind", RP_REPLY_UNREADABLE },
        { RP_WIRE_CHAT, 200, "<html>", RP_REPLY_UNREADABLE },
        { RP_WIRE_CHAT, 200, "[]", RP_REPLY_UNREADABLE },
        { RP_WIRE_CHAT, 200, "{}", RP_REPLY_UNREADABLE },
        { RP_WIRE_CHAT, 200, "{\"choices\":[]}", RP_REPLY_EMPTY },
        { RP_WIRE_CHAT, 200, "{\"error\":{\"message\":\"m\"}}", RP_REPLY_ERROR },
        { RP_WIRE_CHAT, 200, CHOICE("{\"content\":\"a\"}", "\"stop\""), RP_REPLY_GOOD },
        { RP_WIRE_CHAT, 200, CHOICE("{\"content\":\"a\"}", "\"length\""), RP_REPLY_FINISH },
        { RP_WIRE_CHAT, 200, CHOICE("{\"content\":\"a\"}", "\"content_filter\""), RP_REPLY_FINISH },
        { RP_WIRE_CHAT, 200, CHOICE("{\"content\":\"a\"}", "null"), RP_REPLY_FINISH },
        { RP_WIRE_CHAT, 200, CHOICE("{\"content\":\" \\n\"}", "\"stop\""), RP_REPLY_EMPTY },
        { RP_WIRE_CHAT, 200, CHOICE("{\"content\":null}", "\"stop\""), RP_REPLY_EMPTY },
        { RP_WIRE_CHAT, 200, CHOICE("{\"content\":null}", "\"tool_calls\""), RP_REPLY_EMPTY },
        { RP_WIRE_CHAT, 200, CHOICE("null", "\"stop\""), RP_REPLY_UNREADABLE },
        { RP_WIRE_CHAT, 200, CHOICE("{\"content\":\"\",\"refusal\":\"no\"}", "\"stop\""),
          RP_REPLY_REFUSAL },
        { RP_WIRE_COMPLETIONS, 200,
          "{\"choices\":[{\"index\":0,\"text\":\"a\",\"finish_reason\":\"stop\"}]}", RP_REPLY_GOOD },
        { RP_WIRE_COMPLETIONS, 200,
          "{\"choices\":[{\"index\":0,\"text\":\"a\",\"finish_reason\":\"stop\"},"
          "{\"index\":1,\"text\":\"\",\"finish_reason\":\"stop\"}]}",
          RP_REPLY_EMPTY },
        { RP_WIRE_EMBEDDINGS, 200,
          "{\"object\":\"list\",\"data\":[{\"index\":0,\"embedding\":[0.1]}],\"model\":\"m\"}",
          RP_REPLY_GOOD },
        { RP_WIRE_EMBEDDINGS, 200, "{\"data\":[{\"embedding\":[]}]}", RP_REPLY_EMPTY },
        { RP_WIRE_EMBEDDINGS, 200, "{\"data\":[{\"embedding\":null}]}", RP_REPLY_UNREADABLE },
        { RP_WIRE_RESPONSES, 200,
          "{\"id\":\"resp_1\",\"status\":\"completed\",\"output\":[{\"type\":\"message\",\"content\":"
          "[{\"type\":\"output_text\",\"text\":\"hi\"}]}]}",
          RP_REPLY_GOOD },
        { RP_WIRE_RESPONSES, 200, "{\"status\":\"incomplete\",\"output\":[]}", RP_REPLY_FINISH },
        { RP_WIRE_RESPONSES, 200, "{\"status\":\"in_progress\",\"output\":[]}", RP_REPLY_UNREADABLE },
        { RP_WIRE_RESPONSES, 200, "{\"status\":\"completed\",\"output\":[]}", RP_REPLY_EMPTY },
        { RP_WIRE_RESPONSES, 200,
          "{\"status\":\"completed\",\"output\":[{\"type\":\"message\",\"content\":"
          "[{\"type\":\"refusal\",\"refusal\":\"no\"}]}]}",
          RP_REPLY_REFUSAL },
        { RP_WIRE_MESSAGES, 200,
          "{\"id\":\"msg_1\",\"type\":\"message\",\"content\":[{\"type\":\"text\",\"text\":\"hi\"}],"
          "\"stop_reason\":\"end_turn\"}",
          RP_REPLY_GOOD },
        { RP_WIRE_MESSAGES, 200,
          "{\"type\":\"message\",\"content\":[{\"type\":\"text\",\"text\":\"hi\"}],"
          "\"stop_reason\":\"max_tokens\"}",
          RP_REPLY_FINISH },
        { RP_WIRE_MESSAGES, 200,
          "{\"type\":\"message\",\"content\":[{\"type\":\"thinking\",\"thinking\":\"hm\"}],"
          "\"stop_reason\":\"end_turn\"}",
          RP_REPLY_EMPTY },
        { RP_WIRE_MESSAGES, 200, "{\"type\":\"error\",\"error\":{\"type\":\"x\"}}", RP_REPLY_ERROR },
        { RP_WIRE_PROMPT, 200, "\"an answer\"", RP_REPLY_GOOD },
        { RP_WIRE_PROMPT, 200, "\"\"", RP_REPLY_EMPTY },
    };
    for (size_t i = 0; i < RP_COUNT(cases); i++) {
        const rp_reply_verdict verdict = read_pieces(
            f, cases[i].wire, cases[i].status, false, rp_str_of(cases[i].body), 7, NULL);
        if (verdict != cases[i].verdict)
            print_error("%s: %s\n", cases[i].body, rp_reply_verdict_name(verdict));
        assert_int_equal(verdict, cases[i].verdict);
    }
    /* Whole as JSON, but the framing says that it was cut. */
    rp_reply_reader *reader;
    assert_int_equal(rp_reply_reader_new(RP_WIRE_CHAT, 200, false, 1 << 20, &reader), RP_OK);
    rp_reply_reader_feed(reader, rp_str_of(chat_body));
    assert_int_equal(rp_reply_reader_finish(reader, false, f->json_reader, &f->encoded, NULL),
                     RP_REPLY_INCOMPLETE);
    rp_reply_reader_free(reader);
    /* And one byte above the bound. */
    assert_int_equal(rp_reply_reader_new(RP_WIRE_CHAT, 200, false, sizeof chat_body - 2, &reader),
                     RP_OK);
    rp_reply_reader_feed(reader, rp_str_of(chat_body));
    assert_int_equal(rp_reply_reader_finish(reader, true, f->json_reader, &f->encoded, NULL),
                     RP_REPLY_UNREADABLE);
    rp_reply_reader_free(reader);
}

static void
test_a_body_replays_as_itself_but_for_id_and_created(void **state)
{
    fixture *f = *state;
    rp_usage usage;
    assert_int_equal(
        read_pieces(f, RP_WIRE_CHAT, 200, false, rp_str_of(chat_body), 1000, &usage), RP_REPLY_GOOD);
    assert_int_equal(usage.input_tokens, 5);
    assert_int_equal(usage.output_tokens, 7);
    const rp_reply *reply = open_reply(f);
    assert_str_equal(rp_reply_text(reply),
                     RP_STR("He said \"hi\"\nto \xC3\xA9\xF0\x9F\x98\x80 \xE4\xB8\x96\xE7\x95\x8C."));
    assert_str_equal(rp_reply_original_id(reply), RP_STR("chatcmpl-A"));
    rp_buffer expected;
    rp_buffer_init(&expected, 0);
    const char *rest = strstr(chat_body, ",\"model\"");
    rp_buffer_printf(&expected,
                     "{\"id\":\"chatcmpl-11111111111111112222222222222222\",\"object\":"
                     "\"chat.completion\",\"created\":1700000000%s",
                     rest);
    assert_str_equal(replay(f, reply, false, false), rp_buffer_str(&expected));
    rp_buffer_fini(&expected);
    /* usage_on_hit: zero */
    const rp_replay_options zero = { .wire = RP_WIRE_CHAT, .zero_usage = true };
    rp_buffer_clear(&f->out);
    assert_int_equal(rp_reply_replay(reply, &zero, &f->out), RP_OK);
    const rp_json *json = parse(f, rp_buffer_str(&f->out));
    int64_t total = -1;
    assert_true(rp_json_to_int64(rp_json_get(rp_json_get(json, "usage"), "total_tokens"), &total));
    assert_int_equal(total, 0);
}

/* ---- what a client makes of a stream ------------------------------------------------------ */

typedef struct heard {
    fixture *f;
    size_t chunks, roles, finishes, usages, done;
    bool usage_null_everywhere, any_usage_member;
    rp_buffer content, arguments;
    rp_str id;
} heard;

static void
on_event(void *context, const rp_sse_event *event)
{
    heard *h = context;
    assert_int_equal(h->done, 0);
    assert_str_equal(event->type, RP_STR("message"));
    if (rp_str_equal(event->data, RP_STR("[DONE]"))) {
        h->done++;
        return;
    }
    const rp_json *chunk = parse(h->f, event->data);
    assert_str_equal(rp_json_string(rp_json_get(chunk, "object")), RP_STR("chat.completion.chunk"));
    const rp_str id = rp_json_string(rp_json_get(chunk, "id"));
    assert_true(rp_str_starts_with(id, RP_STR("chatcmpl-")));
    if (h->id.ptr)
        assert_str_equal(id, h->id);
    h->id = id;
    int64_t created;
    assert_true(rp_json_to_int64(rp_json_get(chunk, "created"), &created));
    assert_int_equal(created, 1700000000);
    assert_str_equal(rp_json_string(rp_json_get(chunk, "model")), RP_STR("m"));
    const rp_json *choices = rp_json_get(chunk, "choices"), *usage = rp_json_get(chunk, "usage");
    h->any_usage_member = h->any_usage_member || usage;
    assert_int_equal(choices->type, RP_JSON_ARRAY);
    if (usage && usage->type == RP_JSON_OBJECT) {
        assert_int_equal(choices->count, 0);
        h->usages++;
        return;
    }
    assert_int_equal(h->usages, 0);
    assert_int_equal(choices->count, 1);
    const rp_json *choice = &choices->children[0], *delta = rp_json_get(choice, "delta");
    assert_non_null(delta);
    if (h->chunks++ == 0) {
        assert_str_equal(rp_json_string(rp_json_get(delta, "role")), RP_STR("assistant"));
        assert_non_null(rp_json_get(delta, "content"));
    }
    if (rp_json_get(delta, "role"))
        h->roles++;
    rp_buffer_append(&h->content, rp_json_string(rp_json_get(delta, "content")));
    const rp_json *calls = rp_json_get(delta, "tool_calls");
    if (calls)
        rp_buffer_append(&h->arguments,
                         rp_json_string(rp_json_get(rp_json_get(&calls->children[0], "function"),
                                                    "arguments")));
    if (rp_json_string(rp_json_get(choice, "finish_reason")).len) {
        h->finishes++;
        assert_int_equal(delta->count, 0);
    } else {
        assert_int_equal(h->finishes, 0);
    }
}

static heard
hear(fixture *f, rp_str stream)
{
    heard h = { .f = f };
    rp_sse_reader sse;
    rp_sse_init(&sse, 1 << 20);
    assert_true(rp_sse_feed(&sse, stream, on_event, &h));
    rp_sse_fini(&sse);
    assert_int_equal(h.done, 1);
    assert_true(rp_str_ends_with(stream, RP_STR("data: [DONE]\n\n")));
    return h;
}

static void
forget(heard *h)
{
    rp_buffer_fini(&h->content);
    rp_buffer_fini(&h->arguments);
}

static void
test_a_body_answers_a_stream(void **state)
{
    fixture *f = *state;
    assert_int_equal(read_pieces(f, RP_WIRE_CHAT, 200, false, rp_str_of(chat_body), 1000, NULL),
                     RP_REPLY_GOOD);
    const rp_reply *reply = open_reply(f);
    for (int with_usage = 0; with_usage < 2; with_usage++) {
        heard h = hear(f, replay(f, reply, true, with_usage));
        assert_int_equal(h.roles, 1);
        assert_int_equal(h.finishes, 1);
        assert_int_equal(h.usages, with_usage);
        assert_int_equal(h.any_usage_member, with_usage);
        assert_str_equal(rp_buffer_str(&h.content), rp_reply_text(reply));
        forget(&h);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_only_whole_and_successful_replies_are_kept),
        cmocka_unit_test(test_a_body_replays_as_itself_but_for_id_and_created),
        cmocka_unit_test(test_a_body_answers_a_stream),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
