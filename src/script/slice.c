/* Slices of tasks that run long. See slice.h. Loop thread. */
#include "script/slice.h"

#include "script/task_private.h"

#define LOOK_AT_CLOCK_EVERY 200 /* instructions */
#define BUSY_NS 10000000u       /* after a message, the loop counts as busy for so long */

/* LuaJIT lets a count hook yield. While the coroutines around the one that yielded pass that on,
 * none of them is preempted, too. */
static void preempt(lua_State *L, lua_Debug *ar)
{
    struct generation *g = generation_of(L);
    (void)ar;
    if (g->slices.preempted || uv_hrtime() < g->slices.until || !lua_isyieldable(L))
        return;
    g->slices.preempted = true;
    lua_yield(L, 0);
}

/* A machine that is very busy may not let a slice come to its end within the time budget. */
void slice_begin(struct generation *g)
{
    g->budget.preempt = preempt;
    g->slices.until = uv_hrtime() + SLICE_NS;
    budget_hook(&g->budget, preempt, LOOK_AT_CLOCK_EVERY);
}

bool slice_end(struct generation *g)
{
    budget_rest(&g->budget);
    g->budget.preempt = NULL;
    bool preempted = g->slices.preempted;
    g->slices.preempted = false;
    return preempted;
}

int slice_was_preempted(lua_State *L)
{
    struct generation *g = generation_of(L);
    lua_pushboolean(L, g->slices.preempted);
    if (!lua_isyieldable(L))
        g->slices.preempted = false;
    return 1;
}

/* ---- those that wait for their next slice ---- */

void slice_add(struct task *t)
{
    struct slices *s = &t->generation->slices;
    t->preempted = true;
    t->number = 0; /* arguments or results that the slice begins with */
    t->next = NULL;
    t->back = s->end;
    *s->end = t;
    s->end = &t->next;
    s->count++;
    hub_again(t->generation->limits.hub);
}

void slice_start(struct task *t, int count)
{
    t->sliced = true;
    slice_add(t);
    t->number = (uint64_t)count;
}

void slice_remove(struct task *t)
{
    struct slices *s = &t->generation->slices;
    if (!t->preempted)
        return;
    t->preempted = false;
    *t->back = t->next;
    if (t->next != NULL)
        t->next->back = t->back;
    else
        s->end = t->back;
    t->next = NULL;
    t->back = NULL;
    s->count--;
}

/* Whether messages are being handled. */
static bool is_busy(struct generation *g, uint64_t now)
{
    struct slices *s = &g->slices;
    if (g->handled != s->handled)
        s->busy_until = now + BUSY_NS;
    s->handled = g->handled;
    return now < s->busy_until;
}

void slice_run_next(struct generation *g)
{
    struct slices *s = &g->slices;
    struct task *t = s->first;
    uint64_t now = uv_hrtime();
    if (t == NULL || now < s->rest_until)
        return;
    if (hub_is_late(g->limits.hub)) {
        hub_again(g->limits.hub);
        return;
    }
    slice_remove(t);
    task_run(t, (int)t->number);
    if (s->first == NULL || !is_busy(g, now))
        return;
    s->rest_until = now + SLICE_REST_MS * 1000000u;
    hub_later(g->limits.hub, SLICE_REST_MS + 1);
}
