/* eval_stream_print.c - results of `reprise eval stream`, for programs and for people. */
#include "tools/eval_stream.h"

#include "base/bytes.h"
#include "json/json.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

static double
share_of(uint64_t part, uint64_t whole)
{
    return whole ? (double)part / (double)whole : NAN;
}

static void
put_uint(rp_json_writer *writer, const char *name, uint64_t value)
{
    rp_json_key(writer, name);
    rp_json_put_uint(writer, value);
}

static void
put_double(rp_json_writer *writer, const char *name, double value)
{
    rp_json_key(writer, name);
    rp_json_put_double(writer, value);
}

static void
put_text(rp_json_writer *writer, const char *name, const char *text)
{
    rp_json_key(writer, name);
    rp_json_put_cstring(writer, text);
}

static void
put_interval(rp_json_writer *writer, const char *name, rp_interval interval)
{
    rp_json_key(writer, name);
    rp_json_open(writer, '[');
    rp_json_put_double(writer, interval.low);
    rp_json_put_double(writer, interval.high);
    rp_json_close(writer, ']');
}

static void
put_counts(rp_json_writer *writer, const rp_counts *c)
{
    put_uint(writer, "requests", c->requests);
    put_uint(writer, "exact_hits", c->exact_hits);
    put_uint(writer, "exact_wrong", c->exact_wrong);
    put_uint(writer, "hits", c->hits);
    put_uint(writer, "wrong_hits", c->wrong_hits);
    put_double(writer, "hit_rate", share_of(c->hits, c->requests));
    put_interval(writer, "hit_rate_95", rp_wilson(c->hits, c->requests, 0.95));
    put_double(writer, "error", share_of(c->wrong_hits, c->requests));
    put_interval(writer, "error_95", rp_clopper_pearson(c->wrong_hits, c->requests, 0.95));
    put_double(writer, "hit_error", share_of(c->wrong_hits, c->hits));
    put_interval(writer, "hit_error_95", rp_clopper_pearson(c->wrong_hits, c->hits, 0.95));
}

void
rp_stream_put_head(rp_json_writer *writer, const rp_stream_options *o, const rp_stream_run *run,
                   rp_str category)
{
    const rp_stream_policy *policy = run->policy;
    put_text(writer, "file", o->file);
    put_text(writer, "model", o->vectors ? o->vectors : o->model);
    put_text(writer, "gates", rp_stream_gates_name(o, policy));
    put_text(writer, "labels", o->labels);
    put_text(writer, "policy", policy ? policy->spec : "sweep");
    put_text(writer, "baseline", policy ? policy->baseline : NULL);
    put_text(writer, "title", policy ? policy->title : NULL);
    put_double(writer, "error_max", run->error_max);
    put_text(writer, "order", rp_stream_order_name(run->order));
    put_uint(writer, "seed", run->seed);
    rp_json_key(writer, "capacity");
    if (run->capacity)
        rp_json_put_uint(writer, run->capacity);
    else
        rp_json_put_null(writer);
    put_text(writer, "evict", run->capacity ? rp_evict_name(run->evict) : NULL);
    rp_json_key(writer, "category");
    rp_json_put_string(writer, category);
}

/* Nothing for a policy that estimates nothing. */
static void
put_risks(rp_json_writer *writer, const rp_tally *tally)
{
    rp_json_key(writer, "calibration");
    rp_json_open(writer, '[');
    for (size_t i = 0; i < RP_RISK_BINS; i++) {
        const rp_risk_bin *bin = &tally->risks[i];
        if (!bin->count)
            continue;
        rp_json_open(writer, '{');
        put_double(writer, "risk_low", i ? rp_risk_ends[i - 1] : 0);
        put_double(writer, "risk_high", rp_risk_ends[i]);
        put_double(writer, "risk_mean", bin->risk_sum / (double)bin->count);
        put_uint(writer, "count", bin->count);
        put_uint(writer, "wrong", bin->wrong);
        rp_json_close(writer, '}');
    }
    rp_json_close(writer, ']');
}

