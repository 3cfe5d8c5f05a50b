-- What a script can say and hear: seen by a witness that shares no code with moondog.
local moondog = require "support.moondog"
local nats_server = require "support.nats_server"
local proxy = require "support.proxy"
local run = require "support.run"

local HEAD = [[
local moondog = require "moondog"
local c = moondog.connect { name = "talker", servers = { $URL }, $OPTIONS }
]]

-- Runs a script and returns it with its server and a witness, connected and subscribed.
local function start(body, options, values)
  local server = nats_server.start()
  values = values or {}
  values.URL = values.URL and values.URL(server) or server.url
  local text = HEAD:gsub("%$OPTIONS", options or "") .. body
  local dog = moondog.run(text, values)
  dog:wait_log("^connected$")
  local witness = server:connect()
  return dog, witness, server
end

-- Waits until the server knows the script's subscription to the subject.
local function subscribed(server, pattern, count)
  run.wait_until(function() return server:subscriptions(pattern) == (count or 1) end, 5,
    "the subscription " .. pattern)
end

local function collect(sub, count)
  run.wait_until(function() return sub.count >= count end, 5, function()
    return ("%d messages, there are %d"):format(count, sub.count)
  end)
  local data = {}
  for i, msg in ipairs(sub.messages) do
    data[i] = msg.data
  end
  return data
end

