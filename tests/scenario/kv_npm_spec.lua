-- Buckets are the same thing to moondog and to the stock JavaScript client: each reads what the other has written.
local js_script = require "support.js_script"
local npm_client = require "support.npm_client"
local run = require "support.run"

local ALL_BYTES = {}
for byte = 0, 255 do ALL_BYTES[#ALL_BYTES + 1] = string.char(byte) end
ALL_BYTES = table.concat(ALL_BYTES)

local function start()
  local lua, _, server = js_script.start()
  return lua, npm_client.start(server.url)
end

-- What both say of a bucket's entries: "key operation value@revision".
local function text_of(entries)
  local out = {}
  for i, e in ipairs(entries) do out[i] = ("%s %s %s@%d"):format(e.key, e.operation, e.value or "", e.revision) end
  return table.concat(out, ", ")
end

local function sorted(list)
  table.sort(list)
  return table.concat(list, " ")
end

describe("a bucket of moondog's", function()
  it("is the stock client's, too", run.case(function()
    local lua, npm = start()
    assert.is_true(lua 'return js:create_key_value { bucket = "B", history = 5, ttl = 3600 } ~= nil')
    local kv = assert(npm:key_value "B")
    local status = kv:status()
    assert.same({ "B", 5, 3600 * 1000 }, { status.bucket, status.history, status.ttl })
    lua([[
      local kv = js:key_value("B")
      kv:put("a.b/c=d_e-f", 1) kv:put("x", 1) kv:put("x", 2) kv:delete("x") kv:put("y", 1) kv:put("y", 2) kv:purge("y")
      local all = {}
      for byte = 0, 255 do all[#all + 1] = string.char(byte) end
      kv:create("bytes", table.concat(all))
    ]])
    assert.equals(ALL_BYTES, kv:get("bytes").value)
    assert.equals("1", kv:get("a.b/c=d_e-f").value)
    assert.equals("DEL", kv:get("x").operation)
    assert.equals("a.b/c=d_e-f bytes", sorted(kv:keys()))
    assert.equals("x PUT 1@2, x PUT 2@3, x DEL @4", text_of(kv:history("x")))
    assert.equals("y PURGE @7", text_of(kv:history("y")))
    local watch = assert(kv:watch())
    assert.equals("a.b/c=d_e-f PUT 1@1, x DEL @4, y PURGE @7, bytes PUT " .. ALL_BYTES .. "@8",
      text_of(watch:wait_initialized()))
    lua [[
      local kv = js:key_value("B")
      kv:create("x", "again") kv:update("x", "more", 9) kv:delete("x", { revision = 10 })
    ]]
    watch:wait(7)
    assert.equals("x PUT again@9, x PUT more@10, x DEL @11", text_of { unpack(watch.entries, 5) })
  end))

  it("is made once more by the stock client, with the same settings", run.case(function()
    local lua, npm = start()
    lua 'assert(js:create_key_value { bucket = "B", history = 3 }):put("a", "1")'
    local kv = assert(npm:create_key_value("B", { history = 3 }))
    assert.equals("1", kv:get("a").value)
    assert.equals(3, kv:status().history)
  end))
end)

describe("a bucket of the stock client's", function()
  it("is moondog's, too", run.case(function()
    local lua, npm = start()
    local kv = assert(npm:create_key_value("B", { history = 5, ttl = 3600 * 1000 }))
    local status = lua 'return js:key_value("B"):status()'
    assert.same({ "B", 5, 3600, true }, { status.bucket, status.history, status.ttl, status.direct })
    kv:put("a.b/c=d_e-f", "1")
    kv:put("x", "1")
    kv:put("x", "2")
    kv:delete("x")
    kv:put("y", "1")
    kv:put("y", "2")
    kv:purge("y")
    kv:create("bytes", ALL_BYTES)
    assert.is_true(lua [[
      local kv = js:key_value("B")
      for byte = 0, 255 do assert(kv:get("bytes").value:byte(byte + 1) == byte) end
      return #kv:get("bytes").value == 256
    ]])
    assert.equals("1", lua 'return js:key_value("B"):get("a.b/c=d_e-f").value')
    local _, err = lua 'return js:key_value("B"):get("x")'
    assert.equals("key_not_found", err.code)
    assert.equals("a.b/c=d_e-f bytes", sorted(lua 'return js:key_value("B"):keys()'))
    assert.equals("x PUT 1@2, x PUT 2@3, x DEL @4", text_of(lua 'return js:key_value("B"):history("x")'))
    assert.equals("y PURGE @7", text_of(lua 'return js:key_value("B"):history("y")'))
    lua [[
      SEEN = {}
      WATCH = assert(js:key_value("B"):watch(function(e)
        if e.key ~= "bytes" then SEEN[#SEEN + 1] = e end
      end))
      assert(WATCH:ready(5))
    ]]
    kv:create("x", "again")
    kv:update("x", "more", 9)
    kv:delete("x")
    local wanted = "a.b/c=d_e-f PUT 1@1, x DEL @4, y PURGE @7, x PUT again@9, x PUT more@10, x DEL @11"
    run.wait_until(function() return text_of(lua "return SEEN") == wanted end, 5, wanted)
  end))

  it("is made once more by moondog, with the same settings", run.case(function()
    local lua, npm = start()
    local kv = assert(npm:create_key_value("B", { history = 3, ttl = 60000 }))
    kv:put("a", "1")
    assert.equals("1", lua 'return assert(js:create_key_value { bucket = "B", history = 3, ttl = 60 }):get("a").value')
  end))
end)

describe("both at once", function()
  it("see who was first", run.case(function()
    local lua, npm = start()
    lua 'KV = assert(js:create_key_value { bucket = "B" })'
    local kv = assert(npm:key_value "B")
    assert.equals(1, kv:create("lock", "npm"))
    local _, err = lua 'return KV:create("lock", "moondog")'
    assert.equals("key_exists", err.code)
    _, err = lua 'return KV:update("lock", "moondog", 7)'
    assert.equals("wrong_revision", err.code)
    assert.equals(2, lua 'return KV:update("lock", "moondog", 1)')
    _, err = kv:update("lock", "npm", 1)
    assert.equals("10071", err.code)
    kv:delete("lock")
    assert.equals(4, lua 'return KV:create("lock", "moondog")')
    _, err = kv:create("lock", "npm")
    assert.equals("10071", err.code)
    lua 'KV:purge("lock")'
    assert.equals(6, kv:create("lock", "npm"))
  end))
end)
