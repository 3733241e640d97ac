/* pool.h - a few threads for what may block: replies that lie on disk, embeddings
 * made after the fact, learning.
 *
 * Threads: submit from any thread; calls run on pool threads, several at a time. */
#ifndef RP_SERVER_POOL_H
#define RP_SERVER_POOL_H

#include "net/loop.h" /* rp_loop_call */
#include <reprise/status.h>

typedef struct rp_pool rp_pool;

RP_NODISCARD rp_status rp_pool_new(size_t threads, size_t queue_max, rp_pool **out,
                                   rp_error *error);
/* Runs what was submitted, then joins the threads. NULL is fine. */
void rp_pool_free(rp_pool *pool);
/* Run call(context) soon. Fails: RP_ERR_BUSY (queue full), RP_ERR_CLOSED, RP_ERR_NOMEM;
 * then it never runs. */
RP_NODISCARD rp_status rp_pool_submit(rp_pool *pool, rp_loop_call *call, void *context);
size_t rp_pool_waiting(rp_pool *pool);

#endif
