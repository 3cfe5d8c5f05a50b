/* What the command line said: the table that lua/moondog/cli.lua made of it, at index 1 of L. */
#ifndef MD_CLI_ARGS_H
#define MD_CLI_ARGS_H

#include <lua.h>
#include <stdbool.h>

enum { EXIT_DONE = 0, EXIT_FAILED = 1, EXIT_USAGE = 2 };

/* Borrowed from the table. */
const char *args_string(lua_State *L, const char *name, const char *fallback);
double args_number(lua_State *L, const char *name, double fallback);
bool args_flag(lua_State *L, const char *name);

#endif
