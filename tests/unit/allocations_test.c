/* No allocation that fails can hurt: in md_create(), md_load() and md_reload() each one is made to
 * fail, alone and with all that come after it. It is an error that names memory, or it does not
 * matter; nothing crashes, nothing is left, nothing is printed, and the next attempt works. See
 * support/allocator.h for whose allocations these are. */
#include <dlfcn.h>
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <uv.h>

#include <cmocka.h>

#include "moondog.h"
#include "support/allocator.h"

#define PATIENCE_MS 20000
#define ENOUGH 200000ul /* allocations: no run needs as many */

/* Most allocations are those of an interpreter and of our own modules in it, before the script
 * begins: all of them are tried in one scene, and some in the others. */
#define OWN 1000ul /* last ones, of the script and of what becomes of it */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define STRIDE 101ul
#define STRIDE_OF_FIRST 23ul
#define STRIDE_OF_OWN 5ul /* the sanitizers are slow */
#else
#define STRIDE 11ul
#define STRIDE_OF_FIRST 1ul
#define STRIDE_OF_OWN 1ul
#endif

/* ---- a folder with a script ---- */

static struct {
    char folder[64], script[96], module[96], control[96], outbox[96], notify[96];
    int manager; /* the socket of a service manager's */
} place;

static const char *const module_text = "local M = {}\n"
                                       "function M.double(x) return 2 * x end\n"
                                       "M.names = { 'a', 'b', 'c', list = { 1, 2, 3 } }\n"
                                       "return M\n";

/* %s: the outbox; %d: the version, in places where a reload has to do something. */
static const char *const script_text =
    "local moondog = require 'moondog'\n"
    "local module = require 'module'\n"
    "VERSION = %2$d\n"
    "moondog.state.version = 1\n"
    "moondog.state.list = { 1, 2, { name = 'x', deep = { true, false } } }\n"
    "local gw = moondog.connect {\n"
    "  name = 'gateway', servers = { 'nats://127.0.0.1:1', 'tls://127.0.0.1:1' },\n"
    "  user = 'a', password = 'b', tls = { insecure = true, hostname = 'localhost' },\n"
    "  reconnect = moondog.backoff { base = 0.05, cap = 5, jitter = 'full' },\n"
    "  watchdog = { interval = 30, timeout = 15, probe = 5 },\n"
    "  pending = { bytes = 1048576 }, ping_interval = 20,\n"
    "  on = { connected = function() end, closed = function() end, error = function() end },\n"
    "}\n"
    "local other = moondog.connect { name = 'other', servers = 'nats://127.0.0.1:1',\n"
    "  token = function() return 'secret' end, reconnect = function() return 5 + %2$d end }\n"
    "moondog.connect { name = 'of' .. VERSION, servers = 'nats://127.0.0.1:1' }\n"
    "local changed = moondog.connect { name = 'changed', servers = 'nats://127.0.0.1:1',\n"
    "  user = 'version' .. VERSION }\n"
    "changed:subscribe('changed.*', function() end)\n"
    "gw:subscribe('orders.*', function(m) m:respond('ok') end, { queue = 'workers', max = 100 })\n"
    "gw:subscribe('kept', function() end)\n"
    "other:subscribe('of.' .. VERSION, function() end, { pending = { messages = 10 } })\n"
    "moondog.every(60, function() end)\n"
    "moondog.after(60, function() end)\n"
    "local made = moondog.metrics.counter('made_total', { help = 'Made.', labels = { 'kind' } })\n"
    "moondog.metrics.gauge('level'):set(3)\n"
    "moondog.metrics.histogram('seconds', { buckets = { 0.1, 1 } })\n"
    "moondog.metrics.counter('of_' .. VERSION)\n"
    "moondog.outbox { path = '%1$s', connection = gw, policies = { ['a.>'] = 'latest' } }\n"
    "moondog.on_event('event', function() end)\n"
    "moondog.on_event('event', function() end)\n"
    "moondog.on_event('of' .. VERSION, function() end)\n"
    "moondog.on_start(function(state) made:add(1, { kind = 'x' }) moondog.sleep(30) end)\n"
    "moondog.on_start(function() moondog.spawn(function() moondog.sleep(30) end) end)\n"
    "moondog.on_unload(function() end)\n"
    "moondog.log.debug('loaded', { version = VERSION, double = module.double(2) })\n"
    "assert(pcall(module.double, 1) and not pcall(error, 'x'))\n"
    "assert(('a,b,c'):gsub(',', ';') == 'a;b;c' and #table.concat(module.names, ',') == 5)\n";

