/* shared_wires.c - one answer for several protocols, where a route asks for it.
 *
 * Requests: what chat, responses and messages write under different names is brought
 * under one, so that equal questions get equal scopes:
 *
 *     responses  input                 -> messages
 *     responses  instructions          -> a system message in front
 *     messages   system                -> a system message in front
 *     responses  max_output_tokens     -> max_tokens
 *     chat       max_completion_tokens -> max_tokens
 *
 * Everything else keeps its name and separates by it. A Responses request whose reply the
 * service would keep under its id stays apart: no other service knows that id.
 *
 * Replies: only plain text crosses - one answer, one piece of text, an ordinary end. It is
 * read from the stored body, written as a body of the other protocol and replayed as any
 * body of that is. What has members that the other protocol has no place for (calls,
 * reasoning, citations, refusals, probabilities, names that nobody knows) does not cross.
 * Dropped are only names for the service's own books (system_fingerprint, service_tier),
 * echoes of the request, and the breakdown of usage, of which the totals cross. */
#include "wire/wire_internal.h"

#include "base/bytes.h"

#include <stdlib.h>

/* ---- requests ---------------------------------------------------------------------------- */

static bool
is_named(rp_str name, const char *wanted)
{
    return rp_str_equal(name, rp_str_of(wanted));
}

static const rp_field *
find_field(const rp_request *request, const char *name)
{
    for (size_t i = 0; i < request->field_count; i++)
        if (is_named(request->fields[i].name, name))
            return &request->fields[i];
    return NULL;
}

static int
compare_fields(const void *a, const void *b)
{
    return rp_str_compare(((const rp_field *)a)->name, ((const rp_field *)b)->name);
}

/* `messages` with a system message in front; both are canonical JSON. */
static rp_str
with_system(rp_str messages, rp_str system, rp_arena *arena)
{
    const rp_str rest = { messages.ptr + 1, messages.len - 1 };
    return rp_arena_printf(arena, "[{\"content\":%.*s,\"role\":\"system\"}%s%.*s", RP_FMT(system),
                           rest.ptr[0] == ']' ? "" : ",", RP_FMT(rest));
}

const rp_request *
rp_request_share(const rp_request *request, rp_arena *arena)
{
    const bool is_responses = request->wire == RP_WIRE_RESPONSES;
    if ((request->wire != RP_WIRE_CHAT && request->wire != RP_WIRE_MESSAGES && !is_responses) ||
        request->service_keeps)
        return request;
    const rp_field *turns = find_field(request, is_responses ? "input" : "messages");
    const rp_field *system = request->wire == RP_WIRE_MESSAGES ? find_field(request, "system")
                             : is_responses                    ? find_field(request, "instructions")
                                                               : NULL;
    const rp_field *limit = find_field(request, is_responses ? "max_output_tokens"
                                                             : "max_completion_tokens");
    if (limit && find_field(request, "max_tokens"))
        limit = NULL; /* two limits: they keep their names */
    if (!turns || turns->value.len < 2 || turns->value.ptr[0] != '[' ||
        (system && (system->value.len == 0 || system->value.ptr[0] != '"')))
        return request;
    rp_request *shared = rp_arena_alloc(arena, sizeof *shared);
    rp_field *fields = rp_arena_calloc(arena, request->field_count, sizeof *fields);
    if (!shared || !fields)
        return NULL;
    *shared = *request;
    shared->fields = fields;
    shared->field_count = 0;
    for (size_t i = 0; i < request->field_count; i++) {
        const rp_field *field = &request->fields[i];
        rp_field out = *field;
        if (field == system)
            continue;
        if (field == turns)
            out = (rp_field){ RP_STR("messages"),
                              system ? with_system(field->value, system->value, arena) : field->value };
        else if (field == limit)
            out.name = RP_STR("max_tokens");
        fields[shared->field_count++] = out;
    }
    qsort(fields, shared->field_count, sizeof *fields, compare_fields);
    return rp_arena_failed(arena) ? NULL : shared;
}

/* ---- replies: reading -------------------------------------------------------------------- */

typedef struct plain_text {
    const rp_json *text, *model;
} plain_text;

/* Are all members of the object either known to the caller or without content? */
static bool
has_only(const rp_json *object, const char *const *known)
{
    if (!object || object->type != RP_JSON_OBJECT)
        return false;
    for (uint32_t i = 0; i < object->count; i++) {
        const rp_json *member = &object->children[i];
        size_t at = 0;
        while (known[at] && !is_named(member->name, known[at]))
            at++;
        const bool is_empty = rp_json_is_idle(member) ||
                              (member->type == RP_JSON_OBJECT && member->count == 0);
        if (!known[at] && !is_empty)
            return false;
    }
    return true;
}

static const rp_json *
only_item(const rp_json *object, const char *name)
{
    const rp_json *list = rp_json_get(object, name);
    return list && list->type == RP_JSON_ARRAY && list->count == 1 ? &list->children[0] : NULL;
}

static bool
says(const rp_json *object, const char *name, const char *wanted)
{
    return rp_str_equal(rp_json_string(rp_json_get(object, name)), rp_str_of(wanted));
}

