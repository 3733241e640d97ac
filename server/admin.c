/* admin.c - see admin.h. Short calls go through native.c; export and import stream, a
 * pool thread on one side and the loop on the other, with a bound between them. */
#include "server/admin.h"

#include "base/bytes.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/log.h"
#include "base/random.h"
#include "server/native.h"

#include <limits.h>
#include <openssl/crypto.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>

enum {
    TOKEN_BYTES = 24,          /* of a made token; 48 hex digits */
    TOKEN_SIZE = 256,          /* of any, with its zero */
    PIECE_SIZE = 64 << 10,     /* of an export, handed to the loop at one time */
    WAITING_MAX = 1 << 20,     /* bytes between the two sides of a stream */
    LINE_SIZE_MAX = 64 << 20,  /* of an import */
};

struct rp_admin {
    rp_server *server; /* borrowed */
    rp_loop *loop;     /* owned */
    rp_http_server *http;
    pthread_mutex_t token_lock; /* a leaf */
    uint8_t token_hash[32];     /* under token_lock */
    bool started;
};

/* ---- replies ---------------------------------------------------------------------- */

static const rp_header json_header = { { "Content-Type", 12 }, { "application/json", 16 } };

static void
reply_json(rp_exchange *exchange, int status, rp_str body)
{
    rp_exchange_reply(exchange, status, &json_header, 1, body);
}

static void
reply_error(rp_exchange *exchange, int status, const char *message)
{
    char body[400];
    const int len = snprintf(body, sizeof body, "{\"error\":{\"message\":\"%s\",\"type\":\"%s\"}}",
                             message, status < 500 ? "invalid_request_error" : "server_error");
    const rp_header headers[] = {
        json_header, status == 401 ? (rp_header){ RP_STR("WWW-Authenticate"), RP_STR("Bearer") }
                                   : (rp_header){ RP_STR("Allow"), RP_STR("GET, HEAD") }
    };
    rp_exchange_reply(exchange, status, headers, status == 401 || status == 405 ? 2 : 1,
                      (rp_str){ body, RP_MIN((size_t)len, sizeof body - 1) });
}

/* ---- who may ask ------------------------------------------------------------------- */

static rp_str
header_of(const rp_http_request *request, const char *name)
{
    return rp_http_header(request->headers, request->header_count, name);
}

static bool
is_get(const rp_http_request *request)
{
    return rp_str_equal(request->method, RP_STR("GET")) ||
           rp_str_equal(request->method, RP_STR("HEAD"));
}

/* "[::1]:8081" -> "[::1]", "localhost:8081" -> "localhost". */
static rp_str
without_port(rp_str host)
{
    if (host.ptr == NULL)
        return host;
    const char *colon = memrchr(host.ptr, ':', host.len);
    const char *bracket = memrchr(host.ptr, ']', host.len);
    if (colon && (!bracket || colon > bracket))
        host.len = (size_t)(colon - host.ptr);
    return host;
}

/* An address, or "localhost": what no attacker's page can be called. */
static bool
is_literal_host(rp_str host)
{
    if (rp_str_equal_ignoring_case(host, RP_STR("localhost")))
        return true;
    if (host.len && host.ptr[0] == '[')
        return true;
    bool has_digit = false;
    for (size_t i = 0; i < host.len; i++) {
        if (host.ptr[i] != '.' && (host.ptr[i] < '0' || host.ptr[i] > '9'))
            return false;
        has_digit |= host.ptr[i] != '.';
    }
    return has_digit;
}

/* A name is fine where it is the one that the listener was given. */
static bool
is_our_host(const rp_admin *admin, rp_str host)
{
    const rp_config *config = rp_server_config(admin->server);
    const rp_str own = without_port(rp_str_of(config->admin_listen));
    const bool ours = is_literal_host(host) || rp_str_equal_ignoring_case(host, own);
    rp_config_unref(config);
    return ours;
}

