/* What an outbox holds. See summary.h. */
#include "outbox_tool/summary.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "outbox/schema.h"
#include "outbox_tool/entries.h"
#include "outbox_tool/lock.h"
#include "report.h"

static json_t *no_memory(error *e)
{
    error_set(e, "no_memory", ERROR_CLASS_NONE, "no memory");
    return NULL;
}

/* ---- counting ---- */

json_t *summary_count(outbox_file *f, const char *subject, error *e)
{
    int64_t counts[2] = {0, 0};
    if (subject != NULL && entries_set_pattern(f, subject, e) != 0)
        return NULL;
    sqlite3_stmt *statement = outbox_file_prepare(
        f,
        subject == NULL ? "SELECT state, count(*) FROM entry GROUP BY state"
                        : "SELECT state, count(*) FROM entry WHERE matches(subject) GROUP BY state",
        e);
    if (statement == NULL)
        return NULL;
    int code;
    while ((code = sqlite3_step(statement)) == SQLITE_ROW) {
        int state = sqlite3_column_int(statement, 0);
        if (state == OUTBOX_WAITING || state == OUTBOX_SET_ASIDE)
            counts[state] = sqlite3_column_int64(statement, 1);
    }
    if (code != SQLITE_DONE)
        outbox_file_fault(f, code, e);
    sqlite3_finalize(statement);
    if (code != SQLITE_DONE)
        return NULL;
    json_t *result = json_pack("{s:I, s:I}", "waiting", (json_int_t)counts[OUTBOX_WAITING],
                               "set_aside", (json_int_t)counts[OUTBOX_SET_ASIDE]);
    return result != NULL ? result : no_memory(e);
}

/* ---- the summary ---- */

/* Of one state: how many, their bytes (headers and data), how old the oldest is, how many of them
 * have expired. */
static json_t *state_summary(outbox_file *f, int state, error *e)
{
    json_t *result = NULL;
    int64_t now = clock_wall_ms();
    sqlite3_stmt *statement = outbox_file_prepare(
        f,
        "SELECT count(*), ifnull(sum(length(data) + ifnull(length(headers), 0)), 0), min(created), "
        "ifnull(sum(expires <= ?2), 0) FROM entry WHERE state = ?1",
        e);
    if (statement == NULL)
        return NULL;
    sqlite3_bind_int(statement, 1, state);
    sqlite3_bind_int64(statement, 2, now);
    int code = sqlite3_step(statement);
    if (code == SQLITE_ROW) {
        bool any = sqlite3_column_type(statement, 2) != SQLITE_NULL;
        int64_t age = now - sqlite3_column_int64(statement, 2);
        result = json_pack("{s:I, s:I, s:o, s:I}", "count",
                           (json_int_t)sqlite3_column_int64(statement, 0), "bytes",
                           (json_int_t)sqlite3_column_int64(statement, 1), "oldest",
                           any ? json_real(age > 0 ? (double)age / 1000 : 0) : json_null(),
                           "expired", (json_int_t)sqlite3_column_int64(statement, 3));
        if (result == NULL)
            no_memory(e);
    } else {
        outbox_file_fault(f, code, e);
    }
    sqlite3_finalize(statement);
    return result;
}

/* Where the last entry is that a stream acknowledged: "last_stream", "last_seq" into `result`. */
static int add_meta(outbox_file *f, json_t *result, error *e)
{
    sqlite3_stmt *statement = outbox_file_prepare(
        f, "SELECT key, value FROM meta WHERE key IN ('last_stream', 'last_seq')", e);
    if (statement == NULL)
        return -1;
    json_object_set_new(result, "last_stream", json_null());
    json_object_set_new(result, "last_seq", json_null());
    int code;
    while ((code = sqlite3_step(statement)) == SQLITE_ROW) {
        const char *key = (const char *)sqlite3_column_text(statement, 0);
        if (key != NULL && strcmp(key, "last_seq") == 0)
            json_object_set_new(result, key, json_integer(sqlite3_column_int64(statement, 1)));
        else if (key != NULL && sqlite3_column_type(statement, 1) != SQLITE_NULL)
            json_object_set_new(result, key,
                                report_text((const char *)sqlite3_column_text(statement, 1)));
    }
    if (code != SQLITE_DONE)
        outbox_file_fault(f, code, e);
    sqlite3_finalize(statement);
    return code == SQLITE_DONE ? 0 : -1;
}

static int64_t size_on_disk(const outbox_file *f)
{
    char wal[PATH_MAX + 8];
    struct stat status;
    snprintf(wal, sizeof wal, "%s-wal", f->path);
    int64_t size = stat(f->path, &status) == 0 ? status.st_size : 0;
    return size + (stat(wal, &status) == 0 ? status.st_size : 0);
}

static bool append(void *closure, json_t *portion)
{
    json_array_extend(closure, portion);
    json_decref(portion);
    return true;
}

static int fill(outbox_file *f, json_t *result, int64_t limit, error *e)
{
    json_t *waiting = state_summary(f, OUTBOX_WAITING, e);
    json_t *set_aside = waiting != NULL ? state_summary(f, OUTBOX_SET_ASIDE, e) : NULL;
    json_t *entries = json_array();
    json_object_set_new(result, "waiting", waiting);
    json_object_set_new(result, "set_aside", set_aside);
    json_object_set_new(result, "entries", entries);
    entries_wish wish = {.state = ENTRIES_ANY_STATE, .limit = limit};
    if (set_aside == NULL || add_meta(f, result, e) != 0)
        return -1;
    return entries_read(f, &wish, append, entries, e);
}

json_t *summary_make(outbox_file *f, int64_t limit, error *e)
{
    pid_t pid = 0;
    lock_state held = lock_look(f->path, &pid);
    if (outbox_file_run(f, "BEGIN", e) != 0 || outbox_file_check(f, e) != 0)
        return NULL;
    json_t *result = json_pack("{s:o, s:I, s:o, s:o}", "file", report_text(f->path), "size",
                               (json_int_t)size_on_disk(f), "held",
                               held == LOCK_UNKNOWN ? json_null() : json_boolean(held == LOCK_HELD),
                               "pid", pid != 0 ? json_integer(pid) : json_null());
    if (result == NULL)
        return no_memory(e);
    if (fill(f, result, limit, e) == 0 && outbox_file_run(f, "COMMIT", e) == 0)
        return result;
    json_decref(result);
    return NULL;
}
