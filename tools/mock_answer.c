/* mock_answer.c - see mock_llm.h. First an answer in neutral form, then one
 * function a protocol that writes it as a body or as events. */
#include "tools/mock_llm.h"

#include "base/bytes.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/random.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

/* ---- faults ----------------------------------------------------------------- */

static const char *const fault_names[MOCK_FAULT_COUNT] = {
    "none",      "status",   "reset",     "reset-mid", "stall",       "stall-mid", "truncate",
    "short",     "long",     "garbage",   "bad-json",  "slow-head",   "empty",     "error-event",
    "refusal",   "filter",
};

bool
mock_fault_parse(rp_str text, mock_fault *fault, int *status)
{
    const rp_str name = rp_str_split(&text, '=');
    for (int i = 0; i < MOCK_FAULT_COUNT; i++) {
        if (!rp_str_equal(name, rp_str_of(fault_names[i])))
            continue;
        uint64_t code = 500;
        if (text.len && (!rp_str_to_u64(text, &code) || code < 300 || code > 599))
            return false;
        *fault = (mock_fault)i;
        *status = (int)code;
        return true;
    }
    return false;
}

/* ---- script ----------------------------------------------------------------- */

typedef struct script_row {
    rp_str prompt, answer, model; /* model empty: any */
    mock_fault fault;
    int fault_status;
    int64_t delay_us; /* -1: none */
} script_row;

struct mock_script {
    rp_arena arena;
    script_row *rows; /* open addressing by the prompt's hash; an empty row has prompt.ptr NULL */
    size_t capacity;
};

static rp_status
read_row(mock_script *script, const rp_json *json, script_row *row, const char *path, size_t line,
         rp_error *error)
{
    const rp_json *prompt = rp_json_get(json, "prompt");
    if (!prompt || prompt->type != RP_JSON_STRING)
        return rp_fail(error, RP_ERR_INVALID, "%s:%zu: a row needs a string \"prompt\"", path, line);
    *row = (script_row){ .prompt = rp_arena_copy(&script->arena, prompt->string),
                         .answer = rp_arena_copy(&script->arena, rp_json_string(rp_json_get(json, "answer"))),
                         .model = rp_arena_copy(&script->arena, rp_json_string(rp_json_get(json, "model"))),
                         .delay_us = -1 };
    int64_t delay_ms;
    if (rp_json_to_int64(rp_json_get(json, "delay_ms"), &delay_ms) && delay_ms >= 0 && delay_ms < 1000000)
        row->delay_us = delay_ms * 1000;
    const rp_str fault = rp_json_string(rp_json_get(json, "fault"));
    if (fault.len && !mock_fault_parse(fault, &row->fault, &row->fault_status))
        return rp_fail(error, RP_ERR_INVALID, "%s:%zu: unknown fault", path, line);
    return rp_arena_failed(&script->arena) ? RP_ERR_NOMEM : RP_OK;
}

static script_row *
find_row(const mock_script *script, rp_str prompt, rp_str model)
{
    size_t at = rp_hash64(prompt) & (script->capacity - 1);
    for (; script->rows[at].prompt.ptr; at = (at + 1) & (script->capacity - 1))
        if (rp_str_equal(script->rows[at].prompt, prompt) &&
            (script->rows[at].model.len == 0 || rp_str_equal(script->rows[at].model, model)))
            break;
    return &script->rows[at];
}

static rp_status
read_rows(mock_script *script, rp_str bytes, const char *path, rp_json_reader *reader, rp_error *error)
{
    rp_arena scratch;
    rp_arena_init(&scratch, 0);
    rp_status status = RP_OK;
    for (size_t line = 1; bytes.len && status == RP_OK; line++) {
        const rp_str text = rp_str_trimmed(rp_str_split(&bytes, '\n'));
        const rp_json *json;
        script_row row;
        if (text.len == 0)
            continue;
        rp_arena_reset(&scratch);
        if (rp_json_parse(reader, &scratch, text, &json, NULL) != RP_OK)
            status = rp_fail(error, RP_ERR_INVALID, "%s:%zu: not a JSON object", path, line);
        else if ((status = read_row(script, json, &row, path, line, error)) == RP_OK)
            *find_row(script, row.prompt, row.model) = row; /* a later row replaces an earlier one */
    }
    rp_arena_fini(&scratch);
    return status;
}

rp_status
mock_script_load(const char *path, mock_script **out, rp_error *error)
{
    rp_buffer bytes;
    rp_buffer_init(&bytes, 0);
    rp_json_reader *reader = NULL;
    mock_script *script = calloc(1, sizeof *script);
    rp_status status = script ? rp_json_reader_new(&reader) : RP_ERR_NOMEM;
    if (status == RP_OK)
        status = rp_file_read(path, 256 << 20, &bytes, error);
    if (status == RP_OK) {
        rp_arena_init(&script->arena, 0);
        size_t lines = 1;
        for (size_t i = 0; i < bytes.len; i++)
            lines += bytes.ptr[i] == '\n';
        for (script->capacity = 16; script->capacity < lines * 2;)
            script->capacity *= 2;
        script->rows = calloc(script->capacity, sizeof *script->rows);
        status = script->rows ? read_rows(script, rp_buffer_str(&bytes), path, reader, error)
                              : RP_ERR_NOMEM;
    }
    rp_json_reader_free(reader);
    rp_buffer_fini(&bytes);
    if (status == RP_OK)
        *out = script;
    else
        mock_script_free(script);
    return status;
}

