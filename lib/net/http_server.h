/* http_server.h - HTTP/1.1 towards clients, strict (RFC 9110, RFC 9112).
 *
 * Own parser (http_parse.h) over events of the loop, plain or TLS 1.2 and later. What
 * is refused, and how, is the table in docs/protocol.md, "What the server refuses".
 * Bodies are collected up to body_buffer_max and handed over whole; longer ones are
 * handed over in pieces. Requests of one connection are handed over one after the
 * other, each when the reply to the one before is complete.
 *
 * An rp_exchange is one request and its reply. It is the handler's from on_request until
 * the handler calls rp_exchange_end, _reply or _abort, or until on_gone returns; then
 * nothing is called for it any more and its pointer is not to be used. Its arena lives on
 * until the last byte has left, so that bytes lent from it are safe.
 *
 * Output is collected and leaves at the end of the loop's turn, so that head and body
 * share a system call. A client that half-closes its side counts as gone.
 *
 * Threads: an exchange belongs to the loop of its connection; call nothing from
 * elsewhere. */
#ifndef RP_NET_HTTP_SERVER_H
#define RP_NET_HTTP_SERVER_H

#include "base/arena.h"
#include "net/http_parse.h" /* rp_header */
#include "net/loop.h"

typedef struct rp_http_request {
    rp_str method, target; /* target as sent; path is its part before '?' */
    rp_str path, query;
    const rp_header *headers;
    size_t header_count;
    bool http_1_0;
    rp_str body;        /* whole, or the first body_buffer_max bytes */
    bool body_is_whole; /* false: the rest comes through on_body */
    int64_t body_size;  /* Content-Length, or -1 (chunked, not yet known) */
    rp_str client_address; /* without the port */
} rp_http_request;

/* The value of a header (first occurrence), ptr NULL if absent; `name` any case. */
rp_str rp_http_header(const rp_header *headers, size_t count, const char *name);

typedef struct rp_exchange rp_exchange;

typedef struct rp_http_handler {
    /* A request is here. Its strings live as long as the exchange. */
    void (*on_request)(void *context, rp_exchange *exchange, const rp_http_request *request);
    /* Further body bytes when body_is_whole was false; `last` with the end. May be NULL. */
    void (*on_body)(void *context, rp_exchange *exchange, rp_str bytes, bool last);
    /* The client left before the reply was complete, or broke the rules while its body
     * came. The exchange is gone when this returns. Also called at shutdown. */
    void (*on_gone)(void *context, rp_exchange *exchange);
    /* Output fell below the low mark after rp_exchange_write had returned false. */
    void (*on_drained)(void *context, rp_exchange *exchange);
    void *context;
} rp_http_handler;

typedef struct rp_http_server_options {
    const char *listen;          /* "127.0.0.1:8080", "[::1]:8080", port 0: any */
    size_t head_size_max;        /* 0: 32 KiB -> 431 (414 if the first line is as long) */
    size_t header_count_max;     /* 0: 100 -> 431 */
    size_t body_buffer_max;      /* 0: RP_CACHEABLE_SIZE_MAX */
    uint64_t body_size_max;      /* 0: 64 MiB -> 413 */
    int64_t head_timeout_us;     /* 0: 10 s, absolute -> closed */
    int64_t body_timeout_us;     /* 0: 60 s, absolute */
    int64_t idle_timeout_us;     /* 0: 120 s between requests */
    int64_t write_timeout_us;    /* 0: 60 s without progress */
    int64_t linger_timeout_us;   /* 0: 2 s of reading on after a last reply, so that it arrives */
    size_t connections_max;      /* 0: 16384; then 503 and close */
    size_t output_high_bytes;    /* 0: 1 MiB waiting for a slow client */
    size_t body_memory_max;      /* 0: 1 GiB of bodies being collected; then 503 */
    const char *tls_certificate, *tls_key; /* PEM files, or NULL */
} rp_http_server_options;

typedef struct rp_http_server rp_http_server;

