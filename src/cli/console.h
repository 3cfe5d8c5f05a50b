/* The console: `moondog attach` and `moondog repl`. Main thread. */
#ifndef MD_CLI_CONSOLE_H
#define MD_CLI_CONSOLE_H

#include <lua.h>

/* The exit code. The table of arguments is at index 1 of L. *left: threads that hang are added. */
int console_attach(lua_State *L);
int console_repl(lua_State *L, unsigned *left);

/* A console in the process whose control socket is at `path`; `name` is what the prompt calls it.
 * The exit code. */
int console_run(lua_State *L, const char *path, const char *name);

#endif
