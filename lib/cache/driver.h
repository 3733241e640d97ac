/* driver.h - the one driver around a policy: gathers evidence, asks, asks again.
 *
 * Evidence is gathered in order of cost and only as far as needed. Similarities
 * are given. Gates run on the nearest candidate. Then the policy decides; if it turns
 * to another candidate, that one's gates run and it is asked again; if it wants the
 * verifier or a judge about one, the driver gets that and asks again, at most
 * RP_DRIVER_ROUNDS_MAX times. Whatever is late,
 * broken or unsure ends as a miss with a reason.
 *
 * A judge may be slow and far away. rp_drive_step therefore stops with
 * RP_DRIVE_WANTS_JUDGE and goes on after rp_drive_judged; rp_drive does both with
 * a callback. Texts come through a callback too, so that the simulator drives the
 * same code without a store.
 *
 * Threads: an rp_decider is safe from any thread (it locks inside, docs/threads.md
 *          rank `decider`); an rp_drive_state is used by one thread at a time. */
#ifndef RP_CACHE_DRIVER_H
#define RP_CACHE_DRIVER_H

#include "base/arena.h"
#include "base/clock.h"
#include "evidence/gates.h"
#include <reprise/judge.h>
#include <reprise/policy.h>

/* ---- a policy that threads may share ------------------------------------------ */

typedef struct rp_decider rp_decider; /* policy, its lock, its random generator */

/* `error_max` NaN: the policy's own default. Fails as rp_policy_new does. */
RP_NODISCARD rp_status rp_decider_new(rp_str spec, double error_max, uint64_t seed,
                                      rp_decider **out, rp_error *error);
void rp_decider_free(rp_decider *decider); /* NULL is fine */
rp_str rp_decider_name(const rp_decider *decider); /* lent */
rp_str rp_decider_spec(const rp_decider *decider); /* lent */
double rp_decider_error_bound(const rp_decider *decider); /* rp_policy_error_bound */
/* Uniform in [0, 1): drawn once a request. */
double rp_decider_draw(rp_decider *decider);
void rp_decider_decide(rp_decider *decider, const rp_question *question, double random01,
                       rp_decision *out);
void rp_decider_observe(rp_decider *decider, const rp_outcome *outcome);
void rp_decider_forget(rp_decider *decider, rp_entry_id id);
void rp_decider_forget_similarities(rp_decider *decider);
size_t rp_decider_size_bytes(rp_decider *decider);
RP_NODISCARD rp_status rp_decider_save(rp_decider *decider, char **out, size_t *len);
RP_NODISCARD rp_status rp_decider_restore(rp_decider *decider, rp_str bytes, rp_error *error);

/* ---- one decision --------------------------------------------------------------- */

/* Where evidence about a candidate comes from; `at` is its place in what was given to
 * rp_drive_begin. */
typedef struct rp_drive_sources {
    /* The stored prompt, lent until the decision is over; false: it is not to be had, and
     * the candidate is dropped. */
    bool (*text)(void *context, size_t at, rp_entry_id id, rp_str *out);
    /* The part of a stored prompt that varies, cut by the template that cut input.varying;
     * false: it is not to be had, and gates see both prompts whole. NULL: never. */
    bool (*varying)(void *context, size_t at, rp_entry_id id, rp_str stored, rp_str *out);
    /* The stored answer as text, for a judge. May be NULL, or say false. */
    bool (*answer)(void *context, size_t at, rp_entry_id id, rp_str *out);
    /* Cross-encoder's probability of "same". NULL: there is none. Anything but RP_OK is a
     * miss with reason "verifier". */
    rp_status (*verify)(void *context, size_t at, rp_str prompt, rp_str stored,
                        int64_t deadline_us, float *out);
    /* Is the stored prompt near only because of what was added to it (evidence/collision.h)?
     * Asked once about a candidate that would be served, if RP_GATE_COLLISION is enabled;
     * a yes fires that gate and the policy is asked again. NULL: never asked. Fails: the
     * request is a miss with the reason "collision". */
    rp_status (*collides)(void *context, size_t at, rp_entry_id id, rp_str prompt, rp_str stored,
                          float similarity, bool *out);
    void *context;
} rp_drive_sources;

