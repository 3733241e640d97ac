/* http_exchange.c - one request and its reply; the contract is in http_server.h, the
 * picture in http_internal.h. Here replies become bytes; http_connection.c sends them. */
#include "net/http_internal.h"
#include "base/bytes.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

/* ---- output ------------------------------------------------------------------- */

void
rp_http_piece_free(rp_http_shard *shard, rp_http_piece *piece)
{
    if (piece->release)
        piece->release(piece->release_context);
    if (piece->capacity == RP_HTTP_PIECE_SIZE && shard->pieces_kept_count < RP_HTTP_PIECES_KEPT) {
        TAILQ_INSERT_HEAD(&shard->pieces_kept, piece, link);
        shard->pieces_kept_count++;
    } else {
        free(piece);
    }
}

void
rp_http_output_drop_all(rp_http_connection *c)
{
    rp_http_piece *piece;
    while ((piece = TAILQ_FIRST(&c->output))) {
        TAILQ_REMOVE(&c->output, piece, link);
        rp_http_piece_free(c->shard, piece);
    }
    c->output_size = 0;
}

static rp_http_piece *
make_piece(rp_http_shard *shard, size_t size)
{
    rp_http_piece *piece = TAILQ_FIRST(&shard->pieces_kept);
    if (size <= RP_HTTP_PIECE_SIZE && piece) {
        TAILQ_REMOVE(&shard->pieces_kept, piece, link);
        shard->pieces_kept_count--;
    } else {
        size = RP_MAX(size, (size_t)RP_HTTP_PIECE_SIZE);
        if (size > SIZE_MAX / 2 || !(piece = malloc(sizeof *piece + size)))
            return NULL;
        piece->capacity = size;
    }
    piece->ptr = piece->data;
    piece->len = 0;
    piece->release = NULL;
    return piece;
}

/* Room for `size` bytes at the end of the output, to be counted by the caller with
 * take_room. NULL without memory; the connection is then doomed. */
static char *
find_room(rp_http_connection *c, size_t size)
{
    rp_http_piece *last = TAILQ_LAST(&c->output, rp_http_pieces);
    if (last && last->capacity) {
        char *end = (char *)last->ptr + last->len;
        if (size <= (size_t)(last->data + last->capacity - end))
            return end;
    }
    rp_http_piece *piece = make_piece(c->shard, size);
    if (!piece) {
        c->doomed = c->reset = true;
        return NULL;
    }
    TAILQ_INSERT_TAIL(&c->output, piece, link);
    return piece->data;
}

static void
take_room(rp_http_connection *c, size_t size)
{
    TAILQ_LAST(&c->output, rp_http_pieces)->len += size;
    c->output_size += size;
}

void
rp_http_output_append(rp_http_connection *c, rp_str bytes)
{
    char *room = bytes.len ? find_room(c, bytes.len) : NULL;
    if (!room)
        return;
    memcpy(room, bytes.ptr, bytes.len);
    take_room(c, bytes.len);
}

static void
append_lent(rp_http_connection *c, rp_str bytes, rp_loop_call *release, void *context)
{
    rp_http_piece *piece = malloc(sizeof *piece);
    if (!piece) {
        c->doomed = c->reset = true;
        if (release)
            release(context);
        return;
    }
    *piece = (rp_http_piece){
        .ptr = bytes.ptr, .len = bytes.len, .release = release, .release_context = context
    };
    TAILQ_INSERT_TAIL(&c->output, piece, link);
    c->output_size += bytes.len;
}

/* ---- an exchange begins and goes ------------------------------------------------- */

rp_exchange *
rp_exchange_make(rp_http_connection *c)
{
    rp_http_shard *shard = c->shard;
    rp_exchange *exchange = shard->exchanges_kept;
    rp_arena arena;
    if (exchange) {
        shard->exchanges_kept = exchange->next_kept;
        shard->exchanges_kept_count--;
        arena = exchange->arena;
    } else {
        exchange = malloc(sizeof *exchange);
        if (!exchange)
            return NULL;
        rp_arena_init(&arena, 0);
    }
    *exchange = (rp_exchange){ .connection = c, .shard = shard, .arena = arena };
    rp_buffer_init(&exchange->body, 0);
    return exchange;
}

