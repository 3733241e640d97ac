/* openai_chat.c - POST /v1/chat/completions.
 *
 * A stream as it is replayed (protocol.md 3.1), for each choice: a chunk with the role;
 * other text of the message (reasoning_content); the content in a few pieces; annotations;
 * each tool call as its head and its arguments; a chunk with an empty delta and the
 * finish_reason; then usage if asked for, and [DONE]. With logprobs the content is one
 * piece, for the lists run token by token. */
#include "wire/openai_internal.h"

#include "base/bytes.h"

static const rp_conversation_kind chat_conversation = { .text_type = "text" };

/* ---- requests ---------------------------------------------------------------------------- */

static bool
chat_member(rp_request_draft *draft, const rp_json *member)
{
    if (rp_str_equal(member->name, RP_STR("messages"))) {
        rp_request_conversation(draft, member->name, member, &chat_conversation);
        return true;
    }
    if (rp_str_equal(member->name, RP_STR("tools"))) {
        rp_openai_tools(draft, member);
        return true;
    }
    return false;
}

static void
chat_end(rp_request_draft *draft)
{
    if (!rp_json_get(draft->json, "messages"))
        rp_request_lower(draft, RP_TIER_NONE, "messages");
}

/* ---- bodies ------------------------------------------------------------------------------ */

static bool
has_words(rp_str text)
{
    return rp_str_trimmed(text).len > 0;
}

/* What one tool call holds beyond these cannot be said in a stream. */
static void
read_tool_call(rp_reply_draft *draft, const rp_json *call, rp_str bytes)
{
    rp_str id = { NULL, 0 }, name = id, arguments = id;
    bool plain = true;
    rp_json_walk walk, inner;
    rp_json_walk_init(&walk, call, bytes);
    while (rp_json_walk_next(&walk)) {
        const rp_str key = walk.child->name;
        if (rp_str_equal(key, RP_STR("id")) && walk.child->type == RP_JSON_STRING) {
            id = walk.value;
        } else if (rp_str_equal(key, RP_STR("type"))) {
            plain = plain && rp_str_equal(rp_json_string(walk.child), RP_STR("function"));
        } else if (rp_str_equal(key, RP_STR("function"))) {
            rp_json_walk_init(&inner, walk.child, walk.value);
            while (rp_json_walk_next(&inner)) {
                if (rp_str_equal(inner.child->name, RP_STR("name")))
                    name = inner.value;
                else if (rp_str_equal(inner.child->name, RP_STR("arguments")))
                    arguments = inner.value;
                else
                    plain = plain && rp_reply_member_is_empty(inner.child);
            }
        } else if (!rp_str_equal(key, RP_STR("index"))) {
            plain = plain && rp_reply_member_is_empty(walk.child);
        }
    }
    draft->flags |= RP_REPLY_HAS_TOOLS;
    if (!plain || !id.ptr || !name.ptr || !arguments.ptr || arguments.ptr[0] != '"') {
        draft->flags |= RP_REPLY_BODY_ONLY;
        return;
    }
    rp_draft_span(draft, RP_SPAN_TOOL, id);
    rp_draft_span(draft, RP_SPAN_TOOL_NAME, name);
    rp_draft_span(draft, RP_SPAN_TOOL_ARGUMENTS, arguments);
}

static void
read_function_call(rp_reply_draft *draft, const rp_json *call, rp_str bytes)
{
    rp_json_walk walk;
    draft->flags |= RP_REPLY_HAS_TOOLS | (call->type == RP_JSON_OBJECT ? 0 : RP_REPLY_BODY_ONLY);
    rp_json_walk_init(&walk, call, bytes);
    while (rp_json_walk_next(&walk)) {
        if (walk.child->type != RP_JSON_STRING)
            draft->flags |= RP_REPLY_BODY_ONLY;
        else if (rp_str_equal(walk.child->name, RP_STR("name")))
            rp_draft_span(draft, RP_SPAN_FUNCTION_NAME, walk.value);
        else if (rp_str_equal(walk.child->name, RP_STR("arguments")))
            rp_draft_span(draft, RP_SPAN_FUNCTION_ARGUMENTS, walk.value);
    }
}

