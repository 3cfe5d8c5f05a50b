/* A running process: what it says of its connections, its script and its last outages, and which
 * limits are near. See process.h. Main thread. */
#include "doctor/process.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "cli/client.h"
#include "control/path.h"
#include "doctor/machine.h"
#include "doctor/moment.h"

#define NEAR_PERCENT 80u
#define OFTEN 5u /* closures in an hour */
#define HOUR_MS 3600000

/* ---- reading answers ---- */

static const char *text_of(const json_t *object, const char *key)
{
    const char *text = json_string_value(json_object_get(object, key));
    return text != NULL ? text : "";
}

static json_int_t number_of(const json_t *object, const char *key)
{
    return json_integer_value(json_object_get(object, key));
}

/* ms since 1970 of "2026-11-25T09:44:23.123Z"; 0: it is no time. */
static int64_t moment_of(const char *text)
{
    struct tm tm = {0};
    const char *rest = strptime(text, "%Y-%m-%dT%H:%M:%S", &tm);
    return rest != NULL ? (int64_t)timegm(&tm) * 1000 : 0;
}

/* ---- advice ---- */

static const char *advice_for(const char *class_name)
{
    static const struct {
        const char *name, *advice;
    } advice[] = {
        {"auth", "look at the credentials and at the server's users; a file is read again at each "
                 "dial, so a new one heals it without a restart"},
        {"network", "look whether the server runs and can be reached from here"},
        {"timeout", "look whether the server, or something on the way, hangs"},
        {"stale", "look at the load of the server, and what lies between: something drops packets "
                  "without a word"},
        {"tls", "look at the certificates: who signed them, for which names, until when"},
        {"limit", "raise the limit of the server or of the account, or use less"},
    };
    for (size_t i = 0; i < sizeof advice / sizeof advice[0]; i++)
        if (strcmp(advice[i].name, class_name) == 0)
            return advice[i].advice;
    return "look at the log of the server at this time";
}

/* ---- its connections ---- */

static void judge_link(findings *f, const json_t *c, const char *path)
{
    char since[MOMENT_TEXT_SIZE];
    const json_t *e = json_object_get(c, "error");
    const json_t *outage = json_object_get(c, "outage");
    const char *state = text_of(c, "state");
    if (json_is_true(json_object_get(c, "ready"))) {
        long long count = (long long)number_of(c, "subscriptions_total");
        finding(f, FINDING_OK, "connection", "it is up and ready, with %lld subscription%s at %s",
                count, count == 1 ? "" : "s", text_of(c, "server"));
        return;
    }
    bool stopped = strcmp(state, "stopped") == 0;
    finding(f, stopped ? FINDING_WARNING : FINDING_PROBLEM, "connection",
            "it is not ready: %s%s%s, attempt %lld%s%s", state,
            json_is_number(outage) ? ", down for " : "",
            json_is_number(outage) ? moment_span((int64_t)json_number_value(outage), since) : "",
            (long long)number_of(c, "attempt"), e != NULL ? ": " : "", text_of(e, "message"));
    if (stopped)
        finding_remedy(f, "the script has closed it; a reload opens it again");
    else
        finding_remedy(f, "%s; moondog doctor %s looks closer", advice_for(text_of(e, "class")),
                       path);
}

