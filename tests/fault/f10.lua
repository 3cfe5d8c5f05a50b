-- F10 of the fault suite: a handler that never returns. What a row is: tests/support/fault.lua.
local health = require "support.health"

local SPINS = 45 -- of a budget of 100 ms each: longer than the server waits for a silent client

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
    for _ = 1, SPINS do
      witness:publish("spin", "")
    end
    health.wait_metric(stage.dog, "moondog_subscription_overruns_total", { subject = "spin" }, SPINS, 30)
    stage.server = server
  end,
  after = function(stage)
    local client = stage.server:clients("^moondog$")[1]
    stage:check(client and client.cid == stage.cid, "the link was lost")
    local lost = stage.traffic:lost("moondog", stage.fault_at)
    stage:check(lost == 0, "%d messages were lost", lost)
  end,
}
