/* The control socket of a runtime. See server.h. Loop thread. */
#include "control/server.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/unix_socket.h"
#include "control/path.h"
#include "control/session.h"
#include "control/streams.h"

#define BACKLOG 16
#define CHECK_MS 1000u /* between two looks at the sessions */

struct control {
    md_runtime *rt;
    uv_pipe_t pipe;
    char path[CONTROL_PATH_SIZE];
    struct streams *streams;
    struct session *sessions;
    unsigned session_count;
    uv_timer_t check; /* runs while there are sessions */
    unsigned handles; /* open ones: the pipe, the timer */
    bool closing;
};

/* ---- sessions ---- */

/* Streams go when nobody uses them any more. */
static void end_when_closed(struct control *c)
{
    if (c->closing && c->handles == 0 && c->session_count == 0)
        streams_close(c->streams);
}

void control_session_ended(struct control *c)
{
    if (--c->session_count == 0 && !c->closing)
        uv_timer_stop(&c->check);
    end_when_closed(c);
}

static void on_check(uv_timer_t *timer)
{
    struct control *c = timer->data;
    uint64_t now = clock_ms();
    for (struct session *s = c->sessions; s != NULL; s = s->next)
        session_check(s, now);
}

static void on_connection(uv_stream_t *stream, int status)
{
    struct control *c = stream->data;
    if (status != 0 || c->closing)
        return;
    struct session *s = session_accept(c, c->streams, stream);
    if (s == NULL)
        return;
    s->next = c->sessions;
    if (s->next != NULL)
        s->next->back = &s->next;
    s->back = &c->sessions;
    c->sessions = s;
    if (++c->session_count > CONTROL_CLIENTS_MAX)
        session_close(s);
    if (!uv_is_active((uv_handle_t *)&c->check))
        uv_timer_start(&c->check, on_check, CHECK_MS, CHECK_MS);
}

/* ---- listening ---- */

static int try_to_bind(struct control *c)
{
    int failed = uv_pipe_bind(&c->pipe, c->path);
    if (failed != UV_EADDRINUSE || !unix_socket_is_left_over(c->path))
        return failed;
    unlink(c->path);
    return uv_pipe_bind(&c->pipe, c->path);
}

static int listen_at(struct control *c)
{
    int failed = try_to_bind(c);
    if (failed != 0)
        return failed;
    if (chmod(c->path, 0600) != 0)
        return uv_translate_sys_error(errno);
    return uv_listen((uv_stream_t *)&c->pipe, BACKLOG, on_connection);
}

static void on_handle_closed(uv_handle_t *handle)
{
    struct control *c = handle->data;
    c->handles--;
    end_when_closed(c);
}

struct control *control_new(md_runtime *rt, const char *path, error *e)
{
    struct control *c = calloc(1, sizeof *c);
    if (c != NULL && strlen(path) < sizeof c->path)
        c->streams = streams_new(rt);
    if (c == NULL || c->streams == NULL) {
        free(c);
        error_set(e, "control", ERROR_CLASS_NONE,
                  "the control socket %s cannot be made: no memory, or its path has more than %d "
                  "bytes",
                  path, CONTROL_PATH_SIZE - 1);
        return NULL;
    }
    memcpy(c->path, path, strlen(path) + 1);
    c->rt = rt;
    uv_pipe_init(rt->loop, &c->pipe, 0);
    uv_timer_init(rt->loop, &c->check);
    uv_unref((uv_handle_t *)&c->check);
    c->pipe.data = c->check.data = c;
    c->handles = 2;
    rt->control = c;
    int failed = listen_at(c);
    uv_unref((uv_handle_t *)&c->pipe);
    if (failed == 0)
        return c;
    error_set(e, failed == UV_EADDRINUSE ? "in_use" : "control", ERROR_CLASS_NONE,
              failed == UV_EADDRINUSE
                  ? "the control socket %s is in use (%s): give this process another --name"
                  : "the control socket %s cannot be made: %s; see --control",
              path, uv_strerror(failed));
    control_close(c);
    return NULL;
}

void control_turn(struct control *c)
{
    if (c == NULL)
        return;
    for (struct session *s = c->streams->paused > 0 ? c->sessions : NULL, *next; s != NULL;
         s = next) {
        next = s->next;
        session_go_on(s);
    }
    streams_turn(c->streams);
}

void control_close(struct control *c)
{
    if (c == NULL || c->closing)
        return;
    c->closing = true;
    uv_close((uv_handle_t *)&c->check, on_handle_closed);
    uv_close((uv_handle_t *)&c->pipe, on_handle_closed); /* removes the socket's file, too */
    for (struct session *s = c->sessions; s != NULL; s = s->next)
        session_close(s);
}

bool control_closed(md_runtime *rt)
{
    struct control *c = rt->control;
    if (c == NULL)
        return true;
    sessions_flush(c->streams); /* there are no turns any more */
    if (!c->streams->closing || !streams_closed(c->streams))
        return false;
    streams_free(c->streams);
    free(c);
    rt->control = NULL;
    return true;
}
