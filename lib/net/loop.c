/* loop.c - see loop.h.
 *
 * A libevent base without locks: nobody but the loop's thread touches it. Others
 * append to a list under a mutex and wake the loop through an eventfd.
 *
 * Timers are our own binary heap over one timerfd. libevent's would either be coarse
 * (its cheap clock moves every 4 ms) or cost a system call a turn; here the timerfd
 * is only armed when the earliest time moves forward, so a deadline that is set and
 * cleared again, as nearly all are, costs two heap steps. */
#include "net/loop.h"
#include "base/bytes.h"
#include "base/clock.h"

#include <assert.h>
#include <errno.h>
#include <event2/event.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>
#include <unistd.h>

typedef struct posted {
    struct posted *next;
    rp_loop_call *call;
    void *context;
} posted;

struct rp_timer {
    rp_loop *loop;
    rp_loop_call *call;
    void *context;
    int64_t due_ns;
    size_t place; /* in the heap, from 1; 0: not set */
};

enum { STATE_NEW, STATE_RUNNING, STATE_ENDED };

struct rp_loop {
    struct event_base *base; /* owned */
    struct event *wake_event, *timer_event; /* owned */
    int wake_fd, timer_fd;
    atomic_int state;    /* written by the loop's thread, read by asserts elsewhere */
    atomic_bool stopped; /* set by rp_loop_stop, read by the loop's thread */
    pthread_t thread;
    bool has_thread;
    char thread_name[16];

    pthread_mutex_t lock; /* a leaf; guards first, last, closed */
    posted *first, *last;
    bool closed;

    rp_turn_task *tasks, *tasks_last;
    rp_timer **heap; /* owned; heap[1] is the earliest, heap[0] unused */
    size_t heap_count, heap_capacity;
    size_t timer_count;  /* timers that exist: the heap always has room for all */
    int64_t armed_ns;    /* when the timerfd fires; INT64_MAX: not armed */
};

static _Thread_local const rp_loop *current_loop;

bool
rp_loop_is_current(const rp_loop *loop)
{
    return current_loop == loop;
}

static void
assert_own_thread(const rp_loop *loop)
{
    assert(current_loop == loop || atomic_load(&loop->state) != STATE_RUNNING);
}

/* ---- timers ---------------------------------------------------------------- */

static void
put(rp_loop *loop, size_t place, rp_timer *timer)
{
    loop->heap[place] = timer;
    timer->place = place;
}

static void
sift_up(rp_loop *loop, size_t place, rp_timer *timer)
{
    while (place > 1 && loop->heap[place / 2]->due_ns > timer->due_ns) {
        put(loop, place, loop->heap[place / 2]);
        place /= 2;
    }
    put(loop, place, timer);
}

static void
sift_down(rp_loop *loop, size_t place, rp_timer *timer)
{
    for (;;) {
        size_t child = place * 2;
        if (child > loop->heap_count)
            break;
        if (child < loop->heap_count && loop->heap[child + 1]->due_ns < loop->heap[child]->due_ns)
            child++;
        if (loop->heap[child]->due_ns >= timer->due_ns)
            break;
        put(loop, place, loop->heap[child]);
        place = child;
    }
    put(loop, place, timer);
}

static void
arm(rp_loop *loop, int64_t due_ns)
{
    const struct itimerspec when = {
        .it_value = { .tv_sec = due_ns / 1000000000, .tv_nsec = due_ns % 1000000000 },
    };
    /* Fails only for a time that is no time, which due_ns never is. */
    const int failed = timerfd_settime(loop->timer_fd, TFD_TIMER_ABSTIME, &when, NULL);
    assert(!failed);
    (void)failed;
    loop->armed_ns = due_ns;
}

rp_status
rp_timer_new(rp_loop *loop, rp_loop_call *call, void *context, rp_timer **out)
{
    assert_own_thread(loop);
    if (loop->timer_count + 2 > loop->heap_capacity) {
        const size_t capacity = RP_MAX(loop->heap_capacity * 2, (size_t)64);
        rp_timer **grown = realloc(loop->heap, capacity * sizeof *grown);
        if (!grown)
            return RP_ERR_NOMEM;
        loop->heap = grown;
        loop->heap_capacity = capacity;
    }
    rp_timer *timer = malloc(sizeof *timer);
    if (!timer)
        return RP_ERR_NOMEM;
    *timer = (rp_timer){ .loop = loop, .call = call, .context = context };
    loop->timer_count++;
    *out = timer;
    return RP_OK;
}

