-- What /metrics counts, of moondog itself: Prometheus' own checker reads it, and each number is
-- what really happened. The script's own metrics: user_metrics_spec.
local health = require "support.health"
local moondog = require "support.moondog"
local nats_server = require "support.nats_server"
local process = require "support.process"
local proxy = require "support.proxy"
local run = require "support.run"

local SCRIPT = [[
local moondog = require "moondog"
local c = moondog.connect {
  name = "gateway", servers = { $URL }, user = "game", password = "right",
  reconnect = moondog.backoff { base = 0.05, cap = 0.2, auth_base = 0.1 },
  watchdog = { probe = 0.3, probe_timeout = 0.5 },
}
c:subscribe("echo", function(msg) msg:respond(msg.data) end, { queue = "workers" })
c:subscribe("bad", function(msg)
  msg:respond("x")
  error("no")
end)
c:subscribe("spin", function() while true do end end)
c:subscribe("flood", function()
  local stop = moondog.now() + 0.001
  while moondog.now() < stop do end
end, { pending = { messages = 50 } })
moondog.connect { name = "other", servers = { $URL }, user = "game", password = "right",
  required = false }
]]

local function users(password)
  return { users = { { user = "witness", password = "w" },
    { user = "game", password = password } } }
end

local function start(options)
  local server = nats_server.start(users "right")
  local dog = health.run(SCRIPT .. (options and options.more or ""), { URL = server.url },
    options)
  dog:wait_log("^connected$", 10, 2)
  health.wait_status(dog, "/readyz", 200)
  return dog, server:connect(), server
end

-- Sends `count` requests, and waits for all answers.
local function ask(witness, subject, count, data)
  for _ = 1, count do
    assert.is_truthy(witness:wait_answer(subject, data or "12345", 5))
  end
end

local function program(name)
  local path = "/usr/bin/" .. name
  assert(io.open(path), path .. " is not there: scripts/deps --test"):close()
  return path
end

