/* series.h - the rows of a policy over a stream, put together.
 *
 * A series is one policy with one setting on one stream in one kind of order; several seeds
 * of it are its orders. Its figures are then means over the orders, with the range from the
 * smallest to the largest; with one order they are that order's, with its 95 % interval.
 *
 * Threads: used by one thread at a time; the rows must outlive it. */
#ifndef RP_EVAL_SERIES_H
#define RP_EVAL_SERIES_H

#include "eval/results.h"

/* A figure with its interval; NaN where it cannot be said. */
typedef struct rp_figure {
    double value, low, high;
} rp_figure;

typedef struct rp_series {
    uint32_t stream;      /* of series_set->streams */
    rp_str policy;        /* SPEC */
    rp_str label;         /* the same for people, with what differs from the usual setting */
    rp_str gates, labels, order, setting;
    rp_str category;      /* "*": all */
    unsigned style;       /* 0..RP_STYLES-1, the same for all policies of a family */
    size_t orders;
    double requests, exact_hits, exact_wrong, hits, wrong_hits; /* sums over the orders */
    rp_figure hit_rate, error, hit_error; /* semantic, as `eval stream` has them */
    rp_figure chr, rer;   /* both tiers: hits and wrong hits of all requests */
    rp_figure reduction;  /* of cost */
    rp_figure p99_cut;    /* 1 - p99 with / p99 without */
    const rp_json *first; /* the row of its first order */
} rp_series;

enum { RP_STYLES = 12 };
/* Names of families of policies, in the order of legends; the last is all others. */
const char *rp_series_family(unsigned style);

typedef struct rp_stream_name {
    rp_str file, name;    /* name: the file without folders and ending */
    double requests;      /* 0: nobody said */
    const rp_series *first;    /* of all categories; its order is the one that is drawn */
    const rp_series *featured; /* for the user of the set; NULL */
} rp_stream_name;

/* Every threshold over a stream. */
typedef struct rp_sweep_row {
    uint32_t stream;
    rp_str gates;
    const rp_json *json;
} rp_sweep_row;

enum { RP_STREAMS_MAX = 256 };

typedef struct rp_series_set {
    rp_arena arena;
    rp_series *series;       /* (count); owned */
    rp_stream_name *streams; /* (stream_count); owned */
    rp_sweep_row *sweeps;    /* (sweep_count); owned */
    size_t count, stream_count, sweep_count;
} rp_series_set;

/* What a file is called on the page: without folders and ending. */
rp_str rp_series_file_name(rp_str path);

/* Fails: RP_ERR_NOMEM, RP_ERR_LIMIT (more than RP_STREAMS_MAX streams). After a failure `out` holds nothing. */
RP_NODISCARD rp_status rp_series_build(const rp_results *results, rp_series_set *out);
void rp_series_fini(rp_series_set *set);

#endif
