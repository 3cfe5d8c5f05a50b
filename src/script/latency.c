/* How long things take. See latency.h. */
#include "script/latency.h"

#define EVERY 8u /* one of so many is measured when there are many */
#define STEPS 4u /* buckets an octave */

uint32_t latency_wants(latency_sampling *s, bool many, uint64_t *random)
{
    if (many && s->skip > 0) {
        s->skip--;
        s->since++;
        return 0;
    }
    uint32_t weight = s->since + 1u;
    s->since = 0;
    if (many) {
        *random ^= *random << 13;
        *random ^= *random >> 7;
        *random ^= *random << 17;
        s->skip = (uint16_t)((*random >> 32) % (2 * EVERY - 1)); /* EVERY - 1 on average */
    }
    return weight;
}

/* Its octave above a microsecond, and the quarter within it. */
static unsigned bucket_of(uint64_t ns)
{
    uint64_t us = ns / 1000u;
    if (us == 0)
        return 0;
    unsigned octave = 63u - (unsigned)__builtin_clzll(us);
    /* In nanoseconds, because one microsecond has no quarters. */
    uint64_t base = (uint64_t)1000u << octave;
    unsigned quarter = (unsigned)((ns - base) * STEPS / base);
    unsigned bucket = 1u + octave * STEPS + quarter;
    return bucket < LATENCY_BUCKETS ? bucket : LATENCY_BUCKETS - 1u;
}

/* Of what is in the bucket, in ns. */
static double upper_bound(unsigned bucket)
{
    if (bucket == 0)
        return 1000.0;
    unsigned octave = (bucket - 1u) / STEPS, quarter = (bucket - 1u) % STEPS;
    return 1000.0 * (double)((uint64_t)1 << octave) * (1.0 + (quarter + 1.0) / STEPS);
}

static void halve(latency *l)
{
    l->total = 0;
    for (unsigned i = 0; i < LATENCY_BUCKETS; i++) {
        l->counts[i] /= 2;
        l->total += l->counts[i];
    }
}

void latency_add(latency *l, uint64_t ns, uint32_t weight)
{
    histogram_add(&l->all, &histogram_handler, (double)ns / 1e9, weight);
    if (l->total >= LATENCY_SAMPLES_MAX)
        halve(l);
    l->counts[bucket_of(ns)]++;
    l->total++;
}

double latency_quantile(const latency *l, double part)
{
    double wanted = part * l->total, seen = 0;
    for (unsigned i = 0; l->total > 0 && i < LATENCY_BUCKETS; i++) {
        seen += l->counts[i];
        if (l->counts[i] > 0 && seen >= wanted)
            return upper_bound(i) / 1e9;
    }
    return -1;
}
