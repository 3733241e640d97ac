/* metrics.c - see metrics.h.
 *
 * A shard belongs to one thread, found through a thread-local pointer; its numbers
 * are written by that thread only (relaxed load and store, no locked instruction)
 * and read by whoever scrapes. A shard is about 125 KiB of untouched zero pages,
 * of which a busy server touches a few. */
#include "server/metrics.h"
#include "base/bytes.h"

#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

/* Upper limits of stage buckets in microseconds; protocol.md asks for 10 us to 60 s. */
static const int64_t stage_limits_us[] = {
    10,    25,     50,     100,    250,     500,     1000,    2500,     5000,     10000,
    25000, 50000, 100000, 250000, 500000, 1000000, 2500000, 5000000, 10000000, 30000000, 60000000,
};
static const int64_t age_limits_s[] = { 1, 10, 60, 600, 3600, 21600, 86400, 604800, 2592000 };

enum {
    LABELS = RP_METRIC_LABELS_MAX + 1, /* the last is "other" */
    STAGE_BUCKETS = RP_COUNT(stage_limits_us) + 1,
    SIMILARITY_BUCKETS = 26 + 1, /* <= 0.50, 0.52 ... 1.00, and the rest (rounding) */
    AGE_BUCKETS = RP_COUNT(age_limits_s) + 1,
    APIS = RP_WIRE_COUNT + 1,
    TIERS = RP_TIER_SEMANTIC + 1,
    THREADS_MAX = 256,
};

/* An audit that happened with probability p stands for (1 - p) / p hits that were served. */
enum { AUDIT_WRONG, AUDIT_RIGHT, AUDIT_UNKNOWN, AUDIT_VERDICTS };
enum { WEIGHT_WRONG, WEIGHT_ALL, WEIGHT_SQUARES, AUDIT_WEIGHTS };
#define AUDIT_WEIGHT_MAX 1e5 /* of one audit; a guess that keeps the sums within 64 bits */

typedef _Atomic uint64_t counter; /* relaxed everywhere: a sum that is a moment late is fine */

typedef struct shard {
    counter requests[LABELS][TIERS][RP_KINDS][APIS];
    counter families[RP_FAMILIES][LABELS];
    counter sums[RP_SUMS];
    counter stages[RP_STAGES][STAGE_BUCKETS];
    counter stage_sums_us[RP_STAGES];
    counter similarity[RP_KINDS][SIMILARITY_BUCKETS];
    counter similarity_sums_e6[RP_KINDS];
    counter audits[LABELS][AUDIT_VERDICTS];
    counter audit_weights_e6[LABELS][AUDIT_WEIGHTS];
    counter ages[AGE_BUCKETS];
    counter age_sum_s;
} shard;

/* Labels are appended and never change: `count` is released after the text is in
 * place and acquired by readers, who then need no lock. */
typedef struct label_table {
    _Atomic size_t count;
    char *texts[RP_METRIC_LABELS_MAX]; /* owned */
} label_table;

struct rp_metrics {
    pthread_mutex_t lock; /* labels and shards are added under it; a leaf */
    label_table routes, families[RP_FAMILIES];
    _Atomic size_t shard_count; /* released after the shard is in place */
    shard *shards[THREADS_MAX];
    uint64_t serial; /* tells a new object at an old address from the old one */
};

static _Atomic uint64_t serial_last;
static _Thread_local struct {
    const rp_metrics *metrics;
    uint64_t serial;
    shard *shard;
} mine;

static const char *const kind_names[RP_KINDS] = {
    "hit", "miss", "bypass", "refresh", "stale", "shadow-hit",
};
static const char *const kind_metric_names[RP_KINDS] = {
    "hit", "miss", "bypass", "refresh", "stale", "shadow_hit",
};
static const char *const stage_names[RP_STAGES] = {
    "parse", "embed", "search", "gate", "policy", "verify", "judge", "replay", "upstream",
};

const char *
rp_outcome_kind_name(rp_outcome_kind kind)
{
    return kind_names[kind];
}

