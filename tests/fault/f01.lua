-- F1 of the fault suite: auth errors. What a row is: tests/support/fault.lua.
local auth_callout = require "support.auth_callout"
local nats_server = require "support.nats_server"
local run = require "support.run"

local HICCUP_SECONDS = 4
local AUTH_TIMEOUT = 1
local FIRST_AUTH_TIMEOUT = 20 -- a stock client that is refused at its start is gone

local function users(password)
  return { users = { { user = "witness", password = "w" }, { user = "game", password = password } } }
end

local function password_changed(stage)
  local server = stage:server(users "right")
  stage:start { urls = { server.url }, user = "game", password = "right" }
  stage:fault()
  server:reload(users "changed")
  run.pause(HICCUP_SECONDS)
  stage:over()
  server:reload(users "right")
end

-- The server restarts while the service behind its auth callout is in trouble. begin(service, server):
-- brings it about; finish(service, server).
local function callout(begin, finish)
  return function(stage)
    local service = auth_callout.new(FIRST_AUTH_TIMEOUT)
    local server = stage:server(service.config, { program = nats_server.newer_program() })
    service:serve(server)
    stage:start { urls = { server.url }, user = "game", password = "right" }
    service.config.auth_timeout = AUTH_TIMEOUT
    server:reload(service.config)
    stage:fault()
    server:kill()
    server:restart()
    begin(service, server)
    run.pause(HICCUP_SECONDS)
    stage:over()
    finish(service, server)
  end
end

local function needs_callout()
  return (select(2, nats_server.newer_program()))
end

local function refuses(service, server)
  service.refuses = true
  service:serve(server)
end

local function is_slow(service, server)
  service.delay = 2 * AUTH_TIMEOUT
  service:serve(server)
end

local function recovers(service)
  service.refuses, service.delay = nil, nil
end

return {
  id = "F1",
  title = "auth errors",
  seen = "nats.c by default, nats.go, nats.js; nats-py gives up at the first one",
  why = "nats.c, nats.go and nats.js close for good at the second one in a row, although reconnects are infinite",
  promise = "a fresh link with all subscriptions, one step of the backoff after the server accepts again",
  within = 5,
  cases = {
    { name = "password changed", play = password_changed },
    { name = "callout refuses", needs = needs_callout, play = callout(refuses, recovers) },
    { name = "callout is slow", needs = needs_callout, play = callout(is_slow, recovers) },
    { name = "callout is down", needs = needs_callout, play = callout(function() end, auth_callout.serve) },
  },
}
