/* http_parse.c - see http_parse.h. */
#include "net/http_parse.h"
#include "base/bytes.h"

enum {
    IS_TOKEN = 1,   /* tchar, RFC 9110 5.6.2 */
    IS_VALUE = 2,   /* may stand in a field value: HTAB, SP, VCHAR, obs-text */
    IS_TARGET = 4,  /* may stand in a request target: VCHAR without '#' */
    IS_HOST = 8,    /* may stand in a Host value: reg-name, IP literal, port */
};

static const uint8_t classes[256] = {
    ['\t'] = IS_VALUE,
    [' '] = IS_VALUE,
    ['!'] = 15, ['"'] = 6, ['#'] = 3, ['$'] = 15, ['%'] = 15, ['&'] = 15, ['\''] = 15,
    ['('] = 14, [')'] = 14, ['*'] = 15, ['+'] = 15, [','] = 14, ['-'] = 15, ['.'] = 15,
    ['/'] = 6, ['0' ... '9'] = 15, [':'] = 14, [';'] = 14, ['<'] = 6, ['='] = 14, ['>'] = 6,
    ['?'] = 6, ['@'] = 6, ['A' ... 'Z'] = 15, ['['] = 14, ['\\'] = 6, [']'] = 14, ['^'] = 7,
    ['_'] = 15, ['`'] = 7, ['a' ... 'z'] = 15, ['{'] = 6, ['|'] = 7, ['}'] = 6, ['~'] = 15,
    [0x80 ... 0xFF] = IS_VALUE,
};

static bool
all_of(rp_str text, uint8_t class)
{
    for (size_t i = 0; i < text.len; i++) {
        if (!(classes[(uint8_t)text.ptr[i]] & class))
            return false;
    }
    return true;
}

bool
rp_http_is_token(rp_str text)
{
    return text.len && all_of(text, IS_TOKEN);
}

bool
rp_http_is_field_value(rp_str text)
{
    return all_of(text, IS_VALUE);
}

bool
rp_http_list_has(rp_str list, rp_str token)
{
    while (list.len) {
        if (rp_str_equal_ignoring_case(rp_str_trimmed(rp_str_split(&list, ',')), token))
            return true;
    }
    return false;
}

static rp_http_refusal
refuse(int status, const char *reason)
{
    return (rp_http_refusal){ status, reason };
}

/* ---- where the head ends ------------------------------------------------------ */

/* One line, without its CR LF, ends at scan->at. True if the head is then whole. */
static bool
take_line(rp_http_scan *scan, size_t line_size)
{
    if (line_size == 0 && scan->line_count == 0) {
        /* RFC 9112 2.2: an empty line before the request line is forgiven; a few are. */
        scan->start = scan->at;
        if (scan->at > 8)
            scan->refusal = refuse(400, "there is no request line");
        return false;
    }
    if (line_size == 0)
        return true;
    scan->line_count++;
    return false;
}

/* Could these first bytes become a request line, or a status line? */
static bool
may_begin(const rp_http_scan *scan, rp_str input)
{
    const char first = input.ptr[scan->line_start];
    if (!scan->of_reply)
        return first == '\r' || classes[(uint8_t)first] & IS_TOKEN;
    return memcmp(input.ptr, "HTTP/1.", RP_MIN(input.len, (size_t)7)) == 0;
}

static rp_http_refusal
refuse_size(const rp_http_scan *scan)
{
    if (scan->of_reply)
        return refuse(502, "the head of the reply is too large");
    return scan->line_count == 0 ? refuse(414, "the request line is too long")
                                 : refuse(431, "the header is too large");
}

