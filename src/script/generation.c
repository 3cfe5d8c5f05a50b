/* Generations: making, loading, putting to work, ending. See generation.h for the threads. */
#include "script/generation.h"

#include <lauxlib.h>
#include <luajit.h>
#include <lualib.h>
#include <stdlib.h>
#include <string.h>

#include "base/random.h"
#include "host/functions.h"
#include "link/inner.h"
#include "script/api.h"
#include "script/binding.h"
#include "script/console.h"
#include "script/embedded.h"
#include "script/fast_functions.h"
#include "script/heap.h"
#include "script/message.h"
#include "script/signal.h"
#include "script/slice.h"
#include "script/source.h"
#include "script/task.h"

#define PANIC_FLUSH_MS 1000u
#define REFERENCES 64 /* more than the registry has room for beside what else is in it */

struct generation *generation_of(lua_State *L)
{
    void *closure;
    lua_getallocf(L, &closure);
    return closure;
}

/* ---- protected mode ---- */

/* Of the error on top, outside of protected mode: to make a text of a number needs memory. */
static const char *error_text(lua_State *L)
{
    return lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : "an error that has no text";
}

struct protected_call {
    generation_fn fn;
    void *closure;
};

static int call_in_protected_mode(lua_State *L)
{
    const struct protected_call *call = generation_of(L)->protected_call;
    call->fn(L, call->closure);
    return lua_gettop(L);
}

int generation_protect(struct generation *g, generation_fn fn, void *closure, int results,
                       const char *what)
{
    struct protected_call call = {fn, closure};
    lua_State *L = g->L;
    g->protected_call = &call; /* an argument of Lua's could need memory here */
    lua_rawgeti(L, LUA_REGISTRYINDEX, g->protect_ref);
    if (lua_pcall(L, 0, results, 0) == 0)
        return 0;
    g->errors++;
    log_emit(g->limits.hub->log, LOG_ERROR, "internal call failed", log_str("name", what),
             log_str("error", error_text(L)));
    lua_pop(L, 1);
    return -1;
}

/* ---- making ---- */

/* What print() does: [-2, +0] */
static int log_from_sandbox(lua_State *L)
{
    const char *level = luaL_checkstring(L, 1);
    const char *text = luaL_checkstring(L, 2);
    int parsed = log_level_parse(level);
    log_write(generation_of(L)->limits.hub->log, parsed < 0 ? LOG_INFO : (log_level)parsed, text,
              NULL, 0);
    return 0;
}

/* [-0, +1] */
static int over_budget(lua_State *L)
{
    lua_pushboolean(L, generation_of(L)->budget.armed != 0);
    return 1;
}

/* Seconds since 1970, as the host has them. [-0, +1] */
static int host_time(lua_State *L)
{
    const wall_clock *clock = &generation_of(L)->limits.hub->clock;
    lua_pushnumber(L, (double)wall_clock_ns(clock) / 1e9);
    return 1;
}

/* The text of a file, or nil and why not; when the second argument is true, only when it is
 * remembered, or given by the host. While the generation is loaded, what is read is remembered; a
 * script at work reads what is there now, by itself: false. [-0, +1 or 2] */
static int read_source(lua_State *L)
{
    struct generation *g = generation_of(L);
    const char *path = luaL_checkstring(L, 1);
    error e = {0};
    const source_file *file = sources_find_given(g->sources, path);
    if (!g->loading && file == NULL) {
        lua_pushboolean(L, 0);
        return 1;
    }
    bool remembered = lua_toboolean(L, 2) && file == NULL;
    if (g->loading)
        file = remembered ? sources_find(g->sources, path) : sources_read(g->sources, path, &e);
    if (file != NULL) {
        lua_pushlstring(L, file->text, file->length);
        return 1;
    }
    lua_pushnil(L);
    lua_pushstring(L, e.message);
    return 2;
}

/* package.preload's loader of an embedded module; its index is the upvalue. */
static int load_embedded(lua_State *L)
{
    const embedded_module *m = lua_touserdata(L, lua_upvalueindex(1));
    if (luaL_loadbuffer(L, m->text, m->length, m->chunk) != 0)
        return lua_error(L);
    lua_pushvalue(L, 1);
    lua_call(L, 1, 1);
    return 1;
}

/* luaL_unref() is called outside of protected mode, where nothing may need memory: from now on the
 * registry has a part for numbers, and its list of free ones a place in that. [-0, +0] */
static void make_references(lua_State *L)
{
    int refs[REFERENCES];
    for (int i = 0; i < REFERENCES; i++) {
        lua_pushboolean(L, 1);
        refs[i] = luaL_ref(L, LUA_REGISTRYINDEX);
    }
    for (int i = 0; i < REFERENCES; i++)
        luaL_unref(L, LUA_REGISTRYINDEX, refs[i]);
}

