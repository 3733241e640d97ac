/* test_driver.c - the driver gathers what the policy asks for and ends safely.
 *
 * A scripted policy asks for every kind of evidence, in orders that a good policy would
 * not choose. What could go wrong: a hit on evidence that was never gathered, an endless
 * exchange, a late or unsure judge taken for a yes, evidence written to the wrong
 * candidate after one was dropped. */
#include "cache/cache_internal.h"
#include "test_support.h"

#include <math.h>

typedef struct script {
    rp_verdict verdicts[32]; /* one for each time the policy is asked; then RP_MISS */
    size_t chosen;
    size_t asked;
    rp_question last;        /* what the policy saw last */
    rp_candidate seen[RP_CANDIDATES_MAX];
    double random01;
} script;

static void
play(void *context, const rp_question *question, double random01, rp_decision *out)
{
    script *playing = context;
    playing->last = *question;
    memcpy(playing->seen, question->candidates, question->count * sizeof *playing->seen);
    if (playing->asked)
        assert_true(playing->random01 == random01); /* one draw for a request */
    playing->random01 = random01;
    const rp_verdict verdict =
        playing->asked < 32 ? playing->verdicts[playing->asked] : RP_MISS;
    playing->asked++;
    *out = (rp_decision){ .verdict = verdict, .chosen = playing->chosen, .reason = "scripted",
                          .risk = 0.1, .threshold = 0.9 };
}

typedef struct fixture {
    rp_arena arena;
    rp_clock_manual clock;
    rp_decider *decider;
    script script;
    rp_drive_input input;
    rp_drive_state state;
    rp_candidate candidates[4];
    rp_entry_id gone;        /* whose text cannot be had */
    size_t texts, verifies;
    rp_status verify_status;
    float verify_value;
    int judge_verdict;
    int64_t judge_takes_us;
    rp_judge_question judged;
    size_t judge_calls;
    uint64_t colliding;      /* bit i: the candidate with id i collides */
    size_t collision_calls;
    rp_status collision_status;
} fixture;

static bool
lend_text(void *context, size_t at, rp_entry_id id, rp_str *out)
{
    fixture *f = context;
    f->texts++;
    assert_int_equal(f->candidates[at].id, id); /* places are those that were given */
    if (id == f->gone)
        return false;
    *out = id == 2 ? RP_STR("how do I never enable the alarm") : RP_STR("how do I enable the alarm");
    return true;
}

static rp_status
verify(void *context, size_t at, rp_str prompt, rp_str stored, int64_t deadline_us, float *out)
{
    fixture *f = context;
    (void)deadline_us;
    f->verifies++;
    assert_int_equal(at, f->script.chosen + (f->gone ? 1 : 0));
    assert_str_equal(prompt, RP_STR("how do I enable the alarm"));
    assert_true(stored.len > 0);
    *out = f->verify_value;
    return f->verify_status;
}

static rp_status
collide(void *context, size_t at, rp_entry_id id, rp_str prompt, rp_str stored, float similarity,
        bool *out)
{
    fixture *f = context;
    f->collision_calls++;
    assert_int_equal(f->candidates[at].id, id);
    assert_true(f->candidates[at].similarity == similarity);
    assert_str_equal(prompt, RP_STR("how do I enable the alarm"));
    assert_true(stored.len > 0);
    *out = f->colliding >> id & 1;
    return f->collision_status;
}

static int
judge(void *context, const rp_judge_question *question)
{
    fixture *f = context;
    f->judge_calls++;
    f->judged = *question;
    f->clock.now_us += f->judge_takes_us;
    return f->judge_verdict;
}

