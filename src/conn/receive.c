/* What arrives from the links of a connection: events first, then messages, in bounded batches.
 * Loop thread. */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "conn/connection_private.h"

#define LOOK_AT_CLOCK_EVERY 16u

static const struct {
    link_event_type link;
    watchdog_event_type dog;
} plain_events[] = {
    {LINK_EVENT_DISCONNECTED, WATCHDOG_EVENT_DISCONNECTED},
    {LINK_EVENT_RECONNECTED, WATCHDOG_EVENT_RECONNECTED},
};

/* ---- events of the current link ---- */

static void note_server(struct connection *c, const link_event *event)
{
    snprintf(c->server, sizeof c->server, "%s", event->text);
    c->max_payload = event->max_payload;
}

static void on_flushed(struct connection *c, uint64_t link, const link_event *event)
{
    if (event->number == READY_TOKEN) {
        if (event->error.code[0] != '\0')
            connection_set_error(c, &event->error);
        connection_feed_link(
            c, event->error.code[0] == '\0' ? WATCHDOG_EVENT_DIALED : WATCHDOG_EVENT_DIAL_FAILED,
            link);
    } else if (event->number == DRAIN_TOKEN) {
        connection_close(c);
    } else {
        connection_flushed_event(c, event);
    }
}

static void on_delay_wanted(struct connection *c, struct link *l, const link_event *event)
{
    bool failed = event->error.code[0] != '\0';
    if (failed)
        connection_set_error(c, &event->error);
    double delay = connection_ask_delay(c, (uint32_t)event->number, true);
    link_answer_delay(l, (uint32_t)(delay * 1000.0));
    if (failed)
        connection_tell_reconnect_failed(c, event->number - 1, delay);
}

static void on_slow(struct connection *c, const link_event *event)
{
    error e = {0};
    error_set(&e, "slow_consumer", ERROR_CLASS_LIMIT,
              "messages on %s arrive faster than they are handled: the newest are dropped; "
              "raise the subscription's pending, or add workers in a queue group",
              event->text);
    c->counters.slow_bursts++;
    for (struct subscription *s = c->subscriptions; s != NULL; s = s->next)
        s->bursts += strncmp(s->interest->subject, event->text, sizeof event->text - 1) == 0;
    connection_tell_error(c, &e);
}

static void on_publish_failed(struct connection *c, const link_event *event)
{
    c->publish_lost += event->number;
    connection_tell_error(c, &event->error);
}

static void on_closed(struct connection *c, uint64_t link, const link_event *event)
{
    if (c->dog.link == link && c->dog.state != WATCHDOG_STOPPED)
        connection_set_error(c, &event->error);
    connection_feed_link(c, WATCHDOG_EVENT_CLOSED, link);
}

static void on_audited(struct connection *c, uint64_t link, const link_event *event)
{
    watchdog_event audited = {
        .type = WATCHDOG_EVENT_AUDITED, .link = link, .status = event->status};
    connection_feed(c, &audited);
}

static void on_notice(struct connection *c, connection_notice notice)
{
    connection_info info = {.notice = notice};
    log_emit(c->hub->log, LOG_INFO,
             notice == CONNECTION_LAME_DUCK ? "server enters lame duck mode" : "servers discovered",
             log_str("connection", c->name), log_str("server", c->server));
    connection_tell(c, &info);
}

static void on_current_event(struct connection *c, struct link *l, const link_event *event)
{
    uint64_t link = link_number(l);
    switch (event->type) {
    case LINK_EVENT_DIALED:
        note_server(c, event);
        connection_sync_start(c);
        break;
    case LINK_EVENT_DIAL_FAILED:
        connection_set_error(c, &event->error);
        connection_feed_link(c, WATCHDOG_EVENT_DIAL_FAILED, link);
        break;
    case LINK_EVENT_SERVER:
        note_server(c, event);
        break;
    case LINK_EVENT_ERROR:
    case LINK_EVENT_SUB_FAILED:
        connection_tell_error(c, &event->error);
        connection_note_error(c, &event->error);
        break;
    case LINK_EVENT_PROBE_ANSWERED:
        connection_note_probe(c, event->number);
        connection_feed_link(c, WATCHDOG_EVENT_PROBE_ANSWERED, link);
        break;
    case LINK_EVENT_FLUSHED:
        on_flushed(c, link, event);
        break;
    case LINK_EVENT_DELAY_WANTED:
        on_delay_wanted(c, l, event);
        break;
    case LINK_EVENT_SLOW:
        on_slow(c, event);
        break;
    case LINK_EVENT_PUBLISH_FAILED:
        on_publish_failed(c, event);
        break;
    case LINK_EVENT_CLOSED:
        on_closed(c, link, event);
        break;
    case LINK_EVENT_AUDITED:
        on_audited(c, link, event);
        break;
    case LINK_EVENT_LAME_DUCK:
        on_notice(c, CONNECTION_LAME_DUCK);
        connection_leave_lame_duck(c);
        break;
    case LINK_EVENT_DISCOVERED:
        on_notice(c, CONNECTION_DISCOVERED);
        break;
    default:
        for (size_t i = 0; i < sizeof plain_events / sizeof plain_events[0]; i++)
            if (plain_events[i].link == event->type)
                connection_feed_link(c, plain_events[i].dog, link);
    }
}

