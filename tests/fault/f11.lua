-- F11 of the fault suite: busy publisher, the peer is gone. What a row is: tests/support/fault.lua.
return {
  id = "F11",
  title = "busy publisher, the peer is gone",
  seen = "nats.rs #1593",
  why = "its traffic passes for a sign of life, and its pings wait behind it",
  promise = "a probe through the server on its own schedule finds it: two misses, 5 s apart, of 2.5 s each",
  within = 15,
  patience = 25,
  play = function(stage)
    local server = stage:server ()
    local way = stage:proxy(server)
    stage:start { urls = { way.url }, noise = "noise", script = [[
      local number = 0
      moondog.every(0.01, function()
        number = number + 1
        c:publish("noise", tostring(number))
      end)
    ]] }
    way:blackhole("both", { existing = true })
    stage:fault()
    stage.way = way
  end,
  after = function(stage)
    stage.way:end_swallowed() -- the server has a link until then: it sends, and nobody refuses
    local closed = stage:logs("^closed$")
    stage:check(closed[1] and closed[1].reason == "probe", "it was not the probe that found it")
  end,
}
