/* verify.h - load a cross-encoder and ask it about two prompts.
 *
 * A cross-encoder reads both prompts at once, which costs milliseconds for each pair, and
 * sees what two vectors cannot show. A policy asks it where similarity alone is not sure
 * (reprise/policy.h: RP_NEED_VERIFIER).
 *
 * A model is a folder as Hugging Face lays it out: BERT or ModernBERT "for sequence
 * classification" with one label (its logit through the sigmoid is the answer) or two (the
 * softmax share of the second).
 *
 * Threads: an rp_verifier is immutable after it was opened and may be shared. */
#ifndef REPRISE_VERIFY_H
#define REPRISE_VERIFY_H

#include <reprise/embed.h>
#include <reprise/status.h>
#include <reprise/types.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct rp_verifier rp_verifier;

/* Fails as rp_encoder_open does; RP_ERR_UNSUPPORTED also if the model has no such head.
 * `options` may be NULL; its dim means nothing here. */
RP_NODISCARD rp_status rp_verifier_open(const char *path, const rp_encoder_options *options,
                                        rp_verifier **out, rp_error *error);
void rp_verifier_close(rp_verifier *verifier); /* NULL is fine */

rp_str rp_verifier_name(const rp_verifier *verifier);        /* folder name; lent */
rp_str rp_verifier_fingerprint(const rp_verifier *verifier); /* as rp_encoder_fingerprint */
size_t rp_verifier_window_tokens(const rp_verifier *verifier);
size_t rp_verifier_size_bytes(const rp_verifier *verifier);

/* For each of n pairs the model's probability, 0..1, that they belong together. A pair beyond
 * the window is cut as the reference cuts it (longest first); truncated (n), if not NULL,
 * says which. Fails: RP_ERR_LIMIT (a text above RP_TEXT_SIZE_MAX), RP_ERR_CORRUPT (a logit is
 * not finite), RP_ERR_NOMEM. */
RP_NODISCARD rp_status rp_verifier_score(const rp_verifier *verifier, const rp_str *a,
                                         const rp_str *b, size_t n, float *out, bool *truncated,
                                         rp_error *error);

#ifdef __cplusplus
}
#endif
#endif
