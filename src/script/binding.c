/* Between a connection and the script: hooks, policy, token, and which connection it is. See
 * binding.h. Loop thread. */
#include "script/binding.h"

#include <assert.h>
#include <lauxlib.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "host/subscriptions.h"
#include "script/failure.h"
#include "script/message.h"
#include "script/signal.h"
#include "script/task.h"

const char *const binding_hook_names[CONNECTION_NOTICE_COUNT] = {
    [CONNECTION_CONNECTED] = "connected",
    [CONNECTION_RECONNECTED] = "reconnected",
    [CONNECTION_DISCONNECTED] = "disconnected",
    [CONNECTION_CLOSED] = "closed",
    [CONNECTION_ERROR] = "error",
    [CONNECTION_LAME_DUCK] = "lame_duck",
    [CONNECTION_DISCOVERED] = "discovered",
    [CONNECTION_PROBE] = "probe",
};

struct binding *binding_new(struct generation *g)
{
    struct binding *b = calloc(1, sizeof *b);
    if (b == NULL)
        return NULL;
    b->generation = g;
    b->handle_ref = LUA_NOREF;
    for (int i = 0; i < CONNECTION_NOTICE_COUNT; i++)
        b->hooks[i].ref = LUA_NOREF;
    b->policy.ref = b->token.ref = LUA_NOREF;
    return b;
}

void binding_free(struct binding *b)
{
    link_options_release(b->options.link);
    free(b->name);
    free(b);
}

/* ---- hooks ---- */

struct hook_call {
    struct binding *binding;
    const connection_info *info;
};

/* [-0, +1] */
static void push_info(lua_State *L, const connection_info *info)
{
    lua_createtable(L, 0, 6);
    lua_pushstring(L, info->server);
    lua_setfield(L, -2, "server");
    lua_pushboolean(L, info->fresh);
    lua_setfield(L, -2, "fresh");
    lua_pushnumber(L, info->outage);
    lua_setfield(L, -2, "outage");
    lua_pushnumber(L, (lua_Number)info->links);
    lua_setfield(L, -2, "links");
    if (info->notice == CONNECTION_PROBE) {
        lua_pushboolean(L, !info->deaf);
        lua_setfield(L, -2, "answered");
    }
    if (info->reason != WATCHDOG_REASON_NONE) {
        lua_pushstring(L, watchdog_reason_name(info->reason));
        lua_setfield(L, -2, "reason");
    }
}

/* [-0, +2] */
static void push_hook_arguments(lua_State *L, void *closure)
{
    struct hook_call *call = closure;
    lua_rawgeti(L, LUA_REGISTRYINDEX, call->binding->handle_ref);
    switch (call->info->notice) {
    case CONNECTION_DISCONNECTED:
    case CONNECTION_CLOSED:
    case CONNECTION_ERROR:
        message_push_error(L, call->info->error);
        break;
    default:
        push_info(L, call->info);
    }
}

static void on_notice(void *closure, const connection_info *info)
{
    struct binding *b = closure;
    struct generation *g = b->generation;
    struct callback *cb = &b->hooks[info->notice];
    bool up = info->notice == CONNECTION_CONNECTED || info->notice == CONNECTION_RECONNECTED;
    for (struct binding *x = b; x != NULL; x = x->older) { /* tasks of those may wait for it */
        x->links += up;
        if (info->notice <= CONNECTION_CLOSED)
            signal_link(x);
    }
    if (!callback_is_set(cb))
        return;
    struct task *t = task_begin(g, cb);
    if (t == NULL)
        return;
    struct hook_call call = {b, info};
    if (generation_protect(g, push_hook_arguments, &call, 2, "hook") != 0) {
        lua_pushnil(t->co);
        lua_pushnil(t->co);
    } else {
        lua_xmove(g->L, t->co, 2);
    }
    task_start(t, 2);
}

/* ---- policy and token ---- */

struct policy_call {
    struct binding *binding;
    const connection_attempt *attempt;
    double delay;
    char returned[64]; /* for messages */
};

/* [-0, +0] the value on top, shortly; of a string only its type: it may be a secret */
static void describe_result(lua_State *L, char *text, size_t size)
{
    if (lua_type(L, -1) == LUA_TNUMBER)
        snprintf(text, size, "it returned %.14g", lua_tonumber(L, -1));
    else
        snprintf(text, size, "it returned a %s value", luaL_typename(L, -1));
}

