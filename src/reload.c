/* One generation after another: who asks for it, loading in a thread of its own, what comes of it.
 * The swap itself is in swap.c. See runtime_private.h. Loop thread, but load_main().
 */
#include <lauxlib.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/thread.h"
#include "runtime_private.h"
#include "script/message.h"
#include "script/task.h"

#define LOAD_GRACE_MS 5000u /* over the budget: for code that has to come back first */
#define LOAD_UNLIMITED_MS 60000u
#define HANGING_MAX 4u
#define END_JOB_MS 2000u /* that a load may take when the runtime ends */

typedef enum { RELOAD_FILE, RELOAD_PREVIOUS, RELOAD_IF_CHANGED } reload_kind;

struct reload_request {
    struct reload_request *next;
    reload_kind kind;
    md_reload_fn fn; /* NULL: nobody wants to know */
    void *closure;
    struct task *task;   /* of the script that asked; NULL: none, or it has ended */
    uint32_t instead_of; /* only when this generation is still at work; 0: in any case */
};

struct load_job {
    struct load_job *next; /* among those that hang */
    md_runtime *rt;
    reload_kind kind;
    struct reload_request *requests;
    uv_thread_t thread;
    uint64_t begun; /* ns */
    char *path;
    uint32_t number;
    sources *from;  /* the thread's, once it runs */
    sources *known; /* RELOAD_IF_CHANGED: nothing is loaded when the files are as these */
    /* Written by the thread, read when `finished`. */
    struct generation *g; /* NULL: no memory */
    error error;
    char traceback[sizeof((md_error *)0)->traceback];
    int status;
    bool unchanged;
    atomic_bool finished;
};

/* ---- telling ---- */

static const struct callback answer = {.ref = LUA_NOREF, .kind = "host", .name = "reload"};

static void tell(md_runtime *rt, struct reload_request *requests, const md_reload_result *result,
                 const md_error *e)
{
    for (struct reload_request *r = requests, *next; r != NULL; r = next) {
        next = r->next;
        const struct callback *outer = sentinel_host_enters(&rt->sentinel, &answer);
        if (r->fn != NULL)
            r->fn(r->closure, result, e);
        sentinel_host_leaves(&rt->sentinel, outer);
        if (r->task != NULL && result != NULL) {
            lua_pushnumber(r->task->co, result->generation);
            task_resume(r->task, 1);
        } else if (r->task != NULL) {
            error err = {0};
            error_set(&err, e->code, ERROR_CLASS_NONE, "%s", e->message);
            task_resume_error(r->task, &err);
        }
        free(r);
    }
}

static void fail(md_runtime *rt, struct reload_request *requests, const error *e,
                 const char *traceback)
{
    md_error out;
    runtime_error(&out, e, traceback);
    rt->reloads.failed++;
    rt->reloads.last_error = out;
    rt->reloads.last_error_at = wall_clock_ms(&rt->hub.clock);
    log_emit(rt->log, LOG_ERROR, "reload failed", log_str("error", out.message),
             log_str("code", out.code), log_int("generation", rt->generation->number),
             log_str("traceback", out.traceback));
    tell(rt, requests, NULL, &out);
}

/* ---- loading ---- */

static void load_main(void *closure)
{
    struct load_job *job = closure;
    md_runtime *rt = job->rt;
    sources *from = job->from;
    thread_take_signal(rt->sentinel.signal);
    job->from = NULL;
    job->unchanged = job->known != NULL && sources_are_current(job->known);
    if (!job->unchanged)
        job->g = generation_new(&rt->limits, job->number);
    if (job->unchanged) {
        sources_release(from);
    } else if (job->g != NULL) {
        job->status = generation_load(job->g, job->path, from, &job->error, job->traceback,
                                      sizeof job->traceback);
    } else {
        sources_release(from);
        job->status = error_set(&job->error, "no_memory", ERROR_CLASS_LIMIT,
                                "cannot make a lua_State: no memory; raise --memory");
    }
    atomic_store(&job->finished, true);
    uv_mutex_lock(&rt->reloads.lock);
    if (!rt->reloads.ended)
        uv_async_send(&rt->reloads.loaded);
    uv_mutex_unlock(&rt->reloads.lock);
}

static void job_free(struct load_job *job)
{
    sources_release(job->from);
    sources_release(job->known);
    free(job->path);
    free(job);
}

static void on_deadline(uv_timer_t *timer);

