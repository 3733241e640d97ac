/* openai_responses.c - POST /v1/responses.
 *
 * The service keeps a response under its id unless `store` is false, and a later request
 * may go on from it (previous_response_id) or fetch it. So a replay keeps the id of a reply
 * that the service has kept, and such requests are answered in the exact tier only; absent
 * is the API's default, true. */
#include "json/span.h"
#include "wire/openai_internal.h"

#include "base/bytes.h"

static const rp_conversation_kind responses_conversation = {
    .text_type = "input_text",
    .typed_items = true,
};

/* ---- requests ---------------------------------------------------------------------------- */

static void
lower_by_tool(rp_request_draft *draft, const rp_json *tools)
{
    for (uint32_t i = 0; tools->type == RP_JSON_ARRAY && i < tools->count; i++) {
        const rp_str type = rp_json_string(rp_json_get(&tools->children[i], "type"));
        if (!rp_str_equal(type, RP_STR("function")) && !rp_str_equal(type, RP_STR("custom")))
            rp_request_lower(draft, RP_TIER_NONE, "hosted-tool");
    }
}

static bool
responses_member(rp_request_draft *draft, const rp_json *member)
{
    if (rp_str_equal(member->name, RP_STR("input"))) {
        rp_request_conversation(draft, member->name, member, &responses_conversation);
        return true;
    }
    if (rp_str_equal(member->name, RP_STR("tools"))) {
        lower_by_tool(draft, member);
        rp_request_tools_field(draft, member->name, member);
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
    if (!store || store->type != RP_JSON_BOOL || store->boolean)
        rp_request_lower(draft, RP_TIER_EXACT, "store");
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

/* The first text of the output, for judges. */
static void
find_text(rp_reply_draft *draft, const rp_json *item, rp_str bytes)
{
    rp_json_walk members, parts, fields;
    rp_json_walk_init(&members, item, bytes);
    while (rp_json_walk_next(&members)) {
        if (!rp_str_equal(members.child->name, RP_STR("content")))
            continue;
        rp_json_walk_init(&parts, members.child, members.value);
        while (rp_json_walk_next(&parts)) {
            rp_json_walk_init(&fields, parts.child, parts.value);
            while (rp_json_walk_next(&fields))
                if (rp_str_equal(fields.child->name, RP_STR("text")) &&
                    fields.child->type == RP_JSON_STRING)
                    rp_draft_span(draft, RP_SPAN_CONTENT, fields.value);
        }
    }
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
            find_text(draft, walk.child, walk.value);
        } else if (!rp_str_equal(type, RP_STR("reasoning"))) {
            draft->flags |= RP_REPLY_HAS_TOOLS;
            says = true;
        }
        rp_draft_span(draft, RP_SPAN_ITEM, walk.value);
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
        if (rp_str_equal(name, RP_STR("id"))) {
            rp_draft_span(draft, RP_SPAN_ID, walk.value);
        } else if (rp_str_equal(name, RP_STR("created_at"))) {
            rp_draft_span(draft, RP_SPAN_CREATED, walk.value);
            if (!rp_json_to_int64(walk.child, &draft->created))
                draft->created = 0;
        } else if (rp_str_equal(name, RP_STR("model"))) {
            rp_draft_span(draft, RP_SPAN_MODEL, walk.value);
        } else if (rp_str_equal(name, RP_STR("usage"))) {
            if (walk.child->type != RP_JSON_OBJECT)
                continue;
            rp_draft_span(draft, RP_SPAN_USAGE, walk.value);
            draft->usage = rp_openai_usage(walk.child);
        } else if (rp_str_equal(name, RP_STR("output"))) {
            verdict = read_output(draft, walk.child, walk.value);
            if (verdict != RP_REPLY_GOOD)
                return verdict;
        }
    }
    return verdict;
}

static rp_status
responses_replay_body(const rp_reply *reply, const rp_replay_options *options, rp_buffer *out)
{
    return rp_replay_body(reply, options, "resp_",
                          RP_STR("{\"input_tokens\":0,\"input_tokens_details\":{\"cached_tokens\":"
                                 "0},\"output_tokens\":0,\"output_tokens_details\":{\"reasoning_"
                                 "tokens\":0},\"total_tokens\":0}"),
                          out);
}

const rp_protocol rp_protocol_responses = {
    .name = "responses",
    .path = "/v1/responses",
    .request_member = responses_member,
    .request_end = responses_end,
    .reply_body = responses_body,
    .replay_body = responses_replay_body,
};
