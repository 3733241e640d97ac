/* openai_choices.c - see openai_internal.h. */
#include "wire/openai_internal.h"

#include "base/bytes.h"

/* ---- judging a body -------------------------------------------------------------------- */

rp_usage
rp_openai_usage(const rp_json *usage)
{
    rp_usage out = { -1, -1 };
    if (!rp_json_to_int64(rp_json_get(usage, "prompt_tokens"), &out.input_tokens))
        if (!rp_json_to_int64(rp_json_get(usage, "input_tokens"), &out.input_tokens))
            out.input_tokens = -1;
    if (!rp_json_to_int64(rp_json_get(usage, "completion_tokens"), &out.output_tokens))
        if (!rp_json_to_int64(rp_json_get(usage, "output_tokens"), &out.output_tokens))
            out.output_tokens = -1;
    out.input_tokens = RP_MAX(out.input_tokens, -1);
    out.output_tokens = RP_MAX(out.output_tokens, -1);
    return out;
}

bool
rp_reply_member_is_empty(const rp_json *value)
{
    return value->type == RP_JSON_NULL ||
           ((value->type == RP_JSON_ARRAY || value->type == RP_JSON_OBJECT) && value->count == 0);
}

void
rp_openai_tools(rp_request_draft *draft, const rp_json *tools)
{
    for (uint32_t i = 0; tools->type == RP_JSON_ARRAY && i < tools->count; i++) {
        const rp_str type = rp_json_string(rp_json_get(&tools->children[i], "type"));
        if (!rp_str_equal(type, RP_STR("function")) && !rp_str_equal(type, RP_STR("custom")))
            rp_request_lower(draft, RP_TIER_NONE, "hosted-tool");
    }
    rp_request_tools_field(draft, tools->name, tools);
}

rp_reply_verdict
rp_openai_finish(rp_reply_draft *draft, const rp_json *finish_reason)
{
    const rp_str finish = rp_json_string(finish_reason);
    return rp_draft_unfinished(draft, finish) || rp_str_equal(finish, RP_STR("stop")) || rp_str_equal(finish, RP_STR("tool_calls")) ||
                   rp_str_equal(finish, RP_STR("function_call"))
               ? RP_REPLY_GOOD
               : RP_REPLY_FINISH;
}

static rp_reply_verdict
read_choices(rp_reply_draft *draft, const rp_json *choices, rp_str bytes, rp_openai_choice *each)
{
    if (choices->type != RP_JSON_ARRAY || choices->count == 0)
        return choices->type == RP_JSON_ARRAY ? RP_REPLY_EMPTY : RP_REPLY_UNREADABLE;
    rp_json_walk walk;
    rp_json_walk_init(&walk, choices, bytes);
    while (rp_json_walk_next(&walk)) {
        rp_json_walk members;
        rp_str index = { NULL, 0 };
        rp_json_walk_init(&members, walk.child, walk.value);
        while (rp_json_walk_next(&members))
            if (rp_str_equal(members.child->name, RP_STR("index")) &&
                members.child->type == RP_JSON_INT)
                index = members.value;
        if (!index.ptr)
            return RP_REPLY_UNREADABLE;
        rp_draft_span(draft, RP_SPAN_CHOICE, index);
        const rp_reply_verdict verdict = each(draft, walk.child, walk.value);
        if (verdict != RP_REPLY_GOOD)
            return verdict;
    }
    return RP_REPLY_GOOD;
}

rp_reply_verdict
rp_openai_body(rp_reply_draft *draft, const rp_json *json, rp_openai_choice *each)
{
    if (json->type != RP_JSON_OBJECT)
        return RP_REPLY_UNREADABLE;
    if (!rp_json_is_idle(rp_json_get(json, "error")))
        return RP_REPLY_ERROR;
    rp_reply_verdict verdict = RP_REPLY_UNREADABLE;
    rp_json_walk walk;
    rp_json_walk_init(&walk, json, draft->body);
    while (rp_json_walk_next(&walk)) {
        const rp_str name = walk.child->name;
        if (rp_draft_head_member(draft, &walk, "created", rp_openai_usage))
            continue;
        if (rp_str_equal(name, RP_STR("choices"))) {
            verdict = read_choices(draft, walk.child, walk.value, each);
            if (verdict != RP_REPLY_GOOD)
                return verdict;
        } else if (!rp_str_equal(name, RP_STR("object")) && !rp_reply_member_is_empty(walk.child)) {
            rp_draft_span(draft, RP_SPAN_TOP_EXTRA, walk.member);
        }
    }
    return verdict;
}