static struct load_job *job_new(md_runtime *rt, reload_kind kind, error *e)
{
    struct reloads *r = &rt->reloads;
    if (kind == RELOAD_PREVIOUS && r->previous == NULL) {
        error_set(e, "no_previous", ERROR_CLASS_NONE, "there is no generation before this one");
        return NULL;
    }
    if (r->hanging_count >= HANGING_MAX) {
        error_set(e, "hanging", ERROR_CLASS_LIMIT,
                  "%u loads hang in code that nothing can stop: restart the process",
                  r->hanging_count);
        return NULL;
    }
    struct load_job *job = calloc(1, sizeof *job);
    if (job != NULL) {
        *job = (struct load_job){
            .rt = rt, .kind = kind, .number = rt->generations + 1, .begun = uv_hrtime()};
        job->path = strdup(rt->generation->path);
        job->from = kind == RELOAD_PREVIOUS ? sources_copy(r->previous) : sources_over(rt->files);
        job->known = kind == RELOAD_IF_CHANGED && r->seen != NULL ? sources_copy(r->seen) : NULL;
    }
    if (job == NULL || job->path == NULL || job->from == NULL ||
        thread_start(&job->thread, load_main, job) != 0) {
        error_set(e, "no_memory", ERROR_CLASS_LIMIT,
                  "cannot load a script: no memory, or no thread");
        if (job != NULL)
            job_free(job);
        return NULL;
    }
    return job;
}

static struct reload_request *take_waiting(md_runtime *rt)
{
    struct reload_request *requests = rt->reloads.waiting;
    rt->reloads.waiting = NULL;
    rt->reloads.waiting_end = &rt->reloads.waiting;
    return requests;
}

/* Those that were for a generation that is not at work any more. */
static void drop_void(md_runtime *rt)
{
    struct reloads *r = &rt->reloads;
    struct reload_request **at = &r->waiting;
    while (*at != NULL) {
        struct reload_request *q = *at;
        if (q->instead_of == 0 || q->instead_of == rt->generation->number) {
            at = &q->next;
            continue;
        }
        *at = q->next;
        free(q);
    }
    r->waiting_end = at;
}

/* systemd wants to know when, on the monotonic clock. */
static void tell_manager(md_runtime *rt, reload_kind kind)
{
    if (kind != RELOAD_IF_CHANGED)
        notify_send(rt->manager, -1, "RELOADING=1\nMONOTONIC_USEC=%llu",
                    (unsigned long long)(uv_hrtime() / 1000u));
}

/* The next job for all that wait; the last one says which source is wanted. False: it cannot begin,
 * they wait as before, and *e (which may be NULL) says why. */
static bool begin_job(md_runtime *rt, error *e)
{
    struct reloads *r = &rt->reloads;
    if (r->job != NULL)
        return true;
    drop_void(rt);
    if (r->waiting == NULL)
        return true;
    reload_kind kind = RELOAD_IF_CHANGED;
    for (const struct reload_request *q = r->waiting; q != NULL; q = q->next)
        if (q->kind != RELOAD_IF_CHANGED)
            kind = q->kind;
    if (rt->stopping)
        error_set(e, "stopping", ERROR_CLASS_NONE, "the runtime stops");
    else
        r->job = job_new(rt, kind, e);
    if (r->job == NULL)
        return false;
    r->job->requests = take_waiting(rt);
    tell_manager(rt, kind);
    uint32_t limit = rt->limits.load_budget_ms;
    uv_update_time(rt->loop);
    uv_timer_start(&r->deadline, on_deadline, limit > 0 ? limit + LOAD_GRACE_MS : LOAD_UNLIMITED_MS,
                   0);
    return true;
}

/* Or tells those who wait that it cannot begin. */
static void begin(md_runtime *rt)
{
    error e = {0};
    if (!begin_job(rt, &e))
        fail(rt, take_waiting(rt), &e, "");
}

static void on_deadline(uv_timer_t *timer)
{
    md_runtime *rt = timer->data;
    struct reloads *r = &rt->reloads;
    struct load_job *job = r->job;
    if (job == NULL || atomic_load(&job->finished))
        return;
    struct reload_request *requests = job->requests;
    job->requests = NULL;
    job->next = r->hanging;
    r->hanging = job;
    r->hanging_count++;
    r->job = NULL;
    error e = {0};
    error_set(&e, "hanging", ERROR_CLASS_TIMEOUT,
              "%s: its top level is in code that no budget can stop, such as a pattern that never "
              "ends; it is left to itself",
              job->path);
    fail(rt, requests, &e, "");
    notify_send(rt->manager, -1, "READY=1");
    begin(rt);
}

