/* bench_net.c - what the HTTP server costs by itself: a handler that answers at once.
 *
 *     bench_net [PORT [BODY_BYTES [LOOPS]]]      then: wrk -t1 -c64 -d5 http://127.0.0.1:PORT/
 *
 * Stop it with Ctrl-C: it prints requests, CPU time per request of the first loop's
 * thread, and resident bytes per connection whenever SIGUSR1 comes. */
#include "base/bytes.h"
#include "base/clock.h"
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
    atomic_ullong requests;
} bench;

static void
on_request(void *context, rp_exchange *exchange, const rp_http_request *request)
{
    bench *b = context;
    (void)request;
    static const rp_header headers[] = {
        { { "Content-Type", 12 }, { "application/json", 16 } },
        { { "X-Reprise-Cache", 15 }, { "hit", 3 } },
    };
    atomic_fetch_add_explicit(&b->requests, 1, memory_order_relaxed);
    rp_exchange_begin(exchange, 200, headers, RP_COUNT(headers), (int64_t)b->body.len);
    rp_exchange_write_lent(exchange, b->body, NULL, NULL);
    rp_exchange_end(exchange);
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
    bench b = { .body = { calloc(1, body_size + 1), body_size } };
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
    const rp_http_handler handler = { .on_request = on_request, .context = &b };
    const rp_http_server_options options = { .listen = listen_at };
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
    unsigned long long requests_before = 0;
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
        printf("%llu requests, %.2f us CPU each; %zu connections, %zu KiB more than at the start"
               " (%.0f bytes each)\n",
               requests - requests_before,
               requests > requests_before
                   ? 1e6 * (cpu - cpu_before) / (double)(requests - requests_before)
                   : 0.0,
               connections, grown >> 10, connections ? (double)grown / (double)connections : 0.0);
        fflush(stdout);
        requests_before = requests;
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
