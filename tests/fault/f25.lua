-- F25 of the fault suite: a frozen server, then auth errors. What a row is: tests/support/fault.lua.
local run = require "support.run"

local FROZEN_SECONDS = 4

local function users(password)
  return { users = { { user = "witness", password = "w" }, { user = "game", password = password } } }
end

return {
  id = "F25",
  title = "a frozen server, then auth errors",
  seen = "nats.c #1005, ClickHouse #118449",
  why = "the libuv adapter of nats.c crashes, or waits inside the loop",
  promise = "moondog does not use the adapter: the process and its loop go on, and it is back",
  within = 5,
  play = function(stage)
    local server = stage:server(users "right")
    stage:start { urls = { server.url }, user = "game", password = "right",
      options = "watchdog = { probe = 1, probe_timeout = 1 },", script = [[
        local due, worst = moondog.now() + 0.01, 0
        moondog.every(0.01, function()
          worst = math.max(worst, moondog.now() - due)
          due = moondog.now() + 0.01
        end)
        c:subscribe("late", function(msg) msg:respond(tostring(worst)) end)
      ]] }
    stage:fault()
    server:stop()
    run.pause(FROZEN_SECONDS)
    server:cont()
    server:reload(users "changed")
    run.pause(1)
    stage:over()
    server:reload(users "right")
    stage.server = server
  end,
  after = function(stage)
    local worst = tonumber(stage.server:connect():wait_answer("late", "", 10).data)
    stage:check(worst < 1, "the loop was late by %.1f s", worst)
  end,
}