void
mock_script_free(mock_script *script)
{
    if (!script)
        return;
    rp_arena_fini(&script->arena);
    free(script->rows);
    free(script);
}

/* ---- the answer in neutral form --------------------------------------------- */

typedef struct answer {
    rp_str id, model, text;  /* text may be empty with a tool call */
    rp_str tool_name, tool_arguments; /* tool_name empty: no call */
    const char *finish;      /* stop, length, tool_calls, content_filter */
    bool refusal;
    int64_t created, input_tokens, output_tokens;
    int64_t choice_count;
    bool logprobs, include_usage;
} answer;

/* Words stand for tokens: close enough for a stand-in, and easy to check by hand. */
static int64_t
count_words(rp_str text)
{
    int64_t count = 0;
    bool inside = false;
    for (size_t i = 0; i < text.len; i++) {
        const bool space = text.ptr[i] == ' ' || text.ptr[i] == '\n' || text.ptr[i] == '\t';
        count += !space && !inside;
        inside = !space;
    }
    return count;
}

static void
append_text(const rp_json *content, rp_buffer *out)
{
    if (!content)
        return;
    if (content->type == RP_JSON_STRING) {
        rp_buffer_append(out, content->string);
        return;
    }
    for (uint32_t i = 0; content->type == RP_JSON_ARRAY && i < content->count; i++) {
        const rp_json *part = &content->children[i];
        const rp_str text = part->type == RP_JSON_STRING ? part->string
                                                         : rp_json_string(rp_json_get(part, "text"));
        if (i && text.len)
            rp_buffer_append_char(out, '\n');
        rp_buffer_append(out, text);
    }
}

/* The last user turn, and all text (for the token count). */
static void
read_prompt(mock_api api, const rp_json *body, rp_buffer *last, rp_buffer *all, bool *after_tool)
{
    const rp_json *messages = rp_json_get(body, api == MOCK_RESPONSES ? "input" : "messages");
    if (api == MOCK_COMPLETIONS || api == MOCK_EMBEDDINGS ||
        (messages && messages->type == RP_JSON_STRING)) {
        const rp_json *text = api == MOCK_EMBEDDINGS    ? rp_json_get(body, "input")
                              : api == MOCK_COMPLETIONS ? rp_json_get(body, "prompt")
                                                        : messages;
        append_text(text, last);
        append_text(text, all);
        return;
    }
    append_text(rp_json_get(body, "system"), all);
    append_text(rp_json_get(body, "instructions"), all);
    for (uint32_t i = 0; messages && messages->type == RP_JSON_ARRAY && i < messages->count; i++) {
        const rp_json *message = &messages->children[i];
        const rp_str role = rp_json_string(rp_json_get(message, "role"));
        rp_buffer_append_char(all, '\n');
        append_text(rp_json_get(message, "content"), all);
        if (rp_str_equal(role, RP_STR("user"))) {
            rp_buffer_clear(last);
            append_text(rp_json_get(message, "content"), last);
        }
        *after_tool = rp_str_equal(role, RP_STR("tool"));
    }
}

static rp_str
make_text(const mock_options *options, rp_str prompt, rp_str model, rp_arena *arena)
{
    static const char *const words[] = {
        "the",   "answer", "depends",  "on",     "your",     "account", "plan",   "first", "open",
        "page",  "then",   "choose",   "which",  "settings", "apply",   "and",    "save",  "it",
        "after", "that",   "everything", "works", "as",      "before",  "unless", "a",     "limit",
    };
    rp_buffer out;
    rp_buffer_init(&out, 0);
    rp_buffer_append(&out, RP_STR("Answer to: "));
    rp_buffer_append(&out, prompt);
    rp_buffer_append(&out, RP_STR("\n"));
    rp_random random;
    rp_random_init(&random, rp_hash64_seeded(prompt, options->seed ^ rp_hash64(model)));
    for (size_t i = 0; i < options->answer_words; i++)
        rp_buffer_printf(&out, "%s%s", i ? " " : "", words[rp_random_below(&random, RP_COUNT(words))]);
    rp_buffer_append(&out, RP_STR("."));
    const rp_str text = rp_arena_copy(arena, rp_buffer_str(&out));
    rp_buffer_fini(&out);
    return text;
}

/* The first `count` words, as a limit on tokens would leave them. */
static rp_str
cut_words(rp_str text, int64_t count)
{
    bool inside = false;
    for (size_t i = 0; i < text.len; i++) {
        const bool space = text.ptr[i] == ' ' || text.ptr[i] == '\n' || text.ptr[i] == '\t';
        if (!space && !inside && count-- == 0)
            return (rp_str){ text.ptr, i };
        inside = !space;
    }
    return text;
}

static bool
wants_tool(const rp_json *body, bool after_tool, rp_str *name)
{
    const rp_json *tools = rp_json_get(body, "tools");
    const rp_json *choice = rp_json_get(body, "tool_choice");
    if (!tools || tools->type != RP_JSON_ARRAY || tools->count == 0 || after_tool ||
        rp_str_equal(rp_json_string(choice), RP_STR("none")))
        return false;
    const rp_json *function = rp_json_get(&tools->children[0], "function");
    *name = rp_json_string(rp_json_get(function ? function : &tools->children[0], "name"));
    return name->len > 0;
}

