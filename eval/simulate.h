/* simulate.h - one policy over one stream, as the server would have served it.
 *
 * The driver around the policy, the gates, the verifier, the check of key collisions, the
 * index and the rules of replay and lifetime are those of the server (lib/cache); only the store is missing (an entry is a line of the
 * stream) and the truth is at hand. Each request:
 *
 *   1. an equal text of the same scope hits exactly, before any policy; counted apart;
 *   2. else the nearest 8 entries of its scope that may answer at all (not expired; personal
 *      and temporal words as in the server) go to the driver, long texts window by window;
 *   3. on a miss its answer becomes an entry, unless the policy wants none; the policy
 *      is told, `label_delay` requests later, whether the candidate would have been right;
 *   4. of the hits a share `audit` also goes upstream, and the policy is told;
 *   5. if the cache is bounded and full, an eviction policy names who goes.
 *
 * What a policy cannot know in a server it is not told here: hits that nobody audits.
 *
 * The clock is the stream's: `time` of its lines, or `interval` seconds a request; if
 * neither is given no time passes, and nothing expires.
 *
 * Threads: used by one thread at a time. */
#ifndef RP_EVAL_SIMULATE_H
#define RP_EVAL_SIMULATE_H

#include "eval/evict.h"
#include "eval/frontier.h"
#include "eval/memo.h"
#include "eval/stream.h"
#include "eval/tally.h"
#include "eval/vectors.h"

#include <reprise/embed.h>
#include <reprise/verify.h>
#include <stdio.h>

/* Called now and then with the requests done; false: stop. */
typedef bool rp_simulation_progress(void *context, size_t done, size_t count);

typedef struct rp_simulation {
    const rp_stream *stream;
    const rp_vectors *vectors;  /* (texts) if by_text, else (lines) */
    bool by_text;
    const float *embed_us;      /* (texts) how long embedding takes; NULL: not known */
    const uint32_t *order;      /* (stream->count) line numbers */
    uint64_t seed;
    double error_max;           /* NaN: not given */
    uint32_t gates;             /* bits of the gates that run */
    bool strict;
    bool learn_misses;          /* --labels miss, audit */
    double audit;               /* share of hits */
    size_t label_delay;         /* requests */
    const rp_encoder *encoder;  /* for the check of key collisions; NULL: it is not made */
    const rp_verifier *verifier; /* NULL: there is none */
    rp_memo *memo;              /* what these two said; NULL: they are asked every time */
    bool has_judge;             /* simulated: knows the truth, lies with judge_error */
    double judge_error;
    size_t neighbors;           /* candidates looked at; 0: as many as the server */
    size_t warm;                /* first requests, which are served but not counted */
    size_t capacity;            /* entries; 0: no bound */
    rp_evict_kind evict;
    double interval;            /* seconds between requests where the stream gives no times */
    double ttl, volatile_ttl;   /* seconds; negative: the server's own; 0: for ever */
    rp_tally_options tally;
    FILE *decisions_out;        /* NULL: none */
    rp_simulation_progress *progress; /* may be NULL */
    void *progress_context;
} rp_simulation;

/* Fails: RP_ERR_INVALID (the SPEC), RP_ERR_NOMEM, RP_ERR_IO (decisions), RP_ERR_CLOSED
 * (`progress` said stop). After success release with rp_tally_fini. */
RP_NODISCARD rp_status rp_simulate(const rp_simulation *simulation, const char *spec,
                                   rp_tally *out, rp_error *error);

/* The pass of frontier.h: nothing is served, every request is kept and every outcome told.
 * `out->bounds` and `out->bound_count` say for which bounds; the rest is filled in. Of the
 * simulation `capacity`, `decisions_out` and `encoder` do not count: what would be served,
 * and is checked for that, depends on a cut. Fails as rp_simulate does. */
RP_NODISCARD rp_status rp_simulate_frontier(const rp_simulation *simulation, const char *spec,
                                            rp_frontiers *out, rp_error *error);

/* A threshold in hindsight: every request becomes an entry, whatever was decided, and the
 * nearest one (of the 8 nearest without a veto, if gates run) is scored. This is not a
 * cache, but what the published tables show: no bound, no expiry, no personal words. */
typedef struct rp_sweep {
    rp_scored *rows;  /* sorted; owned */
    size_t count;     /* semantic requests with a candidate */
    uint64_t requests, exact_hits, exact_wrong;
    uint64_t possible, nearest_right; /* an earlier request has the answer; the nearest does */
} rp_sweep;
RP_NODISCARD rp_status rp_sweep_run(const rp_simulation *simulation, rp_sweep *out,
                                    rp_error *error);
void rp_sweep_fini(rp_sweep *sweep);

#endif
