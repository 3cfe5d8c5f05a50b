/* The watchdog's state machine. Pure functions on the caller's struct: any thread, one at a time;
 * in moondog the loop thread. See watchdog.h.
 *
 * The order of reading: what happens to a link, then one function per state for the passing of
 * time, then one per event. `old_link` is only set while closed or stopped, and `link` only while
 * dialing, up or reconnecting. */
#include "watch/watchdog.h"

#include <assert.h>
#include <stddef.h>

/* One step: the machine, the moment, and what comes of it. */
typedef struct {
    watchdog *w;
    uint64_t now;
    watchdog_actions *actions;
} turn;

static void emit(const turn *t, watchdog_action_type type, uint64_t link, watchdog_reason reason)
{
    assert(t->actions->count < WATCHDOG_ACTIONS_MAX);
    t->actions->list[t->actions->count++] =
        (watchdog_action){.type = type, .link = link, .reason = reason};
}

/* A moment that is not WATCHDOG_NEVER, however far away. */
static uint64_t later(const turn *t, uint32_t ms)
{
    return t->now < WATCHDOG_NEVER - 1 - ms ? t->now + ms : WATCHDOG_NEVER - 1;
}

static bool is_due(const turn *t, uint64_t deadline)
{
    return deadline != WATCHDOG_NEVER && t->now >= deadline;
}

static void forget_deadlines(watchdog *w)
{
    w->dial_at = w->dial_deadline = w->reconnecting_deadline = WATCHDOG_NEVER;
    w->probe_at = w->probe_deadline = WATCHDOG_NEVER;
    w->audit_at = w->audit_deadline = WATCHDOG_NEVER;
    w->leave_at = WATCHDOG_NEVER;
}

/* ---- a link begins and ends ---- */

static void dial(const turn *t)
{
    watchdog *w = t->w;
    assert(w->link == 0 && w->old_link == 0);
    forget_deadlines(w);
    w->planning = false;
    w->state = WATCHDOG_DIALING;
    w->link = ++w->last_link;
    w->attempt += w->attempt < UINT32_MAX;
    w->dial_deadline = later(t, w->config.timeout_ms);
    emit(t, WATCHDOG_ACTION_DIAL, w->link, w->reason);
}

static void plan(const turn *t)
{
    t->w->planning = true;
    t->w->dial_at = later(t, WATCHDOG_UNPLANNED_MS);
    emit(t, WATCHDOG_ACTION_PLAN, 0, t->w->reason);
}

static void begin_outage(const turn *t)
{
    if (t->w->outage_since == WATCHDOG_NEVER)
        t->w->outage_since = t->now;
}

static void become_closed(const turn *t, watchdog_reason reason)
{
    forget_deadlines(t->w);
    t->w->state = WATCHDOG_CLOSED;
    t->w->reason = reason;
    t->w->probes_missed = 0;
}

/* The current link is no more ours; its worker is told to clean up. The next dial waits for that,
 * so that two links are never live at a time, but only for so long. */
static void let_go(const turn *t, watchdog_reason reason)
{
    watchdog *w = t->w;
    emit(t, WATCHDOG_ACTION_DESTROY, w->link, reason);
    w->old_link = w->link;
    w->gone_deadline = later(t, w->config.grace_ms);
    w->link = 0;
}

/* From up or reconnecting to closed, without a word yet on when the next link is made. */
static void close_link(const turn *t, watchdog_reason reason)
{
    become_closed(t, reason);
    begin_outage(t);
    t->w->cause = reason;
    emit(t, WATCHDOG_ACTION_CLOSED, t->w->link, reason);
    let_go(t, reason);
}

static void lose_link(const turn *t, watchdog_reason reason)
{
    close_link(t, reason);
    plan(t);
}

/* The dial comes as soon as the old link is gone, whatever the policy says. */
static void replace_link(const turn *t, watchdog_reason reason)
{
    close_link(t, reason);
    t->w->dial_at = t->now;
}

static void fail_dial(const turn *t)
{
    become_closed(t, WATCHDOG_REASON_DIAL_FAILED);
    let_go(t, WATCHDOG_REASON_DIAL_FAILED);
    plan(t);
}

/* A worker that is still inside the dial cannot hear a DESTROY: there is nothing to wait for. */
static void give_up_dial(const turn *t)
{
    become_closed(t, WATCHDOG_REASON_DIAL_TIMEOUT);
    emit(t, WATCHDOG_ACTION_ABANDON, t->w->link, WATCHDOG_REASON_DIAL_TIMEOUT);
    t->w->link = 0;
    plan(t);
}

