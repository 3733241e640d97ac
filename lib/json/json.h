/* json.h - strict JSON in, a plain tree out; and a small writer.
 *
 * simdjson (a C++ library) reads and validates; its result is copied into a
 * tree of plain nodes in the caller's arena, so that everybody else walks C
 * structs. RFC 8259 to the letter: UTF-8 only, no NaN, no trailing bytes. More
 * than RFC 8259 asks: a name that occurs twice in one object is refused, for
 * two parsers would then see two different requests.
 *
 * Numbers: an integer that fits int64 or uint64 keeps its exact value; every
 * other number is the nearest double. An integer beyond 64 bits is refused
 * (RP_ERR_UNSUPPORTED): rounding it could make two requests equal.
 *
 * Threads: an rp_json_reader is used by one thread at a time; trees are
 * immutable. */
#ifndef RP_JSON_JSON_H
#define RP_JSON_JSON_H

#include "base/arena.h"
#include "base/buffer.h"
#include <reprise/status.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef enum rp_json_type {
    RP_JSON_NULL,
    RP_JSON_BOOL,
    RP_JSON_INT,    /* fits int64 */
    RP_JSON_UINT,   /* above INT64_MAX */
    RP_JSON_DOUBLE, /* written with a fraction or exponent */
    RP_JSON_STRING,
    RP_JSON_ARRAY,
    RP_JSON_OBJECT,
} rp_json_type;

typedef struct rp_json rp_json;
struct rp_json {
    rp_json_type type;
    uint32_t count; /* children of an array or object */
    rp_str name;    /* within the parent object; else empty. In the arena. */
    union {
        bool boolean;
        int64_t integer;
        uint64_t unsigned_integer;
        double number;
        rp_str string;           /* unescaped UTF-8, may hold U+0000; in the arena */
        const rp_json *children; /* count nodes in document order; in the arena */
    };
};

typedef struct rp_json_reader rp_json_reader; /* keeps buffers between documents */
RP_NODISCARD rp_status rp_json_reader_new(rp_json_reader **out);
void rp_json_reader_free(rp_json_reader *reader);

#define RP_JSON_SIZE_MAX ((size_t)64 << 20) /* bytes of a document */

/* Parse one document. Depth is at most RP_JSON_DEPTH_MAX. Fails:
 * RP_ERR_INVALID (not JSON), RP_ERR_EXISTS (a name twice in one object),
 * RP_ERR_LIMIT (too large, too deep, or the arena's bound), RP_ERR_UNSUPPORTED (an
 * integer beyond 64 bits, or a number beyond double), RP_ERR_CORRUPT (JSON by its grammar, but
 * an escape is half of a surrogate pair, which no UTF-8 can say), RP_ERR_NOMEM. The sentence never
 * quotes the document. A tree takes about 40 bytes a value, and the document's size. */
RP_NODISCARD rp_status rp_json_parse(rp_json_reader *reader, rp_arena *arena, rp_str document,
                                     const rp_json **out, rp_error *error);

/* A member, or NULL if `object` is NULL, not an object, or has no such name. */
const rp_json *rp_json_get(const rp_json *object, const char *name);
/* The string, or an empty one with ptr NULL if `value` is NULL or no string. */
rp_str rp_json_string(const rp_json *value);
/* True if `value` is a number; INT, UINT and DOUBLE are all converted. */
bool rp_json_to_double(const rp_json *value, double *out);
/* True if `value` is an integer (also a DOUBLE with an integral value) in range. */
bool rp_json_to_int64(const rp_json *value, int64_t *out);
bool rp_json_is_true(const rp_json *value);

/* Append the canonical form: names sorted bytewise, no white space, shortest
 * escapes, integers in decimal, and a DOUBLE that is integral below 2^53 as that
 * integer (1.0 and 1 are one number); other doubles with the shortest digits that read
 * back, and never as an integer. Equal values give equal bytes and the reverse; only a
 * DOUBLE from 2^53 on differs from an INT of the same value, for it may have been
 * rounded. */
void rp_json_write_canonical(const rp_json *value, rp_buffer *out);
/* The same but members stay in document order: for forwarding a value. */
void rp_json_write(const rp_json *value, rp_buffer *out);
/* A quoted, escaped string. Invalid UTF-8 becomes U+FFFD. */
void rp_json_write_string(rp_str text, rp_buffer *out);
/* The same without the quotes: the inside of a string that is written in parts. */
void rp_json_write_string_part(rp_str text, rp_buffer *out);

/* A writer that puts the commas. Values inside an object need rp_json_key first.
 *   rp_json_open(&w, '{'); rp_json_key(&w, "id"); rp_json_put_string(&w, id);
 *   rp_json_close(&w, '}');                                                     */
typedef struct rp_json_writer {
    rp_buffer *out; /* borrowed */
    bool comma;     /* the next value or key needs one before it */
} rp_json_writer;
void rp_json_writer_init(rp_json_writer *writer, rp_buffer *out);
void rp_json_open(rp_json_writer *writer, char bracket);  /* '{' or '[' */
void rp_json_close(rp_json_writer *writer, char bracket); /* '}' or ']' */
void rp_json_key(rp_json_writer *writer, const char *name);
void rp_json_put_string(rp_json_writer *writer, rp_str text);
void rp_json_put_cstring(rp_json_writer *writer, const char *text); /* NULL: null */
void rp_json_put_int(rp_json_writer *writer, int64_t value);
void rp_json_put_uint(rp_json_writer *writer, uint64_t value);
void rp_json_put_double(rp_json_writer *writer, double value); /* not finite: null */
void rp_json_put_bool(rp_json_writer *writer, bool value);
void rp_json_put_null(rp_json_writer *writer);
void rp_json_put_raw(rp_json_writer *writer, rp_str json);          /* already JSON */
void rp_json_put_value(rp_json_writer *writer, const rp_json *value);

#ifdef __cplusplus
}
#endif
#endif
