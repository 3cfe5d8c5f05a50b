/* What the connections of one runtime share. See hub.h. Loop thread. */
#include "conn/hub.h"

#include <stddef.h>

#include "base/random.h"
#include "base/thread.h"
#include "conn/connection_private.h"

/* When the time is over, the next wake begins with the connection that is next: slow handlers of
 * many connections do not hold the loop together. Whether there may be more. */
static bool receive_messages(struct hub *h, uint64_t until)
{
    struct connection *first = h->next_turn != NULL ? h->next_turn : h->connections, *c = first;
    bool more = false;
    if (hub_is_late(h))
        return true;
    h->next_turn = NULL;
    while (c != NULL) {
        more |= connection_receive_messages(c, until);
        c = c->next != NULL ? c->next : h->connections;
        if (c == first)
            break;
        if (uv_hrtime() >= until) {
            h->next_turn = c;
            return true;
        }
    }
    return more;
}

/* What happened to the connections comes before their messages. Whether there may be more. */
static bool receive_events(struct hub *h)
{
    for (struct connection *c = h->connections; c != NULL; c = c->next) {
        if (hub_is_late(h))
            return true;
        connection_receive_events(c);
        connection_carry_out_wants(c);
    }
    return false;
}

void hub_receive(struct hub *h)
{
    hub_awake(h);
    h->served = 0;
    bool more = receive_events(h) || receive_messages(h, hub_slice(h, HUB_BATCH_NS));
    hub_flush(h);
    if (more)
        hub_again(h);
}

static void on_wake(uv_async_t *wake)
{
    hub_receive(wake->data);
}

void hub_flush(struct hub *h)
{
    for (struct connection *c = h->connections; c != NULL; c = c->next) {
        connection_reap(c);
        connection_check_drain(c);
        connection_send_queue(c);
    }
}

static void turn(struct hub *h)
{
    hub_flush(h);
    if (h->turn_done != NULL)
        h->turn_done(h->closure);
}

static void on_before_poll(uv_prepare_t *handle)
{
    struct hub *h = handle->data;
    hub_awake(h); /* not yet, in the loop's first turn */
    turn(h);
    pulse_rest(&h->pulse, uv_hrtime());
}

static void on_after_poll(uv_check_t *handle)
{
    struct hub *h = handle->data;
    hub_awake(h); /* timers come next */
    turn(h);
}

void hub_awake(struct hub *h)
{
    if (!pulse_is_awake(&h->pulse))
        pulse_wake(&h->pulse, uv_hrtime());
}

void hub_again(struct hub *h)
{
    uv_async_send(&h->wake);
}

void hub_limit(struct hub *h, uint64_t until)
{
    h->poll_until = until;
    h->poll_served = false;
}

uint64_t hub_waiting(const struct hub *h)
{
    uint64_t count = 0;
    for (const struct connection *c = h->connections; c != NULL; c = c->next)
        count += connection_waiting(c);
    return count;
}

static void on_later(uv_timer_t *timer)
{
    (void)timer; /* the loop has turned */
}

void hub_later(struct hub *h, uint32_t ms)
{
    uv_update_time(h->loop);
    uv_timer_start(&h->later, on_later, ms, 0);
}

/* ---- links that hang ---- */

static void on_reclaim(uv_work_t *work)
{
    struct hub *h = work->data;
    reclaim_run(&h->reclaim);
}

static void on_reclaimed(uv_work_t *work, int status)
{
    struct hub *h = work->data;
    h->reclaiming = false;
    h->handles--;
    if (status == 0 && h->reclaim.shut_down > 0)
        log_emit(h->log, LOG_INFO, "sockets of hanging links shut down",
                 log_int("count", h->reclaim.shut_down));
}

static void on_reclaim_timer(uv_timer_t *timer)
{
    struct hub *h = timer->data;
    if (h->hanging == 0) {
        uv_timer_stop(timer);
        return;
    }
    if (h->reclaiming || h->closing)
        return;
    h->reclaim = (reclaim){0};
    for (struct connection *c = h->connections; c != NULL; c = c->next)
        connection_describe_links(c, &h->reclaim);
    if (thread_queue_work(h->loop, &h->reclaim_work, on_reclaim, on_reclaimed) != 0)
        return;
    h->reclaiming = true;
    h->handles++;
}

void hub_reclaim(struct hub *h)
{
    h->hanging++;
    if (!uv_is_active((uv_handle_t *)&h->reclaim_timer))
        uv_timer_start(&h->reclaim_timer, on_reclaim_timer, 0, HUB_RECLAIM_MS);
}

/* ---- making and ending ---- */

int hub_init(struct hub *h, uv_loop_t *loop, struct logger *log)
{
    *h = (struct hub){.loop = loop, .log = log};
    h->random = random_seed();
    h->dial_tokens = HUB_DIALS_PER_SECOND;
    h->dial_tokens_at = uv_hrtime();
    int failed = uv_async_init(loop, &h->wake, on_wake);
    if (failed != 0)
        return failed;
    h->wake.data = h;
    uv_prepare_init(loop, &h->before_poll);
    h->before_poll.data = h;
    uv_prepare_start(&h->before_poll, on_before_poll);
    uv_check_init(loop, &h->after_poll);
    h->after_poll.data = h;
    uv_check_start(&h->after_poll, on_after_poll);
    uv_unref((uv_handle_t *)&h->before_poll);
    uv_unref((uv_handle_t *)&h->after_poll);
    uv_timer_init(loop, &h->reclaim_timer);
    h->reclaim_timer.data = h;
    h->reclaim_work.data = h;
    uv_timer_init(loop, &h->later);
    uv_unref((uv_handle_t *)&h->later);
    h->later.data = h;
    h->handles += 5;
    return 0;
}

static void on_handle_closed(uv_handle_t *handle)
{
    struct hub *h = handle->data;
    h->handles--;
}

void hub_close(struct hub *h)
{
    h->closing = true;
    uv_close((uv_handle_t *)&h->later, on_handle_closed);
    uv_close((uv_handle_t *)&h->reclaim_timer, on_handle_closed);
    uv_close((uv_handle_t *)&h->wake, on_handle_closed);
    uv_close((uv_handle_t *)&h->before_poll, on_handle_closed);
    uv_close((uv_handle_t *)&h->after_poll, on_handle_closed);
}

bool hub_closed(const struct hub *h)
{
    return h->handles == 0;
}

double hub_random(struct hub *h)
{
    return random_next(&h->random);
}

uint32_t hub_dial_wait(struct hub *h)
{
    uint64_t now = uv_hrtime();
    h->dial_tokens += (double)(now - h->dial_tokens_at) / 1e9 * HUB_DIALS_PER_SECOND;
    h->dial_tokens_at = now;
    if (h->dial_tokens > HUB_DIALS_PER_SECOND)
        h->dial_tokens = HUB_DIALS_PER_SECOND;
    h->dial_tokens -= 1.0;
    if (h->dial_tokens >= 0)
        return 0;
    return (uint32_t)(-h->dial_tokens / HUB_DIALS_PER_SECOND * 1000.0);
}
