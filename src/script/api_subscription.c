/* Subscriptions of the Lua API. Loop thread, or the loading one: then they only declare. */
#include <lauxlib.h>
#include <string.h>

#include "script/api.h"
#include "script/message.h"

static const char *const subscribe_names[] = {"queue", "max", "pending", "name", NULL};
static const char *const pending_names[] = {"messages", "bytes", NULL};

/* -1: no limit */
static uint64_t limit(lua_State *L, int index, const char *name, double fallback)
{
    double value = options_number(L, index, name, fallback, -1, 1e15);
    return value < 0 ? 0 : value < 1 ? 1 : (uint64_t)value;
}

static void read_subscribe(lua_State *L, int index, interest_options *o)
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
        o->pending_messages = limit(L, t, "pending.messages", PENDING_MESSAGES);
        o->pending_bytes = limit(L, t, "pending.bytes", PENDING_BYTES);
        lua_pop(L, 1);
    }
}

int api_subscribe(lua_State *L)
{
    struct binding *b = api_check_connection(L, 1);
    struct generation *g = b->generation;
    interest_options options = {0};
    error e = {0};
    size_t length;
    api_check_not(L, g->retiring, "subscribe");
    options.subject = luaL_checklstring(L, 2, &length);
    luaL_checktype(L, 3, LUA_TFUNCTION);
    lua_settop(L, 4);
    read_subscribe(L, 4, &options);
    if (subject_check(options.subject, length, true, &e) != 0)
        return luaL_argerror(L, 2, e.message);
    if (options.queue != NULL &&
        subject_check(options.queue, strlen(options.queue), false, &e) != 0)
        return luaL_error(L, "option \"queue\": %s", e.message);
    const char *name = lua_isnil(L, 4) ? NULL : options_string(L, 4, "name", NULL);
    struct handler **h = lua_newuserdata(L, sizeof *h);
    *h = NULL;
    luaL_getmetatable(L, SUBSCRIPTION_TYPE);
    lua_setmetatable(L, -2);
    if (g->committed && api_live(L, b, "subscribe", &e) == NULL)
        return message_fail(L, &e);
    if (!generation_charge(L, HANDLER_BYTES))
        return luaL_error(L, "not enough memory for a subscription");
    *h = handler_new(b, &options, name, &e);
    if (*h == NULL) {
        generation_discharge(g, HANDLER_BYTES);
        return message_fail(L, &e);
    }
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
    handler_unsubscribe(h);
    lua_pushboolean(L, 1);
    return 1;
}

static int subscription_drain_lua(lua_State *L)
{
    struct handler *h = check_handler(L);
    handler_drain(h);
    lua_pushboolean(L, 1);
    return 1;
}

static int subscription_stats_lua(lua_State *L)
{
    struct handler *h = *(struct handler **)luaL_checkudata(L, 1, SUBSCRIPTION_TYPE);
    subscription_state state = {0};
    if (h->subscription != NULL)
        subscription_get_state(h->subscription, &state);
    lua_createtable(L, 0, 10);
    api_set_string(L, "subject", h->interest->subject);
    if (interest_queue(h->interest) != NULL)
        api_set_string(L, "queue", interest_queue(h->interest));
    api_set_boolean(L, "active", state.active);
    api_set_number(L, "handled", (double)h->callback.calls);
    api_set_number(L, "errors", (double)h->callback.errors);
    api_set_number(L, "overruns", (double)h->callback.overruns);
    api_set_number(L, "dropped", (double)state.dropped);
    api_set_number(L, "queued", (double)state.queued);
    if (h->latency != NULL && h->latency->total > 0) {
        api_set_number(L, "latency_p50", latency_quantile(h->latency, 0.5));
        api_set_number(L, "latency_p99", latency_quantile(h->latency, 0.99));
    }
    return 1;
}

/* "subscription orders.* (queue workers)" */
static int subscription_tostring(lua_State *L)
{
    struct handler *h = *(struct handler **)luaL_checkudata(L, 1, SUBSCRIPTION_TYPE);
    const char *queue = interest_queue(h->interest);
    lua_pushfstring(L, queue != NULL ? "subscription %s (queue %s)" : "subscription %s",
                    h->interest->subject, queue);
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

void api_register_subscription(lua_State *L)
{
    static const luaL_Reg subscription_methods[] = {{"unsubscribe", subscription_unsubscribe_lua},
                                                    {"drain", subscription_drain_lua},
                                                    {"stats", subscription_stats_lua},
                                                    {NULL, NULL}};
    api_register_type(L, SUBSCRIPTION_TYPE, subscription_methods, subscription_gc);
    lua_pushcfunction(L, subscription_tostring);
    lua_setfield(L, -2, "__tostring");
    lua_pop(L, 1);
}
