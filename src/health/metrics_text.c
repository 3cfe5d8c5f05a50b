/* Writes the numbers of a runtime as Prometheus reads them. See metrics.h. Any thread. The names
 * and labels here are a contract with dashboards and alarms: they are only added to. */
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>
#include <uv.h>

#include "base/clock.h"
#include "health/exposition.h"
#include "health/metrics_private.h"
#include "health/process_metrics.h"
#include "moondog.h"

#define LABELS_SIZE 8192 /* two subjects of which each byte is escaped, and a name */

#define FAILURE_LABELS_SIZE 512

/* ---- the runtime ---- */

static void write_runtime(exposition *x, const metrics *m, const readiness *r)
{
    char labels[512] = "";
    exposition_label(labels, sizeof labels, "version", md_version());
    exposition_label(labels, sizeof labels, "name", m->name);
    exposition_family(x, "moondog_build_info", "gauge",
                      "Always 1; the version and the name of the process are labels.");
    exposition_sample(x, labels, 1);
    exposition_single(x, "moondog_uptime_seconds", "gauge", "Since the runtime was made.",
                      m->uptime);
    exposition_single(x, "moondog_snapshot_age_seconds", "gauge",
                      "How old the numbers of the loop are that follow: grows when it is stuck.",
                      (double)(uv_hrtime() - m->made_at) / 1e9);
    exposition_single(x, "moondog_connections_required", "gauge",
                      "Connections that /readyz waits for.", r != NULL ? r->required : 0);
    exposition_single(x, "moondog_connections_ready", "gauge",
                      "Connections that /readyz waits for, and that are ready.",
                      r != NULL ? r->ready : 0);
    exposition_single(x, "moondog_hanging_links", "gauge",
                      "Links that were given up and hang inside the NATS library.", m->hanging);
    exposition_family(x, "moondog_supervisor_restarts_total", "counter",
                      "How often the supervisor has started the process again, by why.");
    exposition_count(x, "reason=\"crashed\"", m->crashed);
    exposition_count(x, "reason=\"ended\"", m->ended);
    exposition_count(x, "reason=\"wedged\"", m->wedged);
    exposition_single(
        x, "moondog_script_fallback", "gauge",
        "1 while an older script is at work, because the newer one was the cause of a "
        "restart; moondog reload takes the file again.",
        m->fallback);
    exposition_single(x, "moondog_log_dropped_total", "counter",
                      "Lines of the log that were dropped because its output did not take them.",
                      (double)m->log_dropped);
}

static void write_loop(exposition *x, const metrics *m, const readiness *r, sentinel *s)
{
    stall now;
    uint64_t stalls;
    double seconds;
    sentinel_stall(s, &now);
    sentinel_count_stalls(s, &stalls, &seconds);
    exposition_single(x, "moondog_ready", "gauge", "1 while /readyz says 200.",
                      readiness_is_good(r, &now));
    exposition_single(x, "moondog_loop_stalled", "gauge",
                      "1 while the loop does not turn: the process is not live.", now.stalled);
    exposition_single(x, "moondog_loop_stalls_total", "counter",
                      "How often the loop did not turn for longer than it may.", (double)stalls);
    exposition_single(x, "moondog_loop_stalled_seconds_total", "counter",
                      "How long the loop was stalled.", seconds);
    exposition_family(x, "moondog_loop_lag_seconds", "histogram",
                      "How long each turn of the loop kept everything else waiting.");
    exposition_histogram(x, "", &histogram_loop, &m->lag);
}

static void failure_labels(const failure_counter *c, char out[FAILURE_LABELS_SIZE])
{
    out[0] = '\0';
    exposition_label(out, FAILURE_LABELS_SIZE, "kind", c->kind);
    exposition_label(out, FAILURE_LABELS_SIZE, "name", c->name);
}

/* Names that differ in bytes that are no UTF-8 are written alike: those are one series. */
static void write_failures(exposition *x, const metrics *m)
{
    bool written[FAILURE_COUNTERS_MAX] = {false};
    for (unsigned i = 0; i < m->failure_count; i++) {
        char labels[FAILURE_LABELS_SIZE], other[FAILURE_LABELS_SIZE];
        uint64_t count = 0;
        if (written[i])
            continue;
        failure_labels(&m->failures[i], labels);
        for (unsigned k = i; k < m->failure_count; k++) {
            failure_labels(&m->failures[k], other);
            if (strcmp(labels, other) != 0)
                continue;
            written[k] = true;
            count += m->failures[k].count;
        }
        exposition_count(x, labels, count);
    }
}

