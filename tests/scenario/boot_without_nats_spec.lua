-- F6: NATS is not there yet when the program starts.
local moondog = require "support.moondog"
local nats_server = require "support.nats_server"
local network = require "support.network"
local run = require "support.run"

local SCRIPT = [[
local moondog = require "moondog"
local c = moondog.connect {
  name = "early", servers = { $URL }, reconnect = moondog.backoff { base = 0.05, cap = 0.5 },
  on = {
    connected = function(_, info) print("hook connected " .. info.links) end,
    reconnected = function() print("hook reconnected") end,
  },
}
c:subscribe("early.echo", function(msg) msg:respond(msg.data) end)
local ticks = 0
local t
t = moondog.every(0.02, function()
  ticks = ticks + 1
  if ticks == 20 then
    print("state " .. c:status().state .. " ready " .. tostring(c:status().ready))
    t:cancel()
  end
end)
moondog.on_start(function()
  local ok, err = c:request("early.nobody", "x", { timeout = 1 })
  print("request " .. tostring(ok) .. " " .. tostring(err and err.code))
end)
]]

describe("a start without NATS", function()
  it("runs the script and connects when the server comes", run.case(function()
    local port = network.free_port()
    local dog = moondog.run(SCRIPT, { URL = network.url(port) })
    local failed = dog:wait_log("^dial failed$", 10)
    assert.equals("early", failed.connection)
    assert.equals("network", failed.class)
    dog:wait_log("^state %a+ ready false$", 10)
    dog:wait_log("^request nil disconnected$", 10)
    assert.is_true(dog:running())

    local server = nats_server.start({}, { port = port })
    local up_at = run.now()
    dog:wait_log("^connected$", 15)
    run.figure("from the server's start to connected", run.now() - up_at, "s")
    dog:wait_log("^hook connected 1$", 5)
    assert.equals("hi", server:connect():wait_answer("early.echo", "hi", 5).data)
    assert.equals(0, #dog:find_logs("^hook reconnected$"))
  end))
end)
