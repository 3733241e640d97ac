/* test_http_parse.c - what may be read in two ways is refused, and the cut never matters.
 *
 * Smuggling of requests and replies lives from two readers that disagree; each row below is such a doubt,
 * or a limit, with the status it must get. Every row is fed whole and byte by byte, from
 * memory that ends at an unreadable page. */
#include "net/http_parse.h"
#include "test_support.h"

enum { SIZE_LIMIT = 2048, COUNT_LIMIT = 10 };

typedef struct row {
    rp_str bytes;
    int status; /* 0: accepted */
} row;

#define H "Host: a\r\n"

static const row rows[] = {
    { RP_STR("GET / HTTP/1.1\r\n" H "\r\n"), 0 },
    { RP_STR("\r\n\r\nGET / HTTP/1.1\r\n" H "\r\n"), 0 },
    { RP_STR("\r\n\r\n\r\n\r\n\r\n\r\n"), 400 },
    /* Host */
    { RP_STR("GET / HTTP/1.1\r\n\r\n"), 400 },
    { RP_STR("GET / HTTP/1.0\r\n\r\n"), 0 },
    { RP_STR("GET / HTTP/1.1\r\n" H H "\r\n"), 400 },
    { RP_STR("GET / HTTP/1.1\r\nHost: a b\r\n\r\n"), 400 },
    { RP_STR("GET / HTTP/1.1\r\nHost: a/b\r\n\r\n"), 400 },
    { RP_STR("GET / HTTP/1.1\r\nHost: u@a\r\n\r\n"), 400 },
    { RP_STR("GET / HTTP/1.1\r\nHost: a:8080\r\n\r\n"), 0 },
    { RP_STR("GET / HTTP/1.1\r\nHost: a:80a\r\n\r\n"), 400 },
    { RP_STR("GET / HTTP/1.1\r\nHost: [::1]:8080\r\n\r\n"), 0 },
    { RP_STR("GET / HTTP/1.1\r\nHost: [::1\r\n\r\n"), 400 },
    { RP_STR("GET / HTTP/1.1\r\nHost: [::1]x\r\n\r\n"), 400 },
    { RP_STR("GET / HTTP/1.1\r\nHost:\r\n\r\n"), 0 },
    /* lengths */
    { RP_STR("POST / HTTP/1.1\r\n" H "Content-Length: 2\r\n\r\n"), 0 },
    { RP_STR("POST / HTTP/1.1\r\n" H "Content-Length: 2\r\nContent-Length: 3\r\n\r\n"), 400 },
    { RP_STR("POST / HTTP/1.1\r\n" H "Content-Length: 2\r\nContent-Length: 2\r\n\r\n"), 400 },
    { RP_STR("POST / HTTP/1.1\r\n" H "Content-Length: 2, 2\r\n\r\n"), 400 },
    { RP_STR("POST / HTTP/1.1\r\n" H "Content-Length: +2\r\n\r\n"), 400 },
    { RP_STR("POST / HTTP/1.1\r\n" H "Content-Length: -2\r\n\r\n"), 400 },
    { RP_STR("POST / HTTP/1.1\r\n" H "Content-Length: 0x2\r\n\r\n"), 400 },
    { RP_STR("POST / HTTP/1.1\r\n" H "Content-Length: 2 2\r\n\r\n"), 400 },
    { RP_STR("POST / HTTP/1.1\r\n" H "Content-Length:\r\n\r\n"), 400 },
    { RP_STR("POST / HTTP/1.1\r\n" H "Content-Length : 2\r\n\r\n"), 400 },
    { RP_STR("POST / HTTP/1.1\r\n" H "Content-Length: 9223372036854775807\r\n\r\n"), 0 },
    { RP_STR("POST / HTTP/1.1\r\n" H "Content-Length: 9223372036854775808\r\n\r\n"), 400 },
    { RP_STR("POST / HTTP/1.1\r\n" H "Content-Length: 99999999999999999999\r\n\r\n"), 400 },
    { RP_STR("POST / HTTP/1.1\r\n" H "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n"), 400 },
    { RP_STR("POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\nContent-Length: 2\r\n\r\n"), 400 },
    /* transfer codings */
    { RP_STR("POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\n\r\n"), 0 },
    { RP_STR("POST / HTTP/1.1\r\n" H "Transfer-Encoding: CHUNKED\r\n\r\n"), 0 },
    { RP_STR("POST / HTTP/1.1\r\n" H "Transfer-Encoding: gzip, chunked\r\n\r\n"), 501 },
    { RP_STR("POST / HTTP/1.1\r\n" H "Transfer-Encoding: xchunked\r\n\r\n"), 501 },
    { RP_STR("POST / HTTP/1.1\r\n" H "Transfer-Encoding: identity\r\n\r\n"), 501 },
    { RP_STR("POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked;q=1\r\n\r\n"), 501 },
    { RP_STR("POST / HTTP/1.1\r\n" H "Transfer-Encoding: \x0b" "chunked\r\n\r\n"), 400 },
    { RP_STR("POST / HTTP/1.1\r\n" H "Transfer-Encoding:\r\n\r\n"), 400 },
    { RP_STR("POST / HTTP/1.1\r\n" H "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n"), 400 },
    { RP_STR("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"), 400 },
    /* line ends and folding */
    { RP_STR("GET / HTTP/1.1\n" H "\r\n"), 400 },
    { RP_STR("GET / HTTP/1.1\r\nHost: a\n\r\n"), 400 },
    { RP_STR("GET / HTTP/1.1\r\n" H "\n"), 400 },
    { RP_STR("\nGET / HTTP/1.1\r\n" H "\r\n"), 400 },
    { RP_STR("GET / HTTP/1.1\r\n" H "X: a\r\n b\r\n\r\n"), 400 },
    { RP_STR("GET / HTTP/1.1\r\n" H "X: a\r\n\tb\r\n\r\n"), 400 },
    { RP_STR("GET / HTTP/1.1\r\n " H "\r\n"), 400 },
    { RP_STR("GET / HTTP/1.1\r\n" H "X: a\rb\r\n\r\n"), 400 },
    { RP_STR("GET / HTTP/1.1\r\r\n" H "\r\n"), 400 },
    /* names and values */
    { RP_STR("GET / HTTP/1.1\r\n" H "X: a\0b\r\n\r\n"), 400 },
    { RP_STR("GET / HTTP/1.1\r\n" H "X\0: a\r\n\r\n"), 400 },
    { RP_STR("GET / HTTP/1.1\r\n" H "X: a\x7f\r\n\r\n"), 400 },
    { RP_STR("GET / HTTP/1.1\r\n" H "X: \xc3\xa4\t1\r\n\r\n"), 0 },
    { RP_STR("GET / HTTP/1.1\r\n" H "X y: a\r\n\r\n"), 400 },
    { RP_STR("GET / HTTP/1.1\r\n" H "X : a\r\n\r\n"), 400 },
    { RP_STR("GET / HTTP/1.1\r\n" H ": a\r\n\r\n"), 400 },
    { RP_STR("GET / HTTP/1.1\r\n" H "nonsense\r\n\r\n"), 400 },
    { RP_STR("GET / HTTP/1.1\r\n" H "\xc3\xa4: a\r\n\r\n"), 400 },
    /* the request line */
    { RP_STR("GET /\r\n" H "\r\n"), 400 },
    { RP_STR("GET\r\n" H "\r\n"), 400 },
    { RP_STR("GET / \r\n" H "\r\n"), 400 },
    { RP_STR("GET  / HTTP/1.1\r\n" H "\r\n"), 400 },
    { RP_STR("GET / HTTP/1.1 \r\n" H "\r\n"), 400 },
    { RP_STR("GET / x HTTP/1.1\r\n" H "\r\n"), 400 },
    { RP_STR("GET /\t HTTP/1.1\r\n" H "\r\n"), 400 },
    { RP_STR("GET /\0 HTTP/1.1\r\n" H "\r\n"), 400 },
    { RP_STR("GET /\xc3\xa4 HTTP/1.1\r\n" H "\r\n"), 400 },
    { RP_STR("GET /a#b HTTP/1.1\r\n" H "\r\n"), 400 },
    { RP_STR("G@T / HTTP/1.1\r\n" H "\r\n"), 400 },
    { RP_STR("GET / HTTP/1.2\r\n" H "\r\n"), 0 },
    { RP_STR("GET / HTTP/2.0\r\n" H "\r\n"), 505 },
    { RP_STR("PRI * HTTP/2.0\r\n\r\n"), 505 },
    { RP_STR("GET / http/1.1\r\n" H "\r\n"), 400 },
    { RP_STR("GET / HTTP/11\r\n" H "\r\n"), 400 },
    { RP_STR("GET * HTTP/1.1\r\n" H "\r\n"), 400 },
    { RP_STR("OPTIONS * HTTP/1.1\r\n" H "\r\n"), 0 },
    { RP_STR("CONNECT a:443 HTTP/1.1\r\n" H "\r\n"), 501 },
    { RP_STR("GET http://b/c?d HTTP/1.1\r\n" H "\r\n"), 0 },
    { RP_STR("GET http:///c HTTP/1.1\r\n" H "\r\n"), 400 },
    { RP_STR("GET http://u@b/c HTTP/1.1\r\n" H "\r\n"), 400 },
    { RP_STR("GET ftp://b/c HTTP/1.1\r\n" H "\r\n"), 400 },
    { RP_STR("GET a/b HTTP/1.1\r\n" H "\r\n"), 400 },
    { RP_STR("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"), 400 },
    { RP_STR("@"), 400 },
    /* expectations */
    { RP_STR("POST / HTTP/1.1\r\n" H "Expect: 100-Continue\r\n\r\n"), 0 },
    { RP_STR("POST / HTTP/1.1\r\n" H "Expect: a-pony\r\n\r\n"), 417 },
};

