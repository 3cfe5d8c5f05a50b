-- Tasks that wait for JetStream, when there is no memory to tell them what came of it: they are
-- dropped, and everything else goes on. What keeps a consumer alive begins again.
local moondog = require "support.moondog"
local nats_server = require "support.nats_server"
local run = require "support.run"

local SCRIPT = [[
local moondog = require "moondog"
local c = moondog.connect { servers = { $URL } }
local hoard, waits
local function fill()
  while true do hoard = { hoard } end
end
local function fill_for_a_while()
  for _ = 1, 300 do
    pcall(fill) -- what was free meanwhile
    moondog.sleep(0.005)
  end
  hoard = nil
  collectgarbage()
  print("given back")
end

local function confirm(js)
  local msg = assert(assert(js:consumer("S", { durable = "w" })):next())
  waits = function() msg:ack_sync(1) end
end

local function consume(js)
  js:consumer("S", { durable = "w", heartbeat = 0.2, expires = 1 }):consume(function(msg)
    c:publish("seen", msg.data)
    msg:ack()
  end)
end

c:subscribe("echo", function(msg) msg:respond(msg.data) end)
c:subscribe("go", function()
  local js = assert(c:jetstream { timeout = 1 })
  assert(js:add_stream { name = "S", subjects = { "s" } })
  assert(js:publish("s", "first"));
  ($WHAT == "confirm" and confirm or consume)(js)
  c:publish("waiting", "")
  moondog.sleep(1)
  moondog.spawn(fill_for_a_while)
  if waits then waits() end
end)
]]

local function start(what)
  local server = nats_server.start { jetstream = { store_dir = run.folder() .. "/js" } }
  local dog = moondog.run(SCRIPT, { URL = server.url, WHAT = what },
    { args = { "--memory", "16", "--budget", "20000" } })
  dog:wait_log("^connected$")
  local witness = server:connect()
  local waiting, seen = witness:subscribe("waiting"), witness:subscribe("seen")
  witness:flush()
  witness:publish("go", "")
  run.wait_until(function() return waiting.count > 0 end, 10, "a message")
  server:stop()
  dog:wait_log(function(entry) return entry.msg == "internal call failed" and entry.name == "result of a wait" end, 10)
  dog:wait_log("^given back$", 10)
  server:cont()
  return witness, seen
end

describe("a task that cannot be told for want of memory", function()
  it("is dropped, and everything else goes on", run.case(function()
    local witness = start("confirm")
    assert.equals("x", witness:wait_answer("echo", "x", 10).data)
  end))

  it("begins again when it keeps a consumer alive", run.case(function()
    local witness, seen = start("consume")
    witness:publish("s", "second")
    run.wait_until(function()
      return seen.messages[#seen.messages] and seen.messages[#seen.messages].data == "second"
    end, 15, "the second message")
  end))
end)
