/* http_server.c - listening, sharing connections among loops, TLS, draining; the picture
 * is in http_internal.h.
 *
 * The first loop accepts and hands each connection to the loop that has the fewest. One
 * listening socket, and not SO_REUSEPORT: with that a second server started by accident
 * would silently get half of the clients, and the kernel spreads few connections badly. */
#include "net/http_internal.h"
#include "base/bytes.h"

#include <arpa/inet.h>
#include <assert.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <openssl/err.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

enum {
    ACCEPTS_MAX = 64,       /* in one go, so that others get a turn */
    ACCEPT_PAUSE_US = 100000, /* without descriptors; a guess */
    LISTEN_BACKLOG = 4096,
    REFUSALS_MAX = 256,     /* connections over the limit that are told so at one time */
};

/* How long a client may go on sending after it was refused; a guess, nginx waits 5 s. */
#define LINGER_US INT64_C(2000000)

/* ---- TLS ------------------------------------------------------------------------------ */

static int
choose_protocol(SSL *tls, const unsigned char **out, unsigned char *out_len,
                const unsigned char *in, unsigned in_len, void *context)
{
    static const unsigned char ours[] = "\x08http/1.1";
    (void)tls;
    (void)context;
    if (SSL_select_next_proto((unsigned char **)(uintptr_t)out, out_len, ours, sizeof ours - 1, in,
                              in_len) == OPENSSL_NPN_NEGOTIATED)
        return SSL_TLSEXT_ERR_OK;
    return SSL_TLSEXT_ERR_NOACK;
}

static rp_status
fail_tls(rp_error *error, const char *what, const char *path)
{
    char reason[160] = "no reason given";
    const unsigned long code = ERR_peek_last_error();
    if (code)
        ERR_error_string_n(code, reason, sizeof reason);
    ERR_clear_error();
    return rp_fail(error, RP_ERR_IO, "cannot use the TLS %s %.100s: %s", what, path, reason);
}

static rp_status
make_tls(const char *certificate, const char *key, SSL_CTX **out, rp_error *error)
{
    SSL_CTX *tls = SSL_CTX_new(TLS_server_method());
    rp_status status = RP_OK;
    if (!tls)
        return rp_fail(error, RP_ERR_NOMEM, "no memory for TLS");
    SSL_CTX_set_min_proto_version(tls, TLS1_2_VERSION);
    SSL_CTX_set_options(tls, SSL_OP_NO_RENEGOTIATION | SSL_OP_CIPHER_SERVER_PREFERENCE |
                                 SSL_OP_NO_COMPRESSION | SSL_OP_IGNORE_UNEXPECTED_EOF);
    SSL_CTX_set_mode(tls, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
                              SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_session_cache_mode(tls, SSL_SESS_CACHE_OFF); /* tickets do */
    SSL_CTX_set_alpn_select_cb(tls, choose_protocol, NULL);
    if (SSL_CTX_use_certificate_chain_file(tls, certificate) != 1)
        status = fail_tls(error, "certificate", certificate);
    else if (SSL_CTX_use_PrivateKey_file(tls, key, SSL_FILETYPE_PEM) != 1)
        status = fail_tls(error, "key", key);
    else if (SSL_CTX_check_private_key(tls) != 1)
        status = fail_tls(error, "key, which is not the certificate's:", key);
    if (status != RP_OK) {
        SSL_CTX_free(tls);
        return status;
    }
    *out = tls;
    return RP_OK;
}

/* NULL for a plain server; *failed if there should be one and is none. */
static SSL *
begin_tls(rp_http_server *server, int fd, bool *failed)
{
    *failed = false;
    if (!server->is_tls)
        return NULL;
    pthread_mutex_lock(&server->tls_lock);
    SSL *tls = SSL_new(server->tls);
    pthread_mutex_unlock(&server->tls_lock);
    if (tls && SSL_set_fd(tls, fd) == 1) {
        SSL_set_accept_state(tls);
        return tls;
    }
    SSL_free(tls);
    ERR_clear_error();
    *failed = true;
    return NULL;
}

/* ---- accepting --------------------------------------------------------------------------- */

static void
discard(rp_http_connection *c)
{
    close(c->fd);
    atomic_fetch_sub(&c->shard->server->connection_count, 1);
    atomic_fetch_sub(&c->shard->connection_count, 1);
    free(c);
}

/* On the connection's own loop. */
static void
receive(void *context)
{
    rp_http_connection *c = context;
    rp_http_shard *shard = c->shard;
    rp_http_server *server = shard->server;
    bool failed;
    if (shard->draining || !shard->timer) {
        discard(c);
        rp_http_shard_finish_when_empty(shard);
        return;
    }
    const bool too_many =
        atomic_load(&server->connection_count) > server->options.connections_max;
    SSL *tls = begin_tls(server, c->fd, &failed);
    if (failed) {
        discard(c);
        return;
    }
    rp_http_connection_adopt(c, tls);
    if (too_many)
        rp_http_refuse(c, (rp_http_refusal){ 503, "there are too many connections" });
}

static rp_http_shard *
choose_shard(rp_http_server *server)
{
    rp_http_shard *best = &server->shards[0];
    size_t best_count = atomic_load(&best->connection_count);
    for (size_t i = 1; i < server->shard_count; i++) {
        const size_t count = atomic_load(&server->shards[i].connection_count);
        if (count < best_count) {
            best = &server->shards[i];
            best_count = count;
        }
    }
    return best;
}

static void
name_address(const struct sockaddr_storage *from, char *out, size_t size)
{
    const struct sockaddr_in *v4 = (const struct sockaddr_in *)from;
    const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)from;
    if (from->ss_family == AF_INET)
        inet_ntop(AF_INET, &v4->sin_addr, out, (socklen_t)size);
    else
        inet_ntop(AF_INET6, &v6->sin6_addr, out, (socklen_t)size);
}

