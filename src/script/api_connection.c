/* Connections of the Lua API. Loop thread, or the loading one: then they only
 * declare. */
#include <lauxlib.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "conn/request.h"
#include "link/inner.h"
#include "script/api.h"
#include "script/marked.h"
#include "script/message.h"
#include "script/takeover.h"
#include "script/task.h"

#define REQUEST_TIMEOUT_S 2.0
#define FLUSH_TIMEOUT_S 1.0
#define DRAIN_TIMEOUT_S 30.0
#define WAIT_MAX_S 86400.0

static const char handle_mark;

struct connection_handle {
    const char *mark;
    struct binding *binding;
};

struct binding *api_check_connection(lua_State *L, int arg)
{
    struct connection_handle *h = marked_check(L, arg, &handle_mark, sizeof *h, CONNECTION_TYPE);
    return h->binding;
}

struct connection *api_live(lua_State *L, struct binding *b, const char *what, error *e)
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

/* What changes a connection is for the generation that has it now. */
static struct connection *owned(lua_State *L, struct binding *b, const char *what, error *e)
{
    struct connection *c = api_live(L, b, what, e);
    api_check_not(L, b->generation->retiring, what);
    return c;
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
    api_check_not(L, g->retiring, "moondog.connect");
    if (lua_isnoneornil(L, 1)) {
        lua_settop(L, 0);
        lua_newtable(L);
    }
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    struct connection_handle *h = lua_newuserdata(L, sizeof *h);
    *h = (struct connection_handle){.mark = &handle_mark};
    luaL_getmetatable(L, CONNECTION_TYPE);
    lua_setmetatable(L, -2);
    /* A connection that was closed stays here, with what messages and handlers know of it. */
    bool room = generation_charge(L, sizeof(struct binding));
    struct binding *b = room ? binding_new(g) : NULL;
    if (b == NULL) {
        if (room)
            generation_discharge(g, sizeof *b);
        return luaL_error(L, "not enough memory for a connection");
    }
    h->binding = b; /* the userdata frees it when something is wrong with the options */
    options_read_connection(L, 1, b);
    if (find_binding(g, b->name))
        return luaL_error(L, "there is a connection \"%s\" already: give this one another name",
                          b->name);
    luaL_where(L, 1);
    snprintf(b->place, sizeof b->place, "%s", lua_tostring(L, -1));
    size_t place_length = strlen(b->place);
    if (place_length > 2)
        b->place[place_length - 2] = '\0'; /* without ": " */
    lua_pop(L, 1);
    lua_pushvalue(L, -1);
    b->handle_ref = luaL_ref(L, LUA_REGISTRYINDEX);
    b->declared = true;
    struct binding **end = &g->bindings;
    while (*end != NULL)
        end = &(*end)->next;
    *end = b;
    error e = {0};
    if (g->committed && takeover_connect(b, &e) != 0)
        return luaL_error(L, "%s", e.message);
    return 1;
}

static int connection_gc(lua_State *L)
{
    struct connection_handle *h = lua_touserdata(L, 1);
    if (h->binding != NULL && !h->binding->declared) {
        binding_silence(h->binding);
        generation_discharge(h->binding->generation, sizeof *h->binding);
        binding_free(h->binding);
    }
    h->binding = NULL;
    return 0;
}

/* ---- publish, request, flush ---- */

static void read_message(lua_State *L, record_message *m, const char *const *names,
                         const char *what)
{
    *m = (record_message){0};
    m->subject = luaL_checklstring(L, 2, &m->subject_length);
    int options = lua_gettop(L) < 4 || lua_isnil(L, 4) ? 0 : 4;
    if (options != 0) {
        lua_settop(L, 4);
        luaL_checktype(L, 4, LUA_TTABLE);
        options_check(L, 4, names, what);
    }
    message_read(L, 3, options, m);
}

static int connection_publish_lua(lua_State *L)
{
    static const char *const names[] = {"headers", "reply", NULL};
    struct binding *b = api_check_connection(L, 1);
    record_message m;
    read_message(L, &m, names, "publish");
    return binding_publish(L, b, &m);
}

/* A task that waits for an answer of its connection: t->closure is the connection, which fails what
 * waits before it ends; t->binding is as whose the answer is seen. */
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

static void on_lost(struct task *t)
{
    error e = {0};
    if (t->number != 0)
        error_set(&e, "closed", ERROR_CLASS_NONE, "connection %s was closed", t->binding->name);
    else
        error_set(&e, "disconnected", ERROR_CLASS_NETWORK, "connection %s was lost",
                  t->binding->name);
    task_resume_error(t, &e);
}

/* With a link all that wait for answers over it fail at once, and there may be thousands. */
static bool can_wait(const struct task *t, const error *e, bool *closed)
{
    *closed = strcmp(e->code, "closed") == 0;
    return hub_is_late(t->generation->limits.hub) &&
           (*closed || strcmp(e->code, "disconnected") == 0);
}

