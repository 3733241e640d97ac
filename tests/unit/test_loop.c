/* test_loop.c - what is posted runs once, in order; what is timed runs in its time's order.
 *
 * Faults to notice: a call lost between threads or at the end, a wake that is missed, a
 * heap that loses its order when timers are cleared or moved, a timer freed in its own
 * call, a task of a turn that is left when the loop sleeps. */
#include "base/random.h"
#include "net_support.h"

#include <pthread.h>
#include <stdatomic.h>

enum { POSTERS = 4, POSTS = 20000, TIMERS = 3000 };

typedef struct poster {
    rp_loop *loop;
    int number;
    int next; /* of the loop's thread: what must come next */
    atomic_int run;
} poster;

typedef struct post {
    poster *from;
    int number;
} post;

static void
note_post(void *context)
{
    post *p = context;
    assert_int_equal(p->number, p->from->next);
    p->from->next++;
    atomic_fetch_add(&p->from->run, 1);
    free(p);
}

static void *
post_all(void *context)
{
    poster *p = context;
    for (int i = 0; i < POSTS; i++) {
        post *item = malloc(sizeof *item);
        *item = (post){ p, i };
        if (rp_loop_post(p->loop, note_post, item) != RP_OK)
            abort();
    }
    return NULL;
}

static void
test_posts_of_a_thread_run_once_and_in_order(void **state)
{
    (void)state;
    rp_loop *loop = test_start_loop();
    poster posters[POSTERS] = { 0 };
    pthread_t threads[POSTERS];
    for (int i = 0; i < POSTERS; i++) {
        posters[i].loop = loop;
        assert_int_equal(pthread_create(&threads[i], NULL, post_all, &posters[i]), 0);
    }
    for (int i = 0; i < POSTERS; i++)
        pthread_join(threads[i], NULL);
    test_stop_loop(loop); /* what was posted before runs */
    for (int i = 0; i < POSTERS; i++)
        assert_int_equal(atomic_load(&posters[i].run), POSTS);
    assert_int_equal(rp_loop_post(loop, note_post, NULL), RP_ERR_CLOSED);
    rp_loop_free(loop);
}

typedef struct timed {
    rp_loop *loop;
    rp_timer *timer;
    int64_t due_min_ns, due_max_ns; /* the clock moves while a timer is set */
    bool cleared, ran;
} timed;

static timed all[TIMERS];
static int64_t latest_ns;
static int ran_count, wanted_count;
static sem_t all_ran;

static void
note_timer(void *context)
{
    timed *t = context;
    assert_false(t->cleared || t->ran);
    /* None has run that was certainly due later. */
    assert_true(t->due_max_ns >= latest_ns);
    assert_true(rp_monotonic_ns() >= t->due_min_ns);
    latest_ns = RP_MAX(latest_ns, t->due_min_ns);
    t->ran = true;
    assert_true(rp_loop_is_current(t->loop));
    rp_timer_free(t->timer);
    t->timer = NULL;
    if (++ran_count == wanted_count)
        sem_post(&all_ran);
}

static void
set_timers(void *context)
{
    rp_random random;
    rp_random_init(&random, 7);
    for (int i = 0; i < TIMERS; i++) {
        all[i] = (timed){ .loop = context };
        assert_int_equal(rp_timer_new(context, note_timer, &all[i], &all[i].timer), RP_OK);
    }
    for (int round = 0; round < 2; round++) {
        for (int i = 0; i < TIMERS; i++) {
            if (round == 1 && i % 3 != 0)
                continue; /* a third is moved */
            const int64_t after_us = (int64_t)rp_random_below(&random, 200000);
            all[i].due_min_ns = rp_monotonic_ns() + after_us * 1000;
            rp_timer_set(all[i].timer, after_us);
            all[i].due_max_ns = rp_monotonic_ns() + after_us * 1000;
        }
    }
    for (int i = 0; i < TIMERS; i += 5) {
        rp_timer_clear(all[i].timer);
        assert_false(rp_timer_is_set(all[i].timer));
        all[i].cleared = true;
    }
    for (int i = 0; i < TIMERS; i++)
        wanted_count += !all[i].cleared;
}

static void
free_cleared(void *context)
{
    (void)context;
    for (int i = 0; i < TIMERS; i++)
        rp_timer_free(all[i].timer);
}

static void
test_timers_run_in_the_order_of_their_times(void **state)
{
    (void)state;
    sem_init(&all_ran, 0, 0);
    rp_loop *loop = test_start_loop();
    test_on_loop(loop, set_timers, loop);
    test_wait(&all_ran);
    test_on_loop(loop, free_cleared, NULL);
    assert_int_equal(ran_count, wanted_count);
    for (int i = 0; i < TIMERS; i++)
        assert_true(all[i].ran != all[i].cleared);
    test_stop_loop(loop);
    rp_loop_free(loop);
}

typedef struct turner {
    rp_loop *loop;
    rp_turn_task task, forgotten;
    int runs, again;
    sem_t done;
} turner;

static void
run_turn(void *context)
{
    turner *t = context;
    t->runs++;
    if (t->again-- > 0)
        rp_loop_at_turn_end(t->loop, &t->task); /* within the same end */
    else
        sem_post(&t->done);
}

static void
fail_turn(void *context)
{
    (void)context;
    fail();
}

static void
queue_tasks(void *context)
{
    turner *t = context;
    rp_loop_at_turn_end(t->loop, &t->forgotten);
    rp_loop_at_turn_end(t->loop, &t->task);
    rp_loop_at_turn_end(t->loop, &t->task); /* queued already: once */
    rp_loop_forget_task(t->loop, &t->forgotten);
    assert_int_equal(t->runs, 0);
}

static void
test_tasks_run_before_the_loop_sleeps(void **state)
{
    (void)state;
    turner t = { .loop = test_start_loop(), .again = 3 };
    t.task = (rp_turn_task){ .call = run_turn, .context = &t };
    t.forgotten = (rp_turn_task){ .call = fail_turn };
    sem_init(&t.done, 0, 0);
    test_on_loop(t.loop, queue_tasks, &t);
    test_wait(&t.done);
    test_stop_loop(t.loop);
    assert_int_equal(t.runs, 4);
    rp_loop_free(t.loop);
}

static void
free_in_call(void *context)
{
    timed *t = context;
    rp_timer_free(t->timer);
    rp_loop_stop(t->loop);
}

static void
test_a_loop_runs_on_the_calling_thread(void **state)
{
    (void)state;
    timed t = { 0 };
    assert_int_equal(rp_loop_new(&t.loop), RP_OK);
    assert_int_equal(rp_timer_new(t.loop, free_in_call, &t, &t.timer), RP_OK);
    rp_timer_set(t.timer, 1000); /* before it runs */
    assert_false(rp_loop_is_current(t.loop));
    rp_loop_run(t.loop);
    rp_loop_free(t.loop);
    /* Never run: what was posted is let go. */
    assert_int_equal(rp_loop_new(&t.loop), RP_OK);
    assert_int_equal(rp_loop_post(t.loop, fail_turn, NULL), RP_OK);
    rp_loop_free(t.loop);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_posts_of_a_thread_run_once_and_in_order),
        cmocka_unit_test(test_timers_run_in_the_order_of_their_times),
        cmocka_unit_test(test_tasks_run_before_the_loop_sleeps),
        cmocka_unit_test(test_a_loop_runs_on_the_calling_thread),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
