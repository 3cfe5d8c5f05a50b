/* moondog.state from one lua_State to another. See state.h. The packed form is a byte for the
 * type and what belongs to it; a table is its pairs and an end. It never leaves the process. */
#include "script/state.h"

#include <lauxlib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { TAG_FALSE = 1, TAG_TRUE, TAG_NUMBER, TAG_STRING, TAG_TABLE, TAG_END };

/* ---- packing ---- */

struct packing {
    packed_state *out;
    const void *open[STATE_DEPTH_MAX]; /* the tables that the current value is in */
    int depth;
    int status;
    const char *why;                /* it is refused; NULL: it is not */
    char keys[STATE_DEPTH_MAX][48]; /* then: how what is refused is reached */
    int refused_depth;
    char why_text[64];
    error *e;
};

/* The path is not known before all tables that are open are left. */
static int refuse(struct packing *p, const char *why)
{
    p->why = why;
    p->refused_depth = p->depth;
    return -1;
}

static int tell_refusal(const struct packing *p)
{
    char path[512] = "moondog.state";
    size_t length = strlen(path);
    for (int i = 0; i < p->refused_depth && length < sizeof path - 1; i++)
        length += (size_t)snprintf(path + length, sizeof path - length, "%s", p->keys[i]);
    return error_set(p->e, "bad_state", ERROR_CLASS_NONE,
                     "%s %s: only nil, booleans, numbers, strings and tables of these cross a "
                     "reload",
                     path, p->why);
}

static int put(struct packing *p, const void *bytes, size_t length)
{
    packed_state *s = p->out;
    if (length > s->cap - s->length)
        return error_set(p->e, "state_too_large", ERROR_CLASS_LIMIT,
                         "moondog.state needs more than the %zu bytes that may cross a reload; "
                         "keep less in it, or raise --state",
                         s->cap);
    if (length > s->capacity - s->length) {
        size_t capacity = s->capacity * 2 + length + 256;
        char *more = realloc(s->bytes, capacity);
        if (more == NULL)
            return error_set(p->e, "no_memory", ERROR_CLASS_LIMIT, "no memory for moondog.state");
        s->bytes = more;
        s->capacity = capacity;
    }
    memcpy(s->bytes + s->length, bytes, length);
    s->length += length;
    return 0;
}

static int put_tag(struct packing *p, unsigned char tag)
{
    return put(p, &tag, 1);
}

static int put_number(struct packing *p, double number)
{
    return put_tag(p, TAG_NUMBER) != 0 ? -1 : put(p, &number, sizeof number);
}

static int put_string(struct packing *p, const char *text, size_t length)
{
    if (put_tag(p, TAG_STRING) != 0 || put(p, &length, sizeof length) != 0)
        return -1;
    return put(p, text, length);
}

static void name_key(struct packing *p, int depth, lua_State *L, int index)
{
    char *name = p->keys[depth];
    size_t size = sizeof p->keys[0];
    if (lua_type(L, index) == LUA_TSTRING)
        snprintf(name, size, ".%.40s", lua_tostring(L, index));
    else if (lua_type(L, index) == LUA_TNUMBER)
        snprintf(name, size, "[%.14g]", lua_tonumber(L, index));
    else
        snprintf(name, size, "[a %s]", luaL_typename(L, index));
}

static int pack_value(struct packing *p, lua_State *L);

/* [-0, +0] the pair on top, of the innermost table. When it is refused the rest stays there, and
 * the one who called in protected mode drops it. */
static int pack_pair(struct packing *p, lua_State *L)
{
    int key = lua_gettop(L) - 1, depth = p->depth++;
    lua_pushvalue(L, key);
    int failed =
        lua_type(L, -1) == LUA_TTABLE ? refuse(p, "is a key that is a table") : pack_value(p, L);
    if (failed == 0) {
        lua_pop(L, 1);
        failed = pack_value(p, L);
    }
    p->depth = depth;
    if (failed != 0 && p->why != NULL)
        name_key(p, depth, L, key);
    return failed;
}

/* [-0, +0] the table on top */
static int pack_table(struct packing *p, lua_State *L)
{
    const void *table = lua_topointer(L, -1);
    for (int i = 0; i < p->depth; i++)
        if (p->open[i] == table)
            return refuse(p, "is a table that contains itself");
    if (p->depth == STATE_DEPTH_MAX - 1)
        return refuse(p, "is nested too deeply");
    if (lua_getmetatable(L, -1)) {
        lua_pop(L, 1);
        return refuse(p, "is a table with a metatable");
    }
    luaL_checkstack(L, 4, "moondog.state");
    if (put_tag(p, TAG_TABLE) != 0)
        return -1;
    p->open[p->depth] = table;
    for (lua_pushnil(L); lua_next(L, -2) != 0; lua_pop(L, 1))
        if (pack_pair(p, L) != 0)
            return -1;
    return put_tag(p, TAG_END);
}

