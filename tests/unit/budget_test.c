/* Time budgets with real Lua states and the real sentinel: what lasts too long is stopped, whatever
 * the script does about it, and what does not is left alone. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <lauxlib.h>
#include <luajit.h>
#include <lualib.h>
#include <sched.h>
#include <string.h>

#include "script/sentinel.h"

#define SHORT_MS 30u
#define AGES_MS (3600u * 1000u) /* longer than any test may last */

/* A state and its budget. */
typedef struct {
    sentinel *sentinel;
    lua_State *L;
    lua_Hook resting; /* while nothing is stopped */
    budget budget;
} box;

static int with_signal(void **state)
{
    static sentinel s;
    *state = &s;
    return budget_take_signal(SIGURG) != 0 || sentinel_start(&s, SIGURG) != 0 ? -1 : 0;
}

static int without_signal(void **state)
{
    static sentinel s;
    *state = &s;
    return sentinel_start(&s, 0);
}

static int close_sentinel(void **state)
{
    sentinel_stop(*state);
    return 0;
}

static void box_open(box *b, sentinel *s)
{
    b->sentinel = s;
    b->L = luaL_newstate();
    assert_non_null(b->L);
    luaL_openlibs(b->L);
    /* As for scripts: no hook stops a compiled trace. */
    assert_int_not_equal(luaJIT_setmode(b->L, 0, LUAJIT_MODE_ENGINE | LUAJIT_MODE_OFF), 0);
    budget_watch(s, &b->budget, b->L);
    b->resting = lua_gethook(b->L);
}

static void box_close(box *b)
{
    budget_forget(b->sentinel, &b->budget);
    lua_close(b->L);
}

static void load(box *b, const char *code)
{
    if (luaL_loadstring(b->L, code) != 0)
        fail_msg("%s", lua_tostring(b->L, -1));
}

/* Runs the code in an entry. Its result or error is on the stack. Returns lua_pcall()'s. */
static int run(box *b, uint32_t limit_ms, const char *code, bool *stopped)
{
    lua_settop(b->L, 0);
    load(b, code);
    budget_enter(&b->budget, limit_ms, NULL);
    int status = lua_pcall(b->L, 0, 1, 0);
    *stopped = budget_leave(&b->budget);
    return status;
}

static void expect_stopped(box *b, const char *code)
{
    bool stopped = false;
    uint64_t before = atomic_load(&b->budget.overruns);
    assert_int_equal(run(b, SHORT_MS, code, &stopped), LUA_ERRRUN);
    assert_true(stopped);
    assert_int_equal(atomic_load(&b->budget.overruns), before + 1);
    if (strstr(lua_tostring(b->L, -1), "time budget of 30 ms exceeded") == NULL)
        fail_msg("\"%s\"", lua_tostring(b->L, -1));
}

static void expect_untouched(box *b, const char *code)
{
    bool stopped = true;
    if (run(b, AGES_MS, code, &stopped) != 0)
        fail_msg("%s", lua_tostring(b->L, -1));
    assert_false(stopped);
}

static void expect_all_stopped(sentinel *s, const char *const *codes, size_t count)
{
    box b;
    box_open(&b, s);
    for (size_t i = 0; i < count; i++) {
        expect_stopped(&b, codes[i]);
        expect_untouched(&b, "return 1"); /* the state is as good as new */
    }
    assert_int_equal(atomic_load(&b.budget.overruns), count);
    box_close(&b);
}

/* ---- what does not end ---- */

static void endless_loops_are_stopped(void **state)
{
    static const char *const codes[] = {
        "while true do end",
        "repeat until false",
        "local function f() return f() end f()",
        "for i = 1, math.huge do local t = {i} end",
        "local t = setmetatable({}, {__index = function() while true do end end}) return t.x",
        "table.sort({3, 2, 1}, function() while true do end end)",
        "string.gsub('a', 'a', function() while true do end end)",
    };
    expect_all_stopped(*state, codes, sizeof codes / sizeof codes[0]);
}

