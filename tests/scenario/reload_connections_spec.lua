-- Options that need a new link: the new one is dialled first, the subscriptions move, the old one
-- is drained. No message is missed; until the old one is drained, messages may come twice, but with
-- a queue group they do not.
local http = require "support.http"
local moondog = require "support.moondog"
local nats_server = require "support.nats_server"
local network = require "support.network"
local run = require "support.run"
local scripted_server = require "support.scripted_server"

local USERS = { { user = "one", password = "1" }, { user = "two", password = "2" } }

local SCRIPT = [[
local moondog = require "moondog"
local c = moondog.connect { name = $NAME, servers = { $URL }, user = $USER, password = $PASSWORD,
  reconnect = function() return 0.02 end }
local seen = moondog.state.seen or {}
moondog.state.seen = seen
c:subscribe("numbers", function(msg)
  local seen = moondog.state.seen
  local n = tonumber(msg.data)
  seen[n] = (seen[n] or 0) + 1
end)
c:subscribe("work", function(msg) moondog.state.work = (moondog.state.work or 0) + 1 end, { queue = "q" })
c:subscribe("report", function(msg)
  local missing, twice, last = 0, 0, tonumber(msg.data)
  for n = 1, last do
    local count = moondog.state.seen[n]
    if not count then missing = missing + 1 elseif count > 1 then twice = twice + 1 end
  end
  msg:respond(("missing %d twice %d work %d user %s"):format(missing, twice, moondog.state.work or 0, $USER))
end, { queue = "q" })
c:subscribe("send", function(msg) for i = 1, 100 do c:publish("out", tostring(i)) end end, { queue = "q" })
c:subscribe("links", function(msg) msg:respond(tostring(c:stats().links)) end, { queue = "q" })
]]

local function values(server, user, more)
  local out = { URL = server.url, NAME = "gateway", USER = user.user, PASSWORD = user.password }
  for key, value in pairs(more or {}) do out[key] = value end
  return out
end

local function start(config)
  local server = nats_server.start(config or { users = USERS })
  local dog = moondog.run(SCRIPT, values(server, USERS[1]))
  dog:wait_log("^connected$")
  local witness = server:connect()
  run.wait_until(function() return server:subscriptions("^numbers$") == 1 end, 5, "subscribed")
  return server, dog, witness
end

-- Publishes numbers until stop() is called; returns how many.
local function flow(witness)
  local running, sent = true, 0
  run.spawn(function()
    while running do
      sent = sent + 1
      witness:publish("numbers", tostring(sent))
      witness:publish("work", "")
      run.pause(0.001)
    end
    witness:flush()
    running = nil
  end)
  return function()
    running = false
    run.wait_until(function() return running == nil end, 5, "the end of the flow")
    return sent
  end
end

local function report(witness, last)
  local text = witness:wait_answer("report", tostring(last), 5).data
  local missing, twice, work, user = text:match("missing (%d+) twice (%d+) work (%d+) user (%w+)")
  return tonumber(missing), tonumber(twice), tonumber(work), user
end

