-- F12 of the fault suite: packets vanish, no RST. What a row is: tests/support/fault.lua.
return {
  id = "F12",
  title = "packets vanish, no RST",
  seen = "nats-py #671",
  why = "the connection counts as open until pings time out: minutes by default",
  promise = "two probes in a row without an answer replace the link: 5 s apart, 2.5 s for each",
  within = 15,
  patience = 25,
  play = function(stage)
    local server = stage:server ()
    local way = stage:proxy(server)
    stage:start { urls = { way.url } }
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
