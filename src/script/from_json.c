/* JSON as values of Lua. See from_json.h. */
#include "script/from_json.h"

#include <lauxlib.h>

static void push_array(lua_State *L, const json_t *list)
{
    size_t i;
    json_t *item;
    lua_createtable(L, (int)json_array_size(list), 0);
    json_array_foreach(list, i, item)
    {
        from_json(L, item);
        lua_rawseti(L, -2, (int)i + 1);
    }
}

static void push_object(lua_State *L, json_t *object)
{
    const char *key;
    json_t *item;
    lua_createtable(L, 0, (int)json_object_size(object));
    json_object_foreach(object, key, item)
    {
        from_json(L, item);
        lua_setfield(L, -2, key);
    }
}

/* jansson does not read what is nested deeper than 2048: the C stack holds that. */
void from_json(lua_State *L, const json_t *value)
{
    luaL_checkstack(L, 4, "JSON");
    switch (json_typeof(value)) {
    case JSON_OBJECT:
        push_object(L, (json_t *)value);
        break;
    case JSON_ARRAY:
        push_array(L, value);
        break;
    case JSON_STRING:
        lua_pushlstring(L, json_string_value(value), json_string_length(value));
        break;
    case JSON_INTEGER:
        lua_pushnumber(L, (double)json_integer_value(value));
        break;
    case JSON_REAL:
        lua_pushnumber(L, json_real_value(value));
        break;
    case JSON_TRUE:
    case JSON_FALSE:
        lua_pushboolean(L, json_is_true(value));
        break;
    default:
        lua_pushnil(L);
    }
}