static bool
read_chat(const rp_json *body, plain_text *out)
{
    static const char *const members[] = { "id", "object", "created", "model", "choices", "usage",
                                           "system_fingerprint", "service_tier", NULL };
    static const char *const of_choice[] = { "index", "message", "finish_reason", NULL };
    static const char *const of_message[] = { "role", "content", NULL };
    const rp_json *choice = only_item(body, "choices");
    const rp_json *message = rp_json_get(choice, "message");
    if (!has_only(body, members) || !has_only(choice, of_choice) || !has_only(message, of_message) ||
        !says(choice, "finish_reason", "stop"))
        return false;
    out->text = rp_json_get(message, "content");
    return true;
}

static bool
read_responses(const rp_json *body, plain_text *out)
{
    static const char *const members[] = {
        "id", "object", "created_at", "completed_at", "model", "output", "usage", "status",
        /* Echoes of the request, which is part of the scope, and the service's books. */
        "background", "billing", "frequency_penalty", "instructions", "max_output_tokens",
        "max_tool_calls", "metadata", "parallel_tool_calls", "presence_penalty", "prompt_cache_key",
        "prompt_cache_retention", "reasoning", "safety_identifier", "service_tier", "store",
        "temperature", "text", "tool_choice", "tools", "top_logprobs", "top_p", "truncation", "user",
        NULL };
    static const char *const of_item[] = { "id", "type", "status", "role", "content", "phase", NULL };
    static const char *const of_part[] = { "type", "text", NULL };
    const rp_json *item = only_item(body, "output");
    const rp_json *part = only_item(item, "content");
    if (!has_only(body, members) || !has_only(item, of_item) || !has_only(part, of_part) ||
        !says(item, "type", "message") || !says(part, "type", "output_text"))
        return false;
    out->text = rp_json_get(part, "text");
    return true;
}

static bool
read_messages(const rp_json *body, plain_text *out)
{
    static const char *const members[] = { "id", "type", "role", "model", "content", "stop_reason",
                                           "usage", NULL };
    static const char *const of_block[] = { "type", "text", NULL };
    const rp_json *block = only_item(body, "content");
    if (!has_only(body, members) || !has_only(block, of_block) || !says(block, "type", "text") ||
        !says(body, "stop_reason", "end_turn"))
        return false;
    out->text = rp_json_get(block, "text");
    return true;
}

static bool
read_reply(const rp_reply *reply, const rp_json *body, plain_text *out)
{
    const bool read = reply->wire == RP_WIRE_CHAT        ? read_chat(body, out)
                      : reply->wire == RP_WIRE_RESPONSES ? read_responses(body, out)
                      : reply->wire == RP_WIRE_MESSAGES  ? read_messages(body, out)
                                                         : false;
    out->model = rp_json_get(body, "model");
    return read && out->text && out->text->type == RP_JSON_STRING && out->model &&
           out->model->type == RP_JSON_STRING;
}

/* ---- replies: writing -------------------------------------------------------------------- */

static void
put_usage(rp_json_writer *w, const rp_reply *reply, const char *input, const char *output, bool total)
{
    const int64_t in = RP_MAX(reply->usage.input_tokens, 0), out = RP_MAX(reply->usage.output_tokens, 0);
    int64_t sum;
    if (__builtin_add_overflow(in, out, &sum))
        sum = INT64_MAX;
    rp_json_key(w, "usage");
    rp_json_open(w, '{');
    rp_json_key(w, input);
    rp_json_put_int(w, in);
    rp_json_key(w, output);
    rp_json_put_int(w, out);
    if (total) {
        rp_json_key(w, "total_tokens");
        rp_json_put_int(w, sum);
    }
    rp_json_close(w, '}');
}

static void
put_member(rp_json_writer *w, const char *name, const char *json)
{
    rp_json_key(w, name);
    rp_json_put_raw(w, rp_str_of(json));
}

static void
put_string(rp_json_writer *w, const char *name, rp_str text)
{
    rp_json_key(w, name);
    rp_json_put_string(w, text);
}

/* An array of one object, which close_only ends. */
static void
open_only(rp_json_writer *w, const char *name)
{
    rp_json_key(w, name);
    rp_json_open(w, '[');
    rp_json_open(w, '{');
}

static void
close_only(rp_json_writer *w)
{
    rp_json_close(w, '}');
    rp_json_close(w, ']');
}

static void
write_chat(rp_json_writer *w, const rp_reply *reply, const plain_text *plain)
{
    put_member(w, "id", "\"chatcmpl-0\"");
    put_member(w, "object", "\"chat.completion\"");
    put_member(w, "created", "0");
    put_string(w, "model", plain->model->string);
    open_only(w, "choices");
    put_member(w, "index", "0");
    rp_json_key(w, "message");
    rp_json_open(w, '{');
    put_member(w, "role", "\"assistant\"");
    put_string(w, "content", plain->text->string);
    put_member(w, "refusal", "null");
    rp_json_close(w, '}');
    put_member(w, "logprobs", "null");
    put_member(w, "finish_reason", "\"stop\"");
    close_only(w);
    put_usage(w, reply, "prompt_tokens", "completion_tokens", true);
}

