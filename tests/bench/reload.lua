-- How long a reload takes, and keeps the loop from its messages: scripts/bench reload. For numbers of subscriptions and
-- sizes of state; and the longest gap between two messages of a flow, without and with reloads.
package.path = assert(os.getenv("MOONDOG_ROOT")) .. "/tests/?.lua;" .. package.path

local flow = require "bench.flow"
local moondog = require "support.moondog"
local nats_server = require "support.nats_server"
local results = require "bench.results"
local run = require "support.run"
local turns = require "bench.turns"

local ROUNDS = results.brief and 1 or 9
local FEWER = results.brief and 10 or 1 -- so many times fewer subscriptions and entries
local RATE = 10000 -- messages a second
local PHASE_SECONDS = results.brief and 0.3 or 2
local RELOAD_SECONDS = 0.1
local ENTRY_BYTES = 100

local SCRIPT = [[
local moondog = require "moondog"
local state = moondog.state
local c = moondog.connect { servers = { $URL } }
c:subscribe("flow", function()
  local now = moondog.now()
  local gap = now - (state.last or now)
  state.last = now
  if gap > (state.worst or 0) then state.worst = gap end
end)
c:subscribe("worst", function(msg)
  msg:respond(tostring(state.worst or 0))
  state.worst, state.last = 0, nil
end)
moondog.on_start(function()
  state.entries = state.entries or {}
  for i = #state.entries + 1, $ENTRIES do state.entries[i] = ("x"):rep($BYTES - #tostring(i)) .. i end
end)
c:subscribe("entries", function(msg) msg:respond(tostring(#state.entries)) end)
for i = 1, $SUBSCRIPTIONS do
  c:subscribe("filler." .. i, function() end)
end
]]

-- subscriptions, and entries of ENTRY_BYTES in the state.
local CASES = { { 100, 0 }, { 1000, 0 }, { 10000, 0 }, { 100, 1000 }, { 100, 10000 }, { 100, 100000 } }
local GAP_CASE = 2 -- the one with a flow

local FIGURES = { { "pause", "ms", "%.2f" }, { "load", "ms", "%.2f" }, { "total", "ms", "%.2f" } }
local GAPS = { { "without reloads", "ms", "%.2f" }, { "with reloads", "ms", "%.2f" } }

local function case_name(case)
  return ("%d subscriptions, %g MB of state"):format(case.subscriptions, case.entries * ENTRY_BYTES / 1e6)
end

-- pause: the loop is busy with the swap. load: in a thread of its own. total: from the signal to the log's line.
local function measure(case)
  local begun = run.now()
  local entry = case.dog:reload()
  assert(entry.msg == "script reloaded", entry.error)
  assert(tonumber(case.witness:wait_answer("entries", "", 10).data) == case.entries, "the state has not come over")
  return { pause = entry.swap_ms, load = entry.load_ms, total = (entry.at - begun) * 1e3 }
end

local function worst(witness)
  return tonumber(witness:wait_answer("worst", "", 10).data) * 1000
end

local function longest_gap(case, reloads)
  local running = reloads
  if reloads then
    run.spawn(function()
      while running do
        case.dog:signal("sighup")
        run.pause(RELOAD_SECONDS)
      end
    end)
  end
  worst(case.witness)
  flow(case.witness, PHASE_SECONDS, RATE, function() return "x" end)
  running = false
  return worst(case.witness)
end

local function start(numbers)
  local server = nats_server.start()
  local case = { name = "moondog", subscriptions = numbers[1] / FEWER, entries = numbers[2] / FEWER,
    witness = server:connect() }
  case.dog = moondog.run(SCRIPT, { URL = server.url, SUBSCRIPTIONS = case.subscriptions, ENTRIES = case.entries,
    BYTES = ENTRY_BYTES }, { args = { "--budget", "10000", "--load-budget", "10000" } })
  case.dog:wait_log("^connected$")
  worst(case.witness)
  return case
end

-- points: a list of { x, case }.
local function draw(found, file, points, x)
  local curves = {}
  for i, key in ipairs { "pause", "total" } do
    local curve = {}
    for j, point in ipairs(points) do curve[j] = { point[1], found:median(point[2], key, "moondog") } end
    curves[i] = { key, curve }
  end
  found:draw(file, curves, { log = true, x = x, y = "ms of a reload" })
end

results.run(function()
  local found = results.new("reload", "Reloads. pause: the loop swaps the scripts, and nothing else; load: another "
    .. "thread runs the new one; total: from the signal on", { { name = "moondog" } })
  local subscriptions, megabytes = {}, {}
  for i, numbers in ipairs(CASES) do
    local case = start(numbers)
    local got = turns.play({ case }, { "reload" }, ROUNDS, measure)
    found:add(case_name(case), got.reload, FIGURES, { subscriptions = case.subscriptions, entries = case.entries })
    if numbers[2] == 0 then subscriptions[#subscriptions + 1] = { case.subscriptions, case_name(case) } end
    if numbers[1] == CASES[1][1] and case.entries > 0 then
      megabytes[#megabytes + 1] = { case.entries * ENTRY_BYTES / 1e6, case_name(case) }
    end
    if i == GAP_CASE then
      local gaps = turns.play({ case }, { "gap" }, results.brief and 1 or 5, function()
        return { ["without reloads"] = longest_gap(case, false), ["with reloads"] = longest_gap(case, true) }
      end, true)
      found:add(("longest gap in %d messages/s, without reloads and with %g a second, %d subscriptions"):format(
        RATE, 1 / RELOAD_SECONDS, case.subscriptions), gaps.gap, GAPS, { subscriptions = case.subscriptions })
    end
    case.dog:signal("sigterm")
    case.dog:wait_exit(0)
  end
  draw(found, "subscriptions", subscriptions, "subscriptions")
  draw(found, "state", megabytes, "MB of state")
  found:finish()
end, 300)