static void write_generation(exposition *x, const metrics *m)
{
    exposition_single(x, "moondog_generation", "gauge",
                      "Number of the generation at work; 0: none.", m->generation);
    exposition_single(x, "moondog_generation_age_seconds", "gauge",
                      "Since this generation was put to work.", m->generation_age);
    exposition_single(x, "moondog_generation_memory_bytes", "gauge",
                      "Memory of the generation at work.", (double)m->memory);
    exposition_single(x, "moondog_generation_memory_peak_bytes", "gauge",
                      "The most memory that it had.", (double)m->memory_peak);
    exposition_single(x, "moondog_generation_memory_limit_bytes", "gauge",
                      "What it may have; 0: no limit.", (double)m->memory_cap);
    exposition_single(x, "moondog_generation_tasks_waiting", "gauge",
                      "Tasks of the script that wait.", m->tasks_waiting);
    exposition_single(x, "moondog_generations_retiring", "gauge",
                      "Generations that were replaced and have not finished.", m->retiring);
    exposition_family(x, "moondog_reloads_total", "counter", "Reloads by outcome.");
    exposition_count(x, "outcome=\"done\"", m->reloads_done);
    exposition_count(x, "outcome=\"failed\"", m->reloads_failed);
    exposition_family(x, "moondog_lua_errors_total", "counter",
                      "Failures of functions of the script, by kind and name of the function; "
                      "beyond 128 names: other.");
    write_failures(x, m);
}

/* ---- connections ---- */

typedef double (*connection_value)(const struct metrics_connection *c, uint64_t now);

static double outage_age(const struct metrics_connection *c, uint64_t now)
{
    uint64_t since = c->state.unready_since;
    if (c->state.state == WATCHDOG_STOPPED) /* by the script: that is no outage */
        return 0;
    return since == WATCHDOG_NEVER || now < since ? 0 : (double)(now - since) / 1e3;
}

#define VALUE(name, expression)                                                                    \
    static double name(const struct metrics_connection *c, uint64_t now)                           \
    {                                                                                              \
        (void)now;                                                                                 \
        return (double)(expression);                                                               \
    }

VALUE(is_ready, c->state.ready)
VALUE(is_required, c->required)
VALUE(outages, c->counters.outages)
VALUE(reconnects, c->state.reconnects)
VALUE(abandoned, c->state.abandoned)
VALUE(probes_missed, c->counters.probes_missed)
VALUE(in_messages, c->state.in_messages)
VALUE(in_bytes, c->state.in_bytes)
VALUE(out_messages, c->state.out_messages)
VALUE(out_bytes, c->state.out_bytes)
VALUE(pending_bytes, c->state.pending_bytes)
VALUE(pending_refused, c->state.pending_dropped)
VALUE(publish_lost, c->state.publish_lost)
VALUE(dropped, c->state.dropped)
VALUE(slow_bursts, c->counters.slow_bursts)
VALUE(subscriptions, c->state.subscriptions)
VALUE(refused, c->state.refused)

static const struct {
    const char *name, *type, *help;
    connection_value value;
} connection_families[] = {
    {"moondog_connection_ready", "gauge",
     "1 when it is up, its last probe was answered and the server has its subscriptions.",
     is_ready},
    {"moondog_connection_required", "gauge", "1 when /readyz waits for it.", is_required},
    {"moondog_connection_outages_total", "counter", "How often it stopped being ready.", outages},
    {"moondog_connection_outage_age_seconds", "gauge",
     "How long it has not been ready; 0 while it is.", outage_age},
    {"moondog_connection_library_reconnects_total", "counter",
     "How often the NATS library got the link back by itself.", reconnects},
    {"moondog_connection_links_abandoned_total", "counter",
     "Links that hung inside the NATS library and were given up.", abandoned},
    {"moondog_connection_probes_missed_total", "counter", "Probes without an answer in time.",
     probes_missed},
    {"moondog_connection_received_messages_total", "counter", "Messages that handlers got.",
     in_messages},
    {"moondog_connection_received_bytes_total", "counter", "Their payload.", in_bytes},
    {"moondog_connection_sent_messages_total", "counter",
     "Messages that were given to the NATS library.", out_messages},
    {"moondog_connection_sent_bytes_total", "counter", "Their payload.", out_bytes},
    {"moondog_connection_pending_bytes", "gauge", "Of publishes that were not sent yet.",
     pending_bytes},
    {"moondog_connection_publishes_refused_total", "counter",
     "Publishes that were refused, such as for want of room.", pending_refused},
    {"moondog_connection_publishes_lost_total", "counter",
     "Publishes that were taken and could not be sent.", publish_lost},
    {"moondog_connection_dropped_messages_total", "counter",
     "Messages that came faster than they were handled, and were dropped.", dropped},
    {"moondog_connection_slow_consumer_bursts_total", "counter",
     "Bursts of such drops, as far as they were reported.", slow_bursts},
    {"moondog_connection_subscriptions", "gauge", "Subscriptions of the script and the host.",
     subscriptions},
    {"moondog_connection_subscriptions_refused", "gauge",
     "Subscriptions that the server does not take.", refused},
};

