-- What it costs to receive a message: scripts/bench delivery. All clients are connected to one server, each with
-- subscriptions of its own, and are sent the same messages in turns by another process: at a rate that they can follow,
-- where CPU is compared, and as fast as the sender can.
package.path = assert(os.getenv("MOONDOG_ROOT")) .. "/tests/?.lua;" .. package.path

local cpu = require "bench.cpu"
local nats_server = require "support.nats_server"
local payload = require "bench.payload"
local peers = require "bench.peers"
local results = require "bench.results"
local run = require "support.run"
local turns = require "bench.turns"

local ROUNDS = results.brief and 1 or 5
local GOAL_ROUNDS = results.brief and 1 or 9  -- of the size of which goals are stated
local SECONDS = results.brief and 0.02 or 0.25 -- of an offer at a rate
local MANY = results.brief and 1000 or 10000  -- subscriptions
local QUIET_SECONDS = 2                       -- nothing has come for so long: what is missing was dropped
local POLL_SECONDS = 0.01
local CPU_SECONDS = 0.3                       -- of one offer: who is slow is sent less
local BUSY = 0.8                              -- of a core, at a steady rate: who is slow is sent fewer a second
local CLIENTS = { "moondog", "moondog data", "moondog json", "moondog 1 CPU", "nats.c", "nats.c pool", "nats.c 1 CPU",
  "nats.go", "npm", "nats-py" }

-- rate: messages a second that are offered; full: messages of an offer at full speed.
local SIZES = {
  { bytes = 16, name = "16 B", rate = 200000, full = 200000 },
  { bytes = 64, name = "64 B", rate = 200000, full = 200000 },
  { bytes = 1024, name = "1 KB", rate = 50000, full = 100000 },
  { bytes = 16384, name = "16 KB", rate = 4000, full = 10000 },
}
local COUNTS = { 1, 100, MANY } -- of subscriptions

local function title(case)
  return ("%s, %d subscription%s"):format(case.size.name, case.subjects, case.subjects == 1 and "" or "s")
end

local function case_name(case, mode)
  return title(case) .. ", " .. (mode == "full" and "at full speed" or ("%d/s offered"):format(case.size.rate))
end

local MODES = { "steady", "full" }

