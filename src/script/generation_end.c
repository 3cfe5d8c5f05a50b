/* The end of a generation: it retires, is cancelled, and gives its memory back in slices. See
 * generation.h. Loop thread. */
#include <lauxlib.h>
#include <stdlib.h>

#include "base/clock.h"
#include "host/events.h"
#include "script/api.h"
#include "script/keeper.h"
#include "script/outbox_declaration.h"
#include "script/task.h"

#define EMPTY_BYTES (256u * 1024) /* closing a state with less is quick */
#define STEP_BYTES 1024u          /* that make the collector do a step */
#define STEP_MULTIPLIER 4000      /* of the work in one step: some 40 KiB */

void generation_retire(struct generation *g)
{
    g->retiring = true;
    g->retire_deadline = clock_ms() + g->limits.retire_ms;
    for (struct binding *b = g->bindings; b != NULL; b = b->next)
        binding_silence(b);
    generation_unload(g);
}

bool generation_has_finished(const struct generation *g)
{
    if (generation_is_busy(g))
        return false;
    for (const struct binding *b = g->bindings; b != NULL; b = b->next)
        if (b->handlers != NULL || (b->newer == NULL && b->connection != NULL))
            return false;
    return true;
}

bool generation_cancel(struct generation *g)
{
    uint64_t until = hub_slice(g->limits.hub, GENERATION_SLICE_NS);
    error e = {0};
    error_set(&e, "replaced", ERROR_CLASS_NONE,
              "this generation of the script was replaced, and had %.1f s to finish",
              g->limits.retire_ms / 1000.0);
    g->cancelled = true;
    while (g->slices.first != NULL) /* in the middle of something: it cannot be told */
        task_drop(g->slices.first);
    while (g->parked != NULL && uv_hrtime() < until)
        task_interrupt(g->parked, &e);
    return g->parked == NULL;
}

static void clear_callbacks(struct callback_node *list, lua_State *L)
{
    for (; list != NULL; list = list->next)
        callback_clear(&list->callback, L);
}

/* Cuts what the script could reach, so that the collector can take it in slices. */
static int drop_roots(lua_State *L)
{
    struct generation *g = lua_touserdata(L, 1);
    luaL_unref(L, LUA_REGISTRYINDEX, g->module_ref);
    luaL_unref(L, LUA_REGISTRYINDEX, g->old_version_ref);
    clear_callbacks(g->on_start, L);
    clear_callbacks(g->on_unload, L);
    events_clear(g);
    lua_newtable(L);
    lua_setfield(L, LUA_REGISTRYINDEX, "_LOADED");
    lua_newtable(L);
    lua_replace(L, LUA_GLOBALSINDEX);
    lua_gc(L, LUA_GCSETSTEPMUL, STEP_MULTIPLIER);
    g->steps_left = 100 + g->memory / STEP_BYTES; /* more than two cycles take */
    return 0;
}

void generation_close(struct generation *g)
{
    if (g->closing)
        return;
    g->closing = true;
    api_close_timers(g);
    keeper_close_all(g);
    task_close_all(g);
    outbox_declarations_release(g);
    for (struct binding *b = g->bindings; b != NULL; b = b->next)
        binding_detach(b);
    generation_sweep(g);
    if (lua_cpcall(g->L, drop_roots, g) != 0)
        lua_pop(g->L, 1);
}

/* lua_gc(LUA_GCSTEP) also does all the work that the collector was behind, which may be long; an
 * allocation of this size lets it do exactly one step. */
static int collect_slice(lua_State *L)
{
    struct generation *g = lua_touserdata(L, 1);
    uint64_t until = hub_slice(g->limits.hub, GENERATION_SLICE_NS);
    while (g->memory > EMPTY_BYTES && g->steps_left > 0 && uv_hrtime() < until) {
        g->steps_left--;
        lua_newuserdata(L, STEP_BYTES);
        lua_pop(L, 1);
    }
    return 0;
}

/* Closing a state frees all that it has in one go, which may take long: most of it is collected
 * before, in slices. */
static bool is_empty(struct generation *g)
{
    if (lua_cpcall(g->L, collect_slice, g) != 0)
        return true;
    return g->memory <= EMPTY_BYTES || g->steps_left == 0;
}

bool generation_close_step(struct generation *g, bool hurry)
{
    if (g->L != NULL) {
        if (!hurry && !is_empty(g)) /* finalizers are ours: scripts can have none */
            return false;
        budget_forget(g->limits.sentinel, &g->budget);
        lua_close(g->L); /* the handles of timers that scripts still held are closed by this */
        g->L = NULL;
    }
    return g->handles == 0;
}

static void free_callbacks(struct callback_node *list)
{
    while (list != NULL) {
        struct callback_node *next = list->next;
        free(list);
        list = next;
    }
}

void generation_free(struct generation *g)
{
    for (struct binding *b = g->bindings, *next; b != NULL; b = next) {
        next = b->next;
        binding_free(b);
    }
    outbox_declarations_free(g);
    free_callbacks(g->on_start);
    free_callbacks(g->on_unload);
    events_free(g);
    source_names_clear(&g->source_names);
    sources_release(g->sources);
    free(g->path);
    free(g);
}
