/* json.c - walking and writing trees; see json.h. Reading is in json.cpp. */
#include "json/json_internal.h"

#include "base/bytes.h"
#include <assert.h>
#include <math.h>
#include <stdlib.h>

/* Objects up to this many members are sorted and compared without the heap. */
enum { SMALL_COUNT = 24 };

static const double exact_integers = 9007199254740992.0; /* 2^53 */

/* ---- walking ------------------------------------------------------------------ */

const rp_json *
rp_json_get(const rp_json *object, const char *name)
{
    if (!object || object->type != RP_JSON_OBJECT)
        return NULL;
    const rp_str wanted = rp_str_of(name);
    for (uint32_t i = 0; i < object->count; i++)
        if (rp_str_equal(object->children[i].name, wanted))
            return &object->children[i];
    return NULL;
}

rp_str
rp_json_string(const rp_json *value)
{
    return value && value->type == RP_JSON_STRING ? value->string : (rp_str){ NULL, 0 };
}

bool
rp_json_to_double(const rp_json *value, double *out)
{
    if (!value)
        return false;
    switch (value->type) {
    case RP_JSON_INT: *out = (double)value->integer; return true;
    case RP_JSON_UINT: *out = (double)value->unsigned_integer; return true;
    case RP_JSON_DOUBLE: *out = value->number; return true;
    default: return false;
    }
}

bool
rp_json_to_int64(const rp_json *value, int64_t *out)
{
    if (!value)
        return false;
    if (value->type == RP_JSON_INT) {
        *out = value->integer;
        return true;
    }
    /* 2^63 is a double, INT64_MAX is not: the upper end is excluded. */
    if (value->type != RP_JSON_DOUBLE || value->number != floor(value->number) ||
        value->number < -0x1p63 || value->number >= 0x1p63)
        return false;
    *out = (int64_t)value->number;
    return true;
}

bool
rp_json_is_true(const rp_json *value)
{
    return value && value->type == RP_JSON_BOOL && value->boolean;
}

/* ---- names -------------------------------------------------------------------- */

/* A name and its first eight bytes as a number that sorts like them: most names
 * differ there, so that most compares touch no other memory. */
typedef struct member {
    uint64_t prefix;
    const rp_json *node;
} member;

static member
member_of(const rp_json *node)
{
    unsigned char bytes[8] = { 0 };
    if (node->name.len)
        memcpy(bytes, node->name.ptr, RP_MIN(node->name.len, sizeof bytes));
    uint64_t prefix = 0;
    for (size_t i = 0; i < sizeof bytes; i++)
        prefix = prefix << 8 | bytes[i];
    return (member){ prefix, node };
}

static int
compare_members(const void *left, const void *right)
{
    const member *a = left, *b = right;
    if (a->prefix != b->prefix)
        return a->prefix < b->prefix ? -1 : 1;
    return rp_str_compare(a->node->name, b->node->name);
}

/* `sorted` has room for `count`. Insertion for the few members that objects usually
 * have (they often come sorted), else qsort. */
static void
sort_members(const rp_json *members, uint32_t count, member *sorted)
{
    if (count > SMALL_COUNT) {
        for (uint32_t i = 0; i < count; i++)
            sorted[i] = member_of(&members[i]);
        qsort(sorted, count, sizeof *sorted, compare_members);
        return;
    }
    for (uint32_t i = 0; i < count; i++) {
        const member next = member_of(&members[i]);
        uint32_t at = i;
        for (; at > 0 && compare_members(&sorted[at - 1], &next) > 0; at--)
            sorted[at] = sorted[at - 1];
        sorted[at] = next;
    }
}

rp_status
rp_json_check_names(const rp_json *members, uint32_t count)
{
    if (count <= SMALL_COUNT) {
        for (uint32_t i = 1; i < count; i++)
            for (uint32_t j = 0; j < i; j++)
                if (rp_str_equal(members[i].name, members[j].name))
                    return RP_ERR_EXISTS;
        return RP_OK;
    }
    /* Sorting, not a hash table: no choice of names makes it slow. */
    member *sorted = malloc(count * sizeof *sorted);
    if (!sorted)
        return RP_ERR_NOMEM;
    sort_members(members, count, sorted);
    rp_status status = RP_OK;
    for (uint32_t i = 1; i < count && status == RP_OK; i++)
        if (compare_members(&sorted[i - 1], &sorted[i]) == 0)
            status = RP_ERR_EXISTS;
    free(sorted);
    return status;
}

