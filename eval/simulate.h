/* simulate.h - one policy over one stream, as the server would have served it.
 *
 * The driver around the policy, the gates and the index are those of the server; only
 * the store is missing (an entry is a line of the stream) and the truth is at hand. Each
 * request:
 *
 *   1. an equal text of the same scope hits exactly, before any policy; counted apart;
 *   2. else the nearest 8 entries of its scope go to the driver;
 *   3. on a miss its answer becomes an entry, unless the policy wants none; the policy
 *      is told, `label_delay` requests later, whether the candidate would have been right;
 *   4. of the hits a share `audit` also goes upstream, and the policy is told.
 *
 * What a policy cannot know in a server it is not told here: hits that nobody audits.
 *
 * Threads: used by one thread at a time. */
#ifndef RP_EVAL_SIMULATE_H
#define RP_EVAL_SIMULATE_H

#include "eval/metrics.h"
#include "eval/stream.h"
#include "eval/vectors.h"
#include "json/json.h"

#include <stdio.h>

typedef struct rp_simulation {
    const rp_stream *stream;
    const rp_vectors *vectors;  /* (texts) if by_text, else (lines) */
    bool by_text;
    const uint32_t *order;      /* (stream->count) line numbers */
    uint64_t seed;
    double error_max;           /* NaN: not given */
    uint32_t gates;             /* bits of the gates that run */
    bool strict;
    bool learn_misses;          /* --labels miss, audit */
    double audit;               /* share of hits */
    size_t label_delay;         /* requests */
    bool has_judge;             /* simulated: knows the truth, lies with judge_error */
    double judge_error, judge_cost;
    double request_cost;        /* US$ where the stream gives none */
    FILE *decisions_out;        /* NULL: none */
} rp_simulation;

typedef struct rp_counts {
    uint64_t requests, exact_hits, exact_wrong, hits, wrong_hits; /* hits: semantic */
} rp_counts;

/* How often a policy's own estimate of a wrong answer came true: one bin of estimates. The
 * candidate counts whether it was served or not, for the simulation knows the truth. */
typedef struct rp_risk_bin {
    uint64_t count, wrong;
    double risk_sum;
} rp_risk_bin;
enum { RP_RISK_BINS = 12 };
/* Upper ends of the bins; an estimate at an end belongs to the bin above, 1 to the last. */
extern const double rp_risk_ends[RP_RISK_BINS];

typedef struct rp_simulation_result {
    rp_counts all;
    rp_counts *categories; /* (stream->categories.count); owned */
    rp_risk_bin risks[RP_RISK_BINS]; /* all 0: the policy estimates nothing */
    uint64_t upstream_calls, audits, judge_calls, labels, entries;
    double cost_all, cost_saved; /* US$; saved: net of audits and judge */
    size_t state_bytes;          /* of the policy */
    double decide_us_mean, decide_us_p50, decide_us_p99; /* gates, policy and simulated judge */
    double search_us_p50, search_us_p99;
    double seconds;              /* of the whole run */
} rp_simulation_result;

/* Fails: RP_ERR_INVALID (the SPEC), RP_ERR_NOMEM, RP_ERR_IO (decisions). */
RP_NODISCARD rp_status rp_simulate(const rp_simulation *simulation, const char *spec,
                                   rp_simulation_result *out, rp_error *error);
void rp_simulation_result_fini(rp_simulation_result *result);

/* A threshold in hindsight: every request becomes an entry, whatever was decided, and the
 * nearest one (of the 8 nearest without a veto, if gates run) is scored. This is not a
 * cache, but what the published tables show. */
typedef struct rp_sweep {
    rp_scored *rows;  /* sorted; owned */
    size_t count;     /* semantic requests with a candidate */
    uint64_t requests, exact_hits, exact_wrong;
    uint64_t possible, nearest_right; /* an earlier request has the answer; the nearest does */
} rp_sweep;
RP_NODISCARD rp_status rp_sweep_run(const rp_simulation *simulation, rp_sweep *out,
                                    rp_error *error);
void rp_sweep_fini(rp_sweep *sweep);

#endif
