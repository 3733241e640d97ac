/* unicode.h - what a code point is, and how text is decomposed and composed.
 *
 * Everything here answers as the Hugging Face tokenizers package does, not as the
 * newest Unicode does: its normalisation, categories, lower case and regular
 * expressions each come from tables of another age, and ids must not change with
 * the version of a distribution's Unicode library. unicode_table.c was made by
 * asking the package about every code point (scripts/make_unicode_table.py).
 *
 * Threads: pure functions over constant tables. */
#ifndef RP_TEXT_UNICODE_H
#define RP_TEXT_UNICODE_H

#include <reprise/types.h>

enum {
    RP_UNICODE_REMOVED = 1 << 0,          /* BertNormalizer clean_text drops it */
    RP_UNICODE_CLEAN_SPACE = 1 << 1,      /* ... turns it into a space */
    RP_UNICODE_BERT_SPACE = 1 << 2,       /* BertPreTokenizer: ends a word */
    RP_UNICODE_BERT_PUNCTUATION = 1 << 3, /* ... is a word of its own */
    RP_UNICODE_CHINESE = 1 << 4,          /* handle_chinese_chars puts spaces around it */
    RP_UNICODE_MARK = 1 << 5,             /* strip_accents drops it after NFD */
    RP_UNICODE_LETTER = 1 << 6,           /* \p{L} of the byte-level pattern */
    RP_UNICODE_NUMBER = 1 << 7,           /* \p{N} */
    RP_UNICODE_REGEX_SPACE = 1 << 8,      /* \s */
    RP_UNICODE_WORD = 1 << 9,             /* \w around an added token that is single_word */
    RP_UNICODE_STRIP_SPACE = 1 << 10,     /* \s beside an added token with lstrip or rstrip */
    RP_UNICODE_DECOMPOSES = 1 << 11,      /* NFD changes it */
    RP_UNICODE_NFC_UNSTABLE = 1 << 12,    /* NFC may change, move or join it */
    RP_UNICODE_REPLACEMENT = 0xfffd,
    RP_UNICODE_PARTS_MAX = 4, /* code points that one decomposes to */
};

typedef struct rp_unicode_record {
    uint16_t flags;
    uint8_t combining_class;
    int32_t lower_delta; /* lower case minus this; U+0130 gives 'i' and needs U+0307 after it */
} rp_unicode_record;
typedef struct rp_unicode_decomposition {
    uint32_t point;
    uint16_t at, count; /* in rp_unicode_parts */
} rp_unicode_decomposition;
typedef struct rp_unicode_composition {
    uint32_t first, second, composed;
} rp_unicode_composition;

extern const rp_unicode_record rp_unicode_records[];
extern const uint16_t rp_unicode_pages[0x1100];
extern const uint16_t rp_unicode_blocks[][256];
extern const rp_unicode_decomposition rp_unicode_decompositions[];
extern const size_t rp_unicode_decomposition_count;
extern const uint32_t rp_unicode_parts[];
extern const rp_unicode_composition rp_unicode_compositions[];
extern const size_t rp_unicode_composition_count;

/* point <= 0x10ffff */
static inline const rp_unicode_record *
rp_unicode_of(uint32_t point)
{
    return &rp_unicode_records[rp_unicode_blocks[rp_unicode_pages[point >> 8]][point & 255]];
}

/* Read one code point at *at (< end) and move on. A broken sequence gives U+FFFD
 * for its longest part that could have begun a code point, at least one byte. */
uint32_t rp_utf8_next(const char **at, const char *end);
/* The code point before `at` (> start) of valid UTF-8. */
uint32_t rp_utf8_last(const char *start, const char *at);
/* Write 1..4 bytes; returns how many. */
size_t rp_utf8_put(uint32_t point, char *out);

/* Full canonical decomposition, 1..RP_UNICODE_PARTS_MAX code points. */
size_t rp_unicode_decompose(uint32_t point, uint32_t *out);
/* The one code point that first and second compose to, or 0. */
uint32_t rp_unicode_compose(uint32_t first, uint32_t second);

#endif
