/* wrong_hits.h - the wrong hits that looked surest, from the lines of --decisions-out.
 *
 * Threads: used by one thread at a time. */
#ifndef RP_EVAL_WRONG_HITS_H
#define RP_EVAL_WRONG_HITS_H

#include "base/arena.h"
#include <reprise/status.h>

enum { RP_WRONG_HITS_MAX = 20 };

typedef struct rp_wrong_hit {
    rp_str policy;              /* SPEC */
    uint64_t request, matched;  /* lines of the stream, from 0 */
    double similarity;
    rp_str request_text, matched_text; /* empty if no stream was given */
} rp_wrong_hit;

/* Of one file of decisions: those of the highest similarity, each pair of lines once (by the
 * first policy that served it); equal texts do not count, for no policy decided them. */
typedef struct rp_wrong_hits {
    rp_arena arena;
    rp_str decisions, stream; /* files; stream empty: none */
    rp_wrong_hit hits[RP_WRONG_HITS_MAX];
    size_t count;
    uint64_t seen, wrong;     /* semantic hits, and wrong ones, of all policies in the file */
} rp_wrong_hits;

/* `stream` may be NULL: then there are no texts. Fails as rp_stream_read does; RP_ERR_INVALID
 * "FILE:LINE: ..." also for a line that the stream does not have. */
RP_NODISCARD rp_status rp_wrong_hits_read(const char *decisions, const char *stream,
                                          rp_wrong_hits *out, rp_error *error);
void rp_wrong_hits_fini(rp_wrong_hits *wrong);

#endif
