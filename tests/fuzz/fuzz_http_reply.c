/* fuzz_http_reply.c - a reply means the same whole and byte by byte, says nothing that its
 * bytes do not hold, and has one length or is refused.
 *
 * The input is read as a client would: heads until the final one, then the body as it is
 * framed, in pieces of several sizes; verdict, status, fields and body must agree. The
 * first byte of the input says whether the request was HEAD. Strings of a parsed head must
 * lie within it. */
#include "base/bytes.h"
#include "base/hash.h"
#include "net/http_parse.h"

#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { HEAD_SIZE_MAX = 4096, HEADER_COUNT_MAX = 8, INTERIM_MAX = 4 };

static void
require(bool fact)
{
    if (!fact)
        abort();
}

static void
require_within(rp_str outer, rp_str inner)
{
    if (inner.len)
        require(inner.ptr >= outer.ptr && inner.ptr + inner.len <= outer.ptr + outer.len);
}

typedef struct reading {
    bool to_head, done, refused;
    rp_http_scan scan;
    rp_http_reply reply;
    bool has_head;
    int interim_count;
    rp_http_chunks chunks;
    uint64_t left;
    rp_sha256 hash; /* of fields and body */
    size_t after;   /* bytes behind the reply */
} reading;

static void
check_reply(rp_str text, const rp_http_reply *reply, bool to_head)
{
    size_t lengths = 0, codings = 0;
    require(reply->status >= 100 && reply->status <= 999);
    require(reply->body_size >= RP_HTTP_BODY_UNTIL_CLOSE && reply->keep_s >= -1);
    for (size_t i = 0; i < reply->header_count; i++) {
        const rp_header *field = &reply->headers[i];
        require_within(text, field->name);
        require_within(text, field->value);
        require(rp_http_is_token(field->name) && rp_http_is_field_value(field->value));
        lengths += rp_str_equal_ignoring_case(field->name, RP_STR("content-length"));
        codings += rp_str_equal_ignoring_case(field->name, RP_STR("transfer-encoding"));
    }
    /* Two ways to say where it ends are one too many. */
    require(codings + (lengths > 0) <= 1);
    const bool bodiless =
        to_head || reply->status < 200 || reply->status == 204 || reply->status == 304;
    require(bodiless ? reply->body_size == 0
                     : (reply->body_size == RP_HTTP_BODY_CHUNKED) == (codings == 1));
    require(!reply->keep_alive || reply->body_size != RP_HTTP_BODY_UNTIL_CLOSE);
}

/* Take what can be taken of `input`; returns how much. */
static size_t
take_head(reading *r, rp_str input)
{
    rp_header headers[HEADER_COUNT_MAX + 1];
    if (!rp_http_scan_feed(&r->scan, input, HEAD_SIZE_MAX, HEADER_COUNT_MAX))
        return 0;
    const size_t size = r->scan.at;
    require(r->scan.refusal.status ||
            (r->scan.line_count <= RP_COUNT(headers) && r->scan.start == 0));
    r->refused = r->scan.refusal.status != 0 ||
                 rp_http_reply_parse((rp_str){ input.ptr, size }, r->to_head, headers,
                                     r->scan.line_count, &r->reply)
                         .status != 0;
    if (r->refused)
        return size;
    check_reply((rp_str){ input.ptr, size }, &r->reply, r->to_head);
    rp_sha256_update(&r->hash, (rp_str){ input.ptr, size });
    r->scan = (rp_http_scan){ .of_reply = true };
    if (r->reply.status < 200) {
        r->refused = ++r->interim_count > INTERIM_MAX;
        return size;
    }
    r->reply.headers = NULL; /* they were ours */
    r->has_head = true;
    r->left = r->reply.body_size > 0 ? (uint64_t)r->reply.body_size : 0;
    r->done = r->reply.body_size == 0;
    return size;
}

static size_t
take_body(reading *r, rp_str input)
{
    if (r->reply.body_size != RP_HTTP_BODY_CHUNKED) {
        const bool counted = r->reply.body_size >= 0;
        const size_t n = counted ? (size_t)RP_MIN(r->left, (uint64_t)input.len) : input.len;
        rp_sha256_update(&r->hash, (rp_str){ input.ptr, n });
        r->left -= counted ? n : 0;
        r->done = counted && !r->left;
        return n;
    }
    rp_str rest = input, piece;
    const rp_http_chunks_result result = rp_http_chunks_feed(&r->chunks, &rest, &piece);
    if (result == RP_HTTP_CHUNKS_PIECE) {
        require_within(input, piece);
        rp_sha256_update(&r->hash, piece);
    }
    r->done = result == RP_HTTP_CHUNKS_END;
    r->refused = result == RP_HTTP_CHUNKS_BAD;
    return input.len - rest.len;
}

static reading
read_reply(rp_str bytes, bool to_head, size_t piece)
{
    reading r = { .to_head = to_head, .scan = { .of_reply = true } };
    size_t at = 0, have = 0; /* taken; arrived */
    rp_sha256_init(&r.hash);
    while (have < bytes.len && !r.done && !r.refused) {
        have += RP_MIN(piece, bytes.len - have);
        size_t n = 1;
        while (n && at < have && !r.done && !r.refused) {
            const rp_str input = { bytes.ptr + at, have - at };
            n = r.has_head ? take_body(&r, input) : take_head(&r, input);
            at += n;
        }
    }
    r.after = r.done ? bytes.len - at : 0;
    return r;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!size)
        return 0;
    const rp_str bytes = { (const char *)data + 1, size - 1 };
    const bool to_head = data[0] & 1;
    reading whole = read_reply(bytes, to_head, SIZE_MAX);
    uint8_t digest[32];
    rp_sha256_final(&whole.hash, digest);
    for (size_t piece = 1; piece <= 3; piece++) {
        reading cut = read_reply(bytes, to_head, piece);
        require(cut.refused == whole.refused && cut.done == whole.done &&
                cut.after == whole.after && cut.has_head == whole.has_head);
        uint8_t other[32];
        rp_sha256_final(&cut.hash, other);
        require(memcmp(digest, other, sizeof digest) == 0);
    }
    return 0;
}
