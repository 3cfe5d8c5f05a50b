-- F12 of the fault suite: packets vanish, no RST. What a row is: tests/support/fault.lua.
local run = require "support.run"

local SLOW_SECONDS = 8 -- one probe at least goes this way

local function play(direction)
  return function(stage)
    local server = stage:server()
    local way = stage:proxy(server)
    stage:start { urls = { way.url } }
    way:blackhole(direction, { existing = true })
    stage:fault()
    stage.way = way
  end
end

local function after(stage)
  stage.way:end_swallowed() -- the server has a link until then: it sends, and nobody refuses
  local closed = stage:logs("^closed$")
  stage:check(closed[1] and closed[1].reason == "probe", "it was not the probe that found it")
end

-- Nothing vanishes: the line is slow, or passes small pieces.
local function play_slow(bytes, pause)
  return function(stage)
    local server = stage:server()
    local way = stage:proxy(server)
    stage:start { urls = { way.url } }
    stage:fault()
    way:cut_up(bytes, pause)
    run.pause(SLOW_SECONDS)
  end
end

local function after_slow(stage)
  for _, kind in ipairs { "^closed$", "^disconnected$", "^probe missed$" } do
    stage:check(#stage:logs(kind) == 0, "a slow line is taken for a dead one: %s", kind)
  end
end

return {
  id = "F12",
  title = "packets vanish",
  seen = "nats-py #671",
  why = "the connection counts as open until pings time out: minutes by default",
  promise = "two probes in a row without an answer replace the link: 5 s apart, 2.5 s for each; "
    .. "a slow line is none that is dead",
  within = 15,
  patience = 25,
  cases = {
    { name = "both ways", play = play "both", after = after },
    { name = "from the client", play = play "up", after = after },
    { name = "it is slow", play = play_slow(64, 0.01), after = after_slow },
    { name = "small pieces", play = play_slow(3, 0.001), after = after_slow },
  },
}
