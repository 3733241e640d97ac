/* access_log.h - one JSON line a request.
 *
 * Lines are collected in memory and written by a thread of their own, so that a
 * slow disk or a full pipe never holds up a loop; what does not fit into the
 * bound is dropped and counted. Prompts, replies and credentials never go in.
 *
 * Threads: safe; the lock inside is a leaf and held for one copy of a line. */
#ifndef RP_SERVER_ACCESS_LOG_H
#define RP_SERVER_ACCESS_LOG_H

#include "server/headers.h"
#include "server/metrics.h"

typedef struct rp_access_log rp_access_log;

/* `where`: "stdout", "off", or a file that is appended to. Fails: RP_ERR_IO. */
RP_NODISCARD rp_status rp_access_log_new(const char *where, rp_metrics *metrics,
                                         rp_access_log **out, rp_error *error);
/* Writes what waits. NULL is fine. */
void rp_access_log_free(rp_access_log *log);
/* Open the file again (after it was rotated). From any thread. */
void rp_access_log_reopen(rp_access_log *log);

typedef struct rp_access_record {
    rp_time time;
    const char *request_id, *route, *api;
    rp_str tenant, method, path, client_address;
    rp_outcome_kind kind;
    rp_tier tier;
    const char *reason;
    double similarity; /* NaN: none */
    const char *entry; /* outside id or "" */
    bool stream, collapsed, client_gone;
    int status, upstream_status;  /* upstream 0: not asked */
    /* By stage; 0: it did not happen, or took less than one. */
    int64_t total_us, parse_us, exact_us, embed_us, search_us, load_us, gate_us, policy_us, verify_us,
        judge_us, replay_us;
    int64_t upstream_first_us;    /* until its first byte; 0: not asked */
    uint64_t bytes_in, bytes_out; /* of bodies */
} rp_access_record;

bool rp_access_log_is_on(const rp_access_log *log);
/* `scratch` is the calling thread's, for building the line. */
void rp_access_log_write(rp_access_log *log, const rp_access_record *record, rp_buffer *scratch);
/* The line alone, with its LF; for tests. */
void rp_access_record_format(const rp_access_record *record, rp_buffer *out);

#endif
