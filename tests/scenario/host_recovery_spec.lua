-- The host's own messages through faults and reloads: what it publishes is kept in order, what it subscribes to is
-- back on every link and with every generation, none of it lost and none handled twice.
local host = require "support.host"
local moondog = require "support.moondog"
local nats_server = require "support.nats_server"
local run = require "support.run"
local scripted_server = require "support.scripted_server"

local USERS = { { user = "one", password = "1" }, { user = "two", password = "2" } }

local SCRIPT = [[
local moondog = require "moondog"
moondog.connect { name = $NAME, servers = { $URL }, user = $USER, password = $USER == "one" and "1" or "2",
  pending = { bytes = $PENDING }, reconnect = function() return 0.02 end }
]]

local TWO = [[
local moondog = require "moondog"
moondog.connect { name = $FIRST, servers = { $URL } }
moondog.connect { name = $SECOND, servers = { $URL } }
]]

local function values(server, more)
  local out = { URL = server.url, NAME = "gateway", USER = "one", PENDING = 1048576 }
  for key, value in pairs(more or {}) do out[key] = value end
  return out
end

local function wait_subscribed(server, subject, count)
  run.wait_until(function()
    return server:subscriptions("^" .. subject .. "$") == (count or 1)
  end, 10, "subscribed to " .. subject)
end

local function start(more)
  local server = nats_server.start { users = USERS }
  local program = host.start(SCRIPT, values(server, more))
  program:wait_log("^connected$")
  return server, program, server:connect()
end

local function wait_numbers(program, id, last)
  local counted
  run.wait_until(function()
    counted = program:numbers(id, last)
    return counted.missing == 0
  end, 10, function()
    return ("all of %d numbers, %d are missing"):format(last, counted.missing)
  end)
  return counted
end

-- Every number once, in order.
local function check_numbers(program, id, last)
  local counted = wait_numbers(program, id, last)
  assert.same({ handled = last, missing = 0, twice = 0, disordered = 0 }, counted)
end

-- Publishes numbers until stop() is called, which returns how many. more(n) waits until so many more were sent.
local function flow(witness)
  local running, sent = true, 0
  run.spawn(function()
    while running do
      for _ = 1, 10 do
        sent = sent + 1
        witness:publish("numbers", tostring(sent))
      end
      run.pause(0.001)
    end
    witness:flush()
    running = nil
  end)
  local function more(n)
    local wanted = sent + n
    run.wait_until(function() return sent >= wanted end, 10, "more messages")
  end
  local function stop()
    running = false
    run.wait_until(function() return running == nil end, 5, "the end of the flow")
    return sent
  end
  return more, stop
end

