/* Health: what is known of a runtime by those who must not wait for it. The loop publishes its
 * readiness whenever it changes, and numbers and status when they are asked for; other threads take
 * what there is. A loop that is stuck is reported, never waited for. */
#ifndef MD_HEALTH_HEALTH_H
#define MD_HEALTH_HEALTH_H

#include <stdbool.h>
#include <stdint.h>

#include "health/metrics.h"
#include "health/readiness.h"

struct health;
struct md_runtime;

/* A page that is made when it is asked for waits so long for the loop; then it is the last one that
 * was made, and says how old it is. */
#define HEALTH_WAIT_MS 50u

/* `http`: where it is served (moondog.h); NULL: nowhere. NULL and *e. Loop thread. */
struct health *health_new(struct md_runtime *rt, const char *http, error *e);
/* Ends the threads that read it. NULL is harmless. Loop thread. */
void health_free(struct health *h);

/* Between two turns: publishes what has changed, and what was asked for. NULL is harmless. Loop
 * thread. */
void health_turn(struct health *h);

/* ---- any thread ---- */

/* To be released with readiness_release(); NULL: none yet. */
readiness *health_readiness(struct health *h);
/* Fresh, when the loop turns within HEALTH_WAIT_MS. To be released with metrics_release(); NULL:
 * none yet. */
metrics *health_metrics(struct health *h);
/* The same for the status: JSON, to be freed with free(); NULL: none yet, or no memory. */
char *health_status(struct health *h);
/* Whether the loop is stalled. */
void health_stall(struct health *h, stall *out);
sentinel *health_sentinel(struct health *h);

#endif
