/* simulate.c - see simulate.h. The id of an entry is the number of its line plus one. */
#include "eval/simulate_internal.h"

#include "base/bytes.h"
#include "base/hash.h"
#include "base/random.h"
#include "cache/admit.h"
#include "cache/ask.h"
#include "cache/driver.h"
#include "cache/lookup.h"
#include "json/json.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <time.h>

enum { PROGRESS_EVERY = 64 }; /* requests */

/* The truth about an earlier decision, on its way to the policy. */
typedef struct pending_label {
    size_t due;          /* position in the order */
    uint32_t line;       /* of the request */
    bool enters_if_wrong; /* it becomes an entry only then */
    double threshold;    /* of the decision, for eviction */
    rp_outcome outcome;
} pending_label;

/* What a line is as an entry. */
typedef struct sim_entry {
    rp_time created, expires; /* expires 0: never */
    uint32_t answer_line;     /* whose answer it serves */
    bool is_in, is_indexed;
} sim_entry;

typedef struct expiry {
    rp_time when;
    uint32_t line;
} expiry;

typedef struct run {
    const rp_simulation *s;
    const rp_stream *stream;
    rp_decider *decider;
    bool is_exact;          /* the policy never hits: the server does not embed for it */
    rp_index *index;
    rp_evict *evict;        /* NULL: no bound */
    sim_entry *entries;     /* (lines) */
    uint32_t *exact;        /* (keys) line of the entry + 1, 0: none */
    rp_volatility *words;   /* (texts) */
    pending_label *pending; /* (lines); a ring is not needed: at most one a request */
    size_t pending_first, pending_count;
    expiry *expiries;       /* (lines) heap, the earliest first; empty if no time passes */
    size_t expiry_count;
    bool time_passes;
    uint64_t entries_now;
    rp_scope *scopes;       /* (scopes) */
    const rp_candidate *found; /* (RP_CANDIDATES_MAX) what the driver was given */
    rp_query query;         /* of the request at hand, as the rules of lib/cache see it */
    rp_random random;       /* of audits and the judge: not the policy's */
    rp_arena arena;
    rp_buffer line;
    uint32_t now_line;      /* whom the judge is asked about */
    uint64_t judge_calls, judge_waited; /* of the request at hand: asked, and waited for */
    float *decide_us, *search_us, *embed_us; /* of decided_count requests */
    size_t decided_count;
    float *with_ms, *without_ms; /* of all requests that count */
    double compute_us;
    bool counts;            /* warm-up is over */
    rp_tally *tally;
    rp_frontier_rows *frontier; /* NULL: hits are served; else nothing is, and all is told */
} run;

static bool
is_right(const run *r, uint32_t line, rp_entry_id id)
{
    const uint32_t served = r->entries[id - 1].answer_line;
    return r->stream->rows[served].answer == r->stream->rows[line].answer;
}

static double
cost_of(const run *r, uint32_t line)
{
    const double cost = r->stream->rows[line].cost;
    return isnan(cost) ? r->s->tally.request_cost : cost;
}

/* Windows of a line's text: its own vector if it has only one. */
static rp_windows
windows_of(const run *r, uint32_t line)
{
    const size_t row = rp_simulation_row(r->s, line);
    return (rp_windows){ rp_vectors_windows(r->s->vectors, row),
                         rp_vectors_window_count(r->s->vectors, row), r->s->vectors->dim };
}

/* ---- what the driver asks for ------------------------------------------------------------ */

static bool
lend_text(void *context, size_t at, rp_entry_id id, rp_str *out)
{
    *out = rp_simulation_text(((run *)context)->stream, (uint32_t)(id - 1));
    return true;
}

enum { MEMO_VERIFIER = 1, MEMO_COLLISION = 2 };

static uint64_t
memo_key(const run *r, unsigned what, rp_entry_id id)
{
    return rp_memo_key(what, r->stream->rows[r->now_line].text, r->stream->rows[id - 1].text);
}

static bool
remembers(const run *r, unsigned what, rp_entry_id id, float *out)
{
    return r->s->memo && rp_memo_find(r->s->memo, memo_key(r, what, id), out);
}

static void
remember(const run *r, unsigned what, rp_entry_id id, float value)
{
    if (r->s->memo)
        rp_memo_keep(r->s->memo, memo_key(r, what, id), value);
}

