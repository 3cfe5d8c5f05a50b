-- examples/embed/epoll: a chat on an epoll loop; what is typed comes to the others by NATS, also after the server was
-- killed.
local moondog = require "support.moondog"
local nats_server = require "support.nats_server"
local process = require "support.process"
local run = require "support.run"
local uv = require "luv"

local PROGRAM = moondog.build .. "/examples/embed/epoll/chat"

local function start_chat(server, args)
  local chat = process.start { name = "chat", file = PROGRAM, cwd = run.folder(), input = true,
    args = { "--url", server.url, "--port", "0", unpack(args or {}) } }
  chat.port = tonumber(chat:wait_line("listening on"):match(":(%d+)$"))
  chat:wait_line('msg="connected"', 20)
  return chat
end

local function stop(chat)
  chat:signal("sigterm")
  assert.equals(0, (chat:wait_exit(30)))
end

local client = {}
client.__index = client

function client:read()
  self.socket:read_start(run.callback(function(err, chunk)
    if chunk then
      local bytes, rest = self.bytes .. chunk, 1
      for line, next_line in bytes:gmatch("([^\n]*)\n()") do
        self.lines[#self.lines + 1], rest = line, next_line
      end
      self.bytes = bytes:sub(rest)
    else
      self.ended = err or "EOF"
      self.socket:close()
    end
  end))
end

function client:say(line)
  self.socket:write(line .. "\n")
end

function client:has_heard(wanted)
  for _, line in ipairs(self.lines) do
    if line == wanted or wanted:sub(1, 1) == "*" and line:find(wanted:sub(2)) then return line end
  end
end

-- Waits for a line that is this, or matches this when it begins with "*".
function client:hear(wanted)
  run.wait_until(function() return self:has_heard(wanted) end, 20, function()
    return ("%q; there is\n%s"):format(wanted, table.concat(self.lines, "\n"))
  end)
end

local function dial(chat)
  local self = setmetatable({ socket = uv.new_tcp(), bytes = "", lines = {} }, client)
  local connected
  self.socket:connect("127.0.0.1", chat.port, run.callback(function(err) connected = err or true end))
  run.wait_until(function() return connected end, 10, "a connection to the chat")
  assert.equals(true, connected)
  self:read()
  return self
end

local function enter(chat, name)
  local self = dial(chat)
  self:hear("*^%* you are guest%-%d+ in the room lobby")
  self:say("/name " .. name)
  self:hear("* you are " .. name)
  return self
end

describe("The chat", function()
  it("brings lines to everybody, through NATS", run.case(function()
    local server = nats_server.start()
    local one, two = start_chat(server), start_chat(server)
    local witness = server:connect()
    local room = witness:subscribe("chat.lobby")
    witness:flush()
    local ann, bob, carol = enter(one, "ann"), enter(one, "bob"), enter(two, "carol")
    ann:say("hello\r\nthere")
    for _, c in ipairs { ann, bob, carol } do
      c:hear("ann: hello")
      c:hear("ann: there")
    end
    assert.same({ "hello", "ann" }, { room.messages[1].data, room.messages[1].headers.From })
    witness:publish("chat.lobby", "from\nafar")
    for _, c in ipairs { ann, bob, carol } do c:hear("NATS: from afar") end
    bob:say("/quit")
    run.wait_until(function() return bob.ended end, 10, "the end of bob's link")
    stop(one)
    stop(two)
    ann:hear("* good night")
    run.wait_until(function() return ann.ended and carol.ended end, 10, "the end of all links")
  end))

  it("goes on after the server was killed, and loses nothing that was typed meanwhile", run.case(function()
    local server = nats_server.start()
    local one, two = start_chat(server), start_chat(server)
    local ann, carol = enter(one, "ann"), enter(two, "carol")
    server:kill()
    one:wait_line('msg="disconnected"', 20)
    two:wait_line('msg="disconnected"', 20)
    for i = 1, 20 do ann:say("line " .. i) end
    ann:say("/name anna") -- answered at once, behind the lines
    ann:hear("* you are anna")
    server:restart()
    two:wait_line('msg="reconnected"', 30)
    one:wait_line('msg="reconnected"', 30)
    ann:say("back")
    carol:hear("anna: back")
    carol:say("you too")
    ann:hear("carol: you too")
    ann:hear("anna: back")
    local heard = {}
    for _, line in ipairs(ann.lines) do heard[#heard + 1] = tonumber(line:match("^ann: line (%d+)$")) end
    assert.equals(20, #heard)
    for i = 1, 20 do assert.equals(i, heard[i]) end
    server:connect():publish("chat.lobby", "hello again")
    ann:hear("NATS: hello again")
    carol:hear("NATS: hello again")
    stop(one)
    stop(two)
  end))

  it("has an operator, in a thread of their own", run.case(function()
    local server = nats_server.start()
    local chat = start_chat(server)
    local ann = enter(chat, "ann")
    chat:write("first\nsecond\n" .. ("x"):rep(3000) .. "\nth")
    chat:write("ird\n")
    ann:hear("operator: third")
    local said = {}
    for _, line in ipairs(ann.lines) do said[#said + 1] = line:match("^operator: (.*)$") end
    assert.equals("first second " .. ("x"):rep(3000) .. " third",
      (table.concat(said, " "):gsub("x x", "xx")))
    chat:write("/quit\n")
    ann:hear("* good night")
    assert.equals(0, (chat:wait_exit(30)))
  end))

  it("ends when nobody types into it, by a signal", run.case(function()
    local server = nats_server.start()
    local chat = start_chat(server)
    chat:end_input()
    local ann = enter(chat, "ann")
    ann:say("alone")
    ann:hear("ann: alone")
    stop(chat)
  end))

  it("refuses names, lines and guests that are too much", run.case(function()
    local server = nats_server.start()
    local chat = start_chat(server)
    local ann = enter(chat, "ann")
    ann:say("/name no body")
    ann:hear("* a name is 1 to 31 letters, digits, - and _")
    ann:say(("y"):rep(5000))
    ann:hear("* a line has 1023 bytes at most")
    ann:say("short")
    ann:hear("ann: short")
    assert.not_matches("y", ann.lines[#ann.lines])
    for _ = 2, 64 do dial(chat):hear("*in the room") end
    local late = dial(chat)
    late:hear("* the room is full, come again later")
    ann:say("/quit")
    run.wait_until(function() return late.ended and ann.ended end, 10, "the end of two links")
    dial(chat):hear("*in the room")
    stop(chat)
  end))

  it("does not wait for a client that does not read", run.case(function()
    local server = nats_server.start()
    local chat = start_chat(server)
    local slow = enter(chat, "slow")
    slow.socket:read_stop()
    local witness, line = server:connect(), ("z"):rep(1000)
    local function dropped() return chat:text("stderr"):find("chat: slow does not read, and goes", 1, true) end
    local deadline = run.now() + 40
    while not dropped() and run.now() < deadline do -- more than the kernel keeps for it
      for _ = 1, 200 do witness:publish("chat.lobby", line) end
      witness:flush(20)
    end
    assert.is_truthy(dropped())
    local ann = enter(chat, "ann")
    -- The flood is worked off meanwhile; where that takes long, the newest lines are dropped.
    run.wait_until(function()
      ann:say("here")
      return ann:has_heard("ann: here")
    end, 30, "a line in the room")
    slow:read()
    run.wait_until(function() return slow.ended end, 20, "the end of the slow link")
    stop(chat)
  end))

  it("says what is wrong with its arguments", run.case(function()
    local function try(args, code, text)
      local chat = process.start { name = "chat", file = PROGRAM, cwd = run.folder(), args = args,
        env = { NATS_URL = false } }
      assert.equals(code, (chat:wait_exit(30)))
      assert.matches(text, chat:text("stderr"))
    end
    try({ "--port", "70000" }, 2, "^usage: chat ")
    try({ "more" }, 2, "^usage: chat ")
    try({ "--room", "a room" }, 1, "chat: no subscription: ")
  end))
end)
