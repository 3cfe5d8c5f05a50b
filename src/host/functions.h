/* Functions of the host that scripts call: the global `host` of each generation. They belong to the
 * runtime, and are looked for when they are called, so that scripts at work see each change. Loop
 * thread, but functions_set_up(). */
#ifndef MD_HOST_FUNCTIONS_H
#define MD_HOST_FUNCTIONS_H

#include <jansson.h>
#include <lua.h>
#include <stdbool.h>
#include <stdint.h>

#include "host/arena.h"

struct generation;
struct host_function;

/* Of a runtime; {0} has none. */
struct functions {
    struct host_function *table;
    /* Of the call that runs. A script's error unwinds it, so that they cannot be its own: what is
     * left of them goes at the next one, or at the end. */
    arena arguments, results;
    struct generation *caller; /* while a function of the host runs; or NULL */
    uint64_t calls;
};

/* None is there any more. */
void functions_clear(struct functions *all);
/* Their names, in the order in which they were registered. NULL: no memory. */
json_t *functions_names(const struct functions *all);

/* Makes the global `host`. On the thread that loads the generation. In protected mode. [-0, +0] */
void functions_set_up(lua_State *L);
/* Whether the value at `index` is that global. [-0, +0] */
bool functions_is_host(lua_State *L, int index);
/* [-0, +1] A table whose keys are their names, and whose values are functions: for completion. */
void functions_push_names(lua_State *L);

#endif