/* NaN is remembered of pairs about which the verifier has no word. */
static rp_status
ask_verifier(void *context, size_t at, rp_str prompt, rp_str stored, int64_t deadline_us, float *out)
{
    const run *r = context;
    const rp_entry_id id = r->found[at].id;
    float said = NAN;
    if (!remembers(r, MEMO_VERIFIER, id, &said)) {
        const rp_status status = rp_ask_verifier(r->s->verifier, prompt, stored, &rp_clock_system,
                                                 deadline_us, &said);
        if (status && status != RP_ERR_LIMIT)
            return status;
        remember(r, MEMO_VERIFIER, id, said);
    }
    if (isnan(said))
        return RP_ERR_LIMIT;
    *out = said;
    return RP_OK;
}

static rp_status
embed_variants(void *context, const rp_str *texts, size_t count, float *out)
{
    return rp_encoder_embed(((const run *)context)->s->encoder, texts, count, out, NULL, NULL);
}

static rp_status
ask_collision(void *context, size_t at, rp_entry_id id, rp_str prompt, rp_str stored,
              float similarity, bool *out)
{
    run *r = context;
    float said = 0;
    rp_status status = RP_OK;
    (void)at;
    if (!remembers(r, MEMO_COLLISION, id, &said)) {
        bool collides = false;
        status = rp_ask_collision(stored, prompt, rp_simulation_vector(r->s, r->now_line),
                                  r->s->vectors->dim, similarity, embed_variants, r, &collides);
        said = collides ? 1 : 0;
        if (!status)
            remember(r, MEMO_COLLISION, id, said);
    }
    *out = said > 0;
    r->tally->collisions += *out && r->counts;
    return status;
}

static int
judge_truth(run *r, rp_entry_id id)
{
    const bool lies = rp_random_uniform(&r->random) < r->s->judge_error;
    r->judge_calls++;
    return is_right(r, r->now_line, id) != lies ? RP_JUDGE_YES : RP_JUDGE_NO;
}

static int
ask_judge(void *context, const rp_judge_question *question)
{
    run *r = context;
    r->judge_waited++;
    return judge_truth(r, question->id);
}

/* ---- the clock and the rules ----------------------------------------------------------------- */

static rp_time
time_at(const run *r, size_t position)
{
    /* Arrival times stay in place when the order of requests changes. */
    const double seconds = r->stream->has_times ? r->stream->rows[position].time
                                                : r->s->interval * (double)position;
    return (rp_time)(seconds * 1e6);
}

/* The request at hand as lib/cache sees it, without store, tenant and wire. */
static void
begin_query(run *r, size_t position, uint32_t line)
{
    const rp_stream_row *row = &r->stream->rows[line];
    rp_query *query = &r->query;
    query->now = time_at(r, position);
    query->scope = r->scopes[row->scope];
    query->key = (rp_key){ { 0 } };
    memcpy(query->key.bytes, &row->key, sizeof row->key);
    memset(query->user_hash, 0, sizeof query->user_hash);
    memcpy(query->user_hash, &row->user, sizeof row->user);
    query->words = r->words[row->text];
    query->words_known = true;
}

/* May this entry answer the query? */
static bool
may_answer(run *r, uint32_t line)
{
    const rp_stream_row *row = &r->stream->rows[line];
    const rp_volatility words = r->words[row->text];
    rp_entry entry = { .scope = r->scopes[row->scope],
                       .created = r->entries[line].created,
                       .expires = r->entries[line].expires,
                       .flags = (words.personal ? RP_ENTRY_PERSONAL : 0u)
                                | (words.temporal ? RP_ENTRY_TEMPORAL : 0u) };
    memcpy(entry.key.bytes, &row->key, sizeof row->key);
    memcpy(entry.user_hash, &row->user, sizeof row->user);
    const bool may = !rp_replay_refusal(&r->query, &entry);
    r->tally->withheld += !may && r->counts;
    return may;
}

/* ---- entries and labels ------------------------------------------------------------------- */

static void
remove_entry(run *r, uint32_t line)
{
    sim_entry *entry = &r->entries[line];
    if (!entry->is_in)
        return;
    if (entry->is_indexed)
        rp_index_remove(r->index, (rp_entry_id)line + 1);
    if (r->exact[r->stream->rows[line].key] == line + 1)
        r->exact[r->stream->rows[line].key] = 0;
    if (r->evict)
        rp_evict_remove(r->evict, line + 1);
    rp_decider_forget(r->decider, (rp_entry_id)line + 1);
    entry->is_in = entry->is_indexed = false;
    r->entries_now--;
}