static void write_file(const char *path, const char *text)
{
    FILE *out = fopen(path, "w");
    assert_non_null(out);
    assert_true(fputs(text, out) >= 0);
    assert_int_equal(fclose(out), 0);
}

static void write_script(int version)
{
    char text[8192];
    int length = snprintf(text, sizeof text, script_text, place.outbox, version);
    assert_in_range(length, 1, sizeof text - 1);
    write_file(place.script, text);
}

static int set_up(void **state)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    (void)state;
    setenv("TZ", "UTC", 1); /* else the C library allocates at each tzset() */
    snprintf(place.folder, sizeof place.folder, "/tmp/moondog-unit-XXXXXX");
    assert_non_null(mkdtemp(place.folder));
    snprintf(place.script, sizeof place.script, "%s/script.lua", place.folder);
    snprintf(place.module, sizeof place.module, "%s/module.lua", place.folder);
    snprintf(place.control, sizeof place.control, "%s/control", place.folder);
    snprintf(place.outbox, sizeof place.outbox, "%s/out.db", place.folder);
    snprintf(place.notify, sizeof place.notify, "%s/notify", place.folder);
    setenv("NOTIFY_SOCKET", place.notify, 1);
    write_file(place.module, module_text);
    write_script(1);
    place.manager = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    snprintf(address.sun_path, sizeof address.sun_path, "%s", place.notify);
    assert_int_equal(bind(place.manager, (struct sockaddr *)&address, sizeof address), 0);
    return 0;
}

static int tear_down(void **state)
{
    static const char *const names[] = {"script.lua", "module.lua", "control",     "out.db",
                                        "out.db-wal", "out.db-shm", "out.db.lock", "notify"};
    char path[128];
    (void)state;
    close(place.manager);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        snprintf(path, sizeof path, "%s/%s", place.folder, names[i]);
        unlink(path);
    }
    return rmdir(place.folder);
}

/* What was told so far is thrown away: the socket does not fill up. */
static void hear_manager(void)
{
    char told[4096];
    while (recv(place.manager, told, sizeof told, 0) >= 0)
        ;
}

/* ---- what is printed ---- */

static int kept_out = -1, kept_err, printed;

static void listen_to_output(void)
{
    fflush(NULL);
    kept_out = dup(1);
    kept_err = dup(2);
    printed = memfd_create("printed", MFD_CLOEXEC);
    dup2(printed, 1);
    dup2(printed, 2);
}

/* How many bytes were printed. */
static long stop_listening(void)
{
    fflush(NULL);
    dup2(kept_out, 1);
    dup2(kept_err, 2);
    close(kept_out);
    close(kept_err);
    long size = lseek(printed, 0, SEEK_END);
    close(printed);
    return size;
}

/* ---- one attempt ---- */

/* The one that is under way, for messages. */
static unsigned long number;
static bool all_after, in_child;

#define CHILD_FAILED 77
#define FAIL(...) fail_attempt(__LINE__, __VA_ARGS__)

static void fail_attempt(int line, const char *format, ...)
{
    char text[1024];
    va_list list;
    va_start(list, format);
    vsnprintf(text, sizeof text, format, list);
    va_end(list);
    if (in_child) { /* the tests go on in the other process */
        fprintf(stderr, "line %d: %s\n", line, text);
        _exit(CHILD_FAILED);
    }
    allocator_disarm();
    allocator_fail(0, false);
    allocator_forget();
    fail_msg("line %d: allocation %lu%s: %s", line, number, all_after ? " and all after it" : "",
             text);
}

static void begin_to_fail(void)
{
    listen_to_output();
    allocator_fail(number, all_after);
    allocator_arm();
}

static void end_to_fail(void)
{
    allocator_disarm();
    allocator_fail(0, false);
    dlerror(); /* the C library keeps the last error of dlopen(), */
    dlerror(); /* until it was asked for twice */
    long size = stop_listening();
    if (size != 0)
        FAIL("%ld bytes were printed", size);
}

