/* test_http_server.c - over real sockets: every row of what a server must refuse or bear.
 *
 * Two loops serve; the test's own thread plays clients with plain blocking sockets. Each
 * path has a handler that misuses or strains one thing. Faults to notice: a refused
 * request followed by a second reply (smuggling), a reason that is lost in a reset, a
 * deadline that each new byte moves, replies out of order, a client's leaving unseen,
 * bytes lost or doubled when the client reads slowly, memory kept by idle connections. */
#include "net/http_server.h"
#include "net_support.h"

#include <fcntl.h>
#include <malloc.h>
#include <openssl/ec.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <stdatomic.h>
#include <sys/resource.h>

enum {
    BODY_BUFFER_MAX = 8192,
    BODY_SIZE_MAX = 1 << 20,
    FLOOD_SIZE = 6 << 20,
    FLOOD_PIECE = 60000,
    OUTPUT_HIGH = 256 << 10,
};

/* ---- the application ------------------------------------------------------------------ */

typedef struct visit {
    rp_exchange *exchange;
    rp_buffer body; /* of an upload in pieces */
    size_t flooded;
    bool pauses;    /* after each piece, until the test resumes it */
    bool is_paused;
} visit;

static rp_loop *loops[2];
static rp_http_server *server, *strict; /* strict: deadlines of 300 ms */
static unsigned port, strict_port;
static sem_t arrived, gone;
static atomic_int gone_count, full_count;
static visit *_Atomic held; /* the latest /late or /pause */

static rp_str
flood_body(void)
{
    static char *bytes;
    if (!bytes) {
        bytes = malloc(FLOOD_SIZE);
        for (size_t i = 0; i < FLOOD_SIZE; i++)
            bytes[i] = (char)(i * 2246822519u >> 11);
    }
    return (rp_str){ bytes, FLOOD_SIZE };
}

static const rp_header plain[] = { { { "Content-Type", 12 }, { "text/plain", 10 } } };

static void
flood(visit *v)
{
    bool room = true;
    while (room && v->flooded < FLOOD_SIZE) {
        const size_t n = RP_MIN((size_t)FLOOD_PIECE, FLOOD_SIZE - v->flooded);
        const rp_str piece = { flood_body().ptr + v->flooded, n };
        v->flooded += n;
        room = v->flooded / FLOOD_PIECE % 2 ? rp_exchange_write(v->exchange, piece)
                                            : rp_exchange_write_lent(v->exchange, piece, NULL, NULL);
    }
    if (!room)
        atomic_fetch_add(&full_count, 1);
    if (v->flooded == FLOOD_SIZE)
        rp_exchange_end(v->exchange);
}

static void
reply_size(rp_exchange *exchange, rp_str body, const char *how)
{
    char text[64];
    uint32_t sum = 0;
    for (size_t i = 0; i < body.len; i++)
        sum = sum * 31 + (uint8_t)body.ptr[i];
    const int len = snprintf(text, sizeof text, "%s %zu %08x", how, body.len, sum);
    rp_exchange_reply(exchange, 200, plain, 1, (rp_str){ text, (size_t)len });
}

static void
count_release(void *context)
{
    atomic_fetch_add((atomic_int *)context, 1);
}

static atomic_int released;

static void
on_request(void *context, rp_exchange *exchange, const rp_http_request *request)
{
    (void)context;
    const rp_str path = request->path;
    visit *v = rp_arena_calloc(rp_exchange_arena(exchange), 1, sizeof *v);
    v->exchange = exchange;
    rp_buffer_init(&v->body, 0);
    rp_exchange_set_context(exchange, v);
    assert_true(rp_exchange_request(exchange) == request);
    if (rp_str_equal(path, RP_STR("/upload"))) {
        if (request->body_is_whole) {
            reply_size(exchange, request->body, "whole");
            return;
        }
        assert_int_equal(request->body.len, BODY_BUFFER_MAX);
        rp_buffer_append(&v->body, request->body);
    } else if (rp_str_equal(path, RP_STR("/pause"))) {
        rp_buffer_append(&v->body, request->body);
        v->pauses = v->is_paused = true;
        rp_exchange_pause_body(exchange, true);
        atomic_store(&held, v);
        sem_post(&arrived);
    } else if (rp_str_equal(path, RP_STR("/late"))) {
        atomic_store(&held, v);
        sem_post(&arrived);
    } else if (rp_str_equal(path, RP_STR("/flood")) || rp_str_equal(path, RP_STR("/flood-counted"))) {
        rp_exchange_begin(exchange, 200, plain, 1,
                          path.len == 6 ? RP_BODY_CHUNKED : (int64_t)FLOOD_SIZE);
        flood(v);
    } else if (rp_str_equal(path, RP_STR("/stream"))) {
        rp_exchange_begin(exchange, 200, plain, 1, RP_BODY_CHUNKED);
        rp_exchange_write(exchange, RP_STR("one"));
        rp_exchange_write(exchange, RP_STR(""));
        rp_exchange_write_lent(exchange, RP_STR("-twenty-bytes-long-"), count_release, &released);
        rp_exchange_end(exchange);
    } else if (rp_str_equal(path, RP_STR("/open"))) {
        rp_exchange_begin(exchange, 200, plain, 1, RP_BODY_CHUNKED);
        rp_exchange_write(exchange, RP_STR("begun"));
        sem_post(&arrived);
    } else if (rp_str_equal(path, RP_STR("/none"))) {
        rp_exchange_reply(exchange, 204, NULL, 0, RP_STR("never sent"));
    } else if (rp_str_equal(path, RP_STR("/abort"))) {
        rp_exchange_begin(exchange, 200, plain, 1, 10);
        rp_exchange_write(exchange, RP_STR("abc"));
        rp_exchange_abort(exchange);
    } else if (rp_str_equal(path, RP_STR("/abort-stream"))) {
        rp_exchange_begin(exchange, 200, plain, 1, RP_BODY_CHUNKED);
        rp_exchange_write(exchange, RP_STR("abc"));
        rp_exchange_abort(exchange);
    } else if (rp_str_equal(path, RP_STR("/short"))) {
        rp_exchange_begin(exchange, 200, plain, 1, 10);
        rp_exchange_write(exchange, RP_STR("abc"));
        rp_exchange_end(exchange);
    } else if (rp_str_equal(path, RP_STR("/long"))) {
        rp_exchange_begin(exchange, 200, plain, 1, 3);
        rp_exchange_write(exchange, RP_STR("abcHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"));
        rp_exchange_end(exchange);
    } else if (rp_str_equal(path, RP_STR("/headers"))) {
        const rp_header odd[] = {
            { RP_STR("X-Good"), RP_STR("1") },
            { RP_STR("X-Bad"), RP_STR("a\r\nX-Injected: 1") },
            { RP_STR("X-Nul"), RP_STR("a\0b") },
            { RP_STR("X Space"), RP_STR("1") },
            { RP_STR("Connection"), RP_STR("upgrade") },
            { RP_STR("Transfer-Encoding"), RP_STR("chunked") },
            { RP_STR("Content-Length"), RP_STR("77") },
            { RP_STR("Date"), RP_STR("Sun, 06 Nov 1994 08:49:37 GMT") },
        };
        rp_exchange_reply(exchange, 200, odd, RP_COUNT(odd), RP_STR("ok"));
    } else {
        /* The target itself, from the arena and lent: it must live until it has left. */
        const rp_str copy = rp_arena_copy(rp_exchange_arena(exchange), request->target);
        rp_exchange_begin(exchange, 200, plain, 1, (int64_t)copy.len);
        rp_exchange_write_lent(exchange, copy, NULL, NULL);
        rp_exchange_end(exchange);
    }
}