static void
push_expiry(run *r, rp_time when, uint32_t line)
{
    size_t at = r->expiry_count++;
    for (; at > 0 && when < r->expiries[(at - 1) / 2].when; at = (at - 1) / 2)
        r->expiries[at] = r->expiries[(at - 1) / 2];
    r->expiries[at] = (expiry){ when, line };
}

static void
pop_expiry(run *r)
{
    const expiry last = r->expiries[--r->expiry_count];
    size_t at = 0;
    for (size_t child; (child = 2 * at + 1) < r->expiry_count; at = child) {
        if (child + 1 < r->expiry_count && r->expiries[child + 1].when < r->expiries[child].when)
            child++;
        if (last.when <= r->expiries[child].when)
            break;
        r->expiries[at] = r->expiries[child];
    }
    r->expiries[at] = last;
}

/* The server's timer; a search never returns what has expired. */
static void
expire_entries(run *r)
{
    while (r->expiry_count && r->expiries[0].when <= r->query.now) {
        const uint32_t line = r->expiries[0].line;
        pop_expiry(r);
        r->tally->expired += r->entries[line].is_in;
        remove_entry(r, line);
    }
}

static rp_status
enter_index(run *r, uint32_t line)
{
    if (!r->entries[line].is_in || windows_of(r, line).count == 0)
        return RP_OK; /* evicted while it waited; or too long: its own repeat only */
    r->entries[line].is_indexed = true;
    return rp_index_add(r->index, r->scopes[r->stream->rows[line].scope], (rp_entry_id)line + 1,
                        rp_simulation_vector(r->s, line));
}

static void
make_room(run *r)
{
    uint32_t place;
    while (r->evict && (place = rp_evict_choose(r->evict))) {
        r->tally->evicted++;
        remove_entry(r, place - 1);
    }
}

static void
enter(run *r, uint32_t line)
{
    const rp_stream_row *row = &r->stream->rows[line];
    const int64_t lifetime = rp_admit_lifetime_us(&r->query);
    if (r->exact[row->key]) /* the store replaces an entry of the same key */
        remove_entry(r, r->exact[row->key] - 1);
    r->entries[line] = (sim_entry){ .created = r->query.now,
                                    .expires = lifetime ? r->query.now + lifetime : 0,
                                    .answer_line = line,
                                    .is_in = true };
    r->exact[row->key] = line + 1;
    r->entries_now++;
    r->tally->entries++;
    if (r->time_passes && lifetime)
        push_expiry(r, r->entries[line].expires, line);
    if (r->evict)
        rp_evict_insert(r->evict, line + 1, rp_hash64(r->stream->keys.texts[row->key]),
                        cost_of(r, line));
}

static rp_status
deliver_labels(run *r, size_t position)
{
    rp_status status = RP_OK;
    while (!status && r->pending_first < r->pending_count &&
           r->pending[r->pending_first].due <= position) {
        const pending_label *label = &r->pending[r->pending_first++];
        rp_decider_observe(r->decider, &label->outcome);
        if (r->evict)
            rp_evict_judged(r->evict, (uint32_t)label->outcome.candidate.id, label->threshold);
        r->tally->labels += r->counts;
        if (label->enters_if_wrong && !label->outcome.right)
            status = enter_index(r, label->line);
    }
    return status;
}

static void
queue_label(run *r, size_t position, uint32_t line, bool enters_if_wrong, double threshold,
            const rp_outcome *outcome)
{
    r->pending[r->pending_count++] = (pending_label){ position + r->s->label_delay, line,
                                                      enters_if_wrong, threshold, *outcome };
}

/* What answers a request that went upstream becomes an entry as the server's admission would have it
 * (lib/cache/admit.c): an exact one in any case, unless the policy wants none; among the
 * similar ones it may have to wait for its neighbour's label. */
