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
    reader.play_cut(stage, "ephemeral", function(server)
      jetstream.api(server, "CONSUMER.DELETE.S.reader")
      reader.write(stage, server, 100)
    end)
  end,
  after = function(stage) reader.check(stage, stage.server) end,
}
