/* A hundred runtimes in one process, on threads of their own, on a loop that they share, and
 * polled: each has a connection to a real server, is reloaded, stops, and leaves nothing behind.
 * And what runtimes do with the signals of the process: nothing. */
#include <dirent.h>
#include <malloc.h>
#include <setjmp.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>
#include <uv.h>

#include <cmocka.h>

#include "moondog.h"

#define COUNT 100
#define ROUNDS 3 /* the libraries have what they keep after the first */
#define PATIENCE_MS 100000
#define MEMORY_SLACK (256 * 1024) /* less than 3 KB a runtime */

#if defined(__SANITIZE_THREAD__)
#define SANITIZER_HAS_THREAD true /* which takes signals */
#else
#define SANITIZER_HAS_THREAD false
#endif

extern char **environ;

static struct {
    char folder[64], script[96];
    pid_t server;
    uint64_t deadline; /* ns, of the test that runs */
} place;

/* A moment passes; the test ends when there were too many. */
static void wait_a_moment(const char *what)
{
    struct timespec moment = {.tv_nsec = 200000};
    nanosleep(&moment, NULL);
    if (uv_hrtime() > place.deadline)
        fail_msg("%s: not within %d ms", what, PATIENCE_MS);
}

static void start_patience(void)
{
    place.deadline = uv_hrtime() + PATIENCE_MS * 1000000ull;
}

/* ---- a server ---- */

/* What the server says of its port, in a file that it makes when it listens: {"nats":["URL",...]}
 */
static bool read_url(char *url, size_t size)
{
    char path[160], text[512] = "";
    snprintf(path, sizeof path, "%s/nats-server_%d.ports", place.folder, (int)place.server);
    FILE *in = fopen(path, "r");
    if (in == NULL)
        return false;
    size_t length = fread(text, 1, sizeof text - 1, in);
    text[length] = '\0';
    fclose(in);
    const char *start = strstr(text, "nats://");
    const char *end = start != NULL ? strchr(start, '"') : NULL;
    if (end == NULL) /* it is being written */
        return false;
    snprintf(url, size, "%.*s", (int)(end - start), start);
    unlink(path);
    return true;
}

static const char *const script_text =
    "local moondog = require 'moondog'\n"
    "local gw = moondog.connect { name = 'gw', servers = '%s' }\n"
    "moondog.on_start(function(state)\n"
    "  state.n = (state.n or 0) + 1\n"
    "  local subject = 'many.' .. host.id()\n"
    "  gw:subscribe(subject, function(msg) host.got(tonumber(msg.data)) end)\n"
    "  gw:publish(subject, tostring(state.n))\n"
    "end)\n";

static int set_up(void **state)
{
    char url[128];
    (void)state;
    start_patience();
    snprintf(place.folder, sizeof place.folder, "/tmp/moondog-unit-XXXXXX");
    assert_non_null(mkdtemp(place.folder));
    snprintf(place.script, sizeof place.script, "%s/script.lua", place.folder);
    char *arguments[] = {"nats-server", "-a",        "127.0.0.1",        "-p",         "-1",
                         "--log",       "/dev/null", "--ports_file_dir", place.folder, NULL};
    assert_int_equal(posix_spawnp(&place.server, arguments[0], NULL, NULL, arguments, environ), 0);
    while (!read_url(url, sizeof url))
        wait_a_moment("the server does not say where it listens");
    FILE *out = fopen(place.script, "w");
    assert_non_null(out);
    assert_true(fprintf(out, script_text, url) > 0);
    assert_int_equal(fclose(out), 0);
    return 0;
}

static int tear_down(void **state)
{
    int status;
    (void)state;
    kill(place.server, SIGTERM);
    waitpid(place.server, &status, 0);
    unlink(place.script);
    return rmdir(place.folder);
}

/* ---- one runtime ---- */

typedef struct {
    unsigned id;
    md_runtime *runtime;
    uv_thread_t thread;
    bool stays; /* it does not stop by itself */
    atomic_bool stopped;
    unsigned reloaded; /* times */
    md_error error;
} one;

static void discard_line(void *closure, int level, const char *line, size_t length)
{
    (void)closure;
    (void)level;
    (void)line;
    (void)length;
}

static void on_stopped(void *closure)
{
    one *o = closure;
    atomic_store(&o->stopped, true);
}

