/* The watchdog: decides when a connection needs a completely fresh link, and when to make it.
 *
 * A pure function of (state, event, now) to actions: no I/O, no clock, no memory of its own, no
 * threads. The connection (conn/connection.c) feeds it events and carries out what it asks for.
 * Time is in milliseconds of any monotonic clock. Links are known by number: every event of a link
 * carries it, and events of a link that is not the current one are ignored, so a late word of
 * an old link can never confuse a new one.
 *
 * What always holds, whatever the order of the events (tests/unit/watchdog_explore_test.c):
 *  - unless stopped or idle, there is a live link, a dial under way, or a deadline at which
 *    one will be made: watchdog_deadline() is never WATCHDOG_NEVER;
 *  - at most one dial is under way and at most one link is live: a new link is dialled only when
 *    the old one is gone or was given up as hanging;
 *  - no event makes it stop, but WATCHDOG_EVENT_STOP. */
#ifndef MD_WATCH_WATCHDOG_H
#define MD_WATCH_WATCHDOG_H

#include <stdbool.h>
#include <stdint.h>

#define WATCHDOG_NEVER UINT64_MAX

typedef enum {
    WATCHDOG_IDLE,         /* not started yet */
    WATCHDOG_DIALING,      /* a link is being made */
    WATCHDOG_UP,           /* the link carries messages */
    WATCHDOG_RECONNECTING, /* the library is at work on it */
    WATCHDOG_CLOSED,       /* there is no link; a dial is scheduled */
    WATCHDOG_STOPPED,      /* the script closed the connection: for good */
} watchdog_state;

/* Why a link was, or could not be, had: for logs, metrics and the policy. */
typedef enum {
    WATCHDOG_REASON_NONE,
    WATCHDOG_REASON_START,  /* the first link */
    WATCHDOG_REASON_CLOSED, /* the library closed the connection for good */
    WATCHDOG_REASON_DIAL_FAILED,
    WATCHDOG_REASON_DIAL_TIMEOUT, /* the dial did not end in time: the link hangs */
    WATCHDOG_REASON_RECONNECTING, /* the library was reconnecting for too long */
    WATCHDOG_REASON_PROBE,        /* two probes in a row were not answered: connected, but deaf */
    WATCHDOG_REASON_HUNG,         /* the audit was not answered: the worker hangs */
    WATCHDOG_REASON_REQUESTED,    /* the script or an operator asked for a fresh link */
    WATCHDOG_REASON_LAME_DUCK,    /* the server will go: another one is asked before */
    WATCHDOG_REASON_COUNT
} watchdog_reason;

typedef struct {
    uint32_t interval_ms;      /* between audits while up or reconnecting; > 0 */
    uint32_t timeout_ms;       /* for a dial, and for the answer to an audit; > 0 */
    uint32_t probe_ms;         /* between probes while up; 0: no probes */
    uint32_t probe_timeout_ms; /* for a probe's answer; > 0 */
    uint32_t reconnecting_ms;  /* how long the library may try by itself; > 0 */
    uint32_t grace_ms;         /* for an old link to go before it counts as hanging; > 0 */
} watchdog_config;

typedef enum {
    WATCHDOG_EVENT_START,          /* idle only */
    WATCHDOG_EVENT_STOP,           /* from any state, for good */
    WATCHDOG_EVENT_TICK,           /* a deadline may have passed */
    WATCHDOG_EVENT_PLANNED,        /* delay_ms: the policy's answer to WATCHDOG_ACTION_PLAN */
    WATCHDOG_EVENT_REPLACE,        /* a fresh link is wanted now (up or reconnecting; while closed
                                      the scheduled dial is brought forward; otherwise ignored) */
    WATCHDOG_EVENT_DIALED,         /* link: it is up, its subscriptions are in place */
    WATCHDOG_EVENT_DIAL_FAILED,    /* link: it could not be made (it still has to be destroyed) */
    WATCHDOG_EVENT_DISCONNECTED,   /* link: the library lost it and reconnects by itself */
    WATCHDOG_EVENT_RECONNECTED,    /* link: the library has it back */
    WATCHDOG_EVENT_CLOSED,         /* link: the library gave up (while dialing: the dial failed) */
    WATCHDOG_EVENT_PROBE_ANSWERED, /* link */
    WATCHDOG_EVENT_AUDITED,        /* link, status: the real status, from the library */
    WATCHDOG_EVENT_GONE,           /* link: its worker has destroyed it */
    WATCHDOG_EVENT_LAME_DUCK,      /* link: its server will go, and the link is to be left after
                                      delay_ms. The first word counts; a link that the library
                                      has lost meanwhile is not left any more */
    WATCHDOG_EVENT_COUNT
} watchdog_event_type;

