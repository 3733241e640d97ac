/* test_wire_reply.c - a reply that is stored answers as the service would have.
 *
 * What could go wrong: something incomplete, refused or broken is kept; a replay loses or
 * changes a field; a stream breaks the order that clients rely on; damaged bytes of the
 * store lead out of themselves. Tables of replies with their verdict, round trips between
 * body and stream compared member by member, and damage of every byte. */
#include "base/random.h"
#include "net/sse.h"
#include "test_support.h"
#include "wire/wire_internal.h"

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
    assert_int_equal(f->encoded.len > 0, verdict == RP_REPLY_GOOD || verdict == RP_REPLY_LENGTH ||
                                             verdict == RP_REPLY_FILTERED);
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
        { RP_WIRE_CHAT, 200, CHOICE("{\"content\":\"a\"}", "\"length\""), RP_REPLY_LENGTH },
        { RP_WIRE_CHAT, 200, CHOICE("{\"content\":\"\"}", "\"length\""), RP_REPLY_FINISH },
        { RP_WIRE_CHAT, 200, CHOICE("{\"refusal\":\"a\"}", "\"length\""), RP_REPLY_REFUSAL },
        { RP_WIRE_CHAT, 200, CHOICE("{\"content\":\"a\"}", "\"eviction\""), RP_REPLY_FINISH },
        { RP_WIRE_COMPLETIONS, 200,
          "{\"choices\":[{\"index\":0,\"text\":\"a\",\"finish_reason\":\"length\"}]}", RP_REPLY_LENGTH },
        { RP_WIRE_COMPLETIONS, 200,
          "{\"choices\":[{\"index\":0,\"text\":\"a\",\"finish_reason\":\"length\"},"
          "{\"index\":1,\"text\":\"a\",\"finish_reason\":\"content_filter\"}]}", RP_REPLY_FINISH },
        { RP_WIRE_CHAT, 200, CHOICE("{\"content\":\"a\"}", "\"content_filter\""), RP_REPLY_FILTERED },
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
          RP_REPLY_LENGTH },
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

/* ---- streams ---------------------------------------------------------------------------- */

#define CHUNK(rest)                                                                                \
    "data: {\"id\":\"chatcmpl-B\",\"object\":\"chat.completion.chunk\",\"created\":9,"             \
    "\"model\":\"m\",\"system_fingerprint\":\"fp\",\"obfuscation\":\"xyz\"," rest "}\n\n"
#define DELTA(delta) CHUNK("\"choices\":[{\"index\":0,\"delta\":" delta ",\"finish_reason\":null}]")
#define FINISH(reason)                                                                             \
    CHUNK("\"choices\":[{\"index\":0,\"delta\":{},\"finish_reason\":" reason "}]")
#define ROLE DELTA("{\"role\":\"assistant\",\"content\":\"\"}")
#define DONE "data: [DONE]\n\n"

static const char chat_stream[] =
    ": a comment\n\n" ROLE DELTA("{\"content\":\"Hel\"}") DELTA("{\"content\":\"lo \\\"x\\\"\"}")
        DELTA("{\"content\":\" \\ud83d\\ude00\"}") FINISH("\"stop\"")
            CHUNK("\"choices\":[],\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":4,"
                  "\"total_tokens\":7}") DONE;
static const char chat_stream_plain[] =
    ROLE DELTA("{\"content\":\"Hello\"}") FINISH("\"stop\"") DONE;

static void
test_a_stream_answers_a_body(void **state)
{
    fixture *f = *state;
    for (size_t step = 1; step < sizeof chat_stream; step = step * 3 + 1) {
        rp_usage usage;
        assert_int_equal(
            read_pieces(f, RP_WIRE_CHAT, 200, true, rp_str_of(chat_stream), step, &usage),
            RP_REPLY_GOOD);
        assert_int_equal(usage.input_tokens, 3);
        assert_int_equal(usage.output_tokens, 4);
    }
    const rp_reply *reply = open_reply(f);
    assert_str_equal(rp_reply_text(reply), RP_STR("Hello \"x\" \xF0\x9F\x98\x80"));
    assert_str_equal(rp_reply_original_id(reply), RP_STR("chatcmpl-B"));
    assert_str_equal(
        replay(f, reply, false, false),
        RP_STR("{\"id\":\"chatcmpl-11111111111111112222222222222222\",\"object\":"
               "\"chat.completion\",\"created\":1700000000,\"model\":\"m\",\"choices\":[{\"index\":0,"
               "\"message\":{\"role\":\"assistant\",\"content\":\"Hello \\\"x\\\" "
               "\xF0\x9F\x98\x80\",\"refusal\":null},\"logprobs\":null,\"finish_reason\":\"stop\"}],"
               "\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":4,\"total_tokens\":7},"
               "\"system_fingerprint\":\"fp\"}"));
    /* Stored with usage, asked without, and the reverse. */
    heard h = hear(f, replay(f, reply, true, false));
    assert_false(h.any_usage_member);
    assert_str_equal(rp_buffer_str(&h.content), rp_reply_text(reply));
    forget(&h);
    h = hear(f, replay(f, reply, true, true));
    assert_int_equal(h.usages, 1);
    forget(&h);
    assert_null(memmem(f->out.ptr, f->out.len, "obfuscation", 11));
}

static void
test_unknown_usage_is_not_invented(void **state)
{
    fixture *f = *state;
    rp_usage usage;
    assert_int_equal(
        read_pieces(f, RP_WIRE_CHAT, 200, true, rp_str_of(chat_stream_plain), 100, &usage),
        RP_REPLY_GOOD);
    assert_int_equal(usage.input_tokens, -1);
    const rp_reply *reply = open_reply(f);
    assert_int_equal(rp_reply_usage(reply).output_tokens, -1);
    /* A stream that must name it cannot be had; a body has zeros, for nothing was billed. */
    rp_replay_options options = { .wire = RP_WIRE_CHAT, .stream = true, .include_usage = true };
    rp_buffer_clear(&f->out);
    rp_buffer_append(&f->out, RP_STR("before"));
    assert_int_equal(rp_reply_replay(reply, &options, &f->out), RP_ERR_UNSUPPORTED);
    assert_str_equal(rp_buffer_str(&f->out), RP_STR("before"));
    options.zero_usage = true;
    assert_int_equal(rp_reply_replay(reply, &options, &f->out), RP_OK);
    const rp_json *body = parse(f, replay(f, reply, false, false));
    int64_t total = -1;
    assert_true(rp_json_to_int64(rp_json_get(rp_json_get(body, "usage"), "total_tokens"), &total));
    assert_int_equal(total, 0);
    options = (rp_replay_options){ .wire = RP_WIRE_COMPLETIONS };
    assert_int_equal(rp_reply_replay(reply, &options, &f->out), RP_ERR_UNSUPPORTED);
}

