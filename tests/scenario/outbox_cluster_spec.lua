-- The outbox with a stream of three replicas, while each server of the cluster is killed in turn.
local moondog = require "support.moondog"
local nats_cluster = require "support.nats_cluster"
local run = require "support.run"

local MESSAGES = tonumber(os.getenv("MOONDOG_CLUSTER_MESSAGES")) or 5000
local ROUNDS = tonumber(os.getenv("MOONDOG_CLUSTER_ROUNDS")) or 1 -- each kills three servers
local SECONDS = 120 + ROUNDS * 150 + MESSAGES / 50

-- Publishes for as long as the servers are killed, and reads the stream when all is in it.
local SCRIPT = [[
local moondog = require "moondog"
local gw = moondog.connect { name = "gw", servers = { $A, $B, $C },
  reconnect = moondog.backoff { base = 0.05, cap = 0.5 } }
local outbox = moondog.outbox { path = $PATH, connection = gw }
local over = false
gw:subscribe("over", function(msg) over = true msg:respond("") end)

local function patiently(f, ...)
  while true do
    local result = f(...)
    if result then return result end
    moondog.sleep(0.25)
  end
end

moondog.on_start(function()
  local js = gw:jetstream { wait = true }
  patiently(js.add_stream, js, { name = "WORK", subjects = { "work" }, num_replicas = 3 })
  moondog.log.info("flowing")
  local published = 0
  repeat
    published = published + 1
    assert(outbox:publish("work", published))
    if published % 20 == 0 then moondog.sleep(0.01) end
  until over and published >= $MESSAGES
  while outbox:status().waiting > 0 do moondog.sleep(0.05) end
  local status, n, wrong = outbox:status(), 0, 0
  local reader = patiently(js.ordered, js, "WORK")
  while n < published do
    local msg = reader:next(5)
    if msg then
      n = n + 1
      if tonumber(msg.data) ~= n then wrong = wrong + 1 end
    end
  end
  moondog.log.info("done", { published = published, wrong = wrong, duplicates = status.duplicates,
    messages = patiently(js.stream_info, js, "WORK").state.messages })
end)
]]

describe("the outbox of a cluster whose servers are killed in turn", function()
  it("has each message in the stream once and in order", run.case(function()
    local cluster = nats_cluster.start()
    local dog = moondog.run(SCRIPT, { A = cluster.urls[1], B = cluster.urls[2], C = cluster.urls[3],
      MESSAGES = MESSAGES, PATH = run.folder() .. "/outbox.db" })
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
    cluster:connect():wait_answer("over", "", 20)
    local done = dog:wait_log("^done$", SECONDS)
    run.figure("messages in the stream", done.messages)
    run.figure("sent again and known to the stream", done.duplicates)
    assert.same({ done.published, 0 }, { done.messages, done.wrong })
  end, { deadline = SECONDS * 2 }))
end)
