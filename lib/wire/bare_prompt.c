/* bare_prompt.c - a prompt without a protocol, from the native calls and the library:
 * {"prompt": "...", ...} in, a JSON string out. Other members separate; `user` and
 * `metadata` do not. A family of its own that never meets chat traffic. */
#include "wire/wire_internal.h"

#include "base/bytes.h"

static bool
prompt_member(rp_request_draft *draft, const rp_json *member)
{
    if (!rp_str_equal(member->name, RP_STR("prompt")) || member->type != RP_JSON_STRING)
        return false;
    rp_request_prompt(draft, member->string);
    rp_request_turn(draft, member);
    return true;
}

static void
prompt_end(rp_request_draft *draft)
{
    const rp_json *prompt = rp_json_get(draft->json, "prompt");
    if (!prompt || prompt->type != RP_JSON_STRING)
        rp_request_lower(draft, RP_TIER_NONE, "prompt");
}

static rp_reply_verdict
prompt_body(rp_reply_draft *draft, const rp_json *json)
{
    if (json->type != RP_JSON_STRING)
        return RP_REPLY_UNREADABLE;
    rp_draft_span(draft, RP_SPAN_CONTENT, rp_str_trimmed(draft->body));
    return rp_str_trimmed(json->string).len ? RP_REPLY_GOOD : RP_REPLY_EMPTY;
}

static rp_status
prompt_replay_body(const rp_reply *reply, const rp_replay_options *options, rp_buffer *out)
{
    rp_buffer_append(out, reply->body);
    return RP_OK;
}

const rp_protocol rp_protocol_prompt = {
    .name = "prompt",
    .request_member = prompt_member,
    .request_end = prompt_end,
    .reply_body = prompt_body,
    .replay_body = prompt_replay_body,
};