static int
set_up(void **state)
{
    fixture *f = calloc(1, sizeof *f);
    rp_arena_init(&f->arena, 0);
    rp_clock_manual_init(&f->clock, 1000000);
    if (rp_decider_scripted(play, &f->script, &f->decider) != RP_OK)
        return -1;
    f->input = (rp_drive_input){ .prompt = RP_STR("how do I enable the alarm"),
                                 .now = 5,
                                 .min_similarity = -1,
                                 .error_max = 1,
                                 .gates = { .enabled = RP_GATES_DEFAULT },
                                 .random01 = 0.25,
                                 .clock = &f->clock.clock,
                                 .sources = { .text = lend_text, .verify = verify, .context = f },
                                 .has_judge = true,
                                 .arena = &f->arena };
    for (size_t i = 0; i < 4; i++)
        f->candidates[i] = (rp_candidate){ .id = i + 1, .similarity = 0.95f - 0.05f * (float)i };
    f->verify_value = 0.9f;
    *state = f;
    return 0;
}

static int
tear_down(void **state)
{
    fixture *f = *state;
    rp_decider_free(f->decider);
    rp_arena_fini(&f->arena);
    free(f);
    return 0;
}

static void
drive(fixture *f)
{
    const rp_judge asks = { .ask = judge, .context = f, .deadline_ms = 100 };
    rp_drive_begin(&f->state, &f->input, f->candidates, 4);
    rp_drive(&f->state, f->decider, &asks);
}

static void
assert_miss(const fixture *f, const char *reason)
{
    assert_int_equal(f->state.decision.verdict, RP_MISS);
    assert_string_equal(f->state.decision.reason, reason);
}

static void
test_gates_of_the_nearest_run_before_the_policy_is_asked(void **state)
{
    fixture *f = *state;
    f->script.verdicts[0] = RP_HIT;
    drive(f);
    assert_int_equal(f->state.decision.verdict, RP_HIT);
    assert_int_equal(f->script.asked, 1);
    assert_int_equal(f->script.last.count, 4);
    assert_int_equal(f->texts, 1);
    assert_false(isnan(f->script.seen[0].alignment));
    assert_int_equal(f->script.seen[0].gates_fired, 0);
    for (size_t i = 1; i < 4; i++)
        assert_true(isnan(f->script.seen[i].alignment));
    assert_int_equal(f->verifies + f->judge_calls, 0); /* nobody asked for them */
    assert_true(f->script.random01 == 0.25);
}

static void
test_gates_of_another_run_when_the_policy_turns_to_it(void **state)
{
    fixture *f = *state;
    f->script.chosen = 1;
    const rp_verdict turns[] = { RP_HIT, RP_NEED_VERIFIER, RP_NEED_JUDGE };
    for (size_t i = 0; i < RP_COUNT(turns); i++) {
        f->script.asked = f->texts = f->verifies = f->judge_calls = 0;
        f->script.verdicts[0] = turns[i]; /* and a miss once it has seen what they say */
        drive(f);
        assert_int_equal(f->script.asked, 2);
        assert_int_equal(f->texts, 2);
        assert_true(f->script.seen[1].gates_fired & 1u << RP_GATE_NEGATION);
        assert_int_equal(f->state.decision.verdict, RP_MISS);
        assert_int_equal(f->verifies + f->judge_calls, 0);
    }
}

static void
test_candidates_that_cannot_matter_are_not_looked_at(void **state)
{
    fixture *f = *state;
    f->input.min_similarity = 0.96f;
    drive(f);
    assert_int_equal(f->texts, 0);
    f->input.min_similarity = -1;
    for (size_t i = 0; i < 4; i++)
        f->candidates[i].similarity = 0.1f;
    drive(f);
    assert_int_equal(f->texts, 0);
}

static void
test_a_hit_without_gates_waits_for_them(void **state)
{
    fixture *f = *state;
    f->candidates[3].similarity = 0.1f;
    f->script.chosen = 3;
    f->script.verdicts[0] = f->script.verdicts[1] = RP_HIT;
    drive(f);
    assert_int_equal(f->script.asked, 2);
    assert_false(isnan(f->state.candidates[3].alignment));
    assert_int_equal(f->state.decision.verdict, RP_HIT);
}

