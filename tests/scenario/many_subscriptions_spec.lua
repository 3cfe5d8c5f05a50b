-- 10,000 subscriptions are all back after the server was killed, and the loop never blocks
-- meanwhile.
local moondog = require "support.moondog"
local nats_server = require "support.nats_server"
local run = require "support.run"

local COUNT = 10000
local TIMER_SECONDS = 0.01
local BLOCKED_SECONDS = 1

local SCRIPT = [[
local moondog = require "moondog"
local c = moondog.connect { servers = { $URL } }
for i = 1, $COUNT do
  c:subscribe("many." .. i, function(msg) msg:respond(i .. msg.data) end)
end
local due, worst = nil, 0
moondog.every($TIMER, function()
  local now = moondog.now()
  worst = math.max(worst, now - (due or now))
  due = now + $TIMER
end)
c:subscribe("lateness", function(msg)
  msg:respond(tostring(worst))
  worst = 0
end)
]]

local function all_there(server)
  return run.wait_until(function()
    return server:monitor("subsz").num_subscriptions >= COUNT + 1
  end, 30, function()
    return COUNT + 1 .. " subscriptions, there are " .. server:monitor("subsz").num_subscriptions
  end)
end

describe("ten thousand subscriptions", function()
  it("come back after a kill without blocking the loop", run.case(function()
    local server = nats_server.start()
    local begun_at = run.now()
    local dog = moondog.run(SCRIPT, { URL = server.url, COUNT = COUNT, TIMER = TIMER_SECONDS })
    all_there(server)
    run.figure("from exec to all subscriptions", run.now() - begun_at, "s")
    local witness = server:connect()
    run.figure("worst lateness of a timer at the start",
      tonumber(witness:wait_answer("lateness", "", 10).data) * 1000, "ms")

    server:kill()
    server:restart()
    local up_at = run.now()
    all_there(server)
    run.figure("from the new server to all subscriptions", run.now() - up_at, "s")
    witness = server:connect()
    local worst = tonumber(witness:wait_answer("lateness", "", 10).data)
    run.figure("worst lateness of a timer during the recovery", worst * 1000, "ms")
    assert.is_true(worst < BLOCKED_SECONDS, "the loop was blocked for " .. worst .. " s")
    for i = 1, COUNT, 997 do
      assert.equals(i .. "x", witness:wait_answer("many." .. i, "x", 5).data)
    end
    run.figure("resident", dog:rss() / 2 ^ 20, "MiB")
    assert.equals(1, #server:clients())
  end, { deadline = 120 }))
end)
