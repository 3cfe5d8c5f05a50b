/* Asking a running process over its control socket. Main thread, blocking, with a deadline. */
#ifndef MD_CLI_CLIENT_H
#define MD_CLI_CLIENT_H

#include <jansson.h>

#include "base/error.h"

/* The socket that is meant: `path`, or that of the process `name`, or, when both are NULL, that of
 * the only one that runs. -1 and *e ("none", "several", "too_long"). */
int client_find(const char *path, const char *name, char *out, size_t size, error *e);

/* Asks one question and waits for the answer, a JSON object with "ok" and "result" or "error".
 * NULL and *e. The caller releases it. `args` is taken. */
json_t *client_ask(const char *path, const char *verb, json_t *args, int timeout_ms, error *e);

#endif