/* Replies: what is doubtful is refused, too; `size` is of the body (-1: chunked, -2: until
 * the end, -3: the head is not whole). */
typedef struct reply_row {
    rp_str bytes;
    int status; /* 0: refused */
    int64_t size;
    bool keep_alive, to_head;
} reply_row;

#define S "HTTP/1.1 200 OK\r\n"

static const reply_row reply_rows[] = {
    { RP_STR(S "\r\n"), 200, -2, false },
    { RP_STR("HTTP/1.1 200\r\n\r\n"), 200, -2, false },
    { RP_STR("HTTP/1.1 200 \r\n\r\n"), 200, -2, false },
    { RP_STR("HTTP/1.9 200 OK\r\n\r\n"), 200, -2, false },
    { RP_STR("HTTP/1.1 100 C\r\n\r\n"), 100, 0, true },
    { RP_STR("HTTP/1.1 999 C\r\nContent-Length: 1\r\n\r\n"), 999, 1, true },
    { RP_STR(S "Content-Length: 7\r\n\r\n"), 200, 7, true },
    { RP_STR(S "Content-Length:\t7 \r\n\r\n"), 200, 7, true },
    { RP_STR(S "Content-Length \t: 7\r\n\r\n"), 200, 7, true },
    { RP_STR(S "Content-Length: 7\r\ncontent-length: 07\r\n\r\n"), 200, 7, true },
    { RP_STR(S "Content-Length: 9223372036854775807\r\n\r\n"), 200, INT64_MAX, true },
    { RP_STR(S "Transfer-Encoding: ChunkeD\r\n\r\n"), 200, -1, true },
    { RP_STR(S "Content-Length: 7\r\n\r\n"), 200, 0, true, true },
    { RP_STR(S "Transfer-Encoding: chunked\r\n\r\n"), 200, 0, true, true },
    { RP_STR("HTTP/1.1 204 N\r\nContent-Length: 7\r\n\r\n"), 204, 0, true },
    { RP_STR("HTTP/1.1 304 N\r\nTransfer-Encoding: chunked\r\n\r\n"), 304, 0, true },
    { RP_STR("HTTP/1.1 205 R\r\n\r\n"), 205, -2, false },
    { RP_STR(S "Connection: CLOSE\r\nContent-Length: 7\r\n\r\n"), 200, 7, false },
    { RP_STR("HTTP/1.0 200 OK\r\nContent-Length: 7\r\n\r\n"), 200, 7, false },
    { RP_STR("HTTP/1.0 200 OK\r\nContent-Length: 7\r\nConnection: a, keep-alive\r\n\r\n"), 200, 7, true },
    { RP_STR("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\nConnection: keep-alive\r\n\r\n"), 200, -1, false },
    { RP_STR(S "X: \xc3\xa4\r\nY:\r\n\r\n"), 200, -2, false },
    /* Not whole. */
    { RP_STR("HTTP/1.1 200 OK\r\nX: y\r\n"), 0, -3 },
    { RP_STR("HT"), 0, -3 },
    /* The status line. */
    { RP_STR("HTTP/2 200\r\n\r\n"), 0 },
    { RP_STR("HTTP/1.x 200\r\n\r\n"), 0 },
    { RP_STR("HTTP/1.1\t200\r\n\r\n"), 0 },
    { RP_STR("HTTP/1.1 20\r\n\r\n"), 0 },
    { RP_STR("HTTP/1.1 2x0 OK\r\n\r\n"), 0 },
    { RP_STR("HTTP/1.1 -20 OK\r\n\r\n"), 0 },
    { RP_STR("HTTP/1.1 099 OK\r\n\r\n"), 0 },
    { RP_STR("HTTP/1.1 2000 OK\r\n\r\n"), 0 },
    { RP_STR("HTTP/1.1 200 O\0K\r\n\r\n"), 0 },
    { RP_STR("http/1.1 200 OK\r\n\r\n"), 0 },
    { RP_STR("\r\nHTTP/1.1 200 OK\r\n\r\n"), 0 },
    { RP_STR("x"), 0 },
    { RP_STR("\x16\x03\x01"), 0 },
    /* Lengths. */
    { RP_STR(S "Content-Length: 7\r\nContent-Length: 8\r\n\r\n"), 0 },
    { RP_STR(S "Content-Length: 0\r\nContent-Length: 8\r\n\r\n"), 0 },
    { RP_STR(S "Content-Length: 7\r\nContent-Length: 8\r\nContent-Length: 7\r\n\r\n"), 0 },
    { RP_STR(S "Content-Length: 7, 7\r\n\r\n"), 0 },
    { RP_STR(S "Content-Length: -1\r\n\r\n"), 0 },
    { RP_STR(S "Content-Length: 0x1\r\n\r\n"), 0 },
    { RP_STR(S "Content-Length:\r\n\r\n"), 0 },
    { RP_STR(S "Content-Length: 9223372036854775808\r\n\r\n"), 0 },
    { RP_STR(S "Content-Length: 7\r\nTransfer-Encoding: chunked\r\n\r\n"), 0 },
    { RP_STR(S "Transfer-Encoding: chunked\r\nContent-Length: 7\r\n\r\n"), 0 },
    { RP_STR(S "Transfer-Encoding: gzip, chunked\r\n\r\n"), 0 },
    { RP_STR(S "Transfer-Encoding: identity\r\n\r\n"), 0 },
    { RP_STR(S "Transfer-Encoding:\r\n\r\n"), 0 },
    { RP_STR(S "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n"), 0 },
    /* Fields and line ends. */
    { RP_STR("HTTP/1.1 200 OK\n\n"), 0 },
    { RP_STR(S "X: y\n\r\n"), 0 },
    { RP_STR(S "X: y\r\n z\r\n\r\n"), 0 },
    { RP_STR(S " X: y\r\n\r\n"), 0 },
    { RP_STR(S "X: y\rz\r\n\r\n"), 0 },
    { RP_STR(S "X: \0\r\n\r\n"), 0 },
    { RP_STR(S "X y: z\r\n\r\n"), 0 },
    { RP_STR(S "X y : z\r\n\r\n"), 0 },
    { RP_STR(S ": z\r\n\r\n"), 0 },
    { RP_STR(S " : z\r\n\r\n"), 0 },
    { RP_STR(S "nonsense\r\n\r\n"), 0 },
};

