/* anthropic_messages.c - POST /v1/messages (Anthropic).
 *
 * A stream as it is replayed (protocol.md 3.4): message_start with the message, its content
 * empty; for each block its start, its text (thinking, input) in a few pieces, its stop;
 * message_delta with the stop reason and the usage; message_stop. Blocks that we do not
 * know come whole in their start, as the service itself sends blocks without deltas.
 *
 * The system prompt and tools may carry `cache_control`, a hint to the provider's own
 * cache: it is not part of a key. Thinking blocks are signed; they are kept and replayed as
 * they came, to equal requests only. */
#include "json/span.h"
#include "wire/openai_internal.h"

#include "base/bytes.h"

static const rp_conversation_kind messages_conversation = { .text_type = "text" };

/* ---- requests ---------------------------------------------------------------------------- */

/* Tools without a type, or of these families, are run by the caller; all others by the
 * service, against a world that changes. */
static bool
is_caller_tool(const rp_json *tool)
{
    static const char *const families[] = { "custom", "bash_*", "text_editor_*", "computer_*",
                                            "memory_*" };
    const rp_json *type = rp_json_get(tool, "type");
    if (!type || type->type == RP_JSON_NULL)
        return true;
    for (size_t i = 0; i < RP_COUNT(families); i++)
        if (rp_str_matches_glob(rp_json_string(type), rp_str_of(families[i])))
            return true;
    return false;
}

static bool
messages_member(rp_request_draft *draft, const rp_json *member)
{
    if (rp_str_equal(member->name, RP_STR("messages"))) {
        rp_request_conversation(draft, member->name, member, &messages_conversation);
        return true;
    }
    if (rp_str_equal(member->name, RP_STR("system"))) {
        rp_request_content_field(draft, member->name, member);
        return true;
    }
    if (rp_str_equal(member->name, RP_STR("tools"))) {
        for (uint32_t i = 0; member->type == RP_JSON_ARRAY && i < member->count; i++)
            if (!is_caller_tool(&member->children[i]))
                rp_request_lower(draft, RP_TIER_NONE, "hosted-tool");
        rp_request_tools_field(draft, member->name, member);
        return true;
    }
    if (rp_str_equal(member->name, RP_STR("thinking"))) {
        const rp_str type = rp_json_string(rp_json_get(member, "type"));
        if (!rp_json_is_idle(member) && !rp_str_equal(type, RP_STR("disabled")))
            rp_request_lower(draft, RP_TIER_EXACT, "thinking");
    }
    return false;
}

static void
messages_end(rp_request_draft *draft)
{
    if (!rp_json_get(draft->json, "messages"))
        rp_request_lower(draft, RP_TIER_NONE, "messages");
}

/* ---- bodies ------------------------------------------------------------------------------ */

static rp_usage
messages_usage(const rp_json *usage)
{
    /* input_tokens leaves out what the provider cached; ours includes it. */
    static const char *const inputs[] = { "input_tokens", "cache_creation_input_tokens",
                                          "cache_read_input_tokens" };
    rp_usage out = { -1, -1 };
    for (size_t i = 0; i < RP_COUNT(inputs); i++) {
        int64_t count;
        if (!rp_json_to_int64(rp_json_get(usage, inputs[i]), &count) || count < 0)
            continue;
        if (__builtin_add_overflow(RP_MAX(out.input_tokens, 0), count, &out.input_tokens))
            out.input_tokens = -1;
    }
    if (!rp_json_to_int64(rp_json_get(usage, "output_tokens"), &out.output_tokens) ||
        out.output_tokens < 0)
        out.output_tokens = -1;
    return out;
}

static rp_reply_verdict
judge_stop(rp_reply_draft *draft, const rp_json *json)
{
    const rp_str stop = rp_json_string(rp_json_get(json, "stop_reason"));
    if (rp_str_equal(stop, RP_STR("refusal")))
        return RP_REPLY_REFUSAL;
    return rp_draft_unfinished(draft, stop) || rp_str_equal(stop, RP_STR("end_turn")) || rp_str_equal(stop, RP_STR("stop_sequence")) ||
                   rp_str_equal(stop, RP_STR("tool_use"))
               ? RP_REPLY_GOOD
               : RP_REPLY_FINISH;
}

