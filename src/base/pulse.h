/* The pulse of a loop: written by the loop's thread before it waits for events and in what it calls
 * for them, read by others to tell a loop that waits from one that is stuck. Costs two looks at the
 * clock a turn. */
#ifndef MD_BASE_PULSE_H
#define MD_BASE_PULSE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/histogram.h"

typedef struct {
    _Atomic uint64_t turns;
    _Atomic uint64_t
        busy_since;           /* ns; 0: it waits for events, or is in a callback that is not ours */
    _Atomic pthread_t thread; /* that runs it; written before busy_since */
    histogram lag;            /* how long each turn kept the rest waiting: the loop's own */
} pulse;

/* Loop thread. */
static inline bool pulse_is_awake(const pulse *p)
{
    return atomic_load_explicit(&p->busy_since, memory_order_relaxed) != 0;
}

/* Loop thread, first in a callback: it does not wait any more. */
static inline void pulse_wake(pulse *p, uint64_t now)
{
    if (pulse_is_awake(p))
        return;
    atomic_store_explicit(&p->thread, pthread_self(), memory_order_relaxed);
    atomic_store_explicit(&p->busy_since, now, memory_order_release);
}

/* Loop thread: it is about to wait. */
static inline void pulse_rest(pulse *p, uint64_t now)
{
    uint64_t since = atomic_load_explicit(&p->busy_since, memory_order_relaxed);
    if (since != 0)
        histogram_add(&p->lag, &histogram_loop, (double)(now - since) / 1e9, 1);
    atomic_store_explicit(&p->busy_since, 0, memory_order_release);
    atomic_store_explicit(&p->turns, atomic_load_explicit(&p->turns, memory_order_relaxed) + 1,
                          memory_order_release);
}

#endif
