/* Plain data, from Lua and to Lua. See value.h. On the thread of the lua_State. */
#include <lauxlib.h>
#include <limits.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "host/value.h"

#define KEY_SIZE 48
#define STACK_SLOTS 8 /* of a level of nesting */

/* ---- to Lua ---- */

void value_push(lua_State *L, const md_value *value)
{
    luaL_checkstack(L, STACK_SLOTS, "plain data");
    switch (value->type) {
    case MD_NIL:
        lua_pushnil(L);
        break;
    case MD_BOOLEAN:
        lua_pushboolean(L, value->as.boolean);
        break;
    case MD_NUMBER:
        lua_pushnumber(L, value->as.number);
        break;
    case MD_STRING:
        lua_pushlstring(L, value->as.string.data, value->as.string.length);
        break;
    case MD_LIST:
        lua_createtable(L, (int)value->as.list.count, 0);
        for (size_t i = 0; i < value->as.list.count; i++) {
            value_push(L, &value->as.list.items[i]);
            lua_rawseti(L, -2, (int)i + 1);
        }
        break;
    case MD_MAP:
        lua_createtable(L, 0, (int)value->as.map.count);
        for (size_t i = 0; i < value->as.map.count; i++) {
            lua_pushstring(L, value->as.map.fields[i].name);
            value_push(L, &value->as.map.fields[i].value);
            lua_rawset(L, -3);
        }
        break;
    }
}

/* ---- from Lua ---- */

struct reading {
    const value_reader *how;
    const void *open[MD_DEPTH_MAX];    /* the tables that the current value is in */
    char keys[MD_DEPTH_MAX][KEY_SIZE]; /* how it is reached, for messages */
    int depth;
};

/* `what` it is instead of plain data. */
static int refuse(const struct reading *r, const char *code, const char *what)
{
    char path[256];
    size_t length = (size_t)snprintf(path, sizeof path, "%s", r->how->root);
    for (int i = 0; i < r->depth && length < sizeof path - 1; i++)
        length += (size_t)snprintf(path + length, sizeof path - length, "%s", r->keys[i]);
    return error_set(r->how->e, code, ERROR_CLASS_NONE, "%s %s", path, what);
}

static int refuse_memory(const struct reading *r)
{
    char what[64];
    if (!r->how->arena->full)
        return refuse(r, "no_memory", "cannot be taken: no memory");
    snprintf(what, sizeof what, "goes beyond the %u bytes of plain data", MD_DATA_BYTES_MAX);
    return refuse(r, "too_large", what);
}

#define ONLY_PLAIN ": host functions take plain data"

/* [-0, +0] */
static int read_text(const struct reading *r, lua_State *L, int index, md_value *to)
{
    size_t length = 0;
    lua_pushvalue(L, r->how->tostring);
    lua_pushvalue(L, index);
    lua_call(L, 1, 1);
    const char *text = lua_tolstring(L, -1, &length);
    md_value borrowed = md_bytes(text, text != NULL ? length : 0);
    int failed = value_copy(r->how->arena, &borrowed, to, r->how->e);
    lua_pop(L, 1);
    return failed;
}

/* What is no plain data: its text, or an error. */
static int read_other(const struct reading *r, lua_State *L, int index, md_value *to,
                      const char *what)
{
    char text[160];
    if (r->how->tostring != 0)
        return read_text(r, L, index, to);
    snprintf(text, sizeof text, "is %s" ONLY_PLAIN, what);
    return refuse(r, "bad_value", text);
}

static int read_value(struct reading *r, lua_State *L, int index, md_value *to);

/* What the keys of a table are. */
typedef struct {
    size_t count, names, places; /* all, strings, whole numbers from 1 on */
    double highest;              /* of `places` */
    bool zero_byte;              /* in a name */
    int other;                   /* type of a key that is neither; LUA_TNONE: there is none */
} table_keys;

static bool is_place(double number)
{
    return number >= 1 && number <= INT_MAX && number == floor(number);
}

/* [-0, +0] False: there are more than fit. */
static bool look_at_keys(lua_State *L, int index, size_t most, table_keys *k)
{
    *k = (table_keys){.other = LUA_TNONE};
    for (lua_pushnil(L); lua_next(L, index) != 0; lua_pop(L, 1)) {
        if (++k->count > most) {
            lua_pop(L, 2);
            return false;
        }
        if (lua_type(L, -2) == LUA_TSTRING) {
            k->names++;
            k->zero_byte |= strlen(lua_tostring(L, -2)) != lua_objlen(L, -2);
        } else if (lua_type(L, -2) == LUA_TNUMBER && is_place(lua_tonumber(L, -2))) {
            k->places++;
            if (lua_tonumber(L, -2) > k->highest)
                k->highest = lua_tonumber(L, -2);
        } else {
            k->other = lua_type(L, -2);
        }
    }
    return true;
}

