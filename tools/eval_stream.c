/* eval_stream.c - `reprise eval stream`: policies over a stream of requests.
 *
 * What is asked for becomes a list of runs: each policy under each bound, capacity, eviction
 * and order. Runs are independent and repeatable, so a finished one can be taken from a
 * checkpoint, whose key is everything that decides its result. */
#include "tools/eval_stream.h"

#include "base/bytes.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/hash.h"
#include "eval/checkpoint.h"
#include "embed/registry.h"
#include "evidence/gates.h"
#include "tools/command.h"

#include <errno.h>
#include <limits.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- the list of runs ------------------------------------------------------------------------ */

typedef struct run_list {
    rp_stream_run *runs; /* owned */
    size_t count, capacity;
} run_list;

static rp_status
add_run(run_list *list, const rp_stream_run *run)
{
    if (list->count == list->capacity) {
        const size_t capacity = list->capacity ? 2 * list->capacity : 64;
        rp_stream_run *runs = realloc(list->runs, capacity * sizeof *runs);
        if (!runs)
            return RP_ERR_NOMEM;
        list->runs = runs;
        list->capacity = capacity;
    }
    list->runs[list->count++] = *run;
    return RP_OK;
}

/* The bound that a SPEC names itself; false: none. */
static bool
bound_of_spec(const char *spec, double *out)
{
    rp_str rest = rp_str_of(spec);
    rp_str_split(&rest, ':');
    while (rest.len) {
        rp_str value = rp_str_split(&rest, ',');
        const rp_str key = rp_str_split(&value, '=');
        if (rp_str_equal(key, RP_STR("error_max")) && rp_str_to_double(value, out))
            return true;
    }
    return false;
}

static bool
keeps_a_bound(const char *spec)
{
    const rp_str text = rp_str_of(spec);
    return rp_str_starts_with(text, RP_STR("verified")) ||
           rp_str_starts_with(text, RP_STR("adaptive")) ||
           rp_str_starts_with(text, RP_STR("calibrated"));
}

static size_t
amount_of(const rp_stream_amount *amount, size_t all)
{
    return (size_t)(amount->is_share ? amount->value * (double)all + 0.5 : amount->value);
}

/* Every eviction under every capacity, or no bound at all. */
static rp_status
add_capacities(const rp_stream_options *o, size_t requests, rp_stream_run run, run_list *list)
{
    if (o->capacity_count == 0)
        return add_run(list, &run);
    rp_status status = RP_OK;
    for (size_t c = 0; c < o->capacity_count; c++)
        for (size_t e = 0; !status && e < RP_EVICT_KINDS; e++) {
            run.capacity = RP_MAX(amount_of(&o->capacities[c], requests), (size_t)1);
            run.evict = (rp_evict_kind)e;
            if (o->evict[e])
                status = add_run(list, &run);
        }
    return status;
}

static rp_status
add_orders(const rp_stream_options *o, size_t requests, rp_stream_run run, run_list *list)
{
    rp_status status = RP_OK;
    for (int order = 0; !status && order < RP_STREAM_ORDERS; order++) {
        const uint64_t orders = order == RP_ORDER_FILE ? 1 : o->orders;
        if (!o->orders_on[order])
            continue;
        run.order = (rp_stream_order)order;
        for (uint64_t at = 0; !status && at < orders; at++) {
            run.seed = o->seed + at;
            status = run.policy ? add_capacities(o, requests, run, list) : add_run(list, &run);
        }
    }
    return status;
}

static rp_status
list_runs(const rp_stream_options *o, size_t requests, run_list *list)
{
    rp_status status = RP_OK;
    for (size_t i = 0; !status && i < o->policy_count; i++) {
        rp_stream_run run = { .policy = &o->policies[i], .error_max = NAN };
        const bool keeps = keeps_a_bound(run.policy->spec);
        const bool own = bound_of_spec(run.policy->spec, &run.error_max);
        if (!keeps || own || o->bound_count == 0) {
            if (keeps && !own)
                run.error_max = 0.01; /* every family's default (design.md 8) */
            else if (!keeps)
                run.error_max = NAN;
            status = add_orders(o, requests, run, list);
            continue;
        }
        for (size_t b = 0; !status && b < o->bound_count; b++) {
            run.error_max = o->bounds[b];
            run.bound_given = true;
            status = add_orders(o, requests, run, list);
        }
    }
    return status;
}

