-- Consumers from Lua against a real server: read in every way, answered in every way, and brought
-- back when something takes them away.
local js_script = require "support.js_script"
local moondog = require "support.moondog"
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

describe("a consumer is read", function()
  it("by a loop, by several tasks at once", run.case(function()
    local lua = start(30)
    lua [[
      consumer = assert(js:consumer("S", { durable = "loop", batch = 4 }))
      seen, tasks = {}, 0
      for _ = 1, 3 do
        moondog.spawn(function()
          for msg in consumer:messages() do
            seen[#seen + 1] = tonumber(msg.data)
            moondog.sleep(0.001)
            assert(msg:ack())
          end
          tasks = tasks + 1
        end)
      end]]
    wait(lua, "return #seen == 30")
    assert.same({ 30, 0 }, lua('table.sort(seen) return { seen[30], consumer:info().num_ack_pending }'))
    lua "consumer:stop()"
    wait(lua, "return tasks == 3")
    assert.equals("stopped", lua("return consumer:status().state"))
    assert.equals("stopped", lua("return consumer:fetch(1)") or select(2, lua("return consumer:fetch(1)")).code)
  end))

  it("by a handler that waits, no more of them at a time than a batch", run.case(function()
    local lua = start(50)
    lua [[
      now, most, handled = 0, 0, 0
      consumer = assert(js:consumer("S", { durable = "handler", batch = 5, heartbeat = 0.5, expires = 3 }))
      consumer:consume(function(msg)
        now = now + 1
        most = math.max(most, now)
        moondog.sleep(0.01)
        now, handled = now - 1, handled + 1
        assert(msg:ack())
      end)]]
    wait(lua, "return handled == 50")
    local most = lua("return most")
    assert.is_true(most > 1 and most <= 5, most .. " at a time")
  end))

  it("in batches, of which the last one is what there is", run.case(function()
    local lua = start(7)
    lua 'consumer = assert(js:consumer("S", { durable = "batches", filter = "s.1" }))'
    assert.equals(2, lua("return #consumer:fetch(2)"))
    assert.equals(1, lua("return #consumer:fetch(5, { timeout = 0.3 })"))
    assert.equals(0, lua("return #consumer:fetch(5, { timeout = 0.1 })"))
    local _, err = lua("return consumer:next(0.1)")
    assert.equals("timeout", err.code)
  end))

  it("as it is described, also when it was made before", run.case(function()
    local lua = start(9)
    lua [[
      assert(js:add_consumer("S", { durable = "made", filter = "s.2", ack_wait = 7, max_deliver = 3,
        backoff = { 1, 2 } }))]]
    local info = lua('return js:consumer_info("S", "made")')
    assert.equals(1, info.config.ack_wait) -- of a backoff the first counts
    assert.same({ 1, 2 }, info.config.backoff)
    assert.equals(3, info.config.max_deliver)
    assert.same({ "2", "5" }, lua([[
      local consumer, out = js:consumer("S", { durable = "made" }), {}
      for _, msg in ipairs(consumer:fetch(2)) do out[#out + 1] = msg.data end
      return out]]))
    assert.same({ "6", 6 }, lua([[
      local msg = js:consumer("S", { start_seq = 6 }):next()
      return { msg.data, msg:metadata().seq }]]))
    assert.equals("9", lua('return js:consumer("S", { deliver = "last" }):next().data'))
    assert.same({ "7", "8", "9" }, lua([[
      local out = {}
      for _, msg in ipairs(js:consumer("S", { deliver = "last_per_subject" }):fetch(3)) do out[#out + 1] = msg.data end
      return out]]))
    assert.is_true(lua('return js:delete_consumer("S", "made")'))
    assert.equals("consumer_not_found", select(2, lua('return js:consumer_info("S", "made")')).code)
    assert.equals("stream_not_found", select(2, lua('return js:consumer("NONE", {})')).code)
  end))

  it("by a thousand tasks that have more to do than a turn of the loop takes", run.case(function()
    local lua = start(0)
    lua [[
      for i = 1, 5000 do assert(js:publish_async("s.x", ("x"):rep(100))) end
      assert(js:publish_async_complete())
      read = 0
      consumer = js:consumer("S", { durable = "busy", batch = 1000, max_ack_pending = 5000 })
      moondog.spawn(function()
        for msg in consumer:messages() do
          for _ = 1, 2000 do end
          read = read + 1
          msg:ack()
        end
      end)]]
    wait(lua, "return read == 5000", 20)
  end))
end)

describe("a message of a stream", function()
  it("is acknowledged once", run.case(function()
    local lua = start(1)
    lua 'msg = js:consumer("S", { durable = "w" }):next()'
    assert.is_true(lua("return msg:in_progress()"))
    assert.is_true(lua("return msg:ack_sync()"))
    for _, answer in ipairs { "ack", "ack_sync", "nak", "term", "in_progress" } do
      assert.equals("already_acknowledged", select(2, lua(("return msg:%s()"):format(answer))).code)
    end
    assert.equals(0, lua('return js:consumer_info("S", "w").num_ack_pending'))
  end))

  it("comes again after a while, or never", run.case(function()
    local lua = start(3)
    lua 'consumer = js:consumer("S", { durable = "w", ack_wait = 30 })'
    lua 'for _, msg in ipairs(consumer:fetch(2)) do if msg.data == "1" then msg:nak(0.2) else msg:term() end end'
    assert.same({ "3", 1 }, lua("local m = consumer:next() m:ack() return { m.data, m:metadata().deliveries }"))
    assert.same({ "1", 2 }, lua("local m = consumer:next() m:ack() return { m.data, m:metadata().deliveries }"))
    wait(lua, 'return consumer:info().num_ack_pending == 0')
  end))

  it("says where it is from", run.case(function()
    local lua = start(2)
    local data = lua [[
      local msg = js:consumer("S", { durable = "w" }):next()
      return msg:metadata()]]
    assert.is_true(math.abs(data.time - os.time()) < 60)
    data.time = nil
    assert.same({ stream = "S", consumer = "w", seq = 1, consumer_seq = 1, deliveries = 1, pending = 1 }, data)
  end))

  it("is told apart from others", run.case(function()
    local lua = start(0)
    local code = lua [[
      local code
      local sub = c:subscribe("plain", function(msg) code = { select(2, msg:ack()).code, msg:metadata() == nil } end)
      c:publish("plain", "x")
      c:flush()
      while not code do moondog.sleep(0.01) end
      sub:unsubscribe()
      return code]]
    assert.same({ "no_jetstream_message", true }, code)
  end))
end)

describe("an ordered consumer", function()
  it("goes from the server when it is stopped", run.case(function()
    local lua = start(5)
    lua 'reader = js:ordered("S") out = {} reader:consume(function(msg) out[#out + 1] = msg.data end)'
    wait(lua, "return #out == 5")
    assert.equals(1, lua('return #js:consumers("S")'))
    lua "reader:stop()"
    wait(lua, 'return #js:consumers("S") == 0')
  end))

  it("is one of several on the same subject", run.case(function()
    local lua = start(5)
    assert.same({ "1", "1", "2" }, lua [[
      local a, b = js:ordered("S"), js:ordered("S")
      return { a:next().data, b:next().data, a:next().data }]])
    assert.equals(2, lua('return #js:consumers("S")'))
  end))

  it("begins anew with a stream that does", run.case(function()
    local lua = start(5)
    lua 'reader = js:ordered("S", { heartbeat = 0.3, expires = 3 }) out = {}'
    lua 'reader:consume(function(msg) out[#out + 1] = msg.data end)'
    wait(lua, "return #out == 5")
    lua('assert(js:delete_stream("S")) ' .. STREAM .. FILL:format(2))
    wait(lua, "return #out == 7")
    assert.same({ "1", "2" }, lua("return { out[6], out[7] }"))
  end))
end)

describe("a consumer that vanished", function()
  it("is made again behind what was acknowledged, under its name", run.case(function()
    local lua = start(10)
    lua [[
      consumer = js:consumer("S", { heartbeat = 0.3, expires = 3, batch = 1, ack_wait = 1 })
      out, held = {}, nil
      consumer:consume(function(msg)
        out[#out + 1] = msg.data
        if msg.data == "3" and not held then held = msg:retain() else msg:ack() end
      end)]]
    wait(lua, "return #out == 10")
    local name = lua("return consumer:status().name")
    lua(('assert(js:delete_consumer("S", %q))'):format(name))
    -- The third was not acknowledged: it comes again, when its time is over, and none of those behind it.
    wait(lua, "return #out == 11")
    assert.is_true(lua("return consumer:status().skipped >= 7"))
    assert.equals("3", lua("return out[11]"))
    assert.equals(1, lua("return consumer:status().recreated"))
    assert.same({ name }, lua [[
      local names = {}
      for _, info in ipairs(js:consumers("S")) do names[#names + 1] = info.name end
      return names]])
  end))

  it("is made again with its server, which had it in memory", run.case(function()
    local lua, witness, server = start(0)
    lua [[
      out = {}
      js:consumer("S", { durable = "w", memory = true, heartbeat = 0.3, expires = 3 }):consume(function(msg)
        out[#out + 1] = msg.data
        msg:ack()
      end)
      js:publish("s.1", "before")]]
    wait(lua, "return #out == 1")
    witness:close()
    server:kill()
    server:restart()
    witness = server:connect()
    lua = js_script.runner(witness)
    run.wait_until(function() return (lua 'return js.publish and js:publish("s.1", "after") ~= nil') end, 10,
      "the stream takes messages")
    wait(lua, 'return out[#out] == "after"')
  end))
end)

describe("a loop that reads no more", function()
  local OPEN = 'js:consumer("S", { durable = "shared", ack_wait = 2 })'

  it("keeps messages from others no longer than half of their time", run.case(function()
    local lua, _, _, dog = start(20)
    lua(("left = %s moondog.spawn(function() for msg in left:messages() do msg:ack() break end end)"):format(OPEN))
    wait(lua, "return left:status().delivered == 20")
    -- All that are left wait in the first one's queue; the other one has them before the server gives up on it.
    lua(([[
      seen = 0
      other = js:consumer("S", { durable = "shared" })
      moondog.spawn(function() for msg in other:messages() do seen = seen + 1 msg:ack() end end)]]))
    wait(lua, "return seen >= 1", 10)
    local entry = dog:wait_log("were not read in time", 10)
    assert.equals(19, entry.count)
    wait(lua, "return other:info().num_ack_pending == 0 and other:info().num_pending == 0", 15)
  end))

  it("is slow, and has as many as it can read in their time, each once", run.case(function()
    local lua = start(40)
    lua(([[
      times, count = {}, 0
      slow = %s
      moondog.spawn(function()
        for msg in slow:messages() do
          times[msg.data] = (times[msg.data] or 0) + 1
          moondog.sleep(0.1)
          assert(msg:ack())
          count = count + 1
        end
      end)]]):format(OPEN))
    wait(lua, "return count == 40 and slow:info().num_ack_pending == 0", 30)
    assert.equals(0, lua("local n = 0 for _, k in pairs(times) do if k > 1 then n = n + 1 end end return n"))
  end))
end)

describe("a consumer that hears nothing", function()
  it("is looked at, and says so when messages wait", run.case(function()
    local function server_users(deny)
      return { jetstream = { store_dir = run.folder() .. "/js" }, no_auth_user = "u",
        users = { { user = "u", password = "p", permissions = { publish = { allow = { ">" }, deny = deny } } } } }
    end
    local nothing = { "none" }
    local lua, witness, server, dog = js_script.start(server_users(nothing))
    lua(STREAM)
    lua [[
      out = {}
      consumer = js:consumer("S", { durable = "w", heartbeat = 0.3, expires = 1 })
      consumer:consume(function(msg) out[#out + 1] = msg.data msg:ack() end)
      js:publish("s.1", 1)]]
    wait(lua, "return #out == 1")
    witness:close()
    server:reload(server_users { "$JS.API.CONSUMER.MSG.NEXT.>" })
    dog:wait_log(function(entry) return entry.code == "permissions" end, 10)
    witness = server:connect()
    lua = js_script.runner(witness)
    lua 'assert(js:publish("s.1", 2))'
    local entry = dog:wait_log(function(entry)
      return entry.msg == "a consumer was silent" and entry.pending > 0
    end, 10)
    assert.equals("warn", entry.level)
    assert.equals("w", entry.consumer)
    witness:close()
    server:reload(server_users(nothing))
    lua = js_script.runner(server:connect())
    wait(lua, "return #out == 2")
  end))
end)

describe("a consumer among the subscriptions", function()
  it("goes by its name", run.case(function()
    local lua = start(1)
    lua 'js:consumer("S", { durable = "named" }):consume(function(msg) msg:ack() end)'
    local status = moondog.start { "status" }
    status:wait_exit(0)
    assert.matches("S/named", status:text("stdout"))
    assert.is_nil(status:text("stdout"):find("_INBOX", 1, true))
  end))
end)

describe("a misuse of a consumer", function()
  for code, text in pairs {
    ['js:consumer("S", { durable = "a.b" })'] = 'bad name of a consumer "a.b"',
    ['js:consumer("S", { size = 1 })'] = 'unknown option "size" of a consumer: there are ack, ack_wait',
    ['js:consumer("S", { deliver = "first" })'] = "deliver is one of all, last, new, last_per_subject",
    ['js:consumer("S", { heartbeat = 5, expires = 9 })'] = "expires is more than twice the heartbeat",
    ['js:consumer("S", { ack_wait = "1s" })'] = "ack_wait is a number of seconds",
    ['js:ordered("S", { durable = "x" })'] = 'unknown option "durable"',
    ['js:consumer("S", {}):consume(1)'] = "consume() takes a function",
    ['js:consumer("S", {}):fetch(0)'] = "fetch() takes how many",
    ['local x = js:consumer("S", {}) x:consume(print) x:messages()'] = "go to the handler of consume()",
  } do
    it(("is an error of the script: %s"):format(code), run.case(function()
      js_script.assert_misuse(start(0), code, text)
    end))
  end
end)