static bool
is_same_origin(rp_str origin, rp_str host)
{
    if (rp_str_starts_with(origin, RP_STR("http://")))
        origin = (rp_str){ origin.ptr + 7, origin.len - 7 };
    else if (rp_str_starts_with(origin, RP_STR("https://")))
        origin = (rp_str){ origin.ptr + 8, origin.len - 8 };
    return rp_str_equal_ignoring_case(origin, host);
}

static bool
has_token(rp_admin *admin, const rp_http_request *request)
{
    rp_str given = header_of(request, "authorization");
    if (given.len < 7 || !rp_str_equal_ignoring_case((rp_str){ given.ptr, 7 }, RP_STR("Bearer ")))
        return false;
    given = rp_str_trimmed((rp_str){ given.ptr + 7, given.len - 7 });
    /* Hashes are compared, so that the time says nothing about the length either. */
    uint8_t hash[32];
    rp_sha256_of(given, hash);
    pthread_mutex_lock(&admin->token_lock);
    const bool same = rp_equal_constant_time(hash, admin->token_hash, sizeof hash);
    pthread_mutex_unlock(&admin->token_lock);
    return same;
}

static void
set_token(rp_admin *admin, const char *token)
{
    uint8_t hash[32];
    rp_sha256_of(rp_str_of(token), hash);
    pthread_mutex_lock(&admin->token_lock);
    memcpy(admin->token_hash, hash, sizeof hash);
    pthread_mutex_unlock(&admin->token_lock);
}

/* ---- what is open to all ------------------------------------------------------------ */

static void
reply_metrics(rp_admin *admin, rp_exchange *exchange)
{
    const rp_header headers[] = {
        { RP_STR("Content-Type"), RP_STR("text/plain; version=0.0.4; charset=utf-8") },
    };
    rp_buffer out;
    rp_buffer_init(&out, 0);
    rp_server_write_metrics(admin->server, &out);
    if (rp_buffer_failed(&out))
        reply_error(exchange, 503, "no memory for the metrics");
    else
        rp_exchange_reply(exchange, 200, headers, 1, rp_buffer_str(&out));
    rp_buffer_fini(&out);
}

/* Ready: requests get all that is configured. A paused admission is an alarm, but the
 * server still answers: it is told in the body, and by the status. */
static void
reply_ready(rp_admin *admin, rp_exchange *exchange)
{
    rp_cache_stats stats;
    rp_cache_stats_get(rp_server_cache(admin->server), &stats);
    const bool draining = rp_server_is_draining(admin->server);
    const bool ready = stats.ready && !draining && !stats.admission_paused;
    char body[256];
    const int len = snprintf(body, sizeof body,
                             "{\"ready\":%s,\"index_loaded\":%s,\"loaded_share\":%.4f,\"semantic\":%s,"
                             "\"lists_ready\":%s,\"admission_paused\":%s,\"draining\":%s}",
                             ready ? "true" : "false", stats.ready ? "true" : "false",
                             stats.loaded_share, stats.semantic ? "true" : "false",
                             stats.lists_ready ? "true" : "false",
                             stats.admission_paused ? "true" : "false", draining ? "true" : "false");
    reply_json(exchange, ready ? 200 : 503, (rp_str){ body, (size_t)len });
}

/* ---- streams -------------------------------------------------------------------------- */

typedef enum stream_kind { STREAM_CALL, STREAM_EXPORT, STREAM_IMPORT } stream_kind;

/* Of a query. */
typedef struct parameter {
    const char *name;
    char text[RP_TAG_SIZE_MAX + 1]; /* empty: not given */
} parameter;

/* One call under way. Referred to by the exchange and by the pool or a post. */
typedef struct stream {
    stream_kind kind;
    atomic_int refs;
    rp_admin *admin;
    rp_exchange *exchange; /* loop only; NULL: the client is gone */

    pthread_mutex_t lock; /* the rest; a leaf */
    pthread_cond_t changed;
    size_t waiting;       /* bytes handed to the loop that have not left */
    bool is_gone;

    rp_cache_export_options export;
    rp_buffer piece;      /* pool only: an export under construction */
    parameter parameters[6]; /* what the selector borrows */

    rp_buffer arrived;    /* an import: bytes that nobody has taken */
    rp_buffer begun;      /* pool only, until is_finished: a line whose end has not come */
    bool is_running, has_last, is_finished, trust_vectors;
    bool is_paused;       /* loop only */
    uint64_t line, imported, skipped, refused;
    rp_error first_error;
    uint64_t first_error_line;
} stream;

