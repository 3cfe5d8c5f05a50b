/* Reports for people and programs. See report.h. Loop thread. */
#include "report.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/utf8.h"
#include "host/subscriptions.h"
#include "script/binding.h"

json_t *report_bytes(const char *bytes, size_t length)
{
    char *copy = utf8_repair(bytes, length);
    json_t *text = json_stringn(copy != NULL ? copy : "", copy != NULL ? length : 0);
    free(copy);
    return text;
}

json_t *report_text(const char *text)
{
    json_t *good = json_string(text);
    return good != NULL ? good : report_bytes(text, strlen(text));
}

/* The handlers of a binding are listed newest first; people read them in the order of the script.
 * Takes `list`. */
static json_t *reversed(json_t *list)
{
    json_t *out = json_array();
    for (size_t i = json_array_size(list); i > 0; i--)
        json_array_append(out, json_array_get(list, i - 1));
    json_decref(list);
    return out;
}

static json_t *describe_subscriptions(const struct binding *b)
{
    json_t *list = json_array();
    for (const struct handler *h = b->handlers; h != NULL; h = h->next) {
        json_t *one = json_object();
        json_object_set_new(one, "subject", report_text(h->interest->subject));
        if (interest_queue(h->interest) != NULL)
            json_object_set_new(one, "queue", report_text(interest_queue(h->interest)));
        if (h->interest->max > 0)
            json_object_set_new(one, "max", json_integer((json_int_t)h->interest->max));
        json_array_append_new(list, one);
    }
    return reversed(list);
}

static void add_problem(json_t *problems, const char *where, const char *text)
{
    json_array_append_new(problems, json_sprintf("%s%s", where, text));
}

static void find_problems(const struct binding *b, json_t *problems)
{
    for (const struct handler *h = b->handlers; h != NULL; h = h->next)
        for (const struct handler *other = h->next; other != NULL; other = other->next) {
            if (!interest_is_alike(h->interest, other->interest))
                continue;
            json_array_append_new(
                problems, json_sprintf("%sconnection %s subscribes to %s twice: each message "
                                       "is handled by both",
                                       b->place, b->name, h->interest->subject));
            break;
        }
}

static json_t *describe(const struct generation *g)
{
    json_t *connections = json_array();
    json_t *problems = json_array();
    for (const struct binding *b = g->bindings; b != NULL; b = b->next) {
        json_t *servers = json_array();
        for (int i = 0; i < b->options.link->server_count; i++) {
            char url[256];
            json_array_append_new(servers, report_text(link_redact_url(b->options.link->servers[i],
                                                                       url, sizeof url)));
        }
        json_array_append_new(connections,
                              json_pack("{s:o, s:o, s:o, s:o}", "name", report_text(b->name),
                                        "place", report_text(b->place), "servers", servers,
                                        "subscriptions", describe_subscriptions(b)));
        find_problems(b, problems);
    }
    if (g->bindings == NULL && g->events == NULL)
        add_problem(problems, g->path, ": it declares no connection: call moondog.connect{...}");
    return json_pack("{s:o, s:b, s:o, s:o, s:I}", "path", report_text(g->path), "ok",
                     json_array_size(problems) == 0, "connections", connections, "problems",
                     problems, "memory", (json_int_t)g->memory);
}

static void print_connection(FILE *out, const json_t *c)
{
    size_t i;
    json_t *one;
    fprintf(out, "connection %s ->", json_string_value(json_object_get(c, "name")));
    json_array_foreach(json_object_get(c, "servers"), i, one)
        fprintf(out, " %s", json_string_value(one));
    fputc('\n', out);
    json_array_foreach(json_object_get(c, "subscriptions"), i, one)
    {
        const char *queue = json_string_value(json_object_get(one, "queue"));
        fprintf(out, "  subscription %s", json_string_value(json_object_get(one, "subject")));
        if (queue != NULL)
            fprintf(out, " (queue %s)", queue);
        fputc('\n', out);
    }
}

