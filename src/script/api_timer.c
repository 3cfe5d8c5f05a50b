/* Timers and backoff policies of the Lua API. Loop thread, or the loading one: then they only
 * declare. */
#include <assert.h>
#include <lauxlib.h>
#include <stdlib.h>

#include "base/random.h"
#include "script/api.h"
#include "script/task.h"

/* Counted: the script's handle, the list of the generation while it is active, and the task that
 * runs. */
struct lua_timer {
    unsigned references;
    struct generation *generation;
    struct lua_timer *next, **back; /* in generation->timers while active */
    struct callback callback;
    uint32_t interval_ms;
    bool repeats, running, has_handle;
    uint64_t skipped; /* ticks while the last run had not finished */
    uv_timer_t timer;
};

static void on_closed(uv_handle_t *handle)
{
    struct lua_timer *t = handle->data;
    t->generation->handles--;
    free(t);
}

static void timer_release(struct lua_timer *t)
{
    if (--t->references > 0)
        return;
    callback_clear(&t->callback, t->generation->L);
    generation_discharge(t->generation, sizeof *t);
    if (t->has_handle)
        uv_close((uv_handle_t *)&t->timer, on_closed);
    else
        free(t);
}

static void timer_stop(struct lua_timer *t)
{
    if (t->back == NULL)
        return;
    *t->back = t->next;
    if (t->next != NULL)
        t->next->back = t->back;
    t->back = NULL;
    if (t->has_handle)
        uv_timer_stop(&t->timer);
    timer_release(t);
}

static void on_finished(void *closure)
{
    struct lua_timer *t = closure;
    t->running = false;
    timer_release(t);
}

static void on_tick(uv_timer_t *handle)
{
    struct lua_timer *t = handle->data;
    if (t->running) {
        t->skipped++;
        return;
    }
    t->references++; /* the task's */
    t->running = true;
    if (!t->repeats)
        timer_stop(t);
    struct task *task = task_begin(t->generation, &t->callback);
    if (task == NULL) {
        on_finished(t);
        return;
    }
    task->finished = on_finished;
    task->finished_closure = t;
    task_start_soon(task, 0);
}

static void timer_start(struct lua_timer *t)
{
    uv_loop_t *loop = t->generation->limits.hub->loop;
    uv_timer_init(loop, &t->timer);
    t->timer.data = t;
    t->has_handle = true;
    t->generation->handles++;
    uv_update_time(loop);
    uv_timer_start(&t->timer, on_tick, t->interval_ms, t->repeats ? t->interval_ms : 0);
}

void api_start_timers(struct generation *g)
{
    for (struct lua_timer *t = g->timers; t != NULL; t = t->next)
        if (!t->has_handle)
            timer_start(t);
}

void api_close_timers(struct generation *g)
{
    while (g->timers != NULL) {
        const struct lua_timer *t = g->timers;
        timer_stop(g->timers);
        assert(g->timers != t);
    }
}

uint32_t api_seconds(lua_State *L, int arg, double min, double max)
{
    double seconds = luaL_checknumber(L, arg);
    if (!(seconds >= min && seconds <= max))
        luaL_argerror(L, arg,
                      lua_pushfstring(L, "%f s: it has to be from %f to %f", seconds, min, max));
    double ms = seconds * 1000.0;
    return ms > 0 && ms < 1 ? 1 : (uint32_t)(ms + 0.5);
}

#define SECONDS_MAX 4000000.0 /* fits into 32 bits of milliseconds */

static int new_timer(lua_State *L, bool repeats, double min)
{
    struct generation *g = generation_of(L);
    uint32_t ms = api_seconds(L, 1, min, SECONDS_MAX);
    luaL_checktype(L, 2, LUA_TFUNCTION);
    api_check_not(L, g->retiring, repeats ? "moondog.every" : "moondog.after");
    struct lua_timer **handle = lua_newuserdata(L, sizeof *handle);
    *handle = NULL;
    luaL_getmetatable(L, TIMER_TYPE);
    lua_setmetatable(L, -2);
    bool room = generation_charge(L, sizeof **handle);
    struct lua_timer *t = room ? calloc(1, sizeof *t) : NULL;
    if (t == NULL) {
        if (room)
            generation_discharge(g, sizeof *t);
        return luaL_error(L, "not enough memory for a timer");
    }
    *handle = t;
    t->references = 1;
    t->generation = g;
    t->interval_ms = ms;
    t->repeats = repeats;
    callback_init(&t->callback, "timer", NULL);
    callback_set(&t->callback, L, 2);
    t->references++; /* the list's */
    t->next = g->timers;
    if (t->next != NULL)
        t->next->back = &t->next;
    t->back = &g->timers;
    g->timers = t;
    if (g->committed)
        timer_start(t);
    return 1;
}

