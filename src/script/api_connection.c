/* Connections and subscriptions of the Lua API. Loop thread, or the loading one: then they only
 * declare. */
#include <lauxlib.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "conn/request.h"
#include "script/api.h"
#include "script/message.h"
#include "script/task.h"

#define REQUEST_TIMEOUT_S 2.0
#define FLUSH_TIMEOUT_S 1.0
#define DRAIN_TIMEOUT_S 30.0
#define WAIT_MAX_S 86400.0

struct connection_handle {
    struct binding *binding;
};

struct binding *api_check_connection(lua_State *L, int arg)
{
    struct connection_handle *h = luaL_checkudata(L, arg, CONNECTION_TYPE);
    return h->binding;
}

/* The connection, or NULL and *e when it has ended. */
static struct connection *live(lua_State *L, struct binding *b, const char *what, error *e)
{
    if (b->generation->loading)
        luaL_error(L,
                   "%s: the connection is only declared while the script is loaded; do it in "
                   "moondog.on_start() or in a hook",
                   what);
    if (b->connection == NULL)
        error_set(e, "closed", ERROR_CLASS_NONE, "connection %s is closed", b->name);
    return b->connection;
}

/* ---- connect ---- */

static int find_binding(const struct generation *g, const char *name)
{
    for (const struct binding *b = g->bindings; b != NULL; b = b->next)
        if (strcmp(b->name, name) == 0 && (!g->committed || b->connection != NULL))
            return 1;
    return 0;
}

int api_connect(lua_State *L)
{
    struct generation *g = generation_of(L);
    if (lua_isnoneornil(L, 1)) {
        lua_settop(L, 0);
        lua_newtable(L);
    }
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    struct connection_handle *h = lua_newuserdata(L, sizeof *h);
    h->binding = NULL;
    luaL_getmetatable(L, CONNECTION_TYPE);
    lua_setmetatable(L, -2);
    struct binding *b = binding_new(g);
    if (b == NULL)
        return luaL_error(L, "no memory for a connection");
    h->binding = b; /* the userdata frees it when something is wrong with the options */
    options_read_connection(L, 1, b);
    if (find_binding(g, b->name))
        return luaL_error(L, "there is a connection \"%s\" already: give this one another name",
                          b->name);
    luaL_where(L, 1);
    snprintf(b->place, sizeof b->place, "%s", lua_tostring(L, -1));
    lua_pop(L, 1);
    lua_pushvalue(L, -1);
    b->handle_ref = luaL_ref(L, LUA_REGISTRYINDEX);
    b->declared = true;
    struct binding **end = &g->bindings;
    while (*end != NULL)
        end = &(*end)->next;
    *end = b;
    error e = {0};
    if (g->committed && binding_commit(b, &e) != 0)
        return luaL_error(L, "%s", e.message);
    return 1;
}

static int connection_gc(lua_State *L)
{
    struct connection_handle *h = lua_touserdata(L, 1);
    if (h->binding != NULL && !h->binding->declared) {
        struct binding *b = h->binding;
        for (int i = 0; i < CONNECTION_NOTICE_COUNT; i++)
            callback_clear(&b->hooks[i], L);
        callback_clear(&b->policy, L);
        callback_clear(&b->token, L);
        binding_free(b);
    }
    h->binding = NULL;
    return 0;
}

/* ---- subscriptions ---- */

static const char *const subscribe_names[] = {"queue", "max", "pending", "name", NULL};
static const char *const pending_names[] = {"messages", "bytes", NULL};

/* -1: no limit */
static uint64_t limit(lua_State *L, int index, const char *name, double fallback)
{
    double value = options_number(L, index, name, fallback, -1, 1e15);
    return value < 0 ? 0 : value < 1 ? 1 : (uint64_t)value;
}

static void read_subscribe(lua_State *L, int index, subscription_options *o)
{
    o->pending_messages = PENDING_MESSAGES;
    o->pending_bytes = PENDING_BYTES;
    if (lua_isnoneornil(L, index))
        return;
    luaL_checktype(L, index, LUA_TTABLE);
    options_check(L, index, subscribe_names, "subscribe");
    o->queue = options_string(L, index, "queue", NULL);
    o->max = (uint64_t)options_number(L, index, "max", 0, 0, 1e15);
    if (options_table(L, index, "pending")) {
        int t = lua_gettop(L);
        options_check(L, t, pending_names, "pending");
        o->pending_messages = limit(L, t, "messages", PENDING_MESSAGES);
        o->pending_bytes = limit(L, t, "bytes", PENDING_BYTES);
        lua_pop(L, 1);
    }
}