void
rp_timer_clear(rp_timer *timer)
{
    rp_loop *loop = timer->loop;
    assert_own_thread(loop);
    const size_t place = timer->place;
    if (!place)
        return;
    timer->place = 0;
    rp_timer *moved = loop->heap[loop->heap_count--];
    if (moved == timer)
        return;
    if (place > 1 && loop->heap[place / 2]->due_ns > moved->due_ns)
        sift_up(loop, place, moved);
    else
        sift_down(loop, place, moved);
}

void
rp_timer_set(rp_timer *timer, int64_t after_us)
{
    rp_loop *loop = timer->loop;
    rp_timer_clear(timer);
    /* A century is for ever, and cannot overflow. */
    const int64_t after_max_us = INT64_C(100) * 366 * 86400 * 1000000;
    after_us = RP_MAX(RP_MIN(after_us, after_max_us), (int64_t)0);
    timer->due_ns = rp_monotonic_ns() + after_us * 1000;
    sift_up(loop, ++loop->heap_count, timer);
    if (timer->due_ns < loop->armed_ns)
        arm(loop, timer->due_ns);
}

bool
rp_timer_is_set(const rp_timer *timer)
{
    return timer->place != 0;
}

void
rp_timer_free(rp_timer *timer)
{
    if (!timer)
        return;
    rp_timer_clear(timer);
    timer->loop->timer_count--;
    free(timer);
}

static void
on_timer(evutil_socket_t fd, short what, void *context)
{
    rp_loop *loop = context;
    uint64_t times;
    (void)what;
    if (read(fd, &times, sizeof times) < 0)
        return; /* armed anew meanwhile */
    loop->armed_ns = INT64_MAX;
    /* Only what is due now: a timer that sets itself to 0 must not hold the loop. */
    const int64_t now_ns = rp_monotonic_ns();
    while (loop->heap_count && loop->heap[1]->due_ns <= now_ns) {
        rp_timer *timer = loop->heap[1];
        rp_timer_clear(timer);
        timer->call(timer->context); /* may free it */
    }
    if (loop->heap_count && loop->heap[1]->due_ns < loop->armed_ns)
        arm(loop, loop->heap[1]->due_ns);
}

/* ---- calls from elsewhere --------------------------------------------------- */

static void
wake(rp_loop *loop)
{
    const uint64_t one = 1;
    /* EAGAIN means that the counter is full, so the loop is awake anyway. */
    const ssize_t ignored = write(loop->wake_fd, &one, sizeof one);
    (void)ignored;
}

rp_status
rp_loop_post(rp_loop *loop, rp_loop_call *call, void *context)
{
    posted *item = malloc(sizeof *item);
    if (!item)
        return RP_ERR_NOMEM;
    *item = (posted){ .call = call, .context = context };
    pthread_mutex_lock(&loop->lock);
    if (loop->closed) {
        pthread_mutex_unlock(&loop->lock);
        free(item);
        return RP_ERR_CLOSED;
    }
    const bool was_empty = !loop->first;
    if (was_empty)
        loop->first = item;
    else
        loop->last->next = item;
    loop->last = item;
    pthread_mutex_unlock(&loop->lock);
    /* Whoever found the queue empty wakes; the loop takes all at once. */
    if (was_empty)
        wake(loop);
    return RP_OK;
}

static bool
run_posted(rp_loop *loop)
{
    pthread_mutex_lock(&loop->lock);
    posted *item = loop->first;
    loop->first = loop->last = NULL;
    pthread_mutex_unlock(&loop->lock);
    const bool any = item != NULL;
    while (item) {
        posted *next = item->next;
        const posted copy = *item;
        free(item);
        copy.call(copy.context);
        item = next;
    }
    return any;
}

static void
on_wake(evutil_socket_t fd, short what, void *context)
{
    uint64_t count;
    (void)what;
    const ssize_t ignored = read(fd, &count, sizeof count);
    (void)ignored;
    run_posted(context);
}

/* ---- turns ------------------------------------------------------------------- */

void
rp_loop_at_turn_end(rp_loop *loop, rp_turn_task *task)
{
    assert_own_thread(loop);
    if (task->queued)
        return;
    task->queued = true;
    task->next = NULL;
    if (loop->tasks)
        loop->tasks_last->next = task;
    else
        loop->tasks = task;
    loop->tasks_last = task;
}

void
rp_loop_forget_task(rp_loop *loop, rp_turn_task *task)
{
    assert_own_thread(loop);
    rp_turn_task **at = &loop->tasks, *before = NULL;
    while (*at && *at != task) {
        before = *at;
        at = &before->next;
    }
    if (*at) {
        *at = task->next;
        if (loop->tasks_last == task)
            loop->tasks_last = before;
    }
    task->queued = false;
}