static rp_status
admit_miss(run *r, const rp_drive_state *state, size_t position, uint32_t line)
{
    const rp_decision *decision = &state->decision;
    rp_outcome outcome;
    bool waits = false;
    const rp_outcome_source source
        = decision->verdict == RP_HIT ? RP_OUTCOME_AUDIT : RP_OUTCOME_MISS;
    if (r->s->learn_misses && rp_drive_outcome(state, source, &outcome)) {
        outcome.right = is_right(r, line, outcome.candidate.id);
        waits = decision->keep == RP_KEEP_IF_NEIGHBOR_WRONG;
        if (decision->keep != RP_KEEP_NEVER)
            outcome.entry = (rp_entry_id)line + 1;
        queue_label(r, position, line, waits, decision->threshold, &outcome);
    }
    if (decision->keep == RP_KEEP_NEVER)
        return RP_OK;
    enter(r, line);
    /* Krites: a judge beside the path may point the new entry to the older answer. */
    if (r->s->has_judge && state->count && strcmp(decision->reason, "grey-zone") == 0) {
        const rp_entry_id id = state->candidates[0].id;
        if (judge_truth(r, id) == RP_JUDGE_YES)
            r->entries[line].answer_line = r->entries[id - 1].answer_line;
    }
    const rp_status status = waits ? RP_OK : enter_index(r, line);
    make_room(r);
    return status;
}

static bool
audit_hit(run *r, const rp_drive_state *state, size_t position, uint32_t line, rp_entry_id id)
{
    rp_outcome outcome;
    if (!(rp_random_uniform(&r->random) < r->s->audit) ||
        !rp_drive_outcome(state, RP_OUTCOME_AUDIT, &outcome))
        return false;
    outcome.right = is_right(r, line, id);
    outcome.probability = r->s->audit;
    queue_label(r, position, line, false, state->decision.threshold, &outcome);
    return true;
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
        rp_json_put_uint(&writer, r->entries[id - 1].answer_line);
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
    if (!r->counts) {
        rp_json_key(&writer, "warm");
        rp_json_put_bool(&writer, true);
    }
    rp_json_close(&writer, '}');
    rp_buffer_append_char(&r->line, '\n');
    if (rp_buffer_failed(&r->line))
        return RP_ERR_NOMEM;
    return fwrite(r->line.ptr, 1, r->line.len, r->s->decisions_out) == r->line.len ? RP_OK
                                                                                   : RP_ERR_IO;
}

/* The candidates that may answer, nearest first. */
static size_t
find_candidates(run *r, uint32_t line, rp_candidate candidates[RP_CANDIDATES_MAX])
{
    const rp_windows asked = windows_of(r, line);
    const size_t wanted = r->s->neighbors ? r->s->neighbors : RP_SIMULATION_NEIGHBORS;
    rp_neighbor neighbors[RP_CANDIDATES_MAX];
    size_t count = 0;
    const size_t found = rp_index_search(r->index, r->query.scope, rp_simulation_vector(r->s, line),
                                         RP_MIN(wanted, (size_t)RP_CANDIDATES_MAX), neighbors);
    for (size_t i = 0; i < found; i++) {
        const uint32_t other = (uint32_t)(neighbors[i].id - 1);
        if (!may_answer(r, other))
            continue;
        rp_candidate candidate = { .id = neighbors[i].id, .similarity = neighbors[i].similarity };
        const rp_windows stored = windows_of(r, other);
        if (asked.count > 1 || stored.count > 1)
            rp_windows_compare(&asked, &stored, &candidate);
        size_t at = count++;
        for (; at > 0 && rp_candidate_before(&candidate, &candidates[at - 1]); at--)
            candidates[at] = candidates[at - 1];
        candidates[at] = candidate;
    }
    return count;
}

/* What the policy might have answered, and what the nearest entry would have been. */
static void
note_scores(run *r, uint32_t line, const rp_drive_state *state)
{
    const size_t chosen = state->decision.chosen;
    if (!state->count || !r->counts)
        return;
    rp_frontier_add(r->frontier, RP_FRONTIER_NEAREST, (double)state->candidates[0].similarity,
                    is_right(r, line, state->candidates[0].id));
    const bool estimated = isfinite(state->decision.risk);
    if (chosen >= state->count || (state->candidates[chosen].gates_fired && !estimated))
        return;
    const bool right = is_right(r, line, state->candidates[chosen].id);
    rp_frontier_add(r->frontier, RP_FRONTIER_RISK, -state->decision.risk, right);
    rp_frontier_add(r->frontier, RP_FRONTIER_GATED, (double)state->candidates[chosen].similarity,
                    right);
}

