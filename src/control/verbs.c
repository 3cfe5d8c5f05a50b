/* The verbs of the control socket: what a request asks for. See protocol.md. Loop thread. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "control/session.h"
#include "control/streams.h"
#include "report.h"
#include "script/compile.h"

#define WIDTH 80        /* of a client that does not say */
#define LOGGED_CODE 200 /* bytes of a command that the log shows */

/* ---- reload ---- */

/* A reload cannot be taken back; whoever asked may be gone when it is over. */
struct reload_answer {
    struct request *request; /* NULL: nobody wants to know any more */
};

static void forget_reload(struct request *r)
{
    struct reload_answer *a = r->closure;
    a->request = NULL;
}

static void on_reloaded(void *closure, const md_reload_result *result, const md_error *e)
{
    struct reload_answer *a = closure;
    if (a->request != NULL && result != NULL)
        request_answer(a->request, report_reload(result));
    else if (a->request != NULL)
        request_refuse(a->request, e->code, e->message, e->traceback);
    free(a);
}

static void do_reload(struct request *r, json_t *args)
{
    md_error e = {0};
    int previous = json_is_true(json_object_get(args, "previous"));
    struct reload_answer *a = calloc(1, sizeof *a);
    if (a == NULL) {
        request_refuse(r, "no_memory", "no memory for an answer", "");
        return;
    }
    a->request = r;
    r->closure = a;
    r->cancel = forget_reload;
    if (md_reload(r->session->rt, previous, on_reloaded, a, &e) == 0)
        return;
    free(a);
    request_refuse(r, e.code, e.message, "");
}

/* ---- what is answered at once ---- */

static void do_status(struct request *r, json_t *args)
{
    (void)args;
    request_answer(r, report_status(r->session->rt));
}

static void do_errors(struct request *r, json_t *args)
{
    (void)args;
    request_answer(r, report_failures(&r->session->rt->failures));
}

/* Without a level: which one there is. */
static void do_level(struct request *r, json_t *args)
{
    md_runtime *rt = r->session->rt;
    const char *wanted = json_string_value(json_object_get(args, "level"));
    const char *before = log_level_name(log_get_level(rt->log));
    if (wanted != NULL && md_set_log_level(rt, wanted) != 0) {
        request_refuse(r, "usage", "there are the levels debug, info, warn, error and off", "");
        return;
    }
    request_answer(r, json_pack("{s:s, s:s}", "level", log_level_name(log_get_level(rt->log)),
                                "before", before));
}

static void do_closures(struct request *r, json_t *args)
{
    (void)args;
    request_answer(r, report_closures(&r->session->rt->hub.history));
}

static void do_stop(struct request *r, json_t *args)
{
    md_runtime *rt = r->session->rt;
    (void)args;
    log_emit(rt->log, LOG_INFO, "stop asked for", log_int("client", (int64_t)r->session->peer),
             log_int("uid", (int64_t)r->session->uid));
    request_answer(r, json_pack("{s:i}", "pid", (int)getpid()));
    md_stop(rt);
}

/* ---- the console ---- */

static void on_print(void *closure, const char *text, size_t length)
{
    struct request *r = closure;
    if (length > FRAME_BYTES_MAX || request_is_held(r)) { /* nothing is made of it in vain */
        request_drop(r, 1);
        return;
    }
    request_event(r, "print", json_pack("{s:o}", "text", report_bytes(text, length)));
}

static void on_done(void *closure, json_t *result, const error *e, const char *traceback)
{
    struct request *r = closure;
    r->cancel = NULL;
    if (result != NULL)
        request_answer(r, result);
    else
        request_refuse(r, e->code, e->message, traceback);
}

static void cancel_command(struct request *r)
{
    console_cancel(r->closure);
}

static void begin_command(struct request *r, const console_question *q)
{
    static const console_observer observer = {.print = on_print, .done = on_done};
    struct session *s = r->session;
    error e = {0};
    if (s->rt->generation == NULL) {
        request_refuse(r, "no_script", "this runtime has no script yet", "");
        return;
    }
    r->closure = console_begin(&s->console, s->rt->generation, q, &observer, r, &e);
    if (r->closure == NULL)
        request_refuse(r, e.code, e.message, "");
    else
        r->cancel = cancel_command;
}

