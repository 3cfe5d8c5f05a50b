/* The sentinel: a thread that looks at what other threads do. It stops entries into Lua that last
 * longer than they may (script/budget.h), notices when the loop does not turn, names what holds it,
 * and tells a service manager that the loop turns only while it does. */
#ifndef MD_SCRIPT_SENTINEL_H
#define MD_SCRIPT_SENTINEL_H

#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

#include "base/log.h"
#include "base/notify.h"
#include "base/pulse.h"
#include "script/budget.h"
#include "script/callback.h"

/* A loop that does not turn, and the function of the script or of the host that holds it. */
typedef struct {
    bool stalled;
    double seconds; /* that it has not turned for; 0 when it is not stalled */
    bool named;     /* the rest names a function; otherwise moondog itself is at work */
    /* "handler", "orders.*", "gateway.lua:12"; place "": it is no function of a script. */
    char kind[16], name[CALLBACK_TEXT], place[CALLBACK_TEXT];
} stall;

#define STALL_TEXT_SIZE 256

/* What the sentinel looks at besides entries. All of it is borrowed until sentinel_unguard(). */
typedef struct {
    const pulse *pulse;
    uv_async_t *wake; /* of the loop: one that waits for long is asked for a turn */
    struct logger *log;
    notify *manager;   /* NULL: none */
    uint64_t stall_ns; /* a turn of the loop that lasts longer is a stall */
} sentinel_duty;

typedef struct {
    uv_mutex_t lock;
    uv_cond_t changed;
    uv_thread_t thread;
    budget *budgets;
    _Atomic(const struct callback *) host; /* what of the host the loop's thread is inside; NULL */
    int signal;                            /* that stops entries; 0: none */
    bool stopping, has_thread;
    sentinel_duty duty;          /* pulse NULL: none */
    uint64_t turns, turned_at;   /* of the loop, as last seen, and when that was (ns) */
    bool asked;                  /* for a turn, since then */
    uint64_t looked_at;          /* ns: the sentinel's last look */
    uint64_t resumed_at;         /* ns: when the process went on after a pause; 0: there was none */
    uint64_t stall_since;        /* of the stall that was told last; 0: it is over */
    uint64_t stalls, stalled_ns; /* so far; the one that goes on is not in stalled_ns */
    uint64_t feed_at;            /* ns: the manager hears next that the loop turns */
    char status[NOTIFY_TEXT_MAX - 16];
} sentinel;

/* Starts the thread. `signal`: 0, or one that was taken (budget_take_signal). 0, or a libuv error.
 */
int sentinel_start(sentinel *s, int signal);
void sentinel_stop(sentinel *s);

void sentinel_guard(sentinel *s, const sentinel_duty *duty);
void sentinel_unguard(sentinel *s);

/* Whether the loop is stalled now: a look of the caller's own. Any thread. */
void sentinel_stall(sentinel *s, stall *out);
/* How many stalls there were, this one included, and how long they lasted. Any thread. */
void sentinel_count_stalls(sentinel *s, uint64_t *stalls, double *seconds);
/* "the loop has not turned for 3.2 s: handler orders.* (gateway.lua:12) holds it" */
void stall_describe(const stall *s, char out[STALL_TEXT_SIZE]);

/* What the service manager shows of this process, one line; during a stall the stall comes first.
 * Any thread. */
void sentinel_set_status(sentinel *s, const char *text);

/* Around every function of the host that moondog calls, on the loop's thread: what it is called
 * where a stall is told. It has no budget. They nest: the one inside counts. Returns the one
 * outside. */
const struct callback *sentinel_host_enters(sentinel *s, const struct callback *what);
void sentinel_host_leaves(sentinel *s, const struct callback *outer);
/* Whether such a one runs. Loop thread. */
static inline bool sentinel_host_is_inside(const sentinel *s)
{
    return atomic_load_explicit(&s->host, memory_order_relaxed) != NULL;
}

/* Stops what is inside Lua now. Any thread. */
void sentinel_interrupt(sentinel *s);

/* `L` is used by nobody else at that time. Any thread. */
void budget_watch(sentinel *s, budget *b, lua_State *L);
void budget_forget(sentinel *s, budget *b);
/* After this nobody reads a callback that no entry is inside of: it may be freed, or changed. Any
 * thread. */
void sentinel_settle(sentinel *s);

#endif
