/* Tasks: coroutines for script functions. See task.h. Loop thread. */
#include "script/task.h"

#include <assert.h>
#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

#include "script/binding.h"
#include "script/failure.h"
#include "script/message.h"
#include "script/slice.h"
#include "script/task_private.h"

#define IDLE_MAX 256u /* coroutines kept for the next handlers */

void *task_wait_token(void)
{
    static const char token;
    return (void *)&token;
}

/* ---- coroutines ---- */

/* [-0, +1] */
static void new_coroutine(lua_State *L, void *closure)
{
    struct task *t = closure;
    t->co = lua_newthread(L);
    t->co_ref = luaL_ref(L, LUA_REGISTRYINDEX);
}

static struct task *task_new(struct generation *g)
{
    struct task *t = calloc(1, sizeof *t);
    if (t == NULL)
        return NULL;
    t->generation = g;
    t->co_ref = LUA_NOREF;
    if (generation_protect(g, new_coroutine, t, 0, "task") != 0) {
        free(t);
        return NULL;
    }
    return t;
}

static void on_timer_closed(uv_handle_t *handle)
{
    struct task *t = handle->data;
    t->generation->handles--;
    free(t);
}

static void task_free(struct task *t)
{
    luaL_unref(t->generation->L, LUA_REGISTRYINDEX, t->co_ref);
    if (t->has_timer)
        uv_close((uv_handle_t *)&t->timer, on_timer_closed);
    else
        free(t);
}

struct task *task_begin(struct generation *g, struct callback *cb)
{
    struct task *t = g->idle;
    if (t != NULL) {
        g->idle = t->next;
        g->idle_count--;
    } else if ((t = task_new(g)) == NULL) {
        cb->errors++;
        return NULL;
    }
    t->next = NULL;
    t->callback = cb;
    lua_rawgeti(t->co, LUA_REGISTRYINDEX, cb->ref);
    return t;
}

void task_forget_due(struct task *t)
{
    struct generation *g = t->generation;
    if (t->due_back == NULL)
        return;
    *t->due_back = t->due_next;
    if (t->due_next != NULL)
        t->due_next->due_back = t->due_back;
    else
        g->due_end = t->due_back;
    t->due_next = NULL;
    t->due_back = NULL;
    g->due_count--;
}

static void unpark(struct task *t)
{
    if (t->back == NULL)
        return;
    task_forget_due(t);
    *t->back = t->next;
    if (t->next != NULL)
        t->next->back = t->back;
    t->next = NULL;
    t->back = NULL;
    t->waiting = false;
    t->cancel = NULL;
    t->on_timeout = NULL;
    if (t->has_timer)
        uv_timer_stop(&t->timer);
    t->generation->parked_count--;
}

/* What it waits for is undone. */
static void stop_waiting(struct task *t)
{
    task_cancel cancel = t->cancel;
    void *closure = t->closure;
    if (t->back == NULL)
        return;
    unpark(t);
    if (cancel != NULL)
        cancel(t, closure);
}

/* It is over. A coroutine that returned can run the next function; one that failed cannot. */
static void task_end(struct task *t, bool reusable)
{
    struct generation *g = t->generation;
    task_finished finished = t->finished;
    void *closure = t->finished_closure;
    if (t->message != NULL) {
        message_release(t->message);
        t->message = NULL;
    }
    if (t->holds != NULL) {
        t->holds->busy--;
        t->holds = NULL;
    }
    if (t->latency != NULL) {
        latency_add(t->latency, uv_hrtime() - t->begun, t->weight);
        t->latency = NULL;
    }
    t->callback = NULL;
    t->finished = NULL;
    t->failed = NULL;
    t->sliced = false;
    if (reusable && g->idle_count < IDLE_MAX && !g->closing) {
        lua_settop(t->co, 0);
        t->next = g->idle;
        g->idle = t;
        g->idle_count++;
    } else {
        task_free(t);
    }
    if (finished != NULL)
        finished(closure);
}

/* LuaJIT leaves a coroutine that has run out of memory inside of tostring(), string.sub() and the
 * like with a stack that its collector crashes on. It is not looked at: the report of this collects
 * at once, from the roots on. */
static void drop_coroutine(struct task *t)
{
    luaL_unref(t->generation->L, LUA_REGISTRYINDEX, t->co_ref);
    t->co_ref = LUA_NOREF;
}

