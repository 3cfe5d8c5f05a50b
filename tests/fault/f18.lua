-- F18 of the fault suite: 20 links, one consumer each. What a row is: tests/support/fault.lua.
local jetstream = require "support.jetstream_api"
local reader = require "support.fault_reader"

local LINKS = 20

return {
  id = "F18",
  title = "20 links, one consumer each",
  seen = "openobserve #13676, with 580 consumers",
  why = "each reconnect leaves another consumer behind on the server, 580 in one case",
  promise = "names are stable: there is one consumer however many links there were",
  within = 5,
  stock = reader.STOCK,
  play = function(stage)
    local server = reader.server(stage)
    local way = stage:proxy(server)
    stage:start { urls = { way.url }, script = reader.script "ordered" }
    reader.write(stage, server, 20)
    reader.wait_read(stage, server)
    stage:fault()
    for _ = 1, LINKS do
      way:reset()
      stage:wait_pass(30)
      reader.write(stage, server, 5)
    end
    stage:over()
    stage.server = server
  end,
  after = function(stage)
    reader.check(stage, stage.server)
    local names
    stage:expect(function()
      names = jetstream.consumers(stage.server, "S")
      return #names == 1
    end, 20, "one consumer on the server")
  end,
}