int api_every(lua_State *L)
{
    return new_timer(L, true, 0.001);
}

int api_after(lua_State *L)
{
    return new_timer(L, false, 0);
}

static int timer_cancel(lua_State *L)
{
    struct lua_timer **handle = luaL_checkudata(L, 1, TIMER_TYPE);
    if (*handle != NULL)
        timer_stop(*handle);
    return 0;
}

/* "timer gateway.lua:12" */
static int timer_tostring(lua_State *L)
{
    struct lua_timer **handle = luaL_checkudata(L, 1, TIMER_TYPE);
    char name[CALLBACK_TEXT];
    lua_pushfstring(L, "timer %s",
                    *handle != NULL ? callback_name(&(*handle)->callback, name) : "");
    return 1;
}

static int timer_gc(lua_State *L)
{
    struct lua_timer **handle = lua_touserdata(L, 1);
    if (*handle != NULL)
        timer_release(*handle);
    *handle = NULL;
    return 0;
}

void api_register_timer(lua_State *L)
{
    static const luaL_Reg methods[] = {{"cancel", timer_cancel}, {NULL, NULL}};
    api_register_type(L, TIMER_TYPE, methods, timer_gc);
    lua_pushcfunction(L, timer_tostring);
    lua_setfield(L, -2, "__tostring");
    lua_pop(L, 1);
}

/* ---- backoff ---- */

static const char *const backoff_names[] = {"base", "cap", "factor", "auth_base", "jitter", NULL};

int api_backoff(lua_State *L)
{
    if (lua_isnoneornil(L, 1)) {
        lua_settop(L, 0);
        lua_newtable(L);
    }
    luaL_checktype(L, 1, LUA_TTABLE);
    options_check(L, 1, backoff_names, "moondog.backoff");
    backoff b = BACKOFF_DEFAULT;
    b.base = options_number(L, 1, "base", b.base, 0.001, 3600);
    b.cap = options_number(L, 1, "cap", b.cap > b.base ? b.cap : b.base, 0.001, 3600);
    b.factor = options_number(L, 1, "factor", b.factor, 1, 1000);
    b.auth_base = options_number(L, 1, "auth_base", b.auth_base, 0.001, 3600);
    const char *jitter = options_string(L, 1, "jitter", "full");
    if (b.cap < b.base)
        luaL_error(L, "moondog.backoff: cap (%f) is smaller than base (%f)", b.cap, b.base);
    int parsed = backoff_jitter_parse(jitter);
    if (parsed < 0)
        luaL_error(L,
                   "moondog.backoff: unknown jitter \"%s\": there are none, full, equal and "
                   "decorrelated",
                   jitter);
    b.jitter = (backoff_jitter)parsed;
    backoff *out = lua_newuserdata(L, sizeof *out);
    *out = b;
    luaL_getmetatable(L, BACKOFF_TYPE);
    lua_setmetatable(L, -2);
    return 1;
}

static const char *const class_names[] = {"none", "auth",  "network",  "timeout", "stale",
                                          "tls",  "limit", "protocol", NULL};

/* policy(ctx): a policy is a value that can be tried: ctx.random makes it repeatable. */
static int backoff_call(lua_State *L)
{
    const backoff *b = luaL_checkudata(L, 1, BACKOFF_TYPE);
    luaL_checktype(L, 2, LUA_TTABLE);
    double attempt = options_number(L, 2, "attempt", 1, 1, 1e9);
    double outage = options_number(L, 2, "outage", 0, 0, 1e12);
    double previous = options_number(L, 2, "previous", 0, 0, 1e12);
    double random = options_number(L, 2, "random", random_next(&generation_of(L)->random), 0,
                                   0.9999999999999999);
    lua_getfield(L, 2, "class");
    int cls =
        lua_isnil(L, -1) ? (int)ERROR_CLASS_NETWORK : luaL_checkoption(L, -1, NULL, class_names);
    lua_pushnumber(L,
                   backoff_delay(b, (uint32_t)attempt, (error_class)cls, outage, previous, random));
    return 1;
}

void api_register_backoff(lua_State *L)
{
    luaL_newmetatable(L, BACKOFF_TYPE);
    lua_pushcfunction(L, backoff_call);
    lua_setfield(L, -2, "__call");
    lua_pushliteral(L, "backoff");
    lua_setfield(L, -2, "__metatable");
    lua_pop(L, 1);
}
