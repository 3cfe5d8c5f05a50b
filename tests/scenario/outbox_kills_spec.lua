-- Messages through the outbox while the server and moondog itself are killed at random: the stream
-- has each exactly once, and in order. MOONDOG_OUTBOX_MESSAGES says how many (10000), MOONDOG_SEED
-- repeats a run.
local outbox_load = require "support.outbox_load"
local run = require "support.run"

local MESSAGES = tonumber(os.getenv("MOONDOG_OUTBOX_MESSAGES")) or 10000

local function play(case)
  local result = outbox_load.play(case)
  assert.is_nil(result.first_wrong)
  assert.equals(case.messages, result.stored)
  assert.equals(case.messages, result.got)
end

describe("An outbox", function()
  it("loses nothing and doubles nothing while server and moondog are killed", run.case(function()
    play { messages = MESSAGES, server_kills = 20, moondog_kills = 10, outage = 0.3, window = 120 }
  end, { deadline = outbox_load.SECONDS * 3 }))

  it("nor in outages that are longer than the stream's duplicate window", run.case(function()
    play { messages = MESSAGES / 4, server_kills = 6, moondog_kills = 0, outage = 3, window = 1,
      in_turn = true }
  end, { deadline = outbox_load.SECONDS * 3 }))
end)
