/* Time budgets: no entry into Lua lasts longer than it may. A sentinel thread looks at the entries;
 * it stops the one that is over its limit by a signal to the thread that runs it, whose handler
 * arms an instruction hook, and the hook raises an error. The hook stays armed until the entry is
 * left: a script that catches the error gets the next one at its next instruction, so no pcall loop
 * can go on.
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
#include <uv.h>

#define BUDGET_SIGNAL SIGURG /* ignored by default, and hardly used by anyone */

/* One for each lua_State. Entered by one thread at a time. */
typedef struct budget {
    struct budget *next;
    lua_State *L;
    _Atomic uint64_t entry;      /* odd while inside */
    _Atomic uint32_t limit_ms;   /* of this entry; 0: none */
    _Atomic uint64_t stop_entry; /* the entry that the sentinel wants to stop */
    _Atomic pthread_t thread;    /* that is inside; written before entry becomes odd */
    struct budget *outer;        /* what this thread was inside before */
    unsigned depth;
    volatile sig_atomic_t armed;
    lua_Hook preempt; /* of an entry that may yield instead of being stopped: tried first. NULL */
    _Atomic uint64_t overruns;
    uint64_t seen_entry, seen_since; /* the sentinel's */
} budget;

typedef struct {
    uv_mutex_t lock;
    uv_cond_t changed;
    uv_thread_t thread;
    budget *budgets;
    bool stopping, has_thread;
} sentinel;

/* Starts the thread and takes BUDGET_SIGNAL for the process. 0, or a libuv error. */
int sentinel_start(sentinel *s);
void sentinel_stop(sentinel *s);

/* Any thread. */
void budget_watch(sentinel *s, budget *b, lua_State *L);
void budget_forget(sentinel *s, budget *b);

/* Around every call into Lua, on the thread that makes it. They nest: the outermost limit counts.
 */
void budget_enter(budget *b, uint32_t limit_ms);
/* Whether the entry was stopped. */
bool budget_leave(budget *b);

#endif