static void
test_only_whole_streams_are_kept(void **state)
{
    fixture *f = *state;
    static const struct {
        const char *stream;
        rp_reply_verdict verdict;
    } cases[] = {
        { chat_stream_plain, RP_REPLY_GOOD },
        { ROLE DELTA("{\"content\":\"a\"}") FINISH("\"stop\""), RP_REPLY_INCOMPLETE },
        { ROLE DELTA("{\"content\":\"a\"}") DONE, RP_REPLY_INCOMPLETE },
        { ROLE DELTA("{\"content\":\"a\"}") FINISH("\"stop\"") "data: [DONE]\n", RP_REPLY_INCOMPLETE },
        { ROLE DELTA("{\"content\":\"a\"}") FINISH("\"length\"") DONE, RP_REPLY_LENGTH },
        { ROLE FINISH("\"stop\"") DONE, RP_REPLY_EMPTY },
        { DONE, RP_REPLY_EMPTY },
        { "", RP_REPLY_INCOMPLETE },
        { ROLE "data: {\"error\":{\"message\":\"m\"}}\n\n" DONE, RP_REPLY_ERROR },
        { ROLE "event: error\ndata: {\"a\":1}\n\n" DONE, RP_REPLY_ERROR },
        { ROLE "data: {\"id\":\n\n" DONE, RP_REPLY_UNREADABLE },
        { ROLE "data: 7\n\n" DONE, RP_REPLY_UNREADABLE },
        { ROLE DELTA("{\"refusal\":\"I can\"}") DELTA("{\"refusal\":\"not\"}") FINISH("\"stop\"") DONE,
          RP_REPLY_REFUSAL },
        /* A delta that we could not give back. */
        { ROLE DELTA("{\"content\":\"a\",\"audio\":{\"id\":1}}") FINISH("\"stop\"") DONE,
          RP_REPLY_UNREADABLE },
        { ROLE DELTA("{\"tool_calls\":[{\"index\":5,\"id\":\"x\"}]}") FINISH("\"tool_calls\"") DONE,
          RP_REPLY_UNREADABLE },
        { ROLE DELTA("{\"tool_calls\":[{\"index\":-1}]}") FINISH("\"tool_calls\"") DONE,
          RP_REPLY_UNREADABLE },
    };
    for (size_t i = 0; i < RP_COUNT(cases); i++) {
        const rp_reply_verdict verdict =
            read_pieces(f, RP_WIRE_CHAT, 200, true, rp_str_of(cases[i].stream), 9, NULL);
        if (verdict != cases[i].verdict)
            print_error("%s: %s\n", cases[i].stream, rp_reply_verdict_name(verdict));
        assert_int_equal(verdict, cases[i].verdict);
    }
    /* A stream cut anywhere is never kept. */
    for (size_t cut = 0; cut < sizeof chat_stream - 1; cut++)
        assert_int_not_equal(
            read_pieces(f, RP_WIRE_CHAT, 200, true, (rp_str){ chat_stream, cut }, 64, NULL),
            RP_REPLY_GOOD);
}

static void
test_tool_calls_keep_their_fragments(void **state)
{
    fixture *f = *state;
    static const char stream[] =
        DELTA("{\"role\":\"assistant\",\"content\":null,\"tool_calls\":[{\"index\":0,\"id\":\"c1\","
              "\"type\":\"function\",\"function\":{\"name\":\"get\",\"arguments\":\"\"}}]}")
        DELTA("{\"tool_calls\":[{\"index\":0,\"function\":{\"arguments\":\"{\\\"a\\\":\"}}]}")
        DELTA("{\"tool_calls\":[{\"index\":1,\"id\":\"c2\",\"type\":\"function\",\"function\":"
              "{\"name\":\"put\",\"arguments\":\"{}\"}}]}")
        DELTA("{\"tool_calls\":[{\"index\":0,\"function\":{\"arguments\":\"1}\"}}]}")
        FINISH("\"tool_calls\"") DONE;
    assert_int_equal(read_pieces(f, RP_WIRE_CHAT, 200, true, rp_str_of(stream), 50, NULL),
                     RP_REPLY_GOOD);
    const rp_reply *reply = open_reply(f);
    assert_true(rp_reply_has_tool_calls(reply));
    const rp_json *body = parse(f, replay(f, reply, false, false));
    const rp_json *message = rp_json_get(&rp_json_get(body, "choices")->children[0], "message");
    assert_int_equal(rp_json_get(message, "content")->type, RP_JSON_NULL);
    rp_buffer text;
    rp_buffer_init(&text, 0);
    rp_json_write_canonical(rp_json_get(message, "tool_calls"), &text);
    assert_str_equal(rp_buffer_str(&text),
                     RP_STR("[{\"function\":{\"arguments\":\"{\\\"a\\\":1}\",\"name\":\"get\"},"
                            "\"id\":\"c1\",\"type\":\"function\"},{\"function\":{\"arguments\":\"{}\","
                            "\"name\":\"put\"},\"id\":\"c2\",\"type\":\"function\"}]"));
    rp_buffer_fini(&text);
    heard h = hear(f, replay(f, reply, true, false));
    assert_str_equal(rp_buffer_str(&h.arguments), RP_STR("{\"a\":1}{}"));
    assert_int_equal(h.content.len, 0);
    forget(&h);
}

