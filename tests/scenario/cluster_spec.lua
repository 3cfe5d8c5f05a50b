-- A cluster of three servers does what other specs expect of it: see tests/support/nats_cluster.lua.
local nats_cluster = require "support.nats_cluster"
local npm_client = require "support.npm_client"
local run = require "support.run"

local STREAM = { name = "S", subjects = { "s" }, num_replicas = 3 }
local WORKER = { durable_name = "w", ack_policy = "explicit" }
local ATTEMPT_MS = 1000
local PAUSE = 0.05
local PATIENCE = 40

local function start()
  local cluster = nats_cluster.start()
  local npm = npm_client.start(cluster.urls)
  npm:call("stream_add", { config = STREAM })
  npm:call("consumer_add", { stream = "S", config = WORKER })
  cluster:wait_healthy()
  return cluster, npm
end

-- nil: it is not acknowledged. A cluster of 2.10 answers another one with the same id as stored, at 0,
-- while the first is on its way between the servers.
local function attempt(npm, number)
  local data = tostring(number)
  local ack = npm:publish { subject = "s", data = data, msg_id = data, timeout_ms = ATTEMPT_MS }
  if ack and ack.seq > 0 then
    return ack
  end
  run.pause(PAUSE) -- while nobody leads, the answer comes at once
end

-- Publishes again and again until it is acknowledged; the message id keeps it from being there twice.
local function publish(npm, number)
  return run.wait_until(function() return attempt(npm, number) end, PATIENCE,
    "an acknowledgement of message " .. number)
end

-- The stream holds the numbers 1 to last, once each and in order.
local function check(npm, last)
  local state = npm:call("stream_info", { stream = "S" }).state
  assert.same({ last, 1, last }, { state.messages, state.first_seq, state.last_seq })
  for seq = 1, last do
    local message = npm:call("message", { stream = "S", query = { seq = seq } })
    assert.equals(tostring(seq), message.data)
  end
end

describe("a cluster of three servers", function()
  it("elects another leader when a stream's is killed, and has all it had", run.case(function()
    local cluster, npm = start()
    for number = 1, 20 do
      publish(npm, number)
    end
    local killed_at = run.now()
    local dead = cluster:kill_leader_of("S")
    publish(npm, 21)
    run.figure("a killed leader of a stream, to the next acknowledgement", run.now() - killed_at, "s")
    local leader = cluster:leader_of("S")
    assert.not_equals(dead, leader)
    cluster:wait_healthy()
    check(npm, 21)
    assert.is_number(cluster:leader_of_consumer("S", "w"))
    local witness = cluster:connect()
    assert.is_truthy(witness:request("$JS.API.STREAM.INFO.S", ""))

    cluster:restart(dead)
    cluster:wait_healthy()
    -- What it missed, it has: the one that kept it alone goes.
    cluster:kill(leader)
    publish(npm, 22)
    check(npm, 22)
  end, { deadline = 120 }))

  it("keeps everything while its servers are killed one after the other", run.case(function()
    local cluster, npm = start()
    local number = 0
    for i = 1, 3 do
      cluster:kill(i)
      for _ = 1, 10 do
        number = number + 1
        publish(npm, number)
      end
      cluster:restart(i)
      cluster:wait_healthy()
    end
    check(npm, number)
    local seen = {}
    run.wait_until(function()
      for _, m in ipairs(npm:fetch { stream = "S", consumer = "w", n = 50, expires_ms = 1000 } or {}) do
        seen[m.data] = true
        npm:call("ack", { handle = m.handle, kind = "ack_sync" })
      end
      return npm:call("consumer_info", { stream = "S", consumer = "w" }).ack_floor.stream_seq == number
    end, PATIENCE, "all acknowledged")
    for wanted = 1, number do
      assert.is_true(seen[tostring(wanted)])
    end
  end, { deadline = 180 }))

  it("says that it is not healthy, and is again when it can be", run.case(function()
    local cluster, npm = start()
    publish(npm, 1)
    cluster:freeze(1)
    cluster:kill(2)
    run.wait_until(function() return cluster:trouble() end, PATIENCE, "that it notices")
    local ok = pcall(run.wait_until, function() return attempt(npm, 2) end, 3,
      "what cannot be: one of three is no majority")
    assert.is_false(ok)
    cluster:thaw(1)
    cluster:restart(2)
    cluster:wait_healthy()
    publish(npm, 2)
    assert.is_nil(cluster:trouble())
  end, { deadline = 120 }))
end)
