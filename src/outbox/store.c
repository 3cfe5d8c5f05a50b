/* What is done with the entries of an outbox's file. See store.h; opening is in store_open.c. The
 * thread that has the store. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "outbox/schema.h"
#include "outbox/store_private.h"

#define SIZE_SQL "(length(msg_id) + length(subject) + coalesce(length(headers), 0) + length(data))"

/* ---- errors ---- */

/* SQLite does not remember it of each failure; then it is that of the last call of the system. */
static int system_error(sqlite3 *db)
{
    int number = errno, known = sqlite3_system_errno(db);
    return known != 0 ? known : number;
}

/* A write that the system refuses for want of room has more than one name. */
static bool is_full(sqlite3 *db, int code)
{
    if ((code & 0xff) == SQLITE_FULL)
        return true;
    int number = system_error(db);
    return (code & 0xff) == SQLITE_IOERR &&
           (number == ENOSPC || number == EFBIG || number == EDQUOT);
}

int store_error(store *s, int code, error *e)
{
    if (is_full(s->db, code))
        return error_set(e, "disk_full", ERROR_CLASS_LIMIT,
                         "outbox %s: there is no room on the disk; what it has stays, and it tries "
                         "again. Make room there",
                         s->path);
    if ((code & 0xff) == SQLITE_CORRUPT || (code & 0xff) == SQLITE_NOTADB)
        return error_set(e, "outbox_corrupt", ERROR_CLASS_NONE,
                         "outbox %s: the file is damaged (%s); it is left as it is. Move it away, "
                         "and look with `moondog outbox` what can be read of it",
                         s->path, sqlite3_errmsg(s->db));
    if ((code & 0xff) == SQLITE_NOMEM)
        return error_set(e, "no_memory", ERROR_CLASS_LIMIT, "outbox %s: no memory", s->path);
    int number = (code & 0xff) == SQLITE_IOERR ? system_error(s->db) : 0;
    return error_set(e, "outbox_file", ERROR_CLASS_NONE, "outbox %s: %s%s%s", s->path,
                     sqlite3_errmsg(s->db), number != 0 ? ": " : "",
                     number != 0 ? strerror(number) : "");
}

/* ---- statements ---- */

static const char *const texts[STATEMENT_COUNT] = {
    [STATEMENT_BEGIN] = "BEGIN IMMEDIATE",
    [STATEMENT_COMMIT] = "COMMIT",
    [STATEMENT_ROLLBACK] = "ROLLBACK",
    [STATEMENT_FIND] = "SELECT id, state, reason FROM entry WHERE msg_id = ?",
    [STATEMENT_INSERT] = "INSERT INTO entry (msg_id, subject, headers, data, created, expires) "
                         "VALUES (?, ?, ?, ?, ?, ?)",
    [STATEMENT_REMOVE] = "DELETE FROM entry WHERE id = ? RETURNING state, " SIZE_SQL,
    [STATEMENT_LATEST] = "SELECT id FROM temp.latest WHERE subject = ?",
    [STATEMENT_SET_LATEST] = "INSERT OR REPLACE INTO temp.latest VALUES (?, ?)",
    [STATEMENT_IS_WAITING] = "SELECT 1 FROM entry WHERE id = ? AND state = 0",
    [STATEMENT_SET_ASIDE] =
        "UPDATE entry SET state = 1, reason = ?, set_aside = ? WHERE id = ? AND state = 0",
    [STATEMENT_READ] = "SELECT id, created, expires, msg_id, subject, headers, data FROM entry "
                       "WHERE state = 0 AND id > ? ORDER BY id LIMIT ?",
    [STATEMENT_EXPIRED] = "SELECT id, coalesce(expires <= ?, 0) FROM entry "
                          "WHERE state = 0 AND id > ? ORDER BY id LIMIT ?",
    [STATEMENT_SET_META] = "INSERT OR REPLACE INTO meta VALUES (?, ?)",
    [STATEMENT_PLACES] = "SELECT key, value FROM meta WHERE key > 'last_seq.' AND "
                         "key < 'last_seq/' LIMIT ?",
    [STATEMENT_FIRST] = "SELECT id, created FROM entry WHERE state = 0 ORDER BY id LIMIT 1",
};

sqlite3_stmt *store_statement(store *s, store_statement_name name, error *e)
{
    if (s->statements[name] == NULL) {
        int code = sqlite3_prepare_v3(s->db, texts[name], -1, SQLITE_PREPARE_PERSISTENT,
                                      &s->statements[name], NULL);
        if (code != SQLITE_OK) {
            store_error(s, code, e);
            return NULL;
        }
    }
    return s->statements[name];
}

