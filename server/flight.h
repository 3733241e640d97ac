/* flight.h - identical requests in flight share one upstream call.
 *
 * The first of them leads: it fetches, and publishes what arrives into the flight.
 * Those that come while it is in the air follow: they get the leader's head and
 * events as they arrive, from the beginning. A reply that is not a success is not
 * shared: followers then go on by themselves, as they do when the leader fails
 * before its first byte. The leader's client leaving changes nothing while
 * somebody follows.
 *
 * What arrived is kept as a list of pieces until the flight is gone, so that every
 * follower reads at its own pace. Above size_max nobody may join any more; above
 * four times that, followers are cut off (memory stays bounded).
 *
 * Threads: safe from any thread. Locks: the table's, then one flight's; under the
 *          latter only rp_loop_post is called. A waiter belongs to one loop. */
#ifndef RP_SERVER_FLIGHT_H
#define RP_SERVER_FLIGHT_H

#include "net/http_server.h"
#include <reprise/types.h>

typedef struct rp_flights rp_flights;
typedef struct rp_flight rp_flight;
typedef struct rp_flight_piece rp_flight_piece;

/* Two requests with equal keys may share one reply, byte for byte. */
typedef struct rp_flight_key {
    uint8_t bytes[32];
} rp_flight_key;

/* One request's place in a flight, in its owner's storage. The first three members are
 * set by the owner. */
typedef struct rp_waiter {
    rp_loop *loop;
    rp_loop_call *wake;          /* called on `loop`: something is new. Once per post. */
    void (*hold)(void *context); /* called before each post, on the publisher's thread: keep
                                    `context` alive until `wake` ran */
    void *context;
    /* flight.c only. */
    struct rp_waiter *next, *previous;
    const rp_flight_piece *at;   /* last piece that was read */
    bool is_listed, is_posted, has_head;
} rp_waiter;

RP_NODISCARD rp_status rp_flights_new(size_t size_max, rp_flights **out);
void rp_flights_free(rp_flights *flights); /* nothing is in flight any more */
size_t rp_flights_count(rp_flights *flights);
size_t rp_flights_follower_count(rp_flights *flights); /* who waits for another's call now */

/* Join the flight of `key`, or begin one: then *leads. Gives a reference. NULL: no
 * memory; the caller then goes on alone. A leader's waiter is not woken for what it
 * published itself. */
rp_flight *rp_flights_join(rp_flights *flights, const rp_flight_key *key, rp_waiter *waiter,
                           bool *leads);
rp_flight *rp_flight_ref(rp_flight *flight);
void rp_flight_unref(rp_flight *flight);

/* ---- the leader ---------------------------------------------------------------- */

/* Publish the head of a success. Headers are copied. content_length -1: unknown.
 * Fails: RP_ERR_NOMEM. */
RP_NODISCARD rp_status rp_flight_publish_head(rp_flight *flight, int http_status,
                                              const rp_header *headers, size_t header_count,
                                              int64_t content_length);
RP_NODISCARD rp_status rp_flight_publish(rp_flight *flight, rp_str bytes);
typedef enum rp_flight_end_kind {
    RP_FLIGHT_WHOLE,  /* all of it arrived */
    RP_FLIGHT_BROKEN, /* it broke off after the head */
    RP_FLIGHT_FAILED, /* nothing to share: followers go on by themselves */
} rp_flight_end_kind;
/* No more follows; takes the flight off the table. The first end counts. */
void rp_flight_end(rp_flight *flight, rp_flight_end_kind kind);
/* As rp_flight_end with RP_FLIGHT_WHOLE, but who asks until rp_flight_land still joins and
 * reads all of it: for the time between the end of a reply and its being kept. */
void rp_flight_complete(rp_flight *flight);
/* Take the flight off the table. From any thread; before or after its end. */
void rp_flight_land(rp_flight *flight);
/* The leader's client left. True: nobody follows, the flight has ended as FAILED and the
 * upstream call should be aborted. False: go on; `leader` is woken when the last follower
 * has left. */
bool rp_flight_abandon(rp_flight *flight, rp_waiter *leader);
/* True when the pieces so far are more than size_max and nobody follows: the leader may
 * end the flight as BROKEN and copy straight to its client. */
bool rp_flight_is_too_large(rp_flight *flight);
bool rp_flight_has_followers(rp_flight *flight);

/* ---- everybody's reading side -------------------------------------------------- */

typedef enum rp_flight_event {
    RP_FLIGHT_NOTHING,       /* wait for wake */
    RP_FLIGHT_HEAD,          /* status, headers, content_length */
    RP_FLIGHT_DATA,          /* bytes */
    RP_FLIGHT_EVENT_WHOLE,   /* the end, and all is well */
    RP_FLIGHT_EVENT_BROKEN,  /* the end, in the middle */
    RP_FLIGHT_EVENT_FAILED,  /* go on by yourself */
} rp_flight_event;

typedef struct rp_flight_view {
    int http_status;
    const rp_header *headers; /* lent as long as the flight is referenced */
    size_t header_count;
    int64_t content_length;
    rp_str bytes;             /* the same */
} rp_flight_view;

/* What comes next for this waiter. */
rp_flight_event rp_flight_next(rp_flight *flight, rp_waiter *waiter, rp_flight_view *view);
/* Stop following; no further wake, but one that was posted still comes. */
void rp_flight_leave(rp_flight *flight, rp_waiter *waiter);

#endif
