/* Evaluations that the host asks for. See eval.h and moondog.h. Loop thread. */
#include "host/eval.h"

#include <lauxlib.h>
#include <stdlib.h>
#include <string.h>

#include "host/value.h"
#include "runtime_private.h"
#include "script/compile.h"

#define NAME "eval" /* of the code, in messages */
#define WIDTH 80    /* nobody looks at it */

struct evaluation {
    md_runtime *rt;
    struct evaluation *next, *previous;
    md_eval_fn fn; /* NULL: nobody wants to know */
    void *closure;
    char *code; /* until it begins */
    size_t length;
    struct compilation *compilation;
    struct console_command *command; /* one of these at most */
    bool over;                       /* the host is to be told */
    arena arena;                     /* of the results */
    md_value *results;
    size_t count;
    md_error error; /* code "": none */
};

static const struct callback answer = {.ref = LUA_NOREF, .kind = "host", .name = "eval"};

static void end_with(struct evaluation *ev, const error *e, const char *traceback)
{
    ev->command = NULL;
    ev->compilation = NULL;
    ev->over = true;
    if (e->code[0] != '\0')
        runtime_error(&ev->error, e, traceback);
    hub_again(&ev->rt->hub);
}

/* ---- what the console tells ---- */

static void on_print(void *closure, const char *text, size_t length)
{
    struct evaluation *ev = closure;
    char *line = strndup(text, length);
    log_write(ev->rt->log, LOG_INFO, line != NULL ? line : "(no memory for what was printed)", NULL,
              0);
    free(line);
}

static int on_values(void *closure, lua_State *L, int first, error *e)
{
    struct evaluation *ev = closure;
    int count = lua_gettop(L) - first + 1;
    ev->results = arena_take(&ev->arena, (size_t)count * sizeof *ev->results);
    if (ev->results == NULL)
        return error_set(e, "no_memory", ERROR_CLASS_LIMIT, "no memory for the results");
    for (int i = 0; i < count; i++) {
        char root[32];
        snprintf(root, sizeof root, "result %d", i + 1);
        value_reader reader = {.arena = &ev->arena, .root = root, .tostring = 1, .e = e};
        if (value_read(&reader, L, first + i, &ev->results[i]) != 0)
            return -1;
    }
    ev->count = (size_t)count;
    return 0;
}

static void on_done(void *closure, json_t *result, const error *e, const char *traceback)
{
    (void)result; /* never: the values were taken */
    end_with(closure, e, traceback);
}

/* ---- beginning ---- */

static void begin_command(struct evaluation *ev, const char *kind, const char *text, size_t length)
{
    static const console_observer observer = {
        .print = on_print, .values = on_values, .done = on_done};
    md_runtime *rt = ev->rt;
    error e = {0};
    console_question q = {
        .kind = kind, .text = text, .length = length, .name = NAME, .width = WIDTH};
    ev->command = console_begin(&rt->evaluations.console, rt->generation, &q, &observer, ev, &e);
    if (ev->command == NULL)
        end_with(ev, &e, "");
}

static void on_compiled(void *closure, const char *bytecode, size_t size, const error *e)
{
    struct evaluation *ev = closure;
    ev->compilation = NULL;
    if (bytecode == NULL)
        end_with(ev, e, "");
    else
        begin_command(ev, "run", bytecode, size);
}

static void begin(struct evaluation *ev)
{
    md_runtime *rt = ev->rt;
    char *code = ev->code;
    ev->code = NULL;
    compile_order order = {.loop = rt->loop,
                           .handles = &rt->evaluations.handles,
                           .code = code,
                           .length = ev->length,
                           .name = NAME};
    error e = {0};
    if (ev->length <= COMPILE_INLINE_BYTES) {
        begin_command(ev, "eval", code, ev->length);
    } else if ((ev->compilation = compile_begin(&order, on_compiled, ev)) == NULL) {
        error_set(&e, "no_memory", ERROR_CLASS_LIMIT, "no memory to compile the code");
        end_with(ev, &e, "");
    }
    free(code);
}

/* ---- the list ---- */

