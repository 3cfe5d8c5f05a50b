/* The metrics of scripts: counters, gauges and histograms that they declare and change. They belong
 * to the runtime and cross reloads; a metric goes when no generation declares it any more.
 *
 * Declared by the thread that loads a generation, changed by the loop, copied by the loop; a lock
 * that is held for a moment is between them. */
#ifndef MD_HEALTH_USER_METRICS_H
#define MD_HEALTH_USER_METRICS_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include "base/error.h"
#include "base/histogram.h"

#define USER_SERIES_MAX 1000u   /* of all metrics: a combination of labels that is new is refused */
#define USER_METRICS_MAX 200u   /* names */
#define USER_LABELS_BYTES 1024u /* of one series, as they are written */

typedef enum { METRIC_COUNTER, METRIC_GAUGE, METRIC_HISTOGRAM } metric_type;

struct user_metrics;
struct metric;

typedef struct {
    metric_type type;
    const char *name, *help;
    histogram_shape shape; /* METRIC_HISTOGRAM */
} metric_declaration;

struct user_metrics *user_metrics_new(void);
void user_metrics_free(struct user_metrics *all); /* NULL is harmless */

/* The metric of that name, made when there is none; counted. A counter's name gets "_total" when it
 * does not end so. NULL and *e: a bad name, another type, too many. */
struct metric *metric_declare(struct user_metrics *all, const metric_declaration *d, error *e);
void metric_release(struct metric *m);

/* Changes the series with these labels, which are written as the exposition wants them, sorted by
 * name; "": without labels. 0, or -1 and *e ("too_many_series", "no_memory"). */
int metric_add(struct metric *m, const char *labels, double value, error *e);
int metric_set(struct metric *m, const char *labels, double value, error *e);
int metric_observe(struct metric *m, const char *labels, double value, error *e);

/* Whether a refusal is worth a line of the log: one a minute is. */
bool metric_may_tell(struct metric *m);
/* The type's name: "counter", "gauge", "histogram". */
const char *metric_type_name(metric_type type);
metric_type metric_get_type(const struct metric *m);

/* ---- copies: immutable, any thread ---- */

struct user_metrics_copy;
/* NULL: no memory. */
struct user_metrics_copy *user_metrics_copy(struct user_metrics *all);
void user_metrics_copy_free(struct user_metrics_copy *copy);
void user_metrics_write(const struct user_metrics_copy *copy, FILE *out);
/* How many series there are, and how many changes were refused. */
void user_metrics_count(struct user_metrics *all, uint64_t *series, uint64_t *refused);

#endif