static void
test_the_callers_own_similarity_overrules_the_policy(void **state)
{
    fixture *f = *state;
    f->input.min_similarity = 0.96f;
    for (size_t i = 0; i < 4; i++)
        f->script.verdicts[i] = RP_HIT;
    drive(f);
    assert_miss(f, "min-similarity");
}

static void
test_a_candidate_whose_text_is_gone_is_dropped(void **state)
{
    fixture *f = *state;
    f->gone = 1;
    f->script.verdicts[0] = RP_NEED_VERIFIER;
    f->script.verdicts[1] = RP_HIT;
    drive(f);
    assert_int_equal(f->script.last.count, 3);
    assert_int_equal(f->state.candidates[0].id, 2);
    assert_true(f->state.candidates[0].verifier == 0.9f);
    assert_true(isnan(f->state.candidates[1].verifier));
    assert_int_equal(f->state.decision.verdict, RP_HIT);
}

static void
test_a_chosen_candidate_whose_text_is_gone_is_dropped_too(void **state)
{
    fixture *f = *state;
    f->gone = 3;
    f->script.chosen = 2;
    f->script.verdicts[0] = f->script.verdicts[1] = f->script.verdicts[2] = RP_HIT;
    drive(f);
    assert_int_equal(f->script.last.count, 3);
    assert_int_equal(f->state.decision.verdict, RP_HIT);
    assert_int_equal(f->state.candidates[f->state.decision.chosen].id, 4);
}

static void
test_a_broken_verifier_is_a_miss(void **state)
{
    fixture *f = *state;
    f->script.verdicts[0] = RP_NEED_VERIFIER;
    f->script.verdicts[1] = RP_HIT;
    f->verify_status = RP_ERR_TIMEOUT;
    drive(f);
    assert_miss(f, "verifier");
    f->verify_status = RP_OK;
    const float wrong[] = { NAN, -0.1f, 1.1f };
    for (size_t i = 0; i < RP_COUNT(wrong); i++) {
        f->script.asked = 0;
        f->verify_value = wrong[i];
        drive(f);
        assert_miss(f, "verifier");
    }
    f->script.asked = 0;
    f->input.sources.verify = NULL;
    drive(f);
    assert_false(f->script.last.has_verifier);
    assert_miss(f, "verifier");
}

static void
test_a_judge_decides_and_its_doubt_is_a_miss(void **state)
{
    fixture *f = *state;
    const struct { int verdict; int64_t takes_us; bool hit; } cases[] = {
        { RP_JUDGE_YES, 99000, true },    { RP_JUDGE_YES, 101000, false }, /* late */
        { RP_JUDGE_NO, 0, false },        { RP_JUDGE_UNSURE, 0, false },
        { 17, 0, false },                 { RP_JUDGE_UNASKED, 0, false },
    };
    for (size_t i = 0; i < RP_COUNT(cases); i++) {
        f->script.asked = 0;
        f->script.verdicts[0] = RP_NEED_JUDGE;
        f->script.verdicts[1] = RP_HIT; /* whatever the judge said */
        f->judge_verdict = cases[i].verdict;
        f->judge_takes_us = cases[i].takes_us;
        drive(f);
        assert_int_equal(f->state.decision.verdict, cases[i].hit ? RP_HIT : RP_MISS);
        if (!cases[i].hit)
            assert_miss(f, "judge");
    }
    assert_str_equal(f->judged.stored_prompt, RP_STR("how do I enable the alarm"));
    assert_int_equal(f->judged.id, 1);
}

