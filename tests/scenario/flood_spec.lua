-- F29: messages arrive faster than the script handles them. Memory is bounded, drops are counted
-- and reported once per burst, other subscriptions, timers and the connection do not suffer.
local moondog = require "support.moondog"
local nats_server = require "support.nats_server"
local run = require "support.run"

local FLOOD = 20000
local PENDING = 500

local SCRIPT = [[
local moondog = require "moondog"
local c = moondog.connect { servers = { $URL },
  on = { error = function(_, err) print("hook error " .. err.message) end } }
local sub
sub = c:subscribe("flood", function(msg)
  local stop = moondog.now() + 0.001
  while moondog.now() < stop do end
end, { pending = { messages = $PENDING } })
c:subscribe("calm", function(msg) msg:respond(msg.data) end)
c:subscribe("counts", function(msg)
  local s = sub:stats()
  msg:respond(("handled %d dropped %d queued %d total %d"):format(s.handled, s.dropped, s.queued,
    c:stats().dropped))
end)
local ticks = 0
moondog.every(0.01, function() ticks = ticks + 1 end)
c:subscribe("ticks", function(msg) msg:respond(tostring(ticks)) end)
]]

describe("a flood", function()
  it("is dropped beyond the subscription's cap, counted, and hurts nobody else", run.case(function()
    local server = nats_server.start()
    local dog = moondog.run(SCRIPT, { URL = server.url, PENDING = PENDING })
    dog:wait_log("^connected$")
    local witness = server:connect()
    witness:wait_answer("calm", "", 5)
    local ticks = tonumber(witness:wait_answer("ticks", "", 5).data)
    local rss = dog:rss()
    local payload = ("x"):rep(1000)
    for i = 1, FLOOD do
      witness:publish("flood", payload)
      if i % 1000 == 0 then
        witness:flush()
      end
    end
    local asked_at = run.now()
    assert.equals("x", witness:wait_answer("calm", "x", 10).data)
    run.figure("a request to a calm subscription in the flood", (run.now() - asked_at) * 1000, "ms")
    assert.is_true(tonumber(witness:wait_answer("ticks", "", 5).data) > ticks)

    local handled, dropped, total
    run.wait_until(function()
      local queued
      handled, dropped, queued, total = witness:wait_answer("counts", "", 5).data:match(
        "handled (%d+) dropped (%d+) queued (%d+) total (%d+)")
      return queued == "0" and handled + dropped == FLOOD
    end, 30, function()
      return ("every message is handled or counted: %s and %s"):format(handled, dropped)
    end)
    run.figure("handled of " .. FLOOD, tonumber(handled))
    assert.is_true(tonumber(dropped) > 0)
    assert.equals(dropped, total)
    local reports = #dog:find_logs(function(entry)
      local text = entry.msg .. " " .. tostring(entry.error)
      return entry.level ~= "info" and text:find("drop") ~= nil
    end)
    assert.is_true(reports >= 1 and reports < 50, reports .. " reports of drops")
    run.figure("growth of resident memory", (dog:rss() - rss) / 2 ^ 20, "MiB")
    if not moondog.sanitized() then
      assert.is_true(dog:rss() - rss < 32 * 2 ^ 20)
    end
    assert.equals(0, #dog:find_logs("^closed$") + #dog:find_logs("^disconnected$"))
  end))

  it("with a tiny limit is not reported a thousand times", run.case(function()
    local server = nats_server.start()
    local dog = moondog.run((SCRIPT:gsub("moondog.now%(%) %+ 0.001", "moondog.now() + 0.0001")),
      { URL = server.url, PENDING = 2 })
    dog:wait_log("^connected$")
    local witness = server:connect()
    for _ = 1, 300 do -- each of these is a burst of its own
      for _ = 1, 20 do witness:publish("flood", "") end
      witness:wait_answer("calm", "", 5)
    end
    local dropped = tonumber((witness:wait_answer("counts", "", 5).data:match("dropped (%d+)")))
    assert.is_true(dropped > 300, tostring(dropped))
    local reports = #dog:find_logs(function(entry) return tostring(entry.error):find("arrive faster") ~= nil end)
    assert.is_true(reports >= 1 and reports < 30, reports .. " reports of drops")
  end))
end)
