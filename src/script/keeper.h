/* Keepers: tasks of moondog's own Lua modules that no failure may end. One that was stopped by the
 * time budget on a machine that stood still, or dropped for want of memory, begins again in a
 * while: what it keeps alive would be dead without a word. Loop thread. */
#ifndef MD_SCRIPT_KEEPER_H
#define MD_SCRIPT_KEEPER_H

#include <lua.h>

#include "script/generation.h"

struct keeper;

/* keep(function): runs it as a task, again and again until it has said over() before it returned.
 * [-0, +0] */
int keeper_start_lua(lua_State *L);
/* over(): the task that runs is kept no more once it is over. [-0, +0] */
int keeper_over_lua(lua_State *L);

/* Those that wait to begin again; before the generation's tasks are closed. */
void keeper_close_all(struct generation *g);

#endif
