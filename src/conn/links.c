/* The links of a connection: making, giving up, taking leave of them. What the watchdog decides is
 * carried out here. Loop thread. */
#include <stdlib.h>
#include <string.h>

#include "conn/connection_private.h"

#define LEAST_SENT_MS 5000u /* a server asks a client that says nothing for a PONG before */

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
    c->has_dial_failed = c->failed_at_once = true;
    c->dial_failed_link = number;
}

void connection_do_dial(struct connection *c, uint64_t number)
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
    const link_options *o = c->options.link;
    link_redact_url(o->servers[c->next_server % (unsigned)o->server_count], c->server,
                    sizeof c->server);
    char *token = NULL;
    if (c->observer != NULL && c->observer->token != NULL &&
        !c->observer->token(c->closure, &token)) {
        error_set(&e, "no_token", ERROR_CLASS_AUTH,
                  "the token function failed, so nothing was dialled: see the log before this");
        dial_failed_at_once(c, number, &e);
        return;
    }
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
    slot->link = l;
    slot->next = c->slots;
    c->slots = slot;
    c->link = l;
}

/* The current link, if it is this one, is not used any more. Its publishes come back to us. */
static void detach_link(struct connection *c, struct link_slot *slot)
{
    if (c->link == slot->link) {
        c->publish_lost += link_close(c->link, &c->queue);
        c->link = NULL;
        c->up = c->deaf = c->syncing = c->drain_flushed = false;
        c->sync_next = NULL;
        for (struct subscription *s = c->subscriptions; s != NULL; s = s->next)
            subscription_leave_wire(s);
        connection_forget_refusals(c);
    }
}

void connection_do_destroy(struct connection *c, uint64_t number)
{
    struct link_slot *slot = find_slot(c, number);
    if (slot == NULL) { /* it never got so far as to have a worker */
        c->has_gone = true;
        c->gone_link = number;
        return;
    }
    detach_link(c, slot);
}

void connection_do_abandon(struct connection *c, uint64_t number)
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
    r->sent_ms = r->silent_ms > LEAST_SENT_MS ? r->silent_ms : LEAST_SENT_MS;
}

static void count_sent(struct connection *c, const struct link *l)
{
    uint64_t messages, bytes;
    link_sent(l, &messages, &bytes);
    c->out_messages += messages;
    c->out_bytes += bytes;
    if (c->heir == NULL || c->out_messages < c->handed_messages)
        return;
    connection_counted(c)->out_messages += c->out_messages - c->handed_messages;
    connection_counted(c)->out_bytes += c->out_bytes - c->handed_bytes;
    c->handed_messages = c->out_messages;
    c->handed_bytes = c->out_bytes;
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
