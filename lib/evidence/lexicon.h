/* lexicon.h - what the gates know about single words.
 *
 * Closed classes (function words, negations, question words, number words, units,
 * months), opposed pairs and near-synonyms. The lists in lexicon.c were written for
 * this project; antonyms.c adds WordNet's. A word is looked up by the hash of its
 * lower-case letters.
 *
 * Threads: safe; the table is built once, on first use, and never changes. */
#ifndef RP_EVIDENCE_LEXICON_H
#define RP_EVIDENCE_LEXICON_H

#include <reprise/types.h>

/* Classes of a word; a word may have several. */
enum {
    RP_LEX_FUNCTION = 1 << 0,  /* carries grammar, not content */
    RP_LEX_NEGATION = 1 << 1,  /* not, never, without */
    RP_LEX_REFUSAL = 1 << 2,   /* fail, refuse, unable: negates what follows */
    RP_LEX_QUESTION = 1 << 3,  /* who, when, how */
    RP_LEX_NUMBER = 1 << 4,    /* five, dozen; value */
    RP_LEX_SCALE = 1 << 5,     /* hundred, million; value multiplies */
    RP_LEX_ORDINAL = 1 << 6,   /* first, third; value */
    RP_LEX_UNIT = 1 << 7,      /* km, dollars; dimension, value = factor to the base */
    RP_LEX_MONTH = 1 << 8,     /* value 1..12 */
    RP_LEX_WEEKDAY = 1 << 9,   /* value 1..7 */
    RP_LEX_WHEN = 1 << 10,     /* today, tomorrow; value: a class */
    RP_LEX_PREPOSITION = 1 << 11,
    RP_LEX_PRONOUN = 1 << 12,
    RP_LEX_PERSONAL = 1 << 13, /* my, near: the answer depends on who asks, and where */
    RP_LEX_TEMPORAL = 1 << 14, /* today, latest: the answer depends on when */
    RP_LEX_FILLER = 1 << 15,   /* please, um */
    RP_LEX_WEAK = 1 << 16,     /* "one": often not a number */
    RP_LEX_AMBIGUOUS = 1 << 17, /* "may", "in", "second": its class needs a neighbor */
    RP_LEX_AUXILIARY = 1 << 18, /* is, do, can */
    RP_LEX_MODIFIER = 1 << 19, /* really, very: changes degree, seldom the answer */
    RP_LEX_DIRECTION = 1 << 20, /* from, to, before, above: which side something is on */
    RP_LEX_COORDINATOR = 1 << 21, /* and, or, versus: joins equals */
    RP_LEX_PLACE = 1 << 22,    /* a country, state, nationality or large city */
    RP_LEX_NEGATIVE = 1 << 23, /* untruthful, impossible: a negation inside the word */
    RP_LEX_SYMMETRIC = 1 << 24, /* friends, married, equal: holds in both directions */
    RP_LEX_EXCLUSIVE = 1 << 25, /* of a set whose members exclude each other: value = set */
};

typedef enum rp_dimension {
    RP_DIMENSION_NONE,
    RP_DIMENSION_LENGTH,  /* m */
    RP_DIMENSION_MASS,    /* kg */
    RP_DIMENSION_TIME,    /* s */
    RP_DIMENSION_BYTES,   /* byte */
    RP_DIMENSION_SPEED,   /* m/s */
    RP_DIMENSION_VOLUME,  /* l */
    RP_DIMENSION_AREA,    /* m2 */
    RP_DIMENSION_POWER,   /* W */
    RP_DIMENSION_ENERGY,  /* J */
    RP_DIMENSION_VOLTAGE, /* V */
    RP_DIMENSION_FREQUENCY, /* Hz */
    RP_DIMENSION_CELSIUS, /* degrees; Fahrenheit and kelvin are converted */
    RP_DIMENSION_PERCENT,
    RP_DIMENSION_DOLLAR, RP_DIMENSION_EURO, RP_DIMENSION_POUND, RP_DIMENSION_YEN,
    RP_DIMENSION_RUPEE, RP_DIMENSION_YUAN,
    RP_DIMENSION_FAHRENHEIT, RP_DIMENSION_KELVIN, /* until converted */
} rp_dimension;

typedef enum rp_language {
    RP_LANGUAGE_EN, RP_LANGUAGE_DE, RP_LANGUAGE_FR, RP_LANGUAGE_ES, RP_LANGUAGE_IT,
    RP_LANGUAGE_PT, RP_LANGUAGE_NL, RP_LANGUAGE_COUNT,
} rp_language;

typedef enum rp_question_type {
    RP_QUESTION_NONE, RP_QUESTION_WHO, RP_QUESTION_WHEN, RP_QUESTION_WHERE, RP_QUESTION_WHY,
    RP_QUESTION_HOW, RP_QUESTION_HOW_MANY, RP_QUESTION_HOW_MUCH, RP_QUESTION_HOW_LONG,
    RP_QUESTION_HOW_OFTEN, RP_QUESTION_HOW_FAR, RP_QUESTION_HOW_OLD, RP_QUESTION_WHAT,
    RP_QUESTION_YES_NO,
} rp_question_type;

typedef struct rp_lexeme {
    uint64_t hash;
    double value;
    uint32_t classes;   /* RP_LEX_* */
    uint8_t dimension;  /* rp_dimension, with RP_LEX_UNIT */
    uint8_t question;   /* rp_question_type, with RP_LEX_QUESTION */
    uint16_t languages; /* bit l: a function word of language l */
} rp_lexeme;

/* The hash of lower-case letters used by the lexicon and all words (FNV-1a, 64 bits:
 * words are short, and no table is keyed by a stranger's hash). */
static inline uint64_t
rp_word_hash(const char *ptr, size_t len)
{
    uint64_t hash = 0xcbf29ce484222325u;
    for (size_t i = 0; i < len; i++)
        hash = (hash ^ (uint8_t)ptr[i]) * 0x100000001b3u;
    return hash;
}

/* The hash of a lower-case ASCII word without plural, -ing, -ed and a final e; of
 * the word itself where those rules do not apply. Never equal words of other sense
 * by design, only by the rules' crudeness: "hoping" and "hop" are kept apart,
 * "planing" and "plan" are not. */
uint64_t rp_word_stem(const char *ptr, size_t len);

/* Opposed pairs of WordNet, "left|right right ..." each (antonyms.c, generated). */
extern const char *const rp_antonyms[];
extern const size_t rp_antonyms_count;

const rp_lexeme *rp_lexicon_find(uint64_t hash);
/* Whether two stems are an opposed pair: buy/sell, before/after. Symmetric. */
bool rp_lexicon_opposed(uint64_t stem_a, uint64_t stem_b);
/* Whether two stems say nearly the same: big/large. Symmetric. */
bool rp_lexicon_alike(uint64_t stem_a, uint64_t stem_b);
/* Whether `stem` occurs in any opposed pair. */
bool rp_lexicon_has_opposite(uint64_t stem);
/* Whether one word is the other with a negative prefix or suffix: unlike/like. */
bool rp_words_prefix_opposed(rp_str a, rp_str b);

#endif
