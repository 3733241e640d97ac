/* vectors.h - the vectors of many texts, made once and kept in a file.
 *
 * The file is an array of float32 (base/npy.h), one row a text, in a cache folder. Its
 * name holds the encoder's fingerprint and a hash of the texts in their order, so that it
 * is found again by whoever asks for the same and by nobody else.
 *
 * Without `windows` a text beyond the encoder's window is cut, as sentence-transformers does.
 * With it, it is embedded as the server does (rp_encoder_embed_windows): its row is the mean
 * of its windows, and these and the share of tokens the encoder cannot read lie in two more
 * files beside.
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
    size_t cut_count;    /* texts beyond the encoder's window; 0 if read from a file. With
                            windows: beyond all windows, even from a file */
    float *facts;        /* (count, 2) windows of the text, unknown share; owned, or NULL */
    float *windows;      /* (sum of window counts above 1, dim); owned, or NULL */
    uint32_t *starts;    /* (count) a text's first row of windows; owned, or NULL */
} rp_vectors;

typedef void rp_vectors_progress(void *context, size_t done, size_t count);

typedef struct rp_vectors_options {
    const char *cache_folder; /* NULL: none is kept */
    bool windows;
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
/* How long the server would embed each text, alone on one thread, in microseconds: 200 texts
 * of all lengths are measured, the others take the time of the next longer one measured.
 * Fails as rp_encoder_embed_windows does. */
RP_NODISCARD rp_status rp_vectors_time(const rp_encoder *encoder, const rp_str *texts,
                                       size_t count, float *out_us, rp_error *error);
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
/* Without `windows` each text has one, and nothing is known about its tokens. */
static inline size_t
rp_vectors_window_count(const rp_vectors *vectors, size_t row) /* 0: too long for all windows */
{
    return vectors->facts ? (size_t)vectors->facts[2 * row] : 1;
}
static inline double
rp_vectors_unknown_share(const rp_vectors *vectors, size_t row)
{
    return vectors->facts ? (double)vectors->facts[2 * row + 1] : 0;
}
static inline const float *
rp_vectors_windows(const rp_vectors *vectors, size_t row)
{
    return rp_vectors_window_count(vectors, row) > 1
               ? vectors->windows + (size_t)vectors->starts[row] * vectors->dim
               : rp_vector(vectors, row);
}
/* The cosine of two rows. */
double rp_vectors_similarity(const rp_vectors *vectors, size_t a, size_t b);

#endif
