/* bench_net.c - what HTTP costs by itself: a handler that answers at once, streams, or
 * forwards to an upstream.
 *
 *     bench_net PORT BODY_BYTES LOOPS [UPSTREAM]   then: wrk -t1 -c64 -d5 http://127.0.0.1:PORT/
 *
 * /        BODY_BYTES at once; with UPSTREAM (http://127.0.0.1:9999) whatever it answers
 * /events  500 server-sent events, one each millisecond
 * /idle    nothing, for ever
 *
 * On SIGUSR1 it prints requests, events written or forwarded, CPU time of the process per
 * request and event, and resident bytes per connection since the signal before; Ctrl-C
 * ends it. bench/net.sh compares it with nginx. */
#include "base/bytes.h"
#include "base/clock.h"
#include "net/http_client.h"
#include "net/http_server.h"

#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

enum { LOOPS_MAX = 16 };

typedef struct bench {
    rp_str body;
    const char *upstream; /* NULL: none */
    atomic_ullong requests, events;
} bench;

static _Thread_local rp_http_client *client; /* of the thread's loop */

typedef struct visit {
    rp_exchange *exchange;
    rp_fetch *fetch;
    rp_timer *timer;
    bench *bench;
    int events_left;
} visit;

/* ---- /events ------------------------------------------------------------------------ */

static void
send_event(void *context)
{
    visit *v = context;
    rp_exchange_write(v->exchange, RP_STR("data: {\"id\":\"chatcmpl-1\",\"object\":\"chat.completion."
                                          "chunk\",\"choices\":[{\"index\":0,\"delta\":{\"content\":"
                                          "\" token\"},\"finish_reason\":null}]}\n\n"));
    atomic_fetch_add_explicit(&v->bench->events, 1, memory_order_relaxed);
    if (--v->events_left > 0) {
        rp_timer_set(v->timer, 1000);
        return;
    }
    rp_timer_free(v->timer);
    v->timer = NULL;
    rp_exchange_end(v->exchange);
}

/* ---- forwarding ------------------------------------------------------------------------ */

static void
on_head(void *context, int status, const rp_header *headers, size_t count)
{
    visit *v = context;
    const rp_str length = rp_http_header(headers, count, "content-length");
    uint64_t size;
    rp_exchange_begin(v->exchange, status, headers, count,
                      rp_str_to_u64(length, &size) ? (int64_t)size : RP_BODY_CHUNKED);
}

static bool
on_data(void *context, rp_str bytes)
{
    visit *v = context;
    atomic_fetch_add_explicit(&v->bench->events, 1, memory_order_relaxed);
    return rp_exchange_write(v->exchange, bytes);
}

static void
on_done(void *context, rp_fetch_result result, const char *detail)
{
    visit *v = context;
    (void)detail;
    v->fetch = NULL;
    if (result == RP_FETCH_OK)
        rp_exchange_end(v->exchange);
    else
        rp_exchange_abort(v->exchange);
}

static void
forward(visit *v, const rp_http_request *request)
{
    static const rp_fetch_handler handler = { on_head, on_data, on_done, NULL };
    const rp_http_client_options options = { 0 };
    rp_error error;
    if (!client && rp_http_client_new(rp_exchange_loop(v->exchange), &options, &client, &error) != RP_OK) {
        rp_exchange_abort(v->exchange);
        return;
    }
    const rp_fetch_request fetch = {
        .method = request->method,
        .url = rp_arena_printf(rp_exchange_arena(v->exchange), "%s%.*s", v->bench->upstream,
                               RP_FMT(request->target)),
        .headers = request->headers, .header_count = request->header_count,
        .body = request->body, .body_is_whole = true,
    };
    if (rp_fetch_start(client, &fetch, &handler, v, &v->fetch, &error) != RP_OK)
        rp_exchange_abort(v->exchange);
}

static void
on_request(void *context, rp_exchange *exchange, const rp_http_request *request)
{
    bench *b = context;
    static const rp_header headers[] = {
        { { "Content-Type", 12 }, { "application/json", 16 } },
        { { "X-Reprise-Cache", 15 }, { "hit", 3 } },
    };
    static const rp_header stream_headers[] = {
        { { "Content-Type", 12 }, { "text/event-stream", 17 } },
    };
    atomic_fetch_add_explicit(&b->requests, 1, memory_order_relaxed);
    visit *v = rp_arena_calloc(rp_exchange_arena(exchange), 1, sizeof *v);
    v->exchange = exchange;
    v->bench = b;
    rp_exchange_set_context(exchange, v);
    if (rp_str_equal(request->path, RP_STR("/idle")))
        return;
    if (b->upstream) {
        forward(v, request);
        return;
    }
    if (rp_str_equal(request->path, RP_STR("/events")) &&
        rp_timer_new(rp_exchange_loop(exchange), send_event, v, &v->timer) == RP_OK) {
        v->events_left = 500;
        rp_exchange_begin(exchange, 200, stream_headers, 1, RP_BODY_CHUNKED);
        send_event(v);
        return;
    }
    rp_exchange_begin(exchange, 200, headers, RP_COUNT(headers), (int64_t)b->body.len);
    rp_exchange_write_lent(exchange, b->body, NULL, NULL);
    rp_exchange_end(exchange);
}

