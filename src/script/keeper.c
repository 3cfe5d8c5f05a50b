/* Tasks that no failure may end. See keeper.h. Loop thread. */
#include "script/keeper.h"

#include <lauxlib.h>
#include <stdlib.h>

#include "script/task.h"

#define AGAIN_MS 1000u

struct keeper {
    struct generation *generation;
    struct keeper *next, **back;
    struct callback callback;
    uv_timer_t timer; /* until it begins again */
    bool over;
};

static void on_closed(uv_handle_t *handle)
{
    struct keeper *k = handle->data;
    k->generation->handles--;
    free(k);
}

static void end(struct keeper *k)
{
    *k->back = k->next;
    if (k->next != NULL)
        k->next->back = k->back;
    callback_clear(&k->callback, k->generation->L);
    uv_close((uv_handle_t *)&k->timer, on_closed);
}

static void on_again(uv_timer_t *timer);

static void on_finished(void *closure)
{
    struct keeper *k = closure;
    const struct generation *g = k->generation;
    if (k->over || g->closing || g->cancelled)
        end(k);
    else
        uv_timer_start(&k->timer, on_again, AGAIN_MS, 0);
}

static void begin(struct keeper *k)
{
    struct task *t = task_begin(k->generation, &k->callback);
    if (t == NULL) {
        on_finished(k);
        return;
    }
    t->finished = on_finished;
    t->finished_closure = k;
    task_start_soon(t, 0);
}

static void on_again(uv_timer_t *timer)
{
    begin(timer->data);
}

int keeper_start_lua(lua_State *L)
{
    struct generation *g = generation_of(L);
    luaL_checktype(L, 1, LUA_TFUNCTION);
    struct callback cb;
    callback_init(&cb, "task", NULL);
    callback_set(&cb, L, 1);
    struct keeper *k = calloc(1, sizeof *k);
    if (k == NULL) {
        callback_clear(&cb, L);
        return luaL_error(L, "no memory for a task");
    }
    k->generation = g;
    k->callback = cb;
    uv_timer_init(g->limits.hub->loop, &k->timer);
    k->timer.data = k;
    g->handles++;
    k->next = g->keepers;
    k->back = &g->keepers;
    if (k->next != NULL)
        k->next->back = &k->next;
    g->keepers = k;
    begin(k);
    return 0;
}

int keeper_over_lua(lua_State *L)
{
    struct task *t = generation_of(L)->running;
    if (t != NULL && t->finished == on_finished) {
        struct keeper *k = t->finished_closure;
        k->over = true;
    }
    return 0;
}

void keeper_close_all(struct generation *g)
{
    for (struct keeper *k = g->keepers, *next; k != NULL; k = next) {
        next = k->next;
        if (uv_is_active((uv_handle_t *)&k->timer)) /* the others end with their tasks */
            end(k);
    }
}
