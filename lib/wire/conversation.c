/* conversation.c - messages become a scope and a last user turn.
 *
 * Before anything is hashed, content is brought into one form: a content that is one text
 * part is written as the string it holds (the Anthropic and Responses protocols define the
 * string as shorthand for it; chat services render both alike, and the semantic tier could
 * not tell them apart anyway), and `cache_control`, a hint to the provider's own prefix
 * cache, is dropped from messages and parts. Several text parts stay several: where one
 * ends can change the answer.
 *
 * The last user turn is left out of the field. If it is the last message and only text, the
 * field keeps the message without its content, and the turn is the content. Otherwise the
 * request is for the exact tier; the turn is then everything from the last user message
 * with text on, wrapped as {"turn": [...]} so that it cannot be taken for a content. */
#include "wire/wire_internal.h"

#include "base/bytes.h"

static const rp_json nothing = { .type = RP_JSON_NULL };

typedef struct conversation {
    rp_request_draft *draft;
    const rp_conversation_kind *kind;
    bool only_text;      /* of the message looked at: all parts are text and nothing else */
    bool has_text;
} conversation;

static bool
is_named(const rp_json *node, const char *name)
{
    return rp_str_equal(node->name, rp_str_of(name));
}

static bool
is_string(const rp_json *value, const char *wanted)
{
    return value && value->type == RP_JSON_STRING && rp_str_equal(value->string, rp_str_of(wanted));
}

/* A copy of an object without some members. NULL: no memory. */
static rp_json *
copy_without(rp_arena *arena, const rp_json *object, const char *first, const char *second)
{
    rp_json *copy = rp_arena_alloc(arena, sizeof *copy);
    rp_json *members = rp_arena_alloc(arena, ((size_t)object->count + 1) * sizeof *members);
    if (!copy || !members)
        return NULL;
    *copy = *object;
    copy->count = 0;
    copy->children = members;
    for (uint32_t i = 0; i < object->count; i++)
        if (!is_named(&object->children[i], first) &&
            !(second && is_named(&object->children[i], second)))
            members[copy->count++] = object->children[i];
    return copy;
}

static bool
is_text_part(const rp_json *part, const rp_conversation_kind *kind)
{
    const rp_json *type = rp_json_get(part, "type");
    const rp_json *text = rp_json_get(part, "text");
    return text && text->type == RP_JSON_STRING && part->count == 2 &&
           (is_string(type, "text") || is_string(type, kind->text_type) ||
            (kind->typed_items && is_string(type, "output_text")));
}

static const rp_json *normal_content(rp_arena *arena, const rp_json *content,
                                     const rp_conversation_kind *kind);

/* A part without its hint; the parts inside a tool's result too. */
static bool
normal_part(rp_arena *arena, const rp_json *part, const rp_conversation_kind *kind, rp_json *out)
{
    *out = *part;
    if (part->type != RP_JSON_OBJECT)
        return true;
    const rp_json *plain = part;
    if (rp_json_get(part, "cache_control"))
        plain = copy_without(arena, part, "cache_control", NULL);
    if (plain && is_string(rp_json_get(plain, "type"), "tool_result") &&
        rp_json_get(plain, "content")) {
        rp_json *copy = copy_without(arena, plain, "", NULL);
        if (!copy)
            return false;
        for (uint32_t i = 0; i < copy->count; i++) {
            rp_json *member = (rp_json *)&copy->children[i]; /* ours: just copied */
            if (!is_named(member, "content"))
                continue;
            const rp_json *content = normal_content(arena, member, kind);
            if (!content)
                return false;
            const rp_str name = member->name;
            *member = *content;
            member->name = name;
        }
        plain = copy;
    }
    if (!plain)
        return false;
    const rp_str name = out->name;
    *out = *plain;
    out->name = name;
    return true;
}

/* Content in its one form; the node's name is that of `content`. NULL: no memory. */
static const rp_json *
normal_content(rp_arena *arena, const rp_json *content, const rp_conversation_kind *kind)
{
    if (content->type != RP_JSON_ARRAY || content->count == 0)
        return content;
    rp_json *copy = rp_arena_alloc(arena, sizeof *copy);
    rp_json *parts = rp_arena_alloc(arena, content->count * sizeof *parts);
    if (!copy || !parts)
        return NULL;
    for (uint32_t i = 0; i < content->count; i++)
        if (!normal_part(arena, &content->children[i], kind, &parts[i]))
            return NULL;
    *copy = *content;
    copy->children = parts;
    if (content->count == 1 && is_text_part(&parts[0], kind)) {
        *copy = *rp_json_get(&parts[0], "text");
        copy->name = content->name;
    }
    return copy;
}

