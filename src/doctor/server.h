/* A server of a connection, from the outside: whether its name resolves, whether it can be
 * reached, whether it speaks NATS, and what it says of itself before anybody logs in. Without
 * the NATS library, which has no deadline for a server that says nothing. Main thread. */
#ifndef MD_DOCTOR_SERVER_H
#define MD_DOCTOR_SERVER_H

#include <jansson.h>
#include <netdb.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "doctor/findings.h"
#include "link/options.h"

#define SERVER_HOST_SIZE 256

typedef struct {
    char host[SERVER_HOST_SIZE]; /* without the brackets of an IPv6 address */
    char port[6];
} server_address;

/* Of a URL of link_options, or of "host:port". -1: it is neither. */
int server_split(const char *url, server_address *out);

typedef struct {
    server_address address;
    int fd;            /* connected, INFO was read; not blocking; -1: none */
    json_t *info;      /* what INFO said, or NULL */
    bool wants_tls;    /* it is the server's wish, or the connection's */
    uint64_t deadline; /* ms of clock_ms() */
} server;

/* Looks at it, and leaves it connected when it speaks NATS. False: there is no use in going on. */
bool server_reach(server *s, findings *f, const link_options *o, const char *url,
                  uint32_t timeout_ms);
/* Whether the servers that it told of, and that the list has not, can be reached. */
void server_check_discovered(const server *s, findings *f, const link_options *o,
                             uint32_t timeout_ms);
void server_leave(server *s);

/* Waits for POLLIN or POLLOUT. 1: ready; 0: the deadline has passed; -1: errno. */
int server_poll(int fd, short events, uint64_t deadline);

/* resolve.c: the addresses of a host, to be freed with freeaddrinfo(). NULL and *e, after
 * timeout_ms at the latest: a thread that still waits for an answer is left to itself. */
struct addrinfo *resolve(const server_address *address, uint32_t timeout_ms, error *e);

#endif
