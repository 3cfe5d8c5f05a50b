/* The lock beside the file of an outbox: who holds it may change entries. Main thread. */
#ifndef MD_OUTBOX_TOOL_LOCK_H
#define MD_OUTBOX_TOOL_LOCK_H

#include <sys/stat.h>
#include <sys/types.h>

#include "base/error.h"

typedef enum {
    LOCK_FREE,
    LOCK_HELD,
    LOCK_UNKNOWN, /* it cannot be looked at */
} lock_state;

/* Whether a process holds the outbox at `path`, and which; *pid is 0 when that cannot be told.
 * Makes no file. */
lock_state lock_look(const char *path, pid_t *pid);

/* Takes the lock, never waiting for it; the file of the lock is made as one of the user whom the
 * database `of` belongs to, or a process of that user could not open it later. Returns a
 * descriptor, which the caller closes; -1 and *e. */
int lock_take(const char *path, const struct stat *of, error *e);

#endif
