-- An ordered consumer that has to be made again while messages flow: what the old one still
-- delivers in the meantime is not handled, as the new one delivers it, too.
local cjson = require "cjson"
local moondog = require "support.moondog"
local nats_server = require "support.nats_server"
local run = require "support.run"

local FAULTS = 20
local BATCH = 50
local GONE = "NATS/1.0 503\r\n\r\n"

local SCRIPT = [[
local moondog = require "moondog"
local c = moondog.connect { servers = { $URL } }
local last, wrong, reader = 0, 0, nil
moondog.on_start(function()
  local js = c:jetstream { wait = true }
  assert(js:add_stream { name = "LOG", subjects = { "log" }, storage = "memory" })
  reader = assert(js:ordered("LOG", { name = "reader", heartbeat = 1 }))
  reader:consume(function(msg)
    local n = tonumber(msg.data)
    if n ~= last + 1 then wrong = wrong + 1 end
    last = n
  end)
  moondog.log.info("reading")
end)
c:subscribe("status", function(msg)
  msg:respond(("%d %d %d"):format(last, wrong, reader:status().recreated))
end)
]]

-- The inbox that the reader has now, as the server sees it.
local function inbox_of(server)
  local inbox
  for _, client in ipairs(server:clients()) do
    for _, subject in ipairs(client.subscriptions_list or {}) do
      inbox = subject:match("^_INBOX%.md%d+$") or inbox
    end
  end
  return inbox
end

describe("an ordered consumer that is made again under a flow of messages", function()
  it("delivers each message once and in order", run.case(function()
    local server = nats_server.start { jetstream = { store_dir = run.folder() .. "/js" } }
    local dog = moondog.run(SCRIPT, { URL = server.url })
    dog:wait_log("^reading$")
    local witness, sent, flowing = server:connect(), 0, true
    run.spawn(function()
      while flowing do
        for _ = 1, BATCH do
          sent = sent + 1
          witness:publish("log", tostring(sent))
        end
        witness:flush(10)
        run.pause(0.001)
      end
    end)
    local function status()
      local last, wrong, recreated = witness:wait_answer("status", "", 10).data:match("(%d+) (%d+) (%d+)")
      return tonumber(last), tonumber(wrong), tonumber(recreated)
    end
    for i = 1, FAULTS do
      run.wait_until(function()
        -- What the server says when nobody answers for a consumer; but this one is there.
        local inbox = inbox_of(server)
        if inbox then
          witness:send(("HPUB %s %d %d\r\n%s\r\n"):format(inbox, #GONE, #GONE, GONE))
        end
        return select(3, status()) >= i
      end, 10, "a consumer that was made again")
    end
    flowing = false
    run.wait_until(function() return status() == sent end, 20, "all messages")
    local _, wrong, recreated = status()
    run.figure("made again", recreated)
    assert.equals(0, wrong)
  end))
end)

describe("the last message of a stream", function()
  -- There is no later one whose number would tell.
  it("is not missed when it went elsewhere: the heartbeats tell that it was delivered", run.case(function()
    local server = nats_server.start { jetstream = { store_dir = run.folder() .. "/js" } }
    local dog = moondog.run(SCRIPT, { URL = server.url })
    dog:wait_log("^reading$")
    local witness, sent = server:connect(), 0
    local thief = witness:subscribe("thief")
    local function last()
      return tonumber((witness:wait_answer("status", "", 10).data:match("^%d+")))
    end
    run.wait_until(function() return inbox_of(server) end, 10, "a request of the reader")
    witness:publish("$JS.API.CONSUMER.MSG.NEXT.LOG.reader", cjson.encode { batch = 1 }, { reply = "thief" })
    run.wait_until(function()
      sent = sent + 1
      witness:publish("log", tostring(sent))
      run.wait_until(function() return thief.messages[1] or last() == sent end, 10, "somebody has it")
      return thief.messages[1]
    end, 30, "a message that went elsewhere")
    assert.equals(tostring(sent), thief.messages[1].data)
    run.wait_until(function() return last() == sent end, 20, function()
      return ("message %d is read, the last one was %d"):format(sent, last())
    end)
    assert.equals(("%d 0 1"):format(sent), witness:wait_answer("status", "", 10).data)
  end))
end)