/* Tell the server how much memory the collected body holds now. False: too much. */
bool
rp_exchange_account_body(rp_exchange *exchange)
{
    rp_http_server *server = exchange->shard->server;
    const size_t now = exchange->body.capacity, before = exchange->body_accounted;
    exchange->body_accounted = now;
    if (now <= before) {
        atomic_fetch_sub_explicit(&server->body_memory, before - now, memory_order_relaxed);
        return true;
    }
    const size_t held =
        atomic_fetch_add_explicit(&server->body_memory, now - before, memory_order_relaxed);
    return held + (now - before) <= server->options.body_memory_max;
}

void
rp_exchange_recycle(rp_exchange *exchange)
{
    rp_http_shard *shard = exchange->shard;
    if (exchange->body.ptr) {
        rp_buffer_fini(&exchange->body);
        rp_exchange_account_body(exchange);
    }
    if (shard->exchanges_kept_count >= RP_HTTP_EXCHANGES_KEPT ||
        exchange->arena.size_bytes > RP_HTTP_ARENA_KEPT) {
        rp_arena_fini(&exchange->arena);
        free(exchange);
        return;
    }
    rp_arena_reset(&exchange->arena);
    exchange->next_kept = shard->exchanges_kept;
    shard->exchanges_kept = exchange;
    shard->exchanges_kept_count++;
}

static void
recycle_call(void *exchange)
{
    rp_exchange_recycle(exchange);
}

/* The handler is done with it; so is the connection, but bytes lent from the arena
 * may still wait: then it goes when they have left. */
void
rp_exchange_detach(rp_exchange *exchange)
{
    rp_http_connection *c = exchange->connection;
    exchange->connection = NULL;
    c->exchange = NULL;
    c->body_paused = false;
    if (exchange->lent && c->output_size)
        append_lent(c, (rp_str){ NULL, 0 }, recycle_call, exchange);
    else
        rp_exchange_recycle(exchange);
}

rp_str
rp_http_header(const rp_header *headers, size_t count, const char *name)
{
    const rp_str wanted = rp_str_of(name);
    for (size_t i = 0; i < count; i++) {
        if (headers[i].name.len == wanted.len &&
            rp_str_equal_ignoring_case(headers[i].name, wanted))
            return headers[i].value;
    }
    return (rp_str){ NULL, 0 };
}

void *
rp_exchange_context(const rp_exchange *exchange)
{
    return exchange->context;
}

void
rp_exchange_set_context(rp_exchange *exchange, void *context)
{
    exchange->context = context;
}

rp_arena *
rp_exchange_arena(rp_exchange *exchange)
{
    return &exchange->arena;
}

rp_loop *
rp_exchange_loop(const rp_exchange *exchange)
{
    return exchange->shard->loop;
}

const rp_http_request *
rp_exchange_request(const rp_exchange *exchange)
{
    return &exchange->request;
}

/* ---- the head of a reply ----------------------------------------------------------- */

static const char *
reason_phrase(int status)
{
    switch (status) {
    case 200: return "OK";
    case 201: return "Created";
    case 202: return "Accepted";
    case 204: return "No Content";
    case 206: return "Partial Content";
    case 301: return "Moved Permanently";
    case 302: return "Found";
    case 303: return "See Other";
    case 304: return "Not Modified";
    case 307: return "Temporary Redirect";
    case 308: return "Permanent Redirect";
    case 400: return "Bad Request";
    case 401: return "Unauthorized";
    case 402: return "Payment Required";
    case 403: return "Forbidden";
    case 404: return "Not Found";
    case 405: return "Method Not Allowed";
    case 406: return "Not Acceptable";
    case 408: return "Request Timeout";
    case 409: return "Conflict";
    case 410: return "Gone";
    case 411: return "Length Required";
    case 412: return "Precondition Failed";
    case 413: return "Content Too Large";
    case 414: return "URI Too Long";
    case 415: return "Unsupported Media Type";
    case 417: return "Expectation Failed";
    case 421: return "Misdirected Request";
    case 422: return "Unprocessable Content";
    case 425: return "Too Early";
    case 426: return "Upgrade Required";
    case 428: return "Precondition Required";
    case 429: return "Too Many Requests";
    case 431: return "Request Header Fields Too Large";
    case 500: return "Internal Server Error";
    case 501: return "Not Implemented";
    case 502: return "Bad Gateway";
    case 503: return "Service Unavailable";
    case 504: return "Gateway Timeout";
    case 505: return "HTTP Version Not Supported";
    case 529: return "Overloaded";
    default: return "Status";
    }
}

