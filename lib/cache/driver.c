/* driver.c - evidence in order of cost, the policy, and again if it asks for more.
 *
 * Similarity is there from the start. Gates cost about 15 microseconds a candidate: they
 * run on the nearest before the policy is asked at all, because a policy may use their
 * evidence for a hit as well as against one, and on another candidate when the policy
 * turns to it. The verifier costs milliseconds and a judge a round trip: they are asked
 * about one candidate, when the policy says so.
 *
 * No way out of here serves an answer that the policy did not call a hit on evidence
 * that it has seen: a policy that hits a candidate without gates, or in spite of an
 * unsure judge, is overruled. */
#include "cache/driver.h"
#include "cache/cache_internal.h"

#include "base/bytes.h"
#include "base/random.h"

#include <math.h>
#include <pthread.h>
#include <stdlib.h>

/* ---- a policy that threads may share ------------------------------------------ */

struct rp_decider {
    pthread_mutex_t lock; /* rank: decider, a leaf */
    rp_policy *policy;
    rp_random random;
    char *spec; /* owned */
    size_t spec_len;
    rp_decide_hook *hook; /* tests only; then policy is NULL */
    void *hook_context;
};

rp_status
rp_decider_scripted(rp_decide_hook *hook, void *context, rp_decider **out)
{
    rp_decider *decider = calloc(1, sizeof *decider);
    if (!decider)
        return RP_ERR_NOMEM;
    decider->hook = hook;
    decider->hook_context = context;
    rp_random_init(&decider->random, 1);
    pthread_mutex_init(&decider->lock, NULL);
    *out = decider;
    return RP_OK;
}

rp_status
rp_decider_new(rp_str spec, double error_max, uint64_t seed, rp_decider **out, rp_error *error)
{
    rp_decider *decider = calloc(1, sizeof *decider);
    char *copy = malloc(spec.len + 1);
    rp_status status = decider && copy ? RP_OK : rp_fail(error, RP_ERR_NOMEM, "no memory for a policy");
    if (status == RP_OK)
        status = rp_policy_new(spec, error_max, &decider->policy, error);
    if (status != RP_OK) {
        free(copy);
        free(decider);
        return status;
    }
    if (spec.len)
        memcpy(copy, spec.ptr, spec.len);
    copy[spec.len] = 0;
    decider->spec = copy;
    decider->spec_len = spec.len;
    rp_random_init(&decider->random, seed);
    pthread_mutex_init(&decider->lock, NULL);
    *out = decider;
    return RP_OK;
}

void
rp_decider_free(rp_decider *decider)
{
    if (!decider)
        return;
    rp_policy_free(decider->policy);
    pthread_mutex_destroy(&decider->lock);
    free(decider->spec);
    free(decider);
}

rp_str
rp_decider_name(const rp_decider *decider)
{
    return decider->hook ? RP_STR("scripted") : rp_policy_name(decider->policy);
}

rp_str
rp_decider_spec(const rp_decider *decider)
{
    return (rp_str){ decider->spec, decider->spec_len };
}

double
rp_decider_error_bound(const rp_decider *decider)
{
    return rp_policy_error_bound(decider->policy);
}

double
rp_decider_draw(rp_decider *decider)
{
    pthread_mutex_lock(&decider->lock);
    const double drawn = rp_random_uniform(&decider->random);
    pthread_mutex_unlock(&decider->lock);
    return drawn;
}

void
rp_decider_decide(rp_decider *decider, const rp_question *question, double random01,
                  rp_decision *out)
{
    pthread_mutex_lock(&decider->lock);
    if (decider->hook)
        decider->hook(decider->hook_context, question, random01, out);
    else
        rp_policy_decide(decider->policy, question, random01, out);
    pthread_mutex_unlock(&decider->lock);
}

void
rp_decider_observe(rp_decider *decider, const rp_outcome *outcome)
{
    pthread_mutex_lock(&decider->lock);
    if (!decider->hook)
        rp_policy_observe(decider->policy, outcome);
    pthread_mutex_unlock(&decider->lock);
}

