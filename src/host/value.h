/* Plain data: what host and script tell each other. An md_value is copied into an arena before
 * anything is done with it, so that it stays as it is; one that came from Lua is a copy, too. Any
 * thread, but what touches a lua_State. */
#ifndef MD_HOST_VALUE_H
#define MD_HOST_VALUE_H

#include <lua.h>
#include <stdbool.h>

#include "base/error.h"
#include "host/arena.h"
#include "moondog.h"

/* A deep copy. -1 and *e: "too_large", "too_deep", "bad_value" (it points nowhere, or is of no
 * type), "no_memory". What was taken from the arena by then stays in it. */
int value_copy(arena *a, const md_value *from, md_value *to, error *e);

/* [-0, +1] As a value of Lua. Raises an error when there is no memory, so only in protected mode.
 */
void value_push(lua_State *L, const md_value *value);

/* How values are read from Lua. */
typedef struct {
    arena *arena;
    const char *root; /* what the value is called in messages: "argument 2" */
    int tostring;     /* stack index of the function that makes texts of what is no plain data;
                         0: that is refused */
    error *e;
} value_reader;

/* [-0, +0] The value at `index`, as a copy in the arena. -1 and *e: it is no plain data
 * ("bad_value"), too large, or there is no memory; the message names the place in it. Raises an
 * error when the stack cannot grow, and what `tostring` raises. */
int value_read(const value_reader *r, lua_State *L, int index, md_value *to);

#endif
