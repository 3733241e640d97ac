/* openai_responses.c - POST /v1/responses.
 *
 * The service keeps a response under its id unless `store` is false, and a later request
 * may go on from it (previous_response_id) or fetch it. So a replay keeps the id of a reply
 * that the service has kept, and such requests are answered in the exact tier only; absent
 * is the API's default, true.
 *
 * The last event of a stream, response.completed, holds the whole response: that is the
 * body. A stream as it is replayed (protocol.md 3.3): response.created and in_progress with
 * an empty output; for each item its start, its text (or arguments) in a few pieces, its
 * end; response.completed. Items of other kinds come whole in output_item.done. */
#include "json/span.h"
#include "wire/openai_internal.h"

#include "base/bytes.h"

static const rp_conversation_kind responses_conversation = {
    .text_type = "input_text",
    .typed_items = true,
};

/* ---- requests ---------------------------------------------------------------------------- */

static bool
responses_member(rp_request_draft *draft, const rp_json *member)
{
    if (rp_str_equal(member->name, RP_STR("input"))) {
        rp_request_conversation(draft, member->name, member, &responses_conversation);
        return true;
    }
    if (rp_str_equal(member->name, RP_STR("tools"))) {
        rp_openai_tools(draft, member);
        return true;
    }
    if (rp_str_equal(member->name, RP_STR("prompt")) && !rp_json_is_idle(member)) {
        /* A template kept by the service; without a version it may change any time. */
        if (rp_json_string(rp_json_get(member, "version")).len)
            rp_request_lower(draft, RP_TIER_EXACT, "prompt-template");
        else
            rp_request_lower(draft, RP_TIER_NONE, "prompt-template");
    }
    return false;
}

static void
responses_end(rp_request_draft *draft)
{
    const rp_json *store = rp_json_get(draft->json, "store");
    if (!rp_json_get(draft->json, "input"))
        rp_request_lower(draft, RP_TIER_NONE, "input");
    if (!store || store->type != RP_JSON_BOOL || store->boolean) {
        draft->out->service_keeps = true;
        rp_request_lower(draft, RP_TIER_EXACT, "store");
    }
}

/* ---- bodies ------------------------------------------------------------------------------ */

static rp_reply_verdict
judge_message(const rp_json *item, bool *says)
{
    const rp_json *content = rp_json_get(item, "content");
    for (uint32_t i = 0; content && content->type == RP_JSON_ARRAY && i < content->count; i++) {
        const rp_json *part = &content->children[i];
        if (rp_str_equal(rp_json_string(rp_json_get(part, "type")), RP_STR("refusal")))
            return RP_REPLY_REFUSAL;
        if (rp_str_trimmed(rp_json_string(rp_json_get(part, "text"))).len)
            *says = true;
    }
    return RP_REPLY_GOOD;
}

static void
read_part(rp_reply_draft *draft, const rp_json *part, rp_str bytes)
{
    rp_json_walk fields;
    rp_draft_span(draft, RP_SPAN_PART, bytes);
    if (!rp_str_equal(rp_json_string(rp_json_get(part, "type")), RP_STR("output_text")))
        return;
    rp_json_walk_init(&fields, part, bytes);
    while (rp_json_walk_next(&fields))
        if (rp_str_equal(fields.child->name, RP_STR("text")) &&
            fields.child->type == RP_JSON_STRING)
            rp_draft_span(draft, RP_SPAN_CONTENT, fields.value);
}

/* What a stream needs of an item: its id, what its start says, and what comes in pieces. */
static void
read_item(rp_reply_draft *draft, const rp_json *item, rp_str bytes)
{
    const rp_str type = rp_json_string(rp_json_get(item, "type"));
    const bool is_message = rp_str_equal(type, RP_STR("message"));
    const bool is_call = rp_str_equal(type, RP_STR("function_call"));
    bool has_id = false;
    rp_json_walk members, parts;
    rp_draft_span(draft, RP_SPAN_ITEM, bytes);
    rp_json_walk_init(&members, item, bytes);
    while (rp_json_walk_next(&members)) {
        const rp_str name = members.child->name;
        const bool is_text = members.child->type == RP_JSON_STRING;
        if (rp_str_equal(name, RP_STR("status")))
            continue;
        if (is_message && rp_str_equal(name, RP_STR("content"))) {
            rp_json_walk_init(&parts, members.child, members.value);
            while (rp_json_walk_next(&parts))
                read_part(draft, parts.child, parts.value);
            continue;
        }
        if (is_call && is_text && rp_str_equal(name, RP_STR("arguments"))) {
            rp_draft_span(draft, RP_SPAN_TOOL_ARGUMENTS, members.value);
            continue;
        }
        if (is_text && rp_str_equal(name, RP_STR("id"))) {
            rp_draft_span(draft, RP_SPAN_ITEM_ID, members.value);
            has_id = true;
        }
        rp_draft_span(draft, RP_SPAN_ITEM_MEMBER, members.member);
    }
    if (!has_id)
        draft->flags |= RP_REPLY_BODY_ONLY; /* every event about an item names it */
}