static void
put_curve(rp_json_writer *writer, const rp_tally *tally)
{
    rp_counts sum = { 0 };
    rp_json_key(writer, "curve");
    rp_json_open(writer, '[');
    for (size_t i = 0; i < tally->curve_count; i++) {
        const rp_window *window = &tally->curve[i];
        const rp_counts *c = &window->counts;
        sum.requests += c->requests;
        sum.exact_hits += c->exact_hits;
        sum.hits += c->hits;
        sum.wrong_hits += c->wrong_hits;
        rp_json_open(writer, '{');
        put_uint(writer, "end", window->end);
        put_counts(writer, c);
        put_uint(writer, "upstream_calls", window->upstream_calls);
        put_uint(writer, "audits", window->audits);
        put_uint(writer, "entries", window->entries);
        put_uint(writer, "hits_so_far", sum.hits);
        put_uint(writer, "wrong_hits_so_far", sum.wrong_hits);
        put_double(writer, "error_so_far", share_of(sum.wrong_hits, sum.requests));
        put_interval(writer, "error_so_far_95",
                     rp_clopper_pearson(sum.wrong_hits, sum.requests, 0.95));
        rp_json_close(writer, '}');
    }
    rp_json_close(writer, ']');
}

static void
put_spread(rp_json_writer *writer, const char *name, rp_spread spread)
{
    rp_json_key(writer, name);
    rp_json_open(writer, '{');
    put_double(writer, "mean", spread.mean);
    put_double(writer, "p50", spread.p50);
    put_double(writer, "p99", spread.p99);
    rp_json_close(writer, '}');
}

/* What would be saved of a time, as a share; negative: it is longer. */
static double
reduction(double with, double without)
{
    return without > 0 ? 1 - with / without : NAN;
}

static void
put_latency(rp_json_writer *writer, const rp_stream_options *o, const rp_tally *tally)
{
    const rp_tally_options *t = &o->simulation.tally;
    rp_json_key(writer, "latency");
    rp_json_open(writer, '{');
    put_double(writer, "upstream_ms", t->upstream_ms);
    put_double(writer, "upstream_spread", t->upstream_spread);
    put_double(writer, "judge_ms", t->judge_ms);
    put_spread(writer, "with_ms", tally->with_ms);
    put_spread(writer, "without_ms", tally->without_ms);
    put_double(writer, "mean_reduction", reduction(tally->with_ms.mean, tally->without_ms.mean));
    put_double(writer, "p50_reduction", reduction(tally->with_ms.p50, tally->without_ms.p50));
    put_double(writer, "p99_reduction", reduction(tally->with_ms.p99, tally->without_ms.p99));
    rp_json_close(writer, '}');
}

static void
put_cost(rp_json_writer *writer, const rp_stream_options *o, const rp_tally *tally)
{
    const rp_tally_options *t = &o->simulation.tally;
    rp_json_key(writer, "cost");
    rp_json_open(writer, '{');
    put_double(writer, "request", t->request_cost);
    put_double(writer, "judge_call", t->judge_cost);
    put_double(writer, "core_hour", t->core_hour_cost);
    put_double(writer, "all", tally->cost_all);
    put_double(writer, "upstream", tally->cost_upstream);
    put_double(writer, "audits", tally->cost_audits);
    put_double(writer, "judge", tally->cost_judge);
    put_double(writer, "compute", tally->cost_compute);
    put_double(writer, "saved", tally->cost_saved);
    put_double(writer, "saved_right", tally->cost_saved_right);
    put_double(writer, "reduction", tally->reduction);
    rp_json_close(writer, '}');
}

/* It is one of the gates, and needs the encoder. */
static bool
checks_collisions(const rp_stream_options *o, const rp_stream_policy *policy)
{
    return o->collision_check && !o->vectors && strcmp(rp_stream_gates_name(o, policy), "off") != 0;
}

double
rp_stream_frontier_of(const rp_frontiers *frontiers, const rp_stream_run *run)
{
    return frontiers ? rp_frontier_hits(frontiers, RP_FRONTIER_RISK, run->error_max) : NAN;
}

