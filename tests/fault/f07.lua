-- F7 of the fault suite: callbacks. What a row is: tests/support/fault.lua.
local run = require "support.run"

local DOWN_SECONDS = 2

-- options: of the connection, as Lua. wanted: what the log has to say.
local function case(name, options, wanted)
  return { name = name, play = function(stage)
    local server = stage:server()
    stage:start { urls = { server.url }, options = options }
    stage:fault()
    server:kill()
    run.pause(DOWN_SECONDS)
    stage:over()
    server:restart()
  end, after = function(stage)
    local reports = stage:logs(wanted)
    stage:check(#reports > 0, "the log has no %q", wanted)
    for _, entry in ipairs(reports) do
      stage:check((entry.error or ""):find("script%d+%.lua:%d+"), "no file and line in the log: %s",
        tostring(entry.error))
    end
  end }
end

local HOOKS = "on = { disconnected = $F, closed = $F, reconnected = $F, error = $F },"

local function hooks(body)
  return (HOOKS:gsub("%$F", function() return "function() " .. body .. " end" end))
end

return {
  id = "F7",
  title = "callbacks",
  seen = "nats-py #204",
  why = "a callback that raises ends the loop that reconnects, and nobody hears of it",
  promise = "the error is logged with file, line and traceback, the built-in policy acts, recovery goes on",
  within = 5,
  stock = "a callback of a stock client is the program's own code: in C it cannot raise",
  cases = {
    case("hooks that raise", hooks "local t; t.boom = 1", "^hook failed$"),
    case("hooks that never return", hooks "while true do end", "^hook failed$"),
    case("policy that raises", 'reconnect = function() error("no idea") end, library_reconnect = false,',
      "^policy failed$"),
  },
}
