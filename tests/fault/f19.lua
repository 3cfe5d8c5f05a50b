-- F19 of the fault suite: dials that time out. What a row is: tests/support/fault.lua.
local run = require "support.run"

local LATE_SECONDS = 3 -- each byte, longer than a dial may take

return {
  id = "F19",
  title = "dials that time out",
  seen = "Lixpi #290",
  why = "each one that was given up gets through later, and stays on the server as a zombie",
  promise = "one dial at a time, the loser is destroyed: the server has one client",
  within = 10,
  patience = 25,
  play = function(stage)
    local server = stage:server()
    local way = stage:proxy(server)
    stage:start { urls = { way.url },
      options = "watchdog = { timeout = 1, reconnecting = 2, probe = 1, probe_timeout = 1 }," }
    stage:fault()
    way:latency(LATE_SECONDS)
    way:reset()
    stage.dog:wait_log("^dial failed$", 30, 3)
    run.pause(LATE_SECONDS)
    stage:over()
    way:latency(0)
  end,
}
