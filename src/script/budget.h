/* Time budgets: no entry into Lua takes more of the processor's time than it may. On a machine that
 * is busy with something else it may last twice as long; and longer only when it hardly got any of
 * that time, which is not its fault. The sentinel looks at the entries, and says which one is to
 * stop. An instruction hook raises the error; it stays armed until the entry is left: a script that
 * catches the error gets the next one at its next instruction, so no pcall loop can go on.
 *
 * The hook is armed by a signal to the thread that runs the entry, when the process has given one
 * for that: then scripts run at full speed. Otherwise a hook looks every BUDGET_LOOK_EVERY
 * instructions whether its entry is to stop.
 *
 * An entry costs a few stores and no look at the clock. It is stopped between its limit and its
 * limit plus two ticks of the sentinel. What no hook can stop is code inside C and compiled traces.
 */
#ifndef MD_SCRIPT_BUDGET_H
#define MD_SCRIPT_BUDGET_H

#include <lua.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <time.h>

struct callback; /* script/generation.h */

/* How many times its limit an entry lasts that has the processor for a part of the time: at least
 * for a tenth of its limit. */
#define BUDGET_BUSY 2u
#define BUDGET_HARDLY 10u
#define BUDGET_LOOK_EVERY 1000

/* One for each lua_State. Entered by one thread at a time. */
typedef struct budget {
    struct budget *next;
    lua_State *L;
    _Atomic uint64_t entry;       /* odd while inside */
    _Atomic uint32_t limit_ms;    /* of this entry; 0: none */
    _Atomic uint64_t stop_entry;  /* the entry that is to stop; 0: none yet */
    _Atomic uint64_t interrupted; /* the entry that somebody else than its limit stops */
    int signal;                   /* that arms the hook; 0: the hook looks by itself */
    _Atomic pthread_t thread;     /* that is inside; written before entry becomes odd */
    _Atomic clockid_t clock;      /* the processor's time of that thread */
    /* What it runs, for reports; NULL: outside, or nothing that has a name. Whoever frees a
     * callback settles with the sentinel before. */
    _Atomic(const struct callback *) what;
    struct budget *outer; /* what this thread was inside before */
    unsigned depth;
    volatile sig_atomic_t armed;
    lua_Hook preempt; /* of an entry that may yield instead of being stopped: tried first. NULL */
    _Atomic uint64_t overruns;
    uint64_t seen_entry, seen_since; /* the sentinel's */
    uint64_t seen_cpu;               /* ns of `clock`, at seen_since */
    unsigned asked;                  /* how often it has asked seen_entry to stop */
    pthread_mutex_t hooks;           /* to set the hook of the state, but not in a signal handler */
    atomic_bool hurried; /* the sentinel sets it as well, for as long as the entry lasts */
} budget;

/* Of a state that is in no entry, by its thread. `signal`: that arms the hook; 0: none. */
void budget_init(budget *b, lua_State *L, int signal);

/* Around every call into Lua, on the thread that makes it. They nest: the outermost limit counts,
 * and the outermost `what` (NULL: it has no name). */
void budget_enter(budget *b, uint32_t limit_ms, const struct callback *what);
/* Whether the entry was stopped. */
bool budget_leave(budget *b);

/* Inside an entry, by its thread: a count hook of its own. It is in the way of the one that looks.
 */
void budget_hook(budget *b, lua_Hook hook, int every);
/* The hook of the state is as it is while nothing is to be stopped: after another one was used. */
void budget_rest(budget *b);
/* Whether this thread is inside one, of any lua_State: then nothing may run that is a script's, or
 * ends what runs. */
bool budget_inside(void);

/* The sentinel's: stops the entry that is over its limit. Whether it is inside one. */
bool budget_look(budget *b);
/* Stops the entry that it is inside of, if any. Any thread, under the sentinel's lock. */
void budget_interrupt(budget *b);
/* Takes the signal for the process. 0; -1: something else has a handler for it, or it is none. */
int budget_take_signal(int number);

#endif
