/* http_client_internal.h - what the files of the HTTP client share; the picture is this:
 *
 *   rp_http_client   http_client.c   which of the two serves an address
 *     rp_direct        http_direct.c   http:// without a proxy: hosts, kept connections,
 *                                      requests out, replies in
 *       rp_dialer        http_dial.c     a name and a port to a connected socket
 *     rp_curl          http_curl.c     everything else: https://, proxies
 *
 * A fetch begins with an rp_fetch, whoever serves it. A handler may free the client from
 * on_done: whoever calls handlers and goes on using the client does so between
 * rp_http_client_enter and _leave.
 *
 * Threads: as http_client.h; a dialer has threads of its own that look names up. */
#ifndef RP_NET_HTTP_CLIENT_INTERNAL_H
#define RP_NET_HTTP_CLIENT_INTERNAL_H

#include "net/http_client.h"

#include <netinet/in.h>
#include <sys/socket.h>

#define RP_SECOND_US INT64_C(1000000)

enum {
    RP_FETCH_HEAD_SIZE_MAX = 256 << 10,  /* of a reply; a guess, far above any real one */
    RP_FETCH_HEADER_COUNT_MAX = 24 << 5, /* likewise */
    RP_FETCH_UPLOAD_HIGH_BYTES = 256 << 10,
    RP_FETCH_CONNECTION_IDLE_S = 55, /* nginx and most balancers close after 60 to 75 s */
};

typedef struct rp_curl rp_curl;
typedef struct rp_direct rp_direct;

struct rp_http_client {
    rp_loop *loop;
    size_t connections_max;
    char *proxy, *certificate_authorities; /* owned or NULL */
    int busy;          /* > 0: below us is a function that goes on using the client */
    bool wants_free;
    bool direct_is_off; /* for tests: libcurl for everything */
    rp_curl *curl;     /* owned; NULL until an address needs it */
    rp_direct *direct; /* likewise */
};

struct rp_fetch {
    rp_http_client *client;
    rp_fetch_handler handler;
    void *context;
    bool is_direct; /* whose it is */
};

void rp_http_client_enter(rp_http_client *client);
void rp_http_client_leave(rp_http_client *client); /* may free it: the last thing done */

/* A field of the request that is sent on; `connection` is the value of its Connection
 * field. Not sent are those that belong to one connection, those that the client makes
 * itself, and what would not be a field. */
bool rp_fetch_sends_field(const rp_header *field, rp_str connection);

/* May it be sent twice? An idempotent method, or the client's word that the service will notice. */
bool rp_fetch_is_repeatable(const rp_fetch_request *request);

/* What the request says of time, without zeros. */
typedef struct rp_fetch_patience {
    int64_t connect_us, first_byte_us, idle_us, total_us; /* total 0: none */
} rp_fetch_patience;
rp_fetch_patience rp_fetch_patience_of(const rp_fetch_request *request);

/* ---- http_curl.c ------------------------------------------------------------------ */

RP_NODISCARD rp_status rp_curl_new(rp_http_client *client, rp_error *error);
void rp_curl_cancel_all(rp_curl *curl); /* silently; NULL is fine */
void rp_curl_free(rp_curl *curl);       /* nothing under way any more; NULL is fine */
RP_NODISCARD rp_status rp_curl_start(rp_curl *curl, const rp_fetch_request *request,
                                     const rp_fetch_handler *handler, void *context,
                                     rp_fetch **out, rp_error *error);
void rp_curl_cancel(rp_fetch *fetch);
void rp_curl_resume(rp_fetch *fetch);
bool rp_curl_send(rp_fetch *fetch, rp_str bytes, bool last);

/* ---- http_direct.c ---------------------------------------------------------------- */

/* The parts of an http:// address that we serve ourselves; they point into the URL. */
typedef struct rp_direct_target {
    rp_str authority; /* what the Host field says */
    rp_str name;      /* without the brackets of an IPv6 address */
    rp_str path;      /* with the query; empty or begins with '/' or '?' */
    uint16_t port;
} rp_direct_target;

/* False: not for us, or not valid (a user, a fragment, bytes that would need escapes). */
bool rp_direct_parse(rp_str url, rp_direct_target *out);

RP_NODISCARD rp_status rp_direct_new(rp_http_client *client, rp_error *error);
void rp_direct_cancel_all(rp_direct *direct);
void rp_direct_free(rp_direct *direct);
RP_NODISCARD rp_status rp_direct_start(rp_direct *direct, const rp_direct_target *target,
                                       const rp_fetch_request *request,
                                       const rp_fetch_handler *handler, void *context,
                                       rp_fetch **out, rp_error *error);
void rp_direct_cancel(rp_fetch *fetch);
void rp_direct_resume(rp_fetch *fetch);
bool rp_direct_send(rp_fetch *fetch, rp_str bytes, bool last);

/* ---- http_dial.c ------------------------------------------------------------------ */

enum { RP_DIAL_ADDRESSES_MAX = 8 };

typedef struct rp_dial_address {
    struct sockaddr_storage at;
    socklen_t size;
} rp_dial_address;

/* The addresses of a name, best first; returns how many, 0: none. May block. */
typedef size_t rp_dial_resolver(const char *name, uint16_t port, rp_dial_address *out,
                                size_t count_max);
/* For tests, before anything is dialled: NULL puts getaddrinfo back. */
void rp_dial_set_resolver(rp_dial_resolver *resolver);

typedef struct rp_dialer rp_dialer; /* one name and port, with its addresses */
typedef struct rp_dial rp_dial;     /* one connection being made */
/* `fd` is connected and now the callee's, or -1 with a static reason. The dial is gone. */
typedef void rp_dial_done(void *context, int fd, const char *reason);

RP_NODISCARD rp_status rp_dialer_new(rp_loop *loop, rp_str name, uint16_t port, rp_dialer **out);
void rp_dialer_free(rp_dialer *dialer); /* no dial may be under way; NULL is fine */
/* done comes later, never inside. Without a deadline: that is the caller's. */
RP_NODISCARD rp_status rp_dial_start(rp_dialer *dialer, rp_dial_done *done, void *context,
                                     rp_dial **out);
void rp_dial_cancel(rp_dial *dial);

#endif