static char *as_text(const json_t *report)
{
    char *text = NULL;
    size_t size, i;
    json_t *one;
    FILE *out = open_memstream(&text, &size);
    if (out == NULL)
        return NULL;
    bool ok = json_is_true(json_object_get(report, "ok"));
    fprintf(out, "%s: %s\n", json_string_value(json_object_get(report, "path")),
            ok ? "ok" : "can be loaded, but");
    json_array_foreach(json_object_get(report, "connections"), i, one) print_connection(out, one);
    json_array_foreach(json_object_get(report, "problems"), i, one)
        fprintf(out, "problem: %s\n", json_string_value(one));
    fclose(out);
    return text;
}

char *report_declarations(const struct generation *g, bool json, unsigned *problems)
{
    json_t *report = describe(g);
    if (report == NULL)
        return NULL;
    *problems = (unsigned)json_array_size(json_object_get(report, "problems"));
    char *text = json ? json_dumps(report, JSON_COMPACT) : as_text(report);
    json_decref(report);
    return text;
}

/* ---- a reload ---- */

json_t *report_reload(const md_reload_result *r)
{
    return json_pack("{s:I, s:{s:I, s:I, s:I}, s:{s:I, s:I, s:I, s:I}, s:f, s:f}", "generation",
                     (json_int_t)r->generation, "subscriptions", "kept",
                     (json_int_t)r->subscriptions_kept, "added", (json_int_t)r->subscriptions_added,
                     "removed", (json_int_t)r->subscriptions_removed, "connections", "kept",
                     (json_int_t)r->connections_kept, "added", (json_int_t)r->connections_added,
                     "removed", (json_int_t)r->connections_removed, "redialled",
                     (json_int_t)r->connections_redialled, "load_ms", r->load_ms, "swap_ms",
                     r->swap_ms);
}

/* ---- the status ---- */

json_t *report_stall(const stall *s)
{
    char text[STALL_TEXT_SIZE];
    json_t *one = json_pack("{s:b}", "stalled", s->stalled);
    if (!s->stalled)
        return one;
    stall_describe(s, text);
    json_object_set_new(one, "seconds", json_real(s->seconds));
    json_object_set_new(one, "reason", report_text(text));
    if (s->named) {
        json_object_set_new(one, "kind", json_string(s->kind));
        json_object_set_new(one, "name", report_text(s->name));
        json_object_set_new(one, "place", report_text(s->place));
    }
    return one;
}

static json_t *wall_time(int64_t ms)
{
    char text[40];
    struct tm tm;
    time_t seconds = (time_t)(ms / 1000);
    gmtime_r(&seconds, &tm);
    size_t length = strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &tm);
    snprintf(text + length, sizeof text - length, ".%03dZ", (int)(ms % 1000));
    return json_string(text);
}

/* NULL: nothing was measured. */
static json_t *describe_latency(const latency *l)
{
    if (l == NULL || l->total == 0)
        return json_null();
    return json_pack("{s:f, s:f, s:I}", "p50", latency_quantile(l, 0.5), "p99",
                     latency_quantile(l, 0.99), "samples", (json_int_t)l->total);
}

/* What both kinds have; `kind`: "script" or "host". */
static json_t *describe_subscription(const char *kind, const struct callback *calls,
                                     const subscription_state *state)
{
    return json_pack("{s:s, s:b, s:I, s:I, s:I, s:I, s:I}", "kind", kind, "active", state->active,
                     "handled", (json_int_t)calls->calls, "errors", (json_int_t)calls->errors,
                     "overruns", (json_int_t)calls->overruns, "dropped", (json_int_t)state->dropped,
                     "queued", (json_int_t)state->queued);
}

static json_t *describe_handler(const struct handler *h)
{
    subscription_state state = {0};
    if (h->subscription != NULL)
        subscription_get_state(h->subscription, &state);
    json_t *one = describe_subscription("script", &h->callback, &state);
    json_object_set_new(one, "subject", report_text(handler_label(h)));
    if (interest_queue(h->interest) != NULL)
        json_object_set_new(one, "queue", report_text(interest_queue(h->interest)));
    json_object_set_new(one, "latency", describe_latency(h->latency));
    return one;
}