/* Returns GOOD if the message says anything. */
static rp_reply_verdict
read_message(rp_reply_draft *draft, const rp_json *message, rp_str bytes)
{
    bool says = false;
    rp_json_walk walk, calls;
    if (has_words(rp_json_string(rp_json_get(message, "refusal"))))
        return RP_REPLY_REFUSAL;
    rp_json_walk_init(&walk, message, bytes);
    while (rp_json_walk_next(&walk)) {
        const rp_str name = walk.child->name;
        const bool is_text = walk.child->type == RP_JSON_STRING;
        if (rp_str_equal(name, RP_STR("role")) || rp_str_equal(name, RP_STR("refusal")) ||
            rp_reply_member_is_empty(walk.child))
            continue;
        if (rp_str_equal(name, RP_STR("content"))) {
            if (is_text)
                rp_draft_span(draft, RP_SPAN_CONTENT, walk.value);
            else
                draft->flags |= RP_REPLY_BODY_ONLY;
            says = says || !is_text || has_words(walk.child->string);
        } else if (rp_str_equal(name, RP_STR("tool_calls"))) {
            rp_json_walk_init(&calls, walk.child, walk.value);
            if (walk.child->type != RP_JSON_ARRAY)
                draft->flags |= RP_REPLY_BODY_ONLY;
            while (rp_json_walk_next(&calls))
                read_tool_call(draft, calls.child, calls.value);
            says = true;
        } else if (rp_str_equal(name, RP_STR("function_call"))) {
            read_function_call(draft, walk.child, walk.value);
            says = true;
        } else if (rp_str_equal(name, RP_STR("annotations"))) {
            rp_draft_span(draft, RP_SPAN_MESSAGE_EXTRA, walk.member);
        } else if (is_text) {
            rp_draft_span(draft, RP_SPAN_TEXT_EXTRA, walk.member);
        } else {
            draft->flags |= RP_REPLY_BODY_ONLY;
            says = says || rp_str_equal(name, RP_STR("audio"));
        }
    }
    return says ? RP_REPLY_GOOD : RP_REPLY_EMPTY;
}

static rp_reply_verdict
read_choice(rp_reply_draft *draft, const rp_json *choice, rp_str bytes)
{
    const rp_reply_verdict finish = rp_openai_finish(draft, rp_json_get(choice, "finish_reason"));
    if (finish != RP_REPLY_GOOD)
        return finish;
    rp_reply_verdict verdict = RP_REPLY_UNREADABLE;
    rp_json_walk walk;
    rp_json_walk_init(&walk, choice, bytes);
    while (rp_json_walk_next(&walk)) {
        const rp_str name = walk.child->name;
        if (rp_str_equal(name, RP_STR("message"))) {
            if (walk.child->type == RP_JSON_OBJECT)
                verdict = read_message(draft, walk.child, walk.value);
        } else if (rp_str_equal(name, RP_STR("finish_reason"))) {
            rp_draft_span(draft, RP_SPAN_FINISH, walk.value);
        } else if (rp_str_equal(name, RP_STR("logprobs"))) {
            if (!rp_reply_member_is_empty(walk.child))
                rp_draft_span(draft, RP_SPAN_LOGPROBS, walk.value);
        } else if (rp_str_equal(name, RP_STR("delta"))) {
            draft->flags |= RP_REPLY_BODY_ONLY; /* in a chunk the name is taken */
        } else if (!rp_str_equal(name, RP_STR("index")) && !rp_reply_member_is_empty(walk.child)) {
            rp_draft_span(draft, RP_SPAN_CHOICE_EXTRA, walk.member);
        }
    }
    return verdict;
}

static rp_reply_verdict
chat_body(rp_reply_draft *draft, const rp_json *json)
{
    return rp_openai_body(draft, json, read_choice);
}

/* ---- streams to bodies ------------------------------------------------------------------- */

static bool
append_string(rp_buffer *out, const rp_json *value)
{
    if (!value || value->type == RP_JSON_NULL)
        return true;
    rp_buffer_append(out, rp_json_string(value));
    return value->type == RP_JSON_STRING && !rp_buffer_failed(out);
}

static bool
read_call_delta(rp_tool_parts *tool, const rp_json *function)
{
    for (uint32_t i = 0; function && i < function->count; i++) {
        const rp_json *member = &function->children[i];
        if (rp_str_equal(member->name, RP_STR("name"))) {
            if (!append_string(&tool->name, member))
                return false;
        } else if (rp_str_equal(member->name, RP_STR("arguments"))) {
            if (!append_string(&tool->arguments, member))
                return false;
        } else if (!rp_reply_member_is_empty(member)) {
            return false;
        }
    }
    return !function || function->type == RP_JSON_OBJECT || function->type == RP_JSON_NULL;
}

