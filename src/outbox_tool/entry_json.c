/* One entry as JSON. See entry_json.h. */
#include "outbox_tool/entry_json.h"

#include <openssl/evp.h>
#include <stdlib.h>
#include <string.h>

#include "outbox_tool/entries.h"
#include "report.h"

/* In the order of ENTRY_COLUMNS_WHOLE. */
enum {
    ID = ENTRY_COLUMN_ID,
    MSG_ID,
    SUBJECT,
    STATE,
    CREATED,
    EXPIRES,
    SET_ASIDE,
    REASON,
    BYTES = ENTRY_COLUMN_BYTES,
    HEADERS,
    DATA,
};

/* ---- values ---- */

static json_t *number(sqlite3_stmt *row, int column)
{
    if (sqlite3_column_type(row, column) == SQLITE_NULL)
        return json_null();
    return json_integer(sqlite3_column_int64(row, column));
}

/* The bytes of a column, whatever its type; NULL when there are none. */
static const char *bytes_of(sqlite3_stmt *row, int column, size_t *length)
{
    const char *bytes = sqlite3_column_blob(row, column);
    *length = (size_t)sqlite3_column_bytes(row, column);
    return bytes;
}

static json_t *shown(sqlite3_stmt *row, int column)
{
    if (sqlite3_column_type(row, column) == SQLITE_NULL)
        return json_null();
    size_t length;
    const char *bytes = bytes_of(row, column, &length);
    return report_bytes(bytes != NULL ? bytes : "", length);
}

static json_t *in_base64(const char *bytes, size_t length)
{
    char *text = malloc(length / 3 * 4 + 5);
    if (text == NULL)
        return NULL;
    int size = EVP_EncodeBlock((unsigned char *)text, (const unsigned char *)bytes, (int)length);
    json_t *value = json_stringn(text, (size_t)size);
    free(text);
    return value;
}

/* ---- all of an entry ---- */

/* Headers as [[name, value], ...]; NULL when they are something else. */
static json_t *pairs(const char *bytes, size_t length)
{
    json_t *list = json_array();
    const char *at = bytes, *end = bytes + length;
    while (list != NULL && at < end) {
        const char *name_end = memchr(at, '\0', (size_t)(end - at));
        const char *value = name_end != NULL ? name_end + 1 : end;
        const char *value_end = value < end ? memchr(value, '\0', (size_t)(end - value)) : NULL;
        json_t *pair = NULL;
        if (value_end != NULL)
            pair = json_pack("[o, o]", json_stringn(at, (size_t)(name_end - at)),
                             json_stringn(value, (size_t)(value_end - value)));
        if (pair == NULL) {
            json_decref(list);
            return NULL;
        }
        json_array_append_new(list, pair);
        at = value_end + 1;
    }
    return list;
}

/* Sets `name`, in base64 when it is nothing that JSON has. */
static int set_bytes(json_t *entry, const char *name, sqlite3_stmt *row, int column)
{
    if (sqlite3_column_type(row, column) == SQLITE_NULL)
        return json_object_set_new(entry, name, json_null());
    size_t length;
    const char *bytes = bytes_of(row, column, &length);
    if (bytes == NULL)
        bytes = "";
    json_t *value = column == HEADERS ? pairs(bytes, length) : json_stringn(bytes, length);
    if (value != NULL)
        return json_object_set_new(entry, name, value);
    json_t *encoded = json_object_get(entry, "base64");
    if (encoded == NULL) {
        encoded = json_array();
        json_object_set_new(entry, "base64", encoded);
    }
    json_array_append_new(encoded, json_string(name));
    return json_object_set_new(entry, name, in_base64(bytes, length));
}

json_t *entry_json_whole(sqlite3_stmt *row)
{
    json_t *entry = json_object();
    int failed = json_object_set_new(entry, "id", number(row, ID));
    failed |= set_bytes(entry, "msg_id", row, MSG_ID);
    failed |= set_bytes(entry, "subject", row, SUBJECT);
    failed |= set_bytes(entry, "headers", row, HEADERS);
    failed |= set_bytes(entry, "data", row, DATA);
    failed |= json_object_set_new(entry, "created", number(row, CREATED));
    failed |= json_object_set_new(entry, "expires", number(row, EXPIRES));
    failed |= json_object_set_new(entry, "state",
                                  json_string(entries_state_name(sqlite3_column_int(row, STATE))));
    failed |= set_bytes(entry, "reason", row, REASON);
    failed |= json_object_set_new(entry, "set_aside", number(row, SET_ASIDE));
    if (failed == 0)
        return entry;
    json_decref(entry);
    return NULL;
}

/* ---- what a list shows ---- */

json_t *entry_json_shown(sqlite3_stmt *row, int64_t now_ms)
{
    /* A damaged file may have any number there. */
    double age = ((double)now_ms - (double)sqlite3_column_int64(row, CREATED)) / 1000;
    return json_pack("{s:o, s:o, s:o, s:s, s:o, s:f, s:o, s:o, s:o, s:o}", "id", number(row, ID),
                     "msg_id", shown(row, MSG_ID), "subject", shown(row, SUBJECT), "state",
                     entries_state_name(sqlite3_column_int(row, STATE)), "bytes",
                     number(row, BYTES), "age", age > 0 ? age : 0.0, "created",
                     number(row, CREATED), "expires", number(row, EXPIRES), "reason",
                     shown(row, REASON), "set_aside", number(row, SET_ASIDE));
}
