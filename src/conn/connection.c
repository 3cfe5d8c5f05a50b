/* The life of a connection, and what its owner may do with it. See connection.h. Loop thread. */
#include "conn/connection.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "conn/connection_private.h"

uint64_t connection_now(const struct connection *c)
{
    (void)c;
    return clock_ms();
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
    c->unready_since = connection_now(c);
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

/* What the script wants is done at the next turn, never inside its call: doing it may ask the
 * policy, run hooks and resume what waits, which is Lua again. */
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
    connection_note_ready(c);
    hub_again(c->hub);
}

bool connection_is_open(const struct connection *c)
{
    return !c->closing && !c->draining;
}

void connection_configure(struct connection *c, const connection_options *options)
{
    link_options_retain(options->link);
    link_options_release(c->options.link);
    c->options = *options;
    watchdog_configure(&c->dog, &options->watchdog, connection_now(c));
    connection_set_timer(c);
}

/* By links that are gone and by those that there are. */
static void sum_sent(const struct connection *c, uint64_t *messages, uint64_t *bytes)
{
    *messages = c->out_messages;
    *bytes = c->out_bytes;
    for (const struct link_slot *slot = c->slots; slot != NULL; slot = slot->next) {
        uint64_t more_messages, more_bytes;
        link_sent(slot->link, &more_messages, &more_bytes);
        *messages += more_messages;
        *bytes += more_bytes;
    }
}

static void inherit_counters(connection_counters *heir, const connection_counters *c)
{
    for (int i = 0; i < WATCHDOG_REASON_COUNT; i++)
        heir->links[i] += c->links[i];
    for (int i = 0; i < ERROR_CLASS_COUNT; i++)
        heir->failed_dials[i] += c->failed_dials[i];
    heir->outages = c->outages; /* what it had to try until it was up was no outage */
    heir->outage_seconds = c->outage_seconds;
    heir->probes_missed += c->probes_missed;
    heir->slow_bursts += c->slow_bursts;
    histogram_merge(&heir->probe_seconds, &c->probe_seconds);
}

struct connection *connection_counted(struct connection *c)
{
    while (c->heir != NULL)
        c = c->heir;
    return c;
}

static void inherit(struct connection *heir, struct connection *c)
{
    sum_sent(c, &c->handed_messages, &c->handed_bytes);
    inherit_counters(&heir->counters, &c->counters);
    heir->links += c->links;
    heir->dials += c->dials;
    heir->dials_failed += c->dials_failed;
    heir->reconnects += c->reconnects;
    heir->abandoned += c->abandoned;
    heir->in_messages += c->in_messages;
    heir->in_bytes += c->in_bytes;
    heir->out_messages += c->handed_messages;
    heir->out_bytes += c->handed_bytes;
    heir->pending_dropped += c->pending_dropped;
    heir->dropped += c->dropped;
    heir->publish_lost += c->publish_lost;
}

void connection_hand_over(struct connection *c, struct connection *heir, uint32_t timeout_ms)
{
    log_emit(c->hub->log, LOG_INFO, "connection handed over", log_str("connection", c->name),
             log_str("from", c->server), log_str("to", heir->server));
    inherit(heir, c);
    c->heir = heir;
    connection_inherit_outage(heir, c);
    connection_observe(c, NULL, NULL);
    if (c->up)
        connection_drain(c, timeout_ms);
    else
        connection_close(c);
}

/* What cannot be sent by `c` any more: its heir's to send, before what came later, or lost. */
void connection_give_up_queue(struct connection *c)
{
    if (c->heir == NULL) {
        c->publish_lost += c->queue.publishes;
        record_queue_clear(&c->queue);
        return;
    }
    record_queue all = {0};
    for (record_chunk *chunk; (chunk = record_queue_take(&c->queue)) != NULL; free(chunk))
        c->heir->publish_lost += record_queue_salvage(&all, chunk, 0);
    record_queue_append(&all, &c->heir->queue);
    c->heir->queue = all;
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
    connection_set_timer(c);
    hub_again(c->hub);
}

unsigned connection_subscriptions(const struct connection *c)
{
    return c->subscription_count - (c->inbox.subscription != NULL);
}

