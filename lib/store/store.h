/* store.h - entries that survive: LMDB underneath, exact table and hot replies in memory.
 *
 * Databases (docs/file-format.md): entry, vec, exact, scope, tag, expiry, outcome,
 * meta. One process per folder. One writer thread commits at once when idle and
 * batches what arrives meanwhile; an admitted entry answers from a pending table
 * before its commit, so an immediate repeat hits. Acknowledged = committed.
 *
 * What a loop thread may call never touches an LMDB page: rp_store_exact,
 * rp_store_hot, rp_store_put, rp_store_touch, rp_store_credential_*,
 * rp_store_epoch, rp_store_outcome_append, rp_store_stats_get. The rest may block on disk: pool threads only.
 *
 * Errors:  a damaged value is a miss, counted and removed. A failed commit pauses
 *          admission (rp_store_put fails RP_ERR_IO) and is tried again later.
 * Threads: safe from any thread. */
#ifndef RP_STORE_STORE_H
#define RP_STORE_STORE_H

#include "base/buffer.h"
#include "base/clock.h"
#include <reprise/status.h>
#include <reprise/types.h>

enum {
    RP_FINGERPRINT_SIZE = 32,         /* hex digits */
    RP_EPOCHS_MAX = 1 << 16,          /* names that were ever bumped */
    RP_CREDENTIALS_MAX = 1 << 16,     /* accepted ones remembered; the oldest go first */
    RP_OUTCOMES_MAX = 1 << 20,        /* kept; the oldest go first */
    RP_STATE_SIZE_MAX = 16 << 20,     /* bytes of one named state or outcome */
    RP_PENDING_MAX = 4096,            /* operations that wait for the writer */
    RP_PENDING_SIZE_MAX = 64 << 20,   /* and their bytes; beyond: RP_ERR_BUSY */
    RP_REPLY_SIZE_MAX = 16 << 20,     /* bytes of one encoded reply */
    RP_SCOPE_FIELDS_SIZE_MAX = 8 << 20,
    RP_DISK_MIN = 4 << 20,            /* a smaller disk_max is refused */
};

typedef enum rp_entry_flag {
    RP_ENTRY_PERSONAL = 1 << 0, /* hits only with equal user and metadata hashes */
    RP_ENTRY_TEMPORAL = 1 << 1, /* and only within volatile_ttl of its creation */
    RP_ENTRY_EXACT_ONLY = 1 << 2, /* has no vector */
    RP_ENTRY_STATIC = 1 << 3,   /* curated: never evicted, expires only by TTL */
    RP_ENTRY_APART = 1 << 4,    /* must not get a vector either: answers its own repeat only */
} rp_entry_flag;

/* What is stored with an entry. Immutable and reference-counted, so that eviction
 * cannot pull it from under a client who is still reading. Strings are owned by
 * the entry. */
typedef struct rp_entry {
    rp_entry_id id;
    rp_scope scope;
    rp_key key;
    rp_stratum stratum;
    rp_time created, expires; /* expires 0: never */
    uint32_t flags;           /* rp_entry_flag */
    uint8_t user_hash[16], metadata_hash[16]; /* keyed; zero if absent */
    int64_t input_tokens, output_tokens;      /* of the original reply; -1 unknown */
    int64_t upstream_us;      /* how long the original took */
    rp_str tenant, namespace_name, route, model, category, prompt;
    rp_str turn;              /* canonical JSON of the last user turn, which the key adds to the
                                 scope; empty: the scope says all */
    rp_str scope_fields;      /* canonical JSON object of what the scope hashed; empty unless
                                 loaded with RP_PART_SCOPE (or in a draft) */
    rp_str tags;              /* joined by LF */
    rp_str reply;             /* encoded (wire/wire.h), uncompressed; empty unless loaded */
    uint64_t encoder;         /* XXH3-64 of the fingerprint of what made the vectors. In a draft
                                 0: the encoder in use */
    size_t dim, window_count; /* 0: no vector */
    uint32_t template_;       /* which template its prompt was cut by before it was embedded; 0: none */
    const float *mean;        /* (dim), unless loaded NULL */
    const float *windows;     /* (window_count, dim); equals mean for one window */
} rp_entry;

/* Vectors of prompts that were cut by a template can be compared with each other only: they are
 * kept and searched in a scope of their own, which is no request's. */
static inline rp_scope
rp_vector_scope(rp_scope scope, uint32_t template_)
{
    for (unsigned i = 0; i < 4; i++)
        scope.bytes[28 + i] ^= (uint8_t)(template_ >> 8 * i);
    return scope;
}

void rp_entry_ref(const rp_entry *entry);
void rp_entry_unref(const rp_entry *entry); /* NULL is fine */
size_t rp_entry_size_bytes(const rp_entry *entry);

typedef struct rp_store rp_store;

/* Told on the writer thread. `added`: committed just now, so the index may take it.
 * `removed`: about to be removed (index first, then store), for any reason. */
typedef struct rp_store_events {
    void (*added)(void *context, const rp_entry *entry);
    void (*removed)(void *context, rp_entry_id id, rp_scope scope);
    void *context;
} rp_store_events;

