-- F27: what the user may not do is reported; everything else goes on over the same link.
local moondog = require "support.moondog"
local nats_server = require "support.nats_server"
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
end)
