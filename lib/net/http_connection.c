/* http_connection.c - bytes in and out of one socket; the picture is in http_internal.h.
 *
 * Reading goes through the shard's scratch buffer, so that an idle connection holds no
 * buffer at all; what cannot be understood yet is kept in `input`. While an exchange is
 * under way we read on, to see the client leave, until `input` is full; from then on
 * only the close is watched for. */
#include "net/http_internal.h"
#include "base/bytes.h"
#include "base/clock.h"

#include <assert.h>
#include <errno.h>
#include <openssl/err.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

enum { IOVECS_MAX = 32, TLS_RECORD_SIZE = 16 << 10 };

/* ---- deadlines -------------------------------------------------------------------- */

static void
clear_deadline(rp_http_deadline *deadline)
{
    if (deadline->kind == RP_DEADLINE_NONE)
        return;
    TAILQ_REMOVE(&deadline->connection->shard->deadlines[deadline->kind], deadline, link);
    deadline->kind = RP_DEADLINE_NONE;
}

static void
set_deadline(rp_http_deadline *deadline, rp_http_deadline_kind kind)
{
    rp_http_shard *shard = deadline->connection->shard;
    clear_deadline(deadline);
    const int64_t now_us = rp_monotonic_ns() / 1000;
    deadline->kind = kind;
    deadline->due_us = now_us + shard->server->duration_us[kind];
    TAILQ_INSERT_TAIL(&shard->deadlines[kind], deadline, link);
    if (!rp_timer_is_set(shard->timer) || deadline->due_us < shard->timer_due_us) {
        shard->timer_due_us = deadline->due_us;
        rp_timer_set(shard->timer, deadline->due_us - now_us);
    }
}

static void refuse_exchange(rp_http_connection *c, rp_http_refusal refusal);

static void
refuse_late(rp_http_connection *c)
{
    const rp_http_refusal late = { 408, "the request took too long to arrive" };
    clear_deadline(&c->read_deadline);
    if (c->exchange)
        refuse_exchange(c, late);
    else
        rp_http_refuse(c, late);
}

static void
pass_deadline(rp_http_connection *c, rp_http_deadline_kind kind)
{
    const bool nothing_came = c->scan.at == 0 && !c->exchange;
    switch (kind) {
    case RP_DEADLINE_HEAD:
    case RP_DEADLINE_BODY:
        if (c->closing || nothing_came || (c->exchange && c->exchange->begun)) {
            rp_http_connection_lose(c);
            return;
        }
        refuse_late(c);
        /* Who drips would drip on: close as soon as the reason has left. */
        c->must_linger = false;
        return;
    case RP_DEADLINE_WRITE: c->reset = true; break;
    default: break;
    }
    rp_http_connection_lose(c);
}

void
rp_http_expire(void *context)
{
    rp_http_shard *shard = context;
    const int64_t now_us = rp_monotonic_ns() / 1000;
    int64_t next_us = INT64_MAX;
    for (int kind = 0; kind < RP_DEADLINE_KINDS; kind++) {
        rp_http_deadline *first;
        while ((first = TAILQ_FIRST(&shard->deadlines[kind])) && first->due_us <= now_us)
            pass_deadline(first->connection, (rp_http_deadline_kind)kind);
    }
    for (int kind = 0; kind < RP_DEADLINE_KINDS; kind++) {
        const rp_http_deadline *first = TAILQ_FIRST(&shard->deadlines[kind]);
        if (first)
            next_us = RP_MIN(next_us, first->due_us);
    }
    if (next_us != INT64_MAX) {
        shard->timer_due_us = next_us;
        rp_timer_set(shard->timer, next_us - now_us);
    }
}

/* ---- sockets, plain and TLS ---------------------------------------------------------- */

enum { IO_AGAIN = -1, IO_END = -2, IO_BROKEN = -3 };

