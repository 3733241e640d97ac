/* queue.c - see queue.h. A ring under one mutex: at our rates (tens of thousands
 * of items a second) the wake-up costs more than the lock. */
#include "base/queue.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

struct rp_queue {
    pthread_mutex_t lock;
    pthread_cond_t filled;
    size_t head, count, capacity;
    bool closed;
    void *items[];
};

rp_status
rp_queue_new(size_t capacity, rp_queue **out)
{
    if (capacity == 0 || capacity > (SIZE_MAX - sizeof(rp_queue)) / sizeof(void *))
        return RP_ERR_INVALID;
    rp_queue *queue = calloc(1, sizeof *queue + capacity * sizeof queue->items[0]);
    if (!queue)
        return RP_ERR_NOMEM;
    queue->capacity = capacity;
    pthread_mutex_init(&queue->lock, NULL);
    pthread_condattr_t attributes;
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&queue->filled, &attributes);
    pthread_condattr_destroy(&attributes);
    *out = queue;
    return RP_OK;
}

void
rp_queue_free(rp_queue *queue)
{
    if (!queue)
        return;
    pthread_cond_destroy(&queue->filled);
    pthread_mutex_destroy(&queue->lock);
    free(queue);
}

rp_status
rp_queue_push(rp_queue *queue, void *item)
{
    rp_status status = RP_OK;
    pthread_mutex_lock(&queue->lock);
    if (queue->closed)
        status = RP_ERR_CLOSED;
    else if (queue->count == queue->capacity)
        status = RP_ERR_BUSY;
    else
        queue->items[(queue->head + queue->count++) % queue->capacity] = item;
    pthread_mutex_unlock(&queue->lock);
    if (status == RP_OK)
        pthread_cond_signal(&queue->filled);
    return status;
}

static struct timespec
deadline_after(int64_t timeout_us)
{
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    at.tv_sec += timeout_us / 1000000;
    at.tv_nsec += timeout_us % 1000000 * 1000;
    if (at.tv_nsec >= 1000000000) {
        at.tv_sec++;
        at.tv_nsec -= 1000000000;
    }
    return at;
}

size_t
rp_queue_pop(rp_queue *queue, void **items, size_t max, int64_t timeout_us)
{
    struct timespec deadline = { 0 };
    if (timeout_us > 0)
        deadline = deadline_after(timeout_us);
    size_t taken = 0;
    pthread_mutex_lock(&queue->lock);
    while (queue->count == 0 && !queue->closed && timeout_us != 0) {
        if (timeout_us < 0)
            pthread_cond_wait(&queue->filled, &queue->lock);
        else if (pthread_cond_timedwait(&queue->filled, &queue->lock, &deadline) == ETIMEDOUT)
            break;
    }
    while (taken < max && queue->count) {
        items[taken++] = queue->items[queue->head];
        queue->head = (queue->head + 1) % queue->capacity;
        queue->count--;
    }
    pthread_mutex_unlock(&queue->lock);
    return taken;
}

void
rp_queue_close(rp_queue *queue)
{
    pthread_mutex_lock(&queue->lock);
    queue->closed = true;
    pthread_mutex_unlock(&queue->lock);
    pthread_cond_broadcast(&queue->filled);
}

bool
rp_queue_is_closed(rp_queue *queue)
{
    pthread_mutex_lock(&queue->lock);
    const bool closed = queue->closed;
    pthread_mutex_unlock(&queue->lock);
    return closed;
}

size_t
rp_queue_count(rp_queue *queue)
{
    pthread_mutex_lock(&queue->lock);
    const size_t count = queue->count;
    pthread_mutex_unlock(&queue->lock);
    return count;
}
