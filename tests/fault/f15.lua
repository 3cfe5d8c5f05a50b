-- F15 of the fault suite: consumer, restart. What a row is: tests/support/fault.lua.
local reader = require "support.fault_reader"
local run = require "support.run"

local DOWN_SECONDS = 2

local function case(kind)
  return { name = kind, play = function(stage)
    local server = reader.server(stage)
    stage:start { urls = { server.url }, script = reader.script(kind) }
    reader.write(stage, server, 20)
    reader.wait_read(stage, server)
    stage:fault()
    server:kill()
    run.pause(DOWN_SECONDS)
    stage:over()
    server:restart()
    reader.write(stage, server, 200)
    stage.server = server
  end, after = function(stage) reader.check(stage, stage.server) end }
end

return {
  id = "F15",
  title = "consumer, restart",
  seen = "nats.go #1729, nats.java #892",
  why = "the connection is back, and the consumer stays silent",
  promise = "it is asked for, or made again, behind what was acknowledged: each message is read once",
  within = 5,
  stock = reader.STOCK,
  cases = { case "durable", case "ordered" },
}