/* ---- chunks to a body -------------------------------------------------------------------- */

static void
replace_json(rp_buffer *text, const rp_json *value)
{
    rp_buffer_clear(text);
    rp_json_write(value, text);
}

bool
rp_extras_add(rp_assembly *assembly, rp_extras *extras, const rp_json *member, rp_extra_kind kind)
{
    if (rp_reply_member_is_empty(member))
        return true;
    rp_extra *extra = NULL;
    for (size_t i = 0; i < extras->count && !extra; i++)
        if (rp_str_equal(extras->each[i].name, member->name))
            extra = &extras->each[i];
    if (!extra) {
        if (extras->count == RP_OPENAI_EXTRAS_MAX)
            return false;
        extra = &extras->each[extras->count];
        extra->name = rp_arena_copy(assembly->arena, member->name);
        if (!extra->name.ptr)
            return false;
        extra->kind = kind;
        extras->count++;
    }
    if (extra->kind != kind)
        return false;
    if (kind == RP_EXTRA_VALUE) {
        replace_json(&extra->text, member);
    } else if (kind == RP_EXTRA_STRING) {
        rp_buffer_append(&extra->text, member->string);
    } else {
        for (uint32_t i = 0; i < member->count; i++) {
            if (extra->text.len)
                rp_buffer_append_char(&extra->text, ',');
            rp_json_write(&member->children[i], &extra->text);
        }
    }
    return !rp_buffer_failed(&extra->text);
}

static void
put_name(rp_json_writer *w, rp_str name)
{
    rp_json_put_string(w, name);
    rp_buffer_append_char(w->out, ':');
    w->comma = false;
}

void
rp_extras_write(const rp_extras *extras, rp_json_writer *w)
{
    for (size_t i = 0; i < extras->count; i++) {
        const rp_extra *extra = &extras->each[i];
        put_name(w, extra->name);
        if (extra->kind == RP_EXTRA_STRING) {
            rp_json_put_string(w, rp_buffer_str(&extra->text));
        } else if (extra->kind == RP_EXTRA_VALUE) {
            rp_json_put_raw(w, rp_buffer_str(&extra->text));
        } else {
            rp_json_open(w, '[');
            rp_json_put_raw(w, rp_buffer_str(&extra->text));
            rp_json_close(w, ']');
        }
    }
}

static rp_choice_parts *
find_choice(rp_assembly *assembly, int64_t index)
{
    rp_openai_state *state = assembly->state;
    size_t at = 0;
    while (at < state->choice_count && state->choices[at]->index < index)
        at++;
    if (at < state->choice_count && state->choices[at]->index == index)
        return state->choices[at];
    rp_choice_parts *parts = state->choice_count < RP_OPENAI_CHOICES_MAX
                                 ? rp_arena_calloc(assembly->arena, 1, sizeof *parts)
                                 : NULL;
    if (!parts)
        return NULL;
    memmove(&state->choices[at + 1], &state->choices[at],
            (state->choice_count - at) * sizeof state->choices[0]);
    state->choices[at] = parts;
    state->choice_count++;
    parts->index = index;
    return parts;
}

bool
rp_openai_common_delta(rp_assembly *assembly, rp_choice_parts *parts, const rp_json *member)
{
    if (rp_str_equal(member->name, RP_STR("index")))
        return true;
    if (rp_str_equal(member->name, RP_STR("finish_reason"))) {
        if (member->type == RP_JSON_STRING) {
            rp_buffer_clear(&parts->finish);
            rp_buffer_append(&parts->finish, member->string);
        }
        return true;
    }
    if (rp_str_equal(member->name, RP_STR("logprobs"))) {
        /* Lists that run beside the tokens; the whole has them end to end. */
        for (uint32_t i = 0; member->type == RP_JSON_OBJECT && i < member->count; i++) {
            const rp_json *list = &member->children[i];
            if (rp_reply_member_is_empty(list))
                continue;
            if (list->type != RP_JSON_ARRAY ||
                !rp_extras_add(assembly, &parts->logprobs, list, RP_EXTRA_ARRAY))
                return false;
        }
        return true;
    }
    return rp_extras_add(assembly, &parts->choice, member, RP_EXTRA_VALUE);
}

