/* Log records as they come over the control socket, as lines. */
#ifndef MD_CLI_LOG_VIEW_H
#define MD_CLI_LOG_VIEW_H

#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/log.h"

/* The record as a line without newline, in `line` (of LOG_LINE_MAX bytes): as the process itself
 * would write it. Returns its length. */
size_t log_view(const json_t *record, log_format format, bool coloured, char *line);

#endif
