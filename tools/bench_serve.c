/* bench_serve.c - `reprise bench serve`: the whole server over loopback, client time with
 * everything included, and nginx as a proxy in the same run where it is installed.
 *
 * The servers are real processes of this program; their CPU time is the system's own
 * account (/proc/PID/stat). Sections: pass-through beside nginx, exact hits, forwarded
 * stream events, semantic hits, memory and idle connections, start with 100,000 entries.
 * Nothing here fails for being slow. */
#include "tools/child.h"
#include "tools/command.h"
#include "tools/dead.h"
#include "tools/load.h"

#include "base/buffer.h"
#include "base/bytes.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/hash.h"
#include "base/random.h"
#include "json/json.h"
#include "store/store.h"

#include <getopt.h>
#include <math.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <unistd.h>

extern const char demo_questions[];

typedef struct bench {
    const char *model;
    bool json, quick;
    char folder[512];
    rp_child mock, server, nginx;
    char mock_address[128], server_address[128], nginx_address[128];
    rp_json_writer out;
    rp_buffer out_bytes;
    rp_error error;
} bench;

/* ---- printing --------------------------------------------------------------------------- */

static void
say(bench *b, const char *name, double value, const char *unit, const char *text)
{
    rp_json_key(&b->out, name);
    rp_json_put_double(&b->out, value);
    if (!b->json) {
        printf("  %-46s %10.1f %s\n", text, value, unit);
        fflush(stdout);
    }
}

static void
head(bench *b, const char *text)
{
    if (!b->json)
        printf("%s\n", text);
    fflush(stdout);
}

/* ---- processes ---------------------------------------------------------------------------- */

static bool
start_mock(bench *b, const char *words, const char *token_rate)
{
    const char *const arguments[] = { "reprise", "mock-llm", "--listen", "127.0.0.1:0", "--words", words,
                                      "--token-rate", token_rate, NULL };
    return rp_child_start(&b->mock, NULL, arguments, STDOUT_FILENO, "http://", b->mock_address,
                          sizeof b->mock_address);
}

/* `proxy` NULL: our own client of http://, else libcurl through that address. */
static bool
start_before(bench *b, const char *address, const char *proxy, const char *model, const char *data)
{
    char upstream[160], path[600];
    snprintf(upstream, sizeof upstream, "http://%s%s%s", address, proxy ? ", proxy: http://" : "",
             proxy ? proxy : "");
    snprintf(path, sizeof path, "%s/%s.yaml", b->folder, data);
    char config[4000];
    snprintf(config, sizeof config, "listen: 127.0.0.1:0\nadmin: { listen: 127.0.0.1:0 }\ndata: %s/%s\n"
             "threads: { loops: 1 }\nencoder: { model: %s }\nupstreams: [ { name: mock, url: %s } ]\n"
             "connections_max: 20000\n", b->folder, data, model, upstream);
    if (rp_file_replace(path, rp_str_of(config), 0600, &b->error) != RP_OK)
        return false;
    const char *const arguments[] = { "reprise", "serve", "-c", path, NULL };
    return rp_child_start(&b->server, NULL, arguments, STDERR_FILENO, "listening on ",
                          b->server_address, sizeof b->server_address);
}

static bool
start_server(bench *b, const char *model, const char *data)
{
    return start_before(b, b->mock_address, NULL, model, data);
}

