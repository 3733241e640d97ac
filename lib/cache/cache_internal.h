/* cache_internal.h - what the files of lib/cache share and nobody else may see.
 *
 * Threads: locks here are leaves except deciders_lock, under which a decider's own lock
 *          may be taken (docs/threads.md). Events of the store arrive on its writer. */
#ifndef RP_CACHE_INTERNAL_H
#define RP_CACHE_INTERNAL_H

#include "base/clock.h"
#include "cache/admit.h"
#include "cache/lookup.h"
#include "cache/recall.h"
#include "store/store.h"
#include <reprise/cache.h>
#include <reprise/index.h>
#include <reprise/verify.h>

#include <pthread.h>
#include <stdatomic.h>

/* What turns texts into vectors. The real one wraps an rp_encoder; tests put their own. */
typedef struct rp_embedder {
    size_t dim;
    char fingerprint[RP_FINGERPRINT_SIZE + 1];
    /* As rp_encoder_embed_windows. */
    rp_status (*embed)(void *context, rp_str text, float *storage, rp_embedding *out,
                       rp_error *error);
    /* As rp_encoder_embed, texts of one window, whose vectors it makes together. NULL: they
     * are made one by one. */
    rp_status (*embed_many)(void *context, const rp_str *texts, size_t count, float *out);
    /* As rp_encoder_self_test. May be NULL. */
    rp_status (*self_test)(void *context, rp_error *error);
    /* Cross-encoder, or NULL; as rp_drive_sources.verify. */
    rp_status (*verify)(void *context, rp_str prompt, rp_str stored, int64_t deadline_us,
                        float *out);
    void *context;
} rp_embedder;

/* A decider that asks a function of a test instead of a policy; it learns nothing, and
 * save and restore are not for it. */
typedef void rp_decide_hook(void *context, const rp_question *question, double random01,
                            rp_decision *out);
RP_NODISCARD rp_status rp_decider_scripted(rp_decide_hook *hook, void *context, rp_decider **out);

/* Counts by (kind, reason). Fixed size; labels are static strings, so the table holds all
 * there are. Lock-free: a slot is claimed by its reason pointer once and for ever. */
enum { RP_REASON_SLOTS = 256 };
typedef struct rp_reason_slot {
    _Atomic(const char *) reason; /* set last; partner: the acquire load in reasons.c */
    _Atomic(const char *) kind;
    _Atomic uint64_t count;
} rp_reason_slot;

typedef struct rp_named_decider {
    struct rp_named_decider *next;
    rp_decider *decider; /* owned */
    char *name;          /* owned */
    double error_max;
    _Atomic bool superseded; /* the route was configured anew under this name */
} rp_named_decider;

/* What a later word of truth needs to know about a look-up: the outcome as it was decided.
 * Kept by entry and by request, each table overwriting its own oldest collisions. */
enum { RP_RECENT_SLOTS = 4096 };
typedef struct rp_recent {
    uint64_t name;   /* hash of entry id or of tenant and request id; 0: free */
    uint64_t tenant; /* hash */
    rp_entry_id id;
    rp_scope scope;
    rp_decider *decider;
    bool has_outcome; /* exact hits have none */
    rp_outcome outcome; /* category points nowhere: see category below */
    char category[64];  /* cut; labels are short */
} rp_recent;

/* Learners of what the prompts of a scope share; those that were asked least lately go. */
enum { RP_TEMPLATE_SLOTS = 256, RP_TEMPLATE_WAYS = 8 };
typedef struct rp_template_slot {
    rp_scope scope;
    struct rp_template *learner; /* owned; NULL: free */
    uint64_t used;               /* when, in questions */
} rp_template_slot;

/* Questions about additions that were answered: the upper 63 bits of a hash of both texts, and
 * the answer. A slot that another pair takes is asked again. */
enum { RP_COLLISION_SLOTS = 4096 };

enum { RP_BACKGROUND_NICENESS = 10 }; /* of threads that work for nobody who waits; a guess:
                                         requests first, but not never */

typedef enum rp_index_state { RP_INDEX_NONE, RP_INDEX_LOADING, RP_INDEX_READY } rp_index_state;

/* What belongs to one encoder (space.c). Whoever has begun with a space ends with it. */
typedef struct rp_space {
    atomic_int refs;
    rp_cache *cache;
    rp_encoder *encoder;   /* referenced; NULL: the embedder is a test's, or there is none */
    rp_embedder embedder;  /* .embed NULL: there is none */
    uint64_t tag;          /* rp_entry.encoder of the vectors it makes; 0: none */
    rp_index *index;       /* owned; NULL: there is none */
    rp_recall recall;      /* of the index */
    _Atomic int index_state; /* rp_index_state */
    _Atomic bool lists_wait; /* lists of what was loaded are still being made */
    _Atomic uint64_t vectors_loaded, vectors_expected;
    pthread_mutex_t loading_lock; /* leaf; guards the three below, and the change to ready */
    rp_entry_id *removed;  /* ids removed while the index is being filled from the store */
    size_t removed_count, removed_capacity;
    size_t fillers;        /* who does that now */
    struct rp_space *retired; /* the next of cache->retired */
} rp_space;

