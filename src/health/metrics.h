/* The numbers of a runtime for Prometheus: copied by the loop in one go when they are asked for,
 * written as text by whoever asked. What is known without the loop (whether it turns, the process,
 * readiness) is of the moment in which it is written. */
#ifndef MD_HEALTH_METRICS_H
#define MD_HEALTH_METRICS_H

#include <stddef.h>

#include "health/readiness.h"
#include "script/sentinel.h"

struct md_runtime;

/* Immutable and counted. */
typedef struct metrics metrics;

/* Subscriptions whose numbers are given, of all connections together: the last ones that were made;
 * moondog_subscriptions_omitted counts the others. */
#define METRICS_SUBSCRIPTIONS_MAX 1000u

/* NULL: no memory. Loop thread. */
metrics *metrics_of(struct md_runtime *rt);
metrics *metrics_retain(metrics *m); /* NULL is harmless */
void metrics_release(metrics *m);    /* NULL is harmless */

/* The text, to be freed with free(), and its length; NULL: no memory. `r` may be NULL. Any thread.
 */
char *metrics_render(const metrics *m, const readiness *r, sentinel *s, size_t *length);

#endif
