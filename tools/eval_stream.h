/* eval_stream.h - what the files of `reprise eval stream` share: options, runs, printing.
 *
 * Threads: the main thread. */
#ifndef RP_TOOLS_EVAL_STREAM_H
#define RP_TOOLS_EVAL_STREAM_H

#include "eval/simulate.h"
#include "json/json.h"
#include "tools/eval_tool.h"

#include <getopt.h>

enum {
    RP_STREAM_POLICIES_MAX = 128,
    RP_STREAM_BOUNDS_MAX = 16,
    RP_STREAM_CAPACITIES_MAX = 16,
    RP_STREAM_ORDERS_MAX = 1000,
    RP_STREAM_SPEC_SIZE = 256,
};

/* A number of requests or entries, or a share of all. */
typedef struct rp_stream_amount {
    double value;
    bool is_share;
} rp_stream_amount;

/* What runs under one name: a SPEC, and what differs from the options for all. */
typedef struct rp_stream_policy {
    const char *baseline;     /* its short name; NULL: of --policy */
    const char *title;        /* for tables; NULL: the SPEC */
    char spec[RP_STREAM_SPEC_SIZE];
    bool own_gates, gates;    /* own_gates: `gates` says on or off */
    bool needs_judge;
    size_t neighbors;         /* candidates looked at; 0: as many as the server */
} rp_stream_policy;

typedef struct rp_stream_options {
    rp_stream_policy policies[RP_STREAM_POLICIES_MAX];
    size_t policy_count;
    double bounds[RP_STREAM_BOUNDS_MAX];
    size_t bound_count;       /* 0: as each SPEC says */
    rp_stream_amount capacities[RP_STREAM_CAPACITIES_MAX];
    size_t capacity_count;    /* 0: no bound */
    bool evict[RP_EVICT_KINDS];
    bool orders_on[RP_STREAM_ORDERS];
    uint64_t seed, orders;
    rp_stream_amount warm;
    const char *model, *verifier, *vectors, *decisions_out, *labels, *file, *checkpoint;
    double embed_ms;          /* stated; NaN: measured, where there is an encoder */
    bool collision_check; /* where there is an encoder and gates run */
    bool resume, sweep, frontier, sum_orders, json, has_judge, judge_error_given;
    rp_eval_cache cache;
    rp_precision precision;
    rp_simulation simulation; /* what the options say for all; the rest is filled in later */
    /* Found out on the way. */
    char encoder[33]; /* fingerprint; empty with --vectors */
    char stream_sha256[65];
    char verifier_print[33]; /* fingerprint; empty: there is none */
} rp_stream_options;

/* One run: a policy under one bound, capacity, eviction and order. */
typedef struct rp_stream_run {
    const rp_stream_policy *policy;
    double error_max;         /* in force; NaN: the policy keeps none */
    bool bound_given;         /* by --error-max, not by the SPEC */
    size_t capacity;
    rp_evict_kind evict;
    rp_stream_order order;
    uint64_t seed;
} rp_stream_run;

/* Fill `o` from the command line. False: the exit status is in *exit_status. */
bool rp_stream_parse(int argc, char **argv, rp_stream_options *o, int *exit_status);

const char *rp_stream_order_name(rp_stream_order order);
/* The gates in force for a policy: "on", "off" or "strict". */
const char *rp_stream_gates_name(const rp_stream_options *o, const rp_stream_policy *policy);

/* One object a run and category. `frontiers` NULL: not asked for. */
void rp_stream_print_json(const rp_stream_options *o, const rp_stream_run *run,
                          const rp_stream *stream, const rp_tally *tally,
                          const rp_frontiers *frontiers);
void rp_stream_print_header(void);
void rp_stream_print_text(const rp_stream_options *o, const rp_stream_run *run,
                          const rp_stream *stream, const rp_tally *tally,
                          const rp_frontiers *frontiers);
/* Of one policy and order. */
void rp_stream_print_frontiers_json(const rp_stream_options *o, const rp_stream_run *run,
                                    const rp_frontiers *frontiers);
void rp_stream_print_sweep_json(const rp_stream_options *o, const rp_stream_run *run,
                                const rp_sweep *sweep);
void rp_stream_print_sweep_text(const rp_sweep *sweep);

/* Several orders of one policy: what is promised is the mean; what hurts is the worst. */
typedef struct rp_stream_summary {
    uint64_t orders;
    double hits, error, hit_error, error_worst; /* sums; the worst */
    double frontier, kept; /* sums; NaN: not asked for, or nothing is estimated */
    rp_counts worst;
} rp_stream_summary;
void rp_stream_summary_add(rp_stream_summary *summary, const rp_stream_run *run,
                           const rp_counts *counts, const rp_frontiers *frontiers);
void rp_stream_summary_print(const rp_stream_options *o, const rp_stream_run *run,
                             const rp_stream_summary *summary);
void rp_stream_summary_print_json(const rp_stream_options *o, const rp_stream_run *run,
                                  const rp_stream_summary *summary);

/* ---- shared by the files that print ------------------------------------------------------ */

/* What tells this run from the others: "verified <= 2 %, 500 lru, sorted". */
void rp_stream_name_run(const rp_stream_run *run, char *out, size_t size);
/* Members that all objects begin with. */
void rp_stream_put_head(rp_json_writer *writer, const rp_stream_options *o,
                        const rp_stream_run *run, rp_str category);
/* The hits of the policy's frontier at the bound it runs under, and what it keeps of them;
 * NaN: not known, or nothing to keep. */
double rp_stream_frontier_of(const rp_frontiers *frontiers, const rp_stream_run *run);
double rp_stream_kept_of(const rp_counts *counts, double frontier);

#endif