static void
on_body(void *context, rp_exchange *exchange, rp_str bytes, bool last)
{
    (void)context;
    visit *v = rp_exchange_context(exchange);
    assert_false(v->is_paused && bytes.len); /* paused means paused: only the end may come */
    rp_buffer_append(&v->body, bytes);
    if (v->pauses && bytes.len) {
        v->is_paused = true;
        rp_exchange_pause_body(exchange, true);
    }
    if (!last)
        return;
    if (v->pauses)
        atomic_store(&held, NULL);
    rp_buffer body = v->body;
    reply_size(exchange, rp_buffer_str(&body), "pieces");
    rp_buffer_fini(&body);
}

static void
on_gone(void *context, rp_exchange *exchange)
{
    (void)context;
    visit *v = rp_exchange_context(exchange);
    rp_buffer_fini(&v->body);
    atomic_fetch_add(&gone_count, 1);
    sem_post(&gone);
}

static void
on_drained(void *context, rp_exchange *exchange)
{
    (void)context;
    flood(rp_exchange_context(exchange));
}

static const rp_http_handler handler = { on_request, on_body, on_gone, on_drained, NULL };

static unsigned
port_of(const rp_http_server *s)
{
    const rp_str address = rp_http_server_address(s);
    uint64_t number = 0;
    const char *colon = memrchr(address.ptr, ':', address.len);
    assert_true(rp_str_to_u64(rp_str_of(colon + 1), &number));
    return (unsigned)number;
}

static rp_http_server *
open_server(const rp_http_server_options *options)
{
    rp_http_server *made;
    rp_error error = { { 0 } };
    rp_http_server_options patient = *options;
    /* A busy machine may let the client need longer to send the rest of what was refused. */
    patient.linger_timeout_us = TEST_WAIT_S * INT64_C(1000000);
    const rp_status status = rp_http_server_new(loops, 2, &patient, &handler, &made, &error);
    if (status != RP_OK)
        print_error("%s\n", error.text);
    assert_int_equal(status, RP_OK);
    return made;
}

static void
say_done(void *context)
{
    sem_post(context);
}

static void
close_server(rp_http_server *s)
{
    sem_t done;
    sem_init(&done, 0, 0);
    rp_http_server_drain(s, say_done, &done);
    test_wait(&done);
    sem_destroy(&done);
    rp_http_server_free(s);
}

/* ---- clients ------------------------------------------------------------------------------ */

/* Send all, read until the server closes. True if it closed without a reset. */
static bool
talk_to(unsigned to, rp_str bytes, rp_buffer *reply)
{
    const int fd = test_connect(to);
    rp_buffer_init(reply, 0);
    test_send(fd, bytes);
    const bool clean = test_read_all(fd, reply);
    close(fd);
    return clean;
}

static int
status_of(rp_str reply)
{
    uint64_t status = 0;
    if (reply.len < 12 || !rp_str_starts_with(reply, RP_STR("HTTP/1.1 ")) ||
        !rp_str_to_u64((rp_str){ reply.ptr + 9, 3 }, &status))
        return -1;
    return (int)status;
}

static size_t
count_of(rp_str text, const char *part)
{
    size_t count = 0;
    const size_t len = strlen(part);
    while (text.len >= len) {
        const char *at = memmem(text.ptr, text.len, part, len);
        if (!at)
            break;
        count++;
        text.len -= (size_t)(at - text.ptr) + len;
        text.ptr = at + len;
    }
    return count;
}

static void
assert_reply(rp_str request, int status, const char *part)
{
    rp_buffer reply;
    const bool clean = talk_to(port, request, &reply);
    const rp_str got = rp_buffer_str(&reply);
    if (status_of(got) != status || !test_contains(got, part) || !clean)
        print_error("%.*s\n--> %.*s\n", (int)RP_MIN(request.len, (size_t)300), request.ptr, RP_FMT(got));
    assert_true(clean);
    assert_int_equal(status_of(got), status);
    assert_true(test_contains(got, part));
    rp_buffer_fini(&reply);
}

static void
forget_earlier_signals(void)
{
    while (sem_trywait(&arrived) == 0 || sem_trywait(&gone) == 0)
        ;
}

#define H "Host: a\r\n"
#define CLOSE "Connection: close\r\n"

/* Behind each refused request stands another: it must never be answered. */
#define NEXT "GET /smuggled HTTP/1.1\r\n" H "\r\n"