void reload_note_seen(md_runtime *rt, sources *seen, bool failed)
{
    sources_release(rt->reloads.seen);
    rt->reloads.seen = seen != NULL ? sources_retain(seen) : NULL;
    rt->reloads.seen_failed = failed;
}

static void watch(md_runtime *rt, const sources *also)
{
    if (rt->watch != NULL)
        file_watch_set(rt->watch, rt->generation->sources, also);
}

static int swap(md_runtime *rt, struct load_job *job, md_reload_result *result)
{
    result->load_ms = (double)(uv_hrtime() - job->begun) / 1e6;
    return swap_in(rt, job->g, job->kind == RELOAD_PREVIOUS, result, &job->error);
}

static void finish(md_runtime *rt, struct load_job *job)
{
    md_reload_result result = {0};
    if (job->kind != RELOAD_PREVIOUS && !job->unchanged)
        reload_note_seen(rt, job->g != NULL ? job->g->sources : NULL, job->status != 0);
    if (job->unchanged) {
        log_emit(rt->log, LOG_DEBUG, "script unchanged", log_str("path", job->path));
        result.generation = rt->generation->number;
        tell(rt, job->requests, &result, NULL);
    } else if (job->status == 0 && swap(rt, job, &result) == 0) {
        watch(rt, NULL);
        tell(rt, job->requests, &result, NULL);
    } else {
        watch(rt, job->g != NULL ? job->g->sources : NULL);
        retire_discard(rt, job->g);
        fail(rt, job->requests, &job->error, job->traceback);
    }
}

static void reap_hanging(md_runtime *rt)
{
    for (struct load_job **at = &rt->reloads.hanging; *at != NULL;) {
        struct load_job *job = *at;
        if (!atomic_load(&job->finished)) {
            at = &job->next;
            continue;
        }
        *at = job->next;
        rt->reloads.hanging_count--;
        uv_thread_join(&job->thread);
        retire_discard(rt, job->g);
        job_free(job);
    }
}

static void on_loaded(uv_async_t *handle)
{
    md_runtime *rt = handle->data;
    hub_awake(&rt->hub); /* the turn does the rest */
}

/* A swap is one of the things that a poll has time for. */
static void finish_job(md_runtime *rt)
{
    struct load_job *job = rt->reloads.job;
    reap_hanging(rt);
    if (job == NULL || !atomic_load(&job->finished))
        return;
    if (hub_is_late(&rt->hub)) {
        hub_again(&rt->hub);
        return;
    }
    hub_serve(&rt->hub);
    uv_timer_stop(&rt->reloads.deadline);
    rt->reloads.job = NULL;
    uv_thread_join(&job->thread); /* its last act was to wake us */
    if (rt->stopping) {
        error e = {0};
        error_set(&e, "stopping", ERROR_CLASS_NONE, "the runtime stops");
        retire_discard(rt, job->g);
        fail(rt, job->requests, &e, "");
    } else {
        finish(rt, job);
    }
    job_free(job);
    if (!rt->stopping)
        notify_send(rt->manager, -1, "READY=1");
    begin(rt);
}

/* ---- asking ---- */

static struct reload_request *add_request(md_runtime *rt, const struct reload_request *wanted)
{
    struct reload_request *q = calloc(1, sizeof *q);
    if (q == NULL)
        return NULL;
    *q = *wanted;
    *rt->reloads.waiting_end = q;
    rt->reloads.waiting_end = &q->next;
    return q;
}

/* To begin may fail, and those who wait are told between two turns: from here it would be from
 * within their own call. Nor does it begin while the script runs. */
static int ask(md_runtime *rt, const struct reload_request *wanted)
{
    if (add_request(rt, wanted) == NULL)
        return -1;
    if (budget_inside() || !begin_job(rt, NULL))
        hub_again(&rt->hub);
    return 0;
}

int md_reload(md_runtime *rt, int previous, md_reload_fn fn, void *closure, md_error *out)
{
    const struct reload_request wanted = {
        .kind = previous ? RELOAD_PREVIOUS : RELOAD_FILE, .fn = fn, .closure = closure};
    error e = {0};
    if (rt->generation == NULL || rt->stopping)
        error_set(&e, rt->stopping ? "stopping" : "no_script", ERROR_CLASS_NONE,
                  rt->stopping ? "the runtime stops" : "this runtime has no script yet");
    else if (ask(rt, &wanted) != 0)
        error_set(&e, "no_memory", ERROR_CLASS_LIMIT, "no memory for a reload");
    else
        return 0;
    return runtime_error(out, &e, "");
}