void
rp_decider_forget(rp_decider *decider, rp_entry_id id)
{
    pthread_mutex_lock(&decider->lock);
    if (!decider->hook)
        rp_policy_forget(decider->policy, id);
    pthread_mutex_unlock(&decider->lock);
}

void
rp_decider_forget_similarities(rp_decider *decider)
{
    pthread_mutex_lock(&decider->lock);
    if (!decider->hook)
        rp_policy_forget_similarities(decider->policy);
    pthread_mutex_unlock(&decider->lock);
}

size_t
rp_decider_size_bytes(rp_decider *decider)
{
    pthread_mutex_lock(&decider->lock);
    const size_t size = decider->hook ? 0 : rp_policy_size_bytes(decider->policy);
    pthread_mutex_unlock(&decider->lock);
    return size + sizeof *decider + decider->spec_len + 1;
}

rp_status
rp_decider_save(rp_decider *decider, char **out, size_t *len)
{
    pthread_mutex_lock(&decider->lock);
    const rp_status status = rp_policy_save(decider->policy, out, len);
    pthread_mutex_unlock(&decider->lock);
    return status;
}

rp_status
rp_decider_restore(rp_decider *decider, rp_str bytes, rp_error *error)
{
    pthread_mutex_lock(&decider->lock);
    const rp_status status = rp_policy_restore(decider->policy, bytes, error);
    pthread_mutex_unlock(&decider->lock);
    return status;
}

/* ---- one decision --------------------------------------------------------------- */

static int64_t
now_us(const rp_drive_state *state)
{
    return rp_clock_monotonic_us(state->input.clock);
}

static bool
deadline_passed(const rp_drive_state *state)
{
    return state->input.deadline_us && now_us(state) >= state->input.deadline_us;
}

/* The decision that is always allowed. The threshold and the keep rule of what the
 * policy said last stay, for explain and for admission. */
static rp_drive_status
end_as_miss(rp_drive_state *state, const char *reason)
{
    state->decision.verdict = RP_MISS;
    state->decision.reason = reason;
    state->decision.risk = NAN;
    return RP_DRIVE_DONE;
}

void
rp_drive_begin(rp_drive_state *state, const rp_drive_input *input, const rp_candidate *candidates,
               size_t count)
{
    memset(state, 0, sizeof *state);
    state->input = *input;
    if (!state->input.clock)
        state->input.clock = &rp_clock_system;
    state->count = RP_MIN(count, (size_t)RP_CANDIDATES_MAX);
    for (size_t i = 0; i < state->count; i++) {
        state->candidates[i] = (rp_candidate){ .id = candidates[i].id,
                                               .similarity = candidates[i].similarity,
                                               .alignment = NAN,
                                               .gates_fired = candidates[i].gates_fired,
                                               .verifier = NAN,
                                               .judge = RP_JUDGE_UNASKED };
        state->origins[i] = i;
    }
    state->decision = (rp_decision){ .verdict = RP_MISS, .reason = "undecided", .risk = NAN,
                                     .threshold = NAN, .keep = RP_KEEP_ALWAYS };
}

static void
drop_candidate(rp_drive_state *state, size_t at)
{
    for (size_t i = at + 1; i < state->count; i++) {
        state->candidates[i - 1] = state->candidates[i];
        state->origins[i - 1] = state->origins[i];
        state->texts[i - 1] = state->texts[i];
        state->reports[i - 1] = state->reports[i];
        state->collision_asked[i - 1] = state->collision_asked[i];
    }
    state->count--;
    state->texts[state->count] = (rp_str){ 0 };
    state->reports[state->count] = NULL;
    state->collision_asked[state->count] = false;
}

/* The stored prompt of a candidate, fetched once. */
static bool
fetch_text(rp_drive_state *state, size_t at)
{
    const rp_drive_sources *sources = &state->input.sources;
    if (state->texts[at].ptr)
        return true;
    return sources->text && sources->text(sources->context, state->origins[at],
                                          state->candidates[at].id, &state->texts[at]);
}

static bool
gates_ran(const rp_drive_state *state, size_t at)
{
    return !isnan(state->candidates[at].alignment);
}