/* Listen once and share the connections among `loops` (loop_count of them), which may run
 * already. The handler is called on the loop that owns the connection. The signal PIPE is
 * ignored from then on. Fails: RP_ERR_INVALID (address), RP_ERR_IO (bind, certificate)
 * with a sentence. */
RP_NODISCARD rp_status rp_http_server_new(rp_loop *const *loops, size_t loop_count,
                                          const rp_http_server_options *options,
                                          const rp_http_handler *handler, rp_http_server **out,
                                          rp_error *error);
/* "127.0.0.1:40123": the address in use. Lent until the next rp_http_server_change, and for
 * the thread that calls that. */
rp_str rp_http_server_address(const rp_http_server *server);
/* Listen at another address, or with other TLS files, which are read again in any case. What
 * is new is open before what is old closes; connections that stand go on as they are. All or
 * nothing: fails as rp_http_server_new does, and with RP_ERR_UNSUPPORTED if TLS would be
 * switched on or off. From one thread, not the loops'. */
RP_NODISCARD rp_status rp_http_server_change(rp_http_server *server, const char *listen,
                                             const char *tls_certificate, const char *tls_key,
                                             rp_error *error);
/* Stop accepting and close idle connections; exchanges under way go on. From any
 * thread. When all are gone `done` is called on the first loop. */
void rp_http_server_drain(rp_http_server *server, rp_loop_call *done, void *context);
/* The loops must have stopped (and not been freed), or `done` of a drain been called.
 * Exchanges under way get on_gone. NULL is fine. */
void rp_http_server_free(rp_http_server *server);
size_t rp_http_server_connections(const rp_http_server *server);

/* ---- one exchange ----------------------------------------------------------- */
void *rp_exchange_context(const rp_exchange *exchange); /* the handler's own, NULL at first */
void rp_exchange_set_context(rp_exchange *exchange, void *context);
rp_arena *rp_exchange_arena(rp_exchange *exchange);     /* goes with the exchange */
rp_loop *rp_exchange_loop(const rp_exchange *exchange);
const rp_http_request *rp_exchange_request(const rp_exchange *exchange);

enum { RP_BODY_CHUNKED = -1, RP_BODY_NONE = -2 };
/* Status line and headers. body_size: bytes that follow, RP_BODY_CHUNKED (closes the
 * connection instead for HTTP/1.0), or RP_BODY_NONE (204, 304). Date (unless given) and
 * Connection are added. Dropped are hop-by-hop fields and Content-Length, which are the
 * server's own, and fields whose name or value may not be sent. To HEAD the head is sent
 * and the body is not; body_size then states what GET would have got. */
void rp_exchange_begin(rp_exchange *exchange, int status, const rp_header *headers,
                       size_t header_count, int64_t body_size);
/* Body bytes; copied. False: more than output_high_bytes wait, so pause the source
 * until on_drained. Sent at once (no delay for small writes). */
bool rp_exchange_write(rp_exchange *exchange, rp_str bytes);
/* The same without a copy: release(release_context) when the bytes have left or cannot
 * any more, perhaps at once; NULL if they live in the exchange's arena or for ever. */
bool rp_exchange_write_lent(rp_exchange *exchange, rp_str bytes, rp_loop_call *release,
                            void *release_context);
/* The reply is complete; the exchange may go at once. */
void rp_exchange_end(rp_exchange *exchange);
/* The reply cannot be completed: close the connection so that the client notices (a
 * reset where the framing alone would not tell). */
void rp_exchange_abort(rp_exchange *exchange);
/* Bytes in place of a reply, exactly as they are; only rp_exchange_abort can follow. For
 * stand-ins of broken services. */
void rp_exchange_write_raw(rp_exchange *exchange, rp_str bytes);
/* begin + write + end with Content-Length. */
void rp_exchange_reply(rp_exchange *exchange, int status, const rp_header *headers,
                       size_t header_count, rp_str body);
/* Take no more body bytes from the client until resumed (upload backpressure). */
void rp_exchange_pause_body(rp_exchange *exchange, bool paused);

#endif