static void
drive_request(run *r, size_t position, uint32_t line, rp_drive_state *state)
{
    const rp_stream_row *row = &r->stream->rows[line];
    const rp_str category = r->stream->categories.texts[row->category];
    rp_candidate candidates[RP_CANDIDATES_MAX];
    const int64_t started = rp_monotonic_ns();
    const size_t count = find_candidates(r, line, candidates);
    const int64_t searched = rp_monotonic_ns();
    rp_arena_reset(&r->arena);
    const rp_drive_input input = {
        .prompt = rp_simulation_text(r->stream, line),
        .stratum = rp_hash64(category),
        .category = category,
        .now = r->time_passes ? r->query.now : (rp_time)(r->stream->rows[position].time * 1e6),
        .min_similarity = -1,
        .error_max = 1,
        .unknown_share = rp_vectors_unknown_share(r->s->vectors, rp_simulation_row(r->s, line)),
        .gates = { .enabled = r->s->gates, .strict = r->s->strict },
        .has_judge = r->s->has_judge,
        .random01 = rp_decider_draw(r->decider),
        .clock = &rp_clock_system,
        .sources = { .text = lend_text,
                     .verify = r->s->verifier ? ask_verifier : NULL,
                     /* Deletions move windows: as the server, one window only. */
                     .collides = r->s->encoder && windows_of(r, line).count == 1 ? ask_collision : NULL,
                     .context = r },
        .arena = &r->arena,
    };
    const rp_judge judge = { .ask = ask_judge, .context = r, .deadline_ms = 3600000 };
    r->found = candidates;
    rp_drive_begin(state, &input, candidates, count);
    rp_drive(state, r->decider, r->s->has_judge ? &judge : NULL);
    r->found = NULL;
    if (!r->counts)
        return;
    r->tally->verifier_calls += state->verifier_calls;
    if (state->decision.chosen < state->count)
        rp_tally_add_risk(r->tally, state->decision.risk,
                          !is_right(r, line, state->candidates[state->decision.chosen].id));
    const size_t at = r->decided_count++;
    r->embed_us[at] = r->s->embed_us ? r->s->embed_us[row->text] : 0;
    r->search_us[at] = (float)(searched - started) / 1000;
    r->decide_us[at] = (float)(rp_monotonic_ns() - searched) / 1000;
}

/* The semantic stage does not run: the text is too long, or the policy never hits. */
static void
skip_drive(const run *r, rp_drive_state *state, const char *reason)
{
    memset(state, 0, sizeof *state);
    state->decision = (rp_decision){ .verdict = RP_MISS, .reason = reason, .risk = NAN,
                                     .threshold = NAN, .keep = RP_KEEP_ALWAYS };
}

static void
spread_credit(run *r, const rp_drive_state *state)
{
    rp_evict_near near[RP_CANDIDATES_MAX];
    for (size_t i = 0; i < state->count; i++)
        near[i] = (rp_evict_near){ (uint32_t)state->candidates[i].id,
                                   state->candidates[i].similarity };
    rp_evict_spread(r->evict, near, state->count);
}

static rp_status
serve_semantic(run *r, size_t position, uint32_t line, rp_tallied *request)
{
    rp_drive_state state;
    if (r->is_exact)
        skip_drive(r, &state, "exact-only");
    else if (windows_of(r, line).count == 0)
        skip_drive(r, &state, "text-size");
    else
        drive_request(r, position, line, &state);
    if (r->evict)
        spread_credit(r, &state);
    if (r->frontier) {
        note_scores(r, line, &state);
        state.decision.keep = RP_KEEP_ALWAYS;
        request->served = RP_SERVED_UPSTREAM;
        return admit_miss(r, &state, position, line);
    }
    const double similarity = state.count ? (double)state.candidates[0].similarity : NAN;
    if (state.decision.verdict != RP_HIT) {
        request->served = RP_SERVED_UPSTREAM;
        const rp_status status = admit_miss(r, &state, position, line);
        return status ? status : write_decision(r, line, false, 0, similarity);
    }
    const rp_entry_id id = state.candidates[state.decision.chosen].id;
    request->served = RP_SERVED_SEMANTIC;
    request->right = is_right(r, line, id);
    request->audited = audit_hit(r, &state, position, line, id);
    if (r->evict)
        rp_evict_touch(r->evict, (uint32_t)id);
    return write_decision(r, line, false, id, similarity);
}

