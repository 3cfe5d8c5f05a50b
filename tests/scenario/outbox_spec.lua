-- The outbox: what is published is on the disk, and comes to the stream once and in order.
local cjson = require "cjson"
local http = require "support.http"
local js_script = require "support.js_script"
local moondog = require "support.moondog"
local nats_server = require "support.nats_server"
local network = require "support.network"
local proxy = require "support.proxy"
local run = require "support.run"
local uv = require "luv"

-- Runs what the witness sends, with the outbox `o`, and answers with what it returned. The request
-- goes over a connection of its own: that of the outbox may be down.
local SCRIPT = [[
local moondog = require "moondog"
local cjson = require "cjson"
local gw = moondog.connect { name = "gw", servers = { $URL } }
local control = moondog.connect { name = "control", servers = { $CONTROL } }
local o = moondog.outbox { path = $PATH, connection = gw $OPTIONS }
local function plain(x)
  if type(x) ~= "table" or x.code == nil then return x end
  return { code = x.code, class = x.class, message = x.message }
end
control:subscribe("run", function(msg)
  local f = assert(load("local moondog, gw, o = ... " .. msg.data))
  local function finish(ok, a, b)
    if type(a) == "table" and a.error then a.error = plain(a.error) end
    msg:respond(cjson.encode { ok, a == nil and cjson.null or plain(a), plain(b) })
  end
  finish(pcall(f, moondog, gw, o))
end)
]]

local function fill(options)
  return (SCRIPT:gsub("%$OPTIONS", function() return options and ", " .. options or "" end))
end

-- A server with JetStream, one for the control, moondog. setup: server, the configuration of the first;
-- or started, itself; url, the way to it; args.
local function start(options, setup)
  setup = setup or {}
  local server = setup.started or
    nats_server.start(setup.server or { jetstream = { store_dir = run.folder() .. "/js" } })
  local control = nats_server.start()
  local dog = { path = run.folder() .. "/out.db", server = server,
    values = { URL = setup.url or server.url, CONTROL = control.url, PATH = run.folder() .. "/out.db" } }
  dog.witness = control:connect()
  function dog.launch(more)
    dog.moondog = moondog.run(fill(options), dog.values, more or setup)
    dog.moondog:wait_log("^connected$", 10, setup.alone and 1 or 2)
  end
  -- What the code returned: up to two values.
  function dog.lua(code, deadline)
    local answer, err = dog.witness:request("run", code, deadline or 15)
    answer = cjson.decode(assert(answer, err).data) -- asked once: it may publish
    if not answer[1] then error(tostring(answer[2]), 2) end
    return answer[2] ~= cjson.null and answer[2] or nil, answer[3]
  end
  function dog.status()
    return dog.lua("return o:status()")
  end
  function dog.wait_status(wanted, what)
    return run.wait_until(function()
      local s = dog.status()
      return wanted(s) and s
    end, 15, function() return what .. ", but " .. cjson.encode(dog.status()) end)
  end
  dog.launch()
  return dog
end

-- One request of JetStream's own API.
local function api(dog, name, body)
  local client = dog.server:connect()
  local answer = client:wait_answer("$JS.API." .. name, body and cjson.encode(body) or "", 10)
  client:close()
  return cjson.decode(answer.data)
end

local function add_stream(dog, config)
  config.name = config.name or "S"
  config.subjects = config.subjects or { "s.>" }
  config.storage = config.storage or "file"
  config.retention, config.max_consumers = "limits", -1
  config.max_msgs = config.max_msgs or -1
  config.max_bytes, config.num_replicas = -1, 1
  local answer = api(dog, "STREAM.CREATE." .. config.name, config)
  assert(not answer.error, answer.error and answer.error.description)
end