/* ---- progress, and stopping -------------------------------------------------------------------- */

static volatile sig_atomic_t stop_asked;

static void
ask_to_stop(int number)
{
    stop_asked = number;
}

/* The first signal ends the run at hand and leaves the checkpoint whole; a second one ends
 * the program as usual. */
static void
catch_signals(void)
{
    struct sigaction action = { .sa_handler = ask_to_stop, .sa_flags = (int)SA_RESETHAND };
    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
}

typedef struct progress {
    size_t at, count;          /* runs: done, all */
    size_t simulated;          /* runs done by this process */
    int64_t started_ns, shown_ns;
    const char *spec;
} progress;

static bool
show_progress(void *context, size_t done, size_t count)
{
    progress *p = context;
    const int64_t now = rp_monotonic_ns();
    if (!isatty(STDERR_FILENO) || now - p->shown_ns < 200000000)
        return !stop_asked;
    p->shown_ns = now;
    const double share = (double)done / (double)count;
    const double mine = (double)p->simulated + share, seconds = (double)(now - p->started_ns) / 1e9;
    const double left = (double)(p->count - p->at) - share;
    fprintf(stderr, "\rrun %zu of %zu: %s, %.0f %%", p->at + 1, p->count, p->spec, 100 * share);
    if (mine > 0.02 && seconds > 1)
        fprintf(stderr, ", about %.0f s to go", ceil(seconds / mine * left));
    fputs("\033[K", stderr);
    return !stop_asked;
}

static void
clear_progress(void)
{
    if (isatty(STDERR_FILENO))
        fputs("\r\033[K", stderr);
}

/* ---- running ------------------------------------------------------------------------------------ */

/* What is kept of a policy's frontier pass: bounds and caches of any size share it. */
typedef struct kept_frontier {
    const rp_stream_policy *policy;
    rp_stream_order order;
    uint64_t seed;
    rp_frontiers frontiers;
} kept_frontier;

typedef struct session {
    rp_stream_options *o;
    const rp_stream *stream;
    const rp_vectors *vectors;
    const float *embed_us;
    uint32_t *order; /* (requests); owned */
    rp_checkpoint *checkpoint;
    const rp_encoder *encoder;   /* NULL with --vectors */
    const rp_verifier *verifier; /* NULL: there is none */
    rp_memo memo;
    kept_frontier *frontiers; /* (frontier_count); owned */
    size_t frontier_count;
    progress progress;
} session;

static void
fill_simulation(session *s, const rp_stream_run *run, rp_simulation *out)
{
    const rp_stream_options *o = s->o;
    *out = o->simulation;
    out->stream = s->stream;
    out->vectors = s->vectors;
    out->by_text = !o->vectors;
    out->embed_us = s->embed_us;
    out->order = s->order;
    out->encoder = o->collision_check ? s->encoder : NULL;
    out->verifier = s->verifier;
    out->memo = &s->memo;
    out->seed = run->seed;
    out->warm = RP_MIN(amount_of(&o->warm, s->stream->count), s->stream->count);
    out->has_judge = o->has_judge;
    out->progress = show_progress;
    out->progress_context = (void *)&s->progress;
    if (!run->policy)
        return;
    out->error_max = run->bound_given ? run->error_max : NAN;
    out->capacity = run->capacity;
    out->evict = run->evict;
    out->has_judge |= run->policy->needs_judge;
    out->neighbors = run->policy->neighbors;
    if (run->policy->own_gates) {
        out->strict = false;
        out->gates = run->policy->gates ? RP_GATES_DEFAULT : 0;
    }
}

static void
hash_number(rp_sha256 *hash, double value)
{
    rp_sha256_update(hash, (rp_str){ (const char *)&value, sizeof value });
}

/* Everything that decides the result, and the program's version: results of another one
 * are not mixed in. */