struct rp_cache {
    uint64_t memory_max; /* as configured: half for the store, half for the index */
    const rp_clock *clock;
    rp_cache_mode mode;
    int64_t ttl_us;
    rp_judge judge;
    uint64_t seed;
    bool read_only;
    void (*warn)(void *context, const char *sentence);
    void *warn_context;

    rp_store *store;
    rp_verifier *verifier;          /* owned, or NULL */
    rp_encoder *base;               /* referenced, or NULL: the encoder without an adapter */
    rp_index_options index_options; /* as asked for: no dim, count_max 0 for what memory holds */
    pthread_mutex_t space_lock;     /* leaf; guards the two below */
    rp_space *space;                /* a reference: the one in use; never NULL once open */
    rp_space *retired;              /* a reference each: until nobody else has one */
    pthread_t renewer;              /* gives stored entries vectors of an exchanged encoder */
    bool renewer_runs;              /* whoever opens, exchanges and closes: one thread at a time */
    _Atomic bool renewer_stops;
    _Atomic uint64_t renewal_waiting; /* entries not yet looked at; a figure */

    pthread_mutex_t deciders_lock;  /* rank: deciders; above decider */
    rp_named_decider *deciders;
    rp_decider *decider;            /* the cache's own; among them */
    _Atomic bool learned;           /* since the last save; partner: rp_cache_save */

    pthread_t keeper;               /* loads the index, then saves state now and then */
    bool keeper_runs, keeper_loads;
    pthread_mutex_t keeper_lock;    /* leaf; guards the two behind it */
    pthread_cond_t keeper_wakes;
    bool keeper_stops, keeper_lists; /* it shall end; some index was filled without lists */
    pthread_t lister;               /* makes lists of what was loaded; the keeper starts and joins it */
    bool lister_runs;               /* the keeper's */

    pthread_mutex_t recent_lock;    /* leaf */
    rp_recent *recent_entries, *recent_requests; /* RP_RECENT_SLOTS each */

    pthread_mutex_t templates_lock; /* leaf */
    rp_template_slot templates[RP_TEMPLATE_SLOTS];
    uint64_t template_questions;

    _Atomic uint64_t collisions[RP_COLLISION_SLOTS]; /* 0: free; relaxed, each stands alone */

    rp_reason_slot reasons[RP_REASON_SLOTS];
    _Atomic uint64_t hits_exact, hits_semantic, misses, bypasses, shadow_hits;
    _Atomic uint64_t stored, not_stored, failures, outcomes_right, outcomes_wrong;
};

/* The space in use, with a reference. */
rp_space *rp_space_get(rp_cache *cache);
rp_space *rp_space_ref(rp_space *space);
void rp_space_unref(rp_space *space); /* NULL is fine */
bool rp_cache_has_keeper(const rp_cache *cache);
bool rp_cache_is_stopping(rp_cache *cache); /* it is being closed: what goes on in the background ends */
/* An index was filled without lists: let the keeper have them made. */
void rp_cache_lists_due(rp_cache *cache);
bool rp_space_is_current(rp_cache *cache, const rp_space *space);
/* With an empty index if there is an embedder. `encoder` is referenced, may be NULL. */
RP_NODISCARD rp_status rp_space_new(rp_cache *cache, const rp_embedder *embedder,
                                    rp_encoder *encoder, rp_space **out, rp_error *error);
/* Put it in the place of the one in use; takes the reference over. */
void rp_space_use(rp_cache *cache, rp_space *space);
/* Free exchanged spaces that nobody uses any more. Not on a loop. */
void rp_space_sweep(rp_cache *cache);
void rp_spaces_fini(rp_cache *cache);
/* Put an entry's vector into the index; EXISTS is fine. */
void rp_space_index_add(rp_space *space, rp_scope scope, rp_entry_id id, const float *vector);
void rp_space_removed(rp_space *space, rp_entry_id id); /* the store is about to remove it */
/* Fill the index with what the store shows; then it is in use. Lists over large scopes are
 * made afterwards, in the background, if there is a keeper. */
void rp_space_load(rp_space *space);
/* What an encoder is to the stages; for rp_space_new, which sets the context. */
void rp_embedder_of_encoder(rp_cache *cache, const rp_encoder *encoder, rp_embedder *out);
/* Change to another embedder of the same dim (the core of rp_cache_adapt). */
RP_NODISCARD rp_status rp_cache_exchange(rp_cache *cache, const rp_embedder *embedder,
                                         rp_encoder *encoder, rp_error *error);
