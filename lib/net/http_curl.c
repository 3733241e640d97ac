/* http_curl.c - fetches over libcurl's multi interface: TLS, HTTP/2, proxies.
 *
 * libcurl tells which sockets it watches and when it wants to be called; we tell it what
 * happened. Three rules keep the two apart:
 *
 * - A socket is known by its descriptor. libcurl may drop one and open another of the same
 *   number within one call, so a slot's event is deleted and set anew, never freed, inside
 *   its callback, and carries no pointer to anything of libcurl's.
 * - Nothing enters libcurl from inside one of its callbacks. What handlers ask for there
 *   (start, cancel, resume) is noted and done at the end of the loop's turn.
 * - Deadlines are ours. A fetch has one timer, looked at lazily: a byte that arrives only
 *   notes the time.
 *
 * libcurl repeats any request whose kept connection ended without a byte of a reply. A POST that
 * may have arrived must not arrive twice (RFC 9110 9.2.2), so before it is sent once more we look
 * at the connection it went out on: closed in order without confirming a byte of it, it was never
 * received. What the other side has refused unread (HTTP/2) is sent again too. Otherwise the fetch
 * ends as broken.
 *
 * An upstream that sends more than its Content-Length says leaves bytes in a kept-alive
 * connection that libcurl 7.88 would take for the next reply, which may be another
 * client's. So before a kept HTTP/1 connection is used again we look whether it is silent;
 * if not, the request goes out on a fresh one. */
#include "net/http_client_internal.h"
#include "base/arena.h"
#include "base/bytes.h"
#include "base/clock.h"

#include <assert.h>
#include <curl/curl.h>
#include <errno.h>
#include <event2/event.h>
#include <event2/event_struct.h>
#include <linux/sockios.h>
#include <linux/tcp.h> /* tcpi_bytes_acked, which glibc's header lacks */
#include <netinet/in.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <strings.h>
#include <sys/ioctl.h>
#include <sys/queue.h>
#include <sys/socket.h>
#include <unistd.h>

enum { EASY_KEPT = 64 };

typedef struct socket_slot {
    struct event event;
    bool watched;
    bool has_port;       /* socket_by_port leads here */
    bool must_be_silent; /* a reply of HTTP/1 has ended here, and nothing was asked since */
} socket_slot;

typedef struct curl_fetch curl_fetch;
typedef TAILQ_HEAD(fetch_list, curl_fetch) fetch_list;

struct rp_curl {
    rp_http_client *client;
    rp_loop *loop;
    CURLM *multi;   /* owned */
    CURLSH *share;  /* owned; TLS sessions, so that a new connection resumes */
    rp_timer *timer;
    rp_turn_task task;
    bool kick;      /* libcurl wants to be called now */
    int depth;      /* > 0: inside libcurl */
    socket_slot **slots; /* owned; by descriptor */
    size_t slot_count;
    int *socket_by_port; /* owned, 65536: the local port tells connections apart */
    fetch_list fetches, waiting; /* all; those with something for the turn's end */
    CURL *kept[EASY_KEPT];       /* easy handles with the common options set */
    size_t kept_count;
};

struct curl_fetch {
    rp_fetch base; /* first */
    TAILQ_ENTRY(curl_fetch) link, waiting_link;
    rp_curl *curl;
    CURL *easy;                 /* owned */
    struct curl_slist *headers; /* owned */
    rp_timer *timer; /* owned */
    int64_t started_us, heard_us; /* last byte of the reply; 0: none yet */
    rp_fetch_patience patience;
    bool waiting, added, wants_start, wants_cancel, wants_resume, timed_out;
    bool head_done, noisy, fresh;
    int local_port; /* of the connection in use; 0: none yet */
    bool is_repeatable;    /* as often as libcurl likes */
    bool asked;            /* it was let go out on local_port's connection, where */
    uint64_t sent_before;  /* so many bytes had been sent before */
    bool lost, unread;     /* that connection was closed; surely before the request came */
    unsigned stream;       /* of HTTP/2; 0: none */
    bool died, read_failed; /* on_words */
    bool refused;          /* the other side said that it had not looked at it (HTTP/2) */
    bool would_repeat;     /* it would have gone out twice */
    bool paused;           /* on_data said so */
    bool upload_paused, upload_last, upload_in_pieces, in_want_body;
    rp_buffer upload;      /* owned */
    size_t upload_at;
    rp_str first_part;     /* lent */
    rp_arena arena;        /* of the reply's head */
    int status;
    rp_header *reply_headers;
    size_t reply_header_count, reply_header_room;
};

static pthread_once_t curl_once = PTHREAD_ONCE_INIT;
static bool curl_works;

static void
init_curl(void)
{
    curl_works = curl_global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK;
}

static int64_t
now_us(void)
{
    return rp_monotonic_ns() / 1000;
}

/* ---- what libcurl asks for ---------------------------------------------------------- */

static void collect_done(rp_curl *curl);

static void
act(rp_curl *curl, curl_socket_t fd, int what)
{
    int running;
    rp_http_client_enter(curl->client);
    curl->depth++;
    curl_multi_socket_action(curl->multi, fd, what, &running);
    curl->depth--;
    collect_done(curl);
    rp_http_client_leave(curl->client);
}

static void
on_socket_event(evutil_socket_t fd, short what, void *context)
{
    act(context, fd, (what & EV_READ ? CURL_CSELECT_IN : 0) | (what & EV_WRITE ? CURL_CSELECT_OUT : 0));
}

static socket_slot *
find_slot(rp_curl *curl, curl_socket_t fd)
{
    const size_t i = (size_t)fd;
    if (i >= curl->slot_count) {
        const size_t count = RP_MAX(i + 1, curl->slot_count * 2);
        socket_slot **grown = realloc(curl->slots, count * sizeof(*grown));
        if (!grown)
            return NULL;
        memset(grown + curl->slot_count, 0, (count - curl->slot_count) * sizeof *grown);
        curl->slots = grown;
        curl->slot_count = count;
    }
    if (!curl->slots[i])
        curl->slots[i] = calloc(1, sizeof *curl->slots[i]);
    return curl->slots[i];
}