static rp_status
make_answer(const mock_options *options, mock_api api, const rp_json *body, uint64_t sequence,
            mock_fault fault, rp_arena *arena, answer *out, mock_reply *reply)
{
    rp_buffer last, all;
    rp_buffer_init(&last, 0);
    rp_buffer_init(&all, 0);
    bool after_tool = false;
    read_prompt(api, body, &last, &all, &after_tool);
    const rp_str prompt = rp_arena_copy(arena, rp_buffer_str(&last));
    const rp_str model = rp_json_string(rp_json_get(body, "model"));
    *out = (answer){ .model = model.len ? model : RP_STR("mock-small"),
                     .finish = "stop",
                     .choice_count = 1,
                     /* Ids differ from call to call, as a service's do. */
                     .id = rp_arena_printf(arena, "%016" PRIx64 "%08" PRIx64, rp_hash64(prompt), sequence),
                     .created = 1700000000 + (int64_t)sequence,
                     .input_tokens = count_words(rp_buffer_str(&all)) };
    rp_buffer_fini(&last);
    rp_buffer_fini(&all);

    const script_row *row = options->script ? find_row(options->script, prompt, model) : NULL;
    if (row && row->prompt.ptr) {
        out->text = row->answer;
        reply->fault = row->fault;
        reply->fault_status = row->fault_status;
        reply->delay_us = row->delay_us;
    } else {
        out->text = make_text(options, prompt, model, arena);
    }
    if (fault == MOCK_FAULT_NONE)
        fault = reply->fault;
    int64_t max_tokens;
    if ((rp_json_to_int64(rp_json_get(body, "max_tokens"), &max_tokens) ||
         rp_json_to_int64(rp_json_get(body, "max_completion_tokens"), &max_tokens) ||
         rp_json_to_int64(rp_json_get(body, "max_output_tokens"), &max_tokens)) &&
        max_tokens >= 0 && max_tokens < count_words(out->text)) {
        out->text = cut_words(out->text, max_tokens);
        out->finish = "length";
    }
    if (wants_tool(body, after_tool, &out->tool_name)) {
        rp_buffer arguments;
        rp_buffer_init(&arguments, 0);
        rp_buffer_append(&arguments, RP_STR("{\"input\":"));
        rp_json_write_string(prompt, &arguments);
        rp_buffer_append_char(&arguments, '}');
        out->tool_arguments = rp_arena_copy(arena, rp_buffer_str(&arguments));
        rp_buffer_fini(&arguments);
        out->text = (rp_str){ "", 0 };
        out->finish = "tool_calls";
    }
    if (fault == MOCK_FAULT_EMPTY)
        out->text = (rp_str){ "", 0 };
    if (fault == MOCK_FAULT_FILTER)
        out->finish = "content_filter";
    out->refusal = fault == MOCK_FAULT_REFUSAL;
    int64_t n;
    if (rp_json_to_int64(rp_json_get(body, "n"), &n) && n > 0 && n <= 16)
        out->choice_count = n;
    const rp_json *logprobs = rp_json_get(body, "logprobs");
    out->logprobs = logprobs && (rp_json_is_true(logprobs) || logprobs->type == RP_JSON_INT);
    out->include_usage = rp_json_is_true(rp_json_get(rp_json_get(body, "stream_options"), "include_usage"));
    out->output_tokens = (count_words(out->text) + count_words(out->tool_arguments)) * out->choice_count;
    return rp_arena_failed(arena) ? RP_ERR_NOMEM : RP_OK;
}

/* ---- writing ---------------------------------------------------------------- */

typedef struct event_list {
    rp_arena *arena;
    rp_str *items; /* in the arena */
    size_t count, capacity;
} event_list;

/* Take what `data` holds as one event; `type` NULL: no `event:` line. */
static void
add_event(event_list *list, const char *type, rp_buffer *data)
{
    if (list->count == list->capacity) {
        const size_t capacity = list->capacity ? list->capacity * 2 : 32;
        rp_str *grown = rp_arena_alloc(list->arena, capacity * sizeof *grown);
        if (!grown)
            return;
        if (list->count)
            memcpy(grown, list->items, list->count * sizeof *grown);
        list->items = grown;
        list->capacity = capacity;
    }
    list->items[list->count++] =
        type ? rp_arena_printf(list->arena, "event: %s\ndata: %.*s\n\n", type, RP_FMT(rp_buffer_str(data)))
             : rp_arena_printf(list->arena, "data: %.*s\n\n", RP_FMT(rp_buffer_str(data)));
    rp_buffer_clear(data);
}

static void
write_usage(const answer *a, rp_json_writer *w)
{
    rp_json_open(w, '{');
    rp_json_key(w, "prompt_tokens");
    rp_json_put_int(w, a->input_tokens);
    rp_json_key(w, "completion_tokens");
    rp_json_put_int(w, a->output_tokens);
    rp_json_key(w, "total_tokens");
    rp_json_put_int(w, a->input_tokens + a->output_tokens);
    rp_json_key(w, "prompt_tokens_details");
    rp_json_open(w, '{');
    rp_json_key(w, "cached_tokens");
    rp_json_put_int(w, 0);
    rp_json_close(w, '}');
    rp_json_close(w, '}');
}

