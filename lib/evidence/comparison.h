/* comparison.h - two prompts side by side: the words that match, what is left over, and what a
 * gate says about it.
 *
 * Threads: a comparison is used by one thread at a time. */
#ifndef RP_EVIDENCE_COMPARISON_H
#define RP_EVIDENCE_COMPARISON_H

#include "features.h"

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

/* Puts `a` and `b` side by side and empties `report`, which gates then write to. All must
 * outlive `out`. */
void rp_compare(const rp_features *a, const rp_features *b, const rp_gate_options *options,
                bool with_detail, rp_gate_report *report, rp_comparison *out);

/* A gate that fires (or only notes), with what it saw on both sides. */
void rp_gate_say(rp_comparison *c, rp_gate gate, bool fires, rp_str seen_a, rp_str seen_b);

/* The gates, by kind of difference. Each says what it finds.
 *
 * Numbers, dates, calculations. */
void rp_gates_quantities(rp_comparison *c);
/* Negations and opposed words. */
void rp_gates_polarity(rp_comparison *c);
/* Entities, codes, and the strict gate. */
void rp_gates_names(rp_comparison *c);
/* The first leftover content word without partner, synonym or typo in the other prompt. */
const rp_word *rp_gates_first_unexplained(const rp_leftover *left, const rp_features *other);
/* Swapped roles, directions, type of question. */
void rp_gates_order(rp_comparison *c);
/* Language, script, text that the encoder cannot read. */
void rp_gates_script(rp_comparison *c);

#endif