/* What gates compare: the parts that vary inside one template, or both prompts whole. */
static bool
take_texts(rp_drive_state *state, size_t at, rp_str *prompt, rp_str *stored)
{
    const rp_drive_sources *sources = &state->input.sources;
    *prompt = state->input.prompt;
    *stored = state->texts[at];
    rp_str varying;
    if (!state->input.varying.ptr || !sources->varying
        || !sources->varying(sources->context, state->origins[at], state->candidates[at].id,
                             *stored, &varying))
        return false;
    *prompt = state->input.varying;
    *stored = varying;
    return true;
}

/* Returns false if memory is out. */
static bool
compare_candidate(rp_drive_state *state, size_t at)
{
    rp_arena *arena = state->input.arena;
    rp_str prompt, stored_text;
    rp_gate_options options = state->input.gates;
    options.in_frame = take_texts(state, at, &prompt, &stored_text);
    const rp_features **own = options.in_frame ? &state->features_varying : &state->features;
    if (!*own && rp_features_new(prompt, arena, own) != RP_OK)
        return false;
    const rp_features *stored;
    if (rp_features_new(stored_text, arena, &stored) != RP_OK)
        return false;
    rp_gate_report brief, *report = &brief;
    if (state->input.with_detail && !(report = rp_arena_calloc(arena, 1, sizeof *report)))
        return false;
    rp_gates_compare(*own, stored, &options, state->input.with_detail, report);
    rp_candidate *candidate = &state->candidates[at];
    candidate->gates_fired |= report->fired;
    candidate->gates_noted |= report->noted;
    /* NaN means "not run": a comparison of empty texts must not look like one. */
    candidate->alignment = isnan(report->alignment) ? 0.0f : report->alignment;
    if (state->input.with_detail)
        state->reports[at] = report;
    return true;
}

static bool
is_worth_gates(const rp_drive_state *state, size_t at)
{
    const float similarity = state->candidates[at].similarity;
    return similarity >= RP_DRIVE_GATE_SIMILARITY_MIN && similarity >= state->input.min_similarity;
}

/* The gates of one candidate. Returns NULL, or why there can be no decision; a candidate
 * whose text is gone is dropped, which moves the next one to its place. */
static const char *
gate_candidate(rp_drive_state *state, size_t at)
{
    const int64_t started = now_us(state);
    const char *refusal = NULL;
    if (!fetch_text(state, at))
        drop_candidate(state, at);
    else if (!compare_candidate(state, at))
        refusal = "memory";
    state->gate_us += now_us(state) - started;
    return refusal;
}

/* Before the policy is asked: the gates of the nearest, and what holds for all. */
static const char *
begin_gates(rp_drive_state *state)
{
    const rp_drive_input *input = &state->input;
    const char *refusal = NULL;
    while (!refusal && input->gates.enabled && state->count && is_worth_gates(state, 0) &&
           !gates_ran(state, 0))
        refusal = gate_candidate(state, 0);
    if (input->gates.enabled && input->unknown_share > RP_DRIVE_UNKNOWN_SHARE_MAX)
        for (size_t i = 0; i < state->count; i++)
            state->candidates[i].gates_fired |= 1u << RP_GATE_UNKNOWN;
    return refusal;
}

/* After the decision, for explain: what the gates say about those that nobody needed. */
static void
gate_the_rest(rp_drive_state *state)
{
    for (size_t i = 0; state->input.gates.enabled && i < state->count; i++)
        if (!gates_ran(state, i) && fetch_text(state, i) && !compare_candidate(state, i))
            return;
}

static void
ask_policy(rp_drive_state *state, rp_decider *decider)
{
    const rp_drive_input *input = &state->input;
    const rp_question question = { .stratum = input->stratum,
                                   .category = input->category,
                                   .now = input->now,
                                   .candidates = state->candidates,
                                   .count = state->count,
                                   .min_similarity = input->min_similarity,
                                   .error_max = input->error_max,
                                   .has_verifier = input->sources.verify != NULL,
                                   .has_judge = input->has_judge };
    const int64_t started = now_us(state);
    rp_decider_decide(decider, &question, input->random01, &state->decision);
    state->policy_us += now_us(state) - started;
}

