-- Many clients of the control socket, slow ones, and those who must not be there.
local control = require "support.control"
local moondog = require "support.moondog"
local nats_server = require "support.nats_server"
local process = require "support.process"
local run = require "support.run"
local uv = require "luv"

local SCRIPT = [[
local moondog = require "moondog"
local c = moondog.connect { name = "gateway", servers = { $URL } }
local worst, last = 0, nil
moondog.every(0.005, function()
  local now = moondog.now()
  if last then worst = math.max(worst, now - last - 0.005) end
  last = now
end)
c:subscribe("worst", function(msg) msg:respond(tostring(worst)) worst = 0 end)
c:subscribe("work", function(msg)
  for i = 1, 100 do moondog.log.info("work " .. msg.data .. " " .. i, { text = ("x"):rep(100) }) end
  msg:respond("done")
end)
]]

local function start()
  local server = nats_server.start()
  local dog = moondog.run(SCRIPT, { URL = server.url }, { args = { "--name", "gateway" } })
  dog:wait_log("^connected$")
  return dog, server
end

describe("a hundred clients, half of which do not read", function()
  it("neither hold the loop nor fill the memory", run.case(function()
    local dog, server = start()
    local clients = {}
    for i = 1, 100 do
      local one = control.connect(control.path "gateway")
      clients[i] = one
      one.log = one:begin("log", { follow = true })
      one:begin("tap", { subject = ">" })
      one:begin("watch")
      one:ask("status")
      if i % 2 == 0 then one.socket:read_stop() end
    end
    local witness = server:connect()
    witness:wait_answer("worst", "", 5)
    local before = dog:rss()
    for i = 1, 50 do witness:wait_answer("work", tostring(i), 10) end
    run.figure("worst lateness of a 5 ms timer with 100 clients", tonumber(witness:wait_answer("worst", "", 5).data)
      * 1000, "ms")
    for i = 1, 99, 2 do
      clients[i]:wait_event(clients[i].log, "log", function(record) return record.msg == "work 50 100" end, 10)
    end
    run.figure("growth of resident memory with 100 clients", (dog:rss() - before) / 2 ^ 20, "MiB")
    if not moondog.sanitized() then
      assert.is_true(dog:rss() - before < 50 * 2 ^ 20, tostring(dog:rss() - before))
    end
    clients[2]:read() -- one that wakes up is told what it has missed
    clients[2]:wait_event(clients[2].log, "dropped", nil, 10)
    for i = 1, 100 do clients[i].socket:close() end
    assert.equals("done", witness:wait_answer("work", "", 5).data)
  end))

  it("are let in up to a cap", run.case(function()
    local dog = start()
    local clients = {}
    for i = 1, 128 do
      clients[i] = control.connect(control.path "gateway")
      clients[i]:ask("status")
    end
    local one = control.connect(control.path "gateway")
    run.wait_until(function() return one.closed end, 5, "a refusal")
    clients[1].socket:close()
    run.wait_until(function()
      local next_one = control.connect(control.path "gateway")
      next_one:begin("status")
      run.wait_until(function() return next_one.closed or next_one.frames[1] end, 5, "an answer")
      return next_one.frames[1]
    end, 5, "room for another one")
    assert.is_true(dog:running())
  end))
end)

describe("a client", function()
  it("has so many requests under way, each with an id of its own", run.case(function()
    start()
    local one = control.connect(control.path "gateway")
    local first
    for _ = 1, 64 do first = one:begin("eval", { code = "moondog.sleep(60)" }) or first end
    assert.equals("too_many", one:ask("status").error.code)
    one:send(('{"id":%d,"verb":"status"}'):format(first))
    assert.equals("bad_id", one:answer(first).error.code)
    one:send('{"verb":"status"}')
    run.wait_until(function()
      for _, frame in ipairs(one.frames) do
        if frame.error and frame.error.code == "bad_id" and frame.id ~= first then return true end
      end
    end, 5, "an answer without an id")
  end))
end)

