/* Subscriptions of a connection. See subscription.h. Loop thread. */
#include "conn/subscription.h"

#include <stdlib.h>
#include <string.h>

#include "conn/connection_private.h"
#include "link/inner.h"

static int bad_subject(error *e, const char *subject, size_t length, const char *why)
{
    return error_set(e, "invalid_subject", ERROR_CLASS_NONE, "bad subject \"%.*s\": %s",
                     (int)(length > 100 ? 100 : length), subject, why);
}

static bool is_wildcard(const char *token, size_t length)
{
    return length == 1 && (token[0] == '*' || token[0] == '>');
}

static const char *token_problem(const char *token, size_t length, bool last, bool wildcards)
{
    if (length == 0)
        return "it has an empty token (a dot too many)";
    bool wild = is_wildcard(token, length);
    if (wild && !wildcards)
        return "nothing can be published to a wildcard";
    if (wild && token[0] == '>' && !last)
        return "> can only be its last token";
    return NULL;
}

/* Of every publish: one step a byte, and one a token. */
int subject_check(const char *subject, size_t length, bool wildcards, error *e)
{
    if (length == 0)
        return bad_subject(e, subject, length, "it is empty");
    if (length > SUBJECT_MAX)
        return bad_subject(e, subject, length, "it is longer than 1024 bytes");
    const char *token = subject, *end = subject + length, *why = NULL;
    for (const char *at = subject; at < end && why == NULL; at++) {
        unsigned char b = (unsigned char)*at;
        if (b > '.' && b != 0x7f)
            continue;
        if (b == '.') {
            why = token_problem(token, (size_t)(at - token), false, wildcards);
            token = at + 1;
        } else if (b <= ' ' || b == 0x7f) {
            why = "it has white space or a control byte";
        }
    }
    if (why == NULL)
        why = token_problem(token, (size_t)(end - token), true, wildcards);
    return why == NULL ? 0 : bad_subject(e, subject, length, why);
}

bool subject_matches(const char *pattern, const char *subject, size_t length)
{
    const char *end = subject + length;
    for (;;) {
        size_t wanted = strcspn(pattern, "."), token = 0;
        while (subject + token < end && subject[token] != '.')
            token++;
        if (wanted == 1 && pattern[0] == '>')
            return token > 0;
        bool any = wanted == 1 && pattern[0] == '*';
        if (!any && (wanted != token || memcmp(pattern, subject, token) != 0))
            return false;
        pattern += wanted;
        subject += token;
        if (*pattern == '\0' || subject == end)
            return *pattern == '\0' && subject == end;
        pattern++;
        subject++;
    }
}

static void subscription_free(struct subscription *s)
{
    struct connection *c = s->connection;
    if (c->sync_next == s)
        c->sync_next = s->next;
    *s->back = s->next;
    if (s->next != NULL)
        s->next->back = s->back;
    interest_release(s->interest);
    free(s);
}

struct subscription *subscription_new(struct connection *c, struct interest *interest, error *e)
{
    if (c->closing || c->draining) {
        error_set(e, "closed", ERROR_CLASS_NONE, "connection %s is %s", c->name,
                  c->draining ? "draining" : "closed");
        return NULL;
    }
    const char *subject = interest->subject, *queue = interest_queue(interest);
    if (subject_check(subject, strlen(subject), true, e) != 0 ||
        (queue != NULL && subject_check(queue, strlen(queue), false, e) != 0))
        return NULL;
    if (c->subscription_count >= SUBSCRIPTIONS_MAX) {
        error_set(e, "too_many", ERROR_CLASS_LIMIT, "connection %s has %u subscriptions: no more",
                  c->name, SUBSCRIPTIONS_MAX);
        return NULL;
    }
    struct subscription *s = calloc(1, sizeof *s);
    if (s == NULL) {
        error_set(e, "no_memory", ERROR_CLASS_LIMIT, "no memory for a subscription");
        return NULL;
    }
    s->connection = c;
    s->interest = interest_retain(interest);
    s->limited = interest->max > 0;
    s->active = true;
    s->next = c->subscriptions;
    if (s->next != NULL)
        s->next->back = &s->next;
    s->back = &c->subscriptions;
    c->subscriptions = s;
    c->subscription_count++;
    connection_send_subscription(c, s);
    return s;
}

void subscription_handle(struct subscription *s, const subscription_observer *observer,
                         void *closure)
{
    s->observer = observer;
    s->closure = closure;
}

void subscription_set_interest(struct subscription *s, struct interest *interest)
{
    if (s->interest == interest)
        return;
    interest_release(s->interest);
    s->interest = interest_retain(interest);
    if (s->wire == NULL)
        return;
    atomic_store_explicit(&s->wire->max_messages, interest->pending_messages, memory_order_relaxed);
    atomic_store_explicit(&s->wire->max_bytes, interest->pending_bytes, memory_order_relaxed);
}

/* Counters never go back: what a link has dropped so far is kept before the link is left. */
static void keep_dropped(struct subscription *s, struct link_sub *wire)
{
    s->dropped_before += atomic_exchange(&wire->dropped, 0);
}

void subscription_leave_wire(struct subscription *s)
{
    if (s->wire != NULL)
        keep_dropped(s, s->wire);
    s->wire = NULL;
}

