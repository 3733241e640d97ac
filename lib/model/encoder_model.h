/* encoder_model.h - token ids in; one vector of length 1, or the logits of a head, for each
 * sequence out.
 *
 * Holds the weights of a BERT or ModernBERT in the form that one kernel tier wants: one
 * arena, in the order of execution. The table of word embeddings stays in the mapped file,
 * since a request touches a few rows of it.
 *
 * Threads: a model is immutable after opening; each thread that encodes brings its
 * own scratch memory. Encoding never allocates. References are counted: a model lives
 * until those adapted from it are closed too. */
#ifndef RP_MODEL_ENCODER_MODEL_H
#define RP_MODEL_ENCODER_MODEL_H

#include "math/kernels.h"
#include "model/model_config.h"

typedef struct rp_model rp_model;

/* `weights` is the path of the safetensors file, `config` what its folder says.
 * Fails: RP_ERR_NOT_FOUND, RP_ERR_IO, RP_ERR_TRUNCATED, RP_ERR_CORRUPT (a tensor is
 * missing or has another shape than config says), RP_ERR_UNSUPPORTED (a dtype),
 * RP_ERR_LIMIT, RP_ERR_NOMEM. */
RP_NODISCARD rp_status rp_model_open(const char *weights, const rp_model_config *config,
                                     const rp_kernels *kernels, rp_class class,
                                     rp_model **out, rp_error *error);
void rp_model_close(rp_model *model); /* NULL is fine */

/* The same with a LoRA adapter merged (model/adapter.h); weights that the adapter leaves as
 * they are stay shared with `base`, which may be closed before. Fails as rp_adapter_open
 * does, and RP_ERR_CORRUPT (it does not fit), RP_ERR_INVALID (base has an adapter). */
RP_NODISCARD rp_status rp_model_adapt(rp_model *base, const char *adapter_folder, rp_model **out,
                                      rp_error *error);

const rp_model_config *rp_model_get_config(const rp_model *model);
rp_class rp_model_get_class(const rp_model *model);
const rp_kernels *rp_model_get_kernels(const rp_model *model);
size_t rp_model_size_bytes(const rp_model *model); /* heap and mapped weights */
/* XXH3-128 of the weight file. Not a seal against an attacker (model pull checks
 * SHA-256): it tells one model from another, and must not delay the start. */
void rp_model_weights_hash(const rp_model *model, uint8_t out[16]);
/* The same of the adapter's files; false: there is none. */
bool rp_model_adapter_hash(const rp_model *model, uint8_t out[16]);

/* What a sequence of that many tokens costs at least: multiplications and additions of its
 * products and of attention, and bytes of packed weights, which a batch reads once. */
typedef struct rp_model_work {
    uint64_t operations, weight_bytes;
} rp_model_work;
rp_model_work rp_model_count_work(const rp_model *model, size_t tokens);

/* Sequences back to back, without padding. */
typedef struct rp_token_batch {
    const int32_t *ids;     /* (starts[count]); each below config.vocabulary */
    const uint8_t *types;   /* the same, each below config.types; NULL: all 0 */
    const uint32_t *starts; /* (count + 1); sequence i is ids[starts[i]..starts[i+1]-1] */
    size_t count;           /* each sequence has 1..config.window tokens */
} rp_token_batch;

/* Numbers of scratch for batches of up to tokens_max tokens; 64-byte aligned. */
size_t rp_model_scratch_count(const rp_model *model, size_t tokens_max);

/* out[i] (config.dim) gets the pooled vector of sequence i, cut to that many numbers, of
 * length 1. If it has no direction (not finite, or zero) all of out[i] is NaN. */
void rp_model_encode(const rp_model *model, const rp_token_batch *batch, float *scratch,
                     float *const *out);
/* logits (count, config.labels) of a model with a head; config.labels > 0. */
void rp_model_classify(const rp_model *model, const rp_token_batch *batch, float *scratch,
                       float *logits);

#endif
