/* The watchdog next to a model of what it is in charge of: which link is live, which has to go,
 * what the script was told. model_step() feeds both and says which promise of watchdog.h was
 * broken. */
#ifndef MD_TESTS_WATCHDOG_MODEL_H
#define MD_TESTS_WATCHDOG_MODEL_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#include "watch/watchdog.h"

typedef struct {
    watchdog w;
    uint64_t now;
    uint64_t dialled; /* the highest link number that was to be dialled */
    uint64_t live;    /* dialled, and neither destroyed nor abandoned; 0: none */
    uint64_t going;   /* destroyed, and neither gone nor abandoned; 0: none */
    uint64_t ended;   /* the last link that was destroyed or abandoned; 0: none yet */
    bool up;          /* the live link was told to be up */
    bool lost;        /* ... and since then to be disconnected */
    bool deaf;
    uint64_t leave_at; /* its server will go: until then the link has to be left */
    bool stopped;
    uint32_t attempt;
    uint64_t outage_since;
} model;

/* All that decides what the watchdog does next, with time counted from now: what is due is due. Two
 * models with the same key have the same future. */
typedef struct {
    int64_t deadlines[9]; /* -1: never */
    int32_t state, missed;
    bool link, old_link, ended, tried, planning, outage, lost, deaf;
} model_key;

static inline int64_t model_from_now(const model *m, uint64_t deadline)
{
    if (deadline == WATCHDOG_NEVER)
        return -1;
    return deadline > m->now ? (int64_t)(deadline - m->now) : 0;
}

static inline model_key model_key_of(const model *m)
{
    const watchdog *w = &m->w;
    const uint64_t deadlines[9] = {
        w->dial_at,  w->dial_deadline,  w->probe_at,      w->probe_deadline,
        w->audit_at, w->audit_deadline, w->gone_deadline, w->reconnecting_deadline,
        w->leave_at};
    model_key k;
    memset(&k, 0, sizeof k); /* padding too: keys are compared as bytes */
    for (int i = 0; i < 9; i++)
        k.deadlines[i] = model_from_now(m, deadlines[i]);
    k.state = (int32_t)w->state;
    k.missed = (int32_t)w->probes_missed;
    k.link = w->link != 0;
    k.old_link = w->old_link != 0;
    k.ended = m->ended != 0;
    k.tried = w->attempt > 0;
    k.planning = w->planning;
    k.outage = w->outage_since != WATCHDOG_NEVER;
    k.lost = m->lost;
    k.deaf = m->deaf;
    return k;
}

static inline void model_init(model *m, const watchdog_config *config)
{
    memset(m, 0, sizeof *m);
    m->outage_since = m->leave_at = WATCHDOG_NEVER;
    m->now = 1000;
    watchdog_init(&m->w, config);
}

/* ---- one step's actions, in their order ---- */

typedef struct {
    bool stop;     /* this step is the STOP */
    bool closed;   /* CLOSED was told */
    bool released; /* DESTROY or ABANDON */
    bool planned;
    bool dialled;
} model_seen;

static inline void model_end_live(model *m, model_seen *seen)
{
    m->ended = m->live;
    m->live = 0;
    m->up = m->lost = m->deaf = false;
    m->leave_at = WATCHDOG_NEVER;
    seen->released = true;
}

static inline const char *model_dial(model *m, model_seen *seen, uint64_t link)
{
    if (m->live != 0 || m->going != 0)
        return "a dial while there is another link";
    if (m->stopped)
        return "a dial after the stop";
    if (link != m->dialled + 1)
        return "a link number that is not the next one";
    m->dialled = m->live = link;
    m->attempt++;
    seen->dialled = true;
    return NULL;
}

static inline const char *model_destroy(model *m, model_seen *seen, uint64_t link)
{
    if (link == 0 || link != m->live)
        return "DESTROY of a link that is not live";
    if (m->up && !seen->closed && !seen->stop)
        return "DESTROY of a link that was up before CLOSED was told";
    m->going = link;
    model_end_live(m, seen);
    return NULL;
}

