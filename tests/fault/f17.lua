-- F17 of the fault suite: consumer deleted in the outage. What a row is: tests/support/fault.lua.
local jetstream = require "support.jetstream_api"
local reader = require "support.fault_reader"

return {
  id = "F17",
  title = "consumer deleted in the outage",
  seen = "nats.node #570",
  why = "the server has forgotten the ephemeral one, and the client waits for it for ever",
  promise = "it is made again behind the last acknowledged message: each message is read once",
  within = 5,
  stock = reader.STOCK,
  play = function(stage)
    local server = reader.server(stage)
    local way = stage:proxy(server)
    stage:start { urls = { way.url }, script = reader.script "ephemeral" }
    reader.write(stage, server, 20)
    reader.wait_read(stage, server)
    stage:fault()
    way:lock()
    way:reset()
    jetstream.api(server, "CONSUMER.DELETE.S.reader")
    reader.write(stage, server, 100)
    stage:over()
    way:unlock()
    reader.write(stage, server, 100)
    stage.server = server
  end,
  after = function(stage) reader.check(stage, stage.server) end,
}