static void
test_a_form_that_cannot_hold_every_field_is_refused(void **state)
{
    fixture *f = *state;
    static const struct {
        const char *message;
        bool streams;
    } cases[] = {
        { "{\"content\":\"a\",\"audio\":{\"id\":\"x\"}}", false },
        { "{\"content\":[{\"type\":\"text\",\"text\":\"a\"}]}", false },
        { "{\"content\":\"a\",\"reasoning_details\":[{\"a\":1}]}", false },
        { "{\"content\":null,\"tool_calls\":[{\"id\":\"c\",\"type\":\"custom\",\"custom\":{}}]}", false },
        { "{\"content\":\"a\",\"tool_calls\":\"none\"}", false },
        { "{\"content\":\"a\"},\"delta\":\"a\",\"more\":{\"b\":1}", false },
        { "{\"content\":\"a\",\"reasoning_content\":\"because\",\"x\":null,\"y\":[]}", true },
        { "{\"content\":\"a\",\"annotations\":[{\"type\":\"url_citation\"}]}", true },
        { "{\"content\":null,\"function_call\":{\"name\":\"f\",\"arguments\":\"{}\"}}", true },
    };
    for (size_t i = 0; i < RP_COUNT(cases); i++) {
        char body[400];
        snprintf(body, sizeof body,
                 CHAT_HEAD "\"choices\":[{\"index\":0,\"message\":%s,\"finish_reason\":\"stop\"}]}",
                 cases[i].message);
        assert_int_equal(read_pieces(f, RP_WIRE_CHAT, 200, false, rp_str_of(body), 99, NULL),
                         RP_REPLY_GOOD);
        const rp_reply *reply = open_reply(f);
        const rp_replay_options options = { .wire = RP_WIRE_CHAT, .stream = true };
        rp_buffer_clear(&f->out);
        assert_int_equal(rp_reply_replay(reply, &options, &f->out),
                         cases[i].streams ? RP_OK : RP_ERR_UNSUPPORTED);
        replay(f, reply, false, false);
    }
}

/* ---- round trips ---------------------------------------------------------------------------- */

static void
put_random_text(rp_random *random, rp_json_writer *w, size_t words)
{
    static const char *const some[] = { "word", " ", " ", "\n", "\"", "\\", "\xC3\xA9",
                                        "\xF0\x9F\x98\x80", "\xE4\xB8\x96", "\x01", "\\u00e9", "longer " };
    rp_buffer text;
    rp_buffer_init(&text, 0);
    rp_buffer_append_char(&text, 'x');
    for (size_t i = 0; i < words; i++)
        rp_buffer_append(&text, rp_str_of(some[rp_random_below(random, RP_COUNT(some))]));
    rp_json_put_string(w, rp_buffer_str(&text));
    rp_buffer_fini(&text);
}

static void
put_random_choice(rp_random *random, rp_json_writer *w, uint64_t index)
{
    const bool logprobs = rp_random_below(random, 4) == 0, calls = rp_random_below(random, 3) == 0;
    rp_json_open(w, '{');
    rp_json_key(w, "index");
    rp_json_put_uint(w, index);
    rp_json_key(w, "message");
    rp_json_open(w, '{');
    rp_json_key(w, "role");
    rp_json_put_cstring(w, "assistant");
    rp_json_key(w, "content");
    if (calls && !logprobs)
        rp_json_put_null(w);
    else
        put_random_text(random, w, 1 + rp_random_below(random, 600));
    rp_json_key(w, "refusal");
    rp_json_put_null(w);
    if (rp_random_below(random, 3) == 0) {
        rp_json_key(w, "reasoning_content");
        put_random_text(random, w, 5);
    }
    if (calls) {
        rp_json_key(w, "tool_calls");
        rp_json_open(w, '[');
        for (uint64_t i = 0; i <= rp_random_below(random, 3); i++) {
            rp_json_open(w, '{');
            rp_json_key(w, "id");
            rp_json_put_cstring(w, i ? "call_b" : "call_a");
            rp_json_key(w, "type");
            rp_json_put_cstring(w, "function");
            rp_json_key(w, "function");
            rp_json_open(w, '{');
            rp_json_key(w, "name");
            rp_json_put_cstring(w, "lookup");
            rp_json_key(w, "arguments");
            put_random_text(random, w, 4);
            rp_json_close(w, '}');
            rp_json_close(w, '}');
        }
        rp_json_close(w, ']');
    }
    rp_json_close(w, '}');
    rp_json_key(w, "logprobs");
    rp_json_put_raw(w, logprobs ? RP_STR("{\"content\":[{\"token\":\"a\",\"logprob\":-0.25},{}]}")
                                : RP_STR("null"));
    rp_json_key(w, "finish_reason");
    rp_json_put_cstring(w, calls ? "tool_calls" : "stop");
    if (rp_random_below(random, 4) == 0) {
        rp_json_key(w, "content_filter_results");
        rp_json_put_raw(w, RP_STR("{\"hate\":{\"filtered\":false}}"));
    }
    rp_json_close(w, '}');
}

/* The canonical form of a body, id and created taken out of the comparison by `replay`. */
static rp_str
canonical(fixture *f, rp_str body)
{
    rp_buffer text;
    rp_buffer_init(&text, 0);
    rp_json_write_canonical(parse(f, body), &text);
    const rp_str copy = rp_arena_copy(&f->arena, rp_buffer_str(&text));
    rp_buffer_fini(&text);
    return copy;
}