double
rp_stream_kept_of(const rp_counts *counts, double frontier)
{
    return frontier > 0 ? share_of(counts->hits, counts->requests) / frontier : NAN;
}

static void
put_all(rp_json_writer *writer, const rp_stream_options *o, const rp_stream_run *run,
        const rp_tally *tally, const rp_frontiers *frontiers)
{
    const double frontier = rp_stream_frontier_of(frontiers, run);
    put_double(writer, "frontier_hit_rate", frontier);
    put_double(writer, "kept", rp_stream_kept_of(&tally->all, frontier));
    const bool has_judge = o->has_judge || run->policy->needs_judge;
    put_text(writer, "stream_sha256", o->stream_sha256);
    put_text(writer, "encoder", o->encoder[0] ? o->encoder : NULL);
    put_text(writer, "verifier", o->verifier_print[0] ? o->verifier_print : NULL);
    put_text(writer, "collision_check", checks_collisions(o, run->policy) ? "hits" : "off");
    put_uint(writer, "warm", tally->warm);
    put_double(writer, "judge_error", has_judge ? o->simulation.judge_error : NAN);
    put_uint(writer, "upstream_calls", tally->upstream_calls);
    put_uint(writer, "judge_calls", tally->judge_calls);
    put_uint(writer, "verifier_calls", tally->verifier_calls);
    put_uint(writer, "collisions", tally->collisions);
    put_uint(writer, "audits", tally->audits);
    put_uint(writer, "labels_known", tally->labels);
    put_uint(writer, "entries", tally->entries);
    put_uint(writer, "entries_last", tally->entries_last);
    put_uint(writer, "evicted", tally->evicted);
    put_uint(writer, "expired", tally->expired);
    put_uint(writer, "withheld", tally->withheld);
    put_double(writer, "cost_all", tally->cost_all);
    put_double(writer, "cost_saved", tally->cost_saved);
    put_cost(writer, o, tally);
    put_latency(writer, o, tally);
    put_spread(writer, "embed_us", tally->embed_us);
    put_double(writer, "decide_us_mean", tally->decide_us.mean);
    put_double(writer, "decide_us_p50", tally->decide_us.p50);
    put_double(writer, "decide_us_p99", tally->decide_us.p99);
    put_double(writer, "search_us_p50", tally->search_us.p50);
    put_double(writer, "search_us_p99", tally->search_us.p99);
    put_uint(writer, "state_bytes", tally->state_bytes);
    put_double(writer, "seconds", tally->seconds);
    put_double(writer, "cpu_seconds", tally->cpu_seconds);
    put_risks(writer, tally);
    put_curve(writer, tally);
}

static void
flush_line(rp_buffer *line)
{
    rp_buffer_append_char(line, '\n');
    fwrite(line->ptr, 1, line->len, stdout);
    rp_buffer_fini(line);
    fflush(stdout);
}

void
rp_stream_print_json(const rp_stream_options *o, const rp_stream_run *run, const rp_stream *stream,
                     const rp_tally *tally, const rp_frontiers *frontiers)
{
    const size_t categories = stream->categories.count > 1 ? stream->categories.count : 0;
    for (size_t i = 0; i < 1 + categories; i++) {
        rp_buffer line;
        rp_json_writer writer;
        rp_buffer_init(&line, 0);
        rp_json_writer_init(&writer, &line);
        rp_json_open(&writer, '{');
        rp_stream_put_head(&writer, o, run, i ? stream->categories.texts[i - 1] : RP_STR("*"));
        put_counts(&writer, i ? &tally->categories[i - 1] : &tally->all);
        if (!i)
            put_all(&writer, o, run, tally, frontiers);
        rp_json_close(&writer, '}');
        flush_line(&line);
    }
}

/* A frontier as a list of points; `cut` names what is cut. */
static void
put_points(rp_json_writer *writer, const double *bounds, const rp_frontier_point *points,
           size_t count, const char *cut)
{
    rp_json_open(writer, '[');
    for (size_t i = 0; i < count; i++) {
        rp_json_open(writer, '{');
        put_double(writer, "error_max", bounds[i]);
        put_double(writer, "hit_rate", points[i].hits);
        put_double(writer, "error", points[i].errors);
        put_double(writer, cut, points[i].threshold);
        rp_json_close(writer, '}');
    }
    rp_json_close(writer, ']');
}