/* Done with subscriptions and handlers: flush; flushed: close. */
void connection_check_drain(struct connection *c)
{
    if (!c->draining || c->closing)
        return;
    bool late = connection_now(c) >= c->drain_deadline;
    bool busy = connection_subscriptions(c) > 0 || c->inbox.waiting > 0 ||
                (c->observer != NULL && c->observer->busy != NULL && c->observer->busy(c->closure));
    bool stranded = c->heir != NULL && !c->up; /* its heir sends the rest */
    if (!late && !stranded && busy)
        return;
    bool nothing = c->queue.publishes == 0 && (c->link == NULL || link_unsent_bytes(c->link) == 0);
    if (late || stranded || (!c->up && nothing)) {
        if (late)
            log_emit(c->hub->log, LOG_WARN, "drain deadline passed", log_str("connection", c->name),
                     log_int("subscriptions", connection_subscriptions(c)),
                     log_int("pending_bytes", (int64_t)c->queue.bytes));
        connection_close(c);
    } else if (c->up && !c->drain_flushed) {
        uint64_t left = c->drain_deadline - connection_now(c);
        c->drain_flushed =
            record_push_command(&c->queue, RECORD_FLUSH, NULL, DRAIN_TOKEN, left) == 0;
    }
}

bool connection_is_over(const struct connection *c)
{
    return c->dog.state == WATCHDOG_STOPPED && c->slots == NULL;
}

bool connection_only_hangs(const struct connection *c)
{
    for (const struct link_slot *slot = c->slots; slot != NULL; slot = slot->next)
        if (!slot->hanging)
            return false;
    return c->dog.state == WATCHDOG_STOPPED;
}

/* Subscriptions name what is theirs on a link: they have ended before. */
static void leave_links(struct connection *c)
{
    for (struct link_slot *slot = c->slots, *next; slot != NULL; slot = next) {
        next = slot->next;
        link_leave(slot->link, slot->messages);
        free(slot);
    }
    c->slots = NULL;
}

unsigned connection_free(struct connection *c)
{
    unsigned left = 0;
    connection_stay(c);
    for (struct link_slot *slot = c->slots; slot != NULL; slot = slot->next) {
        record_queue rest = {0};
        if (slot->hanging)
            c->hub->hanging--;
        left += !slot->gone;
        link_close(slot->link, &rest);
        record_queue_clear(&rest);
    }
    subscriptions_end_all(c);
    while (c->subscriptions != NULL) { /* of links that hang: their last words are not awaited */
        c->subscriptions->link_subs = 0;
        subscription_end(c->subscriptions);
    }
    for (struct connection *other = c->hub->connections; other != NULL; other = other->next)
        if (other->heir == c)
            other->heir = c->heir;
    record_queue_clear(&c->queue);
    leave_links(c);
    free(c->inbox.slots);
    *c->back = c->next;
    if (c->next != NULL)
        c->next->back = c->back;
    if (c->hub->next_turn == c)
        c->hub->next_turn = NULL;
    uv_close((uv_handle_t *)&c->timer, on_timer_closed);
    return left;
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

/* The deadline of what its state is about. */
static uint64_t next_at(const watchdog *w)
{
    switch (w->state) {
    case WATCHDOG_UP:
        return w->probe_deadline != WATCHDOG_NEVER ? w->probe_deadline : w->probe_at;
    case WATCHDOG_RECONNECTING:
        return w->reconnecting_deadline;
    case WATCHDOG_DIALING:
        return w->dial_deadline;
    case WATCHDOG_CLOSED:
        return w->dial_at;
    default:
        return WATCHDOG_NEVER;
    }
}

void connection_get_state(const struct connection *c, connection_state *out)
{
    *out = (connection_state){
        .state =
            c->closing ? WATCHDOG_STOPPED : c->dog.state, /* also before the turn that stops it */
        .ready = connection_is_usable(c),
        .deaf = c->up && c->deaf,
        .unready_since = c->unready_since,
        .next_at = next_at(&c->dog),
        .probing = c->up && c->dog.probe_deadline != WATCHDOG_NEVER,
        .refused = c->refused_count,
        .refused_subject = connection_refused_subject(c),
        .counters = &c->counters,
        .attempt =
            !c->up && c->dog.attempt > c->attempt_base ? c->dog.attempt - c->attempt_base : 0,
        .outage = connection_outage(c),
        .reason = c->dog.reason,
        .links = c->links,
        .dials = c->dials,
        .dials_failed = c->dials_failed,
        .reconnects = c->reconnects,
        .abandoned = c->abandoned,
        .in_messages = c->in_messages,
        .in_bytes = c->in_bytes,
        .pending_bytes = c->queue.bytes,
        .pending_dropped = c->pending_dropped,
        .publish_lost = c->publish_lost,
        .subscriptions = connection_subscriptions(c),
        .server = c->server,
        .error = c->error,
        .dropped = c->dropped,
    };
    for (const struct subscription *s = c->subscriptions; s != NULL; s = s->next) {
        subscription_state one;
        subscription_get_state(s, &one);
        out->dropped += one.dropped;
    }
    sum_sent(c, &out->out_messages, &out->out_bytes);
    for (const struct link_slot *slot = c->slots; slot != NULL; slot = slot->next)
        out->hanging += slot->hanging;
    if (c->link != NULL)
        out->pending_bytes += link_unsent_bytes(c->link);
}
