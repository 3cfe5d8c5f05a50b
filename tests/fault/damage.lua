-- What a random run does to its servers, to the ways to them, and to moondog: a function for each kind of
-- tests/fault/schedule.lua. world: servers and ways ({ hub, leaf }), with_user(name, allowed) (a server's
-- configuration), stage, dog, reload(), text, values. Each returns when its fault is over.
local jetstream = require "support.jetstream_api"
local run = require "support.run"

local M = {}

local BAD = {
  syntax = "local moondog = require 'moondog'\nthis is no Lua\n",
  raises = "local t\nt.boom = 1\n",
  endless = "while true do end\n",
}
local FLUSH_EVERY = 1000
local FLOOD_SECONDS = 30 -- for a server and two cores to take so many

local function names_of(fault)
  return fault.args.server == "both" and { "hub", "leaf" } or { fault.args.server }
end

local function each(things, fault, f)
  for _, name in ipairs(names_of(fault)) do
    f(things[name], name)
  end
end

function M.kill(world, fault)
  each(world.servers, fault, function(server) server:kill() end)
  run.pause(fault.seconds)
  each(world.servers, fault, function(server) server:restart() end)
end

function M.freeze(world, fault)
  each(world.servers, fault, function(server)
    server:stop()
    server.frozen = true
  end)
  run.pause(fault.seconds)
  each(world.servers, fault, function(server)
    server:cont()
    server.frozen = false
  end)
end

-- moondog's user is unknown.
function M.user(world, fault)
  each(world.servers, fault, function(server, name) server:reload(world.configuration(name, false)) end)
  run.pause(fault.seconds)
  each(world.servers, fault, function(server, name) server:reload(world.configuration(name, true)) end)
end

-- A link that was in it afterwards has a hole in its bytes, which no network makes: it stays in it for good (left), as
-- when a router has forgotten it, or ends.
function M.blackhole(world, fault)
  each(world.ways, fault, function(way)
    way:blackhole(fault.args.direction, { existing = fault.args.existing })
  end)
  run.pause(fault.seconds)
  each(world.ways, fault, function(way)
    if fault.args.left then
      way:heal { new_only = true }
    else
      way:end_swallowed()
      way:heal()
    end
  end)
end

function M.lock(world, fault)
  each(world.ways, fault, function(way)
    way:lock()
    if fault.args.reset then
      way:reset()
    end
  end)
  run.pause(fault.seconds)
  each(world.ways, fault, function(way) way:unlock() end)
end

function M.latency(world, fault)
  each(world.ways, fault, function(way) way:latency(fault.args.by) end)
  run.pause(fault.seconds)
  each(world.ways, fault, function(way) way:latency(0) end)
end

function M.pause(world, fault)
  each(world.ways, fault, function(way) way:pause() end)
  run.pause(fault.seconds)
  each(world.ways, fault, function(way) way:resume() end)
end

function M.reset(world, fault)
  each(world.ways, fault, function(way) way:reset() end)
end

-- A good script, which answers with another version.
function M.reload(world)
  world.values.VERSION = world.values.VERSION + 1
  local entry = world.dog:reload(world.text, world.values)
  world.stage:check(entry.msg == "script reloaded", "a good script was refused: %s", tostring(entry.error))
end

function M.sighup(world)
  local entry = world.dog:reload()
  world.stage:check(entry.msg == "script reloaded", "the same script was refused: %s", tostring(entry.error))
end

function M.bad_reload(world, fault)
  local entry = world.dog:reload(BAD[fault.args.script], {})
  world.dog:rewrite(world.text, world.values)
  world.stage:check(entry.msg == "reload failed", "a bad script was taken")
  world.stage:check((entry.error or ""):find("script%d+%.lua:%d:"), "no file and line: %s", tostring(entry.error))
end

-- More than a slow handler handles.
function M.flood(world, fault)
  local client = world.servers[fault.args.server]:connect()
  local payload = ("x"):rep(200)
  for i = 1, fault.args.messages do
    client:publish("flood", payload)
    if i % FLUSH_EVERY == 0 then
      client:flush(FLOOD_SECONDS)
    end
  end
  client:close()
end

-- The server deletes the consumers of the readers.
function M.forget(world)
  local server = world.servers.hub
  local names = jetstream.consumers(server, "R")
  local client = server:connect()
  for _, name in ipairs(names) do -- one may be gone already: it is made again under the same name meanwhile
    client:request("$JS.API.CONSUMER.DELETE.R." .. name, "", 5)
  end
  client:close()
end

-- Does one fault of a schedule, and returns when it is over.
function M.play(world, fault)
  M[fault.fault](world, fault)
end

return M