static rp_http_refusal
read_reply(const char *bytes, size_t size, size_t piece, bool to_head, rp_header *headers,
           rp_http_reply *out)
{
    rp_http_scan scan = { .of_reply = true };
    for (size_t have = 0; have < size;) {
        have = RP_MIN(piece, size - have) + have;
        const char *copy = piece == 1 && size < 200 ? rp_test_guarded(bytes, have) : bytes;
        if (rp_http_scan_feed(&scan, (rp_str){ copy, have }, SIZE_LIMIT, COUNT_LIMIT))
            break;
    }
    *out = (rp_http_reply){ .body_size = -3 };
    if (scan.refusal.status || !scan.whole)
        return scan.refusal;
    assert_int_equal(scan.at, size);
    return rp_http_reply_parse((rp_str){ bytes, scan.at }, to_head, headers, scan.line_count, out);
}

static void
test_doubtful_replies_are_refused(void **state)
{
    (void)state;
    static const size_t pieces[] = { SIZE_MAX, 1 };
    for (size_t i = 0; i < RP_COUNT(reply_rows) * 2; i++) {
        const reply_row *r = &reply_rows[i / 2];
        rp_header headers[COUNT_LIMIT + 1];
        rp_http_reply reply;
        const char *bytes = rp_test_guarded(r->bytes.ptr, r->bytes.len);
        const rp_http_refusal refusal =
            read_reply(bytes, r->bytes.len, pieces[i % 2], r->to_head, headers, &reply);
        const bool refused = !r->status && r->size != -3;
        if ((refusal.status == 502) != refused)
            print_error("row %zu: %d\n%.*s\n", i / 2, refusal.status, RP_FMT(r->bytes));
        assert_int_equal(refusal.status, refused ? 502 : 0);
        if (refused)
            continue;
        assert_int_equal(reply.status, r->status);
        assert_true(reply.body_size == r->size);
        assert_int_equal(reply.keep_alive, r->keep_alive);
    }
}

