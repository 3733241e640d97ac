/* json.cpp - simdjson behind a C face; the one C++ file of Reprise.
 *
 * simdjson's DOM parser validates a document and writes it to a "tape" of 64-bit
 * words (its doc/tape.md): the top byte is a type letter, the rest an offset, a count
 * or nothing; numbers use a second word. We walk the tape once and copy it into our
 * nodes, so that nothing outside this file knows of C++.
 *
 * No exception can leave: simdjson is used through its error codes, memory comes from
 * malloc or new (std::nothrow).
 *
 * A container's count on the tape saturates at 2^24 - 1; longer ones are counted by
 * walking over their children. */
#define SIMDJSON_EXCEPTIONS 0

extern "C" {
#include "json/json_internal.h"
}

#include <charconv>
#include <cstdlib>
#include <cstring>
#include <new>
#include <simdjson.h>

using namespace simdjson;

namespace
{

/* Buffers grow in powers of two from here, and are given back after a document that
 * needed more than KEPT_SIZE_MAX: one tokenizer.json must not pin 300 MB. Guesses. */
constexpr size_t CAPACITY_MIN = 8 << 10;
constexpr size_t KEPT_SIZE_MAX = 1 << 20;
constexpr uint32_t COUNT_SATURATED = 0xFFFFFF;

} // namespace

struct rp_json_reader {
    dom::parser parser{ SIMDJSON_MAXSIZE_BYTES };
    dom::document document{};
    char *padded = nullptr; /* owned; the document with SIMDJSON_PADDING readable bytes after it */
    size_t capacity = 0;
};

namespace
{

struct walk {
    const uint64_t *tape;
    const uint8_t *strings;
    rp_arena *arena;
    char *text, *text_end; /* room for all strings of the document */
    rp_error *error;
};

inline char
word_type(uint64_t word)
{
    return (char)(word >> 56);
}

/* The index after the value at `at`. */
inline size_t
skip_value(const walk &w, size_t at)
{
    const uint64_t word = w.tape[at];
    switch (word_type(word)) {
    case '{':
    case '[': return (uint32_t)word;
    case 'l':
    case 'u':
    case 'd': return at + 2;
    default: return at + 1;
    }
}

bool
copy_string(walk &w, uint64_t word, rp_str *out)
{
    const uint8_t *at = w.strings + (word & internal::JSON_VALUE_MASK);
    uint32_t size;
    memcpy(&size, at, sizeof size);
    if (size > (size_t)(w.text_end - w.text))
        return false; /* unescaping never makes a string longer: not reached */
    memcpy(w.text, at + sizeof size, size);
    *out = rp_str{ w.text, size };
    w.text += size;
    return true;
}

rp_status copy_value(walk &w, size_t at, unsigned depth, rp_json *node);

rp_status
copy_container(walk &w, size_t at, unsigned depth, rp_json *node)
{
    const uint64_t word = w.tape[at];
    const bool is_object = word_type(word) == '{';
    if (depth > RP_JSON_DEPTH_MAX)
        return rp_fail(w.error, RP_ERR_LIMIT, "JSON nested more than %d levels",
                       (int)RP_JSON_DEPTH_MAX);
    const size_t end = (size_t)(uint32_t)word - 1; /* of the closing bracket */
    size_t count = word >> 32 & COUNT_SATURATED;
    if (count == COUNT_SATURATED) {
        count = 0;
        for (size_t i = at + 1; i < end; count++)
            i = skip_value(w, is_object ? i + 1 : i);
    }
    node->type = is_object ? RP_JSON_OBJECT : RP_JSON_ARRAY;
    node->count = (uint32_t)count;
    node->children = nullptr;
    if (count == 0)
        return RP_OK;
    /* Each child takes at least two bytes of a document of bounded size: no overflow. */
    rp_json *children = (rp_json *)rp_arena_alloc(w.arena, count * sizeof *children);
    if (!children)
        return rp_fail(w.error, RP_ERR_LIMIT, "JSON needs more memory than its bound");
    node->children = children;

    size_t i = at + 1;
    for (size_t n = 0; n < count; n++) {
        children[n].name = rp_str{ nullptr, 0 };
        if (is_object && !copy_string(w, w.tape[i++], &children[n].name))
            return rp_fail(w.error, RP_ERR_INVALID, "JSON string is longer than its document");
        const rp_status status = copy_value(w, i, depth, &children[n]);
        if (status != RP_OK)
            return status;
        i = skip_value(w, i);
    }
    if (!is_object)
        return RP_OK;
    const rp_status status = rp_json_check_names(children, node->count);
    if (status == RP_ERR_EXISTS)
        return rp_fail(w.error, status, "JSON object with the same name twice");
    if (status != RP_OK)
        return rp_fail(w.error, status, "no memory to compare %zu names", count);
    return RP_OK;
}

rp_status
copy_value(walk &w, size_t at, unsigned depth, rp_json *node)
{
    const uint64_t word = w.tape[at];
    node->count = 0;
    switch (word_type(word)) {
    case '{':
    case '[': return copy_container(w, at, depth + 1, node);
    case '"':
        node->type = RP_JSON_STRING;
        if (!copy_string(w, word, &node->string))
            return rp_fail(w.error, RP_ERR_INVALID, "JSON string is longer than its document");
        return RP_OK;
    case 'l':
        node->type = RP_JSON_INT;
        memcpy(&node->integer, &w.tape[at + 1], sizeof node->integer);
        return RP_OK;
    case 'u':
        node->type = RP_JSON_UINT;
        memcpy(&node->unsigned_integer, &w.tape[at + 1], sizeof node->unsigned_integer);
        return RP_OK;
    case 'd':
        node->type = RP_JSON_DOUBLE;
        memcpy(&node->number, &w.tape[at + 1], sizeof node->number);
        return RP_OK;
    case 't':
    case 'f':
        node->type = RP_JSON_BOOL;
        node->boolean = word_type(word) == 't';
        return RP_OK;
    case 'n': node->type = RP_JSON_NULL; return RP_OK;
    default: return rp_fail(w.error, RP_ERR_INVALID, "JSON value of unknown kind");
    }
}

rp_status
make_room(rp_json_reader *reader, size_t size)
{
    if (size <= reader->capacity)
        return RP_OK;
    size_t capacity = CAPACITY_MIN;
    while (capacity < size)
        capacity *= 2;
    reader->capacity = 0;
    free(reader->padded);
    reader->padded = (char *)malloc(capacity + SIMDJSON_PADDING);
    /* One level more than ours, so that the limit that is met is the stated one. */
    if (!reader->padded ||
        reader->parser.allocate(capacity, RP_JSON_DEPTH_MAX + 2) != SUCCESS ||
        reader->document.allocate(capacity) != SUCCESS)
        return RP_ERR_NOMEM;
    reader->capacity = capacity;
    return RP_OK;
}

void
give_back(rp_json_reader *reader)
{
    free(reader->padded);
    reader->padded = nullptr;
    reader->capacity = 0;
    reader->parser = dom::parser();
    reader->document = dom::document();
}

error_code
parse_padded(rp_json_reader *reader, size_t size)
{
    return reader->parser
        .parse_into_document(reader->document, (const uint8_t *)reader->padded, size, false)
        .error();
}

rp_status
explain(error_code code, rp_str document, rp_error *error)
{
    switch (code) {
    case MEMALLOC:
    case CAPACITY: return rp_fail(error, RP_ERR_NOMEM, "no memory for JSON");
    case DEPTH_ERROR:
        return rp_fail(error, RP_ERR_LIMIT, "JSON nested more than %d levels",
                       (int)RP_JSON_DEPTH_MAX);
    case NUMBER_ERROR:
        if (rp_json_explain_number(document) == RP_ERR_UNSUPPORTED)
            return rp_fail(error, RP_ERR_UNSUPPORTED, "JSON number beyond 64 bits");
        return rp_fail(error, RP_ERR_INVALID, "JSON number is malformed");
    case UTF8_ERROR: return rp_fail(error, RP_ERR_INVALID, "JSON text is not UTF-8");
    case STRING_ERROR:
    case UNESCAPED_CHARS:
    case UNCLOSED_STRING: return rp_fail(error, RP_ERR_INVALID, "JSON string is malformed");
    case EMPTY: return rp_fail(error, RP_ERR_INVALID, "JSON document is empty");
    default: return rp_fail(error, RP_ERR_INVALID, "not JSON: %s", error_message(code));
    }
}

} // namespace

