-- Jitter that is the same in every process of a fleet is none: math.random() is seeded.
local moondog = require "support.moondog"
local run = require "support.run"

local SCRIPT = [[
local moondog = require "moondog"
moondog.on_start(function() moondog.log.info("random", { number = ("%.17g"):format(math.random()) }) end)
]]

describe("math.random", function()
  it("has other numbers in each process, and after each reload", run.case(function()
    local first, second = moondog.run(SCRIPT), moondog.run(SCRIPT)
    local a, b = first:wait_log("^random$").number, second:wait_log("^random$").number
    first:reload()
    local c = first:wait_log("^random$", 10, 2).number
    assert.is_true(a ~= b and a ~= c and b ~= c, ("%s %s %s"):format(a, b, c))
  end))
end)
