/* Tasks: script functions run in pooled coroutines. One that does not wait costs no coroutine; one
 * that waits is parked until what it waits for happens, its time is over, or its generation ends.
 * Every call of the loop into Lua goes through here: protected, with a traceback, a time budget and
 * an error count. Loop thread. */
#ifndef MD_SCRIPT_TASK_H
#define MD_SCRIPT_TASK_H

#include <lua.h>
#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "script/generation.h"
#include "script/latency.h"

struct binding;
struct message;
struct task;

/* Undoes what a parked task waits for: it ends without it. */
typedef void (*task_cancel)(struct task *t, void *closure);
/* The task is over: returned, failed or cancelled. */
typedef void (*task_finished)(void *closure);
/* It failed; for tasks that are no matter of the script's: what is told is neither counted nor
 * logged. */
typedef void (*task_failed)(void *closure, const char *message, const char *traceback,
                            bool overran);

struct task {
    struct generation *generation;
    struct task *next, **back; /* in generation->parked, or slices */
    lua_State *co;
    int co_ref;
    struct callback *callback; /* lives longer: finished() may give it back */
    bool waiting;
    task_cancel cancel; /* while waiting */
    void *closure;
    uint64_t number; /* what the wait wants to remember; how many arguments, before it begins */
    task_finished finished;
    task_failed failed;      /* NULL: it is reported */
    void *finished_closure;  /* of both */
    bool sliced;             /* it runs in slices: script/slice.h */
    bool preempted;          /* and waits for the next one */
    struct message *message; /* that it handles: valid until it is over */
    latency *latency;        /* where to note how long it took; NULL: that is not measured */
    uint64_t begun;          /* ns; with `latency` */
    uint32_t weight;         /* how many runs this one stands for */
    struct binding *binding; /* of what it waits for */
    uv_timer_t timer;
    bool has_timer;
    void (*on_timeout)(struct task *t);
    struct task *due_next, **due_back;   /* in generation->due: its timer has fired */
    struct task *wait_next, **wait_back; /* in what it waits for: script/signal.c */
    struct binding *holds; /* whose connection is not drained before it is over; NULL: none */
};

/* An idle task with the callback's function on its stack. NULL when out of memory (logged). */
struct task *task_begin(struct generation *g, struct callback *cb);
/* Runs it with `count` arguments pushed on t->co. `t` is not to be used afterwards. */
void task_start(struct task *t, int count);
/* The same, and not behind what waits for the host's time: messages and events, whose own order is
 * what counts. Whoever calls this has looked at the time. */
void task_start_now(struct task *t, int count);
/* The same at the next turn of the loop, in the order of the calls. What timers begin begins so: a
 * timer that is due again at once would keep the loop from ever looking at anything else. */
void task_start_soon(struct task *t, int count);

/* Called from Lua: a task for the function at stack index 1 and the arguments above it, which are
 * popped; it begins soon, or after commit. Raises an error when out of memory. */
void task_spawn(lua_State *L);
/* Between two turns: begins what is to begin, and goes on with those whose time is over, as far as
 * a slice of time goes. */
void task_run_ready(struct generation *g);

/* How many wait for task_run_ready(). */
unsigned task_ready_count(const struct generation *g);

/* What a C function that waits calls last: `return task_park(t, L, ...)`. */
int task_park(struct task *t, lua_State *L, task_cancel cancel, void *closure);
/* The task that L may park, or an error that says why not (`what` waits): while loading, in a
 * policy, in a callback of a C function. Comes before anything that would have to be undone. */
struct task *task_current(lua_State *L, const char *what);
void task_set_timer(struct task *t, uint32_t timeout_ms, void (*on_timeout)(struct task *t));

/* A parked task goes on between two turns, by how(t), which resumes it: for what happens within
 * Lua. */
void task_go_on_soon(struct task *t, void (*how)(struct task *t));

/* Goes on with a parked task, with `count` results pushed on t->co. */
void task_resume(struct task *t, int count);
/* The same with nil, err. */
void task_resume_error(struct task *t, const error *e);
/* The same with true, or with nil, err when *e has a code. */
void task_resume_done(struct task *t, const error *e);
/* It gets nil, err instead of what it waits for. */
void task_interrupt(struct task *t, const error *e);
/* It is parked no more and its coroutine is dropped; the script does not see it. */
void task_drop(struct task *t);

/* Calls a function that cannot wait (a policy), with what push() pushes; read() gets the first
 * result. 0, or -1 when it failed (logged and counted). Never from within Lua. */
typedef int (*call_push)(lua_State *L, void *closure);  /* how many it pushed */
typedef void (*call_read)(lua_State *L, void *closure); /* the result is on top */
int task_call(struct generation *g, struct callback *cb, call_push push, call_read read,
              void *closure);

/* Closes what tasks hold, at the end of a generation. */
void task_close_all(struct generation *g);

/* The value that the scheduler's own yields carry: see lua/moondog/coroutine.lua. */
void *task_wait_token(void);

#endif
