/* http_direct.c - HTTP/1.1 towards http:// addresses, over sockets of our own.
 *
 *   host       a name and port: its kept connections, and who waits for one
 *     channel    one connection; carries one fetch at a time
 *   fetch      one request: a channel, or a dial that makes one, or in the host's queue
 *
 * The shortest way is the usual one: a kept channel, the request with one send, the reply
 * with one receive, both parsed where they lie. What costs a request something beside
 * that: a look whether the channel is silent (an upstream that sends more than its
 * Content-Length says leaves bytes that would be taken for the next reply, which may be
 * another client's).
 *
 * - Requests leave at the end of the loop's turn, because rp_fetch_start must not call back.
 * - A handler may cancel its fetch from any callback. The channel is then `doomed`, and
 *   whoever is reading from it (`in_use`) destroys it afterwards: after each callback
 *   `channel->fetch` tells whether there is anything to go on with.
 * - Deadlines are looked at lazily: one timer for all, set to the earliest, and a byte that
 *   arrives only notes the time. When it fires, everybody is asked. */
#include "base/bytes.h"
#include "base/clock.h"
#include "net/http_client_internal.h"

#include <assert.h>
#include <errno.h>
#include <event2/event.h>
#include <event2/event_struct.h>
#include <linux/tcp.h> /* tcpi_bytes_acked, which glibc's header lacks */
#include <stdlib.h>
#include <sys/queue.h>
#include <sys/uio.h>
#include <unistd.h>

enum {
    SCRATCH_SIZE = 64 << 10,   /* one read */
    FETCHES_KEPT = 64,
    HEAD_KEPT = 8 << 10,       /* bytes of a request's head kept for the next; a guess */
    BODY_COPIED_MAX = 2 << 10, /* sent together with the head; a guess */
    HOSTS_MAX = 64,            /* unused ones beyond are forgotten; a guess */
    INTERIM_MAX = 32,          /* 1xx before the final head; a guess */
};

typedef struct channel channel;
typedef struct direct_fetch direct_fetch;
typedef TAILQ_HEAD(fetch_list, direct_fetch) fetch_list;
typedef TAILQ_HEAD(channel_list, channel) channel_list;
typedef struct host host;
typedef TAILQ_HEAD(host_list, host) host_list;

struct host {
    TAILQ_ENTRY(host) link;
    rp_direct *direct;
    char *authority;           /* owned */
    size_t authority_len;
    rp_dialer *dialer;         /* owned */
    channel_list idle;         /* the one used last first */
    fetch_list queue;          /* all channels are taken */
    size_t channel_count;      /* open, or being dialled */
    size_t fetch_count;
};

struct channel {
    TAILQ_ENTRY(channel) link;
    host *host;
    direct_fetch *fetch;       /* NULL: idle */
    int fd;
    bool is_idle;              /* in host->idle */
    bool watches_read, watches_write;
    bool in_use;               /* below us is a function that goes on using it */
    bool doomed;               /* ... and will destroy it */
    bool used;                 /* has carried a reply */
    struct event read_event, write_event;
    rp_buffer input;           /* bytes read and not taken yet */
    uint64_t sent;             /* bytes, ever */
    int64_t idle_until_us;
};

typedef enum reply_state { REPLY_HEAD, REPLY_COUNTED, REPLY_CHUNKED, REPLY_UNTIL_CLOSE } reply_state;

struct direct_fetch {
    rp_fetch base; /* first */
    TAILQ_ENTRY(direct_fetch) link, pending_link, queue_link;
    direct_fetch *next_kept;
    rp_direct *direct;
    host *host;
    channel *channel;
    rp_dial *dial;
    rp_buffer head;            /* of the request; perhaps with its body */
    size_t head_at;
    rp_str body;               /* lent: the whole of it, or the first part */
    size_t body_at;
    rp_buffer upload;          /* what follows the first part */
    size_t upload_at;
    uint64_t upload_left;      /* of a counted upload, still to be given to us */
    rp_http_scan scan;
    rp_http_chunks chunks;
    uint64_t reply_left;
    rp_fetch_patience patience;
    int64_t started_us, dialled_us;
    int64_t heard_us;          /* last byte of the reply that counts; 0: none yet */
    uint64_t sent_before;      /* channel->sent when this request began */
    const char *failure;       /* it ends so at the turn's end */
    int interim_count;
    reply_state state;
    bool is_pending, is_queued;
    bool wants_start, wants_data, wants_write, timed_out;
    bool is_head, is_repeatable;
    bool upload_in_pieces, upload_chunked, upload_last, upload_paused, in_want_body;
    bool request_sent, send_failed;
    bool fresh;                /* tried once already: no kept channel again */
    bool paused;
    bool keep_alive;
    int64_t keep_s;
};

struct rp_direct {
    rp_http_client *client;
    rp_loop *loop;
    rp_timer *timer;       /* owned */
    int64_t timer_due_us;  /* INT64_MAX: not set */
    rp_turn_task task;
    fetch_list fetches, pending;
    direct_fetch *kept;
    size_t kept_count;
    host_list hosts;       /* the one used last first */
    size_t host_count;
    char *scratch;         /* owned, SCRATCH_SIZE */
    rp_header *headers;    /* owned, RP_FETCH_HEADER_COUNT_MAX + 1 */
};

static int64_t
now_us(void)
{
    return rp_monotonic_ns() / 1000;
}

/* ---- addresses -------------------------------------------------------------------------- */