static void
test_a_reply_says_what_was_sent(void **state)
{
    (void)state;
    const rp_str text = RP_STR("HTTP/1.0 404 No such thing\r\nX-Space  : \t a b\t \r\nX-Empty:\r\n"
                               "Keep-Alive: max=9, Timeout=15\r\nContent-Length: 12\r\n\r\n");
    rp_header headers[COUNT_LIMIT + 1];
    rp_http_reply reply;
    assert_int_equal(read_reply(text.ptr, text.len, SIZE_MAX, false, headers, &reply).status, 0);
    assert_int_equal(reply.status, 404);
    assert_int_equal(reply.header_count, 4);
    assert_str_equal(headers[0].name, RP_STR("X-Space"));
    assert_str_equal(headers[0].value, RP_STR("a b"));
    assert_str_equal(headers[1].value, RP_STR(""));
    assert_int_equal(reply.keep_s, 15);
    assert_true(reply.http_1_0 && !reply.keep_alive);
    static const char *const timeouts[] = { "timeout=", "timeout=x", "timeout=99999999999", "max=5", "" };
    for (size_t i = 0; i < RP_COUNT(timeouts); i++) {
        char more[100];
        const int size = snprintf(more, sizeof more, S "Keep-Alive: %s\r\n\r\n", timeouts[i]);
        assert_int_equal(read_reply(more, (size_t)size, SIZE_MAX, false, headers, &reply).status, 0);
        assert_int_equal(reply.keep_s, -1);
    }
}