typedef struct rp_store_options {
    const char *folder;       /* made if missing, 0700 */
    uint64_t disk_max;        /* bytes of the LMDB file; 0: 20 GiB */
    uint64_t memory_max;      /* bytes of exact table and hot replies; 0: 256 MiB */
    double share_max;         /* of disk_max that one tenant may hold; 0: 0.5. A tenant at
                                 its share pushes out its own entries. */
    const char *fingerprint;  /* RP_FINGERPRINT_SIZE digits of the encoder in use, or NULL */
    size_t dim;               /* of its vectors, 0 with NULL */
    bool read_only;           /* command-line tools on a stopped server's store */
    const rp_clock *clock;    /* NULL: the system's */
    rp_store_events events;
} rp_store_options;

/* Fails: RP_ERR_BUSY (another process holds the folder), RP_ERR_IO, RP_ERR_CORRUPT,
 * RP_ERR_STALE (a newer format), RP_ERR_NOMEM. A store made by another encoder opens;
 * ask rp_store_vectors_usable. An empty store takes the options' fingerprint. */
RP_NODISCARD rp_status rp_store_open(const rp_store_options *options, rp_store **out,
                                     rp_error *error);
/* Commits what is pending and stops the writer. NULL is fine. */
void rp_store_close(rp_store *store);

const char *rp_store_fingerprint(const rp_store *store); /* of the vectors inside; "" if none */
bool rp_store_vectors_usable(const rp_store *store);     /* it equals the options' */
/* 32 bytes made once (file `secret`, 0600) that key credential and user hashes. Lent. */
const uint8_t *rp_store_secret(const rp_store *store);
/* Outside form of an id: AES-128 of it under the secret, 32 hex digits and a zero byte. */
void rp_store_id_encode(const rp_store *store, rp_entry_id id, char out[33]);
bool rp_store_id_decode(const rp_store *store, rp_str text, rp_entry_id *out);

/* A tenant that may hold another share of disk_max than share_max says. */
typedef struct rp_store_share {
    rp_str tenant;
    double share; /* in (0, 1] */
} rp_store_share;
/* These and no others, from now on. A tenant that holds more gives its own entries up as new
 * ones come. Fails: RP_ERR_INVALID, RP_ERR_NOMEM; then those before hold. */
RP_NODISCARD rp_status rp_store_shares_set(rp_store *store, const rp_store_share *shares,
                                           size_t count);

/* ---- loop threads ----------------------------------------------------------- */

/* The entry with this key in this scope, neither expired nor removed; 0: none. The
 * table compares 64 bits of the key, and the whole key only if the entry is in
 * memory: who serves it compares entry->key with the key wanted. */
rp_entry_id rp_store_exact(rp_store *store, rp_scope scope, rp_key key);
/* The entry with its reply if that is in memory (hot or pending), else NULL. Its
 * windows are there if there are several; of one window, mean and windows may be
 * NULL. A reference for the caller. */
const rp_entry *rp_store_hot(rp_store *store, rp_scope scope, rp_entry_id id);
/* Count a use, for eviction. */
void rp_store_touch(rp_store *store, rp_entry_id id);

/* Keep a new entry: `draft` is copied; its id is ignored and a new one returned.
 * An entry with the same key is replaced. `done` (may be NULL) runs on the writer
 * thread after the commit and after `added`, or with its failure. Fails: RP_ERR_LIMIT
 * (tenant's share, or larger than an entry may be), RP_ERR_IO (admission paused),
 * RP_ERR_BUSY (writer's queue full), RP_ERR_INVALID (vector of another dim or encoder),
 * RP_ERR_UNSUPPORTED (read only), RP_ERR_NOMEM; then `done` never runs. */
typedef void rp_store_done(void *context, rp_status status, rp_entry_id id);
RP_NODISCARD rp_status rp_store_put(rp_store *store, const rp_entry *draft, rp_entry_id *out_id,
                                    rp_store_done *done, void *context);

/* When did the upstream last accept this credential (keyed hash)? 0: never. */
rp_time rp_store_credential_accepted(rp_store *store, const uint8_t hash[32]);
void rp_store_credential_accept(rp_store *store, const uint8_t hash[32], rp_time now);
/* From now on it was never accepted; on disk with the next commit, before anything newer, and
 * tried again until it is. `done` (may be NULL) is called on the writer thread after that
 * commit, or with its failure. False: there was nothing to take back, or nothing can be
 * written any more (closing, no memory); then `done` is not called. */
bool rp_store_credential_revoke(rp_store *store, const uint8_t hash[32], rp_store_done *done,
                                void *context);

/* Epochs are part of scopes: bumping one makes all that came before unreachable at
 * once; space is reclaimed later. `name`: "" for all, "t/TENANT", "n/TENANT/NAMESPACE". */
uint64_t rp_store_epoch(rp_store *store, rp_str name);

/* What is put from now on gets this id or a larger one, what was put before a smaller one. */
rp_entry_id rp_store_id_next(rp_store *store);

/* ---- pool threads ----------------------------------------------------------- */

