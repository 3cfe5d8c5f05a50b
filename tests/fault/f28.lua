-- F28 of the fault suite: disk full. What a row is: tests/support/fault.lua.
local health = require "support.health"
local jetstream = require "support.jetstream_api"
local outbox = require "support.fault_outbox"
local run = require "support.run"
local tmpfs = require "support.tmpfs"

local function start(stage, store, path, size)
  local server = stage:server { jetstream = { store_dir = store } }
  jetstream.add_stream(server, "S", { "s.>" })
  stage:start { urls = { server.url }, script = outbox.script,
    values = { PATH = path, SIZE = size, PAUSE = 0.05 } }
  run.wait_until(function() return health.metric(stage.dog, "moondog_outbox_forwarded_total") > 0 end, 10,
    "messages in the stream before the fault")
  stage.server = server
  return server
end

local function after(stage)
  outbox.check(stage, stage.server)
end

return {
  id = "F28",
  title = "disk full",
  why = "the publisher is told nothing, or the process dies",
  promise = "the publisher gets a clear error, nothing that was acknowledged is lost, all goes on with room",
  within = 5,
  needs = tmpfs.missing,
  stock = "a stock client has no outbox; a publish with an acknowledgement is the program's own",
  cases = {
    { name = "under the outbox", play = function(stage)
      local folder = tmpfs.mount("out", 4)
      start(stage, run.folder() .. "/js", folder .. "/out.db", 1000)
      stage:fault()
      tmpfs.fill(folder)
      local refused = stage.dog:wait_log("^refused$", 30)
      stage:check(refused.code == "disk_full", "the publisher was told %s", tostring(refused.text))
      stage:over()
      tmpfs.empty(folder)
      stage.dog:wait_log("^taken$", 30)
      stage:check(#stage:logs("^closed$") + #stage:logs("^disconnected$") == 0, "the link was lost")
    end, after = after },
    -- nats-server 2.9 answers nobody any more when a message finds no room on its disk, and needs
    -- a restart: the outbox takes what the stream cannot.
    { name = "under JetStream", play = function(stage)
      local folder = tmpfs.mount("js", 4)
      local server = start(stage, folder, run.folder() .. "/out.db", 20000)
      stage:fault()
      tmpfs.fill(folder)
      health.wait_metric(stage.dog, "moondog_outbox_waiting", {}, function(n) return n > 40 end, 30)
      stage:check(#stage:logs("^refused$") == 0, "the outbox refuses, although its disk has room")
      server:kill()
      stage:over()
      tmpfs.empty(folder)
      tmpfs.grow(folder, 64)
      server:restart()
    end, after = after },
  },
}