bool
rp_http_scan_feed(rp_http_scan *scan, rp_str input, size_t size_max, size_t count_max)
{
    while (!scan->whole && !scan->refusal.status && scan->at < input.len) {
        /* Another protocol, such as TLS, need not wait for a line end that never comes. */
        if (scan->line_count == 0 && !may_begin(scan, input)) {
            scan->refusal = scan->of_reply ? refuse(502, "this is not an HTTP/1 reply")
                                           : refuse(400, "this is not an HTTP request");
            break;
        }
        const size_t looked_at = RP_MIN(input.len, size_max);
        const char *lf = looked_at > scan->at
                             ? memchr(input.ptr + scan->at, '\n', looked_at - scan->at)
                             : NULL;
        if (!lf) {
            scan->at = looked_at;
            if (input.len >= size_max)
                scan->refusal = refuse_size(scan);
            break;
        }
        const size_t end = (size_t)(lf - input.ptr);
        if (end == scan->line_start || input.ptr[end - 1] != '\r') {
            scan->refusal = refuse(scan->of_reply ? 502 : 400, "a line does not end with CR LF");
            break;
        }
        scan->at = end + 1;
        scan->whole = take_line(scan, end - 1 - scan->line_start);
        scan->line_start = scan->at;
        if (scan->line_count > 0 && scan->line_count - 1 > count_max)
            scan->refusal = refuse(scan->of_reply ? 502 : 431, "there are too many header fields");
    }
    return scan->whole || scan->refusal.status;
}

/* ---- what it says ------------------------------------------------------------- */

/* The next line without its CR LF; the scan has seen that there is one. */
static bool
next_line(rp_str *rest, rp_str *line)
{
    const char *lf = rest->len ? memchr(rest->ptr, '\n', rest->len) : NULL;
    if (!lf || lf == rest->ptr || lf[-1] != '\r')
        return false;
    *line = (rp_str){ rest->ptr, (size_t)(lf - rest->ptr) - 1 };
    rest->ptr = lf + 1;
    rest->len -= line->len + 2;
    return true;
}

static bool
is_host(rp_str host)
{
    if (!all_of(host, IS_HOST))
        return false;
    /* A colon only before the port, except within [ ]. */
    rp_str rest = host;
    if (rest.len && rest.ptr[0] == '[') {
        const char *end = memchr(rest.ptr, ']', rest.len);
        if (!end)
            return false;
        const size_t skip = (size_t)(end - rest.ptr) + 1;
        rest = (rp_str){ rest.ptr + skip, rest.len - skip };
        if (rest.len && rest.ptr[0] != ':')
            return false;
    }
    rp_str_split(&rest, ':');
    for (size_t i = 0; i < rest.len; i++) {
        if (rest.ptr[i] < '0' || rest.ptr[i] > '9')
            return false;
    }
    return true;
}

/* Cut a target into path and query; *authority is that of an absolute form. */
static rp_http_refusal
cut_target(rp_http_head *head, rp_str *authority)
{
    rp_str rest = head->target;
    *authority = (rp_str){ NULL, 0 };
    if (rp_str_equal(rest, RP_STR("*"))) {
        if (!rp_str_equal(head->method, RP_STR("OPTIONS")))
            return refuse(400, "only OPTIONS may have the target *");
        head->path = rest;
        head->query = (rp_str){ rest.ptr + 1, 0 };
        return refuse(0, NULL);
    }
    if (rest.len && rest.ptr[0] != '/') {
        const size_t scheme = rest.len > 7 && rp_str_equal_ignoring_case((rp_str){ rest.ptr, 7 },
                                                                         RP_STR("http://"))
                                  ? 7
                              : rest.len > 8 && rp_str_equal_ignoring_case(
                                                    (rp_str){ rest.ptr, 8 }, RP_STR("https://"))
                                  ? 8
                                  : 0;
        if (!scheme)
            return refuse(400, "the request target is neither a path nor a URL");
        rest = (rp_str){ rest.ptr + scheme, rest.len - scheme };
        size_t end = 0;
        while (end < rest.len && rest.ptr[end] != '/' && rest.ptr[end] != '?')
            end++;
        *authority = (rp_str){ rest.ptr, end };
        rest = (rp_str){ rest.ptr + end, rest.len - end };
        if (end == 0 || !is_host(*authority))
            return refuse(400, "the host of the request target is not valid");
    }
    const char *mark = rest.len ? memchr(rest.ptr, '?', rest.len) : NULL;
    const size_t path_len = mark ? (size_t)(mark - rest.ptr) : rest.len;
    head->path = path_len ? (rp_str){ rest.ptr, path_len } : RP_STR("/");
    head->query = mark ? (rp_str){ mark + 1, rest.len - path_len - 1 }
                       : (rp_str){ rest.ptr + rest.len, 0 };
    return refuse(0, NULL);
}

