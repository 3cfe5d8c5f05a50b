/* Functions of the standard library that LuaJIT has in assembler, and that need memory: when there
 * is none, they raise an error with a stack that is not in order, which crashes in pcall() and in
 * the collector. Here they are in C. On the thread of the lua_State. */
#ifndef MD_SCRIPT_FAST_FUNCTIONS_H
#define MD_SCRIPT_FAST_FUNCTIONS_H

#include <lua.h>

/* Puts them in the place of LuaJIT's. [-0, +0] */
void fast_functions_set_up(lua_State *L);

#endif