const char *
rp_outcome_kind_metric_name(rp_outcome_kind kind)
{
    return kind_metric_names[kind];
}

const char *
rp_stage_name(rp_stage stage)
{
    return stage_names[stage];
}

const char *
rp_tier_label(rp_tier tier)
{
    return tier == RP_TIER_EXACT ? "exact" : tier == RP_TIER_SEMANTIC ? "semantic" : "none";
}

rp_status
rp_metrics_new(rp_metrics **out)
{
    rp_metrics *metrics = calloc(1, sizeof *metrics);
    if (!metrics)
        return RP_ERR_NOMEM;
    pthread_mutex_init(&metrics->lock, NULL);
    metrics->serial = atomic_fetch_add(&serial_last, 1) + 1;
    *out = metrics;
    return RP_OK;
}

static void
free_labels(label_table *table)
{
    for (size_t i = 0; i < atomic_load(&table->count); i++)
        free(table->texts[i]);
}

void
rp_metrics_free(rp_metrics *metrics)
{
    if (!metrics)
        return;
    free_labels(&metrics->routes);
    for (size_t i = 0; i < RP_FAMILIES; i++)
        free_labels(&metrics->families[i]);
    for (size_t i = 0; i < atomic_load(&metrics->shard_count); i++)
        free(metrics->shards[i]);
    pthread_mutex_destroy(&metrics->lock);
    free(metrics);
}

/* The calling thread's own counters; NULL if there is no memory: then it does not count. */
static shard *
find_shard(rp_metrics *metrics)
{
    if (mine.metrics == metrics && mine.serial == metrics->serial)
        return mine.shard;
    shard *found = calloc(1, sizeof *found);
    if (!found)
        return NULL;
    pthread_mutex_lock(&metrics->lock);
    const size_t count = atomic_load_explicit(&metrics->shard_count, memory_order_relaxed);
    if (count < THREADS_MAX) {
        metrics->shards[count] = found;
        atomic_store_explicit(&metrics->shard_count, count + 1, memory_order_release);
    } else {
        free(found);
        found = NULL;
    }
    pthread_mutex_unlock(&metrics->lock);
    if (found) {
        mine.metrics = metrics;
        mine.serial = metrics->serial;
        mine.shard = found;
    }
    return found;
}

static void
add(counter *at, uint64_t amount)
{
    const uint64_t old = atomic_load_explicit(at, memory_order_relaxed);
    atomic_store_explicit(at, old + amount, memory_order_relaxed);
}

static size_t
find_label(const label_table *table, const char *label)
{
    const size_t count = atomic_load_explicit(&table->count, memory_order_acquire);
    for (size_t i = 0; i < count; i++)
        if (strcmp(table->texts[i], label) == 0)
            return i;
    return SIZE_MAX;
}

static size_t
label_index(rp_metrics *metrics, label_table *table, const char *label)
{
    if (!label || !*label)
        label = "none";
    size_t at = find_label(table, label);
    if (at != SIZE_MAX)
        return at;
    pthread_mutex_lock(&metrics->lock);
    at = find_label(table, label);
    const size_t count = atomic_load_explicit(&table->count, memory_order_relaxed);
    if (at == SIZE_MAX && count < RP_METRIC_LABELS_MAX && (table->texts[count] = strdup(label))) {
        at = count;
        atomic_store_explicit(&table->count, count + 1, memory_order_release);
    }
    pthread_mutex_unlock(&metrics->lock);
    return at == SIZE_MAX ? RP_METRIC_LABELS_MAX : at;
}

/* Labels of `api`: the wires by name, anything else counts as the last. */
static size_t
api_index(const char *api)
{
    for (size_t i = 0; i < RP_WIRE_COUNT; i++)
        if (strcmp(rp_wire_name((rp_wire)i), api) == 0)
            return i;
    return RP_WIRE_COUNT;
}

