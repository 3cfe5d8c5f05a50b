/* Structured logs: one event, one line. Lines are formatted by the caller's thread and written by
 * a thread of the log's own, so that a stuck terminal or pipe never holds the loop: what does not
 * fit into the queue (LOG_QUEUE_BYTES) is dropped, counted, and reported in one line as soon as
 * there is room. Any thread may log. */
#ifndef MD_BASE_LOG_H
#define MD_BASE_LOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/clock.h"

typedef enum { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR, LOG_OFF } log_level;

typedef enum {
    LOG_FORMAT_AUTO,   /* terminal when fd is one, logfmt otherwise */
    LOG_FORMAT_LOGFMT, /* time=2026-11-24T03:07:58.123Z level=info msg="..." key=value */
    LOG_FORMAT_SHORT,  /* 03:07:58.123 INFO  text  key=value (coloured when fd is a terminal
                          and NO_COLOR is not set) */
    LOG_FORMAT_JSON,   /* {"time":...,"level":"info","msg":"...","key":"value"} */
} log_format;

#define LOG_QUEUE_BYTES (1024 * 1024)
/* Longer lines are cut, and end in "..." (within the quotes and the brace that are open there, so
 * that a cut line can still be parsed). */
#define LOG_LINE_MAX 8192

typedef struct logger logger; /* not "log": math.h has that */

typedef enum { LOG_FIELD_STRING, LOG_FIELD_INTEGER, LOG_FIELD_NUMBER, LOG_FIELD_BOOLEAN } log_type;

/* One key and value. Strings need not end in NUL and may hold any bytes (control bytes and
 * invalid UTF-8 are escaped, so a line is always one line). Borrowed for the call. */
typedef struct {
    const char *key;
    log_type type;
    const char *string;
    size_t length;
    int64_t integer;
    double number;
} log_field;

log_field log_str(const char *key, const char *value); /* NULL value: "" */
log_field log_bytes(const char *key, const char *value, size_t length);
log_field log_int(const char *key, int64_t value);
log_field log_num(const char *key, double value);
log_field log_bool(const char *key, bool value);

/* A log that writes to fd (not closed by it). NULL when there is no memory or no thread. */
logger *log_new(int fd, log_format format, log_level level);

/* A log that hands each finished line (without newline) to `write`, in the log's own thread. */
typedef void (*log_write_fn)(void *closure, log_level level, const char *line, size_t length);
logger *log_new_hook(log_write_fn write, void *closure, log_format format, log_level level);

/* Whose time the lines have, instead of the system's. Before anything is logged. */
void log_set_clock(logger *l, wall_clock clock);

/* Writes what is queued, for at most `flush_ms`, then stops the thread and frees. A thread that
 * hangs in write is left alone, and frees when it comes back, writing nothing more: then the
 * descriptor or the hook's closure must stay valid. Nobody may log any more. Whether the thread has
 * ended. NULL is harmless. */
bool log_free(logger *l, unsigned flush_ms);

/* Also hands each record at `level` or above, as a line of JSON, to `write`: at once, in the thread
 * that logs and under the log's lock, so it neither waits nor logs. This goes on whatever level the
 * output has, and when the output hangs. `write` NULL: no more, and it is not running when this
 * returns. One observer at a time. */
void log_observe(logger *l, log_level level, log_write_fn write, void *closure);

/* Of the output. */
void log_set_level(logger *l, log_level level);
log_level log_get_level(const logger *l);
/* Whether the output or the observer takes records of this level. */
bool log_wants(const logger *l, log_level level);

/* One line. `l` may be NULL: nothing happens. Never blocks but for a short lock. */
void log_write(logger *l, log_level level, const char *message, const log_field *fields, int count);

/* log_emit(l, LOG_INFO, "text", log_str("key", value), ...): at least one field. */
#define log_emit(l, level, message, ...)                                                           \
    do {                                                                                           \
        if (log_wants((l), (level))) {                                                             \
            const log_field log_fields_[] = {__VA_ARGS__};                                         \
            log_write((l), (level), (message), log_fields_,                                        \
                      (int)(sizeof log_fields_ / sizeof log_fields_[0]));                          \
        }                                                                                          \
    } while (0)

/* Whether it is a terminal that colours are good for, and nobody has set NO_COLOR. */
bool log_wants_colour(int fd);

/* Lines dropped so far because the queue was full. */
uint64_t log_dropped(const logger *l);

/* "debug", "info", "warn", "error", "off" to the enum; -1 when it is none of them. */
int log_level_parse(const char *name);
const char *log_level_name(log_level level);
/* "auto", "logfmt", "short", "json" to the enum; -1 when it is none of them. */
int log_format_parse(const char *name);

#endif