static void judge_pressure(findings *f, const json_t *c)
{
    unsigned pending = machine_percent((uint64_t)number_of(c, "pending_bytes"),
                                       (uint64_t)number_of(c, "pending_max"));
    if (pending >= NEAR_PERCENT) {
        finding(f, FINDING_WARNING, "pending", "%lld bytes wait to be sent, of %lld (%u %%)",
                (long long)number_of(c, "pending_bytes"), (long long)number_of(c, "pending_max"),
                pending);
        finding_remedy(f, "at the limit a publish is refused (pending_full): publish less while it "
                          "is down, or raise pending = { bytes = ... }");
    }
    if (number_of(c, "pending_dropped") > 0) {
        finding(f, FINDING_WARNING, "pending", "%lld publishes were refused since it runs",
                (long long)number_of(c, "pending_dropped"));
        finding_remedy(f, "raise pending = { bytes = ... }, or look at what publish returns");
    }
    if (number_of(c, "dropped") > 0) {
        finding(f, FINDING_WARNING, "dropped",
                "%lld messages were dropped: they came faster than they were handled",
                (long long)number_of(c, "dropped"));
        finding_remedy(f, "raise the subscription's pending, let its handler do less, or share the "
                          "work in a queue group; moondog top shows which one");
    }
    if (number_of(c, "hanging_links") > 0) {
        finding(f, FINDING_WARNING, "hanging", "%lld links hang inside the NATS library",
                (long long)number_of(c, "hanging_links"));
        finding_remedy(f,
                       "they are taken back when their sockets end; at 32 there are no new ones: "
                       "look for a server, or a proxy, that takes connections and says nothing");
    }
}

/* ---- its script ---- */

static void judge_script(findings *f, const json_t *status)
{
    const json_t *g = json_object_get(status, "generation");
    const json_t *last = json_object_get(json_object_get(status, "reloads"), "last_error");
    if (last != NULL && strcmp(text_of(last, "at"), text_of(g, "loaded_at")) > 0) {
        finding(f, FINDING_WARNING, "reload", "the last reload, at %s, failed: %s",
                text_of(last, "at"), text_of(last, "message"));
        finding_remedy(f, "correct the script and reload again; generation %lld goes on meanwhile",
                       (long long)number_of(g, "number"));
    }
    if (number_of(g, "errors") > 0) {
        finding(f, FINDING_WARNING, "script", "failures of functions of the script since %s: %lld",
                text_of(g, "loaded_at"), (long long)number_of(g, "errors"));
        finding_remedy(f, "moondog log --level error %s shows them, with their tracebacks",
                       text_of(status, "name"));
    }
    if (number_of(g, "memory_refusals") > 0) {
        finding(f, FINDING_WARNING, "script", "the script was refused memory %lld times",
                (long long)number_of(g, "memory_refusals"));
        finding_remedy(f, "look at what it keeps, or raise --memory");
    }
}

/* It answers, so its loop turns now. */
static void judge_loop(findings *f, const json_t *status)
{
    const json_t *loop = json_object_get(status, "loop");
    if (number_of(loop, "stalls") == 0)
        return;
    finding(f, FINDING_WARNING, "loop", "its loop stood still; stalls so far: %lld, %.1f s in all",
            (long long)number_of(loop, "stalls"),
            json_number_value(json_object_get(loop, "stalled_seconds")));
    finding_remedy(f,
                   "no message is handled meanwhile: moondog log %s names what held it; look "
                   "for a single call that takes long, and at the load of the machine",
                   text_of(status, "name"));
}

static void judge_restarts(findings *f, const json_t *status)
{
    const json_t *all = json_object_get(status, "supervisor");
    const json_t *last = json_object_get(all, "last");
    if (number_of(all, "restarts") == 0)
        return;
    finding(f, FINDING_WARNING, "restarts",
            "its supervisor has started it again; restarts so far: %lld, the last one at %s: %s",
            (long long)number_of(all, "restarts"), text_of(last, "at"), text_of(last, "reason"));
    if (json_is_true(json_object_get(all, "fallback")))
        finding_remedy(
            f, "an older script is at work, because the newer one was the cause: mend that, "
               "and take it with moondog reload");
    else
        finding_remedy(f, "what ended the process is in its log, before that time");
}

static void judge_process(findings *f, const json_t *status)
{
    finding(f, FINDING_OK, "process", "it runs as pid %lld, moondog %s, for %lld s",
            (long long)number_of(status, "pid"), text_of(status, "version"),
            (long long)json_number_value(json_object_get(status, "uptime")));
    judge_restarts(f, status);
    judge_loop(f, status);
    judge_script(f, status);
}