static void
test_an_unsure_judge_may_be_followed_by_another(void **state)
{
    fixture *f = *state;
    f->script.verdicts[0] = f->script.verdicts[1] = RP_NEED_JUDGE;
    f->judge_verdict = RP_JUDGE_UNSURE;
    drive(f);
    assert_int_equal(f->judge_calls, 2);
    assert_int_equal(f->judged.attempt, 1);
    f->script.asked = 0;
    f->judge_calls = 0;
    f->judge_verdict = RP_JUDGE_NO; /* but a clear no is not asked about again */
    drive(f);
    assert_int_equal(f->judge_calls, 1);
    assert_miss(f, "judge");
}

static void
test_without_a_judge_nobody_waits_for_one(void **state)
{
    fixture *f = *state;
    f->input.has_judge = false;
    f->script.verdicts[0] = RP_NEED_JUDGE;
    drive(f);
    assert_int_equal(f->judge_calls, 0);
    assert_miss(f, "judge");
}

static void
test_a_policy_that_never_has_enough_is_stopped(void **state)
{
    fixture *f = *state;
    for (size_t i = 0; i < 32; i++)
        f->script.verdicts[i] = RP_NEED_JUDGE;
    f->judge_verdict = RP_JUDGE_UNSURE;
    drive(f);
    assert_miss(f, "rounds");
    assert_int_equal(f->judge_calls, RP_DRIVER_ROUNDS_MAX);
}

static void
test_a_policy_that_chooses_nobody_is_a_miss(void **state)
{
    fixture *f = *state;
    f->script.chosen = 4;
    f->script.verdicts[0] = RP_HIT;
    drive(f);
    assert_miss(f, "policy-broken");
}

static void
test_the_deadline_is_kept(void **state)
{
    fixture *f = *state;
    f->script.verdicts[0] = RP_HIT;
    f->input.deadline_us = f->clock.now_us;
    drive(f);
    assert_miss(f, "deadline");
    assert_int_equal(f->script.asked, 0);
    f->input.deadline_us = f->clock.now_us + 1;
    drive(f);
    assert_int_equal(f->state.decision.verdict, RP_HIT);
    /* The judge's own deadline lies beyond that of the look-up. */
    f->script.asked = 0;
    f->script.verdicts[0] = RP_NEED_JUDGE;
    f->script.verdicts[1] = RP_HIT;
    f->judge_verdict = RP_JUDGE_YES;
    f->judge_takes_us = 50000;
    drive(f);
    assert_int_equal(f->state.decision.verdict, RP_HIT);
}

static void
test_unknown_tokens_fire_their_gate(void **state)
{
    fixture *f = *state;
    f->input.unknown_share = 0.5;
    drive(f);
    assert_true(f->script.seen[0].gates_fired & 1u << RP_GATE_UNKNOWN);
    f->script.asked = 0;
    f->input.unknown_share = 0.1;
    drive(f);
    assert_false(f->script.seen[0].gates_fired & 1u << RP_GATE_UNKNOWN);
}

static void
test_an_outcome_tells_what_was_decided(void **state)
{
    fixture *f = *state;
    rp_outcome outcome;
    f->script.verdicts[0] = RP_HIT;
    drive(f);
    assert_true(rp_drive_outcome(&f->state, RP_OUTCOME_AUDIT, &outcome));
    assert_int_equal(outcome.candidate.id, 1);
    assert_true(outcome.served);
    assert_true(outcome.similarity_second == f->candidates[1].similarity);
    assert_true(outcome.probability == 1);
    f->state.decision.verdict = RP_MISS;
    f->state.decision.explore_probability = 0.125;
    assert_true(rp_drive_outcome(&f->state, RP_OUTCOME_MISS, &outcome));
    assert_false(outcome.served);
    assert_true(outcome.probability == 0.125);
    rp_drive_begin(&f->state, &f->input, NULL, 0);
    assert_false(rp_drive_outcome(&f->state, RP_OUTCOME_MISS, &outcome));
}