static ssize_t
judge_tls(rp_http_connection *c, int result)
{
    const int what = SSL_get_error(c->tls, result);
    ERR_clear_error();
    switch (what) {
    case SSL_ERROR_WANT_READ: return IO_AGAIN;
    case SSL_ERROR_WANT_WRITE: return IO_AGAIN;
    case SSL_ERROR_ZERO_RETURN: return IO_END;
    default:
        c->tls_broken = true; /* SSL_shutdown must not follow */
        return IO_BROKEN;
    }
}

static ssize_t
read_tls(rp_http_connection *c, char *out, size_t size)
{
    size_t have = 0;
    while (have < size) {
        const int n = SSL_read(c->tls, out + have, (int)(size - have));
        if (n > 0) {
            have += (size_t)n;
            continue;
        }
        c->tls_read_wants_write = SSL_get_error(c->tls, n) == SSL_ERROR_WANT_WRITE;
        const ssize_t verdict = judge_tls(c, n);
        if (!have)
            return verdict;
        /* The end comes again with the next call. */
        if (verdict != IO_AGAIN)
            event_active(&c->read_event, EV_READ, 1);
        return (ssize_t)have;
    }
    /* What OpenSSL holds the socket does not announce. */
    if (SSL_has_pending(c->tls))
        event_active(&c->read_event, EV_READ, 1);
    return (ssize_t)have;
}

static ssize_t
read_some(rp_http_connection *c, char *out, size_t size)
{
    if (c->tls)
        return read_tls(c, out, size);
    for (;;) {
        const ssize_t n = recv(c->fd, out, size, 0);
        if (n > 0)
            return n;
        if (n == 0)
            return IO_END;
        if (errno != EINTR)
            return errno == EAGAIN || errno == EWOULDBLOCK ? IO_AGAIN : IO_BROKEN;
    }
}

/* The first pieces as one TLS record. What was offered once is offered again, as
 * OpenSSL asks: the front of the output never changes while it waits. */
static ssize_t
write_tls(rp_http_connection *c)
{
    char *record = c->shard->scratch;
    size_t size = 0;
    const rp_http_piece *piece;
    TAILQ_FOREACH (piece, &c->output, link) {
        const size_t n = RP_MIN(piece->len, TLS_RECORD_SIZE - size);
        if (n)
            memcpy(record + size, piece->ptr, n);
        size += n;
        if (size == TLS_RECORD_SIZE)
            break;
    }
    const int n = SSL_write(c->tls, record, (int)size);
    return n > 0 ? n : judge_tls(c, n);
}

static ssize_t
write_some(rp_http_connection *c)
{
    if (c->tls)
        return write_tls(c);
    struct iovec parts[IOVECS_MAX];
    int count = 0;
    const rp_http_piece *piece;
    TAILQ_FOREACH (piece, &c->output, link) {
        if (count == IOVECS_MAX)
            break;
        if (piece->len)
            parts[count++] = (struct iovec){ (void *)(uintptr_t)piece->ptr, piece->len };
    }
    const struct msghdr message = { .msg_iov = parts, .msg_iovlen = (size_t)count };
    for (;;) {
        const ssize_t n = count == 1
                              ? send(c->fd, parts[0].iov_base, parts[0].iov_len, MSG_NOSIGNAL)
                              : sendmsg(c->fd, &message, MSG_NOSIGNAL);
        if (n >= 0)
            return n;
        if (errno != EINTR)
            return errno == EAGAIN || errno == EWOULDBLOCK ? IO_AGAIN : IO_BROKEN;
    }
}

/* ---- what is watched ------------------------------------------------------------------ */

static void on_readable(evutil_socket_t fd, short what, void *context);
static void on_writable(evutil_socket_t fd, short what, void *context);
static void on_close(evutil_socket_t fd, short what, void *context);

