-- moondog run --supervise: a crashed or stuck process is started again, with the last good script.
local cjson = require "cjson"
local uv = require "luv"
local http = require "support.http"
local moondog = require "support.moondog"
local nats_server = require "support.nats_server"
local network = require "support.network"
local run = require "support.run"

local GOOD = [[
local moondog = require "moondog"
local c = moondog.connect { servers = { $URL } }
c:subscribe("who", function(msg) msg:respond("good") end)
]]

-- Line 4 hangs in C for ages.
local BAD = [[
local moondog = require "moondog"
local c = moondog.connect { servers = { $URL } }
c:subscribe("who", function(msg) msg:respond("bad") end)
c:subscribe("hang", function() (("a"):rep(100000) .. "b"):find(".-.-.-.-.-.-c") end)
]]

local function start(text, args)
  local server = nats_server.start()
  local options = { args = { "--supervise" } }
  for _, arg in ipairs(args or {}) do table.insert(options.args, arg) end
  local dog = moondog.run(text, { URL = server.url }, options)
  dog:wait_log("^connected$")
  return dog, server:connect(), server
end

local function child(dog, nth)
  return dog:wait_log("^child started$", 20, nth).child
end

local function who(witness)
  return witness:wait_answer("who", "", 15).data
end

local function is_gone(pid)
  return not uv.fs_access("/proc/" .. pid, "R")
end

