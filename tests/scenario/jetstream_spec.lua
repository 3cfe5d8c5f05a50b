-- JetStream from Lua, against a real server: streams, publishing, one message.
local cjson = require "cjson"
local js_script = require "support.js_script"
local run = require "support.run"

local start = js_script.start

local ADD = 'js:add_stream { name = "ORDERS", subjects = { "orders.>" }, max_age = 3600.5, duplicate_window = 60 } '

describe("streams", function()
  it("are made, changed, listed, purged and deleted", run.case(function()
    local lua = start()
    local info = lua("return " .. ADD)
    assert.equals("ORDERS", info.config.name)
    assert.equals(3600.5, info.config.max_age) -- seconds, both ways
    assert.equals(60, info.config.duplicate_window)
    info = lua('return js:update_stream { name = "ORDERS", subjects = { "orders.>", "more" }, max_age = 7 }')
    assert.same({ "orders.>", "more" }, info.config.subjects)
    assert.equals(7, lua('return js:stream_info("ORDERS")').config.max_age)
    assert.equals(1, lua('return js:account()').streams)

    lua('for i = 1, 5 do assert(js:publish("orders.a", "x")) end assert(js:publish("more", "y"))')
    assert.equals(5, lua('return js:purge_stream("ORDERS", { subject = "orders.*" })'))
    assert.equals(1, lua('return js:stream_info("ORDERS")').state.messages)
    assert.is_true(lua('return js:delete_stream("ORDERS")'))
    local _, err = lua('return js:stream_info("ORDERS")')
    assert.equals("stream_not_found", err.code)
    assert.matches("stream not found", err.message)
  end))

  it("are listed beyond one page of the server's", run.case(function()
    local lua = start()
    assert.equals(300, lua([[
      for i = 1, 300 do assert(js:add_stream { name = "S" .. i, subjects = { "s" .. i }, storage = "memory" }) end
      return #js:streams()
    ]]))
    assert.equals("S7", lua('return js:streams({ subject = "s7" })[1].config.name'))
  end))

  it("that something else answers for are errors", run.case(function()
    local lua, witness = start()
    local answers = { INFO = "{}", ["STREAM.INFO.S"] = '{"config":[],"state":{"last_seq":"7"}}',
      ["STREAM.LIST"] = '{"total":"many"}', ["STREAM.MSG.GET.S"] = '{"message":7}',
      ["CONSUMER.INFO.S.c"] = '{"error":7}' }
    for name, text in pairs(answers) do
      witness:subscribe("$JS.odd.API." .. name, function(msg) witness:publish(msg.reply, text) end)
    end
    witness:flush()
    for _, call in ipairs { 'stream_info("S")', "streams()", 'get_message("S", 1)', 'consumer_info("S", "c")',
      'key_values()' } do
      local _, err = lua('return assert(c:jetstream { domain = "odd" }):' .. call)
      assert.equals("bad_answer", err.code, call)
    end
  end))

  it("that the server refuses are errors with its words", run.case(function()
    local lua = start()
    lua(ADD)
    local _, err = lua('return js:add_stream { name = "ORDERS", subjects = { "else" } }')
    assert.equals("stream_exists", err.code)
    _, err = lua('return js:add_stream { name = "OTHER", subjects = { "orders.a" } }')
    assert.matches("subjects overlap", err.message)
  end))
end)

