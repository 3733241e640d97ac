/* pool.c - see pool.h. */
#include "server/pool.h"
#include "base/queue.h"

#include <pthread.h>
#include <stdlib.h>

typedef struct job {
    rp_loop_call *call;
    void *context;
} job;

struct rp_pool {
    rp_queue *queue; /* of job, each owned by the queue until popped */
    size_t thread_count;
    pthread_t threads[];
};

static void *
run_jobs(void *context)
{
    rp_pool *pool = context;
    void *item;
    pthread_setname_np(pthread_self(), "pool");
    while (rp_queue_pop(pool->queue, &item, 1, -1) == 1) {
        const job work = *(job *)item;
        free(item);
        work.call(work.context);
    }
    return NULL;
}

rp_status
rp_pool_new(size_t threads, size_t queue_max, rp_pool **out, rp_error *error)
{
    rp_pool *pool = calloc(1, sizeof *pool + threads * sizeof pool->threads[0]);
    if (!pool || rp_queue_new(queue_max, &pool->queue) != RP_OK) {
        free(pool);
        return rp_fail(error, RP_ERR_NOMEM, "no memory for a pool of %zu threads", threads);
    }
    for (; pool->thread_count < threads; pool->thread_count++)
        if (pthread_create(&pool->threads[pool->thread_count], NULL, run_jobs, pool) != 0) {
            rp_pool_free(pool);
            return rp_fail(error, RP_ERR_IO, "cannot start a thread of the pool");
        }
    *out = pool;
    return RP_OK;
}

void
rp_pool_free(rp_pool *pool)
{
    if (!pool)
        return;
    rp_queue_close(pool->queue);
    for (size_t i = 0; i < pool->thread_count; i++)
        pthread_join(pool->threads[i], NULL);
    rp_queue_free(pool->queue);
    free(pool);
}

rp_status
rp_pool_submit(rp_pool *pool, rp_loop_call *call, void *context)
{
    job *work = malloc(sizeof *work);
    if (!work)
        return RP_ERR_NOMEM;
    *work = (job){ call, context };
    const rp_status status = rp_queue_push(pool->queue, work);
    if (status != RP_OK)
        free(work);
    return status;
}

size_t
rp_pool_waiting(rp_pool *pool)
{
    return rp_queue_count(pool->queue);
}
