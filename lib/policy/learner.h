/* learner.h - P(right | evidence) of one stratum, and the cut that keeps a bound.
 *
 * What `calibrated` and `verified-plus` share. A learner holds
 *
 *  - a ring of labelled outcomes and a small monotone logistic model fitted to them
 *    (shrunk to the model of all strata together). Whether an outcome is seen depends on
 *    its evidence and on our own draw, never on the truth, so that its likelihood needs
 *    no correction (Rubin 1976). Each counts by how likely right it was called: the curve
 *    is to be right where hits are decided (local likelihood);
 *  - a ring of explored outcomes, those of hits that went upstream: they are few and the
 *    only ones that show what hits are like, so that misses must not push them out. They
 *    count in the fit, and from them comes the floor of the risk;
 *  - a ring of recent questions, from which the cut is chosen: the largest risk that may
 *    be served so that the expected share of wrong answers stays below the bound, after
 *    correction by what explored hits turned out to be;
 *  - the ledger: how many wrong answers the served hits are estimated to hold, by what is
 *    known now, against how many the bound allows.
 *
 * The risk of a candidate is  floor + (1 - floor) * logistic(-logit): a logistic curve
 * alone says that a similar enough candidate is never wrong, while labels are noisy and
 * classes broad, and what is served most is what it is surest of (docs/policies.md).
 *
 * The formula of the cut is that of conformal risk control (arXiv:2208.02814, eq. 4):
 * the loosest cut with  n / (n + 1) R(cut) + B / (n + 1) <= error_max,  where R is not the
 * raw mean of a loss - of which a bound of 1 % sees one in a hundred - but the model's
 * expectation times `inflation`, the upper limit of (wrong among explored hits) / (wrong
 * expected there), and B, the most that one question can add, is the cut itself.
 * Exploration is the policy's own draw, alike for all hits, so this correction needs no
 * assumption on the order of requests (docs/policies.md).
 *
 * Threads: used by one thread at a time. */
#ifndef RP_POLICY_LEARNER_H
#define RP_POLICY_LEARNER_H

#include "base/buffer.h"
#include <reprise/policy.h>

enum {
    RP_FEATURES = 9,        /* of the model, the constant included */
    RP_OUTCOMES_MAX = 1024, /* labelled outcomes a stratum remembers */
    RP_EXPLORED_MAX = 512,  /* explored ones, beside the others */
    RP_QUESTIONS_MAX = 1024, /* recent questions a stratum remembers */
};

/* Evidence about one candidate as numbers of order 1. */
typedef struct rp_evidence {
    float x[RP_FEATURES];
} rp_evidence;
rp_evidence rp_evidence_of(const rp_candidate *candidate, float agreement);
/* Similarity and agreement only, for policies that look at nothing else. */
rp_evidence rp_evidence_of_similarity(float similarity, float agreement);

typedef struct rp_model {
    double weight[RP_FEATURES];
    double covariance[RP_FEATURES][RP_FEATURES]; /* of the weights */
    double outcomes; /* it was fitted to, effective number */
} rp_model;
/* Before any outcome: a guess for the hardest streams seen (quality notes): even at a
 * cosine of .98 a tenth is wrong. It is the prior of the first fit; until then nothing is
 * decided by it (rp_learner_is_cold). */
void rp_model_init(rp_model *model);
double rp_model_logit(const rp_model *model, const rp_evidence *evidence);
/* Standard deviation of the logit, from the covariance of the weights. */
double rp_model_deviation(const rp_model *model, const rp_evidence *evidence);

typedef struct rp_labelled {
    rp_evidence evidence;
    bool right;
} rp_labelled;

typedef struct rp_asked {
    rp_evidence evidence;
    float offset; /* added to the model's logit: what the entry itself has shown */
    float deviation; /* of the offset */
    bool eligible; /* false: no candidate, or barred: it cannot be served */
} rp_asked;

typedef struct rp_learner {
    rp_model model;
    rp_labelled outcomes[RP_OUTCOMES_MAX];
    rp_labelled explored_outcomes[RP_EXPLORED_MAX];
    rp_asked asked[RP_QUESTIONS_MAX];
    uint32_t outcomes_count, outcomes_at; /* held; next place */
    uint32_t explored_count, explored_at;
    uint32_t asked_count, asked_at;
    uint32_t since_fit, since_cut;
    uint64_t outcomes_seen;

    /* Explored hits: wrong ones and the risk that was expected, both fading. */
    double explored, explored_wrong, explored_risk;
    double recent_wrong, recent_risk; /* the same of about the last ten */
    /* Misses just below the cut, likewise: they cost nothing and show drift first. */
    double grey, grey_wrong, grey_risk;
    double floor; /* risk that no evidence removes */
    /* The ledger, fading over LEDGER_HORIZON requests. `spent` is the risk of the hits
     * above the floor, so that a floor seen late counts for the hits before it too. */
    double requests, hits, spent;
    double cut;       /* largest risk that may be served; < 0: none */
    double inflation;

    /* Drift: two-proportion statistic's sums and Page-Hinkley, and the pause. */
    double hinkley, hinkley_min;
    uint32_t pause; /* requests for which nothing is served */
    uint32_t alarms;
} rp_learner;

void rp_learner_init(rp_learner *learner);
/* Too few outcomes to decide by: what serves then is the policy's matter, and what it
 * serves is not to be told here. */
bool rp_learner_is_cold(const rp_learner *learner);

typedef struct rp_learner_bounds {
    double error_max, hit_error_max;
    double spread; /* prior deviation of the entries' offsets; 0: there are none */
} rp_learner_bounds;

/* P(wrong), floor included, all that is not known about the curve and the offset integrated out: doubt
 * brings it nearer to one half. */
double rp_learner_risk(const rp_learner *learner, const rp_evidence *evidence, double offset,
                       double deviation, double spread);
/* The factor between the logit of the curve, which is that of all entries together, and
 * the logit of one whose offset is 0: integrating offsets out flattens a curve. */
double rp_learner_steepness(double spread);
/* A question has come (once a question, when its verdict is final). Moves the cut. */
void rp_learner_ask(rp_learner *learner, const rp_asked *asked, const rp_learner_bounds *bounds);
/* It was served at this risk. */
void rp_learner_serve(rp_learner *learner, double risk);
/* The share of would-be hits to send upstream: more than `least` until enough wrong
 * answers were to be expected among them for the model to be checked by them, and again
 * while more of the last ones are wrong than were expected. */
double rp_learner_explore_share(const rp_learner *learner, double least);
/* The truth about a candidate: a miss, an explored hit (`risk` as it was estimated now),
 * an audit. `pooled` is the model to shrink to, NULL: the initial one. */
void rp_learner_learn(rp_learner *learner, const rp_labelled *labelled, double risk,
                      bool explored, const rp_model *pooled, const rp_learner_bounds *bounds);

void rp_learner_save(const rp_learner *learner, rp_buffer *out);
/* Takes its bytes off the front; false: damaged, *learner is undefined then. */
bool rp_learner_restore(rp_learner *learner, rp_str *bytes);

#endif
