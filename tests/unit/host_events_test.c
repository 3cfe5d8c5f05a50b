/* Events that the host tells scripts. */
#include "host_fixture.h"

static void handlers_run_in_their_order_with_data_of_their_own(void **state)
{
    (void)state;
    fixture f;
    create(&f, 0);
    load(&f, "local moondog = require 'moondog'\n"
             "moondog.on_event('join', function(data)\n"
             "  host.tell('first', data.name, #data.name) data.name = 'changed'\n"
             "end)\n"
             "moondog.on_event('join', function(data) host.tell('second', data.name) end)\n"
             "moondog.on_event('leave', function(data) host.tell(data == nil) end)");
    md_field field = {"name", md_bytes("a\0b", 3)};
    md_value data = md_map(&field, 1);
    assert_int_equal(md_emit(f.runtime, "join", &data), 2);
    assert_string_equal(f.told, "first a 3 second a ");
    assert_int_equal(md_emit(f.runtime, "leave", NULL), 1);
    assert_int_equal(md_emit(f.runtime, "nosuch", &data), 0);
    assert_string_equal(f.told, "first a 3 second a true ");
    assert_status(&f, "\"events\":{\"emitted\":2,\"unheard\":1,\"refused\":0,\"queued\":0}");
    end(&f);
}

static void without_a_script_nobody_hears(void **state)
{
    (void)state;
    fixture f;
    create(&f, 0);
    assert_int_equal(md_emit(f.runtime, "join", NULL), 0);
    end(&f);
}

static void an_error_ends_one_handler_only(void **state)
{
    (void)state;
    fixture f;
    create(&f, 0);
    load(&f, "local moondog = require 'moondog'\n"
             "moondog.on_event('x', function() error('oh no') end)\n"
             "moondog.on_event('x', function() host.tell('went on') end)");
    assert_int_equal(md_emit(f.runtime, "x", NULL), 2);
    assert_string_equal(f.told, "went on ");
    wait_for_log(&f, "event failed");
    wait_for_log(&f, "script.lua:2: oh no");
    end(&f);
}

static void handlers_may_wait(void **state)
{
    (void)state;
    fixture f;
    create(&f, 0);
    load(&f, "local moondog = require 'moondog'\n"
             "moondog.on_event('x', function(n) moondog.sleep(0.001) host.tell('slept', n) end)");
    md_value n = md_number(7);
    assert_int_equal(md_emit(f.runtime, "x", &n), 1);
    assert_string_equal(f.told, "");
    run_until_told(&f, "slept 7 ");
    end(&f);
}

static void handlers_may_be_given_at_any_time(void **state)
{
    (void)state;
    fixture f;
    create(&f, 0);
    load(&f,
         "local moondog = require 'moondog'\n"
         "local function again() host.tell('again') moondog.on_event('x', again) end\n"
         "moondog.on_start(function() host.tell(select('#', moondog.on_event('x', again))) end)\n"
         "moondog.on_event('bad', function()\n"
         "  for _, arguments in ipairs { {}, { 'x' }, { 'x', 1 }, { 1, print }, { 'a\\0b', print } "
         "} do\n"
         "    host.tell((pcall(moondog.on_event, arguments[1], arguments[2])))\n"
         "  end\n"
         "end)");
    assert_int_equal(md_emit(f.runtime, "x", NULL), 1); /* those that are there */
    assert_int_equal(md_emit(f.runtime, "x", NULL), 2);
    assert_string_equal(f.told, "0 again again again ");
    f.told[0] = '\0';
    assert_int_equal(md_emit(f.runtime, "bad", NULL), 1);
    assert_string_equal(f.told, "false false false true false ");
    end(&f);
}

static void what_cannot_be_told_is_refused(void **state)
{
    (void)state;
    fixture f;
    create(&f, 0);
    load(&f, "require('moondog').on_event('x', function() host.tell('never') end)");
    char *large = calloc(1, MD_DATA_BYTES_MAX);
    md_value data = md_bytes(large, MD_DATA_BYTES_MAX);
    assert_int_equal(md_emit(f.runtime, "x", &data), -1);
    free(large);
    data = md_list(NULL, 3);
    assert_int_equal(md_emit(f.runtime, "x", &data), -1);
    assert_string_equal(f.told, "");
    assert_status(&f, "\"refused\":2");
    wait_for_log(&f, "event refused");
    end(&f);
}

static void data_that_the_script_has_no_memory_for_is_its_failure(void **state)
{
    (void)state;
    fixture f;
    create(&f, 4u * 1024 * 1024);
    load(&f, "require('moondog').on_event('x', function(data) host.tell(#data) end)");
    char *large = calloc(1, 6u * 1024 * 1024);
    md_value data = md_bytes(large, 6u * 1024 * 1024), small = md_string("small");
    assert_int_equal(md_emit(f.runtime, "x", &data), 0);
    assert_int_equal(md_emit(f.runtime, "x", &small), 1);
    assert_string_equal(f.told, "5 ");
    free(large);
    wait_for_log(&f, "the script may have 4 MB");
    end(&f);
}