static rp_tool_parts *
find_tool(rp_assembly *assembly, rp_choice_parts *parts, int64_t index)
{
    if (index < 0 || index >= RP_OPENAI_TOOLS_MAX || index > (int64_t)parts->tool_count)
        return NULL;
    if (index == (int64_t)parts->tool_count) {
        rp_tool_parts *tool = rp_arena_calloc(assembly->arena, 1, sizeof *tool);
        if (!tool)
            return NULL;
        parts->tools[parts->tool_count++] = tool;
    }
    return parts->tools[index];
}

static bool
read_tool_deltas(rp_assembly *assembly, rp_choice_parts *parts, const rp_json *calls)
{
    for (uint32_t n = 0; calls->type == RP_JSON_ARRAY && n < calls->count; n++) {
        const rp_json *call = &calls->children[n];
        const rp_json *id = rp_json_get(call, "id");
        int64_t index;
        /* Services that number nothing send whole calls: an id starts a new one. */
        if (!rp_json_to_int64(rp_json_get(call, "index"), &index))
            index = (int64_t)parts->tool_count - (rp_json_string(id).len == 0);
        rp_tool_parts *tool = find_tool(assembly, parts, index);
        if (!tool)
            return false;
        for (uint32_t i = 0; i < call->count; i++) {
            const rp_json *member = &call->children[i];
            const rp_str name = member->name;
            bool sound = true;
            if (rp_str_equal(name, RP_STR("id")))
                sound = tool->id.len > 0 || append_string(&tool->id, member);
            else if (rp_str_equal(name, RP_STR("type")))
                sound = member->type == RP_JSON_NULL || rp_json_string(member).len == 0 ||
                        rp_str_equal(member->string, RP_STR("function"));
            else if (rp_str_equal(name, RP_STR("function")))
                sound = read_call_delta(tool, member);
            else if (!rp_str_equal(name, RP_STR("index")))
                sound = rp_reply_member_is_empty(member);
            if (!sound)
                return false;
        }
    }
    return calls->type == RP_JSON_ARRAY || calls->type == RP_JSON_NULL;
}

static bool
read_delta(rp_assembly *assembly, rp_choice_parts *parts, const rp_json *delta)
{
    for (uint32_t i = 0; i < delta->count; i++) {
        const rp_json *member = &delta->children[i];
        const rp_str name = member->name;
        bool sound = true;
        if (rp_str_equal(name, RP_STR("role")))
            continue;
        if (rp_str_equal(name, RP_STR("content"))) {
            parts->has_content = parts->has_content || member->type == RP_JSON_STRING;
            sound = append_string(&parts->content, member);
        } else if (rp_str_equal(name, RP_STR("refusal"))) {
            parts->has_refusal = parts->has_refusal || member->type == RP_JSON_STRING;
            sound = append_string(&parts->refusal, member);
        } else if (rp_str_equal(name, RP_STR("tool_calls"))) {
            sound = read_tool_deltas(assembly, parts, member);
        } else if (rp_str_equal(name, RP_STR("function_call"))) {
            parts->has_function = parts->has_function || member->type == RP_JSON_OBJECT;
            sound = read_call_delta(&parts->function, member);
        } else if (member->type == RP_JSON_STRING) {
            sound = rp_extras_add(assembly, &parts->message, member, RP_EXTRA_STRING);
        } else if (member->type == RP_JSON_ARRAY) {
            sound = rp_extras_add(assembly, &parts->message, member, RP_EXTRA_ARRAY);
        } else {
            sound = rp_reply_member_is_empty(member);
        }
        if (!sound)
            return false;
    }
    return true;
}

static bool
read_chunk_choice(rp_assembly *assembly, rp_choice_parts *parts, const rp_json *choice)
{
    for (uint32_t i = 0; i < choice->count; i++) {
        const rp_json *member = &choice->children[i];
        const bool is_delta = rp_str_equal(member->name, RP_STR("delta"));
        if (is_delta && member->type != RP_JSON_OBJECT && member->type != RP_JSON_NULL)
            return false;
        if (!(is_delta ? read_delta(assembly, parts, member)
                       : rp_openai_common_delta(assembly, parts, member)))
            return false;
    }
    return true;
}

static void
chat_event(rp_assembly *assembly, rp_str type, const rp_json *json)
{
    rp_openai_event(assembly, json, read_chunk_choice);
}

