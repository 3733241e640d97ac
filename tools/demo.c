/* demo.c - `reprise demo`: a server, a stand-in for the service behind it, and a stream
 * of real questions, watched as they are answered.
 *
 * The two processes are this program itself, `mock-llm` and `serve`, on free ports and
 * with a data folder that goes with the demo: what is shown is what a user would run. */
#include "tools/child.h"
#include "tools/command.h"

#include "base/bytes.h"
#include "base/clock.h"
#include "json/json.h"
#include "net/http_client.h"

#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

extern const char demo_questions[]; /* demo_questions.txt */

enum { DELAY_MS = 600 }; /* of the stand-in: about what a fast service needs; a guess */

typedef struct demo {
    const char *model, *policy, *listen;
    bool keep;      /* go on serving at the end */
    rp_child mock, server;
    char mock_url[140], server_url[140], folder[512];

    rp_loop *loop;
    rp_http_client *client;
    rp_fetch *fetch;
    rp_str questions; /* what is left */
    rp_str question;
    rp_buffer body, url;
    int64_t start_us;
    int status;
    char cache[32], tier[32], similarity[32], reason[48];
    size_t asked, hits_exact, hits_semantic, misses, failed;
    double hit_ms, miss_ms;
    bool colors;
} demo;

/* ---- processes ------------------------------------------------------------------------- */

static bool
start_mock(demo *d)
{
    char delay[16], address[128];
    snprintf(delay, sizeof delay, "%d", DELAY_MS);
    const char *const arguments[] = { "reprise", "mock-llm", "--listen", "127.0.0.1:0", "--delay", delay,
                                "--words", "24", NULL };
    if (!rp_child_start(&d->mock, NULL, arguments, STDOUT_FILENO, "http://", address, sizeof address))
        return false;
    snprintf(d->mock_url, sizeof d->mock_url, "http://%s", address);
    return true;
}

static bool
start_server(demo *d)
{
    char address[128];
    const char *const arguments[] = { "reprise", "serve", "--listen", d->listen, "--admin",
                                "127.0.0.1:0", "--upstream", d->mock_url, "--data", d->folder,
                                "--model", d->model,
                                d->policy ? "--policy" : NULL, d->policy, NULL };
    if (!rp_child_start(&d->server, NULL, arguments, STDERR_FILENO, "listening on ", address, sizeof address))
        return false;
    snprintf(d->server_url, sizeof d->server_url, "http://%s", address);
    return true;
}

/* ---- questions -------------------------------------------------------------------------- */

static void ask_next(demo *d);

static void
keep_header(const rp_header *headers, size_t count, const char *name, char *out, size_t size)
{
    const rp_str value = rp_http_header(headers, count, name);
    snprintf(out, size, "%.*s", RP_FMT(value));
}

static void
on_head(void *context, int status, const rp_header *headers, size_t count)
{
    demo *d = context;
    d->status = status;
    keep_header(headers, count, "x-reprise-cache", d->cache, sizeof d->cache);
    keep_header(headers, count, "x-reprise-cache-tier", d->tier, sizeof d->tier);
    keep_header(headers, count, "x-reprise-similarity", d->similarity, sizeof d->similarity);
    keep_header(headers, count, "x-reprise-reason", d->reason, sizeof d->reason);
}

static bool
on_data(void *context, rp_str bytes)
{
    (void)context, (void)bytes;
    return true;
}

static void
print_row(demo *d, double ms)
{
    const bool hit = strcmp(d->cache, "hit") == 0;
    const char *color = !d->colors ? "" : hit ? "\033[32m" : "\033[33m";
    printf("%3zu  %s%-5s%s %-9s %-7s %8.1f ms  %.*s\n", d->asked, color, d->cache, d->colors ? "\033[0m" : "",
           hit ? d->tier : "", hit ? d->similarity : "", ms, RP_FMT(d->question));
    fflush(stdout);
}

static void
on_done(void *context, rp_fetch_result result, const char *detail)
{
    demo *d = context;
    const double ms = (double)(rp_clock_monotonic_us(&rp_clock_system) - d->start_us) / 1e3;
    d->fetch = NULL;
    d->asked++;
    if (result != RP_FETCH_OK || d->status != 200) {
        d->failed++;
        printf("%3zu  failed (%s, status %d)\n", d->asked, detail ? detail : "", d->status);
    } else {
        const bool hit = strcmp(d->cache, "hit") == 0;
        d->hits_exact += hit && strcmp(d->tier, "exact") == 0;
        d->hits_semantic += hit && strcmp(d->tier, "semantic") == 0;
        d->misses += !hit;
        *(hit ? &d->hit_ms : &d->miss_ms) += ms;
        print_row(d, ms);
    }
    ask_next(d);
}

static void
ask(demo *d)
{
    static const rp_fetch_handler handler = { on_head, on_data, on_done, NULL };
    static const rp_header headers[] = {
        { { "Content-Type", 12 }, { "application/json", 16 } },
        { { "Authorization", 13 }, { "Bearer sk-demo", 14 } },
    };
    rp_json_writer w;
    rp_buffer_clear(&d->body);
    rp_json_writer_init(&w, &d->body);
    rp_json_open(&w, '{');
    rp_json_key(&w, "model");
    rp_json_put_cstring(&w, "mock-small");
    rp_json_key(&w, "messages");
    rp_json_open(&w, '[');
    rp_json_open(&w, '{');
    rp_json_key(&w, "role");
    rp_json_put_cstring(&w, "user");
    rp_json_key(&w, "content");
    rp_json_put_string(&w, d->question);
    rp_json_close(&w, '}');
    rp_json_close(&w, ']');
    rp_json_close(&w, '}');
    const rp_fetch_request request = { .method = RP_STR("POST"), .url = rp_buffer_str(&d->url),
                                       .headers = headers, .header_count = RP_COUNT(headers),
                                       .body = rp_buffer_str(&d->body), .body_is_whole = true,
                                       .body_size = (int64_t)d->body.len };
    rp_error error = { { 0 } };
    d->status = 0;
    d->start_us = rp_clock_monotonic_us(&rp_clock_system);
    if (rp_fetch_start(d->client, &request, &handler, d, &d->fetch, &error) != RP_OK) {
        fprintf(stderr, "reprise demo: %s\n", error.text);
        d->failed++;
        rp_loop_stop(d->loop);
    }
}

