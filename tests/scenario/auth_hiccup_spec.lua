-- F1: the auth service hiccups for four seconds. nats.c closes for good after two auth errors;
-- moondog makes a fresh link as soon as the server accepts again.
local moondog = require "support.moondog"
local nats_server = require "support.nats_server"
local run = require "support.run"

local HICCUP_SECONDS = 4
local ONE_BACKOFF_STEP = 5

local SCRIPT = [[
local moondog = require "moondog"
local c = moondog.connect {
  name = "gateway", servers = { $URL }, user = "game", password = "right",
}
c:subscribe("orders.*", function(msg) c:publish("seen", msg.data) end)
]]

local function publish_until_seen(witness, deadline)
  local seen = witness:subscribe("seen")
  local number = 0
  return run.wait_until(function()
    number = number + 1
    witness:publish("orders.new", tostring(number))
    return seen.messages[1]
  end, deadline, "a message that moondog's subscription got")
end

describe("a hiccup of the auth service", function()
  it("deafens a subscription for no longer than one step of the backoff", run.case(function()
    local right = { user = "game", password = "right" }
    local server = nats_server.start(right)
    local dog = moondog.run(SCRIPT, { URL = server.url })
    dog:wait_log("^connected$")
    publish_until_seen(server:connect(), 5)

    server:reload { user = "game", password = "changed" }
    run.pause(HICCUP_SECONDS)
    server:reload(right)
    local accepted_at = server.reloaded_at
    local first = publish_until_seen(server:connect(), 30)

    local deaf = first.at - accepted_at
    run.figure("from acceptance to the first delivered message", deaf, "s")
    assert.is_true(deaf < ONE_BACKOFF_STEP, "deaf for " .. deaf .. " s")

    local closed = dog:wait_log("^closed$", 5)
    local back = dog:wait_log("^reconnected$", 5)
    assert.is_true(closed.index < back.index, "the closure is reported before its recovery")
    assert.equals("gateway", closed.connection)
    assert.equals("auth", closed.class)
    assert.is_true(back.fresh)
    run.wait_until(function() return #server:clients() == 1 end, 5, "one link and no leftover")
    assert.equals(1, server:subscriptions("^orders%.%*$"))
  end))
end)
