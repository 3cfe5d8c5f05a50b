/* What time it is. Any thread. */
#ifndef MD_BASE_CLOCK_H
#define MD_BASE_CLOCK_H

#include <stdint.h>
#include <time.h>
#include <uv.h>

/* Of a clock that never jumps: that of every deadline. */
static inline uint64_t clock_ms(void)
{
    return uv_hrtime() / 1000000u;
}

/* Of the system's clock, since 1970: what a disk keeps goes by it. */
static inline int64_t clock_wall_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static inline int64_t clock_wall_ms(void)
{
    return clock_wall_ns() / 1000000;
}

/* The host's idea of that time, for what is shown; now NULL: it has none, and the system's counts.
 */
typedef struct {
    int64_t (*now)(void *closure); /* ns since 1970 */
    void *closure;
} wall_clock;

static inline int64_t wall_clock_ns(const wall_clock *c)
{
    return c->now != NULL ? c->now(c->closure) : clock_wall_ns();
}

static inline int64_t wall_clock_ms(const wall_clock *c)
{
    return wall_clock_ns(c) / 1000000;
}

#endif
