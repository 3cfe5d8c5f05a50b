-- F11, F12, F13: packets vanish, nothing is closed. The probe finds it and the link is replaced.
local health = require "support.health"
local moondog = require "support.moondog"
local nats_server = require "support.nats_server"
local proxy = require "support.proxy"
local run = require "support.run"

local PROBE, PROBE_TIMEOUT = 0.3, 0.4
-- Two misses in a row, each after its wait; the rest is a loaded machine.
local FOUND_WITHIN_SECONDS = 2 * (PROBE + PROBE_TIMEOUT) + 8

local SCRIPT = [[
local moondog = require "moondog"
local c = moondog.connect {
  servers = { $URL }, library_reconnect = $LIBRARY, no_echo = $NO_ECHO,
  reconnect = moondog.backoff { base = 0.05, cap = 0.3 },
  watchdog = { probe = $PROBE, probe_timeout = $WAIT, timeout = 1.5 },
  on = { probe = function(_, info) print("probe answered " .. tostring(info.answered)) end },
}
c:subscribe("deaf", function(msg) msg:respond(msg.data) end)
-- A busy publisher: its traffic must not be taken for a sign of life.
local number = 0
moondog.every(0.005, function()
  number = number + 1
  c:publish("noise", tostring(number))
end)
]]

local function scenario(direction, library, no_echo)
  local server = nats_server.start()
  local way = proxy.start(server)
  local dog = moondog.run(SCRIPT, { URL = way.url, LIBRARY = library, NO_ECHO = no_echo or false,
    PROBE = PROBE, WAIT = PROBE_TIMEOUT })
  dog:wait_log("^connected$")
  local witness = server:connect()
  witness:wait_answer("deaf", "a", 5)

  way:blackhole(direction, { existing = true })
  local begun_at = run.now()
  local closed = dog:wait_log("^closed$", FOUND_WITHIN_SECONDS)
  run.figure("from the black hole to the link's end", closed.at - begun_at, "s")
  assert.equals("probe", closed.reason)
  local back = dog:wait_log("^reconnected$", 15)
  assert.is_true(back.fresh)
  run.figure("from the black hole to the fresh link", back.at - begun_at, "s")
  assert.equals("b", witness:wait_answer("deaf", "b", 10).data)
  assert.is_true(#dog:find_logs("^probe answered false$") >= 1)
end

describe("a link on which packets vanish", function()
  it("both ways is replaced", run.case(function() scenario("both", true) end))
  it("both ways is replaced when only the watchdog acts", run.case(function()
    scenario("both", false)
  end))
  it("on their way to the server is replaced", run.case(function() scenario("up", true) end))
  it("on their way from the server is replaced", run.case(function() scenario("down", true) end))
  it("is replaced, too, with no_echo", run.case(function() scenario("down", true, true) end))
end)

describe("a link that does not hear itself (no_echo)", function()
  it("is kept: it is probed by PING and PONG", run.case(function()
    local server = nats_server.start()
    local dog = health.run(SCRIPT, { URL = server.url, LIBRARY = true, NO_ECHO = true, PROBE = 0.3, WAIT = 2 })
    health.wait_metric(dog, "moondog_connection_probe_seconds_count", {}, function(count) return count >= 4 end, 20)
    assert.equals(0, #dog:find_logs("^probe missed$"))
    assert.equals(1, #dog:find_logs("^connected$"))
    assert.equals("b", server:connect():wait_answer("deaf", "b", 5).data)
  end))
end)

describe("a link that is slow for a moment", function()
  it("is kept when one probe is missed and the next one answered", run.case(function()
    local server = nats_server.start()
    local way = proxy.start(server)
    local dog = moondog.run(SCRIPT, { URL = way.url, LIBRARY = true, NO_ECHO = false, PROBE = 1,
      WAIT = 0.5 })
    dog:wait_log("^connected$")
    server:connect():wait_answer("deaf", "a", 5)
    way:pause()
    dog:wait_log("^probe missed$", 10)
    way:resume()
    dog:wait_log("^probe answered again$", 10)
    assert.equals(0, #dog:find_logs("^closed$"))
    assert.equals("b", server:connect():wait_answer("deaf", "b", 5).data)
  end))
end)
