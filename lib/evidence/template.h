/* template.h - the part of a prompt that varies.
 *
 * Prompts that share long fixed text (instructions, few-shot examples) drown the part
 * that differs: "You are a helpful ... Answer the question: X" is nearly the same vector
 * for every X. A learner sees the prompts of one scope and finds the words that stand at
 * the beginning and the end of (nearly) all of them; embedding and gates then get only
 * what is between. If some prompts do not fit they are used whole, so that a mixed scope
 * loses nothing.
 *
 * Two prompts of one scope may only be compared if both were cut by the same template:
 * the template's `fingerprint` belongs to what makes vectors comparable.
 *
 * Memory:  a learner holds at most RP_TEMPLATE_WORDS_MAX words at each end.
 * Threads: a learner is used by one thread at a time; rp_template_cut is pure. */
#ifndef RP_EVIDENCE_TEMPLATE_H
#define RP_EVIDENCE_TEMPLATE_H

#include <reprise/status.h>
#include <reprise/types.h>

enum {
    RP_TEMPLATE_WORDS_MAX = 1024, /* fixed words at one end; longer: the rest varies */
    RP_TEMPLATE_PROMPTS_MIN = 8,  /* prompts before anything counts as fixed */
    RP_TEMPLATE_FIXED_MIN = 5,    /* fixed words at an end that are worth cutting */
};

typedef struct rp_template rp_template;

RP_NODISCARD rp_status rp_template_new(rp_template **out); /* RP_ERR_NOMEM */
void rp_template_free(rp_template *template_);             /* NULL is fine */
/* A prompt of the scope has come. Once the template is in use it is not changed: a new
 * one would make the scope's vectors incomparable. */
void rp_template_learn(rp_template *template_, rp_str text);
/* What identifies the fixed words; 0: nothing is cut. */
uint64_t rp_template_fingerprint(const rp_template *template_);
/* The varying part of `text`, a part of it; the whole text if it does not fit. Never
 * empty unless `text` is. *fits says which. */
rp_str rp_template_cut(const rp_template *template_, rp_str text, bool *fits);
size_t rp_template_size_bytes(const rp_template *template_);

#endif