/* A new connection: whatever is known of its descriptor is of an older one. */
static curl_socket_t
open_socket(void *context, curlsocktype purpose, struct curl_sockaddr *address)
{
    (void)purpose;
    const int fd = socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
    socket_slot *slot = fd >= 0 ? find_slot(context, fd) : NULL;
    if (slot)
        slot->has_port = slot->must_be_silent = false;
    return fd < 0 ? CURL_SOCKET_BAD : fd;
}

/* ---- not twice ------------------------------------------------------------------------ */

static bool
look_at(int fd, struct tcp_info *out)
{
    socklen_t size = sizeof *out;
    memset(out, 0, sizeof *out);
    return getsockopt(fd, IPPROTO_TCP, TCP_INFO, out, &size) == 0 &&
           size >= offsetof(struct tcp_info, tcpi_bytes_acked) + sizeof out->tcpi_bytes_acked;
}

/* Bytes that were given to the connection so far. What cannot be known is taken for none, after
 * which everything looks received. */
static uint64_t
sent_on(int fd)
{
    struct tcp_info info;
    int queued = 0;
    if (!look_at(fd, &info) || ioctl(fd, SIOCOUTQ, &queued) != 0 || queued < 0)
        return 0;
    return info.tcpi_bytes_acked + (uint64_t)queued;
}

/* The other side has closed in order and confirmed nothing that was sent after `sent_before` (a
 * reset proves nothing: it confirms nothing in any case). The handshake counts as one byte. */
static bool
was_closed_unread(int fd, uint64_t sent_before)
{
    enum { CLOSE_WAIT = 8 };
    struct tcp_info info;
    return look_at(fd, &info) && info.tcpi_state == CLOSE_WAIT &&
           info.tcpi_bytes_acked <= sent_before + 1;
}

static bool
is_open(int fd)
{
    enum { ESTABLISHED = 1 };
    struct tcp_info info;
    return look_at(fd, &info) && info.tcpi_state == ESTABLISHED;
}

static unsigned
port_of(int fd)
{
    struct sockaddr_storage at;
    socklen_t size = sizeof at;
    if (getsockname(fd, (struct sockaddr *)&at, &size) != 0)
        return 0;
    return ntohs(at.ss_family == AF_INET    ? ((struct sockaddr_in *)&at)->sin_port
                 : at.ss_family == AF_INET6 ? ((struct sockaddr_in6 *)&at)->sin6_port
                                            : 0);
}

/* libcurl gives a connection up: what is known of it is known now. */
static int
close_socket(void *context, curl_socket_t fd)
{
    rp_curl *curl = context;
    const int port = (int)port_of(fd);
    curl_fetch *fetch;
    TAILQ_FOREACH(fetch, &curl->fetches, link)
        if (port && fetch->asked && !fetch->lost && fetch->local_port == port) {
            fetch->lost = true;
            fetch->unread =
                was_closed_unread(fd, fetch->sent_before) ||
                (fetch->stream && fetch->died && !fetch->read_failed && is_open(fd));
        }
    return close(fd);
}

/* libcurl wants to send a request that it has sent already. */
static bool
may_go_again(rp_curl *curl, const curl_fetch *fetch)
{
    if (fetch->is_repeatable || fetch->refused)
        return true;
    if (fetch->lost)
        return fetch->unread;
    const int fd = curl->socket_by_port[fetch->local_port & 0xFFFF];
    return fd >= 0 && (int)port_of(fd) == fetch->local_port &&
           (is_open(fd) || was_closed_unread(fd, fetch->sent_before));
}

static void
note_port(rp_curl *curl, socket_slot *slot, int fd)
{
    const unsigned port = port_of(fd);
    if (!port)
        return; /* not bound yet: libcurl will wish again */
    curl->socket_by_port[port] = fd;
    slot->has_port = true;
}

static int
on_socket_wish(CURL *easy, curl_socket_t fd, int what, void *context, void *slot_unused)
{
    rp_curl *curl = context;
    (void)easy;
    (void)slot_unused;
    socket_slot *slot = find_slot(curl, fd);
    if (!slot)
        return -1;
    if (slot->watched)
        event_del(&slot->event);
    slot->watched = false;
    if (what == CURL_POLL_REMOVE || what == CURL_POLL_NONE)
        return 0;
    const short wanted = (short)((what & CURL_POLL_IN ? EV_READ : 0) |
                                 (what & CURL_POLL_OUT ? EV_WRITE : 0) | EV_PERSIST);
    event_assign(&slot->event, rp_loop_base(curl->loop), fd, wanted, on_socket_event, curl);
    slot->watched = event_add(&slot->event, NULL) == 0;
    if (!slot->has_port)
        note_port(curl, slot, fd);
    return slot->watched ? 0 : -1;
}

static int
on_timer_wish(CURLM *multi, long timeout_ms, void *context)
{
    rp_curl *curl = context;
    (void)multi;
    if (timeout_ms < 0) {
        rp_timer_clear(curl->timer);
    } else if (timeout_ms == 0) {
        curl->kick = true;
        rp_loop_at_turn_end(curl->loop, &curl->task);
    } else {
        rp_timer_set(curl->timer, (int64_t)timeout_ms * 1000);
    }
    return 0;
}

static void
on_curl_timer(void *context)
{
    act(context, CURL_SOCKET_TIMEOUT, 0);
}

/* ---- the life of a fetch ---------------------------------------------------------------- */

static void
wait_for_turn_end(curl_fetch *fetch)
{
    rp_curl *curl = fetch->curl;
    if (!fetch->waiting) {
        fetch->waiting = true;
        TAILQ_INSERT_TAIL(&curl->waiting, fetch, waiting_link);
    }
    rp_loop_at_turn_end(curl->loop, &curl->task);
}

