/* What the command line said. See args.h. */
#include "cli/args.h"

const char *args_string(lua_State *L, const char *name, const char *fallback)
{
    lua_getfield(L, 1, name);
    const char *value = lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : fallback;
    lua_pop(L, 1); /* the table keeps it */
    return value;
}

double args_number(lua_State *L, const char *name, double fallback)
{
    lua_getfield(L, 1, name);
    double value = lua_isnumber(L, -1) ? lua_tonumber(L, -1) : fallback;
    lua_pop(L, 1);
    return value;
}

bool args_flag(lua_State *L, const char *name)
{
    lua_getfield(L, 1, name);
    bool value = lua_toboolean(L, -1);
    lua_pop(L, 1);
    return value;
}
