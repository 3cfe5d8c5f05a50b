-- F1 of the fault suite: two auth errors in a row. What a row is: tests/support/fault.lua.
local run = require "support.run"

local HICCUP_SECONDS = 4

local function users(password)
  return { users = { { user = "witness", password = "w" }, { user = "game", password = password } } }
end

return {
  id = "F1",
  title = "two auth errors in a row",
  seen = "nats.c by default, nats.go, nats.js; nats-py gives up at the first one",
  why = "nats.c, nats.go and nats.js close for good at the second one, although reconnects are infinite",
  promise = "a fresh link with all subscriptions, one step of the backoff after the server accepts again",
  within = 5,
  play = function(stage)
    local server = stage:server(users "right")
    stage:start { urls = { server.url }, user = "game", password = "right" }
    stage:fault()
    server:reload(users "changed")
    run.pause(HICCUP_SECONDS)
    stage:over()
    server:reload(users "right")
  end,
}
