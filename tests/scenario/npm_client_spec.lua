-- The JavaScript client that other specs compare with does what they expect of it, against a real
-- server.
local nats_server = require "support.nats_server"
local npm_client = require "support.npm_client"
local run = require "support.run"

local EVERY_BYTE = {}
for byte = 0, 255 do
  EVERY_BYTE[#EVERY_BYTE + 1] = string.char(byte)
end
EVERY_BYTE = table.concat(EVERY_BYTE)

local function start()
  local server = nats_server.start { jetstream = { store_dir = run.folder() .. "/js" } }
  return npm_client.start(server.url), server
end

describe("the JavaScript client", function()
  it("publishes into a stream, and takes messages out of it", run.case(function()
    local npm = start()
    npm:call("stream_add", { config = { name = "ORDERS", subjects = { "orders.>" } } })
    local ack = npm:call("publish", { subject = "orders.é", data = EVERY_BYTE, msg_id = "one",
      headers = { Colour = { "red", "grün" } } })
    assert.same({ stream = "ORDERS", seq = 1, duplicate = false }, ack)
    assert.is_true(npm:call("publish", { subject = "orders.é", data = "x", msg_id = "one" }).duplicate)
    assert.equals(2, npm:call("publish", { subject = "orders.b", data = "two" }).seq)
    assert.equals(2, npm:call("stream_info", { stream = "ORDERS" }).state.messages)

    npm:call("consumer_add", { stream = "ORDERS", config = { durable_name = "w", ack_policy = "explicit" } })
    local m = npm:call("next", { stream = "ORDERS", consumer = "w" })
    assert.equals("orders.é", m.subject)
    assert.equals(EVERY_BYTE, m.data)
    assert.same({ "red", "grün" }, m.headers.Colour)
    assert.is_true(npm:call("ack", { handle = m.handle, kind = "ack_sync" }))
    m = npm:call("fetch", { stream = "ORDERS", consumer = "w", n = 5, expires_ms = 1000 })
    assert.equals(1, #m)
    assert.same({ "two", 2, 1 }, { m[1].data, m[1].seq, m[1].deliveries })
    npm:call("ack", { handle = m[1].handle, kind = "nak" })
    m = npm:call("next", { stream = "ORDERS", consumer = "w" })
    assert.equals(2, m.deliveries)
    npm:call("ack", { handle = m.handle })
    assert.is_nil(npm:call("next", { stream = "ORDERS", consumer = "w", expires_ms = 1000 }))
    run.wait_until(function()
      return npm:call("consumer_info", { stream = "ORDERS", consumer = "w" }).ack_floor.stream_seq == 2
    end, 5, "both acknowledged")
    assert.equals(1, #npm:call("consumers", { stream = "ORDERS" }))
    assert.equals("two", npm:call("message", { stream = "ORDERS", query = { seq = 2 } }).data)
    assert.is_true(npm:call("consumer_delete", { stream = "ORDERS", consumer = "w" }))
    assert.is_true(npm:call("stream_delete", { stream = "ORDERS" }))
  end))

  it("says what the server refused, and what is no operation", run.case(function()
    local npm = start()
    local _, err = npm:stream_info { stream = "NONE" }
    assert.equals("10059", err.code)
    assert.matches("stream not found", err.message)
    _, err = npm:key_value("NONE")
    assert.matches("stream not found", err.message)
    _, err = npm:publish { subject = "nobody", data = "x" }
    assert.equals("503", err.code)
    _, err = npm:ask("dance")
    assert.same({ code = "MISUSE", message = "there is no operation dance" }, err)
    assert.is_true(npm:call("disconnect"))
    _, err = npm:flush()
    assert.equals("it is not connected", err.message)
  end))

  it("keeps keys and values", run.case(function()
    local npm = start()
    local kv = assert(npm:create_key_value("CONFIG", { history = 5, storage = "memory" }))
    assert.equals(1, kv:put("a.b", "1"))
    assert.equals(2, kv:put("a.b", EVERY_BYTE))
    local entry = kv:get("a.b")
    assert.same({ "CONFIG", "a.b", EVERY_BYTE, 2, "PUT" },
      { entry.bucket, entry.key, entry.value, entry.revision, entry.operation })
    assert.equals("1", kv:get("a.b", 1).value)
    assert.is_nil(kv:get("nothing"))

    assert.equals(3, kv:create("c", "new"))
    local _, err = kv:create("c", "again")
    assert.equals("10071", err.code)
    assert.equals(4, kv:update("c", "next", 3))
    _, err = kv:update("c", "late", 3)
    assert.equals("10071", err.code)

    assert.is_true(kv:delete("c"))
    assert.equals("DEL", kv:get("c").operation)
    assert.same({ "a.b" }, kv:keys())
    local operations = {}
    for i, version in ipairs(kv:history("c")) do
      operations[i] = version.operation
    end
    assert.same({ "PUT", "PUT", "DEL" }, operations)
    assert.is_true(kv:purge("a.b"))
    assert.same({ "PURGE" }, { kv:history("a.b")[1].operation, kv:history("a.b")[2] })

    local status = assert(npm:key_value("CONFIG")):status()
    assert.same({ 5, 4 }, { status.history, status.values })
    assert.is_true(kv:destroy())
  end))

  it("watches keys while they change", run.case(function()
    local npm = start()
    local kv = assert(npm:create_key_value("CONFIG"))
    kv:put("a", "1")
    kv:put("b", "1")
    local watch = assert(kv:watch())
    assert.equals(2, #watch:wait_initialized())
    local some = assert(kv:watch { key = "b", include = "updates" })
    kv:put("b", "2")
    kv:delete("a")
    local entries = watch:wait(4)
    assert.same({ "b", "2", 3 }, { entries[3].key, entries[3].value, entries[3].revision })
    assert.same({ "a", "DEL" }, { entries[4].key, entries[4].operation })
    assert.equals("2", some:wait(1)[1].value)
    assert.is_true(watch:stop())
    run.wait_until(function() return watch.ended end, 5, "the end of a watch")
  end))

  it("comes back when the server does", run.case(function()
    local npm, server = start()
    npm:call("stream_add", { config = { name = "S", subjects = { "s" } } })
    npm:call("publish", { subject = "s", data = "1" })
    server:kill()
    npm:wait_status("disconnect")
    server:restart()
    npm:wait_status("reconnect")
    assert.equals(2, npm:call("publish", { subject = "s", data = "2" }).seq)
  end))

  it("goes when it is told to, and the server has heard of it", run.case(function()
    local npm, server = start()
    assert.equals(1, #server:clients("^npm$"))
    local code, signal = npm:stop()
    assert.same({ 0, 0 }, { code, signal })
    run.wait_until(function() return #server:clients("^npm$") == 0 end, 5, "no client")
  end))
end)