static void check_error(const md_error *e)
{
    if (e->code[0] == '\0' || strstr(e->message, "memory") == NULL)
        FAIL("an error that does not name memory: [%s] %s", e->code, e->message);
}

static void discard_line(void *closure, int level, const char *line, size_t length)
{
    (void)closure;
    (void)level;
    (void)line;
    (void)length;
}

static void on_late(void)
{
    FAIL("not over in time");
}

static uint64_t deadline(void)
{
    return uv_hrtime() + PATIENCE_MS * 1000000ull;
}

static void turn(md_runtime *rt, uint64_t until)
{
    struct timespec moment = {.tv_nsec = 100000};
    if (md_poll(rt, 1000) == 0)
        nanosleep(&moment, NULL);
    if (uv_hrtime() >= until)
        on_late();
}

/* What the attempt allocated is freed, at the latest when what was discarded has retired. */
static void wait_until_nothing_is_left(md_runtime *rt)
{
    uint64_t until = deadline();
    while (allocator_left() > 0) {
        if (uv_hrtime() >= until)
            allocator_print_left();
        turn(rt, until);
    }
    allocator_forget();
}

/* On a slow machine, a link that is being dialled may be left to itself: it frees the rest. */
static void free_runtime(md_runtime *rt)
{
    struct timespec moment = {.tv_nsec = 1000000};
    uint64_t until = deadline();
    md_free(rt);
    while (allocator_left() > 0 && uv_hrtime() < until)
        nanosleep(&moment, NULL);
    if (allocator_left() > 0) {
        allocator_print_left();
        FAIL("%lu blocks are left", allocator_left());
    }
    allocator_forget();
}

static void fill_options(md_options *o)
{
    md_options_init(o);
    o->log_write = discard_line;
    o->load_budget_ms = 20000; /* sanitizers are slow */
    o->handler_budget_ms = 10000;
    o->stall_ms = 60000;
    o->retire_ms = 1000;
}

/* ---- md_create ---- */

static void fill_all_options(md_options *o)
{
    fill_options(o);
    o->name = "the one";
    o->control = place.control;
    o->http = "127.0.0.1:0";
    o->watch = 1;
    o->notify = 1;
    o->log_level = "debug";
}

/* Whether it needs more allocations than this one. */
static bool create_once(void)
{
    md_options o;
    md_error e = {0};
    fill_all_options(&o);
    begin_to_fail();
    md_runtime *rt = md_create(&o, &e);
    bool more = allocator_failures() > 0;
    end_to_fail();
    if (rt == NULL)
        check_error(&e);
    if (!in_child)
        free_runtime(rt);
    else
        md_free(rt); /* of what libraries keep, some is made at their first use */
    hear_manager();
    return more;
}

static void create_again(void)
{
    md_options o;
    md_error e = {0};
    fill_all_options(&o);
    md_runtime *rt = md_create(&o, &e);
    if (rt == NULL)
        FAIL("the next md_create() failed: [%s] %s", e.code, e.message);
    assert_int_equal(md_free(rt), 0);
}

/* In a process of its own each time: the first runtime of a process opens the NATS library. */
static void the_first_md_create_of_a_process(void **state)
{
    (void)state;
    for (int all = 0; all < 2; all++) {
        int status = 1 << 8;
        all_after = all != 0;
        for (number = 1; WEXITSTATUS(status) != 0; number++) {
            fflush(NULL);
            pid_t child = fork();
            if (child == 0) {
                in_child = true;
                bool more = create_once();
                create_again();
                _exit(more ? 1 : 0);
            }
            assert_int_equal(waitpid(child, &status, 0), child);
            if (!WIFEXITED(status) || WEXITSTATUS(status) > 1)
                FAIL("the process ended: status %d", status);
            assert_in_range(number, 1, ENOUGH);
        }
    }
}

static void md_create_of_further_runtimes(void **state)
{
    (void)state;
    number = 0;
    create_again(); /* what stays until the end of the process is there from now on */
    for (int all = 0; all < 2; all++) {
        all_after = all != 0;
        for (number = 1; create_once(); number++)
            assert_in_range(number, 1, ENOUGH);
        create_again();
    }
}

/* ---- md_load ---- */

