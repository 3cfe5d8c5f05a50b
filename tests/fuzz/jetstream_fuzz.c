/* What answers for JetStream: whatever it is, each method of connection:jetstream() returns a
 * value, or nil and an error that says so. The Lua side is that of lua/moondog/jetstream*.lua and
 * kv.lua, with a server made of the input (jetstream.lua here). One thread. */
#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"
#include "runtime_private.h"
#include "script/api.h"

static const char *const names[] = {
    "error",
    "err_code",
    "description",
    "code",
    "config",
    "state",
    "name",
    "total",
    "streams",
    "consumers",
    "last_seq",
    "messages",
    "message",
    "data",
    "hdrs",
    "seq",
    "subject",
    "time",
    "created",
    "delivered",
    "ack_floor",
    "stream_seq",
    "num_pending",
    "num_ack_pending",
    "max_age",
    "ack_wait",
    "backoff",
    "mirror",
    "external",
    "api",
    "level",
    "purged",
    "stream",
    "duplicate",
    "domain",
    "num_replicas",
    "max_msgs_per_subject",
    "duplicate_window",
    "headers",
    "Status",
    "Nats-Sequence",
    "Nats-Subject",
    "deliver_policy",
    "opt_start_seq",
    "limits",
    "success",
};

static fuzz_input *source;

/* answer(): data of any kind; text(): of any bytes. [-0, +1] */
static int push_answer(lua_State *L)
{
    fuzz_value(source, L, names, sizeof names / sizeof names[0]);
    return 1;
}

static int push_text(lua_State *L)
{
    size_t length;
    char *text = fuzz_bytes(source, &length);
    lua_pushlstring(L, text, length);
    free(text);
    return 1;
}

/* below(limit): a whole number. [-0, +1] */
static int push_number(lua_State *L)
{
    lua_pushnumber(L, fuzz_below(source, (unsigned)luaL_checkint(L, 1)));
    return 1;
}

static int play(lua_State *L)
{
    static const luaL_Reg input[] = {
        {"answer", push_answer}, {"text", push_text}, {"below", push_number}, {NULL, NULL}};
    lua_settop(L, 0);
    lua_getfield(L, LUA_REGISTRYINDEX, "moondog.fuzz");
    if (lua_isnil(L, 1)) {
        lua_settop(L, 0);
        if (luaL_loadfile(L, MOONDOG_FUZZ_FOLDER "/jetstream.lua") != 0)
            return lua_error(L);
        lua_newtable(L);
        api_register_json(L);
        lua_newtable(L);
        luaL_register(L, NULL, input);
        lua_call(L, 2, 1);
        lua_pushvalue(L, 1);
        lua_setfield(L, LUA_REGISTRYINDEX, "moondog.fuzz");
    }
    lua_call(L, 0, 1);
    return 1;
}

void fuzz_one(const uint8_t *data, size_t size)
{
    fuzz_input in = {data, size};
    lua_State *L = fuzz_runtime(false, false)->generation->L;
    source = &in;
    if (lua_cpcall(L, play, NULL) != 0)
        fuzz_check_text(false, lua_tostring(L, -1));
    lua_settop(L, 0);
}
