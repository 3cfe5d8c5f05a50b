/* A runtime in a host that polls it, with a loop of its own: frames, budgets, descriptors, posts,
 * interrupts. What needs a server is tested by the scenarios. */
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>
#include <uv.h>

#include <cmocka.h>

#include "moondog.h"

#define PATIENCE_MS 20000
#define FRAME_US 2000

typedef struct {
    char path[64];
    md_runtime *runtime;
    uv_mutex_t lock; /* of log: it is written by another thread */
    char log[65536];
    size_t length;
    unsigned stopped; /* times that it was told */
} host;

static void on_log(void *closure, int level, const char *line, size_t length)
{
    host *h = closure;
    (void)level;
    uv_mutex_lock(&h->lock);
    if (h->length + length + 2 < sizeof h->log) {
        memcpy(h->log + h->length, line, length);
        h->length += length;
        h->log[h->length++] = '\n';
        h->log[h->length] = '\0';
    }
    uv_mutex_unlock(&h->lock);
}

static bool has_logged(host *h, const char *text)
{
    uv_mutex_lock(&h->lock);
    bool found = strstr(h->log, text) != NULL;
    uv_mutex_unlock(&h->lock);
    return found;
}

static void on_stopped(void *closure)
{
    host *h = closure;
    h->stopped++;
}

/* Loads the script into a runtime with a loop of its own. */
static void begin_with(host *h, const char *script, md_options *o)
{
    md_error e = {0};
    memset(h, 0, sizeof *h);
    uv_mutex_init(&h->lock);
    snprintf(h->path, sizeof h->path, "/tmp/moondog-unit-XXXXXX");
    int fd = mkstemp(h->path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, script, strlen(script)), strlen(script));
    close(fd);
    o->log_write = on_log;
    o->log_closure = h;
    o->stopped = on_stopped;
    o->stopped_closure = h;
    h->runtime = md_create(o, &e);
    if (h->runtime == NULL)
        fail_msg("%s", e.message);
    if (md_load(h->runtime, h->path, &e) != 0)
        fail_msg("%s", e.message);
}

static void begin(host *h, const char *script)
{
    md_options o;
    md_options_init(&o);
    begin_with(h, script, &o);
}

static void end(host *h)
{
    assert_int_equal(md_free(h->runtime), 0);
    uv_mutex_destroy(&h->lock);
    if (h->path[0] != '\0')
        unlink(h->path);
}

/* Polls until the log has the text. */
static void poll_until_logged(host *h, const char *text)
{
    uint64_t deadline = uv_hrtime() + PATIENCE_MS * 1000000ull;
    while (!has_logged(h, text)) {
        assert_true(md_poll(h->runtime, FRAME_US) >= 0);
        if (uv_hrtime() > deadline)
            fail_msg("the log has no \"%s\":\n%s", text, h->log);
    }
}

static void poll_until_quiet(host *h)
{
    uint64_t deadline = uv_hrtime() + PATIENCE_MS * 1000000ull;
    while (md_poll(h->runtime, FRAME_US) != 0)
        assert_true(uv_hrtime() < deadline);
}

/* ---- frames ---- */

static void a_frame_with_nothing_to_do_does_nothing(void **state)
{
    (void)state;
    host h;
    begin(&h, "require 'moondog'");
    poll_until_quiet(&h);
    for (int i = 0; i < 1000; i++)
        assert_int_equal(md_poll(h.runtime, FRAME_US), 0);
    end(&h);
}

static void timers_and_tasks_run_in_frames(void **state)
{
    (void)state;
    host h;
    begin(&h, "local moondog = require 'moondog'\n"
              "moondog.every(0.001, function() count = (count or 0) + 1\n"
              "  if count == 50 then print('fifty ticks') end end)\n"
              "moondog.on_start(function() moondog.sleep(0.01) print('slept') end)");
    poll_until_logged(&h, "fifty ticks");
    poll_until_logged(&h, "slept");
    end(&h);
}

/* Each task spins for 5 ms; there is time for one a frame, and for one always. */
static void one_function_more_than_the_time_at_most(void **state)
{
    (void)state;
    host h;
    begin(&h, "local moondog = require 'moondog'\n"
              "local function spin() moondog.state.n = (moondog.state.n or 0) + 1\n"
              "  local t = os.clock() + 0.005 while os.clock() < t do end\n"
              "  if moondog.state.n == 20 then print('all twenty') end end\n"
              "moondog.on_start(function() for i = 1, 20 do moondog.spawn(spin) end end)");
    int left, frames = 0, before = 20;
    while ((left = md_poll(h.runtime, 1000)) > 0) {
        assert_true(before - left <= 1);
        before = left;
        frames++;
    }
    assert_int_equal(left, 0);
    assert_in_range(frames, 19, 40);
    poll_until_logged(&h, "all twenty");
    end(&h);
}

