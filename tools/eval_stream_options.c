/* eval_stream_options.c - the command line of `reprise eval stream`, and the baselines. */
#include "tools/eval_stream.h"

#include "base/bytes.h"
#include "evidence/gates.h"
#include "tools/command.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

/* The field's systems as policies of ours. Gates are ours alone: published systems have
 * none. GPTCache as its users run it (SearchDistanceEvaluation over squared L2 distances,
 * similarity_threshold .8, one candidate): 4 - d^2 >= .8 * 4, which is a cosine of .60.
 * GPT Semantic Cache: arXiv:2411.05276. vCache and its baselines: arXiv:2502.03771. Dual:
 * arXiv:2601.11687 says no thresholds; the band is a third party's. Judge: top 3 from .85
 * (algorithms, "LLM judge"). Krites: arXiv:2602.13165. */
static const rp_stream_policy baselines[] = {
    { "exact", "Exact only", "exact", true, false, false, 0 },
    { "gptcache", "GPTCache-style static (0.60)", "static:min_similarity=0.6", true, false, false, 1 },
    { "gpt-semantic-cache", "GPT Semantic Cache (0.80)", "static:min_similarity=0.8", true, false,
      false, 1 },
    { "vcache", "vCache", "verified", true, false, false, 1 },
    { "vcache-global", "vCache, one curve for all", "verified-global", true, false, false, 1 },
    { "vcache-iid", "vCache, i.i.d. threshold", "verified-iid", true, false, false, 1 },
    { "vcache-sigmoid", "vCache, curve without bound", "verified-sigmoid", true, false, false, 1 },
    { "vcache-sigmoid-probability", "vCache, probability without bound",
      "verified-sigmoid-probability", true, false, false, 1 },
    { "adaptive", "Adaptive threshold", "adaptive", true, true, false, 0 },
    { "dual", "Dual threshold", "dual:min_similarity=0.85,hint_similarity=0.7", true, false, false,
      1 },
    { "judge", "LLM judge in the path", "judge:judge_min=0.85", true, false, true, 3 },
    { "krites", "Krites", "krites", true, false, true, 1 },
    { "static", "Reprise, static 0.95", "static:min_similarity=0.95", true, true, false, 0 },
    { "verified-plus", "Reprise, verified-plus", "verified-plus", true, true, false, 0 },
    { "default", "Reprise, calibrated (shipped default)", "calibrated", true, true, false, 0 },
};

