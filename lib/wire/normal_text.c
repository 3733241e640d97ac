/* normal_text.c - one form of a text for matching: NFC (Unicode Annex 15), line ends as
 * LF, no white space around it; nothing else changes. */
#include "wire/wire_internal.h"

#include "base/bytes.h"
#include <stdlib.h>
#include <utf8proc.h>

/* Nothing below U+0300 takes part in a composition unless a later character does: such
 * text is in NFC. In UTF-8 a byte from 0xCC on starts (or, never, continues) the rest. */
static bool
is_surely_nfc(rp_str text)
{
    for (size_t i = 0; i < text.len; i++)
        if ((unsigned char)text.ptr[i] >= 0xCC)
            return false;
    return true;
}

static rp_str
with_plain_line_ends(rp_str text, rp_arena *arena)
{
    if (text.len == 0 || !memchr(text.ptr, '\r', text.len))
        return text;
    char *out = rp_arena_alloc(arena, text.len);
    if (!out)
        return (rp_str){ NULL, 0 };
    size_t size = 0;
    for (size_t i = 0; i < text.len; i++) {
        if (text.ptr[i] != '\r')
            out[size++] = text.ptr[i];
        else if (i + 1 == text.len || text.ptr[i + 1] != '\n')
            out[size++] = '\n';
    }
    return (rp_str){ out, size };
}

rp_str
rp_normal_text(rp_str text, rp_arena *arena)
{
    rp_str plain = with_plain_line_ends(rp_str_trimmed(text), arena);
    if (!plain.ptr || is_surely_nfc(plain))
        return plain;
    utf8proc_uint8_t *composed = NULL;
    const utf8proc_ssize_t size =
        utf8proc_map((const utf8proc_uint8_t *)plain.ptr, (utf8proc_ssize_t)plain.len, &composed,
                     UTF8PROC_STABLE | UTF8PROC_COMPOSE);
    if (size < 0)
        return (rp_str){ NULL, 0 };
    const rp_str copy = rp_arena_copy(arena, (rp_str){ (const char *)composed, (size_t)size });
    free(composed);
    return copy;
}
