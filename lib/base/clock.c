/* clock.c - see clock.h. */
#include "base/clock.h"

#include <time.h>

static int64_t
read_ns(clockid_t id)
{
    struct timespec now;
    clock_gettime(id, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static rp_time
system_wall_us(const rp_clock *clock)
{
    (void)clock;
    return read_ns(CLOCK_REALTIME) / 1000;
}

static int64_t
system_monotonic_us(const rp_clock *clock)
{
    (void)clock;
    return read_ns(CLOCK_MONOTONIC) / 1000;
}

const rp_clock rp_clock_system = { system_wall_us, system_monotonic_us };

static int64_t
manual_now_us(const rp_clock *clock)
{
    return ((const rp_clock_manual *)clock)->now_us;
}

void
rp_clock_manual_init(rp_clock_manual *manual, int64_t now_us)
{
    *manual = (rp_clock_manual){ { manual_now_us, manual_now_us }, now_us };
}

int64_t
rp_thread_cpu_ns(void)
{
    return read_ns(CLOCK_THREAD_CPUTIME_ID);
}

int64_t
rp_monotonic_ns(void)
{
    return read_ns(CLOCK_MONOTONIC);
}
