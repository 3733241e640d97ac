/* make_stream.h - labelled texts and query logs become a stream of requests.
 *
 * Construction, reproducible from the seed (xoshiro256++):
 *
 *   1. Texts are read in the order of the file, outer white space trimmed; of equal texts
 *      the first is kept, unless `keep_equal`.
 *   2. Whoever has the same answer_id shares an answer. It is made from the file's columns:
 *      all but `split` and `text`, joined by " | ". A log has no labels: every text is an
 *      answer of its own, letter case aside.
 *   3. Without `count`: all texts once, in the file's order or shuffled.
 *      With `count`: so many draws. Answers are shuffled and the answer of rank r is drawn
 *      with weight r^-zipf; then one of its texts, each as likely as the other: popular
 *      answers come back, in the same words or in others. With `novel` a share of the
 *      requests is instead taken from the end of the shuffled answers, each at most once
 *      and never drawn otherwise, until none is left.
 *
 * Threads: pure function of files. */
#ifndef RP_EVAL_MAKE_STREAM_H
#define RP_EVAL_MAKE_STREAM_H

#include "base/buffer.h"
#include <reprise/status.h>

typedef enum rp_stream_kind {
    RP_STREAM_TABLE, /* tab-separated, a header line with a column `text` */
    RP_STREAM_LOG,   /* tab-separated without a header: the last column is the text */
} rp_stream_kind;

typedef struct rp_make_stream {
    rp_stream_kind kind;
    bool keep_equal, shuffle;
    uint64_t seed;
    size_t count;   /* 0: all texts once */
    double zipf;    /* exponent, 0: all answers alike */
    double novel;   /* share of requests that nobody else resembles */
    rp_str category; /* of every request; empty: none */
} rp_make_stream;

typedef struct rp_made_stream {
    size_t requests, texts, answers;
} rp_made_stream;

/* Append JSON lines to `out`. Fails: RP_ERR_INVALID "FILE:LINE: ..." (columns, empty),
 * RP_ERR_NOT_FOUND, RP_ERR_NOMEM. */
RP_NODISCARD rp_status rp_stream_make(const char *path, const rp_make_stream *options,
                                      rp_buffer *out, rp_made_stream *made, rp_error *error);

#endif