static json_t *describe_host_subscription(const md_subscription *s)
{
    subscription_state state;
    subscriptions_get_state(s, &state);
    json_t *one = describe_subscription("host", &s->callback, &state);
    json_object_set_new(one, "subject", report_text(s->interest->subject));
    if (interest_queue(s->interest) != NULL)
        json_object_set_new(one, "queue", report_text(interest_queue(s->interest)));
    json_object_set_new(one, "latency", describe_latency(&s->latency));
    return one;
}

/* Those of all connections together are as many as fit into an answer; `left` is how many that
 * still are. */
static json_t *describe_handlers(const struct binding *b, unsigned *left)
{
    json_t *list = json_array();
    for (const struct handler *h = b->handlers; h != NULL && *left > 0; h = h->next, (*left)--)
        json_array_append_new(list, describe_handler(h));
    list = reversed(list);
    const struct messages *host = b->generation->limits.messages;
    for (const md_subscription *s = host->subscriptions; s != NULL && *left > 0; s = s->next)
        if (subscriptions_place(s) == b) {
            json_array_append_new(list, describe_host_subscription(s));
            (*left)--;
        }
    return list;
}

static json_t *describe_connection(const struct binding *b, unsigned *subscriptions_left)
{
    connection_state s = {.state = WATCHDOG_STOPPED, .outage = -1, .server = ""};
    if (b->connection != NULL)
        connection_get_state(b->connection, &s);
    json_t *one =
        json_pack("{s:o, s:s, s:b, s:b, s:o, s:I, s:I, s:I, s:I, s:s, s:I, s:I, s:I, s:I, s:I, "
                  "s:I, s:I, s:I}",
                  "name", report_text(b->name), "state", watchdog_state_name(s.state), "ready",
                  s.ready, "required", b->options.required, "server", report_text(s.server),
                  "links", (json_int_t)s.links, "dials", (json_int_t)s.dials, "dials_failed",
                  (json_int_t)s.dials_failed, "attempt", (json_int_t)s.attempt, "reason",
                  watchdog_reason_name(s.reason), "in_msgs", (json_int_t)s.in_messages, "in_bytes",
                  (json_int_t)s.in_bytes, "out_msgs", (json_int_t)s.out_messages, "out_bytes",
                  (json_int_t)s.out_bytes, "pending_bytes", (json_int_t)s.pending_bytes,
                  "pending_dropped", (json_int_t)s.pending_dropped, "dropped",
                  (json_int_t)s.dropped, "hanging_links", (json_int_t)s.hanging);
    json_object_set_new(one, "subscriptions_total", json_integer((json_int_t)s.subscriptions));
    json_object_set_new(one, "pending_max", json_integer((json_int_t)b->options.pending_bytes));
    json_object_set_new(one, "outage", s.outage >= 0 ? json_real(s.outage) : json_null());
    if (s.error.code[0] != '\0')
        json_object_set_new(one, "error",
                            json_pack("{s:s, s:s, s:o}", "code", s.error.code, "class",
                                      error_class_name(s.error.cls), "message",
                                      report_text(s.error.message)));
    if (b->successor != NULL) {
        connection_get_state(b->successor, &s);
        json_object_set_new(one, "successor",
                            json_pack("{s:s, s:I, s:o}", "state", watchdog_state_name(s.state),
                                      "attempt", (json_int_t)s.attempt, "error",
                                      report_text(s.error.message)));
    }
    json_object_set_new(one, "subscriptions", describe_handlers(b, subscriptions_left));
    return one;
}

static json_t *describe_generation(const struct generation *g)
{
    char hash[SOURCE_HASH_SIZE];
    sources_hash(g->sources, hash);
    json_t *files = json_array();
    for (size_t i = 0; i < g->sources->count; i++)
        json_array_append_new(files, report_text(g->sources->files[i].path));
    return json_pack("{s:I, s:o, s:s, s:o, s:o, s:I, s:I, s:I, s:I, s:I, s:I}", "number",
                     (json_int_t)g->number, "path", report_text(g->path), "hash", hash, "files",
                     files, "loaded_at", wall_time(g->loaded_at), "memory", (json_int_t)g->memory,
                     "memory_peak", (json_int_t)g->memory_peak, "handled", (json_int_t)g->handled,
                     "errors", (json_int_t)g->errors, "waiting", (json_int_t)g->parked_count,
                     "memory_refusals", (json_int_t)g->memory_refusals);
}

