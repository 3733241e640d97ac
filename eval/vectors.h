/* vectors.h - the vectors of many texts, made once and kept in a file.
 *
 * The file is an array of float32 (base/npy.h), one row a text, in a cache folder. Its
 * name holds the encoder's fingerprint and a hash of the texts in their order, so that it
 * is found again by whoever asks for the same and by nobody else.
 *
 * Threads: used by one thread at a time. */
#ifndef RP_EVAL_VECTORS_H
#define RP_EVAL_VECTORS_H

#include "base/npy.h"
#include <reprise/embed.h>

typedef struct rp_vectors {
    size_t count, dim;
    const float *values; /* (count, dim) rows of length 1 */
    float *made;         /* owned, or NULL */
    rp_npy npy;          /* owned, if not made */
    size_t cut_count;    /* texts beyond the encoder's window; 0 if read from a file */
} rp_vectors;

typedef void rp_vectors_progress(void *context, size_t done, size_t count);

typedef struct rp_vectors_options {
    const char *cache_folder; /* NULL: none is kept */
    rp_vectors_progress *progress; /* may be NULL */
    void *context;
} rp_vectors_options;

/* $XDG_CACHE_HOME/reprise/vectors, else ~/.cache/reprise/vectors. Fails: RP_ERR_NOT_FOUND
 * (neither is set), RP_ERR_LIMIT. */
RP_NODISCARD rp_status rp_vectors_folder(char *out, size_t size, rp_error *error);

/* Fails as rp_encoder_embed does. A cache that cannot be read or written is passed over. */
RP_NODISCARD rp_status rp_vectors_make(const rp_encoder *encoder, const rp_str *texts,
                                       size_t count, const rp_vectors_options *options,
                                       rp_vectors *out, rp_error *error);
/* Vectors that somebody else made: `count` rows, each of length 1 within 1e-3. Fails:
 * RP_ERR_INVALID with the row, and as rp_npy_open does. */
RP_NODISCARD rp_status rp_vectors_open(const char *path, size_t count, rp_vectors *out,
                                       rp_error *error);
void rp_vectors_fini(rp_vectors *vectors);

static inline const float *
rp_vector(const rp_vectors *vectors, size_t row)
{
    return vectors->values + row * vectors->dim;
}
/* The cosine of two rows. */
double rp_vectors_similarity(const rp_vectors *vectors, size_t a, size_t b);

#endif
