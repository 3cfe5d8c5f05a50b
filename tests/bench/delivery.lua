-- What it costs to receive a message: scripts/bench delivery. All clients are connected to one server, each with
-- subscriptions of its own, and are sent the same messages in turns by another process: at a rate that all of them can
-- follow, where CPU is compared; and as fast as the sender can.
package.path = assert(os.getenv("MOONDOG_ROOT")) .. "/tests/?.lua;" .. package.path

local cpu = require "bench.cpu"
local nats_server = require "support.nats_server"
local payload = require "bench.payload"
local peers = require "bench.peers"
local results = require "bench.results"
local run = require "support.run"
local turns = require "bench.turns"

local ROUNDS = results.brief and 1 or 5
local SECONDS = results.brief and 0.02 or 0.25 -- of an offer at a rate
local MANY = results.brief and 1000 or 10000  -- subscriptions
local QUIET_SECONDS = 2                       -- nothing has come for so long: what is missing was dropped
local POLL_SECONDS = 0.01
local CPU_SECONDS = 0.3                       -- of one offer: who is slow is sent less
local MODES = { "steady", "full" }

-- rate: messages a second that are offered; full: messages of an offer at full speed.
local SIZES = {
  [16] = { name = "16 B", rate = 200000, full = 200000 },
  [64] = { name = "64 B", rate = 200000, full = 200000 },
  [1024] = { name = "1 KB", rate = 100000, full = 100000 },
  [16384] = { name = "16 KB", rate = 10000, full = 10000 },
}
-- { bytes, subscriptions }: all sizes into one, and one size into all numbers of them.
local CASES = { { 16, 1 }, { 64, 1 }, { 1024, 1 }, { 16384, 1 }, { 64, 100 }, { 64, MANY } }

local function case_name(size, subjects, mode)
  local kind = SIZES[size]
  return ("%s, %d subscription%s, %s"):format(kind.name, subjects, subjects == 1 and "" or "s",
    mode == "full" and "at full speed" or ("%d/s offered"):format(kind.rate))
end

-- Waits until a client has all, or nothing comes any more. Returns how many it has, and when it had them.
local function wait_received(peer, wanted)
  local count, since = -1, run.now()
  while true do
    local now_there = peer:order("received").count
    if now_there ~= count then count, since = now_there, run.now() end
    if count >= wanted or run.now() - since > QUIET_SECONDS then return count, since end
    run.pause(POLL_SECONDS)
  end
end

-- How many messages an offer has: one for each subscription at least, and no more than CPU_SECONDS of work, as far as
-- it is known what one costs.
local function count_for(peer, case, mode)
  local subjects, wanted = case[2], SIZES[case[1]][mode == "full" and "full" or "rate"] * SECONDS
  local cost = peer.costs[mode]
  return math.ceil(math.max(subjects, math.min(wanted, cost and CPU_SECONDS * 1e9 / cost or wanted)))
end

local function measure(sender, peer, case, mode)
  local size, subjects = unpack(case)
  local kind = SIZES[size]
  local sent = count_for(peer, case, mode)
  local before, begun = cpu(peer.pid), run.now()
  sender:order("offer", { count = sent, value = mode == "full" and 0 or kind.rate, subject = "to." .. peer.word,
    subjects = subjects, data = payload(size) })
  local total, at = wait_received(peer, peer.had + sent)
  local received = total - peer.had
  local used = cpu(peer.pid) - before
  peer.had, peer.costs[mode] = total, used / received
  if received == 0 then error(peer.name .. " has received nothing", 0) end
  return { cpu = used / received, rate = received / (at - begun), received = 100 * received / sent }
end

local FIGURES = {
  steady = { { "cpu", "ns CPU each", "%.0f", ratio = true }, { "received", "%", "%.2f" } },
  full = { { "cpu", "ns CPU each", "%.0f", ratio = true }, { "rate", "messages/s", "%.0f" },
    { "received", "%", "%.2f" } },
}

-- Those that can have so many subscriptions. A thread for each of 10,000 is not to be had everywhere.
local function subscribe(found, all, subjects)
  local able = {}
  for _, peer in ipairs(all) do
    local done, err = peer:try("subscribe", { subject = "to." .. peer.word, subjects = subjects })
    if done then
      able[#able + 1], peer.had, peer.costs = peer, 0, {}
    else
      found:leave_out(("%s with %d subscriptions"):format(peer.name, subjects), err)
    end
  end
  return able
end

local function state_goals(found)
  local one, many = case_name(64, 1, "steady"), case_name(64, MANY, "steady")
  for _, goal in ipairs { { "nats.c", 1 }, { "nats.go", 1 }, { "npm", 1 / 1.5 } } do
    found:goal("CPU of a message of 64 B, one subscription: moondog / " .. goal[1], found:ratio(one, "cpu", goal[1]),
      goal[2])
  end
  found:goal(("CPU of a message of 64 B: moondog's with %d subscriptions / with one"):format(MANY),
    found:median(many, "cpu", "moondog") / found:median(one, "cpu", "moondog"), 1.2)
end

local function draw(found)
  local sizes, numbers = {}, {}
  for _, case in ipairs(CASES) do
    local point = case_name(case[1], case[2], "steady")
    if case[2] == 1 then sizes[#sizes + 1] = { case[1], point } end
    if case[1] == 64 then numbers[#numbers + 1] = { case[2], point } end
  end
  found:plot("size", sizes, { key = "cpu", log = true, x = "bytes of a message", y = "ns CPU of a message" })
  found:plot("subscriptions", numbers, { key = "cpu", log = true, x = "subscriptions", y = "ns CPU of a message" })
end

results.run(function()
  local server = nats_server.start()
  local witness = server:connect()
  local all, missing = peers.start_all(server, witness, "all")
  local sender = peers.start_sender(server, witness)
  local found = results.new("delivery", "Receiving: moondog's handler counts, reads the data, or decodes it as JSON; "
    .. "the others count", all, missing)
  for _, case in ipairs(CASES) do
    local able = subscribe(found, all, case[2])
    local got = turns.play(able, MODES, ROUNDS, function(peer, mode) return measure(sender, peer, case, mode) end)
    for _, mode in ipairs(MODES) do
      found:add(case_name(case[1], case[2], mode), got[mode], FIGURES[mode],
        { bytes = case[1], subscriptions = case[2], mode = mode })
    end
  end
  state_goals(found)
  draw(found)
  found:finish { server = server:version() }
end, 900)
