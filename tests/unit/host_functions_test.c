/* Functions of the host, called by scripts. */
#include "host_fixture.h"

#include "runtime_private.h"

static const char start[] = "local moondog = require 'moondog'\nmoondog.on_start(function()\n";

/* Loads a script whose on_start is `body`. */
static void start_with(fixture *f, const char *body)
{
    char script[4096];
    snprintf(script, sizeof script, "%s%s\nend)", start, body);
    load(f, script);
}

static void add(void *closure, md_call *call)
{
    double *offset = closure, sum = offset != NULL ? *offset : 0;
    for (size_t i = 0; i < md_call_count(call); i++)
        sum += md_call_argument(call, i)->as.number;
    assert_int_equal(md_call_argument(call, md_call_count(call))->type, MD_NIL);
    md_value result = md_number(sum);
    assert_int_equal(md_call_return(call, &result), 0);
}

static void arguments_and_results_are_plain_data(void **state)
{
    (void)state;
    fixture f;
    create(&f, 0);
    md_register(f.runtime, "add", add, NULL);
    start_with(&f, "host.tell(host.add(1, 2, 3), select('#', host.add()))");
    assert_string_equal(f.told, "6 1 ");
    end(&f);
}

static void echo(void *closure, md_call *call)
{
    (void)closure;
    for (size_t i = 0; i < md_call_count(call); i++)
        assert_int_equal(md_call_return(call, md_call_argument(call, i)), 0);
}

static void several_results_come_in_order(void **state)
{
    (void)state;
    fixture f;
    create(&f, 0);
    md_register(f.runtime, "echo", echo, NULL);
    start_with(&f,
               "local a, b, c, d = host.echo('a\\0b', { x = { 1, { y = false } } }, nil, -1)\n"
               "host.tell(#a, b.x[1], b.x[2].y, c == nil, d, select('#', host.echo(nil, nil)))");
    assert_string_equal(f.told, "3 1 false true -1 2 ");
    end(&f);
}

static void what_is_no_plain_data_is_the_scripts_error(void **state)
{
    (void)state;
    fixture f;
    create(&f, 0);
    md_register(f.runtime, "add", add, NULL);
    start_with(&f, "local ok, err = pcall(host.add, 1, { players = { 1, 2, print } })\n"
                   "host.tell(ok, (err:gsub('^.*/', '')))");
    assert_string_equal(
        f.told, "false script.lua:3: host.add: argument 2.players.3 is a function: host functions "
                "take plain data ");
    assert_status(&f, "\"calls\":1,"); /* of tell() */
    end(&f);
}

static void errors_name_the_line_of_the_script(void **state)
{
    (void)state;
    fixture f;
    create(&f, 0);
    md_register(f.runtime, "add", add, NULL);
    start_with(&f, "local ok, err = pcall(function() return (host.add(print)) end)\n"
                   "host.tell(ok, (err:gsub('^.*/', '')))");
    assert_string_equal(f.told, "false script.lua:3: host.add: argument 1 is a function: host "
                                "functions take plain data ");
    end(&f);
}

static void answer(void *closure, md_call *call)
{
    (void)closure;
    md_value result = md_string("not seen");
    const char *how = md_call_argument(call, 0)->as.string.data;
    md_call_return(call, &result);
    if (strcmp(how, "fail") == 0)
        md_call_fail(call, "no_player", "there is no such player");
    if (strcmp(how, "misuse") == 0)
        md_call_misuse(call, "a name is expected");
}

static void failure_and_misuse_are_told_apart(void **state)
{
    (void)state;
    fixture f;
    create(&f, 0);
    md_register(f.runtime, "answer", answer, NULL);
    start_with(
        &f, "local result, err = host.answer('fail')\n"
            "host.tell(result == nil, err.code, tostring(err), select('#', host.answer('fail')))\n"
            "local ok, text = pcall(function() host.answer('misuse') end)\n"
            "host.tell(ok, (text:gsub('^.*/', '')))");
    assert_string_equal(f.told, "true no_player there is no such player 2 false script.lua:5: "
                                "host.answer: a name is expected ");
    end(&f);
}

