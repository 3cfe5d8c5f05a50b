-- F26 of the fault suite: server. What a row is: tests/support/fault.lua.
local jetstream = require "support.jetstream_api"
local nats_cluster = require "support.nats_cluster"
local outbox = require "support.fault_outbox"
local run = require "support.run"

local DOWN_SECONDS = 3

return {
  id = "F26",
  title = "server",
  seen = "the chaos tests of nats-server",
  why = "servers are killed, freeze, and are restarted one after the other",
  promise = "moondog is back; a frozen server is left for another one by the probe",
  within = 15,
  patience = 25,
  cases = {
    { name = "SIGKILL", play = function(stage)
      local server = stage:server()
      stage:start { urls = { server.url } }
      stage:fault()
      server:kill()
      run.pause(DOWN_SECONDS)
      stage:over()
      server:restart()
    end },
    { name = "SIGSTOP, one of two", play = function(stage)
      local servers = stage:cluster(2)
      -- All are at the first one: the second is not to be reached yet.
      local way = stage:proxy(servers[2])
      way:lock()
      stage:start { urls = { servers[1].url, way.url }, options = "ignore_discovered = true,",
        witness = function() return servers[2]:connect() end }
      way:unlock()
      servers[1]:stop()
      servers[1].frozen = true
      stage:fault()
    end },
    { name = "SIGSTOP, then SIGCONT", play = function(stage)
      local server = stage:server()
      stage:start { urls = { server.url } }
      stage:fault()
      server:stop()
      stage.dog:wait_log("^closed$", 40)
      run.pause(DOWN_SECONDS)
      stage:over()
      server:cont()
    end },
    { name = "three killed in turn", play = function(stage)
      local cluster = nats_cluster.start()
      for _, server in ipairs(cluster.servers) do
        stage:use(server)
      end
      jetstream.add_stream(cluster.servers[1], "S", { "s.>" }, 3)
      cluster:wait_healthy()
      stage:start { urls = cluster.urls, witness = function() return cluster:connect() end, noise = "s.nats_c",
        script = outbox.script, values = { PATH = run.folder() .. "/out.db", SIZE = 10, PAUSE = 0.02 } }
      stage:fault()
      for i in ipairs(cluster.servers) do
        cluster:kill(i)
        run.pause(DOWN_SECONDS)
        cluster:restart(i)
        cluster:wait_healthy()
      end
      stage:over()
      stage.server = cluster.servers[1]
    end, after = function(stage) outbox.check(stage, stage.server) end },
  },
}
