/* JSON as text for people. See render.h. Main thread. */
#include "cli/render.h"

#include <stdio.h>

#include "cli/args.h"

int render_print(lua_State *L, const char *module, const char *verb, const char *json)
{
    lua_getglobal(L, "require");
    lua_pushstring(L, module);
    int failed = lua_pcall(L, 1, 1, 0);
    if (failed == 0) {
        lua_getfield(L, -1, "render");
        if (verb != NULL)
            lua_pushstring(L, verb);
        lua_pushstring(L, json);
        failed = lua_pcall(L, verb != NULL ? 2 : 1, 1, 0);
    }
    size_t length = 0;
    const char *text = lua_tolstring(L, -1, &length); /* with any bytes */
    fwrite(text != NULL ? text : "", 1, length, failed == 0 ? stdout : stderr);
    return failed == 0 ? EXIT_DONE : EXIT_FAILED;
}
