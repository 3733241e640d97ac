/* mock_llm.c - `reprise mock-llm`: a deterministic stand-in for an LLM service.
 *
 * Speaks the OpenAI and Anthropic protocols, streams, waits as long and breaks as
 * badly as it is told. One loop thread serves; timers do all waiting, so thousands
 * of slow requests cost nothing. Test helpers: GET /mock/stats (counts), GET
 * /mock/last (what arrived last), POST /mock/reset. */
#include "tools/command.h"
#include "tools/mock_llm.h"

#include "base/bytes.h"
#include "base/clock.h"
#include "base/hash.h"
#include "base/random.h"
#include "net/http_server.h"

#include <getopt.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>

typedef struct mock_server {
    mock_options answers;
    rp_loop *loop;
    rp_http_server *http;
    rp_json_reader *json;
    rp_random random;
    int64_t delay_us;       /* before the first byte */
    double tokens_per_second; /* of streams; 0: at once */
    mock_fault fault;       /* given to a share of all requests */
    int fault_status;
    double fault_share;
    uint64_t sequence;
    uint64_t requests, streams, in_flight, in_flight_most;
    rp_buffer last; /* JSON about the last request */
} mock_server;

/* One request being answered. It lives in the exchange's arena, but for its timer. */
typedef struct job {
    mock_server *server;
    rp_exchange *exchange;
    rp_timer *timer;
    mock_reply reply;
    mock_fault fault;
    int fault_status;
    bool begun;
    size_t at;         /* next event, or next byte of `raw` */
    rp_str raw;        /* a head that is dripped */
} job;

/* ---- answering -------------------------------------------------------------- */

static const rp_header json_headers[] = {
    { { "Content-Type", 12 }, { "application/json", 16 } },
    { { "x-request-id", 12 }, { "req_mock", 8 } },
    { { "x-ratelimit-remaining-requests", 30 }, { "99", 2 } },
};
static const rp_header stream_headers[] = {
    { { "Content-Type", 12 }, { "text/event-stream; charset=utf-8", 32 } },
    { { "x-request-id", 12 }, { "req_mock", 8 } },
};

static void
reply_json(rp_exchange *exchange, int status, rp_str body)
{
    rp_exchange_reply(exchange, status, json_headers, RP_COUNT(json_headers), body);
}

static void
reply_error(rp_exchange *exchange, int status, const char *message)
{
    char body[256];
    const int len = snprintf(body, sizeof body,
                             "{\"error\":{\"message\":\"%s\",\"type\":\"%s\",\"param\":null,\"code\":%s}}",
                             message, status < 500 ? "invalid_request_error" : "server_error",
                             status == 429 ? "\"rate_limit_exceeded\"" : "null");
    const rp_header headers[] = { json_headers[0], json_headers[1],
                                  { RP_STR("Retry-After"), RP_STR("1") } };
    rp_exchange_reply(exchange, status, headers, status == 429 || status == 503 ? 3 : 2,
                      (rp_str){ body, (size_t)len });
}

static void
finish_job(job *j)
{
    j->server->in_flight--;
    rp_timer_free(j->timer);
    j->timer = NULL;
}

static void
end_job(job *j)
{
    rp_exchange *exchange = j->exchange;
    finish_job(j);
    rp_exchange_end(exchange);
}

static void
abort_job(job *j)
{
    rp_exchange *exchange = j->exchange;
    finish_job(j);
    rp_exchange_abort(exchange);
}

/* How many events a stream sends before its fault strikes. */
static size_t
events_before_fault(const job *j)
{
    switch (j->fault) {
    case MOCK_FAULT_RESET_MID:
    case MOCK_FAULT_STALL_MID:
    case MOCK_FAULT_ERROR_EVENT: return (j->reply.event_count + 1) / 2;
    case MOCK_FAULT_TRUNCATE: return j->reply.event_count - j->reply.terminal_count;
    default: return j->reply.event_count;
    }
}

static void
end_stream(job *j)
{
    switch (j->fault) {
    case MOCK_FAULT_STALL_MID: return; /* for ever */
    case MOCK_FAULT_RESET_MID: abort_job(j); return;
    case MOCK_FAULT_ERROR_EVENT:
        rp_exchange_write(j->exchange, RP_STR("data: {\"error\":{\"message\":\"mock failure\",\"type\":"
                                              "\"server_error\",\"param\":null,\"code\":null}}\n\n"));
        break;
    default: break;
    }
    end_job(j);
}