typedef struct rp_drive_input {
    rp_str prompt;
    rp_str varying; /* what gates see of it, if a template cut it; ptr NULL: all */
    rp_stratum stratum;
    rp_str category;
    rp_time now;
    float min_similarity; /* the caller's own, stricter only; -1: none */
    double error_max;     /* the caller's own, stricter only; 1: none */
    double unknown_share; /* of the prompt's tokens; RP_GATE_UNKNOWN fires above a limit,
                             unless gates are off altogether */
    rp_gate_options gates;
    bool with_detail;     /* explain: keep what each gate saw */
    bool has_judge;
    double random01;      /* rp_decider_draw, or the simulator's own */
    const rp_clock *clock;
    int64_t deadline_us;  /* monotonic; 0: none. Checked before each stage. */
    rp_drive_sources sources;
    rp_arena *arena;      /* features and details */
} rp_drive_input;

typedef enum rp_drive_status {
    RP_DRIVE_DONE,        /* state->decision is HIT or MISS */
    RP_DRIVE_WANTS_JUDGE, /* ask about state->judge_question, then rp_drive_judged */
} rp_drive_status;

/* One decision under way, in the caller's storage. Read it; only the driver writes. */
typedef struct rp_drive_state {
    rp_drive_input input;
    rp_candidate candidates[RP_CANDIDATES_MAX]; /* nearest first */
    size_t count;
    size_t origins[RP_CANDIDATES_MAX];          /* their places in what was given */
    rp_str texts[RP_CANDIDATES_MAX];            /* stored prompts, where they were needed */
    const rp_gate_report *reports[RP_CANDIDATES_MAX]; /* with_detail only; else NULL */
    const rp_features *features;                /* of the prompt, once made */
    const rp_features *features_varying;        /* of what varies in it, once made */
    bool collision_asked[RP_CANDIDATES_MAX];
    rp_decision decision;
    rp_judge_question judge_question;           /* when RP_DRIVE_WANTS_JUDGE */
    bool gated;                                 /* the first gates have run */
    unsigned rounds;                            /* times the policy asked for more */
    unsigned verifier_calls, judge_calls;
    int64_t gate_us, policy_us, verify_us, collision_us;
} rp_drive_state;

/* Similarity below which gates are not run: no policy we know serves such a
 * candidate and the look costs a read of the store. A guess, far below every
 * threshold in docs/policies.md. */
#define RP_DRIVE_GATE_SIMILARITY_MIN 0.30f
/* Share of tokens the encoder cannot read above which RP_GATE_UNKNOWN fires: the
 * vector then says little about the text. A guess. */
#define RP_DRIVE_UNKNOWN_SHARE_MAX 0.20

/* Begin with candidates as the search found them: id and similarity count, and gates
 * that were fired already (RP_GATE_WINDOW); the rest is unknown. `count` beyond
 * RP_CANDIDATES_MAX is cut. `input` is copied; what it points to is borrowed until
 * the decision is over. Then rp_drive_step. */
void rp_drive_begin(rp_drive_state *state, const rp_drive_input *input,
                    const rp_candidate *candidates, size_t count);
/* Go on until done or a judge is wanted. Never fails: failures are misses. */
rp_drive_status rp_drive_step(rp_drive_state *state, rp_decider *decider);
/* The judge has spoken (RP_JUDGE_YES, NO, UNSURE), or did not in time (UNSURE). Then
 * rp_drive_step again. */
void rp_drive_judged(rp_drive_state *state, int verdict);
/* All of it on this thread; judge NULL: there is none. */
void rp_drive(rp_drive_state *state, rp_decider *decider, const rp_judge *judge);

/* What the decision was about as an outcome record, `right` still to be filled in:
 * candidate, margin, stratum, probability. False if there was no candidate. */
bool rp_drive_outcome(const rp_drive_state *state, rp_outcome_source source, rp_outcome *out);

#endif
