/* flight.c - see flight.h. */
#include "server/flight.h"
#include "base/arena.h"
#include "base/bytes.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

enum { BUCKETS = 1024 };

struct rp_flight_piece {
    rp_flight_piece *next; /* under the flight's lock; a piece itself never changes */
    size_t size;
    char bytes[];
};

struct rp_flight {
    atomic_int refs;
    rp_flights *flights;
    rp_flight_key key;
    rp_flight *next_in_bucket; /* under the table's lock */
    bool is_listed;            /* under the table's lock */

    pthread_mutex_t lock; /* everything below */
    rp_waiter *followers;
    rp_waiter *leader_gone; /* to be woken when the last follower left */
    rp_arena arena;         /* headers */
    bool has_head, has_ended;
    rp_flight_end_kind end;
    int http_status;
    rp_header *headers;
    size_t header_count;
    int64_t content_length;
    rp_flight_piece *first, *last;
    size_t size;
};

struct rp_flights {
    pthread_mutex_t lock;
    size_t size_max, count;
    atomic_size_t follower_count; /* relaxed, a figure */
    rp_flight *buckets[BUCKETS];
};

rp_status
rp_flights_new(size_t size_max, rp_flights **out)
{
    rp_flights *flights = calloc(1, sizeof *flights);
    if (!flights)
        return RP_ERR_NOMEM;
    flights->size_max = size_max;
    pthread_mutex_init(&flights->lock, NULL);
    *out = flights;
    return RP_OK;
}

void
rp_flights_free(rp_flights *flights)
{
    if (!flights)
        return;
    pthread_mutex_destroy(&flights->lock);
    free(flights);
}

size_t
rp_flights_count(rp_flights *flights)
{
    pthread_mutex_lock(&flights->lock);
    const size_t count = flights->count;
    pthread_mutex_unlock(&flights->lock);
    return count;
}

size_t
rp_flights_follower_count(rp_flights *flights)
{
    return atomic_load_explicit(&flights->follower_count, memory_order_relaxed);
}

/* Keys are SHA-256, so any of their bits spread well. */
static rp_flight **
find_bucket(rp_flights *flights, const rp_flight_key *key)
{
    return &flights->buckets[rp_load_le32(key->bytes) % BUCKETS];
}

/* The table's lock is held. */
static void
unlist(rp_flight *flight)
{
    if (!flight->is_listed)
        return;
    rp_flight **at = find_bucket(flight->flights, &flight->key);
    while (*at != flight)
        at = &(*at)->next_in_bucket;
    *at = flight->next_in_bucket;
    flight->is_listed = false;
    flight->flights->count--;
}

rp_flight *
rp_flight_ref(rp_flight *flight)
{
    atomic_fetch_add_explicit(&flight->refs, 1, memory_order_relaxed);
    return flight;
}

void
rp_flight_unref(rp_flight *flight)
{
    if (!flight || atomic_fetch_sub_explicit(&flight->refs, 1, memory_order_acq_rel) != 1)
        return;
    /* The table holds no reference: a leader ends its flight before it lets go, or whoever
     * keeps its reply lands it. */
    for (rp_flight_piece *piece = flight->first; piece;) {
        rp_flight_piece *next = piece->next;
        free(piece);
        piece = next;
    }
    rp_arena_fini(&flight->arena);
    pthread_mutex_destroy(&flight->lock);
    free(flight);
}

static rp_flight *
begin_flight(rp_flights *flights, const rp_flight_key *key)
{
    rp_flight *flight = calloc(1, sizeof *flight);
    if (!flight)
        return NULL;
    atomic_init(&flight->refs, 1);
    flight->flights = flights;
    flight->key = *key;
    pthread_mutex_init(&flight->lock, NULL);
    rp_arena_init(&flight->arena, 0);
    rp_flight **bucket = find_bucket(flights, key);
    flight->next_in_bucket = *bucket;
    *bucket = flight;
    flight->is_listed = true;
    flights->count++;
    return flight;
}

