-- Runs one spec file: luajit tests/support/busted.lua tests/scenario/NAME_spec.lua [busted
-- options]. Exit code 0 only when at least one test ran and none failed.
local support = arg[0]:match("^(.*)/[^/]*$") or "."
local tests = support .. "/.."
local root = os.getenv("MOONDOG_ROOT") or (tests .. "/..")
package.path = table.concat({
  tests .. "/?.lua",
  root .. "/lua/?.lua",
  root .. "/lua/?/init.lua",
  package.path,
}, ";")

if not arg[1] then
  io.stderr:write("usage: luajit tests/support/busted.lua FILE_spec.lua [busted options]\n")
  os.exit(2)
end
io.stdout:setvbuf("line")

-- busted closes the Lua state when it ends; luv's handles do not survive that order of things.
local exit = os.exit
os.exit = function(code) -- luacheck: ignore 122
  io.stdout:flush()
  exit(code, false)
end

local report = require "support.report"
table.insert(arg, "--output=support.report")
require "busted.runner" { standalone = false }
if report.failed() then
  io.stderr:write("no test ran, or one failed\n")
end
os.exit(report.failed() and 1 or 0)
