/* Getting links back that hang inside nats.c.
 *
 * nats.c up to 3.7 spins for ever, with its lock held, on a peer that goes silent in the middle of
 * the handshake, and later versions can wait without a deadline in a TLS handshake. No call gets
 * such a link out of it, only the end of its socket does, and nats.c does not say which socket that
 * is. So we look for it: among this process's sockets, one that bears the marks of nats.c's
 * (SO_LINGER of 0 s), leads to a port that a hanging link was to be connected to, and is in the
 * handshake for as long as a dial may take: it got one segment of data at most (the server's INFO)
 * and none since; or it sent one (CONNECT) and none since, whatever the peer says and goes on
 * saying instead of a line with PONG. Whatever works got its PONG, and sent its subscriptions or
 * its own PONG since, and is not touched: also a connection of the program's own. */
#ifndef MD_LINK_RECLAIM_H
#define MD_LINK_RECLAIM_H

#include <stdint.h>

#define RECLAIM_PORTS_MAX 256

typedef struct {
    uint16_t hanging[RECLAIM_PORTS_MAX]; /* remote ports of the links that hang */
    unsigned hanging_count;
    uint32_t silent_ms; /* at least so long without a byte from the peer */
    uint32_t sent_ms; /* or so long without one to a peer that goes on: a server asks even a client
                         that only listens, two seconds after it came, and gets its PONG */
    unsigned shut_down; /* result */
} reclaim;

/* Looks once. Reads /proc and makes system calls on sockets: any thread but the loop's. */
void reclaim_run(reclaim *r);

#endif