/* ---- numbers ------------------------------------------------------------------ */

static bool
is_digit(char c)
{
    return c >= '0' && c <= '9';
}

/* RFC 8259 section 6. */
static bool
is_number(rp_str text)
{
    size_t i = 0;
    if (i < text.len && text.ptr[i] == '-')
        i++;
    if (i == text.len || !is_digit(text.ptr[i]))
        return false;
    if (text.ptr[i++] != '0')
        while (i < text.len && is_digit(text.ptr[i]))
            i++;
    if (i < text.len && text.ptr[i] == '.') {
        const size_t start = ++i;
        while (i < text.len && is_digit(text.ptr[i]))
            i++;
        if (i == start)
            return false;
    }
    if (i < text.len && (text.ptr[i] == 'e' || text.ptr[i] == 'E')) {
        i++;
        if (i < text.len && (text.ptr[i] == '+' || text.ptr[i] == '-'))
            i++;
        const size_t start = i;
        while (i < text.len && is_digit(text.ptr[i]))
            i++;
        if (i == start)
            return false;
    }
    return i == text.len;
}

rp_status
rp_json_explain_number(rp_str document)
{
    size_t i = 0;
    while (i < document.len) {
        const char c = document.ptr[i];
        if (c == '"') {
            for (i++; i < document.len && document.ptr[i] != '"'; i++)
                if (document.ptr[i] == '\\')
                    i++;
            i++;
        } else if (c == '-' || is_digit(c)) {
            const size_t start = i;
            while (i < document.len && !memchr(" \t\r\n,:]}[{\"", document.ptr[i], 11))
                i++;
            if (!is_number((rp_str){ document.ptr + start, i - start }))
                return RP_ERR_INVALID;
        } else {
            i++;
        }
    }
    return RP_ERR_UNSUPPORTED;
}

static bool
is_hex(char c)
{
    return is_digit(c) || ((c | 0x20) >= 'a' && (c | 0x20) <= 'f');
}

size_t
rp_json_mask_surrogates(char *document, size_t size)
{
    size_t count = 0;
    bool inside = false;
    for (size_t i = 0; i < size; i++) {
        if (document[i] == '"') {
            inside = !inside;
        } else if (inside && document[i] == '\\') {
            /* \uDxxx with a second digit of 8 and above; \uFFFD in its place. */
            if (size - i > 6 && document[i + 1] == 'u' && (document[i + 2] | 0x20) == 'd' &&
                memchr("89abcdefABCDEF", document[i + 3], 14) && is_hex(document[i + 4]) &&
                is_hex(document[i + 5])) {
                memcpy(document + i + 2, "FFFD", 4);
                count++;
            }
            i++;
        }
    }
    return count;
}

/* ---- writing ------------------------------------------------------------------ */

/* How many bytes at `at` need no escape and are ASCII. */
static size_t
plain_run(const char *at, size_t size)
{
    const uint64_t ones = 0x0101010101010101, high = 0x8080808080808080;
    size_t i = 0;
    while (size - i >= 8) {
        uint64_t word;
        memcpy(&word, at + i, sizeof word);
        /* A byte's high bit is set if it is below 0x20, a quote, or a backslash (each test
         * may only err towards "stop", and only above such a byte), or is not ASCII. */
        const uint64_t quote = word ^ ones * '"', slash = word ^ ones * '\\';
        const uint64_t stop = ((word - ones * 0x20) & ~word) | ((quote - ones) & ~quote) |
                              ((slash - ones) & ~slash) | word;
        if (stop & high)
            break;
        i += 8;
    }
    while (i < size) {
        const unsigned char c = (unsigned char)at[i];
        if (c < 0x20 || c >= 0x80 || c == '"' || c == '\\')
            break;
        i++;
    }
    return i;
}

