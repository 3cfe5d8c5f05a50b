-- Consumers while their connection changes: a fresh link, another server or other options in a
-- reload, a drain; and JetStream asked from places where nothing can wait.
local moondog = require "support.moondog"
local nats_server = require "support.nats_server"
local run = require "support.run"

local SCRIPT = [[
local moondog = require "moondog"
local c = moondog.connect { name = "main", servers = { $URL }, user = $USER }
moondog.on_start(function()
  local js = c:jetstream { wait = true }
  js:add_stream { name = "S", subjects = { "s" } }
  local w = assert(js:consumer("S", { durable = "w", ack_wait = $ACK_WAIT }))
  local times, different, twice, last = {}, 0, 0, nil
  c:subscribe("count", function(msg) msg:respond(different .. " " .. twice .. " " .. (last or 0)) end)
  w:consume(function(msg)
    moondog.sleep(0.002)
    local n = tonumber(msg.data)
    times[n] = (times[n] or 0) + 1
    if times[n] == 1 then different = different + 1 else twice = twice + 1 end
    c:publish("seen.durable", msg.data)
    msg:ack()
  end)
  js:ordered("S"):consume(function(msg)
    local n = tonumber(msg.data)
    if last and n ~= last + 1 then moondog.log.error("out of order", { last = last, number = n }) end
    last = n
    c:publish("seen.ordered", msg.data)
  end)
  c:subscribe("again", function() c:reconnect() end)
  c:subscribe("drain", function() c:drain(5) end)
  c:subscribe("wait", function(msg) print("handler waits") moondog.sleep(0.5) c:jetstream():publish("s", msg.data) end)
  print("reads")
end)
]]

local function start(values)
  local server = nats_server.start { jetstream = { store_dir = run.folder() .. "/js" } }
  local all = { URL = server.url, USER = "user0", ACK_WAIT = 10 }
  for key, value in pairs(values or {}) do all[key] = value end
  local dog = moondog.run(SCRIPT, all, { args = { "--budget", "2000" } }) -- of a machine that does more than this
  dog:wait_log("^reads$")
  return dog, server, all
end

-- What comes to a subject: how often each number was there.
local function record(witness, subject)
  local seen = { times = {}, different = 0 }
  witness:subscribe(subject, function(msg)
    local n = tonumber(msg.data)
    if not seen.times[n] then seen.different = seen.different + 1 end
    seen.times[n] = (seen.times[n] or 0) + 1
  end)
  return seen
end

-- Publishes until stop() is called, which returns how many there were.
local function flow(witness)
  local sent, stopped = 0, false
  run.spawn(function()
    while not stopped do
      for _ = 1, 5 do
        sent = sent + 1
        witness:publish("s", tostring(sent))
      end
      run.pause(0.005)
    end
  end)
  return function()
    stopped = true
    return sent
  end
end

local function assert_all(seen, sent, seconds, what)
  run.wait_until(function() return seen.different >= sent end, seconds, function()
    return ("%s: %d of %d"):format(what, seen.different, sent)
  end)
  local twice = 0
  for n = 1, sent do twice = twice + (seen.times[n] > 1 and 1 or 0) end
  return twice
end

