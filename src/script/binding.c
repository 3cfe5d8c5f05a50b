/* Between a connection and the script: hooks, policy, token, handlers. See binding.h. Loop thread.
 */
#include "script/binding.h"

#include <assert.h>
#include <lauxlib.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "script/message.h"
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
};

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
}

static double on_delay(void *closure, const connection_attempt *attempt)
{
    struct binding *b = closure;
    if (!callback_is_set(&b->policy))
        return NAN;
    struct policy_call call = {b, attempt, NAN};
    if (task_call(b->generation, &b->policy, push_attempt, read_delay, &call) != 0)
        return NAN;
    if (isfinite(call.delay) && call.delay >= 0)
        return call.delay;
    b->policy.errors++;
    if (b->policy.errors <= 5)
        log_emit(b->generation->limits.hub->log, LOG_ERROR, "policy failed",
                 log_str("name", b->policy.name),
                 log_str("error", "a policy returns the seconds to wait, 0 or more; the built-in "
                                  "policy acts"));
    return NAN;
}

/* [-0, +0] */
static int push_nothing(lua_State *L, void *closure)
{
    (void)L;
    (void)closure;
    return 0;
}

/* [-0, +0] the result is on top */
static void read_token(lua_State *L, void *closure)
{
    char **token = closure;
    if (lua_type(L, -1) == LUA_TSTRING)
        *token = strdup(lua_tostring(L, -1));
}

static char *on_token(void *closure)
{
    struct binding *b = closure;
    char *token = NULL;
    if (!callback_is_set(&b->token))
        return NULL;
    if (task_call(b->generation, &b->token, push_nothing, read_token, &token) == 0 && token == NULL)
        log_emit(b->generation->limits.hub->log, LOG_ERROR, "token failed",
                 log_str("name", b->token.name),
                 log_str("error", "a token function returns a string"));
    return token;
}

static bool on_busy(void *closure)
{
    const struct binding *b = closure;
    return b->busy > 0;
}

static const connection_observer observer = {
    .notify = on_notice, .delay = on_delay, .token = on_token, .busy = on_busy};

/* ---- handlers ---- */

void handler_retain(struct handler *h)
{
    h->references++;
}

void handler_release(struct handler *h)
{
    if (--h->references > 0)
        return;
    callback_clear(&h->callback, h->binding->generation->L);
    message_clear_slot(&h->slot, h->binding->generation->L);
    free(h->subject);
    free(h->queue);
    free(h);
}

static void unlink_handler(struct handler *h)
{
    if (h->back == NULL)
        return;
    *h->back = h->next;
    if (h->next != NULL)
        h->next->back = h->back;
    h->back = NULL;
}

static void on_subscription_ended(void *closure, struct subscription *s)
{
    (void)s;
    struct handler *h = closure;
    h->subscription = NULL;
    h->over = true;
    unlink_handler(h);
    handler_release(h);
}

static void on_task_finished(void *closure)
{
    struct handler *h = closure;
    h->binding->busy--;
    handler_release(h);
}

static void on_message(void *closure, struct subscription *s, natsMsg *msg)
{
    (void)s;
    struct handler *h = closure;
    struct generation *g = h->binding->generation;
    struct task *t = task_begin(g, &h->callback);
    if (t == NULL) {
        natsMsg_Destroy(msg);
        return;
    }
    t->message = message_deliver(&h->slot, t->co, h->binding, msg);
    if (t->message == NULL)
        lua_pushnil(t->co);
    handler_retain(h);
    h->binding->busy++;
    t->finished = on_task_finished;
    t->finished_closure = h;
    task_start(t, 1);
}

struct handler *handler_new(struct binding *b, const subscription_options *options, error *e)
{
    struct handler *h = calloc(1, sizeof *h);
    if (h != NULL) {
        h->subject = strdup(options->subject);
        h->queue = options->queue != NULL ? strdup(options->queue) : NULL;
    }
    if (h == NULL || h->subject == NULL || (options->queue != NULL && h->queue == NULL)) {
        if (h != NULL)
            free(h->subject);
        free(h);
        error_set(e, "no_memory", ERROR_CLASS_LIMIT, "no memory for a subscription");
        return NULL;
    }
    h->references = 1; /* the caller's */
    h->binding = b;
    h->options = *options;
    h->options.subject = h->subject;
    h->options.queue = h->queue;
    callback_init(&h->callback, "handler", h->subject);
    h->next = b->handlers;
    if (h->next != NULL)
        h->next->back = &h->next;
    h->back = &b->handlers;
    b->handlers = h;
    handler_retain(h); /* the list's, then the subscription's: until it ended */
    return h;
}

int handler_commit(struct handler *h, error *e)
{
    struct binding *b = h->binding;
    if (b->connection == NULL) {
        unlink_handler(h);
        h->over = true;
        handler_release(h);
        return error_set(e, "closed", ERROR_CLASS_NONE, "connection %s is closed", b->name);
    }
    h->subscription = subscription_new(b->connection, &h->options, e);
    if (h->subscription == NULL) {
        unlink_handler(h);
        h->over = true;
        handler_release(h);
        return -1;
    }
    subscription_handle(h->subscription, on_message, on_subscription_ended, h);
    return 0;
}

/* ---- the connection ---- */

int binding_commit(struct binding *b, error *e)
{
    b->connection = connection_new(b->generation->limits.hub, b->name, &b->options);
    if (b->connection == NULL)
        return error_set(e, "no_memory", ERROR_CLASS_LIMIT, "no memory for a connection");
    connection_observe(b->connection, &observer, b);
    for (struct handler *h = b->handlers, *next; h != NULL; h = next) {
        next = h->next;
        if (handler_commit(h, e) != 0)
            return -1;
    }
    connection_start(b->connection);
    return 0;
}

void binding_detach(struct binding *b)
{
    if (b->connection != NULL)
        connection_observe(b->connection, NULL, NULL);
    b->connection = NULL;
    while (b->handlers != NULL) {
        struct handler *h = b->handlers;
        if (h->subscription != NULL)
            subscription_handle(h->subscription, NULL, NULL, NULL);
        h->subscription = NULL;
        h->over = true;
        unlink_handler(h);
        assert(b->handlers != h);
        handler_release(h);
    }
}

int binding_publish(lua_State *L, struct binding *b, const record_message *m)
{
    error e = {0};
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