static void
unref_stream(stream *s)
{
    if (atomic_fetch_sub_explicit(&s->refs, 1, memory_order_acq_rel) != 1)
        return;
    rp_buffer_fini(&s->piece);
    rp_buffer_fini(&s->arrived);
    rp_buffer_fini(&s->begun);
    pthread_cond_destroy(&s->changed);
    pthread_mutex_destroy(&s->lock);
    free(s);
}

static stream *
ref_stream(stream *s)
{
    atomic_fetch_add_explicit(&s->refs, 1, memory_order_relaxed);
    return s;
}

static stream *
make_stream(rp_admin *admin, rp_exchange *exchange, stream_kind kind)
{
    stream *s = calloc(1, sizeof *s);
    if (!s)
        return NULL;
    s->kind = kind;
    atomic_init(&s->refs, 1);
    s->admin = admin;
    s->exchange = exchange;
    pthread_mutex_init(&s->lock, NULL);
    pthread_cond_init(&s->changed, NULL);
    rp_buffer_init(&s->piece, 0);
    rp_buffer_init(&s->arrived, WAITING_MAX + LINE_SIZE_MAX);
    rp_buffer_init(&s->begun, LINE_SIZE_MAX);
    rp_exchange_set_context(exchange, s);
    return s;
}

/* The exchange's reference goes. */
static void
leave_exchange(stream *s)
{
    rp_exchange_set_context(s->exchange, NULL);
    s->exchange = NULL;
    unref_stream(s);
}

/* ---- export: pool -> loop -> client ------------------------------------------------- */

typedef struct export_piece {
    stream *stream; /* a reference */
    char *bytes;    /* owned; NULL: the end */
    size_t len;
    bool failed;
} export_piece;

static void
send_piece(void *context)
{
    export_piece *p = context;
    stream *s = p->stream;
    rp_exchange *exchange = s->exchange;
    if (exchange && p->bytes) {
        if (rp_exchange_write(exchange, (rp_str){ p->bytes, p->len })) {
            pthread_mutex_lock(&s->lock);
            s->waiting -= RP_MIN(s->waiting, p->len);
            pthread_cond_signal(&s->changed);
            pthread_mutex_unlock(&s->lock);
        } /* else on_drained lets the pool go on */
    } else if (exchange) {
        leave_exchange(s);
        if (p->failed)
            rp_exchange_abort(exchange); /* the client must notice that it is not whole */
        else
            rp_exchange_end(exchange);
    }
    free(p->bytes);
    unref_stream(s);
    free(p);
}

static bool
post_piece(stream *s, char *bytes, size_t len, bool failed)
{
    export_piece *p = malloc(sizeof *p);
    if (!p) {
        free(bytes);
        return false;
    }
    *p = (export_piece){ ref_stream(s), bytes, len, failed };
    if (rp_loop_post(s->admin->loop, send_piece, p) == RP_OK)
        return true;
    free(bytes);
    free(p);
    unref_stream(s);
    return false;
}

/* Pool thread. False: nobody is there any more. */
static bool
flush_piece(stream *s)
{
    size_t len;
    char *bytes = rp_buffer_take(&s->piece, &len);
    if (len == 0) {
        free(bytes);
        return true;
    }
    pthread_mutex_lock(&s->lock);
    s->waiting += len;
    while (s->waiting > WAITING_MAX && !s->is_gone)
        pthread_cond_wait(&s->changed, &s->lock);
    const bool gone = s->is_gone;
    pthread_mutex_unlock(&s->lock);
    if (gone) {
        free(bytes);
        return false;
    }
    return post_piece(s, bytes, len, false);
}

