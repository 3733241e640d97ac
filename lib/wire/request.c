/* request.c - a body becomes an rp_request: what all protocols have in common.
 *
 * Every member of the body is a field, and so separates, unless it is known not to:
 * protocol.md lists the members that cannot change an answer. A member that nobody here
 * has heard of separates too; that costs hits, never rightness. The protocol takes the
 * members that need more than that (the conversation, tools), and lowers the tier.
 *
 * Members are walked in any order: the fields are sorted at the end, and the reason for a
 * low tier is chosen by rank, not by which came first. */
#include "wire/wire_internal.h"

#include "base/bytes.h"
#include "json/span.h"
#include <math.h>
#include <stdlib.h>

void
rp_request_lower(rp_request_draft *draft, rp_tier tier, const char *reason)
{
    rp_request *out = draft->out;
    /* Two reasons for one tier: the smaller name, so that key order does not matter. */
    if (tier < out->tier || (tier == out->tier && out->reason && strcmp(reason, out->reason) < 0)) {
        out->tier = tier;
        out->reason = reason;
    }
}

void
rp_request_field(rp_request_draft *draft, rp_str name, const rp_json *value)
{
    struct rp_field_piece *piece = &draft->pieces[draft->piece_count++];
    piece->name = name;
    piece->offset = draft->text.len;
    rp_json_write_canonical(value, &draft->text);
    piece->size = draft->text.len - piece->offset;
}

void
rp_request_turn(rp_request_draft *draft, const rp_json *value)
{
    draft->turn_offset = draft->text.len;
    rp_json_write_canonical(value, &draft->text);
    draft->turn_size = draft->text.len - draft->turn_offset;
}

void
rp_request_prompt(rp_request_draft *draft, rp_str text)
{
    if (text.len > RP_TEXT_SIZE_MAX) {
        rp_request_lower(draft, RP_TIER_EXACT, "long-prompt");
        return;
    }
    const rp_str normal = rp_normal_text(text, draft->arena);
    if (normal.len == 0)
        rp_request_lower(draft, RP_TIER_EXACT, "empty-prompt");
    draft->out->prompt = normal;
}

bool
rp_json_is_idle(const rp_json *value)
{
    return !value || value->type == RP_JSON_NULL ||
           (value->type == RP_JSON_BOOL && !value->boolean) ||
           (value->type == RP_JSON_ARRAY && value->count == 0);
}

/* ---- members that do not separate ----------------------------------------------------- */

static rp_str
canonical_copy(const rp_json *value, rp_arena *arena)
{
    if (value->type == RP_JSON_NULL)
        return (rp_str){ NULL, 0 };
    rp_buffer text;
    rp_buffer_init(&text, 0);
    rp_json_write_canonical(value, &text);
    rp_str copy = { NULL, 0 };
    if (rp_buffer_failed(&text))
        arena->failed = true;
    else
        copy = rp_arena_copy(arena, rp_buffer_str(&text));
    rp_buffer_fini(&text);
    return copy;
}

static void
read_controls(const rp_json *cache, rp_body_controls *out)
{
    out->present = true;
    out->no_cache = rp_json_is_true(rp_json_get(cache, "no-cache"));
    out->no_store = rp_json_is_true(rp_json_get(cache, "no-store"));
    int64_t seconds;
    if (rp_json_to_int64(rp_json_get(cache, "ttl"), &seconds) && seconds >= 0)
        out->ttl_seconds = seconds;
    if ((rp_json_to_int64(rp_json_get(cache, "s-maxage"), &seconds) ||
         rp_json_to_int64(rp_json_get(cache, "s-max-age"), &seconds)) &&
        seconds >= 0)
        out->max_age_seconds = seconds;
    const rp_str name = rp_json_string(rp_json_get(cache, "namespace"));
    if (name.len)
        out->namespace_name = name;
}

static void
read_stream_options(const rp_json *options, rp_request *out)
{
    out->include_usage = rp_json_is_true(rp_json_get(options, "include_usage"));
}

/* True if the member is one that cannot change an answer (protocol.md 3.2). */
static bool
read_silent_member(rp_request_draft *draft, const rp_json *member)
{
    static const rp_str silent[] = {
        { "prompt_cache_key", 16 },     { "prompt_cache_options", 20 },
        { "prompt_cache_retention", 22 }, { "safety_identifier", 17 },
        { "cache_control", 13 },
    };
    rp_request *out = draft->out;
    const rp_str name = member->name;
    if (rp_str_equal(name, RP_STR("stream"))) {
        out->stream = rp_json_is_true(member);
        if (member->type != RP_JSON_BOOL && member->type != RP_JSON_NULL)
            rp_request_lower(draft, RP_TIER_NONE, "stream");
        return true;
    }
    if (rp_str_equal(name, RP_STR("stream_options"))) {
        read_stream_options(member, out);
        return true;
    }
    if (rp_str_equal(name, RP_STR("user"))) {
        out->user = canonical_copy(member, draft->arena);
        return true;
    }
    if (rp_str_equal(name, RP_STR("metadata"))) {
        out->metadata = canonical_copy(member, draft->arena);
        return true;
    }
    if (rp_str_equal(name, RP_STR("store"))) {
        /* The caller may ask the service for this very reply later, by its id. */
        if (rp_json_is_true(member))
            rp_request_lower(draft, RP_TIER_EXACT, "store");
        return true;
    }
    for (size_t i = 0; i < RP_COUNT(silent); i++)
        if (rp_str_equal(name, silent[i]))
            return true;
    return false;
}

