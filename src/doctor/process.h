/* A running process, as it tells of itself over its control socket. Main thread. */
#ifndef MD_DOCTOR_PROCESS_H
#define MD_DOCTOR_PROCESS_H

#include <jansson.h>
#include <stdbool.h>

#include "doctor/findings.h"

typedef struct {
    const char *control, *name; /* as client_find() wants them */
    bool optional;              /* none that runs is no problem */
    int timeout_ms;
} process_wish;

/* Asks it and judges. The answer to the verb `closures`, to be released; NULL: there is none. */
json_t *process_check(findings *f, const process_wish *wish);

#endif
