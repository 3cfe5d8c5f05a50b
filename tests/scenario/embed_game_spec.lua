-- examples/embed/game: the frames of a game server go on, whatever happens to NATS and to its rules.
local moondog = require "support.moondog"
local nats_server = require "support.nats_server"
local process = require "support.process"
local run = require "support.run"

local FOLDER = moondog.root .. "/examples/embed/game/"
local PLAYERS = 1000

local function read(path)
  local file = assert(io.open(path))
  local text = file:read("*a")
  file:close()
  return text
end

local function start(server, rules)
  local game = process.start { file = moondog.build .. "/examples/embed/game/game", name = "game", args = { "--url",
    server.url, "--rules", rules, "--players", FOLDER .. "players.lua", "--inputs", "10000" } }
  game:wait_line('game: .*msg="script loaded"', 20)
  game:wait_line('players: .*msg="connected"', 20)
  game:wait_line('game: .*msg="connected"', 20)
  return game
end

-- A snapshot that is sent from now on.
local function wait_snapshot(server)
  local client, got = server:connect(), nil
  client:subscribe("game.snapshot.7", function(msg) got = msg.data end)
  client:flush()
  run.wait_until(function() return got end, 30, "a snapshot")
  client:close()
  return got
end

local function finish(game)
  game:signal("sigterm")
  assert.equals(0, game:wait_exit(30))
  local text = game:text("stdout")
  local frames, inputs = text:match("(%d+) frames, (%d+) inputs")
  for what, p99, p999 in text:gmatch("(messaging[^\n:]*): p50 %S+ ms, p99 (%S+) ms, p99%.9 (%S+) ms") do
    run.figure(what .. " of a frame, p99", tonumber(p99), "ms")
    run.figure(what .. " of a frame, p99.9", tonumber(p999), "ms")
  end
  return tonumber(frames), tonumber(inputs)
end

describe("The game server", function()
  it("plays on while the server is killed, stopped and restarted", run.case(function()
    local server = nats_server.start()
    local game = start(server, FOLDER .. "rules.lua")
    local _, lines = wait_snapshot(server):gsub("%d+ [%d.]+ [%d.]+\n", "")
    assert.equals(PLAYERS / 20, lines)
    server:stop()
    run.pause(1)
    server:cont()
    wait_snapshot(server)
    server:kill()
    game:wait_line('game: .*msg="disconnected"', 20)
    server:restart()
    game:wait_line('game: .*msg="reconnected"', 30)
    wait_snapshot(server)
    local frames, inputs = finish(game)
    assert.is_true(frames > 60)
    assert.is_true(inputs > 1000)
    local told = game:text("stderr"):gsub('msg="reconnect failed"', "")
    assert.not_matches("failed", told)
  end))

  it("takes new rules while it plays, and no bad ones", run.case(function()
    local server = nats_server.start()
    local rules = run.file("rules.lua", read(FOLDER .. "rules.lua"))
    local game = start(server, rules)
    local client, rounds = server:connect(), 0
    client:subscribe("game.round.*", function() rounds = rounds + 1 end)
    client:flush()
    assert.equals(0, rounds)
    run.file("rules.lua", (read(FOLDER .. "rules.lua"):gsub("local GOAL = 100 ", "local GOAL = 1 ")))
    game:signal("sighup")
    game:wait_line("the rules are number 2 now", 20)
    run.wait_until(function() return rounds > 0 end, 30, "the end of a round")
    run.file("rules.lua", "local x = = 1")
    game:signal("sighup")
    game:wait_line("the rules stay as they were: .*rules.lua:1:", 20)
    wait_snapshot(server)
    finish(game)
  end))
end)