static void
take_connection(rp_http_server *server, int fd, const struct sockaddr_storage *from)
{
    const size_t count = atomic_load(&server->connection_count);
    const size_t count_max = server->options.connections_max;
    /* Over the limit a client is told so, as long as not too many are; a TLS client
     * would have to be shaken hands with first, which is the work we avoid. */
    const bool over = count >= count_max;
    rp_http_connection *c = NULL;
    if (!over || (!server->is_tls && count < count_max + REFUSALS_MAX))
        c = calloc(1, sizeof *c);
    if (!c) {
        close(fd);
        return;
    }
    const int one = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    c->fd = fd;
    c->shard = choose_shard(server);
    name_address(from, c->address, sizeof c->address);
    atomic_fetch_add(&server->connection_count, 1);
    atomic_fetch_add(&c->shard->connection_count, 1);
    if (rp_loop_is_current(c->shard->loop))
        receive(c);
    else if (rp_loop_post(c->shard->loop, receive, c) != RP_OK)
        discard(c);
}

static void
accept_again(void *context)
{
    rp_http_server *server = context;
    if (server->listen_event)
        event_add(server->listen_event, NULL);
}

static void
on_accept(evutil_socket_t fd, short what, void *context)
{
    rp_http_server *server = context;
    (void)what;
    for (int i = 0; i < ACCEPTS_MAX; i++) {
        struct sockaddr_storage from;
        socklen_t from_size = sizeof from;
        const int accepted =
            accept4(fd, (struct sockaddr *)&from, &from_size, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (accepted >= 0) {
            take_connection(server, accepted, &from);
            continue;
        }
        if (errno == EAGAIN || errno == EWOULDBLOCK)
            return;
        if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
            /* The socket stays readable: without a pause this would be a busy loop. */
            event_del(server->listen_event);
            rp_timer_set(server->accept_timer, ACCEPT_PAUSE_US);
            return;
        }
        /* Otherwise one connection went away before it was accepted: next. */
    }
}

/* ---- beginning ----------------------------------------------------------------------------- */

/* On the shard's own loop. Without memory the shard takes no connections. */
static void
start_shard(void *context)
{
    rp_http_shard *shard = context;
    rp_http_server *server = shard->server;
    if (rp_timer_new(shard->loop, rp_http_expire, shard, &shard->timer) != RP_OK)
        return;
    if (shard != &server->shards[0])
        return;
    if (rp_timer_new(shard->loop, accept_again, server, &server->accept_timer) != RP_OK)
        return;
    server->listen_event = event_new(rp_loop_base(shard->loop), server->listen_fd,
                                     EV_READ | EV_PERSIST, on_accept, server);
    if (server->listen_event)
        event_add(server->listen_event, NULL);
}

