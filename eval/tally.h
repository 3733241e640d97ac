/* tally.h - what a simulated run adds up to: counts, the curve over time, cost, latency.
 *
 * Cost. Without a cache every request costs what the stream says (or a stated price). With
 * one, upstream calls and audits cost that, a judge costs a stated price a call, and what
 * embedding, search and decision take costs a stated price for each hour of a core. Saved is
 * the difference; the cost reduction ratio is saved / all. A wrong hit saves as much as a
 * right one: `saved_right` leaves the wrong ones out.
 *
 * Latency. A request takes embedding + search + decision, plus the judge where somebody
 * waits for one, plus the upstream on a miss. The first three are measured, the others
 * stated: upstream times are drawn from a log-normal distribution, one for each line of the
 * stream, the same for every policy and order. A hit of the exact tier counts as nothing.
 *
 * The curve has windows of equally many requests each, and sums up to their ends.
 *
 * Threads: used by one thread at a time. */
#ifndef RP_EVAL_TALLY_H
#define RP_EVAL_TALLY_H

#include "base/buffer.h"
#include "eval/metrics.h"

typedef struct rp_counts {
    uint64_t requests, exact_hits, exact_wrong, hits, wrong_hits; /* hits: semantic */
} rp_counts;

/* What is stated, not measured. */
typedef struct rp_tally_options {
    double request_cost;    /* US$ where the stream gives none */
    double judge_cost;      /* US$ a call */
    double core_hour_cost;  /* US$ */
    double upstream_ms;     /* median */
    double upstream_spread; /* standard deviation of its logarithm; 0: always the same */
    double judge_ms;        /* a judge that is waited for */
    size_t windows;         /* of the curve; 0: none */
} rp_tally_options;

typedef struct rp_window {
    uint64_t end;           /* requests up to here, warm-up aside */
    rp_counts counts;       /* of this window */
    uint64_t upstream_calls, audits, entries; /* entries: there at its end */
} rp_window;

typedef struct rp_spread {
    double mean, p50, p99;
} rp_spread;

/* How often a policy's own estimate of a wrong answer came true: one bin of estimates. The
 * candidate counts whether it was served or not, for the simulation knows the truth. */
typedef struct rp_risk_bin {
    uint64_t count, wrong;
    double risk_sum;
} rp_risk_bin;
enum { RP_RISK_BINS = 12 };
/* Upper ends of the bins; an estimate at an end belongs to the bin above, 1 to the last. */
extern const double rp_risk_ends[RP_RISK_BINS];

typedef struct rp_tally {
    rp_counts all;
    rp_counts *categories; /* (category_count); owned */
    size_t category_count;
    rp_window *curve;      /* (curve_count); owned */
    size_t curve_count;
    rp_risk_bin risks[RP_RISK_BINS]; /* all 0: the policy estimates nothing */
    uint64_t warm;         /* requests before counting began */
    uint64_t upstream_calls, audits, judge_calls, labels;
    uint64_t verifier_calls;
    uint64_t collisions;   /* would-be hits that the check of key collisions stopped */
    uint64_t entries;      /* that ever came in, warm-up too */
    uint64_t entries_last; /* there at the end */
    uint64_t evicted, expired, withheld; /* withheld: candidates that may not answer: personal,
                                            temporal, expired */
    double cost_all, cost_upstream, cost_audits, cost_judge, cost_compute; /* US$ */
    double cost_saved, cost_saved_right; /* US$, net */
    double reduction;      /* cost_saved / cost_all */
    rp_spread embed_us;    /* NaN: not known, and counted as nothing */
    rp_spread search_us, decide_us; /* decide: gates, policy and simulated judge */
    rp_spread with_ms, without_ms;  /* latency of a request */
    uint64_t state_bytes;  /* of the policy */
    double seconds, cpu_seconds; /* of the whole run */
} rp_tally;

/* Mean, median and 99th percentile; sorts. NaN for none. */
rp_spread rp_spread_of(float *values, size_t count);

/* The upstream time of a line in milliseconds. */
double rp_upstream_ms(const rp_tally_options *options, uint32_t line);

/* Room for categories and windows. Fails: RP_ERR_NOMEM. */
RP_NODISCARD rp_status rp_tally_init(rp_tally *tally, size_t category_count, size_t requests,
                                     const rp_tally_options *options);
void rp_tally_fini(rp_tally *tally);

/* One request that counts. */
typedef enum rp_served { RP_SERVED_UPSTREAM, RP_SERVED_EXACT, RP_SERVED_SEMANTIC } rp_served;
typedef struct rp_tallied {
    rp_served served;
    bool right;        /* of a hit */
    bool audited;      /* a hit that went upstream as well */
    uint32_t category;
    double cost;       /* US$ of an upstream call */
} rp_tallied;
void rp_tally_add(rp_tally *tally, const rp_tallied *request, uint64_t entries_now);
/* An estimate of the risk, and whether it came true. What is no probability is passed over. */
void rp_tally_add_risk(rp_tally *tally, double risk, bool wrong);
/* Sums that need the end: what was computed for `compute_us` microseconds of one core. */
void rp_tally_finish(rp_tally *tally, const rp_tally_options *options, double compute_us);

/* As bytes, to be kept in a file until a run is resumed; only the same program reads them. */
void rp_tally_encode(const rp_tally *tally, rp_buffer *out);
RP_NODISCARD rp_status rp_tally_decode(rp_str bytes, size_t category_count, rp_tally *out);

#endif
