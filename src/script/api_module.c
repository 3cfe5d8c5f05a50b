/* The module `moondog`: what is not of a connection. See api.h. Loop thread, or the loading one. */
#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "host/events.h"
#include "moondog.h"
#include "script/api.h"
#include "script/message.h"
#include "script/task.h"

#define SLEEP_MAX_S 4000000.0
#define LOG_FIELDS_MAX 32

/* ---- callbacks of the script's life ---- */

static int add_callback(lua_State *L, struct callback_node **list, const char *kind)
{
    luaL_checktype(L, 1, LUA_TFUNCTION);
    struct callback_node *node = calloc(1, sizeof *node);
    if (node == NULL)
        return luaL_error(L, "no memory for a callback");
    callback_init(&node->callback, kind, NULL);
    while (*list != NULL)
        list = &(*list)->next;
    *list = node;
    callback_set(&node->callback, L, 1);
    return 0;
}

static int on_start(lua_State *L)
{
    struct generation *g = generation_of(L);
    if (!g->loading)
        return luaL_error(L, "moondog.on_start() belongs to the script's top level");
    return add_callback(L, &g->on_start, "on_start");
}

static int on_unload(lua_State *L)
{
    api_check_not(L, generation_of(L)->retiring, "moondog.on_unload");
    return add_callback(L, &generation_of(L)->on_unload, "on_unload");
}

void api_check_not(lua_State *L, bool over, const char *what)
{
    if (over)
        luaL_error(L, "%s: this generation of the script was replaced by another", what);
}

/* ---- spawn, sleep, now ---- */

/* spawn(f, ...): a task of its own. */
static int spawn(lua_State *L)
{
    luaL_checktype(L, 1, LUA_TFUNCTION);
    api_check_not(L, generation_of(L)->cancelled, "moondog.spawn");
    task_spawn(L);
    return 0;
}

static void on_slept(struct task *t)
{
    lua_pushboolean(t->co, 1);
    task_resume(t, 1);
}

static int sleep_(lua_State *L)
{
    struct task *t = task_current(L, "moondog.sleep");
    task_set_timer(t, api_seconds(L, 1, 0, SLEEP_MAX_S), on_slept);
    return task_park(t, L, NULL, NULL);
}

static void cancel_reload(struct task *t, void *closure)
{
    const generation_limits *limits = &t->generation->limits;
    limits->reload_cancel(limits->reload_closure, closure);
}

/* Waits: the number of the new generation, or nil, err. */
static int reload(lua_State *L)
{
    struct task *t = task_current(L, "moondog.reload");
    const generation_limits *limits = &t->generation->limits;
    api_check_not(L, t->generation->retiring, "moondog.reload");
    struct reload_request *request = limits->reload(limits->reload_closure, t);
    if (request == NULL) {
        error e = {0};
        error_set(&e, "stopping", ERROR_CLASS_NONE, "the runtime stops, or has no memory");
        return message_fail(L, &e);
    }
    return task_park(t, L, cancel_reload, request);
}

static int now(lua_State *L)
{
    lua_pushnumber(L, (double)uv_hrtime() / 1e9);
    return 1;
}

/* ---- log ---- */

/* A field from the key at -2 and the value at -1; its text stays on the stack. */
static log_field read_field(lua_State *L)
{
    const char *key = lua_tostring(L, -2);
    size_t length;
    switch (lua_type(L, -1)) {
    case LUA_TNUMBER: {
        double number = lua_tonumber(L, -1);
        if (number == (double)(int64_t)number)
            return log_int(key, (int64_t)number);
        return log_num(key, number);
    }
    case LUA_TBOOLEAN:
        return log_bool(key, lua_toboolean(L, -1));
    default:
        lua_getglobal(L, "tostring");
        lua_pushvalue(L, -2);
        lua_call(L, 1, 1);
        lua_replace(L, -2);
        const char *text = lua_tolstring(L, -1, &length);
        return log_bytes(key, text != NULL ? text : "", text != NULL ? length : 0);
    }
}

static int compare_fields(const void *a, const void *b)
{
    return strcmp(((const log_field *)a)->key, ((const log_field *)b)->key);
}