/* What a member of a block is to a stream. */
static rp_span_kind
block_member_kind(rp_str type, const rp_json *member)
{
    const bool is_text = rp_str_equal(type, RP_STR("text"));
    const bool is_thinking = rp_str_equal(type, RP_STR("thinking"));
    if (rp_str_equal(member->name, RP_STR("text")) && is_text)
        return RP_SPAN_CONTENT;
    if (rp_str_equal(member->name, RP_STR("citations")) && is_text)
        return RP_SPAN_CITATION;
    if (rp_str_equal(member->name, RP_STR("thinking")) && is_thinking)
        return RP_SPAN_THINKING;
    if (rp_str_equal(member->name, RP_STR("signature")) && is_thinking)
        return RP_SPAN_SIGNATURE;
    if (rp_str_equal(member->name, RP_STR("input")) && rp_str_ends_with(type, RP_STR("tool_use")))
        return RP_SPAN_TOOL_ARGUMENTS;
    return RP_SPAN_ITEM_MEMBER;
}

static void
read_block(rp_reply_draft *draft, const rp_json *block, rp_str bytes)
{
    const rp_str type = rp_json_string(rp_json_get(block, "type"));
    rp_json_walk members, citations;
    rp_draft_span(draft, RP_SPAN_ITEM, bytes);
    if (type.len == 0)
        draft->flags |= RP_REPLY_BODY_ONLY; /* a reader of events could make nothing of it */
    rp_json_walk_init(&members, block, bytes);
    while (rp_json_walk_next(&members)) {
        const rp_span_kind kind = block_member_kind(type, members.child);
        const bool is_object = members.child->type == RP_JSON_OBJECT;
        if (kind == RP_SPAN_ITEM_MEMBER) {
            rp_draft_span(draft, kind, members.member);
        } else if (kind == RP_SPAN_CITATION) {
            rp_json_walk_init(&citations, members.child, members.value);
            while (rp_json_walk_next(&citations))
                rp_draft_span(draft, kind, citations.value);
        } else if (is_object == (kind == RP_SPAN_TOOL_ARGUMENTS) &&
                   (is_object || members.child->type == RP_JSON_STRING)) {
            rp_draft_span(draft, kind, members.value);
        } else {
            draft->flags |= RP_REPLY_BODY_ONLY;
        }
    }
}

static rp_reply_verdict
read_blocks(rp_reply_draft *draft, const rp_json *content, rp_str bytes)
{
    bool says = false;
    rp_json_walk walk;
    rp_json_walk_init(&walk, content, bytes);
    while (rp_json_walk_next(&walk)) {
        if (walk.child->type != RP_JSON_OBJECT)
            return RP_REPLY_UNREADABLE;
        const rp_str type = rp_json_string(rp_json_get(walk.child, "type"));
        read_block(draft, walk.child, walk.value);
        if (rp_str_equal(type, RP_STR("text"))) {
            if (rp_str_trimmed(rp_json_string(rp_json_get(walk.child, "text"))).len)
                says = true;
        } else if (!rp_str_ends_with(type, RP_STR("thinking"))) {
            draft->flags |= RP_REPLY_HAS_TOOLS;
            says = true;
        }
    }
    return says ? RP_REPLY_GOOD : RP_REPLY_EMPTY;
}

static rp_reply_verdict
messages_body(rp_reply_draft *draft, const rp_json *json)
{
    if (json->type != RP_JSON_OBJECT)
        return RP_REPLY_UNREADABLE;
    if (!rp_json_is_idle(rp_json_get(json, "error")))
        return RP_REPLY_ERROR;
    if (!rp_str_equal(rp_json_string(rp_json_get(json, "type")), RP_STR("message")))
        return RP_REPLY_UNREADABLE;
    rp_reply_verdict verdict = judge_stop(draft, json);
    if (verdict != RP_REPLY_GOOD)
        return verdict;
    verdict = RP_REPLY_UNREADABLE;
    rp_json_walk walk;
    rp_json_walk_init(&walk, json, draft->body);
    while (rp_json_walk_next(&walk)) {
        const rp_str name = walk.child->name;
        if (rp_draft_head_member(draft, &walk, NULL, messages_usage))
            continue;
        if (rp_str_equal(name, RP_STR("content"))) {
            verdict = read_blocks(draft, walk.child, walk.value);
            if (verdict != RP_REPLY_GOOD)
                return verdict;
        } else if (rp_str_equal(name, RP_STR("stop_reason")) ||
                   rp_str_equal(name, RP_STR("stop_sequence"))) {
            rp_draft_span(draft, RP_SPAN_CHOICE_EXTRA, walk.member);
        } else {
            rp_draft_span(draft, RP_SPAN_TOP_EXTRA, walk.member);
        }
    }
    return verdict;
}