static void on_reloaded(void *closure, const md_reload_result *result, const md_error *e)
{
    one *o = closure;
    o->reloaded += result != NULL;
    if (e == NULL)
        return;
    o->error = *e;
    md_stop(o->runtime);
}

static void reload(one *o)
{
    if (md_reload(o->runtime, 0, on_reloaded, o, &o->error) != 0)
        md_stop(o->runtime);
}

/* host.got(n): the n-th generation has its message. */
static void got(void *closure, md_call *call)
{
    one *o = closure;
    if (md_call_argument(call, 0)->as.number < 2)
        reload(o);
    else if (!o->stays)
        md_stop(o->runtime);
}

static void tell_id(void *closure, md_call *call)
{
    const one *o = closure;
    md_value id = md_number(o->id);
    md_call_return(call, &id);
}

/* Leaves *o stopped, with an error, when it cannot. */
static void begin(one *o, uv_loop_t *loop)
{
    md_options options;
    md_options_init(&options);
    options.loop = loop;
    options.log_write = discard_line;
    options.stopped = on_stopped;
    options.stopped_closure = o;
    options.load_budget_ms = 60000; /* sanitizers are slow */
    options.handler_budget_ms = 60000;
    options.stall_ms = PATIENCE_MS;
    o->runtime = md_create(&options, &o->error);
    if (o->runtime == NULL) {
        atomic_store(&o->stopped, true);
        return;
    }
    md_register(o->runtime, "got", got, o);
    md_register(o->runtime, "id", tell_id, o);
    if (md_load(o->runtime, place.script, &o->error) != 0)
        md_stop(o->runtime);
}

static void run_alone(void *closure)
{
    one *o = closure;
    begin(o, NULL);
    if (o->runtime != NULL)
        md_run(o->runtime);
    md_free(o->runtime);
}

static void check(const one *o)
{
    if (o->error.code[0] != '\0')
        fail_msg("runtime %u: [%s] %s", o->id, o->error.code, o->error.message);
    if (o->reloaded != 1)
        fail_msg("runtime %u was reloaded %u times", o->id, o->reloaded);
}

/* ---- a hundred ---- */

enum { ALONE, SHARED, POLLED, WAYS };

static one all[COUNT];

static bool all_stopped(void)
{
    for (unsigned i = 0; i < COUNT; i++)
        if (!atomic_load(&all[i].stopped))
            return false;
    return true;
}

static void one_round(uv_loop_t *loop)
{
    memset(all, 0, sizeof all);
    for (unsigned i = 0; i < COUNT; i++) {
        all[i].id = i;
        if (i % WAYS == ALONE)
            assert_int_equal(uv_thread_create(&all[i].thread, run_alone, &all[i]), 0);
        else
            begin(&all[i], i % WAYS == SHARED ? loop : NULL);
    }
    while (!all_stopped()) {
        uv_run(loop, UV_RUN_NOWAIT);
        for (unsigned i = 0; i < COUNT; i++)
            if (i % WAYS == POLLED && all[i].runtime != NULL)
                md_poll(all[i].runtime, 1000);
        wait_a_moment("not all runtimes have stopped");
    }
    for (unsigned i = 0; i < COUNT; i++) {
        if (i % WAYS == ALONE)
            uv_thread_join(&all[i].thread);
        else
            assert_int_equal(md_free(all[i].runtime), 0);
    }
    for (unsigned i = 0; i < COUNT; i++)
        check(&all[i]);
}

static unsigned entries(const char *path)
{
    unsigned count = 0;
    DIR *folder = opendir(path);
    assert_non_null(folder);
    while (readdir(folder) != NULL)
        count++;
    closedir(folder);
    return count;
}

static void a_hundred_runtimes_leave_nothing_behind(void **state)
{
    (void)state;
    uv_loop_t loop;
    unsigned descriptors = 0, threads = 0;
    size_t memory = 0;
    assert_int_equal(uv_loop_init(&loop), 0);
    for (int round = 0; round < ROUNDS; round++) {
        start_patience();
        one_round(&loop);
        /* A thread that was joined may be seen for a moment more. */
        while (round > 0 && entries("/proc/self/task") > threads)
            wait_a_moment("threads are left");
        unsigned open_now = entries("/proc/self/fd");
        size_t used_now = mallinfo2().uordblks;
        if (round > 0 && open_now > descriptors)
            fail_msg("%u descriptors more than after the round before", open_now - descriptors);
        if (round > 0 && used_now > memory + MEMORY_SLACK)
            fail_msg("%zu bytes more than after the round before", used_now - memory);
        threads = entries("/proc/self/task");
        descriptors = open_now;
        memory = used_now;
    }
    assert_int_equal(uv_loop_close(&loop), 0); /* nothing of a runtime is left in it */
}