static void connection_labels(const struct metrics_connection *c, char out[LABELS_SIZE])
{
    out[0] = '\0';
    exposition_label(out, LABELS_SIZE, "connection", c->name);
}

static void write_states(exposition *x, const metrics *m)
{
    char labels[LABELS_SIZE];
    exposition_family(x, "moondog_connection_state", "gauge", "1 for the state that it has.");
    for (unsigned i = 0; i < m->connection_count; i++)
        for (int state = WATCHDOG_IDLE; state <= WATCHDOG_STOPPED; state++) {
            connection_labels(&m->connections[i], labels);
            exposition_label(labels, sizeof labels, "state",
                             watchdog_state_name((watchdog_state)state));
            exposition_count(x, labels, (int)m->connections[i].state.state == state);
        }
}

static void write_links(exposition *x, const metrics *m)
{
    char labels[LABELS_SIZE];
    exposition_family(x, "moondog_connection_links_total", "counter",
                      "Fresh links that were made, by why they were needed.");
    for (unsigned i = 0; i < m->connection_count; i++)
        for (int reason = WATCHDOG_REASON_START; reason < WATCHDOG_REASON_COUNT; reason++) {
            connection_labels(&m->connections[i], labels);
            exposition_label(labels, sizeof labels, "reason",
                             watchdog_reason_name((watchdog_reason)reason));
            exposition_count(x, labels, m->connections[i].counters.links[reason]);
        }
    exposition_family(x, "moondog_connection_dials_total", "counter",
                      "Dials by outcome and by the class of the error.");
    for (unsigned i = 0; i < m->connection_count; i++) {
        const struct metrics_connection *c = &m->connections[i];
        connection_labels(c, labels);
        exposition_label(labels, sizeof labels, "outcome", "connected");
        exposition_label(labels, sizeof labels, "class", "none");
        exposition_count(x, labels, c->state.links);
        for (int cls = ERROR_CLASS_NONE; cls < ERROR_CLASS_COUNT; cls++) {
            connection_labels(c, labels);
            exposition_label(labels, sizeof labels, "outcome", "failed");
            exposition_label(labels, sizeof labels, "class", error_class_name((error_class)cls));
            exposition_count(x, labels, c->counters.failed_dials[cls]);
        }
    }
}

static void write_connections(exposition *x, const metrics *m)
{
    char labels[LABELS_SIZE];
    uint64_t now = clock_ms();
    write_states(x, m);
    for (size_t f = 0; f < sizeof connection_families / sizeof connection_families[0]; f++) {
        exposition_family(x, connection_families[f].name, connection_families[f].type,
                          connection_families[f].help);
        for (unsigned i = 0; i < m->connection_count; i++) {
            connection_labels(&m->connections[i], labels);
            exposition_sample(x, labels, connection_families[f].value(&m->connections[i], now));
        }
    }
    write_links(x, m);
    exposition_family(x, "moondog_connection_outage_seconds", "histogram",
                      "How long the outages lasted that are over.");
    for (unsigned i = 0; i < m->connection_count; i++) {
        connection_labels(&m->connections[i], labels);
        exposition_histogram(x, labels, &histogram_outage,
                             &m->connections[i].counters.outage_seconds);
    }
    exposition_family(x, "moondog_connection_probe_seconds", "histogram",
                      "Round trips of probes through the server.");
    for (unsigned i = 0; i < m->connection_count; i++) {
        connection_labels(&m->connections[i], labels);
        exposition_histogram(x, labels, &histogram_trip, &m->connections[i].counters.probe_seconds);
    }
}

/* ---- subscriptions ---- */

struct labelled {
    char *labels;
    const struct metrics_subscription *one; /* of those that have the same labels */
    struct metrics_subscription sum;
};

static int compare_labels(const void *a, const void *b)
{
    return strcmp(((const struct labelled *)a)->labels, ((const struct labelled *)b)->labels);
}

static void add_up(struct metrics_subscription *sum, const struct metrics_subscription *s)
{
    sum->handled += s->handled;
    sum->errors += s->errors;
    sum->overruns += s->overruns;
    sum->dropped += s->dropped;
    sum->bursts += s->bursts;
    sum->queued += s->queued;
    histogram_merge(&sum->seconds, &s->seconds);
}

/* A subject may be subscribed twice: those are one series. Returns how many there are; NULL in
 * *out: no memory. */