static bool
is_of(char c, const char *more)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
           (c && strchr(more, c));
}

static bool
parse_port(rp_str text, uint16_t *port)
{
    uint64_t number;
    if (!rp_str_to_u64(text, &number) || number == 0 || number > 65535)
        return false;
    *port = (uint16_t)number;
    return true;
}

static bool
parse_authority(rp_str authority, rp_direct_target *out)
{
    out->authority = authority;
    out->port = 80;
    rp_str rest = authority;
    if (rest.len && rest.ptr[0] == '[') {
        const char *end = memchr(rest.ptr, ']', rest.len);
        if (!end)
            return false;
        out->name = (rp_str){ rest.ptr + 1, (size_t)(end - rest.ptr) - 1 };
        for (size_t i = 0; i < out->name.len; i++)
            if (!is_of(out->name.ptr[i], ":."))
                return false;
        rest = (rp_str){ end + 1, rest.len - out->name.len - 2 };
        return out->name.len && (!rest.len || (rest.ptr[0] == ':' &&
               parse_port((rp_str){ rest.ptr + 1, rest.len - 1 }, &out->port)));
    }
    size_t len = 0;
    while (len < rest.len && is_of(rest.ptr[len], "-._"))
        len++;
    out->name = (rp_str){ rest.ptr, len };
    rest = (rp_str){ rest.ptr + len, rest.len - len };
    return len && len < 256 && (!rest.len || (rest.ptr[0] == ':' &&
           parse_port((rp_str){ rest.ptr + 1, rest.len - 1 }, &out->port)));
}

bool
rp_direct_parse(rp_str url, rp_direct_target *out)
{
    const rp_str scheme = RP_STR("http://");
    if (url.len <= scheme.len || url.len > 64 << 10 ||
        !rp_str_equal_ignoring_case((rp_str){ url.ptr, scheme.len }, scheme))
        return false;
    const rp_str rest = { url.ptr + scheme.len, url.len - scheme.len };
    size_t end = 0;
    while (end < rest.len && rest.ptr[end] != '/' && rest.ptr[end] != '?')
        end++;
    out->path = (rp_str){ rest.ptr + end, rest.len - end };
    for (size_t i = 0; i < out->path.len; i++)
        if (out->path.ptr[i] <= ' ' || out->path.ptr[i] >= 0x7F || out->path.ptr[i] == '#')
            return false;
    return parse_authority((rp_str){ rest.ptr, end }, out);
}

/* ---- deadlines ------------------------------------------------------------------------------ */

static void
wake_by(rp_direct *direct, int64_t due_us, int64_t now)
{
    if (due_us >= direct->timer_due_us)
        return;
    direct->timer_due_us = due_us;
    rp_timer_set(direct->timer, RP_MAX(due_us - now, (int64_t)0));
}

/* When the fetch times out as things stand; INT64_MAX: never. */
static int64_t
due_us(const direct_fetch *fetch)
{
    const rp_fetch_patience *patience = &fetch->patience;
    int64_t due = INT64_MAX;
    if (!fetch->heard_us)
        due = fetch->started_us + patience->first_byte_us;
    else if (!fetch->paused)
        due = fetch->heard_us + patience->idle_us;
    if (fetch->dial)
        due = RP_MIN(due, fetch->dialled_us + patience->connect_us);
    if (patience->total_us)
        due = RP_MIN(due, fetch->started_us + patience->total_us);
    return due;
}

static void
make_pending(direct_fetch *fetch)
{
    rp_direct *direct = fetch->direct;
    if (!fetch->is_pending) {
        fetch->is_pending = true;
        TAILQ_INSERT_TAIL(&direct->pending, fetch, pending_link);
    }
    rp_loop_at_turn_end(direct->loop, &direct->task);
}

static void destroy_channel(channel *c);

static int64_t
close_old_channels(host *h, int64_t now)
{
    int64_t next = INT64_MAX;
    channel *c, *following;
    for (c = TAILQ_FIRST(&h->idle); c; c = following) {
        following = TAILQ_NEXT(c, link);
        if (c->idle_until_us <= now)
            destroy_channel(c);
        else
            next = RP_MIN(next, c->idle_until_us);
    }
    return next;
}

static void
on_timer(void *context)
{
    rp_direct *direct = context;
    const int64_t now = now_us();
    int64_t next = INT64_MAX;
    direct->timer_due_us = INT64_MAX;
    direct_fetch *fetch;
    TAILQ_FOREACH (fetch, &direct->fetches, link) {
        const int64_t due = due_us(fetch);
        if (due > now) {
            next = RP_MIN(next, due);
        } else if (!fetch->timed_out) {
            fetch->timed_out = true;
            make_pending(fetch);
        }
    }
    host *h;
    TAILQ_FOREACH (h, &direct->hosts, link)
        next = RP_MIN(next, close_old_channels(h, now));
    if (next != INT64_MAX)
        wake_by(direct, next, now);
}

/* ---- hosts ------------------------------------------------------------------------------------ */

static void
free_host(host *h)
{
    rp_direct *direct = h->direct;
    channel *c;
    while ((c = TAILQ_FIRST(&h->idle)))
        destroy_channel(c);
    TAILQ_REMOVE(&direct->hosts, h, link);
    direct->host_count--;
    rp_dialer_free(h->dialer);
    free(h->authority);
    free(h);
}

