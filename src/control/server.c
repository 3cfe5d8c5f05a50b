/* The control socket of a runtime. See server.h. Loop thread. */
#include "control/server.h"

#include <errno.h>
#include <jansson.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "control/frame.h"
#include "control/path.h"
#include "report.h"

#define BACKLOG 16

struct control {
    md_runtime *rt;
    uv_pipe_t pipe;
    char path[CONTROL_PATH_SIZE];
    struct client *clients;
    unsigned client_count;
    bool closing, pipe_closed;
};

/* Counted: the open handle, and each answer that is still to come. */
struct client {
    unsigned references;
    struct client *next, **back;
    struct control *control;
    uv_pipe_t pipe;
    frame_reader reader;
    bool closing, last_words; /* last_words: closed when all is written */
};

struct question {
    struct client *client;
    json_t *id;
};

/* ---- clients ---- */

static void free_when_closed(struct control *c)
{
    if (!c->closing || !c->pipe_closed || c->client_count > 0)
        return;
    c->rt->control = NULL;
    free(c);
}

static void client_release(struct client *client)
{
    if (--client->references > 0)
        return;
    struct control *c = client->control;
    frame_clear(&client->reader);
    *client->back = client->next;
    if (client->next != NULL)
        client->next->back = client->back;
    free(client);
    c->client_count--;
    free_when_closed(c);
}

static void on_client_closed(uv_handle_t *handle)
{
    client_release(handle->data);
}

static void client_close(struct client *client)
{
    if (client->closing)
        return;
    client->closing = true;
    uv_close((uv_handle_t *)&client->pipe, on_client_closed);
}

/* ---- answers ---- */

struct write {
    uv_write_t request;
    char *frame;
};

static void on_written(uv_write_t *request, int status)
{
    struct write *w = (struct write *)request;
    struct client *client = request->handle->data;
    free(w->frame);
    free(w);
    if (status != 0 || (client->last_words && client->pipe.write_queue_size == 0))
        client_close(client);
}

static void send_text(struct client *client, const char *json, size_t length)
{
    struct write *w = calloc(1, sizeof *w);
    size_t size = 0;
    if (w != NULL)
        w->frame = frame_make(json, length, &size);
    if (w == NULL || w->frame == NULL) {
        free(w);
        client_close(client);
        return;
    }
    uv_buf_t buffer = uv_buf_init(w->frame, (unsigned)size);
    if (uv_write(&w->request, (uv_stream_t *)&client->pipe, &buffer, 1, on_written) != 0) {
        free(w->frame);
        free(w);
        client_close(client);
    } else if (client->pipe.write_queue_size > CONTROL_UNREAD_BYTES_MAX) {
        client_close(client); /* it does not read */
    }
}

/* Takes `answer`. */
static void send_json(struct client *client, json_t *answer)
{
    char *text = json_dumps(answer, JSON_COMPACT | JSON_REAL_PRECISION(9));
    json_decref(answer);
    if (text == NULL)
        client_close(client); /* no memory: an answer must not be waited for */
    else if (!client->closing)
        send_text(client, text, strlen(text));
    free(text);
}

/* Takes `id` and `result`. */
static void answer(struct client *client, json_t *id, json_t *result)
{
    send_json(client, json_pack("{s:o, s:b, s:o}", "id", id, "ok", 1, "result", result));
}

/* Takes `id`. */
static void refuse(struct client *client, json_t *id, const char *code, const char *message,
                   const char *traceback)
{
    json_t *e = json_pack("{s:s, s:o}", "code", code, "message", report_text(message));
    if (traceback[0] != '\0')
        json_object_set_new(e, "traceback", report_text(traceback));
    send_json(client, json_pack("{s:o, s:b, s:o}", "id", id, "ok", 0, "error", e));
}

/* ---- verbs ---- */

static void on_reloaded(void *closure, const md_reload_result *result, const md_error *e)
{
    struct question *q = closure;
    if (result != NULL)
        answer(q->client, q->id, report_reload(result));
    else
        refuse(q->client, q->id, e->code, e->message, e->traceback);
    client_release(q->client);
    free(q);
}

static void do_reload(struct client *client, json_t *id, const json_t *args)
{
    md_error e = {0};
    struct question *q = calloc(1, sizeof *q);
    if (q == NULL) {
        refuse(client, id, "no_memory", "no memory for an answer", "");
        return;
    }
    *q = (struct question){client, id};
    client->references++;
    int previous = json_is_true(json_object_get(args, "previous"));
    if (md_reload(client->control->rt, previous, on_reloaded, q, &e) == 0)
        return;
    client->references--;
    free(q);
    refuse(client, id, e.code, e.message, "");
}

static void do_status(struct client *client, json_t *id, const json_t *args)
{
    (void)args;
    answer(client, id, report_status(client->control->rt));
}

static void do_stop(struct client *client, json_t *id, const json_t *args)
{
    (void)args;
    answer(client, id, json_pack("{s:i}", "pid", (int)getpid()));
    md_stop(client->control->rt);
}