static bool yielded_to_us(const struct task *t)
{
    return t->waiting && lua_gettop(t->co) > 0 && lua_touserdata(t->co, -1) == task_wait_token();
}

void task_run(struct task *t, int count)
{
    struct generation *g = t->generation;
    g->running = t;
    hub_serve(g->limits.hub);
    budget_enter(&g->budget, g->limits.handler_budget_ms, t->callback);
    if (t->sliced)
        slice_begin(g);
    int status = lua_resume(t->co, count);
    bool preempted = t->sliced && slice_end(g) && status == LUA_YIELD;
    bool overran = budget_leave(&g->budget);
    g->running = NULL;
    if (preempted) {
        stop_waiting(t); /* as below */
        lua_settop(t->co, 0);
        slice_add(t);
        return;
    }
    if (status == LUA_YIELD && yielded_to_us(t)) {
        lua_settop(t->co, 0);
        if (t->message != NULL)
            message_keep(t->message);
        return;
    }
    /* A wait that it began and that could not yield, as inside a callback of table.sort() that
     * resumes a coroutine. */
    stop_waiting(t);
    if (status == 0) {
        task_end(t, true);
        return;
    }
    failure r = {.from = t->co};
    if (status == LUA_ERRMEM)
        drop_coroutine(t);
    if (status == LUA_YIELD) {
        r.from = NULL; /* pushing the text could need memory that there is not */
        snprintf(r.text, sizeof r.text,
                 "it yielded to nobody: coroutine.yield() works inside a coroutine of the "
                 "script's own; to wait, call moondog.sleep()");
        status = LUA_ERRRUN;
    }
    if (t->failed != NULL)
        failure_tell(t, &r, status, overran);
    else
        failure_report(g, t->callback, &r, status, overran);
    task_end(t, false);
}

/* When the host's time is over, it has its turn in the next poll, behind all that waits for one;
 * but for the one that was the first of these when there was time left. */
static void run_or_queue(struct task *t, int count)
{
    struct generation *g = t->generation;
    bool has_turn = g->going_on == t;
    if (has_turn)
        g->going_on = NULL;
    if (has_turn || !hub_is_late(g->limits.hub))
        task_run(t, count);
    else if (t->sliced)
        slice_start(t, count);
    else
        task_queue(t, count);
}

void task_start(struct task *t, int count)
{
    t->callback->calls++;
    run_or_queue(t, count);
}

void task_start_now(struct task *t, int count)
{
    t->callback->calls++;
    task_run(t, count);
}

/* ---- waiting ---- */

static void complain(lua_State *L, const char *what, const char *why)
{
    failure_push_where(L);
    lua_pushfstring(L, "%s waits, %s", what, why);
    lua_concat(L, 2);
    lua_error(L);
}

struct task *task_current(lua_State *L, const char *what)
{
    struct generation *g = generation_of(L);
    if (g->loading)
        complain(L, what,
                 "and a script cannot wait while it is loaded: do it in moondog.on_start(), "
                 "moondog.spawn() or a handler");
    struct task *t = g->running;
    if (t == NULL) {
        complain(L, what, "and a policy or token function cannot wait");
        return NULL; /* never: lua_error() does not come back */
    }
    if (g->cancelled)
        complain(L, what, "and the time of this generation of the script is over");
    if (!lua_isyieldable(L))
        complain(L, what,
                 "which a callback of a C function cannot, such as one of table.sort() or "
                 "string.gsub(), or a metamethod");
    stop_waiting(t); /* a wait that could not yield, and was caught */
    return t;
}

int task_park(struct task *t, lua_State *L, task_cancel cancel, void *closure)
{
    struct generation *g = t->generation;
    t->waiting = true;
    t->cancel = cancel;
    t->closure = closure;
    t->next = g->parked;
    if (t->next != NULL)
        t->next->back = &t->next;
    t->back = &g->parked;
    g->parked = t;
    g->parked_count++;
    lua_pushlightuserdata(L, task_wait_token());
    return lua_yield(L, 1);
}

static void add_to_due(struct task *t)
{
    struct generation *g = t->generation;
    if (t->back == NULL || t->due_back != NULL)
        return;
    t->due_next = NULL;
    t->due_back = g->due_end;
    *g->due_end = t;
    g->due_end = &t->due_next;
    g->due_count++;
    hub_again(g->limits.hub);
}

