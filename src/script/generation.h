/* A generation: one loaded version of a script, with a lua_State of its own, and the owner of
 * everything that the script obtains: connections as it declared them, handlers, timers, tasks.
 * Nothing of it outlives it.
 *
 * It is loaded on any one thread (generation_load), where it only declares; from
 * generation_commit() on it belongs to the loop thread. */
#ifndef MD_SCRIPT_GENERATION_H
#define MD_SCRIPT_GENERATION_H

#include <lua.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "conn/connection.h"
#include "conn/hub.h"
#include "moondog.h"
#include "script/callback.h"
#include "script/sentinel.h"
#include "script/source.h"

struct binding;
struct event_handlers;
struct failures;
struct functions;
struct outbox_declaration;
struct outboxes;
struct keeper;
struct protected_call;
struct user_metrics;
struct ledgers;
struct messages;
struct lua_timer;
struct reload_request;
struct signal;
struct takeover;
struct task;

typedef struct {
    struct hub *hub;
    sentinel *sentinel;
    struct user_metrics *metrics; /* of scripts; NULL: none can be declared */
    struct ledgers *ledgers;      /* of consumers */
    struct messages *messages;    /* what the host does with connections; NULL: nothing */
    struct outboxes *outboxes;    /* of the runtime; NULL: none can be declared */
    struct functions *functions;  /* of the host, for scripts */
    struct failures *failures;    /* where failures are remembered; NULL: nowhere */
    uint32_t handler_budget_ms, load_budget_ms;
    size_t memory_cap;
    md_alloc_fn alloc; /* of the interpreter's memory; NULL: malloc() and its like */
    void *alloc_closure;
    size_t state_cap;   /* of moondog.state, packed */
    uint32_t retire_ms; /* what a generation that was replaced may take to finish */
    /* A script asks for a reload, and `t` goes on when that is over: with the number of the new
     * generation, or nil, err. The result is for reload_cancel(), when the task ends before.
     * NULL: not now. */
    struct reload_request *(*reload)(void *closure, struct task *t);
    void (*reload_cancel)(void *closure, struct reload_request *request);
    void *reload_closure;
} generation_limits;

/* Tasks that run in slices, and wait for the next one: script/slice.c. */
struct slices {
    struct task *first, **end;
    unsigned count;
    uint64_t until;      /* ns: of the slice that runs */
    uint64_t rest_until; /* ns: none runs before */
    uint64_t busy_until; /* ns: messages are handled */
    uint64_t handled;    /* of the generation, when it was last looked at */
    bool preempted;      /* the slice is over, and its coroutine yields */
};

/* Handled messages are kept, so many and so much at most, to be freed together: one by one, each
 * would wait for the lock of the heap that the library's thread allocates the next one from. */
#define GENERATION_GARBAGE 512u
#define GENERATION_GARBAGE_BYTES (256u * 1024u)

struct generation {
    generation_limits limits;
    uint32_t number;
    lua_State *L; /* its main thread: used between entries, from the loop */
    budget budget;
    struct heap_reserve *reserve; /* while the lua_State is made: script/heap.c */
    size_t memory, memory_peak;   /* with what was charged */
    size_t charged;               /* since the collector last worked for it */
    uint64_t memory_refusals;
    bool loading;          /* the top level runs: it declares, and cannot wait or send */
    bool committed;        /* it is at work */
    bool retiring;         /* it was replaced: what it has begun is finished */
    bool failed_probation; /* too many of its handlers failed */
    bool cancelled;        /* the deadline of that has passed: nothing waits any more */
    bool ending;           /* on_unload: nothing new is begun */
    bool closing;
    uint64_t retire_deadline;  /* ms */
    struct generation *next;   /* in the runtime's list of those that retire */
    struct takeover *takeover; /* while it takes over from another */
    struct callback top_level; /* for reports while it is loaded */
    char *path;
    sources *sources;          /* what it was loaded from */
    source_names source_names; /* of its callbacks */

