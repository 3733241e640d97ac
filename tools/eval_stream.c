/* eval_stream.c - `reprise eval stream`: policies over a stream of requests. */
#include "eval/simulate.h"
#include "evidence/gates.h"
#include "tools/command.h"
#include "tools/eval_tool.h"

#include "base/bytes.h"

#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { POLICIES_MAX = 64, ORDERS_MAX = 1000 };

typedef struct stream_options {
    const char *policies[POLICIES_MAX];
    size_t policy_count;
    const char *model, *vectors, *decisions_out, *labels, *file;
    rp_eval_cache cache;
    rp_precision precision;
    rp_stream_order order;
    uint64_t seed, orders;
    bool sweep, json;
    rp_simulation simulation; /* what the options say; the rest is filled in later */
} stream_options;

static void
print_help(void)
{
    puts("Usage: reprise eval stream [options] FILE\n\n"
         "Simulates policies over the requests of FILE: JSON lines with \"prompt\" and\n"
         "\"answer_id\", perhaps \"scope\", \"category\", \"time\", \"history\", \"cost\".\n\n"
         "  --policy SPEC        NAME[:key=value,...]; may be repeated\n"
         "                       (exact, static, verified, verified-plus, calibrated)\n"
         "  --error-max E        bound where SPEC names none (.01)\n"
         "  --sweep              every threshold in hindsight, all requests kept\n"
         "  --gates WHICH        on, off or strict (on)\n"
         "  --labels WHICH       miss: the candidate of each miss; none; audit:R also a share R\n"
         "                       of hits, each an upstream call (miss)\n"
         "  --label-delay N      requests until a label is known (0)\n"
         "  --order WHICH        file, shuffled or sorted by answer (file)\n"
         "  --orders N           that many shuffles, seeds S, S+1 ... (1)\n"
         "  --seed S             of policies, shuffles and audits (1)\n"
         "  --judge-error E      give policies a judge that knows the truth but errs that often\n"
         "  --judge-cost C       US$ a call (.0002)\n"
         "  --request-cost C     US$ of a request where FILE says none (.002)\n"
         "  --decisions-out FILE one JSON line a request\n"
         "  --model NAME|DIR     the encoder (all-MiniLM-L6-v2)\n"
         "  --precision CLASS    f32, bf16, int8 or auto (f32)\n"
         "  --vectors FILE.npy   vectors of another encoder, a row a line of FILE\n"
         "  --cache DIR, --no-cache   where vectors are kept (~/.cache/reprise/vectors)\n"
         "  --json               one object a policy, order and category\n"
         "  --help");
}

static bool
read_share(const char *text, double *out)
{
    return rp_str_to_double(rp_str_of(text), out) && *out >= 0 && *out <= 1;
}

static bool
read_cost(const char *text, double *out)
{
    return rp_str_to_double(rp_str_of(text), out) && *out >= 0 && *out <= 1e6;
}

static bool
read_labels(const char *text, rp_simulation *s)
{
    s->learn_misses = strcmp(text, "none") != 0;
    s->audit = 0;
    if (strcmp(text, "miss") == 0 || strcmp(text, "none") == 0)
        return true;
    return strncmp(text, "audit:", 6) == 0 && read_share(text + 6, &s->audit) && s->audit > 0;
}

static bool
read_gates(const char *text, rp_simulation *s)
{
    s->strict = strcmp(text, "strict") == 0;
    s->gates = strcmp(text, "off") == 0 ? 0 : RP_GATES_DEFAULT;
    if (s->strict)
        s->gates |= 1u << RP_GATE_STRICT;
    return s->strict || strcmp(text, "off") == 0 || strcmp(text, "on") == 0;
}

static bool
read_order(const char *text, rp_stream_order *out)
{
    static const char *const names[] = { "file", "shuffled", "sorted" };
    for (size_t i = 0; i < RP_COUNT(names); i++)
        if (strcmp(text, names[i]) == 0) {
            *out = (rp_stream_order)i;
            return true;
        }
    return false;
}

