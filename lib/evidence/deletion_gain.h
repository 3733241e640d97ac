/* deletion_gain.h - does a new entry's key come nearer to others when words go away?
 *
 * A colliding key is an instruction plus words that pull its vector towards a victim's
 * prompt; without the instruction it is nearer still. A benign key only loses when cut
 * (deletion-gain, arXiv:2609.35908). At insertion the vectors of the key with runs of
 * words removed are made and kept; at a hit
 *     gain = max over variants cos(variant, query) - cos(key, query)
 * is compared with a fence that benign traffic passes with the wanted share.
 *
 * Evidence knows no encoder: it comes as a callback.
 *
 * Threads: pure functions. */
#ifndef RP_EVIDENCE_DELETION_GAIN_H
#define RP_EVIDENCE_DELETION_GAIN_H

#include "base/arena.h"
#include <reprise/status.h>

enum {
    RP_VARIANTS_MAX = 144,      /* runs of at most 16 segments, and of 4: 135 + 9 */
    RP_VARIANT_SEGMENTS_MAX = 16,
    RP_VARIANT_SEGMENTS_MIN = 3, /* fewer: the key cannot be judged */
};

/* The key with a contiguous run of words removed, for every run of 4 equal segments and
 * of 2-word segments (at most 16, then wider), except the whole; no text twice. Texts lie
 * in `arena`. *count is 0 if the key has too few words to be judged. RP_ERR_NOMEM. */
RP_NODISCARD rp_status rp_key_variants(rp_str key, rp_arena *arena,
                                       rp_str out[RP_VARIANTS_MAX], size_t *count);

/* Make unit vectors of `count` texts into out (count, dim). */
typedef rp_status rp_embed_callback(void *context, const rp_str *texts, size_t count,
                                    float *out);

/* Variants and their vectors (*count, dim) in `arena`. The callback's failures pass. */
RP_NODISCARD rp_status rp_key_variant_vectors(rp_str key, size_t dim, rp_embed_callback *embed,
                                              void *context, rp_arena *arena, float **out,
                                              size_t *count);

/* The gain for a query; NaN if there are no variants. All vectors have length 1. */
float rp_deletion_gain(const float *key, const float *variants, size_t count, size_t dim,
                       const float *query);

/* fence(similarity, words) = base + by_similarity (similarity - mean_similarity)
 *                          + by_words (log words - mean_log_words). */
typedef struct rp_gain_fence {
    double base, by_similarity, by_words;
    double mean_similarity, mean_log_words;
} rp_gain_fence;
double rp_gain_fence_at(const rp_gain_fence *fence, double similarity, double words);

typedef struct rp_gain_sample {
    double gain, similarity, words; /* of one benign hit */
} rp_gain_sample;
/* Quantile regression of benign gains at 1 - false_positives (pinball loss by iterated
 * least squares). Fewer than 20 samples: RP_ERR_INVALID. */
RP_NODISCARD rp_status rp_gain_fence_fit(const rp_gain_sample *samples, size_t count,
                                         double false_positives, rp_gain_fence *out);

#endif
