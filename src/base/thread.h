/* How threads of ours, and those that the library starts, behave in somebody else's process. They
 * take no signals of the process's: those belong to the program, and a handler of its may not
 * expect to run on a thread that it does not know. */
#ifndef MD_BASE_THREAD_H
#define MD_BASE_THREAD_H

#include <pthread.h>
#include <sched.h>
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

/* This thread, and those that it starts from now on, do not push aside what runs when they are
 * woken: they go on when it waits, or when its time is over. For threads that only hand on: what
 * one of them has for another one is then handed on together, and not one by one with a change of
 * threads between them. Returns what is to be given to the other call; without effect on a thread
 * that has a policy of its own. Any thread. */
static inline int thread_become_patient(void)
{
    int policy = 0;
    struct sched_param parameters;
    if (pthread_getschedparam(pthread_self(), &policy, &parameters) == 0 && policy == SCHED_OTHER)
        (void)pthread_setschedparam(pthread_self(), SCHED_BATCH, &parameters);
    return policy;
}

static inline void thread_restore_policy(int before)
{
    struct sched_param parameters = {0};
    if (before == SCHED_OTHER)
        (void)pthread_setschedparam(pthread_self(), SCHED_OTHER, &parameters);
}

#define THREAD_WAY_LONG_NS 200000u /* several times what it takes to send a chunk */
#define THREAD_WAY_REST 8u

/* Lets a patient thread that was just woken run on this processor, in whose caches lies what it
 * was woken for. Others that want the processor may have it for milliseconds: after a call that
 * took long, those of eight times as long do nothing, so that at most a ninth of the time is lost.
 * *next is when one does something again, 0 at first. Any thread. */
static inline void thread_give_way(uint64_t *next)
{
    uint64_t begun = uv_hrtime();
    if (begun < *next)
        return;
    sched_yield();
    uint64_t ended = uv_hrtime();
    if (ended - begun > THREAD_WAY_LONG_NS)
        *next = ended + THREAD_WAY_REST * (ended - begun);
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
