/* A sensor gateway: a program with sensors, on a libuv loop of its own, that leaves to a Lua policy
 * what becomes of their readings.
 *
 * The sensors (simulated thermometers) are C, and so is what can be done to them. What is worth
 * sending, how it is summed up, and what must not get lost is edge.lua, which is changed while the
 * gateway runs: readings go to it as events, and it calls the functions that are registered here.
 *
 * Build it, with libmoondog installed:
 *   cc -D_GNU_SOURCE edge.c $(pkg-config --cflags --libs moondog libuv) -lm -o edge
 * In a checkout of moondog, ./scripts/build leaves it in build/examples/embed/edge/edge.
 *
 * Run it, with a nats-server that has JetStream (nats-server -js):
 *   ./edge --url nats://127.0.0.1:4222 --policy edge.lua --outbox edge.outbox --sensors 4
 *
 * See, with the NATS command line:
 *   nats subscribe 'edge.>'                        a summary of each sensor every 5 s
 *   nats request edge.sensors ''                   what there is
 *   nats request edge.command.s1.interval 0.05     s1 measures 20 times a second
 *   nats request edge.command.s1.target 60         it gets warm: an alarm
 *   kill the server for a minute, start it again:  nats stream view EDGE has no gap
 *   edit WINDOW in edge.lua, kill -HUP $(pidof edge): other summaries, and no reading is lost
 *   Ctrl-C: what is summed up so far is sent, or kept in the outbox, and the gateway ends with 0
 *
 * All of this is the loop's thread, but on_log(). */
#include <getopt.h>
#include <math.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#include <moondog.h>

#define SENSORS_MAX 1000
#define INTERVAL_MS 200 /* between two readings of a sensor, at first */
#define INTERVAL_MIN_MS 1
#define INTERVAL_MAX_MS 3600000
#define TARGET_C 21.0
#define GLITCH_EVERY 40  /* readings */
#define GLITCH_C 85.0    /* what a DS18B20 says after its power was away for a moment */
#define DRAIN_MS 3000    /* for the policy's last words */
#define POLICY_BUDGET 50 /* ms, of each function of the policy */

struct gateway;

typedef struct {
    struct gateway *gateway;
    uv_timer_t timer;
    char name[16];
    double value, target; /* degrees Celsius */
    uint64_t interval_ms;
    unsigned long taken; /* readings so far, and the number of the newest */
} sensor;

typedef struct gateway {
    uv_loop_t loop;
    md_runtime *runtime;
    uv_signal_t interrupt, terminate, hangup;
    uv_timer_t limit; /* --seconds */
    sensor *sensors;
    unsigned sensor_count;
    unsigned long unheard; /* readings that no policy took */
    int stopping;
} gateway;

typedef struct {
    const char *url, *policy, *outbox;
    unsigned sensors, seconds;
} arguments;

/* ---- the sensors ---- */

/* Tells the policy, which has it before this returns. What an event consists of is copied. */
static void tell(sensor *s, double measured)
{
    md_field fields[] = {
        {"sensor", md_string(s->name)},
        {"number", md_number((double)s->taken)},
        {"value", md_number(measured)},
    };
    md_value reading = md_map(fields, sizeof fields / sizeof *fields);
    if (md_emit(s->gateway->runtime, "reading", &reading) < 1)
        s->gateway->unheard++;
}

static void on_sensor(uv_timer_t *timer)
{
    sensor *s = timer->data;
    s->taken++;
    s->value += (s->target - s->value) * 0.1 + 0.05 * sin((double)s->taken);
    tell(s, s->taken % GLITCH_EVERY == 0 ? GLITCH_C : s->value);
}

