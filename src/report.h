/* Reports for people and programs about a generation. Loop thread. */
#ifndef MD_REPORT_H
#define MD_REPORT_H

#include <stdbool.h>

struct generation;

/* What a generation that was loaded, and not put to work, declares: lines of text, or JSON, and how
 * much of it is probably a mistake. To be freed with free(); NULL when out of memory. */
char *report_declarations(const struct generation *g, bool json, unsigned *problems);

#endif
