-- A replicated stream while the servers of its cluster are killed one after the other: what moondog
-- was told is stored is there once and in order, and what it confirmed it does not handle again.
local moondog = require "support.moondog"
local nats_cluster = require "support.nats_cluster"
local npm_client = require "support.npm_client"
local run = require "support.run"

local ROUNDS = tonumber(os.getenv("MOONDOG_CLUSTER_ROUNDS")) or 1 -- each kills all servers
local UNDER_LOAD = 200 -- messages, before each kill and each restart
local PATIENCE = 60

-- One task publishes until it is told to stop, two read: a durable consumer and an ordered one.
local SCRIPT = [[
local moondog = require "moondog"
local c = moondog.connect { servers = { $FIRST, $SECOND, $THIRD },
  reconnect = moondog.backoff { base = 0.05, cap = 0.2 } }
local published, retried, stopped, finished = 0, 0, false, false
local handled, confirmed, seen, count, twice, again, unsure = {}, {}, 0, 0, 0, 0, 0
local last, wrong = 0, 0
local durable, ordered

local function publish(js)
  while not stopped do
    local n, ack = published + 1, nil
    repeat
      ack = js:publish("work", n, { msg_id = n, timeout = 2 })
      if not ack then
        retried = retried + 1
        moondog.sleep(0.05)
      end
    until ack
    published = n
    if n % $STEP == 0 then moondog.log.info("progress", { count = n }) end
  end
  finished = true -- what was on its way when it was told to stop is counted, too
end

local function read(consumer)
  for msg in consumer:messages() do
    local n = tonumber(msg.data)
    if handled[n] then again = again + 1 else seen = seen + 1 end
    if confirmed[n] then twice = twice + 1 end
    handled[n] = true
    if msg:ack_sync() then
      count = count + (confirmed[n] and 0 or 1)
      confirmed[n] = true
    else
      unsure = unsure + 1 -- it comes again, or the server has it and only its confirmation was lost
    end
  end
end

moondog.on_start(function()
  local js = c:jetstream { wait = true }
  assert(js:add_stream { name = "WORK", subjects = { "work" }, num_replicas = 3 })
  durable = assert(js:consumer("WORK", { durable = "workers", ack_wait = 5, heartbeat = 0.5, expires = 5 }))
  ordered = assert(js:ordered("WORK", { heartbeat = 0.5, expires = 5 }))
  for _ = 1, 4 do moondog.spawn(read, durable) end
  ordered:consume(function(msg)
    local n = tonumber(msg.data)
    if n ~= last + 1 then
      local at = msg:metadata()
      wrong = wrong + 1
      moondog.log.warn("not in order", { got = n, after = last, seq = at.seq, consumer_seq = at.consumer_seq,
        consumer = at.consumer, recreated = ordered:status().recreated })
    end
    last = n
  end)
  moondog.spawn(publish, js)
  while not finished or seen < published or last < published do moondog.sleep(0.05) end
  moondog.log.info("done", { published = published, retried = retried, seen = seen, confirmed = count, twice = twice,
    again = again, unsure = unsure, skipped = durable:status().skipped, last = last, wrong = wrong,
    recreated = ordered:status().recreated, silences = ordered:status().silences })
end)
c:subscribe("stop", function(msg)
  stopped = true
  msg:respond(published)
end)
-- For the one who has to find out what went wrong.
c:subscribe("status", function(msg)
  local missing = {}
  for n = 1, published do
    if not handled[n] and #missing < 20 then
      missing[#missing + 1] = n
    end
  end
  local function list(t)
    local out = {}
    for key, value in pairs(t or {}) do
      out[#out + 1] = key .. " = " .. (type(value) == "table" and "{ " .. list(value) .. " }" or tostring(value))
    end
    table.sort(out)
    return table.concat(out, ", ")
  end
  msg:respond(("published %d, seen %d, not: %s; in order %d\ndurable: %s\non the server: %s\nordered: %s")
    :format(published, seen, table.concat(missing, ", "), last, list(durable:status()), list(durable:info()),
      list(ordered:status())))
end)
]]

-- Kills each server and lets it come back, under load.
local function roll(cluster, dog, progress)
  local function wait_load()
    progress = progress + 1
    dog:wait_log("^progress$", PATIENCE, progress)
  end
  for i = 1, #cluster.servers do
    wait_load()
    cluster:kill(i)
    wait_load()
    cluster:restart(i)
    cluster:wait_healthy(PATIENCE)
  end
  return progress
end

describe("a replicated stream, while its cluster's servers are killed in turn", function()
  it("holds each message once and in order, and both consumers have read them", run.case(function()
    local cluster = nats_cluster.start()
    local dog = moondog.run(SCRIPT, { FIRST = cluster.urls[1], SECOND = cluster.urls[2],
      THIRD = cluster.urls[3], STEP = UNDER_LOAD })
    local progress = 0
    for _ = 1, ROUNDS do
      progress = roll(cluster, dog, progress)
    end
    local witness = cluster:connect()
    witness:wait_answer("stop", "", 10)
    local ok, done = pcall(dog.wait_log, dog, "^done$", PATIENCE)
    assert(ok, witness:wait_answer("status", "", 10).data)
    run.figure("servers killed under load", ROUNDS * #cluster.servers)
    for _, name in ipairs { "published", "retried", "confirmed", "again", "unsure", "skipped", "recreated" } do
      run.figure(name, done[name])
    end
    -- As others see it.
    local npm = npm_client.start(cluster.urls)
    local state = npm:call("stream_info", { stream = "WORK" }).state
    assert.same({ done.published, done.published }, { state.messages, state.last_seq })
    assert.equals(done.published, done.seen)
    assert.equals(0, done.twice)
    assert.same({ done.published, 0 }, { done.last, done.wrong })
    run.wait_until(function()
      local info = npm:call("consumer_info", { stream = "WORK", consumer = "workers" })
      return info.num_ack_pending == 0 and info.num_pending == 0
    end, 20, "nothing left to acknowledge")
    assert.equals(2, #npm:call("consumers", { stream = "WORK" }))
  end, { deadline = 120 + ROUNDS * 180 }))
end)
