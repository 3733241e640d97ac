/* s3fifo.c - see s3fifo.h.
 *
 * Departures from the paper: the ghost list is a table of 4-way buckets with stamps
 * instead of a third queue (the authors' own implementation does the same), of as
 * many entries as the main queue holds, at least 1024; "full" is for the caller to
 * know, so nothing is evicted on insertion. */
#include "store/s3fifo.h"
#include "base/bytes.h"

enum {
    USES_MAX = 3,      /* from the paper: two bits */
    USES_TO_MAIN = 2,  /* from the paper: "accessed more than once" in the small queue */
    SMALL_PERCENT = 10, /* from the paper */
    GHOST_WAYS = 4,    /* a guess */
    GHOST_BUCKETS_MIN = 256,
    GHOST_BUCKETS_MAX = 1 << 20,
};

typedef enum place_state { PLACE_OUT, PLACE_SMALL, PLACE_MAIN } place_state;

typedef struct node {
    uint32_t newer, older; /* 0: none */
    uint32_t size;
    uint8_t state;         /* place_state */
    uint8_t uses;
} node;

static node *
node_at(const rp_s3fifo *fifo, uint32_t place)
{
    return rp_chunks_at(&fifo->nodes, place);
}

bool
rp_s3fifo_init(rp_s3fifo *fifo, uint64_t budget_bytes, size_t count_max)
{
    *fifo = (rp_s3fifo){ 0 };
    rp_s3fifo_set_budget(fifo, budget_bytes);
    return rp_chunks_init(&fifo->nodes, sizeof(node), count_max + 1);
}

void
rp_s3fifo_fini(rp_s3fifo *fifo)
{
    rp_chunks_fini(&fifo->nodes);
    free(fifo->ghosts);
    *fifo = (rp_s3fifo){ 0 };
}

void
rp_s3fifo_set_budget(rp_s3fifo *fifo, uint64_t budget_bytes)
{
    fifo->small_target = budget_bytes / 100 * SMALL_PERCENT;
}

bool
rp_s3fifo_reserve(rp_s3fifo *fifo, size_t count)
{
    return rp_chunks_reserve(&fifo->nodes, count + 1);
}

static void
push(rp_s3fifo *fifo, rp_s3fifo_queue *queue, uint32_t place, place_state state)
{
    node *at = node_at(fifo, place);
    at->newer = 0;
    at->older = queue->head;
    at->state = (uint8_t)state;
    if (queue->head)
        node_at(fifo, queue->head)->newer = place;
    else
        queue->tail = place;
    queue->head = place;
    queue->count++;
    queue->bytes += at->size;
}

static void
unlink_place(rp_s3fifo *fifo, uint32_t place)
{
    node *at = node_at(fifo, place);
    rp_s3fifo_queue *queue = at->state == PLACE_SMALL ? &fifo->small : &fifo->main;
    if (at->newer)
        node_at(fifo, at->newer)->older = at->older;
    else
        queue->head = at->older;
    if (at->older)
        node_at(fifo, at->older)->newer = at->newer;
    else
        queue->tail = at->newer;
    queue->count--;
    queue->bytes -= at->size;
    at->state = PLACE_OUT;
}

/* ---- ghosts ----------------------------------------------------------------- */

static uint64_t *
bucket_of(uint64_t *ghosts, size_t buckets, uint32_t fingerprint)
{
    return ghosts + (fingerprint & (buckets - 1)) * GHOST_WAYS;
}

/* How many drops ago a ghost was made; a free place is older than all. */
static uint32_t
age_of(const rp_s3fifo *fifo, uint64_t ghost)
{
    return ghost ? fifo->ghost_stamp - (uint32_t)(ghost >> 32) : UINT32_MAX;
}

static void
put_ghost(const rp_s3fifo *fifo, uint64_t *ghosts, size_t buckets, uint64_t ghost)
{
    uint64_t *bucket = bucket_of(ghosts, buckets, (uint32_t)ghost);
    uint64_t *oldest = bucket;
    for (int i = 0; i < GHOST_WAYS; i++) {
        if ((uint32_t)bucket[i] == (uint32_t)ghost) {
            oldest = &bucket[i];
            break;
        }
        if (age_of(fifo, bucket[i]) > age_of(fifo, *oldest))
            oldest = &bucket[i];
    }
    *oldest = ghost;
}

/* Keep the table at least as large as the main queue. Without memory it stays as it
 * is: the list forgets sooner, nothing else. */
