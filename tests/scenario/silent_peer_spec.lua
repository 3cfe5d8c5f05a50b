-- F8, F19: a peer that takes the connection and says nothing, or INFO and then nothing (nats.c
-- 3.4.1 spins on that, holding its lock). The loop must not notice, and another server must be
-- used.
local moondog = require "support.moondog"
local nats_server = require "support.nats_server"
local run = require "support.run"
local scripted_server = require "support.scripted_server"

local TIMER_SECONDS = 0.01
-- A call that blocks lasts as long as a dial's timeout. Anything far below it is the machine's
-- load.
local BLOCKED_SECONDS = 1

local SCRIPT = [[
local moondog = require "moondog"
local c = moondog.connect {
  servers = { $SILENT, $GOOD },
  reconnect = moondog.backoff { base = 0.05, cap = 0.2 },
  watchdog = { timeout = 1.5, probe = 0.5, probe_timeout = 0.5, reconnecting = 2 },
}
c:subscribe("heard", function(msg) msg:respond(msg.data) end)
local due, worst = moondog.now() + $TIMER, 0
moondog.every($TIMER, function()
  local now = moondog.now()
  worst = math.max(worst, now - due)
  due = now + $TIMER
end)
c:subscribe("lateness", function(msg) msg:respond(tostring(worst)) end)
c:subscribe("stats", function(msg)
  local s = c:stats()
  msg:respond(("abandoned %d dials %d failed %d"):format(s.abandoned, s.dials, s.dials_failed))
end)
]]

local function scenario(silence)
  local silent = scripted_server.start { [silence] = true }
  local good = nats_server.start()
  local dog = moondog.run(SCRIPT, { SILENT = silent.url, GOOD = good.url, TIMER = TIMER_SECONDS })
  local begun_at = run.now()
  dog:wait_log("^connected$", 20)
  run.figure("from start to connected, a silent server first", run.now() - begun_at, "s")
  good:connect():wait_answer("heard", "a", 5)

  -- The good one goes away: whatever the order was, now the silent one is asked.
  local asked = silent.accepted
  good:kill()
  run.wait_until(function() return silent.accepted > asked end, 15, "a dial to the silent server")
  good:restart()
  local up_at = run.now()
  local witness = good:connect()
  witness:wait_answer("heard", "b", 30)
  run.figure("from the good server's return to an answer", run.now() - up_at, "s")

  local worst = tonumber(witness:wait_answer("lateness", "", 5).data)
  run.figure("worst lateness of a 10 ms timer on moondog's loop", worst * 1000, "ms")
  print("        " .. witness:wait_answer("stats", "", 5).data)
  assert.is_true(worst < BLOCKED_SECONDS, "the loop was blocked for " .. worst .. " s")
  assert.is_true(silent.accepted >= 1)
  run.wait_until(function() return silent:count() == 0 end, 10, "no zombie on the silent server")
  -- A dial that was given up may get through to the good one before it hears of that.
  run.wait_until(function() return #good:clients() == 1 end, 10, "one link")
end

describe("a peer that accepts and never speaks", function()
  it("is left for the next server, and the loop does not notice", run.case(function()
    scenario("silent")
  end))
end)

describe("a peer that says INFO and then nothing", function()
  it("is left for the next server, and the loop does not notice", run.case(function()
    scenario("info_only")
  end))
end)

describe("a peer that hangs up in the middle of INFO", function()
  it("is left for the next server", run.case(function()
    local broken = scripted_server.start { close_after = 20 }
    local good = nats_server.start()
    local dog = moondog.run(SCRIPT, { SILENT = broken.url, GOOD = good.url, TIMER = TIMER_SECONDS })
    dog:wait_log("^connected$", 20)
    assert.equals("a", good:connect():wait_answer("heard", "a", 5).data)
  end))
end)