static bool
write_export(void *context, rp_str bytes)
{
    stream *s = context;
    rp_buffer_append(&s->piece, bytes);
    if (rp_buffer_failed(&s->piece))
        return false;
    return s->piece.len < PIECE_SIZE || flush_piece(s);
}

static void
run_export(void *context)
{
    stream *s = context;
    rp_error error = { { 0 } };
    size_t exported = 0;
    rp_status status = rp_cache_export(rp_server_cache(s->admin->server), &s->export, write_export, s,
                                       &exported, &error);
    if (status == RP_OK && !flush_piece(s))
        status = RP_ERR_CLOSED;
    if (status != RP_OK && status != RP_ERR_CLOSED)
        rp_log(RP_LOG_WARNING, "an export ended early: %s", error.text);
    (void)!post_piece(s, NULL, 0, status != RP_OK);
    unref_stream(s);
}

/* Percent-decode `value` into out, with its zero. False: too long or broken, or a zero byte. */
static bool
decode_query(rp_str value, char *out, size_t size)
{
    size_t len = 0;
    for (size_t i = 0; i < value.len; i++, len++) {
        if (len + 1 >= size)
            return false;
        out[len] = value.ptr[i] == '+' ? ' ' : value.ptr[i];
        if (value.ptr[i] == '%') {
            if (value.len - i < 3 || !rp_hex_decode((rp_str){ value.ptr + i + 1, 2 }, &out[len], 1))
                return false;
            i += 2;
        }
        if (out[len] == '\0')
            return false;
    }
    out[len] = '\0';
    return true;
}

/* The query's parameters into `list`, which ends with a NULL name. As with the members of a
 * body, what is not known, says nothing or comes twice is refused: an export whose "tenant"
 * was misspelt would be one of all tenants. False: `problem` says why. */
static bool
read_query(rp_str query, parameter *list, const char **problem)
{
    while (query.len) {
        rp_str value = rp_str_split(&query, '&');
        const rp_str key = rp_str_split(&value, '=');
        parameter *p = list;
        while (p->name && !rp_str_equal(rp_str_of(p->name), key))
            p++;
        *problem = NULL;
        if (!p->name)
            *problem = "the query has a parameter that this call does not know";
        else if (p->text[0])
            *problem = "the query has the same parameter twice";
        else if (!decode_query(value, p->text, sizeof p->text) || !p->text[0])
            *problem = "a query parameter is empty, too long or badly encoded";
        if (*problem)
            return false;
    }
    return true;
}

/* "true" or "false" (or nothing); false: something else. */
static bool
read_query_flag(const parameter *p, bool *out, const char **problem)
{
    *out = strcmp(p->text, "true") == 0;
    if (*out || !p->text[0] || strcmp(p->text, "false") == 0)
        return true;
    *problem = "a query parameter must be true or false";
    return false;
}

static void
start_export(rp_admin *admin, rp_exchange *exchange, const rp_http_request *request)
{
    const char *problem;
    stream *s = make_stream(admin, exchange, STREAM_EXPORT);
    if (!s) {
        reply_error(exchange, 503, "no memory");
        return;
    }
    parameter *given = s->parameters;
    static const char *const names[] = { "tenant", "namespace", "model", "tag", "vectors" };
    for (size_t i = 0; i < RP_COUNT(names); i++)
        given[i].name = names[i];
    if (!read_query(request->query, given, &problem) ||
        !read_query_flag(&given[4], &s->export.vectors, &problem)) {
        leave_exchange(s);
        reply_error(exchange, 400, problem);
        return;
    }
    s->export.selector = (rp_cache_selector){ .tenant = rp_str_of(given[0].text),
                                              .namespace_name = rp_str_of(given[1].text),
                                              .model = rp_str_of(given[2].text),
                                              .tag = rp_str_of(given[3].text) };
    if (rp_server_run_blocking(admin->server, run_export, ref_stream(s)) != RP_OK) {
        unref_stream(s);
        leave_exchange(s);
        reply_error(exchange, 503, "too many calls at this moment");
        return;
    }
    const rp_header headers[] = { { RP_STR("Content-Type"), RP_STR("application/x-ndjson") } };
    rp_exchange_begin(exchange, 200, headers, 1, RP_BODY_CHUNKED);
}

