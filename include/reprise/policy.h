/* policy.h - how a hit is decided, and what is learned from the truth.
 *
 * A policy is a pure function with state: candidates and their evidence in; a
 * verdict, its reason and its risk out. It does no I/O; the clock and the random
 * generator are parameters, so that simulation and server run the same code on
 * the same seed. The driver in lib/cache gathers what a policy asks for and asks
 * again, at most RP_DRIVER_ROUNDS_MAX times.
 *
 * SPEC of a policy: NAME[:key=value,...], for instance
 * "static:min_similarity=0.95" or "calibrated:error_max=0.01".
 *
 * Units:   similarity is the cosine, in [-1, 1]; probabilities and rates in [0, 1].
 * Threads: an rp_policy is used by one thread at a time (lib/cache holds its lock). */
#ifndef REPRISE_POLICY_H
#define REPRISE_POLICY_H

#include <math.h>
#include <reprise/status.h>
#include <reprise/types.h>

#ifdef __cplusplus
extern "C" {
#endif

/* What differs between two prompts; one bit each in rp_candidate.gates_fired. The
 * functions are in lib/evidence/gates.h. */
typedef enum rp_gate {
    RP_GATE_NUMBER,      /* numbers, quantities with units */
    RP_GATE_DATE,        /* dates and times */
    RP_GATE_NEGATION,    /* an odd difference of negation cues */
    RP_GATE_ANTONYM,     /* antonyms, comparatives, opposed word pairs */
    RP_GATE_ENTITY,      /* names, rare tokens */
    RP_GATE_CODE,        /* identifiers, paths, flags, codes */
    RP_GATE_LANGUAGE,    /* language or script */
    RP_GATE_UNKNOWN,     /* text the encoder cannot read */
    RP_GATE_ROLE,        /* the same words with swapped roles */
    RP_GATE_QUESTION,    /* type of question: who, when, how many */
    RP_GATE_STRICT,      /* opt-in: any unmatched content word */
    RP_GATE_WINDOW,      /* long texts whose windows do not all match */
    RP_GATE_COLLISION,   /* near only because of what the stored prompt hides */
    RP_GATE_COUNT,
} rp_gate;

/* Lower-case name, as in metrics and explanations ("number", "negation"). */
const char *rp_gate_name(rp_gate gate);

enum { RP_JUDGE_UNASKED = -2, RP_JUDGE_UNSURE = -1, RP_JUDGE_NO = 0, RP_JUDGE_YES = 1 };

/* One stored prompt that may answer, and what is known about the pair. */
typedef struct rp_candidate {
    rp_entry_id id;
    float similarity;
    float alignment;      /* share of words that match in order, 0..1; NaN: gates not run */
    uint32_t gates_fired; /* bit g: gate g says that the two differ */
    uint32_t gates_noted; /* bit g: gate g has evidence too weak for a veto */
    float verifier;       /* cross-encoder's probability of "same"; NaN: not asked */
    int judge;            /* RP_JUDGE_* */
} rp_candidate;

typedef struct rp_question {
    rp_stratum stratum;
    rp_str category;       /* may be empty */
    rp_time now;
    const rp_candidate *candidates; /* nearest first */
    size_t count;                   /* 0..RP_CANDIDATES_MAX */
    float min_similarity;  /* the caller's own, only ever stricter; -1: none */
    double error_max;      /* the caller's own, only ever stricter; 1: none */
    bool has_verifier, has_judge; /* whether asking for one can succeed */
} rp_question;

typedef enum rp_verdict { RP_MISS, RP_HIT, RP_NEED_VERIFIER, RP_NEED_JUDGE } rp_verdict;

/* Whether the reply of a miss should become an entry (vCache keeps one only if
 * its neighbor turned out wrong: arXiv:2502.03771). */
typedef enum rp_keep { RP_KEEP_ALWAYS, RP_KEEP_IF_NEIGHBOR_WRONG, RP_KEEP_NEVER } rp_keep;

typedef struct rp_decision {
    rp_verdict verdict;
    size_t chosen;        /* index of the candidate that HIT or NEED_* is about */
    const char *reason;   /* static label: "similarity", "gate-number", "no-candidate" ... */
    double risk;          /* estimated P(wrong) of serving `chosen`; NaN: no estimate */
    double explore_probability; /* that this decision went upstream although it might
                                   have hit; 0 if deterministic */
    double threshold;     /* smallest similarity that would have hit here; NaN: none */
    float agreement;      /* share of the other candidates, by closeness, that are known to
                             share the answer of `chosen`; 0: none is known to */
    rp_keep keep;
} rp_decision;

/* How the truth about a candidate became known. */
typedef enum rp_outcome_source {
    RP_OUTCOME_MISS,     /* after a miss, its reply was compared with the neighbor's */
    RP_OUTCOME_AUDIT,    /* a hit was also sent upstream, with stated probability */
    RP_OUTCOME_JUDGE,
    RP_OUTCOME_FEEDBACK, /* somebody said so */
} rp_outcome_source;

typedef struct rp_outcome {
    rp_stratum stratum;
    rp_str category;
    rp_time time;
    rp_candidate candidate; /* as it was when decided */
    float similarity_second; /* of the next candidate, for the margin; NaN: none */
    float agreement;        /* as it was decided; rp_decision.agreement */
    rp_entry_id entry;      /* that the request's own reply became; 0: none. Right outcomes
                               tell so which entries share an answer. */
    bool right;
    bool served;            /* it had been served as a hit */
    rp_outcome_source source;
    double probability;     /* with which this outcome came to be observed, (0, 1] */
} rp_outcome;

typedef struct rp_policy rp_policy;

/* Make a policy from a SPEC. A key in SPEC beats `error_max` (NaN: not given).
 * Fails: RP_ERR_INVALID with a sentence that names the key and what is allowed. */
RP_NODISCARD rp_status rp_policy_new(rp_str spec, double error_max, rp_policy **out,
                                     rp_error *error);
void rp_policy_free(rp_policy *policy); /* NULL is fine */
rp_str rp_policy_name(const rp_policy *policy); /* lent */

/* The bound on wrong answers among all requests that it keeps; NaN: it keeps none. */
double rp_policy_error_bound(const rp_policy *policy);

/* Decide from what is known. `random01` is uniform in [0, 1), drawn by the caller
 * once a request, so that asking again with more evidence repeats the draw. */
void rp_policy_decide(rp_policy *policy, const rp_question *question, double random01,
                      rp_decision *out);
/* Learn. */
void rp_policy_observe(rp_policy *policy, const rp_outcome *outcome);
/* An entry is gone; forget its state. */
void rp_policy_forget(rp_policy *policy, rp_entry_id id);
/* The entries get vectors of another encoder: forget what was learned about each one's
 * similarities. What a stratum learned stays, for a stratum is of one encoder. */
void rp_policy_forget_similarities(rp_policy *policy);
/* Bytes held beyond the policy itself. */
size_t rp_policy_size_bytes(const rp_policy *policy);

/* State as bytes with a version (docs/file-format.md). *out is taken by the caller
 * and freed with free(). restore: the policy must have been made from a SPEC of the
 * same name; fails RP_ERR_CORRUPT, RP_ERR_STALE (other version), RP_ERR_INVALID
 * (other policy); then the policy is as it was. */
RP_NODISCARD rp_status rp_policy_save(const rp_policy *policy, char **out, size_t *len);
RP_NODISCARD rp_status rp_policy_restore(rp_policy *policy, rp_str bytes, rp_error *error);

/* Names and one-line summaries for help texts; NULL after the last. */
const char *rp_policy_list(size_t at, const char **summary);

#ifdef __cplusplus
}
#endif
#endif
