/* Asking a running process over its control socket. See client.h. */
#include "cli/client.h"

#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>
#include <uv.h>

#include "control/frame.h"
#include "control/path.h"

/* ---- which one ---- */

static int connect_to(const char *path, error *e)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    if (strlen(path) >= sizeof address.sun_path)
        return error_set(e, "too_long", ERROR_CLASS_NONE, "the path %s is too long for a socket",
                         path);
    memcpy(address.sun_path, path, strlen(path) + 1);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && connect(fd, (struct sockaddr *)&address, sizeof address) == 0)
        return fd;
    int failed = errno;
    if (fd >= 0)
        close(fd);
    return error_set(e, "unreachable", ERROR_CLASS_NONE, "nothing answers at %s: %s", path,
                     strerror(failed));
}

static bool is_alive(const char *name)
{
    char path[CONTROL_PATH_SIZE];
    int fd = control_path(name, path, sizeof path) == 0 ? connect_to(path, NULL) : -1;
    if (fd >= 0)
        close(fd);
    return fd >= 0;
}

/* Names of those that run, as "a, b"; *count of them; the last one in *last. */
static char *running(unsigned *count, char *last, size_t size)
{
    char *names = control_names(), *rest = NULL, *list = NULL;
    size_t length;
    FILE *out = open_memstream(&list, &length);
    *count = 0;
    for (char *name = names != NULL ? strtok_r(names, "\n", &rest) : NULL;
         out != NULL && name != NULL; name = strtok_r(NULL, "\n", &rest)) {
        if (!is_alive(name))
            continue;
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
    control_folder(folder, sizeof folder);
    char *list = running(&count, only, sizeof only);
    const char *which = name != NULL ? name : only;
    int failed = 0;
    if (count == 0)
        failed = error_set(e, "none", ERROR_CLASS_NONE,
                           "no moondog of yours runs: there is no control socket in %s", folder);
    else if (name == NULL && count > 1)
        failed = error_set(e, "several", ERROR_CLASS_NONE, "several run: %s; say which one", list);
    else if (name != NULL && !is_alive(name))
        failed = error_set(e, "none", ERROR_CLASS_NONE, "no moondog runs as \"%s\"; there is %s",
                           name, list);
    else if (control_path(which, out, size) != 0)
        failed = error_set(e, "too_long", ERROR_CLASS_NONE, "the path in %s is too long", folder);
    free(list);
    return failed;
}

/* ---- question and answer ---- */

static int milliseconds_left(uint64_t deadline)
{
    uint64_t now = uv_hrtime() / 1000000u;
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

static int send_question(int fd, const char *verb, json_t *args)
{
    json_t *question = json_pack("{s:i, s:s, s:o}", "id", 1, "verb", verb, "args", args);
    char *text = question != NULL ? json_dumps(question, JSON_COMPACT) : NULL;
    size_t size = 0;
    char *frame = text != NULL ? frame_make(text, strlen(text), &size) : NULL;
    int failed = frame == NULL ? -1 : write_all(fd, frame, size);
    free(frame);
    free(text);
    json_decref(question);
    return failed;
}

/* The next frame as JSON, or NULL and *e. */
static json_t *read_answer(int fd, uint64_t deadline, error *e)
{
    frame_reader reader = {0};
    json_t *answer = NULL;
    char bytes[65536];
    for (bool over = false; !over && answer == NULL;) {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        int ready = poll(&p, 1, milliseconds_left(deadline));
        if (ready < 0 && errno == EINTR)
            continue;
        ssize_t length = ready > 0 ? read(fd, bytes, sizeof bytes) : 0;
        size_t size;
        bool bad = false;
        if (ready == 0)
            error_set(e, "timeout", ERROR_CLASS_TIMEOUT, "no answer in time: is its loop stuck?");
        else if (length <= 0 || frame_add(&reader, bytes, (size_t)length) != 0)
            error_set(e, "closed", ERROR_CLASS_NETWORK, "it has closed the control socket");
        else {
            const char *json = frame_take(&reader, &size, &bad);
            if (json != NULL)
                answer = json_loadb(json, size, 0, NULL);
            if (answer == NULL && (json != NULL || bad))
                error_set(e, "malformed", ERROR_CLASS_PROTOCOL, "its answer cannot be read");
        }
        over = ready == 0 || length <= 0 || bad;
    }
    frame_clear(&reader);
    return answer;
}

json_t *client_ask(const char *path, const char *verb, json_t *args, int timeout_ms, error *e)
{
    uint64_t deadline = uv_hrtime() / 1000000u + (uint64_t)timeout_ms;
    int fd = connect_to(path, e);
    json_t *answer = NULL;
    if (fd < 0) {
        json_decref(args);
        return NULL;
    }
    if (send_question(fd, verb, args) != 0)
        error_set(e, "closed", ERROR_CLASS_NETWORK, "cannot write to the control socket %s: %s",
                  path, strerror(errno));
    else
        answer = read_answer(fd, deadline, e);
    close(fd);
    return answer;
}
