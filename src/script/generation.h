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
#include "script/budget.h"

struct binding;
struct lua_timer;
struct task;

/* A function of the script with what is needed to name it in a report. */
struct callback {
    int ref;          /* in the registry; LUA_NOREF: none */
    const char *kind; /* "handler", "hook", "timer", "task", "policy", ... */
    char name[80];    /* "orders.*", "gateway.closed", "gateway.lua:12" */
    uint64_t calls, errors, overruns;
    uint64_t logged_at; /* ns: when its last failure was logged */
};

typedef struct {
    struct hub *hub;
    sentinel *sentinel;
    uint32_t handler_budget_ms, load_budget_ms;
    size_t memory_cap;
} generation_limits;

struct generation {
    generation_limits limits;
    uint32_t number;
    lua_State *L; /* its main thread: used between entries, from the loop */
    budget budget;
    size_t memory;
    uint64_t memory_refusals;
    bool loading;   /* the top level runs: it declares, and cannot wait or send */
    bool committed; /* it is at work */
    bool closing;
    char *path;

    struct binding *bindings;
    struct callback_node *on_start, *on_unload;
    unsigned spawned_count;
    struct lua_timer *timers;

    /* Tasks: script/task.c. */
    struct task *idle, *parked;
    struct task *spawned, **spawned_end;
    struct task *running;
    unsigned idle_count, parked_count;
    int protect_ref;      /* the C function behind generation_protect() */
    natsMsg *garbage[64]; /* handled messages, destroyed together */
    unsigned garbage_count;
    uint64_t errors;  /* of all callbacks */
    unsigned handles; /* open libuv handles */
};

struct callback_node {
    struct callback_node *next;
    struct callback callback;
};

/* Without a script. NULL when out of memory. */
struct generation *generation_new(const generation_limits *limits, uint32_t number);

/* Compiles the file and runs its top level, under the load budget and the memory cap. -1 and *e
 * with the place, and the script's traceback in `traceback` (of `size` bytes). */
int generation_load(struct generation *g, const char *path, error *e, char *traceback, size_t size);

/* Puts it to work: its connections start, its subscriptions and timers too, then on_start. */
int generation_commit(struct generation *g, error *e);

/* Runs its on_unload functions. */
void generation_unload(struct generation *g);

/* Whether handlers or other tasks have not finished. */
bool generation_is_busy(const struct generation *g);

/* Cancels timers and tasks, closes connections' ties to it. The state is closed when
 * generation_is_closed(); then generation_free(). */
void generation_close(struct generation *g);
bool generation_is_closed(const struct generation *g);
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

/* Callbacks. */
void callback_init(struct callback *cb, const char *kind, const char *name);
/* Takes the function at `index` of L. */
void callback_set(struct callback *cb, lua_State *L, int index);
void callback_clear(struct callback *cb, lua_State *L);
static inline bool callback_is_set(const struct callback *cb)
{
    return cb->ref > 0;
}
/* "file:line" of the function at index, into cb->name. */
void callback_name_by_place(struct callback *cb, lua_State *L, int index);

/* Reads a file: whole text, to be freed. NULL and *e. */
char *generation_read_file(const char *path, size_t *length, error *e);

#endif