void
rp_stream_print_frontiers_json(const rp_stream_options *o, const rp_stream_run *run,
                               const rp_frontiers *frontiers)
{
    rp_stream_run pass = *run; /* no bound and no capacity is in force */
    pass.error_max = NAN;
    pass.capacity = 0;
    rp_buffer line;
    rp_json_writer writer;
    rp_buffer_init(&line, 0);
    rp_json_writer_init(&writer, &line);
    rp_json_open(&writer, '{');
    rp_stream_put_head(&writer, o, &pass, RP_STR("*"));
    put_text(&writer, "stream_sha256", o->stream_sha256);
    put_text(&writer, "encoder", o->encoder[0] ? o->encoder : NULL);
    put_uint(&writer, "requests", frontiers->requests);
    put_uint(&writer, "exact_hits", frontiers->exact_hits);
    rp_json_key(&writer, "frontiers");
    rp_json_open(&writer, '{');
    for (int score = 0; score < RP_FRONTIER_SCORES; score++) {
        rp_json_key(&writer, rp_frontier_score_name(score));
        if (frontiers->counts[score])
            put_points(&writer, frontiers->bounds, frontiers->points[score],
                       frontiers->bound_count,
                       score == RP_FRONTIER_RISK ? "risk_max" : "min_similarity");
        else
            rp_json_put_null(&writer);
    }
    rp_json_close(&writer, '}');
    rp_json_close(&writer, '}');
    flush_line(&line);
}

/* ---- for people ----------------------------------------------------------------------------- */

static void
print_counts(const char *name, const rp_counts *c)
{
    const rp_interval hits = rp_wilson(c->hits, c->requests, 0.95);
    const rp_interval error = rp_clopper_pearson(c->wrong_hits, c->requests, 0.95);
    const rp_interval hit_error = rp_clopper_pearson(c->wrong_hits, c->hits, 0.95);
    printf("%-36s %8llu %7llu %7llu %6llu  %5.1f [%.1f, %.1f]  %6.2f [%.2f, %.2f]  ", name,
           (unsigned long long)c->requests, (unsigned long long)c->exact_hits,
           (unsigned long long)c->hits, (unsigned long long)c->wrong_hits,
           100 * share_of(c->hits, c->requests), 100 * hits.low, 100 * hits.high,
           100 * share_of(c->wrong_hits, c->requests), 100 * error.low, 100 * error.high);
    if (c->hits)
        printf("%5.1f [%.1f, %.1f]\n", 100 * share_of(c->wrong_hits, c->hits), 100 * hit_error.low,
               100 * hit_error.high);
    else
        printf("%5s\n", "-");
}

void
rp_stream_print_header(void)
{
    printf("%-36s %8s %7s %7s %6s  %-18s  %-20s  %s\n", "policy", "requests", "exact", "hits",
           "wrong", "hits % [95 %]", "error % [95 %]", "wrong of hits % [95 %]");
}

void
rp_stream_name_run(const rp_stream_run *run, char *out, size_t size)
{
    int len = snprintf(out, size, "%s", run->policy->title ? run->policy->title : run->policy->spec);
    if (run->bound_given && len > 0 && (size_t)len < size)
        len += snprintf(out + len, size - (size_t)len, " <= %g %%", 100 * run->error_max);
    if (run->capacity && len > 0 && (size_t)len < size)
        len += snprintf(out + len, size - (size_t)len, ", %zu %s", run->capacity,
                        rp_evict_name(run->evict));
    if (run->order >= RP_ORDER_SORTED && len > 0 && (size_t)len < size)
        snprintf(out + len, size - (size_t)len, ", %s", rp_stream_order_name(run->order));
}