static inline const char *model_abandon(model *m, model_seen *seen, uint64_t link)
{
    if (link != 0 && link == m->going)
        m->going = 0;
    else if (link != 0 && link == m->live && !m->up)
        model_end_live(m, seen);
    else
        return "ABANDON of a link that is neither being dialled nor going";
    return NULL;
}

static inline const char *model_plan(const model *m, model_seen *seen)
{
    if (m->live != 0 || m->stopped || seen->planned || seen->dialled)
        return "PLAN while no dial is wanted";
    seen->planned = true;
    return NULL;
}

static inline const char *model_closed(const model *m, model_seen *seen, const watchdog_action *a)
{
    if (a->link != m->live || !m->up || seen->stop)
        return "CLOSED of a link that was not up";
    if (seen->closed || seen->released || seen->planned)
        return "CLOSED is not the first word on it";
    if (a->reason == WATCHDOG_REASON_NONE || a->reason != m->w.reason || a->reason != m->w.cause)
        return "CLOSED without its reason";
    seen->closed = true;
    return NULL;
}

static inline const char *model_tell(model *m, const watchdog_action *a)
{
    bool reconnects = a->type == WATCHDOG_ACTION_RECONNECTED;
    if (a->link == 0 || a->link != m->live)
        return "a word about a link that is not live";
    if (m->up == (a->type == WATCHDOG_ACTION_UP))
        return "UP twice, or a word about a link that is not up";
    if (m->lost && !reconnects && a->type != WATCHDOG_ACTION_AUDIT)
        return "a word about a link that is lost";
    if (a->type == WATCHDOG_ACTION_UP && a->reason == WATCHDOG_REASON_NONE)
        return "UP without its reason";
    if ((a->type == WATCHDOG_ACTION_DEAF && m->deaf) ||
        (a->type == WATCHDOG_ACTION_HEARING && !m->deaf))
        return "DEAF while deaf, or HEARING while hearing";
    m->up = true;
    if (a->type == WATCHDOG_ACTION_DISCONNECTED || reconnects) {
        m->lost = !reconnects;
        m->leave_at = WATCHDOG_NEVER; /* it is at another server by now, or will be */
    }
    if (a->type == WATCHDOG_ACTION_DEAF)
        m->deaf = true;
    else if (a->type == WATCHDOG_ACTION_HEARING || m->lost || reconnects)
        m->deaf = false; /* a new beginning, or not the question any more */
    return NULL;
}

static inline const char *model_action(model *m, model_seen *seen, const watchdog_action *a)
{
    switch (a->type) {
    case WATCHDOG_ACTION_DIAL:
        return model_dial(m, seen, a->link);
    case WATCHDOG_ACTION_DESTROY:
        return model_destroy(m, seen, a->link);
    case WATCHDOG_ACTION_ABANDON:
        return model_abandon(m, seen, a->link);
    case WATCHDOG_ACTION_PLAN:
        return model_plan(m, seen);
    case WATCHDOG_ACTION_CLOSED:
        return model_closed(m, seen, a);
    default:
        return model_tell(m, a);
    }
}

/* ---- before and after a step ---- */

static inline bool model_is_link_event(watchdog_event_type type)
{
    return type > WATCHDOG_EVENT_REPLACE;
}

/* The link has proved itself: attempts are counted anew. */
static inline bool model_is_proof(const model *m, const watchdog_event *e)
{
    if (e->link == 0 || e->link != m->live || !m->up)
        return false;
    if (e->type == WATCHDOG_EVENT_PROBE_ANSWERED)
        return !m->lost;
    return e->type == WATCHDOG_EVENT_AUDITED && e->status == WATCHDOG_LINK_CONNECTED &&
           m->w.config.probe_ms == 0 && m->w.audit_deadline != WATCHDOG_NEVER;
}

static inline watchdog_state model_state(const model *m)
{
    if (m->stopped)
        return WATCHDOG_STOPPED;
    if (m->live != 0)
        return !m->up ? WATCHDOG_DIALING : m->lost ? WATCHDOG_RECONNECTING : WATCHDOG_UP;
    return m->dialled == 0 ? WATCHDOG_IDLE : WATCHDOG_CLOSED;
}