/* The time is over before it begins. */
static void a_frame_without_time_gets_one_thing_done(void **state)
{
    (void)state;
    host h;
    begin(&h, "local moondog = require 'moondog'\n"
              "moondog.on_start(function() for i = 1, 10 do\n"
              "  moondog.spawn(function() print('task ' .. i) end) end end)");
    uint64_t deadline = uv_hrtime() + PATIENCE_MS * 1000000ull;
    while (!has_logged(&h, "task 10")) {
        md_poll(h.runtime, 0);
        assert_true(uv_hrtime() < deadline);
    }
    end(&h);
}

/* What waits when a link or the like is lost is not told all at once: it has its turn, in order. */
static void what_waits_goes_on_in_order(void **state)
{
    (void)state;
    host h;
    begin(&h, "local moondog = require 'moondog'\n"
              "local order = {}\n"
              "moondog.on_start(function() for i = 1, 200 do moondog.spawn(function()\n"
              "  moondog.sleep(0.01)\n"
              "  order[#order + 1] = i\n"
              "  local t = os.clock() + 0.0002 while os.clock() < t do end\n"
              "  if #order == 200 then for k = 1, 200 do assert(order[k] == k) end print('in "
              "order') end\n"
              "end) end end)");
    uint64_t deadline = uv_hrtime() + PATIENCE_MS * 1000000ull;
    while (!has_logged(&h, "in order")) {
        md_poll(h.runtime, 300);
        assert_true(uv_hrtime() < deadline);
    }
    end(&h);
}

/* The time of a poll may be over in the middle of what leads to a function: that one runs, or the
 * next poll begins with it. */
static void nothing_is_overtaken_where_a_poll_ends(void **state)
{
    (void)state;
    host h;
    begin(&h, "local moondog = require 'moondog'\n"
              "local rounds = 0\n"
              "local function round()\n"
              "  local order = {}\n"
              "  for i = 1, 2000 do moondog.spawn(function()\n"
              "    moondog.sleep(0.001)\n"
              "    order[#order + 1] = i\n"
              "    if #order < 2000 then return end\n"
              "    for k = 1, 2000 do if order[k] ~= k then print('overtaken', k) end end\n"
              "    rounds = rounds + 1\n"
              "    if rounds < 20 then round() else print('all rounds') end\n"
              "  end) end\n"
              "end\n"
              "moondog.on_start(round)");
    uint64_t deadline = uv_hrtime() + PATIENCE_MS * 1000000ull;
    while (!has_logged(&h, "all rounds")) {
        md_poll(h.runtime, 20);
        assert_true(uv_hrtime() < deadline);
    }
    assert_false(has_logged(&h, "overtaken"));
    end(&h);
}

/* ---- more than there is time for ---- */

static void spin(void *closure, md_call *call)
{
    (void)closure;
    (void)call;
    for (uint64_t end_at = uv_hrtime() + 300000; uv_hrtime() < end_at;)
        ;
}

static void emit_event(void *closure, md_call *call)
{
    host *h = closure;
    (void)call;
    md_emit(h->runtime, "event", NULL);
}

static void on_counted_post(md_runtime *runtime, void *closure)
{
    (void)runtime;
    *(unsigned *)closure += 1;
}

static void on_evaluated(void *closure, const md_value *results, size_t count, const md_error *e)
{
    (void)results;
    (void)count;
    (void)e;
    *(unsigned *)closure += 1;
}

static void on_reloaded(void *closure, const md_reload_result *result, const md_error *e);

/* A script with more tasks than a frame has time for: all else has its turn. */
static void tasks_do_not_keep_the_rest_waiting_for_ever(void **state)
{
    (void)state;
    host h;
    unsigned posts = 0, evaluations = 0, generation = 0;
    begin(&h, "local moondog = require 'moondog'\n"
              "moondog.on_event('event', function() print('an event') end)\n"
              "moondog.on_start(function()\n"
              "  moondog.spawn(function() moondog.sleep(0) host.emit() end)\n"
              "  for i = 1, 50 do moondog.spawn(function()\n"
              "    while true do host.spin() moondog.sleep(0) end end) end end)");
    md_register(h.runtime, "spin", spin, NULL);
    md_register(h.runtime, "emit", emit_event, &h);
    for (int i = 0; i < 100; i++)
        md_poll(h.runtime, 1000);
    assert_int_equal(md_post(h.runtime, on_counted_post, &posts), 0);
    assert_int_equal(md_eval(h.runtime, "1", on_evaluated, &evaluations, NULL), 0);
    uint64_t deadline = uv_hrtime() + PATIENCE_MS * 1000000ull;
    while (!has_logged(&h, "an event") || posts == 0 || evaluations == 0) {
        md_poll(h.runtime, 1000);
        assert_true(uv_hrtime() < deadline);
    }
    assert_int_equal(md_reload(h.runtime, 0, on_reloaded, &generation, NULL), 0);
    while (generation == 0) {
        md_poll(h.runtime, 1000);
        assert_true(uv_hrtime() < deadline);
    }
    end(&h);
}