static void
key_of_run(const session *s, const rp_stream_run *run, const rp_simulation *sim, uint8_t out[32])
{
    const rp_stream_options *o = s->o;
    const double numbers[] = {
        sim->error_max, sim->gates, sim->strict, sim->learn_misses, sim->audit,
        (double)sim->label_delay, sim->has_judge, sim->judge_error, (double)sim->neighbors,
        (double)sim->warm, (double)sim->capacity, sim->evict, sim->interval, sim->ttl,
        sim->volatile_ttl, sim->tally.request_cost, sim->tally.judge_cost,
        sim->tally.core_hour_cost, sim->tally.upstream_ms, sim->tally.upstream_spread,
        sim->tally.judge_ms, (double)sim->tally.windows, o->embed_ms, run->order,
        (double)run->seed, sizeof(rp_tally), sizeof(rp_window), sim->encoder != NULL,
    };
    rp_sha256 hash;
    rp_sha256_init(&hash);
    rp_sha256_update_field(&hash, rp_str_of(rp_commit));
    rp_sha256_update_field(&hash, rp_str_of(o->stream_sha256));
    rp_sha256_update_field(&hash, rp_str_of(o->encoder));
    rp_sha256_update_field(&hash, rp_str_of(o->vectors ? o->vectors : ""));
    rp_sha256_update_field(&hash, rp_str_of(o->verifier_print));
    rp_sha256_update_field(&hash, rp_str_of(run->policy->spec));
    for (size_t i = 0; i < RP_COUNT(numbers); i++)
        hash_number(&hash, isnan(numbers[i]) ? -12345 : numbers[i]); /* one NaN for all */
    rp_sha256_final(&hash, out);
}

/* ---- what finished simulations left ---------------------------------------------------------------- */

static bool
find_kept(const session *s, const uint8_t key[32], rp_str *out)
{
    return s->checkpoint && rp_checkpoint_find(s->checkpoint, key, out);
}

static rp_status
keep(session *s, const uint8_t key[32], rp_str bytes, rp_error *error)
{
    return s->checkpoint ? rp_checkpoint_add(s->checkpoint, key, bytes, error) : RP_OK;
}

/* Before a simulation: its order, and what the progress says. */
static rp_status
begin_run(session *s, const rp_stream_run *run)
{
    s->progress.spec = run->policy->spec;
    return rp_stream_arrange(s->stream, run->order, run->seed, s->order);
}

/* ---- the frontier of a policy ------------------------------------------------------------------- */

static void
add_bound(rp_frontiers *frontiers, double bound)
{
    for (size_t i = 0; i < frontiers->bound_count; i++)
        if (frontiers->bounds[i] == bound)
            return;
    if (!isnan(bound) && frontiers->bound_count < RP_FRONTIER_BOUNDS_MAX)
        frontiers->bounds[frontiers->bound_count++] = bound;
}

/* The usual bounds, and those under which the policy runs. */
static void
set_bounds(const rp_stream_options *o, const rp_stream_run *run, rp_frontiers *out)
{
    static const double usual[] = { 0.005, 0.01, 0.02, 0.05 };
    *out = (rp_frontiers){ 0 };
    for (size_t i = 0; i < RP_COUNT(usual); i++)
        add_bound(out, usual[i]);
    for (size_t i = 0; run->bound_given && i < o->bound_count; i++)
        add_bound(out, o->bounds[i]);
    add_bound(out, run->error_max);
}

static void
key_of_frontier(const session *s, const rp_stream_run *run, const rp_simulation *sim,
                const rp_frontiers *frontiers, uint8_t out[32])
{
    uint8_t key[32];
    rp_sha256 hash;
    key_of_run(s, run, sim, key);
    rp_sha256_init(&hash);
    rp_sha256_update_field(&hash, RP_STR("frontier"));
    rp_sha256_update(&hash, (rp_str){ (const char *)key, sizeof key });
    rp_sha256_update(&hash, (rp_str){ (const char *)frontiers, sizeof *frontiers });
    rp_sha256_final(&hash, out);
}

static rp_status
make_frontiers(session *s, const rp_stream_run *run, rp_frontiers *out, rp_error *error)
{
    rp_simulation sim;
    uint8_t key[32];
    rp_str kept;
    fill_simulation(s, run, &sim);
    sim.error_max = NAN; /* the policy's own: no cut is looked at */
    sim.capacity = 0;
    sim.evict = 0;
    set_bounds(s->o, run, out);
    key_of_frontier(s, run, &sim, out, key);
    if (find_kept(s, key, &kept) && kept.len == sizeof *out) {
        memcpy(out, kept.ptr, sizeof *out);
        return RP_OK;
    }
    rp_status status = begin_run(s, run);
    if (!status)
        status = rp_simulate_frontier(&sim, run->policy->spec, out, error);
    clear_progress();
    return status ? status : keep(s, key, (rp_str){ (const char *)out, sizeof *out }, error);
}