static int begin_sensors(gateway *g, unsigned count)
{
    g->sensors = calloc(count, sizeof *g->sensors);
    if (g->sensors == NULL)
        return -1;
    for (g->sensor_count = 0; g->sensor_count < count; g->sensor_count++) {
        sensor *s = &g->sensors[g->sensor_count];
        s->gateway = g;
        s->value = s->target = TARGET_C;
        s->interval_ms = INTERVAL_MS;
        snprintf(s->name, sizeof s->name, "s%u", g->sensor_count + 1);
        uv_timer_init(&g->loop, &s->timer);
        s->timer.data = s;
        uv_timer_start(&s->timer, on_sensor, s->interval_ms, s->interval_ms);
    }
    return 0;
}

/* ---- what the policy can do to them ---- */

/* The sensor that the first argument names. NULL: the call has failed, and the script is told how:
 * it raises an error where the script is wrong, and returns nil and an error where the world is. */
static sensor *sensor_of(gateway *g, md_call *call)
{
    const md_value *name = md_call_argument(call, 0);
    if (name->type != MD_STRING) {
        md_call_misuse(call, "the first argument is the name of a sensor");
        return NULL;
    }
    for (unsigned i = 0; i < g->sensor_count; i++)
        if (strcmp(g->sensors[i].name, name->as.string.data) == 0)
            return &g->sensors[i];
    md_call_fail(call, "no_sensor", "there is no sensor of this name: see host.sensors()");
    return NULL;
}

static int number_of(md_call *call, double min, double max, double *number)
{
    const md_value *given = md_call_argument(call, 1);
    if (given->type != MD_NUMBER) {
        md_call_misuse(call, "the second argument is a number");
        return -1;
    }
    if (!(given->as.number >= min && given->as.number <= max)) {
        char text[128];
        snprintf(text, sizeof text, "%g is not between %g and %g", given->as.number, min, max);
        md_call_fail(call, "out_of_range", text);
        return -1;
    }
    *number = given->as.number;
    return 0;
}

static void succeed(md_call *call)
{
    md_value yes = md_boolean(1);
    md_call_return(call, &yes);
}

/* host.set_interval(sensor, seconds) */
static void set_interval(void *closure, md_call *call)
{
    gateway *g = closure;
    double seconds;
    sensor *s = sensor_of(g, call);
    if (s == NULL ||
        number_of(call, INTERVAL_MIN_MS / 1000.0, INTERVAL_MAX_MS / 1000.0, &seconds) != 0)
        return;
    s->interval_ms = (uint64_t)(seconds * 1000 + 0.5);
    if (!g->stopping)
        uv_timer_start(&s->timer, on_sensor, s->interval_ms, s->interval_ms);
    succeed(call);
}

/* host.set_target(sensor, degrees): what the heater beside it is set to. */
static void set_target(void *closure, md_call *call)
{
    double degrees;
    sensor *s = sensor_of(closure, call);
    if (s == NULL || number_of(call, -40, 80, &degrees) != 0)
        return;
    s->target = degrees;
    succeed(call);
}

/* host.sensors(): a list of { name, value, target, interval, taken }. */
static void list_sensors(void *closure, md_call *call)
{
    enum { FIELDS = 5 };
    gateway *g = closure;
    size_t count = g->sensor_count; /* 0 while the policy is loaded */
    md_value *items = calloc(count + 1, sizeof *items);
    md_field *fields = calloc((count + 1) * FIELDS, sizeof *fields);
    for (size_t i = 0; items != NULL && fields != NULL && i < count; i++) {
        const sensor *s = &g->sensors[i];
        md_field *f = &fields[i * FIELDS];
        f[0] = (md_field){"name", md_string(s->name)};
        f[1] = (md_field){"value", md_number(s->value)};
        f[2] = (md_field){"target", md_number(s->target)};
        f[3] = (md_field){"interval", md_number((double)s->interval_ms / 1000)};
        f[4] = (md_field){"taken", md_number((double)s->taken)};
        items[i] = md_map(f, FIELDS);
    }
    if (items != NULL && fields != NULL) {
        md_value list = md_list(items, count);
        md_call_return(call, &list); /* copies it */
    } else {
        md_call_fail(call, "no_memory", "no memory for the list of sensors");
    }
    free(fields);
    free(items);
}