/* Those that go on again and again, one that computes for long, and those that begin. */
static void tasks_of_each_kind_have_their_turn(void **state)
{
    (void)state;
    static const char *const busy[] = {"for i = 1, 50 do moondog.spawn(function()\n"
                                       "  while true do host.spin() moondog.sleep(0) end end) end",
                                       "print 'it computes next'"};
    for (int i = 0; i < 2; i++) {
        host h;
        char script[512];
        unsigned evaluations = 0;
        snprintf(script, sizeof script,
                 "local moondog = require 'moondog'\n"
                 "moondog.on_start(function() %s end)\n"
                 "moondog.after(0.02, function() print('began')\n"
                 "  moondog.sleep(0.001) print('went on') end)\n",
                 busy[i]);
        begin(&h, script);
        md_register(h.runtime, "spin", spin, NULL);
        if (i == 1)
            assert_int_equal(
                md_eval(h.runtime, "while true do end", on_evaluated, &evaluations, NULL), 0);
        uint64_t deadline = uv_hrtime() + PATIENCE_MS * 1000000ull;
        while (!has_logged(&h, "went on")) {
            md_poll(h.runtime, 1000);
            assert_true(uv_hrtime() < deadline);
        }
        end(&h);
    }
}

struct post_flood {
    host *host;
    unsigned seen, most; /* posts, and when they end */
};

/* The next one: there is always one that waits. */
static void on_flood(md_runtime *runtime, void *closure)
{
    struct post_flood *flood = closure;
    spin(NULL, NULL);
    if (runtime != NULL && ++flood->seen < flood->most)
        for (int i = 0; i < 2; i++)
            md_post(runtime, on_flood, flood);
}

static void posts_do_not_keep_the_rest_waiting_for_ever(void **state)
{
    (void)state;
    host h;
    struct post_flood flood = {.host = &h, .most = UINT_MAX};
    begin(&h, "local moondog = require 'moondog'\n"
              "moondog.after(0.01, function() print('timer') end)");
    for (int i = 0; i < 10; i++)
        md_post(h.runtime, on_flood, &flood);
    uint64_t deadline = uv_hrtime() + PATIENCE_MS * 1000000ull;
    while (!has_logged(&h, "timer")) {
        md_poll(h.runtime, 1000);
        assert_true(uv_hrtime() < deadline);
    }
    flood.most = 0;
    end(&h);
}

static void on_tick(uv_timer_t *timer)
{
    uv_stop(timer->loop);
}

/* The same where nobody polls: what waits is seconds of work, the host's timer is due long before
 * its end. */
static void posts_leave_time_for_the_loop(void **state)
{
    (void)state;
    host h;
    uv_loop_t loop;
    uv_timer_t timer;
    md_options o;
    struct post_flood flood = {.host = &h, .most = 0};
    md_options_init(&o);
    uv_loop_init(&loop);
    o.loop = &loop;
    begin_with(&h, "require 'moondog'", &o);
    for (int i = 0; i < 10000; i++)
        assert_int_equal(md_post(h.runtime, on_flood, &flood), 0);
    uv_timer_init(&loop, &timer);
    uv_timer_start(&timer, on_tick, 1, 0);
    md_run(h.runtime);
    assert_true(flood.seen < 10000);
    md_stop(h.runtime);
    end(&h);
    uv_close((uv_handle_t *)&timer, NULL);
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&loop), 0);
}

static void one_poll_without_a_limit_does_all(void **state)
{
    (void)state;
    host h;
    begin(&h, "local moondog = require 'moondog'\n"
              "moondog.on_start(function() for i = 1, 100 do\n"
              "  moondog.spawn(function() print('task ' .. i) end) end end)");
    assert_int_equal(md_poll(h.runtime, UINT64_MAX), 0);
    poll_until_logged(&h, "task 100");
    end(&h);
}

/* ---- from within ---- */

static void turn_from_within(void *closure, md_call *call)
{
    host *h = closure;
    md_value results[] = {md_number(md_poll(h->runtime, FRAME_US)), md_number(md_run(h->runtime))};
    md_call_return(call, &results[0]);
    md_call_return(call, &results[1]);
}

static void turn_in_post(md_runtime *runtime, void *closure)
{
    int *result = closure;
    if (runtime != NULL)
        *result = md_poll(runtime, FRAME_US) + md_run(runtime);
}

/* Who waits in a callback for something that the loop does waits for ever; who lets it turn there
 * would run handlers inside of handlers. */