/* ---- import: client -> loop -> pool --------------------------------------------------- */

static void
import_line(stream *s, rp_str line)
{
    rp_error error = { { 0 } };
    const rp_cache_import_options options = { s->trust_vectors };
    s->line++;
    line = rp_str_trimmed(line);
    if (line.len == 0)
        return;
    const rp_status status = rp_cache_import_line(rp_server_cache(s->admin->server), line, &options, &error);
    if (status == RP_OK) {
        s->imported++;
    } else if (status == RP_ERR_STALE) {
        s->skipped++;
    } else if (s->refused++ == 0) {
        s->first_error = error;
        s->first_error_line = s->line;
    }
}

static void
reply_import(stream *s)
{
    rp_exchange *exchange = s->exchange;
    rp_buffer out;
    rp_json_writer w;
    rp_buffer_init(&out, 0);
    rp_json_writer_init(&w, &out);
    rp_json_open(&w, '{');
    rp_json_key(&w, "imported");
    rp_json_put_uint(&w, s->imported);
    rp_json_key(&w, "expired");
    rp_json_put_uint(&w, s->skipped);
    rp_json_key(&w, "refused");
    rp_json_put_uint(&w, s->refused);
    rp_json_key(&w, "first_error");
    if (s->refused)
        rp_json_put_string(&w, rp_arena_printf(rp_exchange_arena(exchange), "line %llu: %s",
                                               (unsigned long long)s->first_error_line,
                                               s->first_error.text));
    else
        rp_json_put_null(&w);
    rp_json_close(&w, '}');
    leave_exchange(s);
    reply_json(exchange, 200, rp_buffer_str(&out));
    rp_buffer_fini(&out);
}

static void
fail_import(stream *s, int status, const char *message)
{
    rp_exchange *exchange = s->exchange;
    leave_exchange(s);
    reply_error(exchange, status, message);
}

/* On the loop, after a round of the pool: go on reading, or answer. */
static void
on_imported(void *context)
{
    stream *s = context;
    pthread_mutex_lock(&s->lock);
    const bool finished = s->is_finished;
    const bool has_room = s->arrived.len < WAITING_MAX;
    pthread_mutex_unlock(&s->lock);
    if (s->exchange && finished) {
        if (rp_buffer_failed(&s->begun)) /* the pool has done with it */
            fail_import(s, 413, "a line is longer than 64 MiB");
        else
            reply_import(s);
    } else if (s->exchange && s->is_paused && has_room) {
        s->is_paused = false;
        rp_exchange_pause_body(s->exchange, false);
    }
    unref_stream(s);
}

/* Pool thread. The lines of `bytes`; what begins in them and does not end is kept. */
static void
take_lines(stream *s, rp_str bytes)
{
    const char *end;
    while (bytes.len && (end = memchr(bytes.ptr, '\n', bytes.len)) != NULL) {
        const rp_str line = { bytes.ptr, (size_t)(end - bytes.ptr) };
        bytes = (rp_str){ end + 1, bytes.len - line.len - 1 };
        if (s->begun.len == 0) {
            import_line(s, line);
            continue;
        }
        rp_buffer_append(&s->begun, line);
        if (rp_buffer_failed(&s->begun))
            return;
        import_line(s, rp_buffer_str(&s->begun));
        rp_buffer_clear(&s->begun);
    }
    rp_buffer_append(&s->begun, bytes);
}

/* Pool thread, one at a time for a stream: take what has arrived as long as there is any. A
 * line that has only begun leaves `arrived` too, or the loop would wait for room there and we
 * for the line's end. */