static void
write_responses(rp_json_writer *w, const rp_reply *reply, const plain_text *plain, const char *item_id)
{
    put_member(w, "id", "\"resp_0\"");
    put_member(w, "object", "\"response\"");
    put_member(w, "created_at", "0");
    put_member(w, "status", "\"completed\"");
    put_member(w, "error", "null");
    put_member(w, "incomplete_details", "null");
    put_member(w, "instructions", "null");
    put_member(w, "max_output_tokens", "null");
    put_string(w, "model", plain->model->string);
    open_only(w, "output");
    put_member(w, "type", "\"message\"");
    rp_json_key(w, "id");
    rp_json_put_cstring(w, item_id);
    put_member(w, "status", "\"completed\"");
    put_member(w, "role", "\"assistant\"");
    open_only(w, "content");
    put_member(w, "type", "\"output_text\"");
    put_member(w, "annotations", "[]");
    put_string(w, "text", plain->text->string);
    close_only(w);
    close_only(w);
    put_member(w, "parallel_tool_calls", "true");
    put_member(w, "previous_response_id", "null");
    put_member(w, "store", "false"); /* no service knows its id */
    put_member(w, "temperature", "null");
    put_member(w, "tool_choice", "\"auto\"");
    put_member(w, "tools", "[]");
    put_member(w, "top_p", "null");
    put_member(w, "metadata", "{}");
    put_usage(w, reply, "input_tokens", "output_tokens", true);
}

static void
write_messages(rp_json_writer *w, const rp_reply *reply, const plain_text *plain)
{
    put_member(w, "id", "\"msg_0\"");
    put_member(w, "type", "\"message\"");
    put_member(w, "role", "\"assistant\"");
    put_string(w, "model", plain->model->string);
    open_only(w, "content");
    put_member(w, "type", "\"text\"");
    put_string(w, "text", plain->text->string);
    close_only(w);
    put_member(w, "stop_reason", "\"end_turn\"");
    put_member(w, "stop_sequence", "null");
    put_usage(w, reply, "input_tokens", "output_tokens", false);
}

static bool
write_reply(const rp_reply *reply, const rp_replay_options *options, const plain_text *plain,
            rp_buffer *out)
{
    char bytes[16], item_id[40] = "msg_";
    rp_store_le64(bytes, options->id_random[1]);
    rp_store_le64(bytes + 8, options->id_random[0]);
    rp_hex_encode(bytes, sizeof bytes, item_id + 4);
    rp_json_writer w;
    rp_json_writer_init(&w, out);
    rp_json_open(&w, '{');
    if (options->wire == RP_WIRE_CHAT)
        write_chat(&w, reply, plain);
    else if (options->wire == RP_WIRE_RESPONSES)
        write_responses(&w, reply, plain, item_id);
    else if (options->wire == RP_WIRE_MESSAGES)
        write_messages(&w, reply, plain);
    else
        return false;
    rp_json_close(&w, '}');
    return !rp_buffer_failed(out);
}

/* As a reply of the other protocol, which then is replayed as any other. */
static rp_status
replay_written(rp_str body, const rp_reply *reply, const rp_replay_options *options,
               rp_json_reader *reader, rp_arena *arena, rp_buffer *out)
{
    rp_buffer encoded;
    rp_usage usage;
    const rp_reply *other;
    rp_buffer_init(&encoded, 0);
    rp_status status = RP_ERR_UNSUPPORTED;
    /* Usage that nobody knows is not to be told as zero where it was asked for. */
    const bool lacks_usage = reply->flags & RP_REPLY_USAGE_UNKNOWN && options->stream &&
                             options->include_usage;
    if (!lacks_usage && rp_reply_from_body(options->wire, body, reader, &encoded, &usage) == RP_REPLY_GOOD)
        status = rp_reply_open(rp_buffer_str(&encoded), arena, &other);
    if (status == RP_OK)
        status = rp_reply_replay(other, options, out);
    rp_buffer_fini(&encoded);
    return status;
}

rp_status
rp_replay_on_other_wire(const rp_reply *reply, const rp_replay_options *options, rp_buffer *out)
{
    rp_arena arena;
    rp_buffer body;
    rp_json_reader *reader = NULL;
    const rp_json *json;
    plain_text plain;
    if (reply->flags & RP_REPLY_HAS_TOOLS)
        return RP_ERR_UNSUPPORTED;
    rp_arena_init(&arena, 0);
    rp_buffer_init(&body, 0);
    rp_status status = rp_json_reader_new(&reader);
    if (status == RP_OK)
        status = rp_json_parse(reader, &arena, reply->body, &json, NULL);
    if (status == RP_OK && (!read_reply(reply, json, &plain) || !write_reply(reply, options, &plain, &body)))
        status = rp_buffer_failed(&body) ? RP_ERR_NOMEM : RP_ERR_UNSUPPORTED;
    if (status == RP_OK)
        status = replay_written(rp_buffer_str(&body), reply, options, reader, &arena, out);
    rp_json_reader_free(reader);
    rp_buffer_fini(&body);
    rp_arena_fini(&arena);
    return status;
}