static void
forget_unused_hosts(rp_direct *direct)
{
    host *h, *before;
    for (h = TAILQ_LAST(&direct->hosts, host_list); h && direct->host_count >= HOSTS_MAX; h = before) {
        before = TAILQ_PREV(h, host_list, link);
        if (!h->fetch_count)
            free_host(h);
    }
}

static host *
find_host(rp_direct *direct, const rp_direct_target *target)
{
    const rp_str authority = target->authority;
    host *h;
    TAILQ_FOREACH (h, &direct->hosts, link) {
        if (h->authority_len == authority.len &&
            memcmp(h->authority, authority.ptr, authority.len) == 0)
            break;
    }
    if (h && h != TAILQ_FIRST(&direct->hosts)) {
        TAILQ_REMOVE(&direct->hosts, h, link);
        TAILQ_INSERT_HEAD(&direct->hosts, h, link);
    }
    if (h)
        return h;
    forget_unused_hosts(direct);
    h = calloc(1, sizeof *h);
    if (!h)
        return NULL;
    h->direct = direct;
    h->authority = strndup(authority.ptr, authority.len);
    h->authority_len = authority.len;
    TAILQ_INIT(&h->idle);
    TAILQ_INIT(&h->queue);
    if (!h->authority ||
        rp_dialer_new(direct->loop, target->name, target->port, &h->dialer) != RP_OK) {
        free(h->authority);
        free(h);
        return NULL;
    }
    TAILQ_INSERT_HEAD(&direct->hosts, h, link);
    direct->host_count++;
    return h;
}

/* A channel, or room for one, may have become free. */
static void
serve_queue(host *h)
{
    direct_fetch *fetch = TAILQ_FIRST(&h->queue);
    if (!fetch || (TAILQ_EMPTY(&h->idle) &&
                   h->channel_count >= h->direct->client->connections_max))
        return;
    TAILQ_REMOVE(&h->queue, fetch, queue_link);
    fetch->is_queued = false;
    fetch->wants_start = true;
    make_pending(fetch);
}

/* ---- channels ----------------------------------------------------------------------------------- */

static void on_readable(evutil_socket_t fd, short what, void *context);
static void on_writable(evutil_socket_t fd, short what, void *context);

/* Without memory nothing is watched, and the deadlines end what waits for it. */
static void
watch(struct event *event, bool *watches, bool wanted)
{
    if (*watches == wanted)
        return;
    if (wanted)
        *watches = event_add(event, NULL) == 0;
    else
        *watches = event_del(event) != 0;
}

static channel *
open_channel(host *h, int fd)
{
    channel *c = calloc(1, sizeof *c);
    if (!c)
        return NULL;
    struct event_base *base = rp_loop_base(h->direct->loop);
    c->host = h;
    c->fd = fd;
    rp_buffer_init(&c->input, 0);
    event_assign(&c->read_event, base, fd, EV_READ | EV_PERSIST, on_readable, c);
    event_assign(&c->write_event, base, fd, EV_WRITE | EV_PERSIST, on_writable, c);
    watch(&c->read_event, &c->watches_read, true);
    return c;
}

static void
destroy_channel(channel *c)
{
    host *h = c->host;
    assert(!c->fetch && !c->in_use);
    if (c->is_idle)
        TAILQ_REMOVE(&h->idle, c, link);
    watch(&c->read_event, &c->watches_read, false);
    watch(&c->write_event, &c->watches_write, false);
    close(c->fd);
    rp_buffer_fini(&c->input);
    free(c);
    h->channel_count--;
    serve_queue(h);
}

/* It carries nothing any more, and never will. */
static void
retire(channel *c)
{
    c->fetch = NULL;
    if (c->in_use)
        c->doomed = true;
    else
        destroy_channel(c);
}

static void
keep(channel *c, int64_t keep_s)
{
    host *h = c->host;
    const int64_t now = now_us();
    int64_t seconds = RP_FETCH_CONNECTION_IDLE_S;
    /* A second less than the server says: its clock began earlier than ours. */
    if (keep_s >= 0)
        seconds = RP_MIN(seconds, keep_s - 1);
    c->fetch = NULL;
    c->used = true;
    if (seconds <= 0) {
        retire(c);
        return;
    }
    c->idle_until_us = now + seconds * RP_SECOND_US;
    c->is_idle = true;
    TAILQ_INSERT_HEAD(&h->idle, c, link);
    wake_by(h->direct, c->idle_until_us, now);
    serve_queue(h);
}

/* A kept channel that is silent and open, or NULL. */
static channel *
take_idle(host *h)
{
    channel *c;
    while ((c = TAILQ_FIRST(&h->idle))) {
        char byte;
        const ssize_t n = recv(c->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) {
            TAILQ_REMOVE(&h->idle, c, link);
            c->is_idle = false;
            return c;
        }
        destroy_channel(c);
    }
    return NULL;
}

/* ---- the life of a fetch --------------------------------------------------------------------------- */

static void
recycle(direct_fetch *fetch)
{
    rp_direct *direct = fetch->direct;
    host *h = fetch->host;
    assert(!fetch->channel && !fetch->dial);
    if (fetch->is_pending)
        TAILQ_REMOVE(&direct->pending, fetch, pending_link);
    if (fetch->is_queued)
        TAILQ_REMOVE(&h->queue, fetch, queue_link);
    TAILQ_REMOVE(&direct->fetches, fetch, link);
    h->fetch_count--;
    rp_buffer_fini(&fetch->upload);
    if (direct->kept_count == FETCHES_KEPT) {
        rp_buffer_fini(&fetch->head);
        free(fetch);
        return;
    }
    if (fetch->head.capacity > HEAD_KEPT)
        rp_buffer_fini(&fetch->head);
    fetch->next_kept = direct->kept;
    direct->kept = fetch;
    direct->kept_count++;
}

