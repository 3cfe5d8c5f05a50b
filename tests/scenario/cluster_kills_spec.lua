-- A cluster of three servers, everything in three replicas, and each server killed in turn while
-- messages flow: the outbox, a consumer and a watch keep their promises.
local moondog = require "support.moondog"
local nats_cluster = require "support.nats_cluster"
local run = require "support.run"

local MESSAGES = tonumber(os.getenv("MOONDOG_CLUSTER_MESSAGES")) or 3000
local ROUNDS = tonumber(os.getenv("MOONDOG_CLUSTER_ROUNDS")) or 1 -- each kills three servers
local SECONDS = 120 + ROUNDS * 150 + MESSAGES / 50

-- One task publishes through the outbox, one reads with a durable consumer, one writes keys and one
-- watches them. The pace of the publisher is the pace of all of it.
local SCRIPT = [[
local moondog = require "moondog"
local gw = moondog.connect { name = "gw", servers = { $A, $B, $C },
  reconnect = moondog.backoff { base = 0.05, cap = 0.5 } }
local outbox = moondog.outbox { path = $PATH, connection = gw }
local progress = { published = 0, confirmed = 0, twice = 0, back = 0, revision = 0, seen = 0 }

local function patiently(f)
  while true do
    local result, err = f()
    if result then return result end
    moondog.log.info("again", { error = tostring(err) })
    moondog.sleep(0.25)
  end
end

local function publish()
  for i = 1, $MESSAGES do
    assert(outbox:publish("work", i, { msg_id = "n" .. i }))
    progress.published = i
    if i % 10 == 0 then moondog.sleep($PAUSE) end
  end
end

local function read(js)
  local consumer = patiently(function()
    return js:consumer("WORK", { durable = "w", ack_wait = 3, heartbeat = 1, expires = 5, replicas = 3 })
  end)
  local confirmed = {}
  for msg in consumer:messages() do
    local n = tonumber(msg.data)
    if confirmed[n] then progress.twice = progress.twice + 1 end
    if msg:ack_sync(2) and not confirmed[n] then
      confirmed[n] = true
      progress.confirmed = progress.confirmed + 1
    end
  end
end

local values, watched = {}, {}
local function write(kv)
  for i = 1, $MESSAGES / 10 do
    local key = "k" .. i % 20
    patiently(function() return kv:put(key, i) end)
    values[key] = tostring(i)
    while progress.published < i * 10 do moondog.sleep(0.05) end
  end
  progress.written = true
end

moondog.on_start(function()
  local js = gw:jetstream { wait = true }
  patiently(function() return js:add_stream { name = "WORK", subjects = { "work" }, num_replicas = 3 } end)
  local kv = patiently(function() return js:create_key_value { bucket = "B", history = 1, replicas = 3 } end)
  patiently(function()
    return kv:watch(">", function(entry)
      if not entry then return end
      if entry.revision <= progress.revision then progress.back = progress.back + 1 end
      progress.revision, progress.seen = entry.revision, progress.seen + 1
      watched[entry.key] = entry.value
    end)
  end)
  moondog.spawn(publish)
  moondog.spawn(read, js)
  moondog.spawn(write, kv)
  moondog.log.info("flowing")
  local told = 0
  while progress.published < $MESSAGES or progress.confirmed < $MESSAGES or not progress.written do
    if progress.published >= told + $MESSAGES / 10 then
      told = progress.published
      moondog.log.info("progress", progress)
    end
    moondog.sleep(0.05)
  end
  local function all_seen()
    for key, value in pairs(values) do
      if watched[key] ~= value then return false end
    end
    return true
  end
  while not all_seen() do moondog.sleep(0.05) end
  local names = patiently(function() return js:consumers("WORK") end)
  local state = patiently(function() return js:stream_info("WORK") end).state
  local info = patiently(function() return js:consumer_info("WORK", "w") end)
  moondog.log.info("done", { confirmed = progress.confirmed, twice = progress.twice, back = progress.back,
    seen = progress.seen, consumers = #names, messages = state.messages, waiting = outbox:status().waiting,
    pending = info.num_pending })
  -- In the stream: each once, in order.
  local wrong, n = 0, 0
  local reader = patiently(function() return js:ordered("WORK") end)
  while n < state.messages do
    local msg = reader:next(5)
    if msg then
      n = n + 1
      if tonumber(msg.data) ~= n then wrong = wrong + 1 end
    end
  end
  moondog.log.info("read", { messages = n, wrong = wrong })
end)
]]

describe("a cluster whose servers are killed in turn", function()
  it("has everything once and in order, and everything is handled", run.case(function()
    local cluster = nats_cluster.start()
    local dog = moondog.run(SCRIPT, { A = cluster.urls[1], B = cluster.urls[2], C = cluster.urls[3],
      MESSAGES = MESSAGES, PATH = run.folder() .. "/outbox.db", PAUSE = 0.02 * ROUNDS })
    dog:wait_log("^flowing$", 60)
    for _ = 1, ROUNDS do
      for i = 1, 3 do
        run.pause(0.5 + math.random())
        cluster:kill(i)
        run.pause(0.5 + math.random())
        cluster:restart(i)
        cluster:wait_healthy(90)
      end
    end
    local done = dog:wait_log("^done$", SECONDS)
    local read = dog:wait_log("^read$", 60)
    run.figure("messages in the stream", done.messages)
    run.figure("of these confirmed by the consumer", done.confirmed)
    run.figure("changes of keys that the watch saw", done.seen)
    assert.equals(MESSAGES, done.messages)
    assert.equals(MESSAGES, read.messages)
    assert.equals(0, read.wrong)
    assert.equals(MESSAGES, done.confirmed)
    assert.equals(0, done.twice)
    assert.equals(0, done.back)
    assert.equals(0, done.waiting)
    assert.equals(1, done.consumers)
  end, { deadline = SECONDS * 2 }))
end)