static void
print_help(void)
{
    puts("Usage: reprise eval stream [options] FILE\n\n"
         "Simulates policies over the requests of FILE: JSON lines with \"prompt\" and\n"
         "\"answer_id\", perhaps \"scope\", \"category\", \"time\", \"history\", \"cost\", \"user\".\n\n"
         "What runs\n"
         "  --policy SPEC        NAME[:key=value,...]; may be repeated\n"
         "                       (exact, static, verified, verified-plus, calibrated)\n"
         "  --baseline NAME      a system of the field under its name, or all; may be repeated:");
    fputs("                      ", stdout);
    for (size_t i = 0, column = 22; i < RP_COUNT(baselines); i++) {
        if (column + strlen(baselines[i].baseline) > 86) {
            fputs("\n                      ", stdout);
            column = 22;
        }
        column += (size_t)printf(" %s", baselines[i].baseline);
    }
    puts("\n"
         "  --error-max E,...    bound where SPEC names none (.01); a run for each of several\n"
         "  --bound-sweep        the same as --error-max .005,.01,.02,.05\n"
         "  --threshold-sweep S  static thresholds from .50 to 1.00 in steps of S, as caches\n"
         "  --sweep              every threshold in hindsight, all requests kept: no cache\n"
         "  --frontier           the same for each policy's estimate of the risk, and how much of\n"
         "                       that it keeps\n"
         "  --gates WHICH        on, off or strict (on); baselines have their own\n"
         "  --collision-check WHICH   hits: of what would be served, as the server does where gates\n"
         "                       run; off (hits; never with --vectors)\n"
         "  --verifier NAME|DIR  a cross-encoder for policies that ask one\n\n"
         "The stream\n"
         "  --order WHICH,...    file, shuffled, sorted by answer, drifting: four phases with\n"
         "                       answers of their own (file)\n"
         "  --orders N           that many of each but file, seeds S, S+1 ... (1)\n"
         "  --bounds             sum up the orders: is the mean error within the bound, and is\n"
         "                       no order above it by more than chance (99.9 %)?\n"
         "  --seed S             of policies, shuffles and audits (1)\n"
         "  --warm N|P%          first requests, which are served and not counted (0)\n"
         "  --interval S         seconds between requests where FILE has no times (0: nothing\n"
         "                       expires)\n"
         "  --ttl S, --volatile-ttl S   lifetime of entries, and of temporal ones; 0: for ever\n"
         "                       (the server's: 86400, 600)\n\n"
         "The cache\n"
         "  --capacity N|P%,...  entries at most, or percent of the requests (no bound)\n"
         "  --evict NAME,...     fifo, lru, lfu, w-tinylfu, s3fifo, spherelfu, cost, scu, all\n"
         "                       (s3fifo, which the server's store uses)\n\n"
         "What is learned\n"
         "  --labels WHICH       miss: the candidate of each miss; none; audit:R also a share R\n"
         "                       of hits, each an upstream call (miss)\n"
         "  --label-delay N      requests until a label is known (0)\n"
         "  --judge-error E      give policies a judge that knows the truth but errs that often\n"
         "                       (baselines that need one: .05)\n\n"
         "What is stated, not measured\n"
         "  --upstream-ms M      median time of the service (1000)\n"
         "  --upstream-spread D  standard deviation of its logarithm (0)\n"
         "  --judge-ms M         a judge that is waited for (1688, CacheVerifier's mean)\n"
         "  --embed-ms M         embedding (measured; with --vectors: unknown, counts as 0)\n"
         "  --request-cost C     US$ of a request where FILE says none (.002)\n"
         "  --judge-cost C       US$ a call (.0002)\n"
         "  --core-hour-cost C   US$ for an hour of one core, for embedding, search, decision (.05)\n\n"
         "Files\n"
         "  --model NAME|DIR     the encoder (all-MiniLM-L6-v2)\n"
         "  --precision CLASS    f32, bf16, int8 or auto (f32)\n"
         "  --vectors FILE.npy   vectors of another encoder, a row a line of FILE\n"
         "  --cache DIR, --no-cache   where vectors are kept (~/.cache/reprise/vectors)\n"
         "  --decisions-out FILE one JSON line a request\n"
         "  --checkpoint FILE    keep finished runs there; with --resume go on with them\n"
         "  --windows N          points of the curve over time, in --json (20)\n"
         "  --json               one object a policy, order and category\n"
         "  --help");
}

/* ---- values ------------------------------------------------------------------------------- */

static bool
read_share(const char *text, double *out)
{
    return rp_str_to_double(rp_str_of(text), out) && *out >= 0 && *out <= 1;
}

static bool
read_number(const char *text, double max, double *out)
{
    return rp_str_to_double(rp_str_of(text), out) && *out >= 0 && *out <= max;
}

static bool
read_count(const char *text, uint64_t max, uint64_t *out)
{
    return rp_str_to_u64(rp_str_of(text), out) && *out <= max;
}

