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

-- The Lua state is never closed: luv's handles do not survive the order in which that is done.
local exit = os.exit
os.exit = function(code) -- luacheck: ignore 122
  io.stdout:flush()
  exit(code, false)
end

local report = require "support.report"
table.insert(arg, "--output=support.report")
local ok, err = pcall(require "busted.runner", { standalone = false })
if not ok and err then
  print(err)
end
os.exit((not ok or report.failed()) and 1 or 0)
