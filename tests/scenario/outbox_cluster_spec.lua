-- The outbox and a stream with three replicas, whose servers are killed one after the other.
local nats_cluster = require "support.nats_cluster"
local outbox_load = require "support.outbox_load"
local run = require "support.run"

local MESSAGES = tonumber(os.getenv("MOONDOG_OUTBOX_MESSAGES")) or 10000

local SETTLED_SECONDS = 60

local function play(case)
  local cluster = nats_cluster.start()
  case.servers, case.replicas, case.in_turn = cluster.servers, 3, true
  function case.settled() cluster:wait_healthy(SETTLED_SECONDS) end
  local result = outbox_load.play(case)
  assert.is_nil(result.first_wrong)
  assert.equals(case.messages, result.stored)
  assert.equals(case.messages, result.got)
end

describe("An outbox and a cluster of three", function()
  it("lose nothing and double nothing while one server after the other is killed", run.case(function()
    play { messages = MESSAGES, server_kills = 6, moondog_kills = 2, outage = 0.5, window = 120 }
  end, { deadline = outbox_load.SECONDS * 3 }))

  it("nor when the duplicate window is over before there is a leader again", run.case(function()
    play { messages = MESSAGES / 4, server_kills = 4, moondog_kills = 0, outage = 2, window = 1 }
  end, { deadline = outbox_load.SECONDS * 3 }))
end)