/* ---- reloads ---- */

/* host.released() */
static void is_released(void *closure, md_call *call)
{
    const bool *released = closure;
    md_value result = md_boolean(*released);
    assert_int_equal(md_call_return(call, &result), 0);
}

static void the_generation_at_work_gets_it(void **state)
{
    (void)state;
    fixture f;
    bool released = false;
    create(&f, 0);
    md_register(f.runtime, "released", is_released, &released);
    load(&f, "local moondog = require 'moondog'\n"
             "moondog.on_event('x', function() host.tell('old') end)\n"
             "moondog.on_event('wait', function()\n"
             "  repeat moondog.sleep(0.001) until host.released()\n"
             "  host.tell('finished')\n"
             "  host.tell((pcall(moondog.on_event, 'x', print))) end)");
    assert_int_equal(md_emit(f.runtime, "wait", NULL), 1);
    reload(&f, "local moondog = require 'moondog'\n"
               "moondog.on_event('x', function() host.tell('new') end)\n"
               "moondog.on_event('x', function() host.tell('new') end)");
    assert_int_equal(md_emit(f.runtime, "x", NULL), 2);
    assert_int_equal(md_emit(f.runtime, "wait", NULL), 0);
    released = true;
    run_until_told(&f, "finished false ");
    assert_string_equal(f.told, "new new finished false ");
    end(&f);
}

/* ---- from within functions of the host ---- */

/* host.emit(event, data): what md_emit() returned. */
static void emit(void *closure, md_call *call)
{
    const fixture *f = closure;
    int count =
        md_emit(f->runtime, md_call_argument(call, 0)->as.string.data, md_call_argument(call, 1));
    md_value result = md_number(count);
    assert_int_equal(md_call_return(call, &result), 0);
}

static void from_within_a_function_it_happens_soon_after(void **state)
{
    (void)state;
    fixture f;
    create(&f, 0);
    md_register(f.runtime, "emit", emit, &f);
    load(&f, "local moondog = require 'moondog'\n"
             "moondog.on_event('x', function(n) host.tell('x', n) end)\n"
             "moondog.on_start(function()\n"
             "  for i = 1, 3 do host.tell('emit', host.emit('x', i)) end\n"
             "  host.tell('started', host.emit('nosuch'))\n"
             "end)");
    assert_string_equal(f.told, "emit 1 emit 1 emit 1 started 0 ");
    assert_status(&f, "\"queued\":3");
    md_value four = md_number(4);
    assert_int_equal(md_emit(f.runtime, "x", &four), 1); /* behind those that wait */
    run_until_told(&f, "started 0 x 1 x 2 x 3 x 4 ");
    end(&f);
}

static void what_starts_with_a_swap_is_for_the_new_generation(void **state)
{
    (void)state;
    fixture f;
    create(&f, 0);
    md_register(f.runtime, "emit", emit, &f);
    load(&f, "require('moondog').on_event('old', function() host.tell('wrong') end)");
    reload(&f, "local moondog = require 'moondog'\n"
               "moondog.on_event('new', function() host.tell('right') end)\n"
               "moondog.on_start(function() host.tell(host.emit('new'), host.emit('old')) end)");
    run_until_told(&f, "1 0 right ");
    end(&f);
}

static void handlers_may_emit_what_they_handle(void **state)
{
    (void)state;
    fixture f;
    create(&f, 0);
    md_register(f.runtime, "emit", emit, &f);
    load(&f, "local moondog, depth = require 'moondog', 0\n"
             "moondog.on_event('x', function(n)\n"
             "  depth = depth + 1\n"
             "  assert(depth == 1)\n" /* never within each other */
             "  if n < 1000 then host.emit('x', n + 1) else host.tell('end', n) end\n"
             "  depth = depth - 1\n"
             "end)");
    md_value one = md_number(1);
    assert_int_equal(md_emit(f.runtime, "x", &one), 1);
    run_until_told(&f, "end 1000 ");
    assert_status(&f, "\"emitted\":1000,\"unheard\":0,\"refused\":0,\"queued\":0");
    end(&f);
}

static void the_queue_has_a_cap(void **state)
{
    (void)state;
    fixture f;
    create(&f, 0);
    md_register(f.runtime, "emit", emit, &f);
    load(&f, "local moondog, seen = require 'moondog', 0\n"
             "moondog.on_event('x', function(n)\n"
             "  seen = seen + 1\n"
             "  if seen == 65536 then host.tell('all', n) end\n"
             "end)\n"
             "moondog.on_start(function()\n"
             "  for i = 1, 65536 do assert(host.emit('x', i) == 1) end\n"
             "  for i = 1, 10 do host.tell(host.emit('x', 0)) end\n"
             "end)");
    assert_string_equal(f.told, "-1 -1 -1 -1 -1 -1 -1 -1 -1 -1 ");
    assert_status(&f, "\"refused\":10,\"queued\":65536");
    run_until_told(&f, "all 65536 ");
    assert_status(&f, "\"queued\":0");
    end(&f);
}

