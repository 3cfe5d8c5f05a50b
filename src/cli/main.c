/* The command line program: parses its arguments (in Lua: lua/moondog/cli.lua) and drives a
 * runtime. Main thread, which is the loop thread. */
#include <lauxlib.h>
#include <lua.h>
#include <luajit.h>
#include <lualib.h>
#include <nats/nats.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>

#include "cli/dev_server.h"
#include "link/link.h"
#include "moondog.h"
#include "script/embedded.h"

enum { EXIT_DONE = 0, EXIT_FAILED = 1, EXIT_USAGE = 2 };

#define LIBRARY_CLOSE_MS 1000

/* ---- arguments ---- */

static int find_module(lua_State *L)
{
    const char *name = luaL_checkstring(L, 1);
    for (const embedded_module *m = embedded_modules; m->name != NULL; m++)
        if (strcmp(m->name, name) == 0) {
            if (luaL_loadbuffer(L, m->text, m->length, m->chunk) != 0)
                return lua_error(L);
            return 1;
        }
    lua_pushfstring(L, "\n\tno embedded module '%s'", name);
    return 1;
}

static void set_field(lua_State *L, const char *name, const char *value)
{
    lua_pushstring(L, value);
    lua_setfield(L, -2, name);
}

/* [-0, +n] the results of cli.parse(argv, env) */
static int parse(lua_State *L)
{
    char **argv = lua_touserdata(L, 1);
    lua_settop(L, 0);
    luaL_openlibs(L);
    lua_getglobal(L, "package");
    lua_getfield(L, -1, "loaders");
    lua_pushcfunction(L, find_module);
    lua_rawseti(L, -2, (int)lua_objlen(L, -2) + 1);
    lua_settop(L, 0);
    lua_getglobal(L, "require");
    lua_pushliteral(L, "moondog.cli");
    lua_call(L, 1, 1);
    lua_getfield(L, -1, "parse");
    lua_remove(L, 1);
    lua_newtable(L);
    for (int i = 1; argv[i] != NULL; i++) {
        lua_pushstring(L, argv[i]);
        lua_rawseti(L, -2, i);
    }
    lua_newtable(L);
    set_field(L, "version", md_version());
    set_field(L, "nats", nats_GetVersion());
    set_field(L, "luajit", strchr(LUAJIT_VERSION, ' ') + 1); /* without its name */
    set_field(L, "libuv", uv_version_string());
    lua_call(L, 2, 3);
    return 3;
}

static const char *get_string(lua_State *L, const char *name, const char *fallback)
{
    lua_getfield(L, 1, name);
    const char *value = lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : fallback;
    lua_pop(L, 1); /* the table keeps it */
    return value;
}

static double get_number(lua_State *L, const char *name, double fallback)
{
    lua_getfield(L, 1, name);
    double value = lua_isnumber(L, -1) ? lua_tonumber(L, -1) : fallback;
    lua_pop(L, 1);
    return value;
}

static bool get_flag(lua_State *L, const char *name)
{
    lua_getfield(L, 1, name);
    bool value = lua_toboolean(L, -1);
    lua_pop(L, 1);
    return value;
}

/* ---- commands ---- */

static int complain(const md_error *e)
{
    fprintf(stderr, "moondog: %s\n", e->message);
    return strcmp(e->code, "usage") == 0 ? EXIT_USAGE : EXIT_FAILED;
}

static void read_options(lua_State *L, md_options *o)
{
    md_options_init(o);
    o->name = get_string(L, "name", o->name);
    o->log_format = get_string(L, "log", o->log_format);
    o->log_level = get_string(L, "level", o->log_level);
    o->handler_budget_ms = (uint32_t)get_number(L, "budget", o->handler_budget_ms);
    o->load_budget_ms = (uint32_t)get_number(L, "load_budget", o->load_budget_ms);
    o->memory_cap = (size_t)(get_number(L, "memory", (double)o->memory_cap / 1048576) * 1048576);
    o->drain_ms = (uint32_t)(get_number(L, "drain", o->drain_ms / 1000.0) * 1000);
    o->retire_ms = (uint32_t)(get_number(L, "retire", o->retire_ms / 1000.0) * 1000);
    o->state_cap = (size_t)(get_number(L, "state", (double)o->state_cap / 1048576) * 1048576);
    o->watch = get_flag(L, "watch");
    o->probation_ms = (uint32_t)(get_number(L, "probation", 0) * 1000);
    o->probation_rate = get_number(L, "probation_rate", o->probation_rate * 100) / 100;
}

