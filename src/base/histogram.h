/* Histograms as Prometheus counts them: fixed upper bounds, a sum, counts that only grow. Plain
 * values, no thread of their own. */
#ifndef MD_BASE_HISTOGRAM_H
#define MD_BASE_HISTOGRAM_H

#include <stdint.h>

#define HISTOGRAM_BOUNDS_MAX 12u

/* The upper bounds of the buckets, in seconds, ascending; one more bucket is above the last. */
typedef struct {
    unsigned count;
    double bounds[HISTOGRAM_BOUNDS_MAX];
} histogram_shape;

extern const histogram_shape histogram_handler; /* how long handlers take */
extern const histogram_shape histogram_loop;    /* how long a turn of the loop lasts */
extern const histogram_shape histogram_trip;    /* round trips through a server */
extern const histogram_shape histogram_outage;

/* {0} is empty. */
typedef struct {
    uint64_t counts[HISTOGRAM_BOUNDS_MAX + 1]; /* of each bucket, not of those below, too */
    double sum;
} histogram;

/* `weight`: how many events this one stands for. */
void histogram_add(histogram *h, const histogram_shape *shape, double seconds, uint64_t weight);
/* Both have the same shape. */
void histogram_merge(histogram *into, const histogram *from);

#endif
