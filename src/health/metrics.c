/* The loop copies its numbers. See metrics.h. Loop thread, but metrics_release(). */
#include "health/metrics.h"

#include <stdlib.h>
#include <string.h>

#include "health/metrics_private.h"
#include "host/subscriptions.h"
#include "runtime_private.h"
#include "script/binding.h"

static bool copy_connection(struct metrics *m, const struct binding *b)
{
    struct metrics_connection *c = &m->connections[m->connection_count];
    c->name = strdup(b->name);
    if (c->name == NULL)
        return false;
    m->connection_count++;
    c->required = b->options.required && b->connection != NULL && connection_is_open(b->connection);
    if (b->connection == NULL) {
        c->state.state = WATCHDOG_STOPPED;
        c->state.unready_since = WATCHDOG_NEVER;
        return true;
    }
    connection_get_state(b->connection, &c->state);
    c->counters = *c->state.counters;
    c->state.counters = NULL;
    c->state.server = c->state.refused_subject = NULL;
    return true;
}

static char *copy_queue(const struct interest *i)
{
    return strdup(interest_queue(i) != NULL ? interest_queue(i) : "");
}

static bool copy_subscription(struct metrics *m, const struct handler *h)
{
    struct metrics_subscription *s = &m->subscriptions[m->subscription_count];
    subscription_state state = {0};
    if (h->subscription != NULL)
        subscription_get_state(h->subscription, &state);
    *s = (struct metrics_subscription){.connection = m->connection_count - 1,
                                       .subject = strdup(handler_label(h)),
                                       .queue = copy_queue(h->interest),
                                       .handled = h->callback.calls,
                                       .errors = h->callback.errors,
                                       .overruns = h->callback.overruns,
                                       .dropped = state.dropped,
                                       .bursts = state.bursts,
                                       .queued = state.queued};
    if (h->latency != NULL)
        s->seconds = h->latency->all;
    m->subscription_count++;
    return s->subject != NULL && s->queue != NULL;
}

static bool copy_host_subscription(struct metrics *m, const md_subscription *of_host)
{
    struct metrics_subscription *s = &m->subscriptions[m->subscription_count];
    subscription_state state;
    subscriptions_get_state(of_host, &state);
    *s = (struct metrics_subscription){.connection = m->connection_count - 1,
                                       .of_host = true,
                                       .subject = strdup(of_host->interest->subject),
                                       .queue = copy_queue(of_host->interest),
                                       .handled = state.handled,
                                       .dropped = state.dropped,
                                       .bursts = state.bursts,
                                       .queued = state.queued,
                                       .seconds = of_host->latency.all};
    m->subscription_count++;
    return s->subject != NULL && s->queue != NULL;
}

static bool copy_bindings(struct metrics *m, const struct generation *g)
{
    const struct messages *host = g->limits.messages;
    size_t bindings = 0, wanted = host->subscription_count - m->host_waiting;
    for (const struct binding *b = g->bindings; b != NULL; b = b->next) {
        bindings++;
        for (const struct handler *h = b->handlers; h != NULL; h = h->next)
            wanted++;
    }
    if (wanted > METRICS_SUBSCRIPTIONS_MAX) {
        m->subscriptions_omitted = wanted - METRICS_SUBSCRIPTIONS_MAX;
        wanted = METRICS_SUBSCRIPTIONS_MAX;
    }
    m->connections = calloc(bindings + 1, sizeof m->connections[0]);
    m->subscriptions = calloc(wanted + 1, sizeof m->subscriptions[0]);
    if (m->connections == NULL || m->subscriptions == NULL)
        return false;
    for (const struct binding *b = g->bindings; b != NULL; b = b->next) {
        if (!copy_connection(m, b))
            return false;
        for (const struct handler *h = b->handlers; h != NULL; h = h->next)
            if (m->subscription_count < wanted && !copy_subscription(m, h))
                return false;
        for (const md_subscription *s = host->subscriptions; s != NULL; s = s->next)
            if (subscriptions_place(s) == b && m->subscription_count < wanted &&
                !copy_host_subscription(m, s))
                return false;
    }
    return true;
}

static void copy_failures(struct metrics *m, const struct failures *all)
{
    m->failure_count = all->counter_count;
    memcpy(m->failures, all->counters, sizeof m->failures);
}

metrics *metrics_of(md_runtime *rt)
{
    struct metrics *m = calloc(1, sizeof *m);
    const struct generation *g = rt->generation;
    if (m == NULL)
        return NULL;
    atomic_init(&m->references, 1);
    m->made_at = uv_hrtime();
    m->uptime = (double)(clock_ms() - rt->created_at) / 1e3;
    m->retiring = rt->reloads.retiring_count;
    m->reloads_done = rt->reloads.done;
    m->reloads_failed = rt->reloads.failed;
    m->lag = rt->hub.pulse.lag;
    m->log_dropped = log_dropped(rt->log);
    m->hanging = rt->hub.hanging;
    m->host_waiting = subscriptions_waiting(rt->messages);
    m->crashed = rt->supervision.crashed;
    m->wedged = rt->supervision.wedged;
    m->ended = rt->supervision.ended;
    m->fallback = runtime_is_fallback(rt);
    m->name = strdup(rt->name);
    copy_failures(m, &rt->failures);
    m->outboxes = outbox_metrics_copy(&rt->outboxes);
    m->user = user_metrics_copy(rt->user_metrics);
    user_metrics_count(rt->user_metrics, &m->user_series, &m->user_refused);
    bool good = m->user != NULL && m->name != NULL && m->outboxes != NULL;
    if (g != NULL) {
        m->generation = g->number;
        m->generation_age = (double)(wall_clock_ms(&rt->hub.clock) - g->loaded_at) / 1e3;
        m->memory = g->memory;
        m->memory_peak = g->memory_peak;
        m->memory_cap = g->limits.memory_cap;
        m->tasks_waiting = g->parked_count;
        good = good && copy_bindings(m, g);
    }
    if (good)
        return m;
    metrics_release(m);
    return NULL;
}

metrics *metrics_retain(metrics *m)
{
    if (m != NULL)
        atomic_fetch_add(&m->references, 1);
    return m;
}

void metrics_release(metrics *m)
{
    if (m == NULL || atomic_fetch_sub(&m->references, 1) > 1)
        return;
    for (unsigned i = 0; i < m->connection_count; i++)
        free(m->connections[i].name);
    for (unsigned i = 0; i < m->subscription_count; i++) {
        free(m->subscriptions[i].subject);
        free(m->subscriptions[i].queue);
    }
    free(m->name);
    free(m->connections);
    free(m->subscriptions);
    outbox_metrics_free(m->outboxes);
    user_metrics_copy_free(m->user);
    free(m);
}
