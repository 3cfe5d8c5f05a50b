-- A consumer while the server is killed at random and comes back: every message is acknowledged,
-- none is handled again once its acknowledgement was confirmed, and nothing is left on the server.
local moondog = require "support.moondog"
local nats_server = require "support.nats_server"
local run = require "support.run"

local MESSAGES = tonumber(os.getenv("MOONDOG_CONSUMER_MESSAGES")) or 10000
local KILLS = tonumber(os.getenv("MOONDOG_CONSUMER_KILLS")) or 5
local DOWN_SECONDS = 0.3
local PER_MESSAGE_SECONDS = moondog.sanitized() and 0.02 or 0.004 -- a slow machine, and then some

-- Publishes all, then reads them: $TASKS tasks share a durable consumer.
local DURABLE = [[
local moondog = require "moondog"
local c = moondog.connect { servers = { $URL }, reconnect = moondog.backoff { base = 0.05, cap = 0.2 } }
local handled, confirmed, twice, count, unsure, seen = {}, {}, 0, 0, 0, 0
local consumer

local function read()
  for msg in consumer:messages() do
    local n = tonumber(msg.data)
    handled[n] = (handled[n] or 0) + 1
    seen = seen + (handled[n] == 1 and 1 or 0)
    if confirmed[n] then twice = twice + 1 end
    if msg:ack_sync() then
      count = count + (confirmed[n] and 0 or 1)
      confirmed[n] = true
      if count % $STEP == 0 then moondog.log.info("progress", { count = count }) end
    else
      unsure = unsure + 1
    end
  end
end

-- A confirmation may be lost where the acknowledgement was not: then the message does not come again.
local function all_acknowledged(info)
  return info and seen == $MESSAGES and info.num_pending == 0 and info.num_ack_pending == 0
end

moondog.on_start(function()
  local js = c:jetstream { wait = true }
  assert(js:add_stream { name = "WORK", subjects = { "work" } })
  for i = 1, $MESSAGES do assert(js:publish_async("work", i)) end
  assert(js:publish_async_complete(60))
  consumer = assert(js:consumer("WORK", { durable = "workers", ack_wait = 2, heartbeat = 0.5, expires = 5 }))
  for _ = 1, $TASKS do moondog.spawn(read) end
  local info
  repeat
    moondog.sleep(0.05)
    info = js:consumer_info("WORK", "workers")
  until all_acknowledged(info)
  local again = 0
  for i = 1, $MESSAGES do again = again + (handled[i] > 1 and 1 or 0) end
  local status = consumer:status()
  moondog.log.info("done", { confirmed = count, floor = info.ack_floor.stream_seq, twice = twice, again = again,
    unsure = unsure, skipped = status.skipped, consumers = #js:consumers("WORK") })
end)
]]

local function kill_now_and_then(server, dog)
  for i = 1, KILLS do
    dog:wait_log("^progress$", MESSAGES * PER_MESSAGE_SECONDS + 20, i)
    run.pause(math.random() * 0.1)
    server:kill()
    run.pause(math.random() * DOWN_SECONDS)
    server:restart()
  end
end

describe("a durable consumer, while the server is killed and comes back", function()
  it("acknowledges every message, and handles none again that is confirmed", run.case(function()
    local server = nats_server.start { jetstream = { store_dir = run.folder() .. "/js" } }
    local dog = moondog.run(DURABLE, { URL = server.url, MESSAGES = MESSAGES, TASKS = 8,
      STEP = math.floor(MESSAGES / (KILLS + 1)) })
    kill_now_and_then(server, dog)
    local done = dog:wait_log("^done$", MESSAGES * PER_MESSAGE_SECONDS + 60)
    run.figure("messages whose acknowledgement was confirmed", done.confirmed)
    run.figure("kills of the server", KILLS)
    run.figure("handled more than once, before a confirmation", done.again)
    run.figure("acknowledgements without confirmation", done.unsure)
    run.figure("delivered again after it was acknowledged, and skipped", done.skipped)
    assert.is_true(done.confirmed <= MESSAGES and done.confirmed + done.unsure >= MESSAGES)
    assert.equals(MESSAGES, done.floor)
    assert.equals(0, done.twice)
    assert.equals(1, done.consumers)
  end, { deadline = MESSAGES * PER_MESSAGE_SECONDS * 2 + 120 }))
end)

-- Reads in order what is published meanwhile.
local ORDERED = [[
local moondog = require "moondog"
local c = moondog.connect { servers = { $URL }, reconnect = moondog.backoff { base = 0.05, cap = 0.2 } }
moondog.on_start(function()
  local js = c:jetstream { wait = true }
  assert(js:add_stream { name = "LOG", subjects = { "log" } })
  local last, wrong, count = 0, 0, 0
  local reader = assert(js:ordered("LOG", { heartbeat = 0.5, expires = 5 }))
  reader:consume(function(msg)
    local n = tonumber(msg.data)
    if n ~= last + 1 then wrong = wrong + 1 end
    last, count = n, count + 1
    if n % $STEP == 0 then moondog.log.info("progress", { count = n }) end
  end)
  for i = 1, $MESSAGES do
    local ack
    repeat
      ack = js:publish("log", i, { msg_id = i, timeout = 2 })
      if not ack then moondog.sleep(0.05) end
    until ack
  end
  while last < $MESSAGES do moondog.sleep(0.05) end
  moondog.log.info("done", { count = count, wrong = wrong, recreated = reader:status().recreated,
    consumers = #js:consumers("LOG") })
end)
]]

describe("an ordered consumer, while the server is killed and comes back", function()
  it("delivers each message once, in order, under one name", run.case(function()
    local server = nats_server.start { jetstream = { store_dir = run.folder() .. "/js" } }
    local messages = math.floor(MESSAGES / 2)
    local dog = moondog.run(ORDERED, { URL = server.url, MESSAGES = messages,
      STEP = math.floor(messages / (KILLS + 1)) })
    kill_now_and_then(server, dog)
    local done = dog:wait_log("^done$", MESSAGES * PER_MESSAGE_SECONDS + 60)
    run.figure("messages in order", done.count)
    run.figure("made again", done.recreated)
    assert.equals(messages, done.count)
    assert.equals(0, done.wrong)
    assert.equals(1, done.consumers)
  end, { deadline = MESSAGES * PER_MESSAGE_SECONDS * 2 + 120 }))
end)