static void on_answer(void *closure, natsMsg *msg, const error *e)
{
    struct task *t = closure;
    struct generation *g = t->generation;
    struct answer a = {t->binding, msg};
    bool closed;
    if (msg == NULL && can_wait(t, e, &closed)) {
        t->cancel = NULL; /* there is no request any more */
        t->number = closed;
        task_go_on_soon(t, on_lost);
    } else if (msg == NULL) {
        g->going_on = t; /* there was time: it does not go behind those that can wait */
        task_resume_error(t, e);
    } else if (generation_protect(g, push_answer, &a, 1, "answer") != 0) {
        message_free(msg);
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
    connection_request_cancel(closure, t->number);
}

static void on_request_timeout(struct task *t)
{
    cancel_request(t, t->closure);
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
    struct connection *c = api_live(L, b, "request", &e);
    uint64_t number = c == NULL ? 0 : connection_request(c, &m, on_answer, t, &e);
    if (number == 0)
        return message_fail(L, &e);
    t->number = number;
    t->binding = b;
    task_set_timer(t, timeout, on_request_timeout);
    return task_park(t, L, cancel_request, c);
}

static void on_flushed(void *closure, const error *e)
{
    task_resume_done(closure, e);
}

static void cancel_flush(struct task *t, void *closure)
{
    connection_flush_cancel(closure, t->number);
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
    struct connection *c = api_live(L, b, "flush", &e);
    uint64_t token = c == NULL ? 0 : connection_flush(c, timeout, on_flushed, t, &e);
    if (token == 0)
        return message_fail(L, &e);
    t->number = token;
    task_set_timer(t, timeout, on_flush_timeout);
    return task_park(t, L, cancel_flush, c);
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
    api_set_string(L, "name", b->name);
    api_set_string(L, "state", watchdog_state_name(s.state));
    api_set_boolean(L, "ready", s.ready);
    api_set_number(L, "attempt", s.attempt);
    if (s.outage >= 0)
        api_set_number(L, "outage", s.outage);
    api_set_number(L, "links", (double)s.links);
    api_set_number(L, "subscriptions", s.subscriptions);
    api_set_string(L, "server", s.server);
    api_set_string(L, "reason", watchdog_reason_name(s.reason));
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
    api_set_number(L, "links", (double)s.links);
    api_set_number(L, "dials", (double)s.dials);
    api_set_number(L, "dials_failed", (double)s.dials_failed);
    api_set_number(L, "reconnects", (double)s.reconnects);
    api_set_number(L, "abandoned", (double)s.abandoned);
    api_set_number(L, "hanging", s.hanging);
    api_set_number(L, "in_msgs", (double)s.in_messages);
    api_set_number(L, "in_bytes", (double)s.in_bytes);
    api_set_number(L, "out_msgs", (double)s.out_messages);
    api_set_number(L, "out_bytes", (double)s.out_bytes);
    api_set_number(L, "pending_bytes", (double)s.pending_bytes);
    api_set_number(L, "pending_dropped", (double)s.pending_dropped);
    api_set_number(L, "publish_lost", (double)s.publish_lost);
    api_set_number(L, "dropped", (double)s.dropped);
    return 1;
}

static int connection_drain_lua(lua_State *L)
{
    struct binding *b = api_check_connection(L, 1);
    uint32_t timeout = lua_isnoneornil(L, 2) ? (uint32_t)(DRAIN_TIMEOUT_S * 1000)
                                             : api_seconds(L, 2, 0.001, WAIT_MAX_S);
    error e = {0};
    struct connection *c = owned(L, b, "drain", &e);
    if (c == NULL)
        return message_fail(L, &e);
    binding_drain(b, timeout);
    lua_pushboolean(L, 1);
    return 1;
}

static int connection_close_lua(lua_State *L)
{
    struct binding *b = api_check_connection(L, 1);
    error e = {0};
    struct connection *c = owned(L, b, "close", &e);
    if (c != NULL)
        binding_close(b);
    lua_pushboolean(L, 1);
    return 1;
}

static int connection_reconnect_lua(lua_State *L)
{
    struct binding *b = api_check_connection(L, 1);
    error e = {0};
    struct connection *c = owned(L, b, "reconnect", &e);
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

void api_register_connection(lua_State *L)
{
    static const luaL_Reg connection_methods[] = {{"subscribe", api_subscribe},
                                                  {"publish", connection_publish_lua},
                                                  {"request", connection_request_lua},
                                                  {"flush", connection_flush_lua},
                                                  {"status", connection_status_lua},
                                                  {"stats", connection_stats_lua},
                                                  {"drain", connection_drain_lua},
                                                  {"close", connection_close_lua},
                                                  {"reconnect", connection_reconnect_lua},
                                                  {NULL, NULL}};
    api_register_type(L, CONNECTION_TYPE, connection_methods, connection_gc);
    lua_pushcfunction(L, connection_tostring);
    lua_setfield(L, -2, "__tostring");
    lua_getfield(L, -1, "__index");
    api_open_jetstream(L);
    lua_setfield(L, -2, "jetstream");
    lua_pop(L, 2);
}
