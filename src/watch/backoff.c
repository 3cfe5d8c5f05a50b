/* The built-in reconnect policy. A pure function: any thread. See backoff.h. */
#include "watch/backoff.h"

#include <math.h>
#include <string.h>

static const char *const jitter_names[] = {
    [BACKOFF_JITTER_NONE] = "none",
    [BACKOFF_JITTER_FULL] = "full",
    [BACKOFF_JITTER_EQUAL] = "equal",
    [BACKOFF_JITTER_DECORRELATED] = "decorrelated",
};

#define JITTER_COUNT (sizeof jitter_names / sizeof jitter_names[0])

/* It is what acts when everything else has failed: no options, however odd, may make it return
 * nonsense. What is out of range takes its default. */
static backoff sane(const backoff *policy)
{
    backoff p = BACKOFF_DEFAULT;
    if (isfinite(policy->base) && policy->base > 0)
        p.base = policy->base;
    if (isfinite(policy->cap) && policy->cap > 0)
        p.cap = policy->cap;
    if (isfinite(policy->factor) && policy->factor >= 1)
        p.factor = policy->factor;
    if (isfinite(policy->auth_base) && policy->auth_base > 0)
        p.auth_base = policy->auth_base;
    p.jitter = policy->jitter;
    p.base = fmin(p.base, p.cap);
    p.auth_base = fmin(p.auth_base, p.cap);
    return p;
}

static double step_of(const backoff *p, uint32_t attempt, error_class cls, double outage)
{
    if (cls == ERROR_CLASS_AUTH) /* fmax() takes the number when the other one is NaN */
        return fmin(p->cap, fmax(p->auth_base, BACKOFF_AUTH_SHARE * outage));
    double exponent = attempt > 1 ? (double)attempt - 1.0 : 0.0;
    return fmin(p->cap, p->base * pow(p->factor, exponent)); /* infinity is more than the cap */
}

static double uniform(double low, double high, double random)
{
    return low + (high - low) * random;
}

/* Under auth errors the age of the outage rules, so that there the previous wait, which grows
 * with the attempts, gives way to the step. */
static double decorrelated(const backoff *p, error_class cls, double step, double previous,
                           double random)
{
    double high = cls == ERROR_CLASS_AUTH ? step : 3.0 * fmax(p->base, previous);
    return fmin(p->cap, uniform(fmin(p->base, high), high, random));
}

double backoff_delay(const backoff *policy, uint32_t attempt, error_class cls, double outage,
                     double previous, double random)
{
    backoff p = sane(policy);
    double step = step_of(&p, attempt, cls, outage);
    random = fmin(1.0, fmax(0.0, random));
    if (!isfinite(previous))
        previous = 0;
    switch (p.jitter) {
    case BACKOFF_JITTER_NONE:
        return step;
    case BACKOFF_JITTER_EQUAL:
        return uniform(step / 2.0, step, random);
    case BACKOFF_JITTER_DECORRELATED:
        return decorrelated(&p, cls, step, previous, random);
    case BACKOFF_JITTER_FULL:
        break;
    }
    return uniform(0.0, step, random);
}

int backoff_jitter_parse(const char *name)
{
    for (size_t i = 0; name != NULL && i < JITTER_COUNT; i++)
        if (strcmp(name, jitter_names[i]) == 0)
            return (int)i;
    return -1;
}

const char *backoff_jitter_name(backoff_jitter jitter)
{
    return (size_t)jitter < JITTER_COUNT ? jitter_names[jitter] : "unknown";
}
