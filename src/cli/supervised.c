/* A process under a supervisor. See supervised.h. Main thread. */
#include "cli/supervised.h"

#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "runtime_private.h"

static struct {
    supervision told;
    int script; /* -1: none */
} the = {.script = -1};

static const char *variable(const char *name)
{
    const char *value = getenv(name);
    return value != NULL ? value : "";
}

bool supervised(void)
{
    return strtol(variable(SUPERVISOR_PID), NULL, 10) == (long)getppid();
}

bool supervised_in_vain(void)
{
    return variable(SUPERVISOR_PID)[0] != '\0' && !supervised();
}

void supervised_begin(void)
{
    static const char *const names[] = {SUPERVISOR_PID, SUPERVISOR_RESTARTS, SUPERVISOR_REASON,
                                        SUPERVISOR_AT, SUPERVISOR_SCRIPT};
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    prctl(PR_SET_NAME, "moondog"); /* it was started as /proc/self/exe */
    if (!supervised())
        raise(SIGTERM); /* it has ended meanwhile */
    the.told.active = true;
    sscanf(variable(SUPERVISOR_RESTARTS), "%lu,%lu,%lu", &the.told.crashed, &the.told.wedged,
           &the.told.ended);
    the.told.at = strtoll(variable(SUPERVISOR_AT), NULL, 10);
    snprintf(the.told.reason, sizeof the.told.reason, "%s", variable(SUPERVISOR_REASON));
    snprintf(the.told.script, sizeof the.told.script, "%s", variable(SUPERVISOR_SCRIPT));
    if (strcmp(the.told.script, "file") != 0) {
        the.script = SUPERVISOR_SCRIPT_FD;
        fcntl(the.script, F_SETFD, FD_CLOEXEC);
    }
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        unsetenv(names[i]);
}

void supervised_describe(md_runtime *rt)
{
    rt->supervision = the.told;
    if (the.told.reason[0] != '\0')
        log_emit(rt->log, LOG_WARN, "restarted by the supervisor",
                 log_str("reason", the.told.reason),
                 log_int("restarts", (int64_t)supervision_restarts(&the.told)),
                 log_str("script", the.told.script));
}

int supervised_script(void)
{
    return the.script;
}
