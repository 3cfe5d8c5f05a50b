/* What the machine gives: the clock, and descriptors. Main thread. */
#ifndef MD_DOCTOR_MACHINE_H
#define MD_DOCTOR_MACHINE_H

#include <stdint.h>

#include "doctor/findings.h"

#define MACHINE_NO_LIMIT UINT64_MAX
#define MACHINE_DESCRIPTORS_LOW 1024u

/* Whether the kernel says that something keeps its clock right. */
void machine_check_clock(findings *f);
/* How many descriptors a process that is started from here may have. */
void machine_check_descriptors(findings *f);
/* How many the process has, of how many it may have. */
void machine_check_process(findings *f, int pid);

/* The limits of "Max open files" in the text of /proc/PID/limits. -1: there is none. */
int machine_parse_limits(const char *text, uint64_t *soft, uint64_t *hard);

/* How much of a limit is used, in percent, rounded down; 0 when there is no limit. */
unsigned machine_percent(uint64_t used, uint64_t limit);

#endif
