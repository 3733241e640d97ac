/* test_http_direct.c - our own way to an upstream: framing, reuse, queues, names.
 *
 * What could go wrong: a reply cut or joined at the wrong byte, a doubtful one believed, a
 * connection used again that must not be, a request sent twice that may not be, waiting
 * requests forgotten, a name that holds the loop. A thread plays the upstream; a row of
 * bytes is its whole reply. Nothing here waits for time to pass but deadlines that must
 * come, and every wait for a state has a bound far above what is needed. */
#include "net/http_client_internal.h"
#include "net_support.h"

#include <pthread.h>
#include <stdatomic.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { BIG_SIZE = 1 << 20, CHUNK = 1000 };

/* ---- replies ------------------------------------------------------------------------------ */

typedef struct row {
    rp_str reply;
    rp_fetch_result result;
    int status;
    rp_str body;
    bool closes; /* the upstream closes after it; otherwise it waits for the next request */
    bool reused; /* the connection carries the next request */
    bool to_head;
} row;

#define OK_11 "HTTP/1.1 200 OK\r\n"
#define BROKEN RP_FETCH_BROKEN, 0, { NULL, 0 }

static const row rows[] = {
    { RP_STR(OK_11 "Content-Length: 2\r\n\r\nok"), RP_FETCH_OK, 200, RP_STR("ok"), .reused = true },
    { RP_STR(OK_11 "content-length:2\r\n\r\nok"), RP_FETCH_OK, 200, RP_STR("ok"), .reused = true },
    { RP_STR(OK_11 "Content-Length : 2\r\n\r\nok"), RP_FETCH_OK, 200, RP_STR("ok"), .reused = true },
    { RP_STR(OK_11 "Content-Length: 2\r\nContent-Length: 2\r\n\r\nok"), RP_FETCH_OK, 200, RP_STR("ok"),
      .reused = true },
    { RP_STR("HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok"), RP_FETCH_OK, 200, RP_STR("ok"), .reused = true },
    { RP_STR("HTTP/1.1 299 \xc3\xa4 b\r\nContent-Length: 0\r\n\r\n"), RP_FETCH_OK, 299, RP_STR(""),
      .reused = true },
    { RP_STR("HTTP/1.1 204 No Content\r\n\r\n"), RP_FETCH_OK, 204, RP_STR(""), .reused = true },
    { RP_STR("HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n"), RP_FETCH_OK, 304, RP_STR(""),
      .reused = true },
    { RP_STR(OK_11 "Content-Length: 9\r\n\r\n"), RP_FETCH_OK, 200, RP_STR(""), .reused = true, .to_head = true },
    { RP_STR(OK_11 "Transfer-Encoding: chunked\r\n\r\n"), RP_FETCH_OK, 200, RP_STR(""), .reused = true,
      .to_head = true },
    { RP_STR(OK_11 "Transfer-Encoding: Chunked\r\n\r\n2 ;x=\"y\"\r\nab\r\n1\r\nc\r\n0\r\nT: u\r\n\r\n"),
      RP_FETCH_OK, 200, RP_STR("abc"), .reused = true },
    { RP_STR("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 102 P\r\nX: y\r\n\r\n" OK_11 "Content-Length: 1\r\n\r\nx"),
      RP_FETCH_OK, 200, RP_STR("x"), .reused = true },
    /* Not to be used again. */
    { RP_STR(OK_11 "Content-Length: 2\r\nConnection: close\r\n\r\nok"), RP_FETCH_OK, 200, RP_STR("ok"), false },
    { RP_STR(OK_11 "Content-Length: 2\r\nConnection: x, Close\r\n\r\nok"), RP_FETCH_OK, 200, RP_STR("ok"), false },
    { RP_STR(OK_11 "Content-Length: 2\r\nKeep-Alive: max=5, timeout=1\r\n\r\nok"), RP_FETCH_OK, 200,
      RP_STR("ok"), false },
    { RP_STR("HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok"), RP_FETCH_OK, 200, RP_STR("ok"), false },
    { RP_STR("HTTP/1.0 200 OK\r\nContent-Length: 2\r\nConnection: keep-alive\r\n\r\nok"), RP_FETCH_OK, 200,
      RP_STR("ok"), .reused = true },
    { RP_STR("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: keep-alive\r\n\r\n1\r\nx\r\n0\r\n\r\n"),
      RP_FETCH_OK, 200, RP_STR("x"), false },
    { RP_STR(OK_11 "Content-Length: 2\r\n\r\nok!"), RP_FETCH_OK, 200, RP_STR("ok"), false },
    { RP_STR("HTTP/1.1 204 No Content\r\n\r\nbody"), RP_FETCH_OK, 204, RP_STR(""), false },
    { RP_STR(OK_11 "Content-Length: 2\r\n\r\nno"), RP_FETCH_OK, 200, RP_STR(""), false, .to_head = true },
    { RP_STR(OK_11 "\r\nuntil the end"), RP_FETCH_OK, 200, RP_STR("until the end"), true },
    { RP_STR(OK_11 "\r\n"), RP_FETCH_OK, 200, RP_STR(""), true },
    /* Broken off. */
    { RP_STR(""), BROKEN, true },
    { RP_STR("HTTP/1.1 200 OK\r\nContent-Le"), BROKEN, true },
    { RP_STR(OK_11 "Content-Length: 3\r\n\r\nok"), RP_FETCH_BROKEN, 200, RP_STR("ok"), true },
    { RP_STR(OK_11 "Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n"), RP_FETCH_BROKEN, 200, RP_STR("ok"), true },
    { RP_STR(OK_11 "Transfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n"), RP_FETCH_BROKEN, 200, RP_STR("ok"), true },
    { RP_STR("HTTP/1.1 100 Continue\r\n\r\n"), BROKEN, true },
    /* Doubtful, so refused, although the upstream waits politely for what comes next. */
    { RP_STR(OK_11 "Content-Length: 2\r\nContent-Length: 3\r\n\r\nok!"), BROKEN, false },
    { RP_STR(OK_11 "Content-Length: 2, 2\r\n\r\nok"), BROKEN, false },
    { RP_STR(OK_11 "Content-Length: +2\r\n\r\nok"), BROKEN, false },
    { RP_STR(OK_11 "Content-Length: 9223372036854775808\r\n\r\nok"), BROKEN, false },
    { RP_STR(OK_11 "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"), BROKEN, false },
    { RP_STR(OK_11 "Transfer-Encoding: gzip, chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"), BROKEN, false },
    { RP_STR(OK_11 "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), BROKEN, false },
    { RP_STR(OK_11 "X: a\r\n b\r\nContent-Length: 0\r\n\r\n"), BROKEN, false },
    { RP_STR(OK_11 "Content-Length: 2\n\r\nok"), BROKEN, false },
    { RP_STR("HTTP/1.1 200 OK\nContent-Length: 2\n\nok"), BROKEN, false },
    { RP_STR(OK_11 "X: a\0b\r\nContent-Length: 0\r\n\r\n"), BROKEN, false },
    { RP_STR(OK_11 "X y: a\r\nContent-Length: 0\r\n\r\n"), BROKEN, false },
    { RP_STR(OK_11 "nonsense\r\nContent-Length: 0\r\n\r\n"), BROKEN, false },
    { RP_STR("HTTP/2 200\r\n\r\n"), BROKEN, false },
    { RP_STR("HTTP/1.1 2000 OK\r\n\r\n"), BROKEN, false },
    { RP_STR("HTTP/1.1 099 OK\r\n\r\n"), BROKEN, false },
    { RP_STR("HTTP/1.1  200 OK\r\n\r\n"), BROKEN, false },
    { RP_STR("ICY 200 OK\r\n\r\n"), BROKEN, false },
    { RP_STR("\r\nHTTP/1.1 200 OK\r\n\r\n"), BROKEN, false },
    { RP_STR("HTTP/1.1 101 Switching Protocols\r\n\r\n"), BROKEN, false },
    { RP_STR(OK_11 "Transfer-Encoding: chunked\r\n\r\nzz\r\n"), RP_FETCH_BROKEN, 200, RP_STR(""), false },
};

/* ---- an upstream that does as the path says ------------------------------------------------- */

static int listener;
static unsigned port;
static atomic_int connections_seen, requests_seen;
static sem_t closed;       /* posted when an upstream has closed after its reply */
static sem_t looked_at;     /* somebody looked whether the connection is silent */
static atomic_bool armed;   /* ... and is to be told so, although it is just being closed */
static sem_t smuggle_now, smuggled; /* bytes after a reply: to be sent; arrived */
static sem_t early_done;    /* the reply to an upload that is not read has been taken */

/* Instead of the C library's: between a look at a kept connection and the request nothing
 * can be put but from in here. */
ssize_t
recv(int fd, void *bytes, size_t size, int flags)
{
    bool yes = true;
    if (flags & MSG_PEEK && atomic_compare_exchange_strong(&armed, &yes, false)) {
        sem_post(&looked_at);
        test_wait(&closed);
        errno = EAGAIN;
        return -1;
    }
    return syscall(SYS_recvfrom, fd, bytes, size, flags, NULL, NULL);
}

static rp_str
big_body(void)
{
    static char bytes[BIG_SIZE];
    if (!bytes[1])
        for (size_t i = 0; i < BIG_SIZE; i++)
            bytes[i] = (char)(i * 2654435761u >> 13);
    return (rp_str){ bytes, BIG_SIZE };
}

static void
send_chunks(int fd)
{
    char line[32];
    test_say(fd, OK_11 "Transfer-Encoding: chunked\r\n\r\n");
    for (size_t at = 0; at < BIG_SIZE; at += CHUNK) {
        const size_t n = RP_MIN((size_t)CHUNK, BIG_SIZE - at);
        snprintf(line, sizeof line, "%zx\r\n", n);
        test_say(fd, line);
        test_send(fd, (rp_str){ big_body().ptr + at, n });
        test_say(fd, "\r\n");
    }
    test_say(fd, "0\r\n\r\n");
}

/* False: close. */
static bool
answer(int fd, rp_str request, int count)
{
    const char *at = memmem(request.ptr, request.len, "/row/", 5);
    if (at) {
        const row *r = &rows[atoi(at + 5)];
        test_send(fd, r->reply);
        return !r->closes;
    }
    if (test_contains(request, " /flood ")) {
        for (int i = 0; i < 1000; i++)
            test_say(fd, "HTTP/1.1 102 Processing\r\n\r\n");
        return true;
    }
    if (test_contains(request, " /many ")) {
        test_say(fd, OK_11);
        for (int i = 0; i < 800; i++)
            test_say(fd, "X: y\r\n");
        test_say(fd, "\r\n");
        return false;
    }
    if (test_contains(request, " /large ")) {
        static const char line[1024] = { [0 ... 1023] = 'x' };
        test_say(fd, OK_11 "X: ");
        for (int i = 0; i < 257; i++)
            test_send(fd, (rp_str){ line, sizeof line });
        test_say(fd, "\r\n\r\n");
        return false;
    }
    if (test_contains(request, " /chunks ")) {
        send_chunks(fd);
        return true;
    }
    if (test_contains(request, " /once ") && count > 0)
        return false; /* received, and not answered */
    if (test_contains(request, " /silent "))
        return true;
    if (test_contains(request, " /half ")) {
        test_say(fd, OK_11 "Content-Length: 10\r\n\r\nabc");
        return true;
    }
    if (test_contains(request, " /early ")) {
        test_say(fd, "HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno");
        test_wait(&early_done);
        return false;
    }
    test_say(fd, OK_11 "Content-Length: 2\r\n\r\nok");
    if (test_contains(request, " /close-when-looked-at ")) {
        test_wait(&looked_at);
        return false;
    }
    if (test_contains(request, " /smuggle ")) {
        test_wait(&smuggle_now);
        test_say(fd, "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil");
        test_wait_until_arrived(fd);
        sem_post(&smuggled);
    }
    return !test_contains(request, " /then-close ");
}

static void
read_body(int fd, const rp_buffer *head)
{
    const char *at = memmem(head->ptr, head->len, "Content-Length: ", 16);
    const long size = at ? atol(at + 16) : 0;
    char byte;
    for (long i = 0; i < size && read(fd, &byte, 1) == 1; i++)
        continue;
}

static void *
serve_connection(void *context)
{
    const int fd = (int)(intptr_t)context;
    rp_buffer received;
    rp_buffer_init(&received, 0);
    bool told = false;
    for (int count = 0; test_read_until(fd, RP_STR("\r\n\r\n"), &received); count++) {
        atomic_fetch_add(&requests_seen, 1);
        rp_buffer_append_char(&received, '\0');
        received.len--;
        told = test_contains(rp_buffer_str(&received), "close");
        if (!test_contains(rp_buffer_str(&received), " /early "))
            read_body(fd, &received);
        if (!answer(fd, rp_buffer_str(&received), count))
            break;
        rp_buffer_clear(&received);
    }
    rp_buffer_fini(&received);
    if (told) {
        shutdown(fd, SHUT_WR);
        test_wait_until_arrived(fd); /* the end, too */
    }
    close(fd);
    if (told)
        sem_post(&closed);
    return NULL;
}

/* ---- one fetch ------------------------------------------------------------------------------- */

typedef struct probe {
    rp_fetch_request request;
    rp_header field;
    char url[128];
    rp_http_client *client;
    rp_fetch *fetch;
    rp_status started;
    int status;
    size_t header_count;
    rp_buffer body;
    rp_fetch_result result;
    char detail[80];
    bool pause_each, hold, must_be_silent;
    rp_timer *timer;
    sem_t done;
} probe;

static rp_loop *loop;

static void
on_head(void *context, int status, const rp_header *headers, size_t count)
{
    probe *p = context;
    (void)headers;
    assert_false(p->must_be_silent);
    p->status = status;
    p->header_count = count;
}

static bool
on_data(void *context, rp_str bytes)
{
    probe *p = context;
    assert_false(p->must_be_silent);
    if (p->pause_each && !p->hold) {
        p->hold = true;
        rp_timer_set(p->timer, 0);
        return false;
    }
    p->hold = false;
    rp_buffer_append(&p->body, bytes);
    return true;
}

static void
on_done(void *context, rp_fetch_result result, const char *detail)
{
    probe *p = context;
    assert_false(p->must_be_silent);
    p->result = result;
    snprintf(p->detail, sizeof p->detail, "%s", detail);
    sem_post(&p->done);
}

static const rp_fetch_handler handler = { on_head, on_data, on_done, NULL };

static void
resume(void *context)
{
    rp_fetch_resume(((probe *)context)->fetch);
}

static void
start(void *context)
{
    probe *p = context;
    rp_error error;
    assert_int_equal(rp_timer_new(loop, resume, p, &p->timer), RP_OK);
    p->started = rp_fetch_start(p->client, &p->request, &handler, p, &p->fetch, &error);
}

static void
cancel(void *context)
{
    probe *p = context;
    p->must_be_silent = true;
    rp_fetch_cancel(p->fetch);
}

static void
prepare(probe *p, rp_http_client *client, const char *method, const char *host, const char *path)
{
    *p = (probe){ .client = client };
    snprintf(p->url, sizeof p->url, "http://%s:%u%s", host, port, path);
    p->request = (rp_fetch_request){ .method = rp_str_of(method), .url = rp_str_of(p->url),
                                     .body_is_whole = true };
    if (strcmp(method, "POST") == 0)
        p->request.body = RP_STR("body");
    rp_buffer_init(&p->body, 0);
    sem_init(&p->done, 0, 0);
}

static void
begin(probe *p)
{
    test_on_loop(loop, start, p);
    assert_int_equal(p->started, RP_OK);
}

static void
free_timer(void *context)
{
    rp_timer_free(((probe *)context)->timer);
}

static void
finish(probe *p)
{
    test_on_loop(loop, free_timer, p);
    rp_buffer_fini(&p->body);
    sem_destroy(&p->done);
}

/* The whole of it; true if it ended well with "ok". */
static bool
is_ok(rp_http_client *client, const char *method, const char *host, const char *path)
{
    probe p;
    prepare(&p, client, method, host, path);
    begin(&p);
    test_wait(&p.done);
    const bool good = p.result == RP_FETCH_OK && rp_str_equal(rp_buffer_str(&p.body), RP_STR("ok"));
    finish(&p);
    return good;
}

typedef struct making {
    rp_http_client *client;
    size_t connections_max;
} making;

static void
make_client(void *context)
{
    making *m = context;
    rp_error error;
    const rp_http_client_options options = { .connections_max = m->connections_max };
    assert_int_equal(rp_http_client_new(loop, &options, &m->client, &error), RP_OK);
}

static rp_http_client *
new_client(size_t connections_max)
{
    making m = { .connections_max = connections_max };
    test_on_loop(loop, make_client, &m);
    return m.client;
}

static void
do_free(void *context)
{
    rp_http_client_free(context);
}

static void
free_client(rp_http_client *client)
{
    test_on_loop(loop, do_free, client);
}

/* ---- tests ------------------------------------------------------------------------------------- */

static void
test_each_reply_is_taken_for_what_it_is(void **state)
{
    (void)state;
    for (size_t i = 0; i < RP_COUNT(rows); i++) {
        const row *r = &rows[i];
        char path[32];
        probe p;
        rp_http_client *client = new_client(4);
        snprintf(path, sizeof path, "/row/%zu", i);
        prepare(&p, client, r->to_head ? "HEAD" : "GET", "127.0.0.1", path);
        begin(&p);
        test_wait(&p.done);
        if (p.result != r->result || p.status != r->status)
            print_error("row %zu: result %d (%s), status %d\n", i, p.result, p.detail, p.status);
        assert_int_equal(p.result, r->result);
        assert_int_equal(p.status, r->status);
        assert_str_equal(rp_buffer_str(&p.body), r->body);
        finish(&p);
        const int before = atomic_load(&connections_seen);
        assert_true(is_ok(client, "GET", "127.0.0.1", "/"));
        if (before + !r->reused != atomic_load(&connections_seen))
            print_error("row %zu: used again %d\n", i, !r->reused);
        assert_int_equal(atomic_load(&connections_seen), before + !r->reused);
        free_client(client);
    }
}

static void
test_heads_without_an_end_are_given_up(void **state)
{
    (void)state;
    static const char *const paths[] = { "/flood", "/many", "/large" };
    rp_http_client *client = new_client(4);
    for (size_t i = 0; i < RP_COUNT(paths); i++) {
        probe p;
        prepare(&p, client, "GET", "127.0.0.1", paths[i]);
        begin(&p);
        test_wait(&p.done);
        assert_int_equal(p.result, RP_FETCH_BROKEN);
        assert_int_equal(p.status, 0);
        finish(&p);
    }
    free_client(client);
}

static void
test_pausing_between_chunks_loses_no_byte(void **state)
{
    (void)state;
    rp_http_client *client = new_client(4);
    probe p;
    prepare(&p, client, "GET", "127.0.0.1", "/chunks");
    p.pause_each = true;
    begin(&p);
    test_wait(&p.done);
    assert_int_equal(p.result, RP_FETCH_OK);
    assert_true(rp_str_equal(rp_buffer_str(&p.body), big_body()));
    finish(&p);
    free_client(client);
}

static void
test_requests_wait_for_a_connection_in_order(void **state)
{
    (void)state;
    /* One connection for all that may be used again, one after the other if not. */
    static const char *const paths[] = { "/", "/row/12" };
    enum { COUNT = 6 };
    for (size_t i = 0; i < RP_COUNT(paths); i++) {
        rp_http_client *client = new_client(1);
        const int before = atomic_load(&connections_seen);
        probe probes[COUNT];
        for (int k = 0; k < COUNT; k++) {
            prepare(&probes[k], client, "GET", "127.0.0.1", paths[i]);
            begin(&probes[k]);
        }
        for (int k = 0; k < COUNT; k++) {
            test_wait(&probes[k].done);
            assert_int_equal(probes[k].result, RP_FETCH_OK);
            finish(&probes[k]);
        }
        assert_int_equal(atomic_load(&connections_seen) - before, i == 0 ? 1 : COUNT);
        free_client(client);
    }
}

static void
test_who_waits_in_vain_is_told_and_who_left_holds_nobody(void **state)
{
    (void)state;
    rp_http_client *client = new_client(1);
    probe first, second, third, fourth;
    prepare(&first, client, "GET", "127.0.0.1", "/silent");
    begin(&first);
    prepare(&second, client, "GET", "127.0.0.1", "/");
    second.request.first_byte_timeout_us = 50000;
    begin(&second);
    test_wait(&second.done);
    assert_int_equal(second.result, RP_FETCH_TIMEOUT);
    prepare(&third, client, "GET", "127.0.0.1", "/");
    prepare(&fourth, client, "GET", "127.0.0.1", "/");
    begin(&third);
    begin(&fourth);
    test_on_loop(loop, cancel, &third); /* from the queue */
    test_on_loop(loop, cancel, &first); /* and what it waited for */
    test_wait(&fourth.done);
    assert_int_equal(fourth.result, RP_FETCH_OK);
    finish(&first);
    finish(&second);
    finish(&third);
    finish(&fourth);
    free_client(client);
}

/* A client of its own: nothing else sets its timer. */
static void
test_a_reply_that_stops_is_given_up_after_the_idle_time(void **state)
{
    (void)state;
    rp_http_client *client = new_client(1);
    probe p;
    prepare(&p, client, "GET", "127.0.0.1", "/half");
    p.request.idle_timeout_us = 50000;
    p.request.connect_timeout_us = p.request.first_byte_timeout_us = 1000 * RP_SECOND_US;
    begin(&p);
    test_wait(&p.done);
    assert_int_equal(p.result, RP_FETCH_TIMEOUT);
    assert_str_equal(rp_buffer_str(&p.body), RP_STR("abc"));
    finish(&p);
    free_client(client);
}

static void
test_only_what_may_be_sent_twice_is(void **state)
{
    (void)state;
    static const rp_header key = { { "idempotency-key", 15 }, { "k", 1 } };
    static const struct {
        const char *method;
        const rp_header *field;
        rp_fetch_result result;
    } cases[] = {
        { "GET", NULL, RP_FETCH_OK },
        { "PUT", NULL, RP_FETCH_OK },
        { "POST", &key, RP_FETCH_OK },
        { "POST", NULL, RP_FETCH_BROKEN },
        { "PATCH", NULL, RP_FETCH_BROKEN },
    };
    for (size_t i = 0; i < RP_COUNT(cases); i++) {
        rp_http_client *client = new_client(4);
        assert_true(is_ok(client, "GET", "127.0.0.1", "/once"));
        const int before = atomic_load(&requests_seen);
        probe p;
        prepare(&p, client, cases[i].method, "127.0.0.1", "/once");
        p.request.headers = cases[i].field;
        p.request.header_count = cases[i].field != NULL;
        begin(&p);
        test_wait(&p.done);
        assert_int_equal(p.result, cases[i].result);
        assert_int_equal(atomic_load(&requests_seen) - before,
                         cases[i].result == RP_FETCH_OK ? 2 : 1);
        finish(&p);
        free_client(client);
    }
}

static void
test_a_closed_connection_is_noticed_before_it_is_used(void **state)
{
    (void)state;
    rp_http_client *client = new_client(4);
    assert_true(is_ok(client, "POST", "127.0.0.1", "/then-close"));
    test_wait(&closed);
    const int before = atomic_load(&requests_seen);
    assert_true(is_ok(client, "POST", "127.0.0.1", "/"));
    assert_int_equal(atomic_load(&requests_seen) - before, 1);
    free_client(client);
}

/* On the loop's thread, in one turn: what arrives now no event has told of when the next
 * request leaves at the end of it. */
static void
start_when_smuggled(void *context)
{
    sem_post(&smuggle_now);
    test_wait(&smuggled);
    start(context);
}

static void
test_a_connection_that_is_not_silent_is_not_used(void **state)
{
    (void)state;
    rp_http_client *client = new_client(4);
    assert_true(is_ok(client, "POST", "127.0.0.1", "/smuggle"));
    const int before = atomic_load(&connections_seen);
    probe p;
    prepare(&p, client, "POST", "127.0.0.1", "/");
    test_on_loop(loop, start_when_smuggled, &p);
    assert_int_equal(p.started, RP_OK);
    test_wait(&p.done);
    assert_int_equal(p.result, RP_FETCH_OK);
    assert_str_equal(rp_buffer_str(&p.body), RP_STR("ok"));
    assert_int_equal(atomic_load(&connections_seen) - before, 1);
    finish(&p);
    free_client(client);
}

static void
test_what_was_never_received_is_sent_again_even_if_a_post(void **state)
{
    (void)state;
    rp_http_client *client = new_client(4);
    assert_true(is_ok(client, "POST", "127.0.0.1", "/close-when-looked-at"));
    const int before = atomic_load(&requests_seen);
    const int connections = atomic_load(&connections_seen);
    atomic_store(&armed, true);
    assert_true(is_ok(client, "POST", "127.0.0.1", "/"));
    assert_false(atomic_load(&armed)); /* otherwise nothing was tried */
    assert_int_equal(atomic_load(&requests_seen) - before, 1);
    assert_int_equal(atomic_load(&connections_seen) - connections, 1);
    free_client(client);
}

static void
test_a_reply_before_the_end_of_the_upload_arrives(void **state)
{
    (void)state;
    enum { SIZE = 64 << 20 }; /* more than sockets hold */
    char *body = calloc(1, SIZE);
    rp_http_client *client = new_client(4);
    probe p;
    prepare(&p, client, "POST", "127.0.0.1", "/early");
    p.request.body = (rp_str){ body, SIZE };
    begin(&p);
    test_wait(&p.done);
    assert_int_equal(p.result, RP_FETCH_OK);
    assert_int_equal(p.status, 413);
    finish(&p);
    /* Half a request is on that connection, which the upstream still holds open. */
    const int before = atomic_load(&connections_seen);
    assert_true(is_ok(client, "GET", "127.0.0.1", "/"));
    assert_int_equal(atomic_load(&connections_seen) - before, 1);
    sem_post(&early_done);
    free_client(client);
    free(body);
}

typedef struct sending {
    probe *p;
    rp_str bytes;
} sending;

static void
send_last(void *context)
{
    const sending *s = context;
    (void)!rp_fetch_send(s->p->fetch, s->bytes, true);
}

static void
test_an_upload_of_another_length_than_announced_is_broken(void **state)
{
    (void)state;
    static const rp_str rests[] = { { "", 0 }, { "a", 1 }, { "abc", 3 } };
    rp_http_client *client = new_client(4);
    for (size_t i = 0; i < RP_COUNT(rests); i++) {
        probe p;
        prepare(&p, client, "POST", "127.0.0.1", "/");
        p.request.body_is_whole = false;
        p.request.body = RP_STR("12345");
        p.request.body_size = 7;
        begin(&p);
        sending s = { &p, rests[i] };
        test_on_loop(loop, send_last, &s);
        test_wait(&p.done);
        assert_int_equal(p.result, RP_FETCH_BROKEN);
        finish(&p);
    }
    free_client(client);
}

/* ---- names ---------------------------------------------------------------------------------------- */

static unsigned refusing_port, hanging_port; /* bound, and never listened on; a full queue */
static atomic_int lookups;
static sem_t lookup_begun, lookup_may_end;

static void
add_address(rp_dial_address *out, unsigned at_port)
{
    const struct sockaddr_in at = { .sin_family = AF_INET, .sin_port = htons((uint16_t)at_port),
                                    .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    memset(out, 0, sizeof *out);
    memcpy(&out->at, &at, sizeof at);
    out->size = sizeof at;
}

static size_t
resolve(const char *name, uint16_t at_port, rp_dial_address *out, size_t count_max)
{
    assert_true(count_max >= 3 && at_port == port);
    atomic_fetch_add(&lookups, 1);
    if (strcmp(name, "none.test") == 0)
        return 0;
    if (strcmp(name, "slow.test") == 0) {
        sem_post(&lookup_begun);
        test_wait(&lookup_may_end);
    }
    size_t count = 0;
    if (strcmp(name, "refused.test") == 0 || strcmp(name, "both.test") == 0)
        add_address(&out[count++], refusing_port);
    if (strcmp(name, "hangs.test") == 0 || strcmp(name, "both.test") == 0)
        add_address(&out[count++], hanging_port);
    if (strcmp(name, "never.test") == 0)
        add_address(&out[count++], hanging_port);
    else
        add_address(&out[count++], port);
    return count;
}

static int
bind_port(unsigned *out)
{
    struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t size = sizeof at;
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(bind(fd, (struct sockaddr *)&at, size), 0);
    assert_int_equal(getsockname(fd, (struct sockaddr *)&at, &size), 0);
    *out = ntohs(at.sin_port);
    return fd;
}

static void
test_another_address_is_tried_when_one_refuses_or_is_silent(void **state)
{
    (void)state;
    static const char *const names[] = { "good.test", "refused.test", "hangs.test", "both.test" };
    for (size_t i = 0; i < RP_COUNT(names); i++) {
        rp_http_client *client = new_client(4);
        const int before = atomic_load(&lookups);
        assert_true(is_ok(client, "GET", names[i], "/row/12"));
        assert_true(is_ok(client, "GET", names[i], "/row/12")); /* another connection */
        assert_int_equal(atomic_load(&lookups) - before, 1);
        free_client(client);
    }
}

static void
test_no_address_and_no_answer_are_told_apart(void **state)
{
    (void)state;
    rp_http_client *client = new_client(4);
    probe p;
    prepare(&p, client, "GET", "none.test", "/");
    begin(&p);
    test_wait(&p.done);
    assert_int_equal(p.result, RP_FETCH_NO_CONNECTION);
    finish(&p);
    prepare(&p, client, "GET", "never.test", "/");
    p.request.connect_timeout_us = 50000;
    begin(&p);
    test_wait(&p.done);
    assert_int_equal(p.result, RP_FETCH_TIMEOUT);
    finish(&p);
    free_client(client);
}

static void
test_a_slow_name_holds_neither_the_loop_nor_who_leaves(void **state)
{
    (void)state;
    rp_http_client *client = new_client(4);
    probe p, q, r;
    prepare(&p, client, "GET", "slow.test", "/");
    begin(&p);
    test_wait(&lookup_begun);
    assert_true(is_ok(client, "GET", "127.0.0.1", "/"));
    prepare(&q, client, "GET", "slow.test", "/"); /* waits for the same answer */
    begin(&q);
    test_on_loop(loop, cancel, &p);
    sem_post(&lookup_may_end);
    test_wait(&q.done);
    assert_int_equal(q.result, RP_FETCH_OK);
    finish(&p);
    finish(&q);
    free_client(client);
    /* And a client that is gone when the answer comes. */
    client = new_client(4);
    prepare(&r, client, "GET", "slow.test", "/");
    begin(&r);
    test_wait(&lookup_begun);
    r.must_be_silent = true;
    free_client(client);
    sem_post(&lookup_may_end);
    finish(&r);
}

static void
test_ipv6_addresses_are_understood(void **state)
{
    (void)state;
    rp_direct_target target;
    assert_true(rp_direct_parse(RP_STR("http://[::1]:81/a?b"), &target));
    assert_str_equal(target.name, RP_STR("::1"));
    assert_str_equal(target.authority, RP_STR("[::1]:81"));
    assert_str_equal(target.path, RP_STR("/a?b"));
    assert_int_equal(target.port, 81);
    assert_true(rp_direct_parse(RP_STR("HTTP://a.b-c"), &target));
    assert_str_equal(target.path, RP_STR(""));
    assert_int_equal(target.port, 80);
    /* Not for us: libcurl may take them, or say what is wrong. */
    static const char *const others[] = {
        "https://a/", "http://", "http:///x", "http://u@a/", "http://u:p@a/", "http://[::1/", "http://[]/",
        "http://[::1]x/", "http://[fe80::1%25eth0]/", "http://a:/", "http://a:0/", "http://a:65536/",
        "http://a:1b/", "http://a/#b", "http://a/ b", "http://a/\xc3\xa4", "http://\xc3\xa4/", "http://a b/",
        "http://a\tb/", "http://a\\b/", "http://%61/",
    };
    for (size_t i = 0; i < RP_COUNT(others); i++) {
        if (rp_direct_parse(rp_str_of(others[i]), &target))
            print_error("address %zu\n", i);
        assert_false(rp_direct_parse(rp_str_of(others[i]), &target));
    }
}

int
main(void)
{
    listener = bind_port(&port);
    const int refusing = bind_port(&refusing_port), hanging = bind_port(&hanging_port);
    /* A queue of none holds one, on some systems two; the kernel drops who comes after. */
    const struct sockaddr_in there = { .sin_family = AF_INET, .sin_port = htons((uint16_t)hanging_port),
                                       .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    int fillers[4];
    if (listen(listener, 64) || listen(hanging, 0))
        return 1;
    fillers[0] = test_connect(hanging_port);
    for (size_t i = 1; i < RP_COUNT(fillers); i++) {
        fillers[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        (void)!connect(fillers[i], (const struct sockaddr *)&there, sizeof there);
    }
    sem_init(&closed, 0, 0);
    sem_init(&looked_at, 0, 0);
    sem_init(&early_done, 0, 0);
    sem_init(&smuggle_now, 0, 0);
    sem_init(&smuggled, 0, 0);
    sem_init(&lookup_begun, 0, 0);
    sem_init(&lookup_may_end, 0, 0);
    big_body();
    rp_dial_set_resolver(resolve);
    pthread_t thread;
    test_service service = { listener, serve_connection, &connections_seen };
    if (pthread_create(&thread, NULL, test_serve, &service))
        return 1;
    loop = test_start_loop();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_reply_is_taken_for_what_it_is),
        cmocka_unit_test(test_heads_without_an_end_are_given_up),
        cmocka_unit_test(test_pausing_between_chunks_loses_no_byte),
        cmocka_unit_test(test_requests_wait_for_a_connection_in_order),
        cmocka_unit_test(test_who_waits_in_vain_is_told_and_who_left_holds_nobody),
        cmocka_unit_test(test_a_reply_that_stops_is_given_up_after_the_idle_time),
        cmocka_unit_test(test_only_what_may_be_sent_twice_is),
        cmocka_unit_test(test_a_closed_connection_is_noticed_before_it_is_used),
        cmocka_unit_test(test_a_connection_that_is_not_silent_is_not_used),
        cmocka_unit_test(test_what_was_never_received_is_sent_again_even_if_a_post),
        cmocka_unit_test(test_a_reply_before_the_end_of_the_upload_arrives),
        cmocka_unit_test(test_an_upload_of_another_length_than_announced_is_broken),
        cmocka_unit_test(test_another_address_is_tried_when_one_refuses_or_is_silent),
        cmocka_unit_test(test_no_address_and_no_answer_are_told_apart),
        cmocka_unit_test(test_a_slow_name_holds_neither_the_loop_nor_who_leaves),
        cmocka_unit_test(test_ipv6_addresses_are_understood),
    };
    const int failed = cmocka_run_group_tests(tests, NULL, NULL);
    test_stop_loop(loop);
    rp_loop_free(loop);
    shutdown(listener, SHUT_RDWR);
    pthread_join(thread, NULL);
    close(listener);
    close(refusing);
    close(hanging);
    for (size_t i = 0; i < RP_COUNT(fillers); i++)
        close(fillers[i]);
    return failed;
}