static rp_reply_verdict
read_output(rp_reply_draft *draft, const rp_json *output, rp_str bytes)
{
    bool says = false;
    rp_json_walk walk;
    rp_json_walk_init(&walk, output, bytes);
    while (rp_json_walk_next(&walk)) {
        const rp_str type = rp_json_string(rp_json_get(walk.child, "type"));
        if (rp_str_equal(type, RP_STR("message"))) {
            const rp_reply_verdict verdict = judge_message(walk.child, &says);
            if (verdict != RP_REPLY_GOOD)
                return verdict;
        } else if (!rp_str_equal(type, RP_STR("reasoning"))) {
            draft->flags |= RP_REPLY_HAS_TOOLS;
            says = true;
        }
        read_item(draft, walk.child, walk.value);
    }
    return says ? RP_REPLY_GOOD : RP_REPLY_EMPTY;
}

static rp_reply_verdict
judge_status(const rp_json *json)
{
    if (!rp_json_is_idle(rp_json_get(json, "error")))
        return RP_REPLY_ERROR;
    const rp_str status = rp_json_string(rp_json_get(json, "status"));
    if (rp_str_equal(status, RP_STR("incomplete")))
        return RP_REPLY_FINISH;
    if (rp_str_equal(status, RP_STR("failed")))
        return RP_REPLY_ERROR;
    return rp_str_equal(status, RP_STR("completed")) ? RP_REPLY_GOOD : RP_REPLY_UNREADABLE;
}

static rp_reply_verdict
responses_body(rp_reply_draft *draft, const rp_json *json)
{
    if (json->type != RP_JSON_OBJECT)
        return RP_REPLY_UNREADABLE;
    rp_reply_verdict verdict = judge_status(json);
    if (verdict != RP_REPLY_GOOD)
        return verdict;
    const rp_json *store = rp_json_get(json, "store");
    if (!store || store->type != RP_JSON_BOOL || store->boolean)
        draft->flags |= RP_REPLY_KEEP_ID;
    verdict = RP_REPLY_UNREADABLE;
    rp_json_walk walk;
    rp_json_walk_init(&walk, json, draft->body);
    while (rp_json_walk_next(&walk)) {
        const rp_str name = walk.child->name;
        if (rp_draft_head_member(draft, &walk, "created_at", rp_openai_usage))
            continue;
        if (rp_str_equal(name, RP_STR("output"))) {
            verdict = read_output(draft, walk.child, walk.value);
            if (verdict != RP_REPLY_GOOD)
                return verdict;
        } else if (!rp_str_equal(name, RP_STR("status"))) {
            rp_draft_span(draft, RP_SPAN_TOP_EXTRA, walk.member);
        }
    }
    return verdict;
}

/* ---- streams to bodies ------------------------------------------------------------------- */

typedef struct responses_state {
    rp_buffer body;
} responses_state;

static void
responses_event(rp_assembly *assembly, rp_str type, const rp_json *json)
{
    responses_state *state = assembly->state;
    const rp_str said = rp_json_string(rp_json_get(json, "type"));
    const rp_json *response = rp_json_get(json, "response");
    if (rp_str_equal(said, RP_STR("response.completed")) && response) {
        rp_json_write(response, &state->body);
        assembly->terminal = true;
        assembly->usage_known = rp_json_get(response, "usage") != NULL;
    } else if (rp_str_equal(said, RP_STR("response.incomplete"))) {
        assembly->verdict = RP_REPLY_FINISH;
    } else if (rp_str_equal(said, RP_STR("response.failed")) ||
               rp_str_equal(said, RP_STR("error"))) {
        assembly->verdict = RP_REPLY_ERROR;
    } else if (!rp_str_starts_with(said, RP_STR("response."))) {
        assembly->verdict = RP_REPLY_UNREADABLE;
    }
}