static int set_up(lua_State *L)
{
    struct generation *g = lua_touserdata(L, 1);
    luaL_openlibs(L);
    fast_functions_set_up(L);
    make_references(L);
    lua_pushcfunction(L, call_in_protected_mode);
    g->protect_ref = luaL_ref(L, LUA_REGISTRYINDEX);
    lua_getglobal(L, "package");
    lua_getfield(L, -1, "preload");
    for (const embedded_module *m = embedded_modules; m->name != NULL; m++) {
        lua_pushlightuserdata(L, (void *)m);
        lua_pushcclosure(L, load_embedded, 1);
        lua_setfield(L, -2, m->name);
    }
    lua_pop(L, 1);
    lua_getfield(L, -1, "loaded");
    api_open(L);
    lua_pushvalue(L, -1);
    g->module_ref = luaL_ref(L, LUA_REGISTRYINDEX);
    lua_setfield(L, -2, "moondog");
    functions_set_up(L);
    const embedded_module *sandbox = embedded_find("moondog.sandbox");
    if (luaL_loadbuffer(L, sandbox->text, sandbox->length, sandbox->chunk) != 0)
        return lua_error(L);
    lua_pushlightuserdata(L, task_wait_token());
    lua_pushcfunction(L, log_from_sandbox);
    lua_pushcfunction(L, over_budget);
    lua_pushcfunction(L, read_source);
    lua_pushcfunction(L, slice_was_preempted);
    lua_pushnumber(L, random_next(&g->random));
    if (g->limits.hub->clock.now != NULL)
        lua_pushcfunction(L, host_time);
    else
        lua_pushnil(L);
    lua_call(L, 7, 0);
    console_set_up(L);
    return 0;
}

/* An error outside of protected mode cannot be survived: the interpreter would end the process
 * without a word. */
static int on_panic(lua_State *L)
{
    struct logger *log = generation_of(L)->limits.hub->log;
    log_emit(log, LOG_ERROR, "the interpreter gave up: this is a bug of moondog's",
             log_str("error", error_text(L)));
    log_free(log, PANIC_FLUSH_MS); /* nothing else is freed */
    abort();
}

struct generation *generation_new(const generation_limits *limits, uint32_t number)
{
    struct generation *g = calloc(1, sizeof *g);
    if (g == NULL)
        return NULL;
    g->limits = *limits;
    g->number = number;
    g->random = random_seed();
    g->protect_ref = g->module_ref = g->console_ref = g->old_version_ref = LUA_NOREF;
    g->spawned_end = &g->spawned;
    g->due_end = &g->due;
    g->slices.end = &g->slices.first;
    g->L = heap_new_state(g);
    if (g->L != NULL)
        lua_atpanic(g->L, on_panic);
    if (g->L == NULL || lua_cpcall(g->L, set_up, g) != 0) {
        if (g->L != NULL) {
            log_emit(limits->hub->log, LOG_ERROR, "no lua_State",
                     log_str("error", error_text(g->L)));
            lua_close(g->L);
        }
        free(g);
        return NULL;
    }
    budget_watch(limits->sentinel, &g->budget, g->L);
    return g;
}

/* ---- loading ---- */

struct load {
    struct generation *g;
    const char *path, *text;
    size_t length;
    int status;
    char *traceback;
    size_t traceback_size;
    error *e;
};

/* [-1, +1] */
static int note_traceback(lua_State *L)
{
    struct load *load = lua_touserdata(L, lua_upvalueindex(1));
    luaL_traceback(L, L, NULL, 1);
    snprintf(load->traceback, load->traceback_size, "%s", lua_tostring(L, -1));
    lua_pop(L, 1);
    if (!lua_isstring(L, 1) && luaL_callmeta(L, 1, "__tostring"))
        return 1;
    lua_settop(L, 1);
    lua_tostring(L, 1); /* makes a number one */
    return 1;
}

/* Modules beside the script are found. */
static void set_package_path(lua_State *L, const char *path)
{
    const char *slash = strrchr(path, '/');
    int length = slash == NULL ? 1 : (int)(slash - path);
    const char *folder = slash == NULL ? "." : length == 0 ? "/" : path;
    lua_getglobal(L, "package");
    lua_pushlstring(L, folder, (size_t)(length == 0 ? 1 : length));
    lua_pushvalue(L, -1);
    lua_pushliteral(L, "/?.lua;");
    lua_insert(L, -2);
    lua_pushliteral(L, "/?/init.lua;");
    lua_getfield(L, -5, "path");
    lua_concat(L, 5);
    lua_setfield(L, -2, "path");
    lua_pop(L, 1);
}

static void note_error(lua_State *L, struct load *load)
{
    const char *text = error_text(L);
    bool placed = strchr(text, ':') != NULL; /* a stack overflow, for one, says no place */
    error_set(load->e, load->status == LUA_ERRSYNTAX ? "syntax" : "script", ERROR_CLASS_NONE,
              "%s%s%s", placed ? "" : load->path, placed ? "" : ": ", text);
}

