/* `moondog doctor`: what is looked at, in which order, and how it is told: as JSON, or by
 * lua/moondog/cli_doctor.lua as text. See doctor.h. Main thread, blocking; each wait has a
 * deadline. */
#include "doctor/doctor.h"

#include <lauxlib.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/args.h"
#include "cli/render.h"
#include "doctor/account.h"
#include "doctor/credentials.h"
#include "doctor/findings.h"
#include "doctor/machine.h"
#include "doctor/process.h"
#include "doctor/server.h"
#include "doctor/tls.h"
#include "moondog.h"
#include "runtime_private.h"
#include "script/binding.h"
#include "script/generation.h"

#define TIMEOUT_S 5.0

struct visit {
    findings findings;
    uint32_t timeout_ms;
    unsigned left; /* threads that hang */
};

/* ---- a connection ---- */

/* The token of the script's function, as a dial would ask for it; in *token, to be freed. False: it
 * gives none, and there is no dial. */
static bool ask_token(struct visit *v, struct binding *b, char **token)
{
    struct generation *g = b->generation;
    struct failures *failures = g->limits.failures;
    *token = NULL;
    if (!callback_is_set(&b->token))
        return true;
    uint64_t before = failures->total;
    g->loading = true; /* it is in no connection's place, and cannot send, nor start anything */
    bool given = binding_ask_token(b, token);
    g->loading = false;
    if (given) {
        finding(&v->findings, FINDING_OK, "credentials", "its function gives a token");
        return true;
    }
    const char *why = "it says nothing";
    if (failures->total > before)
        why = failures->records[(failures->total - 1) % FAILURES_MAX].text;
    finding(&v->findings, FINDING_PROBLEM, "credentials", "its token function gives none: %s",
            why != NULL ? why : "no memory to tell why");
    finding_remedy(&v->findings, "without a token there is no dial: the function has to return a "
                                 "string, without waiting, within its budget of 100 ms");
    return false;
}

static void visit_server(struct visit *v, const struct binding *b, int number, const char *token)
{
    char shown[256];
    server s;
    findings *f = &v->findings;
    const link_options *o = b->options.link;
    f->server = link_redact_url(o->servers[number], shown, sizeof shown);
    if (server_reach(&s, f, o, o->servers[number], v->timeout_ms)) {
        if (s.wants_tls)
            tls_check_server(f, &s, o, v->timeout_ms);
        server_check_discovered(&s, f, o, v->timeout_ms);
        v->left += account_check(f, o, number, token, v->timeout_ms);
    }
    server_leave(&s);
    f->server = NULL;
}

static void visit_connection(struct visit *v, struct binding *b)
{
    char *token = NULL;
    findings *f = &v->findings;
    const link_options *o = b->options.link;
    f->connection = b->name;
    credentials_check(f, o, callback_is_set(&b->token));
    tls_check_files(f, o);
    if (ask_token(v, b, &token))
        for (int i = 0; i < o->server_count; i++)
            visit_server(v, b, i, token);
    else
        finding(f, FINDING_SKIPPED, "login", "its servers are not looked at without a token");
    if (token != NULL)
        explicit_bzero(token, strlen(token));
    free(token);
    f->connection = NULL;
}

/* ---- a policy ---- */

static void cannot_load(struct visit *v, const char *message)
{
    finding(&v->findings, FINDING_PROBLEM, "script", "%s", message);
    finding_remedy(&v->findings, "correct it; moondog check shows more, and dials nobody");
}

static void visit_generation(struct visit *v, struct generation *g, const char *file)
{
    char traceback[sizeof((md_error *)NULL)->traceback];
    error e = {0};
    if (generation_load(g, file, NULL, &e, traceback, sizeof traceback) != 0) {
        cannot_load(v, e.message);
        return;
    }
    if (g->bindings == NULL) {
        finding(&v->findings, FINDING_WARNING, "script", "%s declares no connection", file);
        finding_remedy(&v->findings, "call moondog.connect{...} at its top level");
    }
    for (struct binding *b = g->bindings; b != NULL; b = b->next)
        visit_connection(v, b);
}

/* Its declarations are loaded as `moondog check` does, and nothing of them is put to work. */
static void visit_policy(struct visit *v, const char *file)
{
    md_options o;
    md_error e = {0};
    md_options_init(&o);
    o.log_level = "off"; /* what fails becomes a finding */
    md_runtime *rt = md_create(&o, &e);
    if (rt == NULL) {
        cannot_load(v, e.message);
        return;
    }
    struct generation *g = generation_new(&rt->limits, 1);
    if (g == NULL)
        cannot_load(v, "no memory for a lua_State");
    else
        visit_generation(v, g, file);
    retire_discard(rt, g);
    v->left += md_free(rt);
}

/* ---- telling ---- */

/* Takes the closures; NULL: they are not known. */
static int tell(lua_State *L, const findings *f, json_t *closures)
{
    json_t *list = json_object_get(closures, "closures");
    json_t *report = json_pack("{s:b, s:I, s:I, s:O, s:O?}", "ok", f->problems == 0, "problems",
                               (json_int_t)f->problems, "warnings", (json_int_t)f->warnings,
                               "findings", f->list, "closures", list);
    char *json = report != NULL ? json_dumps(report, JSON_COMPACT | JSON_REAL_PRECISION(9)) : NULL;
    int code = EXIT_FAILED;
    if (json == NULL)
        fprintf(stderr, "moondog: no memory for the report\n");
    else if (args_flag(L, "json"))
        code = printf("%s\n", json) >= 0 ? EXIT_DONE : EXIT_FAILED;
    else
        code = render_print(L, "moondog.cli_doctor", NULL, json);
    free(json);
    json_decref(report);
    json_decref(closures);
    return code == EXIT_DONE && f->problems > 0 ? EXIT_FAILED : code;
}

int doctor(lua_State *L, unsigned *left)
{
    struct visit v = {.timeout_ms = (uint32_t)(args_number(L, "timeout", TIMEOUT_S) * 1000)};
    const char *file = args_string(L, "file", NULL);
    if (findings_init(&v.findings) != 0) {
        fprintf(stderr, "moondog: no memory\n");
        return EXIT_FAILED;
    }
    machine_check_clock(&v.findings);
    if (file != NULL) {
        machine_check_descriptors(&v.findings);
        visit_policy(&v, file);
    }
    process_wish wish = {.control = args_string(L, "control", NULL),
                         .name = args_string(L, "name", NULL),
                         .optional = file != NULL,
                         .timeout_ms = (int)v.timeout_ms};
    int code = tell(L, &v.findings, process_check(&v.findings, &wish));
    findings_clear(&v.findings);
    *left += v.left;
    return code;
}
