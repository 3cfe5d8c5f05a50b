/* A service manager for tests: a socket of the kind that $NOTIFY_SOCKET names, at an address that
 * nobody else has. */
#ifndef MD_TESTS_MANAGER_H
#define MD_TESTS_MANAGER_H

#include <stddef.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define MANAGER_ADDRESS_SIZE 32

/* The socket and its address; -1: none. To be closed. */
static inline int manager_open(char address[MANAGER_ADDRESS_SIZE])
{
    struct sockaddr_un own = {.sun_family = AF_UNIX};
    socklen_t length = sizeof own;
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    /* Bound to no name: the kernel gives it one in the abstract namespace. */
    if (fd < 0 || bind(fd, (struct sockaddr *)&own, sizeof own.sun_family) != 0 ||
        getsockname(fd, (struct sockaddr *)&own, &length) != 0) {
        if (fd >= 0)
            close(fd);
        return -1;
    }
    snprintf(address, MANAGER_ADDRESS_SIZE, "@%.*s", (int)(length - sizeof own.sun_family - 1),
             own.sun_path + 1);
    return fd;
}

#endif
