/* span.c - see span.h. Brackets are counted and strings skipped; that is enough for text
 * that has been validated, and never leaves the text if it has not. */
#include "json/span.h"

static void
skip_space(rp_json_cursor *c)
{
    while (c->at < c->end && (*c->at == ' ' || *c->at == '\t' || *c->at == '\n' || *c->at == '\r'))
        c->at++;
}

static void
skip_string(rp_json_cursor *c)
{
    for (c->at++; c->at < c->end && *c->at != '"'; c->at++)
        if (*c->at == '\\')
            c->at++;
    c->at = c->at < c->end ? c->at + 1 : c->end;
}

static void
skip_value(rp_json_cursor *c)
{
    size_t depth = 0;
    do {
        if (*c->at == '"') {
            skip_string(c);
        } else if (*c->at == '{' || *c->at == '[') {
            depth++;
            c->at++;
        } else if (*c->at == '}' || *c->at == ']') {
            if (depth == 0)
                return; /* not ours: the container ends */
            depth--;
            c->at++;
        } else if (depth == 0) {
            while (c->at < c->end && *c->at != ',' && *c->at != '}' && *c->at != ']' &&
                   *c->at != ' ' && *c->at != '\t' && *c->at != '\n' && *c->at != '\r')
                c->at++;
        } else {
            c->at++;
        }
    } while (depth > 0 && c->at < c->end);
}

void
rp_json_cursor_init(rp_json_cursor *cursor, rp_str container)
{
    *cursor = (rp_json_cursor){ .at = container.ptr, .end = container.ptr + container.len };
    skip_space(cursor);
    if (cursor->at == cursor->end || (*cursor->at != '{' && *cursor->at != '[')) {
        cursor->at = cursor->end;
        return;
    }
    cursor->is_object = *cursor->at++ == '{';
}

bool
rp_json_cursor_next(rp_json_cursor *cursor, rp_str *member, rp_str *value)
{
    skip_space(cursor);
    if (cursor->at < cursor->end && *cursor->at == ',') {
        cursor->at++;
        skip_space(cursor);
    }
    if (cursor->at == cursor->end || *cursor->at == '}' || *cursor->at == ']') {
        cursor->at = cursor->end;
        return false;
    }
    const char *start = cursor->at;
    if (cursor->is_object) {
        if (*cursor->at != '"')
            return false;
        skip_string(cursor);
        skip_space(cursor);
        if (cursor->at == cursor->end || *cursor->at != ':')
            return false;
        cursor->at++;
        skip_space(cursor);
        if (cursor->at == cursor->end)
            return false;
    }
    const char *value_start = cursor->at;
    skip_value(cursor);
    if (cursor->at == value_start)
        return false;
    *member = (rp_str){ start, (size_t)(cursor->at - start) };
    *value = (rp_str){ value_start, (size_t)(cursor->at - value_start) };
    return true;
}

void
rp_json_walk_init(rp_json_walk *walk, const rp_json *container, rp_str bytes)
{
    *walk = (rp_json_walk){ .container = container };
    rp_json_cursor_init(&walk->cursor, bytes);
}

bool
rp_json_walk_next(rp_json_walk *walk)
{
    const rp_json_type type = walk->container->type;
    if ((type != RP_JSON_ARRAY && type != RP_JSON_OBJECT) ||
        walk->next == walk->container->count ||
        !rp_json_cursor_next(&walk->cursor, &walk->member, &walk->value))
        return false;
    walk->child = &walk->container->children[walk->next++];
    return true;
}
