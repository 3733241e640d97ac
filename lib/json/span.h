/* span.h - where the parts of a JSON text lie, without building a tree.
 *
 * For text that rp_json_parse accepted: gives the bytes of each child of an array or
 * object, so that a member can be cut out or copied as it was written. On other text it
 * gives something within the text, or ends.
 *
 * Threads: pure functions; a cursor is used by one thread at a time. */
#ifndef RP_JSON_SPAN_H
#define RP_JSON_SPAN_H

#include "json/json.h"

typedef struct rp_json_cursor {
    const char *at, *end;
    bool is_object;
} rp_json_cursor;

/* `container`: from its bracket to its bracket; space around it is skipped. */
void rp_json_cursor_init(rp_json_cursor *cursor, rp_str container);
/* The next child: `member` with its name (an array: the same as value), `value` without.
 * False at the end. */
bool rp_json_cursor_next(rp_json_cursor *cursor, rp_str *member, rp_str *value);

/* The children of a parsed container side by side with their bytes. `bytes` is where the
 * container was read from. False also when the two do not fit together. */
typedef struct rp_json_walk {
    const rp_json *container, *child;
    rp_str member, value; /* as of the cursor */
    rp_json_cursor cursor;
    uint32_t next;
} rp_json_walk;
void rp_json_walk_init(rp_json_walk *walk, const rp_json *container, rp_str bytes);
bool rp_json_walk_next(rp_json_walk *walk);

#endif