static void
test_limits_of_replies_hold_to_the_byte(void **state)
{
    (void)state;
    char text[SIZE_LIMIT + 64];
    rp_header headers[COUNT_LIMIT + 1];
    rp_http_reply reply;
    for (int over = 0; over <= 1; over++) {
        const size_t size = SIZE_LIMIT + (size_t)over;
        memset(text, 'x', sizeof text);
        memcpy(text, S "X: ", sizeof S + 2);
        memcpy(text + size - 4, "\r\n\r\n", 4);
        assert_int_equal(read_reply(text, size, SIZE_MAX, false, headers, &reply).status, over ? 502 : 0);
        assert_int_equal(read_reply(text, size, 1, false, headers, &reply).status, over ? 502 : 0);
        size_t at = sizeof S - 1;
        for (int n = 0; n < COUNT_LIMIT + over; n++, at += 6)
            memcpy(text + at, "X: a\r\n", 6);
        memcpy(text + at, "\r\n", 2);
        assert_int_equal(read_reply(text, at + 2, SIZE_MAX, false, headers, &reply).status, over ? 502 : 0);
    }
}

/* -1: the head is not whole yet. */
static int
read_head(const char *bytes, size_t size, size_t piece, rp_header *headers, rp_http_head *head)
{
    rp_http_scan scan = { 0 };
    for (size_t have = 0; have < size;) {
        have = RP_MIN(piece, size - have) + have;
        /* Moved each time, as a growing buffer may be, and nothing behind it readable. */
        const char *copy = piece == 1 && size < 200 ? rp_test_guarded(bytes, have) : bytes;
        if (rp_http_scan_feed(&scan, (rp_str){ copy, have }, SIZE_LIMIT, COUNT_LIMIT))
            break;
    }
    if (scan.refusal.status)
        return scan.refusal.status;
    if (!scan.whole)
        return -1;
    return rp_http_head_parse((rp_str){ bytes + scan.start, scan.at - scan.start }, headers,
                              scan.line_count, head)
        .status;
}

