/* Plain data on its way: moondog.state from one generation to the next, and the values that host
 * and script tell each other. What arrives is what was sent. One thread. */
#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"
#include "host/value.h"
#include "runtime_private.h"
#include "script/state.h"

/* [-1, +0] */
static void set_state(lua_State *L, const struct generation *g)
{
    lua_rawgeti(L, LUA_REGISTRYINDEX, g->module_ref);
    lua_insert(L, -2);
    lua_setfield(L, -2, "state");
    lua_pop(L, 1);
}

/* [-0, +1] */
static void push_state(lua_State *L, const struct generation *g)
{
    lua_rawgeti(L, LUA_REGISTRYINDEX, g->module_ref);
    lua_getfield(L, -1, "state");
    lua_remove(L, -2);
}

/* The value on top, which stays. */
static void check_state(struct generation *g, size_t cap)
{
    lua_State *L = g->L;
    packed_state p;
    error e = {0};
    bool table = lua_istable(L, -1);
    lua_pushvalue(L, -1);
    set_state(L, g);
    int failed = state_pack(g, cap, &p, &e);
    lua_newtable(L);
    set_state(L, g);
    if (failed != 0) {
        fuzz_check(p.bytes == NULL && e.message[0] != '\0');
        fuzz_check(strcmp(e.code, "bad_state") == 0 || strcmp(e.code, "state_too_large") == 0);
        return;
    }
    fuzz_check(table && p.length <= cap);
    fuzz_check_text(state_unpack(g, &p, &e) == 0, e.message);
    packed_state_clear(&p);
    luaL_unref(L, LUA_REGISTRYINDEX, g->old_version_ref);
    g->old_version_ref = LUA_NOREF;
    push_state(L, g);
    fuzz_check(fuzz_equal(L, lua_gettop(L) - 1, lua_gettop(L)));
    lua_pop(L, 1);
    lua_newtable(L);
    set_state(L, g);
}

/* Likewise, to the host and back. */
static void check_value(lua_State *L)
{
    arena a = {0}, b = {0};
    md_value there, copy;
    error e = {0};
    int index = lua_gettop(L);
    value_reader how = {.arena = &a, .root = "the value", .e = &e};
    if (value_read(&how, L, index, &there) != 0) {
        fuzz_check(e.code[0] != '\0' && strncmp(e.message, "the value", 9) == 0);
    } else {
        fuzz_check(value_copy(&b, &there, &copy, &e) == 0);
        arena_free(&a);
        value_push(L, &copy);
        fuzz_check(fuzz_equal(L, index, lua_gettop(L)));
        lua_pop(L, 1);
    }
    fuzz_check(lua_gettop(L) == index);
    arena_free(&a);
    arena_free(&b);
}

void fuzz_one(const uint8_t *data, size_t size)
{
    static const char *const names[] = {"version", "", "a", "1"};
    fuzz_input in = {data, size};
    struct generation *g = fuzz_runtime(false, false)->generation;
    size_t cap = fuzz_byte(&in) < 32 ? 64 : 1u << 20;
    fuzz_value(&in, g->L, names, sizeof names / sizeof names[0]);
    check_state(g, cap);
    check_value(g->L);
    lua_settop(g->L, 0);
}