static void
watch_input(rp_http_connection *c)
{
    /* To be told of every byte we could not take would be a busy loop. */
    const size_t input_max =
        RP_MAX((size_t)RP_HTTP_SCRATCH_SIZE, c->shard->server->options.head_size_max);
    const bool full = c->input.len >= input_max && (c->exchange || c->output_size);
    const bool read = !c->at_end && !full && !(c->body_paused && c->exchange) &&
                      (!c->closing || c->lingering || c->exchange);
    const bool close_only = !read && !c->at_end && c->exchange;
    if (read == c->watches_read && close_only == c->watches_close)
        return;
    if (c->watches_read || c->watches_close)
        event_del(&c->read_event);
    c->watches_read = read;
    c->watches_close = close_only;
    if (!read && !close_only)
        return;
    event_assign(&c->read_event, rp_loop_base(c->shard->loop), c->fd,
                 (short)((read ? EV_READ : EV_CLOSED) | EV_PERSIST), read ? on_readable : on_close,
                 c);
    event_add(&c->read_event, NULL);
    if (read && c->tls && SSL_has_pending(c->tls))
        event_active(&c->read_event, EV_READ, 1);
}

static void
watch_output(rp_http_connection *c, bool wanted)
{
    if (wanted == c->watches_write)
        return;
    c->watches_write = wanted;
    if (wanted)
        event_add(&c->write_event, NULL);
    else
        event_del(&c->write_event);
}

/* ---- the end ---------------------------------------------------------------------------- */

