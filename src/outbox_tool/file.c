/* The file of an outbox. See file.h. */
#include "outbox_tool/file.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "outbox/schema.h"
#include "outbox_tool/lock.h"

#define BUSY_MS 5000 /* for another reader that puts the index of the log in order */
#define URI_SIZE (3 * PATH_MAX + 32)
#define CHECK_TEXT_SIZE 200

/* ---- faults ---- */

static const char *remedy_of(int code)
{
    switch (code & 0xff) {
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        return "it is damaged: stop the process, copy the file with its -wal and -shm, save what "
               "can be read with export, and let moondog begin a new one at another path";
    case SQLITE_CANTOPEN:
    case SQLITE_READONLY:
    case SQLITE_PERM:
    case SQLITE_AUTH:
        return "look into it as the user whom it belongs to, or copy it with its -wal into a "
               "folder of yours";
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return "another program is changing it; try again";
    case SQLITE_FULL:
        return "nothing was changed; make room on the disk";
    case SQLITE_IOERR:
        return "look at the disk, and at the log of the kernel";
    default:
        return "nothing was changed";
    }
}

int outbox_file_fault(outbox_file *f, int code, error *e)
{
    int primary = code & 0xff;
    bool damaged = primary == SQLITE_CORRUPT || primary == SQLITE_NOTADB;
    const char *what = f->db != NULL ? sqlite3_errmsg(f->db) : sqlite3_errstr(code);
    return error_set(e, damaged ? "outbox_corrupt" : "outbox_file", ERROR_CLASS_NONE, "%s: %s; %s",
                     f->path, what, remedy_of(code));
}

int outbox_file_run(outbox_file *f, const char *sql, error *e)
{
    int code = sqlite3_exec(f->db, sql, NULL, NULL, NULL);
    return code == SQLITE_OK ? 0 : outbox_file_fault(f, code, e);
}

sqlite3_stmt *outbox_file_prepare(outbox_file *f, const char *sql, error *e)
{
    sqlite3_stmt *statement = NULL;
    int code = sqlite3_prepare_v2(f->db, sql, -1, &statement, NULL);
    if (code == SQLITE_ERROR) /* a table or a column is missing */
        error_set(e, "outbox_corrupt", ERROR_CLASS_NONE, "%s: %s; %s", f->path,
                  sqlite3_errmsg(f->db), remedy_of(SQLITE_CORRUPT));
    else if (code != SQLITE_OK)
        outbox_file_fault(f, code, e);
    return statement;
}

/* ---- opening ---- */

/* SQLite reads a file in WAL mode only where it may make the index of the log, even when there is
 * no log. Where it may not, and there is none, the file is all there is, and nobody changes it. */
static int open_where_nothing_can_be_written(outbox_file *f, int refused)
{
    char uri[URI_SIZE], wal[PATH_MAX + 8];
    size_t at = (size_t)snprintf(uri, sizeof uri, "file:");
    snprintf(wal, sizeof wal, "%s-wal", f->path);
    if (access(wal, F_OK) == 0)
        return refused;
    for (const char *c = f->path; *c != '\0'; c++)
        at += (size_t)snprintf(uri + at, sizeof uri - at, strchr("%?#", *c) ? "%%%02X" : "%c",
                               (unsigned char)*c);
    snprintf(uri + at, sizeof uri - at, "?immutable=1");
    sqlite3_close(f->db);
    f->db = NULL;
    return sqlite3_open_v2(uri, &f->db,
                           SQLITE_OPEN_READONLY | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_URI, NULL);
}

/* The file may come from anybody: nothing in its schema is trusted. And a reader that is the last
 * to leave does not move the log into the database: that is the process's own. */
