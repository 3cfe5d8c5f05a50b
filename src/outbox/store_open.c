/* Opening and closing the file of an outbox: the lock, what makes it an outbox, its totals. See
 * store.h. The thread that has the store. */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "outbox/schema.h"
#include "outbox/store_private.h"

#define BUSY_MS 2000       /* a reader may hold the file for a moment */
#define CACHE_KIB "-4096"  /* of pages in memory */
#define WAL_KEPT "4194304" /* bytes of the log that stay on the disk when it is empty */

static int file_error(store *s, const char *what, error *e)
{
    int number = errno;
    if (number == ENOSPC || number == EDQUOT)
        return store_error(s, SQLITE_FULL, e);
    return error_set(e, "outbox_file", ERROR_CLASS_NONE, "outbox %s: %s: %s", s->path, what,
                     strerror(number));
}

/* The lock is the kernel's: it ends with the process, however that ends. The file stays, because
 * whoever removed it could remove one that another process has just locked. */
static int take_lock(store *s, error *e)
{
    char *path;
    if (asprintf(&path, "%s" OUTBOX_LOCK_SUFFIX, s->path) < 0)
        return error_set(e, "no_memory", ERROR_CLASS_LIMIT, "outbox %s: no memory", s->path);
    s->lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    free(path);
    if (s->lock < 0)
        return file_error(s, "the lock beside it cannot be made", e);
    if (flock(s->lock, LOCK_EX | LOCK_NB) == 0)
        return 0;
    if (errno != EWOULDBLOCK)
        return file_error(s, "it cannot be locked", e);
    return error_set(e, "outbox_locked", ERROR_CLASS_NONE,
                     "outbox %s: another process has this file; give each process a file of its "
                     "own, or end the other one",
                     s->path);
}

