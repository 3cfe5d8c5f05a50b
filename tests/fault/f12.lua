return {
  id = "F12",
  title = "packets vanish, no RST",
  why = "the connection counts as open until pings time out: minutes by default",
  promise = "two probes in a row without an answer replace the link: 5 s apart, 2.5 s for each",
  within = 15,
  patience = 25,
  play = function(stage)
    local server = stage:server { ping_interval = "1s", ping_max = 2 } -- it gives the dead links up soon
    local way = stage:proxy(server)
    stage:start { urls = { way.url } }
    way:blackhole("both", { existing = true })
    stage:fault()
  end,
  after = function(stage)
    local closed = stage:logs("^closed$")
    stage:check(closed[1] and closed[1].reason == "probe", "it was not the probe that found it")
  end,
}
