/* test_flight.c - those who share a flight all get the same bytes, each once, and nobody hangs.
 *
 * What could go wrong: an event lost between joining and publishing, an event given twice, a
 * follower that is never woken, a flight that stays on the table, memory used after the
 * leader let go. Threads publish and follow at the same time; ThreadSanitizer and
 * AddressSanitizer watch. No time is measured: a lost wake shows as a test that hangs. */
#include "server/flight.h"
#include "test_support.h"

#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>

static rp_flight_key
key_of(unsigned char n)
{
    rp_flight_key key = { { n } };
    return key;
}

static void
ignore(void *context)
{
    (void)context;
}

static rp_waiter
idle_waiter(rp_loop *loop)
{
    return (rp_waiter){ .loop = loop, .wake = ignore, .hold = ignore };
}

static void
test_the_first_leads_and_the_others_follow(void **state)
{
    (void)state;
    rp_flights *flights;
    rp_loop *loop;
    assert_int_equal(rp_loop_new(&loop), RP_OK);
    assert_int_equal(rp_flights_new(1000, &flights), RP_OK);
    rp_waiter one = idle_waiter(loop), two = idle_waiter(loop), other = idle_waiter(loop);
    const rp_flight_key a = key_of(1), b = key_of(2);
    bool leads;
    rp_flight *flight = rp_flights_join(flights, &a, &one, &leads);
    assert_true(leads);
    rp_flight *joined = rp_flights_join(flights, &a, &two, &leads);
    assert_false(leads);
    assert_ptr_equal(flight, joined);
    rp_flight *second = rp_flights_join(flights, &b, &other, &leads);
    assert_true(leads && second != flight);
    assert_int_equal(rp_flights_count(flights), 2);

    rp_flight_view view;
    assert_int_equal(rp_flight_next(joined, &two, &view), RP_FLIGHT_NOTHING);
    const rp_header header = { RP_STR("a"), RP_STR("b") };
    assert_int_equal(rp_flight_publish_head(flight, 200, &header, 1, 7), RP_OK);
    assert_int_equal(rp_flight_publish(flight, RP_STR("one")), RP_OK);
    assert_int_equal(rp_flight_next(joined, &two, &view), RP_FLIGHT_HEAD);
    assert_int_equal(view.content_length, 7);
    assert_str_equal(view.headers[0].value, RP_STR("b"));
    assert_int_equal(rp_flight_next(joined, &two, &view), RP_FLIGHT_DATA);
    assert_str_equal(view.bytes, RP_STR("one"));
    assert_int_equal(rp_flight_next(joined, &two, &view), RP_FLIGHT_NOTHING);
    assert_int_equal(rp_flight_publish(flight, RP_STR("two")), RP_OK);
    rp_flight_end(flight, RP_FLIGHT_WHOLE);
    assert_int_equal(rp_flights_count(flights), 1);
    assert_int_equal(rp_flight_next(joined, &two, &view), RP_FLIGHT_DATA);
    assert_str_equal(view.bytes, RP_STR("two"));
    assert_int_equal(rp_flight_next(joined, &two, &view), RP_FLIGHT_EVENT_WHOLE);
    /* The leader's own client reads the same from the beginning. */
    assert_int_equal(rp_flight_next(flight, &one, &view), RP_FLIGHT_HEAD);
    assert_int_equal(rp_flight_next(flight, &one, &view), RP_FLIGHT_DATA);

    rp_flight_leave(joined, &two);
    rp_flight_unref(joined);
    rp_flight_unref(flight);
    rp_flight_end(second, RP_FLIGHT_FAILED);
    assert_int_equal(rp_flight_next(second, &other, &view), RP_FLIGHT_EVENT_FAILED);
    rp_flight_unref(second);
    rp_flights_free(flights);
    rp_loop_free(loop);
}

static void
test_an_end_in_the_middle_is_not_whole(void **state)
{
    (void)state;
    rp_flights *flights;
    rp_loop *loop;
    assert_int_equal(rp_loop_new(&loop), RP_OK);
    assert_int_equal(rp_flights_new(1000, &flights), RP_OK);
    rp_waiter one = idle_waiter(loop), two = idle_waiter(loop);
    const rp_flight_key key = key_of(3);
    bool leads;
    rp_flight *flight = rp_flights_join(flights, &key, &one, &leads);
    rp_flight *joined = rp_flights_join(flights, &key, &two, &leads);
    rp_flight_view view;
    assert_int_equal(rp_flight_publish_head(flight, 200, NULL, 0, -1), RP_OK);
    assert_int_equal(rp_flight_publish(flight, RP_STR("half")), RP_OK);
    rp_flight_end(flight, RP_FLIGHT_FAILED); /* after the head that means broken */
    rp_flight_end(flight, RP_FLIGHT_WHOLE);  /* the first end counts */
    assert_int_equal(rp_flight_next(joined, &two, &view), RP_FLIGHT_HEAD);
    assert_int_equal(rp_flight_next(joined, &two, &view), RP_FLIGHT_DATA);
    assert_int_equal(rp_flight_next(joined, &two, &view), RP_FLIGHT_EVENT_BROKEN);
    rp_flight_leave(joined, &two);
    rp_flight_unref(joined);
    rp_flight_unref(flight);
    rp_flights_free(flights);
    rp_loop_free(loop);
}

