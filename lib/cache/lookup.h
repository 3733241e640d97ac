/* lookup.h - one request from start to end, stage by stage.
 *
 *     rp_query_prepare    scope, key, tier, personal words        any thread, no disk
 *     rp_lookup_exact     exact tier: table and hot replies        loop thread, no disk
 *     (embed)             rp_query_embedding, or rp_query_embed    pool
 *     rp_lookup_cold      exact tier: a reply that is on disk      pool
 *     rp_lookup_semantic  search, candidates, gates, policy        pool
 *     rp_lookup_judged    after a judge that was asked elsewhere   pool
 *     rp_query_fini
 *
 * and afterwards cache/admit.h for what a miss brought back. The server calls the
 * stages on its threads; rp_lookup_all does them one after the other for a library
 * user. After each stage query->result says how things stand. Whatever goes wrong
 * inside is a miss with a reason, counted (rp_cache_reasons).
 *
 * Memory:  an rp_query lies in the caller's storage and borrows the request, its arena
 *          and all strings until rp_query_fini. It holds a reference to the entry of a
 *          hit until then; rp_entry_ref for longer.
 * Threads: an rp_query is used by one thread at a time, handed on between stages;
 *          different queries run at the same time. */
#ifndef RP_CACHE_LOOKUP_H
#define RP_CACHE_LOOKUP_H

#include "cache/driver.h"
#include "cache/scope.h"
#include "store/store.h"
#include "wire/wire.h"
#include <reprise/cache.h>
#include <reprise/index.h>

/* Who is asked about additions to a stored prompt (evidence/collision.h). */
typedef enum rp_collision_check {
    RP_COLLISION_CHECK_OFF,
    RP_COLLISION_CHECK_HITS,      /* the candidate that would be served */
    RP_COLLISION_CHECK_ADMISSION, /* and a new entry, about the prompts that are near it */
} rp_collision_check;

/* What holds for a request: the route's rules, in the server from its configuration. */
typedef struct rp_rules {
    rp_cache_mode mode;
    bool exact, semantic;     /* tiers that are on */
    rp_decider *decider;      /* rp_cache_decider; borrowed */
    float min_similarity;     /* the route's floor; -1: none */
    int64_t ttl_us;           /* 0: never expires */
    int64_t ttl_max_us;       /* clamp of a caller's wish; 0: none */
    int64_t volatile_ttl_us;  /* temporal prompts hit this long; default 10 minutes */
    double temperature_max;   /* an explicit higher value is not stored; default 1.0 */
    bool keep_length, keep_filtered; /* keep replies that were cut so, too */
    bool strict_gates;
    rp_collision_check collision_check; /* RP_COLLISION_CHECK_HITS */
    bool templates;           /* embed only what varies among the scope's prompts */
    uint32_t gates;           /* RP_GATES_DEFAULT */
    size_t neighbors;         /* candidates looked at, 1..RP_CANDIDATES_MAX; 0: 8 */
} rp_rules;
/* The defaults of the whole system: serve, both tiers, 24 h, 10 minutes, 1.0, no decider. */
void rp_rules_init(rp_rules *rules);

/* What the caller asked of the cache, in headers or the body's `cache` member. */
typedef struct rp_controls {
    bool no_read;          /* no-cache: do not answer from the store */
    bool no_write;         /* no-store: do not keep the reply */
    int64_t max_age_us;    /* -1: not given */
    int64_t min_fresh_us;  /* -1: not given; time an entry must still live */
    float min_similarity;  /* -1: not given; only ever stricter */
    double error_max;      /* 1: not given; only ever stricter */
    int64_t ttl_us;        /* -1: not given */
    rp_str tags;           /* joined by LF; each checked by rp_tags_parse */
} rp_controls;
void rp_controls_init(rp_controls *controls);
/* Add what the body's `cache` member says (rp_request.controls); headers win. */
void rp_controls_add_body(rp_controls *controls, const rp_body_controls *body);
/* Check comma-separated tags and join them by LF, sorted, without repeats. Fails:
 * RP_ERR_LIMIT (RP_TAGS_MAX, RP_TAG_SIZE_MAX), RP_ERR_INVALID (control characters). */
RP_NODISCARD rp_status rp_tags_parse(rp_str header, rp_arena *arena, rp_str *out);

typedef enum rp_lookup_outcome {
    RP_LOOKUP_MISS,
    RP_LOOKUP_HIT,          /* result.entry has the reply */
    RP_LOOKUP_BYPASS,       /* the cache has no part in this request: neither read nor write */
    RP_LOOKUP_REFRESH,      /* no-cache: not read, the new reply is kept */
    RP_LOOKUP_SHADOW_HIT,   /* would have been a hit; forward. result.entry is set. */
    RP_LOOKUP_COLD,         /* exact hit whose reply is on disk: rp_lookup_cold */
    RP_LOOKUP_WANTS_SEMANTIC, /* no exact hit: embed, then rp_lookup_semantic */
    RP_LOOKUP_WANTS_JUDGE,  /* ask about query->drive->judge_question, then rp_lookup_judged */
} rp_lookup_outcome;
const char *rp_lookup_outcome_name(rp_lookup_outcome outcome); /* "hit", "shadow-hit" ... */

