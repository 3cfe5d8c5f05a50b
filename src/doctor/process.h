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

/* What to do about an error of this class ("auth", "network", ...), as a sentence. */
const char *process_advice(const char *class_name);

/* What its answers to `status` and `closures` tell; `now` in ms since 1970. */
void process_judge_status(findings *f, const json_t *status);
void process_judge_closures(findings *f, const json_t *answer, int64_t now);

#endif