static rp_http_refusal
parse_request_line(rp_str line, rp_http_head *head, rp_str *authority)
{
    const char *space = memchr(line.ptr, ' ', line.len);
    head->method = (rp_str){ line.ptr, space ? (size_t)(space - line.ptr) : line.len };
    if (!space || !rp_http_is_token(head->method))
        return refuse(400, "the request line has no method");
    rp_str rest = { space + 1, line.len - head->method.len - 1 };
    space = rest.len ? memchr(rest.ptr, ' ', rest.len) : NULL;
    if (!space)
        return refuse(400, "the request line has no version");
    head->target = (rp_str){ rest.ptr, (size_t)(space - rest.ptr) };
    const rp_str version = { space + 1, rest.len - head->target.len - 1 };
    if (version.len != 8 || memcmp(version.ptr, "HTTP/", 5) != 0 || version.ptr[6] != '.' ||
        version.ptr[5] < '0' || version.ptr[5] > '9' || version.ptr[7] < '0' ||
        version.ptr[7] > '9')
        return refuse(400, "the request line has no valid version");
    if (version.ptr[5] != '1')
        return refuse(505, "only HTTP/1.1 and HTTP/1.0 are spoken here");
    head->http_1_0 = version.ptr[7] == '0';
    if (rp_str_equal(head->method, RP_STR("CONNECT")))
        return refuse(501, "CONNECT is not supported");
    if (!head->target.len || !all_of(head->target, IS_TARGET))
        return refuse(400, "the request target has a byte that is not allowed");
    return cut_target(head, authority);
}

/* The name ends before name_end, which is the colon unless white space before it is
 * forgiven. */
static rp_http_refusal
parse_field(rp_str line, const char *name_end, const char *colon, rp_header *field)
{
    if (line.ptr[0] == ' ' || line.ptr[0] == '\t')
        return refuse(400, "a header line is folded");
    if (!colon)
        return refuse(400, "a header line has no colon");
    field->name = (rp_str){ line.ptr, (size_t)(name_end - line.ptr) };
    if (!rp_http_is_token(field->name))
        return refuse(400, "a header name is not a token");
    const char *at = colon + 1, *end = line.ptr + line.len;
    while (at < end && (*at == ' ' || *at == '\t'))
        at++;
    while (end > at && (end[-1] == ' ' || end[-1] == '\t'))
        end--;
    field->value = (rp_str){ at, (size_t)(end - at) };
    if (!rp_http_is_field_value(field->value))
        return refuse(400, "a header value has a byte that is not allowed");
    return refuse(0, NULL);
}

typedef struct framing {
    size_t host_count, length_count, coding_count;
    rp_str coding;
    int64_t length;
    bool close, keep_alive;
} framing;

/* What the fields that frame the message say, one field at a time. */
static rp_http_refusal
note_field(rp_header *field, rp_str authority, rp_http_head *head, framing *f)
{
    const rp_str value = field->value;
    uint64_t number;
    switch (field->name.len) {
    case 4:
        if (!rp_str_equal_ignoring_case(field->name, RP_STR("host")))
            break;
        if (f->host_count++)
            return refuse(400, "there are two Host fields");
        if (!is_host(value))
            return refuse(400, "the Host field is not valid");
        if (authority.len)
            field->value = authority;
        break;
    case 6:
        if (!rp_str_equal_ignoring_case(field->name, RP_STR("expect")))
            break;
        if (!rp_str_equal_ignoring_case(value, RP_STR("100-continue")))
            return refuse(417, "only 100-continue can be expected");
        head->expects_continue = true;
        break;
    case 10:
        if (!rp_str_equal_ignoring_case(field->name, RP_STR("connection")))
            break;
        f->close |= rp_http_list_has(value, RP_STR("close"));
        f->keep_alive |= rp_http_list_has(value, RP_STR("keep-alive"));
        break;
    case 14:
        if (!rp_str_equal_ignoring_case(field->name, RP_STR("content-length")))
            break;
        if (f->length_count++)
            return refuse(400, "there are two Content-Length fields");
        if (!rp_str_to_u64(value, &number) || number > INT64_MAX)
            return refuse(400, "the Content-Length is not a number");
        f->length = (int64_t)number;
        break;
    case 17:
        if (!rp_str_equal_ignoring_case(field->name, RP_STR("transfer-encoding")))
            break;
        f->coding_count++;
        f->coding = value;
        break;
    default: break;
    }
    return refuse(0, NULL);
}

