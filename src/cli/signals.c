/* Signals of the program. See signals.h. */
#include "cli/signals.h"

#include <errno.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"

#define AT_ONCE_MS 500u /* that the loop may take to end the process at the second signal */

static struct {
    uv_mutex_t lock; /* of all below */
    uv_async_t wake;
    md_runtime *runtime; /* NULL: none yet, or none any more */
    unsigned stops, reloads;
    uint32_t limit_ms; /* not under it: set before the thread is made */
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
static void end_process(const char *text)
{
    ssize_t ignored = write(STDERR_FILENO, text, strlen(text));
    (void)ignored;
    _exit(1);
}

/* As sigwait(); 0: the deadline has passed. */
static int wait_for_one(const sigset_t *set, uint64_t deadline_ms)
{
    for (;;) {
        uint64_t now = clock_ms();
        uint64_t left = deadline_ms > now ? deadline_ms - now : 0;
        struct timespec limit = {.tv_sec = (time_t)(left / 1000),
                                 .tv_nsec = (long)(left % 1000) * 1000000};
        int number = sigtimedwait(set, NULL, deadline_ms != 0 ? &limit : NULL);
        if (number > 0)
            return number;
        if (errno == EAGAIN)
            return 0;
    }
}

static void note_signal(int number)
{
    uv_mutex_lock(&the.lock);
    if (number == SIGHUP)
        the.reloads++;
    else
        the.stops++;
    if (the.runtime != NULL)
        uv_async_send(&the.wake);
    uv_mutex_unlock(&the.lock);
}

static void wait_for_signals(void *closure)
{
    (void)closure;
    sigset_t set = wanted();
    uint64_t deadline = 0; /* ms; 0: nobody has told us to end */
    for (;;) {
        int number = wait_for_one(&set, deadline);
        if (number == 0)
            end_process(
                the.stops > 1
                    ? "moondog: ended by a second signal, without a drain: the loop was busy\n"
                    : "moondog: ended without a drain: the loop was busy all the time that "
                      "a drain may take\n");
        note_signal(number);
        if (number != SIGHUP)
            deadline = clock_ms() + (the.stops > 1 ? AT_ONCE_MS : the.limit_ms);
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

int signals_start(uint32_t limit_ms)
{
    uv_thread_t thread;
    the.limit_ms = limit_ms;
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
