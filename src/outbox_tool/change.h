/* What a person changes in an outbox that no process holds: all of it, or nothing. Main thread,
 * blocking. */
#ifndef MD_OUTBOX_TOOL_CHANGE_H
#define MD_OUTBOX_TOOL_CHANGE_H

#include <stddef.h>
#include <stdint.h>

#include "outbox_tool/file.h"

typedef struct {
    int64_t count;
    int64_t first, last; /* the new ids, one after another; 0 when there are none */
    int64_t expired;     /* of them: the process will not send these, but remove them */
} change_result;

/* Makes entries that were set aside wait again, behind all others, in the order that they had, with
 * the message ids that they have: ids[] in rising order, or all when it is NULL. 0, or -1 and
 * *e. */
int change_requeue(outbox_file *f, const int64_t *ids, size_t count, change_result *r, error *e);

/* Removes entries, of any state; all that were set aside when ids is NULL. 0, or -1 and *e. */
int change_delete(outbox_file *f, const int64_t *ids, size_t count, change_result *r, error *e);

#endif
