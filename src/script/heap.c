/* The memory of a generation. See heap.h. */
#include "script/heap.h"

#include <limits.h>
#include <stdlib.h>
#include <string.h>

#define CHARGE_STEP_BYTES (256u * 1024)
#define RESERVE_BYTES (32u * 1024)
#define ALIGNMENT 16u

/* LuaJIT (of 2022, fixed later) crashes when it gets no memory for the first few blocks of a
 * lua_State, before it has a table of strings. In that case they come from here. A state that
 * needed any of it is not used. */
struct heap_reserve {
    size_t used;
    _Alignas(ALIGNMENT) char bytes[RESERVE_BYTES];
};

static bool is_reserved(const struct generation *g, const void *block)
{
    const struct heap_reserve *r = g->reserve;
    return r != NULL && (const char *)block >= r->bytes &&
           (const char *)block < r->bytes + RESERVE_BYTES;
}

static void *take_reserve(struct generation *g, size_t size)
{
    struct heap_reserve *r = g->reserve;
    if (r == NULL || size > RESERVE_BYTES - r->used)
        return NULL;
    void *block = r->bytes + r->used;
    r->used += (size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    return block;
}

static void *resize(struct generation *g, void *block, size_t old, size_t size)
{
    if (g->limits.alloc != NULL)
        return g->limits.alloc(g->limits.alloc_closure, block, old, size);
    if (size > 0)
        return realloc(block, size);
    free(block);
    return NULL;
}

static void release(struct generation *g, void *block, size_t old)
{
    if (block != NULL && !is_reserved(g, block))
        resize(g, block, old, 0);
    g->memory -= old;
}

/* Under the cap. NULL: the block is as it was. */
static void *resize_within_cap(struct generation *g, void *block, size_t old, size_t size)
{
    size_t cap = g->limits.memory_cap;
    if (cap > 0 && size > old && !g->closing && g->memory - old + size > cap) {
        g->memory_refusals++;
        return NULL;
    }
    return resize(g, block, old, size);
}

/* While the lua_State is made. */
static void *resize_surely(struct generation *g, void *block, size_t old, size_t size)
{
    bool reserved = block != NULL && is_reserved(g, block);
    void *fresh = resize_within_cap(g, reserved ? NULL : block, reserved ? 0 : old, size);
    bool moved = reserved;
    if (fresh == NULL) {
        fresh = take_reserve(g, size);
        moved = true;
    }
    if (fresh == NULL || block == NULL || !moved)
        return fresh;
    memcpy(fresh, block, old < size ? old : size);
    if (!reserved)
        resize(g, block, old, 0);
    return fresh;
}

static void *allocate(void *closure, void *block, size_t old, size_t size)
{
    struct generation *g = closure;
    if (size == 0) {
        release(g, block, old);
        return NULL;
    }
    void *fresh = g->reserve != NULL ? resize_surely(g, block, old, size)
                                     : resize_within_cap(g, block, old, size);
    if (fresh != NULL)
        g->memory += size - old;
    if (g->memory > g->memory_peak)
        g->memory_peak = g->memory;
    return fresh;
}

lua_State *heap_new_state(struct generation *g)
{
    g->reserve = malloc(sizeof *g->reserve);
    if (g->reserve == NULL)
        return NULL;
    g->reserve->used = 0;
    lua_State *L = lua_newstate(allocate, g);
    if (L != NULL && g->reserve->used > 0) {
        lua_close(L);
        L = NULL;
    }
    free(g->reserve);
    g->reserve = NULL;
    return L;
}

/* The interpreter's collector does not see these bytes: it is given work in proportion. */
bool generation_charge(lua_State *L, size_t bytes)
{
    struct generation *g = generation_of(L);
    size_t cap = g->limits.memory_cap;
    g->charged += bytes;
    if (g->charged >= CHARGE_STEP_BYTES) {
        lua_gc(L, LUA_GCSTEP, (int)(g->charged / 1024 < INT_MAX ? g->charged / 1024 : INT_MAX));
        g->charged = 0;
    }
    if (cap > 0 && g->memory + bytes > cap) {
        g->memory_refusals++;
        return false;
    }
    g->memory += bytes;
    return true;
}

void generation_discharge(struct generation *g, size_t bytes)
{
    g->memory -= bytes;
}
