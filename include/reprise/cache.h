/* cache.h - a semantic cache in a folder: look up, store, say what was right, forget.
 *
 * A cache keeps replies under the prompts they answer and gives one back when a new
 * prompt asks for the same thing in the same scope: same tenant, namespace, model,
 * system prompt, conversation and parameters. Requests are either a bare prompt or
 * the JSON body of a protocol ("/v1/chat/completions" ...). `reprise serve` is built
 * on the same object.
 *
 *     rp_cache *cache;
 *     rp_cache_options options = { .folder = "cache", .model = "all-MiniLM-L6-v2" };
 *     if (rp_cache_open(&options, &cache, &error) != RP_OK) ...
 *     rp_cache_request request = { .tenant = RP_STR("demo"), .prompt = RP_STR("what is hnsw?") };
 *     rp_cache_answer *answer;
 *     if (rp_cache_lookup(cache, &request, &answer, &error) == RP_OK && answer->hit) ...
 *
 * Errors:  a look-up fails only if the request itself is wrong or memory is out; what
 *          goes wrong inside (encoder, index, store, policy) is a miss with a reason.
 * Memory:  answers and strings handed out are freed with the function named there.
 * Threads: safe from any thread. Open and close belong to one thread, alone. */
#ifndef REPRISE_CACHE_H
#define REPRISE_CACHE_H

#include <reprise/embed.h>
#include <reprise/judge.h>
#include <reprise/policy.h>
#include <reprise/status.h>
#include <reprise/types.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct rp_cache rp_cache;

typedef enum rp_cache_mode {
    RP_CACHE_SERVE,  /* answer from the store */
    RP_CACHE_SHADOW, /* decide and report, never answer */
    RP_CACHE_OFF,    /* neither read nor write */
} rp_cache_mode;

/* Zero is a safe default for every member but `folder`. */
typedef struct rp_cache_options {
    const char *folder;       /* made if missing; one process at a time */
    const char *model;        /* folder of an encoder, or its name among the pulled ones;
                                 NULL: exact tier only */
    const rp_encoder_options *encoder_options; /* may be NULL */
    const rp_encoder *encoder; /* instead of `model`: borrowed until close */
    const char *verifier;     /* folder or name of a cross-encoder (reprise/verify.h), asked where
                                 a policy is not sure; NULL: there is none */
    const rp_encoder_options *verifier_options; /* may be NULL */
    const char *policy;       /* SPEC (reprise/policy.h); NULL: "calibrated" */
    double error_max;         /* 0: the policy's default */
    rp_cache_mode mode;
    uint64_t disk_max, memory_max; /* bytes; 0: 20 GiB and 2 GiB */
    double share_max;         /* of disk_max that one tenant may hold; 0: 0.5 */
    size_t entries_max;       /* vectors in the index; 0: as many as memory_max allows */
    size_t lists_from;        /* as rp_index_options; 0: where inverted lists win */
    bool vectors_on_disk;     /* memory keeps a short form of each vector, a quarter of the bytes;
                                 candidates are compared by what the store has, some 10 us each */
    size_t searchers_max;     /* threads that search at one time; 0: 16 */
    uint64_t ttl_seconds;     /* of an entry; 0: 24 h. RP_TTL_FOREVER: never expires */
    uint64_t seed;            /* of decisions; 0: from the system */
    bool load_in_background;  /* open returns before the index is built (rp_cache_stats.ready) */
    bool read_only;           /* look at a stopped server's store */
    rp_judge judge;           /* .ask NULL: none */
    /* Told once for each thing an operator should know (exact-only service, a damaged
     * store): a sentence without prompts. May be NULL. Called without a lock. */
    void (*warn)(void *context, const char *sentence);
    void *warn_context;
} rp_cache_options;

#define RP_TTL_FOREVER UINT64_MAX

/* Fails as the store and the encoder do: RP_ERR_BUSY (another process), RP_ERR_IO,
 * RP_ERR_CORRUPT, RP_ERR_STALE (a newer format), RP_ERR_NOT_FOUND (model),
 * RP_ERR_INVALID (policy), RP_ERR_NOMEM. Vectors of another encoder, or an encoder that
 * fails its self-test, do not fail: the cache warns and serves the exact tier only. */
