/* native.h - the calls under /v1/reprise/: lookup, store, explain, feedback, invalidate,
 * flush, stats. The client listener runs them for the caller's own tenant, the admin
 * listener for any. Shapes: docs/protocol.md, "Native calls".
 *
 * Threads: rp_native_run blocks (pool threads only); a call is used by one thread at
 *          a time. */
#ifndef RP_SERVER_NATIVE_H
#define RP_SERVER_NATIVE_H

#include "server/server_internal.h"

typedef struct rp_native_call {
    /* Set by the listener. Strings are borrowed and live until the call was answered. */
    rp_server *server;
    rp_site *site;                  /* borrowed */
    bool is_admin;                  /* may name any tenant, or none where all are meant */
    rp_str tenant;                  /* of a client; empty for an admin */
    rp_identity identity;           /* of a client; its strings are not used */
    const rp_client_headers *headers;
    rp_str name;                    /* "lookup" ... */
    bool is_post, is_get; /* HEAD is a GET; both false: any other method */
    rp_str body;

    /* The answer. */
    int status;
    const char *allow; /* with a 405, else NULL */
    rp_buffer reply; /* JSON; owned: rp_buffer_init before, rp_buffer_fini after */
} rp_native_call;

/* Answer the call; every failure is an answer too. */
void rp_native_run(rp_native_call *call);
/* Copy the call, run it on the pool, and come back to `loop` with its answer, which is
 * lent for `done`. Fails: RP_ERR_BUSY, RP_ERR_NOMEM; then `done` never runs. */
typedef void rp_native_done(void *context, const rp_native_call *call);
RP_NODISCARD rp_status rp_native_start(const rp_native_call *call, rp_loop *loop,
                                       rp_native_done *done, void *context);
/* An error object in the native shape: {"error":{"message","type"}}. */
void rp_native_fail(rp_native_call *call, int status, const char *message);

#endif