int reload_go_back(md_runtime *rt, uint32_t from)
{
    const struct reload_request wanted = {.kind = RELOAD_PREVIOUS, .instead_of = from};
    return ask(rt, &wanted);
}

void reload_if_changed(md_runtime *rt, bool maybe_new)
{
    bool retry = maybe_new && rt->reloads.seen_failed; /* a module may be there now */
    const struct reload_request wanted = {.kind = retry ? RELOAD_FILE : RELOAD_IF_CHANGED};
    if (rt->generation != NULL && !rt->stopping)
        ask(rt, &wanted);
}

static struct reload_request *ask_from_script(void *closure, struct task *t)
{
    md_runtime *rt = closure;
    const struct reload_request wanted = {.kind = RELOAD_FILE, .task = t};
    if (rt->stopping)
        return NULL;
    hub_again(&rt->hub); /* it is not parked yet */
    return add_request(rt, &wanted);
}

static void task_has_ended(void *closure, struct reload_request *q)
{
    (void)closure;
    q->task = NULL;
}

/* ---- every turn ---- */

void reload_turn(md_runtime *rt)
{
    finish_job(rt);
    retire_turn(rt);
    if (rt->generation == NULL)
        return;
    swap_check_probation(rt);
    begin(rt);
}

/* ---- making and ending ---- */

int reload_init(md_runtime *rt)
{
    struct reloads *r = &rt->reloads;
    r->waiting_end = &r->waiting;
    int failed = uv_mutex_init(&r->lock);
    if (failed != 0)
        return failed;
    failed = uv_async_init(rt->loop, &r->loaded, on_loaded);
    if (failed != 0)
        return failed;
    uv_timer_init(rt->loop, &r->deadline);
    uv_timer_init(rt->loop, &r->tick);
    r->loaded.data = r->deadline.data = r->tick.data = rt;
    uv_unref((uv_handle_t *)&r->loaded);
    r->handles = 3;
    rt->limits.reload = ask_from_script;
    rt->limits.reload_cancel = task_has_ended;
    rt->limits.reload_closure = rt;
    return 0;
}

/* Those who asked are told. */
static void refuse_all(md_runtime *rt, struct reload_request *requests)
{
    static const md_error stopping = {.code = "stopping", .message = "the runtime stops"};
    tell(rt, requests, NULL, &stopping);
}

static void end_job(md_runtime *rt)
{
    struct reloads *r = &rt->reloads;
    struct load_job *job = r->job;
    uint64_t deadline = clock_ms() + END_JOB_MS;
    if (job == NULL)
        return;
    refuse_all(rt, job->requests);
    r->job = NULL;
    retire_start_tick(rt);
    while (!atomic_load(&job->finished) && clock_ms() < deadline)
        uv_run(rt->loop, UV_RUN_ONCE);
    job->next = r->hanging;
    r->hanging = job;
    r->hanging_count++;
}

unsigned reload_end_all(md_runtime *rt)
{
    struct reloads *r = &rt->reloads;
    for (struct generation *g = r->retiring; g != NULL; g = g->next)
        generation_close(g); /* their tasks have their requests no more */
    refuse_all(rt, r->waiting);
    r->waiting = NULL;
    r->waiting_end = &r->waiting;
    end_job(rt);
    reap_hanging(rt);
    retire_end_all(rt);
    return r->hanging_count;
}

static void on_closed(uv_handle_t *handle)
{
    md_runtime *rt = handle->data;
    rt->reloads.handles--;
}

void reload_close(md_runtime *rt)
{
    struct reloads *r = &rt->reloads;
    sources_release(r->previous);
    sources_release(r->seen);
    r->previous = r->seen = NULL;
    uv_mutex_lock(&r->lock);
    r->ended = true;
    uv_mutex_unlock(&r->lock);
    uv_close((uv_handle_t *)&r->deadline, on_closed);
    uv_close((uv_handle_t *)&r->tick, on_closed);
    uv_close((uv_handle_t *)&r->loaded, on_closed);
}

bool reload_closed(const md_runtime *rt)
{
    return rt->reloads.handles == 0;
}
