/* The file of an outbox, opened by somebody who looks into it: what it is, and what is wrong with
 * it. Reading never changes it, and works while a process has it. Main thread, blocking. */
#ifndef MD_OUTBOX_TOOL_FILE_H
#define MD_OUTBOX_TOOL_FILE_H

#include <limits.h>
#include <sqlite3.h>
#include <stdbool.h>

#include "base/error.h"

typedef struct {
    sqlite3 *db;
    char path[PATH_MAX]; /* without symbolic links: the lock is beside the real one */
    int lock;            /* -1: it is only read */
} outbox_file;

typedef enum { OUTBOX_READ, OUTBOX_CHANGE } outbox_access;

/* Opens it; OUTBOX_CHANGE takes the lock. 0, or -1 and *e; then there is nothing to close. */
int outbox_file_open(outbox_file *f, const char *path, outbox_access access_wanted, error *e);
void outbox_file_close(outbox_file *f);

/* Looks through all of it. 0, or -1 and *e: what is damaged. */
int outbox_file_check(outbox_file *f, error *e);

/* What SQLite answered with, as an error with a remedy. Returns -1. */
int outbox_file_fault(outbox_file *f, int code, error *e);

/* Runs statements that return nothing. 0, or -1 and *e. */
int outbox_file_run(outbox_file *f, const char *sql, error *e);

/* The statement, which the caller finalizes; NULL and *e. */
sqlite3_stmt *outbox_file_prepare(outbox_file *f, const char *sql, error *e);

#endif
