/* What the host's C code does with messages, over the connections that the script declares:
 * publishing, requests (messages.c), and the list of its subscriptions (host/subscriptions.h). The
 * functions that moondog.h declares for this are in these two files. Loop thread. */
#ifndef MD_HOST_MESSAGES_H
#define MD_HOST_MESSAGES_H

#include <nats/nats.h>
#include <stdbool.h>

#include "base/error.h"
#include "conn/hub.h"
#include "moondog.h"
#include "script/generation.h"

struct binding;
struct request;

struct md_message {
    natsMsg *msg;
};

struct messages {
    struct hub *hub;
    sentinel *sentinel;
    struct generation *generation; /* whose connections are used; NULL: none */
    md_subscription *subscriptions, **subscriptions_end;
    unsigned subscription_count;
    struct request *requests;             /* without an answer */
    struct request *failed, **failed_end; /* of which that is not told yet */
    unsigned request_count, failed_count;
    struct callback answering; /* names the request whose answer is handled */
    unsigned handles;          /* open libuv handles */
    bool ended;                /* nothing is taken any more */
};

/* NULL: no memory. */
struct messages *messages_new(struct hub *hub, sentinel *watching);
/* Between two turns: tells which requests have failed, so many as there is time for. */
void messages_turn(struct messages *m);
/* Requests fail with "closed", subscriptions are freed. Then messages_closed() until it is true,
 * then messages_free(). NULL is harmless. */
void messages_end(struct messages *m);
bool messages_closed(const struct messages *m);
void messages_free(struct messages *m);

/* What `g` declares under this name (NULL: what it declares first); NULL: nothing. `g` may be NULL.
 */
struct binding *messages_binding(const struct generation *g, const char *name);

#endif
