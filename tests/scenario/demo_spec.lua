-- The demonstration tells the truth: see scripts/demo.
local cjson = require "cjson"
local moondog = require "support.moondog"
local process = require "support.process"
local run = require "support.run"

describe("the demonstration", function()
  it("loses the stock client for ever and has moondog back at once", run.case(function()
    local demo = process.start { name = "demo", file = moondog.root .. "/scripts/demo", args = { "--json" } }
    local code = demo:wait_exit(60)
    assert.equals(0, code, demo:report())
    local told = cjson.decode(demo:text("stdout"))
    assert.is_true(told.as_told)
    assert.is_true(told.moondog.recovered)
    assert.is_false(told.stock.recovered)
    assert.is_true(told.stock.closed_at > told.changed_at)
    assert.is_true(told.stock.closed_at < told.accepted_at)
    run.figure("auth error, deaf after acceptance", told.moondog.deaf_after_acceptance, "s")
    run.figure("auth error, deaf in all", told.moondog.deaf_in_all, "s")
    run.figure("auth error, the stock client is closed for ever after",
      told.stock.closed_at - told.changed_at, "s")
  end, { deadline = 90 }))
end)