static void
test_body_to_stream_to_body_changes_nothing(void **state)
{
    fixture *f = *state;
    rp_random random;
    rp_random_init(&random, 30);
    rp_buffer body, copy;
    rp_buffer_init(&body, 0);
    rp_buffer_init(&copy, 0);
    for (int round = 0; round < 500; round++) {
        rp_arena_reset(&f->arena);
        rp_buffer_clear(&body);
        rp_json_writer w;
        rp_json_writer_init(&w, &body);
        rp_json_open(&w, '{');
        rp_json_key(&w, "id");
        rp_json_put_cstring(&w, "chatcmpl-11111111111111112222222222222222");
        rp_json_key(&w, "object");
        rp_json_put_cstring(&w, "chat.completion");
        rp_json_key(&w, "created");
        rp_json_put_int(&w, 1700000000);
        rp_json_key(&w, "model");
        rp_json_put_cstring(&w, "m");
        rp_json_key(&w, "choices");
        rp_json_open(&w, '[');
        for (uint64_t i = 0, count = 1 + rp_random_below(&random, 3); i < count; i++)
            put_random_choice(&random, &w, i);
        rp_json_close(&w, ']');
        rp_json_key(&w, "usage");
        rp_json_put_raw(&w, RP_STR("{\"prompt_tokens\":1,\"completion_tokens\":2}"));
        if (round % 2) {
            rp_json_key(&w, "service_tier");
            rp_json_put_cstring(&w, "default");
        }
        rp_json_close(&w, '}');
        /* Some services indent: an event is one line all the same. */
        if (round % 3 == 0)
            for (size_t i = 0; i + 1 < body.len; i++)
                if (body.ptr[i] == '{' && body.ptr[i + 1] == '"' && i > 0 && body.ptr[i - 1] == ':') {
                    char *room = rp_buffer_reserve(&body, 1);
                    assert_non_null(room);
                    memmove(body.ptr + i + 2, body.ptr + i + 1, body.len - i - 1);
                    body.ptr[i + 1] = '\n';
                    body.len++;
                }
        assert_int_equal(
            read_pieces(f, RP_WIRE_CHAT, 200, false, rp_buffer_str(&body), 4096, NULL),
            RP_REPLY_GOOD);
        const rp_str stream = replay(f, open_reply(f), true, true);
        rp_buffer_clear(&copy);
        rp_buffer_append(&copy, stream);
        assert_int_equal(
            read_pieces(f, RP_WIRE_CHAT, 200, true, rp_buffer_str(&copy), 4096, NULL),
            RP_REPLY_GOOD);
        const rp_str back = replay(f, open_reply(f), false, false);
        assert_str_equal(canonical(f, back), canonical(f, rp_buffer_str(&body)));
    }
    rp_buffer_fini(&body);
    rp_buffer_fini(&copy);
}

static void
test_completions_go_both_ways(void **state)
{
    fixture *f = *state;
    static const char body[] =
        "{\"id\":\"cmpl-1\",\"object\":\"text_completion\",\"created\":1,\"model\":\"m\",\"choices\":"
        "[{\"text\":\"one two\",\"index\":0,\"logprobs\":null,\"finish_reason\":\"stop\"}],\"usage\":"
        "{\"prompt_tokens\":1,\"completion_tokens\":2,\"total_tokens\":3}}";
    assert_int_equal(read_pieces(f, RP_WIRE_COMPLETIONS, 200, false, rp_str_of(body), 99, NULL),
                     RP_REPLY_GOOD);
    const rp_str stream = replay(f, open_reply(f), true, true);
#define HEAD                                                                                       \
    "data: {\"id\":\"cmpl-11111111111111112222222222222222\",\"object\":\"text_completion\","      \
    "\"created\":1700000000,\"model\":\"m\",\"choices\":["
    assert_str_equal(
        stream,
        RP_STR(HEAD "{\"text\":\"one two\",\"index\":0,\"logprobs\":null,\"finish_reason\":null}],"
                    "\"usage\":null}\n\n" HEAD
                    "{\"text\":\"\",\"index\":0,\"logprobs\":null,\"finish_reason\":\"stop\"}],"
                    "\"usage\":null}\n\n" HEAD
                    "],\"usage\":{\"prompt_tokens\":1,\"completion_tokens\":2,\"total_tokens\":3}}\n\n"
                    "data: [DONE]\n\n"));
    rp_buffer copy;
    rp_buffer_init(&copy, 0);
    rp_buffer_append(&copy, stream);
    assert_int_equal(
        read_pieces(f, RP_WIRE_COMPLETIONS, 200, true, rp_buffer_str(&copy), 7, NULL),
        RP_REPLY_GOOD);
    rp_buffer_fini(&copy);
    assert_str_equal(rp_reply_text(open_reply(f)), RP_STR("one two"));
}

/* ---- Responses and Anthropic ---------------------------------------------------------------- */

static void
count_event(void *context, const rp_sse_event *event)
{
    rp_buffer *names = context;
    rp_buffer_append(names, event->type);
    rp_buffer_append_char(names, ' ');
}

static void
assert_events(rp_str stream, const char *expected)
{
    rp_sse_reader sse;
    rp_buffer names;
    rp_sse_init(&sse, 1 << 20);
    rp_buffer_init(&names, 0);
    assert_true(rp_sse_feed(&sse, stream, count_event, &names));
    assert_str_equal(rp_buffer_str(&names), rp_str_of(expected));
    rp_buffer_fini(&names);
    rp_sse_fini(&sse);
}

/* Body to stream to body must change nothing but id and created. */
static void
assert_round_trip(fixture *f, rp_wire wire, const char *body, const char *events)
{
    rp_usage usage, back_usage;
    assert_int_equal(read_pieces(f, wire, 200, false, rp_str_of(body), 50, &usage), RP_REPLY_GOOD);
    const rp_reply *reply = open_reply(f);
    const rp_str first = canonical(f, replay(f, reply, false, false));
    const rp_str stream = replay(f, reply, true, false);
    assert_events(stream, events);
    rp_buffer copy;
    rp_buffer_init(&copy, 0);
    rp_buffer_append(&copy, stream);
    assert_int_equal(
        read_pieces(f, wire, 200, true, rp_buffer_str(&copy), 50, &back_usage), RP_REPLY_GOOD);
    assert_int_equal(usage.input_tokens, back_usage.input_tokens);
    assert_int_equal(usage.output_tokens, back_usage.output_tokens);
    assert_str_equal(canonical(f, replay(f, open_reply(f), false, false)), first);
    /* Cut anywhere, it is not kept. */
    for (size_t cut = 0; cut + 1 < copy.len; cut += 7)
        assert_int_not_equal(read_pieces(f, wire, 200, true, (rp_str){ copy.ptr, cut }, 999, NULL),
                             RP_REPLY_GOOD);
    rp_buffer_fini(&copy);
}

