/* `moondog run --dev`: a nats-server of our own, when none answers. Runs in the main thread (the
 * server gets its end signal when that thread ends), before the loop runs and after it has ended.
 */
#ifndef MD_CLI_DEV_SERVER_H
#define MD_CLI_DEV_SERVER_H

#include <limits.h>
#include <sys/types.h>

#include "base/error.h"

typedef struct {
    pid_t pid;             /* 0: nothing was started */
    char folder[PATH_MAX]; /* its data and its log; "": there is none */
} dev_server;

/* Makes sure that something speaks NATS at `url`: a URL or a comma separated list, of which the
 * first counts; NULL: $NATS_URL, or nats://127.0.0.1:4222. Does nothing when it does already.
 * Otherwise starts nats-server there, with JetStream and its data in a temporary folder, waits
 * until it answers, and sets NATS_URL unless it is set. Fills *s in any case.
 *
 * Blocks for 0.3 s when nothing answers, up to 2 s while something is connected and silent or while
 * another machine is tried, up to 5 s for the start. Returns 0, or -1 with *e: no such address, the
 * port is another program's, not an address of this machine, no nats-server, it does not start. */
int dev_server_start(dev_server *s, const char *url, error *e);

/* Ends what was started (SIGTERM, after 2 s SIGKILL) and removes the folder. Harmless when
 * nothing was started, and when it is called again. */
void dev_server_stop(dev_server *s);

#endif