static void
send_events(job *j)
{
    const size_t end = events_before_fault(j);
    if (!j->begun) {
        j->begun = true;
        rp_exchange_begin(j->exchange, 200, stream_headers, RP_COUNT(stream_headers), RP_BODY_CHUNKED);
    }
    while (j->at < end) {
        rp_exchange_write(j->exchange, j->reply.events[j->at++]);
        if (j->server->tokens_per_second > 0 && j->at < end) {
            rp_timer_set(j->timer, (int64_t)(1e6 / j->server->tokens_per_second));
            return;
        }
    }
    end_stream(j);
}

/* The head one byte at a time, then the rest. */
static void
drip_head(job *j)
{
    rp_exchange_write_raw(j->exchange, (rp_str){ j->raw.ptr + j->at, 1 });
    if (++j->at < j->raw.len)
        rp_timer_set(j->timer, 50000);
    else
        abort_job(j);
}

static void
write_raw_and_close(job *j, const char *format, size_t claimed, rp_str body)
{
    rp_buffer out;
    rp_buffer_init(&out, 0);
    rp_buffer_printf(&out, format, claimed);
    rp_buffer_append(&out, body);
    rp_exchange_write_raw(j->exchange, rp_buffer_str(&out));
    rp_buffer_fini(&out);
    abort_job(j);
}

#define RAW_HEAD "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n\r\n"

static void
send_body(job *j)
{
    const rp_str body = j->reply.body;
    const rp_str half = { body.ptr, body.len / 2 };
    switch (j->fault) {
    case MOCK_FAULT_RESET_MID:
    case MOCK_FAULT_SHORT:
    case MOCK_FAULT_TRUNCATE: write_raw_and_close(j, RAW_HEAD, body.len, half); return;
    case MOCK_FAULT_LONG: write_raw_and_close(j, RAW_HEAD, half.len, body); return;
    case MOCK_FAULT_STALL_MID:
        rp_exchange_begin(j->exchange, 200, json_headers, RP_COUNT(json_headers), (int64_t)body.len);
        rp_exchange_write(j->exchange, half);
        return;
    case MOCK_FAULT_ERROR_EVENT: {
        rp_exchange *exchange = j->exchange;
        finish_job(j);
        reply_json(exchange, 200, RP_STR("{\"error\":{\"message\":\"mock failure\",\"type\":\"server_error\","
                                         "\"param\":null,\"code\":null}}"));
        return;
    }
    default: break;
    }
    rp_exchange *exchange = j->exchange;
    finish_job(j);
    reply_json(exchange, j->reply.status, body);
}

/* The delay is over (or the next token is due). */
static void
on_due(void *context)
{
    job *j = context;
    rp_exchange *exchange = j->exchange;
    if (j->begun) {
        send_events(j);
        return;
    }
    switch (j->fault) {
    case MOCK_FAULT_STATUS:
        finish_job(j);
        reply_error(exchange, j->fault_status, "mock failure");
        return;
    case MOCK_FAULT_RESET: abort_job(j); return;
    case MOCK_FAULT_STALL: return;
    case MOCK_FAULT_GARBAGE:
        rp_exchange_write_raw(exchange, RP_STR("\x16\x03\x01 this is no HTTP \x00\xff\r\n\r\n"));
        abort_job(j);
        return;
    case MOCK_FAULT_BAD_JSON:
        finish_job(j);
        reply_json(exchange, 200, RP_STR("{\"id\": \"chatcmpl-broken\", \"choices\": [{"));
        return;
    case MOCK_FAULT_SLOW_HEAD:
        if (j->raw.len == 0)
            j->raw = RP_STR("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nX-Slow: yes\r\n"
                            "Content-Length: 2\r\n\r\n{}");
        drip_head(j);
        return;
    default: break;
    }
    if (j->reply.stream)
        send_events(j);
    else
        send_body(j);
}

