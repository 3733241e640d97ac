/* http_dial.c - a name and a port to a connected socket.
 *
 * Names are looked up on a thread of their own, because getaddrinfo blocks, and what it
 * found is used for a minute. The thread and the loop share a lookup that counts its two
 * owners and has its own eventfd: whoever of the two is late finds everything it needs,
 * even if the dialer, or the loop, is gone.
 *
 * Addresses are tried as RFC 8305 advises: the two families in turn, the next one 250 ms
 * after the one before, or at once when it failed, and the first that answers wins. It is
 * tried first the next time, so that a family that leads nowhere costs its 250 ms once. */
#include "base/bytes.h"
#include "base/clock.h"
#include "net/http_client_internal.h"

#include <arpa/inet.h>
#include <errno.h>
#include <event2/event.h>
#include <event2/event_struct.h>
#include <netdb.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/queue.h>
#include <unistd.h>

enum {
    NEXT_ADDRESS_MS = 250,   /* RFC 8305, section 5 */
    ADDRESSES_KEPT_S = 60,   /* as libcurl does */
    KEEPALIVE_S = 60,        /* TCP's own, as libcurl does */
};

typedef struct lookup {
    atomic_int refs;     /* the loop's and the thread's */
    atomic_bool done;    /* set by the thread, read by the loop before the addresses */
    char *name;          /* owned */
    uint16_t port;
    int event_fd;
    struct event event;  /* the loop's */
    rp_dial_address addresses[RP_DIAL_ADDRESSES_MAX];
    size_t count;
} lookup;

typedef struct attempt {
    rp_dial *dial;
    int fd; /* -1: not under way */
    struct event event;
} attempt;

struct rp_dial {
    TAILQ_ENTRY(rp_dial) link;
    rp_dialer *dialer;
    rp_dial_done *done;
    void *context;
    rp_timer *timer;     /* owned; the next address, or the end */
    bool is_waiting;     /* for the addresses */
    size_t tried, pending;
    const char *reason;  /* of the last failure */
    attempt attempts[RP_DIAL_ADDRESSES_MAX];
};

struct rp_dialer {
    rp_loop *loop;
    char *name; /* owned */
    uint16_t port;
    bool is_numeric;
    rp_dial_address addresses[RP_DIAL_ADDRESSES_MAX];
    size_t count, first; /* first: the one that answered last */
    int64_t good_until_us;
    lookup *lookup; /* a reference, or NULL */
    TAILQ_HEAD(, rp_dial) waiting;
};

/* ---- names to addresses ------------------------------------------------------------ */

/* The families in turn, each in the order given. */
static size_t
interleave(const struct addrinfo *list, rp_dial_address *out, size_t count_max)
{
    const struct addrinfo *same = list, *other = list;
    const int family = list ? list->ai_family : AF_UNSPEC;
    size_t count = 0;
    for (bool turn = false; (same || other) && count < count_max; turn = !turn) {
        const struct addrinfo **at = turn ? &other : &same;
        while (*at && (((*at)->ai_family == family) == turn ||
                       (*at)->ai_addrlen > sizeof out->at))
            *at = (*at)->ai_next;
        if (!*at)
            continue;
        memcpy(&out[count].at, (*at)->ai_addr, (*at)->ai_addrlen);
        out[count++].size = (*at)->ai_addrlen;
        *at = (*at)->ai_next;
    }
    return count;
}

static size_t
resolve_by_system(const char *name, uint16_t port, rp_dial_address *out, size_t count_max)
{
    char service[8];
    struct addrinfo *list = NULL;
    const struct addrinfo hints = { .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM,
                                    .ai_flags = AI_NUMERICSERV };
    snprintf(service, sizeof service, "%u", port);
    if (getaddrinfo(name, service, &hints, &list) != 0)
        return 0;
    const size_t count = interleave(list, out, count_max);
    freeaddrinfo(list);
    return count;
}

static rp_dial_resolver *resolver = resolve_by_system;

void
rp_dial_set_resolver(rp_dial_resolver *other)
{
    resolver = other ? other : resolve_by_system;
}

static void
drop_lookup(lookup *l)
{
    if (atomic_fetch_sub_explicit(&l->refs, 1, memory_order_acq_rel) != 1)
        return;
    close(l->event_fd);
    free(l->name);
    free(l);
}

static void *
run_lookup(void *context)
{
    lookup *l = context;
    const uint64_t one = 1;
    l->count = resolver(l->name, l->port, l->addresses, RP_DIAL_ADDRESSES_MAX);
    atomic_store_explicit(&l->done, true, memory_order_release);
    const ssize_t ignored = write(l->event_fd, &one, sizeof one);
    (void)ignored;
    drop_lookup(l);
    return NULL;
}