static void the_loop_is_not_turned_from_within(void **state)
{
    (void)state;
    host h;
    uv_loop_t loop;
    md_options o;
    for (int mine = 0; mine < 2; mine++) {
        int result = 0;
        md_options_init(&o);
        uv_loop_init(&loop);
        o.loop = mine ? &loop : NULL;
        begin_with(&h,
                   "local moondog = require 'moondog'\n"
                   "moondog.on_start(function() moondog.sleep(0) print('first', host.turn())\n"
                   "  moondog.sleep(0) print('second', host.turn()) end)",
                   &o);
        md_register(h.runtime, "turn", turn_from_within, &h);
        assert_int_equal(md_post(h.runtime, turn_in_post, &result), 0);
        uint64_t deadline = uv_hrtime() + PATIENCE_MS * 1000000ull;
        while (!has_logged(&h, "second\\t-1\\t-1")) {
            if (mine)
                uv_run(&loop, UV_RUN_NOWAIT);
            else
                md_poll(h.runtime, FRAME_US);
            assert_true(uv_hrtime() < deadline);
        }
        assert_true(has_logged(&h, "first\\t-1\\t-1"));
        assert_true(has_logged(&h, "cannot be turned from within a callback"));
        assert_int_equal(result, -2);
        end(&h);
        assert_int_equal(uv_loop_close(&loop), 0);
    }
}

/* ---- the host's event loop ---- */

static void a_descriptor_tells_when_there_is_something(void **state)
{
    (void)state;
    host h;
    begin(&h, "local moondog = require 'moondog'\n"
              "moondog.after(0.03, function() print('timer') end)");
    int mine = epoll_create1(0);
    struct epoll_event event = {.events = EPOLLIN};
    assert_int_equal(epoll_ctl(mine, EPOLL_CTL_ADD, md_backend_fd(h.runtime), &event), 0);
    uint64_t deadline = uv_hrtime() + PATIENCE_MS * 1000000ull;
    while (!has_logged(&h, "timer")) {
        int timeout = md_backend_timeout(h.runtime);
        assert_true(timeout <= 30); /* there is a timer; afterwards, only the log is waited for */
        epoll_wait(mine, &event, 1, timeout < 0 ? 10 : timeout);
        md_poll(h.runtime, FRAME_US);
        assert_true(uv_hrtime() < deadline);
    }
    poll_until_quiet(&h);
    int fd = md_backend_fd(h.runtime);
    md_wakeup(h.runtime);
    assert_int_equal(epoll_wait(mine, &event, 1, PATIENCE_MS), 1);
    md_poll(h.runtime, FRAME_US);
    assert_int_equal(md_backend_fd(h.runtime), fd);
    close(mine);
    end(&h);
}

/* ---- from other threads ---- */

#define POSTERS 4
#define POSTS 1000

struct poster {
    md_runtime *runtime;
    unsigned number, got[POSTERS]; /* the next one of each, on the loop thread */
    bool wrong;
};

struct letter {
    struct poster *all;
    unsigned from, number;
};

static void on_letter(md_runtime *runtime, void *closure)
{
    struct letter *l = closure;
    if (runtime != NULL)
        l->all->wrong |= l->number != l->all->got[l->from]++;
    free(l);
}

static struct poster posters[POSTERS];

static void post_letters(void *closure)
{
    struct poster *p = closure;
    for (unsigned i = 0; i < POSTS; i++) {
        struct letter *l = malloc(sizeof *l);
        *l = (struct letter){posters, p->number, i};
        while (md_post(p->runtime, on_letter, l) != 0)
            uv_sleep(1);
    }
}

static void posts_come_in_order_on_the_loop_thread(void **state)
{
    (void)state;
    host h;
    uv_thread_t threads[POSTERS];
    begin(&h, "require 'moondog'");
    memset(posters, 0, sizeof posters);
    for (unsigned i = 0; i < POSTERS; i++) {
        posters[i].runtime = h.runtime;
        posters[i].number = i;
        assert_int_equal(uv_thread_create(&threads[i], post_letters, &posters[i]), 0);
    }
    uint64_t deadline = uv_hrtime() + PATIENCE_MS * 1000000ull;
    for (unsigned i = 0; i < POSTERS;) {
        md_poll(h.runtime, FRAME_US);
        i = 0;
        while (i < POSTERS && posters[0].got[i] == POSTS)
            i++;
        assert_true(uv_hrtime() < deadline);
    }
    for (unsigned i = 0; i < POSTERS; i++)
        uv_thread_join(&threads[i]);
    assert_false(posters[0].wrong);
    end(&h);
}

static unsigned too_late, in_time;

static void on_post(md_runtime *runtime, void *closure)
{
    (void)closure;
    *(runtime != NULL ? &in_time : &too_late) += 1;
}

