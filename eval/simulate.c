/* simulate.c - see simulate.h. The id of an entry is the number of its line plus one. */
#include "eval/simulate.h"

#include "base/bytes.h"
#include "base/hash.h"
#include "base/random.h"
#include "cache/driver.h"
#include <reprise/index.h>

#include <errno.h>
#include <math.h>
#include <stdlib.h>

enum { NEIGHBORS = 8 }; /* as in lib/cache/lookup.c */

/* The truth about an earlier decision, on its way to the policy. */
typedef struct pending_label {
    size_t due;          /* position in the order */
    uint32_t line;       /* of the request */
    bool enters_if_wrong; /* it becomes an entry only then */
    rp_outcome outcome;
} pending_label;

typedef struct run {
    const rp_simulation *s;
    const rp_stream *stream;
    rp_decider *decider;
    rp_index *index;
    uint32_t *answer_lines; /* (lines) whose answer the entry of this line serves */
    uint32_t *exact;        /* (keys) line of the entry + 1, 0: none */
    pending_label *pending; /* (lines); a ring is not needed: at most one a request */
    size_t pending_first, pending_count;
    rp_scope *scopes;       /* (scopes) */
    rp_random random;       /* of audits and the judge: not the policy's */
    rp_arena arena;
    rp_buffer line;
    uint32_t now_line;      /* whom the judge is asked about */
    float *decide_us, *search_us;
    size_t decided_count;
    rp_simulation_result *result;
} run;

static const float *
vector_of(const rp_simulation *s, uint32_t line)
{
    return rp_vector(s->vectors, s->by_text ? s->stream->rows[line].text : line);
}

static rp_str
text_of(const rp_stream *stream, uint32_t line)
{
    return stream->texts.texts[stream->rows[line].text];
}

static bool
is_right(const run *r, uint32_t line, rp_entry_id id)
{
    const uint32_t served = r->answer_lines[id - 1];
    return r->stream->rows[served].answer == r->stream->rows[line].answer;
}

static double
cost_of(const run *r, uint32_t line)
{
    const double cost = r->stream->rows[line].cost;
    return isnan(cost) ? r->s->request_cost : cost;
}

/* ---- what the driver asks for ------------------------------------------------------------ */

static bool
lend_text(void *context, size_t at, rp_entry_id id, rp_str *out)
{
    *out = text_of(((run *)context)->stream, (uint32_t)(id - 1));
    return true;
}

static int
judge_truth(run *r, rp_entry_id id)
{
    const bool lies = rp_random_uniform(&r->random) < r->s->judge_error;
    r->result->judge_calls++;
    return is_right(r, r->now_line, id) != lies ? RP_JUDGE_YES : RP_JUDGE_NO;
}

static int
ask_judge(void *context, const rp_judge_question *question)
{
    return judge_truth(context, question->id);
}

/* ---- entries and labels ------------------------------------------------------------------- */

static rp_status
enter_index(run *r, uint32_t line)
{
    r->result->entries++;
    return rp_index_add(r->index, r->scopes[r->stream->rows[line].scope], (rp_entry_id)line + 1,
                        vector_of(r->s, line));
}

static rp_status
deliver_labels(run *r, size_t position)
{
    rp_status status = RP_OK;
    while (!status && r->pending_first < r->pending_count &&
           r->pending[r->pending_first].due <= position) {
        const pending_label *label = &r->pending[r->pending_first++];
        rp_decider_observe(r->decider, &label->outcome);
        r->result->labels++;
        if (label->enters_if_wrong && !label->outcome.right)
            status = enter_index(r, label->line);
    }
    return status;
}

static void
queue_label(run *r, size_t position, uint32_t line, bool enters_if_wrong, const rp_outcome *outcome)
{
    r->pending[r->pending_count++] = (pending_label){ position + r->s->label_delay, line,
                                                      enters_if_wrong, *outcome };
}

/* The answer of a miss becomes an entry as the server's admission would have it
 * (lib/cache/admit.c): an exact one in any case, unless the policy wants none; among the
 * similar ones it may have to wait for its neighbour's label. */
