-- F23 of the fault suite: lame duck mode. What a row is: tests/support/fault.lua.
local run = require "support.run"

return {
  id = "F23",
  title = "lame duck mode",
  seen = "nats-py #868",
  why = "the client stays at a server that goes, and has minutes of errors at each rolling upgrade",
  promise = "it moves to another server of its list after a random moment, before it is sent away",
  within = 5,
  play = function(stage)
    local servers = stage:cluster(2, { lame_duck_duration = "30s", lame_duck_grace_period = "8s" })
    local way = stage:proxy(servers[2])
    way:lock()
    stage:start { urls = { servers[1].url, way.url }, options = [[
      ignore_discovered = true, watchdog = { lame_duck = 2 },
    ]], witness = function() return servers[2]:connect() end }
    way:unlock()
    stage:fault()
    servers[1].process:signal("sigusr2")
    stage.dog:wait_log("^server enters lame duck mode$", 15)
    stage:expect(function() return #servers[2]:clients("^moondog$") == 1 end, 6,
      "moondog moves before the grace period of 8 s is over")
    stage:expect(function() return #servers[1]:clients("^moondog$") == 0 end, 6, "it has left the lame duck")
    run.wait_until(function() return servers[1].process.exit end, 60, "the end of the lame duck")
    stage:over()
  end,
  after = function(stage)
    local lost, sent = stage.traffic:lost("moondog", stage.fault_at)
    stage:check(lost < sent / 10, "%d messages of %d were lost", lost, sent)
    stage:check(#stage:logs("^disconnected$") == 0, "it was sent away")
    stage:check(#stage:logs("^dial failed$") == 0, "it dialled the lame duck again")
  end,
}
