-- F6 of the fault suite: NATS is not there yet at the start. What a row is: tests/support/fault.lua.
local health = require "support.health"
local network = require "support.network"
local run = require "support.run"

local WITHOUT_SECONDS = 3

return {
  id = "F6",
  title = "NATS is not there yet at the start",
  seen = "vector #23167",
  why = "the first dial fails, and the program ends or stays deaf",
  promise = "it starts, serves its health, and connects when NATS comes",
  within = 5,
  play = function(stage)
    local port = network.free_port()
    stage.ports[port] = true
    stage:start { urls = { network.url(port) }, before_nats = true }
    stage:fault()
    stage.dog:wait_log("^dial failed$")
    run.pause(WITHOUT_SECONDS)
    stage:check((health.get(stage.dog, "/livez")) == 200, "/livez does not say that it lives")
    stage:check((health.get(stage.dog, "/readyz")) == 503, "/readyz says ready without NATS")
    stage:over()
    stage:server({}, { port = port })
  end,
}
