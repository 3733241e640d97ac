/* load.c - see load.h. */
#include "tools/load.h"

#include "base/bytes.h"
#include "base/clock.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

enum { INPUT_SIZE = 256 << 10, LATENCIES_MAX = 1000000 };

typedef struct connection {
    int fd;
    int64_t start_ns;
    size_t sent;        /* of the request under way */
    size_t request;     /* which one */
    size_t len;         /* of `input` */
    bool chunked, head_done;
    size_t head_size;
    uint64_t body_size; /* by Content-Length */
    int status;
    char input[INPUT_SIZE];
} connection;

typedef struct runner {
    const rp_load *load;
    rp_load_result *result;
    int epoll;
    uint64_t begun;
    size_t next_request;
    int64_t end_ns;
} runner;

static rp_status
parse_address(const char *text, struct sockaddr_in *out, rp_error *error)
{
    const char *colon = strrchr(text, ':');
    char host[64] = "";
    uint64_t port;
    *out = (struct sockaddr_in){ .sin_family = AF_INET };
    if (colon && (size_t)(colon - text) < sizeof host)
        memcpy(host, text, (size_t)(colon - text));
    if (!colon || strncmp(host, "127.", 4) != 0 || inet_pton(AF_INET, host, &out->sin_addr) != 1 ||
        !rp_str_to_u64(rp_str_of(colon + 1), &port) || port == 0 || port > 65535)
        return rp_fail(error, RP_ERR_INVALID, "load goes to 127.x.x.x:PORT only, not to %s", text);
    out->sin_port = htons((uint16_t)port);
    return RP_OK;
}

static int
connect_to(const struct sockaddr_in *address)
{
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return -1;
    if (connect(fd, (const struct sockaddr *)address, sizeof *address) != 0) {
        close(fd);
        return -1;
    }
    const int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    fcntl(fd, F_SETFL, O_NONBLOCK);
    return fd;
}

/* False: the connection is broken. */
static bool
send_rest(runner *r, connection *c)
{
    const rp_str request = r->load->requests[c->request];
    while (c->sent < request.len) {
        const ssize_t put = send(c->fd, request.ptr + c->sent, request.len - c->sent, MSG_NOSIGNAL);
        if (put < 0 && errno == EAGAIN)
            return true; /* small requests never get here twice */
        if (put <= 0)
            return false;
        c->sent += (size_t)put;
    }
    return true;
}

static bool
begin_request(runner *r, connection *c)
{
    if ((r->load->count_max && r->begun >= r->load->count_max) || rp_monotonic_ns() >= r->end_ns)
        return false;
    r->begun++;
    c->request = r->next_request++ % r->load->request_count;
    c->sent = c->len = 0;
    c->head_done = false;
    c->start_ns = rp_monotonic_ns();
    return send_rest(r, c);
}

/* The value of a header in a head; names in lower case with ": " as servers write them. */
static rp_str
find_header(rp_str head, const char *name)
{
    const size_t size = strlen(name);
    while (head.len) {
        rp_str line = rp_str_split(&head, '\n');
        if (line.len > size && rp_str_equal_ignoring_case((rp_str){ line.ptr, size }, rp_str_of(name)) &&
            line.ptr[size] == ':')
            return rp_str_trimmed((rp_str){ line.ptr + size + 1, line.len - size - 1 });
    }
    return (rp_str){ NULL, 0 };
}

static bool
read_head(runner *r, connection *c)
{
    const char *end = memmem(c->input, c->len, "\r\n\r\n", 4);
    if (!end)
        return false;
    c->head_size = (size_t)(end - c->input) + 4;
    const rp_str head = { c->input, c->head_size };
    uint64_t status = 0;
    c->status = c->len > 12 && rp_str_to_u64((rp_str){ c->input + 9, 3 }, &status) ? (int)status : 999;
    c->chunked = rp_str_equal(find_header(head, "transfer-encoding"), RP_STR("chunked"));
    c->body_size = 0;
    (void)rp_str_to_u64(find_header(head, "content-length"), &c->body_size);
    const rp_str tier = find_header(head, "x-reprise-cache-tier");
    r->result->hits_exact += rp_str_equal(tier, RP_STR("exact"));
    r->result->hits_semantic += rp_str_equal(tier, RP_STR("semantic"));
    c->head_done = true;
    return true;
}

/* Is the reply whole? Chunked bodies end with the empty chunk; what came before may be
 * forgotten. */
static bool
is_whole(connection *c)
{
    if (!c->chunked)
        return c->len - c->head_size >= c->body_size;
    return c->len >= 5 && memcmp(c->input + c->len - 5, "0\r\n\r\n", 5) == 0;
}

