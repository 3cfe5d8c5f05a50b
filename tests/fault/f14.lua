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
    reader.play_cut(stage, "durable", function(server)
      reader.write(stage, server, 100)
      run.pause(2)
    end)
  end,
  after = function(stage) reader.check(stage, stage.server) end,
}
