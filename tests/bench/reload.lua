-- How long a reload keeps the loop from its messages: scripts/bench reload.
package.path = assert(os.getenv("MOONDOG_ROOT")) .. "/tests/?.lua;" .. package.path

local flow = require "bench.flow"
local moondog = require "support.moondog"
local nats_server = require "support.nats_server"
local run = require "support.run"

local SUBSCRIPTIONS = 1000
local RATE = 10000 -- messages a second
local PHASE_SECONDS = 8
local RELOAD_SECONDS = 0.1

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
for i = 1, $SUBSCRIPTIONS do
  c:subscribe("filler." .. i, function() end)
end
]]

local function worst(witness)
  return tonumber(witness:wait_answer("worst", "", 10).data) * 1000
end

local function spread(values)
  table.sort(values)
  return ("%.2f median, %.2f at most, of %d"):format(values[math.ceil(#values / 2)], values[#values], #values)
end

run.case(function()
  local server = nats_server.start()
  local dog = moondog.run(SCRIPT, { URL = server.url, SUBSCRIPTIONS = SUBSCRIPTIONS })
  dog:wait_log("^connected$")
  local witness = server:connect()
  worst(witness)
  flow(witness, PHASE_SECONDS, RATE, function() return "x" end)
  print(("longest gap between two messages, no reload:    %.2f ms"):format(worst(witness)))
  local running = true
  run.spawn(function()
    while running do
      dog:signal("sighup")
      run.pause(RELOAD_SECONDS)
    end
  end)
  flow(witness, PHASE_SECONDS, RATE, function() return "x" end)
  running = false
  print(("longest gap between two messages, with reloads: %.2f ms"):format(worst(witness)))
  local swaps, loads = {}, {}
  for i, entry in ipairs(dog:find_logs("^script reloaded$")) do
    swaps[i], loads[i] = entry.swap_ms, entry.load_ms
  end
  print(("the loop is busy with a swap, ms:   %s"):format(spread(swaps)))
  print(("loading, in a thread of its own, ms: %s"):format(spread(loads)))
end, { deadline = 120 })()