void
rp_metrics_request(rp_metrics *metrics, const char *route, rp_tier tier, rp_outcome_kind outcome,
                   const char *api)
{
    shard *own = find_shard(metrics);
    if (own)
        add(&own->requests[label_index(metrics, &metrics->routes, route)][tier][outcome]
                          [api_index(api)],
            1);
}

void
rp_metrics_count(rp_metrics *metrics, rp_family family, const char *label)
{
    shard *own = find_shard(metrics);
    if (own)
        add(&own->families[family][label_index(metrics, &metrics->families[family], label)], 1);
}

void
rp_metrics_add(rp_metrics *metrics, rp_sum sum, int64_t amount)
{
    shard *own = find_shard(metrics);
    if (own && amount > 0)
        add(&own->sums[sum], (uint64_t)amount);
}

void
rp_metrics_stage(rp_metrics *metrics, rp_stage stage, int64_t duration_us)
{
    shard *own = find_shard(metrics);
    if (!own)
        return;
    size_t bucket = 0;
    while (bucket < RP_COUNT(stage_limits_us) && duration_us > stage_limits_us[bucket])
        bucket++;
    add(&own->stages[stage][bucket], 1);
    if (duration_us > 0)
        add(&own->stage_sums_us[stage], (uint64_t)duration_us);
}

void
rp_metrics_similarity(rp_metrics *metrics, rp_outcome_kind outcome, double similarity)
{
    shard *own = find_shard(metrics);
    if (!own || !isfinite(similarity))
        return;
    size_t bucket = 0;
    while (bucket < SIMILARITY_BUCKETS - 1 && similarity > 0.50 + 0.02 * (double)bucket + 1e-9)
        bucket++;
    add(&own->similarity[outcome][bucket], 1);
    if (similarity > 0)
        add(&own->similarity_sums_e6[outcome], (uint64_t)(similarity * 1e6));
}

void
rp_metrics_entry_age(rp_metrics *metrics, int64_t age_us)
{
    shard *own = find_shard(metrics);
    if (!own)
        return;
    const int64_t age_s = RP_MAX(age_us, 0) / 1000000;
    size_t bucket = 0;
    while (bucket < RP_COUNT(age_limits_s) && age_s > age_limits_s[bucket])
        bucket++;
    add(&own->ages[bucket], 1);
    add(&own->age_sum_s, (uint64_t)age_s);
}

void
rp_metrics_audit(rp_metrics *metrics, const char *route, int verdict, double probability)
{
    shard *own = find_shard(metrics);
    if (!own || !(probability > 0))
        return;
    const size_t at = label_index(metrics, &metrics->routes, route);
    add(&own->audits[at][verdict < 0 ? AUDIT_UNKNOWN : verdict ? AUDIT_RIGHT : AUDIT_WRONG], 1);
    if (verdict < 0)
        return;
    const double weight = fmin(fmax((1 - probability) / probability, 0), AUDIT_WEIGHT_MAX);
    counter *weights = own->audit_weights_e6[at];
    if (!verdict)
        add(&weights[WEIGHT_WRONG], (uint64_t)llround(weight * 1e6));
    add(&weights[WEIGHT_ALL], (uint64_t)llround(weight * 1e6));
    add(&weights[WEIGHT_SQUARES], (uint64_t)llround(weight * weight * 1e6));
}

/* ---- reading ------------------------------------------------------------------ */

/* The sum over shards of the counter at this byte offset. */
static uint64_t
total_at(rp_metrics *metrics, size_t offset)
{
    uint64_t total = 0;
    const size_t count = atomic_load_explicit(&metrics->shard_count, memory_order_acquire);
    for (size_t i = 0; i < count; i++) {
        counter *at = (counter *)((char *)metrics->shards[i] + offset);
        total += atomic_load_explicit(at, memory_order_relaxed);
    }
    return total;
}

uint64_t
rp_metrics_sum(rp_metrics *metrics, rp_sum sum)
{
    return total_at(metrics, offsetof(shard, sums) + sum * sizeof(counter));
}