static rp_http_refusal
decide_framing(const framing *f, rp_http_head *head)
{
    if (!f->host_count && !head->http_1_0)
        return refuse(400, "the Host field is missing");
    if (f->coding_count) {
        if (f->length_count)
            return refuse(400, "there are both Content-Length and Transfer-Encoding");
        if (head->http_1_0)
            return refuse(400, "HTTP/1.0 has no Transfer-Encoding");
        if (f->coding_count > 1 || !f->coding.len)
            return refuse(400, "the Transfer-Encoding is not valid");
        if (!rp_str_equal_ignoring_case(f->coding, RP_STR("chunked")))
            return refuse(501, "the only transfer coding understood is chunked");
    }
    head->body_size = f->coding_count ? RP_HTTP_BODY_CHUNKED : f->length;
    head->keep_alive = !f->close && (!head->http_1_0 || f->keep_alive);
    if (head->http_1_0)
        head->expects_continue = false; /* RFC 9110 10.1.1 */
    return refuse(0, NULL);
}

rp_http_refusal
rp_http_head_parse(rp_str head, rp_header *headers, size_t header_max, rp_http_head *out)
{
    framing f = { 0 };
    rp_str line, authority;
    *out = (rp_http_head){ .headers = headers };
    if (!next_line(&head, &line))
        return refuse(400, "a line does not end with CR LF");
    rp_http_refusal refusal = parse_request_line(line, out, &authority);
    while (!refusal.status) {
        if (!next_line(&head, &line))
            return refuse(400, "a line does not end with CR LF");
        if (!line.len)
            break;
        if (out->header_count == header_max)
            return refuse(431, "there are too many header fields");
        rp_header *field = &headers[out->header_count];
        const char *colon = memchr(line.ptr, ':', line.len);
        refusal = parse_field(line, colon, colon, field);
        if (!refusal.status)
            refusal = note_field(field, authority, out, &f);
        out->header_count++;
    }
    return refusal.status ? refusal : decide_framing(&f, out);
}

/* ---- what a reply says ---------------------------------------------------------- */

/* "HTTP/1.1 200 OK"; the reason, and the space before it, may be missing. */
static rp_http_refusal
parse_status_line(rp_str line, rp_http_reply *reply)
{
    const char *p = line.ptr;
    if (line.len < 12 || memcmp(p, "HTTP/1.", 7) != 0 || p[7] < '0' || p[7] > '9' || p[8] != ' ')
        return refuse(502, "the reply has no valid status line");
    reply->http_1_0 = p[7] == '0';
    for (size_t i = 9; i < 12; i++) {
        if (p[i] < '0' || p[i] > '9')
            return refuse(502, "the status of the reply is not a number");
        reply->status = reply->status * 10 + (p[i] - '0');
    }
    if (reply->status < 100 || (line.len > 12 && p[12] != ' ') ||
        !all_of((rp_str){ p + 12, line.len - 12 }, IS_VALUE))
        return refuse(502, "the reply has no valid status line");
    return refuse(0, NULL);
}

typedef struct reply_framing {
    size_t length_count, coding_count;
    rp_str coding;
    int64_t length;
    bool close, keep_alive, differ;
} reply_framing;

/* The N of "timeout=N, max=M"; -1 without one. */
static int64_t
keep_seconds(rp_str list)
{
    while (list.len) {
        rp_str argument = rp_str_trimmed(rp_str_split(&list, ','));
        const rp_str name = rp_str_trimmed(rp_str_split(&argument, '='));
        uint64_t seconds;
        if (rp_str_equal_ignoring_case(name, RP_STR("timeout")) &&
            rp_str_to_u64(rp_str_trimmed(argument), &seconds) && seconds <= INT32_MAX)
            return (int64_t)seconds;
    }
    return -1;
}