-- The stream's messages, in order: a consumer of its own sends them.
local function messages(dog, name)
  name = name or "S"
  local client = dog.server:connect()
  local sub = client:subscribe("deliver.here")
  client:flush()
  local count = api(dog, "STREAM.INFO." .. name).state.messages
  local made = api(dog, "CONSUMER.CREATE." .. name, { stream_name = name,
    config = { deliver_subject = "deliver.here", deliver_policy = "all", ack_policy = "none" } })
  assert(not made.error, made.error and made.error.description)
  run.wait_until(function() return #sub.messages >= count end, 20, "the messages of the stream")
  client:close()
  return sub.messages
end

local function data_of(dog, name)
  local list = {}
  for i, m in ipairs(messages(dog, name)) do list[i] = m.data end
  return list
end

local function numbers(from, to)
  local list = {}
  for i = from, to do list[#list + 1] = tostring(i) end
  return list
end

local PUBLISH = 'for i = %d, %d do assert(o:publish("s.x", tostring(i))) end'

describe("what is published", function()
  it("comes to the stream in order, as it was, and leaves the file", run.case(function()
    local dog = start()
    add_stream(dog, {})
    dog.lua(PUBLISH:format(1, 50))
    assert.is_true(dog.lua('return o:publish("s.y", "\\0\\255", { msg_id = "mine", headers = { A = "1", B = "2" } })'))
    assert.is_true(dog.lua("return o:flush(20)", 25))
    local list = messages(dog)
    assert.equals(51, #list)
    for i = 1, 50 do assert.equals(tostring(i), list[i].data) end
    assert.equals("\0\255", list[51].data)
    assert.equals("s.y", list[51].subject)
    assert.equals("mine", list[51].headers["Nats-Msg-Id"])
    assert.same({ "1", "2" }, { list[51].headers.A, list[51].headers.B })
    local s = dog.status()
    assert.same({ "idle", 0, 0, 51, 0, 0 },
      { s.state, s.waiting, s.bytes, s.forwarded, s.duplicates, s.oldest })
  end))

  it("from many tasks at once is written together", run.case(function()
    local dog = start()
    add_stream(dog, {})
    local failed = dog.lua([[
      local left, failed = 2000, 0
      for i = 1, 2000 do
        moondog.spawn(function()
          if not o:publish("s.x", tostring(i)) then failed = failed + 1 end
          left = left - 1
        end)
      end
      while left > 0 do moondog.sleep(0.005) end
      return failed
    ]], 30)
    assert.equals(0, failed)
    assert.is_true(dog.lua("return o:flush(20)", 25))
    assert.same(numbers(1, 2000), data_of(dog))
  end))

  it("waits for the link, and for moondog, and for the stream", run.case(function()
    local dog = start()
    dog.server:kill()
    dog.moondog:wait_log("^disconnected$")
    dog.lua(PUBLISH:format(1, 20))
    local s = dog.wait_status(function(x) return x.waiting == 20 end, "20 wait")
    assert.equals("waiting for link", s.state)
    assert.equals(tonumber("600", 8), uv.fs_stat(dog.path).mode % 512)
    dog.moondog:signal("sigkill")
    dog.moondog.process:wait_exit(5)
    dog.server:restart()
    dog.launch()
    s = dog.wait_status(function(x) return x.state == "waiting for the stream" and x.waiting == 20 end,
      "no stream")
    assert.equals("no_stream", s.error.code)
    dog.lua(PUBLISH:format(21, 30))
    add_stream(dog, {})
    assert.is_true(dog.lua("return o:flush(20)", 25))
    assert.same(numbers(1, 30), data_of(dog))
    assert.equals(1, #dog.moondog:find_logs("^outbox waits"))
    dog.moondog:wait_log("^outbox goes on$")
  end))

  it("may be large: no more is on its way than the connection keeps", run.case(function()
    local dog = start()
    add_stream(dog, {})
    dog.lua([[for i = 1, 60 do
      moondog.spawn(function() assert(o:publish("s.x", ("x"):rep(500000) .. i)) end)
    end]])
    dog.wait_status(function(x) return x.forwarded == 60 and x.waiting == 0 end, "all are forwarded")
    assert.equals(0, #dog.moondog:find_logs("^outbox waits"))
    assert.equals(60, api(dog, "STREAM.INFO.S").state.messages)
  end))

  it("with a message id that waits, or was stored, is there once", run.case(function()
    local dog = start()
    local twice = 'for _ = 1, 2 do assert(o:publish("s.x", "a", { msg_id = "one" })) end'
    dog.lua(twice)
    dog.wait_status(function(x) return x.waiting == 1 end, "one waits")
    add_stream(dog, {})
    assert.is_true(dog.lua("return o:flush(20)", 25))
    dog.lua(twice)
    assert.is_true(dog.lua("return o:flush(20)", 25))
    assert.same({ "a" }, data_of(dog))
    assert.is_true(dog.status().duplicates >= 1)
  end))

  it("shares the stream with others, and keeps its order", run.case(function()
    local dog = start()
    add_stream(dog, {})
    local other = dog.server:connect()
    run.spawn(function()
      for i = 1, 300 do
        other:publish("s.other", tostring(i))
        run.pause(0.002)
      end
    end)
    dog.lua([[for i = 1, 3000 do moondog.spawn(function() assert(o:publish("s.x", tostring(i))) end) end]])
    run.wait_until(function() return dog.status().forwarded == 3000 end, 30, "all are forwarded")
    local mine = {}
    for _, m in ipairs(messages(dog)) do
      if m.subject == "s.x" then mine[#mine + 1] = m.data end
    end
    assert.same(numbers(1, 3000), mine)
  end))

  it("goes to several streams", run.case(function()
    local dog = start()
    add_stream(dog, { name = "A", subjects = { "a.*" } })
    add_stream(dog, { name = "B", subjects = { "b.>" } })
    dog.lua([[for i = 1, 40 do
      moondog.spawn(function() o:publish((i % 3 == 0 and "b." or "a.") .. i % 5, tostring(i)) end)
    end]])
    run.wait_until(function() return dog.status().forwarded == 40 end, 15, "all are forwarded")
    assert.equals(40, #data_of(dog, "A") + #data_of(dog, "B"))
    assert.same({ "3", "6", "9" }, { unpack(data_of(dog, "B"), 1, 3) })
  end))
end)

describe("a stream that refuses", function()
  it("for good: the message is set aside with the reason, the next goes on", run.case(function()
    local dog = start()
    add_stream(dog, { max_msg_size = 100 })
    dog.lua([[for i = 1, 20 do
      local data = i == 10 and ("x"):rep(1000) or tostring(i)
      moondog.spawn(function() assert(o:publish("s.x", data, { msg_id = "m" .. i })) end)
    end]])
    local s = dog.wait_status(function(x) return x.waiting == 0 and x.set_aside == 1 end, "one is set aside")
    assert.equals(19, s.forwarded)
    assert.equals(19, #data_of(dog))
    local entry = dog.moondog:wait_log("set aside")
    assert.equals("m10", entry.msg_id)
    assert.matches("message size exceeds maximum allowed", entry.error)
    local _, err = dog.lua('return o:publish("s.x", "again", { msg_id = "m10" })')
    assert.equals("set_aside", err.code)
  end))

  it("because it is full: waits until there is room", run.case(function()
    local dog = start()
    add_stream(dog, { max_msgs = 3, discard = "new" })
    dog.lua(PUBLISH:format(1, 5))
    local s = dog.wait_status(function(x) return x.state == "waiting for the stream" and x.waiting == 2 end,
      "it is full")
    assert.matches("maximum messages exceeded", s.error.message)
    api(dog, "STREAM.PURGE.S")
    assert.is_true(dog.lua("return o:flush(20)", 25))
    assert.same({ "4", "5" }, data_of(dog))
  end))

  it("because the message is larger than the server takes: it is set aside", run.case(function()
    local dog = start(nil, { server = { max_payload = 2000, jetstream = { store_dir = run.folder() .. "/js" } } })
    add_stream(dog, {})
    dog.lua('assert(o:publish("s.x", ("x"):rep(3000))) assert(o:publish("s.x", "small"))')
    local s = dog.wait_status(function(x) return x.set_aside == 1 and x.waiting == 0 end, "one is set aside")
    assert.equals(1, s.forwarded)
    assert.same({ "small" }, data_of(dog))
  end))
end)

describe("policies", function()
  it("keep all, the latest, or none", run.case(function()
    local dog = start('policies = { ["s.price.>"] = "latest", ["s.debug.>"] = "drop", ["s.price.all"] = "all" }')
    dog.lua([[
      for i = 1, 5 do
        assert(o:publish("s.price.a", "a" .. i))
        assert(o:publish("s.price.all", "all" .. i))
      end
      assert(o:publish("s.price.b", "b"))
    ]])
    local _, err = dog.lua('return o:publish("s.debug.x", "no")')
    assert.equals("dropped", err.code)
    local s = dog.wait_status(function(x) return x.waiting == 7 end, "seven wait")
    assert.equals(1, s.dropped)
    add_stream(dog, {})
    assert.is_true(dog.lua("return o:flush(20)", 25))
    assert.same({ "all1", "all2", "all3", "all4", "a5", "all5", "b" }, data_of(dog))
    assert.is_true(dog.lua('return o:publish("s.debug.x", "yes")'))
    run.wait_until(function() return data_of(dog)[8] == "yes" end, 5, "it is sent when nothing waits")
  end))

  it("and times to live: what is too old does not come", run.case(function()
    local dog = start("ttl = 0.3")
    dog.lua('assert(o:publish("s.x", "short")) assert(o:publish("s.x", "long", { ttl = 3600 }))')
    dog.wait_status(function(x) return x.expired == 1 and x.waiting == 1 end, "one has expired")
    dog.moondog:wait_log("have expired")
    add_stream(dog, {})
    assert.is_true(dog.lua("return o:flush(20)", 25))
    assert.same({ "long" }, data_of(dog))
  end))

  it("and a time to live counts also for those behind one that is stuck", run.case(function()
    local dog = start()
    dog.lua('assert(o:publish("s.x", "first")) assert(o:publish("s.x", "second", { ttl = 0.1 }))')
    dog.wait_status(function(x) return x.expired == 1 and x.waiting == 1 end, "one has expired")
    dog.server:kill()
    dog.lua('assert(o:publish("s.x", "third", { ttl = 0.1 }))')
    dog.wait_status(function(x) return x.expired == 2 and x.waiting == 1 end, "another one has, without a link")
  end))

  it("and a rate: the drain is paced", run.case(function()
    local dog = start("rate = 100")
    dog.lua(PUBLISH:format(1, 60))
    add_stream(dog, {})
    local began = run.now()
    assert.is_true(dog.lua("return o:flush(20)", 25))
    assert.is_true(run.now() - began > 0.3, "too fast")
    assert.same(numbers(1, 60), data_of(dog))
  end))
end)

describe("limits", function()
  it("of bytes are said, and nothing is lost", run.case(function()
    local dog = start("max_bytes = 5000")
    local count, err = dog.lua([[
      for i = 1, 100 do
        local ok, err = o:publish("s.x", tostring(i))
        if not ok then return i - 1, err end
      end
    ]])
    assert.equals("outbox_full", err.code)
    assert.is_true(count > 10 and count < 50, count)
    assert.equals(1, dog.status().refused)
    add_stream(dog, {})
    assert.is_true(dog.lua("return o:flush(20)", 25))
    assert.same(numbers(1, count), data_of(dog))
    dog.lua(PUBLISH:format(1, 1))
  end))

  it("of the disk are said, and it goes on when there is room", run.case(function()
    local dog = start()
    dog.wait_status(function(x) return x.state == "idle" end, "it is open")
    local size = assert(uv.fs_stat(dog.path .. "-wal")).size
    local function limit(bytes)
      local code = os.execute(("prlimit --pid %d --fsize=%s:unlimited"):format(dog.moondog.pid, bytes))
      assert.equals(0, code)
    end
    limit(size + 300000)
    local count, err = dog.lua([[
      for i = 1, 1000 do
        local ok, err = o:publish("s.x", ("x"):rep(1000) .. i)
        if not ok then return i - 1, err end
      end
    ]])
    assert.equals("disk_full", err.code)
    assert.is_true(count > 10, count)
    dog.wait_status(function(x) return x.state == "waiting for the file" and x.waiting == count end, "no room")
    limit("unlimited")
    add_stream(dog, {})
    assert.is_true(dog.lua([[return o:publish("s.x", ("x"):rep(1000) .. "last")]]))
    assert.is_true(dog.lua("return o:flush(20)", 25))
    local list = data_of(dog)
    assert.equals(count + 1, #list)
    assert.matches("xlast$", list[#list])
  end))
end)

describe("a long backlog", function()
  it("is kept on the disk, not in memory", run.case(function()
    local dog = start("fsync = false")
    dog.server:kill()
    dog.moondog:wait_log("^disconnected$")
    local function put(from, to)
      dog.lua(([[
        local left = 0
        for i = %d, %d do
          moondog.spawn(function()
            left = left + 1
            assert(o:publish("s.x", ("x"):rep(2000) .. i))
            left = left - 1
          end)
          if i %% 500 == 0 then
            repeat moondog.sleep(0.001) until left == 0
          end
        end
      ]]):format(from, to), 30)
    end
    put(1, 2000)
    local before = dog.moondog:rss()
    put(2001, 20000)
    local grown = dog.moondog:rss() - before
    dog.server:restart()
    add_stream(dog, {})
    run.wait_until(function() return dog.status().forwarded > 0 end, 30, "it goes on")
    local began, left = run.now(), dog.status().waiting
    assert.is_true(dog.lua("return o:flush(40)", 45))
    local seconds = run.now() - began
    run.figure("outbox: memory for 18000 more messages of 2 kB that wait", grown / 2 ^ 20, "MiB")
    run.figure("outbox: messages of 2 kB forwarded from the disk", left / seconds, "messages/s")
    assert.equals(20000, api(dog, "STREAM.INFO.S").state.messages)
    if not moondog.sanitized() then assert.is_true(grown < 24 * 2 ^ 20, grown) end
  end, { deadline = 120 }))
end)

describe("the file", function()
  it("belongs to one process", run.case(function()
    local dog = start()
    add_stream(dog, {})
    local first, witness = dog.moondog, dog.witness
    dog.lua(PUBLISH:format(1, 1))
    local second = moondog.run(fill(), { URL = dog.server.url, CONTROL = dog.server.url, PATH = dog.path })
    local entry = second:wait_log("trouble with its file")
    assert.equals("outbox_locked", entry.code)
    second:wait_log("^connected$", 10, 2)
    dog.witness = dog.server:connect()
    local _, err = dog.lua('return o:publish("s.x", "2")')
    assert.equals("outbox_locked", err.code)
    dog.witness = witness
    first:signal("sigkill")
    first.process:wait_exit(5)
    dog.witness = dog.server:connect()
    second:wait_log("^outbox goes on$")
    assert.is_true(dog.lua('return o:publish("s.x", "2")'))
    assert.is_true(dog.lua("return o:flush(20)", 25))
    assert.same({ "1", "2" }, data_of(dog))
  end))

  it("that is damaged is said, and left as it is", run.case(function()
    local text = ("no database "):rep(100)
    run.file("out.db", text)
    local dog = start()
    local _, err = dog.lua('return o:publish("s.x", "1")')
    assert.equals("outbox_corrupt", err.code)
    assert.equals("waiting for the file", dog.status().state)
    assert.equals(text, io.open(dog.path):read("*a"))
  end))

  it("is not touched by moondog check", run.case(function()
    local path = moondog.script(moondog.fill(fill(), { URL = "nats://127.0.0.1:1", CONTROL = "nats://127.0.0.1:1",
      PATH = run.folder() .. "/out.db" }))
    local check = moondog.start { "check", path }
    check:wait_exit(0)
    assert.is_nil(io.open(run.folder() .. "/out.db"))
  end))
end)

describe("a reload", function()
  it("keeps the outbox, its messages and who waits", run.case(function()
    local dog = start()
    dog.lua(PUBLISH:format(1, 10))
    dog.wait_status(function(x) return x.waiting == 10 end, "ten wait")
    assert.equals("script reloaded", dog.moondog:reload(fill("window = 7"), dog.values).msg)
    dog.lua(PUBLISH:format(11, 20))
    add_stream(dog, {})
    run.wait_until(function() return dog.status().forwarded == 20 end, 15, "all are forwarded")
    assert.equals("script reloaded", dog.moondog:reload().msg)
    assert.equals(20, dog.status().forwarded) -- it is the same one
    assert.same(numbers(1, 20), data_of(dog))
    assert.equals(0, #dog.moondog:find_logs("^outbox closed$"))
  end))

  it("with another server: the outbox goes with its connection", run.case(function()
    local dog = start()
    add_stream(dog, {})
    dog.lua(PUBLISH:format(1, 5))
    assert.is_true(dog.lua("return o:flush(20)", 25))
    local before = dog.server
    dog.server = nats_server.start { jetstream = { store_dir = run.folder() .. "/js2" } }
    add_stream(dog, {})
    dog.values.URL = dog.server.url
    assert.equals("script reloaded", dog.moondog:reload(fill(), dog.values).msg)
    run.wait_until(function() return #before:clients("gw") == 0 end, 15, "the old link is gone")
    dog.lua(PUBLISH:format(6, 10))
    assert.is_true(dog.lua("return o:flush(20)", 25))
    assert.same(numbers(6, 10), data_of(dog))
  end))

  it("without it closes it, and another one finds what waits", run.case(function()
    local dog = start(nil, { args = { "--retire", "1s" } })
    dog.lua(PUBLISH:format(1, 3))
    local without = fill():gsub("moondog.outbox %b{}", "nil")
    assert.equals("script reloaded", dog.moondog:reload(without, dog.values).msg)
    assert.equals(3, dog.moondog:wait_log("^outbox closed$").waiting)
    assert.equals("script reloaded", dog.moondog:reload(fill(), dog.values).msg)
    add_stream(dog, {})
    assert.is_true(dog.lua("return o:flush(20)", 25))
    assert.same(numbers(1, 3), data_of(dog))
  end))
end)

describe("the duplicate window", function()
  it("is over, after a process that was killed: the stream is looked at", run.case(function()
    local dog = start()
    add_stream(dog, { duplicate_window = 200 * 1000000 })
    dog.lua(PUBLISH:format(1, 1))
    assert.is_true(dog.lua("return o:flush(20)", 25))
    dog.moondog:signal("sigkill")
    dog.moondog.process:wait_exit(5)
    -- As if it had sent 2 and 3, and had been killed before it heard of it.
    local other = dog.server:connect()
    for i = 2, 3 do
      other:publish("s.x", tostring(i), { headers = { ["Nats-Msg-Id"] = "id" .. i } })
      other:publish("s.x", "of another one")
    end
    other:flush()
    dog.server:kill()
    dog.moondog = moondog.run(fill(), dog.values)
    dog.moondog:wait_log("^connected$") -- the control
    dog.lua([[for i = 2, 5 do assert(o:publish("s.x", tostring(i), { msg_id = "id" .. i })) end]])
    dog.moondog:signal("sigkill")
    dog.moondog.process:wait_exit(5)
    run.pause(0.3) -- the window
    dog.server:restart()
    dog.launch()
    assert.is_true(dog.lua("return o:flush(20)", 25))
    local s = dog.status()
    assert.same({ 4, 2 }, { s.forwarded, s.duplicates })
    assert.same({ "1", "2", "of another one", "3", "of another one", "4", "5" }, data_of(dog))
  end))

  it("is over, after an outage that took the answers: the stream is looked at", run.case(function()
    local server = nats_server.start { jetstream = { store_dir = run.folder() .. "/js" } }
    local link = proxy.start { port = server.port }
    local dog = start(nil, { started = server, url = link.url })
    add_stream(dog, { duplicate_window = 200 * 1000000 })
    dog.lua(PUBLISH:format(1, 1))
    assert.is_true(dog.lua("return o:flush(20)", 25))
    link:blackhole("down", { existing = true })
    dog.lua(PUBLISH:format(2, 4))
    run.wait_until(function() return api(dog, "STREAM.INFO.S").state.messages == 4 end, 10, "4 are stored")
    link:lock()
    link:reset()
    dog.wait_status(function(s) return s.state == "waiting for link" end, "no link") -- else 5 and 6 are sent, too
    dog.lua(PUBLISH:format(5, 6))
    assert.equals(5, dog.status().waiting)
    run.pause(0.3) -- the window
    link:heal()
    link:unlock()
    assert.is_true(dog.lua("return o:flush(20)", 25))
    assert.same(numbers(1, 6), data_of(dog))
    assert.equals(3, dog.status().duplicates)
  end))
end)

describe("the end", function()
  it("of moondog leaves nothing behind that was published", run.case(function()
    local dog = start()
    dog.lua([[moondog.spawn(function()
      for i = 1, 1000 do moondog.spawn(function() o:publish("s.x", tostring(i)) end) end
    end)]])
    dog.moondog:signal("sigterm")
    dog.moondog:wait_exit(0, 15)
    add_stream(dog, {})
    dog.launch()
    run.wait_until(function()
      local s = dog.status()
      return s.waiting == 0 and s.forwarded > 0
    end, 15, "all are forwarded")
    local list = data_of(dog)
    assert.same(numbers(1, #list), list)
  end))
end)

describe("its numbers", function()
  it("are in the metrics and in the status", run.case(function()
    local port = network.free_port()
    local dog = start(nil, { args = { "--http", network.host .. ":" .. port } })
    dog.lua(PUBLISH:format(1, 3))
    local text
    run.wait_until(function()
      local _, body = http.get(port, "/metrics")
      text = body
      return body and body:find('moondog_outbox_waiting{outbox="out.db"} 3', 1, true)
    end, 10, function() return "three wait: " .. tostring(text) end)
    for _, name in ipairs { "bytes", "oldest_seconds", "forwarded_total", "duplicates_total", "set_aside",
      "dropped_total", "expired_total", "refused_total" } do
      assert.matches("moondog_outbox_" .. name .. '{outbox="out.db"} ', text)
    end
    local _, body = http.get(port, "/status")
    local one = cjson.decode(body).outboxes[1]
    assert.same({ dog.path, 3 }, { one.path, one.waiting })
    local status = moondog.start { "status" }
    status:wait_exit(0)
    assert.matches("outbox .*out%.db: waiting for the stream, 3 waiting", status.process:text("stdout"))
  end))
end)

describe("a misuse", function()
  for code, text in pairs {
    ['moondog.outbox { path = "x" }'] = 'option "connection" is a nil',
    ['moondog.outbox { connection = gw }'] = 'needs the option "path"',
    ['moondog.outbox { path = o:status().path, connection = gw }'] = "there is an outbox with the file",
    ['moondog.outbox { path = "x", connection = gw, policies = { a = "some" } }'] = 'a is "all", "latest" or "drop"',
    ['moondog.outbox { path = "x", connection = gw, policies = { ["a b"] = "all" } }'] = 'option "policies"',
    ['o:publish("s.x", "", { headers = { ["nats-msg-id"] = "1" } })'] = "use the option msg_id",
    ['o:publish("s.x", "", { msg_id = "" })'] = 'option "msg_id" has 1 to 512',
    ['o:publish("s.x", "", { id = "1" })'] = 'unknown option "id" of publish',
    ['o:publish("s.x", {})'] = "data is a string",
    ['o.publish(gw, "s.x")'] = "moondog.outbox expected",
  } do
    it(("is an error of the script: %s"):format(code), run.case(function()
      js_script.assert_misuse(start().lua, code, text)
    end))
  end

  it("of a subject is an error of the publish", run.case(function()
    local dog = start()
    local _, err = dog.lua('return o:publish("s.*", "x")')
    assert.equals("invalid_subject", err.code)
  end))
end)