static void
test_anthropic_messages_go_both_ways(void **state)
{
    fixture *f = *state;
    assert_round_trip(
        f, RP_WIRE_MESSAGES,
        "{\"id\":\"msg_1\",\"type\":\"message\",\"role\":\"assistant\",\"model\":\"claude\",\n"
        "\"content\":[{\"type\":\"thinking\",\"thinking\":\"let me\\nsee\",\"signature\":\"c2ln\"},"
        "{\"type\":\"redacted_thinking\",\"data\":\"eHl6\"},"
        "{\"type\":\"text\",\"text\":\"Hello \\\"you\\\"\",\"citations\":[{\"a\":1},{\"a\":2}]},"
        "{\"type\":\"tool_use\",\"id\":\"toolu_1\",\"name\":\"f\",\"input\":{\"x\":[1,\"y\"]}}],"
        "\"stop_reason\":\"tool_use\",\"stop_sequence\":null,\"usage\":{\"input_tokens\":3,"
        "\"cache_read_input_tokens\":4,\"output_tokens\":9}}",
        "message_start content_block_start content_block_delta content_block_delta "
        "content_block_stop content_block_start content_block_stop content_block_start "
        "content_block_delta content_block_delta content_block_delta content_block_stop "
        "content_block_start content_block_delta content_block_stop message_delta message_stop ");
    const rp_reply *reply;
    static const char stream[] =
        "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":\"msg_2\","
        "\"type\":\"message\",\"role\":\"assistant\",\"model\":\"c\",\"content\":[],\"stop_reason\":null,"
        "\"stop_sequence\":null,\"usage\":{\"input_tokens\":5,\"output_tokens\":1}}}\n\n"
        "event: content_block_start\ndata: {\"type\":\"content_block_start\",\"index\":0,"
        "\"content_block\":{\"type\":\"text\",\"text\":\"\"}}\n\n"
        "event: ping\ndata: {\"type\":\"ping\"}\n\n"
        "event: content_block_delta\ndata: {\"type\":\"content_block_delta\",\"index\":0,\"delta\":"
        "{\"type\":\"text_delta\",\"text\":\"Hi\"}}\n\n"
        "event: content_block_stop\ndata: {\"type\":\"content_block_stop\",\"index\":0}\n\n"
        "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{\"stop_reason\":"
        "\"end_turn\",\"stop_sequence\":null},\"usage\":{\"output_tokens\":7}}\n\n"
        "event: message_stop\ndata: {\"type\":\"message_stop\"}\n\n";
    rp_usage usage;
    assert_int_equal(
        read_pieces(f, RP_WIRE_MESSAGES, 200, true, rp_str_of(stream), 10, &usage), RP_REPLY_GOOD);
    assert_int_equal(usage.input_tokens, 5);
    assert_int_equal(usage.output_tokens, 7);
    reply = open_reply(f);
    assert_str_equal(rp_reply_text(reply), RP_STR("Hi"));
    assert_str_equal(replay(f, reply, false, false),
                     RP_STR("{\"id\":\"msg_11111111111111112222222222222222\",\"type\":\"message\","
                            "\"role\":\"assistant\",\"model\":\"c\",\"content\":[{\"type\":\"text\","
                            "\"text\":\"Hi\"}],\"stop_reason\":\"end_turn\",\"stop_sequence\":null,"
                            "\"usage\":{\"input_tokens\":5,\"output_tokens\":7}}"));
    /* A block out of its place, a delta of another kind than its block. */
    static const char *const wrong[][2] = { { "_start\",\"index\":0", "_start\",\"index\":1" },
                                            { "_delta\",\"index\":0", "_delta\",\"index\":1" },
                                            { "text_delta\",\"text\"", "text_delta\",\"tixt\"" },
                                            { "\"text_delta\"", "\"next_delta\"" },
                                            { "\"content_block\":", "\"content_black\":" } };
    for (size_t i = 0; i < RP_COUNT(wrong); i++) {
        char changed[sizeof stream];
        memcpy(changed, stream, sizeof stream);
        char *at = strstr(changed, wrong[i][0]);
        assert_non_null(at);
        memcpy(at, wrong[i][1], strlen(wrong[i][1]));
        assert_int_equal(
            read_pieces(f, RP_WIRE_MESSAGES, 200, true, rp_str_of(changed), 10, NULL),
            RP_REPLY_UNREADABLE);
    }
    static const char odd[] = "{\"type\":\"message\",\"content\":[{\"text\":\"hi\"}],\"usage\":{\"a\":1},"
                              "\"stop_reason\":\"end_turn\"}";
    assert_int_equal(read_pieces(f, RP_WIRE_MESSAGES, 200, false, rp_str_of(odd), 99, NULL),
                     RP_REPLY_GOOD);
    const rp_replay_options options = { .wire = RP_WIRE_MESSAGES, .stream = true };
    assert_int_equal(rp_reply_replay(open_reply(f), &options, &f->out), RP_ERR_UNSUPPORTED);
    static const char broken[] =
        "event: error\ndata: {\"type\":\"error\",\"error\":{\"type\":\"overloaded_error\"}}\n\n";
    assert_int_equal(read_pieces(f, RP_WIRE_MESSAGES, 200, true, rp_str_of(broken), 10, NULL),
                     RP_REPLY_ERROR);
}

