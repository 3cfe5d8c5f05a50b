/* A binding: a connection as one generation declared it: its options, hooks, policy and handlers.
 * The connection itself belongs to the runtime and is found by name; the binding is its observer.
 * Loop thread, but while the generation is loaded. */
#ifndef MD_SCRIPT_BINDING_H
#define MD_SCRIPT_BINDING_H

#include <lua.h>
#include <stdbool.h>

#include "conn/connection.h"
#include "script/generation.h"
#include "script/handler.h"

struct binding {
    struct generation *generation;
    struct binding *next;
    bool declared; /* its options are good; it belongs to the generation */
    char *name;
    char place[80]; /* "gateway.lua:3" */
    connection_options options;
    struct callback hooks[CONNECTION_NOTICE_COUNT];
    struct callback policy, token;
    char hook_names[CONNECTION_NOTICE_COUNT][CALLBACK_TEXT]; /* "gateway.closed" */
    char policy_name[CALLBACK_TEXT], token_name[CALLBACK_TEXT];
    struct connection *connection; /* NULL before commit, and after it ended */
    /* Dialled because the options changed; takes the place of `connection` when it is up. */
    struct connection *successor;
    struct binding *older, *newer; /* the same connection in the generations around this one */
    struct handler *handlers;
    unsigned busy;  /* handlers that have not finished */
    uint32_t links; /* how often a link of it came up, as this generation saw it */
    int handle_ref; /* the userdata that scripts hold */
};

/* The hooks as `on = { ... }` spells them, in the order of connection_notice. */
extern const char *const binding_hook_names[CONNECTION_NOTICE_COUNT];

/* Empty, not declared. NULL when out of memory. */
struct binding *binding_new(struct generation *g);
void binding_free(struct binding *b);

/* Makes what is declared: the connection, unless the generation before has it, and the
 * subscriptions that it has not. -1 and *e: then binding_undo(). See takeover.h. */
int binding_prepare(struct binding *b, struct binding *older, error *e);
void binding_undo(struct binding *b);
/* Puts what was prepared to work. Cannot fail. */
void binding_commit(struct binding *b);
/* Drains the connection, and closes the one that was to take its place. */
void binding_drain(struct binding *b, uint32_t timeout_ms);
void binding_close(struct binding *b);
/* Its hooks, policy and token function are not called any more. */
void binding_silence(struct binding *b);
/* Lets go of the connection, and ends the subscriptions that are left. */
void binding_detach(struct binding *b);
/* The connection is about to be freed. */
void binding_forget(struct binding *b, const struct connection *c);

/* Calls its token function, under the budget of handlers: *token as connection_observer.token says.
 * False: it failed, which was reported. */
bool binding_ask_token(struct binding *b, char **token);

/* Publishes from Lua. [-0, +1] true, or [-0, +2] nil, err */
int binding_publish(lua_State *L, struct binding *b, const record_message *m);

#endif
