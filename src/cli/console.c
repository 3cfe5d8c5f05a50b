/* The console in a running process: the terminal and the control socket, for
 * lua/moondog/cli_console.lua, which does the rest. See console.h. Main thread. */
#include "cli/console.h"

#include <lauxlib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>
#include <uv.h>

#include "cli/args.h"
#include "cli/client.h"
#include "cli/log_view.h"
#include "cli/terminal.h"
#include "control/path.h"

#define COLUMNS 80        /* when it cannot be asked */
#define TURN_NS 20000000u /* for what comes, before keys are looked at */

struct view {
    lua_State *L;
    client client;
    terminal *terminal;
    int console_ref; /* the Lua object */
    bool coloured;
    bool reading; /* inside terminal_read() */
    error error;  /* why the socket is closed */
};

static struct view *view_of(lua_State *L)
{
    return lua_touserdata(L, lua_upvalueindex(1));
}

static int complain(const error *e)
{
    fprintf(stderr, "moondog: %s\n", e->message);
    return EXIT_FAILED;
}

/* ---- what comes from the process ---- */

/* [-0, +1] console:take(text, line) */
static int take_message(lua_State *L)
{
    struct view *v = lua_touserdata(L, 1);
    json_t *message = lua_touserdata(L, 2);
    const char *event = json_string_value(json_object_get(message, "event"));
    lua_rawgeti(L, LUA_REGISTRYINDEX, v->console_ref);
    lua_getfield(L, -1, "take");
    lua_insert(L, -2);
    char *text = json_dumps(message, JSON_COMPACT);
    lua_pushstring(L, text != NULL ? text : "{}");
    free(text);
    if (event != NULL && strcmp(event, "log") == 0) {
        char line[LOG_LINE_MAX];
        const json_t *data = json_object_get(message, "data");
        lua_pushlstring(L, line, log_view(data, LOG_FORMAT_SHORT, v->coloured, line));
    } else {
        lua_pushnil(L);
    }
    lua_call(L, 3, 0);
    return 0;
}

static void complain_text(const struct view *v, const char *text)
{
    if (!terminal_is_interactive(v->terminal)) {
        fflush(stdout);
        fprintf(stderr, "%s\n", text);
        return;
    }
    char *line = NULL;
    int length = asprintf(&line, v->coloured ? "\033[31m%s\033[0m" : "%s", text);
    if (length >= 0)
        terminal_print(v->terminal, line, (size_t)length);
    free(length >= 0 ? line : NULL);
}

/* Hands over what has come, or comes in time. How many frames; -1: the socket is closed. When more
 * and more comes, the keys have their turn after a while; no frame is left behind in the reader,
 * where nobody would look for it. */
static int take_messages(struct view *v, int timeout_ms)
{
    int count = 0;
    uint64_t until = 0;
    for (;; count++) {
        error e = {0};
        if (count == 1)
            until = uv_hrtime() + TURN_NS;
        if (count > 0 && uv_hrtime() >= until && !frame_is_there(&v->client.reader))
            return count;
        json_t *message = client_receive(&v->client, count == 0 ? timeout_ms : 0, &e);
        if (message == NULL && strcmp(e.code, "timeout") == 0)
            return count;
        if (message == NULL) {
            v->error = e;
            return -1;
        }
        lua_pushcfunction(v->L, take_message);
        lua_pushlightuserdata(v->L, v);
        lua_pushlightuserdata(v->L, message);
        if (lua_pcall(v->L, 2, 0, 0) != 0) {
            complain_text(v, lua_tostring(v->L, -1));
            lua_pop(v->L, 1);
        }
        json_decref(message);
    }
}

/* ---- what the terminal calls ---- */

static bool on_ready(void *closure)
{
    return take_messages(closure, 0) >= 0;
}

/* [-2, +0] The results of console:complete(). */
static void add_candidates(lua_State *L, terminal_completions *out)
{
    double from = lua_tonumber(L, -2);
    terminal_completions_from(out, from > 0 ? (size_t)from : 0);
    for (int i = 1; lua_istable(L, -1); i++) {
        lua_rawgeti(L, -1, i);
        const char *item = lua_tostring(L, -1);
        if (item != NULL)
            terminal_completions_add(out, item);
        lua_pop(L, 1);
        if (item == NULL)
            break;
    }
    lua_pop(L, 2);
}

static bool on_complete(void *closure, const char *text, terminal_completions *out)
{
    struct view *v = closure;
    lua_State *L = v->L;
    lua_rawgeti(L, LUA_REGISTRYINDEX, v->console_ref);
    lua_getfield(L, -1, "complete");
    lua_insert(L, -2);
    lua_pushstring(L, text);
    if (lua_pcall(L, 2, 2, 0) != 0) {
        complain_text(v, lua_tostring(L, -1));
        lua_pop(L, 1);
        return false;
    }
    add_candidates(L, out);
    return true;
}

/* ---- functions of the Lua side: M.Host in cli_console.lua ---- */

static int host_send(lua_State *L)
{
    struct view *v = view_of(L);
    size_t length;
    const char *verb = luaL_checkstring(L, 1);
    const char *args = luaL_checklstring(L, 2, &length);
    error e = {0};
    int id = client_send(&v->client, verb, json_loadb(args, length, JSON_ALLOW_NUL, NULL), &e);
    if (id >= 0) {
        lua_pushinteger(L, id);
        return 1;
    }
    lua_pushnil(L);
    lua_pushstring(L, e.message);
    return 2;
}

