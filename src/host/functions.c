/* Functions of the host that scripts call. See functions.h and moondog.h. Loop thread, but what is
 * called while a generation is loaded: that looks at nothing of the runtime's. */
#include "host/functions.h"

#include <ctype.h>
#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "host/value.h"
#include "runtime_private.h"
#include "script/failure.h"
#include "script/message.h"

#define HOST_TYPE "moondog.host"
#define LISTED_MAX 20u /* names in a message */

struct host_function {
    md_function fn;
    void *closure;
    UT_hash_handle hh;
    char name[];
};

struct md_call {
    arena *results_arena;
    const md_value *arguments;
    size_t argument_count;
    struct result {
        struct result *next;
        md_value value;
    } * results, **results_end;
    int result_count;
    error failure; /* code "": none */
    bool misused;
};

/* ---- registering ---- */

static bool is_identifier(const char *name)
{
    static const char *const reserved[] = {"and",   "break", "do",       "else", "elseif", "end",
                                           "false", "for",   "function", "goto", "if",     "in",
                                           "local", "nil",   "not",      "or",   "repeat", "return",
                                           "then",  "true",  "until",    "while"};
    if (name == NULL || (!isalpha((unsigned char)name[0]) && name[0] != '_'))
        return false;
    for (const char *at = name; *at != '\0'; at++)
        if (!isalnum((unsigned char)*at) && *at != '_')
            return false;
    for (size_t i = 0; i < sizeof reserved / sizeof reserved[0]; i++)
        if (strcmp(name, reserved[i]) == 0)
            return false;
    return true;
}

static struct host_function *find(const struct functions *all, const char *name)
{
    struct host_function *f = NULL;
    HASH_FIND_STR(all->table, name, f);
    return f;
}

static void forget(struct functions *all, struct host_function *f)
{
    HASH_DEL(all->table, f);
    free(f);
}

static int refuse(md_runtime *rt, const char *name, const char *why)
{
    log_emit(rt->log, LOG_ERROR, "function of the host not registered",
             log_str("name", name != NULL ? name : "(NULL)"), log_str("error", why));
    return -1;
}

int md_register(md_runtime *rt, const char *name, md_function fn, void *closure)
{
    struct functions *all = &rt->functions;
    if (!is_identifier(name))
        return refuse(rt, name,
                      "it is no identifier of Lua: a letter or _, then letters, digits and _, and "
                      "no word of the language");
    struct host_function *f = find(all, name);
    if (fn == NULL) {
        if (f != NULL)
            forget(all, f);
        return 0;
    }
    if (f == NULL) {
        size_t size = strlen(name) + 1;
        f = calloc(1, sizeof *f + size);
        if (f == NULL)
            return refuse(rt, name, "no memory");
        memcpy(f->name, name, size);
        HASH_ADD_STR(all->table, name, f);
        if (!hash_has(f)) {
            free(f);
            return refuse(rt, name, "no memory");
        }
    }
    f->fn = fn;
    f->closure = closure;
    return 0;
}

void functions_clear(struct functions *all)
{
    while (all->table != NULL)
        forget(all, all->table);
    arena_free(&all->arguments);
    arena_free(&all->results);
}

json_t *functions_names(const struct functions *all)
{
    json_t *list = json_array();
    for (const struct host_function *f = all->table; f != NULL; f = f->hh.next)
        json_array_append_new(list, json_string(f->name));
    return list;
}

/* ---- what a function does with its call ---- */

size_t md_call_count(const md_call *call)
{
    return call->argument_count;
}

const md_value *md_call_argument(const md_call *call, size_t index)
{
    static const md_value nothing = {.type = MD_NIL};
    return index < call->argument_count ? &call->arguments[index] : &nothing;
}

/* A copy of the value at the end of the results. -1 and *e. */
static int add_result(md_call *call, const md_value *value, error *e)
{
    arena *a = call->results_arena;
    struct result *r = arena_take(a, sizeof *r);
    if (r == NULL)
        return error_set(e, a->full ? "too_large" : "no_memory", ERROR_CLASS_LIMIT,
                         "there is no room for it");
    if (value_copy(a, value, &r->value, e) != 0)
        return -1;
    r->next = NULL;
    *call->results_end = r;
    call->results_end = &r->next;
    call->result_count++;
    return 0;
}

int md_call_return(md_call *call, const md_value *value)
{
    error e = {0};
    if (add_result(call, value, &e) == 0)
        return 0;
    return error_set(&call->failure, e.code, e.cls, "result %d of the function of the host: %s",
                     call->result_count + 1, e.message);
}

void md_call_fail(md_call *call, const char *code, const char *message)
{
    error_set(&call->failure, code != NULL && code[0] != '\0' ? code : "failed", ERROR_CLASS_NONE,
              "%s", message != NULL ? message : "");
}

void md_call_misuse(md_call *call, const char *message)
{
    md_call_fail(call, "misuse", message);
    call->misused = true;
}

/* ---- calls ---- */

/* Raises an error where the script is. [-0, +0] */
static int complain(lua_State *L, const char *name, const char *text)
{
    failure_push_where(L);
    lua_pushfstring(L, "host.%s%s", name, text);
    lua_concat(L, 2);
    return lua_error(L);
}