static void
fit_ghosts(rp_s3fifo *fifo)
{
    if (fifo->ghost_buckets == GHOST_BUCKETS_MAX ||
        (fifo->ghost_buckets && fifo->ghost_buckets * GHOST_WAYS >= fifo->main.count))
        return;
    const size_t buckets = fifo->ghost_buckets ? fifo->ghost_buckets * 2 : GHOST_BUCKETS_MIN;
    uint64_t *ghosts = calloc(buckets * GHOST_WAYS, sizeof *ghosts);
    if (!ghosts)
        return;
    for (size_t i = 0; i < fifo->ghost_buckets * GHOST_WAYS; i++)
        if (fifo->ghosts[i])
            put_ghost(fifo, ghosts, buckets, fifo->ghosts[i]);
    free(fifo->ghosts);
    fifo->ghosts = ghosts;
    fifo->ghost_buckets = buckets;
}

static void
remember(rp_s3fifo *fifo, uint64_t hash)
{
    fit_ghosts(fifo);
    if (!fifo->ghost_buckets)
        return;
    fifo->ghost_stamp++;
    const uint64_t ghost = (uint64_t)fifo->ghost_stamp << 32 | (uint32_t)hash;
    put_ghost(fifo, fifo->ghosts, fifo->ghost_buckets, ghost);
}

/* Was it dropped lately? It is asked once: then it lives again. */
static bool
take_ghost(rp_s3fifo *fifo, uint64_t hash)
{
    if (!fifo->ghost_buckets)
        return false;
    uint64_t *bucket = bucket_of(fifo->ghosts, fifo->ghost_buckets, (uint32_t)hash);
    const uint32_t age_max = RP_MAX(fifo->main.count, 1024u);
    for (int i = 0; i < GHOST_WAYS; i++) {
        if (bucket[i] && (uint32_t)bucket[i] == (uint32_t)hash) {
            const bool fresh = age_of(fifo, bucket[i]) < age_max;
            bucket[i] = 0;
            return fresh;
        }
    }
    return false;
}

/* ---- queues ----------------------------------------------------------------- */

void
rp_s3fifo_insert(rp_s3fifo *fifo, uint32_t place, uint32_t size, uint64_t hash)
{
    node *at = node_at(fifo, place);
    assert(at->state == PLACE_OUT);
    at->size = size;
    at->uses = 0;
    if (take_ghost(fifo, hash))
        push(fifo, &fifo->main, place, PLACE_MAIN);
    else
        push(fifo, &fifo->small, place, PLACE_SMALL);
}

void
rp_s3fifo_insert_main(rp_s3fifo *fifo, uint32_t place, uint32_t size)
{
    node *at = node_at(fifo, place);
    assert(at->state == PLACE_OUT);
    at->size = size;
    at->uses = 0;
    push(fifo, &fifo->main, place, PLACE_MAIN);
}

void
rp_s3fifo_remove(rp_s3fifo *fifo, uint32_t place)
{
    if (node_at(fifo, place)->state != PLACE_OUT)
        unlink_place(fifo, place);
}

void
rp_s3fifo_touch(rp_s3fifo *fifo, uint32_t place)
{
    node *at = node_at(fifo, place);
    if (at->uses < USES_MAX)
        at->uses++;
}

unsigned
rp_s3fifo_uses(const rp_s3fifo *fifo, uint32_t place)
{
    return node_at(fifo, place)->uses;
}

void
rp_s3fifo_uses_set(rp_s3fifo *fifo, uint32_t place, unsigned uses)
{
    node_at(fifo, place)->uses = (uint8_t)RP_MIN(uses, (unsigned)USES_MAX);
}

uint32_t
rp_s3fifo_evict(rp_s3fifo *fifo, rp_s3fifo_hash_of *hash_of, void *context)
{
    /* Each step evicts, moves a place from small to main, or takes one use away, so
     * this ends. */
    for (;;) {
        const bool from_small =
            fifo->small.count && (fifo->small.bytes > fifo->small_target || !fifo->main.count);
        const uint32_t place = from_small ? fifo->small.tail : fifo->main.tail;
        if (!place)
            return 0;
        node *at = node_at(fifo, place);
        unlink_place(fifo, place);
        if (from_small && at->uses >= USES_TO_MAIN) {
            at->uses = 0;
            push(fifo, &fifo->main, place, PLACE_MAIN);
        } else if (from_small) {
            remember(fifo, hash_of(context, place));
            return place;
        } else if (at->uses) {
            at->uses--;
            push(fifo, &fifo->main, place, PLACE_MAIN);
        } else {
            return place;
        }
    }
}

size_t
rp_s3fifo_size_bytes(const rp_s3fifo *fifo)
{
    return rp_chunks_size_bytes(&fifo->nodes) +
           fifo->ghost_buckets * GHOST_WAYS * sizeof fifo->ghosts[0];
}