static void
test_responses_go_both_ways(void **state)
{
    fixture *f = *state;
    static const char body[] =
        "{\"id\":\"resp_1\",\"object\":\"response\",\"created_at\":7,\"status\":\"completed\",\n"
        "\"error\":null,\"store\":%s,\"model\":\"m\",\"output\":[{\"type\":\"reasoning\",\"id\":\"rs_1\","
        "\"summary\":[]},{\"type\":\"message\",\"id\":\"msg_1\",\"status\":\"completed\",\"role\":"
        "\"assistant\",\"content\":[{\"type\":\"output_text\",\"text\":\"Hi there\",\"annotations\":[]}]},"
        "{\"type\":\"function_call\",\"id\":\"fc_1\",\"call_id\":\"c\",\"name\":\"f\",\"arguments\":"
        "\"{}\",\"status\":\"completed\"}],\"usage\":{\"input_tokens\":1,\"output_tokens\":2,"
        "\"total_tokens\":3}}";
    char text[1200];
    snprintf(text, sizeof text, body, "false");
    assert_round_trip(
        f, RP_WIRE_RESPONSES, text,
        "response.created response.in_progress response.output_item.added "
        "response.output_item.done response.output_item.added response.content_part.added "
        "response.output_text.delta response.output_text.done response.content_part.done "
        "response.output_item.done response.output_item.added "
        "response.function_call_arguments.delta response.function_call_arguments.done "
        "response.output_item.done response.completed ");
    assert_int_equal(read_pieces(f, RP_WIRE_RESPONSES, 200, false, rp_str_of(text), 99, NULL),
                     RP_REPLY_GOOD);
    assert_str_equal(rp_reply_text(open_reply(f)), RP_STR("Hi there"));
    replay(f, open_reply(f), true, false);
    assert_non_null(memmem(f->out.ptr, f->out.len, "resp_1111", 9));
    /* The service knows it under its id: a later request may go on from it. */
    snprintf(text, sizeof text, body, "true");
    assert_int_equal(read_pieces(f, RP_WIRE_RESPONSES, 200, false, rp_str_of(text), 99, NULL),
                     RP_REPLY_GOOD);
    const rp_json *json = parse(f, replay(f, open_reply(f), false, false));
    assert_str_equal(rp_json_string(rp_json_get(json, "id")), RP_STR("resp_1"));
    static const struct {
        const char *stream;
        rp_reply_verdict verdict;
    } cases[] = {
        { "event: response.created\ndata: {\"type\":\"response.created\"}\n\n", RP_REPLY_INCOMPLETE },
        { "data: {\"type\":\"response.incomplete\",\"response\":{}}\n\n", RP_REPLY_FINISH },
        { "data: {\"type\":\"response.failed\",\"response\":{}}\n\n", RP_REPLY_ERROR },
        { "event: error\ndata: {\"type\":\"error\",\"message\":\"m\"}\n\n", RP_REPLY_ERROR },
        { "data: {\"type\":\"response.completed\",\"response\":{\"status\":\"completed\",\"output\":[]}}"
          "\n\n",
          RP_REPLY_EMPTY },
        { "data: {\"type\":\"response.completed\",\"response\":7}\n\n", RP_REPLY_UNREADABLE },
    };
    for (size_t i = 0; i < RP_COUNT(cases); i++)
        assert_int_equal(
            read_pieces(f, RP_WIRE_RESPONSES, 200, true, rp_str_of(cases[i].stream), 99, NULL),
            cases[i].verdict);
}

/* ---- pieces ----------------------------------------------------------------------------------- */

static void
test_pieces_end_between_words_and_never_within_a_character(void **state)
{
    (void)state;
    rp_random random;
    rp_random_init(&random, 31);
    static const char *const some[] = { "word", " ", "\\n", "\\\"", "\\\\", "\xC3\xA9",
                                        "\xF0\x9F\x98\x80", "\\u00e9", "\\ud83d\\ude00" };
    for (int round = 0; round < 3000; round++) {
        rp_buffer text;
        rp_buffer_init(&text, 0);
        for (uint64_t i = 0, count = rp_random_below(&random, 80); i < count; i++)
            rp_buffer_append(&text, rp_str_of(some[rp_random_below(&random, RP_COUNT(some))]));
        rp_str rest = rp_buffer_str(&text);
        const size_t size = 1 + rp_random_below(&random, 40);
        size_t sum = 0;
        while (rest.len) {
            const rp_str piece = rp_replay_piece(&rest, size);
            assert_true(piece.len > 0 && piece.ptr == text.ptr + sum);
            sum += piece.len;
            /* Whole units only: what begins a unit never begins a piece's middle. */
            assert_true(rest.len == 0 || ((unsigned char)rest.ptr[0] & 0xC0) != 0x80);
            size_t slashes = 0;
            while (slashes < piece.len && piece.ptr[piece.len - 1 - slashes] == '\\')
                slashes++;
            assert_true(slashes % 2 == 0);
            assert_false(rp_str_ends_with(piece, RP_STR("\\ud83d")));
            for (size_t n = 1; n < 6 && n <= piece.len; n++)
                assert_false(piece.ptr[piece.len - n] == 'u' && n < 5 && piece.len > n &&
                             piece.ptr[piece.len - n - 1] == '\\');
        }
        assert_int_equal(sum, text.len);
        rp_buffer_fini(&text);
    }
    rp_str rest = RP_STR("The quick brown fox jumps over the lazy dog and runs away from it.");
    assert_str_equal(rp_replay_piece(&rest, 18), RP_STR("The quick brown "));
    assert_str_equal(rp_replay_piece(&rest, 18), RP_STR("fox jumps over "));
}

/* ---- damage ------------------------------------------------------------------------------------- */

static void
test_damaged_bytes_are_refused_or_harmless(void **state)
{
    fixture *f = *state;
    assert_int_equal(read_pieces(f, RP_WIRE_CHAT, 200, false, rp_str_of(chat_body), 999, NULL),
                     RP_REPLY_GOOD);
    const size_t size = f->encoded.len;
    char *bytes = rp_test_guarded(f->encoded.ptr, size);
    const rp_reply *reply;
    for (size_t cut = 0; cut < size; cut++)
        assert_int_equal(rp_reply_open((rp_str){ rp_test_guarded(bytes, cut), cut }, &f->arena, &reply),
                         RP_ERR_CORRUPT);
    for (size_t bit = 0; bit < size * 8; bit++) {
        bytes[bit / 8] ^= (char)(1u << bit % 8);
        rp_arena_reset(&f->arena);
        const rp_status status = rp_reply_open((rp_str){ bytes, size }, &f->arena, &reply);
        if (bit / 8 < 4)
            assert_int_equal(status, RP_ERR_CORRUPT);
        if (bit / 8 == 4)
            assert_int_equal(status, RP_ERR_STALE);
        if (status == RP_OK) {
            rp_replay_options options = { .wire = rp_reply_wire(reply), .include_usage = true };
            rp_buffer_clear(&f->out);
            (void)!rp_reply_replay(reply, &options, &f->out);
            options.stream = true;
            rp_buffer_clear(&f->out);
            (void)!rp_reply_replay(reply, &options, &f->out);
            (void)rp_reply_text(reply);
            (void)rp_reply_original_id(reply);
        }
        bytes[bit / 8] ^= (char)(1u << bit % 8);
    }
}

