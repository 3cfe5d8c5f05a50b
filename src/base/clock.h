/* What time it is, in milliseconds. Any thread. */
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

/* Since 1970. */
static inline int64_t clock_wall_ms(void)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

#endif