/* ---- streams to bodies ------------------------------------------------------------------- */

enum { BLOCKS_MAX = 512 };

typedef struct block_parts {
    rp_extras members;   /* as they came with the start */
    rp_buffer text, thinking, signature, input, citations;
    bool is_text, is_thinking, is_tool, has_signature;
} block_parts;

typedef struct messages_state {
    rp_extras members, usage, end; /* of the message; end: stop_reason, stop_sequence ... */
    block_parts *blocks[BLOCKS_MAX]; /* in the arena */
    size_t block_count;
    bool started;
} messages_state;

static bool
append_text(rp_buffer *out, const rp_json *value)
{
    rp_buffer_append(out, rp_json_string(value));
    return value && value->type == RP_JSON_STRING && !rp_buffer_failed(out);
}

static bool
add_members(rp_assembly *assembly, rp_extras *extras, const rp_json *object)
{
    for (uint32_t i = 0; object && object->type == RP_JSON_OBJECT && i < object->count; i++)
        if (!rp_extras_add(assembly, extras, &object->children[i], RP_EXTRA_VALUE))
            return false;
    return true;
}

static bool
start_message(rp_assembly *assembly, const rp_json *message)
{
    messages_state *state = assembly->state;
    if (state->started || !message || message->type != RP_JSON_OBJECT)
        return false;
    state->started = true;
    for (uint32_t i = 0; i < message->count; i++) {
        const rp_json *member = &message->children[i];
        const rp_str name = member->name;
        bool sound = true;
        if (rp_str_equal(name, RP_STR("usage")))
            sound = add_members(assembly, &state->usage, member);
        else if (!rp_str_equal(name, RP_STR("content")) &&
                 !rp_str_equal(name, RP_STR("stop_reason")) &&
                 !rp_str_equal(name, RP_STR("stop_sequence")))
            sound = rp_extras_add(assembly, &state->members, member, RP_EXTRA_VALUE);
        if (!sound)
            return false;
    }
    return true;
}

static bool
start_block(rp_assembly *assembly, int64_t index, const rp_json *block)
{
    messages_state *state = assembly->state;
    const rp_str type = rp_json_string(rp_json_get(block, "type"));
    if (index != (int64_t)state->block_count || state->block_count == BLOCKS_MAX || type.len == 0)
        return false;
    block_parts *parts = rp_arena_calloc(assembly->arena, 1, sizeof *parts);
    if (!parts)
        return false;
    state->blocks[state->block_count++] = parts;
    parts->is_text = rp_str_equal(type, RP_STR("text"));
    parts->is_thinking = rp_str_equal(type, RP_STR("thinking"));
    parts->is_tool = rp_str_ends_with(type, RP_STR("tool_use"));
    for (uint32_t i = 0; i < block->count; i++) {
        const rp_json *member = &block->children[i];
        bool sound = true;
        switch (block_member_kind(type, member)) {
        case RP_SPAN_CONTENT: sound = append_text(&parts->text, member); break;
        case RP_SPAN_THINKING: sound = append_text(&parts->thinking, member); break;
        case RP_SPAN_SIGNATURE:
            parts->has_signature = true;
            sound = append_text(&parts->signature, member);
            break;
        /* Empty until the deltas come; a whole one would have no place among them. */
        case RP_SPAN_CITATION:
        case RP_SPAN_TOOL_ARGUMENTS: sound = rp_reply_member_is_empty(member); break;
        default: sound = rp_extras_add(assembly, &parts->members, member, RP_EXTRA_VALUE);
        }
        if (!sound)
            return false;
    }
    return true;
}

