-- An idle program is small, and is connected soon after its start.
local moondog = require "support.moondog"
local nats_server = require "support.nats_server"
local run = require "support.run"

local EXAMPLE = "/examples/policies/gateway.lua"
local WATCH_SECONDS = 5
local RESIDENT_MIB = 15

describe("the idle example", function()
  it("needs less than 15 MiB and hardly any CPU", run.case(function()
    local server = nats_server.start()
    local dog = moondog.start({ "run", moondog.root .. EXAMPLE, "--log", "json" },
      { env = { NATS_URL = server.url } })
    local connected = dog:wait_log("^connected$", 15)
    run.figure("from exec to connected", (connected.at - dog.process.started_at) * 1000, "ms")
    run.wait_until(function() return #server:clients() == 1 end, 5, "its link")
    local cpu = dog:cpu()
    run.pause(WATCH_SECONDS)
    run.figure("CPU while idle", (dog:cpu() - cpu) / WATCH_SECONDS * 100, "%")
    run.figure("resident while idle", dog:rss() / 2 ^ 20, "MiB")
    run.figure("threads", dog:threads())
    if not moondog.sanitized() then
      assert.is_true(dog:rss() < RESIDENT_MIB * 2 ^ 20)
    end
    assert.is_true(dog:cpu() - cpu < WATCH_SECONDS / 4, "it spins")
    assert.equals(0, #dog:find_logs(function(entry) return entry.level == "error" end))
  end))
end)