static rp_status
admit_miss(run *r, const rp_drive_state *state, size_t position, uint32_t line)
{
    const rp_decision *decision = &state->decision;
    rp_outcome outcome;
    bool waits = false;
    if (r->s->learn_misses && rp_drive_outcome(state, RP_OUTCOME_MISS, &outcome)) {
        outcome.right = is_right(r, line, outcome.candidate.id);
        waits = decision->keep == RP_KEEP_IF_NEIGHBOR_WRONG;
        if (decision->keep != RP_KEEP_NEVER)
            outcome.entry = (rp_entry_id)line + 1;
        queue_label(r, position, line, waits, &outcome);
    }
    if (decision->keep == RP_KEEP_NEVER)
        return RP_OK;
    r->answer_lines[line] = line;
    /* Krites: a judge beside the path may point the new entry to the older answer. */
    if (r->s->has_judge && state->count && strcmp(decision->reason, "grey-zone") == 0) {
        const rp_entry_id id = state->candidates[0].id;
        if (judge_truth(r, id) == RP_JUDGE_YES)
            r->answer_lines[line] = r->answer_lines[id - 1];
    }
    r->exact[r->stream->rows[line].key] = line + 1;
    return waits ? RP_OK : enter_index(r, line);
}

static void
audit_hit(run *r, const rp_drive_state *state, size_t position, uint32_t line, rp_entry_id id)
{
    rp_outcome outcome;
    if (!(rp_random_uniform(&r->random) < r->s->audit) ||
        !rp_drive_outcome(state, RP_OUTCOME_AUDIT, &outcome))
        return;
    outcome.right = is_right(r, line, id);
    outcome.probability = r->s->audit;
    queue_label(r, position, line, false, &outcome);
    r->result->audits++;
    r->result->upstream_calls++;
    r->result->cost_saved -= cost_of(r, line);
}

/* ---- one request --------------------------------------------------------------------------- */

/* id 0: a miss. */
static rp_status
write_decision(run *r, uint32_t line, bool exact, rp_entry_id id, double similarity)
{
    rp_json_writer writer;
    if (!r->s->decisions_out)
        return RP_OK;
    rp_buffer_clear(&r->line);
    rp_json_writer_init(&writer, &r->line);
    rp_json_open(&writer, '{');
    rp_json_key(&writer, "i");
    rp_json_put_uint(&writer, line);
    rp_json_key(&writer, "policy");
    rp_json_put_string(&writer, rp_decider_spec(r->decider));
    rp_json_key(&writer, "outcome");
    rp_json_put_cstring(&writer, id ? "hit" : "miss");
    rp_json_key(&writer, "tier");
    rp_json_put_cstring(&writer, !id ? NULL : exact ? "exact" : "semantic");
    rp_json_key(&writer, "entry_i");
    if (id)
        rp_json_put_uint(&writer, r->answer_lines[id - 1]);
    else
        rp_json_put_null(&writer);
    rp_json_key(&writer, "matched_i");
    if (id)
        rp_json_put_uint(&writer, id - 1);
    else
        rp_json_put_null(&writer);
    rp_json_key(&writer, "similarity");
    rp_json_put_double(&writer, similarity);
    rp_json_key(&writer, "right");
    if (id)
        rp_json_put_bool(&writer, is_right(r, line, id));
    else
        rp_json_put_null(&writer);
    rp_json_close(&writer, '}');
    rp_buffer_append_char(&r->line, '\n');
    if (rp_buffer_failed(&r->line))
        return RP_ERR_NOMEM;
    return fwrite(r->line.ptr, 1, r->line.len, r->s->decisions_out) == r->line.len ? RP_OK
                                                                                   : RP_ERR_IO;
}

static void
count_hit(run *r, uint32_t line, bool exact, rp_entry_id id)
{
    rp_counts *const both[] = { &r->result->all,
                                &r->result->categories[r->stream->rows[line].category] };
    const bool right = is_right(r, line, id);
    for (size_t i = 0; i < RP_COUNT(both); i++) {
        *(exact ? &both[i]->exact_hits : &both[i]->hits) += 1;
        *(exact ? &both[i]->exact_wrong : &both[i]->wrong_hits) += !right;
    }
    r->result->cost_saved += cost_of(r, line);
}