describe("publishing", function()
  it("returns where the message is, and the stream has it as it was", run.case(function()
    local lua = start()
    lua(ADD)
    local ack = lua('return js:publish("orders.new", "\\0\\255data", { headers = { A = { "1", "2" }, B = "3" } })')
    assert.same({ stream = "ORDERS", seq = 1, duplicate = false }, ack)
    local length, data, a, b = lua([[
      local m = assert(js:get_message("ORDERS", 1))
      return #m.data .. m.subject .. m.seq .. table.concat(m.headers.A, "+") .. m.headers.B,
        m.data == "\0\255data"
    ]])
    assert.equals("6orders.new11+23", length)
    assert.is_true(data, a, b)
    lua('js:publish("orders.new", "second")')
    assert.equals("second", lua('return js:get_message("ORDERS", { last = "orders.new" }).data'))
    local _, err = lua('return js:get_message("ORDERS", 99)')
    assert.equals("message_not_found", err.code)
  end))

  it("knows duplicates and what was expected", run.case(function()
    local lua = start()
    lua(ADD)
    assert.is_false(lua('return js:publish("orders.a", "x", { msg_id = "one" })').duplicate)
    local again = lua('return js:publish("orders.a", "x", { msg_id = "one" })')
    assert.same({ true, 1 }, { again.duplicate, again.seq })
    local cases = {
      ["expect_seq = 7"] = "wrong_last_sequence", ["expect_msg_id = 'two'"] = "wrong_last_msg_id",
      ["expect_stream = 'X'"] = "wrong_stream", ["expect_subject_seq = 9"] = "wrong_last_sequence",
    }
    for option, code in pairs(cases) do
      local _, err = lua(('return js:publish("orders.a", "y", { %s })'):format(option))
      assert.equals(code, err.code, option)
    end
    assert.equals(2, lua([[return js:publish("orders.a", "y", { expect_seq = 1, expect_msg_id = "one",
      expect_stream = "ORDERS", expect_subject_seq = 1 })]]).seq)
  end))

  it("to a subject that no stream takes is an error", run.case(function()
    local lua = start()
    local _, err = lua('return js:publish("nobody", "x")')
    assert.equals("no_stream", err.code)
  end))
end)

describe("a server without JetStream", function()
  it("is said, the connection works, and JetStream is found when it comes", run.case(function()
    local lua, witness, server, dog = start {}
    assert.equals("no_jetstream", lua("return js").code)
    server:kill()
    server.config.jetstream = { store_dir = run.folder() .. "/late" }
    run.file(server.name .. ".conf", (cjson.encode { listen = server.host .. ":" .. server.port,
      http = server.host .. ":" .. server.http_port, jetstream = server.config.jetstream }:gsub("\\/", "/")))
    server:restart()
    dog:wait_log("^reconnected$", 15)
    witness:close()
    witness = server:connect()
    local answer = cjson.decode(witness:wait_answer("run", "return js:account()", 10).data)
    assert.is_true(answer[1])
    assert.equals(0, answer[2].streams)
  end))
end)

describe("an answer with a number that is too large for a whole one", function()
  it("is read: nats-server 2.10 has 2^64 - 1 where a reservation is -1", run.case(function()
    local lua, witness = start {}
    witness:subscribe("$JS.API.INFO", function(msg)
      witness:publish(msg.reply, '{"memory":0,"storage":7,"reserved_storage":18446744073709551615,"streams":1}')
    end)
    witness:flush()
    assert.is_true(lua("return js:account().reserved_storage == 2 ^ 64"))
    assert.equals(7, lua("return js:account().storage"))
  end))
end)

describe("a misuse", function()
  for code, text in pairs {
    ['js:add_stream { name = "a.b" }'] = 'bad name of a stream "a.b"',
    ['js:publish("a", "b", { id = 1 })'] = 'unknown option "id" of publish',
    ['js:get_message("A", {})'] = "which one is a sequence",
    ['c:jetstream { prefix = "x" }'] = 'unknown option "prefix" of jetstream',
    ['js:purge_stream("A", { subjct = "x" })'] = 'unknown option "subjct" of purge_stream',
    ['js:add_stream { name = "A", subject = "x" }'] = 'a stream has no field "subject"',
    ['js:update_stream { name = "A", subjects = "x" }'] = "a stream's subjects are a list",
    ['js:stream_info(nil)'] = 'bad name of a stream "nil"',
    ['js:add_stream { name = "A", max_age = "1h" }'] = "max_age is a number of seconds",
  } do
    it(("is an error of the script: %s"):format(code), run.case(function()
      js_script.assert_misuse(start(), code, text)
    end))
  end
end)