/* [-0, +1] */
static int push_attempt(lua_State *L, void *closure)
{
    struct policy_call *call = closure;
    const connection_attempt *a = call->attempt;
    lua_createtable(L, 0, 8);
    lua_pushnumber(L, a->attempt);
    lua_setfield(L, -2, "attempt");
    message_push_error(L, a->error);
    lua_setfield(L, -2, "error");
    lua_pushstring(L, error_class_name(a->error->cls));
    lua_setfield(L, -2, "class");
    lua_pushnumber(L, a->outage);
    lua_setfield(L, -2, "outage");
    lua_pushstring(L, a->server);
    lua_setfield(L, -2, "server");
    lua_pushstring(L, call->binding->name);
    lua_setfield(L, -2, "connection");
    lua_pushboolean(L, a->library);
    lua_setfield(L, -2, "library");
    return 1;
}

/* [-0, +0] the result is on top */
static void read_delay(lua_State *L, void *closure)
{
    struct policy_call *call = closure;
    call->delay = lua_type(L, -1) == LUA_TNUMBER ? lua_tonumber(L, -1) : NAN;
    describe_result(L, call->returned, sizeof call->returned);
}

static double on_delay(void *closure, const connection_attempt *attempt)
{
    struct binding *b = closure;
    if (!callback_is_set(&b->policy))
        return NAN;
    struct policy_call call = {.binding = b, .attempt = attempt, .delay = NAN};
    if (task_call(b->generation, &b->policy, push_attempt, read_delay, &call) != 0)
        return NAN;
    if (isfinite(call.delay) && call.delay >= 0)
        return call.delay;
    failure_note(b->generation, &b->policy, call.returned,
                 "a policy returns the seconds to wait, 0 or more; the built-in one acts");
    return NAN;
}

/* [-0, +0] */
static int push_nothing(lua_State *L, void *closure)
{
    (void)L;
    (void)closure;
    return 0;
}

struct token_call {
    char *token;
    char returned[64];
};

/* [-0, +0] the result is on top */
static void read_token(lua_State *L, void *closure)
{
    struct token_call *call = closure;
    if (lua_type(L, -1) == LUA_TSTRING)
        call->token = strdup(lua_tostring(L, -1));
    describe_result(L, call->returned, sizeof call->returned);
}

static bool on_token(void *closure, char **token)
{
    struct binding *b = closure;
    struct token_call call = {0};
    if (!callback_is_set(&b->token))
        return true;
    if (task_call(b->generation, &b->token, push_nothing, read_token, &call) != 0)
        return false;
    if (call.token == NULL)
        failure_note(b->generation, &b->token, call.returned,
                     "a token function returns a string; there is no dial without it");
    *token = call.token;
    return call.token != NULL;
}

bool binding_ask_token(struct binding *b, char **token)
{
    return on_token(b, token);
}

/* Handlers of generations before may still be at work. */
static bool on_busy(void *closure)
{
    for (const struct binding *b = closure; b != NULL; b = b->older)
        if (b->busy > 0 || b->generation->unloading > 0)
            return true;
    return false;
}

static const connection_observer observer = {
    .notify = on_notice, .delay = on_delay, .token = on_token, .busy = on_busy};

void binding_silence(struct binding *b)
{
    lua_State *L = b->generation->L;
    for (int i = 0; i < CONNECTION_NOTICE_COUNT; i++)
        callback_clear(&b->hooks[i], L);
    callback_clear(&b->policy, L);
    callback_clear(&b->token, L);
}

/* ---- the connection ---- */

static struct connection *open_connection(const struct binding *b, error *e)
{
    struct connection *c = connection_new(b->generation->limits.hub, b->name, &b->options);
    if (c == NULL)
        error_set(e, "no_memory", ERROR_CLASS_LIMIT, "no memory for a connection");
    return c;
}

static bool same_link(const struct binding *b, const struct connection *c)
{
    return link_options_equal(b->options.link, connection_get_options(c)->link);
}

static bool same_token(const struct binding *a, const struct binding *b)
{
    return callback_is_set(&a->token) == callback_is_set(&b->token);
}

/* Which connection it uses, and whether another one has to be dialled. */
static int find_connection(struct binding *b, struct binding *older, error *e)
{
    if (older == NULL) {
        b->connection = open_connection(b, e);
        return b->connection != NULL ? 0 : -1;
    }
    b->older = older;
    b->connection = older->connection;
    if (same_link(b, older->connection) && same_token(b, older))
        return 0;
    if (older->successor != NULL && same_link(b, older->successor) && same_token(b, older))
        b->successor = older->successor;
    else
        b->successor = open_connection(b, e);
    return b->successor != NULL ? 0 : -1;
}