static void
write_logprobs(const answer *a, rp_json_writer *w)
{
    if (!a->logprobs) {
        rp_json_put_null(w);
        return;
    }
    rp_json_put_raw(w, RP_STR("{\"content\":[{\"token\":\"Answer\",\"logprob\":-0.01,\"bytes\":null,"
                              "\"top_logprobs\":[]}],\"refusal\":null}"));
}

static void
write_tool_call(const answer *a, int64_t choice, bool in_stream, rp_str arguments, rp_json_writer *w)
{
    rp_json_key(w, "tool_calls");
    rp_json_open(w, '[');
    rp_json_open(w, '{');
    if (in_stream) {
        rp_json_key(w, "index");
        rp_json_put_int(w, 0);
    }
    if (!in_stream || arguments.len == 0) {
        char id[64];
        snprintf(id, sizeof id, "call_%.*s_%" PRId64, (int)RP_MIN(a->id.len, (size_t)24), a->id.ptr, choice);
        rp_json_key(w, "id");
        rp_json_put_cstring(w, id);
        rp_json_key(w, "type");
        rp_json_put_cstring(w, "function");
    }
    rp_json_key(w, "function");
    rp_json_open(w, '{');
    if (!in_stream || arguments.len == 0) {
        rp_json_key(w, "name");
        rp_json_put_string(w, a->tool_name);
    }
    rp_json_key(w, "arguments");
    rp_json_put_string(w, arguments);
    rp_json_close(w, '}');
    rp_json_close(w, '}');
    rp_json_close(w, ']');
}

/* Members that every chat or completions object begins with. */
static void
write_head(const answer *a, const char *prefix, const char *object, rp_json_writer *w)
{
    char id[80];
    snprintf(id, sizeof id, "%s%.*s", prefix, RP_FMT(a->id));
    rp_json_open(w, '{');
    rp_json_key(w, "id");
    rp_json_put_cstring(w, id);
    rp_json_key(w, "object");
    rp_json_put_cstring(w, object);
    rp_json_key(w, "created");
    rp_json_put_int(w, a->created);
    rp_json_key(w, "model");
    rp_json_put_string(w, a->model);
    rp_json_key(w, "system_fingerprint");
    rp_json_put_cstring(w, "fp_mock");
}

static void
write_chat_body(const answer *a, rp_buffer *out)
{
    rp_json_writer w;
    rp_json_writer_init(&w, out);
    write_head(a, "chatcmpl-", "chat.completion", &w);
    rp_json_key(&w, "choices");
    rp_json_open(&w, '[');
    for (int64_t i = 0; i < a->choice_count; i++) {
        rp_json_open(&w, '{');
        rp_json_key(&w, "index");
        rp_json_put_int(&w, i);
        rp_json_key(&w, "message");
        rp_json_open(&w, '{');
        rp_json_key(&w, "role");
        rp_json_put_cstring(&w, "assistant");
        rp_json_key(&w, "content");
        if (a->tool_name.len || a->refusal)
            rp_json_put_null(&w);
        else
            rp_json_put_string(&w, a->text);
        rp_json_key(&w, "refusal");
        rp_json_put_cstring(&w, a->refusal ? "I cannot help with that." : NULL);
        if (a->tool_name.len)
            write_tool_call(a, i, false, a->tool_arguments, &w);
        rp_json_close(&w, '}');
        rp_json_key(&w, "logprobs");
        write_logprobs(a, &w);
        rp_json_key(&w, "finish_reason");
        rp_json_put_cstring(&w, a->finish);
        rp_json_close(&w, '}');
    }
    rp_json_close(&w, ']');
    rp_json_key(&w, "usage");
    write_usage(a, &w);
    rp_json_close(&w, '}');
}

/* One chunk; `delta` is JSON, `finish` NULL for none. */
static void
add_chat_chunk(const answer *a, int64_t choice, rp_str delta, const char *finish, event_list *events,
               rp_buffer *data)
{
    rp_json_writer w;
    rp_json_writer_init(&w, data);
    write_head(a, "chatcmpl-", "chat.completion.chunk", &w);
    rp_json_key(&w, "choices");
    rp_json_open(&w, '[');
    rp_json_open(&w, '{');
    rp_json_key(&w, "index");
    rp_json_put_int(&w, choice);
    rp_json_key(&w, "delta");
    rp_json_put_raw(&w, delta);
    rp_json_key(&w, "logprobs");
    rp_json_put_null(&w);
    rp_json_key(&w, "finish_reason");
    rp_json_put_cstring(&w, finish);
    rp_json_close(&w, '}');
    rp_json_close(&w, ']');
    if (a->include_usage) {
        rp_json_key(&w, "usage");
        rp_json_put_null(&w);
    }
    rp_json_close(&w, '}');
    add_event(events, NULL, data);
}

/* The next word with the space before it: what a service sends as one token. */
static rp_str
take_token(rp_str *rest)
{
    size_t size = 1;
    while (size < rest->len && rest->ptr[size] != ' ' && rest->ptr[size] != '\n')
        size++;
    const rp_str token = { rest->ptr, RP_MIN(size, rest->len) };
    *rest = (rp_str){ rest->ptr + token.len, rest->len - token.len };
    return token;
}