/* Printed once as JSON, when it is made. */
static rp_status
get_frontiers(session *s, const rp_stream_run *run, const rp_frontiers **out, rp_error *error)
{
    *out = NULL;
    if (!s->o->frontier)
        return RP_OK;
    for (size_t i = 0; i < s->frontier_count; i++) {
        const kept_frontier *kept = &s->frontiers[i];
        if (kept->policy == run->policy && kept->order == run->order && kept->seed == run->seed) {
            *out = &kept->frontiers;
            return RP_OK;
        }
    }
    kept_frontier *grown = realloc(s->frontiers, (s->frontier_count + 1) * sizeof *grown);
    if (!grown)
        return rp_fail(error, RP_ERR_NOMEM, "no memory for one more frontier");
    s->frontiers = grown;
    kept_frontier *made = &grown[s->frontier_count];
    *made = (kept_frontier){ .policy = run->policy, .order = run->order, .seed = run->seed };
    const rp_status status = make_frontiers(s, run, &made->frontiers, error);
    if (status)
        return status;
    s->frontier_count++;
    *out = &made->frontiers;
    if (s->o->json)
        rp_stream_print_frontiers_json(s->o, run, *out);
    return RP_OK;
}

/* ---- results ------------------------------------------------------------------------------------ */

static rp_status
keep_tally(session *s, const uint8_t key[32], const rp_tally *tally, rp_error *error)
{
    rp_buffer bytes;
    rp_buffer_init(&bytes, 0);
    rp_tally_encode(tally, &bytes);
    const rp_status status =
        rp_buffer_failed(&bytes) ? rp_fail(error, RP_ERR_NOMEM, "no memory to keep a result")
                                 : keep(s, key, rp_buffer_str(&bytes), error);
    rp_buffer_fini(&bytes);
    return status;
}

/* From the checkpoint, or by simulation. */
static rp_status
get_result(session *s, const rp_stream_run *run, rp_tally *out, rp_error *error)
{
    rp_simulation sim;
    uint8_t key[32];
    rp_str kept;
    fill_simulation(s, run, &sim);
    key_of_run(s, run, &sim, key);
    if (find_kept(s, key, &kept) && !rp_tally_decode(kept, s->stream->categories.count, out))
        return RP_OK;
    rp_status status = begin_run(s, run);
    if (!status)
        status = rp_simulate(&sim, run->policy->spec, out, error);
    clear_progress();
    if (status)
        return status;
    s->progress.simulated++;
    if ((status = keep_tally(s, key, out, error)))
        rp_tally_fini(out);
    return status;
}

static rp_status
run_sweeps(session *s, rp_error *error)
{
    run_list sweeps = { 0 };
    rp_status status = add_orders(s->o, 0, (rp_stream_run){ .error_max = NAN }, &sweeps);
    for (size_t i = 0; !status && i < sweeps.count; i++) {
        rp_simulation sim;
        rp_sweep sweep;
        fill_simulation(s, &sweeps.runs[i], &sim);
        status = rp_stream_arrange(s->stream, sweeps.runs[i].order, sweeps.runs[i].seed, s->order);
        if (!status)
            status = rp_sweep_run(&sim, &sweep, error);
        if (status)
            break;
        if (s->o->json)
            rp_stream_print_sweep_json(s->o, &sweeps.runs[i], &sweep);
        else
            rp_stream_print_sweep_text(&sweep);
        rp_sweep_fini(&sweep);
    }
    free(sweeps.runs);
    return status;
}

static bool
is_other_order_of(const rp_stream_run *a, const rp_stream_run *b)
{
    return a->policy == b->policy && a->order == b->order && a->capacity == b->capacity &&
           a->evict == b->evict && a->bound_given == b->bound_given &&
           (!a->bound_given || a->error_max == b->error_max);
}