/* Why a table with such keys is neither a list nor a map; NULL: it is one of them. */
static const char *mistake_of(const table_keys *k)
{
    if (k->other == LUA_TNUMBER)
        return "a table with a number as a key that is not 1, 2, 3, ...";
    if (k->other != LUA_TNONE)
        return "a table with a key that is neither a string nor a number";
    if (k->names > 0 && k->places > 0)
        return "a table with names and numbers as keys, neither a list nor a map";
    if (k->highest > (double)k->count)
        return "a list with holes";
    return k->zero_byte ? "a table with a zero byte in a key" : NULL;
}

/* [-0, +0] */
static int read_list(struct reading *r, lua_State *L, int index, md_value *to, size_t count)
{
    md_value *items = arena_take(r->how->arena, count * sizeof *items);
    if (items == NULL)
        return refuse_memory(r);
    for (size_t i = 0; i < count; i++) {
        snprintf(r->keys[r->depth++], KEY_SIZE, ".%zu", i + 1);
        lua_rawgeti(L, index, (int)i + 1);
        int failed = read_value(r, L, lua_gettop(L), &items[i]);
        lua_pop(L, 1);
        if (failed != 0)
            return -1;
        r->depth--;
    }
    *to = md_list(items, count);
    return 0;
}

/* A field from the key at -2 and the value on top. [-0, +0] */
static int read_field(struct reading *r, lua_State *L, md_field *field)
{
    const char *name = lua_tostring(L, -2);
    size_t size = lua_objlen(L, -2) + 1;
    char *copy = arena_take(r->how->arena, size);
    snprintf(r->keys[r->depth++], KEY_SIZE, ".%s", name);
    if (copy == NULL)
        return refuse_memory(r);
    memcpy(copy, name, size);
    field->name = copy;
    int failed = read_value(r, L, lua_gettop(L), &field->value);
    r->depth -= failed == 0;
    return failed;
}

/* [-0, +0] */
static int read_map(struct reading *r, lua_State *L, int index, md_value *to, size_t count)
{
    md_field *fields = arena_take(r->how->arena, count * sizeof *fields);
    size_t i = 0;
    if (fields == NULL)
        return refuse_memory(r);
    for (lua_pushnil(L); lua_next(L, index) != 0; lua_pop(L, 1), i++) {
        bool changed = i == count || lua_type(L, -2) != LUA_TSTRING; /* by a __tostring */
        if (changed || read_field(r, L, &fields[i]) != 0) {
            lua_pop(L, 2);
            return changed ? refuse(r, "bad_value", "was changed while it was read") : -1;
        }
    }
    *to = md_map(fields, i);
    return 0;
}

/* Why a table is no plain data, whatever its keys are; NULL: it is. [-0, +0] */
static const char *why_no_data(const struct reading *r, lua_State *L, int index)
{
    for (int i = 0; i < r->depth; i++)
        if (r->open[i] == lua_topointer(L, index))
            return "a table that contains itself";
    if (r->depth == MD_DEPTH_MAX)
        return "a table that is nested too deeply";
    if (r->how->tostring != 0) { /* an error object, such as of moondog, is its message */
        if (!luaL_getmetafield(L, index, "__tostring"))
            return NULL;
        lua_pop(L, 1);
        return "a table with a text";
    }
    if (!lua_getmetatable(L, index))
        return NULL;
    lua_pop(L, 1);
    return "a table with a metatable";
}

/* [-0, +0] */
static int read_table(struct reading *r, lua_State *L, int index, md_value *to)
{
    table_keys k;
    const char *mistake = why_no_data(r, L, index);
    if (mistake != NULL)
        return read_other(r, L, index, to, mistake);
    if (!look_at_keys(L, index, arena_room(r->how->arena) / sizeof(md_value), &k)) {
        r->how->arena->full = true;
        return refuse_memory(r);
    }
    mistake = mistake_of(&k);
    if (mistake != NULL)
        return read_other(r, L, index, to, mistake);
    r->open[r->depth] = lua_topointer(L, index);
    return k.names > 0 ? read_map(r, L, index, to, k.count) : read_list(r, L, index, to, k.count);
}

/* [-0, +0] `index` is counted from the bottom. */
static int read_value(struct reading *r, lua_State *L, int index, md_value *to)
{
    char what[64];
    luaL_checkstack(L, STACK_SLOTS, "plain data");
    switch (lua_type(L, index)) {
    case LUA_TNIL:
        *to = md_nil();
        return 0;
    case LUA_TBOOLEAN:
        *to = md_boolean(lua_toboolean(L, index));
        return 0;
    case LUA_TNUMBER:
        *to = md_number(lua_tonumber(L, index));
        return 0;
    case LUA_TSTRING: {
        size_t length;
        const char *text = lua_tolstring(L, index, &length);
        char *copy = arena_take(r->how->arena, length + 1);
        if (copy == NULL)
            return refuse_memory(r);
        memcpy(copy, text, length + 1);
        *to = md_bytes(copy, length);
        return 0;
    }
    case LUA_TTABLE:
        return read_table(r, L, index, to);
    default:
        snprintf(what, sizeof what, "a %s", luaL_typename(L, index));
        return read_other(r, L, index, to, what);
    }
}

int value_read(const value_reader *how, lua_State *L, int index, md_value *to)
{
    struct reading r = {.how = how};
    return read_value(&r, L, index, to);
}
