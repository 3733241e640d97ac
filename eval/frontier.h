/* frontier.h - the most hits that a policy's own estimate of the risk allows in hindsight.
 *
 * One pass in which nothing is served: every request goes upstream, becomes an entry and
 * tells the policy whether its candidate would have been right. Of each request that has a
 * candidate three scores are noted, as they were when it was asked, each with the truth
 * about the candidate it speaks of:
 *
 *   risk     the policy's estimate for the candidate it would have served: the nearest one
 *            that no gate bars. A request whose candidates are all barred has none;
 *   gated    the cosine of that same candidate;
 *   nearest  the cosine of the nearest candidate, whatever the gates say.
 *
 * For each bound the loosest cut on a score is taken at which wrong answers stay within the
 * bound's share of all requests (rp_frontier; equal scores are cut together). The cut is
 * chosen with the truth at hand and the cache keeps what it would have answered, so this is
 * no cache, but the same as the tables of eval stream --sweep with another score.
 *
 * Threads: used by one thread at a time. */
#ifndef RP_EVAL_FRONTIER_H
#define RP_EVAL_FRONTIER_H

#include "eval/metrics.h"

enum { RP_FRONTIER_BOUNDS_MAX = 24 };

typedef enum rp_frontier_score {
    RP_FRONTIER_RISK,
    RP_FRONTIER_GATED,
    RP_FRONTIER_NEAREST,
    RP_FRONTIER_SCORES,
} rp_frontier_score;

/* "risk", "gated", "nearest". */
const char *rp_frontier_score_name(rp_frontier_score score);

/* Numbers only: kept in checkpoints as they are. */
typedef struct rp_frontiers {
    uint64_t requests, exact_hits;        /* requests: all that count, equal texts too */
    uint64_t counts[RP_FRONTIER_SCORES];  /* requests that have this score */
    uint64_t bound_count;
    double bounds[RP_FRONTIER_BOUNDS_MAX];
    rp_frontier_point points[RP_FRONTIER_SCORES][RP_FRONTIER_BOUNDS_MAX];
} rp_frontiers;

/* What a pass collects. */
typedef struct rp_frontier_rows {
    rp_scored *rows[RP_FRONTIER_SCORES]; /* owned */
    size_t counts[RP_FRONTIER_SCORES], capacity;
} rp_frontier_rows;

/* Fails: RP_ERR_NOMEM. */
RP_NODISCARD rp_status rp_frontier_rows_init(rp_frontier_rows *rows, size_t requests);
void rp_frontier_rows_fini(rp_frontier_rows *rows);
/* A larger score is served rather. What is not finite, or beyond the room, is passed over. */
void rp_frontier_add(rp_frontier_rows *rows, rp_frontier_score score, double value, bool right);
/* Sorts. `out->bounds` and `out->requests` are set already; cuts on the risk are risks, not
 * scores. */
void rp_frontier_finish(rp_frontier_rows *rows, rp_frontiers *out);

/* The hits at this bound; NaN: it is none of the bounds, or nothing has that score. */
double rp_frontier_hits(const rp_frontiers *frontiers, rp_frontier_score score, double bound);

#endif
