/* The runtime, from md_create() to md_free(): its options, its parts, its end. What it does in
 * between is in load.c, run.c, poll.c and reload.c. See moondog.h. Loop thread. */
#include <assert.h>
#include <nats/nats.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <uv.h>

#include "base/thread.h"
#include "conn/connection.h"
#include "control/server.h"
#include "health/health.h"
#include "health/user_metrics.h"
#include "host/messages.h"
#include "jetstream/ledger.h"
#include "report.h"
#include "runtime_private.h"
#include "script/interpreter.h"
#include "script/task.h"

#define LOG_FLUSH_MS 1000u

const char *md_version(void)
{
    return MOONDOG_VERSION;
}

static const md_options defaults = {
    .size = sizeof defaults,
    .name = "moondog",
    .log_fd = 2,
    .log_format = "auto",
    .log_level = "info",
    .handler_budget_ms = 100,
    .load_budget_ms = 1000,
    .memory_cap = 256u * 1024 * 1024,
    .drain_ms = 10000,
    .retire_ms = 30000,
    .state_cap = 16u * 1024 * 1024,
    .probation_rate = 0.1,
    .stall_ms = 1000,
};

void md_options_init_sized(md_options *options, size_t size)
{
    memset(options, 0, size);
    memcpy(options, &defaults, size < sizeof defaults ? size : sizeof defaults);
    options->size = size;
}

int runtime_fail(md_error *out, const char *code, const char *message)
{
    if (out == NULL)
        return -1;
    *out = (md_error){0};
    snprintf(out->code, sizeof out->code, "%s", code);
    snprintf(out->message, sizeof out->message, "%s", message);
    return -1;
}

int runtime_error(md_error *out, const error *e, const char *traceback)
{
    runtime_fail(out, e->code, e->message);
    if (out != NULL)
        snprintf(out->traceback, sizeof out->traceback, "%s", traceback);
    return -1;
}

/* ---- making ---- */

static struct logger *open_log(const md_options *o, md_error *e)
{
    int format = log_format_parse(o->log_format);
    int level = log_level_parse(o->log_level);
    if (format < 0) {
        runtime_fail(e, "usage", "unknown log format: there are auto, logfmt, short and json");
        return NULL;
    }
    if (level < 0) {
        runtime_fail(e, "usage", "unknown log level: there are debug, info, warn, error and off");
        return NULL;
    }
    struct logger *log;
    if (o->log_write != NULL)
        log = log_new_hook((log_write_fn)o->log_write, o->log_closure, (log_format)format,
                           (log_level)level);
    else
        log = log_new(o->log_fd, (log_format)format, (log_level)level);
    if (log == NULL)
        runtime_fail(e, "no_memory", "cannot start the log: no memory or no thread");
    else
        log_set_clock(log, (wall_clock){o->clock, o->clock_closure});
    return log;
}

/* What the caller has set, over the defaults. -1: it knows options that this library does not. */
static int read_options(md_options *o, const md_options *given, md_error *e)
{
    *o = defaults;
    if (given == NULL)
        return 0;
    if (given->size < offsetof(md_options, name))
        return runtime_fail(e, "usage", "md_options has no size: call md_options_init() first");
    memcpy(o, given, given->size < sizeof *o ? given->size : sizeof *o);
    for (size_t i = sizeof *o; i < given->size; i++)
        if (((const unsigned char *)given)[i] != 0)
            return runtime_fail(
                e, "usage",
                "md_options has an option that this libmoondog does not know: it is older "
                "than the header that the program was compiled with");
    if (o->budget_signal != 0 && budget_take_signal(o->budget_signal) != 0)
        return runtime_fail(
            e, "signal_taken",
            "budget_signal: the process uses this signal for something else, or there is "
            "none of this number; give another one, or 0");
    return 0;
}

/* The first time, it ignores SIGPIPE for the whole process. A handler that the program has stays;
 * where there is none, that is left so: libuv writes to sockets that have been closed. */
static int open_library(void)
{
    struct sigaction before, after;
    sigaction(SIGPIPE, NULL, &before);
    int policy = thread_become_patient(); /* what it starts are such threads */
    natsStatus status = nats_Open(-1);
    thread_restore_policy(policy);
    sigaction(SIGPIPE, NULL, &after);
    if (before.sa_handler != SIG_DFL && after.sa_handler == SIG_IGN)
        sigaction(SIGPIPE, &before, NULL);
    return status == NATS_OK ? 0 : -1;
}

