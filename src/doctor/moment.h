/* Times for people, and what is to be said about something that expires. Pure. Any thread. */
#ifndef MD_DOCTOR_MOMENT_H
#define MD_DOCTOR_MOMENT_H

#include <stdint.h>

#define MOMENT_TEXT_SIZE 40
#define MOMENT_SOON_S (7 * 86400) /* what expires sooner is warned of */
/* Clocks of two machines differ: what is in the future by less is not. */
#define MOMENT_SKEW_S 60

typedef enum {
    MOMENT_GOOD,
    MOMENT_SOON, /* it expires soon */
    MOMENT_EXPIRED,
    MOMENT_NOT_YET, /* it is valid later: the clock is probably wrong */
} moment_verdict;

/* Of what is valid from `from` to `until`, in seconds since 1970; 0: it is not said. */
moment_verdict moment_judge(int64_t from, int64_t until, int64_t now);

/* "2026-11-25 09:44:23 UTC"; returns out. */
const char *moment_text(int64_t seconds, char out[MOMENT_TEXT_SIZE]);

/* "3 days", "2 hours", "5 minutes", "1 second": rounded down; returns out. */
const char *moment_span(int64_t seconds, char out[MOMENT_TEXT_SIZE]);

#endif
