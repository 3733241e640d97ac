/* net_support.h - what the tests of lib/net share: a loop on a thread, calls on it that
 * are waited for, blocking sockets. Every wait has a bound far above what is needed; only
 * a hang reaches it. */
#ifndef RP_TESTS_NET_SUPPORT_H
#define RP_TESTS_NET_SUPPORT_H

#include "base/buffer.h"
#include "base/clock.h"
#include "net/loop.h"
#include "test_support.h"

#include <arpa/inet.h>
#include <errno.h>
#include <linux/sockios.h>
#include <netinet/in.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <time.h>

enum { TEST_WAIT_S = 60 };

static inline void
test_wait(sem_t *semaphore)
{
    struct timespec until;
    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += TEST_WAIT_S;
    while (sem_clockwait(semaphore, CLOCK_MONOTONIC, &until) != 0)
        assert_int_equal(errno, EINTR);
#ifdef __SANITIZE_THREAD__
    /* gcc 12's thread sanitizer does not know sem_clockwait and would see races between
     * what comes before a post and after a wait; this pair says what the wait means. */
    sem_post(semaphore);
    while (sem_wait(semaphore) != 0)
        continue;
#endif
}

typedef struct test_call {
    rp_loop_call *call;
    void *context;
    sem_t done;
} test_call;

static inline void
test_run_call(void *context)
{
    test_call *c = context;
    c->call(c->context);
    sem_post(&c->done);
}

/* Run call(context) on the loop's thread and wait for it. */
static inline void
test_on_loop(rp_loop *loop, rp_loop_call *call, void *context)
{
    test_call c = { .call = call, .context = context };
    sem_init(&c.done, 0, 0);
    assert_int_equal(rp_loop_post(loop, test_run_call, &c), RP_OK);
    test_wait(&c.done);
    sem_destroy(&c.done);
}

static inline rp_loop *
test_start_loop(void)
{
    rp_loop *loop;
    assert_int_equal(rp_loop_new(&loop), RP_OK);
    assert_int_equal(rp_loop_start(loop, "test-loop"), RP_OK);
    return loop;
}

static inline void
test_stop_loop(rp_loop *loop)
{
    rp_loop_stop(loop);
    rp_loop_join(loop);
}

/* A blocking connection whose reads and writes give up after TEST_WAIT_S. */
static inline int
test_connect(unsigned port)
{
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const struct timeval patience = { .tv_sec = TEST_WAIT_S };
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    const struct sockaddr_in to = { .sin_family = AF_INET, .sin_port = htons((uint16_t)port),
                                    .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    assert_int_equal(connect(fd, (const struct sockaddr *)&to, sizeof to), 0);
    return fd;
}

static inline void
test_send(int fd, rp_str bytes)
{
    while (bytes.len) {
        const ssize_t n = send(fd, bytes.ptr, bytes.len, MSG_NOSIGNAL);
        if (n <= 0)
            return; /* the other side has had enough: what it says is what is tested */
        bytes = (rp_str){ bytes.ptr + n, bytes.len - (size_t)n };
    }
}

/* Until the other side's kernel has acknowledged all that was sent, the end of the stream
 * too: then a read there finds it. What was only sent may still be under way, even over
 * loopback, on a busy machine. A connection that was reset counts as arrived: nothing of it is
 * acknowledged any more. */
static inline void
test_wait_until_arrived(int fd)
{
    const int64_t give_up_ns = rp_monotonic_ns() + TEST_WAIT_S * INT64_C(1000000000);
    struct pollfd end = { .fd = fd };
    int left = 1;
    while (ioctl(fd, SIOCOUTQ, &left) == 0 && left && rp_monotonic_ns() < give_up_ns &&
           !(poll(&end, 1, 1) > 0 && end.revents & (POLLERR | POLLHUP)))
        continue;
}

/* Append what comes until the end of the stream. False if it ended with a reset. */
static inline bool
test_read_all(int fd, rp_buffer *out)
{
    char part[16384];
    for (;;) {
        const ssize_t n = recv(fd, part, sizeof part, 0);
        if (n > 0)
            rp_buffer_append(out, (rp_str){ part, (size_t)n });
        else if (n == 0)
            return true;
        else if (errno == EINTR)
            continue;
        else {
            assert_int_equal(errno, ECONNRESET); /* and not EAGAIN: nobody hangs */
            return false;
        }
    }
}

/* Append bytes until `end` stands at the end of *out, or the stream ends (false). */
static inline bool
test_read_until(int fd, rp_str end, rp_buffer *out)
{
    char c;
    for (;;) {
        if (rp_str_ends_with(rp_buffer_str(out), end))
            return true;
        const ssize_t n = recv(fd, &c, 1, 0);
        if (n <= 0)
            return false;
        rp_buffer_append_char(out, c);
    }
}

static inline bool
test_contains(rp_str text, const char *part)
{
    return text.ptr && text.len && memmem(text.ptr, text.len, part, strlen(part)) != NULL;
}

/* ---- a stand-in upstream ---------------------------------------------------- */

static inline void
test_say(int fd, const char *text)
{
    test_send(fd, rp_str_of(text));
}

typedef struct test_service {
    int listener;
    void *(*serve_connection)(void *fd); /* on a thread of its own; closes it */
    atomic_int *connections_seen;
} test_service;

/* A thread's function, of a test_service that outlives it: until the listener is shut down. */
static inline void *
test_serve(void *context)
{
    test_service *service = context;
    for (;;) {
        const int fd = accept4(service->listener, NULL, NULL, SOCK_CLOEXEC);
        if (fd < 0)
            return NULL;
        atomic_fetch_add(service->connections_seen, 1);
        pthread_t thread;
        if (pthread_create(&thread, NULL, service->serve_connection, (void *)(intptr_t)fd) == 0)
            pthread_detach(thread);
    }
}

#endif
