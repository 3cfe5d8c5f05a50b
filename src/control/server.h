/* The control socket of a runtime: listens, and has the sessions of its clients. Only this user's
 * processes and root's are let in. See protocol.md. Loop thread. */
#ifndef MD_CONTROL_SERVER_H
#define MD_CONTROL_SERVER_H

#include <stdbool.h>

#include "base/error.h"
#include "runtime_private.h"

#define CONTROL_CLIENTS_MAX 128u

/* Listens at the path, of which a socket that nobody listens at any more is removed. NULL and *e
 * ("in_use", "control"). */
struct control *control_new(md_runtime *rt, const char *path, error *e);
/* Between two turns of the loop. NULL is harmless. */
void control_turn(struct control *c);
/* Removes the socket and starts to close the handles. NULL is harmless. */
void control_close(struct control *c);
/* Frees it, and makes rt->control NULL, when the handles are closed. False: the loop has to turn.
 */
bool control_closed(md_runtime *rt);

#endif