/* NULL, or why it cannot be had. */
static const char *
ask_verifier(rp_drive_state *state, size_t at)
{
    const rp_drive_sources *sources = &state->input.sources;
    rp_candidate *candidate = &state->candidates[at];
    if (!sources->verify || !isnan(candidate->verifier) || !fetch_text(state, at))
        return "verifier";
    const int64_t started = now_us(state);
    float probability = NAN;
    const rp_status status = sources->verify(sources->context, state->origins[at],
                                             state->input.prompt, state->texts[at],
                                             state->input.deadline_us, &probability);
    state->verify_us += now_us(state) - started;
    state->verifier_calls++;
    if (status != RP_OK || !(probability >= 0 && probability <= 1))
        return "verifier";
    candidate->verifier = probability;
    return NULL;
}

/* NULL, or why a judge cannot be asked. One that was unsure may be asked again: the
 * next attempt may be a larger one. */
static const char *
prepare_judge(rp_drive_state *state, size_t at)
{
    const rp_drive_sources *sources = &state->input.sources;
    const rp_candidate *candidate = &state->candidates[at];
    const bool may_ask = candidate->judge == RP_JUDGE_UNASKED || candidate->judge == RP_JUDGE_UNSURE;
    if (!state->input.has_judge || !may_ask || !fetch_text(state, at))
        return "judge";
    state->judge_question = (rp_judge_question){ .prompt = state->input.prompt,
                                                 .stored_prompt = state->texts[at],
                                                 .id = candidate->id,
                                                 .similarity = candidate->similarity,
                                                 .attempt = state->judge_calls };
    rp_str answer;
    if (sources->answer &&
        sources->answer(sources->context, state->origins[at], candidate->id, &answer))
        state->judge_question.stored_answer = answer;
    return NULL;
}

/* A hit on evidence that is not there is not a hit. Returns NULL if it stands. */
static const char *
refuse_hit(const rp_drive_state *state)
{
    const size_t at = state->decision.chosen;
    const rp_candidate *candidate = &state->candidates[at];
    if (candidate->judge == RP_JUDGE_UNSURE || candidate->judge == RP_JUDGE_NO)
        return "judge";
    if (!(candidate->similarity >= state->input.min_similarity))
        return "min-similarity";
    /* A policy that does not look at gates may not look past this one. */
    if (candidate->gates_fired & 1u << RP_GATE_COLLISION)
        return "gate-collision";
    return NULL;
}

/* Whether the candidate that would be served still has to be looked at for what was added
 * to it. */
static bool
wants_collision(const rp_drive_state *state, size_t at)
{
    return state->input.sources.collides && !state->collision_asked[at] &&
           state->input.gates.enabled >> RP_GATE_COLLISION & 1;
}

/* NULL, or why it cannot be known. */
static const char *
ask_collision(rp_drive_state *state, size_t at)
{
    const rp_drive_sources *sources = &state->input.sources;
    rp_candidate *candidate = &state->candidates[at];
    bool collides = false;
    if (!fetch_text(state, at))
        return "collision";
    const int64_t started = now_us(state);
    const rp_status status =
        sources->collides(sources->context, state->origins[at], candidate->id, state->input.prompt,
                          state->texts[at], candidate->similarity, &collides);
    state->collision_us += now_us(state) - started;
    if (status != RP_OK)
        return "collision";
    state->collision_asked[at] = true;
    if (collides)
        candidate->gates_fired |= 1u << RP_GATE_COLLISION;
    return NULL;
}

