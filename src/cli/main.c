/* The command line program: parses its arguments (in Lua: lua/moondog/cli.lua) and drives a
 * runtime. Main thread, which is the loop thread. */
#include <errno.h>
#include <fcntl.h>
#include <lauxlib.h>
#include <lua.h>
#include <luajit.h>
#include <lualib.h>
#include <malloc.h>
#include <nats/nats.h>
#include <signal.h>
#include <stdio.h>
#include <stdio_ext.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>

#include "cli/args.h"
#include "cli/ask.h"
#include "cli/console.h"
#include "cli/dev_server.h"
#include "cli/signals.h"
#include "cli/supervise.h"
#include "cli/supervised.h"
#include "cli/top.h"
#include "control/path.h"
#include "doctor/doctor.h"
#include "moondog.h"
#include "outbox_tool/outbox_tool.h"
#include "runtime_private.h"
#include "script/embedded.h"
#include "script/source_image.h"

#define HEAPS 2                     /* of malloc() */
#define LARGE_BLOCK (200 * 1024)    /* is the kernel's again when it is freed */
#define FREE_KEPT (8 * 1024 * 1024) /* by each heap, at its end */
#define LIBRARY_CLOSE_MS 1000
#define END_MS 4000u /* over the drain's deadline: for the process to end */

/* ---- arguments ---- */