static void
start_job(mock_server *server, rp_exchange *exchange, const mock_reply *reply, mock_fault fault, int fault_status)
{
    job *j = rp_arena_calloc(rp_exchange_arena(exchange), 1, sizeof *j);
    if (!j || rp_timer_new(server->loop, on_due, j, &j->timer) != RP_OK) {
        reply_error(exchange, 503, "out of memory");
        return;
    }
    j->server = server;
    j->exchange = exchange;
    j->reply = *reply;
    j->fault = fault != MOCK_FAULT_NONE ? fault : reply->fault;
    j->fault_status = fault != MOCK_FAULT_NONE ? fault_status : reply->fault_status;
    rp_exchange_set_context(exchange, j);
    server->in_flight++;
    server->in_flight_most = RP_MAX(server->in_flight_most, server->in_flight);
    const int64_t delay_us = reply->delay_us >= 0 ? reply->delay_us : server->delay_us;
    if (delay_us > 0)
        rp_timer_set(j->timer, delay_us);
    else
        on_due(j);
}

/* ---- routing ---------------------------------------------------------------- */

/* What arrived last, so that tests can see what a proxy forwards. */
static void
remember(mock_server *server, const rp_http_request *request)
{
    rp_buffer_clear(&server->last);
    rp_json_writer w;
    rp_json_writer_init(&w, &server->last);
    rp_json_open(&w, '{');
    rp_json_key(&w, "method");
    rp_json_put_string(&w, request->method);
    rp_json_key(&w, "target");
    rp_json_put_string(&w, request->target);
    rp_json_key(&w, "headers");
    rp_json_open(&w, '[');
    for (size_t i = 0; i < request->header_count; i++) {
        rp_json_open(&w, '[');
        rp_json_put_string(&w, request->headers[i].name);
        rp_json_put_string(&w, request->headers[i].value);
        rp_json_close(&w, ']');
    }
    rp_json_close(&w, ']');
    rp_json_key(&w, "body_size");
    rp_json_put_uint(&w, request->body.len);
    uint8_t digest[32];
    char digits[65];
    rp_sha256_of(request->body, digest);
    rp_hex_encode(digest, sizeof digest, digits);
    rp_json_key(&w, "body_sha256");
    rp_json_put_cstring(&w, digits);
    rp_json_key(&w, "body");
    rp_json_put_string(&w, (rp_str){ request->body.ptr, RP_MIN(request->body.len, (size_t)65536) });
    rp_json_close(&w, '}');
}

static void
reply_stats(mock_server *server, rp_exchange *exchange)
{
    char body[200];
    const int len = snprintf(body, sizeof body,
                             "{\"requests\":%" PRIu64 ",\"streams\":%" PRIu64 ",\"in_flight\":%" PRIu64
                             ",\"in_flight_most\":%" PRIu64 "}",
                             server->requests, server->streams, server->in_flight, server->in_flight_most);
    reply_json(exchange, 200, (rp_str){ body, (size_t)len });
}

static bool
api_of_path(rp_str path, mock_api *api)
{
    static const struct {
        const char *path;
        mock_api api;
    } rows[] = {
        { "/v1/chat/completions", MOCK_CHAT },   { "/v1/completions", MOCK_COMPLETIONS },
        { "/v1/embeddings", MOCK_EMBEDDINGS },   { "/v1/responses", MOCK_RESPONSES },
        { "/v1/messages", MOCK_MESSAGES },
    };
    for (size_t i = 0; i < RP_COUNT(rows); i++)
        if (rp_str_equal(path, rp_str_of(rows[i].path))) {
            *api = rows[i].api;
            return true;
        }
    return false;
}

/* Keys that begin with "bad" are refused, as a service refuses a revoked one. */
static bool
is_refused_key(const rp_http_request *request)
{
    rp_str key = rp_http_header(request->headers, request->header_count, "authorization");
    if (rp_str_starts_with(key, RP_STR("Bearer ")))
        key = (rp_str){ key.ptr + 7, key.len - 7 };
    if (!key.ptr)
        key = rp_http_header(request->headers, request->header_count, "x-api-key");
    return rp_str_starts_with(key, RP_STR("bad"));
}