static void
test_doubtful_requests_are_refused_and_end_the_connection(void **state)
{
    (void)state;
    static const struct {
        rp_str bytes;
        int status;
    } rows[] = {
        { RP_STR("GET / HTTP/1.1\r\n\r\n" NEXT), 400 },
        { RP_STR("POST / HTTP/1.1\r\n" H "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" NEXT), 400 },
        { RP_STR("POST / HTTP/1.1\r\n" H "Content-Length: 2\r\nContent-Length: 4\r\n\r\nhiGE" NEXT), 400 },
        { RP_STR("POST / HTTP/1.1\r\n" H "Content-Length: +2\r\n\r\nhi" NEXT), 400 },
        { RP_STR("POST / HTTP/1.1\r\n" H "Content-Length : 2\r\n\r\nhi" NEXT), 400 },
        { RP_STR("GET / HTTP/1.1\r\n" H "X: a\r\n b\r\n\r\n" NEXT), 400 },
        { RP_STR("GET / HTTP/1.1\n" H "\n" NEXT), 400 },
        { RP_STR("GET / HTTP/1.1\r\n" H "X: a\0b\r\n\r\n" NEXT), 400 },
        { RP_STR("POST / HTTP/1.1\r\n" H "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n" NEXT), 501 },
        { RP_STR("POST / HTTP/1.1\r\n" H "Transfer-Encoding: foo\r\n\r\n" NEXT), 501 },
        { RP_STR("POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\nxx\r\n" NEXT), 400 },
        { RP_STR("POST /upload HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n2\r\nhix" NEXT), 400 },
        { RP_STR("GET / HTTP/2.0\r\n" H "\r\n" NEXT), 505 },
        { RP_STR("CONNECT a:1 HTTP/1.1\r\n" H "\r\n" NEXT), 501 },
        { RP_STR("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" NEXT), 400 },
        { RP_STR("POST / HTTP/1.1\r\n" H "Expect: pony\r\nContent-Length: 2\r\n\r\nhi" NEXT), 417 },
        { RP_STR("POST / HTTP/1.1\r\n" H "Content-Length: 1048577\r\n\r\n" NEXT), 413 },
        { RP_STR("POST / HTTP/1.1\r\n" H "Content-Length: 9223372036854775807\r\n\r\n" NEXT), 413 },
    };
    for (size_t i = 0; i < RP_COUNT(rows); i++) {
        rp_buffer reply;
        const bool clean = talk_to(port, rows[i].bytes, &reply);
        const rp_str got = rp_buffer_str(&reply);
        if (status_of(got) != rows[i].status || !clean)
            print_error("row %zu: %.*s\n", i, RP_FMT(got));
        assert_true(clean);
        assert_int_equal(status_of(got), rows[i].status);
        assert_int_equal(count_of(got, "\r\nConnection: close\r\n"), 1);
        assert_int_equal(count_of(got, "\r\n\r\n"), 1);
        assert_true(test_contains(got, "\r\n\r\n{\"type\":\"error\",\"error\":{\"message\":\""));
        assert_true(rp_str_ends_with(got, RP_STR("\"param\":null,\"code\":null}}")));
        rp_buffer_fini(&reply);
    }
}

static void
test_large_heads_are_refused(void **state)
{
    (void)state;
    rp_buffer request;
    rp_buffer_init(&request, 0);
    rp_buffer_append(&request, RP_STR("GET / HTTP/1.1\r\n" H "X: "));
    for (int i = 0; i < 64000; i++)
        rp_buffer_append_char(&request, 'a');
    rp_buffer_append(&request, RP_STR("\r\n\r\n"));
    assert_reply(rp_buffer_str(&request), 431, "too large");
    rp_buffer_clear(&request);
    rp_buffer_append(&request, RP_STR("GET / HTTP/1.1\r\n" H));
    for (int i = 0; i < 500; i++)
        rp_buffer_append(&request, RP_STR("X: a\r\n"));
    rp_buffer_append(&request, RP_STR("\r\n"));
    assert_reply(rp_buffer_str(&request), 431, "too many");
    rp_buffer_clear(&request);
    rp_buffer_append(&request, RP_STR("GET /"));
    for (int i = 0; i < 64000; i++)
        rp_buffer_append_char(&request, 'a');
    assert_reply(rp_buffer_str(&request), 414, "too long");
    rp_buffer_fini(&request);
}

static void
test_a_body_over_the_limit_hears_why(void **state)
{
    (void)state;
    /* The client sends all of it before it reads: without lingering the reason would be
     * lost in the reset that closing with unread bytes makes. */
    rp_buffer request;
    rp_buffer_init(&request, 0);
    rp_buffer_append(&request, RP_STR("POST /x HTTP/1.1\r\n" H "Content-Length: 8000000\r\n\r\n"));
    for (int i = 0; i < 8000000; i++)
        rp_buffer_append_char(&request, 'a');
    assert_reply(rp_buffer_str(&request), 413, "too large");
    /* Chunked: found out on the way, after the handler had begun to receive it. */
    rp_buffer_clear(&request);
    const int before = atomic_load(&gone_count);
    rp_buffer_append(&request, RP_STR("POST /upload HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n"));
    for (int i = 0; i < 200; i++) {
        rp_buffer_append(&request, RP_STR("2710\r\n"));
        for (int j = 0; j < 10000; j++)
            rp_buffer_append_char(&request, 'b');
        rp_buffer_append(&request, RP_STR("\r\n"));
    }
    assert_reply(rp_buffer_str(&request), 413, "too large");
    assert_int_equal(atomic_load(&gone_count), before + 1);
    rp_buffer_fini(&request);
}

/* Drip `byte` until the server closes; it must, though no pause is long. */
static void
drip(rp_str start, char byte, int64_t give_up_ns, rp_buffer *reply)
{
    const int fd = test_connect(strict_port);
    test_send(fd, start);
    for (;;) {
        struct pollfd poll_fd = { .fd = fd, .events = POLLIN };
        if (poll(&poll_fd, 1, 10) > 0)
            break;
        assert_true(rp_monotonic_ns() < give_up_ns);
        test_send(fd, (rp_str){ &byte, 1 });
    }
    test_read_all(fd, reply);
    close(fd);
}

static void
assert_drip_is_cut(rp_str start, char byte, int status)
{
    const int64_t give_up_ns = rp_monotonic_ns() + TEST_WAIT_S * INT64_C(1000000000);
    rp_buffer reply;
    rp_buffer_init(&reply, 0);
    /* On a busy machine we may be so late with the first byte that the connection was idle
     * for too long, which ends it in silence: then again. */
    while (!reply.len)
        drip(start, byte, give_up_ns, &reply);
    assert_int_equal(status_of(rp_buffer_str(&reply)), status);
    rp_buffer_fini(&reply);
}

static void
test_dripping_ends_at_an_absolute_deadline(void **state)
{
    (void)state;
    assert_drip_is_cut(RP_STR("GET / HTTP/1.1\r\n" H "X: "), 'a', 408);
    assert_drip_is_cut(RP_STR("G"), 'E', 408);
    assert_drip_is_cut(RP_STR("POST /upload HTTP/1.1\r\n" H "Content-Length: 100000\r\n\r\n"), 'a', 408);
    assert_drip_is_cut(RP_STR("POST /upload HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n1;"), 'a', 408);
}

static void
test_an_idle_connection_is_closed_in_silence(void **state)
{
    (void)state;
    rp_buffer reply;
    assert_true(talk_to(strict_port, RP_STR(""), &reply));
    assert_int_equal(reply.len, 0);
    rp_buffer_fini(&reply);
    /* After a request, too: the connection was kept, and then not used. A slow machine may
     * be late with the request; then the first of the two is seen once more. */
    size_t replies = 0;
    const int64_t give_up_ns = rp_monotonic_ns() + TEST_WAIT_S * INT64_C(1000000000);
    while (!replies && rp_monotonic_ns() < give_up_ns) {
        talk_to(strict_port, RP_STR("GET /a HTTP/1.1\r\n" H "\r\n"), &reply);
        replies = count_of(rp_buffer_str(&reply), "HTTP/1.1 ");
        rp_buffer_fini(&reply);
    }
    assert_int_equal(replies, 1);
}