describe("subscriptions", function()
  it("take wildcards", run.case(function()
    local _, witness, server = start [[
      c:subscribe("one.*.end", function(msg) c:publish("out", "star " .. msg.subject) end)
      c:subscribe("two.>", function(msg) c:publish("out", "rest " .. msg.subject) end)
    ]]
    subscribed(server, "^two%.>$")
    local out = witness:subscribe("out")
    for _, subject in ipairs { "one.a.end", "one.a.b.end", "one.end", "two.x", "two.x.y", "two" } do
      witness:publish(subject, "")
    end
    assert.same({ "star one.a.end", "rest two.x", "rest two.x.y" }, collect(out, 3))
  end))

  it("share the work of a queue group", run.case(function()
    local _, witness, server = start [[
      for i = 1, 3 do
        c:subscribe("work", function(msg) c:publish("done", i .. " " .. msg.data) end,
          { queue = "workers" })
      end
    ]]
    subscribed(server, "^work$", 3)
    local done = witness:subscribe("done")
    for i = 1, 60 do
      witness:publish("work", tostring(i))
    end
    local workers, numbers = {}, {}
    for _, line in ipairs(collect(done, 60)) do
      local worker, number = line:match("(%d+) (%d+)")
      workers[worker], numbers[number] = true, true
    end
    witness:flush()
    assert.equals(60, done.count)
    local distinct = 0
    for _ in pairs(numbers) do
      distinct = distinct + 1
    end
    assert.equals(60, distinct)
    assert.is_true(workers["1"] and workers["2"] and workers["3"], "each member had some")
  end))

  it("end after max messages", run.case(function()
    local _, witness, server = start [[
      c:subscribe("few", function(msg) c:publish("out", msg.data) end, { max = 3 })
      c:subscribe("mark", function(msg) c:publish("out", "mark") end)
    ]]
    subscribed(server, "^few$")
    local out = witness:subscribe("out")
    for i = 1, 5 do
      witness:publish("few", tostring(i))
    end
    witness:publish("mark", "")
    assert.same({ "1", "2", "3", "mark" }, collect(out, 4))
    subscribed(server, "^few$", 0)
  end))

  it("end when they are unsubscribed, and can be made in a handler", run.case(function()
    local _, witness, server = start [[
      local sub
      sub = c:subscribe("on", function(msg)
        sub:unsubscribe()
        c:subscribe("other", function(m) m:respond("other") end)
        msg:respond("off")
      end)
    ]]
    subscribed(server, "^on$")
    assert.equals("off", witness:request("on", "", 5).data)
    assert.equals("other", witness:wait_answer("other", "", 5).data)
    local _, err = witness:request("on", "", 5)
    assert.equals("no responders", err)
  end))

  it("that are drained handle what has arrived", run.case(function()
    local _, witness, server = start [[
      local sub
      sub = c:subscribe("drained", function(msg)
        moondog.sleep(0.01)
        c:publish("out", msg.data)
      end)
      c:subscribe("drain", function(msg) sub:drain() msg:respond("ok") end)
    ]]
    subscribed(server, "^drain$")
    local out = witness:subscribe("out")
    for i = 1, 100 do
      witness:publish("drained", tostring(i))
    end
    assert.equals("ok", witness:request("drain", "", 5).data)
    assert.equals(100, #collect(out, 100))
    subscribed(server, "^drained$", 0)
  end))
end)

describe("messages", function()
  it("carry subject, data, reply and headers both ways", run.case(function()
    local _, witness, server = start [[
      c:subscribe("show", function(msg)
        c:publish("shown", ("%s|%s|%s|%s"):format(msg.subject, msg.data, tostring(msg.reply),
          tostring(msg.headers.colour)), { headers = { shape = "round" }, reply = "back" })
      end)
    ]]
    subscribed(server, "^show$")
    local shown = witness:subscribe("shown")
    witness:publish("show", "a\0b", { reply = "re", headers = { colour = "red" } })
    witness:publish("show", "")
    assert.same({ "show|a\0b|re|red", "show||nil|nil" }, collect(shown, 2))
    assert.equals("round", shown.messages[1].headers.shape)
    assert.equals("back", shown.messages[1].reply)
  end))

  it("keep their order and their bytes, large and small", run.case(function()
    local _, witness, server = start [[
      c:subscribe("bytes", function(msg) c:publish("out", msg.data) end)
    ]]
    subscribed(server, "^bytes$")
    local out = witness:subscribe("out")
    local sent = {}
    for i, size in ipairs { 0, 1, 1000, 32768, 100000, 1048000, 10 } do
      sent[i] = string.char(i):rep(size)
      witness:publish("bytes", sent[i])
    end
    assert.is_true(table.concat(collect(out, #sent), "|") == table.concat(sent, "|"))
  end))

  it("of one turn keep their order, whatever is between them, and nothing has to follow", run.case(function()
    local _, witness, server = start [[
      c:subscribe("go", function()
        for i = 1, 2000, 4 do
          c:publish("out", i .. "")
          c:publish("out", i + 1 .. "\0")
          c:publish("out", i + 2 .. "", { reply = "back" })
          if i % 100 == 1 then c:subscribe("between." .. i, print) end
          c:publish("out", i + 3 .. "", { headers = { number = i + 3 .. "" } })
        end
        c:subscribe("last", print)
      end)
    ]]
    subscribed(server, "^go$")
    local out = witness:subscribe("out")
    witness:publish("go", "")
    for i, data in ipairs(collect(out, 2000)) do
      assert.equals(i % 4 == 2 and i .. "\0" or i .. "", data)
      assert.equals(i % 4 == 3 and "back" or nil, out.messages[i].reply)
      assert.equals(i % 4 == 0 and i .. "" or nil, (out.messages[i].headers or {}).number)
    end
    subscribed(server, "^last$")
  end))

  it("are over when their handler is, unless they are retained", run.case(function()
    local dog, witness, server = start [[
      local kept
      c:subscribe("keep", function(msg) kept = msg:retain() end)
      c:subscribe("lose", function(msg)
        local lost = msg
        moondog.after(0.05, function() print("lost", pcall(function() return lost.data end)) end)
      end)
      c:subscribe("look", function(msg) msg:respond(kept.subject .. " " .. kept.data) end)
      c:subscribe("wait", function(msg) moondog.sleep(0.05) msg:respond(msg.data) end)
    ]]
    subscribed(server, "^look$")
    witness:publish("keep", "kept")
    witness:publish("lose", "lost")
    dog:wait_log("^lost\tfalse\t.*retain", 5)
    assert.equals("keep kept", witness:request("look", "", 5).data)
    assert.equals("x", witness:request("wait", "x", 5).data)
    assert.equals(0, #dog:find_logs("^handler failed$"))
  end))
end)

describe("publish", function()
  it("returns an error for what the server does not take", run.case(function()
    local dog = start [[
      c:subscribe("x", function() end)
      moondog.on_start(function()
        local ok, err
        repeat
          moondog.sleep(0.01)
          ok, err = c:flush(1)
        until ok
        ok, err = c:publish("big", ("x"):rep(2 ^ 20 + 1))
        print("big", ok, err and err.code)
        for _, subject in ipairs { "", "a b", "a..b", ".a", "a.", "a.*", "a.>", "a\r\nb" } do
          local fine, result, e = pcall(c.publish, c, subject, "x")
          print("subject", fine and result, type(fine and e or result))
        end
        print("done")
      end)
    ]]
    dog:wait_log("^done$", 10)
    dog:wait_log("^big\tnil\ttoo_large$", 1)
    assert.equals(8, #dog:find_logs("^subject\t"))
    assert.equals(0, #dog:find_logs("^subject\ttrue"))
    assert.equals(0, #dog:find_logs("^closed$"))
  end))

  it("sees itself, or does not with no_echo", run.case(function()
    local body = [[
      c:subscribe("self", function() c:publish("out", "echo") end)
      c:subscribe("go", function() c:publish("self", "x") c:publish("out", "sent") end)
    ]]
    for option, expected in pairs { ["no_echo = false"] = 2, ["no_echo = true"] = 1 } do
      local dog, witness, server = start(body, option)
      subscribed(server, "^go$")
      local out = witness:subscribe("out")
      witness:publish("go", "")
      collect(out, expected)
      run.holds(function() return out.count == expected end, 0.3, option .. " gives " .. expected)
      assert.is_true(dog:running())
    end
  end))
end)

describe("requests", function()
  local ASK = [[
    c:subscribe("ask", function(msg)
      local start = moondog.now()
      local answer, err = c:request(msg.data, "question", { timeout = 0.3,
        headers = { from = "talker" } })
      msg:respond(("%s %s %s"):format(answer and answer.data or "nil",
        answer and tostring(answer.headers.mood) or "nil", err and err.code or "nil"))
    end)
  ]]

  it("get their answer with its headers", run.case(function()
    local _, witness, server = start(ASK)
    subscribed(server, "^ask$")
    witness:subscribe("oracle", function(msg)
      witness:publish(msg.reply, msg.data .. " by " .. msg.headers.from,
        { headers = { mood = "good" } })
    end)
    witness:flush()
    assert.equals("question by talker good nil", witness:request("ask", "oracle", 5).data)
  end))

  it("fail at once when nobody listens, and in time when nobody answers", run.case(function()
    local _, witness, server = start(ASK)
    subscribed(server, "^ask$")
    assert.equals("nil nil no_responders", witness:request("ask", "nobody", 5).data)
    witness:subscribe("mute", function() end)
    witness:flush()
    local begun_at = run.now()
    assert.equals("nil nil timeout", witness:request("ask", "mute", 5).data)
    assert.is_true(run.now() - begun_at >= 0.25)
  end))

  it("fail at once when the link is lost", run.case(function()
    local way
    local dog, witness, server = start([[
      c:subscribe("ask", function()
        local _, err = c:request("mute", "x", { timeout = 60 })
        print("lost", err.code)
      end)
    ]], "library_reconnect = true", { URL = function(server)
      way = proxy.start(server)
      return way.url
    end })
    subscribed(server, "^ask$")
    local mute = witness:subscribe("mute")
    witness:publish("ask", "")
    run.wait_until(function() return mute.count == 1 end, 5, "the request")
    way:lock()
    way:reset()
    dog:wait_log("^lost\tdisconnected$", 5)
  end))

  it("run side by side and never hold up the loop", run.case(function()
    local _, witness, server = start [[
      c:subscribe("many", function(msg)
        local open = 100
        for i = 1, 100 do
          moondog.spawn(function()
            local answer = assert(c:request("double", tostring(i), { timeout = 5 }))
            c:publish("sum", answer.data)
          end)
        end
      end)
      c:subscribe("ping", function(msg) msg:respond("pong") end)
    ]]
    subscribed(server, "^ping$")
    local asked = {}
    witness:subscribe("double", function(msg) asked[#asked + 1] = msg end)
    local sums = witness:subscribe("sum")
    witness:publish("many", "")
    run.wait_until(function() return #asked == 100 end, 5, "all requests at once")
    assert.equals("pong", witness:request("ping", "", 5).data)
    for i = #asked, 1, -1 do
      witness:publish(asked[i].reply, tostring(2 * tonumber(asked[i].data)))
    end
    local total = 0
    for _, data in ipairs(collect(sums, 100)) do
      total = total + tonumber(data)
    end
    assert.equals(10100, total)
  end))
end)

describe("flush, drain and close", function()
  it("flush returns when the server has everything", run.case(function()
    local _, witness, server = start [[
      c:subscribe("go", function(msg)
        for i = 1, 100 do c:publish("out", tostring(i)) end
        local ok, err = c:flush(5)
        msg:respond(tostring(ok) .. " " .. tostring(err))
      end)
    ]]
    subscribed(server, "^go$")
    local out = witness:subscribe("out")
    assert.equals("true nil", witness:request("go", "", 5).data)
    assert.equals(100, out.count) -- they came before the answer
  end))

  it("drain handles what has arrived, publishes, and closes", run.case(function()
    local dog, witness, server = start([[
      c:subscribe("item", function(msg) moondog.sleep(0.005) c:publish("out", msg.data) end)
      c:subscribe("drain", function() c:drain() end)
      moondog.every(0.02, function(t) print("state " .. c:status().state) end)
    ]])
    subscribed(server, "^drain$")
    local out = witness:subscribe("out")
    for i = 1, 100 do
      witness:publish("item", tostring(i))
    end
    witness:publish("drain", "")
    assert.equals(100, #collect(out, 100))
    dog:wait_log("^state stopped$", 10)
    run.wait_until(function() return #server:clients() == 0 end, 5, "no link")
  end))

  it("a closed connection says so, and stays closed", run.case(function()
    local dog, witness, server = start [[
      c:subscribe("close", function()
        c:close()
        local ok, err = c:publish("x", "y")
        print("publish", ok, err.code)
        local answer
        answer, err = c:request("x", "y")
        print("request", answer, err.code)
        ok, err = c:subscribe("z", function() end)
        print("subscribe", ok, err.code)
        ok, err = c:flush(1)
        print("flush", ok, err.code)
        print("state", c:status().state)
      end)
    ]]
    subscribed(server, "^close$")
    witness:publish("close", "")
    dog:wait_log("^state\tstopped$", 5)
    for _, call in ipairs { "publish", "request", "subscribe", "flush" } do
      assert.equals(1, #dog:find_logs("^" .. call .. "\tnil\tclosed$"), call)
    end
    run.wait_until(function() return #server:clients() == 0 end, 5, "no link")
    run.holds(function() return #server:clients() == 0 end, 0.5, "it stays closed")
    assert.equals(0, #dog:find_logs("^reconnected$"))
  end))
end)

describe("timers and tasks", function()
  it("come in time, repeat, and can be cancelled", run.case(function()
    local dog = start [[
      local repeated, cancelled = 0, 0
      local t
      t = moondog.every(0.02, function()
        repeated = repeated + 1
        if repeated == 5 then t:cancel() end
      end)
      local never = moondog.after(0.05, function() cancelled = cancelled + 1 end)
      never:cancel()
      moondog.after(0.01, function() print("after") end)
      moondog.spawn(function(a, b)
        local start = moondog.now()
        moondog.sleep(0.3)
        print("slept", moondog.now() - start >= 0.29, a, b)
        print("repeated", repeated, "cancelled", cancelled)
      end, 1, "two")
    ]]
    dog:wait_log("^after$", 5)
    dog:wait_log("^slept\ttrue\t1\ttwo$", 5)
    dog:wait_log("^repeated\t5\tcancelled\t0$", 5)
  end))

  it("that raise are reported, and a repeating one goes on", run.case(function()
    local dog = start [[
      local count = 0
      moondog.every(0.01, function()
        count = count + 1
        if count < 3 then error("tick " .. count) end
        if count == 3 then print("goes on") end
      end)
      moondog.spawn(function() moondog.sleep(0.01) error("task fails") end)
    ]]
    dog:wait_log("^goes on$", 5)
    local failed = dog:wait_log("^timer failed$", 5)
    assert.matches("script%d+%.lua:%d+: tick 1", failed.error)
    local task = dog:wait_log(function(entry)
      return type(entry.error) == "string" and entry.error:find("task fails") ~= nil
    end, 5)
    assert.matches("script%d+%.lua:%d+", task.traceback)
  end))
end)