static bool
add_delta(rp_assembly *assembly, int64_t index, const rp_json *delta)
{
    messages_state *state = assembly->state;
    if (index < 0 || index + 1 != (int64_t)state->block_count)
        return false;
    block_parts *parts = state->blocks[index];
    const rp_str type = rp_json_string(rp_json_get(delta, "type"));
    if (rp_str_equal(type, RP_STR("text_delta")))
        return parts->is_text && append_text(&parts->text, rp_json_get(delta, "text"));
    if (rp_str_equal(type, RP_STR("input_json_delta")))
        return parts->is_tool && append_text(&parts->input, rp_json_get(delta, "partial_json"));
    if (rp_str_equal(type, RP_STR("thinking_delta")))
        return parts->is_thinking && append_text(&parts->thinking, rp_json_get(delta, "thinking"));
    if (rp_str_equal(type, RP_STR("signature_delta"))) {
        parts->has_signature = true;
        return parts->is_thinking &&
               append_text(&parts->signature, rp_json_get(delta, "signature"));
    }
    const rp_json *citation = rp_json_get(delta, "citation");
    if (!rp_str_equal(type, RP_STR("citations_delta")) || !citation || !parts->is_text)
        return false;
    if (parts->citations.len)
        rp_buffer_append_char(&parts->citations, ',');
    rp_json_write(citation, &parts->citations);
    return !rp_buffer_failed(&parts->citations);
}

static bool
end_message(rp_assembly *assembly, const rp_json *event)
{
    messages_state *state = assembly->state;
    assembly->usage_known = true;
    return add_members(assembly, &state->end, rp_json_get(event, "delta")) &&
           add_members(assembly, &state->usage, rp_json_get(event, "usage"));
}

static void
messages_event(rp_assembly *assembly, rp_str type, const rp_json *json)
{
    const messages_state *state = assembly->state;
    int64_t index = -1;
    const rp_str said = rp_json_string(rp_json_get(json, "type"));
    rp_json_to_int64(rp_json_get(json, "index"), &index);
    bool sound = true;
    if (rp_str_equal(said, RP_STR("message_start")))
        sound = start_message(assembly, rp_json_get(json, "message"));
    else if (rp_str_equal(said, RP_STR("content_block_start")))
        sound = start_block(assembly, index, rp_json_get(json, "content_block"));
    else if (rp_str_equal(said, RP_STR("content_block_delta")))
        sound = add_delta(assembly, index, rp_json_get(json, "delta"));
    else if (rp_str_equal(said, RP_STR("message_delta")))
        sound = end_message(assembly, json);
    else if (rp_str_equal(said, RP_STR("message_stop")))
        assembly->terminal = state->started;
    else
        sound = rp_str_equal(said, RP_STR("content_block_stop")) ||
                rp_str_equal(said, RP_STR("ping"));
    if (!sound)
        assembly->verdict = RP_REPLY_UNREADABLE;
}

static void
write_block(rp_json_writer *w, const block_parts *parts)
{
    rp_json_open(w, '{');
    rp_extras_write(&parts->members, w);
    if (parts->is_text) {
        rp_json_key(w, "text");
        rp_json_put_string(w, rp_buffer_str(&parts->text));
    }
    if (parts->citations.len) {
        rp_json_key(w, "citations");
        rp_json_open(w, '[');
        rp_json_put_raw(w, rp_buffer_str(&parts->citations));
        rp_json_close(w, ']');
    }
    if (parts->is_thinking) {
        rp_json_key(w, "thinking");
        rp_json_put_string(w, rp_buffer_str(&parts->thinking));
        if (parts->has_signature) {
            rp_json_key(w, "signature");
            rp_json_put_string(w, rp_buffer_str(&parts->signature));
        }
    }
    if (parts->is_tool) {
        rp_json_key(w, "input");
        rp_json_put_raw(w, parts->input.len ? rp_buffer_str(&parts->input) : RP_STR("{}"));
    }
    rp_json_close(w, '}');
}