/* What has a handle in the loop or a thread. Each part can be ended when it was begun. */
static int begin(md_runtime *rt, const md_options *o, error *e)
{
    const char *what = "the loop";
    rt->loop = o->loop != NULL ? o->loop : &rt->own_loop;
    if (o->loop == NULL && uv_loop_init(&rt->own_loop) != 0)
        goto no_loop;
    if (hub_init(&rt->hub, rt->loop, rt->log) != 0)
        goto no_hub;
    rt->hub.clock = (wall_clock){o->clock, o->clock_closure};
    rt->hub.closure = rt;
    if (reload_init(rt) != 0)
        goto no_reload;
    if (posts_init(&rt->posts) != 0)
        goto no_posts;
    what = "the NATS library";
    if (open_library() != 0)
        goto no_thread;
    what = "a thread";
    if (sentinel_start(&rt->sentinel, o->budget_signal) != 0)
        goto no_thread;
    uv_timer_init(rt->loop, &rt->stop_timer);
    rt->stop_timer.data = rt;
    rt->hub.turn_done = runtime_turn; /* last: until here there are parts that it must not use */
    return 0;

no_thread:
    posts_end(&rt->posts);
no_posts:
    reload_close(rt);
    while (!reload_closed(rt))
        uv_run(rt->loop, UV_RUN_NOWAIT);
    uv_mutex_destroy(&rt->reloads.lock);
no_reload:
    hub_close(&rt->hub);
    while (!hub_closed(&rt->hub))
        uv_run(rt->loop, UV_RUN_NOWAIT);
no_hub:
    if (o->loop == NULL)
        uv_loop_close(&rt->own_loop);
no_loop:
    return error_set(e, "no_runtime", ERROR_CLASS_LIMIT,
                     "cannot start %s: there is no memory, or no thread or descriptor is left; "
                     "see ulimit -a",
                     what);
}

static void set_limits(md_runtime *rt, const md_options *o)
{
    rt->drain_ms = o->drain_ms;
    rt->probation_ms = o->probation_ms;
    rt->probation_rate = o->probation_rate;
    rt->stall_ms = o->stall_ms;
    rt->on_stopped = o->stopped;
    rt->stopped_closure = o->stopped_closure;
    generation_limits *l = &rt->limits;
    l->hub = &rt->hub;
    l->sentinel = &rt->sentinel;
    l->failures = &rt->failures;
    l->metrics = rt->user_metrics;
    l->ledgers = rt->ledgers;
    l->messages = rt->messages;
    l->outboxes = &rt->outboxes;
    l->functions = &rt->functions;
    l->handler_budget_ms = o->handler_budget_ms;
    l->load_budget_ms = o->load_budget_ms;
    l->memory_cap = o->memory_cap;
    l->alloc = o->alloc;
    l->alloc_closure = o->alloc_closure;
    l->state_cap = o->state_cap;
    l->retire_ms = o->retire_ms;
}

/* The parts that md_free() can end whether they are there or not. */
static int make_parts(md_runtime *rt, const md_options *o, error *e)
{
    rt->user_metrics = user_metrics_new();
    rt->ledgers = ledgers_new();
    rt->messages = messages_new(&rt->hub, &rt->sentinel);
    outboxes_init(&rt->outboxes, &rt->hub);
    set_limits(rt, o);
    rt->name = strdup(o->name != NULL ? o->name : "moondog");
    rt->created_at = clock_ms();
    if (o->notify != 0)
        rt->manager = notify_open();
    if (rt->name == NULL || rt->user_metrics == NULL || rt->ledgers == NULL ||
        rt->messages == NULL || (o->watch != 0 && (rt->watch = file_watch_new(rt)) == NULL))
        return error_set(e, "no_memory", ERROR_CLASS_LIMIT, "no memory for a runtime");
    if (o->control != NULL && control_new(rt, o->control, e) == NULL)
        return -1;
    if ((o->http != NULL || rt->manager != NULL) &&
        (rt->health = health_new(rt, o->http, e)) == NULL)
        return -1;
    return 0;
}

static md_runtime *create(const md_options *o, md_error *out)
{
    error e = {0};
    if (interpreter_check(&e) != 0) {
        runtime_error(out, &e, "");
        return NULL;
    }
    md_runtime *rt = calloc(1, sizeof *rt);
    if (rt == NULL) {
        runtime_fail(out, "no_memory", "no memory for a runtime");
        return NULL;
    }
    rt->log = open_log(o, out);
    if (rt->log == NULL) {
        free(rt);
        return NULL;
    }
    if (begin(rt, o, &e) != 0) {
        runtime_error(out, &e, "");
        log_free(rt->log, 0);
        free(rt);
        return NULL;
    }
    if (make_parts(rt, o, &e) != 0) {
        runtime_error(out, &e, "");
        md_free(rt);
        return NULL;
    }
    return rt;
}

md_runtime *md_create(const md_options *options, md_error *out)
{
    md_options o;
    sigset_t before;
    if (read_options(&o, options, out) != 0)
        return NULL;
    thread_block_signals(&before);
    md_runtime *rt = create(&o, out);
    thread_restore_signals(&before);
    return rt;
}