static bool
take_option(int option, stream_options *o)
{
    rp_simulation *s = &o->simulation;
    uint64_t count;
    switch (option) {
    case 'p':
        if (o->policy_count == POLICIES_MAX)
            return false;
        o->policies[o->policy_count++] = optarg;
        return true;
    case 'e': return rp_str_to_double(rp_str_of(optarg), &s->error_max);
    case 'w': o->sweep = true; return true;
    case 'g': return read_gates(optarg, s);
    case 'l': o->labels = optarg; return read_labels(optarg, s);
    case 'y':
        if (!rp_str_to_u64(rp_str_of(optarg), &count) || count > RP_TEXT_SET_MAX)
            return false;
        s->label_delay = count;
        return true;
    case 'r': return read_order(optarg, &o->order);
    case 'O': return rp_str_to_u64(rp_str_of(optarg), &o->orders) && o->orders >= 1 &&
                     o->orders <= ORDERS_MAX;
    case 's': return rp_str_to_u64(rp_str_of(optarg), &o->seed);
    case 'J': s->has_judge = true; return read_share(optarg, &s->judge_error);
    case 'K': return read_cost(optarg, &s->judge_cost);
    case 'R': return read_cost(optarg, &s->request_cost);
    case 'd': o->decisions_out = optarg; return true;
    case 'm': o->model = optarg; return true;
    case 'P': return rp_eval_precision_of(optarg, &o->precision);
    case 'v': o->vectors = optarg; return true;
    case 'c': o->cache.folder = optarg; return true;
    case 'n': o->cache.off = true; return true;
    case 'j': o->json = true; return true;
    }
    return false;
}

/* NULL, or what is wrong with the options together. */
static const char *
check_options(const stream_options *o, int files)
{
    if (files != 1)
        return "give one file of requests";
    if (o->orders > 1 && o->order != RP_ORDER_SHUFFLED)
        return "--orders needs --order shuffled: other orders have no seed";
    if (o->decisions_out && o->orders > 1)
        return "--decisions-out wants one order";
    return NULL;
}

/* False: the exit status is in *exit_status. */
static bool
parse_arguments(int argc, char **argv, stream_options *o, int *exit_status)
{
    static const struct option options[] = {
        { "policy", required_argument, NULL, 'p' },      { "error-max", required_argument, NULL, 'e' },
        { "sweep", no_argument, NULL, 'w' },             { "gates", required_argument, NULL, 'g' },
        { "labels", required_argument, NULL, 'l' },      { "label-delay", required_argument, NULL, 'y' },
        { "order", required_argument, NULL, 'r' },       { "orders", required_argument, NULL, 'O' },
        { "seed", required_argument, NULL, 's' },        { "judge-error", required_argument, NULL, 'J' },
        { "judge-cost", required_argument, NULL, 'K' },  { "request-cost", required_argument, NULL, 'R' },
        { "decisions-out", required_argument, NULL, 'd' }, { "model", required_argument, NULL, 'm' },
        { "precision", required_argument, NULL, 'P' },   { "vectors", required_argument, NULL, 'v' },
        { "cache", required_argument, NULL, 'c' },       { "no-cache", no_argument, NULL, 'n' },
        { "json", no_argument, NULL, 'j' },              { "help", no_argument, NULL, 'h' },
        { 0 },
    };
    int option;
    *exit_status = RP_EXIT_USAGE;
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        if (option == 'h') {
            print_help();
            *exit_status = RP_EXIT_DONE;
            return false;
        }
        if (option == '?') {
            fputs("Try `reprise eval stream --help`.\n", stderr);
            return false;
        }
        if (!take_option(option, o)) {
            fprintf(stderr, "reprise eval stream: '%s' is no value that this option takes; "
                            "`reprise eval stream --help` lists them\n", optarg);
            return false;
        }
    }
    const char *wrong = check_options(o, argc - optind);
    if (wrong)
        fprintf(stderr, "reprise eval stream: %s\n", wrong);
    return !wrong;
}

/* ---- printing ------------------------------------------------------------------------------ */

static double
share_of(uint64_t part, uint64_t whole)
{
    return whole ? (double)part / (double)whole : NAN;
}

