-- F20: what is published while the link is down is kept up to a cap, survives a fresh link, and
-- arrives in order; beyond the cap the publisher is told.
local moondog = require "support.moondog"
local nats_server = require "support.nats_server"
local proxy = require "support.proxy"
local run = require "support.run"

local SCRIPT = [[
local moondog = require "moondog"
local c
local done
local function publish_all()
  if done then return end
  done = true
  local accepted, refused, code = 0, 0, "none"
  for i = 1, $COUNT do
    local ok, err = c:publish("late." .. i, ("%06d"):format(i) .. ("x"):rep($SIZE), {
      headers = { number = tostring(i) },
    })
    if ok then
      accepted = accepted + 1
    else
      refused, code = refused + 1, err.code
    end
  end
  local s = c:stats()
  print(("published %d refused %d code %s dropped %d pending %s"):format(accepted, refused, code,
    s.pending_dropped, tostring(s.pending_bytes > 0)))
end
c = moondog.connect {
  servers = { $URL }, library_reconnect = $LIBRARY, pending = { bytes = $CAP },
  reconnect = moondog.backoff { base = 0.05, cap = 0.2 },
  watchdog = { reconnecting = 0.5, timeout = 2, probe = 0.3 },
  on = { disconnected = publish_all, closed = publish_all },
}
c:subscribe("early", function(msg) msg:respond("ok") end)
c:subscribe("pending", function(msg) msg:respond(tostring(c:stats().pending_bytes)) end)
]]

local function outage(values)
  local server = nats_server.start()
  local way = proxy.start(server)
  values.URL = way.url
  local dog = moondog.run(SCRIPT, values)
  dog:wait_log("^connected$")
  local witness = server:connect()
  local late = witness:subscribe("late.*")
  witness:wait_answer("early", "", 5)
  way:lock()
  way:reset()
  local entry = dog:wait_log("^published ", 10)
  local accepted, refused, code, dropped, pending = entry.msg:match(
    "published (%d+) refused (%d+) code ([%w_]+) dropped (%d+) pending (%a+)")
  run.pause(1) -- longer than watchdog.reconnecting: the link that is made afterwards is a fresh one
  assert.equals(0, late.count)
  way:unlock()
  dog:wait_log("^reconnected$", 15)
  return { witness = witness, late = late, dog = dog, accepted = tonumber(accepted), code = code,
    refused = tonumber(refused), dropped = tonumber(dropped), pending = pending }
end

local function first_gap(messages)
  for i, msg in ipairs(messages) do
    if msg.subject ~= "late." .. i then
      return ("late.%d came where late.%d belongs"):format(msg.subject:match("%d+"), i)
    end
  end
  return "the last ones are missing"
end

local function assert_in_order(late, count)
  run.wait_until(function() return late.count >= count end, 15, function()
    return ("%d messages, there are %d: %s"):format(count, late.count, first_gap(late.messages))
  end)
  for i, msg in ipairs(late.messages) do
    assert.equals("late." .. i, msg.subject)
    assert.equals(("%06d"):format(i), msg.data:sub(1, 6))
    assert.equals(tostring(i), msg.headers.number)
  end
end

describe("what is published while there is no link", function()
  local ways = { ["the library reconnects"] = true, ["only the watchdog acts"] = false }
  for name, library in pairs(ways) do
    it("arrives in order when " .. name, run.case(function()
      local seen = outage { COUNT = 500, SIZE = 100, CAP = 8 * 2 ^ 20, LIBRARY = library }
      assert.equals(500, seen.accepted)
      assert.equals(0, seen.refused)
      assert.equals("true", seen.pending)
      assert_in_order(seen.late, 500)
      seen.witness:flush()
      assert.equals(500, seen.late.count)
      run.wait_until(function()
        return seen.witness:wait_answer("pending", "", 5).data == "0"
      end, 5, "an empty buffer")
    end))

    it("is refused beyond the cap, and the oldest are kept, when " .. name, run.case(function()
      local seen = outage { COUNT = 500, SIZE = 1000, CAP = 100000, LIBRARY = library }
      assert.equals("pending_full", seen.code)
      assert.is_true(seen.accepted > 20 and seen.accepted <= 100, seen.accepted .. " accepted")
      assert.equals(500, seen.accepted + seen.refused)
      assert.equals(seen.refused, seen.dropped)
      assert_in_order(seen.late, seen.accepted)
      seen.witness:flush()
      assert.equals(seen.accepted, seen.late.count)
    end))
  end
end)
