/* yaml.c - see yaml.h. libyaml's events, one function a kind of value. */
#include "server/yaml.h"
#include "base/buffer.h"
#include "base/bytes.h"

#include <stdlib.h>
#include <yaml.h>

enum { DEPTH_MAX = 16, VALUES_MAX = 10000 };

/* In a flow list or map a brace ends a plain value, so "[ ${KEY} ]" would not be
 * YAML. Before libyaml sees the bytes, the braces of "${NAME}" become two private
 * characters (U+E000, U+E001), one for one, which keeps the columns true. */
#define BRACE_OPEN "\xEE\x80\x80"
#define BRACE_CLOSE "\xEE\x80\x81"

typedef struct reader {
    yaml_parser_t parser;
    yaml_event_t event;
    bool has_event;
    const char *name;
    rp_arena *arena;
    rp_error *error;
    size_t value_count;
} reader;

static bool
is_name_char(char c, bool first)
{
    return c == '_' || (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') ||
           (!first && c >= '0' && c <= '9');
}

/* The size of "NAME" in "${NAME}" at `text`, 0 if it is something else. */
static size_t
reference_name_size(rp_str text)
{
    if (text.len < 4 || text.ptr[0] != '$' || text.ptr[1] != '{')
        return 0;
    size_t size = 0;
    while (2 + size < text.len && is_name_char(text.ptr[2 + size], size == 0))
        size++;
    return 2 + size < text.len && text.ptr[2 + size] == '}' ? size : 0;
}

static void
hide_references(rp_str bytes, rp_buffer *out)
{
    while (bytes.len) {
        const size_t size = reference_name_size(bytes);
        if (size == 0) {
            rp_buffer_append_char(out, bytes.ptr[0]);
            bytes = (rp_str){ bytes.ptr + 1, bytes.len - 1 };
            continue;
        }
        rp_buffer_append(out, RP_STR("$" BRACE_OPEN));
        rp_buffer_append(out, (rp_str){ bytes.ptr + 2, size });
        rp_buffer_append(out, RP_STR(BRACE_CLOSE));
        bytes = (rp_str){ bytes.ptr + size + 3, bytes.len - size - 3 };
    }
}

static rp_status
fail_at(const reader *r, yaml_mark_t mark, const char *what)
{
    return rp_fail(r->error, RP_ERR_INVALID, "%s:%zu:%zu: %s", r->name, mark.line + 1,
                   mark.column + 1, what);
}

static rp_status
next_event(reader *r)
{
    if (r->has_event)
        yaml_event_delete(&r->event);
    r->has_event = yaml_parser_parse(&r->parser, &r->event) != 0;
    if (r->has_event)
        return RP_OK;
    yaml_mark_t mark = r->parser.problem_mark;
    if (r->parser.error == YAML_READER_ERROR)
        mark = r->parser.mark;
    return fail_at(r, mark, r->parser.problem ? r->parser.problem : "not YAML");
}

/* Replace "$<NAME>" by the environment. The result is zero-terminated. */
static rp_status
substitute(reader *r, rp_str text, yaml_mark_t mark, rp_yaml *out)
{
    rp_buffer buffer;
    rp_buffer_init(&buffer, 1 << 20);
    rp_status status = RP_OK;
    while (text.len && status == RP_OK) {
        if (!rp_str_starts_with(text, RP_STR("$" BRACE_OPEN))) {
            rp_buffer_append_char(&buffer, text.ptr[0]);
            text = (rp_str){ text.ptr + 1, text.len - 1 };
            continue;
        }
        const char *start = text.ptr + 1 + strlen(BRACE_OPEN);
        const char *end = memmem(start, text.len - (size_t)(start - text.ptr), BRACE_CLOSE,
                                 strlen(BRACE_CLOSE));
        char name[128] = "";
        if (end && (size_t)(end - start) < sizeof name)
            memcpy(name, start, (size_t)(end - start));
        const char *value = name[0] ? getenv(name) : NULL;
        if (!value) {
            char sentence[200];
            snprintf(sentence, sizeof sentence, "the environment variable %s is not set", name);
            status = fail_at(r, mark, sentence);
            break;
        }
        rp_buffer_append(&buffer, rp_str_of(value));
        out->from_environment = true;
        text.len -= (size_t)(end + strlen(BRACE_CLOSE) - text.ptr);
        text.ptr = end + strlen(BRACE_CLOSE);
    }
    if (status == RP_OK) {
        out->text = rp_arena_copy(r->arena, rp_buffer_str(&buffer));
        if (!out->text.ptr || rp_buffer_failed(&buffer))
            status = rp_fail(r->error, RP_ERR_NOMEM, "no memory for %s", r->name);
    }
    rp_buffer_fini(&buffer);
    return status;
}

static const char *
refused_feature(const yaml_event_t *event)
{
    switch (event->type) {
    case YAML_ALIAS_EVENT: return "aliases are not allowed";
    case YAML_SCALAR_EVENT:
        return event->data.scalar.anchor ? "anchors are not allowed"
               : event->data.scalar.tag  ? "tags are not allowed"
                                         : NULL;
    case YAML_SEQUENCE_START_EVENT:
        return event->data.sequence_start.anchor ? "anchors are not allowed"
               : event->data.sequence_start.tag  ? "tags are not allowed"
                                                 : NULL;
    case YAML_MAPPING_START_EVENT:
        return event->data.mapping_start.anchor ? "anchors are not allowed"
               : event->data.mapping_start.tag  ? "tags are not allowed"
                                                : NULL;
    default: return NULL;
    }
}

static rp_status read_value(reader *r, int depth, rp_yaml *out);

static rp_status
read_list(reader *r, int depth, rp_yaml *out)
{
    const rp_yaml **link = &out->first;
    for (;;) {
        rp_status status = next_event(r);
        if (status != RP_OK || r->event.type == YAML_SEQUENCE_END_EVENT)
            return status;
        rp_yaml *child = rp_arena_calloc(r->arena, 1, sizeof *child);
        if (!child)
            return rp_fail(r->error, RP_ERR_NOMEM, "no memory for %s", r->name);
        if ((status = read_value(r, depth + 1, child)) != RP_OK)
            return status;
        *link = child;
        link = &child->next;
    }
}

static rp_status
read_key(reader *r, const rp_yaml *map, rp_yaml *child)
{
    const yaml_mark_t mark = r->event.start_mark;
    if (r->event.type != YAML_SCALAR_EVENT)
        return fail_at(r, mark, "a key must be plain text");
    const char *feature = refused_feature(&r->event);
    if (feature)
        return fail_at(r, mark, feature);
    const rp_str key = { (const char *)r->event.data.scalar.value, r->event.data.scalar.length };
    for (const rp_yaml *other = map->first; other; other = other->next)
        if (rp_str_equal(other->key, key)) {
            char sentence[160];
            snprintf(sentence, sizeof sentence, "the key '%.*s' was given before, at line %zu",
                     (int)RP_MIN(key.len, (size_t)64), key.ptr, other->key_line);
            return fail_at(r, mark, sentence);
        }
    child->key = rp_arena_copy(r->arena, key);
    child->key_line = mark.line + 1;
    child->key_column = mark.column + 1;
    return child->key.ptr ? RP_OK : RP_ERR_NOMEM;
}

static rp_status
read_map(reader *r, int depth, rp_yaml *out)
{
    const rp_yaml **link = &out->first;
    for (;;) {
        rp_status status = next_event(r);
        if (status != RP_OK || r->event.type == YAML_MAPPING_END_EVENT)
            return status;
        rp_yaml *child = rp_arena_calloc(r->arena, 1, sizeof *child);
        if (!child)
            return rp_fail(r->error, RP_ERR_NOMEM, "no memory for %s", r->name);
        if ((status = read_key(r, out, child)) != RP_OK || (status = next_event(r)) != RP_OK ||
            (status = read_value(r, depth + 1, child)) != RP_OK)
            return status;
        *link = child;
        link = &child->next;
    }
}

/* The event at hand starts the value. */
static rp_status
read_value(reader *r, int depth, rp_yaml *out)
{
    const yaml_mark_t mark = r->event.start_mark;
    const char *feature = refused_feature(&r->event);
    if (feature)
        return fail_at(r, mark, feature);
    if (depth > DEPTH_MAX)
        return fail_at(r, mark, "nested more than 16 deep");
    if (++r->value_count > VALUES_MAX)
        return fail_at(r, mark, "more than 10000 values");
    out->line = mark.line + 1;
    out->column = mark.column + 1;
    switch (r->event.type) {
    case YAML_SCALAR_EVENT:
        out->type = RP_YAML_SCALAR;
        out->quoted = r->event.data.scalar.style != YAML_PLAIN_SCALAR_STYLE;
        const rp_str text = { (const char *)r->event.data.scalar.value,
                              r->event.data.scalar.length };
        if (memchr(text.ptr, '\0', text.len))
            return fail_at(r, mark, "a value must not hold a zero byte");
        return substitute(r, text, mark, out);
    case YAML_SEQUENCE_START_EVENT: out->type = RP_YAML_LIST; return read_list(r, depth, out);
    case YAML_MAPPING_START_EVENT: out->type = RP_YAML_MAP; return read_map(r, depth, out);
    default: return fail_at(r, mark, "a value was expected here");
    }
}

static rp_status
read_document(reader *r, rp_yaml *out)
{
    rp_status status = next_event(r);
    if (status == RP_OK)
        status = next_event(r);
    if (status != RP_OK)
        return status;
    if (r->event.type == YAML_STREAM_END_EVENT) {
        *out = (rp_yaml){ .type = RP_YAML_MAP, .line = 1, .column = 1 };
        return RP_OK;
    }
    if ((status = next_event(r)) != RP_OK)
        return status;
    if (r->event.type == YAML_SCALAR_EVENT && r->event.data.scalar.length == 0) {
        *out = (rp_yaml){ .type = RP_YAML_MAP, .line = 1, .column = 1 };
    } else if ((status = read_value(r, 1, out)) != RP_OK) {
        return status;
    }
    if ((status = next_event(r)) != RP_OK || (status = next_event(r)) != RP_OK)
        return status;
    if (r->event.type != YAML_STREAM_END_EVENT)
        return fail_at(r, r->event.start_mark, "only one document is allowed");
    return RP_OK;
}

rp_status
rp_yaml_parse(rp_str bytes, const char *name, rp_arena *arena, const rp_yaml **out,
              rp_error *error)
{
    reader r = { .name = name, .arena = arena, .error = error };
    rp_buffer hidden;
    rp_buffer_init(&hidden, 64 << 20);
    hide_references(bytes, &hidden);
    rp_yaml *root = rp_arena_calloc(arena, 1, sizeof *root);
    rp_status status = RP_ERR_NOMEM;
    if (root && !rp_buffer_failed(&hidden) && yaml_parser_initialize(&r.parser)) {
        yaml_parser_set_input_string(
            &r.parser, (const unsigned char *)(hidden.len ? hidden.ptr : ""), hidden.len);
        yaml_parser_set_encoding(&r.parser, YAML_UTF8_ENCODING);
        status = read_document(&r, root);
        if (r.has_event)
            yaml_event_delete(&r.event);
        yaml_parser_delete(&r.parser);
    }
    rp_buffer_fini(&hidden);
    if (status == RP_OK)
        *out = root;
    return status;
}
