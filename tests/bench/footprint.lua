-- What a process needs: scripts/bench footprint. Memory is what is resident (VmRSS); of a subscription, a request that
-- waits, a timer and a connection it is what many of them add. Each figure is of a fresh process.
package.path = assert(os.getenv("MOONDOG_ROOT")) .. "/tests/?.lua;" .. package.path

local uv = require "luv"
local day_time = require "bench.day_time"
local nats_server = require "support.nats_server"
local peers = require "bench.peers"
local results = require "bench.results"
local run = require "support.run"
local turns = require "bench.turns"

local ROUNDS = results.brief and 1 or 5
local MANY = results.brief and 500 or 10000 -- subscriptions, requests and timers
local CONNECTIONS = results.brief and 5 or 50
local CLIENTS = { "moondog", "nats.c", "nats.c pool", "nats.go", "npm", "nats-py" }
local SETTLE_SECONDS = results.brief and 0.05 or 0.2 -- until what the start or an order has set in motion is done
local CONNECT_SECONDS = 20
local SILENT = "silent" -- a subject on which somebody listens and never answers

-- Each adds so many of one thing to a process. key: of its figure.
local GROWTHS = {
  { key = "subscription", op = "subscribe", order = { subject = "fill", subjects = MANY }, count = MANY },
  { key = "request", op = "park", order = { subject = SILENT .. ".0", count = MANY }, count = MANY },
  { key = "timer", op = "timers", order = { count = MANY }, count = MANY },
  { key = "connection", op = "connect", order = { count = CONNECTIONS }, count = CONNECTIONS },
}

local FIGURES = {
  process = { { "start", "ms", "%.0f", ratio = true }, { "idle", "MiB", "%.1f", ratio = true },
    { "threads", "", "%.0f" } },
  each = { { "bytes", "bytes each", "%.0f", ratio = true }, { "threads", "threads each", "%.2f" } },
}

local function child_of(peer)
  return peer.child.process or peer.child
end

-- Seconds from the beginning of the process to the server's acceptance of its connection, by the server's clock.
local function start_time(server, peer, begun)
  return day_time.between(begun, day_time.parse(server:clients("^" .. peer.word .. "$")[1].start))
end

local function measure(server, witness, kind, thing)
  local seconds, microseconds = uv.gettimeofday()
  local peer = peers.start(server, witness, kind)
  local child, figures = child_of(peer), nil
  if thing == "process" then
    figures = { start = 1e3 * start_time(server, peer, seconds + microseconds / 1e6) }
    run.pause(SETTLE_SECONDS)
    figures.idle, figures.threads = child:rss() / 2 ^ 20, child:threads()
  else
    run.pause(SETTLE_SECONDS)
    local memory, threads = child:rss(), child:threads()
    if peer:try(thing.op, thing.order) then
      run.wait_until(function()
        return thing.op ~= "connect" or #server:clients("^" .. peer.word) == CONNECTIONS + 1
      end, CONNECT_SECONDS, "all connections")
      run.pause(SETTLE_SECONDS)
      figures = { bytes = (child:rss() - memory) / thing.count, threads = (child:threads() - threads) / thing.count }
    end
  end
  peer:stop()
  return figures
end

results.run(function()
  local server = nats_server.start()
  local witness = server:connect()
  peers.start_sender(server, witness):order("subscribe", { subject = SILENT })
  local missing, things = {}, { "process", unpack(GROWTHS) }
  local kinds = peers.kinds(missing, CLIENTS)
  local found = results.new("footprint", "What a process needs", kinds, missing)
  local got = turns.play(kinds, things, ROUNDS, function(...) return measure(server, witness, ...) end, true)
  found:add("a process", got.process, FIGURES.process)
  for _, growth in ipairs(GROWTHS) do
    found:add("a " .. growth.key, got[growth], FIGURES.each, { count = growth.count })
  end
  found:goal("MiB of an idle process (15 MB)", found:median("a process", "idle", "moondog"), 15e6 / 2 ^ 20)
  found:goal("bytes of a subscription", found:median("a subscription", "bytes", "moondog"), 1024)
  found:goal("bytes of a request that waits", found:median("a request", "bytes", "moondog"), 2048)
  found:finish { server = server:version() }
end, 600)