static rp_http_refusal
note_reply_field(const rp_header *field, rp_http_reply *reply, reply_framing *f)
{
    uint64_t number;
    switch (field->name.len) {
    case 10:
        if (rp_str_equal_ignoring_case(field->name, RP_STR("connection"))) {
            f->close |= rp_http_list_has(field->value, RP_STR("close"));
            f->keep_alive |= rp_http_list_has(field->value, RP_STR("keep-alive"));
        } else if (rp_str_equal_ignoring_case(field->name, RP_STR("keep-alive"))) {
            reply->keep_s = keep_seconds(field->value);
        }
        break;
    case 14:
        if (!rp_str_equal_ignoring_case(field->name, RP_STR("content-length")))
            break;
        if (!rp_str_to_u64(field->value, &number) || number > INT64_MAX)
            return refuse(502, "the Content-Length of the reply is not a number");
        f->differ |= f->length_count++ && f->length != (int64_t)number;
        f->length = (int64_t)number;
        break;
    case 17:
        if (!rp_str_equal_ignoring_case(field->name, RP_STR("transfer-encoding")))
            break;
        f->coding_count++;
        f->coding = field->value;
        break;
    default: break;
    }
    return refuse(0, NULL);
}

static rp_http_refusal
decide_reply_framing(const reply_framing *f, bool to_head, rp_http_reply *reply)
{
    if (f->differ)
        return refuse(502, "the reply has two different lengths");
    if (f->coding_count && f->length_count)
        return refuse(502, "the reply has both Content-Length and Transfer-Encoding");
    if (f->coding_count &&
        (f->coding_count > 1 || !rp_str_equal_ignoring_case(f->coding, RP_STR("chunked"))))
        return refuse(502, "the reply has a transfer coding other than chunked");
    reply->body_size = f->coding_count   ? RP_HTTP_BODY_CHUNKED
                       : f->length_count ? f->length
                                         : RP_HTTP_BODY_UNTIL_CLOSE;
    if (to_head || reply->status < 200 || reply->status == 204 || reply->status == 304)
        reply->body_size = 0;
    /* A server of HTTP/1.0 that sends chunks is believed once (RFC 9112 6.1). */
    reply->keep_alive = !f->close && (!reply->http_1_0 || (f->keep_alive && !f->coding_count)) &&
                        reply->body_size != RP_HTTP_BODY_UNTIL_CLOSE;
    return refuse(0, NULL);
}

/* RFC 9112 5.1: a proxy has to remove white space before the colon of a reply's field. */
static rp_http_refusal
parse_reply_field(rp_str line, rp_header *field)
{
    const char *colon = memchr(line.ptr, ':', line.len);
    const char *end = colon;
    while (end && end > line.ptr && (end[-1] == ' ' || end[-1] == '\t'))
        end--;
    return parse_field(line, end && end > line.ptr ? end : colon, colon, field);
}

rp_http_refusal
rp_http_reply_parse(rp_str head, bool to_head, rp_header *headers, size_t header_max,
                    rp_http_reply *out)
{
    reply_framing f = { 0 };
    rp_str line;
    *out = (rp_http_reply){ .headers = headers, .keep_s = -1 };
    if (!next_line(&head, &line))
        return refuse(502, "a line does not end with CR LF");
    rp_http_refusal refusal = parse_status_line(line, out);
    while (!refusal.status) {
        if (!next_line(&head, &line))
            return refuse(502, "a line does not end with CR LF");
        if (!line.len)
            break;
        if (out->header_count == header_max)
            return refuse(502, "there are too many header fields");
        rp_header *field = &headers[out->header_count];
        refusal = parse_reply_field(line, field);
        if (refusal.status)
            return refuse(502, refusal.reason);
        refusal = note_reply_field(field, out, &f);
        out->header_count++;
    }
    return refusal.status ? refusal : decide_reply_framing(&f, to_head, out);
}

/* ---- chunked bodies ------------------------------------------------------------- */

enum {
    CHUNK_SIZE,      /* hexadecimal digits */
    CHUNK_SPACE,     /* between them and an extension */
    CHUNK_EXTENSION, /* up to CR */
    CHUNK_SIZE_LF,
    CHUNK_DATA,
    CHUNK_DATA_CR,
    CHUNK_DATA_LF,
    TRAILER_START,   /* of a line: CR ends the body */
    TRAILER,
    TRAILER_LF,
    LAST_LF,
    CHUNKS_DONE,
    CHUNKS_BAD,
};