static void
test_pipelined_requests_are_answered_in_order(void **state)
{
    (void)state;
    enum { COUNT = 300 };
    rp_buffer request, reply;
    rp_buffer_init(&request, 0);
    for (int i = 0; i < COUNT; i++)
        rp_buffer_printf(&request, "%s /n%d HTTP/1.1\r\n" H "%s%s\r\n%s", i % 3 ? "GET" : "POST", i,
                         i % 3 ? "" : "Content-Length: 3\r\n", i == COUNT - 1 ? CLOSE : "",
                         i % 3 ? "" : "abc");
    assert_true(talk_to(port, rp_buffer_str(&request), &reply));
    rp_str rest = rp_buffer_str(&reply);
    assert_int_equal(count_of(rest, "HTTP/1.1 200 OK\r\n"), COUNT);
    for (int i = 0; i < COUNT; i++) {
        char body[32];
        snprintf(body, sizeof body, "\r\n\r\n/n%d%s", i, i == COUNT - 1 ? "" : "HTTP/1.1");
        const char *at = memmem(rest.ptr, rest.len, body, strlen(body));
        assert_non_null(at);
        rest.len -= (size_t)(at - rest.ptr) + 4;
        rest.ptr = at + 4;
    }
    rp_buffer_fini(&request);
    rp_buffer_fini(&reply);
}

static void
end_held(void *context)
{
    visit *v = context;
    rp_exchange_reply(v->exchange, 200, plain, 1, RP_STR("late"));
}

static void
run_on_its_loop(visit *v, rp_loop_call *call)
{
    test_on_loop(rp_exchange_loop(v->exchange), call, v);
}

static void
test_a_later_request_waits_for_the_reply_before(void **state)
{
    (void)state;
    forget_earlier_signals();
    rp_buffer reply;
    rp_buffer_init(&reply, 0);
    const int fd = test_connect(port);
    test_send(fd, RP_STR("GET /late HTTP/1.1\r\n" H "\r\nGET /second HTTP/1.1\r\n" H CLOSE "\r\n"));
    test_wait(&arrived);
    struct pollfd poll_fd = { .fd = fd, .events = POLLIN };
    assert_int_equal(poll(&poll_fd, 1, 30), 0);
    run_on_its_loop(atomic_load(&held), end_held);
    assert_true(test_read_all(fd, &reply));
    const rp_str got = rp_buffer_str(&reply);
    assert_int_equal(count_of(got, "HTTP/1.1 200 OK"), 2);
    assert_true(test_contains(got, "\r\n\r\nlateHTTP/1.1"));
    assert_true(rp_str_ends_with(got, RP_STR("\r\n\r\n/second")));
    rp_buffer_fini(&reply);
    close(fd);
}

static void
test_versions_decide_about_the_connection(void **state)
{
    (void)state;
    rp_buffer reply;
    assert_true(talk_to(port, RP_STR("GET /a HTTP/1.0\r\n\r\n" NEXT), &reply));
    assert_int_equal(count_of(rp_buffer_str(&reply), "HTTP/1.1 "), 1);
    assert_true(test_contains(rp_buffer_str(&reply), "Connection: close"));
    rp_buffer_fini(&reply);
    assert_true(talk_to(port, RP_STR("GET /a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"
                                     "GET /b HTTP/1.0\r\n\r\n"), &reply));
    assert_int_equal(count_of(rp_buffer_str(&reply), "HTTP/1.1 "), 2);
    assert_int_equal(count_of(rp_buffer_str(&reply), "Connection: keep-alive\r\n"), 1);
    rp_buffer_fini(&reply);
    /* No chunks for HTTP/1.0: the close ends the body. */
    assert_true(talk_to(port, RP_STR("GET /stream HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"), &reply));
    assert_false(test_contains(rp_buffer_str(&reply), "chunked"));
    assert_true(rp_str_ends_with(rp_buffer_str(&reply), RP_STR("\r\n\r\none-twenty-bytes-long-")));
    rp_buffer_fini(&reply);
    assert_true(talk_to(port, RP_STR("GET /stream HTTP/1.1\r\n" H CLOSE "\r\n"), &reply));
    assert_true(test_contains(rp_buffer_str(&reply), "Transfer-Encoding: chunked\r\n"));
    assert_true(rp_str_ends_with(rp_buffer_str(&reply),
                                 RP_STR("\r\n\r\n3\r\none\r\n13\r\n-twenty-bytes-long-\r\n0\r\n\r\n")));
    rp_buffer_fini(&reply);
    assert_int_equal(atomic_load(&released), 2);
}

static void
test_head_gets_no_body(void **state)
{
    (void)state;
    rp_buffer reply;
    assert_true(talk_to(port, RP_STR("HEAD /abc HTTP/1.1\r\n" H "\r\nHEAD /stream HTTP/1.1\r\n" H "\r\n"
                                     "GET /end HTTP/1.1\r\n" H CLOSE "\r\n"), &reply));
    const rp_str got = rp_buffer_str(&reply);
    assert_int_equal(count_of(got, "HTTP/1.1 200 OK"), 3);
    assert_true(test_contains(got, "Content-Length: 4\r\n"));
    assert_int_equal(count_of(got, "\r\n\r\nHTTP/1.1"), 2);
    assert_false(test_contains(got, "/abc"));
    assert_true(rp_str_ends_with(got, RP_STR("/end")));
    rp_buffer_fini(&reply);
    assert_true(talk_to(port, RP_STR("HEAD / HTTP/1.1\r\n\r\n"), &reply));
    assert_int_equal(status_of(rp_buffer_str(&reply)), 400);
    assert_true(rp_str_ends_with(rp_buffer_str(&reply), RP_STR("\r\n\r\n")));
    rp_buffer_fini(&reply);
    assert_true(talk_to(port, RP_STR("GET /none HTTP/1.1\r\n" H CLOSE "\r\n"), &reply));
    assert_int_equal(status_of(rp_buffer_str(&reply)), 204);
    assert_false(test_contains(rp_buffer_str(&reply), "never"));
    assert_false(test_contains(rp_buffer_str(&reply), "Content-Length"));
    rp_buffer_fini(&reply);
}

static void
test_targets_in_every_form_arrive(void **state)
{
    (void)state;
    assert_reply(RP_STR("OPTIONS * HTTP/1.1\r\n" H CLOSE "\r\n"), 200, "\r\n\r\n*");
    assert_reply(RP_STR("GET http://b/none HTTP/1.1\r\n" H CLOSE "\r\n"), 204, "");
    assert_reply(RP_STR("GET /x?y HTTP/1.1\r\n" H "Connection: x, CLOSE\r\n\r\n"), 200, "\r\n\r\n/x?y");
}

