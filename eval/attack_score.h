/* attack_score.h - vectors and scores of any two texts of an attack set, made once.
 *
 * Vectors of texts that are known beforehand are made together and kept in files of
 * CHUNK texts, so that an interrupted run goes on where it was; what a decision needs
 * besides is embedded when it is asked for.
 *
 * Threads: used by one thread at a time. */
#ifndef RP_EVAL_ATTACK_SCORE_H
#define RP_EVAL_ATTACK_SCORE_H

#include "eval/attack.h"

typedef enum rp_attack_score { RP_SCORE_COLLISION, RP_SCORE_PUBLISHED, RP_SCORE_COUNT } rp_attack_score;

typedef struct rp_scored_pair {
    uint64_t texts; /* stored << 32 | question, + 1; 0: free */
    float score[RP_SCORE_COUNT];
    bool has[RP_SCORE_COUNT];
} rp_scored_pair;

typedef struct rp_scorer {
    rp_attack_set *set;
    const rp_encoder *encoder;
    size_t dim;
    float *vectors;      /* (count, dim); owned */
    size_t count, capacity;
    rp_scored_pair *pairs; /* (pair_slots); owned */
    size_t pair_count, pair_slots;
    uint64_t embedded_late;
} rp_scorer;

void rp_scorer_init(rp_scorer *scorer, rp_attack_set *set, const rp_encoder *encoder);
void rp_scorer_fini(rp_scorer *scorer);
/* Vectors of all texts of the set so far. */
RP_NODISCARD rp_status rp_scorer_embed(rp_scorer *scorer, const char *cache_folder,
                                       rp_attack_progress *progress, void *context,
                                       rp_error *error);
/* The vector of a text of the set, or NULL: no memory, or the encoder failed. */
const float *rp_scorer_vector(rp_scorer *scorer, uint32_t text);
/* Texts that the score of this pair needs become texts of the set, to be embedded together. */
RP_NODISCARD rp_status rp_scorer_plan(rp_scorer *scorer, rp_attack_score kind, uint32_t stored,
                                      uint32_t question);
/* Fails: RP_ERR_NOMEM, and as rp_encoder_embed does. RP_SCORE_NONE: nothing to be judged. */
#define RP_SCORE_NONE (-1000.0f)
RP_NODISCARD rp_status rp_scorer_score(rp_scorer *scorer, rp_attack_score kind, uint32_t stored,
                                       uint32_t question, float *out);
double rp_scorer_similarity(rp_scorer *scorer, uint32_t a, uint32_t b);

#endif
