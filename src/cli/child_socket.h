/* What a supervisor and its child hear each other by: a pair of sockets, so nobody else can speak,
 * and datagrams of systemd's notification protocol. */
#ifndef MD_CLI_CHILD_SOCKET_H
#define MD_CLI_CHILD_SOCKET_H

#include <stddef.h>

#define CHILD_TEXT_SIZE 4096

/* Both ends: ours, which does not block, and the child's. -1: they cannot be made. */
int child_socket_pair(int *ours, int *childs);

/* The next datagram: its text, and a descriptor that came along (the caller's; -1: none). Returns
 * 1, or 0 when there is none now. */
int child_socket_receive(int fd, char text[CHILD_TEXT_SIZE], int *descriptor);

/* The value of the line "NAME=value" in a datagram, or NULL; written to `out`. */
const char *child_socket_value(const char *text, const char *name, char *out, size_t size);

#endif