/* One result is printed as it is; of several orders of one kind, the sum. */
static void
print_result(session *s, const run_list *list, size_t at, const rp_tally *tally,
             const rp_frontiers *frontiers, rp_stream_summary *summaries)
{
    const rp_stream_run *run = &list->runs[at];
    const uint64_t orders = run->order == RP_ORDER_FILE ? 1 : s->o->orders;
    if (s->o->json && !s->o->sum_orders) {
        rp_stream_print_json(s->o, run, s->stream, tally, frontiers);
        return;
    }
    if (orders == 1 && !s->o->sum_orders) {
        rp_stream_print_text(s->o, run, s->stream, tally, frontiers);
        return;
    }
    size_t first = at;
    for (size_t i = 0; i < at; i++)
        if (is_other_order_of(&list->runs[i], run)) {
            first = i;
            break;
        }
    rp_stream_summary_add(&summaries[first], run, &tally->all, frontiers);
    if (summaries[first].orders == orders)
        (s->o->json ? rp_stream_summary_print_json : rp_stream_summary_print)(s->o, run,
                                                                             &summaries[first]);
}

static rp_status
run_policies(session *s, rp_error *error)
{
    run_list list = { 0 };
    rp_status status = list_runs(s->o, s->stream->count, &list);
    rp_stream_summary *summaries = calloc(list.count + 1, sizeof *summaries);
    if (status || !summaries)
        status = rp_fail(error, RP_ERR_NOMEM, "no memory for %zu runs", list.count);
    s->progress = (progress){ .count = list.count, .started_ns = rp_monotonic_ns() };
    if (!status && !s->o->json && !s->o->sum_orders && s->o->orders == 1 && list.count)
        rp_stream_print_header();
    for (size_t i = 0; !status && i < list.count; i++) {
        rp_tally tally;
        const rp_frontiers *frontiers;
        s->progress.at = i;
        status = stop_asked ? RP_ERR_CLOSED : get_frontiers(s, &list.runs[i], &frontiers, error);
        if (!status)
            status = get_result(s, &list.runs[i], &tally, error);
        if (status == RP_ERR_CLOSED)
            rp_fail(error, status, "stopped after %zu of %zu runs%s", i, list.count,
                    s->checkpoint ? "; the same command with --resume goes on" : "");
        if (status)
            break;
        print_result(s, &list, i, &tally, frontiers, summaries);
        rp_tally_fini(&tally);
    }
    free(summaries);
    free(list.runs);
    return status;
}

/* ---- what a run needs ------------------------------------------------------------------------------ */

/* A SPEC that cannot be used is said before minutes are spent on vectors. */
static rp_status
check_policies(const rp_stream_options *o, rp_error *error)
{
    rp_status status = RP_OK;
    for (size_t i = 0; !status && i < o->policy_count; i++) {
        rp_policy *policy;
        status = rp_policy_new(rp_str_of(o->policies[i].spec), NAN, &policy, error);
        if (!status)
            rp_policy_free(policy);
    }
    return status;
}

static rp_status
hash_stream(rp_stream_options *o, rp_error *error)
{
    rp_file_map map;
    uint8_t digest[32];
    const rp_status status = rp_file_map_open(o->file, &map, error);
    if (status)
        return status;
    rp_sha256_of((rp_str){ map.ptr, map.len }, digest);
    rp_hex_encode(digest, sizeof digest, o->stream_sha256);
    rp_file_map_close(&map);
    return RP_OK;
}

static rp_status
make_vectors(rp_stream_options *o, const rp_stream *stream, rp_vectors *out, float *embed_us,
             rp_encoder **encoder, rp_error *error)
{
    if (o->vectors) {
        const rp_status status = rp_vectors_open(o->vectors, stream->count, out, error);
        return status == RP_ERR_IO ? RP_ERR_INVALID : status;
    }
    rp_status status = rp_eval_open_encoder(o->model, o->precision, encoder, error);
    if (status)
        return status;
    snprintf(o->encoder, sizeof o->encoder, "%.*s", RP_FMT(rp_encoder_fingerprint(*encoder)));
    status = rp_eval_windows(*encoder, stream->texts.texts, stream->texts.count, &o->cache, out,
                             error);
    if (!status && isnan(o->embed_ms))
        status = rp_vectors_time(*encoder, stream->texts.texts, stream->texts.count, embed_us,
                                 error);
    return status;
}