static void forget_old_link(watchdog *w)
{
    w->old_link = 0;
    w->gone_deadline = WATCHDOG_NEVER;
}

static void give_up_old_link(const turn *t)
{
    emit(t, WATCHDOG_ACTION_ABANDON, t->w->old_link, t->w->reason);
    forget_old_link(t->w);
}

/* ---- while there is a link ---- */

static void schedule_checks(const turn *t)
{
    watchdog *w = t->w;
    w->probe_at = w->config.probe_ms > 0 ? later(t, w->config.probe_ms) : WATCHDOG_NEVER;
    w->audit_at = later(t, w->config.interval_ms);
}

/* What was asked before is void: an audit that waited behind a reconnect is no sign of a hang. */
static void carry_messages(const turn *t, watchdog_action_type tell, watchdog_reason reason)
{
    watchdog *w = t->w;
    forget_deadlines(w);
    w->state = WATCHDOG_UP;
    w->outage_since = WATCHDOG_NEVER;
    w->probes_missed = 0;
    schedule_checks(t);
    emit(t, tell, w->link, reason);
}

static void reconnected(const turn *t)
{
    carry_messages(t, WATCHDOG_ACTION_RECONNECTED, WATCHDOG_REASON_NONE);
}

static void disconnected(const turn *t)
{
    watchdog *w = t->w;
    w->state = WATCHDOG_RECONNECTING;
    begin_outage(t);
    w->probes_missed = 0;
    w->probe_at = w->probe_deadline = w->audit_deadline = w->leave_at = WATCHDOG_NEVER;
    w->reconnecting_deadline = later(t, w->config.reconnecting_ms);
    emit(t, WATCHDOG_ACTION_DISCONNECTED, w->link, WATCHDOG_REASON_NONE);
}

/* While a question is open there is nothing to wait for but its answer. */
static uint64_t next_of(uint64_t at, uint64_t deadline)
{
    return deadline != WATCHDOG_NEVER ? deadline : at;
}

static void probe_if_due(const turn *t)
{
    watchdog *w = t->w;
    if (w->probe_deadline != WATCHDOG_NEVER || !is_due(t, w->probe_at))
        return;
    w->probe_at = later(t, w->config.probe_ms);
    w->probe_deadline = later(t, w->config.probe_timeout_ms);
    emit(t, WATCHDOG_ACTION_PROBE, w->link, WATCHDOG_REASON_NONE);
}

static void audit_if_due(const turn *t)
{
    watchdog *w = t->w;
    if (w->audit_deadline != WATCHDOG_NEVER || !is_due(t, w->audit_at))
        return;
    w->audit_at = later(t, w->config.interval_ms);
    w->audit_deadline = later(t, w->config.timeout_ms);
    emit(t, WATCHDOG_ACTION_AUDIT, w->link, WATCHDOG_REASON_NONE);
}

/* ---- time passes ---- */

/* One late tick is one miss, however late it is: the answers may be waiting behind it. */
static void tick_up(const turn *t)
{
    watchdog *w = t->w;
    if (is_due(t, w->audit_deadline)) {
        lose_link(t, WATCHDOG_REASON_HUNG);
        return;
    }
    if (is_due(t, w->probe_deadline)) {
        w->probe_deadline = WATCHDOG_NEVER;
        if (++w->probes_missed > 1) {
            lose_link(t, WATCHDOG_REASON_PROBE);
            return;
        }
        emit(t, WATCHDOG_ACTION_DEAF, w->link, WATCHDOG_REASON_PROBE);
    }
    if (is_due(t, w->leave_at)) {
        replace_link(t, WATCHDOG_REASON_LAME_DUCK);
        return;
    }
    audit_if_due(t);
    probe_if_due(t);
}

static void tick_reconnecting(const turn *t)
{
    watchdog *w = t->w;
    if (is_due(t, w->reconnecting_deadline)) {
        lose_link(t, WATCHDOG_REASON_RECONNECTING);
        return;
    }
    /* A reconnect attempt holds the library's lock for seconds: no answer means nothing here. */
    if (is_due(t, w->audit_deadline))
        w->audit_deadline = WATCHDOG_NEVER;
    audit_if_due(t);
}

static void on_tick(const turn *t)
{
    const watchdog *w = t->w;
    if (w->state == WATCHDOG_DIALING && is_due(t, w->dial_deadline))
        give_up_dial(t);
    else if (w->state == WATCHDOG_UP)
        tick_up(t);
    else if (w->state == WATCHDOG_RECONNECTING)
        tick_reconnecting(t);
    else if (w->old_link != 0 && is_due(t, w->gone_deadline))
        give_up_old_link(t);
}

