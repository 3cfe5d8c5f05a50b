/* Asking a running process over its control socket. See client.h. */
#include "cli/client.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>
#include <uv.h>

#include "base/clock.h"
#include "base/unix_socket.h"
#include "control/path.h"

#define PATIENCE_S 10 /* with a process that takes neither clients nor what they ask */

/* ---- which one ---- */

static int connect_to(const char *path, error *e)
{
    int fd = unix_socket_connect(path, PATIENCE_S);
    if (fd >= 0)
        return fd;
    switch (errno) {
    case ENAMETOOLONG:
        return error_set(e, "too_long", ERROR_CLASS_NONE, "the path %s is too long for a socket",
                         path);
    case EAGAIN:
    case EINPROGRESS:
        return error_set(e, "timeout", ERROR_CLASS_TIMEOUT,
                         "the process at %s takes no clients: its loop is stuck; /livez of --http "
                         "names what holds it, SIGTERM, twice, ends it",
                         path);
    default:
        return error_set(e, "unreachable", ERROR_CLASS_NONE, "nothing answers at %s: %s", path,
                         strerror(errno));
    }
}

/* A process that is stuck takes no clients: there is one all the same, and it is not waited for. */
static bool answers_at(const char *path)
{
    int fd = unix_socket_connect(path, 0);
    if (fd >= 0)
        close(fd);
    return fd >= 0 || errno == EAGAIN;
}

static bool is_alive(const char *name)
{
    char path[CONTROL_PATH_SIZE];
    return control_path(name, path, sizeof path) == 0 && answers_at(path);
}

/* Where a system service listens (examples/service): in a folder of its own, because services have
 * users of their own. */
static bool find_service(const char *name, char *out, size_t size)
{
    int length = snprintf(out, size, "/run/moondog/%s/control.sock", name);
    return length > 0 && (size_t)length < size && answers_at(out);
}

char *client_names(void)
{
    char *names = control_names(), *rest = NULL, *list = NULL;
    size_t length;
    FILE *out = open_memstream(&list, &length);
    for (char *name = names != NULL ? strtok_r(names, "\n", &rest) : NULL;
         out != NULL && name != NULL; name = strtok_r(NULL, "\n", &rest))
        if (is_alive(name))
            fprintf(out, "%s\n", name);
    if (out != NULL)
        fclose(out);
    free(names);
    return list;
}

/* Names of those that run, as "a, b"; *count of them; the last one in *last. */
static char *running(unsigned *count, char *last, size_t size)
{
    char *names = client_names(), *rest = NULL, *list = NULL;
    size_t length;
    FILE *out = open_memstream(&list, &length);
    *count = 0;
    for (char *name = names != NULL ? strtok_r(names, "\n", &rest) : NULL;
         out != NULL && name != NULL; name = strtok_r(NULL, "\n", &rest)) {
        fprintf(out, "%s%s", *count > 0 ? ", " : "", name);
        snprintf(last, size, "%s", name);
        (*count)++;
    }
    if (out != NULL)
        fclose(out);
    free(names);
    return list;
}

int client_find(const char *path, const char *name, char *out, size_t size, error *e)
{
    char only[CONTROL_PATH_SIZE] = "", folder[CONTROL_PATH_SIZE];
    unsigned count;
    if (path != NULL) {
        snprintf(out, size, "%s", path);
        return 0;
    }
    if (name != NULL && !is_alive(name) && find_service(name, out, size))
        return 0;
    control_folder(folder, sizeof folder);
    char *list = running(&count, only, sizeof only);
    const char *which = name != NULL ? name : only;
    int failed = 0;
    if (count == 0)
        failed = error_set(e, "none", ERROR_CLASS_NONE,
                           "no moondog of yours runs%s%s%s: nothing answers in %s; start one with "
                           "moondog run",
                           name != NULL ? " as \"" : "", name != NULL ? name : "",
                           name != NULL ? "\"" : "", folder);
    else if (name == NULL && count > 1)
        failed = error_set(e, "several", ERROR_CLASS_NONE, "several run: %s; say which one", list);
    else if (name != NULL && !is_alive(name))
        failed = error_set(e, "none", ERROR_CLASS_NONE, "no moondog runs as \"%s\"; there %s %s",
                           name, count > 1 ? "are" : "is", list);
    else if (control_path(which, out, size) != 0)
        failed = error_set(e, "too_long", ERROR_CLASS_NONE, "the path in %s is too long", folder);
    free(list);
    return failed;
}

