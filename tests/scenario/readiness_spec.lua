-- What readiness waits for, besides a link: the subscriptions that the server took, connections
-- that are required, and a script that is at work.
local health = require "support.health"
local nats_server = require "support.nats_server"
local network = require "support.network"
local run = require "support.run"

local NOBODY = "nats://" .. network.host .. ":1"

describe("readiness", function()
  it("waits for every required connection, and for no other", run.case(function()
    local server = nats_server.start()
    local script = [[
      local moondog = require "moondog"
      moondog.connect { name = "first", servers = { $URL } }
      moondog.connect { name = "second", servers = { $OTHER }, required = $REQUIRED,
        reconnect = moondog.backoff { base = 0.05, cap = 0.1 } }
    ]]
    local dog = health.run(script, { URL = server.url, OTHER = NOBODY, REQUIRED = true })
    dog:wait_log("^connected$")
    dog:wait_log("^dial failed$")
    local status, body = health.get(dog, "/readyz")
    assert.equals(503, status)
    assert.equals(1, #body.reasons)
    assert.equals("second", body.reasons[1].connection)
    assert.equals("network", body.reasons[1].error.class)
    assert.same({ 2, 1 }, { body.required, body.connections_ready })

    dog:reload(script, { URL = server.url, OTHER = NOBODY, REQUIRED = false })
    body = health.wait_status(dog, "/readyz", 200, 5)
    assert.same({ 1, 1, 2 }, { body.required, body.connections_ready, body.generation })
    assert.equals(0, health.metric(dog, "moondog_connection_ready", { connection = "second" }))
    assert.equals(0, health.metric(dog, "moondog_connection_required",
      { connection = "second" }))

    dog:reload(script, { URL = server.url, OTHER = NOBODY, REQUIRED = true })
    health.wait_status(dog, "/readyz", 503, 5)
    dog:reload(script, { URL = server.url, OTHER = server.url, REQUIRED = true })
    health.wait_status(dog, "/readyz", 200, 5)
  end))

  it("waits for subscriptions that the server refuses, and names one", run.case(function()
    local function users(allowed)
      return { users = {
        { user = "witness", password = "w" },
        { user = "limited", password = "p", permissions = {
          subscribe = allowed, publish = { ">" } } },
      } }
    end
    local server = nats_server.start(users { "allowed.>", "_INBOX.>" })
    local dog = health.run([[
      local moondog = require "moondog"
      local c = moondog.connect {
        name = "gateway", servers = { $URL }, user = "limited", password = "p",
        watchdog = { interval = 0.5, probe = 0.3, probe_timeout = 0.5 },
      }
      c:subscribe("allowed.echo", function(msg) msg:respond(msg.data) end)
      c:subscribe("later.echo", function(msg) msg:respond(msg.data) end)
    ]], { URL = server.url })
    dog:wait_log("^connected$")
    local witness = server:connect()
    local body = health.wait_status(dog, "/readyz", 503, 5)
    local reason = health.reason_of(body, "gateway")
    assert.equals("up", reason.state)
    assert.matches("refuses 1 of its subscriptions, such as later%.echo", reason.reason)
    assert.equals("x", witness:wait_answer("allowed.echo", "x", 5).data)
    health.wait_metric(dog, "moondog_connection_subscriptions_refused",
      { connection = "gateway" }, 1)
    -- It stays so, whatever probes and audits there are meanwhile.
    local sampler = health.sample(dog)
    health.wait_metric(dog, "moondog_connection_probe_seconds_count", { connection = "gateway" },
      function(count) return count >= 4 end, 10)
    sampler:stop()
    for _, sample in ipairs(sampler.samples) do
      assert.equals(503, sample.status)
    end

    server:reload(users { ">" })
    health.wait_status(dog, "/readyz", 200, 10)
    assert.equals("y", server:connect():wait_answer("later.echo", "y", 5).data)
    assert.equals(0, health.metric(dog, "moondog_connection_subscriptions_refused",
      { connection = "gateway" }))
  end))

  it("is there for a script without a connection", run.case(function()
    local dog = health.run('require("moondog").every(1000, function() end)')
    local body = health.wait_status(dog, "/readyz", 200, 5)
    assert.equals(0, body.required)
  end))
end)
