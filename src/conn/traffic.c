/* What a connection sends: subscriptions to a fresh link, publishes, flushes. Everything goes
 * through one queue of records, so that the order in which the script did things is the order on
 * the wire. Loop thread. */
#include <stdlib.h>
#include <string.h>

#include "base/thread.h"
#include "conn/connection_private.h"

#define SYNC_STEP 2000u             /* subscriptions sent per turn: the loop's timers go on */
#define SEND_AT_BYTES (64u * 1024u) /* do not wait for the turn's end with more than this */
#define GIVE_WAY_AT 256u            /* messages among them */

/* ---- subscriptions on the wire ---- */

/* 0, or -1 when out of memory: the link cannot carry what it should. */
static int sync_one(struct connection *c, struct subscription *s)
{
    struct link_sub *wire = link_sub_new(c->link, s, s->interest);
    if (wire == NULL)
        return -1;
    uint64_t max = s->limited ? s->interest->max - s->handled : 0;
    if (record_push_command(&c->queue, RECORD_SUBSCRIBE, link_sub_retain(wire), max, 0) != 0) {
        link_sub_release(wire);
        link_sub_done(wire);
        return -1;
    }
    s->wire = wire;
    s->link_subs++;
    return 0;
}

static void sync_done(struct connection *c)
{
    if (!c->syncing)
        return;
    c->syncing = false;
    /* The server's answer to this is the proof that all of it is in place. */
    record_push_command(&c->queue, RECORD_FLUSH, NULL, READY_TOKEN,
                        c->options.link->dial_timeout_ms);
    link_send(c->link, &c->queue);
}

void connection_sync_start(struct connection *c)
{
    /* The publishes that wait come after the subscriptions, when the link is up. */
    c->syncing = true;
    c->sync_next = c->subscriptions;
    connection_sync_continue(c);
}

static bool has_unsent_head(const struct connection *c)
{
    const struct subscription *head = c->subscriptions;
    return head != NULL && head->active && head->wire == NULL;
}

void connection_sync_continue(struct connection *c)
{
    if (c->link == NULL || (!c->syncing && !c->up))
        return;
    if (!c->syncing && c->sync_next == NULL)
        c->sync_next = c->subscriptions;
    record_queue waiting = c->queue;
    c->queue = (record_queue){0};
    unsigned count = 0;
    while (c->sync_next != NULL && count < SYNC_STEP) {
        struct subscription *s = c->sync_next;
        c->sync_next = s->next;
        if (s->wire != NULL || !s->active)
            continue;
        if (s->draining) { /* the last word of an old link is still to come */
            if (s->link_subs == 0)
                subscription_end(s);
            continue;
        }
        if (sync_one(c, s) != 0)
            break;
        count++;
    }
    if (c->sync_next == NULL && c->syncing && has_unsent_head(c))
        c->sync_next = c->subscriptions; /* subscribed while the others were sent */
    if (c->sync_next == NULL)
        sync_done(c);
    else
        hub_again(c->hub);
    link_send(c->link, &c->queue);
    c->queue = waiting;
}

/* A new one while the link is up. Otherwise the next sync takes it: all of them, or from the head,
 * where the new ones are. */
void connection_send_subscription(struct connection *c, struct subscription *s)
{
    if (c->up && sync_one(c, s) != 0)
        c->sync_next = s;
}

void connection_bury(struct connection *c, struct link_sub *s)
{
    if (c->link != s->link)
        return; /* it goes with its link */
    if (record_push_command(&c->queue, RECORD_UNSUBSCRIBE, link_sub_retain(s), 0, 0) != 0)
        link_sub_release(s); /* it stays until the link goes; its messages are dropped */
}

/* ---- what needs an answer ---- */

bool connection_can_ask(const struct connection *c, error *e)
{
    if (c->closing)
        error_set(e, "closed", ERROR_CLASS_NONE, "connection %s is closed", c->name);
    else if (!c->up)
        error_set(e, "disconnected", ERROR_CLASS_NETWORK, "connection %s is %s: %s", c->name,
                  watchdog_state_name(c->dog.state),
                  c->error.code[0] != '\0' ? c->error.message : "there is no link yet");
    return c->up && !c->closing;
}

/* ---- publishes ---- */

static int refuse(struct connection *c, error *e, const char *code, const char *text, size_t value)
{
    c->pending_dropped++;
    return error_set(e, code, ERROR_CLASS_LIMIT, "connection %s: %s (%zu bytes)", c->name, text,
                     value);
}

static void show_published(const struct connection *c, const record_message *m)
{
    tap_message shown = {.out = true,
                         .connection = c->name,
                         .subject = m->subject,
                         .subject_length = m->subject_length,
                         .reply = m->reply_length > 0 ? m->reply : NULL,
                         .reply_length = m->reply_length,
                         .data = m->data,
                         .length = m->data_length};
    c->hub->tap(c->hub->tap_closure, &shown);
}