/* Let go of what it holds of a connection; the channel is closed. */
static void
detach(direct_fetch *fetch)
{
    channel *c = fetch->channel;
    fetch->channel = NULL;
    if (c)
        retire(c);
    if (fetch->dial) {
        rp_dial_cancel(fetch->dial);
        fetch->dial = NULL;
        fetch->host->channel_count--;
        serve_queue(fetch->host);
    }
}

/* The last callback. The fetch leaves every list first, so that the handler may start
 * another, or free what it likes. */
static void
conclude(direct_fetch *fetch, rp_fetch_result result, const char *detail)
{
    const rp_fetch_handler handler = fetch->base.handler;
    void *context = fetch->base.context;
    detach(fetch);
    recycle(fetch);
    handler.on_done(context, result, detail);
}

void
rp_direct_cancel(rp_fetch *base)
{
    direct_fetch *fetch = (direct_fetch *)base;
    detach(fetch);
    recycle(fetch);
}

/* ---- the request --------------------------------------------------------------------------------------- */

static char *
put(char *at, rp_str text)
{
    if (text.len)
        memcpy(at, text.ptr, text.len);
    return at + text.len;
}

static char *
put_field(char *at, rp_str name, rp_str value)
{
    at = put(at, name);
    at = put(at, value.len ? RP_STR(": ") : RP_STR(":"));
    at = put(at, value);
    return put(at, RP_STR("\r\n"));
}

/* Needs 32 bytes. */
static char *
put_number(char *at, uint64_t number, unsigned base)
{
    char digits[24];
    size_t n = sizeof digits;
    do
        digits[--n] = "0123456789abcdef"[number % base];
    while (number /= base);
    return put(at, (rp_str){ digits + n, sizeof digits - n });
}

static char *
put_framing(char *at, const direct_fetch *fetch, const rp_fetch_request *request)
{
    const uint64_t size = request->body_is_whole ? request->body.len : (uint64_t)request->body_size;
    if (fetch->upload_chunked)
        return put_field(at, RP_STR("Transfer-Encoding"), RP_STR("chunked"));
    /* RFC 9110 8.6: 0 is said where a body would be expected. */
    if (!size && !rp_str_equal(request->method, RP_STR("POST")) &&
        !rp_str_equal(request->method, RP_STR("PUT")) &&
        !rp_str_equal(request->method, RP_STR("PATCH")))
        return at;
    at = put(at, RP_STR("Content-Length: "));
    at = put_number(at, size, 10);
    return put(at, RP_STR("\r\n"));
}

static bool
write_head(direct_fetch *fetch, const rp_direct_target *target, const rp_fetch_request *request)
{
    const rp_str connection = rp_http_header(request->headers, request->header_count, "connection");
    size_t size = request->method.len + target->path.len + target->authority.len + 128;
    for (size_t i = 0; i < request->header_count; i++)
        size += request->headers[i].name.len + request->headers[i].value.len + 4;
    const bool with_body = request->body_is_whole && request->body.len <= BODY_COPIED_MAX;
    rp_buffer_clear(&fetch->head);
    char *at = rp_buffer_reserve(&fetch->head, size + (with_body ? request->body.len : 0));
    if (!at)
        return false;
    at = put(at, request->method);
    at = put(at, RP_STR(" "));
    if (!target->path.len || target->path.ptr[0] == '?')
        at = put(at, RP_STR("/"));
    at = put(at, target->path);
    at = put(at, RP_STR(" HTTP/1.1\r\n"));
    at = put_field(at, RP_STR("Host"), target->authority);
    for (size_t i = 0; i < request->header_count; i++) {
        const rp_header *field = &request->headers[i];
        if (rp_fetch_sends_field(field, connection))
            at = put_field(at, field->name, field->value);
    }
    at = put_framing(at, fetch, request);
    at = put(at, RP_STR("\r\n"));
    if (with_body) {
        at = put(at, request->body);
        fetch->body = (rp_str){ NULL, 0 };
    }
    fetch->head.len = (size_t)(at - fetch->head.ptr);
    assert(fetch->head.len <= fetch->head.capacity);
    if (fetch->upload_chunked && request->body.len) {
        char line[32];
        const char *end = put(put_number(line, request->body.len, 16), RP_STR("\r\n"));
        rp_buffer_append(&fetch->head, (rp_str){ line, (size_t)(end - line) });
        rp_buffer_append(&fetch->upload, RP_STR("\r\n"));
    }
    return !rp_buffer_failed(&fetch->head) && !rp_buffer_failed(&fetch->upload);
}

/* ---- sending ---------------------------------------------------------------------------------------------- */