RP_NODISCARD rp_status rp_cache_open(const rp_cache_options *options, rp_cache **out,
                                     rp_error *error);
/* Saves the policy's state, commits and closes. NULL is fine. */
void rp_cache_close(rp_cache *cache);

/* ---- look up and store ---------------------------------------------------------- */

/* What is asked. Either `prompt`, or `path` and `body`. Empty: not given. */
typedef struct rp_cache_request {
    rp_str tenant;         /* who: entries of two tenants never meet. Must be given. */
    rp_str namespace_name; /* subdivides the tenant */
    rp_str prompt;         /* a bare prompt: a family of its own, never meets chat traffic */
    rp_str path, body;     /* "/v1/chat/completions" and the request's JSON */
    rp_str category;
    rp_str user;           /* bare prompts: whose personal questions these are */
    float min_similarity;  /* stricter than the policy only; 0: none */
    double error_max;      /* stricter only; 0: none */
    uint64_t max_age_seconds; /* an older entry does not answer; 0: any age */
} rp_cache_request;

/* A copy; free with rp_cache_answer_free. */
typedef struct rp_cache_answer {
    bool hit;
    const char *outcome; /* "hit", "miss", "bypass", "shadow-hit" */
    const char *tier;    /* "exact", "semantic", or "" */
    const char *reason;  /* why: static label, "key", "similarity", "gate-number" ... */
    char entry[33];      /* of the hit, 32 hex digits; else "" */
    double similarity;   /* of the best candidate; 1 for exact hits; NaN: none */
    double risk;         /* estimated P(wrong); NaN: no estimate */
    int64_t age_seconds; /* of the hit */
    rp_str reply;        /* of the hit: the text for a bare prompt, else a body of the
                            request's protocol (not streamed). Ends in a zero byte. */
} rp_cache_answer;

/* Fails: RP_ERR_INVALID (no tenant, no prompt, unknown path, broken body), RP_ERR_NOMEM. */
RP_NODISCARD rp_status rp_cache_lookup(rp_cache *cache, const rp_cache_request *request,
                                       rp_cache_answer **out, rp_error *error);
void rp_cache_answer_free(rp_cache_answer *answer); /* NULL is fine */

typedef struct rp_cache_store_options {
    uint64_t ttl_seconds;   /* 0: the cache's. RP_TTL_FOREVER: never expires */
    const rp_str *tags;     /* each up to RP_TAG_SIZE_MAX bytes */
    size_t tag_count;       /* 0..RP_TAGS_MAX */
} rp_cache_store_options;

/* Keep `reply` (text for a bare prompt, else a complete body of the protocol) as the
 * answer to `request`. Committed when it returns; `entry` (33 bytes, may be NULL) gets
 * its id. Fails: RP_ERR_INVALID as a look-up, or the reply is not one to keep (the
 * sentence says why: truncated, refused, an error ...); RP_ERR_LIMIT (the tenant's
 * share, too large); RP_ERR_BUSY; RP_ERR_IO; RP_ERR_UNSUPPORTED (a request that is
 * never cached, or the cache is off). */
RP_NODISCARD rp_status rp_cache_store(rp_cache *cache, const rp_cache_request *request,
                                      rp_str reply, const rp_cache_store_options *options,
                                      char *entry, rp_error *error);

/* Say whether the answer of `entry` was right for the last look-up that it served. A
 * wrong one is removed. `tenant` must be the entry's. Fails: RP_ERR_NOT_FOUND. */
RP_NODISCARD rp_status rp_cache_feedback(rp_cache *cache, rp_str tenant, rp_str entry, bool correct,
                                         rp_error *error);

/* ---- forget ----------------------------------------------------------------------- */

/* Which entries. Empty members match all; members are joined by "and". */
typedef struct rp_cache_selector {
    rp_str tenant, namespace_name, model, tag, entry; /* model may be a glob */
    uint64_t older_than_seconds;                      /* 0: any age */
} rp_cache_selector;

/* Count what matches and, if `confirm`, remove it. Fails: RP_ERR_INVALID (nothing was
 * selected: that would be a flush; or a malformed entry id). */
RP_NODISCARD rp_status rp_cache_invalidate(rp_cache *cache, const rp_cache_selector *selector,
                                           bool confirm, size_t *matched, size_t *removed,
                                           rp_error *error);
