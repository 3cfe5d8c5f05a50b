-- moondog.metrics: what a script counts itself is on /metrics, crosses reloads, and is bounded.
local health = require "support.health"
local moondog = require "support.moondog"
local nats_server = require "support.nats_server"
local run = require "support.run"

-- "do" runs code that the test sends, and answers with what it returns.
local SCRIPT = [[
local moondog = require "moondog"
local c = moondog.connect { servers = { $URL } }
local m = moondog.metrics
local function show(...)
  local out = {}
  for i = 1, select("#", ...) do
    local value = select(i, ...)
    out[i] = type(value) == "table" and value.code or tostring(value)
  end
  return table.concat(out, " ")
end
local env = setmetatable({ m = m, moondog = moondog }, { __index = _G })
c:subscribe("do", function(msg)
  msg:respond(show(setfenv(assert(loadstring(msg.data, "=sent")), env)()))
end)
]]

local function start(more, options)
  local server = nats_server.start()
  local dog = health.run(SCRIPT .. (more or ""), { URL = server.url }, options)
  health.wait_status(dog, "/readyz", 200)
  local witness = server:connect()
  local function act(code)
    return witness:wait_answer("do", code, 10).data
  end
  return dog, act, server
end

-- All series of a metric as "a=1,b=2": value.
local function series_of(samples, name)
  local found = {}
  for _, sample in ipairs(samples) do
    if sample.name == name then
      local labels = {}
      for label, value in pairs(sample.labels) do
        labels[#labels + 1] = label .. "=" .. value
      end
      table.sort(labels)
      found[table.concat(labels, ",")] = sample.value
    end
  end
  return found
end

local function line_of(text, name)
  for line in text:gmatch("[^\n]+") do
    if line:sub(1, #name) == name then
      return line
    end
  end
end

describe("a metric of the script", function()
  it("counts by labels, and is described", run.case(function()
    local dog, act = start [[
      JOBS = m.counter("jobs", { help = "Jobs that were done.", labels = { "result", "kind" } })
      PLAIN = m.counter("plain_total")
      LEVEL = m.gauge("level_meters", { help = "How high\nit \\ is." })
    ]]
    assert.equals("true", act 'return JOBS:add(1, { result = "ok", kind = "small" })')
    assert.equals("true", act 'return JOBS:add(2.5, { kind = "small", result = "ok" })')
    assert.equals("true", act 'return JOBS:add(1, { result = 7, kind = true })')
    assert.equals("true true", act "return PLAIN:add(), PLAIN:add(nil, {})")
    assert.equals("true true true", act [[
      return LEVEL:set(5), LEVEL:add(-7), LEVEL:set(-0.5, { where = "left" })
    ]])
    local _, text = health.get(dog, "/metrics")
    local samples, types = health.parse_metrics(text)
    assert.same({ ["kind=small,result=ok"] = 3.5, ["kind=true,result=7"] = 1 },
      series_of(samples, "jobs_total"))
    assert.same({ [""] = 2 }, series_of(samples, "plain_total"))
    assert.same({ [""] = -2, ["where=left"] = -0.5 }, series_of(samples, "level_meters"))
    assert.same({ "counter", "counter", "gauge" },
      { types.jobs_total, types.plain_total, types.level_meters })
    assert.equals("# HELP jobs_total Jobs that were done.", line_of(text, "# HELP jobs_total"))
    assert.equals("# HELP level_meters How high\\nit \\\\ is.",
      line_of(text, "# HELP level_meters"))
    assert.equals(5, health.sum(samples, "moondog_metric_series"))
    assert.equals(0, health.sum(samples, "moondog_metric_refused_total"))
  end))

  it("observes into buckets", run.case(function()
    local dog, act = start [[
      TOOK = m.histogram("took_seconds", { buckets = { 0.1, 1, 10 }, labels = { "step" } })
      USUAL = m.histogram("usual_seconds")
    ]]
    act [[
      for _, value in ipairs { 0.05, 0.1, 0.5, 20 } do TOOK:observe(value, { step = "a" }) end
      USUAL:observe(0.3)
    ]]
    local samples, types = health.metrics(dog)
    assert.equals("histogram", types.took_seconds)
    assert.same({ ["le=0.1,step=a"] = 2, ["le=1,step=a"] = 3, ["le=10,step=a"] = 3,
      ["le=+Inf,step=a"] = 4 }, series_of(samples, "took_seconds_bucket"))
    assert.equals(20.65, health.sum(samples, "took_seconds_sum"))
    assert.equals(4, health.sum(samples, "took_seconds_count"))
    assert.equals(12, #(function()
      local list = {}
      for key in pairs(series_of(samples, "usual_seconds_bucket")) do list[#list + 1] = key end
      return list
    end)())
  end))

  it("keeps any value of a label as it is, as far as it is text", run.case(function()
    local dog, act = start [[ ODD = m.gauge("odd") ]]
    act [[
      ODD:set(1, { text = 'a "quoted" \\ one,\nb="c"} 2' })
      ODD:set(2, { text = "" })
      ODD:set(3, { text = "\xc3\xa9t\xc3\xa9 \xe2\x82\xac" })
      ODD:set(4, { text = "bad \xff byte" })
    ]]
    local samples = health.metrics(dog)
    assert.same({ ['text=a "quoted" \\ one,\nb="c"} 2'] = 1, ["text="] = 2,
      ["text=\195\169t\195\169 \226\130\172"] = 3, ["text=bad ? byte"] = 4 },
      series_of(samples, "odd"))
  end))

  it("is asked for again by its name", run.case(function()
    local dog, act = start()
    assert.equals("true", act [[
      m.counter("again"):add()
      m.counter("again"):add(2)
      m.counter("again_total"):add(4)
      return m.counter("again") == m.counter("again")
    ]])
    assert.equals(7, health.metric(dog, "again_total"))
  end))
end)

describe("the metrics of a script, at a reload,", function()
  it("go on, and those that are not declared any more disappear", run.case(function()
    local declared = [[
      A = m.counter("kept", { labels = { "x" } })
      H = m.histogram("kept_seconds")
    ]]
    local dog, act, server = start(declared .. [[ B = m.gauge("gone") ]])
    act [[
      A:add(5, { x = "1" })
      H:observe(0.3)
      B:set(9)
    ]]
    assert.equals(9, health.metric(dog, "gone"))
    assert.equals("script reloaded", dog:reload(SCRIPT .. declared .. [[
      A:add(1, { x = "2" })
    ]], { URL = server.url }).msg)
    act 'A:add(1, { x = "1" })'
    health.wait_metric(dog, "moondog_generations_retiring", nil, 0)
    -- The generation before lets its metrics go when its state is closed.
    run.wait_until(function() return health.metric(dog, "gone") == nil end, 5, "no metric gone")
    local samples, types = health.metrics(dog)
    assert.same({ ["x=1"] = 6, ["x=2"] = 1 }, series_of(samples, "kept_total"))
    assert.equals(1, health.sum(samples, "kept_seconds_count"))
    assert.is_nil(types.gone)
    assert.equals(3, health.sum(samples, "moondog_metric_series"))
  end))

  it("stay as they were when it is refused", run.case(function()
    local dog, act, server = start [[ A = m.counter("kept") ]]
    act "A:add(5)"
    local entry = dog:reload(SCRIPT .. [[
      NEW = m.gauge("new")
      NEW:set(1)
      error("no")
    ]], { URL = server.url })
    assert.equals("reload failed", entry.msg)
    run.wait_until(function() return health.metric(dog, "new") == nil end, 5, "no metric new")
    assert.equals(5, health.metric(dog, "kept_total"))
  end))

  it("keep their types: another one is refused with its place", run.case(function()
    local dog, act, server = start [[ A = m.gauge("kept") ]]
    act "A:set(5)"
    local entry = dog:reload(SCRIPT .. [[ A = m.histogram("kept") ]], { URL = server.url })
    assert.equals("reload failed", entry.msg)
    local _, lines = SCRIPT:gsub("\n", "")
    assert.matches(("script%%d+%%.lua:%d: "):format(lines + 1), entry.error)
    assert.matches('"kept" is a gauge already', entry.error)
    assert.equals(5, health.metric(dog, "kept"))
  end))
end)

describe("a misuse of a metric", function()
  for what, case in pairs {
    ["another type for a name"] = { 'm.gauge("x") m.histogram("x")', "is a gauge already" },
    ["other buckets for a name"] = { 'm.histogram("x") m.histogram("x", { buckets = { 1 } })',
      "with other buckets" },
    ["a name that a histogram is written with"] = {
      'm.histogram("x") m.gauge("x_count")', "is written with that name" },
    ["a counter that falls"] = { 'm.counter("x"):add(-1)', "a counter only grows" },
    ["a value that is no number"] = { 'm.gauge("x"):set(0 / 0)', "not a number" },
    ["a value that is a table"] = { 'm.gauge("x"):set({})', "number expected" },
    ["a name with a dash"] = { 'm.gauge("a-b")', "letters, digits" },
    ["a name that begins with a digit"] = { 'm.gauge("1x")', "does not begin with a digit" },
    ["an empty name"] = { 'm.gauge("")', "1 to 128" },
    ["no name"] = { "m.gauge()", "string expected" },
    ["a name of moondog's own"] = { 'm.gauge("moondog_up")', "moondog's own" },
    ["a method of another type"] = { 'm.counter("x"):set(1)', "has no set%(%)" },
    ["a bad name of a label"] = { 'm.gauge("x"):set(1, { ["a-b"] = "c" })', "bad name of a label" },
    ["a label le"] = { 'm.gauge("x"):set(1, { le = "c" })', "bad name of a label" },
    ["a label that is a table"] = { 'm.gauge("x"):set(1, { a = {} })', "string is expected" },
    ["labels that are no table"] = { 'm.gauge("x"):set(1, "a")', "table expected" },
    ["a label too few"] = { 'm.gauge("x", { labels = { "a", "b" } }):set(1, { a = "1" })',
      "has the labels a,b, and was given a" },
    ["a label too many"] = { 'm.gauge("x", { labels = { "a" } }):set(1, { a = "1", b = "2" })',
      "has the labels a, and was given a,b" },
    ["no labels where some were declared"] = { 'm.gauge("x", { labels = { "a" } }):set(1)',
      "was given none" },
    ["a label that is declared twice"] = { 'm.gauge("x", { labels = { "a", "a" } })',
      "label \"a\" twice" },
    ["a label of a megabyte"] = { 'm.gauge("x"):set(1, { a = ("b"):rep(2 ^ 20) })', "too long" },
    ["an unknown option"] = { 'm.gauge("x", { lables = {} })', 'unknown option "lables"' },
    ["buckets that do not grow"] = { 'm.histogram("x", { buckets = { 2, 1 } })', "larger than" },
    ["no buckets"] = { 'm.histogram("x", { buckets = {} })', "1 to 12" },
    ["too many names"] = { 'for i = 1, 300 do m.gauge("x" .. i) end', "there are 200 already" },
  } do
    it(what .. " is an error of the script, with its place", run.case(function()
      local path = moondog.script('local m = require("moondog").metrics\n' .. case[1] .. "\n")
      local dog = moondog.start { "check", path }
      dog:wait_exit(1, 10)
      local text = dog:text()
      assert.matches("script%d+%.lua:2: ", text)
      assert.matches(case[2], text)
    end))
  end
end)

describe("series without end", function()
  it("are refused beyond the cap, counted, and reported once", run.case(function()
    local dog, act = start [[
      A = m.counter("many")
      B = m.gauge("other")
    ]]
    assert.equals("1000 500 too_many_series", act [[
      local taken, refused, code = 0, 0, nil
      for i = 1, 1500 do
        local ok, err = A:add(1, { user = "u" .. i })
        if ok then taken = taken + 1 else refused, code = refused + 1, err.code end
      end
      return taken, refused, code
    ]])
    -- What is there goes on.
    assert.equals("true nil too_many_series", act [[
      return A:add(1, { user = "u7" }), B:set(1)
    ]])
    local samples = health.metrics(dog)
    assert.equals(1000, health.sum(samples, "moondog_metric_series"))
    assert.equals(501, health.sum(samples, "moondog_metric_refused_total"))
    assert.equals(1001, health.sum(samples, "many_total"))
    assert.equals(2, health.sum(samples, "many_total", { user = "u7" }))
    local told = dog:find_logs("^metric refused$")
    assert.equals(1, #told)
    assert.equals("too_many_series", told[1].code)
    assert.equals("warn", told[1].level)
    assert.matches("many_total{user=\"u1001\"}", told[1].error)
  end))

  it("of one metric are free again when it goes", run.case(function()
    local dog, act, server = start [[ A = m.counter("many") ]]
    act 'for i = 1, 1000 do A:add(1, { user = "u" .. i }) end'
    assert.equals(1000, health.metric(dog, "moondog_metric_series"))
    dog:reload(SCRIPT .. [[ B = m.gauge("other") ]], { URL = server.url })
    run.wait_until(function() return health.metric(dog, "moondog_metric_series") == 0 end, 5,
      "no series")
    assert.equals("true", act "return B:set(1)")
    assert.equals(1, health.metric(dog, "other"))
  end))
end)