static void
test_who_expects_continue_is_told_to(void **state)
{
    (void)state;
    rp_buffer reply;
    rp_buffer_init(&reply, 0);
    const int fd = test_connect(port);
    test_send(fd, RP_STR("POST /upload HTTP/1.1\r\n" H CLOSE
                         "Expect: 100-continue\r\nContent-Length: 3\r\n\r\n"));
    assert_true(test_read_until(fd, RP_STR("\r\n\r\n"), &reply));
    assert_str_equal(rp_buffer_str(&reply), RP_STR("HTTP/1.1 100 Continue\r\n\r\n"));
    test_send(fd, RP_STR("abc"));
    assert_true(test_read_all(fd, &reply));
    assert_true(test_contains(rp_buffer_str(&reply), "whole 3 "));
    rp_buffer_fini(&reply);
    close(fd);
    assert_reply(RP_STR("POST /upload HTTP/1.1\r\n" H "Expect: 100-continue\r\n"
                        "Content-Length: 99999999\r\n\r\n"), 413, "");
}

static void
test_bodies_arrive_whole_or_in_pieces(void **state)
{
    (void)state;
    const size_t sizes[] = { 0, 1, 5000, BODY_BUFFER_MAX, BODY_BUFFER_MAX + 1, 300000, BODY_SIZE_MAX };
    for (size_t i = 0; i < RP_COUNT(sizes); i++) {
        for (int chunked = 0; chunked <= 1; chunked++) {
            rp_buffer request;
            uint32_t sum = 0;
            rp_buffer_init(&request, 0);
            rp_buffer_printf(&request, "POST /upload HTTP/1.1\r\n" H CLOSE);
            if (chunked)
                rp_buffer_printf(&request, "Transfer-Encoding: chunked\r\n\r\n");
            else
                rp_buffer_printf(&request, "Content-Length: %zu\r\n\r\n", sizes[i]);
            for (size_t at = 0; at < sizes[i];) {
                const size_t n = chunked ? RP_MIN((size_t)7001, sizes[i] - at) : sizes[i];
                if (chunked)
                    rp_buffer_printf(&request, "%zx;e=1\r\n", n);
                for (size_t j = 0; j < n; j++, at++) {
                    rp_buffer_append_char(&request, (char)(at * 7 >> 3));
                    sum = sum * 31 + (uint8_t)(at * 7 >> 3);
                }
                if (chunked)
                    rp_buffer_append(&request, RP_STR("\r\n"));
            }
            if (chunked)
                rp_buffer_append(&request, RP_STR("0\r\nX-Trailer: 1\r\n\r\n"));
            char want[64];
            snprintf(want, sizeof want, "%s %zu %08x",
                     sizes[i] <= BODY_BUFFER_MAX ? "whole" : "pieces", sizes[i], sum);
            assert_reply(rp_buffer_str(&request), 200, want);
            rp_buffer_fini(&request);
        }
    }
}

static void
resume_body(void *context)
{
    (void)context;
    visit *v = atomic_load(&held);
    if (!v)
        return;
    v->is_paused = false;
    rp_exchange_pause_body(v->exchange, false);
}

static void
test_a_paused_body_waits_and_goes_on(void **state)
{
    (void)state;
    forget_earlier_signals();
    rp_buffer request, reply;
    rp_buffer_init(&request, 0);
    rp_buffer_init(&reply, 0);
    const size_t size = 900000;
    rp_buffer_printf(&request, "POST /pause HTTP/1.1\r\n" H CLOSE "Content-Length: %zu\r\n\r\n", size);
    for (size_t i = 0; i < size; i++)
        rp_buffer_append_char(&request, 'x');
    const int fd = test_connect(port);
    fcntl(fd, F_SETFL, O_NONBLOCK);
    size_t sent = 0;
    rp_loop *its_loop = NULL;
    /* Each resume lets one piece in, and on_body pauses again. */
    const int64_t give_up_ns = rp_monotonic_ns() + TEST_WAIT_S * INT64_C(1000000000);
    for (;;) {
        struct pollfd poll_fd = { .fd = fd, .events = (short)(POLLIN | (sent < request.len ? POLLOUT : 0)) };
        assert_true(poll(&poll_fd, 1, 1) >= 0);
        if (poll_fd.revents & POLLIN)
            break;
        if (poll_fd.revents & POLLOUT) {
            const ssize_t n = send(fd, request.ptr + sent, request.len - sent, MSG_NOSIGNAL);
            sent += n > 0 ? (size_t)n : 0;
            continue;
        }
        assert_true(rp_monotonic_ns() < give_up_ns);
        if (!its_loop) {
            test_wait(&arrived);
            its_loop = rp_exchange_loop(atomic_load(&held)->exchange);
        }
        test_on_loop(its_loop, resume_body, NULL);
    }
    fcntl(fd, F_SETFL, 0);
    assert_true(test_read_all(fd, &reply));
    assert_true(test_contains(rp_buffer_str(&reply), "pieces 900000 "));
    rp_buffer_fini(&request);
    rp_buffer_fini(&reply);
    close(fd);
}

static void
test_a_leaving_client_is_seen(void **state)
{
    (void)state;
    forget_earlier_signals();
    const rp_str ways[] = {
        RP_STR("GET /late HTTP/1.1\r\n" H "\r\n"), /* while the reply is prepared */
        RP_STR("GET /open HTTP/1.1\r\n" H "\r\n"), /* while it is streamed */
    };
    for (size_t i = 0; i < RP_COUNT(ways); i++) {
        const int fd = test_connect(port);
        test_send(fd, ways[i]);
        test_wait(&arrived);
        close(fd);
        test_wait(&gone);
    }
    /* Though it has sent more than we read ahead (and no more than the kernel takes for
     * us: the end of a stream only comes after its bytes). */
    const int fd = test_connect(port);
    test_send(fd, ways[0]);
    test_wait(&arrived);
    fcntl(fd, F_SETFL, O_NONBLOCK);
    char more[4096];
    memset(more, 'G', sizeof more);
    for (int i = 0; i < 25; i++) {
        if (send(fd, more, sizeof more, MSG_NOSIGNAL) < 0)
            break;
    }
    close(fd);
    test_wait(&gone);
}

