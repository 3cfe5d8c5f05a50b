/* Where an HTTP server listens, and a socket that does. */
#ifndef MD_HEALTH_ADDRESS_H
#define MD_HEALTH_ADDRESS_H

#include <stddef.h>
#include <sys/socket.h>

#include "base/error.h"

typedef struct {
    struct sockaddr_storage address;
    socklen_t length;
    const char *path; /* of a Unix socket, within the text that was parsed; NULL: none */
} listen_address;

#define LISTEN_TEXT_SIZE 128

/* "8080" (on 127.0.0.1), "10.0.0.1:8080", "[::1]:8080", "localhost:8080", "unix:/run/x.sock";
 * numbers only, so that nothing is looked up. 0, or -1 and *e ("usage"). */
int listen_parse(const char *text, listen_address *out, error *e);

/* A socket that listens there, non-blocking; a Unix socket that a killed process has left is
 * replaced. -1 and *e ("http"). The caller closes it. */
int listen_open(const listen_address *a, error *e);

/* Where a socket listens, as people write it: "127.0.0.1:8080", "unix:/run/x.sock". */
void listen_describe(int fd, const listen_address *a, char out[LISTEN_TEXT_SIZE]);

#endif