static void posts_have_a_cap_and_are_told_that_it_is_too_late(void **state)
{
    (void)state;
    host h;
    begin(&h, "require 'moondog'");
    too_late = in_time = 0;
    for (unsigned i = 0; i < MD_POSTS_MAX; i++)
        assert_int_equal(md_post(h.runtime, on_post, NULL), 0);
    assert_int_equal(md_post(h.runtime, on_post, NULL), -1);
    poll_until_quiet(&h);
    assert_int_equal(in_time, MD_POSTS_MAX);
    char *status = md_status(h.runtime);
    assert_non_null(strstr(status, "\"posts\":{\"waiting\":0,\"accepted\":65536,\"refused\":1}"));
    free(status);
    assert_int_equal(md_post(h.runtime, on_post, NULL), 0);
    end(&h);
    assert_int_equal(too_late + in_time, MD_POSTS_MAX + 1);
}

struct reporter {
    _Atomic(md_runtime *) runtime;
    atomic_bool ending; /* what was posted has been told that it is too late */
    atomic_uint accepted;
    unsigned lines, told;
};

static void on_report(md_runtime *runtime, void *closure)
{
    struct reporter *r = closure;
    r->told++;
    if (runtime == NULL)
        atomic_store(&r->ending, true);
}

/* On the log's thread. The first line is slow. */
static void report_line(void *closure, int level, const char *line, size_t length)
{
    struct reporter *r = closure;
    uint64_t deadline = uv_hrtime() + PATIENCE_MS * 1000000ull;
    (void)level;
    (void)line;
    (void)length;
    while (atomic_load(&r->runtime) == NULL)
        uv_sleep(1);
    r->accepted += md_post(atomic_load(&r->runtime), on_report, r) == 0;
    r->lines++;
    while (!atomic_load(&r->ending) && uv_hrtime() < deadline)
        uv_sleep(1);
}

/* A hook of the log cannot know that md_free() has begun: the last lines are written meanwhile. */
static void the_log_may_post_until_the_end(void **state)
{
    (void)state;
    md_options o;
    md_error e = {0};
    struct reporter r = {.told = 0};
    static const char script[] = "require 'moondog' for i = 1, 100 do print(i) end";
    md_options_init(&o);
    o.log_write = report_line;
    o.log_closure = &r;
    md_runtime *rt = md_create(&o, &e);
    assert_non_null(rt);
    atomic_store(&r.runtime, rt);
    assert_int_equal(md_set_file(rt, "x.lua", script, strlen(script), &e), 0);
    assert_int_equal(md_load(rt, "x.lua", &e), 0);
    uint64_t deadline = uv_hrtime() + PATIENCE_MS * 1000000ull;
    while (atomic_load(&r.accepted) == 0) {
        uv_sleep(1);
        assert_true(uv_hrtime() < deadline);
    }
    assert_int_equal(md_free(rt), 0);
    assert_in_range(r.lines, 100, 110);
    assert_in_range(r.accepted, 1, r.lines);
    assert_int_equal(r.told, r.accepted);
}

static void interrupt_soon(void *closure)
{
    host *h = closure;
    while (!has_logged(h, "I spin"))
        uv_sleep(1);
    md_interrupt(h->runtime);
}

static void a_script_is_interrupted(void **state)
{
    (void)state;
    host h;
    md_options o;
    uv_thread_t thread;
    md_options_init(&o);
    o.handler_budget_ms = 0; /* it would spin for ever */
    begin_with(
        &h,
        "local moondog = require 'moondog'\n"
        "moondog.on_start(function() moondog.sleep(0) print('I spin') while true do end end)\n"
        "moondog.every(0.01, function() if _G.spun then print('goes on') end _G.spun = true end)",
        &o);
    assert_int_equal(uv_thread_create(&thread, interrupt_soon, &h), 0);
    poll_until_logged(&h, "interrupted by the host program");
    poll_until_logged(&h, "goes on");
    uv_thread_join(&thread);
    end(&h);
}

/* ---- the host's files, memory and clock ---- */

static void set_file(host *h, const char *path, const char *text)
{
    md_error e = {0};
    if (md_set_file(h->runtime, path, text, text != NULL ? strlen(text) : 0, &e) != 0)
        fail_msg("%s", e.message);
}

static void on_reloaded(void *closure, const md_reload_result *result, const md_error *e)
{
    unsigned *generation = closure;
    if (e != NULL)
        fail_msg("%s", e->message);
    *generation = result->generation;
}

static void reload(host *h, int previous, unsigned expected)
{
    md_error e = {0};
    unsigned generation = 0;
    uint64_t deadline = uv_hrtime() + PATIENCE_MS * 1000000ull;
    assert_int_equal(md_reload(h->runtime, previous, on_reloaded, &generation, &e), 0);
    while (generation == 0) {
        md_poll(h->runtime, FRAME_US);
        assert_true(uv_hrtime() < deadline);
    }
    assert_int_equal(generation, expected);
}

struct asker {
    host *host;
    bool asking, from_within;
    unsigned answers, wrong;
};

