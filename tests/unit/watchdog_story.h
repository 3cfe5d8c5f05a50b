/* For tests of the watchdog that read like a story: what happens, and what the watchdog wants done
 * about it. */
#ifndef MD_TESTS_WATCHDOG_STORY_H
#define MD_TESTS_WATCHDOG_STORY_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include "watch/watchdog.h"

#define START_TIME 1000000u

static const watchdog_config usual = {
    .interval_ms = 30000,
    .timeout_ms = 15000,
    .probe_ms = 5000,
    .probe_timeout_ms = 2500,
    .reconnecting_ms = 60000,
    .grace_ms = 2000,
};

static watchdog w;
static uint64_t now;
static char told[256]; /* the actions of the last step, such as "closed(1 probe) destroy(1)" */

/* ---- telling the story ---- */

static inline void write_action(const watchdog_action *a)
{
    static const char *const names[] = {
        [WATCHDOG_ACTION_DIAL] = "dial",
        [WATCHDOG_ACTION_DESTROY] = "destroy",
        [WATCHDOG_ACTION_ABANDON] = "abandon",
        [WATCHDOG_ACTION_PROBE] = "probe",
        [WATCHDOG_ACTION_AUDIT] = "audit",
        [WATCHDOG_ACTION_PLAN] = "plan",
        [WATCHDOG_ACTION_UP] = "up",
        [WATCHDOG_ACTION_RECONNECTED] = "reconnected",
        [WATCHDOG_ACTION_DISCONNECTED] = "disconnected",
        [WATCHDOG_ACTION_CLOSED] = "closed",
        [WATCHDOG_ACTION_DEAF] = "deaf",
        [WATCHDOG_ACTION_HEARING] = "hearing",
    };
    size_t used = strlen(told);
    char *at = told + used;
    size_t room = sizeof told - used;
    const char *gap = used > 0 ? " " : "";
    if (a->type == WATCHDOG_ACTION_PLAN)
        snprintf(at, room, "%splan", gap);
    else if (a->type == WATCHDOG_ACTION_CLOSED || a->type == WATCHDOG_ACTION_UP)
        snprintf(at, room, "%s%s(%d %s)", gap, names[a->type], (int)a->link,
                 watchdog_reason_name(a->reason));
    else
        snprintf(at, room, "%s%s(%d)", gap, names[a->type], (int)a->link);
}

static inline const char *feed(watchdog_event event)
{
    watchdog_actions actions;
    watchdog_step(&w, &event, now, &actions);
    told[0] = '\0';
    for (int i = 0; i < actions.count; i++)
        write_action(&actions.list[i]);
    return told;
}

static inline const char *happens(watchdog_event_type type)
{
    return feed((watchdog_event){.type = type});
}

static inline const char *link_says(uint64_t link, watchdog_event_type type)
{
    return feed((watchdog_event){.type = type, .link = link});
}

static inline const char *audit_says(uint64_t link, watchdog_link_status status)
{
    return feed((watchdog_event){.type = WATCHDOG_EVENT_AUDITED, .link = link, .status = status});
}

static inline const char *policy_says(uint32_t delay_ms)
{
    return feed((watchdog_event){.type = WATCHDOG_EVENT_PLANNED, .delay_ms = delay_ms});
}

static inline const char *wait(uint64_t ms)
{
    now += ms;
    return happens(WATCHDOG_EVENT_TICK);
}

/* To the next deadline, and not a millisecond further. */
static inline const char *wait_for_deadline(void)
{
    assert_true(watchdog_deadline(&w) != WATCHDOG_NEVER);
    if (watchdog_deadline(&w) > now)
        now = watchdog_deadline(&w);
    return happens(WATCHDOG_EVENT_TICK);
}

/* While up: lets the time pass, and answers all probes and audits. */
static inline void live_for(uint64_t ms)
{
    for (uint64_t end = now + ms; watchdog_deadline(&w) <= end;) {
        wait_for_deadline();
        bool audit = strstr(told, "audit(") != NULL;
        if (strstr(told, "probe(") != NULL)
            link_says(w.link, WATCHDOG_EVENT_PROBE_ANSWERED);
        if (audit)
            audit_says(w.link, WATCHDOG_LINK_CONNECTED);
        assert_int_equal(w.state, WATCHDOG_UP);
    }
}

static inline void begin(const watchdog_config *config)
{
    now = START_TIME;
    watchdog_init(&w, config);
}

static inline void begin_dialing(void)
{
    begin(&usual);
    assert_string_equal(happens(WATCHDOG_EVENT_START), "dial(1)");
}

static inline void begin_up(void)
{
    begin_dialing();
    assert_string_equal(link_says(1, WATCHDOG_EVENT_DIALED), "up(1 start)");
}

static inline void begin_reconnecting(void)
{
    begin_up();
    assert_string_equal(link_says(1, WATCHDOG_EVENT_DISCONNECTED), "disconnected(1)");
}

/* Link 1 was closed and is gone; the policy has not answered. */
static inline void begin_closed(void)
{
    begin_up();
    assert_string_equal(link_says(1, WATCHDOG_EVENT_CLOSED), "closed(1 closed) destroy(1) plan");
    assert_string_equal(link_says(1, WATCHDOG_EVENT_GONE), "");
}

#endif
