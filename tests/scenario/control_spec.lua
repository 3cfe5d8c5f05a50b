-- The control socket and the commands that use it: reload, status, stop.
local cjson = require "cjson"
local control = require "support.control"
local moondog = require "support.moondog"
local nats_server = require "support.nats_server"
local run = require "support.run"
local uv = require "luv"

local BASE = [[
local moondog = require "moondog"
local c = moondog.connect { name = "gateway", servers = { $URL } }
c:subscribe("who", function(msg) msg:respond($WHO) end, { queue = "q" })
]]

local function start(options)
  local server = nats_server.start()
  options = options or {}
  options.args = options.args or { "--name", "gateway" }
  local dog = moondog.run(BASE, { URL = server.url, WHO = "one" }, options)
  dog:wait_log("^connected$")
  return dog, server
end

-- Runs a command and returns its output and its errors.
local function command(code, ...)
  local p = moondog.start { ... }
  p:wait_exit(code, 15)
  return p:text("stdout"), p:text("stderr")
end

describe("moondog reload", function()
  it("prints the new generation and what has changed", run.case(function()
    local dog, server = start()
    dog:rewrite(BASE .. 'c:subscribe("new", function() end)', { URL = server.url, WHO = "two" })
    local text = command(0, "reload", "gateway")
    assert.matches("generation 2 is at work", text)
    assert.matches("subscriptions: 1 kept, 1 added, 0 removed", text)
    local witness = server:connect()
    assert.equals("two", witness:wait_answer("who", "", 5).data)
    assert.matches("generation 3", (command(0, "reload"))) -- the only one that runs
    local result = cjson.decode((command(0, "reload", "--json", "--control", control.path "gateway")))
    assert.equals(4, result.generation)
    assert.equals(2, result.subscriptions.kept)
  end))

  it("prints the error and its traceback, and exits 1", run.case(function()
    local dog, server = start()
    dog:rewrite('local function f() error("broken") end\nf()')
    local out, err = command(1, "reload", "gateway")
    assert.equals("", out)
    assert.matches("^moondog: [^\n]*script%d+%.lua:1: broken\n", err)
    assert.matches("stack traceback", err)
    assert.equals("one", server:connect():wait_answer("who", "", 5).data)
  end))

  it("prints an error of any bytes", run.case(function()
    local dog = start()
    dog:rewrite('error("bad \255 byte")')
    local _, err = command(1, "reload", "gateway")
    assert.matches("bad %? byte", err)
    assert.matches("bad %? byte", (command(0, "status", "gateway")))
  end))

  it("--previous takes the modules of then, wherever others are now", run.case(function()
    local text = [[
      local c = require "moondog".connect { name = "gateway", servers = { $URL } }
      c:subscribe("who", function(msg) msg:respond(tostring(require "helper")) end)
      require "helper"
    ]]
    assert(os.execute("mkdir " .. run.folder() .. "/helper") == 0)
    run.file("helper/init.lua", 'return "then"')
    local server = nats_server.start()
    local dog = moondog.run(text, { URL = server.url }, { args = { "--name", "gateway" } })
    dog:wait_log("^connected$")
    local witness = server:connect()
    assert.equals("then", witness:wait_answer("who", "", 5).data)
    run.file("helper.lua", 'return "now"')
    command(0, "reload", "gateway")
    assert.equals("now", witness:wait_answer("who", "", 5).data)
    command(0, "reload", "gateway", "--previous")
    assert.equals("then", witness:wait_answer("who", "", 5).data)
  end))

  it("--previous goes back, and forth", run.case(function()
    local dog, server = start()
    local _, err = command(1, "reload", "--previous")
    assert.matches("no generation before", err)
    dog:reload(BASE, { URL = server.url, WHO = "two" })
    local witness = server:connect()
    local function who() return witness:wait_answer("who", "", 5).data end
    assert.equals("two", who())
    assert(os.remove(dog.script_path)) -- the text was kept
    command(0, "reload", "--previous")
    assert.equals("one", who())
    command(0, "reload", "--previous")
    assert.equals("two", who())
  end))
end)