static void
add_follower(rp_flight *flight, rp_waiter *waiter)
{
    rp_flight_ref(flight);
    pthread_mutex_lock(&flight->lock);
    waiter->next = flight->followers;
    waiter->previous = NULL;
    if (waiter->next)
        waiter->next->previous = waiter;
    flight->followers = waiter;
    waiter->is_listed = true;
    atomic_fetch_add_explicit(&flight->flights->follower_count, 1, memory_order_relaxed);
    pthread_mutex_unlock(&flight->lock);
}

rp_flight *
rp_flights_join(rp_flights *flights, const rp_flight_key *key, rp_waiter *waiter, bool *leads)
{
    waiter->next = waiter->previous = NULL;
    waiter->at = NULL;
    waiter->is_listed = waiter->is_posted = waiter->has_head = false;

    pthread_mutex_lock(&flights->lock);
    rp_flight *flight = *find_bucket(flights, key);
    while (flight && memcmp(&flight->key, key, sizeof *key) != 0)
        flight = flight->next_in_bucket;
    *leads = !flight;
    if (flight)
        add_follower(flight, waiter);
    else
        flight = begin_flight(flights, key);
    pthread_mutex_unlock(&flights->lock);
    return flight;
}

/* The flight's lock is held. A post that fails means that the loop is shutting down. */
static void
post_wake(rp_waiter *waiter)
{
    if (waiter->is_posted)
        return;
    waiter->hold(waiter->context);
    waiter->is_posted = rp_loop_post(waiter->loop, waiter->wake, waiter->context) == RP_OK;
}

static void
wake_followers(rp_flight *flight)
{
    for (rp_waiter *waiter = flight->followers; waiter; waiter = waiter->next)
        post_wake(waiter);
}

rp_status
rp_flight_publish_head(rp_flight *flight, int http_status, const rp_header *headers,
                       size_t header_count, int64_t content_length)
{
    pthread_mutex_lock(&flight->lock);
    rp_header *copy = rp_arena_calloc(&flight->arena, header_count ? header_count : 1, sizeof *copy);
    for (size_t i = 0; copy && i < header_count; i++) {
        copy[i].name = rp_arena_copy(&flight->arena, headers[i].name);
        copy[i].value = rp_arena_copy(&flight->arena, headers[i].value);
    }
    const bool failed = rp_arena_failed(&flight->arena);
    if (!failed) {
        flight->http_status = http_status;
        flight->headers = copy;
        flight->header_count = header_count;
        flight->content_length = content_length;
        flight->has_head = true;
        wake_followers(flight);
    }
    pthread_mutex_unlock(&flight->lock);
    return failed ? RP_ERR_NOMEM : RP_OK;
}

static void
take_off_the_table(rp_flight *flight)
{
    pthread_mutex_lock(&flight->flights->lock);
    unlist(flight);
    pthread_mutex_unlock(&flight->flights->lock);
}

rp_status
rp_flight_publish(rp_flight *flight, rp_str bytes)
{
    if (bytes.len == 0)
        return RP_OK;
    rp_flight_piece *piece = malloc(sizeof *piece + bytes.len);
    if (!piece)
        return RP_ERR_NOMEM;
    piece->next = NULL;
    piece->size = bytes.len;
    memcpy(piece->bytes, bytes.ptr, bytes.len);

    const size_t size_max = flight->flights->size_max;
    pthread_mutex_lock(&flight->lock);
    if (flight->last)
        flight->last->next = piece;
    else
        flight->first = piece;
    flight->last = piece;
    const bool was_open = flight->size <= size_max;
    flight->size += bytes.len;
    const bool closes = was_open && flight->size > size_max;
    const bool too_much = flight->followers && flight->size / 4 > size_max;
    if (!too_much)
        wake_followers(flight);
    pthread_mutex_unlock(&flight->lock);
    if (closes)
        take_off_the_table(flight);
    return too_much ? RP_ERR_LIMIT : RP_OK;
}

