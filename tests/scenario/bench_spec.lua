-- The benches work: each is run briefly, and says what it is to say. Figures are not looked at.
local cjson = require "cjson"
local moondog = require "support.moondog"
local process = require "support.process"
local run = require "support.run"

-- What a bench writes to standard output, with these arguments.
local function bench(name, ...)
  local child = process.start { name = "bench " .. name, file = "/usr/bin/luajit",
    args = { moondog.root .. "/tests/bench/" .. name .. ".lua", "--brief", "--out", run.folder(), ... },
    env = { MOONDOG_BUILD = moondog.build, MOONDOG_ROOT = moondog.root } }
  local code = child:wait_exit(240)
  assert.equal(0, code, child:report())
  return child:text("stdout")
end

local function read_json(name)
  local file = assert(io.open(run.folder() .. "/" .. name .. ".json"))
  local found = cjson.decode(file:read("*a"))
  file:close()
  return found
end

local function contains(text, wanted)
  assert.truthy(text:find(wanted, 1, true), ("no %q in:\n%s"):format(wanted, text))
end

local function check(name)
  local printed, found = bench(name), read_json(name)
  assert.equal(name, found.bench)
  assert.truthy(#found.rows > 0 and #found.goals > 0)
  contains(printed, found.title)
  for _, row in ipairs(found.rows) do
    contains(printed, row.case)
    contains(printed, row.figure)
    assert.truthy(tonumber(row.medians.moondog) > 0, row.case .. ": " .. row.figure)
    for _, peer in ipairs(found.peers) do assert.not_nil(row.medians[peer], peer) end
  end
  for _, goal in ipairs(found.goals) do contains(printed, goal.what) end
  return found
end

describe("scripts/bench", function()
  it("compares delivery, size by size and number by number of subscriptions", run.case(function()
    local found = check "delivery"
    local seen = {}
    for _, row in ipairs(found.rows) do
      seen[row.parameters.bytes], seen["x" .. row.parameters.subscriptions] = true, true
      if row.figure == "received" then assert.equal(100, row.medians.moondog, row.case) end
    end
    for _, bytes in ipairs { 16, 64, 1024, 16384 } do assert.truthy(seen[bytes], bytes) end
    for _, subscriptions in ipairs { "x1", "x100", "x1000" } do assert.truthy(seen[subscriptions], subscriptions) end
  end, { deadline = 250 }))

  it("compares publishing", run.case(function() check "publish" end, { deadline = 250 }))

  it("compares requests and answers", run.case(function() check "request" end, { deadline = 250 }))

  it("prints JSON alone when it is asked to", run.case(function()
    local printed = bench("publish", "--json")
    assert.same(read_json("publish"), cjson.decode(printed))
  end, { deadline = 250 }))

  it("refuses what it does not know", run.case(function()
    local child = process.start { name = "bench", file = "/usr/bin/luajit",
      args = { moondog.root .. "/tests/bench/publish.lua", "--short" },
      env = { MOONDOG_BUILD = moondog.build, MOONDOG_ROOT = moondog.root } }
    assert.equal(2, (child:wait_exit(20)))
    contains(child:text("stderr"), '"--short"')
  end))
end)
