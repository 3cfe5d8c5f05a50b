/* Lines of the log: whatever bytes there are in it, a line is one line, no longer than it may be,
 * and JSON when it is to be JSON. One thread. */
#include <stdlib.h>
#include <string.h>

#include "base/log_line.h"
#include "fuzz.h"

#define FIELDS_MAX 6

struct texts {
    char *all[2 * FIELDS_MAX + 1];
    size_t count;
};

static char *text(fuzz_input *in, struct texts *t, size_t *length)
{
    return t->all[t->count++] = fuzz_bytes(in, length);
}

static log_field field(fuzz_input *in, struct texts *t)
{
    size_t length;
    const char *key = text(in, t, &length);
    switch (fuzz_below(in, 5)) {
    case 0:
        return log_int(key, (int64_t)fuzz_byte(in) << (fuzz_byte(in) % 56));
    case 1:
        return log_num(key, fuzz_number(in));
    case 2:
        return log_bool(key, fuzz_byte(in) & 1);
    default: {
        const char *value = text(in, t, &length);
        return log_bytes(key, value, length);
    }
    }
}

static void check_json(const char *line, size_t length, const log_event *e)
{
    json_error_t why;
    json_t *parsed = json_loadb(line, length, JSON_ALLOW_NUL, &why);
    fuzz_check_text(json_is_object(parsed), why.text);
    const char *level = json_string_value(json_object_get(parsed, "level"));
    fuzz_check(level != NULL && strcmp(level, log_level_name(e->level)) == 0);
    fuzz_check(json_is_string(json_object_get(parsed, "time")));
    const char *said = json_string_value(json_object_get(parsed, "msg"));
    fuzz_check(said != NULL);
    if (strlen(e->message) < 1000 && fuzz_is_utf8(e->message, strlen(e->message)))
        fuzz_check(strcmp(said, e->message) == 0);
    json_decref(parsed);
}

static void check(log_format format, bool coloured, const log_event *e)
{
    char *line = malloc(LOG_LINE_MAX + 1);
    size_t length = log_line(line, format, coloured, e);
    fuzz_check(length <= LOG_LINE_MAX);
    line[length] = '\0';
    fuzz_check(strlen(line) == length);
    fuzz_check_text(fuzz_is_utf8(line, length), line);
    if (!coloured)
        fuzz_check_text(fuzz_is_printable(line), line);
    fuzz_check(strpbrk(line, "\r\n\t\b\a\x7f") == NULL);
    if (format == LOG_FORMAT_JSON)
        check_json(line, length, e);
    free(line);
}

void fuzz_one(const uint8_t *data, size_t size)
{
    fuzz_input in = {data, size};
    struct texts t = {.count = 0};
    log_field fields[FIELDS_MAX];
    size_t ignored;
    log_event e = {.level = (log_level)fuzz_below(&in, LOG_OFF), .fields = fields};
    e.count = (int)fuzz_below(&in, FIELDS_MAX + 1);
    e.time.tv_sec = (time_t)fuzz_byte(&in) << 24;
    e.message = text(&in, &t, &ignored);
    for (int i = 0; i < e.count; i++)
        fields[i] = field(&in, &t);
    check(LOG_FORMAT_JSON, false, &e);
    check(LOG_FORMAT_LOGFMT, false, &e);
    check(LOG_FORMAT_SHORT, false, &e);
    check(LOG_FORMAT_SHORT, true, &e);
    for (size_t i = 0; i < t.count; i++)
        free(t.all[i]);
}