static int write_log(lua_State *L, log_level level)
{
    struct generation *g = generation_of(L);
    struct logger *log = g->limits.hub->log;
    if (!log_wants(log, level))
        return 0;
    lua_settop(L, 2);
    lua_getglobal(L, "tostring");
    lua_pushvalue(L, 1);
    lua_call(L, 1, 1);
    lua_replace(L, 1);
    const char *text = luaL_checkstring(L, 1);
    log_field fields[LOG_FIELDS_MAX];
    int count = 0;
    if (!lua_isnil(L, 2)) {
        luaL_checktype(L, 2, LUA_TTABLE);
        luaL_checkstack(L, LOG_FIELDS_MAX * 2 + 8, "log fields");
        lua_pushnil(L);
        while (count < LOG_FIELDS_MAX && lua_next(L, 2) != 0) {
            if (lua_type(L, -2) != LUA_TSTRING)
                return luaL_error(L, "a log field's name is a %s: a string is expected",
                                  luaL_typename(L, -2));
            fields[count++] = read_field(L);
            lua_pushvalue(L, -2); /* the key again, for lua_next; the text stays below it */
        }
    }
    qsort(fields, (size_t)count, sizeof fields[0], compare_fields); /* a table has no order */
    log_write(log, level, text, fields, count);
    return 0;
}

static int log_debug(lua_State *L)
{
    return write_log(L, LOG_DEBUG);
}

static int log_info(lua_State *L)
{
    return write_log(L, LOG_INFO);
}

static int log_warn(lua_State *L)
{
    return write_log(L, LOG_WARN);
}

static int log_error(lua_State *L)
{
    return write_log(L, LOG_ERROR);
}

/* moondog.log.level([name]): which one there is, after it was set. [-0, +1] */
static int log_level_lua(lua_State *L)
{
    struct generation *g = generation_of(L);
    const char *wanted = luaL_optstring(L, 1, NULL);
    int parsed = wanted != NULL ? log_level_parse(wanted) : 0;
    if (parsed < 0)
        return luaL_error(L, "unknown log level \"%s\": there are debug, info, warn, error and off",
                          wanted);
    if (wanted != NULL)
        log_set_level(g->limits.hub->log, (log_level)parsed);
    lua_pushstring(L, log_level_name(log_get_level(g->limits.hub->log)));
    return 1;
}

/* ---- helpers of all parts ---- */

void api_register_type(lua_State *L, const char *type, const luaL_Reg *methods, lua_CFunction gc)
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

void api_set_number(lua_State *L, const char *name, double value)
{
    lua_pushnumber(L, value);
    lua_setfield(L, -2, name);
}

void api_set_string(lua_State *L, const char *name, const char *value)
{
    lua_pushstring(L, value);
    lua_setfield(L, -2, name);
}

void api_set_boolean(lua_State *L, const char *name, bool value)
{
    lua_pushboolean(L, value);
    lua_setfield(L, -2, name);
}

/* ---- the module ---- */

void api_open(lua_State *L)
{
    static const luaL_Reg functions[] = {{"connect", api_connect},
                                         {"backoff", api_backoff},
                                         {"spawn", spawn},
                                         {"sleep", sleep_},
                                         {"every", api_every},
                                         {"after", api_after},
                                         {"now", now},
                                         {"reload", reload},
                                         {"on_start", on_start},
                                         {"on_unload", on_unload},
                                         {"on_event", events_on_event},
                                         {"outbox", api_outbox},
                                         {NULL, NULL}};
    static const luaL_Reg levels[] = {{"debug", log_debug},     {"info", log_info},
                                      {"warn", log_warn},       {"error", log_error},
                                      {"level", log_level_lua}, {NULL, NULL}};
    message_register(L);
    api_register_connection(L);
    api_register_subscription(L);
    api_register_timer(L);
    api_register_backoff(L);
    api_register_outbox(L);
    lua_newtable(L);
    luaL_register(L, NULL, functions);
    lua_newtable(L);
    luaL_register(L, NULL, levels);
    lua_setfield(L, -2, "log");
    api_open_metrics(L);
    lua_setfield(L, -2, "metrics");
    lua_newtable(L);
    lua_setfield(L, -2, "state");
    lua_pushstring(L, md_version());
    lua_setfield(L, -2, "version");
}