static void return_too_much(void *closure, md_call *call)
{
    (void)closure;
    md_value nested[MD_DEPTH_MAX + 1], none;
    nested[0] = md_list(NULL, 0);
    for (int i = 1; i <= MD_DEPTH_MAX; i++)
        nested[i] = md_list(&nested[i - 1], 1);
    assert_int_equal(md_call_return(call, &nested[0]), 0);
    if (md_call_argument(call, 0)->type == MD_STRING) {
        char *large = calloc(1, MD_DATA_BYTES_MAX);
        none = md_bytes(large, MD_DATA_BYTES_MAX);
        assert_int_equal(md_call_return(call, &none), -1);
        free(large);
        return;
    }
    assert_int_equal(md_call_return(call, &nested[MD_DEPTH_MAX]), -1);
}

static void results_that_are_too_large_fail_the_call(void **state)
{
    (void)state;
    fixture f;
    create(&f, 0);
    md_register(f.runtime, "get", return_too_much, NULL);
    start_with(&f, "local r, err = host.get() host.tell(r == nil, err.code)\n"
                   "r, err = host.get('large') host.tell(r == nil, err.code, err.message)");
    assert_string_equal(f.told,
                        "true too_deep true too_large result 2 of the function of the host: the "
                        "value has more than 8388608 bytes (MD_DATA_BYTES_MAX) ");
    end(&f);
}

static void names_have_to_be_identifiers(void **state)
{
    (void)state;
    fixture f;
    static const char *const bad[] = {"", "1a", "a-b", "a.b", "end", "a b", "\xc3\xa4", NULL};
    create(&f, 0);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++)
        assert_int_equal(md_register(f.runtime, bad[i], echo, NULL), -1);
    wait_for_log(&f, "name=a-b error=\"it is no identifier");
    assert_int_equal(md_register(f.runtime, "_a1", echo, NULL), 0);
    assert_int_equal(md_register(f.runtime, "never_there", NULL, NULL), 0);
    assert_status(&f, "\"functions\":[\"tell\",\"_a1\"]");
    end(&f);
}

static void what_is_not_registered_says_what_there_is(void **state)
{
    (void)state;
    fixture f;
    create(&f, 0);
    md_register(f.runtime, "add", add, NULL);
    start_with(&f, "local ok, err = pcall(host.nosuch)\n"
                   "host.tell((err:gsub('^.*/', '')))");
    assert_string_equal(
        f.told, "script.lua:3: host.nosuch is not registered: the host program offers tell, add ");
    end(&f);
}

static void the_global_is_the_hosts(void **state)
{
    (void)state;
    fixture f;
    create(&f, 0);
    start_with(&f, "local a, b = pcall(function() host.tell = print end)\n"
                   "local c, d = pcall(function() return host[1] end)\n"
                   "host.tell(a, (b:gsub('^.*/', '')))\n"
                   "host.tell(c, (d:gsub('^.*/', '')))\n"
                   "host.tell(tostring(host), getmetatable(host), host.tell == host.tell)");
    assert_string_equal(f.told, "false script.lua:3: host belongs to the host program: a script "
                                "cannot change it false script.lua:4: the index of host is a "
                                "number: it has functions, by their names functions of the host "
                                "program moondog.host true ");
    end(&f);
}

static void nothing_is_called_while_a_script_is_loaded(void **state)
{
    (void)state;
    fixture f;
    md_error e = {0};
    create(&f, 0);
    write_script(&f, "local tell = host.tell\ntell('too early')");
    assert_int_equal(md_load(f.runtime, f.path, &e), -1);
    assert_non_null(strstr(e.message, "script.lua:2: host.tell is called while the script is "
                                      "loaded, which only declares: call it from "
                                      "moondog.on_start()"));
    assert_string_equal(f.told, "");
    end(&f);
}

static void functions_change_under_a_script_at_work(void **state)
{
    (void)state;
    fixture f;
    double offset = 100;
    create(&f, 0);
    load(&f, "local moondog, add = require 'moondog', host.add\n"
             "moondog.on_event('go', function()\n"
             "  local ok, sum = pcall(add, 1)\n"
             "  host.tell(ok and sum or 'none')\n"
             "end)");
    assert_int_equal(md_emit(f.runtime, "go", NULL), 1);
    md_register(f.runtime, "add", add, NULL);
    md_emit(f.runtime, "go", NULL);
    md_register(f.runtime, "add", add, &offset);
    md_emit(f.runtime, "go", NULL);
    reload(&f, "local moondog, add = require 'moondog', host.add\n"
               "moondog.on_event('go', function() host.tell('new', add(2)) end)");
    md_emit(f.runtime, "go", NULL);
    md_register(f.runtime, "add", NULL, NULL);
    md_emit(f.runtime, "go", NULL);
    assert_string_equal(f.told, "none 1 101 new 102 ");
    wait_for_log(&f, "host.add is not registered");
    end(&f);
}