/* The size of the well-formed UTF-8 sequence at `at`, 0 if there is none. */
static size_t
sequence_size(rp_str at)
{
    const unsigned char c = (unsigned char)at.ptr[0];
    const size_t size = c < 0xC2 ? 0 : c < 0xE0 ? 2 : c < 0xF0 ? 3 : c < 0xF5 ? 4 : 0;
    if (size == 0 || at.len < size || !rp_utf8_is_valid((rp_str){ at.ptr, size }))
        return 0;
    return size;
}

static void
write_escape(unsigned char c, rp_buffer *out)
{
    static const char hex[] = "0123456789abcdef";
    char escape[6] = { '\\', 'u', '0', '0', hex[c >> 4], hex[c & 15] };
    size_t size = 2;
    switch (c) {
    case '"': escape[1] = '"'; break;
    case '\\': escape[1] = '\\'; break;
    case '\b': escape[1] = 'b'; break;
    case '\f': escape[1] = 'f'; break;
    case '\n': escape[1] = 'n'; break;
    case '\r': escape[1] = 'r'; break;
    case '\t': escape[1] = 't'; break;
    default: size = 6;
    }
    rp_buffer_append(out, (rp_str){ escape, size });
}

void
rp_json_write_string_part(rp_str text, rp_buffer *out)
{
    size_t i = 0;
    while (i < text.len) {
        size_t run = plain_run(text.ptr + i, text.len - i);
        /* Whole sequences join the run, so that other scripts are copied in pieces too. */
        size_t size;
        while (i + run < text.len && (unsigned char)text.ptr[i + run] >= 0x80 &&
               (size = sequence_size((rp_str){ text.ptr + i + run, text.len - i - run })) > 0)
            run += size + plain_run(text.ptr + i + run + size, text.len - i - run - size);
        rp_buffer_append(out, (rp_str){ text.ptr + i, run });
        i += run;
        if (i == text.len)
            break;
        const unsigned char c = (unsigned char)text.ptr[i++];
        if (c >= 0x80)
            rp_buffer_append(out, RP_STR("\xEF\xBF\xBD"));
        else
            write_escape(c, out);
    }
}

void
rp_json_write_string(rp_str text, rp_buffer *out)
{
    rp_buffer_append_char(out, '"');
    rp_json_write_string_part(text, out);
    rp_buffer_append_char(out, '"');
}

static void
write_uint(uint64_t value, bool negative, rp_buffer *out)
{
    char digits[24];
    size_t at = sizeof digits;
    do
        digits[--at] = (char)('0' + value % 10);
    while (value /= 10);
    if (negative)
        digits[--at] = '-';
    rp_buffer_append(out, (rp_str){ digits + at, sizeof digits - at });
}

static void
write_int(int64_t value, rp_buffer *out)
{
    write_uint(value < 0 ? 0 - (uint64_t)value : (uint64_t)value, value < 0, out);
}

static void
write_double(double value, rp_buffer *out)
{
    if (!isfinite(value)) {
        rp_buffer_append(out, RP_STR("null"));
        return;
    }
    if (value == floor(value) && fabs(value) < exact_integers) {
        write_int((int64_t)value, out);
        return;
    }
    char text[RP_JSON_DOUBLE_SIZE + 2];
    size_t size = rp_json_format_double(value, text);
    /* From 2^53 on a double stands for several integers: it must not look like one. */
    if (!memchr(text, '.', size) && !memchr(text, 'e', size)) {
        text[size++] = '.';
        text[size++] = '0';
    }
    rp_buffer_append(out, (rp_str){ text, size });
}

static void write_value(const rp_json *value, bool sorted, rp_buffer *out);

static void
write_member(const rp_json *member_node, bool sorted, rp_buffer *out)
{
    rp_json_write_string(member_node->name, out);
    rp_buffer_append_char(out, ':');
    write_value(member_node, sorted, out);
}