static void catching_the_error_does_not_help(void **state)
{
    static const char *const codes[] = {
        "while true do pcall(function() while true do end end) end",
        "local function f() while true do pcall(f) end end f()",
        "while true do xpcall(function() while true do end end, function(m) return m end) end",
        "pcall(function() while true do end end) while true do end",
        "pcall(function() while true do end end) error('another')  while true do end",
    };
    expect_all_stopped(*state, codes, sizeof codes / sizeof codes[0]);
}

static void coroutines_do_not_help(void **state)
{
    static const char *const codes[] = {
        "coroutine.wrap(function() while true do end end)()",
        "while true do coroutine.resume(coroutine.create(function() while true do end end)) end",
        "local f = coroutine.wrap(function() while true do coroutine.yield() end end)"
        " while true do f() end",
        "while true do pcall(coroutine.wrap(function()"
        "   pcall(function() while true do end end) coroutine.yield() end)) end",
    };
    expect_all_stopped(*state, codes, sizeof codes / sizeof codes[0]);
}

static void a_hook_of_the_script_does_not_help(void **state)
{
    static const char *const codes[] = {
        "debug.sethook(function() end, '', 1) while true do end",
        "while true do debug.sethook() end",
    };
    expect_all_stopped(*state, codes, sizeof codes / sizeof codes[0]);
}

/* ---- what ends ---- */

static void an_entry_that_ends_in_time_is_untouched(void **state)
{
    box b;
    box_open(&b, *state);
    expect_untouched(&b, "local n = 0 for i = 1, 100000 do n = n + i end return n");
    assert_true(lua_tonumber(b.L, -1) == 5000050000.0);
    assert_ptr_equal(lua_gethook(b.L), b.resting);
    assert_int_equal(atomic_load(&b.budget.overruns), 0);
    box_close(&b);
}

static void an_error_in_time_is_only_an_error(void **state)
{
    box b;
    box_open(&b, *state);
    bool stopped = true;
    assert_int_equal(run(&b, AGES_MS, "error('mine', 0)", &stopped), LUA_ERRRUN);
    assert_false(stopped);
    assert_string_equal(lua_tostring(b.L, -1), "mine");
    assert_int_equal(atomic_load(&b.budget.overruns), 0);
    box_close(&b);
}

/* A small step of Lua in an entry of its own. */
static bool step(box *b, uint32_t limit_ms)
{
    budget_enter(&b->budget, limit_ms, NULL);
    lua_pushvalue(b->L, 1);
    lua_call(b->L, 0, 0);
    return budget_leave(&b->budget);
}

/* Together they last longer than one may, and the sentinel looks at them many times. */
static void many_short_entries_are_not_taken_for_a_long_one(void **state)
{
    enum { LIMIT_MS = 1000 };
    box b;
    box_open(&b, *state);
    load(&b, "local n = 0 for i = 1, 10 do n = n + i end");
    uint64_t start = uv_hrtime();
    uint64_t longest = 0;
    uint64_t last = start;
    uint64_t stops = 0;
    while (last - start < 3u * LIMIT_MS * 1000000u / 2) {
        stops += step(&b, LIMIT_MS);
        uint64_t now = uv_hrtime();
        longest = now - last > longest ? now - last : longest;
        last = now;
    }
    /* A machine may be so loaded that one does last that long. */
    if (longest < LIMIT_MS / 2 * 1000000u)
        assert_int_equal(stops, 0);
    box_close(&b);
}

static void the_next_entry_starts_anew(void **state)
{
    box b;
    box_open(&b, *state);
    for (int i = 0; i < 5; i++) {
        expect_stopped(&b, "while true do end");
        assert_ptr_equal(lua_gethook(b.L), b.resting);
        expect_untouched(&b, "for i = 1, 10000 do pcall(error, i) end");
    }
    assert_int_equal(atomic_load(&b.budget.overruns), 5);
    box_close(&b);
}

/* ---- nesting ---- */