static void
end_flight(rp_flight *flight, rp_flight_end_kind kind)
{
    pthread_mutex_lock(&flight->lock);
    if (!flight->has_ended) {
        flight->has_ended = true;
        flight->end = kind == RP_FLIGHT_FAILED && flight->has_head ? RP_FLIGHT_BROKEN : kind;
        flight->leader_gone = NULL;
        wake_followers(flight);
    }
    pthread_mutex_unlock(&flight->lock);
}

void
rp_flight_end(rp_flight *flight, rp_flight_end_kind kind)
{
    take_off_the_table(flight);
    end_flight(flight, kind);
}

void
rp_flight_complete(rp_flight *flight)
{
    end_flight(flight, RP_FLIGHT_WHOLE);
}

void
rp_flight_land(rp_flight *flight)
{
    take_off_the_table(flight);
}

bool
rp_flight_abandon(rp_flight *flight, rp_waiter *leader)
{
    pthread_mutex_lock(&flight->flights->lock);
    pthread_mutex_lock(&flight->lock);
    const bool alone = !flight->followers;
    if (alone) {
        unlist(flight);
        flight->has_ended = true;
        flight->end = RP_FLIGHT_FAILED;
        flight->leader_gone = NULL;
    } else {
        flight->leader_gone = leader;
    }
    pthread_mutex_unlock(&flight->lock);
    pthread_mutex_unlock(&flight->flights->lock);
    return alone;
}

bool
rp_flight_is_too_large(rp_flight *flight)
{
    pthread_mutex_lock(&flight->lock);
    const bool result = flight->size > flight->flights->size_max && !flight->followers;
    pthread_mutex_unlock(&flight->lock);
    return result;
}

bool
rp_flight_has_followers(rp_flight *flight)
{
    pthread_mutex_lock(&flight->lock);
    const bool result = flight->followers != NULL;
    pthread_mutex_unlock(&flight->lock);
    return result;
}

rp_flight_event
rp_flight_next(rp_flight *flight, rp_waiter *waiter, rp_flight_view *view)
{
    rp_flight_event event = RP_FLIGHT_NOTHING;
    pthread_mutex_lock(&flight->lock);
    waiter->is_posted = false;
    const rp_flight_piece *next = waiter->at ? waiter->at->next : flight->first;
    if (flight->has_ended && flight->end == RP_FLIGHT_FAILED) {
        event = RP_FLIGHT_EVENT_FAILED;
    } else if (flight->has_head && !waiter->has_head) {
        waiter->has_head = true;
        view->http_status = flight->http_status;
        view->headers = flight->headers;
        view->header_count = flight->header_count;
        view->content_length = flight->content_length;
        event = RP_FLIGHT_HEAD;
    } else if (waiter->has_head && next) {
        waiter->at = next;
        view->bytes = (rp_str){ next->bytes, next->size };
        event = RP_FLIGHT_DATA;
    } else if (flight->has_ended) {
        event = flight->end == RP_FLIGHT_WHOLE ? RP_FLIGHT_EVENT_WHOLE : RP_FLIGHT_EVENT_BROKEN;
    }
    pthread_mutex_unlock(&flight->lock);
    return event;
}

void
rp_flight_leave(rp_flight *flight, rp_waiter *waiter)
{
    pthread_mutex_lock(&flight->lock);
    if (waiter->is_listed) {
        if (waiter->previous)
            waiter->previous->next = waiter->next;
        else
            flight->followers = waiter->next;
        if (waiter->next)
            waiter->next->previous = waiter->previous;
        waiter->is_listed = false;
        atomic_fetch_sub_explicit(&flight->flights->follower_count, 1, memory_order_relaxed);
        if (!flight->followers && flight->leader_gone)
            post_wake(flight->leader_gone);
    }
    pthread_mutex_unlock(&flight->lock);
}
