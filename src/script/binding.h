/* A binding: a connection as one generation declared it: its options, hooks, policy and handlers.
 * The connection itself belongs to the runtime and is found by name; the binding is its observer.
 * Loop thread, but while the generation is loaded. */
#ifndef MD_SCRIPT_BINDING_H
#define MD_SCRIPT_BINDING_H

#include <lua.h>
#include <stdbool.h>

#include "conn/connection.h"
#include "conn/subscription.h"
#include "script/generation.h"
#include "script/message.h"

struct binding {
    struct generation *generation;
    struct binding *next;
    bool declared; /* its options are good; it belongs to the generation */
    char *name;
    char place[80]; /* "gateway.lua:3" */
    connection_options options;
    struct callback hooks[CONNECTION_NOTICE_COUNT];
    struct callback policy, token;
    struct connection *connection; /* NULL before commit, and after it ended */
    struct handler *handlers;
    unsigned busy;  /* handlers that have not finished */
    int handle_ref; /* the userdata that scripts hold */
};

/* A subscription as the script declared it. Counted: the script's handle, the subscription, and
 * each task that runs it hold it. */
struct handler {
    unsigned references;
    struct binding *binding;
    struct handler *next, **back; /* in binding->handlers until it ended */
    struct callback callback;
    struct message_slot slot;
    struct subscription *subscription; /* NULL: not committed, or ended */
    char *subject, *queue, *name;
    subscription_options options;
    bool over;
};

/* The hooks as `on = { ... }` spells them, in the order of connection_notice. */
extern const char *const binding_hook_names[CONNECTION_NOTICE_COUNT];

/* Empty, not declared. NULL when out of memory. */
struct binding *binding_new(struct generation *g);
void binding_free(struct binding *b);

/* Makes the connection and its subscriptions, and starts it. */
int binding_commit(struct binding *b, error *e);
/* Lets go of the connection and of all handlers. */
void binding_detach(struct binding *b);

/* NULL and *e. The callback is set by the caller; committed bindings subscribe at once. */
struct handler *handler_new(struct binding *b, const subscription_options *options, error *e);
int handler_commit(struct handler *h, error *e);
void handler_retain(struct handler *h);
void handler_release(struct handler *h);

/* Publishes from Lua. [-0, +1] true, or [-0, +2] nil, err */
int binding_publish(lua_State *L, struct binding *b, const record_message *m);

#endif