static int connection_subscribe(lua_State *L)
{
    struct binding *b = api_check_connection(L, 1);
    struct generation *g = b->generation;
    subscription_options options = {0};
    error e = {0};
    size_t length;
    options.subject = luaL_checklstring(L, 2, &length);
    luaL_checktype(L, 3, LUA_TFUNCTION);
    lua_settop(L, 4);
    read_subscribe(L, 4, &options);
    if (subject_check(options.subject, length, true, &e) != 0)
        return luaL_argerror(L, 2, e.message);
    if (options.queue != NULL &&
        subject_check(options.queue, strlen(options.queue), false, &e) != 0)
        return luaL_error(L, "option \"queue\": %s", e.message);
    const char *name =
        lua_isnil(L, 4) ? options.subject : options_string(L, 4, "name", options.subject);
    struct handler **h = lua_newuserdata(L, sizeof *h);
    *h = NULL;
    luaL_getmetatable(L, SUBSCRIPTION_TYPE);
    lua_setmetatable(L, -2);
    if (g->committed && live(L, b, "subscribe", &e) == NULL)
        return message_fail(L, &e);
    *h = handler_new(b, &options, &e);
    if (*h == NULL)
        return message_fail(L, &e);
    callback_init(&(*h)->callback, "handler", name);
    callback_set(&(*h)->callback, L, 3);
    if (g->committed && handler_commit(*h, &e) != 0)
        return message_fail(L, &e);
    return 1;
}

static struct handler *check_handler(lua_State *L)
{
    struct handler **h = luaL_checkudata(L, 1, SUBSCRIPTION_TYPE);
    if ((*h)->binding->generation->loading)
        luaL_error(L, "the subscription is only declared while the script is loaded");
    return *h;
}

static int subscription_unsubscribe_lua(lua_State *L)
{
    struct handler *h = check_handler(L);
    if (h->subscription != NULL)
        subscription_unsubscribe(h->subscription);
    lua_pushboolean(L, 1);
    return 1;
}

static int subscription_drain_lua(lua_State *L)
{
    struct handler *h = check_handler(L);
    if (h->subscription != NULL)
        subscription_drain(h->subscription);
    lua_pushboolean(L, 1);
    return 1;
}

static void set_number(lua_State *L, const char *name, double value)
{
    lua_pushnumber(L, value);
    lua_setfield(L, -2, name);
}

static void set_string(lua_State *L, const char *name, const char *value)
{
    lua_pushstring(L, value);
    lua_setfield(L, -2, name);
}

static void set_boolean(lua_State *L, const char *name, bool value)
{
    lua_pushboolean(L, value);
    lua_setfield(L, -2, name);
}

static int subscription_stats_lua(lua_State *L)
{
    struct handler *h = *(struct handler **)luaL_checkudata(L, 1, SUBSCRIPTION_TYPE);
    subscription_state state = {0};
    if (h->subscription != NULL)
        subscription_get_state(h->subscription, &state);
    lua_createtable(L, 0, 8);
    set_string(L, "subject", h->subject);
    if (h->queue != NULL)
        set_string(L, "queue", h->queue);
    set_boolean(L, "active", state.active);
    set_number(L, "handled", (double)h->callback.calls);
    set_number(L, "errors", (double)h->callback.errors);
    set_number(L, "overruns", (double)h->callback.overruns);
    set_number(L, "dropped", (double)state.dropped);
    set_number(L, "queued", (double)state.queued);
    return 1;
}

static int subscription_gc(lua_State *L)
{
    struct handler **h = lua_touserdata(L, 1);
    if (*h != NULL)
        handler_release(*h);
    *h = NULL;
    return 0;
}

/* ---- publish, request, flush ---- */

static void read_message(lua_State *L, record_message *m, const char *const *names,
                         const char *what)
{
    *m = (record_message){0};
    m->subject = luaL_checklstring(L, 2, &m->subject_length);
    lua_settop(L, 4);
    if (!lua_isnil(L, 4)) {
        luaL_checktype(L, 4, LUA_TTABLE);
        options_check(L, 4, names, what);
    }
    message_read(L, 3, 4, m);
}

static int connection_publish_lua(lua_State *L)
{
    static const char *const names[] = {"headers", "reply", NULL};
    struct binding *b = api_check_connection(L, 1);
    record_message m;
    read_message(L, &m, names, "publish");
    return binding_publish(L, b, &m);
}