describe("/metrics", function()
  it("has no fault that Prometheus' own checker would find", run.case(function()
    local dog, witness, server = start { more = [[
      c:subscribe("odd.\"quoted\".back\\slash", function() end)
      c:subscribe("twice", function() end)
      c:subscribe("twice", function() end)
      local m = moondog.metrics
      m.counter("jobs", { help = "Jobs\nthat were \\ done.", labels = { "kind" } })
        :add(3, { kind = "a \"quoted\" \\ one\nof two lines \xff" })
      m.gauge("temperature_celsius"):set(-1 / 0)
      m.histogram("took_seconds", { buckets = { 0.1, 1 } }):observe(0.5, { step = "first" })
    ]] }
    ask(witness, "echo", 5)
    ask(witness, "bad", 2)
    witness:publish("spin", "")
    dog:wait_log("^handler failed$", 5, 3)
    dog:reload()
    server:reload(users "changed")
    dog:wait_log("^closed$", 10, 2)
    server:reload(users "right")
    dog:wait_log("^reconnected$", 10, 2)

    local status, text = health.get(dog, "/metrics")
    assert.equals(200, status)
    local checker = process.start { name = "promtool", file = program "promtool",
      args = { "check", "metrics" }, input = text }
    local code = checker:wait_exit(20)
    assert.equals("", checker:text())
    assert.equals(0, code)

    local samples, types = health.parse_metrics(text)
    assert.equals(6, health.sum(samples, "jobs_total", -- the top level has run twice
      { kind = "a \"quoted\" \\ one\nof two lines ?" }))
    assert.equals("counter", types.jobs_total)
    -- The same subject twice is one series, not two.
    local seen = {}
    for line in text:gmatch("[^\n]+") do
      if line:sub(1, 1) ~= "#" then
        local series = line:match("^(.*) %S+$")
        assert.is_nil(seen[series], series)
        seen[series] = true
      end
    end
  end))

  it("counts a refused login by its class, and its outage once", run.case(function()
    local dog, _, server = start()
    local gateway = { connection = "gateway" }
    local before = health.metrics(dog)
    assert.equals(0, health.sum(before, "moondog_connection_outages_total", gateway))
    assert.equals(0, health.sum(before, "moondog_connection_outage_age_seconds", gateway))
    assert.equals(1, health.sum(before, "moondog_connection_dials_total",
      { connection = "gateway", outcome = "connected" }))
    assert.equals(1, health.sum(before, "moondog_connection_links_total",
      { connection = "gateway", reason = "start" }))
    assert.equals(1, health.sum(before, "moondog_connection_state",
      { connection = "gateway", state = "up" }))
    assert.equals(1, health.sum(before, "moondog_connections_required"))
    assert.equals(1, health.sum(before, "moondog_connections_ready"))

    local begun_at = run.now()
    server:reload(users "changed")
    health.wait_metric(dog, "moondog_connection_dials_total",
      { connection = "gateway", outcome = "failed" }, function(count) return count >= 1 end, 10)
    health.wait_metric(dog, "moondog_connection_outage_age_seconds", gateway,
      function(age) return age > 0.2 end)
    local during = health.metrics(dog)
    assert.equals(1, health.sum(during, "moondog_connection_outages_total", gateway))
    assert.equals(0, health.sum(during, "moondog_connection_outage_seconds_count", gateway))
    assert.equals(0, health.sum(during, "moondog_connection_ready", gateway))
    assert.equals(0, health.sum(during, "moondog_connections_ready"))
    assert.equals(0, health.sum(during, "moondog_connection_required", { connection = "other" }))
    server:reload(users "right")
    health.wait_metric(dog, "moondog_connection_ready", gateway, 1, 10)
    local lasted = run.now() - begun_at

    local after = health.metrics(dog)
    local failed = health.sum(after, "moondog_connection_dials_total",
      { connection = "gateway", outcome = "failed" })
    local auth = health.sum(after, "moondog_connection_dials_total",
      { connection = "gateway", outcome = "failed", class = "auth" })
    assert.is_true(auth >= 1, tostring(auth))
    assert.equals(failed, auth)
    assert.equals(2, health.sum(after, "moondog_connection_dials_total",
      { connection = "gateway", outcome = "connected", class = "none" }))
    assert.equals(1, health.sum(after, "moondog_connection_links_total",
      { connection = "gateway", reason = "closed" }))
    assert.equals(2, health.sum(after, "moondog_connection_links_total", gateway))
    assert.equals(1, health.sum(after, "moondog_connection_outages_total", gateway))
    assert.equals(1, health.sum(after, "moondog_connection_outage_seconds_count", gateway))
    local seconds = health.sum(after, "moondog_connection_outage_seconds_sum", gateway)
    assert.is_true(seconds > 0.2 and seconds < lasted, ("%g of %g s"):format(seconds, lasted))
    assert.equals(0, health.sum(after, "moondog_connection_outage_age_seconds", gateway))
    assert.equals(1, health.sum(after, "moondog_connection_outages_total",
      { connection = "other" }))
  end))

  it("counts a start without a server as one outage", run.case(function()
    local server = nats_server.start(users "changed")
    local dog = health.run(SCRIPT, { URL = server.url })
    local gateway = { connection = "gateway" }
    health.wait_metric(dog, "moondog_connection_dials_total",
      { connection = "gateway", outcome = "failed" }, function(count) return count >= 2 end, 10)
    health.wait_metric(dog, "moondog_connection_outages_total", gateway, 1)
    server:reload(users "right")
    health.wait_status(dog, "/readyz", 200)
    local samples = health.metrics(dog)
    assert.equals(1, health.sum(samples, "moondog_connection_outages_total", gateway))
    assert.equals(1, health.sum(samples, "moondog_connection_outage_seconds_count", gateway))
    assert.equals(1, health.sum(samples, "moondog_connection_links_total",
      { connection = "gateway", reason = "start" }))
  end))

  it("counts probes, and an outage that the library ends by itself", run.case(function()
    local server = nats_server.start(users "right")
    local way = proxy.start(server)
    local dog = health.run(SCRIPT, { URL = way.url })
    health.wait_status(dog, "/readyz", 200)
    local gateway = { connection = "gateway" }
    health.wait_metric(dog, "moondog_connection_probe_seconds_count", gateway,
      function(count) return count >= 2 end)
    assert.equals(0, health.metric(dog, "moondog_connection_probes_missed_total", gateway))
    way:reset()
    health.wait_metric(dog, "moondog_connection_library_reconnects_total", gateway, 1, 10)
    health.wait_metric(dog, "moondog_connection_ready", gateway, 1)
    local samples = health.metrics(dog)
    assert.equals(1, health.sum(samples, "moondog_connection_outages_total", gateway))
    assert.equals(1, health.sum(samples, "moondog_connection_outage_seconds_count", gateway))
    assert.equals(1, health.sum(samples, "moondog_connection_links_total", gateway))

    way:pause()
    health.wait_metric(dog, "moondog_connection_probes_missed_total", gateway, 1, 10)
    way:resume()
    health.wait_metric(dog, "moondog_connection_ready", gateway, 1, 10)
    health.wait_metric(dog, "moondog_connection_outages_total", gateway, 2)
    health.wait_metric(dog, "moondog_connection_outage_seconds_count", gateway, 2)
  end))

  it("counts messages both ways, failures, and what was stopped", run.case(function()
    local dog, witness = start()
    ask(witness, "echo", 10)
    ask(witness, "bad", 3)
    witness:publish("spin", "")
    health.wait_metric(dog, "moondog_subscription_overruns_total", { subject = "spin" }, 1)
    local samples = health.metrics(dog)
    local function subscription(name, subject)
      return health.sum(samples, "moondog_subscription_" .. name,
        { connection = "gateway", subject = subject })
    end
    assert.equals(10, health.sum(samples, "moondog_subscription_handled_total",
      { connection = "gateway", subject = "echo", queue = "workers" }))
    assert.equals(0, subscription("errors_total", "echo"))
    assert.equals(3, subscription("handled_total", "bad"))
    assert.equals(3, subscription("errors_total", "bad"))
    assert.equals(0, subscription("overruns_total", "bad"))
    assert.equals(1, subscription("errors_total", "spin"))
    assert.is_true(subscription("handler_seconds_count", "echo") >= 1)
    assert.is_true(subscription("handler_seconds_sum", "spin") >= 0.1)
    assert.equals(3, health.sum(samples, "moondog_lua_errors_total",
      { kind = "handler", name = "bad" }))
    assert.equals(1, health.sum(samples, "moondog_lua_errors_total",
      { kind = "handler", name = "spin" }))
    local gateway = { connection = "gateway" }
    assert.equals(14, health.sum(samples, "moondog_connection_received_messages_total", gateway))
    assert.equals(5 * 13, health.sum(samples, "moondog_connection_received_bytes_total", gateway))
    assert.equals(13, health.sum(samples, "moondog_connection_sent_messages_total", gateway))
    assert.equals(5 * 10 + 3, health.sum(samples, "moondog_connection_sent_bytes_total", gateway))
    assert.equals(4, health.sum(samples, "moondog_connection_subscriptions", gateway))
    assert.equals(0, health.sum(samples, "moondog_connection_received_messages_total",
      { connection = "other" }))
  end))

  it("counts what was dropped, what waits, and the bursts", run.case(function()
    local dog, witness = start()
    local flood = { connection = "gateway", subject = "flood" }
    for _ = 1, 2000 do
      witness:publish("flood", "x")
    end
    witness:flush()
    health.wait_metric(dog, "moondog_subscription_queued_messages", flood,
      function(queued) return queued > 0 and queued <= 50 end)
    local samples
    run.wait_until(function()
      samples = health.metrics(dog)
      return health.sum(samples, "moondog_subscription_handled_total", flood)
        + health.sum(samples, "moondog_subscription_dropped_total", flood) == 2000
    end, 20, "every message handled or dropped")
    local dropped = health.sum(samples, "moondog_subscription_dropped_total", flood)
    assert.is_true(dropped > 0)
    assert.equals(dropped, health.sum(samples, "moondog_connection_dropped_messages_total",
      { connection = "gateway" }))
    local bursts = health.sum(samples, "moondog_connection_slow_consumer_bursts_total",
      { connection = "gateway" })
    assert.is_true(bursts >= 1 and bursts < dropped, bursts .. " bursts")
    health.wait_metric(dog, "moondog_subscription_queued_messages", flood, 0)
  end))

  it("has no outage for a connection that the script has closed", run.case(function()
    local dog, witness = start { more = [[
      c:subscribe("close", function() c:close() end)
    ]] }
    witness:publish("close", "")
    local gateway = { connection = "gateway" }
    health.wait_metric(dog, "moondog_connection_state",
      { connection = "gateway", state = "stopped" }, 1)
    run.holds(function()
      return health.metric(dog, "moondog_connection_outage_age_seconds", gateway) == 0
    end, 0.3, "no age of an outage")
    local samples = health.metrics(dog)
    assert.equals(0, health.sum(samples, "moondog_connection_outages_total", gateway))
    assert.equals(0, health.sum(samples, "moondog_connection_required", gateway))
    assert.equals(0, health.sum(samples, "moondog_connections_required"))
    local status, body = health.get(dog, "/readyz")
    assert.equals(200, status)
    assert.equals(0, body.required)
  end))

  it("is bounded, however many subscriptions there are", run.case(function()
    local server = nats_server.start()
    local dog = health.run([[
      local moondog = require "moondog"
      local c = moondog.connect { servers = { $URL } }
      for i = 1, 1500 do c:subscribe("many." .. i, function() end) end
    ]], { URL = server.url })
    health.wait_status(dog, "/readyz", 200)
    local begun_at = run.now()
    local status, text = health.get(dog, "/metrics")
    local took = run.now() - begun_at
    assert.equals(200, status)
    local samples = health.parse_metrics(text)
    assert.equals(500, health.sum(samples, "moondog_subscriptions_omitted"))
    local listed = 0
    for _, sample in ipairs(samples) do
      if sample.name == "moondog_subscription_handled_total" then
        listed = listed + 1
      end
    end
    assert.equals(1000, listed)
    run.figure("/metrics with 1,000 subscriptions", #text / 2 ^ 20, "MiB")
    run.figure("it took", took * 1000, "ms")
  end))

  it("tells the process' own numbers", run.case(function()
    local dog = start()
    local samples = health.metrics(dog)
    local fds = health.sum(samples, "process_open_fds")
    assert.is_true(math.abs(fds - dog:fds()) <= 3, fds .. " and " .. dog:fds())
    assert.is_true(math.abs(health.sum(samples, "process_start_time_seconds") - os.time()) < 30)
    assert.is_true(health.sum(samples, "process_cpu_seconds_total") > 0)
    if not moondog.sanitized() then
      local rss = health.sum(samples, "process_resident_memory_bytes")
      assert.is_true(math.abs(rss / dog:rss() - 1) < 0.2, rss .. " and " .. dog:rss())
    end
  end))
end)
