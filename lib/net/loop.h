/* loop.h - an event loop on a thread of its own, and how other threads reach it.
 *
 * Threads: rp_loop_post and rp_loop_is_current from any thread, rp_loop_stop also
 * from a signal handler; everything else only on the loop's own thread, or before
 * the loop runs and after it has ended (asserted). */
#ifndef RP_NET_LOOP_H
#define RP_NET_LOOP_H

#include <reprise/status.h>
#include <reprise/types.h>

struct event_base;
typedef struct rp_loop rp_loop;
typedef void rp_loop_call(void *context);

RP_NODISCARD rp_status rp_loop_new(rp_loop **out);
void rp_loop_free(rp_loop *loop); /* NULL is fine; not while it runs */
/* Run on the calling thread until rp_loop_stop. A loop runs once. */
void rp_loop_run(rp_loop *loop);
/* Or on a new thread; rp_loop_join waits for its end. */
RP_NODISCARD rp_status rp_loop_start(rp_loop *loop, const char *thread_name);
void rp_loop_join(rp_loop *loop);
/* Calls posted before the loop notices still run. */
void rp_loop_stop(rp_loop *loop);

/* Run call(context) on the loop's thread, soon, in the order posted. Never blocks
 * and never runs inside post. The queue is unbounded because what is posted is
 * bounded by requests in flight. Fails: RP_ERR_NOMEM, RP_ERR_CLOSED (the loop has
 * ended); then the call never comes. */
RP_NODISCARD rp_status rp_loop_post(rp_loop *loop, rp_loop_call *call, void *context);
bool rp_loop_is_current(const rp_loop *loop);
struct event_base *rp_loop_base(rp_loop *loop); /* lent; without locks, one thread only */

/* Work that waits for the end of the loop's turn, when every event that was ready has
 * been handled: what several events produced is then written with one call. The
 * caller owns the struct and sets call and context. */
typedef struct rp_turn_task {
    rp_loop_call *call;
    void *context;
    struct rp_turn_task *next; /* the loop's own, like the next */
    bool queued;
} rp_turn_task;
void rp_loop_at_turn_end(rp_loop *loop, rp_turn_task *task); /* queued already: nothing */
void rp_loop_forget_task(rp_loop *loop, rp_turn_task *task); /* before it is freed */

/* One-shot timers; thousands are fine. Precise to some 100 us. */
typedef struct rp_timer rp_timer;
RP_NODISCARD rp_status rp_timer_new(rp_loop *loop, rp_loop_call *call, void *context, rp_timer **out);
void rp_timer_set(rp_timer *timer, int64_t after_us); /* replaces an earlier time */
void rp_timer_clear(rp_timer *timer);
bool rp_timer_is_set(const rp_timer *timer);
void rp_timer_free(rp_timer *timer); /* NULL is fine; also inside its own call */

#endif
