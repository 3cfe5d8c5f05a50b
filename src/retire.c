/* Generations that were replaced, or never put to work: until they have finished, and their memory
 * is given back. See runtime_private.h. Loop thread. */
#include <malloc.h>

#include "base/thread.h"
#include "runtime_private.h"
#include "script/task.h"

#define RETIRING_MAX 16u              /* generations; beyond it the oldest is cancelled */
#define RETIRE_TICK_MS 20u            /* between two looks at the deadlines */
#define RETIRE_GRACE_MS 5000u         /* after it was cancelled: for connections to end */
#define TRIM_BYTES (8u * 1024 * 1024) /* of a heap that was freed */

static void on_tick(uv_timer_t *timer)
{
    (void)timer; /* the turn does what there is to do */
}

void retire_start_tick(md_runtime *rt)
{
    struct reloads *r = &rt->reloads;
    if (!uv_is_active((uv_handle_t *)&r->tick))
        uv_timer_start(&r->tick, on_tick, RETIRE_TICK_MS, RETIRE_TICK_MS);
}

void retire_add(md_runtime *rt, struct generation *g)
{
    struct reloads *r = &rt->reloads;
    g->next = r->retiring;
    r->retiring = g;
    r->retiring_count++;
    retire_start_tick(rt);
}

void retire_discard(md_runtime *rt, struct generation *g)
{
    if (g == NULL)
        return;
    generation_close(g);
    retire_add(rt, g);
}

/* Whether it wants another turn soon. */
static bool retire_step(struct generation *g, bool overdue, uint64_t now)
{
    if (g->closing)
        return g->L != NULL;
    bool finished = generation_has_finished(g);
    bool late = now >= g->retire_deadline + RETIRE_GRACE_MS;
    if (!finished && !late && (overdue || now >= g->retire_deadline)) {
        if (!generation_cancel(g))
            return true;
        finished = generation_has_finished(g);
        if (overdue && now < g->retire_deadline)
            g->retire_deadline = now;
    }
    if (finished || late)
        generation_close(g);
    return g->closing;
}

static void on_trim(uv_work_t *work)
{
    (void)work;
    malloc_trim(0);
}

static void on_trimmed(uv_work_t *work, int status)
{
    md_runtime *rt = work->data;
    (void)status;
    rt->reloads.trimming = false;
    rt->reloads.handles--;
}

/* The C library keeps what was freed in small pieces; a large heap goes back to the system. */
static void give_memory_back(md_runtime *rt, size_t bytes)
{
    struct reloads *r = &rt->reloads;
    if (bytes < TRIM_BYTES || r->trimming)
        return;
    r->trim.data = rt;
    if (thread_queue_work(rt->loop, &r->trim, on_trim, on_trimmed) != 0)
        return;
    r->trimming = true;
    r->handles++;
}

void retire_turn(md_runtime *rt)
{
    struct reloads *r = &rt->reloads;
    uint64_t now = clock_ms();
    bool again = false;
    unsigned index = 0;
    for (struct generation **at = &r->retiring; *at != NULL; index++) {
        struct generation *g = *at;
        if (!g->closing) {
            task_run_ready(g);
            generation_sweep(g);
        }
        again |= retire_step(g, index >= RETIRING_MAX, now);
        if (g->closing && generation_close_step(g, false)) {
            *at = g->next;
            r->retiring_count--;
            give_memory_back(rt, g->memory_peak);
            generation_free(g);
        } else {
            at = &g->next;
        }
    }
    if (r->retiring == NULL && r->probation_until == 0)
        uv_timer_stop(&r->tick);
    else if (again)
        hub_again(&rt->hub);
}

void retire_end_all(md_runtime *rt)
{
    struct reloads *r = &rt->reloads;
    while (r->retiring != NULL) {
        struct generation *g = r->retiring;
        r->retiring = g->next;
        generation_close(g);
        while (!generation_close_step(g, true))
            uv_run(rt->loop, UV_RUN_NOWAIT);
        generation_free(g);
    }
}
