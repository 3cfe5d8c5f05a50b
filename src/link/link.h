/* A link: one natsConnection, with a worker thread that alone makes the calls into nats.c that can
 * block. This is the bulkhead: whatever nats.c does (hold its lock for seconds, block in send(),
 * spin on a silent peer), the loop thread goes on. A link lives from link_start() until its worker
 * has destroyed the natsConnection; it is dialled once and never used again after it failed: the
 * next one is fresh.
 *
 * The functions here run on the loop thread and never block, but where it says otherwise. What
 * happens in the link arrives through its mailbox. */
#ifndef MD_LINK_LINK_H
#define MD_LINK_LINK_H

#include <nats/nats.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "link/interest.h"
#include "link/mailbox.h"
#include "link/options.h"
#include "link/records.h"

struct link;

/* A subscription on one link: the closure of nats.c's message callback. Counted: the loop has it
 * until its last word (a mailbox item without message), the worker until it has destroyed the
 * library's subscription, and each record that names it.
 *
 * There may be very many, so they are packed: what the delivery thread writes with each message is
 * at the beginning, and what the loop writes with each 64 bytes behind it and before the next one,
 * so that no cache line has both. */
struct link_sub {
    /* The delivery thread's half. */
    _Atomic uint64_t put_messages, put_bytes;
    uint32_t room_bytes;   /* so many, and messages, fit in without another look at what the */
    uint8_t room_messages; /* loop has taken: its half is in another processor's cache */
    bool slow;             /* a burst of drops is going on */
    uint16_t slow_at;      /* s, the low bits: a burst of drops was reported last; 0: never */
    struct link *link;     /* counted */
    /* Set by the loop. */
    _Atomic uint64_t max_bytes; /* pending limits; 0: none */
    _Atomic uint32_t max_messages;
    /* Seldom written. */
    atomic_int references;
    _Atomic uint64_t dropped;  /* by the delivery thread; the worker adds what the library has */
    struct interest *interest; /* counted */
    /* The loop's half. */
    _Atomic uint64_t taken_messages, taken_bytes;
    void *owner; /* the loop's; not touched by other threads */
    /* The worker's. */
    natsSubscription *nats;
    struct link_sub *next, **back; /* in one of the worker's lists; back NULL: in none */
    uint32_t library_dropped;      /* of what the library has counted, the low bits */
    bool draining;                 /* under the link's lock */
    atomic_bool failed;            /* it could not be subscribed; set before its last word */
};

typedef enum {
    LINK_ASK_PROBE = 1,
    LINK_ASK_AUDIT = 2,
    LINK_ASK_RESUME = 4, /* records that could not be sent can be tried again */
    LINK_ASK_CLOSE = 8,  /* destroy everything and end */
} link_ask_bits;

/* Starts the worker, which dials at once: the servers of the list in turn, from number
 * `first_server` on. `token` (NULL: the options' own) is copied. NULL and *e when there is no
 * memory or no thread. */
struct link *link_start(link_options *options, uint64_t number, unsigned first_server,
                        const char *token, uv_async_t *wake, error *e);

uint64_t link_number(const struct link *l);
mailbox *link_mailbox(struct link *l);

/* Adds to a counter that one thread writes, and any may read. */
static inline void link_add(_Atomic uint64_t *counter, uint64_t n)
{
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + n,
                          memory_order_relaxed);
}

/* Hands all records over to the worker; q is empty afterwards. */
void link_send(struct link *l, record_queue *q);
/* Bytes handed over and not yet processed. */
size_t link_unsent_bytes(struct link *l);
/* No less than these, and cheap: of when they were asked for last. */
size_t link_unsent_at_most(const struct link *l);
/* What the worker has handed to the library so far. */
void link_sent(const struct link *l, uint64_t *messages, uint64_t *bytes);

void link_ask(struct link *l, unsigned bits);
/* The token that the library's own reconnect attempts use from now on. */
void link_set_token(struct link *l, const char *token);
/* The answer to LINK_EVENT_DELAY_WANTED. */
void link_answer_delay(struct link *l, uint32_t delay_ms);

/* The link is given up: it delivers nothing any more, publishes nothing that it has not begun,
 * and destroys itself as soon as it can. `queue` is what waits for it; afterwards it holds the
 * publishes of both, in order, without those that the link has begun. (One of these may come back
 * by LINK_EVENT_RETURNED.) Returns how many could not be saved because there was no memory.
 * Idempotent. A message that the library had taken already, but not sent, is lost with the link:
 * NATS delivers at most once. */
uint64_t link_close(struct link *l, record_queue *queue);

/* After LINK_EVENT_GONE, when the mailbox is empty and no subscription is left: joins the worker
 * and drops the loop's reference. Blocks for the instant between the worker's last word and its
 * end. */
void link_join(struct link *l);
/* Without GONE: the runtime ends and the worker hangs. Leaves worker and link to themselves; the
 * loop has none of the link's subscriptions any more. `taken`: what was taken out of the mailbox
 * and not handled, or NULL. */
void link_leave(struct link *l, mailbox_chunk *taken);

/* A subscription for this link. NULL when out of memory. */
struct link_sub *link_sub_new(struct link *l, void *owner, struct interest *interest);
struct link_sub *link_sub_retain(struct link_sub *s);
void link_sub_release(struct link_sub *s); /* any thread */
/* The loop's reference: after its last word, or when it was never sent. */
void link_sub_done(struct link_sub *s);
/* How many of its subscriptions the loop still has. */
unsigned link_subs(const struct link *l);

#endif