static void
add_chat_choice(const answer *a, int64_t choice, event_list *events, rp_buffer *data)
{
    rp_buffer delta;
    rp_json_writer w;
    rp_buffer_init(&delta, 0);
    add_chat_chunk(a, choice, RP_STR("{\"role\":\"assistant\",\"content\":\"\",\"refusal\":null}"), NULL,
                   events, data);
    rp_str rest = a->refusal ? RP_STR("I cannot help with that.")
                  : a->tool_name.len ? a->tool_arguments : a->text;
    if (a->tool_name.len) {
        rp_json_writer_init(&w, &delta);
        rp_json_open(&w, '{');
        write_tool_call(a, choice, true, (rp_str){ "", 0 }, &w);
        rp_json_close(&w, '}');
        add_chat_chunk(a, choice, rp_buffer_str(&delta), NULL, events, data);
    }
    while (rest.len) {
        const rp_str token = take_token(&rest);
        rp_buffer_clear(&delta);
        rp_json_writer_init(&w, &delta);
        rp_json_open(&w, '{');
        if (a->tool_name.len) {
            write_tool_call(a, choice, true, token, &w);
        } else {
            rp_json_key(&w, a->refusal ? "refusal" : "content");
            rp_json_put_string(&w, token);
        }
        rp_json_close(&w, '}');
        add_chat_chunk(a, choice, rp_buffer_str(&delta), NULL, events, data);
    }
    rp_buffer_fini(&delta);
}

static void
write_chat_stream(const answer *a, event_list *events, size_t *terminal)
{
    rp_buffer data;
    rp_buffer_init(&data, 0);
    for (int64_t i = 0; i < a->choice_count; i++)
        add_chat_choice(a, i, events, &data);
    const size_t before = events->count;
    for (int64_t i = 0; i < a->choice_count; i++)
        add_chat_chunk(a, i, RP_STR("{}"), a->finish, events, &data);
    if (a->include_usage) {
        rp_json_writer w;
        rp_json_writer_init(&w, &data);
        write_head(a, "chatcmpl-", "chat.completion.chunk", &w);
        rp_json_key(&w, "choices");
        rp_json_open(&w, '[');
        rp_json_close(&w, ']');
        rp_json_key(&w, "usage");
        write_usage(a, &w);
        rp_json_close(&w, '}');
        add_event(events, NULL, &data);
    }
    rp_buffer_append(&data, RP_STR("[DONE]"));
    add_event(events, NULL, &data);
    *terminal = events->count - before;
    rp_buffer_fini(&data);
}

static void
write_completion(const answer *a, rp_str text, const char *finish, bool usage, rp_buffer *out)
{
    rp_json_writer w;
    rp_json_writer_init(&w, out);
    write_head(a, "cmpl-", "text_completion", &w);
    rp_json_key(&w, "choices");
    rp_json_open(&w, '[');
    for (int64_t i = 0; i < a->choice_count; i++) {
        rp_json_open(&w, '{');
        rp_json_key(&w, "text");
        rp_json_put_string(&w, text);
        rp_json_key(&w, "index");
        rp_json_put_int(&w, i);
        rp_json_key(&w, "logprobs");
        rp_json_put_null(&w);
        rp_json_key(&w, "finish_reason");
        rp_json_put_cstring(&w, finish);
        rp_json_close(&w, '}');
    }
    rp_json_close(&w, ']');
    if (usage) {
        rp_json_key(&w, "usage");
        write_usage(a, &w);
    }
    rp_json_close(&w, '}');
}

static void
write_completions_stream(const answer *a, event_list *events, size_t *terminal)
{
    rp_buffer data;
    rp_buffer_init(&data, 0);
    for (rp_str rest = a->text; rest.len;) {
        write_completion(a, take_token(&rest), NULL, false, &data);
        add_event(events, NULL, &data);
    }
    const size_t before = events->count;
    write_completion(a, (rp_str){ "", 0 }, a->finish, a->include_usage, &data);
    add_event(events, NULL, &data);
    rp_buffer_append(&data, RP_STR("[DONE]"));
    add_event(events, NULL, &data);
    *terminal = events->count - before;
    rp_buffer_fini(&data);
}