static void
test_a_slow_reader_gets_every_byte(void **state)
{
    (void)state;
    static const char *const paths[] = { "/flood-counted", "/flood" };
    for (size_t i = 0; i < RP_COUNT(paths); i++) {
        char request[64];
        rp_buffer reply;
        rp_buffer_init(&reply, 0);
        const int before = atomic_load(&full_count);
        const int fd = test_connect(port);
        const int small = 64 << 10;
        setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof small);
        snprintf(request, sizeof request, "GET %s HTTP/1.1\r\n" H CLOSE "\r\n", paths[i]);
        test_send(fd, rp_str_of(request));
        while (atomic_load(&full_count) == before)
            usleep(1000);
        assert_true(test_read_all(fd, &reply));
        const rp_str got = rp_buffer_str(&reply);
        const char *at = memmem(got.ptr, got.len, "\r\n\r\n", 4);
        assert_non_null(at);
        rp_str body = { at + 4, got.len - (size_t)(at + 4 - got.ptr) };
        if (i == 0) {
            assert_true(rp_str_equal(body, flood_body()));
        } else {
            rp_http_chunks chunks = { 0 };
            rp_str piece;
            size_t have = 0;
            rp_http_chunks_result result;
            while ((result = rp_http_chunks_feed(&chunks, &body, &piece)) == RP_HTTP_CHUNKS_PIECE) {
                assert_memory_equal(piece.ptr, flood_body().ptr + have, piece.len);
                have += piece.len;
            }
            assert_int_equal(result, RP_HTTP_CHUNKS_END);
            assert_int_equal(have, FLOOD_SIZE);
            assert_int_equal(body.len, 0);
        }
        assert_true(atomic_load(&full_count) > before + 1); /* it was held back again and again */
        rp_buffer_fini(&reply);
        close(fd);
    }
}

static void
test_who_never_reads_is_cut(void **state)
{
    (void)state;
    forget_earlier_signals();
    const int fd = test_connect(strict_port);
    test_send(fd, RP_STR("GET /flood HTTP/1.1\r\n" H "\r\n"));
    test_wait(&gone);
    close(fd);
}

static void
test_a_broken_reply_is_noticed(void **state)
{
    (void)state;
    rp_buffer reply;
    talk_to(port, RP_STR("GET /abort HTTP/1.1\r\n" H "\r\n"), &reply);
    assert_true(rp_str_ends_with(rp_buffer_str(&reply), RP_STR("\r\n\r\nabc")));
    rp_buffer_fini(&reply);
    talk_to(port, RP_STR("GET /short HTTP/1.1\r\n" H "\r\n"), &reply);
    assert_true(rp_str_ends_with(rp_buffer_str(&reply), RP_STR("\r\n\r\nabc")));
    rp_buffer_fini(&reply);
    talk_to(port, RP_STR("GET /abort-stream HTTP/1.1\r\n" H "\r\n"), &reply);
    assert_true(rp_str_ends_with(rp_buffer_str(&reply), RP_STR("3\r\nabc\r\n")));
    rp_buffer_fini(&reply);
    /* Where only the close ends the body it must not look like an end. */
    assert_false(talk_to(port, RP_STR("GET /abort-stream HTTP/1.0\r\n\r\n"), &reply));
    rp_buffer_fini(&reply);
    /* More than was announced is nobody's next reply. */
    assert_true(talk_to(port, RP_STR("GET /long HTTP/1.1\r\n" H "\r\n"), &reply));
    assert_int_equal(count_of(rp_buffer_str(&reply), "HTTP/1.1 "), 1);
    assert_true(rp_str_ends_with(rp_buffer_str(&reply), RP_STR("\r\n\r\nabc")));
    rp_buffer_fini(&reply);
}

static void
test_headers_cannot_break_the_framing(void **state)
{
    (void)state;
    rp_buffer reply;
    assert_true(talk_to(port, RP_STR("GET /headers HTTP/1.1\r\n" H CLOSE "\r\n"), &reply));
    const rp_str got = rp_buffer_str(&reply);
    static const char *const absent[] = { "Injected", "X-Nul", "X Space", "upgrade", "chunked", "77" };
    for (size_t i = 0; i < RP_COUNT(absent); i++)
        assert_false(test_contains(got, absent[i]));
    assert_true(test_contains(got, "X-Good: 1\r\n"));
    assert_int_equal(count_of(got, "Date: "), 1);
    assert_int_equal(count_of(got, "Content-Length: 2\r\n"), 1);
    rp_buffer_fini(&reply);
}

static void
test_too_many_connections_are_told(void **state)
{
    (void)state;
    rp_http_server *small =
        open_server(&(rp_http_server_options){ .listen = "127.0.0.1:0", .connections_max = 3 });
    int fds[3];
    rp_buffer reply;
    for (int i = 0; i < 3; i++) {
        fds[i] = test_connect(port_of(small));
        rp_buffer_init(&reply, 0);
        test_send(fds[i], RP_STR("GET /a HTTP/1.1\r\n" H "\r\n"));
        assert_true(test_read_until(fds[i], RP_STR("/a"), &reply));
        rp_buffer_fini(&reply);
    }
    assert_int_equal(rp_http_server_connections(small), 3);
    assert_true(talk_to(port_of(small), RP_STR("GET /a HTTP/1.1\r\n" H "\r\n"), &reply));
    assert_int_equal(status_of(rp_buffer_str(&reply)), 503);
    assert_true(test_contains(rp_buffer_str(&reply), "Retry-After: "));
    rp_buffer_fini(&reply);
    close(fds[0]);
    while (rp_http_server_connections(small) > 2)
        usleep(1000);
    assert_true(talk_to(port_of(small), RP_STR("GET /a HTTP/1.1\r\n" H CLOSE "\r\n"), &reply));
    assert_int_equal(status_of(rp_buffer_str(&reply)), 200);
    rp_buffer_fini(&reply);
    close(fds[1]);
    close(fds[2]);
    close_server(small);
}

static void
test_bodies_together_have_a_limit(void **state)
{
    (void)state;
    rp_http_server *small = open_server(&(rp_http_server_options){
        .listen = "127.0.0.1:0", .body_memory_max = 100000, .body_buffer_max = 1 << 20 });
    rp_buffer request, reply;
    rp_buffer_init(&request, 0);
    rp_buffer_init(&reply, 0);
    rp_buffer_append(&request, RP_STR("POST /upload HTTP/1.1\r\n" H "Content-Length: 65000\r\n\r\n"));
    for (int i = 0; i < 60000; i++)
        rp_buffer_append_char(&request, 'x');
    /* Two that each fit, and neither complete: who goes over the limit is refused, which may
     * be both if both grow at the same moment. */
    struct pollfd fds[2];
    for (int i = 0; i < 2; i++) {
        fds[i] = (struct pollfd){ .fd = test_connect(port_of(small)), .events = POLLIN };
        test_send(fds[i].fd, rp_buffer_str(&request));
    }
    assert_true(poll(fds, 2, TEST_WAIT_S * 1000) > 0);
    assert_true(test_read_all(fds[fds[1].revents ? 1 : 0].fd, &reply));
    assert_int_equal(status_of(rp_buffer_str(&reply)), 503);
    close(fds[0].fd);
    close(fds[1].fd);
    /* With both gone there is room again. */
    while (rp_http_server_connections(small) > 0)
        usleep(1000);
    rp_buffer_fini(&reply);
    for (int i = 0; i < 5000; i++)
        rp_buffer_append_char(&request, 'x');
    const int fd = test_connect(port_of(small));
    test_send(fd, rp_buffer_str(&request));
    rp_buffer_init(&reply, 0);
    assert_true(test_read_until(fd, RP_STR("\r\n\r\nwhole 65000 "), &reply));
    close(fd);
    rp_buffer_fini(&request);
    rp_buffer_fini(&reply);
    close_server(small);
}