/* "Date: Sun, 06 Nov 1994 08:49:37 GMT\r\n", made once a second. */
static rp_str
date_line(rp_http_shard *shard)
{
    static const char days[7][4] = { "Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat" };
    static const char months[12][4] = { "Jan", "Feb", "Mar", "Apr", "May", "Jun",
                                        "Jul", "Aug", "Sep", "Oct", "Nov", "Dec" };
    const time_t now = time(NULL);
    if (now != shard->date_second) {
        struct tm t;
        char line[128];
        gmtime_r(&now, &t);
        snprintf(line, sizeof line, "Date: %s, %02d %s %04d %02d:%02d:%02d GMT\r\n",
                 days[t.tm_wday], t.tm_mday, months[t.tm_mon], t.tm_year + 1900, t.tm_hour,
                 t.tm_min, t.tm_sec);
        memcpy(shard->date, line, sizeof shard->date);
        shard->date_second = now;
    }
    return (rp_str){ shard->date, strnlen(shard->date, sizeof shard->date) };
}

/* The connection's own fields: a handler that copies an upstream's cannot break ours. */
static bool
is_ours(rp_str name)
{
    static const rp_str names[] = {
        { "Connection", 10 },        { "Keep-Alive", 10 }, { "Content-Length", 14 },
        { "Transfer-Encoding", 17 }, { "Upgrade", 7 },     { "Proxy-Connection", 16 },
        { "TE", 2 },                 { "Trailer", 7 },
    };
    for (size_t i = 0; i < RP_COUNT(names); i++) {
        if (name.len == names[i].len && rp_str_equal_ignoring_case(name, names[i]))
            return true;
    }
    return false;
}

static char *
put(char *at, rp_str text)
{
    memcpy(at, text.ptr, text.len);
    return at + text.len;
}

static char *
put_number(char *at, uint64_t number)
{
    char digits[20];
    size_t len = 0;
    do
        digits[len++] = (char)('0' + number % 10);
    while (number /= 10);
    while (len)
        *at++ = digits[--len];
    return at;
}

static char *
put_fields(char *at, const rp_header *headers, size_t count, bool *has_date)
{
    for (size_t i = 0; i < count; i++) {
        const rp_header *h = &headers[i];
        if (is_ours(h->name) || !rp_http_is_token(h->name) || !rp_http_is_field_value(h->value))
            continue;
        *has_date |= h->name.len == 4 && rp_str_equal_ignoring_case(h->name, RP_STR("Date"));
        at = put(at, h->name);
        at = put(at, RP_STR(": "));
        if (h->value.len)
            at = put(at, h->value);
        at = put(at, RP_STR("\r\n"));
    }
    return at;
}

/* How the body will be framed; see rp_exchange_begin. */
static void
decide_reply(rp_exchange *exchange, int status, int64_t body_size)
{
    rp_http_connection *c = exchange->connection;
    const bool is_head = rp_str_equal(exchange->request.method, RP_STR("HEAD"));
    const bool bare = status == 204 || status == 304 || status < 200;
    exchange->reply_has_no_body = is_head || bare || body_size == RP_BODY_NONE;
    if (body_size == RP_BODY_CHUNKED && !exchange->reply_has_no_body) {
        exchange->reply_until_close = exchange->request.http_1_0;
        exchange->reply_chunked = !exchange->reply_until_close;
    }
    exchange->reply_left = body_size > 0 && !exchange->reply_has_no_body ? (uint64_t)body_size : 0;
    if (!exchange->keep_alive || exchange->reply_until_close || c->shard->draining)
        c->closing = true;
    if (!exchange->body_complete)
        c->closing = c->must_linger = true;
}