static void
write_call(rp_json_writer *w, const rp_tool_parts *tool)
{
    rp_json_open(w, '{');
    rp_json_key(w, "name");
    rp_json_put_string(w, rp_buffer_str(&tool->name));
    rp_json_key(w, "arguments");
    rp_json_put_string(w, rp_buffer_str(&tool->arguments));
    rp_json_close(w, '}');
}

static void
write_choice(rp_json_writer *w, const rp_choice_parts *parts)
{
    rp_json_key(w, "message");
    rp_json_open(w, '{');
    rp_json_key(w, "role");
    rp_json_put_cstring(w, "assistant");
    rp_json_key(w, "content");
    if (parts->has_content)
        rp_json_put_string(w, rp_buffer_str(&parts->content));
    else
        rp_json_put_null(w);
    rp_json_key(w, "refusal");
    if (parts->has_refusal && parts->refusal.len)
        rp_json_put_string(w, rp_buffer_str(&parts->refusal));
    else
        rp_json_put_null(w);
    rp_extras_write(&parts->message, w);
    if (parts->tool_count) {
        rp_json_key(w, "tool_calls");
        rp_json_open(w, '[');
        for (size_t i = 0; i < parts->tool_count; i++) {
            rp_json_open(w, '{');
            rp_json_key(w, "id");
            rp_json_put_string(w, rp_buffer_str(&parts->tools[i]->id));
            rp_json_key(w, "type");
            rp_json_put_cstring(w, "function");
            rp_json_key(w, "function");
            write_call(w, parts->tools[i]);
            rp_json_close(w, '}');
        }
        rp_json_close(w, ']');
    }
    if (parts->has_function) {
        rp_json_key(w, "function_call");
        write_call(w, &parts->function);
    }
    rp_json_close(w, '}');
}

static void
chat_assembled(rp_assembly *assembly, rp_buffer *body)
{
    rp_openai_assembled(assembly, "chat.completion", write_choice, body);
}

/* ---- bodies to streams ------------------------------------------------------------------- */

typedef struct choice_replay {
    rp_chunks *chunks;
    rp_span_group spans;
    rp_str index;
} choice_replay;

static void
put(choice_replay *r, const char *text)
{
    rp_buffer_append(r->chunks->out, rp_str_of(text));
}

static void
open_delta(choice_replay *r)
{
    rp_chunk_open(r->chunks);
    put(r, "{\"index\":");
    rp_replay_raw(r->index, r->chunks->out);
    put(r, ",\"delta\":{");
}

static void
close_delta(choice_replay *r)
{
    put(r, "},\"logprobs\":null,\"finish_reason\":null}");
    rp_chunk_close(r->chunks);
}

/* A whole member (or a member name and a piece of its string) as one delta. */
static void
put_member_delta(choice_replay *r, rp_str member)
{
    open_delta(r);
    rp_replay_raw(member, r->chunks->out);
    close_delta(r);
}

static rp_status
put_content(choice_replay *r, rp_str content)
{
    const rp_reply *reply = r->chunks->reply;
    const rp_str logprobs = rp_group_find(reply, r->spans, RP_SPAN_LOGPROBS);
    rp_str rest = rp_string_inside(content);
    if (logprobs.ptr && rest.len == 0)
        return RP_ERR_UNSUPPORTED; /* no chunk that the lists could run beside */
    const size_t size = logprobs.ptr ? rest.len : rp_replay_piece_size(rest.len);
    while (rest.len) {
        const rp_str piece = logprobs.ptr ? rest : rp_replay_piece(&rest, size);
        open_delta(r);
        put(r, "\"content\":\"");
        rp_buffer_append(r->chunks->out, piece);
        put(r, "\"");
        if (!logprobs.ptr) {
            close_delta(r);
            continue;
        }
        put(r, "},\"logprobs\":");
        rp_replay_raw(logprobs, r->chunks->out);
        put(r, ",\"finish_reason\":null}");
        rp_chunk_close(r->chunks);
        break;
    }
    return RP_OK;
}

static void
put_tool_call(choice_replay *r, size_t number, rp_str id, rp_str name, rp_str arguments)
{
    rp_buffer *out = r->chunks->out;
    open_delta(r);
    rp_buffer_printf(out, "\"tool_calls\":[{\"index\":%zu,\"id\":", number);
    rp_replay_raw(id, out);
    put(r, ",\"type\":\"function\",\"function\":{\"name\":");
    rp_replay_raw(name, out);
    put(r, ",\"arguments\":\"\"}}]");
    close_delta(r);
    open_delta(r);
    rp_buffer_printf(out, "\"tool_calls\":[{\"index\":%zu,\"function\":{\"arguments\":", number);
    rp_replay_raw(arguments, out);
    put(r, "}}]");
    close_delta(r);
}

