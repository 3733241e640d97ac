/* dead.h - services that are down or break off, on this machine, and how long a client that
 * asks them itself waits until it knows. For benchmarks.
 *
 * Threads: each rp_dead has one of its own; used by one other at a time. */
#ifndef RP_TOOLS_DEAD_H
#define RP_TOOLS_DEAD_H

#include <reprise/status.h>
#include <reprise/types.h>

#include <pthread.h>

typedef enum rp_dead_kind {
    RP_DEAD_REFUSES, /* nobody listens */
    RP_DEAD_CLOSES,  /* takes the connection and a request, and closes */
    RP_DEAD_RESETS,  /* likewise, in the middle of the reply's head, with a reset */
} rp_dead_kind;

typedef struct rp_dead {
    rp_dead_kind kind;
    char address[32]; /* "127.0.0.1:4711" */
    int fd;
    bool runs;
    pthread_t thread;
} rp_dead;

RP_NODISCARD rp_status rp_dead_start(rp_dead *dead, rp_dead_kind kind, rp_error *error);
void rp_dead_stop(rp_dead *dead);

/* Connect, send, read until it ends, as a client without a proxy would. Microseconds. */
double rp_dead_ask(const rp_dead *dead, rp_str request);

#endif