/* What a part that is not text does to the tier. */
static void
lower_by_part(rp_request_draft *draft, const rp_json *part)
{
    static const struct {
        const char *type, *reason;
    } kinds[] = {
        { "image_url", "image" },   { "input_image", "image" }, { "image", "image" },
        { "input_audio", "audio" }, { "audio_url", "audio" },   { "audio", "audio" },
        { "file", "file" },         { "input_file", "file" },   { "document", "file" },
        { "video_url", "video" },   { "input_video", "video" },
        { "thinking", "thinking" }, { "redacted_thinking", "thinking" },
    };
    const rp_str type = rp_json_string(rp_json_get(part, "type"));
    for (size_t i = 0; i < RP_COUNT(kinds); i++)
        if (rp_str_equal(type, rp_str_of(kinds[i].type)))
            rp_request_lower(draft, RP_TIER_EXACT, kinds[i].reason);
}

static void
look_at_content(conversation *c, const rp_json *content)
{
    c->only_text = c->has_text = false;
    if (!content)
        return;
    if (content->type == RP_JSON_STRING) {
        c->only_text = c->has_text = true;
        return;
    }
    if (content->type != RP_JSON_ARRAY)
        return;
    c->only_text = content->count > 0;
    for (uint32_t i = 0; i < content->count; i++) {
        const rp_json *part = &content->children[i];
        if (is_text_part(part, c->kind)) {
            c->has_text = true;
            continue;
        }
        c->only_text = false;
        lower_by_part(c->draft, part);
    }
}

/* All text of a content that is only text, joined by newlines. */
static rp_str
joined_text(rp_arena *arena, const rp_json *content)
{
    if (content->type == RP_JSON_STRING)
        return content->string;
    size_t size = 0;
    for (uint32_t i = 0; i < content->count; i++)
        size += rp_json_string(rp_json_get(&content->children[i], "text")).len + 1;
    char *out = rp_arena_alloc(arena, size);
    if (!out)
        return (rp_str){ NULL, 0 };
    char *at = out;
    for (uint32_t i = 0; i < content->count; i++) {
        const rp_str text = rp_json_string(rp_json_get(&content->children[i], "text"));
        if (i)
            *at++ = '\n';
        if (text.len)
            memcpy(at, text.ptr, text.len);
        at += text.len;
    }
    return (rp_str){ out, (size_t)(at - out) };
}

/* One message in its one form. False: no memory. */
static bool
normal_message(conversation *c, const rp_json *message, rp_json *out)
{
    rp_arena *arena = c->draft->arena;
    const bool drop_type = c->kind->typed_items && rp_json_get(message, "role") &&
                           is_string(rp_json_get(message, "type"), "message");
    const rp_json *content = rp_json_get(message, "content");
    const bool drop_hint = rp_json_get(message, "cache_control") != NULL;
    const rp_json *normal = content ? normal_content(arena, content, c->kind) : NULL;
    if (content && !normal)
        return false;
    *out = *message;
    if (!drop_type && !drop_hint && normal == content)
        return true;
    rp_json *copy = copy_without(arena, message, "cache_control", drop_type ? "type" : NULL);
    if (!copy)
        return false;
    for (uint32_t i = 0; i < copy->count; i++)
        if (is_named(&copy->children[i], "content"))
            ((rp_json *)copy->children)[i] = *normal; /* ours: just copied */
    out->count = copy->count;
    out->children = copy->children;
    return true;
}

/* Items of the Responses protocol that point at what only the service knows. */
static void
lower_by_item(conversation *c, const rp_json *item)
{
    if (!c->kind->typed_items)
        return;
    const rp_json *type = rp_json_get(item, "type");
    if (is_string(type, "item_reference") || (rp_json_get(item, "id") && !rp_json_get(item, "role") &&
                                              !rp_json_get(item, "content") && item->count <= 2))
        rp_request_lower(c->draft, RP_TIER_NONE, "item-reference");
}