static size_t
request_offset(size_t route, size_t tier, size_t kind, size_t api)
{
    const size_t at = ((route * TIERS + tier) * RP_KINDS + kind) * APIS + api;
    return offsetof(shard, requests) + at * sizeof(counter);
}

uint64_t
rp_metrics_requests(rp_metrics *metrics, rp_outcome_kind outcome)
{
    uint64_t total = 0;
    for (size_t route = 0; route < LABELS; route++)
        for (size_t tier = 0; tier < TIERS; tier++)
            for (size_t api = 0; api < APIS; api++)
                total += total_at(metrics, request_offset(route, tier, outcome, api));
    return total;
}

static size_t
family_offset(size_t family, size_t label)
{
    return offsetof(shard, families) + (family * LABELS + label) * sizeof(counter);
}

uint64_t
rp_metrics_family(rp_metrics *metrics, rp_family family, const char *label)
{
    const size_t at = find_label(&metrics->families[family], label);
    return at == SIZE_MAX ? 0 : total_at(metrics, family_offset(family, at));
}

static const char *
label_text(const label_table *table, size_t at)
{
    return at < atomic_load_explicit(&table->count, memory_order_acquire) ? table->texts[at]
                                                                          : "other";
}

void
rp_metrics_write_label(rp_buffer *out, const char *value)
{
    for (; *value; value++) {
        if (*value == '\\' || *value == '"')
            rp_buffer_append_char(out, '\\');
        if (*value == '\n')
            rp_buffer_append(out, RP_STR("\\n"));
        else
            rp_buffer_append_char(out, *value);
    }
}

