/* Findings: what the doctor has to say, one sentence a check, with a remedy when something is
 * wrong. They become JSON for programs; lua/moondog/cli_doctor.lua makes text of them. A secret
 * must never get in here. Main thread. */
#ifndef MD_DOCTOR_FINDINGS_H
#define MD_DOCTOR_FINDINGS_H

#include <jansson.h>

typedef enum {
    FINDING_OK,
    FINDING_WARNING, /* works, and will not for long, or not always */
    FINDING_PROBLEM,
    FINDING_SKIPPED, /* could not be looked at */
} finding_status;

typedef struct {
    json_t *list;
    /* What the next ones are about; NULL: the machine. Borrowed. */
    const char *process, *connection, *server;
    unsigned problems, warnings;
} findings;

/* -1: no memory. */
int findings_init(findings *f);
void findings_clear(findings *f);

/* Adds "what" about the check. */
void finding(findings *f, finding_status status, const char *check, const char *what, ...)
    __attribute__((format(printf, 4, 5)));
/* What to do about the last one that was added. */
void finding_remedy(findings *f, const char *remedy, ...) __attribute__((format(printf, 2, 3)));

/* "ok", "warning", "problem", "skipped". */
const char *finding_status_name(finding_status status);

#endif
