-- Buckets are the same thing to moondog and to the stock C client.
local js_script = require "support.js_script"
local nats_c = require "support.nats_c"
local run = require "support.run"

local BYTES = "\0\1\255\r\n"

local function text_of(entries)
  local out = {}
  for i, e in ipairs(entries) do out[i] = ("%s %s %s@%d"):format(e.key, e.operation, e.value, e.revision) end
  return table.concat(out, ", ")
end

local function sorted(list)
  table.sort(list)
  return table.concat(list, " ")
end

describe("the stock C client", function()
  it("reads what moondog writes", run.case(function()
    local lua, _, server = js_script.start()
    lua [[
      local kv = assert(js:create_key_value { bucket = "B", history = 5 })
      kv:put("x", "1") kv:put("x", "2") kv:delete("x") kv:put("y", "1") kv:purge("y") kv:create("z.z", "\0\1\255\r\n")
    ]]
    local kv = nats_c.key_value(server.url, "B")
    assert.equals(BYTES, kv:get("z.z").value)
    assert.is_nil(kv:get("x"))
    assert.equals("z.z", sorted(kv:keys()))
    assert.equals("x PUT 1@1, x PUT 2@2, x DEL @3", text_of(kv:history("x")))
    assert.equals("y PURGE @5", text_of(kv:history("y")))
    assert.equals(7, kv:create("x", "3"))
    assert.is_nil(kv:create("x", "4"))
    assert.is_nil(kv:update("x", "4", 2))
    assert.equals(8, kv:update("x", "4", 7))
    nats_c.key_value(server.url, "B", { history = 5 }) -- the same bucket to it
  end))

  it("writes what moondog reads", run.case(function()
    local lua, _, server = js_script.start()
    local kv = nats_c.key_value(server.url, "B", { history = 5, ttl = 600 })
    kv:put("x", "1")
    kv:put("x", "2")
    kv:delete("x")
    kv:put("y", "1")
    kv:purge("y")
    kv:create("z.z", BYTES)
    lua 'KV = assert(js:create_key_value { bucket = "B", history = 5, ttl = 600 })'
    assert.is_true(lua [[return KV:get("z.z").value == "\0\1\255\r\n"]])
    assert.equals("z.z", sorted(lua "return KV:keys()"))
    assert.equals("x PUT 1@1, x PUT 2@2, x DEL @3", text_of(lua 'return KV:history("x")'))
    assert.equals("y PURGE @5", text_of(lua 'return KV:history("y")'))
    assert.equals(7, lua 'return KV:create("x", "3")')
    local _, err = lua 'return KV:update("x", "4", 3)'
    assert.equals("wrong_revision", err.code)
  end))
end)
