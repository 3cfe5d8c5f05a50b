/* Asking a running process over its control socket: see control/protocol.md. One thread, blocking,
 * with deadlines. */
#ifndef MD_CLI_CLIENT_H
#define MD_CLI_CLIENT_H

#include <jansson.h>

#include "base/error.h"
#include "control/frame.h"

typedef struct {
    int fd;
    frame_reader reader;
    int last_id;
} client;

/* The names of those that run, each followed by a line feed; to be freed. NULL: no memory. */
char *client_names(void);
/* The socket that is meant: `path`, or that of the process `name`, or, when both are NULL, that of
 * the only one that runs. -1 and *e ("none", "several", "too_long"). */
int client_find(const char *path, const char *name, char *out, size_t size, error *e);

/* -1 and *e: nothing is to be closed. */
int client_open(client *c, const char *path, error *e);
void client_close(client *c);

/* The id of the request, or -1 and *e. `args` is taken; NULL: none. */
int client_send(client *c, const char *verb, json_t *args, error *e);
/* The process at the other end; 0: unknown. */
int client_peer(const client *c);
/* The next event or answer, to be released. NULL and *e: "timeout", "closed", "malformed". A
 * negative timeout never passes. */
json_t *client_receive(client *c, int timeout_ms, error *e);

/* Asks one question and waits for the answer, a JSON object with "ok" and "result" or "error".
 * NULL and *e. The caller releases it. `args` is taken. */
json_t *client_ask(const char *path, const char *verb, json_t *args, int timeout_ms, error *e);

#endif