static void
destroy(rp_http_connection *c)
{
    rp_http_shard *shard = c->shard;
    rp_exchange *exchange = c->exchange;
    assert(!exchange);
    (void)exchange;
    if (c->dirty)
        TAILQ_REMOVE(&shard->dirty, c, dirty_link);
    clear_deadline(&c->read_deadline);
    clear_deadline(&c->write_deadline);
    event_del(&c->read_event);
    event_del(&c->write_event);
    rp_http_output_drop_all(c);
    rp_buffer_fini(&c->input);
    if (c->tls) {
        if (!c->tls_broken && !c->reset)
            SSL_shutdown(c->tls);
        ERR_clear_error();
        SSL_free(c->tls);
    }
    if (c->reset) {
        const struct linger now = { .l_onoff = 1, .l_linger = 0 };
        setsockopt(c->fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    }
    close(c->fd);
    TAILQ_REMOVE(&shard->connections, c, link);
    free(c);
    atomic_fetch_sub(&shard->server->connection_count, 1);
    atomic_fetch_sub(&shard->connection_count, 1);
    rp_http_shard_finish_when_empty(shard);
}

void
rp_http_connection_lose(rp_http_connection *c)
{
    rp_exchange *exchange = c->exchange;
    if (exchange) {
        const rp_http_handler *handler = &c->shard->server->handler;
        if (exchange->announced && handler->on_gone)
            handler->on_gone(handler->context, exchange);
        /* The handler may have ended it in on_gone, against the contract but harmless. */
        if (c->exchange)
            rp_exchange_detach(exchange);
    }
    destroy(c);
}

/* The last reply has left. Closing with bytes unread makes the kernel reset the
 * connection, and a reset can overtake the reply; so read on for a while. */
static void
finish(rp_http_connection *c)
{
    if (c->at_end || !(c->must_linger || c->input.len)) {
        destroy(c);
        return;
    }
    rp_buffer_fini(&c->input);
    if (c->tls) {
        SSL_shutdown(c->tls);
        ERR_clear_error();
    }
    shutdown(c->fd, SHUT_WR);
    c->lingering = true;
    set_deadline(&c->read_deadline, RP_DEADLINE_LINGER);
    watch_input(c);
}

/* ---- requests ------------------------------------------------------------------------------ */

static void
announce(rp_http_connection *c, bool body_is_whole)
{
    rp_exchange *exchange = c->exchange;
    const rp_http_handler *handler = &c->shard->server->handler;
    if (exchange->body.len)
        exchange->request.body = rp_buffer_str(&exchange->body);
    exchange->request.body_is_whole = body_is_whole;
    if (body_is_whole)
        exchange->request.body_size = (int64_t)exchange->request.body.len;
    exchange->announced = true;
    handler->on_request(handler->context, exchange, &exchange->request);
}

static void
refuse_exchange(rp_http_connection *c, rp_http_refusal refusal)
{
    rp_exchange *exchange = c->exchange;
    const rp_http_handler *handler = &c->shard->server->handler;
    const bool begun = exchange->begun;
    clear_deadline(&c->read_deadline);
    if (exchange->announced && handler->on_gone)
        handler->on_gone(handler->context, exchange);
    if (c->exchange)
        rp_exchange_detach(exchange);
    if (begun) {
        c->doomed = true;
        rp_http_connection_mark(c);
    } else {
        rp_http_refuse(c, refusal);
    }
}

static bool
is_current(const rp_http_connection *c, const rp_exchange *exchange)
{
    return c->exchange == exchange && !c->doomed;
}

/* Take as much of `bytes`, which are the body's, as can be now, and return how much.
 * The exchange may be gone or the body paused then. */
static size_t
take_body(rp_http_connection *c, rp_str bytes)
{
    rp_exchange *exchange = c->exchange;
    const rp_http_server *server = c->shard->server;
    const rp_http_server_options *options = &server->options;
    if (bytes.len > options->body_size_max - exchange->body_received) {
        refuse_exchange(c, (rp_http_refusal){ 413, "the request body is too large" });
        return 0;
    }
    if (exchange->announced) {
        exchange->body_received += bytes.len;
        server->handler.on_body(server->handler.context, exchange, bytes, false);
        return bytes.len;
    }
    const size_t room = options->body_buffer_max - exchange->body.len;
    if (!room) {
        /* One byte more than can be collected: from here on in pieces. */
        if (server->handler.on_body)
            announce(c, false);
        else
            refuse_exchange(c, (rp_http_refusal){ 413, "the request body is too large" });
        return 0;
    }
    bytes.len = RP_MIN(room, bytes.len);
    rp_buffer_append(&exchange->body, bytes);
    exchange->body_received += bytes.len;
    if (rp_buffer_failed(&exchange->body) || !rp_exchange_account_body(exchange))
        refuse_exchange(c, (rp_http_refusal){ 503, "there is no memory for the request body" });
    return bytes.len;
}

static void
complete_body(rp_http_connection *c)
{
    rp_exchange *exchange = c->exchange;
    const rp_http_handler *handler = &c->shard->server->handler;
    exchange->body_complete = true;
    clear_deadline(&c->read_deadline);
    if (exchange->announced)
        handler->on_body(handler->context, exchange, (rp_str){ NULL, 0 }, true);
    else
        announce(c, true);
}

static void
take_counted(rp_http_connection *c, rp_str *input)
{
    rp_exchange *exchange = c->exchange;
    const uint64_t size = (uint64_t)exchange->request.body_size;
    const uint64_t left = size - exchange->body_received;
    const rp_str part = { input->ptr, (size_t)RP_MIN(left, (uint64_t)input->len) };
    const size_t taken = take_body(c, part);
    *input = (rp_str){ input->ptr + taken, input->len - taken };
    if (is_current(c, exchange) && exchange->body_received == size)
        complete_body(c);
}

static void
take_chunked(rp_http_connection *c, rp_str *input)
{
    rp_exchange *exchange = c->exchange;
    rp_str piece;
    switch (rp_http_chunks_feed(&exchange->chunks, input, &piece)) {
    case RP_HTTP_CHUNKS_MORE: return;
    case RP_HTTP_CHUNKS_END: complete_body(c); return;
    case RP_HTTP_CHUNKS_BAD:
        refuse_exchange(c, (rp_http_refusal){ 400, "the chunked body is not valid" });
        return;
    case RP_HTTP_CHUNKS_PIECE: {
        const size_t taken = take_body(c, piece);
        if (is_current(c, exchange))
            rp_http_chunks_unread(&exchange->chunks, input, piece.len - taken);
        return;
    }
    }
}

/* A whole head begins `input`, c->scan.at bytes long. */
static void
begin_exchange(rp_http_connection *c, rp_str *input)
{
    rp_http_shard *shard = c->shard;
    const rp_http_server_options *options = &shard->server->options;
    const rp_http_scan scan = c->scan;
    c->scan = (rp_http_scan){ 0 };
    rp_exchange *exchange = rp_exchange_make(c);
    /* The head, and the body if it is here, live as long as the exchange. */
    const rp_str head = { input->ptr + scan.start, scan.at - scan.start };
    *input = (rp_str){ input->ptr + scan.at, input->len - scan.at };
    const rp_str copy = exchange ? rp_arena_copy(&exchange->arena, head) : (rp_str){ NULL, 0 };
    rp_header *headers =
        exchange ? rp_arena_alloc(&exchange->arena, scan.line_count * sizeof *headers) : NULL;
    c->is_head = rp_str_starts_with(head, RP_STR("HEAD "));
    if (!copy.ptr || !headers) {
        if (exchange)
            rp_exchange_recycle(exchange);
        rp_http_refuse(c, (rp_http_refusal){ 503, "there is no memory for the request" });
        return;
    }
    rp_http_head parsed;
    rp_http_refusal refusal = rp_http_head_parse(copy, headers, scan.line_count, &parsed);
    if (!refusal.status && parsed.body_size > 0 &&
        (uint64_t)parsed.body_size > options->body_size_max)
        refusal = (rp_http_refusal){ 413, "the request body is too large" };
    if (refusal.status) {
        rp_exchange_recycle(exchange);
        rp_http_refuse(c, refusal);
        return;
    }
    c->exchange = exchange;
    exchange->chunked = parsed.body_size == RP_HTTP_BODY_CHUNKED;
    exchange->keep_alive = parsed.keep_alive;
    exchange->request = (rp_http_request){
        .method = parsed.method, .target = parsed.target, .path = parsed.path,
        .query = parsed.query, .headers = headers, .header_count = parsed.header_count,
        .http_1_0 = parsed.http_1_0, .body_size = parsed.body_size,
        .client_address = rp_str_of(c->address),
    };
    if (parsed.body_size >= 0 && input->len >= (size_t)parsed.body_size &&
        (size_t)parsed.body_size <= options->body_buffer_max) {
        const rp_str body = { input->ptr, (size_t)parsed.body_size };
        *input = (rp_str){ input->ptr + body.len, input->len - body.len };
        if (body.len)
            exchange->request.body = rp_arena_copy(&exchange->arena, body);
        if (body.len && !exchange->request.body.ptr)
            refuse_exchange(c, (rp_http_refusal){ 503, "there is no memory for the request" });
        else
            complete_body(c);
        return;
    }
    set_deadline(&c->read_deadline, RP_DEADLINE_BODY);
    if (parsed.expects_continue && !input->len) {
        rp_http_output_append(c, RP_STR("HTTP/1.1 100 Continue\r\n\r\n"));
        rp_http_connection_mark(c);
    }
}

/* Understand as much of `input` as can be now; the rest stays in it. */
static void
process(rp_http_connection *c, rp_str *input)
{
    const rp_http_server_options *options = &c->shard->server->options;
    while (input->len && !c->doomed) {
        rp_exchange *exchange = c->exchange;
        if (exchange) {
            if (exchange->body_complete || c->body_paused)
                return;
            if (exchange->chunked)
                take_chunked(c, input);
            else
                take_counted(c, input);
            continue;
        }
        if (c->closing || c->output_size > options->output_high_bytes)
            return;
        if (!rp_http_scan_feed(&c->scan, *input, options->head_size_max,
                               options->header_count_max))
            return;
        clear_deadline(&c->read_deadline);
        if (c->scan.refusal.status) {
            c->is_head = rp_str_starts_with(*input, RP_STR("HEAD "));
            rp_http_refuse(c, c->scan.refusal);
            return;
        }
        begin_exchange(c, input);
    }
}

/* Keep what process left of `bytes`, which may be c->input itself. */
static void
process_and_keep(rp_http_connection *c, rp_str bytes)
{
    const bool kept_before = c->input.len > 0;
    if (kept_before)
        rp_buffer_append(&c->input, bytes);
    rp_str rest = kept_before ? rp_buffer_str(&c->input) : bytes;
    if (rp_buffer_failed(&c->input)) {
        c->doomed = c->reset = true;
        rp_http_connection_mark(c);
        return;
    }
    process(c, &rest);
    if (!rest.len)
        rp_buffer_fini(&c->input);
    else if (kept_before)
        rp_buffer_drop_front(&c->input, c->input.len - rest.len);
    else
        rp_buffer_append(&c->input, rest);
}

/* What the connection waits for now, once everything that could be done is done. */
static void
set_read_deadline(rp_http_connection *c)
{
    if (c->exchange || c->closing || c->doomed) {
        /* A body's deadline runs from its head, an exchange has none of ours. */
        if (!c->exchange || c->exchange->body_complete || c->body_paused)
            clear_deadline(&c->read_deadline);
        else if (c->read_deadline.kind != RP_DEADLINE_BODY)
            set_deadline(&c->read_deadline, RP_DEADLINE_BODY);
        return;
    }
    const bool has_part = c->scan.at > 0 || c->input.len > 0;
    const rp_http_deadline_kind kind = has_part ? RP_DEADLINE_HEAD : RP_DEADLINE_IDLE;
    /* The head's deadline runs from its first byte: later ones do not move it. */
    if (c->read_deadline.kind != kind)
        set_deadline(&c->read_deadline, kind);
}

static void
on_readable(evutil_socket_t fd, short what, void *context)
{
    rp_http_connection *c = context;
    rp_http_shard *shard = c->shard;
    (void)fd;
    (void)what;
    const ssize_t n = read_some(c, shard->scratch, RP_HTTP_SCRATCH_SIZE);
    if (n == IO_AGAIN) {
        if (c->tls_read_wants_write)
            watch_output(c, true);
        return;
    }
    if (n == IO_BROKEN || (n == IO_END && (c->lingering || c->exchange || !c->output_size))) {
        c->at_end = true;
        rp_http_connection_lose(c);
        return;
    }
    if (n == IO_END) { /* the last reply is still on its way */
        c->at_end = c->closing = true;
        rp_http_connection_mark(c);
        return;
    }
    if (c->lingering)
        return;
    process_and_keep(c, (rp_str){ shard->scratch, (size_t)n });
    if (c->dirty)
        return; /* rp_http_settle does the rest */
    set_read_deadline(c);
    watch_input(c);
}

static void
on_close(evutil_socket_t fd, short what, void *context)
{
    (void)fd;
    (void)what;
    rp_http_connection_lose(context);
}

static void
on_writable(evutil_socket_t fd, short what, void *context)
{
    rp_http_connection *c = context;
    if (c->tls_read_wants_write) {
        c->tls_read_wants_write = false;
        watch_output(c, c->output_size > 0);
        on_readable(fd, what, context);
        return;
    }
    rp_http_connection_mark(c);
}

/* ---- the end of a turn ------------------------------------------------------------------------ */

void
rp_http_connection_mark(rp_http_connection *c)
{
    if (c->dirty)
        return;
    c->dirty = true;
    TAILQ_INSERT_TAIL(&c->shard->dirty, c, dirty_link);
    rp_loop_at_turn_end(c->shard->loop, &c->shard->settle_task);
}

static void
drop_sent(rp_http_connection *c, size_t size)
{
    c->output_size -= size;
    rp_http_piece *piece;
    while ((piece = TAILQ_FIRST(&c->output)) && piece->len <= size) {
        size -= piece->len;
        TAILQ_REMOVE(&c->output, piece, link);
        rp_http_piece_free(c->shard, piece);
    }
    if (size) {
        piece->ptr += size;
        piece->len -= size;
    }
}

/* Write what can be written. False: the connection is broken. */
static bool
flush(rp_http_connection *c)
{
    bool progress = false;
    while (c->output_size) {
        const ssize_t n = write_some(c);
        if (n == IO_AGAIN)
            break;
        if (n < 0)
            return false;
        progress = true;
        drop_sent(c, (size_t)n);
    }
    if (!c->output_size) {
        drop_sent(c, 0); /* empty pieces at the end */
        clear_deadline(&c->write_deadline);
    } else if (progress || c->write_deadline.kind == RP_DEADLINE_NONE) {
        set_deadline(&c->write_deadline, RP_DEADLINE_WRITE);
    }
    watch_output(c, c->output_size > 0 || c->tls_read_wants_write);
    return true;
}

/* Everything that what happened in this turn has made possible. May destroy it. */
static void
settle(rp_http_connection *c)
{
    const rp_http_server *server = c->shard->server;
    const bool written = c->lingering || flush(c);
    if (c->doomed) {
        c->reset |= c->output_size > 0;
        rp_http_connection_lose(c);
        return;
    }
    if (!written) {
        rp_http_connection_lose(c);
        return;
    }
    rp_exchange *exchange = c->exchange;
    if (exchange && exchange->full && c->output_size <= server->options.output_high_bytes / 2) {
        exchange->full = false;
        if (server->handler.on_drained)
            server->handler.on_drained(server->handler.context, exchange);
        if (c->dirty)
            return; /* it wrote: once more */
    }
    if (c->closing && !c->exchange) {
        clear_deadline(&c->read_deadline);
        if (!c->output_size && !c->lingering)
            finish(c);
        else
            watch_input(c);
        return;
    }
    if (c->input.len)
        process_and_keep(c, (rp_str){ NULL, 0 });
    if (c->dirty)
        return;
    if (!c->exchange && c->shard->draining && !c->output_size) {
        destroy(c);
        return;
    }
    set_read_deadline(c);
    watch_input(c);
}

void
rp_http_settle(void *context)
{
    rp_http_shard *shard = context;
    rp_http_connection *c;
    while ((c = TAILQ_FIRST(&shard->dirty))) {
        TAILQ_REMOVE(&shard->dirty, c, dirty_link);
        c->dirty = false;
        settle(c);
    }
}

void
rp_exchange_pause_body(rp_exchange *exchange, bool paused)
{
    rp_http_connection *c = exchange->connection;
    assert(c);
    c->body_paused = paused;
    rp_http_connection_mark(c);
}

/* ---- the beginning -------------------------------------------------------------------------------- */

void
rp_http_connection_adopt(rp_http_connection *c, SSL *tls)
{
    rp_http_shard *shard = c->shard;
    c->tls = tls;
    rp_buffer_init(&c->input, 0);
    TAILQ_INIT(&c->output);
    c->read_deadline = (rp_http_deadline){ .connection = c, .kind = RP_DEADLINE_NONE };
    c->write_deadline = c->read_deadline;
    TAILQ_INSERT_TAIL(&shard->connections, c, link);
    struct event_base *base = rp_loop_base(shard->loop);
    event_assign(&c->read_event, base, c->fd, EV_READ | EV_PERSIST, on_readable, c);
    event_assign(&c->write_event, base, c->fd, EV_WRITE | EV_PERSIST, on_writable, c);
    c->watches_read = true;
    if (event_add(&c->read_event, NULL) != 0 || shard->draining) {
        destroy(c);
        return;
    }
    /* A TLS handshake must come soon; who only connects may wait for its first request. */
    set_deadline(&c->read_deadline, tls ? RP_DEADLINE_HEAD : RP_DEADLINE_IDLE);
}

void
rp_http_shard_close_idle(rp_http_shard *shard)
{
    rp_http_connection *c, *next;
    for (c = TAILQ_FIRST(&shard->connections); c; c = next) {
        next = TAILQ_NEXT(c, link);
        if (!c->exchange && !c->output_size && !c->lingering && !c->dirty)
            destroy(c);
    }
}