static void unlink_evaluation(struct evaluation *ev)
{
    struct evaluations *all = &ev->rt->evaluations;
    *(ev->previous != NULL ? &ev->previous->next : &all->first) = ev->next;
    *(ev->next != NULL ? &ev->next->previous : &all->last) = ev->previous;
    all->count--;
}

static void evaluation_free(struct evaluation *ev)
{
    arena_free(&ev->arena);
    free(ev->code);
    free(ev);
}

/* It is in no list when the host is told: that may ask for the next one. */
static void tell(struct evaluation *ev)
{
    bool failed = ev->error.code[0] != '\0';
    unlink_evaluation(ev);
    const struct callback *outer = sentinel_host_enters(&ev->rt->sentinel, &answer);
    if (ev->fn != NULL)
        ev->fn(ev->closure, failed ? NULL : ev->results, failed ? 0 : ev->count,
               failed ? &ev->error : NULL);
    sentinel_host_leaves(&ev->rt->sentinel, outer);
    evaluation_free(ev);
}

/* NULL: there is none. Looked for from the start: what the host does meanwhile changes the list. */
static struct evaluation *first_over(const struct evaluations *all)
{
    struct evaluation *ev = all->first;
    while (ev != NULL && !ev->over)
        ev = ev->next;
    return ev;
}

void eval_turn(md_runtime *rt)
{
    struct evaluations *all = &rt->evaluations;
    if (all->first == NULL)
        return;
    for (struct evaluation *ev = all->first; ev != NULL; ev = ev->next)
        if (ev->code != NULL)
            begin(ev);
    for (struct evaluation *ev; (ev = first_over(all)) != NULL;) {
        if (hub_is_late(&rt->hub)) {
            hub_again(&rt->hub);
            return;
        }
        hub_serve(&rt->hub);
        tell(ev);
    }
}

void eval_end(md_runtime *rt)
{
    struct evaluations *all = &rt->evaluations;
    error e = {0};
    error_set(&e, "replaced", ERROR_CLASS_NONE, "the runtime ended before the evaluation was over");
    while (all->first != NULL) {
        struct evaluation *ev = all->first;
        if (ev->command != NULL)
            console_cancel(ev->command);
        if (ev->compilation != NULL)
            compile_forget(ev->compilation);
        if (!ev->over)
            end_with(ev, &e, "");
        tell(ev);
    }
    console_close(&all->console, rt->generation);
}

static int refuse(const md_runtime *rt, size_t length, error *e)
{
    if (rt->stopped)
        return error_set(e, "stopped", ERROR_CLASS_NONE, "the runtime has stopped");
    if (rt->generation == NULL)
        return error_set(e, "no_script", ERROR_CLASS_NONE, "this runtime has no script yet");
    if (length > CONSOLE_CODE_BYTES_MAX)
        return error_set(e, "too_large", ERROR_CLASS_LIMIT, "the code has %zu bytes, of %u at most",
                         length, CONSOLE_CODE_BYTES_MAX);
    if (rt->evaluations.count >= MD_EVALS_MAX)
        return error_set(e, "too_many", ERROR_CLASS_LIMIT,
                         "%u evaluations are under way: wait until one is over", MD_EVALS_MAX);
    return 0;
}

int md_eval(md_runtime *rt, const char *code, md_eval_fn fn, void *closure, md_error *out)
{
    struct evaluations *all = &rt->evaluations;
    error e = {0};
    if (code == NULL)
        return runtime_fail(out, "usage", "an evaluation without code");
    size_t length = strlen(code);
    if (refuse(rt, length, &e) != 0)
        return runtime_error(out, &e, "");
    struct evaluation *ev = calloc(1, sizeof *ev);
    if (ev == NULL || (ev->code = strdup(code)) == NULL) {
        free(ev);
        error_set(&e, "no_memory", ERROR_CLASS_LIMIT, "no memory for an evaluation");
        return runtime_error(out, &e, "");
    }
    ev->rt = rt;
    ev->length = length;
    ev->fn = fn;
    ev->closure = closure;
    ev->previous = all->last;
    *(all->last != NULL ? &all->last->next : &all->first) = ev;
    all->last = ev;
    all->count++;
    hub_again(&rt->hub);
    return 0;
}