static rp_status
serve_exact(run *r, uint32_t line, uint32_t stored, rp_tallied *request)
{
    const rp_evict_near itself = { stored + 1, 1 };
    request->served = RP_SERVED_EXACT;
    request->right = is_right(r, line, (rp_entry_id)stored + 1);
    if (r->evict) {
        rp_evict_spread(r->evict, &itself, 1);
        rp_evict_touch(r->evict, stored + 1);
    }
    return write_decision(r, line, true, (rp_entry_id)stored + 1, 1);
}

static void
tally_request(run *r, uint32_t line, const rp_tallied *request, size_t decided_before)
{
    const uint64_t at = r->tally->all.requests;
    const double upstream_ms = rp_upstream_ms(&r->s->tally, line);
    double with_ms = request->served == RP_SERVED_UPSTREAM ? upstream_ms : 0;
    if (r->decided_count > decided_before) {
        const double us = (double)r->embed_us[decided_before]
                          + (double)r->search_us[decided_before]
                          + (double)r->decide_us[decided_before];
        with_ms += us / 1000 + r->s->tally.judge_ms * (double)r->judge_waited;
        r->compute_us += us;
    }
    r->with_ms[at] = (float)with_ms;
    r->without_ms[at] = (float)upstream_ms;
    r->tally->judge_calls += r->judge_calls;
    rp_tally_add(r->tally, request, r->entries_now);
}

static rp_status
serve(run *r, size_t position)
{
    const uint32_t line = r->s->order[position];
    const rp_stream_row *row = &r->stream->rows[line];
    const size_t decided_before = r->decided_count;
    rp_tallied request = { .category = row->category, .cost = cost_of(r, line) };
    r->counts = position >= r->s->warm;
    r->now_line = line;
    r->judge_calls = r->judge_waited = 0;
    rp_status status = deliver_labels(r, position);
    if (status)
        return status;
    begin_query(r, position, line);
    if (r->time_passes)
        expire_entries(r);
    const uint32_t stored = r->exact[row->key];
    if (stored && may_answer(r, stored - 1))
        status = serve_exact(r, line, stored - 1, &request);
    else
        status = serve_semantic(r, position, line, &request);
    if (!status && r->counts)
        tally_request(r, line, &request, decided_before);
    return status;
}

/* ---- the run -------------------------------------------------------------------------------- */

rp_status
rp_simulation_index(const rp_simulation *s, rp_index **index, rp_scope **scopes)
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

static void
prepare_rules(run *r)
{
    rp_query_init(&r->query);
    if (r->s->ttl >= 0)
        r->query.rules.ttl_us = (int64_t)(r->s->ttl * 1e6);
    if (r->s->volatile_ttl >= 0)
        r->query.rules.volatile_ttl_us = (int64_t)(r->s->volatile_ttl * 1e6);
    r->time_passes = r->stream->has_times || r->s->interval > 0;
    for (size_t i = 0; i < r->stream->texts.count; i++)
        r->words[i] = rp_prompt_volatility(r->stream->texts.texts[i]);
}

static rp_status
prepare(run *r, const char *spec, rp_error *error)
{
    const size_t count = r->stream->count;
    rp_status status = rp_decider_new(rp_str_of(spec), r->s->error_max, r->s->seed, &r->decider,
                                      error);
    if (status)
        return status;
    r->is_exact = rp_str_equal(rp_decider_name(r->decider), RP_STR("exact"));
    r->entries = calloc(count, sizeof *r->entries);
    r->exact = calloc(r->stream->keys.count, sizeof *r->exact);
    r->words = calloc(r->stream->texts.count, sizeof *r->words);
    r->pending = calloc(count, sizeof *r->pending);
    r->expiries = calloc(count, sizeof *r->expiries);
    r->decide_us = calloc(count, sizeof *r->decide_us);
    r->search_us = calloc(count, sizeof *r->search_us);
    r->embed_us = calloc(count, sizeof *r->embed_us);
    r->with_ms = calloc(count, sizeof *r->with_ms);
    r->without_ms = calloc(count, sizeof *r->without_ms);
    status = rp_simulation_index(r->s, &r->index, &r->scopes);
    if (!status && r->s->capacity)
        status = rp_evict_new(r->s->evict, r->s->capacity, count, &r->evict);
    if (!status)
        status = rp_tally_init(r->tally, r->stream->categories.count,
                               count - RP_MIN(r->s->warm, count), &r->s->tally);
    if (status || !r->entries || !r->exact || !r->words || !r->pending || !r->expiries ||
        !r->decide_us || !r->search_us || !r->embed_us || !r->with_ms || !r->without_ms)
        return rp_fail(error, status ? status : RP_ERR_NOMEM, "no memory to simulate %zu requests",
                       count);
    prepare_rules(r);
    return RP_OK;
}

