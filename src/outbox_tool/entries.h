/* The entries of an outbox, as JSON, in portions: memory is bounded, however many there are, and a
 * running process is not kept from tidying up its log by somebody who reads slowly, because no
 * transaction is open while a portion is handed over. Main thread, blocking. */
#ifndef MD_OUTBOX_TOOL_ENTRIES_H
#define MD_OUTBOX_TOOL_ENTRIES_H

#include <jansson.h>
#include <stdbool.h>
#include <stdint.h>

#include "outbox_tool/file.h"

#define ENTRIES_ANY_STATE (-1)

typedef struct {
    int state;           /* OUTBOX_WAITING, OUTBOX_SET_ASIDE, ENTRIES_ANY_STATE */
    const char *subject; /* those that this pattern means; NULL: all */
    int64_t limit;       /* at most so many; negative: all */
    bool whole;          /* all that an entry has, instead of what a list shows */
} entries_wish;

/* Takes a portion, an array that is the caller's. False: no more is wanted. */
typedef bool (*entries_take)(void *closure, json_t *portion);

/* Hands over the entries in the order of their ids, in portions that are not empty. An entry that
 * comes or goes meanwhile is there or not. 0: all were taken, or no more was wanted; -1 and *e. */
int entries_read(outbox_file *f, const entries_wish *wish, entries_take take, void *closure,
                 error *e);

/* "waiting" or "set-aside"; a number that nobody knows is "unknown". */
const char *entries_state_name(int state);

/* Lets statements of this file use matches(subject), true when the pattern means it; it is
 * borrowed. 0, or -1 and *e. */
int entries_set_pattern(outbox_file *f, const char *pattern, error *e);

#endif
