/* One entry as JSON. Main thread. */
#ifndef MD_OUTBOX_TOOL_ENTRY_JSON_H
#define MD_OUTBOX_TOOL_ENTRY_JSON_H

#include <jansson.h>
#include <sqlite3.h>
#include <stdint.h>

/* What the two functions below expect a row to be. */
#define ENTRY_COLUMNS                                                                              \
    "id, msg_id, subject, state, created, expires, set_aside, reason, "                            \
    "length(data) + ifnull(length(headers), 0)"
#define ENTRY_COLUMNS_WHOLE ENTRY_COLUMNS ", headers, data"
#define ENTRY_COLUMN_ID 0
#define ENTRY_COLUMN_BYTES 8

/* What a list shows; bytes that are no text are question marks. A new object; NULL: no memory. */
json_t *entry_json_shown(sqlite3_stmt *row, int64_t now_ms);

/* All of it, so that nothing is lost: headers are a list of [name, value], and those of the fields
 * that are not UTF-8, or no such list, are in base64; "base64" names them. A new object; NULL: no
 * memory. */
json_t *entry_json_whole(sqlite3_stmt *row);

#endif