static void on_no_previous(void *closure, const md_reload_result *result, const md_error *e);

static void ask_for_previous(struct asker *a)
{
    a->asking = true;
    a->wrong += md_reload(a->host->runtime, 1, on_no_previous, a, NULL) != 0;
    a->asking = false;
}

static void on_no_previous(void *closure, const md_reload_result *result, const md_error *e)
{
    struct asker *a = closure;
    a->from_within |= a->asking;
    a->wrong += result != NULL || strcmp(e->code, "no_previous") != 0;
    if (++a->answers < 100)
        ask_for_previous(a);
}

/* One that fails at once is told as the others are; who asks again from there is no recursion. */
static void a_reload_is_never_told_from_within_the_call(void **state)
{
    (void)state;
    host h;
    struct asker a = {.host = &h};
    begin(&h, "require 'moondog'");
    while (md_poll(h.runtime, FRAME_US) > 0)
        ;
    ask_for_previous(&a);
    assert_int_equal(a.answers, 0);
    uint64_t deadline = uv_hrtime() + PATIENCE_MS * 1000000ull;
    while (a.answers < 100) {
        assert_true(md_poll(h.runtime, FRAME_US) >= 0);
        assert_true(uv_hrtime() < deadline);
    }
    assert_false(a.from_within);
    assert_int_equal(a.wrong, 0);
    end(&h);
}

static void begin_empty(host *h, md_options *o)
{
    md_error e = {0};
    memset(h, 0, sizeof *h);
    uv_mutex_init(&h->lock);
    o->log_write = on_log;
    o->log_closure = h;
    h->runtime = md_create(o, &e);
    if (h->runtime == NULL)
        fail_msg("%s", e.message);
}

static void scripts_come_from_the_hosts_memory(void **state)
{
    (void)state;
    host h;
    md_options o;
    md_error e = {0};
    md_options_init(&o);
    begin_empty(&h, &o);
    assert_int_equal(md_load(h.runtime, "not/there.lua", &e), -1);
    assert_string_equal(e.code, "unreadable");
    set_file(&h, "not/there.lua",
             "local moondog = require 'moondog'\nlocal rules = require 'rules'\n"
             "moondog.on_start(function() print(rules.text, require('late').text) end)");
    set_file(&h, "not/rules.lua", "return { text = 'first' }");
    set_file(&h, "not/late.lua", "return { text = 'and late' }");
    assert_int_equal(md_load(h.runtime, "not/there.lua", &e), 0);
    poll_until_logged(&h, "first\\tand late");
    set_file(&h, "not/rules.lua", "return { text = 'second' }");
    reload(&h, 0, 2);
    poll_until_logged(&h, "second\\tand late");
    reload(&h, 1, 3); /* the text of the one before */
    set_file(&h, "not/late.lua", NULL);
    reload(&h, 0, 4);
    poll_until_logged(&h, "module 'late' not found");
    set_file(&h, "plain.lua", "require 'beside'");
    set_file(&h, "beside.lua", "return 1");
    end(&h);
    begin_empty(&h, &o);
    set_file(&h, "plain.lua", "require 'beside' print 'plain'");
    set_file(&h, "beside.lua", "return 1");
    assert_int_equal(md_load(h.runtime, "plain.lua", &e), 0);
    poll_until_logged(&h, "plain");
    end(&h);
}

/* "./x.lua" and "x.lua" are one file, the last text of which counts. */
static void a_given_file_is_replaced_however_it_is_spelt(void **state)
{
    (void)state;
    host h;
    md_options o;
    md_error e = {0};
    md_options_init(&o);
    begin_empty(&h, &o);
    set_file(&h, "./spelt.lua", "error('the old one')");
    set_file(&h, "spelt.lua", "print 'the new one'");
    assert_int_equal(md_load(h.runtime, "./spelt.lua", &e), 0);
    poll_until_logged(&h, "the new one");
    set_file(&h, "./spelt.lua", NULL);
    char *report = NULL;
    assert_int_equal(md_check(h.runtime, "spelt.lua", 0, &report, &e), -1);
    assert_string_equal(e.code, "unreadable");
    end(&h);
}

