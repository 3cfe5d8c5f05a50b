/* The first script of a runtime, and trying one without putting it to work. Those after it are in
 * reload.c. See moondog.h. Loop thread. */
#include <string.h>

#include "report.h"
#include "runtime_private.h"
#include "script/source_image.h"
#include "script/takeover.h"

#define STALL_OVER_BUDGET_MS 250u /* a handler is stopped at its budget: that is no stall */

/* From here on the loop is expected to turn, and what is under way to end within its budget. */
static void guard(md_runtime *rt, uint32_t budget_ms)
{
    uint32_t least = budget_ms * BUDGET_BUSY + STALL_OVER_BUDGET_MS;
    sentinel_duty duty = {.pulse = &rt->hub.pulse,
                          .wake = &rt->hub.wake,
                          .log = rt->log,
                          .manager = rt->manager,
                          .stall_ns = (rt->stall_ms > least ? rt->stall_ms : least) * 1000000ull};
    sentinel_guard(&rt->sentinel, &duty);
}

/* A generation that was loaded, and not put to work; takes `from`. NULL and *out. */
static struct generation *load(md_runtime *rt, const char *path, sources *from, md_error *out)
{
    char traceback[sizeof out->traceback];
    error e = {0};
    if (from == NULL)
        from = sources_over(rt->files);
    struct generation *g = from != NULL ? generation_new(&rt->limits, rt->generations + 1) : NULL;
    if (g == NULL) {
        sources_release(from);
        runtime_fail(out, "no_memory", "cannot make a lua_State: no memory; raise --memory");
        return NULL;
    }
    if (generation_load(g, path, from, &e, traceback, sizeof traceback) != 0) {
        runtime_error(out, &e, traceback);
        retire_discard(rt, g);
        return NULL;
    }
    return g;
}

bool runtime_is_fallback(const md_runtime *rt)
{
    return rt->supervision.active && rt->generation != NULL && rt->generation->number == 1 &&
           strcmp(rt->supervision.script, "last_good") == 0;
}

void runtime_keep_version(md_runtime *rt, const struct generation *g)
{
    char hash[SOURCE_HASH_SIZE];
    if (!rt->supervision.active)
        return;
    sources_hash(g->sources, hash);
    int fd = source_image_make(g->sources);
    if (fd >= 0)
        notify_send(rt->manager, fd, "FDSTORE=1\nFDNAME=%s", hash);
    else
        log_emit(rt->log, LOG_WARN, "the supervisor could not be given the script: no memory",
                 log_int("generation", g->number));
}

int md_load(md_runtime *rt, const char *path, md_error *out)
{
    return runtime_load(rt, path, NULL, out);
}

static int load_first(md_runtime *rt, const char *path, sources *from, md_error *out)
{
    if (rt->limits.load_budget_ms > 0)
        guard(rt, rt->limits.load_budget_ms);
    struct generation *g = load(rt, path, from, out);
    if (g == NULL)
        return -1;
    guard(rt, rt->limits.handler_budget_ms); /* on_start functions begin in takeover() */
    error e = {0};
    rt->generations++;
    rt->generation = g;
    g->loaded_at = wall_clock_ms(&rt->hub.clock);
    log_emit(rt->log, LOG_INFO, "script loaded", log_str("path", path),
             log_int("generation", g->number), log_int("memory", (int64_t)g->memory));
    if (takeover(g, NULL, NULL, &e) != 0) {
        rt->generation = NULL;
        retire_discard(rt, g);
        return runtime_error(out, &e, "");
    }
    reload_note_seen(rt, g->sources, false);
    rt->hub.health_changed = true;
    runtime_keep_version(rt, g);
    if (rt->watch != NULL)
        file_watch_set(rt->watch, g->sources, NULL);
    return 0;
}

int runtime_load(md_runtime *rt, const char *path, sources *from, md_error *out)
{
    const char *code = NULL, *why = NULL;
    if (path == NULL)
        code = "usage", why = "a script without a path: give the one of its file";
    else if (rt->generation != NULL)
        code = "loaded", why = "this runtime has a script already";
    else if (rt->stopping || rt->stopped)
        code = "stopping", why = "the runtime stops";
    if (code != NULL) {
        sources_release(from);
        return runtime_fail(out, code, why);
    }
    hub_awake(&rt->hub); /* the loop does not turn meanwhile */
    int failed = load_first(rt, path, from, out);
    if (failed != 0)
        sentinel_unguard(&rt->sentinel);
    pulse_rest(&rt->hub.pulse, uv_hrtime());
    return failed;
}

int md_check(md_runtime *rt, const char *path, int json, char **report, md_error *out)
{
    if (path == NULL || report == NULL)
        return runtime_fail(out, "usage", "md_check() needs a path, and a place for the report");
    struct generation *g = load(rt, path, NULL, out);
    if (g == NULL)
        return -1;
    unsigned problems = 0;
    *report = report_declarations(g, json != 0, &problems);
    retire_discard(rt, g);
    if (*report == NULL)
        return runtime_fail(out, "no_memory", "no memory for the report");
    return problems > 0;
}
