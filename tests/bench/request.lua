-- What requests cost those who make them and those who answer: scripts/bench request. The other side is plain
-- nats.c in a process of its own, which sends at once. "nats.c" waits with an answer for others to send with it, for up
-- to a millisecond, as it does by default; "nats.c asap" does not.
package.path = assert(os.getenv("MOONDOG_ROOT")) .. "/tests/?.lua;" .. package.path

local cpu = require "bench.cpu"
local nats_server = require "support.nats_server"
local payload = require "bench.payload"
local peers = require "bench.peers"
local results = require "bench.results"
local turns = require "bench.turns"

local ROUNDS = results.brief and 1 or 5
local LESS = results.brief and 50 or 1 -- so many times less work
local SIZE = 64
local CLIENTS = { "moondog", "nats.c", "nats.c asap", "nats.go", "npm", "nats-py" }

-- lanes: requests at a time.
local CASES = {
  { name = "requests, one at a time", count = 5000, lanes = 1 },
  { name = "requests, 64 at a time", count = 20000, lanes = 64 },
  { name = "answers, one at a time", count = 5000, lanes = 1, answers = true },
  { name = "answers, 64 at a time", count = 20000, lanes = 64, answers = true },
}
local FIGURES = { { "p50", "us", "%.0f", ratio = true }, { "p99", "us", "%.0f" }, { "p99.9", "us", "%.0f" },
  { "rate", "requests/s", "%.0f", ratio = true }, { "cpu", "ns CPU each", "%.0f", ratio = true } }

local function measure(partners, peer, case)
  local asks = case.answers and partners.sender or peer
  local before = cpu(peer.pid)
  local got = asks:order("request", { count = case.count / LESS, value = case.lanes, data = payload(SIZE),
    subject = ("ask.%s.0"):format((case.answers and peer or partners.responder).word) })
  return { rate = got.count / got.seconds, cpu = (cpu(peer.pid) - before) / got.count, p50 = got.p50 * 1e6,
    p99 = got.p99 * 1e6, ["p99.9"] = got.p999 * 1e6 }
end

results.run(function()
  local server = nats_server.start()
  local witness = server:connect()
  local all, missing = peers.start_all(server, witness, CLIENTS)
  local partners = { sender = peers.start_sender(server, witness),
    responder = peers.start_responder(server, witness) }
  for _, peer in ipairs { partners.responder, unpack(all) } do
    peer:order("answer", { subject = "ask." .. peer.word })
  end
  local found = results.new("request", ("Requests of %d bytes: the client asks nats.c. Answers: it is asked by "
    .. "nats.c, and its CPU is measured, too"):format(SIZE), all, missing)
  local got = turns.play(all, CASES, ROUNDS, function(...) return measure(partners, ...) end)
  for _, case in ipairs(CASES) do
    found:add(case.name, got[case], FIGURES, { bytes = SIZE, lanes = case.lanes })
  end
  found:goal("p50 of requests, one at a time: moondog / nats.c",
    found:ratio("requests, one at a time", "p50", "nats.c"), 1.15)
  found:finish { server = server:version() }
end, 600)
