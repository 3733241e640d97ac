/* features.h - one prompt as the gates see it: words, quantities, cues.
 *
 * comparison.h has two of it side by side. A word is a place in the text
 * with its hashes and what the lexicon says about it; all that needs a look at
 * letters is done here, once a prompt, so that a comparison handles numbers only.
 *
 * Threads: immutable after creation. */
#ifndef RP_EVIDENCE_FEATURES_H
#define RP_EVIDENCE_FEATURES_H

#include "evidence/gates.h"
#include "evidence/lexicon.h"
#include "evidence/script.h"
#include <string.h>

enum {
    RP_WORDS_MAX = 4096,     /* words of a prompt that count */
    RP_QUANTITIES_MAX = 128, /* numbers and dates of a prompt that count */
    RP_WORD_FOLDED_MAX = 64, /* bytes of a word that are kept; all of it is hashed */
};

/* What a word looks like. */
enum {
    RP_WORD_CAPITAL = 1 << 0, /* upper-case first letter */
    RP_WORD_UPPER = 1 << 1,   /* at least two letters, all upper-case */
    RP_WORD_FIRST = 1 << 2,   /* begins a sentence: its capital says nothing */
    RP_WORD_CODE = 1 << 3,    /* identifier, path, flag, address, letters with digits */
    RP_WORD_DIGITS = 1 << 4,  /* begins with a digit */
    RP_WORD_QUOTED = 1 << 5,  /* inside quotation marks */
    RP_WORD_NEGATES = 1 << 6, /* a cue that counts as a negation here */
    RP_WORD_QUANTITY = 1 << 7, /* part of a quantity or date */
    RP_WORD_FOREIGN = 1 << 8, /* not Latin script */
    RP_WORD_COMMA = 1 << 9,   /* a comma or the like follows */
};

typedef struct rp_word {
    uint64_t hash;         /* of the folded letters */
    uint64_t stem;         /* of the folded letters without common endings */
    uint64_t exact;        /* of the bytes as written; only for RP_WORD_CODE */
    const rp_lexeme *lexeme; /* NULL: not in the lexicon */
    const char *folded;    /* lower case; not zero-terminated */
    uint32_t at, size;     /* bytes in the text */
    uint16_t folded_size;
    uint16_t flags;        /* RP_WORD_* */
} rp_word;

typedef enum rp_quantity_kind {
    RP_QUANTITY_NUMBER,  /* with or without a unit */
    RP_QUANTITY_MONTH,   /* 1..12 */
    RP_QUANTITY_WEEKDAY, /* 1..7, Monday first */
    RP_QUANTITY_CLOCK,   /* minute of the day */
    RP_QUANTITY_DATE,    /* year * 10000 + month * 100 + day */
    RP_QUANTITY_WHEN,    /* today, next week ...: a class of the lexicon */
} rp_quantity_kind;

typedef struct rp_quantity {
    double value;      /* in the unit as written */
    double base;       /* in the base unit of its dimension */
    uint8_t kind;      /* rp_quantity_kind */
    uint8_t dimension; /* rp_dimension; 0: a bare number */
    bool weak;         /* "one", "a half": often no number at all */
    uint16_t word, words; /* where in the text */
} rp_quantity;

struct rp_features {
    rp_str text;
    rp_unread unread;
    const rp_word *words;
    size_t words_count;
    const rp_quantity *quantities;
    size_t quantities_count;
    unsigned negations;     /* words with RP_WORD_NEGATES */
    bool is_capitalised;    /* most words have a capital: capitals say nothing */
    bool is_cut;            /* more words than RP_WORDS_MAX */
    unsigned letters;       /* letters of all scripts */
    unsigned script[RP_SCRIPT_COUNT]; /* letters of each */
    unsigned language[RP_LANGUAGE_COUNT]; /* function words of each */
    rp_question_type question;
};

/* Find quantities, dates and times among the words; sets RP_WORD_QUANTITY.
 * Returns how many, at most RP_QUANTITIES_MAX. */
size_t rp_quantities_find(rp_str text, rp_word *words, size_t words_count, rp_quantity *out);
/* Whether two quantities say the same: "2 km" and "2000 m", "5" and "five". */
bool rp_quantities_equal(const rp_quantity *a, const rp_quantity *b);

static inline rp_str
rp_word_text(const rp_features *features, const rp_word *word)
{
    return word ? (rp_str){ features->text.ptr + word->at, word->size } : (rp_str){ "", 0 };
}
static inline rp_str
rp_word_letters(const rp_word *word)
{
    return (rp_str){ word->folded, word->folded_size };
}
static inline bool
rp_word_has(const rp_word *word, uint32_t classes)
{
    return word->lexeme && word->lexeme->classes & classes;
}
/* Inlined for the length of a literal: this is asked some hundred times a prompt. */
static inline __attribute__((always_inline)) bool
rp_word_is(const rp_word *word, const char *letters)
{
    const size_t len = __builtin_strlen(letters);
    return word->folded_size == len && memcmp(word->folded, letters, len) == 0;
}

/* Is it one of the words in `list`, which are separated by one space? */
bool rp_word_is_one_of(const rp_word *word, const char *list);

/* Edits (insert, delete, replace, swap neighbors) between two short words, or `limit`
 * + 1 if more. Optimal string alignment on bytes. */
unsigned rp_edit_distance(rp_str a, rp_str b, unsigned limit);

#endif
