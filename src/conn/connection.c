/* The life of a connection: carries out what its watchdog decides. See connection.h. Loop thread. */
#include "conn/connection.h"

#include <assert.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "conn/connection_private.h"

#define DELAY_MAX 3600.0
#define NO_ROOM_WAIT_MS 1000u

uint64_t connection_now(const struct connection *c)
{
    (void)c;
    return uv_hrtime() / 1000000u;
}

void connection_set_error(struct connection *c, const error *e)
{
    c->error = *e;
    c->error_at = connection_now(c);
}

double connection_outage(const struct connection *c)
{
    if (c->dog.outage_since == WATCHDOG_NEVER)
        return -1.0;
    uint64_t now = connection_now(c);
    return now > c->dog.outage_since ? (double)(now - c->dog.outage_since) / 1000.0 : 0.0;
}

/* ---- links ---- */

static struct link_slot *find_slot(struct connection *c, uint64_t number)
{
    for (struct link_slot *s = c->slots; s != NULL; s = s->next)
        if (link_number(s->link) == number)
            return s;
    return NULL;
}

static void dial_failed_at_once(struct connection *c, uint64_t number, const error *e)
{
    connection_set_error(c, e);
    c->has_dial_failed = true;
    c->dial_failed_link = number;
}

static void do_dial(struct connection *c, uint64_t number)
{
    error e = {0};
    c->dials++;
    if (c->hub->hanging >= HUB_HANGING_MAX) {
        error_set(&e, "too_many_hanging", ERROR_CLASS_LIMIT,
                  "%u links hang inside the NATS library: no new one until one comes back",
                  c->hub->hanging);
        dial_failed_at_once(c, number, &e);
        return;
    }
    char *token = NULL;
    if (c->observer != NULL && c->observer->token != NULL)
        token = c->observer->token(c->closure);
    struct link_slot *slot = calloc(1, sizeof *slot);
    struct link *l = NULL;
    if (slot != NULL)
        l = link_start(c->options.link, number, c->next_server++, token, &c->hub->wake, &e);
    else
        error_set(&e, "no_memory", ERROR_CLASS_LIMIT, "no memory for a link");
    if (token != NULL)
        explicit_bzero(token, strlen(token));
    free(token);
    if (l == NULL) {
        free(slot);
        dial_failed_at_once(c, number, &e);
        return;
    }
    const link_options *o = c->options.link;
    link_redact_url(o->servers[(c->next_server - 1) % (unsigned)o->server_count], c->server,
                    sizeof c->server);
    slot->link = l;
    slot->next = c->slots;
    c->slots = slot;
    c->link = l;
}

/* The current link, if it is this one, is not used any more. Its publishes come back to us. */
static void detach_link(struct connection *c, struct link_slot *slot)
{
    if (c->link == slot->link) {
        link_send(c->link, &c->queue); /* so that one place sorts out what can be saved */
        c->link = NULL;
        c->up = c->deaf = c->syncing = false;
        c->sync_next = NULL;
        for (struct subscription *s = c->subscriptions; s != NULL; s = s->next)
            s->wire = NULL;
    }
    c->publish_lost += link_close(slot->link, &c->queue);
}

static void do_destroy(struct connection *c, uint64_t number)
{
    struct link_slot *slot = find_slot(c, number);
    if (slot == NULL) { /* it never got so far as to have a worker */
        c->has_gone = true;
        c->gone_link = number;
        return;
    }
    detach_link(c, slot);
}

static void do_abandon(struct connection *c, uint64_t number)
{
    struct link_slot *slot = find_slot(c, number);
    if (slot == NULL || slot->gone)
        return;
    detach_link(c, slot);
    slot->hanging = true;
    c->abandoned++;
    hub_reclaim(c->hub);
    log_emit(c->hub->log, LOG_WARN, "link abandoned", log_str("connection", c->name),
             log_int("link", (int64_t)number), log_int("hanging", c->hub->hanging));
}

