/* The control socket of a runtime: clients ask, one frame of JSON a question, and get one frame of
 * JSON as the answer. Loop thread.
 *
 *   {"id": 1, "verb": "reload", "args": {"previous": true}}
 *   {"id": 1, "ok": true, "result": {...}}
 *   {"id": 1, "ok": false, "error": {"code": "syntax", "message": "...", "traceback": "..."}}
 *
 * Only this user's processes and root's are answered. A client that sends what is no frame, or no
 * JSON, gets an error and is closed; one that does not read its answers is closed at a cap. */
#ifndef MD_CONTROL_SERVER_H
#define MD_CONTROL_SERVER_H

#include <stdbool.h>

#include "base/error.h"
#include "runtime_private.h"

#define CONTROL_CLIENTS_MAX 128u
#define CONTROL_UNREAD_BYTES_MAX (4u * 1024 * 1024)

/* Listens at the path, of which a socket that nobody listens at any more is removed. NULL and *e
 * ("in_use", "control"). */
struct control *control_new(md_runtime *rt, const char *path, error *e);
/* Removes the socket and starts to close the handles. NULL is harmless. */
void control_close(struct control *c);
/* Whether the handles are closed; then it is freed, and rt->control NULL. */
bool control_closed(const md_runtime *rt);

#endif