static void
print_costs(const rp_tally *tally)
{
    printf("    saved US$ %.2f of %.2f (%.1f %%; right hits only %.2f), upstream %.2f, audits %.2f, "
           "judge %.2f, computing %.4f\n    latency ms: mean %.0f p50 %.0f p99 %.0f, without cache "
           "%.0f %.0f %.0f\n", tally->cost_saved, tally->cost_all,
           isnan(tally->reduction) ? 0.0 : 100 * tally->reduction, tally->cost_saved_right,
           tally->cost_upstream, tally->cost_audits, tally->cost_judge, tally->cost_compute,
           tally->with_ms.mean, tally->with_ms.p50, tally->with_ms.p99, tally->without_ms.mean,
           tally->without_ms.p50, tally->without_ms.p99);
}

static void
print_frontiers(const rp_frontiers *frontiers, const rp_stream_run *run, const rp_counts *counts)
{
    static const char *const names[] = { "cut on the risk", "cosine, gates", "cosine" };
    const double frontier = rp_stream_frontier_of(frontiers, run);
    for (int score = 0; score < RP_FRONTIER_SCORES; score++) {
        printf("    %s in hindsight, hits %% at error <=", names[score]);
        for (size_t i = 0; frontiers->counts[score] && i < frontiers->bound_count; i++)
            printf("  %g %%: %.2f", 100 * frontiers->bounds[i],
                   100 * frontiers->points[score][i].hits);
        if (frontiers->counts[score] == 0)
            fputs("  nothing: there is no such score", stdout);
        if (score == RP_FRONTIER_RISK && frontier > 0)
            printf("; kept %.0f %%", 100 * rp_stream_kept_of(counts, frontier));
        putchar('\n');
    }
}

void
rp_stream_print_text(const rp_stream_options *o, const rp_stream_run *run, const rp_stream *stream,
                     const rp_tally *tally, const rp_frontiers *frontiers)
{
    char name[RP_STREAM_SPEC_SIZE + 80];
    rp_stream_name_run(run, name, sizeof name);
    print_counts(name, &tally->all);
    printf("    upstream %llu  judge %llu  audits %llu  labels %llu  entries %llu (%llu at the end, "
           "%llu evicted, %llu expired)  exact wrong %llu\n",
           (unsigned long long)tally->upstream_calls, (unsigned long long)tally->judge_calls,
           (unsigned long long)tally->audits, (unsigned long long)tally->labels,
           (unsigned long long)tally->entries, (unsigned long long)tally->entries_last,
           (unsigned long long)tally->evicted, (unsigned long long)tally->expired,
           (unsigned long long)tally->all.exact_wrong);
    print_costs(tally);
    printf("    decision us: mean %.1f p50 %.1f p99 %.1f  search us: p50 %.1f p99 %.1f  state %llu "
           "bytes  %.1f s\n", tally->decide_us.mean, tally->decide_us.p50, tally->decide_us.p99,
           tally->search_us.p50, tally->search_us.p99, (unsigned long long)tally->state_bytes,
           tally->seconds);
    if (frontiers)
        print_frontiers(frontiers, run, &tally->all);
    for (size_t i = 0; stream->categories.count > 1 && i < stream->categories.count; i++) {
        char category[37];
        snprintf(category, sizeof category, "    %.*s",
                 (int)RP_MIN(stream->categories.texts[i].len, 32u), stream->categories.texts[i].ptr);
        print_counts(category, &tally->categories[i]);
    }
    fflush(stdout);
}

/* ---- a sweep -------------------------------------------------------------------------------- */

static const double frontier_errors[] = { 0.005, 0.01, 0.02, 0.05 };