static int complain_unknown(lua_State *L, const struct functions *all, const char *name)
{
    luaL_Buffer text;
    unsigned count = 0;
    luaL_buffinit(L, &text);
    luaL_addstring(&text, " is not registered: the host program offers ");
    for (const struct host_function *f = all->table; f != NULL && count < LISTED_MAX;
         f = f->hh.next, count++) {
        luaL_addstring(&text, count > 0 ? ", " : "");
        luaL_addstring(&text, f->name);
    }
    if (HASH_COUNT(all->table) > count)
        luaL_addstring(&text, ", ...");
    if (count == 0)
        luaL_addstring(&text, "nothing (there are functions of the host where a program embeds "
                              "moondog, and none in `moondog run`)");
    luaL_pushresult(&text);
    return complain(L, name, lua_tostring(L, -1));
}

/* [-0, +0] The arguments, which are all that is on the stack. */
static void read_arguments(lua_State *L, struct functions *all, const char *name, md_call *call)
{
    char root[32], text[ERROR_TEXT_SIZE + 2];
    error e = {0};
    int count = lua_gettop(L);
    if (count == 0)
        return;
    md_value *values = arena_take(&all->arguments, (size_t)count * sizeof *values);
    if (values == NULL)
        luaL_error(L, "host.%s: no memory for the arguments", name);
    for (int i = 0; i < count; i++) {
        snprintf(root, sizeof root, "argument %d", i + 1);
        value_reader reader = {.arena = &all->arguments, .root = root, .e = &e};
        if (value_read(&reader, L, i + 1, &values[i]) == 0)
            continue;
        snprintf(text, sizeof text, ": %s", e.message);
        complain(L, name, text);
    }
    call->arguments = values;
    call->argument_count = (size_t)count;
}

/* [-0, +n] */
static int push_results(lua_State *L, const char *name, const md_call *call)
{
    if (call->misused) {
        char text[ERROR_TEXT_SIZE + 2];
        snprintf(text, sizeof text, ": %s", call->failure.message);
        return complain(L, name, text);
    }
    if (call->failure.code[0] != '\0')
        return message_fail(L, &call->failure);
    luaL_checkstack(L, call->result_count, "results of a function of the host");
    for (const struct result *r = call->results; r != NULL; r = r->next)
        value_push(L, &r->value);
    return call->result_count;
}

/* What is behind host.NAME; the name is the upvalue. [-0, +n] */
static int call_function(lua_State *L)
{
    struct generation *g = generation_of(L);
    struct functions *all = g->limits.functions;
    const char *name = lua_tostring(L, lua_upvalueindex(1));
    if (g->loading)
        return complain(L, name,
                        " is called while the script is loaded, which only declares: call it from "
                        "moondog.on_start()");
    struct host_function *f = find(all, name);
    if (f == NULL)
        return complain_unknown(L, all, name);
    if (all->caller != NULL)
        return complain(L, name, " is called from within a function of the host");
    arena_free(&all->arguments);
    arena_free(&all->results);
    md_call call = {.results_arena = &all->results};
    call.results_end = &call.results;
    read_arguments(L, all, name, &call);
    all->calls++;
    all->caller = g;
    f->fn(f->closure, &call); /* `f` may be no more after this */
    all->caller = NULL;
    arena_free(&all->arguments);
    int count = push_results(L, name, &call);
    arena_free(&all->results);
    return count;
}

/* ---- the global ---- */

/* host.NAME: always a function, which the table of the upvalue keeps. [-0, +1] */
static int make_function(lua_State *L)
{
    if (lua_type(L, 2) != LUA_TSTRING) {
        failure_push_where(L);
        lua_pushfstring(L, "the index of host is a %s: it has functions, by their names",
                        luaL_typename(L, 2));
        lua_concat(L, 2);
        return lua_error(L);
    }
    lua_pushvalue(L, 2);
    lua_pushcclosure(L, call_function, 1);
    lua_pushvalue(L, 2);
    lua_pushvalue(L, -2);
    lua_rawset(L, 1);
    return 1;
}

static int refuse_assignment(lua_State *L)
{
    failure_push_where(L);
    lua_pushliteral(L, "host belongs to the host program: a script cannot change it");
    lua_concat(L, 2);
    return lua_error(L);
}

static int describe_host(lua_State *L)
{
    lua_pushliteral(L, "functions of the host program");
    return 1;
}

void functions_set_up(lua_State *L)
{
    lua_newuserdata(L, 0);
    luaL_newmetatable(L, HOST_TYPE);
    lua_pushliteral(L, HOST_TYPE);
    lua_setfield(L, -2, "__metatable");
    lua_pushcfunction(L, refuse_assignment);
    lua_setfield(L, -2, "__newindex");
    lua_pushcfunction(L, describe_host);
    lua_setfield(L, -2, "__tostring");
    lua_newtable(L); /* the functions that were asked for so far */
    lua_newtable(L);
    lua_pushcfunction(L, make_function);
    lua_setfield(L, -2, "__index");
    lua_setmetatable(L, -2);
    lua_setfield(L, -2, "__index");
    lua_setmetatable(L, -2);
    lua_setglobal(L, "host");
}

bool functions_is_host(lua_State *L, int index)
{
    if (!lua_getmetatable(L, index))
        return false;
    luaL_getmetatable(L, HOST_TYPE);
    bool same = lua_rawequal(L, -1, -2);
    lua_pop(L, 2);
    return same;
}

void functions_push_names(lua_State *L)
{
    const struct functions *all = generation_of(L)->limits.functions;
    lua_newtable(L);
    for (const struct host_function *f = all->table; f != NULL; f = f->hh.next) {
        lua_pushcfunction(L, refuse_assignment); /* any function: it is not called */
        lua_setfield(L, -2, f->name);
    }
}
