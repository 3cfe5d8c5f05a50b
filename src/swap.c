/* The swap: in one step on the loop, a generation that was loaded takes the place of the one at
 * work; and the one before comes back when it fails on probation. See runtime_private.h. Loop
 * thread. */
#include "conn/connection.h"
#include "jetstream/ledger.h"
#include "runtime_private.h"
#include "script/state.h"
#include "script/takeover.h"

#define PROBATION_ERRORS_MIN 5u

static int carry_state(struct generation *fresh, struct generation *old, error *e)
{
    packed_state packed;
    if (state_pack(old, old->limits.state_cap, &packed, e) != 0)
        return -1;
    int failed = state_unpack(fresh, &packed, e);
    packed_state_clear(&packed);
    return failed;
}

static void note_probation(md_runtime *rt, bool previous)
{
    rt->reloads.probation_until =
        rt->probation_ms > 0 && !previous ? clock_ms() + rt->probation_ms : 0;
    if (rt->reloads.probation_until != 0)
        retire_start_tick(rt);
}

int swap_in(md_runtime *rt, struct generation *fresh, bool previous, md_reload_result *result,
            error *e)
{
    struct generation *old = rt->generation;
    takeover_counts n;
    uint64_t start = uv_hrtime();
    if (carry_state(fresh, old, e) != 0 || takeover(fresh, old, &n, e) != 0)
        return -1;
    rt->generations++;
    rt->generation = fresh;
    rt->hub.health_changed = true;
    fresh->loaded_at = wall_clock_ms(&rt->hub.clock);
    retire_add(rt, old);
    ledgers_sweep(rt->ledgers, clock_ms());
    if (!old->failed_probation) { /* that one is nothing to go back to */
        sources_release(rt->reloads.previous);
        rt->reloads.previous = sources_retain(old->sources);
    }
    rt->reloads.done++;
    note_probation(rt, previous);
    runtime_keep_version(rt, fresh);
    uint64_t end = uv_hrtime();
    *result = (md_reload_result){
        .generation = fresh->number,
        .subscriptions_kept = n.kept,
        .subscriptions_added = n.added,
        .subscriptions_removed = n.removed,
        .connections_kept = n.connections_kept,
        .connections_added = n.connections_added,
        .connections_removed = n.connections_removed,
        .connections_redialled = n.connections_redialled,
        .load_ms = result->load_ms,
        .swap_ms = (double)(end - start) / 1e6,
    };
    log_emit(rt->log, LOG_INFO, "script reloaded", log_str("path", fresh->path),
             log_int("generation", fresh->number), log_int("kept", n.kept),
             log_int("added", n.added), log_int("removed", n.removed),
             log_num("load_ms", result->load_ms), log_num("swap_ms", result->swap_ms));
    return 0;
}

void swap_check_probation(md_runtime *rt)
{
    struct reloads *r = &rt->reloads;
    struct generation *g = rt->generation;
    if (r->probation_until == 0)
        return;
    if (clock_ms() >= r->probation_until) {
        r->probation_until = 0;
        log_emit(rt->log, LOG_INFO, "probation passed", log_int("generation", g->number),
                 log_int("handled", (int64_t)g->handled),
                 log_int("errors", (int64_t)g->handler_errors));
        return;
    }
    bool failing = g->handler_errors >= PROBATION_ERRORS_MIN &&
                   (double)g->handler_errors >= rt->probation_rate * (double)g->handled;
    if (!failing && g->start_errors == 0) /* a loop that has failed handles nothing any more */
        return;
    r->probation_until = 0;
    log_emit(rt->log, LOG_ERROR, "generation failed its probation: going back to the one before",
             log_int("generation", g->number), log_int("handled", (int64_t)g->handled),
             log_int("errors", (int64_t)(g->handler_errors + g->start_errors)));
    g->failed_probation = true;
    if (reload_go_back(rt, g->number) != 0)
        log_emit(rt->log, LOG_ERROR, "no memory to go back", log_int("generation", g->number));
}
