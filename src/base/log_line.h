/* One event as one line of text, in each of the three formats: pure functions, any thread. Split
 * from log.c so that the queue and the text can be read (and tested) apart. */
#ifndef MD_BASE_LOG_LINE_H
#define MD_BASE_LOG_LINE_H

#include <time.h>

#include "base/log.h"

typedef struct {
    log_level level;
    const char *message; /* NUL-terminated, any bytes; NULL: "" */
    const log_field *fields;
    int count;
    struct timespec time; /* of CLOCK_REALTIME */
} log_event;

/* Writes the line, without newline and without NUL, and returns its length, which is at most
 * LOG_LINE_MAX; `out` has room for that. LOG_FORMAT_AUTO counts as logfmt. */
size_t log_line(char *out, log_format format, bool coloured, const log_event *event);

#endif