/* Outside libcurl only. */
static void
destroy(curl_fetch *fetch)
{
    rp_curl *curl = fetch->curl;
    assert(curl->depth == 0);
    if (fetch->waiting)
        TAILQ_REMOVE(&curl->waiting, fetch, waiting_link);
    TAILQ_REMOVE(&curl->fetches, fetch, link);
    if (fetch->added) {
        curl->depth++; /* it may close sockets and call us about them */
        curl_multi_remove_handle(curl->multi, fetch->easy);
        curl->depth--;
    }
    if (fetch->easy) {
        curl_easy_setopt(fetch->easy, CURLOPT_HTTPHEADER, NULL);
        curl_easy_setopt(fetch->easy, CURLOPT_POSTFIELDS, NULL);
        if (curl->kept_count < EASY_KEPT)
            curl->kept[curl->kept_count++] = fetch->easy;
        else
            curl_easy_cleanup(fetch->easy);
    }
    curl_slist_free_all(fetch->headers);
    rp_timer_free(fetch->timer);
    rp_buffer_fini(&fetch->upload);
    rp_arena_fini(&fetch->arena);
    free(fetch);
}

static rp_fetch_result
result_of(const curl_fetch *fetch, CURLcode code)
{
    if (fetch->timed_out)
        return RP_FETCH_TIMEOUT;
    switch (code) {
    case CURLE_OK: return fetch->head_done ? RP_FETCH_OK : RP_FETCH_BROKEN;
    case CURLE_OPERATION_TIMEDOUT: return RP_FETCH_TIMEOUT;
    case CURLE_COULDNT_RESOLVE_PROXY:
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_CONNECT:
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_SSL_CERTPROBLEM:
    case CURLE_SSL_CIPHER:
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_ISSUER_ERROR:
    case CURLE_SSL_CACERT_BADFILE:
    case CURLE_URL_MALFORMAT:
    case CURLE_PROXY: return RP_FETCH_NO_CONNECTION;
    default: return RP_FETCH_BROKEN;
    }
}

/* The last callback. The fetch leaves every list first, so that the handler may start
 * another, or free what it likes. */
static void
conclude(curl_fetch *fetch, rp_fetch_result result, const char *detail)
{
    const rp_fetch_handler handler = fetch->base.handler;
    void *context = fetch->base.context;
    destroy(fetch);
    handler.on_done(context, result, detail);
}

static bool
enter(curl_fetch *fetch)
{
    rp_curl *curl = fetch->curl;
    curl->depth++; /* it asks for a call at once */
    fetch->added = curl_multi_add_handle(curl->multi, fetch->easy) == CURLM_OK;
    curl->depth--;
    return fetch->added;
}

static socket_slot *
slot_of_port(rp_curl *curl, int local_port)
{
    const int fd = curl->socket_by_port[local_port & 0xFFFF];
    return fd >= 0 && (size_t)fd < curl->slot_count ? curl->slots[fd] : NULL;
}

/* The connection had bytes nobody asked for, or was given notice: the request was not sent, or
 * not looked at. Again, elsewhere. */
static bool
start_afresh(curl_fetch *fetch)
{
    rp_curl *curl = fetch->curl;
    curl->depth++;
    curl_multi_remove_handle(curl->multi, fetch->easy);
    curl->depth--;
    fetch->added = fetch->noisy = fetch->asked = fetch->refused = false;
    fetch->fresh = true;
    curl_easy_setopt(fetch->easy, CURLOPT_FRESH_CONNECT, 1L);
    return enter(fetch);
}

static void
note_silence(curl_fetch *fetch)
{
    long version = 0;
    socket_slot *slot = fetch->local_port ? slot_of_port(fetch->curl, fetch->local_port) : NULL;
    curl_easy_getinfo(fetch->easy, CURLINFO_HTTP_VERSION, &version);
    if (slot)
        slot->must_be_silent = version == CURL_HTTP_VERSION_1_1 || version == CURL_HTTP_VERSION_1_0;
}

/* That an HTTP/2 stream was refused unread libcurl says in words only, and of a kept connection not
 * even so: "died" is then one that it gives up while it is open and nothing was wrong with it
 * (close_socket looks). Should the words change, such a request ends as broken. */
static int
on_words(CURL *easy, curl_infotype type, char *text, size_t size, void *context)
{
    curl_fetch *fetch = context;
    char words[128];
    unsigned number;
    (void)easy;
    if (type != CURLINFO_TEXT)
        return 0;
    const size_t len = RP_MIN(size, sizeof words - 1);
    memcpy(words, text, len);
    words[len] = '\0';
    const char *last = strstr(words, "last_stream=");
    if (sscanf(words, "Using Stream ID: %u", &number) == 1)
        fetch->stream = number;
    else if (strstr(words, "SSL_read"))
        fetch->read_failed = true;
    else if (strstr(words, "Connection died"))
        fetch->died = true;
    else if (strstr(words, "REFUSED_STREAM"))
        fetch->refused = true;
    else if (strstr(words, "GOAWAY") && last && sscanf(last, "last_stream=%u", &number) == 1)
        fetch->refused = fetch->stream > number; /* RFC 9113, 6.8: not looked at */
    return 0;
}

/* libcurl is about to send the request on the connection with this local port. */
static int
on_before_request(void *context, char *remote, char *local, int remote_port, int local_port)
{
    curl_fetch *fetch = context;
    rp_curl *curl = fetch->curl;
    long connects = 0;
    (void)remote;
    (void)local;
    (void)remote_port;
    if (fetch->asked && !may_go_again(curl, fetch)) {
        fetch->would_repeat = true;
        return CURL_PREREQFUNC_ABORT;
    }
    fetch->asked = fetch->lost = false;
    fetch->local_port = local_port & 0xFFFF;
    curl_easy_getinfo(fetch->easy, CURLINFO_NUM_CONNECTS, &connects);
    socket_slot *slot = slot_of_port(curl, local_port);
    const int fd = curl->socket_by_port[fetch->local_port];
    const bool is_kept = connects == 0 && slot && slot->must_be_silent;
    char byte;
    if (is_kept) {
        const ssize_t n = recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
        if (n >= 0 || (errno != EAGAIN && errno != EWOULDBLOCK)) {
            fetch->noisy = true;
            return CURL_PREREQFUNC_ABORT;
        }
        slot->must_be_silent = false;
    }
    /* Listened to until the first byte; an HTTP/1 connection has nothing to say. */
    fetch->refused = fetch->died = fetch->read_failed = false;
    fetch->stream = 0;
    if (!is_kept)
        curl_easy_setopt(fetch->easy, CURLOPT_VERBOSE, 1L);
    fetch->asked = true;
    fetch->sent_before = fd >= 0 ? sent_on(fd) : 0;
    return CURL_PREREQFUNC_OK;
}

