/* test_http_client.c - what an upstream does wrong is told, and never hangs or crashes us.
 *
 * Everything here holds of both ways to an upstream, our own sockets and libcurl, and runs
 * twice; what only the first can do is in test_http_direct.c. A thread plays the upstream,
 * one connection after the other per thread, and misbehaves as the path asks. Faults to
 * notice: a broken reply taken for a whole one, bytes lost or doubled by pausing, a
 * callback after a cancel, a stale connection not tried again, a deadline that never comes,
 * headers that leak from the connection to the upstream. */
#include "net/http_client_internal.h"
#include "net_support.h"

#include <pthread.h>
#include <stdatomic.h>

/* ---- an upstream that does as the path says ------------------------------------------- */

enum { BIG_SIZE = 3 << 20 };

static int listener;
static unsigned port;
static sem_t smuggled; /* posted when the bytes after a reply have arrived */
static atomic_int stale_seen, connections_seen;

static rp_str
big_body(void)
{
    static char *bytes;
    if (!bytes) {
        bytes = malloc(BIG_SIZE);
        for (size_t i = 0; i < BIG_SIZE; i++)
            bytes[i] = (char)(i * 2654435761u >> 13);
    }
    return (rp_str){ bytes, BIG_SIZE };
}

static void
reset(int fd)
{
    const struct linger now = { .l_onoff = 1, .l_linger = 0 };
    setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
}

/* Answer with what was received: head and body, as they came. */
static void
echo(int fd, rp_buffer *received)
{
    char length[80];
    uint64_t size = 0;
    const char *at = memmem(received->ptr, received->len, "Content-Length: ", 16);
    if (at) {
        const rp_str rest = { at + 16, received->len - (size_t)(at - received->ptr) - 16 };
        /* The head ends with an empty line, so there is a CR; a string's end there is not. */
        const char *end = memchr(rest.ptr, '\r', rest.len);
        rp_str_to_u64((rp_str){ rest.ptr, (size_t)(end - rest.ptr) }, &size);
    }
    const size_t head_size = received->len;
    char c;
    while (received->len < head_size + size && recv(fd, &c, 1, 0) == 1)
        rp_buffer_append_char(received, c);
    if (test_contains(rp_buffer_str(received), "Transfer-Encoding: chunked"))
        test_read_until(fd, RP_STR("\r\n0\r\n\r\n"), received);
    snprintf(length, sizeof length, "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n", received->len);
    test_say(fd, length);
    test_send(fd, rp_buffer_str(received));
}

