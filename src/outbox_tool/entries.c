/* The entries of an outbox, in portions. See entries.h. */
#include "outbox_tool/entries.h"

#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "conn/subscription.h"
#include "outbox/schema.h"
#include "outbox_tool/entry_json.h"

#define PORTION_ENTRIES 500
#define PORTION_BYTES (1024 * 1024) /* and one entry more */

const char *entries_state_name(int state)
{
    return state == OUTBOX_WAITING     ? "waiting"
           : state == OUTBOX_SET_ASIDE ? "set-aside"
                                       : "unknown";
}

/* ---- subjects ---- */

static void matches(sqlite3_context *context, int count, sqlite3_value **values)
{
    const char *pattern = sqlite3_user_data(context);
    const char *subject = (const char *)sqlite3_value_text(values[0]);
    size_t length = (size_t)sqlite3_value_bytes(values[0]);
    sqlite3_result_int(context,
                       count == 1 && subject != NULL && subject_matches(pattern, subject, length));
}

int entries_set_pattern(outbox_file *f, const char *pattern, error *e)
{
    int code = sqlite3_create_function(f->db, "matches", 1, SQLITE_UTF8 | SQLITE_DETERMINISTIC,
                                       (void *)pattern, matches, NULL, NULL);
    return code == SQLITE_OK ? 0 : outbox_file_fault(f, code, e);
}

/* ---- portions ---- */

static sqlite3_stmt *prepare(outbox_file *f, const entries_wish *wish, error *e)
{
    char sql[512];
    if (wish->subject != NULL && entries_set_pattern(f, wish->subject, e) != 0)
        return NULL;
    snprintf(sql, sizeof sql, "SELECT %s FROM entry WHERE id > ?1%s%s ORDER BY id LIMIT ?2",
             wish->whole ? ENTRY_COLUMNS_WHOLE : ENTRY_COLUMNS,
             wish->state == ENTRIES_ANY_STATE ? "" : " AND state = ?3",
             wish->subject == NULL ? "" : " AND matches(subject)");
    return outbox_file_prepare(f, sql, e);
}

struct scan {
    outbox_file *file;
    const entries_wish *wish;
    sqlite3_stmt *statement;
    sqlite3_int64 last; /* id */
    int64_t left;       /* negative: no limit */
    bool over;
};

/* The next portion; NULL and *e. */
static json_t *next_portion(struct scan *s, error *e)
{
    json_t *portion = json_array();
    int64_t most = s->left >= 0 && s->left < PORTION_ENTRIES ? s->left : PORTION_ENTRIES;
    int64_t bytes = 0, now = clock_wall_ms();
    int code = SQLITE_ROW;
    sqlite3_bind_int64(s->statement, 1, s->last);
    sqlite3_bind_int64(s->statement, 2, most);
    if (s->wish->state != ENTRIES_ANY_STATE)
        sqlite3_bind_int(s->statement, 3, s->wish->state);
    while (bytes < PORTION_BYTES && (code = sqlite3_step(s->statement)) == SQLITE_ROW) {
        json_t *entry =
            s->wish->whole ? entry_json_whole(s->statement) : entry_json_shown(s->statement, now);
        if (json_array_append_new(portion, entry) != 0) {
            code = SQLITE_NOMEM;
            break;
        }
        s->last = sqlite3_column_int64(s->statement, ENTRY_COLUMN_ID);
        bytes += s->wish->whole ? sqlite3_column_int64(s->statement, ENTRY_COLUMN_BYTES) : 0;
    }
    if (s->left >= 0)
        s->left -= (int64_t)json_array_size(portion);
    s->over = s->left == 0 ||
              (code == SQLITE_DONE && (int64_t)json_array_size(portion) < PORTION_ENTRIES);
    if (code != SQLITE_ROW && code != SQLITE_DONE) {
        outbox_file_fault(s->file, code, e);
        s->over = true;
        if (json_array_size(portion) == 0) {
            json_decref(portion);
            portion = NULL;
        }
    }
    sqlite3_reset(s->statement); /* the end of the transaction */
    return portion;
}

int entries_read(outbox_file *f, const entries_wish *wish, entries_take take, void *closure,
                 error *e)
{
    struct scan s = {.file = f, .wish = wish, .last = INT64_MIN, .left = wish->limit};
    error fault = {0};
    s.statement = prepare(f, wish, e);
    if (s.statement == NULL)
        return -1;
    while (!s.over && s.left != 0) {
        json_t *portion = next_portion(&s, &fault);
        size_t size = json_array_size(portion);
        if (size == 0)
            json_decref(portion);
        else if (!take(closure, portion))
            break;
    }
    sqlite3_finalize(s.statement);
    if (fault.code[0] == '\0')
        return 0;
    *e = fault; /* what could be read before the damage was handed over */
    return -1;
}
