/* Userdata that scripts use for every message: a mark in them says what they are, because a look
 * for their metatable by its name costs more than what they are asked for. */
#ifndef MD_SCRIPT_MARKED_H
#define MD_SCRIPT_MARKED_H

#include <lauxlib.h>
#include <lua.h>

/* luaL_checkudata() of a userdata that begins with a pointer to `mark`, which no other one does.
 * Others are not read beyond their end: they have another size, or as many bytes. */
static inline void *marked_check(lua_State *L, int arg, const char *mark, size_t size,
                                 const char *type)
{
    const char *const *userdata = lua_touserdata(L, arg);
    if (userdata != NULL && lua_objlen(L, arg) == size && *userdata == mark)
        return (void *)userdata;
    return luaL_checkudata(L, arg, type); /* raises the error */
}

#endif