/* It was accepted before all that waits. */
static void on_returned(struct connection *c, link_event *event)
{
    if (event->records == NULL) {
        c->publish_lost++;
        return;
    }
    record_queue_prepend(&c->queue, event->records);
    event->records = NULL;
    if (c->dog.state == WATCHDOG_STOPPED)
        connection_give_up_queue(c);
}

static void receive_slot_events(struct connection *c, struct link_slot *slot)
{
    link_event *next;
    for (link_event *e = mailbox_take_events(link_mailbox(slot->link)); e != NULL; e = next) {
        next = e->next;
        if (e->type == LINK_EVENT_GONE) {
            slot->gone = true;
            slot->leave_at = connection_now(c) + LAST_WORDS_MS;
            connection_feed_link(c, WATCHDOG_EVENT_GONE, link_number(slot->link));
        } else if (e->type == LINK_EVENT_RETURNED) {
            on_returned(c, e);
        } else if (c->link == slot->link) {
            on_current_event(c, slot->link, e);
        } else if (e->type == LINK_EVENT_PUBLISH_FAILED) {
            c->publish_lost += e->number;
        }
        free(e->records);
        free(e);
    }
}

void connection_receive_events(struct connection *c)
{
    /* New slots are put in front, and none is taken out here: the list stays good. */
    for (struct link_slot *slot = c->slots; slot != NULL; slot = slot->next)
        receive_slot_events(c, slot);
    if (c->sync_next != NULL)
        connection_sync_continue(c);
}

/* ---- messages ---- */

/* The time of the clock's last tick: late by some milliseconds, and as good as free. */
static uint64_t coarse_time(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* Slow handlers are noticed after each message: some that are all stopped at their budgets would be
 * a stall of the loop together. A host that polls gave a time that is kept exactly. */
static bool is_over(const struct hub *h, uint32_t count, uint64_t until)
{
    if (h->poll_until != 0)
        return uv_hrtime() >= until;
    return coarse_time() >= until || (count % LOOK_AT_CLOCK_EVERY == 0 && uv_hrtime() >= until);
}

/* True when the time is over and there is more. */
static bool receive_chunk(struct connection *c, struct link_slot *slot, uint64_t until)
{
    mailbox_chunk *chunk = slot->messages;
    while (chunk->read < chunk->count) {
        if (hub_is_late(c->hub))
            return true;
        const mailbox_item *item = &chunk->items[chunk->read++];
        slot->taken++;
        if (item->msg != NULL)
            subscription_message(c, item);
        else
            subscription_last_word(c, item->sub);
        if (is_over(c->hub, chunk->read, until))
            return true;
    }
    return false;
}

bool connection_receive_messages(struct connection *c, uint64_t until)
{
    for (struct link_slot *slot = c->slots; slot != NULL; slot = slot->next) {
        for (;;) {
            if (slot->messages == NULL)
                slot->messages = mailbox_take_messages(link_mailbox(slot->link));
            mailbox_chunk *chunk = slot->messages;
            if (chunk == NULL)
                break;
            bool late = receive_chunk(c, slot, until);
            if (chunk->read == chunk->count) {
                slot->messages = chunk->next;
                mailbox_recycle(link_mailbox(slot->link), chunk);
            }
            if (late || uv_hrtime() >= until)
                return true;
        }
    }
    return false;
}

uint64_t connection_waiting(const struct connection *c)
{
    uint64_t count = 0;
    for (const struct link_slot *slot = c->slots; slot != NULL; slot = slot->next)
        count += mailbox_count(link_mailbox(slot->link)) - slot->taken;
    return count;
}