static void
run_import(void *context)
{
    stream *s = context;
    rp_buffer taken;
    for (bool more = true; more;) {
        pthread_mutex_lock(&s->lock);
        taken = s->arrived;
        const bool last = s->has_last;
        rp_buffer_init(&s->arrived, WAITING_MAX + LINE_SIZE_MAX);
        pthread_mutex_unlock(&s->lock);
        take_lines(s, rp_buffer_str(&taken));
        rp_buffer_fini(&taken);
        const bool too_long = rp_buffer_failed(&s->begun);
        if (last && !too_long)
            import_line(s, rp_buffer_str(&s->begun));
        pthread_mutex_lock(&s->lock);
        more = !last && !too_long && !s->is_gone && (s->arrived.len > 0 || s->has_last);
        s->is_running = more;
        s->is_finished = last || too_long;
        pthread_mutex_unlock(&s->lock);
    }
    if (rp_loop_post(s->admin->loop, on_imported, s) != RP_OK)
        unref_stream(s);
}

/* On the loop: more bytes. */
static void
feed_import(stream *s, rp_str bytes, bool last)
{
    pthread_mutex_lock(&s->lock);
    rp_buffer_append(&s->arrived, bytes);
    s->has_last |= last;
    const bool failed = rp_buffer_failed(&s->arrived);
    const bool starts = !s->is_running && !s->is_finished && !failed;
    s->is_running |= starts;
    const bool full = s->arrived.len >= WAITING_MAX;
    pthread_mutex_unlock(&s->lock);
    if (failed) {
        fail_import(s, 503, "no memory for what arrived");
        return;
    }
    if (starts && rp_server_run_blocking(s->admin->server, run_import, ref_stream(s)) != RP_OK) {
        unref_stream(s);
        fail_import(s, 503, "too many calls at this moment");
        return;
    }
    if (full && !last && !s->is_paused) {
        s->is_paused = true;
        rp_exchange_pause_body(s->exchange, true);
    }
}

static void
start_import(rp_admin *admin, rp_exchange *exchange, const rp_http_request *request)
{
    const char *problem;
    parameter given[] = { { .name = "trust_vectors" }, { .name = NULL } };
    bool trust_vectors;
    if (!read_query(request->query, given, &problem) ||
        !read_query_flag(&given[0], &trust_vectors, &problem)) {
        reply_error(exchange, 400, problem);
        return;
    }
    stream *s = make_stream(admin, exchange, STREAM_IMPORT);
    if (!s) {
        reply_error(exchange, 503, "no memory");
        return;
    }
    s->trust_vectors = trust_vectors;
    feed_import(s, request->body, request->body_is_whole);
}

/* ---- short calls ------------------------------------------------------------------------ */

static void
on_called(void *context, const rp_native_call *call)
{
    stream *s = context;
    rp_exchange *exchange = s->exchange;
    if (exchange) {
        leave_exchange(s);
        const rp_header headers[] = { json_header, { RP_STR("Allow"), rp_str_of(call->allow) } };
        rp_exchange_reply(exchange, call->status, headers, call->allow ? 2 : 1,
                          rp_buffer_str(&call->reply));
    }
    unref_stream(s);
}

static void
start_call(rp_admin *admin, rp_exchange *exchange, const rp_http_request *request, rp_str name)
{
    if (!request->body_is_whole) {
        reply_error(exchange, 413, "the body is too large");
        return;
    }
    rp_client_headers headers;
    rp_client_headers_read(request, rp_exchange_arena(exchange), &headers);
    if (headers.problem) {
        reply_error(exchange, 400, headers.problem);
        return;
    }
    stream *s = make_stream(admin, exchange, STREAM_CALL);
    if (!s) {
        reply_error(exchange, 503, "no memory");
        return;
    }
    pthread_mutex_lock(&admin->server->lock);
    rp_site *site = rp_site_ref(admin->server->site);
    pthread_mutex_unlock(&admin->server->lock);
    const rp_native_call call = {
        .server = admin->server,
        .site = site,
        .is_admin = true,
        .headers = &headers,
        .name = name,
        .is_post = rp_str_equal(request->method, RP_STR("POST")),
        .is_get = is_get(request),
        .body = request->body,
    };
    const rp_status status = rp_native_start(&call, admin->loop, on_called, ref_stream(s));
    rp_site_unref(site);
    if (status != RP_OK) {
        unref_stream(s);
        leave_exchange(s);
        reply_error(exchange, 503, "too many calls at this moment");
    }
}

