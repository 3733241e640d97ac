/* model_internal.h - what the files of lib/model share: weights in memory, the pieces a
 * forward pass is made of, and what an architecture brings of its own.
 *
 * An architecture (bert.c, modernbert.c) is a description: which tensors of the file become
 * which products and norms of a layer, and in which order the pieces of forward.c are run.
 * Everything else - arena, packing, precision classes, adapters, outliers, pooling - is the
 * same for all of them. */
#ifndef RP_MODEL_INTERNAL_H
#define RP_MODEL_INTERNAL_H

#include "model/adapter.h"
#include "model/encoder_model.h"
#include "model/safetensors.h"

#include <stdatomic.h>

enum {
    RP_MODEL_ALIGNMENT = 64,
    RP_MODEL_OUTLIERS = 4,  /* of what leaves a layer norm or an activation; outliers.c */
    RP_LAYER_PARTS_MAX = 8,
    RP_LAYER_NORMS_MAX = 2,
    RP_TENSOR_NAME_SIZE = 96,
};

typedef struct rp_norm {
    float *gain; /* NULL: there is no norm here */
    float *bias; /* NULL: none */
} rp_norm;

/* Angles of rotary positions (Su et al., arXiv:2104.09864); (window, D / 2) each. */
typedef struct rp_rotary {
    float *cosines, *sines;
} rp_rotary;

typedef struct rp_layer {
    rp_weights qkv, output, up, down; /* in an arena */
    rp_norm attention_norm, feed_forward_norm;
    size_t reach;            /* of attention; SIZE_MAX: all keys */
    const rp_rotary *rotary; /* NULL: positions were added to the embeddings */
} rp_layer;

/* What turns a pooled vector into logits, in f32 whatever the class. */
typedef struct rp_head {
    rp_weights dense, classifier;
    rp_norm norm;
} rp_head;

typedef struct rp_weight_file rp_weight_file;

struct rp_model {
    _Atomic size_t references;
    rp_model_config config;
    const struct rp_architecture_ops *ops;
    const rp_kernels *kernels;
    rp_class class;
    rp_weight_file *file;   /* referenced; word embeddings are read from its mapping */
    rp_model *base;         /* referenced, or NULL: whose weights an adapter left as they are */
    const rp_tensor *words;
    rp_layer *layers;         /* owned; what they point to is in this arena or the base's */
    float *positions, *types; /* (positions, hidden), (types, hidden); BERT */
    rp_norm embedding_norm, final_norm;
    rp_rotary rotary[2];      /* of global and of local attention; ModernBERT */
    rp_head head;
    char *arena, *mapping;    /* owned mapping; arena is its aligned part */
    size_t arena_size, mapping_size;
    uint8_t adapter_hash[16];
    bool adapted;
};

/* ---- the arena: laid out twice, first to measure, then to point ---- */

typedef struct rp_layout {
    char *base; /* NULL while measuring */
    size_t used;
    bool overflow;
} rp_layout;

float *rp_layout_floats(rp_layout *plan, size_t count);
void rp_layout_norm(rp_layout *plan, size_t count, bool biased, rp_norm *out);
/* Room for packed weights; `outliers`: how many of the depth may be kept in f32, if the class
 * has that. */
void rp_layout_linear(rp_layout *plan, const rp_kernels *kernels, rp_class class, size_t columns,
                      size_t depth, size_t outliers, rp_weights *out);
/* Let `lay_out` run over a new mapping, which becomes the model's arena. */
typedef void rp_lay_out(rp_model *model, rp_layout *plan, void *context);
RP_NODISCARD rp_status rp_model_map_arena(rp_model *model, rp_lay_out *lay_out, void *context,
                                          rp_error *error);

/* ---- what a layer is made of ---- */

/* A Linear of the file, (rows, depth), that becomes the next columns of `into`. */
typedef struct rp_layer_part {
    char name[RP_TENSOR_NAME_SIZE];
    size_t rows, depth, outliers;
    bool biased;
    rp_weights *into;
} rp_layer_part;
typedef struct rp_layer_norm {
    char name[RP_TENSOR_NAME_SIZE];
    bool biased;
    rp_norm *into;
} rp_layer_norm;
typedef struct rp_layer_plan {
    rp_layer_part parts[RP_LAYER_PARTS_MAX]; /* those of one matrix are neighbors */
    size_t part_count;
    rp_layer_norm norms[RP_LAYER_NORMS_MAX];
    size_t norm_count;
} rp_layer_plan;

void rp_plan_part(rp_layer_plan *plan, const char *name, size_t rows, size_t depth, bool biased,
                  size_t outliers, rp_weights *into);