/* nginx with one worker and kept-alive upstream connections, as one would run it. */
static bool
start_nginx(bench *b)
{
    static const char *const places[] = { "/usr/sbin/nginx", "/usr/bin/nginx", "/usr/local/sbin/nginx" };
    const char *program = NULL;
    for (size_t i = 0; i < RP_COUNT(places) && !program; i++)
        program = rp_file_exists(places[i]) ? places[i] : NULL;
    if (!program)
        return false;
    const int port = 20000 + (int)(getpid() % 20000);
    char path[600], config[5000];
    snprintf(path, sizeof path, "%s/nginx.conf", b->folder);
    snprintf(config, sizeof config,
             "worker_processes 1;\ndaemon off;\nmaster_process off;\npid %s/nginx.pid;\nerror_log stderr crit;\n"
             "events { worker_connections 1024; }\nhttp { access_log off;\n"
             "client_body_temp_path %s/body; proxy_temp_path %s/proxy; fastcgi_temp_path %s/f;\n"
             "uwsgi_temp_path %s/u; scgi_temp_path %s/s;\n"
             "upstream up { server %s; keepalive 64; }\n"
             "server { listen 127.0.0.1:%d; keepalive_requests 100000000;\n"
             "location / { proxy_pass http://up; proxy_http_version 1.1; proxy_set_header Connection \"\";\n"
             "proxy_buffering off; } } }\n",
             b->folder, b->folder, b->folder, b->folder, b->folder, b->folder, b->mock_address, port);
    if (rp_file_replace(path, rp_str_of(config), 0600, &b->error) != RP_OK)
        return false;
    const char *const arguments[] = { "nginx", "-p", b->folder, "-c", path, NULL };
    if (!rp_child_start(&b->nginx, program, arguments, STDERR_FILENO, NULL, NULL, 0))
        return false;
    snprintf(b->nginx_address, sizeof b->nginx_address, "127.0.0.1:%d", port);
    for (int i = 0; i < 100; i++) {
        int probe;
        if (rp_load_hold(b->nginx_address, 1, &probe) == 1) {
            rp_load_release(&probe, 1);
            return true;
        }
        usleep(20000);
    }
    return false;
}

/* ---- requests ------------------------------------------------------------------------------- */

static rp_str
make_request(const char *prompt, const char *headers, bool stream, rp_buffer *out)
{
    rp_buffer body, escaped;
    rp_buffer_init(&body, 0);
    rp_buffer_init(&escaped, 0);
    rp_json_write_string(rp_str_of(prompt), &escaped);
    rp_buffer_printf(&body, "{\"model\":\"mock-small\",\"messages\":[{\"role\":\"system\",\"content\":"
                     "\"You are the support desk of a bank.\"},{\"role\":\"user\",\"content\":%.*s}]%s}",
                     RP_FMT(rp_buffer_str(&escaped)), stream ? ",\"stream\":true" : "");
    rp_buffer_clear(out);
    rp_buffer_printf(out, "POST /v1/chat/completions HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer "
                     "sk-bench-1\r\nContent-Type: application/json\r\n%sContent-Length: %zu\r\n\r\n%.*s",
                     headers, body.len, RP_FMT(rp_buffer_str(&body)));
    rp_buffer_fini(&body);
    rp_buffer_fini(&escaped);
    return rp_buffer_str(out);
}

static bool
run(bench *b, const char *address, const rp_str *requests, size_t count, size_t connections,
    uint64_t replies, double seconds, rp_load_result *out)
{
    const rp_load load = { address, requests, count, connections, replies, (int64_t)(seconds * 1e6) };
    return rp_load_run(&load, out, &b->error) == RP_OK;
}

/* The upstream must have accepted the key before it gets hits. */
static bool
prove_key(bench *b)
{
    rp_buffer bytes;
    rp_buffer_init(&bytes, 0);
    const rp_str request =
        make_request("May I?", "Cache-Control: no-cache, no-store\r\n", false, &bytes);
    rp_load_result result;
    const bool ran = run(b, b->server_address, &request, 1, 1, 1, 5, &result);
    rp_buffer_fini(&bytes);
    if (!ran)
        return false;
    free(result.latencies_us);
    return result.replies == 1;
}

/* ---- sections ---------------------------------------------------------------------------------- */

typedef struct path_times {
    double p50, p99;
} path_times;

