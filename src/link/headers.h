/* What has to be known of the headers of a received message without reading them. nats.c reads
 * them when they are first asked for, and walks through all values that a key has for each one
 * more: a megabyte of one key takes it many seconds. Pure functions on the caller's message: the
 * thread that has it. */
#ifndef MD_LINK_HEADERS_H
#define MD_LINK_HEADERS_H

#include <nats/nats.h>
#include <stdbool.h>

#define HEADER_LINES_MAX 1000u

/* False: there are more lines than HEADER_LINES_MAX, and nats.c must not be asked. */
bool headers_are_readable(natsMsg *msg);

/* The bytes of its subject, reply, headers and data: what it weighs in a queue. */
uint32_t message_weight(natsMsg *msg);

/* Whether it is the server's word that nobody has got the request. */
bool headers_say_nobody(natsMsg *msg);

#endif
