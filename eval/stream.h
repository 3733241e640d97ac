/* stream.h - a stream of requests whose right answers are known.
 *
 * Format: JSON lines in arrival order, {"prompt", "answer_id", "scope"?, "answer"?,
 * "category"?, "time"?, "history"?, "cost"?, "user"?} (docs/evaluation.md). A hit is right if and
 * only if the entry's answer_id equals the request's. Members of other names are passed
 * over.
 *
 * Threads: used by one thread at a time; immutable once read. */
#ifndef RP_EVAL_STREAM_H
#define RP_EVAL_STREAM_H

#include "eval/text_set.h"

typedef struct rp_stream_row {
    uint32_t text, answer, scope, category; /* numbers in the sets below */
    uint32_t key;  /* equal for requests of equal scope and words, as they came */
    uint32_t user; /* number of the user + 1; 0: not given */
    double time;   /* seconds; the line's number if the file has none */
    double cost;   /* US$; NaN: not given */
} rp_stream_row;

typedef struct rp_stream {
    rp_text_set texts; /* as the server matches them: NFC, line ends, outer space (wire/wire.h) */
    rp_text_set answers, scopes, categories, keys, users;
    rp_stream_row *rows; /* owned; by line */
    size_t count, capacity;
    bool has_times;      /* some line gives its time */
} rp_stream;

/* Fails: RP_ERR_INVALID or what rp_json_parse says, as "FILE:LINE: ..."; RP_ERR_NOT_FOUND. After a failure
 * `out` holds nothing. */
RP_NODISCARD rp_status rp_stream_read(const char *path, rp_stream *out, rp_error *error);
void rp_stream_fini(rp_stream *stream);

typedef enum rp_stream_order {
    RP_ORDER_FILE,
    RP_ORDER_SHUFFLED,
    RP_ORDER_SORTED,   /* all requests of one answer after each other */
    RP_ORDER_DRIFTING, /* four phases, each with answers of its own */
    RP_STREAM_ORDERS,
} rp_stream_order;
/* Fill `out` (count) with line numbers. All but RP_ORDER_FILE depend on the seed: it draws
 * the order of answers, which answers make a phase, and the order of requests within. Fails:
 * RP_ERR_NOMEM. */
RP_NODISCARD rp_status rp_stream_arrange(const rp_stream *stream, rp_stream_order order,
                                         uint64_t seed, uint32_t *out);

#endif
