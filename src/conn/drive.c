/* Drives a connection: feeds its watchdog and carries out what it decides, asks the policy, keeps
 * the timer. Loop thread. */
#include <assert.h>
#include <math.h>

#include "conn/connection_private.h"

#define DELAY_MAX 3600.0
#define NO_ROOM_WAIT_MS 1000u
#define AT_ONCE_WAIT_MS 100u

/* ---- the policy ---- */

double connection_ask_delay(struct connection *c, uint32_t attempt, bool library)
{
    char server[LINK_URL_SIZE];
    const link_options *o = c->options.link;
    const char *url = o->servers[c->next_server % (unsigned)o->server_count];
    double outage = connection_outage(c);
    connection_attempt ctx = {
        .attempt = attempt,
        .error = &c->error,
        .outage = outage < 0 ? 0 : outage,
        .server = library ? c->server : link_redact_url(url, server, sizeof server),
        .library = library,
    };
    double delay = NAN;
    if (c->observer != NULL && c->observer->delay != NULL)
        delay = c->observer->delay(c->closure, &ctx);
    if (!isfinite(delay) || delay < 0)
        delay = backoff_delay(&o->fallback, attempt, c->error.cls, ctx.outage, c->previous_delay,
                              hub_random(c->hub));
    c->previous_delay = delay;
    return delay > DELAY_MAX ? DELAY_MAX : delay;
}

/* Dials of this outage so far. The watchdog counts on until a link has proved itself, so that a
 * link which is closed as soon as it is up makes no hot loop; but the first loss after a good start
 * is an outage of its own. */
uint32_t connection_attempts(struct connection *c)
{
    if (c->dog.attempt < c->attempt_base)
        c->attempt_base = 0; /* a link has proved itself since */
    return c->dog.attempt - c->attempt_base;
}

static void do_plan(struct connection *c)
{
    double delay = connection_ask_delay(c, connection_attempts(c) + 1, false);
    c->plan_ms = (uint32_t)(delay * 1000.0) + hub_dial_wait(c->hub);
    if (c->hub->hanging >= HUB_HANGING_MAX && c->plan_ms < NO_ROOM_WAIT_MS)
        c->plan_ms = NO_ROOM_WAIT_MS;
    if (c->failed_at_once && c->plan_ms < AT_ONCE_WAIT_MS)
        c->plan_ms = AT_ONCE_WAIT_MS; /* nothing was waited for: a policy of 0 would never end */
    c->failed_at_once = false;
    c->has_plan = true;
    connection_tell_plan(c, c->plan_ms / 1000.0);
}

/* ---- the watchdog ---- */

static void on_timer(uv_timer_t *timer)
{
    /* After a stall of the loop the answer that a deadline waits for may be here already. */
    connection_receive_events(timer->data);
    connection_check_drain(timer->data);
    watchdog_event tick = {.type = WATCHDOG_EVENT_TICK};
    connection_feed(timer->data, &tick);
}

void connection_set_timer(struct connection *c)
{
    uint64_t deadline = watchdog_deadline(&c->dog);
    if (c->draining && !c->closing && c->drain_deadline < deadline)
        deadline = c->drain_deadline;
    if (deadline == WATCHDOG_NEVER) {
        uv_timer_stop(&c->timer);
        return;
    }
    uint64_t now = connection_now(c);
    uv_update_time(c->hub->loop);
    uv_timer_start(&c->timer, on_timer, deadline > now ? deadline - now : 0, 0);
}

static void do_up(struct connection *c, watchdog_reason reason)
{
    c->up = true;
    c->links++;
    c->counters.links[reason]++;
    if (c->attempt_base == 0)
        c->attempt_base = c->dog.attempt;
    connection_sync_continue(c); /* what was subscribed since the server was asked for its answer */
    connection_tell_up(c, reason);
}

static void do_reconnected(struct connection *c)
{
    c->up = true;
    c->deaf = false;
    c->reconnects++;
    connection_forget_refusals(c);
    if (c->link != NULL)
        link_ask(c->link, LINK_ASK_RESUME);
    connection_sync_continue(c);
    connection_tell_reconnected(c);
}

static void do_closed(struct connection *c, watchdog_reason reason)
{
    if (c->down_since == WATCHDOG_NEVER)
        c->down_since = connection_now(c);
    c->up = false;
    if (reason == WATCHDOG_REASON_LAME_DUCK)
        connection_pass_server(c);
    connection_tell_closed(c, reason);
}

/* An outage begins when the link is deaf, and not only when that is certain. */
static void note_deaf(struct connection *c)
{
    if (c->deaf && c->down_since == WATCHDOG_NEVER)
        c->down_since = connection_now(c);
    else if (!c->deaf && c->up)
        c->down_since = WATCHDOG_NEVER;
}

