/* The commands that ask a running process: status, reload, stop, eval, log. Main thread. */
#ifndef MD_CLI_ASK_H
#define MD_CLI_ASK_H

#include <lua.h>

/* The exit code. The table of arguments is at index 1 of L. */
int ask(lua_State *L, const char *command);

#endif
