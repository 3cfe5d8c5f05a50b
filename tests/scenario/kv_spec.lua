-- Key-value buckets from Lua, against a real server: making, reading, writing, deleting, and what is on the wire.
local js_script = require "support.js_script"
local run = require "support.run"

local BUCKET = 'local kv = assert(js:create_key_value { bucket = "cfg", history = 5 }) '

describe("a bucket", function()
  it("is made, found, listed and deleted", run.case(function()
    local lua = js_script.start()
    local status = lua([[
      local kv = assert(js:create_key_value { bucket = "cfg", history = 5, ttl = 60, max_value_size = 1000,
        max_bytes = 100000, storage = "memory", description = "settings" })
      kv:put("a", "1")
      return kv:status()
    ]])
    for field, value in pairs { bucket = "cfg", stream = "KV_cfg", history = 5, ttl = 60, max_value_size = 1000,
      max_bytes = 100000, storage = "memory", description = "settings", replicas = 1, values = 1, revision = 1,
      direct = true, key_ttl = false } do
      assert.equals(value, status[field], field)
    end
    assert.is_true(status.bytes > 0)
    assert.is_true(lua [[ return js:create_key_value { bucket = "other" } ~= nil ]])
    assert.equals("cfg other", lua [[
      assert(js:add_stream { name = "NOBUCKET", subjects = { "x" } })
      local names = {}
      for _, status in ipairs(assert(js:key_values())) do names[#names + 1] = status.bucket end
      table.sort(names)
      return table.concat(names, " ")
    ]])
    assert.equals("1", lua 'return js:key_value("cfg"):get("a").value')
    assert.is_true(lua 'return js:delete_key_value("cfg")')
    for _, code in ipairs { 'js:key_value("cfg")', 'js:delete_key_value("cfg")' } do
      local _, err = lua("return " .. code)
      assert.equals("bucket_not_found", err.code)
      assert.matches('"cfg"', err.message)
    end
  end))

  it("may be made again as it is, and not otherwise", run.case(function()
    local lua = js_script.start()
    local _, err = lua(BUCKET .. 'return js:create_key_value { bucket = "cfg", history = 5 } ~= nil')
    assert.is_nil(err)
    _, err = lua 'return js:create_key_value { bucket = "cfg", history = 6 }'
    assert.equals("bucket_exists", err.code)
    assert.matches("with history = 5: bind it with js:key_value", err.message)
  end))

  it("has the stream of the convention", run.case(function()
    local lua = js_script.start()
    local config = lua(BUCKET .. 'return js:stream_info("KV_cfg").config')
    assert.same({ "$KV.cfg.>" }, config.subjects)
    for field, value in pairs { max_msgs_per_subject = 5, discard = "new", allow_rollup_hdrs = true, deny_delete = true,
      allow_direct = true, duplicate_window = 120, max_msgs = -1, max_bytes = -1, max_consumers = -1,
      retention = "limits", storage = "file", num_replicas = 1 } do
      assert.equals(value, config[field], field)
    end
    config = lua 'js:create_key_value { bucket = "short", ttl = 3 } return js:stream_info("KV_short").config'
    assert.equals(3, config.duplicate_window)
    assert.equals(3, config.max_age)
  end))

  it("that is a stream of another kind is none", run.case(function()
    local lua = js_script.start()
    local _, err = lua [[
      assert(js:add_stream { name = "KV_x", subjects = { "$KV.x.>" } })
      return js:key_value("x")
    ]]
    assert.equals("bucket_not_found", err.code)
    assert.matches("is no bucket", err.message)
  end))
end)

describe("a value", function()
  it("is read as it was written, with its revision and time", run.case(function()
    local lua = js_script.start()
    local first, second = lua(BUCKET .. 'return kv:put("a/b.c=d", "\\0\\255\\r\\n"), kv:put("n", 12.5)')
    assert.same({ 1, 2 }, { first, second })
    local same, entry = lua [[
      local kv = js:key_value("cfg")
      local e = kv:get("a/b.c=d")
      local same = e.value == "\0\255\r\n"
      e.value = nil
      return same, e
    ]]
    assert.is_true(same)
    assert.is_true(math.abs(entry.time - os.time()) < 60, tostring(entry.time))
    entry.time = nil
    assert.same({ bucket = "cfg", key = "a/b.c=d", revision = 1, operation = "PUT", delta = 0 }, entry)
    assert.equals("12.5", lua 'return js:key_value("cfg"):get("n").value')
    assert.equals("", lua 'local kv = js:key_value("cfg") kv:put("empty", "") return kv:get("empty").value')
    local _, err = lua 'return js:key_value("cfg"):get("nothing")'
    assert.equals("key_not_found", err.code)
    assert.matches('"nothing"', err.message)
  end))

  it("is the same from the leader, and in a bucket without direct reading", run.case(function()
    local lua = js_script.start()
    assert.same({ 3, true }, lua([[
      js = c:jetstream { timeout = 0.4 } -- nobody answers where direct reading ended
    ]] .. BUCKET .. [[
      kv:put("a", "1") kv:put("b", "2") kv:put("a", "3\0")
      local near, far = kv:get("a"), kv:get("a", { direct = false })
      for field, value in pairs(near) do assert(far[field] == value, field) end
      assert(kv:get("a", { revision = 1, direct = false }).value == "1")
      local config = js:stream_info("KV_cfg").config
      config.allow_direct = false
      assert(js:update_stream(config))
      local all = kv:get("a").value == "3\0" and js:key_value("cfg"):get("a").value == "3\0"
      local gone, err = kv:get("c")
      return { kv:get("a").revision, all and not gone and err.code == "key_not_found" }
    ]]))
  end))

  it("of an earlier revision can be read, if it was this key's", run.case(function()
    local lua = js_script.start()
    assert.equals("1", lua(BUCKET .. [[
      kv:put("a", "1") kv:put("b", "2") kv:put("a", "3")
      return kv:get("a", { revision = 1 }).value
    ]]))
    for _, revision in ipairs { 2, 99 } do
      for _, direct in ipairs { "true", "false" } do
        local _, err = lua(('return js:key_value("cfg"):get("a", { revision = %d, direct = %s })'):format(revision,
          direct))
        assert.equals("key_not_found", err.code)
        assert.matches("at revision " .. revision, err.message)
      end
    end
  end))

  it("can be made only where none is", run.case(function()
    local lua = js_script.start()
    local revision, err = lua(BUCKET .. 'kv:create("a", "1") return kv:create("a", "2")')
    assert.is_nil(revision)
    assert.equals("key_exists", err.code)
    assert.equals("1", lua 'return js:key_value("cfg"):get("a").value')
    for _, removal in ipairs { "delete", "purge" } do
      assert.equals("again", lua(([[
        local kv = js:key_value("cfg")
        assert(kv:%s("a"))
        local revision = assert(kv:create("a", "again"))
        assert(kv:get("a").revision == revision)
        return kv:get("a").value
      ]]):format(removal)))
    end
  end))

  it("is made by one of many who try", run.case(function()
    local lua = js_script.start()
    assert.same({ 1, 19 }, lua(BUCKET .. [[
      kv:put("lock", "x") kv:delete("lock")
      local made, refused = 0, 0
      for i = 1, 20 do
        moondog.spawn(function()
          local revision, err = kv:create("lock", i)
          if revision then made = made + 1 elseif err.code == "key_exists" then refused = refused + 1 end
        end)
      end
      for _ = 1, 500 do
        if made + refused == 20 then break end
        moondog.sleep(0.01)
      end
      return { made, refused }
    ]]))
  end))

  it("is changed only where the revision is the expected one", run.case(function()
    local lua = js_script.start()
    local revision = lua(BUCKET .. 'local r = kv:put("a", "1") kv:put("b", "x") return kv:update("a", "2", r)')
    assert.equals(3, revision)
    local again, err = lua 'return js:key_value("cfg"):update("a", "3", 1)'
    assert.is_nil(again)
    assert.equals("wrong_revision", err.code)
    assert.matches("is not 1", err.message)
    assert.equals("2", lua 'return js:key_value("cfg"):get("a").value')
    for _, call in ipairs { 'delete("a", { revision = 1 })', 'purge("a", { revision = 2 })' } do
      local _, why = lua('return js:key_value("cfg"):' .. call)
      assert.equals("wrong_revision", why.code)
    end
    assert.equals(4, lua 'return js:key_value("cfg"):delete("a", { revision = 3 })')
  end))

  it("is gone when it is deleted or purged, with its history or without", run.case(function()
    local lua = js_script.start()
    local _, err = lua(BUCKET .. [[
      for i = 1, 3 do kv:put("a", i) kv:put("b", i) end
      kv:delete("a") kv:purge("b")
      local gone, err = kv:get("a")
      assert(not gone and err.code == "key_not_found")
      assert(kv:get("a", { revision = 5 }).value == "3")
      return kv:get("b", { revision = 6 })
    ]])
    assert.equals("key_not_found", err.code)
    assert.equals(5, lua 'return js:key_value("cfg"):status().values') -- a three times and its marker, b's marker
    local m = lua 'return js:get_message("KV_cfg", { last = "$KV.cfg.b" })'
    assert.same({ ["KV-Operation"] = "PURGE", ["Nats-Rollup"] = "sub" }, m.headers)
    m = lua 'return js:get_message("KV_cfg", { last = "$KV.cfg.a" })'
    assert.same({ ["KV-Operation"] = "DEL" }, m.headers)
  end))

  it("may be as large as the server takes", run.case(function()
    local lua = js_script.start()
    assert.same({ 1000000, 1000000 }, lua(BUCKET .. [[
      assert(kv:put("large", ("x"):rep(1000000)))
      return { #kv:get("large").value, #assert(kv:get("large", { direct = false })).value }
    ]]))
  end))
end)

describe("what the server does not take", function()
  it("is named in the words of buckets", run.case(function()
    local lua = js_script.start()
    local _, err = lua [[
      return js:create_key_value { bucket = "small", max_value_size = 400, max_bytes = 1000 }:put("a", ("x"):rep(401))
    ]]
    assert.equals("value_too_large", err.code)
    _, err = lua [[
      local kv = js:key_value("small")
      for i = 1, 9 do
        local revision, err = kv:put("k" .. i, ("x"):rep(400))
        if not revision then return nil, err end
      end
    ]]
    assert.equals("bucket_full", err.code)
    _, err = lua [[
      local kv = js:key_value("small")
      local config = js:stream_info("KV_small").config
      config.sealed = true
      assert(js:update_stream(config))
      return kv:put("a", "x")
    ]]
    assert.equals("bucket_read_only", err.code)
    for code, call in pairs { bucket_not_found = 'put("a", "b")', key_not_found = 'get("a")' } do
      local _, before = lua(('return js:create_key_value { bucket = "lost" }:%s'):format(call))
      if code == "key_not_found" then assert.equals(code, before.code) end
      _, err = lua(([[
        local kv = c:jetstream({ timeout = 0.4 }):key_value("lost")
        js:delete_key_value("lost")
        return kv:%s
      ]]):format(call))
      assert.equals("bucket_not_found", err.code)
    end
  end))

  it("of times to live of single keys needs a newer server", run.case(function()
    local lua = js_script.start()
    for _, call in ipairs { 'kv:put("a", "b", { ttl = 5 })', 'kv:create("a", "b", { ttl = 5 })',
      'js:create_key_value { bucket = "new", limit_marker_ttl = 5 }' } do
      local _, err = lua(BUCKET .. "return " .. call)
      assert.equals("unsupported", err.code, call)
      assert.matches("2%.11", err.message)
    end
    local _, err = lua 'return js:key_value("new")'
    assert.equals("bucket_not_found", err.code)
  end))
end)

describe("times to live", function()
  it("of single keys are the header of the convention", run.case(function()
    local lua = js_script.start()
    assert.equals("5s 1500ms 60s", lua(BUCKET .. [[
      kv.key_ttl = true -- as with a server that has them; this one keeps the header
      assert(kv:put("a", "1", { ttl = 5 }))
      assert(kv:create("b", "1", { ttl = 1.5 }))
      assert(kv:update("a", "2", 1, { ttl = 60 }))
      local out = {}
      for i, seq in ipairs { 1, 2, 3 } do out[i] = js:get_message("KV_cfg", seq).headers["Nats-TTL"] end
      return table.concat(out, " ")
    ]]))
  end))

  it("leave markers, which are deletions", run.case(function()
    local lua = js_script.start()
    assert.same({ "PURGE", "PURGE", "DEL", "key_not_found" }, lua(BUCKET .. [[
      local out = {}
      for i, reason in ipairs { "MaxAge", "Purge", "Remove" } do
        local key = "k" .. i
        assert(js:publish("$KV.cfg." .. key, "", { headers = { ["Nats-Marker-Reason"] = reason } }))
        local _, err = kv:get(key)
        out[i], out[4] = kv:history(key)[1].operation, err and err.code
      end
      return out
    ]]))
  end))

  it("of a whole bucket end its values", run.case(function()
    local lua = js_script.start()
    assert.equals("1", lua [[
      KV = assert(js:create_key_value { bucket = "short", ttl = 1, storage = "memory" })
      KV:put("a", "1")
      return KV:get("a").value
    ]])
    run.wait_until(function() return select(2, lua 'return KV:get("a")') end, 10, "the end of a value")
    assert.equals(0, lua "return #KV:keys()")
    assert.equals(2, lua 'return KV:create("a", "2")')
  end))
end)

describe("a bucket elsewhere", function()
  it("is reached by the prefix of its domain", run.case(function()
    local lua = js_script.start(nil, { domain = "edge" })
    assert.equals("1", lua [[
      local there = assert(c:jetstream { domain = "edge" })
      local kv = assert(there:create_key_value { bucket = "cfg" })
      assert(kv:put("a", "1"))
      assert(kv.put_prefix == "$JS.edge.API.$KV.cfg.", kv.put_prefix)
      return js:key_value("cfg"):get("a").value .. ""
    ]])
  end))

  it("is read from a mirror, and written to where it comes from", run.case(function()
    local lua = js_script.start()
    assert.same({ "2", "a", "cfg" }, lua(BUCKET .. [[
      assert(js:add_stream { name = "KV_copy", mirror = { name = "KV_cfg" }, max_msgs_per_subject = 5,
        allow_direct = true })
      local copy = assert(js:key_value("copy"))
      local revision = assert(copy:put("a", "2"))
      local entry
      for _ = 1, 500 do
        entry = copy:get("a")
        if entry then break end
        moondog.sleep(0.01)
      end
      assert(kv:get("a").revision == revision)
      return { entry.value, entry.key, copy:status().mirror }
    ]]))
  end))
end)

describe("a misuse", function()
  for code, text in pairs {
    ['js:key_value("a.b")'] = 'bad name of a bucket "a.b": letters, digits',
    ['js:key_value(nil)'] = 'bad name of a bucket "nil"',
    ['js:delete_key_value("")'] = 'bad name of a bucket ""',
    ['js:create_key_value { bucket = "a b" }'] = 'bad name of a bucket "a b"',
    ['js:create_key_value { bucket = "a", historie = 3 }'] = 'unknown option "historie" of create_key_value: there',
    ['js:create_key_value { bucket = "a", history = 65 }'] = "history is a whole number from 1 to 64",
    ['js:create_key_value { bucket = "a", ttl = "1h" }'] = "ttl is a number of seconds",
    ['KV:get("")'] = 'bad key ""',
    ['KV:get(".a")'] = 'bad key ".a": letters, digits and - / _ = . with no dot at either end',
    ['KV:put("a.", "x")'] = 'bad key "a."',
    ['KV:put("a..b", "x")'] = 'bad key "a..b"',
    ['KV:create("a*", "x")'] = 'bad key "a*"',
    ['KV:delete("a b")'] = 'bad key "a b"',
    ['KV:purge(1)'] = 'bad key "1"',
    ['KV:put("a", {})'] = "a value is a string, not a table: encode it",
    ['KV:put("a")'] = "a value is a string, not a nil",
    ['KV:put("a", "b", { ttl = 0.5 })'] = "ttl is a number of seconds, at least 1",
    ['KV:update("a", "b")'] = "bad revision nil",
    ['KV:get("a", { revision = 1.5 })'] = "bad revision 1.5",
    ['KV:get("a", { rev = 1 })'] = 'unknown option "rev" of get: there are revision, direct',
  } do
    it(("is an error of the script's line: %s"):format(code), run.case(function()
      js_script.assert_misuse(js_script.start(), code, text, 'KV = js:create_key_value { bucket = "m" }')
    end))
  end
end)
