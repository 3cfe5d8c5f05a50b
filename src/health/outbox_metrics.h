/* The numbers of the outboxes, for the page of metrics: copied by the loop, written by whoever
 * asked. */
#ifndef MD_HEALTH_OUTBOX_METRICS_H
#define MD_HEALTH_OUTBOX_METRICS_H

#include "health/exposition.h"

struct outboxes;

struct outbox_metrics;

/* NULL: no memory. Loop thread. */
struct outbox_metrics *outbox_metrics_copy(const struct outboxes *all);
/* NULL is harmless, in both. Any thread. */
void outbox_metrics_write(const struct outbox_metrics *m, exposition *x);
void outbox_metrics_free(struct outbox_metrics *m);

#endif
