/* ask.h - what models say about two prompts, as the driver's sources want it.
 *
 * Server and simulator ask through these functions, so that both decide alike.
 *
 * Threads: pure functions; models are immutable. */
#ifndef RP_CACHE_ASK_H
#define RP_CACHE_ASK_H

#include "base/clock.h"
#include <reprise/verify.h>

/* As rp_drive_sources.verify. A pair that was cut has not been read to its end: no word about
 * it, RP_ERR_LIMIT. Fails: RP_ERR_TIMEOUT (the deadline has passed; 0: there is none), what
 * rp_verifier_score says. */
RP_NODISCARD rp_status rp_ask_verifier(const rp_verifier *verifier, rp_str prompt, rp_str stored,
                                       const rp_clock *clock, int64_t deadline_us, float *out);

/* Vectors (count, dim) of length 1 for texts. */
typedef rp_status rp_ask_embed(void *context, const rp_str *texts, size_t count, float *out);

/* As rp_drive_sources.collides: is `stored` near `question`, whose vector is (dim), only
 * because of what was added to it (evidence/collision.h)? `embed` is called once or, where
 * words alone say no, not at all. Fails: RP_ERR_NOMEM, what `embed` says. */
RP_NODISCARD rp_status rp_ask_collision(rp_str stored, rp_str question, const float *vector,
                                        size_t dim, float similarity, rp_ask_embed *embed,
                                        void *context, bool *out);

#endif