static void
on_gone(void *context, rp_exchange *exchange)
{
    (void)context;
    visit *v = rp_exchange_context(exchange);
    rp_timer_free(v->timer);
    if (v->fetch)
        rp_fetch_cancel(v->fetch);
}

static void
on_drained(void *context, rp_exchange *exchange)
{
    (void)context;
    visit *v = rp_exchange_context(exchange);
    if (v->fetch)
        rp_fetch_resume(v->fetch);
}

static size_t
resident_bytes(void)
{
    long pages = 0, ignored = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    if (file && fscanf(file, "%ld %ld", &ignored, &pages) != 2)
        pages = 0;
    if (file)
        fclose(file);
    return (size_t)pages * (size_t)sysconf(_SC_PAGESIZE);
}

int
main(int argc, char **argv)
{
    const unsigned port = argc > 1 ? (unsigned)atoi(argv[1]) : 0;
    const size_t body_size = argc > 2 ? (size_t)atoi(argv[2]) : 600;
    const size_t loop_count = argc > 3 ? (size_t)atoi(argv[3]) : 1;
    char listen_at[32];
    snprintf(listen_at, sizeof listen_at, "127.0.0.1:%u", port);
    bench b = { .body = { calloc(1, body_size + 1), body_size },
                .upstream = argc > 4 ? argv[4] : NULL };
    memset((char *)(uintptr_t)b.body.ptr, 'a', body_size);
    rp_loop *loops[LOOPS_MAX];
    if (loop_count < 1 || loop_count > LOOPS_MAX)
        return 2;
    for (size_t i = 0; i < loop_count; i++) {
        if (rp_loop_new(&loops[i]) != RP_OK)
            return 1;
    }
    /* Signals are waited for here, so no other thread may take them. */
    sigset_t signals;
    sigemptyset(&signals);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGUSR1);
    pthread_sigmask(SIG_BLOCK, &signals, NULL);
    const rp_http_handler handler = { .on_request = on_request, .on_gone = on_gone,
                                      .on_drained = on_drained, .context = &b };
    const rp_http_server_options options = { .listen = listen_at,
                                             .idle_timeout_us = 600 * INT64_C(1000000) };
    rp_http_server *server;
    rp_error error = { { 0 } };
    if (rp_http_server_new(loops, loop_count, &options, &handler, &server, &error) != RP_OK) {
        fprintf(stderr, "bench_net: %s\n", error.text);
        return 1;
    }
    for (size_t i = 0; i < loop_count; i++) {
        if (rp_loop_start(loops[i], "loop") != RP_OK)
            return 1;
    }
    printf("http://%.*s\n", RP_FMT(rp_http_server_address(server)));
    fflush(stdout);
    const size_t resident_before = resident_bytes();
    unsigned long long requests_before = 0, events_before = 0;
    double cpu_before = 0;
    for (int signal_number = 0; signal_number != SIGINT && signal_number != SIGTERM;) {
        sigwait(&signals, &signal_number);
        struct rusage usage;
        getrusage(RUSAGE_SELF, &usage);
        const double cpu = (double)usage.ru_utime.tv_sec + 1e-6 * (double)usage.ru_utime.tv_usec +
                           (double)usage.ru_stime.tv_sec + 1e-6 * (double)usage.ru_stime.tv_usec;
        const unsigned long long requests = atomic_load(&b.requests);
        const size_t connections = rp_http_server_connections(server);
        const size_t grown = resident_bytes() - resident_before;
        const unsigned long long events = atomic_load(&b.events);
        const double count = (double)(requests - requests_before);
        const double event_count = (double)(events - events_before);
        printf("%.0f requests, %.2f us CPU each; %.0f pieces, %.2f us CPU each; %zu connections, "
               "%zu KiB more than at the start (%.0f bytes each)\n",
               count, count > 0 ? 1e6 * (cpu - cpu_before) / count : 0.0, event_count,
               event_count > 0 ? 1e6 * (cpu - cpu_before) / event_count : 0.0,
               connections, grown >> 10, connections ? (double)grown / (double)connections : 0.0);
        fflush(stdout);
        requests_before = requests;
        events_before = events;
        cpu_before = cpu;
    }
    for (size_t i = 0; i < loop_count; i++) {
        rp_loop_stop(loops[i]);
        rp_loop_join(loops[i]);
    }
    rp_http_server_free(server);
    for (size_t i = 0; i < loop_count; i++)
        rp_loop_free(loops[i]);
    free((char *)(uintptr_t)b.body.ptr);
    return 0;
}
