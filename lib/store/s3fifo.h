/* s3fifo.h - which entry goes when a budget of bytes is full.
 *
 * S3-FIFO: Yang, Zhang, Qiu, Yue, Rashmi, "FIFO queues are all you need for cache
 * eviction", SOSP 2023, algorithm 1; here its sizes are bytes. A small queue (10 %
 * of the bytes) takes newcomers, so that what is asked for once leaves soon; what was
 * used twice there moves to the main queue, which gives another round to each use (at
 * most three). A ghost list remembers what the small queue dropped: if that comes
 * back it enters the main queue at once. A hit only counts: no list moves on a read.
 *
 * It keeps places (numbers from 1, chosen by the caller), not entries; the caller
 * evicts what rp_s3fifo_evict names.
 *
 * Threads: the caller holds the lock. */
#ifndef RP_STORE_S3FIFO_H
#define RP_STORE_S3FIFO_H

#include "store/chunks.h"
#include <reprise/status.h>

typedef struct rp_s3fifo_queue {
    uint32_t head, tail; /* newest, oldest; 0: empty */
    uint32_t count;
    uint64_t bytes;
} rp_s3fifo_queue;

typedef struct rp_s3fifo {
    rp_chunks nodes;
    rp_s3fifo_queue small, main;
    uint64_t small_target; /* bytes */
    uint64_t *ghosts;      /* owned (ghost_buckets * 4): low half fingerprint, high half stamp */
    size_t ghost_buckets;  /* a power of two, or 0 */
    uint32_t ghost_stamp;
} rp_s3fifo;

/* False: no memory. Places 1..count_max. */
bool rp_s3fifo_init(rp_s3fifo *fifo, uint64_t budget_bytes, size_t count_max);
void rp_s3fifo_fini(rp_s3fifo *fifo);
void rp_s3fifo_set_budget(rp_s3fifo *fifo, uint64_t budget_bytes);
/* Make room for places 1..count; afterwards rp_s3fifo_insert of them cannot fail. */
bool rp_s3fifo_reserve(rp_s3fifo *fifo, size_t count);

/* Put a place in, as a newcomer; `hash` says whom it holds, for the ghost list. */
void rp_s3fifo_insert(rp_s3fifo *fifo, uint32_t place, uint32_t size, uint64_t hash);
/* The same, straight into the main queue: for what was there before a restart. */
void rp_s3fifo_insert_main(rp_s3fifo *fifo, uint32_t place, uint32_t size);
/* Take it out, if it is in. */
void rp_s3fifo_remove(rp_s3fifo *fifo, uint32_t place);
/* Count a use. */
void rp_s3fifo_touch(rp_s3fifo *fifo, uint32_t place);
/* Choose the next to go and take it out; 0: nothing is in. hash_of tells the ghost
 * list whom the place holds. */
typedef uint64_t rp_s3fifo_hash_of(void *context, uint32_t place);
uint32_t rp_s3fifo_evict(rp_s3fifo *fifo, rp_s3fifo_hash_of *hash_of, void *context);
/* Uses counted since it was last passed over, 0..3. */
unsigned rp_s3fifo_uses(const rp_s3fifo *fifo, uint32_t place);
void rp_s3fifo_uses_set(rp_s3fifo *fifo, uint32_t place, unsigned uses);

static inline uint64_t
rp_s3fifo_bytes(const rp_s3fifo *fifo)
{
    return fifo->small.bytes + fifo->main.bytes;
}
size_t rp_s3fifo_size_bytes(const rp_s3fifo *fifo); /* heap held */

#endif