static void on_timeout(uv_timer_t *timer)
{
    add_to_due(timer->data);
}

void task_go_on_soon(struct task *t, void (*how)(struct task *t))
{
    t->on_timeout = how;
    add_to_due(t);
}

void task_set_timer(struct task *t, uint32_t timeout_ms, void (*callback)(struct task *t))
{
    struct generation *g = t->generation;
    if (!t->has_timer) {
        uv_timer_init(g->limits.hub->loop, &t->timer);
        t->timer.data = t;
        t->has_timer = true;
        g->handles++;
    }
    t->on_timeout = callback;
    uv_update_time(g->limits.hub->loop); /* the entry may have lasted a while */
    uv_timer_start(&t->timer, on_timeout, timeout_ms, 0);
}

void task_resume(struct task *t, int count)
{
    unpark(t);
    run_or_queue(t, count);
}

struct push_error {
    const error *e;
};

/* [-0, +2] */
static void push_nil_error(lua_State *L, void *closure)
{
    struct push_error *p = closure;
    lua_pushnil(L);
    message_push_error(L, p->e);
}

void task_resume_error(struct task *t, const error *e)
{
    struct generation *g = t->generation;
    struct push_error p = {e};
    if (generation_protect(g, push_nil_error, &p, 2, "result of a wait") != 0) {
        task_drop(t);
        return;
    }
    lua_xmove(g->L, t->co, 2);
    task_resume(t, 2);
}

void task_resume_done(struct task *t, const error *e)
{
    if (e->code[0] != '\0') {
        task_resume_error(t, e);
        return;
    }
    lua_pushboolean(t->co, 1);
    task_resume(t, 1);
}

void task_interrupt(struct task *t, const error *e)
{
    task_cancel cancel = t->cancel;
    t->cancel = NULL;
    if (cancel != NULL)
        cancel(t, t->closure);
    task_resume_error(t, e);
}

void task_drop(struct task *t)
{
    slice_remove(t);
    stop_waiting(t);
    task_end(t, false);
}

void task_close_all(struct generation *g)
{
    while (g->slices.first != NULL)
        task_drop(g->slices.first);
    while (g->parked != NULL) {
        struct task *t = g->parked;
        task_drop(t);
        assert(g->parked != t);
    }
    for (struct task *t = g->spawned, *next; t != NULL; t = next) {
        next = t->next;
        task_end(t, false);
    }
    g->spawned = NULL;
    g->spawned_end = &g->spawned;
    g->spawned_count = 0;
    while (g->idle != NULL) {
        struct task *t = g->idle;
        g->idle = t->next;
        g->idle_count--;
        task_free(t);
    }
}

/* ---- calls that cannot wait ---- */

struct call {
    struct generation *g;
    struct callback *cb;
    call_push push;
    call_read read;
    void *closure;
    failure report;
    int status;
    bool overran;
};

/* [-1, +1] */
static int with_traceback(lua_State *L)
{
    struct call *c = lua_touserdata(L, lua_upvalueindex(1));
    failure_describe_value(L, 1, &c->report);
    failure_describe_stack(L, L, 1, &c->report);
    return 1;
}

/* [-0, +0] */
static void call_protected(lua_State *L, void *closure)
{
    struct call *c = closure;
    int base = lua_gettop(L);
    lua_pushlightuserdata(L, c);
    lua_pushcclosure(L, with_traceback, 1);
    lua_rawgeti(L, LUA_REGISTRYINDEX, c->cb->ref);
    int count = c->push(L, c->closure);
    hub_serve(c->g->limits.hub);
    budget_enter(&c->g->budget, c->g->limits.handler_budget_ms, c->cb);
    c->status = lua_pcall(L, count, 1, base + 1);
    c->overran = budget_leave(&c->g->budget);
    if (c->status == 0) {
        c->read(L, c->closure);
    } else {
        failure_report(c->g, c->cb, &c->report, c->status, c->overran);
    }
    lua_settop(L, base);
}

int task_call(struct generation *g, struct callback *cb, call_push push, call_read read,
              void *closure)
{
    struct call c = {.g = g, .cb = cb, .push = push, .read = read, .closure = closure};
    c.status = LUA_ERRMEM;
    cb->calls++;
    if (generation_protect(g, call_protected, &c, 0, cb->kind) != 0)
        return -1;
    return c.status == 0 ? 0 : -1;
}