static ssize_t
send_parts(channel *c)
{
    const direct_fetch *fetch = c->fetch;
    struct iovec parts[3];
    int count = 0;
    if (fetch->head_at < fetch->head.len)
        parts[count++] = (struct iovec){ fetch->head.ptr + fetch->head_at,
                                         fetch->head.len - fetch->head_at };
    if (fetch->body_at < fetch->body.len)
        parts[count++] = (struct iovec){ (void *)(uintptr_t)(fetch->body.ptr + fetch->body_at),
                                         fetch->body.len - fetch->body_at };
    if (fetch->upload_at < fetch->upload.len)
        parts[count++] = (struct iovec){ fetch->upload.ptr + fetch->upload_at,
                                         fetch->upload.len - fetch->upload_at };
    if (!count)
        return 0;
    const struct msghdr message = { .msg_iov = parts, .msg_iovlen = (size_t)count };
    for (;;) {
        const ssize_t n = count == 1
                              ? send(c->fd, parts[0].iov_base, parts[0].iov_len, MSG_NOSIGNAL)
                              : sendmsg(c->fd, &message, MSG_NOSIGNAL);
        if (n >= 0 || errno != EINTR)
            return n;
    }
}

static void
drop_sent(direct_fetch *fetch, size_t size)
{
    size_t n = RP_MIN(size, fetch->head.len - fetch->head_at);
    fetch->head_at += n;
    size -= n;
    n = RP_MIN(size, fetch->body.len - fetch->body_at);
    fetch->body_at += n;
    fetch->upload_at += size - n;
    if (fetch->upload_at == fetch->upload.len) {
        rp_buffer_clear(&fetch->upload);
        fetch->upload_at = 0;
    }
}

/* Everything given to us has left. Ask for more, if more is to come; true: there is. */
static bool
want_body(channel *c)
{
    direct_fetch *fetch = c->fetch;
    if (!fetch->upload_in_pieces || fetch->upload_last) {
        fetch->request_sent = true;
        return false;
    }
    if (fetch->base.handler.on_want_body) {
        fetch->in_want_body = true;
        fetch->base.handler.on_want_body(fetch->base.context);
        if (c->fetch != fetch)
            return false;
        fetch->in_want_body = false;
    }
    fetch->upload_paused = !fetch->upload.len && !fetch->upload_last;
    return !fetch->upload_paused;
}

static void
send_request(channel *c)
{
    direct_fetch *fetch = c->fetch;
    bool more = true;
    c->in_use = true;
    while (more && c->fetch == fetch && !fetch->send_failed) {
        const ssize_t n = send_parts(c);
        if (n > 0) {
            c->sent += (uint64_t)n;
            drop_sent(fetch, (size_t)n);
        }
        if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
            break;
        /* What is to be told about it the reading side will say: perhaps there is a reply. */
        fetch->send_failed = n < 0;
        const bool all = fetch->head_at == fetch->head.len && fetch->body_at == fetch->body.len &&
                         fetch->upload_at == fetch->upload.len;
        if (n >= 0 && all)
            more = want_body(c);
    }
    c->in_use = false;
    if (c->doomed) {
        destroy_channel(c);
        return;
    }
    const bool waits = more && !fetch->send_failed;
    watch(&c->write_event, &c->watches_write, waits);
}

static void
on_writable(evutil_socket_t fd, short what, void *context)
{
    channel *c = context;
    rp_http_client *client = c->host->direct->client;
    (void)fd;
    (void)what;
    rp_http_client_enter(client);
    if (c->fetch)
        send_request(c);
    rp_http_client_leave(client);
}

/* ---- a connection for it ------------------------------------------------------------------------------------ */

static void
attach(direct_fetch *fetch, channel *c)
{
    fetch->channel = c;
    fetch->sent_before = c->sent;
    c->fetch = fetch;
    send_request(c);
}

static void
on_dialled(void *context, int fd, const char *reason)
{
    direct_fetch *fetch = context;
    rp_http_client *client = fetch->base.client;
    host *h = fetch->host;
    rp_http_client_enter(client);
    fetch->dial = NULL;
    channel *c = fd >= 0 ? open_channel(h, fd) : NULL;
    if (c) {
        attach(fetch, c);
    } else {
        if (fd >= 0)
            close(fd);
        h->channel_count--;
        serve_queue(h);
        conclude(fetch, RP_FETCH_NO_CONNECTION, reason ? reason : "no memory");
    }
    rp_http_client_leave(client);
}

static void
begin(direct_fetch *fetch)
{
    rp_direct *direct = fetch->direct;
    host *h = fetch->host;
    channel *c = fetch->fresh ? NULL : take_idle(h);
    if (c) {
        attach(fetch, c);
        return;
    }
    if (h->channel_count >= direct->client->connections_max) {
        /* One that is only kept makes room for one that must be new. */
        c = TAILQ_LAST(&h->idle, channel_list);
        if (c)
            destroy_channel(c);
    }
    if (h->channel_count >= direct->client->connections_max) {
        fetch->is_queued = true;
        TAILQ_INSERT_TAIL(&h->queue, fetch, queue_link);
        return;
    }
    if (rp_dial_start(h->dialer, on_dialled, fetch, &fetch->dial) != RP_OK) {
        fetch->dial = NULL;
        conclude(fetch, RP_FETCH_NO_CONNECTION, "no memory");
        return;
    }
    h->channel_count++;
    fetch->dialled_us = now_us();
    wake_by(direct, due_us(fetch), fetch->dialled_us);
}

/* ---- the reply ------------------------------------------------------------------------------------------------ */

static void
fail(channel *c, const char *reason)
{
    conclude(c->fetch, RP_FETCH_BROKEN, reason);
}

/* The reply is whole; `rest` is what follows it, which should be nothing. */
static void
complete(channel *c, rp_str rest)
{
    direct_fetch *fetch = c->fetch;
    if (fetch->keep_alive && fetch->request_sent && !rest.len) {
        fetch->channel = NULL;
        keep(c, fetch->keep_s);
    }
    conclude(fetch, RP_FETCH_OK, "complete");
}