static void
answer_api(mock_server *server, rp_exchange *exchange, const rp_http_request *request, mock_api api)
{
    rp_arena *arena = rp_exchange_arena(exchange);
    const rp_json *body;
    mock_fault fault = MOCK_FAULT_NONE;
    int fault_status = 0;
    if (server->fault_share > 0 && rp_random_uniform(&server->random) < server->fault_share) {
        fault = server->fault;
        fault_status = server->fault_status;
    }
    const rp_str wanted = rp_http_header(request->headers, request->header_count, "x-mock-fault");
    if (wanted.ptr && !mock_fault_parse(wanted, &fault, &fault_status)) {
        reply_error(exchange, 400, "unknown X-Mock-Fault");
        return;
    }
    if (is_refused_key(request)) {
        reply_error(exchange, 401, "Incorrect API key provided");
        return;
    }
    if (!request->body_is_whole ||
        rp_json_parse(server->json, arena, request->body, &body, NULL) != RP_OK ||
        body->type != RP_JSON_OBJECT) {
        reply_error(exchange, 400, "We could not parse the JSON body of your request.");
        return;
    }
    mock_reply reply;
    if (mock_answer(&server->answers, api, body, ++server->sequence, fault, arena, &reply) != RP_OK) {
        reply_error(exchange, 503, "out of memory");
        return;
    }
    server->streams += reply.stream;
    start_job(server, exchange, &reply, fault, fault_status);
}

static void
on_request(void *context, rp_exchange *exchange, const rp_http_request *request)
{
    mock_server *server = context;
    mock_api api;
    if (rp_str_equal(request->path, RP_STR("/mock/stats"))) {
        reply_stats(server, exchange);
    } else if (rp_str_equal(request->path, RP_STR("/mock/last"))) {
        reply_json(exchange, 200, server->last.len ? rp_buffer_str(&server->last) : RP_STR("null"));
    } else if (rp_str_equal(request->path, RP_STR("/mock/reset"))) {
        server->requests = server->streams = server->in_flight_most = 0;
        rp_buffer_clear(&server->last);
        reply_json(exchange, 200, RP_STR("{}"));
    } else {
        server->requests++;
        remember(server, request);
        if (rp_str_equal(request->path, RP_STR("/v1/models")))
            reply_json(exchange, 200,
                       RP_STR("{\"object\":\"list\",\"data\":[{\"id\":\"mock-small\",\"object\":\"model\","
                              "\"created\":1700000000,\"owned_by\":\"mock\"},{\"id\":\"mock-large\",\"object\":"
                              "\"model\",\"created\":1700000000,\"owned_by\":\"mock\"}]}"));
        else if (rp_str_equal(request->method, RP_STR("POST")) && api_of_path(request->path, &api))
            answer_api(server, exchange, request, api);
        else
            reply_json(exchange, 200, rp_buffer_str(&server->last)); /* an echo */
    }
}

static void
on_gone(void *context, rp_exchange *exchange)
{
    (void)context;
    job *j = rp_exchange_context(exchange);
    if (j && j->timer)
        finish_job(j);
}

static void
on_body(void *context, rp_exchange *exchange, rp_str bytes, bool last)
{
    (void)context, (void)exchange, (void)bytes, (void)last; /* an echo shows only the first part */
}

static void
on_drained(void *context, rp_exchange *exchange)
{
    (void)context, (void)exchange; /* what is written is small and bounded */
}

/* ---- the command ------------------------------------------------------------ */

static rp_loop *stopping_loop; /* set before the handlers, read by them */

static void
stop_on_signal(int number)
{
    (void)number;
    rp_loop_stop(stopping_loop);
}

static void
print_help(void)
{
    puts("Usage: reprise mock-llm [options]\n\n"
         "A deterministic stand-in for an LLM service, for demonstrations, tests and load.\n"
         "Prints its address, then serves until it is stopped.\n\n"
         "  --listen ADDR:PORT   where (127.0.0.1:9100; port 0: any free one)\n"
         "  --script FILE        JSON lines with prompt, answer and optionally model, fault, delay_ms\n"
         "  --delay MS           wait before the first byte (0)\n"
         "  --token-rate N       tokens a second of a stream (0: at once)\n"
         "  --words N            words of an answer that no script gives (12)\n"
         "  --seed N             of made answers and of --fault (1)\n"
         "  --fault KIND[:SHARE] break that share of all requests (1)\n"
         "  --help\n\n"
         "Faults, also one at a time with the header X-Mock-Fault: status=CODE, reset, reset-mid,\n"
         "stall, stall-mid, truncate, short, long, garbage, bad-json, slow-head, empty,\n"
         "error-event, refusal, filter. A key that begins with \"bad\" gets 401.\n"
         "For tests: GET /mock/stats, GET /mock/last, POST /mock/reset.");
}

static bool
parse_fault_option(mock_server *server, const char *text)
{
    rp_str rest = rp_str_of(text);
    const rp_str kind = rp_str_split(&rest, ':');
    server->fault_share = 1;
    return mock_fault_parse(kind, &server->fault, &server->fault_status) &&
           (rest.len == 0 || (rp_str_to_double(rest, &server->fault_share) &&
                              server->fault_share >= 0 && server->fault_share <= 1));
}

