/* The supervisor: a small parent process that starts moondog again when it crashes or when its loop
 * is stuck for good, with the last good version of the script when the new one was the cause.
 *
 * It talks to its child as systemd does: the child says by datagrams that it is ready, that its
 * loop turns, what holds it when it does not, and hands over the text of each version that it puts
 * to work. The parent passes on to its own service manager what that wants to know. */
#ifndef MD_CLI_SUPERVISE_H
#define MD_CLI_SUPERVISE_H

#include <lua.h>

/* Runs this program again as a child, with the same arguments, until the child ends in good order
 * or a signal says that all shall end. The exit code. */
int supervise(lua_State *L, char **argv);

#endif
