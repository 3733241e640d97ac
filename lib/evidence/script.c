/* script.c - which script a letter is of, and what an English vocabulary cannot tell apart.
 *
 * A WordPiece vocabulary turns what it does not spell into one unknown token: a word of Han,
 * kana, Hangul, Thai or Indic letters (of some it reads a few; of some it drops the marks
 * that make vowels), most pictures and signs, and any word of more than 100 characters. Two
 * prompts that differ only there have the same vector: "What does 银行 mean?" and "What
 * does 学校 mean?" have the cosine 1. So what was not read is compared here, in order, as two
 * hashes of the whole text. */
#include "script.h"

#include "base/bytes.h"
#include <utf8proc.h>

enum { WORD_CHARACTERS_MAX = 100 }; /* max_input_chars_per_word of BERT's WordPiece */

/* Which script a letter is of. Block ranges are enough: a rare letter in OTHER only
 * makes the language gate more careful. */
rp_script
rp_script_of(int32_t cp)
{
    if (cp < 0)
        return RP_SCRIPT_OTHER;
    if (cp < 0x370)
        return RP_SCRIPT_LATIN;
    if (cp < 0x400)
        return RP_SCRIPT_GREEK;
    if (cp < 0x530)
        return RP_SCRIPT_CYRILLIC;
    if (cp >= 0x590 && cp < 0x600)
        return RP_SCRIPT_HEBREW;
    if ((cp >= 0x600 && cp < 0x780) || (cp >= 0x8A0 && cp < 0x900) || (cp >= 0xFB50 && cp < 0xFE00)
        || (cp >= 0xFE70 && cp < 0xFEFF))
        return RP_SCRIPT_ARABIC;
    if (cp >= 0x900 && cp < 0xE00)
        return RP_SCRIPT_INDIC;
    if (cp >= 0xE00 && cp < 0xE80)
        return RP_SCRIPT_THAI;
    if (cp >= 0x1E00 && cp < 0x1F00)
        return RP_SCRIPT_LATIN;
    if (cp >= 0x1F00 && cp < 0x2000)
        return RP_SCRIPT_GREEK;
    if (cp >= 0x3040 && cp < 0x3100)
        return RP_SCRIPT_KANA;
    if ((cp >= 0x3400 && cp < 0xA000) || (cp >= 0xF900 && cp < 0xFB00)
        || (cp >= 0x20000 && cp < 0x32000))
        return RP_SCRIPT_HAN;
    if ((cp >= 0xAC00 && cp < 0xD7B0) || (cp >= 0x1100 && cp < 0x1200))
        return RP_SCRIPT_HANGUL;
    return RP_SCRIPT_OTHER;
}

/* FNV-1a over code points; 0 stands for "nothing", so it is never the result. */
static uint64_t
mix(uint64_t hash, uint32_t cp)
{
    hash = ((hash ? hash : 0xCBF29CE484222325u) ^ cp) * 0x100000001B3u;
    return hash ? hash : 1;
}

static bool
is_unread_script(rp_script script)
{
    return script == RP_SCRIPT_HAN || script == RP_SCRIPT_KANA || script == RP_SCRIPT_HANGUL ||
           script == RP_SCRIPT_INDIC || script == RP_SCRIPT_THAI || script == RP_SCRIPT_OTHER;
}

/* Joiners and variation selectors: how a sign looks, not which it is. */
static bool
is_presentation(int32_t cp)
{
    return cp == 0x200C || cp == 0x200D || (cp >= 0xFE00 && cp <= 0xFE0F);
}

typedef enum character { CHARACTER_GAP, CHARACTER_LETTER, CHARACTER_SIGN, CHARACTER_NOTHING } character;

static character
kind_of(int32_t cp)
{
    if (cp >= 0 && cp < 0x80) {
        const bool letter = (cp >= '0' && cp <= '9') || (cp >= 'a' && cp <= 'z') || (cp >= 'A' && cp <= 'Z');
        return letter ? CHARACTER_LETTER : CHARACTER_GAP;
    }
    if (cp < 0)
        return CHARACTER_LETTER; /* a byte that is no UTF-8 */
    if (is_presentation(cp))
        return CHARACTER_NOTHING;
    switch (utf8proc_category(cp)) {
    case UTF8PROC_CATEGORY_LU: case UTF8PROC_CATEGORY_LL: case UTF8PROC_CATEGORY_LT:
    case UTF8PROC_CATEGORY_LM: case UTF8PROC_CATEGORY_LO: case UTF8PROC_CATEGORY_MN:
    case UTF8PROC_CATEGORY_MC: case UTF8PROC_CATEGORY_ME: case UTF8PROC_CATEGORY_ND:
    case UTF8PROC_CATEGORY_NL: case UTF8PROC_CATEGORY_NO: case UTF8PROC_CATEGORY_CO:
        return CHARACTER_LETTER;
    case UTF8PROC_CATEGORY_SM: case UTF8PROC_CATEGORY_SC: case UTF8PROC_CATEGORY_SO:
        return CHARACTER_SIGN;
    default:
        return CHARACTER_GAP;
    }
}

rp_unread
rp_unread_of(rp_str text)
{
    rp_unread out = { 0, 0 };
    uint64_t run = 0; /* of the letters since the last gap */
    size_t run_count = 0;
    for (size_t at = 0; at < text.len;) {
        utf8proc_int32_t cp = (uint8_t)text.ptr[at];
        size_t len = 1;
        if (cp >= 0x80) {
            const utf8proc_ssize_t used = utf8proc_iterate(
                (const utf8proc_uint8_t *)text.ptr + at, (utf8proc_ssize_t)(text.len - at), &cp);
            len = used > 0 ? (size_t)used : 1;
            cp = used > 0 ? cp : -1;
        }
        const character kind = kind_of(cp);
        if (kind == CHARACTER_LETTER) {
            run = mix(run, (uint32_t)cp);
            run_count++;
            if (cp < 0 || cp >= 0x370)
                if (is_unread_script(rp_script_of(cp)))
                    out.words = mix(out.words, (uint32_t)cp);
        } else if (kind == CHARACTER_SIGN) {
            out.signs = mix(out.signs, (uint32_t)cp);
        }
        at += len;
        if (kind == CHARACTER_GAP || kind == CHARACTER_SIGN || at == text.len) {
            if (run_count > WORD_CHARACTERS_MAX) {
                out.words = mix(out.words, (uint32_t)run);
                out.words = mix(out.words, (uint32_t)(run >> 32));
            }
            run = 0;
            run_count = 0;
        }
    }
    return out;
}
