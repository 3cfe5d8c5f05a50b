-- The parts of moondog that are pure Lua and of use without it: what a console is made of. And the
-- annotations of its API, for the Lua language server. All else is inside the program and the library.
--
--   luarocks --lua-version=5.1 config lua_interpreter luajit    once
--   cd lua && luarocks --lua-version=5.1 --local make
rockspec_format = "3.0"
package = "moondog"
version = "0.1.0-1"
source = { url = "file://." } -- `luarocks make` takes what is here
description = {
  summary = "What a console is made of: values as people read them, completion, lines of a statement",
  detailed = [[
moondog.pretty shows values as Lua source, bounded in depth, entries, bytes and work. moondog.complete
says what can stand at the end of a piece of Lua, and calls nothing for that. moondog.console_input
takes lines until they are a complete statement. The folder meta has moondog's own API, annotated for
the Lua language server.]],
  license = "MIT",
}
dependencies = { "lua == 5.1", "luajit >= 2.0" }
build = {
  type = "builtin",
  modules = {
    ["moondog.complete"] = "moondog/complete.lua",
    ["moondog.console_input"] = "moondog/console_input.lua",
    ["moondog.pretty"] = "moondog/pretty.lua",
  },
  copy_directories = { "meta" },
}
