-- F5 of the fault suite: many clients come back at once. What a row is: tests/support/fault.lua.
local health = require "support.health"
local run = require "support.run"

local LOGINS = 3 -- that the scripted server has time for in each TURN; the others time out
local TURN = 0.1
local BACK_SECONDS = 40

-- The real one has the password as bcrypt keeps it: each login is work, about 2 ms of it.
local PASSWORD = "storm"
local HASH = "$2a$05$moondogmoondogmoondogeQRQEXLDg6V93qYliZrNZIhZXYr.1x/e"
local FIRST_AUTH_TIMEOUT, AUTH_TIMEOUT = 30, 0.2

local SCRIPT = [[
for i = 1, $COUNT do
  moondog.connect { name = "storm" .. i, servers = { $URL }, user = $USER, password = $PASSWORD }
end
]]

local function wait_ready(stage, deadline)
  health.wait_metric(stage.dog, "moondog_connections_ready", {}, stage.count + 1, deadline)
end

local function start(stage, server, count)
  stage.count = count
  stage:start { urls = { server.url }, user = "game", password = PASSWORD, connections = count + 1, script = SCRIPT,
    values = { COUNT = count, URL = server.url, USER = "game", PASSWORD = PASSWORD } }
  wait_ready(stage, 40)
  stage.checks:note_resources()
end

local function slow_logins(stage)
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
  start(stage, server, 100)
  stage:fault()
  storm = true
  for client in pairs(server.clients) do
    if (client.connect or {}).name ~= "witness" then
      client:reset()
    end
  end
  stage:over()
end

local function restart(stage)
  local config = { auth_timeout = FIRST_AUTH_TIMEOUT,
    users = { { user = "witness", password = "w" }, { user = "game", password = HASH } } }
  local server = stage:server(config)
  start(stage, server, 300)
  config.auth_timeout = AUTH_TIMEOUT
  server:reload(config)
  stage:fault()
  server:kill()
  stage:over()
  server:restart()
end

local function after(stage)
  wait_ready(stage, BACK_SECONDS)
  run.figure(("%d connections are back after"):format(stage.count), run.now() - stage.over_at, "s")
end

return {
  id = "F5",
  title = "a storm of dials",
  seen = "nats.node #531 to #533",
  why = "all dial at the same moment, logins time out, and the clients give up",
  promise = "dials are spread by full jitter and a budget, errors of logins are tried again: all are back",
  within = 30,
  stock = "one client is no storm",
  cases = {
    { name = "100, slow logins", play = slow_logins, after = after },
    { name = "300, a restart", play = restart, after = after },
  },
}
