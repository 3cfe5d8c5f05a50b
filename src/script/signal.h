/* Signals: what tasks of moondog's own Lua modules wait for. One is set by the module, by a link
 * that came up, or by the end of the generation; tasks that wait for it go on at the next turn of
 * the loop. Loop thread. */
#ifndef MD_SCRIPT_SIGNAL_H
#define MD_SCRIPT_SIGNAL_H

#include <lua.h>

#include "script/generation.h"

struct binding;
struct signal;

/* Metatable. [-0, +0] */
void signal_register(lua_State *L);
/* signal([connection]): a new one. Its methods: wait(seconds), true when it was set, false when the
 * time is over or the generation begins to end; set(). [-0, +1] */
int signal_new_lua(lua_State *L);

/* The signal at an argument. It lives as long as its userdata. */
struct signal *signal_check(lua_State *L, int arg);
/* Outside of Lua or inside: tasks that wait go on at the next turn. */
void signal_set(struct signal *s);

/* A link of this binding came up, or went, or a subscription ended: its signals are set. */
void signal_link(struct binding *b);
/* The generation begins to end: whoever waits goes on, and looks. */
void signal_ending(struct generation *g);

#endif