describe("consumers under a flow of messages", function()
  it("go on over fresh links", run.case(function()
    local dog, server = start()
    local witness = server:connect()
    local stop = flow(witness)
    for i = 1, 5 do
      run.pause(0.2)
      witness:publish("again", "")
      dog:wait_log("^reconnected$", 10, i)
    end
    run.pause(0.2)
    local sent = stop()
    -- What was on its way to a link that is gone comes again after ack_wait: that is the server's. The script counts:
    -- what it publishes may be lost with a link.
    local different, twice, last
    run.wait_until(function()
      different, twice, last = witness:wait_answer("count", "", 5).data:match("(%d+) (%d+) (%d+)")
      return tonumber(different) == sent and tonumber(last) == sent
    end, 25, function() return ("%d messages: %s handled, %s in order"):format(sent, different, last) end)
    run.figure("handled twice over 5 fresh links", tonumber(twice))
    assert.equals(0, #dog:find_logs("^out of order$"))
  end))

  it("go on when a reload dials with other options", run.case(function()
    local dog, server, values = start()
    local witness = server:connect()
    local durable, ordered = record(witness, "seen.durable"), record(witness, "seen.ordered")
    witness:flush()
    local stop = flow(witness)
    for i = 1, 4 do
      run.pause(0.3)
      values.USER = "user" .. i
      assert.equals("script reloaded", dog:reload(SCRIPT, values).msg)
      dog:wait_log("^reads$", 10, i + 1)
    end
    run.pause(0.3)
    local sent = stop()
    run.figure("handled twice over 4 reloads that dial", assert_all(durable, sent, 25, "durable"))
    assert.equals(0, assert_all(ordered, sent, 5, "ordered"))
  end))

  it("change with what the script says of them", run.case(function()
    local dog, server, values = start()
    values.ACK_WAIT = 3
    assert.equals("script reloaded", dog:reload(SCRIPT, values).msg)
    dog:wait_log("^reads$", 10, 2)
    local witness = server:connect()
    local info = witness:request("$JS.API.CONSUMER.INFO.S.w", "", 2).data
    assert.equals("3000000000", info:match('"ack_wait":(%d+)'))
  end))

  it("handle what has arrived when their connection is drained", run.case(function()
    local dog, server = start()
    local witness = server:connect()
    local durable = record(witness, "seen.durable")
    witness:flush()
    for i = 1, 2000 do witness:publish("s", tostring(i)) end
    run.wait_until(function() return durable.different > 50 end, 10, "some")
    witness:publish("drain", "")
    run.wait_until(function() return #server:clients("main") == 0 end, 10, "the end of the connection")
    -- A server that sends while it hears that nobody listens any more counts what nobody has got.
    local function acknowledged()
      local info = witness:request("$JS.API.CONSUMER.INFO.S.w", "", 2).data
      return tonumber(info:match('"delivered":{"consumer_seq":(%d+)')) - tonumber(info:match('"num_ack_pending":(%d+)'))
    end
    run.wait_until(function() return acknowledged() == durable.different end, 3, function()
      return ("%d handled, %d acknowledged"):format(durable.different, acknowledged())
    end)
    assert.is_true(dog:running())
  end))
end)

describe("what a handler of a generation before has begun", function()
  it("waits for a link as it would have", run.case(function()
    local dog, server, values = start()
    local witness = server:connect()
    witness:publish("wait", "0")
    dog:wait_log("^handler waits$")
    witness:close()
    server:kill()
    dog:wait_log("^disconnected$")
    assert.equals("script reloaded", dog:reload(SCRIPT, values).msg)
    run.pause(1)
    server:restart()
    witness = server:connect()
    run.wait_until(function()
      local answer = witness:request("$JS.API.STREAM.INFO.S", "", 1)
      return answer and answer.data:find('"messages":1', 1, true)
    end, 10, "the message of the handler")
    assert.same({}, dog:find_logs(function(e) return e.msg:find("failed$") and e.msg ~= "reconnect failed" end))
  end))
end)

local PLACES = [[
local moondog = require "moondog"
local js, reader, w, p
local function try(where)
  for name, f in pairs {
    publish = function() return js:publish("s", "x") end,
    publish_async = function() return js:publish_async("s", "x") end,
    complete = function() return js:publish_async_complete() end,
    consumer = function() return js:consumer("S", {}) end,
    next = function() return w:next(0.1) end,
    fetch = function() return reader:fetch(1, { timeout = 0.1 }) end,
    messages = function() return w:messages()() end,
    status = function() return w:status() end,
    info = function() return w:info() end,
    wait = function() return p:wait() end,
    stop = function() return w:stop() end,
  } do
    local ok, a, b = pcall(f)
    moondog.log.info("tried", { where = where, what = name, ok = ok, error = tostring(ok and b or a) })
  end
end
local tries = 0
local c = moondog.connect { servers = { $URL }, reconnect = function()
  tries = tries + 1
  if js and tries == 1 then try("policy") end
  return 0.1
end, on = { disconnected = function() if js then try("hook") end end } }
local ok, err = pcall(function() return c:jetstream() end)
print("top level: " .. tostring(err))
moondog.on_unload(function() try("unload") print("unloaded") end)
moondog.on_start(function()
  js = c:jetstream { wait = true, timeout = 0.3 }
  js:add_stream { name = "S", subjects = { "s" } }
  w, reader = assert(js:consumer("S", {})), assert(js:ordered("S"))
  p = assert(js:publish_async("s", "x"))
  print("ready")
end)
]]

describe("JetStream where nothing can wait", function()
  it("says so, and the program goes on and ends", run.case(function()
    local server = nats_server.start { jetstream = { store_dir = run.folder() .. "/js" } }
    local dog = moondog.run(PLACES, { URL = server.url })
    assert.matches("while it is loaded", dog:wait_log("^top level").msg)
    dog:wait_log("^ready$")
    server:kill()
    local function tried(where)
      return function(entry) return entry.msg == "tried" and entry.where == where end
    end
    dog:wait_log(tried "hook", 15, 11)
    dog:wait_log(tried "policy", 15, 11)
    for _, entry in ipairs(dog:find_logs(tried "policy")) do
      if entry.what == "publish" then assert.matches("cannot wait", entry.error) end
    end
    server:restart()
    dog:wait_log("^reconnected$", 15)
    local before = run.now()
    dog:signal("sigterm")
    dog:wait_exit(0, 10)
    assert.is_true(run.now() - before < 5)
    assert.equals(11, #dog:find_logs(tried "unload"))
    for _, entry in ipairs(dog:find_logs("^tried$")) do
      assert.is_nil(entry.error:find("attempt to", 1, true), entry.where .. " " .. entry.what .. ": " .. entry.error)
    end
  end))
end)
