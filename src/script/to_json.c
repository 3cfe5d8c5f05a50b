/* Values of Lua as JSON. See to_json.h. */
#include "script/to_json.h"

#include <lauxlib.h>
#include <math.h>
#include <stdlib.h>

#include "base/utf8.h"

#define DEPTH_MAX 64
#define WHOLE_MAX 9007199254740992.0 /* 2^53 */

static json_t *convert(lua_State *L, int index, int depth);

static json_t *array(lua_State *L, int index, size_t length, int depth)
{
    json_t *out = json_array();
    for (size_t i = 1; out != NULL && i <= length; i++) {
        lua_rawgeti(L, index, (int)i);
        json_t *item = convert(L, lua_gettop(L), depth);
        lua_pop(L, 1);
        if (item != NULL && json_array_append_new(out, item) == 0)
            continue;
        json_decref(out);
        out = NULL;
    }
    return out;
}

/* Takes the value on top, and its key below stays. */
static int add_field(lua_State *L, json_t *out, int depth)
{
    json_t *value = lua_type(L, -2) == LUA_TSTRING ? convert(L, lua_gettop(L), depth) : NULL;
    char *key = value != NULL ? utf8_repair(lua_tostring(L, -2), lua_objlen(L, -2)) : NULL;
    int failed = key == NULL ? -1 : json_object_set_new(out, key, value);
    if (key == NULL)
        json_decref(value);
    free(key);
    lua_pop(L, 1);
    return failed;
}

static json_t *object(lua_State *L, int index, int depth)
{
    json_t *out = json_object();
    lua_pushnil(L);
    while (out != NULL && lua_next(L, index) != 0) {
        if (add_field(L, out, depth) == 0)
            continue;
        lua_pop(L, 1);
        json_decref(out);
        return NULL;
    }
    return out;
}

static json_t *table(lua_State *L, int index, int depth)
{
    size_t length = lua_objlen(L, index);
    if (depth > DEPTH_MAX || !lua_checkstack(L, 4))
        return NULL;
    return length > 0 ? array(L, index, length, depth) : object(L, index, depth);
}

static json_t *convert(lua_State *L, int index, int depth)
{
    switch (lua_type(L, index)) {
    case LUA_TNIL:
        return json_null();
    case LUA_TBOOLEAN:
        return json_boolean(lua_toboolean(L, index));
    case LUA_TNUMBER: {
        double number = lua_tonumber(L, index);
        if (number == floor(number) && fabs(number) <= WHOLE_MAX)
            return json_integer((json_int_t)number);
        return json_real(number); /* NULL when it is not finite */
    }
    case LUA_TSTRING: {
        size_t length;
        const char *bytes = lua_tolstring(L, index, &length);
        char *text = utf8_repair(bytes, length);
        json_t *out = text != NULL ? json_stringn(text, length) : NULL;
        free(text);
        return out;
    }
    case LUA_TTABLE:
        return table(L, index, depth + 1);
    default:
        return NULL;
    }
}

json_t *to_json(lua_State *L, int index)
{
    return convert(L, index, 0);
}
