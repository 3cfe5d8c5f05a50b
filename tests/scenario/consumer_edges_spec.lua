-- Consumers at their edges: what vanished while nobody looked, handlers that fail, limits of the
-- server, ends while messages are on their way.
local js_script = require "support.js_script"
local run = require "support.run"

local STREAM = 'assert(js:add_stream { name = "S", subjects = { "s.>" } }) '
local FILL = 'for i = 1, %d do assert(js:publish("s." .. i %% 3, i)) end '

local function start(count)
  local lua, witness, server, dog = js_script.start()
  lua(STREAM .. FILL:format(count or 0))
  return lua, witness, server, dog
end

-- Waits until the code returns true.
local function wait(lua, code, deadline)
  run.wait_until(function() return lua(code) == true end, deadline or 10, code)
end

-- What the code returns, which may take a while: an answer that does not come soon is asked for again.
local function later(lua, code, deadline)
  lua(("result = nil moondog.spawn(function() result = (function() %s end)() or false end)"):format(code))
  run.wait_until(function() return lua "return result ~= nil" == true end, deadline or 10, code)
  return lua "return result"
end

local function data_of(call)
  return ([[
    local out = {}
    for _, msg in ipairs(assert(%s)) do out[#out + 1] = msg.data msg:ack() end
    return out]]):format(call)
end

describe("a consumer that is asked now and then", function()
  it("is made again when the server has forgotten it, behind what was acknowledged", run.case(function()
    local lua = start(4)
    lua 'consumer = assert(js:consumer("S", {}))'
    assert.same({ "1", "2" }, lua(data_of "consumer:fetch(2)"))
    lua 'assert(js:delete_consumer("S", consumer:status().name))'
    assert.same({ "3" }, later(lua, data_of "consumer:fetch(1, { timeout = 8 })"))
    assert.equals(1, lua("return consumer:status().recreated"))
  end))

  it("is made again with a stream that is", run.case(function()
    local lua = start(2)
    lua 'consumer = assert(js:consumer("S", { durable = "w" }))'
    assert.same({ "1", "2" }, lua(data_of "consumer:fetch(2)"))
    lua('assert(js:delete_stream("S")) ' .. STREAM .. FILL:format(1))
    assert.same({ "1" }, later(lua, data_of "consumer:fetch(1, { timeout = 8 })"))
  end))

  it("does not wait for what it skips", run.case(function()
    local lua = start(4)
    lua 'consumer = assert(js:consumer("S", { durable = "w" }))'
    assert.same({ "1", "2", "3" }, lua(data_of "consumer:fetch(3)"))
    lua 'assert(js:delete_consumer("S", "w")) assert(js:add_consumer("S", { durable = "w" }))'
    local before = run.now()
    assert.same({ "4" }, later(lua, data_of "consumer:fetch(1, { timeout = 8 })"))
    assert.is_true(run.now() - before < 4)
    assert.equals(3, lua("return consumer:status().skipped"))
  end))

  it("answers at once when it was stopped", run.case(function()
    local lua = start(1)
    local _, err = lua 'local c = js:consumer("S", { durable = "w" }) c:stop() return c:next()'
    assert.equals("stopped", err.code)
  end))
end)

describe("handlers that fail", function()
  it("do not keep the next messages waiting", run.case(function()
    local lua = start(20)
    lua [[
      calls = 0
      consumer = assert(js:consumer("S", { durable = "w", batch = 4 }))
      consumer:consume(function() calls = calls + 1 moondog.sleep(0.01) error("no") end)]]
    wait(lua, "return calls == 20", 4)
  end))

  it("have every delivery that the server counts", run.case(function()
    local lua = start(10)
    -- All are sent at once; the last one is looked at long after it was.
    lua [[
      calls = 0
      consumer = assert(js:consumer("S", { durable = "w", ack_wait = 0.5, max_deliver = 2 }))
      consumer:consume(function()
        calls = calls + 1
        local till = moondog.now() + 0.03
        while calls <= 10 and moondog.now() < till do end
      end)]]
    wait(lua, "return calls == 20", 10)
  end))
end)

describe("a message that waits to be read for longer than its time", function()
  it("is handled once, though it comes again meanwhile", run.case(function()
    local lua = start(10)
    lua [[
      out = {}
      consumer = assert(js:consumer("S", { ack_wait = 0.4 })) -- nobody else could have them
      moondog.spawn(function()
        for msg in consumer:messages() do
          moondog.sleep(0.2)
          out[#out + 1] = tonumber(msg.data)
          msg:ack()
        end
      end)]]
    wait(lua, "return #out >= 10 and consumer:status().queued == 0 and consumer:info().num_ack_pending == 0")
    run.pause(1)
    assert.same({ 1, 2, 3, 4, 5, 6, 7, 8, 9, 10 }, lua "return out")
    assert.is_true(lua "return consumer:status().skipped > 0")
  end))
end)

describe("a consumer that vanished before anything came", function()
  for what, open in pairs {
    ["of new messages"] = 'js:consumer("S", { deliver = "new", heartbeat = 0.4, expires = 3 })',
    ["that keeps its place"] = 'js:ordered("S", { deliver = "new", heartbeat = 0.4, expires = 3 })',
  } do
    it(("begins where it was: one %s"):format(what), run.case(function()
      local lua = start(3)
      lua(("consumer = assert(%s)"):format(open))
      lua 'assert(js:delete_consumer("S", consumer:status().name)) js:publish("s.0", "a") js:publish("s.0", "b")'
      lua "out = {} consumer:consume(function(msg) out[#out + 1] = msg.data end)"
      wait(lua, "return #out == 2", 8)
      assert.same({ "a", "b" }, lua "return out")
    end))
  end

  it("is as it was, when somebody else had described it", run.case(function()
    local lua = start(6)
    lua 'assert(js:add_consumer("S", { durable = "w", filter = "s.1" }))'
    lua 'consumer = assert(js:consumer("S", { durable = "w", heartbeat = 0.4, expires = 3 }))'
    lua 'assert(js:delete_consumer("S", "w")) out = {}'
    lua "consumer:consume(function(msg) out[#out + 1] = msg.data msg:ack() end)"
    wait(lua, "return #out == 2", 8)
    assert.same({ "1", "4" }, lua "return out")
    assert.equals("s.1", lua('return js:consumer_info("S", "w").config.filter_subject'))
  end))
end)

describe("a consumer without acknowledgements", function()
  it("goes on where it was, when it is made again", run.case(function()
    local lua = start(3)
    lua [[
      out = {}
      consumer = assert(js:consumer("S", { ack = "none", heartbeat = 0.3, expires = 3 }))
      consumer:consume(function(msg) out[#out + 1] = msg.data end)]]
    wait(lua, "return #out == 3")
    lua 'assert(js:delete_consumer("S", consumer:status().name)) js:publish("s.0", "next")'
    wait(lua, 'return out[#out] == "next"')
    assert.equals(4, lua "return #out")
  end))
end)

describe("a limit of the server", function()
  it("on bytes that no message fits into is said once", run.case(function()
    local lua, _, _, dog = start(0)
    lua [[
      js:publish("s.1", ("x"):rep(5000))
      consumer = assert(js:consumer("S", { durable = "w", max_bytes = 1000, heartbeat = 0.3, expires = 3 }))
      consumer:consume(function(msg) msg:ack() end)]]
    local entry = dog:wait_log("^a request for messages was refused$")
    assert.equals("w", entry.consumer)
    run.pause(2.5)
    assert.equals(1, #dog:find_logs("^a request for messages was refused$"))
    assert.equals("refused", lua("return consumer:status().error.code"))
    lua 'assert(js:purge_stream("S")) js:publish("s.1", "small")'
    wait(lua, "return consumer:status().delivered == 1 and consumer:status().error == nil")
  end))

  it("on what is not acknowledged is waited for", run.case(function()
    local lua, _, _, dog = start(6)
    lua [[
      held = {}
      consumer = assert(js:consumer("S", { durable = "w", max_ack_pending = 2, heartbeat = 0.3, expires = 2 }))
      consumer:consume(function(msg) held[#held + 1] = msg:retain() end)]]
    wait(lua, "return #held == 2")
    run.holds(function() return lua "return #held" == 2 end, 3, "two of them")
    lua "for _, msg in ipairs(held) do msg:ack() end"
    wait(lua, "return #held == 4", 2)
    lua "for i = 3, 4 do held[i]:ack() end"
    wait(lua, "return #held == 6", 2)
    assert.equals(0, #dog:find_logs("refused"))
  end))
end)

describe("a consumer that is stopped", function()
  it("gives back what it has asked for and nobody has read", run.case(function()
    local lua = start(20)
    lua [[
      consumer = assert(js:consumer("S", { durable = "w", batch = 10, ack_wait = 60 }))
      moondog.spawn(function()
        for msg in consumer:messages() do
          msg:ack()
          consumer:stop()
          break
        end
      end)]]
    wait(lua, 'return consumer:status().state == "stopped"')
    lua 'other = assert(js:consumer("S", { durable = "w" })) out = {}'
    lua "other:consume(function(msg) out[#out + 1] = msg.data msg:ack() end)"
    wait(lua, "return #out == 19", 8)
  end))
end)

describe("a consumer at the end of the program", function()
  it("is no reason to wait, and what was acknowledged is", run.case(function()
    local lua, witness, server, dog = start(0)
    local handled = 0
    witness:subscribe("handled", function() handled = handled + 1 end)
    witness:flush()
    lua [[
      for i = 1, 3000 do assert(js:publish_async("s.1", i)) end
      assert(js:publish_async_complete())
      handled = 0
      js:consumer("S", { durable = "w", ack_wait = 60 }):consume(function(msg)
        handled = handled + 1
        c:publish("handled", "")
        msg:ack()
      end)
      js:consumer("S", {}):consume(function(msg) msg:ack() end)
      js:ordered("S"):consume(function() end)
      moondog.spawn(function()
        local held = js:ordered("S"):next()
        while held do moondog.sleep(1) end
      end)
      moondog.spawn(function()
        local c = js:consumer("S", { filter = "s.none" })
        while true do c:next(0.5) end
      end)]]
    run.wait_until(function() return lua("return handled") > 100 end, 10, "messages are handled")
    local before = run.now()
    dog:signal("sigterm")
    dog:wait_exit(0, 10)
    assert.is_true(run.now() - before < 4, ("it took %.1f s"):format(run.now() - before))
    -- A server that sends while it hears that nobody listens any more counts what nobody has got.
    local function acknowledged()
      local text = witness:request("$JS.API.CONSUMER.INFO.S.w", "", 2).data
      return tonumber(text:match('"delivered":{"consumer_seq":(%d+)')) - tonumber(text:match('"num_ack_pending":(%d+)'))
    end
    run.wait_until(function() return handled > 100 and acknowledged() == handled end, 5, function()
      return ("%d handled, %d acknowledged"):format(handled, acknowledged())
    end)
    run.wait_until(function()
      local list = witness:request("$JS.API.CONSUMER.NAMES.S", "", 2).data
      return list:find('"consumers":["w"]', 1, true)
    end, 8, function() return "only w: " .. witness:request("$JS.API.CONSUMER.NAMES.S", "", 2).data end)
    assert.is_truthy(server)
  end))
end)

describe("a consumer whose stream is not there", function()
  it("asks no more often because others read", run.case(function()
    local lua = start(0)
    lua [[
      assert(js:add_stream { name = "T", subjects = { "t" } })
      gone = assert(js:consumer("T", { heartbeat = 0.2, expires = 1 }))
      gone:consume(function() end)
      assert(js:delete_stream("T"))
      reads, calls = 0, 0
      moondog.spawn(function()
        local other = js:consumer("S", { durable = "w" })
        local till = moondog.now() + 4
        while moondog.now() < till do other:fetch(1, { timeout = 0.01 }) reads = reads + 1 end
        over = true
      end)]]
    wait(lua, 'return gone:status().state == "recovering"', 5)
    local before = lua("return js:account().api.errors")
    wait(lua, "return over == true", 10)
    local errors, reads = lua("return js:account().api.errors") - before, lua("return reads")
    assert.is_true(errors < 15, ("%d errors during %d reads"):format(errors, reads))
  end))
end)

describe("a misuse of a consumer", function()
  for code, text in pairs {
    ['js:consumer("S", { batch = 2.5 })'] = "batch is a whole number from 1 to 65536",
    ['js:consumer("S", {}):fetch(1.5)'] = "fetch() takes how many",
    ['js:consumer("S", {}):fetch(1, { timeout = "x" })'] = "timeout is a number of seconds",
    ['js:consumer("S", {}):fetch(1, { wait = 1 })'] = 'unknown option "wait" of fetch()',
    ['js:consumer("S", {}):next({})'] = "timeout is a number of seconds",
  } do
    it(("is an error of the script: %s"):format(code), run.case(function()
      local lua = start(0)
      local ok, err = pcall(lua, code)
      assert.is_false(ok)
      assert.is_truthy(tostring(err):find(text, 1, true), tostring(err))
      assert.is_truthy(tostring(err):find("local moondog", 1, true), tostring(err)) -- the line of the script
    end))
  end

  it("is refused: two readers that keep their place under one name", run.case(function()
    local lua = start(1)
    local _, err = lua 'one = assert(js:ordered("S", { name = "x" })) return js:ordered("S", { name = "x" })'
    if type(_) ~= "nil" then error("it was not refused") end
    assert.equals("in_use", err.code)
  end))
end)
