-- Headers that somebody makes to hurt: nats.c needs minutes for a megabyte of one key.
local moondog = require "support.moondog"
local nats_server = require "support.nats_server"
local run = require "support.run"
local scripted_server = require "support.scripted_server"

local SCRIPT = [[
local moondog = require "moondog"
local c = moondog.connect { servers = { $URL } }
c:subscribe("read", function(msg)
  local value = msg.headers.key
  print("read " .. (type(value) == "table" and #value or tostring(value)))
end)
]]

local function send(server, lines)
  local client = server.last
  local block = "NATS/1.0\r\n" .. ("key: value\r\n"):rep(lines) .. "\r\n"
  for sid, subject in pairs(client.subs) do
    if subject == "read" then
      client:send(("HMSG read %s reply %d %d\r\n%sdata\r\n"):format(sid, #block, #block + 4, block))
      client:send(("HMSG read %s %d %d\r\n%sdata\r\n"):format(sid, #block, #block + 4, block))
    end
  end
end

describe("a message with headers", function()
  it("is read, up to 1,000 lines of them", run.case(function()
    local server = scripted_server.start()
    local dog = moondog.run(SCRIPT, { URL = server.url })
    run.wait_until(function() return server:subscriptions("^read$") == 1 end, 10, "the subscription")
    send(server, 0)
    dog:wait_log("^read nil$", 10, 2)
    send(server, 1)
    dog:wait_log("^read value$", 10, 2)
    send(server, 998) -- with the version's line, and the last
    dog:wait_log("^read 998$", 10, 2)
    send(server, 999)
    local failed = dog:wait_log("^handler failed$", 10, 2)
    assert.matches("the message on read has more than 1000 lines of headers", failed.error)
  end))

  it("of a megabyte does not hold the loop up", run.case(function()
    local server = scripted_server.start()
    local dog = moondog.run(SCRIPT, { URL = server.url })
    run.wait_until(function() return server:subscriptions("^read$") == 1 end, 10, "the subscription")
    send(server, 80000)
    dog:wait_log("^handler failed$", 10, 2)
    send(server, 1)
    dog:wait_log("^read value$", 10, 2)
  end))
end)

describe("a message with little but headers", function()
  -- Handled ones are kept until there are many, or they are large.
  it("is not taken for a small one", run.case(function()
    local server = nats_server.start()
    local dog = moondog.run(SCRIPT .. 'c:subscribe("echo", function(msg) msg:respond("") end)', { URL = server.url })
    local witness = server:connect()
    local headers = { key = ("v"):rep(900 * 1024) }
    local function send_some(count)
      for _ = 1, count do
        assert(witness:request("echo", "", 10, { headers = headers }))
      end
    end
    dog:wait_log("^connected$")
    witness:wait_answer("echo", "", 10)
    send_some(10)
    local before = dog:rss()
    send_some(150)
    run.figure("resident after 150 such messages", (dog:rss() - before) / 2 ^ 20, "MiB more")
    if not moondog.sanitized() then
      assert.is_true(dog:rss() - before < 50 * 2 ^ 20)
    end
  end))

  it("counts as large where too many wait", run.case(function()
    local server = nats_server.start()
    local dog = moondog.run([[
      local moondog = require "moondog"
      local c = moondog.connect { servers = { $URL } }
      local sub = c:subscribe("slow", function()
        local till = moondog.now() + 0.1
        while moondog.now() < till do end
      end, { pending = { bytes = 4 * 2 ^ 20 } })
      c:subscribe("dropped", function(msg) msg:respond(tostring(sub:stats().dropped)) end)
    ]], { URL = server.url }, { args = { "--budget", "10000" } })
    local witness = server:connect()
    dog:wait_log("^connected$")
    witness:wait_answer("dropped", "", 10)
    for _ = 1, 40 do
      witness:publish("slow", "", { headers = { key = ("v"):rep(900 * 1024) } })
    end
    assert.is_true(tonumber(witness:wait_answer("dropped", "", 30).data) > 0)
  end))
end)

describe("an answer with headers", function()
  -- Without data it could be the server's word that nobody is there, which is in the headers.
  it("of a megabyte does not hold the loop up", run.case(function()
    local server = scripted_server.start()
    local dog = moondog.run([[
local moondog = require "moondog"
local c = moondog.connect { servers = { $URL } }
c:subscribe("ask", function()
  local answer, err = c:request("bomb", "", { timeout = 10 })
  print("answered " .. (answer and #answer.data or err.code))
end)
]], { URL = server.url })
    run.wait_until(function() return server:subscriptions("^ask$") == 1 end, 10, "the subscription")
    local client = server.last
    local function sid_of(wanted)
      for sid, subject in pairs(client.subs) do
        if subject:find(wanted) then
          return sid
        end
      end
    end
    client:send(("MSG ask %s 0\r\n\r\n"):format(sid_of("^ask$")))
    local request
    run.wait_until(function()
      for _, op in ipairs(client.ops) do
        request = (op.verb == "PUB" or op.verb == "HPUB") and op.args[1] == "bomb" and op or request
      end
      return request
    end, 10, "the request")
    local reply = request.args[2]
    local inbox = reply:match("^(.*)%.[^.]*$")
    local block = "NATS/1.0\r\n" .. ("key: value\r\n"):rep(80000) .. "\r\n"
    local sid = sid_of("^" .. inbox:gsub("%p", "%%%0") .. "%.")
    client:send(("HMSG %s %s %d %d\r\n%s\r\n"):format(reply, sid, #block, #block, block))
    dog:wait_log("^answered 0$", 5)
  end))
end)