/* A detached thread that takes no signals: those are for others to wait for. */
static bool
start_thread(lookup *l)
{
    pthread_t thread;
    pthread_attr_t attributes;
    sigset_t all, before;
    sigfillset(&all);
    if (pthread_attr_init(&attributes) != 0)
        return false;
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    const int failed = pthread_create(&thread, &attributes, run_lookup, l);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    return !failed;
}

static void on_found(evutil_socket_t fd, short what, void *context);

static bool
start_lookup(rp_dialer *dialer)
{
    lookup *l = calloc(1, sizeof *l);
    if (!l)
        return false;
    atomic_init(&l->refs, 1);
    l->event_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    l->name = strdup(dialer->name);
    l->port = dialer->port;
    if (l->event_fd < 0 || !l->name) {
        free(l->name);
        if (l->event_fd >= 0)
            close(l->event_fd);
        free(l);
        return false;
    }
    event_assign(&l->event, rp_loop_base(dialer->loop), l->event_fd, EV_READ, on_found, dialer);
    atomic_store(&l->refs, 2);
    if (event_add(&l->event, NULL) != 0 || !start_thread(l)) {
        event_del(&l->event);
        atomic_store(&l->refs, 1);
        drop_lookup(l);
        return false;
    }
    dialer->lookup = l;
    return true;
}

/* ---- trying ------------------------------------------------------------------------- */

static void
stop_attempt(attempt *a)
{
    if (a->fd < 0)
        return;
    event_del(&a->event);
    close(a->fd);
    a->fd = -1;
    a->dial->pending--;
}

static void
free_dial(rp_dial *dial)
{
    for (size_t i = 0; i < dial->tried; i++)
        stop_attempt(&dial->attempts[i]);
    if (dial->is_waiting)
        TAILQ_REMOVE(&dial->dialer->waiting, dial, link);
    rp_timer_free(dial->timer);
    free(dial);
}

static void
end_dial(rp_dial *dial, int fd, const char *reason)
{
    rp_dial_done *done = dial->done;
    void *context = dial->context;
    free_dial(dial);
    done(context, fd, reason);
}

static const char *
reason_of(int error)
{
    switch (error) {
    case ECONNREFUSED: return "connection refused";
    case ETIMEDOUT: return "no answer to the connection";
    case ENETUNREACH:
    case EHOSTUNREACH: return "no route to the host";
    case EMFILE:
    case ENFILE: return "no file descriptor left";
    case EADDRNOTAVAIL: return "no local port left";
    default: return "cannot connect";
    }
}

static int
make_socket(int family)
{
    const int fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    const int one = 1, seconds = KEEPALIVE_S;
    if (fd < 0)
        return -1;
    /* Small writes leave at once; a peer that vanished is noticed even by a long silence. */
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof one);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &seconds, sizeof seconds);
    setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &seconds, sizeof seconds);
    return fd;
}

static void on_connected(evutil_socket_t fd, short what, void *context);

static bool
try_address(rp_dial *dial, const rp_dial_address *address)
{
    attempt *a = &dial->attempts[dial->tried++];
    *a = (attempt){ .dial = dial, .fd = make_socket(address->at.ss_family) };
    if (a->fd < 0 || (connect(a->fd, (const struct sockaddr *)&address->at, address->size) != 0 &&
                      errno != EINPROGRESS)) {
        dial->reason = reason_of(errno);
        if (a->fd >= 0)
            close(a->fd);
        a->fd = -1;
        return false;
    }
    dial->pending++;
    event_assign(&a->event, rp_loop_base(dial->dialer->loop), a->fd, EV_WRITE, on_connected, a);
    if (event_add(&a->event, NULL) == 0)
        return true;
    stop_attempt(a);
    return false;
}

/* On to the next address that can be tried. If none is left and nothing pends, the timer
 * brings the end: not from inside a call. */
static void
try_next(rp_dial *dial)
{
    rp_dialer *dialer = dial->dialer;
    bool trying = false;
    while (!trying && dial->tried < dialer->count)
        trying = try_address(dial, &dialer->addresses[(dialer->first + dial->tried) % dialer->count]);
    if (dial->tried < dialer->count)
        rp_timer_set(dial->timer, NEXT_ADDRESS_MS * 1000);
    else if (!dial->pending)
        rp_timer_set(dial->timer, 0);
    else
        rp_timer_clear(dial->timer);
}

static void
on_connected(evutil_socket_t fd, short what, void *context)
{
    attempt *a = context;
    rp_dial *dial = a->dial;
    int error = 0;
    socklen_t size = sizeof error;
    (void)what;
    if (getsockopt(fd, SOL_SOCKET, SO_ERROR, &error, &size) != 0)
        error = errno;
    if (error) {
        dial->reason = reason_of(error);
        stop_attempt(a);
        try_next(dial);
        return;
    }
    rp_dialer *dialer = dial->dialer;
    if (dialer->count)
        dialer->first = (dialer->first + (size_t)(a - dial->attempts)) % dialer->count;
    a->fd = -1; /* given away; its event has fired */
    dial->pending--;
    end_dial(dial, fd, NULL);
}

