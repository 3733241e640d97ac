/* bytes.c - see bytes.h. */
#include "base/bytes.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>

int
rp_str_compare(rp_str a, rp_str b)
{
    const size_t common = RP_MIN(a.len, b.len);
    const int order = common ? memcmp(a.ptr, b.ptr, common) : 0;
    if (order != 0)
        return order;
    return a.len < b.len ? -1 : a.len > b.len;
}

static unsigned char
to_lower_ascii(char c)
{
    return (unsigned char)(c >= 'A' && c <= 'Z' ? c | 0x20 : c);
}

bool
rp_str_equal_ignoring_case(rp_str a, rp_str b)
{
    if (a.len != b.len)
        return false;
    for (size_t i = 0; i < a.len; i++)
        if (to_lower_ascii(a.ptr[i]) != to_lower_ascii(b.ptr[i]))
            return false;
    return true;
}

bool
rp_str_starts_with(rp_str text, rp_str prefix)
{
    return text.len >= prefix.len && rp_str_equal((rp_str){ text.ptr, prefix.len }, prefix);
}

bool
rp_str_ends_with(rp_str text, rp_str suffix)
{
    return text.len >= suffix.len &&
           rp_str_equal((rp_str){ text.ptr + text.len - suffix.len, suffix.len }, suffix);
}

static bool
is_space_ascii(char c)
{
    return c == ' ' || (c >= '\t' && c <= '\r');
}

rp_str
rp_str_trimmed(rp_str text)
{
    while (text.len && is_space_ascii(text.ptr[0]))
        text.ptr++, text.len--;
    while (text.len && is_space_ascii(text.ptr[text.len - 1]))
        text.len--;
    return text;
}

rp_str
rp_str_split(rp_str *rest, char separator)
{
    const char *found = rest->len ? memchr(rest->ptr, separator, rest->len) : NULL;
    if (!found) {
        const rp_str all = *rest;
        *rest = (rp_str){ rest->ptr ? rest->ptr + rest->len : NULL, 0 };
        return all;
    }
    const rp_str front = { rest->ptr, (size_t)(found - rest->ptr) };
    *rest = (rp_str){ found + 1, rest->len - front.len - 1 };
    return front;
}

bool
rp_str_matches_glob(rp_str text, rp_str pattern)
{
    /* On a mismatch, go back to the last star and let it take one byte more:
     * earlier stars never need to be tried again. */
    size_t t = 0, p = 0, star = SIZE_MAX, star_text = 0;
    while (t < text.len) {
        if (p < pattern.len && pattern.ptr[p] == '*') {
            star = p++;
            star_text = t;
        } else if (p < pattern.len && (pattern.ptr[p] == '?' || pattern.ptr[p] == text.ptr[t])) {
            p++, t++;
        } else if (star != SIZE_MAX) {
            p = star + 1;
            t = ++star_text;
        } else {
            return false;
        }
    }
    while (p < pattern.len && pattern.ptr[p] == '*')
        p++;
    return p == pattern.len;
}

bool
rp_str_to_u64(rp_str text, uint64_t *out)
{
    if (text.len == 0)
        return false;
    uint64_t value = 0;
    for (size_t i = 0; i < text.len; i++) {
        const unsigned digit = (unsigned char)text.ptr[i] - (unsigned)'0';
        if (digit > 9 || value > (UINT64_MAX - digit) / 10)
            return false;
        value = value * 10 + digit;
    }
    *out = value;
    return true;
}

bool
rp_str_to_double(rp_str text, double *out)
{
    char copy[64];
    if (text.len == 0 || text.len >= sizeof copy || is_space_ascii(text.ptr[0]))
        return false;
    memcpy(copy, text.ptr, text.len);
    copy[text.len] = '\0';
    char *end;
    errno = 0;
    const double value = strtod(copy, &end);
    if (end != copy + text.len || errno == ERANGE || !isfinite(value))
        return false;
    *out = value;
    return true;
}

/* The size of the well-formed sequence at `p`, 0 if there is none.
 * Unicode 15, table 3-7: no overlong forms, no surrogates, nothing above 10FFFF. */
static size_t
utf8_sequence_size(const unsigned char *p, size_t left)
{
    if (p[0] < 0x80)
        return 1;
    if (p[0] < 0xC2 || p[0] > 0xF4)
        return 0;
    const size_t size = p[0] < 0xE0 ? 2 : p[0] < 0xF0 ? 3 : 4;
    if (left < size)
        return 0;
    unsigned char low = 0x80, high = 0xBF;
    if (p[0] == 0xE0)
        low = 0xA0;
    else if (p[0] == 0xED)
        high = 0x9F;
    else if (p[0] == 0xF0)
        low = 0x90;
    else if (p[0] == 0xF4)
        high = 0x8F;
    if (p[1] < low || p[1] > high)
        return 0;
    for (size_t i = 2; i < size; i++)
        if ((p[i] & 0xC0) != 0x80)
            return 0;
    return size;
}

bool
rp_utf8_is_valid(rp_str text)
{
    size_t i = 0;
    while (i < text.len) {
        /* Most text is ASCII: eight bytes at a time. */
        uint64_t word;
        while (text.len - i >= 8 && (memcpy(&word, text.ptr + i, 8), !(word & 0x8080808080808080)))
            i += 8;
        if (i == text.len)
            break;
        const size_t size = utf8_sequence_size((const unsigned char *)text.ptr + i, text.len - i);
        if (size == 0)
            return false;
        i += size;
    }
    return true;
}

void
rp_hex_encode(const void *bytes, size_t size, char *out)
{
    static const char digits[] = "0123456789abcdef";
    const uint8_t *p = bytes;
    for (size_t i = 0; i < size; i++) {
        out[2 * i] = digits[p[i] >> 4];
        out[2 * i + 1] = digits[p[i] & 15];
    }
    out[2 * size] = '\0';
}

static int
hex_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    const char lower = (char)(c | 0x20);
    return lower >= 'a' && lower <= 'f' ? lower - 'a' + 10 : -1;
}

bool
rp_hex_decode(rp_str digits, void *out, size_t size)
{
    if (digits.len != 2 * size)
        return false;
    for (size_t i = 0; i < size; i++) {
        const int high = hex_value(digits.ptr[2 * i]), low = hex_value(digits.ptr[2 * i + 1]);
        if (high < 0 || low < 0)
            return false;
        ((uint8_t *)out)[i] = (uint8_t)(high << 4 | low);
    }
    return true;
}
