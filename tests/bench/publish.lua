-- What it costs to publish: scripts/bench publish. Nobody is subscribed. All clients flush after so many messages: a
-- flush is a round trip that says that the server has them.
package.path = assert(os.getenv("MOONDOG_ROOT")) .. "/tests/?.lua;" .. package.path

local cpu = require "bench.cpu"
local nats_server = require "support.nats_server"
local payload = require "bench.payload"
local peers = require "bench.peers"
local results = require "bench.results"
local turns = require "bench.turns"

local ROUNDS = results.brief and 1 or 5
local LESS = results.brief and 100 or 1 -- so many times less work

-- batch: messages between two flushes; a client may keep 8 MiB until it sends them.
local CASES = {
  { name = "16 B, pipelined", size = 16, count = 1000000, batch = 10000 },
  { name = "64 B, pipelined", size = 64, count = 1000000, batch = 10000 },
  { name = "1 KB, pipelined", size = 1024, count = 400000, batch = 4000 },
  { name = "16 KB, pipelined", size = 16384, count = 10000, batch = 250 },
  { name = "64 B, 64 in flight: a flush after 64", size = 64, count = 320000, batch = 64, timed = true },
  { name = "64 B, one in flight: a flush after each", size = 64, count = 5000, batch = 1, timed = true },
}
local RATES = { { "rate", "messages/s", "%.0f", ratio = true }, { "cpu", "ns CPU each", "%.0f", ratio = true } }
local TIMES = { { "p50", "us of a flush", "%.0f", ratio = true }, { "p99", "us of a flush", "%.0f" },
  { "p99.9", "us of a flush", "%.0f" }, RATES[1], RATES[2] }

local function measure(peer, case)
  local batch = math.max(1, math.min(case.batch, case.count / LESS))
  local before = cpu(peer.pid)
  local got = peer:order("publish", { count = case.count / LESS, value = batch, subject = "from." .. peer.word,
    data = payload(case.size) })
  return { rate = got.count / got.seconds, cpu = (cpu(peer.pid) - before) / got.count, p50 = got.p50 * 1e6,
    p99 = got.p99 * 1e6, ["p99.9"] = got.p999 * 1e6 }
end

results.run(function()
  local server = nats_server.start()
  local witness = server:connect()
  local all, missing = peers.start_all(server, witness)
  local found = results.new("publish", "Publishing, to nobody", all, missing)
  local got = turns.play(all, CASES, ROUNDS, measure)
  for _, case in ipairs(CASES) do
    found:add(case.name, got[case], case.timed and TIMES or RATES, { bytes = case.size, batch = case.batch })
  end
  found:goal("rate of 64 B, pipelined: moondog / nats.c", found:ratio("64 B, pipelined", "rate", "nats.c"), 0.9, true)
  found:plot("size", { { 16, "16 B, pipelined" }, { 64, "64 B, pipelined" }, { 1024, "1 KB, pipelined" },
    { 16384, "16 KB, pipelined" } }, { key = "cpu", log = true, x = "bytes of a message", y = "ns CPU of a message" })
  found:finish { server = server:version() }
end, 600)