/* What is missing is an error of the call's. */
static void nothing_where_something_has_to_be_is_refused(void **state)
{
    (void)state;
    host h;
    md_options o;
    md_error e = {0};
    char *report = NULL;
    md_options_init(&o);
    begin_empty(&h, &o);
    assert_int_equal(md_set_file(h.runtime, NULL, "", 0, &e), -1);
    assert_string_equal(e.code, "usage");
    assert_int_equal(md_load(h.runtime, NULL, &e), -1);
    assert_string_equal(e.code, "usage");
    set_file(&h, "x.lua", "require('moondog').on_event('x', function() end)");
    assert_int_equal(md_check(h.runtime, NULL, 0, &report, NULL), -1);
    assert_int_equal(md_check(h.runtime, "x.lua", 0, NULL, NULL), -1);
    assert_int_equal(md_load(h.runtime, "x.lua", &e), 0);
    assert_int_equal(md_eval(h.runtime, NULL, NULL, NULL, &e), -1);
    assert_string_equal(e.code, "usage");
    assert_int_equal(md_emit(h.runtime, NULL, NULL), -1);
    assert_int_equal(md_emit(h.runtime, "x", NULL), 1);
    assert_int_equal(md_post(h.runtime, NULL, NULL), -1);
    assert_int_equal(md_register(h.runtime, NULL, NULL, NULL), -1);
    assert_int_equal(md_set_log_level(h.runtime, NULL), -1);
    assert_int_equal(md_publish(h.runtime, NULL, NULL), -1);
    end(&h);
}

struct arena {
    size_t bytes, blocks, most;
    bool wrong;
};

static void *allocate(void *closure, void *block, size_t old_size, size_t new_size)
{
    struct arena *a = closure;
    size_t *head = block != NULL ? (size_t *)block - 2 : NULL;
    a->wrong |= head != NULL && head[0] != old_size;
    if (new_size == 0) {
        a->bytes -= old_size;
        a->blocks--;
        free(head);
        return NULL;
    }
    size_t *fresh = realloc(head, new_size + 2 * sizeof *fresh);
    if (fresh == NULL)
        return NULL;
    a->blocks += block == NULL;
    a->bytes += new_size - (block == NULL ? 0 : old_size);
    a->most = a->bytes > a->most ? a->bytes : a->most;
    fresh[0] = new_size;
    return fresh + 2;
}

static void scripts_live_in_the_hosts_memory(void **state)
{
    (void)state;
    host h;
    md_options o;
    struct arena a = {0};
    md_options_init(&o);
    o.alloc = allocate;
    o.alloc_closure = &a;
    begin_with(&h,
               "local moondog = require 'moondog'\nlocal t = {}\n"
               "for i = 1, 10000 do t[i] = {} end\nprint 'made'",
               &o);
    poll_until_logged(&h, "made");
    assert_true(a.most > 400000);
    poll_until_quiet(&h);
    end(&h);
    assert_false(a.wrong);
    assert_int_equal(a.blocks, 0);
    assert_int_equal(a.bytes, 0);
}

static int64_t moon_landing(void *closure)
{
    (void)closure;
    return -14182940ll * 1000000000 + 500000000; /* half a second after */
}

static void the_time_is_the_hosts(void **state)
{
    (void)state;
    host h;
    md_options o;
    md_options_init(&o);
    o.clock = moon_landing;
    begin_with(&h,
               "local moondog = require 'moondog'\n"
               "print(os.time(), os.date('!%Y-%m-%d'), os.date('!%Y', 0), os.time { year = 2000,"
               " month = 1, day = 1 } > 9e8)",
               &o);
    poll_until_logged(&h, "-14182940\\t1969-07-20\\t1970\\ttrue");
    poll_until_logged(&h, "time=1969-07-20T");
    end(&h);
}

/* ---- options ---- */

struct newer_options {
    md_options known;
    uint64_t unknown;
};

static void options_of_other_versions_are_taken_or_refused(void **state)
{
    (void)state;
    struct newer_options newer;
    md_error e = {0};
    md_options_init_sized(&newer.known, sizeof newer);
    newer.known.log_level = "off";
    md_runtime *rt = md_create(&newer.known, &e);
    assert_non_null(rt);
    md_free(rt);
    newer.unknown = 1;
    assert_null(md_create(&newer.known, &e));
    assert_string_equal(e.code, "usage");
    md_options o;
    md_options_init(&o);
    o.size = 0;
    assert_null(md_create(&o, &e));
    o.size = offsetof(md_options, budget_signal); /* an older one: what comes behind is not read */
    o.budget_signal = 12345;
    o.log_level = "off";
    rt = md_create(&o, &e);
    assert_non_null(rt);
    md_free(rt);
    md_options_init(&o);
    o.log_level = "off";
    o.budget_signal = 12345;
    assert_null(md_create(&o, &e));
    assert_string_equal(e.code, "signal_taken");
}

/* ---- stopping ---- */

static void a_stopped_runtime_says_so(void **state)
{
    (void)state;
    host h;
    begin(&h, "local moondog = require 'moondog'\nmoondog.on_unload(function() print('bye') end)");
    poll_until_quiet(&h);
    md_stop(h.runtime);
    uint64_t deadline = uv_hrtime() + PATIENCE_MS * 1000000ull;
    while (md_poll(h.runtime, FRAME_US) >= 0)
        assert_true(uv_hrtime() < deadline);
    assert_int_equal(h.stopped, 1);
    assert_int_equal(md_poll(h.runtime, FRAME_US), -1);
    while (!has_logged(&h, "bye"))
        assert_true(uv_hrtime() < deadline);
    end(&h);
}