static void
collect_done(rp_curl *curl)
{
    if (curl->depth > 0)
        return;
    int left;
    const CURLMsg *message;
    while (!curl->client->wants_free && (message = curl_multi_info_read(curl->multi, &left))) {
        char *private = NULL;
        if (message->msg != CURLMSG_DONE)
            continue;
        const CURLcode code = message->data.result;
        curl_easy_getinfo(message->easy_handle, CURLINFO_PRIVATE, &private);
        curl_fetch *fetch = (curl_fetch *)(void *)private;
        if (fetch->wants_cancel) {
            destroy(fetch);
            continue;
        }
        const bool again = fetch->noisy || (fetch->refused && code != CURLE_OK &&
                                            !fetch->heard_us && !fetch->upload_in_pieces);
        if (again && !fetch->fresh && start_afresh(fetch))
            continue;
        if (code == CURLE_OK)
            note_silence(fetch);
        conclude(fetch, result_of(fetch, code),
                 fetch->timed_out      ? "timed out"
                 : fetch->would_repeat ? "the connection ended without a reply; not sent again"
                                       : curl_easy_strerror(code));
    }
}

static void
unpause(curl_fetch *fetch)
{
    const int still = (fetch->paused ? CURLPAUSE_RECV : 0) |
                      (fetch->upload_paused ? CURLPAUSE_SEND : 0);
    fetch->curl->depth++; /* it delivers what it had kept */
    curl_easy_pause(fetch->easy, still);
    fetch->curl->depth--;
}

static void
run_waiting(rp_curl *curl)
{
    curl_fetch *fetch;
    while ((fetch = TAILQ_FIRST(&curl->waiting))) {
        TAILQ_REMOVE(&curl->waiting, fetch, waiting_link);
        fetch->waiting = false;
        if (fetch->wants_cancel) {
            destroy(fetch);
        } else if (fetch->timed_out) {
            conclude(fetch, RP_FETCH_TIMEOUT, "timed out");
        } else if (fetch->wants_start) {
            fetch->wants_start = false;
            if (!enter(fetch))
                conclude(fetch, RP_FETCH_NO_CONNECTION, "no memory");
        } else if (fetch->wants_resume && fetch->added) {
            fetch->wants_resume = false;
            unpause(fetch);
        }
    }
}

/* The end of a turn: what was noted meanwhile enters libcurl. */
static void
on_turn_end(void *context)
{
    rp_curl *curl = context;
    rp_http_client_enter(curl->client);
    run_waiting(curl);
    if (curl->kick && !curl->client->wants_free) {
        curl->kick = false;
        act(curl, CURL_SOCKET_TIMEOUT, 0);
    } else {
        collect_done(curl);
    }
    rp_http_client_leave(curl->client);
}

/* ---- deadlines ------------------------------------------------------------------------------ */

/* When the fetch times out as things stand; INT64_MAX: never. */
static int64_t
due_us(const curl_fetch *fetch)
{
    int64_t due = INT64_MAX;
    if (!fetch->heard_us)
        due = fetch->started_us + fetch->patience.first_byte_us;
    else if (!fetch->paused)
        due = fetch->heard_us + fetch->patience.idle_us;
    if (fetch->patience.total_us)
        due = RP_MIN(due, fetch->started_us + fetch->patience.total_us);
    return due;
}

static void
on_deadline(void *context)
{
    curl_fetch *fetch = context;
    const int64_t due = due_us(fetch), now = now_us();
    if (due <= now) {
        fetch->timed_out = true;
        wait_for_turn_end(fetch);
    } else {
        /* While paused nothing may be due; rp_fetch_resume sets it again. */
        if (due != INT64_MAX)
            rp_timer_set(fetch->timer, due - now);
    }
}

/* A byte was heard. The timer that waits for the first may be later than the idle
 * deadline that holds from now on. */
static void
note_heard(curl_fetch *fetch)
{
    const bool first = !fetch->heard_us;
    fetch->heard_us = now_us();
    if (first && (fetch->patience.idle_us < fetch->patience.first_byte_us))
        rp_timer_set(fetch->timer, due_us(fetch) - fetch->heard_us);
}

/* ---- the reply ---------------------------------------------------------------------------------- */

static bool
take_status_line(curl_fetch *fetch, rp_str line)
{
    /* "HTTP/1.1 200 OK" or "HTTP/2 200": libcurl has checked the form. */
    rp_str_split(&line, ' ');
    uint64_t status;
    if (!rp_str_to_u64(rp_str_split(&line, ' '), &status) || status < 100 || status > 999)
        return false;
    rp_arena_reset(&fetch->arena);
    fetch->status = (int)status;
    fetch->reply_header_count = fetch->reply_header_room = 0;
    fetch->reply_headers = NULL;
    return true;
}

/* Room for one more. The table left behind goes with the arena. */
static bool
make_header_room(curl_fetch *fetch)
{
    if (fetch->reply_header_count < fetch->reply_header_room)
        return true;
    const size_t room = RP_MAX(fetch->reply_header_room * 2, (size_t)24);
    rp_header *grown = room <= RP_FETCH_HEADER_COUNT_MAX
                           ? rp_arena_alloc(&fetch->arena, room * sizeof *grown)
                           : NULL;
    if (!grown)
        return false;
    if (fetch->reply_header_count)
        memcpy(grown, fetch->reply_headers, fetch->reply_header_count * sizeof *grown);
    fetch->reply_headers = grown;
    fetch->reply_header_room = room;
    return true;
}

