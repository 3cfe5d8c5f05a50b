/* The sockets between a supervisor and its child. See child_socket.h. */
#include "cli/child_socket.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define DESCRIPTORS_MAX 4

int child_socket_pair(int *ours, int *childs)
{
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, ends) != 0)
        return -1;
    fcntl(ends[0], F_SETFL, O_NONBLOCK);
    *ours = ends[0];
    *childs = ends[1];
    return 0;
}

/* The first descriptor; any other is closed. */
static int take_descriptor(struct msghdr *message)
{
    int first = -1;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c != NULL; c = CMSG_NXTHDR(message, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
            continue;
        size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < count; i++) {
            int fd;
            memcpy(&fd, CMSG_DATA(c) + i * sizeof fd, sizeof fd);
            if (first < 0)
                first = fd;
            else
                close(fd);
        }
    }
    return first;
}

int child_socket_receive(int fd, char text[CHILD_TEXT_SIZE], int *descriptor)
{
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(DESCRIPTORS_MAX * sizeof(int))];
    } control;
    struct iovec part = {.iov_base = text, .iov_len = CHILD_TEXT_SIZE - 1};
    struct msghdr message = {.msg_iov = &part,
                             .msg_iovlen = 1,
                             .msg_control = &control,
                             .msg_controllen = sizeof control};
    ssize_t length;
    do {
        length = recvmsg(fd, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
    } while (length < 0 && errno == EINTR);
    if (length < 0)
        return 0;
    text[length] = '\0';
    *descriptor = take_descriptor(&message);
    return 1;
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
