/* A piece of a host's own Lua, with which LuaJIT's must not be mixed up. Any thread. */
#include <stdlib.h>

void lua_settop(void *L, int index);
void lua_settop(void *L, int index)
{
    (void)L;
    (void)index;
    abort();
}
