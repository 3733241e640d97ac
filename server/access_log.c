/* access_log.c - see access_log.h. */
#include "server/access_log.h"
#include "base/bytes.h"
#include "base/clock.h"
#include "base/log.h"
#include "json/json.h"

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum {
    WAITING_MAX = 4 << 20,    /* bytes of lines in memory; a guess: 20,000 lines */
    WRITE_EVERY_MS = 100,     /* a guess: late enough to batch, soon enough for tail -f */
    WAKE_AT = 256 << 10,      /* bytes that wake the writer early */
};

struct rp_access_log {
    rp_metrics *metrics; /* borrowed */
    char *path;          /* owned; NULL: stdout */
    bool is_on;
    int fd;
    pthread_t thread;
    bool has_thread;
    atomic_bool reopen; /* partner: run_writer */
    pthread_mutex_t lock;
    pthread_cond_t filled;
    rp_buffer waiting; /* under lock */
    bool stopping;     /* under lock */
};

static int
open_file(const char *path)
{
    return open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0640);
}

static void
write_all(rp_access_log *log, const char *at, size_t size)
{
    while (size) {
        const ssize_t n = write(log->fd, at, size);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0) {
            static rp_log_gate gate;
            uint64_t suppressed;
            if (rp_log_gate_open(&gate, rp_monotonic_ns() / 1000, 60000000, &suppressed))
                rp_log(RP_LOG_ERROR, "access log: cannot write: %s", strerror(errno));
            rp_metrics_add(log->metrics, RP_SUM_LOG_LINES_DROPPED, 1);
            return;
        }
        at += n;
        size -= (size_t)n;
    }
}

static void
reopen_if_asked(rp_access_log *log)
{
    if (!atomic_exchange(&log->reopen, false) || !log->path)
        return;
    const int fd = open_file(log->path);
    if (fd < 0) {
        rp_log(RP_LOG_ERROR, "access log: cannot open %s again: %s", log->path, strerror(errno));
        return;
    }
    close(log->fd);
    log->fd = fd;
}

static void *
run_writer(void *context)
{
    rp_access_log *log = context;
    rp_buffer writing;
    rp_buffer_init(&writing, 0);
    pthread_setname_np(pthread_self(), "access-log");
    for (bool stopping = false; !stopping;) {
        pthread_mutex_lock(&log->lock);
        if (!log->stopping && log->waiting.len < WAKE_AT) {
            struct timespec until;
            clock_gettime(CLOCK_MONOTONIC, &until);
            until.tv_nsec += WRITE_EVERY_MS * 1000000L;
            until.tv_sec += until.tv_nsec / 1000000000L;
            until.tv_nsec %= 1000000000L;
            pthread_cond_timedwait(&log->filled, &log->lock, &until);
        }
        stopping = log->stopping;
        const rp_buffer swap = log->waiting;
        log->waiting = writing;
        writing = swap;
        pthread_mutex_unlock(&log->lock);

        reopen_if_asked(log);
        write_all(log, writing.ptr, writing.len);
        rp_buffer_clear(&writing);
    }
    rp_buffer_fini(&writing);
    return NULL;
}

rp_status
rp_access_log_new(const char *where, rp_metrics *metrics, rp_access_log **out, rp_error *error)
{
    rp_access_log *log = calloc(1, sizeof *log);
    if (!log)
        return rp_fail(error, RP_ERR_NOMEM, "no memory for the access log");
    log->metrics = metrics;
    log->fd = -1;
    pthread_mutex_init(&log->lock, NULL);
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&log->filled, &attributes);
    pthread_condattr_destroy(&attributes);
    rp_buffer_init(&log->waiting, 0);
    log->is_on = strcmp(where, "off") != 0;
    if (log->is_on && strcmp(where, "stdout") != 0) {
        log->path = strdup(where);
        log->fd = open_file(where);
    } else if (log->is_on) {
        log->fd = dup(STDOUT_FILENO);
    }
    rp_status status = RP_OK;
    if (log->is_on && log->fd < 0)
        status = rp_fail(error, RP_ERR_IO, "access_log: cannot open %s: %s", where,
                         strerror(errno));
    else if (log->is_on && pthread_create(&log->thread, NULL, run_writer, log) != 0)
        status = rp_fail(error, RP_ERR_IO, "cannot start the thread of the access log");
    else
        log->has_thread = log->is_on;
    if (status != RP_OK) {
        rp_access_log_free(log);
        return status;
    }
    *out = log;
    return RP_OK;
}

void
rp_access_log_free(rp_access_log *log)
{
    if (!log)
        return;
    if (log->has_thread) {
        pthread_mutex_lock(&log->lock);
        log->stopping = true;
        pthread_cond_signal(&log->filled);
        pthread_mutex_unlock(&log->lock);
        pthread_join(log->thread, NULL);
    }
    if (log->fd >= 0)
        close(log->fd);
    rp_buffer_fini(&log->waiting);
    pthread_cond_destroy(&log->filled);
    pthread_mutex_destroy(&log->lock);
    free(log->path);
    free(log);
}

void
rp_access_log_reopen(rp_access_log *log)
{
    if (log)
        atomic_store(&log->reopen, true);
}