typedef struct rp_lookup_result {
    rp_lookup_outcome outcome;
    rp_tier tier;             /* of a hit; RP_TIER_NONE otherwise */
    const char *reason;       /* static label, never NULL */
    const rp_entry *entry;    /* of a hit: referenced by the query, with its reply */
    rp_reply const *reply;    /* of a hit: opened, in the query's arena */
    float similarity;         /* of the best candidate, also of a miss; NaN: none */
    rp_decision decision;     /* of the semantic stage; .reason NULL: it did not run */
    int64_t exact_us, embed_us, search_us, load_us, gate_us, policy_us, verify_us, judge_us,
        collision_us;
} rp_lookup_result;

typedef struct rp_query {
    /* Set by the caller before rp_query_prepare; borrowed. */
    const rp_request *request;
    rp_arena *arena;
    rp_caller caller;     /* epochs are filled in by rp_query_prepare */
    rp_rules rules;
    rp_controls controls;
    int64_t deadline_us;  /* monotonic; 0: none. Past it the cache is bypassed: a miss */
    bool has_judge;       /* the caller can ask a judge (rp_lookup_judged) */
    bool explain;         /* keep gate details; look at all candidates; never touch entries */

    /* From rp_query_prepare. */
    rp_tier tier;         /* after all rules; may_write says whether the reply may be kept */
    bool may_read, may_write;
    rp_scope scope;
    rp_key key;
    rp_stratum stratum;
    rp_volatility words;  /* use rp_query_volatility */
    bool words_known;
    uint8_t user_hash[16], metadata_hash[16];
    rp_str fuzzy;         /* what is embedded: the prompt, or what of it varies in this scope */
    uint32_t template_;   /* by which template it was cut; 0: it is the whole prompt */
    rp_time now;
    double random01;

    struct rp_space *space; /* referenced: the encoder in use when it was prepared, and its index */

    /* From embedding. Owned by the query. */
    float *vectors;       /* storage; NULL: not embedded */
    size_t dim, window_count;
    const float *mean, *windows;
    double unknown_share;

    /* From rp_lookup_search_many; in the arena. */
    rp_neighbor *neighbors;
    size_t neighbor_count;
    int64_t searched_us;  /* how long it took; */
    bool is_searched;     /* false: rp_lookup_semantic searches */

    /* From the look-up. */
    rp_lookup_result result;
    bool collides;        /* rp_admit_check: its key would collide with a stored prompt's */
    int neighbor_label;   /* was the candidate passed over right? -1 unknown, 0 no, 1 yes */
    rp_entry_id kept;     /* the entry that the reply became, from rp_admit; 0: none */
    rp_drive_state *drive; /* in the arena; NULL: the semantic stage did not run */
    struct rp_query_work *work; /* internal */
} rp_query;

/* Everything zero, controls and rules at their defaults. */
void rp_query_init(rp_query *query);
void rp_query_fini(rp_query *query);

/* Scope, key and what is allowed. Then result.outcome is BYPASS (neither read nor
 * write: ineligible, mode off, no-cache and no-store), REFRESH (no-cache), or MISS
 * (go on). Fails: RP_ERR_INVALID, RP_ERR_LIMIT, RP_ERR_NOMEM: a bypass too, so the
 * status is for tests; result.reason says why. */
rp_status rp_query_prepare(rp_cache *cache, rp_query *query);
/* A flush came after it was prepared: what is kept for it could not be found again. */
bool rp_query_is_flushed(rp_cache *cache, const rp_query *query);

/* Whether the prompt has personal or temporal words. Looked for when first needed: an exact
 * hit asks the same words as its entry, which remembers what they were. */
rp_volatility rp_query_volatility(const rp_query *query);

/* Exact tier. HIT, SHADOW_HIT, COLD, WANTS_SEMANTIC or MISS. No disk, no waiting. */
void rp_lookup_exact(rp_cache *cache, rp_query *query);
/* After COLD: HIT, SHADOW_HIT; or as after no exact hit, if the reply is gone. */
void rp_lookup_cold(rp_cache *cache, rp_query *query);

/* Whose vectors rp_query_embedding wants: the encoder that was in use when the query was
 * prepared. Lent until its end; NULL: none. */
const rp_encoder *rp_query_encoder(const rp_query *query);
/* Before its reply is kept: if the encoder was exchanged meanwhile, the query goes over to the new
 * one. Its vectors and what the policy made of them are dropped. */
void rp_query_follow(rp_cache *cache, rp_query *query);
/* Hand over what the batcher made (copied). Fails: RP_ERR_NOMEM, RP_ERR_INVALID (other
 * dim): go on without, as a miss. */
RP_NODISCARD rp_status rp_query_embedding(rp_cache *cache, rp_query *query,
                                          const rp_embedding *embedding, int64_t embed_us);
/* Embed on this thread. */
RP_NODISCARD rp_status rp_query_embed(rp_cache *cache, rp_query *query);
/* The semantic stage cannot run (queue full, deadline): a miss with this static reason,
 * counted. The reply may still be kept, without a vector unless one is made later. */
