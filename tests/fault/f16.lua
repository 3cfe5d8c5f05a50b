-- F16 of the fault suite: a KV watch after a restart. What a row is: tests/support/fault.lua.
local jetstream = require "support.jetstream_api"
local reader = require "support.fault_reader"
local run = require "support.run"

local DOWN_SECONDS = 2

return {
  id = "F16",
  title = "a KV watch after a restart",
  seen = "nats.go #1094 and #1777, nats.c #988",
  why = "the watch ends, or stays silent, and configuration is old from then on",
  promise = "it goes on behind the last revision seen: nothing is skipped, nothing repeated",
  within = 5,
  stock = reader.STOCK,
  play = function(stage)
    local server = reader.server(stage)
    stage:start { urls = { server.url }, script = reader.script "watch" }
    jetstream.api(server, "STREAM.INFO.KV_B") -- until the script has made the bucket
    reader.write(stage, server, 20, "watch")
    reader.wait_read(stage, server)
    stage:fault()
    server:kill()
    run.pause(DOWN_SECONDS)
    stage:over()
    server:restart()
    reader.write(stage, server, 200, "watch")
    stage.server = server
  end,
  after = function(stage) reader.check(stage, stage.server) end,
}