/* Vectors of 8 numbers from the text's hash: equal texts, equal vectors. */
static void
write_embeddings(const answer *a, const rp_json *body, rp_buffer *out)
{
    const rp_json *input = rp_json_get(body, "input");
    const bool is_list = input && input->type == RP_JSON_ARRAY && input->count &&
                         input->children[0].type != RP_JSON_INT;
    rp_json_writer w;
    rp_json_writer_init(&w, out);
    rp_json_open(&w, '{');
    rp_json_key(&w, "object");
    rp_json_put_cstring(&w, "list");
    rp_json_key(&w, "data");
    rp_json_open(&w, '[');
    for (uint32_t i = 0; input && i < (is_list ? input->count : 1); i++) {
        rp_buffer text;
        rp_buffer_init(&text, 0);
        rp_json_write_canonical(is_list ? &input->children[i] : input, &text);
        rp_random random;
        rp_random_init(&random, rp_hash64(rp_buffer_str(&text)));
        rp_buffer_fini(&text);
        rp_json_open(&w, '{');
        rp_json_key(&w, "object");
        rp_json_put_cstring(&w, "embedding");
        rp_json_key(&w, "index");
        rp_json_put_int(&w, i);
        rp_json_key(&w, "embedding");
        rp_json_open(&w, '[');
        for (int j = 0; j < 8; j++)
            rp_json_put_double(&w, rint(rp_random_normal(&random) * 1e6) / 1e6);
        rp_json_close(&w, ']');
        rp_json_close(&w, '}');
    }
    rp_json_close(&w, ']');
    rp_json_key(&w, "model");
    rp_json_put_string(&w, a->model);
    rp_json_key(&w, "usage");
    rp_json_open(&w, '{');
    rp_json_key(&w, "prompt_tokens");
    rp_json_put_int(&w, a->input_tokens);
    rp_json_key(&w, "total_tokens");
    rp_json_put_int(&w, a->input_tokens);
    rp_json_close(&w, '}');
    rp_json_close(&w, '}');
}

/* ---- Responses -------------------------------------------------------------- */

static void
write_response_item(const answer *a, const char *status, bool with_text, rp_json_writer *w)
{
    char id[80];
    snprintf(id, sizeof id, "msg_%.*s", RP_FMT(a->id));
    rp_json_open(w, '{');
    rp_json_key(w, "id");
    rp_json_put_cstring(w, id);
    rp_json_key(w, "type");
    rp_json_put_cstring(w, "message");
    rp_json_key(w, "status");
    rp_json_put_cstring(w, status);
    rp_json_key(w, "role");
    rp_json_put_cstring(w, "assistant");
    rp_json_key(w, "content");
    rp_json_open(w, '[');
    if (with_text) {
        rp_json_open(w, '{');
        rp_json_key(w, "type");
        rp_json_put_cstring(w, "output_text");
        rp_json_key(w, "text");
        rp_json_put_string(w, a->text);
        rp_json_key(w, "annotations");
        rp_json_put_raw(w, RP_STR("[]"));
        rp_json_close(w, '}');
    }
    rp_json_close(w, ']');
    rp_json_close(w, '}');
}

static void
write_response(const answer *a, bool complete, rp_json_writer *w)
{
    char id[80];
    const bool cut = strcmp(a->finish, "length") == 0;
    snprintf(id, sizeof id, "resp_%.*s", RP_FMT(a->id));
    rp_json_open(w, '{');
    rp_json_key(w, "id");
    rp_json_put_cstring(w, id);
    rp_json_key(w, "object");
    rp_json_put_cstring(w, "response");
    rp_json_key(w, "created_at");
    rp_json_put_int(w, a->created);
    rp_json_key(w, "status");
    rp_json_put_cstring(w, !complete ? "in_progress" : cut ? "incomplete" : "completed");
    rp_json_key(w, "error");
    rp_json_put_null(w);
    rp_json_key(w, "incomplete_details");
    rp_json_put_raw(w, complete && cut ? RP_STR("{\"reason\":\"max_output_tokens\"}") : RP_STR("null"));
    rp_json_key(w, "model");
    rp_json_put_string(w, a->model);
    rp_json_key(w, "output");
    rp_json_open(w, '[');
    if (complete)
        write_response_item(a, "completed", true, w);
    rp_json_close(w, ']');
    rp_json_key(w, "parallel_tool_calls");
    rp_json_put_bool(w, true);
    rp_json_key(w, "tool_choice");
    rp_json_put_cstring(w, "auto");
    rp_json_key(w, "tools");
    rp_json_put_raw(w, RP_STR("[]"));
    rp_json_key(w, "usage");
    if (!complete) {
        rp_json_put_null(w);
    } else {
        rp_json_open(w, '{');
        rp_json_key(w, "input_tokens");
        rp_json_put_int(w, a->input_tokens);
        rp_json_key(w, "input_tokens_details");
        rp_json_put_raw(w, RP_STR("{\"cached_tokens\":0}"));
        rp_json_key(w, "output_tokens");
        rp_json_put_int(w, a->output_tokens);
        rp_json_key(w, "output_tokens_details");
        rp_json_put_raw(w, RP_STR("{\"reasoning_tokens\":0}"));
        rp_json_key(w, "total_tokens");
        rp_json_put_int(w, a->input_tokens + a->output_tokens);
        rp_json_close(w, '}');
    }
    rp_json_close(w, '}');
}

typedef struct response_stream {
    const answer *a;
    event_list *events;
    rp_buffer data;
    rp_json_writer w;
    int64_t sequence;
    char item_id[80];
} response_stream;

static void
begin_response_event(response_stream *s, const char *type)
{
    rp_json_writer_init(&s->w, &s->data);
    rp_json_open(&s->w, '{');
    rp_json_key(&s->w, "type");
    rp_json_put_cstring(&s->w, type);
    rp_json_key(&s->w, "sequence_number");
    rp_json_put_int(&s->w, s->sequence++);
}

static void
put_response_place(response_stream *s, bool with_content)
{
    rp_json_key(&s->w, "output_index");
    rp_json_put_int(&s->w, 0);
    if (with_content) {
        rp_json_key(&s->w, "item_id");
        rp_json_put_cstring(&s->w, s->item_id);
        rp_json_key(&s->w, "content_index");
        rp_json_put_int(&s->w, 0);
    }
}

