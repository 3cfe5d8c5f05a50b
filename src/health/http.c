/* The HTTP server of health. See http.h. Everything but http_new() and http_free() runs on the
 * server's own thread. */
#include "health/http.h"

#include <microhttpd.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <uv.h>

#include "health/address.h"
#include "health/pages.h"

#define HARD_CLIENTS_MAX (HTTP_CLIENTS_MAX + 32u) /* with those that are being closed */

/* A connection, in the order in which they last had an answer, or came. */
struct client {
    struct client *next, **back;
    int fd;
    size_t answer; /* bytes of the one that is on its way to it */
};

struct http {
    struct pages *pages;
    struct MHD_Daemon *daemon;
    char *where;
    listen_address address;
    struct client *oldest, **newest;
    unsigned count;
    size_t answers; /* bytes of all that are on their way */
};

/* ---- clients ---- */

static void leave(struct http *s, struct client *c)
{
    if (c->back == NULL)
        return;
    *c->back = c->next;
    if (c->next != NULL)
        c->next->back = c->back;
    else
        s->newest = c->back;
    c->back = NULL;
    s->count--;
    s->answers -= c->answer;
}

static void join(struct http *s, struct client *c)
{
    c->next = NULL;
    c->back = s->newest;
    *s->newest = c;
    s->newest = &c->next;
    s->count++;
    s->answers += c->answer;
}

/* The library sees the end of it, and closes it. */
static void turn_out(struct http *s, struct client *c)
{
    leave(s, c);
    shutdown(c->fd, SHUT_RDWR);
}

/* A probe that comes now is worth more than a connection that was silent for the longest. */
static void make_room(struct http *s)
{
    while (s->count > HTTP_CLIENTS_MAX)
        turn_out(s, s->oldest);
}

/* An answer for `c` is on its way. Whoever does not read a large one keeps it in memory. */
static void note_answer(struct http *s, struct client *c, size_t length)
{
    if (c == NULL || c->back == NULL)
        return;
    s->answers += length - c->answer;
    c->answer = length;
    for (struct client *old = s->oldest, *next; old != NULL && s->answers > HTTP_ANSWER_BYTES;
         old = next) {
        next = old->next;
        if (old != c && old->answer > 0)
            turn_out(s, old);
    }
}

static struct client *client_of(struct MHD_Connection *connection)
{
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_SOCKET_CONTEXT);
    return info != NULL ? info->socket_context : NULL;
}

static void on_connection(void *closure, struct MHD_Connection *connection, void **context,
                          enum MHD_ConnectionNotificationCode code)
{
    struct http *s = closure;
    struct client *c = *context;
    if (code == MHD_CONNECTION_NOTIFY_CLOSED) {
        if (c != NULL)
            leave(s, c);
        free(c);
        *context = NULL;
        return;
    }
    const union MHD_ConnectionInfo *info =
        MHD_get_connection_info(connection, MHD_CONNECTION_INFO_CONNECTION_FD);
    c = calloc(1, sizeof *c);
    *context = c;
    if (c == NULL || info == NULL)
        return; /* one that cannot be asked to make room: its time is limited all the same */
    c->fd = info->connect_fd;
    join(s, c);
    make_room(s);
}

static void on_completed(void *closure, struct MHD_Connection *connection, void **context,
                         enum MHD_RequestTerminationCode code)
{
    struct http *s = closure;
    struct client *c = client_of(connection);
    (void)context;
    if (c == NULL || c->back == NULL || code != MHD_REQUEST_TERMINATED_COMPLETED_OK)
        return;
    leave(s, c);
    c->answer = 0;
    join(s, c);
}

/* ---- requests ---- */

static enum MHD_Result on_request(void *closure, struct MHD_Connection *connection,
                                  const char *path, const char *method, const char *version,
                                  const char *upload, size_t *upload_size, void **context)
{
    static const char seen;
    struct http *s = closure;
    (void)version;
    (void)upload;
    bool reads = strcmp(method, "GET") == 0 || strcmp(method, "HEAD") == 0;
    if (*context == NULL && reads) { /* an answer at the first call would end the connection */
        *context = (void *)&seen;
        return MHD_YES;
    }
    if (*upload_size > 0) /* a GET with a body */
        return MHD_NO;
    page_answer answer;
    if (!pages_answer(s->pages, method, path, &answer))
        return MHD_NO;
    note_answer(s, client_of(connection), answer.length);
    return MHD_queue_response(connection, answer.status, answer.response);
}

/* ---- making and ending ---- */

static int start(struct http *s, int fd, error *e)
{
    s->daemon = MHD_start_daemon(
        MHD_USE_INTERNAL_POLLING_THREAD | MHD_USE_EPOLL, 0, NULL, NULL, on_request, s,
        MHD_OPTION_LISTEN_SOCKET, fd, MHD_OPTION_CONNECTION_LIMIT, HARD_CLIENTS_MAX,
        MHD_OPTION_CONNECTION_TIMEOUT, HTTP_IDLE_S, MHD_OPTION_CONNECTION_MEMORY_LIMIT,
        (size_t)HTTP_REQUEST_BYTES, MHD_OPTION_NOTIFY_CONNECTION, on_connection, s,
        MHD_OPTION_NOTIFY_COMPLETED, on_completed, s, MHD_OPTION_END);
    if (s->daemon != NULL)
        return 0;
    close(fd);
    return error_set(e, "http", ERROR_CLASS_NONE,
                     "cannot start the HTTP server for health: no memory or no thread");
}

struct http *http_new(struct health *h, const char *where, struct logger *log, error *e)
{
    char text[LISTEN_TEXT_SIZE];
    struct http *s = calloc(1, sizeof *s);
    if (s == NULL || (s->where = strdup(where)) == NULL || (s->pages = pages_new(h)) == NULL) {
        free(s != NULL ? s->where : NULL);
        free(s);
        error_set(e, "no_memory", ERROR_CLASS_LIMIT, "no memory for the HTTP server");
        return NULL;
    }
    s->newest = &s->oldest;
    int fd = -1;
    if (listen_parse(s->where, &s->address, e) != 0 || (fd = listen_open(&s->address, e)) < 0) {
        pages_free(s->pages);
        free(s->where);
        free(s);
        return NULL;
    }
    listen_describe(fd, &s->address, text);
    if (start(s, fd, e) != 0) {
        if (s->address.path != NULL)
            unlink(s->address.path);
        pages_free(s->pages);
        free(s->where);
        free(s);
        return NULL;
    }
    log_emit(log, LOG_INFO, "health is served", log_str("http", text));
    return s;
}

void http_free(struct http *s)
{
    if (s == NULL)
        return;
    MHD_stop_daemon(s->daemon); /* and its thread */
    if (s->address.path != NULL)
        unlink(s->address.path);
    pages_free(s->pages);
    free(s->where);
    free(s);
}
