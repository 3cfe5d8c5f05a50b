/* Whether Lua is LuaJIT here. Any thread. */
#ifndef MD_SCRIPT_INTERPRETER_H
#define MD_SCRIPT_INTERPRETER_H

#include "base/error.h"

/* A host may have a Lua of its own, and show its functions to the whole process; then the dynamic
 * linker takes them for LuaJIT's, and nothing would work. 0; or -1 and *e ("other_lua"), which says
 * whose they are and what to do. */
int interpreter_check(error *e);

#endif
