-- F27: what the user may not do is reported; everything else goes on over the same link.
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
