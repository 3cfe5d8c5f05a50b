/* Unix sockets in the file system. Any thread. */
#ifndef MD_BASE_UNIX_SOCKET_H
#define MD_BASE_UNIX_SOCKET_H

#include <stdbool.h>

/* Whether there is a socket at which nobody listens: of a process that was killed. It may be
 * removed. */
bool unix_socket_is_left_over(const char *path);

#endif
