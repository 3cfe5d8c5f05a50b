/* The evaluator of consoles: what a client asks is evaluated inside the generation that is at work,
 * as a task that runs in slices, in an environment of the client's own over the generation's
 * globals. The Lua side is lua/moondog/console.lua. Loop thread. */
#ifndef MD_SCRIPT_CONSOLE_H
#define MD_SCRIPT_CONSOLE_H

#include <jansson.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "script/generation.h"

#define CONSOLE_CODE_BYTES_MAX (512u * 1024)

struct console_command;

/* The environment of a client, in the generation where it was last used. {0} is none yet. */
typedef struct {
    uint32_t generation;
    int ref;
} console;

typedef struct {
    const char *kind; /* "eval", "run", "complete" */
    const char *text; /* the code; bytecode of ours to be run; what is to be completed */
    size_t length;
    const char *name; /* of the code, in messages */
    int width;        /* of the client's screen, in columns */
} console_question;

/* Never from within console_begin() or console_cancel(). */
typedef struct {
    void (*print)(void *closure, const char *text, size_t length);
    /* The values of an "eval" or "run", in the place of the answer that is made for people: they
     * are at `first` and above on L's stack, with tostring() at 1. -1 and *e: it fails with that.
     * May raise an error. NULL: the answer is made. */
    int (*values)(void *closure, lua_State *L, int first, error *e);
    /* The last one. `result` belongs to who is told; NULL: *e and the traceback say why; with an
     * *e of no code, `values` was called. */
    void (*done)(void *closure, json_t *result, const error *e, const char *traceback);
} console_observer;

/* Loads the Lua side, before any script can change what it uses. In protected mode. [-0, +0] */
void console_set_up(lua_State *L);

/* Begins at the next turn of the loop. NULL and *e when it cannot be begun. */
struct console_command *console_begin(console *c, struct generation *g, const console_question *q,
                                      const console_observer *observer, void *closure, error *e);
/* It ends, wherever it is; the observer is told nothing any more. */
void console_cancel(struct console_command *command);

/* Lets go of the environment; `at_work`: the generation that is, or NULL. */
void console_close(console *c, struct generation *at_work);

#endif