static bool
take_field(curl_fetch *fetch, rp_str line)
{
    const char *colon = line.len ? memchr(line.ptr, ':', line.len) : NULL;
    const rp_str name = { line.ptr, colon ? (size_t)(colon - line.ptr) : 0 };
    /* What is no field (a folded line) is not passed on. */
    if (!rp_http_is_token(name))
        return true;
    if (!make_header_room(fetch))
        return false;
    const rp_str value = rp_str_trimmed((rp_str){ colon + 1, line.len - name.len - 1 });
    const rp_header copy = { rp_arena_copy(&fetch->arena, name),
                             rp_arena_copy(&fetch->arena, value) };
    fetch->reply_headers[fetch->reply_header_count++] = copy;
    return !rp_arena_failed(&fetch->arena);
}

/* As for our own parser (decide_reply_framing): two readings of where a reply ends are none.
 * libcurl takes one of them, and the head that we pass on may name the other. */
static bool
is_framing_sound(const curl_fetch *fetch)
{
    const rp_header *length = NULL, *coding = NULL;
    for (size_t i = 0; i < fetch->reply_header_count; i++) {
        const rp_header *field = &fetch->reply_headers[i];
        uint64_t size;
        if (rp_str_equal_ignoring_case(field->name, RP_STR("content-length"))) {
            if (!rp_str_to_u64(field->value, &size) ||
                (length && !rp_str_equal(length->value, field->value)))
                return false;
            length = field;
        } else if (rp_str_equal_ignoring_case(field->name, RP_STR("transfer-encoding"))) {
            if (coding || !rp_str_equal_ignoring_case(field->value, RP_STR("chunked")))
                return false;
            coding = field;
        }
    }
    return !length || !coding;
}

static size_t
on_header_line(char *bytes, size_t size, size_t count, void *context)
{
    curl_fetch *fetch = context;
    const size_t len = size * count; /* libcurl's own, never near overflow */
    rp_str line = { bytes, len };
    if (fetch->wants_cancel)
        return 0;
    /* The first line, and then the whole head, count as heard: the lines between, which
     * come together unless somebody drips, do not. */
    if (!fetch->heard_us) {
        note_heard(fetch);
        curl_easy_setopt(fetch->easy, CURLOPT_VERBOSE, 0L);
    }
    if (fetch->head_done)
        return len; /* a trailer */
    while (line.len && (line.ptr[line.len - 1] == '\n' || line.ptr[line.len - 1] == '\r'))
        line.len--;
    if (rp_str_starts_with(line, RP_STR("HTTP/")))
        return take_status_line(fetch, line) ? len : 0;
    if (line.len)
        return take_field(fetch, line) ? len : 0;
    if (fetch->status < 200)
        return len; /* the final head is still to come */
    if (!is_framing_sound(fetch))
        return 0;
    fetch->head_done = true;
    note_heard(fetch);
    fetch->base.handler.on_head(fetch->base.context, fetch->status, fetch->reply_headers,
                           fetch->reply_header_count);
    return fetch->wants_cancel ? 0 : len;
}

static size_t
on_body_bytes(char *bytes, size_t size, size_t count, void *context)
{
    curl_fetch *fetch = context;
    const size_t len = size * count;
    if (fetch->wants_cancel || !fetch->head_done)
        return 0;
    note_heard(fetch);
    if (fetch->base.handler.on_data(fetch->base.context, (rp_str){ bytes, len }))
        return fetch->wants_cancel ? 0 : len;
    if (fetch->wants_cancel)
        return 0;
    fetch->paused = true;
    return CURL_WRITEFUNC_PAUSE;
}

/* ---- the upload ------------------------------------------------------------------------------------ */

static size_t
take_upload(curl_fetch *fetch, char *out, size_t room)
{
    if (fetch->first_part.len) {
        const size_t n = RP_MIN(room, fetch->first_part.len);
        memcpy(out, fetch->first_part.ptr, n);
        fetch->first_part = (rp_str){ fetch->first_part.ptr + n, fetch->first_part.len - n };
        return n;
    }
    const size_t n = RP_MIN(room, fetch->upload.len - fetch->upload_at);
    if (n)
        memcpy(out, fetch->upload.ptr + fetch->upload_at, n);
    fetch->upload_at += n;
    if (fetch->upload_at == fetch->upload.len) {
        rp_buffer_clear(&fetch->upload);
        fetch->upload_at = 0;
    }
    return n;
}

static size_t
on_upload_wish(char *out, size_t size, size_t count, void *context)
{
    curl_fetch *fetch = context;
    const size_t room = size * count;
    size_t n = fetch->wants_cancel ? 0 : take_upload(fetch, out, room);
    if (!n && !fetch->upload_last && !fetch->wants_cancel && fetch->base.handler.on_want_body) {
        fetch->in_want_body = true;
        fetch->base.handler.on_want_body(fetch->base.context);
        fetch->in_want_body = false;
        n = fetch->wants_cancel ? 0 : take_upload(fetch, out, room);
    }
    if (fetch->wants_cancel)
        return CURL_READFUNC_ABORT;
    if (n || fetch->upload_last)
        return n;
    fetch->upload_paused = true;
    return CURL_READFUNC_PAUSE;
}

bool
rp_curl_send(rp_fetch *base, rp_str bytes, bool last)
{
    curl_fetch *fetch = (curl_fetch *)base;
    if (fetch->upload_at == fetch->upload.len) {
        rp_buffer_clear(&fetch->upload);
        fetch->upload_at = 0;
    }
    rp_buffer_append(&fetch->upload, bytes);
    fetch->upload_last |= last;
    if (fetch->upload_paused && !fetch->in_want_body) {
        fetch->upload_paused = false;
        fetch->wants_resume = true;
        wait_for_turn_end(fetch);
    }
    return fetch->upload.len - fetch->upload_at < RP_FETCH_UPLOAD_HIGH_BYTES;
}

/* ---- starting ---------------------------------------------------------------------------------------- */

static bool
append_line(struct curl_slist **list, const char *line)
{
    struct curl_slist *grown = curl_slist_append(*list, line);
    if (!grown)
        return false;
    *list = grown;
    return true;
}

