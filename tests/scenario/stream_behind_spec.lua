-- The leader of a replicated stream dies, and its successor names a lower last sequence until it has
-- read all of its log. The tests themselves are JetStream here, so that it happens every time.
local cjson = require "cjson"
local moondog = require "support.moondog"
local nats_client = require "support.nats_client"
local run = require "support.run"
local scripted_server = require "support.scripted_server"

local DELIVERED = 3

local SCRIPT = [[
local moondog = require "moondog"
local c = moondog.connect { servers = { $URL } }
moondog.on_start(function()
  local js = c:jetstream { wait = true }
  local reader = assert(js:ordered("LOG", { name = "reader" }))
  reader:consume(function(msg) moondog.log.info("got", { seq = msg:metadata().seq }) end)
end)
]]

-- Answers as JetStream does. self.last_seq: what the stream's leader says; self.starts: where the
-- consumers that were made begin; self.inbox: who waits for messages.
local function pretend(witness, replicas)
  local self = { last_seq = DELIVERED, starts = {}, asked = 0 }
  local function answer(name, body)
    if name:find("^STREAM%.INFO") then
      self.asked = self.asked + 1
      return { config = { name = "LOG", num_replicas = replicas }, created = "2026-01-01T00:00:00Z",
        state = { last_seq = self.last_seq } }
    elseif name:find("^CONSUMER%.CREATE") or name:find("^CONSUMER%.DURABLE") then
      table.insert(self.starts, cjson.decode(body).config.opt_start_seq or 1)
      return { name = "reader", config = { ack_policy = "none" }, num_pending = 0, num_ack_pending = 0,
        delivered = { stream_seq = 0 }, ack_floor = { stream_seq = 0 } }
    end
    return { success = true }
  end
  witness:subscribe("$JS.API.>", function(msg)
    local name = msg.subject:match("^%$JS%.API%.(.*)$")
    if name:find("MSG%.NEXT") then
      self.inbox = msg.reply
    elseif msg.reply then
      witness:publish(msg.reply, cjson.encode(answer(name, msg.data)))
    end
  end)
  return self
end

local function start(replicas)
  local server = scripted_server.start() -- a real one lets no client write what a consumer delivers
  local witness = nats_client.connect { port = server.port }
  local stream = pretend(witness, replicas)
  local dog = moondog.run(SCRIPT, { URL = server.url })
  run.wait_until(function() return stream.inbox end, 10, "a request for messages")
  for seq = 1, DELIVERED do
    witness:publish(stream.inbox, "x",
      { reply = ("$JS.ACK.LOG.reader.1.%d.%d.1700000000000000000.0"):format(seq, seq) })
  end
  dog:wait_log("^got$", 10, DELIVERED)
  return stream, witness, dog
end

-- The stream's consumer has to be made again.
local function lose(stream, witness)
  local gone = "NATS/1.0 503\r\n\r\n"
  witness:send(("HPUB %s %d %d\r\n%s\r\n"):format(stream.inbox, #gone, #gone, gone))
end

describe("a stream whose leader knows less than was delivered", function()
  it("is waited for, when it has replicas", run.case(function()
    local stream, witness, dog = start(3)
    stream.last_seq = DELIVERED - 1
    lose(stream, witness)
    dog:wait_log(function(entry) return entry.code == "stream_behind" end)
    assert.equals(1, #stream.starts)
    stream.last_seq = DELIVERED
    run.wait_until(function() return #stream.starts == 2 end, 10, "a consumer that was made again")
    assert.equals(DELIVERED + 1, stream.starts[2])
    assert.equals(0, #dog:find_logs("begun anew"))
  end))

  it("has begun anew, when it has none", run.case(function()
    local stream, witness, dog = start(1)
    stream.last_seq = 0
    lose(stream, witness)
    dog:wait_log("begun anew")
    run.wait_until(function() return #stream.starts == 2 end, 10, "a consumer that was made again")
    assert.equals(1, stream.starts[2])
  end))
end)