static void
test_a_complete_flight_is_joined_until_it_has_landed(void **state)
{
    (void)state;
    rp_flights *flights;
    rp_loop *loop;
    assert_int_equal(rp_loop_new(&loop), RP_OK);
    assert_int_equal(rp_flights_new(1000, &flights), RP_OK);
    rp_waiter one = idle_waiter(loop), two = idle_waiter(loop), three = idle_waiter(loop);
    const rp_flight_key key = key_of(6);
    bool leads;
    rp_flight *flight = rp_flights_join(flights, &key, &one, &leads);
    rp_flight *landing = rp_flight_ref(flight);
    rp_flight_view view;
    assert_int_equal(rp_flight_publish_head(flight, 200, NULL, 0, 3), RP_OK);
    assert_int_equal(rp_flight_publish(flight, RP_STR("all")), RP_OK);
    rp_flight_complete(flight);
    rp_flight_unref(flight); /* the leader's client has got it */

    rp_flight *joined = rp_flights_join(flights, &key, &two, &leads);
    assert_false(leads);
    rp_flight_land(landing);
    assert_int_equal(rp_flights_count(flights), 0);
    rp_flight_unref(landing);
    assert_int_equal(rp_flight_next(joined, &two, &view), RP_FLIGHT_HEAD);
    assert_int_equal(rp_flight_next(joined, &two, &view), RP_FLIGHT_DATA);
    assert_str_equal(view.bytes, RP_STR("all"));
    assert_int_equal(rp_flight_next(joined, &two, &view), RP_FLIGHT_EVENT_WHOLE);
    rp_flight_leave(joined, &two);
    rp_flight_unref(joined);

    /* The pool may be done before the loop has said that the reply was whole. */
    flight = rp_flights_join(flights, &key, &three, &leads);
    assert_true(leads);
    rp_flight_land(flight);
    rp_flight_complete(flight);
    assert_int_equal(rp_flights_count(flights), 0);
    rp_flight_unref(flight);
    rp_flights_free(flights);
    rp_loop_free(loop);
}

static void
test_a_flight_is_abandoned_only_when_nobody_follows(void **state)
{
    (void)state;
    rp_flights *flights;
    rp_loop *loop;
    assert_int_equal(rp_loop_new(&loop), RP_OK);
    assert_int_equal(rp_flights_new(1000, &flights), RP_OK);
    rp_waiter one = idle_waiter(loop), two = idle_waiter(loop);
    const rp_flight_key key = key_of(4);
    bool leads;
    rp_flight *flight = rp_flights_join(flights, &key, &one, &leads);
    rp_flight *joined = rp_flights_join(flights, &key, &two, &leads);
    assert_false(rp_flight_abandon(flight, &one));
    assert_false(one.is_posted);
    rp_flight_leave(joined, &two);
    assert_true(one.is_posted); /* the leader is told */
    assert_true(rp_flight_abandon(flight, &one));
    assert_int_equal(rp_flights_count(flights), 0);
    rp_flight_unref(joined);
    rp_flight_unref(flight);
    rp_flights_free(flights);
    rp_loop_free(loop);
}

static void
test_a_large_reply_takes_no_more_followers_and_stays_bounded(void **state)
{
    (void)state;
    rp_flights *flights;
    rp_loop *loop;
    assert_int_equal(rp_loop_new(&loop), RP_OK);
    assert_int_equal(rp_flights_new(10, &flights), RP_OK);
    rp_waiter one = idle_waiter(loop), two = idle_waiter(loop), three = idle_waiter(loop);
    const rp_flight_key key = key_of(5);
    bool leads;
    rp_flight *flight = rp_flights_join(flights, &key, &one, &leads);
    rp_flight *joined = rp_flights_join(flights, &key, &two, &leads);
    assert_int_equal(rp_flight_publish_head(flight, 200, NULL, 0, -1), RP_OK);
    assert_int_equal(rp_flight_publish(flight, RP_STR("0123456789a")), RP_OK);
    rp_flight *late = rp_flights_join(flights, &key, &three, &leads);
    assert_true(leads && late != flight);
    rp_status status = RP_OK;
    for (int i = 0; i < 10 && status == RP_OK; i++)
        status = rp_flight_publish(flight, RP_STR("0123456789"));
    assert_int_equal(status, RP_ERR_LIMIT);
    rp_flight_leave(joined, &two);
    assert_true(rp_flight_is_too_large(flight));
    rp_flight_end(flight, RP_FLIGHT_BROKEN);
    rp_flight_end(late, RP_FLIGHT_FAILED);
    rp_flight_unref(late);
    rp_flight_unref(joined);
    rp_flight_unref(flight);
    rp_flights_free(flights);
    rp_loop_free(loop);
}