static void
on_timer(void *context)
{
    rp_dial *dial = context;
    if (dial->tried < dial->dialer->count) {
        try_next(dial);
        return;
    }
    if (!dial->dialer->is_numeric)
        dial->dialer->good_until_us = 0; /* perhaps it has moved */
    end_dial(dial, -1, dial->reason);
}

static void
begin(rp_dial *dial)
{
    dial->reason = dial->dialer->count ? "cannot connect" : "the name has no address";
    try_next(dial);
}

/* If nothing was found, the addresses of before, if any, are better than none; the next
 * who asks looks again. */
static void
take_addresses(rp_dialer *dialer, const lookup *l)
{
    if (!l->count)
        return;
    const rp_dial_address winner = dialer->addresses[dialer->first];
    memcpy(dialer->addresses, l->addresses, l->count * sizeof l->addresses[0]);
    dialer->count = l->count;
    dialer->first = 0;
    for (size_t i = 0; i < l->count; i++)
        if (l->addresses[i].size == winner.size &&
            memcmp(&l->addresses[i].at, &winner.at, winner.size) == 0)
            dialer->first = i;
    dialer->good_until_us = rp_monotonic_ns() / 1000 + ADDRESSES_KEPT_S * RP_SECOND_US;
}

/* The addresses are here. */
static void
on_found(evutil_socket_t fd, short what, void *context)
{
    rp_dialer *dialer = context;
    lookup *l = dialer->lookup;
    (void)fd;
    (void)what;
    if (atomic_load_explicit(&l->done, memory_order_acquire))
        take_addresses(dialer, l);
    dialer->lookup = NULL;
    drop_lookup(l);
    rp_dial *dial;
    while ((dial = TAILQ_FIRST(&dialer->waiting))) {
        TAILQ_REMOVE(&dialer->waiting, dial, link);
        dial->is_waiting = false;
        begin(dial); /* calls nobody */
    }
}

/* ---- the contract -------------------------------------------------------------------- */

rp_status
rp_dial_start(rp_dialer *dialer, rp_dial_done *done, void *context, rp_dial **out)
{
    rp_dial *dial = calloc(1, sizeof *dial);
    if (!dial)
        return RP_ERR_NOMEM;
    dial->dialer = dialer;
    dial->done = done;
    dial->context = context;
    if (rp_timer_new(dialer->loop, on_timer, dial, &dial->timer) != RP_OK) {
        free(dial);
        return RP_ERR_NOMEM;
    }
    if (dialer->is_numeric || rp_monotonic_ns() / 1000 < dialer->good_until_us) {
        begin(dial);
    } else if (dialer->lookup || start_lookup(dialer)) {
        dial->is_waiting = true;
        TAILQ_INSERT_TAIL(&dialer->waiting, dial, link);
    } else {
        free_dial(dial);
        return RP_ERR_NOMEM;
    }
    *out = dial;
    return RP_OK;
}

void
rp_dial_cancel(rp_dial *dial)
{
    free_dial(dial);
}

static bool
take_numeric(rp_dialer *dialer)
{
    struct sockaddr_in v4 = { .sin_family = AF_INET, .sin_port = htons(dialer->port) };
    struct sockaddr_in6 v6 = { .sin6_family = AF_INET6, .sin6_port = htons(dialer->port) };
    if (inet_pton(AF_INET, dialer->name, &v4.sin_addr) == 1) {
        memcpy(&dialer->addresses[0].at, &v4, sizeof v4);
        dialer->addresses[0].size = sizeof v4;
    } else if (inet_pton(AF_INET6, dialer->name, &v6.sin6_addr) == 1) {
        memcpy(&dialer->addresses[0].at, &v6, sizeof v6);
        dialer->addresses[0].size = sizeof v6;
    } else {
        return false;
    }
    dialer->count = 1;
    return true;
}

rp_status
rp_dialer_new(rp_loop *loop, rp_str name, uint16_t port, rp_dialer **out)
{
    rp_dialer *dialer = calloc(1, sizeof *dialer);
    if (!dialer)
        return RP_ERR_NOMEM;
    dialer->loop = loop;
    dialer->port = port;
    dialer->name = strndup(name.ptr, name.len);
    TAILQ_INIT(&dialer->waiting);
    if (!dialer->name) {
        free(dialer);
        return RP_ERR_NOMEM;
    }
    dialer->is_numeric = take_numeric(dialer);
    *out = dialer;
    return RP_OK;
}

void
rp_dialer_free(rp_dialer *dialer)
{
    if (!dialer)
        return;
    if (dialer->lookup) {
        event_del(&dialer->lookup->event);
        drop_lookup(dialer->lookup);
    }
    free(dialer->name);
    free(dialer);
}