/* SQLite would make the file with a mode of its own. */
static int make_file(store *s, error *e)
{
    int fd = open(s->path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    struct stat what;
    if (fd < 0)
        return file_error(s, "it cannot be opened", e);
    int failed = fstat(fd, &what);
    close(fd);
    if (failed != 0)
        return file_error(s, "it cannot be looked at", e);
    if (!S_ISREG(what.st_mode))
        return error_set(e, "outbox_file", ERROR_CLASS_NONE, "outbox %s: this is no file", s->path);
    return 0;
}

/* An integer that a statement answers with. */
static int ask(store *s, const char *text, int64_t *out, error *e)
{
    sqlite3_stmt *statement = NULL;
    int code = sqlite3_prepare_v2(s->db, text, -1, &statement, NULL);
    if (code == SQLITE_OK)
        code = sqlite3_step(statement);
    if (code == SQLITE_ROW)
        *out = sqlite3_column_int64(statement, 0);
    else
        store_error(s, code, e);
    sqlite3_finalize(statement);
    return code == SQLITE_ROW ? 0 : -1;
}

static int execute(store *s, const char *text, error *e)
{
    int code = sqlite3_exec(s->db, text, NULL, NULL, NULL);
    return code == SQLITE_OK ? 0 : store_error(s, code, e);
}

static int no_outbox(store *s, const char *what, error *e)
{
    return error_set(e, "outbox_corrupt", ERROR_CLASS_NONE,
                     "outbox %s: %s; it is left as it is. Give the outbox another path, or move "
                     "this file away",
                     s->path, what);
}

static int make_schema(store *s, error *e)
{
    char text[128];
    snprintf(text, sizeof text, "PRAGMA application_id = %d; PRAGMA user_version = %d;",
             OUTBOX_APPLICATION_ID, OUTBOX_SCHEMA_VERSION);
    if (execute(s, "BEGIN IMMEDIATE", e) != 0)
        return -1;
    if (execute(s, OUTBOX_SCHEMA, e) == 0 && execute(s, text, e) == 0 &&
        execute(s, "COMMIT", e) == 0)
        return 0;
    sqlite3_exec(s->db, "ROLLBACK", NULL, NULL, NULL);
    return -1;
}

/* Nothing is written before it is known to be ours, or empty. */
static int check_schema(store *s, error *e)
{
    int64_t id, version, tables;
    if (ask(s, "PRAGMA application_id", &id, e) != 0 ||
        ask(s, "PRAGMA user_version", &version, e) != 0 ||
        ask(s, "SELECT count(*) FROM sqlite_master", &tables, e) != 0)
        return -1;
    bool fresh = id == 0 && tables == 0 && version == 0;
    if (!fresh && id != OUTBOX_APPLICATION_ID)
        return no_outbox(s, "this is a database of another program", e);
    if (!fresh && version > OUTBOX_SCHEMA_VERSION)
        return no_outbox(s, "it was written by a newer version of moondog", e);
    if (execute(s, "PRAGMA journal_mode = WAL", e) != 0)
        return -1;
    return fresh ? make_schema(s, e) : 0;
}

static int count(store *s, error *e)
{
    int64_t waiting, aside;
    if (ask(s, "SELECT count(*) FROM entry WHERE state = 0", &waiting, e) != 0 ||
        ask(s, "SELECT count(*) FROM entry WHERE state = 1", &aside, e) != 0 ||
        ask(s,
            "SELECT coalesce(sum(length(msg_id) + length(subject) +"
            " coalesce(length(headers), 0) + length(data)), 0) FROM entry",
            &s->totals.bytes, e) != 0 ||
        ask(s, "SELECT coalesce((SELECT seq FROM sqlite_sequence WHERE name = 'entry'), 0)",
            &s->totals.last, e) != 0)
        return -1;
    s->totals.waiting = (uint64_t)waiting;
    s->totals.set_aside = (uint64_t)aside;
    s->totals.bytes += (waiting + aside) * STORE_ENTRY_BYTES;
    return store_refresh_first(s, e);
}

bool store_has_moved(store *s)
{
    int moved = 0;
    return sqlite3_file_control(s->db, NULL, SQLITE_FCNTL_HAS_MOVED, &moved) == SQLITE_OK &&
           moved != 0;
}

/* Whoever holds entries of a file that was there before knows them by their ids. */
static int go_on_from(store *s, int64_t last_id, error *e)
{
    char text[160];
    if (s->totals.last >= last_id)
        return 0;
    snprintf(text, sizeof text,
             "DELETE FROM sqlite_sequence WHERE name = 'entry';"
             "INSERT INTO sqlite_sequence VALUES ('entry', %lld)",
             (long long)last_id);
    s->totals.last = last_id;
    return execute(s, text, e);
}

void store_set_limits(store *s, int64_t max_bytes, bool fsync)
{
    s->max_bytes = max_bytes;
    sqlite3_exec(s->db, fsync ? "PRAGMA synchronous = FULL" : "PRAGMA synchronous = NORMAL", NULL,
                 NULL, NULL);
}

static int open_database(store *s, const store_options *options, error *e)
{
    char pages[64];
    int code = sqlite3_open_v2(s->path, &s->db, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL);
    if (code != SQLITE_OK)
        return s->db != NULL
                   ? store_error(s, code, e)
                   : error_set(e, "no_memory", ERROR_CLASS_LIMIT, "outbox %s: no memory", s->path);
    sqlite3_extended_result_codes(s->db, 1);
    sqlite3_busy_timeout(s->db, BUSY_MS);
    if (check_schema(s, e) != 0)
        return -1;
    snprintf(pages, sizeof pages, "PRAGMA max_page_count = %u", options->max_pages);
    if (options->max_pages > 0 && execute(s, pages, e) != 0)
        return -1;
    store_set_limits(s, options->max_bytes, options->fsync);
    if (execute(s, "PRAGMA cache_size = " CACHE_KIB "; PRAGMA journal_size_limit = " WAL_KEPT, e) !=
        0)
        return -1;
    return count(s, e) == 0 ? go_on_from(s, options->last_id, e) : -1;
}

store *store_open(const store_options *options, error *e)
{
    store *s = calloc(1, sizeof *s);
    if (s != NULL) {
        s->lock = -1;
        s->path = strdup(options->path);
    }
    if (s == NULL || s->path == NULL) {
        error_set(e, "no_memory", ERROR_CLASS_LIMIT, "outbox %s: no memory", options->path);
        free(s);
        return NULL;
    }
    if (take_lock(s, e) == 0 && make_file(s, e) == 0 && open_database(s, options, e) == 0)
        return s;
    store_close(s);
    return NULL;
}

void store_close(store *s)
{
    if (s == NULL)
        return;
    for (int i = 0; i < STATEMENT_COUNT; i++)
        sqlite3_finalize(s->statements[i]);
    sqlite3_close(s->db);
    if (s->lock >= 0)
        close(s->lock); /* after the database: then it is whole */
    free(s->path);
    free(s);
}
