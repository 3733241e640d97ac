/* http_internal.h - what the files of the HTTP server share; the picture is this:
 *
 *   rp_http_server   http_server.c      listening, sharing, TLS context, draining
 *     rp_http_shard    one a loop: its connections, deadlines, recycled memory
 *       rp_http_connection   http_connection.c   bytes in and out of one socket
 *         rp_exchange          http_exchange.c     one request and its reply
 *
 * A connection is only destroyed from the top of the loop (an event, a timer, the end
 * of a turn), never below a handler: what a handler does marks it `dirty`, and
 * rp_http_settle does the rest at the end of the turn.
 *
 * Threads: everything of a shard belongs to its loop, except the atomic counters. */
#ifndef RP_NET_HTTP_INTERNAL_H
#define RP_NET_HTTP_INTERNAL_H

#include "base/buffer.h"
#include "net/http_server.h"

#include <event2/event.h>
#include <event2/event_struct.h>
#include <netinet/in.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/queue.h>

typedef struct rp_http_connection rp_http_connection;
typedef struct rp_http_shard rp_http_shard;

/* ---- deadlines: a list a kind, sorted because each kind has one duration --------- */

typedef enum rp_http_deadline_kind {
    RP_DEADLINE_HEAD,   /* TLS handshake and head, absolute */
    RP_DEADLINE_BODY,   /* absolute */
    RP_DEADLINE_IDLE,
    RP_DEADLINE_LINGER, /* reading on after the last reply, so that it arrives */
    RP_DEADLINE_WRITE,  /* since the last byte that left */
    RP_DEADLINE_KINDS,
    RP_DEADLINE_NONE = RP_DEADLINE_KINDS,
} rp_http_deadline_kind;

typedef struct rp_http_deadline {
    TAILQ_ENTRY(rp_http_deadline) link;
    rp_http_connection *connection;
    int64_t due_us;
    rp_http_deadline_kind kind;
} rp_http_deadline;

/* ---- output: a list of pieces, each copied or lent ------------------------------- */

typedef struct rp_http_piece {
    TAILQ_ENTRY(rp_http_piece) link;
    const char *ptr; /* what is still to be sent */
    size_t len;
    rp_loop_call *release; /* of a lent piece */
    void *release_context;
    size_t capacity; /* of data; 0: lent */
    char data[];
} rp_http_piece;
typedef TAILQ_HEAD(rp_http_pieces, rp_http_piece) rp_http_pieces;

enum {
    RP_HTTP_PIECE_SIZE = 4096 - (int)sizeof(rp_http_piece), /* of recycled pieces */
    RP_HTTP_PIECES_KEPT = 64,
    RP_HTTP_EXCHANGES_KEPT = 64,
    RP_HTTP_ARENA_KEPT = 64 << 10,
    RP_HTTP_SCRATCH_SIZE = 64 << 10, /* one read; also what is kept of pipelined requests */
};

struct rp_http_connection {
    rp_http_shard *shard;
    rp_exchange *exchange; /* owned; NULL between requests */
    SSL *tls;              /* owned; NULL: plain */
    int fd;
    /* Flags of one byte; many connections are idle. */
    bool dirty;          /* queued for rp_http_settle */
    bool doomed;         /* to be destroyed there */
    bool reset;          /* ... with a reset */
    bool closing;        /* no further request; close once the output has left */
    bool must_linger;    /* ... but read on, or the reply would be lost */
    bool lingering;
    bool at_end;         /* the client's end of file was read */
    bool body_paused;
    bool watches_read, watches_close, watches_write;
    bool tls_read_wants_write, tls_broken;
    bool is_head;        /* the request being read is a HEAD: even a refusal has no body */
    struct event read_event, write_event;
    rp_buffer input; /* bytes read and not understood yet; no memory when empty */
    rp_http_scan scan;
    rp_http_pieces output;
    size_t output_size;
    rp_http_deadline read_deadline, write_deadline;
    TAILQ_ENTRY(rp_http_connection) link, dirty_link;
    char address[INET6_ADDRSTRLEN];
};