/* Ends it. 0, or -1 and *e: its last step failed. */
static int finish(store *s, sqlite3_stmt *statement, int code, error *e)
{
    bool failed = code != SQLITE_DONE && code != SQLITE_ROW && code != SQLITE_OK;
    if (failed)
        store_error(s, code, e); /* before the reset, which forgets it */
    sqlite3_reset(statement);
    sqlite3_clear_bindings(statement);
    return failed ? -1 : 0;
}

static int run(store *s, store_statement_name name, error *e)
{
    sqlite3_stmt *statement = store_statement(s, name, e);
    return statement == NULL ? -1 : finish(s, statement, sqlite3_step(statement), e);
}

static void bind_text(sqlite3_stmt *statement, int index, const char *text)
{
    sqlite3_bind_text(statement, index, text, -1, SQLITE_STATIC);
}

/* ---- transactions ---- */

int store_begin(store *s, error *e)
{
    s->before = s->totals;
    errno = 0;
    return run(s, STATEMENT_BEGIN, e);
}

void store_rollback(store *s)
{
    error ignored;
    if (!sqlite3_get_autocommit(s->db)) /* some failures have rolled it back themselves */
        run(s, STATEMENT_ROLLBACK, &ignored);
    s->totals = s->before;
    s->latest_count = 0; /* the table may have been made in there */
}

int store_refresh_first(store *s, error *e)
{
    sqlite3_stmt *statement = store_statement(s, STATEMENT_FIRST, e);
    if (statement == NULL)
        return -1;
    int code = sqlite3_step(statement);
    s->totals.first = code == SQLITE_ROW ? sqlite3_column_int64(statement, 0) : 0;
    s->totals.first_since = code == SQLITE_ROW ? sqlite3_column_int64(statement, 1) : 0;
    return finish(s, statement, code, e);
}

int store_commit(store *s, error *e)
{
    if (store_refresh_first(s, e) == 0 && run(s, STATEMENT_COMMIT, e) == 0)
        return 0;
    store_rollback(s);
    return -1;
}

const store_totals *store_get_totals(const store *s)
{
    return &s->totals;
}

/* ---- putting ---- */

static int64_t size_of(const store_message *m)
{
    return (int64_t)(strlen(m->msg_id) + strlen(m->subject) + m->header_length + m->data_length) +
           STORE_ENTRY_BYTES;
}

/* 1: there is one, and *out or *e says so; 0: there is none; -1 and *e. */
static int find_known(store *s, const store_message *m, store_put_result *out, error *e)
{
    sqlite3_stmt *find = store_statement(s, STATEMENT_FIND, e);
    if (find == NULL)
        return -1;
    bind_text(find, 1, m->msg_id);
    int code = sqlite3_step(find);
    bool known = code == SQLITE_ROW;
    out->id = known ? sqlite3_column_int64(find, 0) : 0;
    out->known = known;
    bool aside = known && sqlite3_column_int(find, 1) == OUTBOX_SET_ASIDE;
    if (aside) {
        const char *reason = (const char *)sqlite3_column_text(find, 2);
        error_set(e, "set_aside", ERROR_CLASS_NONE,
                  "outbox %s has a message with the id %s already, which was refused for good: %s",
                  s->path, m->msg_id, reason != NULL ? reason : "");
    }
    if (finish(s, find, code, aside ? NULL : e) != 0)
        return -1;
    return known ? 1 : 0;
}

static int insert(store *s, const store_message *m, store_put_result *out, error *e)
{
    sqlite3_stmt *put = store_statement(s, STATEMENT_INSERT, e);
    if (put == NULL)
        return -1;
    bind_text(put, 1, m->msg_id);
    bind_text(put, 2, m->subject);
    if (m->header_length > 0)
        sqlite3_bind_blob64(put, 3, m->headers, m->header_length, SQLITE_STATIC);
    if (m->data_length > 0)
        sqlite3_bind_blob64(put, 4, m->data, m->data_length, SQLITE_STATIC);
    else
        sqlite3_bind_zeroblob(put, 4, 0);
    sqlite3_bind_int64(put, 5, m->created);
    if (m->expires > 0)
        sqlite3_bind_int64(put, 6, m->expires);
    if (finish(s, put, sqlite3_step(put), e) != 0)
        return -1;
    out->id = s->totals.last = sqlite3_last_insert_rowid(s->db);
    s->totals.waiting++;
    s->totals.bytes += size_of(m);
    return 0;
}

/* Which entry is the latest one of a subject is looked up in a table of this process: the file has
 * no index for that. It begins with what waits when it is first asked for. */
static int make_latest(store *s, error *e)
{
    static const char text[] =
        "CREATE TEMP TABLE IF NOT EXISTS latest (subject TEXT PRIMARY KEY, id INTEGER)"
        " WITHOUT ROWID;"
        "DELETE FROM temp.latest;"
        "INSERT INTO temp.latest SELECT subject, max(id) FROM entry WHERE state = 0"
        " GROUP BY subject;";
    if (s->latest_count > 0 && s->latest_count < STORE_LATEST_MAX)
        return 0;
    int code = sqlite3_exec(s->db, text, NULL, NULL, NULL);
    if (code != SQLITE_OK)
        return store_error(s, code, e);
    s->latest_count = 1;
    return 0;
}