static void the_outermost_limit_counts_when_it_is_short(void **state)
{
    box b;
    box_open(&b, *state);
    load(&b, "while true do end");
    budget_enter(&b.budget, SHORT_MS, NULL);
    budget_enter(&b.budget, AGES_MS, NULL);
    assert_int_equal(lua_pcall(b.L, 0, 0, 0), LUA_ERRRUN);
    assert_false(budget_leave(&b.budget));
    /* Still armed: what is called behind it is stopped at once. */
    load(&b, "while true do end");
    assert_int_equal(lua_pcall(b.L, 0, 0, 0), LUA_ERRRUN);
    assert_true(budget_leave(&b.budget));
    assert_int_equal(atomic_load(&b.budget.overruns), 1);
    box_close(&b);
}

/* That the other one is stopped tells that the sentinel has looked at this one for that long. */
static void the_outermost_limit_counts_when_it_is_long(void **state)
{
    box outer, other;
    box_open(&outer, *state);
    box_open(&other, *state);
    load(&outer, "return 1");
    budget_enter(&outer.budget, AGES_MS, NULL);
    budget_enter(&outer.budget, 1, NULL);
    expect_stopped(&other, "while true do end"); /* another state, inside this one's entry */
    expect_stopped(&other, "while true do end");
    assert_int_equal(lua_pcall(outer.L, 0, 0, 0), 0);
    assert_false(budget_leave(&outer.budget));
    assert_false(budget_leave(&outer.budget));
    assert_int_equal(atomic_load(&outer.budget.overruns), 0);
    box_close(&other);
    box_close(&outer);
}

static void an_outer_state_is_stopped_after_an_inner_one(void **state)
{
    box outer, inner;
    box_open(&outer, *state);
    box_open(&inner, *state);
    load(&outer, "while true do end");
    budget_enter(&outer.budget, SHORT_MS, NULL);
    expect_stopped(&inner, "while true do end");
    assert_int_equal(lua_pcall(outer.L, 0, 0, 0), LUA_ERRRUN);
    assert_true(budget_leave(&outer.budget));
    box_close(&inner);
    box_close(&outer);
}

static void no_limit_is_no_limit(void **state)
{
    box outer, other;
    box_open(&outer, *state);
    box_open(&other, *state);
    budget_enter(&outer.budget, 0, NULL);
    expect_stopped(&other, "while true do end");
    expect_stopped(&other, "while true do end");
    assert_false(budget_leave(&outer.budget));
    box_close(&other);
    box_close(&outer);
}

/* ---- threads ---- */

typedef struct {
    box box;
    const char *code;
    uint32_t limit_ms;
    unsigned rounds, stopped, failed;
} runner;

static void run_rounds(void *arg)
{
    runner *r = arg;
    for (unsigned i = 0; i < r->rounds; i++) {
        lua_settop(r->box.L, 0);
        r->failed += luaL_loadstring(r->box.L, r->code) != 0;
        budget_enter(&r->box.budget, r->limit_ms, NULL);
        r->failed += lua_pcall(r->box.L, 0, 0, 0) != 0;
        r->stopped += budget_leave(&r->box.budget);
    }
}

static void each_thread_is_stopped_by_its_own_budget(void **state)
{
    enum { ROUNDS = 5, RUNNERS = 3 };
    static runner runners[RUNNERS];
    uv_thread_t threads[RUNNERS];
    for (int i = 0; i < RUNNERS; i++) {
        runners[i] = (runner){.limit_ms = SHORT_MS, .rounds = ROUNDS, .code = "while true do end"};
        if (i == 2) { /* this one ends by itself, again and again */
            runners[i].limit_ms = AGES_MS;
            runners[i].rounds = 2000;
            runners[i].code = "for i = 1, 1000 do end";
        }
        box_open(&runners[i].box, *state);
    }
    for (int i = 0; i < RUNNERS; i++)
        assert_int_equal(uv_thread_create(&threads[i], run_rounds, &runners[i]), 0);
    for (int i = 0; i < RUNNERS; i++)
        assert_int_equal(uv_thread_join(&threads[i]), 0);
    for (int i = 0; i < RUNNERS; i++) {
        assert_int_equal(runners[i].stopped, i == 2 ? 0 : ROUNDS);
        assert_int_equal(runners[i].failed, runners[i].stopped);
        assert_int_equal(atomic_load(&runners[i].box.budget.overruns), runners[i].stopped);
        box_close(&runners[i].box);
    }
}

