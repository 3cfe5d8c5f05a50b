/* A handler: a subscription as a script declared it. The subscription itself belongs to the
 * connection and stays on the wire when the handler of another generation takes it over. Loop
 * thread, but while the generation is loaded. */
#ifndef MD_SCRIPT_HANDLER_H
#define MD_SCRIPT_HANDLER_H

#include <stdbool.h>

#include "conn/subscription.h"
#include "script/generation.h"
#include "script/latency.h"
#include "script/message.h"

struct binding;
struct signal;

/* Its signal is set when no more than `at` tasks of a handler run any more. */
struct waker {
    struct signal *signal;
    unsigned at;
    int ref; /* keeps it */
};

/* A subscription as the script declared it. Counted: the script's handle, the subscription, and
 * each task that runs it hold it. */
struct handler {
    /* What each message needs lies together: with very many handlers it is in no cache. */
    unsigned references;
    unsigned running; /* tasks that handle its messages */
    struct binding *binding;
    struct message_slot slot;
    struct waker *waker; /* NULL: none */
    latency_sampling sampling;
    struct callback callback;
    latency *latency; /* of its calls, with what they wait for; NULL: none yet, or no memory */
    struct handler *next, **back;      /* in binding->handlers until it ended */
    struct subscription *subscription; /* NULL: not committed, or ended */
    struct subscription *successor;    /* the same on binding->successor */
    struct subscription *leaving;      /* the same on a connection that was handed over */
    struct handler *matched;           /* of the generation before, while this one takes over */
    struct interest *interest;
    char name[]; /* that it was given; none: its subject */
};

/* What it is called where people look: its subject; its name, when that is an inbox. */
const char *handler_label(const struct handler *h);

/* What a subscription costs outside of the interpreter, about: charged to the generation. */
#define HANDLER_BYTES (sizeof(struct handler) + sizeof(latency) + 736u)

/* NULL and *e. `name`: what it is called where that is not its subject; NULL: nowhere. The function
 * is set by the caller. */
struct handler *handler_new(struct binding *b, const interest_options *options, const char *name,
                            error *e);
void handler_retain(struct handler *h);
void handler_release(struct handler *h);

/* Finds the handler of the generation before that it matches, or makes what it does not get from
 * there. -1 and *e: then handler_undo(). */
int handler_prepare(struct handler *h, error *e);
void handler_undo(struct handler *h);
/* Takes over what was matched, and handles the messages from the next one on. */
void handler_put_to_work(struct handler *h);
/* Both at once, at work. -1 and *e: it is over. */
int handler_commit(struct handler *h, error *e);

/* Its binding's successor is up: the subscription there is the one from now on, the other is
 * drained. */
void handler_hand_over(struct handler *h);

/* No message is handled after this. */
void handler_unsubscribe(struct handler *h);
/* What has arrived is still handled. */
void handler_drain(struct handler *h);
/* The same as handler_unsubscribe(), and its binding does not list it any more. */
void handler_detach(struct handler *h);

#endif
