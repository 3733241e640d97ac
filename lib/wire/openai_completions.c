/* openai_completions.c - POST /v1/completions, the older protocol: a prompt in, text out. */
#include "wire/openai_internal.h"

#include "base/bytes.h"

/* ---- requests ---------------------------------------------------------------------------- */

static bool
completions_member(rp_request_draft *draft, const rp_json *member)
{
    if (!rp_str_equal(member->name, RP_STR("prompt")))
        return false;
    if (member->type != RP_JSON_STRING) {
        /* Lists of prompts, or of token ids. */
        rp_request_lower(draft, RP_TIER_EXACT, "prompt-list");
        return false;
    }
    rp_request_prompt(draft, member->string);
    rp_request_turn(draft, member);
    return true;
}

static void
completions_end(rp_request_draft *draft)
{
    if (!rp_json_get(draft->json, "prompt"))
        rp_request_lower(draft, RP_TIER_EXACT, "empty-prompt");
}

/* ---- bodies ------------------------------------------------------------------------------ */

static rp_reply_verdict
read_choice(rp_reply_draft *draft, const rp_json *choice, rp_str bytes)
{
    const rp_reply_verdict finish = rp_openai_finish(draft, rp_json_get(choice, "finish_reason"));
    if (finish != RP_REPLY_GOOD)
        return finish;
    bool says = false;
    rp_json_walk walk;
    rp_json_walk_init(&walk, choice, bytes);
    while (rp_json_walk_next(&walk)) {
        const rp_str name = walk.child->name;
        if (rp_str_equal(name, RP_STR("text"))) {
            if (walk.child->type != RP_JSON_STRING)
                return RP_REPLY_UNREADABLE;
            rp_draft_span(draft, RP_SPAN_CONTENT, walk.value);
            says = rp_str_trimmed(walk.child->string).len > 0;
        } else if (rp_str_equal(name, RP_STR("finish_reason"))) {
            rp_draft_span(draft, RP_SPAN_FINISH, walk.value);
        } else if (rp_str_equal(name, RP_STR("logprobs"))) {
            if (!rp_reply_member_is_empty(walk.child))
                rp_draft_span(draft, RP_SPAN_LOGPROBS, walk.value);
        } else if (!rp_str_equal(name, RP_STR("index")) && !rp_reply_member_is_empty(walk.child)) {
            rp_draft_span(draft, RP_SPAN_CHOICE_EXTRA, walk.member);
        }
    }
    return says ? RP_REPLY_GOOD : RP_REPLY_EMPTY;
}

static rp_reply_verdict
completions_body(rp_reply_draft *draft, const rp_json *json)
{
    return rp_openai_body(draft, json, read_choice);
}

/* ---- streams to bodies ------------------------------------------------------------------- */

static bool
read_chunk_choice(rp_assembly *assembly, rp_choice_parts *parts, const rp_json *choice)
{
    for (uint32_t i = 0; i < choice->count; i++) {
        const rp_json *member = &choice->children[i];
        if (!rp_str_equal(member->name, RP_STR("text"))) {
            if (!rp_openai_common_delta(assembly, parts, member))
                return false;
        } else if (member->type == RP_JSON_STRING) {
            rp_buffer_append(&parts->content, member->string);
        } else if (member->type != RP_JSON_NULL) {
            return false;
        }
    }
    return !rp_buffer_failed(&parts->content);
}

static void
completions_event(rp_assembly *assembly, rp_str type, const rp_json *json)
{
    rp_openai_event(assembly, json, read_chunk_choice);
}

static void
write_choice(rp_json_writer *w, const rp_choice_parts *parts)
{
    rp_json_key(w, "text");
    rp_json_put_string(w, rp_buffer_str(&parts->content));
}

static void
completions_assembled(rp_assembly *assembly, rp_buffer *body)
{
    rp_openai_assembled(assembly, "text_completion", write_choice, body);
}

/* ---- bodies to streams ------------------------------------------------------------------- */

static void
put_text_chunk(rp_chunks *chunks, rp_str index, rp_str piece, rp_str logprobs)
{
    rp_buffer *out = chunks->out;
    rp_chunk_open(chunks);
    rp_buffer_append(out, RP_STR("{\"text\":\""));
    rp_buffer_append(out, piece);
    rp_buffer_append(out, RP_STR("\",\"index\":"));
    rp_replay_raw(index, out);
    rp_buffer_append(out, RP_STR(",\"logprobs\":"));
    rp_replay_raw(logprobs.ptr ? logprobs : RP_STR("null"), out);
    rp_buffer_append(out, RP_STR(",\"finish_reason\":null}"));
    rp_chunk_close(chunks);
}

static void
put_finish(rp_chunks *chunks, rp_span_group spans, rp_str index)
{
    const rp_reply *reply = chunks->reply;
    rp_buffer *out = chunks->out;
    rp_chunk_open(chunks);
    rp_buffer_append(out, RP_STR("{\"text\":\"\",\"index\":"));
    rp_replay_raw(index, out);
    rp_buffer_append(out, RP_STR(",\"logprobs\":null,\"finish_reason\":"));
    rp_replay_raw(rp_group_find(reply, spans, RP_SPAN_FINISH), out);
    for (size_t i = spans.first; i < spans.end; i++) {
        const rp_span span = rp_reply_span(reply, i);
        if (span.kind != RP_SPAN_CHOICE_EXTRA)
            continue;
        rp_buffer_append_char(out, ',');
        rp_replay_raw(rp_span_bytes(reply, span), out);
    }
    rp_buffer_append_char(out, '}');
    rp_chunk_close(chunks);
}

static rp_status
completions_stream(const rp_reply *reply, const rp_replay_options *options, rp_buffer *out)
{
    rp_chunks chunks;
    rp_span_group spans = { 0 };
    rp_chunks_init(&chunks, reply, options, "cmpl-", "text_completion", out);
    while (rp_group_next(reply, RP_SPAN_CHOICE, &spans)) {
        const rp_str index = rp_span_bytes(reply, rp_reply_span(reply, spans.first));
        const rp_str logprobs = rp_group_find(reply, spans, RP_SPAN_LOGPROBS);
        rp_str rest = rp_string_inside(rp_group_find(reply, spans, RP_SPAN_CONTENT));
        /* Lists that run token by token stay beside the whole text. */
        const size_t size = rp_replay_piece_size(rest.len);
        if (logprobs.ptr)
            put_text_chunk(&chunks, index, rest, logprobs);
        while (!logprobs.ptr && rest.len)
            put_text_chunk(&chunks, index, rp_replay_piece(&rest, size), logprobs);
        put_finish(&chunks, spans, index);
    }
    return rp_chunks_end(&chunks);
}

static rp_status
completions_replay_body(const rp_reply *reply, const rp_replay_options *options, rp_buffer *out)
{
    return rp_replay_body(reply, options, "cmpl-", RP_STR(RP_OPENAI_ZERO_USAGE), out);
}

const rp_protocol rp_protocol_completions = {
    .name = "completions",
    .path = "/v1/completions",
    .assembly_size = sizeof(rp_openai_state),
    .request_member = completions_member,
    .request_end = completions_end,
    .reply_body = completions_body,
    .reply_event = completions_event,
    .reply_assembled = completions_assembled,
    .assembly_fini = rp_openai_fini,
    .replay_body = completions_replay_body,
    .replay_stream = completions_stream,
};