describe("a supervised process", function()
  it("that is stuck in a new script serves again with the last good one", run.case(function()
    local port = network.free_port()
    local dog, witness, server = start(GOOD,
      { "--http", network.host .. ":" .. port, "--stall", "0.5", "--wedged", "1.5" })
    local function get(page)
      local status, body = http.get(port, page)
      return status, body and cjson.decode(body)
    end
    assert.equals("good", who(witness))
    dog:reload(BAD, { URL = server.url })
    assert.equals("bad", who(witness))
    witness:publish("hang", "")

    local stalled = dog:wait_log("^loop stalled$", 10)
    assert.equals("handler", stalled.kind)
    assert.matches("script%d+%.lua:4$", stalled.place)
    local status, body = get("/livez")
    assert.equals(503, status)
    assert.matches("script%d+%.lua:4$", body.loop.place)

    local ended = dog:wait_log("^child ended$", 10)
    run.figure("from the stall's report to the end of the stuck process", ended.at - stalled.at, "s")
    assert.matches("^wedged for 1%.5 s: handler hang %(.*script%d+%.lua:4%) holds the loop$", ended.reason)
    assert.equals("last_good", ended.script)
    assert.equals("good", who(witness))
    run.figure("from the end to an answer of the last good script", run.now() - ended.at, "s")

    status, body = get("/status")
    assert.equals(200, status)
    assert.equals(1, body.supervisor.restarts)
    assert.equals(ended.reason, body.supervisor.last.reason)
    assert.equals("last_good", body.supervisor.last.script)
    assert.is_true(body.supervisor.fallback)
    local _, metrics = http.get(port, "/metrics")
    assert.matches("\nmoondog_script_fallback 1\n", metrics)
    assert.matches('\nmoondog_supervisor_restarts_total{reason="wedged"} 1\n', metrics)
    assert.equals(200, (get("/livez")))
    -- The operator's new file is loaded when it is asked for, and not before.
    assert.equals("script reloaded", dog:reload(BAD, { URL = server.url }).msg)
    assert.equals("bad", who(witness))
    status, body = get("/status")
    assert.equals(200, status)
    assert.is_false(body.supervisor.fallback)
  end))

  it("that crashes is started again with the script that it had, whatever is on the disk", run.case(function()
    local dog, witness, server = start(GOOD)
    assert.equals("good", who(witness))
    assert(os.remove(dog.script_path))
    uv.kill(child(dog), "sigabrt") -- sanitizers have a handler of their own for SIGSEGV
    local ended = dog:wait_log("^child ended$", 10)
    assert.matches("^crashed: signal 6", ended.reason)
    assert.equals("same", ended.script)
    dog:wait_log("^connected$", 15, 2)
    assert.equals("good", who(witness))
    run.wait_until(function() return #server:clients() == 1 end, 5, "one client")

    uv.kill(child(dog, 2), "sigkill")
    assert.equals("same", dog:wait_log("^child ended$", 10, 2).script)
    assert.equals("good", who(witness))
    local said = dog:wait_log("^restarted by the supervisor$", 5, 2)
    assert.equals(2, said.restarts)
  end))

  it("ends in good order with its supervisor", run.case(function()
    for _, signal in ipairs { "sigterm", "sigint" } do
      local dog = start(GOOD)
      local pid = child(dog)
      dog:signal(signal)
      dog:wait_exit(0, 15)
      assert.is_true(is_gone(pid))
      assert.equals(1, #dog:find_logs("^connection ended$"))
    end
  end))

  it("ends when its supervisor is killed", run.case(function()
    local dog = start(GOOD)
    local pid = child(dog)
    dog:signal("sigkill")
    run.wait_until(function() return is_gone(pid) end, 15, "the end of the child")
  end))

  it("ends when its supervisor is killed before it has begun", run.case(function()
    local dog = moondog.run(GOOD, { URL = "nats://127.0.0.1:1" }, { args = { "--supervise" } })
    local pid = child(dog)
    dog:signal("sigkill")
    run.wait_until(function() return is_gone(pid) end, 5, "the end of the child")
  end))

  it("ends when its supervisor is killed while its loop is stuck", run.case(function()
    local dog, witness = start(BAD, { "--drain", "0.1", "--stall", "0.4", "--wedged", "60" })
    local pid = child(dog)
    witness:publish("hang", "")
    dog:wait_log("^loop stalled$", 10)
    dog:signal("sigkill")
    run.wait_until(function() return is_gone(pid) end, 15, "the end of the child")
  end))

  it("that somebody kills keeps its script, although there is an older one", run.case(function()
    local dog, witness, server = start(GOOD)
    assert.equals("good", who(witness))
    dog:reload(GOOD:gsub("good", "newer"), { URL = server.url })
    assert.equals("newer", who(witness))
    uv.kill(child(dog), "sigkill")
    local ended = dog:wait_log("^child ended$", 10)
    assert.matches("^killed: signal 9", ended.reason)
    assert.equals("same", ended.script)
    assert.equals("newer", who(witness))
    -- A crash of its own is another matter.
    uv.kill(child(dog, 2), "sigabrt")
    assert.equals("last_good", dog:wait_log("^child ended$", 10, 2).script)
    assert.equals("good", who(witness))
  end))

  it("does not come back to a script that never worked", run.case(function()
    local server = nats_server.start()
    local dog = moondog.run([[
      local moondog = require "moondog"
      moondog.connect { servers = { "nats://127.0.0.1:1" } }
    ]], {}, { args = { "--supervise" } })
    dog:wait_log("^dial failed$", 10)
    assert.equals("script reloaded", dog:reload(GOOD, { URL = server.url }).msg)
    local witness = server:connect()
    assert.equals("good", who(witness))
    uv.kill(child(dog), "sigabrt")
    local ended = dog:wait_log("^child ended$", 10)
    assert.equals("same", ended.script)
    assert.equals("it is started again", ended.plan)
    assert.equals(12, #ended.hash)
    assert.equals("good", who(witness))
  end))

  it("takes its supervisor along when it is stopped", run.case(function()
    local dog = start(GOOD, { "--name", "kept" })
    local stop = moondog.start { "stop", "kept" }
    stop:wait_exit(0)
    dog:wait_exit(0, 15)
    assert.equals(0, #dog:find_logs("^child ended$"))
  end))

  it("ends in good order also when it has hardly begun", run.case(function()
    local dog = moondog.run(GOOD, { URL = "nats://127.0.0.1:1" }, { args = { "--supervise" } })
    child(dog)
    dog:signal("sigterm")
    dog:wait_exit(0, 15)
  end))

  it("that was told to stop by others is not started again, however long its end takes", run.case(function()
    local args = { "--name", "slow", "--wedged", "1" }
    local dog = start(GOOD .. "moondog.on_unload(function() moondog.sleep(3) end)", args)
    moondog.start { "stop", "slow" }
    dog:wait_log("^stopping$")
    uv.kill(child(dog), "sigstop")
    run.pause(2)
    uv.kill(child(dog), "sigcont")
    dog:wait_exit(0, 15)
    assert.equals(0, #dog:find_logs("^child ended$"))
  end))

  it("reloads when it was asked to before it was ready", run.case(function()
    local dog = moondog.run(GOOD, { URL = "nats://127.0.0.1:1" }, { args = { "--supervise" } })
    child(dog)
    dog:signal("sighup")
    dog:wait_log("^script reloaded$", 10)
  end))

  -- As when a container or a machine is frozen.
  it("is not restarted because both were stopped", run.case(function()
    local dog = start(GOOD, { "--wedged", "1" })
    local pid = child(dog)
    run.pause(0.5)
    uv.kill(pid, "sigstop")
    dog:signal("sigstop")
    run.pause(2)
    dog:signal("sigcont")
    run.pause(0.3)
    uv.kill(pid, "sigcont")
    run.pause(2)
    assert.equals(0, #dog:find_logs("^child ended$"))
    assert.is_false(is_gone(pid))
  end))

  it("that cannot start at all is not tried again", run.case(function()
    local dog = moondog.run("syntax error", {}, { args = { "--supervise" } })
    dog:wait_exit(1)
    assert.matches("script%d+%.lua:1:", dog:text("stderr"))
    assert.equals(1, #dog:find_logs("^child started$"))
  end))

  it("goes on when the top level of a new script never comes back", run.case(function()
    local dog, witness, server = start(GOOD, { "--load-budget", "100" })
    assert.equals("good", who(witness))
    -- The reload is given up, and the running one goes on.
    local entry = dog:reload('(("a"):rep(100000) .. "b"):find(".-.-.-.-.-.-c")', { URL = server.url })
    assert.equals("reload failed", entry.msg)
    assert.equals("good", who(witness))
    assert.equals(0, #dog:find_logs("^child ended$"))
  end))
end)