static void
test_doubtful_requests_are_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < RP_COUNT(rows); i++) {
        rp_header headers[COUNT_LIMIT + 1];
        rp_http_head head;
        const char *bytes = rp_test_guarded(rows[i].bytes.ptr, rows[i].bytes.len);
        const int whole = read_head(bytes, rows[i].bytes.len, SIZE_MAX, headers, &head);
        const int cut = read_head(bytes, rows[i].bytes.len, 1, headers, &head);
        if (whole != rows[i].status || cut != rows[i].status)
            print_error("row %zu: whole %d, cut %d, want %d\n%.*s\n", i, whole, cut, rows[i].status,
                        RP_FMT(rows[i].bytes));
        assert_int_equal(whole, rows[i].status);
        assert_int_equal(cut, rows[i].status);
    }
}

static void
test_a_head_is_not_whole_before_its_end(void **state)
{
    (void)state;
    const rp_str text = RP_STR("POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n");
    rp_header headers[COUNT_LIMIT + 1];
    rp_http_head head;
    for (size_t cut = 0; cut < text.len; cut++)
        assert_int_equal(read_head(rp_test_guarded(text.ptr, cut), cut, SIZE_MAX, headers, &head), -1);
}

static void
test_a_head_says_what_was_sent(void **state)
{
    (void)state;
    const rp_str text = RP_STR("POST http://b:81/c/d?e=%20f?g HTTP/1.0\r\nHOST: a\r\n"
                               "X-Space: \t a b\t \r\nX-Empty:\r\nconnection: foo, Keep-Alive\r\n"
                               "Content-Length: 12\r\n\r\n");
    rp_header headers[COUNT_LIMIT + 1];
    rp_http_head head;
    assert_int_equal(read_head(text.ptr, text.len, SIZE_MAX, headers, &head), 0);
    assert_str_equal(head.method, RP_STR("POST"));
    assert_str_equal(head.target, RP_STR("http://b:81/c/d?e=%20f?g"));
    assert_str_equal(head.path, RP_STR("/c/d"));
    assert_str_equal(head.query, RP_STR("e=%20f?g"));
    assert_int_equal(head.header_count, 5);
    assert_str_equal(headers[0].name, RP_STR("HOST"));
    assert_str_equal(headers[0].value, RP_STR("b:81"));
    assert_str_equal(headers[1].value, RP_STR("a b"));
    assert_str_equal(headers[2].value, RP_STR(""));
    assert_int_equal(head.body_size, 12);
    assert_true(head.http_1_0 && head.keep_alive);

    const rp_str plain = RP_STR("GET http://b HTTP/1.1\r\nHost: b\r\nConnection: close\r\n"
                                "Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n");
    assert_int_equal(read_head(plain.ptr, plain.len, SIZE_MAX, headers, &head), 0);
    assert_str_equal(head.path, RP_STR("/"));
    assert_int_equal(head.query.len, 0);
    assert_int_equal(head.body_size, RP_HTTP_BODY_CHUNKED);
    assert_true(!head.keep_alive && head.expects_continue && !head.http_1_0);
}

