/* dead.c - see dead.h. */
#include "tools/dead.h"

#include "base/clock.h"

#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void
disappoint(const rp_dead *dead, int fd)
{
    static const char part[] = "HTTP/1.1 200 OK\r\nContent-Ty";
    char bytes[4096];
    if (recv(fd, bytes, sizeof bytes, 0) > 0 && dead->kind == RP_DEAD_RESETS) {
        const struct linger now = { .l_onoff = 1, .l_linger = 0 };
        const ssize_t ignored = send(fd, part, sizeof part - 1, MSG_NOSIGNAL);
        (void)ignored;
        setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now);
    }
    close(fd);
}

static void *
serve(void *context)
{
    const rp_dead *dead = context;
    int fd;
    while ((fd = accept(dead->fd, NULL, NULL)) >= 0)
        disappoint(dead, fd);
    return NULL;
}

rp_status
rp_dead_start(rp_dead *dead, rp_dead_kind kind, rp_error *error)
{
    struct sockaddr_in at = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t size = sizeof at;
    *dead = (rp_dead){ .kind = kind, .fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0) };
    if (dead->fd < 0 || bind(dead->fd, (struct sockaddr *)&at, sizeof at) != 0 ||
        getsockname(dead->fd, (struct sockaddr *)&at, &size) != 0 ||
        (kind != RP_DEAD_REFUSES && listen(dead->fd, 64) != 0)) {
        rp_dead_stop(dead);
        return rp_fail(error, RP_ERR_IO, "no socket for a service that is dead");
    }
    snprintf(dead->address, sizeof dead->address, "127.0.0.1:%u", ntohs(at.sin_port));
    dead->runs = kind != RP_DEAD_REFUSES &&
                 pthread_create(&dead->thread, NULL, serve, dead) == 0;
    return RP_OK;
}

void
rp_dead_stop(rp_dead *dead)
{
    if (dead->fd < 0)
        return;
    shutdown(dead->fd, SHUT_RDWR); /* wakes the thread */
    if (dead->runs)
        pthread_join(dead->thread, NULL);
    close(dead->fd);
    dead->fd = -1;
}

double
rp_dead_ask(const rp_dead *dead, rp_str request)
{
    struct sockaddr_in at;
    socklen_t size = sizeof at;
    const int one = 1;
    char bytes[4096];
    getsockname(dead->fd, (struct sockaddr *)&at, &size);
    const int64_t begun_ns = rp_monotonic_ns();
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (connect(fd, (struct sockaddr *)&at, sizeof at) == 0 &&
        send(fd, request.ptr, request.len, MSG_NOSIGNAL) == (ssize_t)request.len)
        while (recv(fd, bytes, sizeof bytes, 0) > 0)
            continue;
    const int64_t ended_ns = rp_monotonic_ns();
    close(fd);
    return (double)(ended_ns - begun_ns) / 1e3;
}