static bool
append_field(struct curl_slist **list, const rp_header *field)
{
    char small[1024];
    const size_t size = field->name.len + field->value.len + 4;
    char *line = size <= sizeof small ? small : malloc(size);
    if (!line)
        return false;
    memcpy(line, field->name.ptr, field->name.len);
    char *at = line + field->name.len;
    /* libcurl sends a field without a value for "Name;" and none for "Name:". */
    *at++ = field->value.len ? ':' : ';';
    if (field->value.len) {
        *at++ = ' ';
        memcpy(at, field->value.ptr, field->value.len);
        at += field->value.len;
    }
    *at = '\0';
    const bool fine = append_line(list, line);
    if (line != small)
        free(line);
    return fine;
}

/* The request's own fields, and none that libcurl would invent. */
static bool
make_headers(const rp_fetch_request *request, struct curl_slist **out)
{
    struct curl_slist *list = NULL;
    bool has_type = false, has_accept = false;
    /* libcurl would name a form as the type of any POST. */
    const bool may_get_type = !rp_str_equal(request->method, RP_STR("GET")) &&
                              !rp_str_equal(request->method, RP_STR("HEAD"));
    /* libcurl would wait for "100 Continue" before bodies over 1 MiB. */
    const bool would_wait = !request->body_is_whole || request->body.len > 1 << 19;
    const rp_str connection = rp_http_header(request->headers, request->header_count, "connection");
    bool fine = !would_wait || append_line(&list, "Expect:");
    for (size_t i = 0; i < request->header_count && fine; i++) {
        const rp_header *h = &request->headers[i];
        if (!rp_fetch_sends_field(h, connection))
            continue;
        has_type |= rp_str_equal_ignoring_case(h->name, RP_STR("Content-Type"));
        has_accept |= rp_str_equal_ignoring_case(h->name, RP_STR("Accept"));
        fine = append_field(&list, h);
    }
    fine = fine && (has_type || !may_get_type || append_line(&list, "Content-Type:"));
    fine = fine && (has_accept || append_line(&list, "Accept:"));
    if (!fine) {
        curl_slist_free_all(list);
        return false;
    }
    *out = list;
    return true;
}

/* Options that no request changes. */
static CURL *
make_easy(const char *proxy, const char *certificate_authorities)
{
    CURL *easy = curl_easy_init();
    if (!easy)
        return NULL;
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_PROXY, proxy ? proxy : "");
    curl_easy_setopt(easy, CURLOPT_NOPROXY, "");
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long)CURL_HTTP_VERSION_2TLS);
    curl_easy_setopt(easy, CURLOPT_HTTP_CONTENT_DECODING, 0L);
    curl_easy_setopt(easy, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
    curl_easy_setopt(easy, CURLOPT_MAXAGE_CONN, (long)RP_FETCH_CONNECTION_IDLE_S);
    curl_easy_setopt(easy, CURLOPT_TCP_KEEPALIVE, 1L);
    curl_easy_setopt(easy, CURLOPT_TCP_NODELAY, 1L);
    /* A name that is being looked up must not hold the loop when the fetch is cancelled. */
    curl_easy_setopt(easy, CURLOPT_QUICK_EXIT, 1L);
    if (certificate_authorities)
        curl_easy_setopt(easy, CURLOPT_CAINFO, certificate_authorities);
    return easy;
}

static CURLcode
set_method(CURL *easy, const rp_fetch_request *request, const char *method)
{
    const bool whole = request->body_is_whole;
    const bool is_post = strcmp(method, "POST") == 0;
    const char *body = request->body.len ? request->body.ptr : "";
    /* HTTPGET last of these: it undoes what POSTFIELDS and an earlier request chose. */
    CURLcode code =
        curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)(whole ? request->body.len : 0));
    code |= curl_easy_setopt(easy, CURLOPT_POSTFIELDS, whole ? body : NULL);
    code |= curl_easy_setopt(easy, CURLOPT_INFILESIZE_LARGE,
                             (curl_off_t)(whole ? -1 : request->body_size));
    code |= curl_easy_setopt(easy, CURLOPT_HTTPGET, 1L);
    if (!whole)
        code |= curl_easy_setopt(easy, CURLOPT_UPLOAD, 1L);
    else if (request->body.len || is_post)
        code |= curl_easy_setopt(easy, CURLOPT_POST, 1L);
    else if (strcmp(method, "HEAD") == 0)
        code |= curl_easy_setopt(easy, CURLOPT_NOBODY, 1L);
    const bool plain = whole && (request->body.len ? is_post : is_post || strcmp(method, "GET") == 0);
    return code | curl_easy_setopt(easy, CURLOPT_CUSTOMREQUEST, plain ? NULL : method);
}

/* What one request changes. */
static rp_status
set_request(CURL *easy, const rp_fetch_request *request, struct curl_slist *headers,
            rp_error *error)
{
    char method[32], small[2048];
    if (!rp_http_is_token(request->method) || request->method.len >= sizeof method)
        return rp_fail(error, RP_ERR_INVALID, "the method is not valid");
    memcpy(method, request->method.ptr, request->method.len);
    method[request->method.len] = '\0';
    const rp_str u = request->url;
    if (!u.len || memchr(u.ptr, '\0', u.len) || u.len > 64 << 10)
        return rp_fail(error, RP_ERR_INVALID, "the URL is not valid");
    char *url = u.len < sizeof small ? small : malloc(u.len + 1);
    if (!url)
        return rp_fail(error, RP_ERR_NOMEM, "no memory for the URL");
    memcpy(url, u.ptr, u.len);
    url[u.len] = '\0';
    const int64_t connect_us =
        request->connect_timeout_us ? request->connect_timeout_us : 10 * RP_SECOND_US;
    const bool is_http = strncasecmp(url, "http://", 7) == 0;
    const bool is_https = strncasecmp(url, "https://", 8) == 0;
    /* libcurl reads the rest when it starts; a second reading here would cost 1 us. */
    bool fine = (is_http || is_https) && url[is_http ? 7 : 8] != '\0' && url[is_http ? 7 : 8] != '/';
    for (const char *at = url; *at; at++)
        fine = fine && (unsigned char)*at > ' ' && *at != '\x7f';
    CURLcode code = set_method(easy, request, method);
    code |= curl_easy_setopt(easy, CURLOPT_URL, url);
    code |= curl_easy_setopt(easy, CURLOPT_HTTPHEADER, headers);
    code |= curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long)(connect_us / 1000));
    /* Over TLS the first connection may turn out to carry many requests: wait for it. */
    code |= curl_easy_setopt(easy, CURLOPT_PIPEWAIT, (long)is_https);
    if (url != small)
        free(url);
    if (code == CURLE_OUT_OF_MEMORY)
        return rp_fail(error, RP_ERR_NOMEM, "no memory for the request");
    if (!fine || code != CURLE_OK)
        return rp_fail(error, RP_ERR_INVALID, "the URL is not a valid http or https address");
    return RP_OK;
}

