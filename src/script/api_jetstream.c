/* connection:jetstream(): what its Lua side (lua/moondog/jetstream.lua) needs of C. See api.h. Loop
 * thread, or the loading one. */
#include <jansson.h>
#include <lauxlib.h>
#include <limits.h>
#include <openssl/evp.h>

#include "script/api.h"
#include "script/embedded.h"
#include "script/from_json.h"
#include "script/message.h"
#include "script/to_json.h"

/* The reference is the stack's: an error of Lua must not leave it behind. */
static int free_json(lua_State *L)
{
    json_t **owned = lua_touserdata(L, 1);
    json_decref(*owned);
    *owned = NULL;
    return 0;
}

/* [-0, +1] a box that frees what is put into it. */
static json_t **push_box(lua_State *L)
{
    json_t **box = lua_newuserdata(L, sizeof *box);
    *box = NULL;
    lua_createtable(L, 0, 1);
    lua_pushcfunction(L, free_json);
    lua_setfield(L, -2, "__gc");
    lua_setmetatable(L, -2);
    return box;
}

/* decode(text): the value, or nil. All numbers are read as Lua has them: jansson refuses whole ones
 * beyond 2^63, and nats-server 2.10 writes 2^64 - 1 for a reservation of -1. [-0, +1] */
static int decode(lua_State *L)
{
    size_t length;
    const char *text = luaL_checklstring(L, 1, &length);
    json_t **box = push_box(L);
    *box = json_loadb(text, length, JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL, NULL);
    if (*box == NULL)
        lua_pushnil(L);
    else
        from_json(L, *box);
    return 1;
}

/* encode(value): JSON, or nil: no plain data. [-0, +1] */
static int encode(lua_State *L)
{
    json_t **box = push_box(L);
    *box = to_json(L, 1);
    size_t length = *box != NULL ? json_dumpb(*box, NULL, 0, JSON_COMPACT | JSON_ENCODE_ANY) : 0;
    if (length == 0)
        return 0;
    char *text = lua_newuserdata(L, length);
    lua_pushlstring(L, text, json_dumpb(*box, text, length, JSON_COMPACT | JSON_ENCODE_ANY));
    return 1;
}

/* base64(text): what it stands for, or nil. In Lua, a megabyte would take a second. [-0, +1] */
static int base64(lua_State *L)
{
    size_t length;
    const char *text = luaL_checklstring(L, 1, &length);
    if (length > INT_MAX || length % 4 != 0)
        return 0;
    unsigned char *out = lua_newuserdata(L, length / 4 * 3 + 1);
    int size = EVP_DecodeBlock(out, (const unsigned char *)text, (int)length);
    for (size_t end = length; size > 0 && end > length - 2 && text[end - 1] == '='; end--)
        size--; /* the padding was decoded, too */
    if (size < 0)
        return 0;
    lua_pushlstring(L, (const char *)out, (size_t)size);
    return 1;
}

/* error(code, class, message): an error object. [-0, +1] */
static int make_error(lua_State *L)
{
    error e = {0};
    error_set(&e, luaL_checkstring(L, 1), (error_class)luaL_checkint(L, 2), "%s",
              luaL_checkstring(L, 3));
    message_push_error(L, &e);
    return 1;
}

/* load(name, host): what the embedded module returns, called with `host`. [-0, +1] */
static int load_module(lua_State *L)
{
    const embedded_module *m = embedded_find(luaL_checkstring(L, 1));
    if (m == NULL)
        return luaL_error(L, "no embedded module %s", lua_tostring(L, 1));
    if (luaL_loadbuffer(L, m->text, m->length, m->chunk) != 0)
        return lua_error(L);
    lua_pushvalue(L, 2);
    lua_call(L, 1, 1);
    return 1;
}

void api_register_json(lua_State *L)
{
    static const luaL_Reg functions[] = {{"decode", decode},    {"encode", encode},
                                         {"base64", base64},    {"error", make_error},
                                         {"load", load_module}, {NULL, NULL}};
    luaL_register(L, NULL, functions);
}

/* [-0, +1] The function of lua/moondog/jetstream.lua. */
static int open_module(lua_State *L)
{
    lua_settop(L, 0);
    lua_pushliteral(L, "moondog.jetstream");
    lua_newtable(L);
    api_register_json(L);
    api_register_consumer(L);
    api_register_answers(L);
    api_set_number(L, "NONE", ERROR_CLASS_NONE);
    api_set_number(L, "PROTOCOL", ERROR_CLASS_PROTOCOL);
    api_set_number(L, "TIMEOUT", ERROR_CLASS_TIMEOUT);
    api_set_number(L, "NETWORK", ERROR_CLASS_NETWORK);
    return load_module(L);
}

/* Most scripts never ask for it. A function of C could not wait, so this one is Lua. */
void api_open_jetstream(lua_State *L)
{
    static const char lazy[] = "local open, jetstream = ...\n"
                               "return function(...)\n"
                               "  jetstream = jetstream or open()\n"
                               "  return jetstream(...)\n"
                               "end";
    if (luaL_loadbuffer(L, lazy, sizeof lazy - 1, "=moondog.jetstream") != 0)
        lua_error(L);
    lua_pushcfunction(L, open_module);
    lua_call(L, 1, 1);
}