extern "C" rp_status
rp_json_reader_new(rp_json_reader **out)
{
    rp_json_reader *reader = new (std::nothrow) rp_json_reader;
    if (!reader)
        return RP_ERR_NOMEM;
    *out = reader;
    return RP_OK;
}

extern "C" void
rp_json_reader_free(rp_json_reader *reader)
{
    if (reader)
        free(reader->padded);
    delete reader;
}

extern "C" rp_status
rp_json_parse(rp_json_reader *reader, rp_arena *arena, rp_str document, const rp_json **out,
              rp_error *error)
{
    if (document.len > RP_JSON_SIZE_MAX)
        return rp_fail(error, RP_ERR_LIMIT, "JSON of %zu bytes; at most %zu", document.len,
                       RP_JSON_SIZE_MAX);
    if (document.len == 0)
        return explain(EMPTY, document, error);
    if (make_room(reader, document.len) != RP_OK) {
        give_back(reader);
        return rp_fail(error, RP_ERR_NOMEM, "no memory for JSON of %zu bytes", document.len);
    }
    memcpy(reader->padded, document.ptr, document.len);
    memset(reader->padded + document.len, 0, SIMDJSON_PADDING);

    const error_code parsed = parse_padded(reader, document.len);
    rp_status status;
    if (parsed == STRING_ERROR && rp_json_mask_surrogates(reader->padded, document.len) > 0) {
        const error_code masked = parse_padded(reader, document.len);
        status = masked == SUCCESS ? rp_fail(error, RP_ERR_CORRUPT,
                                             "JSON string with half a surrogate pair")
                                   : explain(masked, document, error);
    } else if (parsed != SUCCESS) {
        status = explain(parsed, document, error);
    } else {
        walk w = {};
        w.tape = reader->document.tape.get();
        w.strings = reader->document.string_buf.get();
        w.arena = arena;
        w.error = error;
        rp_json *root = (rp_json *)rp_arena_alloc(arena, sizeof *root);
        w.text = (char *)rp_arena_alloc(arena, document.len);
        if (root && w.text) {
            w.text_end = w.text + document.len;
            root->name = rp_str{ nullptr, 0 };
            status = copy_value(w, 1, 0, root); /* word 0 is the root mark */
            if (status == RP_OK)
                *out = root;
        } else {
            status = rp_fail(error, RP_ERR_LIMIT, "JSON needs more memory than its bound");
        }
    }
    if (reader->capacity > KEPT_SIZE_MAX)
        give_back(reader);
    return status;
}

extern "C" size_t
rp_json_format_double(double value, char out[RP_JSON_DOUBLE_SIZE])
{
    const std::to_chars_result result = std::to_chars(out, out + RP_JSON_DOUBLE_SIZE, value);
    return result.ec == std::errc() ? (size_t)(result.ptr - out) : 0;
}