static json_t *describe_reloads(const struct reloads *r)
{
    json_t *one = json_pack("{s:I, s:I, s:I, s:b, s:I, s:b}", "done", (json_int_t)r->done, "failed",
                            (json_int_t)r->failed, "retiring", (json_int_t)r->retiring_count,
                            "loading", r->job != NULL, "hanging_loads",
                            (json_int_t)r->hanging_count, "probation", r->probation_until != 0);
    if (r->last_error.code[0] != '\0')
        json_object_set_new(one, "last_error",
                            json_pack("{s:s, s:o, s:o, s:o}", "code", r->last_error.code, "message",
                                      report_text(r->last_error.message), "traceback",
                                      report_text(r->last_error.traceback), "at",
                                      wall_time(r->last_error_at)));
    return one;
}

static json_t *describe_failure(const failure_record *r)
{
    return json_pack("{s:o, s:I, s:s, s:o, s:o, s:o}", "at", wall_time(r->at), "generation",
                     (json_int_t)r->generation, "kind", r->kind, "name", report_text(r->name),
                     "error", report_text(r->text != NULL ? r->text : ""), "traceback",
                     report_text(r->traceback != NULL ? r->traceback : ""));
}

json_t *report_failures(const struct failures *all)
{
    json_t *list = json_array();
    uint64_t first = all->total > FAILURES_MAX ? all->total - FAILURES_MAX : 0;
    for (uint64_t i = first; i < all->total; i++)
        json_array_append_new(list, describe_failure(&all->records[i % FAILURES_MAX]));
    return json_pack("{s:o, s:I}", "errors", list, "total", (json_int_t)all->total);
}

static json_t *describe_loop(md_runtime *rt)
{
    stall now;
    uint64_t stalls;
    double seconds;
    sentinel_stall(&rt->sentinel, &now);
    sentinel_count_stalls(&rt->sentinel, &stalls, &seconds);
    json_t *one = report_stall(&now);
    json_object_set_new(one, "stalls", json_integer((json_int_t)stalls));
    json_object_set_new(one, "stalled_seconds", json_real(seconds));
    return one;
}

static json_t *describe_supervision(const md_runtime *rt)
{
    const supervision *s = &rt->supervision;
    json_t *one = json_pack("{s:I, s:b}", "restarts", (json_int_t)supervision_restarts(s),
                            "fallback", runtime_is_fallback(rt));
    if (s->reason[0] != '\0')
        json_object_set_new(one, "last",
                            json_pack("{s:o, s:o, s:s}", "at", wall_time(s->at), "reason",
                                      report_text(s->reason), "script", s->script));
    return one;
}

static json_t *describe_error(const error *e)
{
    return json_pack("{s:s, s:s, s:o}", "code", e->code, "class", error_class_name(e->cls),
                     "message", report_text(e->message));
}

static json_t *describe_closure(const history_entry *h)
{
    const char *end = history_end_name(h->end);
    json_t *one =
        json_pack("{s:o, s:o, s:o, s:b, s:s, s:o, s:I}", "at", wall_time(h->at), "connection",
                  report_text(h->connection), "server", report_text(h->server), "closed", h->closed,
                  "reason", watchdog_reason_name(h->reason), "error", describe_error(&h->error),
                  "dials_failed", (json_int_t)h->dials_failed);
    json_object_set_new(one, "outage", h->outage >= 0 ? json_real(h->outage) : json_null());
    json_object_set_new(one, "end", end != NULL ? json_string(end) : json_null());
    if (h->dials_failed > 0)
        json_object_set_new(one, "last_error", describe_error(&h->last_error));
    return one;
}

json_t *report_closures(const struct history *all)
{
    json_t *list = json_array();
    for (unsigned i = 0; i < history_count(all); i++)
        json_array_append_new(list, describe_closure(history_at(all, i)));
    return json_pack("{s:o, s:I}", "closures", list, "total", (json_int_t)all->total);
}

