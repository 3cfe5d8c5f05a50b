/* Times for people. See moment.h. Any thread. */
#include "doctor/moment.h"

#include <stdio.h>
#include <time.h>

moment_verdict moment_judge(int64_t from, int64_t until, int64_t now)
{
    if (until != 0 && until <= now)
        return MOMENT_EXPIRED;
    if (from != 0 && from > now + MOMENT_SKEW_S)
        return MOMENT_NOT_YET;
    return until != 0 && until - now < MOMENT_SOON_S ? MOMENT_SOON : MOMENT_GOOD;
}

const char *moment_text(int64_t seconds, char out[MOMENT_TEXT_SIZE])
{
    struct tm tm;
    time_t t = (time_t)seconds;
    if (gmtime_r(&t, &tm) == NULL || strftime(out, MOMENT_TEXT_SIZE, "%F %T UTC", &tm) == 0)
        snprintf(out, MOMENT_TEXT_SIZE, "%lld s after 1970", (long long)seconds);
    return out;
}

const char *moment_span(int64_t seconds, char out[MOMENT_TEXT_SIZE])
{
    static const struct {
        int64_t seconds;
        const char *name;
    } units[] = {{86400, "day"}, {3600, "hour"}, {60, "minute"}, {1, "second"}};
    size_t i = 0;
    if (seconds < 0)
        seconds = -seconds;
    while (i + 1 < sizeof units / sizeof units[0] && seconds < units[i].seconds)
        i++;
    int64_t count = seconds / units[i].seconds;
    snprintf(out, MOMENT_TEXT_SIZE, "%lld %s%s", (long long)count, units[i].name,
             count == 1 ? "" : "s");
    return out;
}