static void
messages_assembled(rp_assembly *assembly, rp_buffer *body)
{
    const messages_state *state = assembly->state;
    rp_json_writer w;
    rp_json_writer_init(&w, body);
    rp_json_open(&w, '{');
    rp_extras_write(&state->members, &w);
    rp_json_key(&w, "content");
    rp_json_open(&w, '[');
    for (size_t i = 0; i < state->block_count; i++)
        write_block(&w, state->blocks[i]);
    rp_json_close(&w, ']');
    rp_extras_write(&state->end, &w);
    /* A member that the service always sends, null where it does not apply. */
    bool has_sequence = false;
    for (size_t i = 0; i < state->end.count; i++)
        has_sequence = has_sequence ||
                       rp_str_equal(state->end.each[i].name, RP_STR("stop_sequence"));
    if (!has_sequence) {
        rp_json_key(&w, "stop_sequence");
        rp_json_put_null(&w);
    }
    rp_json_key(&w, "usage");
    rp_json_open(&w, '{');
    rp_extras_write(&state->usage, &w);
    rp_json_close(&w, '}');
    rp_json_close(&w, '}');
}

static void
messages_fini(rp_assembly *assembly)
{
    messages_state *state = assembly->state;
    for (size_t i = 0; i < state->block_count; i++) {
        block_parts *parts = state->blocks[i];
        rp_extras_fini(&parts->members);
        rp_buffer_fini(&parts->text);
        rp_buffer_fini(&parts->thinking);
        rp_buffer_fini(&parts->signature);
        rp_buffer_fini(&parts->input);
        rp_buffer_fini(&parts->citations);
    }
    rp_extras_fini(&state->members);
    rp_extras_fini(&state->usage);
    rp_extras_fini(&state->end);
}

/* ---- bodies to streams ------------------------------------------------------------------- */

#define ZERO_USAGE "{\"input_tokens\":0,\"output_tokens\":0}"

static void
put(rp_buffer *out, const char *text)
{
    rp_buffer_append(out, rp_str_of(text));
}

static void
put_delta(rp_buffer *out, size_t index, const char *kind, const char *name, rp_str inside)
{
    rp_buffer_printf(out,
                     "event: content_block_delta\ndata: {\"type\":\"content_block_delta\","
                     "\"index\":%zu,\"delta\":{\"type\":\"%s\",\"%s\":\"",
                     index, kind, name);
    rp_buffer_append(out, inside);
    put(out, "\"}}\n\n");
}

static void
put_deltas(rp_buffer *out, size_t index, const char *kind, const char *name, rp_str json)
{
    rp_str rest = rp_string_inside(json);
    const size_t size = rp_replay_piece_size(rest.len);
    while (rest.len)
        put_delta(out, index, kind, name, rp_replay_piece(&rest, size));
}

static void
put_block_start(const rp_reply *reply, rp_span_group block, size_t index, rp_buffer *out)
{
    rp_buffer_printf(out,
                     "event: content_block_start\ndata: {\"type\":\"content_block_start\","
                     "\"index\":%zu,\"content_block\":{",
                     index);
    bool comma = false, cited = false;
    for (size_t i = block.first; i < block.end; i++) {
        const rp_span span = rp_reply_span(reply, i);
        const char *empty = span.kind == RP_SPAN_CONTENT          ? "\"text\":\"\""
                            : span.kind == RP_SPAN_THINKING       ? "\"thinking\":\"\""
                            : span.kind == RP_SPAN_SIGNATURE      ? "\"signature\":\"\""
                            : span.kind == RP_SPAN_TOOL_ARGUMENTS ? "\"input\":{}"
                            : span.kind == RP_SPAN_CITATION && !cited ? "\"citations\":[]"
                                                                      : NULL;
        cited = cited || span.kind == RP_SPAN_CITATION;
        if (!empty && span.kind != RP_SPAN_ITEM_MEMBER)
            continue;
        if (comma)
            rp_buffer_append_char(out, ',');
        comma = true;
        if (empty)
            put(out, empty);
        else
            rp_replay_raw(rp_span_bytes(reply, span), out);
    }
    put(out, "}}\n\n");
}

static void
put_tool_input(rp_buffer *out, size_t index, rp_str input)
{
    rp_buffer_printf(out,
                     "event: content_block_delta\ndata: {\"type\":\"content_block_delta\","
                     "\"index\":%zu,\"delta\":{\"type\":\"input_json_delta\",\"partial_json\":",
                     index);
    rp_json_write_string(input, out);
    put(out, "}}\n\n");
}