static void add_port(uint16_t *list, unsigned *count, uint16_t port)
{
    if (*count < RECLAIM_PORTS_MAX && port != 0)
        list[(*count)++] = port;
}

void connection_describe_links(const struct connection *c, reclaim *r)
{
    unsigned hanging = 0;
    for (const struct link_slot *slot = c->slots; slot != NULL; slot = slot->next)
        hanging += slot->hanging && !slot->gone;
    if (hanging == 0)
        return;
    if (c->server[0] != '\0') /* it may be none of the list, but one that was discovered */
        add_port(r->hanging, &r->hanging_count, link_url_port(c->server));
    for (int i = 0; i < c->options.link->server_count; i++)
        add_port(r->hanging, &r->hanging_count, link_url_port(c->options.link->servers[i]));
    if (c->options.watchdog.timeout_ms > r->silent_ms)
        r->silent_ms = c->options.watchdog.timeout_ms;
}

static void count_sent(struct connection *c, const struct link *l)
{
    uint64_t messages, bytes;
    link_sent(l, &messages, &bytes);
    c->out_messages += messages;
    c->out_bytes += bytes;
}

/* Its worker has ended, and there is nothing to come from it any more. */
static bool slot_is_done(struct connection *c, struct link_slot *slot)
{
    if (!slot->gone || slot->messages != NULL)
        return false;
    if (link_subs(slot->link) > 0 && connection_now(c) < slot->leave_at)
        return false;
    slot->messages = mailbox_take_messages(link_mailbox(slot->link));
    return slot->messages == NULL;
}

void connection_reap(struct connection *c)
{
    for (struct link_slot **at = &c->slots; *at != NULL;) {
        struct link_slot *slot = *at;
        if (!slot_is_done(c, slot)) {
            at = &slot->next;
            continue;
        }
        if (slot->hanging) {
            c->hub->hanging--;
            log_emit(c->hub->log, LOG_INFO, "link came back", log_str("connection", c->name),
                     log_int("hanging", c->hub->hanging));
        }
        count_sent(c, slot->link);
        *at = slot->next;
        link_join(slot->link);
        free(slot);
    }
}

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

/* Dials of this outage so far. The watchdog counts on until a link has proved itself, so that a link which
 * is closed as soon as it is up makes no hot loop; but the first loss after a good start is an outage of
 * its own. */
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
    c->has_plan = true;
    connection_tell_plan(c, delay);
}

/* ---- the watchdog ---- */

static void on_timer(uv_timer_t *timer)
{
    /* After a stall of the loop the answer that a deadline waits for may be here already. */
    connection_receive_events(timer->data);
    watchdog_event tick = {.type = WATCHDOG_EVENT_TICK};
    connection_feed(timer->data, &tick);
}

static void set_timer(struct connection *c)
{
    uint64_t deadline = watchdog_deadline(&c->dog);
    if (c->draining && c->drain_deadline < deadline)
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
    if (c->attempt_base == 0)
        c->attempt_base = c->dog.attempt;
    connection_tell_up(c, reason);
}

static void do_reconnected(struct connection *c)
{
    c->up = true;
    c->deaf = false;
    c->reconnects++;
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
    connection_tell_closed(c, reason);
}

