/* anthropic_messages.c - POST /v1/messages (Anthropic).
 *
 * The system prompt and tools may carry `cache_control`, a hint to the provider's own
 * cache: it is not part of a key. Thinking blocks are signed; they are kept and replayed as
 * they came, to equal requests only. */
#include "json/span.h"
#include "wire/wire_internal.h"

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
judge_stop(const rp_json *json)
{
    const rp_str stop = rp_json_string(rp_json_get(json, "stop_reason"));
    if (rp_str_equal(stop, RP_STR("refusal")))
        return RP_REPLY_REFUSAL;
    return rp_str_equal(stop, RP_STR("end_turn")) || rp_str_equal(stop, RP_STR("stop_sequence")) ||
                   rp_str_equal(stop, RP_STR("tool_use"))
               ? RP_REPLY_GOOD
               : RP_REPLY_FINISH;
}

static rp_reply_verdict
read_blocks(rp_reply_draft *draft, const rp_json *content, rp_str bytes)
{
    bool says = false;
    rp_json_walk walk, members;
    rp_json_walk_init(&walk, content, bytes);
    while (rp_json_walk_next(&walk)) {
        const rp_str type = rp_json_string(rp_json_get(walk.child, "type"));
        rp_draft_span(draft, RP_SPAN_ITEM, walk.value);
        if (rp_str_equal(type, RP_STR("text"))) {
            rp_json_walk_init(&members, walk.child, walk.value);
            while (rp_json_walk_next(&members))
                if (rp_str_equal(members.child->name, RP_STR("text")) &&
                    members.child->type == RP_JSON_STRING) {
                    rp_draft_span(draft, RP_SPAN_CONTENT, members.value);
                    says = says || rp_str_trimmed(members.child->string).len > 0;
                }
        } else if (!rp_str_equal(type, RP_STR("thinking")) &&
                   !rp_str_equal(type, RP_STR("redacted_thinking"))) {
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
    rp_reply_verdict verdict = judge_stop(json);
    if (verdict != RP_REPLY_GOOD)
        return verdict;
    verdict = RP_REPLY_UNREADABLE;
    rp_json_walk walk;
    rp_json_walk_init(&walk, json, draft->body);
    while (rp_json_walk_next(&walk)) {
        const rp_str name = walk.child->name;
        if (rp_str_equal(name, RP_STR("id"))) {
            rp_draft_span(draft, RP_SPAN_ID, walk.value);
        } else if (rp_str_equal(name, RP_STR("model"))) {
            rp_draft_span(draft, RP_SPAN_MODEL, walk.value);
        } else if (rp_str_equal(name, RP_STR("usage"))) {
            if (walk.child->type != RP_JSON_OBJECT)
                continue;
            rp_draft_span(draft, RP_SPAN_USAGE, walk.value);
            draft->usage = messages_usage(walk.child);
        } else if (rp_str_equal(name, RP_STR("content"))) {
            verdict = read_blocks(draft, walk.child, walk.value);
            if (verdict != RP_REPLY_GOOD)
                return verdict;
        }
    }
    return verdict;
}

static rp_status
messages_replay_body(const rp_reply *reply, const rp_replay_options *options, rp_buffer *out)
{
    return rp_replay_body(reply, options, "msg_", RP_STR("{\"input_tokens\":0,\"output_tokens\":0}"),
                          out);
}

const rp_protocol rp_protocol_messages = {
    .name = "messages",
    .path = "/v1/messages",
    .request_member = messages_member,
    .request_end = messages_end,
    .reply_body = messages_body,
    .replay_body = messages_replay_body,
};