/* Longest size line, and longest trailers together. A guess: nobody sends any. */
enum { CHUNK_LINE_SIZE_MAX = 4096 };

static int
hex_digit(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

/* One byte outside the data. Returns the state after it. */
static uint8_t
step(rp_http_chunks *chunks, char c)
{
    const bool allowed = classes[(uint8_t)c] & IS_VALUE;
    switch (chunks->state) {
    case CHUNK_SIZE: {
        const int digit = hex_digit(c);
        if (digit >= 0) {
            /* 15 digits are an exabyte; longer would overflow. */
            if (chunks->left >> 56)
                return CHUNKS_BAD;
            chunks->left = chunks->left << 4 | (uint64_t)digit;
            chunks->digits = true;
            return CHUNK_SIZE;
        }
        if (!chunks->digits)
            return CHUNKS_BAD;
        /* RFC 9112 7.1.1: only an extension, and white space before it, may follow. */
        return c == '\r'               ? CHUNK_SIZE_LF
               : c == ';'              ? CHUNK_EXTENSION
               : c == ' ' || c == '\t' ? CHUNK_SPACE
                                       : CHUNKS_BAD;
    }
    case CHUNK_SPACE:
        return c == ';' ? CHUNK_EXTENSION : c == ' ' || c == '\t' ? CHUNK_SPACE : CHUNKS_BAD;
    case CHUNK_EXTENSION: return c == '\r' ? CHUNK_SIZE_LF : allowed ? CHUNK_EXTENSION : CHUNKS_BAD;
    case CHUNK_SIZE_LF:
        chunks->line_size = 0;
        chunks->digits = false;
        return c != '\n' ? CHUNKS_BAD : chunks->left ? CHUNK_DATA : TRAILER_START;
    case CHUNK_DATA_CR: return c == '\r' ? CHUNK_DATA_LF : CHUNKS_BAD;
    case CHUNK_DATA_LF:
        chunks->line_size = 0;
        return c == '\n' ? CHUNK_SIZE : CHUNKS_BAD;
    case TRAILER_START:
        return c == '\r' ? LAST_LF : classes[(uint8_t)c] & IS_TOKEN ? TRAILER : CHUNKS_BAD;
    case TRAILER: return c == '\r' ? TRAILER_LF : allowed ? TRAILER : CHUNKS_BAD;
    case TRAILER_LF: return c == '\n' ? TRAILER_START : CHUNKS_BAD;
    case LAST_LF: return c == '\n' ? CHUNKS_DONE : CHUNKS_BAD;
    default: return CHUNKS_BAD;
    }
}

rp_http_chunks_result
rp_http_chunks_feed(rp_http_chunks *chunks, rp_str *input, rp_str *piece)
{
    while (input->len && chunks->state != CHUNKS_DONE && chunks->state != CHUNKS_BAD) {
        if (chunks->state == CHUNK_DATA) {
            const size_t size = (size_t)RP_MIN(chunks->left, (uint64_t)input->len);
            *piece = (rp_str){ input->ptr, size };
            *input = (rp_str){ input->ptr + size, input->len - size };
            chunks->left -= size;
            if (!chunks->left)
                chunks->state = CHUNK_DATA_CR;
            return RP_HTTP_CHUNKS_PIECE;
        }
        chunks->state = step(chunks, input->ptr[0]);
        if (++chunks->line_size > CHUNK_LINE_SIZE_MAX)
            chunks->state = CHUNKS_BAD;
        *input = (rp_str){ input->ptr + 1, input->len - 1 };
    }
    return chunks->state == CHUNKS_DONE  ? RP_HTTP_CHUNKS_END
           : chunks->state == CHUNKS_BAD ? RP_HTTP_CHUNKS_BAD
                                         : RP_HTTP_CHUNKS_MORE;
}

void
rp_http_chunks_unread(rp_http_chunks *chunks, rp_str *input, size_t size)
{
    if (!size)
        return;
    *input = (rp_str){ input->ptr - size, input->len + size };
    chunks->left += size;
    chunks->state = CHUNK_DATA;
}
