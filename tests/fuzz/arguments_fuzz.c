/* The command line: any arguments give a command with its options, or one line that says what is
 * wrong, and how to go on. One thread. */
#include <lauxlib.h>
#include <lualib.h>
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"
#include "script/embedded.h"

#define ARGUMENTS_MAX 64

/* [-0, +1] */
static int find_module(lua_State *L)
{
    const embedded_module *m = embedded_find(luaL_checkstring(L, 1));
    if (m == NULL)
        lua_pushliteral(L, "\n\tno such module in the binary");
    else if (luaL_loadbuffer(L, m->text, m->length, m->chunk) != 0)
        return lua_error(L);
    return 1;
}

/* With moondog.cli's table at index 1. */
static lua_State *open_parser(void)
{
    lua_State *L = luaL_newstate();
    luaL_openlibs(L);
    lua_getglobal(L, "package");
    lua_getfield(L, -1, "loaders");
    lua_pushcfunction(L, find_module);
    lua_rawseti(L, -2, (int)lua_objlen(L, -2) + 1);
    lua_settop(L, 0);
    lua_getglobal(L, "require");
    lua_pushliteral(L, "moondog.cli");
    fuzz_check(lua_pcall(L, 1, 1, 0) == 0);
    return L;
}

/* Words, each up to a zero byte. [-0, +1] */
static void push_arguments(lua_State *L, fuzz_input *in)
{
    static const char *const words[] = {
        "run",       "--http",    "--control", "reload",  "status",   "--json",     "log",
        "outbox",    "list",      "--limit",   "eval",    "--watch",  "--budget",   "check",
        "doctor",    "stop",      "top",       "attach",  "repl",     "completion", "zsh",
        "--level",   "-h",        "--help",    "--state", "--memory", "--follow",   "--timeout",
        "--version", "--subject", "--",        "-"};
    lua_newtable(L);
    for (int i = 1; i <= ARGUMENTS_MAX && in->left > 0; i++) {
        unsigned word = fuzz_byte(in);
        size_t length;
        if (word < 2 * sizeof words / sizeof words[0]) {
            lua_pushstring(L, words[word / 2]);
        } else {
            char *text = fuzz_bytes(in, &length);
            lua_pushstring(L, text);
            free(text);
        }
        lua_rawseti(L, -2, i);
    }
}

/* nil, the exit code and a text. */
static void check_text(lua_State *L)
{
    size_t length;
    int code = (int)lua_tonumber(L, -2);
    const char *text = lua_tolstring(L, -1, &length);
    fuzz_check(lua_isnil(L, -3) && (code == 0 || code == 2));
    fuzz_check(text != NULL && length > 0 && text[length - 1] == '\n');
    if (code == 0)
        return;
    fuzz_check_text(strncmp(text, "moondog", 7) == 0, text);
    lua_pushlstring(L, text, length - 1);
    fuzz_check_text(strlen(lua_tostring(L, -1)) == length - 1, text);
    fuzz_check_text(fuzz_is_printable(lua_tostring(L, -1)), text);
    lua_pop(L, 1);
}

void fuzz_one(const uint8_t *data, size_t size)
{
    static lua_State *L;
    fuzz_input in = {data, size};
    if (L == NULL)
        L = open_parser();
    lua_getfield(L, 1, "parse");
    push_arguments(L, &in);
    lua_newtable(L);
    if (lua_pcall(L, 2, 3, 0) != 0)
        fuzz_check_text(false, lua_tostring(L, -1));
    if (lua_istable(L, 2)) {
        lua_getfield(L, 2, "command");
        fuzz_check(lua_type(L, -1) == LUA_TSTRING);
    } else {
        check_text(L);
    }
    lua_settop(L, 1);
}