/* Make everything (or, with a tenant, all of it) unreachable at once, then remove it. */
RP_NODISCARD rp_status rp_cache_flush(rp_cache *cache, rp_str tenant, size_t *removed,
                                      rp_error *error);

/* ---- look inside -------------------------------------------------------------------- */

/* For any request: scope fields, key, candidates with similarities, each gate's verdict,
 * the policy's reason, and the threshold at which it would have hit. A JSON object,
 * freed with free(). Holds stored prompts: only for the tenant's own eyes. */
RP_NODISCARD rp_status rp_cache_explain(rp_cache *cache, const rp_cache_request *request,
                                        char **json, size_t *len, rp_error *error);

typedef struct rp_cache_stats {
    bool ready;         /* the index is loaded; the exact tier serves before that */
    bool semantic;      /* the semantic tier is on */
    bool lists_ready;   /* no inverted lists are being made of what was loaded: large scopes are
                           searched as fast as they can be */
    double loaded_share; /* of the vectors, 0..1 */
    uint64_t entries, vectors, index_bytes, index_lists, policy_bytes;
    uint64_t disk_bytes, disk_max, memory_bytes, memory_max;
    uint64_t hits_exact, hits_semantic, misses, bypasses, shadow_hits;
    uint64_t stored, not_stored, committed, evicted, expired, damaged, failures;
    uint64_t outcomes_right, outcomes_wrong;
    uint64_t recall_found, recall_missed; /* searches made again over all vectors of a scope,
                                             and those that had not found the nearest */
    uint64_t recall_missed_far;           /* the same where it is below .8: no answer anyway */
    bool admission_paused;
    uint64_t reembed_waiting; /* stored entries that an exchanged encoder has not looked at yet */
    char fingerprint[33]; /* of the encoder in use; "" without one */
} rp_cache_stats;
void rp_cache_stats_get(rp_cache *cache, rp_cache_stats *out);

/* ---- export and import: JSON lines, one entry a line ------------------------------- */

/* Write a piece; false stops. */
typedef bool rp_cache_write(void *context, rp_str bytes);
typedef struct rp_cache_export_options {
    rp_cache_selector selector;
    bool vectors; /* include them and their fingerprint */
} rp_cache_export_options;
RP_NODISCARD rp_status rp_cache_export(rp_cache *cache, const rp_cache_export_options *options,
                                       rp_cache_write *write, void *context, size_t *exported,
                                       rp_error *error);

typedef struct rp_cache_import_options {
    bool trust_vectors; /* take vectors of the same fingerprint as they are; otherwise the
                           prompts are embedded again */
} rp_cache_import_options;
/* Import one line. Fails: RP_ERR_INVALID with what is wrong; then nothing was stored.
 * Entries that expired meanwhile are skipped: RP_ERR_STALE. */
RP_NODISCARD rp_status rp_cache_import_line(rp_cache *cache, rp_str line,
                                            const rp_cache_import_options *options,
                                            rp_error *error);

/* Embed again every stored prompt with the encoder in use, after which the semantic tier
 * serves. `progress` may be NULL. */
typedef void rp_cache_progress(void *context, uint64_t done, uint64_t total);
RP_NODISCARD rp_status rp_cache_reembed(rp_cache *cache, rp_cache_progress *progress, void *context,
                                        rp_error *error);

/* Embed with this adapter (folder of a PEFT LoRA) from now on; NULL: with the encoder alone.
 * Others may go on calling meanwhile: what they have begun ends with the encoder it began with.
 * Stored entries answer their own repeats at once, and similar questions when the background has made
 * their vectors anew (rp_cache_stats.reembed_waiting). *changed: it was not in use already; the
 * files count, not their name. One thread at a time; not during rp_cache_reembed.
 * Fails: as rp_encoder_adapt; RP_ERR_CORRUPT (it makes no vectors), RP_ERR_UNSUPPORTED (no
 * encoder, read only), RP_ERR_IO; then all is as it was. */
RP_NODISCARD rp_status rp_cache_adapt(rp_cache *cache, const char *adapter, bool *changed,
                                      rp_error *error);

#ifdef __cplusplus
}
#endif
#endif