/* The string, or NULL: then the request was refused. */
static const json_t *want_text(struct request *r, const json_t *args, const char *name)
{
    const json_t *text = json_object_get(args, name);
    if (json_is_string(text))
        return text;
    request_refuse(r, "bad_args", "args lack the text that the verb is about: see the protocol",
                   "");
    return NULL;
}

/* ---- large code ---- */

/* Compiled in a thread of the pool. The request may be gone when that is over. */
struct large_code {
    struct request *request;
    struct compilation *compilation;
    char name[80];
    int width;
};

static void on_compiled(void *closure, const char *bytecode, size_t size, const error *e)
{
    struct large_code *c = closure;
    struct request *r = c->request;
    r->cancel = NULL;
    if (bytecode == NULL)
        request_refuse(r, e->code, e->message, "");
    else
        begin_command(r, &(console_question){.kind = "run",
                                             .text = bytecode,
                                             .length = size,
                                             .name = c->name,
                                             .width = c->width});
    free(c);
}

static void forget_compilation(struct request *r)
{
    struct large_code *c = r->closure;
    compile_forget(c->compilation);
    free(c);
}

static void begin_compilation(struct request *r, const console_question *q)
{
    struct streams *streams = r->session->streams;
    compile_order order = {.loop = r->session->rt->loop,
                           .handles = &streams->handles,
                           .code = q->text,
                           .length = q->length,
                           .name = q->name};
    struct large_code *c = calloc(1, sizeof *c);
    if (c != NULL)
        c->compilation = compile_begin(&order, on_compiled, c);
    if (c == NULL || c->compilation == NULL) {
        free(c);
        request_refuse(r, "no_memory", "no memory to compile the code", "");
        return;
    }
    c->request = r;
    snprintf(c->name, sizeof c->name, "%s", q->name);
    c->width = q->width;
    r->closure = c;
    r->cancel = forget_compilation;
}

static void do_eval(struct request *r, json_t *args)
{
    const json_t *code = want_text(r, args, "code");
    const char *name = json_string_value(json_object_get(args, "name"));
    json_int_t width = json_integer_value(json_object_get(args, "width"));
    if (code == NULL)
        return;
    console_question q = {.kind = "eval",
                          .text = json_string_value(code),
                          .length = json_string_length(code),
                          .name = name != NULL ? name : "console",
                          .width = width > 0 && width < 1000 ? (int)width : WIDTH};
    size_t shown = q.length < LOGGED_CODE ? q.length : LOGGED_CODE;
    log_emit(r->session->rt->log, LOG_INFO, "console command",
             log_int("client", (int64_t)r->session->peer), log_int("uid", (int64_t)r->session->uid),
             log_bytes("code", q.text, shown), log_int("bytes", (int64_t)q.length));
    char message[80];
    snprintf(message, sizeof message, "the code has %zu bytes, of %u at most", q.length,
             CONSOLE_CODE_BYTES_MAX);
    if (q.length > CONSOLE_CODE_BYTES_MAX)
        request_refuse(r, "too_large", message, "");
    else if (q.length <= COMPILE_INLINE_BYTES)
        begin_command(r, &q);
    else
        begin_compilation(r, &q);
}

static void do_complete(struct request *r, json_t *args)
{
    const json_t *text = want_text(r, args, "text");
    if (text == NULL)
        return;
    begin_command(r, &(console_question){.kind = "complete",
                                         .text = json_string_value(text),
                                         .length = json_string_length(text),
                                         .name = "console",
                                         .width = WIDTH});
}

/* ---- all of them ---- */

static const struct {
    const char *name;
    void (*begin)(struct request *r, json_t *args);
} verbs[] = {
    {"status", do_status}, {"errors", do_errors},     {"reload", do_reload},
    {"stop", do_stop},     {"eval", do_eval},         {"complete", do_complete},
    {"level", do_level},   {"log", stream_log},       {"watch", stream_watch},
    {"tap", stream_tap},   {"closures", do_closures},
};

void verb_begin(struct request *r, const char *verb, json_t *args)
{
    for (size_t i = 0; i < sizeof verbs / sizeof verbs[0]; i++)
        if (strcmp(verbs[i].name, verb) == 0) {
            verbs[i].begin(r, args);
            return;
        }
    request_refuse(
        r, "unknown_verb",
        "there are the verbs status, errors, closures, reload, stop, eval, complete, log, watch, "
        "tap and cancel",
        "");
}
