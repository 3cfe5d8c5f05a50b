-- How many connections come back to a server that was away, over time: scripts/bench herd. Several processes with many
-- connections each, with the waits between attempts that the clients have by default; the server says when it has
-- accepted each of them. moondog and nats.c have servers of their own, and take turns.
package.path = assert(os.getenv("MOONDOG_ROOT")) .. "/tests/?.lua;" .. package.path

local cpu = require "bench.cpu"
local day_time = require "bench.day_time"
local nats_server = require "support.nats_server"
local peers = require "bench.peers"
local results = require "bench.results"
local run = require "support.run"
local turns = require "bench.turns"

local ROUNDS = results.brief and 1 or 5
local PROCESSES = results.brief and 2 or 5
local CONNECTIONS = results.brief and 10 or 100 -- of each process
local AWAY_SECONDS = results.brief and 0.5 or 3
local BACK_SECONDS = 60
local POLL_SECONDS = 0.25 -- the server's CPU is measured, and pages cost it some
local BUCKET = 0.1 -- seconds

local CASE = ("%d connections in %d processes, a server that is away for %g s"):format(PROCESSES * CONNECTIONS,
  PROCESSES, AWAY_SECONDS)
local FIGURES = { { "half", "s", "%.2f", ratio = true }, { "all", "s", "%.2f", ratio = true },
  { "peak", "in 100 ms", "%.0f", ratio = true }, { "cpu", "ms CPU", "%.0f", ratio = true },
  { "server", "ms CPU", "%.0f", ratio = true } }

local function start_herd(kind)
  local herd = { name = kind.name, server = nats_server.start(), processes = {} }
  local witness = herd.server:connect()
  for i = 1, PROCESSES do
    herd.processes[i] = peers.start(herd.server, witness, kind, i)
    herd.processes[i]:order("connect", { count = CONNECTIONS - 1 })
  end
  return herd
end

local function wait_connections(herd)
  run.wait_until(function()
    run.pause(POLL_SECONDS)
    return herd.server:monitor("varz").connections >= PROCESSES * CONNECTIONS
  end, BACK_SECONDS, "all connections")
end

local function used(herd)
  local total = 0
  for _, peer in ipairs(herd.processes) do total = total + cpu(peer.pid) end
  return total
end

-- Seconds from the server's start to the acceptance of each connection, ascending; by the server's own clock.
local function arrivals(server)
  local begun, list = day_time.parse(server:monitor("varz").start), {}
  for i, client in ipairs(server:clients()) do list[i] = day_time.between(begun, day_time.parse(client.start)) end
  table.sort(list)
  return list
end

-- The most in any 100 ms.
local function peak(list)
  local most, from = 0, 1
  for i, at in ipairs(list) do
    while list[from] < at - BUCKET do from = from + 1 end
    most = math.max(most, i - from + 1)
  end
  return most
end

local function measure(herd)
  local before = used(herd)
  herd.server:kill()
  run.pause(AWAY_SECONDS)
  herd.server:restart()
  wait_connections(herd)
  local server_cpu = cpu(herd.server.process.pid)
  local list = arrivals(herd.server)
  herd.arrivals = list
  return { half = list[math.ceil(#list / 2)], all = list[#list], peak = peak(list), cpu = (used(herd) - before) / 1e6,
    server = server_cpu / 1e6 }
end

results.run(function()
  local herds, curves = {}, {}
  for i, kind in ipairs(peers.STOCK) do herds[i] = start_herd(kind) end
  local found = results.new("herd", "Connections that come back after the server's start", herds)
  for _, herd in ipairs(herds) do wait_connections(herd) end
  local got = turns.play(herds, { CASE }, ROUNDS, measure, true)
  found:add(CASE, got[CASE], FIGURES, { connections = PROCESSES * CONNECTIONS, processes = PROCESSES,
    away = AWAY_SECONDS })
  local facts = { server = herds[1].server:version(), arrivals = {} }
  for i, herd in ipairs(herds) do
    local points = {}
    for count, at in ipairs(herd.arrivals) do points[count] = { at, count } end
    curves[i], facts.arrivals[herd.name] = { herd.name, points }, herd.arrivals
  end
  found:draw("connections", curves, { x = "seconds after the server's start (the last round)", y = "connections",
    bare = true })
  found:finish(facts)
end, 600)