static void
test_spans_that_contradict_each_other_are_refused(void **state)
{
    fixture *f = *state;
    assert_int_equal(read_pieces(f, RP_WIRE_CHAT, 200, false, rp_str_of(chat_body), 999, NULL),
                     RP_REPLY_GOOD);
    const rp_reply *reply = open_reply(f);
    assert_int_equal(rp_reply_span(reply, 0).kind, RP_SPAN_ID);
    assert_int_equal(rp_reply_span(reply, 1).kind, RP_SPAN_CREATED);
    char *second = f->encoded.ptr + 40 + 12; /* the span of created */
    const uint32_t offset = rp_load_le32(second + 4);
    /* Two values that a replay replaces must rise and not overlap. */
    rp_store_le32(second + 4, rp_reply_span(reply, 0).offset + 1);
    assert_int_equal(rp_reply_open(rp_buffer_str(&f->encoded), &f->arena, &reply), RP_ERR_CORRUPT);
    rp_store_le32(second + 4, offset);
    rp_store_le32(second, RP_SPAN_KIND_COUNT);
    assert_int_equal(rp_reply_open(rp_buffer_str(&f->encoded), &f->arena, &reply), RP_ERR_CORRUPT);
    rp_store_le32(second, RP_SPAN_CREATED);
    rp_store_le32(second + 8, UINT32_MAX);
    assert_int_equal(rp_reply_open(rp_buffer_str(&f->encoded), &f->arena, &reply), RP_ERR_CORRUPT);
}

/* ---- other wires --------------------------------------------------------------------------- */

#define X_CHAT_HEAD "{\"id\":\"c\",\"object\":\"chat.completion\",\"created\":1,\"model\":\"m\","
#define X_CHAT_USAGE ",\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":4,\"total_tokens\":7," \
                   "\"prompt_tokens_details\":{\"cached_tokens\":1}}"
#define X_CHOICE(message, more) \
    "{\"index\":0,\"message\":{\"role\":\"assistant\"," message "},\"finish_reason\":\"stop\"" more "}"
#define X_CHAT(message) X_CHAT_HEAD "\"choices\":[" X_CHOICE(message, "") "]" X_CHAT_USAGE "}"
#define MESSAGE(content, more) \
    "{\"id\":\"m\",\"type\":\"message\",\"role\":\"assistant\",\"model\":\"m\",\"content\":[" content \
    "],\"stop_reason\":\"end_turn\",\"stop_sequence\":null" more \
    ",\"usage\":{\"input_tokens\":3,\"output_tokens\":4}}"
#define RESPONSE(parts, more) \
    "{\"id\":\"r\",\"object\":\"response\",\"created_at\":1,\"status\":\"completed\",\"store\":false," \
    "\"model\":\"m\",\"temperature\":0.5,\"tools\":[],\"text\":{\"format\":{\"type\":\"text\"}},\"output\":[" \
    "{\"type\":\"message\",\"id\":\"i\",\"status\":\"completed\",\"role\":\"assistant\",\"content\":[" parts \
    "]}" more "],\"usage\":{\"input_tokens\":3,\"output_tokens\":4,\"total_tokens\":7}}"
#define OUTPUT_TEXT "{\"type\":\"output_text\",\"annotations\":[],\"logprobs\":[],\"text\":\"a \\\"b\\\" \\u00e9\"}"

static const rp_wire text_wires[] = { RP_WIRE_CHAT, RP_WIRE_RESPONSES, RP_WIRE_MESSAGES };

/* Body and stream on each wire; what comes back says the same text and totals. */
static void
cross(fixture *f, rp_wire wire, const char *body, bool crosses)
{
    rp_usage usage;
    assert_int_equal(read_pieces(f, wire, 200, false, rp_str_of(body), 1000, &usage), RP_REPLY_GOOD);
    const rp_reply *reply, *back;
    assert_int_equal(rp_reply_open(rp_buffer_str(&f->encoded), &f->arena, &reply), RP_OK);
    for (size_t i = 0; i < RP_COUNT(text_wires); i++)
        for (int stream = 0; stream < 2; stream++) {
            const rp_replay_options options = { .wire = text_wires[i], .stream = stream,
                                                .include_usage = stream, .created = 5,
                                                .id_random = { 1, 2 } };
            if (text_wires[i] == wire)
                continue;
            rp_buffer_clear(&f->out);
            const rp_status status = rp_reply_replay(reply, &options, &f->out);
            if (!crosses) {
                if (status != RP_ERR_UNSUPPORTED)
                    fail_msg("crossed to %s: %s", rp_wire_name(text_wires[i]), body);
                assert_int_equal(f->out.len, 0);
                continue;
            }
            assert_int_equal(status, RP_OK);
            fixture *again;
            set_up((void **)&again);
            assert_int_equal(read_pieces(again, text_wires[i], 200, stream, rp_buffer_str(&f->out), 1000,
                                         &usage), RP_REPLY_GOOD);
            assert_int_equal(rp_reply_open(rp_buffer_str(&again->encoded), &again->arena, &back), RP_OK);
            assert_str_equal(rp_reply_text(back), RP_STR("a \"b\" \303\251"));
            assert_int_equal(usage.input_tokens, 3);
            assert_int_equal(usage.output_tokens, 4);
            tear_down((void **)&again);
        }
}