void rp_lookup_skip(rp_cache *cache, rp_query *query, const char *reason);
/* The search of the semantic stage for several queries with embeddings at once; each finds what it
 * would find alone, and rp_lookup_semantic goes on from there. */
void rp_lookup_search_many(rp_cache *cache, rp_query *const *queries, size_t count);
/* After WANTS_SEMANTIC and an embedding: HIT, SHADOW_HIT, MISS or WANTS_JUDGE. */
void rp_lookup_semantic(rp_cache *cache, rp_query *query);
/* After WANTS_JUDGE: the verdict, UNSURE if it was late. Outcome as above. */
void rp_lookup_judged(rp_cache *cache, rp_query *query, int verdict, int64_t judge_us);

/* All of the above on this thread, from prepare on, asking the cache's own judge. */
void rp_lookup_all(rp_cache *cache, rp_query *query);

/* ---- the native calls with the server's knowledge ---------------------------------- */

/* What the server knows besides the request: called once it was understood, before
 * anything is looked up. May change query->caller, rules and controls. NULL: nothing. */
typedef void rp_query_adjust(void *context, rp_query *query);
/* As rp_cache_lookup, rp_cache_store and rp_cache_explain (reprise/cache.h). They block. */
RP_NODISCARD rp_status rp_cache_lookup_as(rp_cache *cache, const rp_cache_request *request,
                                          rp_query_adjust *adjust, void *context,
                                          rp_cache_answer **out, rp_error *error);
RP_NODISCARD rp_status rp_cache_store_as(rp_cache *cache, const rp_cache_request *request,
                                         rp_query_adjust *adjust, void *context, rp_str reply,
                                         const rp_cache_store_options *options, char *entry,
                                         rp_error *error);
RP_NODISCARD rp_status rp_cache_explain_as(rp_cache *cache, const rp_cache_request *request,
                                           rp_query_adjust *adjust, void *context, char **json,
                                           size_t *len, rp_error *error);

/* ---- rules that the simulator applies too (eval/simulate.c) ------------------------- */

/* May this entry answer this request? Asked of every candidate before the policy sees it,
 * and of the chosen one again. NULL, or a static label why not. Looks at scope, key, times,
 * flags and user of both, nothing else. */
const char *rp_replay_refusal(const rp_query *query, const rp_entry *entry);
/* Some windows of a text, (count, dim). */
typedef struct rp_windows {
    const float *vectors; /* NULL: not to be had */
    size_t count, dim;
} rp_windows;
/* Long texts match only as a whole: equally many windows, and the similarity is that of
 * the worst aligned pair, so that a threshold on it holds for every pair. Else
 * RP_GATE_WINDOW fires. For pairs of which one has more than one window. */
void rp_windows_compare(const rp_windows *query, const rp_windows *stored,
                        rp_candidate *candidate);
/* Nearest first; equal ones by id, so that runs repeat. */
bool rp_candidate_before(const rp_candidate *a, const rp_candidate *b);

/* ---- the cache as the stages and the server see it ------------------------------- */

rp_store *rp_cache_store_of(rp_cache *cache);           /* lent */
/* Lent until the cache is closed; NULL: exact tier only. For its name and shape: which adapter
 * embeds at the moment is another matter. */
const rp_encoder *rp_cache_encoder(rp_cache *cache);
/* The encoder in use, with a reference to be closed; NULL: exact tier only. */
rp_encoder *rp_cache_encoder_ref(rp_cache *cache);
bool rp_cache_semantic(rp_cache *cache);  /* encoder sound, fingerprint right, index ready */
/* New entries get vectors: as rp_cache_semantic, also while the index is still being loaded (what
 * is stored then is added to it like what is read). */
bool rp_cache_makes_vectors(rp_cache *cache);
bool rp_cache_ready(rp_cache *cache);     /* the index is loaded, or there is none to load */
/* The decider of this SPEC for a route, made at the first call and shared by routes of the
 * same name and SPEC; its state is restored from the store and saved with it. Lives as long as the
 * cache. Fails as rp_policy_new does. */
RP_NODISCARD rp_status rp_cache_decider(rp_cache *cache, rp_str name, rp_str spec, double error_max,
                                        rp_decider **out, rp_error *error);
/* Save the state of all deciders (also done every minute by admissions, and at close). */
RP_NODISCARD rp_status rp_cache_save(rp_cache *cache, rp_error *error);

/* How often each reason ended a look-up, kept a reply out, or a failure was met.
 * `kind`: "miss", "bypass", "skip" (not stored), "failure", "gate". Calls each until it
 * returns false. */
typedef bool rp_reason_each(void *context, const char *kind, const char *reason, uint64_t count);
void rp_cache_reasons(rp_cache *cache, rp_reason_each *each, void *context);

/* Everything about this look-up as JSON (design: the explain call). The query must have
 * run with `explain` set. Names candidates by their outside ids. */
void rp_explain_write(rp_cache *cache, const rp_query *query, rp_buffer *out);

#endif
