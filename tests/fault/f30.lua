-- F30 of the fault suite: script. What a row is: tests/support/fault.lua.
local run = require "support.run"

local BAD = {
  { name = "that does not compile", text = "local moondog = require 'moondog'\nthis is no Lua\n", line = 2 },
  { name = "that raises", text = "local t\nt.boom = 1\n", line = 2 },
  { name = "that never ends", text = "while true do end\n", line = 1 },
}

local cases = {}
for i, bad in ipairs(BAD) do
  cases[i] = { name = bad.name, play = function(stage)
    local server = stage:server()
    stage:start { urls = { server.url } }
    stage:fault()
    local entry = stage.dog:reload(bad.text, {})
    stage:check(entry.msg == "reload failed", "the script was taken")
    stage:check((entry.error or ""):find(("script%%d+%%.lua:%d:"):format(bad.line)),
      "no file and line: %s", tostring(entry.error))
    run.pause(1) -- of messages
  end, after = function(stage)
    local lost, sent = stage.traffic:lost("moondog", stage.fault_at)
    stage:check(lost == 0, "%d messages of %d were lost", lost, sent)
  end }
end

return {
  id = "F30",
  title = "script",
  why = "what replaces running code is wrong, and takes the running code with it",
  promise = "it is refused with file and line; the running generation does not notice",
  within = 1,
  stock = "a stock client takes no new code while it runs",
  cases = cases,
}
