/* server_internal.h - what the files of the request path share.
 *
 *     server.c    start, configuration in force, threads
 *     visit.c     one client request: its arrival, its reply, its end
 *     consult.c   what it asks, and what the cache says about it
 *     upstream.c  forwarding, sharing in flight
 *     keep.c      keeping the reply
 *     credential.c  what the upstream says about the caller's credential
 *     local.c     what we answer ourselves
 *
 * An rp_visit belongs to the loop of its connection. Other threads (batcher, pool)
 * hold a reference and use nothing of it but `query` and what belongs to keeping the reply
 * (`landing`), which the loop then leaves alone (query_busy) until their post has come back. */
#ifndef RP_SERVER_SERVER_INTERNAL_H
#define RP_SERVER_SERVER_INTERNAL_H

#include "base/random.h"
#include "cache/admit.h"
#include "embed/batcher.h"
#include "net/http_client.h"
#include "server/access_log.h"
#include "server/flight.h"
#include "server/headers.h"
#include "server/pool.h"
#include "server/server.h"
#include "server/tenant.h"

#include <pthread.h>
#include <stdatomic.h>

/* One configuration in force, with what was made from it. Immutable, counted. */
typedef struct rp_site {
    atomic_int refs;
    const rp_config *config; /* a reference */
    rp_tenants *tenants;     /* owned */
    rp_rules *rules;         /* owned, one for each route */
} rp_site;
rp_site *rp_site_ref(rp_site *site);
void rp_site_unref(rp_site *site);

typedef struct rp_visit rp_visit;

enum { RP_WORKER_CLIENTS_MAX = 16, RP_WORKER_IDLE_MAX = 64 };

/* One loop thread and what only it uses. */
typedef struct rp_worker {
    rp_server *server;
    rp_loop *loop;         /* owned */
    rp_site *site;         /* a reference; replaced on reload by a post */
    rp_json_reader *json;  /* owned */
    rp_random random;
    rp_buffer scratch;     /* bodies under construction; valid until the next use */
    rp_buffer line;        /* of the access log */
    struct {
        char *proxy, *authorities; /* owned or NULL */
        size_t connections_max;
        rp_http_client *client;    /* owned */
    } clients[RP_WORKER_CLIENTS_MAX];
    size_t client_count;
    rp_visit *idle;        /* visits for reuse */
    size_t idle_count;
    bool is_stopping;
    rp_visit *active;      /* visits that are under way, or that somebody still refers to */
} rp_worker;

struct rp_server {
    rp_cache *cache;       /* owned */
    rp_batcher *batcher;   /* owned; NULL: exact tier only */
    rp_metrics *metrics;   /* owned */
    rp_access_log *log;    /* owned */
    rp_pool *pool;         /* owned */
    rp_flights *flights;   /* owned */
    rp_http_server *http;  /* owned */
    rp_worker *workers;    /* owned */
    rp_loop **loops;       /* owned array of the workers' loops */
    size_t worker_count, running_count;
    pthread_mutex_t lock;  /* site, has_drained, quiet_count */
    pthread_cond_t drained_changed;
    const rp_config *first; /* a reference: what the encoder was opened with */
    rp_site *site;         /* a reference: the newest */
    bool has_drained;
    size_t quiet_count;    /* workers that hand nothing over any more */
    atomic_bool is_draining;
    atomic_bool is_stopping; /* jobs of the pool that still wait skip what takes long */
    atomic_llong encode_us; /* moving average of one text's encoding; relaxed, an estimate */
    int64_t started_us;
};

struct rp_visit {
    atomic_int refs;       /* one for the client, one for each thing that will call back */
    rp_worker *worker;
    rp_visit *next, *previous; /* of the worker's idle or active ones */
    rp_site *site;         /* a reference */
    rp_exchange *exchange; /* NULL: the client is gone or has been served */
    rp_arena arena;        /* of the loop's side */
    rp_arena query_arena;  /* of `request` and `query`; both sides may allocate at one time */
    int64_t start_us;      /* monotonic */
    int64_t parse_us;      /* until the request was understood */
    int64_t replay_us;     /* writing the stored reply anew */
    rp_time time;
    char request_id[17];

    bool is_wire;          /* a path whose replies may be kept */
    rp_wire wire;
    const char *api;       /* label */
    rp_client_headers headers;
    rp_identity identity;
    size_t route_index;
    const rp_route_config *route;       /* in site */
    const rp_upstream_config *upstream; /* in site */
    rp_request request;    /* valid with has_query */
    rp_query query;
    bool has_query;
    bool query_busy;       /* another thread uses `query` */
    bool awaits_lookup;    /* and we wait for it */
    rp_lookup_result timing; /* of the look-up that counted; its times only */
    rp_timer *timer;       /* lookup_deadline; owned, kept between visits */
    rp_cache_report report;

    /* Forwarding (upstream.c). */
    rp_fetch *fetch;       /* NULL: none under way */
    rp_flight *flight;     /* a reference, or NULL: copied straight to the client */
    rp_waiter waiter;
    bool leads;
    rp_flight *landing;    /* a reference, or NULL: joinable until the pool has kept the reply */
    bool may_keep;         /* the cache wants to see the reply */
    bool keeps_late;       /* the reply is whole; it is kept when `query` has come back */
    bool head_seen, head_sent, output_full, fetch_paused, upload_paused;
    rp_reply_reader *reader; /* NULL: the reply is not watched */
    rp_reply_verdict verdict;
    rp_usage usage;
    rp_buffer encoded;
    int64_t forward_us, first_byte_us, done_us; /* monotonic; 0: did not happen */
    int upstream_status;
    int status;            /* sent to the client */
    uint64_t bytes_in, bytes_out;
    bool client_gone;

