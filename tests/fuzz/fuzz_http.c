/* fuzz_http.c - a request means the same whole and byte by byte, and says nothing that
 * its bytes do not hold.
 *
 * The input is read as a head, then as a chunked body, each in pieces of several sizes;
 * verdict, place and content must agree. Strings of a parsed head must lie within it. */
#include "base/bytes.h"
#include "base/hash.h"
#include "net/http_parse.h"

#include <stdint.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { HEAD_SIZE_MAX = 4096, HEADER_COUNT_MAX = 8 };

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

static rp_http_scan
scan_in_pieces(rp_str bytes, size_t piece)
{
    rp_http_scan scan = { 0 };
    for (size_t have = 0; have < bytes.len;) {
        have = piece < bytes.len - have ? have + piece : bytes.len;
        if (rp_http_scan_feed(&scan, (rp_str){ bytes.ptr, have }, HEAD_SIZE_MAX, HEADER_COUNT_MAX))
            break;
    }
    return scan;
}

static void
check_head(rp_str bytes)
{
    const rp_http_scan whole = scan_in_pieces(bytes, SIZE_MAX);
    for (size_t piece = 1; piece <= 3; piece++) {
        const rp_http_scan cut = scan_in_pieces(bytes, piece);
        require(cut.whole == whole.whole && cut.refusal.status == whole.refusal.status &&
                cut.refusal.reason == whole.refusal.reason);
        require(!whole.whole || (cut.at == whole.at && cut.start == whole.start &&
                                 cut.line_count == whole.line_count));
    }
    if (!whole.whole || whole.refusal.status)
        return;
    rp_header headers[HEADER_COUNT_MAX + 1];
    rp_http_head head;
    const rp_str text = { bytes.ptr + whole.start, whole.at - whole.start };
    require(whole.line_count <= RP_COUNT(headers));
    if (rp_http_head_parse(text, headers, whole.line_count, &head).status)
        return;
    require_within(text, head.method);
    require_within(text, head.target);
    require_within(text, head.query);
    require(head.path.len > 0 && rp_http_is_token(head.method));
    require(head.body_size >= RP_HTTP_BODY_CHUNKED);
    for (size_t i = 0; i < head.header_count; i++) {
        require_within(text, headers[i].name);
        require_within(text, headers[i].value);
        require(rp_http_is_token(headers[i].name) && rp_http_is_field_value(headers[i].value));
    }
}

typedef struct body {
    uint8_t digest[32];
    size_t left;
    rp_http_chunks_result result;
} body;

static body
read_chunks(rp_str bytes, size_t piece)
{
    body out = { .result = RP_HTTP_CHUNKS_MORE };
    rp_http_chunks chunks = { 0 };
    rp_sha256 hash;
    rp_sha256_init(&hash);
    while (bytes.len && out.result == RP_HTTP_CHUNKS_MORE) {
        const size_t n = piece < bytes.len ? piece : bytes.len;
        rp_str input = { bytes.ptr, n }, part;
        while ((out.result = rp_http_chunks_feed(&chunks, &input, &part)) == RP_HTTP_CHUNKS_PIECE) {
            require_within(bytes, part);
            rp_sha256_update(&hash, part);
        }
        bytes = (rp_str){ bytes.ptr + n - input.len, bytes.len - n + input.len };
    }
    out.left = out.result == RP_HTTP_CHUNKS_END ? bytes.len : 0;
    rp_sha256_final(&hash, out.digest);
    return out;
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const rp_str bytes = { (const char *)data, size };
    check_head(bytes);
    const body whole = read_chunks(bytes, SIZE_MAX);
    for (size_t piece = 1; piece <= 3; piece++) {
        const body cut = read_chunks(bytes, piece);
        require(cut.result == whole.result && cut.left == whole.left);
        require(memcmp(cut.digest, whole.digest, sizeof cut.digest) == 0);
    }
    return 0;
}
