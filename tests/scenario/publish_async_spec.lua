-- Publishing into streams without waiting for each acknowledgement: the window, what fails, what
-- becomes of it when the server dies.
local js_script = require "support.js_script"
local run = require "support.run"

local ADD = 'assert(js:add_stream { name = "S", subjects = { "s.>" } }) '

local function start()
  local lua, witness, server, dog = js_script.start()
  lua(ADD)
  return lua, witness, server, dog
end

local function wait(lua, code, deadline)
  run.wait_until(function() return lua(code) == true end, deadline or 10, code)
end

describe("a pipelined publish", function()
  it("is acknowledged like any other", run.case(function()
    local lua = start()
    local ack = lua [[
      pub = js
      p = assert(js:publish_async("s.a", "x", { msg_id = "one", headers = { A = "1" } }))
      return p:wait()]]
    assert.same({ stream = "S", seq = 1, duplicate = false }, ack)
    assert.is_true(lua "return p:done()")
    assert.equals(1, lua("return p:wait().seq")) -- again
    assert.is_true(lua('return js:publish_async("s.a", "x", { msg_id = "one" }):wait().duplicate'))
    assert.equals("1", lua('return js:get_message("S", 1).headers.A'))
    assert.is_true(lua "return pub:publish_async_complete()")
  end))

  it("keeps the order, and all are there when it says so", run.case(function()
    local lua = start()
    lua [[
      moondog.spawn(function()
        for i = 1, 10000 do assert(js:publish_async("s.a", i)) end
        complete = js:publish_async_complete(30)
      end)]]
    wait(lua, "return complete", 30)
    assert.equals(10000, lua('return js:stream_info("S").state.messages'))
    assert.same({ "1", "10000" }, lua('return { js:get_message("S", 1).data, js:get_message("S", 10000).data }'))
  end))

  it("waits for as many acknowledgements as there may be on their way", run.case(function()
    local lua, witness = start()
    -- A subject that this test answers, when it likes.
    local held = {}
    witness:subscribe("slow", function(msg) held[#held + 1] = msg.reply end)
    witness:flush()
    lua [[
      few = c:jetstream { max_pending = 3 }
      sent = 0
      moondog.spawn(function()
        for i = 1, 5 do assert(few:publish_async("slow", i)) sent = i end
        complete = { few:publish_async_complete() }
      end)]]
    run.wait_until(function() return #held == 3 end, 5, "three on their way")
    run.holds(function() return #held == 3 end, 0.3, "no fourth one")
    assert.equals(3, lua "return sent")
    -- Not the oldest one: there is room all the same.
    witness:publish(held[2], '{"stream":"S","seq":7}')
    run.wait_until(function() return #held == 4 end, 3, "the fourth one")
    for _, index in ipairs { 1, 3, 4 } do witness:publish(held[index], '{"stream":"S","seq":7}') end
    run.wait_until(function() return #held == 5 end, 5, "the fifth one")
    witness:publish(held[5], '{"stream":"S","seq":8}')
    wait(lua, "return complete ~= nil and complete[1] == true")
  end))

  it("does not go beyond that when a link comes back to many tasks", run.case(function()
    local lua, witness, server = start()
    lua [[
      few = c:jetstream { max_pending = 3, timeout = 20 }
      most, now = 0, 0
      for i = 1, 20 do
        moondog.spawn(function()
          while not go do moondog.sleep(0.01) end
          local p = assert(few:publish_async("slow", i))
          p:wait()
          finished = (finished or 0) + 1
        end)
      end
      c:subscribe("slow", function(msg)
        now = now + 1
        most = math.max(most, now)
        moondog.sleep(0.02)
        now = now - 1
        msg:respond('{"stream":"S","seq":1}')
      end)
      moondog.spawn(function() while c:status().state == "up" do moondog.sleep(0.005) end go = true end)]]
    witness:close()
    server:kill()
    run.pause(0.3)
    server:restart()
    witness = server:connect()
    lua = js_script.runner(witness)
    wait(lua, "return finished == 20", 20)
    assert.is_true(lua("return most") <= 3, lua("return most") .. " at a time")
  end))

  it("that fails is counted, and told once", run.case(function()
    local lua = start()
    lua [[
      pub = js
      one = js:publish_async("s.a", 1, { expect_stream = "OTHER" })
      two = js:publish_async("nobody", 2)
      three = js:publish_async("s.a", 3)]]
    local code, failed = lua 'local _, err = pub:publish_async_complete() return err.code, err.failed'
    assert.equals("wrong_stream", code)
    assert.equals(2, failed)
    assert.is_true(lua "return pub:publish_async_complete()")
    assert.equals("wrong_stream", select(2, lua "return one:wait()").code)
    assert.equals("no_stream", select(2, lua "return two:wait()").code)
    assert.equals(1, lua "return three:wait().seq")
  end))

  it("that something else answers is no success", run.case(function()
    local lua, witness = start()
    witness:subscribe("echo", function(msg) witness:publish(msg.reply, "hello") end)
    witness:flush()
    local _, err = lua 'js:publish_async("echo", 1) return js:publish_async_complete()'
    assert.equals("bad_answer", err.code)
  end))

  -- Its servers know the id, and may lose the message: a cluster of 2.10, and one of 2.11 or later.
  it("that is still on its way into the stream is no success", run.case(function()
    local lua, witness = start()
    local answers = {
      old = '{"stream":"S","seq":0,"duplicate": true}',
      new = '{"error":{"code":409,"err_code":10158,"description":"in process"},"stream":"S","seq":0}',
    }
    for subject, answer in pairs(answers) do
      witness:subscribe(subject, function(msg) witness:publish(msg.reply, answer) end)
      witness:flush()
      local _, err = lua(('return js:publish("%s", 1, { msg_id = "a" })'):format(subject))
      assert.equals("in_process", err.code)
      _, err = lua(('js:publish_async("%s", 1) return js:publish_async_complete()'):format(subject))
      assert.equals("in_process", err.code)
    end
  end))

  it("that nobody answers is given up, and the window empties", run.case(function()
    local lua, witness = start()
    witness:subscribe("deaf", function() end)
    witness:flush()
    lua 'few = c:jetstream { max_pending = 2, timeout = 0.3 }'
    lua [[
      moondog.spawn(function()
        local begun = moondog.now()
        for i = 1, 6 do assert(few:publish_async("deaf", i)) end
        took = moondog.now() - begun
      end)]]
    wait(lua, "return took ~= nil")
    local took = lua "return took"
    assert.is_true(took > 0.5 and took < 3, took)
    local code, failed = lua 'local _, err = few:publish_async_complete() return err.code, err.failed'
    assert.equals("timeout", code)
    assert.equals(6, failed)
  end))

  it("waits for those so far, whoever goes on publishing", run.case(function()
    local lua = start()
    lua [[
      pub = js
      moondog.spawn(function()
        while not stop do assert(pub:publish_async("s.b", "x")) moondog.sleep(0.001) end
      end)]]
    assert.is_true(lua 'pub:publish_async("s.a", 1) return pub:publish_async_complete(5)')
    lua "stop = true"
  end))

  it("is waited for by many at a time", run.case(function()
    local lua = start()
    lua [[
      finished = 0
      for i = 1, 2000 do
        moondog.spawn(function()
          assert(assert(js:publish_async("s.a", i)):wait())
          finished = finished + 1
        end)
      end]]
    wait(lua, "return finished == 2000", 20)
  end))
end)

describe("pipelined publishes whose server is killed", function()
  it("fail with the link, are counted, and can be sent again", run.case(function()
    local lua, witness, server, dog = start()
    lua [[
      js = c:jetstream { timeout = 10 }
      state = {}
      moondog.spawn(function()
        local list, failed, sent = {}, 0, 0
        while sent < 20000 do
          local batch = {}
          for i = sent + 1, sent + 4000 do batch[#batch + 1] = i end
          sent = sent + 4000
          state.sent = sent
          while #batch > 0 do
            local again, waiting = {}, {}
            for _, i in ipairs(batch) do
              local p = js:publish_async("s.a", i, { msg_id = i })
              if p then waiting[#waiting + 1] = { i, p } else again[#again + 1] = i end
            end
            for _, w in ipairs(waiting) do
              if not w[2]:wait() then again[#again + 1] = w[1] end
            end
            failed = failed + #again
            batch = again
          end
        end
        local ok, err = js:publish_async_complete()
        state.told = ok and 0 or err.failed
        state.failed, state.over = failed, true
      end)]]
    run.wait_until(function() return (lua "return state.sent" or 0) >= 8000 end, 20, "a part of it")
    witness:close()
    server:kill()
    dog:wait_log("^disconnected$", 10)
    server:restart()
    witness = server:connect()
    lua = js_script.runner(witness)
    wait(lua, "return state.over == true", 40)
    run.figure("messages sent again after a kill", lua "return state.failed")
    assert.is_true(lua "return state.told" <= lua "return state.failed")
    -- Each once: the stream knows their numbers.
    assert.equals(20000, lua('return js:stream_info("S").state.messages'))
  end, { deadline = 120 }))

  it("are a misuse where nothing can be sent", run.case(function()
    local lua = start()
    for code, text in pairs {
      ['js:publish_async("s.a", {})'] = "data is a string",
      ['js:publish_async("s.a", "x", { timeout = "x" })'] = "timeout is a number of seconds",
      ['js:publish_async("s.a", "x", { id = 1 })'] = 'unknown option "id"',
      ['js:publish_async("s.a", "x", 5)'] = "options are a table",
      ['js:publish_async(5)'] = "a subject is a text",
      ['js:publish("s.a", "x", { timeout = 0 })'] = "timeout is a number of seconds",
      ['js:publish_async_complete("x")'] = "timeout is a number of seconds",
      ['js:publish_async("s.a", "x"):wait("x")'] = "timeout is a number of seconds",
      ['c:jetstream { max_pending = 0.5 }'] = "max_pending of jetstream is a whole number",
    } do
      local ok, err = pcall(lua, code)
      assert.is_false(ok, code)
      assert.is_truthy(tostring(err):find(text, 1, true), tostring(err))
      assert.is_truthy(tostring(err):find("local moondog", 1, true), tostring(err)) -- the line of the script
    end
  end))
end)
