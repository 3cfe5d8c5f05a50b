/* `moondog top`: a view of a running process that is renewed again and again. Main thread. */
#ifndef MD_CLI_TOP_H
#define MD_CLI_TOP_H

#include <lua.h>

/* The exit code. The table of arguments is at index 1 of L. */
int top(lua_State *L);

#endif
