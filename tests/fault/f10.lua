-- F10 of the fault suite: a handler that never returns. What a row is: tests/support/fault.lua.
local health = require "support.health"
local run = require "support.run"

local SPIN_SECONDS = 5 -- longer than the server waits for a silent client
local QUEUED = 3 -- spins, so that one follows the other

return {
  id = "F10",
  title = "a handler that never returns",
  seen = "nats-py #490",
  why = "nothing else on its loop runs, and the server gives the silent client up",
  promise = "it is stopped at its time budget; PING and PONG go on, no message is lost",
  within = 10,
  stock = "nothing in a stock client ends a callback that does not return",
  play = function(stage)
    -- The server gives a client up after three silent pings: 4 s. The witness has to answer them, too.
    local server = stage:server { ping_interval = "1s", ping_max = 3 }
    stage:start { urls = { server.url },
      script = 'c:subscribe("spin", function() while true do pcall(function() while true do end end) end end)\n' }
    local witness = server:connect()
    stage.cid = server:clients("^moondog$")[1].cid
    stage:fault()
    local function ended()
      return health.metric(stage.dog, "moondog_subscription_overruns_total", { subject = "spin" }) or 0
    end
    local sent = 0
    run.wait_until(function()
      local over = run.now() - stage.fault_at > SPIN_SECONDS
      while not over and sent < ended() + QUEUED do
        witness:publish("spin", "")
        sent = sent + 1
      end
      return over and ended() == sent
    end, 30, "the end of all spins")
    stage.server = server
  end,
  after = function(stage)
    local client = stage.server:clients("^moondog$")[1]
    stage:check(client and client.cid == stage.cid, "the link was lost")
    local lost = stage.traffic:lost("moondog", stage.fault_at)
    stage:check(lost == 0, "%d messages were lost", lost)
  end,
}
