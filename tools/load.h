/* load.h - a small load generator for benchmarks: keep-alive connections to a server on
 * this machine, each sending one request after the other and reading the whole reply.
 *
 * One thread, epoll, no allocation per request, so that the client costs little beside
 * what it measures. Loopback only; bounded in count and time.
 *
 * Threads: one call at a time a process. */
#ifndef RP_TOOLS_LOAD_H
#define RP_TOOLS_LOAD_H

#include <reprise/status.h>
#include <reprise/types.h>

typedef struct rp_load {
    const char *address;      /* "127.0.0.1:8080" */
    const rp_str *requests;   /* whole requests, sent in turn */
    size_t request_count;
    size_t connections;       /* 1: one after the other, for latencies */
    uint64_t count_max;       /* replies; 0: none */
    int64_t time_max_us;      /* at most this long */
} rp_load;

typedef struct rp_load_result {
    uint64_t replies, failed; /* failed: a status of 400 or more, or a broken reply */
    uint64_t hits_exact, hits_semantic; /* by X-Reprise-Cache-Tier */
    uint64_t body_bytes;
    double seconds;
    float *latencies_us;      /* (replies, at most 1,000,000), sorted; owned: free() */
    size_t latency_count;
} rp_load_result;

/* Fails: RP_ERR_INVALID (not a loopback address), RP_ERR_IO (no connection). */
RP_NODISCARD rp_status rp_load_run(const rp_load *load, rp_load_result *out, rp_error *error);
/* Put the latencies in order again, after several results were joined. */
void rp_load_sort(rp_load_result *result);
/* The latency that a share of the replies did not pass; NaN without replies. */
double rp_load_quantile(const rp_load_result *result, double share);

/* Open `count` connections that send nothing; returns how many. Close with rp_load_release. */
size_t rp_load_hold(const char *address, size_t count, int *descriptors);
void rp_load_release(int *descriptors, size_t count);

#endif
