/* Messages to a service manager. See notify.h. Any thread. */
#include "base/notify.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

typedef struct {
    int fd; /* sent along; -1: none */
    char text[NOTIFY_TEXT_MAX];
} notify_message;

struct notify {
    pthread_mutex_t lock; /* of all below */
    int socket;
    struct sockaddr_un address;
    socklen_t address_length; /* 0: the socket has its one peer */
    uint64_t watchdog_ns;
    notify_message queue[NOTIFY_QUEUE];
    unsigned first, count;
    uint64_t dropped;
};

/* $WATCHDOG_USEC, when it is meant for this process. */
static uint64_t read_watchdog(void)
{
    const char *usec = getenv("WATCHDOG_USEC"), *pid = getenv("WATCHDOG_PID");
    if (usec == NULL || (pid != NULL && strtol(pid, NULL, 10) != (long)getpid()))
        return 0;
    char *end;
    errno = 0;
    unsigned long long value = strtoull(usec, &end, 10);
    if (errno != 0 || *end != '\0' || end == usec || value > UINT64_MAX / 1000u)
        return 0;
    return (uint64_t)value * 1000u / 2u;
}

/* One of our own to the supervisor's, or -1. */
static int inherited_socket(void)
{
    const char *text = getenv(NOTIFY_FD_VARIABLE);
    int type = 0, fd = text != NULL ? (int)strtol(text, NULL, 10) : -1;
    socklen_t size = sizeof type;
    if (fd <= STDERR_FILENO || getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size) != 0 ||
        type != SOCK_DGRAM)
        return -1;
    fcntl(fd, F_SETFD, FD_CLOEXEC);
    return fcntl(fd, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
}

static bool is_address(const char *path)
{
    size_t length = path != NULL ? strlen(path) : 0;
    return length >= 2 && length < sizeof((struct sockaddr_un *)0)->sun_path &&
           (path[0] == '/' || path[0] == '@');
}

notify *notify_open(void)
{
    const char *path = getenv("NOTIFY_SOCKET");
    int fd = inherited_socket();
    if (fd < 0 && !is_address(path))
        return NULL;
    notify *n = calloc(1, sizeof *n);
    if (n == NULL)
        return NULL;
    n->watchdog_ns = read_watchdog();
    pthread_mutex_init(&n->lock, NULL);
    n->socket = fd >= 0 ? fd : socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (n->socket < 0) {
        notify_close(n);
        return NULL;
    }
    if (fd >= 0)
        return n;
    size_t length = strlen(path);
    n->address.sun_family = AF_UNIX;
    memcpy(n->address.sun_path, path, length);
    if (path[0] == '@')
        n->address.sun_path[0] = '\0'; /* the abstract namespace */
    n->address_length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length);
    return n;
}

static void close_fd(notify_message *m)
{
    if (m->fd >= 0)
        close(m->fd);
    m->fd = -1;
}

void notify_close(notify *n)
{
    if (n == NULL)
        return;
    notify_flush(n);
    for (; n->count > 0; n->count--, n->first++)
        close_fd(&n->queue[n->first % NOTIFY_QUEUE]);
    if (n->socket >= 0)
        close(n->socket);
    pthread_mutex_destroy(&n->lock);
    free(n);
}

/* False: the manager does not take it now. */
static bool send_one(notify *n, const notify_message *m)
{
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(sizeof(int))];
    } control = {0};
    struct iovec text = {.iov_base = (void *)m->text, .iov_len = strlen(m->text)};
    struct msghdr message = {.msg_name = n->address_length > 0 ? &n->address : NULL,
                             .msg_namelen = n->address_length,
                             .msg_iov = &text,
                             .msg_iovlen = 1};
    if (m->fd >= 0) {
        message.msg_control = &control;
        message.msg_controllen = sizeof control.space;
        struct cmsghdr *rights = CMSG_FIRSTHDR(&message);
        rights->cmsg_level = SOL_SOCKET;
        rights->cmsg_type = SCM_RIGHTS;
        rights->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(rights), &m->fd, sizeof(int));
    }
    ssize_t sent;
    do {
        sent = sendmsg(n->socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    } while (sent < 0 && errno == EINTR);
    /* Any other error: there is no manager any more, and nobody to tell it to. */
    return sent >= 0 || (errno != EAGAIN && errno != EWOULDBLOCK && errno != ENOBUFS);
}

static void flush_locked(notify *n)
{
    while (n->count > 0 && send_one(n, &n->queue[n->first % NOTIFY_QUEUE])) {
        close_fd(&n->queue[n->first % NOTIFY_QUEUE]);
        n->first++;
        n->count--;
    }
}

void notify_flush(notify *n)
{
    if (n == NULL)
        return;
    pthread_mutex_lock(&n->lock);
    flush_locked(n);
    pthread_mutex_unlock(&n->lock);
}

void notify_send(notify *n, int fd, const char *format, ...)
{
    if (n == NULL) {
        if (fd >= 0)
            close(fd);
        return;
    }
    pthread_mutex_lock(&n->lock);
    flush_locked(n);
    if (n->count == NOTIFY_QUEUE) {
        n->dropped++;
        if (fd >= 0)
            close(fd);
    } else {
        notify_message *m = &n->queue[(n->first + n->count++) % NOTIFY_QUEUE];
        m->fd = fd;
        va_list args;
        va_start(args, format);
        vsnprintf(m->text, sizeof m->text, format, args);
        va_end(args);
        flush_locked(n);
    }
    pthread_mutex_unlock(&n->lock);
}

uint64_t notify_watchdog_ns(const notify *n)
{
    return n != NULL ? n->watchdog_ns : 0;
}

uint64_t notify_dropped(notify *n)
{
    if (n == NULL)
        return 0;
    pthread_mutex_lock(&n->lock);
    uint64_t dropped = n->dropped;
    pthread_mutex_unlock(&n->lock);
    return dropped;
}
