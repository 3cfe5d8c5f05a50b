/* What is pushed to the clients of the control socket. See streams.h. Loop thread. */
#include "control/streams.h"

#include <stdlib.h>

struct streams *streams_new(md_runtime *rt)
{
    struct streams *s = calloc(1, sizeof *s);
    if (s == NULL)
        return NULL;
    s->rt = rt;
    if (log_stream_init(s) != 0) {
        free(s);
        return NULL;
    }
    watch_stream_init(s);
    return s;
}

void streams_turn(struct streams *s)
{
    const struct generation *g = s->rt->generation;
    if (s->watchers != NULL && g != NULL && g->number != s->watched_generation)
        watch_stream_look(s);
    sessions_flush(s);
}

static void on_closed(uv_handle_t *handle)
{
    struct streams *s = handle->data;
    s->handles--;
}

void streams_close(struct streams *s)
{
    if (s->closing)
        return;
    s->closing = true;
    log_stream_close(s);
    uv_close((uv_handle_t *)&s->log_wake, on_closed);
    uv_close((uv_handle_t *)&s->watch_timer, on_closed);
}

bool streams_closed(const struct streams *s)
{
    return s->handles == 0;
}

void streams_free(struct streams *s)
{
    if (s == NULL)
        return;
    log_stream_free(s);
    free(s);
}