describe("moondog status", function()
  it("shows generation, connections, subscriptions and the last error", run.case(function()
    local dog, server = start()
    server:connect():wait_answer("who", "", 5)
    local text = command(0, "status")
    for _, wanted in ipairs { "^gateway %(pid " .. dog.pid .. ",", "generation 1: [^\n]*script%d+%.lua",
      "connection gateway: up\n", "who +queue q +1 handled" } do
      assert.matches(wanted, text)
    end
    dog:reload("x = = 1")
    local status = cjson.decode((command(0, "status", "--json")))
    assert.equals("running", status.state)
    assert.equals(1, status.generation.number)
    assert.equals(64, #status.generation.hash)
    assert.equals(dog.script_path, status.generation.files[1])
    assert.equals("syntax", status.reloads.last_error.code)
    assert.equals(1, status.reloads.failed)
    assert.equals(0, status.reloads.retiring)
    assert.equals("up", status.connections[1].state)
    assert.equals("who", status.connections[1].subscriptions[1].subject)
    assert.matches("last reload that failed", (command(0, "status", "gateway")))
  end))

  it("says what runs when the name is wrong or missing", run.case(function()
    local _, err = command(1, "status")
    assert.matches("^moondog: no moondog of yours runs", err)
    start()
    start { args = { "--name", "other" } }
    _, err = command(1, "status")
    assert.matches("several run: ", err)
    assert.matches("gateway", err)
    _, err = command(1, "status", "nobody")
    assert.matches('no moondog runs as "nobody"', err)
    assert.matches("^other", (command(0, "status", "other")))
  end))
end)

describe("moondog stop", function()
  it("drains the process and ends it", run.case(function()
    local dog = start()
    assert.matches("drains and ends", (command(0, "stop", "gateway")))
    dog:wait_exit(0, 5)
    assert.is_nil(uv.fs_stat(control.path "gateway"))
  end))
end)

describe("the control socket", function()
  it("is for its user alone, and goes with its process", run.case(function()
    start()
    local status = uv.fs_stat(control.path "gateway")
    assert.equals("socket", status.type)
    assert.equals(tonumber("600", 8), status.mode % 512)
    assert.equals(tonumber("700", 8), uv.fs_stat(run.folder() .. "/moondog").mode % 512)
  end))

  it("of a process that was killed does not stand in the way", run.case(function()
    local first = start()
    first:signal("sigkill")
    first.process:wait_exit(5)
    assert.equals("socket", uv.fs_stat(control.path "gateway").type)
    start()
    assert.matches("^gateway", (command(0, "status", "gateway")))
  end))

  it("that is in use is an error when it was asked for, and otherwise left out", run.case(function()
    local dog, server = start()
    local _, err = command(1, "run", dog.script_path, "--control", control.path "gateway")
    assert.matches("is in use", err)
    local second = moondog.run(BASE, { URL = server.url, WHO = "two" }, { args = { "--name", "gateway" } })
    second:wait_log("^connected$")
    assert.matches("going on without one", second:text("stderr"))
    assert.matches("pid " .. dog.pid, (command(0, "status", "gateway")))
  end))

  it("is not blamed for anything else", run.case(function()
    local dog = moondog.run("", {}, { args = { "--http", "nowhere" } })
    dog:wait_exit(2)
    assert.is_nil(dog:text("stderr"):find("going on without", 1, true))
  end))

  it("can be left out", run.case(function()
    start { args = { "--control", "none" } }
    assert.is_nil(uv.fs_stat(run.folder() .. "/moondog/script1.sock"))
  end))

  it("answers several clients, in pieces and at once", run.case(function()
    local dog = start()
    local clients = {}
    for i = 1, 50 do
      clients[i] = control.connect(control.path "gateway")
      clients[i]:send(('{"id":"s%d","verb":"status"}'):format(i))
      clients[i]:send('{"id":2,"verb":"reload"}')
      clients[i]:send('{"id":3,"verb":"fly"}')
    end
    for i, one in ipairs(clients) do
      one:frame(3)
      local by_id = {}
      for _, frame in ipairs(one.frames) do by_id[tostring(frame.id)] = frame end
      assert.is_true(by_id["s" .. i].ok)
      assert.is_true(by_id["2"].ok)
      assert.equals("unknown_verb", by_id["3"].error.code)
    end
    assert.is_true(#dog:find_logs("^script reloaded$") <= 50)
    local slow = control.connect(control.path "gateway")
    for piece in ("\0\0\0\27" .. '{"id":1,"verb":"status"  }\n'):gmatch(".") do
      slow:raw(piece)
      run.pause(0.001)
    end
    assert.is_true(slow:frame(1).ok)
  end))

  for what, case in pairs {
    ["no JSON"] = { "\0\0\0\5hello", "malformed" },
    ["no object"] = { "\0\0\0\2[]", "malformed" },
    ["too large a frame"] = { "\127\255\255\255", "too_large" },
  } do
    it("answers " .. what .. " with an error and closes", run.case(function()
      local dog = start()
      local one = control.connect(control.path "gateway")
      one:raw(case[1])
      assert.equals(case[2], one:frame(1).error.code)
      run.wait_until(function() return one.closed end, 5, "the end")
      assert.is_true(dog:running())
      assert.matches("^gateway", (command(0, "status")))
    end))
  end

  it("answers a frame without an end with an error and closes", run.case(function()
    start()
    local half, lazy = control.connect(control.path "gateway"), control.connect(control.path "gateway")
    lazy:raw("\0\0\0\20{")
    half:send('{"id":1,"verb":"status"}')
    half:frame(1)
    half:raw("\0\0")
    half.socket:shutdown()
    assert.equals("truncated", half:frame(2).error.code)
    run.wait_until(function() return half.closed end, 5, "the end")
    run.wait_until(function() return lazy.frames[1] end, 15, "the deadline of a frame")
    assert.equals("truncated", lazy.frames[1].error.code)
    run.wait_until(function() return lazy.closed end, 5, "the end")
  end))

  it("does not wait for clients that do not read, or that leave", run.case(function()
    local dog, server = start()
    local deaf = control.connect(control.path "gateway")
    deaf.socket:read_stop()
    for i = 1, 20000 do deaf:send(('{"id":%d,"verb":"status"}'):format(i)) end
    local gone = control.connect(control.path "gateway")
    gone:send('{"id":1,"verb":"reload"}')
    gone.socket:close()
    dog:wait_log("^script reloaded$", 5)
    assert.equals("one", server:connect():wait_answer("who", "", 5).data)
    assert.matches("^gateway", (command(0, "status")))
    if not moondog.sanitized() then
      assert.is_true(dog:rss() < 64 * 2 ^ 20, dog:rss() / 2 ^ 20 .. " MiB")
    end
  end))
end)
