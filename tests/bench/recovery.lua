-- How long subscriptions are away after the server is back: scripts/bench recovery. Each client has a server of its
-- own, which is killed and started again at once. All clients try to reconnect every 10 ms.
package.path = assert(os.getenv("MOONDOG_ROOT")) .. "/tests/?.lua;" .. package.path

local cpu = require "bench.cpu"
local nats_server = require "support.nats_server"
local peers = require "bench.peers"
local prober = require "bench.prober"
local results = require "bench.results"
local turns = require "bench.turns"

local ROUNDS = results.brief and 1 or 5
local COUNTS = results.brief and { 1, 100, 1000 } or { 1, 1000, 10000, 100000 }
-- With nats.c, a thread for each subscription is not to be had for so many.
local CLIENTS = { "moondog", "nats.c pool", "nats.go", "npm", "nats-py" }
local SAMPLES = 20 -- subscriptions that are asked, from the first to the last
local RECOVERY_SECONDS = 60

local FIGURES = { { "first", "ms", "%.1f", ratio = true }, { "last", "ms", "%.1f", ratio = true },
  { "cpu", "ms CPU", "%.1f", ratio = true } }

local function case_name(count)
  return ("%d subscription%s"):format(count, count == 1 and "" or "s")
end

local function samples(peer, count)
  local list, seen = {}, {}
  for i = 0, SAMPLES - 1 do
    local number = math.floor(i * (count - 1) / (SAMPLES - 1) + 0.5)
    if not seen[number] then
      seen[number] = true
      list[#list + 1] = ("ask.%s.%d"):format(peer.word, number)
    end
  end
  return list
end

-- From the moment that the server accepts: milliseconds until the first of the samples answers, and until all have.
-- CPU: of the loss, the attempts and the recovery.
local function measure(peer, count)
  local before = cpu(peer.pid)
  peer.server:kill()
  local probe = prober.start(peer.server.port, samples(peer, count))
  peer.server:restart()
  local first, last = probe:wait(RECOVERY_SECONDS)
  return { first = first * 1e3, last = last * 1e3, cpu = (cpu(peer.pid) - before) / 1e6 }
end

-- Each of them on a server of its own, with so many subscriptions.
local function start(servers, count)
  local list, missing = {}, {}
  for _, kind in ipairs(peers.kinds(missing, CLIENTS)) do
    local server = servers[kind.name] or nats_server.start()
    servers[kind.name] = server
    local peer = peers.start(server, server:connect(), kind)
    peer:order("answer", { subject = "ask." .. peer.word, subjects = count })
    peer.server = server
    list[#list + 1] = peer
  end
  return list, missing
end

results.run(function()
  local servers = {}
  local found
  for _, count in ipairs(COUNTS) do
    local list, missing = start(servers, count)
    found = found or results.new("recovery", "From the moment that the server accepts again to "
      .. "the first message of the first and of the last subscription",
      list, missing)
    local got = turns.play(list, { count }, ROUNDS, measure)
    found:add(case_name(count), got[count], FIGURES, { subscriptions = count })
    for _, peer in ipairs(list) do peer:stop() end
  end
  local many, most = COUNTS[#COUNTS - 1], COUNTS[#COUNTS]
  found:goal(("ms to the last of %d subscriptions"):format(many), found:median(case_name(many), "last", "moondog"), 250)
  found:goal(("linear in their number: ms of each of %d subscriptions / of each of %d"):format(most, many),
    found:median(case_name(most), "last", "moondog") / found:median(case_name(many), "last", "moondog") * many / most,
    1.2)
  local points = {}
  for i, count in ipairs(COUNTS) do points[i] = { count, case_name(count) } end
  found:plot("subscriptions", points, { key = "last", log = true, x = "subscriptions", y = "ms to the last one" })
  found:finish { server = servers.moondog:version() }
end, 900)
