/* markup.c - see markup.h. */
#include "eval/markup.h"

#include "base/bytes.h"

#include <math.h>
#include <stdio.h>
#include <utf8proc.h>

enum { MARKS_MAX = 3 };

/* May it stand in the page as it is? The joiners are needed to write Persian, Hindi and
 * families of emoji, and only act on their neighbours. */
static bool
is_plain(utf8proc_int32_t point)
{
    if (point == 0x200C || point == 0x200D)
        return true;
    switch (utf8proc_category(point)) {
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
        return false;
    default:
        /* Letters without a glyph: fillers and the blank of Braille. */
        return point != 0x115F && point != 0x1160 && point != 0x3164 && point != 0xFFA0 &&
               point != 0x2800 && !(point >= 0xE0100 && point <= 0xE01EF);
    }
}

static bool
is_combining(utf8proc_int32_t point)
{
    const utf8proc_category_t category = utf8proc_category(point);
    return category == UTF8PROC_CATEGORY_MN || category == UTF8PROC_CATEGORY_ME;
}

static void
put_point(rp_buffer *out, utf8proc_int32_t point, rp_str bytes)
{
    switch (point) {
    case '&': rp_buffer_append(out, RP_STR("&amp;")); return;
    case '<': rp_buffer_append(out, RP_STR("&lt;")); return;
    case '>': rp_buffer_append(out, RP_STR("&gt;")); return;
    case '"': rp_buffer_append(out, RP_STR("&quot;")); return;
    case '\'': rp_buffer_append(out, RP_STR("&#39;")); return;
    case '\t':
    case '\r':
    case '\n': rp_buffer_append_char(out, ' '); return;
    }
    if (is_plain(point))
        rp_buffer_append(out, bytes);
    else
        rp_buffer_printf(out, "[U+%04X]", (unsigned)point);
}

void
rp_markup_excerpt(rp_buffer *out, rp_str text, size_t points_max)
{
    const utf8proc_uint8_t *at = (const utf8proc_uint8_t *)text.ptr;
    size_t left = text.len, marks = 0;
    for (size_t points = 0; left; points++) {
        utf8proc_int32_t point;
        if (points == points_max) {
            rp_buffer_printf(out, "\xE2\x80\xA6 [%zu bytes more]", left);
            return;
        }
        utf8proc_ssize_t size = utf8proc_iterate(at, (utf8proc_ssize_t)RP_MIN(left, (size_t)4),
                                                 &point);
        if (size <= 0) {
            rp_buffer_append(out, RP_STR("\xEF\xBF\xBD"));
            size = 1;
            marks = 0;
        } else if (!is_combining(point) || ++marks <= MARKS_MAX) {
            marks = is_combining(point) ? marks : 0;
            put_point(out, point, (rp_str){ (const char *)at, (size_t)size });
        }
        at += size;
        left -= (size_t)size;
    }
}

void
rp_markup_text(rp_buffer *out, rp_str text)
{
    rp_markup_excerpt(out, text, SIZE_MAX);
}

void
rp_markup_number(rp_buffer *out, double value, int digits)
{
    char plain[400];
    if (!isfinite(value)) {
        rp_buffer_append(out, RP_STR("\xE2\x80\x93"));
        return;
    }
    const int len = snprintf(plain, sizeof plain, "%.*f", RP_MIN(RP_MAX(digits, 0), 9), value);
    const char *start = plain[0] == '-' ? plain + 1 : plain;
    const size_t whole = strcspn(start, ".");
    /* A minus is as wide as a plus; a rounded nothing is not below zero. */
    if (start != plain && strspn(start, "0.") < strlen(start))
        rp_buffer_append(out, RP_STR("\xE2\x88\x92"));
    for (size_t i = 0; i < whole; i++) {
        if (i && (whole - i) % 3 == 0)
            rp_buffer_append_char(out, ',');
        rp_buffer_append_char(out, start[i]);
    }
    rp_buffer_append(out, (rp_str){ start + whole, (size_t)(plain + len - start) - whole });
}
