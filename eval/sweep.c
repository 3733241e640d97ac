/* sweep.c - every threshold at once, in hindsight; see simulate.h. */
#include "eval/simulate_internal.h"

#include "cache/driver.h"
#include "evidence/gates.h"

#include <stdlib.h>

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
    rp_gate_report report = { 0 };
    rp_arena_reset(&r->arena);
    rp_status status = rp_features_new(prompt, &r->arena, &a);
    if (!status)
        status = rp_features_new(rp_simulation_text(r->s->stream, other), &r->arena, &b);
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
    rp_neighbor neighbors[RP_SIMULATION_NEIGHBORS];
    out->requests++;
    if (r->exact[row->key]) {
        out->exact_hits++;
        out->exact_wrong += stream->rows[r->exact[row->key] - 1].answer != row->answer;
        r->exact[row->key] = line + 1;
        return RP_OK;
    }
    if (rp_vectors_window_count(r->s->vectors, rp_simulation_row(r->s, line)) == 0)
        return RP_OK; /* too long to be embedded */
    const size_t wanted = r->s->gates || r->s->strict ? RP_SIMULATION_NEIGHBORS : 1;
    const size_t count = rp_index_search(r->index, r->scopes[row->scope],
                                         rp_simulation_vector(r->s, line), wanted, neighbors);
    out->possible += r->answered[row->answer];
    out->nearest_right += count &&
                          stream->rows[neighbors[0].id - 1].answer == row->answer;
    rp_status status = RP_OK;
    for (size_t i = 0; !status && i < count; i++) {
        const uint32_t other = (uint32_t)(neighbors[i].id - 1);
        bool vetoed = false;
        if (r->s->gates && neighbors[i].similarity >= RP_DRIVE_GATE_SIMILARITY_MIN)
            status = is_vetoed(r, rp_simulation_text(stream, line), other, &vetoed);
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
                              rp_simulation_vector(r->s, line));
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
    rp_status status = rp_simulation_index(simulation, &r.index, &r.scopes);
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
