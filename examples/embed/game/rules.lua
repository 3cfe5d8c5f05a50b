-- The rules of a match: what an input may do, who scores, when a round is over. The server keeps the world, in C;
-- this is what people change while others play: edit it, and send the server SIGHUP.
local moondog = require "moondog"

local SPEED = 3        -- the farthest that a player gets in one input
local GOAL = 100       -- points that end a round
local SNAPSHOTS = 10   -- a second, of each match

local game = moondog.connect { name = "game", required = true }
local state = moondog.state -- crosses a reload, as the rounds do
state.rounds = state.rounds or 0

-- "17 1.5 -2": a player and where to.
local INPUT = "^(%d+) (%S+) (%S+)$"
local refused = moondog.metrics.counter("game_inputs_refused")

local function clamp(value)
  return math.max(-SPEED, math.min(SPEED, value))
end

game:subscribe("game.input.*", function(msg)
  local player, x, y = msg.data:match(INPUT)
  x, y = tonumber(x), tonumber(y)
  if not x or not y then
    refused:add(1)
    return
  end
  local points = host.move(tonumber(player), clamp(x), clamp(y)) -- nil: there is no such player
  if points and points >= GOAL then
    local match = msg.subject:match("%d+$")
    state.rounds = state.rounds + 1
    host.new_round(tonumber(match))
    game:publish("game.round." .. match, player)
  end
end)

-- Once a frame, from the server.
moondog.on_event("tick", function(tick)
  local every = math.floor(tick.rate / SNAPSHOTS)
  for match = tick.number % every, tick.matches - 1, every do -- a part of them each time
    game:publish("game.snapshot." .. match, host.snapshot(match))
  end
end)
