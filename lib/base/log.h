/* log.h - what the operator reads.
 *
 * One line an event, on stderr: time, level, text; on a terminal for people,
 * otherwise the same as JSON when rp_log_set_json(true). The library proper
 * does not log: only lib/cache's caller, server/ and tools/ do.
 * Prompts, replies and credentials never go in.
 *
 * Threads: safe; each line is one write. */
#ifndef RP_BASE_LOG_H
#define RP_BASE_LOG_H

#include <reprise/types.h>

typedef enum rp_log_level { RP_LOG_DEBUG, RP_LOG_INFO, RP_LOG_WARNING, RP_LOG_ERROR } rp_log_level;

void rp_log_set_level(rp_log_level level_min); /* default RP_LOG_INFO */
void rp_log_set_json(bool json);
void rp_log(rp_log_level level, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* "Once in a while": true at most once per period_us for one static gate, which
 * also counts what was held back since. */
typedef struct rp_log_gate {
    int64_t next_us;       /* atomic */
    uint64_t suppressed;   /* atomic */
} rp_log_gate;
bool rp_log_gate_open(rp_log_gate *gate, int64_t now_us, int64_t period_us, uint64_t *suppressed);

#endif
