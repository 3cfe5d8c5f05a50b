-- What is published in one turn goes out as a batch: for most of its messages the library is not asked one by one. All
-- of them arrive, in order and whole, and the library's limits hold for each.
local cjson = require "cjson"
local moondog = require "support.moondog"
local nats_server = require "support.nats_server"
local run = require "support.run"
local scripted_server = require "support.scripted_server"

local SCRIPT = [[
local moondog = require "moondog"
local c = moondog.connect { servers = { $URL } }
c:subscribe("publish", function()
  for i = 1, $COUNT do
    local subject, data, options = message(i)
    assert(c:publish(subject, data, options))
  end
  assert(c:flush(10))
  print "published"
end)
c:subscribe("stats", function(msg)
  local s = c:stats()
  msg:respond(("%d %d %d"):format(s.out_msgs, s.out_bytes, s.publish_lost))
end)
]]

-- Both here and in the script. Data of all lengths around those at which something else is done with it.
local MESSAGES = [[
local LENGTHS = { 0, 1, 9, 10, 99, 100, 999, 1000, 64 }
for length = 960, 1040 do LENGTHS[#LENGTHS + 1] = length end
for _, length in ipairs { 4096, 65535, 65536, 70000, 262144, 300000, 1048576 } do LENGTHS[#LENGTHS + 1] = length end

local function message(i)
  local length = LENGTHS[(i - 1) % #LENGTHS + 1]
  local data = (tostring(i) .. "\r\nPUB no 2\r\n\0"):rep(math.ceil(length / 4)):sub(1, length)
  local options
  if i % 3 == 0 then options = { reply = "back." .. i } end
  if i % 7 == 0 then options = { reply = options and options.reply, headers = { number = tostring(i) } } end
  if i % 11 == 0 then options = { reply = ("r"):rep(600) } end
  return (i % 5 == 0 and "batch.long." .. ("s"):rep(i % 10 == 0 and 900 or 400) or "batch.short") .. "." .. i,
    data:sub(1, 1048576 - 64), options
end
]]
local message = assert(loadstring(MESSAGES .. " return message"))()

describe("a batch of messages", function()
  it("arrives whole and in order, whatever their sizes, names and options", run.case(function()
    local COUNT = 97 * 2
    local server = nats_server.start()
    local dog = moondog.run(MESSAGES .. SCRIPT, { URL = server.url, COUNT = COUNT },
      { args = { "--budget", "20000", "--stall", "60" } }) -- it makes 4 MB of messages in one turn
    local witness = server:connect()
    local got = witness:subscribe("batch.>")
    dog:wait_log("^connected$")
    witness:publish("publish", "")
    dog:wait_log("^published$", 20)
    run.wait_until(function() return got.count >= COUNT end, 20, "all messages")
    local bytes = 0
    for i, msg in ipairs(got.messages) do
      local subject, data, options = message(i)
      options = options or {}
      assert.equals(subject, msg.subject)
      assert.equals(options.reply, msg.reply)
      assert.equals(options.headers and options.headers.number, msg.headers and msg.headers.number)
      assert.is_true(data == msg.data, "the data of message " .. i .. " is another")
      bytes = bytes + #data
    end
    assert.equals(COUNT, got.count)
    local count, sum, lost = witness:request("stats", "", 5).data:match("(%d+) (%d+) (%d+)")
    assert.equals(COUNT, tonumber(count))
    assert.equals(bytes, tonumber(sum))
    assert.equals(0, tonumber(lost))
  end))

  it("does not have what has become too large for the server", run.case(function()
    local published = {}
    local server = scripted_server.start { on_op = function(_, op)
      if (op.verb == "PUB" or op.verb == "HPUB") and op.args[1]:find("^batch%.") then
        published[#published + 1] = op.args[1] .. " " .. op.data
      end
    end }
    local messages = [[
      local function message(i) return "batch." .. i, i == 50 and ("x"):rep(101) or tostring(i) end
    ]]
    local dog = moondog.run(messages .. SCRIPT, { URL = server.url, COUNT = 100 })
    run.wait_until(function() return server:subscriptions("^publish$") == 1 end, 10, "the subscription")
    dog:wait_log("^connected$")
    server.info.max_payload = 100
    server.last:send("INFO " .. cjson.encode(server.info) .. "\r\n")
    server:publish("publish", "")
    dog:wait_log("^published$", 10)
    run.wait_until(function() return #published >= 99 end, 10, "the others")
    for i, one in ipairs(published) do
      local number = i < 50 and i or i + 1
      assert.equals(("batch.%d %d"):format(number, number), one)
    end
    assert.equals(99, #published)
  end))
end)
