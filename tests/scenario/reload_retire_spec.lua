-- What a generation has begun when it is replaced is finished, under a deadline; then it sees an
-- error. Nothing of it stays, however often a script is reloaded.
local moondog = require "support.moondog"
local nats_server = require "support.nats_server"
local run = require "support.run"

local BASE = [[
local moondog = require "moondog"
local c = moondog.connect { servers = { $URL } }
c:subscribe("who", function(msg) msg:respond($WHO) end)
]]

local function start(text, values, options)
  local server = nats_server.start()
  values = values or {}
  values.URL, values.WHO = server.url, values.WHO or "one"
  local dog = moondog.run(text, values, options)
  local witness = server:connect()
  witness:wait_answer("who", "", 5)
  return dog, witness, server, values
end

describe("a generation that was replaced", function()
  it("finishes what waits: sleeps, requests, responses", run.case(function()
    local dog, witness, server = start(BASE .. [[
      c:subscribe("slow", function(msg)
        print("begun")
        moondog.sleep(0.3)
        local answer = c:request("who", "")
        msg:respond("old, and now " .. answer.data)
        c:publish("after", "published")
      end)
      c:subscribe("ask", function(msg)
        print("asked")
        local answer, err = c:request("witness", "")
        msg:respond(answer and answer.data or err.code)
      end)
    ]])
    local asked = witness:subscribe("witness")
    local slow, ask = witness:subscribe("reply.slow"), witness:subscribe("reply.ask")
    local after = witness:subscribe("after")
    witness:publish("slow", "", { reply = "reply.slow" })
    witness:publish("ask", "", { reply = "reply.ask" })
    dog:wait_log("^begun$")
    run.wait_until(function() return #asked.messages == 1 end, 5, "the request")
    assert.equals("script reloaded", dog:reload(BASE, { URL = server.url, WHO = "two" }).msg)
    witness:publish(asked.messages[1].reply, "answered")
    run.wait_until(function() return #slow.messages == 1 and #ask.messages == 1 end, 5, "both answers")
    assert.equals("old, and now two", slow.messages[1].data)
    assert.equals("answered", ask.messages[1].data)
    run.wait_until(function() return #after.messages == 1 end, 5, "what it published")
  end))

  it("is told when its time is over, and cannot wait on", run.case(function()
    local dog, witness, server = start(BASE .. [[
      moondog.spawn(function()
        print("sleep", moondog.sleep(60))
        print("again", pcall(moondog.sleep, 60))
      end)
      moondog.spawn(function()
        local ok, err = moondog.sleep(60)
        print("code", ok, err.code)
        while true do pcall(moondog.sleep, 1) end
      end)
      c:subscribe("none", function() end)
      c:subscribe("ask", function()
        print("asking")
        local answer, err = c:request("none", "", { timeout = 60 })
        print("request", answer, err.code)
      end)
    ]], {}, { args = { "--retire", "0.3" } })
    witness:publish("ask", "")
    dog:wait_log("^asking$", 5)
    dog:reload(BASE, { URL = server.url, WHO = "two" })
    dog:wait_log("^sleep\tnil\tthis generation of the script was replaced", 5)
    dog:wait_log("^again\tfalse\t.*%.lua:%d+: moondog.sleep waits", 5)
    dog:wait_log("^code\tnil\treplaced$", 5)
    dog:wait_log("^request\tnil\treplaced$", 5)
    dog:wait_log(function(entry) return entry.msg == "task failed" and entry.over_budget end, 5)
  end))

  it("cannot change what belongs to the next one", run.case(function()
    local dog, witness, server = start(BASE .. [[
      c:subscribe("begin", function()
        c:request("replaced", "", { timeout = 30 })
        for what, f in pairs {
          close = function() c:close() end, drain = function() c:drain() end,
          reconnect = function() c:reconnect() end,
          subscribe = function() c:subscribe("x", function() end) end,
          connect = function() moondog.connect { name = "x" } end,
          every = function() moondog.every(1, function() end) end,
          reload = function() moondog.reload() end,
        } do
          local ok, err = pcall(f)
          print("refused", what, ok, err)
        end
        print("published", c:publish("fine", ""))
        moondog.spawn(function() print("spawned") end)
      end)
    ]])
    local waiting = witness:subscribe("replaced")
    witness:publish("begin", "")
    run.wait_until(function() return waiting.messages[1] end, 5, "a task that waits")
    dog:reload(BASE, { URL = server.url, WHO = "two" })
    witness:publish(waiting.messages[1].reply, "")
    dog:wait_log("^published\ttrue$", 5)
    dog:wait_log("^spawned$", 5)
    local refused = dog:find_logs("^refused")
    assert.equals(7, #refused)
    for _, entry in ipairs(refused) do
      assert.matches("\tfalse\t.*was replaced by another", entry.msg)
    end
    assert.equals("two", witness:wait_answer("who", "", 5).data)
  end))

  it("with a thousand parked requests lets all of them be answered", run.case(function()
    local dog, witness, server = start(BASE .. [[
      c:subscribe("ask", function(msg)
        local answer, err = c:request("witness", msg.data, { timeout = 20 })
        c:publish("done", answer and answer.data or err.code)
      end)
    ]])
    local asked, done = witness:subscribe("witness"), {}
    witness:subscribe("done", function(msg) done[#done + 1] = msg.data end)
    for i = 1, 1000 do witness:publish("ask", tostring(i)) end
    run.wait_until(function() return #asked.messages == 1000 end, 10, "a thousand requests")
    dog:reload(BASE, { URL = server.url, WHO = "two" })
    assert.equals("two", witness:wait_answer("who", "", 5).data)
    for _, msg in ipairs(asked.messages) do witness:publish(msg.reply, msg.data) end
    run.wait_until(function() return #done == 1000 end, 10, "a thousand answers")
    table.sort(done, function(a, b) return tonumber(a) < tonumber(b) end)
    for i = 1, 1000 do assert.equals(tostring(i), done[i]) end
  end))

  it("whose tasks never end gives way to those that follow", run.case(function()
    local text = BASE .. 'moondog.spawn(function() moondog.sleep(600) print("cancelled") end)'
    local dog, witness, server = start(text, {}, { args = { "--retire", "600" } })
    for i = 1, 20 do
      assert.equals("script reloaded", dog:reload(text, { URL = server.url, WHO = tostring(i) }).msg)
    end
    dog:wait_log("^cancelled$", 5, 4)
    assert.equals("20", witness:wait_answer("who", "", 5).data)
  end))

  it("gives back what a large heap held, in slices", run.case(function()
    local dog, witness, server = start(BASE .. [[
      local t = {}
      moondog.on_start(function()
        for i = 1, 200 do
          for j = 1, 1000 do t[#t + 1] = { i .. "text" .. j } end
          moondog.sleep(0)
        end
        print("full", collectgarbage("count") > 10000)
      end)
    ]], {}, { args = { "--budget", "5000" } })
    dog:wait_log("^full\ttrue$", 20)
    local rss = dog:rss()
    dog:reload(BASE .. [[
      local worst, last = 0, nil
      moondog.every(0.005, function()
        local now = moondog.now()
        worst, last = math.max(worst, now - (last or now) - 0.005), now
      end)
      c:subscribe("worst", function(msg) msg:respond(tostring(worst)) end)
    ]], { URL = server.url, WHO = "two" })
    run.wait_until(function() return dog:rss() < rss - 8 * 2 ^ 20 or moondog.sanitized() end, 10,
      "memory that came back")
    run.figure("worst lateness of a 5 ms timer meanwhile",
      tonumber(witness:wait_answer("worst", "", 5).data) * 1000, "ms")
  end))
end)

describe("reloads", function()
  it("that are asked for at once are one after the other, and the last wins", run.case(function()
    local dog, witness, server = start(BASE .. [[
      c:subscribe("all", function()
        for i = 1, 10 do
          moondog.spawn(function()
            print("asking")
            print("reloaded", moondog.reload())
          end)
        end
      end)
    ]])
    dog:rewrite(BASE, { URL = server.url, WHO = "two" })
    witness:publish("all", "")
    dog:wait_log("^asking$", 5, 10)
    for _ = 1, 10 do dog:signal("sighup") end
    dog:wait_log("^reloaded\t%d+$", 5, 10)
    assert.equals("two", witness:wait_answer("who", "", 5).data)
    assert.equals(0, #dog:find_logs("^reload failed$"))
    assert.is_true(#dog:find_logs("^script reloaded$") < 20)
  end))
end)

describe("--probation", function()
  local BAD = BASE .. 'c:subscribe("work", function(msg) error("broken") end)'
  local GOOD = BASE .. 'c:subscribe("work", function(msg) msg:respond("done") end)'

  it("brings the generation before back when too many handlers fail", run.case(function()
    local dog, witness, server = start(GOOD, {}, { args = { "--probation", "60" } })
    dog:reload(BAD, { URL = server.url, WHO = "two" })
    for _ = 1, 10 do witness:publish("work", "") end
    dog:wait_log("^generation failed its probation", 5)
    dog:wait_log("^script reloaded$", 5, 2)
    assert.equals("one", witness:wait_answer("who", "", 5).data)
    assert.equals("done", witness:wait_answer("work", "", 5).data)
    -- The bad text is still in the file, and a reload takes it.
    assert.equals("script reloaded", dog:reload().msg)
    assert.equals("two", witness:wait_answer("who", "", 5).data)
  end))

  it("brings the generation before back when the script fails at its start", run.case(function()
    local dog, witness, server = start(GOOD, {}, { args = { "--probation", "60" } })
    dog:reload(BASE .. 'moondog.on_start(function() moondog.sleep(0.01) error("broken") end)',
      { URL = server.url, WHO = "two" })
    dog:wait_log("^generation failed its probation", 5)
    dog:wait_log("^script reloaded$", 5, 2)
    assert.equals("one", witness:wait_answer("who", "", 5).data)
  end))

  it("lets a generation pass that fails seldom", run.case(function()
    local dog, witness, server = start(GOOD, {}, { args = { "--probation", "0.5" } })
    dog:reload(BASE .. [[
      local n = 0
      c:subscribe("work", function(msg) n = n + 1; if n % 50 == 0 then error("seldom") end end)
    ]], { URL = server.url, WHO = "two" })
    for _ = 1, 400 do witness:publish("work", "") end
    dog:wait_log("^probation passed$", 5)
    assert.equals("two", witness:wait_answer("who", "", 5).data)
  end))

  it("does not take back what came after the generation that failed", run.case(function()
    local dog, witness, server = start(GOOD, {}, { args = { "--probation", "60", "--load-budget", "30000" } })
    dog:reload(BAD, { URL = server.url, WHO = "two" })
    -- A repaired script is being loaded while the broken one fails its probation.
    dog:rewrite(GOOD .. " local stop = os.clock() + 0.4 while os.clock() < stop do end",
      { URL = server.url, WHO = "three" })
    dog:signal("sighup")
    for _ = 1, 10 do witness:publish("work", "") end
    dog:wait_log("^generation failed its probation", 5)
    dog:wait_log("^script reloaded$", 5, 2)
    run.holds(function() return #dog:find_logs("^script reloaded$") == 2 end, 0.5, "nothing is taken back")
    assert.equals("three", witness:wait_answer("who", "", 5).data)
  end))

  it("leaves nothing of the generation that failed to go back to", run.case(function()
    local dog, witness, server = start(GOOD, {}, { args = { "--probation", "60", "--name", "gateway" } })
    dog:reload(BAD, { URL = server.url, WHO = "two" })
    for _ = 1, 10 do witness:publish("work", "") end
    dog:wait_log("^script reloaded$", 5, 2)
    moondog.start({ "reload", "--previous", "gateway" }):wait_exit(0, 10)
    assert.equals("one", witness:wait_answer("who", "", 5).data)
  end))
end)