int header_check(const char *name, size_t name_length, const char *value, size_t value_length,
                 error *e)
{
    int shown = (int)(name_length > 100 ? 100 : name_length);
    if (name_length == 0)
        return error_set(e, "invalid_header", ERROR_CLASS_NONE, "a header's name is empty");
    for (size_t i = 0; i < name_length; i++)
        if (name[i] <= ' ' || name[i] == ':' || name[i] == 0x7f)
            return error_set(e, "invalid_header", ERROR_CLASS_NONE,
                             "header \"%.*s\": a name has no white space, colon or control byte",
                             shown, name);
    if (memchr(value, '\r', value_length) != NULL || memchr(value, '\n', value_length) != NULL ||
        memchr(value, '\0', value_length) != NULL)
        return error_set(e, "invalid_header", ERROR_CLASS_NONE,
                         "header \"%.*s\": a value is one line of text", shown, name);
    return 0;
}

/* Whether as many bytes fit under the cap, or *pending, what is there. The worker writes its
 * counter with each record: looking at it each time would slow down both threads. */
static bool has_room(const struct connection *c, size_t size, size_t *pending)
{
    *pending = c->queue.bytes + (c->link != NULL ? link_unsent_at_most(c->link) : 0);
    if (*pending + size > c->options.pending_bytes && c->link != NULL)
        *pending = c->queue.bytes + link_unsent_bytes(c->link);
    return *pending + size <= c->options.pending_bytes;
}

/* Most are published to the subject of the one before: that is compared faster than checked. */
static int check_subject(struct connection *c, const record_message *m, error *e)
{
    size_t length = m->subject_length;
    if (length > 0 && length == c->good_subject_length &&
        memcmp(m->subject, c->good_subject, length) == 0)
        return 0;
    if (subject_check(m->subject, length, false, e) != 0)
        return -1;
    if (length <= sizeof c->good_subject) {
        memcpy(c->good_subject, m->subject, length);
        c->good_subject_length = length;
    }
    return 0;
}

/* Much has gathered, and more may come in this turn. When it is many small messages, its worker
 * needs less time for them than the loop did, and the server more than both: then they go out while
 * they are in this processor's caches, and the server keeps the other one. With larger ones it is
 * the worker that has the work, on a processor of its own. A host's poll ends when the host says
 * so: it does not give its time to others. */
static void send_early(struct connection *c)
{
    bool many = c->queue.publishes >= GIVE_WAY_AT;
    link_send(c->link, &c->queue);
    if (many && c->hub->poll_until == 0)
        thread_give_way(&c->hub->give_way_next);
}

int connection_publish(struct connection *c, const record_message *m, error *e)
{
    if (c->closing)
        return error_set(e, "closed", ERROR_CLASS_NONE, "connection %s is closed", c->name);
    if (check_subject(c, m, e) != 0 ||
        (m->reply_length > 0 && subject_check(m->reply, m->reply_length, false, e) != 0))
        return -1;
    size_t payload = m->data_length + m->header_length;
    if ((c->max_payload > 0 && payload > (size_t)c->max_payload) || payload > INT32_MAX)
        return refuse(c, e, "too_large", "the message is larger than the server takes", payload);
    size_t pending, size = record_message_size(m);
    if (!has_room(c, size, &pending))
        return refuse(
            c, e, "pending_full",
            "the buffer for messages that cannot be sent yet is full; raise pending.bytes "
            "or publish less",
            pending);
    if (record_push_message(&c->queue, m) != 0)
        return refuse(c, e, "no_memory", "no memory for a message", size);
    if (c->hub->tap != NULL)
        show_published(c, m);
    if (c->up && c->queue.bytes >= SEND_AT_BYTES)
        send_early(c);
    return 0;
}

void connection_send_queue(struct connection *c)
{
    if (c->up && c->link != NULL && c->queue.head != NULL)
        link_send(c->link, &c->queue);
}

/* ---- flushes ---- */

uint64_t connection_flush(struct connection *c, uint32_t timeout_ms, connection_flushed done,
                          void *closure, error *e)
{
    if (!connection_can_ask(c, e))
        return 0;
    struct flush_waiter *w = calloc(1, sizeof *w);
    if (w == NULL ||
        record_push_command(&c->queue, RECORD_FLUSH, NULL, c->flush_token, timeout_ms) != 0) {
        free(w);
        error_set(e, "no_memory", ERROR_CLASS_LIMIT, "no memory for a flush");
        return 0;
    }
    *w = (struct flush_waiter){c->flushes, c->flush_token++, done, closure};
    c->flushes = w;
    return w->token;
}

static struct flush_waiter *take_waiter(struct connection *c, uint64_t token)
{
    for (struct flush_waiter **at = &c->flushes; *at != NULL; at = &(*at)->next) {
        struct flush_waiter *w = *at;
        if (w->token != token)
            continue;
        *at = w->next;
        return w;
    }
    return NULL;
}

void connection_flush_cancel(struct connection *c, uint64_t token)
{
    free(take_waiter(c, token));
}

void connection_fail_waiters(struct connection *c, const error *e)
{
    connection_fail_requests(c, e);
    while (c->flushes != NULL) {
        struct flush_waiter *w = take_waiter(c, c->flushes->token);
        w->done(w->closure, e);
        free(w);
    }
}

void connection_flushed_event(struct connection *c, const link_event *event)
{
    struct flush_waiter *w = take_waiter(c, event->number);
    if (w == NULL)
        return;
    w->done(w->closure, &event->error);
    free(w);
}
