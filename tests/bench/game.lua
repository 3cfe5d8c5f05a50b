-- What the frames of the example server notice of moondog while NATS is killed, stopped and started again and the
-- rules are reloaded: scripts/bench game.
package.path = assert(os.getenv("MOONDOG_ROOT")) .. "/tests/?.lua;" .. package.path

local moondog = require "support.moondog"
local nats_server = require "support.nats_server"
local process = require "support.process"
local results = require "bench.results"
local run = require "support.run"

local SECONDS = results.brief and 14 or 60
local INPUTS = 20000 -- a second
local RELOAD_SECONDS = 3
local FOLDER = moondog.root .. "/examples/embed/game/"

results.run(function()
  local server = nats_server.start()
  local game = process.start { file = moondog.build .. "/examples/embed/game/game", name = "game", args = {
    "--url", server.url, "--rules", FOLDER .. "rules.lua", "--players", FOLDER .. "players.lua",
    "--inputs", tostring(INPUTS), "--seconds", tostring(SECONDS), "--reload", tostring(RELOAD_SECONDS) } }
  game:wait_line('game: .*msg="connected"', 20)
  local began = run.now()
  local kills, stops = 0, 0
  while run.now() < began + SECONDS - 12 do
    run.pause(4)
    server:kill()
    run.pause(1)
    server:restart()
    kills = kills + 1
    run.pause(4)
    server:stop()
    run.pause(1)
    server:cont()
    stops = stops + 1
  end
  assert(game:wait_exit(SECONDS) == 0)
  local _, reloads = game:text("stderr"):gsub("the rules are number", "")
  print(("%d kills of the server, %d stops, %d reloads"):format(kills, stops, reloads))
  io.write(game:text("stdout"))
end, SECONDS * 3)
