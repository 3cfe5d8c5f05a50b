/* tostring() and a part of `string`. See fast_functions.h. */
#include "script/fast_functions.h"

#include <lauxlib.h>
#include <stdbool.h>
#include <stddef.h>

/* tostring(value): a number here, all else as LuaJIT does it. [-0, +1] */
static int to_string(lua_State *L)
{
    luaL_checkany(L, 1);
    lua_settop(L, 1);
    if (lua_type(L, 1) == LUA_TNUMBER) {
        lua_tostring(L, 1); /* makes it one */
        return 1;
    }
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_insert(L, 1);
    lua_call(L, 1, 1);
    return 1;
}

/* string.char(...). [-0, +1] */
static int char_(lua_State *L)
{
    int count = lua_gettop(L);
    luaL_Buffer b;
    luaL_buffinit(L, &b);
    for (int i = 1; i <= count; i++) {
        int byte = luaL_checkint(L, i);
        luaL_argcheck(L, byte >= 0 && byte <= 255, i, "invalid value");
        luaL_addchar(&b, (char)byte);
    }
    luaL_pushresult(&b);
    return 1;
}

/* string.sub(text, first [, last]). [-0, +1] */
static int sub(lua_State *L)
{
    size_t size;
    const char *text = luaL_checklstring(L, 1, &size);
    ptrdiff_t length = (ptrdiff_t)size;
    ptrdiff_t first = luaL_checkint(L, 2), last = luaL_optint(L, 3, -1);
    if (first < 0)
        first += length + 1;
    if (last < 0)
        last += length + 1;
    if (first < 1)
        first = 1;
    if (last > length)
        last = length;
    lua_pushlstring(L, text + first - 1, first <= last ? (size_t)(last - first + 1) : 0);
    return 1;
}

/* string.reverse(text). [-0, +1] */
static int reverse(lua_State *L)
{
    size_t length;
    const char *text = luaL_checklstring(L, 1, &length);
    luaL_Buffer b;
    luaL_buffinit(L, &b);
    while (length > 0)
        luaL_addchar(&b, text[--length]);
    luaL_pushresult(&b);
    return 1;
}

/* Letters from `first` on, of ASCII as LuaJIT's, become the others. [-0, +1] */
static int change_case(lua_State *L, char first)
{
    size_t length;
    const char *text = luaL_checklstring(L, 1, &length);
    luaL_Buffer b;
    luaL_buffinit(L, &b);
    for (size_t i = 0; i < length; i++) {
        bool letter = text[i] >= first && text[i] < first + 26;
        luaL_addchar(&b, (char)(letter ? text[i] ^ 0x20 : text[i]));
    }
    luaL_pushresult(&b);
    return 1;
}

/* string.lower(text). [-0, +1] */
static int lower(lua_State *L)
{
    return change_case(L, 'A');
}

/* string.upper(text). [-0, +1] */
static int upper(lua_State *L)
{
    return change_case(L, 'a');
}

void fast_functions_set_up(lua_State *L)
{
    static const luaL_Reg functions[] = {{"char", char_},  {"sub", sub},     {"reverse", reverse},
                                         {"lower", lower}, {"upper", upper}, {NULL, NULL}};
    lua_getglobal(L, "tostring");
    lua_pushcclosure(L, to_string, 1);
    lua_setglobal(L, "tostring");
    lua_getglobal(L, "string");
    luaL_register(L, NULL, functions);
    lua_pop(L, 1);
}
