-- A script that wants more memory than its generation may have gets an error; the rest goes on.
local moondog = require "support.moondog"
local nats_server = require "support.nats_server"
local run = require "support.run"

local CAP_MIB = 64
local ROOM_MIB = 64 -- for everything that is not the script's

local SCRIPT = [[
local moondog = require "moondog"
local c = moondog.connect { servers = { $URL } }
local function hog()
  local kept = {}
  for i = 1, math.huge do kept[i] = ("%010d"):format(i):rep(100000) end
end
local leak = {}
local hogs = { plain = hog }
function hogs.caught() print("caught " .. tostring(pcall(hog))) end
function hogs.one_string() return ("x"):rep(2 ^ 30) end
function hogs.coroutine() coroutine.wrap(hog)() end
function hogs.leak() -- stays below the cap in each entry, but keeps it
  for i = 1, 8 do leak[#leak + 1] = ("%010d"):format(#leak):rep(100000) end
end
c:subscribe("hog.*", function(msg) hogs[msg.data]() end)
c:subscribe("echo", function(msg) msg:respond(msg.data) end)
c:subscribe("forget", function(msg) leak = {} collectgarbage() msg:respond("done") end)
]]

local function start()
  local server = nats_server.start()
  local dog = moondog.run(SCRIPT, { URL = server.url },
    { args = { "--memory", tostring(CAP_MIB), "--budget", "10000" } })
  dog:wait_log("^connected$")
  return dog, server:connect()
end

describe("a script that takes more memory than it may have", function()
  it("gets an error, and everything else goes on", run.case(function()
    local dog, witness = start()
    witness:wait_answer("echo", "", 5)
    local before, most = dog:rss(), 0
    for number, kind in ipairs { "plain", "one_string", "coroutine" } do
      witness:publish("hog." .. kind, kind)
      local failed = dog:wait_log("^handler failed$", 10, number)
      assert.matches("memory", failed.error)
      assert.equals(kind, witness:wait_answer("echo", kind, 5).data)
      most = math.max(most, dog:rss())
    end
    witness:publish("hog.caught", "caught")
    dog:wait_log("^caught false", 10)
    assert.equals("x", witness:wait_answer("echo", "x", 5).data)
    run.figure("resident before, most after each", before / 2 ^ 20, "MiB")
    run.figure("resident, most seen after a hog", most / 2 ^ 20, "MiB")
    if not moondog.sanitized() then
      assert.is_true(most - before < (CAP_MIB + ROOM_MIB) * 2 ^ 20)
    end
  end))

  it("by and by can give it back", run.case(function()
    local dog, witness = start()
    run.wait_until(function()
      witness:publish("hog.leak", "leak")
      witness:flush()
      return #dog:find_logs("^handler failed$") > 0
    end, 20, "a refusal")
    witness:wait_answer("forget", "", 10)
    assert.equals("x", witness:wait_answer("echo", "x", 5).data)
  end))
end)