void rp_plan_norm(rp_layer_plan *plan, const char *name, bool biased, rp_norm *into);
/* A part's first column in its matrix: rows of the parts before it. */
size_t rp_plan_first_column(const rp_layer_plan *plan, size_t part);
/* Whether a matrix of the layer is wanted; where only some are, norms are not. */
typedef bool rp_layer_wanted(const void *context, const rp_layer_plan *layer,
                             const rp_weights *into);
/* `only` NULL: everything. */
void rp_layout_layer(const rp_model *model, const rp_layer_plan *layer, rp_layer_wanted *only,
                     const void *context, rp_layout *plan);

/* ---- reading tensors ---- */

typedef struct rp_loader {
    rp_model *model;
    const char *path, *prefix; /* of tensor names: "" or "bert." */
    rp_adapter *adapter;       /* NULL: none */
    rp_error *error;
    float *rows; /* owned; a panel of rows on their way to be packed */
} rp_loader;

/* A tensor that must be there with this shape; columns 0: one dimension only. A name is of
 * the backbone and gets the file's prefix, unless it begins with '^'. */
RP_NODISCARD rp_status rp_load_find(rp_loader *from, const char *name, size_t rows, size_t columns,
                                    const rp_tensor **out);
RP_NODISCARD rp_status rp_load_plain(rp_loader *from, const char *name, size_t rows, size_t columns,
                                     float *out);
RP_NODISCARD rp_status rp_load_norm(rp_loader *from, const char *name, const rp_norm *out);
/* A Linear becomes columns first.. of `out`, with what the adapter adds. */
RP_NODISCARD rp_status rp_load_linear(rp_loader *from, const char *name, rp_class class,
                                      size_t rows, size_t first, bool biased,
                                      const rp_weights *out);
/* `only` gets the adapter as its context. */
RP_NODISCARD rp_status rp_load_layer(rp_loader *from, const rp_layer_plan *layer,
                                     rp_layer_wanted *only);

/* ---- forward ---- */

/* What one call works in; all in the caller's scratch. */
typedef struct rp_forward {
    const rp_model *model;
    const rp_token_batch *batch;
    size_t tokens;
    float *x;     /* (tokens, hidden) */
    float *mixed; /* (tokens, hidden): what attention gathered, or what a norm gave */
    float *wide;  /* (tokens, the widest matrix) */
    float *attention;
    void *prepared; /* rows in the form of the class */
    /* While outliers are looked for: they go into `found`, for the products of `probed`. */
    rp_layer *found;
    const rp_layer *probed;
} rp_forward;

typedef enum rp_activation { RP_ACTIVATION_NONE, RP_ACTIVATION_GELU } rp_activation;

/* Tokens' word embeddings into x. */
void rp_forward_words(const rp_forward *work);
void rp_forward_norm(const rp_forward *work, const rp_norm *norm, const float *in, float *out);
/* out (tokens, by->columns) = activation(a * by) (+ out, as a residual); rows of a are
 * a_stride numbers apart. */
void rp_forward_multiply(const rp_forward *work, const rp_weights *by, float *a, size_t a_stride,
                         rp_activation activation, bool residual, float *out);
/* From wide (queries, keys, values) to mixed. */
void rp_forward_attend(const rp_forward *work, const rp_layer *layer);
void rp_forward_split(rp_forward *work, float *scratch);
/* The tokens of one sequence as one vector (hidden), not normalised. */
void rp_forward_pool(const rp_forward *work, rp_pooling pooling, size_t sequence, float *out);
/* One row through a head's product: out (by->columns) = in (by->depth) * by. */
void rp_forward_head(const rp_model *model, const rp_weights *by, const float *in, float *out);

/* ---- architectures ---- */

typedef struct rp_architecture_ops {
    const char *words;        /* name of the table of word embeddings, which every file has */
    const char *const *prefixes; /* that names may have in a model with a head; NULL ends */
    /* Columns of the widest product of a layer. */
    size_t (*widest)(const rp_model_config *config);
    /* All but the layers. */
    void (*lay_out)(rp_model *model, rp_layout *plan);
    rp_status (*load)(rp_loader *from);
    void (*describe)(rp_model *model, size_t index, rp_layer *layer, rp_layer_plan *out);
    void (*embed)(const rp_forward *work);
    void (*run_layer)(const rp_forward *work, const rp_layer *layer);
    void (*finish)(const rp_forward *work); /* NULL: nothing is left to do */
    /* Logits (labels) of one sequence; scratch for two rows. */
    void (*classify)(const rp_forward *work, size_t sequence, float *rows, float *logits);
} rp_architecture_ops;

extern const rp_architecture_ops rp_architecture_bert, rp_architecture_modernbert;

/* Fill outlier_at of all layers of `main`'s model (outliers.c). */
RP_NODISCARD rp_status rp_find_outliers(const rp_loader *main, rp_error *error);
void rp_choose_outliers(const float *x, size_t stride, size_t tokens, const rp_weights *into);

const rp_safetensors *rp_weight_file_get(const rp_weight_file *file);

#endif
