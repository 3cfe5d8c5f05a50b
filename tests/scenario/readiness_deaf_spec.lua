-- F8, F9, F11, F12, F13: connected, and deaf. Nothing closes the link, so that only the probe can
-- know; readiness is withdrawn within 10 s with the default timings.
local health = require "support.health"
local nats_server = require "support.nats_server"
local proxy = require "support.proxy"
local run = require "support.run"
local scripted_server = require "support.scripted_server"

local SCRIPT = [[
local moondog = require "moondog"
local c
c = moondog.connect {
  name = "gateway", servers = { $URL },
  reconnect = moondog.backoff { base = 0.05, cap = 0.2 },
  watchdog = $TIMINGS,
}
]] .. health.CANARY .. [[
-- A busy publisher: its traffic must not be taken for a sign of life.
moondog.every(0.005, function() c:publish("noise", "x") end)
]]

local DEFAULT = "{}" -- a probe every 5 s, which is given 2.5 s
local DEFAULT_SECONDS = 5 + 2.5
local SHORT = "{ probe = 0.4, probe_timeout = 0.4, timeout = 1 }"
-- From the fault to the first miss, and what a loaded machine adds.
local SHORT_SECONDS = 0.4 + 0.4 + 1

-- Runs it through a proxy in front of a real server, and looks at it from then on.
local function watch(timings)
  local server = nats_server.start()
  local way = proxy.start(server)
  local dog = health.run((SCRIPT:gsub("%$TIMINGS", timings)), { URL = way.url })
  local seen = health.watch(dog, function() return server:connect() end)
  seen.server, seen.way = server, way
  return seen
end

local function wait_503(seen)
  run.wait_until(function()
    local last = seen.sampler.samples[#seen.sampler.samples]
    return last and last.status == 503
  end, 12, "a 503")
end

local function check(seen, from, detected)
  return health.check_outage(seen, { from = from, detected = detected })
end

local function reasons_of(refusals)
  local reasons = {}
  for i, sample in ipairs(refusals) do
    reasons[i] = health.reason_of(sample.body, "gateway")
  end
  return reasons
end

local function some(reasons, wanted)
  for _, reason in ipairs(reasons) do
    if wanted(reason) then
      return true
    end
  end
  return false
end

describe("readiness, when packets vanish,", function()
  it("is withdrawn within 10 s with the default timings", run.case(function()
    local seen = watch(DEFAULT)
    local begun_at = run.now()
    seen.way:blackhole("both", { existing = true })
    local refusals = check(seen, begun_at, DEFAULT_SECONDS + 1)
    assert.is_true(refusals[1].at - begun_at < 10)
    -- First it is connected and deaf, and says so.
    local reason = health.reason_of(refusals[1].body, "gateway")
    assert.equals("up", reason.state)
    assert.matches("last probe was not answered", reason.reason)
    assert.matches("^probed again in %d", reason.plan)
  end))

  for _, direction in ipairs { "both", "up", "down" } do
    it(("%s, is withdrawn until a fresh link gets through"):format(direction), run.case(function()
      local seen = watch(SHORT)
      local begun_at = run.now()
      seen.way:blackhole(direction)
      wait_503(seen)
      seen.dog:wait_log("^closed$", 10)
      seen.dog:wait_log("^dial failed$", 10)
      seen.way:heal()
      local reasons = reasons_of(check(seen, begun_at, SHORT_SECONDS))
      assert.is_true(some(reasons, function(r) return r.state == "up" end), "deaf at first")
      assert.is_true(some(reasons, function(r) return r.state == "dialing" and r.attempt >= 1 end),
        "dialled afterwards")
      assert.is_true(some(reasons, function(r) return r.error and r.error.class == "stale" end),
        "an error that says that it was deaf")
      assert.equals(1, health.metric(seen.dog, "moondog_connection_outages_total"))
      assert.equals(1, health.metric(seen.dog, "moondog_connection_links_total",
        { reason = "probe" }))
    end))
  end
end)

describe("readiness, when the server is frozen,", function()
  it("is withdrawn until it thaws", run.case(function()
    local seen = watch(SHORT)
    local begun_at = run.now()
    seen.server:stop()
    wait_503(seen)
    seen.dog:wait_log("^dial failed$", 10)
    seen.server:cont()
    check(seen, begun_at, SHORT_SECONDS)
  end))
end)

-- From now on all links go to another server.
local function divert(seen, server)
  seen.way.target_port = server.port
  seen.way:reset()
end

describe("readiness, when what answers the dial", function()
  for _, silence in ipairs { "silent", "info_only" } do
    it(("is %s, is withdrawn until there is a server again"):format(silence), run.case(function()
      local silent = scripted_server.start { [silence] = true }
      local seen = watch("{ probe = 0.4, probe_timeout = 0.4, timeout = 1, reconnecting = 0.3 }")
      local begun_at = run.now()
      divert(seen, silent)
      wait_503(seen)
      seen.dog:wait_log("^dial failed$", 15)
      divert(seen, seen.server)
      check(seen, begun_at, 1)
    end))
  end
end)

describe("readiness, when the library reconnects and reconnects,", function()
  it("is withdrawn all the time, and the plan says when that ends", run.case(function()
    local silent = scripted_server.start { info_only = true }
    local seen = watch("{ probe = 0.4, probe_timeout = 0.4, timeout = 1, reconnecting = 2 }")
    local begun_at = run.now()
    divert(seen, silent)
    local closed = seen.dog:wait_log("^closed$", 10)
    assert.equals("reconnecting", closed.reason)
    seen.dog:wait_log("^dial failed$", 10)
    divert(seen, seen.server)
    local reasons = reasons_of(check(seen, begun_at, 1))
    assert.is_true(some(reasons, function(r)
      return r.state == "reconnecting" and r.plan:find("when it has not in %d") ~= nil
    end), "the library is at work")
    assert.is_true(some(reasons, function(r) return r.last_end == "reconnecting" end),
      "the watchdog has ended that")
  end))
end)
