-- F24 of the fault suite: an address. What a row is: tests/support/fault.lua.
local hosts = require "support.hosts"
local network = require "support.network"
local run = require "support.run"

local DOWN_SECONDS = 3
local NAME = "moves.moondog.test"
-- A name that no resolver has to be asked about: its label is longer than names may be.
local NO_SUCH_NAME = "nats://" .. ("n"):rep(70) .. ":4222"

-- Whether a client whose name begins so has sent CONNECT to a scripted server that answers nothing.
local function has_dialled(server, name)
  for client in pairs(server.clients) do
    for _, op in ipairs(client.ops) do
      if op.verb == "CONNECT" and op.line:find(('"name":"' .. name), 1, true) then
        return true
      end
    end
  end
  return false
end

return {
  id = "F24",
  title = "an address",
  seen = "nats.node #377",
  why = "the address of another network is gossiped and dialled again and again, or DNS fails at the start",
  promise = "discovered servers are ignored when the script says so; a name that fails is one failed dial, "
    .. "and is looked up again at each",
  within = 10,
  cases = {
    { name = "gossiped, mute", play = function(stage)
      local port = network.free_port()
      local server = stage:cluster(2, function(i)
        return { client_advertise = i == 2 and network.host .. ":" .. port or nil }
      end)[1]
      local mute = stage:scripted { info_only = true, port = port }
      stage:start { urls = { server.url }, options = "ignore_discovered = true," }
      stage:fault()
      server:kill()
      stage.dog:wait_log("^disconnected$", 15)
      run.pause(DOWN_SECONDS)
      stage:over()
      server:restart()
      stage.mute = mute
    end, after = function(stage)
      stage:check(not has_dialled(stage.mute, "moondog"), "it dialled the gossiped address")
      stage:check(has_dialled(stage.mute, "nats"), "nobody dialled the gossiped address: no fault")
    end },
    { name = "it moves", needs = hosts.missing, play = function(stage)
      local old, new = stage:server(), stage:server()
      local way = stage:proxy(old)
      stage:proxy(new, { host = network.other_host, port = way.port })
      hosts.own { [NAME] = network.host }
      stage:start { urls = { ("nats://%s:%d"):format(NAME, way.port) }, witness = function()
        return (old.process.exit and new or old):connect()
      end }
      stage:fault()
      old:kill()
      stage.dog:wait_log("^disconnected$", 15)
      run.pause(DOWN_SECONDS)
      stage:over()
      hosts.say { [NAME] = network.other_host }
    end },
    { name = "unknown at start", play = function(stage)
      local server = stage:server()
      stage:start { urls = { NO_SUCH_NAME, server.url }, before_nats = true }
      stage:fault()
    end },
  },
}