static inline const char *model_check_outage(model *m)
{
    watchdog_state state = m->w.state;
    if (state == WATCHDOG_IDLE || state == WATCHDOG_UP || state == WATCHDOG_STOPPED)
        m->outage_since = WATCHDOG_NEVER;
    else if (m->outage_since == WATCHDOG_NEVER)
        m->outage_since = m->now;
    return m->outage_since == m->w.outage_since ? NULL : "the outage's beginning is wrong";
}

static inline void model_note_lame_duck(model *m, const watchdog_event *e)
{
    if (e->type == WATCHDOG_EVENT_LAME_DUCK && e->link != 0 && e->link == m->live && m->up &&
        !m->lost && m->leave_at == WATCHDOG_NEVER)
        m->leave_at = m->now + e->delay_ms;
}

static inline const char *model_check(model *m)
{
    const watchdog *w = &m->w;
    if (w->state != model_state(m))
        return "the state does not fit the links";
    if (w->link != m->live || w->old_link != m->going || w->last_link != m->dialled)
        return "the link numbers do not fit the links";
    bool waits = m->live != 0 || m->going != 0 || w->state == WATCHDOG_CLOSED;
    if (waits != (watchdog_deadline(w) != WATCHDOG_NEVER))
        return "no deadline where there is something to wait for, or one where there is nothing";
    if (w->attempt != m->attempt || (w->state == WATCHDOG_DIALING && w->attempt == 0))
        return "the attempts are not counted right";
    if (w->probes_missed > 1 || (w->probes_missed == 1) != m->deaf)
        return "the missed probes are not counted right";
    if (w->leave_at != m->leave_at)
        return "it will not leave a server that goes when it should";
    return model_check_outage(m);
}

/* True when nothing may come of this event, because it is about no link that matters. */
static inline bool model_is_stray(const model *m, const watchdog_event *e)
{
    if (!model_is_link_event(e->type))
        return false;
    if (e->link != 0 &&
        (e->link == m->live || (e->type == WATCHDOG_EVENT_GONE && e->link == m->going)))
        return false;
    bool due = m->w.state == WATCHDOG_CLOSED && m->going == 0 && m->w.dial_at <= m->now;
    return !due; /* a dial that is due comes with any event */
}

/* NULL, or the promise that was broken. */
static inline const char *model_step(model *m, const watchdog_event *e)
{
    model_key before = model_key_of(m);
    bool stray = model_is_stray(m, e);
    bool early = e->type == WATCHDOG_EVENT_TICK && m->now < watchdog_deadline(&m->w);
    bool live_gone = e->type == WATCHDOG_EVENT_GONE && e->link != 0 && e->link == m->live;
    model_seen seen = {.stop = e->type == WATCHDOG_EVENT_STOP};
    watchdog_actions actions;
    if (model_is_proof(m, e))
        m->attempt = 0;
    m->stopped |= seen.stop;
    model_note_lame_duck(m, e);
    bool leaves = e->type == WATCHDOG_EVENT_TICK && m->leave_at <= m->now;
    watchdog_step(&m->w, e, m->now, &actions);
    if (e->type == WATCHDOG_EVENT_GONE && e->link == m->going)
        m->going = 0;
    if (actions.count < 0 || actions.count > WATCHDOG_ACTIONS_MAX)
        return "too many actions";
    for (int i = 0; i < actions.count; i++) {
        const char *broken = model_action(m, &seen, &actions.list[i]);
        if (broken != NULL)
            return broken;
        if (live_gone && m->going == e->link)
            m->going = 0;
    }
    if (early && actions.count > 0)
        return "an action before the deadline: it was told too late";
    if (stray && actions.count > 0)
        return "an action because of a link that does not matter";
    if (leaves && !seen.closed)
        return "a link to a server that goes is not left in time";
    const char *broken = model_check(m);
    if (broken != NULL)
        return broken;
    model_key after = model_key_of(m);
    return stray && memcmp(&before, &after, sizeof after) != 0
               ? "a change because of a link that does not matter"
               : NULL;
}

#endif
