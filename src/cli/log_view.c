/* Log records as lines. See log_view.h. */
#include "cli/log_view.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/log_line.h"

#define FIELDS_MAX 64

/* "2026-11-24T03:07:58.123Z" */
static struct timespec parse_time(const char *text)
{
    struct tm tm = {0};
    int milliseconds = 0;
    if (text == NULL ||
        sscanf(text, "%4d-%2d-%2dT%2d:%2d:%2d.%3dZ", &tm.tm_year, &tm.tm_mon, &tm.tm_mday,
               &tm.tm_hour, &tm.tm_min, &tm.tm_sec, &milliseconds) != 7)
        return (struct timespec){0};
    tm.tm_year -= 1900;
    tm.tm_mon -= 1;
    return (struct timespec){.tv_sec = timegm(&tm), .tv_nsec = milliseconds * 1000000L};
}

static log_field read_field(const char *key, const json_t *value)
{
    switch (json_typeof(value)) {
    case JSON_STRING:
        return log_bytes(key, json_string_value(value), json_string_length(value));
    case JSON_INTEGER:
        return log_int(key, (int64_t)json_integer_value(value));
    case JSON_REAL:
        return log_num(key, json_real_value(value));
    case JSON_TRUE:
    case JSON_FALSE:
        return log_bool(key, json_is_true(value));
    default:
        return log_str(key, "");
    }
}

static const char *text_of(const json_t *record, const char *key)
{
    const char *text = json_string_value(json_object_get(record, key));
    return text != NULL ? text : "";
}

size_t log_view(const json_t *record, log_format format, bool coloured, char *line)
{
    log_field fields[FIELDS_MAX];
    int level = log_level_parse(text_of(record, "level"));
    log_event event = {.time = parse_time(text_of(record, "time")),
                       .level = level < 0 ? LOG_INFO : (log_level)level,
                       .message = text_of(record, "msg"),
                       .fields = fields};
    /* The first three are those above; the order is that of the record. */
    for (void *at = json_object_iter((json_t *)record); at != NULL && event.count < FIELDS_MAX;
         at = json_object_iter_next((json_t *)record, at)) {
        const char *key = json_object_iter_key(at);
        if (strcmp(key, "time") != 0 && strcmp(key, "level") != 0 && strcmp(key, "msg") != 0)
            fields[event.count++] = read_field(key, json_object_iter_value(at));
    }
    return log_line(line, format, coloured, &event);
}