static char *
put_framing(char *at, const rp_exchange *exchange, int status, int64_t body_size)
{
    const bool bare = status == 204 || status < 200;
    if (exchange->reply_chunked) {
        at = put(at, RP_STR("Transfer-Encoding: chunked\r\n"));
    } else if (!bare && body_size != RP_BODY_CHUNKED &&
               !(body_size == RP_BODY_NONE && (status == 304 || exchange->reply_has_no_body))) {
        at = put(at, RP_STR("Content-Length: "));
        at = put_number(at, (uint64_t)body_size);
        at = put(at, RP_STR("\r\n"));
    }
    if (exchange->connection->closing)
        at = put(at, RP_STR("Connection: close\r\n"));
    else if (exchange->request.http_1_0)
        at = put(at, RP_STR("Connection: keep-alive\r\n"));
    return put(at, RP_STR("\r\n"));
}

void
rp_exchange_begin(rp_exchange *exchange, int status, const rp_header *headers, size_t count,
                  int64_t body_size)
{
    rp_http_connection *c = exchange->connection;
    assert(c && !exchange->begun && !exchange->raw);
    assert(rp_loop_is_current(exchange->shard->loop));
    if (status < 200 || status > 999)
        status = 502; /* a final status of three digits, whatever an upstream said */
    if (body_size < 0 && body_size != RP_BODY_CHUNKED)
        body_size = RP_BODY_NONE;
    if (body_size == RP_BODY_NONE && status != 204 && status != 304 &&
        !rp_str_equal(exchange->request.method, RP_STR("HEAD")))
        body_size = 0;
    exchange->begun = true;
    decide_reply(exchange, status, body_size);

    const char *reason = reason_phrase(status);
    const size_t reason_len = strlen(reason);
    size_t size = 256 + reason_len; /* status line, date, framing: at most 180 */
    for (size_t i = 0; i < count; i++)
        size += headers[i].name.len + headers[i].value.len + 4;
    char *start = find_room(c, size);
    if (start) {
        bool has_date = false;
        char *at = put(start, RP_STR("HTTP/1.1 "));
        at = put_number(at, (uint64_t)status);
        *at++ = ' ';
        at = put(at, (rp_str){ reason, reason_len });
        at = put(at, RP_STR("\r\n"));
        at = put_fields(at, headers, count, &has_date);
        if (!has_date)
            at = put(at, date_line(exchange->shard));
        at = put_framing(at, exchange, status, body_size);
        take_room(c, (size_t)(at - start));
    }
    rp_http_connection_mark(c);
}

/* ---- its body ------------------------------------------------------------------------ */

/* What may be sent of `bytes`: nothing to HEAD, not more than was announced. More would
 * be the next reply to the client; so the connection ends after this one. */
static rp_str
clip(rp_exchange *exchange, rp_str bytes)
{
    assert(exchange->begun);
    if (exchange->reply_has_no_body)
        return (rp_str){ bytes.ptr, 0 };
    if (exchange->reply_chunked || exchange->reply_until_close)
        return bytes;
    if (bytes.len > exchange->reply_left) {
        exchange->connection->closing = true;
        bytes.len = (size_t)exchange->reply_left;
    }
    exchange->reply_left -= bytes.len;
    return bytes;
}

static void
append_chunk_size(rp_http_connection *c, size_t size)
{
    char line[20];
    char *at = line + sizeof line;
    *--at = '\n';
    *--at = '\r';
    do
        *--at = "0123456789abcdef"[size & 15];
    while (size >>= 4);
    rp_http_output_append(c, (rp_str){ at, (size_t)(line + sizeof line - at) });
}

static bool
note_output(rp_exchange *exchange)
{
    rp_http_connection *c = exchange->connection;
    rp_http_connection_mark(c);
    if (c->output_size <= exchange->shard->server->options.output_high_bytes)
        return true;
    exchange->full = true;
    return false;
}

