-- F13 of the fault suite: the reader is dead, writes go on. What a row is: tests/support/fault.lua.
return {
  id = "F13",
  title = "the reader is dead, writes go on",
  seen = "nats-py #914 and #624",
  why = "is_connected stays true, and what is sent arrives; nothing comes back",
  promise = "a probe goes through the server and back: two misses replace the link",
  within = 15,
  patience = 25,
  play = function(stage)
    local server = stage:server ()
    local way = stage:proxy(server)
    stage:start { urls = { way.url } }
    way:blackhole("down", { existing = true })
    stage:fault()
  end,
  after = function(stage)
    local closed = stage:logs("^closed$")
    stage:check(closed[1] and closed[1].reason == "probe", "it was not the probe that found it")
  end,
}