/* Finer where bounds are set. */
const double rp_risk_ends[RP_RISK_BINS] = { .005, .01, .02, .05, .1, .2, .3, .4, .5, .6, .8, 1 };

static void
count_risk(run *r, const rp_drive_state *state, uint32_t line)
{
    const rp_decision *decision = &state->decision;
    size_t bin = 0;
    if (!state->count || decision->chosen >= state->count || !(decision->risk >= 0) ||
        decision->risk > 1)
        return;
    while (bin < RP_RISK_BINS - 1 && decision->risk >= rp_risk_ends[bin])
        bin++;
    r->result->risks[bin].count++;
    r->result->risks[bin].wrong += !is_right(r, line, state->candidates[decision->chosen].id);
    r->result->risks[bin].risk_sum += decision->risk;
}

static void
drive_request(run *r, size_t position, uint32_t line, rp_drive_state *state)
{
    const rp_stream_row *row = &r->stream->rows[line];
    const rp_str category = r->stream->categories.texts[row->category];
    rp_neighbor neighbors[NEIGHBORS];
    rp_candidate candidates[NEIGHBORS] = { { 0 } };
    const int64_t started = rp_monotonic_ns();
    const size_t count = rp_index_search(r->index, r->scopes[row->scope], vector_of(r->s, line),
                                         NEIGHBORS, neighbors);
    const int64_t searched = rp_monotonic_ns();
    for (size_t i = 0; i < count; i++)
        candidates[i] = (rp_candidate){ .id = neighbors[i].id,
                                        .similarity = neighbors[i].similarity };
    rp_arena_reset(&r->arena);
    const rp_drive_input input = {
        .prompt = text_of(r->stream, line),
        .stratum = rp_hash64(category),
        .category = category,
        /* Arrival times stay in place when the order of requests changes. */
        .now = (rp_time)(r->stream->rows[position].time * 1e6),
        .min_similarity = -1,
        .error_max = 1,
        .gates = { .enabled = r->s->gates, .strict = r->s->strict },
        .has_judge = r->s->has_judge,
        .random01 = rp_decider_draw(r->decider),
        .clock = &rp_clock_system,
        .sources = { .text = lend_text, .context = r },
        .arena = &r->arena,
    };
    const rp_judge judge = { .ask = ask_judge, .context = r, .deadline_ms = 3600000 };
    r->now_line = line;
    rp_drive_begin(state, &input, candidates, count);
    rp_drive(state, r->decider, r->s->has_judge ? &judge : NULL);
    r->search_us[r->decided_count] = (float)(searched - started) / 1000;
    r->decide_us[r->decided_count++] = (float)(rp_monotonic_ns() - searched) / 1000;
}

static rp_status
serve_semantic(run *r, size_t position, uint32_t line)
{
    rp_drive_state state;
    drive_request(r, position, line, &state);
    count_risk(r, &state, line);
    const double similarity = state.count ? (double)state.candidates[0].similarity : NAN;
    if (state.decision.verdict == RP_HIT) {
        const rp_entry_id id = state.candidates[state.decision.chosen].id;
        count_hit(r, line, false, id);
        audit_hit(r, &state, position, line, id);
        return write_decision(r, line, false, id, similarity);
    }
    r->result->upstream_calls++;
    const rp_status status = admit_miss(r, &state, position, line);
    return status ? status : write_decision(r, line, false, 0, similarity);
}

static rp_status
serve(run *r, size_t position)
{
    const uint32_t line = r->s->order[position];
    const rp_stream_row *row = &r->stream->rows[line];
    const rp_status status = deliver_labels(r, position);
    if (status)
        return status;
    r->result->all.requests++;
    r->result->categories[row->category].requests++;
    r->result->cost_all += cost_of(r, line);
    if (!r->exact[row->key])
        return serve_semantic(r, position, line);
    count_hit(r, line, true, r->exact[row->key]);
    return write_decision(r, line, true, r->exact[row->key], 1);
}

/* ---- the run -------------------------------------------------------------------------------- */

static int
by_rising_value(const void *a, const void *b)
{
    const float x = *(const float *)a, y = *(const float *)b;
    return x < y ? -1 : x > y;
}

