/* What is said of a runtime's health. See readiness.h. Made by the loop, the answers by any thread.
 */
#include "health/readiness.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "report.h"
#include "runtime_private.h"
#include "script/binding.h"

/* ---- making ---- */

/* A connection that the script itself has ended is not waited for. */
static bool is_wanted(const struct binding *b)
{
    return b->options.required && b->connection != NULL && connection_is_open(b->connection);
}

static bool fill(unready_connection *u, const struct binding *b, const connection_state *s)
{
    *u = (unready_connection){.name = strdup(b->name),
                              .server = strdup(s->server),
                              .refused_subject = strdup(s->refused_subject),
                              .state = s->state,
                              .reason = s->reason,
                              .deaf = s->deaf,
                              .probing = s->probing,
                              .refused = s->refused,
                              .attempt = s->attempt,
                              .unready_since = s->unready_since,
                              .next_at = s->next_at,
                              .error = s->error};
    return u->name != NULL && u->server != NULL && u->refused_subject != NULL;
}

static void note_connection(readiness *r, const struct binding *b)
{
    if (!is_wanted(b))
        return;
    r->required++;
    if (connection_is_usable(b->connection)) {
        r->ready++;
        return;
    }
    if (r->count == READINESS_MAX)
        return;
    connection_state s;
    connection_get_state(b->connection, &s);
    unready_connection *u = &r->unready[r->count++];
    if (!fill(u, b, &s))
        *u = (unready_connection){0}; /* no memory: it is counted without a word */
}

readiness *readiness_of(const md_runtime *rt)
{
    readiness *r = calloc(1, sizeof *r + READINESS_MAX * sizeof r->unready[0]);
    if (r == NULL)
        return NULL;
    atomic_init(&r->references, 1);
    r->stopping = rt->stopping;
    r->loaded = rt->generation != NULL;
    if (!r->loaded)
        return r;
    r->generation = rt->generation->number;
    for (const struct binding *b = rt->generation->bindings; b != NULL; b = b->next)
        note_connection(r, b);
    return r;
}

void readiness_release(readiness *r)
{
    if (r == NULL || atomic_fetch_sub(&r->references, 1) > 1)
        return;
    for (unsigned i = 0; i < r->count; i++) {
        free(r->unready[i].name);
        free(r->unready[i].server);
        free(r->unready[i].refused_subject);
    }
    free(r);
}

/* ---- words ---- */

static double seconds_since(uint64_t since, uint64_t now)
{
    return since == WATCHDOG_NEVER || now < since ? 0 : (double)(now - since) / 1e3;
}

static double seconds_until(uint64_t at, uint64_t now)
{
    return at == WATCHDOG_NEVER || at < now ? 0 : (double)(at - now) / 1e3;
}

/* json_sprintf() has no answer to bytes that are not UTF-8. */
__attribute__((format(printf, 1, 2))) static json_t *words(const char *format, ...)
{
    char text[ERROR_TEXT_SIZE + 128];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    return report_text(text);
}

static json_t *reason_text(const unready_connection *u)
{
    switch (u->state) {
    case WATCHDOG_UP:
        if (u->deaf)
            return words("connected to %s, but the last probe was not answered", u->server);
        if (u->refused > 0)
            return words("the server refuses %u of its subscriptions, such as %s", u->refused,
                         u->refused_subject);
        return words("connected to %s, and not in order yet", u->server);
    case WATCHDOG_STOPPED:
        return words("it was closed");
    case WATCHDOG_IDLE:
        return words("it was not dialled yet");
    default:
        return words("there is no link%s%s", u->error.code[0] != '\0' ? ": " : "",
                     u->error.message);
    }
}

