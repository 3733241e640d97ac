/* results.h - what measurements printed, read back.
 *
 * Takes the JSON lines of `eval pairs`, `eval stream`, `eval attack`, `bench embed` and
 * `bench search`, with or without the first line of `eval record`, and sorts them by what
 * they hold: a row is known by its members, not by the name of its file. Objects that are
 * none of these are counted and left alone.
 *
 * Threads: used by one thread at a time; immutable once read. */
#ifndef RP_EVAL_RESULTS_H
#define RP_EVAL_RESULTS_H

#include "json/json.h"

typedef enum rp_result_kind {
    RP_RESULT_PAIRS,  /* metrics of a file of pairs, or of one of its categories */
    RP_RESULT_POLICY, /* a policy over a stream, or over one of its categories */
    RP_RESULT_SWEEP,  /* every threshold over a stream */
    RP_RESULT_FRONTIER, /* every cut on a policy's estimate of the risk */
    RP_RESULT_BOUND,  /* several orders against a bound */
    RP_RESULT_ATTACK,
    RP_RESULT_EMBED,  /* milliseconds of an encoder */
    RP_RESULT_SEARCH, /* microseconds of an index */
    RP_RESULT_OTHER,
    RP_RESULT_KINDS = RP_RESULT_OTHER,
} rp_result_kind;

typedef struct rp_result_row {
    rp_result_kind kind;
    uint32_t run;        /* of results->runs */
    const rp_json *json; /* an object */
} rp_result_row;

typedef struct rp_result_run {
    rp_str path;
    const rp_json *about; /* NULL: not recorded */
    size_t known, unknown;
} rp_result_run;

typedef struct rp_results {
    rp_arena arena;
    rp_result_row *rows; /* owned */
    rp_result_run *runs; /* owned */
    size_t row_count, row_capacity, run_count, run_capacity;
    size_t counts[RP_RESULT_KINDS];
} rp_results;

enum { RP_RESULT_ROWS_MAX = 100000 };

void rp_results_init(rp_results *results);
void rp_results_fini(rp_results *results);
/* Add a file. Fails: RP_ERR_INVALID "FILE:LINE: ..." (no JSON object; nothing known in it),
 * RP_ERR_NOT_FOUND, RP_ERR_LIMIT, RP_ERR_NOMEM; what was read before stays. */
RP_NODISCARD rp_status rp_results_read(rp_results *results, const char *path, rp_error *error);
/* The same from memory; `name` stands for the file. */
RP_NODISCARD rp_status rp_results_parse(rp_results *results, const char *name, rp_str text,
                                        rp_error *error);

/* NaN if there is no such number. */
double rp_result_number(const rp_json *row, const char *name);
/* "" if there is no such string. */
rp_str rp_result_string(const rp_json *row, const char *name);
/* The two numbers of NAME_95; NaN without. */
void rp_result_interval(const rp_json *row, const char *name, double *low, double *high);

#endif
