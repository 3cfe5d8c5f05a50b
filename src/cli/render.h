/* Prints JSON as text for people: what a module of Lua makes of it. */
#ifndef MD_CLI_RENDER_H
#define MD_CLI_RENDER_H

#include <lua.h>

/* Prints module.render(verb, json), or module.render(json) when `verb` is NULL. The exit code: when
 * the module fails, what it says is on standard error. [-0, +n] */
int render_print(lua_State *L, const char *module, const char *verb, const char *json);

#endif