static void carry_out(struct connection *c, const watchdog_action *a)
{
    switch (a->type) {
    case WATCHDOG_ACTION_DIAL:
        do_dial(c, a->link);
        break;
    case WATCHDOG_ACTION_DESTROY:
        do_destroy(c, a->link);
        break;
    case WATCHDOG_ACTION_ABANDON:
        do_abandon(c, a->link);
        break;
    case WATCHDOG_ACTION_PROBE:
        if (c->link != NULL)
            link_ask(c->link, LINK_ASK_PROBE);
        break;
    case WATCHDOG_ACTION_AUDIT:
        if (c->link != NULL)
            link_ask(c->link, LINK_ASK_AUDIT);
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
    c->publish_lost += c->queue.publishes;
    record_queue_clear(&c->queue);
    connection_fail_waiters(c, &e);
    subscriptions_end_all(c);
    log_emit(c->hub->log, LOG_INFO, "connection ended", log_str("connection", c->name),
             log_int("unsent", (int64_t)c->publish_lost));
}

static void step(struct connection *c, const watchdog_event *event)
{
    watchdog_actions actions;
    watchdog_state before = c->dog.state;
    watchdog_step(&c->dog, event, connection_now(c), &actions);
    if (before == WATCHDOG_DIALING && c->dog.state == WATCHDOG_CLOSED) {
        c->dials_failed++;
        connection_tell_dial_failed(c, c->dog.reason);
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
    set_timer(c);
}

void connection_feed_link(struct connection *c, watchdog_event_type type, uint64_t link)
{
    watchdog_event event = {.type = type, .link = link};
    connection_feed(c, &event);
}

/* ---- public ---- */

static void on_timer_closed(uv_handle_t *handle)
{
    struct connection *c = handle->data;
    c->hub->handles--;
    link_options_release(c->options.link);
    free(c->name);
    free(c);
}

struct connection *connection_new(struct hub *hub, const char *name,
                                  const connection_options *options)
{
    struct connection *c = calloc(1, sizeof *c);
    if (c == NULL || (c->name = strdup(name)) == NULL) {
        free(c);
        return NULL;
    }
    c->hub = hub;
    c->options = *options;
    link_options_retain(options->link);
    c->flush_token = FIRST_FLUSH_TOKEN;
    c->down_since = WATCHDOG_NEVER;
    c->drain_deadline = WATCHDOG_NEVER;
    watchdog_init(&c->dog, &options->watchdog);
    uv_timer_init(hub->loop, &c->timer);
    c->timer.data = c;
    hub->handles++;
    c->next = hub->connections;
    if (c->next != NULL)
        c->next->back = &c->next;
    c->back = &hub->connections;
    hub->connections = c;
    return c;
}

void connection_observe(struct connection *c, const connection_observer *observer, void *closure)
{
    c->observer = observer;
    c->closure = closure;
}

/* What the script wants is done at the next turn, never inside its call: doing it may ask the policy,
 * run hooks and resume what waits, which is Lua again. */
void connection_carry_out_wants(struct connection *c)
{
    if (c->want_start) {
        c->want_start = false;
        connection_feed_link(c, WATCHDOG_EVENT_START, 0);
    }
    if (c->want_stop) {
        c->want_stop = false;
        connection_feed_link(c, WATCHDOG_EVENT_STOP, 0);
    }
    if (c->want_replace) {
        c->want_replace = false;
        connection_feed_link(c, WATCHDOG_EVENT_REPLACE, 0);
    }
}

void connection_start(struct connection *c)
{
    c->want_start = true;
    hub_again(c->hub);
}

int connection_reconnect(struct connection *c, error *e)
{
    if (c->closing)
        return error_set(e, "closed", ERROR_CLASS_NONE, "connection %s is closed", c->name);
    c->want_replace = true;
    hub_again(c->hub);
    return 0;
}

void connection_close(struct connection *c)
{
    if (c->closing)
        return;
    c->closing = true;
    c->want_stop = true;
    hub_again(c->hub);
}

void connection_drain(struct connection *c, uint32_t timeout_ms)
{
    if (c->draining || c->closing)
        return;
    c->draining = true;
    c->drain_deadline = connection_now(c) + timeout_ms;
    for (struct subscription *s = c->subscriptions, *next; s != NULL; s = next) {
        next = s->next;
        if (s != c->inbox.subscription) /* handlers that finish may wait for answers */
            subscription_drain(s);
    }
    set_timer(c);
    hub_again(c->hub);
}

/* Done with subscriptions and handlers: flush; flushed: close. */
void connection_check_drain(struct connection *c)
{
    if (!c->draining || c->closing)
        return;
    bool late = connection_now(c) >= c->drain_deadline;
    bool busy = c->subscription_count > (c->inbox.subscription != NULL) ||
                (c->observer != NULL && c->observer->busy != NULL && c->observer->busy(c->closure));
    if (!late && busy)
        return;
    bool nothing = c->queue.head == NULL && (c->link == NULL || link_unsent_bytes(c->link) == 0);
    if (late || (!c->up && nothing)) {
        if (late)
            log_emit(c->hub->log, LOG_WARN, "drain deadline passed", log_str("connection", c->name),
                     log_int("subscriptions", c->subscription_count),
                     log_int("pending_bytes", (int64_t)c->queue.bytes));
        connection_close(c);
    } else if (c->up && !c->drain_flushed) {
        uint64_t left = c->drain_deadline - connection_now(c);
        c->drain_flushed = record_push_command(&c->queue, RECORD_FLUSH, NULL, DRAIN_TOKEN, left) == 0;
    }
}

bool connection_is_over(const struct connection *c)
{
    return c->dog.state == WATCHDOG_STOPPED && c->slots == NULL;
}

void connection_free(struct connection *c)
{
    for (struct link_slot *slot = c->slots; slot != NULL;) {
        struct link_slot *next = slot->next;
        record_queue rest = {0};
        link_close(slot->link, &rest);
        record_queue_clear(&rest);
        link_leave(slot->link);
        free(slot);
        slot = next;
    }
    c->slots = NULL;
    subscriptions_end_all(c);
    while (c->subscriptions != NULL) { /* of links that hang: their last words are not awaited */
        c->subscriptions->link_subs = 0;
        subscription_end(c->subscriptions);
    }
    record_queue_clear(&c->queue);
    free(c->inbox.slots);
    *c->back = c->next;
    if (c->next != NULL)
        c->next->back = c->back;
    uv_close((uv_handle_t *)&c->timer, on_timer_closed);
}

struct connection *connection_after(const struct connection *c)
{
    return c->next;
}

const char *connection_name(const struct connection *c)
{
    return c->name;
}

struct hub *connection_hub(const struct connection *c)
{
    return c->hub;
}

const connection_options *connection_get_options(const struct connection *c)
{
    return &c->options;
}

void connection_get_state(const struct connection *c, connection_state *out)
{
    *out = (connection_state){
        .state = c->dog.state,
        .ready = c->up && !c->deaf,
        .attempt = c->dog.attempt > c->attempt_base ? c->dog.attempt - c->attempt_base : 0,
        .outage = connection_outage(c),
        .reason = c->dog.reason,
        .links = c->links,
        .dials = c->dials,
        .dials_failed = c->dials_failed,
        .reconnects = c->reconnects,
        .abandoned = c->abandoned,
        .in_messages = c->in_messages,
        .in_bytes = c->in_bytes,
        .out_messages = c->out_messages,
        .out_bytes = c->out_bytes,
        .pending_bytes = c->queue.bytes,
        .pending_dropped = c->pending_dropped,
        .publish_lost = c->publish_lost,
        .subscriptions = c->subscription_count - (c->inbox.subscription != NULL),
        .server = c->server,
        .error = c->error,
        .dropped = c->dropped,
    };
    for (const struct subscription *s = c->subscriptions; s != NULL; s = s->next) {
        subscription_state one;
        subscription_get_state(s, &one);
        out->dropped += one.dropped;
    }
    for (const struct link_slot *slot = c->slots; slot != NULL; slot = slot->next) {
        uint64_t messages, bytes;
        link_sent(slot->link, &messages, &bytes);
        out->out_messages += messages;
        out->out_bytes += bytes;
        out->hanging += slot->hanging;
    }
    if (c->link != NULL)
        out->pending_bytes += link_unsent_bytes(c->link);
}