static void
put_share(rp_json_writer *writer, const char *name, uint64_t k, uint64_t n, rp_interval interval)
{
    char interval_name[40];
    snprintf(interval_name, sizeof interval_name, "%s_95", name);
    rp_json_key(writer, name);
    rp_json_put_double(writer, share_of(k, n));
    rp_json_key(writer, interval_name);
    rp_json_open(writer, '[');
    rp_json_put_double(writer, interval.low);
    rp_json_put_double(writer, interval.high);
    rp_json_close(writer, ']');
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
put_counts(rp_json_writer *writer, const rp_counts *counts)
{
    put_uint(writer, "requests", counts->requests);
    put_uint(writer, "exact_hits", counts->exact_hits);
    put_uint(writer, "exact_wrong", counts->exact_wrong);
    put_uint(writer, "hits", counts->hits);
    put_uint(writer, "wrong_hits", counts->wrong_hits);
    put_share(writer, "hit_rate", counts->hits, counts->requests,
              rp_wilson(counts->hits, counts->requests, 0.95));
    put_share(writer, "error", counts->wrong_hits, counts->requests,
              rp_clopper_pearson(counts->wrong_hits, counts->requests, 0.95));
    put_share(writer, "hit_error", counts->wrong_hits, counts->hits,
              rp_clopper_pearson(counts->wrong_hits, counts->hits, 0.95));
}

static void
put_head(rp_json_writer *writer, const stream_options *o, const char *policy, uint64_t at,
         rp_str category)
{
    static const char *const orders[] = { "file", "shuffled", "sorted" };
    const rp_simulation *s = &o->simulation;
    rp_json_open(writer, '{');
    rp_json_key(writer, "file");
    rp_json_put_cstring(writer, o->file);
    rp_json_key(writer, "model");
    rp_json_put_cstring(writer, o->vectors ? o->vectors : o->model);
    rp_json_key(writer, "gates");
    rp_json_put_cstring(writer, s->strict ? "strict" : s->gates ? "on" : "off");
    rp_json_key(writer, "labels");
    rp_json_put_cstring(writer, o->labels);
    rp_json_key(writer, "policy");
    rp_json_put_cstring(writer, policy);
    rp_json_key(writer, "order");
    rp_json_put_cstring(writer, orders[o->order]);
    put_uint(writer, "seed", o->seed + at);
    rp_json_key(writer, "category");
    rp_json_put_string(writer, category);
}

/* Nothing for a policy that estimates nothing. */
static void
put_risks(rp_json_writer *writer, const rp_simulation_result *result)
{
    rp_json_key(writer, "calibration");
    rp_json_open(writer, '[');
    for (size_t i = 0; i < RP_RISK_BINS; i++) {
        const rp_risk_bin *bin = &result->risks[i];
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
put_all(rp_json_writer *writer, const rp_simulation_result *result)
{
    put_uint(writer, "upstream_calls", result->upstream_calls);
    put_uint(writer, "judge_calls", result->judge_calls);
    put_uint(writer, "audits", result->audits);
    put_uint(writer, "labels", result->labels);
    put_uint(writer, "entries", result->entries);
    put_double(writer, "cost_all", result->cost_all);
    put_double(writer, "cost_saved", result->cost_saved);
    put_double(writer, "decide_us_mean", result->decide_us_mean);
    put_double(writer, "decide_us_p50", result->decide_us_p50);
    put_double(writer, "decide_us_p99", result->decide_us_p99);
    put_double(writer, "search_us_p50", result->search_us_p50);
    put_double(writer, "search_us_p99", result->search_us_p99);
    put_uint(writer, "state_bytes", result->state_bytes);
    put_double(writer, "seconds", result->seconds);
    put_risks(writer, result);
}

static void
flush_line(rp_buffer *line)
{
    rp_buffer_append_char(line, '\n');
    fwrite(line->ptr, 1, line->len, stdout);
    rp_buffer_fini(line);
    fflush(stdout);
}

static void
print_json(const stream_options *o, const char *policy, uint64_t at, const rp_stream *stream,
           const rp_simulation_result *result)
{
    const size_t categories = stream->categories.count > 1 ? stream->categories.count : 0;
    for (size_t i = 0; i < 1 + categories; i++) {
        rp_buffer line;
        rp_json_writer writer;
        rp_buffer_init(&line, 0);
        rp_json_writer_init(&writer, &line);
        put_head(&writer, o, policy, at, i ? stream->categories.texts[i - 1] : RP_STR("*"));
        put_counts(&writer, i ? &result->categories[i - 1] : &result->all);
        if (!i)
            put_all(&writer, result);
        rp_json_close(&writer, '}');
        flush_line(&line);
    }
}

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

static void
print_header(void)
{
    printf("%-36s %8s %7s %7s %6s  %-18s  %-20s  %s\n", "policy", "requests", "exact", "hits",
           "wrong", "hits % [95 %]", "error % [95 %]", "wrong of hits % [95 %]");
}

static void
print_text(const char *policy, const rp_stream *stream, const rp_simulation_result *result)
{
    print_counts(policy, &result->all);
    printf("    upstream %llu  judge %llu  audits %llu  labels %llu  entries %llu  exact wrong %llu"
           "  saved US$ %.2f of %.2f (%.1f %%)\n    decision us: mean %.1f p50 %.1f p99 %.1f  "
           "search us: p50 %.1f p99 %.1f  state %zu bytes  %.1f s\n",
           (unsigned long long)result->upstream_calls, (unsigned long long)result->judge_calls,
           (unsigned long long)result->audits, (unsigned long long)result->labels,
           (unsigned long long)result->entries, (unsigned long long)result->all.exact_wrong,
           result->cost_saved, result->cost_all,
           result->cost_all > 0 ? 100 * result->cost_saved / result->cost_all : 0.0,
           result->decide_us_mean, result->decide_us_p50, result->decide_us_p99,
           result->search_us_p50, result->search_us_p99, result->state_bytes, result->seconds);
    for (size_t i = 0; stream->categories.count > 1 && i < stream->categories.count; i++) {
        char name[37];
        snprintf(name, sizeof name, "    %.*s", (int)RP_MIN(stream->categories.texts[i].len, 32u),
                 stream->categories.texts[i].ptr);
        print_counts(name, &result->categories[i]);
    }
    fflush(stdout);
}

/* ---- a sweep -------------------------------------------------------------------------------- */

static const double frontier_errors[] = { 0.005, 0.01, 0.02, 0.05 };

static void
print_sweep_json(const stream_options *o, uint64_t at, const rp_sweep *sweep)
{
    rp_buffer line;
    rp_json_writer writer;
    rp_buffer_init(&line, 0);
    rp_json_writer_init(&writer, &line);
    put_head(&writer, o, "sweep", at, RP_STR("*"));
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
    rp_json_key(&writer, "frontier");
    rp_json_open(&writer, '[');
    for (size_t i = 0; i < RP_COUNT(frontier_errors); i++) {
        const rp_frontier_point point =
            rp_frontier(sweep->rows, sweep->count, sweep->requests, frontier_errors[i]);
        rp_json_open(&writer, '{');
        put_double(&writer, "error_max", frontier_errors[i]);
        put_double(&writer, "hit_rate", point.hits);
        put_double(&writer, "error", point.errors);
        put_double(&writer, "min_similarity", point.threshold);
        rp_json_close(&writer, '}');
    }
    rp_json_close(&writer, ']');
    rp_json_close(&writer, '}');
    flush_line(&line);
}

static void
print_sweep_text(const rp_sweep *sweep)
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

/* ---- running -------------------------------------------------------------------------------- */

/* Over several orders: what is promised is the mean; what hurts is the worst. */
typedef struct summary {
    double hits, error, hit_error, error_worst;
    rp_counts worst;
} summary;

static void
add_to_summary(summary *sum, const rp_counts *c)
{
    const double error = share_of(c->wrong_hits, c->requests);
    sum->hits += share_of(c->hits, c->requests);
    sum->error += error;
    sum->hit_error += c->hits ? share_of(c->wrong_hits, c->hits) : 0;
    if (error >= sum->error_worst) {
        sum->error_worst = error;
        sum->worst = *c;
    }
}

static void
print_summary(const stream_options *o, const char *policy, const summary *sum)
{
    const double n = (double)o->orders;
    const rp_interval worst = rp_clopper_pearson(sum->worst.wrong_hits, sum->worst.requests, 0.998);
    printf("%-36s mean of %llu orders: hits %.2f %%, error %.3f %%, wrong of hits %.2f %%; worst "
           "order: error %.3f %% (99.9 %% lower limit %.3f %%)\n", policy,
           (unsigned long long)o->orders, 100 * sum->hits / n, 100 * sum->error / n,
           100 * sum->hit_error / n, 100 * sum->error_worst, 100 * worst.low);
    fflush(stdout);
}

static rp_status
run_policy(stream_options *o, const char *policy, uint32_t *order, rp_error *error)
{
    rp_simulation s = o->simulation;
    summary sum = { 0 };
    s.order = order;
    for (uint64_t at = 0; at < o->orders; at++) {
        rp_simulation_result result;
        s.seed = o->seed + at;
        rp_status status = rp_stream_arrange(s.stream, o->order, s.seed, order);
        if (!status)
            status = rp_simulate(&s, policy, &result, error);
        if (status)
            return status;
        if (o->json)
            print_json(o, policy, at, s.stream, &result);
        else if (o->orders == 1)
            print_text(policy, s.stream, &result);
        else if (isatty(STDERR_FILENO))
            fprintf(stderr, "\r%s: order %llu of %llu\033[K", policy, (unsigned long long)at + 1,
                    (unsigned long long)o->orders);
        add_to_summary(&sum, &result.all);
        rp_simulation_result_fini(&result);
    }
    if (!o->json && o->orders > 1) {
        if (isatty(STDERR_FILENO))
            fputs("\r\033[K", stderr);
        print_summary(o, policy, &sum);
    }
    return RP_OK;
}

static rp_status
run_sweep(stream_options *o, uint32_t *order, rp_error *error)
{
    rp_simulation s = o->simulation;
    s.order = order;
    for (uint64_t at = 0; at < o->orders; at++) {
        rp_sweep sweep;
        rp_status status = rp_stream_arrange(s.stream, o->order, o->seed + at, order);
        if (!status)
            status = rp_sweep_run(&s, &sweep, error);
        if (status)
            return status;
        if (o->json)
            print_sweep_json(o, at, &sweep);
        else
            print_sweep_text(&sweep);
        rp_sweep_fini(&sweep);
    }
    return RP_OK;
}

static rp_status
run_all(stream_options *o, rp_error *error)
{
    static const char *const usual[] = { "exact", "static", "verified", "verified-plus", "calibrated" };
    if (o->policy_count == 0 && !o->sweep)
        for (size_t i = 0; i < RP_COUNT(usual); i++)
            o->policies[o->policy_count++] = usual[i];
    uint32_t *order = calloc(o->simulation.stream->count, sizeof *order);
    if (!order)
        return rp_fail(error, RP_ERR_NOMEM, "no memory for an order");
    rp_status status = o->sweep ? run_sweep(o, order, error) : RP_OK;
    if (!status && !o->json && o->orders == 1 && o->policy_count)
        print_header();
    for (size_t i = 0; !status && i < o->policy_count; i++)
        status = run_policy(o, o->policies[i], order, error);
    free(order);
    return status;
}

static rp_status
make_vectors(stream_options *o, const rp_stream *stream, rp_vectors *out, rp_error *error)
{
    rp_encoder *encoder = NULL;
    o->simulation.by_text = !o->vectors;
    if (o->vectors) {
        const rp_status status = rp_vectors_open(o->vectors, stream->count, out, error);
        return status == RP_ERR_IO ? RP_ERR_INVALID : status;
    }
    rp_status status = rp_eval_open_encoder(o->model, o->precision, &encoder, error);
    if (!status)
        status = rp_eval_vectors(encoder, stream->texts.texts, stream->texts.count, &o->cache, out,
                                 error);
    rp_encoder_close(encoder);
    return status;
}

/* A SPEC that cannot be used is said before minutes are spent on vectors. */
static rp_status
check_policies(const stream_options *o, rp_error *error)
{
    rp_status status = RP_OK;
    for (size_t i = 0; !status && i < o->policy_count; i++) {
        rp_policy *policy;
        status = rp_policy_new(rp_str_of(o->policies[i]), o->simulation.error_max, &policy, error);
        if (!status)
            rp_policy_free(policy);
    }
    return status;
}

static rp_status
run_stream(stream_options *o, const char *path, rp_error *error)
{
    rp_stream stream;
    rp_vectors vectors;
    rp_status status = check_policies(o, error);
    if (!status)
        status = rp_stream_read(path, &stream, error);
    if (status)
        return status;
    status = make_vectors(o, &stream, &vectors, error);
    if (!status) {
        o->simulation.stream = &stream;
        o->simulation.vectors = &vectors;
        if (o->decisions_out && !(o->simulation.decisions_out = fopen(o->decisions_out, "wb")))
            status = rp_fail(error, RP_ERR_IO, "cannot write %s: %s", o->decisions_out,
                             strerror(errno));
        if (!status)
            status = run_all(o, error);
        FILE *out = o->simulation.decisions_out;
        if (out && (ferror(out) | fclose(out)) && !status)
            status = rp_fail(error, RP_ERR_IO, "cannot write %s", o->decisions_out);
        rp_vectors_fini(&vectors);
    }
    rp_stream_fini(&stream);
    return status;
}

int
rp_command_eval_stream(int argc, char **argv)
{
    stream_options o = { .model = "all-MiniLM-L6-v2", .precision = RP_PRECISION_F32, .seed = 1,
                         .orders = 1, .labels = "miss",
                         .simulation = { .error_max = NAN, .gates = RP_GATES_DEFAULT,
                                         .learn_misses = true, .judge_cost = 0.0002,
                                         .request_cost = 0.002 } };
    rp_error error = { { 0 } };
    int exit_status;
    if (!parse_arguments(argc, argv, &o, &exit_status))
        return exit_status;
    o.file = argv[optind];
    rp_status status = run_stream(&o, o.file, &error);
    if ((fflush(stdout) || ferror(stdout)) && !status)
        status = rp_fail(&error, RP_ERR_IO, "cannot write the result");
    if (status)
        fprintf(stderr, "reprise eval stream: %s\n", error.text);
    return rp_eval_exit_status(status);
}
