/* batcher.h - many requests, one encoder, no waiting for company.
 *
 * Worker threads take whatever texts wait at that moment, encode them together
 * (up to about 256 tokens a batch, shorter texts first come first served), and
 * call back on the worker thread, which may go on to search and decide there:
 * one hop from the loop and one back. A lone request starts at once.
 *
 * Errors:  the queue is bounded; when it is full, or a deadline passes before
 *          encoding began, the caller gets RP_ERR_BUSY or RP_ERR_TIMEOUT and
 *          bypasses the cache.
 * Threads: submit from any thread; callbacks run on worker threads, never
 *          inside submit. */
#ifndef RP_EMBED_BATCHER_H
#define RP_EMBED_BATCHER_H

#include <reprise/embed.h>

typedef struct rp_batcher rp_batcher;


/* embedding is NULL unless status is RP_OK, and is lent for the call.
 * waited_us: from submit to the start of encoding; encode_us: this batch's time. */
typedef struct rp_batch_result {
    rp_status status;
    const rp_embedding *embedding;
    int64_t waited_us, encode_us;
    size_t count; /* texts of the batch, this one included; 0: none was encoded */
} rp_batch_result;
typedef void rp_batch_done(void *context, const rp_batch_result *result);
/* What several texts of one batch may do together, before the first of them is answered: the
 * contexts and results of those that have an embedding, at least two. */
typedef void rp_batch_together(void *context, void *const *contexts,
                               const rp_batch_result *results, size_t count);

typedef struct rp_batcher_options {
    size_t threads;   /* workers; 0: one a core, at most 16 */
    size_t queue_max; /* texts waiting at most; 0: 1024 */
    rp_batch_together *together; /* NULL: nothing */
    void *together_context;
} rp_batcher_options;

/* `encoder` is borrowed until rp_batcher_free; others of its shape (adapters) may come with
 * a text. */
RP_NODISCARD rp_status rp_batcher_new(const rp_encoder *encoder, const rp_batcher_options *options,
                                      rp_batcher **out, rp_error *error);
/* Stops taking work, finishes what waits (as RP_ERR_CLOSED), joins the workers. */
void rp_batcher_free(rp_batcher *batcher);

/* `text` is borrowed until `done` was called. deadline_us is on the monotonic
 * clock (base/clock.h), 0 for none. Fails: RP_ERR_BUSY (queue full),
 * RP_ERR_CLOSED; then `done` is never called. */
RP_NODISCARD rp_status rp_batcher_submit(rp_batcher *batcher, rp_str text, int64_t deadline_us,
                                         rp_batch_done *done, void *context);
/* The same with an encoder of the same shape, borrowed until `done` was called. */
RP_NODISCARD rp_status rp_batcher_submit_to(rp_batcher *batcher, const rp_encoder *encoder,
                                            rp_str text, int64_t deadline_us, rp_batch_done *done,
                                            void *context);
size_t rp_batcher_waiting(rp_batcher *batcher);

#endif
