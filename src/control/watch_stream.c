/* The state of the runtime for clients: they are told at once, and whenever it has changed. It is
 * looked at now and then, and only while somebody watches. Loop thread. */
#include <stdlib.h>
#include <string.h>

#include "conn/connection.h"
#include "control/streams.h"
#include "report.h"
#include "script/binding.h"

#define LOOK_MS 100u

/* What is told. Compared byte by byte: made by describe() alone. */
typedef struct {
    uint32_t generation;
    uint32_t connections, up;
    uint32_t stopping;
    watchdog_state worst;
} watched;

struct watcher {
    struct watcher *next, **back;
    struct request *request;
    watched told;
};

/* The worse, the higher. */
static int badness(watchdog_state state)
{
    static const watchdog_state order[] = {WATCHDOG_UP,           WATCHDOG_STOPPED,
                                           WATCHDOG_RECONNECTING, WATCHDOG_DIALING,
                                           WATCHDOG_IDLE,         WATCHDOG_CLOSED};
    int count = (int)(sizeof order / sizeof order[0]);
    for (int i = 0; i < count; i++)
        if (order[i] == state)
            return i;
    return count;
}

static void describe(const md_runtime *rt, watched *w)
{
    memset(w, 0, sizeof *w);
    w->stopping = rt->stopping;
    w->worst = WATCHDOG_UP;
    if (rt->generation == NULL)
        return;
    w->generation = rt->generation->number;
    for (const struct binding *b = rt->generation->bindings; b != NULL; b = b->next) {
        connection_state s = {.state = WATCHDOG_STOPPED};
        if (b->connection == NULL)
            continue; /* the script has closed it */
        connection_get_state(b->connection, &s);
        w->connections++;
        w->up += s.state == WATCHDOG_UP && s.ready;
        if (badness(s.state) > badness(w->worst))
            w->worst = s.state;
    }
}

static void tell(struct watcher *w, const watched *now)
{
    if (memcmp(&w->told, now, sizeof *now) == 0 || request_is_held(w->request))
        return; /* it is told the latest when there is room */
    w->told = *now;
    request_event(w->request, "state",
                  json_pack("{s:I, s:b, s:I, s:I, s:s}", "generation", (json_int_t)now->generation,
                            "stopping", (int)now->stopping, "connections",
                            (json_int_t)now->connections, "up", (json_int_t)now->up, "worst",
                            now->connections > 0 ? watchdog_state_name(now->worst) : "none"));
}

void watch_stream_look(struct streams *s)
{
    watched now;
    describe(s->rt, &now);
    s->watched_generation = now.generation;
    for (struct watcher *w = s->watchers; w != NULL; w = w->next)
        tell(w, &now);
}

static void on_look(uv_timer_t *timer)
{
    watch_stream_look(timer->data);
}

static void forget(struct request *r)
{
    struct watcher *w = r->closure;
    struct streams *s = r->session->streams;
    *w->back = w->next;
    if (w->next != NULL)
        w->next->back = w->back;
    free(w);
    if (s->watchers == NULL && !s->closing)
        uv_timer_stop(&s->watch_timer);
}

void stream_watch(struct request *r, json_t *args)
{
    struct streams *s = r->session->streams;
    struct watcher *w = calloc(1, sizeof *w);
    watched now;
    (void)args;
    if (w == NULL) {
        request_refuse(r, "no_memory", "no memory to watch", "");
        return;
    }
    w->request = r;
    w->told.generation = UINT32_MAX; /* nothing was told yet */
    w->next = s->watchers;
    if (w->next != NULL)
        w->next->back = &w->next;
    w->back = &s->watchers;
    s->watchers = w;
    r->closure = w;
    r->cancel = forget;
    describe(s->rt, &now);
    tell(w, &now);
    if (!uv_is_active((uv_handle_t *)&s->watch_timer))
        uv_timer_start(&s->watch_timer, on_look, LOOK_MS, LOOK_MS);
}

void watch_stream_init(struct streams *s)
{
    uv_timer_init(s->rt->loop, &s->watch_timer);
    uv_unref((uv_handle_t *)&s->watch_timer);
    s->watch_timer.data = s;
    s->handles++;
}