bool
rp_access_log_is_on(const rp_access_log *log)
{
    return log && log->is_on;
}

/* "2026-01-31T12:00:00.123Z". gmtime_r costs 0.2 us, so the second is kept. */
static void
put_time(rp_buffer *out, rp_time time_us)
{
    static _Thread_local time_t second_kept = -1;
    static _Thread_local char kept[24];
    const time_t second = (time_t)(time_us / 1000000);
    if (second != second_kept) {
        struct tm parts;
        gmtime_r(&second, &parts);
        strftime(kept, sizeof kept, "%Y-%m-%dT%H:%M:%S", &parts);
        second_kept = second;
    }
    const unsigned ms = (unsigned)(time_us / 1000 % 1000);
    const char tail[] = { '.', (char)('0' + ms / 100), (char)('0' + ms / 10 % 10),
                          (char)('0' + ms % 10), 'Z' };
    rp_buffer_append(out, rp_str_of(kept));
    rp_buffer_append(out, (rp_str){ tail, sizeof tail });
}

static void
put_number(rp_json_writer *writer, const char *name, int64_t value)
{
    if (value <= 0)
        return;
    rp_json_key(writer, name);
    rp_json_put_int(writer, value);
}

static void
put_text(rp_json_writer *writer, const char *name, rp_str value)
{
    if (value.len == 0)
        return;
    rp_json_key(writer, name);
    rp_json_put_string(writer, value);
}

void
rp_access_record_format(const rp_access_record *record, rp_buffer *out)
{
    rp_buffer_append(out, RP_STR("{\"time\":\""));
    put_time(out, record->time);
    rp_buffer_append_char(out, '"');
    rp_json_writer writer;
    rp_json_writer_init(&writer, out);
    writer.comma = true;
    put_text(&writer, "request", rp_str_of(record->request_id));
    put_text(&writer, "client", record->client_address);
    put_text(&writer, "method", record->method);
    put_text(&writer, "path", record->path);
    put_text(&writer, "route", rp_str_of(record->route));
    put_text(&writer, "tenant", record->tenant);
    put_text(&writer, "api", rp_str_of(record->api));
    put_text(&writer, "outcome", rp_str_of(rp_outcome_kind_name(record->kind)));
    if (record->tier != RP_TIER_NONE)
        put_text(&writer, "tier", rp_str_of(rp_tier_label(record->tier)));
    put_text(&writer, "reason", rp_str_of(record->reason));
    if (isfinite(record->similarity)) {
        rp_json_key(&writer, "similarity");
        char text[16];
        snprintf(text, sizeof text, "%.4f", record->similarity);
        rp_json_put_raw(&writer, rp_str_of(text));
    }
    put_text(&writer, "entry", rp_str_of(record->entry));
    rp_json_key(&writer, "status");
    rp_json_put_int(&writer, record->status);
    put_number(&writer, "upstream_status", record->upstream_status);
    if (record->stream) {
        rp_json_key(&writer, "stream");
        rp_json_put_bool(&writer, true);
    }
    if (record->collapsed) {
        rp_json_key(&writer, "collapsed");
        rp_json_put_bool(&writer, true);
    }
    if (record->client_gone) {
        rp_json_key(&writer, "client_gone");
        rp_json_put_bool(&writer, true);
    }
    rp_json_key(&writer, "us");
    rp_json_put_int(&writer, record->total_us);
    put_number(&writer, "parse_us", record->parse_us);
    put_number(&writer, "exact_us", record->exact_us);
    put_number(&writer, "embed_us", record->embed_us);
    put_number(&writer, "search_us", record->search_us);
    put_number(&writer, "load_us", record->load_us);
    put_number(&writer, "gate_us", record->gate_us);
    put_number(&writer, "policy_us", record->policy_us);
    put_number(&writer, "verify_us", record->verify_us);
    put_number(&writer, "judge_us", record->judge_us);
    put_number(&writer, "replay_us", record->replay_us);
    put_number(&writer, "upstream_first_us", record->upstream_first_us);
    put_number(&writer, "bytes_in", (int64_t)record->bytes_in);
    put_number(&writer, "bytes_out", (int64_t)record->bytes_out);
    rp_buffer_append(out, RP_STR("}\n"));
}

void
rp_access_log_write(rp_access_log *log, const rp_access_record *record, rp_buffer *scratch)
{
    if (!rp_access_log_is_on(log))
        return;
    rp_buffer_clear(scratch);
    rp_access_record_format(record, scratch);
    if (rp_buffer_failed(scratch))
        return;
    const rp_str line = rp_buffer_str(scratch);

    bool dropped = false, wake = false;
    pthread_mutex_lock(&log->lock);
    if (log->waiting.len + line.len > WAITING_MAX) {
        dropped = true;
    } else {
        rp_buffer_append(&log->waiting, line);
        wake = log->waiting.len >= WAKE_AT && log->waiting.len - line.len < WAKE_AT;
    }
    pthread_mutex_unlock(&log->lock);
    if (wake)
        pthread_cond_signal(&log->filled);
    if (dropped)
        rp_metrics_add(log->metrics, RP_SUM_LOG_LINES_DROPPED, 1);
}