/* A generation may be loaded by one thread and run by another. */
static void a_budget_may_change_its_thread(void **state)
{
    static runner r;
    r = (runner){.limit_ms = SHORT_MS, .rounds = 1, .code = "while true do end"};
    box_open(&r.box, *state);
    expect_stopped(&r.box, "while true do end");
    uv_thread_t thread;
    assert_int_equal(uv_thread_create(&thread, run_rounds, &r), 0);
    assert_int_equal(uv_thread_join(&thread), 0);
    assert_int_equal(r.stopped, 1);
    expect_stopped(&r.box, "while true do end");
    box_close(&r.box);
}

/* ---- the sentinel ---- */

static void budgets_come_and_go(void **state)
{
    box boxes[5];
    for (int i = 0; i < 5; i++)
        box_open(&boxes[i], *state);
    static const int order[] = {2, 4, 0, 3};
    for (int i = 0; i < 4; i++)
        box_close(&boxes[order[i]]);
    expect_stopped(&boxes[1], "while true do end");
    box_close(&boxes[1]);
}

static void a_sentinel_stops_with_budgets_and_twice(void **state)
{
    static sentinel s;
    assert_int_equal(sentinel_start(&s, ((sentinel *)*state)->signal), 0);
    box b;
    box_open(&b, &s);
    expect_stopped(&b, "while true do end");
    box_close(&b);
    sentinel_stop(&s);
    sentinel_stop(&s);
}

/* A thread that looks at a budget as a sentinel does, only oftener. */
struct looker {
    budget *at;
    uv_mutex_t lock;
    uv_cond_t changed;
    bool over;
    uv_thread_t thread;
};

static void look_often(void *arg)
{
    enum { TICK_NS = 500000 };
    struct looker *l = arg;
    uv_mutex_lock(&l->lock);
    while (!l->over) {
        budget_look(l->at);
        uv_cond_timedwait(&l->changed, &l->lock, TICK_NS);
    }
    uv_mutex_unlock(&l->lock);
}

static void looker_start(struct looker *l, budget *at)
{
    *l = (struct looker){.at = at};
    assert_int_equal(uv_mutex_init(&l->lock), 0);
    assert_int_equal(uv_cond_init(&l->changed), 0);
    assert_int_equal(uv_thread_create(&l->thread, look_often, l), 0);
}

static void looker_stop(struct looker *l)
{
    uv_mutex_lock(&l->lock);
    l->over = true;
    uv_cond_signal(&l->changed);
    uv_mutex_unlock(&l->lock);
    assert_int_equal(uv_thread_join(&l->thread), 0);
    uv_cond_destroy(&l->changed);
    uv_mutex_destroy(&l->lock);
}

/* Where each call fails, the hook does, too: it is set by the thread that looks, which must not get
 * into the way of the one that runs. */
static void the_end_of_the_stack_does_not_help(void **state)
{
    enum { ROUNDS = 20 };
    static struct looker looker;
    box b;
    bool stopped = false;
    box_open(&b, *state);
    budget_forget(*state, &b.budget);
    budget_init(&b.budget, b.L, 0);
    looker_start(&looker, &b.budget);
    for (int i = 0; i < ROUNDS; i++) {
        assert_int_equal(
            run(&b, 1, "local function f() while true do pcall(f) end end f()", &stopped),
            LUA_ERRRUN);
        assert_true(stopped);
        expect_untouched(&b, "return 1");
        assert_ptr_equal(lua_gethook(b.L), b.resting);
        assert_int_equal(lua_gethookcount(b.L), BUDGET_LOOK_EVERY);
    }
    looker_stop(&looker);
    box_close(&b);
}

/* ---- interrupts ---- */

struct interrupter {
    sentinel *sentinel;
    const budget *inside; /* of this one */
    _Atomic bool done;
};