static void
put_conversation(conversation *c, rp_str name, rp_json *messages, uint32_t count)
{
    rp_request_draft *draft = c->draft;
    rp_json history = { .type = RP_JSON_ARRAY, .children = messages };
    uint32_t turn_start = count; /* of the last user message with text */
    for (uint32_t i = count; i-- > 0 && turn_start == count;)
        if (is_string(rp_json_get(&messages[i], "role"), "user")) {
            look_at_content(c, rp_json_get(&messages[i], "content"));
            if (c->has_text)
                turn_start = i;
        }
    const bool is_last = turn_start + 1 == count && c->only_text;
    if (is_last) {
        rp_json *last = &messages[count - 1];
        const rp_json content = *rp_json_get(last, "content");
        rp_request_prompt(draft, joined_text(draft->arena, &content));
        rp_json *shell = copy_without(draft->arena, last, "content", NULL);
        if (!shell)
            return;
        *last = *shell;
        history.count = count;
        rp_request_field(draft, name, &history);
        rp_request_turn(draft, &content);
        return;
    }
    rp_request_lower(draft, RP_TIER_EXACT, "last-turn");
    history.count = turn_start;
    rp_request_field(draft, name, &history);
    if (turn_start == count)
        return;
    rp_json rest = { .type = RP_JSON_ARRAY,
                     .name = RP_STR("turn"),
                     .count = count - turn_start,
                     .children = messages + turn_start };
    const rp_json wrapper = { .type = RP_JSON_OBJECT, .count = 1, .children = &rest };
    rp_request_turn(draft, &wrapper);
}

void
rp_request_conversation(rp_request_draft *draft, rp_str name, const rp_json *messages,
                        const rp_conversation_kind *kind)
{
    conversation c = { .draft = draft, .kind = kind };
    if (kind->typed_items && messages->type == RP_JSON_STRING) {
        /* Shorthand for one user message. */
        rp_json members[2] = { { .type = RP_JSON_STRING, .name = RP_STR("role"),
                                 .string = RP_STR("user") },
                               *messages };
        members[1].name = RP_STR("content");
        rp_json message = { .type = RP_JSON_OBJECT, .count = 2, .children = members };
        put_conversation(&c, name, &message, 1);
        return;
    }
    bool sound = messages->type == RP_JSON_ARRAY && messages->count > 0;
    for (uint32_t i = 0; sound && i < messages->count; i++)
        sound = messages->children[i].type == RP_JSON_OBJECT &&
                (kind->typed_items || rp_json_string(rp_json_get(&messages->children[i], "role")).len);
    rp_json *normal = sound ? rp_arena_alloc(draft->arena, messages->count * sizeof *normal) : NULL;
    if (!normal) {
        rp_request_lower(draft, RP_TIER_NONE, "messages");
        rp_request_field(draft, name, messages);
        return;
    }
    for (uint32_t i = 0; i < messages->count; i++) {
        const rp_json *message = &messages->children[i];
        if (!normal_message(&c, message, &normal[i])) {
            draft->arena->failed = true;
            normal[i] = nothing;
        }
        look_at_content(&c, rp_json_get(&normal[i], "content"));
        lower_by_item(&c, message);
        if (!rp_json_is_idle(rp_json_get(message, "audio")))
            rp_request_lower(draft, RP_TIER_EXACT, "audio");
    }
    put_conversation(&c, name, normal, messages->count);
}

void
rp_request_content_field(rp_request_draft *draft, rp_str name, const rp_json *content)
{
    static const rp_conversation_kind plain = { .text_type = "text" };
    const rp_json *normal = normal_content(draft->arena, content, &plain);
    rp_request_field(draft, name, normal ? normal : content);
}

void
rp_request_tools_field(rp_request_draft *draft, rp_str name, const rp_json *tools)
{
    rp_json plain = *tools;
    if (tools->type == RP_JSON_ARRAY && tools->count > 0) {
        rp_json *each = rp_arena_alloc(draft->arena, tools->count * sizeof *each);
        for (uint32_t i = 0; each && i < tools->count; i++) {
            const rp_json *tool = &tools->children[i];
            each[i] = *tool;
            if (tool->type != RP_JSON_OBJECT || !rp_json_get(tool, "cache_control"))
                continue;
            const rp_json *copy = copy_without(draft->arena, tool, "cache_control", NULL);
            if (copy)
                each[i] = *copy;
        }
        if (each)
            plain.children = each;
    }
    rp_request_field(draft, name, &plain);
}