static int host_receive(lua_State *L)
{
    struct view *v = view_of(L);
    int timeout_ms = (int)luaL_checkinteger(L, 1);
    if (!v->reading) { /* Ctrl-C counts */
        terminal_event event = terminal_wait(v->terminal, timeout_ms);
        if (event != TERMINAL_READY) {
            lua_pushstring(L, event == TERMINAL_INTERRUPT ? "interrupt" : "timeout");
            return 1;
        }
        timeout_ms = 0;
    }
    int count = take_messages(v, timeout_ms);
    lua_pushstring(L, count < 0 ? "closed" : count == 0 && v->reading ? "timeout" : "message");
    return 1;
}

static int host_read(lua_State *L)
{
    static const char *const names[] = {[TERMINAL_LINE] = "line",
                                        [TERMINAL_END] = "end",
                                        [TERMINAL_LEFT] = "left",
                                        [TERMINAL_INTERRUPT] = "interrupt"};
    struct view *v = view_of(L);
    char *line;
    terminal_set_prompt(v->terminal, luaL_checkstring(L, 1));
    v->reading = true;
    terminal_event event = terminal_read(v->terminal, &line);
    v->reading = false;
    lua_pushstring(L, names[event]);
    lua_pushstring(L, line);
    free(line);
    return 2;
}

static int host_print(lua_State *L)
{
    size_t length;
    const char *text = luaL_checklstring(L, 1, &length);
    terminal_print(view_of(L)->terminal, text, length);
    return 0;
}

static int host_complain(lua_State *L)
{
    complain_text(view_of(L), luaL_checkstring(L, 1));
    return 0;
}

static int host_set_prompt(lua_State *L)
{
    struct view *v = view_of(L);
    const char *prompt = luaL_checkstring(L, 1);
    if (v->reading)
        terminal_set_prompt(v->terminal, prompt);
    return 0;
}

static int host_columns(lua_State *L)
{
    struct winsize size = {0};
    bool known = ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0;
    lua_pushinteger(L, known ? size.ws_col : COLUMNS);
    return 1;
}

static int host_remember(lua_State *L)
{
    terminal_add_history(view_of(L)->terminal, luaL_checkstring(L, 1));
    return 0;
}

/* [-0, +1] */
static void push_host(lua_State *L, struct view *v)
{
    static const luaL_Reg functions[] = {
        {"send", host_send},       {"receive", host_receive},   {"read", host_read},
        {"print", host_print},     {"complain", host_complain}, {"set_prompt", host_set_prompt},
        {"columns", host_columns}, {"remember", host_remember}, {NULL, NULL}};
    lua_newtable(L);
    for (const luaL_Reg *f = functions; f->name != NULL; f++) {
        lua_pushlightuserdata(L, v);
        lua_pushcclosure(L, f->func, 1);
        lua_setfield(L, -2, f->name);
    }
    lua_pushboolean(L, terminal_is_interactive(v->terminal));
    lua_setfield(L, -2, "terminal");
}

/* ---- running ---- */

/* console_lua(view, name, level): [-3, +1] the exit code */
static int run(lua_State *L)
{
    struct view *v = lua_touserdata(L, 1);
    lua_getglobal(L, "require");
    lua_pushliteral(L, "moondog.cli_console");
    lua_call(L, 1, 1);
    lua_getfield(L, -1, "new");
    push_host(L, v);
    lua_newtable(L);
    lua_pushvalue(L, 2);
    lua_setfield(L, -2, "name");
    lua_pushvalue(L, 3);
    lua_setfield(L, -2, "level");
    lua_call(L, 2, 1);
    lua_pushvalue(L, -1);
    v->console_ref = luaL_ref(L, LUA_REGISTRYINDEX);
    lua_getfield(L, -1, "run");
    lua_insert(L, -2);
    lua_call(L, 1, 1);
    return 1;
}

static void open_history(terminal *t)
{
    const char *state = getenv("XDG_STATE_HOME"), *home = getenv("HOME");
    char path[4096];
    int length = -1;
    if (state != NULL && state[0] == '/')
        length = snprintf(path, sizeof path, "%s/moondog/history", state);
    else if (home != NULL && home[0] == '/')
        length = snprintf(path, sizeof path, "%s/.local/state/moondog/history", home);
    if (length > 0 && (size_t)length < sizeof path)
        (void)terminal_open_history(t, path); /* without it, it ends with the console */
}

int console_run(lua_State *L, const char *path, const char *name)
{
    static const terminal_callbacks callbacks = {on_ready, on_complete};
    struct view v = {.L = L, .console_ref = LUA_NOREF};
    error e = {0};
    if (client_open(&v.client, path, &e) != 0)
        return complain(&e);
    v.terminal = terminal_new("moondog", v.client.fd, &callbacks, &v, &e);
    if (v.terminal == NULL) {
        client_close(&v.client);
        return complain(&e);
    }
    v.coloured = log_wants_colour(STDOUT_FILENO);
    if (terminal_is_interactive(v.terminal))
        open_history(v.terminal);
    lua_pushcfunction(L, run);
    lua_pushlightuserdata(L, &v);
    lua_pushstring(L, name);
    lua_pushstring(L, args_string(L, "level", "info"));
    int failed = lua_pcall(L, 3, 1, 0);
    terminal_free(v.terminal);
    client_close(&v.client);
    int code = failed == 0 ? (int)lua_tonumber(L, -1) : EXIT_FAILED;
    if (failed != 0)
        fprintf(stderr, "moondog: the console failed: %s\n", lua_tostring(L, -1));
    lua_pop(L, 1);
    return code;
}

int console_attach(lua_State *L)
{
    char path[CONTROL_PATH_SIZE], name[CONTROL_PATH_SIZE];
    error e = {0};
    if (client_find(args_string(L, "control", NULL), args_string(L, "process", NULL), path,
                    sizeof path, &e) != 0)
        return complain(&e);
    control_name(path, name, sizeof name);
    return console_run(L, path, name);
}