static int find_module(lua_State *L)
{
    const char *name = luaL_checkstring(L, 1);
    const embedded_module *m = embedded_find(name);
    if (m == NULL)
        lua_pushfstring(L, "\n\tno embedded module '%s'", name);
    else if (luaL_loadbuffer(L, m->text, m->length, m->chunk) != 0)
        return lua_error(L);
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

/* ---- commands ---- */

static int complain(const md_error *e)
{
    fprintf(stderr, "moondog: %s\n", e->message);
    return strcmp(e->code, "usage") == 0 ? EXIT_USAGE : EXIT_FAILED;
}

static void read_options(lua_State *L, md_options *o)
{
    md_options_init(o);
    o->name = args_string(L, "name", o->name);
    o->log_format = args_string(L, "log", o->log_format);
    o->log_level = args_string(L, "level", o->log_level);
    o->handler_budget_ms = (uint32_t)args_number(L, "budget", o->handler_budget_ms);
    o->load_budget_ms = (uint32_t)args_number(L, "load_budget", o->load_budget_ms);
    o->memory_cap = (size_t)(args_number(L, "memory", (double)o->memory_cap / 1048576) * 1048576);
    o->drain_ms = (uint32_t)(args_number(L, "drain", o->drain_ms / 1000.0) * 1000);
    o->retire_ms = (uint32_t)(args_number(L, "retire", o->retire_ms / 1000.0) * 1000);
    o->state_cap = (size_t)(args_number(L, "state", (double)o->state_cap / 1048576) * 1048576);
    o->watch = args_flag(L, "watch");
    o->probation_ms = (uint32_t)(args_number(L, "probation", 0) * 1000);
    o->http = args_string(L, "http", NULL);
    o->stall_ms = (uint32_t)(args_number(L, "stall", o->stall_ms / 1000.0) * 1000);
    o->probation_rate = args_number(L, "probation_rate", o->probation_rate * 100) / 100;
}

/* The default path may be taken, by a process of the same name: that is no reason not to run. */
static md_runtime *create(lua_State *L, md_options *o, md_error *e)
{
    char path[CONTROL_PATH_SIZE];
    const char *wanted = args_string(L, "control", NULL);
    if (wanted != NULL && strcmp(wanted, "none") != 0)
        o->control = wanted;
    else if (wanted == NULL && control_path(o->name, path, sizeof path) == 0 &&
             control_make_folder() == 0)
        o->control = path;
    md_runtime *rt = md_create(o, e);
    bool by_control = strcmp(e->code, "in_use") == 0 || strcmp(e->code, "control") == 0;
    if (rt == NULL && o->control == path && by_control) {
        fprintf(stderr, "moondog: %s; going on without one\n", e->message);
        o->control = NULL;
        rt = md_create(o, e);
    }
    return rt;
}

/* From its file, or from what the supervisor has kept. */
static int load(md_runtime *rt, const char *file, md_error *e)
{
    error bad = {0};
    sources *from = NULL;
    int fd = supervised_script();
    supervised_describe(rt);
    if (fd >= 0 && (from = source_image_read(fd, &bad)) == NULL)
        return runtime_error(e, &bad, "");
    if (fd >= 0)
        close(fd);
    return runtime_load(rt, file, from, e);
}

static int run_script(lua_State *L, const char *file, unsigned *left)
{
    md_options o;
    md_error e = {0};
    uv_loop_t loop;
    read_options(L, &o);
    o.notify = 1;
    o.budget_signal = SIGURG; /* ignored by default, and hardly used by anyone */
    uv_loop_init(&loop);
    o.loop = &loop;
    md_runtime *rt = create(L, &o, &e);
    int failed = rt == NULL ? -1 : load(rt, file, &e);
    if (failed == 0 && signals_attach(&loop, rt) == 0) {
        md_run(rt);
        signals_detach();
    }
    *left += md_free(rt); /* its log is written out before we say our last word */
    uv_run(&loop, UV_RUN_NOWAIT);
    uv_loop_close(&loop);
    return failed == 0 ? EXIT_DONE : complain(&e);
}

static int run(lua_State *L, char **argv, unsigned *left)
{
    if (supervised_in_vain())
        return EXIT_FAILED;
    if (args_flag(L, "supervise") && !supervised())
        return supervise(L, argv);
    if (supervised())
        supervised_begin();
    dev_server server = {0};
    error e = {0};
    const char *file = args_string(L, "file", "");
    if (supervised_script() < 0 && access(file, R_OK) != 0) {
        fprintf(stderr, "moondog: cannot read the script %s: %s\n", file, strerror(errno));
        return EXIT_FAILED;
    }
    uint32_t drain_ms = (uint32_t)(args_number(L, "drain", 10) * 1000);
    if (signals_start(drain_ms + END_MS) != 0) {
        fprintf(stderr, "moondog: cannot start a thread: look at the limit of tasks (ulimit -u)\n");
        return EXIT_FAILED;
    }
    if (args_flag(L, "dev") && dev_server_start(&server, NULL, &e) != 0) {
        fprintf(stderr, "moondog: %s\n", e.message);
        return EXIT_FAILED;
    }
    int code = run_script(L, file, left);
    dev_server_stop(&server);
    return code;
}

static int check(lua_State *L, unsigned *left)
{
    md_options o;
    md_error e = {0};
    char *report = NULL;
    read_options(L, &o);
    o.log_level = "error";
    md_runtime *rt = md_create(&o, &e);
    if (rt == NULL)
        return complain(&e);
    int failed = md_check(rt, args_string(L, "file", ""), args_flag(L, "json"), &report, &e);
    *left += md_free(rt);
    if (report == NULL)
        return complain(&e);
    printf("%s%s", report, args_flag(L, "json") ? "\n" : "");
    free(report);
    return failed == 0 ? EXIT_DONE : EXIT_FAILED;
}

/* ---- the process ---- */

/* A missing descriptor would be given to the next file or socket, and what is written to it end up
 * there. */
static void open_standard_descriptors(void)
{
    for (int fd = open("/dev/null", O_RDWR); fd >= 0; fd = open("/dev/null", O_RDWR))
        if (fd > STDERR_FILENO) {
            close(fd);
            return;
        }
}

/* What was printed has to have arrived. */
static int finish_output(int code)
{
    if (fflush(stdout) == 0 && !ferror(stdout))
        return code;
    if (errno != EPIPE)
        fprintf(stderr, "moondog: cannot write to standard output: %s\n", strerror(errno));
    __fpurge(stdout); /* this is said once */
    clearerr(stdout);
    return code == EXIT_DONE ? EXIT_FAILED : code;
}

/* When no thread was left, inside the library or in a script, the library's threads are ended, too.
 * Otherwise nothing is tidied up under the feet of those that still run. */
static void close_library(int code, unsigned left)
{
    if (left == 0) {
        nats_CloseAndWait(LIBRARY_CLOSE_MS);
        return;
    }
    fflush(NULL);
    _exit(code);
}

/* The C library gives threads heaps of their own, up to eight a processor, and what is free in one
 * is of no use in another; and it learns to keep large blocks in them. Links come and go with
 * threads of theirs, and large messages: some tens of MB would be held for nothing. What a burst
 * needs to be published is kept for the next one: otherwise each takes all its pages from the
 * kernel again, which costs more than the rest. Whoever runs it may say otherwise. */
static void share_heaps(void)
{
    if (getenv("MALLOC_ARENA_MAX") != NULL || getenv("GLIBC_TUNABLES") != NULL)
        return;
    mallopt(M_ARENA_MAX, HEAPS);
    mallopt(M_MMAP_THRESHOLD, LARGE_BLOCK);
    mallopt(M_TRIM_THRESHOLD, FREE_KEPT);
}

int main(int argc, char **argv)
{
    (void)argc;
    share_heaps();
    open_standard_descriptors();
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
        unsigned left = 0; /* threads that hang */
        const char *command = args_string(L, "command", "");
        if (strcmp(command, "run") == 0)
            code = run(L, argv, &left);
        else if (strcmp(command, "check") == 0)
            code = check(L, &left);
        else if (strcmp(command, "attach") == 0)
            code = console_attach(L);
        else if (strcmp(command, "repl") == 0)
            code = console_repl(L, &left);
        else if (strcmp(command, "top") == 0)
            code = top(L);
        else if (strcmp(command, "doctor") == 0)
            code = doctor(L, &left);
        else if (strcmp(command, "outbox") == 0)
            code = outbox_tool(L);
        else
            code = ask(L, command);
        code = finish_output(code);
        close_library(code, left);
    }
    lua_close(L);
    return finish_output(code);
}