static void
count_reply(runner *r, connection *c)
{
    rp_load_result *result = r->result;
    if (result->latency_count < LATENCIES_MAX)
        result->latencies_us[result->latency_count++] = (float)(rp_monotonic_ns() - c->start_ns) / 1e3f;
    result->replies++;
    result->failed += c->status >= 400;
    result->body_bytes += c->len - c->head_size;
}

/* False: this connection has done its part, or is broken. */
static bool
on_readable(runner *r, connection *c)
{
    for (;;) {
        if (c->len == INPUT_SIZE) { /* a long chunked body: keep its end only */
            if (!c->chunked)
                return false;
            memmove(c->input, c->input + c->len - 8, 8);
            c->len = 8;
            c->head_size = 0;
        }
        const ssize_t got = recv(c->fd, c->input + c->len, INPUT_SIZE - c->len, 0);
        if (got < 0 && errno == EAGAIN)
            return true;
        if (got <= 0) {
            r->result->failed++;
            return false;
        }
        c->len += (size_t)got;
        if ((c->head_done || read_head(r, c)) && is_whole(c)) {
            count_reply(r, c);
            if (!begin_request(r, c))
                return false;
        }
    }
}

static int
compare_floats(const void *a, const void *b)
{
    const float x = *(const float *)a, y = *(const float *)b;
    return (x > y) - (x < y);
}

void
rp_load_sort(rp_load_result *result)
{
    qsort(result->latencies_us, result->latency_count, sizeof(float), compare_floats);
}

static void
run_loop(runner *r, connection *connections, size_t open)
{
    struct epoll_event events[256];
    for (size_t i = 0; i < r->load->connections; i++)
        if (connections[i].fd >= 0 && !begin_request(r, &connections[i]))
            open--;
    while (open && rp_monotonic_ns() < r->end_ns + 5000000000) {
        const int ready = epoll_wait(r->epoll, events, 256, 1000);
        for (int i = 0; i < ready; i++) {
            connection *c = events[i].data.ptr;
            if (c->fd >= 0 && !on_readable(r, c)) {
                close(c->fd);
                c->fd = -1;
                open--;
            }
        }
    }
}

rp_status
rp_load_run(const rp_load *load, rp_load_result *out, rp_error *error)
{
    struct sockaddr_in address;
    rp_status status = parse_address(load->address, &address, error);
    if (status != RP_OK)
        return status;
    *out = (rp_load_result){ .latencies_us = malloc(LATENCIES_MAX * sizeof(float)) };
    connection *connections = calloc(load->connections, sizeof *connections);
    runner r = { .load = load, .result = out, .epoll = epoll_create1(EPOLL_CLOEXEC) };
    size_t open = 0;
    if (!connections || !out->latencies_us || r.epoll < 0) {
        status = rp_fail(error, RP_ERR_NOMEM, "no memory for %zu connections", load->connections);
        goto out;
    }
    for (size_t i = 0; i < load->connections; i++) {
        connection *c = &connections[i];
        c->fd = connect_to(&address);
        struct epoll_event event = { .events = EPOLLIN, .data.ptr = c };
        if (c->fd >= 0 && epoll_ctl(r.epoll, EPOLL_CTL_ADD, c->fd, &event) == 0)
            open++;
    }
    if (open < load->connections) {
        status = rp_fail(error, RP_ERR_IO, "%zu of %zu connections to %s failed",
                         load->connections - open, load->connections, load->address);
        goto out;
    }
    const int64_t start_ns = rp_monotonic_ns();
    r.end_ns = start_ns + load->time_max_us * 1000;
    run_loop(&r, connections, open);
    out->seconds = (double)(rp_monotonic_ns() - start_ns) / 1e9;
    rp_load_sort(out);
out:
    for (size_t i = 0; connections && i < load->connections; i++)
        if (connections[i].fd > 0)
            close(connections[i].fd);
    if (r.epoll >= 0)
        close(r.epoll);
    free(connections);
    if (status != RP_OK) {
        free(out->latencies_us);
        out->latencies_us = NULL;
    }
    return status;
}

double
rp_load_quantile(const rp_load_result *result, double share)
{
    if (result->latency_count == 0)
        return (double)NAN;
    const size_t at = (size_t)(share * (double)(result->latency_count - 1) + 0.5);
    return (double)result->latencies_us[at];
}

size_t
rp_load_hold(const char *address, size_t count, int *descriptors)
{
    struct sockaddr_in to;
    if (parse_address(address, &to, NULL) != RP_OK)
        return 0;
    for (size_t i = 0; i < count; i++)
        if ((descriptors[i] = connect_to(&to)) < 0)
            return i;
    return count;
}

void
rp_load_release(int *descriptors, size_t count)
{
    for (size_t i = 0; i < count; i++)
        close(descriptors[i]);
}
