-- F3: every -ERR that makes nats.c close for good leads to a fresh link, whatever its text.
local moondog = require "support.moondog"
local nats_server = require "support.nats_server"
local run = require "support.run"
local scripted_server = require "support.scripted_server"

local SCRIPT = [[
local moondog = require "moondog"
local c = moondog.connect {
  servers = { $URL }, reconnect = moondog.backoff { base = 0.05, cap = 0.2, auth_base = 0.05 },
  on = { closed = function(_, err) print("hook closed " .. err.class .. ": " .. err.message) end },
}
c:subscribe("fatal.*", function(msg) msg:respond(msg.data) end)
]]

local TEXTS = {
  { "maximum connections exceeded", true },
  { "User Authentication Revoked", true },
  { "Account Authentication Expired", true },
  { "User Authentication Expired", true },
  { "Authorization Violation", true },
  { "Authentication Timeout", true },
  { "maximum subscriptions exceeded", false }, -- the server leaves the link open
  { "Maximum Payload Violation", true },
  { "Unknown Protocol Operation", true },
  { "The moon is in the wrong phase", true },
  { "The moon is still in the wrong phase", false },
}

local function mentions(dog, text)
  return #dog:find_logs(function(entry)
    return type(entry.error) == "string" and entry.error:lower():find(text:lower(), 1, true) ~= nil
  end) > 0
end

local function subscribed(server)
  run.wait_until(function() return server:subscriptions("^fatal%.%*$") == 1 end, 15,
    "the subscription")
end

describe("an error of the server on a live link", function()
  it("leads to a link with all subscriptions, whatever it says", run.case(function()
    local server = scripted_server.start()
    local dog = moondog.run(SCRIPT, { URL = server.url })
    dog:wait_log("^connected$")
    for number, case in ipairs(TEXTS) do
      local text, hang_up = case[1], case[2]
      run.wait_until(function()
        return server:count() == 1 and server:subscriptions("^fatal%.%*$") == 1
      end, 15, "one link with its subscription before " .. text)
      local accepted = server.accepted
      server:error(text, hang_up)
      run.wait_until(function() return server.accepted > accepted end, 15,
        "a fresh link after " .. text)
      dog:wait_log("^reconnected$", 15, number)
      run.wait_until(function() return mentions(dog, text) end, 5, "a log entry with " .. text)
    end
    subscribed(server)
    -- All but the ones that the library survives were closed, each before its recovery.
    local closed, back = dog:find_logs("^closed$"), dog:find_logs("^reconnected$")
    assert.is_true(#closed >= #TEXTS - 2, #closed .. " closed")
    assert.is_true(closed[1].index < back[1].index)
    assert.is_true(#dog:find_logs("^hook closed %a+: ") >= #TEXTS - 2)
  end))
end)

describe("errors behind the one that closes a link", function()
  -- nats.c goes on with what it has read, and reports them after the link's last word.
  it("are nobody's", run.case(function()
    local server = scripted_server.start()
    local dog = moondog.run(SCRIPT, { URL = server.url })
    dog:wait_log("^connected$")
    local lines = { "-ERR 'The moon is in the wrong phase'\r\n" }
    for i = 1, 4000 do
      lines[#lines + 1] = ("-ERR 'Permissions Violation for Publish to \"p%d\"'\r\n"):format(i)
    end
    for round = 1, 5 do
      run.wait_until(function() return server:count() == 1 end, 15, "one link")
      subscribed(server)
      server.last:send(table.concat(lines))
      dog:wait_log("^reconnected$", 15, round)
    end
    subscribed(server)
  end))
end)

describe("an error of the server while the library reconnects", function()
  it("is told to the log and to the policy", run.case(function()
    local refused = 0
    local server = scripted_server.start { on_op = function(client, op)
      if op.verb == "CONNECT" and client.number > 1 and refused < 2 then
        refused = refused + 1
        client:error("maximum connections exceeded")
        return true
      end
    end }
    local dog = moondog.run([[
local moondog = require "moondog"
local c = moondog.connect { servers = { $URL }, reconnect = function(ctx)
  print(("asked %d library %s: %s %s"):format(ctx.attempt, tostring(ctx.library), ctx.error.class, ctx.error.message))
  return 0.05
end }
c:subscribe("fatal.*", print)
]], { URL = server.url })
    dog:wait_log("^connected$")
    server.last:reset()
    dog:wait_log("^reconnected$", 15)
    local failed = dog:find_logs("^reconnect failed$")
    assert.equals(2, #failed)
    assert.equals("maximum connections exceeded", failed[1].error)
    assert.equals("limit", failed[1].class)
    assert.equals(1, failed[1].attempt)
    assert.equals(0.05, failed[1].next_dial_in)
    assert.equals(2, #dog:find_logs("^asked %d library true: limit maximum connections exceeded$"))
    subscribed(server)
  end))
end)

describe("an error of the server while a link is made", function()
  it("is tried again, whatever it says", run.case(function()
    local texts = { "maximum connections exceeded", "Authorization Violation", "Go away" }
    for _, text in ipairs(texts) do
      local refused = 0
      local server = scripted_server.start { on_op = function(client, op)
        if op.verb == "CONNECT" and refused < 3 then
          refused = refused + 1
          client:error(text)
          return true
        end
      end }
      local dog = moondog.run(SCRIPT, { URL = server.url })
      dog:wait_log("^dial failed$", 10)
      dog:wait_log("^connected$", 15)
      assert.is_true(mentions(dog, text), "no log entry with " .. text)
      subscribed(server)
      assert.equals(1, server:count())
    end
  end))
end)

describe("a full server", function()
  it("is used as soon as it has room", run.case(function()
    local server = nats_server.start { max_connections = 1 }
    local guest
    run.wait_until(function() -- the connection that saw the server start may not be gone yet
      local ok, connected = pcall(server.connect, server)
      guest = ok and connected
      return ok
    end, 5, "a place for a guest")
    local dog = moondog.run(SCRIPT, { URL = server.url })
    dog:wait_log("^dial failed$", 10)
    guest:close()
    dog:wait_log("^connected$", 15)
    subscribed(server)
  end))
end)
