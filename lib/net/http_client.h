/* http_client.h - HTTP towards upstreams, on our loop.
 *
 * http:// addresses without a proxy are served by sockets and a parser of our own
 * (HTTP/1.1), everything else by libcurl (TLS, HTTP/2, proxies). Pooled connections. No
 * redirects, http and https only, no `Expect:`, proxies only if configured.
 *
 * A request is sent again when a kept-alive connection turned out stale (or an HTTP/2 stream
 * was refused) and no byte of a reply had arrived; an upload in pieces only if none of them
 * had been sent; and only if that does no harm: the method is idempotent, or there is an
 * Idempotency-Key, or the other side had refused it or closed before the request came.
 *
 * Threads: an rp_http_client and its fetches belong to one loop; make and free it there,
 * or while the loop does not run. */
#ifndef RP_NET_HTTP_CLIENT_H
#define RP_NET_HTTP_CLIENT_H

#include "base/buffer.h"
#include "net/http_server.h" /* rp_header */

typedef struct rp_http_client rp_http_client;
typedef struct rp_fetch rp_fetch;

typedef struct rp_http_client_options {
    size_t connections_max;          /* per host; 0: 256 */
    const char *proxy;               /* URL, or NULL for none (the environment is not read) */
    const char *certificate_authorities; /* PEM file, or NULL for the system's */
} rp_http_client_options;

RP_NODISCARD rp_status rp_http_client_new(rp_loop *loop, const rp_http_client_options *options,
                                          rp_http_client **out, rp_error *error);
/* Cancels what is under way, without on_done. Also from on_done, not from other callbacks. */
void rp_http_client_free(rp_http_client *client);

/* Make now what this address needs (for libcurl about a millisecond), so that no request
 * has to wait for it. */
RP_NODISCARD rp_status rp_http_client_prepare(rp_http_client *client, rp_str url, rp_error *error);

typedef struct rp_fetch_request {
    rp_str method, url;
    const rp_header *headers; /* hop-by-hop fields, Host and Content-Length are dropped */
    size_t header_count;
    rp_str body;              /* lent until on_done; the first part if !body_is_whole */
    bool body_is_whole;
    int64_t body_size;        /* whole size, or -1: sent chunked */
    int64_t connect_timeout_us;    /* 0: 10 s */
    int64_t first_byte_timeout_us; /* 0: 600 s */
    int64_t total_timeout_us;      /* 0: none */
    int64_t idle_timeout_us;       /* between bytes of a reply; 0: 300 s; not while paused */
    int redirects_max;             /* rp_fetch_wait only, to https only; 0: none */
} rp_fetch_request;

typedef enum rp_fetch_result {
    RP_FETCH_OK,            /* complete as its framing says */
    RP_FETCH_NO_CONNECTION, /* refused, unknown host, TLS failure */
    RP_FETCH_TIMEOUT,       /* connect, first byte, idle or total */
    RP_FETCH_BROKEN,        /* ended before it was complete, or not HTTP */
    RP_FETCH_CANCELLED,
} rp_fetch_result;

typedef struct rp_fetch_handler {
    /* Status and headers of the final reply (1xx are swallowed). Lent for the call. */
    void (*on_head)(void *context, int status, const rp_header *headers, size_t header_count);
    /* Body bytes, transfer coding removed, content coding untouched. Return false to
     * pause; the bytes are delivered again after rp_fetch_resume. */
    bool (*on_data)(void *context, rp_str bytes);
    /* Always the last call unless rp_fetch_cancel came first; the fetch is gone when it
     * returns. `detail` is a short static or lent text without secrets. */
    void (*on_done)(void *context, rp_fetch_result result, const char *detail);
    /* The upload wants more of a body that was not whole: rp_fetch_send, now or later.
     * May be NULL. */
    void (*on_want_body)(void *context);
} rp_fetch_handler;

/* Start. Callbacks come later, never inside. The request is copied, but for its body.
 * Fails: RP_ERR_INVALID (URL, method), RP_ERR_NOMEM; then none ever comes. */
RP_NODISCARD rp_status rp_fetch_start(rp_http_client *client, const rp_fetch_request *request,
                                      const rp_fetch_handler *handler, void *context,
                                      rp_fetch **out, rp_error *error);
/* These may be called inside callbacks, too. */
void rp_fetch_cancel(rp_fetch *fetch); /* no further callback; the fetch is gone */
void rp_fetch_resume(rp_fetch *fetch);
/* More request body; copied. `last` ends it. False: enough waits (256 KiB), so wait for
 * on_want_body. */
bool rp_fetch_send(rp_fetch *fetch, rp_str bytes, bool last);

/* A blocking fetch for command-line tools (no loop): the whole reply into *body.
 * Fails: RP_ERR_IO, RP_ERR_TIMEOUT, RP_ERR_LIMIT. */
RP_NODISCARD rp_status rp_fetch_wait(const rp_fetch_request *request, size_t size_max,
                                     int *http_status, rp_buffer *body, rp_error *error);

#endif
