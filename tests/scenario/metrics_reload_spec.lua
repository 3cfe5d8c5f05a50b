-- What /metrics counts goes on when a script is reloaded and when links are replaced: a counter
-- that goes back would be taken for a process that was started again.
local health = require "support.health"
local nats_server = require "support.nats_server"
local run = require "support.run"

local SCRIPT = [[
local moondog = require "moondog"
local c
c = moondog.connect {
  name = "gateway", servers = { $URL }, user = "game", password = "right",
  reconnect = moondog.backoff { base = 0.05, cap = 0.2, auth_base = 0.1 },
}
c:subscribe("echo", function(msg) msg:respond(msg.data) end, { queue = "workers" })
c:subscribe("bad", function(msg)
  msg:respond("x")
  error("no")
end)
c:subscribe("flood", function()
  local stop = moondog.now() + 0.001
  while moondog.now() < stop do end
end, { pending = { messages = 50 } })
c:subscribe("again", function() c:reconnect() end)
]]
local OTHER_LINK = (SCRIPT:gsub('name = "gateway",', 'name = "gateway", ping_interval = 7,'))

local function users(password)
  return { users = { { user = "witness", password = "w" },
    { user = "game", password = password } } }
end

local function start()
  local server = nats_server.start(users "right")
  local dog = health.run(SCRIPT, { URL = server.url })
  health.wait_status(dog, "/readyz", 200)
  return dog, server:connect(), server
end

-- Sends `count` requests, and waits for all answers.
local function ask(witness, subject, count)
  for _ = 1, count do
    assert.is_truthy(witness:wait_answer(subject, "12345", 5))
  end
end