/* ---- members that lower the tier of any protocol ---------------------------------------- */

static bool
above_one(const rp_json *value)
{
    double number;
    return !rp_json_is_idle(value) && !(rp_json_to_double(value, &number) && number <= 1);
}

/* Members whose mere presence (not null, false or []) lowers the tier. */
static void
lower_by_name(rp_request_draft *draft, const rp_json *member)
{
    static const struct {
        const char *name;
        rp_tier tier;
        const char *reason;
    } rules[] = {
        { "tools", RP_TIER_EXACT, "tools" },
        { "functions", RP_TIER_EXACT, "tools" },
        { "tool_choice", RP_TIER_EXACT, "tools" },
        { "function_call", RP_TIER_EXACT, "tools" },
        { "logprobs", RP_TIER_EXACT, "logprobs" },
        { "top_logprobs", RP_TIER_EXACT, "logprobs" },
        { "audio", RP_TIER_EXACT, "audio" },
        { "suffix", RP_TIER_EXACT, "suffix" },
        { "echo", RP_TIER_EXACT, "echo" },
        { "previous_response_id", RP_TIER_EXACT, "previous-response" },
        /* What these answer from lies outside the request and changes. */
        { "conversation", RP_TIER_NONE, "conversation" },
        { "background", RP_TIER_NONE, "background" },
        { "container", RP_TIER_NONE, "container" },
        { "web_search_options", RP_TIER_NONE, "web-search" },
        { "search_parameters", RP_TIER_NONE, "web-search" },
        { "enable_search", RP_TIER_NONE, "web-search" },
        { "plugins", RP_TIER_NONE, "hosted-tool" },
        { "mcp_servers", RP_TIER_NONE, "hosted-tool" },
        { "data_sources", RP_TIER_NONE, "hosted-tool" },
    };
    const rp_str name = member->name;
    if (rp_str_equal(name, RP_STR("n")) || rp_str_equal(name, RP_STR("best_of"))) {
        if (above_one(member))
            rp_request_lower(draft, RP_TIER_EXACT, "n");
        return;
    }
    if (rp_str_equal(name, RP_STR("modalities"))) {
        for (uint32_t i = 0; member->type == RP_JSON_ARRAY && i < member->count; i++)
            if (!rp_str_equal(rp_json_string(&member->children[i]), RP_STR("text")))
                rp_request_lower(draft, RP_TIER_EXACT, "modalities");
        return;
    }
    if (rp_json_is_idle(member))
        return;
    for (size_t i = 0; i < RP_COUNT(rules); i++)
        if (rp_str_equal(name, rp_str_of(rules[i].name)))
            rp_request_lower(draft, rules[i].tier, rules[i].reason);
}

/* Models that look into the web on their own, whatever the request says. */
static bool
is_searching_model(rp_str model)
{
    static const char *const patterns[] = { "*:online", "*-search-preview*", "*-search-api*",
                                            "sonar*", "perplexity/*", "*deep-research*" };
    for (size_t i = 0; i < RP_COUNT(patterns); i++)
        if (rp_str_matches_glob(model, rp_str_of(patterns[i])))
            return true;
    return false;
}

/* ---- the body that goes upstream --------------------------------------------------------- */

/* Cut the n-th member of the body's object out, with one of the commas beside it. */
static rp_str
without_member(rp_str body, uint32_t index, rp_arena *arena)
{
    rp_json_cursor cursor;
    rp_str member = { NULL, 0 }, value, before = { NULL, 0 };
    rp_json_cursor_init(&cursor, body);
    for (uint32_t i = 0; i <= index; i++) {
        if (i == index)
            before = member;
        if (!rp_json_cursor_next(&cursor, &member, &value))
            return (rp_str){ NULL, 0 };
    }
    const char *from = member.ptr, *to = member.ptr + member.len;
    if (index > 0) {
        from = before.ptr + before.len;
    } else {
        const rp_str first = member;
        if (rp_json_cursor_next(&cursor, &member, &value))
            to = member.ptr;
        from = first.ptr;
    }
    const size_t head = (size_t)(from - body.ptr), tail = (size_t)(body.ptr + body.len - to);
    char *cut = rp_arena_alloc(arena, head + tail);
    if (!cut)
        return (rp_str){ NULL, 0 };
    memcpy(cut, body.ptr, head);
    memcpy(cut + head, to, tail);
    return (rp_str){ cut, head + tail };
}