static json_t *describe_outboxes(const struct outboxes *all)
{
    json_t *list = json_array();
    for (const struct outbox *o = all->first; o != NULL; o = outbox_after(o)) {
        outbox_status s;
        outbox_get_status(o, &s);
        json_t *one = json_pack("{s:o, s:s, s:I, s:I, s:I, s:f, s:I, s:I, s:I, s:I, s:I}", "path",
                                report_text(outbox_path(o)), "state", outbox_state_name(s.state),
                                "waiting", (json_int_t)s.waiting, "bytes", (json_int_t)s.bytes,
                                "set_aside", (json_int_t)s.set_aside, "oldest", s.oldest,
                                "forwarded", (json_int_t)s.forwarded, "duplicates",
                                (json_int_t)s.duplicates, "dropped", (json_int_t)s.dropped,
                                "expired", (json_int_t)s.expired, "refused", (json_int_t)s.refused);
        json_object_set_new(one, "error",
                            s.error.code[0] != '\0' ? describe_error(&s.error) : json_null());
        json_array_append_new(list, one);
    }
    return list;
}

static json_t *describe_posts(md_runtime *rt)
{
    unsigned waiting;
    uint64_t accepted, refused;
    posts_count(&rt->posts, &waiting, &accepted, &refused);
    return json_pack("{s:i, s:I, s:I}", "waiting", (int)waiting, "accepted", (json_int_t)accepted,
                     "refused", (json_int_t)refused);
}

static json_t *describe_messages(const struct messages *m)
{
    return json_pack("{s:I, s:I, s:I}", "subscriptions", (json_int_t)m->subscription_count,
                     "waiting", (json_int_t)subscriptions_waiting(m), "requests",
                     (json_int_t)m->request_count);
}

/* Of a program that has a runtime inside. */
static json_t *describe_host(md_runtime *rt)
{
    const struct events *e = &rt->events;
    return json_pack("{s:o, s:I, s:{s:I, s:I, s:I, s:I}, s:I, s:o, s:o}", "functions",
                     functions_names(&rt->functions), "calls", (json_int_t)rt->functions.calls,
                     "events", "emitted", (json_int_t)e->emitted, "unheard", (json_int_t)e->unheard,
                     "refused", (json_int_t)e->refused, "queued", (json_int_t)e->queued,
                     "evaluations", (json_int_t)rt->evaluations.count, "posts", describe_posts(rt),
                     "messages", describe_messages(rt->messages));
}

/* Whether a program of its own is around the runtime, as far as that has shown. */
static bool has_host(const md_runtime *rt)
{
    const struct events *e = &rt->events;
    return rt->functions.table != NULL || rt->functions.calls > 0 ||
           e->emitted + e->unheard + e->refused > 0 || rt->evaluations.count > 0 ||
           rt->posts.used || rt->messages->subscription_count > 0 ||
           rt->messages->request_count > 0;
}

json_t *report_status(md_runtime *rt)
{
    json_t *status = json_pack("{s:o, s:s, s:i, s:s, s:f}", "name", report_text(rt->name),
                               "version", md_version(), "pid", (int)getpid(), "state",
                               rt->stopping ? "stopping" : "running", "uptime",
                               (double)(clock_ms() - rt->created_at) / 1000.0);
    if (rt->generation != NULL) {
        json_object_set_new(status, "generation", describe_generation(rt->generation));
        json_t *connections = json_array();
        unsigned left = REPORT_SUBSCRIPTIONS_MAX;
        for (const struct binding *b = rt->generation->bindings; b != NULL; b = b->next)
            json_array_append_new(connections, describe_connection(b, &left));
        json_object_set_new(status, "connections", connections);
    }
    if (rt->outboxes.first != NULL)
        json_object_set_new(status, "outboxes", describe_outboxes(&rt->outboxes));
    if (has_host(rt))
        json_object_set_new(status, "host", describe_host(rt));
    json_object_set_new(status, "reloads", describe_reloads(&rt->reloads));
    json_object_set_new(status, "loop", describe_loop(rt));
    if (rt->supervision.active)
        json_object_set_new(status, "supervisor", describe_supervision(rt));
    return status;
}
