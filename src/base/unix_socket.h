/* Unix sockets in the file system. Any thread. */
#ifndef MD_BASE_UNIX_SOCKET_H
#define MD_BASE_UNIX_SOCKET_H

#include <stdbool.h>

/* A connection to whoever listens at `path`, waited for at most so many seconds; 0: not at all. The
 * caller closes it. -1 and errno: ECONNREFUSED, nobody listens; EAGAIN, somebody does, and takes no
 * more clients; ENAMETOOLONG. */
int unix_socket_connect(const char *path, unsigned patience_s);

/* Whether there is a socket at which nobody listens: of a process that was killed. It may be
 * removed. */
bool unix_socket_is_left_over(const char *path);

#endif
