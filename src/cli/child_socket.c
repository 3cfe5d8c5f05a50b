/* The socket at which a supervisor hears its child. See child_socket.h. */
#include "cli/child_socket.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define DESCRIPTORS_MAX 4
#define STRANGERS_MAX 64 /* that are skipped at a time: the loop has other things to do */

int child_socket_open(char address[CHILD_ADDRESS_SIZE])
{
    struct sockaddr_un own = {.sun_family = AF_UNIX};
    socklen_t length = sizeof own;
    int on = 1;
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -1;
    /* Bound to no name: the kernel gives it one that nobody has. */
    if (bind(fd, (struct sockaddr *)&own, sizeof own.sun_family) != 0 ||
        setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &on, sizeof on) != 0 ||
        getsockname(fd, (struct sockaddr *)&own, &length) != 0 || own.sun_path[0] != '\0') {
        close(fd);
        return -1;
    }
    snprintf(address, CHILD_ADDRESS_SIZE, "@%.*s", (int)(length - sizeof own.sun_family - 1),
             own.sun_path + 1);
    return fd;
}

/* Who sent it, and the first descriptor; any other is closed. */
static pid_t read_control(struct msghdr *message, int *descriptor)
{
    pid_t sender = 0;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c != NULL; c = CMSG_NXTHDR(message, c)) {
        if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_CREDENTIALS) {
            struct ucred who;
            memcpy(&who, CMSG_DATA(c), sizeof who);
            sender = who.pid;
        } else if (c->cmsg_level == SOL_SOCKET && c->cmsg_type == SCM_RIGHTS) {
            size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
            for (size_t i = 0; i < count; i++) {
                int fd;
                memcpy(&fd, CMSG_DATA(c) + i * sizeof fd, sizeof fd);
                if (*descriptor < 0)
                    *descriptor = fd;
                else
                    close(fd);
            }
        }
    }
    return sender;
}

int child_socket_receive(int fd, pid_t child, char text[CHILD_TEXT_SIZE], int *descriptor)
{
    for (int strangers = 0; strangers < STRANGERS_MAX;) {
        union {
            struct cmsghdr header;
            char
                space[CMSG_SPACE(sizeof(struct ucred)) + CMSG_SPACE(DESCRIPTORS_MAX * sizeof(int))];
        } control;
        struct iovec part = {.iov_base = text, .iov_len = CHILD_TEXT_SIZE - 1};
        struct msghdr message = {.msg_iov = &part,
                                 .msg_iovlen = 1,
                                 .msg_control = &control,
                                 .msg_controllen = sizeof control};
        ssize_t length = recvmsg(fd, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
        if (length < 0 && errno == EINTR)
            continue;
        if (length < 0)
            return 0;
        text[length] = '\0';
        *descriptor = -1;
        if (read_control(&message, descriptor) == child)
            return 1;
        if (*descriptor >= 0)
            close(*descriptor);
        strangers++;
    }
    return 0;
}

const char *child_socket_value(const char *text, const char *name, char *out, size_t size)
{
    size_t length = strlen(name);
    for (const char *line = text; line != NULL && *line != '\0';) {
        const char *end = strchr(line, '\n');
        size_t whole = end != NULL ? (size_t)(end - line) : strlen(line);
        if (whole > length && strncmp(line, name, length) == 0 && line[length] == '=') {
            snprintf(out, size, "%.*s", (int)(whole - length - 1), line + length + 1);
            return out;
        }
        line = end != NULL ? end + 1 : NULL;
    }
    return NULL;
}
