/* make_stream_internal.h - requests as they are read, before they become a stream. */
#ifndef RP_EVAL_MAKE_STREAM_INTERNAL_H
#define RP_EVAL_MAKE_STREAM_INTERNAL_H

#include "eval/make_stream.h"
#include "eval/text_set.h"

/* All but the text are optional: 0 is none, else a number + 1. */
typedef struct rp_source_row {
    uint32_t text, answer;
    uint32_t category, history, gold; /* + 1; history: a JSON array */
} rp_source_row;

typedef struct rp_source {
    rp_text_set texts, answers, others; /* others: categories, histories, gold answers */
    rp_text_set requests;               /* text and history: what may be equal */
    rp_source_row *rows;                /* owned */
    size_t count, capacity;
    size_t contradicted;
} rp_source;

void rp_source_init(rp_source *source);
void rp_source_fini(rp_source *source);
/* Read the file's bytes. Sentences name path and line. */
RP_NODISCARD rp_status rp_source_read(rp_source *source, const char *path, rp_str bytes,
                                      const rp_make_stream *options, rp_error *error);

/* When requests arrive and how long they are. */
typedef struct rp_trace_row {
    double seconds, tokens_in, tokens_out;
} rp_trace_row;
typedef struct rp_trace {
    rp_trace_row *rows; /* owned */
    size_t count;
    double length;      /* seconds until it may begin again */
} rp_trace;
RP_NODISCARD rp_status rp_trace_read(const char *path, rp_trace *out, rp_error *error);
void rp_trace_fini(rp_trace *trace);

#endif