static void
test_plain_text_crosses_between_wires_and_nothing_else(void **state)
{
    static const struct {
        rp_wire wire;
        const char *body;
        bool crosses;
    } rows[] = {
        { RP_WIRE_CHAT, X_CHAT("\"content\":\"a \\\"b\\\" \\u00e9\",\"refusal\":null,\"annotations\":[]"), true },
        { RP_WIRE_CHAT, X_CHAT_HEAD "\"system_fingerprint\":\"f\",\"choices\":["
          X_CHOICE("\"content\":\"a \\\"b\\\" \303\251\"", ",\"logprobs\":null") "]" X_CHAT_USAGE "}", true },
        { RP_WIRE_MESSAGES, MESSAGE("{\"type\":\"text\",\"text\":\"a \\\"b\\\" \\u00e9\"}", ""), true },
        { RP_WIRE_RESPONSES, RESPONSE(OUTPUT_TEXT, ""), true },
        /* What the other side has no place for. */
        { RP_WIRE_CHAT, X_CHAT("\"content\":\"a\",\"reasoning_content\":\"because\""), false },
        { RP_WIRE_CHAT, X_CHAT("\"content\":\"a\",\"annotations\":[{\"type\":\"url_citation\"}]"), false },
        { RP_WIRE_CHAT, X_CHAT("\"content\":[{\"type\":\"text\",\"text\":\"a\"}]"), false },
        { RP_WIRE_CHAT, X_CHAT("\"content\":null,\"tool_calls\":[{\"id\":\"t\",\"type\":\"function\","
                             "\"function\":{\"name\":\"f\",\"arguments\":\"{}\"}}]"), false },
        { RP_WIRE_CHAT, X_CHAT_HEAD "\"choices\":[" X_CHOICE("\"content\":\"a\"", "") ","
          X_CHOICE("\"content\":\"b\"", "") "]" X_CHAT_USAGE "}", false },
        { RP_WIRE_CHAT, X_CHAT_HEAD "\"choices\":[" X_CHOICE("\"content\":\"a\"", ",\"logprobs\":{\"content\":"
          "[{\"token\":\"a\"}]}") "]" X_CHAT_USAGE "}", false },
        { RP_WIRE_CHAT, X_CHAT_HEAD "\"citations\":[\"x\"],\"choices\":[" X_CHOICE("\"content\":\"a\"", "") "]"
          X_CHAT_USAGE "}", false },
        { RP_WIRE_MESSAGES, MESSAGE("{\"type\":\"text\",\"text\":\"a\"},{\"type\":\"text\",\"text\":\"b\"}", ""),
          false },
        { RP_WIRE_MESSAGES, MESSAGE("{\"type\":\"thinking\",\"thinking\":\"h\",\"signature\":\"s\"},"
                                    "{\"type\":\"text\",\"text\":\"a\"}", ""), false },
        { RP_WIRE_MESSAGES, MESSAGE("{\"type\":\"text\",\"text\":\"a\",\"citations\":[{\"type\":\"x\"}]}", ""),
          false },
        { RP_WIRE_MESSAGES, MESSAGE("{\"type\":\"text\",\"text\":\"a\"}", ",\"container\":{\"id\":\"x\"}"), false },
        { RP_WIRE_RESPONSES, RESPONSE(OUTPUT_TEXT "," OUTPUT_TEXT, ""), false },
        { RP_WIRE_RESPONSES, RESPONSE(OUTPUT_TEXT, ",{\"type\":\"function_call\",\"id\":\"c\",\"call_id\":\"d\","
                                      "\"name\":\"f\",\"arguments\":\"{}\"}"), false },
        { RP_WIRE_RESPONSES, RESPONSE("{\"type\":\"output_text\",\"text\":\"a\",\"annotations\":"
                                      "[{\"type\":\"url_citation\"}]}", ""), false },
    };
    for (size_t i = 0; i < RP_COUNT(rows); i++)
        cross(*state, rows[i].wire, rows[i].body, rows[i].crosses);
    /* Completions, embeddings and bare prompts have no part in it. */
    fixture *f = *state;
    const rp_reply *reply;
    assert_int_equal(read_pieces(f, RP_WIRE_CHAT, 200, false, rp_str_of(X_CHAT("\"content\":\"a\"")), 1000, NULL),
                     RP_REPLY_GOOD);
    assert_int_equal(rp_reply_open(rp_buffer_str(&f->encoded), &f->arena, &reply), RP_OK);
    for (int wire = 0; wire < RP_WIRE_COUNT; wire++)
        if (wire == RP_WIRE_COMPLETIONS || wire == RP_WIRE_EMBEDDINGS || wire == RP_WIRE_PROMPT) {
            const rp_replay_options options = { .wire = (rp_wire)wire };
            assert_int_equal(rp_reply_replay(reply, &options, &f->out), RP_ERR_UNSUPPORTED);
        }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_only_whole_and_successful_replies_are_kept),
        cmocka_unit_test(test_a_body_replays_as_itself_but_for_id_and_created),
        cmocka_unit_test(test_a_body_answers_a_stream),
        cmocka_unit_test(test_a_stream_answers_a_body),
        cmocka_unit_test(test_unknown_usage_is_not_invented),
        cmocka_unit_test(test_only_whole_streams_are_kept),
        cmocka_unit_test(test_tool_calls_keep_their_fragments),
        cmocka_unit_test(test_a_form_that_cannot_hold_every_field_is_refused),
        cmocka_unit_test(test_body_to_stream_to_body_changes_nothing),
        cmocka_unit_test(test_completions_go_both_ways),
        cmocka_unit_test(test_anthropic_messages_go_both_ways),
        cmocka_unit_test(test_responses_go_both_ways),
        cmocka_unit_test(test_pieces_end_between_words_and_never_within_a_character),
        cmocka_unit_test(test_spans_that_contradict_each_other_are_refused),
        cmocka_unit_test(test_damaged_bytes_are_refused_or_harmless),
        cmocka_unit_test(test_plain_text_crosses_between_wires_and_nothing_else),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