static void
write_head(rp_buffer *out, const char *name, const char *type, const char *help)
{
    rp_buffer_printf(out, "# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

void
rp_metrics_write_value(rp_buffer *out, const char *name, const char *type, const char *help,
                       const char *labels, double value)
{
    write_head(out, name, type, help);
    rp_buffer_printf(out, "%s%s %.17g\n", name, labels, value);
}

static void
write_requests(rp_metrics *metrics, rp_buffer *out)
{
    write_head(out, "reprise_cache_requests_total", "counter",
               "Requests by what the cache did with them.");
    for (size_t route = 0; route < LABELS; route++)
        for (size_t tier = 0; tier < TIERS; tier++)
            for (size_t kind = 0; kind < RP_KINDS; kind++)
                for (size_t api = 0; api < APIS; api++) {
                    const uint64_t n = total_at(metrics, request_offset(route, tier, kind, api));
                    if (n == 0)
                        continue;
                    rp_buffer_append(out, RP_STR("reprise_cache_requests_total{route=\""));
                    rp_metrics_write_label(out, label_text(&metrics->routes, route));
                    rp_buffer_printf(out, "\",tier=\"%s\",outcome=\"%s\",api=\"%s\"} %llu\n",
                                     rp_tier_label((rp_tier)tier), kind_metric_names[kind],
                                     api < RP_WIRE_COUNT ? rp_wire_name((rp_wire)api) : "other",
                                     (unsigned long long)n);
                }
}

static void
write_families(rp_metrics *metrics, rp_buffer *out)
{
    static const struct {
        const char *name, *label, *help;
    } heads[RP_FAMILIES] = {
        { "reprise_cache_write_skipped_total", "reason", "Replies that were not kept." },
        { "reprise_cache_reasons_total", "reason", "Misses and bypasses by reason." },
        { "reprise_singleflight_waiters_total", "outcome",
          "Requests that waited for an identical one in flight." },
        { "reprise_upstream_requests_total", "status_class", "Requests sent upstream." },
    };
    for (size_t family = 0; family < RP_FAMILIES; family++) {
        write_head(out, heads[family].name, "counter", heads[family].help);
        for (size_t label = 0; label < LABELS; label++) {
            const uint64_t n = total_at(metrics, family_offset(family, label));
            if (n == 0)
                continue;
            rp_buffer_printf(out, "%s{%s=\"", heads[family].name, heads[family].label);
            rp_metrics_write_label(out, label_text(&metrics->families[family], label));
            rp_buffer_printf(out, "\"} %llu\n", (unsigned long long)n);
        }
    }
}

static void
write_stages(rp_metrics *metrics, rp_buffer *out)
{
    const char *name = "reprise_stage_duration_seconds";
    write_head(out, name, "histogram", "Time spent in each stage of a request.");
    for (size_t stage = 0; stage < RP_STAGES; stage++) {
        uint64_t n = 0;
        for (size_t b = 0; b < STAGE_BUCKETS; b++) {
            n += total_at(metrics, offsetof(shard, stages) +
                                       (stage * STAGE_BUCKETS + b) * sizeof(counter));
            if (b < RP_COUNT(stage_limits_us))
                rp_buffer_printf(out, "%s_bucket{stage=\"%s\",le=\"%g\"} %llu\n", name,
                                 stage_names[stage], (double)stage_limits_us[b] * 1e-6,
                                 (unsigned long long)n);
        }
        const uint64_t sum_us =
            total_at(metrics, offsetof(shard, stage_sums_us) + stage * sizeof(counter));
        rp_buffer_printf(out,
                         "%s_bucket{stage=\"%s\",le=\"+Inf\"} %llu\n%s_sum{stage=\"%s\"} %.6f\n"
                         "%s_count{stage=\"%s\"} %llu\n",
                         name, stage_names[stage], (unsigned long long)n, name,
                         stage_names[stage], (double)sum_us * 1e-6, name, stage_names[stage],
                         (unsigned long long)n);
    }
}

static void
write_similarity(rp_metrics *metrics, rp_buffer *out)
{
    const char *name = "reprise_similarity";
    write_head(out, name, "histogram", "Cosine of the best candidate, by outcome.");
    for (size_t kind = 0; kind < RP_KINDS; kind++) {
        uint64_t n = 0, counts[SIMILARITY_BUCKETS];
        for (size_t b = 0; b < SIMILARITY_BUCKETS; b++)
            counts[b] = n += total_at(metrics, offsetof(shard, similarity) +
                                                   (kind * SIMILARITY_BUCKETS + b) *
                                                       sizeof(counter));
        if (n == 0)
            continue;
        for (size_t b = 0; b < SIMILARITY_BUCKETS - 1; b++)
            rp_buffer_printf(out, "%s_bucket{outcome=\"%s\",le=\"%.2f\"} %llu\n", name,
                             kind_metric_names[kind], 0.50 + 0.02 * (double)b,
                             (unsigned long long)counts[b]);
        const uint64_t sum =
            total_at(metrics, offsetof(shard, similarity_sums_e6) + kind * sizeof(counter));
        rp_buffer_printf(out,
                         "%s_bucket{outcome=\"%s\",le=\"+Inf\"} %llu\n%s_sum{outcome=\"%s\"} "
                         "%.6f\n%s_count{outcome=\"%s\"} %llu\n",
                         name, kind_metric_names[kind], (unsigned long long)n, name,
                         kind_metric_names[kind], (double)sum * 1e-6, name,
                         kind_metric_names[kind], (unsigned long long)n);
    }
}

static void
write_ages(rp_metrics *metrics, rp_buffer *out)
{
    const char *name = "reprise_entry_age_seconds";
    write_head(out, name, "histogram", "Age of entries when they answered.");
    uint64_t n = 0;
    for (size_t b = 0; b < AGE_BUCKETS; b++) {
        n += total_at(metrics, offsetof(shard, ages) + b * sizeof(counter));
        if (b < RP_COUNT(age_limits_s))
            rp_buffer_printf(out, "%s_bucket{le=\"%lld\"} %llu\n", name,
                             (long long)age_limits_s[b], (unsigned long long)n);
    }
    rp_buffer_printf(out, "%s_bucket{le=\"+Inf\"} %llu\n%s_sum %llu\n%s_count %llu\n", name,
                     (unsigned long long)n, name,
                     (unsigned long long)total_at(metrics, offsetof(shard, age_sum_s)), name,
                     (unsigned long long)n);
}

static double
audit_weight(rp_metrics *metrics, size_t route, size_t kind)
{
    return (double)total_at(metrics, offsetof(shard, audit_weights_e6) +
                                         (route * AUDIT_WEIGHTS + kind) * sizeof(counter)) * 1e-6;
}

/* Share of semantic hits among all requests of a route. */
static double
hit_share(rp_metrics *metrics, size_t route)
{
    uint64_t all = 0, hits = 0;
    for (size_t tier = 0; tier < TIERS; tier++)
        for (size_t kind = 0; kind < RP_KINDS; kind++)
            for (size_t api = 0; api < APIS; api++) {
                const uint64_t n = total_at(metrics, request_offset(route, tier, kind, api));
                all += n;
                if (tier == RP_TIER_SEMANTIC && kind == RP_KIND_HIT)
                    hits += n;
            }
    return all ? (double)hits / (double)all : 0;
}

/* Share wrong among the hits times the share of hits. The first is a ratio of weighted sums;
 * its interval is Wilson's score interval (E. B. Wilson, 1927) with the effective number of
 * audits, (sum of weights)^2 / (sum of their squares). The share of hits is taken as it is:
 * it is counted, not estimated. */
static rp_error_rate
find_error_rate(rp_metrics *metrics, size_t route)
{
    const double wrong = audit_weight(metrics, route, WEIGHT_WRONG);
    const double all = audit_weight(metrics, route, WEIGHT_ALL);
    const double squares = audit_weight(metrics, route, WEIGHT_SQUARES);
    if (!(all > 0 && squares > 0))
        return (rp_error_rate){ (double)NAN, (double)NAN, (double)NAN };
    const double z = 1.959963985, n = all * all / squares, p = fmin(wrong / all, 1);
    const double centre = (p + z * z / (2 * n)) / (1 + z * z / n);
    const double half = z / (1 + z * z / n) * sqrt(p * (1 - p) / n + z * z / (4 * n * n));
    const double share = hit_share(metrics, route);
    return (rp_error_rate){ share * p, share * fmax(centre - half, 0), share * fmin(centre + half, 1) };
}

rp_error_rate
rp_metrics_error_rate(rp_metrics *metrics, const char *route)
{
    const size_t at = find_label(&metrics->routes, route);
    return at == SIZE_MAX ? (rp_error_rate){ (double)NAN, (double)NAN, (double)NAN }
                          : find_error_rate(metrics, at);
}

static void
write_audits(rp_metrics *metrics, rp_buffer *out)
{
    static const char *const verdicts[AUDIT_VERDICTS] = { "wrong", "right", "unknown" };
    write_head(out, "reprise_audits_total", "counter",
               "Requests that went upstream although the policy had an answer, by what that was.");
    for (size_t verdict = 0; verdict < AUDIT_VERDICTS; verdict++) {
        uint64_t n = 0;
        for (size_t route = 0; route < LABELS; route++)
            n += total_at(metrics, offsetof(shard, audits) +
                                       (route * AUDIT_VERDICTS + verdict) * sizeof(counter));
        rp_buffer_printf(out, "reprise_audits_total{verdict=\"%s\"} %llu\n", verdicts[verdict],
                         (unsigned long long)n);
    }
}

static void
write_error_rates(rp_metrics *metrics, rp_buffer *out)
{
    static const struct {
        const char *name, *help;
        size_t offset;
    } gauges[] = {
        { "reprise_error_rate_estimate",
          "Share of all requests that got a wrong answer, from audits; NaN without audits.",
          offsetof(rp_error_rate, estimate) },
        { "reprise_error_rate_lower", "Its 95 % interval.", offsetof(rp_error_rate, lower) },
        { "reprise_error_rate_upper", "Its 95 % interval.", offsetof(rp_error_rate, upper) },
    };
    const size_t routes = atomic_load_explicit(&metrics->routes.count, memory_order_acquire);
    for (size_t i = 0; i < RP_COUNT(gauges); i++) {
        write_head(out, gauges[i].name, "gauge", gauges[i].help);
        for (size_t route = 0; route < routes; route++) {
            const rp_error_rate rate = find_error_rate(metrics, route);
            double value;
            memcpy(&value, (const char *)&rate + gauges[i].offset, sizeof value);
            rp_buffer_printf(out, "%s{route=\"", gauges[i].name);
            rp_metrics_write_label(out, label_text(&metrics->routes, route));
            if (isnan(value))
                rp_buffer_append(out, RP_STR("\"} NaN\n"));
            else
                rp_buffer_printf(out, "\"} %.6g\n", value);
        }
    }
}

static void
write_costs(rp_metrics *metrics, rp_buffer *out)
{
    static const struct {
        rp_sum sum;
        const char *kind;
    } rows[] = {
        { RP_SUM_COST_BILLED, "billed" },
        { RP_SUM_COST_SAVED, "saved" },
        { RP_SUM_COST_AUDIT, "audit" },
        { RP_SUM_COST_JUDGE, "judge" },
    };
    write_head(out, "reprise_cost_usd_total", "counter",
               "US$ of models with a configured price: spent, or saved by a hit.");
    for (size_t i = 0; i < RP_COUNT(rows); i++)
        rp_buffer_printf(out, "reprise_cost_usd_total{kind=\"%s\"} %.12g\n", rows[i].kind,
                         (double)rp_metrics_sum(metrics, rows[i].sum) * 1e-12);
}

static void
write_tokens(rp_metrics *metrics, rp_buffer *out)
{
    static const struct {
        rp_sum sum;
        const char *kind, *direction;
    } rows[] = {
        { RP_SUM_TOKENS_BILLED_INPUT, "billed", "input" },
        { RP_SUM_TOKENS_BILLED_OUTPUT, "billed", "output" },
        { RP_SUM_TOKENS_SAVED_INPUT, "saved", "input" },
        { RP_SUM_TOKENS_SAVED_OUTPUT, "saved", "output" },
    };
    write_head(out, "reprise_tokens_total", "counter",
               "Tokens: billed by the upstream, or saved by a hit.");
    for (size_t i = 0; i < RP_COUNT(rows); i++)
        rp_buffer_printf(out, "reprise_tokens_total{kind=\"%s\",direction=\"%s\"} %llu\n",
                         rows[i].kind, rows[i].direction,
                         (unsigned long long)rp_metrics_sum(metrics, rows[i].sum));
}

void
rp_metrics_write(rp_metrics *metrics, rp_buffer *out)
{
    static const struct {
        rp_sum sum;
        const char *name, *help;
    } plain[] = {
        { RP_SUM_BYTES_IN, "reprise_request_body_bytes_total", "Bytes of request bodies." },
        { RP_SUM_BYTES_OUT, "reprise_response_body_bytes_total", "Bytes of reply bodies." },
        { RP_SUM_CLIENT_GONE, "reprise_clients_gone_total",
          "Clients that left before their reply was whole." },
        { RP_SUM_LOG_LINES_DROPPED, "reprise_access_log_dropped_total",
          "Access log lines that could not be written in time." },
        { RP_SUM_REFUSED, "reprise_requests_refused_total", "Requests refused with 503." },
        { RP_SUM_ENCODED, "reprise_encoded_texts_total",
          "Prompts encoded, for a look-up or for a new entry." },
    };
    write_requests(metrics, out);
    write_families(metrics, out);
    write_stages(metrics, out);
    write_similarity(metrics, out);
    write_ages(metrics, out);
    write_tokens(metrics, out);
    write_costs(metrics, out);
    write_audits(metrics, out);
    write_error_rates(metrics, out);
    for (size_t i = 0; i < RP_COUNT(plain); i++)
        rp_metrics_write_value(out, plain[i].name, "counter", plain[i].help, "",
                               (double)rp_metrics_sum(metrics, plain[i].sum));
}