/* "500" or "5%". */
static bool
read_amount(rp_str text, rp_stream_amount *out)
{
    uint64_t count;
    if (rp_str_ends_with(text, RP_STR("%"))) {
        *out = (rp_stream_amount){ .is_share = true };
        text.len--;
        const bool good = rp_str_to_double(text, &out->value) && out->value >= 0 && out->value <= 100;
        out->value /= 100;
        return good;
    }
    if (!rp_str_to_u64(text, &count) || count > RP_TEXT_SET_MAX)
        return false;
    *out = (rp_stream_amount){ .value = (double)count };
    return true;
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

static const char *const order_names[] = { "file", "shuffled", "sorted", "drifting" };

const char *
rp_stream_order_name(rp_stream_order order)
{
    return order_names[order];
}

static bool
read_orders(const char *text, rp_stream_options *o)
{
    memset(o->orders_on, 0, sizeof o->orders_on);
    for (rp_str rest = rp_str_of(text); rest.len;) {
        const rp_str name = rp_str_split(&rest, ',');
        size_t at = 0;
        while (at < RP_COUNT(order_names) && !rp_str_equal(name, rp_str_of(order_names[at])))
            at++;
        if (at == RP_COUNT(order_names))
            return false;
        o->orders_on[at] = true;
    }
    return *text != 0;
}

static bool
read_bounds(const char *text, rp_stream_options *o)
{
    o->bound_count = 0;
    for (rp_str rest = rp_str_of(text); rest.len; o->bound_count++) {
        double *bound = &o->bounds[o->bound_count];
        if (o->bound_count == RP_STREAM_BOUNDS_MAX ||
            !rp_str_to_double(rp_str_split(&rest, ','), bound) || !(*bound > 0 && *bound < 1))
            return false;
    }
    return o->bound_count > 0;
}

static bool
read_capacities(const char *text, rp_stream_options *o)
{
    o->capacity_count = 0;
    for (rp_str rest = rp_str_of(text); rest.len; o->capacity_count++) {
        rp_stream_amount *amount = &o->capacities[o->capacity_count];
        if (o->capacity_count == RP_STREAM_CAPACITIES_MAX ||
            !read_amount(rp_str_split(&rest, ','), amount) || !(amount->value > 0))
            return false;
    }
    return o->capacity_count > 0;
}

static bool
read_evictions(const char *text, rp_stream_options *o)
{
    memset(o->evict, 0, sizeof o->evict);
    for (rp_str rest = rp_str_of(text); rest.len;) {
        const rp_str name = rp_str_split(&rest, ',');
        const bool is_all = rp_str_equal(name, RP_STR("all"));
        rp_evict_kind kind;
        for (size_t i = 0; is_all && i < RP_EVICT_KINDS; i++)
            o->evict[i] = true;
        if (is_all)
            continue;
        if (!rp_evict_kind_of(name, &kind))
            return false;
        o->evict[kind] = true;
    }
    return *text != 0;
}

/* ---- policies -------------------------------------------------------------------------------- */

static bool
add_policy(rp_stream_options *o, const rp_stream_policy *policy)
{
    if (o->policy_count == RP_STREAM_POLICIES_MAX)
        return false;
    o->policies[o->policy_count++] = *policy;
    return true;
}

static bool
add_spec(rp_stream_options *o, const char *spec)
{
    rp_stream_policy policy = { 0 };
    if (strlen(spec) >= sizeof policy.spec)
        return false;
    memcpy(policy.spec, spec, strlen(spec) + 1);
    return add_policy(o, &policy);
}

static bool
add_baseline(rp_stream_options *o, const char *name)
{
    const bool is_all = strcmp(name, "all") == 0;
    bool found = false;
    for (size_t i = 0; i < RP_COUNT(baselines); i++) {
        if (!is_all && strcmp(name, baselines[i].baseline) != 0)
            continue;
        if (!add_policy(o, &baselines[i]))
            return false;
        found = true;
    }
    return found;
}

static bool
add_thresholds(rp_stream_options *o, const char *text)
{
    double step;
    if (!rp_str_to_double(rp_str_of(text), &step) || !(step >= 0.005 && step <= 0.5))
        return false;
    for (int i = 0; 0.5 + i * step < 1 + 1e-9; i++) {
        char spec[64];
        /* An equal vector may have a cosine of .9999999: 1.00 means "not rounded to less". */
        snprintf(spec, sizeof spec, "static:min_similarity=%.6g", fmin(0.5 + i * step, 0.999999));
        if (!add_spec(o, spec))
            return false;
    }
    return true;
}

const char *
rp_stream_gates_name(const rp_stream_options *o, const rp_stream_policy *policy)
{
    if (policy && policy->own_gates)
        return policy->gates ? "on" : "off";
    return o->simulation.strict ? "strict" : o->simulation.gates ? "on" : "off";
}

/* ---- options ---------------------------------------------------------------------------------- */

enum option_code {
    OPT_POLICY = 256, OPT_BASELINE, OPT_ERROR_MAX, OPT_BOUND_SWEEP, OPT_THRESHOLDS, OPT_SWEEP, OPT_FRONTIER, OPT_BOUNDS,
    OPT_COLLISIONS, OPT_VERIFIER,
    OPT_GATES, OPT_ORDER, OPT_ORDERS, OPT_SEED, OPT_WARM, OPT_INTERVAL, OPT_TTL, OPT_VOLATILE_TTL,
    OPT_CAPACITY, OPT_EVICT, OPT_LABELS, OPT_LABEL_DELAY, OPT_JUDGE_ERROR, OPT_UPSTREAM_MS,
    OPT_UPSTREAM_SPREAD, OPT_JUDGE_MS, OPT_EMBED_MS, OPT_REQUEST_COST, OPT_JUDGE_COST,
    OPT_CORE_HOUR_COST, OPT_MODEL, OPT_PRECISION, OPT_VECTORS, OPT_CACHE, OPT_NO_CACHE,
    OPT_DECISIONS_OUT, OPT_CHECKPOINT, OPT_RESUME, OPT_WINDOWS, OPT_JSON, OPT_HELP,
};

static const struct option options[] = {
    { "policy", required_argument, NULL, OPT_POLICY },
    { "baseline", required_argument, NULL, OPT_BASELINE },
    { "error-max", required_argument, NULL, OPT_ERROR_MAX },
    { "bound-sweep", no_argument, NULL, OPT_BOUND_SWEEP },
    { "threshold-sweep", required_argument, NULL, OPT_THRESHOLDS },
    { "sweep", no_argument, NULL, OPT_SWEEP },
    { "frontier", no_argument, NULL, OPT_FRONTIER },
    { "bounds", no_argument, NULL, OPT_BOUNDS },
    { "gates", required_argument, NULL, OPT_GATES },
    { "collision-check", required_argument, NULL, OPT_COLLISIONS },
    { "verifier", required_argument, NULL, OPT_VERIFIER },
    { "order", required_argument, NULL, OPT_ORDER },
    { "orders", required_argument, NULL, OPT_ORDERS },
    { "seed", required_argument, NULL, OPT_SEED },
    { "warm", required_argument, NULL, OPT_WARM },
    { "interval", required_argument, NULL, OPT_INTERVAL },
    { "ttl", required_argument, NULL, OPT_TTL },
    { "volatile-ttl", required_argument, NULL, OPT_VOLATILE_TTL },
    { "capacity", required_argument, NULL, OPT_CAPACITY },
    { "evict", required_argument, NULL, OPT_EVICT },
    { "labels", required_argument, NULL, OPT_LABELS },
    { "label-delay", required_argument, NULL, OPT_LABEL_DELAY },
    { "judge-error", required_argument, NULL, OPT_JUDGE_ERROR },
    { "upstream-ms", required_argument, NULL, OPT_UPSTREAM_MS },
    { "upstream-spread", required_argument, NULL, OPT_UPSTREAM_SPREAD },
    { "judge-ms", required_argument, NULL, OPT_JUDGE_MS },
    { "embed-ms", required_argument, NULL, OPT_EMBED_MS },
    { "request-cost", required_argument, NULL, OPT_REQUEST_COST },
    { "judge-cost", required_argument, NULL, OPT_JUDGE_COST },
    { "core-hour-cost", required_argument, NULL, OPT_CORE_HOUR_COST },
    { "model", required_argument, NULL, OPT_MODEL },
    { "precision", required_argument, NULL, OPT_PRECISION },
    { "vectors", required_argument, NULL, OPT_VECTORS },
    { "cache", required_argument, NULL, OPT_CACHE },
    { "no-cache", no_argument, NULL, OPT_NO_CACHE },
    { "decisions-out", required_argument, NULL, OPT_DECISIONS_OUT },
    { "checkpoint", required_argument, NULL, OPT_CHECKPOINT },
    { "resume", no_argument, NULL, OPT_RESUME },
    { "windows", required_argument, NULL, OPT_WINDOWS },
    { "json", no_argument, NULL, OPT_JSON },
    { "help", no_argument, NULL, OPT_HELP },
    { 0 },
};

enum { COST_MAX = 1000000, MS_MAX = 10000000, SECONDS_MAX = 1000000000 };

static bool
take_file_option(int option, rp_stream_options *o)
{
    switch (option) {
    case OPT_MODEL: o->model = optarg; return true;
    case OPT_VERIFIER: o->verifier = optarg; return true;
    case OPT_PRECISION: return rp_eval_precision_of(optarg, &o->precision);
    case OPT_VECTORS: o->vectors = optarg; return true;
    case OPT_CACHE: o->cache.folder = optarg; return true;
    case OPT_NO_CACHE: o->cache.off = true; return true;
    case OPT_DECISIONS_OUT: o->decisions_out = optarg; return true;
    case OPT_CHECKPOINT: o->checkpoint = optarg; return true;
    case OPT_RESUME: o->resume = true; return true;
    case OPT_JSON: o->json = true; return true;
    }
    return false;
}

static bool
take_stated_option(int option, rp_stream_options *o)
{
    rp_tally_options *t = &o->simulation.tally;
    uint64_t count;
    switch (option) {
    case OPT_UPSTREAM_MS: return read_number(optarg, MS_MAX, &t->upstream_ms);
    case OPT_UPSTREAM_SPREAD: return read_number(optarg, 5, &t->upstream_spread);
    case OPT_JUDGE_MS: return read_number(optarg, MS_MAX, &t->judge_ms);
    case OPT_EMBED_MS: return read_number(optarg, MS_MAX, &o->embed_ms);
    case OPT_REQUEST_COST: return read_number(optarg, COST_MAX, &t->request_cost);
    case OPT_JUDGE_COST: return read_number(optarg, COST_MAX, &t->judge_cost);
    case OPT_CORE_HOUR_COST: return read_number(optarg, COST_MAX, &t->core_hour_cost);
    case OPT_WINDOWS:
        if (!read_count(optarg, 100000, &count))
            return false;
        t->windows = count;
        return true;
    }
    return take_file_option(option, o);
}

static bool
take_option(int option, void *context)
{
    rp_stream_options *o = context;
    rp_simulation *s = &o->simulation;
    uint64_t count;
    switch (option) {
    case OPT_POLICY: return add_spec(o, optarg);
    case OPT_BASELINE: return add_baseline(o, optarg);
    case OPT_ERROR_MAX: return read_bounds(optarg, o);
    case OPT_BOUND_SWEEP: return read_bounds(".005,.01,.02,.05", o);
    case OPT_THRESHOLDS: return add_thresholds(o, optarg);
    case OPT_SWEEP: o->sweep = true; return true;
    case OPT_FRONTIER: o->frontier = true; return true;
    case OPT_BOUNDS: o->sum_orders = true; return true;
    case OPT_GATES: return read_gates(optarg, s);
    case OPT_COLLISIONS:
        o->collision_check = strcmp(optarg, "hits") == 0;
        return o->collision_check || strcmp(optarg, "off") == 0;
    case OPT_ORDER: return read_orders(optarg, o);
    case OPT_ORDERS: return read_count(optarg, RP_STREAM_ORDERS_MAX, &o->orders) && o->orders;
    case OPT_SEED: return rp_str_to_u64(rp_str_of(optarg), &o->seed);
    case OPT_WARM: return read_amount(rp_str_of(optarg), &o->warm);
    case OPT_INTERVAL: return read_number(optarg, SECONDS_MAX, &s->interval);
    case OPT_TTL: return read_number(optarg, SECONDS_MAX, &s->ttl);
    case OPT_VOLATILE_TTL: return read_number(optarg, SECONDS_MAX, &s->volatile_ttl);
    case OPT_CAPACITY: return read_capacities(optarg, o);
    case OPT_EVICT: return read_evictions(optarg, o);
    case OPT_LABELS: o->labels = optarg; return read_labels(optarg, s);
    case OPT_LABEL_DELAY:
        if (!read_count(optarg, RP_TEXT_SET_MAX, &count))
            return false;
        s->label_delay = count;
        return true;
    case OPT_JUDGE_ERROR:
        o->has_judge = o->judge_error_given = true;
        return read_share(optarg, &s->judge_error);
    }
    return take_stated_option(option, o);
}

/* NULL, or what is wrong with the options together. */
static const char *
check_options(const rp_stream_options *o, int files)
{
    if (files != 1)
        return "give one file of requests";
    size_t orders = 0, evictions = 0;
    if (o->orders > 1 && !o->orders_on[RP_ORDER_SHUFFLED] && !o->orders_on[RP_ORDER_SORTED] &&
        !o->orders_on[RP_ORDER_DRIFTING])
        return "--orders needs --order shuffled, sorted or drifting: that of the file has no seed";
    for (size_t i = 0; i < RP_COUNT(o->orders_on); i++)
        orders += o->orders_on[i];
    for (size_t i = 0; i < RP_EVICT_KINDS; i++)
        evictions += o->evict[i];
    const bool is_many = o->orders > 1 || orders > 1 || o->bound_count > 1 || o->capacity_count > 1 ||
                         (o->capacity_count && evictions > 1);
    if (o->decisions_out && is_many)
        return "--decisions-out wants one order, bound, capacity and eviction: its lines name the "
               "policy only";
    if (o->resume && !o->checkpoint)
        return "--resume needs --checkpoint";
    if (o->checkpoint && o->decisions_out)
        return "--decisions-out and --checkpoint exclude each other: what is resumed decides nothing";
    return NULL;
}

bool
rp_stream_parse(int argc, char **argv, rp_stream_options *o, int *exit_status)
{
    const rp_eval_parser parser = { "eval stream", options, OPT_HELP, print_help, take_option, o };
    *o = (rp_stream_options){
        .model = "all-MiniLM-L6-v2", .precision = RP_PRECISION_F32, .seed = 1, .orders = 1,
        .labels = "miss", .collision_check = true, .orders_on = { [RP_ORDER_FILE] = true }, .embed_ms = NAN,
        .evict = { [RP_EVICT_S3FIFO] = true },
        .simulation = { .error_max = NAN, .gates = RP_GATES_DEFAULT, .learn_misses = true,
                        .judge_error = 0.05, .ttl = -1, .volatile_ttl = -1,
                        .tally = { .request_cost = 0.002, .judge_cost = 0.0002,
                                   .core_hour_cost = 0.05, .upstream_ms = 1000, .judge_ms = 1688,
                                   .windows = 20 } } };
    if (!rp_eval_parse(&parser, argc, argv, exit_status))
        return false;
    const char *wrong = check_options(o, argc - optind);
    if (wrong) {
        fprintf(stderr, "reprise eval stream: %s\n", wrong);
        *exit_status = RP_EXIT_USAGE;
        return false;
    }
    o->file = argv[optind];
    static const char *const usual[] = { "exact", "static", "verified", "verified-plus",
                                         "calibrated" };
    const bool none_named = o->policy_count == 0 && !o->sweep;
    for (size_t i = 0; none_named && i < RP_COUNT(usual); i++)
        add_spec(o, usual[i]);
    return true;
}