static void
take_framing(direct_fetch *fetch, const rp_http_reply *reply)
{
    fetch->keep_alive = reply->keep_alive;
    fetch->keep_s = reply->keep_s;
    fetch->state = reply->body_size == RP_HTTP_BODY_CHUNKED       ? REPLY_CHUNKED
                   : reply->body_size == RP_HTTP_BODY_UNTIL_CLOSE ? REPLY_UNTIL_CLOSE
                                                                  : REPLY_COUNTED;
    fetch->reply_left = fetch->state == REPLY_COUNTED ? (uint64_t)reply->body_size : 0;
}

/* True: go on with what follows. */
static bool
take_head(channel *c, rp_str *input)
{
    direct_fetch *fetch = c->fetch;
    rp_direct *direct = fetch->direct;
    if (!rp_http_scan_feed(&fetch->scan, *input, RP_FETCH_HEAD_SIZE_MAX, RP_FETCH_HEADER_COUNT_MAX))
        return false;
    if (fetch->scan.refusal.status) {
        fail(c, fetch->scan.refusal.reason);
        return false;
    }
    const rp_str head = { input->ptr, fetch->scan.at };
    *input = (rp_str){ input->ptr + head.len, input->len - head.len };
    rp_http_reply reply;
    const rp_http_refusal refusal = rp_http_reply_parse(head, fetch->is_head, direct->headers,
                                                        fetch->scan.line_count, &reply);
    if (refusal.status) {
        fail(c, refusal.reason);
        return false;
    }
    fetch->scan = (rp_http_scan){ .of_reply = true };
    if (reply.status < 200) {
        /* Nobody asked for another protocol, and nobody sends hints for ever. */
        if (reply.status != 101 && ++fetch->interim_count <= INTERIM_MAX)
            return true;
        fail(c, "the upstream answers without an end");
        return false;
    }
    take_framing(fetch, &reply);
    fetch->heard_us = now_us();
    fetch->base.handler.on_head(fetch->base.context, reply.status, reply.headers,
                                reply.header_count);
    if (c->fetch != fetch)
        return false;
    if (fetch->state != REPLY_COUNTED || fetch->reply_left)
        return true;
    complete(c, *input);
    return false;
}

/* Hand over `piece`, which is what *input begins with. True: taken, and go on. */
static bool
deliver(channel *c, rp_str piece)
{
    direct_fetch *fetch = c->fetch;
    const bool taken = fetch->base.handler.on_data(fetch->base.context, piece);
    if (c->fetch != fetch)
        return false;
    fetch->paused = !taken;
    return taken;
}

static bool
take_plain(channel *c, rp_str *input)
{
    direct_fetch *fetch = c->fetch;
    const bool counted = fetch->state == REPLY_COUNTED;
    const size_t size =
        counted ? (size_t)RP_MIN(fetch->reply_left, (uint64_t)input->len) : input->len;
    if (!deliver(c, (rp_str){ input->ptr, size }))
        return false;
    *input = (rp_str){ input->ptr + size, input->len - size };
    if (!counted || (fetch->reply_left -= size))
        return true;
    complete(c, *input);
    return false;
}

static bool
take_chunked(channel *c, rp_str *input)
{
    direct_fetch *fetch = c->fetch;
    rp_str piece;
    switch (rp_http_chunks_feed(&fetch->chunks, input, &piece)) {
    case RP_HTTP_CHUNKS_MORE: return false;
    case RP_HTTP_CHUNKS_END: complete(c, *input); return false;
    case RP_HTTP_CHUNKS_BAD: fail(c, "the chunked reply is not valid"); return false;
    case RP_HTTP_CHUNKS_PIECE: break;
    }
    if (deliver(c, piece))
        return true;
    if (c->fetch == fetch)
        rp_http_chunks_unread(&fetch->chunks, input, piece.len);
    return false;
}

static void
take_reply(channel *c, rp_str *input)
{
    bool more = true;
    while (more && input->len) {
        switch (c->fetch->state) {
        case REPLY_HEAD: more = take_head(c, input); break;
        case REPLY_CHUNKED: more = take_chunked(c, input); break;
        default: more = take_plain(c, input); break;
        }
    }
}

/* Take what can be taken of `bytes`, which follow what is kept in c->input. */
static void
feed(channel *c, rp_str bytes)
{
    const bool kept = c->input.len > 0;
    if (kept)
        rp_buffer_append(&c->input, bytes);
    rp_str rest = kept ? rp_buffer_str(&c->input) : bytes;
    c->in_use = true;
    if (rp_buffer_failed(&c->input))
        fail(c, "no memory for the reply");
    else
        take_reply(c, &rest);
    c->in_use = false;
    if (c->doomed) {
        destroy_channel(c);
        return;
    }
    if (!c->fetch || !rest.len)
        rp_buffer_fini(&c->input);
    else if (kept)
        rp_buffer_drop_front(&c->input, c->input.len - rest.len);
    else
        rp_buffer_append(&c->input, rest);
    if (rp_buffer_failed(&c->input)) {
        fail(c, "no memory for the reply");
        return;
    }
    watch(&c->read_event, &c->watches_read, !c->fetch || !c->fetch->paused);
}

/* The end that the other side sent confirms nothing of this request: it had closed before
 * the request came. (A reset proves nothing, because it confirms nothing in any case.) */