static void
end_response_event(response_stream *s, const char *type)
{
    rp_json_close(&s->w, '}');
    add_event(s->events, type, &s->data);
}

static void
add_response_event(response_stream *s, const char *type, bool complete)
{
    begin_response_event(s, type);
    rp_json_key(&s->w, "response");
    write_response(s->a, complete, &s->w);
    end_response_event(s, type);
}

static void
add_response_part(response_stream *s, const char *type, rp_str text)
{
    begin_response_event(s, type);
    put_response_place(s, true);
    rp_json_key(&s->w, "part");
    rp_json_open(&s->w, '{');
    rp_json_key(&s->w, "type");
    rp_json_put_cstring(&s->w, "output_text");
    rp_json_key(&s->w, "text");
    rp_json_put_string(&s->w, text);
    rp_json_key(&s->w, "annotations");
    rp_json_put_raw(&s->w, RP_STR("[]"));
    rp_json_close(&s->w, '}');
    end_response_event(s, type);
}

static void
add_response_text(response_stream *s, const char *type, const char *member, rp_str text)
{
    begin_response_event(s, type);
    put_response_place(s, true);
    rp_json_key(&s->w, member);
    rp_json_put_string(&s->w, text);
    rp_json_key(&s->w, "logprobs");
    rp_json_put_raw(&s->w, RP_STR("[]"));
    end_response_event(s, type);
}

static void
add_response_item(response_stream *s, const char *type, bool done)
{
    begin_response_event(s, type);
    put_response_place(s, false);
    rp_json_key(&s->w, "item");
    write_response_item(s->a, done ? "completed" : "in_progress", done, &s->w);
    end_response_event(s, type);
}

static void
write_responses_stream(const answer *a, event_list *events, size_t *terminal)
{
    response_stream s = { .a = a, .events = events };
    rp_buffer_init(&s.data, 0);
    snprintf(s.item_id, sizeof s.item_id, "msg_%.*s", RP_FMT(a->id));
    add_response_event(&s, "response.created", false);
    add_response_event(&s, "response.in_progress", false);
    add_response_item(&s, "response.output_item.added", false);
    add_response_part(&s, "response.content_part.added", (rp_str){ "", 0 });
    for (rp_str rest = a->text; rest.len;)
        add_response_text(&s, "response.output_text.delta", "delta", take_token(&rest));
    const size_t before = events->count;
    add_response_text(&s, "response.output_text.done", "text", a->text);
    add_response_part(&s, "response.content_part.done", a->text);
    add_response_item(&s, "response.output_item.done", true);
    add_response_event(&s, strcmp(a->finish, "length") == 0 ? "response.incomplete" : "response.completed",
                       true);
    *terminal = events->count - before;
    rp_buffer_fini(&s.data);
}

/* ---- Messages --------------------------------------------------------------- */

static const char *
stop_reason(const answer *a)
{
    return strcmp(a->finish, "length") == 0       ? "max_tokens"
           : strcmp(a->finish, "tool_calls") == 0 ? "tool_use"
           : a->refusal                           ? "refusal"
                                                  : "end_turn";
}

static void
write_message(const answer *a, bool complete, rp_json_writer *w)
{
    char id[80];
    snprintf(id, sizeof id, "msg_%.*s", RP_FMT(a->id));
    rp_json_open(w, '{');
    rp_json_key(w, "id");
    rp_json_put_cstring(w, id);
    rp_json_key(w, "type");
    rp_json_put_cstring(w, "message");
    rp_json_key(w, "role");
    rp_json_put_cstring(w, "assistant");
    rp_json_key(w, "model");
    rp_json_put_string(w, a->model);
    rp_json_key(w, "content");
    rp_json_open(w, '[');
    if (complete && a->tool_name.len) {
        rp_json_open(w, '{');
        rp_json_key(w, "type");
        rp_json_put_cstring(w, "tool_use");
        rp_json_key(w, "id");
        rp_json_put_cstring(w, "toolu_mock");
        rp_json_key(w, "name");
        rp_json_put_string(w, a->tool_name);
        rp_json_key(w, "input");
        rp_json_put_raw(w, a->tool_arguments);
        rp_json_close(w, '}');
    } else if (complete) {
        rp_json_open(w, '{');
        rp_json_key(w, "type");
        rp_json_put_cstring(w, "text");
        rp_json_key(w, "text");
        rp_json_put_string(w, a->text);
        rp_json_close(w, '}');
    }
    rp_json_close(w, ']');
    rp_json_key(w, "stop_reason");
    rp_json_put_cstring(w, complete ? stop_reason(a) : NULL);
    rp_json_key(w, "stop_sequence");
    rp_json_put_null(w);
    rp_json_key(w, "usage");
    rp_json_open(w, '{');
    rp_json_key(w, "input_tokens");
    rp_json_put_int(w, a->input_tokens);
    rp_json_key(w, "output_tokens");
    rp_json_put_int(w, complete ? a->output_tokens : 1);
    rp_json_close(w, '}');
    rp_json_close(w, '}');
}