void
rp_openai_event(rp_assembly *assembly, const rp_json *chunk, rp_openai_delta *each)
{
    rp_openai_state *state = assembly->state;
    if (!chunk) {
        assembly->terminal = true;
        return;
    }
    bool sound = chunk->type == RP_JSON_OBJECT;
    for (uint32_t i = 0; sound && i < chunk->count; i++) {
        const rp_json *member = &chunk->children[i];
        const rp_str name = member->name;
        if (rp_str_equal(name, RP_STR("id"))) {
            if (state->id.len == 0)
                rp_buffer_append(&state->id, rp_json_string(member));
        } else if (rp_str_equal(name, RP_STR("model"))) {
            if (state->model.len == 0)
                rp_buffer_append(&state->model, rp_json_string(member));
        } else if (rp_str_equal(name, RP_STR("created"))) {
            if (state->created == 0)
                rp_json_to_int64(member, &state->created);
        } else if (rp_str_equal(name, RP_STR("usage"))) {
            if (member->type == RP_JSON_OBJECT) {
                replace_json(&state->usage, member);
                assembly->usage_known = true;
            }
        } else if (rp_str_equal(name, RP_STR("choices"))) {
            for (uint32_t n = 0; sound && member->type == RP_JSON_ARRAY && n < member->count; n++) {
                const rp_json *choice = &member->children[n];
                int64_t index = n;
                rp_json_to_int64(rp_json_get(choice, "index"), &index);
                rp_choice_parts *parts = find_choice(assembly, index);
                sound = parts && choice->type == RP_JSON_OBJECT && each(assembly, parts, choice);
            }
        } else if (!rp_str_equal(name, RP_STR("object")) &&
                   !rp_str_equal(name, RP_STR("obfuscation"))) {
            sound = rp_extras_add(assembly, &state->extras, member, RP_EXTRA_VALUE);
        }
    }
    if (!sound)
        assembly->verdict = RP_REPLY_UNREADABLE;
}

void
rp_extras_fini(rp_extras *extras)
{
    for (size_t i = 0; i < extras->count; i++)
        rp_buffer_fini(&extras->each[i].text);
}

static void
fini_tool(rp_tool_parts *tool)
{
    rp_buffer_fini(&tool->id);
    rp_buffer_fini(&tool->name);
    rp_buffer_fini(&tool->arguments);
}

void
rp_openai_fini(rp_assembly *assembly)
{
    rp_openai_state *state = assembly->state;
    for (size_t i = 0; i < state->choice_count; i++) {
        rp_choice_parts *parts = state->choices[i];
        rp_buffer_fini(&parts->content);
        rp_buffer_fini(&parts->refusal);
        rp_buffer_fini(&parts->finish);
        rp_extras_fini(&parts->message);
        rp_extras_fini(&parts->choice);
        rp_extras_fini(&parts->logprobs);
        fini_tool(&parts->function);
        for (size_t n = 0; n < parts->tool_count; n++)
            fini_tool(parts->tools[n]);
    }
    rp_extras_fini(&state->extras);
    rp_buffer_fini(&state->id);
    rp_buffer_fini(&state->model);
    rp_buffer_fini(&state->usage);
}

static void
write_choice_end(rp_json_writer *w, const rp_choice_parts *parts)
{
    rp_json_key(w, "logprobs");
    if (parts->logprobs.count) {
        rp_json_open(w, '{');
        rp_extras_write(&parts->logprobs, w);
        rp_json_close(w, '}');
    } else {
        rp_json_put_null(w);
    }
    rp_json_key(w, "finish_reason");
    rp_json_put_string(w, rp_buffer_str(&parts->finish));
    rp_extras_write(&parts->choice, w);
}

