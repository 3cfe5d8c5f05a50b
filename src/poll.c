/* A runtime in a program that has a frame to draw, or an event loop of its own. See moondog.h. Loop
 * thread.
 *
 * A poll turns the loop until nothing is left to do or the time is over. What the time does not
 * suffice for, waits: each place that calls functions of the script or of the host asks
 * hub_is_late() before. */
#include <limits.h>
#include <sys/epoll.h>

#include "host/messages.h"
#include "runtime_private.h"
#include "script/task.h"

/* Whether the loop has anything to do now: a look at the clock and one at the descriptor. */
static bool has_work(md_runtime *rt)
{
    struct epoll_event event;
    uv_update_time(rt->loop);
    return uv_backend_timeout(rt->loop) == 0 ||
           epoll_wait(uv_backend_fd(rt->loop), &event, 1, 0) != 0;
}

static int waiting(md_runtime *rt)
{
    unsigned posts;
    uint64_t accepted, refused;
    posts_count(&rt->posts, &posts, &accepted, &refused);
    uint64_t count = hub_waiting(&rt->hub) + posts + rt->events.queued + rt->messages->failed_count;
    if (rt->generation != NULL)
        count += task_ready_count(rt->generation);
    if (count == 0)
        count = !rt->settled; /* something that has no number */
    return count < INT_MAX ? (int)count : INT_MAX;
}

/* One turn more after the last that had work: what that has left between two turns is done, too. */
static void turn_until(md_runtime *rt, uint64_t until)
{
    do {
        bool idle = !has_work(rt);
        if (idle && rt->settled)
            return;
        uv_run(rt->loop, UV_RUN_NOWAIT);
        rt->settled = idle;
    } while (!rt->stopped && uv_hrtime() < until);
}

int md_poll(md_runtime *rt, uint64_t max_us)
{
    if (rt->stopped)
        return -1;
    if (rt->settled && !has_work(rt))
        return 0;
    hub_limit(&rt->hub, uv_hrtime() + max_us * 1000u);
    if (rt->polled_late) {
        /* Tasks came first in the last one: neither they nor messages can keep the other waiting
         * for ever. */
        rt->messages_first = !rt->messages_first;
        if (rt->messages_first)
            hub_receive(&rt->hub);
    }
    turn_until(rt, rt->hub.poll_until);
    rt->polled_late = hub_is_late(&rt->hub);
    hub_limit(&rt->hub, 0);
    pulse_rest(&rt->hub.pulse, uv_hrtime());
    return rt->stopped ? -1 : waiting(rt);
}

int md_backend_fd(const md_runtime *rt)
{
    return uv_backend_fd(rt->loop);
}

int md_backend_timeout(const md_runtime *rt)
{
    if (!rt->settled)
        return 0;
    uv_update_time(rt->loop);
    return uv_backend_timeout(rt->loop);
}

void md_wakeup(md_runtime *rt)
{
    uv_async_send(&rt->hub.wake);
}

void md_interrupt(md_runtime *rt)
{
    sentinel_interrupt(&rt->sentinel);
}
