/* evidence_internal.h - one prompt as the gates see it: words, quantities, cues.
 *
 * features.c makes it, gates.c compares two of it. A word is a place in the text
 * with its hashes and what the lexicon says about it; all that needs a look at
 * letters is done here, once a prompt, so that a comparison handles numbers only.
 *
 * Threads: immutable after creation. */
#ifndef RP_EVIDENCE_INTERNAL_H
#define RP_EVIDENCE_INTERNAL_H

#include "evidence/gates.h"
#include "evidence/lexicon.h"
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

/* What an English vocabulary turns into unknown tokens, as hashes in order; 0: nothing. */
typedef struct rp_unread {
    uint64_t words; /* of scripts it does not spell, and too long ones */
    uint64_t signs; /* pictures, arrows, currencies ... */
} rp_unread;
rp_unread rp_unread_of(rp_str text);
rp_script rp_script_of(int32_t cp); /* features.c; -1: not UTF-8 */

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

/* Words of both prompts that match in order. */
enum { RP_ALIGN_WORDS_MAX = 512 };
typedef struct rp_alignment {
    float ratio;     /* 2 * matches / words of both */
    size_t matches;
    /* For each of the first RP_ALIGN_WORDS_MAX words: the partner, or -1. Words
     * beyond are partners of nobody and not counted in `ratio`. */
    int16_t a_to_b[RP_ALIGN_WORDS_MAX], b_to_a[RP_ALIGN_WORDS_MAX];
    size_t a_count, b_count;
} rp_alignment;
void rp_align(const rp_features *a, const rp_features *b, rp_alignment *out);

/* ---- one comparison, shared by the files of the gates -------------------------------- */

enum { RP_LEFTOVER_MAX = 32 };

/* Words of one prompt without a partner. `place` is the partner of the last matched
 * word before it (in b's numbers for both sides), so that two words in one gap of the
 * alignment have equal places. */
typedef struct rp_leftover {
    const rp_word *words[RP_LEFTOVER_MAX];
    int16_t place[RP_LEFTOVER_MAX];
    uint16_t index[RP_LEFTOVER_MAX]; /* in its prompt */
    bool used[RP_LEFTOVER_MAX];      /* explained by a gate: an opposite, a move */
    bool elsewhere[RP_LEFTOVER_MAX]; /* the other prompt has the word in another place */
    size_t count;
    bool is_cut; /* there are more */
} rp_leftover;

typedef struct rp_comparison {
    const rp_features *a, *b; /* in the order of their texts, not of the arguments */
    bool swapped;             /* a is the caller's b */
    const rp_gate_options *options;
    rp_alignment alignment;
    rp_leftover left_a, left_b;
    float bag; /* share of words that occur in both, in any order, 0..1 */
    bool with_detail;
    rp_gate_report *report;
} rp_comparison;

/* A gate that fires (or only notes), with what it saw on both sides. */
void rp_gate_say(rp_comparison *c, rp_gate gate, bool fires, rp_str seen_a, rp_str seen_b);
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

/* Is it one of the words in `list`, which are separated by one space? features.c. */
bool rp_word_is_one_of(const rp_word *word, const char *list);

/* Edits (insert, delete, replace, swap neighbors) between two short words, or `limit`
 * + 1 if more. Optimal string alignment on bytes. */
unsigned rp_edit_distance(rp_str a, rp_str b, unsigned limit);

/* gates_names.c: entities, codes, and the strict gate. */
void rp_gates_names(rp_comparison *c);
/* The first leftover content word without partner, synonym or typo in the other prompt. */
const rp_word *rp_gates_first_unexplained(const rp_leftover *left, const rp_features *other);
/* gates_order.c: swapped roles, directions, type of question. */
void rp_gates_order(rp_comparison *c);
/* gates_script.c: language, script, text that the encoder cannot read. */
void rp_gates_script(rp_comparison *c);

#endif
