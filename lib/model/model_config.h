/* model_config.h - what the JSON files of a model's folder say about it.
 *
 * config.json (transformers), and if present modules.json, the pooling module's
 * config.json, sentence_bert_config.json and config_sentence_transformers.json
 * (sentence-transformers). What we cannot do exactly is refused, never guessed.
 *
 * Threads: plain values; reading is a pure function of the files. */
#ifndef RP_MODEL_MODEL_CONFIG_H
#define RP_MODEL_MODEL_CONFIG_H

#include <reprise/status.h>
#include <reprise/types.h>

typedef enum rp_architecture {
    RP_ARCHITECTURE_BERT,
    RP_ARCHITECTURE_MODERNBERT,
} rp_architecture;

typedef enum rp_pooling {
    RP_POOLING_MEAN, /* over all tokens, special ones included */
    RP_POOLING_CLS,  /* the first token */
} rp_pooling;

enum { RP_LAYERS_MAX = 256 }; /* a guess, far above every published encoder */

typedef struct rp_model_config {
    rp_architecture architecture;
    rp_pooling pooling;
    size_t hidden, layers, heads, intermediate; /* hidden = heads * head_dim */
    size_t dim;          /* numbers of a vector: hidden, or fewer where the caller cuts it */
    size_t vocabulary, positions, types;
    float epsilon;       /* of layer norms */
    size_t window;       /* tokens a text is cut to, special ones included */
    size_t labels;       /* of a classification head; 0: the file has none */
    rp_pooling head_pooling; /* what a ModernBERT's head looks at */
    double theta_global, theta_local; /* ModernBERT: bases of the angles of positions */
    size_t reach;                     /* of local attention, to either side */
    bool local[RP_LAYERS_MAX];        /* which layers have it */
    char prefix[256];    /* put before every text, usually empty; ends in a zero byte */
} rp_model_config;

/* Fails: RP_ERR_NOT_FOUND, RP_ERR_IO, RP_ERR_CORRUPT, RP_ERR_LIMIT (a size beyond what is
 * sane, see model_config.c), RP_ERR_UNSUPPORTED, RP_ERR_NOMEM. */
RP_NODISCARD rp_status rp_model_config_read(const char *folder, rp_model_config *out,
                                            rp_error *error);

#endif