local CASES = {}
for _, subjects in ipairs(COUNTS) do
  for _, size in ipairs(SIZES) do CASES[#CASES + 1] = { size = size, subjects = subjects } end
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

-- How many messages an offer has, and how many a second (0: as fast as the sender can), as far as it is known what one
-- costs this client: so that the offer is no more than CPU_SECONDS of work, and the client can follow.
local function offer_for(peer, size, mode)
  local wanted, cost = size[mode == "full" and "full" or "rate"] * SECONDS, peer.costs[mode]
  local count = math.ceil(cost and math.min(wanted, CPU_SECONDS * 1e9 / cost) or wanted)
  return count, mode == "full" and 0 or math.ceil(cost and math.min(size.rate, BUSY * 1e9 / cost) or size.rate)
end

local function measure(sender, peer, case, mode)
  local count, rate = offer_for(peer, case.size, mode)
  local before, begun = cpu(peer.pid), run.now()
  sender:order("offer", { count = count, value = rate, subject = "to." .. peer.word, subjects = case.subjects,
    data = payload(case.size.bytes) })
  local total, at = wait_received(peer, peer.had + count)
  local received = total - peer.had
  local used = cpu(peer.pid) - before
  if received == 0 then error(peer.name .. " has received nothing", 0) end
  peer.had, peer.costs[mode] = total, used / received
  return { cpu = used / received, rate = received / (at - begun), received = 100 * received / count,
    offered = 100 * rate / case.size.rate }
end

-- offered: of the rate in the case's name.
local RECEIVED = { "received", "%", "%.2f", usual = 100 }
local FIGURES = {
  steady = { { "cpu", "ns CPU each", "%.0f", ratio = true }, { "offered", "% of the rate", "%.0f", usual = 100 },
    RECEIVED },
  full = { { "cpu", "ns CPU each", "%.0f", ratio = true }, { "rate", "messages/s", "%.0f", ratio = true }, RECEIVED },
}

-- Those that can have so many subscriptions. A thread for each of 10,000 is not to be had everywhere.
local function subscribe(found, all, subjects)
  local able = {}
  for _, peer in ipairs(all) do
    local done, err = peer:try("subscribe", { subject = "to." .. peer.word, subjects = subjects })
    if done then
      able[#able + 1], peer.had = peer, 0
    else
      found:leave_out(("%s with %d subscriptions"):format(peer.name, subjects), err)
    end
  end
  return able
end

local function find_case(bytes, subjects)
  for _, case in ipairs(CASES) do
    if case.size.bytes == bytes and case.subjects == subjects then return case end
  end
end

-- In both modes: neither is what everybody has.
local function state_goals(found, mode)
  local one, many = case_name(find_case(64, 1), mode), case_name(find_case(64, MANY), mode)
  local how = mode == "full" and "at full speed" or ("%d/s"):format(find_case(64, 1).size.rate)
  for _, goal in ipairs { { "nats.c", 1 }, { "nats.go", 1 }, { "npm", 1 / 1.5 } } do
    found:goal(("CPU of a message of 64 B, one subscription, %s: moondog / %s"):format(how, goal[1]),
      found:ratio(one, "cpu", goal[1]), goal[2])
  end
  found:goal(("CPU of a message of 64 B, %s: moondog's with %d subscriptions / with one"):format(how, MANY),
    found:median(many, "cpu", "moondog") / found:median(one, "cpu", "moondog"), 1.2)
end

local function sum_up(found)
  local steady, full, sizes, numbers = {}, {}, {}, {}
  for _, case in ipairs(CASES) do
    local point = case_name(case, "steady")
    steady[#steady + 1] = { title(case), point }
    full[#full + 1] = { title(case), case_name(case, "full") }
    if case.subjects == 1 then sizes[#sizes + 1] = { case.size.bytes, point } end
    if case.size.bytes == 64 then numbers[#numbers + 1] = { case.subjects, point } end
  end
  found:overview("ns CPU of a message, at steady rates", "cpu", "%.0f", steady)
  found:overview("messages a second, at full speed", "rate", "%.0f", full)
  found:plot("size", sizes, { key = "cpu", log = true, x = "bytes of a message", y = "ns CPU of a message" })
  found:plot("subscriptions", numbers, { key = "cpu", log = true, x = "subscriptions", y = "ns CPU of a message" })
end

local function play(found, sender, able, case)
  for _, peer in ipairs(able) do peer.costs = {} end
  local got = turns.play(able, MODES, case.size.bytes == 64 and GOAL_ROUNDS or ROUNDS, function(peer, mode)
    return measure(sender, peer, case, mode)
  end)
  for _, mode in ipairs(MODES) do
    found:add(case_name(case, mode), got[mode], FIGURES[mode],
      { bytes = case.size.bytes, subscriptions = case.subjects, mode = mode })
  end
end

results.run(function()
  local server = nats_server.start()
  local witness = server:connect()
  local all, missing = peers.start_all(server, witness, CLIENTS)
  local sender = peers.start_sender(server, witness)
  local found = results.new("delivery", "Receiving: moondog's handler counts, reads the data, or decodes it as JSON; "
    .. "the others count", all, missing)
  local able, subjects
  for _, case in ipairs(CASES) do
    if case.subjects ~= subjects then
      subjects = case.subjects
      able = subscribe(found, all, subjects)
    end
    play(found, sender, able, case)
  end
  for _, mode in ipairs(MODES) do state_goals(found, mode) end
  sum_up(found)
  found:finish { server = server:version() }
end, 900)
