/* batcher.c - two queues, some workers, whatever waits is encoded together.
 *
 * Fairness: texts of about a batch or more wait in a queue of their own. A worker
 * that finds both kinds takes the kind it did not take last, so that a long text
 * delays a short one by at most one encoding a worker, and a stream of short ones
 * cannot keep a long one waiting for ever either. Within a kind it is first come,
 * first served.
 *
 * A job that waits is in a ring of its queue; both rings together hold at most
 * queue_max. All sizes are known when the batcher is made: nothing is allocated
 * afterwards. */
#include "embed/batcher.h"

#include "base/bytes.h"
#include "base/clock.h"
#include "embed/encoder_internal.h"

#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

enum {
    THREADS_MAX = 16,
    QUEUE_DEFAULT = 1024,
    QUEUE_MAX = 1 << 20,
    TEXTS_MAX = 64, /* texts of one batch: 256 tokens of at least two and usually more */
    KINDS = 2,      /* short and long */
    /* A text's tokens are guessed from its bytes: English has about 4.5 bytes a token;
     * 4 errs on the long side. */
    BYTES_PER_TOKEN = 4,
};

typedef struct waiting_job {
    rp_str text;
    const rp_encoder *encoder;
    int64_t deadline_us, submitted_us;
    rp_batch_done *done;
    void *context;
} waiting_job;

typedef struct job_ring {
    waiting_job *jobs; /* owned, (capacity) */
    size_t head, count;
} job_ring;

struct rp_batcher {
    const rp_encoder *encoder;
    pthread_mutex_t lock; /* guards everything below; a leaf */
    pthread_cond_t some;  /* work waits, or closing */
    job_ring rings[KINDS];
    size_t capacity;
    rp_batch_together *together; /* or NULL; immutable, as its context */
    void *together_context;
    bool closing;
    size_t thread_count;
    pthread_t threads[THREADS_MAX];
    struct batch_worker *workers; /* owned, (thread_count) */
};

typedef struct batch_worker {
    rp_batcher *batcher;
    size_t last_kind;
    size_t count;
    waiting_job jobs[TEXTS_MAX];
    rp_str texts[TEXTS_MAX];
    rp_embedding embeddings[TEXTS_MAX];
    rp_status status[TEXTS_MAX];
    float *storage; /* owned, TEXTS_MAX embeddings */
} batch_worker;

static size_t
guess_tokens(const waiting_job *job)
{
    return job->text.len / BYTES_PER_TOKEN + 2;
}

static size_t
kind_of(const waiting_job *job)
{
    return guess_tokens(job) > RP_BATCH_TOKENS / 2;
}

static waiting_job
take_first(rp_batcher *batcher, size_t kind)
{
    job_ring *ring = &batcher->rings[kind];
    const waiting_job first = ring->jobs[ring->head];
    ring->head = (ring->head + 1) % batcher->capacity;
    ring->count--;
    return first;
}

/* The next batch into worker->jobs; waits for the first. Under the lock. */
static void
take_batch(batch_worker *worker)
{
    rp_batcher *batcher = worker->batcher;
    worker->count = 0;
    while (!batcher->closing && !batcher->rings[0].count && !batcher->rings[1].count)
        pthread_cond_wait(&batcher->some, &batcher->lock);
    size_t kind = !worker->last_kind;
    if (!batcher->rings[kind].count)
        kind = !kind;
    worker->last_kind = kind;
    job_ring *ring = &batcher->rings[kind];
    size_t tokens = 0;
    while (ring->count && worker->count < TEXTS_MAX) {
        /* One encoder a batch: others come with the next. */
        if (worker->count && ring->jobs[ring->head].encoder != worker->jobs[0].encoder)
            break;
        tokens += guess_tokens(&ring->jobs[ring->head]);
        if (worker->count && tokens > RP_BATCH_TOKENS)
            break;
        worker->jobs[worker->count++] = take_first(batcher, kind);
    }
}