/* ---- what can be asked ---- */

int md_set_log_level(md_runtime *rt, const char *level)
{
    int parsed = log_level_parse(level);
    if (parsed < 0)
        return -1;
    log_level before = log_get_level(rt->log);
    if ((log_level)parsed == before)
        return 0;
    /* Said at whichever level it is that shows more. */
    if ((log_level)parsed < before)
        log_set_level(rt->log, (log_level)parsed);
    log_emit(rt->log, LOG_INFO, "log level changed", log_str("to", level),
             log_str("from", log_level_name(before)));
    log_set_level(rt->log, (log_level)parsed);
    return 0;
}

char *md_status(md_runtime *rt)
{
    json_t *status = report_status(rt);
    char *text = status != NULL ? json_dumps(status, JSON_COMPACT | JSON_REAL_PRECISION(9)) : NULL;
    json_decref(status);
    return text;
}

/* ---- the end ---- */

static void on_closed(uv_handle_t *handle)
{
    *(bool *)handle->data = true;
}

/* What they wait for of connections is undone while those are there: nobody may have told them yet
 * that these are closed. */
static void end_tasks(md_runtime *rt)
{
    if (rt->generation != NULL)
        task_close_all(rt->generation);
    for (struct generation *g = rt->reloads.retiring; g != NULL; g = g->next)
        task_close_all(g);
}

static unsigned end_connections(md_runtime *rt)
{
    unsigned left = 0;
    uint64_t deadline = clock_ms() + RUNTIME_END_GRACE_MS;
    for (struct connection *c = rt->hub.connections; c != NULL; c = connection_after(c))
        connection_close(c);
    runtime_start_tick(rt); /* so that it turns */
    while (!runtime_connections_are_over(rt) && !rt->forced && clock_ms() < deadline)
        uv_run(rt->loop, UV_RUN_ONCE);
    end_tasks(rt);
    while (rt->hub.connections != NULL) {
        runtime_forget(rt, rt->hub.connections);
        left += connection_free(rt->hub.connections);
    }
    return left;
}

/* What was published is written; a disk that hangs is not waited for. */
static unsigned end_outboxes(md_runtime *rt)
{
    uint64_t deadline = clock_ms() + RUNTIME_END_GRACE_MS;
    outboxes_close(&rt->outboxes);
    outboxes_turn(&rt->outboxes);
    runtime_start_tick(rt);
    while (!outboxes_closed(&rt->outboxes) && clock_ms() < deadline) {
        uv_run(rt->loop, UV_RUN_ONCE);
        outboxes_turn(&rt->outboxes);
    }
    return outboxes_abandon(&rt->outboxes);
}

unsigned md_free(md_runtime *rt)
{
    if (rt == NULL)
        return 0;
    assert(!runtime_refuses_to_turn(rt, "md_free"));
    rt->stopped = true;
    rt->stop_deadline = UINT64_MAX;
    sentinel_unguard(&rt->sentinel);
    functions_clear(&rt->functions);
    events_end(rt);
    eval_end(rt);
    health_free(rt->health);
    rt->health = NULL;
    messages_end(rt->messages);
    unsigned left = end_connections(rt);
    if (rt->generation != NULL)
        retire_discard(rt, rt->generation);
    rt->generation = NULL;
    unsigned loads = reload_end_all(rt);
    left += loads + end_outboxes(rt);
    bool timer_closed = false;
    rt->stop_timer.data = &timer_closed;
    posts_close(&rt->posts);
    uv_close((uv_handle_t *)&rt->stop_timer, on_closed);
    hub_close(&rt->hub);
    reload_close(rt);
    file_watch_close(rt->watch);
    control_close(rt->control);
    while (!timer_closed || !hub_closed(&rt->hub) || !reload_closed(rt) || !file_watch_closed(rt) ||
           !control_closed(rt) || !eval_closed(&rt->evaluations) || !messages_closed(rt->messages))
        uv_run(rt->loop, UV_RUN_NOWAIT);
    if (rt->loop == &rt->own_loop)
        uv_loop_close(&rt->own_loop);
    if (loads > 0)
        return left; /* a thread that loads for ever uses what is left: better a leak than a crash
                      */
    sentinel_stop(&rt->sentinel);
    notify_close(rt->manager);
    user_metrics_free(rt->user_metrics);
    ledgers_free(rt->ledgers);
    messages_free(rt->messages);
    uv_mutex_destroy(&rt->reloads.lock);
    bool flushed = log_free(rt->log, LOG_FLUSH_MS);
    left += !flushed;
    if (flushed)
        posts_end(&rt->posts); /* the host's hook may have posted until now */
    failures_clear(&rt->failures);
    functions_clear(&rt->functions); /* what was registered since */
    sources_release(rt->files);
    free(rt->name);
    free(rt);
    return left;
}
