/* What is said of a runtime's health: made by the loop whenever something changes, published, and
 * read by other threads without waiting for the loop. Values that age (how long, how soon) are
 * kept as points in time, so that an old readiness still tells the truth about them. */
#ifndef MD_HEALTH_READINESS_H
#define MD_HEALTH_READINESS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "conn/connection.h"
#include "script/sentinel.h"

/* A required connection that is not ready. */
typedef struct {
    char *name, *server, *refused_subject;
    watchdog_state state;
    watchdog_reason reason;
    bool deaf, probing;
    unsigned refused;
    uint32_t attempt;
    uint64_t unready_since, next_at; /* ms of uv_hrtime(); WATCHDOG_NEVER: none */
    error error;
} unready_connection;

/* Immutable and counted. */
typedef struct {
    atomic_uint references;
    bool loaded, stopping; /* a script is at work; the runtime stops */
    uint32_t generation;
    unsigned required, ready; /* connections that the script wants, and those of them that are */
    unsigned count;
    unready_connection unready[]; /* required - ready of them, READINESS_MAX at most */
} readiness;

#define READINESS_MAX 64u /* more are only counted */

struct md_runtime;

/* As it is now; NULL: no memory. Loop thread. */
readiness *readiness_of(const struct md_runtime *rt);
/* NULL is harmless. Any thread. */
void readiness_release(readiness *r);

/* An answer over HTTP. `body`: JSON, to be freed with free(); NULL: no memory. Any thread. */
typedef struct {
    unsigned status; /* 200, 503 */
    char *body;
} health_answer;

/* /livez: the process, and whether its loop turns. */
health_answer health_live(const stall *s);
/* /readyz: also whether what the script wants is there. `now`: ms of uv_hrtime(). */
health_answer health_ready(const readiness *r, const stall *s, uint64_t now);
/* Whether /readyz says 200. */
bool readiness_is_good(const readiness *r, const stall *s);
/* One line for a service manager. */
void readiness_summary(const readiness *r, char *out, size_t size);

#endif
