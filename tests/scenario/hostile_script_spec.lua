-- What a script can do against the runtime, by mistake or not: the loop goes on, memory stays below
-- its cap, and nothing that was taken away comes back.
local moondog = require "support.moondog"
local nats_server = require "support.nats_server"
local proxy = require "support.proxy"
local run = require "support.run"

local BASE = [[
local moondog = require "moondog"
local c = moondog.connect { servers = { $URL }, watchdog = { probe = 0.5, probe_timeout = 1 } }
c:subscribe("echo", function(msg) msg:respond(msg.data) end)
]]

local function start(text, options)
  local server = nats_server.start()
  local dog = moondog.run(BASE .. text, { URL = options and options.url or server.url }, options)
  return dog, server:connect(), server
end

local function answers(witness)
  assert.equals("x", witness:wait_answer("echo", "x", 10).data)
end

describe("the loop goes on when", function()
  for what, text in pairs {
    ["a task sleeps for no time, again and again"] =
      "moondog.spawn(function() print('begun') while true do moondog.sleep(0) end end)",
    ["tasks are busy for longer than they sleep"] = [[
      for _ = 1, 3 do
        moondog.spawn(function()
          print("begun")
          while true do
            local stop = moondog.now() + 0.005
            while moondog.now() < stop do end
            moondog.sleep(0.001)
          end
        end)
      end]],
    ["timers begin each other"] =
      "local function again() moondog.after(0, again) end moondog.after(0, function() print('begun') again() end)",
    ["tasks spawn each other"] =
      "local function again() moondog.spawn(again) end moondog.spawn(function() print('begun') again() end)",
    ["a hundred tasks work for long at once"] = [[
      moondog.after(0.2, function()
        print("begun")
        for _ = 1, 100 do
          moondog.spawn(function()
            local stop = moondog.now() + 0.05
            while moondog.now() < stop do end
          end)
        end
      end)]],
    ["a dial fails at once, and the policy does not want to wait"] = [[
      moondog.connect { name = "b", token = function() error("none") end, reconnect = function() return 0 end }
      moondog.after(0.01, function() print("begun") end)]],
  } do
    it(what, run.case(function()
      local dog, witness = start(text)
      dog:wait_log("^begun$")
      answers(witness)
      dog:signal("sigterm")
      dog:wait_exit(0, 15)
    end))
  end

  it("hundreds of flushes wait over a slow line: the link is not taken for deaf", run.case(function()
    local server = nats_server.start()
    local line = proxy.start(server)
    line:latency(0.05)
    local dog = moondog.run(BASE .. [[
      c:subscribe("flush", function(msg)
        local good = 0
        for i = 1, 400 do
          moondog.spawn(function()
            c:publish("x", "y")
            if c:flush(20) then good = good + 1 end
            if good == 400 then print("all flushed") end
          end)
        end
      end)]], { URL = line.url })
    dog:wait_log("^connected$")
    local witness = server:connect()
    answers(witness)
    witness:publish("flush", "")
    dog:wait_log("^all flushed$", 40)
    assert.equals(0, #dog:find_logs("^closed$"))
  end))

  it("messages are dropped and their subscription ends in the same moment", run.case(function()
    local dog, witness = start [[
      local b = moondog.connect { name = "b", servers = { $URL } }
      local ends = 0
      local function go()
        local sub, n = nil, 0
        sub = c:subscribe("s", function()
          n = n + 1
          if n >= 3 then
            sub:unsubscribe()
            ends = ends + 1
            if ends == 500 then print("enough") end
            moondog.spawn(go)
          end
        end, { pending = { messages = 1 } })
      end
      moondog.on_start(function() for _ = 1, 4 do go() end end)
      moondog.every(0.001, function() for _ = 1, 60 do b:publish("s", "x") end end)
    ]]
    dog:wait_log("^enough$", 30)
    answers(witness)
  end))

  it("a subscription with max gets all of them, whatever was dropped before", run.case(function()
    local dog, witness = start [[
      local n = 0
      c:subscribe("m", function()
        n = n + 1
        if n == 1000 then print("a thousand") end
      end, { max = 1000, pending = { messages = 10 } })
    ]]
    answers(witness)
    run.wait_until(function()
      for _ = 1, 500 do witness:publish("m", "") end
      witness:flush()
      return #dog:find_logs("^a thousand$") == 1
    end, 30, "a thousand messages")
  end))
end)

describe("a wait inside a callback of C", function()
  it("is an error, and the next wait works", run.case(function()
    local dog = start [[
      moondog.spawn(function()
        print("gsub", pcall(string.gsub, "a", "a", function() moondog.sleep(0.05) end))
        print("sort", pcall(table.sort, { 2, 1 }, function()
          return coroutine.wrap(function() moondog.sleep(0.05) end)()
        end))
        print("after", moondog.sleep(0.2))
      end)
    ]]
    dog:wait_log("^after\ttrue$", 5)
    assert.matches("gsub\tfalse\t.*callback of a C function cannot", dog:find_logs("^gsub")[1].msg)
    assert.matches("sort\tfalse\t", dog:find_logs("^sort")[1].msg)
    assert.equals(0, #dog:find_logs("failed$"))
  end))
end)

describe("memory", function()
  it("that is used up to the last byte ends no process", run.case(function()
    local dog = start([[
      moondog.after(0.01, function()
        local yield, pcall, rep = coroutine.yield, pcall, string.rep
        local keep = {}
        for i = 1, 600000 do keep[i] = false end
        KEEP = keep
        local n = 0
        local function one(size) n = n + 1; keep[n] = rep("x", size + n % 7 * 8) .. n end
        local function tab() n = n + 1; keep[n] = {} end
        local size = 2 ^ 20
        while size >= 1 do
          while pcall(one, size) do end
          size = size / 4
        end
        while pcall(tab) do end
        yield()
      end)
    ]], { args = { "--memory", "32", "--budget", "20000" } })
    dog:wait_log("^timer failed$", 30)
    dog:signal("sigterm")
    dog:wait_exit(0, 10)
  end))

  for what, text in pairs {
    ["messages that are retained"] = [[
      local kept = {}
      c:subscribe("fill", function(msg) kept[#kept + 1] = msg:retain() end)
      moondog.on_start(function()
        moondog.sleep(0.1)
        for _ = 1, 300 do c:publish("fill", ("x"):rep(500000)) moondog.sleep(0.001) end
        print("filled", #kept < 100)
      end)]],
    ["answers that nobody reads"] = [[
      moondog.on_start(function()
        moondog.sleep(0.1)
        local data = ("x"):rep(500000)
        for _ = 1, 300 do c:request("echo", data) end
        print("filled", true)
      end)]],
    ["timers"] = [[
      moondog.on_start(function()
        local ok, err
        for i = 1, 1e6 do
          ok, err = pcall(moondog.after, 1000, print)
          if not ok then break end
          if i % 10000 == 0 then moondog.sleep(0) end
        end
        print("filled", not ok)
      end)]],
    ["tasks"] = [[
      moondog.on_start(function()
        local ok
        for i = 1, 1e6 do
          ok = pcall(moondog.spawn, moondog.sleep, 1000)
          if not ok then break end
          if i % 10000 == 0 then moondog.sleep(0) end
        end
        print("filled", not ok)
      end)]],
  } do
    it("of " .. what .. " counts against the cap", run.case(function()
      local dog = start(text, { args = { "--memory", "32", "--budget", "5000" } })
      dog:wait_log(function(entry)
        return (entry.error or ""):find("not enough memory") or entry.msg == "filled\ttrue"
      end, 50)
      if not moondog.sanitized() then
        assert.is_true(dog:rss() < 96 * 2 ^ 20, dog:rss() / 2 ^ 20 .. " MiB")
      end
    end))
  end
end)

describe("what was taken away", function()
  for what, text in pairs {
    ["ffi, by another path for C modules"] =
      'package.cpath = "/usr/lib/x86_64-linux-gnu/libluajit-5.1.so.2" assert(not pcall(require, "ffi"))',
    ["the whole debug library"] =
      'package.loaded.debug = nil local ok, d = pcall(require, "debug") assert(not (ok and d.sethook))',
    ["loadlib"] = 'assert(package.loadlib == nil and require("package").loadlib == nil)',
    ["exit"] = 'assert(os.exit == nil and require("os").exit == nil)',
    ["functions by their calls"] = [[
      xpcall(function()
        for level = 1, 8 do
          local info = debug.getinfo(level, "fSn")
          assert(not (info and info.func))
        end
      end, print)
      assert(debug.getinfo(1).currentline > 0 and debug.getinfo(print).what)
      assert(debug.getlocal == nil and debug.sethook == nil)]],
    ["the compiler's hooks"] = "assert(jit.attach == nil and not pcall(require, 'jit.util'))",
    ["finalizers"] = 'assert(not pcall(function() getmetatable(io.stdout).__gc = print end) and newproxy == nil)',
    ["bytecode"] = [[
      assert(string.dump == nil and load("\27LJ") == nil and load("return 1", "x", "b") == nil)
      assert(load("return 1")() == 1)]],
    ["endless recursion of coroutines"] =
      "local function f() return coroutine.wrap(f)() end local ok, err = pcall(f) assert(not ok and err:find('deep'))",
  } do
    it("stays away: " .. what, run.case(function()
      local dog = moondog.start { "check", moondog.script(text .. '\nrequire "moondog".connect {}') }
      dog:wait_exit(0)
    end))
  end

  it("leaves C modules of the system", run.case(function()
    local dog = moondog.start { "check", moondog.script('require "cjson" require "moondog".connect {}') }
    dog:wait_exit(0)
  end))
end)