/* ---- events of the script ---- */

static void on_start(const turn *t)
{
    watchdog *w = t->w;
    if (w->state != WATCHDOG_IDLE)
        return;
    w->reason = w->cause = WATCHDOG_REASON_START;
    begin_outage(t);
    dial(t);
}

static void on_stop(const turn *t)
{
    watchdog *w = t->w;
    forget_deadlines(w);
    w->planning = false;
    w->probes_missed = 0;
    w->outage_since = WATCHDOG_NEVER;
    w->state = WATCHDOG_STOPPED;
    if (w->link != 0)
        let_go(t, WATCHDOG_REASON_NONE);
}

/* Only the answer to a question that was asked counts: a stray one could push the dial away. */
static void on_planned(const turn *t, uint32_t delay_ms)
{
    if (!t->w->planning)
        return;
    t->w->planning = false;
    t->w->dial_at = later(t, delay_ms);
}

static void on_replace(const turn *t)
{
    watchdog *w = t->w;
    if (w->state == WATCHDOG_UP || w->state == WATCHDOG_RECONNECTING) {
        replace_link(t, WATCHDOG_REASON_REQUESTED);
    } else if (w->state == WATCHDOG_CLOSED) {
        w->planning = false;
        w->dial_at = t->now;
    }
}

/* ---- events of a link ---- */

static void on_closed(const turn *t)
{
    if (t->w->state == WATCHDOG_DIALING) /* connected, and lost before it was made ready */
        fail_dial(t);
    else
        lose_link(t, WATCHDOG_REASON_CLOSED);
}

static void on_probe_answered(const turn *t)
{
    watchdog *w = t->w;
    if (w->state != WATCHDOG_UP)
        return;
    if (w->probes_missed > 0)
        emit(t, WATCHDOG_ACTION_HEARING, w->link, WATCHDOG_REASON_NONE);
    w->probes_missed = 0;
    w->probe_deadline = WATCHDOG_NEVER;
    w->attempt = 0; /* it works: the next outage is a new one */
}

/* Where the audit and our state differ, an event was lost: it is made up for. An answer to a
 * question that is void may be older than the events after it; but closed is closed. */
static void on_audited(const turn *t, watchdog_link_status status)
{
    watchdog *w = t->w;
    if (w->state != WATCHDOG_UP && w->state != WATCHDOG_RECONNECTING)
        return;
    if (w->audit_deadline == WATCHDOG_NEVER && status != WATCHDOG_LINK_CLOSED)
        return;
    w->audit_deadline = WATCHDOG_NEVER;
    if (status == WATCHDOG_LINK_CLOSED)
        lose_link(t, WATCHDOG_REASON_CLOSED);
    else if (status == WATCHDOG_LINK_RECONNECTING && w->state == WATCHDOG_UP)
        disconnected(t);
    else if (status == WATCHDOG_LINK_CONNECTED && w->state == WATCHDOG_RECONNECTING)
        reconnected(t);
    if (status == WATCHDOG_LINK_CONNECTED && w->config.probe_ms == 0)
        w->attempt = 0;
}

static void on_gone(const turn *t, uint64_t link)
{
    watchdog *w = t->w;
    if (link == 0)
        return; /* not a link, but what stands for "none" */
    if (link == w->old_link) {
        forget_old_link(w);
    } else if (link == w->link) { /* unasked: to be cleaned up all the same, but not waited for */
        on_closed(t);
        forget_old_link(w);
    }
}

static void on_lame_duck(const turn *t, uint32_t delay_ms)
{
    watchdog *w = t->w;
    if (w->state == WATCHDOG_UP && w->leave_at == WATCHDOG_NEVER)
        w->leave_at = later(t, delay_ms);
}