static size_t label_subscriptions(const metrics *m, struct labelled **out)
{
    char labels[LABELS_SIZE];
    struct labelled *list = calloc(m->subscription_count + 1, sizeof list[0]);
    size_t count = 0, kept = 0;
    *out = list;
    for (unsigned i = 0; list != NULL && i < m->subscription_count; i++) {
        const struct metrics_subscription *s = &m->subscriptions[i];
        connection_labels(&m->connections[s->connection], labels);
        exposition_label(labels, sizeof labels, "subject", s->subject);
        exposition_label(labels, sizeof labels, "queue", s->queue);
        if (s->of_host)
            exposition_label(labels, sizeof labels, "kind", "host");
        list[count].labels = strdup(labels);
        list[count].one = s;
        if (list[count].labels != NULL)
            count++;
    }
    if (list != NULL)
        qsort(list, count, sizeof list[0], compare_labels);
    for (size_t i = 0; i < count; i++) {
        if (kept > 0 && strcmp(list[kept - 1].labels, list[i].labels) == 0) {
            add_up(&list[kept - 1].sum, list[i].one);
            free(list[i].labels);
            continue;
        }
        list[kept] = list[i];
        list[kept].sum = *list[kept].one;
        kept++;
    }
    return kept;
}

static const struct {
    const char *name, *type, *help;
    size_t offset;
} subscription_families[] = {
    {"moondog_subscription_handled_total", "counter", "Messages that its handler got.",
     offsetof(struct metrics_subscription, handled)},
    {"moondog_subscription_errors_total", "counter", "Failures of its handler.",
     offsetof(struct metrics_subscription, errors)},
    {"moondog_subscription_overruns_total", "counter",
     "Calls of its handler that were stopped at the time budget.",
     offsetof(struct metrics_subscription, overruns)},
    {"moondog_subscription_dropped_total", "counter",
     "Messages that came faster than they were handled, and were dropped.",
     offsetof(struct metrics_subscription, dropped)},
    {"moondog_subscription_slow_consumer_bursts_total", "counter",
     "Bursts of such drops, as far as they were reported: one a second at most.",
     offsetof(struct metrics_subscription, bursts)},
    {"moondog_subscription_queued_messages", "gauge", "Messages that wait for its handler.",
     offsetof(struct metrics_subscription, queued)},
};

static void write_subscriptions(exposition *x, const metrics *m)
{
    struct labelled *list;
    size_t count = label_subscriptions(m, &list);
    exposition_single(x, "moondog_subscriptions_omitted", "gauge",
                      "Subscriptions that are not listed here: the last 1000 are.",
                      (double)m->subscriptions_omitted);
    exposition_single(x, "moondog_host_subscriptions_waiting", "gauge",
                      "Subscriptions of the embedding program whose connection no script declares.",
                      m->host_waiting);
    for (size_t f = 0; f < sizeof subscription_families / sizeof subscription_families[0]; f++) {
        exposition_family(x, subscription_families[f].name, subscription_families[f].type,
                          subscription_families[f].help);
        for (size_t i = 0; i < count; i++) {
            uint64_t value;
            memcpy(&value, (const char *)&list[i].sum + subscription_families[f].offset,
                   sizeof value);
            exposition_count(x, list[i].labels, value);
        }
    }
    exposition_family(x, "moondog_subscription_handler_seconds", "histogram",
                      "How long its handler takes, waits included. Under load one call of eight is "
                      "measured, and counts for those that were not.");
    for (size_t i = 0; i < count; i++)
        exposition_histogram(x, list[i].labels, &histogram_handler, &list[i].sum.seconds);
    for (size_t i = 0; i < count; i++)
        free(list[i].labels);
    free(list);
}

/* ---- all ---- */

char *metrics_render(const metrics *m, const readiness *r, sentinel *s, size_t *length)
{
    char *text = NULL;
    FILE *out = open_memstream(&text, length);
    if (out == NULL)
        return NULL;
    exposition x = {.out = out};
    write_runtime(&x, m, r);
    write_loop(&x, m, r, s);
    write_generation(&x, m);
    write_connections(&x, m);
    write_subscriptions(&x, m);
    outbox_metrics_write(m->outboxes, &x);
    process_metrics_write(&x);
    exposition_single(&x, "moondog_metric_series", "gauge",
                      "Series of the script's own metrics; 1000 are possible.",
                      (double)m->user_series);
    exposition_single(&x, "moondog_metric_refused_total", "counter",
                      "Changes of the script's metrics that were refused: one series too many.",
                      (double)m->user_refused);
    user_metrics_write(m->user, out);
    bool failed = ferror(out) != 0;
    if (fclose(out) == 0 && !failed)
        return text;
    free(text);
    return NULL;
}
