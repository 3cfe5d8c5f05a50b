/* Histograms. See histogram.h. */
#include "base/histogram.h"

const histogram_shape histogram_handler = {
    10, {0.0001, 0.0005, 0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1, 5}};
const histogram_shape histogram_loop = {
    11, {0.0001, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.5, 2}};
const histogram_shape histogram_trip = {
    11, {0.0002, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 2.5}};
const histogram_shape histogram_outage = {12,
                                          {0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 3600}};

void histogram_add(histogram *h, const histogram_shape *shape, double seconds, uint64_t weight)
{
    unsigned bucket = 0;
    while (bucket < shape->count && seconds > shape->bounds[bucket])
        bucket++;
    h->counts[bucket] += weight;
    h->sum += seconds * (double)weight;
}

void histogram_merge(histogram *into, const histogram *from)
{
    for (unsigned i = 0; i <= HISTOGRAM_BOUNDS_MAX; i++)
        into->counts[i] += from->counts[i];
    into->sum += from->sum;
}