static void judge_connections(findings *f, const json_t *status)
{
    size_t i;
    json_t *c;
    const char *path = text_of(json_object_get(status, "generation"), "path");
    json_array_foreach(json_object_get(status, "connections"), i, c)
    {
        f->connection = text_of(c, "name");
        judge_link(f, c, path);
        judge_pressure(f, c);
    }
    f->connection = NULL;
}

/* ---- its closures ---- */

static void judge_closures(findings *f, const json_t *answer, int64_t now)
{
    size_t i;
    json_t *c;
    unsigned lately = 0;
    const json_t *last = NULL;
    json_array_foreach(json_object_get(answer, "closures"), i, c)
    {
        const char *reason = text_of(c, "reason");
        bool asked = strcmp(reason, "requested") == 0 || strcmp(reason, "lame_duck") == 0;
        if (!asked && now - moment_of(text_of(c, "at")) < HOUR_MS) {
            lately++;
            last = c;
        }
    }
    long long total = (long long)number_of(answer, "total");
    if (lately >= OFTEN) {
        finding(f, FINDING_WARNING, "closures", "its links were lost %u times within an hour",
                lately);
        finding_remedy(f, "%s", advice_for(text_of(json_object_get(last, "error"), "class")));
    } else if (total == 0) {
        finding(f, FINDING_OK, "closures", "no link was lost since it runs");
    } else {
        finding(f, FINDING_OK, "closures",
                "since it runs %lld link%s lost, %u within the last hour", total,
                total == 1 ? " was" : "s were", lately);
    }
}

/* ---- asking ---- */

static void nothing_runs(findings *f, const process_wish *wish, const error *e)
{
    finding(f, wish->optional ? FINDING_SKIPPED : FINDING_PROBLEM, "process", "%s", e->message);
    if (!wish->optional)
        finding_remedy(f, "give the file of a policy to look at its servers: moondog doctor FILE; "
                          "or the name of a process: --name NAME");
}

/* "result" of the answer, or NULL: why is said. The caller releases it. */
static json_t *ask(findings *f, const process_wish *wish, const char *path, const char *verb)
{
    error e = {0};
    json_t *answer = client_ask(path, verb, NULL, wish->timeout_ms, &e);
    json_t *result = json_incref(json_object_get(answer, "result"));
    const json_t *refusal = json_object_get(answer, "error");
    if (result == NULL && strcmp(e.code, "unreachable") == 0) {
        nothing_runs(f, wish, &e);
    } else if (result == NULL && strcmp(text_of(refusal, "code"), "unknown_verb") == 0) {
        finding(f, FINDING_SKIPPED, verb, "the process is of a version that does not tell this");
    } else if (result == NULL) {
        finding(f, FINDING_PROBLEM, "process", "it does not answer \"%s\": %s", verb,
                answer == NULL ? e.message : text_of(refusal, "message"));
        finding_remedy(f, "look at what it logs, and at its CPU: when its loop is stuck, restart "
                          "it");
    }
    json_decref(answer);
    return result;
}

json_t *process_check(findings *f, const process_wish *wish)
{
    char path[CONTROL_PATH_SIZE], name[CONTROL_PATH_SIZE];
    error e = {0};
    json_t *closures = NULL, *status = NULL;
    f->process = wish->name;
    if (client_find(wish->control, wish->name, path, sizeof path, &e) != 0) {
        nothing_runs(f, wish, &e);
        f->process = NULL;
        return NULL;
    }
    control_name(path, name, sizeof name);
    f->process = wish->name != NULL ? wish->name : name;
    status = ask(f, wish, path, "status");
    if (status != NULL)
        closures = ask(f, wish, path, "closures");
    if (status != NULL) {
        judge_process(f, status);
        machine_check_process(f, (int)number_of(status, "pid"));
    }
    if (closures != NULL)
        judge_closures(f, closures, (int64_t)time(NULL) * 1000);
    if (status != NULL)
        judge_connections(f, status);
    json_decref(status);
    f->process = NULL;
    return closures;
}
