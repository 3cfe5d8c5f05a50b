-- F12, F13, F26: the server is frozen (SIGSTOP). Its sockets stay open, so only the probe can
-- find it.
local moondog = require "support.moondog"
local nats_server = require "support.nats_server"
local run = require "support.run"

local SCRIPT = [[
local moondog = require "moondog"
local c = moondog.connect {
  servers = { $FIRST, $SECOND },
  reconnect = moondog.backoff { base = 0.05, cap = 0.5 },
  watchdog = { probe = 0.3, probe_timeout = 0.5, timeout = 1 },
}
c:subscribe("frozen", function(msg) msg:respond(msg.data) end)
local was_ready
moondog.every(0.05, function()
  local s = c:status()
  if s.ready ~= was_ready then
    was_ready = s.ready
    print("ready " .. tostring(s.ready) .. " " .. s.state)
  end
end)
]]

local function holds_link(server)
  return #server:clients() == 1
end

describe("a frozen server", function()
  it("is found by the probe and left for another one of the list", run.case(function()
    local one, two = nats_server.start(), nats_server.start()
    local dog = moondog.run(SCRIPT, { FIRST = one.url, SECOND = two.url })
    dog:wait_log("^connected$")
    dog:wait_log("^ready true", 5)
    local frozen, other = one, two
    run.wait_until(function() return holds_link(one) or holds_link(two) end, 5, "a link")
    if holds_link(two) then
      frozen, other = two, one
    end

    frozen:stop()
    local stopped_at = run.now()
    local witness = other:connect()
    assert.equals("x", witness:wait_answer("frozen", "x", 30).data)
    run.figure("from SIGSTOP to an answer through the other server", run.now() - stopped_at, "s")

    local missed = dog:wait_log("^probe missed$", 5)
    local closed = dog:wait_log("^closed$", 5)
    local back = dog:wait_log("^reconnected$", 5)
    assert.equals("probe", closed.reason)
    assert.is_true(missed.index < closed.index and closed.index < back.index)
    assert.is_true(back.fresh)
    dog:wait_log("^ready false", 5)
    dog:wait_log("^ready true", 5, 2)

    frozen:cont()
    run.wait_until(function() return #frozen:clients() == 0 end, 10,
      "no zombie on the thawed server")
    assert.is_true(holds_link(other))
  end))

  it("is taken again after SIGCONT when it is the only one", run.case(function()
    local server = nats_server.start()
    local dog = moondog.run(SCRIPT, { FIRST = server.url, SECOND = server.url })
    dog:wait_log("^connected$")
    server:connect():wait_answer("frozen", "x", 5)
    server:stop()
    local closed = dog:wait_log("^closed$", 15)
    assert.equals("probe", closed.reason)
    dog:wait_log("^dial failed$", 15)

    server:cont()
    local thawed_at = run.now()
    server:connect():wait_answer("frozen", "y", 30)
    run.figure("from SIGCONT to an answer", run.now() - thawed_at, "s")
    dog:wait_log("^reconnected$", 5)
    run.wait_until(function() return holds_link(server) end, 10, "one link and no leftover")
    assert.equals(1, server:subscriptions("^frozen$"))
  end))
end)
