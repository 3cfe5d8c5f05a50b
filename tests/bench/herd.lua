-- How many connections come back to a server that was away, over time: scripts/bench herd. Several processes with many
-- connections each, with the waits between attempts that the clients have by default; the server says when it has
-- accepted each of them. Each kind of client has a server of its own, and they take turns.
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
local POLL_SECONDS = 0.05
local BUCKET = 0.1 -- seconds; of the peak, and of the plot
local STEP, STEPS = 0.5, 8 -- seconds, of the table of connects over time; what comes later is added up

local CASE = ("%d connections in %d processes, a server that is away for %g s"):format(PROCESSES * CONNECTIONS,
  PROCESSES, AWAY_SECONDS)
local FIGURES = { { "half", "s", "%.2f", ratio = true }, { "all", "s", "%.2f", ratio = true },
  { "peak", "in 100 ms", "%.0f", ratio = true }, { "cpu", "ms CPU", "%.0f", ratio = true },
  { "server", "ms CPU", "%.0f", ratio = true } }
local RATES = {}
for i = 1, STEPS do
  RATES[i] = { ("%.1f to %.1f s"):format((i - 1) * STEP, i * STEP), "connects/s", "%.0f", usual = 0 }
end
RATES[STEPS + 1] = { ("after %.1f s"):format(STEPS * STEP), "connections", "%.0f", usual = 0 }

local function start_herd(kind)
  local herd = { name = kind.name, server = nats_server.start(), processes = {}, rounds = {} }
  local witness = herd.server:connect()
  for i = 1, PROCESSES do
    herd.processes[i] = peers.start(herd.server, witness, kind, i)
    herd.processes[i]:order("connect", { count = CONNECTIONS - 1 })
  end
  return herd
end

-- How many the kernel has: the server's CPU is measured, and its pages would cost it some.
local function established(port)
  local file, count = assert(io.open("/proc/net/tcp")), 0
  local pattern = ("^%%s*%%d+: %%x+:%04X %%x+:%%x+ 01 "):format(port)
  for line in file:lines() do
    if line:find(pattern) then count = count + 1 end
  end
  file:close()
  return count
end

local function wait_connections(herd)
  local wanted = PROCESSES * CONNECTIONS
  run.wait_until(function()
    run.pause(POLL_SECONDS)
    return established(herd.server.port) >= wanted and herd.server:monitor("varz").connections >= wanted
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

-- Connects a second, step by step.
local function rates(list)
  local found = {}
  for _, figure in ipairs(RATES) do found[figure[1]] = 0 end
  for _, at in ipairs(list) do
    local step = math.min(math.floor(at / STEP), STEPS) + 1
    local key = RATES[step][1]
    found[key] = found[key] + (step <= STEPS and 1 / STEP or 1)
  end
  return found
end

local function measure(herd)
  local before = used(herd)
  herd.server:kill()
  run.pause(AWAY_SECONDS)
  herd.server:restart()
  wait_connections(herd)
  local server_cpu = cpu(herd.server.process.pid)
  local list = arrivals(herd.server)
  table.insert(herd.rounds, list)
  local figures = rates(list)
  figures.half, figures.all, figures.peak = list[math.ceil(#list / 2)], list[#list], peak(list)
  figures.cpu, figures.server = (used(herd) - before) / 1e6, server_cpu / 1e6
  return figures
end

-- All rounds together: the connections that are there, and the connects a second, over time.
local function curves_of(herd)
  local all = {}
  for _, list in ipairs(herd.rounds) do
    for _, at in ipairs(list) do all[#all + 1] = at end
  end
  table.sort(all)
  local there, buckets, connects = {}, {}, {}
  for i, at in ipairs(all) do
    there[i] = { at, i / #herd.rounds }
    local bucket = math.floor(at / BUCKET)
    buckets[bucket] = (buckets[bucket] or 0) + 1
  end
  for bucket = 0, math.floor(all[#all] / BUCKET) + 1 do
    connects[#connects + 1] = { (bucket + 0.5) * BUCKET, (buckets[bucket] or 0) / BUCKET / #herd.rounds }
  end
  return there, connects
end

local function draw(found, herds)
  local there, connects = {}, {}
  for i, herd in ipairs(herds) do
    local a, b = curves_of(herd)
    there[i], connects[i] = { herd.name, a }, { herd.name, b }
  end
  local x = ("seconds after the server's start (%d rounds)"):format(ROUNDS)
  found:draw("connections", there, { x = x, y = "connections", bare = true })
  found:draw("rate", connects, { x = x, y = "connects a second", bare = true })
end

results.run(function()
  local herds, missing = {}, {}
  for i, kind in ipairs(peers.stock_kinds(missing)) do herds[i] = start_herd(kind) end
  local found = results.new("herd", "Connections that come back after the server's start", herds, missing)
  for _, herd in ipairs(herds) do wait_connections(herd) end
  local got = turns.play(herds, { CASE }, ROUNDS, measure, true)
  local parameters = { connections = PROCESSES * CONNECTIONS, processes = PROCESSES, away = AWAY_SECONDS,
    step = STEP }
  found:add(CASE, got[CASE], FIGURES, parameters)
  found:add("connects a second, over time", got[CASE], RATES, parameters)
  draw(found, herds)
  local facts = { server = herds[1].server:version(), arrivals = {} }
  for _, herd in ipairs(herds) do facts.arrivals[herd.name] = herd.rounds end
  found:finish(facts)
end, 900)
