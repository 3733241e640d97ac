/* make_stream.h - labelled texts, questions, conversations and query logs become a stream.
 *
 * Construction, reproducible from the seed (xoshiro256++):
 *
 *   1. The file is read in its order, outer white space of texts trimmed. Of equal requests
 *      (same text after the same history) the first is kept, unless `keep_equal`.
 *   2. Whoever has the same answer_id shares an answer; `kind` says where it comes from:
 *        table          all columns but `split` and the text, joined by " | "
 *        log            no labels: every text is an answer of its own, letter case aside
 *        qa             JSON lines question, answers (or answer): the first gold answer, letter
 *                       case aside; "answer" is written too
 *        prompts        JSON lines prompt, source: every text is an answer of its own
 *        conversation   JSON lines history, question, rewrite: the stand-alone rewrite, letter
 *                       case aside. `standalone` asks the rewrite itself, without history
 *        pairs          label category text_a text_b: texts joined by label 1, also through
 *                       others, share an answer; what label 0 separates but others join is
 *                       counted as contradicted
 *   3. Without `count`: all requests once, in the file's order or shuffled.
 *      With `count`: so many draws. Answers are shuffled and the answer of rank r is drawn
 *      with weight r^-zipf; then one of its requests, each as likely as the other: popular
 *      answers come back, in the same words or in others. With `novel` a share of the
 *      requests is instead taken from the end of the shuffled answers, each at most once
 *      and never drawn otherwise, until none is left.
 *   4. With `trace` request k arrives and costs as the k-th one of a real service did (CSV
 *      TIMESTAMP,ContextTokens,GeneratedTokens, or JSON lines timestamp [ms], input_length,
 *      output_length); a trace that is too short begins again after its own end.
 *
 * Threads: pure function of files. */
#ifndef RP_EVAL_MAKE_STREAM_H
#define RP_EVAL_MAKE_STREAM_H

#include "base/buffer.h"
#include <reprise/status.h>

typedef enum rp_stream_kind {
    RP_STREAM_TABLE,        /* tab-separated under a header line */
    RP_STREAM_LOG,          /* tab-separated without a header, unless `column` is a name */
    RP_STREAM_QA,
    RP_STREAM_PROMPTS,
    RP_STREAM_CONVERSATION,
    RP_STREAM_PAIRS,
    RP_STREAM_KINDS,
} rp_stream_kind;

typedef struct rp_make_stream {
    rp_stream_kind kind;
    bool keep_equal, shuffle, standalone;
    const char *column; /* of the text: a name, or a number from 1 (log); NULL: "text", the last */
    uint64_t seed;
    size_t count;    /* 0: all requests once */
    double zipf;     /* exponent, 0: all answers alike */
    double novel;    /* share of requests that nobody else resembles */
    rp_str category; /* of every request; empty: the file's own, if its kind has some */
    bool wrap;       /* every prompt stands inside a long instruction (eval/wrap.h) */
    bool cut;        /* what all prompts share is learned and cut off, as in a cache with
                        templates (evidence/template.h): a prompt that was cut gets the scope "cut" */
    const char *trace;             /* NULL: no times, no costs */
    double price_in, price_out;    /* US$ a million tokens, with trace */
} rp_make_stream;

typedef struct rp_made_stream {
    size_t requests, texts, answers;
    size_t contradicted; /* pairs */
    size_t cut;          /* requests */
} rp_made_stream;

/* "table", "log", "qa", "prompts", "conversation", "pairs". */
bool rp_stream_kind_of(rp_str name, rp_stream_kind *out);

/* Append JSON lines to `out`. Fails: RP_ERR_INVALID "FILE:LINE: ..." (columns, JSON, empty),
 * RP_ERR_NOT_FOUND, RP_ERR_NOMEM. */
RP_NODISCARD rp_status rp_stream_make(const char *path, const rp_make_stream *options,
                                      rp_buffer *out, rp_made_stream *made, rp_error *error);

#endif
