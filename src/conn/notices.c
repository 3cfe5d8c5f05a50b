/* What a connection tells: one log line an event, then the observer. A closure is logged before
 * anything is done about it. Loop thread. */
#include <string.h>

#include "base/clock.h"
#include "conn/connection_private.h"

#define LOUD_DIALS 5u          /* the first failures of an outage are logged one by one, */
#define QUIET_PERIOD_MS 10000u /* later ones once in this time, with their count */
#define ERROR_FRESH_MS 2000u   /* an error this young explains what happens now */

static double seconds_down(const struct connection *c)
{
    return c->down_since == WATCHDOG_NEVER ? 0.0
                                           : (double)(connection_now(c) - c->down_since) / 1000.0;
}

static void remember_loss(struct connection *c, bool closed, watchdog_reason reason)
{
    history_loss loss = {.owner = c,
                         .connection = c->name,
                         .server = c->server,
                         .closed = closed,
                         .reason = reason,
                         .error = &c->error};
    uint64_t now = connection_now(c);
    uint64_t since = c->down_since < now ? c->down_since : now; /* deaf before it was lost */
    history_lost(&c->hub->history, &loss, wall_clock_ms(&c->hub->clock) - (int64_t)(now - since),
                 since);
}

static void note_up(struct connection *c)
{
    c->down_since = WATCHDOG_NEVER;
    c->quiet_dials = 0;
    c->previous_delay = 0;
    c->error_at = 0; /* it does not explain the next loss */
}

void connection_tell(struct connection *c, connection_info *info)
{
    static const error none;
    if (info->error == NULL)
        info->error = &none;
    info->server = c->server;
    info->links = c->links;
    if (c->observer != NULL && c->observer->notify != NULL)
        c->observer->notify(c->closure, info);
}

void connection_tell_up(struct connection *c, watchdog_reason reason)
{
    connection_info info = {
        .notice = c->links == 1 ? CONNECTION_CONNECTED : CONNECTION_RECONNECTED,
        .fresh = true,
        .outage = seconds_down(c),
        .reason = reason,
    };
    log_emit(c->hub->log, LOG_INFO, c->links == 1 ? "connected" : "reconnected",
             log_str("connection", c->name), log_str("server", c->server),
             log_int("link", (int64_t)c->links), log_bool("fresh", true),
             log_str("reason", watchdog_reason_name(reason)), log_num("outage", info.outage),
             log_int("subscriptions", connection_subscriptions(c)));
    history_over(&c->hub->history, c, HISTORY_FRESH_LINK, connection_now(c));
    note_up(c);
    connection_tell(c, &info);
}

void connection_tell_reconnected(struct connection *c)
{
    connection_info info = {.notice = CONNECTION_RECONNECTED, .outage = seconds_down(c)};
    log_emit(c->hub->log, LOG_INFO, "reconnected", log_str("connection", c->name),
             log_str("server", c->server), log_bool("fresh", false),
             log_num("outage", info.outage));
    history_over(&c->hub->history, c, HISTORY_LIBRARY, connection_now(c));
    note_up(c);
    connection_tell(c, &info);
}

/* The library does not say why it lost a link; what the server said just before does. */
static void explain_loss(struct connection *c)
{
    if (c->error_at != 0 && connection_now(c) - c->error_at < ERROR_FRESH_MS)
        return;
    error e = {0};
    error_set(&e, "disconnected", ERROR_CLASS_NETWORK, "the link to %s was lost", c->server);
    connection_set_error(c, &e);
}

void connection_tell_disconnected(struct connection *c)
{
    explain_loss(c);
    remember_loss(c, false, WATCHDOG_REASON_NONE);
    connection_info info = {.notice = CONNECTION_DISCONNECTED, .error = &c->error};
    log_emit(c->hub->log, LOG_WARN, "disconnected", log_str("connection", c->name),
             log_str("server", c->server), log_str("error", c->error.message),
             log_str("class", error_class_name(c->error.cls)),
             log_str("plan", "the library reconnects"));
    error e = {0};
    error_set(&e, "disconnected", ERROR_CLASS_NETWORK, "connection %s was lost", c->name);
    connection_fail_waiters(c, &e);
    connection_tell(c, &info);
}