void
rp_openai_assembled(rp_assembly *assembly, const char *object, rp_openai_write_choice *each,
                    rp_buffer *body)
{
    const rp_openai_state *state = assembly->state;
    rp_json_writer w;
    rp_json_writer_init(&w, body);
    rp_json_open(&w, '{');
    rp_json_key(&w, "id");
    rp_json_put_string(&w, rp_buffer_str(&state->id));
    rp_json_key(&w, "object");
    rp_json_put_cstring(&w, object);
    rp_json_key(&w, "created");
    rp_json_put_int(&w, state->created);
    rp_json_key(&w, "model");
    rp_json_put_string(&w, rp_buffer_str(&state->model));
    rp_json_key(&w, "choices");
    rp_json_open(&w, '[');
    for (size_t i = 0; i < state->choice_count; i++) {
        const rp_choice_parts *parts = state->choices[i];
        /* [DONE] came, but this choice never said that it was done. */
        if (parts->finish.len == 0)
            assembly->verdict = RP_REPLY_INCOMPLETE;
        rp_json_open(&w, '{');
        rp_json_key(&w, "index");
        rp_json_put_int(&w, parts->index);
        each(&w, parts);
        write_choice_end(&w, parts);
        rp_json_close(&w, '}');
    }
    rp_json_close(&w, ']');
    rp_json_key(&w, "usage");
    rp_json_put_raw(&w, assembly->usage_known ? rp_buffer_str(&state->usage)
                                              : RP_STR(RP_OPENAI_ZERO_USAGE));
    rp_extras_write(&state->extras, &w);
    rp_json_close(&w, '}');
}

/* ---- a body to chunks --------------------------------------------------------------------- */

static void
put_text(rp_chunks *chunks, const char *text)
{
    rp_buffer_append(chunks->out, rp_str_of(text));
}

void
rp_chunks_init(rp_chunks *chunks, const rp_reply *reply, const rp_replay_options *options,
               const char *id_prefix, const char *object, rp_buffer *out)
{
    *chunks = (rp_chunks){ .reply = reply, .options = options, .out = out };
    chunks->head_offset = out->len;
    rp_buffer_reserve(out, reply->body.len * 2 + 1024);
    put_text(chunks, "data: {\"id\":");
    rp_replay_id(reply, options, id_prefix, out);
    put_text(chunks, ",\"object\":\"");
    put_text(chunks, object);
    put_text(chunks, "\",\"created\":");
    rp_json_writer w;
    rp_json_writer_init(&w, out);
    rp_json_put_int(&w, options->created);
    put_text(chunks, ",\"model\":");
    const rp_str model = rp_reply_find(reply, RP_SPAN_MODEL);
    rp_replay_raw(model.len ? model : RP_STR("\"\""), out);
    for (size_t i = 0; i < reply->span_count; i++) {
        const rp_span span = rp_reply_span(reply, i);
        if (span.kind != RP_SPAN_TOP_EXTRA)
            continue;
        rp_buffer_append_char(out, ',');
        rp_replay_raw(rp_span_bytes(reply, span), out);
    }
    put_text(chunks, ",\"choices\":[");
    chunks->head_size = out->len - chunks->head_offset;
    /* Taken back: rp_chunk_open writes it for each chunk. */
    if (rp_buffer_failed(out))
        chunks->head_size = 0;
}

void
rp_chunk_open(rp_chunks *chunks)
{
    rp_buffer *out = chunks->out;
    if (out->len == chunks->head_offset + chunks->head_size)
        return; /* the first: it is there already */
    char *room = rp_buffer_reserve(out, chunks->head_size);
    if (!room)
        return;
    memcpy(room, out->ptr + chunks->head_offset, chunks->head_size);
    out->len += chunks->head_size;
}

void
rp_chunk_close(rp_chunks *chunks)
{
    put_text(chunks, chunks->options->include_usage ? "],\"usage\":null}\n\n" : "]}\n\n");
}

rp_status
rp_chunks_end(rp_chunks *chunks)
{
    const rp_reply *reply = chunks->reply;
    if (chunks->options->include_usage) {
        const rp_str usage = rp_reply_find(reply, RP_SPAN_USAGE);
        if (!chunks->options->zero_usage &&
            (!usage.ptr || (reply->flags & RP_REPLY_USAGE_UNKNOWN)))
            return RP_ERR_UNSUPPORTED;
        rp_chunk_open(chunks);
        put_text(chunks, "],\"usage\":");
        rp_replay_raw(chunks->options->zero_usage ? RP_STR(RP_OPENAI_ZERO_USAGE) : usage,
                      chunks->out);
        put_text(chunks, "}\n\n");
    }
    put_text(chunks, "data: [DONE]\n\n");
    return RP_OK;
}
