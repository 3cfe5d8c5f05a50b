/* `moondog repl`: a runtime in a thread of its own, and a console in it over its control socket, as
 * in any other process. See console.h. Main thread, but run_runtime(). */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <uv.h>

#include "cli/args.h"
#include "cli/client.h"
#include "cli/console.h"
#include "cli/dev_server.h"
#include "control/path.h"
#include "moondog.h"
#include "script/budget.h"

#define NAME "repl"
#define DRAIN_MS 1000
#define STOP_MS 5000

static const char policy[] = "-- What `moondog repl` runs: a connection to $NATS_URL.\n"
                             "local moondog = require \"moondog\"\n"
                             "gw = moondog.connect { name = \"gw\" }\n";

struct repl {
    char folder[80];
    char control[CONTROL_PATH_SIZE], script[CONTROL_PATH_SIZE];
    pthread_t thread;
    uv_sem_t started; /* or failed */
    md_error error;   /* code "": it runs */
    unsigned left;    /* threads that hang */
};

static void run_and_free(struct repl *r, md_runtime *rt)
{
    int failed = rt == NULL ? -1 : md_load(rt, r->script, &r->error);
    uv_sem_post(&r->started);
    if (failed == 0)
        md_run(rt);
    r->left = md_free(rt);
}

static void *run_runtime(void *closure)
{
    struct repl *r = closure;
    md_options o;
    md_options_init(&o);
    o.name = NAME;
    o.control = r->control;
    o.log_level = "off"; /* the console shows it */
    o.drain_ms = DRAIN_MS;
    run_and_free(r, md_create(&o, &r->error));
    return NULL;
}

/* Signals are for the terminal, in the main thread. */
static int start_thread(struct repl *r)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before);
    int failed = pthread_create(&r->thread, NULL, run_runtime, r);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return failed;
}

static int make_files(struct repl *r)
{
    const char *tmp = getenv("TMPDIR");
    int length = snprintf(r->folder, sizeof r->folder, "%s/moondog-repl-XXXXXX",
                          tmp != NULL && tmp[0] == '/' ? tmp : "/tmp");
    if (length < 0 || (size_t)length >= sizeof r->folder) {
        errno = ENAMETOOLONG;
        return -1;
    }
    if (mkdtemp(r->folder) == NULL)
        return -1;
    snprintf(r->control, sizeof r->control, "%s/" NAME ".sock", r->folder);
    snprintf(r->script, sizeof r->script, "%s/" NAME ".lua", r->folder);
    FILE *out = fopen(r->script, "we");
    if (out == NULL)
        return -1;
    fputs(policy, out);
    return fclose(out);
}

static void remove_files(const struct repl *r)
{
    unlink(r->script);
    unlink(r->control);
    rmdir(r->folder);
}

static void stop(struct repl *r, unsigned *left)
{
    error e = {0};
    json_t *answer = client_ask(r->control, "stop", NULL, STOP_MS, &e);
    if (answer == NULL) {
        fprintf(stderr, "moondog: the runtime does not stop: %s\n", e.message);
        *left += 1;
    } else {
        pthread_join(r->thread, NULL);
        *left += r->left;
    }
    json_decref(answer);
}

static int run(lua_State *L, struct repl *r, unsigned *left)
{
    uv_sem_init(&r->started, 0);
    if (make_files(r) != 0 || start_thread(r) != 0) {
        fprintf(stderr, "moondog: cannot make %s, or a thread: %s\n", r->folder, strerror(errno));
        remove_files(r);
        return EXIT_FAILED;
    }
    int code = EXIT_FAILED;
    uv_sem_wait(&r->started);
    if (r->error.code[0] == '\0') {
        code = console_run(L, r->control, NAME);
        stop(r, left);
    } else {
        fprintf(stderr, "moondog: %s\n", r->error.message);
        pthread_join(r->thread, NULL);
    }
    uv_sem_destroy(&r->started);
    remove_files(r);
    return code;
}

int console_repl(lua_State *L, unsigned *left)
{
    struct repl r = {.folder = ""};
    dev_server server = {0};
    error e = {0};
    const char *url = args_string(L, "url", NULL);
    if (url != NULL)
        setenv("NATS_URL", url, 1);
    /* An address of another machine that does not answer now may do so later. */
    if (dev_server_start(&server, url, &e) != 0)
        fprintf(stderr, "moondog: %s\n", e.message);
    int code = run(L, &r, left);
    dev_server_stop(&server);
    return code;
}