static void
release(run *r)
{
    rp_decider_free(r->decider);
    rp_index_free(r->index);
    rp_evict_free(r->evict);
    rp_query_fini(&r->query);
    rp_arena_fini(&r->arena);
    rp_buffer_fini(&r->line);
    free(r->entries);
    free(r->exact);
    free(r->words);
    free(r->pending);
    free(r->expiries);
    free(r->scopes);
    free(r->decide_us);
    free(r->search_us);
    free(r->embed_us);
    free(r->with_ms);
    free(r->without_ms);
}

static rp_status
serve_all(run *r, rp_error *error)
{
    const rp_simulation *s = r->s;
    for (size_t i = 0; i < r->stream->count; i++) {
        if (i % PROGRESS_EVERY == 0 && s->progress &&
            !s->progress(s->progress_context, i, r->stream->count))
            return rp_fail(error, RP_ERR_CLOSED, "stopped at request %zu of %zu", i,
                           r->stream->count);
        const rp_status status = serve(r, i);
        if (status)
            return rp_fail(error, status, "request %zu could not be simulated: %s", i,
                           status == RP_ERR_IO ? strerror(errno) : rp_status_name(status));
    }
    return RP_OK;
}

static double
cpu_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static void
finish(run *r)
{
    rp_tally *tally = r->tally;
    const size_t n = r->decided_count, all = tally->all.requests;
    tally->warm = RP_MIN(r->s->warm, r->stream->count);
    tally->embed_us = r->s->embed_us ? rp_spread_of(r->embed_us, n) : rp_spread_of(NULL, 0);
    tally->search_us = rp_spread_of(r->search_us, n);
    tally->decide_us = rp_spread_of(r->decide_us, n);
    tally->with_ms = rp_spread_of(r->with_ms, all);
    tally->without_ms = rp_spread_of(r->without_ms, all);
    tally->entries_last = r->entries_now;
    tally->state_bytes = rp_decider_size_bytes(r->decider);
    rp_tally_finish(tally, &r->s->tally, r->compute_us);
}

/* All of a run but what it adds up to. */
static rp_status
simulate(run *r, const char *spec, rp_error *error)
{
    rp_arena_init(&r->arena, 0);
    rp_buffer_init(&r->line, 0);
    rp_random_init(&r->random, r->s->seed ^ 0x6175646974u); /* "audit" */
    const rp_status status = prepare(r, spec, error);
    return status ? status : serve_all(r, error);
}

rp_status
rp_simulate(const rp_simulation *simulation, const char *spec, rp_tally *out, rp_error *error)
{
    rp_tally tally = { { 0 } };
    run r = { .s = simulation, .stream = simulation->stream, .tally = &tally };
    const int64_t started = rp_monotonic_ns();
    const double cpu_started = cpu_seconds();
    const rp_status status = simulate(&r, spec, error);
    if (!status) {
        finish(&r);
        tally.seconds = (double)(rp_monotonic_ns() - started) / 1e9;
        tally.cpu_seconds = cpu_seconds() - cpu_started;
        *out = tally;
    } else {
        rp_tally_fini(&tally);
    }
    release(&r);
    return status;
}

rp_status
rp_simulate_frontier(const rp_simulation *simulation, const char *spec, rp_frontiers *out,
                     rp_error *error)
{
    rp_simulation observed = *simulation;
    observed.capacity = 0;
    observed.decisions_out = NULL;
    observed.encoder = NULL;
    observed.tally.windows = 0;
    rp_tally tally = { { 0 } };
    rp_frontier_rows rows;
    run r = { .s = &observed, .stream = simulation->stream, .tally = &tally, .frontier = &rows };
    rp_status status = rp_frontier_rows_init(&rows, simulation->stream->count);
    if (status)
        return rp_fail(error, status, "no memory for the scores of %zu requests",
                       simulation->stream->count);
    status = simulate(&r, spec, error);
    out->requests = tally.all.requests;
    out->exact_hits = tally.all.exact_hits;
    if (!status)
        rp_frontier_finish(&rows, out);
    rp_frontier_rows_fini(&rows);
    rp_tally_fini(&tally);
    release(&r);
    return status;
}