static void
test_details_are_kept_for_explain_only(void **state)
{
    fixture *f = *state;
    drive(f);
    assert_null(f->state.reports[1]);
    f->input.with_detail = true;
    f->script.asked = 0;
    drive(f);
    assert_non_null(f->state.reports[1]);
    assert_true(f->state.reports[1]->fired & 1u << RP_GATE_NEGATION);
    assert_true(f->state.reports[1]->detail[RP_GATE_NEGATION][0] != 0);
}

static void
test_who_would_be_served_is_looked_at_once_for_what_was_added(void **state)
{
    fixture *f = *state;
    f->input.sources.collides = collide;
    drive(f); /* a miss asks nothing */
    assert_int_equal(f->collision_calls, 0);
    f->script.asked = 0;
    f->script.verdicts[0] = RP_HIT;
    drive(f);
    assert_int_equal(f->state.decision.verdict, RP_HIT);
    assert_int_equal(f->script.asked, 1); /* a policy that counts what it serves is asked once */
    assert_int_equal(f->collision_calls, 1);
    assert_int_equal(f->state.candidates[0].gates_fired, 0);
}

static void
test_a_collision_is_a_gate_that_nobody_lifts(void **state)
{
    fixture *f = *state;
    f->input.sources.collides = collide;
    f->colliding = 1u << 1;
    f->script.verdicts[0] = RP_HIT; /* and a miss once it has seen the gate */
    drive(f);
    assert_int_equal(f->script.asked, 2);
    assert_true(f->script.seen[0].gates_fired == 1u << RP_GATE_COLLISION);
    assert_miss(f, "scripted");
    /* A policy that insists is not obeyed. */
    f->script.asked = 0;
    f->script.verdicts[1] = RP_HIT;
    drive(f);
    assert_miss(f, "gate-collision");
    /* Nor one that has a judge's yes. */
    f->script.asked = 0;
    f->script.verdicts[0] = RP_NEED_JUDGE;
    f->script.verdicts[2] = RP_HIT;
    f->judge_verdict = RP_JUDGE_YES;
    drive(f);
    assert_miss(f, "gate-collision");
}

static void
test_what_cannot_be_looked_at_is_not_served(void **state)
{
    fixture *f = *state;
    f->input.sources.collides = collide;
    f->collision_status = RP_ERR_NOMEM;
    f->script.verdicts[0] = f->script.verdicts[1] = RP_HIT;
    drive(f);
    assert_miss(f, "collision");
    /* Unless nobody wants to know. */
    f->script.asked = 0;
    f->collision_calls = 0;
    f->input.gates.enabled &= ~(1u << RP_GATE_COLLISION);
    drive(f);
    assert_int_equal(f->state.decision.verdict, RP_HIT);
    assert_int_equal(f->collision_calls, 0);
}

int
main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        T(test_who_would_be_served_is_looked_at_once_for_what_was_added),
        T(test_a_collision_is_a_gate_that_nobody_lifts),
        T(test_what_cannot_be_looked_at_is_not_served),
        T(test_gates_of_the_nearest_run_before_the_policy_is_asked),
        T(test_gates_of_another_run_when_the_policy_turns_to_it),
        T(test_candidates_that_cannot_matter_are_not_looked_at),
        T(test_a_hit_without_gates_waits_for_them),
        T(test_the_callers_own_similarity_overrules_the_policy),
        T(test_a_candidate_whose_text_is_gone_is_dropped),
        T(test_a_chosen_candidate_whose_text_is_gone_is_dropped_too),
        T(test_a_broken_verifier_is_a_miss),
        T(test_a_judge_decides_and_its_doubt_is_a_miss),
        T(test_an_unsure_judge_may_be_followed_by_another),
        T(test_without_a_judge_nobody_waits_for_one),
        T(test_a_policy_that_never_has_enough_is_stopped),
        T(test_a_policy_that_chooses_nobody_is_a_miss),
        T(test_the_deadline_is_kept),
        T(test_unknown_tokens_fire_their_gate),
        T(test_an_outcome_tells_what_was_decided),
        T(test_details_are_kept_for_explain_only),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
