-- Readers of streams keep their place when the script is replaced, under a flow of messages.
local js_script = require "support.js_script"
local moondog = require "support.moondog"
local nats_server = require "support.nats_server"
local run = require "support.run"

local RELOADS = 10
local BETWEEN_SECONDS = 0.15

-- Both readers tell the witness what they see. The durable one takes its time.
local SCRIPT = [[
local moondog = require "moondog"
local c = moondog.connect { servers = { $URL } }
moondog.on_start(function()
  local js = c:jetstream { wait = true }
  js:add_stream { name = "S", subjects = { "s" } }
  assert(js:consumer("S", { durable = "w", max_ack_pending = 50, ack_wait = 2 })):consume(function(msg)
    moondog.sleep(0.002)
    c:publish("seen.durable", msg.data)
    assert(msg:ack())
  end)
  assert(js:ordered("S")):consume(function(msg) c:publish("seen.ordered", msg.data) end)
  local w = assert(js:consumer("S", { durable = "loop", ack_wait = 2 }))
  for msg in w:messages() do
    c:publish("seen.loop", msg.data)
    assert(msg:ack())
  end
  moondog.log.info("loop over", { version = $VERSION })
end)
]]

local function record(witness, subject)
  local seen = { count = 0, times = {} }
  witness:subscribe(subject, function(msg)
    local n = tonumber(msg.data)
    seen.count = seen.count + 1
    seen.in_order = seen.in_order ~= false and n == seen.count
    seen.times[n] = (seen.times[n] or 0) + 1
  end)
  return seen
end

local function assert_once(seen, sent, what)
  for n = 1, sent do
    assert.equals(1, seen.times[n] or 0, ("%s: how often message %d was seen"):format(what, n))
  end
end

describe("a reload under a flow of messages", function()
  it("keeps the place of a handler, a loop and an ordered reader", run.case(function()
    local server = nats_server.start { jetstream = { store_dir = run.folder() .. "/js" } }
    local dog = moondog.run(SCRIPT, { URL = server.url, VERSION = 0 })
    dog:wait_log("^connected$")
    local witness = server:connect()
    local durable, ordered, loop = record(witness, "seen.durable"), record(witness, "seen.ordered"),
      record(witness, "seen.loop")
    witness:flush()
    run.wait_until(function()
      local answer = witness:request("$JS.API.CONSUMER.LIST.S", "", 2)
      return answer and select(2, answer.data:gsub('"stream_name"', "")) == 3
    end, 10, "three consumers")
    local sent, stop = 0, false
    run.spawn(function()
      while not stop do
        for _ = 1, 5 do
          sent = sent + 1
          witness:publish("s", tostring(sent))
        end
        run.pause(0.005)
      end
    end)
    for version = 1, RELOADS do
      run.pause(BETWEEN_SECONDS)
      assert.equals("script reloaded", dog:reload(SCRIPT, { URL = server.url, VERSION = version }).msg)
    end
    run.pause(BETWEEN_SECONDS)
    stop = true
    run.wait_until(function()
      return durable.count >= sent and ordered.count >= sent and loop.count >= sent
    end, 20, function()
      print(witness:request("$JS.API.CONSUMER.INFO.S.loop", "", 2).data)
      for n = 1, sent do if not loop.times[n] then print("MISSING", n) end end
      return ("%d seen by all: %d, %d, %d"):format(sent, durable.count, ordered.count, loop.count)
    end)
    run.figure("messages while the script was replaced 10 times", sent)
    assert_once(ordered, sent, "ordered")
    assert.is_true(ordered.in_order)
    assert_once(durable, sent, "durable")
    assert_once(loop, sent, "loop")
    assert.equals(RELOADS, #dog:find_logs("^loop over$"))
    local answer = witness:request("$JS.API.CONSUMER.LIST.S", "", 2)
    assert.equals(3, select(2, answer.data:gsub('"stream_name"', "")))
  end))

  it("lets one that is stopped begin anew", run.case(function()
    local lua, witness, server, dog = js_script.start()
    lua 'assert(js:add_stream { name = "S", subjects = { "s" } }) for i = 1, 3 do assert(js:publish("s", i)) end'
    assert.same({ "1", "2" }, lua 'reader = js:ordered("S") return { reader:next().data, reader:next().data }')
    dog:reload()
    assert.same("3", lua 'reader = js:ordered("S") return reader:next().data')
    lua 'reader:stop()'
    run.wait_until(function() return lua 'return #js:consumers("S") == 0' == true end, 5, "no consumer")
    assert.same("1", lua 'reader = js:ordered("S") return reader:next().data')
    assert.equals(1, #server:clients())
    witness:close()
  end))

  -- nats-server 2.9 removes the files of a consumer that is deleted and made again at once, and refuses every change of
  -- it from then on.
  it("goes on with a consumer that the server cannot write again", run.case(function()
    local lua, _, _, dog = js_script.start()
    lua 'assert(js:add_stream { name = "S", subjects = { "s" } }) for i = 1, 2 do assert(js:publish("s", i)) end'
    local read = 'reader = assert(js:consumer("S", { durable = "w", backoff = { 5, 6 }, max_deliver = 3 })) '
    local next_one = 'local msg = reader:next() msg:ack_sync() return msg.data'
    assert.equals("1", lua(read .. next_one))
    assert(os.execute(("rm -r '%s/js/jetstream/$G/streams/S/obs/w'"):format(run.folder())) == 0)
    dog:reload()
    assert.equals("2", lua(read .. next_one))
    assert.equals(1, #dog:find_logs("^a consumer is used as it is$"))
    lua 'reader:delete()'
  end))

  it("does not take it for one that is to be without its backoff", run.case(function()
    local lua, _, _, dog = js_script.start()
    lua 'assert(js:add_stream { name = "S", subjects = { "s" } }) for i = 1, 2 do assert(js:publish("s", i)) end'
    local with, without = "backoff = { 5, 6 }, max_deliver = 3", "ack_wait = 5, max_deliver = 3"
    local function read(options)
      return lua(('local reader, err = js:consumer("S", { durable = "w", %s }) if not reader then return nil, err end '
        .. 'local msg = reader:next() msg:ack_sync() return msg.data'):format(options))
    end
    assert.equals("1", read(with))
    assert(os.execute(("rm -r '%s/js/jetstream/$G/streams/S/obs/w'"):format(run.folder())) == 0)
    dog:reload()
    local data, err = read(without)
    assert.is_nil(data)
    assert.matches("^JetStream refuses CONSUMER.CREATE.S.w: ", err.message)
    dog:reload()
    assert.equals("2", read(with))
  end))

  it("tells when the server refuses to change a consumer", run.case(function()
    local lua, _, _, dog = js_script.start()
    lua 'assert(js:add_stream { name = "S", subjects = { "s" } }) assert(js:consumer("S", { durable = "w" }))'
    dog:reload()
    local reader, err = lua 'return js:consumer("S", { durable = "w", ack = "none" })'
    assert.is_nil(reader)
    assert.matches("^JetStream refuses CONSUMER.CREATE.S.w: ", err.message)
  end))
end)