describe("the host's messages", function()
  it("are kept in order while the server is away, and its subscriptions come back", run.case(function()
    local server, program = start()
    program:tell("subscribe", "one", "-", "numbers", "-", "count")
    program:tell("flow", "-", "numbers", "1", "1000")
    check_numbers(program, "one", 1000)
    for round = 1, 3 do
      server:kill()
      program:wait_log("^disconnected$", round)
      program:tell("flow", "-", "numbers", tostring(round * 1000 + 1), "1000")
      server:restart()
      check_numbers(program, "one", (round + 1) * 1000)
    end
    wait_subscribed(server, "numbers")
  end))

  it("are refused when too many wait", run.case(function()
    local server, program = start { PENDING = 65536 }
    program:tell("subscribe", "one", "-", "numbers", "-", "count")
    wait_subscribed(server, "numbers")
    server:kill()
    program:wait_log("^disconnected$")
    local ok, code, message = program:ask("flow", "-", "numbers", "1", "100000")
    assert.is_nil(ok)
    assert.equals("pending_full", code)
    assert.matches("connection gateway", message)
    local accepted = tonumber(program:wait(1, "accepted")[2])
    assert.is_true(accepted > 100 and accepted < 65536, tostring(accepted))
    assert.is_true(program:status().connections[1].pending_dropped >= 1)
    server:restart()
    check_numbers(program, "one", accepted)
  end))

  it("pass a reload under a flow, none lost and none twice", run.case(function()
    local server, program, witness = start()
    program:tell("subscribe", "one", "gateway", "numbers", "-", "count")
    program:tell("subscribe", "queue", "-", "numbers", "q", "count")
    wait_subscribed(server, "numbers", 2)
    local more, stop = flow(witness)
    for i = 1, 20 do
      more(100)
      assert.equals(i + 1, program:reload())
    end
    more(100)
    local sent = stop()
    check_numbers(program, "one", sent)
    check_numbers(program, "queue", sent)
    assert.equals(2, server:subscriptions("^numbers$"))
  end))

  it("pass a reload that changes the connection's options", run.case(function()
    local server, program, witness = start()
    program:tell("subscribe", "one", "gateway", "numbers", "-", "count")
    program:tell("subscribe", "queue", "-", "numbers", "q", "count")
    wait_subscribed(server, "numbers", 2)
    local more, stop = flow(witness)
    for i = 1, 4 do
      more(200)
      local user = i % 2 == 1 and "two" or "one"
      program:reload(SCRIPT, values(server, { USER = user }))
      program:tell("subscribe", "late" .. i, "-", "late", "-", "count") -- while the new link is dialled
      program:wait_log("^connection handed over$", i)
      program:wait_log("^connection ended$", i)
      wait_subscribed(server, "late", i)
    end
    local sent = stop()
    -- As with a script's: both links have messages for a moment, so they may come twice; with a queue group each
    -- goes to one of them, and their order is not known.
    local shared = wait_numbers(program, "queue", sent)
    assert.equals(sent, shared.handled)
    local counted = wait_numbers(program, "one", sent)
    run.figure("messages that came twice at four hand-overs, of " .. sent, counted.twice)
    assert.equals(2, server:subscriptions("^numbers$"))
    assert.equals(1, #server:clients("^gateway$"))
    assert.same({ subscriptions = 6, waiting = 0, requests = 0 }, program:status().host.messages)
  end))

  it("all arrive when they are published while the link changes", run.case(function()
    local server, program, witness = start()
    local out = witness:subscribe("out")
    witness:flush()
    local sent = 0
    for i = 1, 4 do
      program:reload(SCRIPT, values(server, { USER = i % 2 == 1 and "two" or "one" }))
      repeat
        program:tell("flow", "-", "out", tostring(sent + 1), "100")
        sent = sent + 100
      until #program:find("accepted") > i * 20
      program:wait_log("^connection ended$", i)
    end
    run.wait_until(function() return #out.messages == sent end, 5, function()
      return ("%d messages, there are %d"):format(sent, #out.messages)
    end)
    local seen = {}
    for _, msg in ipairs(out.messages) do seen[tonumber(msg.data)] = true end
    for i = 1, sent do assert.is_true(seen[i], "missing: " .. i) end
  end))

  it("wait for a connection that no script declares any more, until one does", run.case(function()
    local server, program, witness = start()
    program:tell("subscribe", "one", "gateway", "numbers", "-", "count")
    wait_subscribed(server, "numbers")
    for i = 1, 2000 do witness:publish("numbers", tostring(i)) end
    witness:flush()
    program:reload(SCRIPT, values(server, { NAME = "other" }))
    program:wait_log("^connection ended$")
    check_numbers(program, "one", 2000) -- what had arrived
    wait_subscribed(server, "numbers", 0)
    assert.same({ subscriptions = 1, waiting = 1, requests = 0 }, program:status().host.messages)
    local ok, code = program:ask("publish", "gateway", "numbers", "-", "x")
    assert.is_nil(ok)
    assert.equals("no_connection", code)
    program:reload(SCRIPT, values(server))
    wait_subscribed(server, "numbers")
    assert.same({ subscriptions = 1, waiting = 0, requests = 0 }, program:status().host.messages)
    for i = 2001, 2100 do witness:publish("numbers", tostring(i)) end
    check_numbers(program, "one", 2100)
  end))

  it("are back when a reload brings back a connection that the script has closed", run.case(function()
    local text = SCRIPT:gsub("moondog.connect", "local c = moondog.connect")
      .. 'c:subscribe("close", function() c:close() end)'
    local server = nats_server.start { users = USERS }
    local program = host.start(text, values(server))
    program:tell("subscribe", "one", "gateway", "numbers", "-", "count")
    wait_subscribed(server, "numbers")
    program:tell("publish", "-", "close", "-", "")
    program:wait_log("^connection ended$")
    assert.same({ subscriptions = 1, waiting = 1, requests = 0 }, program:status().host.messages)
    program:reload()
    wait_subscribed(server, "numbers")
    program:tell("flow", "-", "numbers", "1", "100")
    check_numbers(program, "one", 100)
  end))

  it("wait for the first script, and for a connection that it declares when it starts", run.case(function()
    local server = nats_server.start { users = USERS }
    local program = host.start()
    program:tell("subscribe", "first", "-", "numbers", "-", "count")
    program:tell("subscribe", "named", "gateway", "numbers", "-", "count")
    program:tell("subscribe", "gone", "gateway", "numbers", "-", "count")
    program:tell("unsubscribe", "gone")
    local late = "local m = require 'moondog' m.on_start(function() "
      .. SCRIPT:gsub("local moondog.-\n", ""):gsub("moondog", "m") .. " end)"
    program:tell("load", moondog.script(moondog.fill(late, values(server))))
    wait_subscribed(server, "numbers", 2)
    program:tell("flow", "-", "numbers", "1", "100")
    check_numbers(program, "first", 100)
    check_numbers(program, "named", 100)
  end))

  it("are subscribed to on a link that was about to be up", run.case(function()
    local held, pings = nil, {}
    local server = scripted_server.start { on_op = function(client, op)
      if op.verb ~= "PING" then return false end
      pings[client] = (pings[client] or 0) + 1
      if pings[client] ~= 2 then return false end
      held = client -- the second one asks whether all subscriptions are there
      return true
    end }
    local program = host.start(SCRIPT, values(server))
    run.wait_until(function() return held end, 5, "the second PING")
    program:tell("subscribe", "late", "-", "numbers", "-", "count")
    held:send("PONG\r\n")
    program:wait_log("^connected$")
    run.wait_until(function() return server:subscriptions("^numbers$") == 1 end, 5, "subscribed to numbers")
    program:tell("flow", "-", "numbers", "1", "100")
    check_numbers(program, "late", 100)
  end))

  it("without a name of a connection go over the one that is declared first", run.case(function()
    local server = nats_server.start()
    local program = host.start(TWO, { URL = server.url, FIRST = "a", SECOND = "b" })
    program:wait_log("^connected$", 2)
    program:tell("subscribe", "one", "-", "numbers", "-", "count")
    wait_subscribed(server, "numbers")
    local function who()
      for _, client in ipairs(server:clients("^[ab]$")) do
        for _, subject in ipairs(client.subscriptions_list or {}) do
          if subject == "numbers" then return client.name end
        end
      end
    end
    assert.equals("a", who())
    program:reload(TWO, { URL = server.url, FIRST = "b", SECOND = "a" })
    run.wait_until(function() return server:subscriptions("^numbers$") == 1 and who() == "b" end, 5, "a move to b")
    program:tell("flow", "-", "numbers", "1", "100")
    check_numbers(program, "one", 100)
  end))

  it("are a thousand subscriptions as well as one", run.case(function()
    local server, program, witness = start()
    for i = 1, 1000 do program:tell("subscribe", "bulk" .. i, "-", "bulk." .. i, "-", "print") end
    wait_subscribed(server, "bulk%..*", 1000)
    local function each(round)
      for i = 1, 1000 do witness:publish("bulk." .. i, "x") end
      run.wait_until(function() return #program:find("message") == round * 1000 end, 10, function()
        return ("%d messages, there are %d"):format(round * 1000, #program:find("message"))
      end)
    end
    each(1)
    program:reload()
    each(2)
    witness:close()
    server:kill()
    program:wait_log("^disconnected$")
    program:reload(SCRIPT, values(server, { USER = "two" }))
    server:restart()
    witness = server:connect()
    wait_subscribed(server, "bulk%..*", 1000)
    program:wait_log("^connection ended$")
    each(3)
    local status = program:status()
    assert.equals(1000, status.connections[1].subscriptions_total)
    for i = 1, 1000 do program:tell("unsubscribe", "bulk" .. i) end
    wait_subscribed(server, "bulk%..*", 0)
    assert.is_nil(program:status().host)
  end))

  it("that have arrived are handled before the runtime stops", run.case(function()
    local server, program, witness = start()
    program:tell("subscribe", "one", "-", "numbers", "-", "count")
    wait_subscribed(server, "numbers")
    local out = witness:subscribe("out")
    for i = 1, 5000 do witness:publish("numbers", tostring(i)) end
    witness:flush()
    program:tell("flow", "-", "out", "1", "1000")
    program:tell("stop")
    program.process:wait_exit(10)
    assert.equals("5000", program:wait(1, "handled", "one")[3])
    run.wait_until(function() return #out.messages == 1000 end, 5, "what was published")
  end))

  it("may stop the runtime", run.case(function()
    local server, program, witness = start()
    program:tell("subscribe", "one", "-", "numbers", "-", "count")
    program:tell("subscribe", "end", "-", "end", "-", "stop")
    wait_subscribed(server, "end")
    for i = 1, 1000 do witness:publish("numbers", tostring(i)) end
    witness:publish("end", "")
    program.process:wait_exit(10)
    assert.equals("1000", program:wait(1, "handled", "one")[3])
  end))

  it("are not touched by a reload that fails", run.case(function()
    local server, program, witness = start()
    program:tell("subscribe", "one", "-", "numbers", "-", "count")
    wait_subscribed(server, "numbers")
    run.file(program.path:match("[^/]+$"), "this is no Lua")
    program:tell("reload")
    assert.equals("syntax", program:wait(1, "not reloaded")[2])
    for i = 1, 100 do witness:publish("numbers", tostring(i)) end
    check_numbers(program, "one", 100)
  end))

  -- Nothing is waited for then: neither the link nor the script has heard of the end.
  it("are given up when the runtime is stopped twice and freed while a script waits for an answer", run.case(function()
    local server = nats_server.start()
    local program = host.start([[
      local moondog = require "moondog"
      local c = moondog.connect { name = "gateway", servers = { $URL } }
      c:subscribe("silent", function() end)
      moondog.on_start(function()
        while not c:status().ready do moondog.sleep(0.01) end
        for _ = 1, 10 do moondog.spawn(function() c:request("silent", "", { timeout = 60 }) end) end
        moondog.spawn(function() print "asked" end)
      end)
    ]], { URL = server.url })
    program:wait_log("^asked$")
    program:tell("stop")
    program:tell("stop")
    program.process:wait_exit(10)
  end))

  -- There is time for a few of them in each poll.
  it("tells each of a thousand requests of the script that a lost link has lost it, while it polls", run.case(function()
    local server = nats_server.start()
    local program = host.start([[
      local moondog = require "moondog"
      local c = moondog.connect { name = "gateway", servers = { $URL }, reconnect = function() return 0.02 end }
      c:subscribe("silent", function() end)
      local lost, order = 0, true
      local function ask(number)
        local answer, err = c:request("silent", "", { timeout = 60 })
        order = order and lost == number - 1
        lost = lost + 1
        if answer or err.code ~= "disconnected" then print("wrong " .. tostring(err)) end
        if lost == 1000 then print("all lost, in order: " .. tostring(order)) end
      end
      moondog.on_start(function()
        while not c:status().ready do moondog.sleep(0.01) end
        for i = 1, 1000 do moondog.spawn(ask, i) end
        moondog.spawn(function() print "asked" end)
      end)
    ]], { URL = server.url }, "poll")
    program:wait_log("^asked$")
    server:kill()
    program:wait_log("^all lost, in order: true$")
    for _, entry in ipairs(program.logs) do assert.not_matches("^wrong", entry.msg) end
  end))
end)