static void
write_messages_stream(const answer *a, event_list *events, size_t *terminal)
{
    rp_buffer data;
    rp_json_writer w;
    rp_buffer_init(&data, 0);
    rp_json_writer_init(&w, &data);
    rp_json_open(&w, '{');
    rp_json_key(&w, "type");
    rp_json_put_cstring(&w, "message_start");
    rp_json_key(&w, "message");
    write_message(a, false, &w);
    rp_json_close(&w, '}');
    add_event(events, "message_start", &data);
    rp_buffer_append(&data, RP_STR("{\"type\":\"ping\"}"));
    add_event(events, "ping", &data);

    rp_json_writer_init(&w, &data);
    rp_json_open(&w, '{');
    rp_json_key(&w, "type");
    rp_json_put_cstring(&w, "content_block_start");
    rp_json_key(&w, "index");
    rp_json_put_int(&w, 0);
    rp_json_key(&w, "content_block");
    rp_json_open(&w, '{');
    rp_json_key(&w, "type");
    rp_json_put_cstring(&w, a->tool_name.len ? "tool_use" : "text");
    if (a->tool_name.len) {
        rp_json_key(&w, "id");
        rp_json_put_cstring(&w, "toolu_mock");
        rp_json_key(&w, "name");
        rp_json_put_string(&w, a->tool_name);
        rp_json_key(&w, "input");
        rp_json_put_raw(&w, RP_STR("{}"));
    } else {
        rp_json_key(&w, "text");
        rp_json_put_cstring(&w, "");
    }
    rp_json_close(&w, '}');
    rp_json_close(&w, '}');
    add_event(events, "content_block_start", &data);
    for (rp_str rest = a->tool_name.len ? a->tool_arguments : a->text; rest.len;) {
        rp_json_writer_init(&w, &data);
        rp_json_open(&w, '{');
        rp_json_key(&w, "type");
        rp_json_put_cstring(&w, "content_block_delta");
        rp_json_key(&w, "index");
        rp_json_put_int(&w, 0);
        rp_json_key(&w, "delta");
        rp_json_open(&w, '{');
        rp_json_key(&w, "type");
        rp_json_put_cstring(&w, a->tool_name.len ? "input_json_delta" : "text_delta");
        rp_json_key(&w, a->tool_name.len ? "partial_json" : "text");
        rp_json_put_string(&w, take_token(&rest));
        rp_json_close(&w, '}');
        rp_json_close(&w, '}');
        add_event(events, "content_block_delta", &data);
    }
    const size_t before = events->count;
    rp_buffer_append(&data, RP_STR("{\"type\":\"content_block_stop\",\"index\":0}"));
    add_event(events, "content_block_stop", &data);
    rp_buffer_printf(&data,
                     "{\"type\":\"message_delta\",\"delta\":{\"stop_reason\":\"%s\",\"stop_sequence\":null},"
                     "\"usage\":{\"output_tokens\":%" PRId64 "}}",
                     stop_reason(a), a->output_tokens);
    add_event(events, "message_delta", &data);
    rp_buffer_append(&data, RP_STR("{\"type\":\"message_stop\"}"));
    add_event(events, "message_stop", &data);
    *terminal = events->count - before;
    rp_buffer_fini(&data);
}

/* ---- the whole -------------------------------------------------------------- */

static void
write_body(const answer *a, mock_api api, const rp_json *request, rp_buffer *out)
{
    rp_json_writer w;
    rp_json_writer_init(&w, out);
    switch (api) {
    case MOCK_CHAT: write_chat_body(a, out); break;
    case MOCK_COMPLETIONS: write_completion(a, a->text, a->finish, true, out); break;
    case MOCK_EMBEDDINGS: write_embeddings(a, request, out); break;
    case MOCK_RESPONSES: write_response(a, true, &w); break;
    case MOCK_MESSAGES: write_message(a, true, &w); break;
    }
}

static void
write_stream(const answer *a, mock_api api, event_list *events, size_t *terminal)
{
    switch (api) {
    case MOCK_CHAT: write_chat_stream(a, events, terminal); break;
    case MOCK_COMPLETIONS: write_completions_stream(a, events, terminal); break;
    case MOCK_RESPONSES: write_responses_stream(a, events, terminal); break;
    case MOCK_MESSAGES: write_messages_stream(a, events, terminal); break;
    case MOCK_EMBEDDINGS: break;
    }
}

rp_status
mock_answer(const mock_options *options, mock_api api, const rp_json *body, uint64_t sequence,
            mock_fault fault, rp_arena *arena, mock_reply *out)
{
    *out = (mock_reply){ .status = 200, .delay_us = -1 };
    answer a;
    rp_status status = make_answer(options, api, body, sequence, fault, arena, &a, out);
    if (status != RP_OK)
        return status;
    out->stream = api != MOCK_EMBEDDINGS && rp_json_is_true(rp_json_get(body, "stream"));
    if (out->stream) {
        event_list events = { .arena = arena };
        write_stream(&a, api, &events, &out->terminal_count);
        out->events = events.items;
        out->event_count = events.count;
    } else {
        rp_buffer buffer;
        rp_buffer_init(&buffer, 0);
        write_body(&a, api, body, &buffer);
        out->body = rp_arena_copy(arena, rp_buffer_str(&buffer));
        rp_buffer_fini(&buffer);
    }
    return rp_arena_failed(arena) ? RP_ERR_NOMEM : RP_OK;
}