/* Takes itself away while it is called. */
static void once(void *closure, md_call *call)
{
    fixture *f = closure;
    md_value result = md_string("once");
    assert_int_equal(md_register(f->runtime, "once", NULL, NULL), 0);
    assert_int_equal(md_call_return(call, &result), 0);
}

static void a_function_may_take_itself_away(void **state)
{
    (void)state;
    fixture f;
    create(&f, 0);
    md_register(f.runtime, "once", once, &f);
    start_with(&f, "host.tell(host.once(), (pcall(host.once)))");
    assert_string_equal(f.told, "once false ");
    end(&f);
}

static void fill(void *closure, md_call *call)
{
    size_t *size = closure;
    char *bytes = calloc(1, *size);
    md_value items[6];
    for (size_t i = 0; i < 6; i++) /* each is another string */
        items[i] = md_bytes(bytes, *size - i);
    md_value list = md_list(items, 6);
    assert_int_equal(md_call_return(call, &list), 0);
    free(bytes);
}

static void results_that_the_script_has_no_memory_for_are_its_error(void **state)
{
    (void)state;
    fixture f;
    size_t size = 1024 * 1024;
    create(&f, 4u * 1024 * 1024);
    md_register(f.runtime, "fill", fill, &size);
    start_with(&f, "local ok, err = pcall(host.fill)\n"
                   "host.tell(ok, err)\n"
                   "moondog.spawn(function() host.fill() end)");
    assert_string_equal(f.told, "false not enough memory ");
    while (strstr(f.told, "after") == NULL) { /* it goes on as ever */
        md_error e = {0};
        uv_run(&f.loop, UV_RUN_ONCE);
        md_eval(f.runtime, "host.tell('after')", NULL, NULL, &e);
    }
    wait_for_log(&f, "the script may have 4 MB");
    end(&f);
}

static void policies_and_coroutines_may_call_it(void **state)
{
    (void)state;
    fixture f;
    create(&f, 0);
    load(&f, "local moondog = require 'moondog'\n"
             "local function policy(ctx) host.tell('policy') return 1000 end\n"
             "moondog.connect { servers = 'nats://127.0.0.1:1', reconnect = policy }\n"
             "moondog.on_start(function()\n"
             "  local co = coroutine.wrap(function() host.tell('coroutine') end) co()\n"
             "  table.sort({ 1, 2 }, function(a, b) host.tell('sort') return a < b end)\n"
             "end)");
    run_until_told(&f, "policy");
    assert_non_null(strstr(f.told, "coroutine sort "));
    end(&f);
}

/* What a function of the host may do with its runtime. */
static void control(void *closure, md_call *call)
{
    fixture *f = closure;
    md_error e = {0};
    const char *what = md_call_argument(call, 0)->as.string.data;
    if (strcmp(what, "stop") == 0) {
        md_stop(f->runtime);
    } else if (strcmp(what, "reload") == 0) {
        assert_int_equal(md_reload(f->runtime, 0, on_reloaded, f, &e), 0);
    } else if (strcmp(what, "previous") == 0) { /* there is none: it fails at once */
        assert_int_equal(md_reload(f->runtime, 1, on_reloaded, f, &e), 0);
    } else if (strcmp(what, "load") == 0) {
        assert_int_equal(md_load(f->runtime, f->path, &e), -1);
        assert_string_equal(e.code, "loaded");
    } else if (strcmp(what, "check") == 0) {
        char *report = NULL;
        assert_int_equal(md_check(f->runtime, f->path, 0, &report, &e), 0);
        free(report);
    }
    assert_int_equal(f->reloads, 0); /* nobody is told in here */
}

static void a_function_may_stop_the_runtime(void **state)
{
    (void)state;
    fixture f;
    create(&f, 0);
    md_register(f.runtime, "control", control, &f);
    load(&f, "local moondog = require 'moondog'\n"
             "moondog.on_start(function()\n"
             "  moondog.sleep(0)\n"
             "  host.control('stop')\n"
             "  host.tell('still here')\n"
             "end)\n"
             "moondog.on_unload(function() host.tell('unload') end)");
    assert_int_equal(md_run(f.runtime), 0);
    assert_string_equal(f.told, "still here unload ");
    end(&f);
}