describe("new options of a connection", function()
  it("lead to a new link without a gap", run.case(function()
    local server, dog, witness = start()
    local stop = flow(witness)
    run.pause(0.1)
    local entry = dog:reload(SCRIPT, values(server, USERS[2]))
    assert.equals("script reloaded", entry.msg)
    dog:wait_log("^connection handed over$", 5)
    dog:wait_log("^connection ended$", 5)
    run.pause(0.1)
    local sent = stop()
    local missing, twice, work, user = report(witness, sent)
    assert.equals(0, missing)
    assert.equals(sent, work)
    assert.equals("two", user)
    run.figure("messages that came twice at the hand-over, of " .. sent, twice)
    assert.equals("2", witness:wait_answer("links", "", 5).data)
    local clients = server:clients("^gateway$")
    assert.equals(1, #clients)
  end))

  it("do not set counters back", run.case(function()
    local port = network.free_port()
    local server = nats_server.start({ users = USERS })
    local dog = moondog.run(SCRIPT, values(server, USERS[1]), { args = { "--http", network.host .. ":" .. port } })
    dog:wait_log("^connected$")
    local function sent()
      local _, page = http.get(port, "/metrics")
      return tonumber(page:match('moondog_connection_sent_messages_total{connection="gateway"} (%d+)'))
    end
    local witness = server:connect()
    witness:wait_answer("links", "", 5)
    witness:publish("send", "")
    run.wait_until(function() return sent() > 100 end, 5, "100 messages")
    local before = sent()
    dog:reload(SCRIPT, values(server, USERS[2]))
    dog:wait_log("^connection handed over$", 5)
    assert.is_true(sent() >= before)
  end))

  it("that are wrong leave the connection as it is, until they are right", run.case(function()
    local server, dog, witness = start()
    local stop = flow(witness)
    local entry = dog:reload(SCRIPT, values(server, { user = "two", password = "wrong" }))
    assert.equals("script reloaded", entry.msg)
    dog:wait_log("^dial failed$", 5)
    assert.equals("two", select(4, report(witness, 0)))
    dog:reload(SCRIPT, values(server, USERS[2]))
    dog:wait_log("^connection handed over$", 5)
    dog:wait_log("^connection ended$", 5, 2) -- the one that was never made, and the first
    local sent = stop()
    local missing, _, work = report(witness, sent)
    assert.equals(0, missing)
    assert.equals(sent, work)
    run.wait_until(function() return #server:clients("^gateway$") == 1 end, 5, "one link")
  end))

  it("that are taken back leave the connection as it was", run.case(function()
    local server, dog, witness = start()
    dog:reload(SCRIPT, values(server, { user = "two", password = "wrong" }))
    dog:wait_log("^dial failed$", 5)
    dog:reload(SCRIPT, values(server, USERS[1]))
    dog:wait_log("^connection ended$", 5)
    assert.equals("one", select(4, report(witness, 0)))
    assert.equals("1", witness:wait_answer("links", "", 5).data)
    assert.equals(0, #dog:find_logs("^connection handed over$"))
    assert.equals(1, #server:clients("^gateway$"))
    assert.equals(1, server:subscriptions("^numbers$"))
  end))

  it("that are not of the link keep it", run.case(function()
    local server, dog, witness = start()
    dog:reload(SCRIPT:gsub("reconnect =", "watchdog = { probe = 1, interval = 5 }, reconnect ="),
      values(server, USERS[1]))
    assert.equals("1", witness:wait_answer("links", "", 5).data)
    assert.equals(0, #dog:find_logs("^connection handed over$"))
  end))

  it("heal a connection that the old ones could not make", run.case(function()
    local server = nats_server.start { users = USERS }
    local dog = moondog.run(SCRIPT, values(server, { user = "one", password = "wrong" }))
    dog:wait_log("^dial failed$")
    dog:reload(SCRIPT .. 'moondog.on_start(function() for i = 1, 50 do c:publish("out", i) end end)',
      values(server, { user = "one", password = "wrong" }))
    local witness = server:connect()
    local out = witness:subscribe("out")
    dog:reload(SCRIPT, values(server, USERS[2]))
    run.wait_until(function() return #out.messages == 50 end, 5, function()
      return "what was published before, there are " .. #out.messages
    end)
    for i, msg in ipairs(out.messages) do
      assert.equals(tostring(i), msg.data)
    end
    assert.equals("two", select(4, report(witness, 0)))
  end))

  it("go on with what a subscription has had of its max", run.case(function()
    local text = SCRIPT .. 'c:subscribe("few", function(msg) print("few " .. msg.data) end, { max = 3 })'
    local server = nats_server.start { users = USERS }
    local dog = moondog.run(text, values(server, USERS[1]))
    dog:wait_log("^connected$")
    local witness = server:connect()
    report(witness, 0)
    for i = 1, 2 do witness:publish("few", tostring(i)) end
    dog:wait_log("^few 2$", 5)
    dog:reload(text, values(server, USERS[2]))
    dog:wait_log("^connection ended$", 5)
    for i = 3, 6 do witness:publish("few", tostring(i)) end
    dog:wait_log("^few 3$", 5)
    report(witness, 0)
    assert.equals(3, #dog:find_logs("^few"))
  end))

  it("do not lose what was published just before", run.case(function()
    local server, dog, witness = start()
    local out = witness:subscribe("out")
    witness:publish("send", "")
    dog:reload(SCRIPT, values(server, USERS[2]))
    dog:wait_log("^connection ended$", 5)
    run.wait_until(function() return #out.messages == 100 end, 5, "a hundred messages")
  end))
end)

describe("a reload", function()
  local function outage(during)
    local server, dog, witness = start()
    witness:close()
    server:kill()
    dog:wait_log("^disconnected$", 10)
    during(server, dog)
    server:restart()
    witness = server:connect()
    assert.equals("0", (witness:wait_answer("report", "0", 10).data:match("missing (%d+)")))
    run.wait_until(function() return server:subscriptions("^numbers$") == 1 end, 5, "subscribed")
    return server, dog, witness
  end

  it("during an outage keeps what it knows of it, and the new script recovers", run.case(function()
    outage(function(server, dog)
      assert.equals("script reloaded", dog:reload(SCRIPT, values(server, USERS[1])).msg)
      assert.equals("script reloaded", dog:reload(SCRIPT, values(server, USERS[1])).msg)
    end)
  end))

  it("with new options during an outage recovers", run.case(function()
    local _, _, witness = outage(function(server, dog)
      assert.equals("script reloaded", dog:reload(SCRIPT, values(server, USERS[2])).msg)
    end)
    run.wait_until(function() return select(4, report(witness, 0)) == "two" end, 5, "the second user")
  end))

  it("during a dial that hangs is not held up by it", run.case(function()
    local server = nats_server.start()
    local silent = scripted_server.start()
    local text = [[
      local moondog = require "moondog"
      local c = moondog.connect { servers = { $URL } }
      c:subscribe("who", function(msg) msg:respond($WHO) end)
    ]]
    local dog = moondog.run(text, { URL = silent.url, WHO = "one" })
    run.wait_until(function() return silent.accepted > 0 end, 5, "a dial")
    assert.equals("script reloaded", dog:reload(text, { URL = silent.url, WHO = "two" }).msg)
    assert.equals("script reloaded", dog:reload(text, { URL = server.url, WHO = "three" }).msg)
    assert.equals("three", server:connect():wait_answer("who", "", 5).data)
  end))
end)
