/* http_parse.h - the bytes of HTTP/1.1 messages, read strictly (RFC 9110, RFC 9112).
 *
 * Pure functions over bytes. A head is found by rp_http_scan_feed, which may be fed
 * as the bytes arrive, and read at once when it is whole: a request's by
 * rp_http_head_parse, a reply's by rp_http_reply_parse. A chunked body is unwrapped by
 * rp_http_chunks_feed. What two readers of HTTP could understand differently is refused,
 * because a proxy before or behind us may be the other reader: bare CR or LF, obs-fold,
 * NUL, space before a colon (of a request), doubtful lengths.
 *
 * Threads: pure functions; a scan or a chunk reader is used by one thread at a time. */
#ifndef RP_NET_HTTP_PARSE_H
#define RP_NET_HTTP_PARSE_H

#include <reprise/status.h>
#include <reprise/types.h>

typedef struct rp_header {
    rp_str name, value;
} rp_header;

/* Why a message is refused: an HTTP status and a static sentence; status 0: it is not.
 * Of a reply the status is always 502. */
typedef struct rp_http_refusal {
    int status;
    const char *reason;
} rp_http_refusal;

/* ---- where the head ends ------------------------------------------------------ */

typedef struct rp_http_scan {
    size_t at;         /* bytes looked at */
    size_t start;      /* where the request line begins: empty lines before it are skipped */
    size_t line_start;
    size_t line_count; /* whole lines, the request line included, the last empty one not */
    bool whole;        /* `at` is the first byte after the head */
    bool of_reply;     /* set by the caller before the first byte */
    rp_http_refusal refusal;
} rp_http_scan;

/* Look at further bytes of `input`, which begins where it began at the call before and
 * has grown (or moved, unchanged). Returns true when the head is whole or refused:
 * 400 for a line end that is not CR LF or a first byte no method begins with, 414 or
 * 431 for a head longer than size_max or with more than count_max fields. A reply that
 * does not begin with "HTTP/1." is refused at its first other byte. */
bool rp_http_scan_feed(rp_http_scan *scan, rp_str input, size_t size_max, size_t count_max);

/* ---- what it says ------------------------------------------------------------- */

enum { RP_HTTP_BODY_CHUNKED = -1 };

typedef struct rp_http_head {
    rp_str method, target; /* target as sent */
    rp_str path, query;    /* without the '?'; of an absolute-form target its own path */
    rp_header *headers;    /* the caller's */
    size_t header_count;
    int64_t body_size;     /* bytes, or RP_HTTP_BODY_CHUNKED */
    bool http_1_0;
    bool keep_alive;       /* what the client wants, its version considered */
    bool expects_continue;
} rp_http_head;

/* Read a whole head (from scan.start up to scan.at) into *out and `headers`, which has
 * room for scan.line_count. All strings point into `head`. Host is the target's own
 * authority if that is in absolute form (RFC 9112, 3.2.2). */
rp_http_refusal rp_http_head_parse(rp_str head, rp_header *headers, size_t header_max,
                                   rp_http_head *out);

enum { RP_HTTP_BODY_UNTIL_CLOSE = -2 };

typedef struct rp_http_reply {
    int status;            /* 100 to 999 */
    rp_header *headers;    /* the caller's */
    size_t header_count;
    int64_t body_size;     /* bytes, RP_HTTP_BODY_CHUNKED or RP_HTTP_BODY_UNTIL_CLOSE */
    int64_t keep_s;        /* the server's "Keep-Alive: timeout="; -1: not said */
    bool http_1_0;
    bool keep_alive;       /* another request may follow on this connection */
} rp_http_reply;

/* The same for the head of a reply to a request, of method HEAD or not. 1xx, 204 and 304
 * have no body, whatever their fields say. Refused are besides what a request's fields
 * are refused for: two different lengths, a length next to a transfer coding, any
 * transfer coding but chunked. White space before a colon is removed, as RFC 9112 5.1
 * asks of a proxy; so are repeated equal lengths. */
rp_http_refusal rp_http_reply_parse(rp_str head, bool to_head, rp_header *headers,
                                    size_t header_max, rp_http_reply *out);

bool rp_http_is_token(rp_str text);
/* True if a field value may be sent: no control bytes but tab. */
bool rp_http_is_field_value(rp_str text);
/* True if the comma-separated list has this token, in any case. */
bool rp_http_list_has(rp_str list, rp_str token);

/* ---- chunked bodies ------------------------------------------------------------- */

typedef struct rp_http_chunks {
    uint64_t left;      /* bytes of this chunk still to come */
    uint32_t line_size; /* bytes of the size line, or of all trailers */
    uint8_t state;
    bool digits;        /* the size line has had a digit */
} rp_http_chunks;

typedef enum rp_http_chunks_result {
    RP_HTTP_CHUNKS_MORE,  /* *input is used up */
    RP_HTTP_CHUNKS_PIECE, /* *piece is a part of the body; call again */
    RP_HTTP_CHUNKS_END,   /* the body is complete; *input is what follows it */
    RP_HTTP_CHUNKS_BAD,
} rp_http_chunks_result;

/* Start from a cleared struct. Takes what it has read off the front of *input.
 * Extensions and trailers are read and dropped. */
rp_http_chunks_result rp_http_chunks_feed(rp_http_chunks *chunks, rp_str *input, rp_str *piece);
/* Put the last `size` bytes of the piece just given back in front of *input. */
void rp_http_chunks_unread(rp_http_chunks *chunks, rp_str *input, size_t size);

#endif