struct answer {
    struct binding *binding;
    natsMsg *msg;
};

/* [-0, +1] */
static void push_answer(lua_State *L, void *closure)
{
    struct answer *a = closure;
    message_push(L, a->binding, a->msg);
}

static void on_answer(void *closure, natsMsg *msg, const error *e)
{
    struct task *t = closure;
    struct generation *g = t->generation;
    struct answer a = {t->closure, msg};
    if (msg == NULL) {
        task_resume_error(t, e);
    } else if (generation_protect(g, push_answer, &a, 1, "answer") != 0) {
        natsMsg_Destroy(msg);
        error out = {0};
        error_set(&out, "no_memory", ERROR_CLASS_LIMIT, "no memory for an answer");
        task_resume_error(t, &out);
    } else {
        lua_xmove(g->L, t->co, 1);
        task_resume(t, 1);
    }
}

static void cancel_request(struct task *t, void *closure)
{
    struct binding *b = closure;
    if (b->connection != NULL)
        connection_request_cancel(b->connection, t->number);
}

static void on_request_timeout(struct task *t)
{
    struct binding *b = t->closure;
    cancel_request(t, b);
    error e = {0};
    error_set(&e, "timeout", ERROR_CLASS_TIMEOUT, "no answer in time");
    task_resume_error(t, &e);
}

static uint32_t timeout_option(lua_State *L, int index, double fallback)
{
    double seconds = fallback;
    if (lua_istable(L, index))
        seconds = options_number(L, index, "timeout", fallback, 0.001, WAIT_MAX_S);
    return (uint32_t)(seconds * 1000.0 + 0.5);
}

static int connection_request_lua(lua_State *L)
{
    static const char *const names[] = {"headers", "timeout", NULL};
    struct binding *b = api_check_connection(L, 1);
    struct task *t = task_current(L, "request");
    record_message m;
    error e = {0};
    read_message(L, &m, names, "request");
    uint32_t timeout = timeout_option(L, 4, REQUEST_TIMEOUT_S);
    struct connection *c = live(L, b, "request", &e);
    uint64_t number = c == NULL ? 0 : connection_request(c, &m, on_answer, t, &e);
    if (number == 0)
        return message_fail(L, &e);
    t->number = number;
    task_set_timer(t, timeout, on_request_timeout);
    return task_park(t, L, cancel_request, b);
}

static void on_flushed(void *closure, const error *e)
{
    struct task *t = closure;
    if (e->code[0] != '\0') {
        task_resume_error(t, e);
        return;
    }
    lua_pushboolean(t->co, 1);
    task_resume(t, 1);
}

static void cancel_flush(struct task *t, void *closure)
{
    struct binding *b = closure;
    if (b->connection != NULL)
        connection_flush_cancel(b->connection, t->number);
}

static void on_flush_timeout(struct task *t)
{
    cancel_flush(t, t->closure);
    error e = {0};
    error_set(&e, "timeout", ERROR_CLASS_TIMEOUT, "the server did not confirm in time");
    task_resume_error(t, &e);
}

static int connection_flush_lua(lua_State *L)
{
    struct binding *b = api_check_connection(L, 1);
    struct task *t = task_current(L, "flush");
    uint32_t timeout = lua_isnoneornil(L, 2) ? (uint32_t)(FLUSH_TIMEOUT_S * 1000)
                                             : api_seconds(L, 2, 0.001, WAIT_MAX_S);
    error e = {0};
    struct connection *c = live(L, b, "flush", &e);
    uint64_t token = c == NULL ? 0 : connection_flush(c, timeout, on_flushed, t, &e);
    if (token == 0)
        return message_fail(L, &e);
    t->number = token;
    task_set_timer(t, timeout, on_flush_timeout);
    return task_park(t, L, cancel_flush, b);
}

/* ---- state ---- */

static int connection_status_lua(lua_State *L)
{
    struct binding *b = api_check_connection(L, 1);
    connection_state s = {.state = b->generation->committed ? WATCHDOG_STOPPED : WATCHDOG_IDLE,
                          .outage = -1,
                          .server = ""};
    if (b->connection != NULL)
        connection_get_state(b->connection, &s);
    lua_createtable(L, 0, 10);
    set_string(L, "name", b->name);
    set_string(L, "state", watchdog_state_name(s.state));
    set_boolean(L, "ready", s.ready);
    set_number(L, "attempt", s.attempt);
    if (s.outage >= 0)
        set_number(L, "outage", s.outage);
    set_number(L, "links", (double)s.links);
    set_number(L, "subscriptions", s.subscriptions);
    set_string(L, "server", s.server);
    set_string(L, "reason", watchdog_reason_name(s.reason));
    if (s.error.code[0] != '\0') {
        message_push_error(L, &s.error);
        lua_setfield(L, -2, "error");
    }
    return 1;
}

