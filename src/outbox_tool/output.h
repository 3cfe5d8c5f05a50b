/* Where entries are written to: standard output, or a file that is there only when all of it is.
 * Main thread, blocking. */
#ifndef MD_OUTBOX_TOOL_OUTPUT_H
#define MD_OUTBOX_TOOL_OUTPUT_H

#include <jansson.h>
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/error.h"

typedef struct {
    FILE *file;
    const char *path; /* NULL: standard output; borrowed */
    char part[PATH_MAX];
    int64_t entries;
    int failed; /* errno, of the first write that failed */
} output;

/* 0, or -1 and *e: there is such a file already, and it may be worth something. */
int output_open(output *o, const char *path, error *e);

/* Writes each entry of the array, which it takes, as one line of JSON. An entries_take. */
bool output_take(void *closure, json_t *portion);

/* Puts the file in its place when `good`, and removes it otherwise. 0, or -1 and *e when it could
 * not be written. *e is empty when that was standard output: the end of the program finds the same,
 * and says it, unless whoever reads has left, as head(1) does. */
int output_close(output *o, bool good, error *e);

#endif
