/* Writes Prometheus' text format, version 0.0.4. One family after the other, its samples together.
 * Any thread. */
#ifndef MD_HEALTH_EXPOSITION_H
#define MD_HEALTH_EXPOSITION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "base/histogram.h"

typedef struct {
    FILE *out;
    const char *family; /* the one that is being written */
} exposition;

/* type: "counter", "gauge", "histogram". */
void exposition_family(exposition *x, const char *name, const char *type, const char *help);
/* labels: `a="x",b="y"` as exposition_label() makes them; "": none. */
void exposition_sample(exposition *x, const char *labels, double value);
void exposition_count(exposition *x, const char *labels, uint64_t value);
void exposition_histogram(exposition *x, const char *labels, const histogram_shape *shape,
                          const histogram *h);
/* A family of one sample without labels. */
void exposition_single(exposition *x, const char *name, const char *type, const char *help,
                       double value);

/* Puts `name="value"` at the end of the text in `out`, after a comma when there is one before, with
 * what has to be escaped; bytes that are not UTF-8 become ?. False: it does not fit into `size`
 * bytes, or there is no memory. */
bool exposition_label(char *out, size_t size, const char *name, const char *value);

#endif
