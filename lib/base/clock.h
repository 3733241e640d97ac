/* clock.h - time as a parameter.
 *
 * Whatever depends on time is handed an rp_clock, so that a simulation, a test
 * or a bug report can be run again. rp_clock_system is the real one.
 *
 * Threads: rp_clock_system is safe everywhere; an rp_clock_manual may be moved
 * by its owner while others read it. */
#ifndef RP_BASE_CLOCK_H
#define RP_BASE_CLOCK_H

#include <reprise/types.h>

typedef struct rp_clock rp_clock;
struct rp_clock {
    rp_time (*wall_us)(const rp_clock *clock);      /* since 1970 UTC; may jump */
    int64_t (*monotonic_us)(const rp_clock *clock); /* since some start; never goes back */
};

extern const rp_clock rp_clock_system;

static inline rp_time
rp_clock_wall_us(const rp_clock *clock)
{
    return clock->wall_us(clock);
}
static inline int64_t
rp_clock_monotonic_us(const rp_clock *clock)
{
    return clock->monotonic_us(clock);
}

/* A clock that stands still until `now_us` is changed. */
typedef struct rp_clock_manual {
    rp_clock clock; /* hand out &manual.clock */
    _Atomic int64_t now_us;
} rp_clock_manual;
void rp_clock_manual_init(rp_clock_manual *manual, int64_t now_us);

/* CPU time of the calling thread, in nanoseconds; for measurements. */
int64_t rp_thread_cpu_ns(void);
int64_t rp_monotonic_ns(void);

#endif
