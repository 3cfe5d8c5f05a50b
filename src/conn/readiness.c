/* Whether a connection carries messages: its link is up, its last probe was answered, the server
 * has all of its subscriptions. An outage is the time in which it does not. Loop thread. */
#include <string.h>

#include "conn/connection_private.h"

/* What a server says that refuses a subscription: the subject follows, in quotes. */
#define REFUSAL "Subscription to \""

bool connection_is_up(const struct connection *c)
{
    return c->up && !c->closing;
}

bool connection_is_usable(const struct connection *c)
{
    return c->up && !c->deaf && !c->closing && c->refused_count == 0;
}

static void begin_outage(struct connection *c)
{
    if (c->in_outage || c->closing)
        return;
    c->in_outage = true;
    c->counters.outages++;
}

static void end_outage(struct connection *c, uint64_t now)
{
    if (c->in_outage && !c->closing)
        histogram_add(&c->counters.outage_seconds, &histogram_outage,
                      (double)(now - c->unready_since) / 1e3, 1);
    c->in_outage = false;
    c->unready_since = WATCHDOG_NEVER;
}

void connection_note_ready(struct connection *c)
{
    bool ready = connection_is_usable(c);
    if (ready == c->was_ready)
        return;
    uint64_t now = connection_now(c);
    c->was_ready = ready;
    c->hub->health_changed = true;
    if (ready) {
        end_outage(c, now);
    } else {
        c->unready_since = now;
        begin_outage(c);
    }
}

void connection_note_dial_failed(struct connection *c)
{
    c->counters.failed_dials[c->error.cls]++;
    begin_outage(c); /* also before the first link */
}

void connection_inherit_outage(struct connection *heir, const struct connection *c)
{
    heir->was_ready = c->was_ready;
    heir->in_outage = c->in_outage;
    heir->unready_since = c->unready_since;
    connection_note_ready(heir);
}

/* ---- refused subscriptions ---- */

static void set_refused(struct connection *c, struct subscription *s, subscription_refusal refused)
{
    c->refused_count += (refused != SUBSCRIPTION_TAKEN) - (s->refused != SUBSCRIPTION_TAKEN);
    s->refused = refused;
}

void connection_note_error(struct connection *c, const error *e)
{
    const char *at = strstr(e->message, REFUSAL);
    if (at == NULL)
        return;
    at += sizeof REFUSAL - 1;
    size_t length = strcspn(at, "\"");
    for (struct subscription *s = c->subscriptions; s != NULL; s = s->next)
        if (s->active && strlen(s->interest->subject) == length &&
            memcmp(s->interest->subject, at, length) == 0)
            set_refused(c, s, SUBSCRIPTION_REFUSED);
    connection_note_ready(c);
}

void connection_note_refused(struct connection *c, struct subscription *s)
{
    set_refused(c, s, SUBSCRIPTION_REFUSED);
    connection_note_ready(c);
}

void connection_forget_refusal(struct connection *c, struct subscription *s)
{
    set_refused(c, s, SUBSCRIPTION_TAKEN);
}

void connection_forget_refusals(struct connection *c)
{
    for (struct subscription *s = c->subscriptions; s != NULL && c->refused_count > 0; s = s->next)
        set_refused(c, s, SUBSCRIPTION_TAKEN);
}

/* A server does not say when it would take them. */
void connection_ask_refused_again(struct connection *c)
{
    if (c->refused_count == 0 || !c->up)
        return;
    for (struct subscription *s = c->subscriptions; s != NULL; s = s->next) {
        if (s->refused != SUBSCRIPTION_REFUSED || !s->active || s->draining)
            continue;
        if (s->wire != NULL)
            connection_bury(c, s->wire);
        subscription_leave_wire(s);
        s->refused = SUBSCRIPTION_ASKED_AGAIN;
        connection_send_subscription(c, s);
    }
}

void connection_note_probe(struct connection *c, uint64_t ns)
{
    histogram_add(&c->counters.probe_seconds, &histogram_trip, (double)ns / 1e9, 1);
    /* The answer to a subscription comes before that to a later probe. The first one that is
     * answered may be on the way already when the subscription is sent, or overtake it. */
    for (struct subscription *s = c->subscriptions; s != NULL && c->refused_count > 0; s = s->next)
        if (s->refused == SUBSCRIPTION_ASKED_AGAIN)
            s->refused = SUBSCRIPTION_NOT_REFUSED_AGAIN;
        else if (s->refused == SUBSCRIPTION_NOT_REFUSED_AGAIN)
            set_refused(c, s, SUBSCRIPTION_TAKEN);
    connection_note_ready(c);
}

const char *connection_refused_subject(const struct connection *c)
{
    const struct subscription *s = c->refused_count > 0 ? c->subscriptions : NULL;
    while (s != NULL && s->refused == SUBSCRIPTION_TAKEN)
        s = s->next;
    return s != NULL ? s->interest->subject : "";
}
