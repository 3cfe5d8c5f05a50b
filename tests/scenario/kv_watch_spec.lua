-- What follows a bucket: its keys, their history, watches, against a real server.
local js_script = require "support.js_script"
local moondog = require "support.moondog"
local nats_server = require "support.nats_server"
local run = require "support.run"

local BUCKET = 'local kv = assert(js:create_key_value { bucket = "cfg", history = 5 }) '

-- What a watch has handed over, as "key=value@revision", and who waits for it.
local SEEN = [[
  local seen = {}
  local function note(e)
    seen[#seen + 1] = ("%s%s%s@%d"):format(e.key, e.operation == "PUT" and "=" or "-", e.value, e.revision)
  end
  local function wait(count)
    for _ = 1, 500 do
      if #seen >= count then break end
      moondog.sleep(0.01)
    end
    return table.concat(seen, " ")
  end
]]

describe("keys", function()
  it("are those that have a value, of all or of a filter", run.case(function()
    local lua = js_script.start()
    local function keys(filter)
      return lua(BUCKET .. ([[
        local list, err = kv:keys(%s)
        if not list then return nil, err end
        table.sort(list)
        return table.concat(list, " ")
      ]]):format(filter or ""))
    end
    assert.equals("", keys())
    lua(BUCKET .. [[
      for _, key in ipairs { "a", "b.c", "b.d", "b.d.e", "gone", "purged", "back" } do
        kv:put(key, "x") kv:put(key, "y")
      end
      kv:delete("gone") kv:purge("purged") kv:delete("back") kv:put("back", "z")
    ]])
    assert.equals("a b.c b.d b.d.e back", keys())
    assert.equals("b.c b.d", keys '"b.*"')
    assert.equals("b.c b.d b.d.e", keys '"b.>"')
    assert.equals("a", keys '"a"')
    assert.equals("", keys '"gone"')
  end))

  it("are all of them when there are many, and no consumer is left", run.case(function()
    local lua = js_script.start()
    assert.same({ 3000, 3000 }, lua(BUCKET .. [[
      for i = 1, 3000 do assert(js:publish_async("$KV.cfg.k" .. i, "x")) end
      assert(js:publish_async_complete(20))
      local set, count = {}, 0
      local list = assert(kv:keys())
      for _, key in ipairs(list) do
        if not set[key] then set[key], count = true, count + 1 end
      end
      return { #list, count }
    ]]))
    run.wait_until(function() return lua 'return js:stream_info("KV_cfg").state.consumer_count' == 0 end, 5,
      "no consumer")
  end))
end)

describe("the history of a key", function()
  it("is what is kept of it, oldest first", run.case(function()
    local lua = js_script.start()
    for _, direct in ipairs { "true", "false" } do
      assert.equals("3PUT3 4PUT2 5PUT1 7DEL0 / 6PUT0 / 8PURGE0 / 9PUT0", lua([[
        js:delete_key_value("h")
        local kv = assert(js:create_key_value { bucket = "h", history = 4 })
        kv.direct = ]] .. direct .. [[

        for i = 1, 5 do kv:put("a", i) end
        kv:put("b", "x") kv:delete("a")
        local function text(key)
          local out = {}
          for i, e in ipairs(assert(kv:history(key))) do out[i] = e.revision .. e.operation .. e.delta end
          return table.concat(out, " ")
        end
        local all = text("a") .. " / " .. text("b")
        kv:purge("b")
        all = all .. " / " .. text("b")
        kv:put("c", 1)
        return all .. " / " .. text("c")
      ]]))
    end
    local _, err = lua 'return js:key_value("h"):history("nothing")'
    assert.equals("key_not_found", err.code)
  end))
end)

describe("what deleted keys have left", function()
  it("is removed, young markers stay, and so does what was written since", run.case(function()
    local lua = js_script.start()
    assert.same({ 2, 2, 4, 0, 2, "new" }, lua(BUCKET .. [[
      kv:put("a", 1) kv:put("a", 2) kv:delete("a") kv:put("b", 1) kv:purge("b") kv:put("c", "new")
      local young = assert(kv:purge_deletes())
      local after = #assert(kv:keys()) + 1
      kv:put("d", "x") kv:delete("d")
      local old = assert(kv:purge_deletes { older_than = 0 })
      return { young, after, old, kv:purge_deletes { older_than = 0 }, kv:status().values + 1, kv:get("c").value }
    ]]))
  end))
end)

describe("a watch", function()
  it("begins with the last entry of each key, and goes on with changes", run.case(function()
    local lua = js_script.start()
    assert.equals("a=2@2 b=1@3 c-@5 | d=1@6 a-@7 b-@8", lua(BUCKET .. SEEN .. [[
      kv:put("a", 1) kv:put("a", 2) kv:put("b", 1) kv:put("c", 1) kv:delete("c")
      local w = assert(kv:watch(note))
      assert(w:ready(5))
      seen[#seen + 1] = "|"
      kv:put("d", 1) kv:delete("a") kv:purge("b")
      wait(7)
      local status = w:status()
      assert(status.revision == 8 and status.delivered == 6 and status.ready and status.state == "reading")
      w:stop()
      kv:put("e", 1)
      return wait(0)
    ]]))
    run.wait_until(function() return lua 'return js:stream_info("KV_cfg").state.consumer_count' == 0 end, 5,
      "no consumer")
  end))

  it("of an empty bucket is ready at once, and its updates can be read one after the other", run.case(function()
    local lua = js_script.start()
    assert.equals("a=1@1 b=2@2", lua(BUCKET .. SEEN .. [[
      local w = assert(kv:watch())
      assert(w:ready(0))
      moondog.spawn(function()
        for entry in w:updates() do note(entry) end
        seen.ended = true
      end)
      kv:put("a", 1) kv:put("b", 2)
      wait(2)
      w:stop()
      for _ = 1, 500 do
        if seen.ended then break end
        moondog.sleep(0.01)
      end
      return seen.ended and wait(2)
    ]]))
  end))

  it("takes one filter, or several", run.case(function()
    local lua = js_script.start()
    local function watch(filters)
      return lua(BUCKET .. SEEN .. ([[
        if kv:status().values == 0 then
          for _, key in ipairs { "a", "a.b", "a.c", "a.b.c", "b.b", "b.c", "x-y", "xzy" } do kv:put(key, "") end
        end
        local w = assert(kv:watch(%s, note))
        assert(w:ready(5))
        w:stop()
        for i, text in ipairs(seen) do seen[i] = text:match("^[^=]+") end
        return table.concat(seen, " ")
      ]]):format(filters))
    end
    for filters, keys in pairs {
      ['"a"'] = "a", ['"a.*"'] = "a.b a.c", ['"a.>"'] = "a.b a.c a.b.c", ['"*"'] = "a x-y xzy", ['">"'] =
      "a a.b a.c a.b.c b.b b.c x-y xzy", ['{ "a.b", "b.b" }'] = "a.b b.b", ['{ "a", "a.b" }'] = "a a.b",
      ['{ "x-y", "b.>" }'] = "b.b b.c x-y", ['{ "a.b.>", "a.c" }'] = "a.c a.b.c", ['{ "*.c", "a.b" }'] = "a.b a.c b.c",
    } do
      assert.equals(keys, watch(filters), filters)
    end
  end))

  it("begins where it is told to", run.case(function()
    local lua = js_script.start()
    local function watch(options)
      return lua(BUCKET .. SEEN .. ([[
        if kv:status().values == 0 then
          kv:put("a", 1) kv:put("a", 2) kv:put("b", 1) kv:delete("b") kv:put("c", 1)
        end
        local w = assert(kv:watch(note, { %s }))
        assert(w:ready(5))
        w:stop()
        return wait(0)
      ]]):format(options))
    end
    assert.equals("a=1@1 a=2@2 b=1@3 b-@4 c=1@5", watch "include_history = true")
    assert.equals("a=2@2 c=1@5", watch "ignore_deletes = true")
    assert.equals("a=@2 b-@4 c=@5", watch "headers_only = true")
    assert.equals("b=1@3 b-@4 c=1@5", watch "resume_from = 3")
    assert.equals("", watch "updates_only = true")
    assert.equals("a=3@6", lua(BUCKET .. SEEN .. [[
      local w = assert(kv:watch("a", note, { updates_only = true }))
      kv:put("a", 3) kv:put("b", 3)
      return wait(1)
    ]]))
  end))

  it("goes on when a handler fails, and the error names the handler", run.case(function()
    local lua, _, _, dog = js_script.start()
    assert.equals("a=1@1 c=1@3", lua(BUCKET .. SEEN .. [[
      kv:watch(function(e)
        if e.key == "b" then error("no " .. e.key) end
        note(e)
      end)
      kv:put("a", 1) kv:put("b", 1) kv:put("c", 1)
      return wait(2)
    ]]))
    dog:wait_log(function(entry) return tostring(entry.error):find("no b", 1, true) end)
  end))

  it("begins anew when its bucket is deleted and made again", run.case(function()
    local lua = js_script.start()
    lua(BUCKET .. SEEN .. [[
      kv:put("a", 1) kv:put("a", 2) kv:put("a", 3)
      SEEN_WAIT, KV = wait, kv
      assert(kv:watch(note)):ready(5)
      assert(js:delete_key_value("cfg"))
      assert(js:create_key_value { bucket = "cfg" })
    ]])
    assert.equals(1, lua 'return js:key_value("cfg"):put("a", "new")')
    run.wait_until(function() return lua "return SEEN_WAIT(0)" == "a=3@3 a=new@1" end, 20, "the new bucket's value")
  end))

  it("that is read slowly takes the new bucket's entries behind the old one's", run.case(function()
    local lua = js_script.start()
    lua(BUCKET .. SEEN .. [[
      kv:put("a", 1) kv:put("a", 2) kv:put("b", 3)
      SEEN_WAIT = wait
      WATCH = assert(kv:watch())
      moondog.spawn(function()
        for entry in WATCH:updates() do
          note(entry)
          while not GO do moondog.sleep(0.01) end
        end
      end)
      wait(1)
      assert(js:delete_key_value("cfg"))
      js:create_key_value { bucket = "cfg" }:put("a", "new")
    ]])
    run.wait_until(function() return lua "return WATCH:status().queued" == 2 end, 20, "the new bucket's value")
    lua "GO = true"
    run.wait_until(function() return lua "return SEEN_WAIT(0)" == "a=2@2 b=3@3 a=new@1" end, 5, "all values")
    assert.equals(0, lua "return WATCH:status().repeated")
  end))

  it("on a bucket that is not there is an error", run.case(function()
    local lua = js_script.start()
    local _, err = lua(BUCKET .. 'js:delete_key_value("cfg") return kv:watch(print)')
    assert.equals("bucket_not_found", err.code)
    _, err = lua 'local kv = js:create_key_value { bucket = "x" } js:delete_key_value("x") return kv:keys()'
    assert.equals("bucket_not_found", err.code)
  end))
end)

describe("a reload", function()
  local SCRIPT = [[
local moondog = require "moondog"
local c = moondog.connect { servers = { $URL } }
moondog.state.seen = {}
moondog.on_start(function(state)
  local js = assert(c:jetstream { wait = true })
  local kv = assert(js:create_key_value { bucket = "cfg" })
  local function note(e) table.insert(state.seen, e.key .. "=" .. e.value) end
  $CALL
end)
c:subscribe("seen", function(msg) msg:respond(table.concat(moondog.state.seen, " ")) end)
c:subscribe("put", function(msg)
  msg:respond(assert(assert(c:jetstream()):key_value("cfg")):put(msg.data, "1"))
end)
]]
  local function start(call)
    local server = nats_server.start { jetstream = { store_dir = run.folder() .. "/js" } }
    local dog = moondog.run(SCRIPT:gsub("%$CALL", call), { URL = server.url })
    local witness = server:connect()
    local function seen(wanted)
      local got
      run.wait_until(function()
        got = witness:wait_answer("seen", "", 5).data
        return got == wanted
      end, 10, function() return ("to see %q, there is %q"):format(wanted, got) end)
    end
    return dog, witness, seen
  end

  it("lets a watch go on where it was", run.case(function()
    local dog, witness, seen = start "assert(kv:watch(note))"
    witness:wait_answer("put", "a", 5)
    seen "a=1"
    assert.equals("script reloaded", dog:reload().msg)
    witness:wait_answer("put", "b", 5)
    seen "a=1 b=1"
  end))

  it("has a fresh one told everything once more", run.case(function()
    local dog, witness, seen = start "assert(kv:watch(note, { fresh = true }))"
    witness:wait_answer("put", "a", 5)
    seen "a=1"
    assert.equals("script reloaded", dog:reload().msg)
    seen "a=1 a=1" -- at once, and not when something changes
    witness:wait_answer("put", "b", 5)
    seen "a=1 a=1 b=1"
  end))
end)

describe("a misuse", function()
  for code, text in pairs {
    ['KV:watch("a..b")'] = 'bad filter "a..b" of keys: letters',
    ['KV:watch("a.>.b")'] = 'bad filter "a.>.b"',
    ['KV:keys("a*")'] = 'bad filter "a*" of keys',
    ['KV:keys("a b")'] = 'bad filter "a b" of keys',
    ['KV:watch({ "a", 1 })'] = 'bad filter "1" of keys',
    ['KV:watch({ "a" }, {}, {})'] = "watch([keys,] [handler,] [options])",
    ['KV:watch(1)'] = "watch([keys,] [handler,] [options])",
    ['KV:watch({ history = true })'] = 'unknown option "history" of watch: there are include_history,',
    ['KV:watch({ include_history = true, updates_only = true })'] = "only one of include_history, updates_only and",
    ['KV:watch({ resume_from = "1" })'] = "resume_from is a revision",
    ['KV:history("a.*")'] = 'bad key "a.*"',
    ['KV:purge_deletes { older_than = "1h" }'] = "older_than is a number of seconds",
  } do
    it(("is an error of the script's line: %s"):format(code), run.case(function()
      js_script.assert_misuse(js_script.start(), code, text, 'KV = js:create_key_value { bucket = "m" }')
    end))
  end
end)
