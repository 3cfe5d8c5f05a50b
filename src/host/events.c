/* Events from the host to scripts. See events.h and moondog.h. Loop thread, but on_event while the
 * generation is loaded. */
#include "host/events.h"

#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>
#include <uthash.h>

#include "host/value.h"
#include "runtime_private.h"
#include "script/api.h"
#include "script/failure.h"
#include "script/task.h"

#define SLICE_NS 2000000u /* of a turn of the loop */

/* The functions for one event, in the order in which the script gave them. */
struct event_handlers {
    struct callback_node *first, *last;
    unsigned count;
    UT_hash_handle hh;
    char name[];
};

struct queued_event {
    struct queued_event *next;
    arena arena;
    md_value data;
    char name[];
};

/* ---- handlers ---- */

static struct event_handlers *find(const struct generation *g, const char *event)
{
    struct event_handlers *h = NULL;
    HASH_FIND_STR(g->events, event, h);
    return h;
}

static struct event_handlers *make(struct generation *g, const char *event)
{
    size_t size = strlen(event) + 1;
    struct event_handlers *h = calloc(1, sizeof *h + size);
    if (h == NULL)
        return NULL;
    memcpy(h->name, event, size);
    HASH_ADD_STR(g->events, name, h);
    return h;
}

int events_on_event(lua_State *L)
{
    struct generation *g = generation_of(L);
    size_t length;
    const char *event = luaL_checklstring(L, 1, &length);
    luaL_checktype(L, 2, LUA_TFUNCTION);
    luaL_argcheck(L, strlen(event) == length, 1, "the name of an event has no zero byte");
    api_check_not(L, g->retiring, "moondog.on_event");
    struct event_handlers *h = find(g, event);
    if (!generation_charge(L, sizeof(struct callback_node)))
        return luaL_error(L, "no memory for an event handler: see --memory");
    struct callback_node *node = calloc(1, sizeof *node);
    if (node != NULL && h == NULL)
        h = make(g, event);
    if (node == NULL || h == NULL) {
        free(node);
        generation_discharge(g, sizeof *node);
        return luaL_error(L, "no memory for an event handler");
    }
    callback_init(&node->callback, "event", event);
    *(h->last != NULL ? &h->last->next : &h->first) = node;
    h->last = node;
    h->count++;
    callback_set(&node->callback, L, 2);
    return 0;
}

void events_clear(struct generation *g)
{
    for (struct event_handlers *h = g->events; h != NULL; h = h->hh.next)
        for (struct callback_node *n = h->first; n != NULL; n = n->next) {
            callback_clear(&n->callback, g->L);
            generation_discharge(g, sizeof *n);
        }
}

void events_free(struct generation *g)
{
    while (g->events != NULL) {
        struct event_handlers *h = g->events;
        while (h->first != NULL) {
            struct callback_node *n = h->first;
            h->first = n->next;
            free(n);
        }
        HASH_DEL(g->events, h);
        free(h);
    }
}

/* ---- telling ---- */

/* [-0, +1] */
static void push_data(lua_State *L, void *closure)
{
    value_push(L, closure);
}

/* Each handler gets tables of its own. Whether it was called. */
static bool tell_one(struct generation *g, struct callback *cb, md_value *data)
{
    struct task *t = task_begin(g, cb);
    if (t == NULL)
        return false;
    if (generation_protect(g, push_data, data, 1, "data of an event") != 0) {
        failure r = {.from = NULL};
        failure_report(g, cb, &r, LUA_ERRMEM, false);
        task_drop(t);
        return false;
    }
    lua_xmove(g->L, t->co, 1);
    task_start(t, 1);
    return true;
}

/* Those that are there now: a handler may give more of them. */
static int tell(struct generation *g, const char *event, md_value *data)
{
    int called = 0;
    struct event_handlers *h = find(g, event);
    struct callback_node *n = h != NULL ? h->first : NULL;
    for (unsigned left = h != NULL ? h->count : 0; left > 0; left--, n = n->next)
        if (callback_is_set(&n->callback))
            called += tell_one(g, &n->callback, data);
    return called;
}

/* The generation that events are for; NULL: there is none. What the on_start functions of one that
 * takes over do is for that one, though it is not at work before they are done. */