static int connection_stats_lua(lua_State *L)
{
    struct binding *b = api_check_connection(L, 1);
    connection_state s = {0};
    if (b->connection != NULL)
        connection_get_state(b->connection, &s);
    lua_createtable(L, 0, 16);
    set_number(L, "links", (double)s.links);
    set_number(L, "dials", (double)s.dials);
    set_number(L, "dials_failed", (double)s.dials_failed);
    set_number(L, "reconnects", (double)s.reconnects);
    set_number(L, "abandoned", (double)s.abandoned);
    set_number(L, "hanging", s.hanging);
    set_number(L, "in_msgs", (double)s.in_messages);
    set_number(L, "in_bytes", (double)s.in_bytes);
    set_number(L, "out_msgs", (double)s.out_messages);
    set_number(L, "out_bytes", (double)s.out_bytes);
    set_number(L, "pending_bytes", (double)s.pending_bytes);
    set_number(L, "pending_dropped", (double)s.pending_dropped);
    set_number(L, "publish_lost", (double)s.publish_lost);
    set_number(L, "dropped", (double)s.dropped);
    return 1;
}

static int connection_drain_lua(lua_State *L)
{
    struct binding *b = api_check_connection(L, 1);
    uint32_t timeout = lua_isnoneornil(L, 2) ? (uint32_t)(DRAIN_TIMEOUT_S * 1000)
                                             : api_seconds(L, 2, 0.001, WAIT_MAX_S);
    error e = {0};
    struct connection *c = live(L, b, "drain", &e);
    if (c == NULL)
        return message_fail(L, &e);
    connection_drain(c, timeout);
    lua_pushboolean(L, 1);
    return 1;
}

static int connection_close_lua(lua_State *L)
{
    struct binding *b = api_check_connection(L, 1);
    error e = {0};
    struct connection *c = live(L, b, "close", &e);
    if (c != NULL)
        connection_close(c);
    lua_pushboolean(L, 1);
    return 1;
}

static int connection_reconnect_lua(lua_State *L)
{
    struct binding *b = api_check_connection(L, 1);
    error e = {0};
    struct connection *c = live(L, b, "reconnect", &e);
    if (c == NULL || connection_reconnect(c, &e) != 0)
        return message_fail(L, &e);
    lua_pushboolean(L, 1);
    return 1;
}

static int connection_tostring(lua_State *L)
{
    struct binding *b = api_check_connection(L, 1);
    lua_pushfstring(L, "connection %s", b->name);
    return 1;
}

static void register_type(lua_State *L, const char *type, const luaL_Reg *methods, lua_CFunction gc)
{
    luaL_newmetatable(L, type);
    lua_pushcfunction(L, gc);
    lua_setfield(L, -2, "__gc");
    lua_pushstring(L, type);
    lua_setfield(L, -2, "__metatable");
    lua_newtable(L);
    luaL_register(L, NULL, methods);
    lua_setfield(L, -2, "__index");
}

void api_register_connection(lua_State *L)
{
    static const luaL_Reg connection_methods[] = {
        {"subscribe", connection_subscribe},     {"publish", connection_publish_lua},
        {"request", connection_request_lua},     {"flush", connection_flush_lua},
        {"status", connection_status_lua},       {"stats", connection_stats_lua},
        {"drain", connection_drain_lua},         {"close", connection_close_lua},
        {"reconnect", connection_reconnect_lua}, {NULL, NULL}};
    static const luaL_Reg subscription_methods[] = {{"unsubscribe", subscription_unsubscribe_lua},
                                                    {"drain", subscription_drain_lua},
                                                    {"stats", subscription_stats_lua},
                                                    {NULL, NULL}};
    register_type(L, CONNECTION_TYPE, connection_methods, connection_gc);
    lua_pushcfunction(L, connection_tostring);
    lua_setfield(L, -2, "__tostring");
    lua_pop(L, 1);
    register_type(L, SUBSCRIPTION_TYPE, subscription_methods, subscription_gc);
    lua_pop(L, 1);
}