/* ---- threads ------------------------------------------------------------------------- */

enum { FOLLOWERS = 8, PIECES = 2000 };

typedef struct follower {
    rp_flights *flights;
    rp_flight_key key;
    rp_loop *loop;
    rp_flight *flight;
    rp_waiter waiter;
    bool leads;
    unsigned next; /* number of the piece that must come */
    rp_flight_event end;
    sem_t *done, *joined;
} follower;

static void
follow(void *context)
{
    follower *f = context;
    rp_flight_view view;
    while (f->flight) { /* a wake that was posted before the end still comes */
        const rp_flight_event event = rp_flight_next(f->flight, &f->waiter, &view);
        if (event == RP_FLIGHT_NOTHING)
            return;
        if (event == RP_FLIGHT_DATA) {
            unsigned number;
            assert_int_equal(view.bytes.len, sizeof number);
            memcpy(&number, view.bytes.ptr, sizeof number);
            assert_int_equal(number, f->next);
            f->next++;
        } else if (event != RP_FLIGHT_HEAD) {
            f->end = event;
            rp_flight_leave(f->flight, &f->waiter);
            rp_flight_unref(f->flight);
            f->flight = NULL;
            sem_post(f->done);
        }
    }
}

static void
join_and_follow(void *context)
{
    follower *f = context;
    f->flight = rp_flights_join(f->flights, &f->key, &f->waiter, &f->leads);
    assert_false(f->leads);
    sem_post(f->joined);
    follow(f);
}

static void
test_followers_on_other_loops_miss_nothing(void **state)
{
    (void)state;
    rp_flights *flights;
    rp_loop *loops[3];
    sem_t done, joined;
    sem_init(&done, 0, 0);
    sem_init(&joined, 0, 0);
    assert_int_equal(rp_flights_new(PIECES * sizeof(unsigned) + 1, &flights), RP_OK);
    for (size_t i = 0; i < RP_COUNT(loops); i++) {
        assert_int_equal(rp_loop_new(&loops[i]), RP_OK);
        assert_int_equal(rp_loop_start(loops[i], "test"), RP_OK);
    }
    rp_waiter leader = idle_waiter(loops[0]);
    const rp_flight_key key = key_of(6);
    bool leads;
    rp_flight *flight = rp_flights_join(flights, &key, &leader, &leads);
    assert_true(leads);
    follower followers[FOLLOWERS] = { 0 };
    assert_int_equal(rp_flight_publish_head(flight, 200, NULL, 0, -1), RP_OK);
    for (unsigned piece = 0; piece < PIECES; piece++) {
        if (piece % (PIECES / FOLLOWERS) == 0) {
            follower *f = &followers[piece / (PIECES / FOLLOWERS)];
            f->flights = flights;
            f->key = key;
            f->loop = loops[piece / (PIECES / FOLLOWERS) % RP_COUNT(loops)];
            f->waiter = (rp_waiter){ f->loop, follow, ignore, f };
            f->done = &done;
            f->joined = &joined;
            assert_int_equal(rp_loop_post(f->loop, join_and_follow, f), RP_OK);
        }
        assert_int_equal(
            rp_flight_publish(flight, (rp_str){ (const char *)&piece, sizeof piece }), RP_OK);
    }
    /* The end waits until all have joined, so that none comes too late. */
    for (int i = 0; i < FOLLOWERS; i++)
        sem_wait(&joined);
    rp_flight_end(flight, RP_FLIGHT_WHOLE);
    for (int i = 0; i < FOLLOWERS; i++)
        sem_wait(&done);
    for (size_t i = 0; i < RP_COUNT(loops); i++) {
        rp_loop_stop(loops[i]);
        rp_loop_join(loops[i]);
        rp_loop_free(loops[i]);
    }
    for (int i = 0; i < FOLLOWERS; i++) {
        assert_int_equal(followers[i].next, PIECES);
        assert_int_equal(followers[i].end, RP_FLIGHT_EVENT_WHOLE);
    }
    rp_flight_unref(flight);
    assert_int_equal(rp_flights_count(flights), 0);
    rp_flights_free(flights);
    sem_destroy(&done);
    sem_destroy(&joined);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_first_leads_and_the_others_follow),
        cmocka_unit_test(test_an_end_in_the_middle_is_not_whole),
        cmocka_unit_test(test_a_complete_flight_is_joined_until_it_has_landed),
        cmocka_unit_test(test_a_flight_is_abandoned_only_when_nobody_follows),
        cmocka_unit_test(test_a_large_reply_takes_no_more_followers_and_stays_bounded),
        cmocka_unit_test(test_followers_on_other_loops_miss_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
