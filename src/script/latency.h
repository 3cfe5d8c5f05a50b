/* How long things take: of all time, as Prometheus wants it, and a finer histogram of the recent
 * past, with four buckets an octave from 1 us to 16 s, so what it says is at most a quarter too
 * large. When it is full, all counts are halved: what is older counts less and less. Pure; no
 * thread of its own. */
#ifndef MD_SCRIPT_LATENCY_H
#define MD_SCRIPT_LATENCY_H

#include <stdbool.h>
#include <stdint.h>

#include "base/histogram.h"

#define LATENCY_BUCKETS 98u       /* one below 1 us, one above 16.8 s */
#define LATENCY_SAMPLES_MAX 4096u /* then it is halved */

/* {0} is empty. */
typedef struct {
    uint16_t counts[LATENCY_BUCKETS];
    uint32_t total; /* of the counts */
    histogram all;  /* since the beginning */
} latency;

/* Which events are measured. {0} begins. */
typedef struct {
    uint16_t skip;  /* so many are not measured, when there are many */
    uint16_t since; /* the last one that was measured, so many events */
} latency_sampling;

/* Whether this event is to be measured: when there are `many` at this time, one of eight, at
 * random, so that no pattern in what comes is missed. Returns how many events it stands for; 0: it
 * is not to be measured. `random`: the state of the caller's, not 0. */
uint32_t latency_wants(latency_sampling *s, bool many, uint64_t *random);
void latency_add(latency *l, uint64_t ns, uint32_t weight);
/* Seconds that `part` (0.5, 0.99) of the events did not exceed; negative when there are none. */
double latency_quantile(const latency *l, double part);

#endif