static json_t *plan_text(const unready_connection *u, uint64_t now)
{
    double next = seconds_until(u->next_at, now);
    switch (u->state) {
    case WATCHDOG_UP:
        if (u->refused > 0 && !u->deaf)
            return words("it is subscribed again at every audit");
        if (u->probing)
            return words("the answer to another probe is awaited for %.1f s; then the link is "
                         "replaced",
                         next);
        return words("probed again in %.1f s; a second miss replaces the link", next);
    case WATCHDOG_RECONNECTING:
        return words("the library reconnects; when it has not in %.1f s, a fresh link is made",
                     next);
    case WATCHDOG_DIALING:
        return words("a fresh link is dialled, attempt %u, given up in %.1f s", u->attempt, next);
    case WATCHDOG_CLOSED:
        return words("a fresh link is dialled in %.1f s, attempt %u", next, u->attempt + 1);
    default:
        return words("dialled at the next turn");
    }
}

static json_t *describe(const unready_connection *u, uint64_t now)
{
    if (u->name == NULL)
        return json_pack("{s:s}", "reason", "no memory to say more");
    json_t *one = json_pack(
        "{s:o, s:s, s:o, s:o, s:f, s:I, s:o, s:s}", "connection", report_text(u->name), "state",
        watchdog_state_name(u->state), "reason", reason_text(u), "plan", plan_text(u, now),
        "outage", seconds_since(u->unready_since, now), "attempt", (json_int_t)u->attempt, "server",
        report_text(u->server), "last_end", watchdog_reason_name(u->reason));
    /* A link that is up has nothing to do with the error of one before. */
    if (u->error.code[0] != '\0' && (u->state != WATCHDOG_UP || u->refused > 0))
        json_object_set_new(one, "error",
                            json_pack("{s:s, s:s, s:o}", "code", u->error.code, "class",
                                      error_class_name(u->error.cls), "message",
                                      report_text(u->error.message)));
    return one;
}

/* ---- answers ---- */

/* Takes `body`. */
static health_answer answer(bool good, json_t *body)
{
    char *text = json_dumps(body, JSON_COMPACT | JSON_REAL_PRECISION(6));
    json_decref(body);
    return (health_answer){good ? 200 : 503, text};
}

health_answer health_live(const stall *s)
{
    return answer(!s->stalled,
                  json_pack("{s:b, s:o}", "live", !s->stalled, "loop", report_stall(s)));
}

static void add_reason(json_t *list, const char *text)
{
    json_array_append_new(list, json_pack("{s:o}", "reason", report_text(text)));
}

bool readiness_is_good(const readiness *r, const stall *s)
{
    return !s->stalled && r != NULL && r->loaded && !r->stopping && r->ready == r->required;
}

health_answer health_ready(const readiness *r, const stall *s, uint64_t now)
{
    json_t *reasons = json_array();
    if (s->stalled)
        json_array_append_new(reasons, report_stall(s));
    if (r == NULL || !r->loaded)
        add_reason(reasons, "no script is at work yet");
    else if (r->stopping)
        add_reason(reasons, "the runtime stops: subscriptions are drained");
    for (unsigned i = 0; r != NULL && i < r->count; i++)
        json_array_append_new(reasons, describe(&r->unready[i], now));
    bool good = json_array_size(reasons) == 0;
    return answer(good, json_pack("{s:b, s:o, s:I, s:I, s:I}", "ready", good, "reasons", reasons,
                                  "required", (json_int_t)(r != NULL ? r->required : 0),
                                  "connections_ready", (json_int_t)(r != NULL ? r->ready : 0),
                                  "generation", (json_int_t)(r != NULL ? r->generation : 0)));
}

void readiness_summary(const readiness *r, char *out, size_t size)
{
    if (!r->loaded) {
        snprintf(out, size, "no script yet");
        return;
    }
    int length =
        snprintf(out, size, "%s; generation %u; %u of %u connections ready",
                 r->stopping ? "stopping" : "running", r->generation, r->ready, r->required);
    for (unsigned i = 0; i < r->count && length > 0 && (size_t)length < size; i++)
        length += snprintf(out + length, size - (size_t)length, "%s%s %s", i == 0 ? "; " : ", ",
                           r->unready[i].name != NULL ? r->unready[i].name : "?",
                           r->unready[i].deaf ? "deaf" : watchdog_state_name(r->unready[i].state));
}