/* ---- the listener ----------------------------------------------------------------------- */

static void
dispatch_call(rp_admin *admin, rp_exchange *exchange, const rp_http_request *request)
{
    const size_t prefix = strlen("/v1/reprise/");
    const rp_str name = { request->path.ptr + prefix, request->path.len - prefix };
    const bool is_post = rp_str_equal(request->method, RP_STR("POST"));
    if (rp_str_equal(name, RP_STR("export")) && is_get(request))
        start_export(admin, exchange, request);
    else if (rp_str_equal(name, RP_STR("import")) && is_post)
        start_import(admin, exchange, request);
    else
        start_call(admin, exchange, request, name);
}

static void
on_request(void *context, rp_exchange *exchange, const rp_http_request *request)
{
    rp_admin *admin = context;
    const rp_str host = header_of(request, "host"), origin = header_of(request, "origin");
    if (!is_our_host(admin, without_port(host)) || (origin.len && !is_same_origin(origin, host))) {
        reply_error(exchange, 403, "this host or origin is not one of the admin listener's");
        return;
    }
    const bool is_call = rp_str_starts_with(request->path, RP_STR("/v1/reprise/"));
    if (!is_call && !is_get(request))
        reply_error(exchange, 405, "this is a GET");
    else if (rp_str_equal(request->path, RP_STR("/healthz")))
        reply_json(exchange, 200, RP_STR("{\"status\":\"ok\"}"));
    else if (rp_str_equal(request->path, RP_STR("/readyz")))
        reply_ready(admin, exchange);
    else if (rp_str_equal(request->path, RP_STR("/metrics")))
        reply_metrics(admin, exchange);
    else if (!is_call)
        reply_error(exchange, 404, "there is nothing here");
    else if (!has_token(admin, request))
        reply_error(exchange, 401, "this call needs the admin token: Authorization: Bearer TOKEN");
    else
        dispatch_call(admin, exchange, request);
}

static void
on_body(void *context, rp_exchange *exchange, rp_str bytes, bool last)
{
    (void)context;
    stream *s = rp_exchange_context(exchange);
    if (s && s->kind == STREAM_IMPORT)
        feed_import(s, bytes, last);
}

static void
on_gone(void *context, rp_exchange *exchange)
{
    (void)context;
    stream *s = rp_exchange_context(exchange);
    if (!s)
        return;
    pthread_mutex_lock(&s->lock);
    s->is_gone = true;
    pthread_cond_signal(&s->changed);
    pthread_mutex_unlock(&s->lock);
    leave_exchange(s);
}

static void
on_drained(void *context, rp_exchange *exchange)
{
    (void)context;
    stream *s = rp_exchange_context(exchange);
    if (!s)
        return;
    pthread_mutex_lock(&s->lock);
    s->waiting = 0;
    pthread_cond_signal(&s->changed);
    pthread_mutex_unlock(&s->lock);
}

static bool
is_loopback(const char *listen)
{
    const rp_str host = without_port(rp_str_of(listen));
    return rp_str_starts_with(host, RP_STR("127.")) || rp_str_equal(host, RP_STR("[::1]")) ||
           rp_str_equal(host, RP_STR("localhost"));
}