static rp_batch_result
result_of(const waiting_job *job, rp_status status, const rp_embedding *embedding,
          int64_t started_us, int64_t encode_us, size_t count)
{
    return (rp_batch_result){
        .status = status,
        .embedding = status ? NULL : embedding,
        .waited_us = started_us - job->submitted_us,
        .encode_us = encode_us,
        .count = count,
    };
}

static void
turn_away(const waiting_job *job, rp_status status, int64_t now_us)
{
    const rp_batch_result result = result_of(job, status, NULL, now_us, 0, 0);
    job->done(job->context, &result);
}

/* Turn away what is too late; the others stay, in order. */
static void
drop_late(batch_worker *worker, int64_t now_us)
{
    size_t kept = 0;
    for (size_t i = 0; i < worker->count; i++) {
        const waiting_job job = worker->jobs[i];
        if (job.deadline_us && job.deadline_us <= now_us)
            turn_away(&job, RP_ERR_TIMEOUT, now_us);
        else
            worker->jobs[kept++] = job;
    }
    worker->count = kept;
}

/* Let those that have an embedding do together what they can. */
static void
join(const batch_worker *worker, const rp_batch_result *results)
{
    const rp_batcher *batcher = worker->batcher;
    void *contexts[TEXTS_MAX];
    rp_batch_result good[TEXTS_MAX];
    size_t count = 0;
    for (size_t i = 0; batcher->together && i < worker->count; i++)
        if (results[i].status == RP_OK) {
            contexts[count] = worker->jobs[i].context;
            good[count++] = results[i];
        }
    if (count > 1)
        batcher->together(batcher->together_context, contexts, good, count);
}

static void
encode_batch(batch_worker *worker)
{
    const int64_t start_us = rp_clock_monotonic_us(&rp_clock_system);
    drop_late(worker, start_us);
    for (size_t i = 0; i < worker->count; i++)
        worker->texts[i] = worker->jobs[i].text;
    if (!worker->count)
        return;
    rp_encoder_embed_windows_many(worker->jobs[0].encoder, worker->texts, worker->count,
                                  worker->storage, worker->embeddings, worker->status);
    const int64_t encode_us = rp_clock_monotonic_us(&rp_clock_system) - start_us;
    rp_batch_result results[TEXTS_MAX];
    for (size_t i = 0; i < worker->count; i++)
        results[i] = result_of(&worker->jobs[i], worker->status[i], &worker->embeddings[i],
                               start_us, encode_us, worker->count);
    join(worker, results);
    for (size_t i = 0; i < worker->count; i++)
        worker->jobs[i].done(worker->jobs[i].context, &results[i]);
}

static void *
work(void *context)
{
    batch_worker *worker = context;
    rp_batcher *batcher = worker->batcher;
    for (;;) {
        pthread_mutex_lock(&batcher->lock);
        const bool closing = (take_batch(worker), batcher->closing);
        pthread_mutex_unlock(&batcher->lock);
        if (closing && !worker->count)
            return NULL;
        if (closing) {
            const int64_t now_us = rp_clock_monotonic_us(&rp_clock_system);
            for (size_t i = 0; i < worker->count; i++)
                turn_away(&worker->jobs[i], RP_ERR_CLOSED, now_us);
        } else {
            encode_batch(worker);
        }
    }
}

static rp_status
start_workers(rp_batcher *batcher, size_t threads, rp_error *error)
{
    const size_t room = TEXTS_MAX * rp_embedding_storage_count(batcher->encoder);
    for (size_t i = 0; i < threads; i++) {
        batch_worker *worker = &batcher->workers[i];
        worker->batcher = batcher;
        worker->storage = malloc(room * sizeof *worker->storage);
        if (!worker->storage)
            return rp_fail(error, RP_ERR_NOMEM, "no memory for the encoder's threads");
        if (pthread_create(&batcher->threads[i], NULL, work, worker)) {
            free(worker->storage);
            worker->storage = NULL;
            return rp_fail(error, RP_ERR_NOMEM, "cannot start %zu threads for the encoder",
                           threads);
        }
        batcher->thread_count++;
    }
    return RP_OK;
}

