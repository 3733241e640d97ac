/* metrics.h - what the server counts, and how Prometheus reads it.
 *
 * Names and labels are those of docs/protocol.md, "Metrics". Every thread adds to
 * counters of its own (a shard), so that counting never makes two threads wait for
 * one cache line; a reader adds the shards up. Labels are few and bounded: a label
 * beyond the bound counts as "other". Prompts, keys and users are never labels.
 *
 * Threads: counting from any thread without locks; a label's first use locks.
 *          rp_metrics_write from any thread. */
#ifndef RP_SERVER_METRICS_H
#define RP_SERVER_METRICS_H

#include "base/buffer.h"
#include "wire/wire.h"
#include <reprise/policy.h>
#include <reprise/status.h>

typedef struct rp_metrics rp_metrics;

/* What the cache did with a request: the header X-Reprise-Cache, the label `outcome`. */
typedef enum rp_outcome_kind {
    RP_KIND_HIT,
    RP_KIND_MISS,
    RP_KIND_BYPASS,
    RP_KIND_REFRESH,
    RP_KIND_STALE,
    RP_KIND_SHADOW_HIT,
    RP_KINDS,
} rp_outcome_kind;
const char *rp_outcome_kind_name(rp_outcome_kind kind);        /* "shadow-hit" */
const char *rp_outcome_kind_metric_name(rp_outcome_kind kind); /* "shadow_hit" */
const char *rp_tier_label(rp_tier tier);                       /* "exact", "semantic", "none" */

typedef enum rp_stage {
    RP_STAGE_PARSE,
    RP_STAGE_EMBED,
    RP_STAGE_SEARCH,
    RP_STAGE_GATE,
    RP_STAGE_POLICY,
    RP_STAGE_VERIFY,
    RP_STAGE_JUDGE,
    RP_STAGE_REPLAY,
    RP_STAGE_UPSTREAM, /* until the first byte of the reply */
    RP_STAGES,
} rp_stage;
const char *rp_stage_name(rp_stage stage);

/* Plain sums without labels of their own. */
typedef enum rp_sum {
    RP_SUM_TOKENS_BILLED_INPUT,
    RP_SUM_TOKENS_BILLED_OUTPUT,
    RP_SUM_TOKENS_SAVED_INPUT,
    RP_SUM_TOKENS_SAVED_OUTPUT,
    RP_SUM_COST_BILLED,       /* in 1e-12 US$, where a price is configured */
    RP_SUM_COST_SAVED,
    RP_SUM_COST_AUDIT,        /* calls that were made although the store had an answer */
    RP_SUM_COST_JUDGE,
    RP_SUM_BYTES_IN,          /* bodies of requests */
    RP_SUM_BYTES_OUT,         /* bodies of replies */
    RP_SUM_CLIENT_GONE,       /* clients that left before their reply was whole */
    RP_SUM_LOG_LINES_DROPPED, /* access log lines that the disk was too slow for */
    RP_SUM_REFUSED,           /* 503 at the last limit */
    RP_SUM_ENCODED,           /* texts encoded for look-ups and entries */
    RP_SUMS,
} rp_sum;

/* Counters with one free label each. */
typedef enum rp_family {
    RP_FAMILY_WRITE_SKIPPED,   /* reprise_cache_write_skipped_total{reason} */
    RP_FAMILY_MISS_REASONS,    /* reprise_cache_reasons_total{reason}: misses and bypasses */
    RP_FAMILY_SINGLEFLIGHT,    /* reprise_singleflight_waiters_total{outcome} */
    RP_FAMILY_UPSTREAM,        /* reprise_upstream_requests_total{status_class} */
    RP_FAMILIES,
} rp_family;

enum {
    RP_METRIC_LABELS_MAX = 48, /* of one family, and of routes; a further one is "other" */
};

RP_NODISCARD rp_status rp_metrics_new(rp_metrics **out);
void rp_metrics_free(rp_metrics *metrics); /* the threads that counted have ended */

void rp_metrics_request(rp_metrics *metrics, const char *route, rp_tier tier,
                        rp_outcome_kind outcome, const char *api);
void rp_metrics_count(rp_metrics *metrics, rp_family family, const char *label);
void rp_metrics_add(rp_metrics *metrics, rp_sum sum, int64_t amount); /* negative: ignored */
void rp_metrics_stage(rp_metrics *metrics, rp_stage stage, int64_t duration_us);
void rp_metrics_similarity(rp_metrics *metrics, rp_outcome_kind outcome, double similarity);
/* A request went upstream with this probability, in (0, 1], although the policy would have
 * served a candidate otherwise. `verdict`: was the candidate right? 1 yes, 0 no, -1 unknown. */
void rp_metrics_audit(rp_metrics *metrics, const char *route, int verdict, double probability);
void rp_metrics_entry_age(rp_metrics *metrics, int64_t age_us);

/* The sum over all threads; for stats calls and tests. */
uint64_t rp_metrics_sum(rp_metrics *metrics, rp_sum sum);
uint64_t rp_metrics_requests(rp_metrics *metrics, rp_outcome_kind outcome); /* all labels */
uint64_t rp_metrics_family(rp_metrics *metrics, rp_family family, const char *label);

/* How many of a route's requests got a wrong answer from the cache, with a 95 % interval,
 * from audits weighted by their probabilities; NaN without any that says something. */
typedef struct rp_error_rate {
    double estimate, lower, upper;
} rp_error_rate;
rp_error_rate rp_metrics_error_rate(rp_metrics *metrics, const char *route);

/* All of the above in the Prometheus text format 0.0.4. Gauges of other parts
 * (entries, memory, build) are appended by the caller with rp_metrics_write_value. */
void rp_metrics_write(rp_metrics *metrics, rp_buffer *out);
/* One sample with its HELP and TYPE lines; `labels` such as "{kind=\"x\"}" or "". */
void rp_metrics_write_value(rp_buffer *out, const char *name, const char *type, const char *help,
                            const char *labels, double value);
/* Append a label's value with the escapes of the format. */
void rp_metrics_write_label(rp_buffer *out, const char *value);

#endif
