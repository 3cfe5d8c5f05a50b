/* The evaluator of consoles. See console.h. Loop thread. */
#include "script/console.h"

#include <lauxlib.h>
#include <luajit.h>
#include <stdlib.h>
#include <string.h>

#include "base/log.h"
#include "host/functions.h"
#include "script/api.h"
#include "script/embedded.h"
#include "script/message.h"
#include "script/slice.h"
#include "script/to_json.h"

struct console_command {
    struct generation *generation;
    struct task *task;
    struct callback callback;
    char name[CALLBACK_TEXT];         /* its */
    const console_observer *observer; /* NULL: cancelled */
    void *closure;
    json_t *result;
    bool taken; /* the observer got the values themselves */
    error error;
    char traceback[3072];
};

/* ---- what the Lua side calls ---- */

static void on_finished(void *closure);

static int methods_of(lua_State *L);

/* The command whose task runs now, or NULL. */
static struct console_command *running(const struct generation *g)
{
    const struct task *t = g->running;
    return t != NULL && t->finished == on_finished ? t->finished_closure : NULL;
}

/* answer(result): a table of plain data. [-0, +0] */
static int answer(lua_State *L)
{
    struct console_command *command = running(generation_of(L));
    if (command == NULL || command->result != NULL)
        return 0;
    command->result = to_json(L, 1);
    if (command->result == NULL)
        return luaL_error(L, "the answer cannot be made: no memory, or no plain data");
    return 0;
}

/* take(tostring, ...): whether the observer took the values, and wants no answer. [-0, +1] */
static int take(lua_State *L)
{
    struct console_command *command = running(generation_of(L));
    bool wanted = command != NULL && command->observer != NULL && command->observer->values != NULL;
    if (wanted)
        command->taken = command->observer->values(command->closure, L, 2, &command->error) == 0;
    lua_pushboolean(L, wanted);
    return 1;
}

/* refuse(code, message, traceback): [-0, +0] */
static int refuse(lua_State *L)
{
    struct console_command *command = running(generation_of(L));
    const char *code = luaL_checkstring(L, 1);
    const char *message = luaL_checkstring(L, 2);
    if (command == NULL)
        return 0;
    error_set(&command->error, code, ERROR_CLASS_NONE, "%s", message);
    snprintf(command->traceback, sizeof command->traceback, "%s", luaL_optstring(L, 3, ""));
    return 0;
}

/* emit(text): what a command prints. False: no command runs here. [-0, +1] */
static int emit(lua_State *L)
{
    struct console_command *command = running(generation_of(L));
    size_t length;
    const char *text = luaL_checklstring(L, 1, &length);
    if (command != NULL && command->observer != NULL)
        command->observer->print(command->closure, text, length);
    lua_pushboolean(L, command != NULL);
    return 1;
}

/* connection(name): the handle that the script got from moondog.connect(), or nil. [-0, +1] */
static int find_connection(lua_State *L)
{
    const char *name = luaL_checkstring(L, 1);
    for (const struct binding *b = generation_of(L)->bindings; b != NULL; b = b->next)
        if (b->declared && strcmp(b->name, name) == 0) {
            lua_rawgeti(L, LUA_REGISTRYINDEX, b->handle_ref);
            return 1;
        }
    return 0;
}

/* connections(): all handles, by name. [-0, +1] */
static int list_connections(lua_State *L)
{
    lua_newtable(L);
    for (const struct binding *b = generation_of(L)->bindings; b != NULL; b = b->next)
        if (b->declared) {
            lua_rawgeti(L, LUA_REGISTRYINDEX, b->handle_ref);
            lua_setfield(L, -2, b->name);
        }
    return 1;
}

/* What a message has, which it makes when it is asked. [-0, +1] */
static void push_message_fields(lua_State *L)
{
    static const char *const fields[] = {"subject", "data", "reply", "headers"};
    lua_newtable(L);
    for (size_t i = 0; i < sizeof fields / sizeof fields[0]; i++)
        api_set_boolean(L, fields[i], true);
    lua_pushcfunction(L, methods_of); /* any function: what is called is the message's own */
    lua_setfield(L, -2, "respond");
    lua_pushcfunction(L, methods_of);
    lua_setfield(L, -2, "retain");
}

/* methods_of(userdata): the table of its methods, when it is one of ours; or nil. [-0, +1] */
static int methods_of(lua_State *L)
{
    static const char *const types[] = {CONNECTION_TYPE, SUBSCRIPTION_TYPE, TIMER_TYPE,
                                        BACKOFF_TYPE};
    if (functions_is_host(L, 1)) {
        functions_push_names(L);
        return 1;
    }
    if (!lua_getmetatable(L, 1))
        return 0;
    luaL_getmetatable(L, MESSAGE_TYPE);
    if (lua_rawequal(L, -1, -2)) {
        push_message_fields(L);
        return 1;
    }
    lua_pop(L, 1);
    for (size_t i = 0; i < sizeof types / sizeof types[0]; i++) {
        luaL_getmetatable(L, types[i]);
        bool same = lua_rawequal(L, -1, -2);
        lua_pop(L, 1);
        if (same) {
            lua_getfield(L, -1, "__index");
            return lua_istable(L, -1);
        }
    }
    return 0;
}

static void load_module(lua_State *L, const char *name)
{
    const embedded_module *m = embedded_find(name);
    if (m == NULL)
        luaL_error(L, "no embedded module %s", name);
    else if (luaL_loadbuffer(L, m->text, m->length, m->chunk) != 0)
        lua_error(L);
}