typedef enum rp_entry_part {
    RP_PART_REPLY = 1,
    RP_PART_VECTORS = 2, /* only vectors of the store's fingerprint are shown */
    RP_PART_SCOPE = 4,   /* scope_fields, for explain and export */
} rp_entry_part;
/* The entry of this scope with the parts asked for; NULL if there is none, it
 * expired, is of another scope, or is damaged. A reference for the caller. */
const rp_entry *rp_store_get(rp_store *store, rp_scope scope, rp_entry_id id, unsigned parts);

/* Remove now. Returns how many were there. Committed when it returns; if the commit
 * fails they are out of service all the same and the removal is tried again. */
size_t rp_store_remove(rp_store *store, const rp_entry_id *ids, size_t count);
/* Durable when it returns RP_OK. At RP_EPOCHS_MAX names the bump of a new one bumps ""
 * instead: more than was asked is forgotten, never less. */
RP_NODISCARD rp_status rp_store_epoch_bump(rp_store *store, rp_str name);
/* Wait until all that was handed in before is committed or failed; also removes what
 * expired and is over a budget, and tries again now if admission is paused. Fails:
 * RP_ERR_IO (admission is paused still). Not on the writer thread. */
RP_NODISCARD rp_status rp_store_sync(rp_store *store);

/* Which entries an invalidate means; empty members match all. */
typedef struct rp_store_selector {
    rp_str tenant, namespace_name, model, tag; /* model may be a glob */
    int64_t older_than_us;                     /* 0: any age */
    rp_entry_id id;                            /* 0: any */
} rp_store_selector;
/* Call `each` for every live entry that matches (lent; with the parts asked for), until
 * it returns false. Sees what was put before the call; entries that come and go
 * meanwhile may or may not be seen. Reads in short transactions; no lock is held in
 * `each`. Not on the writer thread. */
typedef bool rp_store_each(void *context, const rp_entry *entry);
void rp_store_walk(rp_store *store, const rp_store_selector *selector, unsigned parts,
                   rp_store_each *each, void *context);
/* Every committed vector of the store's fingerprint, for building the index at start:
 * reads only what that needs. An entry that is committed or removed meanwhile may also
 * be told by an event: take RP_ERR_EXISTS of the index for good. */
typedef bool rp_store_each_vector(void *context, rp_entry_id id, rp_scope scope,
                                  const float *mean, size_t dim);
RP_NODISCARD rp_status rp_store_walk_vectors(rp_store *store, rp_store_each_vector *each,
                                             void *context, rp_error *error);
/* Give an entry new vectors, made by `encoder` (as rp_entry.encoder; 0: the one in use). Queued;
 * committed when
 * rp_store_sync or rp_store_fingerprint_set returns RP_OK. Until the latter they are
 * not shown: a reembed that stops half-way leaves the others as they were.
 * Fails: RP_ERR_NOT_FOUND, RP_ERR_INVALID (dim), RP_ERR_IO. */
RP_NODISCARD rp_status rp_store_vectors_replace(rp_store *store, rp_entry_id id, uint64_t encoder,
                                                size_t dim, size_t window_count,
                                                const float *windows, const float *mean);
RP_NODISCARD rp_status rp_store_fingerprint_set(rp_store *store, const char *fingerprint,
                                                size_t dim);
/* Another encoder of the same dim is in use, and the store's from now on: vectors of others are
 * not shown any more, and drafts that bring them are kept without. Durable when it returns RP_OK.
 * Fails: RP_ERR_INVALID (dim, or opened without an encoder), RP_ERR_IO, RP_ERR_NOMEM,
 * RP_ERR_UNSUPPORTED (read only). */
RP_NODISCARD rp_status rp_store_encoder_change(rp_store *store, const char *fingerprint,
                                               size_t dim);

/* Named state (a policy's, a template's): small values with a checksum. */
RP_NODISCARD rp_status rp_store_state_put(rp_store *store, rp_str name, rp_str bytes);
bool rp_store_state_get(rp_store *store, rp_str name, rp_buffer *out);
/* Labelled outcomes, append only, at most RP_OUTCOMES_MAX (oldest go first). Queued: never
 * blocks, committed with the next batch. Fails: RP_ERR_BUSY, RP_ERR_LIMIT, RP_ERR_IO. */
RP_NODISCARD rp_status rp_store_outcome_append(rp_store *store, rp_str bytes);
typedef bool rp_store_each_outcome(void *context, uint64_t sequence, rp_str bytes);
void rp_store_walk_outcomes(rp_store *store, uint64_t after, rp_store_each_outcome *each,
                            void *context);

/* ---- figures ---------------------------------------------------------------- */
typedef struct rp_store_stats {
    uint64_t entries, disk_bytes, disk_max, memory_bytes, memory_max, hot_entries;
    uint64_t puts, committed, commits, commit_failures, damaged;
    uint64_t evicted_disk, evicted_memory, expired, removed, replaced;
    uint64_t pending, outcomes, credentials;
    bool admission_paused;
} rp_store_stats;
void rp_store_stats_get(rp_store *store, rp_store_stats *out);

#endif