static const struct {
    const char *name;
    void (*run)(struct client *client, json_t *id, const json_t *args);
} verbs[] = {{"status", do_status}, {"reload", do_reload}, {"stop", do_stop}};

static void take_question(struct client *client, const json_t *question)
{
    const char *verb = json_string_value(json_object_get(question, "verb"));
    json_t *id = json_object_get(question, "id");
    id = id != NULL ? json_incref(id) : json_null();
    for (size_t i = 0; verb != NULL && i < sizeof verbs / sizeof verbs[0]; i++)
        if (strcmp(verbs[i].name, verb) == 0) {
            verbs[i].run(client, id, json_object_get(question, "args"));
            return;
        }
    refuse(client, id, "unknown_verb", "there are the verbs status, reload and stop", "");
}

/* ---- reading ---- */

static void end_with(struct client *client, const char *code, const char *message)
{
    client->last_words = true;
    uv_read_stop((uv_stream_t *)&client->pipe);
    refuse(client, json_null(), code, message, "");
}

static void take_frames(struct client *client)
{
    size_t length;
    bool bad = false;
    for (char *json;
         !client->closing && (json = frame_take(&client->reader, &length, &bad)) != NULL;) {
        json_t *question = json_loadb(json, length, JSON_REJECT_DUPLICATES, NULL);
        if (!json_is_object(question)) {
            json_decref(question);
            end_with(client, "malformed", "a frame is a JSON object with id, verb and args");
            return;
        }
        take_question(client, question);
        json_decref(question);
    }
    if (bad && !client->closing)
        end_with(client, "too_large", "a frame has at most 1048576 bytes");
}

static void on_allocate(uv_handle_t *handle, size_t size, uv_buf_t *buffer)
{
    (void)handle;
    (void)size;
    static char bytes[65536]; /* of the loop thread, and used up before it reads again */
    *buffer = uv_buf_init(bytes, sizeof bytes);
}

static void on_read(uv_stream_t *stream, ssize_t length, const uv_buf_t *buffer)
{
    struct client *client = stream->data;
    if (length == 0)
        return;
    if (length < 0 || frame_add(&client->reader, buffer->base, (size_t)length) != 0) {
        client_close(client);
        return;
    }
    client->references++; /* an answer may close it */
    take_frames(client);
    client_release(client);
}

static bool is_ours(const uv_pipe_t *pipe)
{
    struct ucred peer;
    socklen_t size = sizeof peer;
    uv_os_fd_t fd;
    if (uv_fileno((const uv_handle_t *)pipe, &fd) != 0 ||
        getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) != 0)
        return false;
    return peer.uid == 0 || peer.uid == geteuid();
}

static void on_connection(uv_stream_t *stream, int status)
{
    struct control *c = stream->data;
    if (status != 0 || c->closing)
        return;
    struct client *client = calloc(1, sizeof *client);
    if (client == NULL)
        return;
    client->references = 1;
    client->control = c;
    client->next = c->clients;
    if (client->next != NULL)
        client->next->back = &client->next;
    client->back = &c->clients;
    c->clients = client;
    c->client_count++;
    uv_pipe_init(c->rt->loop, &client->pipe, 0);
    client->pipe.data = client;
    if (uv_accept(stream, (uv_stream_t *)&client->pipe) != 0 || !is_ours(&client->pipe) ||
        c->client_count > CONTROL_CLIENTS_MAX ||
        uv_read_start((uv_stream_t *)&client->pipe, on_allocate, on_read) != 0) {
        client_close(client);
        return;
    }
    uv_unref((uv_handle_t *)&client->pipe);
}

/* ---- listening ---- */

/* Whether somebody listens there. */
static bool is_alive(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return true;
    memcpy(address.sun_path, path, strlen(path) + 1);
    bool refused =
        connect(fd, (struct sockaddr *)&address, sizeof address) != 0 && errno == ECONNREFUSED;
    close(fd);
    return !refused;
}

static int try_to_bind(struct control *c)
{
    int failed = uv_pipe_bind(&c->pipe, c->path);
    struct stat status;
    if (failed != UV_EADDRINUSE || lstat(c->path, &status) != 0 || !S_ISSOCK(status.st_mode) ||
        is_alive(c->path))
        return failed;
    unlink(c->path); /* of a process that was killed */
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

static void on_pipe_closed(uv_handle_t *handle)
{
    struct control *c = handle->data;
    c->pipe_closed = true;
    free_when_closed(c);
}

struct control *control_new(md_runtime *rt, const char *path, error *e)
{
    struct control *c = calloc(1, sizeof *c);
    if (c == NULL || strlen(path) >= sizeof c->path) {
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
    c->pipe.data = c;
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

void control_close(struct control *c)
{
    if (c == NULL || c->closing)
        return;
    c->closing = true;
    uv_close((uv_handle_t *)&c->pipe, on_pipe_closed); /* removes the socket's file, too */
    for (struct client *client = c->clients; client != NULL; client = client->next)
        client_close(client);
}

bool control_closed(const md_runtime *rt)
{
    return rt->control == NULL;
}
