-- C code that embeds moondog publishes, asks and subscribes over the connections of the script, without Lua: what
-- is done for the script's own messages is done for these, too.
local host = require "support.host"
local http = require "support.http"
local nats_server = require "support.nats_server"
local network = require "support.network"
local run = require "support.run"

local SCRIPT = [[
local moondog = require "moondog"
local c
c = moondog.connect { name = "gateway", servers = { $URL }, reconnect = function() return 0.02 end }
c:subscribe("script.echo", function(msg) msg:respond(msg.data) end)
c:subscribe("script.silent", function() end)
c:subscribe("script.back", function(msg) c:publish("back", msg.data) end)
c:subscribe("script.close", function() c:close() end)
]]

local function start(config, argument)
  local server = nats_server.start(config)
  local program = host.start(SCRIPT, { URL = server.url }, argument)
  program:wait_log("^connected$")
  return server, program, server:connect()
end

local function wait_subscribed(server, subject, count)
  local pattern = "^" .. subject:gsub("%p", "%%%0") .. "$"
  run.wait_until(function() return server:subscriptions(pattern) == (count or 1) end, 5, "subscribed to " .. subject)
end

local function refused(code, program, ...)
  local ok, got, message = program:ask(...)
  assert.is_nil(ok)
  assert.equals(code, got)
  return message
end