describe("/metrics", function()
  it("goes on with its counters after a reload", run.case(function()
    local dog, witness = start()
    ask(witness, "echo", 7)
    ask(witness, "bad", 2)
    dog:wait_log("^handler failed$", 5, 2)
    assert.equals("script reloaded", dog:reload().msg)
    assert.equals("reload failed", dog:reload("= no Lua").msg)
    ask(witness, "echo", 1)
    local samples = health.metrics(dog)
    assert.equals(2, health.sum(samples, "moondog_generation"))
    assert.equals(1, health.sum(samples, "moondog_reloads_total", { outcome = "done" }))
    assert.equals(1, health.sum(samples, "moondog_reloads_total", { outcome = "failed" }))
    assert.is_true(health.sum(samples, "moondog_generation_age_seconds")
      < health.sum(samples, "moondog_uptime_seconds"))
    assert.equals(8, health.sum(samples, "moondog_subscription_handled_total",
      { subject = "echo" }))
    assert.equals(2, health.sum(samples, "moondog_subscription_errors_total",
      { subject = "bad" }))
    local gateway = { connection = "gateway" }
    assert.equals(10, health.sum(samples, "moondog_connection_received_messages_total", gateway))
    assert.equals(10, health.sum(samples, "moondog_connection_sent_messages_total", gateway))
    assert.equals(1, health.sum(samples, "moondog_connection_links_total", gateway))
    assert.equals(2, health.sum(samples, "moondog_lua_errors_total", { name = "bad" }))
  end))

  it("goes on with its counters after a reload that needs a new link", run.case(function()
    local dog, witness, server = start()
    ask(witness, "echo", 7)
    assert.equals("script reloaded", dog:reload(OTHER_LINK, { URL = server.url }).msg)
    local gateway = { connection = "gateway" }
    health.wait_metric(dog, "moondog_connection_links_total", gateway, 2)
    run.wait_until(function() return #server:clients("^gateway$") == 1 end, 10, "the new link")
    ask(witness, "echo", 1)
    local samples = health.metrics(dog)
    assert.equals(8, health.sum(samples, "moondog_subscription_handled_total",
      { subject = "echo" }))
    assert.equals(8, health.sum(samples, "moondog_connection_received_messages_total", gateway))
    assert.equals(8, health.sum(samples, "moondog_connection_sent_messages_total", gateway))
    assert.equals(0, health.sum(samples, "moondog_connection_outages_total", gateway))
    assert.equals(0, health.sum(samples, "moondog_connection_outage_seconds_count", gateway))
  end))

  it("never goes back with what was dropped, also when the link is replaced", run.case(function()
    local dog, witness, server = start()
    for _ = 1, 2000 do
      witness:publish("flood", "x")
    end
    witness:flush()
    local flood = { connection = "gateway", subject = "flood" }
    local gateway = { connection = "gateway" }
    health.wait_metric(dog, "moondog_subscription_queued_messages", flood, 0, 10)
    local dropped = health.metric(dog, "moondog_subscription_dropped_total", flood)
    assert.is_true(dropped > 0)
    local function check()
      local samples = health.metrics(dog)
      assert.equals(dropped, health.sum(samples, "moondog_subscription_dropped_total", flood))
      assert.equals(dropped, health.sum(samples, "moondog_connection_dropped_messages_total",
        gateway))
      return samples
    end
    witness:publish("again")
    run.wait_until(function()
      return health.sum(check(), "moondog_connection_links_total", gateway) == 2
    end, 10, "a fresh link")
    -- A reload that needs a link of its own; then one without that subscription.
    dog:reload(OTHER_LINK, { URL = server.url })
    run.wait_until(function()
      check()
      return #dog:find_logs("^connection ended$") == 1
    end, 10, "the end of the old link")
    check()
    dog:reload((SCRIPT:gsub('c:subscribe%("flood"', 'c:subscribe("other"')), { URL = server.url })
    run.wait_until(function()
      local samples = health.metrics(dog)
      assert.equals(dropped, health.sum(samples, "moondog_connection_dropped_messages_total",
        gateway))
      return #dog:find_logs("^connection ended$") == 2
    end, 10, "the end of that one")
    assert.equals(dropped, health.metric(dog, "moondog_connection_dropped_messages_total",
      gateway))
  end))

  -- A reload that needs a link with another login, which the server does not take yet.
  local function start_relogin()
    local function both(old, new)
      local config = users(old)
      table.insert(config.users, { user = "new", password = new })
      return config
    end
    local server = nats_server.start(both("right", "later"))
    local dog = health.run(SCRIPT, { URL = server.url })
    health.wait_status(dog, "/readyz", 200)
    dog:reload((SCRIPT:gsub('"game"', '"new"', 1)), { URL = server.url })
    dog:wait_log("^dial failed$", 10)
    return dog, server, both, { connection = "gateway" }
  end

  it("counts no outage while a new login fails, and the old link serves", run.case(function()
    local dog, server, both, gateway = start_relogin()
    assert.equals(200, (health.get(dog, "/readyz")))
    assert.equals(0, health.metric(dog, "moondog_connection_outages_total", gateway))
    server:reload(both("right", "right"))
    health.wait_metric(dog, "moondog_connection_links_total", gateway, 2, 10)
    local samples = health.metrics(dog)
    assert.equals(1, health.sum(samples, "moondog_connection_ready", gateway))
    assert.equals(0, health.sum(samples, "moondog_connection_outages_total", gateway))
    assert.equals(0, health.sum(samples, "moondog_connection_outage_seconds_count", gateway))
    assert.is_true(health.sum(samples, "moondog_connection_dials_total",
      { connection = "gateway", class = "auth" }) >= 1)
    assert.equals(200, (health.get(dog, "/readyz")))
  end))

  it("counts an outage once that a link with a new login ends", run.case(function()
    local dog, server, both, gateway = start_relogin()
    server:reload(both("changed", "later"))
    health.wait_metric(dog, "moondog_connection_outage_age_seconds", gateway,
      function(age) return age > 0.3 end, 10)
    server:reload(both("changed", "right"))
    health.wait_metric(dog, "moondog_connection_ready", gateway, 1, 10)
    local samples = health.metrics(dog)
    assert.equals(1, health.sum(samples, "moondog_connection_outages_total", gateway))
    assert.equals(1, health.sum(samples, "moondog_connection_outage_seconds_count", gateway))
    assert.is_true(health.sum(samples, "moondog_connection_outage_seconds_sum", gateway) > 0.3)
    assert.equals(0, health.sum(samples, "moondog_connection_outage_age_seconds", gateway))
    assert.equals(200, (health.get(dog, "/readyz")))
  end))
end)
