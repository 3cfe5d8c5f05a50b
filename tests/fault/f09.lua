-- F9 of the fault suite: the library stays in RECONNECTING. What a row is: tests/support/fault.lua.
local run = require "support.run"

local MUTE_SECONDS = 3

return {
  id = "F9",
  title = "the library stays in RECONNECTING",
  seen = "nats.c #215, nats.java #968",
  why = "it waits for ever for a peer that it has reached and that says no more",
  promise = "there is a deadline for it (here 4 s), then a fresh link",
  within = 10,
  patience = 25,
  play = function(stage)
    local server = stage:scripted()
    stage:start { urls = { server.url }, options = "watchdog = { reconnecting = 4, timeout = 3 }," }
    local before = server.accepted
    stage:fault()
    server.options.info_only = true
    for _, client in ipairs(stage:subject_clients(server)) do
      client:reset()
    end
    run.wait_until(function() return server.accepted > before end, 15, "a dial to the mute server")
    run.pause(MUTE_SECONDS)
    stage:over()
    server.options.info_only = nil -- those that it has taken meanwhile never hear from it
    stage.server = server
  end,
  after = function(stage)
    for client in pairs(stage.server.clients) do
      if not client.connect then -- what nats.c still holds of it, it holds until the server hangs up
        client:close()
      end
    end
    local closed = stage:logs("^closed$")
    stage:check(closed[1] and closed[1].reason == "reconnecting", "the log does not say why there is a fresh link")
  end,
}
