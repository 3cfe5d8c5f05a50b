/* Signals of the program: a thread of its own waits for them, so that the process ends even when
 * the loop does not turn any more. One in a process. */
#ifndef MD_CLI_SIGNALS_H
#define MD_CLI_SIGNALS_H

#include <uv.h>

#include "moondog.h"

/* Before any other thread is made. SIGTERM and SIGINT stop the runtime, SIGHUP reloads its script,
 * as soon as there is one. A second SIGTERM or SIGINT ends the process with code 1 when it has not
 * ended by itself at once; so does the first one after limit_ms. 0, or a libuv error. */
int signals_start(uint32_t limit_ms);
/* In a child, between fork and exec: it must not inherit what we do not want to be disturbed by. */
void signals_unblock(void);

/* The runtime that is meant. Loop thread. 0, or a libuv error. */
int signals_attach(uv_loop_t *loop, md_runtime *runtime);
/* It is not touched any more; the loop has to turn once more to close the handle. Loop thread. */
void signals_detach(void);

#endif