static void
write_object(const rp_json *object, bool sorted, rp_buffer *out)
{
    member few[SMALL_COUNT], *order = NULL, *many = NULL;
    if (sorted) {
        order = few;
        if (object->count > SMALL_COUNT)
            order = many = malloc(object->count * sizeof *many);
        if (!order) {
            out->failed = true;
            return;
        }
        sort_members(object->children, object->count, order);
    }
    rp_buffer_append_char(out, '{');
    for (uint32_t i = 0; i < object->count; i++) {
        if (i)
            rp_buffer_append_char(out, ',');
        write_member(order ? order[i].node : &object->children[i], sorted, out);
    }
    rp_buffer_append_char(out, '}');
    free(many);
}

static void
write_value(const rp_json *value, bool sorted, rp_buffer *out)
{
    switch (value->type) {
    case RP_JSON_NULL: rp_buffer_append(out, RP_STR("null")); break;
    case RP_JSON_BOOL:
        rp_buffer_append(out, value->boolean ? RP_STR("true") : RP_STR("false"));
        break;
    case RP_JSON_INT: write_int(value->integer, out); break;
    case RP_JSON_UINT: write_uint(value->unsigned_integer, false, out); break;
    case RP_JSON_DOUBLE: write_double(value->number, out); break;
    case RP_JSON_STRING: rp_json_write_string(value->string, out); break;
    case RP_JSON_ARRAY:
        rp_buffer_append_char(out, '[');
        for (uint32_t i = 0; i < value->count; i++) {
            if (i)
                rp_buffer_append_char(out, ',');
            write_value(&value->children[i], sorted, out);
        }
        rp_buffer_append_char(out, ']');
        break;
    case RP_JSON_OBJECT: write_object(value, sorted, out); break;
    }
}

void
rp_json_write_canonical(const rp_json *value, rp_buffer *out)
{
    write_value(value, true, out);
}

void
rp_json_write(const rp_json *value, rp_buffer *out)
{
    write_value(value, false, out);
}

/* ---- the writer that puts the commas ------------------------------------------- */

void
rp_json_writer_init(rp_json_writer *writer, rp_buffer *out)
{
    *writer = (rp_json_writer){ .out = out };
}

static void
put_comma(rp_json_writer *writer)
{
    if (writer->comma)
        rp_buffer_append_char(writer->out, ',');
    writer->comma = true;
}

void
rp_json_open(rp_json_writer *writer, char bracket)
{
    assert(bracket == '{' || bracket == '[');
    put_comma(writer);
    rp_buffer_append_char(writer->out, bracket);
    writer->comma = false;
}

void
rp_json_close(rp_json_writer *writer, char bracket)
{
    assert(bracket == '}' || bracket == ']');
    rp_buffer_append_char(writer->out, bracket);
    writer->comma = true;
}

void
rp_json_key(rp_json_writer *writer, const char *name)
{
    rp_json_put_string(writer, rp_str_of(name));
    rp_buffer_append_char(writer->out, ':');
    writer->comma = false;
}

void
rp_json_put_string(rp_json_writer *writer, rp_str text)
{
    put_comma(writer);
    rp_json_write_string(text, writer->out);
}

void
rp_json_put_cstring(rp_json_writer *writer, const char *text)
{
    if (text)
        rp_json_put_string(writer, rp_str_of(text));
    else
        rp_json_put_null(writer);
}

void
rp_json_put_int(rp_json_writer *writer, int64_t value)
{
    put_comma(writer);
    write_int(value, writer->out);
}

void
rp_json_put_uint(rp_json_writer *writer, uint64_t value)
{
    put_comma(writer);
    write_uint(value, false, writer->out);
}

void
rp_json_put_double(rp_json_writer *writer, double value)
{
    put_comma(writer);
    write_double(value, writer->out);
}

void
rp_json_put_bool(rp_json_writer *writer, bool value)
{
    rp_json_put_raw(writer, value ? RP_STR("true") : RP_STR("false"));
}

void
rp_json_put_null(rp_json_writer *writer)
{
    rp_json_put_raw(writer, RP_STR("null"));
}

void
rp_json_put_raw(rp_json_writer *writer, rp_str json)
{
    put_comma(writer);
    rp_buffer_append(writer->out, json);
}

void
rp_json_put_value(rp_json_writer *writer, const rp_json *value)
{
    put_comma(writer);
    write_value(value, false, writer->out);
}
