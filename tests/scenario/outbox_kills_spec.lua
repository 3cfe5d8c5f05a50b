-- Messages through the outbox while the server and moondog itself are killed at random: the stream
-- has each exactly once, and in order. MOONDOG_OUTBOX_MESSAGES says how many (10000), MOONDOG_SEED
-- repeats a run.
local cjson = require "cjson"
local moondog = require "support.moondog"
local nats_server = require "support.nats_server"
local run = require "support.run"
local uv = require "luv"

local MESSAGES = tonumber(os.getenv("MOONDOG_OUTBOX_MESSAGES")) or 10000
local SERVER_KILLS, MOONDOG_KILLS = 20, 10
local OUTSTANDING = 256 -- that were asked for and are not on the disk
local SECONDS = 240 + MESSAGES / 200

-- The number is the message and its id. What is answered is on the disk.
local SCRIPT = [[
local moondog = require "moondog"
local gw = moondog.connect { name = "gw", servers = { $URL } }
local control = moondog.connect { name = "control", servers = { $CONTROL } }
local o = moondog.outbox { path = $PATH, connection = gw }
control:subscribe("put", function(msg)
  local ok, err = o:publish("s.n", msg.data, { msg_id = msg.data })
  msg:respond(ok and "" or tostring(err))
end)
control:subscribe("status", function(msg)
  local s = o:status()
  msg:respond(("%d %d %d"):format(s.waiting, s.forwarded, s.duplicates))
end)
]]

local function api(server, name, body)
  local client = server:connect()
  local answer = client:wait_answer("$JS.API." .. name, body and cjson.encode(body) or "", 20)
  client:close()
  answer = cjson.decode(answer.data)
  assert(not answer.error, answer.error and answer.error.description)
  return answer
end

-- When what is killed: by how many messages are on the disk.
local function make_plan()
  local plan = {}
  for i = 1, SERVER_KILLS + MOONDOG_KILLS do
    plan[i] = { at = math.random(MESSAGES), what = i <= SERVER_KILLS and "server" or "moondog" }
  end
  table.sort(plan, function(a, b) return a.at < b.at end)
  return plan
end

-- Asks for the numbers from 1 on, some at a time, in order; after a restart those again that were
-- not answered.
local function new_feeder(witness)
  local feeder = { done = 0, asked = 0, epoch = 0, answered = {} }
  local sub
  local function on_answer(epoch, msg)
    if epoch ~= feeder.epoch or msg.status then return end
    local number = tonumber(msg.subject:match("(%d+)$"))
    assert(msg.data == "", "number " .. number .. ": " .. msg.data)
    feeder.answered[number] = true
    while feeder.answered[feeder.done + 1] do
      feeder.done = feeder.done + 1
      feeder.answered[feeder.done] = nil
    end
  end
  function feeder.begin()
    if sub then witness:unsubscribe(sub) end
    feeder.epoch = feeder.epoch + 1
    local epoch = feeder.epoch
    feeder.inbox = "answer." .. epoch .. "."
    sub = witness:subscribe(feeder.inbox .. "*", function(msg) on_answer(epoch, msg) end)
    feeder.asked = feeder.done
    feeder.answered = {}
  end
  function feeder.feed()
    while feeder.asked < MESSAGES and feeder.asked < feeder.done + OUTSTANDING do
      feeder.asked = feeder.asked + 1
      witness:publish("put", tostring(feeder.asked), { reply = feeder.inbox .. feeder.asked })
    end
  end
  return feeder
end

local function read_stream(server, count)
  local client = server:connect()
  local got, first_wrong = 0, nil
  client:subscribe("deliver.here", function(msg)
    got = got + 1
    if not first_wrong and msg.data ~= tostring(got) then
      first_wrong = ("message %d of the stream is %s"):format(got, msg.data)
    end
  end)
  client:flush()
  api(server, "CONSUMER.CREATE.S", { stream_name = "S",
    config = { deliver_subject = "deliver.here", deliver_policy = "all", ack_policy = "none" } })
  run.wait_until(function() return got >= count end, 60, "the messages of the stream")
  return got, first_wrong
end

describe("An outbox", function()
  it("loses nothing and doubles nothing while server and moondog are killed", run.case(function()
    local seed = tonumber(os.getenv("MOONDOG_SEED")) or uv.hrtime() % 2 ^ 31
    math.randomseed(seed)
    run.on_failure(function() return ("MOONDOG_SEED=%d"):format(seed) end)
    local server = nats_server.start { jetstream = { store_dir = run.folder() .. "/js" } }
    local control = nats_server.start()
    api(server, "STREAM.CREATE.S", { name = "S", subjects = { "s.>" }, storage = "file",
      retention = "limits", max_consumers = -1, max_msgs = -1, max_bytes = -1, num_replicas = 1 })
    local witness = control:connect()
    local values = { URL = server.url, CONTROL = control.url, PATH = run.folder() .. "/out.db" }
    local feeder, dog = new_feeder(witness), nil
    local duplicates = 0
    local function launch()
      dog = moondog.run(SCRIPT, values)
      dog:wait_log(function(entry) return entry.msg == "connected" and entry.connection == "control" end, 15)
      feeder.begin()
    end
    local function ask_status()
      local answer = witness:request("status", "", 2)
      if answer then return answer.data:match("(%d+) (%d+) (%d+)") end
    end

    local began = run.now()
    launch()
    local kills = {
      server = function()
        server:kill()
        run.pause(math.random() * 0.3) -- an outage lasts a while
        server:restart()
      end,
      moondog = function()
        local _, _, seen = ask_status()
        duplicates = duplicates + (tonumber(seen) or 0)
        dog:signal("sigkill")
        dog.process:wait_exit(5)
        launch()
      end,
    }
    local busy = false -- the server is being killed: messages go on meanwhile
    for _, event in ipairs(make_plan()) do
      run.wait_until(function()
        feeder.feed()
        return feeder.done >= event.at and not busy
      end, SECONDS, function() return ("%d messages on the disk, there are %d"):format(event.at, feeder.done) end)
      if event.what == "server" then
        busy = true
        run.spawn(function()
          kills.server()
          busy = false
        end)
      else
        kills.moondog()
      end
    end
    run.wait_until(function()
      feeder.feed()
      return feeder.done == MESSAGES and not busy
    end, SECONDS, "all messages on the disk")
    local published = run.now() - began
    run.wait_until(function() return ask_status() == "0" end, SECONDS, function()
      return ("all are forwarded: waiting, forwarded, duplicates are %s %s %s"):format(ask_status())
    end)
    local seconds = run.now() - began
    local _, _, last = ask_status()
    duplicates = duplicates + tonumber(last)

    local stored = api(server, "STREAM.INFO.S").state.messages
    local got, first_wrong = read_stream(server, stored)
    run.figure("outbox under kills: messages published", MESSAGES)
    run.figure("outbox under kills: messages in the stream", stored)
    run.figure("outbox under kills: kills of the server", SERVER_KILLS)
    run.figure("outbox under kills: kills of moondog", MOONDOG_KILLS)
    run.figure("outbox under kills: sent again and known to the stream, at least", duplicates)
    run.figure("outbox under kills: until all were on the disk", published, "s")
    run.figure("outbox under kills: until all were in the stream", seconds, "s")
    assert.is_nil(first_wrong)
    assert.equals(MESSAGES, stored)
    assert.equals(MESSAGES, got)
  end, { deadline = SECONDS * 2 + 100 }))
end)