struct rp_exchange {
    rp_http_connection *connection; /* NULL once it is the handler's no more */
    rp_http_shard *shard;
    rp_exchange *next_kept;
    void *context;
    rp_arena arena;
    rp_http_request request;
    rp_buffer body;        /* collected */
    size_t body_accounted; /* of server->body_memory */
    uint64_t body_received;
    rp_http_chunks chunks;
    bool chunked, body_complete, keep_alive;
    bool announced; /* on_request was called */
    bool begun, raw;
    bool reply_chunked, reply_until_close, reply_has_no_body;
    bool lent;      /* the arena may be in the output */
    bool full;      /* write returned false: on_drained is owed */
    uint64_t reply_left; /* bytes of a counted body */
};

struct rp_http_shard {
    rp_http_server *server;
    rp_loop *loop;
    rp_timer *timer;    /* owned; fires at timer_due_us */
    int64_t timer_due_us;
    rp_turn_task settle_task;
    TAILQ_HEAD(, rp_http_connection) connections, dirty;
    TAILQ_HEAD(, rp_http_deadline) deadlines[RP_DEADLINE_KINDS];
    rp_http_pieces pieces_kept;
    size_t pieces_kept_count;
    rp_exchange *exchanges_kept;
    size_t exchanges_kept_count;
    atomic_size_t connection_count; /* raised by the acceptor, lowered by the shard */
    bool draining, finished;
    time_t date_second;
    char date[40]; /* with its name and line end */
    char *scratch; /* owned, RP_HTTP_SCRATCH_SIZE */
};

struct rp_http_server {
    rp_http_server_options options; /* without zeros; strings are not kept */
    rp_http_handler handler;
    rp_http_shard *shards; /* owned */
    size_t shard_count;
    int64_t duration_us[RP_DEADLINE_KINDS];
    int listen_fd;               /* first loop's, once that runs */
    struct event *listen_event;  /* owned; on the first loop */
    bool listener_is_closed;     /* on the first loop */
    char *listen_at;             /* owned; as asked for, with port 0 perhaps */
    rp_timer *accept_timer;      /* accepting waits after EMFILE */
    char address[80];
    char *tls_certificate, *tls_key; /* owned paths */
    bool is_tls;                     /* never changes */
    pthread_mutex_t tls_lock;        /* a leaf; guards tls */
    SSL_CTX *tls;                    /* owned; NULL: plain */
    atomic_size_t connection_count;
    atomic_size_t body_memory;
    atomic_size_t shards_live;
    rp_loop_call *drain_done;
    void *drain_context;
};

/* http_connection.c */
void rp_http_connection_adopt(rp_http_connection *connection, SSL *tls);
void rp_http_connection_mark(rp_http_connection *connection);
void rp_http_connection_lose(rp_http_connection *connection); /* destroys; on_gone if due */
void rp_http_settle(void *shard);
void rp_http_expire(void *shard);
void rp_http_shard_close_idle(rp_http_shard *shard);
void rp_http_shard_finish_when_empty(rp_http_shard *shard); /* http_server.c */

/* http_exchange.c */
rp_exchange *rp_exchange_make(rp_http_connection *connection);
void rp_exchange_recycle(rp_exchange *exchange);
void rp_exchange_detach(rp_exchange *exchange);
bool rp_exchange_account_body(rp_exchange *exchange);
/* An error reply of the server itself; the connection closes after it. */
void rp_http_refuse(rp_http_connection *connection, rp_http_refusal refusal);
void rp_http_output_append(rp_http_connection *connection, rp_str bytes);
void rp_http_output_drop_all(rp_http_connection *connection);
void rp_http_piece_free(rp_http_shard *shard, rp_http_piece *piece);

#endif
