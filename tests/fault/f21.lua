-- F21 of the fault suite: publish said OK, three SIGKILLs. What a row is: tests/support/fault.lua.
local jetstream = require "support.jetstream_api"
local outbox = require "support.fault_outbox"
local run = require "support.run"

local KILLS, UP_SECONDS, DOWN_SECONDS = 3, 1.5, 1

return {
  id = "F21",
  title = "publish said OK, three SIGKILLs",
  seen = "nats.rs #182",
  why = "what the library took is in a buffer, or in the kernel, and gone with the connection",
  promise = "what the outbox acknowledged is in the stream once, and nothing else was refused",
  within = 5,
  stock = { nats_js = "its publish() has no result; with JetStream's acknowledgements it is another program" },
  play = function(stage)
    local server = stage:server { jetstream = { store_dir = run.folder() .. "/js" } }
    jetstream.add_stream(server, "S", { "s.>" })
    stage:start { urls = { server.url }, noise = "s.nats_c", script = outbox.script,
      values = { PATH = run.folder() .. "/out.db", SIZE = 10, PAUSE = 0.01 } }
    stage:fault()
    for _ = 1, KILLS do
      run.pause(UP_SECONDS)
      server:kill()
      run.pause(DOWN_SECONDS)
      stage:over()
      server:restart()
    end
    stage.server = server
  end,
  after = function(stage)
    outbox.check(stage, stage.server)
    stage:check(#stage:logs("^refused$") == 0, "publishes were refused")
  end,
}
