/* Threads of ours take no signals of the process's: those belong to the program, and a handler of
 * its may not expect to run on a thread that it does not know. */
#ifndef MD_BASE_THREAD_H
#define MD_BASE_THREAD_H

#include <signal.h>
#include <uv.h>

/* A thread that is started from now on, by whoever, has all signals blocked; so has this one, until
 * the other call. Any thread. */
static inline void thread_block_signals(sigset_t *before)
{
    sigset_t all;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, before);
}

static inline void thread_restore_signals(const sigset_t *before)
{
    pthread_sigmask(SIG_SETMASK, before, NULL);
}

/* As uv_thread_create(). */
static inline int thread_start(uv_thread_t *thread, uv_thread_cb run, void *closure)
{
    sigset_t before;
    thread_block_signals(&before);
    int failed = uv_thread_create(thread, run, closure);
    thread_restore_signals(&before);
    return failed;
}

/* As uv_queue_work(): the first time in a process, it starts the threads of libuv's pool. */
static inline int thread_queue_work(uv_loop_t *loop, uv_work_t *work, uv_work_cb run,
                                    uv_after_work_cb done)
{
    sigset_t before;
    thread_block_signals(&before);
    int failed = uv_queue_work(loop, work, run, done);
    thread_restore_signals(&before);
    return failed;
}

/* On a thread that was started so: this one it takes; 0: none. */
static inline void thread_take_signal(int number)
{
    sigset_t one;
    sigemptyset(&one);
    if (number != 0 && sigaddset(&one, number) == 0)
        pthread_sigmask(SIG_UNBLOCK, &one, NULL);
}

#endif