static rp_status
prepare_shard(rp_http_server *server, rp_http_shard *shard, rp_loop *loop)
{
    *shard = (rp_http_shard){ .server = server, .loop = loop };
    TAILQ_INIT(&shard->connections);
    TAILQ_INIT(&shard->dirty);
    TAILQ_INIT(&shard->pieces_kept);
    for (int kind = 0; kind < RP_DEADLINE_KINDS; kind++)
        TAILQ_INIT(&shard->deadlines[kind]);
    shard->settle_task = (rp_turn_task){ .call = rp_http_settle, .context = shard };
    shard->scratch = malloc(RP_HTTP_SCRATCH_SIZE);
    return shard->scratch ? RP_OK : RP_ERR_NOMEM;
}

/* "127.0.0.1:8080" or "[::1]:8080" into host and port. */
static bool
cut_address(const char *listen_at, char host[64], char port[8])
{
    const char *colon = strrchr(listen_at, ':');
    if (!colon)
        return false;
    rp_str name = { listen_at, (size_t)(colon - listen_at) };
    if (name.len >= 2 && name.ptr[0] == '[' && name.ptr[name.len - 1] == ']')
        name = (rp_str){ name.ptr + 1, name.len - 2 };
    else if (memchr(name.ptr, ':', name.len))
        return false;
    uint64_t number;
    if (!name.len || name.len >= 64 || !rp_str_to_u64(rp_str_of(colon + 1), &number) ||
        number > 65535)
        return false;
    memcpy(host, name.ptr, name.len);
    host[name.len] = '\0';
    snprintf(port, 8, "%u", (unsigned)number);
    return true;
}

typedef struct listener {
    int fd;
    char address[80]; /* in use: with the port that was found */
} listener;