static void
run_tasks(rp_loop *loop)
{
    /* A task that queues itself again runs in the same go: nothing may be left when
     * the loop sleeps. Tasks queue others only for work that is finite. */
    while (loop->tasks) {
        rp_turn_task *task = loop->tasks;
        loop->tasks = task->next;
        task->queued = false;
        task->call(task->context);
    }
}

void
rp_loop_run(rp_loop *loop)
{
    assert(atomic_load(&loop->state) == STATE_NEW);
    const rp_loop *outer = current_loop;
    current_loop = loop;
    atomic_store(&loop->state, STATE_RUNNING);
    run_tasks(loop);
    while (!atomic_load(&loop->stopped)) {
        if (event_base_loop(loop->base, EVLOOP_ONCE) < 0)
            break;
        run_tasks(loop);
    }
    /* What was posted before the end is done; then nothing is taken any more. */
    for (bool more = true; more;) {
        more = run_posted(loop);
        run_tasks(loop);
        pthread_mutex_lock(&loop->lock);
        if (!loop->first) {
            loop->closed = true;
            more = false;
        } else {
            more = true;
        }
        pthread_mutex_unlock(&loop->lock);
    }
    atomic_store(&loop->state, STATE_ENDED);
    current_loop = outer;
}

static void *
run_thread(void *context)
{
    rp_loop *loop = context;
    if (loop->thread_name[0])
        pthread_setname_np(pthread_self(), loop->thread_name);
    rp_loop_run(loop);
    return NULL;
}

rp_status
rp_loop_start(rp_loop *loop, const char *thread_name)
{
    assert(!loop->has_thread);
    const rp_str name = rp_str_of(thread_name);
    const size_t len = RP_MIN(name.len, sizeof loop->thread_name - 1);
    if (len)
        memcpy(loop->thread_name, name.ptr, len);
    loop->thread_name[len] = '\0';
    if (pthread_create(&loop->thread, NULL, run_thread, loop) != 0)
        return RP_ERR_IO;
    loop->has_thread = true;
    return RP_OK;
}

void
rp_loop_join(rp_loop *loop)
{
    if (loop->has_thread)
        pthread_join(loop->thread, NULL);
    loop->has_thread = false;
}

void
rp_loop_stop(rp_loop *loop)
{
    const int errno_before = errno; /* a signal handler leaves it alone */
    atomic_store(&loop->stopped, true);
    wake(loop);
    errno = errno_before;
}

struct event_base *
rp_loop_base(rp_loop *loop)
{
    return loop->base;
}

static struct event *
watch(rp_loop *loop, int fd, event_callback_fn call)
{
    struct event *event = event_new(loop->base, fd, EV_READ | EV_PERSIST, call, loop);
    if (event && event_add(event, NULL) != 0) {
        event_free(event);
        return NULL;
    }
    return event;
}

rp_status
rp_loop_new(rp_loop **out)
{
    rp_loop *loop = calloc(1, sizeof *loop);
    if (!loop)
        return RP_ERR_NOMEM;
    pthread_mutex_init(&loop->lock, NULL);
    loop->armed_ns = INT64_MAX;
    loop->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    loop->timer_fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    struct event_config *config = event_config_new();
    if (config) {
        event_config_set_flag(config, EVENT_BASE_FLAG_NOLOCK | EVENT_BASE_FLAG_IGNORE_ENV);
        loop->base = event_base_new_with_config(config);
        event_config_free(config);
    }
    if (loop->wake_fd >= 0 && loop->timer_fd >= 0 && loop->base) {
        loop->wake_event = watch(loop, loop->wake_fd, on_wake);
        loop->timer_event = watch(loop, loop->timer_fd, on_timer);
    }
    if (!loop->wake_event || !loop->timer_event) {
        rp_loop_free(loop);
        return RP_ERR_NOMEM;
    }
    *out = loop;
    return RP_OK;
}

void
rp_loop_free(rp_loop *loop)
{
    if (!loop)
        return;
    assert(!loop->has_thread && atomic_load(&loop->state) != STATE_RUNNING);
    if (loop->wake_event)
        event_free(loop->wake_event);
    if (loop->timer_event)
        event_free(loop->timer_event);
    if (loop->base)
        event_base_free(loop->base);
    if (loop->wake_fd >= 0)
        close(loop->wake_fd);
    if (loop->timer_fd >= 0)
        close(loop->timer_fd);
    while (loop->first) { /* posted to a loop that never ran */
        posted *next = loop->first->next;
        free(loop->first);
        loop->first = next;
    }
    free(loop->heap);
    pthread_mutex_destroy(&loop->lock);
    free(loop);
}