static rp_status
prepare_fetch(curl_fetch *fetch, const rp_fetch_request *request, rp_error *error)
{
    rp_curl *curl = fetch->curl;
    fetch->easy = curl->kept_count ? curl->kept[--curl->kept_count]
                                     : make_easy(curl->client->proxy, curl->client->certificate_authorities);
    if (!fetch->easy || !make_headers(request, &fetch->headers) ||
        rp_timer_new(curl->loop, on_deadline, fetch, &fetch->timer) != RP_OK)
        return rp_fail(error, RP_ERR_NOMEM, "no memory for a request");
    curl_easy_setopt(fetch->easy, CURLOPT_SHARE, curl->share);
    curl_easy_setopt(fetch->easy, CURLOPT_PRIVATE, fetch);
    curl_easy_setopt(fetch->easy, CURLOPT_HEADERFUNCTION, on_header_line);
    curl_easy_setopt(fetch->easy, CURLOPT_HEADERDATA, fetch);
    curl_easy_setopt(fetch->easy, CURLOPT_WRITEFUNCTION, on_body_bytes);
    curl_easy_setopt(fetch->easy, CURLOPT_WRITEDATA, fetch);
    curl_easy_setopt(fetch->easy, CURLOPT_OPENSOCKETFUNCTION, open_socket);
    curl_easy_setopt(fetch->easy, CURLOPT_OPENSOCKETDATA, curl);
    curl_easy_setopt(fetch->easy, CURLOPT_CLOSESOCKETFUNCTION, close_socket);
    curl_easy_setopt(fetch->easy, CURLOPT_CLOSESOCKETDATA, curl);
    curl_easy_setopt(fetch->easy, CURLOPT_PREREQFUNCTION, on_before_request);
    curl_easy_setopt(fetch->easy, CURLOPT_PREREQDATA, fetch);
    curl_easy_setopt(fetch->easy, CURLOPT_DEBUGFUNCTION, on_words);
    curl_easy_setopt(fetch->easy, CURLOPT_DEBUGDATA, fetch);
    curl_easy_setopt(fetch->easy, CURLOPT_VERBOSE, 0L);
    curl_easy_setopt(fetch->easy, CURLOPT_FRESH_CONNECT, 0L);
    curl_easy_setopt(fetch->easy, CURLOPT_READFUNCTION, on_upload_wish);
    curl_easy_setopt(fetch->easy, CURLOPT_READDATA, fetch);
    return set_request(fetch->easy, request, fetch->headers, error);
}

rp_status
rp_curl_start(rp_curl *curl, const rp_fetch_request *request, const rp_fetch_handler *handler,
              void *context, rp_fetch **out, rp_error *error)
{
    curl_fetch *fetch = calloc(1, sizeof *fetch);
    if (!fetch)
        return rp_fail(error, RP_ERR_NOMEM, "no memory for a request");
    fetch->base = (rp_fetch){ .client = curl->client, .handler = *handler, .context = context };
    fetch->curl = curl;
    rp_buffer_init(&fetch->upload, 0);
    rp_arena_init(&fetch->arena, RP_FETCH_HEAD_SIZE_MAX);
    TAILQ_INSERT_TAIL(&curl->fetches, fetch, link);
    fetch->is_repeatable = rp_fetch_is_repeatable(request);
    if (!request->body_is_whole) {
        fetch->upload_in_pieces = true;
        fetch->first_part = request->body;
    }
    const rp_status status = prepare_fetch(fetch, request, error);
    if (status != RP_OK) {
        /* It never entered libcurl, so it may go even from inside a callback. */
        const int depth = curl->depth;
        curl->depth = 0;
        destroy(fetch);
        curl->depth = depth;
        return status;
    }
    fetch->started_us = now_us();
    fetch->patience = rp_fetch_patience_of(request);
    rp_timer_set(fetch->timer, due_us(fetch) - fetch->started_us);
    fetch->wants_start = true;
    wait_for_turn_end(fetch);
    *out = &fetch->base;
    return RP_OK;
}

void
rp_curl_cancel(rp_fetch *base)
{
    curl_fetch *fetch = (curl_fetch *)base;
    assert(!fetch->wants_cancel);
    if (fetch->curl->depth == 0) {
        destroy(fetch);
        return;
    }
    /* Inside libcurl: nothing more is delivered, and the turn's end removes it. */
    fetch->wants_cancel = true;
    wait_for_turn_end(fetch);
}

void
rp_curl_resume(rp_fetch *base)
{
    curl_fetch *fetch = (curl_fetch *)base;
    if (!fetch->paused)
        return;
    fetch->paused = false;
    fetch->wants_resume = true;
    /* The wait was ours: the idle time starts anew. */
    fetch->heard_us = now_us();
    rp_timer_set(fetch->timer, due_us(fetch) - fetch->heard_us);
    wait_for_turn_end(fetch);
}

/* ---- the client ------------------------------------------------------------------------------------------ */