static md_runtime *make(void)
{
    md_options o;
    md_error e = {0};
    fill_options(&o);
    md_runtime *rt = md_create(&o, &e);
    if (rt == NULL)
        FAIL("[%s] %s", e.code, e.message);
    return rt;
}

static void load(md_runtime *rt)
{
    md_error e = {0};
    if (md_load(rt, place.script, &e) != 0)
        FAIL("md_load() without a failure: [%s] %s", e.code, e.message);
}

struct answer {
    bool over;
    double version;
    char error[256];
};

static void on_answer(void *closure, const md_value *results, size_t count, const md_error *e)
{
    struct answer *a = closure;
    a->over = true;
    if (e != NULL)
        snprintf(a->error, sizeof a->error, "[%s] %.200s", e->code, e->message);
    else if (count == 1 && results[0].type == MD_NUMBER)
        a->version = results[0].as.number;
}

/* The script at work answers. */
static int ask_version(md_runtime *rt)
{
    struct answer a = {0};
    md_error e = {0};
    uint64_t until = deadline();
    if (md_eval(rt, "VERSION", on_answer, &a, &e) != 0)
        FAIL("md_eval(): [%s] %s", e.code, e.message);
    while (!a.over)
        turn(rt, until);
    if (a.error[0] != '\0')
        FAIL("md_eval(): %s", a.error);
    return (int)a.version;
}

/* Whether it needs more allocations than this one. *rt is another one when a script was loaded. */
static bool load_once(md_runtime **rt)
{
    md_error e = {0};
    begin_to_fail();
    int status = md_load(*rt, place.script, &e);
    bool more = allocator_failures() > 0;
    end_to_fail();
    if (status != 0) {
        check_error(&e);
        wait_until_nothing_is_left(*rt);
        return more;
    }
    if (ask_version(*rt) != 1)
        FAIL("the script that was loaded does not answer");
    free_runtime(*rt);
    *rt = make();
    return more;
}

/* How many an attempt needs, about: it has just been made. */
static unsigned long needed(void)
{
    unsigned long count = allocator_count();
    assert_in_range(count, OWN + 1, ENOUGH);
    return count;
}

static void md_load_of_a_script(void **state)
{
    (void)state;
    number = 0;
    write_script(1);
    md_runtime *rt = make();
    allocator_fail(0, false);
    allocator_arm();
    load(rt);
    allocator_disarm();
    unsigned long count = needed();
    free_runtime(rt);
    for (int all = 0; all < 2; all++) {
        unsigned long stride = all == 0 ? STRIDE_OF_FIRST : STRIDE;
        all_after = all != 0;
        rt = make();
        for (number = 1; load_once(&rt); number += number + OWN < count ? stride : STRIDE_OF_OWN)
            assert_in_range(number, 1, ENOUGH);
        load(rt);
        assert_int_equal(ask_version(rt), 1);
        free_runtime(rt);
    }
}

/* ---- md_reload ---- */

struct told {
    bool over, worked;
    md_error error;
};

static void on_reloaded(void *closure, const md_reload_result *result, const md_error *e)
{
    struct told *t = closure;
    t->over = true;
    t->worked = result != NULL;
    if (e != NULL)
        t->error = *e;
}

static bool reload(md_runtime *rt, struct told *t)
{
    uint64_t until = deadline();
    *t = (struct told){0};
    allocator_arm_children(true);
    int status = md_reload(rt, 0, on_reloaded, t, &t->error);
    allocator_arm_children(false);
    while (status == 0 && !t->over)
        turn(rt, until);
    return t->worked;
}

static void reload_well(md_runtime *rt, int version)
{
    struct told t;
    write_script(version);
    if (!reload(rt, &t))
        FAIL("md_reload() without a failure: [%s] %s", t.error.code, t.error.message);
    if (ask_version(rt) != version)
        FAIL("the script that was reloaded does not answer");
}

static md_runtime *make_with_script(void)
{
    write_script(1);
    md_runtime *rt = make();
    load(rt);
    write_script(2);
    return rt;
}

static bool reload_once(md_runtime **rt)
{
    struct told t;
    begin_to_fail();
    bool worked = reload(*rt, &t);
    bool more = allocator_failures() > 0;
    end_to_fail();
    if (!worked)
        check_error(&t.error);
    if (ask_version(*rt) != (worked ? 2 : 1))
        FAIL("the script at work is not the one that it should be");
    if (worked || number % 16 == 0) {
        reload_well(*rt, 3);
        free_runtime(*rt); /* the script at work has allocated, too */
        *rt = make_with_script();
    }
    return more;
}