static void
test_draining_lets_the_last_reply_out(void **state)
{
    (void)state;
    forget_earlier_signals();
    rp_http_server *other = open_server(&(rp_http_server_options){ .listen = "127.0.0.1:0" });
    sem_t done;
    sem_init(&done, 0, 0);
    rp_buffer reply;
    rp_buffer_init(&reply, 0);
    const int busy = test_connect(port_of(other)), idle = test_connect(port_of(other));
    test_send(idle, RP_STR("GET /a HTTP/1.1\r\n" H "\r\n"));
    assert_true(test_read_until(idle, RP_STR("/a"), &reply));
    test_send(busy, RP_STR("GET /late HTTP/1.1\r\n" H "\r\n"));
    test_wait(&arrived);
    rp_http_server_drain(other, say_done, &done);
    rp_buffer_clear(&reply);
    assert_true(test_read_all(idle, &reply));
    assert_int_equal(reply.len, 0);
    assert_int_equal(sem_trywait(&done), -1);
    run_on_its_loop(atomic_load(&held), end_held);
    assert_true(test_read_all(busy, &reply));
    assert_true(test_contains(rp_buffer_str(&reply), "Connection: close"));
    assert_true(rp_str_ends_with(rp_buffer_str(&reply), RP_STR("late")));
    test_wait(&done);
    rp_http_server_free(other);
    rp_buffer_fini(&reply);
    close(busy);
    close(idle);
    sem_destroy(&done);
}

static void
test_idle_connections_are_cheap(void **state)
{
    (void)state;
    struct rlimit limit;
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit);
    getrlimit(RLIMIT_NOFILE, &limit);
    const size_t count = limit.rlim_cur >= 4200 ? 2000 : 400;
    rp_http_server *other = open_server(&(rp_http_server_options){ .listen = "127.0.0.1:0" });
    int *fds = malloc(count * sizeof *fds);
    /* The heap as malloc counts it; under a sanitizer this says 0 and proves nothing. */
    const size_t before = mallinfo2().uordblks;
    for (size_t i = 0; i < count; i++) {
        rp_buffer reply;
        rp_buffer_init(&reply, 0);
        fds[i] = test_connect(port_of(other));
        test_send(fds[i], RP_STR("GET /a HTTP/1.1\r\n" H "\r\n"));
        assert_true(test_read_until(fds[i], RP_STR("/a"), &reply));
        rp_buffer_fini(&reply);
    }
    const size_t after = mallinfo2().uordblks;
    const size_t each = after > before ? (after - before) / count : 0;
    print_message("%zu idle connections, %zu bytes of heap each\n", count, each);
    assert_true(each <= 2048);
    for (size_t i = 0; i < count; i++)
        close(fds[i]);
    free(fds);
    close_server(other);
}

static void
test_addresses_are_checked(void **state)
{
    (void)state;
    static const char *const bad[] = { "", "8080", "127.0.0.1", "127.0.0.1:", "127.0.0.1:x",
                                       "127.0.0.1:65536", "::1:80", "[::1]", ":80" };
    rp_http_server *made;
    rp_error error;
    for (size_t i = 0; i < RP_COUNT(bad); i++) {
        const rp_http_server_options options = { .listen = bad[i] };
        assert_int_equal(rp_http_server_new(loops, 2, &options, &handler, &made, &error), RP_ERR_INVALID);
    }
    /* In use: told, not shared. */
    char used[80];
    snprintf(used, sizeof used, "%.*s", RP_FMT(rp_http_server_address(server)));
    const rp_http_server_options options = { .listen = used };
    assert_int_equal(rp_http_server_new(loops, 2, &options, &handler, &made, &error), RP_ERR_IO);
    assert_true(test_contains(rp_str_of(error.text), used));
}

/* ---- TLS ------------------------------------------------------------------------------------- */

static void
write_certificate(const char *name, const char *certificate_path, const char *key_path)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *certificate = X509_new();
    X509_set_version(certificate, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(certificate), 1);
    X509_gmtime_adj(X509_getm_notBefore(certificate), -3600);
    X509_gmtime_adj(X509_getm_notAfter(certificate), 3600);
    X509_set_pubkey(certificate, key);
    X509_NAME *subject = X509_get_subject_name(certificate);
    X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC, (const unsigned char *)name, -1, -1, 0);
    X509_set_issuer_name(certificate, subject);
    assert_true(X509_sign(certificate, key, EVP_sha256()) > 0);
    FILE *file = fopen(certificate_path, "w");
    assert_non_null(file);
    PEM_write_X509(file, certificate);
    fclose(file);
    file = fopen(key_path, "w");
    assert_non_null(file);
    PEM_write_PrivateKey(file, key, NULL, NULL, 0, NULL, NULL);
    fclose(file);
    X509_free(certificate);
    EVP_PKEY_free(key);
}

/* Returns the subject of the server's certificate, or "" if the handshake failed. */
static void
talk_tls(unsigned to, int version, rp_str request, rp_buffer *reply, char subject[64])
{
    SSL_CTX *context = SSL_CTX_new(TLS_client_method());
    SSL_CTX_set_max_proto_version(context, version);
    SSL_CTX_set_min_proto_version(context, version);
    if (version < TLS1_2_VERSION)
        SSL_CTX_set_cipher_list(context, "ALL:@SECLEVEL=0");
    SSL *tls = SSL_new(context);
    const int fd = test_connect(to);
    SSL_set_fd(tls, fd);
    subject[0] = '\0';
    rp_buffer_init(reply, 0);
    if (SSL_connect(tls) == 1) {
        X509 *certificate = SSL_get1_peer_certificate(tls);
        X509_NAME_get_text_by_NID(X509_get_subject_name(certificate), NID_commonName, subject, 64);
        X509_free(certificate);
        assert_true(SSL_write(tls, request.ptr, (int)request.len) > 0);
        char part[16384];
        int n;
        while ((n = SSL_read(tls, part, sizeof part)) > 0)
            rp_buffer_append(reply, (rp_str){ part, (size_t)n });
    }
    SSL_free(tls);
    SSL_CTX_free(context);
    close(fd);
}

