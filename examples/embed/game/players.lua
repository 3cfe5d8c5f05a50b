-- A thousand players, as far as a server can tell: each sends inputs to its match.
local moondog = require "moondog"

local STEP = 0.005 -- seconds between two bursts of inputs

local net = moondog.connect { name = "players", pending = { bytes = 4 * 2 ^ 20 } }

moondog.on_start(function()
  local settings = host.settings()
  local per_step = settings.rate * STEP
  local due, player = 0, 0
  moondog.every(STEP, function()
    due = math.min(due + per_step, settings.rate) -- what a busy machine has kept us from
    while due >= 1 do
      due = due - 1
      player = (player + 1) % settings.players
      local input = ("%d %.1f %.1f"):format(player, math.random() * 4 - 2, math.random() * 4 - 2)
      net:publish("game.input." .. player % settings.matches, input)
    end
  end)
end)