void console_set_up(lua_State *L)
{
    static const luaL_Reg host[] = {{"answer", answer},
                                    {"refuse", refuse},
                                    {"take", take},
                                    {"emit", emit},
                                    {"connection", find_connection},
                                    {"connections", list_connections},
                                    {"methods_of", methods_of},
                                    {NULL, NULL}};
    struct generation *g = generation_of(L);
    load_module(L, "moondog.console");
    lua_newtable(L);
    luaL_register(L, NULL, host);
    lua_rawgeti(L, LUA_REGISTRYINDEX, g->module_ref);
    lua_setfield(L, -2, "module");
    load_module(L, "moondog.pretty");
    lua_call(L, 0, 1);
    load_module(L, "moondog.complete");
    lua_call(L, 0, 1);
    lua_call(L, 3, 1);
    g->console_ref = luaL_ref(L, LUA_REGISTRYINDEX);
}

/* ---- commands ---- */

/* To Lua, an empty list is an empty table as any other. */
static void make_list(json_t *result, const char *name)
{
    json_t *list = json_object_get(result, name);
    if (json_is_object(list) && json_object_size(list) == 0)
        json_object_set_new(result, name, json_array());
}

/* Here the memory of the task goes as well: nothing is left of it when the observer is told. */
static void on_finished(void *closure)
{
    struct console_command *command = closure;
    const console_observer *observer = command->observer;
    void *their = command->closure;
    sentinel_settle(command->generation->limits.sentinel); /* the callback is freed below */
    if (command->result == NULL && !command->taken && command->error.code[0] == '\0')
        error_set(&command->error, "replaced", ERROR_CLASS_NONE,
                  "its generation of the script has ended before the command was over");
    if (command->result != NULL) {
        json_object_set_new(command->result, "generation",
                            json_integer((json_int_t)command->generation->number));
        make_list(command->result, "values");
        make_list(command->result, "items");
    }
    if (observer != NULL)
        observer->done(their, command->result, &command->error, command->traceback);
    else
        json_decref(command->result);
    free(command);
}

static void on_failed(void *closure, const char *message, const char *traceback, bool overran)
{
    struct console_command *command = closure;
    error_set(&command->error, overran ? "budget" : "script", ERROR_CLASS_NONE, "%s%s", message,
              overran ? ": it was inside a callback of a C function, where it cannot be preempted"
                      : "");
    snprintf(command->traceback, sizeof command->traceback, "%s", traceback);
}

struct arguments {
    console *console;
    const console_question *question;
};

/* What was compiled elsewhere, in the environment on top. [-0, +1] */
static void push_chunk(lua_State *L, const console_question *q)
{
    if (luaL_loadbufferx(L, q->text, q->length, q->name, "b") != 0)
        lua_error(L);
    luaJIT_setmode(L, -1, LUAJIT_MODE_ALLFUNC | LUAJIT_MODE_OFF);
    lua_pushvalue(L, -2);
    lua_setfenv(L, -2);
}

/* perform(kind, environment, text, name, width) gives back the environment, which it makes when it
 * gets nil. [-0, +5] */
static void push_arguments(lua_State *L, void *closure)
{
    struct arguments *a = closure;
    struct generation *g = generation_of(L);
    if (a->console->generation != g->number) {
        lua_rawgeti(L, LUA_REGISTRYINDEX, g->console_ref);
        lua_pushliteral(L, "environment");
        lua_call(L, 1, 1);
        a->console->ref = luaL_ref(L, LUA_REGISTRYINDEX);
        a->console->generation = g->number;
    }
    lua_pushstring(L, a->question->kind);
    lua_rawgeti(L, LUA_REGISTRYINDEX, a->console->ref);
    if (strcmp(a->question->kind, "run") == 0)
        push_chunk(L, a->question);
    else
        lua_pushlstring(L, a->question->text, a->question->length);
    lua_pushfstring(L, "=%s", a->question->name);
    lua_pushinteger(L, a->question->width);
}

static struct task *begin(struct console_command *command, struct arguments *a)
{
    struct generation *g = command->generation;
    struct task *t = task_begin(g, &command->callback);
    if (t == NULL)
        return NULL;
    t->finished = on_finished;
    t->failed = on_failed;
    t->finished_closure = command;
    if (generation_protect(g, push_arguments, a, 5, "console") != 0) {
        t->finished = NULL;
        task_drop(t);
        return NULL;
    }
    lua_xmove(g->L, t->co, 5);
    return t;
}

struct console_command *console_begin(console *c, struct generation *g, const console_question *q,
                                      const console_observer *observer, void *closure, error *e)
{
    struct console_command *command = calloc(1, sizeof *command);
    if (command != NULL) {
        command->generation = g;
        command->observer = observer;
        command->closure = closure;
        snprintf(command->name, sizeof command->name, "%s", q->name);
        callback_init(&command->callback, "console", command->name);
        command->callback.ref = g->console_ref;
        command->task = begin(command, &(struct arguments){c, q});
    }
    if (command == NULL || command->task == NULL) {
        free(command);
        error_set(e, "no_memory", ERROR_CLASS_LIMIT,
                  "no memory for a command: the script may have used it up, see --memory");
        return NULL;
    }
    slice_start(command->task, 5);
    return command;
}

void console_cancel(struct console_command *command)
{
    command->observer = NULL;
    task_drop(command->task);
}

void console_close(console *c, struct generation *at_work)
{
    if (at_work != NULL && c->generation == at_work->number && !at_work->closing)
        luaL_unref(at_work->L, LUA_REGISTRYINDEX, c->ref);
    *c = (console){0};
}