static int run_script(lua_State *L)
{
    struct load *load = lua_touserdata(L, 1);
    set_package_path(L, load->path);
    lua_pushfstring(L, "@%s", load->path);
    lua_pushlightuserdata(L, load);
    lua_pushcclosure(L, note_traceback, 1);
    load->status = luaL_loadbufferx(L, load->text, load->length, lua_tostring(L, -2), "t");
    if (load->status == 0) {
        luaJIT_setmode(L, -1, LUAJIT_MODE_ALLFUNC | LUAJIT_MODE_OFF);
        load->status = lua_pcall(L, 0, 0, -2);
    }
    if (load->status != 0)
        note_error(L, load);
    return 0;
}

int generation_load(struct generation *g, const char *path, sources *from, error *e,
                    char *traceback, size_t size)
{
    struct load load = {
        .g = g, .path = path, .e = e, .traceback = traceback, .traceback_size = size};
    traceback[0] = '\0';
    g->sources = from != NULL ? from : sources_new();
    g->path = strdup(path);
    callback_init(&g->top_level, "top level", g->path);
    g->top_level.source = g->path;
    if (g->sources == NULL || g->path == NULL)
        return error_set(e, "no_memory", ERROR_CLASS_LIMIT, "no memory for the script %s", path);
    const source_file *file = sources_read(g->sources, path, e);
    if (file == NULL)
        return -1;
    load.text = file->text;
    load.length = file->length;
    if (load.length > 0 && load.text[0] == LUA_SIGNATURE[0])
        return error_set(e, "bytecode", ERROR_CLASS_NONE,
                         "%s: this is bytecode, which is not loaded: give the Lua source", path);
    g->loading = true;
    budget_enter(&g->budget, g->limits.load_budget_ms, &g->top_level);
    int status = lua_cpcall(g->L, run_script, &load);
    bool overran = budget_leave(&g->budget);
    g->loading = false;
    if (status != 0) { /* out of memory, or the budget ended between the calls */
        load.status = status;
        note_error(g->L, &load);
        lua_pop(g->L, 1);
    }
    if (load.status == LUA_ERRMEM && g->memory_refusals == 0)
        return error_set(e, "no_memory", ERROR_CLASS_LIMIT,
                         "%s: no memory for its top level: the system has none left", path);
    if (load.status == LUA_ERRMEM)
        return error_set(e, "no_memory", ERROR_CLASS_LIMIT,
                         "%s: its top level needs more than the %zu MB that a script may have; "
                         "raise --memory",
                         path, g->limits.memory_cap / 1048576);
    if (load.status != 0 && overran) {
        snprintf(e->code, sizeof e->code, "budget");
        size_t length = strlen(e->message);
        snprintf(e->message + length, sizeof e->message - length,
                 " while the script was loaded: its top level only declares; or raise "
                 "--load-budget");
    }
    return load.status == 0 ? 0 : -1;
}

/* ---- work ---- */

/* [-0, +2] */
static void push_start_arguments(lua_State *L, void *closure)
{
    struct generation *g = closure;
    lua_rawgeti(L, LUA_REGISTRYINDEX, g->module_ref);
    lua_pushliteral(L, "state");
    lua_rawget(L, -2);
    lua_remove(L, -2);
    lua_rawgeti(L, LUA_REGISTRYINDEX, g->old_version_ref);
}

void generation_start(struct generation *g)
{
    api_start_timers(g);
    for (struct callback_node *n = g->on_start; n != NULL; n = n->next) {
        struct task *t = task_begin(g, &n->callback);
        if (t == NULL)
            continue;
        int count = 0;
        if (generation_protect(g, push_start_arguments, g, 2, "arguments of on_start") == 0) {
            lua_xmove(g->L, t->co, 2);
            count = 2;
        }
        task_start(t, count);
    }
    hub_again(g->limits.hub);
}

static void on_unloaded(void *closure)
{
    struct generation *g = closure;
    g->unloading--;
    hub_again(g->limits.hub);
}

void generation_unload(struct generation *g)
{
    api_close_timers(g);
    signal_ending(g);
    for (struct callback_node *n = g->on_unload; n != NULL; n = n->next) {
        struct task *t = task_begin(g, &n->callback);
        if (t == NULL)
            continue;
        g->unloading++;
        t->finished = on_unloaded;
        t->finished_closure = g;
        task_start(t, 0);
    }
}

bool generation_is_busy(const struct generation *g)
{
    return g->parked_count > 0 || g->spawned_count > 0 || g->slices.count > 0;
}

void generation_sweep(struct generation *g)
{
    for (unsigned i = 0; i < g->garbage_count; i++)
        message_free(g->garbage[i]);
    g->garbage_count = 0;
    g->garbage_bytes = 0;
}