typedef struct mock_arguments {
    const char *listen, *script;
} mock_arguments;

/* False: the exit status is in *exit_status. */
static bool
parse_arguments(int argc, char **argv, mock_server *server, mock_arguments *out, int *exit_status)
{
    static const struct option options[] = {
        { "listen", required_argument, NULL, 'l' },     { "script", required_argument, NULL, 's' },
        { "delay", required_argument, NULL, 'd' },      { "token-rate", required_argument, NULL, 'r' },
        { "words", required_argument, NULL, 'w' },      { "seed", required_argument, NULL, 'S' },
        { "fault", required_argument, NULL, 'f' },      { "help", no_argument, NULL, 'h' },
        { 0 },
    };
    double number = 0;
    int option;
    *exit_status = RP_EXIT_USAGE;
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        const rp_str text = rp_str_of(optarg);
        bool good = true;
        switch (option) {
        case 'l': out->listen = optarg; break;
        case 's': out->script = optarg; break;
        case 'd':
            good = rp_str_to_double(text, &number) && number >= 0 && number <= 1e6;
            server->delay_us = (int64_t)(number * 1000);
            break;
        case 'r':
            good = rp_str_to_double(text, &server->tokens_per_second) &&
                   server->tokens_per_second >= 0 && server->tokens_per_second <= 1e6;
            break;
        case 'w':
            good = rp_str_to_double(text, &number) && number >= 0 && number <= 1e6;
            server->answers.answer_words = (size_t)number;
            break;
        case 'S': good = rp_str_to_u64(text, &server->answers.seed); break;
        case 'f': good = parse_fault_option(server, optarg); break;
        case 'h': print_help(); *exit_status = RP_EXIT_DONE; return false;
        default: fputs("Try `reprise mock-llm --help`.\n", stderr); return false;
        }
        if (!good) {
            fprintf(stderr, "reprise mock-llm: '%s' is no value for that option; see --help\n", optarg);
            return false;
        }
    }
    if (optind < argc) {
        fprintf(stderr, "reprise mock-llm: unexpected argument '%s'\n", argv[optind]);
        return false;
    }
    return true;
}

static int
serve(mock_server *server, const char *listen)
{
    rp_error error = { { 0 } };
    const rp_http_handler handler = { on_request, on_body, on_gone, on_drained, server };
    const rp_http_server_options options = { .listen = listen };
    if (rp_loop_new(&server->loop) != RP_OK || rp_json_reader_new(&server->json) != RP_OK) {
        fputs("reprise mock-llm: no memory\n", stderr);
        return RP_EXIT_FAILED;
    }
    if (rp_http_server_new(&server->loop, 1, &options, &handler, &server->http, &error) != RP_OK) {
        fprintf(stderr, "reprise mock-llm: %s\n", error.text);
        return RP_EXIT_FAILED;
    }
    stopping_loop = server->loop;
    signal(SIGINT, stop_on_signal);
    signal(SIGTERM, stop_on_signal);
    signal(SIGPIPE, SIG_IGN);
    printf("http://%.*s\n", RP_FMT(rp_http_server_address(server->http)));
    fflush(stdout);
    rp_loop_run(server->loop);
    return RP_EXIT_DONE;
}

int
rp_command_mock_llm(int argc, char **argv)
{
    mock_server server = { .answers = { .seed = 1, .answer_words = 12 } };
    mock_arguments arguments = { .listen = "127.0.0.1:9100" };
    mock_script *script = NULL;
    rp_error error = { { 0 } };
    int exit_status;
    if (!parse_arguments(argc, argv, &server, &arguments, &exit_status))
        return exit_status;
    if (arguments.script && mock_script_load(arguments.script, &script, &error) != RP_OK) {
        fprintf(stderr, "reprise mock-llm: %s\n", error.text);
        return RP_EXIT_USAGE;
    }
    server.answers.script = script;
    rp_random_init(&server.random, server.answers.seed);
    rp_buffer_init(&server.last, 16 << 20);
    exit_status = serve(&server, arguments.listen);
    rp_http_server_free(server.http);
    rp_loop_free(server.loop);
    rp_json_reader_free(server.json);
    rp_buffer_fini(&server.last);
    mock_script_free(script);
    return exit_status;
}