static void
responses_assembled(rp_assembly *assembly, rp_buffer *body)
{
    const responses_state *state = assembly->state;
    rp_buffer_append(body, rp_buffer_str(&state->body));
    if (rp_buffer_failed(&state->body))
        assembly->verdict = RP_REPLY_UNREADABLE;
}

static void
responses_fini(rp_assembly *assembly)
{
    responses_state *state = assembly->state;
    rp_buffer_fini(&state->body);
}

/* ---- bodies to streams ------------------------------------------------------------------- */

#define ZERO_USAGE                                                                                 \
    "{\"input_tokens\":0,\"input_tokens_details\":{\"cached_tokens\":0},\"output_tokens\":0,"      \
    "\"output_tokens_details\":{\"reasoning_tokens\":0},\"total_tokens\":0}"

typedef struct event_writer {
    const rp_reply *reply;
    const rp_replay_options *options;
    rp_buffer *out;
    size_t sequence, output_index, content_index;
    rp_str item_id; /* JSON */
} event_writer;

static void
put(event_writer *e, const char *text)
{
    rp_buffer_append(e->out, rp_str_of(text));
}

static void
open_event(event_writer *e, const char *type)
{
    rp_buffer_printf(e->out, "event: %s\ndata: {\"type\":\"%s\",\"sequence_number\":%zu", type,
                     type, e->sequence++);
}

static void
close_event(event_writer *e)
{
    put(e, "}\n\n");
}

/* An event about an item by its place, or about a part of it. */
static void
open_item_event(event_writer *e, const char *type, bool with_part)
{
    open_event(e, type);
    put(e, ",\"item_id\":");
    rp_replay_raw(e->item_id, e->out);
    rp_buffer_printf(e->out, ",\"output_index\":%zu", e->output_index);
    if (with_part)
        rp_buffer_printf(e->out, ",\"content_index\":%zu", e->content_index);
}

static void
put_response_start(event_writer *e, const char *type)
{
    const rp_reply *reply = e->reply;
    open_event(e, type);
    put(e, ",\"response\":{\"id\":");
    rp_replay_id(reply, e->options, "resp_", e->out);
    rp_buffer_printf(e->out, ",\"created_at\":%lld,\"status\":\"in_progress\",\"model\":",
                     (long long)e->options->created);
    const rp_str model = rp_reply_find(reply, RP_SPAN_MODEL);
    rp_replay_raw(model.ptr ? model : RP_STR("null"), e->out);
    for (size_t i = 0; i < reply->span_count; i++) {
        const rp_span span = rp_reply_span(reply, i);
        if (span.kind != RP_SPAN_TOP_EXTRA)
            continue;
        rp_buffer_append_char(e->out, ',');
        rp_replay_raw(rp_span_bytes(reply, span), e->out);
    }
    put(e, ",\"output\":[],\"usage\":null}");
    close_event(e);
}

static void
put_text_part(event_writer *e, rp_str part, rp_str text)
{
    open_item_event(e, "response.content_part.added", true);
    put(e, ",\"part\":{\"type\":\"output_text\",\"text\":\"\",\"annotations\":[]}");
    close_event(e);
    rp_str rest = rp_string_inside(text);
    const size_t size = rp_replay_piece_size(rest.len);
    while (rest.len) {
        open_item_event(e, "response.output_text.delta", true);
        put(e, ",\"logprobs\":[],\"delta\":\"");
        rp_buffer_append(e->out, rp_replay_piece(&rest, size));
        put(e, "\"");
        close_event(e);
    }
    open_item_event(e, "response.output_text.done", true);
    put(e, ",\"logprobs\":[],\"text\":");
    rp_replay_raw(text, e->out);
    close_event(e);
    open_item_event(e, "response.content_part.done", true);
    put(e, ",\"part\":");
    rp_replay_raw(part, e->out);
    close_event(e);
}

static void
put_other_part(event_writer *e, rp_str part)
{
    static const char *const types[] = { "response.content_part.added",
                                         "response.content_part.done" };
    for (size_t i = 0; i < RP_COUNT(types); i++) {
        open_item_event(e, types[i], true);
        put(e, ",\"part\":");
        rp_replay_raw(part, e->out);
        close_event(e);
    }
}

