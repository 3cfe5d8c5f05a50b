-- Numbered messages through an outbox while servers and moondog itself are killed at random: the
-- stream has each exactly once, and in order.
local cjson = require "cjson"
local jetstream_api = require "support.jetstream_api"
local moondog = require "support.moondog"
local nats_server = require "support.nats_server"
local run = require "support.run"
local uv = require "luv"

local M = {}

local OUTSTANDING = 256 -- that were asked for and are not on the disk
M.SECONDS = 400 -- for each step

-- The number is the message and its id. What is answered is on the disk.
local SCRIPT = [[
local moondog = require "moondog"
local gw = moondog.connect { name = "gw", servers = $URL }
local control = moondog.connect { name = "control", servers = { $CONTROL } }
local o = moondog.outbox { path = $PATH, connection = gw }
control:subscribe("put", function(msg)
  local ok, err = o:publish("s.n", msg.data, { msg_id = msg.data })
  msg:respond(ok and "" or tostring(err))
end)
control:subscribe("status", function(msg)
  local s = o:status()
  -- What waits is not known before the file is open.
  msg:respond(("%s %d %d"):format(s.state == "opening" and "?" or s.waiting, s.forwarded, s.duplicates))
end)
]]

-- When what is killed: by how many messages are on the disk.
local function make_plan(case)
  local plan = {}
  for i = 1, case.server_kills + case.moondog_kills do
    plan[i] = { at = math.random(case.messages), what = i <= case.server_kills and "server" or "moondog" }
  end
  table.sort(plan, function(a, b) return a.at < b.at end)
  return plan
end

-- Asks for the numbers from 1 on, some at a time, in order; after a restart those again that were
-- not answered.
local function new_feeder(witness, messages)
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
    while feeder.asked < messages and feeder.asked < feeder.done + OUTSTANDING do
      feeder.asked = feeder.asked + 1
      witness:publish("put", tostring(feeder.asked), { reply = feeder.inbox .. feeder.asked })
    end
  end
  return feeder
end

local BASE64 = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"