/* A token that outlives restarts, so that scripts may keep it. */
static rp_status
read_or_make_token(const char *folder, char token[TOKEN_SIZE], rp_error *error)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/admin.token", folder);
    rp_buffer bytes;
    rp_buffer_init(&bytes, 0);
    rp_status status = rp_file_read(path, TOKEN_SIZE - 1, &bytes, error);
    const rp_str kept = rp_str_trimmed(rp_buffer_str(&bytes));
    if (status == RP_OK && kept.len >= 16) {
        memcpy(token, kept.ptr, kept.len);
        token[kept.len] = '\0';
    } else if (status == RP_OK || status == RP_ERR_NOT_FOUND) {
        uint8_t secret[TOKEN_BYTES];
        status = rp_random_secret(secret, sizeof secret);
        rp_hex_encode(secret, sizeof secret, token);
        if (status == RP_OK)
            status = rp_file_replace(path, rp_str_of(token), 0600, error);
    }
    rp_buffer_fini(&bytes);
    return status;
}

static rp_status
find_token(const rp_config *config, char token[TOKEN_SIZE], rp_error *error)
{
    if (config->admin_token) {
        if (strlen(config->admin_token) >= TOKEN_SIZE)
            return rp_fail(error, RP_ERR_LIMIT, "the admin token is longer than %d bytes",
                           TOKEN_SIZE - 1);
        strcpy(token, config->admin_token);
        return RP_OK;
    }
    if (!is_loopback(config->admin_listen))
        return rp_fail(error, RP_ERR_INVALID,
                       "admin.listen is %s, which others can reach: set admin.token", config->admin_listen);
    return read_or_make_token(config->data, token, error);
}

rp_status
rp_admin_start(rp_server *server, rp_admin **out, rp_error *error)
{
    rp_admin *admin = calloc(1, sizeof *admin);
    if (!admin)
        return rp_fail(error, RP_ERR_NOMEM, "no memory for the admin listener");
    admin->server = server;
    pthread_mutex_init(&admin->token_lock, NULL);
    const rp_config *config = rp_server_config(server);
    const rp_http_server_options options = {
        .listen = config->admin_listen,
        .tls_certificate = config->admin_tls_certificate,
        .tls_key = config->admin_tls_key,
        .body_size_max = (uint64_t)1 << 40, /* imports are streamed */
        .body_timeout_us = 24 * 3600 * 1000000ll,
        .connections_max = 256,
    };
    const rp_http_handler handler = { on_request, on_body, on_gone, on_drained, admin };
    char token[TOKEN_SIZE] = "";
    rp_status status = find_token(config, token, error);
    set_token(admin, token);
    OPENSSL_cleanse(token, sizeof token);
    if (status == RP_OK)
        status = rp_loop_new(&admin->loop);
    if (status == RP_OK)
        status = rp_http_server_new(&admin->loop, 1, &options, &handler, &admin->http, error);
    if (status == RP_OK)
        status = rp_loop_start(admin->loop, "rp-admin");
    admin->started = status == RP_OK;
    rp_config_unref(config);
    if (status == RP_OK)
        *out = admin;
    else
        rp_admin_free(admin);
    return status;
}

rp_str
rp_admin_address(const rp_admin *admin)
{
    return rp_http_server_address(admin->http);
}

rp_status
rp_admin_reload(rp_admin *admin, rp_error *error)
{
    char token[TOKEN_SIZE] = "";
    const rp_config *config = rp_server_config(admin->server);
    rp_status status = find_token(config, token, error);
    if (status == RP_OK)
        status = rp_http_server_change(admin->http, config->admin_listen,
                                       config->admin_tls_certificate, config->admin_tls_key, error);
    rp_config_unref(config);
    if (status == RP_OK)
        set_token(admin, token);
    OPENSSL_cleanse(token, sizeof token);
    return status;
}

void
rp_admin_stop(rp_admin *admin)
{
    if (!admin)
        return;
    if (admin->started) {
        rp_loop_stop(admin->loop);
        rp_loop_join(admin->loop);
        admin->started = false;
    }
    rp_http_server_free(admin->http); /* on_gone tells every stream, so that the pool ends */
    admin->http = NULL;
}

void
rp_admin_free(rp_admin *admin)
{
    if (!admin)
        return;
    rp_admin_stop(admin);
    rp_loop_free(admin->loop);
    pthread_mutex_destroy(&admin->token_lock);
    free(admin);
}