static void
ask_next(demo *d)
{
    do {
        if (d->questions.len == 0) {
            rp_loop_stop(d->loop);
            return;
        }
        d->question = rp_str_trimmed(rp_str_split(&d->questions, '\n'));
    } while (d->question.len == 0 || d->question.ptr[0] == '#');
    ask(d);
}

static void
print_summary(const demo *d)
{
    const size_t hits = d->hits_exact + d->hits_semantic;
    printf("\n%zu questions: %zu answered from the store (%zu exact, %zu semantic), %zu by the service.\n"
           "A hit took %.1f ms on average, the service %.1f ms (the stand-in waits %d ms on purpose).\n",
           d->asked, hits, d->hits_exact, d->hits_semantic, d->misses,
           hits ? d->hit_ms / (double)hits : 0, d->misses ? d->miss_ms / (double)d->misses : 0, DELAY_MS);
}

static rp_loop *demo_loop; /* for the signal */

static void
stop_on_signal(int number)
{
    (void)number;
    rp_loop_stop(demo_loop);
}

static int
run(demo *d)
{
    rp_error error = { { 0 } };
    if (!rp_folder_make_temporary(d->folder, sizeof d->folder)) {
        perror("reprise demo: the temporary folder");
        d->folder[0] = '\0';
        return RP_EXIT_FAILED;
    }
    puts("Starting a stand-in for an LLM service (reprise mock-llm) and the cache in front of it\n"
         "(reprise serve). Then real customers' questions are asked, one after the other.\n");
    fflush(stdout);
    if (!start_mock(d) || !start_server(d)) {
        fputs("reprise demo: the server did not start\n", stderr);
        return RP_EXIT_FAILED;
    }
    rp_buffer_printf(&d->url, "%s/v1/chat/completions", d->server_url);
    if (rp_loop_new(&d->loop) != RP_OK ||
        rp_http_client_new(d->loop, &(rp_http_client_options){ 0 }, &d->client, &error) != RP_OK) {
        fprintf(stderr, "reprise demo: %s\n", error.text[0] ? error.text : "no memory");
        return RP_EXIT_FAILED;
    }
    demo_loop = d->loop;
    signal(SIGINT, stop_on_signal);
    signal(SIGTERM, stop_on_signal);
    signal(SIGPIPE, SIG_IGN);
    printf("  #  cache tier      cosine         time  question\n");
    ask_next(d);
    rp_loop_run(d->loop);
    print_summary(d);
    if (d->keep) {
        printf("\nThe server goes on at %s/v1; try it:\n\n"
               "  curl -i %s/v1/chat/completions -H 'Authorization: Bearer sk-demo' \\\n"
               "    -d '{\"model\":\"mock-small\",\"messages\":[{\"role\":\"user\",\"content\":\"How do I exchange AUD for GBP?\"}]}'\n\n"
               "Ctrl-C ends it.\n", d->server_url, d->server_url);
        fflush(stdout);
        /* Ctrl-C reaches the children too: when the server has ended, so have we. */
        char line[512];
        signal(SIGINT, SIG_IGN);
        while (fgets(line, sizeof line, d->server.said))
            fputs(line, stderr);
    }
    return d->failed ? RP_EXIT_FAILED : RP_EXIT_DONE;
}

int
rp_command_demo(int argc, char **argv)
{
    static const struct option options[] = {
        { "model", required_argument, NULL, 'm' },  { "policy", required_argument, NULL, 'p' },
        { "listen", required_argument, NULL, 'l' }, { "help", no_argument, NULL, 'h' },
        { 0 },
    };
    demo d = { .model = "all-MiniLM-L6-v2", .listen = "127.0.0.1:0",
               .questions = rp_str_of(demo_questions), .colors = isatty(STDOUT_FILENO) };
    d.keep = isatty(STDIN_FILENO) && isatty(STDOUT_FILENO);
    int option;
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (option) {
        case 'm': d.model = optarg; break;
        case 'p': d.policy = optarg; break;
        case 'l': d.listen = optarg; break;
        case 'h':
            puts("Usage: reprise demo [--listen ADDR:PORT] [--model NAME|DIR] [--policy SPEC]\n\n"
                 "A server in front of a stand-in for an LLM service, and a stream of real questions,\n"
                 "with what the cache made of each. On a terminal it goes on serving at the end.");
            return RP_EXIT_DONE;
        default: fputs("Try `reprise demo --help`.\n", stderr); return RP_EXIT_USAGE;
        }
    }
    if (optind < argc) {
        fprintf(stderr, "reprise demo: unexpected argument '%s'\n", argv[optind]);
        return RP_EXIT_USAGE;
    }
    rp_buffer_init(&d.body, 0);
    rp_buffer_init(&d.url, 0);
    const int exit_status = run(&d);
    rp_http_client_free(d.client);
    rp_loop_free(d.loop);
    rp_child_stop(&d.server);
    rp_child_stop(&d.mock);
    if (d.folder[0])
        rp_folder_remove(d.folder);
    rp_buffer_fini(&d.body);
    rp_buffer_fini(&d.url);
    return exit_status;
}
