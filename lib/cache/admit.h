/* admit.h - may this reply be kept, and what did the miss teach?
 *
 * After a miss the server has forwarded the request, copied the reply to the client and,
 * when it was whole, has it encoded (wire/wire.h: rp_reply_reader_finish). rp_admit then
 * asks every rule that may say no, drafts the entry and hands it to the store; the store's
 * `added` event puts its vector into the index after the commit, so that the index holds
 * nothing the store lacks. The exact tier answers from the pending table before that.
 *
 * Threads: safe from any thread; rp_admit does not touch the disk. A query is used by one
 *          thread at a time. */
#ifndef RP_CACHE_ADMIT_H
#define RP_CACHE_ADMIT_H

#include "cache/lookup.h"

typedef struct rp_admission {
    rp_reply_verdict verdict; /* of the wire, for the whole reply */
    rp_str encoded;           /* encoded reply; borrowed for the call */
    rp_usage usage;
    int64_t upstream_us;      /* how long the original took */
    bool is_static;           /* curated: never evicted */
    rp_store_done *done;      /* on the writer thread after the commit, or NULL */
    void *done_context;
} rp_admission;

/* Why the reply is not kept; NULL: nothing says no. Static label, metric
 * reprise_cache_write_skipped_total: "no-store", "shadow", "temperature", "status" ... */
const char *rp_admit_refusal(rp_cache *cache, const rp_query *query,
                             const rp_admission *admission);

/* How long the entry of this query shall live, in microseconds; 0: for ever; negative: not
 * at all. From its rules, controls and words. */
int64_t rp_admit_lifetime_us(const rp_query *query);

/* With RP_COLLISION_CHECK_ADMISSION: would the new entry's key collide with one of the stored
 * prompts that its look-up found near? Then it will be kept for the exact tier only. Wanted:
 * whether there is anything to ask. The check embeds: pool threads, off the request's
 * path. What cannot be checked is not kept for similar questions either. */
bool rp_admit_wants_check(const rp_query *query);
void rp_admit_check(rp_cache *cache, rp_query *query);

/* Keep it if nothing says no. Returns NULL and *id, or the reason. If the request is
 * eligible for the semantic tier and the query has no vectors yet, the entry is stored
 * for the exact tier only: embed first (rp_query_embed on a pool thread) where that
 * matters. The id is noted in the query, for rp_learn. The reason "busy", "full", "paused" or "share" means that the store refused;
 * `done` is called only if NULL was returned. */
const char *rp_admit(rp_cache *cache, rp_query *query, const rp_admission *admission,
                     rp_entry_id *id);

/* ---- learn ------------------------------------------------------------------------- */

/* What this miss taught about the candidate it passed over: its stored answer is compared
 * with the new one. Where both are short, equal texts (white space and case aside) say
 * right, different ones wrong. Long answers differ in words when they agree in meaning;
 * that they sometimes agree in words is noted in the query (neighbor_label), but is no
 * outcome: what is only ever seen when it is good says nothing. Returns whether anything was learned. Pool threads: reads the store. */
bool rp_learn_from_miss(rp_cache *cache, rp_query *query, rp_str reply_text);
/* The truth about the candidate that this look-up served or passed over: from an audit, a
 * judge, feedback. `probability` with which it came to be observed. Stored, and told to
 * the policy. False if there was no candidate. */
bool rp_learn(rp_cache *cache, rp_query *query, rp_outcome_source source, bool right,
              double probability);
/* Feedback on an entry or on a past request. The last look-ups that hit are remembered by
 * entry and by request id (bounded). A wrong entry is removed. Fails: RP_ERR_NOT_FOUND. */
RP_NODISCARD rp_status rp_feedback(rp_cache *cache, rp_str tenant, rp_entry_id id, bool correct,
                                   rp_error *error);
/* Remember that `request_id` was answered by this query's entry. */
void rp_remember_request(rp_cache *cache, const rp_query *query, rp_str request_id);
RP_NODISCARD rp_status rp_feedback_request(rp_cache *cache, rp_str tenant, rp_str request_id,
                                           bool correct, rp_error *error);

/* An outcome as bytes in the store, with a version (docs/file-format.md). */
void rp_outcome_encode(const rp_outcome *outcome, rp_str policy, rp_buffer *out);
RP_NODISCARD rp_status rp_outcome_decode(rp_str bytes, rp_outcome *out, rp_str *policy);

#endif