static void a_stopped_runtime_takes_no_script(void **state)
{
    (void)state;
    host h;
    md_options o;
    md_error e = {0};
    md_options_init(&o);
    begin_empty(&h, &o);
    set_file(&h, "late.lua", "require('moondog').connect { servers = 'nats://127.0.0.1:1' }");
    md_stop(h.runtime);
    assert_int_equal(md_load(h.runtime, "late.lua", &e), -1);
    assert_string_equal(e.code, "stopping");
    uint64_t deadline = uv_hrtime() + PATIENCE_MS * 1000000ull;
    while (md_poll(h.runtime, FRAME_US) >= 0)
        assert_true(uv_hrtime() < deadline);
    assert_int_equal(md_load(h.runtime, "late.lua", &e), -1);
    end(&h);
}

/* The host has other things to do before it frees it. */
static void a_stopped_runtime_is_not_stalled(void **state)
{
    (void)state;
    host h;
    md_options o;
    md_options_init(&o);
    o.stall_ms = 1;
    o.handler_budget_ms = 1;
    begin_with(&h, "require 'moondog'", &o);
    md_stop(h.runtime);
    md_run(h.runtime);
    assert_int_equal(md_poll(h.runtime, FRAME_US), -1);
    uv_sleep(1500); /* a look of the sentinel, and the time that it gives a loop that waits */
    assert_false(has_logged(&h, "stalled"));
    end(&h);
}

static void on_other(uv_timer_t *timer)
{
    *(int *)timer->data += 1;
}

/* md_stop() ends the runtime, not the host's loop. */
static void the_loop_of_the_host_goes_on(void **state)
{
    (void)state;
    host h;
    uv_loop_t loop;
    uv_timer_t other;
    int ticks = 0;
    md_options o;
    md_options_init(&o);
    uv_loop_init(&loop);
    uv_timer_init(&loop, &other);
    other.data = &ticks;
    uv_timer_start(&other, on_other, 1, 1);
    o.loop = &loop;
    begin_with(&h, "require 'moondog'", &o);
    md_stop(h.runtime);
    uint64_t deadline = uv_hrtime() + PATIENCE_MS * 1000000ull;
    while (h.stopped == 0 || ticks < 10) {
        assert_int_not_equal(uv_run(&loop, UV_RUN_ONCE), 0);
        assert_true(uv_hrtime() < deadline);
    }
    end(&h);
    uv_close((uv_handle_t *)&other, NULL);
    uv_run(&loop, UV_RUN_DEFAULT);
    assert_int_equal(uv_loop_close(&loop), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_frame_with_nothing_to_do_does_nothing),
        cmocka_unit_test(timers_and_tasks_run_in_frames),
        cmocka_unit_test(one_function_more_than_the_time_at_most),
        cmocka_unit_test(a_frame_without_time_gets_one_thing_done),
        cmocka_unit_test(what_waits_goes_on_in_order),
        cmocka_unit_test(nothing_is_overtaken_where_a_poll_ends),
        cmocka_unit_test(tasks_do_not_keep_the_rest_waiting_for_ever),
        cmocka_unit_test(tasks_of_each_kind_have_their_turn),
        cmocka_unit_test(posts_do_not_keep_the_rest_waiting_for_ever),
        cmocka_unit_test(posts_leave_time_for_the_loop),
        cmocka_unit_test(one_poll_without_a_limit_does_all),
        cmocka_unit_test(the_loop_is_not_turned_from_within),
        cmocka_unit_test(a_descriptor_tells_when_there_is_something),
        cmocka_unit_test(posts_come_in_order_on_the_loop_thread),
        cmocka_unit_test(posts_have_a_cap_and_are_told_that_it_is_too_late),
        cmocka_unit_test(the_log_may_post_until_the_end),
        cmocka_unit_test(a_script_is_interrupted),
        cmocka_unit_test(scripts_come_from_the_hosts_memory),
        cmocka_unit_test(a_given_file_is_replaced_however_it_is_spelt),
        cmocka_unit_test(nothing_where_something_has_to_be_is_refused),
        cmocka_unit_test(a_reload_is_never_told_from_within_the_call),
        cmocka_unit_test(scripts_live_in_the_hosts_memory),
        cmocka_unit_test(the_time_is_the_hosts),
        cmocka_unit_test(options_of_other_versions_are_taken_or_refused),
        cmocka_unit_test(a_stopped_runtime_says_so),
        cmocka_unit_test(a_stopped_runtime_takes_no_script),
        cmocka_unit_test(a_stopped_runtime_is_not_stalled),
        cmocka_unit_test(the_loop_of_the_host_goes_on),
    };
    return cmocka_run_group_tests_name("poll", tests, NULL, NULL);
}