describe("a client that asks without an end", function()
  it("has its share of the loop, and the others have theirs", run.case(function()
    start()
    local greedy, other = control.connect(control.path "gateway"), control.connect(control.path "gateway")
    local frame = '{"id":1,"verb":"errors"}'
    greedy:raw((string.char(0, 0, 0, #frame) .. frame):rep(5000))
    assert.is_true(other:ask("status").ok)
    run.wait_until(function() return greedy.frames[5000] end, 20, "all answers")
    assert.is_true(greedy.frames[5000].ok)
  end))
end)

describe("random frames", function()
  it("end in answers, errors and closed clients, and nothing else", run.case(function()
    local dog, server = start()
    local state = 4711
    local function random(n)
      state = (state * 1103515245 + 12345) % 2 ^ 31
      return math.floor(state / 2 ^ 31 * n) + 1
    end
    local pieces = { '{"id":', "1", '"x"', ',"verb":', '"status"', '"eval"', '"log"', '"tap"', '"watch"', '"cancel"',
      '"complete"', '"errors"', ',"args":', "{", "}", '"code":', '"1+1"', '"while true do end"', '"text":', '"mo"',
      '"subject":', '">"', '"a..b"', '"follow":true', '"recent":1e300', '"level":', '"debug"', "null", "[", "]", "-1",
      "\255", "\0", '"\\u0000"', '{"id":7,"verb":"eval","args":{"code":"return 1"}}',
      '{"id":8,"verb":"cancel","args":{"id":7}}', '{"id":9,"verb":"log","args":{"follow":true}}' }
    for _ = 1, 300 do
      local one = control.connect(control.path "gateway")
      for _ = 1, random(6) do
        local text = {}
        for i = 1, random(12) do text[i] = pieces[random(#pieces)] end
        one:send(table.concat(text))
      end
      if random(3) == 1 then one:raw(string.char(0, 0, random(4) - 1, random(256) - 1) .. "{") end
      one:send('{"id":"last","verb":"status"}')
      if random(2) == 1 then
        run.wait_until(function() return one.closed or #one.frames > 0 end, 5, "an answer, or the end")
      end
      one.socket:close()
    end
    assert.is_true(dog:running())
    assert.is_true(control.connect(control.path "gateway"):ask("status").ok)
    assert.is_not_nil(server:connect():wait_answer("worst", "", 5))
  end))
end)

-- Whether a process with this uid gets an answer from the socket.
local function answered_as(uid, path)
  local text = [[
    local uv = require "luv"
    local socket, answer = uv.new_pipe(), "nothing"
    socket:connect(arg[1], function(err)
      if err then answer = err return uv.stop() end
      socket:read_start(function(_, chunk) answer = chunk and "an answer" or "closed" uv.stop() end)
      socket:write("\0\0\0\24" .. '{"id":1,"verb":"status"}')
    end)
    uv.run()
    print(answer)
  ]]
  local file = run.file("client.lua", text)
  assert(uv.fs_chmod(file, tonumber("644", 8)))
  local p = process.start { file = "/usr/bin/setpriv", args = { "--reuid", tostring(uid), "--clear-groups",
    "env", "--ignore-signal=PIPE", "luajit", file, path } }
  p:wait_exit(10)
  return p:text("stdout")
end

describe("another user", function()
  local OTHER = 65534
  it("cannot connect, whatever became of the mode of the socket", run.case(function()
    if uv.getuid() ~= 0 then
      return pending("only root can be somebody else")
    end
    start()
    local path = control.path "gateway"
    assert(uv.fs_chmod(run.folder(), tonumber("755", 8)))
    assert.equals("EACCES", answered_as(OTHER, path))
    assert(uv.fs_chmod(run.folder() .. "/moondog", tonumber("755", 8)))
    assert.equals("EACCES", answered_as(OTHER, path))
    assert(uv.fs_chmod(path, tonumber("666", 8)))
    assert.equals("closed", answered_as(OTHER, path))
    assert.equals("an answer", answered_as(0, path))
  end))
end)

describe("a process that is stuck, and takes no clients any more,", function()
  it("is known to the commands, and does not slow them down for others", run.case(function()
    local _, server = start()
    local stuck = moondog.run([[
      local moondog = require "moondog"
      local c = moondog.connect { servers = { $URL } }
      c:subscribe("hang", function() (("a"):rep(100000) .. "b"):find(".-.-.-.-.-.-c") end)
    ]], { URL = server.url }, { args = { "--name", "stuck", "--stall", "0.4" }, rude = true })
    stuck:wait_log("^connected$")
    server:connect():publish("hang", "")
    stuck:wait_log("^loop stalled$", 10)
    -- More than wait to be accepted at any time.
    local sockets, refused = {}, false
    for i = 1, 40 do
      sockets[i] = uv.new_pipe()
      sockets[i]:connect(control.path "stuck", run.callback(function(err) refused = refused or err end))
    end
    run.wait_until(function() return refused end, 5, "a backlog that is full")
    assert.matches("EAGAIN", refused)
    local begun_at = run.now()
    local names = moondog.start { "status", "--names" }
    names:wait_exit(0)
    assert.equals("gateway\nstuck", names:text("stdout"))
    moondog.start({ "status", "gateway" }):wait_exit(0)
    run.figure("two commands beside a stuck process", run.now() - begun_at, "s")
    assert.is_true(run.now() - begun_at < 8) -- nobody waits for the stuck one, which would be 10 s
    for _, socket in ipairs(sockets) do socket:close() end
  end))
end)