static void a_function_may_reload_the_script(void **state)
{
    (void)state;
    fixture f;
    create(&f, 0);
    md_register(f.runtime, "control", control, &f);
    load(&f, "local moondog = require 'moondog'\n"
             "moondog.on_start(function()\n"
             "  if moondog.state.asked then return end\n" /* the next generation does not ask */
             "  moondog.state.asked = true\n"
             "  host.control('load') host.control('check') host.control('previous')\n"
             "  moondog.reload()\n" /* becomes one with it */
             "end)\n"
             "moondog.on_event('x', function() host.control('reload') host.tell('asked') end)");
    while (f.reloads == 0)
        uv_run(&f.loop, UV_RUN_ONCE);
    f.reloads = 0;
    write_script(&f, "require('moondog').on_start(function() host.tell('second') end)");
    assert_int_equal(md_emit(f.runtime, "x", NULL), 1);
    run_until_told(&f, "asked second ");
    end(&f);
}

static void on_completed(void *closure, json_t *result, const error *e, const char *traceback)
{
    json_t **items = closure;
    (void)traceback;
    if (result == NULL)
        fail_msg("%s", e->message);
    *items = json_incref(json_object_get(result, "items"));
    json_decref(result);
}

/* What a console offers behind `text`, as JSON. */
static char *complete(fixture *f, const char *text)
{
    static const console_observer observer = {.done = on_completed};
    const console_question q = {
        .kind = "complete", .text = text, .length = strlen(text), .name = "test", .width = 80};
    console c = {0};
    error e = {0};
    json_t *items = NULL;
    assert_non_null(console_begin(&c, f->runtime->generation, &q, &observer, &items, &e));
    while (items == NULL)
        uv_run(&f->loop, UV_RUN_ONCE);
    char *answer = json_dumps(items, JSON_COMPACT);
    json_decref(items);
    console_close(&c, f->runtime->generation);
    return answer;
}

static void consoles_complete_the_names(void **state)
{
    (void)state;
    fixture f;
    create(&f, 0);
    md_register(f.runtime, "team", add, NULL);
    load(&f, "local never_called = host.teapot");
    md_register(f.runtime, "add", add, NULL);
    char *all = complete(&f, "x = host."), *some = complete(&f, "host.te");
    assert_string_equal(all, "[\"add\",\"team\",\"tell\"]");
    assert_string_equal(some, "[\"team\",\"tell\"]");
    free(all);
    free(some);
    end(&f);
}

static void functions_are_gone_when_the_runtime_ends(void **state)
{
    (void)state;
    fixture f;
    create(&f, 0);
    load(&f, "local moondog = require 'moondog'\n"
             "moondog.on_start(function() while moondog.sleep(0.001) do host.tell('x') end end)");
    run_until_told(&f, "x x x ");
    char before[TEXT_SIZE];
    memcpy(before, f.told, sizeof before);
    end(&f);
    assert_string_equal(f.told, before);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(arguments_and_results_are_plain_data),
        cmocka_unit_test(several_results_come_in_order),
        cmocka_unit_test(what_is_no_plain_data_is_the_scripts_error),
        cmocka_unit_test(errors_name_the_line_of_the_script),
        cmocka_unit_test(failure_and_misuse_are_told_apart),
        cmocka_unit_test(results_that_are_too_large_fail_the_call),
        cmocka_unit_test(names_have_to_be_identifiers),
        cmocka_unit_test(what_is_not_registered_says_what_there_is),
        cmocka_unit_test(the_global_is_the_hosts),
        cmocka_unit_test(nothing_is_called_while_a_script_is_loaded),
        cmocka_unit_test(functions_change_under_a_script_at_work),
        cmocka_unit_test(a_function_may_take_itself_away),
        cmocka_unit_test(results_that_the_script_has_no_memory_for_are_its_error),
        cmocka_unit_test(policies_and_coroutines_may_call_it),
        cmocka_unit_test(a_function_may_stop_the_runtime),
        cmocka_unit_test(a_function_may_reload_the_script),
        cmocka_unit_test(consoles_complete_the_names),
        cmocka_unit_test(functions_are_gone_when_the_runtime_ends),
    };
    return cmocka_run_group_tests_name("host_functions", tests, NULL, NULL);
}
