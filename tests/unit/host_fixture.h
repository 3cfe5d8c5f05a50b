/* A runtime on a loop of the test's own, without a server, for the tests of what host and script
 * tell each other. */
#ifndef MD_TESTS_HOST_FIXTURE_H
#define MD_TESTS_HOST_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>

#include <cmocka.h>

#include "moondog.h"

#define DEADLINE_MS 30000
#define TEXT_SIZE 4096

typedef struct {
    char folder[64], path[96];
    uv_loop_t loop;
    md_runtime *runtime;
    uv_timer_t deadline;
    uv_mutex_t lock; /* of the log */
    uv_cond_t grown;
    char *log; /* all lines so far */
    size_t logged;
    char told[TEXT_SIZE]; /* what tell(...) was called with, each followed by a space */
    int reloads;          /* that are over */
    char reload_code[32]; /* of the last one that failed */
} fixture;

static void write_script(const fixture *f, const char *text)
{
    FILE *out = fopen(f->path, "w");
    assert_non_null(out);
    assert_true(fputs(text, out) >= 0);
    assert_int_equal(fclose(out), 0);
}

/* On the log's own thread. */
static void on_log(void *closure, int level, const char *line, size_t length)
{
    fixture *f = closure;
    (void)level;
    uv_mutex_lock(&f->lock);
    f->log = realloc(f->log, f->logged + length + 2);
    if (f->log == NULL)
        abort();
    memcpy(f->log + f->logged, line, length);
    f->logged += length;
    f->log[f->logged++] = '\n';
    f->log[f->logged] = '\0';
    uv_cond_signal(&f->grown);
    uv_mutex_unlock(&f->lock);
}

static void on_late(uv_timer_t *timer)
{
    const fixture *f = timer->data;
    fail_msg("the loop ran for longer than %d ms; the script told: %s", DEADLINE_MS, f->told);
}

/* host.tell(...): what a script has to say. */
static void tell(void *closure, md_call *call)
{
    fixture *f = closure;
    for (size_t i = 0; i < md_call_count(call); i++) {
        const md_value *v = md_call_argument(call, i);
        size_t at = strlen(f->told);
        if (v->type == MD_STRING)
            snprintf(f->told + at, TEXT_SIZE - at, "%s ", v->as.string.data);
        else if (v->type == MD_NUMBER)
            snprintf(f->told + at, TEXT_SIZE - at, "%.14g ", v->as.number);
        else if (v->type == MD_BOOLEAN)
            snprintf(f->told + at, TEXT_SIZE - at, "%s ", v->as.boolean ? "true" : "false");
        else
            snprintf(f->told + at, TEXT_SIZE - at, "type %d ", v->type);
    }
}

/* A runtime with host.tell() and no script. */
static void create(fixture *f, size_t memory_cap)
{
    md_options o;
    md_error e = {0};
    *f = (fixture){0};
    snprintf(f->folder, sizeof f->folder, "/tmp/moondog-unit-XXXXXX");
    assert_non_null(mkdtemp(f->folder));
    snprintf(f->path, sizeof f->path, "%s/script.lua", f->folder);
    assert_int_equal(uv_mutex_init(&f->lock), 0);
    assert_int_equal(uv_cond_init(&f->grown), 0);
    assert_int_equal(uv_loop_init(&f->loop), 0);
    assert_int_equal(uv_timer_init(&f->loop, &f->deadline), 0);
    f->deadline.data = f;
    assert_int_equal(uv_timer_start(&f->deadline, on_late, DEADLINE_MS, 0), 0);
    uv_unref((uv_handle_t *)&f->deadline);
    md_options_init(&o);
    o.loop = &f->loop;
    o.log_write = on_log;
    o.log_closure = f;
    o.handler_budget_ms = 5000; /* sanitizers are slow */
    o.load_budget_ms = 10000;
    o.retire_ms = 2000;
    if (memory_cap > 0)
        o.memory_cap = memory_cap;
    f->runtime = md_create(&o, &e);
    if (f->runtime == NULL)
        fail_msg("%s", e.message);
    assert_int_equal(md_register(f->runtime, "tell", tell, f), 0);
}

static void load(fixture *f, const char *script)
{
    md_error e = {0};
    write_script(f, script);
    if (md_load(f->runtime, f->path, &e) != 0)
        fail_msg("%s", e.message);
}

static void end(fixture *f)
{
    if (f->runtime != NULL)
        assert_int_equal(md_free(f->runtime), 0);
    uv_close((uv_handle_t *)&f->deadline, NULL);
    uv_run(&f->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&f->loop), 0); /* nothing of the runtime is left in it */
    uv_mutex_destroy(&f->lock);
    uv_cond_destroy(&f->grown);
    free(f->log);
    unlink(f->path);
    rmdir(f->folder);
}

static inline void run_until_told(fixture *f, const char *text)
{
    while (strstr(f->told, text) == NULL)
        uv_run(&f->loop, UV_RUN_ONCE);
}

static void on_reloaded(void *closure, const md_reload_result *result, const md_error *e)
{
    fixture *f = closure;
    f->reloads++;
    if (result == NULL)
        snprintf(f->reload_code, sizeof f->reload_code, "%s", e->code);
}

static inline void reload(fixture *f, const char *script)
{
    md_error e = {0};
    int before = f->reloads;
    write_script(f, script);
    if (md_reload(f->runtime, 0, on_reloaded, f, &e) != 0)
        fail_msg("%s", e.message);
    while (f->reloads == before)
        uv_run(&f->loop, UV_RUN_ONCE);
    assert_string_equal(f->reload_code, "");
}

static inline void assert_status(const fixture *f, const char *part)
{
    char *text = md_status(f->runtime);
    assert_non_null(text);
    if (strstr(text, part) == NULL)
        fail_msg("no %s in %s", part, text);
    free(text);
}

/* The log's thread has it by now, or soon. */
static inline void wait_for_log(fixture *f, const char *part)
{
    int late = 0;
    uv_mutex_lock(&f->lock);
    while (late == 0 && (f->log == NULL || strstr(f->log, part) == NULL))
        late = uv_cond_timedwait(&f->grown, &f->lock, DEADLINE_MS * 1000000ull);
    uv_mutex_unlock(&f->lock);
    if (late != 0)
        fail_msg("no %s in the log:\n%s", part, f->log != NULL ? f->log : "");
}

#endif
