/* gates.h - what can be said about two prompts beyond similarity.
 *
 * No threshold on cosine separates "enable 2FA" from "disable 2FA". Each gate is
 * a pure function of two texts that says "these differ in something that flips
 * the answer", with its evidence. Gates fire only where the words of both
 * prompts align (docs/policies.md says what was measured): on loose paraphrases
 * they are noise.
 *
 * A prompt is analysed once (rp_features) and compared many times.
 *
 * Threads: pure functions; an rp_features is immutable after it was made. */
#ifndef RP_EVIDENCE_GATES_H
#define RP_EVIDENCE_GATES_H

#include "base/arena.h"
#include <reprise/policy.h>
#include <reprise/status.h>

typedef struct rp_features rp_features; /* words, numbers, negations, names of one prompt */

/* Analyse `text` (UTF-8, at most RP_TEXT_SIZE_MAX bytes; the first 4096 words
 * count). Everything lies in `arena`; `text` must outlive the result. Fails:
 * RP_ERR_NOMEM. */
RP_NODISCARD rp_status rp_features_new(rp_str text, rp_arena *arena, const rp_features **out);

typedef struct rp_gate_options {
    uint32_t enabled;  /* bit g: gate g runs; RP_GATES_DEFAULT */
    bool strict;       /* parameterised scopes: any unmatched content word fires */
    /* The largest share of unknown tokens of both texts as the tokenizer sees it, in
     * (0, 1]; 0: not known, then estimated from the scripts as an English vocabulary
     * would. Encoders of many languages disable RP_GATE_UNKNOWN instead. */
    float unknown_share;
    /* Both texts are what varies inside the same fixed words (template.h), which count as
     * aligned around a short one: "1002?" and "1003?" are nearly the same question. */
    bool in_frame;
} rp_gate_options;

/* The gates that are on unless a route says otherwise. */
extern const uint32_t RP_GATES_DEFAULT;

enum { RP_GATE_DETAIL_SIZE = 96 };
typedef struct rp_gate_report {
    uint32_t fired, noted;
    float alignment; /* share of words that match in order, 0..1 */
    /* What each fired or noted gate saw ("2 km | 3 km"), cut to fit. Holds words of
     * the prompts: for the explain call only, never for logs, traces or metrics. */
    char detail[RP_GATE_COUNT][RP_GATE_DETAIL_SIZE];
} rp_gate_report;

/* Compare a new prompt with a stored one. Symmetric. Cannot fail. Details are
 * only written if `with_detail`, because they cost time. */
void rp_gates_compare(const rp_features *a, const rp_features *b, const rp_gate_options *options,
                      bool with_detail, rp_gate_report *out);

/* Words that make an answer personal, local or temporal (my, near, today, latest):
 * design "Personal and volatile prompts". */
typedef struct rp_volatility {
    bool personal, temporal;
} rp_volatility;
rp_volatility rp_prompt_volatility(rp_str text);

#endif
