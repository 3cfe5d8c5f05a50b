/* Looks where the functions of Lua are that moondog calls. See interpreter.h. Any thread. */
#include "script/interpreter.h"

#include <dlfcn.h>
#include <lauxlib.h>
#include <link.h>
#include <lua.h>
#include <luajit.h>
#include <lualib.h>
#include <stdbool.h>
#include <stddef.h>

/* The file that has the code of a function; false: that is not to be found out. A function's
 * address may also be that of an entry in the host's table of jumps, which says nothing. */
static bool find(void *function, Dl_info *place)
{
    ElfW(Sym) *symbol = NULL;
    if (dladdr1(function, place, (void **)&symbol, RTLD_DL_SYMENT) == 0)
        return false;
    return symbol == NULL || symbol->st_shndx != SHN_UNDEF;
}

int interpreter_check(error *e)
{
    /* One of each of the files that Lua is made of: a host does not have to have them all. */
    void *const functions[] = {(void *)lua_newstate, (void *)lua_settop, (void *)luaL_ref,
                               (void *)luaL_openlibs};
    Dl_info luajit, other;
    if (!find((void *)luaJIT_setmode, &luajit)) /* which no other Lua has */
        return 0;
    for (size_t i = 0; i < sizeof functions / sizeof functions[0]; i++)
        if (find(functions[i], &other) && other.dli_fbase != luajit.dli_fbase)
            return error_set(
                e, "other_lua", ERROR_CLASS_NONE,
                "the Lua of %s hides LuaJIT (%s): link libmoondog.so, and that Lua from an "
                "archive with -Wl,--exclude-libs,ALL, so that only its own program "
                "sees it",
                other.dli_fname, luajit.dli_fname);
    return 0;
}