static void interrupt_it(void *arg)
{
    struct interrupter *i = arg;
    while (atomic_load(&i->inside->entry) % 2 == 0)
        sched_yield();
    sentinel_interrupt(i->sentinel);
    atomic_store(&i->done, true);
}

static void an_entry_is_interrupted_from_another_thread(void **state)
{
    static struct interrupter i;
    box b;
    uv_thread_t thread;
    bool stopped = false;
    box_open(&b, *state);
    expect_untouched(&b, "return 1"); /* nothing runs: the next entry hears nothing of it */
    sentinel_interrupt(*state);
    expect_untouched(&b, "for i = 1, 100000 do end");
    i = (struct interrupter){.sentinel = *state, .inside = &b.budget};
    assert_int_equal(uv_thread_create(&thread, interrupt_it, &i), 0);
    assert_int_equal(
        run(&b, 0, "while true do pcall(function() while true do end end) end", &stopped),
        LUA_ERRRUN);
    assert_true(stopped);
    assert_non_null(strstr(lua_tostring(b.L, -1), "interrupted by the host program"));
    assert_int_equal(uv_thread_join(&thread), 0);
    assert_true(atomic_load(&i.done));
    expect_untouched(&b, "return 1");
    expect_stopped(&b, "while true do end");
    box_close(&b);
}

/* ---- the signal ---- */

static void on_usr2(int number)
{
    (void)number;
}

static void a_signal_of_somebody_else_is_left_alone(void **state)
{
    (void)state;
    struct sigaction theirs = {.sa_handler = on_usr2}, now;
    assert_int_equal(sigaction(SIGUSR2, &theirs, NULL), 0);
    assert_int_equal(budget_take_signal(SIGUSR2), -1);
    assert_int_equal(sigaction(SIGUSR2, NULL, &now), 0);
    assert_ptr_equal(now.sa_handler, on_usr2);
    assert_int_equal(budget_take_signal(12345), -1);
    assert_int_equal(budget_take_signal(SIGURG), 0);
    assert_int_equal(budget_take_signal(SIGURG), 0); /* another runtime's */
}

#define OF_BOTH                                                                                    \
    cmocka_unit_test(endless_loops_are_stopped),                                                   \
        cmocka_unit_test(catching_the_error_does_not_help),                                        \
        cmocka_unit_test(coroutines_do_not_help),                                                  \
        cmocka_unit_test(an_entry_that_ends_in_time_is_untouched),                                 \
        cmocka_unit_test(an_error_in_time_is_only_an_error),                                       \
        cmocka_unit_test(many_short_entries_are_not_taken_for_a_long_one),                         \
        cmocka_unit_test(the_next_entry_starts_anew),                                              \
        cmocka_unit_test(the_outermost_limit_counts_when_it_is_short),                             \
        cmocka_unit_test(the_outermost_limit_counts_when_it_is_long),                              \
        cmocka_unit_test(an_outer_state_is_stopped_after_an_inner_one),                            \
        cmocka_unit_test(no_limit_is_no_limit),                                                    \
        cmocka_unit_test(each_thread_is_stopped_by_its_own_budget),                                \
        cmocka_unit_test(a_budget_may_change_its_thread),                                          \
        cmocka_unit_test(an_entry_is_interrupted_from_another_thread),                             \
        cmocka_unit_test(budgets_come_and_go),                                                     \
        cmocka_unit_test(a_sentinel_stops_with_budgets_and_twice)

int main(void)
{
    const struct CMUnitTest by_looking[] = {
        OF_BOTH,
        cmocka_unit_test(the_end_of_the_stack_does_not_help),
    };
    const struct CMUnitTest by_signal[] = {
        OF_BOTH,
        cmocka_unit_test(
            a_hook_of_the_script_does_not_help), /* scripts cannot set hooks: only so */
        cmocka_unit_test(a_signal_of_somebody_else_is_left_alone),
    };
    return cmocka_run_group_tests_name("budget by looking", by_looking, without_signal,
                                       close_sentinel) +
           cmocka_run_group_tests_name("budget by a signal", by_signal, with_signal,
                                       close_sentinel);
}
