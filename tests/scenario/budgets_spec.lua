-- F10: script code that never ends is stopped at its budget wherever it is; all else goes on, and
-- the connection's PING/PONG never stopped.
local moondog = require "support.moondog"
local nats_server = require "support.nats_server"
local run = require "support.run"

local SCRIPT = [[
local moondog = require "moondog"
local c = moondog.connect { servers = { $URL } }
local function spin() while true do end end
local spins = {}
function spins.plain() spin() end
function spins.pcall() while true do pcall(spin) end end
function spins.xpcall() while true do xpcall(spin, function(e) return e end) end end
function spins.nested()
  pcall(function() pcall(function() pcall(spin) spin() end) spin() end)
  spin()
end
function spins.coroutine() coroutine.wrap(spin)() end
function spins.coroutines() while true do pcall(coroutine.wrap(spin)) end end
function spins.after_a_wait() moondog.sleep(0.01) spin() end
function spins.metamethod()
  local t = setmetatable({}, { __index = function() spin() end })
  return t.x
end
function spins.sort() table.sort({ 3, 1, 2 }, function() spin() end) end
function spins.gsub() string.gsub("x", "x", spin) end
function spins.recursion()
  local function again(n) return again(n + 1) end
  again(1)
end
for name, f in pairs(spins) do -- each has its own: the reports of one handler are rationed
  c:subscribe("spin.handler." .. name, function() f() end)
end
c:subscribe("spin.timer.*", function(msg)
  local name = msg.data
  moondog.after(0, function() spins[name]() end)
end)
c:subscribe("spin.task.*", function(msg)
  local name = msg.data
  moondog.spawn(function() spins[name]() end)
end)
c:subscribe("echo", function(msg) msg:respond(msg.data) end)
local ticks = 0
moondog.every(0.01, function() ticks = ticks + 1 end)
c:subscribe("ticks", function(msg) msg:respond(tostring(ticks)) end)
]]

local KINDS = { "plain", "pcall", "xpcall", "nested", "coroutine", "coroutines", "after_a_wait",
  "metamethod", "sort", "gsub", "recursion" }
local REPORTS = { handler = "^handler failed$", timer = "^timer failed$", task = "^%a+ failed$" }

describe("code that never ends", function()
  for _, where in ipairs { "handler", "timer", "task" } do
    it("in a " .. where .. " is stopped, and everything else goes on", run.case(function()
      local server = nats_server.start()
      local dog = moondog.run(SCRIPT, { URL = server.url })
      dog:wait_log("^connected$")
      local witness = server:connect()
      witness:wait_answer("echo", "", 5)
      local seen = 0
      for _, kind in ipairs(KINDS) do
        witness:publish("spin." .. where .. "." .. kind, kind)
        run.wait_until(function()
          local found = dog:find_logs(function(entry)
            return entry.msg:find(REPORTS[where]) and entry.over_budget == true
          end)
          return #found > seen
        end, 10, "a report of the " .. kind .. " spin in a " .. where)
        seen = seen + 1
        assert.equals(kind, witness:wait_answer("echo", kind, 5).data)
      end
      local ticks = tonumber(witness:wait_answer("ticks", "", 5).data)
      run.wait_until(function()
        return tonumber(witness:wait_answer("ticks", "", 5).data) > ticks
      end, 5, "a timer that goes on")
      assert.equals(1, #dog:find_logs("^connected$"))
      assert.equals(0, #dog:find_logs("^closed$"))
    end))
  end

  it("does not stop PING and PONG", run.case(function()
    -- The server gives a client up after three silent pings: 1.2 s.
    local server = nats_server.start { ping_interval = "300ms", ping_max = 3 }
    local dog = moondog.run(SCRIPT, { URL = server.url })
    dog:wait_log("^connected$")
    local witness = server:connect()
    witness:wait_answer("echo", "", 5)
    local client = server:clients()[1]
    local begun_at = run.now()
    for _ = 1, 30 do
      witness:publish("spin.handler.pcall", "pcall")
    end
    assert.equals("x", witness:wait_answer("echo", "x", 30).data)
    run.figure("the loop was busy for", run.now() - begun_at, "s")
    assert.is_true(run.now() - begun_at > 2)
    assert.equals(client.cid, server:clients()[1].cid)
    assert.equals(0, #dog:find_logs("^disconnected$") + #dog:find_logs("^closed$"))
  end))

  it("at load refuses the script", run.case(function()
    local path = moondog.script("while true do pcall(function() while true do end end) end")
    local dog = moondog.start { "run", path }
    dog:wait_exit(1, 15)
    assert.matches("script%d+%.lua:1", dog:text("stderr"))
  end))
end)

describe("a shorter budget", function()
  it("is kept", run.case(function()
    local server = nats_server.start()
    local dog = moondog.run([[
      local moondog = require "moondog"
      moondog.on_start(function()
        local start = moondog.now()
        pcall(function() while true do end end)
        print("stopped after", moondog.now() - start)
        moondog.sleep(0)
      end)
      moondog.connect { servers = { $URL } }
    ]], { URL = server.url }, { args = { "--budget", "20" } })
    local failed = dog:wait_log(function(entry) return entry.over_budget == true end, 10)
    assert.matches("script%d+%.lua:%d+", failed.traceback)
  end))
end)
