/* The numbers of the process, under the names that Prometheus' clients give them. Any thread. */
#ifndef MD_HEALTH_PROCESS_METRICS_H
#define MD_HEALTH_PROCESS_METRICS_H

#include "health/exposition.h"

void process_metrics_write(exposition *x);

#endif