/* The id of the entry that `m` replaces; 0: none; -1 and *e. */
static int64_t find_replaced(store *s, const store_message *m, error *e)
{
    if (make_latest(s, e) != 0)
        return -1;
    sqlite3_stmt *find = store_statement(s, STATEMENT_LATEST, e);
    if (find == NULL)
        return -1;
    bind_text(find, 1, m->subject);
    int code = sqlite3_step(find);
    int64_t id = code == SQLITE_ROW ? sqlite3_column_int64(find, 0) : 0;
    if (finish(s, find, code, e) != 0)
        return -1;
    if (id == 0)
        s->latest_count++;
    if (id <= m->sent_max)
        return 0;
    find = store_statement(s, STATEMENT_IS_WAITING, e);
    if (find == NULL)
        return -1;
    sqlite3_bind_int64(find, 1, id);
    code = sqlite3_step(find);
    if (finish(s, find, code, e) != 0)
        return -1;
    return code == SQLITE_ROW ? id : 0;
}

static int note_latest(store *s, const store_message *m, int64_t id, error *e)
{
    sqlite3_stmt *note = store_statement(s, STATEMENT_SET_LATEST, e);
    if (note == NULL)
        return -1;
    bind_text(note, 1, m->subject);
    sqlite3_bind_int64(note, 2, id);
    return finish(s, note, sqlite3_step(note), e);
}

int store_put(store *s, const store_message *m, store_put_result *out, error *e)
{
    *out = (store_put_result){0};
    int known = find_known(s, m, out, e);
    if (known != 0)
        return known < 0 || e->code[0] != '\0' ? -1 : 0;
    int64_t replaced = m->latest ? find_replaced(s, m, e) : 0;
    bool was_there;
    if (replaced < 0)
        return -1;
    if (replaced == 0 && s->totals.bytes + size_of(m) > s->max_bytes)
        return error_set(e, "outbox_full", ERROR_CLASS_LIMIT,
                         "outbox %s has %lld bytes of the %lld that it may have: raise max_bytes, "
                         "or publish less until it is forwarded",
                         s->path, (long long)s->totals.bytes, (long long)s->max_bytes);
    if (replaced > 0 && store_remove(s, replaced, &was_there, e) != 0)
        return -1;
    if (insert(s, m, out, e) != 0)
        return -1;
    out->replaced = replaced;
    return m->latest ? note_latest(s, m, out->id, e) : 0;
}

/* ---- taking ---- */

int store_remove(store *s, int64_t id, bool *was_there, error *e)
{
    sqlite3_stmt *remove = store_statement(s, STATEMENT_REMOVE, e);
    if (remove == NULL)
        return -1;
    sqlite3_bind_int64(remove, 1, id);
    int code = sqlite3_step(remove);
    *was_there = code == SQLITE_ROW;
    if (*was_there) {
        if (sqlite3_column_int(remove, 0) == OUTBOX_WAITING)
            s->totals.waiting--;
        else
            s->totals.set_aside--;
        s->totals.bytes -= sqlite3_column_int64(remove, 1) + STORE_ENTRY_BYTES;
        code = sqlite3_step(remove); /* what it does is done with the last step */
    }
    return finish(s, remove, code, e);
}

int store_set_aside(store *s, int64_t id, const char *reason, int64_t now, error *e)
{
    sqlite3_stmt *update = store_statement(s, STATEMENT_SET_ASIDE, e);
    if (update == NULL)
        return -1;
    bind_text(update, 1, reason);
    sqlite3_bind_int64(update, 2, now);
    sqlite3_bind_int64(update, 3, id);
    if (finish(s, update, sqlite3_step(update), e) != 0)
        return -1;
    if (sqlite3_changes(s->db) > 0) {
        s->totals.waiting--;
        s->totals.set_aside++;
    }
    return 0;
}

/* There is no index over the times: it walks, a piece at a time. */
int store_expire(store *s, int64_t *after, int64_t now, unsigned max, unsigned *count, error *e)
{
    sqlite3_stmt *find = store_statement(s, STATEMENT_EXPIRED, e);
    int64_t *ids = calloc(max, sizeof *ids);
    int code;
    unsigned looked = 0;
    *count = 0;
    if (find == NULL || ids == NULL) {
        free(ids);
        return find == NULL ? -1 : store_error(s, SQLITE_NOMEM, e);
    }
    sqlite3_bind_int64(find, 1, now);
    sqlite3_bind_int64(find, 2, *after);
    sqlite3_bind_int64(find, 3, max);
    while ((code = sqlite3_step(find)) == SQLITE_ROW) {
        *after = sqlite3_column_int64(find, 0);
        looked++;
        if (sqlite3_column_int(find, 1) != 0)
            ids[(*count)++] = *after;
    }
    int failed = finish(s, find, code, e);
    bool was_there;
    for (unsigned i = 0; i < *count && failed == 0; i++)
        failed = store_remove(s, ids[i], &was_there, e);
    free(ids);
    if (looked < max)
        *after = 0;
    return failed;
}

