/* policy_internal.h - what a family of policies gives to policy.c, and gets.
 *
 * policy.c reads the SPEC, checks ranges, frames saved state and dispatches; a
 * family (threshold.c, verified.c ...) is one rp_policy_kind, most with a state
 * of their own behind `rp_policy.state`. Everything a family needs to know about
 * its SPEC is in rp_policy_options, so that "a key in SPEC beats the flag" and
 * "unknown keys are refused" exist once.
 *
 * Threads: as in policy.h: one thread at a time. */
#ifndef RP_POLICY_INTERNAL_H
#define RP_POLICY_INTERNAL_H

#include "base/buffer.h"
#include "base/bytes.h"
#include <reprise/policy.h>

enum {
    RP_POLICY_CATEGORIES_MAX = 64, /* min_similarity.CATEGORY keys of one SPEC */
    RP_POLICY_STRATA_MAX = 1024,   /* strata a policy learns; the longest unused goes */
};

/* Keys a SPEC may hold; rp_policy_kind.keys says which a family accepts. */
enum {
    RP_KEY_ERROR_MAX = 1 << 0,
    RP_KEY_HIT_ERROR_MAX = 1 << 1,
    RP_KEY_MIN_SIMILARITY = 1 << 2, /* and min_similarity.CATEGORY */
    RP_KEY_HINT_SIMILARITY = 1 << 3,
    RP_KEY_VERIFIER_MIN = 1 << 4,
    RP_KEY_JUDGE_MIN = 1 << 5,
    RP_KEY_AUDIT = 1 << 6,
};

typedef struct rp_policy_options {
    double error_max;       /* (0, 1): share of all requests answered wrongly */
    double hit_error_max;   /* (0, 1]: share of hits that are wrong */
    double min_similarity;  /* [-1, 1] */
    double hint_similarity; /* dual: below min_similarity, a hint for the upstream */
    double verifier_min;    /* [0, 1]: verifier's probability that overrules a gate */
    double judge_min;       /* [-1, 1]: below this no judge is asked */
    double audit;           /* [0, 1]: least share of hits that goes upstream as well */
    size_t categories_count;
    struct {
        uint64_t hash; /* of the name */
        double min_similarity;
    } categories[RP_POLICY_CATEGORIES_MAX];
} rp_policy_options;

typedef struct rp_policy_kind {
    const char *name, *summary;
    unsigned keys;         /* RP_KEY_* that its SPEC may hold */
    double min_similarity; /* its default */
    uint16_t version;      /* of its saved state */
    /* NULL where a family has no state. `create` fills policy->state. */
    rp_status (*create)(rp_policy *policy, rp_error *error);
    void (*destroy)(rp_policy *policy);
    void (*decide)(rp_policy *policy, const rp_question *question, double random01,
                   rp_decision *out);
    void (*observe)(rp_policy *policy, const rp_outcome *outcome);
    void (*forget)(rp_policy *policy, rp_entry_id id);
    void (*forget_similarities)(rp_policy *policy);
    size_t (*size_bytes)(const rp_policy *policy);
    void (*save)(const rp_policy *policy, rp_buffer *out);
    /* Reads a whole payload or leaves the policy as it was. */
    rp_status (*restore)(rp_policy *policy, rp_str payload, rp_error *error);
} rp_policy_kind;

struct rp_policy {
    const rp_policy_kind *kind;
    rp_policy_options options;
    void *state; /* owned, the family's */
};

/* The families. */
extern const rp_policy_kind rp_policy_exact, rp_policy_static, rp_policy_dual, rp_policy_verified,
    rp_policy_verified_global, rp_policy_verified_iid, rp_policy_verified_sigmoid,
    rp_policy_verified_sigmoid_probability, rp_policy_verified_plus, rp_policy_adaptive,
    rp_policy_calibrated, rp_policy_judge, rp_policy_cascade, rp_policy_krites;

/* Gates whose veto no verifier or judge can lift: neither could read the text, nobody
 * compared the rest of it, or somebody wrote it to be believed. */
#define RP_GATES_FINAL                                                                             \
    (1u << RP_GATE_LANGUAGE | 1u << RP_GATE_UNKNOWN | 1u << RP_GATE_WINDOW | 1u << RP_GATE_COLLISION)

/* The least similarity that this question allows: the SPEC's own, its category's,
 * and the caller's, which is only ever stricter. */
double rp_policy_floor(const rp_policy *policy, const rp_question *question);
/* The error bound of this question: SPEC's, or the caller's if stricter. */
double rp_policy_error_max(const rp_policy *policy, const rp_question *question);
/* A miss with everything else at "unknown". */
void rp_decision_miss(rp_decision *out, const char *reason);
/* "gate-number" for the first gate of the mask; static storage. */
const char *rp_policy_gate_reason(uint32_t gates_fired);

/* What stands between a candidate that is similar enough and a hit. */
typedef enum rp_clearance {
    RP_CLEAR,         /* nothing */
    RP_CLEAR_BARRED,  /* a gate fired and nobody can overrule it */
    RP_CLEAR_VERIFIER, /* ask the verifier */
    RP_CLEAR_JUDGE,   /* ask the judge */
} rp_clearance;

/* Look at a candidate's gates, verifier and judge. *reason says why not, or which
 * evidence allowed it. */
rp_clearance rp_policy_clearance(const rp_policy *policy, const rp_question *question,
                                 const rp_candidate *candidate, const char **reason);

#endif
