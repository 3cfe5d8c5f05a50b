/* What scripts see of NATS: messages and errors. A delivery reuses one userdata; it is valid until
 * its handler is over, or for good when the script called msg:retain(). Fields are read from the
 * library's message when they are asked for. Loop thread.
 *
 * Each subscription has a userdata of its own, so a message that a script kept without retaining it
 * raises an error when another handler looks at it. Only within the same handler it shows the
 * message that is being handled now. */
#ifndef MD_SCRIPT_MESSAGE_H
#define MD_SCRIPT_MESSAGE_H

#include <lauxlib.h>
#include <lua.h>
#include <nats/nats.h>
#include <stdbool.h>

#include "base/error.h"
#include "link/records.h"
#include "script/generation.h"

struct binding;
struct ledger;

#define MESSAGE_TYPE "moondog.message"

/* The reused userdata of one subscription, made when its first message comes. */
struct message_slot {
    struct message *message; /* NULL: none now */
    int ref;
};

struct message {
    const char *mark; /* marked.h */
    struct generation *generation;
    struct message_slot *slot; /* that it is in, NULL: none */
    struct binding *binding;   /* where it came from, and responses go to */
    natsMsg *msg;              /* NULL: not valid any more */
    uint32_t weight;           /* message_weight(msg) */
    int ref;                   /* keeps it alive while a task that waits handles it */
    size_t charged;            /* to the generation, for msg */
    struct ledger *ledger;     /* of the consumer that it comes from; NULL: of none that is kept */
    bool retained;
    bool settled;       /* JetStream was told what became of it */
    uint64_t seq, time; /* with `ledger` */
};

void message_register(lua_State *L);

/* Puts the message into the slot's userdata (made anew when a handler keeps it) and pushes that
 * onto `to`. NULL when out of memory: the message was destroyed. */
struct message *message_deliver(struct message_slot *slot, lua_State *to, struct binding *b,
                                natsMsg *msg, uint32_t weight);
/* The message at stack index 1; raises an error when it is over. */
struct message *message_check(lua_State *L);
/* It comes from a consumer whose ledger this is. */
void message_note_ledger(struct message *m, struct ledger *l, uint64_t seq, uint64_t time);
/* Methods of messages of JetStream: message_ack.c. */
extern const luaL_Reg message_ack_methods[];

/* The subscription is over. */
void message_clear_slot(struct message_slot *slot, lua_State *L);
/* The handler is over. */
void message_release(struct message *m);
/* The handler waits: the userdata is its own from now on. */
void message_keep(struct message *m);

/* [-0, +1] A message of its own; takes msg. In protected mode. */
void message_push(lua_State *L, struct binding *b, natsMsg *msg);

/* [-0, +1] The error as scripts see it: { code, class, message } with __tostring. Protected mode.
 */
void message_push_error(lua_State *L, const error *e);
/* [-0, +2] nil, err: for `return message_fail(L, &e)`. */
int message_fail(lua_State *L, const error *e);

/* Reads data (string, number or nil) at `index` and the table { reply =, headers = } at `options`
 * (or none) into *m. Raises an error for what is not right. What it points to stays on the stack.
 */
void message_read(lua_State *L, int index, int options, record_message *m);
/* Reads a headers table at `index` into *m; the encoded text is left on the stack. */
void message_read_headers(lua_State *L, int index, record_message *m);

#endif
