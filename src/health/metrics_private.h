/* The inside of metrics, shared by metrics.c (the loop copies) and metrics_text.c (others write).
 */
#ifndef MD_HEALTH_METRICS_PRIVATE_H
#define MD_HEALTH_METRICS_PRIVATE_H

#include <stdatomic.h>

#include "health/metrics.h"
#include "health/outbox_metrics.h"
#include "health/user_metrics.h"
#include "script/failure.h"

struct metrics_connection {
    char *name;
    bool required;
    connection_state state; /* without its pointers */
    connection_counters counters;
};

struct metrics_subscription {
    unsigned connection;   /* index */
    bool of_host;          /* not of the script */
    char *subject, *queue; /* queue "": none */
    uint64_t handled, errors, overruns, dropped, bursts, queued;
    histogram seconds;
};

struct metrics {
    atomic_uint references;
    uint64_t made_at; /* ns */
    double uptime;
    /* Of the generation at work; number 0: none. */
    uint32_t generation;
    double generation_age;
    size_t memory, memory_peak, memory_cap;
    unsigned tasks_waiting, retiring;
    uint64_t reloads_done, reloads_failed;
    histogram lag;
    uint64_t log_dropped;
    unsigned hanging;
    unsigned long crashed, wedged, ended; /* restarts */
    bool fallback;
    char *name; /* of the runtime */
    failure_counter failures[FAILURE_COUNTERS_MAX];
    unsigned failure_count;
    unsigned connection_count, subscription_count;
    uint64_t subscriptions_omitted;
    unsigned host_waiting; /* subscriptions of the host that are on no connection */
    struct metrics_connection *connections;
    struct metrics_subscription *subscriptions;
    struct outbox_metrics *outboxes;
    struct user_metrics_copy *user;
    uint64_t user_series, user_refused;
};

#endif
