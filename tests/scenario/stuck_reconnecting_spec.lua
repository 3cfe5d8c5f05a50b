-- F9: the library reconnects and reconnects. After a deadline the link is replaced by a fresh
-- one.
local moondog = require "support.moondog"
local run = require "support.run"
local scripted_server = require "support.scripted_server"

local SCRIPT = [[
local moondog = require "moondog"
local c = moondog.connect {
  servers = { $URL }, reconnect = moondog.backoff { base = 0.05, cap = 0.2 },
  watchdog = { reconnecting = 1, timeout = 1.5, probe = 1 },
  on = { reconnected = function(_, info) print("fresh " .. tostring(info.fresh) .. " reason "
    .. tostring(info.reason)) end },
}
c:subscribe("stuck", function(msg) msg:respond(msg.data) end)
]]

local function scenario(mode, text)
  local server = scripted_server.start()
  local dog = moondog.run(SCRIPT, { URL = server.url })
  dog:wait_log("^connected$")
  if text then
    server.options.on_op = function(client, op)
      if op.verb == "CONNECT" then
        client:error(text)
        return true
      end
    end
  else
    server.options[mode] = true
  end
  server.last:reset()
  local disconnected = dog:wait_log("^disconnected$", 10)
  local closed = dog:wait_log("^closed$", 15)
  run.figure("from the loss to the end of the library's attempts", closed.at - disconnected.at, "s")
  assert.equals("reconnecting", closed.reason)

  server.options.on_op, server.options[mode or "silent"] = nil, nil
  local back = dog:wait_log("^reconnected$", 15)
  assert.is_true(back.fresh)
  dog:wait_log("^fresh true reason ", 5)
  run.wait_until(function()
    return server:count() == 1 and server:subscriptions("^stuck$") == 1
  end, 15, "one link with its subscription, and no zombie")
end

describe("a library that is stuck in reconnecting", function()
  it("to a silent peer is replaced", run.case(function() scenario("silent") end))
  it("to a peer that says INFO and nothing more is replaced", run.case(function()
    scenario("info_only")
  end))
  it("to a server that refuses it is replaced", run.case(function()
    scenario(nil, "maximum connections exceeded")
  end))
end)