static void on_signal(uv_signal_t *handle, int number)
{
    (void)number;
    md_stop(handle->data);
}

static void on_reload_signal(uv_signal_t *handle, int number)
{
    (void)number;
    md_reload(handle->data, 0, NULL, NULL, NULL); /* what comes of it is in the log */
}

static void watch_signal(uv_loop_t *loop, uv_signal_t *handle, md_runtime *rt, int number,
                         uv_signal_cb callback)
{
    uv_signal_init(loop, handle);
    handle->data = rt;
    uv_signal_start(handle, callback, number);
    uv_unref((uv_handle_t *)handle);
}

static int run_script(lua_State *L, const char *file)
{
    md_options o;
    md_error e = {0};
    uv_loop_t loop;
    uv_signal_t terminate, interrupt, hangup;
    read_options(L, &o);
    uv_loop_init(&loop);
    o.loop = &loop;
    md_runtime *rt = md_create(&o, &e);
    if (rt == NULL)
        return complain(&e);
    int code = EXIT_DONE;
    if (md_load(rt, file, &e) != 0) {
        code = EXIT_FAILED;
    } else {
        watch_signal(&loop, &terminate, rt, SIGTERM, on_signal);
        watch_signal(&loop, &interrupt, rt, SIGINT, on_signal);
        watch_signal(&loop, &hangup, rt, SIGHUP, on_reload_signal);
        md_run(rt);
        uv_close((uv_handle_t *)&terminate, NULL);
        uv_close((uv_handle_t *)&interrupt, NULL);
        uv_close((uv_handle_t *)&hangup, NULL);
    }
    md_free(rt); /* its log is written out before we say our last word */
    uv_run(&loop, UV_RUN_NOWAIT);
    uv_loop_close(&loop);
    return code == EXIT_DONE ? EXIT_DONE : complain(&e);
}

static int run(lua_State *L)
{
    dev_server server = {0};
    error e = {0};
    const char *file = get_string(L, "file", "");
    if (access(file, R_OK) != 0) {
        fprintf(stderr, "moondog: cannot read the script %s: look at its path and permissions\n",
                file);
        return EXIT_FAILED;
    }
    if (get_flag(L, "dev") && dev_server_start(&server, NULL, &e) != 0) {
        fprintf(stderr, "moondog: %s\n", e.message);
        return EXIT_FAILED;
    }
    int code = run_script(L, file);
    dev_server_stop(&server);
    return code;
}

static int check(lua_State *L)
{
    md_options o;
    md_error e = {0};
    char *report = NULL;
    read_options(L, &o);
    o.log_level = "error";
    md_runtime *rt = md_create(&o, &e);
    if (rt == NULL)
        return complain(&e);
    int failed = md_check(rt, get_string(L, "file", ""), get_flag(L, "json"), &report, &e);
    md_free(rt);
    if (failed != 0)
        return complain(&e);
    printf("%s%s", report, get_flag(L, "json") ? "\n" : "");
    free(report);
    return EXIT_DONE;
}

/* When no link hangs inside the library, its threads are ended, too. Otherwise nothing is tidied up
 * under the feet of those that still run. */
static void close_library(int code)
{
    if (link_count() == 0) {
        nats_CloseAndWait(LIBRARY_CLOSE_MS);
        return;
    }
    fflush(NULL);
    _exit(code);
}

int main(int argc, char **argv)
{
    (void)argc;
    signal(SIGPIPE, SIG_IGN);
    lua_State *L = luaL_newstate();
    if (L == NULL) {
        fprintf(stderr, "moondog: no memory\n");
        return EXIT_FAILED;
    }
    lua_pushcfunction(L, parse);
    lua_pushlightuserdata(L, argv);
    if (lua_pcall(L, 1, LUA_MULTRET, 0) != 0) {
        fprintf(stderr, "moondog: the command line cannot be read: %s\n", lua_tostring(L, -1));
        return EXIT_FAILED;
    }
    int code = EXIT_USAGE;
    if (!lua_istable(L, 1)) {
        code = (int)lua_tonumber(L, 2);
        const char *text = lua_tostring(L, 3);
        fprintf(code == EXIT_DONE ? stdout : stderr, "%s", text != NULL ? text : "");
    } else {
        const char *command = get_string(L, "command", "");
        if (strcmp(command, "run") == 0)
            code = run(L);
        else if (strcmp(command, "check") == 0)
            code = check(L);
        close_library(code);
    }
    lua_close(L);
    return code;
}