static int register_functions(gateway *g)
{
    return md_register(g->runtime, "sensors", list_sensors, g) != 0 ||
                   md_register(g->runtime, "set_interval", set_interval, g) != 0 ||
                   md_register(g->runtime, "set_target", set_target, g) != 0
               ? -1
               : 0;
}

/* ---- signals, reloads, the log ---- */

/* On the log's own thread: it may block, the loop does not notice. Under systemd a line begins with
 * its priority, as sd-daemon(3) has it. */
static void on_log(void *closure, int level, const char *line, size_t length)
{
    static const int priorities[] = {7, 6, 4, 3};
    const int *for_journal = closure;
    if (*for_journal)
        fprintf(stderr, "<%d>", priorities[level]);
    fprintf(stderr, "%.*s\n", (int)length, line);
}

/* No more readings; the policy is told, and sends what it has (moondog.on_unload) within DRAIN_MS.
 * The second time: at once. */
static void stop(gateway *g)
{
    if (!g->stopping) {
        g->stopping = 1;
        for (unsigned i = 0; i < g->sensor_count; i++)
            uv_timer_stop(&g->sensors[i].timer);
        md_emit(g->runtime, "closing", NULL);
    }
    md_stop(g->runtime);
}

static void on_stopped(void *closure)
{
    gateway *g = closure;
    uv_stop(&g->loop);
}

static void on_stop_signal(uv_signal_t *handle, int number)
{
    (void)number;
    stop(handle->data);
}

static void on_limit(uv_timer_t *timer)
{
    stop(timer->data);
}

static void on_reloaded(void *closure, const md_reload_result *result, const md_error *e)
{
    (void)closure;
    if (e != NULL)
        fprintf(stderr, "edge: the policy stays as it is: %s\n", e->message);
    else
        fprintf(stderr, "edge: policy %u is at work\n", result->generation);
}

/* The new policy is loaded in a thread of its own. If it is wrong, the running one goes on. */
static void on_hangup(uv_signal_t *handle, int number)
{
    gateway *g = handle->data;
    md_error e;
    (void)number;
    if (!g->stopping && md_reload(g->runtime, 0, on_reloaded, g, &e) != 0)
        fprintf(stderr, "edge: no reload: %s\n", e.message);
}

static void begin_handles(gateway *g, unsigned seconds)
{
    uv_signal_init(&g->loop, &g->interrupt);
    uv_signal_init(&g->loop, &g->terminate);
    uv_signal_init(&g->loop, &g->hangup);
    uv_timer_init(&g->loop, &g->limit);
    g->interrupt.data = g->terminate.data = g->hangup.data = g->limit.data = g;
    uv_signal_start(&g->interrupt, on_stop_signal, SIGINT);
    uv_signal_start(&g->terminate, on_stop_signal, SIGTERM);
    uv_signal_start(&g->hangup, on_hangup, SIGHUP);
    if (seconds > 0)
        uv_timer_start(&g->limit, on_limit, seconds * 1000ull, 0);
}

/* ---- the life of the gateway ---- */

/* The policy finds where things are in the environment, as it does under `moondog run`. */
static void set_environment(const arguments *a)
{
    if (a->url != NULL)
        setenv("NATS_URL", a->url, 1);
    if (a->outbox != NULL)
        setenv("EDGE_OUTBOX", a->outbox, 1);
}