static size_t
count_cores(void)
{
    const long cores = sysconf(_SC_NPROCESSORS_ONLN);
    return cores < 1 ? 1 : (size_t)cores;
}

rp_status
rp_batcher_new(const rp_encoder *encoder, const rp_batcher_options *options, rp_batcher **out,
               rp_error *error)
{
    static const rp_batcher_options defaults;
    if (!options)
        options = &defaults;
    if (options->queue_max > QUEUE_MAX)
        return rp_fail(error, RP_ERR_LIMIT, "a queue of %zu texts; the limit is %d",
                       options->queue_max, QUEUE_MAX);
    const size_t threads = RP_MIN(options->threads ? options->threads : count_cores(),
                                  (size_t)THREADS_MAX);
    rp_batcher *batcher = calloc(1, sizeof *batcher);
    if (!batcher)
        return rp_fail(error, RP_ERR_NOMEM, "no memory for the encoder's queue");
    batcher->encoder = encoder;
    batcher->together = options->together;
    batcher->together_context = options->together_context;
    batcher->capacity = options->queue_max ? options->queue_max : QUEUE_DEFAULT;
    pthread_mutex_init(&batcher->lock, NULL);
    pthread_cond_init(&batcher->some, NULL);
    for (size_t kind = 0; kind < KINDS; kind++)
        batcher->rings[kind].jobs = calloc(batcher->capacity, sizeof *batcher->rings[kind].jobs);
    batcher->workers = calloc(threads, sizeof *batcher->workers);
    rp_status status = RP_OK;
    if (!batcher->rings[0].jobs || !batcher->rings[1].jobs || !batcher->workers)
        status = rp_fail(error, RP_ERR_NOMEM, "no memory for the encoder's queue");
    else
        status = start_workers(batcher, threads, error);
    if (status) {
        rp_batcher_free(batcher);
        return status;
    }
    *out = batcher;
    return RP_OK;
}

void
rp_batcher_free(rp_batcher *batcher)
{
    if (!batcher)
        return;
    pthread_mutex_lock(&batcher->lock);
    batcher->closing = true;
    pthread_cond_broadcast(&batcher->some);
    pthread_mutex_unlock(&batcher->lock);
    for (size_t i = 0; i < batcher->thread_count; i++) {
        pthread_join(batcher->threads[i], NULL);
        free(batcher->workers[i].storage);
    }
    for (size_t kind = 0; kind < KINDS; kind++)
        free(batcher->rings[kind].jobs);
    free(batcher->workers);
    pthread_cond_destroy(&batcher->some);
    pthread_mutex_destroy(&batcher->lock);
    free(batcher);
}

rp_status
rp_batcher_submit(rp_batcher *batcher, rp_str text, int64_t deadline_us, rp_batch_done *done,
                  void *context)
{
    return rp_batcher_submit_to(batcher, batcher->encoder, text, deadline_us, done, context);
}

rp_status
rp_batcher_submit_to(rp_batcher *batcher, const rp_encoder *encoder, rp_str text,
                     int64_t deadline_us, rp_batch_done *done, void *context)
{
    const waiting_job job = { text, encoder, deadline_us, rp_clock_monotonic_us(&rp_clock_system),
                              done, context };
    rp_status status = RP_OK;
    pthread_mutex_lock(&batcher->lock);
    if (batcher->closing) {
        status = RP_ERR_CLOSED;
    } else if (batcher->rings[0].count + batcher->rings[1].count >= batcher->capacity) {
        status = RP_ERR_BUSY;
    } else {
        job_ring *ring = &batcher->rings[kind_of(&job)];
        ring->jobs[(ring->head + ring->count) % batcher->capacity] = job;
        ring->count++;
    }
    pthread_mutex_unlock(&batcher->lock);
    if (status == RP_OK)
        pthread_cond_signal(&batcher->some);
    return status;
}

size_t
rp_batcher_waiting(rp_batcher *batcher)
{
    pthread_mutex_lock(&batcher->lock);
    const size_t waiting = batcher->rings[0].count + batcher->rings[1].count;
    pthread_mutex_unlock(&batcher->lock);
    return waiting;
}