/* Where the watchdog, not the library, ended the link. */
static void explain_end(struct connection *c, watchdog_reason reason)
{
    error e = {0};
    switch (reason) {
    case WATCHDOG_REASON_RECONNECTING:
        error_set(&e, "stuck", ERROR_CLASS_TIMEOUT, "the library did not reconnect within %u ms",
                  c->options.watchdog.reconnecting_ms);
        break;
    case WATCHDOG_REASON_PROBE:
        error_set(&e, "deaf", ERROR_CLASS_STALE,
                  "connected to %s, but two probes in a row were not answered", c->server);
        break;
    case WATCHDOG_REASON_HUNG:
        error_set(&e, "hung", ERROR_CLASS_TIMEOUT, "the library hangs on the link to %s",
                  c->server);
        break;
    case WATCHDOG_REASON_REQUESTED:
        error_set(&e, "requested", ERROR_CLASS_NONE, "a fresh link was asked for");
        break;
    case WATCHDOG_REASON_LAME_DUCK:
        error_set(&e, "lame_duck", ERROR_CLASS_NONE,
                  "%s will go, and was left before: another server of the list is asked",
                  c->server);
        break;
    default:
        return;
    }
    connection_set_error(c, &e);
}

void connection_tell_closed(struct connection *c, watchdog_reason reason)
{
    bool wanted = reason == WATCHDOG_REASON_REQUESTED || reason == WATCHDOG_REASON_LAME_DUCK;
    explain_end(c, reason);
    remember_loss(c, true, reason);
    connection_info info = {.notice = CONNECTION_CLOSED,
                            .reason = reason,
                            .outage = seconds_down(c),
                            .error = &c->error};
    log_emit(c->hub->log, wanted ? LOG_INFO : LOG_ERROR, "closed", log_str("connection", c->name),
             log_str("server", c->server), log_str("reason", watchdog_reason_name(reason)),
             log_str("error", c->error.message), log_str("class", error_class_name(c->error.cls)),
             log_str("plan", "a fresh link"));
    error e = {0};
    error_set(&e, "disconnected", ERROR_CLASS_NETWORK, "connection %s was lost", c->name);
    connection_fail_waiters(c, &e);
    connection_tell(c, &info);
}

void connection_tell_error(struct connection *c, const error *e)
{
    connection_set_error(c, e);
    connection_info info = {.notice = CONNECTION_ERROR, .error = &c->error};
    log_emit(c->hub->log, LOG_WARN, "error", log_str("connection", c->name),
             log_str("server", c->server), log_str("error", e->message), log_str("code", e->code),
             log_str("class", error_class_name(e->cls)));
    connection_tell(c, &info);
}

void connection_tell_probe(struct connection *c, bool deaf)
{
    connection_info info = {.notice = CONNECTION_PROBE, .deaf = deaf};
    log_emit(c->hub->log, deaf ? LOG_WARN : LOG_INFO,
             deaf ? "probe missed" : "probe answered again", log_str("connection", c->name),
             log_str("server", c->server), log_bool("ready", !deaf));
    connection_tell(c, &info);
}

void connection_tell_dial_failed(struct connection *c, watchdog_reason reason)
{
    if (reason == WATCHDOG_REASON_DIAL_TIMEOUT) {
        error e = {0};
        error_set(&e, "timeout", ERROR_CLASS_TIMEOUT, "the dial did not end within %u ms",
                  c->options.watchdog.timeout_ms);
        connection_set_error(c, &e);
    }
    history_dial_failed(&c->hub->history, c, &c->error);
    if (c->down_since == WATCHDOG_NEVER)
        c->down_since = connection_now(c);
    c->untold_failure = true;
}

/* With what comes next, in one line. */
static void log_failed(struct connection *c, const char *what, uint64_t attempt, double delay)
{
    uint64_t now = connection_now(c);
    if (attempt > LOUD_DIALS && now - c->quiet_since < QUIET_PERIOD_MS) {
        c->quiet_dials++;
        return;
    }
    log_emit(c->hub->log, LOG_WARN, what, log_str("connection", c->name),
             log_str("server", c->server), log_int("of_servers", c->options.link->server_count),
             log_int("attempt", (int64_t)attempt), log_str("error", c->error.message),
             log_str("class", error_class_name(c->error.cls)), log_num("outage", seconds_down(c)),
             log_num("next_dial_in", delay), log_int("not_logged", (int64_t)c->quiet_dials));
    c->quiet_dials = 0;
    c->quiet_since = now;
}

void connection_tell_reconnect_failed(struct connection *c, uint64_t attempt, double delay)
{
    log_failed(c, "reconnect failed", attempt, delay);
}

void connection_tell_plan(struct connection *c, double delay)
{
    if (c->untold_failure)
        log_failed(c, "dial failed", connection_attempts(c), delay);
    else
        log_emit(c->hub->log, LOG_DEBUG, "fresh link planned", log_str("connection", c->name),
                 log_int("attempt", connection_attempts(c) + 1), log_num("delay", delay));
    c->untold_failure = false;
}