    struct binding *bindings;
    struct outbox_declaration *outboxes;
    struct callback_node *on_start, *on_unload;
    struct event_handlers *events; /* of the host, by name: a table */
    unsigned spawned_count, due_count;
    unsigned first_kind; /* of the tasks that are ready: which of the kinds begins */
    unsigned unloading;  /* on_unload functions that have not finished */
    struct lua_timer *timers;
    struct signal *signals;
    struct keeper *keepers;

    /* Tasks: script/task.c. */
    struct task *idle, *parked;
    struct task *spawned, **spawned_end; /* they begin at the next turn */
    struct task *due, **due_end;         /* parked ones whose timer has fired */
    const struct task *going_on;         /* the one of these whose turn it is; NULL: none's */
    struct task *running;
    unsigned idle_count, parked_count;
    struct slices slices;
    int protect_ref;                             /* the C function behind generation_protect() */
    const struct protected_call *protected_call; /* that begins */
    int module_ref;                              /* the module `moondog` */
    int console_ref;                             /* the Lua side of consoles: script/console.c */
    int old_version_ref; /* state.version of the generation before; LUA_NOREF: none */
    natsMsg *garbage[GENERATION_GARBAGE]; /* handled messages, destroyed together */
    unsigned garbage_count;
    size_t garbage_bytes;
    uint64_t errors; /* of all callbacks */
    uint64_t handled, handler_errors;
    uint64_t start_errors; /* of on_start functions */
    unsigned handles;      /* open libuv handles */
    size_t steps_left;     /* of the collector, after it was closed */
    int64_t loaded_at;     /* ms since 1970 */
    uint64_t random;
};

struct callback_node {
    struct callback_node *next;
    struct callback callback;
};

/* Without a script. NULL when out of memory. */
struct generation *generation_new(const generation_limits *limits, uint32_t number);

/* Compiles the file and runs its top level, under the load budget and the memory cap. Files that
 * are in `from` are taken from there; it belongs to the generation then; NULL: all are read. -1 and
 * *e with the place, and the script's traceback in `traceback` (of `size` bytes). */
int generation_load(struct generation *g, const char *path, sources *from, error *e,
                    char *traceback, size_t size);

/* Starts its timers and runs its on_start functions, up to where they wait. See takeover.h for
 * what comes before. */
void generation_start(struct generation *g);
/* Stops its timers and runs its on_unload functions. */
void generation_unload(struct generation *g);

/* Whether handlers or other tasks have not finished. */
bool generation_is_busy(const struct generation *g);

/* Another one has taken its place: hooks, policies and timers are not called any more, what was
 * begun is finished. */
void generation_retire(struct generation *g);
/* Whether it has nothing left to do, once it retires. */
bool generation_has_finished(const struct generation *g);
/* What waits gets the error "replaced", and nothing can wait any more. Takes one slice of time;
 * false: not all was reached yet. */
bool generation_cancel(struct generation *g);

/* How long work is done that could be done later, before the loop goes on. */
#define GENERATION_SLICE_NS 1000000u

/* Ends timers and tasks, and the connections' ties to it. Then generation_close_step() until it is
 * true, then generation_free(). */
void generation_close(struct generation *g);
/* Frees its memory: one slice, or all at once when in a hurry. False: not closed yet; the loop has
 * to turn. */
bool generation_close_step(struct generation *g, bool hurry);
void generation_free(struct generation *g);

/* Destroys the messages that were handled. */
void generation_sweep(struct generation *g);

/* The generation that a lua_State belongs to. */
struct generation *generation_of(lua_State *L);

/* Runs fn(L, closure) on the main thread in protected mode; it leaves `results` values. 0, or -1:
 * then nothing is left, and the error was logged as `what`. For everything that allocates. */
typedef void (*generation_fn)(lua_State *L, void *closure);
int generation_protect(struct generation *g, generation_fn fn, void *closure, int results,
                       const char *what);

/* heap.c: Memory outside of the interpreter that the script makes us hold: it counts against its
 * cap. From within Lua. False: there is no room. */
bool generation_charge(lua_State *L, size_t bytes);
void generation_discharge(struct generation *g, size_t bytes);

#endif