int binding_prepare(struct binding *b, struct binding *older, error *e)
{
    if (find_connection(b, older, e) != 0)
        return -1;
    for (struct handler *h = b->handlers; h != NULL; h = h->next)
        if (handler_prepare(h, e) != 0)
            return -1;
    return 0;
}

void binding_undo(struct binding *b)
{
    for (struct handler *h = b->handlers; h != NULL; h = h->next)
        handler_undo(h);
    bool own_successor = b->older == NULL || b->successor != b->older->successor;
    if (b->successor != NULL && own_successor)
        connection_close(b->successor);
    if (b->connection != NULL && b->older == NULL)
        connection_close(b->connection);
    b->connection = b->successor = NULL;
    b->older = NULL;
}

/* The connection that was dialled with the new options is up, and all subscriptions are in place:
 * until the other one is drained, messages may come twice. */
static void hand_over(struct binding *b)
{
    struct connection *c = b->connection, *heir = b->successor;
    b->successor = NULL;
    for (struct binding *x = b; x != NULL; x = x->older)
        if (x->connection == c)
            x->connection = heir;
    for (struct handler *h = b->handlers, *next; h != NULL; h = next) {
        next = h->next;
        handler_hand_over(h);
    }
    subscriptions_hand_over(b->generation->limits.messages, c, heir);
    connection_observe(heir, &observer, b);
    connection_hand_over(c, heir, b->generation->limits.retire_ms);
}

static void on_successor_notice(void *closure, const connection_info *info)
{
    struct binding *b = closure;
    if (info->notice != CONNECTION_CONNECTED)
        return;
    hand_over(b);
    on_notice(b, info);
}

static const connection_observer successor_observer = {
    .notify = on_successor_notice, .delay = on_delay, .token = on_token};

void binding_commit(struct binding *b)
{
    struct binding *older = b->older;
    if (older != NULL) {
        b->newer = older->newer;
        older->newer = b;
        if (older->successor != NULL && older->successor != b->successor) {
            connection_observe(older->successor, NULL, NULL);
            connection_close(older->successor);
        }
        if (b->successor == NULL)
            connection_configure(b->connection, &b->options);
    }
    connection_observe(b->connection, &observer, b);
    for (struct handler *h = b->handlers, *next; h != NULL; h = next) {
        next = h->next;
        handler_put_to_work(h);
    }
    if (b->successor != NULL) {
        connection_observe(b->successor, &successor_observer, b);
        if (older == NULL || older->successor != b->successor)
            connection_start(b->successor);
    }
    if (older == NULL)
        connection_start(b->connection);
}

static void close_successor(struct binding *b)
{
    if (b->successor == NULL)
        return;
    connection_observe(b->successor, NULL, NULL);
    connection_close(b->successor);
    b->successor = NULL;
}

void binding_drain(struct binding *b, uint32_t timeout_ms)
{
    close_successor(b);
    connection_drain(b->connection, timeout_ms);
}

void binding_close(struct binding *b)
{
    close_successor(b);
    connection_close(b->connection);
}

void binding_detach(struct binding *b)
{
    if (b->newer != NULL)
        b->newer->older = b->older;
    if (b->older != NULL)
        b->older->newer = b->newer;
    if (b->connection != NULL && b->newer == NULL)
        connection_observe(b->connection, NULL, NULL);
    if (b->successor != NULL)
        connection_observe(b->successor, NULL, NULL);
    b->newer = b->older = NULL;
    while (b->handlers != NULL) {
        struct handler *h = b->handlers;
        handler_detach(h);
        assert(b->handlers != h);
    }
    b->connection = b->successor = NULL;
}

void binding_forget(struct binding *b, const struct connection *c)
{
    if (b->successor == c)
        b->successor = NULL;
    if (b->connection == c)
        b->connection = NULL;
}

int binding_publish(lua_State *L, struct binding *b, const record_message *m)
{
    error e; /* large, and only filled when there is one */
    if (b->generation->loading)
        return luaL_error(L, "a script cannot publish while it is loaded: do it in "
                             "moondog.on_start() or in a hook");
    if (b->connection == NULL)
        error_set(&e, "closed", ERROR_CLASS_NONE, "connection %s is closed", b->name);
    else if (connection_publish(b->connection, m, &e) == 0) {
        lua_pushboolean(L, 1);
        return 1;
    }
    return message_fail(L, &e);
}
