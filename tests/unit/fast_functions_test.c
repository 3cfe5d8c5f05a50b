/* The functions that take the place of LuaJIT's do as these do. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>
#include <lauxlib.h>
#include <lualib.h>

#include "script/fast_functions.h"

static const char *const comparison =
    "jit.off()\n" /* scripts are interpreted; compiled, some of LuaJIT's err */
    "local old_tostring, old = ...\n"
    "local values = { '', 'a', 'abc', 'Az[@`{', '\\0x\\255', ('long'):rep(1000), 'ABC', 12, 1.5 }\n"
    "local function same(name, f, g, ...)\n"
    "  local a, b = { pcall(f, ...) }, { pcall(g, ...) }\n"
    "  for i = 1, 2 do\n"
    "    if a[i] ~= b[i] then error(name .. old_tostring((select(1, ...))) .. ',' .. "
    "old_tostring((select(2, ...))) .. ',' .. old_tostring((select(3, ...))) .. ': ' .. "
    "old_tostring(a[i]) .. ' and ' .. old_tostring(b[i])) end\n"
    "  end\n"
    "end\n"
    "for _, v in ipairs(values) do\n"
    "  for _, name in ipairs { 'lower', 'upper', 'reverse' } do\n"
    "    same(name, old[name], string[name], v)\n"
    "  end\n"
    "  for first = -6, 6 do\n"
    "    same('sub', old.sub, string.sub, v, first)\n"
    "    for last = -6, 6 do same('sub', old.sub, string.sub, v, first, last) end\n"
    "  end\n"
    "end\n"
    "same('char', old.char, string.char)\n"
    "for i = 0, 255 do same('char', old.char, string.char, i, 255 - i, '65') end\n"
    "same('char', old.char, string.char, 1, 'x')\n"
    "same('char', old.char, string.char, 256)\n"
    "same('char', old.char, string.char, -1)\n"
    "same('sub', old.sub, string.sub)\n"
    "same('sub', old.sub, string.sub, 'x')\n"
    "same('sub', old.sub, string.sub, 'x', 'y')\n"
    "same('lower', old.lower, string.lower)\n"
    "same('upper', old.upper, string.upper, {})\n"
    "local object = setmetatable({}, { __tostring = function() return 'it' end })\n"
    "local bad = setmetatable({}, { __tostring = function() error('no') end })\n"
    "for _, v in ipairs { 1, -0.1, 1e300, 2^53, 0/0, 1/0, 'x', true, false, {}, print, object, bad "
    "} do\n"
    "  same('tostring', old_tostring, tostring, v)\n"
    "end\n"
    "same('tostring', old_tostring, tostring, nil)\n"
    "same('tostring', old_tostring, tostring)\n"
    "assert(('abc'):upper() == 'ABC' and old.upper ~= string.upper)\n";

static void they_do_as_those_of_luajit_do(void **state)
{
    (void)state;
    lua_State *L = luaL_newstate();
    luaL_openlibs(L);
    lua_getglobal(L, "tostring");
    assert_int_equal(luaL_dostring(L,
                                   "local copy = {} for k, v in pairs(string) do copy[k] = v end "
                                   "return copy"),
                     0);
    fast_functions_set_up(L);
    assert_int_equal(lua_gettop(L), 2);
    assert_int_equal(luaL_loadstring(L, comparison), 0);
    lua_insert(L, 1);
    if (lua_pcall(L, 2, 0, 0) != 0)
        fail_msg("%s", lua_tostring(L, -1));
    lua_close(L);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(they_do_as_those_of_luajit_do),
    };
    return cmocka_run_group_tests_name("fast_functions", tests, NULL, NULL);
}