/* Not active any more, and told so; freed when no link names it. */
void subscription_end(struct subscription *s)
{
    if (s->active) {
        s->active = false;
        s->connection->subscription_count--;
        connection_forget_refusal(s->connection, s);
        connection_note_ready(s->connection);
    }
    if (s->wire != NULL)
        connection_bury(s->connection, s->wire);
    subscription_leave_wire(s);
    if (!s->over) {
        s->over = true;
        connection_counted(s->connection)->dropped += s->dropped_before;
        if (s->observer != NULL)
            s->observer->ended(s->closure, s);
    }
    if (s->link_subs == 0)
        subscription_free(s);
}

void subscriptions_end_all(struct connection *c)
{
    for (struct subscription *s = c->subscriptions, *next; s != NULL; s = next) {
        next = s->next;
        if (s->active)
            subscription_end(s);
    }
}

static bool is_used_up(const struct subscription *s)
{
    return s->limited && s->handled >= s->interest->max;
}

void subscription_inherit(struct subscription *s, struct subscription *from)
{
    s->handled += from->handled;
    if (from->wire != NULL)
        keep_dropped(from, from->wire);
    s->dropped_before += from->dropped_before;
    from->dropped_before = 0;
    s->bursts += from->bursts;
    from->bursts = 0;
    if (s->active && is_used_up(s))
        subscription_end(s);
}

void subscription_unsubscribe(struct subscription *s)
{
    if (s->active)
        subscription_end(s);
}

/* What has arrived is in the mailbox of a link, before the last word of its link_sub. */
void subscription_drain(struct subscription *s)
{
    if (!s->active || s->draining)
        return;
    s->draining = true;
    struct connection *c = s->connection;
    if (s->link_subs == 0) {
        subscription_end(s);
    } else if (s->wire != NULL && !c->up) {
        connection_bury(c, s->wire);
        subscription_leave_wire(s);
    } else if (s->wire != NULL &&
               record_push_command(&c->queue, RECORD_DRAIN, link_sub_retain(s->wire), 0, 0) != 0) {
        link_sub_release(s->wire);
        subscription_end(s);
    }
}

static void show_message(const struct connection *c, natsMsg *msg, uint64_t bytes)
{
    const char *subject = natsMsg_GetSubject(msg), *reply = natsMsg_GetReply(msg);
    tap_message shown = {.connection = c->name,
                         .subject = subject,
                         .subject_length = strlen(subject),
                         .reply = reply,
                         .reply_length = reply != NULL ? strlen(reply) : 0,
                         .data = natsMsg_GetData(msg),
                         .length = (size_t)bytes};
    c->hub->tap(c->hub->tap_closure, &shown);
}

void subscription_message(struct connection *c, const mailbox_item *item)
{
    struct link_sub *wire = item->sub;
    natsMsg *msg = item->msg;
    link_add(&wire->taken_messages, 1);
    link_add(&wire->taken_bytes, item->weight);
    struct subscription *s = wire->owner;
    if (!s->active || s->observer == NULL) {
        message_free(msg);
        return;
    }
    connection_counted(c)->in_messages++;
    connection_counted(c)->in_bytes += item->length;
    s->handled++;
    if (c->hub->tap != NULL)
        show_message(c, msg, item->length);
    bool last = is_used_up(s);
    hub_serve(c->hub);
    c->hub->served++;
    s->observer->message(s->closure, s, msg, item->weight);
    if (last && s->active)
        subscription_end(s);
}

static bool is_finished(const struct subscription *s)
{
    return (s->draining && s->link_subs == 0) || is_used_up(s);
}

void subscription_last_word(struct connection *c, struct link_sub *wire)
{
    struct subscription *s = wire->owner;
    bool current = s->wire == wire;
    s->link_subs--;
    if (s->over)
        connection_counted(c)->dropped += atomic_load(&wire->dropped);
    keep_dropped(s, wire);
    if (current) {
        s->wire = NULL;
        connection_bury(c, wire); /* the worker still has it, when it was drained */
    }
    if (s->active && is_finished(s)) {
        subscription_end(s); /* frees it, when this was the last link */
    } else if (s->over && s->link_subs == 0) {
        subscription_free(s);
    } else if (s->active && current && !s->draining && atomic_load(&wire->failed)) {
        connection_note_refused(c, s);
    } else if (s->active && current && !s->draining) {
        /* Its `max` came to an end with messages that were dropped: it waits for the rest. */
        connection_send_subscription(c, s);
    }
    link_sub_done(wire);
}

const struct interest *subscription_interest(const struct subscription *s)
{
    return s->interest;
}

struct connection *subscription_connection(const struct subscription *s)
{
    return s->connection;
}

struct subscription *subscription_next(const struct connection *c, const struct subscription *after)
{
    return after == NULL ? c->subscriptions : after->next;
}

void subscription_get_state(const struct subscription *s, subscription_state *out)
{
    *out = (subscription_state){.handled = s->handled,
                                .dropped = s->dropped_before,
                                .bursts = s->bursts,
                                .active = s->active};
    if (s->wire != NULL) {
        out->dropped += atomic_load_explicit(&s->wire->dropped, memory_order_relaxed);
        out->queued = atomic_load_explicit(&s->wire->put_messages, memory_order_relaxed) -
                      atomic_load_explicit(&s->wire->taken_messages, memory_order_relaxed);
    }
}
