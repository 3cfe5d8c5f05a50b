-- What messages notice of a command that never ends at a console: scripts/bench console.
package.path = assert(os.getenv("MOONDOG_ROOT")) .. "/tests/?.lua;" .. package.path

local flow = require "bench.flow"
local control = require "support.control"
local moondog = require "support.moondog"
local nats_server = require "support.nats_server"
local results = require "bench.results"
local run = require "support.run"
local turns = require "bench.turns"

local RATE = 20000 -- messages a second
local PHASE_SECONDS = results.brief and 0.3 or 3
local ROUNDS = results.brief and 1 or 6

local SCRIPT = [[
local moondog = require "moondog"
local c = moondog.connect { name = "gateway", servers = { $URL } }
local STEP = 1e-5 -- of a bucket, in seconds
local counts, total = {}, 0
c:subscribe("flow", function(msg)
  local bucket = math.floor((moondog.now() - tonumber(msg.data)) / STEP)
  counts[bucket] = (counts[bucket] or 0) + 1
  total = total + 1
end)
c:subscribe("latency", function(msg)
  local out, seen = {}, 0
  local buckets = {}
  for bucket in pairs(counts) do buckets[#buckets + 1] = bucket end
  table.sort(buckets)
  for _, part in ipairs { 0.5, 0.99, 0.999 } do
    seen = 0
    for _, bucket in ipairs(buckets) do
      seen = seen + counts[bucket]
      if seen >= part * total then
        out[#out + 1] = ("%.3f"):format((bucket + 1) * STEP * 1000)
        break
      end
    end
  end
  out[#out + 1] = tostring(total)
  counts, total = {}, 0
  msg:respond(table.concat(out, " "))
end)
]]

-- p50, p99, p99.9 in milliseconds, and how many messages they are of
local function measure(witness)
  flow(witness, PHASE_SECONDS, RATE, function() return ("%.6f"):format(run.now()) end)
  local text = witness:wait_answer("latency", "", 10).data
  local list = {}
  for number in text:gmatch("%S+") do list[#list + 1] = tonumber(number) end
  return list
end

results.run(function()
  local server = nats_server.start()
  local dog = moondog.run(SCRIPT, { URL = server.url }, { args = { "--name", "gateway" } })
  dog:wait_log("^connected$")
  local witness = server:connect()
  local console = control.connect(control.path "gateway")
  local sides = { { name = "with" }, { name = "without" } }
  local found = results.new("console", "Latency of messages, with and without a command that never ends", sides)
  local got = turns.play(sides, { "latency" }, ROUNDS, function(side)
    local id = side.name == "with" and console:begin("eval", { code = "while true do end" })
    local p50, p99, p999, count = unpack(measure(witness))
    if id then
      assert(console:ask("cancel", { id = id }).result.cancelled)
      assert(console:answer(id).error.code == "cancelled")
    end
    return { p50 = p50, p99 = p99, ["p99.9"] = p999, messages = count }
  end)
  found:add(("%d messages/s"):format(RATE), got.latency, { { "p50", "ms", "%.3f", ratio = true },
    { "p99", "ms", "%.3f", ratio = true }, { "p99.9", "ms", "%.3f", ratio = true }, { "messages", "", "%.0f" } })
  found:finish()
end, 120)
