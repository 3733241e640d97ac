/* openai_embeddings.c - POST /v1/embeddings: vectors are a function of the text, so only
 * equal requests share them. There is no stream, no id and no created: a replay is the
 * stored bytes. */
#include "wire/openai_internal.h"

#include "base/bytes.h"

static bool
embeddings_member(rp_request_draft *draft, const rp_json *member)
{
    return false;
}

static void
embeddings_end(rp_request_draft *draft)
{
    rp_request_lower(draft, RP_TIER_EXACT, "embeddings");
    if (rp_json_is_idle(rp_json_get(draft->json, "input")))
        rp_request_lower(draft, RP_TIER_NONE, "input");
}

static rp_reply_verdict
embeddings_body(rp_reply_draft *draft, const rp_json *json)
{
    if (json->type != RP_JSON_OBJECT)
        return RP_REPLY_UNREADABLE;
    if (!rp_json_is_idle(rp_json_get(json, "error")))
        return RP_REPLY_ERROR;
    const rp_json *data = rp_json_get(json, "data");
    if (!data || data->type != RP_JSON_ARRAY)
        return RP_REPLY_UNREADABLE;
    for (uint32_t i = 0; i < data->count; i++) {
        const rp_json *vector = rp_json_get(&data->children[i], "embedding");
        if (!vector || (vector->type != RP_JSON_ARRAY && vector->type != RP_JSON_STRING))
            return RP_REPLY_UNREADABLE;
        if (vector->type == RP_JSON_ARRAY ? vector->count == 0 : vector->string.len == 0)
            return RP_REPLY_EMPTY;
    }
    rp_json_walk walk;
    rp_json_walk_init(&walk, json, draft->body);
    while (rp_json_walk_next(&walk)) {
        if (!rp_str_equal(walk.child->name, RP_STR("usage")) || walk.child->type != RP_JSON_OBJECT)
            continue;
        rp_draft_span(draft, RP_SPAN_USAGE, walk.value);
        draft->usage = rp_openai_usage(walk.child);
        if (draft->usage.input_tokens >= 0 && draft->usage.output_tokens < 0)
            draft->usage.output_tokens = 0;
    }
    return data->count ? RP_REPLY_GOOD : RP_REPLY_EMPTY;
}

static rp_status
embeddings_replay_body(const rp_reply *reply, const rp_replay_options *options, rp_buffer *out)
{
    return rp_replay_body(reply, options, "", RP_STR("{\"prompt_tokens\":0,\"total_tokens\":0}"),
                          out);
}

const rp_protocol rp_protocol_embeddings = {
    .name = "embeddings",
    .path = "/v1/embeddings",
    .request_member = embeddings_member,
    .request_end = embeddings_end,
    .reply_body = embeddings_body,
    .replay_body = embeddings_replay_body,
};
