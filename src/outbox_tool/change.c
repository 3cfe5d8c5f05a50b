/* What a person changes in an outbox. See change.h. */
#include "outbox_tool/change.h"

#include <inttypes.h>

#include "base/clock.h"
#include "outbox/schema.h"

struct change {
    outbox_file *file;
    sqlite3_stmt *look, *next, *move, *keep_sequence;
    change_result *result;
    int64_t sequence; /* the highest id that was ever given */
    int64_t now;
};

/* ---- one statement ---- */

/* What a statement that was bound answers in its first column; `otherwise` when there is no row.
 * 0, or -1 and *e. */
static int ask(outbox_file *f, sqlite3_stmt *statement, int64_t otherwise, int64_t *value, error *e)
{
    int code = sqlite3_step(statement);
    *value = code == SQLITE_ROW ? sqlite3_column_int64(statement, 0) : otherwise;
    int failed = code == SQLITE_ROW || code == SQLITE_DONE ? 0 : outbox_file_fault(f, code, e);
    sqlite3_reset(statement);
    return failed;
}

static int no_such_entry(const outbox_file *f, int64_t id, error *e)
{
    return error_set(e, "no_entry", ERROR_CLASS_NONE,
                     "%s has no entry %" PRId64 "; nothing was changed; see moondog outbox FILE "
                     "list",
                     f->path, id);
}

/* 0 and a transaction that is to be ended by finish(). */
static int begin(outbox_file *f, error *e)
{
    return outbox_file_run(f, "BEGIN IMMEDIATE", e);
}

static int finish(outbox_file *f, int failed, change_result *r, error *e)
{
    if (failed == 0 && outbox_file_run(f, "COMMIT", e) == 0)
        return 0;
    sqlite3_exec(f->db, "ROLLBACK", NULL, NULL, NULL);
    *r = (change_result){0};
    return -1;
}

/* ---- requeue ---- */

static int prepare_requeue(struct change *c, error *e)
{
    c->look = outbox_file_prepare(c->file, "SELECT state FROM entry WHERE id = ?1", e);
    c->next = outbox_file_prepare(
        c->file, "SELECT id FROM entry WHERE state = ?1 AND id > ?2 ORDER BY id LIMIT 1", e);
    c->move = outbox_file_prepare(c->file,
                                  "UPDATE entry SET id = ?2, state = ?3, reason = NULL, "
                                  "set_aside = NULL WHERE id = ?1 RETURNING expires <= ?4",
                                  e);
    /* An UPDATE does not tell SQLite that the new ids are taken: without this, one of them would be
     * given again after its entry is gone. */
    c->keep_sequence =
        outbox_file_prepare(c->file, "UPDATE sqlite_sequence SET seq = ?1 WHERE name = 'entry'", e);
    sqlite3_stmt *highest = outbox_file_prepare(
        c->file,
        "SELECT max(ifnull((SELECT seq FROM sqlite_sequence WHERE name = 'entry'), 0), "
        "ifnull((SELECT max(id) FROM entry), 0))",
        e);
    bool prepared = c->look != NULL && c->next != NULL && c->move != NULL &&
                    c->keep_sequence != NULL && highest != NULL;
    int failed = prepared ? ask(c->file, highest, 0, &c->sequence, e) : -1;
    sqlite3_finalize(highest);
    return failed;
}

static int move_to_end(struct change *c, int64_t id, error *e)
{
    int64_t expired;
    sqlite3_bind_int64(c->move, 1, id);
    sqlite3_bind_int64(c->move, 2, ++c->sequence);
    sqlite3_bind_int(c->move, 3, OUTBOX_WAITING);
    sqlite3_bind_int64(c->move, 4, c->now);
    if (ask(c->file, c->move, 0, &expired, e) != 0)
        return -1;
    if (c->result->count++ == 0)
        c->result->first = c->sequence;
    c->result->last = c->sequence;
    c->result->expired += expired;
    return 0;
}

static int requeue_one(struct change *c, int64_t id, error *e)
{
    int64_t state;
    sqlite3_bind_int64(c->look, 1, id);
    if (ask(c->file, c->look, -1, &state, e) != 0)
        return -1;
    if (state == -1)
        return no_such_entry(c->file, id, e);
    if (state != OUTBOX_SET_ASIDE)
        return error_set(e, "not_set_aside", ERROR_CLASS_NONE,
                         "entry %" PRId64 " is not set aside: it waits as it is; nothing was "
                         "changed",
                         id);
    return move_to_end(c, id, e);
}

/* Those that were moved wait, and are not found again. */
static int requeue_all(struct change *c, error *e)
{
    int64_t id = INT64_MIN;
    for (;;) {
        sqlite3_bind_int(c->next, 1, OUTBOX_SET_ASIDE);
        sqlite3_bind_int64(c->next, 2, id);
        if (ask(c->file, c->next, INT64_MIN, &id, e) != 0)
            return -1;
        if (id == INT64_MIN)
            return 0;
        if (move_to_end(c, id, e) != 0)
            return -1;
    }
}

static int requeue(struct change *c, const int64_t *ids, size_t count, error *e)
{
    int64_t ignored;
    if (prepare_requeue(c, e) != 0)
        return -1;
    if (ids == NULL && requeue_all(c, e) != 0)
        return -1;
    for (size_t i = 0; ids != NULL && i < count; i++)
        if ((i == 0 || ids[i] != ids[i - 1]) && requeue_one(c, ids[i], e) != 0)
            return -1;
    sqlite3_bind_int64(c->keep_sequence, 1, c->sequence);
    return ask(c->file, c->keep_sequence, 0, &ignored, e);
}

int change_requeue(outbox_file *f, const int64_t *ids, size_t count, change_result *r, error *e)
{
    struct change c = {.file = f, .result = r, .now = clock_wall_ms()};
    *r = (change_result){0};
    if (begin(f, e) != 0)
        return -1;
    int failed = requeue(&c, ids, count, e);
    sqlite3_finalize(c.look);
    sqlite3_finalize(c.next);
    sqlite3_finalize(c.move);
    sqlite3_finalize(c.keep_sequence);
    return finish(f, failed, r, e);
}

/* ---- delete ---- */

static int remove_with(outbox_file *f, sqlite3_stmt *statement, int64_t value, error *e)
{
    int64_t ignored;
    sqlite3_bind_int64(statement, 1, value);
    return ask(f, statement, 0, &ignored, e);
}

static int remove_listed(outbox_file *f, sqlite3_stmt *statement, const int64_t *ids, size_t count,
                         error *e)
{
    for (size_t i = 0; i < count; i++) {
        if (i > 0 && ids[i] == ids[i - 1])
            continue;
        if (remove_with(f, statement, ids[i], e) != 0)
            return -1;
        if (sqlite3_changes(f->db) == 0)
            return no_such_entry(f, ids[i], e);
    }
    return 0;
}

int change_delete(outbox_file *f, const int64_t *ids, size_t count, change_result *r, error *e)
{
    *r = (change_result){0};
    if (begin(f, e) != 0)
        return -1;
    int before = sqlite3_total_changes(f->db);
    sqlite3_stmt *statement = outbox_file_prepare(
        f, ids != NULL ? "DELETE FROM entry WHERE id = ?1" : "DELETE FROM entry WHERE state = ?1",
        e);
    int failed = -1;
    if (statement != NULL)
        failed = ids != NULL ? remove_listed(f, statement, ids, count, e)
                             : remove_with(f, statement, OUTBOX_SET_ASIDE, e);
    sqlite3_finalize(statement);
    r->count = sqlite3_total_changes(f->db) - before;
    return finish(f, failed, r, e);
}
