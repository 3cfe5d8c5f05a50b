/* The built-in reconnect policy: how long to wait before a dial. A value and a pure function, so
 * that it can be simulated, used without Lua, and acts when a script's policy fails. */
#ifndef MD_WATCH_BACKOFF_H
#define MD_WATCH_BACKOFF_H

#include <stdint.h>

#include "base/error.h"

typedef enum {
    BACKOFF_JITTER_NONE,         /* wait = step */
    BACKOFF_JITTER_FULL,         /* wait = uniform in [0, step] */
    BACKOFF_JITTER_EQUAL,        /* wait = step/2 + uniform in [0, step/2] */
    BACKOFF_JITTER_DECORRELATED, /* wait = min(cap, uniform in [base, 3 x previous wait]) */
} backoff_jitter;

/* Seconds. The step grows as base * factor^(attempt-1) up to cap.
 *
 * Auth errors are different: most are a hiccup of the auth service, over in seconds, and what the
 * client does in those seconds decides how long it stays deaf. So for them the step does not grow
 * with the attempts but with the age of the outage: it is 5 % of it, at least auth_base, at most
 * cap. A hiccup of 4 s is over within one step of 0.25 s; an account that stays locked for an hour
 * is asked every few seconds at most (BACKOFF_AUTH_SHARE). */
typedef struct {
    double base;      /* > 0; default 0.05 */
    double cap;       /* >= base; default 5 */
    double factor;    /* >= 1; default 2 */
    double auth_base; /* > 0; default 0.25 */
    backoff_jitter jitter;
} backoff;

#define BACKOFF_AUTH_SHARE 0.05
#define BACKOFF_DEFAULT                                                                            \
    {                                                                                              \
        0.05, 5.0, 2.0, 0.25, BACKOFF_JITTER_FULL                                                  \
    }

/* The wait in seconds before dial number `attempt` (1, 2, ...) of an outage that is `outage`
 * seconds old, after an error of class `cls`; `previous` is the wait before (0: none; used by
 * decorrelated jitter), `random` is uniform in [0, 1). Never negative, never above cap, never NaN.
 */
double backoff_delay(const backoff *policy, uint32_t attempt, error_class cls, double outage,
                     double previous, double random);

/* "none", "full", "equal", "decorrelated" to the enum; -1 when it is none of them. */
int backoff_jitter_parse(const char *name);
const char *backoff_jitter_name(backoff_jitter jitter);

#endif