/* False: close. */
static bool
answer(int fd, rp_buffer *received, int count)
{
    const rp_str r = rp_buffer_str(received);
    char length[80];
    snprintf(length, sizeof length, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", BIG_SIZE);
    if (test_contains(r, " /ok "))
        test_say(fd, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-A: 1\r\nX-Empty:\r\n\r\nok");
    else if (test_contains(r, " /chunked "))
        test_say(fd, "HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n"
                "3;x=y\r\nabc\r\n2\r\nde\r\n0\r\nX-Trailer: 1\r\n\r\n");
    else if (test_contains(r, " /interim "))
        test_say(fd, "HTTP/1.1 103 Early Hints\r\nX-Early: 1\r\n\r\nHTTP/1.1 200 OK\r\n"
                "Content-Length: 2\r\n\r\nok");
    else if (test_contains(r, " /until-close ")) {
        test_say(fd, "HTTP/1.0 200 OK\r\n\r\nall of it");
        return false;
    } else if (test_contains(r, " /garbage ")) {
        test_say(fd, "\x16\x03\x01 this is no HTTP\r\n\r\n");
        return false;
    } else if (test_contains(r, " /nothing ")) {
        return false;
    } else if (test_contains(r, " /short ")) {
        test_say(fd, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc");
        return false;
    } else if (test_contains(r, " /short-chunked ")) {
        test_say(fd, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab");
        return false;
    } else if (test_contains(r, " /bad-chunk ")) {
        test_say(fd, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n");
        return false;
    } else if (test_contains(r, " /head-only ")) {
        test_say(fd, "HTTP/1.1 200 OK\r\nContent-Le");
        return false;
    } else if (test_contains(r, " /two-lengths ")) {
        test_say(fd, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 5\r\n\r\nabcde");
    } else if (test_contains(r, " /length-list ")) {
        test_say(fd, "HTTP/1.1 200 OK\r\nContent-Length: 3, 5\r\n\r\nabcde");
    } else if (test_contains(r, " /both ")) {
        test_say(fd, "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n"
                "5\r\nabcde\r\n0\r\n\r\n");
    } else if (test_contains(r, " /coded ")) {
        test_say(fd, "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n"
                "5\r\nabcde\r\n0\r\n\r\n");
    } else if (test_contains(r, " /reset ")) {
        reset(fd);
        return false;
    } else if (test_contains(r, " /stall ")) {
        rp_buffer rest;
        rp_buffer_init(&rest, 0);
        test_read_all(fd, &rest); /* until the client gives up */
        rp_buffer_fini(&rest);
        return false;
    } else if (test_contains(r, " /stall-mid ")) {
        rp_buffer rest;
        rp_buffer_init(&rest, 0);
        test_say(fd, "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc");
        test_read_all(fd, &rest);
        rp_buffer_fini(&rest);
        return false;
    } else if (test_contains(r, " /big ") || test_contains(r, " /long ")) {
        test_say(fd, length);
        test_send(fd, big_body());
        if (test_contains(r, " /long ")) {
            test_say(fd, "HTTP/1.1 200 OK\r\nX-Smuggled: 1\r\nContent-Length: 0\r\n\r\n");
            test_wait_until_arrived(fd);
            sem_post(&smuggled);
        }
    } else if (test_contains(r, " /stale ")) {
        atomic_fetch_add(&stale_seen, 1);
        if (count > 0)
            return false; /* the second request on a connection finds it closed */
        test_say(fd, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
    } else {
        echo(fd, received);
    }
    return true;
}

static void *
serve_connection(void *context)
{
    const int fd = (int)(intptr_t)context;
    rp_buffer received;
    rp_buffer_init(&received, 0);
    for (int count = 0; test_read_until(fd, RP_STR("\r\n\r\n"), &received); count++) {
        if (!answer(fd, &received, count))
            break;
        rp_buffer_clear(&received);
    }
    rp_buffer_fini(&received);
    close(fd);
    return NULL;
}

/* ---- one fetch, waited for --------------------------------------------------------------- */

typedef struct probe {
    const char *path;
    rp_fetch_request request;
    char url[128];
    rp_http_client *client;
    rp_fetch *fetch;
    rp_status started;
    /* what came */
    int status, heads;
    size_t header_count;
    char x_a[8];
    bool has_early, has_empty;
    rp_buffer body;
    rp_fetch_result result;
    sem_t done;
    /* what to do */
    bool pause_each, cancel_in_head, cancel_in_data, hold, free_in_done;
    rp_timer *timer;
    int pieces_to_send;
} probe;

static rp_loop *loop;
static rp_http_client *client;
static bool by_curl; /* which of the two ways */

static void
on_head(void *context, int status, const rp_header *headers, size_t count)
{
    probe *p = context;
    p->status = status;
    p->heads++;
    p->header_count = count;
    const rp_str value = rp_http_header(headers, count, "x-a");
    snprintf(p->x_a, sizeof p->x_a, "%.*s", RP_FMT(value));
    p->has_early = rp_http_header(headers, count, "x-early").ptr != NULL;
    p->has_empty = rp_http_header(headers, count, "x-empty").ptr != NULL;
    if (p->cancel_in_head) {
        rp_fetch_cancel(p->fetch);
        sem_post(&p->done);
    }
}

static void
resume(void *context)
{
    probe *p = context;
    rp_fetch_resume(p->fetch);
}

/* Every piece is refused once and taken when it comes again: nothing may be lost. */
static bool
on_data(void *context, rp_str bytes)
{
    probe *p = context;
    assert_false(p->cancel_in_head);
    if (p->cancel_in_data) {
        rp_fetch_cancel(p->fetch);
        sem_post(&p->done);
        return true;
    }
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
    assert_false(p->cancel_in_head || p->cancel_in_data);
    assert_non_null(detail);
    p->result = result;
    rp_timer_free(p->timer);
    p->timer = NULL;
    if (p->free_in_done)
        rp_http_client_free(client);
    sem_post(&p->done);
}

static void
on_want_body(void *context)
{
    probe *p = context;
    if (p->pieces_to_send > 0)
        rp_timer_set(p->timer, 1000); /* later, from outside */
}

static void
send_piece(void *context)
{
    probe *p = context;
    p->pieces_to_send--;
    rp_fetch_send(p->fetch, RP_STR("-piece"), p->pieces_to_send == 0);
}

static const rp_fetch_handler handler = { on_head, on_data, on_done, NULL };
static const rp_fetch_handler upload_handler = { on_head, on_data, on_done, on_want_body };

static void
start(void *context)
{
    probe *p = context;
    rp_error error;
    assert_int_equal(rp_timer_new(loop, p->pieces_to_send ? send_piece : resume, p, &p->timer), RP_OK);
    p->started = rp_fetch_start(client, &p->request, p->pieces_to_send ? &upload_handler : &handler,
                                p, &p->fetch, &error);
}

static void
prepare(probe *p, const char *path)
{
    *p = (probe){ .path = path };
    snprintf(p->url, sizeof p->url, "http://127.0.0.1:%u%s", port, path);
    p->request = (rp_fetch_request){ .method = RP_STR("GET"), .url = rp_str_of(p->url),
                                     .body_is_whole = true };
    rp_buffer_init(&p->body, 0);
    sem_init(&p->done, 0, 0);
}

static void
run(probe *p)
{
    test_on_loop(loop, start, p);
    assert_int_equal(p->started, RP_OK);
    test_wait(&p->done);
}

static void
free_timer(void *context)
{
    rp_timer_free(((probe *)context)->timer);
}

static void
finish(probe *p)
{
    test_on_loop(loop, free_timer, p); /* on_done has not always come */
    rp_buffer_fini(&p->body);
    sem_destroy(&p->done);
}

static void
test_whole_replies_come_whole(void **state)
{
    (void)state;
    probe p;
    prepare(&p, "/ok");
    run(&p);
    assert_int_equal(p.result, RP_FETCH_OK);
    assert_int_equal(p.status, 200);
    assert_string_equal(p.x_a, "1");
    assert_true(p.has_empty);
    assert_str_equal(rp_buffer_str(&p.body), RP_STR("ok"));
    finish(&p);

    prepare(&p, "/chunked");
    run(&p);
    assert_int_equal(p.result, RP_FETCH_OK);
    assert_int_equal(p.status, 201);
    assert_int_equal(p.heads, 1);
    assert_str_equal(rp_buffer_str(&p.body), RP_STR("abcde"));
    finish(&p);

    prepare(&p, "/interim");
    run(&p);
    assert_int_equal(p.result, RP_FETCH_OK);
    assert_int_equal(p.heads, 1);
    assert_int_equal(p.status, 200);
    assert_false(p.has_early);
    finish(&p);

    prepare(&p, "/until-close");
    run(&p);
    assert_int_equal(p.result, RP_FETCH_OK);
    assert_str_equal(rp_buffer_str(&p.body), RP_STR("all of it"));
    finish(&p);
}

static void
test_broken_replies_are_told_as_broken(void **state)
{
    (void)state;
    static const char *const paths[] = { "/garbage",   "/nothing",   "/short", "/short-chunked",
                                         "/bad-chunk", "/head-only", "/reset",
                                         /* Where do these end? */
                                         "/two-lengths", "/length-list", "/both", "/coded" };
    const size_t first_doubtful = 7;
    for (size_t i = 0; i < RP_COUNT(paths); i++) {
        probe p;
        prepare(&p, paths[i]);
        run(&p);
        if (p.result != RP_FETCH_BROKEN)
            print_error("%s: result %d\n", paths[i], p.result);
        assert_int_equal(p.result, RP_FETCH_BROKEN);
        assert_int_equal(p.heads, i >= first_doubtful ? 0 : p.heads);
        finish(&p);
    }
}

static void
test_deadlines_come(void **state)
{
    (void)state;
    probe p;
    prepare(&p, "/stall");
    p.request.first_byte_timeout_us = 50000;
    run(&p);
    assert_int_equal(p.result, RP_FETCH_TIMEOUT);
    assert_int_equal(p.heads, 0);
    finish(&p);

    prepare(&p, "/stall-mid");
    p.request.idle_timeout_us = 50000;
    run(&p);
    assert_int_equal(p.result, RP_FETCH_TIMEOUT);
    assert_str_equal(rp_buffer_str(&p.body), RP_STR("abc"));
    finish(&p);

    prepare(&p, "/stall-mid");
    p.request.total_timeout_us = 100000;
    run(&p);
    assert_int_equal(p.result, RP_FETCH_TIMEOUT);
    finish(&p);
}

static void
test_who_is_not_there_is_told(void **state)
{
    (void)state;
    probe p;
    prepare(&p, "/ok");
    /* A port that was free a moment ago: bound, and never listened on. */
    const int fd = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t size = sizeof at;
    assert_int_equal(bind(fd, (struct sockaddr *)&at, size), 0);
    getsockname(fd, (struct sockaddr *)&at, &size);
    snprintf(p.url, sizeof p.url, "http://127.0.0.1:%u/ok", ntohs(at.sin_port));
    p.request.url = rp_str_of(p.url);
    run(&p);
    assert_int_equal(p.result, RP_FETCH_NO_CONNECTION);
    close(fd);
    finish(&p);
}

static void
test_a_bad_address_is_refused_at_once(void **state)
{
    (void)state;
    static const char *const urls[] = { "", "ftp://127.0.0.1/", "file:///etc/passwd", "nonsense",
                                        "http://", "http://a b/", "gopher://127.0.0.1/" };
    for (size_t i = 0; i < RP_COUNT(urls); i++) {
        probe p;
        prepare(&p, "/");
        p.request.url = rp_str_of(urls[i]);
        test_on_loop(loop, start, &p);
        assert_int_equal(p.started, RP_ERR_INVALID);
        finish(&p);
    }
    probe p;
    prepare(&p, "/");
    p.request.method = RP_STR("GET / HTTP/1.1\r\nX: y\r\n\r\n");
    test_on_loop(loop, start, &p);
    assert_int_equal(p.started, RP_ERR_INVALID);
    finish(&p);
}

static void
test_pausing_loses_no_byte(void **state)
{
    (void)state;
    probe p;
    prepare(&p, "/big");
    p.pause_each = true;
    run(&p);
    assert_int_equal(p.result, RP_FETCH_OK);
    assert_true(rp_str_equal(rp_buffer_str(&p.body), big_body()));
    finish(&p);
}

static void
test_bytes_after_the_reply_are_nobodys(void **state)
{
    (void)state;
    probe p;
    prepare(&p, "/long");
    run(&p);
    assert_int_equal(p.result, RP_FETCH_OK);
    assert_int_equal(p.body.len, BIG_SIZE);
    finish(&p);
    test_wait(&smuggled);
    prepare(&p, "/ok");
    run(&p);
    assert_string_equal(p.x_a, "1");
    assert_str_equal(rp_buffer_str(&p.body), RP_STR("ok"));
    finish(&p);
}

static void
test_a_cancelled_fetch_says_nothing_more(void **state)
{
    (void)state;
    probe p;
    prepare(&p, "/big");
    p.cancel_in_head = true; /* on_data and on_done assert that they are not called */
    run(&p);
    probe q;
    prepare(&q, "/big");
    q.cancel_in_data = true;
    run(&q);
    probe r; /* whatever was left of the two has had its turn when this one is done */
    prepare(&r, "/ok");
    run(&r);
    assert_int_equal(r.result, RP_FETCH_OK);
    finish(&p);
    finish(&q);
    finish(&r);
}

static void
test_a_stale_connection_is_tried_again(void **state)
{
    (void)state;
    for (int i = 0; i < 4; i++) {
        probe p;
        prepare(&p, "/stale");
        run(&p);
        assert_int_equal(p.result, RP_FETCH_OK);
        assert_str_equal(rp_buffer_str(&p.body), RP_STR("ok"));
        finish(&p);
    }
    /* Otherwise the closed connections were never met. */
    assert_true(atomic_load(&stale_seen) > 4);
}

/* A kept connection that reads a request and closes: only what does no harm is sent again. */
static void
test_what_may_have_arrived_is_not_sent_again(void **state)
{
    (void)state;
    static const rp_header key = { { "idempotency-key", 15 }, { "k", 1 } };
    static const struct {
        const char *method;
        const rp_header *field;
        bool again;
    } rows[] = { { "POST", NULL, false }, { "PATCH", NULL, false }, { "POST", &key, true },
                 { "PUT", NULL, true } };
    for (size_t i = 0; i < 2 * RP_COUNT(rows); i++) {
        const size_t row = i % RP_COUNT(rows);
        probe first, p;
        prepare(&first, "/stale"); /* makes the connection, or finds the last one closed */
        run(&first);
        assert_int_equal(first.result, RP_FETCH_OK);
        finish(&first);
        const int before = atomic_load(&stale_seen);
        prepare(&p, "/stale");
        p.request.method = rp_str_of(rows[row].method);
        /* The upstream reads heads only: a body that it answers would be in its way. */
        p.request.body =
            i < RP_COUNT(rows) || rows[row].again ? RP_STR("") : RP_STR("a body");
        p.request.headers = rows[row].field;
        p.request.header_count = rows[row].field != NULL;
        run(&p);
        assert_int_equal(atomic_load(&stale_seen) - before, rows[row].again ? 2 : 1);
        assert_int_equal(p.result, rows[row].again ? RP_FETCH_OK : RP_FETCH_BROKEN);
        finish(&p);
    }
}

static void
test_a_request_arrives_as_it_was_given(void **state)
{
    (void)state;
    const rp_header headers[] = {
        { RP_STR("Authorization"), RP_STR("Bearer abc") },
        { RP_STR("Content-Type"), RP_STR("application/json") },
        { RP_STR("X-Empty"), RP_STR("") },
        { RP_STR("Connection"), RP_STR("close, x-private") },
        { RP_STR("X-Private"), RP_STR("1") },
        { RP_STR("Transfer-Encoding"), RP_STR("chunked") },
        { RP_STR("Content-Length"), RP_STR("99") },
        { RP_STR("Host"), RP_STR("evil") },
        { RP_STR("Upgrade"), RP_STR("h2c") },
        { RP_STR("TE"), RP_STR("trailers") },
        { RP_STR("X-Split"), RP_STR("a\r\nX-Injected: 1") },
    };
    probe p;
    prepare(&p, "/echo?q=1");
    p.request.method = RP_STR("POST");
    p.request.headers = headers;
    p.request.header_count = RP_COUNT(headers);
    p.request.body = RP_STR("{\"a\":\0001}");
    run(&p);
    assert_int_equal(p.result, RP_FETCH_OK);
    const rp_str got = rp_buffer_str(&p.body);
    assert_true(rp_str_starts_with(got, RP_STR("POST /echo?q=1 HTTP/1.1\r\n")));
    assert_true(test_contains(got, "\r\nAuthorization: Bearer abc\r\n"));
    assert_true(test_contains(got, "\r\nContent-Type: application/json\r\n"));
    assert_true(test_contains(got, "\r\nX-Empty:\r\n"));
    assert_true(test_contains(got, "\r\nContent-Length: 8\r\n"));
    assert_true(rp_str_ends_with(got, p.request.body));
    static const char *const absent[] = { "rivate", "chunked", "Length: 99", "evil", "h2c", "trailers",
                                          "Injected", "Expect", "Accept", "User-Agent", "close" };
    for (size_t i = 0; i < RP_COUNT(absent); i++)
        assert_false(test_contains(got, absent[i]));
    finish(&p);

    /* The same easy handle, another method: nothing of the request before is left. */
    static const char *const methods[] = { "GET", "DELETE", "PUT", "POST", "PATCH", "OPTIONS" };
    for (size_t i = 0; i < RP_COUNT(methods); i++) {
        prepare(&p, "/echo");
        p.request.method = rp_str_of(methods[i]);
        run(&p);
        assert_int_equal(p.result, RP_FETCH_OK);
        assert_true(rp_str_starts_with(rp_buffer_str(&p.body), p.request.method));
        assert_false(test_contains(rp_buffer_str(&p.body), "Authorization"));
        assert_false(test_contains(rp_buffer_str(&p.body), "Content-Type"));
        assert_true(rp_str_ends_with(rp_buffer_str(&p.body), RP_STR("\r\n\r\n")));
        finish(&p);
    }
}

static void
test_an_upload_in_pieces_arrives_whole(void **state)
{
    (void)state;
    probe p;
    prepare(&p, "/echo");
    p.request.method = RP_STR("POST");
    p.request.body_is_whole = false;
    p.request.body = RP_STR("first");
    p.request.body_size = -1;
    p.pieces_to_send = 3;
    run(&p);
    assert_int_equal(p.result, RP_FETCH_OK);
    assert_true(test_contains(rp_buffer_str(&p.body), "Transfer-Encoding: chunked"));
    assert_true(test_contains(rp_buffer_str(&p.body), "first"));
    assert_true(rp_str_ends_with(rp_buffer_str(&p.body), RP_STR("-piece\r\n0\r\n\r\n")));
    finish(&p);

    prepare(&p, "/echo");
    p.request.method = RP_STR("PUT");
    p.request.body_is_whole = false;
    p.request.body = RP_STR("first");
    p.request.body_size = 5 + 2 * 6;
    p.pieces_to_send = 2;
    run(&p);
    assert_int_equal(p.result, RP_FETCH_OK);
    assert_true(test_contains(rp_buffer_str(&p.body), "Content-Length: 17\r\n"));
    assert_true(rp_str_ends_with(rp_buffer_str(&p.body), RP_STR("first-piece-piece")));
    finish(&p);
}

static void
test_connections_are_used_again(void **state)
{
    (void)state;
    probe p;
    prepare(&p, "/ok");
    run(&p);
    finish(&p);
    const int before = atomic_load(&connections_seen);
    for (int i = 0; i < 20; i++) {
        prepare(&p, "/ok");
        run(&p);
        assert_int_equal(p.result, RP_FETCH_OK);
        finish(&p);
    }
    assert_int_equal(atomic_load(&connections_seen), before);
    /* Each way was the one that was meant. */
    assert_true(by_curl == !client->direct);
}

static void
test_waiting_without_a_loop_works(void **state)
{
    (void)state;
    char url[64];
    int status = 0;
    rp_buffer body;
    rp_error error;
    rp_buffer_init(&body, 0);
    snprintf(url, sizeof url, "http://127.0.0.1:%u/ok", port);
    const rp_fetch_request request = { .method = RP_STR("GET"), .url = rp_str_of(url) };
    assert_int_equal(rp_fetch_wait(&request, 100, &status, &body, &error), RP_OK);
    assert_int_equal(status, 200);
    assert_str_equal(rp_buffer_str(&body), RP_STR("ok"));
    assert_int_equal(rp_fetch_wait(&request, 1, &status, &body, &error), RP_ERR_LIMIT);
    snprintf(url, sizeof url, "http://127.0.0.1:%u/stall", port);
    const rp_fetch_request stalls = { .method = RP_STR("GET"), .url = rp_str_of(url),
                                      .total_timeout_us = 50000 };
    assert_int_equal(rp_fetch_wait(&stalls, 100, &status, &body, &error), RP_ERR_TIMEOUT);
    snprintf(url, sizeof url, "http://127.0.0.1:%u/short", port);
    const rp_fetch_request broken = { .method = RP_STR("GET"), .url = rp_str_of(url) };
    assert_int_equal(rp_fetch_wait(&broken, 100, &status, &body, &error), RP_ERR_IO);
    rp_buffer_fini(&body);
}

static void
free_client(void *context)
{
    rp_http_client_free(context);
}

static void
make_client(void *context)
{
    rp_error error;
    const rp_http_client_options options = { 0 };
    rp_http_client **out = context;
    assert_int_equal(rp_http_client_new(loop, &options, out, &error), RP_OK);
    (*out)->direct_is_off = by_curl;
}

static void
test_freeing_the_client_ends_fetches_silently(void **state)
{
    (void)state;
    rp_http_client *const before = client;
    test_on_loop(loop, make_client, &client);
    probe p;
    prepare(&p, "/stall");
    test_on_loop(loop, start, &p);
    p.cancel_in_head = true; /* every callback now fails the test */
    test_on_loop(loop, free_client, client);
    finish(&p);
    /* From inside a last callback, too. */
    test_on_loop(loop, make_client, &client);
    prepare(&p, "/ok");
    p.free_in_done = true;
    run(&p);
    assert_int_equal(p.result, RP_FETCH_OK);
    client = before;
    finish(&p);
}

int
main(void)
{
    struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t size = sizeof at;
    listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (bind(listener, (struct sockaddr *)&at, size) || listen(listener, 64) ||
        getsockname(listener, (struct sockaddr *)&at, &size))
        return 1;
    port = ntohs(at.sin_port);
    big_body();
    sem_init(&smuggled, 0, 0);
    pthread_t thread;
    test_service service = { listener, serve_connection, &connections_seen };
    if (pthread_create(&thread, NULL, test_serve, &service))
        return 1;
    loop = test_start_loop();
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_whole_replies_come_whole),
        cmocka_unit_test(test_broken_replies_are_told_as_broken),
        cmocka_unit_test(test_deadlines_come),
        cmocka_unit_test(test_who_is_not_there_is_told),
        cmocka_unit_test(test_a_bad_address_is_refused_at_once),
        cmocka_unit_test(test_pausing_loses_no_byte),
        cmocka_unit_test(test_bytes_after_the_reply_are_nobodys),
        cmocka_unit_test(test_a_cancelled_fetch_says_nothing_more),
        cmocka_unit_test(test_a_stale_connection_is_tried_again),
        cmocka_unit_test(test_what_may_have_arrived_is_not_sent_again),
        cmocka_unit_test(test_a_request_arrives_as_it_was_given),
        cmocka_unit_test(test_an_upload_in_pieces_arrives_whole),
        cmocka_unit_test(test_connections_are_used_again),
        cmocka_unit_test(test_waiting_without_a_loop_works),
        cmocka_unit_test(test_freeing_the_client_ends_fetches_silently),
    };
    int failed = 0;
    for (int way = 0; way < 2; way++) {
        by_curl = way == 1;
        atomic_store(&stale_seen, 0);
        test_on_loop(loop, make_client, &client);
        failed += cmocka_run_group_tests_name(by_curl ? "libcurl" : "direct", tests, NULL, NULL);
        test_on_loop(loop, free_client, client);
    }
    test_stop_loop(loop);
    rp_loop_free(loop);
    shutdown(listener, SHUT_RDWR);
    pthread_join(thread, NULL);
    close(listener);
    return failed;
}