static void the_queue_has_a_cap_of_bytes(void **state)
{
    (void)state;
    fixture f;
    create(&f, 0);
    md_register(f.runtime, "emit", emit, &f);
    load(&f, "local moondog = require 'moondog'\n"
             "moondog.on_event('x', function() end)\n"
             "moondog.on_start(function()\n"
             "  local text, count = ('x'):rep(8 * 1024 * 1024 - 64), 0\n"
             "  while host.emit('x', text) == 1 do count = count + 1 end\n"
             "  host.tell(count)\n"
             "end)");
    assert_string_equal(f.told, "9 ");
    end(&f); /* what waits is forgotten */
}

/* ---- polls whose time is over ---- */

/* host.spin(): more than a poll has time for. */
static void spin(void *closure, md_call *call)
{
    (void)closure;
    (void)call;
    for (uint64_t end_at = uv_hrtime() + 3000000; uv_hrtime() < end_at;)
        ;
}

static void poll_until_told(fixture *f, const char *text)
{
    uint64_t late = uv_hrtime() + DEADLINE_MS * 1000000ull;
    while (strstr(f->told, text) == NULL) {
        assert_true(md_poll(f->runtime, 1000) >= 0);
        assert_true(uv_hrtime() < late);
    }
}

/* The poll has time for the first function of the first event only. */
static void an_event_that_is_told_in_part_comes_before_the_next_one(void **state)
{
    (void)state;
    fixture f;
    create(&f, 0);
    md_register(f.runtime, "emit", emit, &f);
    md_register(f.runtime, "spin", spin, NULL);
    load(&f, "local moondog = require 'moondog'\n"
             "moondog.on_event('x', function(n) host.tell('a', n) host.spin() end)\n"
             "moondog.on_event('x', function(n) host.tell('b', n) end)\n"
             "moondog.on_event('x', function(n) host.tell('c', n) end)\n"
             "moondog.on_start(function() moondog.sleep(0) host.emit('x', 1) end)");
    poll_until_told(&f, "a 1 ");
    assert_string_equal(f.told, "a 1 ");
    md_value two = md_number(2);
    assert_int_equal(md_emit(f.runtime, "x", &two), 3);
    poll_until_told(&f, "c 2 ");
    assert_string_equal(f.told, "a 1 b 1 c 1 a 2 b 2 c 2 ");
    assert_status(&f, "\"emitted\":2,\"unheard\":0,\"refused\":0,\"queued\":0");
    end(&f);
}

static void emit_late(md_runtime *rt, void *closure)
{
    const md_value *n = closure;
    spin(NULL, NULL);
    if (rt != NULL)
        assert_int_equal(md_emit(rt, "x", n), 2);
}

/* What the host emits in a poll that is late waits, and what it emits after the poll comes behind
 * it. */
static void events_of_a_late_poll_come_before_later_ones(void **state)
{
    (void)state;
    fixture f;
    md_value numbers[] = {md_number(1), md_number(2), md_number(3)};
    create(&f, 0);
    md_register(f.runtime, "spin", spin, NULL);
    load(&f, "local moondog = require 'moondog'\n"
             "moondog.on_event('x', function(n) host.tell('a', n) host.spin() end)\n"
             "moondog.on_event('x', function(n) host.tell('b', n) end)");
    while (md_poll(f.runtime, 1000) > 0)
        ;
    assert_int_equal(md_post(f.runtime, emit_late, &numbers[0]), 0);
    assert_int_equal(md_post(f.runtime, emit_late, &numbers[1]), 0);
    md_poll(f.runtime, 1000);
    assert_string_equal(f.told, "");
    assert_int_equal(md_emit(f.runtime, "x", &numbers[2]), 2);
    poll_until_told(&f, "b 2 ");
    assert_string_equal(f.told, "a 1 b 1 a 3 b 3 a 2 b 2 ");
    end(&f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(handlers_run_in_their_order_with_data_of_their_own),
        cmocka_unit_test(without_a_script_nobody_hears),
        cmocka_unit_test(an_error_ends_one_handler_only),
        cmocka_unit_test(handlers_may_wait),
        cmocka_unit_test(handlers_may_be_given_at_any_time),
        cmocka_unit_test(what_cannot_be_told_is_refused),
        cmocka_unit_test(data_that_the_script_has_no_memory_for_is_its_failure),
        cmocka_unit_test(the_generation_at_work_gets_it),
        cmocka_unit_test(from_within_a_function_it_happens_soon_after),
        cmocka_unit_test(what_starts_with_a_swap_is_for_the_new_generation),
        cmocka_unit_test(handlers_may_emit_what_they_handle),
        cmocka_unit_test(the_queue_has_a_cap),
        cmocka_unit_test(the_queue_has_a_cap_of_bytes),
        cmocka_unit_test(an_event_that_is_told_in_part_comes_before_the_next_one),
        cmocka_unit_test(events_of_a_late_poll_come_before_later_ones),
    };
    return cmocka_run_group_tests_name("host_events", tests, NULL, NULL);
}
