/* The C interface: a runtime in a program with a loop of its own. What needs a server is tested by
 * the scenarios. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>

#include <cmocka.h>

#include "moondog.h"

#define DEADLINE_MS 20000

typedef struct {
    char folder[64], path[96];
    uv_loop_t loop;
    md_runtime *runtime;
    uv_timer_t deadline;
    int answers;         /* of reloads */
    uint32_t generation; /* of the last one that worked */
    char code[32];       /* of the last one that did not */
} fixture;

static void write_script(const fixture *f, const char *text)
{
    FILE *out = fopen(f->path, "w");
    assert_non_null(out);
    assert_true(fputs(text, out) >= 0);
    assert_int_equal(fclose(out), 0);
}

static void nothing(void *closure, int level, const char *line, size_t length)
{
    (void)closure;
    (void)level;
    (void)line;
    (void)length;
}

static void on_late(uv_timer_t *timer)
{
    (void)timer;
    fail_msg("the loop ran for longer than %d ms", DEADLINE_MS);
}

static void begin(fixture *f, const char *script)
{
    md_options o;
    md_error e = {0};
    *f = (fixture){0};
    snprintf(f->folder, sizeof f->folder, "/tmp/moondog-unit-XXXXXX");
    assert_non_null(mkdtemp(f->folder));
    snprintf(f->path, sizeof f->path, "%s/script.lua", f->folder);
    write_script(f, script);
    assert_int_equal(uv_loop_init(&f->loop), 0);
    assert_int_equal(uv_timer_init(&f->loop, &f->deadline), 0);
    assert_int_equal(uv_timer_start(&f->deadline, on_late, DEADLINE_MS, 0), 0);
    uv_unref((uv_handle_t *)&f->deadline);
    md_options_init(&o);
    o.loop = &f->loop;
    o.log_write = nothing;
    o.load_budget_ms = 300;
    f->runtime = md_create(&o, &e);
    if (f->runtime == NULL)
        fail_msg("%s", e.message);
    if (md_load(f->runtime, f->path, &e) != 0)
        fail_msg("%s", e.message);
}

static void end(fixture *f)
{
    md_free(f->runtime);
    uv_close((uv_handle_t *)&f->deadline, NULL);
    uv_run(&f->loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&f->loop), 0); /* nothing of the runtime is left in it */
    unlink(f->path);
    rmdir(f->folder);
}

static void on_reloaded(void *closure, const md_reload_result *result, const md_error *e)
{
    fixture *f = closure;
    assert_true((result == NULL) != (e == NULL));
    f->answers++;
    if (result != NULL)
        f->generation = result->generation;
    else
        snprintf(f->code, sizeof f->code, "%s", e->code);
}

static void ask(fixture *f, int previous)
{
    md_error e = {0};
    if (md_reload(f->runtime, previous, on_reloaded, f, &e) != 0)
        fail_msg("%s", e.message);
}

static void run_until(fixture *f, int answers)
{
    while (f->answers < answers)
        uv_run(&f->loop, UV_RUN_ONCE);
}

static void reloads_come_one_after_the_other(void **state)
{
    (void)state;
    fixture f;
    begin(&f, "require('moondog').state.a = 1");
    ask(&f, 0);
    run_until(&f, 1);
    assert_int_equal(f.generation, 2);
    write_script(&f, "local x = = 1");
    ask(&f, 0);
    ask(&f, 1);
    run_until(&f, 3);
    assert_string_equal(f.code, "syntax");
    assert_int_equal(f.generation, 3);
    for (int i = 0; i < 20; i++)
        ask(&f, 1); /* those that wait while one is under way become one */
    run_until(&f, 23);
    assert_int_equal(f.generation, 5);
    end(&f);
}

static void there_has_to_be_one_before(void **state)
{
    (void)state;
    fixture f;
    begin(&f, "");
    ask(&f, 1);
    run_until(&f, 1);
    assert_string_equal(f.code, "no_previous");
    end(&f);
}

static void a_runtime_without_a_script_has_nothing_to_reload(void **state)
{
    (void)state;
    md_options o;
    md_error e = {0};
    md_options_init(&o);
    o.log_write = nothing;
    md_runtime *rt = md_create(&o, &e);
    assert_non_null(rt);
    assert_int_equal(md_reload(rt, 0, on_reloaded, NULL, &e), -1);
    assert_string_equal(e.code, "no_script");
    md_free(rt);
}