static double
quantile(const float *sorted, size_t count, double share)
{
    return count ? (double)sorted[(size_t)(share * (double)(count - 1) + 0.5)] : NAN;
}

static void
fill_times(run *r)
{
    rp_simulation_result *out = r->result;
    double sum = 0;
    for (size_t i = 0; i < r->decided_count; i++)
        sum += (double)r->decide_us[i];
    out->decide_us_mean = r->decided_count ? sum / (double)r->decided_count : NAN;
    qsort(r->decide_us, r->decided_count, sizeof *r->decide_us, by_rising_value);
    qsort(r->search_us, r->decided_count, sizeof *r->search_us, by_rising_value);
    out->decide_us_p50 = quantile(r->decide_us, r->decided_count, 0.50);
    out->decide_us_p99 = quantile(r->decide_us, r->decided_count, 0.99);
    out->search_us_p50 = quantile(r->search_us, r->decided_count, 0.50);
    out->search_us_p99 = quantile(r->search_us, r->decided_count, 0.99);
}

static rp_status
make_index(const rp_simulation *s, rp_index **index, rp_scope **scopes)
{
    const rp_index_options options = { .dim = s->vectors->dim, .count_max = s->stream->count,
                                       .searchers_max = 1 };
    const size_t count = s->stream->scopes.count;
    *scopes = calloc(count + 1, sizeof **scopes);
    if (!*scopes)
        return RP_ERR_NOMEM;
    for (size_t i = 0; i < count; i++)
        rp_sha256_of(s->stream->scopes.texts[i], (*scopes)[i].bytes);
    return rp_index_new(&options, index);
}

static rp_status
prepare(run *r, const char *spec, rp_error *error)
{
    const size_t count = r->stream->count;
    rp_status status = rp_decider_new(rp_str_of(spec), r->s->error_max, r->s->seed, &r->decider,
                                      error);
    if (status)
        return status;
    r->answer_lines = calloc(count, sizeof *r->answer_lines);
    r->exact = calloc(r->stream->keys.count, sizeof *r->exact);
    r->pending = calloc(count, sizeof *r->pending);
    r->decide_us = calloc(count, sizeof *r->decide_us);
    r->search_us = calloc(count, sizeof *r->search_us);
    r->result->categories = calloc(r->stream->categories.count, sizeof *r->result->categories);
    status = make_index(r->s, &r->index, &r->scopes);
    if (status || !r->answer_lines || !r->exact || !r->pending || !r->decide_us || !r->search_us ||
        !r->result->categories)
        return rp_fail(error, status ? status : RP_ERR_NOMEM, "no memory to simulate %zu requests",
                       count);
    return RP_OK;
}

rp_status
rp_simulate(const rp_simulation *simulation, const char *spec, rp_simulation_result *out,
            rp_error *error)
{
    rp_simulation_result result = { 0 };
    run r = { .s = simulation, .stream = simulation->stream, .result = &result };
    const int64_t started = rp_monotonic_ns();
    rp_arena_init(&r.arena, 0);
    rp_buffer_init(&r.line, 0);
    rp_random_init(&r.random, simulation->seed ^ 0x6175646974u); /* "audit" */
    rp_status status = prepare(&r, spec, error);
    for (size_t i = 0; !status && i < simulation->stream->count; i++)
        if ((status = serve(&r, i)))
            rp_fail(error, status, "request %zu could not be simulated: %s", i,
                    status == RP_ERR_IO ? strerror(errno) : rp_status_name(status));
    if (!status) {
        fill_times(&r);
        result.state_bytes = rp_decider_size_bytes(r.decider);
        result.cost_saved -= simulation->judge_cost * (double)result.judge_calls;
        result.seconds = (double)(rp_monotonic_ns() - started) / 1e9;
    }
    rp_decider_free(r.decider);
    rp_index_free(r.index);
    rp_arena_fini(&r.arena);
    rp_buffer_fini(&r.line);
    free(r.answer_lines);
    free(r.exact);
    free(r.pending);
    free(r.scopes);
    free(r.decide_us);
    free(r.search_us);
    if (status)
        rp_simulation_result_fini(&result);
    else
        *out = result;
    return status;
}

