/* What an outbox holds, in numbers. Main thread, blocking. */
#ifndef MD_OUTBOX_TOOL_SUMMARY_H
#define MD_OUTBOX_TOOL_SUMMARY_H

#include <jansson.h>
#include <stdint.h>

#include "outbox_tool/file.h"

/* How many entries there are of each state, of subjects that the pattern means (NULL: all):
 * {"waiting", "set_aside"}. A new object; NULL and *e. */
json_t *summary_count(outbox_file *f, const char *subject, error *e);

/* The whole of it, with the first `limit` entries, all of the same moment; looks for damage, too. A
 * new object; NULL and *e. */
json_t *summary_make(outbox_file *f, int64_t limit, error *e);

#endif