/* ---- requests and what comes back ---- */

static int milliseconds_left(uint64_t deadline)
{
    uint64_t now = clock_ms();
    return now < deadline ? (int)(deadline - now) : 0;
}

static int write_all(int fd, const char *bytes, size_t size)
{
    while (size > 0) {
        ssize_t sent = send(fd, bytes, size, MSG_NOSIGNAL);
        if (sent < 0 && errno == EINTR)
            continue;
        if (sent <= 0)
            return -1;
        bytes += sent;
        size -= (size_t)sent;
    }
    return 0;
}

int client_open(client *c, const char *path, error *e)
{
    *c = (client){.fd = connect_to(path, e)};
    return c->fd < 0 ? -1 : 0;
}

void client_close(client *c)
{
    if (c->fd >= 0)
        close(c->fd);
    c->fd = -1;
    frame_clear(&c->reader);
}

int client_send(client *c, const char *verb, json_t *args, error *e)
{
    json_t *question = json_pack("{s:i, s:s, s:o}", "id", ++c->last_id, "verb", verb, "args",
                                 args != NULL ? args : json_object());
    char *text = question != NULL ? json_dumps(question, JSON_COMPACT) : NULL;
    size_t size = 0;
    char *frame = text != NULL ? frame_make(text, strlen(text), &size) : NULL;
    int id = c->last_id;
    if (frame == NULL)
        id = error_set(e, "too_large", ERROR_CLASS_LIMIT,
                       "the request does not fit into a frame, or into memory");
    else if (write_all(c->fd, frame, size) != 0)
        id = error_set(e, "closed", ERROR_CLASS_NETWORK, "cannot write to the control socket: %s",
                       strerror(errno));
    free(frame);
    free(text);
    json_decref(question);
    return id;
}

/* The next frame of those that have come, or NULL; *bad: nothing good comes any more. */
static json_t *take(client *c, bool *bad)
{
    size_t size;
    const char *json = frame_take(&c->reader, &size, bad);
    json_t *message = json != NULL ? json_loadb(json, size, JSON_ALLOW_NUL, NULL) : NULL;
    *bad |= json != NULL && message == NULL;
    return message;
}

int client_peer(const client *c)
{
    struct ucred peer = {0};
    socklen_t size = sizeof peer;
    return getsockopt(c->fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 ? (int)peer.pid : 0;
}

json_t *client_receive(client *c, int timeout_ms, error *e)
{
    uint64_t deadline = clock_ms() + (uint64_t)(timeout_ms > 0 ? timeout_ms : 0);
    char bytes[65536];
    for (;;) {
        bool bad = false;
        json_t *message = take(c, &bad);
        if (message != NULL)
            return message;
        if (bad) {
            error_set(e, "malformed", ERROR_CLASS_PROTOCOL, "its answer cannot be read");
            return NULL;
        }
        struct pollfd p = {.fd = c->fd, .events = POLLIN};
        int ready = poll(&p, 1, timeout_ms < 0 ? -1 : milliseconds_left(deadline));
        if (ready < 0 && errno == EINTR)
            continue;
        if (ready == 0) {
            error_set(
                e, "timeout", ERROR_CLASS_TIMEOUT,
                "no answer in time from pid %d: its loop may be stuck; SIGTERM, twice, ends it",
                client_peer(c));
            return NULL;
        }
        ssize_t length = read(c->fd, bytes, sizeof bytes);
        if (length <= 0 || frame_add(&c->reader, bytes, (size_t)length) != 0) {
            error_set(e, "closed", ERROR_CLASS_NETWORK, "it has closed the control socket");
            return NULL;
        }
    }
}

json_t *client_ask(const char *path, const char *verb, json_t *args, int timeout_ms, error *e)
{
    client c;
    json_t *answer = NULL;
    if (client_open(&c, path, e) != 0) {
        json_decref(args);
        return NULL;
    }
    if (client_send(&c, verb, args, e) >= 0)
        answer = client_receive(&c, timeout_ms, e);
    client_close(&c);
    return answer;
}