static void carry_out(struct connection *c, const watchdog_action *a)
{
    switch (a->type) {
    case WATCHDOG_ACTION_DIAL:
        connection_do_dial(c, a->link);
        break;
    case WATCHDOG_ACTION_DESTROY:
        connection_do_destroy(c, a->link);
        break;
    case WATCHDOG_ACTION_ABANDON:
        connection_do_abandon(c, a->link);
        break;
    case WATCHDOG_ACTION_PROBE:
        c->hub->health_changed |= c->deaf;
        if (c->link != NULL)
            link_ask(c->link, LINK_ASK_PROBE);
        break;
    case WATCHDOG_ACTION_AUDIT:
        if (c->link != NULL)
            link_ask(c->link, LINK_ASK_AUDIT);
        connection_ask_refused_again(c);
        break;
    case WATCHDOG_ACTION_PLAN:
        do_plan(c);
        break;
    case WATCHDOG_ACTION_UP:
        do_up(c, a->reason);
        break;
    case WATCHDOG_ACTION_RECONNECTED:
        do_reconnected(c);
        break;
    case WATCHDOG_ACTION_DISCONNECTED:
        c->up = false;
        if (c->down_since == WATCHDOG_NEVER)
            c->down_since = connection_now(c);
        connection_tell_disconnected(c);
        break;
    case WATCHDOG_ACTION_CLOSED:
        do_closed(c, a->reason);
        break;
    case WATCHDOG_ACTION_DEAF:
    case WATCHDOG_ACTION_HEARING:
        c->deaf = a->type == WATCHDOG_ACTION_DEAF;
        note_deaf(c);
        c->counters.probes_missed += c->deaf;
        connection_tell_probe(c, c->deaf);
        break;
    }
}

static void stopped(struct connection *c)
{
    error e = {0};
    error_set(&e, "closed", ERROR_CLASS_NONE, "connection %s was closed by the script", c->name);
    c->closing = true;
    c->draining = false;
    connection_give_up_queue(c);
    connection_fail_waiters(c, &e);
    subscriptions_end_all(c);
    history_over(&c->hub->history, c, HISTORY_STOPPED, connection_now(c));
    log_emit(c->hub->log, LOG_INFO, "connection ended", log_str("connection", c->name),
             log_int("unsent", (int64_t)c->publish_lost));
}

static void step(struct connection *c, const watchdog_event *event)
{
    watchdog_actions actions;
    watchdog_state before = c->dog.state;
    watchdog_step(&c->dog, event, connection_now(c), &actions);
    if (before != c->dog.state || event->type == WATCHDOG_EVENT_PLANNED)
        c->hub->health_changed = true;
    if (before == WATCHDOG_UP && before != c->dog.state)
        connection_stay(c); /* where it is next, the server may not be one that goes */
    if (before == WATCHDOG_DIALING && c->dog.state == WATCHDOG_CLOSED) {
        c->dials_failed++;
        connection_tell_dial_failed(c, c->dog.reason);
        connection_note_dial_failed(c);
    }
    for (int i = 0; i < actions.count; i++)
        carry_out(c, &actions.list[i]);
    if (before != WATCHDOG_STOPPED && c->dog.state == WATCHDOG_STOPPED)
        stopped(c);
}

/* What came up meanwhile, one thing at a time. */
static bool next_event(struct connection *c, watchdog_event *event)
{
    *event = (watchdog_event){0};
    if (c->has_dial_failed) {
        c->has_dial_failed = false;
        event->type = WATCHDOG_EVENT_DIAL_FAILED;
        event->link = c->dial_failed_link;
    } else if (c->has_gone) {
        c->has_gone = false;
        event->type = WATCHDOG_EVENT_GONE;
        event->link = c->gone_link;
    } else if (c->has_plan) {
        c->has_plan = false;
        event->type = WATCHDOG_EVENT_PLANNED;
        event->delay_ms = c->plan_ms;
    } else {
        return false;
    }
    return true;
}

void connection_feed(struct connection *c, const watchdog_event *event)
{
    assert(!c->stepping); /* events come from the loop alone */
    c->stepping = true;
    watchdog_event next = *event;
    do {
        step(c, &next);
    } while (next_event(c, &next));
    c->stepping = false;
    connection_note_ready(c);
    connection_set_timer(c);
}

void connection_feed_link(struct connection *c, watchdog_event_type type, uint64_t link)
{
    watchdog_event event = {.type = type, .link = link};
    connection_feed(c, &event);
}
