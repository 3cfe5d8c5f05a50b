-- F26: the server dies by SIGKILL and a new one comes up on the same port.
local moondog = require "support.moondog"
local nats_server = require "support.nats_server"
local run = require "support.run"

local DOWN_SECONDS = 3
local SUBSCRIPTIONS = 50

local SCRIPT = [[
local moondog = require "moondog"
local c = moondog.connect { servers = { $URL }, library_reconnect = $LIBRARY }
for i = 1, $COUNT do
  c:subscribe("killed." .. i, function(msg) msg:respond(i .. ":" .. msg.data) end)
end
]]

local function scenario(library)
  local server = nats_server.start()
  local dog = moondog.run(SCRIPT, { URL = server.url, LIBRARY = library, COUNT = SUBSCRIPTIONS })
  dog:wait_log("^connected$")
  local witness = server:connect()
  assert.equals("7:a", witness:wait_answer("killed.7", "a", 5).data)

  server:kill()
  run.pause(DOWN_SECONDS)
  server:restart()
  local up_at = run.now()
  witness = server:connect()
  witness:wait_answer("killed.1", "b", 30)
  run.figure("from the new server to the first answer", run.now() - up_at, "s")

  dog:wait_log("^reconnected$", 5)
  for i = 1, SUBSCRIPTIONS do
    assert.equals(i .. ":c", witness:wait_answer("killed." .. i, "c", 5).data)
  end
  assert.equals(SUBSCRIPTIONS, server:subscriptions("^killed%."))
  assert.equals(1, #server:clients())
end

describe("a killed server that comes back", function()
  it("has all subscriptions again while the library reconnects", run.case(function()
    scenario(true)
  end))

  it("has all subscriptions again when only the watchdog acts", run.case(function()
    scenario(false)
  end))
end)
