/* Whether a server can be reached: its name is looked up, and a TCP connection made and closed
 * again. Nothing waits for it: the loop goes on, and the look has a deadline. Loop thread. */
#ifndef MD_CONN_REACH_H
#define MD_CONN_REACH_H

#include <stdbool.h>
#include <stdint.h>

struct hub;
struct reach;

/* Called once, from the loop, unless it was cancelled; the look is over then. */
typedef void (*reach_done)(void *closure, bool reached);

/* Looks at the server of a URL, after wait_ms and for timeout_ms at most. NULL: no memory, or
 * nothing to look with. */
struct reach *reach_start(struct hub *h, const char *url, uint32_t wait_ms, uint32_t timeout_ms,
                          reach_done done, void *closure);
/* `done` is not called any more. NULL is harmless. */
void reach_cancel(struct reach *r);

#endif