rp_status
rp_curl_new(rp_http_client *client, rp_error *error)
{
    pthread_once(&curl_once, init_curl);
    rp_curl *curl = curl_works ? calloc(1, sizeof *curl) : NULL;
    if (!curl)
        return rp_fail(error, RP_ERR_NOMEM, "no memory for the HTTP client");
    curl->client = client;
    curl->loop = client->loop;
    TAILQ_INIT(&curl->fetches);
    TAILQ_INIT(&curl->waiting);
    curl->task = (rp_turn_task){ .call = on_turn_end, .context = curl };
    curl->multi = curl_multi_init();
    curl->share = curl_share_init();
    curl->socket_by_port = malloc(65536 * sizeof *curl->socket_by_port);
    if (curl->socket_by_port)
        memset(curl->socket_by_port, 0xFF, 65536 * sizeof *curl->socket_by_port);
    if (!curl->multi || !curl->share || !curl->socket_by_port ||
        rp_timer_new(curl->loop, on_curl_timer, curl, &curl->timer) != RP_OK) {
        rp_curl_free(curl);
        return rp_fail(error, RP_ERR_NOMEM, "no memory for the HTTP client");
    }
    const long per_host = (long)client->connections_max;
    curl_share_setopt(curl->share, CURLSHOPT_SHARE, CURL_LOCK_DATA_SSL_SESSION);
    curl_multi_setopt(curl->multi, CURLMOPT_SOCKETFUNCTION, on_socket_wish);
    curl_multi_setopt(curl->multi, CURLMOPT_SOCKETDATA, curl);
    curl_multi_setopt(curl->multi, CURLMOPT_TIMERFUNCTION, on_timer_wish);
    curl_multi_setopt(curl->multi, CURLMOPT_TIMERDATA, curl);
    curl_multi_setopt(curl->multi, CURLMOPT_PIPELINING, (long)CURLPIPE_MULTIPLEX);
    curl_multi_setopt(curl->multi, CURLMOPT_MAX_HOST_CONNECTIONS, per_host);
    curl_multi_setopt(curl->multi, CURLMOPT_MAXCONNECTS, per_host);
    client->curl = curl;
    return RP_OK;
}

void
rp_curl_cancel_all(rp_curl *curl)
{
    if (!curl)
        return;
    assert(curl->depth == 0);
    curl_fetch *fetch;
    while ((fetch = TAILQ_FIRST(&curl->fetches)))
        destroy(fetch);
}

void
rp_curl_free(rp_curl *curl)
{
    if (!curl)
        return;
    for (size_t i = 0; i < curl->kept_count; i++)
        curl_easy_cleanup(curl->kept[i]);
    if (curl->multi)
        curl_multi_cleanup(curl->multi); /* closes sockets, tells us of each */
    if (curl->share)
        curl_share_cleanup(curl->share);
    for (size_t i = 0; i < curl->slot_count; i++) {
        if (curl->slots[i] && curl->slots[i]->watched)
            event_del(&curl->slots[i]->event);
        free(curl->slots[i]);
    }
    free(curl->slots);
    free(curl->socket_by_port);
    rp_timer_free(curl->timer);
    rp_loop_forget_task(curl->loop, &curl->task);
    free(curl);
}

/* ---- without a loop ------------------------------------------------------------------------------------------ */

static size_t
collect_bytes(char *bytes, size_t size, size_t count, void *context)
{
    rp_buffer *body = context;
    rp_buffer_append(body, (rp_str){ bytes, size * count });
    return rp_buffer_failed(body) ? 0 : size * count;
}

static void
set_patience(CURL *easy, const rp_fetch_request *request)
{
    const int64_t idle_us = request->idle_timeout_us ? request->idle_timeout_us : 300 * RP_SECOND_US;
    curl_easy_setopt(easy, CURLOPT_TIMEOUT_MS, (long)(request->total_timeout_us / 1000));
    curl_easy_setopt(easy, CURLOPT_LOW_SPEED_LIMIT, 1L);
    curl_easy_setopt(easy, CURLOPT_LOW_SPEED_TIME, (long)RP_MAX(idle_us / RP_SECOND_US, (int64_t)1));
    if (request->redirects_max > 0) {
        curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 1L);
        curl_easy_setopt(easy, CURLOPT_MAXREDIRS, (long)request->redirects_max);
        curl_easy_setopt(easy, CURLOPT_REDIR_PROTOCOLS_STR, "https");
    }
}

rp_status
rp_fetch_wait(const rp_fetch_request *request, size_t size_max, int *http_status, rp_buffer *body,
              rp_error *error)
{
    pthread_once(&curl_once, init_curl);
    if (!request->body_is_whole && (request->body.len || request->body_size > 0))
        return rp_fail(error, RP_ERR_INVALID, "the request body must be whole");
    rp_fetch_request whole = *request;
    whole.body_is_whole = true;
    CURL *easy = curl_works ? make_easy(NULL, NULL) : NULL;
    struct curl_slist *headers = NULL;
    rp_buffer collected;
    rp_buffer_init(&collected, size_max);
    rp_status status = RP_OK;
    if (!easy || !make_headers(&whole, &headers))
        status = rp_fail(error, RP_ERR_NOMEM, "no memory for a request");
    else
        status = set_request(easy, &whole, headers, error);
    if (status != RP_OK)
        goto out;
    set_patience(easy, &whole);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, collect_bytes);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, &collected);
    const CURLcode code = curl_easy_perform(easy);
    long answered = 0;
    curl_easy_getinfo(easy, CURLINFO_RESPONSE_CODE, &answered);
    if (rp_buffer_failed(&collected)) {
        status = rp_fail(error, RP_ERR_LIMIT, "the reply is larger than %zu bytes", size_max);
    } else if (code != CURLE_OK) {
        status = rp_fail(error, code == CURLE_OPERATION_TIMEDOUT ? RP_ERR_TIMEOUT : RP_ERR_IO, "%s",
                         curl_easy_strerror(code));
    } else {
        *http_status = (int)answered;
        rp_buffer_append(body, rp_buffer_str(&collected));
        if (rp_buffer_failed(body))
            status = rp_fail(error, RP_ERR_LIMIT, "there is no room for the reply");
    }
out:
    rp_buffer_fini(&collected);
    curl_slist_free_all(headers);
    curl_easy_cleanup(easy);
    return status;
}
