-- SIGTERM and SIGINT drain and exit 0; a second one exits at once.
local moondog = require "support.moondog"
local nats_server = require "support.nats_server"
local network = require "support.network"
local run = require "support.run"
local scripted_server = require "support.scripted_server"

local AT_ONCE_SECONDS = 3

local SCRIPT = [[
local moondog = require "moondog"
local c = moondog.connect { servers = { $URL }, watchdog = { timeout = 2 } }
c:subscribe("slow", function(msg)
  print("handler begins")
  moondog.sleep($SECONDS)
  msg:respond("finished " .. msg.data)
end)
c:subscribe("count", function(msg) c:publish("counted", msg.data) end)
moondog.every(0.01, function() end)
moondog.on_unload(function() print("unloaded") end)
]]

local function start(seconds, options)
  local server = nats_server.start()
  local dog = moondog.run(SCRIPT, { URL = server.url, SECONDS = seconds }, options)
  dog:wait_log("^connected$")
  run.wait_until(function() return server:subscriptions("^count$") == 1 end, 5, "the subscription")
  return server, dog
end

describe("the first signal", function()
  for _, signal in ipairs { "sigterm", "sigint" } do
    it(signal .. " lets a handler that runs finish and exits 0", run.case(function()
      local server, dog = start(0.5)
      local witness = server:connect()
      local answer
      run.spawn(function() answer = witness:request("slow", "work", 10) end)
      dog:wait_log("^handler begins$", 5)
      dog:signal(signal)
      dog:wait_exit(0, 10)
      run.wait_until(function() return answer end, 5, "the handler's answer")
      assert.equals("finished work", answer.data)
      dog:wait_log("^unloaded$", 1)
      assert.equals(0, #server:clients())
    end))
  end

  it("lets what has arrived be handled and what was published get out", run.case(function()
    local server, dog = start(0)
    local witness = server:connect()
    local counted = witness:subscribe("counted")
    witness:flush()
    for i = 1, 2000 do
      witness:publish("count", tostring(i))
    end
    witness:flush() -- the server has handed all of them on
    run.wait_until(function() return counted.count > 0 end, 5, "the first one")
    dog:signal("sigterm")
    dog:wait_exit(0, 10)
    witness:flush()
    for i, msg in ipairs(counted.messages) do
      assert.equals(tostring(i), msg.data)
    end
    assert.equals(2000, counted.count)
  end))

  it("ends a program whose server is not there", run.case(function()
    local dog = moondog.run(SCRIPT, { URL = network.url(network.free_port()), SECONDS = 0 })
    dog:wait_log("^dial failed$")
    dog:signal("sigterm")
    dog:wait_exit(0, 10)
  end))

  it("ends a program whose dial hangs", run.case(function()
    for _, mode in ipairs { "silent", "info_only" } do
      local server = scripted_server.start { [mode] = true }
      local dog = moondog.run(SCRIPT, { URL = server.url, SECONDS = 0 })
      run.wait_until(function() return server.accepted > 0 end, 10, "a dial")
      dog:signal("sigterm")
      dog:wait_exit(0, 15)
    end
  end))

  it("does not wait longer than --drain for a handler", run.case(function()
    local server, dog = start(300, { args = { "--drain", "0.3" } })
    server:connect():publish("slow", "work", { reply = "nobody" })
    dog:wait_log("^handler begins$", 5)
    dog:signal("sigterm")
    dog:wait_exit(0, 10)
    assert.equals(1, #dog:find_logs("^drain deadline passed$"))
    assert.equals(1, dog:find_logs("^tasks given up$")[1].count)
  end))

  it("waits for on_unload functions, and not for other tasks", run.case(function()
    local server = nats_server.start()
    local dog = moondog.run([[
      local moondog = require "moondog"
      local c = moondog.connect { servers = { $URL } }
      moondog.spawn(function() moondog.sleep(300) end)
      moondog.on_unload(function()
        moondog.sleep(0.2)
        c:publish("last", "words")
        print("unloaded")
      end)
    ]], { URL = server.url })
    dog:wait_log("^connected$")
    local witness = server:connect()
    local last = witness:subscribe("last")
    witness:flush()
    dog:signal("sigterm")
    dog:wait_exit(0, 5)
    assert.equals(1, #dog:find_logs("^unloaded$"))
    run.wait_until(function() return #last.messages == 1 end, 5, "its last words")
  end))
end)

describe("the second signal", function()
  it("ends a program whose loop is stuck inside C", run.case(function()
    local dog = moondog.run([[
      require("moondog").after(0.01, function()
        print("stuck")
        local s = ("a"):rep(5000)
        s:find(("a-"):rep(60) .. "b")
      end)
    ]])
    dog:wait_log("^stuck$")
    dog:signal("sigint")
    run.holds(function() return dog:running() end, 0.7, "one signal waits for the loop")
    dog:signal("sigint")
    dog:wait_exit(1, AT_ONCE_SECONDS)
    assert.matches("second signal", dog:text("stderr"))
  end))

  it("ends a program whose handler waits for long", run.case(function()
    local server, dog = start(300)
    local witness = server:connect()
    witness:publish("slow", "work", { reply = "nobody" })
    dog:wait_log("^handler begins$", 5)
    dog:signal("sigterm")
    run.holds(function() return dog:running() end, 0.5, "it waits for the handler")
    dog:signal("sigterm")
    local signalled_at = run.now()
    local code, signal = dog.process:wait_exit(AT_ONCE_SECONDS)
    run.figure("from the second signal to the end", run.now() - signalled_at, "s")
    assert.is_true(code <= 1 and signal == 0, ("exit code %d, signal %d"):format(code, signal))
  end))
end)

describe("one signal", function()
  it("ends a process whose loop is stuck, when the time for a drain is over", run.case(function()
    local server = nats_server.start()
    local dog = moondog.run([[
      local moondog = require "moondog"
      local c = moondog.connect { servers = { $URL } }
      c:subscribe("hang", function() (("a"):rep(100000) .. "b"):find(".-.-.-.-.-.-c") end)
    ]], { URL = server.url }, { args = { "--drain", "0.1", "--stall", "0.4" } })
    dog:wait_log("^connected$")
    server:connect():publish("hang", "")
    dog:wait_log("^loop stalled$", 10)
    dog:signal("sigterm")
    dog:wait_exit(1, 15)
    assert.matches("ended without a drain", dog:text("stderr"))
  end))
end)
