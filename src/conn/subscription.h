/* Subscriptions of a connection: what shall be subscribed, whatever link there is. On the wire each
 * is a link_sub of the current link; with a fresh link all of them are sent again. Loop thread. */
#ifndef MD_CONN_SUBSCRIPTION_H
#define MD_CONN_SUBSCRIPTION_H

#include <nats/nats.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "link/interest.h"

struct connection;
struct subscription;

#define SUBSCRIPTIONS_MAX 1000000u
#define SUBJECT_MAX 1024u
#define PENDING_MESSAGES 524288u
#define PENDING_BYTES (64u * 1024 * 1024)

typedef struct {
    /* Takes the message (message_free(); message_weight() of it is `weight`). */
    void (*message)(void *closure, struct subscription *s, natsMsg *msg, uint32_t weight);
    /* No message comes any more: unsubscribed, drained, max reached, connection closed. The
     * subscription is freed after this. */
    void (*ended)(void *closure, struct subscription *s);
} subscription_observer;

/* NULL and *e ("invalid_subject", "closed", "no_memory", "too_many"). */
struct subscription *subscription_new(struct connection *c, struct interest *interest, error *e);
/* Who handles the messages, from the next one on. NULL: they are dropped. */
void subscription_handle(struct subscription *s, const subscription_observer *observer,
                         void *closure);
/* It has the pending limits of this one from now on, which is the same but for them. */
void subscription_set_interest(struct subscription *s, struct interest *interest);
/* It goes on with what `from` has handled of its max, and with its counters. May end it. */
void subscription_inherit(struct subscription *s, struct subscription *from);
/* No message is handled after this. */
void subscription_unsubscribe(struct subscription *s);
/* What has arrived, or is on its way, is still handled. */
void subscription_drain(struct subscription *s);

const struct interest *subscription_interest(const struct subscription *s);
struct connection *subscription_connection(const struct subscription *s);
/* The next one of its connection, after NULL the first; NULL at the end. */
struct subscription *subscription_next(const struct connection *c,
                                       const struct subscription *after);

typedef struct {
    uint64_t handled, dropped, queued;
    uint64_t bursts; /* of drops, as far as they were reported */
    bool active;
} subscription_state;
void subscription_get_state(const struct subscription *s, subscription_state *out);

/* 0, or -1 and *e: empty tokens, white space, control bytes, misplaced or (for publishing)
 * any wildcards, too long. A server closes the whole connection over some of these. */
int subject_check(const char *subject, size_t length, bool wildcards, error *e);
/* Whether a subject without wildcards is one that the pattern, with or without them, means. Both
 * are good subjects; the pattern ends with a zero byte. */
bool subject_matches(const char *pattern, const char *subject, size_t length);

#endif
