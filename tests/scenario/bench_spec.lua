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
  assert.truthy(#found.rows > 0)
  contains(printed, found.title)
  for _, row in ipairs(found.rows) do
    contains(printed, row.case)
    local value = row.medians[found.peers[1]]
    if value ~= 0 and value ~= 100 then contains(printed, row.figure) end -- a line that says the usual is left out
    assert.equal("number", type(row.medians[found.peers[1]]), row.case .. ": " .. row.figure)
    for _, peer in ipairs(found.peers) do assert.not_nil(row.medians[peer], peer) end
  end
  for _, goal in ipairs(found.goals) do
    contains(printed, goal.name)
    assert.equal("number", type(goal.limit))
    if goal.value ~= cjson.null then
      local more, less = goal.value >= goal.limit, goal.value <= goal.limit
      assert.equal(goal.relation == ">=" and more or goal.relation == "<=" and less, goal.met, goal.name)
    end
  end
  return found
end

describe("scripts/bench", function()
  it("compares delivery, size by size and number by number of subscriptions", run.case(function()
    local found = check "delivery"
    local seen = {}
    for _, row in ipairs(found.rows) do
      local case = row.parameters
      if row.figure == "cpu" then seen[("%s: %d into %d"):format(case.mode, case.bytes, case.subscriptions)] = true end
      if row.figure == "received" and case.mode == "steady" then
        assert.equal(100, row.medians.moondog, row.case)
      end
    end
    for _, bytes in ipairs { 16, 64, 1024, 16384 } do
      for _, subscriptions in ipairs { 1, 100, 1000 } do
        local case = ("%d into %d"):format(bytes, subscriptions)
        assert.truthy(seen["steady: " .. case] and seen["full: " .. case], case)
      end
    end
    assert.equal(8, #found.goals) -- four, at a rate and at full speed
  end, { deadline = 250 }))

  it("compares publishing, with nats-py where it is installed", run.case(function()
    local found = check "publish"
    local said = {}
    for _, peer in ipairs(found.peers) do said[peer] = true end
    for _, one in pairs(found.left_out) do said[one.what] = true end
    for _, peer in ipairs { "moondog", "nats.c", "nats.go", "npm", "nats-py" } do assert.truthy(said[peer], peer) end
  end, { deadline = 250 }))

  it("has a client of nats-py that Python can read", run.case(function()
    local pipe = io.popen("command -v python3")
    local file = pipe:read("*l")
    pipe:close()
    if not file then return end
    local child = process.start { name = "python3", file = file, args = { "-c",
      "import ast, sys; ast.parse(open(sys.argv[1]).read())", moondog.root .. "/tests/bench/client.py" } }
    assert.equal(0, (child:wait_exit(20)), child:report())
  end))

  it("compares requests and answers", run.case(function() check "request" end, { deadline = 250 }))

  it("compares recovery, over the number of subscriptions", run.case(function()
    local seen = {}
    for _, row in ipairs(check("recovery").rows) do seen[row.parameters.subscriptions] = true end
    for _, subscriptions in ipairs { 1, 100, 1000 } do assert.truthy(seen[subscriptions], subscriptions) end
  end, { deadline = 250 }))

  it("weighs a process, a subscription, a request, a timer and a connection", run.case(function()
    local seen = {}
    for _, row in ipairs(check("footprint").rows) do seen[row.case] = true end
    for _, thing in ipairs { "process", "subscription", "request", "timer", "connection" } do
      assert.truthy(seen["a " .. thing], thing)
    end
  end, { deadline = 250 }))

  it("follows a herd of connections", run.case(function()
    local found = check "herd"
    for _, name in ipairs(found.peers) do assert.equal(20, #found.facts.arrivals[name][1], name) end
    local total = 0
    for _, row in ipairs(found.rows) do
      if row.unit == "connects/s" then total = total + row.medians.moondog * row.parameters.step end
      if row.unit == "connections" then total = total + row.medians.moondog end
    end
    assert.equal(20, total)
  end, { deadline = 250 }))

  it("times reloads, over subscriptions and state", run.case(function()
    local subscriptions, entries = 0, 0
    for _, row in ipairs(check("reload").rows) do
      subscriptions = math.max(subscriptions, row.parameters.subscriptions)
      entries = math.max(entries, row.parameters.entries or 0)
    end
    assert.equal(1000, subscriptions)
    assert.equal(10000, entries)
  end, { deadline = 250 }))

  it("counts instructions", run.case(function()
    if moondog.sanitized() then return end -- valgrind and a sanitizer do not go together
    for _, row in ipairs(check("instructions").rows) do
      if row.case == "all" then assert.is_true(row.medians.moondog > 1000 and row.medians["nats.c"] > 1000) end
    end
  end, { deadline = 250 }))

  it("compares JetStream", run.case(function() check "jetstream" end, { deadline = 250 }))

  it("compares messages with and without a command that never ends", run.case(function()
    assert.same({ "with", "without" }, check("console").peers)
  end, { deadline = 250 }))

  it("compares a process that is watched with one that is not", run.case(function()
    local pages = check("metrics").rows[2]
    assert.equal("pages", pages.figure)
    assert.equal(0, pages.medians.unwatched)
  end, { deadline = 250 }))

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