static bool
time_path(bench *b, const char *address, rp_str request, path_times *least)
{
    rp_load_result result;
    if (!run(b, address, &request, 1, 1, b->quick ? 500 : 4000, 20, &result))
        return false;
    least->p50 = fmin(least->p50, rp_load_quantile(&result, 0.5));
    least->p99 = fmin(least->p99, rp_load_quantile(&result, 0.99));
    free(result.latencies_us);
    return result.failed == 0;
}

/* Direct, through nginx and through us, in turn, so that drift hits all alike; of the
 * rounds the least p50 and the least p99 count. */
static bool
measure_pass_through(bench *b)
{
    path_times direct = { INFINITY, INFINITY }, nginx = direct, reprise = direct;
    rp_buffer bytes;
    rp_buffer_init(&bytes, 0);
    const rp_str request =
        make_request("What is the fee?", "Cache-Control: no-cache, no-store\r\n", false, &bytes);
    bool good = true;
    for (int round = 0; round < (b->quick ? 2 : 6) && good; round++) {
        good = time_path(b, b->mock_address, request, &direct) &&
               time_path(b, b->server_address, request, &reprise);
        if (good && b->nginx.pid)
            good = time_path(b, b->nginx_address, request, &nginx);
    }
    rp_buffer_fini(&bytes);
    if (!good)
        return false;
    head(b, "pass-through, one connection, one request after the other (least of the rounds)");
    say(b, "direct_p50_us", direct.p50, "us", "the service itself, p50");
    say(b, "direct_p99_us", direct.p99, "us", "the service itself, p99");
    say(b, "reprise_added_p50_us", reprise.p50 - direct.p50, "us", "reprise adds at p50");
    say(b, "reprise_added_p99_us", reprise.p99 - direct.p99, "us", "reprise adds at p99");
    if (b->nginx.pid) {
        say(b, "nginx_added_p50_us", nginx.p50 - direct.p50, "us", "nginx adds at p50");
        say(b, "nginx_added_p99_us", nginx.p99 - direct.p99, "us", "nginx adds at p99");
        say(b, "added_p50_ratio", (reprise.p50 - direct.p50) / (nginx.p50 - direct.p50), "x", "ratio at p50");
        say(b, "added_p99_ratio", (reprise.p99 - direct.p99) / (nginx.p99 - direct.p99), "x", "ratio at p99");
    } else {
        head(b, "  nginx is not installed: no ratio");
    }
    return true;
}

