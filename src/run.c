/* A runtime at work: what is done in each turn of the loop, until it has stopped. See moondog.h.
 * Loop thread. */
#include "conn/connection.h"
#include "control/server.h"
#include "health/health.h"
#include "host/messages.h"
#include "runtime_private.h"
#include "script/binding.h"
#include "script/task.h"

#define STOP_TICK_MS 20u

static void forget_in(struct generation *g, const struct connection *c)
{
    for (struct binding *b = g->bindings; b != NULL; b = b->next)
        binding_forget(b, c);
}

void runtime_forget(md_runtime *rt, const struct connection *c)
{
    if (rt->generation != NULL)
        forget_in(rt->generation, c);
    for (struct generation *g = rt->reloads.retiring; g != NULL; g = g->next)
        forget_in(g, c);
}

bool runtime_connections_are_over(const md_runtime *rt)
{
    for (const struct connection *c = rt->hub.connections; c != NULL; c = connection_after(c))
        if (!connection_only_hangs(c))
            return false;
    return true;
}

static void stop_now(md_runtime *rt)
{
    if (rt->stopped)
        return;
    rt->stopped = true;
    sentinel_unguard(&rt->sentinel); /* nobody has to turn the loop any more */
    if (rt->generation != NULL && generation_is_busy(rt->generation))
        log_emit(rt->log, LOG_INFO, "tasks given up",
                 log_int("count", rt->generation->parked_count + rt->generation->spawned_count));
    log_emit(rt->log, LOG_INFO, "stopped",
             log_num("uptime", (double)(clock_ms() - rt->created_at) / 1e3));
    uv_timer_stop(&rt->stop_timer);
    if (rt->running)
        uv_stop(rt->loop);
    if (rt->on_stopped != NULL)
        rt->on_stopped(rt->stopped_closure);
}

void runtime_turn(void *closure)
{
    md_runtime *rt = closure;
    for (; rt->stops_asked > 0; rt->stops_asked--)
        md_stop(rt);
    posts_run(&rt->posts, rt);
    reload_turn(rt);
    if (rt->generation != NULL && !rt->generation->closing) {
        task_run_ready(rt->generation);
    }
    for (struct connection *c = rt->hub.connections, *next; c != NULL; c = next) {
        next = connection_after(c);
        if (!connection_is_over(c))
            continue;
        runtime_forget(rt, c);
        connection_free(c);
    }
    messages_turn(rt->messages);
    events_turn(rt);
    eval_turn(rt);
    if (rt->failures.quiet)
        failures_tell_quiet(&rt->failures, rt->log, uv_hrtime());
    health_turn(rt->health);
    if (!rt->ready_told && rt->generation != NULL) {
        rt->ready_told = true;
        notify_send(rt->manager, -1, "READY=1");
    }
    control_turn(rt->control);
    outboxes_turn(&rt->outboxes); /* with what all of these have published */
    if (rt->stopping && runtime_connections_are_over(rt) && outboxes_settled(&rt->outboxes) &&
        (rt->generation == NULL || rt->generation->unloading == 0))
        stop_now(rt);
}

static void on_stop_tick(uv_timer_t *timer)
{
    md_runtime *rt = timer->data;
    if (clock_ms() < rt->stop_deadline)
        return;
    log_emit(rt->log, LOG_WARN, "stopped at the deadline",
             log_int("hanging_links", rt->hub.hanging));
    stop_now(rt);
}

void runtime_start_tick(md_runtime *rt)
{
    uv_timer_start(&rt->stop_timer, on_stop_tick, STOP_TICK_MS, STOP_TICK_MS);
}

int md_run(md_runtime *rt)
{
    if (runtime_refuses_to_turn(rt, "md_run"))
        return -1;
    rt->running = true;
    if (!rt->stopped)
        uv_run(rt->loop, UV_RUN_DEFAULT);
    rt->running = false;
    pulse_rest(&rt->hub.pulse, uv_hrtime());
    return 0;
}

void md_stop(md_runtime *rt)
{
    if (rt->stopped)
        return;
    if (budget_inside()) { /* what is done here calls the script, which runs already */
        rt->stops_asked++;
        hub_again(&rt->hub);
        return;
    }
    if (rt->stopping) {
        rt->forced = true;
        stop_now(rt);
        return;
    }
    rt->stopping = rt->hub.health_changed = true;
    notify_send(rt->manager, -1, "STOPPING=1");
    rt->stop_deadline = clock_ms() + rt->drain_ms + RUNTIME_END_GRACE_MS;
    log_emit(rt->log, LOG_INFO, "stopping", log_int("drain_ms", rt->drain_ms));
    if (rt->generation != NULL) {
        generation_unload(rt->generation);
    }
    for (struct connection *c = rt->hub.connections; c != NULL; c = connection_after(c))
        connection_drain(c, rt->drain_ms);
    runtime_start_tick(rt);
    hub_again(&rt->hub);
}