static void
test_limits_hold_to_the_byte(void **state)
{
    (void)state;
    char text[SIZE_LIMIT + 64];
    rp_header headers[COUNT_LIMIT + 1];
    rp_http_head head;
    const size_t pieces[] = { SIZE_MAX, 1 };
    for (size_t i = 0; i < RP_COUNT(pieces); i++) {
        for (int over = 0; over <= 1; over++) {
            const char *start = "GET / HTTP/1.1\r\nHost: a\r\nX: ";
            const size_t size = SIZE_LIMIT + (size_t)over;
            memset(text, 'x', sizeof text);
            memcpy(text, start, strlen(start));
            memcpy(text + size - 4, "\r\n\r\n", 4);
            assert_int_equal(read_head(text, size, pieces[i], headers, &head), over ? 431 : 0);
        }
        memset(text, 'x', sizeof text);
        assert_int_equal(read_head(text, SIZE_LIMIT - 1, pieces[i], headers, &head), -1);
        assert_int_equal(read_head(text, SIZE_LIMIT, pieces[i], headers, &head), 414);
        for (size_t count = COUNT_LIMIT - 1; count <= COUNT_LIMIT; count++) {
            rp_str line = RP_STR("GET / HTTP/1.1\r\nHost: a\r\n");
            size_t size = line.len;
            memcpy(text, line.ptr, size);
            for (size_t n = 0; n < count; n++, size += 6)
                memcpy(text + size, "X: a\r\n", 6);
            memcpy(text + size, "\r\n", 2);
            assert_int_equal(read_head(text, size + 2, pieces[i], headers, &head),
                             count + 1 > COUNT_LIMIT ? 431 : 0);
        }
    }
}

static const struct chunk_row {
    rp_str bytes;
    rp_http_chunks_result result;
    rp_str body, after;
} chunk_rows[] = {
    { RP_STR("0\r\n\r\n"), RP_HTTP_CHUNKS_END, RP_STR(""), RP_STR("") },
    { RP_STR("2;a=b\r\nhi\r\n0\r\n\r\nGET"), RP_HTTP_CHUNKS_END, RP_STR("hi"), RP_STR("GET") },
    { RP_STR("2 ;a=\"b c\"\r\nhi\r\n000\r\n\r\n"), RP_HTTP_CHUNKS_END, RP_STR("hi"), RP_STR("") },
    { RP_STR("A\r\n0123456789\r\n1\r\n!\r\n0\r\nX: y\r\nZ: a\r\n\r\n"), RP_HTTP_CHUNKS_END,
      RP_STR("0123456789!"), RP_STR("") },
    { RP_STR("2\r\nhi\r\n"), RP_HTTP_CHUNKS_MORE, RP_STR("hi"), RP_STR("") },
    { RP_STR("2\r\nhi\r\n0\r\n"), RP_HTTP_CHUNKS_MORE, RP_STR("hi"), RP_STR("") },
    { RP_STR("2\nhi\r\n0\r\n\r\n"), RP_HTTP_CHUNKS_BAD, RP_STR(""), RP_STR("") },
    { RP_STR("2\r\nhi\n0\r\n\r\n"), RP_HTTP_CHUNKS_BAD, RP_STR("hi"), RP_STR("") },
    { RP_STR("2\r\nhix\r\n0\r\n\r\n"), RP_HTTP_CHUNKS_BAD, RP_STR("hi"), RP_STR("") },
    { RP_STR("\r\nhi"), RP_HTTP_CHUNKS_BAD, RP_STR(""), RP_STR("") },
    { RP_STR("+2\r\nhi\r\n0\r\n\r\n"), RP_HTTP_CHUNKS_BAD, RP_STR(""), RP_STR("") },
    { RP_STR("0x2\r\nhi\r\n0\r\n\r\n"), RP_HTTP_CHUNKS_BAD, RP_STR(""), RP_STR("") },
    { RP_STR(" 2\r\nhi\r\n0\r\n\r\n"), RP_HTTP_CHUNKS_BAD, RP_STR(""), RP_STR("") },
    { RP_STR("2 \r\nhi\r\n0\r\n\r\n"), RP_HTTP_CHUNKS_BAD, RP_STR(""), RP_STR("") },
    { RP_STR("2 x\r\nhi\r\n0\r\n\r\n"), RP_HTTP_CHUNKS_BAD, RP_STR(""), RP_STR("") },
    { RP_STR("2;a\0b\r\nhi\r\n0\r\n\r\n"), RP_HTTP_CHUNKS_BAD, RP_STR(""), RP_STR("") },
    { RP_STR("2;a\nb\r\nhi\r\n0\r\n\r\n"), RP_HTTP_CHUNKS_BAD, RP_STR(""), RP_STR("") },
    { RP_STR("g\r\n"), RP_HTTP_CHUNKS_BAD, RP_STR(""), RP_STR("") },
    { RP_STR("fffffffffffffffff\r\n"), RP_HTTP_CHUNKS_BAD, RP_STR(""), RP_STR("") },
    { RP_STR("0\r\n X: folded\r\n\r\n"), RP_HTTP_CHUNKS_BAD, RP_STR(""), RP_STR("") },
    { RP_STR("0\r\nX: y\n\r\n"), RP_HTTP_CHUNKS_BAD, RP_STR(""), RP_STR("") },
};

