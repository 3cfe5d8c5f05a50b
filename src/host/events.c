/* Events from the host to scripts. See events.h and moondog.h. Loop thread, but on_event while the
 * generation is loaded. */
#include "host/events.h"

#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
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

/* One that is told, or waits for it. */
struct queued_event {
    struct queued_event *next;
    arena arena;
    md_value data;
    uint32_t generation;     /* whose functions are called with it */
    unsigned told, handlers; /* so many of so many, as it began */
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
    if (hash_has(h))
        return h;
    free(h);
    return NULL;
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
    callback_init(&node->callback, "event", h->name);
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
    task_start_now(t, 1);
    return true;
}

/* Goes on with those that there were when it began: a handler may give more of them. False: the
 * host's time is over, and some are left. */
static bool tell(struct generation *g, struct queued_event *q, int *called)
{
    struct event_handlers *h = find(g, q->name);
    struct callback_node *n = h != NULL ? h->first : NULL;
    if (q->told == 0) {
        q->generation = g->number;
        q->handlers = h != NULL ? h->count : 0;
    }
    for (unsigned i = 0; i < q->told && n != NULL; i++)
        n = n->next;
    for (; q->told < q->handlers && n != NULL; q->told++, n = n->next) {
        if (hub_is_late(g->limits.hub))
            return false;
        if (callback_is_set(&n->callback))
            *called += tell_one(g, &n->callback, &q->data);
    }
    return true;
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

/* The one that has been told a part of it: it may have been replaced since. NULL: it has ended. */
static struct generation *teller(const md_runtime *rt, const struct queued_event *q)
{
    struct generation *g = rt->generation;
    if (q->told == 0)
        return listener(rt);
    if (g != NULL && g->number != q->generation)
        for (g = rt->reloads.retiring; g != NULL && g->number != q->generation;)
            g = g->next;
    return g != NULL && !g->closing ? g : NULL;
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

static void put(struct events *all, struct queued_event *q, bool first)
{
    q->next = first ? all->first : NULL;
    if (all->first == NULL)
        all->first = all->last = q;
    else if (first)
        all->first = q;
    else
        all->last = all->last->next = q;
    all->queued++;
    all->queued_bytes += q->arena.bytes;
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
        struct generation *g = teller(rt, q);
        int called = 0;
        if (g != NULL && !tell(g, q, &called))
            put(all, q, true);
        else
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

/* The data is copied: a handler may call the host, which may change it. NULL: that was said. */
static struct queued_event *new_event(md_runtime *rt, const char *event, const md_value *data)
{
    size_t size = strlen(event) + 1;
    error e = {0};
    struct queued_event *q = calloc(1, sizeof *q + size);
    if (q == NULL) {
        refuse(rt, event, "no memory");
        return NULL;
    }
    memcpy(q->name, event, size);
    if (value_copy(&q->arena, data, &q->data, &e) == 0)
        return q;
    drop(q);
    refuse(rt, event, e.message);
    return NULL;
}

/* The loop may not turn now: what takes long is noticed all the same, and what the handlers leave
 * to do wakes it. Returns how many were called, or will be. */
static int tell_now(md_runtime *rt, struct generation *g, struct queued_event *q)
{
    int called = 0;
    bool rests = !pulse_is_awake(&rt->hub.pulse);
    hub_awake(&rt->hub);
    if (tell(g, q, &called)) {
        drop(q);
    } else {
        called += (int)(q->handlers - q->told);
        put(&rt->events, q, true); /* before all that its handlers have emitted */
    }
    hub_again(&rt->hub);
    if (rests)
        pulse_rest(&rt->hub.pulse, uv_hrtime());
    return called;
}

int md_emit(md_runtime *rt, const char *event, const md_value *data)
{
    struct events *all = &rt->events;
    struct generation *g = listener(rt);
    if (event == NULL)
        return refuse(rt, "(NULL)", "an event needs a name");
    const struct event_handlers *h = g != NULL ? find(g, event) : NULL;
    if (h == NULL) {
        all->unheard++;
        return 0;
    }
    bool later = budget_inside() || all->queued > 0 || hub_is_late(&rt->hub); /* in order */
    if (later && (all->queued >= MD_EVENTS_MAX || all->queued_bytes >= EVENTS_BYTES_MAX))
        return refuse_at_cap(rt, event);
    int count = (int)h->count;
    struct queued_event *q = new_event(rt, event, data);
    if (q == NULL)
        return -1;
    all->emitted++;
    if (!later)
        return tell_now(rt, g, q);
    put(all, q, false);
    hub_again(&rt->hub);
    return count;
}