/* ---- signals ---- */

static void read_dispositions(struct sigaction *out)
{
    memset(out, 0, sizeof *out * NSIG);
    for (int i = 1; i < NSIG; i++)
        sigaction(i, NULL, &out[i]); /* there are numbers that are none */
}

/* The signals that this thread has blocked, as a set of bits; signal 1 is bit 0. */
static uint64_t blocked_in(const char *thread)
{
    char path[64], line[256];
    unsigned long long set = 0;
    snprintf(path, sizeof path, "/proc/self/task/%s/status", thread);
    FILE *in = fopen(path, "r");
    if (in == NULL)
        return UINT64_MAX; /* it has ended meanwhile */
    while (fgets(line, sizeof line, in) != NULL)
        if (sscanf(line, "SigBlk: %llx", &set) == 1)
            break;
    fclose(in);
    return set;
}

/* All but those that cannot be blocked, and the two of the C library's own. */
static uint64_t all_signals(void)
{
    uint64_t set = UINT64_MAX;
    const int out[] = {SIGKILL, SIGSTOP, 32, 33};
    for (size_t i = 0; i < sizeof out / sizeof out[0]; i++)
        set &= ~(UINT64_C(1) << (out[i] - 1));
    return set;
}

static void check_threads(void)
{
    char self[16];
    unsigned others = 0;
    snprintf(self, sizeof self, "%d", (int)getpid());
    DIR *folder = opendir("/proc/self/task");
    assert_non_null(folder);
    for (const struct dirent *d; (d = readdir(folder)) != NULL;) {
        if (d->d_name[0] == '.' || strcmp(d->d_name, self) == 0)
            continue;
        others++;
        if ((blocked_in(d->d_name) & all_signals()) != all_signals())
            fail_msg("thread %s takes signals: blocked are %llx", d->d_name,
                     (unsigned long long)blocked_in(d->d_name));
    }
    closedir(folder);
    assert_true(others > 3); /* of the log, the sentinel, the link, nats.c */
}

static void on_pipe(int number)
{
    (void)number;
}

static void on_compiled(void *closure, const md_value *results, size_t count, const md_error *e)
{
    (void)results;
    (void)count;
    (void)e;
    *(bool *)closure = true;
}

static void the_signals_are_the_programs_own(void **state)
{
    (void)state;
    static struct sigaction before[NSIG], after[NSIG];
    static char code[100000];
    sigset_t mask_before, mask_after;
    one o = {.id = COUNT, .stays = true};
    start_patience();
    signal(SIGPIPE, on_pipe); /* nats.c would ignore it from now on */
    read_dispositions(before);
    pthread_sigmask(SIG_SETMASK, NULL, &mask_before);
    begin(&o, NULL);
    assert_string_equal(o.error.message, "");
    while (o.reloaded == 0) {
        md_poll(o.runtime, 1000);
        wait_a_moment("no reload");
    }
    bool compiled = false;
    memset(code, ' ', sizeof code - 1); /* so much is compiled by libuv's pool */
    assert_int_equal(md_eval(o.runtime, code, on_compiled, &compiled, NULL), 0);
    while (!compiled) {
        md_poll(o.runtime, 1000);
        wait_a_moment("not compiled");
    }
    if (!SANITIZER_HAS_THREAD)
        check_threads();
    md_stop(o.runtime);
    while (md_poll(o.runtime, 1000) >= 0)
        wait_a_moment("not stopped");
    assert_int_equal(md_free(o.runtime), 0);
    read_dispositions(after);
    pthread_sigmask(SIG_SETMASK, NULL, &mask_after);
    for (int i = 1; i < NSIG; i++) {
        assert_int_equal(sigismember(&mask_before, i), sigismember(&mask_after, i));
        assert_ptr_equal(before[i].sa_handler, after[i].sa_handler);
        assert_int_equal(before[i].sa_flags, after[i].sa_flags);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_signals_are_the_programs_own), /* before there are other threads */
        cmocka_unit_test(a_hundred_runtimes_leave_nothing_behind),
    };
    return cmocka_run_group_tests_name("many_runtimes", tests, set_up, tear_down);
}
