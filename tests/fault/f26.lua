local run = require "support.run"

local DOWN_SECONDS = 3

return {
  id = "F26",
  title = "the server",
  why = "servers are killed, freeze, and are restarted one after the other",
  promise = "moondog is back; a frozen server is left for another one by the probe",
  within = 15,
  patience = 25,
  cases = {
    { name = "SIGKILL, back after 3 s", play = function(stage)
      local server = stage:server()
      stage:start { urls = { server.url } }
      stage:fault()
      server:kill()
      run.pause(DOWN_SECONDS)
      stage:over()
      server:restart()
    end },
    { name = "SIGSTOP, another is there", play = function(stage)
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
  },
}