static void on_link_event(const turn *t, const watchdog_event *event)
{
    watchdog_state state = t->w->state;
    switch (event->type) {
    case WATCHDOG_EVENT_DIALED:
        if (state == WATCHDOG_DIALING)
            carry_messages(t, WATCHDOG_ACTION_UP, t->w->cause);
        break;
    case WATCHDOG_EVENT_DIAL_FAILED:
        if (state == WATCHDOG_DIALING)
            fail_dial(t);
        break;
    case WATCHDOG_EVENT_DISCONNECTED: /* while dialing the dial's own deadline rules */
        if (state == WATCHDOG_UP)
            disconnected(t);
        break;
    case WATCHDOG_EVENT_RECONNECTED: /* while up: it crossed with an audit */
        if (state == WATCHDOG_UP || state == WATCHDOG_RECONNECTING)
            reconnected(t);
        break;
    case WATCHDOG_EVENT_CLOSED:
        on_closed(t);
        break;
    case WATCHDOG_EVENT_PROBE_ANSWERED:
        on_probe_answered(t);
        break;
    case WATCHDOG_EVENT_AUDITED:
        on_audited(t, event->status);
        break;
    case WATCHDOG_EVENT_LAME_DUCK:
        on_lame_duck(t, event->delay_ms);
        break;
    default:
        break;
    }
}

/* ---- public ---- */

static uint32_t at_least_one(uint32_t ms)
{
    return ms > 0 ? ms : 1; /* 0 would be a deadline that is always due: a loop without end */
}

static void set_config(watchdog *w, const watchdog_config *config)
{
    w->config = *config;
    w->config.interval_ms = at_least_one(config->interval_ms);
    w->config.timeout_ms = at_least_one(config->timeout_ms);
    w->config.probe_timeout_ms = at_least_one(config->probe_timeout_ms);
    w->config.reconnecting_ms = at_least_one(config->reconnecting_ms);
    w->config.grace_ms = at_least_one(config->grace_ms);
}

void watchdog_init(watchdog *w, const watchdog_config *config)
{
    *w = (watchdog){.state = WATCHDOG_IDLE};
    set_config(w, config);
    w->outage_since = WATCHDOG_NEVER;
    w->gone_deadline = WATCHDOG_NEVER;
    forget_deadlines(w);
}

void watchdog_configure(watchdog *w, const watchdog_config *config, uint64_t now)
{
    turn t = {w, now, NULL};
    set_config(w, config);
    if (w->state == WATCHDOG_UP)
        schedule_checks(&t);
}

void watchdog_step(watchdog *w, const watchdog_event *event, uint64_t now,
                   watchdog_actions *actions)
{
    turn t = {w, now, actions};
    actions->count = 0;
    switch (event->type) {
    case WATCHDOG_EVENT_START:
        on_start(&t);
        break;
    case WATCHDOG_EVENT_STOP:
        on_stop(&t);
        break;
    case WATCHDOG_EVENT_TICK:
        on_tick(&t);
        break;
    case WATCHDOG_EVENT_PLANNED:
        on_planned(&t, event->delay_ms);
        break;
    case WATCHDOG_EVENT_REPLACE:
        on_replace(&t);
        break;
    case WATCHDOG_EVENT_GONE:
        on_gone(&t, event->link);
        break;
    default:
        if (event->link != 0 && event->link == w->link)
            on_link_event(&t, event);
    }
    if (w->state == WATCHDOG_CLOSED && w->old_link == 0 && is_due(&t, w->dial_at))
        dial(&t);
}

static uint64_t earlier(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

uint64_t watchdog_deadline(const watchdog *w)
{
    uint64_t audit = next_of(w->audit_at, w->audit_deadline);
    uint64_t probe = next_of(w->probe_at, w->probe_deadline);
    switch (w->state) {
    case WATCHDOG_IDLE:
        break;
    case WATCHDOG_DIALING:
        return w->dial_deadline;
    case WATCHDOG_UP:
        return earlier(earlier(audit, probe), w->leave_at);
    case WATCHDOG_RECONNECTING:
        return earlier(audit, w->reconnecting_deadline);
    case WATCHDOG_CLOSED: /* a dial that is due waits for the old link */
        return w->old_link != 0 ? w->gone_deadline : w->dial_at;
    case WATCHDOG_STOPPED:
        return w->old_link != 0 ? w->gone_deadline : WATCHDOG_NEVER;
    }
    return WATCHDOG_NEVER;
}

const char *watchdog_state_name(watchdog_state state)
{
    static const char *const names[] = {"idle",         "dialing", "up",
                                        "reconnecting", "closed",  "stopped"};
    return (size_t)state < sizeof names / sizeof names[0] ? names[state] : "unknown";
}

const char *watchdog_reason_name(watchdog_reason reason)
{
    static const char *const names[WATCHDOG_REASON_COUNT] = {
        "none",         "start", "closed", "dial_failed", "dial_timeout",
        "reconnecting", "probe", "hung",   "requested",   "lame_duck"};
    return (size_t)reason < WATCHDOG_REASON_COUNT ? names[reason] : "unknown";
}
