-- F27: what the user may not do is reported; everything else goes on over the same link.
local health = require "support.health"
local http = require "support.http"
local moondog = require "support.moondog"
local nats_server = require "support.nats_server"
local network = require "support.network"
local run = require "support.run"

local SCRIPT = [[
local moondog = require "moondog"
local c = moondog.connect {
  servers = { $URL }, user = "limited", password = "p",
  on = { error = function(_, err) print("hook error " .. err.message) end },
}
c:subscribe("allowed.echo", function(msg) msg:respond(msg.data) end)
c:subscribe("forbidden.sub", function() end)
c:subscribe("allowed.go", function(msg)
  c:publish("forbidden.pub", "x")
  msg:respond("went")
end)
]]

local WATCHED = [[
local moondog = require "moondog"
local c = moondog.connect {
  servers = { $URL }, user = "limited", password = "p",
  watchdog = { interval = 0.5, probe = 0.3, probe_timeout = 1 },
}
c:subscribe("forbidden.sub", function(msg) msg:respond("heard") end)
]]

describe("a forbidden subject", function()
  it("is reported, and the rest goes on", run.case(function()
    local server = nats_server.start { users = {
      { user = "witness", password = "w" },
      { user = "limited", password = "p", permissions = {
        subscribe = { "allowed.>", "_INBOX.>" }, publish = { "allowed.>", "_INBOX.>" } } },
    } }
    local dog = moondog.run(SCRIPT, { URL = server.url })
    dog:wait_log("^connected$")
    local witness = server:connect()
    assert.equals("x", witness:wait_answer("allowed.echo", "x", 5).data)
    dog:wait_log("^hook error .*[Pp]ermissions.*forbidden%.sub", 5)
    assert.equals("went", witness:wait_answer("allowed.go", "", 5).data)
    dog:wait_log("^hook error .*[Pp]ermissions.*forbidden%.pub", 5)
    assert.equals("y", witness:wait_answer("allowed.echo", "y", 5).data)
    assert.equals(0, #dog:find_logs("^closed$") + #dog:find_logs("^disconnected$"))
  end))

  it("is no ready connection, until the server takes the subscription", run.case(function()
    local function users(subjects)
      return { users = {
        { user = "witness", password = "w" },
        { user = "limited", password = "p", permissions = {
          subscribe = subjects, publish = { "allowed.>", "_INBOX.>" } } },
      } }
    end
    local server = nats_server.start(users { "allowed.>", "_INBOX.>" })
    local dog = health.run(WATCHED, { URL = server.url })
    local body = health.wait_status(dog, "/readyz", 503)
    local reason = run.wait_until(function()
      local found = health.reason_of(health.wait_status(dog, "/readyz", 503), "default")
      return found and found.state == "up" and found
    end, 10, "a connection that is up, and not ready")
    assert.matches("the server refuses 1 of its subscriptions, such as forbidden%.sub$", reason.reason)
    assert.matches("subscribed again", reason.plan)
    assert.equals(false, body.ready)
    assert.equals(1, health.metric(dog, "moondog_connection_subscriptions_refused", { connection = "default" }))
    assert.equals(200, (health.get(dog, "/livez")))

    server:reload(users { "allowed.>", "forbidden.sub", "_INBOX.>" })
    health.wait_status(dog, "/readyz", 200, 10)
    assert.equals("heard", server:connect():wait_answer("forbidden.sub", "", 5).data)
    assert.equals(0, health.metric(dog, "moondog_connection_subscriptions_refused", { connection = "default" }))
    assert.equals(1, server:subscriptions("^forbidden%.sub$"))
  end))

  -- The subscription is tried again at every audit, and a probe goes out at the same moment.
  it("is one outage, however often it is tried again", run.case(function()
    local port = network.free_port()
    local server = nats_server.start { users = {
      { user = "limited", password = "p", permissions = { subscribe = { "_INBOX.>" } } },
    } }
    local dog = moondog.run([[
      local moondog = require "moondog"
      local c = moondog.connect { name = "c", servers = { $URL }, user = "limited", password = "p", required = true,
        watchdog = { interval = 0.2, probe = 0.2, probe_timeout = 0.2 } }
      c:subscribe("forbidden.sub", function() end)
    ]], { URL = server.url }, { args = { "--http", network.host .. ":" .. port } })
    local function forbidden(entry) return (entry.error or ""):find("forbidden%.sub") ~= nil end
    dog:wait_log(forbidden, 10)
    local function outages()
      local _, page = http.get(port, "/metrics")
      return page:match('moondog_connection_outages_total{connection="c"} (%d+)')
    end
    local before = outages()
    dog:wait_log(forbidden, 10, 6)
    assert.equals(before, outages())
    assert.equals(503, (http.get(port, "/readyz")))
  end))
end)