/* ---- where the last one is ---- */

#define LAST_OF "last_seq."

static int set_meta(store *s, const char *key, const char *text, uint64_t number, error *e)
{
    sqlite3_stmt *set = store_statement(s, STATEMENT_SET_META, e);
    if (set == NULL)
        return -1;
    bind_text(set, 1, key);
    if (text != NULL)
        bind_text(set, 2, text);
    else
        sqlite3_bind_int64(set, 2, (int64_t)number);
    return finish(s, set, sqlite3_step(set), e);
}

int store_set_last(store *s, const char *stream, uint64_t sequence, error *e)
{
    char key[sizeof LAST_OF + STORE_STREAM_SIZE];
    snprintf(key, sizeof key, LAST_OF "%s", stream);
    if (set_meta(s, "last_seq", NULL, sequence, e) != 0 ||
        set_meta(s, "last_stream", stream, 0, e) != 0)
        return -1;
    return set_meta(s, key, NULL, sequence, e);
}

static unsigned find_place(const store_places *p, const char *stream)
{
    unsigned i = 0;
    while (i < p->count && strcmp(p->list[i].stream, stream) != 0)
        i++;
    return i;
}

/* The last one that was used is the last of the list. */
void store_places_note(store_places *p, const char *stream, uint64_t sequence)
{
    unsigned i = find_place(p, stream);
    char name[STORE_STREAM_SIZE]; /* it may lie in the list */
    snprintf(name, sizeof name, "%s", stream);
    if (i == p->count && p->count == STORE_PLACES_MAX)
        i = 0;
    if (i < p->count) {
        memmove(&p->list[i], &p->list[i + 1], (p->count - i - 1) * sizeof p->list[0]);
        p->count--;
    }
    memcpy(p->list[p->count].stream, name, sizeof name);
    p->list[p->count++].sequence = sequence;
}

uint64_t store_places_get(const store_places *p, const char *stream)
{
    unsigned i = find_place(p, stream);
    return i < p->count ? p->list[i].sequence : 0;
}

int store_get_places(store *s, store_places *out, error *e)
{
    sqlite3_stmt *get = store_statement(s, STATEMENT_PLACES, e);
    out->count = 0;
    if (get == NULL)
        return -1;
    sqlite3_bind_int(get, 1, STORE_PLACES_MAX);
    int code;
    while ((code = sqlite3_step(get)) == SQLITE_ROW) {
        const char *key = (const char *)sqlite3_column_text(get, 0);
        if (key != NULL)
            store_places_note(out, key + sizeof LAST_OF - 1,
                              (uint64_t)sqlite3_column_int64(get, 1));
    }
    return finish(s, get, code, e);
}

/* ---- reading ---- */

static void read_row(sqlite3_stmt *row, store_entry *entry)
{
    *entry = (store_entry){
        .id = sqlite3_column_int64(row, 0),
        .created = sqlite3_column_int64(row, 1),
        .expires = sqlite3_column_int64(row, 2),
        .msg_id = (const char *)sqlite3_column_text(row, 3),
        .subject = (const char *)sqlite3_column_text(row, 4),
        .headers = sqlite3_column_blob(row, 5),
        .data = sqlite3_column_blob(row, 6),
        .msg_id_length = (size_t)sqlite3_column_bytes(row, 3),
        .subject_length = (size_t)sqlite3_column_bytes(row, 4),
        .header_length = (size_t)sqlite3_column_bytes(row, 5),
        .data_length = (size_t)sqlite3_column_bytes(row, 6),
    };
}

int store_read(store *s, int64_t after, unsigned max, store_entry_fn fn, void *closure, error *e)
{
    sqlite3_stmt *read = store_statement(s, STATEMENT_READ, e);
    if (read == NULL)
        return -1;
    sqlite3_bind_int64(read, 1, after);
    sqlite3_bind_int64(read, 2, max);
    int code;
    while ((code = sqlite3_step(read)) == SQLITE_ROW) {
        store_entry entry;
        read_row(read, &entry);
        if (entry.msg_id == NULL || entry.subject == NULL) {
            code = SQLITE_NOMEM;
            break;
        }
        if (fn(closure, &entry) != 0) {
            code = SQLITE_DONE;
            break;
        }
    }
    return finish(s, read, code, e);
}