/* The runtime has its handles in the loop from md_create() to md_free(). */
static int run(gateway *g, const arguments *a)
{
    md_error e;
    md_options options;
    int for_journal = getenv("JOURNAL_STREAM") != NULL;
    md_options_init(&options);
    options.loop = &g->loop;
    options.name = "edge";
    options.log_write = on_log;
    options.log_closure = &for_journal;
    options.handler_budget_ms = POLICY_BUDGET;
    options.drain_ms = DRAIN_MS;
    options.stopped = on_stopped;
    options.stopped_closure = g;
    g->runtime = md_create(&options, &e);
    if (g->runtime == NULL) {
        fprintf(stderr, "edge: %s\n", e.message);
        return 1;
    }
    int failed = register_functions(g); /* the log says why */
    if (failed == 0 && (failed = md_load(g->runtime, a->policy, &e)) != 0)
        fprintf(stderr, "edge: %s\n", e.message);
    if (failed == 0 && (failed = begin_sensors(g, a->sensors)) != 0)
        fprintf(stderr, "edge: no memory for %u sensors\n", a->sensors);
    if (failed == 0)
        uv_run(&g->loop, UV_RUN_DEFAULT); /* until on_stopped() */
    g->stopping = 1;                      /* md_free() turns the loop, which still has signals */
    md_free(g->runtime);
    return failed != 0;
}

static void close_handles(gateway *g)
{
    for (unsigned i = 0; i < g->sensor_count; i++)
        uv_close((uv_handle_t *)&g->sensors[i].timer, NULL);
    uv_close((uv_handle_t *)&g->interrupt, NULL);
    uv_close((uv_handle_t *)&g->terminate, NULL);
    uv_close((uv_handle_t *)&g->hangup, NULL);
    uv_close((uv_handle_t *)&g->limit, NULL);
    uv_run(&g->loop, UV_RUN_DEFAULT);
    uv_loop_close(&g->loop);
}

/* A number from 0 to max, or the end of the program. */
static unsigned number_argument(const char *name, const char *text, unsigned max)
{
    char *end;
    unsigned long number = strtoul(text, &end, 10);
    if (*text < '0' || *text > '9' || *end != '\0' || number > max) {
        fprintf(stderr, "edge: --%s is \"%s\": give a number up to %u\n", name, text, max);
        exit(2);
    }
    return (unsigned)number;
}

static void read_arguments(arguments *a, int argc, char **argv)
{
    static const struct option known[] = {
        {"url", required_argument, NULL, 'u'},     {"policy", required_argument, NULL, 'p'},
        {"outbox", required_argument, NULL, 'o'},  {"sensors", required_argument, NULL, 'n'},
        {"seconds", required_argument, NULL, 's'}, {NULL, 0, NULL, 0},
    };
    int wrong = 0;
    for (int c; (c = getopt_long(argc, argv, "", known, NULL)) != -1;) {
        if (c == 'u')
            a->url = optarg;
        else if (c == 'p')
            a->policy = optarg;
        else if (c == 'o')
            a->outbox = optarg;
        else if (c == 'n')
            a->sensors = number_argument("sensors", optarg, SENSORS_MAX);
        else if (c == 's')
            a->seconds = number_argument("seconds", optarg, 1000000);
        else
            wrong = 1; /* getopt_long() has said what it is */
    }
    if (!wrong && optind == argc && a->sensors > 0)
        return;
    fprintf(stderr, "usage: edge [--url URL] [--policy FILE] [--outbox FILE] [--sensors N] "
                    "[--seconds N]\n");
    exit(2);
}

int main(int argc, char **argv)
{
    static gateway g;
    arguments a = {.policy = "edge.lua", .sensors = 4};
    read_arguments(&a, argc, argv);
    set_environment(&a);
    if (uv_loop_init(&g.loop) != 0) {
        fprintf(stderr, "edge: no event loop: are there too many open files?\n");
        return 1;
    }
    begin_handles(&g, a.seconds);
    int code = run(&g, &a);
    unsigned long taken = 0;
    for (unsigned i = 0; i < g.sensor_count; i++)
        taken += g.sensors[i].taken;
    close_handles(&g);
    free(g.sensors);
    if (code == 0)
        printf("edge: %lu readings, of which the policy did not get %lu\n", taken, g.unheard);
    return code;
}