static void be_careful(outbox_file *f)
{
    sqlite3_extended_result_codes(f->db, 1);
    sqlite3_busy_timeout(f->db, BUSY_MS);
    sqlite3_db_config(f->db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    sqlite3_db_config(f->db, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
    sqlite3_db_config(f->db, SQLITE_DBCONFIG_ENABLE_TRIGGER, 0, NULL);
    sqlite3_db_config(f->db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, f->lock < 0, NULL);
}

/* The number that a pragma says; a code of SQLite. */
static int ask_number(outbox_file *f, const char *sql, int *number)
{
    sqlite3_stmt *statement = NULL;
    int code = sqlite3_prepare_v2(f->db, sql, -1, &statement, NULL);
    if (code == SQLITE_OK)
        code = sqlite3_step(statement);
    if (code == SQLITE_ROW)
        *number = sqlite3_column_int(statement, 0);
    sqlite3_finalize(statement);
    return code == SQLITE_ROW || code == SQLITE_DONE ? SQLITE_OK : code;
}

/* The first page is read here: what is no database at all is found here, too. */
static int identify(outbox_file *f, error *e)
{
    int application = 0, version = 0, code = ask_number(f, "PRAGMA application_id", &application);
    int primary = code & 0xff;
    if ((primary == SQLITE_CANTOPEN || primary == SQLITE_READONLY) && f->lock < 0 &&
        (code = open_where_nothing_can_be_written(f, code)) == SQLITE_OK) {
        be_careful(f);
        code = ask_number(f, "PRAGMA application_id", &application);
    }
    if (code == SQLITE_OK)
        code = ask_number(f, "PRAGMA user_version", &version);
    if (code == SQLITE_NOTADB)
        return error_set(e, "not_outbox", ERROR_CLASS_NONE,
                         "%s is not an outbox, or its beginning is damaged: it is no database of "
                         "SQLite; look at the path in moondog.outbox",
                         f->path);
    if (code != SQLITE_OK)
        return outbox_file_fault(f, code, e);
    if (application == 0 && version == 0)
        return error_set(e, "not_outbox", ERROR_CLASS_NONE,
                         "%s is not an outbox, or not yet one: it does not say what it is; look at "
                         "the path in moondog.outbox",
                         f->path);
    if (application != OUTBOX_APPLICATION_ID)
        return error_set(e, "not_outbox", ERROR_CLASS_NONE,
                         "%s is not an outbox, but another program's database; look at the path in "
                         "moondog.outbox",
                         f->path);
    if (version != OUTBOX_SCHEMA_VERSION)
        return error_set(e, "outbox_version", ERROR_CLASS_NONE,
                         "%s has the schema %d, and this moondog knows %d; use the moondog that it "
                         "was made with",
                         f->path, version, OUTBOX_SCHEMA_VERSION);
    return 0;
}

static int find(outbox_file *f, const char *path, struct stat *status, outbox_access wanted,
                error *e)
{
    const char *verb = wanted == OUTBOX_CHANGE ? "change" : "read";
    if (realpath(path, f->path) == NULL || stat(f->path, status) != 0)
        return error_set(e, "no_outbox", ERROR_CLASS_NONE, "cannot %s the outbox %s: %s%s", verb,
                         path, strerror(errno),
                         errno == ENOENT ? "; it is made when a script with moondog.outbox runs"
                                         : "");
    if (!S_ISREG(status->st_mode))
        return error_set(e, "not_outbox", ERROR_CLASS_NONE, "%s is not an outbox: it is no file",
                         f->path);
    if (access(f->path, wanted == OUTBOX_CHANGE ? R_OK | W_OK : R_OK) != 0)
        return error_set(e, "outbox_file", ERROR_CLASS_NONE,
                         "cannot %s the outbox %s: %s; do this as the user whom it belongs to",
                         verb, f->path, strerror(errno));
    if (status->st_size == 0)
        return error_set(e, "not_outbox", ERROR_CLASS_NONE,
                         "%s is not an outbox, or not yet one: it is empty", f->path);
    return 0;
}

int outbox_file_open(outbox_file *f, const char *path, outbox_access access_wanted, error *e)
{
    struct stat status;
    *f = (outbox_file){.lock = -1};
    if (find(f, path, &status, access_wanted, e) != 0)
        return -1;
    bool change = access_wanted == OUTBOX_CHANGE;
    int flags = (change ? SQLITE_OPEN_READWRITE : SQLITE_OPEN_READONLY) | SQLITE_OPEN_NOMUTEX;
    /* What is no outbox gets no file of a lock beside it. */
    if (change) {
        outbox_file looked;
        if (outbox_file_open(&looked, path, OUTBOX_READ, e) != 0)
            return -1;
        outbox_file_close(&looked);
        if ((f->lock = lock_take(f->path, &status, e)) < 0)
            return -1;
    }
    int code = sqlite3_open_v2(f->path, &f->db, flags, NULL);
    if (code == SQLITE_OK) {
        be_careful(f);
        if (identify(f, e) == 0)
            return 0;
    } else {
        outbox_file_fault(f, code, e);
    }
    outbox_file_close(f);
    return -1;
}

void outbox_file_close(outbox_file *f)
{
    sqlite3_close(f->db);
    if (f->lock >= 0)
        close(f->lock);
    *f = (outbox_file){.lock = -1};
}

int outbox_file_check(outbox_file *f, error *e)
{
    char found[CHECK_TEXT_SIZE] = "";
    sqlite3_stmt *statement = outbox_file_prepare(f, "PRAGMA quick_check(1)", e);
    if (statement == NULL)
        return -1;
    int code = sqlite3_step(statement);
    const char *text = code == SQLITE_ROW ? (const char *)sqlite3_column_text(statement, 0) : NULL;
    if (text != NULL && strcmp(text, "ok") != 0)
        snprintf(found, sizeof found, "%s", text);
    int failed = code == SQLITE_ROW || code == SQLITE_DONE ? 0 : outbox_file_fault(f, code, e);
    sqlite3_finalize(statement);
    if (found[0] != '\0')
        return error_set(e, "outbox_corrupt", ERROR_CLASS_NONE, "%s: %s; %s", f->path, found,
                         remedy_of(SQLITE_CORRUPT));
    return failed;
}