static struct generation *listener(const md_runtime *rt)
{
    const struct functions *f = &rt->functions;
    bool takes_over = f->caller != NULL && f->caller->takeover != NULL;
    struct generation *g = takes_over ? f->caller : rt->generation;
    return g != NULL && !g->closing && !rt->stopped && !rt->events.ended ? g : NULL;
}

static struct queued_event *take(struct events *all)
{
    struct queued_event *q = all->first;
    all->first = q->next;
    if (all->first == NULL)
        all->last = NULL;
    all->queued--;
    all->queued_bytes -= q->arena.bytes;
    return q;
}

static void drop(struct queued_event *q)
{
    arena_free(&q->arena);
    free(q);
}

/* Those that come meanwhile have their turn later. */
void events_turn(md_runtime *rt)
{
    struct events *all = &rt->events;
    uint64_t until = all->queued > 0 ? hub_slice(&rt->hub, SLICE_NS) : 0;
    for (unsigned left = all->queued; left > 0 && all->queued > 0; left--) {
        if (hub_is_late(&rt->hub))
            break;
        struct queued_event *q = take(all);
        struct generation *g = listener(rt);
        if (g != NULL)
            tell(g, q->name, &q->data);
        drop(q);
        if (uv_hrtime() >= until)
            break;
    }
    if (all->queued > 0)
        hub_again(&rt->hub);
    else
        all->refusing = false;
}

void events_end(md_runtime *rt)
{
    rt->events.ended = true;
    while (rt->events.first != NULL)
        drop(take(&rt->events));
}

/* ---- emitting ---- */

static int refuse(md_runtime *rt, const char *event, const char *why)
{
    rt->events.refused++;
    log_emit(rt->log, LOG_ERROR, "event refused", log_str("event", event), log_str("error", why));
    return -1;
}

/* Once until there is room again. */
static int refuse_at_cap(md_runtime *rt, const char *event)
{
    struct events *all = &rt->events;
    if (all->refusing) {
        all->refused++;
        return -1;
    }
    all->refusing = true;
    return refuse(rt, event,
                  "too many wait to be told: functions of the host emit faster than the script "
                  "handles; further ones are counted and not logged");
}

static int enqueue(md_runtime *rt, const char *event, const md_value *data)
{
    struct events *all = &rt->events;
    size_t size = strlen(event) + 1;
    error e = {0};
    if (all->queued >= MD_EVENTS_MAX || all->queued_bytes >= EVENTS_BYTES_MAX)
        return refuse_at_cap(rt, event);
    struct queued_event *q = calloc(1, sizeof *q + size);
    if (q == NULL)
        return refuse(rt, event, "no memory");
    memcpy(q->name, event, size);
    if (value_copy(&q->arena, data, &q->data, &e) != 0) {
        drop(q);
        return refuse(rt, event, e.message);
    }
    *(all->last != NULL ? &all->last->next : &all->first) = q;
    all->last = q;
    all->queued++;
    all->queued_bytes += q->arena.bytes;
    hub_again(&rt->hub);
    return 0;
}

/* The data is copied: a handler may call the host, which may change it. The loop may not turn now:
 * what takes long is noticed all the same, and what the handlers leave to do wakes it. */
static int tell_now(md_runtime *rt, struct generation *g, const char *event, const md_value *data)
{
    arena a = {0};
    md_value copied;
    error e = {0};
    bool rests = !pulse_is_awake(&rt->hub.pulse);
    hub_awake(&rt->hub);
    int called = value_copy(&a, data, &copied, &e) == 0 ? tell(g, event, &copied)
                                                        : refuse(rt, event, e.message);
    arena_free(&a);
    hub_again(&rt->hub);
    if (rests)
        pulse_rest(&rt->hub.pulse, uv_hrtime());
    return called;
}

int md_emit(md_runtime *rt, const char *event, const md_value *data)
{
    struct events *all = &rt->events;
    struct generation *g = listener(rt);
    const struct event_handlers *h = g != NULL ? find(g, event) : NULL;
    if (h == NULL) {
        all->unheard++;
        return 0;
    }
    bool later = budget_inside() || all->queued > 0; /* in order */
    int count = (int)h->count;
    int result = later ? enqueue(rt, event, data) : tell_now(rt, g, event, data);
    if (result < 0)
        return -1;
    all->emitted++;
    return later ? count : result;
}
