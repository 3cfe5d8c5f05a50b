/* The entries of an outbox, whatever is in its file: `moondog outbox` shows them as JSON, and
 * nothing of their bytes is lost. One thread. */
#include <openssl/evp.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"
#include "outbox_tool/entries.h"
#include "outbox_tool/entry_json.h"

#define COLUMNS 11

static sqlite3 *database;

/* A row of any values; every other time of the types that belong there. */
static sqlite3_stmt *make_row(fuzz_input *in, char *texts[COLUMNS])
{
    sqlite3_stmt *row = NULL;
    if (database == NULL)
        fuzz_check(sqlite3_open(":memory:", &database) == SQLITE_OK);
    fuzz_check(sqlite3_prepare_v2(database, "SELECT ?,?,?,?,?,?,?,?,?,?,?", -1, &row, NULL) ==
               SQLITE_OK);
    for (int i = 0; i < COLUMNS; i++) {
        size_t length;
        texts[i] = fuzz_bytes(in, &length);
        switch (fuzz_below(in, 6)) {
        case 0:
            sqlite3_bind_null(row, i + 1);
            break;
        case 1:
            sqlite3_bind_double(row, i + 1, fuzz_number(in));
            break;
        case 2:
            sqlite3_bind_int64(row, i + 1, (sqlite3_int64)fuzz_byte(in) << fuzz_below(in, 56));
            break;
        case 3:
            sqlite3_bind_text(row, i + 1, texts[i], (int)length, SQLITE_STATIC);
            break;
        default:
            sqlite3_bind_blob(row, i + 1, texts[i], (int)length, SQLITE_STATIC);
        }
    }
    fuzz_check(sqlite3_step(row) == SQLITE_ROW);
    return row;
}

static void check(json_t *entry)
{
    fuzz_check(json_is_object(entry));
    char *text = json_dumps(entry, JSON_COMPACT);
    json_t *again = text != NULL ? json_loads(text, JSON_ALLOW_NUL, NULL) : NULL;
    fuzz_check(again != NULL && json_equal(entry, again));
    json_decref(again);
    json_decref(entry);
    free(text);
}

void fuzz_one(const uint8_t *data, size_t size)
{
    fuzz_input in = {data, size};
    char *texts[COLUMNS];
    sqlite3_stmt *row = make_row(&in, texts);
    check(entry_json_whole(row));
    check(entry_json_shown(row, 1000000));
    sqlite3_finalize(row);
    for (int i = 0; i < COLUMNS; i++)
        free(texts[i]);
}