static void
put_block(const rp_reply *reply, rp_span_group block, size_t index, rp_buffer *out)
{
    put_block_start(reply, block, index, out);
    for (size_t i = block.first; i < block.end; i++) {
        const rp_span span = rp_reply_span(reply, i);
        const rp_str bytes = rp_span_bytes(reply, span);
        if (span.kind == RP_SPAN_CONTENT) {
            put_deltas(out, index, "text_delta", "text", bytes);
        } else if (span.kind == RP_SPAN_THINKING) {
            put_deltas(out, index, "thinking_delta", "thinking", bytes);
        } else if (span.kind == RP_SPAN_SIGNATURE) {
            put_delta(out, index, "signature_delta", "signature", rp_string_inside(bytes));
        } else if (span.kind == RP_SPAN_TOOL_ARGUMENTS) {
            put_tool_input(out, index, bytes);
        } else if (span.kind == RP_SPAN_CITATION) {
            rp_buffer_printf(out,
                             "event: content_block_delta\ndata: {\"type\":"
                             "\"content_block_delta\",\"index\":%zu,\"delta\":{\"type\":"
                             "\"citations_delta\",\"citation\":",
                             index);
            rp_replay_raw(bytes, out);
            put(out, "}}\n\n");
        }
    }
    rp_buffer_printf(out,
                     "event: content_block_stop\ndata: {\"type\":\"content_block_stop\","
                     "\"index\":%zu}\n\n",
                     index);
}

/* All spans of a kind, whole members, each with a comma before it if `comma` says so. */
static void
put_members(const rp_reply *reply, rp_span_kind kind, bool comma, rp_buffer *out)
{
    for (size_t i = 0; i < reply->span_count; i++) {
        const rp_span span = rp_reply_span(reply, i);
        if (span.kind != kind)
            continue;
        if (comma)
            rp_buffer_append_char(out, ',');
        comma = true;
        rp_replay_raw(rp_span_bytes(reply, span), out);
    }
}

static rp_status
messages_stream(const rp_reply *reply, const rp_replay_options *options, rp_buffer *out)
{
    rp_str usage = rp_reply_find(reply, RP_SPAN_USAGE);
    if (options->zero_usage)
        usage = RP_STR(ZERO_USAGE);
    if (!usage.ptr)
        return RP_ERR_UNSUPPORTED; /* the protocol's streams always have it */
    put(out, "event: message_start\ndata: {\"type\":\"message_start\",\"message\":{\"id\":");
    rp_replay_id(reply, options, "msg_", out);
    put_members(reply, RP_SPAN_TOP_EXTRA, true, out);
    const rp_str model = rp_reply_find(reply, RP_SPAN_MODEL);
    if (model.ptr) {
        put(out, ",\"model\":");
        rp_replay_raw(model, out);
    }
    put(out, ",\"content\":[],\"stop_reason\":null,\"stop_sequence\":null,\"usage\":");
    rp_replay_raw(usage, out);
    put(out, "}}\n\n");
    rp_span_group block = { 0 };
    for (size_t index = 0; rp_group_next(reply, RP_SPAN_ITEM, &block); index++)
        put_block(reply, block, index, out);
    put(out, "event: message_delta\ndata: {\"type\":\"message_delta\",\"delta\":{");
    put_members(reply, RP_SPAN_CHOICE_EXTRA, false, out);
    put(out, "},\"usage\":");
    rp_replay_raw(usage, out);
    put(out, "}\n\nevent: message_stop\ndata: {\"type\":\"message_stop\"}\n\n");
    return RP_OK;
}

static rp_status
messages_replay_body(const rp_reply *reply, const rp_replay_options *options, rp_buffer *out)
{
    return rp_replay_body(reply, options, "msg_", RP_STR(ZERO_USAGE), out);
}

const rp_protocol rp_protocol_messages = {
    .name = "messages",
    .path = "/v1/messages",
    .assembly_size = sizeof(messages_state),
    .request_member = messages_member,
    .request_end = messages_end,
    .reply_body = messages_body,
    .reply_event = messages_event,
    .reply_assembled = messages_assembled,
    .assembly_fini = messages_fini,
    .replay_body = messages_replay_body,
    .replay_stream = messages_stream,
};