/* [-0, +0] the value on top */
static int pack_value(struct packing *p, lua_State *L)
{
    size_t length;
    switch (lua_type(L, -1)) {
    case LUA_TBOOLEAN:
        return put_tag(p, lua_toboolean(L, -1) ? TAG_TRUE : TAG_FALSE);
    case LUA_TNUMBER:
        return put_number(p, lua_tonumber(L, -1));
    case LUA_TSTRING: {
        const char *text = lua_tolstring(L, -1, &length);
        return put_string(p, text, length);
    }
    case LUA_TTABLE:
        return pack_table(p, L);
    default:
        snprintf(p->why_text, sizeof p->why_text, "is a %s", luaL_typename(L, -1));
        return refuse(p, p->why_text);
    }
}

/* [-0, +1] moondog.state, which has to be a table */
static int push_state(lua_State *L, const struct generation *g, error *e)
{
    lua_rawgeti(L, LUA_REGISTRYINDEX, g->module_ref);
    lua_pushliteral(L, "state");
    lua_rawget(L, -2);
    lua_remove(L, -2);
    if (lua_istable(L, -1))
        return 0;
    return error_set(e, "bad_state", ERROR_CLASS_NONE,
                     "moondog.state is a %s: it has to stay a table", luaL_typename(L, -1));
}

static int pack_protected(lua_State *L)
{
    struct packing *p = lua_touserdata(L, 1);
    p->status = push_state(L, generation_of(L), p->e) == 0 ? pack_table(p, L) : -1;
    if (p->why != NULL)
        tell_refusal(p);
    return 0;
}

/* Runs fn in protected mode; what it raises can only be that there is no memory. */
static int protect(struct generation *g, lua_CFunction fn, void *closure, error *e)
{
    if (lua_cpcall(g->L, fn, closure) == 0)
        return 0;
    lua_pop(g->L, 1);
    return error_set(e, "no_memory", ERROR_CLASS_LIMIT,
                     "moondog.state does not fit into the %zu bytes that a generation may have; "
                     "raise --memory",
                     g->limits.memory_cap);
}

int state_pack(struct generation *g, size_t cap, packed_state *out, error *e)
{
    *out = (packed_state){.cap = cap};
    struct packing *p = calloc(1, sizeof *p);
    if (p == NULL)
        return error_set(e, "no_memory", ERROR_CLASS_LIMIT, "no memory for moondog.state");
    p->out = out;
    p->e = e;
    int failed = protect(g, pack_protected, p, e) != 0 || p->status != 0;
    free(p);
    if (failed)
        packed_state_clear(out);
    return failed ? -1 : 0;
}

void packed_state_clear(packed_state *p)
{
    free(p->bytes);
    *p = (packed_state){0};
}

/* ---- unpacking ---- */

struct unpacking {
    const char *at;
    int status;
    error *e;
};

static void take(struct unpacking *u, void *to, size_t length)
{
    memcpy(to, u->at, length);
    u->at += length;
}

/* [-0, +1], or at an end [-0, +0] and false */
static bool unpack_value(struct unpacking *u, lua_State *L)
{
    double number;
    size_t length;
    luaL_checkstack(L, 4, "moondog.state");
    switch (*u->at++) {
    case TAG_FALSE:
        lua_pushboolean(L, 0);
        return true;
    case TAG_TRUE:
        lua_pushboolean(L, 1);
        return true;
    case TAG_NUMBER:
        take(u, &number, sizeof number);
        lua_pushnumber(L, number);
        return true;
    case TAG_STRING:
        take(u, &length, sizeof length);
        lua_pushlstring(L, u->at, length);
        u->at += length;
        return true;
    case TAG_TABLE:
        lua_newtable(L);
        while (unpack_value(u, L)) {
            unpack_value(u, L);
            lua_rawset(L, -3);
        }
        return true;
    default:
        return false;
    }
}

/* [-2, +0] a pair of the old state; the new one's table is at `state` */
static void merge(lua_State *L, int state, struct generation *g)
{
    bool version = lua_type(L, -2) == LUA_TSTRING && strcmp(lua_tostring(L, -2), "version") == 0;
    if (version) {
        lua_pushvalue(L, -1);
        g->old_version_ref = luaL_ref(L, LUA_REGISTRYINDEX);
        lua_pushliteral(L, "version");
        lua_rawget(L, state);
        bool declared = !lua_isnil(L, -1);
        lua_pop(L, 1);
        if (declared) {
            lua_pop(L, 2);
            return;
        }
    }
    lua_rawset(L, state);
}

static int unpack_protected(lua_State *L)
{
    struct unpacking *u = lua_touserdata(L, 1);
    struct generation *g = generation_of(L);
    u->status = push_state(L, g, u->e);
    if (u->status != 0)
        return 0;
    int state = lua_gettop(L);
    u->at++; /* the table itself */
    while (unpack_value(u, L)) {
        unpack_value(u, L);
        merge(L, state, g);
    }
    return 0;
}

int state_unpack(struct generation *g, const packed_state *p, error *e)
{
    struct unpacking u = {.at = p->bytes, .e = e};
    /* Nothing of it becomes garbage: the collector would look at all of it again and again. */
    lua_gc(g->L, LUA_GCSTOP, 0);
    int failed = protect(g, unpack_protected, &u, e);
    lua_gc(g->L, LUA_GCRESTART, 0);
    return failed != 0 ? -1 : u.status;
}
