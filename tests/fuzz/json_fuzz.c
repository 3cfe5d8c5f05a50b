/* JSON as values of Lua and back, as the API of JetStream uses it. One thread. */
#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"
#include "runtime_private.h"
#include "script/api.h"

#define DEPTH_MAX 64 /* of what is encoded */

/* [-1, +1] The result of a function of the table at 1. */
static void call(lua_State *L, const char *name)
{
    lua_getfield(L, 1, name);
    lua_insert(L, -2);
    lua_call(L, 1, 1);
}

static size_t depth_of(const char *text)
{
    size_t depth = 0, deepest = 0;
    for (; *text != '\0'; text++) {
        depth += *text == '[' || *text == '{';
        depth -= depth > 0 && (*text == ']' || *text == '}');
        deepest = depth > deepest ? depth : deepest;
    }
    return deepest;
}

/* What was read can be written, and is read again as the same. A null is in no table of Lua, so a
 * list with one is another list. */
static void check_decoded(lua_State *L, const char *text, size_t length)
{
    lua_pushlstring(L, text, length);
    call(L, "decode");
    if (lua_isnil(L, -1) || strstr(text, "null") != NULL || strlen(text) != length)
        return;
    lua_pushvalue(L, -1);
    call(L, "encode");
    if (lua_isnil(L, -1)) {
        fuzz_check_text(depth_of(text) > DEPTH_MAX || !lua_istable(L, -2), text);
        return;
    }
    fuzz_check(fuzz_is_utf8(lua_tostring(L, -1), lua_objlen(L, -1)));
    call(L, "decode");
    fuzz_check_text(fuzz_equal(L, lua_gettop(L) - 1, lua_gettop(L)), text);
}

/* Any data, not only what JSON can hold: what is written can be read. */
static void check_encoded(lua_State *L, fuzz_input *in)
{
    fuzz_value(in, L, NULL, 0);
    bool table = lua_istable(L, -1); /* all else is no text of JSON on its own */
    call(L, "encode");
    if (!table || lua_isnil(L, -1))
        return;
    call(L, "decode");
    fuzz_check(!lua_isnil(L, -1));
}

static void check_base64(lua_State *L, const char *text, size_t length)
{
    lua_pushlstring(L, text, length);
    call(L, "base64");
    fuzz_check(lua_isnil(L, -1) || (length % 4 == 0 && lua_objlen(L, -1) <= length / 4 * 3));
}

static int check_all(lua_State *L)
{
    fuzz_input in = *(fuzz_input *)lua_touserdata(L, 1), whole = in;
    size_t length;
    lua_settop(L, 0);
    lua_newtable(L);
    api_register_json(L);
    char *text = fuzz_rest(&in, &length);
    check_decoded(L, text, length);
    check_base64(L, text, length);
    check_encoded(L, &whole);
    free(text);
    return 0;
}

void fuzz_one(const uint8_t *data, size_t size)
{
    fuzz_input in = {data, size};
    lua_State *L = fuzz_runtime(false, false)->generation->L;
    if (lua_cpcall(L, check_all, &in) != 0)
        fuzz_check_text(false, lua_tostring(L, -1));
    lua_settop(L, 0);
}