/* How similar right and wrong neighbours are. */
static void
put_similarities(rp_json_writer *writer, const rp_sweep *sweep)
{
    enum { BINS = 60 };
    const double low = -0.2, step = 0.02;
    uint64_t right[BINS] = { 0 }, wrong[BINS] = { 0 };
    for (size_t i = 0; i < sweep->count; i++) {
        const double at = floor((sweep->rows[i].score - low) / step);
        const size_t bin = (size_t)fmin(fmax(at, 0), BINS - 1);
        *(sweep->rows[i].positive ? &right[bin] : &wrong[bin]) += 1;
    }
    rp_json_key(writer, "similarities");
    rp_json_open(writer, '[');
    for (size_t i = 0; i < BINS; i++) {
        if (!right[i] && !wrong[i])
            continue;
        rp_json_open(writer, '{');
        put_double(writer, "low", round((low + (double)i * step) * 100) / 100);
        put_double(writer, "high", round((low + (double)(i + 1) * step) * 100) / 100);
        put_uint(writer, "right", right[i]);
        put_uint(writer, "wrong", wrong[i]);
        rp_json_close(writer, '}');
    }
    rp_json_close(writer, ']');
}

void
rp_stream_print_sweep_json(const rp_stream_options *o, const rp_stream_run *run,
                           const rp_sweep *sweep)
{
    rp_buffer line;
    rp_json_writer writer;
    rp_buffer_init(&line, 0);
    rp_json_writer_init(&writer, &line);
    rp_json_open(&writer, '{');
    rp_stream_put_head(&writer, o, run, RP_STR("*"));
    put_text(&writer, "stream_sha256", o->stream_sha256);
    put_text(&writer, "encoder", o->encoder[0] ? o->encoder : NULL);
    put_uint(&writer, "requests", sweep->requests);
    put_uint(&writer, "exact_hits", sweep->exact_hits);
    put_uint(&writer, "exact_wrong", sweep->exact_wrong);
    put_uint(&writer, "possible", sweep->possible);
    put_uint(&writer, "nearest_right", sweep->nearest_right);
    rp_json_key(&writer, "thresholds");
    rp_json_open(&writer, '[');
    for (int t = 50; t <= 100; t++) {
        size_t hits, wrong;
        /* Rounding must not turn a text's likeness to itself into .99999994. */
        rp_accepted_at(sweep->rows, sweep->count, t / 100.0 - 1e-6, &hits, &wrong);
        rp_json_open(&writer, '{');
        put_double(&writer, "min_similarity", t / 100.0);
        put_uint(&writer, "hits", hits);
        put_uint(&writer, "wrong_hits", wrong);
        rp_json_close(&writer, '}');
    }
    rp_json_close(&writer, ']');
    rp_frontier_point points[RP_COUNT(frontier_errors)];
    for (size_t i = 0; i < RP_COUNT(frontier_errors); i++)
        points[i] = rp_frontier(sweep->rows, sweep->count, sweep->requests, frontier_errors[i]);
    rp_json_key(&writer, "frontier");
    put_points(&writer, frontier_errors, points, RP_COUNT(frontier_errors), "min_similarity");
    put_similarities(&writer, sweep);
    rp_json_close(&writer, '}');
    flush_line(&line);
}

void
rp_stream_print_sweep_text(const rp_sweep *sweep)
{
    const double n = (double)sweep->requests;
    printf("sweep: every request kept, threshold in hindsight; of %llu requests %llu equal texts, "
           "possible %.1f %%, nearest is right %.1f %%\n  threshold   hits %%  error %%  right of "
           "hits %%\n", (unsigned long long)sweep->requests, (unsigned long long)sweep->exact_hits,
           100 * (double)sweep->possible / n, 100 * (double)sweep->nearest_right / n);
    for (int t = 50; t <= 100; t += 5) {
        size_t hits, wrong;
        rp_accepted_at(sweep->rows, sweep->count, t / 100.0 - 1e-6, &hits, &wrong);
        printf("  %9.2f  %7.2f  %7.2f  ", t / 100.0, 100 * (double)hits / n, 100 * (double)wrong / n);
        if (hits)
            printf("%7.1f\n", 100 * share_of(hits - wrong, hits));
        else
            puts("      -");
    }
    for (size_t i = 0; i < RP_COUNT(frontier_errors); i++) {
        const rp_frontier_point point =
            rp_frontier(sweep->rows, sweep->count, sweep->requests, frontier_errors[i]);
        printf("  most hits at error <= %.1f %%: %.2f %% (at %.4f)\n", 100 * frontier_errors[i],
               100 * point.hits, point.threshold);
    }
    fflush(stdout);
}