static bool
was_not_received(const channel *c)
{
    struct tcp_info info;
    socklen_t size = sizeof info;
    memset(&info, 0, sizeof info);
    if (getsockopt(c->fd, IPPROTO_TCP, TCP_INFO, &info, &size) != 0 ||
        size < offsetof(struct tcp_info, tcpi_bytes_acked) + sizeof info.tcpi_bytes_acked)
        return false;
    /* The handshake counts as one byte. */
    return info.tcpi_bytes_acked <= c->fetch->sent_before + 1;
}

static bool
may_repeat(const channel *c, bool in_order)
{
    const direct_fetch *fetch = c->fetch;
    if (!c->used || fetch->fresh || fetch->heard_us ||
        (fetch->upload_in_pieces && c->sent != fetch->sent_before))
        return false;
    return fetch->is_repeatable || c->sent == fetch->sent_before ||
           (in_order && was_not_received(c));
}

/* A kept connection turned out to be closed: once more, on a new one. */
static void
repeat(direct_fetch *fetch)
{
    detach(fetch);
    fetch->fresh = true;
    fetch->head_at = fetch->body_at = 0;
    fetch->request_sent = fetch->send_failed = false;
    begin(fetch);
}

static void
end_of_input(channel *c, bool in_order)
{
    direct_fetch *fetch = c->fetch;
    if (fetch->state == REPLY_UNTIL_CLOSE && in_order)
        complete(c, (rp_str){ NULL, 0 });
    else if (may_repeat(c, in_order))
        repeat(fetch);
    else
        fail(c, !fetch->heard_us ? "the upstream closed the connection without a reply"
                                 : "the reply broke off");
}

static void
on_readable(evutil_socket_t fd, short what, void *context)
{
    channel *c = context;
    rp_direct *direct = c->host->direct;
    rp_http_client *client = direct->client;
    (void)what;
    if (!c->fetch) { /* closed, or bytes nobody asked for */
        destroy_channel(c);
        return;
    }
    ssize_t n;
    do
        n = recv(fd, direct->scratch, SCRATCH_SIZE, 0);
    while (n < 0 && errno == EINTR);
    if (n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK))
        return;
    rp_http_client_enter(client);
    if (n <= 0) {
        end_of_input(c, n == 0);
    } else {
        direct_fetch *fetch = c->fetch;
        /* The first byte counts, then the whole head (take_head), then every byte: so who
         * drips a head has as long as one silence may be. */
        if (!fetch->heard_us || fetch->state != REPLY_HEAD) {
            const int64_t now = now_us();
            const bool is_first = !fetch->heard_us;
            fetch->heard_us = now;
            if (is_first)
                wake_by(direct, due_us(fetch), now);
        }
        feed(c, (rp_str){ direct->scratch, (size_t)n });
    }
    rp_http_client_leave(client);
}

/* ---- the end of a turn ------------------------------------------------------------------------------------------- */

static void
act_on(direct_fetch *fetch)
{
    channel *c = fetch->channel;
    if (fetch->failure) {
        conclude(fetch, RP_FETCH_BROKEN, fetch->failure);
    } else if (fetch->timed_out) {
        conclude(fetch, RP_FETCH_TIMEOUT, "timed out");
    } else if (fetch->wants_start) {
        fetch->wants_start = false;
        begin(fetch);
    } else {
        const bool data = fetch->wants_data && c;
        if (fetch->wants_write && c) {
            fetch->wants_write = false;
            if (data)
                make_pending(fetch); /* the other after this */
            send_request(c);
        } else if (data) {
            fetch->wants_data = false;
            feed(c, (rp_str){ NULL, 0 });
        }
    }
}

static void
on_turn_end(void *context)
{
    rp_direct *direct = context;
    rp_http_client *client = direct->client;
    direct_fetch *fetch;
    rp_http_client_enter(client);
    while ((fetch = TAILQ_FIRST(&direct->pending))) {
        TAILQ_REMOVE(&direct->pending, fetch, pending_link);
        fetch->is_pending = false;
        act_on(fetch);
    }
    rp_http_client_leave(client);
}

/* ---- the contract -------------------------------------------------------------------------------------------------- */

static direct_fetch *
take_fetch(rp_direct *direct)
{
    direct_fetch *fetch = direct->kept;
    rp_buffer head;
    if (fetch) {
        direct->kept = fetch->next_kept;
        direct->kept_count--;
        head = fetch->head;
    } else {
        fetch = malloc(sizeof *fetch);
        if (!fetch)
            return NULL;
        rp_buffer_init(&head, 0);
    }
    memset(fetch, 0, sizeof *fetch);
    fetch->head = head;
    fetch->direct = direct;
    rp_buffer_init(&fetch->upload, 0);
    return fetch;
}