static void
put_item_start(event_writer *e, rp_span_group item)
{
    open_event(e, "response.output_item.added");
    rp_buffer_printf(e->out, ",\"output_index\":%zu,\"item\":{\"status\":\"in_progress\"",
                     e->output_index);
    for (size_t i = item.first; i < item.end; i++) {
        const rp_span span = rp_reply_span(e->reply, i);
        if (span.kind != RP_SPAN_ITEM_MEMBER)
            continue;
        rp_buffer_append_char(e->out, ',');
        rp_replay_raw(rp_span_bytes(e->reply, span), e->out);
    }
    if (rp_group_find(e->reply, item, RP_SPAN_PART).ptr)
        put(e, ",\"content\":[]");
    if (rp_group_find(e->reply, item, RP_SPAN_TOOL_ARGUMENTS).ptr)
        put(e, ",\"arguments\":\"\"");
    put(e, "}");
    close_event(e);
}

static void
put_item(event_writer *e, rp_span_group item)
{
    const rp_reply *reply = e->reply;
    e->item_id = rp_group_find(reply, item, RP_SPAN_ITEM_ID);
    e->content_index = 0;
    put_item_start(e, item);
    rp_span_group part = { .first = item.first, .end = item.first };
    while (rp_group_next(reply, RP_SPAN_PART, &part) && part.first < item.end) {
        part.end = RP_MIN(part.end, item.end);
        const rp_str bytes = rp_span_bytes(reply, rp_reply_span(reply, part.first));
        const rp_str text = rp_group_find(reply, part, RP_SPAN_CONTENT);
        if (text.ptr)
            put_text_part(e, bytes, text);
        else
            put_other_part(e, bytes);
        e->content_index++;
    }
    const rp_str arguments = rp_group_find(reply, item, RP_SPAN_TOOL_ARGUMENTS);
    if (arguments.ptr) {
        open_item_event(e, "response.function_call_arguments.delta", false);
        put(e, ",\"delta\":");
        rp_replay_raw(arguments, e->out);
        close_event(e);
        open_item_event(e, "response.function_call_arguments.done", false);
        put(e, ",\"arguments\":");
        rp_replay_raw(arguments, e->out);
        close_event(e);
    }
    open_event(e, "response.output_item.done");
    rp_buffer_printf(e->out, ",\"output_index\":%zu,\"item\":", e->output_index);
    rp_replay_raw(rp_span_bytes(reply, rp_reply_span(reply, item.first)), e->out);
    close_event(e);
    e->output_index++;
}

static rp_status
responses_stream(const rp_reply *reply, const rp_replay_options *options, rp_buffer *out)
{
    event_writer e = { .reply = reply, .options = options, .out = out };
    put_response_start(&e, "response.created");
    put_response_start(&e, "response.in_progress");
    rp_span_group item = { 0 };
    while (rp_group_next(reply, RP_SPAN_ITEM, &item))
        put_item(&e, item);
    open_event(&e, "response.completed");
    put(&e, ",\"response\":");
    /* The whole body on one line; what is spliced in has no line ends. */
    const size_t start = out->len;
    const rp_status status = rp_replay_body(reply, options, "resp_", RP_STR(ZERO_USAGE), out);
    size_t kept = start;
    for (size_t i = start; i < out->len; i++)
        if (out->ptr[i] != '\n' && out->ptr[i] != '\r')
            out->ptr[kept++] = out->ptr[i];
    out->len = kept;
    close_event(&e);
    return status;
}

static rp_status
responses_replay_body(const rp_reply *reply, const rp_replay_options *options, rp_buffer *out)
{
    return rp_replay_body(reply, options, "resp_", RP_STR(ZERO_USAGE), out);
}

const rp_protocol rp_protocol_responses = {
    .name = "responses",
    .path = "/v1/responses",
    .assembly_size = sizeof(responses_state),
    .request_member = responses_member,
    .request_end = responses_end,
    .reply_body = responses_body,
    .reply_event = responses_event,
    .reply_assembled = responses_assembled,
    .assembly_fini = responses_fini,
    .replay_body = responses_replay_body,
    .replay_stream = responses_stream,
};