/* The library's own view of a link, as the audit reports it. */
typedef enum {
    WATCHDOG_LINK_CONNECTED,
    WATCHDOG_LINK_RECONNECTING,
    WATCHDOG_LINK_CLOSED,
    WATCHDOG_LINK_OTHER, /* connecting, draining: no conclusion is drawn */
} watchdog_link_status;

typedef struct {
    watchdog_event_type type;
    uint64_t link;               /* events of a link */
    uint32_t delay_ms;           /* PLANNED, LAME_DUCK */
    watchdog_link_status status; /* AUDITED */
} watchdog_event;

typedef enum {
    WATCHDOG_ACTION_DIAL,         /* make link number `link` */
    WATCHDOG_ACTION_DESTROY,      /* close and destroy `link`; say GONE when done */
    WATCHDOG_ACTION_ABANDON,      /* `link` hangs: leave it to itself (it cleans up should it ever
                                     come back), count it */
    WATCHDOG_ACTION_PROBE,        /* send a probe through `link` */
    WATCHDOG_ACTION_AUDIT,        /* ask for the real status of `link` */
    WATCHDOG_ACTION_PLAN,         /* ask the policy for the delay before the next dial and answer
                                     with PLANNED; without an answer the dial comes after
                                     WATCHDOG_UNPLANNED_MS */
    WATCHDOG_ACTION_UP,           /* tell: a fresh link is up (reason: why it was needed) */
    WATCHDOG_ACTION_RECONNECTED,  /* tell: the library has the same link back */
    WATCHDOG_ACTION_DISCONNECTED, /* tell: the link is lost, the library reconnects */
    WATCHDOG_ACTION_CLOSED,       /* tell: there is no link any more (reason). Comes before DESTROY,
                                     ABANDON and PLAN: a closure is logged before its recovery */
    WATCHDOG_ACTION_DEAF,         /* tell: one probe was missed: not ready */
    WATCHDOG_ACTION_HEARING,      /* tell: a probe was answered after a miss: ready again */
} watchdog_action_type;

typedef struct {
    watchdog_action_type type;
    uint64_t link;
    watchdog_reason reason;
} watchdog_action;

#define WATCHDOG_ACTIONS_MAX 8
#define WATCHDOG_UNPLANNED_MS 5000

typedef struct {
    int count;
    watchdog_action list[WATCHDOG_ACTIONS_MAX];
} watchdog_actions;

/* Read freely; written by watchdog_step() alone. Deadlines are WATCHDOG_NEVER when not set. */
typedef struct {
    watchdog_config config;
    watchdog_state state;
    uint64_t link;          /* the current link, 0 when there is none */
    uint64_t old_link;      /* a link that has to go before the next dial, or 0 */
    uint64_t last_link;     /* the highest number given out */
    uint32_t attempt;       /* dials of this outage, the one under way included. Starts again from
                               0 not when a link is up but when a link has proved itself: its first
                               probe was answered (without probes: its first audit). So a link
                               that is closed as soon as it is up cannot make a hot loop. */
    uint32_t probes_missed; /* in a row */
    uint64_t outage_since;  /* WATCHDOG_NEVER while up, idle or stopped */
    watchdog_reason reason; /* why the last link ended or could not be made */
    watchdog_reason cause;  /* why the last link that was up ended: what UP reports */
    bool planning;          /* CLOSED: PLANNED is awaited; it counts once for each PLAN */
    uint64_t dial_at;       /* CLOSED: when to dial */
    uint64_t dial_deadline; /* DIALING */
    uint64_t reconnecting_deadline;
    uint64_t probe_at;       /* UP: when to send the next probe */
    uint64_t probe_deadline; /* UP: when the one under way counts as missed */
    uint64_t audit_at;
    uint64_t audit_deadline;
    uint64_t leave_at;      /* UP: when to leave a server that will go */
    uint64_t gone_deadline; /* for old_link */
} watchdog;

void watchdog_init(watchdog *w, const watchdog_config *config);

/* Other timings from now on. What is under way keeps the deadline that it has. */
void watchdog_configure(watchdog *w, const watchdog_config *config, uint64_t now);

/* Takes one event at `now` and fills *actions (overwritten) in the order in which they are to be
 * done. Any event is allowed in any state. */
void watchdog_step(watchdog *w, const watchdog_event *event, uint64_t now,
                   watchdog_actions *actions);

/* When WATCHDOG_EVENT_TICK is due next; WATCHDOG_NEVER when there is nothing to wait for. */
uint64_t watchdog_deadline(const watchdog *w);

/* "idle", "dialing", "up", "reconnecting", "closed", "stopped". */
const char *watchdog_state_name(watchdog_state state);

/* "none", "start", "closed", "dial_failed", "dial_timeout", "reconnecting", "probe", "hung",
 * "requested", "lame_duck". */
const char *watchdog_reason_name(watchdog_reason reason);

#endif
