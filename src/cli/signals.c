/* Signals of the program. See signals.h. */
#include "cli/signals.h"

#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <time.h>
#include <unistd.h>

#define AT_ONCE_NS 500000000 /* that the loop may take to end the process at the second signal */

static struct {
    uv_mutex_t lock; /* of all below */
    uv_async_t wake;
    md_runtime *runtime; /* NULL: none yet, or none any more */
    unsigned stops, reloads;
} the;

static sigset_t wanted(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    return set;
}

void signals_unblock(void)
{
    sigset_t set = wanted();
    pthread_sigmask(SIG_UNBLOCK, &set, NULL);
}

/* The loop is inside something that nothing can stop; exit handlers could wait for it. */
static void end_process(void)
{
    static const char text[] =
        "moondog: ended by a second signal, without a drain: the loop was busy\n";
    struct timespec grace = {.tv_nsec = AT_ONCE_NS};
    while (nanosleep(&grace, &grace) != 0) {
    }
    ssize_t ignored = write(STDERR_FILENO, text, sizeof text - 1);
    (void)ignored;
    _exit(1);
}

static void wait_for_signals(void *closure)
{
    (void)closure;
    sigset_t set = wanted();
    for (int number = 0; sigwait(&set, &number) == 0;) {
        uv_mutex_lock(&the.lock);
        if (number == SIGHUP)
            the.reloads++;
        else
            the.stops++;
        if (the.runtime != NULL)
            uv_async_send(&the.wake);
        bool at_once = number != SIGHUP && the.stops > 1;
        uv_mutex_unlock(&the.lock);
        if (at_once)
            end_process();
    }
}

static void on_wake(uv_async_t *handle)
{
    (void)handle;
    uv_mutex_lock(&the.lock);
    unsigned stops = the.stops, reloads = the.reloads;
    the.reloads = 0;
    uv_mutex_unlock(&the.lock);
    if (reloads > 0)
        md_reload(the.runtime, 0, NULL, NULL, NULL); /* what comes of it is in the log */
    static unsigned done;
    for (; done < stops; done++)
        md_stop(the.runtime);
}

int signals_start(void)
{
    uv_thread_t thread;
    sigset_t set = wanted();
    int failed = uv_mutex_init(&the.lock);
    if (failed != 0)
        return failed;
    pthread_sigmask(SIG_BLOCK, &set, NULL);
    return uv_thread_create(&thread, wait_for_signals, NULL);
}

int signals_attach(uv_loop_t *loop, md_runtime *runtime)
{
    int failed = uv_async_init(loop, &the.wake, on_wake);
    if (failed != 0)
        return failed;
    uv_unref((uv_handle_t *)&the.wake);
    uv_mutex_lock(&the.lock);
    the.runtime = runtime;
    uv_mutex_unlock(&the.lock);
    uv_async_send(&the.wake); /* for what came before */
    return 0;
}

void signals_detach(void)
{
    uv_mutex_lock(&the.lock);
    the.runtime = NULL;
    uv_mutex_unlock(&the.lock);
    uv_close((uv_handle_t *)&the.wake, NULL);
}