void
rp_simulation_result_fini(rp_simulation_result *result)
{
    free(result->categories);
    *result = (rp_simulation_result){ 0 };
}

/* ---- every threshold at once ------------------------------------------------------------------ */

typedef struct sweep_run {
    const rp_simulation *s;
    rp_index *index;
    rp_scope *scopes;
    uint32_t *exact;     /* (keys) line + 1 of the latest */
    uint8_t *answered;   /* (answers) an earlier request has it; scopes aside */
    rp_arena arena;
} sweep_run;

static rp_status
is_vetoed(sweep_run *r, rp_str prompt, uint32_t other, bool *out)
{
    const rp_gate_options options = { .enabled = r->s->gates, .strict = r->s->strict };
    const rp_features *a, *b;
    rp_gate_report report;
    rp_arena_reset(&r->arena);
    rp_status status = rp_features_new(prompt, &r->arena, &a);
    if (!status)
        status = rp_features_new(text_of(r->s->stream, other), &r->arena, &b);
    if (!status)
        rp_gates_compare(a, b, &options, false, &report);
    *out = !status && report.fired;
    return status;
}

static rp_status
sweep_request(sweep_run *r, uint32_t line, rp_sweep *out)
{
    const rp_stream *stream = r->s->stream;
    const rp_stream_row *row = &stream->rows[line];
    rp_neighbor neighbors[NEIGHBORS];
    out->requests++;
    if (r->exact[row->key]) {
        out->exact_hits++;
        out->exact_wrong += stream->rows[r->exact[row->key] - 1].answer != row->answer;
        r->exact[row->key] = line + 1;
        return RP_OK;
    }
    const size_t count = rp_index_search(r->index, r->scopes[row->scope], vector_of(r->s, line),
                                         r->s->gates || r->s->strict ? NEIGHBORS : 1, neighbors);
    out->possible += r->answered[row->answer];
    out->nearest_right += count &&
                          stream->rows[neighbors[0].id - 1].answer == row->answer;
    rp_status status = RP_OK;
    for (size_t i = 0; !status && i < count; i++) {
        const uint32_t other = (uint32_t)(neighbors[i].id - 1);
        bool vetoed = false;
        if (r->s->gates && neighbors[i].similarity >= RP_DRIVE_GATE_SIMILARITY_MIN)
            status = is_vetoed(r, text_of(stream, line), other, &vetoed);
        if (status || vetoed)
            continue;
        out->rows[out->count++] = (rp_scored){ (double)neighbors[i].similarity, 1, 0,
                                               stream->rows[other].answer == row->answer };
        break;
    }
    r->exact[row->key] = line + 1;
    r->answered[row->answer] = 1;
    if (!status)
        status = rp_index_add(r->index, r->scopes[row->scope], (rp_entry_id)line + 1,
                              vector_of(r->s, line));
    return status;
}

rp_status
rp_sweep_run(const rp_simulation *simulation, rp_sweep *out, rp_error *error)
{
    const rp_stream *stream = simulation->stream;
    sweep_run r = { .s = simulation };
    rp_sweep sweep = { 0 };
    rp_arena_init(&r.arena, 0);
    r.exact = calloc(stream->keys.count, sizeof *r.exact);
    r.answered = calloc(stream->answers.count, sizeof *r.answered);
    sweep.rows = calloc(stream->count, sizeof *sweep.rows);
    rp_status status = make_index(simulation, &r.index, &r.scopes);
    if (!status && (!r.exact || !r.answered || !sweep.rows))
        status = RP_ERR_NOMEM;
    for (size_t i = 0; !status && i < stream->count; i++)
        status = sweep_request(&r, simulation->order[i], &sweep);
    rp_scored_sort(sweep.rows, sweep.count);
    rp_index_free(r.index);
    rp_arena_fini(&r.arena);
    free(r.scopes);
    free(r.exact);
    free(r.answered);
    if (status) {
        rp_sweep_fini(&sweep);
        return rp_fail(error, status, "the sweep over %zu requests failed: %s", stream->count,
                       rp_status_name(status));
    }
    *out = sweep;
    return RP_OK;
}

void
rp_sweep_fini(rp_sweep *sweep)
{
    free(sweep->rows);
    *sweep = (rp_sweep){ 0 };
}