static void md_reload_to_another_version(void **state)
{
    (void)state;
    number = 0;
    md_runtime *rt = make_with_script();
    allocator_fail(0, false);
    allocator_arm();
    reload_well(rt, 2);
    allocator_disarm();
    unsigned long count = needed();
    free_runtime(rt);
    for (int all = 0; all < 2; all++) {
        all_after = all != 0;
        rt = make_with_script();
        for (number = 1; reload_once(&rt); number += number + OWN < count ? STRIDE : STRIDE_OF_OWN)
            assert_in_range(number, 1, ENOUGH);
        reload_well(rt, 3);
        free_runtime(rt);
    }
}

/* ---- a script at work ---- */

static void give_back(void *closure, md_call *call)
{
    (void)closure;
    for (size_t i = 0; i < md_call_count(call); i++)
        md_call_return(call, md_call_argument(call, i));
}

static const char *const worker_text =
    "local moondog = require 'moondog'\n"
    "VERSION = 1\n"
    "local gw = moondog.connect { name = 'gw', servers = 'nats://127.0.0.1:1',\n"
    "  reconnect = function(ctx) return 5 + #ctx.server end }\n"
    "local made = moondog.metrics.counter('made_total')\n"
    "moondog.on_event('event', function(data)\n"
    "  made:add(1, { kind = tostring(data.n) })\n"
    "  gw:publish('a.b', data.list[1], { headers = { k = 'v' } })\n"
    "  local sub = gw:subscribe('c.*', function() end, { queue = 'q' })\n"
    "  local timer = moondog.every(60, function() end)\n"
    "  moondog.spawn(function(a) moondog.sleep(0.0001) assert(host.give_back(a) == a) end, 'x')\n"
    "  host.give_back({ 1, 2, { a = 'b' } })\n"
    "  moondog.sleep(0)\n"
    "  timer:cancel() sub:unsubscribe()\n"
    "  moondog.log.info('done', { n = data.n }) gw:status() gw:stats()\n"
    "  error({ code = 'mine' })\n"
    "end)\n";

static bool work_once(md_runtime *rt)
{
    const md_value list[] = {md_string("text"), md_number(2)};
    const md_field fields[] = {{"n", md_number(1)}, {"list", md_list(list, 2)}};
    md_value data = md_map(fields, 2);
    struct answer a = {0};
    md_error e = {0};
    begin_to_fail();
    a.over = md_eval(rt, "(VERSION + 1) .. 'x', { 1, 2 }, print", on_answer, &a, &e) != 0;
    md_emit(rt, "event", &data);
    md_register(rt, "give_back", give_back, NULL);
    for (int i = 0; i < 20 || !a.over; i++)
        md_poll(rt, 1000);
    free(md_status(rt));
    bool more = allocator_failures() > 0;
    end_to_fail();
    md_register(rt, "give_back", NULL, NULL);
    if (ask_version(rt) != 1)
        FAIL("the script does not answer any more");
    return more;
}

static md_runtime *make_worker(void)
{
    md_runtime *rt = make();
    load(rt);
    return rt;
}

static void a_script_at_work(void **state)
{
    (void)state;
    number = 0;
    write_file(place.script, worker_text);
    for (int all = 0; all < 2; all++) {
        all_after = all != 0;
        md_runtime *rt = make_worker();
        for (number = 1; work_once(rt); number += STRIDE_OF_OWN) {
            assert_in_range(number, 1, ENOUGH);
            if (number % 8 < STRIDE_OF_OWN) {
                free_runtime(rt); /* before that, some is still in use */
                rt = make_worker();
            }
        }
        free_runtime(rt);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_first_md_create_of_a_process), /* before any other runtime */
        cmocka_unit_test(md_create_of_further_runtimes),    cmocka_unit_test(md_load_of_a_script),
        cmocka_unit_test(md_reload_to_another_version),     cmocka_unit_test(a_script_at_work),
    };
    return cmocka_run_group_tests_name("allocations", tests, set_up, tear_down);
}
