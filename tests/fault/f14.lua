-- F14 of the fault suite: a pull request lost with its link. What a row is: tests/support/fault.lua.
local reader = require "support.fault_reader"
local run = require "support.run"

return {
  id = "F14",
  title = "a pull request lost with its link",
  seen = "js_PullSubscribeAsync of nats.c, ClickHouse #96651",
  why = "the client never asks again, and the consumer is silent for good",
  promise = "it is issued again at each fresh link, and after two missed heartbeats: each message is read once",
  within = 5,
  stock = reader.STOCK,
  play = function(stage)
    local server = reader.server(stage)
    local way = stage:proxy(server)
    stage:start { urls = { way.url }, script = reader.script "durable" }
    reader.write(stage, server, 20)
    reader.wait_read(stage, server)
    stage:fault()
    way:lock()
    way:reset()
    reader.write(stage, server, 100)
    run.pause(2)
    stage:over()
    way:unlock()
    reader.write(stage, server, 100)
    stage.server = server
  end,
  after = function(stage) reader.check(stage, stage.server) end,
}