static rp_status
open_listener(const char *listen_at, listener *out, rp_error *error)
{
    char host[64], port[8];
    struct addrinfo *found = NULL;
    if (!listen_at || !cut_address(listen_at, host, port))
        return rp_fail(error, RP_ERR_INVALID, "\"%.80s\" is no address to listen on: "
                       "127.0.0.1:8080 and [::1]:8080 are", listen_at ? listen_at : "");
    const struct addrinfo wanted = {
        .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE | AI_NUMERICSERV
    };
    const int failed = getaddrinfo(host, port, &wanted, &found);
    if (failed)
        return rp_fail(error, RP_ERR_INVALID, "cannot listen on %.80s: %s", listen_at,
                       gai_strerror(failed));
    const int one = 1;
    const int fd = socket(found->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    bool fine = fd >= 0;
    fine = fine && !setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    fine = fine && !bind(fd, found->ai_addr, found->ai_addrlen);
    fine = fine && !listen(fd, LISTEN_BACKLOG);
    const int reason = errno;
    freeaddrinfo(found);
    if (!fine) {
        if (fd >= 0)
            close(fd);
        return rp_fail(error, RP_ERR_IO, "cannot listen on %.80s: %s", listen_at,
                       strerror(reason));
    }
    struct sockaddr_storage at;
    socklen_t at_size = sizeof at;
    getsockname(fd, (struct sockaddr *)&at, &at_size);
    char name[INET6_ADDRSTRLEN];
    name_address(&at, name, sizeof name);
    const bool v4 = at.ss_family == AF_INET;
    const unsigned port_used = ntohs(v4 ? ((struct sockaddr_in *)&at)->sin_port
                                        : ((struct sockaddr_in6 *)&at)->sin6_port);
    snprintf(out->address, sizeof out->address, v4 ? "%s:%u" : "[%s]:%u", name, port_used);
    out->fd = fd;
    return RP_OK;
}

static void
fill_options(rp_http_server *server)
{
    rp_http_server_options *o = &server->options;
    if (!o->head_size_max)
        o->head_size_max = 32 << 10;
    if (!o->header_count_max)
        o->header_count_max = 100;
    if (!o->body_buffer_max)
        o->body_buffer_max = RP_CACHEABLE_SIZE_MAX;
    if (!o->body_size_max)
        o->body_size_max = 64 << 20;
    if (!o->connections_max)
        o->connections_max = 16384;
    if (!o->output_high_bytes)
        o->output_high_bytes = 1 << 20;
    if (!o->body_memory_max)
        o->body_memory_max = (size_t)1 << 30;
    int64_t *us = server->duration_us;
    us[RP_DEADLINE_HEAD] = o->head_timeout_us ? o->head_timeout_us : 10 * INT64_C(1000000);
    us[RP_DEADLINE_BODY] = o->body_timeout_us ? o->body_timeout_us : 60 * INT64_C(1000000);
    us[RP_DEADLINE_IDLE] = o->idle_timeout_us ? o->idle_timeout_us : 120 * INT64_C(1000000);
    us[RP_DEADLINE_WRITE] = o->write_timeout_us ? o->write_timeout_us : 60 * INT64_C(1000000);
    us[RP_DEADLINE_LINGER] = o->linger_timeout_us ? o->linger_timeout_us : LINGER_US;
}

/* A write to a socket that OpenSSL or curl owns must not end the program. */
static void
ignore_sigpipe(void)
{
    struct sigaction now;
    if (sigaction(SIGPIPE, NULL, &now) == 0 && now.sa_handler == SIG_DFL)
        signal(SIGPIPE, SIG_IGN);
}

static rp_status
prepare(rp_http_server *server, rp_loop *const *loops, rp_error *error)
{
    rp_http_server_options *o = &server->options;
    fill_options(server);
    if (!o->tls_certificate != !o->tls_key)
        return rp_fail(error, RP_ERR_INVALID, "TLS needs a certificate and a key");
    if (o->tls_certificate) {
        server->tls_certificate = strdup(o->tls_certificate);
        server->tls_key = strdup(o->tls_key);
        if (!server->tls_certificate || !server->tls_key)
            return rp_fail(error, RP_ERR_NOMEM, "no memory for the server");
        const rp_status status =
            make_tls(server->tls_certificate, server->tls_key, &server->tls, error);
        if (status != RP_OK)
            return status;
        server->is_tls = true;
    }
    for (size_t i = 0; i < server->shard_count; i++) {
        if (prepare_shard(server, &server->shards[i], loops[i]) != RP_OK)
            return rp_fail(error, RP_ERR_NOMEM, "no memory for the server");
    }
    listener opened;
    const rp_status status = open_listener(o->listen, &opened, error);
    if (status == RP_OK) {
        server->listen_fd = opened.fd;
        memcpy(server->address, opened.address, sizeof server->address);
        server->listen_at = strdup(o->listen);
        if (!server->listen_at)
            return rp_fail(error, RP_ERR_NOMEM, "no memory for the server");
    }
    /* The caller's strings are lent for this call. */
    o->listen = o->tls_certificate = o->tls_key = NULL;
    return status;
}

rp_status
rp_http_server_new(rp_loop *const *loops, size_t loop_count,
                   const rp_http_server_options *options, const rp_http_handler *handler,
                   rp_http_server **out, rp_error *error)
{
    assert(loop_count > 0 && handler->on_request);
    rp_http_server *server = calloc(1, sizeof *server);
    if (!server)
        return rp_fail(error, RP_ERR_NOMEM, "no memory for the server");
    server->options = *options;
    server->handler = *handler;
    server->listen_fd = -1;
    pthread_mutex_init(&server->tls_lock, NULL);
    server->shards = calloc(loop_count, sizeof *server->shards);
    server->shard_count = server->shards ? loop_count : 0;
    rp_status status = server->shards ? prepare(server, loops, error)
                                      : rp_fail(error, RP_ERR_NOMEM, "no memory for the server");
    atomic_store(&server->shards_live, loop_count);
    ignore_sigpipe();
    /* The acceptor last: by then every loop has its shard's start in its queue. */
    for (size_t i = loop_count; i-- > 0 && status == RP_OK;) {
        status = rp_loop_post(loops[i], start_shard, &server->shards[i]);
        /* A loop that has ended already is a wrong program; earlier ones of this server
         * may be running, so it cannot be freed here. Only memory can fail then, at the
         * first post, before anything runs. */
        if (status != RP_OK)
            rp_fail(error, status, "the loop takes no calls");
    }
    if (status != RP_OK) {
        rp_http_server_free(server);
        return status;
    }
    *out = server;
    return RP_OK;
}

/* ---- another address, other files ------------------------------------------------------------ */

typedef struct listener_change {
    rp_http_server *server;
    int fd;
} listener_change;

/* On the first loop. What the old socket has taken already is served; then it closes. */
static void
move_listener(void *context)
{
    listener_change *change = context;
    rp_http_server *server = change->server;
    const int fd = change->fd;
    free(change);
    struct event *event =
        server->listener_is_closed
            ? NULL
            : event_new(rp_loop_base(server->shards[0].loop), fd, EV_READ | EV_PERSIST, on_accept, server);
    if (!event || event_add(event, NULL) != 0) {
        if (event)
            event_free(event);
        close(fd);
        return;
    }
    for (int i = 0; i < LISTEN_BACKLOG / ACCEPTS_MAX; i++)
        on_accept(server->listen_fd, EV_READ, server);
    if (server->listen_event)
        event_free(server->listen_event);
    close(server->listen_fd);
    server->listen_event = event;
    server->listen_fd = fd;
}

/* Everything that may fail. */
static rp_status
prepare_change(rp_http_server *server, const char *listen_at, listener_change **moved,
               listener *opened, rp_error *error)
{
    *moved = NULL;
    if (strcmp(listen_at, server->listen_at) == 0)
        return RP_OK;
    listener_change *change = malloc(sizeof *change);
    if (!change)
        return rp_fail(error, RP_ERR_NOMEM, "no memory for a listener");
    const rp_status status = open_listener(listen_at, opened, error);
    if (status != RP_OK) {
        free(change);
        return status;
    }
    *change = (listener_change){ server, opened->fd };
    *moved = change;
    return RP_OK;
}

static void
swap_tls(rp_http_server *server, SSL_CTX *fresh)
{
    pthread_mutex_lock(&server->tls_lock);
    SSL_CTX *old = server->tls;
    server->tls = fresh;
    pthread_mutex_unlock(&server->tls_lock);
    SSL_CTX_free(old); /* connections hold it as long as they need it */
}

rp_status
rp_http_server_change(rp_http_server *server, const char *listen, const char *tls_certificate,
                      const char *tls_key, rp_error *error)
{
    if ((tls_certificate != NULL) != server->is_tls)
        return rp_fail(error, RP_ERR_UNSUPPORTED,
                       "TLS is switched on or off at a start only, not while running");
    SSL_CTX *fresh = NULL;
    listener opened;
    listener_change *change = NULL;
    char *names[3] = { strdup(listen), tls_certificate ? strdup(tls_certificate) : NULL,
                       tls_key ? strdup(tls_key) : NULL };
    rp_status status = RP_OK;
    if (!names[0] || (server->is_tls && (!names[1] || !names[2])))
        status = rp_fail(error, RP_ERR_NOMEM, "no memory for a listener");
    if (status == RP_OK && server->is_tls)
        status = make_tls(tls_certificate, tls_key, &fresh, error);
    if (status == RP_OK)
        status = prepare_change(server, listen, &change, &opened, error);
    const bool moves = status == RP_OK && change;
    if (moves) {
        status = rp_loop_post(server->shards[0].loop, move_listener, change);
        if (status != RP_OK) {
            (void)!rp_fail(error, status, "the loop takes no calls");
            close(opened.fd);
            free(change);
        }
    }
    if (status != RP_OK) {
        SSL_CTX_free(fresh);
        for (size_t i = 0; i < RP_COUNT(names); i++)
            free(names[i]);
        return status;
    }
    if (fresh)
        swap_tls(server, fresh);
    if (moves)
        memcpy(server->address, opened.address, sizeof server->address);
    free(server->listen_at);
    free(server->tls_certificate);
    free(server->tls_key);
    server->listen_at = names[0];
    server->tls_certificate = names[1];
    server->tls_key = names[2];
    return RP_OK;
}

rp_str
rp_http_server_address(const rp_http_server *server)
{
    return rp_str_of(server->address);
}

size_t
rp_http_server_connections(const rp_http_server *server)
{
    return atomic_load(&((rp_http_server *)(uintptr_t)server)->connection_count);
}

/* ---- ending ---------------------------------------------------------------------------------- */

static void
close_listener(rp_http_server *server)
{
    if (server->listen_event)
        event_free(server->listen_event);
    server->listen_event = NULL;
    rp_timer_free(server->accept_timer);
    server->accept_timer = NULL;
    if (server->listen_fd >= 0)
        close(server->listen_fd);
    server->listen_fd = -1;
    server->listener_is_closed = true;
}

static void
say_drained(void *context)
{
    rp_http_server *server = context;
    if (server->drain_done)
        server->drain_done(server->drain_context); /* may free the server */
}

/* On its loop, with nothing of the server below it on the stack. */
static void
finish_shard(void *context)
{
    rp_http_shard *shard = context;
    rp_http_server *server = shard->server;
    /* The turn's end may still hold our task: after it, then. */
    if (shard->settle_task.queued && rp_loop_post(shard->loop, finish_shard, shard) == RP_OK)
        return;
    rp_timer_free(shard->timer);
    shard->timer = NULL;
    rp_loop *first = server->shards[0].loop;
    if (atomic_fetch_sub(&server->shards_live, 1) != 1)
        return;
    if (rp_loop_post(first, say_drained, server) != RP_OK && rp_loop_is_current(first))
        say_drained(server);
}

void
rp_http_shard_finish_when_empty(rp_http_shard *shard)
{
    if (!shard->draining || shard->finished || atomic_load(&shard->connection_count) > 0)
        return;
    shard->finished = true;
    /* If the loop has ended, rp_http_server_free does the rest. */
    const rp_status ignored = rp_loop_post(shard->loop, finish_shard, shard);
    (void)ignored;
}

static void
drain_shard(void *context)
{
    rp_http_shard *shard = context;
    if (shard == &shard->server->shards[0])
        close_listener(shard->server);
    shard->draining = true;
    rp_http_shard_close_idle(shard);
    rp_http_shard_finish_when_empty(shard);
}

/* The listener first, and on its loop: only then no connection can still be handed to a
 * shard that believes to be empty. */
static void
drain_all(void *context)
{
    rp_http_server *server = context;
    close_listener(server);
    for (size_t i = 0; i < server->shard_count; i++) {
        const rp_status ignored = rp_loop_post(server->shards[i].loop, drain_shard, &server->shards[i]);
        (void)ignored;
    }
}

void
rp_http_server_drain(rp_http_server *server, rp_loop_call *done, void *context)
{
    server->drain_done = done;
    server->drain_context = context;
    const rp_status ignored = rp_loop_post(server->shards[0].loop, drain_all, server);
    (void)ignored;
}

static void
free_shard(rp_http_shard *shard)
{
    rp_http_connection *c;
    shard->finished = true; /* nothing is posted any more */
    while ((c = TAILQ_FIRST(&shard->connections)))
        rp_http_connection_lose(c);
    rp_timer_free(shard->timer);
    rp_exchange *exchange;
    while ((exchange = shard->exchanges_kept)) {
        shard->exchanges_kept = exchange->next_kept;
        rp_arena_fini(&exchange->arena);
        free(exchange);
    }
    rp_http_piece *piece;
    while ((piece = TAILQ_FIRST(&shard->pieces_kept))) {
        TAILQ_REMOVE(&shard->pieces_kept, piece, link);
        free(piece);
    }
    free(shard->scratch);
}

void
rp_http_server_free(rp_http_server *server)
{
    if (!server)
        return;
    close_listener(server);
    for (size_t i = 0; i < server->shard_count; i++) {
        if (server->shards[i].server) /* prepared */
            free_shard(&server->shards[i]);
    }
    free(server->shards);
    SSL_CTX_free(server->tls);
    free(server->listen_at);
    free(server->tls_certificate);
    free(server->tls_key);
    pthread_mutex_destroy(&server->tls_lock);
    free(server);
}