for _, way in ipairs { "run", "poll" } do
  describe("the host that calls md_" .. way .. "()", function()
    local argument = way == "poll" and "poll" or nil

    it("publishes, in order and with headers", run.case(function()
      local _, program, witness = start(nil, argument)
      local out = witness:subscribe("out.>")
      witness:flush()
      program:tell("publish", "gateway", "out.one", "answer.here", "with a header", "Colour", "light green")
      program:tell("publish", "-", "out.two", "-", "without")
      program:tell("flow", "-", "out.numbers", "1", "1000")
      run.wait_until(function() return #out.messages == 1002 end, 5, "1002 messages")
      local first, second = out.messages[1], out.messages[2]
      assert.equals("out.one", first.subject)
      assert.equals("answer.here", first.reply)
      assert.equals("with a header", first.data)
      assert.equals("light green", first.headers.Colour or first.headers.Colour[1])
      assert.equals("without", second.data)
      assert.is_nil(second.reply)
      for i = 1, 1000 do assert.equals(tostring(i), out.messages[i + 2].data) end
    end))

    it("is told what is wrong with a message", run.case(function()
      local server, program = start({ max_payload = 1024 }, argument)
      assert.matches("larger", refused("too_large", program, "publish", "-", "a", "-", ("x"):rep(2000)))
      assert.matches("empty token", refused("invalid_subject", program, "publish", "-", "a..b", "-", "x"))
      assert.matches("without a subject", refused("invalid_subject", program, "publish", "-", "-", "-", "x"))
      assert.matches("nothing can be published", refused("invalid_subject", program, "publish", "-", "a.*", "-", "x"))
      assert.matches("no connection \"other\"", refused("no_connection", program, "publish", "other", "a", "-", "x"))
      assert.matches("white space", refused("invalid_header", program, "publish", "-", "a", "-", "x", "a b", "c"))
      assert.matches("invalid_subject", select(2, program:ask("request", "r", "-", "a b", "x", "100")))
      assert.equals("no_connection", select(2, program:ask("request", "r", "other", "a", "x", "100")))
      server:kill()
      program:wait_log("^disconnected$")
      assert.matches("gateway", refused("disconnected", program, "request", "r", "-", "a", "x", "100"))
    end))

    it("needs no script to be told so", run.case(function()
      local program = host.start(nil, nil, argument)
      assert.matches("no script", refused("no_connection", program, "publish", "-", "a", "-", "x"))
      assert.matches("no script", refused("no_connection", program, "request", "r", "gateway", "a", "x", "100"))
      assert.equals("invalid_subject", select(2, program:ask("subscribe", "s", "-", "a b", "-", "print")))
      assert.equals("invalid_subject", select(2, program:ask("subscribe", "s", "-", "a", "q q", "print")))
    end))

    it("may have been built with an older header, and must say which", run.case(function()
      local _, program, witness = start(nil, argument)
      local out = witness:subscribe("out")
      witness:flush()
      program:tell("old", "out")
      local event = program:wait(1, "old")
      assert.equals("usage", event[2])
      assert.matches("size", event[3])
      run.wait_until(function() return #out.messages == 1 end, 5, "a message")
      assert.is_nil(out.messages[1].reply)
      assert.equals("", out.messages[1].data)
    end))

    it("has the script's handlers beside it, once for each message", run.case(function()
      local server, program, witness = start(nil, argument)
      local back = witness:subscribe("back")
      program:tell("subscribe", "one", "-", "script.back", "-", "count")
      wait_subscribed(server, "script.back", 2)
      for i = 1, 2000 do witness:publish("script.back", tostring(i)) end
      run.wait_until(function() return #back.messages == 2000 end, 10, function()
        return "2000 messages, there are " .. #back.messages
      end)
      for i = 1, 2000 do assert.equals(tostring(i), back.messages[i].data) end
      assert.same({ handled = 2000, missing = 0, twice = 0, disordered = 0 }, program:numbers("one", 2000))
    end))

    it("asks, and is told once what came of it", run.case(function()
      local server, program = start(nil, argument)
      wait_subscribed(server, "script.echo")
      program:tell("request", "good", "gateway", "script.echo", "hello", "-")
      assert.equals("hello", program:wait(1, "answer", "good")[4])
      program:tell("request", "nobody", "-", "nobody.there", "hello", "-")
      assert.equals("no_responders", program:wait(1, "failed", "nobody")[3])
      program:tell("request", "late", "-", "script.silent", "hello", "50")
      local late = program:wait(1, "failed", "late")
      assert.equals("timeout", late[3])
      assert.matches("script.silent within 50 ms", late[4])
      program:tell("request", "lost", "-", "script.silent", "hello", "10000")
      assert.equals(1, program:status().host.messages.requests)
      server:kill()
      assert.equals("disconnected", program:wait(1, "failed", "lost")[3])
      server:restart()
      program:wait_log("^reconnected$")
      program:tell("request", "closed", "-", "script.silent", "hello", "10000")
      program:tell("publish", "-", "script.close", "-", "")
      assert.equals("closed", program:wait(1, "failed", "closed")[3])
      run.wait_until(function() return not program:ask("publish", "-", "a", "-", "x") end, 5, "a closed connection")
      refused("closed", program, "publish", "-", "a", "-", "x")
      refused("closed", program, "request", "r", "-", "a", "x", "100")
      assert.equals(5, #program:find("answer") + #program:find("failed"))
    end))

    it("is told of ten thousand requests that fail at once", run.case(function()
      local server, program = start(nil, argument)
      wait_subscribed(server, "script.silent")
      for i = 1, 100 do
        local lines = {}
        for j = 1, 100 do lines[j] = ("request\tmany%d\t-\tscript.silent\tx\t60000"):format(i * 100 + j) end
        program:tell(table.concat(lines, "\n"))
      end
      run.wait_until(function() return #program.answers >= 10001 end, 10, "ten thousand requests")
      program.asked = #program.answers
      server:kill()
      run.wait_until(function() return #program:find("failed") == 10000 end, 10, "ten thousand failures")
      assert.equals("disconnected", program:find("failed")[10000][3])
      assert.is_nil(program:status().host)
    end))

    it("is told of requests that are open when the runtime is freed", run.case(function()
      local server, program = start(nil, argument)
      wait_subscribed(server, "script.silent")
      for i = 1, 100 do program:tell("request", "open" .. i, "-", "script.silent", "hello", "60000") end
      program:tell("subscribe", "one", "-", "a.>", "-", "print")
      program:tell("free")
      program.process:wait_exit(10)
      assert.equals(100, #program:find("failed"))
      for i = 1, 100 do assert.equals("closed", program:find("failed", "open" .. i)[1][3]) end
      assert.equals("0", program:wait(1, "freed")[2])
    end))
  end)
end

describe("a subscription of the host", function()
  it("gets subject, reply, headers and data, and answers", run.case(function()
    local server, program, witness = start()
    program:tell("subscribe", "all", "gateway", "orders.*", "-", "print")
    program:tell("subscribe", "echo", "-", "echo", "-", "echo")
    wait_subscribed(server, "orders.*")
    wait_subscribed(server, "echo")
    witness:publish("orders.new", "plain")
    witness:publish("orders.old", "more", { reply = "back", headers = { Colour = "red", colour = "no" } })
    assert.same({ "message", "all", "orders.new", "-", "-", "plain" }, program:wait(1, "message", "all"))
    assert.same({ "message", "all", "orders.old", "back", "red", "more" }, program:wait(2, "message", "all"))
    local answer = witness:request("echo", "hello", 5)
    assert.equals("hello", answer.data)
    assert.equals(4095, #tostring(answer.headers.Big[1] or answer.headers.Big))
    program:tell("request", "own", "-", "echo", "hi", "-")
    assert.same({ "answer", "own", "green", "hi" }, program:wait(1, "answer", "own"))
    assert.equals(0, #program:find("echo failed"))
  end))

  it("shares the work of a queue group", run.case(function()
    local server, program, witness = start()
    program:tell("subscribe", "one", "-", "work", "workers", "count")
    program:tell("subscribe", "two", "-", "work", "workers", "count")
    program:tell("subscribe", "all", "-", "work", "-", "count")
    wait_subscribed(server, "work", 3)
    for i = 1, 500 do witness:publish("work", tostring(i)) end
    run.wait_until(function() return program:numbers("all", 500).handled == 500 end, 5, "all of it")
    local one, two = program:numbers("one", 500), program:numbers("two", 500)
    assert.equals(500, one.handled + two.handled)
    assert.equals(500, one.missing + two.missing)
    assert.is_true(one.handled > 0 and two.handled > 0)
  end))

  it("may end in its own function, and handles nothing after that", run.case(function()
    local server, program, witness = start()
    program:tell("subscribe", "once", "-", "a", "-", "once")
    program:tell("subscribe", "always", "-", "a", "-", "count")
    program:tell("subscribe", "shortly", "-", "a", "-", "count")
    wait_subscribed(server, "a", 3)
    for i = 1, 100 do witness:publish("a", tostring(i)) end
    run.wait_until(function() return program:numbers("always", 100).handled == 100 end, 5, "all of it")
    assert.equals(1, #program:find("message", "once"))
    assert.equals("1", program:find("message", "once")[1][6])
    program:tell("unsubscribe", "shortly")
    wait_subscribed(server, "a", 1)
    witness:publish("a", "101")
    run.wait_until(function() return program:numbers("always", 101).handled == 101 end, 5, "one more")
    assert.equals(100, program:numbers("shortly", 101).handled)
    assert.equals(1, program:status().host.messages.subscriptions)
  end))

  it("drops the newest at its caps, and counts them", run.case(function()
    local server, program, witness = start()
    program:tell("subscribe", "slow", "-", "slow", "-", "hang", "10")
    wait_subscribed(server, "slow")
    witness:publish("slow", "500")
    for _ = 1, 1000 do witness:publish("slow", "0") end
    witness:flush()
    local one = run.wait_until(function()
      local connection = program:status().connections[1]
      local s = connection.subscriptions[#connection.subscriptions]
      return s.handled + s.dropped == 1001 and s
    end, 10, "1001 handled or dropped")
    assert.equals("host", one.kind)
    assert.is_true(one.handled >= 10, "handled " .. one.handled)
    assert.is_true(one.dropped > 0)
    assert.matches("faster than they are handled", program:wait_log("^error$").error)
  end))

  it("is named when its function holds the loop", run.case(function()
    local server, program, witness = start()
    program:tell("subscribe", "stuck", "-", "stuck.*", "-", "hang")
    program:tell("subscribe", "echo", "-", "echo", "-", "echo")
    wait_subscribed(server, "stuck.*")
    wait_subscribed(server, "echo")
    witness:publish("stuck.here", "2500")
    local stalled = program:wait_log("^loop stalled$")
    assert.equals("host handler", stalled.kind)
    assert.equals("stuck.*", stalled.name)
    program:wait_log("^loop turns again$")
    program:tell("request", "hang", "-", "echo", "2500", "60000")
    stalled = program:wait_log("^loop stalled$", 2)
    assert.equals("host answer", stalled.kind)
    assert.equals("echo", stalled.name)
    program:wait_log("^loop turns again$", 2)
    assert.is_false(program:status().loop.stalled)
  end))

  it("is counted where the script's are", run.case(function()
    local server = nats_server.start()
    local port = network.free_port()
    local program = host.start(SCRIPT, { URL = server.url }, network.host .. ":" .. port)
    program:wait_log("^connected$")
    program:tell("subscribe", "one", "-", "script.echo", "group", "count")
    program:tell("subscribe", "two", "other", "nowhere", "-", "count")
    wait_subscribed(server, "script.echo", 2)
    server:connect():publish("script.echo", "1")
    run.wait_until(function() return program:numbers("one", 1).handled == 1 end, 5, "a message")
    local status = program:status()
    local listed = status.connections[1].subscriptions
    assert.equals(5, status.connections[1].subscriptions_total)
    assert.equals(5, #listed)
    assert.equals("script", listed[1].kind)
    assert.equals("host", listed[5].kind)
    assert.equals("script.echo", listed[5].subject)
    assert.equals("group", listed[5].queue)
    assert.equals(1, listed[5].handled)
    assert.equals(1, listed[5].latency.samples)
    assert.same({ subscriptions = 2, waiting = 1, requests = 0 }, status.host.messages)
    local page = run.wait_until(function()
      local _, text = http.get(port, "/metrics")
      return text:find('handled_total{[^}]*kind="host"} 1\n') and text
    end, 5, "the page with it")
    assert.matches('moondog_subscription_handled_total{connection="gateway",subject="script.echo",queue=""} 1\n', page)
    assert.matches("moondog_host_subscriptions_waiting 1\n", page)
    assert.matches('moondog_connection_subscriptions{connection="gateway"} 5\n', page)
  end))
end)