local function base64(text)
  return (text:gsub("..?.?", function(three)
    local a, b, c = three:byte(1, 3)
    local bits = a * 65536 + (b or 0) * 256 + (c or 0)
    local four = ""
    for i = 3, 0, -1 do
      local at = math.floor(bits / 64 ^ i) % 64 + 1
      four = four .. BASE64:sub(at, at)
    end
    return four:sub(1, #three + 1) .. ("="):rep(3 - #three)
  end))
end

-- Each message by its number: a consumer of a cluster that was just killed may never deliver.
local function read_stream(server, first, count)
  local client = server:connect()
  local got, asked, first_wrong = 0, 0, nil
  client:subscribe("stored.*", function(msg)
    local number = tonumber(msg.subject:match("%d+$"))
    local answer = cjson.decode(msg.data)
    got = got + 1
    if not first_wrong and (not answer.message or answer.message.data ~= base64(tostring(number))) then
      first_wrong = ("message %d of the stream is %s"):format(number, msg.data)
    end
  end)
  run.wait_until(function()
    while asked < count and asked < got + OUTSTANDING do
      asked = asked + 1
      client:publish("$JS.API.STREAM.MSG.GET.S", cjson.encode { seq = first + asked - 1 },
        { reply = "stored." .. asked })
    end
    return got >= count
  end, 60, function() return ("%d messages of the stream, there are %d"):format(count, got) end)
  client:close()
  return got, first_wrong
end

local function urls(servers)
  local list = {}
  for i, server in ipairs(servers) do list[i] = server.url end
  return table.concat(list, ",")
end

-- case: messages; servers (with JetStream, running) or one is started; replicas; server_kills,
-- moondog_kills; outage: seconds at most, or exactly (fixed_outage); window: the stream's duplicate window;
-- together: all servers are killed at once, when nothing is on its way to them, and moondog before they are back;
-- in_turn: the next kill waits until messages are forwarded again; settled: waits until it may be.
-- Returns stored, got (of the stream's messages) and first_wrong, a text about the first that is out of place.
function M.play(case)
  local seed = tonumber(os.getenv("MOONDOG_SEED")) or uv.hrtime() % 2 ^ 31
  math.randomseed(seed)
  run.on_failure(function() return ("MOONDOG_SEED=%d"):format(seed) end)
  local servers = case.servers or { nats_server.start { jetstream = { store_dir = run.folder() .. "/js" } } }
  local server = servers[1]
  local control = nats_server.start()
  jetstream_api.api(server, "STREAM.CREATE.S", { name = "S", subjects = { "s.>" }, storage = "file",
    retention = "limits", max_consumers = -1, max_msgs = -1, max_bytes = -1, num_replicas = case.replicas or 1,
    duplicate_window = case.window * 1e9 })
  local witness = control:connect()
  local values = { URL = urls(servers), CONTROL = control.url, PATH = run.folder() .. "/out.db" }
  local feeder, dog = new_feeder(witness, case.messages), nil
  local duplicates = 0
  local function launch()
    dog = moondog.run(SCRIPT, values)
    dog:wait_log(function(entry) return entry.msg == "connected" and entry.connection == "control" end, 15)
    feeder.begin()
  end
  local function ask_status()
    local answer = witness:request("status", "", 2)
    if answer then return answer.data:match("(%S+) (%d+) (%d+)") end
  end

  local began = run.now()
  local killed = 0
  local busy = false -- the server is being killed: messages go on meanwhile
  local kills = {}
  kills = {
    server = function()
      busy = true
      killed = killed % #servers + 1
      local victims = case.together and servers or { servers[killed] }
      if case.together then
        -- What is not on the disk yet is not among those that wait.
        run.wait_until(function() return feeder.done == feeder.asked and ask_status() == "0" end, M.SECONDS,
          "all are forwarded")
      end
      run.spawn(function()
        for _, victim in ipairs(victims) do victim:kill() end
        run.pause(case.fixed_outage or math.random() * case.outage) -- an outage lasts a while
        if case.together then kills.moondog() end
        local _, before = ask_status()
        for _, victim in ipairs(victims) do victim:restart() end
        if case.settled then case.settled() end
        if case.in_turn then -- each one meets messages on their way
          run.wait_until(function()
            local waiting, forwarded = ask_status()
            return waiting == "0" or forwarded and forwarded ~= before and forwarded ~= "0"
          end, M.SECONDS, "messages go on")
        end
        busy = false
      end)
    end,
    moondog = function()
      local _, _, seen = ask_status()
      duplicates = duplicates + (tonumber(seen) or 0)
      dog:signal("sigkill")
      dog.process:wait_exit(5)
      launch()
    end,
  }
  local function feed_until(count)
    run.wait_until(function()
      feeder.feed()
      return feeder.done >= count and not busy
    end, M.SECONDS, function() return ("%d messages on the disk, there are %d"):format(count, feeder.done) end)
  end
  launch()
  for _, event in ipairs(make_plan(case)) do
    feed_until(event.at)
    kills[event.what]()
  end
  feed_until(case.messages)
  local published = run.now() - began
  run.wait_until(function() return ask_status() == "0" end, M.SECONDS, function()
    return ("all are forwarded: waiting, forwarded, duplicates are %s %s %s"):format(ask_status())
  end)
  local seconds = run.now() - began
  local _, _, last = ask_status()

  local state = jetstream_api.api(server, "STREAM.INFO.S").state
  local stored = state.messages
  local got, first_wrong = read_stream(server, state.first_seq, stored)
  print(("figure  outbox under %d kills of the server and %d of moondog: %d messages published, %d in the "
    .. "stream, %d of them acknowledged as duplicates, %.1f s until all were on the disk, %.1f s until all "
    .. "were in the stream"):format(case.server_kills, case.moondog_kills, case.messages, stored,
    duplicates + tonumber(last), published, seconds))
  return { first_wrong = first_wrong, stored = stored, got = got }
end

return M
