/* Reports for people and programs, as JSON. Loop thread. */
#ifndef MD_REPORT_H
#define MD_REPORT_H

#include <jansson.h>
#include <stdbool.h>

#include "runtime_private.h"

/* What a generation that was loaded, and not put to work, declares: lines of text, or JSON, and how
 * much of it is probably a mistake. To be freed with free(); NULL when out of memory. */
char *report_declarations(const struct generation *g, bool json, unsigned *problems);

/* A text that may have any bytes: those that are not UTF-8 are shown as ?. */
json_t *report_text(const char *text);

/* Bytes of any kind, in the same way. */
json_t *report_bytes(const char *bytes, size_t length);

/* The last failures of functions of the script. A new object; NULL when out of memory. */
json_t *report_failures(const struct failures *all);

/* Whether the loop turns, and what holds it. A new object; NULL when out of memory. Any thread. */
json_t *report_stall(const stall *s);

/* The last outages of the connections. A new object; NULL when out of memory. */
json_t *report_closures(const struct history *all);

/* What a reload did. A new object; NULL when out of memory. */
json_t *report_reload(const md_reload_result *result);

/* Subscriptions that are described, of all connections together: the last ones that were made.
 * Each connection says how many it has. */
#define REPORT_SUBSCRIPTIONS_MAX 1000u

/* The state of the runtime: its generation, what retires, its connections with their subscriptions.
 * A new object; NULL when out of memory. */
json_t *report_status(md_runtime *rt);

#endif