bool rp_renewer_is_due(rp_cache *cache); /* it was under way when the store was closed */
RP_NODISCARD rp_status rp_renewer_start(rp_cache *cache, rp_error *error);
void rp_renewer_stop(rp_cache *cache);
/* What policies know of this entry's similarities, or of all entries', is over. */
void rp_cache_forget_similarities(rp_cache *cache, rp_entry_id id);
void rp_cache_forget_all_similarities(rp_cache *cache);
/* No feedback for look-ups that were made before. */
void rp_cache_forget_recent(rp_cache *cache);

/* Open with an embedder and a clock of the caller's (tests). `embedder` NULL: as the
 * options say; clock NULL: the system's. */
RP_NODISCARD rp_status rp_cache_open_with(const rp_cache_options *options,
                                          const rp_embedder *embedder, const rp_clock *clock,
                                          rp_cache **out, rp_error *error);

void rp_cache_warn(rp_cache *cache, const char *format, ...) RP_PRINTF(2, 3);
/* Count (kind, reason); both static strings. */
void rp_cache_count(rp_cache *cache, const char *kind, const char *reason);
/* Something inside went wrong; the request goes on as a miss. */
void rp_cache_failed(rp_cache *cache, const char *what);

/* Where a query's private working state lives: entries that candidates point into. */
struct rp_query_work {
    const rp_entry *entries[RP_CANDIDATES_MAX]; /* referenced, by place in rp_drive_begin */
    rp_candidate found[RP_CANDIDATES_MAX];
    size_t count;
    rp_cache *cache;
    rp_query *query;
};

/* Learn from a prompt of the scope, and find the part of it that varies: *fuzzy lies in `text`,
 * *template_ says by which template it was cut. If it was not, all of it and 0. */
void rp_templates_cut(rp_cache *cache, const rp_scope *scope, rp_str text, rp_str *fuzzy,
                      uint32_t *template_);
/* The part of a stored prompt that varies, if it was cut by this template and that is still
 * known; else all of it. */
rp_str rp_templates_cut_stored(rp_cache *cache, const rp_scope *scope, rp_str text,
                               uint32_t template_);
void rp_templates_init(rp_cache *cache);
void rp_templates_fini(rp_cache *cache);

/* Is `stored` near `question` only because of what was added to it? `vector` is the
 * question's, of one window. Embeds at most RP_COLLISION_VARIANTS_MAX short texts, unless the
 * lexical part says no or the pair was asked about before. Fails as the encoder does. */
RP_NODISCARD rp_status rp_cache_collides(rp_space *space, rp_str stored, rp_str question,
                                         const float *vector, float similarity, bool *out);

/* Remember a look-up that hit, for feedback by entry. */
void rp_remember_hit(rp_cache *cache, const rp_query *query);

/* A library request as the stages want it: parsed, with a caller and default rules. The
 * parts lie in `arena`. */
RP_NODISCARD rp_status rp_query_from_request(rp_cache *cache, const rp_cache_request *request,
                                             rp_arena *arena, rp_query *query, rp_error *error);

/* Let a thread wait until the store's writer has committed. */
typedef struct rp_admission_wait {
    pthread_mutex_t lock; /* leaf */
    pthread_cond_t done;
    bool finished;
    rp_status status;
    rp_entry_id id;
} rp_admission_wait;
RP_NODISCARD rp_status rp_admission_wait_init(rp_admission_wait *wait);
void rp_admission_wait_done(void *context, rp_status status, rp_entry_id id);
/* Wait if the callback will come, then release; returns what it said. */
RP_NODISCARD rp_status rp_admission_wait_fini(rp_admission_wait *wait, bool expected);
/* Embed if that is still to be done, admit, and wait for the commit. */
RP_NODISCARD rp_status rp_admit_and_wait(rp_cache *cache, rp_query *query, rp_admission *admission,
                                         rp_entry_id *id, rp_error *error);

/* Where entries are: collected first, so that nothing is written while a walk reads. */
typedef struct rp_place {
    rp_entry_id id;
    rp_scope scope;
} rp_place;
typedef struct rp_places {
    rp_place *items; /* owned */
    size_t count, capacity;
} rp_places;
/* Entries that match and whose id is below `id_end`. */
RP_NODISCARD rp_status rp_places_collect(rp_cache *cache, const rp_store_selector *selector,
                                         rp_entry_id id_end, rp_places *out, rp_error *error);
void rp_places_fini(rp_places *places);
RP_NODISCARD rp_status rp_selector_translate(rp_cache *cache, const rp_cache_selector *selector,
                                             rp_store_selector *out, rp_error *error);
/* Build the index if it is not in use yet (after reembed). */
RP_NODISCARD rp_status rp_cache_index_reload(rp_cache *cache, rp_error *error);

#endif
