-- Watching a gateway at work: moondog top.
local cjson = require "cjson"
local moondog = require "support.moondog"
local nats_server = require "support.nats_server"
local run = require "support.run"
local terminal = require "support.terminal"

local SCRIPT = [[
local moondog = require "moondog"
local c = moondog.connect { name = "gateway", servers = { $URL } }
c:subscribe("quick", function(msg) msg:respond("") end)
c:subscribe("slow", function(msg) moondog.sleep(0.05) msg:respond("") end, { queue = "workers" })
c:subscribe("bad", function(msg) error("no") end)
for i = 1, $FILLERS do c:subscribe("filler." .. i, function() end) end
]]

local function start(fillers, server)
  server = server or nats_server.start()
  local dog = moondog.run(SCRIPT, { URL = server.url, FILLERS = fillers or 0 }, { args = { "--name", "gateway" } })
  dog:wait_log("^connected$")
  return dog, server
end

local function top(code, ...)
  local p = moondog.start { "top", ... }
  p:wait_exit(code, 15)
  return p:text("stdout"), p:text("stderr")
end

local function by_subject(list)
  local index = {}
  for _, s in ipairs(list) do index[s.subject] = s end
  return index
end

describe("moondog top", function()
  it("prints one view where there is no terminal", run.case(function()
    local _, server = start()
    local witness = server:connect()
    for _ = 1, 20 do witness:wait_answer("quick", "", 5) end
    witness:wait_answer("slow", "", 5)
    witness:publish("bad", "")
    witness:flush(5)
    local text = top(0, "gateway", "--interval", "0.1")
    for _, wanted in ipairs { "^gateway %(pid %d+", "\ngeneration 1: ", "CONNECTION +STATE",
      "\ngateway +up +%- +1 +start",
      "\nquick +%- +%d+ +20 ", "\nslow +workers +%d+ +1 +[%d.]+ms +[%d.]+ms", "\nbad +%- +%d+ +1 [^\n]* 1 +0 +0" } do
      assert.matches(wanted, text)
    end
    local views = {}
    for line in (top(0, "--json", "--count", "3", "--interval", "0.05") .. "\n"):gmatch("([^\n]+)\n") do
      views[#views + 1] = cjson.decode(line)
    end
    assert.equals(3, #views)
    local subscriptions = by_subject(views[3].connections[1].subscriptions)
    assert.equals(20, subscriptions.quick.handled)
    assert.equals(0, subscriptions.quick.rate)
    assert.is_true(subscriptions.slow.latency.p50 >= 0.05)
    assert.is_true(subscriptions.quick.latency.samples == 20)
    local _, err = top(1, "nobody")
    assert.matches('no moondog runs as "nobody"', err)
  end))

  it("lists so many subscriptions, and says how many there are", run.case(function()
    local dog = start(5000)
    local status = cjson.decode((top(0, "--json", "--interval", "0.05")))
    local c = status.connections[1]
    assert.equals(5003, c.subscriptions_total)
    assert.equals(1000, #c.subscriptions)
    assert.equals("filler.5000", c.subscriptions[1000].subject)
    assert.matches("4003 more subscriptions are not listed", (top(0, "--interval", "0.05")))
    assert.is_true(dog:running())
  end))

  it("is a view of the whole screen on a terminal, which follows the process", run.case(function()
    local dog, server = start(100)
    local t = terminal.start { file = moondog.program(), columns = 120, rows = 20,
      args = { "top", "gateway", "--interval", "0.1" } }
    t:wait_screen("^gateway %(pid %d+[^\n]*\ngeneration 1")
    t:wait_screen("1 to 11 of 103$")
    local witness = server:connect()
    local sending = true
    run.spawn(function()
      while sending do witness:wait_answer("quick", "", 5) end
    end)
    t:wait_screen("SUBSCRIPTION[^\n]*\nquick +%- +%d+") -- the busiest comes first
    t:key("NPage")
    t:wait_screen("11 to 21 of 103$")
    t:key("Home", "s", "s", "s", "s")
    t:wait_screen("by name, 1 to 11 of 103$")
    t:wait_screen("SUBSCRIPTION[^\n]*\nbad ")
    t:resize(60, 12)
    t:wait_screen(function(rows) return #rows == 12 and rows[12]:find("by name, 1 to 3", 1, true) end)
    sending = false
    dog:signal("sigterm")
    dog.process:wait_exit(10)
    t:wait_screen("^nothing answers at")
    start(0, server)
    t:wait_screen("^gateway %(pid")
    t:key("q")
    assert.equals(0, (t:wait_exit(5)))
  end))

  it("puts the terminal back at Ctrl-C", run.case(function()
    start()
    local t = terminal.start { file = "/bin/sh", args = { "-c", moondog.program() .. " top; stty -a; echo over" } }
    t:wait_screen("SUBSCRIPTION")
    t:key("C-c")
    t:wait_screen(" icanon[^\n]* echo ")
    t:wait_screen("over")
  end))
end)
