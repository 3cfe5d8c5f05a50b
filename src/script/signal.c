/* Signals that tasks wait for. See signal.h. Loop thread. */
#include "script/signal.h"

#include <lauxlib.h>

#include "script/api.h"
#include "script/binding.h"
#include "script/task.h"

#define SIGNAL_TYPE "moondog.signal"
#define WAIT_MAX_S 4000000.0

/* Owned by the script's userdata; a task that waits keeps that on its stack. */
struct signal {
    struct binding *binding; /* whose links set it; NULL: none */
    struct signal *next, **back;
    struct task *waiting; /* a list through task.wait_next */
    bool set;
};

struct signal *signal_check(lua_State *L, int arg)
{
    return luaL_checkudata(L, arg, SIGNAL_TYPE);
}

static void leave(struct task *t)
{
    if (t->wait_back == NULL)
        return;
    *t->wait_back = t->wait_next;
    if (t->wait_next != NULL)
        t->wait_next->wait_back = t->wait_back;
    t->wait_next = NULL;
    t->wait_back = NULL;
}

static void cancel_wait(struct task *t, void *closure)
{
    (void)closure;
    leave(t);
}

/* Nothing that could need memory: this is not protected. */
static void resume(struct task *t, bool set)
{
    leave(t);
    lua_pushboolean(t->co, set);
    task_resume(t, 1);
}

static void on_set(struct task *t)
{
    resume(t, true);
}

static void on_over(struct task *t)
{
    resume(t, false);
}

static void wake(struct signal *s, void (*how)(struct task *t))
{
    for (struct task *t = s->waiting, *next; t != NULL; t = next) {
        next = t->wait_next;
        leave(t);
        task_go_on_soon(t, how);
    }
}

void signal_set(struct signal *s)
{
    s->set = s->waiting == NULL;
    wake(s, on_set);
}

static int signal_set_lua(lua_State *L)
{
    signal_set(signal_check(L, 1));
    return 0;
}

/* wait(seconds) */
static int signal_wait(lua_State *L)
{
    struct signal *s = signal_check(L, 1);
    struct task *t = task_current(L, "this");
    if (s->set) {
        s->set = false;
        lua_pushboolean(L, 1);
        return 1;
    }
    double seconds = luaL_checknumber(L, 2);
    seconds = seconds < WAIT_MAX_S ? seconds : WAIT_MAX_S;
    t->wait_next = s->waiting;
    if (t->wait_next != NULL)
        t->wait_next->wait_back = &t->wait_next;
    t->wait_back = &s->waiting;
    s->waiting = t;
    task_set_timer(t, seconds > 0 ? (uint32_t)(seconds * 1000.0 + 0.999) : 0, on_over);
    return task_park(t, L, cancel_wait, NULL);
}

int signal_new_lua(lua_State *L)
{
    struct binding *b = lua_isnoneornil(L, 1) ? NULL : api_check_connection(L, 1);
    struct signal *s = lua_newuserdata(L, sizeof *s);
    struct generation *g = generation_of(L);
    *s = (struct signal){.binding = b, .next = g->signals, .back = &g->signals};
    if (s->next != NULL)
        s->next->back = &s->next;
    g->signals = s;
    luaL_getmetatable(L, SIGNAL_TYPE);
    lua_setmetatable(L, -2);
    return 1;
}

static int signal_gc(lua_State *L)
{
    struct signal *s = lua_touserdata(L, 1);
    while (s->waiting != NULL) /* their tasks are dropped with the state that this is closed with */
        leave(s->waiting);
    *s->back = s->next;
    if (s->next != NULL)
        s->next->back = s->back;
    return 0;
}

void signal_register(lua_State *L)
{
    static const luaL_Reg methods[] = {
        {"wait", signal_wait}, {"set", signal_set_lua}, {NULL, NULL}};
    api_register_type(L, SIGNAL_TYPE, methods, signal_gc);
    lua_pop(L, 1);
}

void signal_link(struct binding *b)
{
    for (struct signal *s = b->generation->signals; s != NULL; s = s->next)
        if (s->binding == b)
            signal_set(s);
}

void signal_ending(struct generation *g)
{
    g->ending = true;
    for (struct signal *s = g->signals; s != NULL; s = s->next)
        wake(s, on_over);
}
