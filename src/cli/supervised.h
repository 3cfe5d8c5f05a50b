/* A process under a supervisor (src/cli/supervise.h): what it was told at its start. */
#ifndef MD_CLI_SUPERVISED_H
#define MD_CLI_SUPERVISED_H

#include <stdbool.h>
#include <stdint.h>

/* How the supervisor tells it: variables of the environment, and open descriptors. */
#define SUPERVISOR_PID "MOONDOG_SUPERVISOR"
#define SUPERVISOR_RESTARTS "MOONDOG_RESTARTS"
#define SUPERVISOR_REASON "MOONDOG_RESTART_REASON"
#define SUPERVISOR_AT "MOONDOG_RESTART_AT"         /* ms since 1970 */
#define SUPERVISOR_SCRIPT "MOONDOG_RESTART_SCRIPT" /* "file", "same", "last_good" */
#define SUPERVISOR_NOTIFY_FD 3                     /* what $MOONDOG_NOTIFY_FD says */
#define SUPERVISOR_SCRIPT_FD 4                     /* open unless it is "file" */

/* Whether this process has a supervisor that is its parent. */
bool supervised(void);
/* Whether it had one, which has ended before this process could ask to end with it. */
bool supervised_in_vain(void);

/* Reads what was told, once, and takes it out of the environment, so that children do not take
 * themselves for supervised; from here on the process is asked to end when its supervisor has.
 * Before there are threads. */
void supervised_begin(void);

struct md_runtime;
/* Tells the runtime about its past. */
void supervised_describe(struct md_runtime *rt);
/* A descriptor to load the script from; -1: from its file. */
int supervised_script(void);

#endif