static int
compare_floats(const void *a, const void *b)
{
    const float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

/* Asked by the client itself. */
static bool
time_dead(const rp_dead *dead, rp_str request, size_t count, path_times *least)
{
    rp_load_result result = { .latency_count = count };
    result.latencies_us = malloc(count * sizeof(float));
    if (!result.latencies_us)
        return false;
    for (size_t i = 0; i < count; i++)
        result.latencies_us[i] = (float)rp_dead_ask(dead, request);
    qsort(result.latencies_us, count, sizeof(float), compare_floats);
    least->p50 = fmin(least->p50, rp_load_quantile(&result, 0.5));
    least->p99 = fmin(least->p99, rp_load_quantile(&result, 0.99));
    free(result.latencies_us);
    return true;
}

/* Through us: every reply is a 502. */
static bool
time_refusals(bench *b, rp_str request, size_t count, path_times *least)
{
    rp_load_result result;
    if (!run(b, b->server_address, &request, 1, 1, count, 20, &result))
        return false;
    least->p50 = fmin(least->p50, rp_load_quantile(&result, 0.5));
    least->p99 = fmin(least->p99, rp_load_quantile(&result, 0.99));
    free(result.latencies_us);
    if (result.failed == result.replies && result.replies > 0)
        return true;
    rp_fail(&b->error, RP_ERR_INVALID, "a service that is dead was said to have answered");
    return false;
}

static bool
measure_dead(bench *b, rp_dead_kind kind, bool by_curl, const char *name, const char *text)
{
    path_times direct = { INFINITY, INFINITY }, reprise = direct;
    char label[64], sentence[80];
    rp_dead dead;
    rp_buffer bytes;
    rp_buffer_init(&bytes, 0);
    const rp_str request = make_request("Is anybody there?", "", false, &bytes);
    rp_child_stop(&b->server);
    bool good = rp_dead_start(&dead, kind, &b->error) == RP_OK;
    good = good && start_before(b, dead.address, by_curl ? dead.address : NULL, "none", "dead");
    for (int round = 0; round < (b->quick ? 2 : 6) && good; round++)
        good = time_dead(&dead, request, b->quick ? 100 : 400, &direct) &&
               time_refusals(b, request, b->quick ? 100 : 400, &reprise);
    if (good) {
        snprintf(label, sizeof label, "dead_%s_added_p50_us", name);
        snprintf(sentence, sizeof sentence, "%s, longer at p50", text);
        say(b, label, reprise.p50 - direct.p50, "us", sentence);
        snprintf(label, sizeof label, "dead_%s_added_p99_us", name);
        snprintf(sentence, sizeof sentence, "%s, longer at p99", text);
        say(b, label, reprise.p99 - direct.p99, "us", sentence);
    }
    rp_dead_stop(&dead);
    rp_buffer_fini(&bytes);
    return good;
}

/* How much longer a client waits for its 502 than it had waited without us. */
static bool
measure_dead_upstreams(bench *b)
{
    head(b, "a dead upstream, one connection (least of the rounds)");
    return measure_dead(b, RP_DEAD_REFUSES, false, "refuses", "nobody listens") &&
           measure_dead(b, RP_DEAD_REFUSES, true, "refuses_curl", "nobody listens, libcurl") &&
           measure_dead(b, RP_DEAD_CLOSES, false, "closes", "takes it and closes") &&
           measure_dead(b, RP_DEAD_CLOSES, true, "closes_curl", "takes it and closes, libcurl") &&
           measure_dead(b, RP_DEAD_RESETS, false, "resets", "resets mid head") &&
           measure_dead(b, RP_DEAD_RESETS, true, "resets_curl", "resets mid head, libcurl");
}

static bool
measure_exact_hits(bench *b)
{
    rp_buffer bytes;
    rp_buffer_init(&bytes, 0);
    const rp_str request = make_request("How do I reset my PIN?", "", false, &bytes);
    rp_load_result result = { 0 };
    bool good = run(b, b->server_address, &request, 1, 1, 2, 5, &result); /* a miss, then a hit */
    free(result.latencies_us);
    if (good && (good = run(b, b->server_address, &request, 1, 1, b->quick ? 2000 : 20000, 20, &result))) {
        head(b, "exact hits");
        say(b, "exact_p50_us", rp_load_quantile(&result, 0.5), "us", "p50, one connection");
        say(b, "exact_p99_us", rp_load_quantile(&result, 0.99), "us", "p99, one connection");
        free(result.latencies_us);
    }
    const double before = rp_process_cpu_seconds(b->server.pid);
    if (good && (good = run(b, b->server_address, &request, 1, 32, 0, b->quick ? 2 : 8, &result))) {
        const double cpu = rp_process_cpu_seconds(b->server.pid) - before;
        say(b, "exact_per_second", (double)result.replies / result.seconds, "/s",
            "hits a second, 32 connections, one loop thread");
        say(b, "exact_cpu_us", cpu / (double)result.replies * 1e6, "us", "CPU of the server for each");
        say(b, "exact_per_cpu_second", (double)result.replies / cpu, "/s", "hits for each second of its CPU");
        good = result.hits_exact == result.replies;
        if (!good)
            rp_fail(&b->error, RP_ERR_INVALID, "%llu of %llu replies were exact hits",
                    (unsigned long long)result.hits_exact, (unsigned long long)result.replies);
        free(result.latencies_us);
    }
    rp_buffer_fini(&bytes);
    return good;
}

/* Streams that are forwarded and not kept: as fast as they go, when many events share a
 * read and a write; and one by one, as a service speaks. */
static bool
measure_stream(bench *b, const char *words, const char *token_rate, size_t connections, uint64_t streams,
               const char *name, const char *text)
{
    rp_child_stop(&b->server);
    rp_child_stop(&b->mock);
    if (!start_mock(b, words, token_rate) || !start_server(b, "none", "streams") || !prove_key(b))
        return false;
    rp_buffer bytes;
    rp_buffer_init(&bytes, 0);
    const rp_str request = make_request("Tell me all.", "Cache-Control: no-cache, no-store\r\n", true, &bytes);
    rp_load_result result;
    const double before = rp_process_cpu_seconds(b->server.pid);
    const bool good = run(b, b->server_address, &request, 1, connections, streams, 30, &result);
    if (good) {
        const double events = (double)result.replies * strtod(words, NULL);
        say(b, name, (rp_process_cpu_seconds(b->server.pid) - before) / events * 1e6, "us", text);
        free(result.latencies_us);
    }
    rp_buffer_fini(&bytes);
    return good;
}

static bool
measure_stream_events(bench *b)
{
    head(b, "forwarded streams, CPU of the server for each event");
    return measure_stream(b, "2000", "0", 4, b->quick ? 40 : 400, "stream_event_batched_cpu_us",
                          "as fast as they go") &&
           measure_stream(b, "300", "200", 32, b->quick ? 32 : 96, "stream_event_cpu_us",
                          "one by one, 32 streams of 200 events a second");
}

/* Every question of the demo once, then all again in other letters of the same meaning:
 * what is asked again word for word hits exactly, so only rephrased ones count here. */
static bool
measure_semantic_hits(bench *b)
{
    enum { QUESTIONS_MAX = 64 };
    rp_buffer requests[QUESTIONS_MAX];
    rp_str views[QUESTIONS_MAX];
    char line[256];
    size_t count = 0;
    rp_str rest = rp_str_of(demo_questions);
    while (rest.len && count < QUESTIONS_MAX) {
        const rp_str text = rp_str_trimmed(rp_str_split(&rest, '\n'));
        if (text.len == 0 || text.ptr[0] == '#')
            continue;
        snprintf(line, sizeof line, "%.*s", RP_FMT(text));
        rp_buffer_init(&requests[count], 0);
        views[count] = make_request(line, "", false, &requests[count]);
        count++;
    }
    rp_load_result result = { 0 };
    bool good = true;
    rp_load_result hits = { .latencies_us = calloc(QUESTIONS_MAX * 200, sizeof(float)) };
    size_t semantic = 0;
    /* One question at a time: those that hit semantically keep doing so, for a hit is not
     * stored again; repeat them for a distribution. */
    for (size_t i = 0; i < count && good; i++) {
        good = run(b, b->server_address, &views[i], 1, 1, 1, 5, &result);
        free(result.latencies_us);
        if (!good || result.hits_semantic == 0)
            continue;
        semantic++;
        good = run(b, b->server_address, &views[i], 1, 1, b->quick ? 20 : 200, 10, &result);
        for (size_t j = 0; good && j < result.latency_count; j++)
            hits.latencies_us[hits.latency_count++] = result.latencies_us[j];
        free(result.latencies_us);
    }
    if (good && semantic) {
        head(b, "semantic hits (about 10 to 20 tokens)");
        rp_load_sort(&hits);
        say(b, "semantic_questions", (double)semantic, "", "questions that hit");
        say(b, "semantic_p50_us", rp_load_quantile(&hits, 0.5), "us", "p50, one connection");
        say(b, "semantic_p99_us", rp_load_quantile(&hits, 0.99), "us", "p99, one connection");
    } else if (good) {
        head(b, "semantic hits: none of the questions hit");
    }
    free(hits.latencies_us);
    for (size_t i = 0; i < count; i++)
        rp_buffer_fini(&requests[i]);
    return good;
}

static bool
measure_memory(bench *b)
{
    const size_t wanted = b->quick ? 1000 : 10000;
    struct rlimit limit = { 65536, 65536 };
    getrlimit(RLIMIT_NOFILE, &limit);
    limit.rlim_cur = limit.rlim_max;
    setrlimit(RLIMIT_NOFILE, &limit); /* the server inherits it */
    rp_child_stop(&b->server);
    if (!start_server(b, b->model, "memory"))
        return false;
    usleep(300000);
    const size_t empty = rp_process_resident_bytes(b->server.pid);
    int *descriptors = calloc(wanted, sizeof *descriptors);
    const size_t held = descriptors ? rp_load_hold(b->server_address, wanted, descriptors) : 0;
    usleep(500000);
    const size_t full = rp_process_resident_bytes(b->server.pid);
    head(b, "memory");
    say(b, "resident_empty_mib", (double)empty / 0x1p20, "MiB", "resident, encoder loaded, empty cache");
    say(b, "idle_connections", (double)held, "", "idle connections opened");
    say(b, "bytes_per_idle_connection", held ? ((double)full - (double)empty) / (double)held : (double)NAN, "B",
        "resident for each of them");
    rp_load_release(descriptors, held);
    free(descriptors);
    return held > 0;
}


/* A store with `count` made entries of one kilobyte and a random unit vector. */
static bool
fill_store(bench *b, const char *folder, const char *fingerprint, size_t count)
{
    enum { DIM = 384 };
    rp_store *store;
    const rp_store_options options = { .folder = folder, .fingerprint = fingerprint, .dim = DIM };
    if (rp_store_open(&options, &store, &b->error) != RP_OK)
        return false;
    rp_random random;
    rp_random_init(&random, 1);
    char reply[1024];
    memset(reply, 'x', sizeof reply);
    bool good = true;
    for (size_t i = 0; i < count && good; i++) {
        float vector[DIM];
        double sum = 0;
        for (int j = 0; j < DIM; j++) {
            vector[j] = (float)rp_random_normal(&random);
            sum += (double)vector[j] * vector[j];
        }
        for (int j = 0; j < DIM; j++)
            vector[j] = (float)(vector[j] / sqrt(sum));
        rp_entry draft = { .created = rp_clock_wall_us(&rp_clock_system), .tenant = RP_STR("bench"),
                           .model = RP_STR("mock"), .prompt = RP_STR("a made prompt of a made entry"),
                           .scope_fields = RP_STR("{}"), .reply = { reply, sizeof reply }, .dim = DIM,
                           .window_count = 1, .mean = vector, .windows = vector,
                           .input_tokens = -1, .output_tokens = -1 };
        rp_store_le64(draft.key.bytes, i * 0x9e3779b97f4a7c15u);
        rp_store_le64(draft.key.bytes + 8, i);
        draft.scope.bytes[0] = (uint8_t)(i % 10);
        rp_entry_id id;
        rp_status status;
        while ((status = rp_store_put(store, &draft, &id, NULL, NULL)) == RP_ERR_BUSY)
            usleep(1000);
        good = status == RP_OK;
        if (!good)
            rp_fail(&b->error, status, "entry %zu was not stored: %s", i, rp_status_name(status));
    }
    rp_store_close(store);
    return good;
}

static bool
measure_start(bench *b)
{
    char folder[600], fingerprint[RP_FINGERPRINT_SIZE + 1] = "";
    const size_t count = b->quick ? 10000 : 100000;
    rp_child_stop(&b->server);
    /* The fingerprint that this encoder gives a store, so that the vectors are used. */
    snprintf(folder, sizeof folder, "%s/memory", b->folder);
    rp_store *store;
    if (rp_store_open(&(rp_store_options){ .folder = folder, .read_only = true }, &store, &b->error) != RP_OK)
        return false;
    snprintf(fingerprint, sizeof fingerprint, "%s", rp_store_fingerprint(store));
    rp_store_close(store);
    snprintf(folder, sizeof folder, "%s/many", b->folder);
    if (!fill_store(b, folder, fingerprint[0] ? fingerprint : NULL, count))
        return false;
    double least = INFINITY;
    for (int round = 0; round < 3; round++) {
        const int64_t start_us = rp_clock_monotonic_us(&rp_clock_system);
        if (!start_server(b, b->model, "many"))
            return false;
        least = fmin(least, (double)(rp_clock_monotonic_us(&rp_clock_system) - start_us) / 1e3);
        usleep(1500000); /* let the index load before it is stopped */
        rp_child_stop(&b->server);
    }
    head(b, "start");
    say(b, "start_entries", (double)count, "", "entries in the store");
    say(b, "start_ms", least, "ms", "until it listens and answers exactly (warm page cache)");
    return true;
}

/* ---- the command ------------------------------------------------------------------------------------ */

static bool
measure(bench *b)
{
    if (!start_mock(b, "24", "0") || !start_server(b, "none", "exact") || !prove_key(b))
        return false;
    start_nginx(b);
    if (!measure_pass_through(b) || !measure_exact_hits(b) || !measure_stream_events(b))
        return false;
    rp_child_stop(&b->nginx);
    if (!measure_dead_upstreams(b))
        return false;
    if (strcmp(b->model, "none") != 0) {
        rp_child_stop(&b->server);
        if (!start_server(b, b->model, "semantic") || !prove_key(b) || !measure_semantic_hits(b))
            return false;
    }
    /* The entries of the last section have vectors, which belong to an encoder. */
    return measure_memory(b) && (strcmp(b->model, "none") == 0 || measure_start(b));
}

int
rp_command_bench_serve(int argc, char **argv)
{
    static const struct option options[] = {
        { "model", required_argument, NULL, 'm' }, { "quick", no_argument, NULL, 'q' },
        { "json", no_argument, NULL, 'j' },        { "help", no_argument, NULL, 'h' },
        { 0 },
    };
    bench b = { .model = "all-MiniLM-L6-v2" };
    int option;
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (option) {
        case 'm': b.model = optarg; break;
        case 'q': b.quick = true; break;
        case 'j': b.json = true; break;
        case 'h':
            puts("Usage: reprise bench serve [--model NAME|DIR|none] [--quick] [--json]\n\n"
                 "The whole server over loopback: pass-through (beside nginx, where it is installed), exact\n"
                 "and semantic hits, streams, dead upstreams, memory, start. About two minutes; --quick takes less and\n"
                 "measures worse.");
            return RP_EXIT_DONE;
        default: fputs("Try `reprise bench serve --help`.\n", stderr); return RP_EXIT_USAGE;
        }
    }
    rp_buffer_init(&b.out_bytes, 0);
    rp_json_writer_init(&b.out, &b.out_bytes);
    rp_json_open(&b.out, '{');
    bool good = rp_folder_make_temporary(b.folder, sizeof b.folder);
    if (good) {
        good = measure(&b);
        rp_child_stop(&b.nginx);
        rp_child_stop(&b.server);
        rp_child_stop(&b.mock);
        rp_folder_remove(b.folder);
    }
    rp_json_close(&b.out, '}');
    if (b.json && good)
        printf("%.*s\n", RP_FMT(rp_buffer_str(&b.out_bytes)));
    if (!good)
        fprintf(stderr, "reprise bench serve: %s\n", b.error.text[0] ? b.error.text : "a server did not start");
    rp_buffer_fini(&b.out_bytes);
    return good ? RP_EXIT_DONE : RP_EXIT_FAILED;
}