static rp_drive_status
step(rp_drive_state *state, rp_decider *decider)
{
    const char *refusal = NULL;
    if (deadline_passed(state))
        return end_as_miss(state, "deadline");
    if (!state->gated && (refusal = begin_gates(state)))
        return end_as_miss(state, refusal);
    state->gated = true;
    /* At most one turn for each further round, and two for each candidate that the policy
     * turns to: before its gates have run, and before it was looked at for additions. */
    for (size_t turn = 0; turn <= RP_DRIVER_ROUNDS_MAX + 2 * RP_CANDIDATES_MAX; turn++) {
        if (deadline_passed(state))
            return end_as_miss(state, "deadline");
        ask_policy(state, decider);
        const rp_verdict verdict = state->decision.verdict;
        const size_t at = state->decision.chosen;
        if (verdict == RP_MISS)
            return RP_DRIVE_DONE;
        if (at >= state->count)
            return end_as_miss(state, "policy-broken");
        if (state->input.gates.enabled && !gates_ran(state, at)) {
            if ((refusal = gate_candidate(state, at)))
                return end_as_miss(state, refusal);
            continue; /* does it still think so? */
        }
        if (verdict == RP_HIT) {
            refusal = refuse_hit(state);
            if (!refusal && wants_collision(state, at)) {
                refusal = ask_collision(state, at);
                if (!refusal && state->candidates[at].gates_fired >> RP_GATE_COLLISION & 1)
                    continue; /* does it still think so? */
            }
            return refusal ? end_as_miss(state, refusal) : RP_DRIVE_DONE;
        }
        if (state->rounds == RP_DRIVER_ROUNDS_MAX)
            return end_as_miss(state, "rounds");
        state->rounds++;
        refusal = verdict == RP_NEED_VERIFIER ? ask_verifier(state, at) : prepare_judge(state, at);
        if (refusal)
            return end_as_miss(state, refusal);
        if (verdict == RP_NEED_JUDGE)
            return RP_DRIVE_WANTS_JUDGE;
    }
    return end_as_miss(state, "rounds");
}

rp_drive_status
rp_drive_step(rp_drive_state *state, rp_decider *decider)
{
    const rp_drive_status status = step(state, decider);
    if (status == RP_DRIVE_DONE && state->input.with_detail)
        gate_the_rest(state);
    return status;
}

void
rp_drive_judged(rp_drive_state *state, int verdict)
{
    const bool known = verdict == RP_JUDGE_YES || verdict == RP_JUDGE_NO;
    if (state->decision.chosen < state->count)
        state->candidates[state->decision.chosen].judge = known ? verdict : RP_JUDGE_UNSURE;
    state->judge_calls++;
    /* The judge had a deadline of its own, which is later than that of the look-up. */
    state->input.deadline_us = 0;
}

void
rp_drive(rp_drive_state *state, rp_decider *decider, const rp_judge *judge)
{
    enum { DEADLINE_MS = 350 }; /* judge_deadline of the server's configuration */
    while (rp_drive_step(state, decider) == RP_DRIVE_WANTS_JUDGE) {
        int verdict = RP_JUDGE_UNSURE;
        if (judge && judge->ask) {
            const int64_t limit_us = (judge->deadline_ms ? judge->deadline_ms : DEADLINE_MS) * 1000;
            state->judge_question.deadline_us = now_us(state) + limit_us;
            verdict = judge->ask(judge->context, &state->judge_question);
            /* Late is unsure, even if it is a yes: whoever waited has gone another way. */
            if (now_us(state) > state->judge_question.deadline_us)
                verdict = RP_JUDGE_UNSURE;
        }
        rp_drive_judged(state, verdict);
    }
}

bool
rp_drive_outcome(const rp_drive_state *state, rp_outcome_source source, rp_outcome *out)
{
    if (state->count == 0)
        return false;
    const rp_decision *decision = &state->decision;
    const size_t at = decision->chosen < state->count ? decision->chosen : 0;
    *out = (rp_outcome){
        .stratum = state->input.stratum,
        .category = state->input.category,
        .time = state->input.now,
        .candidate = state->candidates[at],
        .similarity_second = at + 1 < state->count ? state->candidates[at + 1].similarity : NAN,
        .agreement = decision->agreement,
        .served = decision->verdict == RP_HIT,
        .source = source,
        /* A miss that might have been a hit was seen with the probability of exploring. */
        .probability = decision->verdict == RP_MISS && decision->explore_probability > 0
                           ? decision->explore_probability
                           : 1.0,
    };
    return true;
}
