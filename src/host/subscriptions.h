/* Subscriptions of the host's C code. Each is wished for until the host takes it back, and made on
 * whatever connection of that name there is: the generation at work says which. When another one
 * takes over, what the script declares still or again is found there before messages of it can
 * come; while a connection is replaced by one with other options, both have it. Loop thread. */
#ifndef MD_HOST_SUBSCRIPTIONS_H
#define MD_HOST_SUBSCRIPTIONS_H

#include "conn/subscription.h"
#include "host/messages.h"
#include "script/latency.h"

struct connection;

/* On one connection. There is one of these on the connection at work, one on that which is to take
 * its place, and one on each that is still drained. */
struct attachment {
    struct attachment *next;
    md_subscription *owner;
    struct subscription *subscription;
};

struct md_subscription {
    struct messages *messages;
    md_subscription *next, **back; /* in messages->subscriptions, in the order of the host */
    char *connection;              /* NULL: the first */
    struct interest *interest;
    md_message_fn fn;
    void *closure;
    struct attachment *attachments;
    struct callback callback; /* names it, and counts what it has handled */
    latency latency;          /* of its calls */
    latency_sampling sampling;
    uint64_t dropped, bursts; /* on connections that are gone */
    unsigned running;         /* calls of fn */
    bool over;                /* it is freed when fn returns */
};

/* `g` is about to take over, or has declared another connection: makes what it shall have. -1 and
 * *e: then subscriptions_undo(). These are harmless with NULL for messages. */
int subscriptions_prepare(struct messages *m, const struct generation *g, error *e);
/* All is as it was with the generation at work. */
void subscriptions_undo(struct messages *m);
/* `g` is at work. */
void subscriptions_put_to_work(struct messages *m, struct generation *g);
/* What is on connections that are none of theirs any more is drained. */
void subscriptions_drain_rest(struct messages *m);
/* `heir` takes the place of `c`, which is drained next. */
void subscriptions_hand_over(struct messages *m, const struct connection *c,
                             const struct connection *heir);

/* Which of the generation at work it is on; NULL: it waits for one. */
const struct binding *subscriptions_place(const md_subscription *s);
/* The one of `s` on this connection, or NULL. */
struct subscription *subscriptions_on(const md_subscription *s, const struct connection *c);
/* How many are on no connection: no script declares it, or it is closed. */
unsigned subscriptions_waiting(const struct messages *m);
/* Of all its connections together; `active`: one of them has it. */
void subscriptions_get_state(const md_subscription *s, subscription_state *out);

#endif
