/* The socket at which a supervisor hears its child: datagrams of systemd's notification protocol,
 * taken from that one process only. */
#ifndef MD_CLI_CHILD_SOCKET_H
#define MD_CLI_CHILD_SOCKET_H

#include <stddef.h>
#include <sys/types.h>

#define CHILD_ADDRESS_SIZE 32
#define CHILD_TEXT_SIZE 4096

/* A socket of the abstract namespace, non-blocking; its address as $NOTIFY_SOCKET has it. -1: it
 * cannot be made. */
int child_socket_open(char address[CHILD_ADDRESS_SIZE]);

/* The next datagram of process `child`; those of others are skipped. Its text, and a descriptor
 * that came along (the caller's; -1: none). Returns 1, or 0 when there is none now, or it may be
 * behind those of many others. */
int child_socket_receive(int fd, pid_t child, char text[CHILD_TEXT_SIZE], int *descriptor);

/* The value of the line "NAME=value" in a datagram, or NULL; written to `out`. */
const char *child_socket_value(const char *text, const char *name, char *out, size_t size);

#endif
