/* `moondog outbox`: looks into the file of an outbox, and changes what a person has to decide.
 * Main thread. */
#ifndef MD_OUTBOX_TOOL_OUTBOX_TOOL_H
#define MD_OUTBOX_TOOL_OUTBOX_TOOL_H

#include <lua.h>

/* The exit code. The table of arguments is at index 1 of L. */
int outbox_tool(lua_State *L);

#endif