/* ---- all together --------------------------------------------------------------------------- */

static int
compare_fields(const void *a, const void *b)
{
    return rp_str_compare(((const rp_field *)a)->name, ((const rp_field *)b)->name);
}

static void
sort_fields(rp_field *fields, size_t count)
{
    if (count > 32) {
        qsort(fields, count, sizeof *fields, compare_fields);
        return;
    }
    for (size_t i = 1; i < count; i++) {
        const rp_field next = fields[i];
        size_t at = i;
        for (; at > 0 && compare_fields(&fields[at - 1], &next) > 0; at--)
            fields[at] = fields[at - 1];
        fields[at] = next;
    }
}

static rp_status
finish_fields(rp_request_draft *draft)
{
    rp_request *out = draft->out;
    rp_field *fields = rp_arena_alloc(draft->arena, (draft->piece_count + 1) * sizeof *fields);
    if (rp_buffer_failed(&draft->text) || !fields)
        return RP_ERR_NOMEM;
    const rp_str text = rp_arena_copy(draft->arena, rp_buffer_str(&draft->text));
    if (!text.ptr)
        return RP_ERR_NOMEM;
    for (size_t i = 0; i < draft->piece_count; i++)
        fields[i] = (rp_field){ draft->pieces[i].name,
                                { text.ptr + draft->pieces[i].offset, draft->pieces[i].size } };
    sort_fields(fields, draft->piece_count);
    out->fields = fields;
    out->field_count = draft->piece_count;
    out->last_turn = (rp_str){ text.ptr + draft->turn_offset, draft->turn_size };
    out->text_tokens_hint = (text.len + 3) / 4;
    return RP_OK;
}

static bool
read_member(rp_request_draft *draft, const rp_protocol *protocol, uint32_t index, rp_str body)
{
    rp_request *out = draft->out;
    const rp_json *member = &draft->json->children[index];
    if (member->type == RP_JSON_OBJECT && rp_str_equal(member->name, RP_STR("cache"))) {
        read_controls(member, &out->controls);
        out->forward_body = without_member(body, index, draft->arena);
        return out->forward_body.ptr != NULL;
    }
    if (read_silent_member(draft, member))
        return true;
    if (rp_str_equal(member->name, RP_STR("model"))) {
        out->model = rp_json_string(member);
        if (is_searching_model(out->model))
            rp_request_lower(draft, RP_TIER_NONE, "web-search");
    } else if (rp_str_equal(member->name, RP_STR("temperature"))) {
        double temperature;
        if (rp_json_to_double(member, &temperature))
            out->temperature = temperature;
    }
    lower_by_name(draft, member);
    if (!protocol->request_member(draft, member))
        rp_request_field(draft, member->name, member);
    return true;
}

rp_status
rp_request_parse(rp_wire wire, rp_str body, const rp_json *json, rp_arena *arena, rp_request *out,
                 rp_error *error)
{
    if (!json || json->type != RP_JSON_OBJECT)
        return rp_fail(error, RP_ERR_INVALID, "the body is not a JSON object");
    const rp_protocol *protocol = rp_protocol_of(wire);
    rp_request request = {
        .wire = wire,
        .tier = RP_TIER_SEMANTIC,
        .temperature = NAN,
        .controls = { .ttl_seconds = -1, .max_age_seconds = -1 },
        .forward_body = body,
    };
    rp_request_draft draft = { .out = &request, .json = json, .arena = arena };
    rp_status status = RP_ERR_NOMEM;
    rp_buffer_init(&draft.text, 0);
    /* The canonical form is nearly always the shorter one. */
    if (!rp_buffer_reserve(&draft.text, body.len + 64))
        goto out;
    draft.pieces = rp_arena_alloc(arena, ((size_t)json->count + 1) * sizeof *draft.pieces);
    if (!draft.pieces)
        goto out;
    for (uint32_t i = 0; i < json->count; i++)
        if (!read_member(&draft, protocol, i, body))
            goto out;
    protocol->request_end(&draft);
    if (request.model.len == 0 && wire != RP_WIRE_PROMPT)
        rp_request_lower(&draft, RP_TIER_NONE, "model");
    /* The fuzzy part is for the semantic tier only. */
    if (request.tier != RP_TIER_SEMANTIC)
        request.prompt = (rp_str){ NULL, 0 };
    status = finish_fields(&draft);
    if (status == RP_OK && rp_arena_failed(arena))
        status = RP_ERR_NOMEM;
    if (status == RP_OK)
        *out = request;
out:
    rp_buffer_fini(&draft.text);
    return status == RP_OK ? status : rp_fail(error, status, "no memory to understand a body");
}