static void
put_function_call(choice_replay *r, rp_str name, rp_str arguments)
{
    rp_buffer *out = r->chunks->out;
    open_delta(r);
    put(r, "\"function_call\":{\"name\":");
    rp_replay_raw(name, out);
    put(r, ",\"arguments\":\"\"}");
    close_delta(r);
    open_delta(r);
    put(r, "\"function_call\":{\"arguments\":");
    rp_replay_raw(arguments.ptr ? arguments : RP_STR("\"\""), out);
    put(r, "}");
    close_delta(r);
}

static void
put_calls(choice_replay *r)
{
    const rp_reply *reply = r->chunks->reply;
    const rp_str function = rp_group_find(reply, r->spans, RP_SPAN_FUNCTION_NAME);
    if (function.ptr)
        put_function_call(r, function,
                          rp_group_find(reply, r->spans, RP_SPAN_FUNCTION_ARGUMENTS));
    size_t number = 0;
    /* A call is three spans in a row (read_tool_call). */
    for (size_t i = r->spans.first; i + 2 < r->spans.end; i++) {
        const rp_span id = rp_reply_span(reply, i);
        if (id.kind != RP_SPAN_TOOL)
            continue;
        put_tool_call(r, number++, rp_span_bytes(reply, id),
                      rp_span_bytes(reply, rp_reply_span(reply, i + 1)),
                      rp_span_bytes(reply, rp_reply_span(reply, i + 2)));
    }
}

static void
put_each(choice_replay *r, rp_span_kind kind)
{
    for (size_t i = r->spans.first; i < r->spans.end; i++) {
        const rp_span span = rp_reply_span(r->chunks->reply, i);
        if (span.kind == kind)
            put_member_delta(r, rp_span_bytes(r->chunks->reply, span));
    }
}

static void
put_finish(choice_replay *r)
{
    const rp_reply *reply = r->chunks->reply;
    open_delta(r);
    put(r, "},\"logprobs\":null,\"finish_reason\":");
    rp_replay_raw(rp_group_find(reply, r->spans, RP_SPAN_FINISH), r->chunks->out);
    for (size_t i = r->spans.first; i < r->spans.end; i++) {
        const rp_span span = rp_reply_span(reply, i);
        if (span.kind != RP_SPAN_CHOICE_EXTRA)
            continue;
        put(r, ",");
        rp_replay_raw(rp_span_bytes(reply, span), r->chunks->out);
    }
    put(r, "}");
    rp_chunk_close(r->chunks);
}

static rp_status
chat_stream(const rp_reply *reply, const rp_replay_options *options, rp_buffer *out)
{
    rp_chunks chunks;
    rp_chunks_init(&chunks, reply, options, "chatcmpl-", "chat.completion.chunk", out);
    choice_replay r = { .chunks = &chunks };
    while (rp_group_next(reply, RP_SPAN_CHOICE, &r.spans)) {
        r.index = rp_span_bytes(reply, rp_reply_span(reply, r.spans.first));
        const rp_str content = rp_group_find(reply, r.spans, RP_SPAN_CONTENT);
        open_delta(&r);
        put(&r, content.ptr ? "\"role\":\"assistant\",\"content\":\"\",\"refusal\":null"
                            : "\"role\":\"assistant\",\"content\":null,\"refusal\":null");
        close_delta(&r);
        put_each(&r, RP_SPAN_TEXT_EXTRA);
        const rp_status status = put_content(&r, content);
        if (status != RP_OK)
            return status;
        put_each(&r, RP_SPAN_MESSAGE_EXTRA);
        put_calls(&r);
        put_finish(&r);
    }
    return rp_chunks_end(&chunks);
}

static rp_status
chat_replay_body(const rp_reply *reply, const rp_replay_options *options, rp_buffer *out)
{
    return rp_replay_body(reply, options, "chatcmpl-", RP_STR(RP_OPENAI_ZERO_USAGE), out);
}

const rp_protocol rp_protocol_chat = {
    .name = "chat",
    .path = "/v1/chat/completions",
    .assembly_size = sizeof(rp_openai_state),
    .request_member = chat_member,
    .request_end = chat_end,
    .reply_body = chat_body,
    .reply_event = chat_event,
    .reply_assembled = chat_assembled,
    .assembly_fini = rp_openai_fini,
    .replay_body = chat_replay_body,
    .replay_stream = chat_stream,
};