bool
rp_exchange_write(rp_exchange *exchange, rp_str bytes)
{
    rp_http_connection *c = exchange->connection;
    bytes = clip(exchange, bytes);
    if (bytes.len && exchange->reply_chunked) {
        append_chunk_size(c, bytes.len);
        rp_http_output_append(c, bytes);
        rp_http_output_append(c, RP_STR("\r\n"));
    } else {
        rp_http_output_append(c, bytes);
    }
    return note_output(exchange);
}

bool
rp_exchange_write_lent(rp_exchange *exchange, rp_str bytes, rp_loop_call *release,
                       void *release_context)
{
    rp_http_connection *c = exchange->connection;
    bytes = clip(exchange, bytes);
    if (!bytes.len) {
        if (release)
            release(release_context);
        return note_output(exchange);
    }
    exchange->lent = true;
    if (exchange->reply_chunked)
        append_chunk_size(c, bytes.len);
    append_lent(c, bytes, release, release_context);
    if (exchange->reply_chunked)
        rp_http_output_append(c, RP_STR("\r\n"));
    return note_output(exchange);
}

void
rp_exchange_write_raw(rp_exchange *exchange, rp_str bytes)
{
    rp_http_connection *c = exchange->connection;
    assert(!exchange->begun);
    exchange->raw = true;
    rp_http_output_append(c, bytes);
    rp_http_connection_mark(c);
}

void
rp_exchange_end(rp_exchange *exchange)
{
    rp_http_connection *c = exchange->connection;
    assert(c && exchange->begun);
    /* Less than was announced: the client must not wait for the rest. */
    if (exchange->reply_left) {
        rp_exchange_abort(exchange);
        return;
    }
    if (exchange->reply_chunked)
        rp_http_output_append(c, RP_STR("0\r\n\r\n"));
    rp_exchange_detach(exchange);
    rp_http_connection_mark(c);
}

void
rp_exchange_abort(rp_exchange *exchange)
{
    rp_http_connection *c = exchange->connection;
    assert(c);
    /* An end of file would look like the end of a body that only the close delimits,
     * and says nothing when nothing was sent. */
    c->reset |= exchange->reply_until_close || (!exchange->begun && !exchange->raw);
    c->doomed = true;
    rp_exchange_detach(exchange);
    rp_http_connection_mark(c);
}

void
rp_exchange_reply(rp_exchange *exchange, int status, const rp_header *headers, size_t count,
                  rp_str body)
{
    rp_exchange_begin(exchange, status, headers, count, (int64_t)body.len);
    if (body.len)
        rp_exchange_write(exchange, body);
    rp_exchange_end(exchange);
}

void
rp_http_refuse(rp_http_connection *c, rp_http_refusal refusal)
{
    char body[320], head[256];
    /* Reasons are our own sentences: nothing in them needs escaping. What is carried we do not
     * know here: clients of OpenAI read "error", those of Anthropic look at "type" first. */
    const int body_len =
        snprintf(body, sizeof body,
                 "{\"type\":\"error\",\"error\":{\"message\":\"%s\",\"type\":\"%s\","
                 "\"param\":null,\"code\":null}}",
                 refusal.reason, refusal.status >= 500 && refusal.status != 501 &&
                 refusal.status != 505 ? "server_error" : "invalid_request_error");
    const int head_len =
        snprintf(head, sizeof head,
                 "HTTP/1.1 %d %s\r\nContent-Type: application/json\r\n%sContent-Length: %d\r\n"
                 "Connection: close\r\n",
                 refusal.status, reason_phrase(refusal.status),
                 refusal.status == 503 ? "Retry-After: 1\r\n" : "", body_len);
    rp_http_output_append(c, (rp_str){ head, (size_t)head_len });
    rp_http_output_append(c, date_line(c->shard));
    rp_http_output_append(c, RP_STR("\r\n"));
    if (!c->is_head)
        rp_http_output_append(c, (rp_str){ body, (size_t)body_len });
    c->closing = c->must_linger = true;
    rp_http_connection_mark(c);
}