static void
test_chunks_are_unwrapped_or_refused(void **state)
{
    (void)state;
    for (size_t i = 0; i < RP_COUNT(chunk_rows); i++) {
        for (size_t piece = 1; piece <= 8; piece++) {
            rp_http_chunks chunks = { 0 };
            char body[64];
            size_t body_size = 0;
            rp_http_chunks_result result = RP_HTTP_CHUNKS_MORE;
            rp_str bytes = chunk_rows[i].bytes;
            while (bytes.len && result == RP_HTTP_CHUNKS_MORE) {
                const size_t n = RP_MIN(piece == 8 ? SIZE_MAX : piece, bytes.len);
                rp_str input = { rp_test_guarded(bytes.ptr, n), n }, part;
                while ((result = rp_http_chunks_feed(&chunks, &input, &part)) ==
                       RP_HTTP_CHUNKS_PIECE) {
                    memcpy(body + body_size, part.ptr, part.len);
                    body_size += part.len;
                }
                bytes = (rp_str){ bytes.ptr + n - input.len, bytes.len - n + input.len };
            }
            if (result != chunk_rows[i].result)
                print_error("row %zu, pieces of %zu\n", i, piece);
            assert_int_equal(result, chunk_rows[i].result);
            assert_str_equal(((rp_str){ body, body_size }), chunk_rows[i].body);
            if (result == RP_HTTP_CHUNKS_END)
                assert_str_equal(bytes, chunk_rows[i].after);
        }
    }
}

static void
test_endless_extensions_and_trailers_are_refused(void **state)
{
    (void)state;
    const char *starts[] = { "2;", "0\r\nX: ", "0" };
    for (size_t i = 0; i < RP_COUNT(starts); i++) {
        rp_http_chunks chunks = { 0 };
        rp_str input = rp_str_of(starts[i]), part;
        rp_http_chunks_result result = rp_http_chunks_feed(&chunks, &input, &part);
        size_t fed = 0;
        for (; result == RP_HTTP_CHUNKS_MORE && fed < 1 << 20; fed++) {
            input = i == 2 ? RP_STR("0") : RP_STR("x");
            result = rp_http_chunks_feed(&chunks, &input, &part);
        }
        assert_int_equal(result, RP_HTTP_CHUNKS_BAD);
        assert_true(fed < 8192);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_doubtful_requests_are_refused),
        cmocka_unit_test(test_a_head_is_not_whole_before_its_end),
        cmocka_unit_test(test_a_head_says_what_was_sent),
        cmocka_unit_test(test_limits_hold_to_the_byte),
        cmocka_unit_test(test_doubtful_replies_are_refused),
        cmocka_unit_test(test_a_reply_says_what_was_sent),
        cmocka_unit_test(test_limits_of_replies_hold_to_the_byte),
        cmocka_unit_test(test_chunks_are_unwrapped_or_refused),
        cmocka_unit_test(test_endless_extensions_and_trailers_are_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
