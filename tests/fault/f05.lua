-- F5 of the fault suite: 100 clients come back at once. What a row is: tests/support/fault.lua.
local health = require "support.health"
local run = require "support.run"

local CONNECTIONS = 100
local LOGINS = 3 -- that the server has time for in each TURN; the others time out
local TURN = 0.1
local BACK_SECONDS = 40

local SCRIPT = [[
for i = 1, $COUNT do
  moondog.connect { name = "storm" .. i, servers = { $URL } }
end
]]

return {
  id = "F5",
  title = "100 clients come back at once",
  seen = "nats.node #531 to #533",
  why = "all dial at the same moment, logins time out, and the clients give up",
  promise = "dials are spread by full jitter and a budget, errors of logins are tried again: all are back",
  within = 30,
  stock = "one client is no storm",
  play = function(stage)
    local began, taken = run.now(), 0
    local storm = false
    local server = stage:scripted { on_op = function(client, op)
      if op.verb ~= "CONNECT" or not storm then
        return false
      end
      if run.now() - began > TURN then
        began, taken = run.now(), 0
      end
      taken = taken + 1
      if taken > LOGINS and not op.line:find('"name":"witness"', 1, true) then
        client:error("Authentication Timeout")
        return true
      end
    end }
    stage:start { urls = { server.url }, script = SCRIPT, values = { COUNT = CONNECTIONS, URL = server.url } }
    health.wait_metric(stage.dog, "moondog_connections_ready", {}, CONNECTIONS + 1, 30)
    stage.checks.limit = CONNECTIONS + 1
    stage.checks:note_resources()
    stage:fault()
    storm = true
    for client in pairs(server.clients) do
      if (client.connect or {}).name ~= "witness" then
        client:reset()
      end
    end
    stage:over()
  end,
  after = function(stage)
    health.wait_metric(stage.dog, "moondog_connections_ready", {}, CONNECTIONS + 1, BACK_SECONDS)
    run.figure("100 connections are back after", run.now() - stage.over_at, "s")
  end,
}
