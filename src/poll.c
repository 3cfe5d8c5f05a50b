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

/* Of the kinds of work that wait for the host's time, this one comes before all others. */
static void begin_with(md_runtime *rt, unsigned kind)
{
    hub_awake(&rt->hub);
    switch (kind) {
    case 0:
        if (rt->generation != NULL && !rt->generation->closing)
            task_run_ready(rt->generation);
        break;
    case 1:
        events_turn(rt);
        break;
    case 2:
        eval_turn(rt);
        break;
    case 3:
        messages_turn(rt->messages);
        break;
    case 4:
        reload_turn(rt);
        break;
    default:
        posts_run(&rt->posts, rt);
    }
}

#define KINDS 6u

/* In a turn each kind has its place, and what comes first may take all of the time, again and
 * again. After a poll that was late another one comes first, so that none of them keeps the others
 * waiting for ever: messages every other time, then the rest one after the other. */
static void take_turns(md_runtime *rt)
{
    unsigned turn = rt->late_polls++;
    if (turn % 2 == 0)
        hub_receive(&rt->hub);
    else
        begin_with(rt, turn / 2 % KINDS);
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

/* A callback of the runtime's goes on. */
static bool is_inside(const md_runtime *rt)
{
    return rt->running || rt->hub.poll_until != 0 || rt->functions.caller != NULL ||
           sentinel_host_is_inside(&rt->sentinel);
}

bool runtime_refuses_to_turn(md_runtime *rt, const char *what)
{
    if (!is_inside(rt))
        return false;
    if (!rt->refused_to_turn)
        log_emit(rt->log, LOG_ERROR, "the loop cannot be turned from within a callback",
                 log_str("call", what),
                 log_str("plan", "it returns at once, this time and later without a word: return "
                                 "from the callback, and what you wait for happens"));
    rt->refused_to_turn = true;
    return true;
}

/* When a poll has to be over; never 0, which is none. */
static uint64_t end_of_poll(uint64_t max_us)
{
    uint64_t now = uv_hrtime();
    return max_us < (UINT64_MAX - now) / 1000u ? now + max_us * 1000u : UINT64_MAX;
}

int md_poll(md_runtime *rt, uint64_t max_us)
{
    if (rt->stopped || runtime_refuses_to_turn(rt, "md_poll"))
        return -1;
    if (rt->settled && !has_work(rt))
        return 0;
    hub_limit(&rt->hub, end_of_poll(max_us));
    if (rt->polled_late)
        take_turns(rt);
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
