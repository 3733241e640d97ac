/* queue.h - bounded hand-over of work between threads.
 *
 * Many producers, many consumers, first in first out. A full queue refuses
 * (RP_ERR_BUSY) instead of growing or blocking: the caller then takes its other
 * way, which in the request path is a miss.
 *
 * Threads: safe because it locks inside; a leaf: no other lock is taken under it. */
#ifndef RP_BASE_QUEUE_H
#define RP_BASE_QUEUE_H

#include <reprise/status.h>
#include <reprise/types.h>

typedef struct rp_queue rp_queue;

/* Fails: RP_ERR_INVALID (capacity 0), RP_ERR_NOMEM. */
RP_NODISCARD rp_status rp_queue_new(size_t capacity, rp_queue **out);
/* Frees the queue, not what is still in it: drain first. NULL is fine. */
void rp_queue_free(rp_queue *queue);

/* Never blocks. Fails: RP_ERR_BUSY (full), RP_ERR_CLOSED. */
RP_NODISCARD rp_status rp_queue_push(rp_queue *queue, void *item);
/* Take up to `max` items, waiting at most timeout_us for the first (negative:
 * for ever, 0: not at all). Returns how many; 0 on time-out, or closed and empty. */
size_t rp_queue_pop(rp_queue *queue, void **items, size_t max, int64_t timeout_us);
/* No more pushes; consumers get what is left, then 0 at once. */
void rp_queue_close(rp_queue *queue);
bool rp_queue_is_closed(rp_queue *queue);
size_t rp_queue_count(rp_queue *queue);

#endif