    /* A reply that is collected instead of copied (local.c); NULL: the usual way. Called
     * with its head (false: do not collect after all) and, status 0, when it is whole. */
    bool (*collected)(rp_visit *visit, int status, const rp_header *headers, size_t count);
    rp_buffer collect;
    /* A refusal that waits until the store has taken the credential back (credential.c). */
    struct rp_held_reply {
        bool waits;    /* nothing of it has been sent */
        bool has_ended, is_whole; /* the fetch has, meanwhile */
        int status;
        const rp_header *headers; /* in the arena */
        size_t header_count;
    } held;
};

/* ---- visit.c ------------------------------------------------------------------- */

extern const rp_http_handler rp_visit_handler; /* its context must be set to the server */
rp_visit *rp_visit_ref(rp_visit *visit);
void rp_visit_unref(rp_visit *visit); /* from any thread */
/* At the end: break off what is under way. On the loop's thread. */
void rp_visits_abort(rp_worker *worker);
/* Free what the worker kept for reuse. */
void rp_visits_discard(rp_worker *worker);

/* The whole reply: logs, counts, sends, lets the visit go. `head` has the headers of this
 * kind of reply; those about the cache are added. */
void rp_visit_reply(rp_visit *visit, int status, rp_reply_head *head, rp_str body);
/* An error object in the client's protocol. */
void rp_visit_fail(rp_visit *visit, int status, const char *type, const char *code,
                   const char *message);
/* The pieces of a reply that is copied: all return false when the client is slow. */
void rp_visit_begin(rp_visit *visit, int status, const rp_header *headers, size_t count,
                    int64_t content_length, bool shared);
bool rp_visit_write(rp_visit *visit, rp_str bytes);
typedef enum rp_visit_end_kind {
    RP_VISIT_SERVED,
    RP_VISIT_ABORTED, /* the rest cannot come: close, so that the client notices */
    RP_VISIT_GONE,    /* the client left */
} rp_visit_end_kind;
void rp_visit_end(rp_visit *visit, rp_visit_end_kind kind);
/* Copy to the visit's arena what still points into the exchange, before another thread
 * looks at it or the client may be gone. False: no memory. */
bool rp_visit_detach(rp_visit *visit);
int64_t rp_now_us(void); /* monotonic */
/* Add what these tokens cost to a sum of RP_SUM_COST_*, if the model has a price. `share` of it
 * in [0, 1]. */
void rp_visit_add_cost(rp_visit *visit, rp_sum sum, rp_usage usage, double share);

/* ---- consult.c ----------------------------------------------------------------- */

/* Understand the request, look it up, answer it or forward it. */
void rp_visit_consult(rp_visit *visit, const rp_http_request *request);
/* An rp_batch_together; `context` is the server. */
void rp_visits_embedded(void *context, void *const *visits, const rp_batch_result *results,
                        size_t count);
/* An exact hit that appeared after the look-up: answered, or nothing has changed. */
bool rp_visit_replay_late(rp_visit *visit);
/* A stored reply in the form that the request asks for. False: it cannot be given so. */
bool rp_visit_write_reply(rp_visit *visit, const rp_reply *reply, rp_buffer *out);

/* ---- keep.c -------------------------------------------------------------------- */

/* Watch the reply if it may be kept; otherwise say why not. */
void rp_visit_watch(rp_visit *visit, int status, const rp_header *headers, size_t count);
/* What was watched has ended: judge it and keep it, here or on the pool (`landing`). */
void rp_visit_keep(rp_visit *visit, bool whole);
/* `query` has come back: keep what had to wait for it. */
void rp_visit_keep_late(rp_visit *visit);

/* ---- upstream.c ---------------------------------------------------------------- */

/* Make the HTTP clients that the configuration needs (about a millisecond each, so that
 * no request has to wait for it). On the loop's thread. */
void rp_worker_connect(rp_worker *worker);
void rp_visit_forward(rp_visit *visit);
void rp_visit_upload(rp_visit *visit, rp_str bytes, bool last);
void rp_visit_drained(rp_visit *visit);
/* The client left while something was forwarded. */
void rp_visit_forward_gone(rp_visit *visit);
/* One answer is asked for: neither `n` nor `best_of` is above 1. */
bool rp_visit_is_one_answer(const rp_visit *visit);
/* What makes two requests one: the exact key, the form of the reply, and, because a
 * personal prompt is answered for one person, whose it is. */
void rp_visit_flight_key(const rp_visit *visit, rp_flight_key *out);
/* Break off whatever is forwarded, whoever waits for it. */
void rp_visit_cancel(rp_visit *visit);
/* What was held may go to the client. */
void rp_visit_release(rp_visit *visit);

/* ---- credential.c --------------------------------------------------------------- */

/* Learn from the upstream's status. True: this reply is held (`held`) and sent when the store
 * has taken the credential back. */
bool rp_visit_learn_credential(rp_visit *visit, int status, const rp_header *headers, size_t count);

/* ---- local.c ------------------------------------------------------------------- */

/* True: answered, or on its way. */
bool rp_local_answer(rp_visit *visit);
/* Does the body ask for an encoder of ours ("reprise/NAME")? Then rp_local_embeddings answers. */
bool rp_local_embeds(const rp_json *body);
void rp_local_embeddings(rp_visit *visit, const rp_json *body);

#endif