static void the_end_comes_in_the_middle_of_a_load(void **state)
{
    (void)state;
    fixture f;
    begin(&f, "");
    write_script(&f, "local stop = os.clock() + 0.2 while os.clock() < stop do end");
    ask(&f, 0);
    ask(&f, 0); /* waits for the first */
    end(&f);
    assert_int_equal(f.answers, 2);
    assert_string_equal(f.code, "stopping");
}

static void a_stop_in_the_middle_of_a_load_puts_nothing_to_work(void **state)
{
    (void)state;
    fixture f;
    md_error e = {0};
    begin(&f, "");
    write_script(&f, "local stop = os.clock() + 0.1 while os.clock() < stop do end");
    ask(&f, 0);
    md_stop(f.runtime);
    assert_int_equal(md_reload(f.runtime, 0, NULL, NULL, &e), -1);
    assert_string_equal(e.code, "stopping");
    assert_int_equal(md_run(f.runtime), 0);
    end(&f);
    assert_int_equal(f.answers, 1);
    assert_string_equal(f.code, "stopping");
}

static void the_end_comes_while_old_generations_wait(void **state)
{
    (void)state;
    fixture f;
    begin(&f, "local m = require('moondog')\n"
              "for i = 1, 10 do m.spawn(m.sleep, 1000) end\n"
              "m.every(0.001, function() end)\n"
              "m.connect { name = 'a', servers = 'nats://127.0.0.1:1' }\n"
              "  :subscribe('x', function() end)");
    for (int i = 1; i <= 30; i++) {
        ask(&f, 0);
        run_until(&f, i);
    }
    assert_int_equal(f.generation, 31);
    end(&f);
}

static void the_status_is_json(void **state)
{
    (void)state;
    fixture f;
    begin(&f, "require('moondog').connect { servers = 'nats://127.0.0.1:1' }");
    char *text = md_status(f.runtime);
    assert_non_null(text);
    assert_non_null(strstr(text, "\"generation\":{\"number\":1,"));
    assert_non_null(strstr(text, "\"retiring\":0"));
    free(text);
    end(&f);
}

static void check_tells_mistakes_from_errors(void **state)
{
    (void)state;
    fixture f;
    md_error e = {0};
    char *report = NULL;
    begin(&f, "require('moondog').connect {}");
    assert_int_equal(md_check(f.runtime, f.path, 0, &report, &e), 0);
    assert_non_null(report);
    free(report);
    write_script(&f, "");
    assert_int_equal(md_check(f.runtime, f.path, 1, &report, &e), 1);
    assert_non_null(strstr(report, "\"ok\":false"));
    free(report);
    report = NULL;
    write_script(&f, "error('no')");
    assert_int_equal(md_check(f.runtime, f.path, 0, &report, &e), -1);
    assert_null(report);
    assert_string_equal(e.code, "script");
    end(&f);
}

/* Last: its thread goes on until the process ends. */
static void a_load_that_hangs_is_left_to_itself(void **state)
{
    (void)state;
    fixture f;
    begin(&f, "");
    write_script(&f, "local s = ('a'):rep(5000) s:find(('a-'):rep(60) .. 'b')");
    ask(&f, 0);
    run_until(&f, 1);
    assert_string_equal(f.code, "hanging");
    write_script(&f, "");
    ask(&f, 0);
    run_until(&f, 2);
    assert_int_equal(f.generation, 2);
    end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(reloads_come_one_after_the_other),
        cmocka_unit_test(there_has_to_be_one_before),
        cmocka_unit_test(a_runtime_without_a_script_has_nothing_to_reload),
        cmocka_unit_test(the_end_comes_in_the_middle_of_a_load),
        cmocka_unit_test(a_stop_in_the_middle_of_a_load_puts_nothing_to_work),
        cmocka_unit_test(the_end_comes_while_old_generations_wait),
        cmocka_unit_test(the_status_is_json),
        cmocka_unit_test(check_tells_mistakes_from_errors),
        cmocka_unit_test(a_load_that_hangs_is_left_to_itself),
    };
    return cmocka_run_group_tests_name("runtime", tests, NULL, NULL);
}
