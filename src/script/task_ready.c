/* Tasks that begin or go on between two turns of the loop: spawned ones, those whose timer has
 * fired, those that were preempted. See task.h. Loop thread. */
#include <lauxlib.h>
#include <stdlib.h>

#include "script/slice.h"
#include "script/task_private.h"

#define READY_SLICE_NS 2000000u /* of a turn of the loop, for tasks that begin or go on */
#define SPAWNED_BYTES (sizeof(struct task) + sizeof(struct spawned))

void task_start_soon(struct task *t, int count)
{
    t->callback->calls++;
    task_queue(t, count);
}

void task_queue(struct task *t, int count)
{
    struct generation *g = t->generation;
    t->number = (uint64_t)count;
    t->next = NULL;
    *g->spawned_end = t;
    g->spawned_end = &t->next;
    g->spawned_count++;
    if (g->committed)
        hub_again(g->limits.hub);
}

struct spawned {
    struct generation *generation;
    struct callback callback;
};

static void on_spawned_finished(void *closure)
{
    struct spawned *s = closure;
    generation_discharge(s->generation, SPAWNED_BYTES);
    sentinel_settle(s->generation->limits.sentinel); /* the callback is freed next */
    free(s);
}

void task_spawn(lua_State *L)
{
    struct generation *g = generation_of(L);
    int count = lua_gettop(L) - 1;
    lua_State *co = lua_newthread(L);
    int ref = luaL_ref(L, LUA_REGISTRYINDEX); /* nothing raises an error after this */
    bool room = lua_checkstack(co, count + 1) && generation_charge(L, SPAWNED_BYTES);
    struct task *t = room ? calloc(1, sizeof *t) : NULL;
    struct spawned *s = t != NULL ? calloc(1, sizeof *s) : NULL;
    if (s == NULL) {
        luaL_unref(L, LUA_REGISTRYINDEX, ref);
        if (room)
            generation_discharge(g, SPAWNED_BYTES);
        free(t);
        luaL_error(L, "no memory for a task");
        return;
    }
    s->generation = g;
    callback_init(&s->callback, "task", NULL);
    callback_set_place(&s->callback, L, 1);
    lua_xmove(L, co, count + 1);
    *t = (struct task){.generation = g,
                       .co = co,
                       .co_ref = ref,
                       .callback = &s->callback,
                       .finished = on_spawned_finished,
                       .finished_closure = s};
    task_start_soon(t, count);
}

static struct task *take_spawned(struct generation *g)
{
    struct task *t = g->spawned;
    g->spawned = t->next;
    if (g->spawned == NULL)
        g->spawned_end = &g->spawned;
    t->next = NULL;
    g->spawned_count--;
    return t;
}

/* Those that come meanwhile have their turn later: timers and messages come between. */
static void run_due(struct generation *g)
{
    uint64_t until = g->due != NULL ? hub_slice(g->limits.hub, READY_SLICE_NS) : 0;
    for (unsigned left = g->due_count; left > 0 && g->due != NULL; left--) {
        if (hub_is_late(g->limits.hub))
            return;
        struct task *t = g->due;
        task_forget_due(t);
        g->going_on = t;
        if (t->on_timeout != NULL)
            t->on_timeout(t);
        g->going_on = NULL;
        if (uv_hrtime() >= until)
            return;
    }
}

static void run_spawned(struct generation *g)
{
    uint64_t until = g->spawned != NULL ? hub_slice(g->limits.hub, READY_SLICE_NS) : 0;
    for (unsigned left = g->spawned_count; left > 0 && g->spawned != NULL; left--) {
        if (hub_is_late(g->limits.hub))
            return;
        struct task *t = take_spawned(g);
        task_run(t, (int)t->number);
        if (uv_hrtime() >= until)
            return;
    }
}

/* In a poll the first kind may take all of the time, again and again: then another one is the first
 * in the next. */
void task_run_ready(struct generation *g)
{
    static void (*const kinds[])(struct generation *) = {slice_run_next, run_due, run_spawned};
    const unsigned count = sizeof kinds / sizeof kinds[0];
    bool had_time = !hub_is_late(g->limits.hub);
    for (unsigned i = 0; i < count; i++)
        kinds[(g->first_kind + i) % count](g);
    if (had_time && hub_is_late(g->limits.hub))
        g->first_kind = (g->first_kind + 1) % count;
    if (g->due != NULL || g->spawned != NULL)
        hub_again(g->limits.hub);
}

unsigned task_ready_count(const struct generation *g)
{
    return g->due_count + g->spawned_count + g->slices.count;
}