static void
test_tls_serves_and_reloads(void **state)
{
    (void)state;
    char folder[] = "/tmp/reprise-test-tls-XXXXXX", certificate[64], key[64], subject[64];
    assert_non_null(mkdtemp(folder));
    snprintf(certificate, sizeof certificate, "%s/cert.pem", folder);
    snprintf(key, sizeof key, "%s/key.pem", folder);
    write_certificate("first", certificate, key);
    rp_http_server *secure = open_server(&(rp_http_server_options){
        .listen = "127.0.0.1:0", .tls_certificate = certificate, .tls_key = key,
        .output_high_bytes = OUTPUT_HIGH });
    const unsigned to = port_of(secure);
    const rp_str request = RP_STR("GET /a HTTP/1.1\r\n" H "\r\nGET /b HTTP/1.1\r\n" H CLOSE "\r\n");
    rp_buffer reply;
    const int versions[] = { TLS1_2_VERSION, TLS1_3_VERSION };
    for (size_t i = 0; i < RP_COUNT(versions); i++) {
        talk_tls(to, versions[i], request, &reply, subject);
        assert_string_equal(subject, "first");
        assert_int_equal(count_of(rp_buffer_str(&reply), "HTTP/1.1 200 OK"), 2);
        rp_buffer_fini(&reply);
    }
    talk_tls(to, TLS1_1_VERSION, request, &reply, subject);
    assert_string_equal(subject, "");
    rp_buffer_fini(&reply);
    /* Large, so that writes block in the middle of records. */
    talk_tls(to, TLS1_3_VERSION, RP_STR("GET /flood-counted HTTP/1.1\r\n" H CLOSE "\r\n"), &reply, subject);
    assert_true(rp_str_ends_with(rp_buffer_str(&reply), flood_body()));
    rp_buffer_fini(&reply);
    /* And large the other way. */
    rp_buffer upload;
    rp_buffer_init(&upload, 0);
    rp_buffer_append(&upload, RP_STR("POST /upload HTTP/1.1\r\n" H CLOSE "Content-Length: 500000\r\n\r\n"));
    for (int i = 0; i < 500000; i++)
        rp_buffer_append_char(&upload, 'u');
    talk_tls(to, TLS1_3_VERSION, rp_buffer_str(&upload), &reply, subject);
    assert_true(test_contains(rp_buffer_str(&reply), " 500000 "));
    rp_buffer_fini(&reply);
    rp_buffer_fini(&upload);

    rp_error error = { { 0 } };
    write_certificate("second", certificate, key);
    assert_int_equal(rp_http_server_change(secure, "127.0.0.1:0", certificate, key, &error), RP_OK);
    talk_tls(to, TLS1_3_VERSION, request, &reply, subject);
    assert_string_equal(subject, "second");
    rp_buffer_fini(&reply);
    FILE *broken = fopen(certificate, "w");
    fputs("no certificate\n", broken);
    fclose(broken);
    assert_int_equal(rp_http_server_change(secure, "127.0.0.1:0", certificate, key, &error), RP_ERR_IO);
    assert_true(test_contains(rp_str_of(error.text), certificate));
    talk_tls(to, TLS1_3_VERSION, request, &reply, subject);
    assert_string_equal(subject, "second");
    rp_buffer_fini(&reply);
    /* Plain HTTP to the TLS port ends, and says nothing that could be taken for a reply. */
    talk_to(to, request, &reply);
    assert_int_equal(status_of(rp_buffer_str(&reply)), -1);
    rp_buffer_fini(&reply);
    close_server(secure);
    unlink(certificate);
    unlink(key);
    rmdir(folder);
}

int
main(void)
{
    sem_init(&arrived, 0, 0);
    sem_init(&gone, 0, 0);
    flood_body();
    loops[0] = test_start_loop();
    loops[1] = test_start_loop();
    rp_http_server_options options = {
        .listen = "127.0.0.1:0",
        .body_buffer_max = BODY_BUFFER_MAX,
        .body_size_max = BODY_SIZE_MAX,
        .output_high_bytes = OUTPUT_HIGH,
    };
    server = open_server(&options);
    port = port_of(server);
    options.head_timeout_us = options.body_timeout_us = 300000;
    options.idle_timeout_us = options.write_timeout_us = 300000;
    strict = open_server(&options);
    strict_port = port_of(strict);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_doubtful_requests_are_refused_and_end_the_connection),
        cmocka_unit_test(test_large_heads_are_refused),
        cmocka_unit_test(test_a_body_over_the_limit_hears_why),
        cmocka_unit_test(test_dripping_ends_at_an_absolute_deadline),
        cmocka_unit_test(test_an_idle_connection_is_closed_in_silence),
        cmocka_unit_test(test_pipelined_requests_are_answered_in_order),
        cmocka_unit_test(test_a_later_request_waits_for_the_reply_before),
        cmocka_unit_test(test_versions_decide_about_the_connection),
        cmocka_unit_test(test_head_gets_no_body),
        cmocka_unit_test(test_targets_in_every_form_arrive),
        cmocka_unit_test(test_who_expects_continue_is_told_to),
        cmocka_unit_test(test_bodies_arrive_whole_or_in_pieces),
        cmocka_unit_test(test_a_paused_body_waits_and_goes_on),
        cmocka_unit_test(test_a_leaving_client_is_seen),
        cmocka_unit_test(test_a_slow_reader_gets_every_byte),
        cmocka_unit_test(test_who_never_reads_is_cut),
        cmocka_unit_test(test_a_broken_reply_is_noticed),
        cmocka_unit_test(test_headers_cannot_break_the_framing),
        cmocka_unit_test(test_too_many_connections_are_told),
        cmocka_unit_test(test_bodies_together_have_a_limit),
        cmocka_unit_test(test_draining_lets_the_last_reply_out),
        cmocka_unit_test(test_idle_connections_are_cheap),
        cmocka_unit_test(test_addresses_are_checked),
        cmocka_unit_test(test_tls_serves_and_reloads),
    };
    cmocka_set_test_filter(getenv("TEST_FILTER"));
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    for (size_t i = 0; i < 2; i++)
        test_stop_loop(loops[i]);
    rp_http_server_free(server);
    rp_http_server_free(strict);
    for (size_t i = 0; i < 2; i++)
        rp_loop_free(loops[i]);
    return failed;
}