rp_status
rp_direct_start(rp_direct *direct, const rp_direct_target *target, const rp_fetch_request *request,
                const rp_fetch_handler *handler, void *context, rp_fetch **out, rp_error *error)
{
    const bool counted = !request->body_is_whole && request->body_size > 0;
    if (!rp_http_is_token(request->method) || request->method.len >= 32 ||
        rp_str_equal(request->method, RP_STR("CONNECT")))
        return rp_fail(error, RP_ERR_INVALID, "the method is not valid");
    if (counted && request->body.len > (uint64_t)request->body_size)
        return rp_fail(error, RP_ERR_INVALID, "the body is longer than announced");
    host *h = find_host(direct, target);
    direct_fetch *fetch = h ? take_fetch(direct) : NULL;
    if (!fetch)
        return rp_fail(error, RP_ERR_NOMEM, "no memory for a request");
    fetch->base = (rp_fetch){ .client = direct->client, .handler = *handler, .context = context,
                              .is_direct = true };
    fetch->host = h;
    h->fetch_count++;
    TAILQ_INSERT_TAIL(&direct->fetches, fetch, link);
    fetch->scan.of_reply = true;
    fetch->patience = rp_fetch_patience_of(request);
    fetch->is_head = rp_str_equal(request->method, RP_STR("HEAD"));
    fetch->is_repeatable = rp_fetch_is_repeatable(request);
    fetch->upload_in_pieces = !request->body_is_whole;
    fetch->upload_chunked = fetch->upload_in_pieces && !counted;
    fetch->upload_left = counted ? (uint64_t)request->body_size - request->body.len : 0;
    fetch->body = request->body;
    if (!write_head(fetch, target, request)) {
        recycle(fetch);
        return rp_fail(error, RP_ERR_NOMEM, "no memory for a request");
    }
    fetch->started_us = now_us();
    wake_by(direct, due_us(fetch), fetch->started_us);
    fetch->wants_start = true;
    make_pending(fetch);
    *out = &fetch->base;
    return RP_OK;
}

void
rp_direct_resume(rp_fetch *base)
{
    direct_fetch *fetch = (direct_fetch *)base;
    if (!fetch->paused)
        return;
    fetch->paused = false;
    fetch->wants_data = true;
    /* The wait was ours: the idle time starts anew. */
    fetch->heard_us = now_us();
    wake_by(fetch->direct, due_us(fetch), fetch->heard_us);
    make_pending(fetch);
}

static void
append_upload(direct_fetch *fetch, rp_str bytes, bool last)
{
    if (fetch->upload_chunked && bytes.len) {
        char line[32];
        const char *end = put(put_number(line, bytes.len, 16), RP_STR("\r\n"));
        rp_buffer_append(&fetch->upload, (rp_str){ line, (size_t)(end - line) });
    }
    rp_buffer_append(&fetch->upload, bytes);
    if (fetch->upload_chunked && bytes.len)
        rp_buffer_append(&fetch->upload, RP_STR("\r\n"));
    if (fetch->upload_chunked && last)
        rp_buffer_append(&fetch->upload, RP_STR("0\r\n\r\n"));
}

bool
rp_direct_send(rp_fetch *base, rp_str bytes, bool last)
{
    direct_fetch *fetch = (direct_fetch *)base;
    if (fetch->upload_last || !fetch->upload_in_pieces)
        return true;
    if (!fetch->upload_chunked) {
        if (bytes.len > fetch->upload_left || (last && bytes.len < fetch->upload_left))
            fetch->failure = "the upload is not as long as announced";
        fetch->upload_left -= RP_MIN(fetch->upload_left, (uint64_t)bytes.len);
    }
    if (!fetch->failure)
        append_upload(fetch, bytes, last);
    if (rp_buffer_failed(&fetch->upload))
        fetch->failure = "no memory for the upload";
    fetch->upload_last = last;
    if (fetch->failure) {
        make_pending(fetch);
    } else if (fetch->upload_paused && !fetch->in_want_body) {
        fetch->upload_paused = false;
        fetch->wants_write = true;
        make_pending(fetch);
    }
    return fetch->upload.len - fetch->upload_at < RP_FETCH_UPLOAD_HIGH_BYTES;
}

rp_status
rp_direct_new(rp_http_client *client, rp_error *error)
{
    rp_direct *direct = calloc(1, sizeof *direct);
    if (!direct)
        return rp_fail(error, RP_ERR_NOMEM, "no memory for the HTTP client");
    direct->client = client;
    direct->loop = client->loop;
    direct->timer_due_us = INT64_MAX;
    direct->task = (rp_turn_task){ .call = on_turn_end, .context = direct };
    TAILQ_INIT(&direct->fetches);
    TAILQ_INIT(&direct->pending);
    TAILQ_INIT(&direct->hosts);
    direct->scratch = malloc(SCRATCH_SIZE);
    direct->headers = malloc((RP_FETCH_HEADER_COUNT_MAX + 1) * sizeof *direct->headers);
    if (!direct->scratch || !direct->headers ||
        rp_timer_new(direct->loop, on_timer, direct, &direct->timer) != RP_OK) {
        rp_direct_free(direct);
        return rp_fail(error, RP_ERR_NOMEM, "no memory for the HTTP client");
    }
    client->direct = direct;
    return RP_OK;
}

void
rp_direct_cancel_all(rp_direct *direct)
{
    direct_fetch *fetch;
    while (direct && (fetch = TAILQ_FIRST(&direct->fetches)))
        rp_direct_cancel(&fetch->base);
}

void
rp_direct_free(rp_direct *direct)
{
    if (!direct)
        return;
    host *h;
    while ((h = TAILQ_FIRST(&direct->hosts)))
        free_host(h);
    while (direct->kept) {
        direct_fetch *fetch = direct->kept;
        direct->kept = fetch->next_kept;
        rp_buffer_fini(&fetch->head);
        free(fetch);
    }
    rp_timer_free(direct->timer);
    rp_loop_forget_task(direct->loop, &direct->task);
    free(direct->scratch);
    free(direct->headers);
    free(direct);
}
