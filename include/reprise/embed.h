/* embed.h - load a model and turn texts into unit vectors.
 *
 * A model is a folder as Hugging Face lays it out (config.json, tokenizer.json,
 * model.safetensors, modules.json and the pooling config), or the path of its
 * .safetensors file.
 *
 * Units:   vectors have rp_encoder_dim numbers and length 1.
 * Errors:  a sentence that names the file.
 * Threads: an rp_encoder is immutable after it was opened and may be shared;
 *          calls that embed take scratch memory from a pool inside and are safe
 *          from any thread. References are counted: whoever took one closes it. */
#ifndef REPRISE_EMBED_H
#define REPRISE_EMBED_H

#include <reprise/status.h>
#include <reprise/types.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct rp_encoder rp_encoder;

/* What makes vectors comparable besides the weights; part of the fingerprint. */
typedef enum rp_precision {
    RP_PRECISION_AUTO, /* the fastest class that passes its acceptance */
    RP_PRECISION_F32,
    RP_PRECISION_BF16,
    RP_PRECISION_INT8,
} rp_precision;

typedef struct rp_encoder_options {
    rp_precision precision;
    const char *tier;    /* kernel tier by name ("plain", "avx2", "avx512", "neon" ...); NULL: best here */
    const char *adapter; /* folder of a PEFT LoRA adapter, or NULL */
    size_t dim;          /* numbers of a vector that are kept, for models trained so that the
                            first ones suffice (Matryoshka); 0: all */
    size_t window;       /* tokens of a window, fewer than the model's own; 0: the model's */
} rp_encoder_options;

/* Fails: RP_ERR_NOT_FOUND, RP_ERR_IO, RP_ERR_CORRUPT (a file contradicts itself),
 * RP_ERR_UNSUPPORTED (an architecture, tokenizer or tier we lack), RP_ERR_NOMEM.
 * `options` may be NULL for all defaults. */
RP_NODISCARD rp_status rp_encoder_open(const char *path, const rp_encoder_options *options,
                                       rp_encoder **out, rp_error *error);
void rp_encoder_close(rp_encoder *encoder); /* drop a reference; NULL is fine */
/* Hold it once more: each reference is closed by itself. */
rp_encoder *rp_encoder_ref(rp_encoder *encoder);

/* The same encoder with a PEFT LoRA adapter merged: another fingerprint, but tokenizer and
 * the weights that the adapter leaves alone are shared, so that several cost little and
 * loading one takes milliseconds. `base` has no adapter, and may be closed before the
 * result. Fails: RP_ERR_NOT_FOUND, RP_ERR_IO, RP_ERR_CORRUPT (a damaged file, or one that does
 * not fit this model), RP_ERR_UNSUPPORTED (not plain LoRA), RP_ERR_INVALID, RP_ERR_NOMEM. */
RP_NODISCARD rp_status rp_encoder_adapt(rp_encoder *base, const char *adapter, rp_encoder **out,
                                        rp_error *error);

size_t rp_encoder_dim(const rp_encoder *encoder);
/* Tokens of one window, special tokens included (256 for all-MiniLM-L6-v2). */
size_t rp_encoder_window_tokens(const rp_encoder *encoder);
rp_str rp_encoder_name(const rp_encoder *encoder);        /* folder name; lent */
rp_str rp_encoder_tier(const rp_encoder *encoder);        /* the kernels in use; lent */
rp_precision rp_encoder_precision(const rp_encoder *encoder); /* never AUTO */
/* 32 lower-case hex digits over weights, tokenizer, pooling, window, adapter and
 * precision class (not the tier). Lent; ends in a zero byte. */
rp_str rp_encoder_fingerprint(const rp_encoder *encoder);
size_t rp_encoder_size_bytes(const rp_encoder *encoder);  /* heap and mapped weights */

/* What it takes at least to embed `texts` texts of so many tokens together (1..window), for
 * benchmarks: multiplications and additions of matrix products and attention, and bytes of
 * weights, each counted as often as a batch reads it. */
typedef struct rp_encoder_work {
    uint64_t operations, weight_bytes;
} rp_encoder_work;
rp_encoder_work rp_encoder_count_work(const rp_encoder *encoder, size_t texts, size_t tokens);

/* Find out whether the encoder is one: distinct probe texts must give finite
 * vectors of length 1 that differ from each other. Fails: RP_ERR_CORRUPT. */
RP_NODISCARD rp_status rp_encoder_self_test(const rp_encoder *encoder, rp_error *error);

/* Embed n texts into out (n, dim), together. A text beyond the window is cut
 * where sentence-transformers cuts it; truncated (n), if not NULL, says which.
 * Invalid UTF-8 is read with U+FFFD in its place. An empty text is embedded as
 * its special tokens. Fails: RP_ERR_LIMIT (a text above RP_TEXT_SIZE_MAX),
 * RP_ERR_NOMEM. */
RP_NODISCARD rp_status rp_encoder_embed(const rp_encoder *encoder, const rp_str *texts, size_t n,
                                        float *out, bool *truncated, rp_error *error);

/* One text of any length up to RP_WINDOWS_MAX windows. */
typedef struct rp_embedding {
    size_t window_count; /* 1..RP_WINDOWS_MAX */
    float *mean;         /* (dim) unit length: what is indexed. In the caller's memory. */
    float *windows;      /* (window_count, dim) each of unit length; may be mean itself if 1 */
    double unknown_share; /* of tokens that are [UNK], 0..1: text the encoder cannot read */
} rp_embedding;

/* Embed `text` in consecutive windows. `storage` has room for
 * (RP_WINDOWS_MAX + 1) * dim numbers and is what `out` points into.
 * Fails: RP_ERR_LIMIT (more than RP_WINDOWS_MAX windows: exact tier only). */
RP_NODISCARD rp_status rp_encoder_embed_windows(const rp_encoder *encoder, rp_str text,
                                                float *storage, rp_embedding *out,
                                                rp_error *error);

/* The same for n texts, encoded together. storage holds (RP_WINDOWS_MAX + 1) * dim numbers
 * a text. Each text has its own status: RP_OK, or RP_ERR_LIMIT, RP_ERR_CORRUPT,
 * RP_ERR_NOMEM; where it is not RP_OK, its embedding is undefined. */
void rp_encoder_embed_windows_many(const rp_encoder *encoder, const rp_str *texts, size_t n,
                                   float *storage, rp_embedding *out, rp_status *status);

/* Token ids of a text, special tokens included, nothing cut. Writes at most `max`
 * and returns how many there are. */
size_t rp_encoder_tokenize(const rp_encoder *encoder, rp_str text, int32_t *out, size_t max);

#ifdef __cplusplus
}
#endif
#endif