/* Before minutes are spent on vectors. */
static rp_status
open_verifier(rp_stream_options *o, rp_verifier **out, rp_error *error)
{
    char folder[PATH_MAX];
    const rp_encoder_options options = { .precision = o->precision };
    if (!o->verifier)
        return RP_OK;
    rp_status status = rp_model_resolve(o->verifier, folder, sizeof folder, error);
    if (!status)
        status = rp_verifier_open(folder, &options, out, error);
    if (!status)
        snprintf(o->verifier_print, sizeof o->verifier_print, "%.*s",
                 RP_FMT(rp_verifier_fingerprint(*out)));
    return status;
}

static rp_status
run_session(session *s, rp_error *error)
{
    rp_stream_options *o = s->o;
    rp_status status = RP_OK;
    if (!(s->order = calloc(s->stream->count, sizeof *s->order)))
        return rp_fail(error, RP_ERR_NOMEM, "no memory for an order");
    if (o->checkpoint)
        status = rp_checkpoint_open(o->checkpoint, o->resume, &s->checkpoint, error);
    if (!status && o->decisions_out &&
        !(o->simulation.decisions_out = fopen(o->decisions_out, "wb")))
        status = rp_fail(error, RP_ERR_INVALID, "cannot write %s: %s", o->decisions_out,
                         strerror(errno));
    if (!status && o->sweep)
        status = run_sweeps(s, error);
    if (!status)
        status = run_policies(s, error);
    FILE *out = o->simulation.decisions_out;
    if (out && (ferror(out) | fclose(out)) && !status)
        status = rp_fail(error, RP_ERR_IO, "cannot write %s", o->decisions_out);
    rp_checkpoint_close(s->checkpoint);
    free(s->frontiers);
    free(s->order);
    return status;
}

static rp_status
run_read(rp_stream_options *o, const rp_stream *stream, const rp_verifier *verifier,
         rp_error *error)
{
    rp_vectors vectors = { 0 };
    rp_encoder *encoder = NULL;
    float *embed_us = calloc(stream->texts.count, sizeof *embed_us);
    rp_status status = embed_us ? hash_stream(o, error)
                                : rp_fail(error, RP_ERR_NOMEM, "no memory for times");
    if (!status)
        status = make_vectors(o, stream, &vectors, embed_us, &encoder, error);
    if (!status) {
        for (size_t i = 0; !isnan(o->embed_ms) && i < stream->texts.count; i++)
            embed_us[i] = (float)(o->embed_ms * 1000);
        const bool times_known = !o->vectors || !isnan(o->embed_ms);
        session s = { .o = o, .stream = stream, .vectors = &vectors, .encoder = encoder,
                      .verifier = verifier, .embed_us = times_known ? embed_us : NULL };
        status = run_session(&s, error);
        rp_memo_fini(&s.memo);
        rp_vectors_fini(&vectors);
    }
    rp_encoder_close(encoder);
    free(embed_us);
    return status;
}

static rp_status
run_stream(rp_stream_options *o, rp_error *error)
{
    rp_stream stream;
    rp_verifier *verifier = NULL;
    rp_status status = check_policies(o, error);
    if (!status)
        status = rp_stream_read(o->file, &stream, error);
    if (status)
        return status;
    status = open_verifier(o, &verifier, error);
    if (!status)
        status = run_read(o, &stream, verifier, error);
    rp_verifier_close(verifier);
    rp_stream_fini(&stream);
    return status;
}

int
rp_command_eval_stream(int argc, char **argv)
{
    /* Too large for comfort on the stack, and there is one. */
    static rp_stream_options o;
    rp_error error = { { 0 } };
    int exit_status;
    if (!rp_stream_parse(argc, argv, &o, &exit_status))
        return exit_status;
    catch_signals();
    rp_status status = run_stream(&o, &error);
    if ((fflush(stdout) || ferror(stdout)) && !status)
        status = rp_fail(&error, RP_ERR_IO, "cannot write the result");
    if (status)
        fprintf(stderr, "reprise eval stream: %s\n", error.text);
    return status == RP_ERR_CLOSED ? RP_EXIT_FAILED : rp_eval_exit_status(status);
}
